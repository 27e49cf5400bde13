//! The spool's public face: `Spool`, what its threads share, and the calls of sessions and deliveries.

use crate::committer::{Committer, transaction_bytes_max};
use crate::error::SpoolError;
use crate::inbox::{Inbox, Task, Work};
use crate::index::Index;
use crate::io::LockGuard;
use crate::keeper::{Job, Jobs, Keeper};
use crate::large::{LargeHome, LargeWriter};
use crate::options::{OpenReport, Recovered, SpoolOptions, SpoolStats, Stored, large_of};
use crate::pool::Pool;
use crate::recover;
use crate::transaction::Transaction;
use parking_lot::Mutex;
use ph_message::{Body, Content, DeliveryState, Envelope, Id, SpoolKey};
use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use tokio::sync::oneshot;

/// The durable store. Cloning it is cheap; the last clone to go closes the spool.
#[derive(Clone, Debug)]
pub struct Spool {
    shared: Arc<Shared>,
    threads: Arc<Threads>,
}

impl Spool {
    /// Opens the spool in `options.dir`, making it where there is none, and calls `recovered` for every message in it.
    ///
    /// # Errors
    /// `Locked` when another process has it; `Io` and `Format`. Damage is no error: it is in the report.
    pub fn open(
        options: SpoolOptions,
        recovered: &mut dyn FnMut(Recovered),
    ) -> Result<(Spool, OpenReport), SpoolError> {
        let (shared, report) = recover::open(options, recovered)?;
        let threads = Threads::start(&shared)?;
        shared.inbox.poke(); // recovery may have left records to write
        shared.jobs.push(Job::Retire);
        Ok((Spool { shared, threads: Arc::new(threads) }, report))
    }

    /// Begins a body that is too large to be held in memory.
    pub fn begin_large(&self) -> Result<LargeWriter, SpoolError> {
        self.shared.large.begin()
    }

    /// Stores messages as one transaction: all of them or none. Returns when they are durable, with their keys in order.
    /// Contents that are clones of one another are stored once.
    ///
    /// When the caller goes away before it has the answer, the messages are given up: nobody was told that they are
    /// accepted.
    ///
    /// # Errors
    /// `Full`, `Io`: nothing is stored. `TooLarge`, `DuplicateId`: the caller's fault.
    pub async fn commit(&self, mut messages: Vec<(Arc<Envelope>, Content)>) -> Result<Vec<SpoolKey>, SpoolError> {
        if messages.is_empty() {
            return Ok(Vec::new());
        }
        self.spill(&mut messages).await?;
        let transaction = Transaction::commit(&messages)?;
        self.check_size(&transaction)?;
        let (reply, answer) = oneshot::channel();
        let task = Task::Commit { entries: messages, keys: Vec::new(), reply };
        self.shared.inbox.push(Work { transaction, task })?;
        Ok(answer.await.unwrap_or(Err(SpoolError::Closed))?.take())
    }

    /// Reads a message, from memory when it is recent.
    ///
    /// # Errors
    /// `NotFound`; `Corrupt`, then a copy is in quarantine, and the caller reports and calls `done`; `Io`.
    pub async fn read(&self, key: SpoolKey) -> Result<Arc<Stored>, SpoolError> {
        if let Some(stored) = self.shared.index.lock().cache.get(key.0) {
            self.shared.counters.cache_hits.fetch_add(1, Relaxed);
            return Ok(Arc::clone(stored));
        }
        self.shared.counters.cache_misses.fetch_add(1, Relaxed);
        if let Some(stored) = self.shared.read_cached(key.0) {
            return Ok(Arc::new(stored));
        }
        let shared = Arc::clone(&self.shared);
        let read = tokio::task::spawn_blocking(move || shared.read_stored(key.0)).await;
        Ok(Arc::new(read.unwrap_or(Err(SpoolError::Closed))?))
    }

    /// As `read`, for callers outside the runtime. Blocks.
    pub fn read_blocking(&self, key: SpoolKey) -> Result<Arc<Stored>, SpoolError> {
        let cached = self.shared.index.lock().cache.get(key.0).cloned();
        cached.map_or_else(|| self.shared.read_stored(key.0).map(Arc::new), Ok)
    }

    /// Notes what an attempt changed: at once for readers, on the disk with the next batch, without a sync of its own.
    pub fn update(&self, key: SpoolKey, state: DeliveryState) {
        self.small(|index| index.update(key.0, state));
    }

    /// Stores an edited envelope in place of the message's own; the content stays. Returns when it is durable.
    ///
    /// # Errors
    /// `NotFound`, also when `envelope` has another id than the message; `Full`, `Io`: the old envelope stays.
    pub async fn replace(&self, key: SpoolKey, envelope: Envelope) -> Result<(), SpoolError> {
        let transaction = Transaction::replaced(&envelope)?;
        self.check_size(&transaction)?;
        let (reply, answer) = oneshot::channel();
        let task = Task::Replace { key: key.0, id: envelope.id.0, reply };
        self.shared.inbox.push(Work { transaction, task })?;
        answer.await.unwrap_or(Err(SpoolError::Closed))
    }

