//! Delivery status notifications (RFC 3464 in the multipart/report of RFC 6522; RFC 6533 for addresses beyond ASCII).
//!
//! Pure: time, names and texts come in, a `Content` goes out; who gets a report and when is the delivery's business, but
//! `is_wanted` says what the sender asked for (RFC 3461). A report is about one recipient, since every recipient is a
//! message of its own here. Whatever a peer's reply holds, it becomes one field value and one line of text.

use crate::content::{Body, Content};
use crate::encoded_word;
use crate::envelope::{DsnRequest, Envelope, Mailbox, Ret};
use crate::header::{FOLD_AT, unfold, write_field};
use crate::id::Id;
use crate::mime::MimeTree;
use crate::time::Time;
use crate::transfer::{Lines, quoted_printable_encode};
use memchr::memmem;
use std::fmt::Write;
use std::io;

/// An original with a longer body is returned as its header only, whatever was asked: a report is built in memory.
pub const ORIGINAL_LEN_MAX: u64 = 1 << 20;

/// The longest reply text that goes into a report.
const REPLY_LEN_MAX: usize = 2000;

/// What happened to the message, in the order of Momentum's constants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Action {
    Failed = 0,
    Delayed = 1,
    Delivered = 2,
    Relayed = 3,
    Expanded = 4,
}

impl Action {
    pub fn name(self) -> &'static str {
        match self {
            Action::Failed => "failed",
            Action::Delayed => "delayed",
            Action::Delivered => "delivered",
            Action::Relayed => "relayed",
            Action::Expanded => "expanded",
        }
    }

    /// From a reply's first digit: 2 delivered, 4 delayed, else failed.
    pub fn of_reply(reply: &str) -> Action {
        match reply.as_bytes().first() {
            Some(b'2') => Action::Delivered,
            Some(b'4') => Action::Delayed,
            _ => Action::Failed,
        }
    }

    /// The class of its status code.
    fn class(self) -> char {
        match self {
            Action::Failed => '5',
            Action::Delayed => '4',
            Action::Delivered | Action::Relayed | Action::Expanded => '2',
        }
    }

    fn subject(self) -> &'static str {
        match self {
            Action::Failed => "Mail Delivery Failure",
            Action::Delayed => "Delayed Mail (still being retried)",
            Action::Delivered | Action::Relayed | Action::Expanded => "Mail Delivery Status",
        }
    }

    fn preamble(self) -> &'static str {
        match self {
            Action::Failed => "Your message could not be delivered to the following address:",
            Action::Delayed => {
                "Your message has not been delivered yet to the following address.\r\n\
                 You need not send it again: further attempts will be made."
            }
            Action::Delivered => "Your message was delivered to the following address:",
            Action::Relayed => {
                "Your message was handed on for the following address, to a system that\r\n\
                 does not confirm deliveries:"
            }
            Action::Expanded => "Your message was delivered to the following list:",
        }
    }
}

/// `bounces_inline_original`: how much of the original goes into a report.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Inline {
    None,
    #[default]
    Headers,
    Full,
}

/// Whether a sender's `NOTIFY` (RFC 3461 section 4.1) wants this report. Without one: failures and delays.
pub fn is_wanted(dsn: &DsnRequest, action: Action) -> bool {
    match (dsn.notify, action) {
        (None, Action::Failed | Action::Delayed) => true,
        (None, _) => false,
        (Some(notify), Action::Failed) => notify.failure,
        (Some(notify), Action::Delayed) => notify.delay,
        (Some(notify), Action::Delivered | Action::Relayed | Action::Expanded) => notify.success,
    }
}

/// All that a report says.
#[derive(Clone, Debug)]
pub struct Report<'a> {
    pub action: Action,
    /// The message that the report is about.
    pub envelope: &'a Envelope,
    pub original: &'a Content,
    /// The option's value; a `RET` of the sender goes before it.
    pub inline: Inline,
    /// Our name.
    pub hostname: &'a str,
    /// The address of `mailerdaemon`.
    pub from: &'a str,
    /// Whom it is sent to: the original's sender, or `mdn_failures_notify`.
    pub to: &'a Mailbox,
    /// The report's own id: its Message-ID and its boundary come from it.
    pub id: Id,
    pub now: Time,
    /// The last reply, or an internal text; may be empty.
    pub reply: &'a str,
    /// What was being done: `after RCPT TO`; may be empty.
    pub stage: &'a str,
    /// The host that gave the reply.
    pub remote_mta: Option<&'a str>,
    pub last_attempt: Option<Time>,
    /// Of a delayed message: when it is given up.
    pub retry_until: Option<Time>,
    /// What a policy says instead of our first sentences.
    pub preamble: Option<&'a str>,
}

