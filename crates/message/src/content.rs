//! The content of a message: header block and body, lossless.
//!
//! What nobody edited is written back byte for byte; an edit of one header touches the bytes of that header only.
//! Content is *unstuffed*: no dot is doubled and no end-of-data mark is there. Lines end in CRLF save where a sender's
//! lone CR or LF was let through. `Clone` is cheap (shared bytes), so that N recipients cost one copy until one of them
//! is edited. An edit copies the header block once; the body's bytes are always shared.

use crate::header::{
    FOLD_AT, Fields, FieldsNamed, HeaderError, fields, fields_named, is_field_name, is_named, without_blanks_at_end,
    write_field,
};
use bytes::Bytes;
use memchr::{memchr, memchr_iter};
use std::borrow::Cow;
use std::fmt::Debug;
use std::io;
use std::ops::Range;
use std::sync::Arc;

/// How much of an external body is read at a time.
const CHUNK_LEN: usize = 64 << 10;

/// A body that lies in a file (over `large_message_threshold`): never held whole in memory.
pub trait ExternalBody: Send + Sync + Debug {
    fn len(&self) -> u64;
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// Fills `into` from `offset`. Blocks: call it from a thread that may wait.
    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<()>;
    /// The implementation's own type: the spool finds its file again by it.
    fn as_any(&self) -> &dyn std::any::Any;
}

#[derive(Clone, Debug)]
pub enum Body {
    Memory(Bytes),
    External(Arc<dyn ExternalBody>),
}

impl Body {
    pub fn len(&self) -> u64 {
        match self {
            Body::Memory(bytes) => bytes.len() as u64,
            Body::External(file) => file.len(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The body's bytes, where they are in memory.
    pub fn memory(&self) -> Option<&Bytes> {
        match self {
            Body::Memory(bytes) => Some(bytes),
            Body::External(_) => None,
        }
    }

    /// Hands the body to `sink` in order: a memory body at once, an external one in chunks of 64 KiB. Blocks for the latter.
    pub fn for_each_chunk(&self, mut sink: impl FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
        match self {
            Body::Memory(bytes) => sink(bytes),
            Body::External(file) => {
                let len = file.len();
                let mut chunk = vec![0; CHUNK_LEN.min(usize::try_from(len).unwrap_or(CHUNK_LEN))];
                let mut at = 0;
                while at < len {
                    let now = chunk.len().min(usize::try_from(len - at).unwrap_or(CHUNK_LEN));
                    file.read_at(at, &mut chunk[..now])?;
                    sink(&chunk[..now])?;
                    at += now as u64;
                }
                Ok(())
            }
        }
    }

    /// The whole body in memory: shared for a memory body, read (blocking) for an external one.
    pub fn to_bytes(&self) -> io::Result<Bytes> {
        match self {
            Body::Memory(bytes) => Ok(bytes.clone()),
            Body::External(file) => {
                let len = usize::try_from(file.len()).map_err(|_| io::ErrorKind::OutOfMemory)?;
                let mut bytes = vec![0; len];
                file.read_at(0, &mut bytes)?;
                Ok(bytes.into())
            }
        }
    }
}

/// What one walk over a header block finds: all that reception asks for, so that it walks once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HeadFacts {
    /// `Received` fields: how many hosts the message came through (RFC 5321 section 6.3).
    pub hops: u32,
    pub date: bool,
    pub message_id: bool,
    /// Octets above 127 in the block.
    pub eight_bit: bool,
    /// Lone CR or LF in the block.
    pub lone_line_ends: bool,
    /// Length of the longest line, without its line end.
    pub line_len_max: usize,
}

/// Header block and body of one message.
#[derive(Clone, Debug)]
pub struct Content {
    head: Bytes,
    body: Body,
}

impl Content {
    /// `head` is the header block with the blank line that ends it (if the message has one); `body` what follows.
    pub fn new(head: Bytes, body: Body) -> Content {
        Content { head, body }
    }

    /// Splits a whole message at its first blank line, without a copy. A message whose first line is no header field has
    /// no header block: all of it is body. One without a blank line is all header block.
    pub fn parse(raw: Bytes) -> Content {
        let end = head_len(&raw);
        let head = raw.slice(..end);
        Content { head, body: Body::Memory(raw.slice(end..)) }
    }

    pub fn head(&self) -> &Bytes {
        &self.head
    }

    pub fn body(&self) -> &Body {
        &self.body
    }

    pub fn size(&self) -> u64 {
        self.head.len() as u64 + self.body.len()
    }

    /// The header fields' bytes: `head` without the blank line that ends it.
    pub fn header_block(&self) -> &[u8] {
        &self.head[..self.fields_end()]
    }

    /// All fields in order; a line that is none has an empty name. Ranges are offsets in `head`.
    pub fn headers(&self) -> Fields<'_> {
        fields(self.header_block())
    }

    /// All fields of one name, in order.
    pub fn headers_named<'a, 'n>(&'a self, name: &'n str) -> FieldsNamed<'a, 'n> {
        fields_named(self.header_block(), name)
    }

    /// The first field's value, unfolded and trimmed; nothing is copied unless it has folds.
    pub fn header(&self, name: &str) -> Option<Cow<'_, [u8]>> {
        self.headers_named(name).next().map(|field| field.unfolded())
    }

