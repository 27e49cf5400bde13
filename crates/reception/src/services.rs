//! What reception works with: one `Reception` a process, one `Generation` a configuration.

use crate::reverse::ReverseNames;
use crate::scope::Scopes;
use crate::sessions::Sessions;
use crate::users::Users;
use arc_swap::ArcSwap;
use parking_lot::Mutex;
use ph_config::{BucketId, Config, PcreList, options as opt};
use ph_eventlog::{Clock, EventLog, Level, Subsystem};
use ph_message::{Context, Envelope, IdSource};
use ph_policy::{Message, Policy};
use ph_queue::{Bucket, Queue, Rate};
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
    has_default_binding: bool,
    routes: Mutex<HashMap<RouteKey, Arc<DomainRoute>>>,
}

type RouteKey = (compact_str::CompactString, compact_str::CompactString, compact_str::CompactString);

/// What the sending options say about a domain at the time of reception.
struct DomainRoute {
    gateway: Option<Arc<str>>,
    blackhole: Arc<str>,
    /// Context keys that are not stored with a message.
    exclude_conn: Arc<PcreList>,
    exclude_mess: Arc<PcreList>,
}

impl Generation {
    pub fn new(config: Arc<Config>, policy: Arc<Policy>) -> Arc<Generation> {
        let hostname = config.global().get(&opt::HOSTNAME);
        let has_default_binding = &*config.global().get(&opt::DEFAULT_BINDING) != "none";
        Arc::new(Generation { config, policy, hostname, has_default_binding, routes: Mutex::default() })
    }

    /// The `gateway` under which mail for `domain` is queued.
    pub(crate) fn gateway(&self, group: &str, binding: &str, domain: &str) -> Option<Arc<str>> {
        self.route(group, binding, domain).gateway.clone()
    }

    pub(crate) fn blackhole(&self, domain: &str) -> Arc<str> {
        self.route("default", "default", domain).blackhole.clone()
    }

    /// Whether mail that no policy bound may go to the default binding.
    pub(crate) fn has_default_binding(&self) -> bool {
        self.has_default_binding
    }

    /// Takes out what `exclude_vctx_conn` and `exclude_vctx_mess` keep from the spool; never the engine's own `#` keys.
    pub(crate) fn exclude(&self, envelope: &mut Envelope) {
        let route = self.route(&envelope.binding_group, &envelope.binding, envelope.queue_domain());
        let filter = |context: &mut Arc<Context>, excluded: &PcreList| {
            let drop = |key: &str| !key.starts_with('#') && excluded.is_match(key.as_bytes());
            if !excluded.is_empty() && context.iter().any(|(key, _)| drop(key)) {
                Arc::make_mut(context).retain(|key| !drop(key));
            }
        };
        filter(&mut envelope.conn_context, &route.exclude_conn);
        filter(&mut envelope.mess_context, &route.exclude_mess);
    }

    fn route(&self, group: &str, binding: &str, domain: &str) -> Arc<DomainRoute> {
        let key = (group.into(), binding.into(), domain.into());
        if let Some(route) = self.routes.lock().get(&key) {
            return route.clone();
        }
        let scope = self.config.sending(group, binding, domain);
        let route = Arc::new(DomainRoute {
            gateway: scope.get(&opt::GATEWAY),
            blackhole: scope.get(&opt::BLACKHOLE),
            exclude_conn: scope.get(&opt::EXCLUDE_VCTX_CONN),
            exclude_mess: scope.get(&opt::EXCLUDE_VCTX_MESS),
        });
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
    pub(crate) names: ReverseNames,
    /// Cancelled when the server stops: sessions say goodbye, `inject` refuses.
    pub shutdown: CancellationToken,
    /// Memory is above `memory_hwm`: new mail is put off.
    overloaded: AtomicBool,
    bouncer: std::sync::OnceLock<Arc<dyn Bouncer>>,
    /// The token buckets of `inbound_throttle_messages`, by the scope that owns them.
    throttles: Mutex<HashMap<BucketId, Bucket>>,
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
            names: ReverseNames::default(),
            shutdown: parts.shutdown,
            overloaded: AtomicBool::new(false),
            bouncer: std::sync::OnceLock::new(),
            throttles: Mutex::default(),
        })
    }

    /// Takes up a new configuration and policy. Sessions notice between two messages.
    pub fn reload(&self, generation: Arc<Generation>) {
        self.generation.store(generation);
    }

    /// Names of clients are looked up from here on.
    pub fn set_resolver(&self, resolver: ph_dns::Resolver) {
        self.names.set_resolver(resolver);
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

    /// Takes a token of `inbound_throttle_messages`, waiting for it: mail is delayed, not refused.
    pub(crate) async fn throttle(&self, rate: Rate, owner: BucketId) {
        loop {
            let now = self.clock.now();
            let ready = {
                let mut throttles = self.throttles.lock();
                let bucket = throttles.entry(owner).or_insert_with(|| Bucket::new(rate, now));
                bucket.configure(rate, now);
                if bucket.take(1, now) == 1 {
                    return;
                }
                bucket.ready_at(1, now)
            };
            tokio::select! {
                () = self.clock.sleep_until(ready) => {}
                () = self.shutdown.cancelled() => return,
            }
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
