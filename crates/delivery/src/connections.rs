//! The open outbound connections, for the console; and tracers of what goes over them.
//!
//! A connection enters here before it is made and leaves when its task ends, whatever way. What it does at the moment is
//! one atomic octet, so that keeping the console informed costs a message nothing.

use parking_lot::Mutex;
use ph_eventlog::{Clock, Stage};
use ph_message::{Id, Time};
use ph_queue::QueueRef;
use ph_smtp::client::Trace;
use std::collections::HashMap;
use std::fs::File;
use std::io::Write;
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU8, AtomicU32, AtomicU64, Ordering::Relaxed};
use tokio::sync::Notify;
use tokio::task::AbortHandle;

/// One open connection, as the console shows it.
#[derive(Clone, Debug)]
pub struct ConnectionInfo {
    /// A running number, in place of the file descriptor that Momentum shows.
    pub number: u64,
    pub id: Id,
    pub at: QueueRef,
    pub host: Arc<str>,
    pub address: Option<IpAddr>,
    pub stage: Stage,
    /// Microseconds since the stage was reached.
    pub stage_us: u64,
    pub deliveries: u32,
}

/// All open connections.
pub struct Connections {
    clock: Clock,
    open: Mutex<HashMap<u64, Arc<Entry>>>,
    next: AtomicU64,
    empty: Notify,
    tracers: Mutex<Tracers>,
    any_tracer: AtomicU8,
}

/// The part of a connection that others look at.
pub(crate) struct Entry {
    number: u64,
    state: Mutex<Place>,
    stage: AtomicU8,
    since: AtomicI64,
    deliveries: AtomicU32,
    abort: Mutex<Option<AbortHandle>>,
}

#[derive(Clone)]
struct Place {
    id: Id,
    at: QueueRef,
    host: Arc<str>,
    address: Option<IpAddr>,
}

impl Connections {
    pub(crate) fn new(clock: Clock) -> Connections {
        Connections {
            clock,
            open: Mutex::default(),
            next: AtomicU64::new(1),
            empty: Notify::new(),
            tracers: Mutex::default(),
            any_tracer: AtomicU8::new(0),
        }
    }

    /// Enters a connection that is about to be made.
    pub(crate) fn enter(self: &Connections, at: &QueueRef) -> Arc<Entry> {
        let number = self.next.fetch_add(1, Relaxed);
        let place = Place { id: Id::NULL, at: at.clone(), host: "".into(), address: None };
        let entry = Arc::new(Entry {
            number,
            state: Mutex::new(place),
            stage: AtomicU8::new(Stage::NotConnected.number()),
            since: AtomicI64::new(self.clock.now().micros()),
            deliveries: AtomicU32::new(0),
            abort: Mutex::default(),
        });
        self.open.lock().insert(number, entry.clone());
        entry
    }

    pub(crate) fn leave(&self, entry: &Entry) {
        let mut open = self.open.lock();
        open.remove(&entry.number);
        if open.is_empty() {
            self.empty.notify_waiters();
        }
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.open.lock().len()
    }

    /// All of them, oldest first.
    pub fn list(&self) -> Vec<ConnectionInfo> {
        let now = self.clock.now();
        let entries: Vec<Arc<Entry>> = self.open.lock().values().cloned().collect();
        let mut list: Vec<ConnectionInfo> = entries.iter().map(|entry| entry.info(now)).collect();
        list.sort_by_key(|info| info.number);
        list
    }

    /// Waits until there are none.
    pub(crate) async fn drained(&self) {
        loop {
            let empty = self.empty.notified();
            if self.count() == 0 {
                return;
            }
            empty.await;
        }
    }

    /// Ends those that are left.
    pub(crate) fn abort_all(&self) {
        for entry in self.open.lock().values() {
            if let Some(abort) = entry.abort.lock().as_ref() {
                abort.abort();
            }
        }
    }

    // Tracing.

    /// Writes what goes over connections of a binding (`*`: any) to a domain (`*`: any) to a file; the tracer's number.
    /// Connections that are open already are not traced.
    pub fn add_tracer(&self, binding: &str, domain: &str, path: &Path, mode: u32) -> std::io::Result<u32> {
        let file = std::fs::OpenOptions::new().create(true).append(true).mode(mode).open(path)?;
        let mut tracers = self.tracers.lock();
        tracers.last += 1;
        let number = tracers.last;
        let domain = domain.to_ascii_lowercase();
        let tracer =
            Tracer { number, binding: binding.into(), domain, path: path.into(), file: Arc::new(Mutex::new(file)) };
        tracers.list.push(tracer);
        self.any_tracer.store(1, Relaxed);
        Ok(number)
    }

