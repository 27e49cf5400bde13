//! The thread that tidies up behind the committer: writes indexes of sealed segments, gives up empty ones, compacts
//! those that are nearly empty, and removes bodies that nobody needs.
//!
//! Nothing waits for it, and all it does can be done again after a crash: an index that is missing is made by scanning,
//! a segment that was not marked as free is found empty, a copy that was half moved is overridden by what is whole.

use crate::error::SpoolError;
use crate::format::{ContentPrefix, Kind, SegmentHead};
use crate::inbox::{Expect, Task, Work};
use crate::index::{Found, Role, Small};
use crate::io::{Open, read_file, write_all, write_file};
use crate::pool::{Spare, index_name};
use crate::scan::scan;
use crate::segindex::{Builder, DoneEntry, MessageEntry, SegmentIndex, StateEntry};
use crate::spool::Shared;
use crate::transaction::Transaction;
use hashbrown::{HashMap, HashSet};
use parking_lot::{Condvar, Mutex};
use ph_message::DeliveryState;
use std::collections::VecDeque;
use std::io::IoSlice;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// How often the keeper looks for segments to compact, and tries again what failed.
const TICK: Duration = Duration::from_secs(1);
/// Slots looked at under one hold of the lock.
const VISIT: usize = 16 << 10;

#[derive(Debug)]
pub enum Job {
    /// A segment was sealed: write its index.
    Index(Sealed),
    /// Nobody needs this body any more, it seems.
    RemoveLarge(u64),
    /// Look at `Index::retirable`.
    Retire,
    Stop,
}

/// What the committer put into a segment, in the order of the offsets.
#[derive(Debug, Default)]
pub struct Sealed {
    pub number: u32,
    pub seq: u64,
    pub epoch: u64,
    pub end: u32,
    /// Offset and key.
    pub envelopes: Vec<(u32, u32)>,
    pub states: Vec<(u32, u32)>,
    /// Id, and the life of the segment that held the message.
    pub dones: Vec<(u64, u64)>,
}

/// What the keeper has to do. Bounded by what it describes: segments, and files that exist.
#[derive(Debug, Default)]
pub struct Jobs {
    queue: Mutex<VecDeque<Job>>,
    changed: Condvar,
}

impl Jobs {
    pub fn push(&self, job: Job) {
        self.queue.lock().push_back(job);
        self.changed.notify_one();
    }

    fn take(&self, deadline: Instant) -> Option<Job> {
        let mut queue = self.queue.lock();
        while queue.is_empty() {
            if self.changed.wait_until(&mut queue, deadline).timed_out() {
                break;
            }
        }
        queue.pop_front()
    }

    /// Sleeps, unless the spool is being closed.
    fn pause(&self, time: Duration) {
        let deadline = Instant::now() + time;
        let mut queue = self.queue.lock();
        while !queue.iter().any(|job| matches!(job, Job::Stop)) {
            if self.changed.wait_until(&mut queue, deadline).timed_out() {
                break;
            }
        }
    }

    fn stopping(&self) -> bool {
        self.queue.lock().iter().any(|job| matches!(job, Job::Stop))
    }
}

pub struct Keeper {
    shared: Arc<Shared>,
    /// Indexes that could not be written.
    unwritten: Vec<Sealed>,
    /// When a segment was first seen sealed.
    sealed_at: HashMap<u64, Instant>,
    /// Segments (by life) that have a damaged record and stay as they are.
    stuck: HashSet<u64>,
}

impl Keeper {
    pub fn new(shared: Arc<Shared>) -> Keeper {
        Keeper { shared, unwritten: Vec::new(), sealed_at: HashMap::new(), stuck: HashSet::new() }
    }

    pub fn run(mut self) {
        let tick = TICK.min(self.shared.options.compact_after.max(Duration::from_millis(5)));
        let mut next_tick = Instant::now() + tick;
        loop {
            match self.shared.jobs.take(next_tick) {
                Some(Job::Index(sealed)) => self.index(sealed),
                Some(Job::RemoveLarge(number)) => self.remove_large(number),
                Some(Job::Stop) => break,
                Some(Job::Retire) | None => {}
            }
            self.retire_all();
            if Instant::now() >= next_tick {
                for sealed in std::mem::take(&mut self.unwritten) {
                    self.index(sealed);
                }
                self.retry_retire();
                self.compact();
                next_tick = Instant::now() + tick;
            }
        }
        self.retire_all();
        for sealed in std::mem::take(&mut self.unwritten) {
            self.index(sealed);
        }
    }

    // -- indexes

    fn index(&mut self, sealed: Sealed) {
        match self.write_index(&sealed) {
            Ok(()) => {}
            Err(error) => {
                tracing::warn!(%error, segment = sealed.number, "the index of a segment could not be written");
                self.unwritten.push(sealed);
            }
        }
    }

