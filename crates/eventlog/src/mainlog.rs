//! The mainlog: one `@`-separated line for each reception, delivery, failure and node transfer.
//!
//! Fields are counted from 0 and field 4 is the type; parsers depend on every position. Source: Momentum's reference,
//! "log formats". Only the last field of T and P records may hold an unescaped `@`.

use crate::declare::{Field, Record};
use crate::facts::{Facts, Kind};
use crate::fields::{self as f, field};

pub(crate) const SEPARATOR: u8 = b'@';

/// The line of a heartbeat behind its time.
pub(crate) const HEARTBEAT: &[u8] = b"@@@@M1";

pub(crate) static RECEPTION: Record = Record {
    letter: "R",
    title: "Reception: a message was accepted and is on stable storage. One record for each recipient.",
    fields: &[
        field("time", "when it was accepted", f::time),
        field("message id", "", f::message_id),
        field("batch id", "the same for all recipients of one reception", f::batch_id),
        field("inbound connection id", "the null id for mail made by the server itself", f::inbound_connection),
        field("type", "`R`", kind_letter),
        field("recipient local part", "escaped", f::recipient_local),
        field("recipient domain", "", f::recipient_domain),
        field("sender local part", "escaped; empty for the null sender", f::sender_local),
        field("sender domain", "empty for the null sender", f::sender_domain),
        field("peer", "IP address of the client; `unknown` for HTTP and mail made within", f::inbound_peer),
        field("size", "octets of header and body", f::size),
        field("protocol", "`esmtp`, `ecstream`, `internal`, `rest`, `mm7` or `smpp`", f::protocol),
        field("binding group", "", f::group),
        field("binding", "", f::binding),
    ],
};

pub(crate) static DELIVERY: Record =
    Record { letter: "D", title: "Delivery: the next host took the message.", fields: &DELIVERY_FIELDS };

pub(crate) static TRANSFER: Record =
    Record { letter: "X", title: "Transfer: another node took the message.", fields: &DELIVERY_FIELDS };

pub(crate) static TRANSIENT: Record = Record {
    letter: "T",
    title: "Transient failure: the attempt failed, the message will be tried again.",
    fields: &FAILURE_FIELDS,
};

pub(crate) static PERMANENT: Record =
    Record { letter: "P", title: "Permanent failure: the message was given up.", fields: &FAILURE_FIELDS };

/// All records, in the order of the page.
pub(crate) static RECORDS: [&Record; 5] = [&RECEPTION, &DELIVERY, &TRANSFER, &TRANSIENT, &PERMANENT];

static DELIVERY_FIELDS: [Field; 12] = [
    field("time", "when the host accepted it", f::time),
    field("message id", "", f::message_id),
    field("batch id", "", f::batch_id),
    field("outbound connection id", "", f::outbound_connection),
    field("type", "`D` or `X`", kind_letter),
    field("routing domain", "", f::routing_domain),
    field("size", "octets of header and body", f::bytes_transferred),
    field("binding group", "", f::group),
    field("binding", "", f::binding),
    field("retries", "attempts before this one: the first attempt logs 0", f::retries),
    field("age", "seconds since reception, three decimals", f::age),
    field("peer", "IP address of the host that accepted", f::outbound_peer),
];

static FAILURE_FIELDS: [Field; 14] = [
    field("time", "when the attempt failed", f::time),
    field("message id", "", f::message_id),
    field("batch id", "", f::batch_id),
    field("outbound connection id", "the null id if there was no connection", f::outbound_connection),
    field("type", "`T` or `P`", kind_letter),
    field("routing domain", "", f::routing_domain),
    field("bytes", "octets sent before the failure", f::bytes_transferred),
    field("binding group", "", f::group),
    field("binding", "", f::binding),
    field("stage", "how far the connection was, see below", f::stage),
    field("retries", "attempts before this one: the first attempt logs 0", f::retries),
    field("age", "seconds since reception, three decimals", f::age),
    field("peer", "IP address of the host; empty if there was no connection", f::outbound_peer),
    field("text", "the reply, its lines joined by one blank; not escaped", f::reply),
];

/// Appends the record of one event with its line end.
pub(crate) fn write(out: &mut Vec<u8>, facts: &Facts<'_>) {
    let record = match facts.kind {
        Kind::Reception => &RECEPTION,
        Kind::Delivery => &DELIVERY,
        Kind::Transfer => &TRANSFER,
        Kind::Transient => &TRANSIENT,
        Kind::Permanent => &PERMANENT,
        // These have logs of their own.
        Kind::Rejection | Kind::OutOfBand => return,
    };
    record.write(out, SEPARATOR, facts);
    out.push(b'\n');
}

