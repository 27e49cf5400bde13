//! What an operator or a policy does to queued mail: suspend, flush, delay, fail, reroute, rebind.
//!
//! Whatever may touch many messages is a job that goes in steps of at most `STEP` messages, with the lock free in
//! between: a million messages never hold the rest up, progress can be shown, and a job that is dropped just ends there.
//! A job counts at its start what it will touch, hence it ends even when mail keeps coming. Messages in delivery are
//! left alone.

use crate::Queue;
use crate::names::QueueRef;
use crate::order::key_of;
use crate::table::{Prepared, State};
use crate::taken::Taken;
use compact_str::CompactString;
use ph_message::{Id, SpoolKey, Time};
use std::collections::VecDeque;
use std::sync::Arc;

/// Messages that one step moves.
const STEP: usize = 512;
/// Suspensions that the console and policies may have set at one time.
const HOLDS_MAX: usize = 4096;
/// Octets of a note.
const NOTE_MAX: usize = 512;
/// Bindings that went, of which the move is remembered until someone asks.
const ORPHANS_MAX: usize = 64;

/// Which queues: those that fit every part that is given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scope {
    /// The binding group.
    pub group: Option<CompactString>,
    /// The binding.
    pub binding: Option<CompactString>,
    /// The routing domain, lower-cased.
    pub domain: Option<CompactString>,
}

impl Scope {
    /// Every queue.
    pub fn all() -> Scope {
        Scope::default()
    }

    /// All queues of a domain.
    pub fn domain(name: &str) -> Scope {
        Scope { domain: Some(name.to_ascii_lowercase().into()), ..Scope::default() }
    }

    /// All queues of a binding.
    pub fn binding(name: &str) -> Scope {
        Scope { binding: Some(name.into()), ..Scope::default() }
    }

    /// One queue.
    pub fn of(at: &QueueRef) -> Scope {
        Scope { group: Some(at.group.clone()), binding: Some(at.binding.clone()), domain: Some(at.domain.clone()) }
    }

    fn fits(&self, at: &QueueRef) -> bool {
        self.group.as_ref().is_none_or(|group| *group == at.group)
            && self.binding.as_ref().is_none_or(|binding| *binding == at.binding)
            && self.domain.as_ref().is_none_or(|domain| *domain == at.domain)
    }
}

/// Why a message could not be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QueueError {
    /// No such message is queued.
    #[error("message {0} not found")]
    Unknown(Id),
    /// It is being delivered at this moment.
    #[error("message {0} is in delivery")]
    InDelivery(Id),
    /// The table of suspensions is full.
    #[error("there are {HOLDS_MAX} suspensions already")]
    TooManySuspensions,
}

/// A suspension by the console or a policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hold {
    /// Which queues.
    pub scope: Scope,
    /// Since when.
    pub since: Time,
    /// Until when; `Time::MAX`: until it is lifted.
    pub until: Time,
    /// Why, for the console.
    pub note: Box<str>,
    /// The user of the console who set it; empty: the server itself or a policy.
    pub by: Box<str>,
}

/// A suspension that holds for a queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Suspension {
    /// `suspend_delivery` is set.
    Config,
    /// By the console or a policy.
    Hold(Arc<Hold>),
}

/// Mail of a binding that the configuration does not have any more (or not in that group), moved to `default` or to the
/// group that has the binding now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Orphan {
    /// Group of the binding that went.
    pub group: CompactString,
    /// The binding that went.
    pub binding: CompactString,
    /// Messages moved.
    pub moved: u64,
}

#[derive(Debug, Default)]
pub(crate) struct Orphans(Vec<Orphan>);

/// A message that a job has moved: what its spool record should say now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moved {
    /// Its slot in the spool.
    pub key: SpoolKey,
    /// Its id.
    pub id: Id,
    /// Its next attempt now.
    pub next_attempt: Time,
}

impl Queue {
    // Suspension.

