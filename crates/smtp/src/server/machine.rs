//! One session as a machine without I/O: bytes in, replies out, and questions to whoever knows what the commands mean
//! (RFC 5321 sections 3 and 4).
//!
//! `next` takes commands from the input and says what must happen; the driver does it and hands the answer to the method of
//! the same name, until `next` says `Read`. Replies are appended to `out` in the order of their commands, so a pipelined
//! group leaves in one write. What belongs to one transaction is one value that is made, and dropped, whole.

mod auth;
mod content;
mod trusted;

pub use trusted::PeerChange;

use super::command::{self, Verb};
use super::date;
use super::envelope::{self, EnvelopeError, MailFacts};
use super::extensions::{Capabilities, Standing, write_ehlo};
use super::handler::{AuthOutcome, Ended, MailCommand, Peer, Phase, RcptCommand, Settings};
use super::input::{AUTH_LINE_SIZE_MAX, Input, Taken, command_size_max};
use crate::Reply;
use crate::reply::push_text;
use crate::sasl::Exchange;
use content::{Content, Transaction};
use std::sync::Arc;
use std::time::SystemTime;

/// Commands in a row that bring no message (NOOP, RSET, VRFY, EHLO ...).
pub const FRUITLESS_COMMANDS_MAX: u32 = 1000;
/// Failed AUTHs; the last of them ends the session.
pub const AUTH_FAILURES_MAX: u32 = 3;

/// What must happen next. Each but `Read`, `Refused`, `Close` is answered by the method of its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// More input. What is in `out` must be sent first.
    Read,
    /// `Machine::hello_name` said HELO or EHLO.
    Hello {
        esmtp: bool,
    },
    /// `Machine::mail_command`.
    Mail,
    /// `Machine::rcpt_command`.
    Rcpt,
    /// DATA, or the first BDAT.
    Data,
    /// Content is there: lend the message's buffer.
    Body,
    /// The content is whole, or faulty.
    BodyEnd,
    Reset,
    /// The `220` is in `out`. Send it, forget the input, shake hands.
    StartTls,
    /// `Machine::peer_change`.
    PeerChange,
    /// `Machine::context_pairs`.
    SetContext,
    DumpContext,
    /// Find the secret of `Machine::exchange`'s user.
    Secret,
    /// Verify the password of `Machine::exchange`.
    Verify,
    Authenticate(AuthOutcome),
    /// The machine refused a command; the reply is in `out`.
    Refused(Phase, Reply),
    /// Send what is in `out`, then close.
    Close(Ended),
}

/// The machine of one session.
#[derive(Debug)]
pub struct Machine {
    settings: Arc<Settings>,
    capabilities: Capabilities,
    peer: Peer,
    mode: Mode,
    /// Comes before anything that the input holds.
    pending: Option<Action>,
    greeted: Greeted,
    standing: Standing,
    transaction: Option<Transaction>,
    exchange: Option<Exchange>,
    realm: Option<String>,
    protocol_errors: u32,
    fruitless_commands: u32,
    auth_failures: u32,
    // The last command of each kind, kept for the memory of its strings.
    hello_name: String,
    mail: MailCommand,
    mail_facts: MailFacts,
    rcpt: RcptCommand,
    peer_change: Option<PeerChange>,
    context_pairs: Vec<(String, Vec<u8>)>,
}

#[derive(Debug)]
enum Mode {
    Command,
    /// The client's answer to an AUTH challenge comes next.
    Sasl,
    Data,
    Chunk {
        size: u64,
        left: u64,
        last: bool,
    },
    /// All of a chunk that is not the last has been read.
    ChunkEnd {
        size: u64,
    },
    /// A chunk that was refused: it is eaten before the reply. With a phase: the machine itself refused it.
    EatChunk {
        left: u64,
        phase: Option<Phase>,
        reply: Reply,
    },
    BodyEnd,
    Closing(Ended),
}

/// How far the session has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Greeted {
    /// Refused at the greeting: QUIT alone is left (RFC 5321 section 3.1).
    Refused,
    Not,
    /// HELO or EHLO was given.
    Yes,
}

