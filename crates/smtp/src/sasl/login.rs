//! LOGIN (an expired draft that every client speaks): two prompts, two answers. The user may come as initial response.

use super::Next;
use crate::server::AuthOutcome;

#[derive(Default)]
pub(super) struct Login {
    pub user: String,
    pub password: Vec<u8>,
}

impl Login {
    /// `Username:` or `Password:`, whichever is missing.
    pub fn prompt(&self) -> Next {
        Next::Challenge(if self.user.is_empty() { b"Username:".to_vec() } else { b"Password:".to_vec() })
    }

    pub fn response(&mut self, response: &[u8]) -> Next {
        if !self.user.is_empty() {
            self.password = response.to_vec();
            return Next::Verify;
        }
        match std::str::from_utf8(response) {
            Ok(name) if !name.is_empty() && !name.contains('\0') => {
                name.clone_into(&mut self.user);
                self.prompt()
            }
            _ => Next::Done(AuthOutcome::Fail),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_prompts_then_a_password_to_verify() {
        let mut login = Login::default();
        assert_eq!(login.prompt(), Next::Challenge(b"Username:".to_vec()));
        assert_eq!(login.response(b"ann"), Next::Challenge(b"Password:".to_vec()));
        assert_eq!(login.response(b"s3cret"), Next::Verify);
        assert_eq!((&*login.user, &*login.password), ("ann", &b"s3cret"[..]));
        assert_eq!(Login::default().response(b""), Next::Done(AuthOutcome::Fail));
    }
}
