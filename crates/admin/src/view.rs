//! What the console's commands look at and act on: traits that the rooms, or the binary, fill.
//!
//! `Queues` is the mail in the queues (`queues::QueueAdapter` over the real ones), `Server` everything else of the process.
//! Methods with a body are for what a server may not have; their answer then says so.

use crate::configuration::Configuration;
use ph_eventlog::{Clock, EventLog};
use ph_message::{DeliveryState, Envelope, Id, Time};
use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

/// A boxed future: what the methods of these traits return.
pub type Later<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Everything a control session needs.
pub struct Services {
    pub log: EventLog,
    pub clock: Clock,
    pub queues: Arc<dyn Queues>,
    pub configuration: Arc<Configuration>,
    pub server: Arc<dyn Server>,
}

/// Which messages a command means; everything that is set must fit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selection {
    pub group: Option<String>,
    pub binding: Option<String>,
    /// The routing domain, lower case.
    pub domain: Option<String>,
    /// Key and value of the message context.
    pub meta: Option<(String, String)>,
    /// Name and value of a header; the value is compared with the physical line.
    pub header: Option<(String, String)>,
}

/// One queue: a domain within a binding.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct QueueRow {
    pub group: String,
    pub binding: String,
    pub domain: String,
    pub connections: u64,
    pub active: u64,
    pub delayed: u64,
    /// Messages that are being delivered.
    pub in_flight: u64,
    pub deliveries: u64,
    pub failures: u64,
    pub transient_failures: u64,
    pub receptions: u64,
}

/// A message as lists show it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MessageRow {
    pub id: Id,
    pub binding: String,
    pub domain: String,
    pub active: bool,
    pub created: Time,
    pub sender: String,
    pub recipient: String,
}

/// Everything about one message.
#[derive(Clone, Debug)]
pub struct MessageDetails {
    pub envelope: Arc<Envelope>,
    pub state: DeliveryState,
    /// The header block and, if it was asked for and is held in memory, the body.
    pub head: Vec<u8>,
    pub body: Vec<u8>,
}

/// Why nothing could be done with a message.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MessageError {
    #[error("Message {0} not found.")]
    NotFound(Id),
    #[error("Message {0} is being delivered.")]
    InDelivery(Id),
    #[error("Message {id} cannot be read: {reason}")]
    Unreadable { id: Id, reason: String },
}

/// How messages are failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// No DSN is made.
    pub quiet: bool,
    /// The text for log and DSN, with its code.
    pub text: String,
}

/// What a queue search asks for; everything that is set must fit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Find {
    pub sender: Option<String>,
    pub recipient: Option<String>,
    pub domain: Option<String>,
    pub binding: Option<String>,
    pub limit: usize,
}

/// The messages in the queues.
pub trait Queues: Send + Sync {
    /// The queues of a selection (its filters on messages are ignored), sorted by domain, then group and binding.
    fn rows(&self, selection: &Selection) -> Vec<QueueRow>;

    /// Messages of a selection, those that are due first. `active`: only due or only delayed ones.
    fn messages<'a>(
        &'a self,
        selection: &'a Selection,
        active: Option<bool>,
        limit: usize,
        offset: usize,
    ) -> Later<'a, Vec<MessageRow>>;

    /// Up to `limit` messages of a selection, and how many there are.
    fn matching<'a>(&'a self, selection: &'a Selection, limit: usize) -> Later<'a, (Vec<MessageRow>, u64)>;

    fn details(&self, id: Id, with_body: bool) -> Later<'_, Result<MessageDetails, MessageError>>;

    /// The message is due now.
    fn retry(&self, id: Id) -> Result<(), MessageError>;

    fn fail_one<'a>(&'a self, id: Id, failure: &'a Failure) -> Later<'a, Result<(), MessageError>>;

    /// Returns how many messages were failed.
    fn fail<'a>(&'a self, selection: &'a Selection, failure: &'a Failure) -> Later<'a, Done>;

    /// Delayed messages become due. Returns how many.
    fn flush<'a>(&'a self, selection: &'a Selection) -> Later<'a, Done>;

    /// Due messages wait for so long. Returns how many.
    fn delay<'a>(&'a self, selection: &'a Selection, span: Duration) -> Later<'a, Done>;

    /// Messages go to another routing domain. Returns how many.
    fn reroute<'a>(&'a self, selection: &'a Selection, domain: &'a str) -> Later<'a, Done>;

    /// The set_binding hooks run again. Returns how many messages were rebound.
    fn rebind<'a>(&'a self, selection: &'a Selection) -> Later<'a, Done>;

    /// The jobs over many messages that are under way.
    fn jobs(&self) -> Vec<JobRow> {
        Vec::new()
    }

    /// Ends a job where it is. False: there is no such job.
    fn stop_job(&self, _number: u64) -> bool {
        false
    }

    fn find<'a>(&'a self, find: &'a Find) -> Later<'a, Vec<MessageRow>>;

    /// Why a message is not being delivered at this moment: label and value for each thing that counts.
    fn explain(&self, id: Id) -> Result<Vec<(String, String)>, MessageError>;

    /// No more attempts for the suspension's queues, from now on. An error: it cannot be set, or it is set and will not
    /// outlast a restart; the text says which.
    fn suspend<'a>(&'a self, suspension: &'a Suspension) -> Later<'a, Result<(), String>>;

    /// Whether a suspension of exactly this selection was there.
    fn resume<'a>(&'a self, selection: &'a Selection) -> Later<'a, Result<bool, String>>;

    /// The suspensions in force.
    fn suspensions(&self) -> Vec<Suspension>;
}

