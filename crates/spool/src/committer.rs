//! The one thread that writes the log: takes all transactions that wait, writes them with one `pwritev`, syncs once, and
//! wakes all sessions. While it is in `fdatasync` the next batch forms by itself.
//!
//! Invariant: a transaction is acknowledged only after an `fdatasync` of its segment that followed its write returned
//! success. After a failed write or sync nothing more is written to that segment: it is sealed at its last durable
//! octet, and the next batch goes to another one. A failed `fdatasync` is never asked a second time, since the kernel
//! may have dropped the pages and would call them clean.

use crate::batch::{
    Batch, Prepared, Written, answer, begin_batch, prepare, seal_small, settle, settle_small, take_small,
};
use crate::error::SpoolError;
use crate::format::{BLOCK, HEAD, SegmentHead};
use crate::inbox::{Task, Work};
use crate::index::{Role, Segment, Small};
use crate::io::{IoFile, write_all};
use crate::keeper::{Job, Sealed};
use crate::pool::reserve_of;
use crate::spool::Shared;
use hashbrown::HashMap;
use std::collections::VecDeque;
use std::io::IoSlice;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

/// Octets after which a batch is synced even though more is waiting.
const BATCH_BYTES_MAX: u64 = 8 << 20;
/// Octets of `done` and `update` records in one batch.
const SMALL_BYTES_MAX: usize = 1 << 20;
/// The longest pause in which a batch may gather.
const GATHER_MAX: Duration = Duration::from_micros(1000);
/// Octets of a batch record.
const BATCH_RECORD: u32 = HEAD + 8;

static ZEROS: [u8; BLOCK as usize] = [0; BLOCK as usize];

pub struct Committer {
    shared: Arc<Shared>,
    active: Option<Active>,
    /// `done` and `update` records that are written and not synced.
    unsynced: Vec<Written>,
    /// When the oldest of them was written.
    unsynced_since: Option<Instant>,
    /// Since when small records wait for a batch.
    small_since: Option<Instant>,
    /// Some found no room; look again after `flush_after`.
    small_left: bool,
    /// Transactions of the last round.
    last_batch: usize,
}

/// However the thread ends, nobody must wait for it for ever.
impl Drop for Committer {
    fn drop(&mut self) {
        self.shared.inbox.close();
        self.shared.jobs.push(Job::Stop);
    }
}

/// The segment that is written to.
struct Active {
    number: u32,
    seq: u64,
    epoch: u64,
    bytes: u32,
    file: Arc<dyn IoFile>,
    /// The next batch goes here.
    at: u32,
    /// Everything below is on the disk.
    durable: u32,
    sealed: Sealed,
}

impl Committer {
    pub fn new(shared: Arc<Shared>) -> Committer {
        Committer {
            shared,
            active: None,
            unsynced: Vec::new(),
            unsynced_since: None,
            small_since: None,
            small_left: false,
            last_batch: 0,
        }
    }

    pub fn run(mut self) {
        loop {
            if std::mem::take(&mut self.small_left) {
                self.small_since.get_or_insert_with(Instant::now);
            }
            std::thread::sleep(gather_for(std::mem::take(&mut self.last_batch)));
            let sync_at = self.unsynced_since.map(|since| since + self.shared.options.sync_after);
            let taken = self.shared.inbox.take(self.small_since, self.shared.options.flush_after, sync_at);
            let (work, stop) = (taken.work, taken.stop);
            self.small_since = taken.small_since;
            let due = |since: Option<Instant>, after| since.is_some_and(|since: Instant| since.elapsed() >= after);
            let small_due = stop || due(self.small_since, self.shared.options.flush_after);
            let sync_due = stop || due(self.unsynced_since, self.shared.options.sync_after);
            self.process(work.into(), small_due, sync_due);
            if stop {
                break;
            }
        }
        self.seal();
    }

