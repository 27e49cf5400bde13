//! Delivery as a whole: real sockets on loopback, a real spool and queue, scripted peers, a name server for tests.

mod batches;
mod failures;
mod hooks;
mod peer;
mod reports;
mod routing;
mod schedule;
mod sessions;
mod shaping;

use crate::{Delivery, DeliveryHandle, DeliveryServices, Inject, InjectError, Injecting, Policies};
use arc_swap::ArcSwap;
use parking_lot::Mutex;
use peer::Peer;
use ph_config::Config;
use ph_dns::testing::Authority;
use ph_eventlog::{Clock, EcLogger, EventLog, LogSettings, Target};
use ph_message::{Content, Envelope, Id, IdSource, Mailbox, SpoolKey, Time};
use ph_queue::Queue;
use ph_spool::{Spool, SpoolOptions};
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;

/// Everything that delivery needs, in a folder of its own.
pub struct World {
    pub config: Arc<ArcSwap<Config>>,
    pub clock: Clock,
    pub queue: Queue,
    pub spool: Spool,
    pub log: EventLog,
    pub ids: Arc<IdSource>,
    pub dns: Authority,
    pub injected: Arc<Reports>,
    pub folder: TempDir,
    pub policy: Option<Arc<dyn Policies>>,
    pub handle: Option<DeliveryHandle>,
}

/// Where the reports go.
#[derive(Default)]
pub struct Reports {
    pub taken: Mutex<Vec<(Envelope, Content)>>,
    /// Refuse so many times first.
    pub refuse: Mutex<u32>,
    /// Panic so many times first.
    pub panic: Mutex<u32>,
}

impl Inject for Reports {
    fn inject(&self, envelope: Envelope, content: Content) -> Injecting {
        let panics = std::mem::replace(&mut *self.panic.lock(), 0);
        if panics > 0 {
            *self.panic.lock() = panics - 1;
            std::panic::resume_unwind(Box::new("a fault in what makes reports"));
        }
        let mut refuse = self.refuse.lock();
        if *refuse > 0 {
            *refuse -= 1;
            return Box::pin(async { Err(InjectError::Later("no room".into())) });
        }
        self.taken.lock().push((envelope, content));
        Box::pin(async { Ok(Id(1)) })
    }
}

const HEAD: &str = "hostname = me.example ";

impl World {
    /// A world with that configuration and zone; delivery does not run yet.
    pub async fn new(config: &str, zone: &str, clock: Clock) -> World {
        let folder = tempfile::tempdir().unwrap();
        let config = Arc::new(ArcSwap::from_pointee(parse(config)));
        let mainlog = folder.path().join("mainlog").display().to_string();
        let paniclog = folder.path().join("paniclog").display().to_string();
        let logger = EcLogger {
            mainlog: Some(Target::new(mainlog)),
            paniclog: Some(Target::new(paniclog)),
            rejectlog: None,
            acctlog: None,
            heartbeat_s: 0,
            ..EcLogger::default()
        };
        let log =
            EventLog::open(LogSettings { ec_loggers: vec![logger], clock: clock.clone(), ..LogSettings::default() });
        let options =
            SpoolOptions { segment_bytes: 1 << 20, spares: 1, ..SpoolOptions::new(folder.path().join("spool")) };
        let (spool, _) = Spool::open(options, &mut |_| {}).unwrap();
        World {
            queue: Queue::new(config.clone(), clock.clone()),
            config,
            clock,
            spool,
            log,
            ids: Arc::new(IdSource::new(1, Id::NULL)),
            dns: Authority::start(zone).await.unwrap(),
            injected: Arc::default(),
            folder,
            policy: None,
            handle: None,
        }
    }

    /// With the system's clock, and delivery running.
    pub async fn running(config: &str, zone: &str) -> World {
        let mut world = World::new(config, zone, Clock::system()).await;
        world.start();
        world
    }

    pub fn start(&mut self) -> &DeliveryHandle {
        let handle = Delivery::start(DeliveryServices {
            config: self.config.clone(),
            policy: self.policy.clone(),
            queue: self.queue.clone(),
            spool: self.spool.clone(),
            log: self.log.clone(),
            clock: self.clock.clone(),
            ids: self.ids.clone(),
            lookup: Arc::new(self.dns.resolver()),
            inject: self.injected.clone(),
        });
        self.handle.insert(handle)
    }

