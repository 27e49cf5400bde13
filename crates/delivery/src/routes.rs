//! Routes that are remembered, and domains whose look-ups fail.
//!
//! A route is good for `LIFE`; the resolver below has its own cache with the records' times. Failures are counted per
//! domain: after `mx_failures_fallback_to_a` the addresses of the domain itself are tried, after `dns_failures_to_purge`
//! its mail is given up. A failure is remembered for `FAILURE_LIFE`, so that a thousand waiting messages cause one
//! look-up and not a thousand.

use crate::lookup::Lookup;
use crate::route::{self, NoRoute, Route, Rules, Target, text};
use crate::settings::SessionSettings;
use arc_swap::ArcSwap;
use parking_lot::Mutex;
use ph_config::{Config, options as opt};
use ph_eventlog::Clock;
use ph_message::Time;
use ph_smtp::client::Protocol;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

/// How long a route is used before it is looked up again.
const LIFE_S: u64 = 60;
/// How long a failed look-up is not repeated.
const FAILURE_LIFE_S: u64 = 30;
/// Domains that are remembered; beyond that, those that are out of date are forgotten.
const DOMAINS_MAX: usize = 65_536;
/// Domains behind one address that an idle connection may move to.
const SIBLINGS_MAX: usize = 16;

/// The routes of all domains.
pub struct Routes {
    lookup: Arc<dyn Lookup>,
    config: Arc<ArcSwap<Config>>,
    clock: Clock,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    generation: u64,
    domains: HashMap<Arc<str>, Entry>,
    /// Which domains lie behind an address.
    behind: HashMap<IpAddr, Vec<Arc<str>>>,
}

#[derive(Clone, Default)]
struct Entry {
    answer: Option<(Time, Result<Arc<Route>, Failure>)>,
    /// Somebody looks up what is missing.
    completing: bool,
    mx_failures: u32,
    failures: u32,
}

