//! What the console sees of the process, and what it may do to it: `ph_admin::Server` and the work on messages.

use super::Core;
use ph_admin::{
    Cache, CounterChange, DnsStats, DnsTypeStats, DomainRoute, Failure, InboundSession, Later, Module, OutboundSession,
    PolicyCounter, Pool, RouteAddress, RouteHost, TlsContext, Work,
};
use ph_dns::{Data, RecordType};
use ph_policy::Hook;
use ph_queue::{QueueRef, Taken};
use std::sync::{Arc, Weak};
use std::time::Duration;

/// The process as the console sees it. Weak: the core owns the console.
pub struct View(pub Weak<Core>);

impl View {
    fn core(&self) -> Option<Arc<Core>> {
        self.0.upgrade()
    }
}

impl ph_admin::Server for View {
    fn version(&self) -> &str {
        env!("CARGO_PKG_VERSION")
    }

    fn build_date(&self) -> &str {
        option_env!("POSTHASTE_BUILD_DATE").unwrap_or("unknown")
    }

    fn live(&self) -> Result<(), String> {
        Ok(())
    }

    fn ready(&self) -> Result<(), String> {
        match self.core() {
            None => Err("starting".to_owned()),
            Some(core) if core.stop.is_cancelled() => Err("shutting down".to_owned()),
            Some(_) => Ok(()),
        }
    }

    fn shutdown(&self) {
        if let Some(core) = self.core() {
            core.stop.cancel();
        }
    }

    fn inbound(&self) -> Vec<InboundSession> {
        let Some(core) = self.core() else { return Vec::new() };
        let now = core.clock.now();
        let line = |line: ph_reception::SessionLine| InboundSession {
            fd: 0,
            service: line.service,
            remote: Some(line.remote),
            state: line.state.to_owned(),
            since: now.since(line.since),
        };
        let mut all: Vec<InboundSession> = core.sessions.list().into_iter().map(line).collect();
        all.extend(core.control.get().map(ph_admin::ControlServer::sessions).unwrap_or_default());
        all
    }

    fn outbound(&self) -> Vec<OutboundSession> {
        let Some(delivery) = self.core().and_then(|core| core.delivery()) else { return Vec::new() };
        let session = |open: ph_delivery::ConnectionInfo| {
            Some(OutboundSession {
                fd: i32::try_from(open.number).unwrap_or(i32::MAX),
                host: open.host.to_string(),
                remote: open.address?,
                binding: open.at.binding.to_string(),
                domain: open.at.domain.to_string(),
                state: open.stage.text().to_owned(),
                since: Duration::from_micros(open.stage_us),
            })
        };
        delivery.connections().into_iter().filter_map(session).collect()
    }

    fn route<'a>(&'a self, domain: &'a str) -> Later<'a, Option<DomainRoute>> {
        Box::pin(async move {
            let core = self.core()?;
            let info = core.delivery()?.resolve(domain).await?;
            let queues = core.queue.queues(&ph_queue::Scope::domain(domain));
            let failures = queues.iter().map(|queue| u64::from(queue.failures)).max();
            let at: Vec<QueueRef> = queues.into_iter().map(|queue| queue.at).collect();
            let hosts = info.route.as_ref().map(|route| hosts(&core, route, &at)).unwrap_or_default();
            Some(DomainRoute { ttl_s: info.life_s, hosts, failures: failures.unwrap_or(0) })
        })
    }

    fn refresh(&self, domain: Option<&str>) {
        let Some(core) = self.core() else { return };
        match domain {
            Some(domain) => core.resolver.flush(domain),
            None => core.resolver.flush_all(),
        }
        if let Some(delivery) = core.delivery() {
            delivery.refresh(domain);
        }
    }

