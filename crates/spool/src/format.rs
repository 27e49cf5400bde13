//! The log's format to the byte (`docs/formats/spool.md`): segment header and record header.
//!
//! A record is valid only at its own offset, in its own segment, in that segment's present life: the checksum covers
//! the offset, and the header carries the segment's random epoch. So what a recycled file still holds of its former
//! life, and what a sender writes into a body to look like a record, is never taken for one.

use crc32c::{crc32c, crc32c_append};

/// The version of the format that is written. Older ones stay readable.
pub const VERSION: u8 = 1;
/// Batches begin at multiples of this, and are padded to it, so that a write never has to read a page first.
pub const BLOCK: u32 = 4096;
/// Octets of a record header.
pub const HEAD: u32 = 32;
/// Octets before the head block of a content record, and before the envelope of an envelope record.
pub const CONTENT_PREFIX: u32 = 24;
pub const ENVELOPE_PREFIX: u32 = 32;

/// The first record of a transaction. One that is missing makes what follows it half a transaction.
pub const FIRST: u8 = 1;
/// The record repeats what an older segment has: that copy counts no more.
pub const MOVED: u8 = 2;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// The head of a batch: what of this segment was durable when it was written.
    Batch = 1,
    Content = 2,
    Envelope = 3,
    /// A `DeliveryState`.
    State = 4,
    Done = 5,
}

/// A record header, save its checksum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    pub len: u32,
    pub epoch: u64,
    pub kind: Kind,
    pub flags: u8,
    /// Records of the same transaction that follow.
    pub remaining: u32,
    /// The message's id; for content the ordinal in its transaction; for a batch nothing.
    pub id: u64,
}

impl Head {
    pub fn put(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(&self.len.to_le_bytes());
        out.extend_from_slice(&self.epoch.to_le_bytes());
        out.extend_from_slice(&[self.kind as u8, VERSION, self.flags, 0]);
        out.extend_from_slice(&self.remaining.to_le_bytes());
        out.extend_from_slice(&self.id.to_le_bytes());
    }

    /// Reads the fields of a header; nothing is known of the checksum yet.
    pub fn parse(bytes: &[u8]) -> Option<Head> {
        let head = bytes.first_chunk::<{ HEAD as usize }>()?;
        let kind = match head[16] {
            1 => Kind::Batch,
            2 => Kind::Content,
            3 => Kind::Envelope,
            4 => Kind::State,
            5 => Kind::Done,
            _ => return None,
        };
        let known = head[17] == VERSION && head[18] & !(FIRST | MOVED) == 0 && head[19] == 0;
        known.then(|| Head {
            len: u32_at(head, 4),
            epoch: u64_at(head, 8),
            kind,
            flags: head[18],
            remaining: u32_at(head, 20),
            id: u64_at(head, 24),
        })
    }

    pub fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    /// Octets of the whole record with its padding.
    pub fn total(&self) -> u64 {
        padded(u64::from(HEAD) + u64::from(self.len))
    }
}

/// Writes epoch and checksum into the header at `at` of `meta`. The checksum covers the payload first, so that the
/// session can have summed it before it is known where the record will lie.
pub fn seal_head(meta: &mut [u8], at: usize, payload_crc: u32, epoch: u64, offset: u32) {
    meta[at + 8..at + 16].copy_from_slice(&epoch.to_le_bytes());
    let crc = record_crc(payload_crc, &meta[at..at + HEAD as usize], offset);
    meta[at..at + 4].copy_from_slice(&crc.to_le_bytes());
}

/// Whether `record` (header and payload, without padding) is what was written at `offset`.
pub fn is_valid(record: &[u8], offset: u32) -> bool {
    let (head, payload) = record.split_at(HEAD as usize);
    record_crc(crc32c(payload), head, offset) == u32_at(head, 0)
}

fn record_crc(payload_crc: u32, head: &[u8], offset: u32) -> u32 {
    crc32c_append(crc32c_append(payload_crc, &head[4..HEAD as usize]), &offset.to_le_bytes())
}

/// Records begin at multiples of eight.
pub fn padded(len: u64) -> u64 {
    len.next_multiple_of(8)
}

/// What stands before head block and body in a content record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ContentPrefix {
    /// The number of the body's file in `large/`; 0: the body follows.
    pub large: u64,
    pub head_len: u32,
    pub body_len: u64,
}