impl Machine {
    pub fn new(settings: Arc<Settings>, peer: Peer) -> Machine {
        Machine {
            capabilities: Capabilities::of(&settings),
            settings,
            peer,
            mode: Mode::Command,
            pending: None,
            greeted: Greeted::Not,
            standing: Standing::default(),
            transaction: None,
            exchange: None,
            realm: None,
            protocol_errors: 0,
            fruitless_commands: 0,
            auth_failures: 0,
            hello_name: String::new(),
            mail: MailCommand::default(),
            mail_facts: MailFacts::default(),
            rcpt: RcptCommand::default(),
            peer_change: None,
            context_pairs: Vec::new(),
        }
    }

    /// Takes up settings that may have changed. Cheap when they have not.
    pub fn set_settings(&mut self, settings: Arc<Settings>) {
        if !Arc::ptr_eq(&settings, &self.settings) {
            self.capabilities = Capabilities::of(&settings);
            self.settings = settings;
        }
    }

    pub fn settings(&self) -> &Arc<Settings> {
        &self.settings
    }

    pub fn peer(&self) -> &Peer {
        &self.peer
    }

    pub fn is_tls(&self) -> bool {
        self.standing.tls
    }

    pub fn hello_name(&self) -> &str {
        &self.hello_name
    }

    pub fn mail_command(&self) -> &MailCommand {
        &self.mail
    }

    pub fn rcpt_command(&self) -> &RcptCommand {
        &self.rcpt
    }

    /// Whether the client is within a message's content: such a session may finish it when the server shuts down.
    pub fn in_content(&self) -> bool {
        match self.mode {
            Mode::Data | Mode::BodyEnd | Mode::Chunk { .. } | Mode::ChunkEnd { .. } => true,
            _ => self.transaction.as_ref().is_some_and(Transaction::has_content),
        }
    }

    /// The greeting (`220`), or what the connect hooks said in its place.
    pub fn greet(&mut self, reply: Option<Reply>, now: SystemTime, out: &mut Vec<u8>) {
        match reply {
            Some(reply) => {
                self.say(&reply, out);
                if !reply.is_positive() {
                    self.greeted = Greeted::Refused;
                }
            }
            None => self.say_greeting(now, out),
        }
    }

    fn say_greeting(&self, now: SystemTime, out: &mut Vec<u8>) {
        match &self.settings.static_banner {
            Some(banner) => push_text(banner, out),
            None => {
                out.extend_from_slice(b"220 ");
                if self.capabilities.enhanced {
                    out.extend_from_slice(b"2.0.0 ");
                }
                push_text(&self.settings.hostname, out);
                out.extend_from_slice(b" ESMTP Posthaste ");
                date::push(now, out);
            }
        }
        out.extend_from_slice(b"\r\n");
    }

    /// The next thing to do. `out` collects replies.
    pub fn next(&mut self, input: &mut Input, out: &mut Vec<u8>) -> Action {
        loop {
            if let Some(action) = self.pending.take() {
                return action;
            }
            let action = match &self.mode {
                Mode::Closing(how) => return Action::Close(*how),
                Mode::BodyEnd => return Action::BodyEnd,
                Mode::Data | Mode::Chunk { left: 1.., .. } if input.is_empty() => return Action::Read,
                Mode::Data | Mode::Chunk { .. } => return Action::Body,
                Mode::EatChunk { left: 1.., .. } if input.is_empty() => return Action::Read,
                Mode::EatChunk { .. } => self.eat_chunk(input, out),
                Mode::ChunkEnd { size } => {
                    let size = *size;
                    self.chunk_read(size, out);
                    None
                }
                Mode::Sasl => match input.take_line(|_| AUTH_LINE_SIZE_MAX) {
                    Taken::Line { begin, end } => self.sasl_line(input.line(begin, end), out),
                    taken => match self.no_line(taken, out) {
                        Action::Read => return Action::Read,
                        action => {
                            self.end_exchange();
                            Some(action)
                        }
                    },
                },
                Mode::Command => match input.take_line(command_size_max) {
                    Taken::Line { begin, end } => self.command(input.line(begin, end), !input.is_empty(), out),
                    taken => return self.no_line(taken, out),
                },
            };
            if let Some(action) = action {
                return action;
            }
        }
    }

    /// What to do where there is no line to take.
    fn no_line(&mut self, taken: Taken, out: &mut Vec<u8>) -> Action {
        match taken {
            Taken::TooLong => self.refuse(self.phase(), Reply::new(500, (5, 5, 2), "line too long"), out),
            Taken::Endless => self.refuse(self.phase(), TOO_MANY_ERRORS.closing(), out),
            Taken::Partial | Taken::Line { .. } => Action::Read,
        }
    }

