//! The body of the message that is coming in: memory for small ones, a file of the spool for large ones.
//!
//! Up to `large_message_threshold` octets lie in one buffer, which becomes the message's bytes without a copy. Beyond, the
//! header block stays in memory (it is bounded by `max_header_size`) and the rest streams to the spool while it arrives, so
//! that a hundred sessions with 50 MiB each need little memory. Nothing of it counts before the spool commit.

use bytes::Bytes;
use ph_message::Content;
use ph_message::header_check::{self, BodyCheck, HeaderFault, LongLines, Rules};
use ph_spool::{LargeWriter, Spool, SpoolError};

/// How much of a large body is collected before it is handed to the file.
const CHUNK: usize = 64 << 10;

pub struct BodyCollector {
    /// Content not yet handed to a file: all of a small message, the tail of a large one.
    pub buffer: Vec<u8>,
    threshold: usize,
    rules: Rules,
    /// No header block ends before this octet of `buffer`: a long one is searched once, not with every read.
    searched: usize,
    large: Option<Large>,
}

struct Large {
    head: Bytes,
    file: LargeWriter,
    /// Judges the body while it streams: afterwards nobody reads it again. `None`: the rules ask nothing of it.
    check: Option<BodyCheck>,
    fault: Option<HeaderFault>,
    /// Breaks long lines, where the rules say so.
    breaker: Option<LineBreaker>,
    eight_bit: bool,
}

impl Large {
    async fn write(&mut self, piece: &[u8]) -> Result<(), SpoolError> {
        self.eight_bit |= !piece.is_ascii();
        if let (None, Some(check)) = (self.fault, &mut self.check) {
            self.fault = check.feed(piece).err();
        }
        match &mut self.breaker {
            Some(breaker) => {
                let lines = breaker.feed(piece);
                self.file.write(&lines).await
            }
            None => self.file.write(piece).await,
        }
    }
}

/// Breaks the long lines of a body that streams by, as `header_check::repair` does with one in memory.
struct LineBreaker {
    rules: Rules,
    /// The line that has not ended yet.
    open: Vec<u8>,
}

impl LineBreaker {
    fn new(rules: Rules) -> Option<LineBreaker> {
        matches!(rules.long_lines, LongLines::Fix(_)).then(|| LineBreaker { rules, open: Vec::new() })
    }

    /// What can be written after this piece.
    fn feed(&mut self, piece: &[u8]) -> Vec<u8> {
        self.open.extend_from_slice(piece);
        let whole = after_last_line(&self.open);
        let rest = self.open.split_off(whole);
        let lines = std::mem::replace(&mut self.open, rest);
        let mut ready = self.broken(lines);
        if self.open.len() > CHUNK {
            // A line without an end is broken while it comes in; what is left of it is short.
            let open = std::mem::take(&mut self.open);
            let broken = self.broken(open);
            let whole = after_last_line(&broken);
            ready.extend_from_slice(&broken[..whole]);
            self.open = broken[whole..].to_vec();
        }
        ready
    }

    fn finish(mut self) -> Vec<u8> {
        let open = std::mem::take(&mut self.open);
        self.broken(open)
    }

    fn broken(&self, lines: Vec<u8>) -> Vec<u8> {
        let lines = Bytes::from(lines);
        header_check::fix_body(&lines, &self.rules).unwrap_or(lines).into()
    }
}

fn after_last_line(bytes: &[u8]) -> usize {
    memchr::memrchr(b'\n', bytes).map_or(0, |at| at + 1)
}

/// A message that has come in whole.
pub struct Collected {
    pub content: Content,
    /// Octets above 127 in the body.
    pub eight_bit: bool,
    /// What the rules have against a body that was streamed; one in memory has still to be judged.
    pub fault: Option<HeaderFault>,
}

