//! All queues and their messages: the state behind the one lock of this crate.
//!
//! Invariant: a message is in exactly one place (active list, delayed tree, or in flight), its slot says which, and the
//! sums in `Totals` are those of the queues. Every step here is O(1) or O(log n) of one queue; what must look at many
//! messages does so in bounded pieces (`operate`, `inspect`), so that the lock is never held for long. When to open a
//! connection is `scheduler`'s matter.

use crate::entry::{NIL, Place, Slot, Slots};
use crate::inspect::Counters;
use crate::limits::{Limits, Settings};
use crate::names::{Names, QueueRef};
use crate::operate::{Hold, Orphans, Scope};
use crate::order::{List, Tree};
use crate::permit::WaitCell;
use crate::scheduler::{Gate, Scheduler, Wait};
use crate::taken::Taken;
use compact_str::CompactString;
use hashbrown::HashTable;
use ph_message::{Id, SpoolKey, Summary, Time};
use slab::Slab;
use smallvec::SmallVec;
use std::collections::VecDeque;
use std::sync::Arc;

/// Delayed messages that one step moves to the active list.
const PROMOTE_MAX: u32 = 128;

/// Empty queues that are kept for their counters and their memory of failures.
const SPARE_QUEUES_MAX: usize = 16_384;

/// Buckets of an index table that stay when it gets empty.
const INDEX_SHRINK: usize = 1024;

/// Tables of the index by id: each grows on its own, so that growing never touches all messages at once.
const INDEX_SHARDS: usize = 64;

/// The queue of one (binding, routing domain).
#[derive(Debug)]
pub(crate) struct DomainQueue {
    pub binding: u32,
    pub domain: u32,
    /// Tells this queue from a later one with the same number.
    pub serial: u64,
    pub active: List,
    pub delayed: Tree,
    pub in_flight: u32,
    /// No message of this queue was created before this.
    pub oldest: Time,
    /// Shared with the queues that have the same ones.
    pub limits: Arc<Limits>,
    pub generation: u64,
    pub pools: SmallVec<[u32; 3]>,
    pub messages: Option<u32>,
    pub connects: Option<u32>,

    pub wait: Wait,
    /// Its alarm, or `Time::MAX`.
    pub alarm: Time,
    pub connections: u32,
    /// Connections that were granted and have not asked for mail yet.
    pub untaken: u32,
    /// Idle connections that were woken and have not asked for mail yet.
    pub woken: u32,
    pub idle: Vec<Arc<WaitCell>>,
    pub growth_at: Time,
    pub growth_left: u32,
    pub defer: Option<(Time, crate::explain::Reason)>,
    /// The gate whose free place or token woke this queue, until its turn comes.
    pub woken_by: Option<Gate>,
    /// Connections in a row that ended before they asked for mail.
    pub fruitless: u32,

    /// Suspended by the console or a policy.
    pub hold: Option<Arc<Hold>>,
    pub sweep: Option<Sweep>,
    /// No look for expired mail of a suspended queue before this.
    pub sweep_at: Time,

    pub failures: u32,
    pub failing_since: Option<Time>,
    pub counters: Counters,
    pub last_error: Option<(Time, Box<str>)>,
    pub spare: bool,
}

/// A look for expired messages in a suspended queue that is under way.
#[derive(Debug)]
pub(crate) struct Sweep {
    pub urgent_left: u32,
    pub active_left: u32,
    pub position: Option<(Time, u32)>,
}

impl DomainQueue {
    /// Messages that wait or are in flight.
    pub fn total(&self) -> u32 {
        self.active.len() + self.delayed.len() + self.in_flight
    }

    /// Suspended until when, if it is.
    pub fn suspended(&self, now: Time) -> Option<Time> {
        if self.limits.suspend {
            return Some(Time::MAX);
        }
        self.hold.as_ref().map(|hold| hold.until).filter(|until| *until > now)
    }
}

#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Totals {
    pub active: u64,
    pub delayed: u64,
    pub in_flight: u64,
    pub connections: u64,
    pub counters: Counters,
}

