//! The client's side of a session without I/O (RFC 5321, 2920, 3207, 2033): replies in, commands and content out.
//!
//! A driver puts bytes into `input`, calls `advance`, writes what `out` holds, and fetches outcomes. At most two
//! transactions are under way: when the peer announces PIPELINING, the body of the first, its final dot and the commands
//! of the second leave in one write, so that a message costs one round trip. Replies come in the order of the commands;
//! `expected` is that order, and everything the machine knows about a reply is what stands at its front.
//!
//! No command is ever sent for a message after the peer said 421: what was not answered is `NotAttempted`.

mod replies;

use super::auth::Credentials;
use super::capabilities::Capabilities;
use super::commands;
use super::in_hand::{Expected, InHand, What, not_attempted, words};
use super::out::Out;
use super::reply::{Found, ReplyReader};
use super::settings::{Cause, Protocol, Settings, TlsMode};
use super::stage::{Stage, text};
use super::stuff::Stuffer;
use super::transaction::{Body, Failure, Kind, Outcome, Path, Refused, Transaction, is_sendable};
use bytes::Bytes;
use compact_str::CompactString;
use smallvec::SmallVec;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

/// Transactions under way at once: one whose final dot is out, one whose commands are.
pub const DEPTH_MAX: usize = 2;

/// The machine.
pub struct Client {
    settings: Arc<Settings>,
    phase: Phase,
    input: ReplyReader,
    pub(super) out: Out,
    expected: VecDeque<Expected>,
    transactions: VecDeque<InHand>,
    outcomes: VecDeque<Outcome>,
    capabilities: Capabilities,
    tls: bool,
    /// Whether this session can take further transactions.
    closing: bool,
    needs_rset: bool,
    /// Whom the session was, or is to be, authenticated as; set with the first transaction.
    identity: Option<Arc<Credentials>>,
    authenticated: bool,
    /// Transactions that had a reply.
    answered: u64,
    /// Replies so far.
    replies: u64,
    serial: u64,
    /// A buffer for the next transaction's commands.
    spare: Vec<u8>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Phase {
    SettingUp,
    /// The driver is to do the TLS handshake.
    Handshake,
    Ready,
    Failed(Failure),
    Closed,
}

impl Client {
    /// A session over a connection that stands; the peer's greeting is waited for.
    pub fn new(settings: Arc<Settings>) -> Client {
        let banner = Expected { what: What::Banner, serial: 0, end: 0 };
        Client {
            settings,
            phase: Phase::SettingUp,
            input: ReplyReader::default(),
            out: Out::default(),
            expected: VecDeque::from([banner]),
            transactions: VecDeque::new(),
            outcomes: VecDeque::new(),
            capabilities: Capabilities::default(),
            tls: false,
            closing: false,
            needs_rset: false,
            identity: None,
            authenticated: false,
            answered: 0,
            replies: 0,
            serial: 0,
            spare: Vec::new(),
        }
    }

    /// Where the driver puts what it has read.
    pub fn input(&mut self) -> &mut Vec<u8> {
        self.input.buffer()
    }

    /// What is to be written: a driver takes `Out::io_slices` and says by `Out::advance` how much has left.
    pub fn output(&mut self) -> &mut Out {
        &mut self.out
    }

    /// Whether more input is of use now.
    pub fn wants_input(&self) -> bool {
        !self.input.is_full()
    }

    /// Works off what was read.
    pub fn advance(&mut self) {
        while !matches!(self.phase, Phase::Failed(_) | Phase::Closed | Phase::Handshake) {
            match self.input.next() {
                Ok(Some(found)) => self.reply(&found),
                Ok(None) => break,
                Err(_) => return self.fail(Cause::NoReply),
            }
        }
        self.pump();
        if self.closing && self.expected.is_empty() && !self.transactions.is_empty() {
            self.close(); // nothing more is sent, so nothing more is answered
        }
    }

    /// The session stands and takes transactions.
    pub fn is_ready(&self) -> bool {
        self.phase == Phase::Ready
    }

    /// Why it never came to stand.
    pub fn failure(&self) -> Option<&Failure> {
        match &self.phase {
            Phase::Failed(failure) => Some(failure),
            _ => None,
        }
    }

    /// The driver is to do the TLS handshake now and then call `tls_established`.
    pub fn wants_handshake(&self) -> bool {
        self.phase == Phase::Handshake
    }

    /// TLS stands: everything known from before is dropped, and the session begins anew with EHLO (RFC 3207 section 4.2).
    pub fn tls_established(&mut self) {
        self.tls = true;
        self.phase = Phase::SettingUp;
        self.capabilities = Capabilities::default();
        self.hello();
    }

