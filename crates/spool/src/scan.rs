//! Reading a segment that has no index, record by record: after a crash, for `check`, and where an index is damaged.
//!
//! Every batch says how much of the segment was durable when it was written. So what fails its checksum below that mark
//! was damaged later: the caller sets it aside, and the valid records around it are kept one by one. Above it is the
//! batch that was being written at the crash, or was written just before. Of that one whole transactions count, wherever
//! they are in it, and the rest is the torn tail.

use crate::format::{
    BLOCK, ContentPrefix, ENVELOPE_PREFIX, EnvelopePrefix, FIRST, HEAD, Head, Kind, SegmentHead, is_valid, u32_at,
    u64_at,
};
use crate::io::{IoFile, read_up_to};
use crate::segindex::{Builder, DoneEntry, MessageEntry, SegmentIndex, StateEntry};
use hashbrown::HashMap;
use ph_message::{DeliveryState, Envelope};
use std::io;
use std::ops::Range;

#[derive(Debug)]
pub struct Scan {
    pub index: SegmentIndex,
    /// Invalid stretches of what was durable once, with what they seem to be.
    pub damage: Vec<(Range<u32>, String)>,
    /// Octets of this life that were never known to be durable, and belong to no whole transaction.
    pub torn_bytes: u64,
    pub records: u64,
    /// The segment's octets, for setting damage aside.
    pub data: Vec<u8>,
}

/// Reads the whole segment.
pub fn scan(file: &dyn IoFile, head: &SegmentHead) -> io::Result<Scan> {
    let mut data = vec![0; file.size()?.min(u64::from(head.bytes)) as usize];
    let len = read_up_to(file, &mut data, 0)?;
    data.truncate(len);
    let scan = Walk::over(&data, head.epoch).finish(head);
    Ok(Scan { data, ..scan })
}

/// One pass over a segment's octets.
struct Walk<'a> {
    data: &'a [u8],
    epoch: u64,
    /// Whole transactions, in order.
    accepted: Vec<(u32, Head)>,
    /// Valid records of transactions that are not whole.
    loose: Vec<(u32, Head)>,
    open: Vec<(u32, Head)>,
    invalid: Vec<Range<u32>>,
    /// Everything below was durable when a later batch was written.
    durable: u32,
    /// Where the last valid record ends.
    end: u32,
    records: u64,
}

impl<'a> Walk<'a> {
    fn over(data: &'a [u8], epoch: u64) -> Walk<'a> {
        let mut walk = Walk {
            data,
            epoch,
            accepted: Vec::new(),
            loose: Vec::new(),
            open: Vec::new(),
            invalid: Vec::new(),
            durable: BLOCK,
            end: BLOCK,
            records: 0,
        };
        let len = data.len() as u64;
        let mut at = u64::from(BLOCK);
        while at + u64::from(HEAD) <= len {
            match walk.record_at(at as u32) {
                Some(head) => {
                    walk.take(at as u32, head);
                    at += head.total();
                    walk.end = at as u32;
                }
                None if walk.is_blank(at as usize) => at = (at + 1).next_multiple_of(u64::from(BLOCK)),
                None => {
                    walk.mark_invalid(at as u32..at as u32 + 8);
                    at += 8;
                }
            }
        }
        walk.break_open();
        walk
    }

    fn record_at(&self, at: u32) -> Option<Head> {
        let from = at as usize;
        if u64_at(self.data, from + 8) != self.epoch {
            return None;
        }
        let head = Head::parse(&self.data[from..])?;
        let record = self.data.get(from..from.checked_add(HEAD as usize)?.checked_add(head.len as usize)?)?;
        is_valid(record, at).then_some(head)
    }

    /// Whether this is the gap at the end of a batch, which may be shorter than a header.
    fn is_blank(&self, at: usize) -> bool {
        let block_end = (at + 1).next_multiple_of(BLOCK as usize);
        self.data[at..block_end.min(at + HEAD as usize)].iter().all(|&octet| octet == 0)
    }

    fn mark_invalid(&mut self, range: Range<u32>) {
        match self.invalid.last_mut() {
            Some(last) if last.end == range.start => last.end = range.end,
            _ => self.invalid.push(range),
        }
    }

    fn take(&mut self, at: u32, head: Head) {
        self.records += 1;
        if head.kind == Kind::Batch {
            self.break_open();
            if head.len >= 4 {
                self.durable = self.durable.max(u32_at(self.data, (at + HEAD) as usize));
            }
            return;
        }
        let follows = self.open.last().is_some_and(|(before, last)| {
            u64::from(*before) + last.total() == u64::from(at) && last.remaining == head.remaining + 1
        });
        if head.has(FIRST) {
            self.break_open();
        } else if !follows {
            self.break_open();
            self.loose.push((at, head));
            return;
        }
        self.open.push((at, head));
        if head.remaining == 0 {
            self.accepted.append(&mut self.open);
        }
    }

    fn break_open(&mut self) {
        self.loose.append(&mut self.open);
    }

    fn finish(mut self, segment: &SegmentHead) -> Scan {
        let durable = self.durable;
        let end_of = |at: u32, head: &Head| at + head.total() as u32;
        let mut damage: Vec<(Range<u32>, String)> = Vec::new();
        let mut torn_bytes = 0;
        for (at, head) in std::mem::take(&mut self.loose) {
            if at < durable {
                self.accepted.push((at, head));
            } else {
                torn_bytes += head.total();
            }
        }
        self.accepted.sort_unstable_by_key(|(at, _)| *at);
        let mut replay = Replay { data: self.data, seq: segment.seq, ..Replay::default() };
        for (at, head) in &self.accepted {
            if let Err(what) = replay.apply(*at, head) {
                damage.push((*at..end_of(*at, head), what));
            }
        }
        for range in self.invalid {
            if range.start < durable {
                damage.push((range, "a record that fails its checksum".into()));
            } else if u64_at(self.data, range.start as usize + 8) == self.epoch {
                // What a former life left there is not ours to count.
                torn_bytes += u64::from(range.end - range.start);
            }
        }
        damage.sort_by_key(|(range, _)| range.start);
        let end = self.end.next_multiple_of(BLOCK);
        let index = replay.build(segment, end);
        Scan { index, damage, torn_bytes, records: self.records, data: Vec::new() }
    }
}

/// What the records of one segment come to, applied in their order.
#[derive(Default)]
struct Replay<'a> {
    data: &'a [u8],
    seq: u64,
    /// By offset: octets of the record, and the body's file.
    contents: HashMap<u32, (u32, u64)>,
    messages: HashMap<u64, Message>,
    states: HashMap<u64, (u32, DeliveryState)>,
    dones: Vec<DoneEntry>,
    id_floor: u64,
}

