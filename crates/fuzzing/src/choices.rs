//! Decisions out of bytes: the front of an input says what to do, the rest is what to do it with.
//!
//! An input that ends decides 0 and gives empty texts, so that every input means something.

use compact_str::CompactString;

/// Reads decisions off an input.
#[derive(Clone, Debug)]
pub struct Choices<'a> {
    rest: &'a [u8],
}

impl<'a> Choices<'a> {
    pub fn new(input: &'a [u8]) -> Choices<'a> {
        Choices { rest: input }
    }

    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    pub fn octet(&mut self) -> u8 {
        let (&first, rest) = self.rest.split_first().unwrap_or((&0, &[]));
        self.rest = rest;
        first
    }

    pub fn flag(&mut self) -> bool {
        self.octet() & 1 == 1
    }

    pub fn pick<T: Clone>(&mut self, of: &[T]) -> T {
        of[usize::from(self.octet()) % of.len()].clone()
    }

    pub fn number(&mut self) -> u64 {
        let mut bytes = [0; 8];
        let len = usize::from(self.octet()) % 9;
        for byte in &mut bytes[..len] {
            *byte = self.octet();
        }
        u64::from_le_bytes(bytes)
    }

    /// Up to 255 octets, their count first.
    pub fn bytes(&mut self) -> &'a [u8] {
        let len = usize::from(self.octet()).min(self.rest.len());
        let (taken, rest) = self.rest.split_at(len);
        self.rest = rest;
        taken
    }

    pub fn text(&mut self) -> CompactString {
        String::from_utf8_lossy(self.bytes()).into()
    }

    pub fn rest(self) -> &'a [u8] {
        self.rest
    }

    /// What is left, in pieces of lengths that the input chooses; two octets a length.
    pub fn pieces(mut self) -> Vec<&'a [u8]> {
        let mut pieces = Vec::new();
        while !self.is_empty() {
            let len = usize::from(self.octet()) + 1;
            let (piece, rest) = self.rest.split_at(len.min(self.rest.len()));
            pieces.push(piece);
            self.rest = rest;
        }
        pieces
    }
}

/// Cuts `bytes` in pieces of `step` octets.
pub fn steps(bytes: &[u8], step: usize) -> impl Iterator<Item = &[u8]> {
    bytes.chunks(step.max(1))
}