    /// Every value of that name, unfolded and trimmed, in order.
    pub fn header_values<'a, 'n>(&'a self, name: &'n str) -> impl Iterator<Item = Cow<'a, [u8]>> + use<'a, 'n> {
        self.headers_named(name).map(|field| field.unfolded())
    }

    /// The first field's value as text: unfolded, encoded-words decoded, octets that are no UTF-8 replaced.
    pub fn header_text(&self, name: &str) -> Option<String> {
        self.header(name).map(|value| crate::encoded_word::decode(&value))
    }

    pub fn has_header(&self, name: &str) -> bool {
        self.headers_named(name).next().is_some()
    }

    pub fn has_date(&self) -> bool {
        self.has_header("Date")
    }

    pub fn has_message_id(&self) -> bool {
        self.has_header("Message-ID")
    }

    /// `Received` fields.
    pub fn hops(&self) -> u32 {
        self.headers_named("Received").count() as u32
    }

    /// All that reception wants to know of the header block, in one walk.
    pub fn facts(&self) -> HeadFacts {
        let block = self.header_block();
        let mut facts = HeadFacts { eight_bit: !block.is_ascii(), ..HeadFacts::default() };
        let mut start = 0;
        let mut carriage_returns = 0;
        for end in memchr_iter(b'\n', block).chain((!block.ends_with(b"\n")).then_some(block.len())) {
            let line = &block[start..end];
            let ended = end < block.len();
            let text = line.strip_suffix(b"\r").filter(|_| ended).unwrap_or(line);
            facts.lone_line_ends |= ended && text.len() == line.len();
            carriage_returns += line.len() - text.len();
            facts.line_len_max = facts.line_len_max.max(text.len());
            match text.first() {
                Some(b'R' | b'r') => facts.hops += u32::from(is_named(text, b"received")),
                Some(b'D' | b'd') => facts.date |= is_named(text, b"date"),
                Some(b'M' | b'm') => facts.message_id |= is_named(text, b"message-id"),
                _ => {}
            }
            start = end + 1;
        }
        facts.lone_line_ends |= memchr_iter(b'\r', block).count() > carriage_returns;
        facts
    }

    /// Octets above 127 anywhere. Reads an external body (blocking); reception knows it from the stream.
    pub fn is_eight_bit(&self) -> io::Result<bool> {
        if !self.head.is_ascii() {
            return Ok(true);
        }
        let mut found = false;
        self.body.for_each_chunk(|chunk| {
            found |= !chunk.is_ascii();
            Ok(())
        })?;
        Ok(found)
    }

    /// Adds a field above all others. Lines over 78 octets are folded; see `write_field` for what a value may hold.
    pub fn prepend_header(&mut self, name: &str, value: &[u8]) -> Result<(), HeaderError> {
        let field = written(name, value)?;
        self.prepend_raw(&field);
        Ok(())
    }

    /// Adds a field below all others.
    pub fn append_header(&mut self, name: &str, value: &[u8]) -> Result<(), HeaderError> {
        let field = written(name, value)?;
        self.append_raw(&field);
        Ok(())
    }

    /// Puts whole fields, each with its CRLF, above all others: trace fields, in one copy of the header block.
    pub fn prepend_raw(&mut self, block: &[u8]) {
        self.splice(0..0, block);
    }

    /// Puts whole fields, each with its CRLF, below all others.
    pub fn append_raw(&mut self, block: &[u8]) {
        let end = self.fields_end();
        self.splice(end..end, block);
    }

    /// Gives the first field of that name a new value and removes the others; appends one where there is none.
    pub fn set_header(&mut self, name: &str, value: &[u8]) -> Result<(), HeaderError> {
        let field = written(name, value)?;
        let old: Vec<Range<usize>> = self.headers_named(name).map(|field| field.range).collect();
        match old.split_first() {
            None => self.append_raw(&field),
            Some((first, others)) => {
                self.cut(others);
                self.splice(first.clone(), &field);
            }
        }
        Ok(())
    }

    /// Gives the `n`th field (from 0) of that name a new value. False: there is none.
    pub fn replace_header(&mut self, name: &str, n: usize, value: &[u8]) -> Result<bool, HeaderError> {
        let field = written(name, value)?;
        let old = self.headers_named(name).nth(n).map(|field| field.range);
        Ok(old.map(|range| self.splice(range, &field)).is_some())
    }

    /// Removes the `n`th field (from 0) of that name. False: there is none.
    pub fn remove_header_nth(&mut self, name: &str, n: usize) -> bool {
        let old = self.headers_named(name).nth(n).map(|field| field.range);
        old.map(|range| self.splice(range, b"")).is_some()
    }

    /// Removes all fields of that name: how many there were.
    pub fn remove_header(&mut self, name: &str) -> usize {
        let old: Vec<Range<usize>> = self.headers_named(name).map(|field| field.range).collect();
        self.cut(&old);
        old.len()
    }

    /// Replaces the body; the header block gets the blank line that it needs before one.
    pub fn set_body(&mut self, body: Body) {
        self.body = body;
        if self.head.is_empty() && self.body.memory().is_some_and(|body| begins_with_field(body)) {
            self.head = Bytes::from_static(b"\r\n"); // or the text would be taken for a header block
        } else if !self.body.is_empty() && !self.head.is_empty() && self.fields_end() == self.head.len() {
            let end = self.head.len();
            self.splice(end..end, b"");
        }
    }

    /// The whole message. One copy for a memory body; an external one is read (blocking).
    pub fn to_bytes(&self) -> io::Result<Bytes> {
        if self.head.is_empty() {
            return self.body.to_bytes();
        }
        let mut out = Vec::with_capacity(usize::try_from(self.size()).map_err(|_| io::ErrorKind::OutOfMemory)?);
        self.write_to(&mut out)?;
        Ok(out.into())
    }

    /// Writes the whole message, an external body in chunks of 64 KiB (blocking).
    pub fn write_to(&self, sink: &mut impl io::Write) -> io::Result<()> {
        sink.write_all(&self.head)?;
        self.body.for_each_chunk(|chunk| sink.write_all(chunk))
    }

    /// Where the blank line begins that ends the header block; the block's length when it has none.
    fn fields_end(&self) -> usize {
        let len = self.head.len();
        match &self.head[..] {
            b"\r\n" | b"\n" => 0,
            head if head.ends_with(b"\n\r\n") => len - 2,
            head if head.ends_with(b"\n\n") => len - 1,
            _ => len,
        }
    }

    /// Replaces a range of the header block, which `headers` gave. Adds the line ends that a block without them lacks: one
    /// before new fields that follow an unfinished last line, and the blank line before a body.
    fn splice(&mut self, range: Range<usize>, with: &[u8]) {
        let fields_end = self.fields_end();
        let (before, after) = (&self.head[..range.start], &self.head[range.end..]);
        let mut head = Vec::with_capacity(before.len() + with.len() + after.len() + 4);
        head.extend_from_slice(before);
        if !with.is_empty() {
            end_line(&mut head);
        }
        head.extend_from_slice(with);
        if !after.is_empty() && !with.is_empty() {
            end_line(&mut head);
        }
        head.extend_from_slice(after);
        if fields_end == self.head.len() && !self.body.is_empty() {
            end_line(&mut head);
            head.extend_from_slice(b"\r\n");
        }
        self.head = head.into();
    }

    /// Takes ranges, in order, out of the header block.
    fn cut(&mut self, ranges: &[Range<usize>]) {
        if ranges.is_empty() {
            return;
        }
        let mut head = Vec::with_capacity(self.head.len());
        let mut at = 0;
        for range in ranges {
            head.extend_from_slice(&self.head[at..range.start]);
            at = range.end;
        }
        head.extend_from_slice(&self.head[at..]);
        self.head = head.into();
    }
}

