//! Who is at the other end: DIGEST-MD5 (RFC 2831) and LOGIN over the ordinary commands `auth …`.
//!
//! Public clients take the challenge apart at commas and quotes, and quote `nc`: the challenge therefore holds neither in
//! its values, and the answer is read leniently. A nonce is good for one answer.

use crate::users::{DigestUsers, LoginUsers};
use data_encoding::{BASE64, HEXLOWER};
use md5::{Digest, Md5};

/// What an `auth` command led to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Text to send; the client goes on.
    Ask(String),
    Passed {
        user: String,
    },
    /// `user` as far as it is known.
    Failed {
        user: String,
    },
    /// The words make no sense here; not counted as a failure.
    Refused(&'static str),
}

/// The text of success. Clients look for `authorized`.
pub const PASSED: &str = "You are now authorized\n";
/// The text of failure: must not hold `authorized` in lower case.
pub const DENIED: &str = "Access denied\n";
/// What any other command gets before.
pub const REQUIRED: &str = "Authorization required for console session\n";

/// The mechanisms of a listener.
#[derive(Clone, Debug, Default)]
pub struct Mechanisms {
    pub digest: Option<DigestUsers>,
    pub login: Option<LoginUsers>,
}

/// An authentication that is under way.
#[derive(Debug, Default)]
pub struct Exchange {
    state: State,
}

#[derive(Debug, Default)]
enum State {
    #[default]
    Idle,
    Digest {
        realm: String,
        nonce: String,
    },
    LoginUser,
    LoginPassword {
        user: String,
    },
}

impl Exchange {
    /// Handles what follows `auth `. `nonce` is fresh and random, of letters and digits.
    pub fn command(&mut self, words: &str, mechanisms: &Mechanisms, nonce: impl FnOnce() -> String) -> Step {
        let (verb, argument) = words.split_once(char::is_whitespace).unwrap_or((words, ""));
        if verb.eq_ignore_ascii_case("DIGEST-MD5") {
            let Some(users) = &mechanisms.digest else { return Step::Refused("Unsupported mechanism\n") };
            let (realm, nonce) = (plain(&users.realm), plain(&nonce()));
            let challenge = format!(r#"realm="{realm}",nonce="{nonce}",qop="auth",charset=utf-8,algorithm=md5-sess"#);
            self.state = State::Digest { realm, nonce };
            return Step::Ask(format!("{}\n", BASE64.encode(challenge.as_bytes())));
        }
        if verb.eq_ignore_ascii_case("LOGIN") {
            if mechanisms.login.is_none() {
                return Step::Refused("Unsupported mechanism\n");
            }
            self.state = State::LoginUser;
            return Step::Ask("Username:\n".to_owned());
        }
        if !verb.eq_ignore_ascii_case("response") {
            return Step::Refused("Usage: auth DIGEST-MD5 | auth LOGIN | auth response BASE64\n");
        }
        let answer = BASE64.decode(argument.trim().as_bytes()).ok();
        match (std::mem::take(&mut self.state), answer) {
            (State::Idle, _) => Step::Refused("No authentication is under way\n"),
            (_, None) => Step::Failed { user: String::new() },
            (State::Digest { realm, nonce }, Some(answer)) => {
                let answer = String::from_utf8_lossy(&answer).into_owned();
                check_digest(&answer, &realm, &nonce, mechanisms.digest.as_ref())
            }
            (State::LoginUser, Some(user)) => {
                self.state = State::LoginPassword { user: String::from_utf8_lossy(&user).into_owned() };
                Step::Ask("Password:\n".to_owned())
            }
            (State::LoginPassword { user }, Some(password)) => {
                match mechanisms.login.as_ref().is_some_and(|users| users.verify(&user, &password)) {
                    true => Step::Passed { user },
                    false => Step::Failed { user },
                }
            }
        }
    }
}

/// A value without the characters that clients split at.
fn plain(text: &str) -> String {
    text.chars().filter(|c| !matches!(c, ',' | '"' | '\\') && !c.is_control()).collect()
}

fn check_digest(answer: &str, realm: &str, nonce: &str, users: Option<&DigestUsers>) -> Step {
    let fields = fields(answer);
    let field =
        |name: &str| fields.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str());
    let user = field("username").unwrap_or_default().to_owned();
    let wanted = || -> Option<String> {
        let digest_uri = field("digest-uri")?;
        let fits = field("realm")? == realm
            && field("nonce")? == nonce
            && u32::from_str_radix(field("nc")?, 16) == Ok(1)
            && field("qop").unwrap_or("auth") == "auth"
            && digest_uri.starts_with("ec_console/");
        let secret = users?.secret(&user, realm).filter(|_| fits)?;
        Some(response(&secret, nonce, field("nc")?, field("cnonce")?, digest_uri))
    };
    match (wanted(), field("response")) {
        (Some(wanted), Some(given)) if same(wanted.as_bytes(), given.to_ascii_lowercase().as_bytes()) => {
            Step::Passed { user }
        }
        _ => Step::Failed { user },
    }
}

