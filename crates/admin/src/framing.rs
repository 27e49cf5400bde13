//! The frames of the control channel, big-endian, without I/O.
//!
//!     request:  u16 type = 1 · u16 length · command bytes
//!     reply:    u16 type = 1 · u16 length · bytes
//!               u16 type = 2 · u32 length · bytes      (longer than 65535 bytes)
//!
//! Source: the protocol that public clients of Momentum's console speak. Replies come one for each request, in order.

/// Longest reply that a client takes: more would only be a server gone mad.
pub const REPLY_MAX: usize = 256 << 20;

const TYPE_SHORT: u16 = 1;
const TYPE_LONG: u16 = 2;

/// The peer speaks another protocol; the connection must be closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    #[error("unknown frame type {0}")]
    UnknownType(u16),
    #[error("reply of {0} octets is too long")]
    TooLong(usize),
    #[error("command of {0} octets does not fit a frame")]
    CommandTooLong(usize),
}

/// Takes bytes as the socket gives them, and gives whole requests back. Holds at most one frame and one read.
#[derive(Debug, Default)]
pub struct Requests {
    bytes: Vec<u8>,
    at: usize,
}

impl Requests {
    /// Adds what was read.
    pub fn feed(&mut self, bytes: &[u8]) {
        if self.at > 0 {
            self.bytes.drain(..self.at);
            self.at = 0;
        }
        self.bytes.extend_from_slice(bytes);
    }

    /// The next whole command, if there is one.
    pub fn next_command(&mut self) -> Result<Option<Vec<u8>>, FrameError> {
        let rest = &self.bytes[self.at..];
        let Some((kind, rest)) = rest.split_first_chunk::<2>() else { return Ok(None) };
        let kind = u16::from_be_bytes(*kind);
        if kind != TYPE_SHORT {
            return Err(FrameError::UnknownType(kind));
        }
        let Some((length, rest)) = rest.split_first_chunk::<2>() else { return Ok(None) };
        let length = usize::from(u16::from_be_bytes(*length));
        let Some(command) = rest.get(..length) else { return Ok(None) };
        let command = command.to_vec();
        self.at += 4 + length;
        Ok(Some(command))
    }

    /// Nothing of a request has come in yet.
    pub fn is_empty(&self) -> bool {
        self.at == self.bytes.len()
    }
}

/// Appends the frame of a request.
pub fn encode_request(command: &[u8], out: &mut Vec<u8>) -> Result<(), FrameError> {
    let length = u16::try_from(command.len()).map_err(|_| FrameError::CommandTooLong(command.len()))?;
    out.extend_from_slice(&TYPE_SHORT.to_be_bytes());
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(command);
    Ok(())
}

/// Appends the frame of a reply: the short type wherever it fits. A text beyond the long type is cut.
pub fn encode_reply(text: &[u8], out: &mut Vec<u8>) {
    match u16::try_from(text.len()) {
        Ok(length) => {
            out.extend_from_slice(&TYPE_SHORT.to_be_bytes());
            out.extend_from_slice(&length.to_be_bytes());
            out.extend_from_slice(text);
        }
        Err(_) => {
            let length = u32::try_from(text.len()).unwrap_or(u32::MAX);
            out.extend_from_slice(&TYPE_LONG.to_be_bytes());
            out.extend_from_slice(&length.to_be_bytes());
            out.extend_from_slice(&text[..length as usize]);
        }
    }
}

/// The client's side: takes bytes, gives whole replies back.
#[derive(Debug, Default)]
pub struct Replies {
    bytes: Vec<u8>,
}

impl Replies {
    /// Adds what was read.
    pub fn feed(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// The next whole reply, if there is one.
    pub fn next_reply(&mut self) -> Result<Option<Vec<u8>>, FrameError> {
        let Some((kind, rest)) = self.bytes.split_first_chunk::<2>() else { return Ok(None) };
        let (head, length) = match (u16::from_be_bytes(*kind), rest) {
            (TYPE_SHORT, [a, b, ..]) => (4, usize::from(u16::from_be_bytes([*a, *b]))),
            (TYPE_LONG, [a, b, c, d, ..]) => (6, u32::from_be_bytes([*a, *b, *c, *d]) as usize),
            (TYPE_SHORT | TYPE_LONG, _) => return Ok(None),
            (unknown, _) => return Err(FrameError::UnknownType(unknown)),
        };
        if length > REPLY_MAX {
            return Err(FrameError::TooLong(length));
        }
        if self.bytes.len() < head + length {
            return Ok(None);
        }
        let reply = self.bytes[head..head + length].to_vec();
        self.bytes.drain(..head + length);
        Ok(Some(reply))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_come_out_whole_however_the_bytes_are_split() {
        let mut wire = Vec::new();
        let commands: [&[u8]; 4] = [b"version", b"", b"\nsummary", &[0xff; 65535]];
        for command in commands {
            encode_request(command, &mut wire).unwrap();
        }
        assert_eq!(&wire[..11], b"\x00\x01\x00\x07version");
        for step in [1, 2, 3, 7, 1000, wire.len()] {
            let mut requests = Requests::default();
            let mut found = Vec::new();
            for piece in wire.chunks(step) {
                requests.feed(piece);
                while let Some(command) = requests.next_command().unwrap() {
                    found.push(command);
                }
            }
            assert_eq!(found, commands, "{step}");
            assert!(requests.is_empty());
        }
    }

    #[test]
    fn an_unknown_type_is_an_error_as_soon_as_it_is_seen() {
        let mut requests = Requests::default();
        requests.feed(b"\x00");
        assert_eq!(requests.next_command(), Ok(None));
        requests.feed(b"\x02");
        assert_eq!(requests.next_command(), Err(FrameError::UnknownType(2)));
    }

    #[test]
    fn a_reply_is_short_up_to_65535_octets_and_long_beyond() {
        for (length, kind) in [(0, 1), (1, 1), (65535, 1), (65536, 2), (70000, 2)] {
            let text = vec![b'x'; length];
            let mut wire = Vec::new();
            encode_reply(&text, &mut wire);
            assert_eq!(wire[..2], [0, kind], "{length}");
            for step in [1, 5, wire.len()] {
                let mut replies = Replies::default();
                let mut found = Vec::new();
                for piece in wire.chunks(step) {
                    replies.feed(piece);
                    found.extend(replies.next_reply().unwrap());
                }
                assert!(found == [text.clone()], "{length} by {step}");
            }
        }
        let mut replies = Replies::default();
        replies.feed(b"\x00\x02\xff\xff\xff\xff");
        assert!(matches!(replies.next_reply(), Err(FrameError::TooLong(_))));
    }

    #[test]
    fn a_command_beyond_a_frame_is_refused() {
        assert_eq!(encode_request(&[0; 65536], &mut Vec::new()), Err(FrameError::CommandTooLong(65536)));
    }
}
