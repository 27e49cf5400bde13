//! The trace header block that reception puts before a message (RFC 5321 section 4.4, RFC 3848).
//!
//! Its shape is the one of Momentum's mail, which header parsers know. Whatever the client named itself, no line of it is
//! longer than 998 octets (RFC 5322 section 2.1.1): a receiver would refuse our bounces for it.

use jiff::tz::TimeZone;
use ph_message::{Id, Mailbox, Time};
use std::cell::RefCell;
use std::io::Write;
use std::net::SocketAddr;

/// The longest line without its CRLF.
const LINE_MAX: usize = 998;

/// What a Received header says.
pub struct Received<'a> {
    pub helo: &'a str,
    /// The client's reverse name, when one is known.
    pub name: Option<&'a str>,
    pub remote: SocketAddr,
    pub by: &'a str,
    pub sender: &'a Mailbox,
    pub with: With,
    pub id: Id,
    pub at: Time,
}

/// How it came in; the letters of RFC 3848.
#[derive(Clone, Copy, Debug, Default)]
pub struct With {
    pub esmtp: bool,
    pub tls: bool,
    pub auth: bool,
    pub utf8: bool,
}

impl With {
    fn name(self) -> &'static str {
        match (self.utf8, self.esmtp, self.tls, self.auth) {
            (true, _, true, true) => "UTF8SMTPSA",
            (true, _, true, false) => "UTF8SMTPS",
            (true, _, false, true) => "UTF8SMTPA",
            (true, _, false, false) => "UTF8SMTP",
            (false, true, true, true) => "ESMTPSA",
            (false, true, true, false) => "ESMTPS",
            (false, true, false, true) => "ESMTPA",
            (false, true, false, false) => "ESMTP",
            (false, false, ..) => "SMTP",
        }
    }
}

impl Received<'_> {
    /// Appends the header field with its final CRLF.
    pub fn write(&self, out: &mut Vec<u8>) {
        let start = out.len();
        let ip = self.remote.ip();
        match self.name {
            Some(name) => put(out, format_args!("Received: from {name} ([{ip}:{}] helo=", self.remote.port())),
            None => put(out, format_args!("Received: from [{ip}] ([{ip}:{}] helo=", self.remote.port())),
        }
        comment_text(self.helo, out);
        out.extend_from_slice(b")");
        if out.len() - start > LINE_MAX {
            out.truncate(start);
            put(out, format_args!("Received: from [{ip}] ([{ip}:{}])", self.remote.port()));
        }
        put(out, format_args!("\r\n\tby {}", self.by));
        let by_end = out.len();
        out.extend_from_slice(b" (envelope-from <");
        comment_text(&self.sender.local, out);
        if !self.sender.domain.is_empty() {
            out.push(b'@');
            comment_text(&self.sender.domain, out);
        }
        out.extend_from_slice(b">)");
        if out.len() - by_end + self.by.len() > LINE_MAX - 8 {
            out.truncate(by_end);
        }
        put(out, format_args!("\r\n\t(Posthaste) with {}\r\n\tid ", self.with.name()));
        out.extend_from_slice(&self.id.text());
        out.extend_from_slice(b"; ");
        date(self.at, out);
        out.extend_from_slice(b"\r\n");
    }
}

/// Appends a Received header whose text a policy has written, with or without the field's name. Its line breaks become folds, and
/// a line that is too long is cut: whatever the policy has put in, this is one field. False: there is no text in it.
pub fn received_as_told(text: &[u8], out: &mut Vec<u8>) -> bool {
    const NAME: &[u8] = b"Received:";
    let named = text.get(..NAME.len()).is_some_and(|start| start.eq_ignore_ascii_case(NAME));
    let text = if named { &text[NAME.len()..] } else { text };
    let mut fold: &[u8] = b"Received: ";
    for line in text.split(|byte| matches!(byte, b'\r' | b'\n')).map(<[u8]>::trim_ascii).filter(|line| !line.is_empty())
    {
        out.extend_from_slice(fold);
        let line = &line[..line.len().min(LINE_MAX - fold.len())];
        out.extend(line.iter().map(|&byte| if byte.is_ascii_control() && byte != b'\t' { b'?' } else { byte }));
        fold = b"\r\n\t";
    }
    let is_there = fold != b"Received: ";
    if is_there {
        out.extend_from_slice(b"\r\n");
    }
    is_there
}

/// `Return-Path: <sender>`, with its CRLF.
pub fn return_path(sender: &Mailbox, out: &mut Vec<u8>) {
    put(out, format_args!("Return-Path: <{sender}>\r\n"));
}

/// The trace header of mail that no connection brought.
pub fn internal(by: &str, sender: &Mailbox, id: Id, at: Time, out: &mut Vec<u8>) {
    return_path(sender, out);
    put(out, format_args!("Received: by {by} (Posthaste) with internal id "));
    out.extend_from_slice(&id.text());
    out.extend_from_slice(b";\r\n\t");
    date(at, out);
    out.extend_from_slice(b"\r\n");
}