impl BodyCollector {
    /// `expected` is the size that the client announced, if it did: room is taken for it up to the threshold.
    pub fn new(threshold: u64, expected: Option<u64>, rules: Rules) -> BodyCollector {
        let threshold = usize::try_from(threshold).unwrap_or(usize::MAX).max(CHUNK);
        let room = expected.map_or(16 << 10, |size| usize::try_from(size).unwrap_or(usize::MAX).saturating_add(512));
        BodyCollector { buffer: Vec::with_capacity(room.min(threshold)), threshold, rules, searched: 0, large: None }
    }

    /// Whether `flush` has something to do.
    pub fn wants_flush(&self) -> bool {
        match self.large {
            Some(_) => self.buffer.len() >= CHUNK,
            None => self.buffer.len() > self.threshold,
        }
    }

    /// Moves what was collected to the spool's file, opening it at the first call.
    pub async fn flush(&mut self, spool: &Spool) -> Result<(), SpoolError> {
        if self.large.is_none() {
            let Some(end) = head_end(&self.buffer, self.searched) else {
                self.searched = self.buffer.len().saturating_sub(3);
                return Ok(()); // still in the header block, which the protocol bounds
            };
            let tail = self.buffer.split_off(end);
            let head = Bytes::from(std::mem::replace(&mut self.buffer, tail));
            let check = BodyCheck::has_work(&self.rules).then(|| BodyCheck::new(&self.rules));
            let breaker = LineBreaker::new(self.rules);
            self.large =
                Some(Large { head, file: spool.begin_large()?, check, fault: None, breaker, eight_bit: false });
        }
        if let Some(large) = &mut self.large {
            large.write(&self.buffer).await?;
            self.buffer.clear();
        }
        Ok(())
    }

    /// The whole content, once the data has ended. A large body is on stable storage then.
    pub async fn finish(self) -> Result<Collected, SpoolError> {
        let Some(mut large) = self.large else {
            let content = Content::parse(Bytes::from(self.buffer));
            let eight_bit = content.body().memory().is_some_and(|body| !body.is_ascii());
            return Ok(Collected { content, eight_bit, fault: None });
        };
        large.write(&self.buffer).await?;
        if let Some(breaker) = large.breaker.take() {
            large.file.write(&breaker.finish()).await?;
        }
        let fault = large.fault.or_else(|| large.check.take().and_then(|check| check.finish().err()));
        let content = Content::new(large.head, large.file.finish().await?);
        Ok(Collected { content, eight_bit: large.eight_bit, fault })
    }
}

/// Where the body begins: after the blank line, of which nothing lies before `from` but perhaps a part. A message that
/// begins with a blank line has no header.
fn head_end(content: &[u8], from: usize) -> Option<usize> {
    if content.starts_with(b"\r\n") {
        return Some(2);
    }
    memchr::memmem::find(&content[from.min(content.len())..], b"\r\n\r\n").map(|at| from + at + 4)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn streamed(body: &[u8], piece: usize, rules: Rules) -> Vec<u8> {
        let mut breaker = LineBreaker::new(rules).expect("rules that break lines");
        let mut out: Vec<u8> = body.chunks(piece).flat_map(|piece| breaker.feed(piece)).collect();
        out.extend(breaker.finish());
        out
    }

    #[test]
    fn a_body_that_streams_is_broken_as_one_in_memory() {
        let rules = Rules { long_lines: LongLines::Fix(100), ..Rules::default() };
        let words = b"some words of a line that goes on and on ".repeat(40);
        let mut body = [b"short\r\n", &words[..], b"\r\n", &[b'x'; 5000], b"\r\nend\r\n"].concat();
        body.extend([b'y'; 3 * CHUNK]);
        let wanted = header_check::fix_body(&Bytes::from(body.clone()), &rules).expect("something to break");
        for piece in [997, CHUNK - 1, body.len()] {
            let out = streamed(&body, piece, rules);
            assert_eq!(out.len(), wanted.len(), "pieces of {piece}");
            assert!(out == wanted, "pieces of {piece}");
        }
        assert!(wanted.split(|&byte| byte == b'\n').all(|line| line.len() <= 101));
        assert!(LineBreaker::new(Rules::default()).is_none());
    }
}
