//! `posthaste run`: start-up, reload and shutdown of the whole server.
//!
//! The order of start-up is that of the trust in it: read and judge everything first, bind while privileged, become the
//! user, recover the spool, load the policy, and only then take and send mail. A failure before that costs nothing.

mod adapters;
mod control;
mod disk;
mod gauges;
mod hooks;
pub mod logs;
mod memory;
mod pidfile;
mod policy_services;
mod reload;
mod signals;
mod trace;
mod view;
mod warn;

use crate::cli::{RunArgs, Service};
use crate::{check, privileges};
use adapters::ReceptionCell;
use anyhow::{Context, Result};
use arc_swap::ArcSwap;
use control::ControlListeners;
use parking_lot::Mutex;
use ph_admin::{Configuration, ControlServer, QueueAdapter, Suspensions};
use ph_config::{Config, ConfigEditor, Pending, options as opt};
use ph_delivery::{Delivery, DeliveryHandle, DeliveryServices};
use ph_dns::Resolver;
use ph_eventlog::{Clock, EventLog, Level, Subsystem};
use ph_message::IdSource;
use ph_policy::Policy;
use ph_queue::{Queue, Taken};
use ph_reception::{Generation, Listeners, Parts, Reception, Sessions};
use ph_spool::Spool;
use pidfile::PidFile;
use signals::{Asked, Signals};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// How long sessions in DATA and deliveries that wait for their confirmation are given at shutdown.
const DRAIN_TIME: Duration = Duration::from_secs(30);

/// Where a configuration is looked for when none is named.
const CONFIG_PATHS: [&str; 2] =
    ["/opt/msys/ecelerity/etc/conf/default/ecelerity.conf", "/etc/posthaste/posthaste.conf"];

pub fn run(args: &RunArgs) -> Result<ExitCode> {
    let path = args.config.clone().or_else(find_config);
    let config = match load(path.as_deref()) {
        Ok(config) => config,
        Err(report) => {
            eprintln!("{report}");
            return Ok(ExitCode::FAILURE);
        }
    };
    let problems = check::policies(&config);
    if !problems.is_empty() {
        for problem in problems {
            eprintln!("{problem}");
        }
        return Ok(ExitCode::FAILURE);
    }
    let identity = privileges::plan(&config)?;
    let pidfile_path = pidfile_path(&config, path.as_deref());
    if let Some(pidfile_path) = &pidfile_path
        && let Err(error) = PidFile::check(pidfile_path)
    {
        eprintln!("{error:#}");
        return Ok(ExitCode::from(2));
    }
    raise_descriptor_limit(&config);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("no runtime")?;
    runtime.block_on(async {
        // Before the pid file tells anybody where to send one: a HUP would end a process that does not expect it.
        let mut signals = Signals::install()?;
        let core = tokio::select! {
            core = Core::start(args, path, config, identity, pidfile_path) => core?,
            () = signals.next_stop() => return Ok(ExitCode::SUCCESS),
        };
        core.serve(signals).await
    })
}

pub fn find_config() -> Option<PathBuf> {
    CONFIG_PATHS.iter().map(PathBuf::from).find(|path| path.exists())
}

/// The configuration, its warnings on stderr; or the report of all errors.
fn load(path: Option<&Path>) -> Result<Arc<Config>, String> {
    let Some(path) = path else { return Ok(Arc::new(Config::builtin())) };
    match Config::load(path) {
        Ok(loaded) => {
            if !loaded.warnings.is_empty() {
                eprintln!("{}", loaded.warnings);
            }
            Ok(Arc::new(loaded.config))
        }
        Err(report) => Err(report.to_string()),
    }
}

/// The process of the server that the pid file names, if it runs.
pub fn running(pidfile: &Path) -> Option<u32> {
    PidFile::running(pidfile)
}

