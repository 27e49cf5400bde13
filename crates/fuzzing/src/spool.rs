//! A spool of any bytes: a sound one is made once, then damaged as the input says, and opened.
//!
//! Damage that fails a checksum says little, so an input may ask for the checksum to be made good again: then lengths,
//! offsets and records are read that no writer of ours ever wrote.

use crate::choices::Choices;
use crate::report::envelope;
use bytes::Bytes;
use crc32c::{crc32c, crc32c_append};
use futures_util::future::FutureExt;
use parking_lot::Mutex;
use ph_message::{Content, DeliveryState, Id};
use ph_spool::{Io, IoFile, Lock, LockGuard, Open, Spool, SpoolOptions, check};
use std::collections::BTreeMap;
use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

const SEGMENT_BYTES: u32 = 32 << 10;
const BLOCK: usize = 4096;
const HEAD: usize = 32;

/// Opens what the input makes of a spool, reads all that is listed, and opens it again.
pub fn open(input: &[u8]) {
    let disk = sound().fork();
    let mut choices = Choices::new(input);
    for _ in 0..choices.octet() % 8 {
        damage(&disk, &mut choices);
    }
    let options = |disk: &Memory| SpoolOptions {
        segment_bytes: SEGMENT_BYTES,
        cache_bytes: 0,
        spares: 1,
        io: Arc::new(disk.clone()),
        ..SpoolOptions::new("/spool")
    };
    let _ = check(&options(&disk));
    let Some(first) = opened(options(&disk)) else { return };
    let second = opened(options(&disk)).expect("what opened once opens again");
    assert_eq!(first, second, "another list of messages after a restart");
}

/// The ids of the messages that are listed, in order; `None` when the spool refuses to open.
fn opened(options: SpoolOptions) -> Option<Vec<Id>> {
    let mut listed = Vec::new();
    let (spool, _) = Spool::open(options, &mut |found| listed.push((found.key, found.summary.id))).ok()?;
    let mut ids = Vec::new();
    for (key, id) in listed {
        if let Ok(stored) = spool.read_blocking(key) {
            assert_eq!(stored.envelope.id, id, "another message was read");
            ids.push(id);
        }
    }
    ids.sort_by_key(|id| id.0);
    spool.close();
    Some(ids)
}

/// One change of one file.
fn damage(disk: &Memory, choices: &mut Choices<'_>) {
    let mut files = disk.0.lock();
    let names: Vec<PathBuf> = files.keys().cloned().collect();
    if names.is_empty() {
        return;
    }
    let name = names[usize::from(choices.octet()) % names.len()].clone();
    let kind = choices.octet() % 6;
    let at = usize::from(choices.octet()) << 8 | usize::from(choices.octet());
    let bytes = choices.bytes();
    let file = files[&name].clone();
    let mut data = file.data.lock();
    match kind {
        0 => data.truncate(at),
        1 => {
            let copy = Arc::new(Stored::new(data.clone()));
            drop(data);
            let number = 1 + at % 9;
            files.insert(format!("/spool/log/{number:08}.log").into(), copy);
        }
        2 => *data = bytes.to_vec(),
        3 => {
            drop(data);
            files.remove(&name);
        }
        kind => {
            if data.is_empty() {
                return;
            }
            let at = at % data.len();
            let end = (at + bytes.len()).min(data.len());
            data[at..end].copy_from_slice(&bytes[..end - at]);
            if kind == 5 {
                seal(&mut data);
            }
        }
    }
}

/// Makes the checksums of a segment's records good, whatever the records say.
fn seal(data: &mut [u8]) {
    for at in [0, 2048] {
        if let Some(head) = data.get_mut(at..at + 48) {
            let sum = crc32c(&head[..44]);
            head[44..].copy_from_slice(&sum.to_le_bytes());
        }
    }
    let mut at = BLOCK;
    while let Some(head) = data.get(at..at + HEAD) {
        if head.iter().all(|&octet| octet == 0) {
            at = (at + 1).next_multiple_of(BLOCK);
            continue;
        }
        let len = u32::from_le_bytes([head[4], head[5], head[6], head[7]]) as usize;
        let Some(payload) = data.get(at + HEAD..at + HEAD + len) else { return };
        let sum = crc32c_append(crc32c_append(crc32c(payload), &head[4..]), &(at as u32).to_le_bytes());
        data[at..at + 4].copy_from_slice(&sum.to_le_bytes());
        at += (HEAD + len).next_multiple_of(8);
    }
}

