//! Messages that fail without an attempt: expired ones at the front of their queue or in a suspended queue, and the
//! queued mail of a `blackhole`.
//!
//! They are not collected ahead of time: whoever fails them asks for some, and only then are they lifted from their
//! queues. So a million blackholed messages cost no memory and no long lock.

use crate::Queue;
use crate::entry::NIL;
use crate::retry;
use crate::scheduler::Wait;
use crate::table::State;
use crate::taken::Taken;
use ph_message::Time;

/// Messages of a suspended queue that one call looks at.
const SWEEP_STEP: usize = 1024;

/// A message that has to be failed, and the reply text to fail it with.
#[derive(Debug)]
pub struct Final {
    /// The message, in flight.
    pub taken: Taken,
    /// The text for log and report.
    pub text: &'static str,
}

impl Final {
    pub(crate) fn at_home(self, queue: &Queue) -> Final {
        Final { taken: self.taken.at_home(queue), text: self.text }
    }
}

impl State {
    /// Up to `max` messages to fail. Sets `wake_finals` when there may be more.
    pub fn finals(&mut self, max: usize, now: Time) -> Vec<Final> {
        let mut found = Vec::new();
        while found.len() < max
            && let Some((no, text)) = self.scheduler.outbox.pop_front()
        {
            found.push(Final { taken: self.taken(no), text });
        }
        self.blackholed(max, now, &mut found);
        self.sweep(max, now, &mut found);
        let scheduler = &mut self.scheduler;
        scheduler.wake_finals |=
            !scheduler.outbox.is_empty() || !scheduler.failing.is_empty() || !scheduler.sweeping.is_empty();
        found
    }

    fn blackholed(&mut self, max: usize, now: Time, found: &mut Vec<Final>) {
        while found.len() < max
            && let Some(no) = self.scheduler.failing.front().copied()
        {
            let first = self.queues.get(no as usize).filter(|q| q.wait == Wait::Failing && q.limits.blackhole);
            let first = first.and_then(|queue| match queue.active.head() {
                NIL => queue.delayed.first(&self.slots),
                head => Some(head),
            });
            match first {
                Some(slot) => {
                    self.lift(slot);
                    found.push(Final { taken: self.taken(slot), text: retry::BLACKHOLED });
                }
                None => {
                    self.scheduler.failing.pop_front();
                    if self.queues.get(no as usize).is_some_and(|queue| queue.wait == Wait::Failing) {
                        self.reconsider(no, now);
                    }
                }
            }
        }
    }

    /// Goes on looking through suspended queues for expired mail. The active list is turned once around (its urgent part and the
    /// rest, each for itself), the delayed tree walked by position, so both may change between two calls.
    fn sweep(&mut self, max: usize, now: Time, found: &mut Vec<Final>) {
        let mut looked = 0;
        while found.len() < max
            && looked < SWEEP_STEP
            && let Some(no) = self.scheduler.sweeping.front().copied()
        {
            looked += 1;
            self.steps += 1;
            let suspended = self.queues.get(no as usize).is_some_and(|queue| queue.suspended(now).is_some());
            if !suspended {
                self.scheduler.sweeping.pop_front();
                if let Some(queue) = self.queues.get_mut(no as usize)
                    && queue.sweep.take().is_some()
                {
                    // Not everything was seen: the next suspension begins with a look.
                    queue.oldest = Time::ZERO;
                }
                continue;
            }
            let rules = self.queue(no).limits.retry;
            let text = if rules.never_attempt_expired { retry::EXPIRED } else { retry::EXCEEDED_TIME };
            let Some((urgent_left, active_left, position)) =
                self.queue(no).sweep.as_ref().map(|s| (s.urgent_left, s.active_left, s.position))
            else {
                self.scheduler.sweeping.pop_front();
                continue;
            };
            let active = &self.queue(no).active;
            let rest = active.head_of_rest(&self.slots);
            let is_urgent = urgent_left > 0 && active.urgent_len() > 0;
            if is_urgent || active_left > 0 && rest != NIL {
                let head = if is_urgent { active.head() } else { rest };
                if let Some(sweep) = self.queue_mut(no).sweep.as_mut() {
                    let left = if is_urgent { &mut sweep.urgent_left } else { &mut sweep.active_left };
                    *left -= 1;
                }
                self.lift(head);
                if rules.expired(self.slots[head].created, now) {
                    found.push(Final { taken: self.taken(head), text });
                } else {
                    let due = self.slots[head].due;
                    self.settle_active(head, due, false);
                }
                continue;
            }
            let position = position.unwrap_or((Time(i64::MIN), 0));
            match self.queue(no).delayed.after(&self.slots, position) {
                Some(slot) => {
                    let (due, created) = (self.slots[slot].due, self.slots[slot].created);
                    let queue = self.queue_mut(no);
                    queue.oldest = queue.oldest.min(created);
                    if let Some(sweep) = queue.sweep.as_mut() {
                        sweep.position = Some((due, slot));
                    }
                    if rules.expired(created, now) {
                        self.lift(slot);
                        found.push(Final { taken: self.taken(slot), text });
                    }
                }
                None => {
                    self.queue_mut(no).sweep = None;
                    self.scheduler.sweeping.pop_front();
                    self.reconsider(no, now);
                }
            }
        }
    }
}
