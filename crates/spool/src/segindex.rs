//! The index of a sealed segment: what of it counted when the index was written (`docs/formats/spool.md`).
//!
//! With it a restart reads some hundred octets per message instead of the whole log. An index is only a saving: one
//! that is missing, damaged, or of another life of its segment is replaced by scanning the segment. The order of its
//! sections is the order in which they are applied: done messages, messages, states.

use crate::format::{u32_at, u64_at};
use crc32c::crc32c;
use ph_message::{DeliveryState, Summary};

const MAGIC: [u8; 8] = *b"PHSPIDX\n";
const VERSION: u32 = 1;
const HEAD: usize = 64;
const MESSAGE: usize = 48;
const STATE: usize = 28;
const DONE: usize = 16;

/// An index, as it lies in its file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentIndex {
    pub seq: u64,
    pub epoch: u64,
    /// Where the segment's records end.
    pub end: u32,
    pub id_floor: u64,
    messages: u32,
    states: u32,
    dones: u32,
    body: Vec<u8>,
}

/// A message whose envelope lies in this segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MessageEntry<'a> {
    pub id: u64,
    pub at: u32,
    pub len: u32,
    pub content_seq: u64,
    pub content_at: u32,
    pub content_len: u32,
    /// The number of the body's file, or 0.
    pub large: u64,
    /// The offset of its state in this segment, or 0.
    pub state_at: u32,
    /// The encoded summary, with that state.
    pub summary: &'a [u8],
}

/// The state of a message whose envelope lies in an older segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StateEntry {
    pub id: u64,
    pub at: u32,
    pub retries: u32,
    pub attempts: u32,
    pub next_attempt: i64,
}

impl StateEntry {
    pub fn new(id: u64, at: u32, state: &DeliveryState) -> StateEntry {
        StateEntry {
            id,
            at,
            retries: state.retries,
            attempts: state.attempts,
            next_attempt: state.next_attempt.micros(),
        }
    }

    pub fn apply(&self, summary: &mut Summary) {
        (summary.retries, summary.attempts) = (self.retries, self.attempts);
        summary.next_attempt = ph_message::Time(self.next_attempt);
    }
}

/// A message of an older segment that is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DoneEntry {
    pub id: u64,
    /// The life of the segment that held it.
    pub seq: u64,
}

/// Collects the sections of an index.
#[derive(Debug, Default)]
pub struct Builder {
    dones: Vec<u8>,
    messages: Vec<u8>,
    states: Vec<u8>,
    id_floor: u64,
}

impl Builder {
    pub fn message(&mut self, entry: &MessageEntry<'_>) {
        let out = &mut self.messages;
        out.extend_from_slice(&entry.id.to_le_bytes());
        out.extend_from_slice(&entry.at.to_le_bytes());
        out.extend_from_slice(&entry.len.to_le_bytes());
        out.extend_from_slice(&entry.content_seq.to_le_bytes());
        out.extend_from_slice(&entry.content_at.to_le_bytes());
        out.extend_from_slice(&entry.content_len.to_le_bytes());
        out.extend_from_slice(&entry.large.to_le_bytes());
        out.extend_from_slice(&entry.state_at.to_le_bytes());
        out.extend_from_slice(&(entry.summary.len() as u32).to_le_bytes());
        out.extend_from_slice(entry.summary);
        self.floor(entry.id);
    }

    pub fn state(&mut self, entry: &StateEntry) {
        self.states.extend_from_slice(&entry.id.to_le_bytes());
        self.states.extend_from_slice(&entry.at.to_le_bytes());
        self.states.extend_from_slice(&entry.retries.to_le_bytes());
        self.states.extend_from_slice(&entry.attempts.to_le_bytes());
        self.states.extend_from_slice(&entry.next_attempt.to_le_bytes());
    }

    pub fn done(&mut self, entry: DoneEntry) {
        self.dones.extend_from_slice(&entry.id.to_le_bytes());
        self.dones.extend_from_slice(&entry.seq.to_le_bytes());
        self.floor(entry.id);
    }

    pub fn floor(&mut self, id: u64) {
        self.id_floor = self.id_floor.max(id);
    }

    pub fn build(self, seq: u64, epoch: u64, end: u32) -> SegmentIndex {
        let mut index = SegmentIndex {
            seq,
            epoch,
            end,
            id_floor: self.id_floor,
            messages: 0,
            states: (self.states.len() / STATE) as u32,
            dones: (self.dones.len() / DONE) as u32,
            body: Vec::new(),
        };
        index.body = self.dones;
        index.body.extend_from_slice(&self.messages);
        index.body.extend_from_slice(&self.states);
        // Entries of messages differ in length: counted once here, they bound the iterator later.
        let (mut at, from) = (0, self.messages);
        while let Some(len) = from.get(at + 44..at + 48) {
            at += MESSAGE + u32_at(len, 0) as usize;
            index.messages += 1;
        }
        index
    }
}

