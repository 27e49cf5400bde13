//! What was read from the client and not yet understood, and the lines in it (RFC 5321 section 2.3.8).
//!
//! Only CRLF ends a line. The buffer is bounded by the driver, which reads only when the machine needs more; a line that is
//! longer than its limit is eaten to its end, so that the session stays usable.

use memchr::memchr;

/// The longest MAIL or RCPT line, with its CRLF: a limit that users of Momentum rely on.
pub const ENVELOPE_LINE_SIZE_MAX: usize = 4096;
/// The longest line of any other command, with its CRLF.
pub const LINE_SIZE_MAX: usize = 2048;
/// The longest line of an AUTH exchange (RFC 4954 section 4).
pub const AUTH_LINE_SIZE_MAX: usize = 12288;
/// How much of one over-long line is eaten before the session ends.
pub const EATEN_SIZE_MAX: u64 = 1 << 20;

/// An empty buffer that is larger is given back.
const KEPT_SIZE_MAX: usize = 16 << 10;

/// The read buffer: bytes come in at its end, and leave from its front.
#[derive(Debug, Default)]
pub struct Input {
    bytes: Vec<u8>,
    at: usize,
    /// Octets after `at` that hold no line end.
    searched: usize,
    /// Octets of the over-long line that is being eaten.
    eaten: u64,
}

/// What `take_line` found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Taken {
    /// A line without its CRLF: `Input::line` gives it.
    Line {
        begin: usize,
        end: usize,
    },
    Partial,
    /// A line over its limit came to its end.
    TooLong,
    /// A line that seems to have no end.
    Endless,
}

impl Input {
    pub fn new() -> Input {
        Input::default()
    }

    pub fn unread(&self) -> &[u8] {
        &self.bytes[self.at..]
    }

    pub fn is_empty(&self) -> bool {
        self.at == self.bytes.len()
    }

    pub fn consume(&mut self, count: usize) {
        self.at = (self.at + count).min(self.bytes.len());
        self.searched = 0;
        if self.is_empty() {
            self.bytes.clear();
            self.at = 0;
        }
    }

    pub fn clear(&mut self) {
        self.consume(usize::MAX - self.at);
    }

    /// Bytes that did not come through the driver: tests, and what followed a PROXY header.
    pub fn extend(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// The buffer for the next read, with room for `size` octets in all (what is unread included), and at least for one.
    pub(crate) fn room(&mut self, size: usize) -> &mut Vec<u8> {
        if self.at > 0 {
            self.bytes.drain(..self.at);
            self.at = 0;
        }
        if self.bytes.is_empty() && self.bytes.capacity() > size.max(KEPT_SIZE_MAX) {
            self.bytes = Vec::new();
        }
        let spare = size.saturating_sub(self.bytes.len()).max(1);
        self.bytes.reserve_exact(spare);
        &mut self.bytes
    }

    pub(crate) fn line(&self, begin: usize, end: usize) -> &[u8] {
        &self.bytes[begin..end]
    }

    /// Takes one line off the front. `size_max` gives the limit for the line that begins so.
    pub(crate) fn take_line(&mut self, size_max: impl Fn(&[u8]) -> usize) -> Taken {
        let begin = self.at;
        loop {
            let from = begin + self.searched;
            let Some(found) = memchr(b'\n', &self.bytes[from..]) else { break };
            let end = from + found;
            self.searched = end + 1 - begin;
            if end == begin || self.bytes[end - 1] != b'\r' {
                continue; // a bare LF ends no command
            }
            let size = end + 1 - begin;
            let too_long = self.eaten > 0 || size > size_max(&self.bytes[begin..]);
            // The position moves, the bytes stay until the next read.
            self.at = end + 1;
            self.searched = 0;
            self.eaten = 0;
            return if too_long { Taken::TooLong } else { Taken::Line { begin, end: end - 1 } };
        }
        self.searched = self.bytes.len() - begin;
        if self.eaten > 0 || self.searched > size_max(&self.bytes[begin..]) {
            // A CR stays, in case its LF comes next.
            let kept = usize::from(self.bytes.last() == Some(&b'\r'));
            let eat = self.searched - kept;
            self.eaten += eat as u64;
            self.consume(eat);
            if self.eaten > EATEN_SIZE_MAX {
                return Taken::Endless;
            }
        }
        Taken::Partial
    }
}

/// The limit of a command line by its verb.
pub(crate) fn command_size_max(line: &[u8]) -> usize {
    let envelope =
        line.get(..4).is_some_and(|verb| verb.eq_ignore_ascii_case(b"MAIL") || verb.eq_ignore_ascii_case(b"RCPT"));
    if envelope { ENVELOPE_LINE_SIZE_MAX } else { LINE_SIZE_MAX }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(input: &mut Input) -> Vec<String> {
        let mut all = Vec::new();
        loop {
            match input.take_line(command_size_max) {
                Taken::Line { begin, end } => all.push(String::from_utf8_lossy(input.line(begin, end)).into_owned()),
                Taken::TooLong => all.push("(too long)".into()),
                Taken::Endless => {
                    all.push("(endless)".into());
                    return all;
                }
                Taken::Partial => return all,
            }
        }
    }

    #[test]
    fn only_crlf_ends_a_line_however_the_bytes_come() {
        let text = b"NOOP a\nb\rc\r\n\r\nQUIT\r\n";
        for split in 0..text.len() {
            let mut input = Input::new();
            input.extend(&text[..split]);
            let mut got = lines(&mut input);
            input.room(64).extend_from_slice(&text[split..]);
            got.extend(lines(&mut input));
            assert_eq!(got, ["NOOP a\nb\rc", "", "QUIT"], "split at {split}");
        }
    }

    #[test]
    fn a_line_is_measured_with_its_crlf() {
        for (verb, max) in [("MAIL", 4096), ("rcpt", 4096), ("NOOP", 2048), ("MAI", 2048)] {
            for (size, ok) in [(max, true), (max + 1, false)] {
                let mut line = format!("{verb} ").into_bytes();
                line.resize(size - 2, b'x');
                line.extend(b"\r\nQUIT\r\n");
                for step in [1, 7, line.len()] {
                    let mut input = Input::new();
                    let mut got = Vec::new();
                    for part in line.chunks(step) {
                        input.extend(part);
                        got.extend(lines(&mut input));
                    }
                    assert_eq!(got[0] != "(too long)", ok, "{verb} {size} {step}");
                    assert_eq!(got[1], "QUIT");
                }
            }
        }
    }

    #[test]
    fn a_line_without_an_end_is_neither_kept_nor_read_for_ever() {
        let mut input = Input::new();
        let mut fed = 0;
        loop {
            input.room(8192).extend_from_slice(&[b'x'; 4096]);
            fed += 4096;
            if lines(&mut input).contains(&"(endless)".to_owned()) {
                break;
            }
            assert!(input.unread().len() <= ENVELOPE_LINE_SIZE_MAX);
            assert!(fed <= EATEN_SIZE_MAX + 8192);
        }
        assert!(fed > EATEN_SIZE_MAX);
    }
}
