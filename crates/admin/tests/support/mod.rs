//! A server of plain values behind the console's traits.

#![allow(dead_code)] // each test binary uses its part

use ph_admin::*;
use ph_config::{Config, ConfigEditor, Pending};
use ph_eventlog::{Clock, EcLogger, EventLog, LogSettings, Target};
use ph_message::{DeliveryState, Envelope, Id, Mailbox, Time};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;

pub const START: Time = Time::from_secs(1_800_000_000);

pub fn id(number: u64) -> Id {
    Id(0xD7E1_6B94_1BED_0000 | number)
}

/// A queue of messages that are told apart by domain, binding and state.
#[derive(Default)]
pub struct FakeQueues {
    pub messages: Mutex<Vec<(MessageRow, String)>>,
    pub failures: Mutex<Vec<(Id, Failure)>>,
    pub suspended: Mutex<Vec<Suspension>>,
}

impl FakeQueues {
    pub fn add(&self, number: u64, binding: &str, domain: &str, active: bool, recipient: &str) {
        let row = MessageRow {
            id: id(number),
            binding: binding.into(),
            domain: domain.into(),
            active,
            created: START,
            sender: "info@example.org".into(),
            recipient: recipient.into(),
        };
        self.messages.lock().unwrap().push((row, format!("campaign-{}", number % 2)));
    }

    fn chosen(&self, selection: &Selection) -> Vec<MessageRow> {
        let fits = |(row, campaign): &&(MessageRow, String)| {
            selection.binding.as_ref().is_none_or(|binding| *binding == row.binding)
                && selection.domain.as_ref().is_none_or(|domain| *domain == row.domain)
                && selection.meta.as_ref().is_none_or(|(key, value)| key == "campaign" && value == campaign)
        };
        self.messages.lock().unwrap().iter().filter(fits).map(|(row, _)| row.clone()).collect()
    }

    fn remove(&self, ids: &[Id]) {
        self.messages.lock().unwrap().retain(|(row, _)| !ids.contains(&row.id));
    }
}

impl Queues for FakeQueues {
    fn rows(&self, selection: &Selection) -> Vec<QueueRow> {
        let mut rows: BTreeMap<(String, String), QueueRow> = BTreeMap::new();
        for message in self.chosen(&Selection { meta: None, header: None, ..selection.clone() }) {
            let key = (message.domain.clone(), message.binding.clone());
            let row = rows.entry(key).or_insert_with(|| QueueRow {
                group: "default".into(),
                binding: message.binding.clone(),
                domain: message.domain.clone(),
                ..QueueRow::default()
            });
            if message.active { row.active += 1 } else { row.delayed += 1 }
        }
        rows.into_values().collect()
    }

