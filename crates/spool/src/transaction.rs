//! The records of one transaction, encoded by whoever commits it, ready to be written at whatever offset comes.
//!
//! Headers, prefixes and envelopes go into one buffer; head blocks and bodies stay where they are and are written from
//! there. Payload checksums are summed here, in the session's task and not in the one committer thread, which only adds
//! epoch and offset. The records of a transaction lie one behind the other and count down to 0, so that a part of them
//! is never taken for the whole.

use crate::error::SpoolError;
use crate::format::{
    CONTENT_PREFIX, ContentPrefix, ENVELOPE_PREFIX, EnvelopePrefix, FIRST, HEAD, Head, Kind, MOVED, padded, seal_head,
};
use crate::options::large_of;
use bytes::Bytes;
use crc32c::{crc32c, crc32c_append};
use ph_message::{Body, Content, DeliveryState, Envelope};
use smallvec::SmallVec;
use std::io::IoSlice;
use std::ops::Range;
use std::sync::Arc;

#[derive(Debug, Default)]
pub struct Transaction {
    meta: Vec<u8>,
    parts: SmallVec<[Part; 8]>,
    marks: SmallVec<[Mark; 4]>,
    /// Octets of all records.
    pub len: u64,
    /// Octets of `meta` that are part of `parts` already.
    in_parts: u32,
    pub contents: SmallVec<[ContentMark; 1]>,
    pub envelopes: SmallVec<[EnvelopeMark; 1]>,
    flags: u8,
}

#[derive(Debug)]
enum Part {
    Meta(Range<u32>),
    Shared(Bytes),
}

/// A record header in `meta`.
#[derive(Debug)]
struct Mark {
    meta_at: u32,
    offset: u32,
    payload_crc: u32,
}

#[derive(Debug)]
pub struct ContentMark {
    /// Octets from the beginning of the transaction.
    pub offset: u32,
    pub len: u32,
    pub large: Option<u64>,
    /// Envelopes of this transaction that have it.
    pub sharers: u32,
}

#[derive(Debug)]
pub struct EnvelopeMark {
    pub offset: u32,
    pub len: u32,
    pub content: u32,
    /// Where the state record is; 0: there is none.
    pub state_offset: u32,
}

impl Transaction {
    /// The records of new messages. Contents that are the same octets in memory are written once.
    pub fn commit(entries: &[(Arc<Envelope>, Content)]) -> Result<Transaction, SpoolError> {
        let mut this = Transaction::default();
        this.meta.reserve(entries.len() * 400 + 128);
        let mut contents: SmallVec<[&Content; 1]> = SmallVec::new();
        let mut ordinals: SmallVec<[u32; 2]> = SmallVec::with_capacity(entries.len());
        for (_, content) in entries {
            let same = contents.iter().rposition(|other| is_same(other, content));
            let ordinal = same.unwrap_or_else(|| {
                contents.push(content);
                contents.len() - 1
            });
            ordinals.push(ordinal as u32);
        }
        for content in contents {
            let body = match content.body() {
                Body::Memory(bytes) => Some(bytes.clone()),
                Body::External(_) => None,
            };
            let large = large_of(content).map(|body| body.number());
            let prefix = ContentPrefix {
                large: large.unwrap_or(0),
                head_len: length(content.head().len() as u64)?,
                body_len: content.body().len(),
            };
            this.content(prefix, content.head().clone(), body)?;
        }
        for ((envelope, _), ordinal) in entries.iter().zip(ordinals) {
            this.envelope(envelope, ordinal)?;
        }
        this.finish();
        Ok(this)
    }

    /// Copies of what older segments have: one content, with its messages and their states.
    pub fn moved(
        prefix: ContentPrefix,
        payload: Bytes,
        messages: &[(Envelope, Option<DeliveryState>)],
    ) -> Result<Transaction, SpoolError> {
        let mut this = Transaction { flags: MOVED, ..Transaction::default() };
        let from = payload.len().min(CONTENT_PREFIX as usize);
        this.content(prefix, payload.slice(from..), None)?;
        for (envelope, state) in messages {
            this.envelope(envelope, 0)?;
            if let Some(state) = state {
                let offset = length(this.len)?;
                let from = this.begin(Kind::State, envelope.id.0);
                state.encode(&mut this.meta);
                this.end(from, 0)?;
                if let Some(mark) = this.envelopes.last_mut() {
                    mark.state_offset = offset;
                }
            }
        }
        this.finish();
        Ok(this)
    }

    /// An envelope that takes the place of an older one; the committer says where its content is.
    pub fn replaced(envelope: &Envelope) -> Result<Transaction, SpoolError> {
        let mut this = Transaction { flags: MOVED, ..Transaction::default() };
        let from = this.begin(Kind::Envelope, envelope.id.0);
        this.meta.extend_from_slice(&EnvelopePrefix::default().bytes());
        envelope.encode(&mut this.meta);
        this.end(from, 0)?;
        let len = length(this.len)?;
        this.envelopes.push(EnvelopeMark { offset: 0, len, content: 0, state_offset: 0 });
        this.finish();
        Ok(this)
    }

    /// Says where the content of a `replaced` envelope is.
    pub fn set_content_place(&mut self, prefix: &EnvelopePrefix) {
        let payload = HEAD as usize;
        self.meta[payload..payload + ENVELOPE_PREFIX as usize].copy_from_slice(&prefix.bytes());
        let len = crate::format::u32_at(&self.meta, 4) as usize;
        self.marks[0].payload_crc = crc32c(&self.meta[payload..payload + len]);
    }

