//! Reading replies (RFC 5321 section 4.2): bytes in, one reply at a time out.
//!
//! A reply ends at its first line that is no continuation; what follows belongs to the next one and is never touched. A
//! line that is no reply line at all is a fault, not a longer reply: a peer must not be able to make us read on for ever.
//! So are more than `REPLY_SIZE_MAX` octets or `REPLY_LINES_MAX` lines.

use compact_str::CompactString;
use memchr::memchr;
use std::ops::Range;

/// Octets of one reply, line ends included.
pub const REPLY_SIZE_MAX: usize = 64 << 10;
/// Lines of one reply.
pub const REPLY_LINES_MAX: usize = 512;

/// Collects what the peer sends and cuts it into replies.
#[derive(Default)]
pub struct ReplyReader {
    buffer: Vec<u8>,
    /// Everything before it has been handed out.
    start: usize,
    /// Where the first line begins that has not been looked at.
    line: usize,
    /// Everything before it holds no further line end.
    scanned: usize,
    lines: usize,
}

/// One reply, as a range of the reader's buffer: valid until bytes are read again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    pub code: u16,
    pub range: Range<usize>,
}

/// What came is no reply, or too much of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed;

impl ReplyReader {
    /// Where the driver puts what it reads (at the end). Empties the buffer first when all of it was handed out.
    pub fn buffer(&mut self) -> &mut Vec<u8> {
        if self.start == self.buffer.len() {
            self.buffer.clear();
            (self.start, self.line, self.scanned) = (0, 0, 0);
        } else if self.start > REPLY_SIZE_MAX {
            self.buffer.drain(..self.start);
            self.line -= self.start;
            self.scanned -= self.start;
            self.start = 0;
        }
        &mut self.buffer
    }

    /// Whether bytes are there that were not handed out.
    pub fn has_more(&self) -> bool {
        self.start < self.buffer.len()
    }

    /// Whether so much is unread that reading more makes no sense: replies that nobody asked for.
    pub fn is_full(&self) -> bool {
        self.buffer.len() - self.start > REPLY_SIZE_MAX
    }

    /// The next whole reply, if it is there.
    pub fn next(&mut self) -> Result<Option<Found>, Malformed> {
        loop {
            let Some(at) = memchr(b'\n', &self.buffer[self.scanned..]) else {
                self.scanned = self.buffer.len();
                let held = self.buffer.len() - self.start;
                return if held > REPLY_SIZE_MAX { Err(Malformed) } else { Ok(None) };
            };
            let end = self.scanned + at + 1;
            let line = trim_end(&self.buffer[self.line..end]);
            let (code, last) = reply_line(line).ok_or(Malformed)?;
            self.lines += 1;
            if self.lines > REPLY_LINES_MAX || end - self.start > REPLY_SIZE_MAX {
                return Err(Malformed);
            }
            (self.line, self.scanned) = (end, end);
            if last {
                let found = Found { code, range: self.start..end };
                (self.start, self.lines) = (end, 0);
                return Ok(Some(found));
            }
        }
    }

    /// The reply's lines with their codes, `\n` between them; other controls and octets that are no UTF-8 are replaced, so
    /// that no peer writes escape sequences into a log.
    pub fn text(&self, found: &Found) -> CompactString {
        let bytes = trim_end(&self.buffer[found.range.clone()]);
        if bytes.iter().all(|byte| matches!(byte, b' '..=b'~')) {
            return CompactString::from_utf8_lossy(bytes);
        }
        let mut text = CompactString::with_capacity(bytes.len());
        for ch in String::from_utf8_lossy(bytes).replace("\r\n", "\n").chars() {
            text.push(if ch.is_control() && ch != '\n' { '?' } else { ch });
        }
        text
    }

    /// The lines of the reply without codes.
    pub fn lines(&self, found: &Found) -> impl Iterator<Item = &[u8]> {
        self.buffer[found.range.clone()]
            .split_inclusive(|&byte| byte == b'\n')
            .map(|line| trim_end(line).get(4..).unwrap_or(b""))
    }
}

/// Code and whether it is the last line.
fn reply_line(line: &[u8]) -> Option<(u16, bool)> {
    let digits = line.get(..3)?;
    if !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let code = digits.iter().fold(0, |code, digit| code * 10 + u16::from(digit - b'0'));
    match line.get(3) {
        None | Some(b' ') => Some((code, true)),
        Some(b'-') => Some((code, false)),
        Some(_) => None,
    }
}

fn trim_end(line: &[u8]) -> &[u8] {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    line.strip_suffix(b"\r").unwrap_or(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(chunks: &[&[u8]]) -> Result<Vec<(u16, String)>, Malformed> {
        let mut reader = ReplyReader::default();
        let mut replies = Vec::new();
        for chunk in chunks {
            reader.buffer().extend_from_slice(chunk);
            while let Some(found) = reader.next()? {
                replies.push((found.code, reader.text(&found).to_string()));
            }
        }
        Ok(replies)
    }

    #[test]
    fn replies_are_the_same_however_the_input_is_split() {
        let input = b"250-a.example\r\n250-PIPELINING\r\n250 SIZE 10\r\n354\r\n550 5.1.1 no such user\r\n";
        let whole = read(&[input]).unwrap();
        assert_eq!(whole.len(), 3);
        assert_eq!(whole[0], (250, "250-a.example\n250-PIPELINING\n250 SIZE 10".into()));
        assert_eq!(whole[1], (354, "354".into()));
        for at in 0..=input.len() {
            let (one, two) = input.split_at(at);
            assert_eq!(read(&[one, two]).unwrap(), whole, "split at {at}");
        }
        let bytes: Vec<&[u8]> = input.chunks(1).collect();
        assert_eq!(read(&bytes).unwrap(), whole);
    }

    #[test]
    fn what_is_no_reply_line_is_a_fault() {
        for bad in [&b"hello\r\n"[..], b"\r\n", b"25 \r\n", b"2x0 ok\r\n", b"250-a\r\nb\r\n", b"250_ok\r\n"] {
            assert_eq!(read(&[bad]), Err(Malformed), "{:?}", String::from_utf8_lossy(bad));
        }
    }

    #[test]
    fn lines_and_octets_of_a_reply_are_bounded_on_both_sides() {
        let lines = |count: usize| [b"250-x\r\n".repeat(count - 1), b"250 x\r\n".to_vec()].concat();
        assert!(read(&[&lines(REPLY_LINES_MAX)]).is_ok());
        assert_eq!(read(&[&lines(REPLY_LINES_MAX + 1)]), Err(Malformed));
        let octets = |count: usize| [b"250 ".to_vec(), vec![b'x'; count - 6], b"\r\n".to_vec()].concat();
        assert!(read(&[&octets(REPLY_SIZE_MAX)]).is_ok());
        assert_eq!(read(&[&octets(REPLY_SIZE_MAX + 1)]), Err(Malformed));
        // Without any line end, too.
        assert_eq!(read(&[&vec![b'2'; REPLY_SIZE_MAX + 1]]), Err(Malformed));
    }

    #[test]
    fn controls_and_broken_utf8_do_not_reach_a_log() {
        let replies = read(&[b"550-\x1b[2Jx\xff\r\n550 \xc3\xbc\0\r\n"]).unwrap();
        assert_eq!(replies[0].1, "550-?[2Jx\u{fffd}\n550 \u{fc}?");
    }
}
