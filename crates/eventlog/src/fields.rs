//! The fields that the `@` logs have in common (mainlog, bouncelog, custom formats), each written in one place.

use crate::declare::Field;
use crate::facts::{Facts, Kind};
use crate::out;
use ph_message::Protocol;

pub(crate) const fn field(name: &'static str, help: &'static str, write: fn(&mut Vec<u8>, &Facts<'_>)) -> Field {
    Field { name, help, write }
}

pub(crate) fn time(out: &mut Vec<u8>, facts: &Facts<'_>) {
    out::stamp(out, facts.now, facts.hires);
}

pub(crate) fn message_id(out: &mut Vec<u8>, facts: &Facts<'_>) {
    out::id(out, facts.envelope.id);
}

pub(crate) fn batch_id(out: &mut Vec<u8>, facts: &Facts<'_>) {
    out::id(out, facts.envelope.batch_id);
}

pub(crate) fn inbound_connection(out: &mut Vec<u8>, facts: &Facts<'_>) {
    let id = if facts.kind == Kind::Rejection { facts.rejection.connection } else { facts.envelope.conn_id };
    out::id(out, id);
}

pub(crate) fn outbound_connection(out: &mut Vec<u8>, facts: &Facts<'_>) {
    out::id(out, facts.attempt.connection);
}

pub(crate) fn recipient_local(out: &mut Vec<u8>, facts: &Facts<'_>) {
    out::escaped(out, facts.envelope.recipient.local.as_bytes());
}

pub(crate) fn recipient_domain(out: &mut Vec<u8>, facts: &Facts<'_>) {
    out::escaped(out, facts.envelope.recipient.domain.as_bytes());
}

pub(crate) fn sender_local(out: &mut Vec<u8>, facts: &Facts<'_>) {
    out::escaped(out, facts.envelope.sender.local.as_bytes());
}

pub(crate) fn sender_domain(out: &mut Vec<u8>, facts: &Facts<'_>) {
    out::escaped(out, facts.envelope.sender.domain.as_bytes());
}

/// `unknown` where a message came in over HTTP or from within.
pub(crate) fn inbound_peer(out: &mut Vec<u8>, facts: &Facts<'_>) {
    match facts.envelope.peer {
        Some(peer) if facts.envelope.protocol != Protocol::Rest => out::ip(out, peer.ip()),
        _ => out.extend_from_slice(b"unknown"),
    }
}

pub(crate) fn size(out: &mut Vec<u8>, facts: &Facts<'_>) {
    out::number(out, facts.envelope.size);
}

pub(crate) fn protocol_name(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Internal => "internal",
        Protocol::Esmtp => "esmtp",
        Protocol::EcStream => "ecstream",
        Protocol::Rest => "rest",
        Protocol::Mm7 => "mm7",
        Protocol::Smpp => "smpp",
    }
}

pub(crate) fn protocol(out: &mut Vec<u8>, facts: &Facts<'_>) {
    out.extend_from_slice(protocol_name(facts.envelope.protocol).as_bytes());
}

pub(crate) fn group(out: &mut Vec<u8>, facts: &Facts<'_>) {
    out::escaped(out, out::or_default(&facts.envelope.binding_group).as_bytes());
}

pub(crate) fn binding(out: &mut Vec<u8>, facts: &Facts<'_>) {
    out::escaped(out, out::or_default(&facts.envelope.binding).as_bytes());
}

pub(crate) fn routing_domain(out: &mut Vec<u8>, facts: &Facts<'_>) {
    out::escaped(out, routing_domain_of(facts).as_bytes());
}

/// The attempt's domain; the envelope's before there is an attempt.
pub(crate) fn routing_domain_of<'a>(facts: &Facts<'a>) -> &'a str {
    match facts.attempt.routing_domain {
        "" => facts.envelope.queue_domain(),
        domain => domain,
    }
}

pub(crate) fn bytes_transferred(out: &mut Vec<u8>, facts: &Facts<'_>) {
    out::number(out, facts.attempt.bytes);
}

pub(crate) fn stage(out: &mut Vec<u8>, facts: &Facts<'_>) {
    out::number(out, facts.attempt.stage.number().into());
}

pub(crate) fn retries(out: &mut Vec<u8>, facts: &Facts<'_>) {
    out::number(out, facts.attempt.retries.into());
}

pub(crate) fn age(out: &mut Vec<u8>, facts: &Facts<'_>) {
    out::seconds(out, facts.now.since(facts.envelope.created));
}

/// Empty where there was no connection.
pub(crate) fn outbound_peer(out: &mut Vec<u8>, facts: &Facts<'_>) {
    if let Some(peer) = facts.attempt.peer {
        out::ip(out, peer);
    }
}

pub(crate) fn reply(out: &mut Vec<u8>, facts: &Facts<'_>) {
    out::one_line(out, facts.attempt.reply.as_bytes());
}

pub(crate) fn class(out: &mut Vec<u8>, facts: &Facts<'_>) {
    out::number(out, facts.attempt.class.into());
}
