//! Why a look-up gave nothing: one variant for each thing that a caller does differently.

/// A look-up failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum DnsError {
    /// The name does not exist.
    #[error("no such domain")]
    NxDomain,
    /// The name exists and has no records of that type.
    #[error("no records of that type")]
    NoData,
    /// The domain says that it takes no mail (RFC 7505).
    #[error("null MX: the domain does not accept mail")]
    NullMx,
    /// Every server that answered failed to resolve the name.
    #[error("server failure")]
    ServFail,
    #[error("query refused")]
    Refused,
    #[error("the server could not read the query")]
    FormErr,
    #[error("the server does not know such queries")]
    NotImp,
    /// No server answered in time.
    #[error("time-out")]
    Timeout,
    /// No server could be reached at all.
    #[error("no name server can be reached")]
    Unreachable,
    /// The configuration names no server.
    #[error("no name server is configured")]
    NoServers,
    /// The name cannot be asked for: empty, too long, or not a domain name.
    #[error("not a domain name")]
    BadName,
}

impl DnsError {
    /// The code that policies compare with. A name that cannot be asked for does not exist; an unreachable server is one
    /// that does not answer.
    pub fn code(self) -> &'static str {
        match self {
            DnsError::NxDomain | DnsError::BadName => "NXDOMAIN",
            DnsError::NoData => "NODATA",
            DnsError::NullMx => "NULLMX",
            DnsError::ServFail => "SERVFAIL",
            DnsError::Refused => "REFUSED",
            DnsError::FormErr => "FORMERR",
            DnsError::NotImp => "NOTIMP",
            DnsError::Timeout | DnsError::Unreachable | DnsError::NoServers => "TIMEOUT",
        }
    }

    /// The answer is about the name and holds for a while; the others are about servers, and the next try may succeed.
    pub fn is_about_the_name(self) -> bool {
        matches!(self, DnsError::NxDomain | DnsError::NoData | DnsError::NullMx | DnsError::BadName)
    }
}
