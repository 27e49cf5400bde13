//! The sessions that are open now: their caps, their numbers for policy and console, their farewell.
//!
//! A slot lives as long as the connection. Caps are looked up by their owner: a cap set outside `peer` is one budget for
//! the listener (or the service), one set inside `peer` is a budget for that network.

use compact_str::CompactString;
use ipnet::IpNet;
use parking_lot::Mutex;
use ph_message::Time;
use slab::Slab;
use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

/// One line of `show inbound`.
#[derive(Clone, Debug)]
pub struct SessionLine {
    pub remote: SocketAddr,
    pub listener: CompactString,
    pub service: &'static str,
    pub state: &'static str,
    pub since: Time,
}

/// A budget: the scope that owns it, and how many sessions it allows (0: no limit).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Cap {
    pub owner: Arc<str>,
    pub limit: u32,
}

#[derive(Default)]
pub struct Sessions {
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    lines: Slab<SessionLine>,
    by_owner: HashMap<Arc<str>, u32>,
    by_address: HashMap<IpAddr, u32>,
}

/// A session's place in the table; dropping it frees the place.
pub struct Admission {
    sessions: Arc<Sessions>,
    key: usize,
    owners: Vec<Arc<str>>,
    address: IpAddr,
}

impl Sessions {
    /// Takes a place under every cap, or none: the first cap that is used up refuses the session.
    pub fn admit(self: &Arc<Self>, line: SessionLine, caps: &[Cap], per_address_max: u32) -> Option<Admission> {
        let address = line.remote.ip();
        let mut inner = self.inner.lock();
        if !inner.has_room(address, caps, per_address_max) {
            return None;
        }
        let owners = inner.take(caps);
        *inner.by_address.entry(address).or_default() += 1;
        let key = inner.lines.insert(line);
        Some(Admission { sessions: self.clone(), key, owners, address })
    }

    pub fn count(&self) -> usize {
        self.inner.lock().lines.len()
    }

    /// Sessions of `service` whose client is in `network`: `ac:inbound_session_count`.
    pub fn count_in(&self, network: IpNet, service: &str) -> usize {
        let inner = self.inner.lock();
        let inside = |line: &SessionLine| {
            line.service.eq_ignore_ascii_case(service) && network.contains(&line.remote.ip().to_canonical())
        };
        inner.lines.iter().filter(|(_, line)| inside(line)).count()
    }

    pub fn list(&self) -> Vec<SessionLine> {
        self.inner.lock().lines.iter().map(|(_, line)| line.clone()).collect()
    }
}

impl Inner {
    fn has_room(&self, address: IpAddr, caps: &[Cap], per_address_max: u32) -> bool {
        let at_address = self.by_address.get(&address).copied().unwrap_or(0);
        let full = |cap: &Cap| cap.limit > 0 && self.by_owner.get(&cap.owner).copied().unwrap_or(0) >= cap.limit;
        (per_address_max == 0 || at_address < per_address_max) && !caps.iter().any(full)
    }

    /// Counts a session under the caps.
    fn take(&mut self, caps: &[Cap]) -> Vec<Arc<str>> {
        for cap in caps {
            *self.by_owner.entry(cap.owner.clone()).or_default() += 1;
        }
        caps.iter().map(|cap| cap.owner.clone()).collect()
    }
}

impl Admission {
    /// What the session is doing now, for `show inbound`.
    pub fn state(&self, state: &'static str) {
        if let Some(line) = self.sessions.inner.lock().lines.get_mut(self.key) {
            line.state = state;
        }
    }

    /// XCLIENT, XREMOTEIP or PROXY named another client, whose caps hold from now on. False: one of them is used up, and the
    /// session, which counts under none of them, must end.
    pub fn moved(&mut self, remote: SocketAddr, caps: &[Cap], per_address_max: u32) -> bool {
        let mut inner = self.sessions.inner.lock();
        release(&mut inner.by_address, &self.address);
        for owner in self.owners.drain(..) {
            release(&mut inner.by_owner, &owner);
        }
        self.address = remote.ip();
        if let Some(line) = inner.lines.get_mut(self.key) {
            line.remote = remote;
        }
        let is_free = inner.has_room(self.address, caps, per_address_max);
        *inner.by_address.entry(self.address).or_default() += 1;
        if is_free {
            self.owners = inner.take(caps);
        }
        is_free
    }
}