/// The log files that the configuration asks for.
pub fn log_files(config: &Config) -> Vec<PathBuf> {
    logs::files(&logs::settings(config, &Clock::system(), false))
}

/// With the built-in configuration there is none: nobody would look for it.
pub fn pidfile_path(config: &Config, path: Option<&Path>) -> Option<PathBuf> {
    path?;
    let is_set = config.global().find(&opt::PIDFILE).is_some();
    let default_is_ours = path.is_some_and(|path| path.starts_with("/opt/msys") || path.starts_with("/etc/posthaste"));
    (is_set || default_is_ours).then(|| PathBuf::from(&*config.global().get(&opt::PIDFILE)))
}

fn raise_descriptor_limit(config: &Config) {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let Ok((_, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else { return };
    let wanted = u64::try_from(config.global().get(&opt::SERVER_MAX_FILE_DESCRIPTORS)).unwrap_or(hard);
    let root = nix::unistd::geteuid().is_root();
    let raised = root && setrlimit(Resource::RLIMIT_NOFILE, wanted.max(hard), wanted.max(hard)).is_ok();
    if !raised {
        let _ = setrlimit(Resource::RLIMIT_NOFILE, hard, hard);
    }
}

/// What the policy host reads from a configuration.
pub fn policy_settings(config: &Config) -> ph_policy::Settings {
    let global = config.global();
    let scriptlet = config.module("scriptlet", None);
    let percent = |option: &ph_config::Opt<i64>| {
        let value = scriptlet.as_ref().map_or(200, |scope| scope.get(option));
        u32::try_from(value).unwrap_or(200)
    };
    let time = |option: &ph_config::Opt<u64>| Duration::from_millis(global.get(option));
    let script = |declared: ph_config::ScriptDecl| ph_policy::Script {
        name: declared.name.to_string(),
        source: declared.source.to_string(),
        place: declared.place.to_string(),
    };
    ph_policy::Settings {
        scripts: config.scripts().into_iter().map(script).collect(),
        folder: config.source_dir().map(Path::to_owned),
        hook_cpu_limit: time(&opt::HOOK_CPU_LIMIT),
        load_cpu_limit: time(&opt::LOAD_CPU_LIMIT),
        again_limit: time(&opt::HOOK_AGAIN_LIMIT),
        memory_limit: usize::try_from(global.get(&opt::LUA_MEMORY_LIMIT)).unwrap_or(usize::MAX),
        phase_check: match &*global.get(&opt::LUA_PHASE_CHECK) {
            "error" => ph_policy::PhaseCheck::Error,
            "off" => ph_policy::PhaseCheck::Off,
            _ => ph_policy::PhaseCheck::Warn,
        },
        on_error: match &*global.get(&opt::ON_ERROR) {
            "tempfail" => ph_policy::OnError::Tempfail,
            "continue" => ph_policy::OnError::Continue,
            _ => ph_policy::OnError::Close,
        },
        gc_pause: percent(&opt::GC_PAUSE),
        gc_step_multiplier: percent(&opt::GC_STEPMUL),
        pcre_match_limit: u32::try_from(global.get(&opt::PCRE_MATCH_LIMIT)).unwrap_or(u32::MAX),
        pcre_cache_size: usize::try_from(global.get(&opt::PCRE_CACHE_SIZE)).unwrap_or(100),
        readfile_size_max: global.get(&opt::READFILE_SIZE_MAX),
        thread_pools: ph_policy::ThreadPool::numbered(
            config.threadpools().iter().map(|pool| (&*pool.name, pool.concurrency, pool.backlog)),
        ),
    }
}

/// Everything that runs.
pub struct Core {
    path: Option<PathBuf>,
    debug: bool,
    config: Arc<ArcSwap<Config>>,
    log: EventLog,
    clock: Clock,
    ids: Arc<IdSource>,
    sessions: Arc<Sessions>,
    spool: Spool,
    queue: Queue,
    resolver: Resolver,
    cell: ReceptionCell,
    reception: Arc<Reception>,
    delivery: OnceLock<DeliveryHandle>,
    listeners: Mutex<Listeners>,
    control_listeners: Mutex<ControlListeners>,
    control: OnceLock<ControlServer>,
    services: OnceLock<Arc<ph_admin::Services>>,
    configuration: OnceLock<Arc<Configuration>>,
    runtime: tokio::runtime::Handle,
    stop: CancellationToken,
    _pidfile: Option<PidFile>,
}

/// Puts configurations into force for the console. Weak: the core owns the console.
struct Applier(Weak<Core>);

impl ph_admin::Apply for Applier {
    fn apply<'a>(
        &'a self,
        config: &'a Arc<Config>,
        pending: Option<&'a Pending>,
    ) -> ph_admin::Later<'a, Result<Vec<String>, String>> {
        Box::pin(async move {
            let core = self.0.upgrade().ok_or("the server is ending")?;
            // Scripts are read again by a reload only; an online change leaves them as they run.
            core.take_up(config.clone(), pending.is_none_or(Pending::is_reload)).await
        })
    }
}

