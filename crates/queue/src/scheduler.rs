//! Which queue gets the next connection, and when.
//!
//! A queue that may have one stands in the `ready` ring and is served in turn, so neither a deep queue nor a dead domain
//! starves the others. A queue that may not stands where it will be noticed: in the waiting list of the cap or the
//! bucket that is exhausted, at an alarm, or nowhere, when an event of its own (a push, a closed connection) will come.
//! Nothing is polled, and a cap that frees one connection wakes one queue. One alarm per queue and per bucket stands in a
//! sorted set. Every step is bounded, so that the lock is free again soon.

use crate::limits::{OwnerKey, ServerLimits};
use crate::permit::{Grant, WaitCell};
use crate::table::{State, Sweep};
use crate::throttle::{Bucket, Rate};
use ph_message::Time;
use slab::Slab;
use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};
use std::time::Duration;

/// Ready queues, waiting queues and queues with new options that one step looks at.
pub(crate) const STEP_MAX: usize = 256;
/// Messages and queues that the alarms of one step may move.
const ALARM_STEPS_MAX: u64 = 1024;
/// How often a queue may grow by a tenth of its waiting mail.
const GROWTH_WINDOW: Duration = Duration::from_secs(1);
/// How often a suspended queue is looked through for expired mail, at most.
const SWEEP_INTERVAL_S: u64 = 60;

/// Why a queue is not being given connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wait {
    /// Nothing is due, or the connections it has suffice.
    Idle,
    /// In the ready ring.
    Ready,
    /// For the next window of growth.
    Growth,
    /// It has `max_outbound_connections`.
    OwnCap,
    /// In the waiting list of a pool.
    Pool(u32),
    /// In the waiting list of a bucket.
    Bucket(u32),
    Suspended,
    /// Until `DomainQueue::defer`.
    Deferred,
    /// Its mail is being failed (`blackhole`).
    Failing,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Alarm {
    Queue(u32),
    Bucket(u32),
    Reserve,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum PoolKey {
    Server,
    Binding(u32),
    Scope(OwnerKey),
}

/// What several queues wait for in a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Gate {
    Pool(u32),
    Bucket(u32),
}

/// A cap on connections that several queues share.
#[derive(Debug)]
pub(crate) struct Pool {
    pub key: PoolKey,
    pub limit: u32,
    pub used: u32,
    /// Places kept for queues that were woken and whose turn has not come.
    pub claims: u32,
    pub waiters: VecDeque<u32>,
    pub generation: u64,
}

/// A token bucket that several queues share.
#[derive(Debug)]
pub(crate) struct SharedBucket {
    pub key: OwnerKey,
    pub bucket: Bucket,
    pub waiters: VecDeque<u32>,
    pub alarm: Time,
    pub generation: u64,
}

pub(crate) struct Scheduler {
    pub ready: VecDeque<u32>,
    pub alarms: BTreeSet<(Time, Alarm)>,
    pub pools: Slab<Pool>,
    pub pool_index: HashMap<PoolKey, u32>,
    pub buckets: Slab<SharedBucket>,
    pub bucket_index: HashMap<OwnerKey, u32>,
    pub server: ServerLimits,
    pub reserve_used: u32,
    pub reserve_next: Time,
    pub refresh_at: Option<usize>,
    pub failing: VecDeque<u32>,
    pub sweeping: VecDeque<u32>,
    /// Messages in flight that fail without an attempt, with their text.
    pub outbox: VecDeque<(u32, &'static str)>,
    /// Queues with idle connections (some have none any more), and the one up to which they were looked at last.
    pub resting: BTreeSet<u32>,
    pub resting_at: u32,
    pub wake_dispatcher: bool,
    pub wake_finals: bool,
    /// Idle connections to wake when the lock is free.
    pub wake_cells: Vec<Arc<WaitCell>>,
}

/// The pool of the whole server is always the first one.
pub(crate) const SERVER_POOL: u32 = 0;

impl Scheduler {
    pub fn new(server: ServerLimits, now: Time) -> Scheduler {
        let mut scheduler = Scheduler {
            ready: VecDeque::new(),
            alarms: BTreeSet::new(),
            pools: Slab::new(),
            pool_index: HashMap::new(),
            buckets: Slab::new(),
            bucket_index: HashMap::new(),
            server,
            reserve_used: 0,
            reserve_next: now,
            refresh_at: None,
            failing: VecDeque::new(),
            sweeping: VecDeque::new(),
            outbox: VecDeque::new(),
            resting: BTreeSet::new(),
            resting_at: 0,
            wake_dispatcher: false,
            wake_finals: false,
            wake_cells: Vec::new(),
        };
        let first = scheduler.pool(PoolKey::Server, server.connections_max, 0);
        debug_assert_eq!(first, SERVER_POOL);
        scheduler
    }