/// What came of a job over many messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Done {
    pub count: u64,
    /// Another session stopped it.
    pub stopped: bool,
}

impl From<u64> for Done {
    fn from(count: u64) -> Done {
        Done { count, stopped: false }
    }
}

/// A job over many messages that is under way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobRow {
    pub number: u64,
    /// The command and its selection.
    pub what: String,
    /// What it does at the moment.
    pub phase: &'static str,
    pub since: Time,
    /// Messages looked at in this phase, of how many.
    pub done: u64,
    pub total: u64,
    pub stopping: bool,
}

/// A suspension of deliveries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Suspension {
    /// Group, binding and domain; nothing set: everything.
    pub selection: Selection,
    pub since: Time,
    /// `None`: until it is lifted.
    pub until: Option<Time>,
    /// Who set it; empty: the server itself or a policy.
    pub by: String,
    pub note: String,
}

/// A connection that somebody made to us.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InboundSession {
    pub fd: i32,
    /// `SMTP`, `Control`, `HTTP`.
    pub service: &'static str,
    /// `None` for a unix socket.
    pub remote: Option<SocketAddr>,
    pub state: String,
    /// In this state for so long.
    pub since: Duration,
}

/// A connection that we made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutboundSession {
    pub fd: i32,
    pub host: String,
    pub remote: IpAddr,
    pub binding: String,
    pub domain: String,
    /// Text of the stage.
    pub state: String,
    pub since: Duration,
}

/// How a domain is reached.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DomainRoute {
    pub ttl_s: u64,
    pub hosts: Vec<RouteHost>,
    /// Consecutive connections that failed.
    pub failures: u64,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct RouteHost {
    pub preference: u16,
    pub name: String,
    pub ttl_s: u64,
    pub addresses: Vec<RouteAddress>,
    /// Other domains that use the host, with its preference there.
    pub also: Vec<(String, u16)>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct RouteAddress {
    pub address: IpAddr,
    /// It is considered down.
    pub down: bool,
    /// It is the one in use.
    pub current: bool,
    pub connect_ms: f64,
    pub delivery_ms: f64,
    pub since_failure: Option<Duration>,
}

/// Numbers of the resolver for one record type.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DnsTypeStats {
    pub record_type: &'static str,
    pub queries: u64,
    pub timeouts: u64,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct DnsStats {
    pub types: Vec<DnsTypeStats>,
    pub pending: u64,
    pub cache_entries: u64,
    pub cache_hits: u64,
    pub cache_misses: u64,
}

/// A pool of threads.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Pool {
    pub name: String,
    pub concurrency: u64,
    // What is not counted is left out.
    pub invocations: Option<u64>,
    pub average_concurrency: Option<f64>,
    /// Percent.
    pub saturation: Option<f64>,
    pub average_ms: Option<f64>,
    pub queued: u64,
    pub threads: u64,
}

/// A cache.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cache {
    pub name: String,
    pub capacity: u64,
    pub entries: u64,
    pub hits: u64,
    pub misses: u64,
    pub stores: u64,
    pub forced: u64,
    pub expired: u64,
    pub evicted: u64,
}

/// A counter of policies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyCounter {
    pub path: String,
    pub value: i64,
    pub reset_at: Option<Time>,
    /// `relaxed`.
    pub semantics: String,
}

/// The TLS of a listener.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsContext {
    pub age_s: u64,
    pub certificate: String,
    /// Whose client certificates are verified.
    pub ca: Option<String>,
    /// Empty: the default.
    pub ciphers: String,
    /// It can be offered.
    pub works: bool,
}

/// What is done with a policy counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CounterChange {
    Create,
    Add(i64),
    Reset,
    Remove,
}

/// A module of the configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Module {
    pub scope: String,
    pub instance: Option<String>,
    pub enabled: bool,
    /// `Logger`, `Singleton`, `Generic` …
    pub api: String,
    pub name: String,
    pub description: String,
}

/// A command that a policy or a module registered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Extension {
    /// Words apart by one blank.
    pub name: String,
    pub help: String,
}

/// The rest of the process.
pub trait Server: Send + Sync {
    fn version(&self) -> &str;

    fn build_date(&self) -> &str;

    /// The process runs and answers. An error says what is broken for good.
    fn live(&self) -> Result<(), String>;

