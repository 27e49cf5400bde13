//! Users and their secrets: the files behind `authplainparameters` and its kin.
//!
//! `file:///path` holds lines `user:password` or `user:SCRAM-SHA-256$iterations:salt$stored:server`, `digest:///path` lines
//! `user:realm:md5hex(user:realm:password)`; `#` begins a comment. For DIGEST-MD5 what is stored is the hash, in either kind of
//! file, unless `stored_cleartext` says that it is the password.
//! A file is read again when its time or size changed, so that a new user needs no reload. Passwords never reach a log.

use crate::scope::AuthSource;
use data_encoding::{BASE64, HEXLOWER_PERMISSIVE};
use parking_lot::Mutex;
use ph_smtp::sasl::constant_time_eq;
use ph_smtp::sasl::digest_md5::user_hash;
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
    files: Mutex<HashMap<PathBuf, (Stamp, Arc<Entries>)>>,
}

/// The lines of one file by user.
type Entries = HashMap<String, Vec<Entry>>;
/// When a file was changed last, and its size.
type Stamp = (Option<SystemTime>, u64);

struct Entry {
    /// Of a `digest://` file.
    realm: Option<String>,
    text: String,
}

impl Users {
    /// The secret of `user` in `realm`, or `None` when there is no such user. `file://` knows no realms.
    pub fn secret(&self, source: &AuthSource, user: &str, realm: &str) -> Result<Option<Secret>, UsersError> {
        let entries = self.entries(&source.uri)?;
        let mut of_user = entries.get(user).into_iter().flatten();
        let found = of_user.find(|entry| entry.realm.as_deref().is_none_or(|own| own == realm));
        Ok(found.and_then(|entry| entry.secret(source)))
    }

    /// Whether `password` is that of `user`, in the realm that the source names, or in any.
    pub fn verify(&self, source: &AuthSource, user: &str, password: &[u8]) -> Result<bool, UsersError> {
        let entries = self.entries(&source.uri)?;
        let fits = |entry: &&Entry| match (&source.realm, &entry.realm) {
            (Some(wanted), Some(own)) => wanted == own,
            _ => true,
        };
        let is_right = |entry: &Entry| match entry.secret(source) {
            Some(Secret::Clear(known)) => constant_time_eq(&known, password),
            Some(Secret::DigestMd5(known)) => {
                let realm = entry.realm.as_deref().or(source.realm.as_deref()).unwrap_or_default();
                constant_time_eq(&known, &user_hash(user, realm, password))
            }
            Some(Secret::Scram256 { .. }) | None => false,
        };
        Ok(entries.get(user).into_iter().flatten().filter(fits).any(is_right))
    }

    fn entries(&self, uri: &str) -> Result<Arc<Entries>, UsersError> {
        match uri.split_once("://") {
            Some(("file", path)) => self.load(Path::new(path), parse),
            Some(("digest", path)) => self.load(Path::new(path), parse_digests),
            _ => Err(UsersError::Scheme(uri.to_owned())),
        }
    }