impl Core {
    async fn start(
        args: &RunArgs,
        path: Option<PathBuf>,
        config: Arc<Config>,
        identity: privileges::Identity,
        pidfile_path: Option<PathBuf>,
    ) -> Result<Arc<Core>> {
        let bound = match args.without.contains(&Service::Esmtp) {
            true => Vec::new(),
            false => ph_reception::bind(&config, &Listeners::default())?,
        };
        let bound_control = control::bind(&config, &ControlListeners::default())?;
        let clock = Clock::system();
        let log_settings = logs::settings(&config, &clock, args.debug);
        disk::make_folders(&log_settings, &identity)?;
        let pidfile = pidfile_path.as_deref().map(PidFile::write).transpose()?;
        let spool_dir = PathBuf::from(&*config.global().get(&opt::SPOOLBASE));
        std::fs::create_dir_all(&spool_dir).with_context(|| format!("cannot make {}", spool_dir.display()))?;
        // A site's spool is often a link to where the room is.
        privileges::own(&identity, &spool_dir.canonicalize()?)?;
        disk::give_files(&config, pidfile_path.as_deref(), &identity)?;
        // Keys are often root's alone.
        ph_smtp::tls::keep_files(warn::tls_files(&config));
        privileges::drop_to(&identity)?;
        // Opened by the user who must be able to open them again after they were rotated. Root would follow whatever link
        // lies there.
        let log = EventLog::open(log_settings);
        for fault in log.faults() {
            eprintln!("posthaste: {fault}");
        }
        if identity == privileges::Identity::StayRootOnLoopback {
            eprintln!("posthaste: running as root, which only loopback listeners allow: add a user 'posthaste'");
        }
        for warning in warn::of_relays(&log, None, &config) {
            eprintln!("{warning}");
        }

        let shared_config = Arc::new(ArcSwap::from(config.clone()));
        let queue = Queue::new(shared_config.clone(), clock.clone());
        let suspensions = Suspensions::within(&spool_dir);
        // Before the mail: nothing that somebody has stopped may leave. A file that says who knows what is no reason to.
        suspensions
            .restore(&queue, clock.now())
            .context("suspensions: mend the file, or remove it to start without")?;
        let (spool, report) = disk::open_spool(&config, spool_dir, &queue).await?;
        disk::report_recovery(&log, &report);
        let ids = Arc::new(IdSource::new(std::process::id(), spool.id_floor()));
        let sessions = Arc::<Sessions>::default();
        let cell = ReceptionCell::default();
        let names = resolver(&config);
        let rooms = adapters::Rooms {
            config: &shared_config,
            log: &log,
            clock: &clock,
            ids: &ids,
            sessions: &sessions,
            queue: &queue,
            resolver: &names,
            cell: &cell,
        };
        let policy = Arc::new(Policy::load(rooms.services(), policy_settings(&config)).await?);
        let stop = CancellationToken::new();
        let reception = Reception::new(Parts {
            generation: Generation::new(config.clone(), policy),
            spool: spool.clone(),
            queue: queue.clone(),
            log: log.clone(),
            clock: clock.clone(),
            ids: ids.clone(),
            sessions: sessions.clone(),
            shutdown: stop.clone(),
        });
        cell.fill(&reception);
        let core = Arc::new(Core {
            path,
            debug: args.debug,
            resolver: names,
            config: shared_config,
            log,
            clock,
            ids,
            sessions,
            spool,
            queue,
            cell,
            reception,
            delivery: OnceLock::new(),
            listeners: Mutex::default(),
            control_listeners: Mutex::default(),
            control: OnceLock::new(),
            services: OnceLock::new(),
            configuration: OnceLock::new(),
            runtime: tokio::runtime::Handle::current(),
            stop,
            _pidfile: pidfile,
        });
        core.cell.fill_core(&core);
        core.open_console(bound_control, suspensions);
        core.warn_of_tls(core.reception.prepare_tls());
        core.warn_of_shadowed_commands();
        core.reception.set_resolver(core.resolver.clone());
        announce(&bound);
        core.listeners.lock().start(&core.reception, bound);
        if !args.without.contains(&Service::Queue) {
            core.deliver();
        }
        core.watch();
        Ok(core)
    }