impl Drop for Admission {
    fn drop(&mut self) {
        let mut inner = self.sessions.inner.lock();
        inner.lines.try_remove(self.key);
        release(&mut inner.by_address, &self.address);
        for owner in &self.owners {
            release(&mut inner.by_owner, owner);
        }
    }
}

fn release<K: std::hash::Hash + Eq>(counts: &mut HashMap<K, u32>, key: &K) {
    if let Some(count) = counts.get_mut(key) {
        *count -= 1;
        if *count == 0 {
            counts.remove(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(remote: &str) -> SessionLine {
        SessionLine {
            remote: remote.parse().unwrap(),
            listener: ":25".into(),
            service: "SMTP",
            state: "connected",
            since: Time::ZERO,
        }
    }

    #[test]
    fn a_cap_counts_open_sessions_and_frees_on_close() {
        let sessions = Arc::new(Sessions::default());
        let caps = [Cap { owner: "listener".into(), limit: 2 }];
        let first = sessions.admit(line("127.0.0.1:1"), &caps, 0);
        let second = sessions.admit(line("127.0.0.1:2"), &caps, 0);
        assert!(first.is_some() && second.is_some());
        assert!(sessions.admit(line("127.0.0.1:3"), &caps, 0).is_none());
        drop(first);
        assert!(sessions.admit(line("127.0.0.1:4"), &caps, 0).is_some());
    }

    #[test]
    fn counts_by_network_and_service() {
        let sessions = Arc::new(Sessions::default());
        let open: Vec<_> =
            ["127.0.0.1:1", "127.0.0.2:1", "10.0.0.1:1"].map(|at| sessions.admit(line(at), &[], 0)).into();
        assert_eq!(sessions.count_in("127.0.0.0/24".parse().unwrap(), "smtp"), 2);
        assert_eq!(sessions.count_in("127.0.0.1/32".parse().unwrap(), "SMTP"), 1);
        assert_eq!(sessions.count_in("0.0.0.0/0".parse().unwrap(), "Control"), 0);
        drop(open);
        assert_eq!(sessions.count(), 0);
    }

    #[test]
    fn a_limit_for_each_address_follows_the_address() {
        let sessions = Arc::new(Sessions::default());
        let mut first = sessions.admit(line("127.0.0.1:1"), &[], 1).unwrap();
        assert!(sessions.admit(line("127.0.0.1:2"), &[], 1).is_none());
        assert!(first.moved("192.0.2.1:5".parse().unwrap(), &[], 1));
        assert!(sessions.admit(line("127.0.0.1:2"), &[], 1).is_some());
    }

    #[test]
    fn the_caps_of_the_client_that_was_named_hold_in_place_of_those_of_before() {
        let sessions = Arc::new(Sessions::default());
        let (proxy, client) = (Cap { owner: "proxy".into(), limit: 1 }, [Cap { owner: "client".into(), limit: 1 }]);
        let far = "192.0.2.1:5".parse().unwrap();
        let mut first = sessions.admit(line("127.0.0.1:1"), std::slice::from_ref(&proxy), 0).unwrap();
        assert!(first.moved(far, &client, 0));
        assert!(first.moved(far, &client, 0), "its own place is no obstacle");
        let mut second = sessions.admit(line("127.0.0.1:2"), std::slice::from_ref(&proxy), 0).unwrap();
        assert!(!second.moved(far, &client, 0));
        drop(second);
        assert!(sessions.admit(line("127.0.0.1:3"), &[proxy], 0).is_some(), "refused, it holds nothing");
        let mut third = sessions.admit(line("127.0.0.1:4"), &[], 0).unwrap();
        assert!(!third.moved(far, &[], 1), "one session of that address is open");
        drop(first);
        assert!(third.moved(far, &client, 1));
    }
}