    /// Completes the headers for a place in a segment.
    pub fn seal(&mut self, epoch: u64, base: u32) {
        for mark in &self.marks {
            seal_head(&mut self.meta, mark.meta_at as usize, mark.payload_crc, epoch, base + mark.offset);
        }
    }

    pub fn slices<'a>(&'a self, out: &mut Vec<IoSlice<'a>>) {
        out.extend(self.parts.iter().map(|part| {
            IoSlice::new(match part {
                Part::Meta(range) => &self.meta[range.start as usize..range.end as usize],
                Part::Shared(bytes) => bytes,
            })
        }));
    }

    fn content(&mut self, prefix: ContentPrefix, head: Bytes, body: Option<Bytes>) -> Result<(), SpoolError> {
        let offset = length(self.len)?;
        let ordinal = self.contents.len() as u64;
        let from = self.begin(Kind::Content, ordinal);
        prefix.put(&mut self.meta);
        let mut crc = crc32c(&self.meta[from..]);
        let mut shared = 0;
        for bytes in [Some(head), body].into_iter().flatten() {
            if bytes.is_empty() {
                continue;
            }
            crc = crc32c_append(crc, &bytes);
            shared += bytes.len() as u64;
            self.cut_meta();
            self.parts.push(Part::Shared(bytes));
        }
        self.end_with(from, shared, crc)?;
        let large = (prefix.large != 0).then_some(prefix.large);
        self.contents.push(ContentMark { offset, len: length(self.len)? - offset, large, sharers: 0 });
        Ok(())
    }

    fn envelope(&mut self, envelope: &Envelope, ordinal: u32) -> Result<(), SpoolError> {
        let offset = length(self.len)?;
        let content = &mut self.contents[ordinal as usize];
        content.sharers += 1;
        let prefix = EnvelopePrefix {
            back: offset - content.offset,
            content_len: content.len,
            large: content.large.unwrap_or(0),
            ..EnvelopePrefix::default()
        };
        let from = self.begin(Kind::Envelope, envelope.id.0);
        self.meta.extend_from_slice(&prefix.bytes());
        envelope.encode(&mut self.meta);
        self.end(from, 0)?;
        let len = length(self.len)? - offset;
        self.envelopes.push(EnvelopeMark { offset, len, content: ordinal, state_offset: 0 });
        Ok(())
    }

    /// Puts a header; says where its payload begins in `meta`.
    fn begin(&mut self, kind: Kind, id: u64) -> usize {
        self.marks.push(Mark { meta_at: self.meta.len() as u32, offset: self.len as u32, payload_crc: 0 });
        Head { len: 0, epoch: 0, kind, flags: self.flags, remaining: 0, id }.put(&mut self.meta);
        self.meta.len()
    }

    fn end(&mut self, from: usize, shared: u64) -> Result<(), SpoolError> {
        let crc = crc32c(&self.meta[from..]);
        self.end_with(from, shared, crc)
    }

    /// Completes the record whose payload is `meta[from..]` and `shared` octets of other parts.
    fn end_with(&mut self, from: usize, shared: u64, payload_crc: u32) -> Result<(), SpoolError> {
        // No payload octet is put into `meta` after a shared part.
        let len = (self.meta.len() - from) as u64 + shared;
        let head_at = from - HEAD as usize;
        self.meta[head_at + 4..head_at + 8].copy_from_slice(&length(len)?.to_le_bytes());
        let total = u64::from(HEAD) + len;
        self.meta.resize(self.meta.len() + (padded(total) - total) as usize, 0);
        self.len += padded(total);
        if let Some(mark) = self.marks.last_mut() {
            mark.payload_crc = payload_crc;
        }
        Ok(())
    }

    fn cut_meta(&mut self) {
        let end = self.meta.len() as u32;
        if end > self.in_parts {
            self.parts.push(Part::Meta(self.in_parts..end));
            self.in_parts = end;
        }
    }

    /// Counts the records down, and marks the first.
    fn finish(&mut self) {
        self.cut_meta();
        let count = self.marks.len();
        for (nth, mark) in self.marks.iter().enumerate() {
            let at = mark.meta_at as usize;
            self.meta[at + 20..at + 24].copy_from_slice(&((count - 1 - nth) as u32).to_le_bytes());
            if nth == 0 {
                self.meta[at + 18] |= FIRST;
            }
        }
    }
}

/// Whether two contents are the same octets in memory.
fn is_same(a: &Content, b: &Content) -> bool {
    let same_bytes = |a: &Bytes, b: &Bytes| a.len() == b.len() && (a.is_empty() || a.as_ptr() == b.as_ptr());
    same_bytes(a.head(), b.head())
        && match (a.body(), b.body()) {
            (Body::Memory(a), Body::Memory(b)) => same_bytes(a, b),
            (Body::External(a), Body::External(b)) => Arc::ptr_eq(a, b),
            _ => false,
        }
}

/// A length as the format has it.
fn length(len: u64) -> Result<u32, SpoolError> {
    const LEN_MAX: u64 = 1 << 29;
    if len < LEN_MAX { Ok(len as u32) } else { Err(SpoolError::TooLarge { size: len, max: LEN_MAX - 1 }) }
}