impl ContentPrefix {
    pub fn put(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.large.to_le_bytes());
        out.extend_from_slice(&self.head_len.to_le_bytes());
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(&self.body_len.to_le_bytes());
    }

    /// Reads the prefix of a content payload of `len` octets; `None` when the lengths contradict each other.
    pub fn parse(payload: &[u8], len: u32) -> Option<ContentPrefix> {
        let prefix = payload.first_chunk::<{ CONTENT_PREFIX as usize }>()?;
        let this =
            ContentPrefix { large: u64_at(prefix, 0), head_len: u32_at(prefix, 8), body_len: u64_at(prefix, 16) };
        let inline = if this.large == 0 { this.body_len } else { 0 };
        let want = u64::from(CONTENT_PREFIX).checked_add(u64::from(this.head_len))?.checked_add(inline)?;
        (want == u64::from(len)).then_some(this)
    }
}

/// What stands before the envelope in an envelope record: where its content is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EnvelopePrefix {
    /// Octets from the content record to this one, where both are of one transaction; otherwise 0.
    pub back: u32,
    /// Octets of the whole content record.
    pub content_len: u32,
    /// Where `back` is 0: sequence number of the content's segment, and offset in it.
    pub content_seq: u64,
    pub content_at: u32,
    /// The number of the content's file in `large/`, or 0.
    pub large: u64,
}

impl EnvelopePrefix {
    pub fn bytes(&self) -> [u8; ENVELOPE_PREFIX as usize] {
        let mut out = [0; ENVELOPE_PREFIX as usize];
        out[0..4].copy_from_slice(&self.back.to_le_bytes());
        out[4..8].copy_from_slice(&self.content_len.to_le_bytes());
        out[8..16].copy_from_slice(&self.content_seq.to_le_bytes());
        out[16..20].copy_from_slice(&self.content_at.to_le_bytes());
        out[24..32].copy_from_slice(&self.large.to_le_bytes());
        out
    }

    pub fn parse(payload: &[u8]) -> Option<EnvelopePrefix> {
        let prefix = payload.first_chunk::<{ ENVELOPE_PREFIX as usize }>()?;
        Some(EnvelopePrefix {
            back: u32_at(prefix, 0),
            content_len: u32_at(prefix, 4),
            content_seq: u64_at(prefix, 8),
            content_at: u32_at(prefix, 16),
            large: u64_at(prefix, 24),
        })
    }
}

/// The first block of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentHead {
    /// Whether the segment holds records; otherwise it waits for its next life.
    pub in_use: bool,
    /// Rises by one with each life that begins, of all segments together.
    pub seq: u64,
    pub epoch: u64,
    pub bytes: u32,
    /// The largest message id that was known when the header was written.
    pub id_floor: u64,
}

/// What a first block turned out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FirstBlock {
    Segment(SegmentHead),
    /// Zeros: prepared and never used.
    Blank,
    /// Written by a newer version.
    Newer(u32),
    Damaged,
}

const MAGIC: [u8; 8] = *b"PHSPOOL\n";
const SEGMENT_HEAD: usize = 48;
/// The header stands twice in its block, in different sectors: one damaged octet does not cost a segment.
const COPIES: [usize; 2] = [0, 2048];

impl SegmentHead {
    pub fn block(&self) -> Vec<u8> {
        let mut head = Vec::with_capacity(SEGMENT_HEAD);
        head.extend_from_slice(&MAGIC);
        head.extend_from_slice(&u32::from(VERSION).to_le_bytes());
        head.extend_from_slice(&u32::from(self.in_use).to_le_bytes());
        head.extend_from_slice(&self.seq.to_le_bytes());
        head.extend_from_slice(&self.epoch.to_le_bytes());
        head.extend_from_slice(&self.id_floor.to_le_bytes());
        head.extend_from_slice(&self.bytes.to_le_bytes());
        head.extend_from_slice(&crc32c(&head).to_le_bytes());
        let mut block = vec![0; BLOCK as usize];
        for at in COPIES {
            block[at..at + SEGMENT_HEAD].copy_from_slice(&head);
        }
        block
    }

    /// Reads a first block. Of two valid copies that differ (the write was torn) the later life counts, and of one life
    /// the state `free`.
    pub fn parse(block: &[u8]) -> FirstBlock {
        let copies = COPIES.map(|at| block.get(at..at + SEGMENT_HEAD).map_or(FirstBlock::Damaged, parse_copy));
        match copies {
            [FirstBlock::Segment(a), FirstBlock::Segment(b)] => {
                FirstBlock::Segment(if (a.seq, !a.in_use) >= (b.seq, !b.in_use) { a } else { b })
            }
            [FirstBlock::Segment(one), _] | [_, FirstBlock::Segment(one)] => FirstBlock::Segment(one),
            [FirstBlock::Newer(version), _] | [_, FirstBlock::Newer(version)] => FirstBlock::Newer(version),
            _ if block.iter().all(|&octet| octet == 0) => FirstBlock::Blank,
            _ => FirstBlock::Damaged,
        }
    }
}

