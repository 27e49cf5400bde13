//! What the console asks: sums, queues, messages in due order, searches.
//!
//! Lists go by cursor and a search by a scan of two columns of numbers, both in pieces with the lock free in between: a
//! million queued messages are listed and searched without anybody noticing. Figures of different pieces may therefore
//! be some microseconds apart.

use crate::Queue;
use crate::entry::{NIL, Place};
use crate::names::QueueRef;
use crate::operate::{Scope, Suspension};
use crate::order::key_of;
use crate::table::State;
use ph_message::{Id, SpoolKey, Time};
use std::fmt;

/// Most entries of one page or one search.
pub const PAGE_MAX: usize = 1000;
/// Messages that are walked over with the lock held.
const WALK: usize = 2048;
/// Queues that are looked at with the lock held.
const QUEUES_STEP: usize = 512;

/// What happened, since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Messages queued (not those of a restart).
    pub receptions: u64,
    /// Messages delivered.
    pub deliveries: u64,
    /// Attempts that failed for now.
    pub transients: u64,
    /// Messages that failed for good.
    pub failures: u64,
}

/// The sums of all queues.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Overview {
    /// Domains with mail that waits or is in delivery.
    pub active_domains: u64,
    /// Messages to be tried now.
    pub active: u64,
    /// Messages that wait for their next attempt.
    pub delayed: u64,
    /// Messages in delivery.
    pub in_flight: u64,
    /// Connections given out.
    pub connections: u64,
    /// What happened so far.
    pub counters: Counters,
    /// Octets of memory that messages and queues take here.
    pub heap_bytes: usize,
}

impl Overview {
    /// Active, delayed and in delivery.
    pub fn total(&self) -> u64 {
        self.active + self.delayed + self.in_flight
    }
}

/// One queue.
#[derive(Clone, Debug, PartialEq)]
pub struct QueueInfo {
    /// Its names.
    pub at: QueueRef,
    /// Messages to be tried now.
    pub active: u32,
    /// Messages that wait for their next attempt.
    pub delayed: u32,
    /// Messages in delivery.
    pub in_flight: u32,
    /// Connections.
    pub connections: u32,
    /// When the next delayed message is due.
    pub next_due: Option<Time>,
    /// Suspended, and why.
    pub suspension: Option<Suspension>,
    /// Failures to reach any of its hosts, in a row.
    pub failures: u32,
    /// The last error and when it was.
    pub last_error: Option<(Time, String)>,
    /// What happened so far.
    pub counters: Counters,
}

/// One binding: the sums of its queues.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BindingInfo {
    /// Its group.
    pub group: String,
    /// Its name.
    pub name: String,
    /// Messages to be tried now.
    pub active: u64,
    /// Messages that wait for their next attempt.
    pub delayed: u64,
    /// Messages in delivery.
    pub in_flight: u64,
    /// Connections.
    pub connections: u64,
    /// What happened so far.
    pub counters: Counters,
}

/// Where a message is, as the console calls it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MessageState {
    /// To be tried now.
    Active,
    /// Waiting for its next attempt.
    Delayed,
    /// In delivery.
    InFlight,
    /// Active, in a suspended queue.
    Suspended,
}

impl fmt::Display for MessageState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            MessageState::Active => "active",
            MessageState::Delayed => "delayed",
            MessageState::InFlight => "inflight",
            MessageState::Suspended => "suspended",
        })
    }
}

/// One message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its slot in the spool.
    pub key: SpoolKey,
    /// Its id.
    pub id: Id,
    /// The id of its batch.
    pub batch_id: Id,
    /// Its queue.
    pub at: QueueRef,
    /// Where it is.
    pub state: MessageState,
    /// When it was received.
    pub created: Time,
    /// When it is (or was) due.
    pub next_attempt: Time,
    /// Retries made.
    pub retries: u32,
    /// Attempts made.
    pub attempts: u32,
    /// Octets of its content.
    pub size: u64,
    /// From the null sender.
    pub null_sender: bool,
    /// `ph_message::address_hash` of the sender.
    pub sender_hash: u32,
    /// `ph_message::address_hash` of the recipient.
    pub recipient_hash: u32,
}

/// Which of a queue's two orders to list.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Which {
    /// Active mail, then delayed.
    #[default]
    Both,
    /// Active mail.
    Active,
    /// Delayed mail.
    Delayed,
}

/// A request for a page of messages.
#[derive(Clone, Debug, Default)]
pub struct ListQuery {
    /// Which queues.
    pub scope: Scope,
    /// Which messages of them.
    pub which: Which,
    /// Messages to pass over first.
    pub offset: usize,
    /// Messages wanted, at most `PAGE_MAX`.
    pub limit: usize,
    /// Where an earlier page ended.
    pub cursor: Option<Cursor>,
}

/// Where a page ended. Good for a while: what leaves the queue in the meantime is neither missed nor repeated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cursor {
    queue: u32,
    spot: Spot,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Spot {
    Start,
    /// Behind this message of the active list.
    Active(u32, Id),
    /// The active list is done.
    ActiveEnd,
    /// Behind this position of the delayed tree.
    Delayed(Time, u32),
}