    fn process(&mut self, mut queue: VecDeque<Work>, small_due: bool, mut sync_due: bool) {
        let mut deferred = VecDeque::new();
        let mut again = small_due || !queue.is_empty();
        while again {
            if self.active.is_none() {
                self.answer_flushes(&mut queue);
                if queue.is_empty() && self.shared.index.lock().small.is_empty() {
                    break;
                }
                if let Err(error) = self.begin_segment(0) {
                    self.refuse(&mut queue, &error);
                    self.small_left = !self.shared.index.lock().small.is_empty();
                    break;
                }
            }
            let batch = self.assemble(&mut queue, &mut deferred);
            if batch.end > 0 || !batch.flushes.is_empty() {
                self.write(batch, std::mem::take(&mut sync_due));
            } else if let Some(next) = queue.front() {
                // The next transaction does not fit, nor was there a small record before it.
                if self.active.as_ref().is_some_and(|active| active.at == BLOCK) {
                    let (size, max) = (next.transaction.len, transaction_bytes_max(self.shared.options.segment_bytes));
                    let work = queue.pop_front().expect("the queue has a front");
                    self.fail(work, &SpoolError::TooLarge { size, max });
                } else {
                    let keep = usize::from(matches!(next.task, Task::Commit { .. } | Task::Replace { .. }));
                    if let Err(error) = self.begin_segment(keep) {
                        self.refuse(&mut queue, &error);
                    }
                }
            }
            queue.append(&mut deferred);
            again = !queue.is_empty();
            if !again && !self.shared.index.lock().small.is_empty() {
                // Small records alone may take the reserve; without it they stay in memory until there is room.
                let has_room = self.active.as_ref().is_some_and(|active| active.at + BLOCK <= active.bytes);
                again = small_due && (has_room || self.begin_segment(0).is_ok());
                self.small_left = !again;
            }
        }
        self.small_since = None;
        if sync_due {
            self.sync_small();
        }
        if let Some(active) = &self.active
            && active.at > active.bytes / 8
        {
            self.shared.pool.want();
        }
        self.shared.wake_keeper();
    }

    /// With no segment and no small record there is nothing that a flush could wait for.
    fn answer_flushes(&mut self, queue: &mut VecDeque<Work>) {
        if self.unsynced.is_empty() && self.shared.index.lock().small.is_empty() {
            for at in (0..queue.len()).rev() {
                if matches!(queue[at].task, Task::Flush { .. })
                    && let Some(Work { task: Task::Flush { reply }, .. }) = queue.remove(at)
                {
                    let _ = reply.send(Ok(()));
                }
            }
        }
    }

    /// Takes a spare, and seals the present segment once there is one.
    fn begin_segment(&mut self, keep: usize) -> Result<(), SpoolError> {
        self.sync_small();
        let spare = self.shared.pool.take(keep)?;
        self.seal();
        let mut random = [0; 8];
        if let Err(error) = getrandom::fill(&mut random) {
            let path = self.shared.pool.path(spare.number);
            self.shared.pool.give(spare);
            return Err(SpoolError::io("random number for", &path, std::io::Error::other(error)));
        }
        let epoch = u64::from_le_bytes(random) | 1; // never 0, which is what zeroed blocks hold
        let seq = self.shared.seq_next.fetch_add(1, Relaxed);
        let bytes = self.shared.options.segment_bytes;
        let segment = Segment {
            seq,
            epoch,
            bytes,
            end: BLOCK,
            role: Role::Active,
            live: 0,
            live_bytes: 0,
            done_pins: HashMap::new(),
            moved_from: Vec::new(),
            done_for_copies: false,
            file: None,
        };
        self.shared.index.lock().add_segment(spare.number, segment);
        let sealed = Sealed { number: spare.number, seq, epoch, end: BLOCK, ..Sealed::default() };
        let (number, file) = (spare.number, spare.file);
        self.active = Some(Active { number, seq, epoch, bytes, file, at: BLOCK, durable: BLOCK, sealed });
        Ok(())
    }

    fn seal(&mut self) {
        self.sync_small();
        let Some(mut active) = self.active.take() else { return };
        active.sealed.end = active.durable;
        self.shared.index.lock().seal(active.number, active.durable);
        self.shared.jobs.push(Job::Index(active.sealed));
    }