fn parse_copy(head: &[u8]) -> FirstBlock {
    if head[..8] != MAGIC || crc32c(&head[..SEGMENT_HEAD - 4]) != u32_at(head, SEGMENT_HEAD - 4) {
        return FirstBlock::Damaged;
    }
    let version = u32_at(head, 8);
    if version != u32::from(VERSION) {
        return FirstBlock::Newer(version);
    }
    let bytes = u32_at(head, 40);
    if bytes < BLOCK || !bytes.is_multiple_of(BLOCK) {
        return FirstBlock::Damaged;
    }
    FirstBlock::Segment(SegmentHead {
        in_use: u32_at(head, 12) == 1,
        seq: u64_at(head, 16),
        epoch: u64_at(head, 24),
        bytes,
        id_floor: u64_at(head, 32),
    })
}

pub fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let mut word = [0; 4];
    word.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(word)
}

pub fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let mut word = [0; 8];
    word.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(word)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head() -> SegmentHead {
        SegmentHead { in_use: true, seq: 7, epoch: 0x1234_5678_9abc_def0, bytes: 1 << 20, id_floor: 99 }
    }

    #[test]
    fn any_damaged_octet_of_a_segment_header_is_survived() {
        let block = head().block();
        for at in 0..block.len() {
            let mut damaged = block.clone();
            damaged[at] ^= 0x10;
            assert_eq!(SegmentHead::parse(&damaged), FirstBlock::Segment(head()), "octet {at}");
        }
    }

    #[test]
    fn of_a_torn_header_the_later_life_counts_and_free_before_in_use() {
        let old = head();
        let free = SegmentHead { in_use: false, ..old };
        let next = SegmentHead { seq: 8, epoch: 1, ..old };
        for (a, b, want) in [(old, free, free), (free, next, next), (next, free, next), (free, old, free)] {
            let (mut block, second) = (a.block(), b.block());
            block[2048..].copy_from_slice(&second[2048..]);
            assert_eq!(SegmentHead::parse(&block), FirstBlock::Segment(want));
        }
        assert_eq!(SegmentHead::parse(&[0; 4096]), FirstBlock::Blank);
        assert_eq!(SegmentHead::parse(&[1; 4096]), FirstBlock::Damaged);
    }

    #[test]
    fn a_record_is_valid_only_at_its_offset_and_unchanged() {
        let mut meta = Vec::new();
        Head { len: 5, epoch: 0, kind: Kind::State, flags: FIRST, remaining: 3, id: 42 }.put(&mut meta);
        meta.extend_from_slice(b"hello");
        seal_head(&mut meta, 0, crc32c(b"hello"), 77, 4096);
        assert!(is_valid(&meta, 4096));
        assert!(!is_valid(&meta, 8192));
        let parsed = Head::parse(&meta).expect("a header");
        assert_eq!((parsed.len, parsed.epoch, parsed.kind, parsed.remaining, parsed.id), (5, 77, Kind::State, 3, 42));
        for at in 0..meta.len() {
            let mut damaged = meta.clone();
            damaged[at] ^= 1;
            assert!(!is_valid(&damaged, 4096), "octet {at}");
        }
    }

    #[test]
    fn prefixes_come_back_and_lengths_must_agree() {
        let prefix = ContentPrefix { large: 0, head_len: 10, body_len: 20 };
        let mut out = Vec::new();
        prefix.put(&mut out);
        assert_eq!(ContentPrefix::parse(&out, 54), Some(prefix));
        assert_eq!(ContentPrefix::parse(&out, 55), None);
        let large = ContentPrefix { large: 3, head_len: 10, body_len: u64::MAX };
        out.clear();
        large.put(&mut out);
        assert_eq!(ContentPrefix::parse(&out, 34), Some(large));
        let prefix = EnvelopePrefix { back: 1, content_len: 2, content_seq: 3, content_at: 4, large: 5 };
        assert_eq!(EnvelopePrefix::parse(&prefix.bytes()), Some(prefix));
    }
}
