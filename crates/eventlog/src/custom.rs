//! `custom_logger`: lines in a format that the operator writes, `%` specifiers and literal text. Source: Momentum's
//! reference, "custom_logger Module".
//!
//! A format is compiled once, longest specifier first (`%BI` before `%B`). What a peer chose passes the logger's
//! `sanitize` rules and can in no case bring a line end into a line.

mod sanitize;

use crate::declare::Field;
use crate::facts::{Facts, Kind};
use crate::fields::{self as f, field};
use crate::out;
use crate::stage::Stage;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use ph_message::Time;
use sanitize::Sanitize;

/// A compiled format.
#[derive(Clone, Debug)]
pub struct Format {
    parts: Vec<Part>,
    sanitize: Sanitize,
}

#[derive(Clone, Debug)]
enum Part {
    Literal(Vec<u8>),
    Field(fn(&mut Vec<u8>, &Facts<'_>)),
    /// A field whose bytes a peer chose: sanitized.
    Foreign(fn(&mut Vec<u8>, &Facts<'_>)),
    Header(String),
    Connection(String),
    Message(String),
    /// `%T{n}`.
    Queued(usize),
    /// `%us{n}`.
    Stamp(usize),
    /// `%t{strftime}`, and the same with fractions of a second.
    Strftime {
        plain: String,
        hires: String,
    },
}

/// The operator's format cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FormatError {
    #[error("unknown specifier '%{specifier}' at offset {offset} of the format")]
    Unknown { specifier: String, offset: usize },
    #[error("specifier '%{specifier}' at offset {offset} needs a {{…}} argument")]
    Argument { specifier: String, offset: usize },
    #[error("'%{specifier}{{{argument}}}': {reason}")]
    BadArgument { specifier: String, argument: String, reason: String },
    #[error("unknown sanitize rule '{0}'")]
    Sanitize(String),
}

const OUR_OWN: bool = false;
const FOREIGN: bool = true;

/// Specifiers without an argument: the field, and whether a peer chose its bytes.
pub(crate) static SPECIFIERS: [(Field, bool); 37] = [
    (field("A", "authentication method", |out, facts| context(out, facts, "auth_name")), FOREIGN),
    (field("b", "binding", f::binding), OUR_OWN),
    (field("g", "binding group", f::group), OUR_OWN),
    (field("B", "size with headers, octets", f::size), OUR_OWN),
    (field("BI", "batch id", f::batch_id), OUR_OWN),
    (field("CI", "inbound connection id", f::inbound_connection), OUR_OWN),
    (field("c", "bounce class in words", |out, facts| text(out, facts.attempt.class_name)), OUR_OWN),
    (field("C", "bounce class number", f::class), OUR_OWN),
    (field("d", "routing domain", |out, facts| text(out, f::routing_domain_of(facts))), FOREIGN),
    (field("H", "IP address of the remote host", remote_ip), OUR_OWN),
    (field("i", "message id", f::message_id), OUR_OWN),
    (field("m", "sender local part", |out, facts| text(out, &facts.envelope.sender.local)), FOREIGN),
    (field("M", "sender domain", |out, facts| text(out, &facts.envelope.sender.domain)), FOREIGN),
    (field("n", "reply text: of the remote host, or of a rejection without its code", reply), FOREIGN),
    (field("N", "times tried, this attempt included", |out, facts| out::number(out, tries(facts))), OUR_OWN),
    (field("OC", "outbound connection id; empty at a reception", outbound), OUR_OWN),
    (field("p", "protocol; `unknown` without a message", protocol), OUR_OWN),
    (field("P", "pathway", pathway), FOREIGN),
    (field("PG", "pathway group", pathway_group), FOREIGN),
    (field("r", "recipient local part", |out, facts| text(out, &facts.envelope.recipient.local)), FOREIGN),
    (field("R", "recipient domain", |out, facts| text(out, &facts.envelope.recipient.domain)), FOREIGN),
    (field("s", "stage in words", stage_text), OUR_OWN),
    (field("S", "stage number", stage_number), OUR_OWN),
    (field("t", "seconds since the epoch", f::time), OUR_OWN),
    (field("T", "seconds in the queue, two decimals", |out, facts| queued(out, facts, 2)), OUR_OWN),
    (field("U", "authenticated user", |out, facts| context(out, facts, "auth_user")), FOREIGN),
    (field("%", "a percent sign", |out, _| out.push(b'%')), OUR_OWN),
    (field("outbound_tls", "`TLS`, `SMTP`, or `unknown` without a connection", tls_word), OUR_OWN),
    (field("outbound_tls_type", "`rustls` with TLS", |out, facts| tls(out, facts, |_, _| "rustls")), OUR_OWN),
    (field("outbound_tls_cipher", "cipher suite", |out, facts| tls(out, facts, |tls, _| &tls.cipher)), OUR_OWN),
    (field("outbound_tls_cipher_algbits", "bits of the cipher", tls_bits), OUR_OWN),
    (field("outbound_tls_cipher_usebits", "bits in use", tls_bits), OUR_OWN),
    (field("outbound_tls_protocol", "TLS version", |out, facts| tls(out, facts, |tls, _| &tls.protocol)), OUR_OWN),
    (field("outbound_tls_verified", "`verified` or `unverified`", |out, facts| tls(out, facts, verified)), OUR_OWN),
    (
        field("outbound_tls_issuer", "issuer of the peer's certificate", |out, facts| {
            tls(out, facts, |tls, _| &tls.issuer);
        }),
        FOREIGN,
    ),
    (
        field("outbound_tls_subject", "subject of the peer's certificate", |out, facts| {
            tls(out, facts, |tls, _| &tls.subject);
        }),
        FOREIGN,
    ),
    (
        field("local_ip", "our IP address of the outbound connection", |out, facts| {
            if let Some(local) = facts.attempt.local {
                out::ip(out, local);
            }
        }),
        OUR_OWN,
    ),
];

/// Specifiers with an argument, for the page.
pub(crate) const WITH_ARGUMENT: [(&str, &str); 6] = [
    ("h{X}", "first header X, unfolded; empty if there is none"),
    ("t{fmt}", "the time in a strftime format, local time zone"),
    ("T{n}", "seconds in the queue, n decimals (0 to 6)"),
    ("us{n}", "seconds since the epoch with n decimals (1 to 6)"),
    ("vctx_conn{k}", "value of key k of the connection context"),
    ("vctx_mess{k}", "value of key k of the message context"),
];

impl Format {
    /// Compiles a format. `sanitize` is the option of that name.
    pub fn parse(format: &str, sanitize: Option<&str>) -> Result<Format, FormatError> {
        let mut parts: Vec<Part> = Vec::new();
        let mut literal = Vec::new();
        let mut rest = format;
        while let Some(at) = rest.find('%') {
            literal.extend_from_slice(&rest.as_bytes()[..at]);
            let offset = format.len() - rest.len() + at;
            let (part, length) = specifier(&rest[at + 1..], offset)?;
            if !literal.is_empty() {
                parts.push(Part::Literal(std::mem::take(&mut literal)));
            }
            parts.push(part);
            rest = &rest[at + 1 + length..];
        }
        literal.extend_from_slice(rest.as_bytes());
        if !literal.is_empty() {
            parts.push(Part::Literal(literal));
        }
        Ok(Format { parts, sanitize: Sanitize::parse(sanitize.unwrap_or(""))? })
    }

    /// Appends the line of one event with its line end.
    pub(crate) fn write(&self, out: &mut Vec<u8>, facts: &Facts<'_>) {
        for part in &self.parts {
            let start = out.len();
            match part {
                Part::Literal(text) => out.extend_from_slice(text),
                Part::Field(write) => write(out, facts),
                Part::Foreign(write) => {
                    write(out, facts);
                    self.sanitize.apply(out, start);
                }
                Part::Header(name) => {
                    if let Some(content) = facts.content {
                        header(out, content.head(), name);
                        self.sanitize.apply(out, start);
                    }
                }
                Part::Connection(key) => {
                    if let Some(value) = facts.conn_context().get(key) {
                        out.extend_from_slice(value);
                        self.sanitize.apply(out, start);
                    }
                }
                Part::Message(key) => {
                    if let Some(value) = facts.mess_context().get(key) {
                        out.extend_from_slice(value);
                        self.sanitize.apply(out, start);
                    }
                }
                Part::Queued(decimals) => queued(out, facts, *decimals),
                Part::Stamp(decimals) => {
                    let micros = facts.now.micros().max(0).unsigned_abs();
                    out::number(out, micros / 1_000_000);
                    out::fraction(out, (micros % 1_000_000) as u32, *decimals);
                }
                Part::Strftime { plain, hires } => strftime(out, if facts.hires { hires } else { plain }, facts.now),
            }
        }
        out.push(b'\n');
    }
}

/// Appends the local time in a strftime format. A format that cannot be expanded appends nothing.
pub(crate) fn strftime(out: &mut Vec<u8>, format: &str, now: Time) {
    if let Ok(text) = strftime_text(format, now) {
        out.extend_from_slice(text.as_bytes());
    }
}

/// A strftime format whose `%S` and `%T` have six decimals: what `log_hires_timestamp` makes of one.
pub(crate) fn with_fractions(format: &str) -> String {
    let mut out = String::with_capacity(format.len() + 5);
    let mut chars = format.chars();
    while let Some(c) = chars.next() {
        out.push(c);
        if c == '%'
            && let Some(letter) = chars.next()
        {
            out.push(letter);
            if matches!(letter, 'S' | 'T') {
                out.push_str("%.6f");
            }
        }
    }
    out
}

/// The local time in a strftime format, or why the format is none.
pub(crate) fn strftime_text(format: &str, now: Time) -> Result<String, jiff::Error> {
    let zoned = Timestamp::from_microsecond(now.micros())?.to_zoned_datetime(TimeZone::system());
    jiff::fmt::strtime::format(format, &zoned)
}

/// The specifier behind a `%`, and its length.
fn specifier(text: &str, offset: usize) -> Result<(Part, usize), FormatError> {
    // Longest name first; an argument makes a name of its own.
    for name in ["vctx_conn", "vctx_mess", "us", "h", "T", "t"] {
        let Some(after) = text.strip_prefix(name) else { continue };
        let Some(inner) = after.strip_prefix('{').and_then(|after| after.split_once('}')).map(|(inner, _)| inner)
        else {
            if matches!(name, "T" | "t") {
                continue;
            }
            return Err(FormatError::Argument { specifier: name.to_owned(), offset });
        };
        let length = name.len() + inner.len() + 2;
        let bad = |reason: String| FormatError::BadArgument {
            specifier: name.to_owned(),
            argument: inner.to_owned(),
            reason,
        };
        let decimals = |least: usize| match inner.parse::<usize>() {
            Ok(decimals) if (least..=6).contains(&decimals) => Ok(decimals),
            _ => Err(bad(format!("expected a number of decimals from {least} to 6"))),
        };
        let part = match name {
            "vctx_conn" => Part::Connection(inner.to_owned()),
            "vctx_mess" => Part::Message(inner.to_owned()),
            "us" => Part::Stamp(decimals(1)?),
            "h" => Part::Header(inner.to_owned()),
            "T" => Part::Queued(decimals(0)?),
            _ => {
                strftime_text(inner, Time::ZERO).map_err(|error| bad(error.to_string()))?;
                Part::Strftime { plain: inner.to_owned(), hires: with_fractions(inner) }
            }
        };
        return Ok((part, length));
    }
    let longest =
        SPECIFIERS.iter().filter(|(field, _)| text.starts_with(field.name)).max_by_key(|(field, _)| field.name.len());
    match longest {
        Some((field, foreign)) => {
            let part = if *foreign { Part::Foreign(field.write) } else { Part::Field(field.write) };
            Ok((part, field.name.len()))
        }
        None => {
            let name: String = text.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').take(30).collect();
            Err(FormatError::Unknown { specifier: name, offset })
        }
    }
}

/// Appends the value of the first header `name`, unfolded: line ends go, the blanks after them stay.
fn header(out: &mut Vec<u8>, head: &[u8], name: &str) {
    let mut lines = head.split_inclusive(|&byte| byte == b'\n').map(trim_line_end).peekable();
    while let Some(line) = lines.next() {
        let Some(colon) = line.iter().position(|&byte| byte == b':') else { continue };
        if !line[..colon].trim_ascii_end().eq_ignore_ascii_case(name.as_bytes()) {
            continue;
        }
        out.extend_from_slice(line[colon + 1..].trim_ascii());
        while let Some(folded) = lines.next_if(|line| line.first().is_some_and(|b| *b == b' ' || *b == b'\t')) {
            out.push(b' ');
            out.extend_from_slice(folded.trim_ascii());
        }
        return;
    }
}

fn trim_line_end(line: &[u8]) -> &[u8] {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    line.strip_suffix(b"\r").unwrap_or(line)
}

fn text(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(text.as_bytes());
}

fn context(out: &mut Vec<u8>, facts: &Facts<'_>, key: &str) {
    if let Some(value) = facts.conn_context().get(key) {
        out.extend_from_slice(value);
    }
}

fn remote_ip(out: &mut Vec<u8>, facts: &Facts<'_>) {
    let peer = match facts.kind {
        Kind::Reception => facts.envelope.peer.map(|peer| peer.ip()),
        Kind::Rejection => facts.rejection.remote.map(|peer| peer.ip()),
        _ => facts.attempt.peer,
    };
    if let Some(peer) = peer {
        out::ip(out, peer);
    }
}

fn reply(out: &mut Vec<u8>, facts: &Facts<'_>) {
    let reply = if facts.kind == Kind::Rejection { facts.rejection.text } else { facts.attempt.reply };
    out::one_line(out, reply.as_bytes());
}

fn tries(facts: &Facts<'_>) -> u64 {
    match facts.kind {
        Kind::Reception | Kind::Rejection => 0,
        _ => u64::from(facts.attempt.retries) + 1,
    }
}

fn outbound(out: &mut Vec<u8>, facts: &Facts<'_>) {
    if facts.kind != Kind::Reception {
        f::outbound_connection(out, facts);
    }
}

fn protocol(out: &mut Vec<u8>, facts: &Facts<'_>) {
    if facts.has_message { f::protocol(out, facts) } else { text(out, "unknown") }
}

fn pathway(out: &mut Vec<u8>, facts: &Facts<'_>) {
    if facts.rejection.pathway.is_empty() {
        context(out, facts, "pathway");
    } else {
        text(out, facts.rejection.pathway);
    }
}

fn pathway_group(out: &mut Vec<u8>, facts: &Facts<'_>) {
    if facts.rejection.pathway_group.is_empty() {
        context(out, facts, "pathway_group");
    } else {
        text(out, facts.rejection.pathway_group);
    }
}

fn stage_of(facts: &Facts<'_>) -> Stage {
    match facts.kind {
        Kind::Reception | Kind::Rejection => Stage::Unknown,
        _ => facts.attempt.stage,
    }
}

/// Empty where there is no attempt and hence no stage.
fn stage_text(out: &mut Vec<u8>, facts: &Facts<'_>) {
    if !matches!(facts.kind, Kind::Reception | Kind::Rejection) {
        text(out, stage_of(facts).text());
    }
}

fn stage_number(out: &mut Vec<u8>, facts: &Facts<'_>) {
    out::number(out, stage_of(facts).number().into());
}

fn queued(out: &mut Vec<u8>, facts: &Facts<'_>, decimals: usize) {
    let span = if facts.has_message { facts.now.since(facts.envelope.created) } else { std::time::Duration::ZERO };
    out::decimal_seconds(out, span, decimals);
}

fn tls_word(out: &mut Vec<u8>, facts: &Facts<'_>) {
    text(
        out,
        match (facts.attempt.tls, facts.attempt.peer) {
            (Some(_), _) => "TLS",
            (None, Some(_)) => "SMTP",
            (None, None) => "unknown",
        },
    );
}

fn tls(
    out: &mut Vec<u8>,
    facts: &Facts<'_>,
    read: for<'a> fn(&'a crate::facts::OutboundTls, &'a Facts<'a>) -> &'a str,
) {
    if let Some(tls) = facts.attempt.tls {
        text(out, read(tls, facts));
    }
}

fn verified<'a>(tls: &'a crate::facts::OutboundTls, _: &'a Facts<'a>) -> &'a str {
    if tls.verified { "verified" } else { "unverified" }
}

