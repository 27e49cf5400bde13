//! Users and their secrets: the files behind `authplainparameters` and its kin.
//!
//! `file:///path` holds lines `user:password` or `user:SCRAM-SHA-256$iterations:salt$stored:server`, `digest:///path` lines
//! `user:realm:md5hex(user:realm:password)`; `#` begins a comment.
//! A file is read again when its time or size changed, so that a new user needs no reload. Passwords never reach a log.

use data_encoding::{BASE64, HEXLOWER_PERMISSIVE};
use parking_lot::Mutex;
use ph_smtp::server::Secret;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

/// The largest file that is read.
const FILE_SIZE_MAX: u64 = 64 << 20;

#[derive(Debug, thiserror::Error)]
pub enum UsersError {
    #[error("no file of users is named by '{0}': expected file:///path or digest:///path")]
    Scheme(String),
    #[error("cannot read the users in {}: {source}", path.display())]
    Read { path: PathBuf, source: std::io::Error },
}

/// All files of users, each read once for as long as it does not change.
#[derive(Default)]
pub struct Users {
    files: Mutex<HashMap<PathBuf, (Stamp, Arc<Secrets>)>>,
}

/// The secrets of one file by user.
type Secrets = HashMap<String, Secret>;
/// When a file was changed last, and its size.
type Stamp = (Option<SystemTime>, u64);

impl Users {
    /// The secret of `user`, or `None` when there is no such user.
    pub fn secret(&self, uri: &str, user: &str) -> Result<Option<Secret>, UsersError> {
        let (path, parse): (&str, fn(&str) -> Secrets) = match uri.split_once("://") {
            Some(("file", path)) => (path, parse),
            Some(("digest", path)) => (path, parse_digests),
            _ => return Err(UsersError::Scheme(uri.to_owned())),
        };
        Ok(self.load(Path::new(path), parse)?.get(user).cloned())
    }

    fn load(&self, path: &Path, parse: fn(&str) -> Secrets) -> Result<Arc<Secrets>, UsersError> {
        let failed = |source| UsersError::Read { path: path.to_owned(), source };
        let meta = std::fs::metadata(path).map_err(failed)?;
        let stamp = (meta.modified().ok(), meta.len());
        if let Some((known, users)) = self.files.lock().get(path)
            && *known == stamp
        {
            return Ok(users.clone());
        }
        if meta.len() > FILE_SIZE_MAX {
            return Err(failed(std::io::Error::other("the file is larger than 64 MiB")));
        }
        let text = std::fs::read_to_string(path).map_err(failed)?;
        let users = Arc::new(parse(&text));
        self.files.lock().insert(path.to_owned(), (stamp, users.clone()));
        Ok(users)
    }
}

fn parse(text: &str) -> Secrets {
    text.lines()
        .map(str::trim_end)
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.split_once(':'))
        .map(|(user, secret)| (user.to_owned(), scram(secret).unwrap_or_else(|| Secret::Clear(secret.into()))))
        .collect()
}

/// The realm is left to the mechanism: a digest made for another one simply fails.
fn parse_digests(text: &str) -> Secrets {
    let entry = |line: &str| {
        let mut fields = line.trim_end().splitn(3, ':');
        let (user, _realm, digest) = (fields.next()?, fields.next()?, fields.next()?);
        let digest = HEXLOWER_PERMISSIVE.decode(digest.as_bytes()).ok()?.try_into().ok()?;
        Some((user.to_owned(), Secret::DigestMd5(digest)))
    };
    text.lines().filter(|line| !line.starts_with('#')).filter_map(entry).collect()
}

fn scram(text: &str) -> Option<Secret> {
    let mut fields = text.strip_prefix("SCRAM-SHA-256$")?.split('$');
    let (iterations, salt) = fields.next()?.split_once(':')?;
    let (stored, server) = fields.next()?.split_once(':')?;
    let key = |field: &str| BASE64.decode(field.as_bytes()).ok()?.try_into().ok();
    Some(Secret::Scram256 {
        iterations: iterations.parse().ok()?,
        salt: BASE64.decode(salt.as_bytes()).ok()?,
        stored: key(stored)?,
        server: key(server)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn a_user_added_to_the_file_is_known_without_a_reload() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("users");
        std::fs::write(&path, "# staff\nann:s3cret:with colon\n").unwrap();
        let users = Users::default();
        let uri = format!("file://{}", path.display());
        assert_eq!(users.secret(&uri, "ann").unwrap(), Some(Secret::Clear(b"s3cret:with colon".to_vec())));
        assert_eq!(users.secret(&uri, "bob").unwrap(), None);
        assert_eq!(users.secret(&uri, "# staff").unwrap(), None);
        let mut file = std::fs::OpenOptions::new().append(true).open(&path).unwrap();
        file.write_all(b"bob:x\n").unwrap();
        assert_eq!(users.secret(&uri, "bob").unwrap(), Some(Secret::Clear(b"x".to_vec())));
    }

    #[test]
    fn errors_name_the_file_and_never_a_secret() {
        let users = Users::default();
        assert!(users.secret("ldap://x", "a").unwrap_err().to_string().contains("ldap://x"));
        assert!(users.secret("file:///nowhere/users", "a").unwrap_err().to_string().contains("/nowhere/users"));
    }

    #[test]
    fn scram_entries_are_read() {
        let key = BASE64.encode(&[7; 32]);
        let users = parse(&format!("u:SCRAM-SHA-256$4096:c2FsdA==${key}:{key}\n"));
        assert_eq!(
            users["u"],
            Secret::Scram256 { iterations: 4096, salt: b"salt".to_vec(), stored: [7; 32], server: [7; 32] }
        );
    }
}
