//! The slots in which queued messages lie: 64 octets each, plus two columns of address hashes.
//!
//! A million messages may wait, so a slot has numbers only: names of bindings and domains stand once, in `names`. Slots
//! come in chunks that never move (growing copies nothing, so no push ever waits for one) and that are freed when empty.
//! A slot is addressed by its number; `NIL` is none. The two links serve whichever order the message is in (`order`).

use ph_message::{Id, SpoolKey, Time};

/// No slot.
pub(crate) const NIL: u32 = u32::MAX;

/// Slots per chunk: 72 KiB a chunk with its columns.
const CHUNK: usize = 1024;

/// Empty chunks that are kept, so that a queue that breathes does not allocate all the time.
const SPARE_CHUNKS: usize = 4;

/// Where a message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Place {
    /// The slot holds no message.
    Vacant,
    /// In the active list of its queue.
    Active,
    /// In the delayed tree of its queue.
    Delayed,
    /// Handed out as a `Taken`.
    InFlight,
}

#[derive(Clone, Debug)]
pub(crate) struct Slot {
    pub id: Id,
    pub batch: Id,
    pub created: Time,
    pub due: Time,
    pub key: SpoolKey,
    /// Number of its queue.
    pub queue: u32,
    /// Octets; 4 GiB and more are kept as 4 GiB less one.
    pub size: u32,
    /// Active: the one before. Delayed: left child. Vacant: the next vacant one.
    pub prev: u32,
    /// Active: the one behind. Delayed: right child.
    pub next: u32,
    pub retries: u16,
    pub attempts: u16,
    pub place: Place,
    pub null_sender: bool,
    /// Goes before mail that is not.
    pub urgent: bool,
    /// Came in together with others of its batch.
    pub batched: bool,
}

const VACANT: Slot = Slot {
    id: Id::NULL,
    batch: Id::NULL,
    created: Time::ZERO,
    due: Time::ZERO,
    key: SpoolKey(0),
    queue: NIL,
    size: 0,
    prev: NIL,
    next: NIL,
    retries: 0,
    attempts: 0,
    place: Place::Vacant,
    null_sender: false,
    urgent: false,
    batched: false,
};

/// All slots of the process.
#[derive(Debug, Default)]
pub(crate) struct Slots {
    chunks: Vec<Chunk>,
    /// Chunks that may have a vacant slot (a chunk stands here at most once).
    with_room: Vec<u32>,
    empty_kept: usize,
    len: usize,
}

#[derive(Debug, Default)]
struct Chunk {
    /// Empty when the chunk is freed.
    slots: Box<[Slot]>,
    recipients: Box<[u32]>,
    senders: Box<[u32]>,
    vacant: u32,
    used: u32,
    listed: bool,
}

impl Slots {
    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.len
    }

    /// One more than the largest slot number that may be in use.
    #[cfg(test)]
    pub fn end(&self) -> u32 {
        (self.chunks.len() * CHUNK) as u32
    }

    /// Puts a message into a vacant slot. `None` when 2^32 - 1 messages are there.
    pub fn insert(&mut self, slot: Slot, sender_hash: u32, recipient_hash: u32) -> Option<u32> {
        let chunk_no = self.chunk_with_room()?;
        let chunk = &mut self.chunks[chunk_no as usize];
        let at = chunk.vacant;
        let here = &mut chunk.slots[at as usize];
        chunk.vacant = here.next;
        *here = slot;
        chunk.recipients[at as usize] = recipient_hash;
        chunk.senders[at as usize] = sender_hash;
        self.empty_kept -= usize::from(chunk.used == 0);
        chunk.used += 1;
        self.len += 1;
        Some(chunk_no * CHUNK as u32 + at)
    }

    /// Vacates a slot.
    pub fn remove(&mut self, no: u32) -> Slot {
        let (chunk_no, at) = split(no);
        let chunk = &mut self.chunks[chunk_no];
        let old = std::mem::replace(&mut chunk.slots[at], VACANT);
        chunk.slots[at].next = chunk.vacant;
        chunk.vacant = at as u32;
        chunk.used -= 1;
        self.len -= 1;
        if !chunk.listed {
            chunk.listed = true;
            self.with_room.push(chunk_no as u32);
        }
        if chunk.used == 0 {
            if self.empty_kept < SPARE_CHUNKS {
                self.empty_kept += 1;
            } else {
                *chunk = Chunk { listed: true, ..Chunk::default() };
            }
        }
        old
    }

    /// The slot, if the number is one of a message.
    pub fn get(&self, no: u32) -> Option<&Slot> {
        let (chunk, at) = split(no);
        self.chunks.get(chunk)?.slots.get(at).filter(|slot| slot.place != Place::Vacant)
    }

    /// Sender and recipient hash.
    pub fn hashes(&self, no: u32) -> (u32, u32) {
        let (chunk, at) = split(no);
        (self.chunks[chunk].senders[at], self.chunks[chunk].recipients[at])
    }

    /// Appends to `found` the numbers in `from..` of one chunk whose address hashes are the wanted ones; returns where
    /// to go on, or `None` at the end.
    pub fn scan(&self, from: u32, sender: Option<u32>, recipient: Option<u32>, found: &mut Vec<u32>) -> Option<u32> {
        let (chunk_no, at) = split(from);
        let chunk = self.chunks.get(chunk_no)?;
        let base = (chunk_no * CHUNK) as u32;
        if !chunk.slots.is_empty() {
            let fits = |column: &[u32], wanted: Option<u32>, i: usize| wanted.is_none_or(|hash| column[i] == hash);
            for i in at..CHUNK {
                if fits(&chunk.recipients, recipient, i)
                    && fits(&chunk.senders, sender, i)
                    && chunk.slots[i].place != Place::Vacant
                {
                    found.push(base + i as u32);
                }
            }
        }
        Some(base + CHUNK as u32)
    }

    /// Octets of heap that the slots take.
    pub fn heap_bytes(&self) -> usize {
        let chunk_bytes = CHUNK * (size_of::<Slot>() + 2 * size_of::<u32>());
        self.chunks.iter().filter(|chunk| !chunk.slots.is_empty()).count() * chunk_bytes
            + self.chunks.capacity() * size_of::<Chunk>()
            + self.with_room.capacity() * size_of::<u32>()
    }

    fn chunk_with_room(&mut self) -> Option<u32> {
        while let Some(no) = self.with_room.last().copied() {
            let chunk = &mut self.chunks[no as usize];
            if chunk.slots.is_empty() {
                *chunk = Chunk { listed: true, ..Chunk::filled() };
                self.empty_kept += 1;
            }
            if chunk.vacant != NIL {
                return Some(no);
            }
            chunk.listed = false;
            self.with_room.pop();
        }
        let no = u32::try_from(self.chunks.len()).ok().filter(|no| *no < NIL / CHUNK as u32)?;
        self.chunks.push(Chunk { listed: true, ..Chunk::filled() });
        self.with_room.push(no);
        self.empty_kept += 1;
        Some(no)
    }
}

