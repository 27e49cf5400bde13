//! DIGEST-MD5, server side (RFC 2831): for old clients, and for consoles, which know nothing else.
//!
//! Lenient where public clients are loose: any value may be quoted or not, and any digest-uri of the service is taken. Only
//! `qop=auth`, without a security layer and without re-authentication.

use super::{Next, constant_time_eq};
use crate::server::{AuthOutcome, Secret};
use data_encoding::HEXLOWER;
use md5::{Digest, Md5};

/// The longest response that is read (RFC 2831 section 2.1.2).
const RESPONSE_SIZE_MAX: usize = 4096;

pub struct DigestMd5 {
    realm: String,
    nonce: String,
    /// How the digest-uri must begin: `smtp/`, `ec_console/`.
    service: &'static str,
    response: Option<Response>,
    confirmed: bool,
}

#[derive(Default)]
struct Response {
    user: String,
    cnonce: String,
    nc: String,
    uri: String,
    acting: Option<String>,
    proof: String,
}

impl DigestMd5 {
    /// `nonce` must be fresh and hold no comma or quote; neither may `realm`: those are left out.
    pub fn new(realm: &str, nonce: &str, service: &'static str) -> DigestMd5 {
        let plain = |text: &str| text.replace(['"', ',', '\\'], "");
        DigestMd5 { realm: plain(realm), nonce: plain(nonce), service, response: None, confirmed: false }
    }

    /// The challenge, not yet in base64.
    pub fn challenge(&self) -> String {
        format!("realm=\"{}\",nonce=\"{}\",qop=\"auth\",charset=utf-8,algorithm=md5-sess", self.realm, self.nonce)
    }

    /// The user that the response named; empty before.
    pub fn user(&self) -> &str {
        self.response.as_ref().map_or("", |response| &response.user)
    }

    pub fn response(&mut self, response: &[u8]) -> Next {
        if self.confirmed {
            return Next::Done(if response.is_empty() { AuthOutcome::Pass } else { AuthOutcome::Fail });
        }
        self.response = self.parse(response);
        if self.response.is_some() { Next::Secret } else { Next::Done(AuthOutcome::Fail) }
    }

    /// Checks the proof. Passing, the client is sent `rspauth=` and answers with an empty response.
    pub fn secret(&mut self, secret: Option<&Secret>) -> Next {
        match self.check(secret) {
            Some(rspauth) => {
                self.confirmed = true;
                Next::Challenge(format!("rspauth={rspauth}").into_bytes())
            }
            None => Next::Done(AuthOutcome::Fail),
        }
    }

    /// The server's own proof, if the client's was right.
    pub fn check(&self, secret: Option<&Secret>) -> Option<String> {
        let response = self.response.as_ref()?;
        let user_hash = match secret? {
            Secret::Clear(password) => user_hash(&response.user, &self.realm, password),
            Secret::DigestMd5(hash) => *hash,
            Secret::Scram256 { .. } => return None,
        };
        let wanted = self.proof(response, &user_hash, "AUTHENTICATE:");
        constant_time_eq(wanted.as_bytes(), response.proof.as_bytes()).then(|| self.proof(response, &user_hash, ":"))
    }

    /// RFC 2831 section 2.1.2.1, with `algorithm=md5-sess` and `qop=auth`.
    fn proof(&self, response: &Response, user_hash: &[u8; 16], method: &str) -> String {
        let mut first = Md5::new();
        first.update(user_hash);
        first.update(format!(":{}:{}", self.nonce, response.cnonce));
        if let Some(acting) = &response.acting {
            first.update(format!(":{acting}"));
        }
        let first = HEXLOWER.encode(&first.finalize());
        let second = HEXLOWER.encode(&Md5::digest(format!("{method}{}", response.uri)));
        let whole = format!("{first}:{}:{}:{}:auth:{second}", self.nonce, response.nc, response.cnonce);
        HEXLOWER.encode(&Md5::digest(whole))
    }

    fn parse(&self, response: &[u8]) -> Option<Response> {
        if response.len() > RESPONSE_SIZE_MAX {
            return None;
        }
        let mut rest = std::str::from_utf8(response).ok()?.trim();
        let mut parsed = Response::default();
        let (mut realm, mut nonce) = (None, None);
        while !rest.is_empty() {
            let (key, value, tail) = directive(rest)?;
            rest = tail;
            match &*key.to_ascii_lowercase() {
                "username" => parsed.user = value,
                "realm" => realm = Some(value),
                "nonce" => nonce = Some(value),
                "cnonce" => parsed.cnonce = value,
                "nc" => parsed.nc = value,
                "digest-uri" => parsed.uri = value,
                "authzid" => parsed.acting = Some(value),
                "response" => parsed.proof = value.to_ascii_lowercase(),
                "qop" if value != "auth" => return None,
                _ => {}
            }
        }
        let acting_self = parsed.acting.as_ref().is_none_or(|acting| acting.is_empty() || *acting == parsed.user);
        let ok = !parsed.user.is_empty()
            && !parsed.cnonce.is_empty()
            && parsed.nc == "00000001" // a nonce serves once
            && parsed.uri.starts_with(self.service)
            && realm.unwrap_or_default() == self.realm
            && nonce.as_deref() == Some(&self.nonce)
            && acting_self;
        ok.then_some(parsed)
    }
}

