//! Dot stuffing (RFC 5321 section 4.5.2) that lets no second end of data leave, whatever the content holds.
//!
//! A *dot line* is a lone `.` between two line ends, each of them CRLF, a lone CR or a lone LF, with any NULs in between:
//! what some receiver somewhere takes for the end of the data, so that the rest of the message becomes commands of the
//! sender's ("SMTP smuggling"). Every dot line leaves with CRLF on both sides and a dot more at the start of its line.
//! Everything else is untouched, and what needs no change is handed on as slices of the original, never copied.

use super::out::Out;
use bytes::Bytes;
use memchr::memchr;

/// Stuffs one content, given in any number of chunks.
#[derive(Debug)]
pub struct Stuffer {
    state: State,
    /// A dot line ended with a lone CR as the last byte of a chunk: an LF that begins the next one belongs to it.
    swallow_lf: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    MidLine,
    /// The last that went out was CRLF, or nothing did.
    LineStart,
    /// A line's beginning whose fate is open; none of it has gone out.
    Held(Held),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Held {
    end: LineEnd,
    nuls: usize,
    dot: bool,
    nuls_after: usize,
}

/// The line end before what is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LineEnd {
    /// CRLF, which is out already, or the start of the content.
    Done,
    Cr,
    Lf,
}

impl Default for Stuffer {
    fn default() -> Stuffer {
        Stuffer { state: State::LineStart, swallow_lf: false }
    }
}

impl Stuffer {
    /// The next piece of content.
    pub fn push(&mut self, chunk: &Bytes, out: &mut Out) {
        let mut at = 0;
        if std::mem::take(&mut self.swallow_lf) && chunk.first() == Some(&b'\n') {
            at = 1;
        }
        while at < chunk.len() {
            at = match self.state {
                State::Held(held) => self.step(held, chunk, at, out),
                _ => self.run(chunk, at, out),
            };
        }
    }

    /// The end of the content and of the data: completes the last line and adds the final dot.
    pub fn finish(mut self, out: &mut Out) {
        match self.state {
            State::LineStart => {}
            State::MidLine => out.small(b"\r\n"),
            State::Held(held) if held.dot => self.dot_line(held, out),
            State::Held(held) => match (held.end, held.nuls) {
                // A lone line end at the very end would make a dot line of the final dot.
                (LineEnd::Cr | LineEnd::Lf, 0) => out.small(b"\r\n"),
                _ => {
                    self.release(held, out);
                    out.small(b"\r\n");
                }
            },
        }
        out.small(b".\r\n");
    }

    /// Hands on everything up to the next line that begins like a dot line; the position to go on from.
    fn run(&mut self, chunk: &Bytes, from: usize, out: &mut Out) -> usize {
        let bytes = &chunk[..];
        let mut look = from;
        while let Some(found) = memchr(b'.', &bytes[look..]) {
            let dot = look + found;
            let Some((begin, end)) = self.line_start(bytes, from, dot) else {
                look = dot + 1;
                continue;
            };
            out.slice(chunk, from..begin);
            let line = begin + end.len();
            self.state = State::Held(Held { end, nuls: dot - line, dot: true, nuls_after: 0 });
            return dot + 1;
        }
        match self.line_start(bytes, from, bytes.len()) {
            None => {
                out.slice(chunk, from..bytes.len());
                self.state = State::MidLine;
            }
            Some((begin, end)) => {
                out.slice(chunk, from..begin);
                let nuls = bytes.len() - begin - end.len();
                self.state = if end == LineEnd::Done && nuls == 0 {
                    State::LineStart
                } else {
                    State::Held(Held { end, nuls, dot: false, nuls_after: 0 })
                };
            }
        }
        bytes.len()
    }

    /// Whether nothing but NULs lies between a line end and `before`: where that line end begins that is not out yet, and
    /// its kind.
    fn line_start(&self, bytes: &[u8], from: usize, before: usize) -> Option<(usize, LineEnd)> {
        let mut at = before;
        while at > from && bytes[at - 1] == 0 {
            at -= 1;
        }
        if at == from {
            return (self.state == State::LineStart).then_some((from, LineEnd::Done));
        }
        match bytes[at - 1] {
            b'\n' if at - 1 > from && bytes[at - 2] == b'\r' => Some((at, LineEnd::Done)),
            b'\n' => Some((at - 1, LineEnd::Lf)),
            b'\r' => Some((at - 1, LineEnd::Cr)),
            _ => None,
        }
    }