    pub fn reconfigure(&self, config: &str) {
        self.config.store(Arc::new(parse(config)));
        self.queue.config_changed();
    }

    pub fn envelope(&self, sender: &str, recipient: &str) -> Envelope {
        let now = self.clock.now();
        let id = self.ids.next(now);
        Envelope {
            id,
            batch_id: id,
            created: now,
            sender: mailbox(sender),
            recipient: mailbox(recipient),
            ..Envelope::default()
        }
    }

    /// Stores and queues messages of one transaction with the same content.
    pub async fn push_all(&self, envelopes: Vec<Envelope>, content: &Content) -> Vec<Id> {
        let batch = envelopes[0].batch_id;
        let messages: Vec<(Arc<Envelope>, Content)> = envelopes
            .into_iter()
            .map(|envelope| (Arc::new(Envelope { batch_id: batch, size: content.size(), ..envelope }), content.clone()))
            .collect();
        let ids = messages.iter().map(|(envelope, _)| envelope.id).collect();
        let summaries: Vec<_> = messages.iter().map(|(envelope, _)| envelope.summary(&Default::default())).collect();
        let keys: Vec<SpoolKey> = self.spool.commit(messages).await.unwrap();
        self.queue.push_all(&keys.into_iter().zip(summaries).collect::<Vec<_>>());
        ids
    }

    pub async fn push(&self, sender: &str, recipient: &str) -> Id {
        self.push_with(self.envelope(sender, recipient), "Subject: x\r\n\r\nhello\r\n").await
    }

    pub async fn push_with(&self, envelope: Envelope, content: &str) -> Id {
        self.push_all(vec![envelope], &Content::parse(content.to_owned().into())).await[0]
    }

    /// The mainlog's lines so far.
    pub fn lines(&self) -> Vec<String> {
        self.log.flush();
        let text = std::fs::read_to_string(self.folder.path().join("mainlog")).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    pub fn lines_of(&self, kind: &str) -> Vec<Vec<String>> {
        let fields = |line: String| -> Vec<String> { line.splitn(14, '@').map(str::to_owned).collect() };
        self.lines().into_iter().map(fields).filter(|fields| fields.get(4).is_some_and(|k| k == kind)).collect()
    }

    /// Waits until the mainlog has so many lines of that kind.
    pub async fn wait_for(&self, kind: &str, count: usize) -> Vec<Vec<String>> {
        until(&format!("{count} lines of {kind}"), || {
            let lines = self.lines_of(kind);
            (lines.len() >= count).then_some(lines)
        })
        .await
    }

    /// Waits until nothing is queued.
    pub async fn drained(&self) {
        until("an empty queue", || (self.queue.overview().total() == 0).then_some(())).await;
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("mainlog: {:#?}", self.lines());
            eprintln!("paniclog: {}", std::fs::read_to_string(self.folder.path().join("paniclog")).unwrap_or_default());
            eprintln!("queues: {:#?}", self.queue.queues(&ph_queue::Scope::all()));
        }
    }
}

/// Looks again and again: files and other threads have no channel to tell when they are done.
pub async fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let give_up = std::time::Instant::now() + Duration::from_secs(20);
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(std::time::Instant::now() < give_up, "waited in vain for {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

pub fn mailbox(text: &str) -> Mailbox {
    match text.rsplit_once('@') {
        Some((local, domain)) => Mailbox { local: local.into(), domain: domain.into() },
        None => Mailbox::default(),
    }
}

fn parse(text: &str) -> Config {
    match Config::parse("test", &format!("{HEAD}{text}")) {
        Ok(loaded) => loaded.config,
        Err(report) => panic!("{report}"),
    }
}

/// A time that fake clocks start at.
pub const START: Time = Time(1_800_000_000_000_000);

/// A zone in which `d.example` has one MX at the peer's address.
pub fn zone_of(peer: &Peer) -> String {
    format!("d.example MX 10 mx.d.example\nmx.d.example A {}\n", peer.address.ip())
}

/// A running world in which `d.example` is served by that peer.
pub async fn with_peer(peer: &Peer, config: &str) -> World {
    World::running(&format!("remote_smtp_port = {} {config}", peer.address.port()), &zone_of(peer)).await
}