    /// The control channel answers from here on.
    fn open_console(self: &Arc<Self>, bound: Vec<control::Bound>, suspensions: Suspensions) {
        let weak = Arc::downgrade(self);
        let editor = ConfigEditor::new(self.config.load_full(), self.path.as_deref());
        let configuration = Arc::new(Configuration::new(editor, Arc::new(Applier(weak.clone()))));
        let worker = Arc::new(view::Worker(weak.clone()));
        let queues = QueueAdapter::new(self.queue.clone(), self.spool.clone(), worker, self.clock.clone())
            .with_suspensions(suspensions);
        let services = Arc::new(ph_admin::Services {
            log: self.log.clone(),
            clock: self.clock.clone(),
            queues: Arc::new(queues),
            configuration: configuration.clone(),
            server: Arc::new(view::View(weak)),
        });
        let (config, log) = (self.config.clone(), self.log.clone());
        let server =
            ControlServer::new(services.clone(), move |listen, client| control::access(&config, &log, listen, client));
        self.control_listeners.lock().start(bound, &server, &services);
        let _ = self.control.set(server);
        let _ = self.services.set(services);
        let _ = self.configuration.set(configuration);
    }

    /// Mail leaves from here on.
    fn deliver(self: &Arc<Self>) {
        let delivery = Delivery::start(DeliveryServices {
            config: self.config.clone(),
            policy: Some(Arc::new(adapters::PresentPolicy(self.reception.clone()))),
            queue: self.queue.clone(),
            spool: self.spool.clone(),
            log: self.log.clone(),
            clock: self.clock.clone(),
            ids: self.ids.clone(),
            lookup: Arc::new(self.resolver.clone()),
            inject: Arc::new(adapters::Reports(self.reception.clone())),
        });
        self.reception.set_bouncer(Arc::new(adapters::Refusals {
            delivery: delivery.clone(),
            runtime: self.runtime.clone(),
            log: self.log.clone(),
        }));
        let _ = self.delivery.set(delivery);
    }

    pub fn delivery(&self) -> Option<DeliveryHandle> {
        self.delivery.get().cloned()
    }

