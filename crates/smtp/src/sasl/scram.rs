//! SCRAM-SHA-256 without channel binding (RFC 5802, RFC 7677).
//!
//! Passwords are taken as they are: no SASLprep, so those outside ASCII must be stored as clients send them. An unknown user
//! gets a salt of its own that stays the same while the process lives, and fails at the same step as a wrong password.

use super::{Next, constant_time_eq, nonce};
use crate::server::{AuthOutcome, Secret};
use aws_lc_rs::{digest, hmac, pbkdf2};
use data_encoding::BASE64;
use std::num::NonZeroU32;
use std::sync::OnceLock;

/// Iterations where the password is known in clear: what RFC 7677 section 4 asks for.
const ITERATIONS: NonZeroU32 = NonZeroU32::new(4096).unwrap();

pub(super) struct Scram {
    nonce: String,
    pub user: String,
    gs2_header: String,
    client_first: String,
    server_first: String,
    keys: Option<Keys>,
    stage: Stage,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    ClientFirst,
    Secret,
    ClientFinal,
    /// Our signature is sent; the client confirms with an empty response.
    Confirm,
}

struct Keys {
    stored: [u8; 32],
    server: [u8; 32],
    /// There is such a user.
    known: bool,
}

impl Scram {
    pub fn new(nonce: &str) -> Scram {
        Scram {
            nonce: nonce.to_owned(),
            user: String::new(),
            gs2_header: String::new(),
            client_first: String::new(),
            server_first: String::new(),
            keys: None,
            stage: Stage::ClientFirst,
        }
    }

    pub fn response(&mut self, response: &[u8]) -> Next {
        let next = std::str::from_utf8(response).ok().and_then(|text| match self.stage {
            Stage::ClientFirst => self.first(text),
            Stage::ClientFinal => self.last(text),
            Stage::Confirm => Some(Next::Done(if text.is_empty() { AuthOutcome::Pass } else { AuthOutcome::Fail })),
            Stage::Secret => None,
        });
        next.unwrap_or(Next::Done(AuthOutcome::Fail))
    }

    /// `n,[a=authzid],n=user,r=nonce[,extensions]`.
    fn first(&mut self, text: &str) -> Option<Next> {
        let (flag, rest) = text.split_once(',')?;
        let (acting, bare) = rest.split_once(',')?;
        // "y": the client could bind but thinks that we cannot, which is true. "p": it insists on binding.
        if flag != "n" && flag != "y" {
            return None;
        }
        let mut attributes = bare.split(',');
        let user = name(attributes.next()?.strip_prefix("n=")?)?;
        let client_nonce = attributes.next()?.strip_prefix("r=").filter(|nonce| !nonce.is_empty())?;
        let acting_self = acting.is_empty() || acting.strip_prefix("a=").and_then(name).as_deref() == Some(&user);
        if user.is_empty() || !acting_self {
            return None;
        }
        self.gs2_header = format!("{flag},{acting},");
        self.nonce = format!("{client_nonce}{}", self.nonce);
        self.client_first = bare.to_owned();
        self.user = user;
        self.stage = Stage::Secret;
        Some(Next::Secret)
    }

    pub fn secret(&mut self, secret: Option<&Secret>) -> Next {
        let made = match secret {
            Some(Secret::Scram256 { iterations, salt, stored, server }) => {
                Some((*iterations, salt.clone(), Keys { stored: *stored, server: *server, known: true }))
            }
            Some(Secret::Clear(password)) => nonce().map(|salt| {
                let (stored, server) = salted_keys(password, salt.as_bytes(), ITERATIONS);
                (ITERATIONS.get(), salt.into_bytes(), Keys { stored, server, known: true })
            }),
            Some(Secret::DigestMd5(_)) | None => unknown_user_salt(&self.user)
                .map(|salt| (ITERATIONS.get(), salt, Keys { stored: [0; 32], server: [0; 32], known: false })),
        };
        let Some((iterations, salt, keys)) = made else { return Next::Done(AuthOutcome::Error) };
        self.server_first = format!("r={},s={},i={iterations}", self.nonce, BASE64.encode(&salt));
        self.keys = Some(keys);
        self.stage = Stage::ClientFinal;
        Next::Challenge(self.server_first.clone().into_bytes())
    }

    /// `c=binding,r=nonce[,extensions],p=proof`.
    fn last(&mut self, text: &str) -> Option<Next> {
        let (without_proof, proof) = text.rsplit_once(",p=")?;
        let mut attributes = without_proof.split(',');
        let binding = BASE64.decode(attributes.next()?.strip_prefix("c=")?.as_bytes()).ok()?;
        let proof: [u8; 32] = BASE64.decode(proof.as_bytes()).ok()?.try_into().ok()?;
        if binding != self.gs2_header.as_bytes() || attributes.next()?.strip_prefix("r=")? != self.nonce {
            return None;
        }
        let keys = self.keys.take()?;
        let message = format!("{},{},{without_proof}", self.client_first, self.server_first);
        let mut client_key = proof;
        for (byte, signature) in client_key.iter_mut().zip(mac(&keys.stored, message.as_bytes())) {
            *byte ^= signature;
        }
        let stored = digest::digest(&digest::SHA256, &client_key);
        if !constant_time_eq(stored.as_ref(), &keys.stored) || !keys.known {
            return None;
        }
        self.stage = Stage::Confirm;
        let signature = mac(&keys.server, message.as_bytes());
        Some(Next::Challenge(format!("v={}", BASE64.encode(&signature)).into_bytes()))
    }
}

