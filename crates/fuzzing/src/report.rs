//! Delivery reports, and the binary form of envelopes.

use crate::choices::Choices;
use bytes::Bytes;
use ph_message::dsn::{Action, DeliveryStatus, Inline, Report, extract_delivery_status, is_wanted, status};
use ph_message::{
    Content, Context, DeliveryState, DsnRequest, Envelope, Id, Mailbox, Notify, Protocol, Ret, Summary, Time,
};
use std::net::SocketAddr;
use std::sync::Arc;

pub static WORDS: &[&str] = &[
    "550 5.1.1 no such user",
    "421-4.7.0 a\n421 4.7.0 b",
    "Content-Type: multipart/report; report-type=delivery-status; boundary=r\r\n\r\n",
    "--r\r\n",
    "Content-Type: message/delivery-status\r\n\r\n",
    "Reporting-MTA: dns; x\r\n",
    "Final-Recipient: rfc822; a@b\r\n",
    "Action: failed\r\n",
    "Status: 5.1.1\r\n",
    "Diagnostic-Code: smtp; 550 no\r\n",
    "\r\n\r\n",
    "--r--\r\n",
];

const ACTIONS: [Action; 5] = [Action::Failed, Action::Delayed, Action::Delivered, Action::Relayed, Action::Expanded];

/// Building a report about any message for any reason, and reading it again.
pub fn build(input: &[u8]) {
    let mut choices = Choices::new(input);
    let action = choices.pick(&ACTIONS);
    let inline = choices.pick(&[Inline::Headers, Inline::None, Inline::Full]);
    let envelope = envelope(&mut choices);
    let (reply, stage, host, preamble) = (choices.text(), choices.text(), choices.text(), choices.text());
    let look = choices.octet();
    let original = Content::parse(Bytes::copy_from_slice(choices.rest()));
    let report = Report {
        action,
        envelope: &envelope,
        original: &original,
        inline,
        hostname: "mx.example",
        from: "postmaster@mx.example",
        to: &envelope.sender,
        id: Id(0x1234),
        now: Time::from_secs(1_700_000_000),
        reply: &reply,
        stage: &stage,
        remote_mta: (look & 1 != 0).then_some(&*host),
        last_attempt: (look & 2 != 0).then_some(Time::from_secs(1_700_000_000)),
        retry_until: (look & 4 != 0).then_some(Time::from_secs(1_700_100_000)),
        preamble: (look & 8 != 0).then_some(&*preamble),
    };
    let _ = is_wanted(&envelope.dsn, action);
    let content = report.build().expect("memory");
    let wire = content.to_bytes().expect("memory");
    let again = Content::parse(wire);
    assert_eq!(again.head(), content.head(), "a report whose head does not end where it ends");
    let head = again.header_block();
    assert!(head.split(|&byte| byte == b'\n').all(|line| line.len() <= 999), "a line too long in a head");
    let groups = extract_delivery_status(&again).expect("memory").expect("a report has a status part");
    let of_recipient = groups.get(1).expect("a report has a recipient");
    let value = |name: &str| of_recipient.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str());
    assert_eq!(value("Action"), Some(action.name()));
    assert_eq!(value("Status"), Some(&*status(&reply, action)));
}

/// Other people's reports, and replies as they come.
pub fn parse(input: &[u8]) {
    let content = Content::parse(Bytes::copy_from_slice(input));
    if let Some(groups) = extract_delivery_status(&content).expect("memory") {
        assert!(!groups.is_empty() && groups.iter().all(|group| !group.is_empty()));
    }
    let reply = String::from_utf8_lossy(input);
    let _ = Action::of_reply(&reply);
    let written = DeliveryStatus::of_reply(&reply).to_bytes();
    assert!(!written.windows(3).any(|three| three == b"\n\r\n"), "an empty line within a group");
    for action in ACTIONS {
        let code = status(&reply, action);
        assert!(code.len() <= 9 && code.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.'), "{code}");
    }
}

/// Envelope, state and summary: any octets, and any values.
pub fn codec(input: &[u8]) {
    if let Ok(envelope) = Envelope::decode(input) {
        again(&envelope);
    }
    if let Ok(state) = DeliveryState::decode(input) {
        let mut bytes = Vec::new();
        state.encode(&mut bytes);
        let read = DeliveryState::decode(&bytes).expect("what was encoded decodes");
        assert!(state.last_reply.starts_with(&*read.last_reply));
        assert_eq!(DeliveryState { last_reply: read.last_reply.clone(), ..state }, read);
    }
    if let Ok(summary) = Summary::decode(input) {
        let mut bytes = Vec::new();
        summary.encode(&mut bytes);
        assert_eq!(Summary::decode(&bytes).as_ref(), Ok(&summary));
    }
    let envelope = envelope(&mut Choices::new(input));
    again(&envelope);
    let summary = envelope.summary(&DeliveryState::default());
    let mut bytes = Vec::new();
    summary.encode(&mut bytes);
    assert_eq!(Summary::decode(&bytes), Ok(summary));
}

fn again(envelope: &Envelope) {
    let mut bytes = Vec::new();
    envelope.encode(&mut bytes);
    assert_eq!(Envelope::decode(&bytes).as_ref(), Ok(envelope));
}

/// An envelope of any values.
pub fn envelope(choices: &mut Choices<'_>) -> Envelope {
    let look = choices.number();
    let has = |bit: u32| look >> bit & 1 != 0;
    let mailbox = |choices: &mut Choices<'_>| Mailbox { local: choices.text(), domain: choices.text() };
    let notify = Notify { success: has(6), failure: has(7), delay: has(8) };
    let v6 = choices.flag();
    let address = |choices: &mut Choices<'_>| -> SocketAddr {
        let port = choices.number() as u16;
        match v6 {
            true => (u128::from(choices.number()).to_be_bytes(), port).into(),
            false => ((choices.number() as u32).to_be_bytes(), port).into(),
        }
    };
    Envelope {
        id: Id(choices.number()),
        batch_id: Id(choices.number()),
        conn_id: Id(choices.number()),
        sender: mailbox(choices),
        recipient: mailbox(choices),
        created: Time::from_secs((choices.number() >> 32) as i64),
        protocol: choices.pick(&[Protocol::Esmtp, Protocol::Internal, Protocol::EcStream, Protocol::Rest]),
        peer: has(0).then(|| address(choices)),
        listener: has(1).then(|| address(choices)),
        binding: choices.text(),
        binding_group: choices.text(),
        routing_domain: has(2).then(|| choices.text()),
        conn_context: Arc::new(context(choices)),
        mess_context: Arc::new(context(choices)),
        dsn: DsnRequest {
            notify: has(5).then_some(notify),
            orcpt: has(9).then(|| choices.text()),
            ret: has(10).then_some(if has(11) { Ret::Full } else { Ret::Headers }),
            envid: has(12).then(|| choices.text()),
        },
        smtputf8: has(3),
        eight_bit: has(4),
        urgent: has(13),
        size: choices.number(),
        generation: choices.octet(),
    }
}

fn context(choices: &mut Choices<'_>) -> Context {
    let mut context = Context::new();
    for _ in 0..choices.octet() % 4 {
        context.set(&choices.text(), Bytes::copy_from_slice(choices.bytes()));
    }
    context
}
