//! The resolver: a cache over name servers, with typed look-ups for mail.
//!
//! A clone is a handle on the same cache. Questions that are the same and at the same time are one question: its task goes
//! on when the caller that began it gives up, so that a session which ends costs nobody else the answer. Answers about a
//! name are kept, negative ones too; failures of servers are not. Cache, TTLs and questions under way are bounded.

use crate::conf::{HostsOrder, ResolvConf, server_address};
use crate::error::DnsError;
use crate::hosts::Hosts;
use crate::record::{Answer, Data, Mx, Record, RecordType, arpa_name, ascii_name};
use crate::stub::{self, Asking, Reply};
use moka::Expiry;
use moka::sync::Cache;
use parking_lot::{Mutex, RwLock};
use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::{Semaphore, watch};

/// An answer is believed a week at most, whatever its TTL (RFC 8767 section 4).
const TTL_MAX_S: u32 = 604_800;

/// Questions under way at a time; more wait. Each has a socket.
const PENDING_MAX: usize = 1024;

/// How a resolver works, besides its servers.
#[derive(Clone, Debug)]
pub struct Settings {
    /// How long one server may take for one try; resolv.conf goes before it.
    pub timeout: Duration,
    /// How often the list of servers is gone through; resolv.conf goes before it.
    pub attempts: u32,
    /// `min_dns_ttl` and `max_dns_ttl`: bounds of how long an answer is kept.
    pub ttl_min_s: u32,
    pub ttl_max_s: u32,
    /// Entries of the cache; the least used go first.
    pub cache_entries_max: u64,
    /// `None`: only `localhost` is known without a server.
    pub hosts_file: Option<PathBuf>,
    pub hosts_order: HostsOrder,
    /// Begin with another server each time.
    pub rotate: bool,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            timeout: Duration::from_secs(5),
            attempts: 2,
            ttl_min_s: 0,
            ttl_max_s: u32::MAX,
            cache_entries_max: 200_000,
            hosts_file: Some(PathBuf::from("/etc/hosts")),
            hosts_order: HostsOrder::default(),
            rotate: false,
        }
    }
}

/// A handle on a cache and its servers.
#[derive(Clone)]
pub struct Resolver {
    shared: Arc<Shared>,
}

/// What a reload may change.
struct Setup {
    servers: Vec<SocketAddr>,
    settings: Settings,
    hosts: Hosts,
}

struct Shared {
    setup: RwLock<Arc<Setup>>,
    cache: Cache<Key, Arc<Cached>>,
    under_way: Mutex<HashMap<Key, watch::Receiver<Option<Outcome>>>>,
    permits: Arc<Semaphore>,
    turn: AtomicUsize,
    counters: Counters,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Key {
    name: Box<str>,
    kind: RecordType,
}

/// A result, or why no server had one.
type Outcome = Result<Arc<Cached>, DnsError>;

#[derive(Debug)]
struct Cached {
    result: Result<Arc<[Record]>, DnsError>,
    ttl_s: u32,
    since: Instant,
}

impl Cached {
    fn answer(&self) -> Result<Answer, DnsError> {
        let records = self.result.as_ref().map_err(|error| *error)?;
        Ok(Answer { records: records.to_vec(), ttl_s: self.ttl_s })
    }

    /// The answer as it is now: TTLs count down.
    fn aged(&self) -> Result<Answer, DnsError> {
        let age_s = u32::try_from(self.since.elapsed().as_secs()).unwrap_or(u32::MAX);
        let mut answer = self.answer()?;
        answer.ttl_s = answer.ttl_s.saturating_sub(age_s);
        answer.records.iter_mut().for_each(|record| record.ttl_s = record.ttl_s.saturating_sub(age_s));
        Ok(answer)
    }
}

/// Each entry goes when its own TTL is over.
struct ByTtl;

impl Expiry<Key, Arc<Cached>> for ByTtl {
    fn expire_after_create(&self, _: &Key, cached: &Arc<Cached>, _: Instant) -> Option<Duration> {
        Some(Duration::from_secs(u64::from(cached.ttl_s)))
    }