    /// One command. `None`: it has its reply.
    fn command(&mut self, line: &[u8], more_input: bool, out: &mut Vec<u8>) -> Option<Action> {
        let (verb, argument) = command::split(line);
        let fruitful = matches!(verb, Verb::Rcpt | Verb::Data | Verb::Bdat | Verb::Quit);
        if !fruitful && self.fruitless(out) {
            return Some(Action::Refused(self.phase(), TOO_MANY_ERRORS.closing()));
        }
        if self.greeted == Greeted::Refused && verb != Verb::Quit {
            return Some(self.refuse(Phase::Connected, BAD_SEQUENCE, out));
        }
        let no_argument = command::trim_end(argument).is_empty();
        let action = match verb {
            Verb::Mail => self.mail(argument, out),
            Verb::Rcpt => self.rcpt(argument, out),
            Verb::Data if no_argument => self.data(out),
            Verb::Data => self.refuse(Phase::Data, Reply::new(501, (5, 5, 4), "unexpected argument to DATA"), out),
            Verb::Bdat => return self.bdat(argument, out),
            Verb::Ehlo => self.hello(true, argument, out),
            Verb::Helo => self.hello(false, argument, out),
            Verb::Rset if no_argument => Action::Reset,
            Verb::Rset => self.refuse(self.phase(), Reply::new(501, (5, 5, 4), "invalid arguments to RSET"), out),
            Verb::Noop => {
                self.say(&OK, out);
                return None;
            }
            Verb::Quit if no_argument => {
                self.say_hosted(221, "2.3.0", "closing connection", out);
                self.mode = Mode::Closing(Ended::Quit);
                return None;
            }
            Verb::Vrfy => {
                self.say(&Reply::new(252, (2, 1, 5), "cannot verify, but will accept"), out);
                return None;
            }
            Verb::Help => {
                self.say(&Reply::new(214, (2, 0, 0), "see RFC 5321"), out);
                return None;
            }
            Verb::Expn => self.refuse(self.phase(), Reply::new(502, (5, 5, 1), "EXPN not implemented"), out),
            Verb::StartTls if self.capabilities.starttls => self.starttls(no_argument, more_input, out),
            Verb::Auth if self.capabilities.announces_auth() => return self.auth(argument, out),
            Verb::XClient if self.capabilities.xclient => self.xclient(argument, out),
            Verb::XRemoteIp if self.capabilities.xremoteip => self.xremoteip(argument, out),
            Verb::XSetContext if self.capabilities.xsetcontext => self.xsetcontext(argument, out),
            Verb::XDumpContext if self.capabilities.xdumpcontext && no_argument => Action::DumpContext,
            Verb::XDumpContext if self.capabilities.xdumpcontext => self.refuse(self.phase(), NO_PARAMETERS, out),
            Verb::Quit => self.refuse(self.phase(), NO_PARAMETERS, out),
            _ => self.refuse(self.phase(), Reply::new(500, (5, 5, 2), "unrecognized command"), out),
        };
        Some(action)
    }

    /// Counts a command that brings no message; true: one too many, and the reply is given.
    fn fruitless(&mut self, out: &mut Vec<u8>) -> bool {
        self.fruitless_commands += 1;
        let over = self.fruitless_commands > FRUITLESS_COMMANDS_MAX;
        if over {
            self.say(&TOO_MANY_ERRORS.closing(), out);
        }
        over
    }

    fn hello(&mut self, esmtp: bool, argument: &[u8], out: &mut Vec<u8>) -> Action {
        let Some(name) = command::hello_name(argument, self.capabilities.smtputf8) else {
            let text = if esmtp { "invalid EHLO" } else { "invalid HELO" };
            return self.refuse(Phase::Ehlo, Reply::new(501, (5, 5, 2), text), out);
        };
        name.clone_into(&mut self.hello_name);
        // A second one is legal at any time and acts as RSET.
        self.transaction = None;
        Action::Hello { esmtp }
    }

