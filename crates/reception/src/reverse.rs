//! The names of clients in reverse DNS, for the Received field.
//!
//! A look-up begins when the client comes and goes on beside the session: a message waits for it no longer than `NAME_WAIT`
//! after that, and no error of DNS refuses anything. Only a name that leads back to the address counts, since whoever owns an
//! address may give it any name. Answers are kept for `KNOWN_FOR`, failures too, so that a dead name server costs one wait
//! for each address and time; behind that the resolver has its own cache, with the records' lives.

use parking_lot::Mutex;
use ph_dns::Resolver;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

/// How long after the client came a message waits for its name.
pub const NAME_WAIT: Duration = Duration::from_secs(1);
/// After this time nobody wants the answer any more.
const LOOKUP_TIME_MAX: Duration = Duration::from_secs(10);
/// How long an answer is taken from here.
const KNOWN_FOR: Duration = Duration::from_secs(60);
/// Addresses that are kept; beyond that the table starts anew.
const KNOWN_MAX: usize = 8192;
/// Look-ups under way; beyond that clients stay without a name.
const LOOKUPS_MAX: usize = 1024;
/// Names of one address that are tried; some have hundreds.
const NAMES_MAX: usize = 4;

/// `None` while it is looked for; then the name, if there is one.
type Answer = Option<Option<Arc<str>>>;

/// The names of all clients, as far as they are known.
#[derive(Clone, Default)]
pub(crate) struct ReverseNames {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    resolver: OnceLock<Resolver>,
    known: Mutex<HashMap<IpAddr, Name>>,
    under_way: AtomicUsize,
}

/// The name of one client, which may be on its way.
#[derive(Clone, Debug)]
pub(crate) struct Name {
    asked: Instant,
    answer: watch::Receiver<Answer>,
}

impl ReverseNames {
    /// Before this, nobody has a name.
    pub fn set_resolver(&self, resolver: Resolver) {
        let _ = self.shared.resolver.set(resolver);
    }

    /// Begins to look for the name of a client. `None`: there is nothing to look for.
    pub fn ask(&self, address: IpAddr) -> Option<Name> {
        let resolver = self.shared.resolver.get()?;
        if address.is_loopback() || address.is_unspecified() {
            return None;
        }
        let mut known = self.shared.known.lock();
        if let Some(name) = known.get(&address).filter(|name| name.asked.elapsed() < KNOWN_FOR) {
            return Some(name.clone());
        }
        if known.len() >= KNOWN_MAX {
            known.clear();
        }
        if self.shared.under_way.fetch_add(1, Ordering::Relaxed) >= LOOKUPS_MAX {
            self.shared.under_way.fetch_sub(1, Ordering::Relaxed);
            return None;
        }
        let (tell, answer) = watch::channel(None);
        let (resolver, shared) = (resolver.clone(), self.shared.clone());
        tokio::spawn(async move {
            let found = tokio::time::timeout(LOOKUP_TIME_MAX, confirmed(&resolver, address)).await;
            shared.under_way.fetch_sub(1, Ordering::Relaxed);
            tell.send_replace(Some(found.ok().flatten()));
        });
        let name = Name { asked: Instant::now(), answer };
        known.insert(address, name.clone());
        Some(name)
    }
}

impl Name {
    /// Waits for the answer, to the end of `NAME_WAIT` after the question.
    pub async fn wait(&mut self) {
        if self.answer.borrow().is_none() {
            let _ = tokio::time::timeout_at(self.asked + NAME_WAIT, self.answer.wait_for(Option::is_some)).await;
        }
    }

    /// The name, if it is known by now.
    pub fn known(&self) -> Option<Arc<str>> {
        self.answer.borrow().clone().flatten()
    }
}

/// The first name of the address that has the address.
async fn confirmed(resolver: &Resolver, address: IpAddr) -> Option<Arc<str>> {
    for name in resolver.ptr(address).await.ok()?.into_iter().take(NAMES_MAX) {
        let name = name.trim_end_matches('.');
        let addresses = resolver.addresses(name, address.is_ipv6()).await.unwrap_or_default();
        if addresses.iter().any(|found| found.to_canonical() == address) {
            return Some(name.into());
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use ph_dns::testing::Authority;

    const ZONE: &str = "9.100.51.198.in-addr.arpa. PTR mail.far.example.\n\
                        mail.far.example. A 198.51.100.9\n\
                        10.100.51.198.in-addr.arpa. PTR bank.example.\n\
                        bank.example. A 192.0.2.1\n\
                        11.100.51.198.in-addr.arpa. PTR other.example.\n\
                        11.100.51.198.in-addr.arpa. PTR two.far.example.\n\
                        two.far.example. A 198.51.100.11\n";

    async fn names() -> (Authority, ReverseNames) {
        let authority = Authority::start(ZONE).await.unwrap();
        let names = ReverseNames::default();
        names.set_resolver(authority.resolver());
        (authority, names)
    }

    async fn name_of(names: &ReverseNames, address: &str) -> Option<Arc<str>> {
        let mut name = names.ask(address.parse().unwrap())?;
        name.wait().await;
        name.known()
    }

    #[tokio::test]
    async fn only_a_name_that_leads_back_counts() {
        let (_authority, names) = names().await;
        for (address, wanted) in [
            ("198.51.100.9", Some("mail.far.example")),
            ("198.51.100.10", None),
            ("198.51.100.11", Some("two.far.example")),
            ("198.51.100.12", None),
            ("127.0.0.1", None),
            ("::1", None),
        ] {
            assert_eq!(name_of(&names, address).await.as_deref(), wanted, "{address}");
        }
    }

    #[tokio::test]
    async fn a_name_is_asked_for_once() {
        let (authority, names) = names().await;
        for _ in 0..3 {
            assert_eq!(name_of(&names, "198.51.100.9").await.as_deref(), Some("mail.far.example"));
            assert_eq!(name_of(&names, "198.51.100.12").await, None);
        }
        let pointers = authority.questions().into_iter().filter(|(_, kind)| kind == "PTR").count();
        assert_eq!(pointers, 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_dead_server_costs_one_bounded_wait() {
        let silent = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let names = ReverseNames::default();
        names.set_resolver(Resolver::new(vec![silent.local_addr().unwrap()], ph_dns::Settings::default()));
        let began = Instant::now();
        for _ in 0..3 {
            assert_eq!(name_of(&names, "198.51.100.9").await, None);
        }
        assert!(began.elapsed() >= NAME_WAIT && began.elapsed() < NAME_WAIT * 2, "{:?}", began.elapsed());
        // What came of it is kept for a while: nobody waits for the same silence again.
        tokio::time::sleep(LOOKUP_TIME_MAX).await;
        let later = Instant::now();
        assert_eq!(name_of(&names, "198.51.100.9").await, None);
        assert!(later.elapsed() < NAME_WAIT / 2, "{:?}", later.elapsed());
    }
}
