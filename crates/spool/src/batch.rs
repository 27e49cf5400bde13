//! One batch on its way: which small records and transactions it takes, and what becomes true once it is durable.
//!
//! All of it works on the index, under the lock, and does no I/O. What is written refers to what the index said when the
//! batch was assembled; a message that was done since then is given up again where its new copy lies.

use crate::error::SpoolError;
use crate::format::{EnvelopePrefix, FIRST, HEAD, Head, Kind, padded, seal_head};
use crate::inbox::{Task, Work};
use crate::index::{Index, Place, Small};
use crate::keeper::Sealed;
use crate::options::Stored;
use crate::spool::{Receipt, Shared};
use crate::transaction::Transaction;
use crc32c::crc32c;
use ph_message::DeliveryState;
use std::sync::Arc;
use std::time::Instant;
use tokio::sync::oneshot;

/// A small record of a batch.
#[derive(Debug)]
pub enum Written {
    Done { id: u64, segment: u32, seq: u64, large: Option<u64> },
    State { key: u32, id: u64, stamp: u64, at: u32 },
}

#[derive(Default)]
pub struct Batch {
    pub small: Vec<u8>,
    pub written: Vec<Written>,
    /// Each with its offset.
    pub work: Vec<(Work, u32)>,
    pub flushes: Vec<oneshot::Sender<Result<(), SpoolError>>>,
    pub end: u32,
}

pub enum Prepared {
    Write,
    /// Another work of this batch has the message: later.
    Defer,
    Answer(SpoolError),
    Answered,
    Flush,
}

/// Reserves keys, or checks that what is to be moved is still where it was.
pub fn prepare(index: &mut Index, work: &mut Work) -> Prepared {
    match &mut work.task {
        // A `done` record that is yet to be written must not come after a new message of the same id.
        Task::Commit { .. } if !index.small.is_empty() => return Prepared::Defer,
        Task::Commit { entries, keys, .. } => {
            for (envelope, _) in entries.iter() {
                match index.reserve(envelope.id) {
                    Some(key) => keys.push(key),
                    None => {
                        keys.drain(..).for_each(|key| index.abandon(key));
                        return Prepared::Answer(SpoolError::DuplicateId(envelope.id));
                    }
                }
            }
        }
        Task::Replace { key, id, .. } => {
            let Some(found) = index.find(*key).filter(|found| found.id == *id) else {
                return Prepared::Answer(SpoolError::NotFound);
            };
            if found.busy {
                return Prepared::Defer;
            }
            let seq = index.segment(found.content.segment).map_or(0, |segment| segment.seq);
            let large = index.content(found.content_slot).and_then(|(_, _, large)| large);
            work.transaction.set_content_place(&EnvelopePrefix {
                back: 0,
                content_len: found.content_len,
                content_seq: seq,
                content_at: found.content.at,
                large: large.unwrap_or(0),
            });
            index.set_busy(*key, true);
        }
        Task::Move { expect, .. } => {
            let unchanged = expect.iter().all(|message| {
                index.find(message.key).is_some_and(|found| {
                    !found.busy
                        && found.pending.is_none()
                        && (found.id, found.envelope, found.state) == (message.id, message.envelope, message.state)
                })
            });
            if !unchanged {
                let task = std::mem::replace(&mut work.task, Task::Flush { reply: oneshot::channel().0 });
                if let Task::Move { reply, .. } = task {
                    let _ = reply.send(Ok(false));
                }
                return Prepared::Answered;
            }
            expect.iter().for_each(|message| index.set_busy(message.key, true));
        }
        // A flush means all that came before it; what found no room is yet to come.
        Task::Flush { .. } if !index.small.is_empty() => return Prepared::Defer,
        Task::Flush { .. } => return Prepared::Flush,
    }
    Prepared::Write
}

pub fn answer(work: Work, error: &SpoolError) {
    // A session that went away does not read its answer.
    match work.task {
        Task::Commit { reply, .. } => drop(reply.send(Err(error.clone()))),
        Task::Replace { reply, .. } | Task::Flush { reply } => drop(reply.send(Err(error.clone()))),
        Task::Move { reply, .. } => drop(reply.send(Err(error.clone()))),
    }
}

/// What is told to whom once the lock is free.
pub enum Reply {
    Commit(oneshot::Sender<Result<Receipt, SpoolError>>, Vec<u32>),
    Replace(oneshot::Sender<Result<(), SpoolError>>, Result<(), SpoolError>),
    Move(oneshot::Sender<Result<bool, SpoolError>>),
}

impl Reply {
    pub fn send(self, shared: &Arc<Shared>) {
        match self {
            // A receipt that nobody takes gives the messages up: their client never read a 250.
            Reply::Commit(reply, keys) => drop(reply.send(Ok(Receipt::new(shared, keys)))),
            Reply::Replace(reply, result) => drop(reply.send(result)),
            Reply::Move(reply) => drop(reply.send(Ok(true))),
        }
    }
}

