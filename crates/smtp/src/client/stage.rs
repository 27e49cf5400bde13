//! Stages of an outbound session, and the texts that the client itself makes when there is no reply to quote.
//!
//! Numbers and texts are Momentum's: log parsers and bounce rules match them to the byte. "During" a command means that
//! it is being sent, "after" it that its reply is waited for.

/// Where a session stood when something ended. The number is what logs print.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Stage {
    NotConnected = 0,
    Idle = 1,
    DuringMailFrom = 2,
    AfterMailFrom = 3,
    DuringRcptTo = 4,
    AfterRcptTo = 5,
    DuringData = 6,
    AfterData = 7,
    SendingBody = 8,
    ReadingConfirmation = 9,
    DuringEhlo = 10,
    AfterEhlo = 11,
    ReadingBanner = 12,
    DuringRset = 13,
    AfterRset = 14,
    DuringStartTls = 15,
    AfterStartTls = 16,
    HandshakingTls = 17,
    DuringXclient = 19,
    AfterXclient = 20,
}

impl Stage {
    /// The number of logs and of `%S`.
    pub const fn number(self) -> u8 {
        self as u8
    }

    /// Whether an outcome at this stage is about content that was being sent: of a recipient that was refused before, nothing
    /// had left, however much the others of the transaction got.
    pub const fn is_about_content(self) -> bool {
        matches!(self, Stage::SendingBody | Stage::ReadingConfirmation)
    }
}

/// The texts of failures that no peer worded.
pub mod text {
    pub const NO_BANNER: &str = "451 4.4.2 [internal] no banner";
    pub const SEND_HELLO: &str = "451 4.4.2 [internal] send HELO/EHLO failed";
    pub const NO_HELLO: &str = "451 4.4.2 [internal] no HELO/EHLO response";
    pub const SEND_MAIL: &str = "451 4.4.2 [internal] send MAIL FROM failed";
    pub const NO_MAIL: &str = "451 4.4.2 [internal] no MAIL FROM response";
    pub const SEND_RCPT: &str = "451 4.4.2 [internal] send RCPT TO failed";
    pub const NO_RCPT: &str = "451 4.4.2 [internal] no RCPT TO response";
    pub const SEND_DATA: &str = "451 4.4.2 [internal] send DATA failed";
    pub const NO_DATA: &str = "451 4.4.2 [internal] no DATA response";
    pub const SEND_BODY: &str = "451 4.4.2 [internal] send BODY failed";
    pub const NO_BODY: &str = "451 4.4.2 [internal] no BODY response";
    pub const SEND_RSET: &str = "451 4.4.2 [internal] send RSET failed";
    pub const NO_RSET: &str = "451 4.4.2 [internal] no RSET response";
    pub const CLOSED: &str = "451 4.4.2 [internal] connection closed by remote host";
    /// For `connect`, whoever makes it.
    pub const CONNECT_TIMED_OUT: &str = "450 4.4.1 [internal] Connection Timed Out";
    pub const STARTTLS_MISSING: &str = "451 4.7.6 [internal] STARTTLS required but not advertised";
    pub const NO_TLS_GO_AHEAD: &str = "451 4.7.5 [internal] no tls go-ahead";
    pub const TLS_FAILED: &str = "451 4.7.5 [internal] TLS negotiation failed";
    pub const XCLIENT_MISSING: &str = "451 4.7.6 [internal] XCLIENT required but not advertised";
    /// For whoever makes the arguments of XCLIENT.
    pub const XCLIENT_HOOK: &str = "451 4.4.2 [internal] XCLIENT argument hook failed";
    pub const CERT_CA: &str = "451 4.7.5 [internal] SSL cert must be signed by a valid CA";
    pub const CERT_NAME: &str = "451 4.7.5 [internal] SSL cert common name does not match host";
    /// Ours: the scope asks for AUTH and the peer has no mechanism of that name.
    pub const AUTH_MISSING: &str = "451 4.7.6 [internal] AUTH required but not advertised";
    /// Ours: the spool could not hand out the body.
    pub const BODY_UNREADABLE: &str = "451 4.3.0 [internal] message content cannot be read";
    /// The peer's SIZE is smaller than the message.
    pub const TOO_LARGE: &str = "552 5.3.4 [internal] message size exceeds remote limit";
    /// Ours: an address or header needs SMTPUTF8 (RFC 6531 section 3.2).
    pub const UTF8_MISSING: &str = "553 5.6.7 [internal] SMTPUTF8 required";
    /// Ours: an address holds octets that no command line may have.
    pub const BAD_ADDRESS: &str = "553 5.1.3 [internal] invalid address";
}