    /// The handshake failed, or the certificate is not good enough.
    pub fn tls_failed(&mut self, reply: &str) {
        self.give_up(Stage::HandshakingTls, reply.into(), true);
    }

    /// What the peer announced.
    pub fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    /// Transactions that were taken and have no outcome yet.
    pub fn in_hand(&self) -> usize {
        self.transactions.len()
    }

    /// Whether another transaction would be taken: the session stands and is not about to end.
    pub fn takes_more(&self) -> bool {
        self.phase == Phase::Ready && !self.closing && self.transactions.len() < DEPTH_MAX
    }

    /// Whether the session can be kept for later mail.
    pub fn is_reusable(&self) -> bool {
        self.phase == Phase::Ready && !self.closing
    }

    /// The next outcome, in the order of `submit`.
    pub fn outcome(&mut self) -> Option<Outcome> {
        self.outcomes.pop_front()
    }

    /// How long the present reply is waited for; `None`: for nothing.
    pub fn patience(&self) -> Option<Duration> {
        let timeouts = &self.settings.timeouts;
        let expected = self.expected.front()?;
        Some(match expected.what {
            What::Banner | What::Ehlo | What::Helo | What::StartTls | What::Auth(_) | What::Xclient => timeouts.ehlo,
            What::Mail => timeouts.mail,
            What::Rcpt(_) | What::Data => timeouts.rcpt,
            What::Dot | What::DotOf(_) | What::EmptyDot => timeouts.body,
            What::Rset | What::Quit => timeouts.rset,
        })
    }

    /// Changes whenever a reply was worked off, or one more is waited for: the driver then starts its wait anew. (The number of
    /// those that are waited for does not say it: the go-ahead to DATA goes, and the answer to the dot comes.)
    pub fn wait(&self) -> (u64, u64, usize) {
        (self.serial, self.replies, self.expected.len())
    }

    /// Takes a transaction. Its commands leave with the final dot of the one before, where the peer pipelines.
    pub fn submit(&mut self, transaction: &Transaction<'_>) -> Result<(), Refused> {
        if !self.takes_more() {
            return Err(Refused::Busy);
        }
        let is_first = self.answered == 0 && self.transactions.is_empty();
        if !is_first && transaction.auth != self.identity {
            return Err(Refused::Busy);
        }
        self.check(transaction)?;
        if is_first {
            self.identity = transaction.auth.clone();
        }
        self.serial += 1;
        let mut lines = std::mem::take(&mut self.spare);
        lines.clear();
        let mut ends = SmallVec::new();
        commands::transaction(transaction, &self.capabilities, &mut lines, &mut ends);
        let count = transaction.recipients.len();
        let announced = self.capabilities.xclient.as_deref();
        self.transactions.push_back(InHand {
            serial: self.serial,
            lines,
            ends,
            sent: 0,
            auth: transaction.auth.is_some() && !self.authenticated,
            xclient: transaction.xclient.as_ref().map(|args| (commands::xclient(args, announced), args.required)),
            content: Some(transaction.content.clone()),
            verdicts: SmallVec::from_elem(None, count),
            accepted: SmallVec::from_elem(false, count),
            mail_accepted: false,
            answered: false,
            content_queued: false,
            content_start: 0,
            content_end: 0,
        });
        self.pump();
        Ok(())
    }

    fn check(&self, transaction: &Transaction<'_>) -> Result<(), Refused> {
        let paths =
            || std::iter::once(transaction.sender).chain(transaction.recipients.iter().map(|recipient| recipient.path));
        if !paths().all(is_sendable) || transaction.recipients.iter().any(|recipient| recipient.path.local.is_empty()) {
            return Err(Refused::BadAddress);
        }
        if self.capabilities.size_max.is_some_and(|limit| transaction.size > limit) {
            return Err(Refused::TooLarge);
        }
        let is_ascii = |path: Path<'_>| path.local.is_ascii() && path.domain.is_ascii();
        if (transaction.smtputf8 || !paths().all(is_ascii)) && !self.capabilities.smtputf8 {
            return Err(Refused::NoUtf8);
        }
        Ok(())
    }

    /// Ends the session politely: only between transactions.
    pub fn quit(&mut self) {
        if self.phase == Phase::Ready && self.expected.is_empty() {
            self.closing = true;
            self.command(b"QUIT", What::Quit, 0);
        }
    }

    /// Whether the session is over.
    pub fn is_closed(&self) -> bool {
        matches!(self.phase, Phase::Closed | Phase::Failed(_))
    }

