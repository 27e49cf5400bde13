//! The policy's view of the engine: each small trait of `ph_policy::Services`, filled from the rooms.
//!
//! A policy is loaded before reception exists (its hooks need the policy), so reception is reached through a cell that is
//! filled once, right after.

use super::{Core, policy_services};
use arc_swap::ArcSwap;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use ph_config::{BindingDecl, Config, options as opt};
use ph_delivery::DeliveryHandle;
use ph_eventlog::{Clock, EventLog, Level, Subsystem};
use ph_message::{Content, Envelope, Id, IdSource, Mailbox};
use ph_policy::{Hook, Inject, Log, LogLevel, Message, Options, Policy, Routes, Services, SessionCounts};
use ph_queue::{Queue, QueueRef};
use ph_reception::{Generation, InjectError, Maker, Reception, Sessions};
use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::{Arc, OnceLock, Weak};

/// The rooms that a policy sees.
pub struct Rooms<'a> {
    pub config: &'a Arc<ArcSwap<Config>>,
    pub log: &'a EventLog,
    pub clock: &'a Clock,
    pub ids: &'a Arc<IdSource>,
    pub sessions: &'a Arc<Sessions>,
    pub queue: &'a Queue,
    pub resolver: &'a ph_dns::Resolver,
    pub cell: &'a ReceptionCell,
}

impl Rooms<'_> {
    /// What one configuration generation's policy gets.
    pub fn services(&self) -> Services {
        let (config, queue, cell) = (self.config, self.queue, self.cell);
        Services {
            clock: self.clock.clone(),
            log: Arc::new(Paniclog(self.log.clone())),
            ids: self.ids.clone(),
            sessions: Arc::new(Counts(self.sessions.clone())),
            routes: Arc::new(Bindings { config: config.clone(), queue: queue.clone() }),
            inject: Arc::new(Injector(cell.clone())),
            options: Arc::new(Values(config.clone())),
            dns: Arc::new(policy_services::Names(self.resolver.clone())),
            domains: Arc::new(policy_services::QueueDomains { queue: queue.clone(), cell: cell.clone() }),
            configuration: Arc::new(policy_services::Options { config: config.clone(), cell: cell.clone() }),
        }
    }
}

/// Reception and the whole server, once they exist. Weak: reception owns the policy that holds this.
#[derive(Clone, Default)]
pub struct ReceptionCell {
    reception: Arc<OnceLock<Weak<Reception>>>,
    pub(super) core: Arc<OnceLock<Weak<Core>>>,
}

impl ReceptionCell {
    pub fn fill(&self, reception: &Arc<Reception>) {
        let _ = self.reception.set(Arc::downgrade(reception));
    }

    pub(super) fn fill_core(&self, core: &Arc<Core>) {
        let _ = self.core.set(Arc::downgrade(core));
    }

    fn get(&self) -> Option<Arc<Reception>> {
        self.reception.get()?.upgrade()
    }
}

struct Paniclog(EventLog);

/// Lines of policies begin with the module's name, as Momentum writes them.
fn scriptlet_line<'a>(subsystem: &str, text: &'a str) -> Cow<'a, str> {
    let prefix = "scriptlet: ";
    if subsystem != "scriptlet" || text.starts_with(prefix) { text.into() } else { format!("{prefix}{text}").into() }
}

impl Log for Paniclog {
    fn panic(&self, level: LogLevel, subsystem: &str, text: &str) {
        let text = scriptlet_line(subsystem, text);
        let subsystem = subsystem.parse().unwrap_or(Subsystem::Mod);
        self.0.panic(eventlog_level(level), subsystem, &text);
    }

    fn print(&self, text: &str) {
        self.0.print(&scriptlet_line("scriptlet", text));
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
    config: Arc<ArcSwap<Config>>,
    queue: Queue,
}

impl Routes for Bindings {
    fn binding(&self, name: &str) -> Option<String> {
        let config = self.config.load();
        config.bindings().iter().find(|binding| *binding.name == *name).map(|binding| binding.group.to_string())
    }

