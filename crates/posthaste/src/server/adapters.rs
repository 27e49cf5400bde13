//! The policy's view of the engine: each small trait of `ph_policy::Services`, filled from the rooms.
//!
//! A policy is loaded before reception exists (its hooks need the policy), so reception is reached through a cell that is
//! filled once, right after.

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use ph_config::{Config, options as opt};
use ph_eventlog::{Clock, EventLog, Level, Subsystem};
use ph_message::{Content, Envelope, Id, IdSource};
use ph_policy::{Inject, Log, LogLevel, Options, Routes, Services, SessionCounts};
use ph_queue::Queue;
use ph_reception::{Reception, Sessions};
use std::net::IpAddr;
use std::sync::{Arc, OnceLock, Weak};

/// What one configuration generation's policy gets.
pub fn services(
    config: Arc<Config>,
    log: &EventLog,
    clock: &Clock,
    ids: &Arc<IdSource>,
    sessions: &Arc<Sessions>,
    queue: &Queue,
    reception: &ReceptionCell,
) -> Services {
    Services {
        clock: clock.clone(),
        log: Arc::new(Paniclog(log.clone())),
        ids: ids.clone(),
        sessions: Arc::new(Counts(sessions.clone())),
        routes: Arc::new(Bindings { config: config.clone(), queue: queue.clone() }),
        inject: Arc::new(Injector(reception.clone())),
        options: Arc::new(Values(config)),
    }
}

/// Reception, once it exists. Weak: reception owns the policy that holds this.
#[derive(Clone, Default)]
pub struct ReceptionCell(Arc<OnceLock<Weak<Reception>>>);

impl ReceptionCell {
    pub fn fill(&self, reception: &Arc<Reception>) {
        let _ = self.0.set(Arc::downgrade(reception));
    }

    fn get(&self) -> Option<Arc<Reception>> {
        self.0.get()?.upgrade()
    }
}

struct Paniclog(EventLog);

impl Log for Paniclog {
    fn panic(&self, level: LogLevel, subsystem: &str, text: &str) {
        let subsystem = subsystem.parse().unwrap_or(Subsystem::Mod);
        self.0.panic(eventlog_level(level), subsystem, text);
    }

    fn is_on(&self, level: LogLevel) -> bool {
        self.0.wants(eventlog_level(level), Subsystem::Mod)
    }
}

fn eventlog_level(level: LogLevel) -> Level {
    match level {
        LogLevel::Debug => Level::Debug,
        LogLevel::Info => Level::Info,
        LogLevel::Notice => Level::Notice,
        LogLevel::Warning => Level::Warning,
        LogLevel::Error => Level::Error,
        LogLevel::Critical => Level::Critical,
    }
}

struct Counts(Arc<Sessions>);

impl SessionCounts for Counts {
    fn count(&self, address: IpAddr, prefix: u8, service: &str) -> u64 {
        ipnet::IpNet::new(address, prefix).map_or(0, |network| self.0.count_in(network.trunc(), service) as u64)
    }
}

struct Bindings {
    config: Arc<Config>,
    queue: Queue,
}

impl Routes for Bindings {
    fn binding(&self, name: &str) -> Option<String> {
        self.config.bindings().iter().find(|binding| *binding.name == *name).map(|binding| binding.group.to_string())
    }

    /// Random by weight among the bindings that are not suspended; among all when all are.
    fn choose(&self, group: &str) -> Option<String> {
        let members: Vec<_> = self.config.bindings().iter().filter(|binding| *binding.group == *group).collect();
        let open: Vec<_> = members.iter().copied().filter(|b| !self.queue.is_suspended(&b.group, &b.name)).collect();
        let candidates = if open.is_empty() { members } else { open };
        let weight = |name: &str| self.config.sending(group, name, "").get(&opt::BINDING_WEIGHT).max(0).unsigned_abs();
        let weights: Vec<u64> = candidates.iter().map(|binding| weight(&binding.name)).collect();
        let total: u64 = weights.iter().sum();
        let mut draw = random_below(if total == 0 { candidates.len() as u64 } else { total });
        for (binding, weight) in candidates.iter().zip(weights) {
            let share = if total == 0 { 1 } else { weight };
            if draw < share {
                return Some(binding.name.to_string());
            }
            draw -= share;
        }
        None
    }

    fn gateway(&self, binding: &str, domain: &str) -> Option<String> {
        let group = self.binding(binding)?;
        self.config.sending(&group, binding, domain).get(&opt::GATEWAY).map(|gateway| gateway.to_string())
    }

    fn delivery_method(&self, binding: &str, domain: &str) -> String {
        let group = self.binding(binding).unwrap_or_else(|| "default".to_owned());
        self.config.sending(&group, binding, domain).get(&opt::DELIVERY_METHOD).to_string()
    }
}

/// Zero for an empty range.
fn random_below(end: u64) -> u64 {
    getrandom::u64().unwrap_or(0).checked_rem(end).unwrap_or(0)
}

struct Injector(ReceptionCell);

impl Inject for Injector {
    fn inject(&self, envelope: Envelope, content: Content) -> BoxFuture<'static, Result<Id, String>> {
        let reception = self.0.get();
        async move {
            let reception = reception.ok_or("the server is starting")?;
            let recipient = envelope.recipient.clone();
            let ids = reception.inject(envelope, content, &[recipient]).await.map_err(|error| error.to_string())?;
            ids.first().copied().ok_or_else(|| "discarded by policy".to_owned())
        }
        .boxed()
    }
}

struct Values(Arc<Config>);

impl Options for Values {
    fn hostname(&self) -> String {
        self.0.global().get(&opt::HOSTNAME).to_string()
    }
}
