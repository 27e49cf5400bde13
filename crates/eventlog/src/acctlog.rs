//! The acctlog: who authenticated and what they were allowed to do, `@`-separated. Source: Momentum's reference,
//! "log formats".
//!
//! Field 1 is the type. `@`, `\` and controls are escaped in every field that a client chose.

use crate::facts::{Auth, AuthResult, Authz, Decision};
use crate::out;
use ph_message::Time;
use std::net::SocketAddr;

/// The line types, for the page: letter, fields behind the time, meaning.
pub(crate) const RECORDS: [(&str, &str, &str); 4] = [
    ("N", "`N@listener@peer@user@result`", "an authentication; `result` is 1 (passed) or 0 (failed)"),
    ("T", "`T@listener@peer@user@0`", "an authentication that the client did not finish in time"),
    ("?", "`?@listener@peer@user@0`", "an authentication whose outcome is unknown"),
    (
        "Z",
        "`Z@listener@peer@user@result@command[@role]`",
        "an authorization; `result` is 1 (allowed), 0 (denied) or -1 (could not be decided); the role that allowed it \
         stands there only when one did",
    ),
];

/// Appends the line of an authentication with its line end.
pub(crate) fn authentication(out: &mut Vec<u8>, now: Time, hires: bool, auth: &Auth<'_>) {
    let (letter, result) = match auth.outcome {
        AuthResult::Pass => (b'N', b'1'),
        AuthResult::Fail => (b'N', b'0'),
        AuthResult::TimedOut => (b'T', b'0'),
        AuthResult::Unknown => (b'?', b'0'),
    };
    head(out, now, hires, letter, auth.listener, auth.peer, auth.user);
    out.extend_from_slice(&[b'@', result, b'\n']);
}

/// Appends the line of an authorization with its line end.
pub(crate) fn authorization(out: &mut Vec<u8>, now: Time, hires: bool, authz: &Authz<'_>) {
    head(out, now, hires, b'Z', authz.listener, authz.peer, authz.user);
    out.extend_from_slice(match authz.decision {
        Decision::Allowed => b"@1@",
        Decision::Denied => b"@0@",
        Decision::Unknown => b"@-1@",
    });
    out::escaped(out, authz.command.as_bytes());
    if let (Decision::Allowed, Some(role)) = (authz.decision, authz.role) {
        out.push(b'@');
        out::escaped(out, role.as_bytes());
    }
    out.push(b'\n');
}

fn head(out: &mut Vec<u8>, now: Time, hires: bool, letter: u8, listener: &str, peer: Option<SocketAddr>, user: &str) {
    out::stamp(out, now, hires);
    out.extend_from_slice(&[b'@', letter, b'@']);
    out::escaped(out, listener.as_bytes());
    out.push(b'@');
    if let Some(peer) = peer {
        out::socket(out, peer);
    }
    out.push(b'@');
    out::escaped(out, user.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_of_each_type() {
        let now = Time::from_secs(1_251_200_446);
        let peer = Some("10.0.0.1:99".parse().unwrap());
        for (outcome, wanted) in [
            (AuthResult::Pass, "1251200446@N@*:2025@10.0.0.1:99@ad\\@min@1\n"),
            (AuthResult::Fail, "1251200446@N@*:2025@10.0.0.1:99@ad\\@min@0\n"),
            (AuthResult::TimedOut, "1251200446@T@*:2025@10.0.0.1:99@ad\\@min@0\n"),
            (AuthResult::Unknown, "1251200446@?@*:2025@10.0.0.1:99@ad\\@min@0\n"),
        ] {
            let mut out = Vec::new();
            authentication(&mut out, now, false, &Auth { listener: "*:2025", peer, user: "ad@min", outcome });
            assert_eq!(String::from_utf8(out).unwrap(), wanted);
        }
        let authz = Authz {
            listener: "/tmp/2025",
            peer: None,
            user: "root",
            decision: Decision::Allowed,
            command: "message fail\n a@b",
            role: Some("admin"),
        };
        for (decision, wanted) in [
            (Decision::Allowed, "1251200446@Z@/tmp/2025@@root@1@message fail\\n a\\@b@admin\n"),
            (Decision::Denied, "1251200446@Z@/tmp/2025@@root@0@message fail\\n a\\@b\n"),
            (Decision::Unknown, "1251200446@Z@/tmp/2025@@root@-1@message fail\\n a\\@b\n"),
        ] {
            let mut out = Vec::new();
            authorization(&mut out, now, false, &Authz { decision, ..authz });
            assert_eq!(String::from_utf8(out).unwrap(), wanted);
        }
    }
}