/// Names and values, in order.
pub type StatusFields = Vec<(String, String)>;

/// The fields of a delivery-status part, in wire order: those about the message, then those about its recipient.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeliveryStatus {
    pub message: StatusFields,
    pub recipient: StatusFields,
}

impl DeliveryStatus {
    /// The two groups as header fields, an empty line between them.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(512);
        for (at, group) in [&self.message, &self.recipient].into_iter().filter(|group| !group.is_empty()).enumerate() {
            if at > 0 {
                out.extend_from_slice(b"\r\n");
            }
            for (name, value) in group {
                // A policy may have put a name here that is none: the field is left out then.
                let _ = write_field(&mut out, name, value.as_bytes(), FOLD_AT);
            }
        }
        out
    }

    /// What a reply alone tells: diagnostic, action and status.
    pub fn of_reply(reply: &str) -> DeliveryStatus {
        let action = Action::of_reply(reply);
        let recipient = vec![
            ("Diagnostic-Code".into(), format!("smtp; {}", one_line(reply))),
            ("Action".into(), action.name().into()),
            ("Status".into(), status(reply, action)),
        ];
        DeliveryStatus { message: Vec::new(), recipient }
    }
}

/// The status code (RFC 3463): the reply's own where it has one whose class fits the action, else `x.0.0`.
pub fn status(reply: &str, action: Action) -> String {
    let class = action.class();
    let enhanced =
        reply.split_ascii_whitespace().take(2).map(|word| word.rsplit('-').next().unwrap_or(word)).find(|word| {
            let mut parts = word.split('.');
            let is_number = |part: Option<&str>, digits: usize| {
                part.is_some_and(|p| (1..=digits).contains(&p.len()) && p.bytes().all(|byte| byte.is_ascii_digit()))
            };
            is_number(parts.next(), 1)
                && is_number(parts.next(), 3)
                && is_number(parts.next(), 3)
                && parts.next().is_none()
        });
    match enhanced.filter(|code| code.starts_with(class)) {
        Some(code) => code.to_owned(),
        None => format!("{class}.0.0"),
    }
}

