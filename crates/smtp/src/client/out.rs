//! What is to be written: slices of message content as they are, short things gathered in one buffer between them, and
//! bodies that lie in files. Keeps count, so that a log can say how much of a message had left.

use super::stuff::Stuffer;
use super::transaction::ReadAt;
use bytes::{Buf, Bytes, BytesMut};
use smallvec::SmallVec;
use std::collections::VecDeque;
use std::io::IoSlice;
use std::ops::Range;
use std::sync::Arc;

/// Slices shorter than this are copied into the gathering buffer: a slot of `writev` costs more than the copy.
const COPY_BELOW: usize = 512;

/// The output queue of one connection.
#[derive(Default)]
pub struct Out {
    items: VecDeque<Item>,
    /// Short pieces that follow the last item.
    tail: BytesMut,
    /// Octets queued and not written, bodies in files not counted.
    queued: u64,
    /// Octets written since the connection began.
    written: u64,
    /// Where in the stream secrets stand that are not written yet: whoever looks on does not see them.
    secrets: SmallVec<[Range<u64>; 1]>,
}

enum Item {
    Bytes(Bytes),
    File(File),
}

/// A body in a file that is being sent.
pub(super) struct File {
    pub source: Arc<dyn ReadAt>,
    pub offset: u64,
    pub stuffer: Stuffer,
}

impl Out {
    /// Appends a few octets.
    pub fn small(&mut self, bytes: &[u8]) {
        self.tail.extend_from_slice(bytes);
        self.queued += bytes.len() as u64;
    }

    /// Appends a few octets that nobody who looks on may see.
    pub fn secret(&mut self, bytes: &[u8]) {
        let begin = self.position();
        self.small(bytes);
        self.secrets.push(begin..self.position());
    }

    /// The places of secrets that are not written yet.
    pub fn secrets(&self) -> &[Range<u64>] {
        &self.secrets
    }

    /// Appends a part of `chunk`, without a copy when it is long.
    pub fn slice(&mut self, chunk: &Bytes, range: Range<usize>) {
        if range.len() < COPY_BELOW {
            self.small(&chunk[range]);
            return;
        }
        self.close_tail();
        self.queued += range.len() as u64;
        self.items.push_back(Item::Bytes(chunk.slice(range)));
    }

    /// Appends a body that lies in a file; its final dot follows by itself.
    pub(super) fn file(&mut self, source: Arc<dyn ReadAt>, stuffer: Stuffer) {
        self.close_tail();
        self.items.push_back(Item::File(File { source, offset: 0, stuffer }));
    }

    /// Takes the file at the front, when everything before it is written.
    pub(super) fn take_file(&mut self) -> Option<File> {
        match self.items.front()? {
            Item::Bytes(_) => None,
            Item::File(_) => match self.items.pop_front() {
                Some(Item::File(file)) => Some(file),
                _ => None,
            },
        }
    }

    /// The next chunk of the file that `take_file` gave; the file comes back to the front unless it is at its end, which
    /// is then told as a position in the stream.
    pub(super) fn put_file(&mut self, mut file: File, chunk: Bytes) -> Option<u64> {
        let mut part = Out::default();
        let is_end = file.offset + chunk.len() as u64 >= file.source.len();
        file.offset += chunk.len() as u64;
        file.stuffer.push(&chunk, &mut part);
        if !is_end {
            part.close_tail();
            part.items.push_back(Item::File(file));
        } else {
            file.stuffer.finish(&mut part);
            part.close_tail();
        }
        self.queued += part.queued;
        let end = self.written + part.queued;
        for item in part.items.into_iter().rev() {
            self.items.push_front(item);
        }
        is_end.then_some(end)
    }

    /// Whether nothing is left to write.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty() && self.tail.is_empty()
    }

    /// Whether a file must be read before more can be written.
    pub fn waits_for_file(&self) -> bool {
        matches!(self.items.front(), Some(Item::File(_)))
    }

    /// The pieces that can be written now, in order, up to the first file.
    pub fn pieces(&self) -> impl Iterator<Item = &[u8]> {
        let memory = self.items.iter().map_while(|item| match item {
            Item::Bytes(bytes) => Some(&bytes[..]),
            Item::File(_) => None,
        });
        let has_file = self.items.iter().any(|item| matches!(item, Item::File(_)));
        memory.chain((!has_file && !self.tail.is_empty()).then_some(&self.tail[..]))
    }

    /// Fills `slices` for one vectored write; how many of them.
    pub fn io_slices<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let mut count = 0;
        for (slot, piece) in slices.iter_mut().zip(self.pieces()) {
            *slot = IoSlice::new(piece);
            count += 1;
        }
        count
    }

    /// So many octets were written.
    pub fn advance(&mut self, mut count: usize) {
        self.written += count as u64;
        self.queued -= count as u64;
        if !self.secrets.is_empty() {
            let written = self.written;
            self.secrets.retain(|secret| secret.end > written);
        }
        while count > 0 {
            match self.items.front_mut() {
                Some(Item::Bytes(bytes)) if bytes.len() > count => {
                    bytes.advance(count);
                    return;
                }
                Some(Item::Bytes(bytes)) => {
                    count -= bytes.len();
                    self.items.pop_front();
                }
                _ => {
                    self.tail.advance(count);
                    return;
                }
            }
        }
    }

    /// Octets written so far.
    pub fn written(&self) -> u64 {
        self.written
    }

    /// The position in the stream of what is appended next (bodies in files not counted).
    pub fn position(&self) -> u64 {
        self.written + self.queued
    }

    /// Forgets what is not written.
    pub fn clear(&mut self) {
        self.items.clear();
        self.tail.clear();
        self.secrets.clear();
        self.queued = 0;
    }

    /// Everything that is queued, for tests.
    #[cfg(test)]
    pub fn to_vec(&self) -> Vec<u8> {
        self.pieces().collect::<Vec<_>>().concat()
    }

    fn close_tail(&mut self) {
        if !self.tail.is_empty() {
            self.items.push_back(Item::Bytes(self.tail.split().freeze()));
        }
    }
}
