//! A disk for tests, in memory: it fails, fills up, writes short, and loses power.
//!
//! It keeps two images: what a running process sees, and what is surely on the platters. A write is pending until an
//! `fdatasync` of its file, a creation, rename or removal until a sync of its folder. When power fails, each pending
//! write is there, not there, or there in part (in sectors), independent of the order in which they were made. A failed
//! `fdatasync` drops its pending writes as Linux does: the process still sees them, and no later sync writes them.

use crate::io::{Io, IoFile, Lock, LockGuard, Open};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::Arc;

const SECTOR: usize = 512;

/// Small and reproducible; good enough to choose faults with.
#[derive(Clone, Debug)]
pub struct Dice(pub u64);

impl Dice {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ mixed >> 31
    }

    pub fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit.max(1)
    }

    pub fn one_in(&mut self, n: u64) -> bool {
        n > 0 && self.below(n) == 0
    }
}

/// What goes wrong.
#[derive(Clone, Copy, Debug, Default)]
pub struct Faults {
    /// One in so many calls fails with EIO; 0: none.
    pub write_eio: u64,
    pub sync_eio: u64,
    /// One in so many writes is short.
    pub short: u64,
    /// Octets that fit on the disk.
    pub capacity: Option<u64>,
    /// After so many more calls the power fails.
    pub power: Option<u64>,
}

#[derive(Clone, Debug)]
pub struct Sim(Arc<Mutex<Disk>>);

#[derive(Debug)]
struct Disk {
    files: Vec<FileState>,
    names: BTreeMap<PathBuf, usize>,
    durable_names: BTreeMap<PathBuf, usize>,
    pending_names: Vec<NameChange>,
    faults: Faults,
    dice: Dice,
    off: bool,
}

#[derive(Clone, Debug, Default)]
struct FileState {
    seen: Vec<u8>,
    durable: Vec<u8>,
    pending: Vec<Change>,
}

#[derive(Clone, Debug)]
enum Change {
    Write(u64, Vec<u8>),
    Len(u64),
}

#[derive(Clone, Debug)]
enum NameChange {
    Link(PathBuf, usize),
    Unlink(PathBuf),
    Rename(PathBuf, PathBuf),
}

impl NameChange {
    fn dir(&self) -> Option<&Path> {
        match self {
            NameChange::Link(path, _) | NameChange::Unlink(path) | NameChange::Rename(path, _) => path.parent(),
        }
    }

    fn apply(&self, names: &mut BTreeMap<PathBuf, usize>) {
        match self {
            NameChange::Link(path, file) => drop(names.insert(path.clone(), *file)),
            NameChange::Unlink(path) => drop(names.remove(path)),
            NameChange::Rename(from, to) => {
                if let Some(file) = names.remove(from) {
                    names.insert(to.clone(), file);
                }
            }
        }
    }
}

impl Sim {
    pub fn new(seed: u64) -> Sim {
        Sim(Arc::new(Mutex::new(Disk {
            files: Vec::new(),
            names: BTreeMap::new(),
            durable_names: BTreeMap::new(),
            pending_names: Vec::new(),
            faults: Faults::default(),
            dice: Dice(seed),
            off: false,
        })))
    }

    pub fn set_faults(&self, faults: Faults) {
        self.0.lock().faults = faults;
    }

    pub fn is_off(&self) -> bool {
        self.0.lock().off
    }

    /// From now on every call fails: the process is dead, whether it knows or not.
    pub fn power_off(&self) {
        self.0.lock().off = true;
    }