/// The `response` value of RFC 2831 section 2.1.2.1, with algorithm `md5-sess` and qop `auth`. `secret` is
/// MD5(user:realm:password), raw.
pub fn response(secret: &[u8; 16], nonce: &str, nc: &str, cnonce: &str, digest_uri: &str) -> String {
    let ha1 = md5_hex(&[secret, b":", nonce.as_bytes(), b":", cnonce.as_bytes()]);
    let ha2 = md5_hex(&[b"AUTHENTICATE:", digest_uri.as_bytes()]);
    let text = format!("{ha1}:{nonce}:{nc}:{cnonce}:auth:{ha2}");
    md5_hex(&[text.as_bytes()])
}

/// MD5(user:realm:password), raw.
pub fn digest_secret(user: &str, realm: &str, password: &[u8]) -> [u8; 16] {
    md5_raw(&[user.as_bytes(), b":", realm.as_bytes(), b":", password])
}

fn md5_raw(parts: &[&[u8]]) -> [u8; 16] {
    let mut md5 = Md5::new();
    for part in parts {
        md5.update(part);
    }
    md5.finalize().into()
}

fn md5_hex(parts: &[&[u8]]) -> String {
    HEXLOWER.encode(&md5_raw(parts))
}

/// `key=value` pairs apart by commas; a value may be quoted.
pub(crate) fn fields(text: &str) -> Vec<(String, String)> {
    let mut pairs = Vec::new();
    let mut rest = text;
    while let Some((key, after)) = rest.split_once('=') {
        let (value, tail) = match after.strip_prefix('"') {
            Some(quoted) => {
                let (value, tail) = quoted.split_once('"').unwrap_or((quoted, ""));
                (value, tail.split_once(',').map_or("", |(_, tail)| tail))
            }
            None => after.split_once(',').unwrap_or((after, "")),
        };
        pairs.push((key.trim().to_owned(), value.trim().to_owned()));
        rest = tail;
    }
    pairs
}

