//! The queue as the rest of the program sees it: push, next connection, take, outcome.
//!
//! One lock guards the table; no call holds it for more than a bounded number of steps, none holds it over an `await`,
//! and whoever has to be woken is woken after it is free. Time comes from the clock alone.

use crate::connection::Standing;
use crate::explain::Reason;
use crate::finals::Final;
use crate::hosts::{Hosts, WaitFor};
use crate::limits::{Limits, Settings};
use crate::names::{DEFAULT, QueueRef};
use crate::permit::Permit;
use crate::retry::{self, Attempt, RetryRules, Verdict};
use crate::scheduler::Step;
use crate::table::{Prepared, State};
use crate::taken::Taken;
use parking_lot::Mutex;
use ph_eventlog::Clock;
use ph_message::{Id, SpoolKey, Summary, Time};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;
use tokio::sync::Notify;

/// How long a sleeping dispatcher goes without looking whether the configuration has changed.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// Messages that one lock queues.
const PUSH_STEP: usize = 64;
/// Octets of a reply that are kept as the last error of a queue.
const LAST_ERROR_MAX: usize = 512;

/// All queues of the process. Clones share them.
#[derive(Clone)]
pub struct Queue(pub(crate) Arc<Inner>);

pub(crate) struct Inner {
    state: Mutex<State>,
    pub hosts: Mutex<Hosts>,
    pub settings: Arc<dyn Settings>,
    pub clock: Clock,
    work: Notify,
    finals: Notify,
}

impl std::fmt::Debug for Queue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Queue")
    }
}

impl Queue {
    /// An empty queue with options from `settings`.
    pub fn with_settings(settings: Arc<dyn Settings>, clock: Clock) -> Queue {
        let state = State::new(settings.clone(), clock.now());
        Queue(Arc::new(Inner {
            state: Mutex::new(state),
            hosts: Mutex::new(Hosts::default()),
            settings,
            clock,
            work: Notify::new(),
            finals: Notify::new(),
        }))
    }

    // Mail comes in.

    /// Queues one message: at once, unless `summary.next_attempt` lies ahead. False: its id is queued already.
    ///
    /// The domain is taken as it is: whoever applies `gateway` has done so. An undeclared binding is `default`.
    pub fn push(&self, key: SpoolKey, summary: Summary) -> bool {
        self.enqueue(key, &summary, true)
    }

    /// Queues the messages of one reception, which then lie side by side. Returns how many were new.
    pub fn push_all(&self, messages: &[(SpoolKey, Summary)]) -> usize {
        let mut pushed = 0;
        for piece in messages.chunks(PUSH_STEP) {
            // Those whose queue has to be made come one by one, since its options are read with the lock free.
            let mut others = Vec::new();
            self.with(|state, now| {
                for message @ (key, summary) in piece {
                    let (group, binding) = (or_default(&summary.binding_group), or_default(&summary.binding));
                    match state.find_live_queue(group, binding, &summary.domain) {
                        Some(queue) => pushed += usize::from(state.accept(queue, *key, summary, true, now)),
                        None => others.push(message),
                    }
                }
            });
            pushed += others.into_iter().filter(|(key, summary)| self.enqueue(*key, summary, true)).count();
        }
        pushed
    }

    /// Queues a message that a restart found in the spool: where its state says, and as new mail where it has none. A state
    /// is lost only with the last second before a crash, so one without has hardly ever been tried. To take it for one that
    /// the schedule has had already would let a whole backlog wait again for as long as it has waited.
    pub fn recover(&self, key: SpoolKey, summary: Summary) -> bool {
        self.enqueue(key, &summary, false)
    }

    fn enqueue(&self, key: SpoolKey, summary: &Summary, is_new: bool) -> bool {
        let (group, binding) = (or_default(&summary.binding_group), or_default(&summary.binding));
        // The usual case: the queue is there. Otherwise its options are read first, with the lock free.
        let found = self.with(|state, now| {
            let queue = state.find_live_queue(group, binding, &summary.domain)?;
            Some(state.accept(queue, key, summary, is_new, now))
        });
        found.unwrap_or_else(|| {
            let prepared = Prepared::new(&*self.0.settings, QueueRef::new(group, binding, &summary.domain));
            self.with(|state, now| {
                let queue = state.ensure_queue(prepared, now);
                state.accept(queue, key, summary, is_new, now)
            })
        })
    }

    // Mail goes out.

