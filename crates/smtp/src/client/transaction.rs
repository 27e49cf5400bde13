//! What is asked of a connection and what came of it: transactions, their content, and outcomes per recipient.

use super::auth::Credentials;
use super::stage::Stage;
use bytes::Bytes;
use compact_str::CompactString;
use smallvec::SmallVec;
use std::fmt::Debug;
use std::io;
use std::sync::Arc;

/// A body that lies in a file. Read from threads that may block, in chunks.
pub trait ReadAt: Send + Sync + Debug {
    /// Octets of the body.
    fn len(&self) -> u64;
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// Fills `into` from `offset`. Blocks.
    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<()>;
}

/// The content to send: header block with its blank line, and body, both unstuffed.
#[derive(Clone, Debug)]
pub struct Content {
    pub head: Bytes,
    pub body: Body,
}

/// The body of a `Content`.
#[derive(Clone, Debug)]
pub enum Body {
    Memory(Bytes),
    File(Arc<dyn ReadAt>),
}

/// One transaction: a sender, recipients, and the content for all of them. Borrowed, since the command lines are made
/// at once.
#[derive(Clone, Debug)]
pub struct Transaction<'a> {
    /// Both empty: the null sender.
    pub sender: Path<'a>,
    pub recipients: &'a [Recipient<'a>],
    pub content: Content,
    /// For `SIZE=`, and compared with the peer's limit.
    pub size: u64,
    /// Ask for `BODY=8BITMIME`, where the peer has it.
    pub body_8bit: bool,
    /// Needs SMTPUTF8, besides what the addresses say.
    pub smtputf8: bool,
    /// `RET=FULL` (true) or `RET=HDRS`, where the peer has DSN.
    pub ret_full: Option<bool>,
    /// `ENVID=`, as it came (xtext).
    pub envid: Option<&'a str>,
    /// Who to be on this connection. A connection keeps one identity.
    pub auth: Option<Arc<Credentials>>,
    /// The original client, for `XCLIENT`.
    pub xclient: Option<Xclient<'a>>,
}

/// Local part as it is written in a path, and domain.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Path<'a> {
    pub local: &'a str,
    pub domain: &'a str,
}

/// One `RCPT TO`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Recipient<'a> {
    pub path: Path<'a>,
    /// `NOTIFY=`: success, failure, delay; all false: NEVER. Where the peer has DSN.
    pub notify: Option<(bool, bool, bool)>,
    /// `ORCPT=`, as it came.
    pub orcpt: Option<&'a str>,
}

/// The arguments of `XCLIENT`; only the attributes that the peer announced are sent. Values are plain, xtext is made here.
#[derive(Clone, Debug, Default)]
pub struct Xclient<'a> {
    pub required: bool,
    pub attributes: SmallVec<[(&'static str, &'a str); 6]>,
}

/// Why a transaction was not taken. Nothing of it was sent, and the connection is as it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// A path holds octets that no command may have; the text says which answer that is.
    BadAddress,
    /// SIZE of the peer is smaller.
    TooLarge,
    /// SMTPUTF8 is needed and the peer has it not.
    NoUtf8,
    /// The connection cannot take one now: closing, of another identity, or two are under way.
    Busy,
}

impl Refused {
    /// The reply text of a permanent failure; `Busy` is none.
    pub fn text(self) -> Option<&'static str> {
        match self {
            Refused::BadAddress => Some(super::stage::text::BAD_ADDRESS),
            Refused::TooLarge => Some(super::stage::text::TOO_LARGE),
            Refused::NoUtf8 => Some(super::stage::text::UTF8_MISSING),
            Refused::Busy => None,
        }
    }
}

/// What became of one recipient.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    pub kind: Kind,
    pub stage: Stage,
    /// The reply with its codes, lines parted by `\n`; or one of the client's own texts.
    pub reply: CompactString,
}

/// The classes of verdicts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Delivered,
    Transient,
    Permanent,
    /// Nothing was said about this recipient: no attempt to count.
    NotAttempted,
}

impl Kind {
    /// What a reply's code means for whom it is about. Codes that are none of 2xx to 5xx are transient.
    pub fn of_code(code: u16) -> Kind {
        match code {
            200..=299 => Kind::Delivered,
            500..=599 => Kind::Permanent,
            _ => Kind::Transient,
        }
    }
}

/// The end of one transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// One for each recipient, in their order.
    pub recipients: SmallVec<[Verdict; 1]>,
    /// Octets of the content that had left, for those whose stage `is_about_content`.
    pub bytes_sent: u64,
}

/// Why a connection never came to take transactions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    pub stage: Stage,
    pub reply: CompactString,
    /// TLS is to blame: a caller that may do without tries again in clear, on a new connection.
    pub tls: bool,
}

/// Whether a path may stand in a command: no controls, no bare blanks or angle brackets, and quotes that are closed where
/// they should be. Whatever made the address (a policy, an import), nothing but an address leaves.
pub fn is_sendable(path: Path<'_>) -> bool {
    let plain = |byte: u8| byte > b' ' && byte != 0x7f && !b"<>\"\\".contains(&byte);
    let local = path.local.as_bytes();
    let local_ok = match local.strip_prefix(b"\"").map(|rest| rest.strip_suffix(b"\"")) {
        None => local.iter().all(|&byte| plain(byte)),
        Some(None) => false,
        Some(Some(inner)) => is_quoted_content(inner),
    };
    local_ok
        && path.domain.bytes().all(plain)
        && local.len() + path.domain.len() <= PATH_LEN_MAX
        && (path.domain.is_empty() || !local.is_empty())
}

/// What may stand between the quotes of a local part (RFC 5321 section 4.1.2).
fn is_quoted_content(inner: &[u8]) -> bool {
    let mut bytes = inner.iter();
    while let Some(&byte) = bytes.next() {
        let ok = match byte {
            b'\\' => bytes.next().is_some_and(|&next| next >= b' ' && next != 0x7f),
            b'"' | 0x7f => false,
            _ => byte >= b' ',
        };
        if !ok {
            return false;
        }
    }
    true
}

/// Octets of a path that are sent; RFC 5321 asks for 256, real systems use more.
pub const PATH_LEN_MAX: usize = 1000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_addresses_are_sendable() {
        for (local, domain, ok) in [
            ("a", "b.example", true),
            ("", "", true),
            ("postmaster", "", true),
            ("\"a b<\\\">\"", "b.example", true),
            ("jos\u{e9}", "b.example", true),
            ("", "b.example", false),
            ("a b", "b.example", false),
            ("a>", "b.example", false),
            ("a\r\nDATA", "b.example", false),
            ("a", "b.example> SIZE=1", false),
            ("\"a\"b\"", "b.example", false),
            ("\"a\\\"", "b.example", false),
            ("\"", "b.example", false),
            ("\"a\n\"", "b.example", false),
        ] {
            assert_eq!(is_sendable(Path { local, domain }), ok, "{local:?}@{domain:?}");
        }
        let long = "a".repeat(PATH_LEN_MAX - 1);
        assert!(is_sendable(Path { local: &long, domain: "b" }));
        assert!(!is_sendable(Path { local: &long, domain: "bb" }));
    }
}
