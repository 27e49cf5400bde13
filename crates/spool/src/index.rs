//! What is in the spool, in memory: 32 octets per message, 16 per content, and the segments with what they still hold.
//!
//! The invariant that everything rests on: a segment is given up (`retire`) only when nothing in it counts any more.
//! These count: the latest envelope, content and state of a message in the spool, and every record that keeps an older
//! copy in another segment from coming back at a restart. The latter are *pins*: a segment with `Done` records cannot
//! go before the segments that hold those messages, or held them before they were moved (`moved_from`). All methods are called under the spool's one lock and do no I/O.

mod segments;

pub use segments::{Role, Segment};

use crate::cache::Cache;
use crate::format::{CONTENT_PREFIX, HEAD};
use hashbrown::{HashMap, HashSet, HashTable};
use ph_message::{DeliveryState, Id};

/// A record's place: number of the segment's file, and offset in it. Number 0: nowhere.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Place {
    pub segment: u32,
    pub at: u32,
}

/// Octets that a state record is charged with: its exact length is not worth four octets a message.
pub const STATE_BYTES: u64 = 96;
/// Octets of a `Done` record.
pub const DONE_BYTES: u64 = 40;

#[derive(Clone, Copy, Debug)]
struct Slot {
    id: u64,
    envelope: Place,
    state: Place,
    /// Octets of the envelope record, and flags above.
    len_and_flags: u32,
    content: u32,
}

const USED: u32 = 1 << 31;
/// Given out to a transaction that is not durable yet.
const PENDING: u32 = 1 << 30;
/// Being moved or replaced by the batch that is being written.
const BUSY: u32 = 1 << 29;
const LEN: u32 = BUSY - 1;

#[derive(Clone, Copy, Debug)]
struct ContentSlot {
    place: Place,
    len: u32,
    refs: u32,
}

/// A record that travels with the next batch, without a sync of its own.
#[derive(Clone, Debug)]
pub enum Small {
    /// Message `id` is done; its envelope lay in this segment, in the life `seq`. `large` may go when that is durable.
    Done { id: u64, segment: u32, seq: u64, large: Option<u64> },
    /// The state of the message `key`, to be had from `pending`.
    State { key: u32, id: u64 },
}

/// A state that is not durable yet.
#[derive(Clone, Debug)]
pub struct PendingState {
    pub stamp: u64,
    pub state: DeliveryState,
}

/// Everything a reader needs to know of one message.
#[derive(Clone, Debug)]
pub struct Found {
    pub id: u64,
    pub envelope: Place,
    pub envelope_len: u32,
    pub content: Place,
    pub content_len: u32,
    pub content_slot: u32,
    pub state: Place,
    pub pending: Option<DeliveryState>,
    /// Moved or replaced at this moment, or not durable yet.
    pub busy: bool,
}

#[derive(Debug)]
pub struct Index {
    slots: Vec<Slot>,
    free: Vec<u32>,
    ids: HashTable<u32>,
    contents: Vec<ContentSlot>,
    contents_free: Vec<u32>,
    /// Contents whose body is a file: the file's number.
    content_large: HashMap<u32, u64>,
    /// How many contents use the file of that number.
    large_refs: HashMap<u64, u32>,
    /// Files of `large/` whose last `Done` record is not durable yet: without them the message could come back bodiless.
    large_waiting: HashSet<u64>,
    /// Such files that may go now.
    pub large_free: Vec<u64>,
    segments: Vec<Option<Box<Segment>>>,
    pub pending: HashMap<u32, PendingState>,
    pub small: Vec<Small>,
    pub cache: Cache,
    /// Sealed segments in which nothing counts any more.
    pub retirable: Vec<u32>,
    pub messages: u64,
    pub id_floor: u64,
    stamp: u64,
}

impl Index {
    pub fn new(cache_bytes: usize) -> Index {
        Index {
            slots: Vec::new(),
            free: Vec::new(),
            ids: HashTable::new(),
            contents: Vec::new(),
            contents_free: Vec::new(),
            content_large: HashMap::new(),
            large_refs: HashMap::new(),
            large_waiting: HashSet::new(),
            large_free: Vec::new(),
            segments: Vec::new(),
            pending: HashMap::new(),
            small: Vec::new(),
            cache: Cache::new(cache_bytes),
            retirable: Vec::new(),
            messages: 0,
            id_floor: 0,
            stamp: 0,
        }
    }