    /// Waits until some queue has due mail and every cap and throttle lets a connection for it be opened, and gives that
    /// connection out. Queues are served in turn. Cancel by dropping; any number of tasks may wait.
    pub async fn next_connection(&self) -> Permit {
        loop {
            let step = self.with(|state, now| match state.step(now) {
                Step::Granted(grant) => {
                    let at = state.place_of(grant.queue);
                    (Some(Permit { inner: self.clone(), grant, at }), Time::ZERO)
                }
                Step::Again => (None, Time::ZERO),
                Step::Sleep(Time::MAX) if state.closed => (None, Time::MAX),
                Step::Sleep(until) => (None, until.min(now.plus(LOOK_AGAIN))),
            });
            match step {
                (Some(permit), _) => return permit,
                (None, Time::ZERO) => tokio::task::yield_now().await,
                (None, until) => tokio::select! {
                    () = self.0.work.notified() => {}
                    () = self.0.clock.sleep_until(until) => {}
                },
            }
        }
    }

    /// Takes up to `max` due messages for a connection, batch siblings of the first one first. They are in flight then.
    /// Each costs a token of the message throttle. Empty: ask `wait_for_work` whether to wait or to close.
    pub fn take(&self, permit: &Permit, max: usize) -> Vec<Taken> {
        let taken = self.with(|state, now| state.take(&permit.grant, max, now));
        taken.into_iter().map(|taken| taken.at_home(self)).collect()
    }

    /// As `take`, but nothing besides the first message and its batch siblings: up to `max` that may share a transaction.
    pub fn take_batch(&self, permit: &Permit, max: usize) -> Vec<Taken> {
        let taken = self.with(|state, now| state.take_batch(&permit.grant, max, now));
        taken.into_iter().map(|taken| taken.at_home(self)).collect()
    }

    /// Waits for mail that this connection may take. False: none came within `span`, or the connection should close now
    /// (suspension, a lowered cap, an exhausted throttle, or another queue needs its place).
    pub async fn wait_for_work(&self, permit: &Permit, span: Duration) -> bool {
        let deadline = self.0.clock.now().plus(span);
        loop {
            let standing = self.with(|state, now| {
                let standing = state.standing(&permit.grant, now);
                if standing == Standing::Idle && now < deadline {
                    state.enlist_idle(&permit.grant);
                } else if standing == Standing::Leave {
                    permit.grant.excused.store(true, Relaxed);
                }
                standing
            });
            match standing {
                Standing::Work => return true,
                Standing::Leave => return false,
                Standing::TokenAt(time) => self.0.clock.sleep_until(time).await,
                Standing::Idle if self.0.clock.now() >= deadline => {
                    // Enlisted a moment ago perhaps: the guard takes it back.
                    drop(Enlisted { permit });
                    return self.with(|state, now| state.standing(&permit.grant, now)) == Standing::Work;
                }
                Standing::Idle => {
                    let _enlisted = Enlisted { permit };
                    tokio::select! {
                        () = permit.grant.cell.notify.notified() => {}
                        () = self.0.clock.sleep_until(deadline) => {}
                    }
                }
            }
        }
    }

    /// Turns a connection to another domain of the same binding that has mail for it (`migrate_connections_between_
    /// sibling_domains`: the caller knows that they share the address). False: it stays where it is.
    pub fn migrate(&self, permit: &mut Permit, domain: &str) -> bool {
        let at = QueueRef { domain: domain.into(), ..permit.at.clone() };
        let Permit { grant, .. } = permit;
        let moved = self.with(|state, now| {
            let to = state.find_live_queue(&at.group, &at.binding, &at.domain)?;
            state.migrate(grant, to, now).then_some(())
        });
        if moved.is_some() {
            permit.at = at;
        }
        moved.is_some()
    }

    // Outcomes.

    /// The peer has it. The message leaves the queue.
    pub fn delivered(&self, taken: Taken) {
        self.settle(taken, |state, no, _| {
            state.count(state.slots[no].queue, |counters| counters.deliveries += 1);
            state.discard(no);
        });
    }

    /// It failed for good. The message leaves the queue.
    pub fn failed(&self, taken: Taken) {
        self.settle(taken, |state, no, _| {
            state.count(state.slots[no].queue, |counters| counters.failures += 1);
            state.discard(no);
        });
    }

    /// It leaves the queue without an outcome of its own: handed over, or discarded by a policy.
    pub fn removed(&self, taken: Taken) {
        self.settle(taken, |state, no, _| state.discard(no));
    }

    /// Nothing was tried: back to the front of the active list, no attempt counted, its token given back.
    pub fn give_back(&self, taken: Taken) {
        drop(taken);
    }