    /// Mail can be accepted. An error says why not (yet, or any more).
    fn ready(&self) -> Result<(), String>;

    /// Begins an orderly end.
    fn shutdown(&self);

    fn inbound(&self) -> Vec<InboundSession>;

    fn outbound(&self) -> Vec<OutboundSession>;

    /// `None`: nothing is known of the domain.
    fn route<'a>(&'a self, domain: &'a str) -> Later<'a, Option<DomainRoute>>;

    /// Forgets what is known about how to reach a domain, or all.
    fn refresh(&self, domain: Option<&str>);

    /// Queries since the start or `reset_dns_stats`.
    fn dns_stats(&self) -> DnsStats;

    /// Queries are counted from zero.
    fn reset_dns_stats(&self) {}

    /// Records in the cache; `None`: there is nothing.
    fn dns_cached(&self, name: &str, record_type: &str) -> Result<Option<Vec<String>>, String>;

    /// Starts a look-up whose result lands in the cache.
    fn dns_submit(&self, name: &str, record_type: &str) -> Result<(), String>;

    fn pools(&self) -> Vec<Pool>;

    fn caches(&self) -> Vec<Cache>;

    /// Memory by purpose, octets.
    fn memory(&self) -> Vec<(String, u64)>;

    fn modules(&self) -> Vec<Module>;

    /// Name and signature of every hook.
    fn hooks(&self) -> Vec<(String, String)>;

    fn counters(&self) -> Vec<PolicyCounter>;

    fn change_counter(&self, path: &str, change: CounterChange) -> Result<i64, String>;

    /// Messages held in memory whole.
    fn resident_messages(&self) -> u64;

    /// Name and value of the counters of DKIM and kin; `None`: this server signs nothing.
    fn signing_stats(&self) -> Option<Vec<(String, u64)>> {
        None
    }

    fn reset_signing_stats(&self) {}

    /// TLS contexts in use.
    fn tls_contexts(&self) -> Vec<TlsContext> {
        Vec::new()
    }

    /// Certificates and keys are looked at anew for new sessions, whose tickets have new keys. Returns what is wrong.
    fn renew_tls(&self) -> Vec<String> {
        Vec::new()
    }

    /// Writes the SMTP dialogues of a binding and domain (`*`: all) to a file; returns the tracer's number.
    fn trace_add(&self, _binding: &str, _domain: &str, _path: &str) -> Result<u32, String> {
        Err("SMTP tracing is not available.".to_owned())
    }

    /// Number, binding, domain and file of every tracer.
    fn traces(&self) -> Vec<(u32, String, String, String)> {
        Vec::new()
    }

    fn trace_remove(&self, _number: u32) -> bool {
        false
    }

    /// Begins a live trace of what the policy does.
    fn trace_policy(&self, _filter: TraceFilter) -> Result<Box<dyn PolicyTrace>, String> {
        Err("This server runs no policy.".to_owned())
    }

    /// Asked before every command: `Some` is the answer, and the command is not run (`core_control_pre_command`).
    fn before_command<'a>(&'a self, _words: &'a [String]) -> Later<'a, Option<String>> {
        Box::pin(async { None })
    }

    /// All log files were reopened.
    fn logs_reopened(&self) -> Later<'_, ()> {
        Box::pin(async {})
    }

    /// Commands that policies (`msys.registerControl`) and modules added.
    fn extensions(&self) -> Vec<Extension> {
        Vec::new()
    }

    /// Runs one of `extensions`. `instance` is what stood behind the colon of its first word.
    fn run_extension<'a>(
        &'a self,
        name: &'a str,
        _instance: Option<&'a str>,
        _arguments: &'a [String],
    ) -> Later<'a, Result<String, String>> {
        Box::pin(async move { Err(format!("'{name}' is gone.")) })
    }
}

/// What a trace of the policy shows; everything that is set must fit. Names and addresses are patterns with `*`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TraceFilter {
    pub hook: Option<String>,
    pub module: Option<String>,
    pub from: Option<String>,
    pub to: Option<String>,
    pub ip: Option<ipnet::IpNet>,
}

/// A trace under way; it ends when it is dropped.
pub trait PolicyTrace: Send {
    /// What happened since the last time; waits up to `wait` for the first event.
    fn next(&mut self, wait: Duration) -> Later<'_, Vec<TraceEvent>>;
}

/// One event of a trace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TraceEvent {
    pub at: Time,
    /// `None`: internal mail.
    pub conn_id: Option<Id>,
    pub peer: Option<IpAddr>,
    pub hook: &'static str,
    pub module: String,
    /// File and line: of the hook's function, or of the call.
    pub place: String,
    pub what: TraceWhat,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TraceWhat {
    Begin,
    Call {
        call: String,
        result: String,
        took: Duration,
    },
    End {
        verdict: String,
        took: Duration,
    },
    /// The reader was too slow for so many events.
    Lost(u64),
}
