//! Messages made durable per second, by 1, 10 and 50 sessions: this spool against fjall, on the same work.
//!
//! The work: a message of 10 KiB with its envelope is committed and synced, then done (removed), as mail that leaves at
//! once. fjall gets what it needs to do well: key-value separation, and a committer thread that writes all that waits
//! as one batch with one `fdatasync`, as ours does. The folder is `SPOOL_BENCH_DIR`, or the target folder: on a
//! memory file system a sync costs nothing, and the comparison means nothing.

use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use fjall::{Database, Keyspace, KeyspaceCreateOptions, KvSeparationOptions, PersistMode};
use ph_message::{Body, Content, Envelope, Id, Mailbox};
use ph_spool::{Spool, SpoolOptions};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;
use tokio::sync::oneshot;

const SESSIONS: [u64; 3] = [1, 10, 50];

static ID: AtomicU64 = AtomicU64::new(1);

fn folder() -> tempfile::TempDir {
    let dir =
        std::env::var_os("SPOOL_BENCH_DIR").map_or_else(|| PathBuf::from(env!("CARGO_TARGET_TMPDIR")), PathBuf::from);
    std::fs::create_dir_all(&dir).expect("the folder can be made");
    tempfile::tempdir_in(dir).expect("a folder")
}

fn envelope() -> Envelope {
    Envelope {
        id: Id(ID.fetch_add(1, Ordering::Relaxed)),
        sender: Mailbox { local: "sender".into(), domain: "a.example".into() },
        recipient: Mailbox { local: "recipient".into(), domain: "b.example".into() },
        size: 10 << 10,
        ..Envelope::default()
    }
}

fn content() -> Content {
    let head = Bytes::from_static(b"Subject: a message\r\nFrom: <sender@a.example>\r\n\r\n");
    Content::new(head, Body::Memory(Bytes::from(vec![b'x'; 10 << 10])))
}

/// Runs `messages` in `sessions` tasks; `store` makes one durable and takes it away again.
fn time<S, F>(runtime: &Runtime, sessions: u64, messages: u64, store: S) -> Duration
where
    S: Fn() -> F + Clone + Send + 'static,
    F: Future<Output = ()> + Send,
{
    let left = Arc::new(AtomicU64::new(0));
    runtime.block_on(async move {
        let begun = Instant::now();
        let tasks: Vec<_> = (0..sessions)
            .map(|_| {
                let (store, left) = (store.clone(), left.clone());
                tokio::spawn(async move {
                    while left.fetch_add(1, Ordering::Relaxed) < messages {
                        store().await;
                    }
                })
            })
            .collect();
        for task in tasks {
            task.await.expect("no panic");
        }
        begun.elapsed()
    })
}

fn ours(c: &mut Criterion, runtime: &Runtime) {
    let dir = folder();
    let options = SpoolOptions { prewrite: true, ..SpoolOptions::new(dir.path()) };
    let (spool, _) = Spool::open(options, &mut |_| {}).expect("opens");
    let mut group = c.benchmark_group("spool");
    for sessions in SESSIONS {
        group.throughput(Throughput::Elements(1));
        group.bench_function(format!("{sessions} sessions"), |bencher| {
            bencher.iter_custom(|messages| {
                let spool = spool.clone();
                time(runtime, sessions, messages, move || {
                    let spool = spool.clone();
                    async move {
                        let keys = spool.commit(vec![(Arc::new(envelope()), content())]).await.expect("commits");
                        spool.done(keys[0]);
                    }
                })
            });
        });
    }
    group.finish();
    // What a client waits, one session: criterion tells means.
    let mut waits: Vec<Duration> = (0..3000)
        .map(|_| {
            runtime.block_on(async {
                let begun = Instant::now();
                let keys = spool.commit(vec![(Arc::new(envelope()), content())]).await.expect("commits");
                let waited = begun.elapsed();
                spool.done(keys[0]);
                waited
            })
        })
        .collect();
    waits.sort_unstable();
    println!("spool, one session, commit: p50 {:?}, p99 {:?}", waits[1500], waits[2970]);
    println!("{:?}", spool.stats());
}

struct Insert {
    id: u64,
    reply: oneshot::Sender<()>,
}

/// fjall with a group commit: one thread takes all inserts and removals that wait.
fn fjall_committer(db: Database, bodies: Keyspace, envelopes: Keyspace, inbox: mpsc::Receiver<Insert>) {
    let body = vec![b'x'; (10 << 10) + 49];
    let mut done: Vec<u64> = Vec::new();
    while let Ok(first) = inbox.recv() {
        let inserts: Vec<Insert> = std::iter::once(first).chain(inbox.try_iter()).collect();
        let mut batch = db.batch().durability(Some(PersistMode::SyncData));
        for id in done.drain(..) {
            batch.remove(&bodies, id.to_be_bytes());
            batch.remove(&envelopes, id.to_be_bytes());
        }
        for insert in &inserts {
            let mut encoded = Vec::with_capacity(256);
            envelope().encode(&mut encoded);
            batch.insert(&bodies, insert.id.to_be_bytes(), body.as_slice());
            batch.insert(&envelopes, insert.id.to_be_bytes(), encoded);
        }
        batch.commit().expect("commits");
        for insert in inserts {
            done.push(insert.id);
            let _ = insert.reply.send(());
        }
    }
}

fn fjall(c: &mut Criterion, runtime: &Runtime) {
    let dir = folder();
    let db = Database::builder(dir.path()).open().expect("opens");
    let separated = || KeyspaceCreateOptions::default().with_kv_separation(Some(KvSeparationOptions::default()));
    let bodies = db.keyspace("bodies", separated).expect("a keyspace");
    let envelopes = db.keyspace("envelopes", KeyspaceCreateOptions::default).expect("a keyspace");
    let (outbox, inbox) = mpsc::channel();
    let thread = std::thread::spawn(move || fjall_committer(db, bodies, envelopes, inbox));
    let mut group = c.benchmark_group("fjall");
    for sessions in SESSIONS {
        group.throughput(Throughput::Elements(1));
        group.bench_function(format!("{sessions} sessions"), |bencher| {
            bencher.iter_custom(|messages| {
                let outbox = outbox.clone();
                time(runtime, sessions, messages, move || {
                    let outbox = outbox.clone();
                    async move {
                        let (reply, answer) = oneshot::channel();
                        outbox.send(Insert { id: ID.fetch_add(1, Ordering::Relaxed), reply }).expect("the thread runs");
                        answer.await.expect("an answer");
                    }
                })
            });
        });
    }
    group.finish();
    drop(outbox);
    thread.join().expect("no panic");
}

fn append(c: &mut Criterion) {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
    ours(c, &runtime);
    fjall(c, &runtime);
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(20).measurement_time(Duration::from_secs(6)).warm_up_time(Duration::from_secs(1));
    targets = append
}
criterion_main!(benches);