/// The value of a `Date` field.
pub fn date_text(at: Time) -> Vec<u8> {
    let mut out = Vec::with_capacity(32);
    date(at, &mut out);
    out
}

/// The value of a `Message-ID` field of Momentum's shape, made from the message's id.
pub fn message_id(id: Id, hostname: &str) -> String {
    format!("<{}@{hostname}>", id.to_string().replace(['/', '-'], "."))
}

/// Text inside a comment: brackets and backslashes are quoted (RFC 5322 section 3.2.2), controls become `?`.
fn comment_text(text: &str, out: &mut Vec<u8>) {
    for &byte in text.as_bytes() {
        match byte {
            b'(' | b')' | b'\\' => out.extend_from_slice(&[b'\\', byte]),
            0..=31 | 127 => out.push(b'?'),
            _ => out.push(byte),
        }
    }
}

fn put(out: &mut Vec<u8>, text: std::fmt::Arguments<'_>) {
    out.write_fmt(text).expect("writing to a Vec does not fail");
}

thread_local! {
    /// The date of the last second that was formatted here: at thousands of messages a second the calendar is worth a cache.
    static LAST_DATE: RefCell<(i64, String)> = const { RefCell::new((i64::MIN, String::new())) };
}

/// Appends the date in the form of RFC 5322 section 3.3, in the local zone.
pub fn date(at: Time, out: &mut Vec<u8>) {
    LAST_DATE.with_borrow_mut(|(second, text)| {
        if *second != at.secs() {
            *second = at.secs();
            *text = format_date(at);
        }
        out.extend_from_slice(text.as_bytes());
    });
}

fn format_date(at: Time) -> String {
    let stamp = jiff::Timestamp::from_second(at.secs()).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
    let zoned = stamp.to_zoned_datetime(TimeZone::system());
    zoned.strftime("%a, %d %b %Y %H:%M:%S %z").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn received<'a>(helo: &'a str, sender: &'a Mailbox, by: &'a str) -> String {
        let mut out = Vec::new();
        Received {
            helo,
            name: None,
            remote: "192.0.2.1:2525".parse().unwrap(),
            by,
            sender,
            with: With { esmtp: true, ..With::default() },
            id: "18/00-07149-D7E16B94".parse().unwrap(),
            at: Time::from_secs(1_800_000_000),
        }
        .write(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn has_the_known_shape() {
        let sender = Mailbox { local: "a".into(), domain: "b.c".into() };
        let text = received("mail.example", &sender, "mx.example");
        let (head, tail) = text.split_once("; ").unwrap();
        assert_eq!(
            head,
            "Received: from [192.0.2.1] ([192.0.2.1:2525] helo=mail.example)\r\n\tby mx.example (envelope-from <a@b.c>)\
             \r\n\t(Posthaste) with ESMTP\r\n\tid 18/00-07149-D7E16B94"
        );
        assert!(tail.starts_with("Fri, 15 Jan 2027") || tail.contains("Jan 2027"), "{tail}");
        assert!(tail.ends_with("\r\n"));
    }

    #[test]
    fn no_line_is_longer_than_998_octets_and_nothing_breaks_out_of_a_comment() {
        let long = "x".repeat(4000);
        let sender = Mailbox { local: format!("\"{long}\r\nX: y)(\"").into(), domain: "b.c".into() };
        for helo in [long.as_str(), "a)(b", "h\r\nX-Evil: 1"] {
            let text = received(helo, &sender, &"m".repeat(255));
            assert!(text.split("\r\n").all(|line| line.len() <= 998), "{text}");
            assert!(text.trim_end().split("\r\n").skip(1).all(|line| line.starts_with('\t')), "{text}");
        }
    }

    #[test]
    fn a_policys_text_becomes_one_field() {
        let long = "x".repeat(2000);
        for (text, want) in [
            ("by us", "Received: by us\r\n"),
            ("Received: by us; now\r\n", "Received: by us; now\r\n"),
            ("RECEIVED:by us\r\n\tfor you", "Received: by us\r\n\tfor you\r\n"),
            ("by us\nX-Evil: 1\r\n\r\nbody", "Received: by us\r\n\tX-Evil: 1\r\n\tbody\r\n"),
            ("a\0b\tc", "Received: a?b\tc\r\n"),
            ("Received:", ""),
            (" \r\n ", ""),
            (&long, &format!("Received: {}\r\n", "x".repeat(988))),
        ] {
            let mut out = Vec::new();
            assert_eq!(received_as_told(text.as_bytes(), &mut out), !want.is_empty(), "{text:?}");
            assert_eq!(String::from_utf8(out).unwrap(), *want, "{text:?}");
        }
    }

    #[test]
    fn rfc_3848_letters() {
        let with = |esmtp, tls, auth, utf8| With { esmtp, tls, auth, utf8 }.name();
        assert_eq!(with(false, false, false, false), "SMTP");
        assert_eq!(with(true, true, false, false), "ESMTPS");
        assert_eq!(with(true, false, true, false), "ESMTPA");
        assert_eq!(with(true, true, true, false), "ESMTPSA");
        assert_eq!(with(true, true, true, true), "UTF8SMTPSA");
    }
}
