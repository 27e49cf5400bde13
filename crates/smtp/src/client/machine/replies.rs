//! The client's part of the replies: what each one means for the session, and for the transaction it is about.
//!
//! Replies come in the order of the commands. Whatever a peer says at the wrong place ends the session and never moves a
//! verdict to somebody whom it was not about.

use super::{Client, Phase};
use crate::client::capabilities::Capabilities;
use crate::client::in_hand::{Expected, What};
use crate::client::reply::Found;
use crate::client::stage::{Stage, text};
use crate::client::transaction::Kind;
use compact_str::CompactString;

impl Client {
    /// Works off one reply: the one that the oldest command waited for.
    pub(super) fn reply(&mut self, found: &Found) {
        self.replies += 1;
        let Some(expected) = self.expected.pop_front() else {
            // Nobody asked: most often a 421 before the peer closes an idle connection.
            self.closing = true;
            return;
        };
        let code = found.code;
        let good = (200..300).contains(&code);
        match expected.what {
            What::Banner if good => self.hello(),
            What::Banner => self.give_up_with(Stage::ReadingBanner, found, false),
            What::Ehlo if good => {
                self.capabilities = Capabilities::parse(self.input.lines(found));
                self.said_hello();
            }
            What::Ehlo if (500..600).contains(&code) && self.phase == Phase::SettingUp && self.may_fall_back() => {
                let line = format!("HELO {}", self.settings.hello);
                self.command(line.as_bytes(), What::Helo, 0);
            }
            What::Helo if good => self.said_hello(),
            What::Ehlo | What::Helo => self.give_up_with(Stage::AfterEhlo, found, false),
            What::StartTls if code == 220 => {
                if self.input.has_more() {
                    // Whoever put bytes behind the go-ahead wants them taken for the peer's words inside TLS.
                    self.give_up(Stage::HandshakingTls, text::TLS_FAILED.into(), true);
                } else {
                    self.phase = Phase::Handshake;
                }
            }
            What::StartTls => self.give_up(Stage::AfterStartTls, text::NO_TLS_GO_AHEAD.into(), true),
            What::Auth(step) => self.auth_reply(step, found, expected.serial),
            What::Xclient if good => {
                self.capabilities = Capabilities::default();
                self.hello_for(expected.serial);
            }
            What::Xclient => self.refuse_before_mail(found, Stage::AfterXclient, expected.serial),
            What::Rset if good => self.needs_rset = false,
            What::Rset => self.refuse_before_mail(found, Stage::AfterRset, expected.serial),
            What::Quit => self.close(),
            What::Mail | What::Rcpt(_) | What::Data | What::Dot | What::DotOf(_) | What::EmptyDot => {
                self.transaction_reply(expected, found);
            }
        }
        if code == 421 && !self.is_closed() {
            self.close();
        }
    }

    fn transaction_reply(&mut self, expected: Expected, found: &Found) {
        let Some(at) = self.index(expected.serial) else { return };
        let code = found.code;
        let kind = Kind::of_code(code);
        let good = kind == Kind::Delivered;
        // Of replies that let the dialogue go on nobody wants the text.
        let reply = if good && !matches!(expected.what, What::Dot | What::DotOf(_)) && expected.what != What::Data {
            CompactString::default()
        } else {
            self.input.text(found)
        };
        let written = self.out.written();
        let in_hand = &mut self.transactions[at];
        if !in_hand.answered {
            in_hand.answered = true;
            self.answered += 1;
        }
        match expected.what {
            What::Mail if good => in_hand.mail_accepted = true,
            What::Mail => {
                if code == 421 {
                    in_hand.blame(What::Mail, kind, Stage::AfterMailFrom, reply);
                } else {
                    in_hand.decide_all(kind, Stage::AfterMailFrom, &reply);
                }
                if in_hand.sent == 1 {
                    self.finish(at, false);
                }
            }
            What::Rcpt(n) => {
                if good && in_hand.mail_accepted {
                    in_hand.accepted[n] = true;
                } else {
                    in_hand.decide(n, kind, Stage::AfterRcptTo, reply);
                }
                let commands_left = in_hand.sent < in_hand.ends.len();
                let is_last = in_hand.sent + 1 == in_hand.ends.len();
                if commands_left && is_last && !in_hand.has_accepted() {
                    self.finish(at, true);
                }
            }
            What::Data if (300..400).contains(&code) => {
                if in_hand.has_accepted() {
                    self.queue_content(at);
                } else {
                    in_hand.content_queued = true;
                    let serial = in_hand.serial;
                    self.out.small(b".\r\n");
                    self.expect(What::EmptyDot, serial);
                }
            }
            What::Data => {
                // A 2xx is no go-ahead: the two sides disagree about where they are.
                let kind = if good { Kind::Transient } else { kind };
                in_hand.decide_all(kind, Stage::AfterData, &reply);
                let rset = in_hand.mail_accepted;
                self.closing |= good;
                self.finish(at, rset);
            }
            What::Dot | What::DotOf(_) => {
                let early = written < in_hand.content_end;
                let (kind, stage, reply) = match early {
                    false => (kind, Stage::ReadingConfirmation, reply),
                    true if good => (Kind::Transient, Stage::SendingBody, text::SEND_BODY.into()),
                    true => (kind, Stage::SendingBody, reply),
                };
                match expected.what {
                    What::DotOf(n) => in_hand.decide(n, kind, stage, reply),
                    _ => in_hand.decide_all(kind, stage, &reply),
                }
                let last = !matches!(expected.what, What::DotOf(_)) || in_hand.all_decided();
                if last {
                    self.finish(at, !good);
                }
                if early {
                    self.close(); // the rest of the content must not become commands
                }
            }
            What::EmptyDot => self.finish(at, true),
            _ => {}
        }
    }

    fn auth_reply(&mut self, step: u8, found: &Found, serial: u64) {
        match found.code {
            200..=299 => {
                self.authenticated = true;
                if let Some(at) = self.index(serial) {
                    self.transactions[at].auth = false;
                }
            }
            334 => {
                let challenge = self.input.lines(found).next().unwrap_or(b"").to_vec();
                let answer = self.identity.as_ref().and_then(|who| who.answer(step, &challenge));
                let line = answer.unwrap_or_else(|| "*".to_owned());
                self.auth_command(&line, step.saturating_add(1), serial);
            }
            _ => {
                // Wrong credentials are the operator's to mend, so mail waits for it even when the code is 5xx.
                let reply = self.input.text(found);
                if let Some(at) = self.index(serial) {
                    self.transactions[at].decide_all(Kind::Transient, Stage::AfterEhlo, &reply);
                }
                self.close();
            }
        }
    }

    /// XCLIENT or RSET was refused: the message was not attempted in the peer's eyes, and the session is in doubt.
    fn refuse_before_mail(&mut self, found: &Found, stage: Stage, serial: u64) {
        let reply = self.input.text(found);
        if let Some(at) = self.index(serial) {
            self.transactions[at].decide_all(Kind::Transient, stage, &reply);
        }
        self.close();
    }
}