    fn expire_after_update(&self, _: &Key, cached: &Arc<Cached>, _: Instant, _: Option<Duration>) -> Option<Duration> {
        Some(Duration::from_secs(u64::from(cached.ttl_s)))
    }
}

#[derive(Default)]
struct Counters {
    queries: [AtomicU64; RecordType::ALL.len()],
    timeouts: [AtomicU64; RecordType::ALL.len()],
    hits: AtomicU64,
    misses: AtomicU64,
}

/// The numbers of a resolver since it was made, or since `reset_counters`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    pub types: Vec<TypeStats>,
    /// Questions under way.
    pub pending: usize,
    pub cache_entries: u64,
    pub cache_hits: u64,
    pub cache_misses: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TypeStats {
    pub record_type: RecordType,
    /// Questions that went to servers; what the cache answered is not counted.
    pub queries: u64,
    /// Those that no server answered.
    pub timeouts: u64,
}

impl Stats {
    /// Questions of one type that went to servers.
    pub fn queries(&self, record_type: RecordType) -> u64 {
        self.types.iter().find(|one| one.record_type == record_type).map_or(0, |one| one.queries)
    }
}

impl Resolver {
    /// Servers and options of a file in the form of resolv.conf; what it does not say comes from `settings`. Lines that
    /// cannot be read are reported as warnings.
    pub fn from_resolv_conf(path: &Path, mut settings: Settings) -> Resolver {
        let conf = ResolvConf::load(path);
        for (line, fault) in &conf.faults {
            tracing::warn!(path = %path.display(), line, "{fault}");
        }
        settings.timeout = conf.timeout.unwrap_or(settings.timeout);
        settings.attempts = conf.attempts.unwrap_or(settings.attempts);
        settings.rotate |= conf.rotate;
        if conf.order != HostsOrder::default() {
            settings.hosts_order = conf.order;
        }
        Resolver::new(conf.servers, settings)
    }

    pub fn new(servers: Vec<SocketAddr>, settings: Settings) -> Resolver {
        let cache = Cache::builder().max_capacity(settings.cache_entries_max).expire_after(ByTtl).build();
        let hosts = settings.hosts_file.as_deref().map(Hosts::load).unwrap_or_default();
        let shared = Shared {
            setup: RwLock::new(Arc::new(Setup { servers, settings, hosts })),
            cache,
            under_way: Mutex::default(),
            permits: Arc::new(Semaphore::new(PENDING_MAX)),
            turn: AtomicUsize::new(0),
            counters: Counters::default(),
        };
        Resolver { shared: Arc::new(shared) }
    }

    /// Works like `other` from now on, with its servers, bounds and hosts file; all clones do. What is cached stays unless the
    /// servers are others, which may know other things. The size of the cache stays.
    pub fn adopt(&self, other: &Resolver) {
        let (old, new) = (self.shared.setup(), other.shared.setup());
        let same_servers = old.servers == new.servers;
        *self.shared.setup.write() = new;
        if !same_servers {
            self.flush_all();
        }
    }

    /// A resolver without servers: everything but `localhost` and the names of the hosts file fails with `NoServers`.
    pub fn empty() -> Resolver {
        Resolver::new(Vec::new(), Settings::default())
    }

    /// The mail hosts of a domain, best first. `NullMx` when it takes no mail, `NoData` when it names no host (its
    /// addresses count then, RFC 5321 section 5.1).
    pub async fn mx(&self, domain: &str) -> Result<Vec<Mx>, DnsError> {
        let answer = self.lookup(domain, RecordType::Mx).await?;
        let mut hosts: Vec<Mx> = answer
            .records
            .into_iter()
            .filter_map(|record| match record.data {
                Data::Mx(mx) => Some(mx),
                _ => None,
            })
            .collect();
        let named = hosts.len();
        hosts.retain(|mx| !mx.host.is_empty());
        match (named, hosts.is_empty()) {
            (1, true) => Err(DnsError::NullMx), // RFC 7505 section 3: it stands alone
            (_, true) => Err(DnsError::NoData),
            _ => {
                hosts.sort_by_key(|mx| mx.preference);
                Ok(hosts)
            }
        }
    }

    /// The addresses of a host, IPv4 first; an address stands for itself, with or without brackets.
    pub async fn addresses(&self, host: &str, want_v6: bool) -> Result<Vec<IpAddr>, DnsError> {
        let bare = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host);
        if let Ok(ip) = bare.parse::<IpAddr>() {
            return Ok(vec![ip]);
        }
        let name = ascii_name(host)?;
        let setup = self.shared.setup();
        let order = setup.settings.hosts_order;
        let from_hosts = || setup.hosts.addresses(&name, want_v6);
        let is_loopback = &*name == "localhost" || name.ends_with(".localhost");
        if is_loopback || matches!(order, HostsOrder::HostsFirst | HostsOrder::HostsOnly) {
            match from_hosts() {
                Some(addresses) => return Ok(addresses),
                None if order == HostsOrder::HostsOnly => return Err(DnsError::NxDomain),
                None => {}
            }
        }
        let found = self.dns_addresses(&name, want_v6).await;
        match found {
            Err(_) if order == HostsOrder::DnsFirst => from_hosts().map_or(found, Ok),
            _ => found,
        }
    }