    /// The connection is of no use any more. Whoever waits for a reply gets its verdict here.
    pub fn fail(&mut self, cause: Cause) {
        if self.is_closed() {
            return;
        }
        let Some(expected) = self.expected.front().copied() else { return self.close() };
        let sent = expected.end <= self.out.written();
        let (stage, reply) = words(expected.what, sent, cause);
        if self.phase != Phase::Ready {
            return self.give_up(stage, reply.into(), expected.what == What::StartTls);
        }
        let reused = self.answered > 0;
        if let Some(at) = self.index(expected.serial) {
            let in_hand = &mut self.transactions[at];
            // A peer that closes a kept connection has said nothing about the message that was to follow.
            if !(reused && !in_hand.answered && cause != Cause::NoReply && cause != Cause::Unreadable) {
                in_hand.blame(expected.what, Kind::Transient, stage, reply.into());
            }
        }
        self.close();
    }

    /// Where the body comes from a file: the file, taken until `file_chunk` gives it back.
    pub(super) fn take_file(&mut self) -> Option<super::out::File> {
        self.out.take_file()
    }

    /// A chunk of it was read.
    pub(super) fn file_chunk(&mut self, file: super::out::File, chunk: Bytes) {
        if let Some(end) = self.out.put_file(file, chunk)
            && let Some(in_hand) = self.transactions.iter_mut().find(|in_hand| in_hand.content_end == u64::MAX)
        {
            in_hand.content_end = end;
        }
    }

    // ---- commands ----

    fn hello(&mut self) {
        self.hello_for(0);
    }

    fn hello_for(&mut self, serial: u64) {
        let (verb, what) = match self.settings.protocol {
            Protocol::Esmtp => ("EHLO", What::Ehlo),
            Protocol::Lmtp => ("LHLO", What::Ehlo),
            Protocol::Smtp => ("HELO", What::Helo),
        };
        let line = format!("{verb} {}", self.settings.hello);
        self.command(line.as_bytes(), what, serial);
    }

    fn may_fall_back(&self) -> bool {
        self.settings.protocol == Protocol::Esmtp && !self.tls
    }

    fn said_hello(&mut self) {
        if self.phase == Phase::Ready {
            return; // again, after XCLIENT
        }
        if !self.tls && self.settings.tls != TlsMode::No {
            if self.capabilities.starttls {
                return self.command(b"STARTTLS", What::StartTls, 0);
            }
            if self.settings.tls == TlsMode::Required {
                return self.give_up(Stage::AfterEhlo, text::STARTTLS_MISSING.into(), true);
            }
        }
        self.phase = Phase::Ready;
    }

    /// Sends whatever may be sent now.
    fn pump(&mut self) {
        if self.phase == Phase::Ready && !self.closing {
            let Some(at) = self.transactions.iter().position(|in_hand| !in_hand.content_queued) else { return };
            if !self.settle_first(at) {
                return;
            }
            let pipelining = self.settings.pipelining && self.capabilities.pipelining;
            let silent = self.expected.is_empty();
            if self.transactions[at].sent > 0 && (pipelining || !silent) {
                return;
            }
            if !pipelining && !silent {
                return;
            }
            if self.needs_rset && self.transactions[at].sent == 0 {
                let serial = self.transactions[at].serial;
                self.needs_rset = false;
                self.command(b"RSET", What::Rset, serial);
                if !pipelining {
                    return;
                }
            }
            self.send_lines(at, if pipelining { usize::MAX } else { 1 });
        }
    }

    /// AUTH and XCLIENT, which a transaction may want before its MAIL. False: not yet.
    fn settle_first(&mut self, at: usize) -> bool {
        let in_hand = &mut self.transactions[at];
        if !in_hand.auth && in_hand.xclient.is_none() {
            return true;
        }
        if !self.expected.is_empty() {
            return false;
        }
        let serial = in_hand.serial;
        if in_hand.auth {
            let Some(who) = self.identity.clone() else {
                in_hand.auth = false;
                return false;
            };
            if self.capabilities.auth.iter().any(|name| name == who.mechanism.name()) {
                self.auth_command(&who.command(), 0, serial);
            } else {
                in_hand.decide_all(Kind::Transient, Stage::AfterEhlo, text::AUTH_MISSING);
                self.close();
            }
            return false;
        }
        match in_hand.xclient.take() {
            Some((_, true)) if self.capabilities.xclient.is_none() => {
                in_hand.decide_all(Kind::Transient, Stage::AfterEhlo, text::XCLIENT_MISSING);
                self.finish(at, false);
                self.pump();
                return false;
            }
            Some(_) if self.capabilities.xclient.is_none() => {}
            Some((args, _)) if !args.is_empty() => {
                let line = format!("XCLIENT{args}");
                self.command(line.as_bytes(), What::Xclient, serial);
                return false;
            }
            _ => {}
        }
        true
    }

