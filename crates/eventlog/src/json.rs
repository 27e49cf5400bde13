//! The events as JSON lines: one object a line, its names fixed here and documented in `docs/formats/json-events.md`.
//!
//! A field that has no value in an event is left out. Within one major version fields are only added; a reader ignores
//! what it does not know. Bytes that are no UTF-8 become U+FFFD.

use crate::facts::{Auth, AuthResult, Authz, Decision, Facts, Kind};
use crate::fields as f;
use crate::level::{Level, Subsystem};
use crate::out;
use ph_message::{Context, Id, Mailbox, Time};

/// The value of `schema` in every event.
pub(crate) const SCHEMA: u64 = 1;

/// A field of message events. `write` returns false, having written nothing, where the event has no such value.
pub(crate) struct JsonField {
    pub(crate) name: &'static str,
    pub(crate) json_type: &'static str,
    pub(crate) help: &'static str,
    write: fn(&mut Vec<u8>, &Facts<'_>) -> bool,
}

/// A kind of event: its `type` and its fields beside the common ones.
pub(crate) struct Event {
    pub(crate) name: &'static str,
    pub(crate) help: &'static str,
    pub(crate) fields: &'static [&'static [JsonField]],
}

/// The fields with which every event begins, for the page.
pub(crate) const COMMON: [FieldText; 3] = [
    ("type", "string", "the kind of event"),
    ("schema", "integer", "1; changes only when a field changes its meaning or goes"),
    ("time", "number", "seconds since the epoch, six decimals"),
];

pub(crate) static RECEPTION: Event = Event {
    name: "reception",
    help: "A message was accepted for one recipient and is on stable storage.",
    fields: &[MESSAGE, INBOUND],
};
pub(crate) static DELIVERY: Event =
    Event { name: "delivery", help: "The next host took the message.", fields: &[MESSAGE, OUTBOUND] };
pub(crate) static TRANSFER: Event =
    Event { name: "transfer", help: "Another node took the message.", fields: &[MESSAGE, OUTBOUND] };
pub(crate) static TRANSIENT: Event = Event {
    name: "transient_failure",
    help: "The attempt failed; the message will be tried again.",
    fields: &[MESSAGE, OUTBOUND, FAILURE],
};
pub(crate) static PERMANENT: Event =
    Event { name: "permanent_failure", help: "The message was given up.", fields: &[MESSAGE, OUTBOUND, FAILURE] };
pub(crate) static OUT_OF_BAND: Event = Event {
    name: "out_of_band_bounce",
    help: "A report came in that a message delivered earlier had bounced.",
    fields: &[MESSAGE, OUTBOUND, FAILURE],
};
pub(crate) static REJECTION: Event =
    Event { name: "rejection", help: "A command or message was refused.", fields: &[REFUSAL] };

/// The message events, in the order of the page.
pub(crate) static EVENTS: [&Event; 7] =
    [&RECEPTION, &DELIVERY, &TRANSFER, &TRANSIENT, &PERMANENT, &OUT_OF_BAND, &REJECTION];

