//! Reading single records back: checked against offset, epoch and checksum, set aside when they fail.
//!
//! A record may move or its segment may begin a new life between the look-up of its place and the read. So a failed
//! check counts as damage only when the message is still said to be at that place.

use crate::error::SpoolError;
use crate::format::{CONTENT_PREFIX, ContentPrefix, ENVELOPE_PREFIX, HEAD, Head, Kind, is_valid};
use crate::index::{Found, Place};
use crate::io::{IoFile, Open, read_exact, read_up_to, write_file};
use crate::options::Stored;
use crate::spool::Shared;
use bytes::Bytes;
use ph_message::{Body, Content, DeliveryState, Envelope};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

/// How often a message may move while it is read.
const TRIES_MAX: usize = 8;

/// Reads records.
pub struct Reader<'a> {
    shared: &'a Arc<Shared>,
    /// Whether to wait for the disk. One that does not wait takes what the page cache has, and fails otherwise.
    waits: bool,
}

impl Shared {
    pub fn reader(self: &Arc<Shared>) -> Reader<'_> {
        Reader { shared: self, waits: true }
    }

    /// One message, if no disk must be waited for: for callers on a thread of the runtime.
    pub fn read_cached(self: &Arc<Shared>, key: u32) -> Option<Stored> {
        let found = self.index.lock().find(key)?;
        Reader { shared: self, waits: false }.found(&found, false).ok()
    }

    /// One message from the disk.
    pub fn read_stored(self: &Arc<Shared>, key: u32) -> Result<Stored, SpoolError> {
        for _ in 0..TRIES_MAX {
            let found = self.index.lock().find(key).ok_or(SpoolError::NotFound)?;
            let mut failure = match self.reader().found(&found, false) {
                Ok(stored) => return Ok(stored),
                Err(error) => error,
            };
            let again = self.index.lock().find(key);
            let same = again.is_some_and(|again| {
                (again.id, again.envelope, again.content, again.state)
                    == (found.id, found.envelope, found.content, found.state)
            });
            if !same {
                continue;
            }
            // A damaged state costs an attempt too many, not the message.
            if let Ok(stored) = self.reader().found(&found, true) {
                return Ok(stored);
            }
            if let SpoolError::Corrupt { file, offset, quarantined } = &mut failure {
                self.counters.quarantined.fetch_add(1, Relaxed);
                *quarantined = self.set_aside(file, *offset);
            }
            return Err(failure);
        }
        // It is there, and moves faster than it can be read. That is no damage: the caller comes again.
        let moves = std::io::Error::other("the message was moved each time that it was read");
        Err(SpoolError::io("read", &self.log_dir, moves))
    }

    /// A segment's file, kept open for the next reader, and the epoch of its life.
    pub fn file_of(&self, number: u32) -> Result<(Arc<dyn IoFile>, u64), SpoolError> {
        let (epoch, file) = {
            let index = self.index.lock();
            let segment = index.segment(number).ok_or(SpoolError::NotFound)?;
            (segment.epoch, segment.file.clone())
        };
        if let Some(file) = file {
            return Ok((file, epoch));
        }
        let path = self.pool.path(number);
        let file = self.options.io.open(&path, Open::Read).map_err(|error| SpoolError::io("open", &path, error))?;
        let evict = {
            let mut open = self.open_files.lock();
            open.push_back(number);
            if open.len() > self.options.open_files_max { open.pop_front() } else { None }
        };
        let mut index = self.index.lock();
        if let Some(segment) = evict.and_then(|number| index.segment_mut(number)) {
            segment.file = None;
        }
        if let Some(segment) = index.segment_mut(number).filter(|segment| segment.epoch == epoch) {
            segment.file = Some(Arc::clone(&file));
        }
        Ok((file, epoch))
    }

    pub fn corrupt(&self, place: Place) -> SpoolError {
        SpoolError::Corrupt { file: self.pool.path(place.segment), offset: u64::from(place.at), quarantined: None }
    }

    /// Copies a damaged record to `quarantine/`.
    fn set_aside(&self, file: &std::path::Path, offset: u64) -> Option<PathBuf> {
        const COPY_BYTES_MAX: u64 = 64 << 20;
        let io = &*self.options.io;
        let source = io.open(file, Open::Read).ok()?;
        let mut head = [0; HEAD as usize];
        read_exact(&*source, &mut head, offset).ok()?;
        let rest = source.size().ok()?.saturating_sub(offset).min(COPY_BYTES_MAX);
        // A damaged header's length is a guess; four blocks show what is there.
        let len = Head::parse(&head).map_or(4 * 4096, |head| head.total()).min(rest);
        let mut bytes = vec![0; len as usize];
        read_exact(&*source, &mut bytes, offset).ok()?;
        let path = self.quarantine.join(quarantine_name(file, offset));
        write_file(io, &path, self.options.mode, &bytes).ok()?;
        Some(path)
    }
}