fn kind_letter(out: &mut Vec<u8>, facts: &Facts<'_>) {
    out.push(match facts.kind {
        Kind::Reception => b'R',
        Kind::Delivery => b'D',
        Kind::Transfer => b'X',
        Kind::Permanent => b'P',
        Kind::Transient | Kind::Rejection | Kind::OutOfBand => b'T',
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::facts::Attempt;
    use crate::stage::Stage;
    use ph_message::{Envelope, Id, Mailbox, Time};
    use std::time::Duration;

    fn mailbox(local: &str, domain: &str) -> Mailbox {
        Mailbox { local: local.into(), domain: domain.into() }
    }

    fn envelope() -> Envelope {
        Envelope {
            id: "18/00-07149-D7E16B94".parse().unwrap(),
            batch_id: "18/01-07149-D7E16B94".parse().unwrap(),
            conn_id: "18/02-07149-D7E16B94".parse().unwrap(),
            sender: mailbox("info", "example.org"),
            recipient: mailbox("bob", "example.com"),
            created: Time::from_secs(1_251_200_446),
            peer: Some("127.0.0.1:4711".parse().unwrap()),
            size: 347,
            ..Envelope::default()
        }
    }

    fn attempt() -> Attempt<'static> {
        Attempt {
            connection: "18/03-07149-D7E16B94".parse().unwrap(),
            routing_domain: "example.com",
            bytes: 347,
            stage: Stage::AfterRcptTo,
            peer: Some("127.0.0.1".parse().unwrap()),
            reply: "451 4.3.0 try\r\n451 again",
            ..Attempt::default()
        }
    }

    fn line(facts: &Facts<'_>) -> String {
        let mut out = Vec::new();
        write(&mut out, facts);
        String::from_utf8(out).unwrap()
    }

    fn matches(pattern: &str, text: &str) {
        let pattern = pattern.replace("ID", "[0-9A-F]{2}/[0-9A-F]{2}-\\d{5}-[0-9A-F]{8}");
        let found = pcre2::bytes::Regex::new(&pattern).unwrap().is_match(text.trim_end_matches('\n').as_bytes());
        assert!(found.unwrap(), "{text:?} does not match {pattern}");
    }

    #[test]
    fn a_reception_matches_what_parsers_expect() {
        let envelope = envelope();
        let text = line(&Facts::reception(Time::from_secs(1_251_200_446), false, &envelope, None));
        matches(
            r"^\d{10}@ID@ID@ID@R@bob@example\.com@info@example\.org@127\.0\.0\.1@\d+@esmtp@default@default$",
            &text,
        );
        assert_eq!(
            text,
            "1251200446@18/00-07149-D7E16B94@18/01-07149-D7E16B94@18/02-07149-D7E16B94@R@bob@example.com@info@\
             example.org@127.0.0.1@347@esmtp@default@default\n"
        );
    }

    #[test]
    fn a_delivery_matches_what_parsers_expect() {
        let (envelope, attempt) = (envelope(), attempt());
        let now = envelope.created.plus(Duration::from_millis(393));
        for (kind, letter) in [(Kind::Delivery, "D"), (Kind::Transfer, "X")] {
            let text = line(&Facts::attempt(kind, now, false, &envelope, &attempt));
            matches(
                &format!(r"^\d{{10}}@ID@ID@ID@{letter}@example\.com@\d+@default@default@0@\d+\.\d+@127\.0\.0\.1$"),
                &text,
            );
            assert!(text.ends_with("@0@0.393@127.0.0.1\n"), "{text}");
        }
    }

    #[test]
    fn failures_match_what_parsers_expect() {
        let (envelope, attempt) = (envelope(), attempt());
        let now = envelope.created.plus(Duration::from_millis(18_530));
        for (kind, letter) in [(Kind::Transient, "T"), (Kind::Permanent, "P")] {
            let text = line(&Facts::attempt(kind, now, false, &envelope, &attempt));
            let pattern = r"@example\.com@\d+@default@default@5@0@\d+\.\d+@127\.0\.0\.1@451 .*$";
            matches(&format!(r"^\d{{10}}@ID@ID@ID@{letter}{pattern}"), &text);
            assert!(text.ends_with("@5@0@18.530@127.0.0.1@451 4.3.0 try 451 again\n"), "{text}");
        }
    }

    #[test]
    fn a_failure_without_a_connection_has_the_null_id_no_bytes_and_no_address() {
        let envelope = envelope();
        let attempt = Attempt { routing_domain: "example.com", reply: "no route", ..Attempt::NONE };
        let text = line(&Facts::attempt(Kind::Permanent, envelope.created, false, &envelope, &attempt));
        let wanted = "@00/00-00000-00000000@P@example.com@0@default@default@0@0@0.000@@no route\n";
        assert!(text.ends_with(wanted), "{text}");
    }

    #[test]
    fn the_null_sender_is_two_empty_fields_and_local_parts_are_escaped() {
        let envelope = Envelope {
            sender: Mailbox::default(),
            recipient: mailbox("\"a@b\\c\n\"", "example.com"),
            peer: None,
            conn_id: Id::NULL,
            protocol: ph_message::Protocol::Internal,
            binding: "out-1".into(),
            binding_group: "outs".into(),
            ..envelope()
        };
        let text = line(&Facts::reception(Time(1_251_200_446_000_001), true, &envelope, None));
        let wanted = "@R@\"a\\@b\\\\c\\n\"@example.com@@@unknown@347@internal@outs@out-1\n";
        assert!(text.starts_with("1251200446000001@") && text.ends_with(wanted), "{text}");
    }
}