pub(crate) struct State {
    pub slots: Slots,
    index: Vec<HashTable<u32>>,
    pub names: Names,
    pub queues: Slab<DomainQueue>,
    queue_index: HashTable<u32>,
    serial: u64,
    pub totals: Totals,
    pub settings: Arc<dyn Settings>,
    pub generation: u64,
    /// The options read last: mostly those of the next queue too.
    pub last_limits: Arc<Limits>,
    pub scheduler: Scheduler,
    pub holds: Vec<Arc<Hold>>,
    pub orphans: Orphans,
    spare: VecDeque<(u32, u64)>,
    pub closed: bool,
    /// Counts loops over messages and queues, so that tests can hold them to their promises.
    pub steps: u64,
}

/// Options of a queue that were read while the lock was free.
pub(crate) struct Prepared {
    pub at: QueueRef,
    pub limits: Limits,
    pub generation: u64,
}

impl Prepared {
    /// Reads the options for the place where mail for `at` really goes.
    pub fn new(settings: &dyn Settings, at: QueueRef) -> Prepared {
        let generation = settings.generation();
        let at = settings.home(at);
        Prepared { limits: settings.limits(&at), at, generation }
    }
}

impl State {
    pub fn new(settings: Arc<dyn Settings>, now: Time) -> State {
        let generation = settings.generation();
        let scheduler = Scheduler::new(settings.server(), now);
        State {
            slots: Slots::default(),
            index: (0..INDEX_SHARDS).map(|_| HashTable::new()).collect(),
            names: Names::default(),
            queues: Slab::new(),
            queue_index: HashTable::new(),
            serial: 0,
            totals: Totals::default(),
            settings,
            generation,
            last_limits: Arc::default(),
            scheduler,
            holds: Vec::new(),
            orphans: Orphans::default(),
            spare: VecDeque::new(),
            closed: false,
            steps: 0,
        }
    }

    // Queues.

    pub fn find_queue(&self, group: &str, binding: &str, domain: &str) -> Option<u32> {
        let hash = self.names.hash(group, binding, domain);
        let fits = |no: &u32| {
            let queue = &self.queues[*no as usize];
            let known = &self.names.bindings[queue.binding as usize];
            self.names.domains[queue.domain as usize].name == domain && known.name == binding && known.group == group
        };
        self.queue_index.find(hash, fits).copied()
    }

    /// As `find_queue`, but not one whose binding is gone.
    pub fn find_live_queue(&self, group: &str, binding: &str, domain: &str) -> Option<u32> {
        let no = self.find_queue(group, binding, domain)?;
        (!self.names.bindings[self.queues[no as usize].binding as usize].gone).then_some(no)
    }

    /// The queue, made if need be.
    pub fn ensure_queue(&mut self, prepared: Prepared, now: Time) -> u32 {
        let Prepared { at, limits, generation } = prepared;
        if let Some(no) = self.find_queue(&at.group, &at.binding, &at.domain) {
            return no;
        }
        let binding = self.names.binding(&at.group, &at.binding);
        self.names.bindings[binding as usize].gone = false;
        let no = self.queues.vacant_key() as u32;
        let domain = self.names.add_queue(&at.domain, no);
        self.serial += 1;
        self.queues.insert(DomainQueue {
            binding,
            domain,
            serial: self.serial,
            active: List::EMPTY,
            delayed: Tree::EMPTY,
            in_flight: 0,
            oldest: Time::MAX,
            limits: self.last_limits.clone(),
            generation,
            pools: SmallVec::new(),
            messages: None,
            connects: None,
            wait: Wait::Idle,
            alarm: Time::MAX,
            connections: 0,
            untaken: 0,
            woken: 0,
            idle: Vec::new(),
            growth_at: Time::ZERO,
            growth_left: 0,
            defer: None,
            woken_by: None,
            fruitless: 0,
            hold: None,
            sweep: None,
            sweep_at: Time::ZERO,
            failures: 0,
            failing_since: None,
            counters: Counters::default(),
            last_error: None,
            spare: false,
        });
        // Options that were read before a change are read again at the first look.
        self.apply_limits(no, limits, generation, now);
        self.apply_holds(no, now);
        let hash = self.names.hash(&at.group, &at.binding, &at.domain);
        let (names, queues) = (&self.names, &self.queues);
        self.queue_index.insert_unique(hash, no, |no| {
            let queue = &queues[*no as usize];
            let binding = &names.bindings[queue.binding as usize];
            names.hash(&binding.group, &binding.name, &names.domains[queue.domain as usize].name)
        });
        no
    }