    // -- messages

    /// Gives a key to a message that is about to be written; `None` when the id is taken.
    pub fn reserve(&mut self, id: Id) -> Option<u32> {
        if self.key_of(id.0).is_some() {
            return None;
        }
        let slot = Slot {
            id: id.0,
            envelope: Place::default(),
            state: Place::default(),
            len_and_flags: USED | PENDING,
            content: u32::MAX,
        };
        let key = match self.free.pop() {
            Some(key) => {
                self.slots[key as usize] = slot;
                key
            }
            None => {
                let key = u32::try_from(self.slots.len()).ok()?;
                self.slots.push(slot);
                key
            }
        };
        let slots = &self.slots;
        self.ids.insert_unique(hash(id.0), key, |&other| hash(slots[other as usize].id));
        Some(key)
    }

    /// Takes back a key whose transaction failed.
    pub fn abandon(&mut self, key: u32) {
        if self.slots[key as usize].len_and_flags & PENDING != 0 {
            self.free_slot(key);
        }
    }

    /// The message is durable: its envelope is at `place`, its content is `content`.
    pub fn settle(&mut self, key: u32, place: Place, len: u32, content: u32) {
        let len = len & LEN;
        let slot = &mut self.slots[key as usize];
        self.id_floor = self.id_floor.max(slot.id);
        (slot.envelope, slot.len_and_flags, slot.content) = (place, USED | len, content);
        self.contents[content as usize].refs += 1;
        self.credit(place.segment, u64::from(len));
        self.messages += 1;
    }

    /// The message is done. Says where its envelope was, and which file of `large/` nobody uses any more.
    pub fn remove(&mut self, key: u32) -> Option<(u64, Place, Option<u64>)> {
        let slot = *self.slots.get(key as usize)?;
        if slot.len_and_flags & (USED | PENDING) != USED {
            return None;
        }
        self.pending.remove(&key);
        self.cache.remove(key);
        self.free_slot(key);
        self.messages -= 1;
        self.debit(slot.envelope.segment, u64::from(slot.len_and_flags & LEN));
        if slot.state.segment != 0 {
            self.debit(slot.state.segment, STATE_BYTES);
        }
        let large = self.release_content(slot.content);
        self.large_waiting.extend(large);
        Some((slot.id, slot.envelope, large))
    }

    /// `remove`, with the record that says so.
    pub fn done(&mut self, key: u32) -> bool {
        let Some((id, place, large)) = self.remove(key) else { return false };
        let seq = self.segment(place.segment).map_or(0, |segment| segment.seq);
        self.small.push(Small::Done { id, segment: place.segment, seq, large });
        true
    }

    /// A new state for the message: in memory at once, on the disk with the next batch.
    pub fn update(&mut self, key: u32, state: DeliveryState) -> bool {
        let Some(id) = self.live_slot(key).map(|slot| slot.id) else { return false };
        self.stamp += 1;
        self.cache.remove(key);
        if self.pending.insert(key, PendingState { stamp: self.stamp, state }).is_none() {
            self.small.push(Small::State { key, id });
        }
        true
    }

    /// The state of `stamp` is durable at `place`. `false`: it counts no more.
    pub fn settle_state(&mut self, key: u32, id: u64, stamp: u64, place: Place) -> bool {
        if self.live_slot(key).is_none_or(|slot| slot.id != id) {
            return false;
        }
        let old = std::mem::replace(&mut self.slots[key as usize].state, place);
        self.credit(place.segment, STATE_BYTES);
        if old.segment != 0 {
            self.debit(old.segment, STATE_BYTES);
        }
        match self.pending.get(&key) {
            Some(pending) if pending.stamp == stamp => {
                self.pending.remove(&key);
            }
            // A newer one came while this one was written.
            Some(_) => self.small.push(Small::State { key, id }),
            None => {}
        }
        true
    }

    /// Recovery found this state.
    pub fn set_state(&mut self, key: u32, place: Place) {
        let old = std::mem::replace(&mut self.slots[key as usize].state, place);
        if place.segment != 0 {
            self.credit(place.segment, STATE_BYTES);
        }
        if old.segment != 0 {
            self.debit(old.segment, STATE_BYTES);
        }
    }

