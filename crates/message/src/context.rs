//! A context: a small dictionary of byte strings that travels with a session (CONN) or a message (MESS).
//!
//! Entries keep their order of insertion, since dumps and logs print them; look-up is linear, which is the fastest for
//! the dozen keys that contexts have. Whoever lets a policy write into one bounds it by `octets`.

use bytes::Bytes;
use compact_str::CompactString;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Context {
    entries: Vec<(CompactString, Bytes)>,
}

impl Context {
    pub const fn new() -> Context {
        Context { entries: Vec::new() }
    }

    /// For the decoder: the keys are known to differ, so that no look-up per key is needed.
    pub(crate) fn from_entries(entries: Vec<(CompactString, Bytes)>) -> Context {
        Context { entries }
    }

    pub fn get(&self, key: &str) -> Option<&Bytes> {
        self.entries.iter().find(|(k, _)| k == key).map(|(_, value)| value)
    }

    /// The value as text, where it is UTF-8.
    pub fn text(&self, key: &str) -> Option<&str> {
        self.get(key).and_then(|value| std::str::from_utf8(value).ok())
    }

    pub fn set(&mut self, key: &str, value: impl Into<Bytes>) {
        let value = value.into();
        match self.entries.iter_mut().find(|(k, _)| k == key) {
            Some(entry) => entry.1 = value,
            None => self.entries.push((key.into(), value)),
        }
    }

    /// Whether there was such a key.
    pub fn remove(&mut self, key: &str) -> bool {
        let before = self.entries.len();
        self.entries.retain(|(k, _)| k != key);
        self.entries.len() < before
    }

    /// Keeps the entries whose key `keep` accepts.
    pub fn retain(&mut self, keep: impl Fn(&str) -> bool) {
        self.entries.retain(|(key, _)| keep(key));
    }

    pub fn clear(&mut self) {
        self.entries.clear();
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Octets of all keys and values.
    pub fn octets(&self) -> usize {
        self.entries.iter().map(|(key, value)| key.len() + value.len()).sum()
    }

    pub fn iter(&self) -> impl Iterator<Item = (&str, &Bytes)> {
        self.entries.iter().map(|(k, v)| (k.as_str(), v))
    }
}
