//! How a session is to be held, and why a driver gives one up.

use std::time::Duration;

/// How a session is to be held.
#[derive(Clone, Debug)]
pub struct Settings {
    pub protocol: Protocol,
    /// The name after HELO, EHLO or LHLO.
    pub hello: String,
    pub tls: TlsMode,
    /// Use PIPELINING where it is announced.
    pub pipelining: bool,
    pub timeouts: Timeouts,
}

/// What is spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// EHLO; HELO where that is refused.
    Esmtp,
    /// HELO only.
    Smtp,
    /// LHLO (RFC 2033): a reply for each recipient after the final dot.
    Lmtp,
}

/// STARTTLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsMode {
    No,
    IfAvailable,
    Required,
}

/// How long each reply is waited for, from the moment its command is the oldest without one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// Banner, EHLO, STARTTLS and its handshake, AUTH, XCLIENT.
    pub ehlo: Duration,
    pub mail: Duration,
    /// RCPT TO, and the go-ahead of DATA.
    pub rcpt: Duration,
    /// Sending the content, and the reply to the final dot.
    pub body: Duration,
    /// RSET and QUIT.
    pub rset: Duration,
}

impl Default for Timeouts {
    fn default() -> Timeouts {
        let five_minutes = Duration::from_secs(300);
        Timeouts {
            ehlo: five_minutes,
            mail: five_minutes,
            rcpt: five_minutes,
            body: Duration::from_secs(600),
            rset: Duration::from_secs(30),
        }
    }
}

/// Why the driver gives up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The peer closed the connection, or it broke while reading.
    Closed,
    /// No reply in time, or something that is none.
    NoReply,
    /// Writing failed or took too long.
    NotSent,
    /// The content could not be read.
    Unreadable,
}
