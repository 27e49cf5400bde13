//! A connection that may be open: the right to take one queue's mail, and to have it counted against every cap.
//!
//! A permit is given by `Queue::next_connection` and given back by dropping it, whatever way the connection ends. Its
//! first message and its first `connect()` are charged to the throttles when it is given.

use crate::Queue;
use crate::explain::Reason;
use crate::hosts::WaitFor;
use crate::names::QueueRef;
use ph_message::Time;
use smallvec::SmallVec;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32};
use tokio::sync::Notify;

/// One connection's place in the caps.
#[derive(Debug)]
pub struct Permit {
    pub(crate) inner: Queue,
    pub(crate) grant: Grant,
    pub(crate) at: QueueRef,
}

impl Permit {
    /// Whose mail this connection carries.
    pub fn queue(&self) -> &QueueRef {
        &self.at
    }

    /// The connection cannot be had before `until`, and no new one shall be tried before: the mail stays active, no
    /// attempt is counted. For resting and saturated hosts; drop the permit afterwards.
    pub fn defer(&self, until: Time, why: Deferral) {
        let reason = match why {
            Deferral::HostResting(host) => Reason::HostResting { host, until },
            Deferral::HostThrottled(host) => Reason::HostThrottled { host, until },
            Deferral::HostFull(host) => Reason::HostFull { host, until },
            Deferral::Resolving => Reason::Resolving { until },
            Deferral::TroubleHere => Reason::TroubleHere { until },
        };
        self.inner.defer(self, until, reason);
        match why {
            Deferral::HostFull(host) => self.inner.wait_for_host(self, host, WaitFor::Place),
            Deferral::HostResting(host) => self.inner.wait_for_host(self, host, WaitFor::EndOfRest),
            _ => {}
        }
    }

    /// Asks the throttle for one more `connect()`, when the first address did not answer.
    pub fn another_connect(&self) -> bool {
        self.inner.another_connect(self)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.inner.release(self);
    }
}

/// Why a connection has to wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deferral {
    /// All addresses rest after a failure; this one is up first, or as soon as another connection finds that it works.
    HostResting(IpAddr),
    /// All addresses are throttled; this one has a token first.
    HostThrottled(IpAddr),
    /// This address has all the connections that it may have. The queue is looked at again when one of them ends,
    /// or at the given time.
    HostFull(IpAddr),
    /// The domain's routing is not known yet.
    Resolving,
    /// This machine could not make the connection: no socket, no source address, no certificate.
    TroubleHere,
}

/// The table's side of a permit.
#[derive(Debug)]
pub(crate) struct Grant {
    pub queue: u32,
    /// The pools it counts against: those of the moment when it was given.
    pub pools: SmallVec<[u32; 3]>,
    pub reserved: bool,
    /// A message token was taken and no message yet.
    pub prepaid: AtomicBool,
    /// It has asked for mail.
    pub asked: AtomicBool,
    /// It said why it did not ask.
    pub excused: AtomicBool,
    /// Messages taken so far.
    pub served: AtomicU32,
    pub cell: Arc<WaitCell>,
}

/// Where an idle connection is woken.
#[derive(Debug, Default)]
pub(crate) struct WaitCell {
    pub notify: Notify,
    /// Woken for a message, and it has not asked yet.
    pub woken: AtomicBool,
}