    pub fn pool(&mut self, key: PoolKey, limit: u32, generation: u64) -> u32 {
        let pools = &mut self.pools;
        let no = *self.pool_index.entry(key).or_insert_with(|| {
            pools.insert(Pool { key, limit, used: 0, claims: 0, waiters: VecDeque::new(), generation }) as u32
        });
        let pool = &mut pools[no as usize];
        (pool.limit, pool.generation) = (limit, generation);
        no
    }

    pub fn bucket(&mut self, key: OwnerKey, rate: Rate, generation: u64, now: Time) -> u32 {
        let buckets = &mut self.buckets;
        let no = *self.bucket_index.entry(key).or_insert_with(|| {
            let bucket = Bucket::new(rate, now);
            let shared = SharedBucket { key, bucket, waiters: VecDeque::new(), alarm: Time::MAX, generation };
            buckets.insert(shared) as u32
        });
        let shared = &mut buckets[no as usize];
        shared.bucket.configure(rate, now);
        shared.generation = generation;
        no
    }

    /// Sets an alarm; when it is the first one now, whoever sleeps until the first one must hear of it.
    pub fn set_alarm(&mut self, time: Time, alarm: Alarm) {
        self.alarms.insert((time, alarm));
        self.wake_dispatcher |= self.alarms.first() == Some(&(time, alarm));
    }

    /// Whether a pool has room for one more that nobody waits for.
    pub fn has_room(&self, no: u32) -> bool {
        self.pools.get(no as usize).is_none_or(|pool| self.counted(no) + pool.claims < pool.limit)
    }

    pub fn over_limit(&self, no: u32) -> bool {
        self.pools.get(no as usize).is_some_and(|pool| self.counted(no) > pool.limit)
    }

    /// Connections that count against the limit: what the reserve gave out does not count against the server's total.
    fn counted(&self, no: u32) -> u32 {
        let used = self.pools.get(no as usize).map_or(0, |pool| pool.used);
        if no == SERVER_POOL { used.saturating_sub(self.reserve_used) } else { used }
    }
}

/// What `State::step` found.
pub(crate) enum Step {
    Granted(Grant),
    /// More may be ready: call again soon, with the lock free in between.
    Again,
    /// Nothing before this time, unless something happens.
    Sleep(Time),
}

impl State {
    /// One bounded piece of work, and a connection if one may be opened.
    pub fn step(&mut self, now: Time) -> Step {
        if self.closed {
            return Step::Sleep(Time::MAX);
        }
        if self.settings.generation() != self.generation {
            self.begin_refresh(now);
        }
        if self.scheduler.refresh_at.is_some() {
            self.refresh_step(now);
        }
        let steps_before = self.steps;
        while self.steps - steps_before < ALARM_STEPS_MAX {
            match self.scheduler.alarms.first().copied() {
                Some((time, alarm)) if time <= now => {
                    self.scheduler.alarms.pop_first();
                    self.steps += 1;
                    self.ring(alarm, now);
                }
                _ => break,
            }
        }
        for _ in 0..STEP_MAX {
            let Some(no) = self.scheduler.ready.pop_front() else { break };
            self.steps += 1;
            if let Some(grant) = self.try_grant(no, now) {
                self.scheduler.wake_dispatcher |= !self.scheduler.ready.is_empty();
                return Step::Granted(grant);
            }
        }
        let next = self.scheduler.alarms.first().map_or(Time::MAX, |(time, _)| *time);
        if !self.scheduler.ready.is_empty() || next <= now || self.scheduler.refresh_at.is_some() {
            Step::Again
        } else {
            Step::Sleep(next)
        }
    }

