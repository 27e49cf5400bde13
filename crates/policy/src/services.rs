//! What the host needs from the rest of the program: handles, and small traits where the owner must stay unknown here.
//!
//! The binary fills `Services`; tests fill it with `Services::for_tests`. No trait here waits: what may wait is a function that
//! returns a future, and runs outside the state's lock.

use futures_util::future::BoxFuture;
use ph_eventlog::Clock;
use ph_message::{Content, Envelope, Id, IdSource, Mailbox, Time};
use std::net::IpAddr;
use std::sync::Arc;

/// Everything a policy can reach.
#[derive(Clone)]
pub struct Services {
    pub clock: Clock,
    pub log: Arc<dyn Log>,
    pub ids: Arc<IdSource>,
    pub sessions: Arc<dyn SessionCounts>,
    pub routes: Arc<dyn Routes>,
    pub inject: Arc<dyn Inject>,
    pub options: Arc<dyn Options>,
    pub dns: Arc<dyn Dns>,
    pub domains: Arc<dyn Domains>,
    pub configuration: Arc<dyn Configuration>,
}

/// Severity of a line in paniclog, and the numbers of `msys.core.LOG_*`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum LogLevel {
    Debug = 0,
    Info,
    Notice,
    Warning,
    Error,
    Critical,
}

impl LogLevel {
    pub fn from_number(number: i64) -> Option<LogLevel> {
        use LogLevel::*;
        [Debug, Info, Notice, Warning, Error, Critical].into_iter().find(|level| *level as i64 == number)
    }
}

/// paniclog: what policies print and what goes wrong in them.
pub trait Log: Send + Sync {
    fn panic(&self, level: LogLevel, subsystem: &str, text: &str);
    /// What a policy prints: written whatever the levels are.
    fn print(&self, text: &str) {
        self.panic(LogLevel::Notice, "scriptlet", text);
    }
    /// Whether lines of this level are written at all: `msys.log` spares the work otherwise.
    fn is_on(&self, level: LogLevel) -> bool {
        level >= LogLevel::Notice
    }
}

/// The sessions that are open now.
pub trait SessionCounts: Send + Sync {
    /// How many from the network `address/prefix` (prefix in bits) to a service (`SMTP`, `Control` ..., any case).
    fn count(&self, address: IpAddr, prefix: u8, service: &str) -> u64;
}

/// Bindings, groups, routing.
pub trait Routes: Send + Sync {
    /// The group of a binding (empty where it has none), or `None` when there is no such binding.
    fn binding(&self, name: &str) -> Option<String>;
    /// One binding of a group, chosen by weight and state, or `None` when there is no such group.
    fn choose(&self, group: &str) -> Option<String>;
    /// The slot of a binding: a number that stays while the configuration does.
    fn slot_of(&self, _binding: &str) -> Option<i64> {
        None
    }
    /// Name and group of the binding in a slot.
    fn binding_in_slot(&self, _slot: i64) -> Option<(String, String)> {
        None
    }
    /// How many bindings a group has.
    fn group_size(&self, _group: &str) -> usize {
        0
    }
    /// The domain of `gateway` for a recipient's domain, where one is configured.
    fn gateway(&self, binding: &str, domain: &str) -> Option<String>;
    /// `delivery_method` for a binding and domain, lower case.
    fn delivery_method(&self, binding: &str, domain: &str) -> String;
}

/// Beyond this generation a message that a hook made may make no further ones: a forgotten guard must not fill the disk.
pub const GENERATION_MAX: u8 = 20;

/// New mail made by a policy.
pub trait Inject: Send + Sync {
    /// Takes one message for each of `recipients` through the path of internal mail; returns once all of them are durable, or none
    /// was taken. `envelope` gives sender, contexts, binding and generation; ids, recipients and times are made.
    fn inject(
        &self,
        envelope: Envelope,
        content: Content,
        recipients: Vec<Mailbox>,
    ) -> BoxFuture<'static, Result<Vec<Id>, String>>;
}

/// Options that functions read at run time.
pub trait Options: Send + Sync {
    /// The option `hostname`.
    fn hostname(&self) -> String;
    /// `lua_header_fold`: the column beyond which a header that a policy sets is folded.
    fn header_fold(&self) -> usize {
        78
    }
}

/// What a policy asks the DNS.
#[derive(Clone, Debug)]
pub struct DnsQuestion {
    pub name: String,
    pub kind: DnsType,
    /// `ip`, `ip:port`, `[v6]:port` or a name; `None`: the configured servers and their cache.
    pub server: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DnsType {
    A,
    Aaaa,
    Txt,
    Mx,
    Ptr,
    Ns,
}

impl DnsType {
    pub fn named(name: &str) -> Option<DnsType> {
        use DnsType::*;
        [A, Aaaa, Txt, Mx, Ptr, Ns].into_iter().find(|kind| kind.name().eq_ignore_ascii_case(name))
    }

