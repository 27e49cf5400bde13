//! The machine's part of AUTH (RFC 4954): lines of base64 around a SASL exchange.

use super::{AUTH_FAILURES_MAX, Action, BAD_SEQUENCE, Machine, Mode, TOO_MANY_ERRORS};
use crate::Reply;
use crate::sasl::{Exchange, Next};
use crate::server::command::trim_end;
use crate::server::handler::{AuthOutcome, Phase, Secret};
use data_encoding::BASE64;

impl Machine {
    /// `AUTH mechanism [initial-response]`.
    pub(super) fn auth(&mut self, argument: &[u8], out: &mut Vec<u8>) -> Option<Action> {
        if self.standing.authenticated {
            let reply = Reply::new(503, (5, 5, 1), "already authenticated");
            return Some(self.refuse(self.phase(), reply, out));
        }
        if self.transaction.is_some() {
            return Some(self.refuse(Phase::RcptTo, BAD_SEQUENCE, out));
        }
        let mut words = argument.split(|&byte| byte == b' ').filter(|word| !word.is_empty());
        let (Some(mechanism), initial, None) = (words.next(), words.next(), words.next()) else {
            let reply = Reply::new(501, (5, 5, 4), "invalid arguments to AUTH");
            return Some(self.refuse(self.phase(), reply, out));
        };
        let announced =
            self.capabilities.mechanisms.iter().find(|name| name.as_bytes().eq_ignore_ascii_case(mechanism));
        let realm = self.realm.as_deref().unwrap_or(&self.settings.hostname);
        let exchange = announced.and_then(|name| Exchange::new(name, &self.settings.hostname, realm));
        let Some(mut exchange) = exchange else {
            let reply = Reply::new(504, (5, 5, 4), "mechanism not supported");
            return Some(self.refuse(self.phase(), reply, out));
        };
        // "=" is an initial response of no octets.
        let initial = match initial {
            Some(b"=") => Some(Vec::new()),
            Some(text) => match BASE64.decode(text) {
                Ok(initial) => Some(initial),
                Err(_) => return Some(self.refuse(self.phase(), CANNOT_DECODE, out)),
            },
            None => None,
        };
        let next = exchange.begin(initial.as_deref());
        self.exchange = Some(exchange);
        self.follow(next, out)
    }

    /// The client's answer to a challenge.
    pub(super) fn sasl_line(&mut self, line: &[u8], out: &mut Vec<u8>) -> Option<Action> {
        let line = trim_end(line);
        let decoded = BASE64.decode(line);
        let (Some(exchange), Ok(response)) = (&mut self.exchange, decoded) else {
            self.end_exchange();
            let cancelled = Reply::new(501, (5, 7, 0), "authentication cancelled");
            return Some(self.refuse(self.phase(), if line == b"*" { cancelled } else { CANNOT_DECODE }, out));
        };
        let next = exchange.response(&response);
        self.follow(next, out)
    }

    fn follow(&mut self, next: Next, out: &mut Vec<u8>) -> Option<Action> {
        match next {
            Next::Challenge(challenge) => {
                out.extend_from_slice(b"334 ");
                let begin = out.len();
                out.resize(begin + BASE64.encode_len(challenge.len()), 0);
                BASE64.encode_mut(&challenge, &mut out[begin..]);
                out.extend_from_slice(b"\r\n");
                self.mode = Mode::Sasl;
                None
            }
            Next::Secret => Some(Action::Secret),
            Next::Verify => Some(Action::Verify),
            Next::Done(outcome) => Some(Action::Authenticate(outcome)),
        }
    }

    /// The exchange that runs, for `Action::Secret`, `Verify` and `Authenticate`.
    pub fn exchange(&self) -> Option<&Exchange> {
        self.exchange.as_ref()
    }

    /// The realm for DIGEST-MD5; by default the banner's host name.
    pub fn set_realm(&mut self, realm: Option<String>) {
        self.realm = realm;
    }

    /// The answer to `Action::Secret`. `Err`: whoever knows could not say.
    pub fn secret(&mut self, secret: Result<Option<Secret>, ()>, out: &mut Vec<u8>) {
        let next = match (&mut self.exchange, secret) {
            (Some(exchange), Ok(secret)) => exchange.secret(secret.as_ref()),
            _ => Next::Done(AuthOutcome::Error),
        };
        self.pending = self.follow(next, out);
    }

    /// The answer to `Action::Verify`.
    pub fn verified(&mut self, outcome: AuthOutcome) {
        self.pending = Some(Action::Authenticate(outcome));
    }

    /// The answer to `Action::Authenticate`, with the outcome that counts; `None`: the standard reply.
    pub fn authenticated(&mut self, outcome: AuthOutcome, reply: Option<Reply>, out: &mut Vec<u8>) {
        self.end_exchange();
        let reply = reply.unwrap_or_else(|| outcome.reply());
        match outcome {
            // A hook may still refuse a user whose password was right.
            AuthOutcome::Pass => self.standing.authenticated = reply.is_positive(),
            AuthOutcome::Fail => self.auth_failures += 1,
            AuthOutcome::Error => {}
        }
        if self.auth_failures >= AUTH_FAILURES_MAX {
            self.say(&TOO_MANY_ERRORS.closing(), out);
        } else {
            self.say(&reply, out);
        }
    }
}

const CANNOT_DECODE: Reply = Reply::new(501, (5, 5, 2), "cannot decode response");