    fn send_lines(&mut self, at: usize, count: usize) {
        let in_hand = &mut self.transactions[at];
        let from = in_hand.sent;
        let to = from.saturating_add(count).min(in_hand.ends.len());
        let begin = if from == 0 { 0 } else { in_hand.ends[from - 1] };
        let base = self.out.position();
        self.out.small(&in_hand.lines[begin..in_hand.ends[to - 1]]);
        let last = in_hand.ends.len() - 1;
        for n in from..to {
            let what = match n {
                0 => What::Mail,
                n if n == last => What::Data,
                n => What::Rcpt(n - 1),
            };
            let end = base + (in_hand.ends[n] - begin) as u64;
            self.expected.push_back(Expected { what, serial: in_hand.serial, end });
        }
        in_hand.sent = to;
    }

    fn queue_content(&mut self, at: usize) {
        let in_hand = &mut self.transactions[at];
        let Some(content) = in_hand.content.take() else { return };
        in_hand.content_queued = true;
        in_hand.content_start = self.out.position();
        let mut stuffer = Stuffer::default();
        stuffer.push(&content.head, &mut self.out);
        in_hand.content_end = match content.body {
            Body::File(source) if !source.is_empty() => {
                self.out.file(source, stuffer);
                u64::MAX
            }
            Body::File(_) => {
                stuffer.finish(&mut self.out);
                self.out.position()
            }
            Body::Memory(body) => {
                stuffer.push(&body, &mut self.out);
                stuffer.finish(&mut self.out);
                self.out.position()
            }
        };
        let (serial, end) = (in_hand.serial, in_hand.content_end);
        if self.settings.protocol == Protocol::Lmtp {
            let open = in_hand.accepted.iter().enumerate().filter(|(_, accepted)| **accepted);
            let whats: SmallVec<[What; 4]> = open.map(|(n, _)| What::DotOf(n)).collect();
            self.expected.extend(whats.into_iter().map(|what| Expected { what, serial, end }));
        } else {
            self.expected.push_back(Expected { what: What::Dot, serial, end });
        }
    }

    fn command(&mut self, line: &[u8], what: What, serial: u64) {
        self.out.small(line);
        self.out.small(b"\r\n");
        self.expect(what, serial);
    }

    /// A line of an AUTH exchange. What follows the mechanism's name proves who we are, and so does every answer.
    fn auth_command(&mut self, line: &str, step: u8, serial: u64) {
        let public = match line.strip_prefix("AUTH ") {
            Some(rest) => rest.find(' ').map_or(line.len(), |at| "AUTH ".len() + at + 1),
            None => 0,
        };
        self.out.small(&line.as_bytes()[..public]);
        if public < line.len() {
            self.out.secret(&line.as_bytes()[public..]);
        }
        self.out.small(b"\r\n");
        self.expect(What::Auth(step), serial);
    }

    fn expect(&mut self, what: What, serial: u64) {
        self.expected.push_back(Expected { what, serial, end: self.out.position() });
    }

    // ---- ends ----

    fn index(&self, serial: u64) -> Option<usize> {
        self.transactions.iter().position(|in_hand| in_hand.serial == serial)
    }

    fn finish(&mut self, at: usize, needs_rset: bool) {
        let Some(mut in_hand) = self.transactions.remove(at) else { return };
        let next_is_out = self.transactions.get(at).is_some_and(|next| next.sent > 0);
        self.needs_rset = needs_rset && !next_is_out;
        self.spare = std::mem::take(&mut in_hand.lines);
        let bytes_sent = match in_hand.content_queued {
            true => self.out.written().min(in_hand.content_end).saturating_sub(in_hand.content_start),
            false => 0,
        };
        let recipients = in_hand.verdicts.into_iter().map(|verdict| verdict.unwrap_or_else(not_attempted)).collect();
        self.outcomes.push_back(Outcome { recipients, bytes_sent });
    }

    /// Gives every transaction its outcome and ends the session.
    fn close(&mut self) {
        while !self.transactions.is_empty() {
            self.finish(0, false);
        }
        self.expected.clear();
        self.out.clear();
        self.closing = true;
        self.phase = Phase::Closed;
    }

    fn give_up_with(&mut self, stage: Stage, found: &Found, tls: bool) {
        let reply = self.input.text(found);
        if self.phase == Phase::Ready {
            // EHLO again after XCLIENT: the transaction that wanted it is to blame.
            if let Some(in_hand) = self.transactions.iter_mut().find(|in_hand| !in_hand.content_queued) {
                in_hand.decide_all(Kind::Transient, stage, &reply);
            }
            return self.close();
        }
        self.give_up(stage, reply, tls);
    }

    fn give_up(&mut self, stage: Stage, reply: CompactString, tls: bool) {
        self.close();
        self.phase = Phase::Failed(Failure { stage, reply, tls });
    }
}

#[cfg(test)]
#[path = "machine_tests.rs"]
mod tests;
