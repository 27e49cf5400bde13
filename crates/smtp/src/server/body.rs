//! The content of a message as it arrives: after DATA, or in the chunks of BDAT (RFC 5321 section 4.1.1.4 and 4.5.2,
//! RFC 3030). Bytes in; unstuffed, repaired bytes out.
//!
//! Only CRLF "." CRLF ends a DATA. Were a bare LF or CR to end one, a peer that thinks otherwise could smuggle a second
//! message past us. So a *dot line* (a single dot between two line ends of any kind, NULs in between or not) that is not
//! that end is refused or repaired into a plain line with a dot in it; no such sequence is ever stored, not even one that
//! transparency would uncover. The first fault is
//! kept, and the data is read to its true end all the same, so that content is never taken for commands.

use super::handler::{BodyFault, LoneLf};
use memchr::memchr2;

/// What the session's settings say about content. Sizes in octets; 0: no limit.
#[derive(Clone, Copy, Debug)]
pub struct BodyRules {
    pub size_max: u64,
    pub header_size_max: u64,
    pub lone_in_headers: LoneLf,
    pub lone_in_body: LoneLf,
}

/// Reads one message's content. It keeps at most four octets back, all implied by its state.
#[derive(Clone, Debug)]
pub struct BodyReader {
    rules: BodyRules,
    state: State,
    /// DATA: a dot at the beginning of a line is transparency, and a line of one dot is the end. BDAT has neither.
    dotted: bool,
    in_headers: bool,
    /// Nothing was written since the last CRLF that was written.
    line_empty: bool,
    /// Content goes nowhere: it is faulty, or could not be stored.
    dropped: bool,
    /// Octets of content so far.
    size: u64,
    fault: Option<BodyFault>,
}

/// Where `feed` stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// All input was taken; the data goes on.
    More,
    /// The data ended; that many octets of the input belonged to it.
    End { consumed: usize },
}

/// The line end before the current position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Before {
    /// CRLF on the wire; written.
    Crlf,
    /// As `Crlf`, and the dot that makes a line transparent was taken away: the dot that follows is content.
    Stuffed,
    /// A lone CR or LF, which was written as CRLF.
    Repaired,
    /// A lone one that is written as it is, unless it turns out to begin a dot line.
    HeldCr,
    HeldLf,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Text,
    /// A CR, not yet written.
    TextCr,
    LineStart(Before),
    /// A line end and NULs.
    LineStartNul,
    /// A line end and a dot; the dot is not yet written.
    Dot(Before),
    /// A line end, a dot, a CR; neither dot nor CR is written.
    DotCr(Before),
    /// A line end and a dot with NULs before or after it: a fault if a line end follows.
    DotNul,
    /// A line end, the dot of transparency (not written), and NULs: as `DotNul` on the wire, as `LineStartNul` in the content.
    ClearedNul,
    End,
}

impl BodyReader {
    /// The content after DATA: ends by itself.
    pub fn data(rules: BodyRules) -> BodyReader {
        BodyReader::new(rules, true)
    }

    /// The content of BDAT chunks: ended by `finish`.
    pub fn chunks(rules: BodyRules) -> BodyReader {
        BodyReader::new(rules, false)
    }

    fn new(rules: BodyRules, dotted: bool) -> BodyReader {
        let unlimited = |max: u64| if max == 0 { u64::MAX } else { max };
        BodyReader {
            rules: BodyRules {
                size_max: unlimited(rules.size_max),
                header_size_max: unlimited(rules.header_size_max),
                ..rules
            },
            // The line end of the command is the one before the first line.
            state: State::LineStart(Before::Crlf),
            dotted,
            in_headers: true,
            line_empty: true,
            dropped: false,
            size: 0,
            fault: None,
        }
    }

    /// The first thing that was wrong with the content.
    pub fn fault(&self) -> Option<BodyFault> {
        self.fault
    }

    /// Octets of content so far: what SIZE counts (RFC 1870 section 3).
    pub fn size(&self) -> u64 {
        self.size
    }

    /// From here on the content is read but goes nowhere.
    pub fn drop_content(&mut self) {
        self.dropped = true;
    }