impl Report<'_> {
    /// The fields of the delivery-status part.
    pub fn delivery_status(&self) -> DeliveryStatus {
        let mut message = vec![
            ("Arrival-Date".into(), self.envelope.created.rfc5322()),
            ("Reporting-MTA".into(), format!("dns; {}", self.hostname)),
        ];
        if let Some(envid) = &self.envelope.dsn.envid {
            message.push(("Original-Envelope-Id".into(), envid.to_string()));
        }
        let mut recipient: StatusFields = Vec::with_capacity(8);
        let mut add = |name: &str, value: String| recipient.push((name.to_owned(), value));
        if let Some(host) = self.remote_mta {
            add("Remote-MTA", format!("dns; {host}"));
        }
        if !self.reply.is_empty() {
            add("Diagnostic-Code", format!("smtp; {}", one_line(self.reply)));
        }
        add("Action", self.action.name().into());
        if let Some(orcpt) = &self.envelope.dsn.orcpt {
            let (kind, address) = orcpt.split_once(';').unwrap_or(("rfc822", orcpt));
            add("Original-Recipient", self.typed_address(kind, address));
        }
        add("Final-Recipient", self.typed_address("rfc822", &self.envelope.recipient.to_string()));
        if let Some(at) = self.last_attempt {
            add("Last-Attempt-Date", at.rfc5322());
        }
        add("Status", status(self.reply, self.action));
        if let (Action::Delayed, Some(until)) = (self.action, self.retry_until) {
            add("Will-Retry-Until", until.rfc5322());
        }
        DeliveryStatus { message, recipient }
    }

    /// The whole report. Reads an original of up to 1 MiB that lies in a file, if it has to be returned whole (blocking).
    pub fn build(&self) -> io::Result<Content> {
        let original = self.returned_original()?;
        let boundary = self.boundary(original.as_ref().map(|(_, bytes)| &bytes[..]));
        let mut body = Vec::with_capacity(2048 + original.as_ref().map_or(0, |(_, bytes)| bytes.len()));
        body.extend_from_slice(b"This is a delivery status notification in MIME format.\r\n\r\n");
        self.write_text_part(&mut body, &boundary);
        self.write_status_part(&mut body, &boundary);
        if let Some((kind, bytes)) = &original {
            part(&mut body, &boundary, kind, if bytes.is_ascii() { "" } else { "8bit" });
            body.extend_from_slice(bytes);
        }
        body.extend_from_slice(format!("\r\n--{boundary}--\r\n").as_bytes());

        let mut head = Vec::with_capacity(768);
        let mut field = |name: &str, value: &str| {
            write_field(&mut head, name, value.as_bytes(), FOLD_AT).expect("the names are good");
        };
        field("Return-Path", "<>");
        field("From", &format!("Mail Delivery System <{}>", self.from));
        field("To", &self.to.to_string());
        field("Subject", self.action.subject());
        field("Date", &self.now.rfc5322());
        field("Message-ID", &self.id.message_id(self.hostname));
        field("Auto-Submitted", "auto-replied");
        field("MIME-Version", "1.0");
        field("Content-Type", &format!("multipart/report; report-type=delivery-status; boundary=\"{boundary}\""));
        if !body.is_ascii() {
            field("Content-Transfer-Encoding", "8bit");
        }
        head.extend_from_slice(b"\r\n");
        Ok(Content::new(head.into(), Body::Memory(body.into())))
    }

    /// The report goes to somebody who reads UTF-8 addresses: RFC 6533's own types may be used.
    fn is_international(&self) -> bool {
        self.envelope.smtputf8 || !self.to.is_ascii()
    }

    /// An address with its type; one beyond ASCII is written in the forms of RFC 6533 section 3.
    fn typed_address(&self, kind: &str, address: &str) -> String {
        if address.is_ascii() {
            return format!("{}; {address}", if kind.is_empty() { "rfc822" } else { kind });
        }
        if self.is_international() {
            return format!("utf-8; {address}");
        }
        let mut out = String::from("utf-8; ");
        for character in address.chars() {
            match character {
                '\\' | '+' | '=' => write!(out, "\\x{{{:02X}}}", u32::from(character)),
                '!'..='~' => write!(out, "{character}"),
                _ => write!(out, "\\x{{{:02X}}}", u32::from(character)),
            }
            .expect("writing to a String does not fail");
        }
        out
    }

    fn write_text_part(&self, body: &mut Vec<u8>, boundary: &str) {
        let preamble = self.preamble.map_or_else(
            || format!("This is the mail system at {}.\r\n\r\n{}", self.hostname, self.action.preamble()),
            str::to_owned,
        );
        let stage = if self.stage.is_empty() { String::new() } else { format!(" ({})", one_line(self.stage)) };
        let mut text = format!("{}\r\n\r\n{}{stage}", preamble.trim_end(), self.envelope.recipient);
        if !self.reply.is_empty() {
            write!(text, ": {}", one_line(self.reply)).expect("writing to a String does not fail");
        }
        text.push_str("\r\n");
        if let (Action::Delayed, Some(until)) = (self.action, self.retry_until) {
            write!(text, "\r\nIt will be given up on {}.\r\n", until.rfc5322())
                .expect("writing to a String does not fail");
        }
        let text = crate::header_check::fix_line_ends(text.as_bytes());
        let fits =
            text.is_ascii() && text.split(|&byte| byte == b'\n').all(|line| line.len() < 998) && !text.contains(&0);
        if fits {
            part(body, boundary, "text/plain; charset=us-ascii", "");
            body.extend_from_slice(&text);
        } else {
            part(body, boundary, "text/plain; charset=utf-8", "quoted-printable");
            body.extend_from_slice(&quoted_printable_encode(&text, Lines::Text));
        }
    }

    fn write_status_part(&self, body: &mut Vec<u8>, boundary: &str) {
        let mut status = self.delivery_status().to_bytes();
        if !status.is_ascii() && self.is_international() {
            part(body, boundary, "message/global-delivery-status", "8bit");
        } else {
            part(body, boundary, "message/delivery-status", "");
            status.iter_mut().filter(|byte| !byte.is_ascii()).for_each(|byte| *byte = b'?');
        }
        body.extend_from_slice(&status);
    }

    /// Type and octets of the last part; `None` when nothing of the original goes back.
    fn returned_original(&self) -> io::Result<Option<(&'static str, Vec<u8>)>> {
        let asked = match self.envelope.dsn.ret {
            Some(Ret::Full) => Inline::Full,
            Some(Ret::Headers) => Inline::Headers,
            None => self.inline,
        };
        // RFC 3461 section 4.3: a success is never worth the whole message.
        let is_success = self.action.class() == '2';
        let inline = match asked {
            Inline::Full if is_success || self.original.size() > ORIGINAL_LEN_MAX => Inline::Headers,
            other => other,
        };
        let international = self.is_international() && !self.original.head().is_ascii();
        Ok(match (inline, international) {
            (Inline::None, _) => None,
            (Inline::Headers, false) => Some(("text/rfc822-headers", self.original.header_block().to_vec())),
            (Inline::Headers, true) => Some(("message/global-headers", self.original.header_block().to_vec())),
            (Inline::Full, false) => Some(("message/rfc822", self.original.to_bytes()?.to_vec())),
            (Inline::Full, true) => Some(("message/global", self.original.to_bytes()?.to_vec())),
        })
    }

    /// A boundary that does not stand in the original.
    fn boundary(&self, original: Option<&[u8]>) -> String {
        let id = self.id.text().map(|byte| if byte.is_ascii_alphanumeric() { char::from(byte) } else { '.' });
        let mut boundary = format!("=_report_{}", id.iter().collect::<String>());
        while original.is_some_and(|bytes| memmem::find(bytes, boundary.as_bytes()).is_some()) {
            boundary.push('_');
        }
        boundary
    }
}