/// StoredKey and ServerKey of a password (RFC 5802 section 3).
pub fn salted_keys(password: &[u8], salt: &[u8], iterations: NonZeroU32) -> ([u8; 32], [u8; 32]) {
    let mut salted = [0; 32];
    pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, iterations, salt, password, &mut salted);
    let client_key = mac(&salted, b"Client Key");
    let mut stored = [0; 32];
    stored.copy_from_slice(digest::digest(&digest::SHA256, &client_key).as_ref());
    (stored, mac(&salted, b"Server Key"))
}

fn mac(key: &[u8], message: &[u8]) -> [u8; 32] {
    let mut out = [0; 32];
    out.copy_from_slice(hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), message).as_ref());
    out
}

fn unknown_user_salt(user: &str) -> Option<Vec<u8>> {
    static KEY: OnceLock<Option<String>> = OnceLock::new();
    let key = KEY.get_or_init(nonce).as_ref()?;
    Some(mac(key.as_bytes(), user.as_bytes())[..16].to_vec())
}

/// A saslname: `=2C` is a comma, `=3D` an equals sign, and nothing else may follow `=`.
fn name(text: &str) -> Option<String> {
    let plain = text.replace("=2C", ",").replace("=3D", "\0");
    let ok = !plain.contains('=') && !text.contains('\0');
    ok.then(|| plain.replace('\0', "="))
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: &[u8] = b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO";
    const LAST: &[u8] = b"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
        p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";

    /// RFC 7677 section 3.
    fn rfc_secret(password: &str) -> Secret {
        let salt = BASE64.decode(b"W22ZaJ0SNY7soEsUEjb6gQ==").unwrap();
        let (stored, server) = salted_keys(password.as_bytes(), &salt, ITERATIONS);
        Secret::Scram256 { iterations: 4096, salt, stored, server }
    }

    fn rfc_exchange(secret: Option<&Secret>, last: &[u8]) -> Next {
        let mut scram = Scram::new("%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0");
        assert_eq!(scram.response(FIRST), Next::Secret);
        assert_eq!(scram.user, "user");
        let Next::Challenge(first) = scram.secret(secret) else { panic!("no server-first message") };
        if secret.is_some() {
            assert_eq!(
                first,
                b"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096".to_vec()
            );
        }
        let next = scram.response(last);
        if let Next::Challenge(_) = next {
            assert_eq!(scram.response(b""), Next::Done(AuthOutcome::Pass));
        }
        next
    }

    #[test]
    fn the_example_of_rfc_7677() {
        let signature = b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=".to_vec();
        assert_eq!(rfc_exchange(Some(&rfc_secret("pencil")), LAST), Next::Challenge(signature));
    }

    #[test]
    fn a_wrong_password_and_an_unknown_user_fail_at_the_same_step() {
        assert_eq!(rfc_exchange(Some(&rfc_secret("pencil2")), LAST), Next::Done(AuthOutcome::Fail));
        assert_eq!(rfc_exchange(None, LAST), Next::Done(AuthOutcome::Fail));
    }

    #[test]
    fn tampering_fails() {
        let text = String::from_utf8(LAST.to_vec()).unwrap();
        for (from, to) in [("c=biws", "c=eSws"), ("%hv", "%hw"), ("p=dHz", "p=eHz"), (",p=", ",x=")] {
            let last = text.replacen(from, to, 1);
            assert_eq!(
                rfc_exchange(Some(&rfc_secret("pencil")), last.as_bytes()),
                Next::Done(AuthOutcome::Fail),
                "{to}"
            );
        }
        for bad in ["", "n,,", "p=tls-unique,,n=u,r=x", "n,,n=,r=x", "n,,n=u,r=", "n,a=v,n=u,r=x", "n,,n=a=b,r=x"] {
            assert_eq!(Scram::new("n").response(bad.as_bytes()), Next::Done(AuthOutcome::Fail), "{bad}");
        }
    }

    #[test]
    fn names_are_unescaped() {
        assert_eq!(name("a=2Cb=3Dc").as_deref(), Some("a,b=c"));
        assert_eq!(name("a=3D2C").as_deref(), Some("a=2C"));
        assert_eq!(name("a=41"), None);
    }

    #[test]
    fn a_password_in_clear_serves_too() {
        let mut scram = Scram::new("srv");
        assert_eq!(scram.response(b"n,,n=ann,r=cli"), Next::Secret);
        let Next::Challenge(first) = scram.secret(Some(&Secret::Clear(b"pw".to_vec()))) else { panic!() };
        let first = String::from_utf8(first).unwrap();
        let salt = first.split(',').nth(1).unwrap().strip_prefix("s=").unwrap();
        let salt = BASE64.decode(salt.as_bytes()).unwrap();
        // The client's half of RFC 5802 section 3.
        let mut salted = [0; 32];
        pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, ITERATIONS, &salt, b"pw", &mut salted);
        let key = mac(&salted, b"Client Key");
        let stored = digest::digest(&digest::SHA256, &key);
        let message = format!("n=ann,r=cli,{first},c=biws,r=clisrv");
        let proof: Vec<u8> = key.iter().zip(mac(stored.as_ref(), message.as_bytes())).map(|(a, b)| a ^ b).collect();
        let last = format!("c=biws,r=clisrv,p={}", BASE64.encode(&proof));
        assert!(matches!(scram.response(last.as_bytes()), Next::Challenge(v) if v.starts_with(b"v=")));
    }
}