    fn messages<'a>(
        &'a self,
        selection: &'a Selection,
        active: Option<bool>,
        limit: usize,
        offset: usize,
    ) -> Later<'a, Vec<MessageRow>> {
        let mut rows = self.chosen(selection);
        rows.retain(|row| active.is_none_or(|active| active == row.active));
        Box::pin(async move { rows.into_iter().skip(offset).take(limit).collect() })
    }

    fn matching<'a>(&'a self, selection: &'a Selection, limit: usize) -> Later<'a, (Vec<MessageRow>, u64)> {
        let mut rows = self.chosen(selection);
        let all = rows.len() as u64;
        rows.truncate(limit);
        Box::pin(async move { (rows, all) })
    }

    fn details(&self, id: Id, _: bool) -> Later<'_, Result<MessageDetails, MessageError>> {
        let found = self.chosen(&Selection::default()).into_iter().find(|row| row.id == id);
        Box::pin(async move {
            let row = found.ok_or(MessageError::NotFound(id))?;
            let envelope = Envelope {
                id,
                sender: Mailbox { local: "info".into(), domain: "example.org".into() },
                recipient: Mailbox { local: row.recipient.as_str().into(), domain: row.domain.as_str().into() },
                created: row.created,
                peer: Some("10.0.0.103:999".parse().unwrap()),
                size: 11_317,
                ..Envelope::default()
            };
            let state = DeliveryState {
                retries: 5,
                attempts: 6,
                next_attempt: START.plus_secs(60),
                last_reply: "451 No valid hosts\x1b[2J".into(),
            };
            Ok(MessageDetails {
                envelope: Arc::new(envelope),
                state,
                head: b"Subject: x\r\n\r\n".to_vec(),
                body: vec![],
            })
        })
    }

    fn retry(&self, id: Id) -> Result<(), MessageError> {
        let mut messages = self.messages.lock().unwrap();
        let found = messages.iter_mut().find(|(row, _)| row.id == id).ok_or(MessageError::NotFound(id))?;
        found.0.active = true;
        Ok(())
    }

    fn fail_one<'a>(&'a self, id: Id, failure: &'a Failure) -> Later<'a, Result<(), MessageError>> {
        let there = self.chosen(&Selection::default()).iter().any(|row| row.id == id);
        Box::pin(async move {
            if !there {
                return Err(MessageError::NotFound(id));
            }
            self.failures.lock().unwrap().push((id, failure.clone()));
            self.remove(&[id]);
            Ok(())
        })
    }

    fn fail<'a>(&'a self, selection: &'a Selection, failure: &'a Failure) -> Later<'a, Done> {
        let ids: Vec<Id> = self.chosen(selection).iter().map(|row| row.id).collect();
        Box::pin(async move {
            self.failures.lock().unwrap().extend(ids.iter().map(|id| (*id, failure.clone())));
            self.remove(&ids);
            Done::from(ids.len() as u64)
        })
    }

    fn flush<'a>(&'a self, selection: &'a Selection) -> Later<'a, Done> {
        let delayed: Vec<Id> = self.chosen(selection).iter().filter(|row| !row.active).map(|row| row.id).collect();
        for id in &delayed {
            self.retry(*id).unwrap();
        }
        Box::pin(async move { Done::from(delayed.len() as u64) })
    }

    fn delay<'a>(&'a self, selection: &'a Selection, _: Duration) -> Later<'a, Done> {
        let active = self.chosen(selection).iter().filter(|row| row.active).count() as u64;
        Box::pin(async move { Done::from(active) })
    }

    fn reroute<'a>(&'a self, selection: &'a Selection, domain: &'a str) -> Later<'a, Done> {
        let ids: Vec<Id> = self.chosen(selection).iter().map(|row| row.id).collect();
        for (row, _) in self.messages.lock().unwrap().iter_mut().filter(|(row, _)| ids.contains(&row.id)) {
            row.domain = domain.to_owned();
        }
        Box::pin(async move { Done::from(ids.len() as u64) })
    }

    fn rebind<'a>(&'a self, selection: &'a Selection) -> Later<'a, Done> {
        let count = self.chosen(selection).len() as u64;
        Box::pin(async move { Done::from(count) })
    }

    fn find<'a>(&'a self, find: &'a Find) -> Later<'a, Vec<MessageRow>> {
        let mut rows = self.chosen(&Selection { domain: find.domain.clone(), ..Selection::default() });
        rows.retain(|row| find.recipient.as_ref().is_none_or(|recipient| *recipient == row.recipient));
        rows.truncate(find.limit);
        Box::pin(async move { rows })
    }

    fn explain(&self, id: Id) -> Result<Vec<(String, String)>, MessageError> {
        Err(MessageError::InDelivery(id))
    }

    fn suspend<'a>(&'a self, suspension: &'a Suspension) -> Later<'a, Result<(), String>> {
        self.suspended.lock().unwrap().push(suspension.clone());
        Box::pin(async { Ok(()) })
    }

    fn resume<'a>(&'a self, selection: &'a Selection) -> Later<'a, Result<bool, String>> {
        let mut suspended = self.suspended.lock().unwrap();
        let before = suspended.len();
        suspended.retain(|one| one.selection != *selection);
        let was_there = suspended.len() < before;
        Box::pin(async move { Ok(was_there) })
    }

    fn suspensions(&self) -> Vec<Suspension> {
        self.suspended.lock().unwrap().clone()
    }
}

/// Puts every configuration into force, but for one that has the hostname `refuse.example`.
#[derive(Default)]
pub struct FakeApply {
    pub applied: Mutex<Vec<u64>>,
}