/// Why mail for a domain cannot be sent now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// It fails, with this text.
    Final(&'static str),
    /// It is tried later.
    Later(&'static str),
    /// The look-up failed too often: all queued mail of the domain fails.
    Purge(&'static str),
}

/// Where an open connection leads.
pub(crate) struct Whereto<'a> {
    pub address: IpAddr,
    pub port: u16,
    pub protocol: Protocol,
    /// The host must have this name too.
    pub host: Option<&'a str>,
}

/// A domain's routing, for the console.
#[derive(Clone, Debug, Default)]
pub struct RouteInfo {
    pub route: Option<Arc<Route>>,
    pub failure: Option<&'static str>,
    /// Seconds until it is looked up again.
    pub life_s: u64,
    pub dns_failures: u32,
}

impl Routes {
    pub fn new(lookup: Arc<dyn Lookup>, config: Arc<ArcSwap<Config>>, clock: Clock) -> Routes {
        Routes { lookup, config, clock, known: Mutex::default() }
    }

    /// The resolver below.
    pub fn lookup(&self) -> &dyn Lookup {
        &*self.lookup
    }

    /// The route of a domain, looked up where it is not known. Unless it is to be `whole`, the first address that is known
    /// suffices.
    pub async fn route(&self, domain: &str, whole: bool) -> Result<Arc<Route>, Failure> {
        let config = self.config.load_full();
        let now = self.clock.now();
        let entry = self.entry(&config, domain);
        if let Some((until, answer)) = &entry.answer
            && *until > now
            && !(whole && is_partial(answer))
        {
            return answer.clone();
        }
        let mut rules = Rules::new(&config, domain);
        let scope = config.sending("default", "default", domain);
        let fallback = scope.get(&opt::MX_FAILURES_FALLBACK_TO_A);
        let enough = if fallback < 0 { 1 } else { u32::try_from(fallback).unwrap_or(u32::MAX) };
        rules.without_mx = entry.mx_failures >= enough;
        rules.wait_for_all = whole;
        let found = route::resolve(&*self.lookup, domain, &rules).await;
        let purge_after = u32::try_from(scope.get(&opt::DNS_FAILURES_TO_PURGE)).unwrap_or(0);
        self.learn(&config, domain, found, rules.without_mx, purge_after)
    }

    fn entry(&self, config: &Config, domain: &str) -> Entry {
        let mut known = self.known.lock();
        if known.generation != config.generation() {
            // Options may have changed what a route is; the counts of failures stay.
            known.generation = config.generation();
            known.domains.values_mut().for_each(|entry| entry.answer = None);
        }
        known.domains.get(domain).cloned().unwrap_or_default()
    }

    fn learn(
        &self,
        config: &Config,
        domain: &str,
        found: Result<Route, NoRoute>,
        without_mx: bool,
        purge_after: u32,
    ) -> Result<Arc<Route>, Failure> {
        let now = self.clock.now();
        let mut known = self.known.lock();
        let known = &mut *known;
        if known.domains.len() >= DOMAINS_MAX && !known.domains.contains_key(domain) {
            known.forget_old(now);
        }
        let name: Arc<str> = domain.into();
        let entry = known.domains.entry(name.clone()).or_default();
        // Connections that asked at the same time have one answer: it must not count as one failure for each of them.
        if known.generation == config.generation()
            && let Some((until, answer)) = &entry.answer
            && *until > now
            && (!is_partial(answer) || is_partial(&found))
        {
            return answer.clone();
        }
        let (life_s, answer) = match found {
            Ok(route) => {
                entry.failures = 0;
                if !without_mx {
                    entry.mx_failures = 0;
                }
                (route.life_s.unwrap_or(LIFE_S), Ok(Arc::new(route)))
            }
            Err(NoRoute::Final(text)) => (FAILURE_LIFE_S, Err(Failure::Final(text))),
            Err(NoRoute::Foreign) => (FAILURE_LIFE_S, Err(Failure::Later(text::FOREIGN))),
            Err(NoRoute::Failed { mx_failed, silent }) => {
                // A resolver that does not answer says nothing about the domain: mail waits for it.
                entry.failures = entry.failures.saturating_add(u32::from(!silent));
                entry.mx_failures = if mx_failed { entry.mx_failures.saturating_add(1) } else { 0 };
                if purge_after > 0 && !silent && entry.failures >= purge_after {
                    entry.failures = 0;
                    (FAILURE_LIFE_S, Err(Failure::Purge(text::LOOKUP_FAILED)))
                } else {
                    (FAILURE_LIFE_S, Err(Failure::Later(text::NO_MX_OR_A)))
                }
            }
        };
        if known.generation == config.generation() {
            entry.answer = Some((now.plus_secs(life_s), answer.clone()));
        }
        if let Ok(route) = &answer {
            known.note_behind(&name, route);
        }
        answer
    }

    /// Looks up what is missing of a route, once for each time that a part of it became known.
    pub async fn complete(&self, domain: &str) {
        let is_mine = match self.known.lock().domains.get_mut(domain) {
            Some(entry) => !std::mem::replace(&mut entry.completing, true),
            None => false,
        };
        if is_mine {
            let _ = self.route(domain, true).await;
            if let Some(entry) = self.known.lock().domains.get_mut(domain) {
                entry.completing = false;
            }
        }
    }

    /// Other domains that were seen behind an address.
    pub fn siblings(&self, address: IpAddr, domain: &str) -> Vec<Arc<str>> {
        let known = self.known.lock();
        let behind = known.behind.get(&address).map(Vec::as_slice).unwrap_or(&[]);
        behind.iter().filter(|other| &***other != domain).cloned().collect()
    }

    /// Whether a domain's route, as far as it is known, leads to the very server that a connection is open to. The address alone
    /// does not say: another port is another server.
    pub(crate) fn leads_to(&self, domain: &str, open: &Whereto<'_>, session: &SessionSettings) -> bool {
        let known = self.known.lock();
        let answer = known.domains.get(domain).and_then(|entry| entry.answer.as_ref());
        let is_it = |target: &Target| {
            target.address == open.address
                && target.port.unwrap_or(session.port) == open.port
                && target.protocol(session.protocol) == open.protocol
                && open.host.is_none_or(|host| *target.host == *host)
        };
        answer.is_some_and(|(_, answer)| answer.as_ref().is_ok_and(|route| route.targets.iter().any(is_it)))
    }

    /// Forgets what is known about a domain, or about all.
    pub fn refresh(&self, domain: Option<&str>) {
        let mut known = self.known.lock();
        match domain {
            Some(domain) => drop(known.domains.remove(domain)),
            None => {
                known.domains.clear();
                known.behind.clear();
            }
        }
    }

    /// What is known about a domain, without a look-up.
    pub fn info(&self, domain: &str) -> Option<RouteInfo> {
        let now = self.clock.now();
        let known = self.known.lock();
        let entry = known.domains.get(domain)?;
        let mut info = RouteInfo { dns_failures: entry.failures, ..RouteInfo::default() };
        if let Some((until, answer)) = &entry.answer {
            info.life_s = until.since(now).as_secs();
            match answer {
                Ok(route) => info.route = Some(route.clone()),
                Err(Failure::Final(text) | Failure::Later(text) | Failure::Purge(text)) => info.failure = Some(text),
            }
        }
        Some(info)
    }
}

fn is_partial<R: AsRef<Route>, E>(answer: &Result<R, E>) -> bool {
    answer.as_ref().is_ok_and(|route| route.as_ref().partial)
}

impl AsRef<Route> for Route {
    fn as_ref(&self) -> &Route {
        self
    }
}

impl Known {
    fn note_behind(&mut self, domain: &Arc<str>, route: &Route) {
        for target in &route.targets {
            let behind = self.behind.entry(target.address).or_default();
            if behind.len() < SIBLINGS_MAX && !behind.contains(domain) {
                behind.push(domain.clone());
            }
        }
    }

    fn forget_old(&mut self, now: Time) {
        self.domains.retain(|_, entry| entry.answer.as_ref().is_some_and(|(until, _)| *until > now));
        if self.domains.len() >= DOMAINS_MAX {
            self.domains.clear();
        }
        self.behind.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lookup::{Addresses, Answer, MxAnswer};
    use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
    use std::time::Duration;

    /// MX look-ups fail until they do not; addresses are there.
    #[derive(Default)]
    struct Flaky {
        asked: AtomicU32,
        silent: bool,
        addresses: Vec<IpAddr>,
    }

    impl Lookup for Flaky {
        fn mx<'a>(&'a self, _: &'a str) -> Answer<'a, MxAnswer> {
            self.asked.fetch_add(1, Relaxed);
            let silent = self.silent;
            Box::pin(async move {
                // Others get to ask before this one has its answer.
                tokio::task::yield_now().await;
                if silent { MxAnswer::Silent("timeout".into()) } else { MxAnswer::Failed("SERVFAIL".into()) }
            })
        }

        fn addresses<'a>(&'a self, _: &'a str, _: bool) -> Answer<'a, Addresses> {
            Box::pin(async { Addresses::Found(self.addresses.clone()) })
        }
    }

    fn routes(text: &str, flaky: Arc<Flaky>) -> (Routes, Clock) {
        let config = Config::parse("test", text).unwrap().config;
        let clock = Clock::fake(Time::from_secs(1_800_000_000));
        (Routes::new(flaky, Arc::new(ArcSwap::from_pointee(config)), clock.clone()), clock)
    }

    #[tokio::test]
    async fn a_domain_that_cannot_be_looked_up_is_purged_after_its_failures() {
        let flaky = Arc::new(Flaky::default());
        let (routes, clock) = routes("dns_failures_to_purge = 3", flaky.clone());
        for wanted in [
            Failure::Later(text::NO_MX_OR_A),
            Failure::Later(text::NO_MX_OR_A),
            Failure::Purge(text::LOOKUP_FAILED),
            Failure::Later(text::NO_MX_OR_A),
        ] {
            assert_eq!(routes.route("d.example", true).await.unwrap_err(), wanted);
            // Whoever asks in between gets the same without a look-up.
            let asked = flaky.asked.load(Relaxed);
            assert_eq!(routes.route("d.example", true).await.unwrap_err(), wanted);
            assert_eq!(flaky.asked.load(Relaxed), asked);
            clock.advance(Duration::from_secs(FAILURE_LIFE_S));
        }
    }

    #[tokio::test]
    async fn connections_that_ask_at_once_count_one_failure() {
        let (routes, _) = routes("dns_failures_to_purge = 3", Arc::default());
        let routes = Arc::new(routes);
        let asked: Vec<_> = (0..20)
            .map(|_| {
                let routes = routes.clone();
                tokio::spawn(async move { routes.route("d.example", true).await.unwrap_err() })
            })
            .collect();
        for answer in asked {
            assert_eq!(answer.await.unwrap(), Failure::Later(text::NO_MX_OR_A));
        }
    }

    #[tokio::test]
    async fn a_resolver_that_does_not_answer_never_fails_mail() {
        let flaky = Arc::new(Flaky { silent: true, ..Flaky::default() });
        let (routes, clock) = routes("dns_failures_to_purge = 2", flaky);
        for _ in 0..10 {
            assert_eq!(routes.route("d.example", true).await.unwrap_err(), Failure::Later(text::NO_MX_OR_A));
            clock.advance(Duration::from_secs(FAILURE_LIFE_S));
        }
    }

    #[tokio::test]
    async fn after_some_mx_failures_addresses_do() {
        for (option, failures) in [("3", 3), ("-1", 1), ("0", 0)] {
            let flaky = Arc::new(Flaky { addresses: vec!["192.0.2.1".parse().unwrap()], ..Flaky::default() });
            let (routes, clock) = routes(&format!("mx_failures_fallback_to_a = {option}"), flaky);
            for _ in 0..failures {
                assert!(routes.route("d.example", true).await.is_err());
                clock.advance(Duration::from_secs(FAILURE_LIFE_S));
            }
            assert!(routes.route("d.example", true).await.is_ok(), "{option}");
        }
    }
}
