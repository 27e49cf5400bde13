//! The server's share of one message: its content alone, and the whole transaction through the machine. 10 KiB, one
//! recipient, no I/O.

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use ph_smtp::Reply;
use ph_smtp::server::testing::{peer, settings};
use ph_smtp::server::{Action, BodyReader, BodyRules, Input, LoneLf, Machine, Progress};
use std::hint::black_box;
use std::sync::Arc;

/// Content as on the wire, with its end.
fn message(line_size: usize, dots: bool) -> Vec<u8> {
    let mut wire =
        b"Received: from a.example (a.example [192.0.2.1])\r\n\tby mx.example; Thu, 01 Jan 1970 00:00:00 +0000\r\n\
        From: <a@b.example>\r\nTo: <c@d.example>\r\nSubject: a bench\r\nMIME-Version: 1.0\r\n\r\n"
            .to_vec();
    while wire.len() < 10 << 10 {
        if dots {
            wire.push(b'.');
            wire.push(b'.');
        }
        wire.extend(std::iter::repeat_n(b'x', line_size));
        wire.extend(b"\r\n");
    }
    wire.extend(b".\r\n");
    wire
}

fn content(c: &mut Criterion) {
    let rules = BodyRules {
        size_max: 20 << 20,
        header_size_max: 1 << 20,
        lone_in_headers: LoneLf::Pedantic,
        lone_in_body: LoneLf::Ignore,
    };
    let mut group = c.benchmark_group("content");
    for (name, wire) in [
        ("76_octet_lines", message(76, false)),
        ("short_lines", message(8, false)),
        ("dots_everywhere", message(76, true)),
    ] {
        group.throughput(Throughput::Bytes(wire.len() as u64));
        group.bench_function(name, |b| {
            let mut body = Vec::with_capacity(wire.len());
            b.iter(|| {
                body.clear();
                let ended = BodyReader::data(rules).feed(black_box(&wire), &mut body);
                assert!(matches!(ended, Progress::End { .. }));
                body.len()
            });
        });
    }
    group.finish();
}

fn transaction(c: &mut Criterion) {
    let envelope =
        b"MAIL FROM:<bounce+12345@sender.example> SIZE=10300\r\nRCPT TO:<someone@recipient.example>\r\nDATA\r\n";
    let content = message(76, false);
    let accepted = Reply::new(250, (2, 0, 0), "OK 18/00-07149-D7E16B94");
    let mut group = c.benchmark_group("machine");
    group.throughput(Throughput::Elements(1));
    for (name, pieces) in [
        ("pipelined", vec![envelope.to_vec(), content.clone()]),
        ("one_command_at_a_time", {
            let mut pieces: Vec<Vec<u8>> =
                envelope.split_inclusive(|&byte| byte == b'\n').map(<[u8]>::to_vec).collect();
            pieces.push(content.clone());
            pieces
        }),
    ] {
        group.bench_function(name, |b| {
            let mut machine = Machine::new(Arc::new(settings()), peer());
            let (mut input, mut out, mut body) = (Input::new(), Vec::new(), Vec::new());
            b.iter_batched(
                || (),
                |()| {
                    body.clear();
                    for piece in &pieces {
                        input.extend(piece);
                        converse(&mut machine, &mut input, &mut out, &mut body, &accepted);
                        black_box(&out);
                        out.clear();
                    }
                },
                BatchSize::SmallInput,
            );
        });
    }
    group.finish();
}

fn converse(machine: &mut Machine, input: &mut Input, out: &mut Vec<u8>, body: &mut Vec<u8>, accepted: &Reply) {
    loop {
        match machine.next(input, out) {
            Action::Read => return,
            Action::Mail => machine.mailed(None, out),
            Action::Rcpt => machine.rcpted(None, out),
            Action::Data => machine.data_begun(None, out),
            Action::Body => machine.read_body(input, body),
            Action::BodyEnd => machine.body_ended(accepted, out),
            other => unreachable!("{other:?}"),
        }
    }
}

criterion_group!(benches, content, transaction);
criterion_main!(benches);