    /// What is looked after once a second: memory, orphans of a reload, certificates, the service manager's watchdog.
    fn watch(self: &Arc<Self>) {
        let weak = Arc::downgrade(self);
        let available = memory::available_bytes();
        let mut gauges = gauges::Gauges::default();
        self.runtime.spawn(async move {
            loop {
                tokio::time::sleep(Duration::from_secs(1)).await;
                let Some(core) = weak.upgrade() else { return };
                let hwm = u64::try_from(core.config.load().global().get(&opt::MEMORY_HWM)).unwrap_or(100);
                let limit = available.map(|bytes| bytes / 100 * hwm);
                core.reception.set_overloaded(limit.is_some_and(|limit| memory::resident_bytes() > limit));
                core.warn_of_tls(core.reception.take_tls_messages());
                core.report_orphans();
                gauges.set(&core);
                let _ = sd_notify::notify(&[sd_notify::NotifyState::Watchdog]);
            }
        });
    }

    fn report_orphans(&self) {
        for orphan in self.queue.orphans() {
            let text = format!(
                "binding {}/{} is not configured any more: {} messages moved to the default binding",
                orphan.group, orphan.binding, orphan.moved
            );
            self.log.panic(Level::Warning, Subsystem::Generic, &text);
        }
    }

    /// Until a signal or the console ends it.
    async fn serve(self: Arc<Self>, mut signals: Signals) -> Result<ExitCode> {
        println!("ready");
        let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
        loop {
            let asked = tokio::select! {
                asked = signals.next() => asked,
                () = self.stop.cancelled() => Asked::Stop,
            };
            match asked {
                Asked::Stop => break,
                Asked::Reload => self.reload().await,
                Asked::Dump => self.dump(),
            }
        }
        let _ = sd_notify::notify(&[sd_notify::NotifyState::Stopping]);
        tokio::select! {
            () = self.drain() => Ok(ExitCode::SUCCESS),
            () = signals.next_stop() => {
                self.log.flush();
                Ok(ExitCode::FAILURE)
            }
        }
    }

    /// SIGHUP: logs are reopened, configuration and policies read anew: all of it takes effect, or nothing and a reason.
    async fn reload(&self) {
        // `Type=notify-reload` wants to know when the reload began.
        let now = sd_notify::NotifyState::monotonic_usec_now().ok();
        let states: Vec<_> = [sd_notify::NotifyState::Reloading].into_iter().chain(now).collect();
        let _ = sd_notify::notify(&states);
        self.log.reopen();
        self.logs_reopened().await;
        let Some(configuration) = self.configuration.get() else { return };
        match configuration.reload(None).await {
            Ok(text) => self.log.panic(Level::Notice, Subsystem::Generic, text.trim_end()),
            Err(reason) => self.log.panic(Level::Error, Subsystem::Generic, reason.trim_end()),
        }
        let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
    }

    /// Makes a configuration the one in force; returns what the operator should know of it.
    async fn take_up(&self, config: Arc<Config>, scripts_too: bool) -> Result<Vec<String>, String> {
        let present = self.reception.generation.load_full();
        let policy = if scripts_too {
            reload::refuse_truncated(&present.config, &config)?;
            let problems = check::policies(&config);
            if !problems.is_empty() {
                return Err(problems.join("\n"));
            }
            let rooms = adapters::Rooms {
                config: &self.config,
                log: &self.log,
                clock: &self.clock,
                ids: &self.ids,
                sessions: &self.sessions,
                queue: &self.queue,
                resolver: &self.resolver,
                cell: &self.cell,
            };
            let loaded = Policy::load(rooms.services(), policy_settings(&config)).await;
            Arc::new(loaded.map_err(|error| error.to_string())?)
        } else {
            present.policy.clone()
        };
        let bound = ph_reception::bind(&config, &self.listeners.lock()).map_err(|error| error.to_string())?;
        let bound_control =
            control::bind(&config, &self.control_listeners.lock()).map_err(|error| format!("{error:#}"))?;
        // From here on nothing can fail.
        self.log.apply(&logs::settings(&config, &self.clock, self.debug));
        self.config.store(config.clone());
        self.resolver.adopt(&resolver(&config));
        self.reception.reload(Generation::new(config.clone(), policy));
        self.queue.config_changed();
        announce(&bound);
        {
            let mut listeners = self.listeners.lock();
            listeners.retain(&config);
            listeners.start(&self.reception, bound);
            let mut control_listeners = self.control_listeners.lock();
            control_listeners.retain(&config);
            if let (Some(control), Some(services)) = (self.control.get(), self.services.get()) {
                control_listeners.start(bound_control, control, services);
            }
        }
        let mut notes = warn::of_relays(&self.log, Some(&present.config), &config);
        notes.extend(self.warn_of_tls(self.reception.prepare_tls()));
        notes.extend(self.committed(&present.policy).await);
        Ok(notes)
    }

