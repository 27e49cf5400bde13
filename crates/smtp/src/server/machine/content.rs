//! The machine's part from DATA or BDAT to the reply at the end (RFC 5321 section 4.1.1.4, RFC 3030).

use super::{Action, BAD_SEQUENCE, Machine, Mode};
use crate::Reply;
use crate::reply::push_number;
use crate::server::body::{BodyReader, BodyRules, Progress};
use crate::server::command;
use crate::server::handler::{BodyFault, Phase, Settings};
use crate::server::input::Input;

/// From an accepted MAIL to the reply after the content.
#[derive(Debug)]
pub(super) struct Transaction {
    pub smtputf8: bool,
    binary: bool,
    pub recipients: u32,
    pub content: Content,
    /// The content could not be stored: the reply at its end.
    storage: Option<Reply>,
}

#[derive(Debug)]
pub(super) enum Content {
    None,
    Data(BodyReader),
    Chunks(BodyReader),
    /// The first BDAT was refused: all that follow are, up to RSET.
    Refused,
}

impl Transaction {
    pub fn new(smtputf8: bool, binary: bool) -> Transaction {
        Transaction { smtputf8, binary, recipients: 0, content: Content::None, storage: None }
    }

    pub fn has_content(&self) -> bool {
        matches!(self.content, Content::Data(_) | Content::Chunks(_))
    }

    fn reader(&mut self) -> Option<&mut BodyReader> {
        match &mut self.content {
            Content::Data(reader) | Content::Chunks(reader) => Some(reader),
            Content::None | Content::Refused => None,
        }
    }
}

impl Machine {
    pub(super) fn data(&mut self, out: &mut Vec<u8>) -> Action {
        match &self.transaction {
            None => self.refuse(self.phase(), Reply::new(503, (5, 5, 1), "DATA without MAIL FROM"), out),
            Some(Transaction { content: Content::None, recipients: 0, .. }) => {
                self.refuse(Phase::RcptTo, Reply::new(503, (5, 5, 1), "DATA without RCPT TO"), out)
            }
            // RFC 3030 section 3: BINARYMIME needs BDAT.
            Some(Transaction { content: Content::None, binary: false, .. }) => Action::Data,
            Some(_) => self.refuse(Phase::RcptTo, BAD_SEQUENCE, out),
        }
    }

    /// `None`: the machine goes on with the chunk, whose bytes follow even where it is refused: they must never be taken for
    /// commands.
    pub(super) fn bdat(&mut self, argument: &[u8], out: &mut Vec<u8>) -> Option<Action> {
        let unknown = Reply::new(500, (5, 5, 2), "unrecognized command");
        let Some((size, last)) = command::chunk(argument) else {
            let malformed = Reply::new(501, (5, 5, 4), "invalid arguments to BDAT");
            let reply = if self.capabilities.chunking { malformed } else { unknown };
            return Some(self.refuse(self.phase(), reply, out));
        };
        let refusal = match &self.transaction {
            _ if !self.capabilities.chunking => Some(unknown),
            None => Some(Reply::new(503, (5, 5, 1), "BDAT without MAIL FROM")),
            Some(Transaction { content: Content::None, recipients: 0, .. }) => {
                Some(Reply::new(503, (5, 5, 1), "BDAT without RCPT TO"))
            }
            Some(Transaction { content: Content::Refused | Content::Data(_), .. }) => Some(BAD_SEQUENCE),
            Some(Transaction { content: Content::None | Content::Chunks(_), .. }) => None,
        };
        if let Some(reply) = refusal {
            self.mode = Mode::EatChunk { left: size, phase: Some(self.phase()), reply };
            return None;
        }
        if size == 0 && self.fruitless(out) {
            return Some(Action::Refused(self.phase(), super::TOO_MANY_ERRORS.closing()));
        }
        self.mode = Mode::Chunk { size, left: size, last };
        let first = self.transaction.as_ref().is_some_and(|transaction| matches!(transaction.content, Content::None));
        first.then_some(Action::Data)
    }

    /// The answer to `Action::Data`; `None`: go on.
    pub fn data_begun(&mut self, reply: Option<Reply>, out: &mut Vec<u8>) {
        let chunk = match self.mode {
            Mode::Chunk { left, .. } => Some(left),
            _ => None,
        };
        let Some(transaction) = &mut self.transaction else { return };
        match (reply.filter(|reply| !reply.is_positive()), chunk) {
            (Some(reply), Some(left)) if !reply.close => {
                transaction.content = Content::Refused;
                self.mode = Mode::EatChunk { left, phase: None, reply };
            }
            (Some(reply), _) => self.say(&reply, out),
            (None, Some(_)) => transaction.content = Content::Chunks(BodyReader::chunks(rules(&self.settings))),
            (None, None) => {
                transaction.content = Content::Data(BodyReader::data(rules(&self.settings)));
                self.mode = Mode::Data;
                self.say(&CONTINUE, out);
            }
        }
    }