fn tls_bits(out: &mut Vec<u8>, facts: &Facts<'_>) {
    if let Some(tls) = facts.attempt.tls {
        out::number(out, tls.cipher_bits.into());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::facts::{Attempt, OutboundTls, Rejection};
    use bytes::Bytes;
    use ph_message::{Body, Content, Context, Envelope, Mailbox};
    use std::sync::Arc;
    use std::time::Duration;

    fn envelope() -> Envelope {
        let mut conn = Context::new();
        conn.set("auth_name", "PLAIN");
        conn.set("auth_user", "root");
        conn.set("pathway", "customers");
        let mut mess = Context::new();
        mess.set("k", "a\nb c");
        Envelope {
            id: "18/00-07149-D7E16B94".parse().unwrap(),
            batch_id: "18/01-07149-D7E16B94".parse().unwrap(),
            conn_id: "18/02-07149-D7E16B94".parse().unwrap(),
            sender: Mailbox { local: "info".into(), domain: "example.org".into() },
            recipient: Mailbox { local: "bob".into(), domain: "example.com".into() },
            created: Time::from_secs(1_251_200_446),
            peer: Some("10.0.0.7:4711".parse().unwrap()),
            size: 347,
            conn_context: Arc::new(conn),
            mess_context: Arc::new(mess),
            ..Envelope::default()
        }
    }

    fn line(format: &str, sanitize: Option<&str>, facts: &Facts<'_>) -> String {
        let mut out = Vec::new();
        Format::parse(format, sanitize).unwrap().write(&mut out, facts);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn every_specifier_of_a_delivery() {
        let envelope = envelope();
        let tls = OutboundTls {
            protocol: "TLSv1.3".into(),
            cipher: "TLS_AES_128_GCM_SHA256".into(),
            cipher_bits: 128,
            verified: true,
            issuer: "CN=ca".into(),
            subject: "CN=mx".into(),
        };
        let head = Bytes::from_static(b"From: x\r\nSUBJECT:  one\r\n\ttwo\r\nSubject: no\r\n\r\n");
        let content = Content::new(head, Body::Memory(Bytes::new()));
        let attempt = Attempt {
            connection: "18/03-07149-D7E16B94".parse().unwrap(),
            routing_domain: "mx.example.com",
            stage: Stage::AfterRcptTo,
            retries: 2,
            peer: Some("10.0.0.9".parse().unwrap()),
            local: Some("10.0.0.1".parse().unwrap()),
            reply: "550-a\r\n550 b",
            class: 10,
            class_name: "Invalid Recipient",
            tls: Some(&tls),
            content: Some(&content),
            bytes: 0,
        };
        let now = envelope.created.plus(Duration::from_micros(1_234_567));
        let facts = Facts::attempt(Kind::Permanent, now, false, &envelope, &attempt);
        for (format, wanted) in [
            ("%A %U", "PLAIN root"),
            ("%b/%g", "default/default"),
            ("%B|%BI|%CI|%C|%c", "347|18/01-07149-D7E16B94|18/02-07149-D7E16B94|10|Invalid Recipient"),
            ("%d %H", "mx.example.com 10.0.0.9"),
            ("[%h{Subject}][%h{none}]", "[one two][]"),
            ("%i", "18/00-07149-D7E16B94"),
            ("%m@%M>%r@%R", "info@example.org>bob@example.com"),
            ("%n %N %OC", "550-a 550 b 3 18/03-07149-D7E16B94"),
            ("%p %P %PG.", "esmtp customers ."),
            ("%s=%S", "after RCPT TO=5"),
            ("%t %T %T{0} %T{4} %us{3}", "1251200447 1.23 1 1.2345 1251200447.234"),
            ("%vctx_conn{auth_user}-%vctx_mess{k}-%vctx_mess{no}", "root-a b c-"),
            ("100%%", "100%"),
            ("%outbound_tls %outbound_tls_protocol %outbound_tls_verified", "TLS TLSv1.3 verified"),
            ("%outbound_tls_cipher %outbound_tls_cipher_algbits", "TLS_AES_128_GCM_SHA256 128"),
            ("%outbound_tls_issuer %outbound_tls_subject %local_ip", "CN=ca CN=mx 10.0.0.1"),
            ("%t{%Y}", "2009"),
        ] {
            assert_eq!(line(format, None, &facts), format!("{wanted}\n"), "{format}");
        }
    }

    #[test]
    fn a_rejection_at_connect_knows_only_address_text_and_time() {
        let rejection = Rejection {
            now: Time::from_secs(1_339_007_869),
            remote: Some("10.79.11.157:1".parse().unwrap()),
            text: "relaying denied",
            ..Rejection::NONE
        };
        let format = "%p @ %s @ %BI @ %A @ %U @ %n @ %h{Subject} @ %r @ %R @ %m @ %M @ %i @ %t @ %H @ %S";
        assert_eq!(
            line(format, None, &Facts::rejection(false, &rejection)),
            "unknown @  @ 00/00-00000-00000000 @  @  @ relaying denied @  @  @  @  @  @ 00/00-00000-00000000 @ \
             1339007869 @ 10.79.11.157 @ 22\n"
        );
    }

    #[test]
    fn sanitize_rules_combine() {
        let envelope = envelope();
        let facts = Facts::reception(envelope.created, false, &envelope, None);
        for (rules, wanted) in [
            ("special_characters", "a\\nb c\n"),
            ("non_printable", "a10b c\n"),
            ("tr/ /_/", "a b_c\n"),
            ("special_characters,tr/ b/__/", "a\\n__c\n"),
            ("tr/a,/bb/, special_characters", "b\\nb c\n"),
        ] {
            assert_eq!(line("%vctx_mess{k}", Some(rules), &facts), wanted, "{rules}");
        }
        assert!(matches!(Format::parse("%t", Some("tr/a/")), Err(FormatError::Sanitize(_))));
    }

    #[test]
    fn high_resolution_adds_fractions_to_seconds() {
        assert_eq!(with_fractions("[%a %H:%M:%S] %T %%S"), "[%a %H:%M:%S%.6f] %T%.6f %%S");
        let envelope = envelope();
        let facts = Facts::reception(Time(1_251_200_446_000_250), true, &envelope, None);
        assert_eq!(line("%t %t{%S}", None, &facts), "1251200446000250 46.000250\n");
    }

    #[test]
    fn a_wrong_format_is_refused_with_its_place() {
        assert_eq!(
            Format::parse("%t %zz", None).unwrap_err(),
            FormatError::Unknown { specifier: "zz".into(), offset: 3 }
        );
        assert!(matches!(Format::parse("%h", None), Err(FormatError::Argument { .. })));
        assert!(matches!(Format::parse("%us{7}", None), Err(FormatError::BadArgument { .. })));
        assert!(matches!(Format::parse("%", None), Err(FormatError::Unknown { .. })));
    }
}
