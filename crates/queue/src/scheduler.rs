//! Which queue gets the next connection, and when.
//!
//! A queue that may have one stands in the `ready` ring and is served in turn, so neither a deep queue nor a dead domain
//! starves the others. A queue that may not stands where it will be noticed: in the waiting list of the cap or the
//! bucket that is exhausted, at an alarm, or nowhere, when an event of its own (a push, a closed connection) will come.
//! Nothing is polled, and a cap that frees one connection wakes one queue. One alarm per queue and per bucket stands in a
//! sorted set. Every step is bounded, so that the lock is free again soon.

use crate::inspect::Reason;
use crate::limits::{Limits, OwnerKey, ServerLimits, UNLIMITED};
use crate::permit::{Grant, WaitCell};
use crate::table::{State, Sweep};
use crate::throttle::{Bucket, Rate};
use ph_message::Time;
use slab::Slab;
use smallvec::SmallVec;
use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};
use std::time::Duration;

/// Ready queues, waiting queues and queues with new options that one step looks at.
const STEP_MAX: usize = 256;
/// Messages and queues that the alarms of one step may move.
const ALARM_STEPS_MAX: u64 = 1024;
/// How often a queue may grow by a tenth of its waiting mail.
const GROWTH_WINDOW: Duration = Duration::from_secs(1);
/// Messages after which a connection leaves, if other queues wait for a cap that it counts against.
const YIELD_AFTER: u32 = 100;
/// Messages after which a connection leaves, if other queues wait for the same tokens.
const THROTTLE_QUANTUM: u32 = 20;
/// An open connection waits so long for its next token; for a later one it closes.
const TOKEN_WAIT: Duration = Duration::from_millis(100);
/// Longest rest after connections that ended before they took mail.
const BACKOFF_MAX_S: u64 = 60;
/// How often a suspended queue is looked through for expired mail, at most.
const SWEEP_INTERVAL_S: u64 = 60;
/// How far behind the first message its batch siblings are looked for.
const SIBLING_LOOKAHEAD: u32 = 64;
/// Messages that wait to be failed without an attempt.
pub(crate) const OUTBOX_MAX: usize = 4096;

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

/// A cap on connections that several queues share.
#[derive(Debug)]
pub(crate) struct Pool {
    pub key: PoolKey,
    pub limit: u32,
    pub used: u32,
    waiters: VecDeque<u32>,
    generation: u64,
}

/// A token bucket that several queues share.
#[derive(Debug)]
pub(crate) struct SharedBucket {
    key: OwnerKey,
    pub bucket: Bucket,
    waiters: VecDeque<u32>,
    alarm: Time,
    generation: u64,
}