    /// Makes small records durable before nobody could do it any more.
    fn sync_small(&mut self) {
        if self.active.is_some() && !self.unsynced.is_empty() {
            self.write(Batch::default(), true);
        }
    }

    fn refuse(&mut self, queue: &mut VecDeque<Work>, error: &SpoolError) {
        for work in queue.drain(..) {
            self.fail(work, error);
        }
    }

    /// Takes small records, and transactions as far as they fit.
    fn assemble(&mut self, queue: &mut VecDeque<Work>, deferred: &mut VecDeque<Work>) -> Batch {
        let Some(active) = &mut self.active else { return Batch::default() };
        let mut batch = Batch::default();
        let base = active.at;
        if base + BLOCK > active.bytes {
            return batch;
        }
        let shared = &self.shared;
        let mut index = shared.index.lock();
        begin_batch(&mut batch, active.durable);
        let room = ((active.bytes - base) as usize).min(SMALL_BYTES_MAX);
        take_small(&mut index, &mut batch, base, room);
        let mut at = base + batch.small.len() as u32;
        let limit = u64::from(active.bytes - reserve_of(active.bytes));
        while let Some(mut work) = queue.pop_front() {
            let end = u64::from(at) + work.transaction.len;
            let is_first = batch.work.is_empty();
            if end > limit || (!is_first && end - u64::from(base) > BATCH_BYTES_MAX) {
                queue.push_front(work);
                break;
            }
            match prepare(&mut index, &mut work) {
                Prepared::Write => {
                    batch.work.push((work, at));
                    at = end as u32;
                }
                Prepared::Defer => deferred.push_back(work),
                Prepared::Answered => {}
                Prepared::Answer(error) => answer(work, &error),
                Prepared::Flush => {
                    if let Task::Flush { reply } = work.task {
                        batch.flushes.push(reply);
                    }
                }
            }
        }
        drop(index);
        if batch.written.is_empty() && batch.work.is_empty() {
            return batch; // nothing but perhaps a wish to flush
        }
        seal_small(&mut batch.small, active.epoch, base);
        for (work, at) in &mut batch.work {
            work.transaction.seal(active.epoch, *at);
        }
        batch.end = at.next_multiple_of(BLOCK);
        batch
    }

    /// Writes a batch (which may be empty), and syncs where somebody waits for it.
    fn write(&mut self, batch: Batch, sync_due: bool) {
        let Some(active) = &mut self.active else { return self.after_failure(batch, SpoolError::Closed) };
        let shared = Arc::clone(&self.shared);
        let counters = &shared.counters;
        if batch.end > 0 {
            let head;
            let mut slices = Vec::with_capacity(batch.work.len() * 4 + 3);
            let mut from = active.at;
            if from == BLOCK {
                let id_floor = shared.index.lock().id_floor;
                let (seq, epoch, bytes) = (active.seq, active.epoch, active.bytes);
                head = SegmentHead { in_use: true, seq, epoch, bytes, id_floor }.block();
                slices.push(IoSlice::new(&head));
                from = 0;
            }
            slices.push(IoSlice::new(&batch.small));
            let mut at = active.at + batch.small.len() as u32;
            for (work, _) in &batch.work {
                work.transaction.slices(&mut slices);
                at += work.transaction.len as u32;
            }
            slices.push(IoSlice::new(&ZEROS[..(batch.end - at) as usize]));
            if let Err(error) = write_all(&*active.file, &mut slices, u64::from(from)) {
                let error = SpoolError::io("write", &shared.pool.path(active.number), error);
                return self.after_failure(batch, error);
            }
            counters.written_bytes.fetch_add(u64::from(batch.end - active.at), Relaxed);
            active.at = batch.end;
        }
        if batch.work.is_empty() && batch.flushes.is_empty() && !sync_due {
            self.unsynced_since.get_or_insert_with(Instant::now);
            self.unsynced.extend(batch.written);
            return;
        }
        if active.at > active.durable {
            counters.syncs.fetch_add(1, Relaxed);
            if let Err(error) = active.file.fdatasync() {
                let error = SpoolError::io("fdatasync", &shared.pool.path(active.number), error);
                return self.after_failure(batch, error);
            }
            active.durable = active.at;
        }
        self.complete(batch);
    }

