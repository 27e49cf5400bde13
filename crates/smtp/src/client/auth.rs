//! SASL as a client (RFC 4954): PLAIN, LOGIN, CRAM-MD5 and XOAUTH2, each as what to say next.

use data_encoding::BASE64;
use hmac::{Hmac, KeyInit, Mac};
use md5::Md5;
use std::fmt;

/// Who to be, and how to prove it.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    pub mechanism: Mechanism,
    pub user: String,
    pub password: String,
}

/// A secret never reaches a log through `{:?}`.
impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Credentials({} {})", self.mechanism.name(), self.user)
    }
}

/// The mechanisms of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mechanism {
    Plain,
    Login,
    CramMd5,
    Xoauth2,
}

impl Mechanism {
    /// As EHLO names it.
    pub const fn name(self) -> &'static str {
        match self {
            Mechanism::Plain => "PLAIN",
            Mechanism::Login => "LOGIN",
            Mechanism::CramMd5 => "CRAM-MD5",
            Mechanism::Xoauth2 => "XOAUTH2",
        }
    }

    /// By name, in any case.
    pub fn named(name: &str) -> Option<Mechanism> {
        [Mechanism::Plain, Mechanism::Login, Mechanism::CramMd5, Mechanism::Xoauth2]
            .into_iter()
            .find(|mechanism| mechanism.name().eq_ignore_ascii_case(name))
    }
}

impl Credentials {
    /// The `AUTH` command, without its line end.
    pub(super) fn command(&self) -> String {
        let name = self.mechanism.name();
        match self.mechanism {
            Mechanism::Plain => {
                format!("AUTH {name} {}", encode(format!("\0{}\0{}", self.user, self.password).as_bytes()))
            }
            Mechanism::Login | Mechanism::CramMd5 => format!("AUTH {name}"),
            Mechanism::Xoauth2 => {
                let token = format!("user={}\x01auth=Bearer {}\x01\x01", self.user, self.password);
                format!("AUTH {name} {}", encode(token.as_bytes()))
            }
        }
    }

    /// The answer to challenge number `step` (from 0); `None`: there is nothing to answer, so the exchange is cancelled.
    pub(super) fn answer(&self, step: u8, challenge: &[u8]) -> Option<String> {
        match (self.mechanism, step) {
            (Mechanism::Login, 0) => Some(encode(self.user.as_bytes())),
            (Mechanism::Login, 1) => Some(encode(self.password.as_bytes())),
            (Mechanism::CramMd5, 0) => {
                let challenge = BASE64.decode(challenge.trim_ascii()).ok()?;
                let mut mac = Hmac::<Md5>::new_from_slice(self.password.as_bytes()).ok()?;
                mac.update(&challenge);
                let digest = data_encoding::HEXLOWER.encode(&mac.finalize().into_bytes());
                Some(encode(format!("{} {digest}", self.user).as_bytes()))
            }
            // The challenge is an error in JSON; an empty answer fetches the final reply.
            (Mechanism::Xoauth2, 0) => Some(String::new()),
            _ => None,
        }
    }
}

fn encode(bytes: &[u8]) -> String {
    BASE64.encode(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cram_md5_is_that_of_rfc_2195() {
        let who =
            Credentials { mechanism: Mechanism::CramMd5, user: "tim".into(), password: "tanstaaftanstaaf".into() };
        let challenge = b"PDE4OTYuNjk3MTcwOTUyQHBvc3RvZmZpY2UucmVzdG9uLm1jaS5uZXQ+";
        assert_eq!(who.answer(0, challenge).as_deref(), Some("dGltIGI5MTNhNjAyYzdlZGE3YTQ5NWI0ZTZlNzMzNGQzODkw"));
        assert_eq!(who.answer(1, challenge), None);
        assert_eq!(who.answer(0, b"%%"), None);
    }

    #[test]
    fn plain_and_login_are_base64() {
        let mut who = Credentials { mechanism: Mechanism::Plain, user: "u".into(), password: "p".into() };
        assert_eq!(who.command(), "AUTH PLAIN AHUAcA==");
        who.mechanism = Mechanism::Login;
        assert_eq!(who.command(), "AUTH LOGIN");
        assert_eq!(
            (who.answer(0, b""), who.answer(1, b""), who.answer(2, b"")),
            (Some("dQ==".into()), Some("cA==".into()), None)
        );
        assert_eq!(format!("{who:?}"), "Credentials(LOGIN u)");
    }
}