    pub fn find(&self, key: u32) -> Option<Found> {
        let slot = self.live_slot(key)?;
        let content = self.contents.get(slot.content as usize)?;
        Some(Found {
            id: slot.id,
            envelope: slot.envelope,
            envelope_len: slot.len_and_flags & LEN,
            content: content.place,
            content_len: content.len,
            content_slot: slot.content,
            state: slot.state,
            pending: self.pending.get(&key).map(|pending| pending.state.clone()),
            busy: slot.len_and_flags & BUSY != 0,
        })
    }

    /// Whether the message is in the spool and has its envelope there.
    pub fn is_at(&self, key: u32, id: u64, envelope: Place) -> bool {
        self.live_slot(key).is_some_and(|slot| slot.id == id && slot.envelope == envelope)
    }

    /// Whether `found` still tells the truth.
    pub fn is_at_place(&self, found: &Found) -> bool {
        self.key_of(found.id)
            .and_then(|key| self.find(key))
            .is_some_and(|now| (now.envelope, now.content, now.state) == (found.envelope, found.content, found.state))
    }

    pub fn key_of(&self, id: u64) -> Option<u32> {
        self.ids.find(hash(id), |&key| self.slots[key as usize].id == id).copied()
    }

    /// As `key_of`, without messages that are not durable yet.
    pub fn live_key_of(&self, id: u64) -> Option<u32> {
        self.key_of(id).filter(|&key| self.live_slot(key).is_some())
    }

    pub fn set_busy(&mut self, key: u32, busy: bool) {
        if let Some(slot) = self.slots.get_mut(key as usize) {
            slot.len_and_flags = if busy { slot.len_and_flags | BUSY } else { slot.len_and_flags & !BUSY };
        }
    }

    /// A new copy of the envelope counts from now on (and a new content, and the state that was moved with it).
    pub fn relocate(&mut self, key: u32, envelope: Place, len: u32, content: u32, state: Place) {
        let len = len & LEN;
        let old = self.slots[key as usize];
        self.contents[content as usize].refs += 1;
        let slot = &mut self.slots[key as usize];
        (slot.envelope, slot.len_and_flags, slot.content, slot.state) = (envelope, USED | len, content, state);
        self.cache.remove(key);
        self.credit(envelope.segment, u64::from(len));
        if state.segment != 0 {
            self.credit(state.segment, STATE_BYTES);
        }
        if old.state.segment != 0 {
            self.debit(old.state.segment, STATE_BYTES);
        }
        self.debit(old.envelope.segment, u64::from(old.len_and_flags & LEN));
        // Never the last user of a body's file: the new content uses it, too.
        self.release_content(old.content);
    }

    /// Calls `visit` for messages of slots in `from..to`; says whether there are slots beyond.
    pub fn visit(&self, from: usize, to: usize, mut visit: impl FnMut(u32, &Found)) -> bool {
        for key in from..to.min(self.slots.len()) {
            if let Some(found) = self.find(key as u32) {
                visit(key as u32, &found);
            }
        }
        to < self.slots.len()
    }

    // -- contents

    pub fn add_content(&mut self, place: Place, len: u32, large: Option<u64>) -> u32 {
        let content = ContentSlot { place, len, refs: 0 };
        let at = match self.contents_free.pop() {
            Some(at) => {
                self.contents[at as usize] = content;
                at
            }
            None => {
                self.contents.push(content);
                (self.contents.len() - 1) as u32
            }
        };
        if let Some(number) = large {
            self.content_large.insert(at, number);
            *self.large_refs.entry(number).or_insert(0) += 1;
        }
        self.credit(place.segment, u64::from(len));
        at
    }

    pub fn content(&self, slot: u32) -> Option<(Place, u32, Option<u64>)> {
        let content = self.contents.get(slot as usize)?;
        Some((content.place, content.len, self.content_large.get(&slot).copied()))
    }

    pub fn large_in_use(&self, number: u64) -> bool {
        self.large_refs.contains_key(&number) || self.large_waiting.contains(&number)
    }

