//! CRAM-MD5 (RFC 2195): the client proves that it knows the password by an HMAC over our challenge. Needs clear text.

use super::{Next, constant_time_eq};
use crate::server::{AuthOutcome, Secret};
use data_encoding::HEXLOWER_PERMISSIVE;
use hmac::{Hmac, KeyInit, Mac};
use md5::Md5;

pub(super) struct CramMd5 {
    challenge: String,
    pub user: String,
    proof: Vec<u8>,
}

impl CramMd5 {
    pub fn new(host: &str, nonce: &str) -> CramMd5 {
        CramMd5 { challenge: format!("<{nonce}@{host}>"), user: String::new(), proof: Vec::new() }
    }

    pub fn challenge(&self) -> Next {
        Next::Challenge(self.challenge.clone().into_bytes())
    }

    /// `user SP 32 hex digits`; the user's name may hold blanks.
    pub fn response(&mut self, response: &[u8]) -> Next {
        let parsed = std::str::from_utf8(response).ok().and_then(|text| {
            let (user, digest) = text.rsplit_once(' ')?;
            Some((user, HEXLOWER_PERMISSIVE.decode(digest.as_bytes()).ok()?))
        });
        match parsed {
            Some((user, proof)) if !user.is_empty() && proof.len() == 16 => {
                user.clone_into(&mut self.user);
                self.proof = proof;
                Next::Secret
            }
            _ => Next::Done(AuthOutcome::Fail),
        }
    }

    pub fn secret(&mut self, secret: Option<&Secret>) -> Next {
        let Some(Secret::Clear(password)) = secret else { return Next::Done(AuthOutcome::Fail) };
        let Ok(mut mac) = Hmac::<Md5>::new_from_slice(password) else { return Next::Done(AuthOutcome::Error) };
        mac.update(self.challenge.as_bytes());
        let known = mac.finalize().into_bytes();
        let pass = constant_time_eq(&known, &self.proof);
        Next::Done(if pass { AuthOutcome::Pass } else { AuthOutcome::Fail })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 2195 section 2.
    fn rfc_exchange() -> CramMd5 {
        let mut cram = CramMd5::new("postoffice.reston.mci.net", "1896.697170952");
        assert_eq!(cram.challenge(), Next::Challenge(b"<1896.697170952@postoffice.reston.mci.net>".to_vec()));
        assert_eq!(cram.response(b"tim b913a602c7eda7a495b4e6e7334d3890"), Next::Secret);
        assert_eq!(cram.user, "tim");
        cram
    }

    #[test]
    fn the_example_of_rfc_2195() {
        let clear = |text: &str| Secret::Clear(text.into());
        assert_eq!(rfc_exchange().secret(Some(&clear("tanstaaftanstaaf"))), Next::Done(AuthOutcome::Pass));
        assert_eq!(rfc_exchange().secret(Some(&clear("tanstaaf"))), Next::Done(AuthOutcome::Fail));
        assert_eq!(rfc_exchange().secret(None), Next::Done(AuthOutcome::Fail));
    }

    #[test]
    fn malformed_responses_fail() {
        for bad in [&b""[..], b"tim", b"tim ", b"tim b913", b" b913a602c7eda7a495b4e6e7334d3890", b"tim zz"] {
            assert_eq!(CramMd5::new("h", "n").response(bad), Next::Done(AuthOutcome::Fail));
        }
    }
}
