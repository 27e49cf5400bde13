//! What one message costs on its way through: splitting, looking up, facts, trace fields, envelope coding.

use bytes::Bytes;
use criterion::{Criterion, criterion_group, criterion_main};
use ph_message::header_check::{self, Rules};
use ph_message::{Content, Envelope, Id, Mailbox, MimeTree, Time};
use std::hint::black_box;

fn message() -> Bytes {
    let mut raw = Vec::new();
    for hop in 0..4 {
        raw.extend_from_slice(
            format!(
                "Received: from mx{hop}.example.net (mx{hop}.example.net [192.0.2.{hop}])\r\n\tby mx.example.org with ESMTPS id \
                 4F1B{hop}\r\n\tfor <bob@example.org>; Mon, 4 Jan 2027 10:11:1{hop} +0100\r\n"
            )
            .as_bytes(),
        );
    }
    raw.extend_from_slice(
        b"DKIM-Signature: v=1; a=rsa-sha256; c=relaxed/relaxed; d=example.org; s=sel;\r\n\th=from:to:subject:date;\r\n\tb=AAAA\r\n\
          From: Ann Example <ann@example.org>\r\nTo: Bob Example <bob@example.net>\r\nDate: Mon, 4 Jan 2027 10:11:12 +0100\r\n\
          Message-ID: <1@example.org>\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n\
          Subject: a subject of the usual length\r\n\r\n",
    );
    raw.resize(10 << 10, b'x');
    raw.into()
}

fn benches(c: &mut Criterion) {
    let raw = message();
    let content = Content::parse(raw.clone());
    c.bench_function("parse", |b| b.iter(|| Content::parse(black_box(&raw).clone())));
    c.bench_function("header Subject (last field)", |b| b.iter(|| black_box(&content).header("Subject").is_some()));
    c.bench_function("header absent", |b| b.iter(|| black_box(&content).header("X-Absent").is_some()));
    c.bench_function("facts", |b| b.iter(|| black_box(&content).facts()));
    c.bench_function("check, default rules", |b| {
        b.iter(|| header_check::check(black_box(&content), &Rules::default()))
    });
    c.bench_function("prepend trace", |b| {
        b.iter(|| {
            let mut copy = content.clone();
            copy.prepend_raw(
                b"Received: from a (b [192.0.2.1])\r\n\tby c with ESMTP\r\n\tid d; Mon, 4 Jan 2027 10:11:12 +0100\r\n",
            );
            copy
        })
    });
    c.bench_function("eight bit, 10 KiB", |b| b.iter(|| black_box(&content).is_eight_bit().unwrap_or(true)));
    c.bench_function("mime tree", |b| {
        b.iter(|| MimeTree::parse(black_box(&content)).map(|tree| tree.parts().len()).ok())
    });
    c.bench_function("mailbox", |b| b.iter(|| Mailbox::parse(black_box("some.body+tag@example.org"), false)));

    let envelope = Envelope {
        id: Id(1),
        batch_id: Id(1),
        conn_id: Id(2),
        sender: Mailbox { local: "ann".into(), domain: "example.org".into() },
        recipient: Mailbox { local: "bob".into(), domain: "example.net".into() },
        created: Time::from_secs(1_800_000_000),
        peer: Some(([192, 0, 2, 1], 2525).into()),
        size: 10_240,
        ..Envelope::default()
    };
    let mut encoded = Vec::new();
    envelope.encode(&mut encoded);
    let mut buffer = Vec::with_capacity(1024);
    c.bench_function("envelope encode", |b| {
        b.iter(|| {
            buffer.clear();
            black_box(&envelope).encode(&mut buffer);
            buffer.len()
        })
    });
    c.bench_function("envelope decode", |b| b.iter(|| Envelope::decode(black_box(&encoded)).is_ok()));
}

criterion_group!(group, benches);
criterion_main!(group);
