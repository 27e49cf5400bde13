//! `posthaste spool check`: reads every record of a spool and says what it found. Changes nothing.
//!
//! It may run while a process has the spool; then the end of the active segment is in motion, and what is reported of it
//! may be a batch that is being written at this moment.

use crate::error::SpoolError;
use crate::format::{ContentPrefix, Kind, SegmentHead};
use crate::io::Lock;
use crate::options::{Damage, SpoolOptions};
use crate::recover::open_read_only;
use crate::scan::scan;
use ph_message::Id;
use serde::Serialize;
use std::path::PathBuf;

/// What `check` found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct CheckReport {
    /// The process that has the spool open, where one has.
    pub running: Option<u32>,
    /// Segments in use.
    pub segments: usize,
    /// Segments in use whose index was missing or damaged.
    pub without_index: usize,
    /// Valid records.
    pub records: u64,
    pub messages: u64,
    /// Messages whose envelope, content or body file fails its check.
    pub damaged_messages: Vec<String>,
    /// Damaged stretches, whether or not a message in the spool is hit.
    pub damage: Vec<DamageReport>,
    /// Octets of batches that a crash cut short.
    pub torn_bytes: u64,
    pub large_bodies: u64,
    /// Files in `large/` that no message has.
    pub orphans: u64,
    /// Files in `quarantine/`.
    pub quarantined: usize,
}

/// `Damage`, for output.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DamageReport {
    pub file: PathBuf,
    pub offset: u64,
    pub len: u64,
    pub what: String,
}

impl CheckReport {
    /// Whether everything that is stored can be delivered.
    pub fn is_sound(&self) -> bool {
        self.damaged_messages.is_empty() && self.damage.is_empty()
    }
}

/// Verifies the spool in `options.dir`.
///
/// # Errors
/// `Io` and `Format`, when it cannot be read at all. Damage is no error: it is in the report.
pub fn check(options: &SpoolOptions) -> Result<CheckReport, SpoolError> {
    let mut report = CheckReport::default();
    let held = match options.io.lock(&options.dir.join("lock")) {
        Ok(Lock::Taken(guard)) => Some(guard),
        Ok(Lock::HeldBy(pid)) => {
            report.running = Some(pid.unwrap_or(0));
            None
        }
        Err(_) => None, // a copy on a read-only medium can be checked as well
    };
    let (shared, opened) = open_read_only(options, held, &mut |_| {})?;
    report.messages = opened.messages;
    report.orphans = opened.orphans;
    report.without_index = opened.scanned;
    report.torn_bytes = opened.torn_bytes;
    opened.damage.into_iter().for_each(|damage| report.add(damage));

    let segments: Vec<_> = {
        let index = shared.index.lock();
        report.large_bodies = index.large_count();
        let head = |s: &crate::index::Segment| {
            let (seq, epoch, bytes) = (s.seq, s.epoch, s.bytes);
            SegmentHead { in_use: true, seq, epoch, bytes, id_floor: 0 }
        };
        index.segments().map(|(number, segment)| (number, head(segment))).collect()
    };
    report.segments = segments.len();
    for (number, head) in segments {
        let path = shared.pool.path(number);
        let (file, _) = shared.file_of(number)?;
        let scanned = scan(&*file, &head).map_err(|error| SpoolError::io("read", &path, error))?;
        report.records += scanned.records;
        for (range, what) in scanned.damage {
            let (offset, len) = (u64::from(range.start), u64::from(range.end - range.start));
            report.add(Damage { file: path.clone(), offset, len, what, quarantined: None });
        }
    }

    let mut messages = Vec::new();
    shared.index.lock().visit(0, usize::MAX, |_, found| messages.push(found.clone()));
    for found in messages {
        let whole = shared.reader().envelope(&found).is_ok()
            && shared.reader().record(found.content, found.content_len, Kind::Content, None).is_ok_and(|payload| {
                ContentPrefix::parse(&payload, payload.len() as u32).is_some_and(|prefix| {
                    let body = options.io.open(&shared.large.path(prefix.large), crate::io::Open::Read);
                    prefix.large == 0 || body.and_then(|file| file.size()).is_ok_and(|size| size == prefix.body_len)
                })
            });
        if !whole {
            report.damaged_messages.push(Id(found.id).to_string());
        }
    }
    report.quarantined = options.io.list(&shared.quarantine).map_or(0, |names| names.len());
    Ok(report)
}

impl CheckReport {
    fn add(&mut self, damage: Damage) {
        let Damage { file, offset, len, what, .. } = damage;
        let damage = DamageReport { file, offset, len, what };
        if !self.damage.contains(&damage) {
            self.damage.push(damage);
        }
    }
}
