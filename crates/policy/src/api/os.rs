//! `msys.os`: how full file systems are, sampled in the background so that no hook waits for a slow one.
//!
//! One sampler a path serves all who subscribed to it, at the smallest of their intervals; it ends with the last of them. A file
//! system that hangs holds up its sampler and nothing else.

use crate::registry::{ApiError, Arg, Args, Call, Ctx, FUNCTION, Function, Ret, Table, Type, param, returns};
use mlua::{UserData, UserDataMethods, Value};
use parking_lot::Mutex;
use ph_eventlog::Clock;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock, Weak};
use std::time::Duration;
use tokio::sync::{Notify, OnceCell};

pub static TABLE: Table = Table { name: "os", package: "msys.os", functions: &[&READ, &SUBSCRIBE] };

/// Paths that are sampled at a time.
const PATHS_MAX: usize = 1000;

/// How often where a subscriber does not say.
const INTERVAL_DEFAULT: Duration = Duration::from_secs(5);
const INTERVAL_MIN: Duration = Duration::from_millis(10);
const INTERVAL_MAX_S: f64 = 86_400.0;

static READ: Function = Function {
    name: "msys.os.statvfs_read",
    since: "3.2",
    params: &[param("path", Type::Any, "what `statvfs_subscribe` returned; a path is subscribed to and stays so")],
    returns: &[
        returns(
            "statvfs|nil",
            "a snapshot: `kilobytes_available`, `kilobytes_total`, `objects_available`, `objects_total`, `version`",
        ),
        returns("string|nil", "why the file system could not be asked"),
    ],
    doc: "The last sample of a file system.",
    page: "4/lua/ref-msys-os-statvfs-read.md",
    raises: "when `path` is neither a record nor a path",
    example: r#"
        local sample = msys.os.statvfs_read("/")
        if sample and sample.kilobytes_available < 1024 * 1024 then vctx:set_code(452, "disk full") end
    "#,
    call: Call::Async(|ctx, args| Box::pin(read(ctx, args))),
    ..FUNCTION
};

static SUBSCRIBE: Function = Function {
    name: "msys.os.statvfs_subscribe",
    since: "3.2",
    params: &[
        param("path", Type::String, "anything on the file system; it need not exist yet"),
        param("interval", Type::Number, "seconds between samples; 0: 5 seconds"),
    ],
    returns: &[returns("statvfs_record", "for `statvfs_read`; the sampling ends when it is collected")],
    doc: "Has a file system sampled in the background. The first sample has been taken when it returns.",
    page: "4/lua/ref-msys-os-statvfs-subscribe.md",
    raises: "when `interval` is negative",
    example: r#"
        local record = msys.os.statvfs_subscribe("/", 60)
        local sample = msys.os.statvfs_read(record)
    "#,
    call: Call::Async(|ctx, args| Box::pin(subscribe(ctx, args))),
    ..FUNCTION
};

async fn subscribe(ctx: Ctx<'static>, args: Args) -> Result<Ret, ApiError> {
    let path = path_of(&args.bytes(0)?);
    let seconds = args.number(1)?;
    if seconds.is_nan() || seconds < 0.0 {
        return Err(args.bad(1, "the interval must not be negative"));
    }
    let interval = match seconds {
        0.0 => INTERVAL_DEFAULT,
        _ => Duration::from_secs_f64(seconds.min(INTERVAL_MAX_S)).max(INTERVAL_MIN),
    };
    let record = Record::new(path, interval, &ctx.host.services.clock).map_err(|text| ctx.raise(text))?;
    record.sampler.first().await;
    Ok(Ret::One(Value::UserData(ctx.lua.create_userdata(record)?)))
}

async fn read(ctx: Ctx<'static>, args: Args) -> Result<Ret, ApiError> {
    let sampler = match args.arg(0) {
        Arg::Value(Value::UserData(data)) => data.borrow::<Record>().ok().map(|record| record.sampler.clone()),
        Arg::Bytes(path) => Some(kept(path_of(path), &ctx)?),
        _ => None,
    };
    let Some(sampler) = sampler else {
        return Err(args.bad(0, format!("statvfs record or path expected, got {}", args.arg(0).type_name())));
    };
    sampler.first().await;
    let latest = sampler.latest.lock().clone();
    match latest {
        Ok(sample) => Ok(Ret::One(Value::UserData(ctx.lua.create_userdata(sample)?))),
        Err(text) => ctx.failure(&text),
    }
}

fn path_of(bytes: &[u8]) -> PathBuf {
    use std::os::unix::ffi::OsStrExt;
    PathBuf::from(std::ffi::OsStr::from_bytes(bytes))
}

