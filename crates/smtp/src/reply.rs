//! Replies: what a server says (RFC 5321 section 4.2, RFC 2034 for the enhanced code).
//!
//! Whatever a reply's text holds, it goes out as complete lines: no text can end a line early or begin a reply of its own.

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

    /// Appends the reply as it goes on the wire. `enhanced`: whether the session has `ENHANCEDSTATUSCODES`.
    ///
    /// Every line of a multi-line reply carries the code and the enhanced code (RFC 2034 section 4). A CR, NUL or other
    /// control character of the text becomes a blank.
    pub fn write_to(&self, enhanced: bool, out: &mut Vec<u8>) {
        let mut lines = self.text.trim_end_matches(['\r', '\n']).split('\n').peekable();
        while let Some(line) = lines.next() {
            push_number(u64::from(self.code), out);
            out.push(if lines.peek().is_some() { b'-' } else { b' ' });
            if enhanced && let Some((class, subject, detail)) = self.enhanced {
                push_number(u64::from(class), out);
                out.push(b'.');
                push_number(u64::from(subject), out);
                out.push(b'.');
                push_number(u64::from(detail), out);
                out.push(b' ');
            }
            push_text(line.trim_end_matches('\r'), out);
            out.extend_from_slice(b"\r\n");
        }
    }
}

/// Appends text that may hold no line end: control characters but TAB become blanks.
pub(crate) fn push_text(text: &str, out: &mut Vec<u8>) {
    let begin = out.len();
    out.extend_from_slice(text.as_bytes());
    for byte in &mut out[begin..] {
        if *byte < b' ' && *byte != b'\t' || *byte == 0x7f {
            *byte = b' ';
        }
    }
}

/// Appends a number in decimal, without an allocation.
pub(crate) fn push_number(number: u64, out: &mut Vec<u8>) {
    let mut digits = [0; 20];
    let mut at = digits.len();
    let mut rest = number;
    loop {
        at -= 1;
        digits[at] = b'0' + (rest % 10) as u8; // a single digit
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wire(reply: &Reply, enhanced: bool) -> String {
        let mut out = Vec::new();
        reply.write_to(enhanced, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn the_enhanced_code_goes_out_only_where_it_was_announced() {
        let reply = Reply::new(250, (2, 0, 0), "MAIL FROM accepted");
        assert_eq!(wire(&reply, true), "250 2.0.0 MAIL FROM accepted\r\n");
        assert_eq!(wire(&reply, false), "250 MAIL FROM accepted\r\n");
        assert_eq!(wire(&Reply::verbatim(550, "5.7.1 go away"), true), "550 5.7.1 go away\r\n");
    }

    #[test]
    fn no_text_can_begin_a_reply_of_its_own() {
        let reply = Reply::verbatim(550, "a\r\nb\rc\0d\n");
        assert_eq!(wire(&reply, true), "550-a\r\n550 b c d\r\n");
        assert_eq!(wire(&Reply::verbatim(550, ""), true), "550 \r\n");
        assert_eq!(wire(&Reply::new(214, (2, 0, 0), "a\nb"), true), "214-2.0.0 a\r\n214 2.0.0 b\r\n");
    }

    #[test]
    fn numbers_are_written_whole() {
        for number in [0, 9, 10, 250, u64::MAX] {
            let mut out = Vec::new();
            push_number(number, &mut out);
            assert_eq!(out, number.to_string().into_bytes());
        }
    }
}