    /// No connection and no message is given to these queues until `until` (or until it is lifted), from now on;
    /// attempts under way finish. A suspension of the same scope is replaced.
    pub fn suspend(&self, scope: Scope, until: Option<Time>, note: &str) -> Result<(), QueueError> {
        let since = self.0.clock.now();
        self.hold(Hold { scope, since, until: until.unwrap_or(Time::MAX), note: note.into(), by: "".into() })
    }

    /// As `suspend`, with all that is known of it: a user's suspension, or one of before a restart.
    pub fn hold(&self, mut hold: Hold) -> Result<(), QueueError> {
        if hold.note.len() > NOTE_MAX {
            hold.note = hold.note[..hold.note.floor_char_boundary(NOTE_MAX)].into();
        }
        let hold = Arc::new(hold);
        self.with(|state, now| {
            state.holds.retain(|other| other.until > now && other.scope != hold.scope);
            if state.holds.len() >= HOLDS_MAX {
                return Err(QueueError::TooManySuspensions);
            }
            state.holds.push(hold.clone());
            state.apply_holds_in(&hold.scope, now);
            Ok(())
        })
    }

    /// Lifts the suspension of exactly this scope. False: there was none.
    pub fn resume(&self, scope: &Scope) -> bool {
        self.with(|state, now| {
            let before = state.holds.len();
            state.holds.retain(|hold| hold.scope != *scope);
            state.apply_holds_in(scope, now);
            state.holds.len() < before
        })
    }

    /// Suspensions by console and policies that hold now.
    pub fn holds(&self) -> Vec<Arc<Hold>> {
        self.with(|state, now| state.holds.iter().filter(|hold| hold.until > now).cloned().collect())
    }

    /// Whether and why a queue is suspended, be there mail in it or not: groups avoid bindings that are.
    pub fn suspension(&self, at: &QueueRef) -> Option<Suspension> {
        let hold = self.with(|state, now| {
            state.holds.iter().filter(|hold| hold.until > now && hold.scope.fits(at)).max_by_key(|h| h.until).cloned()
        });
        if self.limits(at).suspend { Some(Suspension::Config) } else { hold.map(Suspension::Hold) }
    }

    // Many messages.

    /// Requeues the delayed mail of a scope for delivery now (or spread over `delayed_binding_domain_fuzz`).
    pub fn flush(&self, scope: &Scope) -> Job {
        self.job(scope, Work::Flush)
    }

    /// Delays the mail of a scope until `until`; what is due later anyway stays.
    pub fn delay(&self, scope: &Scope, until: Time) -> Job {
        self.job(scope, Work::Delay(until))
    }

    /// Queues the mail of a scope under another routing domain, in the same bindings.
    pub fn reroute(&self, scope: &Scope, domain: &str) -> Job {
        self.job(scope, Work::Reroute(domain.to_ascii_lowercase().into()))
    }

    /// Takes the waiting mail of a scope out, piece by piece, to fail or to discard it.
    pub fn purge(&self, scope: &Scope) -> Purge {
        let targets = self.targets(scope);
        Purge { queue: self.clone(), targets }
    }

    /// How many messages of a scope wait (active and delayed): what a purge or a reroute would touch.
    pub fn count(&self, scope: &Scope) -> u64 {
        self.targets(scope).iter().map(|target| u64::from(target.active) + u64::from(target.delayed)).sum()
    }

    fn job(&self, scope: &Scope, work: Work) -> Job {
        let mut targets = self.targets(scope);
        if let Work::Flush = work {
            targets.iter_mut().for_each(|target| target.active = 0);
        }
        Job { queue: self.clone(), targets, work, done: 0 }
    }

    fn targets(&self, scope: &Scope) -> VecDeque<Target> {
        self.with(|state, _| {
            let queues = state.queues_in(scope);
            let target = |no: u32| {
                let queue = state.queue(no);
                let (active, delayed) = (queue.active.len(), queue.delayed.len());
                Target { no, serial: queue.serial, active, delayed, position: None }
            };
            queues.into_iter().map(target).collect()
        })
    }

    // One message.

    /// Requeues one message for delivery now, at the front of its queue.
    pub fn requeue(&self, id: Id) -> Result<(), QueueError> {
        self.with(|state, now| {
            let no = state.lift_by_id(id)?;
            let queue = state.slots[no].queue;
            state.settle_active(no, now, true);
            state.undefer(queue, now);
            state.arrived(queue, now);
            Ok(())
        })
    }

