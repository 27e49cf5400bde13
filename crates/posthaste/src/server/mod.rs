//! `posthaste run`: start-up, reload and shutdown of the whole server.
//!
//! The order of start-up is that of the trust in it: read and judge everything first, bind while privileged, become the
//! user, recover the spool, load the policy, and only then take and send mail. A failure before that costs nothing.

mod adapters;
mod logs;
mod pidfile;
mod signals;
mod view;

use crate::cli::{RunArgs, Service};
use crate::{check, privileges};
use adapters::ReceptionCell;
use anyhow::{Context, Result, bail};
use arc_swap::ArcSwap;
use ph_admin::{Admin, AdminParts};
use ph_config::{Config, options as opt};
use ph_delivery::{Delivery, DeliveryHandle, DeliveryServices};
use ph_dns::Resolver;
use ph_eventlog::{Clock, EventLog, Level, Subsystem};
use ph_message::IdSource;
use ph_policy::Policy;
use ph_queue::Queue;
use ph_reception::{Generation, Listeners, Reception, Sessions};
use ph_spool::{Spool, SpoolOptions};
use pidfile::PidFile;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
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
        let server = Server::start(args, path, config, identity, pidfile_path).await?;
        server.serve().await
    })
}

fn find_config() -> Option<PathBuf> {
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

/// With the built-in configuration there is none: nobody would look for it.
fn pidfile_path(config: &Config, path: Option<&Path>) -> Option<PathBuf> {
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

/// Everything that runs.
struct Server {
    path: Option<PathBuf>,
    config: Arc<ArcSwap<Config>>,
    log: EventLog,
    clock: Clock,
    ids: Arc<IdSource>,
    spool: Spool,
    queue: Queue,
    resolver: Resolver,
    cell: ReceptionCell,
    reception: Arc<Reception>,
    listeners: parking_lot::Mutex<Listeners>,
    delivery: Option<DeliveryHandle>,
    admin: Admin,
    stop: CancellationToken,
    _pidfile: Option<PidFile>,
}