    /// Everything written is durable: say so.
    fn complete(&mut self, batch: Batch) {
        let Some(active) = &mut self.active else { return };
        let shared = Arc::clone(&self.shared);
        let mut written = std::mem::take(&mut self.unsynced);
        self.unsynced_since = None;
        written.extend(batch.written);
        let mut replies = Vec::with_capacity(batch.work.len());
        let mut index = shared.index.lock();
        if let Some(segment) = index.segment_mut(active.number) {
            segment.end = active.durable;
        }
        for small in written {
            settle_small(&mut index, &mut active.sealed, small);
        }
        for (work, at) in batch.work {
            replies.push(settle(&mut index, &mut active.sealed, work, at));
        }
        drop(index);
        self.last_batch += replies.len();
        if !replies.is_empty() {
            shared.counters.batches.fetch_add(1, Relaxed);
            shared.counters.commits.fetch_add(replies.len() as u64, Relaxed);
        }
        for reply in replies {
            reply.send(&shared);
        }
        for flush in batch.flushes {
            let _ = flush.send(Ok(()));
        }
    }

    /// Nothing of the batch counts; what was written without a sync may be lost, and is written again elsewhere.
    fn after_failure(&mut self, batch: Batch, error: SpoolError) {
        tracing::error!(%error, "the spool could not write a batch");
        let shared = Arc::clone(&self.shared);
        let mut again: Vec<Small> = Vec::new();
        for small in self.unsynced.drain(..).chain(batch.written) {
            again.push(match small {
                Written::Done { id, segment, seq, large } => Small::Done { id, segment, seq, large },
                Written::State { key, id, .. } => Small::State { key, id },
            });
        }
        self.unsynced_since = None;
        {
            let mut index = shared.index.lock();
            again.append(&mut index.small);
            index.small = again;
        }
        self.small_left = true;
        for (work, _) in batch.work {
            self.fail(work, &error);
        }
        for flush in batch.flushes {
            let _ = flush.send(Err(error.clone()));
        }
        // `unsynced` is empty, so that sealing does not sync what has failed.
        self.seal();
    }

    fn fail(&mut self, work: Work, error: &SpoolError) {
        let counters = &self.shared.counters;
        match &work.task {
            Task::Commit { keys, .. } => {
                let failed = if error.is_full() { &counters.failed_full } else { &counters.failed_io };
                failed.fetch_add(1, Relaxed);
                let mut index = self.shared.index.lock();
                keys.iter().for_each(|&key| index.abandon(key));
            }
            Task::Replace { key, .. } => self.shared.index.lock().set_busy(*key, false),
            Task::Move { expect, .. } => {
                let mut index = self.shared.index.lock();
                expect.iter().for_each(|message| index.set_busy(message.key, false));
            }
            Task::Flush { .. } => {}
        }
        answer(work, error);
    }
}

/// How long to let the next batch gather after one of so many transactions. Writing and syncing cost much the same for one
/// transaction as for ten; where many sessions commit anyway, a pause of less than a sync on most disks has fewer of them
/// done, and the processor goes to the sessions. Where few do, nobody is made to wait.
fn gather_for(last_batch: usize) -> Duration {
    let crowd = u32::try_from(last_batch.saturating_sub(4)).unwrap_or(u32::MAX);
    Duration::from_micros(100).saturating_mul(crowd).min(GATHER_MAX)
}

/// Largest transaction that fits into a segment.
pub fn transaction_bytes_max(segment_bytes: u32) -> u64 {
    // Beside it: the header block, and in the worst case a batch record and the small records that travel with it. The
    // latter give way: a transaction that does not fit behind them is the first of the next segment.
    u64::from(segment_bytes - reserve_of(segment_bytes) - BLOCK - BATCH_RECORD)
}