    /// What a disk holds that lost its power now.
    pub fn after_power_loss(&self, seed: u64) -> Sim {
        let disk = self.0.lock();
        let mut dice = Dice(seed);
        let mut names = disk.durable_names.clone();
        // Folder changes reach the disk in order (a journal), up to a point.
        let kept = dice.below(disk.pending_names.len() as u64 + 1) as usize;
        disk.pending_names[..kept].iter().for_each(|change| change.apply(&mut names));
        let files = disk.files.iter().map(|file| {
            // A sector is written as the page cache held it at some moment since the last sync.
            let mut image = file.durable.clone();
            let bias = dice.below(4); // some files late, some early, most in between
            let mut moments = std::collections::HashMap::new();
            let count = file.pending.len() as u64;
            let mut moment = |sector: usize| {
                *moments.entry(sector).or_insert_with(|| match bias {
                    0 => 0,
                    1 => count,
                    _ => dice.below(count + 1),
                })
            };
            for (nth, change) in file.pending.iter().enumerate() {
                match change {
                    Change::Len(len) if moment(usize::MAX) > nth as u64 => image.resize(*len as usize, 0),
                    Change::Len(_) => {}
                    Change::Write(at, bytes) => {
                        let (from, end) = (*at as usize, *at as usize + bytes.len());
                        for sector in from / SECTOR..end.div_ceil(SECTOR) {
                            if moment(sector) > nth as u64 {
                                let (a, b) = (from.max(sector * SECTOR), end.min((sector + 1) * SECTOR));
                                put(&mut image, a, &bytes[a - from..b - from]);
                            }
                        }
                    }
                }
            }
            FileState { seen: image.clone(), durable: image, pending: Vec::new() }
        });
        let files = files.collect();
        let next = Sim::new(seed ^ 1);
        {
            let mut disk = next.0.lock();
            (disk.files, disk.names, disk.durable_names) = (files, names.clone(), names);
        }
        next
    }

    /// The disk of a process that was killed: everything written is there.
    pub fn after_kill(&self) -> Sim {
        let disk = self.0.lock();
        let next = Sim::new(1);
        {
            let mut other = next.0.lock();
            other.files = disk.files.clone();
            other.files.iter_mut().for_each(|file| {
                file.durable = file.seen.clone();
                file.pending.clear();
            });
            (other.names, other.durable_names) = (disk.names.clone(), disk.names.clone());
        }
        next
    }

    pub fn names(&self) -> Vec<PathBuf> {
        self.0.lock().names.keys().cloned().collect()
    }

    /// Changes a file behind the spool's back.
    pub fn edit(&self, path: &Path, edit: impl FnOnce(&mut Vec<u8>)) {
        let mut disk = self.0.lock();
        let file = disk.names[path];
        edit(&mut disk.files[file].seen);
        disk.files[file].durable = disk.files[file].seen.clone();
    }

    pub fn bytes(&self, path: &Path) -> Vec<u8> {
        let disk = self.0.lock();
        disk.files[disk.names[path]].seen.clone()
    }

    pub fn delete(&self, path: &Path) {
        let mut disk = self.0.lock();
        disk.names.remove(path);
        disk.durable_names.remove(path);
    }
}

impl Disk {
    /// Counts a call; fails it when the power is off.
    fn call(&mut self) -> io::Result<()> {
        if let Some(left) = &mut self.faults.power {
            if *left == 0 {
                self.off = true;
            } else {
                *left -= 1;
            }
        }
        if self.off { Err(io::Error::other("no power")) } else { Ok(()) }
    }

    fn used(&self) -> u64 {
        self.names.values().map(|&file| self.files[file].seen.len() as u64).sum()
    }

    fn check_room(&self, file: usize, end: u64) -> io::Result<()> {
        let more = end.saturating_sub(self.files[file].seen.len() as u64);
        match self.faults.capacity {
            Some(capacity) if more > 0 && self.used() + more > capacity => Err(io::ErrorKind::StorageFull.into()),
            _ => Ok(()),
        }
    }

    fn rename_or_remove(&mut self, change: NameChange) {
        change.apply(&mut self.names);
        self.pending_names.push(change);
    }
}

fn put(image: &mut Vec<u8>, at: usize, bytes: &[u8]) {
    if image.len() < at + bytes.len() {
        image.resize(at + bytes.len(), 0);
    }
    image[at..at + bytes.len()].copy_from_slice(bytes);
}