    fn load(&self, path: &Path, parse: fn(&str) -> Entries) -> Result<Arc<Entries>, UsersError> {
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

impl Entry {
    fn secret(&self, source: &AuthSource) -> Option<Secret> {
        let clear = || Secret::Clear(self.text.as_bytes().to_vec());
        match (&self.realm, source.hashed()) {
            (Some(_), true) => hash(&self.text),
            (Some(_), false) => Some(clear()),
            (None, true) => Some(hash(&self.text).unwrap_or_else(clear)),
            (None, false) => Some(scram(&self.text).unwrap_or_else(clear)),
        }
    }
}

fn parse(text: &str) -> Entries {
    let entry = |line: &str| {
        let (user, text) = line.split_once(':')?;
        Some((user.to_owned(), Entry { realm: None, text: text.to_owned() }))
    };
    by_user(text, entry)
}

fn parse_digests(text: &str) -> Entries {
    let entry = |line: &str| {
        let mut fields = line.splitn(3, ':');
        let (user, realm, text) = (fields.next()?, fields.next()?, fields.next()?);
        Some((user.to_owned(), Entry { realm: Some(realm.to_owned()), text: text.to_owned() }))
    };
    by_user(text, entry)
}

/// A user's later line for the same realm counts, so the lines are kept from the last to the first.
fn by_user(text: &str, entry: impl Fn(&str) -> Option<(String, Entry)>) -> Entries {
    let mut entries = Entries::new();
    let lines = text.lines().rev().map(str::trim_end).filter(|line| !line.starts_with('#'));
    for (user, entry) in lines.filter_map(entry) {
        let of_user = entries.entry(user).or_default();
        if !of_user.iter().any(|known| known.realm == entry.realm) {
            of_user.push(entry);
        }
    }
    entries
}

/// H(user:realm:password) in hexadecimal.
fn hash(text: &str) -> Option<Secret> {
    let octets = HEXLOWER_PERMISSIVE.decode(text.as_bytes()).ok()?;
    Some(Secret::DigestMd5(octets.try_into().ok()?))
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

    fn source(uri: String, mechanism: &'static str) -> AuthSource {
        AuthSource { mechanism, uri, log: false, realm: None, stored_cleartext: false }
    }

    fn written(text: &str) -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("users");
        std::fs::write(&path, text).unwrap();
        (dir, path)
    }

    #[test]
    fn a_user_added_to_the_file_is_known_without_a_reload() {
        let (_dir, path) = written("# staff\nann:s3cret:with colon\n");
        let users = Users::default();
        let plain = source(format!("file://{}", path.display()), "PLAIN");
        let secret = |user| users.secret(&plain, user, "").unwrap();
        assert_eq!(secret("ann"), Some(Secret::Clear(b"s3cret:with colon".to_vec())));
        assert_eq!(secret("bob"), None);
        assert_eq!(secret("# staff"), None);
        let mut file = std::fs::OpenOptions::new().append(true).open(&path).unwrap();
        file.write_all(b"bob:x\nbob:y\n").unwrap();
        assert_eq!(secret("bob"), Some(Secret::Clear(b"y".to_vec())), "the last line counts");
        assert!(users.verify(&plain, "bob", b"y").unwrap());
        assert!(!users.verify(&plain, "bob", b"x").unwrap());
        assert!(!users.verify(&plain, "eve", b"").unwrap());
    }

    #[test]
    fn a_digest_file_has_a_secret_for_each_realm() {
        let hex = |realm| data_encoding::HEXLOWER.encode(&user_hash("ann", realm, b"pw"));
        let (_dir, path) = written(&format!("ann:one:{}\nann:two:{}\nbob:one:no hash\n", hex("one"), hex("two")));
        let users = Users::default();
        let uri = format!("digest://{}", path.display());
        let digest = source(uri.clone(), "DIGEST-MD5");
        for realm in ["one", "two"] {
            let found = users.secret(&digest, "ann", realm).unwrap();
            assert_eq!(found, Some(Secret::DigestMd5(user_hash("ann", realm, b"pw"))), "{realm}");
        }
        assert_eq!(users.secret(&digest, "ann", "three").unwrap(), None);
        assert_eq!(users.secret(&digest, "bob", "one").unwrap(), None);
        let clear = AuthSource { stored_cleartext: true, ..digest };
        assert_eq!(users.secret(&clear, "bob", "one").unwrap(), Some(Secret::Clear(b"no hash".to_vec())));
        // PLAIN against hashes.
        let plain = source(uri, "PLAIN");
        for (realm, password, ok) in
            [(None, &b"pw"[..], true), (Some("two"), b"pw", true), (None, b"px", false), (Some("three"), b"pw", false)]
        {
            let plain = AuthSource { realm: realm.map(str::to_owned), ..plain.clone() };
            assert_eq!(users.verify(&plain, "ann", password).unwrap(), ok, "{realm:?}");
        }
    }

    #[test]
    fn digest_md5_takes_a_file_for_hashes_unless_it_is_in_clear() {
        let hex = data_encoding::HEXLOWER.encode(&user_hash("ann", "r", b"pw"));
        let (_dir, path) = written(&format!("ann:{hex}\n"));
        let users = Users::default();
        let digest = source(format!("file://{}", path.display()), "DIGEST-MD5");
        assert_eq!(users.secret(&digest, "ann", "r").unwrap(), Some(Secret::DigestMd5(user_hash("ann", "r", b"pw"))));
        let clear = AuthSource { stored_cleartext: true, ..digest };
        assert_eq!(users.secret(&clear, "ann", "r").unwrap(), Some(Secret::Clear(hex.into_bytes())));
    }

    #[test]
    fn errors_name_the_file_and_never_a_secret() {
        let users = Users::default();
        let error = |uri: &str| users.secret(&source(uri.into(), "PLAIN"), "a", "").unwrap_err().to_string();
        assert!(error("ldap://x").contains("ldap://x"));
        assert!(error("file:///nowhere/users").contains("/nowhere/users"));
    }

    #[test]
    fn scram_entries_are_read() {
        let key = BASE64.encode(&[7; 32]);
        let (_dir, path) = written(&format!("u:SCRAM-SHA-256$4096:c2FsdA==${key}:{key}\n"));
        let scram = source(format!("file://{}", path.display()), "SCRAM-SHA-256");
        assert_eq!(
            Users::default().secret(&scram, "u", "").unwrap(),
            Some(Secret::Scram256 { iterations: 4096, salt: b"salt".to_vec(), stored: [7; 32], server: [7; 32] })
        );
    }
}