impl SegmentIndex {
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(HEAD + self.body.len());
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&VERSION.to_le_bytes());
        out.extend_from_slice(&self.end.to_le_bytes());
        out.extend_from_slice(&self.seq.to_le_bytes());
        out.extend_from_slice(&self.epoch.to_le_bytes());
        out.extend_from_slice(&self.id_floor.to_le_bytes());
        out.extend_from_slice(&self.dones.to_le_bytes());
        out.extend_from_slice(&self.messages.to_le_bytes());
        out.extend_from_slice(&self.states.to_le_bytes());
        out.extend_from_slice(&crc32c(&self.body).to_le_bytes());
        out.extend_from_slice(&(self.body.len() as u32).to_le_bytes());
        out.extend_from_slice(&crc32c(&out).to_le_bytes());
        out.extend_from_slice(&self.body);
        out
    }

    /// `None`: not a valid index.
    pub fn from_bytes(mut bytes: Vec<u8>) -> Option<SegmentIndex> {
        let head = bytes.first_chunk::<HEAD>()?;
        if head[..8] != MAGIC || u32_at(head, 8) != VERSION || crc32c(&head[..60]) != u32_at(head, 60) {
            return None;
        }
        let (body_crc, body_len) = (u32_at(head, 52), u32_at(head, 56) as usize);
        let mut index = SegmentIndex {
            end: u32_at(head, 12),
            seq: u64_at(head, 16),
            epoch: u64_at(head, 24),
            id_floor: u64_at(head, 32),
            dones: u32_at(head, 40),
            messages: u32_at(head, 44),
            states: u32_at(head, 48),
            body: Vec::new(),
        };
        if bytes.len() != HEAD + body_len || crc32c(&bytes[HEAD..]) != body_crc {
            return None;
        }
        bytes.drain(..HEAD);
        index.body = bytes;
        let sections = index.dones as usize * DONE + index.states as usize * STATE;
        let messages: usize = index.messages().map(|entry| MESSAGE + entry.summary.len()).sum();
        (sections + messages == index.body.len() && index.messages().count() == index.messages as usize)
            .then_some(index)
    }

    pub fn dones(&self) -> impl Iterator<Item = DoneEntry> {
        let section = self.body.get(..self.dones as usize * DONE).unwrap_or(&[]);
        section.as_chunks::<DONE>().0.iter().map(|entry| DoneEntry { id: u64_at(entry, 0), seq: u64_at(entry, 8) })
    }

    pub fn messages(&self) -> impl Iterator<Item = MessageEntry<'_>> {
        let mut rest = self.body.get(self.dones as usize * DONE..).unwrap_or(&[]);
        (0..self.messages).map_while(move |_| {
            let (head, after) = rest.split_at_checked(MESSAGE)?;
            let (summary, after) = after.split_at_checked(u32_at(head, 44) as usize)?;
            rest = after;
            Some(MessageEntry {
                id: u64_at(head, 0),
                at: u32_at(head, 8),
                len: u32_at(head, 12),
                content_seq: u64_at(head, 16),
                content_at: u32_at(head, 24),
                content_len: u32_at(head, 28),
                large: u64_at(head, 32),
                state_at: u32_at(head, 40),
                summary,
            })
        })
    }

    pub fn states(&self) -> impl Iterator<Item = StateEntry> {
        let from = self.body.len().saturating_sub(self.states as usize * STATE);
        self.body[from..].as_chunks::<STATE>().0.iter().map(|entry| StateEntry {
            id: u64_at(entry, 0),
            at: u32_at(entry, 8),
            retries: u32_at(entry, 12),
            attempts: u32_at(entry, 16),
            next_attempt: u64_at(entry, 20) as i64,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> SegmentIndex {
        let mut builder = Builder::default();
        for id in 1..=3_u64 {
            builder.message(&MessageEntry {
                id,
                at: 100,
                len: 64,
                content_seq: 5,
                content_at: 8,
                content_len: 16,
                large: id - 1,
                state_at: 0,
                summary: &vec![id as u8; id as usize * 7],
            });
        }
        builder.state(&StateEntry { id: 8, at: 9, retries: 1, attempts: 2, next_attempt: -5 });
        builder.done(DoneEntry { id: 77, seq: 3 });
        builder.done(DoneEntry { id: 6, seq: 4 });
        builder.build(12, 34, 8192)
    }

    #[test]
    fn sections_come_back() {
        let index = SegmentIndex::from_bytes(sample().to_bytes()).expect("valid");
        assert_eq!(index, sample());
        assert_eq!((index.seq, index.epoch, index.end, index.id_floor), (12, 34, 8192, 77));
        assert_eq!(index.messages().map(|m| (m.id, m.summary.len())).collect::<Vec<_>>(), [(1, 7), (2, 14), (3, 21)]);
        assert_eq!(index.states().map(|s| (s.id, s.next_attempt)).collect::<Vec<_>>(), [(8, -5)]);
        assert_eq!(index.dones().map(|d| d.id).collect::<Vec<_>>(), [77, 6]);
    }

    #[test]
    fn any_damage_is_noticed() {
        let bytes = sample().to_bytes();
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 4;
            assert_eq!(SegmentIndex::from_bytes(damaged), None, "octet {at}");
            assert_eq!(SegmentIndex::from_bytes(bytes[..at].to_vec()), None, "cut at {at}");
        }
    }
}