    /// Appends content to `body` until the input or the data ends.
    pub fn feed(&mut self, input: &[u8], body: &mut Vec<u8>) -> Progress {
        let mut at = 0;
        while at < input.len() {
            if self.state == State::Text {
                let clean = self.clean_prefix(&input[at..]);
                if clean > 0 {
                    self.push(&input[at..at + clean], body);
                    at += clean;
                    continue;
                }
            }
            self.step(input[at], body);
            at += 1;
            if self.state == State::End {
                return Progress::End { consumed: at };
            }
        }
        Progress::More
    }

    /// The last chunk has been fed. The end of the content is a line end like any other: a dot line may not reach it.
    pub fn finish(&mut self, body: &mut Vec<u8>) {
        if self.state == State::TextCr {
            self.lone(Before::HeldCr, body);
        }
        match self.state {
            State::LineStart(before) => self.release(before, body),
            State::Dot(Before::Crlf | Before::Stuffed) => self.push(b".", body),
            State::Dot(before) => self.dot_line(before, false, body),
            State::DotCr(before) => self.dot_line(before, true, body),
            State::DotNul | State::ClearedNul => self.fail(BodyFault::LoneLfInBody),
            State::Text | State::TextCr | State::LineStartNul | State::End => {}
        }
        self.state = State::End;
    }

    /// How much of the input, from within a line on, can be taken as it is and leads back into a line.
    fn clean_prefix(&self, input: &[u8]) -> usize {
        if self.in_headers {
            // Line by line: the blank line that ends the header block must be seen.
            return memchr2(b'\r', b'\n', input).unwrap_or(input.len());
        }
        let mut at = clean_blocks(input);
        while let Some(found) = memchr2(b'\r', b'\n', &input[at..]) {
            let end = at + found;
            match input[end..] {
                [b'\r', b'\n', next, ..] if !matches!(next, b'.' | 0 | b'\r' | b'\n') => at = end + 3,
                _ => return end,
            }
        }
        input.len()
    }

    fn step(&mut self, byte: u8, body: &mut Vec<u8>) {
        match self.state {
            State::Text => self.text(byte, body),
            State::TextCr if byte == b'\n' => self.line_end(body),
            State::TextCr => {
                self.lone(Before::HeldCr, body);
                self.step(byte, body); // now at the start of a line: one level deep
            }
            State::LineStart(before) => match byte {
                b'.' => self.state = State::Dot(before),
                0 => {
                    self.release(before, body);
                    self.push(&[0], body);
                    self.state = State::LineStartNul;
                }
                _ => {
                    self.release(before, body);
                    self.text(byte, body);
                }
            },
            State::LineStartNul => match byte {
                0 => self.push(&[0], body),
                b'.' => {
                    self.push(b".", body);
                    self.state = State::DotNul;
                }
                _ => self.text(byte, body),
            },
            State::Dot(before) => match byte {
                b'\r' => self.state = State::DotCr(before),
                b'\n' => {
                    self.dot_line(before, true, body);
                    self.state = State::LineStart(Before::Repaired);
                }
                b'.' if self.dotted && before == Before::Crlf => self.state = State::Dot(Before::Stuffed),
                _ => {
                    self.release(before, body);
                    // RFC 5321 section 4.5.2: the first dot of a line is not content.
                    let cleared = self.dotted && before == Before::Crlf;
                    if !cleared {
                        self.push(b".", body);
                    }
                    if byte == 0 {
                        self.push(&[0], body);
                        self.state = if cleared { State::ClearedNul } else { State::DotNul };
                    } else {
                        self.text(byte, body);
                    }
                }
            },
            State::DotCr(before) if byte == b'\n' => match before {
                Before::Crlf if self.dotted => self.state = State::End,
                Before::Crlf | Before::Stuffed => {
                    self.push(b".", body);
                    self.line_end(body);
                }
                _ => {
                    self.dot_line(before, true, body);
                    self.state = State::LineStart(Before::Crlf);
                }
            },
            State::DotCr(before) => {
                self.dot_line(before, true, body);
                self.state = State::LineStart(Before::Repaired);
                self.step(byte, body); // at the start of a line: one level deep
            }
            State::DotNul | State::ClearedNul => match byte {
                0 => self.push(&[0], body),
                b'.' if self.state == State::ClearedNul => {
                    self.push(b".", body);
                    self.state = State::DotNul;
                }
                b'\r' | b'\n' => {
                    self.fail(BodyFault::LoneLfInBody);
                    self.text(byte, body);
                }
                _ => self.text(byte, body),
            },
            State::End => {}
        }
    }