/// The length of the header block of a whole message, its blank line included.
fn head_len(raw: &[u8]) -> usize {
    if raw.starts_with(b"\r\n") {
        return 2;
    }
    if raw.starts_with(b"\n") {
        return 1;
    }
    if !begins_with_field(raw) {
        return 0;
    }
    for at in memchr_iter(b'\n', raw) {
        let rest = &raw[at + 1..];
        match rest.first() {
            Some(b'\n') => return at + 2,
            Some(b'\r') if rest.get(1) == Some(&b'\n') => return at + 3,
            _ => {}
        }
    }
    raw.len()
}

/// Whether the first line is a field, or the `From ` line that mailbox files put before the first one.
fn begins_with_field(raw: &[u8]) -> bool {
    let line = &raw[..memchr(b'\n', raw).unwrap_or(raw.len())];
    let name = memchr(b':', line).map(|colon| without_blanks_at_end(&line[..colon]));
    name.is_some_and(is_field_name) || line.starts_with(b"From ")
}

fn written(name: &str, value: &[u8]) -> Result<Vec<u8>, HeaderError> {
    let mut out = Vec::with_capacity(name.len() + value.len() + 16);
    write_field(&mut out, name, value, FOLD_AT)?;
    Ok(out)
}

fn end_line(head: &mut Vec<u8>) {
    if !head.is_empty() && !head.ends_with(b"\n") {
        head.extend_from_slice(b"\r\n");
    }
}

#[cfg(test)]
mod tests;