    // Judging a queue.

    /// Looks at a queue anew, unless it stands in a ring or a waiting list already.
    pub fn consider(&mut self, no: u32, now: Time) {
        let Some(queue) = self.queues.get(no as usize) else { return };
        if matches!(queue.wait, Wait::Ready | Wait::Pool(_) | Wait::Bucket(_) | Wait::Failing) {
            return;
        }
        let more_due = self.promote(no, now);
        self.wake_idle(no);
        let (wait, alarm) = self.judge(no, now);
        self.stand(no, wait, if more_due { alarm.min(now) } else { alarm });
    }

    /// Forgets where a queue stands, and looks at it anew: something outside its own doing has changed.
    pub fn reconsider(&mut self, no: u32, now: Time) {
        if let Some(queue) = self.queues.get_mut(no as usize)
            && queue.wait != Wait::Ready
        {
            queue.wait = Wait::Idle;
            self.consider(no, now);
        }
    }

    pub fn is_ready(&self, no: u32) -> bool {
        self.queues.get(no as usize).is_some_and(|queue| queue.wait == Wait::Ready)
    }

    fn stand(&mut self, no: u32, wait: Wait, alarm: Time) {
        self.queue_mut(no).wait = wait;
        self.arm(no, alarm);
        match wait {
            Wait::Ready => {
                self.scheduler.ready.push_back(no);
                self.scheduler.wake_dispatcher = true;
            }
            Wait::Failing => {
                self.scheduler.failing.push_back(no);
                self.scheduler.wake_finals = true;
            }
            Wait::Idle => self.note_if_spare(no),
            _ => {}
        }
    }

    /// Where a queue should stand, and when to look again if nothing happens. Caps and buckets that it shares are
    /// looked at only when its turn comes (`try_grant`).
    fn judge(&mut self, no: u32, now: Time) -> (Wait, Time) {
        let queue = self.queue_mut(no);
        let first_due = queue.delayed.first_due();
        if queue.limits.blackhole && queue.active.len() + queue.delayed.len() > 0 {
            return (Wait::Failing, Time::MAX);
        }
        if let Some(until) = queue.suspended(now) {
            let expiry = self.sweep_if_expired(no, now);
            return (Wait::Suspended, until.min(first_due).min(expiry));
        }
        let queue = self.queue_mut(no);
        if queue.active.len() == 0 {
            return (Wait::Idle, first_due);
        }
        match &queue.defer {
            Some((until, _)) if *until > now => return (Wait::Deferred, *until),
            Some(_) => queue.defer = None,
            None => {}
        }
        if queue.untaken + queue.woken >= queue.active.len() {
            return (Wait::Idle, first_due);
        }
        if queue.connections >= queue.limits.connections_max {
            // Its connections may all be idle when the next delayed message is due.
            return (Wait::OwnCap, first_due);
        }
        if !queue.limits.eager && queue.connections > 0 {
            if now >= queue.growth_at.plus(GROWTH_WINDOW) {
                queue.growth_at = now;
                queue.growth_left = growth(queue.active.len());
            }
            if queue.growth_left == 0 {
                return (Wait::Growth, queue.growth_at.plus(GROWTH_WINDOW));
            }
        }
        (Wait::Ready, Time::MAX)
    }

    /// Starts the search for expired mail in a suspended queue when its oldest message may be expired; returns when to
    /// ask again.
    fn sweep_if_expired(&mut self, no: u32, now: Time) -> Time {
        let queue = self.queue_mut(no);
        if queue.sweep.is_some() || queue.active.len() + queue.delayed.len() == 0 {
            return Time::MAX;
        }
        let expiry = queue.oldest.plus_secs(queue.limits.retry.message_expiration_s).max(queue.sweep_at);
        if expiry > now {
            return expiry;
        }
        let (urgent_left, all) = (queue.active.urgent_len(), queue.active.len());
        queue.sweep = Some(Sweep { urgent_left, active_left: all - urgent_left, position: None });
        queue.sweep_at = now.plus_secs(SWEEP_INTERVAL_S);
        queue.oldest = Time::MAX;
        self.scheduler.sweeping.push_back(no);
        self.scheduler.wake_finals = true;
        Time::MAX
    }