    /// One byte within a line.
    fn text(&mut self, byte: u8, body: &mut Vec<u8>) {
        match byte {
            b'\r' => self.state = State::TextCr,
            b'\n' => self.lone(Before::HeldLf, body),
            _ => {
                self.push(&[byte], body);
                self.state = State::Text;
            }
        }
    }

    fn line_end(&mut self, body: &mut Vec<u8>) {
        self.push_line_end(body);
        self.state = State::LineStart(Before::Crlf);
    }

    /// A lone CR or LF; `held` is the form that keeps it as it is.
    fn lone(&mut self, held: Before, body: &mut Vec<u8>) {
        self.state = match self.lone_policy() {
            LoneLf::Ignore => State::LineStart(held),
            LoneLf::Fix => {
                self.push_line_end(body);
                State::LineStart(Before::Repaired)
            }
            LoneLf::Pedantic => {
                self.fail_lone();
                State::LineStart(Before::Repaired)
            }
        };
    }

    fn release(&mut self, before: Before, body: &mut Vec<u8>) {
        match before {
            Before::Crlf | Before::Stuffed | Before::Repaired => {}
            Before::HeldCr => self.push(b"\r", body),
            Before::HeldLf => self.push(b"\n", body),
        }
    }

    /// A dot line that does not end the data: refused, or written as a line with one dot.
    fn dot_line(&mut self, before: Before, ended: bool, body: &mut Vec<u8>) {
        if self.lone_policy() == LoneLf::Pedantic {
            return self.fail_lone();
        }
        if matches!(before, Before::HeldCr | Before::HeldLf) {
            self.push_line_end(body);
        }
        self.push(b".", body);
        if ended {
            self.push_line_end(body);
        }
    }

    fn lone_policy(&self) -> LoneLf {
        if self.in_headers { self.rules.lone_in_headers } else { self.rules.lone_in_body }
    }

    fn fail_lone(&mut self) {
        self.fail(if self.in_headers { BodyFault::LoneLfInHeaders } else { BodyFault::LoneLfInBody });
    }

    fn fail(&mut self, fault: BodyFault) {
        self.fault.get_or_insert(fault);
        self.dropped = true;
    }

    fn push(&mut self, content: &[u8], body: &mut Vec<u8>) {
        self.line_empty = false;
        self.write(content, body);
    }

    fn push_line_end(&mut self, body: &mut Vec<u8>) {
        self.write(b"\r\n", body);
        if std::mem::replace(&mut self.line_empty, true) {
            self.in_headers = false;
        }
    }

    fn write(&mut self, content: &[u8], body: &mut Vec<u8>) {
        self.size += content.len() as u64;
        let header_too_large = self.in_headers && self.size > self.rules.header_size_max;
        // The limit that is passed first is the fault, however many octets came at once.
        if header_too_large && self.rules.header_size_max < self.rules.size_max {
            self.fail(BodyFault::HeaderTooLarge);
        }
        if self.size > self.rules.size_max {
            self.fail(BodyFault::TooLarge);
        }
        if !self.dropped {
            body.extend_from_slice(content);
        }
    }
}

/// How many octets at the beginning hold only whole CRLFs, no line that begins with a dot or a NUL, and end within a line.
///
/// Works in blocks without a branch in them, which the compiler turns into vector code: line-by-line search costs 10 ns a
/// line, this about 0.1 ns an octet.
fn clean_blocks(input: &[u8]) -> usize {
    const BLOCK: usize = 256;
    if input.first() == Some(&b'\n') {
        return 0;
    }
    let mut at = 0;
    while let Some(block) = input.get(at..at + BLOCK + 1) {
        let mut odd = 0_u8;
        for (&byte, &next) in block[..BLOCK].iter().zip(&block[1..]) {
            let torn = (byte == b'\r') as u8 ^ (next == b'\n') as u8;
            let begins = (byte == b'\n') as u8 & ((next == b'.') as u8 | (next == 0) as u8);
            odd |= torn | begins;
        }
        if odd != 0 {
            break;
        }
        at += BLOCK;
    }
    while at > 0 && matches!(input[at - 1], b'\r' | b'\n') {
        at -= 1;
    }
    at
}

#[cfg(test)]
#[path = "body_tests.rs"]
mod tests;