impl Apply for FakeApply {
    fn apply<'a>(
        &'a self,
        config: &'a Arc<Config>,
        pending: Option<&'a Pending>,
    ) -> Later<'a, Result<Vec<String>, String>> {
        Box::pin(async move {
            assert!(pending.is_some(), "nothing ever needs to be put back here");
            if config.global().get(&ph_config::options::HOSTNAME).as_ref() == "refuse.example" {
                return Err("the sockets cannot be opened".to_owned());
            }
            self.applied.lock().unwrap().push(config.generation());
            Ok(Vec::new())
        })
    }
}

/// Bindings out-1 and out-2 in group outs, and many domains.
pub fn configuration(apply: Arc<FakeApply>) -> Configuration {
    let mut text = "Binding_Group outs { Binding out-1 {} Binding out-2 {} }\n".to_owned();
    for number in 0..2000 {
        text.push_str(&format!("Domain d{number}.example {{ Max_Outbound_Connections = 5 }}\n"));
    }
    let loaded = Config::parse("test.conf", &text).unwrap_or_else(|report| panic!("{report}"));
    Configuration::new(ConfigEditor::new(Arc::new(loaded.config), None), apply)
}

#[derive(Default)]
pub struct FakeServer {
    pub stopped: AtomicBool,
    pub ready: AtomicBool,
    pub renewed: AtomicBool,
    pub counters: Mutex<BTreeMap<String, i64>>,
}

impl Server for FakeServer {
    fn version(&self) -> &str {
        "0.1.0"
    }

    fn build_date(&self) -> &str {
        "2026-11-25"
    }

    fn live(&self) -> Result<(), String> {
        Ok(())
    }

    fn ready(&self) -> Result<(), String> {
        if self.ready.load(SeqCst) { Ok(()) } else { Err("the spool is being read".to_owned()) }
    }

    fn shutdown(&self) {
        self.stopped.store(true, SeqCst);
    }

    fn inbound(&self) -> Vec<InboundSession> {
        let remote = |text: &str| Some(text.parse().unwrap());
        let session = |fd, service, remote| InboundSession {
            fd,
            service,
            remote,
            state: "awaiting mailfrom".into(),
            since: Duration::from_millis(1500),
        };
        vec![
            session(10, "SMTP", remote("10.1.2.3:4711")),
            session(11, "SMTP", remote("10.1.9.9:4711")),
            session(12, "Control", None),
        ]
    }

    fn outbound(&self) -> Vec<OutboundSession> {
        vec![OutboundSession {
            fd: 20,
            host: "mx1.example.com".into(),
            remote: "192.0.2.1".parse().unwrap(),
            binding: "out-1".into(),
            domain: "example.com".into(),
            state: "reading confirmation".into(),
            since: Duration::from_millis(4615),
        }]
    }

    fn route<'a>(&'a self, domain: &'a str) -> Later<'a, Option<DomainRoute>> {
        let address = RouteAddress {
            address: "192.0.2.1".parse().unwrap(),
            down: false,
            current: true,
            connect_ms: 0.5,
            delivery_ms: 12.25,
            since_failure: Some(Duration::from_secs(54)),
        };
        let host = RouteHost {
            preference: 5,
            name: "mx1.example.com".into(),
            ttl_s: 1902,
            addresses: vec![address],
            also: vec![("example.net".into(), 7)],
        };
        let route = DomainRoute { ttl_s: 1902, hosts: vec![host], failures: 1 };
        Box::pin(async move { (domain == "example.com").then_some(route) })
    }

    fn refresh(&self, _: Option<&str>) {}

    fn dns_stats(&self) -> DnsStats {
        DnsStats {
            types: vec![DnsTypeStats { record_type: "MX", queries: 12, timeouts: 1 }],
            cache_hits: 3,
            cache_misses: 1,
            ..DnsStats::default()
        }
    }

    fn dns_cached(&self, name: &str, _: &str) -> Result<Option<Vec<String>>, String> {
        Ok((name == "example.com").then(|| vec!["example.com. 60 IN MX 5 mx1.example.com.".to_owned()]))
    }

    fn dns_submit(&self, _: &str, record_type: &str) -> Result<(), String> {
        if record_type == "MX" { Ok(()) } else { Err(format!("unknown type {record_type}")) }
    }

    fn pools(&self) -> Vec<Pool> {
        let pool = |name: &str| Pool { name: name.into(), concurrency: 4, average_ms: Some(0.25), ..Pool::default() };
        vec![pool("CPU"), pool("IO")]
    }