/// Equality that takes the same time wherever the first difference is.
pub(crate) fn same(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |differ, (a, b)| differ | (a ^ b)) == 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::users::UserFile;
    use std::io::Write as _;

    fn mechanisms(folder: &std::path::Path) -> Mechanisms {
        let path = folder.join("digest");
        let secret = HEXLOWER.encode(&digest_secret("admin", "Momentum Console", b"secret"));
        writeln!(std::fs::File::create(&path).unwrap(), "# users\nadmin:Momentum Console:{secret}").unwrap();
        let plain = folder.join("plain");
        std::fs::write(&plain, "root:let:me:in\n").unwrap();
        Mechanisms {
            digest: Some(DigestUsers {
                file: UserFile::parse(&format!("digest://{}", path.display())).unwrap(),
                realm: "Momentum Console".into(),
                stored_cleartext: false,
            }),
            login: Some(LoginUsers { file: UserFile::parse(&format!("file://{}", plain.display())).unwrap() }),
        }
    }

    fn answer(challenge: &str, user: &str, password: &[u8], quoted_nc: bool) -> String {
        let challenge = String::from_utf8(BASE64.decode(challenge.trim().as_bytes()).unwrap()).unwrap();
        for wanted in ["realm=", "nonce=", "qop=\"auth\"", "charset=utf-8", "algorithm=md5-sess"] {
            assert!(challenge.contains(wanted), "{challenge}");
        }
        let challenge = fields(&challenge);
        let get = |name: &str| challenge.iter().find(|(key, _)| key == name).unwrap().1.clone();
        let (realm, nonce) = (get("realm"), get("nonce"));
        let uri = "ec_console/127.0.0.1:2025";
        let hash = response(&digest_secret(user, &realm, password), &nonce, "00000001", "c0ffee", uri);
        let nc = if quoted_nc { "\"00000001\"" } else { "00000001" };
        BASE64.encode(
            format!(
                "charset=utf-8,username=\"{user}\",realm=\"{realm}\",nonce=\"{nonce}\",nc={nc},cnonce=\"c0ffee\",\
                 digest-uri=\"{uri}\",response={hash},qop=auth"
            )
            .as_bytes(),
        )
    }

    fn ask(step: Step) -> String {
        match step {
            Step::Ask(text) => text,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_right_password_passes_and_a_nonce_serves_once() {
        let folder = tempfile::tempdir().unwrap();
        let mechanisms = mechanisms(folder.path());
        for quoted_nc in [false, true] {
            let mut exchange = Exchange::default();
            let challenge = ask(exchange.command("DIGEST-MD5", &mechanisms, || "abc123".into()));
            let reply = format!("response {}", answer(&challenge, "admin", b"secret", quoted_nc));
            let passed = exchange.command(&reply, &mechanisms, || unreachable!());
            assert_eq!(passed, Step::Passed { user: "admin".into() });
            assert!(matches!(exchange.command(&reply, &mechanisms, || unreachable!()), Step::Refused(_)));
        }
    }

    #[test]
    fn wrong_user_password_nonce_or_rubbish_fails() {
        let folder = tempfile::tempdir().unwrap();
        let mechanisms = mechanisms(folder.path());
        let old = ask(Exchange::default().command("DIGEST-MD5", &mechanisms, || "old".into()));
        let begin = || {
            let mut exchange = Exchange::default();
            let challenge = ask(exchange.command("digest-md5", &mechanisms, || "new".into()));
            (exchange, challenge)
        };
        let (_, challenge) = begin();
        for (reply, user) in [
            (answer(&challenge, "admin", b"wrong", false), "admin"),
            (answer(&challenge, "nobody", b"secret", false), "nobody"),
            (answer(&old, "admin", b"secret", false), "admin"),
            ("!!!".to_owned(), ""),
            (BASE64.encode(b"username=\"admin"), "admin"),
            (BASE64.encode(&[0xff, 0, 1]), ""),
            (String::new(), ""),
        ] {
            let step = begin().0.command(&format!("response {reply}"), &mechanisms, || unreachable!());
            assert_eq!(step, Step::Failed { user: user.into() }, "{reply}");
        }
    }

    #[test]
    fn login_asks_for_user_and_password() {
        let folder = tempfile::tempdir().unwrap();
        let mechanisms = mechanisms(folder.path());
        for (password, passes) in [(&b"let:me:in"[..], true), (b"let", false)] {
            let mut exchange = Exchange::default();
            ask(exchange.command("LOGIN", &mechanisms, || unreachable!()));
            ask(exchange.command(&format!("response {}", BASE64.encode(b"root")), &mechanisms, || unreachable!()));
            let last = format!("response {}", BASE64.encode(password));
            let step = exchange.command(&last, &mechanisms, || unreachable!());
            assert_eq!(matches!(step, Step::Passed { .. }), passes);
        }
    }

    #[test]
    fn the_texts_say_authorized_only_on_success() {
        assert!(PASSED.contains("authorized"));
        assert!(!DENIED.contains("authorized") && !REQUIRED.contains("authorized"));
        assert!(REQUIRED.contains("Authorization required"));
    }

    #[test]
    fn a_mechanism_without_users_is_refused() {
        let mut exchange = Exchange::default();
        for words in ["DIGEST-MD5", "LOGIN", "PLAIN", "", "response"] {
            assert!(
                matches!(exchange.command(words, &Mechanisms::default(), String::new), Step::Refused(_)),
                "{words}"
            );
        }
    }
}