struct Message {
    at: u32,
    len: u32,
    content_seq: u64,
    content_at: u32,
    content_len: u32,
    large: u64,
    envelope: Envelope,
    state: Option<(u32, DeliveryState)>,
}

impl Replay<'_> {
    fn apply(&mut self, at: u32, head: &Head) -> Result<(), String> {
        let payload = &self.data[(at + HEAD) as usize..(at + HEAD + head.len) as usize];
        match head.kind {
            Kind::Batch => {}
            Kind::Content => {
                let prefix = ContentPrefix::parse(payload, head.len).ok_or("a content record with odd lengths")?;
                self.contents.insert(at, (head.total() as u32, prefix.large));
            }
            Kind::Envelope => {
                let mut message = self.message(at, head, payload)?;
                self.id_floor = self.id_floor.max(head.id);
                // An envelope that takes the place of another one keeps the state that was written before it.
                let before = self.messages.remove(&head.id).and_then(|message| message.state);
                message.state = self.states.remove(&head.id).or(before);
                self.messages.insert(head.id, message);
            }
            Kind::State => {
                let state = DeliveryState::decode(payload).map_err(|error| format!("a delivery state: {error}"))?;
                match self.messages.get_mut(&head.id) {
                    Some(message) => message.state = Some((at, state)),
                    None => {
                        self.states.insert(head.id, (at, state));
                    }
                }
            }
            Kind::Done => {
                if head.len < 8 {
                    return Err("a done record that is too short".into());
                }
                self.id_floor = self.id_floor.max(head.id);
                self.messages.remove(&head.id);
                self.states.remove(&head.id);
                // Also where the message was in this segment: it may have been moved here from an older one.
                self.dones.push(DoneEntry { id: head.id, seq: u64_at(payload, 0) });
            }
        }
        Ok(())
    }

    fn message(&self, at: u32, head: &Head, payload: &[u8]) -> Result<Message, String> {
        let prefix = EnvelopePrefix::parse(payload).ok_or("an envelope record that is too short")?;
        let envelope =
            Envelope::decode(&payload[ENVELOPE_PREFIX as usize..]).map_err(|error| format!("an envelope: {error}"))?;
        if envelope.id.0 != head.id {
            return Err("an envelope with another id than its record".into());
        }
        let (content_seq, content_at) = match prefix.back {
            0 => (prefix.content_seq, prefix.content_at),
            back => (self.seq, at.checked_sub(back).ok_or("an envelope whose content lies before its segment")?),
        };
        if content_seq == self.seq {
            let (len, large) = *self.contents.get(&content_at).ok_or("an envelope whose content is damaged")?;
            if (len, large) != (prefix.content_len, prefix.large) {
                return Err("an envelope with another content's lengths".into());
            }
        }
        Ok(Message {
            at,
            len: head.total() as u32,
            content_seq,
            content_at,
            content_len: prefix.content_len,
            large: prefix.large,
            envelope,
            state: None,
        })
    }

    fn build(self, segment: &SegmentHead, end: u32) -> SegmentIndex {
        let mut builder = Builder::default();
        builder.floor(self.id_floor);
        for done in self.dones {
            builder.done(done);
        }
        let mut messages: Vec<_> = self.messages.into_iter().collect();
        messages.sort_unstable_by_key(|(_, message)| message.at);
        let mut summary = Vec::new();
        for (id, message) in messages {
            let (state_at, state) = message.state.unwrap_or_default();
            summary.clear();
            message.envelope.summary(&state).encode(&mut summary);
            builder.message(&MessageEntry {
                id,
                at: message.at,
                len: message.len,
                content_seq: message.content_seq,
                content_at: message.content_at,
                content_len: message.content_len,
                large: message.large,
                state_at,
                summary: &summary,
            });
        }
        for (id, (at, state)) in self.states {
            builder.state(&StateEntry::new(id, at, &state));
        }
        builder.build(segment.seq, segment.epoch, end)
    }
}
