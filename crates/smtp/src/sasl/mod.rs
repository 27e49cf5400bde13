//! SASL, server side (RFC 4422): PLAIN, LOGIN, CRAM-MD5, DIGEST-MD5, SCRAM-SHA-256 as machines without I/O.
//!
//! An `Exchange` takes what the client said (decoded from base64) and says what comes next: a challenge to send, a question
//! to ask of whoever knows the users, or the outcome. Secrets are compared in constant time and appear in no `Debug`.

mod cram_md5;
pub mod digest_md5;
mod login;
mod plain;
mod scram;

use crate::server::{AuthOutcome, Secret};
use std::fmt;

pub use scram::salted_keys;

/// Whether two secrets are equal, in time that depends on their lengths alone.
pub fn constant_time_eq(left: &[u8], right: &[u8]) -> bool {
    aws_lc_rs::constant_time::verify_slices_are_equal(left, right).is_ok()
}

/// What comes next in an exchange.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// Send this; then hand in the client's answer by `Exchange::response`.
    Challenge(Vec<u8>),
    /// Find the secret of `Exchange::user`; then `Exchange::secret`.
    Secret,
    /// Find out whether `Exchange::password` is that of `Exchange::user`; that is the outcome.
    Verify,
    Done(AuthOutcome),
}

/// The mechanisms that there are, by their registered names.
pub const MECHANISMS: [&str; 5] = ["PLAIN", "LOGIN", "CRAM-MD5", "DIGEST-MD5", "SCRAM-SHA-256"];

/// One authentication, from AUTH to its outcome.
pub struct Exchange {
    name: &'static str,
    mechanism: Mechanism,
}

enum Mechanism {
    Plain(plain::Plain),
    Login(login::Login),
    CramMd5(cram_md5::CramMd5),
    DigestMd5(digest_md5::DigestMd5),
    Scram(scram::Scram),
}

/// Never the password nor anything that was derived from it.
impl fmt::Debug for Exchange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Exchange").field("mechanism", &self.name).finish_non_exhaustive()
    }
}

impl Exchange {
    /// `host` names this server in CRAM-MD5's challenge, `realm` the users' realm in DIGEST-MD5. `None`: no such mechanism,
    /// or the system has no randomness.
    pub fn new(mechanism: &str, host: &str, realm: &str) -> Option<Exchange> {
        let name = MECHANISMS.into_iter().find(|name| name.eq_ignore_ascii_case(mechanism))?;
        let mechanism = match name {
            "PLAIN" => Mechanism::Plain(plain::Plain::default()),
            "LOGIN" => Mechanism::Login(login::Login::default()),
            "CRAM-MD5" => Mechanism::CramMd5(cram_md5::CramMd5::new(host, &nonce()?)),
            "DIGEST-MD5" => Mechanism::DigestMd5(digest_md5::DigestMd5::new(realm, &nonce()?, "smtp/")),
            _ => Mechanism::Scram(scram::Scram::new(&nonce()?)),
        };
        Some(Exchange { name, mechanism })
    }

    pub fn mechanism(&self) -> &'static str {
        self.name
    }

    /// The beginning, with the initial response if the client sent one.
    pub fn begin(&mut self, initial: Option<&[u8]>) -> Next {
        match (&mut self.mechanism, initial) {
            (Mechanism::Plain(_) | Mechanism::Scram(_), None) => Next::Challenge(Vec::new()),
            (Mechanism::Login(login), None) => login.prompt(),
            (Mechanism::CramMd5(cram), None) => cram.challenge(),
            (Mechanism::DigestMd5(digest), None) => Next::Challenge(digest.challenge().into_bytes()),
            // The server speaks first in these (RFC 4422 section 5.1).
            (Mechanism::CramMd5(_) | Mechanism::DigestMd5(_), Some(_)) => Next::Done(AuthOutcome::Fail),
            (_, Some(initial)) => self.response(initial),
        }
    }

    pub fn response(&mut self, response: &[u8]) -> Next {
        match &mut self.mechanism {
            Mechanism::Plain(plain) => plain.response(response),
            Mechanism::Login(login) => login.response(response),
            Mechanism::CramMd5(cram) => cram.response(response),
            Mechanism::DigestMd5(digest) => digest.response(response),
            Mechanism::Scram(scram) => scram.response(response),
        }
    }

    /// The answer to `Next::Secret`; `None`: there is no such user, which the client learns no sooner than a wrong password.
    pub fn secret(&mut self, secret: Option<&Secret>) -> Next {
        match &mut self.mechanism {
            Mechanism::CramMd5(cram) => cram.secret(secret),
            Mechanism::DigestMd5(digest) => digest.secret(secret),
            Mechanism::Scram(scram) => scram.secret(secret),
            Mechanism::Plain(_) | Mechanism::Login(_) => Next::Done(AuthOutcome::Error),
        }
    }

    pub fn user(&self) -> &str {
        match &self.mechanism {
            Mechanism::Plain(plain) => &plain.user,
            Mechanism::Login(login) => &login.user,
            Mechanism::CramMd5(cram) => &cram.user,
            Mechanism::DigestMd5(digest) => digest.user(),
            Mechanism::Scram(scram) => &scram.user,
        }
    }

    /// What PLAIN and LOGIN were given.
    pub fn password(&self) -> &[u8] {
        match &self.mechanism {
            Mechanism::Plain(plain) => &plain.password,
            Mechanism::Login(login) => &login.password,
            _ => &[],
        }
    }
}

/// 18 random octets in base64: no comma, no quote.
fn nonce() -> Option<String> {
    let mut bytes = [0; 18];
    getrandom::fill(&mut bytes).ok()?;
    Some(data_encoding::BASE64.encode(&bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_never_show_in_debug_output() {
        let mut exchange = Exchange::new("plain", "h", "r").unwrap();
        assert_eq!(exchange.begin(Some(b"\0ann\0hunter2")), Next::Verify);
        assert_eq!(exchange.password(), b"hunter2");
        assert!(!format!("{exchange:?}").contains("hunter2"));
    }

    #[test]
    fn constant_time_eq_compares_whole_values() {
        assert!(constant_time_eq(b"abc", b"abc"));
        for (left, right) in [(&b"abc"[..], &b"abd"[..]), (b"abc", b"ab"), (b"", b"a")] {
            assert!(!constant_time_eq(left, right));
        }
    }

    #[test]
    fn mechanisms_in_which_the_server_speaks_first_take_no_initial_response() {
        for name in ["CRAM-MD5", "DIGEST-MD5"] {
            let mut exchange = Exchange::new(name, "h", "r").unwrap();
            assert_eq!(exchange.begin(Some(b"x")), Next::Done(AuthOutcome::Fail), "{name}");
        }
        assert!(Exchange::new("XOAUTH2", "h", "r").is_none());
    }
}