    async fn dns_addresses(&self, name: &str, want_v6: bool) -> Result<Vec<IpAddr>, DnsError> {
        let v4 = self.lookup(name, RecordType::A);
        let (v4, v6) = match want_v6 {
            true => {
                let (v4, v6) = tokio::join!(v4, self.lookup(name, RecordType::Aaaa));
                (v4, Some(v6))
            }
            false => (v4.await, None),
        };
        let mut addresses = Vec::new();
        let mut failure = None;
        for result in [Some(v4), v6].into_iter().flatten() {
            match result {
                Ok(answer) => addresses.extend(answer.records.iter().filter_map(|record| match record.data {
                    Data::A(ip) => Some(IpAddr::V4(ip)),
                    Data::Aaaa(ip) => Some(IpAddr::V6(ip)),
                    _ => None,
                })),
                // A failure of servers says that there may be addresses after all; no such name says less than that.
                Err(error) => match failure {
                    Some(DnsError::NoData | DnsError::NxDomain) | None if !error.is_about_the_name() => {
                        failure = Some(error)
                    }
                    None => failure = Some(error),
                    Some(_) => {}
                },
            }
        }
        match failure {
            Some(error) if addresses.is_empty() => Err(error),
            _ => Ok(addresses),
        }
    }

    /// The names of an address. Names with anything but letters, digits, `-`, `_` and dots are left out: they end up in
    /// header fields and logs.
    pub async fn ptr(&self, ip: IpAddr) -> Result<Vec<String>, DnsError> {
        let answer = self.lookup(&arpa_name(ip), RecordType::Ptr).await?;
        let is_host = |name: &String| {
            !name.is_empty()
                && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_'))
        };
        let names: Vec<String> = answer
            .records
            .into_iter()
            .filter_map(|record| match record.data {
                Data::Ptr(name) => Some(name),
                _ => None,
            })
            .filter(is_host)
            .collect();
        if names.is_empty() { Err(DnsError::NoData) } else { Ok(names) }
    }

    /// The texts of a name, the strings of each record joined; octets that are no UTF-8 are replaced.
    pub async fn txt(&self, name: &str) -> Result<Vec<String>, DnsError> {
        let answer = self.lookup(name, RecordType::Txt).await?;
        let texts = answer.records.iter().filter_map(|record| match &record.data {
            Data::Txt(text) => Some(String::from_utf8_lossy(text).into_owned()),
            _ => None,
        });
        Ok(texts.collect())
    }

    /// The records of a name, from the cache where it has them. The hosts file is not looked at.
    pub async fn lookup(&self, name: &str, kind: RecordType) -> Result<Answer, DnsError> {
        let key = Key { name: ascii_name(name)?.into(), kind };
        if let Some(cached) = self.shared.cache.get(&key) {
            self.shared.counters.hits.fetch_add(1, Ordering::Relaxed);
            return cached.answer();
        }
        self.shared.counters.misses.fetch_add(1, Ordering::Relaxed);
        if self.shared.setup().servers.is_empty() {
            return Err(DnsError::NoServers);
        }
        let mut receiver = self.question(key);
        let outcome = receiver.wait_for(Option::is_some).await.map_err(|_| DnsError::ServFail)?.clone();
        outcome.unwrap_or(Err(DnsError::ServFail)).and_then(|cached| cached.answer())
    }

    /// The records of a name as one server (`ip`, `ip:port`, `[v6]:port`) has them, beside the cache.
    pub async fn lookup_at(&self, server: &str, name: &str, kind: RecordType) -> Result<Answer, DnsError> {
        let server = match server_address(server) {
            Some(server) => server,
            None => {
                // A name, with or without a port.
                let (host, port) = server.rsplit_once(':').unwrap_or((server, "53"));
                let port = port.parse().map_err(|_| DnsError::BadName)?;
                let found = self.addresses(host, true).await.map_err(|_| DnsError::Unreachable)?;
                SocketAddr::new(*found.first().ok_or(DnsError::Unreachable)?, port)
            }
        };
        let name = ascii_name(name)?;
        let _permit = self.shared.permits.acquire().await.map_err(|_| DnsError::Timeout)?;
        let reply = self.shared.ask(&self.shared.setup(), &[server], &name, kind).await?;
        Ok(Answer { records: reply.result?, ttl_s: reply.ttl_s })
    }