/// A page of messages, in due order per queue.
#[derive(Clone, Debug, Default)]
pub struct Page {
    /// The messages.
    pub entries: Vec<Entry>,
    /// For the next page; `None` at the end.
    pub next: Option<Cursor>,
}

/// A search. Hashes may be those of other addresses too (one in four thousand million): compare the envelopes.
#[derive(Clone, Debug, Default)]
pub struct Find {
    /// Which queues.
    pub scope: Scope,
    /// `ph_message::address_hash` of the sender.
    pub sender_hash: Option<u32>,
    /// `ph_message::address_hash` of the recipient.
    pub recipient_hash: Option<u32>,
    /// Messages wanted, at most `PAGE_MAX`.
    pub limit: usize,
    /// Where an earlier search ended (`Found::next`).
    pub from: u32,
}

/// What a search found.
#[derive(Clone, Debug, Default)]
pub struct Found {
    /// The messages, in no particular order.
    pub entries: Vec<Entry>,
    /// Where to go on; `None`: everything was looked at.
    pub next: Option<u32>,
}

impl Queue {
    /// The sums.
    pub fn overview(&self) -> Overview {
        self.with(|state, _| {
            let busy = |(_, domain): &(usize, &crate::names::Domain)| {
                domain.queues.iter().any(|no| state.queue(*no).total() > 0)
            };
            Overview {
                active_domains: state.names.domains.iter().filter(busy).count() as u64,
                active: state.totals.active,
                delayed: state.totals.delayed,
                in_flight: state.totals.in_flight,
                connections: state.totals.connections,
                counters: state.totals.counters,
                heap_bytes: state.heap_bytes(),
            }
        })
    }

    /// The queues of a scope that hold mail, have connections, or have counted something.
    pub fn queues(&self, scope: &Scope) -> Vec<QueueInfo> {
        let numbers = self.with(|state, _| state.queues_in(scope));
        let mut found = Vec::new();
        for piece in numbers.chunks(QUEUES_STEP) {
            self.with(|state, now| {
                for no in piece {
                    if state.queues.contains(*no as usize) && state.in_scope(*no, scope) {
                        found.push(state.queue_info(*no, now));
                    }
                }
            });
        }
        found
    }

    /// All bindings that have had mail, with their sums.
    pub fn bindings(&self) -> Vec<BindingInfo> {
        self.with(|state, _| {
            let info = |binding: &crate::names::Binding| BindingInfo {
                group: binding.group.to_string(),
                name: binding.name.to_string(),
                active: 0,
                delayed: 0,
                in_flight: 0,
                connections: 0,
                counters: binding.counters,
            };
            let mut bindings: Vec<BindingInfo> = state.names.bindings.iter().map(info).collect();
            for (_, queue) in &state.queues {
                let binding = &mut bindings[queue.binding as usize];
                binding.active += u64::from(queue.active.len());
                binding.delayed += u64::from(queue.delayed.len());
                binding.in_flight += u64::from(queue.in_flight);
                binding.connections += u64::from(queue.connections);
            }
            bindings
        })
    }

    /// One message, wherever it is.
    pub fn entry(&self, id: Id) -> Option<Entry> {
        self.with(|state, now| state.find(id).map(|no| state.entry(no, now)))
    }

    /// A page of waiting messages, queue by queue, in due order.
    pub fn list(&self, query: &ListQuery) -> Page {
        let mut numbers = self.with(|state, _| state.queues_in(&query.scope));
        numbers.sort_unstable();
        let limit = query.limit.min(PAGE_MAX);
        let mut walk = Walk { skip: query.offset, limit, entries: Vec::new() };
        let mut cursor = query.cursor;
        for no in numbers {
            let mut spot = match cursor {
                Some(cursor) if cursor.queue > no => continue,
                Some(cursor) if cursor.queue == no => cursor.spot,
                _ => Spot::Start,
            };
            cursor = None;
            loop {
                let (next, ended) = self.with(|state, now| state.walk(no, query, spot, &mut walk, now));
                spot = next;
                if walk.entries.len() >= limit && !ended {
                    return Page { entries: walk.entries, next: Some(Cursor { queue: no, spot }) };
                }
                if ended {
                    break;
                }
            }
        }
        Page { entries: walk.entries, next: None }
    }

    /// Messages by address hashes, in whatever state they are.
    pub fn find(&self, find: &Find) -> Found {
        let limit = find.limit.min(PAGE_MAX);
        let mut found = Found::default();
        let mut from = Some(find.from);
        while let Some(at) = from {
            let mut numbers = Vec::new();
            from = self.with(|state, now| {
                let mut next = Some(at);
                // Sixteen chunks of columns are 64 KiB of numbers each: some microseconds.
                for _ in 0..16 {
                    let Some(at) = next else { break };
                    next = state.slots.scan(at, find.sender_hash, find.recipient_hash, &mut numbers);
                    for (done, no) in numbers.drain(..).enumerate() {
                        if state.in_scope(state.slots[no].queue, &find.scope) {
                            found.entries.push(state.entry(no, now));
                            if found.entries.len() >= limit {
                                return Some(no + 1);
                            }
                        }
                        state.steps += u64::from(done as u32 & 1);
                    }
                }
                next
            });
            if found.entries.len() >= limit {
                break;
            }
        }
        found.next = from;
        found
    }
}