    /// No message of that file can come back.
    pub fn large_done(&mut self, number: u64) {
        self.large_waiting.remove(&number);
        self.large_free.push(number);
    }

    pub fn large_numbers(&self) -> Vec<u64> {
        self.large_refs.keys().copied().collect()
    }

    pub fn large_count(&self) -> u64 {
        self.large_refs.len() as u64
    }

    /// One message less uses the content. Says which file of `large/` nobody uses any more.
    fn release_content(&mut self, slot: u32) -> Option<u64> {
        let content = &mut self.contents[slot as usize];
        content.refs -= 1;
        if content.refs > 0 {
            return None;
        }
        self.free_content(slot)
    }

    /// Frees a content that no message uses.
    pub fn free_content(&mut self, slot: u32) -> Option<u64> {
        let content = self.contents[slot as usize];
        self.contents_free.push(slot);
        self.debit(content.place.segment, u64::from(content.len));
        let number = self.content_large.remove(&slot)?;
        let refs = self.large_refs.get_mut(&number)?;
        *refs -= 1;
        if *refs > 0 {
            return None;
        }
        self.large_refs.remove(&number);
        Some(number)
    }

    pub fn content_is_unused(&self, slot: u32) -> bool {
        self.contents.get(slot as usize).is_some_and(|content| content.refs == 0)
    }

    /// Gives back what growing left over, once recovery is through.
    pub fn shrink(&mut self) {
        self.slots.shrink_to_fit();
        self.contents.shrink_to_fit();
        self.free.shrink_to_fit();
        self.contents_free.shrink_to_fit();
    }

    fn live_slot(&self, key: u32) -> Option<&Slot> {
        self.slots.get(key as usize).filter(|slot| slot.len_and_flags & (USED | PENDING) == USED)
    }

    fn free_slot(&mut self, key: u32) {
        let id = self.slots[key as usize].id;
        if let Ok(entry) = self.ids.find_entry(hash(id), |&other| other == key) {
            entry.remove();
        }
        self.slots[key as usize].len_and_flags = 0;
        self.free.push(key);
    }
}

/// Ids differ in a counter and a time; a multiplication spreads both over the upper bits that the table looks at.
fn hash(id: u64) -> u64 {
    let mixed = (id ^ id >> 32).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    mixed ^ mixed >> 29
}

const _: () = assert!(size_of::<Slot>() == 32 && size_of::<ContentSlot>() == 16);
const _: () = assert!(DONE_BYTES == HEAD as u64 + 8 && CONTENT_PREFIX.is_multiple_of(8));

#[cfg(test)]
mod tests {
    use super::*;

    fn segment(role: Role) -> Segment {
        Segment {
            seq: 1,
            epoch: 1,
            bytes: 65536,
            end: 4096,
            role,
            live: 0,
            live_bytes: 0,
            done_pins: HashMap::new(),
            moved_from: Vec::new(),
            done_for_copies: false,
            file: None,
        }
    }

    fn with_message(id: u64, number: u32) -> (Index, u32) {
        let mut index = Index::new(0);
        index.add_segment(1, segment(Role::Sealed));
        index.add_segment(2, Segment { seq: 2, ..segment(Role::Active) });
        let key = index.reserve(Id(id)).expect("a free id");
        let content = index.add_content(Place { segment: number, at: 4096 }, 100, None);
        index.settle(key, Place { segment: number, at: 4200 }, 64, content);
        (index, key)
    }

    #[test]
    fn an_id_is_taken_from_reserve_to_done() {
        let mut index = Index::new(0);
        index.add_segment(1, segment(Role::Active));
        let key = index.reserve(Id(5)).expect("free");
        assert_eq!(index.reserve(Id(5)), None);
        assert_eq!(index.live_key_of(5), None, "not before it is durable");
        index.abandon(key);
        assert_eq!(index.reserve(Id(5)), Some(key));
        let content = index.add_content(Place { segment: 1, at: 4096 }, 10, None);
        index.settle(key, Place { segment: 1, at: 5000 }, 64, content);
        index.abandon(key); // too late
        assert_eq!(index.live_key_of(5), Some(key));
        assert!(index.done(key));
        assert!(!index.done(key));
        assert!(index.reserve(Id(5)).is_some());
    }