    /// The queue of that number, if it is still the one with that serial.
    pub fn queue_if(&self, no: u32, serial: u64) -> Option<&DomainQueue> {
        self.queues.get(no as usize).filter(|queue| queue.serial == serial)
    }

    pub fn queue(&self, no: u32) -> &DomainQueue {
        &self.queues[no as usize]
    }

    pub fn queue_mut(&mut self, no: u32) -> &mut DomainQueue {
        &mut self.queues[no as usize]
    }

    pub fn place_of(&self, no: u32) -> QueueRef {
        let queue = self.queue(no);
        let binding = &self.names.bindings[queue.binding as usize];
        QueueRef {
            group: binding.group.clone(),
            binding: binding.name.clone(),
            domain: self.names.domains[queue.domain as usize].name.clone(),
        }
    }

    /// The numbers of the queues of a scope. Looks at every queue unless the scope names a domain.
    pub fn queues_in(&mut self, scope: &Scope) -> Vec<u32> {
        let candidates: Vec<u32> = match &scope.domain {
            Some(domain) => match self.names.find_domain(domain) {
                Some(no) => self.names.domains[no as usize].queues.to_vec(),
                None => Vec::new(),
            },
            None => self.queues.iter().map(|(no, _)| no as u32).collect(),
        };
        self.steps += candidates.len() as u64;
        candidates.into_iter().filter(|no| self.in_scope(*no, scope)).collect()
    }

    pub fn in_scope(&self, no: u32, scope: &Scope) -> bool {
        let queue = self.queue(no);
        let binding = &self.names.bindings[queue.binding as usize];
        scope.group.as_ref().is_none_or(|group| *group == binding.group)
            && scope.binding.as_ref().is_none_or(|name| *name == binding.name)
            && scope.domain.as_ref().is_none_or(|name| *name == self.names.domains[queue.domain as usize].name)
    }

    /// Notes that a queue has nothing to do; the longest empty ones beyond `SPARE_QUEUES_MAX` are forgotten. So a queue
    /// without mail and connections may be gone after any step of the scheduler.
    pub fn note_if_spare(&mut self, no: u32) {
        let Some(queue) = self.queues.get_mut(no as usize) else { return };
        if queue.total() > 0 || queue.connections > 0 || queue.spare || queue.wait != Wait::Idle {
            return;
        }
        queue.spare = true;
        queue.oldest = Time::MAX;
        self.spare.push_back((no, queue.serial));
        while self.spare.len() > SPARE_QUEUES_MAX {
            let Some((old, serial)) = self.spare.pop_front() else { return };
            let Some(queue) = self.queues.get_mut(old as usize).filter(|queue| queue.serial == serial) else {
                continue;
            };
            queue.spare = false;
            if queue.total() == 0 && queue.connections == 0 && queue.wait == Wait::Idle {
                self.remove_queue(old);
            }
        }
    }

    fn remove_queue(&mut self, no: u32) {
        self.disarm(no);
        self.scheduler.resting.remove(&no);
        let at = self.place_of(no);
        let hash = self.names.hash(&at.group, &at.binding, &at.domain);
        if let Ok(found) = self.queue_index.find_entry(hash, |other| *other == no) {
            found.remove();
        }
        let queue = self.queues.remove(no as usize);
        self.names.remove_queue(queue.domain, no);
    }

    // Messages.

    /// Admits a message and tells the scheduler. False: it is there already.
    pub fn accept(&mut self, queue: u32, key: SpoolKey, summary: &Summary, is_new: bool, now: Time) -> bool {
        if self.admit(queue, key, summary, now).is_none() {
            return false;
        }
        if is_new {
            self.count(queue, |counters| counters.receptions += 1);
        }
        self.arrived(queue, now);
        true
    }