    /// Random by weight among the bindings that are not suspended; among all when all are.
    fn choose(&self, group: &str) -> Option<String> {
        let config = self.config.load();
        let members: Vec<_> = config.bindings().iter().filter(|binding| *binding.group == *group).collect();
        let is_open =
            |binding: &&BindingDecl| self.queue.suspension(&QueueRef::new(&binding.group, &binding.name, "")).is_none();
        let open: Vec<_> = members.iter().copied().filter(is_open).collect();
        let candidates = if open.is_empty() { members } else { open };
        let weight = |name: &str| config.sending(group, name, "").get(&opt::BINDING_WEIGHT).max(0).unsigned_abs();
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

    fn slot_of(&self, binding: &str) -> Option<i64> {
        let config = self.config.load();
        config.bindings().iter().position(|known| *known.name == *binding).and_then(|slot| i64::try_from(slot).ok())
    }

    fn binding_in_slot(&self, slot: i64) -> Option<(String, String)> {
        let config = self.config.load();
        let bindings = config.bindings();
        let binding = bindings.get(usize::try_from(slot).ok()?)?;
        Some((binding.name.to_string(), binding.group.to_string()))
    }

    fn group_size(&self, group: &str) -> usize {
        self.config.load().bindings().iter().filter(|binding| *binding.group == *group).count()
    }

    fn gateway(&self, binding: &str, domain: &str) -> Option<String> {
        let group = self.binding(binding)?;
        self.config.load().sending(&group, binding, domain).get(&opt::GATEWAY).map(|gateway| gateway.to_string())
    }

    fn delivery_method(&self, binding: &str, domain: &str) -> String {
        let group = self.binding(binding).unwrap_or_else(|| "default".to_owned());
        self.config.load().sending(&group, binding, domain).get(&opt::DELIVERY_METHOD).to_string()
    }
}

/// Zero for an empty range.
fn random_below(end: u64) -> u64 {
    getrandom::u64().unwrap_or(0).checked_rem(end).unwrap_or(0)
}

struct Injector(ReceptionCell);

impl Inject for Injector {
    /// On a task of its own: a hook that is given up while its mail is being stored leaves nothing half done.
    fn inject(
        &self,
        envelope: Envelope,
        content: Content,
        recipients: Vec<Mailbox>,
    ) -> BoxFuture<'static, Result<Vec<Id>, String>> {
        let reception = self.0.get();
        async move {
            let reception = reception.ok_or("the server is starting")?;
            let task =
                tokio::spawn(async move { reception.inject(Maker::Policy, envelope, content, &recipients).await });
            let ids = task.await.map_err(|error| error.to_string())?.map_err(|error| error.to_string())?;
            if ids.is_empty() { Err("discarded by policy".to_owned()) } else { Ok(ids) }
        }
        .boxed()
    }
}

struct Values(Arc<ArcSwap<Config>>);

impl Options for Values {
    fn hostname(&self) -> String {
        self.0.load().global().get(&opt::HOSTNAME).to_string()
    }
}

/// The policy of the present generation, for delivery.
pub struct PresentPolicy(pub Arc<Reception>);

struct Held(Arc<Generation>);

impl ph_delivery::HasPolicy for Held {
    fn policy(&self) -> &Policy {
        &self.0.policy
    }
}

impl ph_delivery::Policies for PresentPolicy {
    fn with_any(&self, hooks: &[Hook]) -> Option<Arc<dyn ph_delivery::HasPolicy>> {
        let present = self.0.generation.load();
        let has_one = hooks.iter().any(|hook| present.policy.has(*hook));
        has_one.then(|| Arc::new(Held(present.clone())) as Arc<dyn ph_delivery::HasPolicy>)
    }
}

/// Reports of delivery come in as internal mail.
pub struct Reports(pub Arc<Reception>);

impl ph_delivery::Inject for Reports {
    fn inject(&self, envelope: Envelope, content: Content) -> ph_delivery::Injecting {
        let reception = self.0.clone();
        Box::pin(async move {
            let recipient = envelope.recipient.clone();
            match reception.inject(Maker::Engine, envelope, content, &[recipient]).await {
                Ok(ids) => ids
                    .first()
                    .copied()
                    .ok_or_else(|| ph_delivery::InjectError::Refused("discarded by policy".to_owned())),
                Err(error @ (InjectError::Spool(_) | InjectError::ShuttingDown)) => {
                    Err(ph_delivery::InjectError::Later(error.to_string()))
                }
                Err(error) => Err(ph_delivery::InjectError::Refused(error.to_string())),
            }
        })
    }
}

/// Reports about recipients that a policy refused after the client had its `250`.
pub struct Refusals {
    pub delivery: DeliveryHandle,
    pub runtime: tokio::runtime::Handle,
    pub log: EventLog,
}

impl ph_reception::Bouncer for Refusals {
    fn bounce(&self, message: &Message, reply: &ph_smtp::Reply) {
        let state = message.state.lock();
        let Some(content) = state.content.clone() else { return };
        let envelope = state.envelope.clone();
        let (delivery, log) = (self.delivery.clone(), self.log.clone());
        let reply = format!("{} {}", reply.code, reply.text);
        self.runtime.spawn(async move {
            if let Err(reason) = delivery.bounce_refused(&envelope, &content, &reply).await {
                log.panic(Level::Error, Subsystem::Generic, &format!("no report about {}: {reason}", envelope.id));
            }
        });
    }
}