const fn json(
    name: &'static str,
    json_type: &'static str,
    help: &'static str,
    write: fn(&mut Vec<u8>, &Facts<'_>) -> bool,
) -> JsonField {
    JsonField { name, json_type, help, write }
}

const MESSAGE: &[JsonField] = &[
    json("message_id", "string", "", |out, facts| id(out, facts.envelope.id)),
    json("batch_id", "string", "shared by the recipients of one reception", |out, facts| {
        id(out, facts.envelope.batch_id)
    }),
    json("sender", "string", "envelope sender; empty for the null sender", |out, facts| {
        mailbox(out, &facts.envelope.sender)
    }),
    json("recipient", "string", "envelope recipient", |out, facts| mailbox(out, &facts.envelope.recipient)),
    json("size", "integer", "octets of header and body", |out, facts| integer(out, facts.envelope.size)),
    json("binding_group", "string", "", |out, facts| text(out, out::or_default(&facts.envelope.binding_group))),
    json("binding", "string", "", |out, facts| text(out, out::or_default(&facts.envelope.binding))),
    json("routing_domain", "string", "", |out, facts| optional(out, f::routing_domain_of(facts))),
    json("conn_context", "object", "connection context, values as strings; left out if empty", |out, facts| {
        context(out, facts.conn_context())
    }),
    json("mess_context", "object", "message context, values as strings; left out if empty", |out, facts| {
        context(out, facts.mess_context())
    }),
];

const INBOUND: &[JsonField] = &[
    json("connection_id", "string", "the inbound connection", |out, facts| connection(out, facts.envelope.conn_id)),
    json("peer", "string", "`ip:port` of the client", |out, facts| socket(out, facts.envelope.peer)),
    json("local", "string", "`ip:port` of our end", |out, facts| socket(out, facts.envelope.listener)),
    json("protocol", "string", "as in the mainlog", |out, facts| text(out, f::protocol_name(facts.envelope.protocol))),
];

const OUTBOUND: &[JsonField] = &[
    json("connection_id", "string", "the outbound connection; left out if there was none", |out, facts| {
        connection(out, facts.attempt.connection)
    }),
    json("peer_ip", "string", "IP address of the remote host", |out, facts| ip(out, facts.attempt.peer)),
    json("local_ip", "string", "IP address of our end", |out, facts| ip(out, facts.attempt.local)),
    json("retries", "integer", "attempts before this one", |out, facts| integer(out, facts.attempt.retries.into())),
    json("queued_s", "number", "seconds since reception", |out, facts| {
        out::decimal_seconds(out, facts.now.since(facts.envelope.created), 6);
        true
    }),
    json("reply", "string", "the remote reply or our own text", |out, facts| optional(out, facts.attempt.reply)),
    json("tls_protocol", "string", "left out without TLS", |out, facts| {
        facts.attempt.tls.is_some_and(|tls| optional(out, &tls.protocol))
    }),
    json("tls_cipher", "string", "left out without TLS", |out, facts| {
        facts.attempt.tls.is_some_and(|tls| optional(out, &tls.cipher))
    }),
    json("tls_verified", "boolean", "the certificate was verified; left out without TLS", |out, facts| {
        facts.attempt.tls.is_some_and(|tls| boolean(out, tls.verified))
    }),
];

const FAILURE: &[JsonField] = &[
    json("stage", "integer", "number of the stage, as in the mainlog", |out, facts| {
        integer(out, facts.attempt.stage.number().into())
    }),
    json("stage_text", "string", "", |out, facts| text(out, facts.attempt.stage.text())),
    json("bytes", "integer", "octets sent before the failure", |out, facts| integer(out, facts.attempt.bytes)),
    json("class", "integer", "bounce classification", |out, facts| integer(out, facts.attempt.class.into())),
    json("class_name", "string", "bounce classification in words", |out, facts| {
        optional(out, facts.attempt.class_name)
    }),
];

const REFUSAL: &[JsonField] = &[
    json("connection_id", "string", "the inbound connection", |out, facts| connection(out, facts.rejection.connection)),
    json("message_id", "string", "left out where there is no message yet", |out, facts| {
        facts.has_message && id(out, facts.envelope.id)
    }),
    json("sender", "string", "left out where there is no message yet", |out, facts| {
        facts.has_message && mailbox(out, &facts.envelope.sender)
    }),
    json("recipient", "string", "left out where there is no message yet", |out, facts| {
        facts.has_message && mailbox(out, &facts.envelope.recipient)
    }),
    json("peer", "string", "`ip:port` of the client", |out, facts| socket(out, facts.rejection.remote)),
    json("local", "string", "`ip:port` of our end", |out, facts| socket(out, facts.rejection.local)),
    json("pathway", "string", "", |out, facts| text(out, out::or_default(facts.rejection.pathway))),
    json("pathway_group", "string", "", |out, facts| text(out, out::or_default(facts.rejection.pathway_group))),
    json("phase", "string", "as in the rejectlog", |out, facts| text(out, facts.rejection.phase.text())),
    json("code", "integer", "the reply's code", |out, facts| integer(out, facts.rejection.code.into())),
    json("reply", "string", "the reply without its code", |out, facts| optional(out, facts.rejection.text)),
    json("module", "string", "the last module that ran", |out, facts| optional(out, facts.rejection.module)),
    json("conn_context", "object", "left out if empty", |out, facts| context(out, facts.conn_context())),
    json("mess_context", "object", "left out if empty", |out, facts| context(out, facts.mess_context())),
];

/// Name, JSON type and meaning of a field, for the page.
pub(crate) type FieldText = (&'static str, &'static str, &'static str);

/// The other events, for the page: `type`, meaning, fields.
pub(crate) const OTHERS: [(&str, &str, &[FieldText]); 4] = [
    (
        "authentication",
        "Somebody authenticated, or failed to.",
        &[
            ("listener", "string", "as configured"),
            ("peer", "string", "`ip:port`; left out on unix sockets"),
            ("user", "string", ""),
            ("result", "string", "`pass`, `fail`, `timeout` or `unknown`"),
        ],
    ),
    (
        "authorization",
        "A console command was allowed or denied.",
        &[
            ("listener", "string", "as configured"),
            ("peer", "string", "`ip:port`; left out on unix sockets"),
            ("user", "string", ""),
            ("result", "string", "`allowed`, `denied` or `unknown`"),
            ("command", "string", "the whole command line"),
            ("role", "string", "the role that allowed it; otherwise left out"),
        ],
    ),
    (
        "diagnostic",
        "What the paniclog also says.",
        &[
            ("level", "string", "`DEBUG`, `INFO`, `NOTICE`, `WARNING`, `ERROR` or `CRITICAL`"),
            ("subsystem", "string", "as in `Debug_Flags`"),
            ("text", "string", ""),
        ],
    ),
    ("heartbeat", "Nothing happened; the logger lives.", &[]),
];

/// Appends one message event with its line end.
pub(crate) fn write(out: &mut Vec<u8>, facts: &Facts<'_>) {
    let event = match facts.kind {
        Kind::Reception => &RECEPTION,
        Kind::Delivery => &DELIVERY,
        Kind::Transfer => &TRANSFER,
        Kind::Transient => &TRANSIENT,
        Kind::Permanent => &PERMANENT,
        Kind::OutOfBand => &OUT_OF_BAND,
        Kind::Rejection => &REJECTION,
    };
    begin(out, event.name, facts.now);
    for field in event.fields.iter().copied().flatten() {
        let start = out.len();
        name(out, field.name);
        if !(field.write)(out, facts) {
            out.truncate(start);
        }
    }
    out.extend_from_slice(b"}\n");
}

pub(crate) fn authentication(out: &mut Vec<u8>, now: Time, auth: &Auth<'_>) {
    begin(out, "authentication", now);
    member(out, "listener", auth.listener);
    if let Some(peer) = auth.peer {
        name(out, "peer");
        socket(out, Some(peer));
    }
    member(out, "user", auth.user);
    let result = match auth.outcome {
        AuthResult::Pass => "pass",
        AuthResult::Fail => "fail",
        AuthResult::TimedOut => "timeout",
        AuthResult::Unknown => "unknown",
    };
    member(out, "result", result);
    out.extend_from_slice(b"}\n");
}

pub(crate) fn authorization(out: &mut Vec<u8>, now: Time, authz: &Authz<'_>) {
    begin(out, "authorization", now);
    member(out, "listener", authz.listener);
    if let Some(peer) = authz.peer {
        name(out, "peer");
        socket(out, Some(peer));
    }
    member(out, "user", authz.user);
    let result = match authz.decision {
        Decision::Allowed => "allowed",
        Decision::Denied => "denied",
        Decision::Unknown => "unknown",
    };
    member(out, "result", result);
    member(out, "command", authz.command);
    if let (Decision::Allowed, Some(role)) = (authz.decision, authz.role) {
        member(out, "role", role);
    }
    out.extend_from_slice(b"}\n");
}

pub(crate) fn diagnostic(out: &mut Vec<u8>, now: Time, level: Level, subsystem: Subsystem, message: &str) {
    begin(out, "diagnostic", now);
    member(out, "level", level.name());
    member(out, "subsystem", subsystem.name());
    member(out, "text", message);
    out.extend_from_slice(b"}\n");
}

pub(crate) fn heartbeat(out: &mut Vec<u8>, now: Time) {
    begin(out, "heartbeat", now);
    out.extend_from_slice(b"}\n");
}

fn begin(out: &mut Vec<u8>, kind: &str, now: Time) {
    out.extend_from_slice(b"{\"type\":\"");
    out.extend_from_slice(kind.as_bytes());
    out.extend_from_slice(b"\",\"schema\":");
    out::number(out, SCHEMA);
    out.extend_from_slice(b",\"time\":");
    let micros = now.micros().max(0).unsigned_abs();
    out::number(out, micros / 1_000_000);
    out::fraction(out, (micros % 1_000_000) as u32, 6);
}

fn name(out: &mut Vec<u8>, name: &str) {
    out.extend_from_slice(b",\"");
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"\":");
}

fn member(out: &mut Vec<u8>, key: &str, value: &str) {
    name(out, key);
    out::json_string(out, value.as_bytes());
}

fn text(out: &mut Vec<u8>, value: &str) -> bool {
    out::json_string(out, value.as_bytes());
    true
}

fn optional(out: &mut Vec<u8>, value: &str) -> bool {
    !value.is_empty() && text(out, value)
}

fn integer(out: &mut Vec<u8>, value: u64) -> bool {
    out::number(out, value);
    true
}

fn boolean(out: &mut Vec<u8>, value: bool) -> bool {
    out.extend_from_slice(if value { b"true" } else { b"false" });
    true
}

fn id(out: &mut Vec<u8>, id: Id) -> bool {
    out.push(b'"');
    out::id(out, id);
    out.push(b'"');
    true
}

fn connection(out: &mut Vec<u8>, connection: Id) -> bool {
    connection != Id::NULL && id(out, connection)
}

fn ip(out: &mut Vec<u8>, address: Option<std::net::IpAddr>) -> bool {
    let Some(address) = address else { return false };
    out.push(b'"');
    out::ip(out, address);
    out.push(b'"');
    true
}

fn socket(out: &mut Vec<u8>, address: Option<std::net::SocketAddr>) -> bool {
    let Some(address) = address else { return false };
    out.push(b'"');
    out::socket(out, address);
    out.push(b'"');
    true
}

/// `local@domain`, escaped for JSON, without an intermediate string.
fn mailbox(out: &mut Vec<u8>, mailbox: &Mailbox) -> bool {
    out::json_string(out, mailbox.local.as_bytes());
    if !mailbox.domain.is_empty() {
        out.pop();
        out.push(b'@');
        let start = out.len();
        out::json_string(out, mailbox.domain.as_bytes());
        out.remove(start);
    }
    true
}

fn context(out: &mut Vec<u8>, context: &Context) -> bool {
    if context.is_empty() {
        return false;
    }
    for (at, (key, value)) in context.iter().enumerate() {
        out.push(if at == 0 { b'{' } else { b',' });
        out::json_string(out, key.as_bytes());
        out.push(b':');
        out::json_string(out, value);
    }
    out.push(b'}');
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::facts::{Attempt, OutboundTls, Rejection};
    use crate::stage::Stage;
    use ph_message::Envelope;
    use serde_json::Value;
    use std::sync::Arc;

    fn envelope() -> Envelope {
        let mut context = Context::new();
        context.set("k\"", &b"v\xff\n"[..]);
        Envelope {
            id: "18/00-07149-D7E16B94".parse().unwrap(),
            sender: Mailbox { local: "in\"fo".into(), domain: "example.org".into() },
            recipient: Mailbox { local: "bob".into(), domain: "example.com".into() },
            created: Time::from_secs(1_251_200_446),
            size: 347,
            mess_context: Arc::new(context),
            ..Envelope::default()
        }
    }

    fn parsed(facts: &Facts<'_>) -> Value {
        let mut out = Vec::new();
        write(&mut out, facts);
        assert_eq!(out.iter().filter(|&&byte| byte == b'\n').count(), 1);
        serde_json::from_slice(&out).unwrap()
    }

    #[test]
    fn an_event_is_one_line_of_json_with_only_declared_fields() {
        let envelope = envelope();
        let tls = OutboundTls { protocol: "TLSv1.3".into(), verified: true, ..OutboundTls::default() };
        let attempt = Attempt {
            stage: Stage::AfterRcptTo,
            reply: "550-a\r\n550 b",
            tls: Some(&tls),
            peer: Some("10.0.0.9".parse().unwrap()),
            ..Attempt::NONE
        };
        let now = Time(1_251_200_447_500_000);
        let value = parsed(&Facts::attempt(Kind::Permanent, now, false, &envelope, &attempt));
        assert_eq!(value["type"], "permanent_failure");
        assert_eq!(value["time"], 1_251_200_447.5);
        assert_eq!(value["sender"], "in\"fo@example.org");
        assert_eq!(value["mess_context"]["k\""], "v\u{fffd}\n");
        assert_eq!(value["reply"], "550-a\r\n550 b");
        assert_eq!(value["queued_s"], 1.5);
        assert_eq!(value["tls_verified"], true);
        assert!(value.get("connection_id").is_none(), "the null id is left out");
        for event in EVENTS {
            let facts = match event.name {
                "reception" => Facts::reception(now, false, &envelope, None),
                "rejection" => Facts::rejection(false, &Rejection::NONE),
                "delivery" => Facts::attempt(Kind::Delivery, now, false, &envelope, &attempt),
                "transfer" => Facts::attempt(Kind::Transfer, now, false, &envelope, &attempt),
                "transient_failure" => Facts::attempt(Kind::Transient, now, false, &envelope, &attempt),
                "out_of_band_bounce" => Facts::attempt(Kind::OutOfBand, now, false, &envelope, &attempt),
                _ => Facts::attempt(Kind::Permanent, now, false, &envelope, &attempt),
            };
            let value = parsed(&facts);
            assert_eq!(value["type"], event.name);
            assert_eq!(value["schema"], SCHEMA);
        }
    }

    #[test]
    fn the_other_events_are_json_too() {
        let mut out = Vec::new();
        let now = Time::from_secs(5);
        let auth = Auth { listener: "*:25", peer: None, user: "a\"b", outcome: AuthResult::Fail };
        authentication(&mut out, now, &auth);
        let authz = Authz {
            listener: "/tmp/2025",
            peer: Some("10.0.0.1:1".parse().unwrap()),
            user: "root",
            decision: Decision::Allowed,
            command: "summary\n",
            role: Some("r"),
        };
        authorization(&mut out, now, &authz);
        diagnostic(&mut out, now, Level::Warning, Subsystem::Smtp, "a\nb");
        heartbeat(&mut out, now);
        let kinds: Vec<String> = String::from_utf8(out)
            .unwrap()
            .lines()
            .map(|line| {
                let value: Value = serde_json::from_str(line).unwrap();
                let kind = value["type"].as_str().unwrap().to_owned();
                let declared = OTHERS.iter().find(|(name, ..)| *name == kind).unwrap().2;
                let names: Vec<&str> =
                    value.as_object().unwrap().keys().map(String::as_str).filter(|key| *key != "type").collect();
                for name in names {
                    let known = declared.iter().chain(&COMMON).any(|(declared, ..)| *declared == name);
                    assert!(known, "{kind}.{name} is not documented");
                }
                kind
            })
            .collect();
        assert_eq!(kinds, ["authentication", "authorization", "diagnostic", "heartbeat"]);
    }
}