/// The sampler of a path that was read without a subscription; it goes on with the process.
fn kept(path: PathBuf, ctx: &Ctx<'_>) -> Result<Arc<Sampler>, ApiError> {
    static KEPT: LazyLock<Mutex<HashMap<PathBuf, Record>>> = LazyLock::new(Mutex::default);
    let mut kept = KEPT.lock();
    if let Some(record) = kept.get(&path) {
        return Ok(record.sampler.clone());
    }
    let record =
        Record::new(path.clone(), INTERVAL_DEFAULT, &ctx.host.services.clock).map_err(|text| ctx.raise(text))?;
    Ok(kept.entry(path).or_insert(record).sampler.clone())
}

/// One subscription.
struct Record {
    sampler: Arc<Sampler>,
    interval: Duration,
}

impl UserData for Record {}

impl Record {
    fn new(path: PathBuf, interval: Duration, clock: &Clock) -> Result<Record, String> {
        let mut samplers = SAMPLERS.lock();
        let known = samplers.get(&path).and_then(Weak::upgrade);
        let sampler = match known {
            Some(sampler) => sampler,
            None => {
                samplers.retain(|_, sampler| sampler.strong_count() > 0);
                if samplers.len() >= PATHS_MAX {
                    return Err(format!("{PATHS_MAX} paths are being sampled already"));
                }
                let sampler = Arc::new(Sampler::new(path.clone()));
                samplers.insert(path, Arc::downgrade(&sampler));
                tokio::spawn(Sampler::run(Arc::downgrade(&sampler), clock.clone()));
                sampler
            }
        };
        sampler.intervals.lock().push(interval);
        sampler.changed.notify_one();
        Ok(Record { sampler, interval })
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        let mut intervals = self.sampler.intervals.lock();
        if let Some(at) = intervals.iter().position(|interval| *interval == self.interval) {
            intervals.swap_remove(at);
        }
    }
}

static SAMPLERS: LazyLock<Mutex<HashMap<PathBuf, Weak<Sampler>>>> = LazyLock::new(Mutex::default);

struct Sampler {
    path: Arc<Path>,
    intervals: Mutex<Vec<Duration>>,
    /// A subscriber came: the interval may be shorter now.
    changed: Arc<Notify>,
    begun: OnceCell<()>,
    latest: Mutex<Result<Sample, String>>,
}

impl Sampler {
    fn new(path: PathBuf) -> Sampler {
        Sampler {
            path: path.into(),
            intervals: Mutex::default(),
            changed: Arc::default(),
            begun: OnceCell::new(),
            latest: Mutex::new(Err("no sample yet".to_owned())),
        }
    }

    /// Waits for the first sample.
    async fn first(&self) {
        self.begun.get_or_init(|| self.sample()).await;
    }

    async fn sample(&self) {
        let path = self.path.clone();
        let sample = tokio::task::spawn_blocking(move || Sample::take(&path)).await;
        *self.latest.lock() = sample.unwrap_or_else(|error| Err(error.to_string()));
    }

    /// Samples until nobody subscribes any more.
    async fn run(sampler: Weak<Sampler>, clock: Clock) {
        loop {
            let Some(one) = sampler.upgrade() else { return };
            let pause = one.intervals.lock().iter().min().copied().unwrap_or(INTERVAL_DEFAULT);
            let changed = one.changed.clone();
            drop(one); // whoever subscribed may go meanwhile
            tokio::select! {
                () = clock.sleep(pause) => {}
                () = changed.notified() => continue,
            }
            let Some(one) = sampler.upgrade() else { return };
            one.sample().await;
        }
    }
}

/// The state of a file system at one time.
#[derive(Clone, Debug)]
struct Sample {
    kilobytes_available: u64,
    kilobytes_total: u64,
    objects_available: u64,
    objects_total: u64,
}

impl Sample {
    fn take(path: &Path) -> Result<Sample, String> {
        let state = nix::sys::statvfs::statvfs(path).map_err(|error| error.desc().to_owned())?;
        let kilobytes = |blocks: u64| {
            let octets = u128::from(blocks) * u128::from(state.fragment_size());
            u64::try_from(octets / 1024).unwrap_or(u64::MAX)
        };
        Ok(Sample {
            kilobytes_available: kilobytes(state.blocks_available()),
            kilobytes_total: kilobytes(state.blocks()),
            objects_available: state.files_available(),
            objects_total: state.files(),
        })
    }
}

impl UserData for Sample {
    fn add_methods<M: UserDataMethods<Self>>(methods: &mut M) {
        methods.add_meta_method("__index", |_, this, key: Value| {
            let Value::String(key) = key else { return Ok(Value::Nil) };
            let number = match &*key.as_bytes() {
                b"version" => 1,
                b"kilobytes_available" => this.kilobytes_available,
                b"kilobytes_total" => this.kilobytes_total,
                b"objects_available" => this.objects_available,
                b"objects_total" => this.objects_total,
                _ => return Ok(Value::Nil),
            };
            Ok(Value::Number(number as f64))
        });
    }
}
