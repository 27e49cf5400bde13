//! Opening a spool: what was there when the last process ended, however it ended.
//!
//! Segments are replayed in the order of their lives, each by its index or, without one, by a scan. Of a message that is
//! in several segments the latest copy counts. Then the indexes are read a second time for the summaries of what is
//! left, so that recovery holds no more in memory than the running spool does. Nothing is ever appended to a segment of
//! an earlier process: its torn tail, if it has one, stays as it is until the segment begins a new life.

use crate::error::SpoolError;
use crate::format::{BLOCK, FirstBlock, HEAD, Head, Kind, SegmentHead, is_valid};
use crate::index::{Index, Place, Role, Segment, Small};
use crate::io::{Io, IoFile, Lock, LockGuard, Open, read_file, read_up_to, write_file};
use crate::keeper::Jobs;
use crate::large::{LargeHome, name_of, number_of};
use crate::options::{Damage, OpenReport, Recovered, SpoolOptions};
use crate::pool::{Pool, Spare, index_name, log_name, parse_name};
use crate::reader::quarantine_name;
use crate::scan::{Scan, scan};
use crate::segindex::{SegmentIndex, StateEntry};
use crate::spool::{Counters, Shared};
use hashbrown::{HashMap, HashSet, HashTable};
use parking_lot::Mutex;
use ph_message::{DeliveryState, Id, SpoolKey, Summary};
use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

/// Opens the spool for use.
pub fn open(
    options: SpoolOptions,
    recovered: &mut dyn FnMut(Recovered),
) -> Result<(Arc<Shared>, OpenReport), SpoolError> {
    let segment_bytes = options.segment_bytes;
    if !segment_bytes.is_multiple_of(BLOCK) || segment_bytes < 8 * BLOCK {
        let what = format!("a segment size of {segment_bytes} octets is no multiple of 4096 of at least 32768");
        return Err(SpoolError::Format { path: options.dir, what });
    }
    let lock = prepare_dirs(&options)?;
    let mut replay = Replay::new(&options, true);
    replay.run(recovered)?;
    replay.check_large()?;
    let (empty, number) = (std::mem::take(&mut replay.empty), replay.number_next);
    let (shared, report) = replay.into_shared(Some(lock));
    for number in empty {
        keep_spare(&*shared.options.io, &shared.pool, number, segment_bytes);
    }
    if shared.pool.len() == 0 && shared.index.lock().retirable.is_empty() {
        // The first commit should not wait for its segment. On a full disk mail goes out all the same.
        match shared.pool.make(number, shared.options.prewrite) {
            Ok(spare) => drop(shared.pool.give(spare)),
            Err(error) => tracing::warn!(%error, "the spool has no room for new mail"),
        }
    }
    Ok((Arc::new(shared), report))
}

/// What is in a spool, for reading only: no thread runs, and nothing is repaired. With `lock` no process can have it.
pub fn open_read_only(
    options: &SpoolOptions,
    lock: Option<Box<dyn LockGuard>>,
    recovered: &mut dyn FnMut(Recovered),
) -> Result<(Arc<Shared>, OpenReport), SpoolError> {
    let mut replay = Replay::new(options, false);
    replay.run(recovered)?;
    replay.check_large()?;
    let (shared, report) = replay.into_shared(lock);
    Ok((Arc::new(shared), report))
}

impl Replay<'_> {
    fn into_shared(self, lock: Option<Box<dyn LockGuard>>) -> (Shared, OpenReport) {
        let Replay { options, mut index, report, seq_next, number_next, dirs, .. } = self;
        let options = options.clone();
        index.shrink();
        for number in index.segments().map(|(number, _)| number).collect::<Vec<_>>() {
            index.check_retirable(number);
        }
        let jobs = Arc::new(Jobs::default());
        let large = LargeHome::new(Arc::clone(&options.io), dirs.large, options.mode, Arc::clone(&jobs));
        let shared = Shared {
            pool: Pool::new(options.clone(), dirs.log.clone(), number_next + 1),
            log_dir: dirs.log,
            quarantine: dirs.quarantine,
            index: Mutex::new(index),
            inbox: Default::default(),
            jobs,
            large: Arc::new(large),
            seq_next: AtomicU64::new(seq_next),
            open_files: Mutex::new(VecDeque::new()),
            counters: Counters { quarantined: AtomicU64::new(report.damage.len() as u64), ..Counters::default() },
            lock: Mutex::new(lock),
            options,
        };
        (shared, report)
    }
}
/// The spool's folders.
#[derive(Clone, Debug)]
pub struct Dirs {
    pub log: PathBuf,
    pub large: PathBuf,
    pub quarantine: PathBuf,
}