    fn dns_stats(&self) -> DnsStats {
        let Some(core) = self.core() else { return DnsStats::default() };
        let stats = core.resolver.stats();
        let one = |one: &ph_dns::TypeStats| DnsTypeStats {
            record_type: one.record_type.name(),
            queries: one.queries,
            timeouts: one.timeouts,
        };
        DnsStats {
            types: stats.types.iter().map(one).collect(),
            pending: stats.pending as u64,
            cache_entries: stats.cache_entries,
            cache_hits: stats.cache_hits,
            cache_misses: stats.cache_misses,
        }
    }

    fn reset_dns_stats(&self) {
        if let Some(core) = self.core() {
            core.resolver.reset_counters();
        }
    }

    fn tls_contexts(&self) -> Vec<TlsContext> {
        let Some(core) = self.core() else { return Vec::new() };
        let context = |made: ph_reception::TlsContext| TlsContext {
            age_s: made.age.as_secs(),
            certificate: made.certificate.display().to_string(),
            ca: made.client_ca.map(|path| path.display().to_string()),
            ciphers: made.ciphers,
            works: made.works,
        };
        core.reception.tls_contexts().into_iter().map(context).collect()
    }

    fn renew_tls(&self) -> Vec<String> {
        self.core().map(|core| core.warn_of_tls(core.reception.renew_tls())).unwrap_or_default()
    }

    fn dns_cached(&self, name: &str, record_type: &str) -> Result<Option<Vec<String>>, String> {
        let kind: RecordType = record_type.parse().map_err(|_| format!("unknown record type '{record_type}'"))?;
        let Some(core) = self.core() else { return Ok(None) };
        match core.resolver.cached(name, kind) {
            None => Ok(None),
            Some(Err(error)) => Ok(Some(vec![format!("{name} {}: {error}", kind.name())])),
            Some(Ok(answer)) => Ok(Some(answer.records.iter().map(|record| record_line(name, record)).collect())),
        }
    }

    fn dns_submit(&self, name: &str, record_type: &str) -> Result<(), String> {
        let kind: RecordType = record_type.parse().map_err(|_| format!("unknown record type '{record_type}'"))?;
        let core = self.core().ok_or("the server is ending")?;
        let (resolver, name) = (core.resolver.clone(), name.to_owned());
        core.runtime.spawn(async move { resolver.lookup(&name, kind).await });
        Ok(())
    }

    fn pools(&self) -> Vec<Pool> {
        let Some(core) = self.core() else { return Vec::new() };
        let mut pools = pools(&core);
        // The pools of Momentum's configuration bound the jobs of policies; the engine uses none of them.
        let config = core.config.load();
        let stats = core.reception.generation.load().policy.pool_stats();
        let declared = |declared: ph_config::ThreadPoolDecl| {
            let pool =
                Pool { name: declared.name.to_string(), concurrency: declared.concurrency.into(), ..Pool::default() };
            match stats.iter().find(|stats| stats.name.eq_ignore_ascii_case(&pool.name)) {
                None => pool,
                Some(stats) => Pool {
                    invocations: Some(stats.invocations),
                    average_concurrency: Some(stats.average_concurrency),
                    saturation: Some(stats.saturation),
                    average_ms: Some(stats.average_ms),
                    queued: stats.queued,
                    threads: stats.running,
                    ..pool
                },
            }
        };
        let mut others: Vec<Pool> = config.threadpools().into_iter().map(declared).collect();
        others.retain(|other| pools.iter().all(|pool| !pool.name.eq_ignore_ascii_case(&other.name)));
        pools.append(&mut others);
        pools
    }

    fn caches(&self) -> Vec<Cache> {
        let Some(core) = self.core() else { return Vec::new() };
        let (dns, spool) = (core.resolver.stats(), core.spool.stats());
        vec![
            Cache {
                name: "dns".to_owned(),
                entries: dns.cache_entries,
                hits: dns.cache_hits,
                misses: dns.cache_misses,
                ..Cache::default()
            },
            Cache {
                name: "spool".to_owned(),
                entries: spool.cached,
                hits: spool.cache_hits,
                misses: spool.cache_misses,
                ..Cache::default()
            },
        ]
    }

