//! Caps on connections that several queues share: waiting in line for a place, and getting one.
//!
//! A place that becomes free wakes the queue that waits longest and is kept for it; an idle connection does not keep one from a
//! queue that has mail.

use crate::scheduler::{Alarm, Gate, SERVER_POOL, STEP_MAX, Wait};
use crate::table::State;
use ph_message::Time;

impl State {
    pub fn reserve_open(&self, no: u32, now: Time) -> bool {
        let scheduler = &self.scheduler;
        self.queue(no).connections == 0
            && scheduler.reserve_used < scheduler.server.reserve
            && now >= scheduler.reserve_next
    }

    pub fn park_at_pool(&mut self, no: u32, pool: u32, was_first: bool) {
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
        self.shake_one_of(pool);
    }

    /// Tells one idle connection that somebody waits for its place: it looks whether to leave. Otherwise the place would be kept
    /// for as long as the connection may be idle.
    fn shake_one_of(&mut self, pool: u32) {
        let from = self.scheduler.resting_at;
        let resting = &self.scheduler.resting;
        let found: Vec<u32> = resting.range(from..).chain(resting.range(..from)).copied().take(STEP_MAX).collect();
        for no in found {
            self.steps += 1;
            self.scheduler.resting_at = no.saturating_add(1);
            let cell = match self.queues.get_mut(no as usize) {
                Some(queue) if queue.idle.is_empty() => None,
                Some(queue) if !queue.pools.contains(&pool) => continue,
                Some(queue) => queue.idle.pop(),
                None => None,
            };
            match cell {
                Some(cell) => return self.scheduler.wake_cells.push(cell),
                None => _ = self.scheduler.resting.remove(&no),
            }
        }
    }

    /// A place in a pool is free: the queue that waits longest gets its turn, and the place is kept for it.
    pub fn wake_pool(&mut self, pool: u32, now: Time) {
        while self.scheduler.has_room(pool) {
            let Some(no) = self.scheduler.pools.get_mut(pool as usize).and_then(|pool| pool.waiters.pop_front()) else {
                return;
            };
            self.steps += 1;
            if self.queues.get(no as usize).is_none_or(|queue| queue.wait != Wait::Pool(pool)) {
                continue; // It left the list long ago.
            }
            self.reconsider(no, now);
            if self.is_ready(no) {
                self.queue_mut(no).woken_by = Some(Gate::Pool(pool));
                self.scheduler.pools[pool as usize].claims += 1;
            }
        }
    }

    /// A woken queue did not use the place: the next one may.
    pub fn pass_on(&mut self, gate: Option<Gate>, now: Time) {
        // A bucket has an alarm for the next of its queues already.
        if let Some(Gate::Pool(pool)) = gate {
            self.wake_pool(pool, now);
        }
    }
}