    /// Takes one waiting message out, to fail it, to discard it, or to decide anew about it.
    pub fn take_one(&self, id: Id) -> Result<Taken, QueueError> {
        let taken = self.with(|state, _| state.lift_by_id(id).map(|no| state.taken(no)))?;
        Ok(taken.at_home(self))
    }

    /// Delays one message until `until`.
    pub fn delay_one(&self, id: Id, until: Time) -> Result<(), QueueError> {
        self.with(|state, now| {
            let no = state.lift_by_id(id)?;
            state.return_home(no, until, now);
            Ok(())
        })
    }

    /// Queues one message elsewhere (rebind, reroute); its due time stays. Returns where it is now, which is `default`
    /// when the binding is not declared.
    pub fn move_one(&self, id: Id, to: &QueueRef) -> Result<QueueRef, QueueError> {
        let mut prepared = Some(Prepared::new(&*self.0.settings, to.clone()));
        self.with(|state, now| {
            let no = state.lift_by_id(id)?;
            let Some(prepared) = prepared.take() else { return Err(QueueError::Unknown(id)) };
            let queue = state.ensure_queue(prepared, now);
            state.transfer(no, queue);
            let due = state.slots[no].due;
            state.return_home(no, due, now);
            Ok(state.place_of(queue))
        })
    }

    /// What was moved to `default` because its binding went with a reload, since the last call: for a warning.
    pub fn orphans(&self) -> Vec<Orphan> {
        self.with(|state, _| std::mem::take(&mut state.orphans.0))
    }
}

/// A change of many messages that goes in steps.
#[derive(Debug)]
pub struct Job {
    queue: Queue,
    targets: VecDeque<Target>,
    work: Work,
    done: u64,
}

#[derive(Debug)]
enum Work {
    Flush,
    Delay(Time),
    Reroute(CompactString),
}

/// What is left to do in one queue.
#[derive(Debug)]
struct Target {
    no: u32,
    serial: u64,
    active: u32,
    delayed: u32,
    position: Option<(Time, u32)>,
}

impl Job {
    /// How many messages are left to look at.
    pub fn left(&self) -> u64 {
        self.targets.iter().map(|target| u64::from(target.active) + u64::from(target.delayed)).sum()
    }

    /// How many messages have been moved.
    pub fn done(&self) -> u64 {
        self.done
    }

    /// The next piece; `None` when there is nothing left to do.
    pub fn step(&mut self) -> Option<Vec<Moved>> {
        let mut moved = Vec::new();
        let mut looked = 0;
        while looked < STEP {
            let Some(target) = self.targets.front_mut() else { break };
            let reroute = match &self.work {
                Work::Reroute(domain) => match self.queue.place_if(target.no, target.serial) {
                    Some(at) if at.domain != *domain => {
                        Some(Prepared::new(&*self.queue.0.settings, QueueRef { domain: domain.clone(), ..at }))
                    }
                    _ => {
                        self.targets.pop_front();
                        continue;
                    }
                },
                _ => None,
            };
            let work = &self.work;
            let ended = self.queue.with(|state, now| {
                if state.queue_if(target.no, target.serial).is_none() {
                    return true;
                }
                let to = reroute.map(|prepared| state.ensure_queue(prepared, now));
                let ended = state.work_on(target, work, to, STEP - looked, now, &mut moved);
                if ended && let Work::Flush = work {
                    state.undefer(target.no, now);
                }
                ended
            });
            looked = moved.len().max(looked + 1);
            if ended {
                self.targets.pop_front();
            }
        }
        self.done += moved.len() as u64;
        (looked > 0 || !self.targets.is_empty()).then_some(moved)
    }

    /// Runs to the end, letting others at the queue between the steps; returns the number of messages moved. From
    /// asynchronous code use `run`.
    pub fn finish(mut self) -> u64 {
        while self.step().is_some() {}
        self.done
    }