/// A spool with a little of everything: batches, shared contents, states, finished mail, a sealed segment.
fn sound() -> &'static Memory {
    static SOUND: OnceLock<Memory> = OnceLock::new();
    SOUND.get_or_init(|| {
        let disk = Memory::default();
        for life in 0..2_u64 {
            let options = SpoolOptions {
                segment_bytes: SEGMENT_BYTES,
                spares: 1,
                io: Arc::new(disk.clone()),
                ..SpoolOptions::new("/spool")
            };
            let (spool, _) = Spool::open(options, &mut |_| {}).expect("a new spool opens");
            for batch in 0..3_u64 {
                let content = Content::parse(Bytes::from(format!("Subject: {batch}\r\n\r\n{}", "line\r\n".repeat(40))));
                let messages = (0..2_u64).map(|nth| {
                    let mut one = envelope(&mut Choices::new(b"\x02\xff\x0f\0\0\0\0\x03ann\x01x\x03bob\x01y"));
                    one.id = Id(1 + life * 100 + batch * 10 + nth);
                    (Arc::new(one), content.clone())
                });
                let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
                let keys = runtime.block_on(spool.commit(messages.collect())).expect("memory is never full");
                if batch == 1 {
                    spool.done(keys[0]);
                    let state = DeliveryState {
                        retries: 1,
                        attempts: 2,
                        last_reply: "451 later".into(),
                        ..DeliveryState::default()
                    };
                    spool.update(keys[1], state);
                }
            }
            let _ = spool.flush().now_or_never();
            spool.close();
        }
        disk
    })
}

/// Files in memory: no spool of a fuzz target touches the disk.
#[derive(Clone, Debug, Default)]
struct Memory(Arc<Mutex<BTreeMap<PathBuf, Arc<Stored>>>>);

#[derive(Debug)]
struct Stored {
    data: Mutex<Vec<u8>>,
}

impl Stored {
    fn new(data: Vec<u8>) -> Stored {
        Stored { data: Mutex::new(data) }
    }
}

impl Memory {
    /// A copy that shares nothing.
    fn fork(&self) -> Memory {
        let files = self.0.lock();
        let copy =
            |(name, file): (&PathBuf, &Arc<Stored>)| (name.clone(), Arc::new(Stored::new(file.data.lock().clone())));
        Memory(Arc::new(Mutex::new(files.iter().map(copy).collect())))
    }
}

/// Sizes beyond this are an error, as on a disk without room: a damaged header must not take the machine's memory.
const FILE_SIZE_MAX: u64 = 64 << 20;

impl Io for Memory {
    fn open(&self, path: &Path, how: Open) -> io::Result<Arc<dyn IoFile>> {
        let mut files = self.0.lock();
        match (files.get(path), how) {
            (Some(_), Open::Create(_)) => Err(io::ErrorKind::AlreadyExists.into()),
            (Some(file), _) => Ok(Arc::new(Handle(file.clone()))),
            (None, Open::Create(_)) => {
                let file = Arc::new(Stored::new(Vec::new()));
                files.insert(path.to_owned(), file.clone());
                Ok(Arc::new(Handle(file)))
            }
            (None, _) => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut files = self.0.lock();
        let file = files.remove(from).ok_or(io::ErrorKind::NotFound)?;
        files.insert(to.to_owned(), file);
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.0.lock().remove(path).map(drop).ok_or(io::ErrorKind::NotFound.into())
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let files = self.0.lock();
        let inside = files.keys().filter(|path| path.parent() == Some(dir));
        Ok(inside.filter_map(|path| path.file_name()).map(|name| name.to_string_lossy().into_owned()).collect())
    }

    fn make_dir(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }

    fn sync_dir(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }

    fn lock(&self, _: &Path) -> io::Result<Lock> {
        Ok(Lock::Taken(Box::new(Nobody)))
    }
}

/// Nobody else can have it.
#[derive(Debug)]
struct Nobody;

impl LockGuard for Nobody {}

#[derive(Debug)]
struct Handle(Arc<Stored>);

impl IoFile for Handle {
    fn pwritev(&self, parts: &[IoSlice<'_>], offset: u64) -> io::Result<usize> {
        let mut data = self.0.data.lock();
        let mut at = sized(offset)?;
        for part in parts {
            if data.len() < at + part.len() {
                data.resize(sized((at + part.len()) as u64)?, 0);
            }
            data[at..at + part.len()].copy_from_slice(part);
            at += part.len();
        }
        Ok(at - offset as usize)
    }

    fn pread(&self, into: &mut [u8], offset: u64) -> io::Result<usize> {
        let data = self.0.data.lock();
        let from = usize::try_from(offset).unwrap_or(usize::MAX).min(data.len());
        let count = into.len().min(data.len() - from);
        into[..count].copy_from_slice(&data[from..from + count]);
        Ok(count)
    }

    fn fdatasync(&self) -> io::Result<()> {
        Ok(())
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        self.0.data.lock().resize(sized(len)?, 0);
        Ok(())
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        let len = sized(len)?;
        let mut data = self.0.data.lock();
        if data.len() < len {
            data.resize(len, 0);
        }
        Ok(())
    }

    fn size(&self) -> io::Result<u64> {
        Ok(self.0.data.lock().len() as u64)
    }
}

fn sized(len: u64) -> io::Result<usize> {
    if len > FILE_SIZE_MAX { Err(io::ErrorKind::StorageFull.into()) } else { Ok(len as usize) }
}