impl Reader<'_> {
    fn found(&self, found: &Found, lenient: bool) -> Result<Stored, SpoolError> {
        let envelope = self.envelope(found)?;
        let payload = self.record(found.content, found.content_len, Kind::Content, None)?;
        let prefix =
            ContentPrefix::parse(&payload, payload.len() as u32).ok_or_else(|| self.shared.corrupt(found.content))?;
        let head_from = CONTENT_PREFIX as usize;
        let body_from = head_from + prefix.head_len as usize;
        let body = match prefix.large {
            0 => Body::Memory(payload.slice(body_from..)),
            _ if !self.waits => return Err(SpoolError::NotFound), // it would be opened
            number => match self.shared.large.open(number, prefix.body_len) {
                Ok(body) => Body::External(Arc::new(body)),
                // Whatever took it away, it does not come back: the message is damaged.
                Err(SpoolError::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
                    return Err(self.shared.corrupt(found.content));
                }
                Err(error) => return Err(error),
            },
        };
        let content = Content::new(payload.slice(head_from..body_from), body);
        let state = match &found.pending {
            Some(state) => state.clone(),
            None => match self.state(found) {
                Err(SpoolError::Corrupt { .. }) if lenient => DeliveryState::default(),
                other => other?,
            },
        };
        Ok(Stored { envelope: Arc::new(envelope), content, state })
    }

    pub fn envelope(&self, found: &Found) -> Result<Envelope, SpoolError> {
        let payload = self.record(found.envelope, found.envelope_len, Kind::Envelope, Some(found.id))?;
        payload
            .get(ENVELOPE_PREFIX as usize..)
            .and_then(|bytes| Envelope::decode(bytes).ok())
            .ok_or_else(|| self.shared.corrupt(found.envelope))
    }

    /// The state on the disk; the first one when none was written.
    pub fn state(&self, found: &Found) -> Result<DeliveryState, SpoolError> {
        if found.state.segment == 0 {
            return Ok(DeliveryState::default());
        }
        let file = self.file_of(found.state.segment)?;
        let mut head = [0; HEAD as usize];
        let failed = |error| SpoolError::io("read", &self.shared.pool.path(found.state.segment), error);
        self.fill(&*file.0, &mut head, found.state.at).map_err(failed)?;
        const STATE_LEN_MAX: u64 = 4096;
        let total = Head::parse(&head).map(|head| head.total()).filter(|&total| total < STATE_LEN_MAX);
        let total = total.ok_or_else(|| self.shared.corrupt(found.state))?;
        let payload = self.record(found.state, total as u32, Kind::State, Some(found.id))?;
        DeliveryState::decode(&payload).map_err(|_| self.shared.corrupt(found.state))
    }

    /// The payload of the record at `place`, `len` octets with header and padding.
    pub fn record(&self, place: Place, len: u32, kind: Kind, id: Option<u64>) -> Result<Bytes, SpoolError> {
        let (file, epoch) = self.file_of(place.segment)?;
        let mut record = vec![0; len as usize];
        // A file that ends early is noticed by the checksum, unless only padding is missing.
        self.fill(&*file, &mut record, place.at)
            .map_err(|error| SpoolError::io("read", &self.shared.pool.path(place.segment), error))?;
        let head = Head::parse(&record).filter(|head| {
            head.kind == kind
                && head.epoch == epoch
                && id.is_none_or(|id| id == head.id)
                && head.total() == u64::from(len)
        });
        let end = head.map_or(0, |head| (HEAD + head.len) as usize);
        if end == 0 || !is_valid(&record[..end], place.at) {
            return Err(self.shared.corrupt(place));
        }
        Ok(Bytes::from(record).slice(HEAD as usize..end))
    }

    /// Reads as far as the file reaches.
    fn fill(&self, file: &dyn IoFile, into: &mut [u8], at: u32) -> std::io::Result<()> {
        if self.waits {
            return read_up_to(file, into, u64::from(at)).map(drop);
        }
        let read = file.pread_cached(into, u64::from(at))?;
        if read < into.len() { Err(std::io::ErrorKind::WouldBlock.into()) } else { Ok(()) }
    }

    fn file_of(&self, number: u32) -> Result<(Arc<dyn IoFile>, u64), SpoolError> {
        if self.waits {
            return self.shared.file_of(number);
        }
        let index = self.shared.index.lock();
        let segment = index.segment(number).ok_or(SpoolError::NotFound)?;
        segment.file.clone().map(|file| (file, segment.epoch)).ok_or(SpoolError::NotFound)
    }
}

/// `<segment>-<offset>.bin`.
pub fn quarantine_name(file: &std::path::Path, offset: u64) -> String {
    let stem = file.file_stem().map_or_else(|| "file".into(), |stem| stem.to_string_lossy());
    format!("{stem}-{offset:010}.bin")
}