    /// Runs to the end, yielding between the steps.
    pub async fn run(mut self) -> u64 {
        while self.step().is_some() {
            tokio::task::yield_now().await;
        }
        self.done
    }
}

/// Waiting mail that is being taken out.
#[derive(Debug)]
pub struct Purge {
    queue: Queue,
    targets: VecDeque<Target>,
}

impl Purge {
    /// How many messages are left to take, at most.
    pub fn left(&self) -> u64 {
        self.targets.iter().map(|target| u64::from(target.active) + u64::from(target.delayed)).sum()
    }

    /// The next messages, at most `max`, active ones first; empty at the end. `Queue::failed` or `removed` each; what is
    /// dropped instead stays queued.
    pub fn next_chunk(&mut self, max: usize) -> Vec<Taken> {
        let mut taken = Vec::new();
        let max = max.clamp(1, STEP);
        while taken.len() < max {
            let Some(target) = self.targets.front_mut() else { break };
            let ended = self.queue.with(|state, _| {
                while taken.len() < max {
                    let Some(queue) = state.queue_if(target.no, target.serial) else { return true };
                    let next = if target.active > 0 && queue.active.len() > 0 {
                        target.active -= 1;
                        queue.active.head()
                    } else if target.delayed > 0
                        && let Some(first) = queue.delayed.first(&state.slots)
                    {
                        target.delayed -= 1;
                        first
                    } else {
                        return true;
                    };
                    state.lift(next);
                    taken.push(state.taken(next));
                }
                false
            });
            if ended {
                self.targets.pop_front();
            }
        }
        taken.into_iter().map(|taken: Taken| taken.at_home(&self.queue)).collect()
    }
}

impl State {
    /// One piece of a job in one queue; true when there is nothing left to do there.
    fn work_on(
        &mut self,
        target: &mut Target,
        work: &Work,
        to: Option<u32>,
        max: usize,
        now: Time,
        moved: &mut Vec<Moved>,
    ) -> bool {
        let wanted = |due: Time| !matches!(work, Work::Delay(until) if due >= *until);
        for _ in 0..max {
            let queue = self.queue(target.no);
            let next = if target.active > 0 && queue.active.len() > 0 {
                target.active -= 1;
                queue.active.head()
            } else {
                target.active = 0;
                let first = if target.delayed == 0 { None } else { self.next_delayed(target, work, now) };
                let Some(next) = first.filter(|no| wanted(self.slots[*no].due)) else { break };
                target.delayed -= 1;
                next
            };
            self.steps += 1;
            let fuzz_s = self.queue(target.no).limits.requeue_fuzz_s;
            self.lift(next);
            let due = match work {
                Work::Flush => now.plus_secs(fuzz(fuzz_s)),
                Work::Delay(until) => *until,
                Work::Reroute(_) => self.slots[next].due,
            };
            if let Some(to) = to {
                self.transfer(next, to);
            }
            moved.push(Moved { key: self.slots[next].key, id: self.slots[next].id, next_attempt: due });
            self.return_home(next, due, now);
            if self.queue_if(target.no, target.serial).is_none() {
                return true;
            }
            if moved.len() >= STEP {
                return false;
            }
        }
        let queue = self.queue(target.no);
        let more_active = target.active > 0 && queue.active.len() > 0;
        let more_delayed =
            target.delayed > 0 && self.next_delayed(target, work, now).is_some_and(|no| wanted(self.slots[no].due));
        !more_active && !more_delayed
    }

    /// The delayed message that a job looks at next. A flush that spreads mail over the coming seconds begins behind
    /// them, so that it meets no message twice; what is due within them already is spread well enough.
    fn next_delayed(&self, target: &mut Target, work: &Work, now: Time) -> Option<u32> {
        let queue = self.queue(target.no);
        let fuzz_s = queue.limits.requeue_fuzz_s;
        match work {
            Work::Flush if fuzz_s > 0 => {
                let position = *target.position.get_or_insert((now.plus_secs(fuzz_s), u32::MAX));
                let next = queue.delayed.after(&self.slots, position)?;
                target.position = Some(position.max((key_of(&self.slots, next).0, 0)));
                Some(next)
            }
            _ => queue.delayed.first(&self.slots),
        }
    }