/// The delimiter and header of a part.
fn part(body: &mut Vec<u8>, boundary: &str, kind: &str, encoding: &str) {
    if body.ends_with(b"\r\n") {
        body.truncate(body.len() - 2);
    }
    body.extend_from_slice(format!("\r\n--{boundary}\r\nContent-Type: {kind}\r\n").as_bytes());
    if !encoding.is_empty() {
        body.extend_from_slice(format!("Content-Transfer-Encoding: {encoding}\r\n").as_bytes());
    }
    body.extend_from_slice(b"\r\n");
}

/// A reply's lines joined by blanks, without controls, cut to a bounded length.
fn one_line(reply: &str) -> String {
    let kept = &reply[..reply.floor_char_boundary(REPLY_LEN_MAX)];
    let lines = kept.split(['\r', '\n']).map(str::trim).filter(|line| !line.is_empty());
    let mut out = String::with_capacity(kept.len());
    for line in lines {
        if !out.is_empty() {
            out.push(' ');
        }
        out.extend(line.chars().map(|c| if c.is_control() { ' ' } else { c }));
    }
    out
}

/// Reads the first delivery-status part of a report: the fields of the message, then those of each recipient. `None`: the
/// message is no report or has nothing that can be read. Names of known fields are given in their usual spelling.
pub fn extract_delivery_status(content: &Content) -> io::Result<Option<Vec<StatusFields>>> {
    let tree = MimeTree::parse(content)?;
    let is_status = |kind: &str| matches!(kind, "message/delivery-status" | "message/global-delivery-status");
    let found = tree.parts().iter().enumerate().find(|(at, part)| {
        is_status(&part.content_type.value)
            && !std::iter::successors(part.parent, |&p| tree.parts()[p].parent)
                .any(|p| tree.parts()[p].content_type.is_message())
            && *at > 0
    });
    let Some((_, part)) = found else { return Ok(None) };
    let decoded = tree.decoded(part);
    let text = crate::header_check::fix_line_ends(&decoded);
    let groups: Vec<_> = Groups { rest: &text }.map(fields_of).filter(|group| !group.is_empty()).collect();
    Ok((!groups.is_empty()).then_some(groups))
}

/// Splits at empty lines.
struct Groups<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Groups<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        while let Some(rest) = self.rest.strip_prefix(b"\r\n") {
            self.rest = rest;
        }
        if self.rest.is_empty() {
            return None;
        }
        let end = memmem::find(self.rest, b"\r\n\r\n").map_or(self.rest.len(), |at| at + 2);
        let (group, rest) = self.rest.split_at(end);
        self.rest = rest;
        Some(group)
    }
}

fn fields_of(group: &[u8]) -> StatusFields {
    let mut fields: StatusFields = Vec::new();
    for field in crate::header::fields(group).filter(|field| !field.name.is_empty()) {
        let name = String::from_utf8_lossy(field.name);
        let name = KNOWN_FIELDS.iter().find(|known| known.eq_ignore_ascii_case(&name)).map_or(&*name, |known| known);
        if fields.iter().all(|(known, _)| known != name) {
            fields.push((name.to_owned(), encoded_word::decode(&unfold(field.value))));
        }
    }
    fields
}

/// The fields of RFC 3464 in their usual spelling.
const KNOWN_FIELDS: [&str; 14] = [
    "Original-Envelope-Id",
    "Reporting-MTA",
    "DSN-Gateway",
    "Received-From-MTA",
    "Arrival-Date",
    "Original-Recipient",
    "Final-Recipient",
    "Action",
    "Status",
    "Remote-MTA",
    "Diagnostic-Code",
    "Last-Attempt-Date",
    "Final-Log-ID",
    "Will-Retry-Until",
];

#[cfg(test)]
mod tests;