pub(crate) struct Scheduler {
    ready: VecDeque<u32>,
    alarms: BTreeSet<(Time, Alarm)>,
    pub pools: Slab<Pool>,
    pool_index: HashMap<PoolKey, u32>,
    pub buckets: Slab<SharedBucket>,
    bucket_index: HashMap<OwnerKey, u32>,
    server: ServerLimits,
    reserve_used: u32,
    reserve_next: Time,
    refresh_at: Option<usize>,
    pub failing: VecDeque<u32>,
    pub sweeping: VecDeque<u32>,
    /// Messages in flight that fail without an attempt, with their text.
    pub outbox: VecDeque<(u32, &'static str)>,
    pub wake_dispatcher: bool,
    pub wake_finals: bool,
    /// Idle connections to wake when the lock is free.
    pub wake_cells: Vec<Arc<WaitCell>>,
}

/// The pool of the whole server is always the first one.
const SERVER_POOL: u32 = 0;

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
            wake_dispatcher: false,
            wake_finals: false,
            wake_cells: Vec::new(),
        };
        let first = scheduler.pool(PoolKey::Server, server.connections_max, 0);
        debug_assert_eq!(first, SERVER_POOL);
        scheduler
    }

    fn pool(&mut self, key: PoolKey, limit: u32, generation: u64) -> u32 {
        let pools = &mut self.pools;
        let no = *self
            .pool_index
            .entry(key)
            .or_insert_with(|| pools.insert(Pool { key, limit, used: 0, waiters: VecDeque::new(), generation }) as u32);
        let pool = &mut pools[no as usize];
        (pool.limit, pool.generation) = (limit, generation);
        no
    }

    fn bucket(&mut self, key: OwnerKey, rate: Rate, generation: u64, now: Time) -> u32 {
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
    fn set_alarm(&mut self, time: Time, alarm: Alarm) {
        self.alarms.insert((time, alarm));
        self.wake_dispatcher |= self.alarms.first() == Some(&(time, alarm));
    }

    /// Whether a pool has room for one more. What the reserve gave out does not count against the server's total.
    fn has_room(&self, no: u32) -> bool {
        let Some(pool) = self.pools.get(no as usize) else { return true };
        let reserve_used = if no == SERVER_POOL { self.reserve_used } else { 0 };
        pool.used.saturating_sub(reserve_used) < pool.limit
    }

    fn over_limit(&self, no: u32) -> bool {
        let Some(pool) = self.pools.get(no as usize) else { return false };
        let reserve_used = if no == SERVER_POOL { self.reserve_used } else { 0 };
        pool.used.saturating_sub(reserve_used) > pool.limit
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

/// How it stands with a connection that has no mail in hand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// There is mail that it may take.
    Work,
    /// There is none; some may come.
    Idle,
    /// There is some, and a token for it comes soon.
    TokenAt(Time),
    /// It should close.
    Leave,
}

impl State {
    /// One bounded piece of work, and a connection if one may be opened.
    pub fn step(&mut self, now: Time) -> Step {
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
        if matches!(self.queue(no).wait, Wait::Ready | Wait::Pool(_) | Wait::Bucket(_) | Wait::Failing) {
            return;
        }
        let more_due = self.promote(no, now);
        let (wait, alarm) = self.judge(no, now);
        self.stand(no, wait, if more_due { alarm.min(now) } else { alarm });
    }

    /// Forgets where a queue stands, and looks at it anew: something outside its own doing has changed.
    pub fn reconsider(&mut self, no: u32, now: Time) {
        if self.queue(no).wait != Wait::Ready {
            self.queue_mut(no).wait = Wait::Idle;
            self.consider(no, now);
        }
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
            return (Wait::OwnCap, Time::MAX);
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
        queue.sweep = Some(Sweep { active_left: queue.active.len(), position: None });
        queue.sweep_at = now.plus_secs(SWEEP_INTERVAL_S);
        queue.oldest = Time::MAX;
        self.scheduler.sweeping.push_back(no);
        self.scheduler.wake_finals = true;
        Time::MAX
    }

    /// The turn of a queue of the ready ring.
    fn try_grant(&mut self, no: u32, now: Time) -> Option<Grant> {
        if self.queues.get(no as usize).is_none_or(|queue| queue.wait != Wait::Ready) {
            return None;
        }
        self.queue_mut(no).wait = Wait::Idle;
        let woken_by = self.queue_mut(no).woken_by.take();
        self.refresh_if_old(no, now);
        let more_due = self.promote(no, now);
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
            self.park_at_pool(no, *pool, woken_by == Some(*pool));
            self.pass_on(woken_by.filter(|other| other != pool), now);
            return None;
        }
        let (connects, messages) = (self.queue(no).connects, self.queue(no).messages);
        for bucket in [connects, messages].into_iter().flatten() {
            if self.scheduler.buckets[bucket as usize].bucket.tokens(now) == 0 {
                self.park_at_bucket(no, bucket, now);
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

    // Pools.

    fn reserve_open(&self, no: u32, now: Time) -> bool {
        let scheduler = &self.scheduler;
        self.queue(no).connections == 0
            && scheduler.reserve_used < scheduler.server.reserve
            && now >= scheduler.reserve_next
    }

    fn park_at_pool(&mut self, no: u32, pool: u32, was_first: bool) {
        self.queue_mut(no).wait = Wait::Pool(pool);
        self.disarm(no);
        let waiters = &mut self.scheduler.pools[pool as usize].waiters;
        if was_first {
            waiters.push_front(no)
        } else {
            waiters.push_back(no)
        }
        if pool == SERVER_POOL && self.scheduler.reserve_used < self.scheduler.server.reserve {
            self.scheduler.set_alarm(self.scheduler.reserve_next, Alarm::Reserve);
        }
    }

    /// A place in a pool is free: the queue that waits longest gets its turn.
    fn wake_pool(&mut self, pool: u32, now: Time) {
        while self.scheduler.has_room(pool) {
            let Some(no) = self.scheduler.pools.get_mut(pool as usize).and_then(|pool| pool.waiters.pop_front()) else {
                return;
            };
            self.steps += 1;
            if self.queues.get(no as usize).is_none_or(|queue| queue.wait != Wait::Pool(pool)) {
                continue; // It left the list long ago.
            }
            self.reconsider(no, now);
            if self.queue(no).wait == Wait::Ready {
                self.queue_mut(no).woken_by = Some(pool);
                return;
            }
        }
    }

    /// A woken queue did not use the place: the next one may.
    fn pass_on(&mut self, pool: Option<u32>, now: Time) {
        if let Some(pool) = pool {
            self.wake_pool(pool, now);
        }
    }

    // Buckets.

    fn park_at_bucket(&mut self, no: u32, bucket: u32, now: Time) {
        self.queue_mut(no).wait = Wait::Bucket(bucket);
        self.disarm(no);
        let shared = &mut self.scheduler.buckets[bucket as usize];
        shared.waiters.push_back(no);
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
                woken += u32::from(self.queue(no).wait == Wait::Ready);
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
            Wait::Idle if queue.delayed.first_due() < queue.alarm => {
                let due = queue.delayed.first_due();
                self.arm(no, due);
            }
            Wait::Suspended => self.reconsider(no, now),
            Wait::Failing => self.scheduler.wake_finals = true,
            _ => {}
        }
    }

    /// Due mail for a connection, batch siblings first.
    pub fn take(&mut self, grant: &Grant, max: usize, now: Time) -> Vec<crate::Taken> {
        if self.settings.generation() != self.generation {
            self.begin_refresh(now);
            self.scheduler.wake_dispatcher = true;
        }
        let no = grant.queue;
        self.refresh_if_old(no, now);
        self.note_asked(grant);
        self.queue_mut(no).fruitless = 0;
        self.promote(no, now);
        let mut taken = Vec::new();
        if self.standing(grant, now) == Standing::Work {
            let allowed = self.allowance(grant, now).min(u32::try_from(max).unwrap_or(u32::MAX));
            taken.reserve_exact(allowed.min(self.queue(no).active.len()) as usize);
            self.fill(no, allowed, now, &mut taken);
            let count = taken.len() as u32;
            grant.served.fetch_add(count, Relaxed);
            if count > 0
                && let Some(bucket) = self.queue(no).messages
            {
                let prepaid = u32::from(grant.prepaid.swap(false, Relaxed));
                self.scheduler.buckets[bucket as usize].bucket.take(count - prepaid, now);
            }
        }
        if self.queue(no).wait == Wait::Idle {
            self.consider(no, now);
        }
        taken
    }

    fn fill(&mut self, no: u32, allowed: u32, now: Time, taken: &mut Vec<crate::Taken>) {
        let rules = self.queue(no).limits.retry;
        let mut batch = None;
        while (taken.len() as u32) < allowed {
            let head = self.queue(no).active.head();
            if head == crate::entry::NIL {
                return;
            }
            if rules.never_attempt_expired && rules.expired(self.slots[head].created, now) {
                if self.scheduler.outbox.len() >= OUTBOX_MAX {
                    return;
                }
                self.lift(head);
                self.scheduler.outbox.push_back((head, crate::retry::EXPIRED));
                self.scheduler.wake_finals = true;
                continue;
            }
            self.lift(head);
            taken.push(self.taken(head));
            if self.slots[head].batched && batch.replace(self.slots[head].batch).is_none() {
                self.fill_siblings(no, self.slots[head].batch, allowed, taken);
            }
        }
    }

    fn fill_siblings(&mut self, no: u32, batch: ph_message::Id, allowed: u32, taken: &mut Vec<crate::Taken>) {
        let mut at = self.queue(no).active.head();
        let mut strangers = 0;
        while at != crate::entry::NIL && (taken.len() as u32) < allowed && strangers < SIBLING_LOOKAHEAD {
            let next = self.slots[at].next;
            if self.slots[at].batch == batch {
                self.lift(at);
                taken.push(self.taken(at));
            } else {
                strangers += 1;
            }
            self.steps += 1;
            at = next;
        }
    }

    /// How many messages the throttle lets a connection take now.
    fn allowance(&mut self, grant: &Grant, now: Time) -> u32 {
        let Some(bucket) = self.queue(grant.queue).messages else { return UNLIMITED };
        let shared = &mut self.scheduler.buckets[bucket as usize];
        let prepaid = u32::from(grant.prepaid.load(Relaxed));
        if !shared.waiters.is_empty() && grant.served.load(Relaxed) >= THROTTLE_QUANTUM {
            return prepaid;
        }
        shared.bucket.tokens(now).saturating_add(prepaid)
    }

    /// How it stands with a connection.
    pub fn standing(&mut self, grant: &Grant, now: Time) -> Standing {
        let queue = self.queue(grant.queue);
        let yields = grant.served.load(Relaxed) >= YIELD_AFTER;
        let over = |pool: &u32| {
            self.scheduler.over_limit(*pool)
                || yields
                    && !self.scheduler.has_room(*pool)
                    && self.scheduler.pools.get(*pool as usize).is_some_and(|pool| !pool.waiters.is_empty())
        };
        if self.closed
            || queue.limits.blackhole
            || queue.suspended(now).is_some()
            || queue.connections > queue.limits.connections_max
            || grant.pools.iter().any(over)
        {
            return Standing::Leave;
        }
        if queue.active.len() == 0 {
            // An idle connection that others could use is not kept.
            let wanted = grant.pools.iter().any(|pool| {
                !self.scheduler.has_room(*pool)
                    && self.scheduler.pools.get(*pool as usize).is_some_and(|pool| !pool.waiters.is_empty())
            });
            return if wanted { Standing::Leave } else { Standing::Idle };
        }
        if self.allowance(grant, now) > 0 {
            return Standing::Work;
        }
        let Some(bucket) = self.queue(grant.queue).messages else { return Standing::Work };
        let shared = &mut self.scheduler.buckets[bucket as usize];
        let next = shared.bucket.ready_at(1, now);
        let soon = shared.waiters.is_empty() && next.since(now) <= TOKEN_WAIT;
        if soon { Standing::TokenAt(next) } else { Standing::Leave }
    }

    /// Notes that a granted or woken connection has asked for mail.
    fn note_asked(&mut self, grant: &Grant) {
        let queue = &mut self.queues[grant.queue as usize];
        if !grant.asked.swap(true, Relaxed) {
            queue.untaken -= 1;
        }
        if grant.cell.woken.swap(false, Relaxed) {
            queue.woken -= 1;
        }
    }

    /// An idle connection waits for mail.
    pub fn enlist_idle(&mut self, grant: &Grant) {
        self.note_asked(grant);
        self.queue_mut(grant.queue).idle.push(grant.cell.clone());
    }

    pub fn delist_idle(&mut self, grant: &Grant) {
        self.queue_mut(grant.queue).idle.retain(|cell| !Arc::ptr_eq(cell, &grant.cell));
    }

    /// Wakes all idle connections of a queue: they should look whether to leave.
    pub fn shake_idle(&mut self, no: u32) {
        self.scheduler.wake_cells.append(&mut self.queues[no as usize].idle);
    }

    /// A connection has ended.
    pub fn release(&mut self, grant: &Grant, now: Time) {
        let no = grant.queue;
        let fruitless = !grant.asked.load(Relaxed) && !grant.excused.load(Relaxed);
        self.note_asked(grant);
        if grant.prepaid.load(Relaxed)
            && let Some(bucket) = self.queue(no).messages
        {
            self.scheduler.buckets[bucket as usize].bucket.give_back(1);
        }
        let queue = self.queue_mut(no);
        queue.connections -= 1;
        if fruitless && queue.active.len() > 0 {
            // Without this a queue whose connections end at once would be granted one after the other.
            queue.fruitless = queue.fruitless.saturating_add(1);
            let rest_s = 1_u64.checked_shl(queue.fruitless - 1).unwrap_or(BACKOFF_MAX_S).min(BACKOFF_MAX_S);
            let until = now.plus_secs(rest_s);
            if queue.defer.as_ref().is_none_or(|(other, _)| *other < until) {
                queue.defer = Some((until, Reason::BackingOff { until, connections: queue.fruitless }));
            }
        }
        self.totals.connections -= 1;
        if grant.reserved {
            self.scheduler.reserve_used -= 1;
            if !self.scheduler.pools[SERVER_POOL as usize].waiters.is_empty() {
                self.scheduler.set_alarm(self.scheduler.reserve_next, Alarm::Reserve);
            }
        }
        for pool in &grant.pools {
            if let Some(pool) = self.scheduler.pools.get_mut(*pool as usize) {
                pool.used -= 1;
            }
        }
        for pool in &grant.pools {
            self.wake_pool(*pool, now);
        }
        self.consider(no, now);
        self.note_if_spare(no);
    }

    /// Turns a connection to a sibling queue of its binding that has more mail than connections.
    pub fn migrate(&mut self, grant: &mut Grant, to: u32, now: Time) -> bool {
        let from = grant.queue;
        if to == from {
            return false;
        }
        self.refresh_if_old(to, now);
        self.promote(to, now);
        let queue = self.queue(to);
        let pools = queue.pools.clone();
        let fits = !self.closed
            && !queue.limits.blackhole
            && queue.suspended(now).is_none()
            && queue.active.len() > queue.untaken + queue.woken
            && queue.connections < queue.limits.connections_max
            && pools.iter().all(|pool| grant.pools.contains(pool) || self.scheduler.has_room(*pool));
        let messages = queue.messages;
        if !fits || messages.is_some_and(|no| self.scheduler.buckets[no as usize].bucket.take(1, now) == 0) {
            return false;
        }
        for pool in &pools {
            self.scheduler.pools[*pool as usize].used += 1;
        }
        let queue = self.queue_mut(to);
        queue.connections += 1;
        queue.untaken += 1;
        self.totals.connections += 1;
        let cell = Arc::new(WaitCell::default());
        // It leaves its old queue as one that ended in peace.
        self.note_asked(grant);
        let old = std::mem::replace(
            grant,
            Grant {
                queue: to,
                pools,
                reserved: false,
                prepaid: AtomicBool::new(messages.is_some()),
                asked: AtomicBool::new(false),
                excused: AtomicBool::new(false),
                served: AtomicU32::new(0),
                cell,
            },
        );
        self.release(&old, now);
        true
    }

    /// No new connection for a queue before `until`.
    pub fn defer(&mut self, grant: &Grant, until: Time, why: Reason) {
        grant.excused.store(true, Relaxed);
        self.queue_mut(grant.queue).defer = Some((until, why));
    }

    pub fn undefer(&mut self, no: u32, now: Time) {
        if self.queue_mut(no).defer.take().is_some() && self.queue(no).wait == Wait::Deferred {
            self.reconsider(no, now);
        }
    }

    // Changed options.

    /// The configuration has changed: every queue reads its options anew, in pieces.
    pub fn begin_refresh(&mut self, now: Time) {
        self.generation = self.settings.generation();
        self.scheduler.server = self.settings.server();
        self.scheduler.pool(PoolKey::Server, self.scheduler.server.connections_max, self.generation);
        self.scheduler.reserve_next =
            self.scheduler.reserve_next.min(now.plus_secs(self.scheduler.server.reserve_interval_s.max(1)));
        // Nobody waits for an old limit. The queues are looked at below, piece by piece.
        let mut waiting: Vec<u32> = Vec::new();
        for (_, pool) in &mut self.scheduler.pools {
            waiting.extend(pool.waiters.drain(..));
        }
        for (_, shared) in &mut self.scheduler.buckets {
            waiting.extend(shared.waiters.drain(..));
        }
        waiting.extend(self.scheduler.failing.drain(..));
        for no in waiting {
            if let Some(queue) = self.queues.get_mut(no as usize)
                && matches!(queue.wait, Wait::Pool(_) | Wait::Bucket(_) | Wait::Failing)
            {
                queue.wait = Wait::Idle;
            }
        }
        self.scheduler.refresh_at = Some(0);
    }

    fn refresh_step(&mut self, now: Time) {
        let Some(mut at) = self.scheduler.refresh_at else { return };
        let end = self.queues.capacity();
        for _ in 0..STEP_MAX {
            if at >= end {
                self.scheduler.refresh_at = None;
                self.drop_unused_gates();
                return;
            }
            self.steps += 1;
            if self.queues.contains(at) {
                let no = at as u32;
                self.refresh_if_old(no, now);
                if self.adopt_orphans(no, now) {
                    break; // More to move: the same queue again.
                }
                if self.queue(no).suspended(now).is_some() {
                    self.shake_idle(no);
                }
                self.reconsider(no, now);
            }
            at += 1;
        }
        self.scheduler.refresh_at = Some(at);
    }

    fn refresh_if_old(&mut self, no: u32, now: Time) {
        if self.queue(no).generation != self.generation {
            let at = self.place_of(no);
            let limits = self.settings.limits(&at);
            self.apply_limits(no, limits, now);
        }
    }

    /// Takes over the options of a queue.
    pub fn apply_limits(&mut self, no: u32, limits: Limits, now: Time) {
        let generation = self.generation;
        let binding = self.queue(no).binding;
        let mut pools = SmallVec::new();
        pools.push(SERVER_POOL);
        if limits.binding_max != UNLIMITED {
            pools.push(self.scheduler.pool(PoolKey::Binding(binding), limits.binding_max, generation));
        }
        if let Some((owner, limit)) = limits.scope_max {
            pools.push(self.scheduler.pool(PoolKey::Scope(owner), limit, generation));
        }
        let mut bucket = |owner: Option<(OwnerKey, Rate)>| {
            owner
                .filter(|(_, rate)| rate.count > 0)
                .map(|(key, rate)| self.scheduler.bucket(key, rate, generation, now))
        };
        let (messages, connects) = (bucket(limits.messages), bucket(limits.connects));
        let queue = self.queue_mut(no);
        (queue.pools, queue.messages, queue.connects) = (pools, messages, connects);
        (queue.limits, queue.generation) = (limits, generation);
    }

    /// Forgets pools and buckets that no option names any more.
    fn drop_unused_gates(&mut self) {
        let generation = self.generation;
        let Scheduler { pools, pool_index, buckets, bucket_index, .. } = &mut self.scheduler;
        pools.retain(|_, pool| {
            let kept = pool.generation == generation || pool.used > 0 || !pool.waiters.is_empty();
            if !kept {
                pool_index.remove(&pool.key);
            }
            kept
        });
        buckets.retain(|_, shared| {
            let kept = shared.generation == generation || !shared.waiters.is_empty() || shared.alarm != Time::MAX;
            if !kept {
                bucket_index.remove(&shared.key);
            }
            kept
        });
    }
}

/// Connections that a queue may open in one window, by its waiting mail: about one for ten, and at least one.
fn growth(waiting: u32) -> u32 {
    (waiting / 10).max(1)
}