    fn caches(&self) -> Vec<Cache> {
        vec![Cache {
            name: "core:bounce_classify".into(),
            capacity: 16384,
            entries: 10,
            hits: 30,
            misses: 10,
            stores: 10,
            evicted: 2,
            ..Cache::default()
        }]
    }

    fn memory(&self) -> Vec<(String, u64)> {
        vec![("lua".into(), 1024)]
    }

    fn modules(&self) -> Vec<Module> {
        vec![Module {
            scope: "ec_logger".into(),
            instance: Some("main".into()),
            enabled: true,
            api: "Logger".into(),
            name: "ec_logger".into(),
            description: "logs".into(),
        }]
    }

    fn hooks(&self) -> Vec<(String, String)> {
        vec![("validate_connect".into(), "mod:validate_connect(ac, vctx)".into())]
    }

    fn counters(&self) -> Vec<PolicyCounter> {
        let counters = self.counters.lock().unwrap();
        counters
            .iter()
            .map(|(path, value)| PolicyCounter {
                path: path.clone(),
                value: *value,
                reset_at: None,
                semantics: "relaxed".into(),
            })
            .collect()
    }

    fn change_counter(&self, path: &str, change: CounterChange) -> Result<i64, String> {
        let mut counters = self.counters.lock().unwrap();
        match change {
            CounterChange::Create | CounterChange::Reset => {
                counters.insert(path.into(), 0);
            }
            CounterChange::Add(delta) => *counters.get_mut(path).ok_or("no such counter")? += delta,
            CounterChange::Remove => {
                counters.remove(path).ok_or("no such counter")?;
            }
        }
        Ok(counters.get(path).copied().unwrap_or(0))
    }

    fn resident_messages(&self) -> u64 {
        0
    }

    fn tls_contexts(&self) -> Vec<TlsContext> {
        vec![TlsContext { age_s: 7, certificate: "/etc/mx.pem".into(), works: true, ..TlsContext::default() }]
    }

    /// The first time all is well.
    fn renew_tls(&self) -> Vec<String> {
        match self.renewed.swap(true, SeqCst) {
            false => Vec::new(),
            true => vec!["/etc/x.key: Permission denied".into()],
        }
    }

    fn extensions(&self) -> Vec<Extension> {
        vec![Extension { name: "bounce_classifier_override reload".into(), help: "reads the rules anew".into() }]
    }

    fn run_extension<'a>(
        &'a self,
        name: &'a str,
        instance: Option<&'a str>,
        arguments: &'a [String],
    ) -> Later<'a, Result<String, String>> {
        Box::pin(async move { Ok(format!("{name} {instance:?} {arguments:?}")) })
    }
}

pub struct World {
    pub services: Arc<Services>,
    pub queues: Arc<FakeQueues>,
    pub server: Arc<FakeServer>,
    pub apply: Arc<FakeApply>,
    pub clock: Clock,
}

/// Services with logs in a folder.
pub fn world(folder: &Path) -> World {
    let clock = Clock::fake(START);
    let file = |name: &str| Some(Target::new(folder.join(name).to_str().unwrap()));
    let logger = EcLogger {
        name: "main".into(),
        mainlog: file("mainlog.ec"),
        rejectlog: file("rejectlog.ec"),
        paniclog: file("paniclog.ec"),
        acctlog: file("acctlog.ec"),
        ..EcLogger::default()
    };
    let log = EventLog::open(LogSettings { ec_loggers: vec![logger], clock: clock.clone(), ..LogSettings::default() });
    let apply = Arc::new(FakeApply::default());
    let (queues, server) = (Arc::new(FakeQueues::default()), Arc::new(FakeServer::default()));
    let services = Arc::new(Services {
        log,
        clock: clock.clone(),
        queues: queues.clone(),
        configuration: Arc::new(configuration(Arc::clone(&apply))),
        server: server.clone(),
    });
    World { services, queues, server, apply, clock }
}

impl World {
    /// A session on a unix socket with every right.
    pub fn session(&self) -> Session {
        let access = Access { listener: "/tmp/2025".into(), ..Access::default() };
        Session::new(self.services.clone(), access, Client::Local { user: "root".into() })
    }
}