    #[test]
    fn a_segment_is_given_up_when_its_last_message_is_done() {
        let (mut index, key) = with_message(9, 1);
        assert!(!index.is_retirable(1));
        assert!(index.done(key));
        assert_eq!(index.retirable, [1]);
        assert_eq!(index.segment(1).map(|s| s.live_bytes), Some(0));
    }

    #[test]
    fn a_done_record_holds_its_segment_until_those_of_the_message_and_its_copies_are_given_up() {
        let (mut index, key) = with_message(9, 1);
        index.add_segment(3, Segment { seq: 3, ..segment(Role::Sealed) });
        index.add_segment(4, Segment { seq: 4, ..segment(Role::Sealed) });
        index.note_moved(3, 1);
        index.pin_done(4, 3, 3);
        assert!(index.done(key));
        assert!(index.is_retirable(3), "copies alone hold nothing");
        index.forget_segment(3);
        assert!(!index.is_retirable(4), "the oldest copy is still there");
        index.forget_segment(1);
        assert!(index.is_retirable(4));
        assert!(index.retirable.contains(&4));
        assert_eq!(index.segment(4).map(|s| s.live_bytes), Some(0));
    }

    #[test]
    fn where_a_message_was_moved_from_is_handed_on() {
        let (mut index, _) = with_message(9, 1);
        for number in 3..=5 {
            index.add_segment(number, Segment { seq: u64::from(number), ..segment(Role::Sealed) });
        }
        index.note_moved(3, 1);
        index.note_moved(4, 3);
        index.forget_segment(3);
        index.pin_done(4, 4, 4); // done in the very segment that it was moved to
        assert!(!index.is_retirable(4));
        index.forget_segment(1);
        assert!(index.is_retirable(4));
    }

    #[test]
    fn pins_on_a_former_life_hold_nothing() {
        let (mut index, _) = with_message(9, 1);
        index.pin_done(2, 1, 77);
        index.pin_done(2, 8, 1);
        index.pin_done(2, 2, 2);
        assert!(index.segment(2).is_some_and(|s| s.done_pins.is_empty()));
    }

    #[test]
    fn content_is_freed_with_its_last_message_and_so_is_its_file() {
        let mut index = Index::new(0);
        index.add_segment(1, segment(Role::Active));
        let content = index.add_content(Place { segment: 1, at: 4096 }, 100, Some(7));
        let keys: Vec<u32> = (1..=3)
            .map(|id| {
                let key = index.reserve(Id(id)).expect("free");
                index.settle(key, Place { segment: 1, at: 4096 + id as u32 * 64 }, 64, content);
                key
            })
            .collect();
        assert_eq!(index.remove(keys[0]).and_then(|r| r.2), None);
        assert_eq!(index.remove(keys[1]).and_then(|r| r.2), None);
        assert!(index.large_in_use(7));
        assert_eq!(index.remove(keys[2]).and_then(|r| r.2), Some(7));
        assert!(index.large_in_use(7), "until the done record is durable");
        index.large_done(7);
        assert!(!index.large_in_use(7));
        assert_eq!(index.segment(1).map(|s| (s.live, s.live_bytes)), Some((0, 0)));
    }

    #[test]
    fn the_latest_state_counts_and_one_that_came_meanwhile_is_written_again() {
        let (mut index, key) = with_message(9, 1);
        assert!(index.update(key, DeliveryState { attempts: 1, ..Default::default() }));
        let stamp = index.pending[&key].stamp;
        assert!(index.update(key, DeliveryState { attempts: 2, ..Default::default() }));
        assert_eq!(index.small.len(), 1, "one record for both");
        index.small.clear();
        assert!(index.settle_state(key, 9, stamp, Place { segment: 2, at: 4096 }));
        assert_eq!(index.small.len(), 1, "the newer one is still to be written");
        assert_eq!(index.find(key).and_then(|f| f.pending).map(|s| s.attempts), Some(2));
        let stamp = index.pending[&key].stamp;
        assert!(index.settle_state(key, 9, stamp, Place { segment: 2, at: 8192 }));
        assert!(index.pending.is_empty());
        assert_eq!(index.segment(2).map(|s| s.live), Some(1));
        assert!(!index.update(77, DeliveryState::default()));
    }
}