    /// Counts for a queue, its binding and the whole.
    pub fn count(&mut self, queue: u32, add: impl Fn(&mut Counters)) {
        let queue = &mut self.queues[queue as usize];
        add(&mut queue.counters);
        add(&mut self.names.bindings[queue.binding as usize].counters);
        add(&mut self.totals.counters);
    }

    /// Whether a slot holds the message of that id, in flight.
    pub fn is_in_flight(&self, no: u32, id: Id) -> bool {
        self.slots.get(no).is_some_and(|slot| slot.id == id && slot.place == Place::InFlight)
    }

    /// Puts a message into a queue. `None`: its id is there already, or there are 2^32 messages.
    pub fn admit(&mut self, queue: u32, key: SpoolKey, summary: &Summary, now: Time) -> Option<u32> {
        if self.find(summary.id).is_some() {
            return None;
        }
        let tail = self.queue(queue).active.back(summary.urgent);
        let batched = tail != NIL && self.slots[tail].batch == summary.batch_id;
        let slot = Slot {
            id: summary.id,
            batch: summary.batch_id,
            created: summary.created,
            due: summary.next_attempt,
            key,
            queue,
            size: u32::try_from(summary.size).unwrap_or(u32::MAX),
            prev: NIL,
            next: NIL,
            retries: u16::try_from(summary.retries).unwrap_or(u16::MAX),
            attempts: u16::try_from(summary.attempts).unwrap_or(u16::MAX),
            place: Place::InFlight,
            null_sender: summary.null_sender,
            urgent: summary.urgent,
            batched,
        };
        if batched {
            self.slots[tail].batched = true;
        }
        let no = self.slots.insert(slot, summary.sender_hash, summary.recipient_hash)?;
        let slots = &self.slots;
        self.index[shard_of(summary.id)].insert_unique(hash_of(summary.id), no, |no| hash_of(slots[*no].id));
        self.queue_mut(queue).in_flight += 1;
        self.totals.in_flight += 1;
        self.settle(no, summary.next_attempt, now);
        Some(no)
    }

    /// Puts a message that is in flight into the active list or the delayed tree of its queue, as its due time says.
    pub fn settle(&mut self, no: u32, due: Time, now: Time) {
        if due <= now {
            self.settle_active(no, due, false);
        } else {
            self.settle_delayed(no, due);
        }
    }

    pub fn settle_active(&mut self, no: u32, due: Time, front: bool) {
        debug_assert_eq!(self.slots[no].place, Place::InFlight);
        self.slots[no].due = due;
        self.slots[no].place = Place::Active;
        let (queue_no, created) = (self.slots[no].queue, self.slots[no].created);
        let queue = &mut self.queues[queue_no as usize];
        if front {
            queue.active.push_front(&mut self.slots, no);
        } else {
            queue.active.push_back(&mut self.slots, no);
        }
        queue.in_flight -= 1;
        queue.oldest = queue.oldest.min(created);
        self.totals.in_flight -= 1;
        self.totals.active += 1;
    }

    pub fn settle_delayed(&mut self, no: u32, due: Time) {
        debug_assert_eq!(self.slots[no].place, Place::InFlight);
        self.slots[no].due = due;
        self.slots[no].place = Place::Delayed;
        let (queue_no, created) = (self.slots[no].queue, self.slots[no].created);
        let queue = &mut self.queues[queue_no as usize];
        queue.delayed.insert(&mut self.slots, no);
        queue.in_flight -= 1;
        queue.oldest = queue.oldest.min(created);
        self.totals.in_flight -= 1;
        self.totals.delayed += 1;
    }

    /// Takes a waiting message out of its order: it is in flight then.
    pub fn lift(&mut self, no: u32) {
        let slot = &self.slots[no];
        let queue = &mut self.queues[slot.queue as usize];
        match slot.place {
            Place::Active => {
                queue.active.remove(&mut self.slots, no);
                self.totals.active -= 1;
            }
            Place::Delayed => {
                queue.delayed.remove(&mut self.slots, no);
                self.totals.delayed -= 1;
            }
            Place::InFlight | Place::Vacant => {
                debug_assert!(false, "only a waiting message is lifted");
                return;
            }
        }
        queue.in_flight += 1;
        self.totals.in_flight += 1;
        self.slots[no].place = Place::InFlight;
    }