    /// The question under way for this key, begun now if there is none.
    fn question(&self, key: Key) -> watch::Receiver<Option<Outcome>> {
        let mut under_way = self.shared.under_way.lock();
        if let Some(receiver) = under_way.get(&key) {
            return receiver.clone();
        }
        let (sender, receiver) = watch::channel(None);
        under_way.insert(key.clone(), receiver.clone());
        drop(under_way);
        let shared = self.shared.clone();
        tokio::spawn(async move {
            let entry = Entry { shared, key };
            let outcome = entry.shared.resolve(&entry.key).await;
            // Off the list first: whoever comes now finds the cache filled.
            drop(entry);
            let _ = sender.send(Some(outcome)); // all who waited may have gone
        });
        receiver
    }

    /// What the cache holds, with the time that is left; the outer `None` when it holds nothing.
    pub fn cached(&self, name: &str, kind: RecordType) -> Option<Result<Answer, DnsError>> {
        let key = Key { name: ascii_name(name).ok()?.into(), kind };
        self.shared.cache.get(&key).map(|cached| cached.aged())
    }

    /// Forgets all that the cache holds of a name.
    pub fn flush(&self, name: &str) {
        let Ok(name) = ascii_name(name) else { return };
        for kind in RecordType::ALL {
            self.shared.cache.invalidate(&Key { name: (&*name).into(), kind });
        }
    }

    /// Forgets everything.
    pub fn flush_all(&self) {
        self.shared.cache.invalidate_all();
    }

    pub fn servers(&self) -> Vec<SocketAddr> {
        self.shared.setup().servers.clone()
    }

    pub fn stats(&self) -> Stats {
        let counters = &self.shared.counters;
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let types = RecordType::ALL.into_iter().enumerate().map(|(at, record_type)| TypeStats {
            record_type,
            queries: count(&counters.queries[at]),
            timeouts: count(&counters.timeouts[at]),
        });
        self.shared.cache.run_pending_tasks();
        Stats {
            types: types.collect(),
            pending: self.shared.under_way.lock().len(),
            cache_entries: self.shared.cache.entry_count(),
            cache_hits: count(&counters.hits),
            cache_misses: count(&counters.misses),
        }
    }

    pub fn reset_counters(&self) {
        let counters = &self.shared.counters;
        let all = counters.queries.iter().chain(&counters.timeouts).chain([&counters.hits, &counters.misses]);
        all.for_each(|counter| counter.store(0, Ordering::Relaxed));
    }
}

impl std::fmt::Debug for Resolver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Resolver").field("servers", &self.shared.setup().servers).finish_non_exhaustive()
    }
}

/// Takes a question off the list, however its task ends.
struct Entry {
    shared: Arc<Shared>,
    key: Key,
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.shared.under_way.lock().remove(&self.key);
    }
}

impl Shared {
    fn setup(&self) -> Arc<Setup> {
        self.setup.read().clone()
    }

    async fn resolve(&self, key: &Key) -> Outcome {
        let _permit = self.permits.acquire().await.map_err(|_| DnsError::Timeout)?;
        let setup = self.setup();
        let reply = self.ask(&setup, &setup.servers, &key.name, key.kind).await?;
        let (min, max) = (setup.settings.ttl_min_s.min(TTL_MAX_S), setup.settings.ttl_max_s.min(TTL_MAX_S));
        let ttl_s = reply.ttl_s.max(min).min(max);
        let cached = Arc::new(Cached { result: reply.result.map(Arc::from), ttl_s, since: Instant::now() });
        // What servers of before a reload say is an answer, but not one to be kept.
        if ttl_s > 0 && Arc::ptr_eq(&setup, &self.setup()) {
            self.cache.insert(key.clone(), cached.clone());
        }
        Ok(cached)
    }

    async fn ask(
        &self,
        setup: &Setup,
        servers: &[SocketAddr],
        name: &str,
        kind: RecordType,
    ) -> Result<Reply, DnsError> {
        let first = match setup.settings.rotate {
            true => self.turn.fetch_add(1, Ordering::Relaxed),
            false => 0,
        };
        let index = RecordType::ALL.iter().position(|one| *one == kind).unwrap_or(0);
        self.counters.queries[index].fetch_add(1, Ordering::Relaxed);
        let asking = Asking { servers, first, timeout: setup.settings.timeout, attempts: setup.settings.attempts };
        let reply = stub::ask(&asking, name, kind).await;
        if matches!(reply, Err(DnsError::Timeout | DnsError::Unreachable)) {
            self.counters.timeouts[index].fetch_add(1, Ordering::Relaxed);
        }
        reply
    }
}

#[cfg(test)]
mod tests;