    /// One more byte of a line whose fate is open.
    fn step(&mut self, mut held: Held, chunk: &Bytes, at: usize, out: &mut Out) -> usize {
        let byte = chunk[at];
        match (held.dot, byte) {
            (false, 0) => held.nuls += 1,
            (true, 0) => held.nuls_after += 1,
            (false, b'.') => held.dot = true,
            (false, b'\n') if held.end == LineEnd::Cr && held.nuls == 0 => {
                out.small(b"\r\n");
                self.state = State::LineStart;
                return at + 1;
            }
            (true, b'\r' | b'\n') => {
                self.dot_line(held, out);
                self.state = State::LineStart;
                return match (byte, chunk.get(at + 1)) {
                    (b'\r', Some(b'\n')) => at + 2,
                    (b'\r', None) => {
                        self.swallow_lf = true;
                        at + 1
                    }
                    _ => at + 1,
                };
            }
            _ => {
                // Some other line: it keeps its bytes, and is stuffed where it begins with a dot behind a CRLF.
                if held.dot && held.end == LineEnd::Done && held.nuls == 0 {
                    out.small(b".");
                }
                self.release(held, out);
                self.state = State::MidLine;
                return at; // the byte itself is looked at as part of the line
            }
        }
        self.state = State::Held(held);
        at + 1
    }

    /// Lets a dot line out in its harmless form.
    fn dot_line(&mut self, held: Held, out: &mut Out) {
        if held.end != LineEnd::Done {
            out.small(b"\r\n");
        }
        out.small(b".");
        self.release(Held { end: LineEnd::Done, ..held }, out);
        out.small(b"\r\n");
    }

    /// Lets out what is held as it came.
    fn release(&self, held: Held, out: &mut Out) {
        out.small(match held.end {
            LineEnd::Done => b"",
            LineEnd::Cr => b"\r",
            LineEnd::Lf => b"\n",
        });
        zeros(held.nuls, out);
        if held.dot {
            out.small(b".");
            zeros(held.nuls_after, out);
        }
    }
}

impl LineEnd {
    /// Octets of it that are not out yet.
    fn len(self) -> usize {
        usize::from(self != LineEnd::Done)
    }
}

