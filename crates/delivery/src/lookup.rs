//! What routing asks of DNS, as a seam: the resolver in production, a table in tests.

use ph_dns::{DnsError, Resolver};
use std::future::Future;
use std::net::IpAddr;
use std::pin::Pin;

/// Look-ups, boxed: they happen once for a domain and connection, not for a message.
pub type Answer<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Names to hosts and addresses. Names are absolute.
pub trait Lookup: Send + Sync + 'static {
    /// The MX records of a domain.
    fn mx<'a>(&'a self, domain: &'a str) -> Answer<'a, MxAnswer>;
    /// The addresses of a host; IPv6 ones only where they are wanted.
    fn addresses<'a>(&'a self, host: &'a str, want_v6: bool) -> Answer<'a, Addresses>;
}

impl Lookup for Resolver {
    fn mx<'a>(&'a self, domain: &'a str) -> Answer<'a, MxAnswer> {
        Box::pin(async move {
            match Resolver::mx(self, domain).await {
                Ok(hosts) => {
                    MxAnswer::Hosts(hosts.into_iter().map(|mx| (mx.preference, mx.host.to_string())).collect())
                }
                Err(DnsError::NullMx) => MxAnswer::Null,
                Err(DnsError::NoData) => MxAnswer::None,
                Err(DnsError::NxDomain | DnsError::BadName) => MxAnswer::NoSuchDomain,
                Err(error) if is_silence(error) => MxAnswer::Silent(error.to_string()),
                Err(error) => MxAnswer::Failed(error.to_string()),
            }
        })
    }

    fn addresses<'a>(&'a self, host: &'a str, want_v6: bool) -> Answer<'a, Addresses> {
        Box::pin(async move {
            match Resolver::addresses(self, host, want_v6).await {
                Ok(addresses) => Addresses::Found(addresses),
                Err(error) if error.is_about_the_name() => Addresses::Found(Vec::new()),
                Err(error) if is_silence(error) => Addresses::Silent(error.to_string()),
                Err(error) => Addresses::Failed(error.to_string()),
            }
        })
    }
}

/// What a domain says about its MX hosts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MxAnswer {
    /// At least one: preference and name.
    Hosts(Vec<(u16, String)>),
    /// One MX that is `.` (RFC 7505).
    Null,
    /// The name exists without MX records: its addresses are used (RFC 5321 section 5.1).
    None,
    /// No such domain.
    NoSuchDomain,
    /// The servers gave no usable answer, such as SERVFAIL.
    Failed(String),
    /// No server answered at all: that says nothing about the domain, and never makes mail for it fail.
    Silent(String),
}

/// The addresses of a host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Addresses {
    /// Perhaps none.
    Found(Vec<IpAddr>),
    /// The servers gave no usable answer.
    Failed(String),
    /// No server answered at all.
    Silent(String),
}

fn is_silence(error: DnsError) -> bool {
    matches!(error, DnsError::Timeout | DnsError::Unreachable | DnsError::NoServers)
}
