//! Behaviour of the whole queue, with a fake clock and options from memory. Nothing here sleeps.

mod caps;
mod flow;
mod jobs;
mod model;
mod reload;
mod scale;
mod stopped;
mod throttles;

use crate::limits::{HostLimits, Limits, ServerLimits, Settings};
use crate::names::QueueRef;
use crate::{Permit, Queue, Taken};
use compact_str::CompactString;
use parking_lot::RwLock;
use ph_eventlog::Clock;
use ph_message::{Id, SpoolKey, Summary, Time};
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

pub const START: Time = Time(1_800_000_000_000_000);

type LimitsOf = dyn Fn(&QueueRef) -> Limits + Send + Sync;

/// Options that a test changes as it goes.
pub struct Options {
    generation: AtomicU64,
    limits: RwLock<Box<LimitsOf>>,
    pub server: RwLock<ServerLimits>,
    pub host: RwLock<HostLimits>,
    /// (group, binding) pairs that are declared; empty: all are.
    pub bindings: RwLock<Vec<(&'static str, &'static str)>>,
}

impl Options {
    pub fn set(&self, limits: impl Fn(&QueueRef) -> Limits + Send + Sync + 'static) {
        *self.limits.write() = Box::new(limits);
        self.generation.fetch_add(1, Relaxed);
    }

    pub fn bump(&self) {
        self.generation.fetch_add(1, Relaxed);
    }
}

impl Settings for Options {
    fn generation(&self) -> u64 {
        self.generation.load(Relaxed)
    }

    fn limits(&self, at: &QueueRef) -> Limits {
        self.limits.read()(at)
    }

    fn host(&self, _: &str, _: &str, _: &str) -> HostLimits {
        self.host.read().clone()
    }

    fn server(&self) -> ServerLimits {
        *self.server.read()
    }

    fn group_of(&self, group: &str, binding: &str) -> Option<CompactString> {
        let bindings = self.bindings.read();
        if bindings.is_empty() || (group, binding) == ("default", "default") {
            return Some(group.into());
        }
        let found = bindings.iter().filter(|(_, name)| *name == binding);
        found.clone().find(|(g, _)| *g == group).or_else(|| found.clone().next()).map(|(group, _)| (*group).into())
    }
}

pub struct World {
    pub queue: Queue,
    pub clock: Clock,
    pub options: Arc<Options>,
    next: AtomicU64,
}

impl World {
    pub fn new(limits: impl Fn(&QueueRef) -> Limits + Send + Sync + 'static) -> World {
        let options = Arc::new(Options {
            generation: AtomicU64::new(1),
            limits: RwLock::new(Box::new(limits)),
            server: RwLock::new(ServerLimits::default()),
            host: RwLock::new(HostLimits::default()),
            bindings: RwLock::new(Vec::new()),
        });
        let clock = Clock::fake(START);
        let queue = Queue::with_settings(options.clone(), clock.clone());
        World { queue, clock, options, next: AtomicU64::new(1) }
    }

    pub fn plain() -> World {
        World::new(|_| Limits::default())
    }

    /// All queues with the same options.
    pub fn with(limits: Limits) -> World {
        World::new(move |_| limits.clone())
    }

    pub fn summary(&self, binding: &str, domain: &str) -> Summary {
        let id = Id(self.next.fetch_add(1, Relaxed));
        Summary {
            id,
            batch_id: Id(id.0 << 20),
            created: self.clock.now(),
            next_attempt: Time::ZERO,
            size: 1000,
            binding: binding.into(),
            domain: domain.into(),
            sender_hash: 7,
            recipient_hash: id.0 as u32,
            ..Summary::default()
        }
    }

    pub fn push(&self, binding: &str, domain: &str) -> Id {
        let summary = self.summary(binding, domain);
        let id = summary.id;
        assert!(self.queue.push(SpoolKey(id.0 as u32), summary));
        id
    }

    pub fn push_many(&self, binding: &str, domain: &str, count: usize) -> Vec<Id> {
        (0..count).map(|_| self.push(binding, domain)).collect()
    }

    pub fn advance_s(&self, secs: u64) {
        self.clock.advance(Duration::from_secs(secs));
    }

    /// A connection, if one may be opened at this moment.
    pub fn connection(&self) -> Option<Permit> {
        now_or_never(self.queue.next_connection())
    }

    /// All connections that may be opened at this moment.
    pub fn connections(&self) -> Vec<Permit> {
        std::iter::from_fn(|| self.connection()).collect()
    }

    pub fn take_ids(&self, permit: &Permit, max: usize) -> (Vec<Id>, Vec<Taken>) {
        let taken = self.queue.take(permit, max);
        (taken.iter().map(|taken| taken.summary.id).collect(), taken)
    }

    /// Delivers all it can at this moment, one message per take; returns how many.
    pub fn deliver(&self, permit: &Permit) -> usize {
        let mut delivered = 0;
        loop {
            let taken = self.queue.take(permit, 1);
            if taken.is_empty() {
                return delivered;
            }
            delivered += taken.len();
            taken.into_iter().for_each(|taken| self.queue.delivered(taken));
        }
    }

    /// Opens connections and delivers until nothing can be done at this moment; returns how many were delivered.
    pub fn run(&self) -> usize {
        let mut delivered = 0;
        while let Some(permit) = self.connection() {
            delivered += self.deliver(&permit);
        }
        delivered
    }

    /// (active, delayed, in flight)
    pub fn sums(&self) -> (u64, u64, u64) {
        let overview = self.queue.overview();
        (overview.active, overview.delayed, overview.in_flight)
    }
}

/// Polls a future as long as it yields; `None` when it really waits.
pub fn now_or_never<F: Future>(future: F) -> Option<F::Output> {
    let flag = Arc::new(Woken::default());
    let waker = Waker::from(flag.clone());
    let mut future = pin!(future);
    loop {
        flag.0.store(0, Relaxed);
        if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return Some(output);
        }
        if flag.0.load(Relaxed) == 0 {
            return None;
        }
    }
}

#[derive(Default)]
struct Woken(AtomicU64);

impl std::task::Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Relaxed);
    }
}

pub fn at(binding: &str, domain: &str) -> QueueRef {
    QueueRef::new("", binding, domain)
}
