//! Changed options: every queue reads its own anew, in pieces, and is looked at again.
//!
//! Pools and buckets live on under the key of the scope that owns them: connections stay counted, tokens stay spent. Those
//! that no option names any more are forgotten at the end.

use crate::limits::{Limits, OwnerKey, UNLIMITED};
use crate::scheduler::{PoolKey, SERVER_POOL, STEP_MAX, Scheduler, Wait};
use crate::table::State;
use crate::throttle::Rate;
use ph_message::Time;
use smallvec::SmallVec;
use std::sync::Arc;

impl State {
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

    pub fn refresh_step(&mut self, now: Time) {
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
                if self.queues.get(at).is_some_and(|queue| queue.suspended(now).is_some()) {
                    self.shake_idle(no);
                }
                self.reconsider(no, now);
            }
            at += 1;
        }
        self.scheduler.refresh_at = Some(at);
    }

    pub fn refresh_if_old(&mut self, no: u32, now: Time) {
        if self.queue(no).generation != self.generation {
            let at = self.place_of(no);
            let limits = self.settings.limits(&at);
            self.apply_limits(no, limits, self.generation, now);
        }
    }

    /// Takes over the options of a queue, read in a generation that may be newer than the one looked at last.
    pub fn apply_limits(&mut self, no: u32, limits: Limits, generation: u64, now: Time) {
        let binding = self.queue(no).binding;
        // Options that were read just before a change must not make the gates of the change look out of date: the queue
        // would keep numbers of gates that are forgotten at its end.
        let stamp = generation.max(self.generation);
        let mut pools = SmallVec::new();
        pools.push(SERVER_POOL);
        if limits.binding_max != UNLIMITED {
            pools.push(self.scheduler.pool(PoolKey::Binding(binding), limits.binding_max, stamp));
        }
        if let Some((owner, limit)) = limits.scope_max {
            pools.push(self.scheduler.pool(PoolKey::Scope(owner), limit, stamp));
        }
        let mut bucket = |owner: Option<(OwnerKey, Rate)>| {
            owner.filter(|(_, rate)| rate.count > 0).map(|(key, rate)| self.scheduler.bucket(key, rate, stamp, now))
        };
        let (messages, connects) = (bucket(limits.messages), bucket(limits.connects));
        if *self.last_limits != limits {
            self.last_limits = Arc::new(limits);
        }
        let limits = self.last_limits.clone();
        let queue = self.queue_mut(no);
        (queue.pools, queue.messages, queue.connects) = (pools, messages, connects);
        (queue.limits, queue.generation) = (limits, generation);
    }

    /// Forgets pools and buckets that no option names any more.
    fn drop_unused_gates(&mut self) {
        let generation = self.generation;
        let Scheduler { pools, pool_index, buckets, bucket_index, .. } = &mut self.scheduler;
        pools.retain(|_, pool| {
            let kept = pool.generation >= generation || pool.used + pool.claims > 0 || !pool.waiters.is_empty();
            if !kept {
                pool_index.remove(&pool.key);
            }
            kept
        });
        buckets.retain(|_, shared| {
            let kept = shared.generation >= generation || !shared.waiters.is_empty() || shared.alarm != Time::MAX;
            if !kept {
                bucket_index.remove(&shared.key);
            }
            kept
        });
    }
}
