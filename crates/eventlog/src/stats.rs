//! What the console's `summary` counts: totals since the last reset, for the server and for each binding, and rates.
//!
//! Metrics never fall; a reset here only remembers where they stood. Bindings are few (they come from the
//! configuration), hence a map under a read lock is cheap enough for every event.

use crate::metrics;
use compact_str::CompactString;
use parking_lot::{Mutex, RwLock};
use ph_message::Time;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Totals of the server since the last reset.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    pub received: u64,
    pub delivered: u64,
    pub transient: u64,
    pub failed: u64,
    pub rejected: u64,
}

impl Totals {
    fn now() -> Totals {
        Totals {
            received: metrics::RECEIVED.value(),
            delivered: metrics::DELIVERED.value(),
            transient: metrics::TRANSIENT_FAILURES.value(),
            failed: metrics::PERMANENT_FAILURES.value(),
            rejected: metrics::REJECTIONS.value(),
        }
    }

    fn minus(self, base: Totals) -> Totals {
        Totals {
            received: self.received.saturating_sub(base.received),
            delivered: self.delivered.saturating_sub(base.delivered),
            transient: self.transient.saturating_sub(base.transient),
            failed: self.failed.saturating_sub(base.failed),
            rejected: self.rejected.saturating_sub(base.rejected),
        }
    }
}

/// Messages a second, over the last `RATE_WINDOW_S` seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Rates {
    /// Deliveries and permanent failures.
    pub delivery: f64,
    pub reception: f64,
    pub rejection: f64,
}

/// Seconds that rates look back.
pub const RATE_WINDOW_S: u64 = 60;

/// Counters of one binding since the last reset.
#[derive(Debug, Default)]
pub struct BindingStats {
    received: AtomicU64,
    delivered: AtomicU64,
    transient: AtomicU64,
    failed: AtomicU64,
}

impl BindingStats {
    pub fn totals(&self) -> Totals {
        Totals {
            received: self.received.load(Relaxed),
            delivered: self.delivered.load(Relaxed),
            transient: self.transient.load(Relaxed),
            failed: self.failed.load(Relaxed),
            rejected: 0,
        }
    }
}

pub(crate) enum Counted {
    Received,
    Delivered,
    Transient,
    Failed,
}

/// The statistics of the process, kept by the event log.
#[derive(Debug)]
pub struct Stats {
    started: Time,
    base: Mutex<(Time, Totals)>,
    samples: Mutex<VecDeque<(Time, Totals)>>,
    bindings: RwLock<HashMap<CompactString, Arc<BindingStats>>>,
}

impl Stats {
    pub(crate) fn new(now: Time) -> Stats {
        let totals = Totals::now();
        Stats {
            started: now,
            base: Mutex::new((now, totals)),
            samples: Mutex::new(VecDeque::from([(now, totals)])),
            bindings: RwLock::new(HashMap::new()),
        }
    }

    /// When the log was opened, which is when the process started.
    pub fn started(&self) -> Time {
        self.started
    }

    /// When the totals were last set to zero.
    pub fn reset_at(&self) -> Time {
        self.base.lock().0
    }

    /// Totals since the last reset.
    pub fn totals(&self) -> Totals {
        Totals::now().minus(self.base.lock().1)
    }

    /// Sets all totals, those of the bindings too, to zero.
    pub fn reset(&self, now: Time) {
        *self.base.lock() = (now, Totals::now());
        self.bindings.write().clear();
    }

    /// The rates of the last minute; before a minute has passed, of the time since the start.
    pub fn rates(&self, now: Time) -> Rates {
        let samples = self.samples.lock();
        let Some((since, before)) = samples.front() else { return Rates::default() };
        let span = now.since(*since).as_secs_f64().max(1.0);
        let change = Totals::now().minus(*before);
        Rates {
            delivery: (change.delivered + change.failed) as f64 / span,
            reception: change.received as f64 / span,
            rejection: change.rejected as f64 / span,
        }
    }

    /// The counters of one binding; zeros where nothing happened yet.
    pub fn binding(&self, name: &str) -> Totals {
        self.bindings.read().get(name).map(|stats| stats.totals()).unwrap_or_default()
    }

    pub(crate) fn count(&self, binding: &str, what: Counted) {
        let name = crate::out::or_default(binding);
        let add = |stats: &BindingStats| {
            let cell = match what {
                Counted::Received => &stats.received,
                Counted::Delivered => &stats.delivered,
                Counted::Transient => &stats.transient,
                Counted::Failed => &stats.failed,
            };
            cell.fetch_add(1, Relaxed);
        };
        if let Some(stats) = self.bindings.read().get(name) {
            return add(stats);
        }
        add(self.bindings.write().entry(name.into()).or_default());
    }

    /// Called about once a second.
    pub(crate) fn sample(&self, now: Time) {
        let mut samples = self.samples.lock();
        if samples.back().is_some_and(|(last, _)| now.since(*last).as_secs() < 1) {
            return;
        }
        samples.push_back((now, Totals::now()));
        while samples.len() > 2 && now.since(samples[1].0).as_secs() >= RATE_WINDOW_S {
            samples.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reset_sets_the_totals_of_a_binding_to_zero() {
        let now = Time::from_secs(100);
        let stats = Stats::new(now);
        stats.count("", Counted::Received);
        stats.count("out-1", Counted::Delivered);
        stats.count("out-1", Counted::Failed);
        assert_eq!(stats.binding("default").received, 1);
        assert_eq!((stats.binding("out-1").delivered, stats.binding("out-1").failed), (1, 1));
        stats.reset(now.plus_secs(5));
        assert_eq!(stats.binding("out-1"), Totals::default());
        assert_eq!(stats.reset_at(), Time::from_secs(105));
        assert_eq!(stats.started(), now);
    }

    #[test]
    fn samples_are_kept_for_the_window_only() {
        let stats = Stats::new(Time::from_secs(0));
        for second in 0..1000 {
            stats.sample(Time::from_secs(second));
        }
        let samples = stats.samples.lock();
        assert!(samples.len() as u64 <= RATE_WINDOW_S + 2, "{}", samples.len());
        assert!(Time::from_secs(999).since(samples[0].0).as_secs() >= RATE_WINDOW_S - 1);
    }
}
