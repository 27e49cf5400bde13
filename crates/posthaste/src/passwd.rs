//! `posthaste passwd`: a line for a file of users.

use crate::cli::PasswdArgs;
use anyhow::{Context, Result, bail};
use md5::{Digest, Md5};
use std::io::BufRead;

pub fn run(args: &PasswdArgs) -> Result<()> {
    if args.user.is_empty() || args.user.contains(':') {
        bail!("a user's name is not empty and holds no colon");
    }
    let mut password = String::new();
    std::io::stdin().lock().read_line(&mut password).context("cannot read the password from standard input")?;
    println!("{}", line(&args.user, &args.realm, password.trim_end_matches(['\r', '\n']), args.clear));
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
}
