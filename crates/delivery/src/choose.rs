//! Choosing a host for a connection: the best preference first, spread evenly within one, until one takes us.
//!
//! A host that fails rests, and the next one is tried at once; hosts that are full, throttled or resting are passed over. Only
//! when every host was tried does the attempt count as failed.

use crate::connect::{self, Fault, NotOpen, Open};
use crate::connections::Entry;
use crate::route::Target;
use crate::services::Shared;
use crate::settings::Settings;
use ph_message::Time;
use ph_queue::{Deferral, HostBusy, HostPermit, Permit};

/// How long a queue whose hosts are all full waits at most before it looks again.
const FULL_S: u64 = 5;

/// What came of it.
pub(crate) enum Chosen {
    Open(Box<Open>, HostPermit),
    /// No host may be connected to now.
    Wait(Time, Deferral),
    /// The throttle of connections has no token for another try.
    NoToken,
    Failed(NotOpen),
}

/// Tries the hosts in their order until one takes us.
pub(crate) async fn choose(
    shared: &Shared,
    permit: &Permit,
    settings: &Settings,
    order: &[Target],
    sender_domain: &str,
    entry: &Entry,
) -> Chosen {
    let at = permit.queue();
    let now = shared.clock.now();
    let mut wait: Option<(Time, Deferral)> = None;
    let mut failed: Option<NotOpen> = None;
    for target in order {
        let address = target.address;
        let host = match shared.queue.host_check(&at.group, &at.binding, &target.host, address) {
            Ok(host) => host,
            Err(busy) => {
                let (until, why) = match busy {
                    HostBusy::Resting(until) => (until, Deferral::HostResting(address)),
                    HostBusy::Throttled(until) => (until, Deferral::HostThrottled(address)),
                    HostBusy::Full => (now.plus_secs(FULL_S), Deferral::HostFull(address)),
                };
                if wait.as_ref().is_none_or(|(earlier, _)| until < *earlier) {
                    wait = Some((until, why));
                }
                continue;
            }
        };
        if failed.is_some() && !permit.another_connect() {
            return Chosen::NoToken;
        }
        match connect::open(shared, settings, target, sender_domain, entry).await {
            Ok(open) => return Chosen::Open(Box::new(open), host),
            Err(failure) => {
                let whose = failure.whose;
                if whose == Fault::Host {
                    shared.queue.host_failed(at, address);
                }
                failed = Some(failure);
                if whose == Fault::Here {
                    break;
                }
            }
        }
        if shared.is_stopping() {
            return Chosen::NoToken;
        }
    }
    match (failed, wait) {
        // A full or throttled host is not a failed one: mail waits for it.
        (Some(failure), Some((until, why)))
            if failure.whose == Fault::Host && !matches!(why, Deferral::HostResting(_)) =>
        {
            Chosen::Wait(until, why)
        }
        (Some(failure), _) => Chosen::Failed(failure),
        (None, Some((until, why))) => Chosen::Wait(until, why),
        // A route without targets is none; `Routes` never gives one.
        (None, None) => Chosen::NoToken,
    }
}

/// Spreads connections evenly over the addresses of one preference. Families that are preferred stay in front.
pub(crate) fn shuffle_within_preference(targets: &mut [Target]) {
    let group = |target: &Target| (target.preference, target.address.is_ipv6());
    for group in targets.chunk_by_mut(|a, b| group(a) == group(b)) {
        for at in (1..group.len()).rev() {
            let random = getrandom::u32().unwrap_or(0) as usize;
            group.swap(at, random % (at + 1));
        }
    }
}