    fn write_index(&self, sealed: &Sealed) -> Result<(), SpoolError> {
        let is_ours = |shared: &Shared| {
            let index = shared.index.lock();
            index.segment(sealed.number).is_some_and(|segment| segment.seq == sealed.seq)
                && !index.is_retirable(sealed.number)
        };
        if !is_ours(&self.shared) {
            return Ok(());
        }
        let mut builder = Builder::default();
        let (mut found, mut states) = (Vec::new(), Vec::new());
        for some in sealed.envelopes.chunks(VISIT) {
            let index = self.shared.index.lock();
            for &(at, key) in some {
                let here =
                    index.find(key).filter(|found| (found.envelope.segment, found.envelope.at) == (sealed.number, at));
                let Some(here) = here else { continue };
                let content_seq = index.segment(here.content.segment).map_or(0, |segment| segment.seq);
                let large = index.content(here.content_slot).and_then(|(_, _, large)| large);
                found.push((here, content_seq, large.unwrap_or(0)));
            }
        }
        for some in sealed.states.chunks(VISIT) {
            let index = self.shared.index.lock();
            states.extend(some.iter().filter_map(|&(at, key)| {
                index.find(key).filter(|found| {
                    (found.state.segment, found.state.at) == (sealed.number, at)
                        && found.envelope.segment != sealed.number
                })
            }));
        }
        {
            let index = self.shared.index.lock();
            let in_use: HashSet<u64> = index.segments().map(|(_, segment)| segment.seq).collect();
            let for_copies = index.segment(sealed.number).is_some_and(|segment| segment.done_for_copies);
            for &(id, seq) in &sealed.dones {
                if for_copies || in_use.contains(&seq) && seq != sealed.seq {
                    builder.done(DoneEntry { id, seq });
                }
            }
            builder.floor(index.id_floor);
        }
        let mut summary = Vec::new();
        for (found, content_seq, large) in found {
            let envelope = match self.shared.reader().envelope(&found) {
                Ok(envelope) => envelope,
                // Gone or moved meanwhile. Where it is damaged no index is written, and the next start scans.
                Err(error) if self.shared.index.lock().is_at_place(&found) => return Err(error),
                Err(_) => continue,
            };
            let state_here = found.state.segment == sealed.number;
            let state = match self.shared.reader().state(&found) {
                Ok(state) if state_here => state,
                Err(error @ SpoolError::Io { .. }) if state_here => return Err(error),
                _ => DeliveryState::default(),
            };
            summary.clear();
            envelope.summary(&state).encode(&mut summary);
            builder.message(&MessageEntry {
                id: found.id,
                at: found.envelope.at,
                len: found.envelope_len,
                content_seq,
                content_at: found.content.at,
                content_len: found.content_len,
                large,
                state_at: if state_here { found.state.at } else { 0 },
                summary: &summary,
            });
        }
        for found in states {
            let state = self.shared.reader().state(&found);
            if let Err(error @ SpoolError::Io { .. }) = state {
                return Err(error);
            }
            if let Ok(state) = state {
                builder.state(&StateEntry::new(found.id, found.state.at, &state));
            }
        }
        let bytes = builder.build(sealed.seq, sealed.epoch, sealed.end).to_bytes();
        let path = self.shared.log_dir.join(index_name(sealed.number));
        write_file(&*self.shared.options.io, &path, self.shared.options.mode, &bytes)
            .map_err(|error| SpoolError::io("write", &path, error))
    }

    // -- giving up

    fn retire_all(&mut self) {
        let (numbers, large) = {
            let mut index = self.shared.index.lock();
            (std::mem::take(&mut index.retirable), std::mem::take(&mut index.large_free))
        };
        large.into_iter().for_each(|number| self.remove_large(number));
        let mut queue: VecDeque<u32> = numbers.into();
        while let Some(number) = queue.pop_front() {
            if let Err(error) = self.retire(number) {
                tracing::warn!(%error, segment = number, "an empty segment could not be marked as free");
            }
            queue.extend(std::mem::take(&mut self.shared.index.lock().retirable));
        }
    }

    /// What failed is still there, and is offered again.
    fn retry_retire(&mut self) {
        let mut index = self.shared.index.lock();
        let numbers: Vec<u32> = index.segments().map(|(number, _)| number).collect();
        numbers.into_iter().for_each(|number| index.check_retirable(number));
    }