impl Dirs {
    pub fn of(dir: &Path) -> Dirs {
        Dirs { log: dir.join("log"), large: dir.join("large"), quarantine: dir.join("quarantine") }
    }
}

fn prepare_dirs(options: &SpoolOptions) -> Result<Box<dyn LockGuard>, SpoolError> {
    let io = &options.io;
    let dirs = Dirs::of(&options.dir);
    for dir in [&options.dir, &dirs.log, &dirs.large, &dirs.quarantine] {
        io.make_dir(dir).map_err(|error| SpoolError::io("create", dir, error))?;
    }
    io.sync_dir(&options.dir).map_err(|error| SpoolError::io("sync", &options.dir, error))?;
    take_lock(options)
}

pub fn take_lock(options: &SpoolOptions) -> Result<Box<dyn LockGuard>, SpoolError> {
    let path = options.dir.join("lock");
    match options.io.lock(&path).map_err(|error| SpoolError::io("lock", &path, error))? {
        Lock::Taken(guard) => Ok(guard),
        Lock::HeldBy(pid) => Err(SpoolError::Locked { path: options.dir.clone(), pid }),
    }
}

/// Takes an empty segment of an earlier process into the pool, or deletes it.
fn keep_spare(io: &dyn Io, pool: &Pool, number: u32, segment_bytes: u32) {
    let path = pool.path(number);
    let kept = io
        .open(&path, Open::Write)
        .and_then(|file| Ok((file.size()?, file)))
        .is_ok_and(|(size, file)| size == u64::from(segment_bytes) && pool.give(Spare { number, file }));
    if !kept && let Err(error) = io.remove(&path) {
        tracing::warn!(%error, path = %path.display(), "an empty segment could not be deleted");
    }
}

/// One pass over a spool's files. With `repair` it writes missing indexes, sets damage aside and tidies up; without, it
/// only reads.
pub struct Replay<'a> {
    options: &'a SpoolOptions,
    repair: bool,
    pub dirs: Dirs,
    pub index: Index,
    pub report: OpenReport,
    pub seq_next: u64,
    pub number_next: u32,
    /// Segments that wait for their next life.
    pub empty: Vec<u32>,
    /// By the sequence number of the life.
    numbers: HashMap<u64, u32>,
    /// Contents by their place.
    contents: HashTable<u32>,
    /// States that came after the segment of their message.
    states: HashMap<u32, StateEntry>,
    /// Copies that were given up without a record that names them: segment and life, by message.
    unnamed: HashMap<u64, Vec<(u32, u64)>>,
    /// Indexes that are in memory only.
    scanned: HashMap<u32, SegmentIndex>,
}