    /// As `give_back` for several, which keep their order.
    pub fn give_back_all(&self, taken: Vec<Taken>) {
        taken.into_iter().rev().for_each(drop);
    }

    /// The attempt failed for now: next one at `next_attempt`, one more attempt counted.
    pub fn retry(&self, taken: Taken, next_attempt: Time) {
        let number = taken.summary.retries;
        self.settle(taken, |state, no, now| {
            let slot = &mut state.slots[no];
            slot.attempts = slot.attempts.saturating_add(1);
            slot.retries = u16::try_from(number).unwrap_or(u16::MAX);
            state.count(state.slots[no].queue, |counters| counters.transients += 1);
            state.return_home(no, next_attempt, now);
        });
    }

    /// Nothing was tried, and there is no sense in trying before `until`: no attempt is counted, its token is given back.
    pub fn postpone(&self, taken: Taken, until: Time) {
        self.settle(taken, |state, no, now| {
            state.give_token_back(state.slots[no].queue);
            state.return_home(no, until, now);
        });
    }

    /// A `Taken` was dropped by a task that broke.
    pub(crate) fn set_aside(&self, no: u32, id: Id, rest: Duration) {
        self.with(|state, now| {
            if state.is_in_flight(no, id) {
                state.give_token_back(state.slots[no].queue);
                state.return_home(no, now.plus(rest), now);
            }
        });
    }

    /// What the retry schedule says about a failed attempt now, by the options of now.
    pub fn decide(&self, taken: &Taken) -> Verdict {
        let summary = &taken.summary;
        let rules = self.rules(&QueueRef::new(&summary.binding_group, &summary.binding, &summary.domain));
        let attempt = Attempt { created: summary.created, retries: summary.retries };
        retry::decide(&rules, &attempt, self.0.clock.now())
    }

    fn settle(&self, mut taken: Taken, outcome: impl FnOnce(&mut State, u32, Time)) {
        let (no, id) = (taken.redeem(), taken.summary.id);
        self.with(|state, now| {
            if state.is_in_flight(no, id) {
                outcome(state, no, now);
            }
        });
    }

    /// A `Taken` was dropped.
    pub(crate) fn put_back(&self, no: u32, id: Id) {
        self.with(|state, now| {
            if !state.is_in_flight(no, id) {
                return;
            }
            let queue = state.slots[no].queue;
            state.give_token_back(queue);
            let due = state.slots[no].due;
            if state.names.bindings[state.queue(queue).binding as usize].gone {
                return state.return_home(no, due, now);
            }
            state.settle_active(no, due.min(now), true);
            state.arrived(queue, now);
        });
    }

    // Messages that fail without an attempt.

    /// Waits for messages that must fail unattempted: expired ones (`never_attempt_expired_messages`, or in a suspended
    /// queue) and those of a `blackhole`. The caller logs, reports, removes them from the spool, and calls `failed`. At
    /// most `max` at a time. One task has to ask for these all the time.
    pub async fn next_finals(&self, max: usize) -> Vec<Final> {
        loop {
            let found = self.with(|state, now| state.finals(max, now));
            if !found.is_empty() {
                return found.into_iter().map(|found| found.at_home(self)).collect();
            }
            self.0.finals.notified().await;
        }
    }

    // Reaching the domain.

    /// A host of the domain answered: its count of failures starts anew.
    pub fn contact(&self, at: &QueueRef) {
        self.with(|state, _| {
            if let Some(no) = state.find_queue(&at.group, &at.binding, &at.domain) {
                let queue = state.queue_mut(no);
                (queue.failures, queue.failing_since) = (0, None);
            }
        });
    }

    /// No host of the domain could be reached. True: too often (`mx_failures_to_delay`) or for too long
    /// (`connect_timeout_to_delay`); the caller then takes all its active mail (`drain`) and retries it later, with
    /// `retry::UNREACHABLE`.
    pub fn no_contact(&self, at: &QueueRef) -> bool {
        self.with(|state, now| {
            let Some(no) = state.find_queue(&at.group, &at.binding, &at.domain) else { return false };
            let queue = state.queue_mut(no);
            queue.failures = queue.failures.saturating_add(1);
            let since = *queue.failing_since.get_or_insert(now);
            let (often, long_s) = (queue.limits.mx_failures_to_delay, queue.limits.connect_timeout_to_delay_s);
            often > 0 && queue.failures >= often || long_s > 0 && now.since(since).as_secs() >= long_s
        })
    }

