//! Addresses of MX hosts, per binding: up or resting, how many connections, and the throttles of the `host` scope.
//!
//! Kept apart from the queues, under its own lock: an attempt asks here for one address after the other until one is
//! had. An address that failed rests for `host_failure_retry`; one that answers is up again.

use crate::Queue;
use crate::limits::{HostLimits, OwnerKey, UNLIMITED};
use crate::names::QueueRef;
use crate::throttle::{Bucket, Rate};
use ph_message::Time;
use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;

/// Addresses that are remembered; beyond it those are forgotten that neither rest nor are connected to.
const HOSTS_MAX: usize = 65_536;
/// Queues that wait for a place at one address, or for the end of its rest. Those beyond it wait for their time.
const WAITERS_MAX: usize = 1024;
/// Buckets of host scopes; beyond it the full ones are forgotten (a full bucket is as good as a new one).
const BUCKETS_MAX: usize = 16_384;

/// Why an address is passed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostBusy {
    /// It failed, and rests.
    Resting(Time),
    /// It has all the connections that it may have from this binding.
    Full,
    /// Its throttle has a token again then.
    Throttled(Time),
}

/// A connection to one address; dropping it frees the place.
#[derive(Debug)]
pub struct HostPermit {
    queue: Queue,
    key: HostKey,
    messages: Option<(OwnerKey, Rate)>,
}

impl HostPermit {
    /// Asks the host's message throttle for tokens; the first message was charged with the connection. Fewer than
    /// wanted: send so many, then close.
    pub fn messages(&self, wanted: u32) -> u32 {
        let Some((owner, rate)) = self.messages else { return wanted };
        let now = self.queue.0.clock.now();
        self.queue.0.hosts.lock().bucket(owner, rate, now).take(wanted, now)
    }
}

impl Drop for HostPermit {
    fn drop(&mut self) {
        let waiter = self.queue.0.hosts.lock().leave(self.key);
        if let Some(waiter) = waiter {
            self.queue.wake_waiter(waiter);
        }
    }
}

/// What is known about an address, for the console.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HostState {
    /// Open connections of this binding.
    pub connections: u32,
    /// Resting until then; in the past or `Time::ZERO`: up.
    pub rests_until: Time,
    /// The last failure, if there was one.
    pub failed_at: Option<Time>,
}

impl Queue {
    /// A connection to an address, if it is up, below its cap and not throttled; the connection and its first message
    /// are charged.
    pub fn host_permit(&self, group: &str, binding: &str, host: &str, address: IpAddr) -> Option<HostPermit> {
        self.host_check(group, binding, host, address).ok()
    }

    /// As `host_permit`, with the reason.
    pub fn host_check(&self, group: &str, binding: &str, host: &str, address: IpAddr) -> Result<HostPermit, HostBusy> {
        let limits = self.0.settings.host(group, binding, host);
        let now = self.0.clock.now();
        let mut hosts = self.0.hosts.lock();
        let key = hosts.key(group, binding, address);
        hosts.enter(key, &limits, now)?;
        drop(hosts);
        Ok(HostPermit { queue: self.clone(), key, messages: limits.messages })
    }

    /// Connecting, or the protocol, failed: the address rests for `host_failure_retry` of that domain. Returns until
    /// when.
    pub fn host_failed(&self, at: &QueueRef, address: IpAddr) -> Time {
        let rest_s = self.limits(at).host_failure_retry_s;
        let now = self.0.clock.now();
        let mut hosts = self.0.hosts.lock();
        let key = hosts.key(&at.group, &at.binding, address);
        let host = hosts.entry(key, now);
        host.state.failed_at = Some(now);
        host.state.rests_until = now.plus_secs(rest_s);
        host.state.rests_until
    }

    /// The address works: it does not rest any more, and queues that wait for the end of its rest need not.
    pub fn host_worked(&self, at: &QueueRef, address: IpAddr) {
        let waiters = {
            let mut hosts = self.0.hosts.lock();
            let key = hosts.key(&at.group, &at.binding, address);
            let Some(host) = hosts.hosts.get_mut(&key) else { return };
            host.state.rests_until = Time::ZERO;
            std::mem::take(&mut host.sleepers)
        };
        for waiter in waiters {
            self.wake_waiter(waiter);
        }
    }

