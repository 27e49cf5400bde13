//! Replies: what a server says (RFC 5321 section 4.2, RFC 2034 for the enhanced code).

use std::borrow::Cow;

/// One reply. `text` holds no line end but `\n` between the lines of a multi-line reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    pub code: u16,
    /// Sent only where the session has `ENHANCEDSTATUSCODES`; `None` for a reply that a policy wrote (sent as it is).
    pub enhanced: Option<(u8, u16, u16)>,
    pub text: Cow<'static, str>,
    /// The connection is closed after this reply.
    pub close: bool,
}

impl Reply {
    pub const fn new(code: u16, enhanced: (u8, u16, u16), text: &'static str) -> Reply {
        Reply { code, enhanced: Some(enhanced), text: Cow::Borrowed(text), close: false }
    }

    /// A reply as a policy wrote it: its text goes out unchanged.
    pub fn verbatim(code: u16, text: impl Into<Cow<'static, str>>) -> Reply {
        Reply { code, enhanced: None, text: text.into(), close: false }
    }

    pub fn closing(mut self) -> Reply {
        self.close = true;
        self
    }

    pub fn is_positive(&self) -> bool {
        self.code < 400
    }
}