    /// Forgets a message that is in flight.
    pub fn discard(&mut self, no: u32) {
        let slot = self.slots.remove(no);
        let queue = &mut self.queues[slot.queue as usize];
        queue.in_flight -= 1;
        self.totals.in_flight -= 1;
        if queue.total() == 0 {
            queue.oldest = Time::MAX;
        }
        let shard = &mut self.index[shard_of(slot.id)];
        if let Ok(found) = shard.find_entry(hash_of(slot.id), |other| *other == no) {
            found.remove();
        }
        if shard.num_buckets() > INDEX_SHRINK && shard.len() < shard.num_buckets() / 16 {
            let slots = &self.slots;
            shard.shrink_to(2 * shard.len(), |no| hash_of(slots[*no].id));
        }
        self.note_if_spare(slot.queue);
    }

    /// Moves a message that is in flight to another queue (still in flight).
    pub fn transfer(&mut self, no: u32, queue: u32) {
        let old = std::mem::replace(&mut self.slots[no].queue, queue);
        self.queue_mut(old).in_flight -= 1;
        self.queue_mut(queue).in_flight += 1;
        self.note_if_spare(old);
    }

    /// Moves due mail from the delayed tree to the active list, a bounded number; whether more is due.
    pub fn promote(&mut self, queue_no: u32, now: Time) -> bool {
        let mut moved = 0;
        while self.queue(queue_no).delayed.first_due() <= now {
            if moved == PROMOTE_MAX {
                return true;
            }
            let Some(no) = self.queue(queue_no).delayed.first(&self.slots) else { return false };
            let due = self.slots[no].due;
            self.lift(no);
            self.settle_active(no, due, false);
            moved += 1;
            self.steps += 1;
        }
        false
    }

    pub fn find(&self, id: Id) -> Option<u32> {
        self.index[shard_of(id)].find(hash_of(id), |no| self.slots[*no].id == id).copied()
    }

    /// What the outside gets of a message that is in flight.
    pub fn taken(&self, no: u32) -> Taken {
        let slot = &self.slots[no];
        Taken::new(slot.key, self.summary(no), no)
    }

    /// The summary of a message, with `retries` being the number of the coming attempt.
    pub fn summary(&self, no: u32) -> Summary {
        let slot = &self.slots[no];
        let queue = self.queue(slot.queue);
        let binding = &self.names.bindings[queue.binding as usize];
        let (sender_hash, recipient_hash) = self.slots.hashes(no);
        Summary {
            id: slot.id,
            batch_id: slot.batch,
            created: slot.created,
            next_attempt: slot.due,
            retries: u32::from(slot.retries) + u32::from(slot.attempts > 0),
            attempts: u32::from(slot.attempts),
            size: u64::from(slot.size),
            binding: binding.name.clone(),
            binding_group: binding.group.clone(),
            domain: CompactString::clone(&self.names.domains[queue.domain as usize].name),
            sender_hash,
            recipient_hash,
            null_sender: slot.null_sender,
            urgent: slot.urgent,
        }
    }

    /// Octets of heap for messages and queues (names and gates, which are few, left out).
    pub fn heap_bytes(&self) -> usize {
        let index: usize = self.index.iter().map(HashTable::allocation_size).sum();
        let domains: usize = self.names.domains.len() * size_of::<crate::names::Domain>();
        self.slots.heap_bytes()
            + index
            + self.queues.capacity() * size_of::<DomainQueue>()
            + self.queue_index.allocation_size()
            + domains
    }
}

fn shard_of(id: Id) -> usize {
    (hash_of(id) >> 32) as usize % INDEX_SHARDS
}

/// Ids are ours, not a peer's: a multiplication spreads them well enough (and the counter is in their low bits).
fn hash_of(id: Id) -> u64 {
    let mixed = (id.0 ^ id.0 >> 32).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed ^ mixed >> 29
}