    /// Chooses the binding of a queued message again: the console's `rebind`.
    pub async fn rebind(&self, taken: Taken) -> bool {
        let Ok(stored) = self.spool.read(taken.key).await else {
            self.queue.give_back(taken);
            return false;
        };
        let (key, id) = (taken.key, taken.summary.id);
        let state = stored.state.clone();
        let envelope = self.reception.bind_again(&stored.envelope, &stored.content).await;
        if self.spool.replace(key, envelope.clone()).await.is_err() {
            self.queue.give_back(taken);
            return false;
        }
        let at = ph_queue::QueueRef::new(&envelope.binding_group, &envelope.binding, envelope.queue_domain());
        let _ = state;
        self.queue.give_back(taken);
        self.queue.move_one(id, &at).is_ok()
    }

    /// The state of everything into the paniclog, for a person who cannot reach the console.
    fn dump(&self) {
        let text = format!(
            "state\nsessions {}\nconnections {}\n{:?}\n{:?}",
            self.sessions.count(),
            self.delivery().map_or(0, |delivery| delivery.connection_count()),
            self.queue.overview(),
            self.spool.stats()
        );
        self.log.panic(Level::Critical, Subsystem::Generic, &text);
    }

    /// The orderly end: no new mail, what is under way is finished or left to its sender, everything written.
    async fn drain(&self) {
        self.stop.cancel();
        let delivery = async {
            if let Some(delivery) = self.delivery() {
                delivery.stop(DRAIN_TIME).await;
            }
        };
        let sessions = async {
            let deadline = tokio::time::Instant::now() + DRAIN_TIME;
            while self.sessions.count() > 0 && tokio::time::Instant::now() < deadline {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::join!(delivery, sessions);
        let generation = self.reception.generation.load_full();
        let shutdown = ph_policy::HookCall::CoreControlShutdown;
        if generation.policy.has(shutdown.hook()) {
            let _ = generation.policy.call(&shutdown).await;
        }
        generation.policy.deinit().await;
        self.control_listeners.lock().close();
        let spool = self.spool.clone();
        let _ = tokio::task::spawn_blocking(move || spool.close()).await;
        self.log.flush();
    }
}

/// The configured resolver as policies ask it.
pub fn names(config: &Config) -> Arc<dyn ph_policy::Dns> {
    Arc::new(policy_services::Names(resolver(config)))
}

fn resolver(config: &Config) -> Resolver {
    let global = config.global();
    let clamp = |option| u32::try_from(global.get(option)).unwrap_or(u32::MAX);
    let settings = ph_dns::Settings {
        ttl_min_s: clamp(&opt::MIN_DNS_TTL),
        ttl_max_s: clamp(&opt::MAX_DNS_TTL),
        ..ph_dns::Settings::default()
    };
    Resolver::from_resolv_conf(Path::new(&*global.get(&opt::RESOLV_CONF)), settings)
}

/// Says on standard output where the listeners are: with port 0 only the system knows.
fn announce(bound: &[ph_reception::Bound]) {
    for bound in bound {
        if let Some(address) = bound.local_addr() {
            println!("listening {} on {address}", bound.name());
        }
    }
}
