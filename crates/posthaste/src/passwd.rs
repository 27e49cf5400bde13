//! `posthaste passwd`: a line for a file of users.

use crate::cli::PasswdArgs;
use anyhow::{Context, Result, bail};
use md5::{Digest, Md5};
use std::io::{BufRead, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

pub fn run(args: &PasswdArgs) -> Result<()> {
    if args.user.is_empty() || args.user.contains(':') {
        bail!("a user's name is not empty and holds no colon");
    }
    let password = match &args.password {
        Some(password) => password.clone(),
        None => {
            let mut line = String::new();
            std::io::stdin().lock().read_line(&mut line).context("cannot read the password from standard input")?;
            line.trim_end_matches(['\r', '\n']).to_owned()
        }
    };
    let line = line(&args.user, &args.realm, &password, args.clear);
    let Some(file) = &args.file else {
        println!("{line}");
        return Ok(());
    };
    let text = match std::fs::read_to_string(file) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", file.display())),
    };
    let prefix = if args.clear { format!("{}:", args.user) } else { format!("{}:{}:", args.user, args.realm) };
    replace(file, &with_line(&text, &prefix, &line)).with_context(|| format!("cannot write {}", file.display()))
}

/// The text with `line` in place of those that begin with `prefix`, or at its end.
fn with_line(text: &str, prefix: &str, line: &str) -> String {
    let mut lines: Vec<&str> = text.lines().collect();
    let at = lines.iter().position(|known| known.starts_with(prefix)).unwrap_or(lines.len());
    lines.retain(|known| !known.starts_with(prefix));
    lines.insert(at, line);
    lines.join("\n") + "\n"
}

/// Whole or not at all: the server may read it at any moment. A new file is its owner's alone.
fn replace(file: &Path, text: &str) -> std::io::Result<()> {
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut new = tempfile::NamedTempFile::new_in(folder)?;
    new.write_all(text.as_bytes())?;
    if let Ok(present) = std::fs::metadata(file) {
        new.as_file().set_permissions(present.permissions())?;
        // Where this is not the owner's own doing it stays with whoever runs this.
        let _ = std::os::unix::fs::fchown(new.as_file(), Some(present.uid()), Some(present.gid()));
    }
    new.as_file().sync_all()?;
    new.persist(file)?;
    Ok(())
}

/// `user:realm:md5(user:realm:password)` for `digest://`, `user:password` for `file://`.
fn line(user: &str, realm: &str, password: &str, clear: bool) -> String {
    if clear {
        return format!("{user}:{password}");
    }
    let digest = Md5::digest(format!("{user}:{realm}:{password}"));
    format!("{user}:{realm}:{}", data_encoding::HEXLOWER.encode(&digest))
}

#[cfg(test)]
mod tests {
    #[test]
    fn digests_as_rfc_2831_wants_them() {
        // The example user of RFC 2831 section 4.
        assert_eq!(
            super::line("chris", "elwood.innosoft.com", "secret", false),
            "chris:elwood.innosoft.com:eb5a750053e4d2c34aa84bbc9b0b6ee7"
        );
        assert_eq!(super::line("a", "r", "p:q", true), "a:p:q");
    }
    #[test]
    fn a_users_line_is_replaced_where_it_stands() {
        for (text, want) in [
            ("", "a:r:2\n"),
            ("a:r:1\nb:r:1\n", "a:r:2\nb:r:1\n"),
            ("b:r:1", "b:r:1\na:r:2\n"),
            ("a:other:1\na:r:1\na:r:0\nb:r:1\n", "a:other:1\na:r:2\nb:r:1\n"),
        ] {
            assert_eq!(super::with_line(text, "a:r:", "a:r:2"), want, "{text:?}");
        }
    }
}