impl<'a> Replay<'a> {
    pub fn new(options: &'a SpoolOptions, repair: bool) -> Replay<'a> {
        Replay {
            options,
            repair,
            dirs: Dirs::of(&options.dir),
            index: Index::new(options.cache_bytes),
            report: OpenReport::default(),
            seq_next: 1,
            number_next: 1,
            empty: Vec::new(),
            numbers: HashMap::new(),
            contents: HashTable::new(),
            states: HashMap::new(),
            unnamed: HashMap::new(),
            scanned: HashMap::new(),
        }
    }

    pub fn run(&mut self, recovered: &mut dyn FnMut(Recovered)) -> Result<(), SpoolError> {
        let segments = self.find_segments()?;
        for (number, head) in &segments {
            let index = self.index_of(*number, head)?;
            self.apply(*number, head, &index);
            let path = self.dirs.log.join(index_name(*number));
            // What is on the disk is read again later, rather than held.
            if !self.repair || self.scanned.contains_key(number) && !self.write_index(&path, &index) {
                self.scanned.insert(*number, index);
            } else {
                self.scanned.remove(number);
            }
        }
        // Whoever copies `done` records must know of every copy that they stand for: say it again, naming it. (Not of a
        // message that came back in a later segment; said now, it would be said of that one.)
        for (id, copies) in std::mem::take(&mut self.unnamed) {
            let record = |(segment, seq)| Small::Done { id, segment, seq, large: None };
            self.index.small.extend(copies.into_iter().map(record));
        }
        self.contents = HashTable::new();
        for (number, head) in &segments {
            let index = match self.scanned.remove(number) {
                Some(index) => index,
                None => self.index_of(*number, head)?,
            };
            self.tell(*number, &index, recovered);
        }
        self.states = HashMap::new();
        self.report.messages = self.index.messages;
        self.report.segments = segments.len();
        Ok(())
    }

    /// The segments in use, in the order of their lives.
    fn find_segments(&mut self) -> Result<Vec<(u32, SegmentHead)>, SpoolError> {
        let io = &*self.options.io;
        let dir = self.dirs.log.clone();
        let names = io.list(&dir).map_err(|error| SpoolError::io("list", &dir, error))?;
        let mut segments = Vec::new();
        for name in &names {
            let Some((number, is_log)) = parse_name(name) else {
                if self.repair && name.ends_with(".tmp") {
                    let _ = io.remove(&dir.join(name)); // it is made anew when it is needed
                }
                continue;
            };
            if !is_log {
                if self.repair && names.binary_search(&log_name(number)).is_err() {
                    let _ = io.remove(&dir.join(name)); // its segment is gone
                }
                continue;
            }
            self.number_next = self.number_next.max(number + 1);
            let path = dir.join(name);
            let failed = |op| {
                let path = path.clone();
                move |error| SpoolError::io(op, &path, error)
            };
            let file = io.open(&path, Open::Read).map_err(failed("open"))?;
            let mut block = [0; BLOCK as usize];
            let len = read_up_to(&*file, &mut block, 0).map_err(failed("read"))?;
            match SegmentHead::parse(&block[..len]) {
                FirstBlock::Segment(head) => {
                    self.seq_next = self.seq_next.max(head.seq + 1);
                    self.index.id_floor = self.index.id_floor.max(head.id_floor);
                    if head.in_use { segments.push((number, head)) } else { self.empty.push(number) }
                }
                FirstBlock::Blank => self.blank(number, &*file, &path, &mut segments)?,
                FirstBlock::Newer(version) => {
                    let what = format!("written in version {version} of the spool's format; this program knows 1");
                    return Err(SpoolError::Format { path, what });
                }
                FirstBlock::Damaged => self.headless(number, &*file, &path, &mut segments)?,
            }
        }
        segments.sort_by_key(|(_, head)| head.seq);
        Ok(segments)
    }

    /// A zeroed first block: a segment that was never used, unless an index says otherwise.
    fn blank(
        &mut self,
        number: u32,
        file: &dyn IoFile,
        path: &Path,
        segments: &mut Vec<(u32, SegmentHead)>,
    ) -> Result<(), SpoolError> {
        if self.stored_index(number).is_some() {
            return self.headless(number, file, path, segments);
        }
        self.empty.push(number);
        Ok(())
    }

    /// Both copies of the header are damaged. The index knows the life as well; without one the file is set aside.
    fn headless(
        &mut self,
        number: u32,
        file: &dyn IoFile,
        path: &Path,
        segments: &mut Vec<(u32, SegmentHead)>,
    ) -> Result<(), SpoolError> {
        let size = file.size().map_err(|error| SpoolError::io("read", path, error))?;
        let bytes = u32::try_from(size).unwrap_or(u32::MAX) / BLOCK * BLOCK;
        let mut damage = Damage {
            file: path.to_owned(),
            offset: 0,
            len: u64::from(BLOCK),
            what: "a segment header that fails its checksum".into(),
            quarantined: None,
        };
        if let Some(index) = self.stored_index(number) {
            let (seq, epoch) = (index.seq, index.epoch);
            segments.push((number, SegmentHead { in_use: true, seq, epoch, bytes, id_floor: 0 }));
            self.seq_next = self.seq_next.max(seq + 1);
        } else if !self.has_records(file, bytes) {
            // Its very first write was cut short; nothing that was in it was ever acknowledged.
            self.empty.push(number);
            return Ok(());
        } else if self.repair {
            damage.len = size;
            let to = self.dirs.quarantine.join(log_name(number));
            self.options.io.rename(path, &to).map_err(|error| SpoolError::io("rename", path, error))?;
            damage.quarantined = Some(to);
        }
        self.report.damage.push(damage);
        Ok(())
    }

    /// Whether the first record after the header block is one, whatever its life.
    fn has_records(&self, file: &dyn IoFile, bytes: u32) -> bool {
        let mut block = vec![0; BLOCK as usize];
        let Ok(len) = read_up_to(file, &mut block, u64::from(BLOCK)) else { return true };
        let Some(head) = Head::parse(&block[..len]) else { return false };
        let record = block[..len].get(..(HEAD.saturating_add(head.len)) as usize);
        bytes > BLOCK && record.is_some_and(|record| is_valid(record, BLOCK))
    }

    fn stored_index(&self, number: u32) -> Option<SegmentIndex> {
        let path = self.dirs.log.join(index_name(number));
        read_file(&*self.options.io, &path).ok().and_then(SegmentIndex::from_bytes)
    }

    /// The index of a segment, from its file or from a scan.
    fn index_of(&mut self, number: u32, head: &SegmentHead) -> Result<SegmentIndex, SpoolError> {
        if let Some(index) = self.stored_index(number).filter(|i| (i.seq, i.epoch) == (head.seq, head.epoch)) {
            return Ok(index);
        }
        let path = self.dirs.log.join(log_name(number));
        let failed = |error| SpoolError::io("read", &path, error);
        let file = self.options.io.open(&path, Open::Read).map_err(failed)?;
        let Scan { index, damage, torn_bytes, data, .. } = scan(&*file, head).map_err(failed)?;
        for (range, what) in damage {
            let bytes = &data[range.start as usize..range.end as usize];
            let quarantined = self.set_aside(&path, range.start, bytes);
            let (offset, len) = (u64::from(range.start), u64::from(range.end - range.start));
            self.report.damage.push(Damage { file: path.clone(), offset, len, what, quarantined });
        }
        self.report.torn_bytes += torn_bytes;
        self.report.scanned += 1;
        self.scanned.insert(number, index.clone());
        Ok(index)
    }

    fn write_index(&self, path: &Path, index: &SegmentIndex) -> bool {
        match write_file(&*self.options.io, path, self.options.mode, &index.to_bytes()) {
            Ok(()) => true,
            Err(error) => {
                tracing::warn!(%error, path = %path.display(), "the index of a segment could not be written");
                false
            }
        }
    }

    fn set_aside(&self, file: &Path, offset: u32, bytes: &[u8]) -> Option<PathBuf> {
        if !self.repair {
            return None;
        }
        let path = self.dirs.quarantine.join(quarantine_name(file, u64::from(offset)));
        write_file(&*self.options.io, &path, self.options.mode, bytes).ok()?;
        Some(path)
    }

    /// Brings the state of the spool forward by one segment.
    fn apply(&mut self, number: u32, head: &SegmentHead, stored: &SegmentIndex) {
        self.numbers.insert(head.seq, number);
        self.index.add_segment(
            number,
            Segment {
                seq: head.seq,
                epoch: head.epoch,
                bytes: head.bytes,
                end: stored.end,
                role: Role::Sealed,
                live: 0,
                live_bytes: 0,
                done_pins: Default::default(),
                moved_from: Vec::new(),
                done_for_copies: false,
                file: None,
            },
        );
        self.index.id_floor = self.index.id_floor.max(stored.id_floor);
        for done in stored.dones() {
            self.give_up(number, done.id, done.seq);
        }
        for entry in stored.messages() {
            let Some(content) = self.content(&entry) else {
                // The segment of its content was given up, so it was done or moved; only its record is still here. (Where
                // a segment was lost to damage, that is reported, and an older copy is better than none.)
                if self.report.damage.is_empty() {
                    self.give_up(number, entry.id, 0);
                }
                continue;
            };
            let place = Place { segment: number, at: entry.at };
            let state = Place { segment: if entry.state_at == 0 { 0 } else { number }, at: entry.state_at };
            match self.index.live_key_of(entry.id) {
                Some(key) => {
                    let Some(old) = self.index.find(key) else { continue };
                    self.index.note_moved(number, old.envelope.segment);
                    self.index.note_moved(number, old.content.segment);
                    // An envelope that was replaced keeps its state; one that was moved brings it along.
                    let state = if state.segment == 0 { old.state } else { state };
                    if state.segment == number {
                        self.states.remove(&key);
                    } else if state.segment != 0
                        && !self.states.contains_key(&key)
                        && let Some(read) = self.state_at(state)
                    {
                        self.states.insert(key, StateEntry::new(entry.id, state.at, &read));
                    }
                    self.index.relocate(key, place, entry.len, content, state);
                }
                None => {
                    let Some(key) = self.index.reserve(Id(entry.id)) else { continue };
                    for (segment, _) in self.unnamed.remove(&entry.id).into_iter().flatten() {
                        self.index.note_moved(number, segment);
                    }
                    self.index.settle(key, place, entry.len, content);
                    self.index.set_state(key, state);
                }
            }
        }
        for entry in stored.states() {
            if let Some(key) = self.index.live_key_of(entry.id) {
                self.index.set_state(key, Place { segment: number, at: entry.at });
                self.states.insert(key, entry);
            }
        }
    }

    /// A record in `number` says that a message is done whose envelope was in the life `named`.
    fn give_up(&mut self, number: u32, id: u64, named: u64) {
        let Some(key) = self.index.live_key_of(id) else { return };
        self.states.remove(&key);
        let Some((id, place, _)) = self.index.remove(key) else { return };
        let seq = self.index.segment(place.segment).map_or(0, |segment| segment.seq);
        self.index.pin_done(number, place.segment, seq);
        if seq != named {
            self.unnamed.entry(id).or_default().push((place.segment, seq));
        }
    }

    /// The state record at a place, for the rare message whose index entry does not know it.
    fn state_at(&self, place: Place) -> Option<DeliveryState> {
        let file = self.options.io.open(&self.dirs.log.join(log_name(place.segment)), Open::Read).ok()?;
        let mut record = vec![0; BLOCK as usize];
        let len = read_up_to(&*file, &mut record, u64::from(place.at)).ok()?;
        let head = Head::parse(&record[..len])?;
        let record = record.get(..(HEAD + head.len) as usize)?;
        let valid = head.kind == Kind::State && is_valid(record, place.at);
        if valid { DeliveryState::decode(&record[HEAD as usize..]).ok() } else { None }
    }

    fn content(&mut self, entry: &crate::segindex::MessageEntry<'_>) -> Option<u32> {
        let segment = *self.numbers.get(&entry.content_seq)?;
        let place = Place { segment, at: entry.content_at };
        let hash = |place: Place| {
            (u64::from(place.segment) << 32 | u64::from(place.at)).wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(29)
        };
        let index = &self.index;
        let known = self.contents.find(hash(place), |&slot| {
            !index.content_is_unused(slot) && index.content(slot).is_some_and(|(at, ..)| at == place)
        });
        if let Some(&slot) = known {
            return Some(slot);
        }
        let slot = self.index.add_content(place, entry.content_len, (entry.large != 0).then_some(entry.large));
        let index = &self.index;
        self.contents
            .insert_unique(hash(place), slot, |&slot| index.content(slot).map_or(0, |(place, ..)| hash(place)));
        Some(slot)
    }

    /// Calls for each message whose latest envelope is in this segment.
    fn tell(&mut self, number: u32, stored: &SegmentIndex, recovered: &mut dyn FnMut(Recovered)) {
        let mut lost = Vec::new();
        for entry in stored.messages() {
            let place = Place { segment: number, at: entry.at };
            let key = self.index.live_key_of(entry.id).filter(|&key| self.index.is_at(key, entry.id, place));
            let Some(key) = key else { continue };
            match Summary::decode(entry.summary) {
                Ok(mut summary) => {
                    if let Some(state) = self.states.get(&key) {
                        state.apply(&mut summary);
                    }
                    recovered(Recovered { key: SpoolKey(key), summary });
                }
                Err(error) => lost.push((key, entry.at, entry.len, error.to_string())),
            }
        }
        for (key, at, len, what) in lost {
            self.index.remove(key);
            let file = self.dirs.log.join(index_name(number));
            let (offset, len) = (u64::from(at), u64::from(len));
            self.report.damage.push(Damage { file, offset, len, what, quarantined: None });
        }
    }

    /// Bodies in `large/` that no message has go; messages whose body is gone are reported.
    pub fn check_large(&mut self) -> Result<(), SpoolError> {
        let io = &*self.options.io;
        let dir = self.dirs.large.clone();
        let names = io.list(&dir).map_err(|error| SpoolError::io("list", &dir, error))?;
        let there: HashSet<u64> = names.iter().filter_map(|name| number_of(name)).collect();
        for &number in &there {
            if self.index.large_in_use(number) {
                continue;
            }
            self.report.orphans += 1;
            if !self.repair {
                continue;
            }
            let path = dir.join(name_of(number));
            // Where a record was damaged, the body may be that record's.
            let tidied = if self.report.damage.is_empty() {
                io.remove(&path)
            } else {
                io.rename(&path, &self.dirs.quarantine.join(name_of(number)))
            };
            if let Err(error) = tidied.or_else(|e| if e.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(e) }) {
                tracing::warn!(%error, path = %path.display(), "a body that nobody needs could not be removed");
            }
        }
        for number in self.index.large_numbers() {
            if !there.contains(&number) {
                self.report.damage.push(Damage {
                    file: dir.join(name_of(number)),
                    offset: 0,
                    len: 0,
                    what: "a body that a message in the spool has is not there".into(),
                    quarantined: None,
                });
            }
        }
        Ok(())
    }
}
