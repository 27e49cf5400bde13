//! The context variables that the engine sets for policies and logs: `ehlo_domain`, `mailfrom_string`, `auth_user` ...

use ph_message::{Context, Mailbox};
use ph_policy::Session;
use ph_smtp::Reply;
use ph_smtp::server::{AuthOutcome, MailCommand, TlsFacts};

pub fn mail(session: &Session, command: &MailCommand, sender: &Mailbox) {
    let mut state = session.state.lock();
    state.mess.set("mailfrom_string", command.line.clone().into_bytes());
    state.mess.set("mailfrom_localpart", sender.local.as_bytes().to_vec());
    state.mess.set("mailfrom_domain", sender.domain.as_bytes().to_vec());
    if command.body_8bit {
        state.mess.set("#8bitmime", "1");
    }
}

pub fn recipient(mess: &mut Context, recipient: &Mailbox, line: &str) {
    mess.set("rcptto_string", line.as_bytes().to_vec());
    name_recipient(mess, recipient);
}

/// The parts of the address alone: for a recipient that no RCPT command named.
pub fn name_recipient(mess: &mut Context, recipient: &Mailbox) {
    mess.set("rcptto_localpart", recipient.local.as_bytes().to_vec());
    mess.set("rcptto_domain", recipient.domain.as_bytes().to_vec());
}

pub fn count_message(session: &Session, count: u32) {
    session.state.lock().conn.set("connection_message_count", count.to_string());
}

pub fn count_recipient(session: &Session, connection: u32, message: u32) {
    let mut state = session.state.lock();
    state.conn.set("connection_rcpt_count", connection.to_string());
    state.conn.set("message_rcpt_count", message.to_string());
}

pub fn authenticated(session: &Session, mechanism: &str, user: &str, outcome: AuthOutcome) {
    let mut state = session.state.lock();
    state.conn.set("auth_name", mechanism.as_bytes().to_vec());
    state.conn.set("auth_user", user.as_bytes().to_vec());
    state.conn.set("auth_status", auth_status(outcome));
    if outcome == AuthOutcome::Pass {
        state.conn.set("can_relay", "true");
    }
}

/// A policy refused a login that the password would have allowed: what it gave is taken back.
pub fn login_refused(session: &Session, could_relay: Option<&str>) {
    let mut state = session.state.lock();
    let conn = &mut state.conn;
    conn.set("auth_status", auth_status(AuthOutcome::Fail));
    match could_relay {
        Some(value) => conn.set("can_relay", value.to_owned()),
        None => _ = conn.remove("can_relay"),
    }
}

pub fn auth_status(outcome: AuthOutcome) -> &'static str {
    match outcome {
        AuthOutcome::Pass => "pass",
        AuthOutcome::Fail => "fail",
        AuthOutcome::Error => "error",
    }
}

/// What AUTH gave before TLS is dropped (RFC 3207 section 4.2); `trusted`: the client may relay all the same.
pub fn tls_started(session: &Session, facts: &TlsFacts, trusted: bool) {
    let mut state = session.state.lock();
    let conn = &mut state.conn;
    for key in ["auth_name", "auth_user", "auth_status", "can_relay"] {
        conn.remove(key);
    }
    if trusted {
        conn.set("can_relay", "true");
    }
    conn.set("tls", "on");
    conn.set("tls_cipher", facts.cipher.clone());
    conn.set("tls_cipher_algbits", facts.cipher_bits.to_string());
    conn.set("tls_cipher_usebits", facts.cipher_bits.to_string());
    let certificate = [
        ("tls_client_cert_subject", &facts.client_subject),
        ("tls_client_cert_subject_cn", &facts.client_subject_cn),
        ("tls_client_cert_issuer", &facts.client_issuer),
        ("tls_client_cert_issuer_cn", &facts.client_issuer_cn),
    ];
    for (key, value) in certificate {
        if let Some(value) = value {
            conn.set(key, value.clone());
        }
    }
    if facts.client_verified {
        conn.set("tls_client_verified", "yes");
    }
}

/// Keys that the engine itself trusts: a client may not set them, however much it is trusted otherwise.
pub fn is_trusted_key(key: &str) -> bool {
    key == "can_relay" || ["auth_", "tls", "pathway", "__bypass_"].iter().any(|prefix| key.starts_with(prefix))
}

/// XSETCONTEXT. `trusted`: a `peer` stanza enabled the command for this client.
pub fn set_by_client(session: &Session, key: &str, value: &[u8], trusted: bool) -> Result<(), Reply> {
    if is_trusted_key(key) && !trusted {
        return Err(Reply::new(550, (5, 7, 1), "not allowed"));
    }
    session.state.lock().conn.set(key, value.to_vec());
    Ok(())
}

/// XDUMPCONTEXT: one line for each variable, controls as `?`, since the reply is read line by line.
pub fn dump(session: &Session) -> Vec<String> {
    let state = session.state.lock();
    let line = |kind: &str, key: &str, value: &[u8]| {
        let text: String =
            String::from_utf8_lossy(value).chars().map(|c| if c.is_control() { '?' } else { c }).collect();
        format!("[{kind}] {key} {text}")
    };
    let conn = state.conn.iter().map(|(key, value)| line("connection", key, value));
    conn.chain(state.mess.iter().map(|(key, value)| line("message", key, value))).collect()
}
