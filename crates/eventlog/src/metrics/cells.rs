//! The cells that metrics are counted in. Adding is one or two relaxed atomic operations; a family looks its label up
//! under a read lock, and callers on a hot path keep the reference that `with` returns.

use parking_lot::RwLock;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// A number that only grows.
#[derive(Debug)]
pub struct Counter {
    pub(crate) name: &'static str,
    pub(crate) help: &'static str,
    value: AtomicU64,
}

impl Counter {
    pub const fn new(name: &'static str, help: &'static str) -> Counter {
        Counter { name, help, value: AtomicU64::new(0) }
    }

    pub fn add(&self, count: u64) {
        self.value.fetch_add(count, Relaxed);
    }

    pub fn value(&self) -> u64 {
        self.value.load(Relaxed)
    }
}

type Callback<T> = Box<dyn Fn() -> T + Send + Sync>;
/// A label's value and the number.
type Labelled = Vec<(String, f64)>;

/// A number that goes up and down: kept by `add` and `set`, or asked for when somebody looks (`from_callback`).
pub struct Gauge {
    pub(crate) name: &'static str,
    pub(crate) help: &'static str,
    value: AtomicI64,
    callback: RwLock<Option<Callback<f64>>>,
}

impl Gauge {
    pub const fn new(name: &'static str, help: &'static str) -> Gauge {
        Gauge { name, help, value: AtomicI64::new(0), callback: RwLock::new(None) }
    }

    pub fn add(&self, count: i64) {
        self.value.fetch_add(count, Relaxed);
    }

    pub fn set(&self, value: i64) {
        self.value.store(value, Relaxed);
    }

    /// Who is to be asked from now on; replaces an earlier one. The callback must not block and not read metrics.
    pub fn from_callback(&self, callback: impl Fn() -> f64 + Send + Sync + 'static) {
        *self.callback.write() = Some(Box::new(callback));
    }

    pub fn value(&self) -> f64 {
        match &*self.callback.read() {
            Some(callback) => callback(),
            None => self.value.load(Relaxed) as f64,
        }
    }

    /// One more until the guard is dropped: for sessions and connections.
    pub fn hold(&'static self) -> Held {
        self.add(1);
        Held(self)
    }
}

