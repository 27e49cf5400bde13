//! The loggers as the log uses them: settings turned into open files and compiled formats.

use crate::bouncelog::UserString;
use crate::custom::{Format, FormatError, strftime_text, with_fractions};
use crate::facts::Kind;
use crate::file::LogFile;
use crate::settings::{
    BounceLogger, CustomLogger, CustomStage, DebugThrottle, LogSettings, Rotation, Switches, Target, TargetError,
};
use crate::{json, mainlog, out, rejectlog};
use ph_message::Time;
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering::Relaxed};

/// Why loggers cannot be set up as the operator wrote them.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SettingsError {
    #[error("{logger}: {error}")]
    Target { logger: String, error: TargetError },
    #[error("{logger}: {option}: {error}")]
    Format { logger: String, option: &'static str, error: FormatError },
    #[error("{logger}: {option} has a format, but neither a file of its own nor 'mainlog' is set")]
    NoFile { logger: String, option: &'static str },
    #[error("{logger}: timestamp_format: {reason}")]
    Timestamp { logger: String, reason: String },
}

impl LogSettings {
    /// Everything that is wrong with the settings, without touching a file: for the check of a configuration.
    pub fn check(&self) -> Result<(), Vec<SettingsError>> {
        let mut problems = Vec::new();
        let mut maker = Maker { files: &mut HashMap::new(), problems: &mut problems, used: Vec::new() };
        Loggers::make(self, &mut maker, Time::ZERO);
        if problems.is_empty() { Ok(()) } else { Err(problems) }
    }
}

#[derive(Debug, Default)]
pub(crate) struct Loggers {
    pub(crate) hires: bool,
    pub(crate) stderr: bool,
    pub(crate) timestamp_format: String,
    pub(crate) throttle: Option<DebugThrottle>,
    pub(crate) rotation: Option<Rotation>,
    pub(crate) mains: Vec<MainSink>,
    pub(crate) bounces: Vec<BounceSink>,
    pub(crate) customs: Vec<CustomSink>,
    pub(crate) chunks: Vec<ChunkSink>,
    pub(crate) jsons: Vec<JsonSink>,
    /// Each file once.
    pub(crate) files: Vec<Arc<LogFile>>,
}

#[derive(Debug)]
pub(crate) struct MainSink {
    pub(crate) name: String,
    pub(crate) main: Option<Arc<LogFile>>,
    pub(crate) reject: Option<Arc<LogFile>>,
    pub(crate) panic: Option<Arc<LogFile>>,
    pub(crate) acct: Option<Arc<LogFile>>,
    pub(crate) switches: Switches,
    heartbeat: Heartbeat,
}

#[derive(Debug)]
pub(crate) struct BounceSink {
    pub(crate) name: String,
    pub(crate) file: Arc<LogFile>,
    pub(crate) user_string: Option<UserString>,
    inband: bool,
    out_of_band: bool,
    transient: bool,
    heartbeat: Heartbeat,
}

impl BounceSink {
    pub(crate) fn wants(&self, kind: Kind) -> bool {
        match kind {
            Kind::Permanent => self.inband,
            Kind::OutOfBand => self.out_of_band,
            Kind::Transient => self.transient,
            Kind::Reception | Kind::Delivery | Kind::Transfer | Kind::Rejection => false,
        }
    }
}

type StageSink = Option<(Arc<LogFile>, Format)>;

#[derive(Debug)]
pub(crate) struct CustomSink {
    pub(crate) name: String,
    reception: StageSink,
    delivery: StageSink,
    transfer: StageSink,
    transient: StageSink,
    permanent: StageSink,
    rejection: StageSink,
    panic: Option<Arc<LogFile>>,
}

impl CustomSink {
    pub(crate) fn stage(&self, kind: Kind) -> Option<&(Arc<LogFile>, Format)> {
        match kind {
            Kind::Reception => self.reception.as_ref(),
            Kind::Delivery => self.delivery.as_ref(),
            Kind::Transfer => self.transfer.as_ref(),
            Kind::Transient => self.transient.as_ref(),
            Kind::Permanent => self.permanent.as_ref(),
            Kind::Rejection => self.rejection.as_ref(),
            Kind::OutOfBand => None,
        }
    }
}

#[derive(Debug)]
pub(crate) struct ChunkSink {
    pub(crate) name: String,
    pub(crate) file: Arc<LogFile>,
    pub(crate) timestamp_format: String,
    pub(crate) add_newline: bool,
}

#[derive(Debug)]
pub(crate) struct JsonSink {
    pub(crate) name: String,
    pub(crate) file: Arc<LogFile>,
    pub(crate) switches: Switches,
    pub(crate) accounting: bool,
    heartbeat: Heartbeat,
}

impl Switches {
    pub(crate) fn wants(&self, kind: Kind) -> bool {
        match kind {
            Kind::Reception => self.receptions,
            Kind::Delivery | Kind::Transfer => self.deliveries,
            Kind::Transient => self.transient_failures,
            Kind::Permanent | Kind::OutOfBand => self.permanent_failures,
            Kind::Rejection => self.rejections,
        }
    }
}

/// When the next sign of life is due.
#[derive(Debug)]
struct Heartbeat {
    every_s: u64,
    next: AtomicI64,
}

impl Heartbeat {
    fn new(every_s: u64, now: Time) -> Heartbeat {
        Heartbeat { every_s, next: AtomicI64::new(now.plus_secs(every_s).micros()) }
    }

    /// Whether one is due; the next one is then counted from now. Called by one thread at a time.
    fn due(&self, now: Time) -> bool {
        if self.every_s == 0 || now.micros() < self.next.load(Relaxed) {
            return false;
        }
        self.next.store(now.plus_secs(self.every_s).micros(), Relaxed);
        true
    }
}

impl Loggers {
    /// What the settings say, with files taken from `files` where they are there already. Parts that cannot be made are
    /// left out and told.
    pub(crate) fn build(
        settings: &LogSettings,
        files: &mut HashMap<PathBuf, Arc<LogFile>>,
        now: Time,
    ) -> (Loggers, Vec<String>) {
        let mut problems = Vec::new();
        let mut maker = Maker { files, problems: &mut problems, used: Vec::new() };
        let loggers = Loggers::make(settings, &mut maker, now);
        (loggers, problems.iter().map(ToString::to_string).collect())
    }

    fn make(settings: &LogSettings, maker: &mut Maker<'_>, now: Time) -> Loggers {
        let mains = settings
            .ec_loggers
            .iter()
            .map(|logger| {
                let what = logger_name("ec_logger", &logger.name);
                MainSink {
                    name: logger.name.clone(),
                    main: maker.optional(&what, logger.mainlog.as_ref()),
                    reject: maker.optional(&what, logger.rejectlog.as_ref()),
                    panic: maker.optional(&what, logger.paniclog.as_ref()).filter(|_| logger.switches.errors),
                    acct: maker.optional(&what, logger.acctlog.as_ref()),
                    switches: logger.switches,
                    heartbeat: Heartbeat::new(logger.heartbeat_s, now),
                }
            })
            .collect();
        let resolved =
            |format: &str| if settings.hires_timestamps { with_fractions(format) } else { format.to_owned() };
        let bounces = settings.bounce_loggers.iter().filter_map(|logger| maker.bounce(logger, now)).collect();
        let customs = settings.custom_loggers.iter().map(|logger| maker.custom(logger)).collect();
        let chunks = settings
            .chunk_loggers
            .iter()
            .filter_map(|logger| {
                let what = logger_name("chunk_logger", &logger.name);
                if let Err(error) = strftime_text(&logger.timestamp_format, Time::ZERO) {
                    let reason = error.to_string();
                    maker.problems.push(SettingsError::Timestamp { logger: what.clone(), reason });
                }
                Some(ChunkSink {
                    name: logger.name.clone(),
                    file: maker.file(&what, &logger.destination)?,
                    timestamp_format: resolved(&logger.timestamp_format),
                    add_newline: logger.add_newline,
                })
            })
            .collect();
        let jsons = settings
            .json_loggers
            .iter()
            .filter_map(|logger| {
                Some(JsonSink {
                    name: logger.name.clone(),
                    file: maker.file(&logger_name("json_logger", &logger.name), &logger.file)?,
                    switches: logger.switches,
                    accounting: logger.accounting,
                    heartbeat: Heartbeat::new(logger.heartbeat_s, now),
                })
            })
            .collect();
        let timestamp_format = match settings.timestamp_format.as_str() {
            "" => LogSettings::TIMESTAMP_FORMAT.to_owned(),
            format => {
                if let Err(error) = strftime_text(format, Time::ZERO) {
                    let (logger, reason) = ("global".to_owned(), error.to_string());
                    maker.problems.push(SettingsError::Timestamp { logger, reason });
                }
                format.to_owned()
            }
        };
        Loggers {
            hires: settings.hires_timestamps,
            stderr: settings.stderr,
            timestamp_format: resolved(&timestamp_format),
            throttle: settings.throttle,
            rotation: settings.rotation,
            mains,
            bounces,
            customs,
            chunks,
            jsons,
            files: std::mem::take(&mut maker.used),
        }
    }

    /// The files that diagnostics go to.
    pub(crate) fn panic_files(&self) -> impl Iterator<Item = &LogFile> {
        let mains = self.mains.iter().filter_map(|logger| logger.panic.as_deref());
        mains.chain(self.customs.iter().filter_map(|logger| logger.panic.as_deref()))
    }

    /// The files of the loggers of a module, of one instance if it is named; `None`: there is no such logger.
    pub(crate) fn files_of(&self, module: &str, instance: Option<&str>) -> Option<Vec<Arc<LogFile>>> {
        let wanted = |name: &str| instance.is_none_or(|instance| instance == name);
        let mut found: Vec<Vec<Option<&Arc<LogFile>>>> = Vec::new();
        match module {
            "ec_logger" => found.extend(self.mains.iter().filter(|logger| wanted(&logger.name)).map(|logger| {
                vec![logger.main.as_ref(), logger.reject.as_ref(), logger.panic.as_ref(), logger.acct.as_ref()]
            })),
            "bounce_logger" | "custom_bounce_logger" => {
                let custom = module == "custom_bounce_logger";
                let of_module = |logger: &&BounceSink| logger.user_string.is_some() == custom && wanted(&logger.name);
                found.extend(self.bounces.iter().filter(of_module).map(|logger| vec![Some(&logger.file)]));
            }
            "custom_logger" => {
                found.extend(self.customs.iter().filter(|logger| wanted(&logger.name)).map(|logger| {
                    let stages = [
                        &logger.reception,
                        &logger.delivery,
                        &logger.transfer,
                        &logger.transient,
                        &logger.permanent,
                        &logger.rejection,
                    ];
                    let files = stages.into_iter().map(|stage| stage.as_ref().map(|(file, _)| file));
                    files.chain([logger.panic.as_ref()]).collect()
                }));
            }
            "chunk_logger" => {
                let of_module = |logger: &&ChunkSink| wanted(&logger.name);
                found.extend(self.chunks.iter().filter(of_module).map(|logger| vec![Some(&logger.file)]));
            }
            "json_logger" => {
                let of_module = |logger: &&JsonSink| wanted(&logger.name);
                found.extend(self.jsons.iter().filter(of_module).map(|logger| vec![Some(&logger.file)]));
            }
            _ => {}
        }
        let any = !found.is_empty();
        any.then(|| found.into_iter().flatten().flatten().cloned().collect())
    }

    /// Appends the signs of life that are due.
    pub(crate) fn heartbeats(&self, now: Time) {
        let beat = |file: &LogFile, rest: &[u8]| {
            file.append(|out| {
                out::stamp(out, now, self.hires);
                out.extend_from_slice(rest);
                out.push(b'\n');
            });
        };
        for logger in self.mains.iter().filter(|logger| logger.heartbeat.due(now)) {
            if let Some(file) = &logger.main {
                beat(file, mainlog::HEARTBEAT);
            }
            if let Some(file) = &logger.reject {
                beat(file, rejectlog::HEARTBEAT);
            }
        }
        for logger in self.bounces.iter().filter(|logger| logger.heartbeat.due(now)) {
            beat(&logger.file, mainlog::HEARTBEAT);
        }
        for logger in self.jsons.iter().filter(|logger| logger.heartbeat.due(now)) {
            logger.file.append(|out| json::heartbeat(out, now));
        }
    }
}

struct Maker<'a> {
    files: &'a mut HashMap<PathBuf, Arc<LogFile>>,
    problems: &'a mut Vec<SettingsError>,
    used: Vec<Arc<LogFile>>,
}