pub fn settle(index: &mut Index, sealed: &mut Sealed, work: Work, base: u32) -> Reply {
    let place = |offset: u32| Place { segment: sealed.number, at: base + offset };
    let Transaction { contents, envelopes, .. } = work.transaction;
    let slots: Vec<u32> =
        contents.iter().map(|mark| index.add_content(place(mark.offset), mark.len, mark.large)).collect();
    match work.task {
        Task::Commit { entries, keys, reply } => {
            let now = Instant::now();
            for ((mark, &key), (envelope, content)) in envelopes.iter().zip(&keys).zip(entries) {
                let at = place(mark.offset);
                index.settle(key, at, mark.len, slots[mark.content as usize]);
                sealed.envelopes.push((at.at, key));
                let stored = Stored { envelope, content, state: DeliveryState::default() };
                let sharers = contents[mark.content as usize].sharers as usize;
                index.cache.insert(key, Arc::new(stored), sharers, now);
            }
            Reply::Commit(reply, keys)
        }
        Task::Replace { key, id, reply } => {
            index.set_busy(key, false);
            let old = index.find(key).filter(|found| found.id == id);
            let Some(old) = old else {
                // It was done while this was written: that `done` names the old place, so say it of this one, too.
                done_here(index, sealed, id);
                return Reply::Replace(reply, Err(SpoolError::NotFound));
            };
            let mark = &envelopes[0];
            index.note_moved(sealed.number, old.envelope.segment);
            index.relocate(key, place(0), mark.len, old.content_slot, old.state);
            sealed.envelopes.push((base, key));
            Reply::Replace(reply, Ok(()))
        }
        Task::Move { expect, reply } => {
            for (mark, message) in envelopes.iter().zip(expect) {
                index.set_busy(message.key, false);
                let old = index.find(message.key).filter(|found| found.id == message.id);
                let Some(old) = old else {
                    done_here(index, sealed, message.id);
                    continue;
                };
                for from in [old.envelope.segment, old.content.segment] {
                    index.note_moved(sealed.number, from);
                }
                let state = if mark.state_offset == 0 { Place::default() } else { place(mark.state_offset) };
                index.relocate(message.key, place(mark.offset), mark.len, slots[0], state);
                sealed.envelopes.push((base + mark.offset, message.key));
            }
            for slot in slots {
                if index.content_is_unused(slot) {
                    index.free_content(slot);
                }
            }
            Reply::Move(reply)
        }
        Task::Flush { reply } => Reply::Replace(reply, Ok(())),
    }
}

fn done_here(index: &mut Index, sealed: &Sealed, id: u64) {
    index.small.push(Small::Done { id, segment: sealed.number, seq: sealed.seq, large: None });
}

pub fn settle_small(index: &mut Index, sealed: &mut Sealed, small: Written) {
    match small {
        Written::Done { id, segment, seq, large } => {
            index.pin_done(sealed.number, segment, seq);
            sealed.dones.push((id, seq));
            if let Some(number) = large {
                index.large_done(number);
            }
        }
        Written::State { key, id, stamp, at } => {
            if index.settle_state(key, id, stamp, Place { segment: sealed.number, at }) {
                sealed.states.push((at, key));
            }
        }
    }
}

/// Puts small records into a batch, as far as there is room.
pub fn take_small(index: &mut Index, batch: &mut Batch, base: u32, room: usize) {
    let small = std::mem::take(&mut index.small);
    let mut rest = small.into_iter();
    for record in rest.by_ref() {
        let from = batch.small.len();
        let written = match record {
            Small::Done { id, segment, seq, large } => {
                if index.segment(segment).is_none_or(|segment| segment.seq != seq) {
                    // The segment was given up: nothing of it can come back.
                    if let Some(number) = large {
                        index.large_done(number);
                    }
                    continue;
                }
                put_record(&mut batch.small, Kind::Done, id, |out| out.extend_from_slice(&seq.to_le_bytes()));
                Written::Done { id, segment, seq, large }
            }
            Small::State { key, id } => {
                let Some(pending) = index.pending.get(&key) else { continue };
                if index.find(key).is_none_or(|found| found.id != id) {
                    continue;
                }
                put_record(&mut batch.small, Kind::State, id, |out| pending.state.encode(out));
                Written::State { key, id, stamp: pending.stamp, at: base + from as u32 }
            }
        };
        if batch.small.len() > room {
            batch.small.truncate(from);
            index.small.push(record);
            break;
        }
        batch.written.push(written);
    }
    index.small.extend(rest);
}

/// Begins a batch with the record that says what is durable already.
pub fn begin_batch(batch: &mut Batch, durable: u32) {
    put_record(&mut batch.small, Kind::Batch, 0, |out| {
        out.extend_from_slice(&durable.to_le_bytes());
        out.extend_from_slice(&[0; 4]);
    });
}

/// Appends a record of its own; its checksum comes when its place is known.
fn put_record(out: &mut Vec<u8>, kind: Kind, id: u64, payload: impl FnOnce(&mut Vec<u8>)) {
    let from = out.len();
    Head { len: 0, epoch: 0, kind, flags: FIRST, remaining: 0, id }.put(out);
    payload(out);
    let len = (out.len() - from) as u32 - HEAD;
    out[from + 4..from + 8].copy_from_slice(&len.to_le_bytes());
    out.resize(from + padded(u64::from(HEAD + len)) as usize, 0);
}

pub fn seal_small(small: &mut [u8], epoch: u64, base: u32) {
    let mut at = 0;
    while let Some(head) = small.get(at..).and_then(Head::parse) {
        let payload = at + HEAD as usize;
        let crc = crc32c(&small[payload..payload + head.len as usize]);
        seal_head(small, at, crc, epoch, base + at as u32);
        at += head.total() as usize;
    }
}
