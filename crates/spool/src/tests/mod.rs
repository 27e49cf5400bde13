//! Tests of the spool as a whole, on a disk in memory that can fail (`sim`), and on the real one.

mod basics;
mod crash;
mod damage;
mod faults;
mod tools;

use crate::sim::Sim;
use crate::{OpenReport, Recovered, Spool, SpoolError, SpoolOptions};
use bytes::Bytes;
use ph_message::{Body, Content, Envelope, Id, Mailbox, SpoolKey};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

pub const DIR: &str = "/spool";

/// Small segments, and no waiting: what takes seconds in a real spool happens at once.
pub fn options(disk: &Sim) -> SpoolOptions {
    SpoolOptions {
        io: Arc::new(disk.clone()),
        segment_bytes: 64 << 10,
        cache_bytes: 64 << 10,
        flush_after: Duration::from_millis(1),
        sync_after: Duration::from_millis(2),
        compact_after: Duration::from_millis(1),
        compact_bytes_per_s: u64::MAX,
        ..SpoolOptions::new(DIR)
    }
}

pub fn real_options(dir: &Path) -> SpoolOptions {
    SpoolOptions { segment_bytes: 1 << 20, ..SpoolOptions::new(dir) }
}

pub type Found = BTreeMap<u64, Recovered>;

pub fn open(options: SpoolOptions) -> Result<(Spool, OpenReport, Found), SpoolError> {
    let mut found = Found::new();
    let mut twice = Vec::new();
    let (spool, report) = Spool::open(options, &mut |one| {
        let id = one.summary.id.0;
        if found.insert(id, one).is_some() {
            twice.push(id);
        }
    })?;
    assert!(twice.is_empty(), "told twice: {twice:?}");
    assert_eq!(report.messages as usize, found.len());
    Ok((spool, report, found))
}

pub fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime")
}

pub fn envelope(id: u64) -> Envelope {
    Envelope {
        id: Id(id),
        batch_id: Id(id / 10),
        sender: Mailbox { local: "sender".into(), domain: "a.example".into() },
        recipient: Mailbox { local: format!("user{id}").into(), domain: format!("d{}.example", id % 7).into() },
        created: ph_message::Time(id as i64),
        ..Envelope::default()
    }
}

/// Content that can be told from any other, `octets` long.
pub fn content(id: u64, octets: usize) -> Content {
    let head = format!("Subject: {id}\r\nX-Load: {}\r\n\r\n", id.wrapping_mul(0x9E37_79B9));
    let body: Vec<u8> = (0..octets).map(|at| (id as usize * 31 + at * 7 + at / 256) as u8).collect();
    Content::new(Bytes::from(head), Body::Memory(Bytes::from(body)))
}

pub fn bytes_of(content: &Content) -> Vec<u8> {
    try_bytes_of(content).expect("a readable body")
}

pub fn try_bytes_of(content: &Content) -> std::io::Result<Vec<u8>> {
    let mut out = content.head().to_vec();
    match content.body() {
        Body::Memory(bytes) => out.extend_from_slice(bytes),
        Body::External(file) => {
            let from = out.len();
            out.resize(from + file.len() as usize, 0);
            file.read_at(0, &mut out[from..])?;
        }
    }
    Ok(out)
}

pub async fn commit_one(spool: &Spool, id: u64, octets: usize) -> Result<SpoolKey, SpoolError> {
    Ok(spool.commit(vec![(Arc::new(envelope(id)), content(id, octets))]).await?[0])
}

/// Checks that a message is there as it was committed.
pub async fn assert_whole(spool: &Spool, key: SpoolKey, id: u64, octets: usize) {
    let stored = spool.read(key).await.unwrap_or_else(|error| panic!("message {id}: {error}"));
    assert_eq!(stored.envelope.id, Id(id));
    assert_eq!(bytes_of(&stored.content), bytes_of(&content(id, octets)), "content of {id}");
}

/// Waits until `condition` holds; the background threads bring it about.
pub fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !condition() {
        assert!(Instant::now() < deadline, "in vain: {what}");
        std::thread::yield_now();
    }
}

pub fn log_files(disk: &Sim) -> Vec<PathBuf> {
    let is_log = |path: &PathBuf| path.extension().is_some_and(|e| e == "log") && path.starts_with("/spool/log");
    disk.names().into_iter().filter(is_log).collect()
}