    fn lift_by_id(&mut self, id: Id) -> Result<u32, QueueError> {
        use crate::entry::Place;
        let no = self.find(id).ok_or(QueueError::Unknown(id))?;
        match self.slots[no].place {
            Place::Active | Place::Delayed => {
                self.lift(no);
                Ok(no)
            }
            Place::InFlight | Place::Vacant => Err(QueueError::InDelivery(id)),
        }
    }

    fn apply_holds_in(&mut self, scope: &Scope, now: Time) {
        for no in self.queues_in(scope) {
            if self.queues.contains(no as usize) {
                self.apply_holds(no, now);
            }
        }
    }

    /// Sets which suspension holds for a queue: of several the longest.
    pub fn apply_holds(&mut self, no: u32, now: Time) {
        if self.holds.is_empty() && self.queue(no).hold.is_none() {
            return;
        }
        let at = self.place_of(no);
        let fitting = self.holds.iter().filter(|hold| hold.until > now && hold.scope.fits(&at));
        self.queue_mut(no).hold = fitting.max_by_key(|hold| hold.until).cloned();
        self.shake_idle(no);
        self.reconsider(no, now);
    }

    /// Moves some of the mail of a binding that is gone to where it belongs now; true when there is more.
    pub fn adopt_orphans(&mut self, no: u32, now: Time) -> bool {
        let at = self.place_of(no);
        let binding = self.queue(no).binding as usize;
        let gone = self.settings.home(at.clone()) != at;
        self.names.bindings[binding].gone = gone;
        if !gone || self.queue(no).active.len() + self.queue(no).delayed.len() == 0 {
            return false;
        }
        let serial = self.queue(no).serial;
        for _ in 0..STEP {
            let Some(queue) = self.queue_if(no, serial) else { return false };
            let next = match queue.active.head() {
                crate::entry::NIL => queue.delayed.first(&self.slots),
                head => Some(head),
            };
            let Some(next) = next else { return false };
            let due = self.slots[next].due;
            self.lift(next);
            self.return_home(next, due, now);
        }
        self.queue_if(no, serial).is_some_and(|queue| queue.active.len() + queue.delayed.len() > 0)
    }

    /// Puts a message that is in flight back into its queue, or where its mail belongs if the binding is gone, and tells
    /// the scheduler.
    pub fn return_home(&mut self, no: u32, due: Time, now: Time) {
        let mut queue = self.slots[no].queue;
        let binding = self.queue(queue).binding as usize;
        if self.names.bindings[binding].gone {
            let QueueRef { group, binding, domain } = self.place_of(queue);
            let at = self.settings.home(QueueRef::new(&group, &binding, &domain));
            let home = match self.find_live_queue(&at.group, &at.binding, &at.domain) {
                Some(home) => home,
                None => self.ensure_queue(Prepared::new(&*self.settings.clone(), at), now),
            };
            if home != queue {
                self.transfer(no, home);
                self.orphans.note(group, binding);
                queue = home;
            }
        }
        self.settle(no, due, now);
        self.arrived(queue, now);
    }
}

impl Orphans {
    fn note(&mut self, group: CompactString, binding: CompactString) {
        match self.0.iter().position(|orphan| orphan.group == group && orphan.binding == binding) {
            Some(at) => self.0[at].moved += 1,
            None if self.0.len() < ORPHANS_MAX => self.0.push(Orphan { group, binding, moved: 1 }),
            None => {}
        }
    }
}

/// A random number of seconds from 0 to `max_s`.
fn fuzz(max_s: u64) -> u64 {
    if max_s == 0 {
        return 0;
    }
    // Without randomness from the system everything is due at once, which is what no fuzz means.
    getrandom::u64().map_or(0, |random| random % (max_s.saturating_add(1)))
}

impl Queue {
    fn place_if(&self, no: u32, serial: u64) -> Option<QueueRef> {
        self.with(|state, _| state.queue_if(no, serial).is_some().then(|| state.place_of(no)))
    }
}
