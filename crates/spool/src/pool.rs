//! Segments prepared for use, and the thread that prepares them.
//!
//! Overwriting blocks that are written already costs half of what growing a file costs (0.23-0.25 ms against 0.41 a
//! commit). So segments are recycled, and new ones are written with zeros in the background; only when the committer is
//! waiting is a new one merely reserved. The last spare is a reserve: commits never take it, so that on a full disk
//! `done` records still find a place, and compaction can make room.

use crate::error::SpoolError;
use crate::io::{IoFile, Open, write_all};
use crate::options::SpoolOptions;
use parking_lot::{Condvar, Mutex};
use std::collections::VecDeque;
use std::io::IoSlice;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// After a failure to make a segment, how long commits fail at once before the disk is asked again.
const RETRY_AFTER: Duration = Duration::from_millis(100);

/// Written at a time: little enough that a commit's sync, which may stand behind it on the disk, does not wait long.
/// Aligned, as writing past the page cache wants it.
#[repr(align(4096))]
struct Zeros([u8; 256 << 10]);

static ZEROS: Zeros = Zeros([0; 256 << 10]);

#[derive(Debug)]
pub struct Spare {
    pub number: u32,
    pub file: Arc<dyn IoFile>,
}

#[derive(Debug)]
pub struct Pool {
    options: SpoolOptions,
    dir: PathBuf,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    spares: VecDeque<Spare>,
    number_next: u32,
    /// The committer waits for this many spares to be there.
    demand: usize,
    /// The active segment fills: have `options.spares` ready.
    wanted: bool,
    failure: Option<(Instant, SpoolError)>,
    failures: u64,
    stop: bool,
}

impl Pool {
    pub fn new(options: SpoolOptions, dir: PathBuf, number_next: u32) -> Pool {
        let state = Mutex::new(State { number_next, ..State::default() });
        Pool { options, dir, state, changed: Condvar::new() }
    }

    pub fn path(&self, number: u32) -> PathBuf {
        self.dir.join(log_name(number))
    }

    /// Takes a spare if more than `keep` are there, or else waits until one was made or could not be made.
    pub fn take(&self, keep: usize) -> Result<Spare, SpoolError> {
        let mut state = self.state.lock();
        let failures = state.failures;
        let just_failed = |state: &State| match &state.failure {
            Some((at, error)) if at.elapsed() < RETRY_AFTER => Some(error.clone()),
            _ => None,
        };
        let early = just_failed(&state);
        loop {
            if state.spares.len() > keep {
                state.demand = 0;
                return Ok(state.spares.pop_front().expect("there are more than `keep` spares"));
            }
            if let Some(error) = &early {
                return Err(error.clone());
            }
            if state.stop {
                return Err(SpoolError::Closed);
            }
            if state.failures != failures {
                state.demand = 0;
                return Err(state.failure.as_ref().map_or(SpoolError::Full, |(_, error)| error.clone()));
            }
            state.demand = keep + 1;
            self.changed.notify_all();
            self.changed.wait(&mut state);
        }
    }

    /// Has the usual number of spares made in the background.
    pub fn want(&self) {
        let mut state = self.state.lock();
        let failing = state.failure.as_ref().is_some_and(|(at, _)| at.elapsed() < 10 * RETRY_AFTER);
        if !state.wanted && !failing && state.spares.len() < self.options.spares {
            state.wanted = true;
            self.changed.notify_all();
        }
    }

    /// Gives an empty segment back. `false`: there are enough of them, delete it.
    pub fn give(&self, spare: Spare) -> bool {
        let mut state = self.state.lock();
        if state.spares.len() >= self.options.spares_max {
            return false;
        }
        state.spares.push_back(spare);
        self.changed.notify_all();
        true
    }

    pub fn len(&self) -> usize {
        self.state.lock().spares.len()
    }

    pub fn stop(&self) {
        self.state.lock().stop = true;
        self.changed.notify_all();
    }

    /// The preparing thread.
    pub fn run(&self) {
        let mut state = self.state.lock();
        loop {
            let demanded = state.demand > state.spares.len();
            let background = state.wanted && state.spares.len() < self.options.spares;
            if state.stop {
                return;
            } else if demanded || background {
                let number = state.number_next;
                state.number_next += 1;
                drop(state);
                let made = self.make(number, !demanded);
                state = self.state.lock();
                match made {
                    Ok(spare) => {
                        state.failure = None;
                        state.spares.push_back(spare);
                    }
                    Err(error) => {
                        state.failure = Some((Instant::now(), error));
                        state.failures += 1;
                        // The committer asks again when it needs one; in the background there is no hurry.
                        (state.demand, state.wanted) = (0, false);
                    }
                }
                self.changed.notify_all();
            } else {
                state.wanted = false;
                self.changed.wait(&mut state);
            }
        }
    }

    /// Makes a segment: with zeros in it, or only reserved.
    pub fn make(&self, number: u32, zeros: bool) -> Result<Spare, SpoolError> {
        let io = &self.options.io;
        let path = self.path(number);
        let failed = |op| move |error| (op, error);
        let made = (|| {
            let file = io.open(&path, Open::Create(self.options.mode)).map_err(failed("create"))?;
            let len = u64::from(self.options.segment_bytes);
            file.allocate(len).map_err(failed("allocate"))?;
            if zeros {
                // Past the page cache: no copy, and nothing there that writeback would have to look at.
                let direct = io.open(&path, Open::Direct).map_err(failed("open"))?;
                let mut at = 0;
                while at < len {
                    let some = &ZEROS.0[..ZEROS.0.len().min((len - at) as usize)];
                    write_all(&*direct, &mut [IoSlice::new(some)], at).map_err(failed("write"))?;
                    at += some.len() as u64;
                }
            }
            file.fdatasync().map_err(failed("fdatasync"))?;
            io.sync_dir(&self.dir).map_err(failed("sync"))?;
            Ok(Spare { number, file })
        })();
        made.map_err(|(op, error)| {
            let _ = io.remove(&path); // it may not even have been made
            SpoolError::io(op, &path, error)
        })
    }
}

/// The file name of a segment.
pub fn log_name(number: u32) -> String {
    format!("{number:08}.log")
}

/// The file name of a segment's index.
pub fn index_name(number: u32) -> String {
    format!("{number:08}.idx")
}

/// The number in a file name, and whether it is a segment's (`true`) or an index's.
pub fn parse_name(name: &str) -> Option<(u32, bool)> {
    let (digits, kind) = name.split_once('.')?;
    let number = digits.parse().ok().filter(|&number| number > 0 && digits == format!("{number:08}"))?;
    match kind {
        "log" => Some((number, true)),
        "idx" => Some((number, false)),
        _ => None,
    }
}

/// Octets at the end of a segment that commits leave to `done` and `update` records.
pub fn reserve_of(segment_bytes: u32) -> u32 {
    use crate::format::BLOCK;
    (segment_bytes / 16).clamp(BLOCK, 1 << 20).next_multiple_of(BLOCK)
}