    pub fn name(self) -> &'static str {
        match self {
            DnsType::A => "A",
            DnsType::Aaaa => "AAAA",
            DnsType::Txt => "TXT",
            DnsType::Mx => "MX",
            DnsType::Ptr => "PTR",
            DnsType::Ns => "NS",
        }
    }
}

/// One record: addresses and names as text, names without a final dot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DnsRecord {
    /// Of types that have one.
    pub preference: Option<u16>,
    pub value: Vec<u8>,
}

/// The resolver.
pub trait Dns: Send + Sync {
    /// No records where the name has none of that type; the error is the code that policies compare with: `NXDOMAIN` ...
    fn lookup(&self, question: DnsQuestion) -> BoxFuture<'static, Result<Vec<DnsRecord>, &'static str>>;
}

/// What the queue knows of a routing domain.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DomainNumbers {
    pub deliveries: u64,
    pub attempts: u64,
    pub transients: u64,
    pub failures: u64,
    /// Mail hosts that are known.
    pub hosts: u64,
    pub dns_failures: u64,
    pub last_delivery_s: u64,
}

/// The routing domains of the queue, over all bindings.
pub trait Domains: Send + Sync {
    fn numbers(&self, domain: &str) -> DomainNumbers;
    /// Delays what is active as if an attempt had failed with `reply`; done when it returns.
    fn delay(&self, domain: String, reply: String) -> BoxFuture<'static, ()>;
}

/// The value of an option.
#[derive(Clone, Debug, PartialEq)]
pub enum ConfigValue {
    Nothing,
    Boolean(bool),
    Number(f64),
    Text(String),
    List(Vec<String>),
    Dictionary(Vec<(String, String)>),
}

/// The console's `config` command.
pub trait Configuration: Send + Sync {
    /// Runs one command; the value and what the console prints, or why not.
    fn run(&self, words: Vec<String>) -> BoxFuture<'static, Result<(ConfigValue, String), String>>;
}

/// Services that stand for no engine at all: for tests and for `check`.
pub struct NoEngine;

impl Log for NoEngine {
    fn panic(&self, _: LogLevel, _: &str, _: &str) {}
}

impl SessionCounts for NoEngine {
    fn count(&self, _: IpAddr, _: u8, _: &str) -> u64 {
        0
    }
}

impl Routes for NoEngine {
    fn binding(&self, name: &str) -> Option<String> {
        (name == "default").then(String::new)
    }

    fn choose(&self, _: &str) -> Option<String> {
        None
    }

    fn gateway(&self, _: &str, _: &str) -> Option<String> {
        None
    }

    fn delivery_method(&self, _: &str, _: &str) -> String {
        "esmtp".to_owned()
    }
}

impl Inject for NoEngine {
    fn inject(&self, _: Envelope, _: Content, _: Vec<Mailbox>) -> BoxFuture<'static, Result<Vec<Id>, String>> {
        Box::pin(async { Err("nothing takes mail here".to_owned()) })
    }
}

impl Options for NoEngine {
    fn hostname(&self) -> String {
        "localhost".to_owned()
    }
}

impl Dns for NoEngine {
    fn lookup(&self, _: DnsQuestion) -> BoxFuture<'static, Result<Vec<DnsRecord>, &'static str>> {
        Box::pin(async { Err("TIMEOUT") })
    }
}

impl Domains for NoEngine {
    fn numbers(&self, _: &str) -> DomainNumbers {
        DomainNumbers::default()
    }

    fn delay(&self, _: String, _: String) -> BoxFuture<'static, ()> {
        Box::pin(async {})
    }
}

impl Configuration for NoEngine {
    fn run(&self, _: Vec<String>) -> BoxFuture<'static, Result<(ConfigValue, String), String>> {
        Box::pin(async { Err("there is no configuration here".to_owned()) })
    }
}

impl Services {
    /// Without an engine; `log` sees what policies print.
    pub fn without_engine(log: Arc<dyn Log>) -> Services {
        Services {
            clock: Clock::system(),
            log,
            ids: Arc::new(IdSource::new(std::process::id(), Id::NULL)),
            sessions: Arc::new(NoEngine),
            routes: Arc::new(NoEngine),
            inject: Arc::new(NoEngine),
            options: Arc::new(NoEngine),
            dns: Arc::new(NoEngine),
            domains: Arc::new(NoEngine),
            configuration: Arc::new(NoEngine),
        }
    }

    pub fn now(&self) -> Time {
        self.clock.now()
    }
}