/// H(user:realm:password): what `digest://` files store, there in hexadecimal.
pub fn user_hash(user: &str, realm: &str, password: &[u8]) -> [u8; 16] {
    let mut hash = Md5::new();
    hash.update(user);
    hash.update(":");
    hash.update(realm);
    hash.update(":");
    hash.update(password);
    hash.finalize().into()
}

/// `key=value` or `key="value"`, and what follows its comma.
fn directive(text: &str) -> Option<(&str, String, &str)> {
    let (key, rest) = text.split_once('=')?;
    let rest = rest.trim_start();
    let (value, rest) = match rest.strip_prefix('"') {
        None => {
            let end = rest.find(',').unwrap_or(rest.len());
            (rest[..end].trim_end().to_owned(), &rest[end..])
        }
        Some(quoted) => {
            let mut value = String::new();
            let mut chars = quoted.char_indices();
            loop {
                match chars.next()? {
                    (at, '"') => break (value, &quoted[at + 1..]),
                    (_, '\\') => value.push(chars.next()?.1),
                    (_, other) => value.push(other),
                }
            }
        }
    };
    let rest = rest.trim_start();
    let tail = if rest.is_empty() { rest } else { rest.strip_prefix(',')?.trim_start() };
    Some((key.trim(), value, tail))
}

#[cfg(test)]
mod tests {
    use super::*;

    const RESPONSE: &str = "charset=utf-8,username=\"chris\",realm=\"elwood.innosoft.com\",nonce=\"OA6MG9tEQGm2hh\",\
        nc=00000001,cnonce=\"OA6MHXh6VqTrRk\",digest-uri=\"imap/elwood.innosoft.com\",\
        response=d388dad90d4bbd760a152321f2143af7,qop=auth";

    fn exchange(response: &str, password: Option<&str>) -> Next {
        let mut digest = DigestMd5::new("elwood.innosoft.com", "OA6MG9tEQGm2hh", "imap/");
        match digest.response(response.as_bytes()) {
            Next::Secret => digest.secret(password.map(|text| Secret::Clear(text.into())).as_ref()),
            next => next,
        }
    }

    #[test]
    fn the_example_of_rfc_2831_section_4() {
        let rspauth = b"rspauth=ea40f60335c427b5527b84dbabcdfffd".to_vec();
        assert_eq!(exchange(RESPONSE, Some("secret")), Next::Challenge(rspauth));
        assert_eq!(exchange(RESPONSE, Some("Secret")), Next::Done(AuthOutcome::Fail));
        assert_eq!(exchange(RESPONSE, None), Next::Done(AuthOutcome::Fail));
    }

    #[test]
    fn a_stored_hash_serves_instead_of_the_password() {
        let mut digest = DigestMd5::new("elwood.innosoft.com", "OA6MG9tEQGm2hh", "imap/");
        assert_eq!(digest.response(RESPONSE.as_bytes()), Next::Secret);
        let hash = Secret::DigestMd5(user_hash("chris", "elwood.innosoft.com", b"secret"));
        assert!(matches!(digest.secret(Some(&hash)), Next::Challenge(_)));
        assert_eq!(digest.response(b""), Next::Done(AuthOutcome::Pass));
    }

    #[test]
    fn quotes_are_a_matter_of_taste() {
        for (from, to) in [
            ("nc=00000001", "nc=\"00000001\""),
            ("qop=auth", "qop=\"auth\""),
            ("username=\"chris\"", "username=chris"),
            (",nc", " , nc"),
            ("username=\"chris\"", "username=\"c\\hris\""),
        ] {
            assert!(matches!(exchange(&RESPONSE.replacen(from, to, 1), Some("secret")), Next::Challenge(_)), "{to}");
        }
    }

    #[test]
    fn replays_other_realms_and_nonsense_fail() {
        for (from, to) in [
            ("nc=00000001", "nc=00000002"),
            ("OA6MG9", "OA6MG8"),
            ("realm=\"elwood", "realm=\"other"),
            ("imap/", "smtp/"),
            ("qop=auth", "qop=auth-int"),
            ("username=\"chris\",", ""),
            ("qop=auth", "authzid=\"root\""),
            ("username=\"chris\"", "username=\"chris"),
        ] {
            assert_eq!(
                exchange(&RESPONSE.replacen(from, to, 1), Some("secret")),
                Next::Done(AuthOutcome::Fail),
                "{to}"
            );
        }
    }

    #[test]
    fn the_challenge_can_be_split_at_commas() {
        let digest = DigestMd5::new("a,\"b", "n", "smtp/");
        assert_eq!(digest.challenge(), "realm=\"ab\",nonce=\"n\",qop=\"auth\",charset=utf-8,algorithm=md5-sess");
    }
}