    fn retire(&mut self, number: u32) -> Result<(), SpoolError> {
        let shared = Arc::clone(&self.shared);
        let head = {
            let mut index = shared.index.lock();
            if !index.is_retirable(number) {
                return Ok(());
            }
            let id_floor = index.id_floor;
            let Some(segment) = index.segment_mut(number) else { return Ok(()) };
            segment.role = Role::Retiring;
            let (seq, epoch, bytes) = (segment.seq, segment.epoch, segment.bytes);
            SegmentHead { in_use: false, seq, epoch, bytes, id_floor }
        };
        let io = &shared.options.io;
        let path = shared.pool.path(number);
        let marked = (|| {
            match io.remove(&shared.log_dir.join(index_name(number))) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            let file = io.open(&path, Open::Write)?;
            write_all(&*file, &mut [IoSlice::new(&head.block())], 0)?;
            file.fdatasync()?;
            Ok(file)
        })();
        let file = match marked {
            Ok(file) => file,
            Err(error) => {
                if let Some(segment) = shared.index.lock().segment_mut(number) {
                    segment.role = Role::Sealed;
                }
                return Err(SpoolError::io("write", &path, error));
            }
        };
        self.sealed_at.remove(&head.seq);
        self.stuck.remove(&head.seq);
        shared.index.lock().forget_segment(number);
        let kept = head.bytes == shared.options.segment_bytes && shared.pool.give(Spare { number, file });
        if !kept {
            io.remove(&path).map_err(|error| SpoolError::io("remove", &path, error))?;
        }
        Ok(())
    }