/// Takes one from its gauge when dropped.
pub struct Held(&'static Gauge);

impl Drop for Held {
    fn drop(&mut self) {
        self.0.add(-1);
    }
}

/// Numbers with one label, all from a callback.
pub struct GaugeFamily {
    pub(crate) name: &'static str,
    pub(crate) help: &'static str,
    pub(crate) label: &'static str,
    callback: RwLock<Option<Callback<Labelled>>>,
}

impl GaugeFamily {
    pub const fn new(name: &'static str, help: &'static str, label: &'static str) -> GaugeFamily {
        GaugeFamily { name, help, label, callback: RwLock::new(None) }
    }

    /// Who is to be asked from now on; replaces an earlier one.
    pub fn from_callback(&self, callback: impl Fn() -> Vec<(String, f64)> + Send + Sync + 'static) {
        *self.callback.write() = Some(Box::new(callback));
    }

    pub fn values(&self) -> Vec<(String, f64)> {
        self.callback.read().as_ref().map_or_else(Vec::new, |callback| callback())
    }
}

/// Labels of a family beyond this number share the label `other`: a label is never chosen by a peer, but a mistake
/// there must not eat the memory.
const LABELS_MAX: usize = 200;
const OVERFLOW: &str = "other";

/// Counters that differ in one label.
#[derive(Debug)]
pub struct CounterFamily {
    pub(crate) name: &'static str,
    pub(crate) help: &'static str,
    pub(crate) label: &'static str,
    cells: RwLock<Vec<(&'static str, &'static AtomicU64)>>,
}

impl CounterFamily {
    pub const fn new(name: &'static str, help: &'static str, label: &'static str) -> CounterFamily {
        CounterFamily { name, help, label, cells: RwLock::new(Vec::new()) }
    }

    pub fn add(&self, label: &'static str, count: u64) {
        self.with(label).fetch_add(count, Relaxed);
    }

    /// The cell of a label, to keep.
    pub fn with(&self, label: &'static str) -> &'static AtomicU64 {
        if let Some((_, cell)) = self.cells.read().iter().find(|(name, _)| *name == label) {
            return cell;
        }
        find_or_make(&mut self.cells.write(), label, || AtomicU64::new(0))
    }

    /// The sum over all labels.
    pub fn sum(&self) -> u64 {
        self.cells.read().iter().map(|(_, cell)| cell.load(Relaxed)).sum()
    }

    /// The value of one label; 0 where nothing was counted.
    pub fn value(&self, label: &str) -> u64 {
        self.cells.read().iter().find(|(name, _)| *name == label).map_or(0, |(_, cell)| cell.load(Relaxed))
    }

    pub(crate) fn values(&self) -> Vec<(&'static str, u64)> {
        self.cells.read().iter().map(|(label, cell)| (*label, cell.load(Relaxed))).collect()
    }
}

/// Cells live as long as the process, as their families do: at most `LABELS_MAX` are ever made.
fn find_or_make<T>(
    cells: &mut Vec<(&'static str, &'static T)>,
    label: &'static str,
    make: impl FnOnce() -> T,
) -> &'static T {
    let label = if cells.len() >= LABELS_MAX { OVERFLOW } else { label };
    match cells.iter().find(|(name, _)| *name == label) {
        Some((_, cell)) => cell,
        None => {
            let cell: &'static T = Box::leak(Box::new(make()));
            cells.push((label, cell));
            cell
        }
    }
}

/// Most bounds a histogram can have.
pub(crate) const BOUNDS_MAX: usize = 18;

/// How often values fell into fixed ranges. The unit is that of the bounds: seconds, or a count.
#[derive(Debug)]
pub struct Histogram {
    pub(crate) name: &'static str,
    pub(crate) help: &'static str,
    pub(crate) bounds: &'static [f64],
    /// One for each bound, and one for what is above all of them.
    buckets: [AtomicU64; BOUNDS_MAX + 1],
    /// In millionths of the unit.
    sum: AtomicU64,
}

impl Histogram {
    pub const fn new(name: &'static str, help: &'static str, bounds: &'static [f64]) -> Histogram {
        Histogram { name, help, bounds, buckets: [const { AtomicU64::new(0) }; BOUNDS_MAX + 1], sum: AtomicU64::new(0) }
    }

    pub fn observe(&self, span: Duration) {
        self.observe_value(span.as_secs_f64());
    }

    /// A value in the unit of the bounds; negative ones count as 0.
    pub fn observe_value(&self, value: f64) {
        let value = value.max(0.0);
        let at = self.bounds.iter().position(|bound| value <= *bound).unwrap_or(self.bounds.len());
        self.buckets[at.min(BOUNDS_MAX)].fetch_add(1, Relaxed);
        self.sum.fetch_add((value * 1e6) as u64, Relaxed);
    }

    /// Observations up to each bound (not cumulated) and above, and the sum of all values.
    pub(crate) fn read(&self) -> (Vec<u64>, f64) {
        let counts = self.buckets[..=self.bounds.len()].iter().map(|bucket| bucket.load(Relaxed)).collect();
        (counts, self.sum.load(Relaxed) as f64 / 1e6)
    }

    /// How many values were observed.
    pub fn count(&self) -> u64 {
        self.read().0.iter().sum()
    }
}

/// Histograms that differ in one label.
#[derive(Debug)]
pub struct HistogramFamily {
    pub(crate) name: &'static str,
    pub(crate) help: &'static str,
    pub(crate) label: &'static str,
    pub(crate) bounds: &'static [f64],
    cells: RwLock<Vec<(&'static str, &'static Histogram)>>,
}

impl HistogramFamily {
    pub const fn new(
        name: &'static str,
        help: &'static str,
        label: &'static str,
        bounds: &'static [f64],
    ) -> HistogramFamily {
        HistogramFamily { name, help, label, bounds, cells: RwLock::new(Vec::new()) }
    }

    pub fn observe(&self, label: &'static str, span: Duration) {
        self.with(label).observe(span);
    }

    /// The histogram of a label, to keep.
    pub fn with(&self, label: &'static str) -> &'static Histogram {
        if let Some((_, cell)) = self.cells.read().iter().find(|(name, _)| *name == label) {
            return cell;
        }
        find_or_make(&mut self.cells.write(), label, || Histogram::new(self.name, self.help, self.bounds))
    }

    pub(crate) fn values(&self) -> Vec<(&'static str, &'static Histogram)> {
        self.cells.read().clone()
    }
}