struct Walk {
    skip: usize,
    limit: usize,
    entries: Vec<Entry>,
}

impl Walk {
    /// Whether to make an entry of this message.
    fn wants(&mut self) -> bool {
        let skipped = self.skip > 0;
        self.skip -= usize::from(skipped);
        !skipped
    }
}

impl State {
    /// Goes on through one queue; returns where it stopped, and whether the queue is at its end.
    fn walk(&mut self, no: u32, query: &ListQuery, from: Spot, walk: &mut Walk, now: Time) -> (Spot, bool) {
        if !self.queues.contains(no as usize) || !self.in_scope(no, &query.scope) {
            return (from, true);
        }
        let (active, delayed) = (query.which != Which::Delayed, query.which != Which::Active);
        let mut spot = if from == Spot::Start && !active { Spot::ActiveEnd } else { from };
        if spot == Spot::Start && walk.skip >= self.queue(no).active.len() as usize {
            walk.skip -= self.queue(no).active.len() as usize;
            spot = Spot::ActiveEnd;
        }
        if spot == Spot::ActiveEnd && delayed && walk.skip >= self.queue(no).delayed.len() as usize {
            walk.skip -= self.queue(no).delayed.len() as usize;
            return (spot, true);
        }
        for _ in 0..WALK {
            if walk.entries.len() >= walk.limit {
                return (spot, false);
            }
            self.steps += 1;
            let next = match spot {
                Spot::Start => Some(self.queue(no).active.head()).filter(|no| *no != NIL),
                Spot::Active(last, id) => {
                    let here = self
                        .slots
                        .get(last)
                        .is_some_and(|slot| slot.id == id && slot.queue == no && slot.place == Place::Active);
                    // A message that was taken left at the head, so what is behind it begins there.
                    let next = if here { self.slots[last].next } else { self.queue(no).active.head() };
                    Some(next).filter(|no| *no != NIL)
                }
                Spot::ActiveEnd if !delayed => return (spot, true),
                Spot::ActiveEnd => self.queue(no).delayed.first(&self.slots),
                Spot::Delayed(due, last) => self.queue(no).delayed.after(&self.slots, (due, last)),
            };
            match (next, spot) {
                (Some(next), Spot::Start | Spot::Active(..)) => spot = Spot::Active(next, self.slots[next].id),
                (Some(next), _) => {
                    let (due, next) = key_of(&self.slots, next);
                    spot = Spot::Delayed(due, next);
                }
                (None, Spot::Start | Spot::Active(..)) => {
                    spot = Spot::ActiveEnd;
                    continue;
                }
                (None, _) => return (spot, true),
            }
            if let Some(next) = next
                && walk.wants()
            {
                walk.entries.push(self.entry(next, now));
            }
        }
        (spot, false)
    }

    pub fn entry(&self, no: u32, now: Time) -> Entry {
        let slot = &self.slots[no];
        let queue = self.queue(slot.queue);
        let (sender_hash, recipient_hash) = self.slots.hashes(no);
        Entry {
            key: slot.key,
            id: slot.id,
            batch_id: slot.batch,
            at: self.place_of(slot.queue),
            state: match slot.place {
                Place::Delayed => MessageState::Delayed,
                Place::Active if queue.suspended(now).is_some() => MessageState::Suspended,
                Place::Active => MessageState::Active,
                Place::InFlight | Place::Vacant => MessageState::InFlight,
            },
            created: slot.created,
            next_attempt: slot.due,
            retries: u32::from(slot.retries),
            attempts: u32::from(slot.attempts),
            size: u64::from(slot.size),
            null_sender: slot.null_sender,
            sender_hash,
            recipient_hash,
        }
    }

    pub fn queue_info(&self, no: u32, now: Time) -> QueueInfo {
        let queue = self.queue(no);
        let hold = queue.hold.as_ref().filter(|hold| hold.until > now);
        QueueInfo {
            at: self.place_of(no),
            active: queue.active.len(),
            delayed: queue.delayed.len(),
            in_flight: queue.in_flight,
            connections: queue.connections,
            next_due: Some(queue.delayed.first_due()).filter(|due| *due != Time::MAX || queue.delayed.len() > 0),
            suspension: if queue.limits.suspend {
                Some(Suspension::Config)
            } else {
                hold.map(|hold| Suspension::Hold(hold.clone()))
            },
            failures: queue.failures,
            last_error: queue.last_error.as_ref().map(|(at, text)| (*at, text.to_string())),
            counters: queue.counters,
        }
    }
}