impl Maker<'_> {
    fn optional(&mut self, logger: &str, target: Option<&Target>) -> Option<Arc<LogFile>> {
        target.and_then(|target| self.file(logger, target))
    }

    fn file(&mut self, logger: &str, target: &Target) -> Option<Arc<LogFile>> {
        let path = match target.file() {
            Ok(path) => path,
            Err(error) => {
                self.problems.push(SettingsError::Target { logger: logger.to_owned(), error });
                return None;
            }
        };
        let file =
            self.files.entry(path).or_insert_with_key(|path| Arc::new(LogFile::new(path.clone(), target.mode))).clone();
        if !self.used.iter().any(|used| Arc::ptr_eq(used, &file)) {
            self.used.push(Arc::clone(&file));
        }
        Some(file)
    }

    fn bounce(&mut self, logger: &BounceLogger, now: Time) -> Option<BounceSink> {
        let module = if logger.user_string.is_some() { "custom_bounce_logger" } else { "bounce_logger" };
        Some(BounceSink {
            name: logger.name.clone(),
            file: self.file(&logger_name(module, &logger.name), &logger.bouncelog)?,
            user_string: logger.user_string.as_deref().map(UserString::parse),
            inband: logger.inband_bounces,
            out_of_band: logger.outofband_bounces,
            transient: logger.transient_failures,
            heartbeat: Heartbeat::new(logger.heartbeat_s, now),
        })
    }

    fn custom(&mut self, logger: &CustomLogger) -> CustomSink {
        let what = logger_name("custom_logger", &logger.name);
        let mut stage = |option: &'static str, stage: &CustomStage| -> StageSink {
            let format = stage.format.as_deref()?;
            let format = match Format::parse(format, logger.sanitize.as_deref()) {
                Ok(format) => format,
                Err(error) => {
                    self.problems.push(SettingsError::Format { logger: what.clone(), option, error });
                    return None;
                }
            };
            match stage.file.as_ref().or(logger.mainlog.as_ref()) {
                Some(target) => Some((self.file(&what, target)?, format)),
                None => {
                    self.problems.push(SettingsError::NoFile { logger: what.clone(), option });
                    None
                }
            }
        };
        CustomSink {
            name: logger.name.clone(),
            reception: stage("reception_format", &logger.reception),
            delivery: stage("delivery_format", &logger.delivery),
            transfer: stage("xfer_format", &logger.transfer),
            transient: stage("transient_failure_format", &logger.transient_failure),
            permanent: stage("permanent_failure_format", &logger.permanent_failure),
            rejection: stage("rejection_format", &logger.rejection),
            panic: self.optional(&what, logger.paniclog.as_ref()),
        }
    }
}

fn logger_name(module: &str, instance: &str) -> String {
    if instance.is_empty() { module.to_owned() } else { format!("{module} \"{instance}\"") }
}
