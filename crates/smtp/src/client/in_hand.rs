//! A transaction between `submit` and its outcome, and the commands whose replies are waited for.

use super::settings::Cause;
use super::stage::{Stage, text};
use super::transaction::{Content, Kind, Verdict};
use compact_str::CompactString;
use smallvec::SmallVec;

/// A command that has no reply yet.
#[derive(Clone, Copy, Debug)]
pub(super) struct Expected {
    pub what: What,
    /// Whose command it is; 0 for the session's own.
    pub serial: u64,
    /// The position in the stream at which the command ends.
    pub end: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum What {
    Banner,
    Ehlo,
    Helo,
    StartTls,
    Auth(u8),
    Xclient,
    Mail,
    Rcpt(usize),
    Data,
    Dot,
    /// One recipient's reply of LMTP.
    DotOf(usize),
    /// The dot after a go-ahead for nobody.
    EmptyDot,
    Rset,
    Quit,
}

/// A transaction that was taken and has no outcome yet.
pub(super) struct InHand {
    pub serial: u64,
    /// The commands, and where each ends.
    pub lines: Vec<u8>,
    pub ends: SmallVec<[usize; 4]>,
    pub sent: usize,
    /// What must be settled before MAIL.
    pub auth: bool,
    pub xclient: Option<(String, bool)>,
    pub content: Option<Content>,
    pub verdicts: SmallVec<[Option<Verdict>; 1]>,
    pub accepted: SmallVec<[bool; 4]>,
    pub mail_accepted: bool,
    /// A reply about it has come.
    pub answered: bool,
    pub content_queued: bool,
    pub content_start: u64,
    /// `u64::MAX` while a file is being sent.
    pub content_end: u64,
}

impl InHand {
    pub fn has_accepted(&self) -> bool {
        self.accepted.contains(&true)
    }

    pub fn all_decided(&self) -> bool {
        self.verdicts.iter().all(Option::is_some)
    }

    /// The verdict of one recipient; the first one stays.
    pub fn decide(&mut self, n: usize, kind: Kind, stage: Stage, reply: CompactString) {
        // A 2xx to RCPT whose MAIL was refused is no delivery.
        if self.verdicts[n].is_none() && !(kind == Kind::Delivered && stage == Stage::AfterRcptTo) {
            self.verdicts[n] = Some(Verdict { kind, stage, reply });
        }
    }

    pub fn decide_all(&mut self, kind: Kind, stage: Stage, reply: &str) {
        for n in 0..self.verdicts.len() {
            self.decide(n, kind, stage, reply.into());
        }
    }

    /// The session broke at `what`: those whose fate hung on it get the verdict, the others were not attempted.
    pub fn blame(&mut self, what: What, kind: Kind, stage: Stage, reply: CompactString) {
        match what {
            What::Rcpt(n) => self.decide(n, kind, stage, reply),
            What::Data | What::Dot | What::DotOf(_) => {
                for n in 0..self.verdicts.len() {
                    if self.accepted[n] {
                        self.decide(n, kind, stage, reply.clone());
                    }
                }
            }
            What::EmptyDot => {}
            _ => {
                if let Some(n) = self.verdicts.iter().position(Option::is_none) {
                    self.decide(n, kind, stage, reply);
                }
            }
        }
    }
}

pub(super) fn not_attempted() -> Verdict {
    Verdict { kind: Kind::NotAttempted, stage: Stage::Idle, reply: CompactString::default() }
}

/// Stage and text when the wait for a reply ends without one.
pub(super) fn words(what: What, sent: bool, cause: Cause) -> (Stage, &'static str) {
    let (during, after, not_sent, no_reply) = match what {
        What::Banner => (Stage::ReadingBanner, Stage::ReadingBanner, text::NO_BANNER, text::NO_BANNER),
        What::Ehlo | What::Helo | What::Auth(_) => {
            (Stage::DuringEhlo, Stage::AfterEhlo, text::SEND_HELLO, text::NO_HELLO)
        }
        What::StartTls => (Stage::DuringStartTls, Stage::AfterStartTls, text::NO_TLS_GO_AHEAD, text::NO_TLS_GO_AHEAD),
        What::Xclient => (Stage::DuringXclient, Stage::AfterXclient, text::CLOSED, text::CLOSED),
        What::Mail => (Stage::DuringMailFrom, Stage::AfterMailFrom, text::SEND_MAIL, text::NO_MAIL),
        What::Rcpt(_) => (Stage::DuringRcptTo, Stage::AfterRcptTo, text::SEND_RCPT, text::NO_RCPT),
        What::Data => (Stage::DuringData, Stage::AfterData, text::SEND_DATA, text::NO_DATA),
        What::Dot | What::DotOf(_) | What::EmptyDot => {
            (Stage::SendingBody, Stage::ReadingConfirmation, text::SEND_BODY, text::NO_BODY)
        }
        What::Rset | What::Quit => (Stage::DuringRset, Stage::AfterRset, text::SEND_RSET, text::NO_RSET),
    };
    let stage = if sent { after } else { during };
    match cause {
        Cause::Unreadable => (Stage::SendingBody, text::BODY_UNREADABLE),
        Cause::Closed if what == What::Banner => (stage, text::NO_BANNER),
        Cause::Closed if sent => (stage, text::CLOSED),
        Cause::Closed | Cause::NotSent => (during, not_sent),
        Cause::NoReply => (stage, if sent { no_reply } else { not_sent }),
    }
}
