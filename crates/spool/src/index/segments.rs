//! The segments of the index: what each still holds, what pins it, and when it may be given up.
//!
//! A segment goes only when nothing in it counts any more and none of its `Done` records keeps an older copy from coming
//! back. `credit` and `debit` keep the account; `check_retirable` is asked wherever it may have come to nothing.

use super::{DONE_BYTES, Index};
use crate::io::IoFile;
use hashbrown::HashMap;
use smallvec::SmallVec;
use std::sync::Arc;

#[derive(Debug)]
pub struct Segment {
    pub seq: u64,
    pub epoch: u64,
    pub bytes: u32,
    /// Where its records end. While it is active: where the durable ones end.
    pub end: u32,
    pub role: Role,
    /// Envelopes, contents and states in it that count.
    pub live: u32,
    pub live_bytes: u64,
    /// How many `Done` records in it each other segment needs.
    pub done_pins: HashMap<u32, u32>,
    /// Segments that hold older copies of messages in this one: what is done here must stay done there.
    pub moved_from: Vec<u32>,
    /// Some `Done` records stand for older copies, too, in a segment that they do not name.
    pub done_for_copies: bool,
    /// Kept open for reading. Which ones stay open is the reader's to decide.
    pub file: Option<Arc<dyn IoFile>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    Active,
    Sealed,
    /// Being marked as free on the disk.
    Retiring,
}

impl Index {
    pub fn add_segment(&mut self, number: u32, segment: Segment) {
        let at = number as usize;
        if self.segments.len() <= at {
            self.segments.resize_with(at + 1, || None);
        }
        self.segments[at] = Some(Box::new(segment));
    }

    pub fn segment(&self, number: u32) -> Option<&Segment> {
        self.segments.get(number as usize)?.as_deref()
    }

    pub fn segment_mut(&mut self, number: u32) -> Option<&mut Segment> {
        self.segments.get_mut(number as usize)?.as_deref_mut()
    }

    pub fn segments(&self) -> impl Iterator<Item = (u32, &Segment)> {
        self.segments.iter().enumerate().filter_map(|(at, segment)| Some((at as u32, segment.as_deref()?)))
    }

    /// No record is added to the segment any more.
    pub fn seal(&mut self, number: u32, end: u32) {
        if let Some(segment) = self.segment_mut(number) {
            (segment.role, segment.end) = (Role::Sealed, end);
        }
        self.check_retirable(number);
    }

    /// A `Done` record in `holder` keeps a message of `target` from coming back, and its older copies.
    pub fn pin_done(&mut self, holder: u32, target: u32, target_seq: u64) {
        let Some(found) = self.segment(target).filter(|segment| segment.seq == target_seq) else { return };
        let copies: SmallVec<[u32; 4]> = found.moved_from.iter().copied().filter(|&from| from != holder).collect();
        let Some(segment) = self.segment_mut(holder) else { return };
        segment.done_for_copies |= !copies.is_empty();
        let itself = (holder != target).then_some(target);
        for pinned in copies.into_iter().chain(itself) {
            *segment.done_pins.entry(pinned).or_insert(0) += 1;
            segment.live_bytes += DONE_BYTES;
        }
    }

    /// Records in `holder` stand for older ones in `from`, and in wherever those had been moved from.
    pub fn note_moved(&mut self, holder: u32, from: u32) {
        let Some(origin) = self.segment(from) else { return };
        let froms: SmallVec<[u32; 4]> = origin.moved_from.iter().copied().chain([from]).collect();
        let Some(segment) = self.segment_mut(holder) else { return };
        for from in froms {
            if from != holder && !segment.moved_from.contains(&from) {
                segment.moved_from.push(from);
            }
        }
    }

    /// The segment is marked as free on the disk: nothing in it can come back, and whoever it pinned is freed.
    pub fn forget_segment(&mut self, number: u32) {
        if let Some(place) = self.segments.get_mut(number as usize) {
            *place = None;
        }
        let mut freed = Vec::new();
        for (at, segment) in self.segments.iter_mut().enumerate() {
            let Some(segment) = segment else { continue };
            segment.moved_from.retain(|&from| from != number);
            if let Some(count) = segment.done_pins.remove(&number) {
                segment.live_bytes -= u64::from(count) * DONE_BYTES;
                freed.push(at as u32);
            }
        }
        for number in freed {
            self.check_retirable(number);
        }
    }

    /// The `Done` records of the segment were copied to a newer one, durably.
    pub fn drop_done_pins(&mut self, number: u32) {
        if let Some(segment) = self.segment_mut(number) {
            let pins: u64 = segment.done_pins.drain().map(|(_, count)| u64::from(count)).sum();
            segment.live_bytes -= pins * DONE_BYTES;
        }
        self.check_retirable(number);
    }

    pub fn is_retirable(&self, number: u32) -> bool {
        self.segment(number)
            .is_some_and(|segment| segment.role == Role::Sealed && segment.live == 0 && segment.done_pins.is_empty())
    }

    pub fn check_retirable(&mut self, number: u32) {
        if self.is_retirable(number) && !self.retirable.contains(&number) {
            self.retirable.push(number);
        }
    }

    pub(super) fn credit(&mut self, number: u32, bytes: u64) {
        if let Some(segment) = self.segment_mut(number) {
            segment.live += 1;
            segment.live_bytes += bytes;
        }
    }

    pub(super) fn debit(&mut self, number: u32, bytes: u64) {
        let Some(segment) = self.segment_mut(number) else { return };
        segment.live -= 1;
        segment.live_bytes -= bytes;
        if segment.live == 0 {
            self.check_retirable(number);
        }
    }
}
