//! What an open connection may do: take mail, wait for some, move to a sibling domain, end.
//!
//! A connection keeps its place as long as it has mail and nobody is worse off: when other queues wait for a cap or for
//! tokens that it uses, it leaves after its share, so that deep queues with connections that never end starve nobody.
//! Suspensions and lowered caps are looked at here, at take-out, and at no other place on the way.

use crate::entry::NIL;
use crate::explain::Reason;
use crate::limits::UNLIMITED;
use crate::permit::{Grant, WaitCell};
use crate::retry;
use crate::scheduler::{Alarm, SERVER_POOL, Wait};
use crate::table::State;
use crate::taken::Taken;
use ph_message::{Id, Time};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};
use std::time::Duration;

/// Messages after which a connection leaves, if other queues wait for a cap that it counts against.
const YIELD_AFTER: u32 = 100;
/// Messages after which a connection leaves, if other queues wait for the same tokens.
const THROTTLE_QUANTUM: u32 = 20;
/// An open connection waits so long for its next token; for a later one it closes.
const TOKEN_WAIT: Duration = Duration::from_millis(100);
/// Longest rest after connections that ended before they took mail.
const BACKOFF_MAX_S: u64 = 60;
/// How far behind the first message its batch siblings are looked for.
const SIBLING_LOOKAHEAD: u32 = 64;
/// Messages that wait to be failed without an attempt.
pub(crate) const OUTBOX_MAX: usize = 4096;

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
    /// Due mail for a connection, batch siblings first.
    pub fn take(&mut self, grant: &Grant, max: usize, now: Time) -> Vec<Taken> {
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

    /// One due message and its batch siblings, up to `max` in all: what can share a transaction.
    pub fn take_batch(&mut self, grant: &Grant, max: usize, now: Time) -> Vec<Taken> {
        let mut taken = self.take(grant, 1, now);
        let Some(id) = taken.first().map(|first| first.summary.id) else { return taken };
        let Some(slot) = self.find(id).filter(|slot| self.slots[*slot].batched) else { return taken };
        let allowed = self.allowance(grant, now).saturating_add(1).min(u32::try_from(max).unwrap_or(u32::MAX));
        self.fill_siblings(grant.queue, self.slots[slot].batch, allowed, &mut taken);
        let count = taken.len() as u32 - 1;
        grant.served.fetch_add(count, Relaxed);
        if let Some(bucket) = self.queue(grant.queue).messages {
            self.scheduler.buckets[bucket as usize].bucket.take(count, now);
        }
        taken
    }

    fn fill(&mut self, no: u32, allowed: u32, now: Time, taken: &mut Vec<Taken>) {
        let rules = self.queue(no).limits.retry;
        let mut batch = None;
        while (taken.len() as u32) < allowed {
            let head = self.queue(no).active.head();
            if head == NIL {
                return;
            }
            if rules.never_attempt_expired && rules.expired(self.slots[head].created, now) {
                if self.scheduler.outbox.len() >= OUTBOX_MAX {
                    return;
                }
                self.lift(head);
                self.scheduler.outbox.push_back((head, retry::EXPIRED));
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

    fn fill_siblings(&mut self, no: u32, batch: Id, allowed: u32, taken: &mut Vec<Taken>) {
        let mut at = self.queue(no).active.head();
        let mut strangers = 0;
        while at != NIL && (taken.len() as u32) < allowed && strangers < SIBLING_LOOKAHEAD {
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
        self.scheduler.resting.insert(grant.queue);
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
        if grant.prepaid.load(Relaxed) {
            self.give_token_back(no);
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

    /// A message of this queue was charged and not sent.
    pub fn give_token_back(&mut self, no: u32) {
        if let Some(bucket) = self.queue(no).messages
            && let Some(shared) = self.scheduler.buckets.get_mut(bucket as usize)
        {
            shared.bucket.give_back(1);
        }
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
}