impl Io for Sim {
    fn open(&self, path: &Path, how: Open) -> io::Result<Arc<dyn IoFile>> {
        let mut disk = self.0.lock();
        disk.call()?;
        let known = disk.names.get(path).copied();
        let file = match (how, known) {
            (Open::Create(_), Some(_)) => return Err(io::ErrorKind::AlreadyExists.into()),
            (Open::Create(_), None) => {
                disk.files.push(FileState::default());
                let file = disk.files.len() - 1;
                disk.rename_or_remove(NameChange::Link(path.to_owned(), file));
                file
            }
            (_, Some(file)) => file,
            (_, None) => return Err(io::ErrorKind::NotFound.into()),
        };
        Ok(Arc::new(SimFile { disk: self.clone(), file }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut disk = self.0.lock();
        disk.call()?;
        if !disk.names.contains_key(from) {
            return Err(io::ErrorKind::NotFound.into());
        }
        disk.rename_or_remove(NameChange::Rename(from.to_owned(), to.to_owned()));
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut disk = self.0.lock();
        disk.call()?;
        if !disk.names.contains_key(path) {
            return Err(io::ErrorKind::NotFound.into());
        }
        disk.rename_or_remove(NameChange::Unlink(path.to_owned()));
        Ok(())
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let mut disk = self.0.lock();
        disk.call()?;
        let inside = disk.names.keys().filter(|path| path.parent() == Some(dir));
        Ok(inside.filter_map(|path| Some(path.file_name()?.to_str()?.to_owned())).collect())
    }

    fn make_dir(&self, _dir: &Path) -> io::Result<()> {
        self.0.lock().call()
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let mut disk = self.0.lock();
        disk.call()?;
        let (synced, left) =
            std::mem::take(&mut disk.pending_names).into_iter().partition::<Vec<_>, _>(|c| c.dir() == Some(dir));
        synced.iter().for_each(|change| change.apply(&mut disk.durable_names));
        disk.pending_names = left;
        Ok(())
    }

    fn lock(&self, _path: &Path) -> io::Result<Lock> {
        #[derive(Debug)]
        struct Guard;
        impl LockGuard for Guard {}
        Ok(Lock::Taken(Box::new(Guard)))
    }
}

#[derive(Debug)]
struct SimFile {
    disk: Sim,
    file: usize,
}

impl IoFile for SimFile {
    fn pwritev(&self, parts: &[IoSlice<'_>], offset: u64) -> io::Result<usize> {
        let mut disk = self.disk.0.lock();
        disk.call()?;
        let faults = disk.faults;
        if disk.dice.one_in(faults.write_eio) {
            return Err(io::Error::from_raw_os_error(5));
        }
        let mut bytes: Vec<u8> = parts.iter().flat_map(|part| part.iter().copied()).collect();
        if disk.dice.one_in(faults.short) && bytes.len() > 1 {
            let len = 1 + disk.dice.below(bytes.len() as u64 - 1) as usize;
            bytes.truncate(len);
        }
        disk.check_room(self.file, offset + bytes.len() as u64)?;
        let file = &mut disk.files[self.file];
        put(&mut file.seen, offset as usize, &bytes);
        let len = bytes.len();
        file.pending.push(Change::Write(offset, bytes));
        Ok(len)
    }

    fn pread(&self, into: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut disk = self.disk.0.lock();
        disk.call()?;
        let seen = &disk.files[self.file].seen;
        let from = (offset as usize).min(seen.len());
        let len = into.len().min(seen.len() - from);
        into[..len].copy_from_slice(&seen[from..from + len]);
        Ok(len)
    }

    fn fdatasync(&self) -> io::Result<()> {
        let mut disk = self.disk.0.lock();
        disk.call()?;
        let faults = disk.faults;
        let fails = disk.dice.one_in(faults.sync_eio);
        let mut dice = Dice(disk.dice.next());
        let file = &mut disk.files[self.file];
        for change in std::mem::take(&mut file.pending) {
            if fails && dice.one_in(2) {
                continue; // lost, and clean in the kernel's eyes
            }
            match change {
                Change::Write(at, bytes) => put(&mut file.durable, at as usize, &bytes),
                Change::Len(len) => file.durable.resize(len as usize, 0),
            }
        }
        if fails { Err(io::Error::from_raw_os_error(5)) } else { Ok(()) }
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        let mut disk = self.disk.0.lock();
        disk.call()?;
        disk.check_room(self.file, len)?;
        let file = &mut disk.files[self.file];
        file.seen.resize(len as usize, 0);
        file.pending.push(Change::Len(len));
        Ok(())
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        self.truncate(len)
    }

    fn size(&self) -> io::Result<u64> {
        let mut disk = self.disk.0.lock();
        disk.call()?;
        Ok(disk.files[self.file].seen.len() as u64)
    }
}