    fn memory(&self) -> Vec<(String, u64)> {
        let Some(core) = self.core() else { return Vec::new() };
        let policy = core.reception.generation.load().policy.used_memory() as u64;
        vec![
            ("queue".to_owned(), core.queue.overview().heap_bytes as u64),
            ("spool cache".to_owned(), core.spool.stats().cached_bytes),
            ("policy".to_owned(), policy),
            ("RSS".to_owned(), super::memory::resident_bytes()),
        ]
    }

    fn modules(&self) -> Vec<Module> {
        let Some(core) = self.core() else { return Vec::new() };
        let module = |declared: ph_config::ModuleDecl| Module {
            api: if declared.name.to_ascii_lowercase().contains("logger") { "Logger" } else { "Singleton" }.to_owned(),
            scope: declared.name.to_ascii_lowercase(),
            name: declared.name.to_string(),
            instance: Some(declared.instance.to_string()),
            enabled: declared.enabled,
            description: if declared.implemented { String::new() } else { "not in this release".to_owned() },
        };
        core.config.load().modules().into_iter().map(module).collect()
    }

    fn hooks(&self) -> Vec<(String, String)> {
        let about = |hook: Hook| {
            let about = format!("phase {:?}, returns {:?}", hook.phase(), hook.returns()).to_lowercase();
            match hook.is_called() {
                true => format!("{}: {about}", hook.signature()),
                false => format!("{about}, not called by this release"),
            }
        };
        Hook::all().map(|hook| (hook.name().to_owned(), about(hook))).collect()
    }

    fn counters(&self) -> Vec<PolicyCounter> {
        Vec::new()
    }

    fn change_counter(&self, path: &str, _: CounterChange) -> Result<i64, String> {
        Err(format!("there is no counter '{path}': policies make none in this release"))
    }

    fn resident_messages(&self) -> u64 {
        self.core().map_or(0, |core| core.spool.stats().cached)
    }

    fn before_command<'a>(&'a self, words: &'a [String]) -> Later<'a, Option<String>> {
        Box::pin(async move { self.core()?.before_command(words).await })
    }

    fn logs_reopened(&self) -> Later<'_, ()> {
        Box::pin(async move {
            if let Some(core) = self.core() {
                core.logs_reopened().await;
            }
        })
    }

    fn trace_policy(&self, filter: ph_admin::TraceFilter) -> Result<Box<dyn ph_admin::PolicyTrace>, String> {
        super::trace::open(filter)
    }

    fn extensions(&self) -> Vec<ph_admin::Extension> {
        self.core().map(|core| core.policy_commands()).unwrap_or_default()
    }

    fn run_extension<'a>(
        &'a self,
        name: &'a str,
        _: Option<&'a str>,
        arguments: &'a [String],
    ) -> Later<'a, Result<String, String>> {
        Box::pin(async move {
            let core = self.core().ok_or("the server is ending")?;
            core.run_policy_command(name, arguments).await
        })
    }

    fn trace_add(&self, binding: &str, domain: &str, path: &str) -> Result<u32, String> {
        let core = self.core().ok_or("the server is ending")?;
        let delivery = core.delivery().ok_or("nothing is delivered by this server")?;
        let mode = core.config.load().global().get(&ph_config::options::TRACE_SMTP_MODE);
        delivery.tracers().add_tracer(binding, domain, path.as_ref(), mode).map_err(|error| format!("{path}: {error}"))
    }

    fn traces(&self) -> Vec<(u32, String, String, String)> {
        let Some(delivery) = self.core().and_then(|core| core.delivery()) else { return Vec::new() };
        let tracers = delivery.tracers().tracers().into_iter();
        tracers.map(|(no, binding, domain, path)| (no, binding, domain, path.display().to_string())).collect()
    }

    fn trace_remove(&self, number: u32) -> bool {
        self.core().and_then(|core| core.delivery()).is_some_and(|delivery| delivery.tracers().remove_tracer(number))
    }
}

