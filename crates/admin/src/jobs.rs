//! What the console is doing to many messages at this moment: how far it is, and the way to stop it.
//!
//! A reply of the control channel comes whole, at the end; so another session asks for the progress (`jobs`). A job that is
//! told to stop ends at its next piece, and what it has done stays done. Dropping a job's handle takes it off the list.

use crate::view::JobRow;
use parking_lot::Mutex;
use ph_message::Time;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

/// The jobs under way.
#[derive(Default)]
pub(crate) struct Jobs {
    last: AtomicU64,
    open: Mutex<BTreeMap<u64, Arc<State>>>,
}

struct State {
    what: String,
    since: Time,
    /// What it does at the moment.
    phase: Mutex<&'static str>,
    done: AtomicU64,
    total: AtomicU64,
    stop: AtomicBool,
}

/// A job under way.
pub(crate) struct Progress<'j> {
    jobs: &'j Jobs,
    number: u64,
    state: Arc<State>,
}

impl Jobs {
    pub fn begin(&self, what: String, now: Time) -> Progress<'_> {
        let state = Arc::new(State {
            what,
            since: now,
            phase: Mutex::new("waiting"),
            done: AtomicU64::new(0),
            total: AtomicU64::new(0),
            stop: AtomicBool::new(false),
        });
        let number = self.last.fetch_add(1, Relaxed) + 1;
        self.open.lock().insert(number, state.clone());
        Progress { jobs: self, number, state }
    }

    pub fn rows(&self) -> Vec<JobRow> {
        let open = self.open.lock();
        open.iter()
            .map(|(number, state)| JobRow {
                number: *number,
                what: state.what.clone(),
                phase: *state.phase.lock(),
                since: state.since,
                done: state.done.load(Relaxed),
                total: state.total.load(Relaxed),
                stopping: state.stop.load(Relaxed),
            })
            .collect()
    }

    /// False: there is no such job.
    pub fn stop(&self, number: u64) -> bool {
        self.open.lock().get(&number).map(|state| state.stop.store(true, Relaxed)).is_some()
    }
}

impl Progress<'_> {
    /// Something new begins, with so many messages to look at.
    pub fn phase(&self, name: &'static str, total: u64) {
        *self.state.phase.lock() = name;
        self.state.done.store(0, Relaxed);
        self.state.total.store(total, Relaxed);
    }

    /// So many more messages were looked at. False: go no further.
    pub fn went_on(&self, by: u64) -> bool {
        self.state.done.fetch_add(by, Relaxed);
        !self.was_stopped()
    }

    pub fn was_stopped(&self) -> bool {
        self.state.stop.load(Relaxed)
    }
}

impl Drop for Progress<'_> {
    fn drop(&mut self) {
        self.jobs.open.lock().remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_is_seen_until_it_ends_and_can_be_stopped() {
        let jobs = Jobs::default();
        let (one, two) = (jobs.begin("fail a".into(), Time::ZERO), jobs.begin("delay b".into(), Time::ZERO));
        one.phase("failing", 10);
        assert!(one.went_on(3) && one.went_on(1));
        let seen = |row: &JobRow| (row.number, row.phase, row.done, row.total, row.stopping);
        assert_eq!(
            jobs.rows().iter().map(seen).collect::<Vec<_>>(),
            [(1, "failing", 4, 10, false), (2, "waiting", 0, 0, false)]
        );
        assert!(jobs.stop(1) && !jobs.stop(3));
        assert!(!one.went_on(1) && two.went_on(1));
        assert!(jobs.rows()[0].stopping);
        drop(one);
        assert_eq!(jobs.rows().len(), 1);
    }
}