impl Chunk {
    fn filled() -> Chunk {
        let mut slots = vec![VACANT; CHUNK].into_boxed_slice();
        for (at, slot) in slots.iter_mut().enumerate() {
            slot.next = if at + 1 < CHUNK { at as u32 + 1 } else { NIL };
        }
        let column = || vec![0; CHUNK].into_boxed_slice();
        Chunk { slots, recipients: column(), senders: column(), vacant: 0, used: 0, listed: false }
    }
}

impl std::ops::Index<u32> for Slots {
    type Output = Slot;

    fn index(&self, no: u32) -> &Slot {
        let (chunk, at) = split(no);
        &self.chunks[chunk].slots[at]
    }
}

impl std::ops::IndexMut<u32> for Slots {
    fn index_mut(&mut self, no: u32) -> &mut Slot {
        let (chunk, at) = split(no);
        &mut self.chunks[chunk].slots[at]
    }
}

fn split(no: u32) -> (usize, usize) {
    (no as usize / CHUNK, no as usize % CHUNK)
}

#[cfg(test)]
pub(crate) fn slot_for_test(due: Time) -> Slot {
    Slot { due, place: Place::InFlight, ..VACANT }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_slot_is_one_cache_line() {
        assert_eq!(size_of::<Slot>(), 64);
    }

    #[test]
    fn chunks_that_became_empty_are_freed() {
        let mut slots = Slots::default();
        let numbers: Vec<u32> =
            (0..100 * CHUNK).map(|_| slots.insert(slot_for_test(Time::ZERO), 0, 0).unwrap()).collect();
        let full = slots.heap_bytes();
        for no in numbers {
            slots.remove(no);
        }
        assert_eq!(slots.len(), 0);
        assert!(slots.heap_bytes() < full / 10, "{} of {full}", slots.heap_bytes());
        for _ in 0..3 * CHUNK {
            slots.insert(slot_for_test(Time::ZERO), 0, 0).unwrap();
        }
        assert!(slots.end() <= 100 * CHUNK as u32);
    }

    proptest! {
        #[test]
        fn slots_keep_what_was_put_into_them(ops in prop::collection::vec((any::<u16>(), 0..4_u8), 1..4000)) {
            let mut slots = Slots::default();
            let mut model: Vec<(u32, i64)> = Vec::new();
            for (value, op) in ops {
                if op == 0 && !model.is_empty() {
                    let (no, due) = model.swap_remove(usize::from(value) % model.len());
                    prop_assert_eq!(slots.remove(no).due, Time(due));
                    prop_assert!(slots.get(no).is_none());
                } else {
                    let due = i64::from(value);
                    let no = slots.insert(slot_for_test(Time(due)), 0, u32::from(value)).unwrap();
                    prop_assert!(model.iter().all(|(other, _)| *other != no));
                    model.push((no, due));
                }
            }
            prop_assert_eq!(slots.len(), model.len());
            for (no, due) in &model {
                prop_assert_eq!(slots[*no].due, Time(*due));
                prop_assert_eq!(slots.hashes(*no).1, *due as u32);
            }
        }
    }
}