/// The threads there are: `CPU` runs all tasks, `IO` is the one that writes the spool.
fn pools(core: &Core) -> Vec<Pool> {
    let uptime_s = core.clock.now().since(core.log.stats().started()).as_secs_f64().max(1.0);
    let runtime = core.runtime.metrics();
    let workers = runtime.num_workers();
    let busy_s: f64 = (0..workers).map(|worker| runtime.worker_total_busy_duration(worker).as_secs_f64()).sum();
    vec![
        Pool {
            name: "CPU".to_owned(),
            concurrency: workers as u64,
            average_concurrency: Some(busy_s / uptime_s),
            saturation: Some(busy_s * 100.0 / (uptime_s * workers.max(1) as f64)),
            queued: runtime.global_queue_depth() as u64,
            threads: workers as u64,
            ..Pool::default()
        },
        Pool {
            name: "IO".to_owned(),
            concurrency: 1,
            invocations: Some(core.spool.stats().batches),
            threads: 1,
            ..Pool::default()
        },
    ]
}

fn record_line(name: &str, record: &ph_dns::Record) -> String {
    let data = match &record.data {
        Data::A(address) => format!("A {address}"),
        Data::Aaaa(address) => format!("AAAA {address}"),
        Data::Mx(mx) => format!("MX {} {}", mx.preference, mx.host),
        Data::Txt(text) => format!("TXT {:?}", String::from_utf8_lossy(text)),
        Data::Ptr(host) => format!("PTR {host}"),
        Data::Ns(host) => format!("NS {host}"),
        Data::Cname(host) => format!("CNAME {host}"),
    };
    format!("{name} {} IN {data}", record.ttl_s)
}

/// The targets of a route, one row for each host. An address rests for each binding apart; shown is what the last failure
/// in any of the domain's queues, `at`, has left.
fn hosts(core: &Core, route: &ph_delivery::Route, at: &[QueueRef]) -> Vec<RouteHost> {
    let mut hosts: Vec<RouteHost> = Vec::new();
    let (now, mut chosen) = (core.clock.now(), false);
    for target in &route.targets {
        let states = at.iter().map(|at| core.queue.host_state(at, target.address));
        let state = states.max_by_key(|state| state.failed_at).unwrap_or_default();
        let down = state.rests_until > now;
        let address = RouteAddress {
            address: target.address,
            down,
            // The first that is up: another of the same preference may be drawn.
            current: !down && !chosen,
            connect_ms: 0.0,
            delivery_ms: 0.0,
            since_failure: state.failed_at.map(|failed_at| now.since(failed_at)),
        };
        chosen |= !down;
        match hosts.last_mut().filter(|host| *host.name == *target.host) {
            Some(host) => host.addresses.push(address),
            None => hosts.push(RouteHost {
                preference: u16::try_from(target.preference).unwrap_or(u16::MAX),
                name: target.host.to_string(),
                addresses: vec![address],
                ..RouteHost::default()
            }),
        }
    }
    hosts
}

/// Failing and rebinding messages for the console.
pub struct Worker(pub Weak<Core>);

impl Work for Worker {
    fn fail<'a>(&'a self, taken: Taken, failure: &'a Failure) -> Later<'a, bool> {
        Box::pin(async move {
            let Some(delivery) = self.0.upgrade().and_then(|core| core.delivery()) else { return false };
            delivery.fail(taken, &failure.text, failure.quiet).await;
            true
        })
    }

    fn rebind(&self, taken: Taken) -> Later<'_, bool> {
        Box::pin(async move {
            let Some(core) = self.0.upgrade() else { return false };
            core.rebind(taken).await
        })
    }
}
