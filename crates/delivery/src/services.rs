//! What delivery works with: handles of the other rooms, and the one seam it needs filled from above.

use crate::connections::Connections;
use crate::lookup::Lookup;
use crate::routes::Routes;
use crate::settings::SettingsCache;
use arc_swap::ArcSwap;
use ph_config::Config;
use ph_eventlog::{Clock, EventLog, Level, Subsystem};
use ph_message::{Content, Envelope, Id, IdSource};
use ph_policy::{Hook, Policy};
use ph_queue::Queue;
use ph_spool::Spool;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use tokio::sync::watch;

/// The handles that delivery is made of.
pub struct DeliveryServices {
    pub config: Arc<ArcSwap<Config>>,
    /// The scripts. `None`: there are none.
    pub policy: Option<Arc<dyn Policies>>,
    pub queue: Queue,
    pub spool: Spool,
    pub log: EventLog,
    pub clock: Clock,
    pub ids: Arc<IdSource>,
    pub lookup: Arc<dyn Lookup>,
    pub inject: Arc<dyn Inject>,
}

/// The policy of the present generation, whoever owns it.
pub trait Policies: Send + Sync + 'static {
    /// The policy, if it has one of these hooks: asked for every message, so the usual answer (`None`) must be cheap.
    fn with_any(&self, hooks: &[Hook]) -> Option<Arc<dyn HasPolicy>>;
}

/// What keeps a policy alive while its hooks run.
pub trait HasPolicy: Send + Sync + 'static {
    fn policy(&self) -> &Policy;
}

impl HasPolicy for Policy {
    fn policy(&self) -> &Policy {
        self
    }
}

impl<T: HasPolicy> Policies for ArcSwap<T> {
    fn with_any(&self, hooks: &[Hook]) -> Option<Arc<dyn HasPolicy>> {
        let present = self.load();
        let has_one = hooks.iter().any(|hook| present.policy().has(*hook));
        has_one.then(|| Arc::clone(&present) as Arc<dyn HasPolicy>)
    }
}

/// Takes in mail that delivery makes: reports. Reception implements it.
pub trait Inject: Send + Sync + 'static {
    /// Takes the message through the path of internal mail; returns once it is durable.
    fn inject(&self, envelope: Envelope, content: Content) -> Injecting;
}

/// The future of an injection.
pub type Injecting = Pin<Box<dyn Future<Output = Result<Id, InjectError>> + Send>>;

/// Why a report was not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InjectError {
    /// It never will be: a policy refused or dropped it.
    #[error("{0}")]
    Refused(String),
    /// Not now: no room, or the server stops. The message that the report is about is kept until it can be made.
    #[error("{0}")]
    Later(String),
}

/// Everything that the tasks of delivery share.
pub(crate) struct Shared {
    pub queue: Queue,
    pub spool: Spool,
    pub log: EventLog,
    pub clock: Clock,
    pub ids: Arc<IdSource>,
    pub inject: Arc<dyn Inject>,
    pub policy: Option<Arc<dyn Policies>>,
    pub settings: SettingsCache,
    pub routes: Routes,
    pub connections: Connections,
    /// True once delivery is to stop.
    pub stop: watch::Sender<bool>,
}

impl Shared {
    pub fn new(services: DeliveryServices) -> Arc<Shared> {
        Arc::new(Shared {
            settings: SettingsCache::new(services.config.clone()),
            routes: Routes::new(services.lookup, services.config, services.clock.clone()),
            queue: services.queue,
            spool: services.spool,
            log: services.log,
            connections: Connections::new(services.clock.clone()),
            clock: services.clock,
            ids: services.ids,
            inject: services.inject,
            policy: services.policy,
            stop: watch::Sender::new(false),
        })
    }

    pub fn is_stopping(&self) -> bool {
        *self.stop.borrow()
    }

    pub fn complain(&self, subsystem: Subsystem, text: &str) {
        self.log.panic(Level::Error, subsystem, text);
    }
}