    /// The answer to `Action::Hello`; `None`: the standard reply. Settings first, if a hook has changed them.
    pub fn helloed(&mut self, esmtp: bool, reply: Option<Reply>, out: &mut Vec<u8>) {
        let refusal = reply.as_ref().filter(|reply| !reply.is_positive());
        if let Some(refusal) = refusal {
            self.greeted = Greeted::Not;
            return self.say(refusal, out);
        }
        self.greeted = Greeted::Yes;
        if esmtp {
            let first = match reply {
                Some(reply) => reply.text.into_owned(),
                None => format!("{} says EHLO to {}", self.settings.hostname, self.peer.remote),
            };
            write_ehlo(&first, &self.settings, &self.capabilities, self.standing, out);
        } else if let Some(reply) = reply {
            self.say(&reply, out);
        } else {
            let text = format!("says HELO to {}", self.peer.remote);
            self.say_hosted(250, "2.0.0", &text, out);
        }
    }

    fn mail(&mut self, argument: &[u8], out: &mut Vec<u8>) -> Action {
        if self.settings.require_ehlo && self.greeted != Greeted::Yes {
            return self.refuse(Phase::Ehlo, Reply::new(550, (5, 5, 1), "RFC2821 HELO/EHLO needed"), out);
        }
        if self.transaction.is_some() {
            let reply = Reply::new(501, (5, 5, 1), "MAIL FROM already established");
            return self.refuse(Phase::RcptTo, reply, out);
        }
        match envelope::mail(argument, &self.settings, &self.capabilities, &mut self.mail) {
            Ok(facts) => self.mail_facts = facts,
            Err(error) => return self.refuse(Phase::MailFrom, refusal(error, "MAIL FROM syntax error"), out),
        }
        let max = self.settings.max_message_size;
        if max > 0 && self.mail.size.is_some_and(|size| size > max) {
            return self.refuse(Phase::MailFrom, Reply::new(552, (5, 3, 4), "message size limit exceeded"), out);
        }
        Action::Mail
    }

    /// The answer to `Action::Mail`.
    pub fn mailed(&mut self, reply: Option<Reply>, out: &mut Vec<u8>) {
        if reply.as_ref().is_none_or(Reply::is_positive) {
            self.transaction = Some(Transaction::new(self.mail.smtputf8, self.mail_facts.binary));
        }
        self.say_or(reply, &MAIL_ACCEPTED, out);
    }

    fn rcpt(&mut self, argument: &[u8], out: &mut Vec<u8>) -> Action {
        let Some(transaction) = &self.transaction else {
            let reply = Reply::new(503, (5, 5, 1), "RCPT TO without MAIL FROM");
            return self.refuse(self.phase(), reply, out);
        };
        if !matches!(transaction.content, Content::None) {
            return self.refuse(Phase::RcptTo, BAD_SEQUENCE, out);
        }
        let utf8 = transaction.smtputf8;
        match envelope::rcpt(argument, &self.settings, &self.capabilities, utf8, &mut self.rcpt) {
            Ok(()) => Action::Rcpt,
            Err(error) => self.refuse(Phase::RcptTo, refusal(error, "RCPT TO syntax error"), out),
        }
    }

    /// The answer to `Action::Rcpt`.
    pub fn rcpted(&mut self, reply: Option<Reply>, out: &mut Vec<u8>) {
        if reply.as_ref().is_none_or(Reply::is_positive)
            && let Some(transaction) = &mut self.transaction
        {
            transaction.recipients = transaction.recipients.saturating_add(1);
        }
        self.say_or(reply, &RCPT_ACCEPTED, out);
    }

    /// The answer to `Action::Reset`: the transaction is gone.
    pub fn reset(&mut self, out: &mut Vec<u8>) {
        self.transaction = None;
        self.say(&OK, out);
    }

    /// The server, not the command, wants the session to end: a shutdown, a reload, a time limit.
    pub fn farewell(&mut self, reply: Reply, out: &mut Vec<u8>) {
        self.pending = None;
        self.say(&reply.closing(), out);
    }

    /// `421 4.4.2 HOST what`, and the end.
    pub fn time_out(&mut self, what: &str, out: &mut Vec<u8>) {
        self.pending = None;
        self.say_hosted(421, "4.4.2", what, out);
        self.mode = Mode::Closing(Ended::ByServer);
    }

    fn starttls(&mut self, no_argument: bool, more_input: bool, out: &mut Vec<u8>) -> Action {
        if !no_argument {
            return self.refuse(self.phase(), NO_PARAMETERS, out);
        }
        if self.standing.tls {
            return self.refuse(self.phase(), BAD_SEQUENCE, out);
        }
        if self.settings.tls.is_none() {
            return self.refuse(self.phase(), Reply::new(454, (4, 7, 0), "TLS not available"), out);
        }
        if more_input && self.settings.starttls_injection_reject {
            // Whoever put these bytes here wants them to be read as if TLS had protected them.
            let reply = Reply::new(554, (5, 5, 1), "data after STARTTLS").closing();
            return self.refuse(self.phase(), reply, out);
        }
        self.say(&Reply::new(220, (2, 0, 0), "continue"), out);
        Action::StartTls
    }

