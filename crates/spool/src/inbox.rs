//! What sessions hand to the committer, and where they leave it.

use crate::error::SpoolError;
use crate::index::Place;
use crate::spool::Receipt;
use crate::transaction::Transaction;
use parking_lot::{Condvar, Mutex};
use ph_message::{Content, Envelope};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// What a session hands to the committer.
#[derive(Debug)]
pub struct Work {
    pub transaction: Transaction,
    pub task: Task,
}

#[derive(Debug)]
pub enum Task {
    Commit {
        entries: Vec<(Arc<Envelope>, Content)>,
        keys: Vec<u32>,
        reply: oneshot::Sender<Result<Receipt, SpoolError>>,
    },
    Replace {
        key: u32,
        id: u64,
        reply: oneshot::Sender<Result<(), SpoolError>>,
    },
    /// Compaction. `false` in reply: something changed meanwhile, look again.
    Move {
        expect: Vec<Expect>,
        reply: oneshot::Sender<Result<bool, SpoolError>>,
    },
    Flush {
        reply: oneshot::Sender<Result<(), SpoolError>>,
    },
}

/// A message as compaction found it.
#[derive(Clone, Copy, Debug)]
pub struct Expect {
    pub key: u32,
    pub id: u64,
    pub envelope: Place,
    pub state: Place,
}

/// Where sessions leave their work.
#[derive(Debug, Default)]
pub struct Inbox {
    state: Mutex<InboxState>,
    changed: Condvar,
}

/// What the committer found.
#[derive(Debug)]
pub struct Taken {
    pub work: Vec<Work>,
    pub stop: bool,
    pub small_since: Option<Instant>,
}

#[derive(Debug, Default)]
struct InboxState {
    work: Vec<Work>,
    /// There may be `done` or `update` records.
    small: bool,
    stop: bool,
    stopped: bool,
}

impl Inbox {
    pub fn push(&self, work: Work) -> Result<(), SpoolError> {
        let mut state = self.state.lock();
        if state.stopped {
            return Err(SpoolError::Closed);
        }
        state.work.push(work);
        drop(state);
        self.changed.notify_one(); // costs a system call only when the committer sleeps
        Ok(())
    }

    /// There are small records: write them before long.
    pub fn poke(&self) {
        let mut state = self.state.lock();
        if !state.small {
            state.small = true;
            drop(state);
            self.changed.notify_one();
        }
    }

    /// Sleeps until there is work, or small records (which wait since `small_since`) or a sync are due.
    pub fn take(&self, mut small_since: Option<Instant>, flush_after: Duration, sync_at: Option<Instant>) -> Taken {
        let mut state = self.state.lock();
        loop {
            if std::mem::take(&mut state.small) {
                small_since.get_or_insert_with(Instant::now);
            }
            state.stopped |= state.stop;
            let deadline = small_since.map(|since| since + flush_after).into_iter().chain(sync_at).min();
            let is_due = deadline.is_some_and(|deadline| Instant::now() >= deadline);
            if state.stop || !state.work.is_empty() || is_due {
                return Taken { work: std::mem::take(&mut state.work), stop: state.stop, small_since };
            }
            match deadline {
                Some(deadline) => {
                    self.changed.wait_until(&mut state, deadline);
                }
                None => self.changed.wait(&mut state),
            }
        }
    }

    /// Nobody takes work any more: whoever waits is answered with `Closed`.
    pub fn close(&self) {
        let mut state = self.state.lock();
        state.stopped = true;
        let unanswered = std::mem::take(&mut state.work);
        drop(state);
        drop(unanswered);
    }

    pub fn stop(&self) {
        self.state.lock().stop = true;
        self.changed.notify_one();
    }
}
