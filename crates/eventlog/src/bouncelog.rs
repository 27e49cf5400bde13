//! The bouncelog: in-band and out-of-band bounces and transient failures with their classification, `@`-separated.
//!
//! Source: Momentum's reference, `bounce_logger` and `custom_bounce_logger`. Field 4 is the type, field 15 the text, which
//! is not escaped.

use crate::declare::{Field, Record};
use crate::facts::{Facts, Kind};
use crate::fields::{self as f, field};
use crate::out;
use ph_message::Context;

pub(crate) const SEPARATOR: u8 = b'@';

/// What stands before the reason of an out-of-band bounce.
pub(crate) const OUT_OF_BAND_PREFIX: &str = "550 5.7.1 550 [internal] [oob] ";

pub(crate) static BOUNCE: Record = Record {
    letter: "B",
    title: "A bounce: in-band (the attempt failed for good) or out-of-band (a report came in later). `T`: a transient \
            failure.",
    fields: &BOUNCE_FIELDS,
};

static BOUNCE_FIELDS: [Field; 16] = [
    field("time", "", f::time),
    field("message id", "", f::message_id),
    field("batch id", "", f::batch_id),
    field("connection id", "outbound; of an out-of-band bounce the one it came in on", f::outbound_connection),
    field("type", "`B` bounce, `T` transient failure", |out, facts| {
        out.push(if facts.kind == Kind::Transient { b'T' } else { b'B' });
    }),
    field("recipient local part", "escaped", f::recipient_local),
    field("recipient domain", "", f::recipient_domain),
    field("sender local part", "escaped", f::sender_local),
    field("sender domain", "", f::sender_domain),
    field("binding group", "", f::group),
    field("binding", "", f::binding),
    field("stage", "as in the mainlog; 21 for out-of-band", f::stage),
    field("classification", "number of the bounce class", f::class),
    field("size", "octets of the message", f::size),
    field("peer", "IP address of the host that bounced", f::outbound_peer),
    field(
        "text",
        "the reply, not escaped; out-of-band: `550 5.7.1 550 [internal] [oob] ` and the reason",
        |out, facts| {
            if facts.kind == Kind::OutOfBand {
                out.extend_from_slice(OUT_OF_BAND_PREFIX.as_bytes());
            }
            f::reply(out, facts);
        },
    ),
];

/// Appends the line of one bounce with its line end, and the expansion of a custom bounce logger's string.
pub(crate) fn write(out: &mut Vec<u8>, facts: &Facts<'_>, user_string: Option<&UserString>) {
    BOUNCE.write(out, SEPARATOR, facts);
    if let Some(user_string) = user_string {
        out.push(b'@');
        user_string.expand(out, facts);
    }
    out.push(b'\n');
}

/// `user_string` of a `custom_bounce_logger`: text with `%{vctx_conn:key}` and `%{vctx_mess:key}`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct UserString {
    parts: Vec<Part>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    Connection(String),
    Message(String),
}

impl UserString {
    /// Text that looks like no known expansion stays as it is.
    pub(crate) fn parse(text: &str) -> UserString {
        let mut parts = Vec::new();
        let mut plain = String::new();
        let mut rest = text;
        while let Some(at) = rest.find("%{") {
            let (before, from) = rest.split_at(at);
            plain.push_str(before);
            let inner = from.find('}').map(|end| (&from[2..end], &from[end + 1..]));
            let part = inner.and_then(|(inner, _)| match inner.split_once(':') {
                Some(("vctx_conn", key)) => Some(Part::Connection(key.to_owned())),
                Some(("vctx_mess", key)) => Some(Part::Message(key.to_owned())),
                _ => None,
            });
            match (part, inner) {
                (Some(part), Some((_, after))) => {
                    if !plain.is_empty() {
                        parts.push(Part::Text(std::mem::take(&mut plain)));
                    }
                    parts.push(part);
                    rest = after;
                }
                _ => {
                    plain.push_str("%{");
                    rest = &from[2..];
                }
            }
        }
        plain.push_str(rest);
        if !plain.is_empty() {
            parts.push(Part::Text(plain));
        }
        UserString { parts }
    }

    fn expand(&self, out: &mut Vec<u8>, facts: &Facts<'_>) {
        let value = |out: &mut Vec<u8>, context: &Context, key: &str| {
            if let Some(value) = context.get(key) {
                out::escaped(out, value);
            }
        };
        for part in &self.parts {
            match part {
                Part::Text(text) => out::one_line_piece(out, text.as_bytes()),
                Part::Connection(key) => value(out, facts.conn_context(), key),
                Part::Message(key) => value(out, facts.mess_context(), key),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::facts::Attempt;
    use crate::stage::Stage;
    use ph_message::{Envelope, Mailbox, Time};
    use std::sync::Arc;

    fn envelope() -> Envelope {
        let mut mess = Context::new();
        mess.set("campaign", "spring@sale");
        Envelope {
            id: "18/00-07149-D7E16B94".parse().unwrap(),
            batch_id: "18/01-07149-D7E16B94".parse().unwrap(),
            sender: Mailbox { local: "info".into(), domain: "example.org".into() },
            recipient: Mailbox { local: "bob".into(), domain: "example.com".into() },
            created: Time::from_secs(1_251_200_446),
            size: 347,
            mess_context: Arc::new(mess),
            ..Envelope::default()
        }
    }

    fn line(kind: Kind, attempt: &Attempt<'_>, user_string: Option<&str>) -> String {
        let envelope = envelope();
        let mut out = Vec::new();
        let user_string = user_string.map(UserString::parse);
        write(&mut out, &Facts::attempt(kind, envelope.created, false, &envelope, attempt), user_string.as_ref());
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn every_field_of_an_in_band_and_an_out_of_band_bounce() {
        let attempt = Attempt {
            connection: "18/03-07149-D7E16B94".parse().unwrap(),
            stage: Stage::AfterRcptTo,
            class: 10,
            peer: Some("10.0.0.9".parse().unwrap()),
            reply: "550 5.1.1 no such user",
            ..Attempt::NONE
        };
        let head = "1251200446@18/00-07149-D7E16B94@18/01-07149-D7E16B94@18/03-07149-D7E16B94";
        let addresses = "bob@example.com@info@example.org@default@default";
        assert_eq!(
            line(Kind::Permanent, &attempt, None),
            format!("{head}@B@{addresses}@5@10@347@10.0.0.9@550 5.1.1 no such user\n")
        );
        let attempt = Attempt { stage: Stage::OutOfBandBounce, reply: "mailbox gone", ..attempt };
        assert_eq!(
            line(Kind::OutOfBand, &attempt, None),
            format!("{head}@B@{addresses}@21@10@347@10.0.0.9@550 5.7.1 550 [internal] [oob] mailbox gone\n")
        );
    }

    #[test]
    fn a_user_string_follows_behind_an_at_sign() {
        let text = line(Kind::Transient, &Attempt::NONE, Some("c=%{vctx_mess:campaign} %{no} x=%{vctx_conn:k}%{"));
        assert!(text.ends_with("@@c=spring\\@sale %{no} x=%{\n"), "{text}");
        assert!(text.contains("@T@bob@"), "{text}");
    }
}
