//! What reception works with: one `Reception` a process, one `Generation` a configuration.

use crate::scope::Scopes;
use crate::sessions::Sessions;
use crate::users::Users;
use arc_swap::ArcSwap;
use parking_lot::Mutex;
use ph_config::{Config, options as opt};
use ph_eventlog::{Clock, EventLog, Level, Subsystem};
use ph_message::IdSource;
use ph_policy::{Message, Policy};
use ph_queue::Queue;
use ph_smtp::Reply;
use ph_spool::{Spool, SpoolError};
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio_util::sync::CancellationToken;

/// Domains whose gateway and blackhole setting are remembered; beyond that the table starts anew.
const ROUTES_MAX: usize = 65_536;

/// A configuration and the policy that was loaded with it: swapped together, so that no session sees half a reload.
pub struct Generation {
    pub config: Arc<Config>,
    pub policy: Arc<Policy>,
    pub hostname: Arc<str>,
    routes: Mutex<HashMap<RouteKey, Arc<DomainRoute>>>,
}

type RouteKey = (compact_str::CompactString, compact_str::CompactString, compact_str::CompactString);

/// What the sending options say about a domain at the time of reception.
struct DomainRoute {
    gateway: Option<Arc<str>>,
    blackhole: Arc<str>,
}

impl Generation {
    pub fn new(config: Arc<Config>, policy: Arc<Policy>) -> Arc<Generation> {
        let hostname = config.global().get(&opt::HOSTNAME);
        Arc::new(Generation { config, policy, hostname, routes: Mutex::default() })
    }

    /// The `gateway` under which mail for `domain` is queued.
    pub(crate) fn gateway(&self, group: &str, binding: &str, domain: &str) -> Option<Arc<str>> {
        self.route(group, binding, domain).gateway.clone()
    }

    pub(crate) fn blackhole(&self, domain: &str) -> Arc<str> {
        self.route("default", "default", domain).blackhole.clone()
    }

    fn route(&self, group: &str, binding: &str, domain: &str) -> Arc<DomainRoute> {
        let key = (group.into(), binding.into(), domain.into());
        if let Some(route) = self.routes.lock().get(&key) {
            return route.clone();
        }
        let scope = self.config.sending(group, binding, domain);
        let route = Arc::new(DomainRoute { gateway: scope.get(&opt::GATEWAY), blackhole: scope.get(&opt::BLACKHOLE) });
        let mut routes = self.routes.lock();
        if routes.len() >= ROUTES_MAX {
            routes.clear();
        }
        routes.insert(key, route.clone());
        route
    }
}

/// Makes a report about a recipient that a policy refused after the client had its `250`; the delivery side implements it.
pub trait Bouncer: Send + Sync {
    fn bounce(&self, message: &Message, reply: &Reply);
}

/// The receiving half of the server.
pub struct Reception {
    pub generation: ArcSwap<Generation>,
    pub spool: Spool,
    pub queue: Queue,
    pub log: EventLog,
    pub clock: Clock,
    pub ids: Arc<IdSource>,
    pub sessions: Arc<Sessions>,
    pub(crate) scopes: Scopes,
    pub(crate) users: Users,
    /// Cancelled when the server stops: sessions say goodbye, `inject` refuses.
    pub shutdown: CancellationToken,
    /// Memory is above `memory_hwm`: new mail is put off.
    overloaded: AtomicBool,
    bouncer: std::sync::OnceLock<Arc<dyn Bouncer>>,
}

/// The handles that a `Reception` is made of.
pub struct Parts {
    pub generation: Arc<Generation>,
    pub spool: Spool,
    pub queue: Queue,
    pub log: EventLog,
    pub clock: Clock,
    pub ids: Arc<IdSource>,
    pub sessions: Arc<Sessions>,
    pub shutdown: CancellationToken,
}

impl Reception {
    pub fn new(parts: Parts) -> Arc<Reception> {
        Arc::new(Reception {
            generation: ArcSwap::new(parts.generation),
            spool: parts.spool,
            queue: parts.queue,
            log: parts.log,
            clock: parts.clock,
            ids: parts.ids,
            sessions: parts.sessions,
            scopes: Scopes::default(),
            users: Users::default(),
            shutdown: parts.shutdown,
            overloaded: AtomicBool::new(false),
            bouncer: std::sync::OnceLock::new(),
        })
    }

    /// Takes up a new configuration and policy. Sessions notice between two messages.
    pub fn reload(&self, generation: Arc<Generation>) {
        self.generation.store(generation);
    }

    pub fn set_bouncer(&self, bouncer: Arc<dyn Bouncer>) {
        if self.bouncer.set(bouncer).is_err() {
            self.complain("a second bouncer was offered and is ignored");
        }
    }

    pub(crate) fn bounce_refused(&self, message: &Message, reply: &Reply) {
        match self.bouncer.get() {
            Some(bouncer) => bouncer.bounce(message, reply),
            None => self.complain("no reports are made yet: a refused recipient of an accepted message gets none"),
        }
    }

    pub fn set_overloaded(&self, overloaded: bool) {
        self.overloaded.store(overloaded, Ordering::Relaxed);
    }

    pub(crate) fn overloaded(&self) -> bool {
        self.overloaded.load(Ordering::Relaxed)
    }

    /// The reply when the spool cannot take a message. Never a 5xx: the client must keep it and come again.
    pub(crate) fn spool_failed(&self, error: &SpoolError) -> Reply {
        self.log.panic(Level::Error, Subsystem::Generic, &format!("reception: {error}"));
        match error {
            SpoolError::Full => Reply::new(452, (4, 3, 1), "Insufficient system storage"),
            _ => Reply::new(451, (4, 3, 0), "transaction failed"),
        }
    }

    pub(crate) fn complain(&self, text: &str) {
        self.log.panic(Level::Error, Subsystem::Generic, text);
    }
}
