//! The rejectlog: one line for each refusal, fields apart by one blank. Source: Momentum's reference, "log formats".
//!
//! `T: R="ip:port" L="ip:port" C="id" PATH="…" PATH_GRP="…" P="phase" E=code M=module CTXCONN=[k=v,…] CTXMESS=[k=v,…]
//! text`. Whatever a client chose is escaped so that one event stays one line.

use crate::declare::{Field, Record};
use crate::facts::Facts;
use crate::fields::{self as f, field};
use crate::out;
use ph_message::Context;

pub(crate) const SEPARATOR: u8 = b' ';

/// The line of a heartbeat behind its time.
pub(crate) const HEARTBEAT: &[u8] = b": Marker 1";

pub(crate) static REJECTION: Record = Record {
    letter: "",
    title: "A refusal: a command or a message was answered with 4xx or 5xx, or discarded by a policy.",
    fields: &REJECTION_FIELDS,
};

static REJECTION_FIELDS: [Field; 11] = [
    field("time", "followed by a colon", |out, facts| {
        f::time(out, facts);
        out.push(b':');
    }),
    field("`R=\"ip:port\"`", "the client", |out, facts| quoted_socket(out, b"R=\"", facts.rejection.remote)),
    field("`L=\"ip:port\"`", "our end of the connection", |out, facts| {
        quoted_socket(out, b"L=\"", facts.rejection.local);
    }),
    field("`C=\"id\"`", "inbound connection id", |out, facts| {
        out.extend_from_slice(b"C=\"");
        out::id(out, facts.rejection.connection);
        out.push(b'"');
    }),
    field("`PATH=\"name\"`", "pathway; `default` if none", |out, facts| {
        quoted_name(out, b"PATH=\"", facts.rejection.pathway);
    }),
    field("`PATH_GRP=\"name\"`", "pathway group; `default` if none", |out, facts| {
        quoted_name(out, b"PATH_GRP=\"", facts.rejection.pathway_group);
    }),
    field("`P=\"phase\"`", "where the session stood, see below", |out, facts| {
        out.extend_from_slice(b"P=\"");
        out.extend_from_slice(facts.rejection.phase.text().as_bytes());
        out.push(b'"');
    }),
    field("`E=code`", "the reply's code, three digits", |out, facts| {
        out.extend_from_slice(b"E=");
        out::padded(out, facts.rejection.code.into(), 3);
    }),
    field("`M=module`", "the last module that ran (`scriptlet` for policies); `-` if none", |out, facts| {
        out.extend_from_slice(b"M=");
        let module = facts.rejection.module;
        out::context_value(out, if module.is_empty() { "-" } else { module }.as_bytes());
    }),
    field(
        "`CTXCONN=[key=value,…] CTXMESS=[key=value,…]`",
        "connection and message context; values with blanks, `,`, `]`, `\"`, `=` or controls are quoted; `[]` if there \
         is none yet",
        |out, facts| {
            out.extend_from_slice(b"CTXCONN=");
            context(out, facts.rejection.conn_context);
            out.extend_from_slice(b" CTXMESS=");
            context(out, facts.rejection.mess_context);
        },
    ),
    field("text", "the reply without its code, its lines joined by one blank", |out, facts| {
        out::one_line(out, facts.rejection.text.as_bytes());
    }),
];

/// Appends the line of one refusal with its line end.
pub(crate) fn write(out: &mut Vec<u8>, facts: &Facts<'_>) {
    REJECTION.write(out, SEPARATOR, facts);
    out.push(b'\n');
}

fn quoted_socket(out: &mut Vec<u8>, prefix: &[u8], address: Option<std::net::SocketAddr>) {
    out.extend_from_slice(prefix);
    match address {
        Some(address) => out::socket(out, address),
        None => out.extend_from_slice(b"unknown"),
    }
    out.push(b'"');
}

fn quoted_name(out: &mut Vec<u8>, prefix: &[u8], name: &str) {
    out.extend_from_slice(prefix);
    for &byte in out::or_default(name).as_bytes() {
        if byte == b'"' || byte.is_ascii_control() {
            out.push(b'\\');
        }
        out.push(if byte == b'\n' { b'n' } else { byte });
    }
    out.push(b'"');
}

fn context(out: &mut Vec<u8>, context: Option<&Context>) {
    out.push(b'[');
    if let Some(context) = context {
        for (at, (key, value)) in context.iter().enumerate() {
            if at > 0 {
                out.push(b',');
            }
            out::context_value(out, key.as_bytes());
            out.push(b'=');
            out::context_value(out, value);
        }
    }
    out.push(b']');
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::facts::Rejection;
    use crate::stage::Phase;
    use ph_message::Time;

    #[test]
    fn one_line_whatever_the_client_sent() {
        let mut conn = Context::new();
        conn.set("can_relay", "true");
        conn.set("ehlo_string", "EHLO a b");
        conn.set("odd", "x\"]\n,");
        let rejection = Rejection {
            now: Time::from_secs(1_251_200_446),
            remote: Some("10.0.0.1:4711".parse().unwrap()),
            local: Some("[fd82::1]:25".parse().unwrap()),
            connection: "18/02-07149-D7E16B94".parse().unwrap(),
            phase: Phase::AwaitingRcptTo,
            code: 550,
            module: "scriptlet",
            conn_context: Some(&conn),
            text: "5.7.1 relaying denied\r\n5.7.1 go away",
            ..Rejection::NONE
        };
        let mut out = Vec::new();
        write(&mut out, &Facts::rejection(false, &rejection));
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "1251200446: R=\"10.0.0.1:4711\" L=\"[fd82::1]:25\" C=\"18/02-07149-D7E16B94\" PATH=\"default\" \
             PATH_GRP=\"default\" P=\"awaiting rcptto\" E=550 M=scriptlet \
             CTXCONN=[can_relay=true,ehlo_string=\"EHLO a b\",odd=\"x\\\"]\\n,\"] CTXMESS=[] \
             5.7.1 relaying denied 5.7.1 go away\n"
        );
    }

    #[test]
    fn what_is_unknown_has_its_stand_in() {
        let mut out = Vec::new();
        write(&mut out, &Facts::rejection(false, &Rejection { code: 421, text: "busy", ..Rejection::NONE }));
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "0: R=\"unknown\" L=\"unknown\" C=\"00/00-00000-00000000\" PATH=\"default\" PATH_GRP=\"default\" \
             P=\"just connected\" E=421 M=- CTXCONN=[] CTXMESS=[] busy\n"
        );
    }
}