    fn remove_large(&self, number: u64) {
        if self.shared.large.is_held(number) || self.shared.index.lock().large_in_use(number) {
            return;
        }
        let path = self.shared.large.path(number);
        match self.shared.options.io.remove(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                tracing::warn!(%error, path = %path.display(), "a body that nobody needs could not be removed");
            }
            _ => {}
        }
    }

    // -- compaction

    fn compact(&mut self) {
        let percent = u64::from(self.shared.options.compact_below_percent);
        let now = Instant::now();
        let mut candidates: Vec<(u64, u32, u64)> = Vec::new();
        for (number, segment) in self.shared.index.lock().segments() {
            if segment.role != Role::Sealed {
                continue;
            }
            let sealed_at = *self.sealed_at.entry(segment.seq).or_insert(now);
            if segment.live_bytes * 100 < u64::from(segment.bytes) * percent
                && now - sealed_at >= self.shared.options.compact_after
                && !self.stuck.contains(&segment.seq)
            {
                candidates.push((segment.live_bytes, number, segment.seq));
            }
        }
        candidates.sort_unstable();
        for (_, number, seq) in candidates {
            if self.shared.jobs.stopping() {
                return;
            }
            match self.compact_segment(number, seq) {
                Ok(true) => {
                    self.shared.counters.compacted.fetch_add(1, Relaxed);
                }
                Ok(false) => {}
                Err(SpoolError::Full | SpoolError::Closed) => return,
                Err(error) => {
                    tracing::warn!(%error, segment = number, "a segment cannot be compacted");
                    self.stuck.insert(seq);
                }
            }
            self.retire_all();
        }
    }

    /// Copies what counts to the active segment. `true`: nothing is left.
    fn compact_segment(&self, number: u32, seq: u64) -> Result<bool, SpoolError> {
        let mut contents: HashSet<u32> = HashSet::new();
        self.visit(|_, found| {
            if found.envelope.segment == number || found.content.segment == number {
                contents.insert(found.content_slot);
            }
        });
        let mut groups: HashMap<u32, Vec<(u32, Found)>> = HashMap::new();
        let mut states = Vec::new();
        self.visit(|key, found| {
            if contents.contains(&found.content_slot) {
                groups.entry(found.content_slot).or_default().push((key, found.clone()));
            } else if found.state.segment == number && found.pending.is_none() {
                states.push((key, found.clone()));
            }
        });
        let mut whole = true;
        for group in groups.into_values() {
            if self.shared.jobs.stopping() {
                return Err(SpoolError::Closed);
            }
            whole &= self.move_group(&group)?;
        }
        for (key, found) in states {
            if let Ok(state) = self.shared.reader().state(&found) {
                let mut index = self.shared.index.lock();
                if index.is_at(key, found.id, found.envelope) && !index.pending.contains_key(&key) {
                    index.update(key, state);
                }
            }
        }
        self.copy_dones(number, seq)?;
        self.flush()?;
        Ok(whole && self.shared.index.lock().segment(number).is_none_or(|segment| segment.live == 0))
    }

    fn visit(&self, mut visit: impl FnMut(u32, &Found)) {
        let mut from = 0;
        while self.shared.index.lock().visit(from, from + VISIT, &mut visit) {
            from += VISIT;
        }
    }

    /// Moves one content with all its messages. `false`: it changed meanwhile.
    fn move_group(&self, group: &[(u32, Found)]) -> Result<bool, SpoolError> {
        let Some((_, first)) = group.first() else { return Ok(true) };
        let changed = |error: SpoolError| {
            let index = self.shared.index.lock();
            if group.iter().all(|(_, found)| index.is_at_place(found)) { Err(error) } else { Ok(false) }
        };
        let payload = match self.shared.reader().record(first.content, first.content_len, Kind::Content, None) {
            Ok(payload) => payload,
            Err(error) => return changed(error),
        };
        let Some(prefix) = ContentPrefix::parse(&payload, payload.len() as u32) else {
            return changed(self.shared.corrupt(first.content));
        };
        let mut messages = Vec::with_capacity(group.len());
        let mut expect = Vec::with_capacity(group.len());
        for (key, found) in group {
            let envelope = match self.shared.reader().envelope(found) {
                Ok(envelope) => envelope,
                Err(error) => return changed(error),
            };
            let state = match self.shared.reader().state(found) {
                Ok(state) => (found.state.segment != 0).then_some(state),
                // Damaged: the message is worth more than its state. Where it only moved, the committer will see.
                Err(SpoolError::Corrupt { .. }) => None,
                Err(error) => return changed(error),
            };
            messages.push((envelope, state));
            expect.push(Expect { key: *key, id: found.id, envelope: found.envelope, state: found.state });
        }
        let transaction = Transaction::moved(prefix, payload, &messages)?;
        let len = transaction.len;
        let (reply, answer) = oneshot::channel();
        self.shared.inbox.push(Work { transaction, task: Task::Move { expect, reply } })?;
        let moved = answer.blocking_recv().unwrap_or(Err(SpoolError::Closed))?;
        let rate = self.shared.options.compact_bytes_per_s.max(1);
        self.shared.jobs.pause(Duration::from_secs_f64(len as f64 / rate as f64));
        Ok(moved)
    }

    /// Writes the segment's `done` records anew, as far as they are needed.
    fn copy_dones(&self, number: u32, seq: u64) -> Result<(), SpoolError> {
        if self.shared.index.lock().segment(number).is_none_or(|s| s.seq != seq || s.done_pins.is_empty()) {
            return Ok(());
        }
        let dones: Vec<DoneEntry> = self.load_index(number)?.dones().collect();
        {
            let mut index = self.shared.index.lock();
            let numbers: HashMap<u64, u32> = index.segments().map(|(number, segment)| (segment.seq, number)).collect();
            let Some(segment) = index.segment(number) else { return Ok(()) };
            let for_copies = segment.done_for_copies;
            let pinned: Vec<u32> = segment.done_pins.keys().copied().collect();
            let lives: Vec<(u32, u64)> =
                pinned.iter().filter_map(|&number| Some((number, index.segment(number)?.seq))).collect();
            for DoneEntry { id, seq: of } in dones {
                // The id was used again: a record written now would be said of the new message, which itself stands
                // above the old copies for as long as it is here.
                if let Some(found) = index.live_key_of(id).and_then(|key| index.find(key)) {
                    pinned.iter().for_each(|&from| index.note_moved(found.envelope.segment, from));
                    continue;
                }
                match numbers.get(&of).filter(|_| of != seq) {
                    Some(&segment) => index.small.push(Small::Done { id, segment, seq: of, large: None }),
                    // The segment it names is gone, and older copies may be in any of those that are pinned.
                    None if for_copies => index.small.extend(lives.iter().map(|&(segment, seq)| Small::Done {
                        id,
                        segment,
                        seq,
                        large: None,
                    })),
                    None => {}
                }
            }
        }
        self.flush()?;
        self.shared.index.lock().drop_done_pins(number);
        Ok(())
    }

    fn load_index(&self, number: u32) -> Result<SegmentIndex, SpoolError> {
        let shared = &self.shared;
        let io = &*shared.options.io;
        let (seq, epoch, bytes) = {
            let index = shared.index.lock();
            let segment = index.segment(number).ok_or(SpoolError::NotFound)?;
            (segment.seq, segment.epoch, segment.bytes)
        };
        let path = shared.log_dir.join(index_name(number));
        let stored = read_file(io, &path).ok().and_then(SegmentIndex::from_bytes);
        if let Some(index) = stored.filter(|index| (index.seq, index.epoch) == (seq, epoch)) {
            return Ok(index);
        }
        let (file, _) = shared.file_of(number)?;
        let head = SegmentHead { in_use: true, seq, epoch, bytes, id_floor: 0 };
        let scanned = scan(&*file, &head).map_err(|error| SpoolError::io("read", &shared.pool.path(number), error))?;
        Ok(scanned.index)
    }

    fn flush(&self) -> Result<(), SpoolError> {
        let (reply, answer) = oneshot::channel();
        self.shared.inbox.push(Work { transaction: Transaction::default(), task: Task::Flush { reply } })?;
        answer.blocking_recv().unwrap_or(Err(SpoolError::Closed))
    }
}
