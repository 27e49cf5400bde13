//! PLAIN (RFC 4616): `[authzid] NUL authcid NUL passwd`.
//!
//! Acting for another user is not offered: an authorization identity must be empty or the user's own.

use super::Next;
use crate::server::AuthOutcome;

#[derive(Default)]
pub(super) struct Plain {
    pub user: String,
    pub password: Vec<u8>,
}

impl Plain {
    pub fn response(&mut self, response: &[u8]) -> Next {
        let mut parts = response.split(|&byte| byte == 0);
        let (Some(acting), Some(user), Some(password), None) = (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Next::Done(AuthOutcome::Fail);
        };
        let Ok(name) = std::str::from_utf8(user) else { return Next::Done(AuthOutcome::Fail) };
        if name.is_empty() || !(acting.is_empty() || acting == user) {
            return Next::Done(AuthOutcome::Fail);
        }
        name.clone_into(&mut self.user);
        self.password = password.to_vec();
        Next::Verify
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_of_rfc_4616_section_4() {
        let mut plain = Plain::default();
        assert_eq!(plain.response(b"\0tim\0tanstaaftanstaaf"), Next::Verify);
        assert_eq!((&*plain.user, &*plain.password), ("tim", &b"tanstaaftanstaaf"[..]));
        // The second example acts for somebody else.
        assert_eq!(plain.response(b"Ursel\0Kurt\0xipj3plmq"), Next::Done(AuthOutcome::Fail));
        assert_eq!(plain.response(b"Kurt\0Kurt\0xipj3plmq"), Next::Verify);
    }

    #[test]
    fn malformed_messages_fail() {
        for bad in [&b""[..], b"a", b"a\0b", b"\0\0p", b"\0a\0b\0c", b"\0\xff\0p"] {
            assert_eq!(Plain::default().response(bad), Next::Done(AuthOutcome::Fail), "{bad:?}");
        }
    }
}