    /// The answer to `Action::Body`: moves content from the input to the message's buffer.
    pub fn read_body(&mut self, input: &mut Input, body: &mut Vec<u8>) {
        let Some(transaction) = &mut self.transaction else { return };
        let failed = transaction.storage.is_some();
        let Some(reader) = transaction.reader() else { return };
        match &mut self.mode {
            Mode::Data => match reader.feed(input.unread(), body) {
                Progress::More => input.clear(),
                Progress::End { consumed } => {
                    input.consume(consumed);
                    self.mode = Mode::BodyEnd;
                }
            },
            Mode::Chunk { size, left, last } => {
                let unread = input.unread();
                let count = usize::try_from(*left).unwrap_or(usize::MAX).min(unread.len());
                reader.feed(&unread[..count], body);
                input.consume(count);
                *left -= count as u64;
                if *left > 0 {
                    return;
                }
                if *last {
                    reader.finish(body);
                }
                // A faulty message is refused at once, not at its last chunk (RFC 3030 section 2).
                let ended = *last || failed || reader.fault().is_some();
                self.mode = if ended { Mode::BodyEnd } else { Mode::ChunkEnd { size: *size } };
            }
            _ => {}
        }
    }

    pub(super) fn chunk_read(&mut self, size: u64, out: &mut Vec<u8>) {
        self.mode = Mode::Command;
        out.extend_from_slice(if self.capabilities.enhanced { b"250 2.0.0 " } else { b"250 " });
        push_number(size, out);
        out.extend_from_slice(b" octets received\r\n");
    }

    /// Eats what is there of a refused chunk; its reply comes after the last octet.
    pub(super) fn eat_chunk(&mut self, input: &mut Input, out: &mut Vec<u8>) -> Option<Action> {
        let Mode::EatChunk { left, phase, reply } = &mut self.mode else { return None };
        let count = usize::try_from(*left).unwrap_or(usize::MAX).min(input.unread().len());
        input.consume(count);
        *left -= count as u64;
        if *left > 0 {
            return None;
        }
        let (phase, reply) = (*phase, reply.clone());
        self.mode = Mode::Command;
        match phase {
            Some(phase) => Some(self.refuse(phase, reply, out)),
            None => {
                self.say(&reply, out);
                None
            }
        }
    }

    /// Where the content could not be stored: the rest is read and dropped, and `reply` is what its end gets.
    pub fn body_failed(&mut self, reply: Reply) {
        if let Some(transaction) = &mut self.transaction {
            if let Some(reader) = transaction.reader() {
                reader.drop_content();
            }
            transaction.storage.get_or_insert(reply);
        }
    }

    /// Whether what is read of the content goes nowhere.
    pub fn body_is_dropped(&self) -> bool {
        self.transaction.as_ref().is_none_or(|transaction| transaction.storage.is_some())
    }

    /// For `Action::BodyEnd`: what was wrong with the content.
    pub fn body_fault(&mut self) -> Option<BodyFault> {
        self.transaction.as_mut().and_then(Transaction::reader).and_then(|reader| reader.fault())
    }

    /// For `Action::BodyEnd`: the reply of `body_failed`, which comes before any other.
    pub fn body_failure(&mut self) -> Option<Reply> {
        self.transaction.as_mut().and_then(|transaction| transaction.storage.take())
    }

    /// The answer to `Action::BodyEnd`: the message's fate is decided.
    pub fn body_ended(&mut self, reply: &Reply, out: &mut Vec<u8>) {
        self.transaction = None;
        self.fruitless_commands = 0;
        self.mode = Mode::Command;
        self.say(reply, out);
    }
}

fn rules(settings: &Settings) -> BodyRules {
    BodyRules {
        size_max: settings.max_message_size,
        header_size_max: settings.max_header_size,
        lone_in_headers: settings.lone_lf_in_headers,
        lone_in_body: settings.lone_lf_in_body,
    }
}

/// Two blanks, and the backslashes are meant.
static CONTINUE: Reply = Reply::new(354, (3, 0, 0), "continue.  finished with \"\\r\\n.\\r\\n\"");