    /// The message is delivered or given up. Its key is free from now on. Written without a sync: a crash may bring the
    /// message back, once.
    pub fn done(&self, key: SpoolKey) {
        self.small(|index| index.done(key.0));
    }

    /// The message with that id, if it is in the spool.
    pub fn find_id(&self, id: Id) -> Option<SpoolKey> {
        self.shared.index.lock().live_key_of(id.0).map(SpoolKey)
    }

    /// The largest id that this spool has ever held, or nearly so: an `IdSource` starts above it.
    pub fn id_floor(&self) -> Id {
        Id(self.shared.index.lock().id_floor)
    }

    /// Writes and syncs what `done` and `update` have left to be written.
    ///
    /// # Errors
    /// `Full`, `Io`: it stays to be written.
    pub async fn flush(&self) -> Result<(), SpoolError> {
        let (reply, answer) = oneshot::channel();
        self.shared.inbox.push(Work { transaction: Transaction::default(), task: Task::Flush { reply } })?;
        answer.await.unwrap_or(Err(SpoolError::Closed))
    }

    /// Writes what is left and ends the threads. Commits fail with `Closed` afterwards. Blocks for some milliseconds.
    pub fn close(&self) {
        self.threads.stop();
    }

    pub fn stats(&self) -> SpoolStats {
        self.shared.stats()
    }

    fn small(&self, record: impl FnOnce(&mut Index) -> bool) {
        let wake = {
            let mut index = self.shared.index.lock();
            let was_empty = index.small.is_empty();
            record(&mut index) && was_empty
        };
        if wake {
            self.shared.inbox.poke();
        }
    }

    fn check_size(&self, transaction: &Transaction) -> Result<(), SpoolError> {
        let max = transaction_bytes_max(self.shared.options.segment_bytes);
        if transaction.len <= max { Ok(()) } else { Err(SpoolError::TooLarge { size: transaction.len, max }) }
    }

    /// Moves bodies that would take too much of a segment, and bodies that lie in other files, into files of ours.
    async fn spill(&self, messages: &mut [(Arc<Envelope>, Content)]) -> Result<(), SpoolError> {
        let in_memory_max = u64::from(self.shared.options.segment_bytes / 8);
        let must_spill = |content: &Content| match content.body() {
            Body::Memory(bytes) => bytes.len() as u64 > in_memory_max,
            Body::External(_) => !large_of(content).is_some_and(|body| body.is_of(&self.shared.large)),
        };
        let mut spilled: Vec<(Body, Body)> = Vec::new();
        for (_, content) in messages {
            if !must_spill(content) {
                continue;
            }
            let known = spilled.iter().find(|(from, _)| is_same_body(from, content.body())).map(|(_, to)| to.clone());
            let body = match known {
                Some(body) => body,
                None => {
                    let body = self.copy_large(content.body()).await?;
                    spilled.push((content.body().clone(), body.clone()));
                    body
                }
            };
            *content = Content::new(content.head().clone(), body);
        }
        Ok(())
    }

    async fn copy_large(&self, body: &Body) -> Result<Body, SpoolError> {
        const CHUNK: usize = 256 << 10;
        let mut writer = self.begin_large()?;
        match body {
            Body::Memory(bytes) => {
                for chunk in bytes.chunks(CHUNK) {
                    writer.write(chunk).await?;
                }
            }
            Body::External(file) => {
                let mut offset = 0;
                while offset < file.len() {
                    let len = (file.len() - offset).min(CHUNK as u64) as usize;
                    let from = Arc::clone(file);
                    let read = tokio::task::spawn_blocking(move || {
                        let mut chunk = vec![0; len];
                        from.read_at(offset, &mut chunk).map(|()| chunk)
                    });
                    let path = &self.shared.options.dir;
                    let chunk = read.await.map_err(|_| SpoolError::Closed)?;
                    writer.write(&chunk.map_err(|error| SpoolError::io("read a body for", path, error))?).await?;
                    offset += len as u64;
                }
            }
        }
        writer.finish().await
    }
}

fn is_same_body(a: &Body, b: &Body) -> bool {
    match (a, b) {
        (Body::Memory(a), Body::Memory(b)) => a.as_ptr() == b.as_ptr() && a.len() == b.len(),
        (Body::External(a), Body::External(b)) => Arc::ptr_eq(a, b),
        _ => false,
    }
}