    /// Takes up to `max` active messages of a queue without a connection, oldest first: to delay or to fail them.
    pub fn drain(&self, at: &QueueRef, max: usize) -> Vec<Taken> {
        let taken: Vec<Taken> = self.with(|state, _| {
            let Some(no) = state.find_queue(&at.group, &at.binding, &at.domain) else { return Vec::new() };
            let mut taken = Vec::new();
            while taken.len() < max && state.queue(no).active.len() > 0 {
                let head = state.queue(no).active.head();
                state.lift(head);
                taken.push(state.taken(head));
            }
            taken
        });
        taken.into_iter().map(|taken| taken.at_home(self)).collect()
    }

    /// Keeps the last error of a queue for the console: a reply, or an internal text.
    pub fn note_error(&self, at: &QueueRef, text: &str) {
        let cut = text.floor_char_boundary(LAST_ERROR_MAX);
        self.with(|state, now| {
            if let Some(no) = state.find_queue(&at.group, &at.binding, &at.domain) {
                state.queue_mut(no).last_error = Some((now, text[..cut].into()));
            }
        });
    }

    // Options.

    /// The options of a queue, as they are now.
    pub fn limits(&self, at: &QueueRef) -> Limits {
        let generation = self.0.settings.generation();
        let known = self.with(|state, _| {
            let queue = state.queue(state.find_live_queue(&at.group, &at.binding, &at.domain)?);
            (queue.generation == generation).then(|| Limits::clone(&queue.limits))
        });
        known.unwrap_or_else(|| Prepared::new(&*self.0.settings, at.clone()).limits)
    }

    /// The retry options of a queue, as they are now.
    pub fn rules(&self, at: &QueueRef) -> RetryRules {
        self.limits(at).retry
    }

    /// The configuration has been swapped: look at every queue with the new options now. Without this call they are
    /// noticed within a second.
    pub fn config_changed(&self) {
        self.with(|state, now| {
            if state.settings.generation() != state.generation {
                state.begin_refresh(now);
            }
            state.scheduler.wake_dispatcher = true;
        });
    }

    /// Gives no more connections out, and lets open ones close after the message in hand. Mail can still be pushed.
    pub fn close(&self) {
        self.with(|state, _| {
            state.closed = true;
            let queues: Vec<u32> = state.queues.iter().map(|(no, _)| no as u32).collect();
            for no in queues {
                state.shake_idle(no);
            }
        });
    }

    /// Runs under the lock, then wakes whom the call said to wake.
    pub(crate) fn with<R>(&self, run: impl FnOnce(&mut State, Time) -> R) -> R {
        let now = self.0.clock.now();
        let mut state = self.0.state.lock();
        let result = run(&mut state, now);
        let dispatcher = std::mem::take(&mut state.scheduler.wake_dispatcher);
        let finals = std::mem::take(&mut state.scheduler.wake_finals);
        let cells = std::mem::take(&mut state.scheduler.wake_cells);
        drop(state);
        for cell in cells {
            cell.notify.notify_one();
        }
        if dispatcher {
            self.0.work.notify_one();
        }
        if finals {
            self.0.finals.notify_one();
        }
        result
    }

    // The permit's calls.

    pub(crate) fn release(&self, permit: &Permit) {
        self.with(|state, now| state.release(&permit.grant, now));
    }

    pub(crate) fn defer(&self, permit: &Permit, until: Time, why: Reason) {
        self.with(|state, _| state.defer(&permit.grant, until, why));
    }

    pub(crate) fn another_connect(&self, permit: &Permit) -> bool {
        self.with(|state, now| {
            let Some(bucket) = state.queue(permit.grant.queue).connects else { return true };
            state.scheduler.buckets[bucket as usize].bucket.take(1, now) == 1
        })
    }

    pub(crate) fn wait_for_host(&self, permit: &Permit, host: IpAddr, what: WaitFor) {
        let serial = self.with(|state, _| state.queue(permit.grant.queue).serial);
        let waiter = (permit.grant.queue, serial);
        let now = self.0.clock.now();
        if !self.0.hosts.lock().wait(&permit.at, host, waiter, what, now) {
            self.with(|state, now| state.undefer(permit.grant.queue, now));
        }
    }
}

/// An idle connection's place in the list; leaving the wait in whatever way takes it back.
struct Enlisted<'a> {
    permit: &'a Permit,
}

impl Drop for Enlisted<'_> {
    fn drop(&mut self) {
        self.permit.inner.with(|state, _| state.delist_idle(&self.permit.grant));
    }
}

fn or_default(name: &str) -> &str {
    if name.is_empty() { DEFAULT } else { name }
}
