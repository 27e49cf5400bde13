//! A message that is out for delivery.
//!
//! It stays in the table, in flight, until one of `Queue::delivered`, `failed`, `retry`, `give_back` takes the `Taken`
//! back. One that is merely dropped (its task was cancelled) returns to the front of its queue as if nothing had been
//! tried, so no message is ever stuck. One that is dropped by a task that broke waits for a while first: it may be what broke
//! it, and must not do so again and again in front of all the others.

use crate::Queue;
use crate::entry::NIL;
use ph_message::{SpoolKey, Summary};
use std::time::Duration;

/// How long a message waits whose task broke.
const BROKEN_REST: Duration = Duration::from_secs(60);

/// A message in delivery.
#[derive(Debug)]
pub struct Taken {
    /// Its slot in the spool.
    pub key: SpoolKey,
    /// What the queue knows of it. `retries` is the number of *this* attempt: 0 for the first, 1 for the first retry.
    /// `attempts` counts those that went before. The names are those of the queue it lies in.
    pub summary: Summary,
    slot: u32,
    home: Option<Queue>,
}

impl Taken {
    pub(crate) fn new(key: SpoolKey, summary: Summary, slot: u32) -> Taken {
        Taken { key, summary, slot, home: None }
    }

    /// Before this the message is not given back when dropped.
    pub(crate) fn at_home(mut self, queue: &Queue) -> Taken {
        self.home = Some(queue.clone());
        self
    }

    /// The slot, and from now on dropping does nothing.
    pub(crate) fn redeem(&mut self) -> u32 {
        self.home = None;
        std::mem::replace(&mut self.slot, NIL)
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        let Some(queue) = self.home.take() else { return };
        let (slot, id) = (std::mem::replace(&mut self.slot, NIL), self.summary.id);
        if std::thread::panicking() {
            queue.set_aside(slot, id, BROKEN_REST);
        } else {
            queue.put_back(slot, id);
        }
    }
}