    fn wake_waiter(&self, (no, serial): Waiter) {
        self.with(|state, now| {
            if state.queue_if(no, serial).is_some() {
                state.undefer(no, now);
            }
        });
    }

    /// Whether an address is not resting.
    pub fn host_is_up(&self, at: &QueueRef, address: IpAddr) -> bool {
        self.host_state(at, address).rests_until <= self.0.clock.now()
    }

    /// What is known about an address.
    pub fn host_state(&self, at: &QueueRef, address: IpAddr) -> HostState {
        let hosts = self.0.hosts.lock();
        let key = hosts.key(&at.group, &at.binding, address);
        hosts.hosts.get(&key).map_or_else(HostState::default, |host| host.state)
    }
}

/// A hash of the binding stands for it: two bindings would share an address's state with a chance of 2^-64.
type HostKey = (u64, IpAddr);

#[derive(Debug, Default)]
pub(crate) struct Hosts {
    hosts: HashMap<HostKey, Host>,
    buckets: HashMap<OwnerKey, Bucket>,
    hasher: RandomState,
}

#[derive(Debug, Default)]
struct Host {
    state: HostState,
    /// Queues that wait for a place.
    waiters: Vec<Waiter>,
    /// Queues that wait for the end of its rest.
    sleepers: Vec<Waiter>,
}

/// A queue by its number and serial.
type Waiter = (u32, u64);

/// What a queue waits for at an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WaitFor {
    Place,
    EndOfRest,
}

impl Hosts {
    fn key(&self, group: &str, binding: &str, address: IpAddr) -> HostKey {
        // The same host may be known by both forms of an IPv4 address.
        (self.hasher.hash_one((group, binding)), address.to_canonical())
    }

    fn entry(&mut self, key: HostKey, now: Time) -> &mut Host {
        if self.hosts.len() >= HOSTS_MAX && !self.hosts.contains_key(&key) {
            self.hosts.retain(|_, host| host.state.connections > 0 || host.state.rests_until > now);
        }
        self.hosts.entry(key).or_default()
    }

    fn bucket(&mut self, owner: OwnerKey, rate: Rate, now: Time) -> &mut Bucket {
        if self.buckets.len() >= BUCKETS_MAX && !self.buckets.contains_key(&owner) {
            self.buckets.retain(|_, bucket| bucket.tokens(now) < bucket.rate().count);
        }
        let bucket = self.buckets.entry(owner).or_insert_with(|| Bucket::new(rate, now));
        bucket.configure(rate, now);
        bucket
    }

    fn enter(&mut self, key: HostKey, limits: &HostLimits, now: Time) -> Result<(), HostBusy> {
        let state = self.entry(key, now).state;
        if state.rests_until > now {
            return Err(HostBusy::Resting(state.rests_until));
        }
        if limits.connections_max != UNLIMITED && state.connections >= limits.connections_max {
            return Err(HostBusy::Full);
        }
        let buckets = [limits.connects, limits.messages].into_iter().flatten().filter(|(_, rate)| rate.count > 0);
        for (owner, rate) in buckets.clone() {
            let ready = self.bucket(owner, rate, now).ready_at(1, now);
            if ready > now {
                return Err(HostBusy::Throttled(ready));
            }
        }
        for (owner, rate) in buckets {
            self.bucket(owner, rate, now).take(1, now);
        }
        self.entry(key, now).state.connections += 1;
        Ok(())
    }

    fn leave(&mut self, key: HostKey) -> Option<Waiter> {
        let host = self.hosts.get_mut(&key)?;
        host.state.connections = host.state.connections.saturating_sub(1);
        (!host.waiters.is_empty()).then(|| host.waiters.remove(0))
    }

    /// Enters a queue that waits. False: what it waits for has come meanwhile.
    pub fn wait(&mut self, at: &QueueRef, address: IpAddr, waiter: Waiter, what: WaitFor, now: Time) -> bool {
        let key = self.key(&at.group, &at.binding, address);
        let Some(host) = self.hosts.get_mut(&key) else { return true };
        let list = match what {
            WaitFor::Place => &mut host.waiters,
            WaitFor::EndOfRest if host.state.rests_until <= now => return false,
            WaitFor::EndOfRest => &mut host.sleepers,
        };
        if list.len() < WAITERS_MAX && !list.contains(&waiter) {
            list.push(waiter);
        }
        true
    }
}