    /// The answer to `Action::StartTls`, and the beginning of a session with an implicit handshake: all that the client said
    /// before is forgotten (RFC 3207 section 4.2).
    pub fn tls_started(&mut self) {
        self.standing = Standing { tls: true, authenticated: false };
        self.greeted = Greeted::Not;
        self.transaction = None;
        self.end_exchange();
    }

    fn end_exchange(&mut self) {
        self.exchange = None;
        if matches!(self.mode, Mode::Sasl) {
            self.mode = Mode::Command;
        }
    }

    /// The rejectlog's name for where the session is.
    fn phase(&self) -> Phase {
        match (&self.transaction, self.greeted) {
            (Some(_), _) => Phase::RcptTo,
            (None, Greeted::Yes) => Phase::MailFrom,
            (None, Greeted::Not | Greeted::Refused) => Phase::Ehlo,
        }
    }

    /// Refuses a command. A client that makes too many mistakes of protocol is sent away.
    fn refuse(&mut self, phase: Phase, reply: Reply, out: &mut Vec<u8>) -> Action {
        let mut reply = reply;
        match reply.code {
            500 | 501 | 502 | 504 | 555 => {
                self.protocol_errors = self.protocol_errors.saturating_add(1);
                let max = self.settings.max_session_errors;
                if max > 0 && self.protocol_errors > max {
                    reply = TOO_MANY_ERRORS.closing();
                }
            }
            // RCPT, DATA and BDAT out of order bring a message no nearer either.
            503 => {
                self.fruitless_commands = self.fruitless_commands.saturating_add(1);
                if self.fruitless_commands > FRUITLESS_COMMANDS_MAX {
                    reply = TOO_MANY_ERRORS.closing();
                }
            }
            _ => {}
        }
        self.say(&reply, out);
        Action::Refused(phase, reply)
    }

    fn say_or(&mut self, reply: Option<Reply>, standard: &Reply, out: &mut Vec<u8>) {
        self.say(reply.as_ref().unwrap_or(standard), out);
    }

    fn say(&mut self, reply: &Reply, out: &mut Vec<u8>) {
        reply.write_to(self.capabilities.enhanced, out);
        if reply.close {
            self.mode = Mode::Closing(Ended::ByServer);
        }
    }

    /// A one-line reply that begins with our name.
    fn say_hosted(&self, code: u16, enhanced: &str, text: &str, out: &mut Vec<u8>) {
        crate::reply::push_number(u64::from(code), out);
        out.push(b' ');
        if self.capabilities.enhanced {
            out.extend_from_slice(enhanced.as_bytes());
            out.push(b' ');
        }
        push_text(&self.settings.hostname, out);
        out.push(b' ');
        push_text(text, out);
        out.extend_from_slice(b"\r\n");
    }
}

fn refusal(error: EnvelopeError, syntax: &'static str) -> Reply {
    match error {
        EnvelopeError::Syntax => Reply::new(501, (5, 5, 2), syntax),
        EnvelopeError::Parameter => Reply::new(555, (5, 5, 4), "unsupported parameter"),
        EnvelopeError::NeedsUtf8 => Reply::new(553, (5, 6, 7), "SMTPUTF8 required"),
        EnvelopeError::NullSender => Reply::new(550, (5, 7, 1), "null envelope sender not allowed"),
    }
}

static OK: Reply = Reply::new(250, (2, 0, 0), "OK");
static MAIL_ACCEPTED: Reply = Reply::new(250, (2, 0, 0), "MAIL FROM accepted");
static RCPT_ACCEPTED: Reply = Reply::new(250, (2, 0, 0), "RCPT TO accepted");
const BAD_SEQUENCE: Reply = Reply::new(503, (5, 5, 1), "bad sequence of commands");
const NO_PARAMETERS: Reply = Reply::new(501, (5, 5, 4), "Syntax error (no parameters allowed)");
const TOO_MANY_ERRORS: Reply = Reply::new(421, (4, 7, 0), "too many errors");
