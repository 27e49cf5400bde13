//! Files of users and groups: `file:///path` (`user:password`), `digest:///path` (`user:realm:md5hex`) and
//! `groups:///path` (`group:user,user` or `group:x:user,user`). Lines that begin with `#` are comments.
//!
//! A file is read for each question: a question is rare, and a user added to the file is then known without a restart.

use crate::auth::{digest_secret, same};
use data_encoding::HEXLOWER_PERMISSIVE;
use std::path::PathBuf;

/// Largest file of users that is read, in octets.
const FILE_MAX: u64 = 16 << 20;

/// A file of users, by its URI.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserFile {
    scheme: Scheme,
    path: PathBuf,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scheme {
    File,
    Digest,
    Groups,
}

/// The URI is none of the supported ones.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is no user file: expected file:///path, digest:///path or groups:///path")]
pub struct BadUri(String);

impl UserFile {
    pub fn parse(uri: &str) -> Result<UserFile, BadUri> {
        let bad = || BadUri(uri.to_owned());
        let (scheme, path) = uri.split_once("://").ok_or_else(bad)?;
        let scheme = match scheme {
            "file" => Scheme::File,
            "digest" => Scheme::Digest,
            "groups" => Scheme::Groups,
            _ => return Err(bad()),
        };
        if path.is_empty() {
            return Err(bad());
        }
        Ok(UserFile { scheme, path: path.into() })
    }

    /// The lines that are no comments; none if the file cannot be read.
    fn lines(&self) -> Vec<String> {
        let small = std::fs::metadata(&self.path).is_ok_and(|meta| meta.len() <= FILE_MAX);
        let text = if small { std::fs::read(&self.path).unwrap_or_default() } else { Vec::new() };
        let text = String::from_utf8_lossy(&text);
        text.lines()
            .map(str::trim)
            .filter(|line| !line.is_empty() && !line.starts_with('#'))
            .map(str::to_owned)
            .collect()
    }
}

/// `AuthDigestMD5Parameters`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DigestUsers {
    pub file: UserFile,
    pub realm: String,
    /// The last field of a `digest:` file is the password itself.
    pub stored_cleartext: bool,
}

impl DigestUsers {
    /// MD5(user:realm:password), raw; `None`: no such user.
    pub(crate) fn secret(&self, user: &str, realm: &str) -> Option<[u8; 16]> {
        self.file.lines().iter().find_map(|line| match self.file.scheme {
            Scheme::File => {
                let (name, password) = line.split_once(':')?;
                (name == user).then(|| digest_secret(user, realm, password.as_bytes()))
            }
            Scheme::Digest => {
                let (name, rest) = line.split_once(':')?;
                let (of_realm, stored) = rest.split_once(':')?;
                if name != user || of_realm != realm {
                    return None;
                }
                if self.stored_cleartext {
                    return Some(digest_secret(user, realm, stored.as_bytes()));
                }
                HEXLOWER_PERMISSIVE.decode(stored.as_bytes()).ok()?.try_into().ok()
            }
            Scheme::Groups => None,
        })
    }
}

/// `AuthLoginParameters`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoginUsers {
    pub file: UserFile,
}

impl LoginUsers {
    /// Whether this is the user's password.
    pub(crate) fn verify(&self, user: &str, password: &[u8]) -> bool {
        self.file.lines().iter().any(|line| match self.file.scheme {
            Scheme::File => {
                line.split_once(':').is_some_and(|(name, stored)| name == user && same(stored.as_bytes(), password))
            }
            Scheme::Digest => line
                .split_once(':')
                .and_then(|(name, rest)| rest.split_once(':').map(|rest| (name, rest)))
                .is_some_and(|(name, (realm, stored))| {
                    let secret = digest_secret(user, realm, password);
                    name == user
                        && HEXLOWER_PERMISSIVE.decode(stored.as_bytes()).is_ok_and(|stored| same(&stored, &secret))
                }),
            Scheme::Groups => false,
        })
    }
}

/// `AuthorizationParameters`: which roles a user has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Groups {
    pub file: UserFile,
}

impl Groups {
    /// The groups that name the user, in the order of the file.
    pub fn of(&self, user: &str) -> Vec<String> {
        let named = |line: &String| {
            let (group, rest) = line.split_once(':')?;
            let members = rest.split_once(':').map_or(rest, |(_, members)| members);
            members.split(',').any(|member| member.trim() == user).then(|| group.trim().to_owned())
        };
        match self.file.scheme {
            Scheme::Groups => self.file.lines().iter().filter_map(named).collect(),
            Scheme::File | Scheme::Digest => Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_in_both_forms() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("groups");
        std::fs::write(&path, "# c\nops:tom, ann\nadmin:x:ann\nbad\n\n").unwrap();
        let groups = Groups { file: UserFile::parse(&format!("groups://{}", path.display())).unwrap() };
        assert_eq!(groups.of("ann"), ["ops", "admin"]);
        assert_eq!(groups.of("tom"), ["ops"]);
        assert!(groups.of("x").is_empty());
        std::fs::write(&path, "ops:x:new\n").unwrap();
        assert_eq!(groups.of("new"), ["ops"], "a change is seen at once");
    }

    #[test]
    fn other_uris_are_refused() {
        for uri in ["", "/path", "file://", "ldap:///x"] {
            assert!(UserFile::parse(uri).is_err(), "{uri}");
        }
    }
}