/// What the calls and the threads share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub options: SpoolOptions,
    pub log_dir: PathBuf,
    pub quarantine: PathBuf,
    pub index: Mutex<Index>,
    pub inbox: Inbox,
    pub pool: Pool,
    pub jobs: Arc<Jobs>,
    pub large: Arc<LargeHome>,
    pub seq_next: AtomicU64,
    /// Sealed segments that are open for reading, oldest first.
    pub open_files: Mutex<VecDeque<u32>>,
    pub counters: Counters,
    /// Ours until the spool is closed.
    pub lock: Mutex<Option<Box<dyn LockGuard>>>,
}

#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub commits: AtomicU64,
    pub batches: AtomicU64,
    pub syncs: AtomicU64,
    pub written_bytes: AtomicU64,
    pub failed_full: AtomicU64,
    pub failed_io: AtomicU64,
    pub compacted: AtomicU64,
    pub quarantined: AtomicU64,
    pub cache_hits: AtomicU64,
    pub cache_misses: AtomicU64,
}

impl Shared {
    /// Tells the keeper of segments and bodies that may go.
    pub fn wake_keeper(&self) {
        let index = self.index.lock();
        let some = !index.retirable.is_empty() || !index.large_free.is_empty();
        drop(index);
        if some {
            self.jobs.push(Job::Retire);
        }
    }

    fn stats(&self) -> SpoolStats {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let counters = &self.counters;
        let index = self.index.lock();
        let mut stats = SpoolStats {
            messages: index.messages,
            large_bodies: index.large_count(),
            cached: index.cache.len() as u64,
            cached_bytes: index.cache.bytes() as u64,
            ..SpoolStats::default()
        };
        for (_, segment) in index.segments() {
            stats.segments += 1;
            stats.segment_bytes += u64::from(segment.bytes);
            stats.live_bytes += segment.live_bytes;
        }
        drop(index);
        SpoolStats {
            spares: self.pool.len() as u64,
            commits: count(&counters.commits),
            batches: count(&counters.batches),
            syncs: count(&counters.syncs),
            written_bytes: count(&counters.written_bytes),
            failed_full: count(&counters.failed_full),
            failed_io: count(&counters.failed_io),
            compacted: count(&counters.compacted),
            quarantined: count(&counters.quarantined),
            cache_hits: count(&counters.cache_hits),
            cache_misses: count(&counters.cache_misses),
            ..stats
        }
    }
}

/// The keys of a durable transaction on their way to the caller. Dropped on the way, it gives the messages up.
#[derive(Debug)]
pub(crate) struct Receipt {
    shared: Arc<Shared>,
    keys: Vec<u32>,
}

impl Receipt {
    pub fn new(shared: &Arc<Shared>, keys: Vec<u32>) -> Receipt {
        Receipt { shared: Arc::clone(shared), keys }
    }

    fn take(mut self) -> Vec<SpoolKey> {
        std::mem::take(&mut self.keys).into_iter().map(SpoolKey).collect()
    }
}

impl Drop for Receipt {
    fn drop(&mut self) {
        if self.keys.is_empty() {
            return;
        }
        let mut index = self.shared.index.lock();
        for key in self.keys.drain(..) {
            index.done(key);
        }
        drop(index);
        self.shared.inbox.poke();
    }
}

#[derive(Debug)]
struct Threads {
    shared: Arc<Shared>,
    handles: Mutex<Vec<JoinHandle<()>>>,
}

impl Threads {
    fn start(shared: &Arc<Shared>) -> Result<Threads, SpoolError> {
        let this = Threads { shared: Arc::clone(shared), handles: Mutex::new(Vec::new()) };
        let (for_committer, for_keeper, for_pool) = (Arc::clone(shared), Arc::clone(shared), Arc::clone(shared));
        this.spawn("spool-commit", move || Committer::new(for_committer).run())?;
        this.spawn("spool-keep", move || Keeper::new(for_keeper).run())?;
        this.spawn("spool-prepare", move || for_pool.pool.run())?;
        Ok(this)
    }

    fn spawn(&self, name: &str, run: impl FnOnce() + Send + 'static) -> Result<(), SpoolError> {
        let spawned = std::thread::Builder::new().name(name.into()).spawn(run);
        let handle = spawned.map_err(|error| SpoolError::io("start a thread for", &self.shared.options.dir, error))?;
        self.handles.lock().push(handle);
        Ok(())
    }

    /// The committer ends first, which ends the keeper; the preparer serves both to the end.
    fn stop(&self) {
        self.shared.inbox.stop();
        let mut handles = self.handles.lock();
        for handle in handles.drain(..) {
            if handle.thread().name() == Some("spool-prepare") {
                self.shared.pool.stop();
            }
            // The last clone may be dropped by one of these threads, through a receipt that nobody took.
            if handle.thread().id() != std::thread::current().id() && handle.join().is_err() {
                tracing::error!("a thread of the spool panicked");
            }
        }
        *self.shared.lock.lock() = None;
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        self.stop();
    }
}