    /// The turn of a queue of the ready ring.
    fn try_grant(&mut self, no: u32, now: Time) -> Option<Grant> {
        if !self.is_ready(no) {
            return None;
        }
        self.queue_mut(no).wait = Wait::Idle;
        let woken_by = self.queue_mut(no).woken_by.take();
        if let Some(Gate::Pool(pool)) = woken_by
            && let Some(pool) = self.scheduler.pools.get_mut(pool as usize)
        {
            pool.claims -= 1;
        }
        self.refresh_if_old(no, now);
        let more_due = self.promote(no, now);
        self.wake_idle(no);
        let (wait, alarm) = self.judge(no, now);
        if wait != Wait::Ready {
            self.stand(no, wait, if more_due { alarm.min(now) } else { alarm });
            self.pass_on(woken_by, now);
            return None;
        }
        let mut reserved = false;
        let pools = self.queue(no).pools.clone();
        for pool in &pools {
            if self.scheduler.has_room(*pool) {
                continue;
            }
            if *pool == SERVER_POOL && self.reserve_open(no, now) {
                reserved = true;
                continue;
            }
            self.park_at_pool(no, *pool, woken_by == Some(Gate::Pool(*pool)));
            self.pass_on(woken_by.filter(|other| *other != Gate::Pool(*pool)), now);
            return None;
        }
        let (connects, messages) = (self.queue(no).connects, self.queue(no).messages);
        for bucket in [connects, messages].into_iter().flatten() {
            let is_next = woken_by == Some(Gate::Bucket(bucket));
            let shared = &mut self.scheduler.buckets[bucket as usize];
            if shared.bucket.tokens(now) == 0 || !is_next && !shared.waiters.is_empty() {
                self.park_at_bucket(no, bucket, is_next, now);
                self.pass_on(woken_by, now);
                return None;
            }
        }
        for bucket in [connects, messages].into_iter().flatten() {
            self.scheduler.buckets[bucket as usize].bucket.take(1, now);
        }
        for pool in &pools {
            self.scheduler.pools[*pool as usize].used += 1;
        }
        if reserved {
            self.scheduler.reserve_used += 1;
            self.scheduler.reserve_next = now.plus_secs(self.scheduler.server.reserve_interval_s.max(1));
            if !self.scheduler.pools[SERVER_POOL as usize].waiters.is_empty() {
                self.scheduler.set_alarm(self.scheduler.reserve_next, Alarm::Reserve);
            }
        }
        let queue = self.queue_mut(no);
        if queue.connections == 0 {
            (queue.growth_at, queue.growth_left) = (now, growth(queue.active.len()));
        }
        queue.growth_left = queue.growth_left.saturating_sub(1);
        queue.connections += 1;
        queue.untaken += 1;
        self.totals.connections += 1;
        self.consider(no, now);
        Some(Grant {
            queue: no,
            pools,
            reserved,
            prepaid: AtomicBool::new(messages.is_some()),
            asked: AtomicBool::new(false),
            excused: AtomicBool::new(false),
            served: AtomicU32::new(0),
            cell: Arc::new(WaitCell::default()),
        })
    }

    // Buckets.

    fn park_at_bucket(&mut self, no: u32, bucket: u32, was_first: bool, now: Time) {
        self.queue_mut(no).wait = Wait::Bucket(bucket);
        self.disarm(no);
        let shared = &mut self.scheduler.buckets[bucket as usize];
        if was_first {
            shared.waiters.push_front(no)
        } else {
            shared.waiters.push_back(no)
        }
        if shared.alarm == Time::MAX {
            let alarm = shared.bucket.ready_at(1, now);
            shared.alarm = alarm;
            self.scheduler.set_alarm(alarm, Alarm::Bucket(bucket));
        }
    }

