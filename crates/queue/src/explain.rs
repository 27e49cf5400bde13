//! Why a message waits: the first thing, in the order in which they are looked at for delivery, that keeps it from going.
//!
//! Every wait of the scheduler has a name here and, where it is known, a time at which it ends by itself.

use crate::Queue;
use crate::entry::Place;
use crate::inspect::{Entry, QueueInfo};
use crate::retry::RetryRules;
use crate::scheduler::{PoolKey, Wait};
use crate::table::State;
use ph_message::{Id, Time};
use std::fmt;
use std::net::IpAddr;

/// Why a message waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reason {
    /// It is in delivery.
    InDelivery,
    /// Its time has not come.
    RetryAt(Time),
    /// `suspend_delivery`.
    SuspendedByConfig,
    /// Suspended by the console or a policy.
    Suspended { until: Time, note: String },
    /// `blackhole`: it is about to be failed.
    Blackholed,
    /// The throttle of messages or of connections has no token.
    Throttled { option: &'static str, count: u32, per_s: u32, until: Time },
    /// A cap on connections is reached.
    CapReached { option: &'static str, used: u32, limit: u32 },
    /// All hosts rest after failures.
    HostResting { host: IpAddr, until: Time },
    /// All hosts are throttled.
    HostThrottled { host: IpAddr, until: Time },
    /// The host has all the connections it may have.
    HostFull { host: IpAddr, until: Time },
    /// The domain's hosts are not known yet.
    Resolving { until: Time },
    /// This machine could not make a connection.
    TroubleHere { until: Time },
    /// Connections ended before they took mail.
    BackingOff { until: Time, connections: u32 },
    /// The queue's connections are at work on what is ahead of it; more are opened as time goes by.
    Queued { waiting: u32, connections: u32 },
    /// A connection is about to be opened.
    Ready,
}

impl Reason {
    /// When something can change by itself, if that is known.
    pub fn next(&self) -> Option<Time> {
        match self {
            Reason::RetryAt(until)
            | Reason::Throttled { until, .. }
            | Reason::HostResting { until, .. }
            | Reason::HostThrottled { until, .. }
            | Reason::HostFull { until, .. }
            | Reason::Resolving { until }
            | Reason::TroubleHere { until }
            | Reason::BackingOff { until, .. } => Some(*until),
            Reason::Suspended { until, .. } if *until != Time::MAX => Some(*until),
            _ => None,
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reason::InDelivery => write!(f, "in delivery"),
            Reason::RetryAt(time) => write!(f, "waits for its next attempt at {}", time.secs()),
            Reason::SuspendedByConfig => write!(f, "suspend_delivery is set"),
            Reason::Suspended { until: Time::MAX, note } => write!(f, "suspended: {note}"),
            Reason::Suspended { until, note } => write!(f, "suspended until {}: {note}", until.secs()),
            Reason::Blackholed => write!(f, "blackhole is set: about to fail"),
            Reason::Throttled { option, count, per_s, until } => {
                write!(f, "{option} = {count}/{per_s} is used up until {until}")
            }
            Reason::CapReached { option, used, limit } => write!(f, "{option} is reached ({used} of {limit})"),
            Reason::HostResting { host, until } => write!(f, "host {host} failed and rests until {}", until.secs()),
            Reason::HostThrottled { host, until } => write!(f, "the throttle of host {host} is used up until {until}"),
            Reason::HostFull { host, .. } => write!(f, "max_outbound_connections of host {host} is reached"),
            Reason::Resolving { .. } => write!(f, "the hosts of the domain are being looked up"),
            Reason::TroubleHere { until } => {
                write!(f, "this machine could not make a connection; the next try at {}", until.secs())
            }
            Reason::BackingOff { until, connections } => {
                write!(f, "{connections} connections in a row ended early; the next one at {}", until.secs())
            }
            Reason::Queued { waiting, connections } => {
                write!(f, "one of {waiting} messages that wait for {connections} connections")
            }
            Reason::Ready => write!(f, "a connection is about to be opened"),
        }
    }
}

/// Everything that decides about one message's delivery.
#[derive(Clone, Debug, PartialEq)]
pub struct Explanation {
    /// The message.
    pub entry: Entry,
    /// The first thing that keeps it from being delivered.
    pub reason: Reason,
    /// When that can change by itself, if it is known.
    pub next: Option<Time>,
    /// Its queue.
    pub queue: QueueInfo,
    /// The retry options that hold for it.
    pub rules: RetryRules,
    /// When it expires.
    pub expires: Time,
}

impl Queue {
    /// Why a message has not been delivered yet.
    pub fn explain(&self, id: Id) -> Option<Explanation> {
        self.with(|state, now| {
            let no = state.find(id)?;
            let entry = state.entry(no, now);
            let queue = state.slots[no].queue;
            let reason = state.reason(no, now);
            let rules = state.queue(queue).limits.retry;
            Some(Explanation {
                next: reason.next(),
                expires: entry.created.plus_secs(rules.message_expiration_s),
                queue: state.queue_info(queue, now),
                entry,
                reason,
                rules,
            })
        })
    }
}

impl State {
    /// The first thing that keeps a message from being delivered now.
    fn reason(&mut self, no: u32, now: Time) -> Reason {
        let (place, due, queue_no) = (self.slots[no].place, self.slots[no].due, self.slots[no].queue);
        let queue = self.queue(queue_no);
        if place == Place::InFlight {
            return Reason::InDelivery;
        }
        if queue.limits.blackhole {
            return Reason::Blackholed;
        }
        if queue.limits.suspend {
            return Reason::SuspendedByConfig;
        }
        if let Some(hold) = queue.hold.as_ref().filter(|hold| hold.until > now) {
            return Reason::Suspended { until: hold.until, note: hold.note.to_string() };
        }
        if place == Place::Delayed && due > now {
            return Reason::RetryAt(due);
        }
        if let Some((until, reason)) = &queue.defer
            && *until > now
        {
            return reason.clone();
        }
        let waiting = queue.active.len();
        match queue.wait {
            Wait::OwnCap => Reason::CapReached {
                option: "max_outbound_connections",
                used: queue.connections,
                limit: queue.limits.connections_max,
            },
            Wait::Pool(pool) => match self.scheduler.pools.get(pool as usize) {
                Some(pool) => Reason::CapReached {
                    option: match pool.key {
                        PoolKey::Server | PoolKey::Binding(_) => "server_max_outbound_connections",
                        PoolKey::Scope(_) => "scope_max_outbound_connections",
                    },
                    used: pool.used,
                    limit: pool.limit,
                },
                None => Reason::Ready,
            },
            Wait::Bucket(bucket) => {
                let is_messages = queue.messages == Some(bucket);
                let option = if is_messages { "outbound_throttle_messages" } else { "outbound_throttle_connections" };
                match self.scheduler.buckets.get_mut(bucket as usize) {
                    Some(shared) => {
                        let (rate, until) = (shared.bucket.rate(), shared.bucket.ready_at(1, now));
                        Reason::Throttled { option, count: rate.count, per_s: rate.per_s, until }
                    }
                    None => Reason::Ready,
                }
            }
            Wait::Ready => Reason::Ready,
            _ => Reason::Queued { waiting, connections: queue.connections },
        }
    }
}
