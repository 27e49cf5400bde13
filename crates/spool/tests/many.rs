//! A full queue: many messages, then a restart. `POSTHASTE_SOAK=1` makes it a million, and holds it to the budgets: open
//! within 5 seconds, under 400 MiB. Alone in its process, since it measures the process's memory.

use bytes::Bytes;
use ph_message::{Body, Content, Envelope, Id, Mailbox, Time};
use ph_spool::{Spool, SpoolOptions, check};
use std::sync::Arc;
use std::time::Instant;

const PER_TRANSACTION: u64 = 50;

fn envelope(id: u64) -> Envelope {
    Envelope {
        id: Id(id),
        batch_id: Id(id),
        sender: Mailbox { local: "newsletter".into(), domain: "sender.example".into() },
        recipient: Mailbox {
            local: format!("subscriber{id}").into(),
            domain: format!("d{}.example", id % 1000).into(),
        },
        created: Time::from_secs(1_800_000_000),
        binding: "default".into(),
        size: 1000,
        ..Envelope::default()
    }
}

fn resident_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("a Linux system");
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("the resident size");
    line.split_whitespace().nth(1).and_then(|kib| kib.parse::<u64>().ok()).expect("a number") << 10
}

#[test]
fn a_full_queue_opens_quickly_and_in_little_memory() {
    let soak = std::env::var_os("POSTHASTE_SOAK").is_some();
    let count: u64 = if soak { 1_000_000 } else { 20_000 };
    let dir = tempfile::tempdir().expect("a folder");
    let options = || SpoolOptions { cache_bytes: 8 << 20, segment_bytes: 16 << 20, ..SpoolOptions::new(dir.path()) };
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let (spool, _) = Spool::open(options(), &mut |_| {}).expect("opens");
        for first in (1..=count).step_by(PER_TRANSACTION as usize) {
            let messages = (first..first + PER_TRANSACTION).map(|id| {
                let head = Bytes::from(format!("Subject: {id}\r\n\r\n"));
                (Arc::new(envelope(id)), Content::new(head, Body::Memory(Bytes::from(vec![b'x'; 500]))))
            });
            let keys = spool.commit(messages.collect()).await.expect("commits");
            spool.done(keys[0]);
        }
    });
    let live = count - count / PER_TRANSACTION;

    let before = resident_bytes();
    let begun = Instant::now();
    let mut told = 0_u64;
    let mut ids = 0_u64;
    let (spool, report) = Spool::open(options(), &mut |one| {
        told += 1;
        ids ^= one.summary.id.0;
    })
    .expect("opens");
    let (took, grown) = (begun.elapsed(), resident_bytes().saturating_sub(before));
    println!("{live} messages: open in {took:?}, {} octets of memory each", grown / live);
    assert_eq!((told, report.messages, report.scanned), (live, live, 0));
    let expected = (1..=count).filter(|id| id % PER_TRANSACTION != 1).fold(0, |ids, id| ids ^ id);
    assert_eq!(ids, expected);
    assert_eq!(spool.id_floor(), Id(count));
    runtime.block_on(async {
        for id in [2, count / 2, count] {
            let stored = spool.read(spool.find_id(Id(id)).expect("there")).await.expect("readable");
            assert_eq!(*stored.envelope, envelope(id));
        }
    });
    spool.close();
    if soak {
        assert!(took.as_secs_f64() < 5.0, "{took:?}");
        assert!(resident_bytes() < 400 << 20, "{}", resident_bytes());
    } else {
        assert!(check(&options()).expect("checks").is_sound());
    }
}