    /// Number, binding, domain and file of each tracer.
    pub fn tracers(&self) -> Vec<(u32, String, String, PathBuf)> {
        let tracers = self.tracers.lock();
        tracers.list.iter().map(|t| (t.number, t.binding.clone(), t.domain.clone(), t.path.clone())).collect()
    }

    /// Ends a tracer. False: there is none of that number.
    pub fn remove_tracer(&self, number: u32) -> bool {
        let mut tracers = self.tracers.lock();
        let before = tracers.list.len();
        tracers.list.retain(|tracer| tracer.number != number);
        self.any_tracer.store(u8::from(!tracers.list.is_empty()), Relaxed);
        tracers.list.len() < before
    }

    pub(crate) fn trace(&self, at: &QueueRef, id: Id, address: IpAddr) -> Option<Box<dyn Trace>> {
        if self.any_tracer.load(Relaxed) == 0 {
            return None;
        }
        let tracers = self.tracers.lock();
        let fits = |wanted: &str, name: &str| wanted == "*" || wanted == name;
        let tracer = tracers.list.iter().find(|t| fits(&t.binding, &at.binding) && fits(&t.domain, &at.domain))?;
        Some(Box::new(TraceFile {
            file: tracer.file.clone(),
            prefix: format!("{id} {address}"),
            clock: self.clock.clone(),
        }))
    }
}

#[derive(Default)]
struct Tracers {
    last: u32,
    list: Vec<Tracer>,
}

struct Tracer {
    number: u32,
    binding: String,
    domain: String,
    path: PathBuf,
    file: Arc<Mutex<File>>,
}

/// Octets of one piece that a trace shows: envelopes and the beginning of a body, not gigabytes.
const TRACED_MAX: usize = 4096;

struct TraceFile {
    file: Arc<Mutex<File>>,
    prefix: String,
    clock: Clock,
}

impl TraceFile {
    fn write(&self, mark: &str, bytes: &[u8]) {
        let shown = &bytes[..bytes.len().min(TRACED_MAX)];
        let mut text = String::new();
        for line in shown.split_inclusive(|&byte| byte == b'\n') {
            text.push_str(&format!("{} {} {mark} {}\n", self.clock.now(), self.prefix, line.escape_ascii()));
        }
        if shown.len() < bytes.len() {
            text.push_str(&format!(
                "{} {} {mark} ({} octets more)\n",
                self.clock.now(),
                self.prefix,
                bytes.len() - shown.len()
            ));
        }
        // A trace is for looking; a full disk must not end a delivery.
        let _ = self.file.lock().write_all(text.as_bytes());
    }
}

impl Trace for TraceFile {
    fn heard(&mut self, bytes: &[u8]) {
        self.write("<", bytes);
    }

    fn said(&mut self, bytes: &[u8]) {
        self.write(">", bytes);
    }
}

impl Entry {
    pub fn set_abort(&self, abort: AbortHandle) {
        *self.abort.lock() = Some(abort);
    }

    /// A new attempt at an address.
    pub fn attempt(&self, id: Id, host: &Arc<str>, address: IpAddr, now: Time) {
        let mut place = self.state.lock();
        (place.id, place.host, place.address) = (id, host.clone(), Some(address));
        drop(place);
        self.stage(Stage::NotConnected, now);
    }

    pub fn moved(&self, at: &QueueRef) {
        self.state.lock().at = at.clone();
    }

    pub fn stage(&self, stage: Stage, now: Time) {
        self.stage.store(stage.number(), Relaxed);
        self.since.store(now.micros(), Relaxed);
    }

    pub fn delivered(&self) {
        self.deliveries.fetch_add(1, Relaxed);
    }

    fn info(&self, now: Time) -> ConnectionInfo {
        let Place { id, at, host, address } = self.state.lock().clone();
        let stage = Stage::ALL.get(usize::from(self.stage.load(Relaxed))).copied().unwrap_or(Stage::Unknown);
        let stage_us = now.since(Time(self.since.load(Relaxed))).as_micros() as u64;
        let deliveries = self.deliveries.load(Relaxed);
        ConnectionInfo { number: self.number, id, at, host, address, stage, stage_us, deliveries }
    }
}

/// Takes the connection off the list, in whatever way its task ends.
pub(crate) struct Listed<'a> {
    pub connections: &'a Connections,
    pub entry: Arc<Entry>,
}

impl Drop for Listed<'_> {
    fn drop(&mut self) {
        self.connections.leave(&self.entry);
    }
}
