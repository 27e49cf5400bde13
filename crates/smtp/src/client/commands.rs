//! The command lines of a transaction. Everything in them was checked by `is_sendable`, or is left out here.

use super::capabilities::Capabilities;
use super::transaction::{Path, Transaction, Xclient};
use smallvec::SmallVec;
use std::io::Write;

/// Appends MAIL, one RCPT for each recipient, and DATA, and where each of them ends.
pub(super) fn transaction(
    transaction: &Transaction<'_>,
    peer: &Capabilities,
    lines: &mut Vec<u8>,
    ends: &mut SmallVec<[usize; 4]>,
) {
    lines.extend_from_slice(b"MAIL FROM:");
    path(transaction.sender, lines);
    if peer.size && transaction.size > 0 {
        let _ = write!(lines, " SIZE={}", transaction.size);
    }
    if peer.eight_bit_mime && transaction.body_8bit {
        lines.extend_from_slice(b" BODY=8BITMIME");
    }
    let addresses = || std::iter::once(transaction.sender).chain(transaction.recipients.iter().map(|one| one.path));
    let needs_utf8 = || addresses().any(|path| !path.local.is_ascii() || !path.domain.is_ascii());
    if peer.smtputf8 && (transaction.smtputf8 || needs_utf8()) {
        lines.extend_from_slice(b" SMTPUTF8");
    }
    if peer.dsn {
        if let Some(full) = transaction.ret_full {
            lines.extend_from_slice(if full { b" RET=FULL" } else { b" RET=HDRS" });
        }
        if let Some(envid) = transaction.envid.filter(|id| is_parameter(id)) {
            let _ = write!(lines, " ENVID={envid}");
        }
    }
    end(lines, ends);
    for recipient in transaction.recipients {
        lines.extend_from_slice(b"RCPT TO:");
        path(recipient.path, lines);
        if peer.dsn {
            if let Some((success, failure, delay)) = recipient.notify {
                lines.extend_from_slice(b" NOTIFY=");
                let wanted = [(success, "SUCCESS"), (failure, "FAILURE"), (delay, "DELAY")];
                let names: SmallVec<[&str; 3]> = wanted.iter().filter(|(on, _)| *on).map(|(_, name)| *name).collect();
                let value = if names.is_empty() { "NEVER".to_owned() } else { names.join(",") };
                lines.extend_from_slice(value.as_bytes());
            }
            if let Some(orcpt) = recipient.orcpt.filter(|text| is_parameter(text)) {
                let _ = write!(lines, " ORCPT={orcpt}");
            }
        }
        end(lines, ends);
    }
    lines.extend_from_slice(b"DATA");
    end(lines, ends);
}

/// The attributes that the peer announced, each with a blank before it.
pub(super) fn xclient(args: &Xclient<'_>, announced: Option<&[String]>) -> String {
    let mut line = String::new();
    for (name, value) in &args.attributes {
        if announced.is_some_and(|names| names.iter().any(|known| known == name)) {
            line.push(' ');
            line.push_str(name);
            line.push('=');
            line.push_str(&xtext(value));
        }
    }
    line
}

/// xtext (RFC 3461 section 4).
pub fn xtext(value: &str) -> String {
    let mut out = String::with_capacity(value.len());
    for byte in value.bytes() {
        match byte {
            b'+' | b'=' | 0..=b' ' | 0x7f.. => out.push_str(&format!("+{byte:02X}")),
            _ => out.push(char::from(byte)),
        }
    }
    out
}

fn path(path: Path<'_>, lines: &mut Vec<u8>) {
    lines.push(b'<');
    lines.extend_from_slice(path.local.as_bytes());
    if !path.domain.is_empty() {
        lines.push(b'@');
        lines.extend_from_slice(path.domain.as_bytes());
    }
    lines.push(b'>');
}

fn end(lines: &mut Vec<u8>, ends: &mut SmallVec<[usize; 4]>) {
    lines.extend_from_slice(b"\r\n");
    ends.push(lines.len());
}

/// Whether a text may be an ESMTP value (RFC 5321 section 4.1.2), of a length that fits a command line.
fn is_parameter(text: &str) -> bool {
    !text.is_empty() && text.len() <= 500 && text.bytes().all(|byte| (b'!'..=b'~').contains(&byte))
}