fn zeros(mut count: usize, out: &mut Out) {
    const ZEROS: &[u8] = &[0; 256];
    while count > 0 {
        let now = count.min(ZEROS.len());
        out.small(&ZEROS[..now]);
        count -= now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn stuffed(chunks: &[&[u8]]) -> Vec<u8> {
        let mut out = Out::default();
        let mut stuffer = Stuffer::default();
        for chunk in chunks {
            stuffer.push(&Bytes::copy_from_slice(chunk), &mut out);
        }
        stuffer.finish(&mut out);
        out.to_vec()
    }

    /// How many ends of data the most credulous receiver sees, one that drops NULs and takes every line end.
    fn ends_of_data(wire: &[u8]) -> usize {
        let plain: Vec<u8> = wire.iter().copied().filter(|&byte| byte != 0).collect();
        let text = String::from_utf8_lossy(&plain).replace("\r\n", "\n").replace('\r', "\n");
        let mut lines: Vec<&str> = text.split('\n').collect();
        lines.pop(); // what follows the last line end
        lines.iter().filter(|line| **line == ".").count()
    }

    /// What a strict receiver makes of it.
    fn unstuffed(wire: &[u8]) -> Vec<u8> {
        let body = wire.strip_suffix(b".\r\n").expect("ends with the final dot");
        let mut content = Vec::new();
        let mut at = 0;
        let mut line_start = true;
        while at < body.len() {
            if line_start && body[at] == b'.' {
                at += 1;
            }
            line_start = false;
            while at < body.len() {
                content.push(body[at]);
                at += 1;
                if content.ends_with(b"\r\n") {
                    line_start = true;
                    break;
                }
            }
        }
        content
    }

    #[test]
    fn ordinary_content_is_stuffed_as_the_rfc_says() {
        for (content, wire) in [
            (&b""[..], &b".\r\n"[..]),
            (b"a", b"a\r\n.\r\n"),
            (b"a\r\n", b"a\r\n.\r\n"),
            (b".", b"..\r\n.\r\n"),
            (b".\r\n", b"..\r\n.\r\n"),
            (b".a\r\n..b\r\nc.\r\n", b"..a\r\n...b\r\nc.\r\n.\r\n"),
            (b"a\r\n.\r\n.\r\nb\r\n", b"a\r\n..\r\n..\r\nb\r\n.\r\n"),
            (b"a\n.b\r\n", b"a\n.b\r\n.\r\n"),
            (b"a\n", b"a\r\n.\r\n"),
            (b"a\r", b"a\r\n.\r\n"),
            (b"a\n\n", b"a\n\r\n.\r\n"),
        ] {
            assert_eq!(stuffed(&[content]), wire, "{:?}", String::from_utf8_lossy(content));
        }
    }

    #[test]
    fn every_dot_line_leaves_harmless_in_any_split() {
        let ends: [&[u8]; 3] = [b"\r\n", b"\r", b"\n"];
        let nuls: [&[u8]; 3] = [b"", b"\0", b"\0\0"];
        for before in ends {
            for after in ends {
                for left in nuls {
                    for right in nuls {
                        let content = [b"a", before, left, b".", right, after, b"MAIL FROM:<x@y>\r\n"].concat();
                        let whole = stuffed(&[&content]);
                        let wanted = [b"a\r\n.", left, b".", right, b"\r\nMAIL FROM:<x@y>\r\n.\r\n"].concat();
                        assert_eq!(whole, wanted, "{:?}", String::from_utf8_lossy(&content));
                        assert_eq!(ends_of_data(&whole), 1);
                        for at in 0..=content.len() {
                            let (one, two) = content.split_at(at);
                            assert_eq!(stuffed(&[one, two]), whole, "split at {at} of {content:?}");
                        }
                        let bytes: Vec<&[u8]> = content.chunks(1).collect();
                        assert_eq!(stuffed(&bytes), whole);
                    }
                }
            }
        }
    }

    #[test]
    fn content_that_needs_no_stuffing_is_handed_on_without_a_copy() {
        let content = Bytes::from(vec![b'x'; 10_000]);
        let mut out = Out::default();
        let mut stuffer = Stuffer::default();
        stuffer.push(&content, &mut out);
        stuffer.finish(&mut out);
        assert!(out.pieces().any(|piece| piece.as_ptr() == content.as_ptr() && piece.len() == content.len()));
    }

    proptest! {
        #[test]
        fn any_content_has_one_end_and_comes_back(
            content in proptest::collection::vec(prop::sample::select(&[b'\r', b'\n', b'.', 0, b'a'][..]), 0..40),
            cut in 0_usize..40,
        ) {
            let wire = stuffed(&[&content]);
            prop_assert_eq!(ends_of_data(&wire), 1);
            prop_assert!(wire.ends_with(b".\r\n"));
            let cut = cut.min(content.len());
            prop_assert_eq!(&stuffed(&[&content[..cut], &content[cut..]]), &wire);
            // A strict receiver gets the same bytes, but for repaired line ends.
            let bare = |bytes: &[u8]| bytes.iter().copied().filter(|b| !b"\r\n".contains(b)).collect::<Vec<u8>>();
            prop_assert_eq!(bare(&unstuffed(&wire)), bare(&content));
        }

        #[test]
        fn clean_crlf_content_comes_back_to_the_byte(lines in proptest::collection::vec("[.a ]{0,6}", 0..12)) {
            let content: String = lines.iter().map(|line| format!("{line}\r\n")).collect();
            prop_assert_eq!(unstuffed(&stuffed(&[content.as_bytes()])), content.into_bytes());
        }
    }
}