    /// A token is there: as many queues as there are tokens get their turn.
    fn wake_bucket(&mut self, bucket: u32, now: Time) {
        let Some(shared) = self.scheduler.buckets.get_mut(bucket as usize) else { return };
        shared.alarm = Time::MAX;
        let tokens = shared.bucket.tokens(now).min(STEP_MAX as u32);
        let mut woken = 0;
        while woken < tokens {
            let Some(no) = self.scheduler.buckets[bucket as usize].waiters.pop_front() else { return };
            self.steps += 1;
            if self.queues.get(no as usize).is_some_and(|queue| queue.wait == Wait::Bucket(bucket)) {
                self.reconsider(no, now);
                if self.is_ready(no) {
                    self.queue_mut(no).woken_by = Some(Gate::Bucket(bucket));
                    woken += 1;
                }
            }
        }
        let shared = &mut self.scheduler.buckets[bucket as usize];
        if !shared.waiters.is_empty() {
            // Those just woken have a claim on the tokens of now; the next one can count on the one behind these.
            let next = shared.bucket.ready_at(woken.saturating_add(1), now).max(now.plus(Duration::from_millis(1)));
            shared.alarm = next;
            self.scheduler.set_alarm(next, Alarm::Bucket(bucket));
        }
    }

    // Alarms.

    fn ring(&mut self, alarm: Alarm, now: Time) {
        match alarm {
            Alarm::Queue(no) => {
                self.queue_mut(no).alarm = Time::MAX;
                self.consider(no, now);
            }
            Alarm::Bucket(no) => self.wake_bucket(no, now),
            Alarm::Reserve => self.hand_out_reserve(now),
        }
    }

    /// Gives the next of the reserve to the first queue in the server's waiting list that has no connection at all.
    fn hand_out_reserve(&mut self, now: Time) {
        if now < self.scheduler.reserve_next {
            self.scheduler.set_alarm(self.scheduler.reserve_next, Alarm::Reserve);
            return;
        }
        let queues = &self.queues;
        let starved = |no: &u32| {
            queues.get(*no as usize).is_some_and(|q| q.wait == Wait::Pool(SERVER_POOL) && q.connections == 0)
        };
        let waiters = &mut self.scheduler.pools[SERVER_POOL as usize].waiters;
        let Some(at) = waiters.iter().position(starved) else { return };
        let Some(no) = waiters.remove(at) else { return };
        self.reconsider(no, now);
    }

    fn arm(&mut self, no: u32, alarm: Time) {
        let old = self.queue(no).alarm;
        if old == alarm {
            return;
        }
        if old != Time::MAX {
            self.scheduler.alarms.remove(&(old, Alarm::Queue(no)));
        }
        if alarm != Time::MAX {
            self.scheduler.set_alarm(alarm, Alarm::Queue(no));
        }
        self.queue_mut(no).alarm = alarm;
    }

    pub fn disarm(&mut self, no: u32) {
        self.arm(no, Time::MAX);
    }

    // Events.

    /// Wakes idle connections of a queue for mail that is due, one for each message that no other is about to take.
    fn wake_idle(&mut self, no: u32) {
        let queue = &mut self.queues[no as usize];
        while queue.active.len() > queue.woken + queue.untaken
            && let Some(cell) = queue.idle.pop()
        {
            cell.woken.store(true, Relaxed);
            queue.woken += 1;
            self.scheduler.wake_cells.push(cell);
        }
    }

    /// A message came to the active list or the delayed tree: an idle connection is woken, or the queue looked at.
    pub fn arrived(&mut self, no: u32, now: Time) {
        let queue = &mut self.queues[no as usize];
        if queue.active.len() > queue.woken
            && let Some(cell) = queue.idle.pop()
        {
            cell.woken.store(true, Relaxed);
            queue.woken += 1;
            self.scheduler.wake_cells.push(cell);
            return;
        }
        match queue.wait {
            Wait::Idle if queue.active.len() > 0 => self.consider(no, now),
            Wait::Idle | Wait::OwnCap if queue.delayed.first_due() < queue.alarm => {
                let due = queue.delayed.first_due();
                self.arm(no, due);
            }
            Wait::Suspended => self.reconsider(no, now),
            Wait::Failing => self.scheduler.wake_finals = true,
            _ => {}
        }
    }
}

/// Connections that a queue may open in one window, by its waiting mail: about one for ten, and at least one.
fn growth(waiting: u32) -> u32 {
    (waiting / 10).max(1)
}
