//! Recent messages in memory, so that mail that leaves at once is not read back from the disk.
//!
//! Bounded by octets, and who came first stays: mail leaves in the order of its coming, so that in a backlog greater than the
//! cache the newest message, not the oldest, is the one whose turn is farthest off. What has stayed for long is stuck, and
//! gives way. A body that several recipients share is charged to them in equal parts.

use crate::options::Stored;
use hashbrown::HashMap;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// An entry of this age waits for something else than its turn.
const STUCK_AFTER: Duration = Duration::from_secs(10);
/// What an entry costs beside its content: envelope, contexts, places in map and queue.
const ENTRY_BYTES: usize = 768;

#[derive(Debug)]
pub struct Cache {
    bytes_max: usize,
    bytes: usize,
    entries: HashMap<u32, Entry>,
    /// Keys in the order of their coming. A key whose stamp is no longer its entry's is a leftover.
    order: VecDeque<(u32, u64)>,
    stamp: u64,
}

#[derive(Debug)]
struct Entry {
    stored: Arc<Stored>,
    bytes: usize,
    stamp: u64,
    since: Instant,
}

impl Cache {
    pub fn new(bytes_max: usize) -> Cache {
        Cache { bytes_max, bytes: 0, entries: HashMap::new(), order: VecDeque::new(), stamp: 0 }
    }

    pub fn get(&self, key: u32) -> Option<&Arc<Stored>> {
        self.entries.get(&key).map(|entry| &entry.stored)
    }

    /// Keeps `stored`, whose content `sharers` messages share, if there is room, or if stuck entries make some.
    pub fn insert(&mut self, key: u32, stored: Arc<Stored>, sharers: usize, now: Instant) {
        let in_memory = match stored.content.body() {
            ph_message::Body::Memory(bytes) => bytes.len(),
            ph_message::Body::External(_) => 0,
        } + stored.content.head().len();
        let bytes = ENTRY_BYTES + in_memory / sharers.max(1);
        if bytes > self.bytes_max {
            return;
        }
        self.remove(key);
        while self.bytes + bytes > self.bytes_max {
            let Some(&(oldest, stamp)) = self.order.front() else { return };
            match self.entries.get(&oldest).filter(|entry| entry.stamp == stamp) {
                Some(entry) if now.duration_since(entry.since) < STUCK_AFTER => return,
                Some(_) => self.remove(oldest),
                None => drop(self.order.pop_front()),
            }
        }
        self.stamp += 1;
        self.bytes += bytes;
        self.entries.insert(key, Entry { stored, bytes, stamp: self.stamp, since: now });
        self.order.push_back((key, self.stamp));
    }

    pub fn remove(&mut self, key: u32) {
        let Some(entry) = self.entries.remove(&key) else { return };
        self.bytes -= entry.bytes;
        // Leftovers go as soon as they are the oldest; were they in the majority, the queue could outgrow the entries.
        while let Some(&(oldest, stamp)) = self.order.front()
            && !self.is_current(oldest, stamp)
        {
            self.order.pop_front();
        }
        if self.order.len() > 2 * self.entries.len() + 1024 {
            let entries = &self.entries;
            self.order.retain(|&(key, stamp)| entries.get(&key).is_some_and(|entry| entry.stamp == stamp));
        }
    }

    pub fn len(&self) -> usize {
        self.entries.len()
    }

    pub fn bytes(&self) -> usize {
        self.bytes
    }

    fn is_current(&self, key: u32, stamp: u64) -> bool {
        self.entries.get(&key).is_some_and(|entry| entry.stamp == stamp)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use ph_message::{Body, Content, DeliveryState, Envelope};

    fn stored(octets: usize) -> Arc<Stored> {
        Arc::new(Stored {
            envelope: Arc::new(Envelope::default()),
            content: Content::new(Bytes::new(), Body::Memory(Bytes::from(vec![b'x'; octets]))),
            state: DeliveryState::default(),
        })
    }

    #[test]
    fn the_oldest_gives_way_at_the_limit_once_it_is_stuck() {
        let mut cache = Cache::new(3 * (ENTRY_BYTES + 100));
        let began = Instant::now();
        for key in 0..3 {
            cache.insert(key, stored(100), 1, began);
        }
        assert_eq!((cache.len(), cache.bytes()), (3, 3 * (ENTRY_BYTES + 100)));
        cache.insert(3, stored(100), 1, began);
        assert!(cache.get(3).is_none(), "there is no room, and those before it will leave soon");
        let later = began + STUCK_AFTER;
        cache.insert(3, stored(100), 1, later);
        assert!(cache.get(0).is_none());
        assert!((1..=3).all(|key| cache.get(key).is_some()));
        cache.insert(4, stored(1 << 20), 1, later);
        assert!(cache.get(4).is_none(), "an entry over the limit is not kept");
        assert_eq!(cache.len(), 3);
    }

    #[test]
    fn sharers_pay_their_part_and_a_key_may_come_again() {
        let mut cache = Cache::new(1 << 20);
        cache.insert(1, stored(1000), 10, Instant::now());
        assert_eq!(cache.bytes(), ENTRY_BYTES + 100);
        cache.insert(1, stored(500), 1, Instant::now());
        assert_eq!((cache.len(), cache.bytes()), (1, ENTRY_BYTES + 500));
        cache.remove(1);
        assert_eq!((cache.len(), cache.bytes(), cache.order.len()), (0, 0, 0));
    }

    #[test]
    fn the_queue_does_not_outgrow_the_entries() {
        let mut cache = Cache::new(64 << 20);
        cache.insert(0, stored(1), 1, Instant::now()); // stays, at the front of the queue
        for key in 1..20_000 {
            cache.insert(key, stored(1), 1, Instant::now());
            cache.remove(key);
        }
        assert_eq!(cache.len(), 1);
        assert!(cache.order.len() < 2048, "{}", cache.order.len());
    }
}
