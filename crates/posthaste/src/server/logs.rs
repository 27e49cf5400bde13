//! The loggers that a configuration asks for: its module stanzas as `LogSettings`.

use ph_config::options::modules::{bounce_logger as bounce, chunk_logger as chunk, custom_logger as custom};
use ph_config::options::modules::{ec_logger as ec, json_logger as json};
use ph_config::{Config, Opt, Scope, options as opt};
use ph_eventlog::{
    BounceLogger, ChunkLogger, Clock, CustomLogger, CustomStage, DebugFlags, DebugThrottle, EcLogger, JsonLogger,
    LogSettings, Rotation, Switches, Target,
};
use std::sync::Arc;

/// `stderr`: diagnostics also go there (`--debug`).
pub fn settings(config: &Config, clock: &Clock, stderr: bool) -> LogSettings {
    let global = config.global();
    let mut settings = LogSettings {
        hires_timestamps: global.get(&opt::LOG_HIRES_TIMESTAMP),
        debug_flags: debug_flags(config),
        timestamp_format: global.get(&opt::TIMESTAMPFORMAT).to_string(),
        stderr,
        throttle: throttle(&global),
        rotation: rotation(config),
        clock: clock.clone(),
        ..LogSettings::default()
    };
    for module in config.modules().iter().filter(|module| module.enabled) {
        let Some(scope) = config.module(&module.name, Some(&module.instance)) else { continue };
        let name = module.instance.to_string();
        match &*module.name.to_ascii_lowercase() {
            "ec_logger" => settings.ec_loggers.push(ec_logger(&scope, name)),
            "bounce_logger" => settings.bounce_loggers.push(bounce_logger(&scope, name, false)),
            "custom_bounce_logger" => settings.bounce_loggers.push(bounce_logger(&scope, name, true)),
            "custom_logger" => settings.custom_loggers.push(custom_logger(&scope, name)),
            "chunk_logger" => settings.chunk_loggers.extend(chunk_logger(&scope, name)),
            "json_logger" => settings.json_loggers.push(json_logger(&scope, name)),
            _ => {}
        }
    }
    settings
}

/// Every file that is written, once each.
pub fn files(settings: &LogSettings) -> Vec<std::path::PathBuf> {
    let mut targets: Vec<&Target> = Vec::new();
    for logger in &settings.ec_loggers {
        targets.extend([&logger.mainlog, &logger.rejectlog, &logger.paniclog, &logger.acctlog].into_iter().flatten());
    }
    targets.extend(settings.bounce_loggers.iter().map(|logger| &logger.bouncelog));
    for logger in &settings.custom_loggers {
        targets.extend([&logger.mainlog, &logger.paniclog].into_iter().flatten());
        let failures = [&logger.transient_failure, &logger.permanent_failure, &logger.rejection];
        let stages = [&logger.reception, &logger.delivery, &logger.transfer].into_iter().chain(failures);
        targets.extend(stages.filter_map(|stage| stage.file.as_ref()));
    }
    targets.extend(settings.chunk_loggers.iter().map(|logger| &logger.destination));
    targets.extend(settings.json_loggers.iter().map(|logger| &logger.file));
    let mut files: Vec<_> = targets.into_iter().filter_map(|target| target.file().ok()).collect();
    files.sort_unstable();
    files.dedup();
    files
}

fn rotation(config: &Config) -> Option<Rotation> {
    let scope = config.module("log_rotation", None)?;
    let (size, age) = (scope.get(&opt::LOG_ROTATION_SIZE), scope.get(&opt::LOG_ROTATION_AGE));
    (size > 0 || age > 0).then(|| Rotation {
        size_max: (size > 0).then_some(size),
        age_max_s: (age > 0).then_some(age),
        keep: u32::try_from(scope.get(&opt::LOG_ROTATION_KEEP)).unwrap_or(10),
    })
}

fn debug_flags(config: &Config) -> DebugFlags {
    let mut flags = DebugFlags::default();
    for (level, subsystems) in &config.debug_flags().levels {
        let Ok(level) = level.parse() else { continue };
        let subsystems: Vec<&str> = subsystems.iter().map(|subsystem| &**subsystem).collect();
        // The configuration has judged the names already.
        let _ = flags.set(level, &subsystems);
    }
    flags
}

fn throttle(global: &Scope<'_>) -> Option<DebugThrottle> {
    let messages_max = u32::try_from(global.get(&opt::DEBUG_THROTTLE_MAX_NUM_SAME_MESSAGE)).unwrap_or(0);
    (messages_max > 0).then(|| DebugThrottle { messages_max, period_s: global.get(&opt::DEBUG_THROTTLE_PERIOD_SECS) })
}

fn target(path: &str, mode: u32) -> Option<Target> {
    (!path.is_empty()).then(|| Target { path: path.to_owned(), mode })
}

/// Two options mean the same mode, as pages of the reference spell it both ways: the one that is set wins.
fn mode(scope: &Scope<'_>, option: &Opt<u32>, other: &Opt<u32>) -> u32 {
    if scope.find(option).is_some() { scope.get(option) } else { scope.get(other) }
}

fn ec_logger(scope: &Scope<'_>, name: String) -> EcLogger {
    let file = |path: &Opt<Arc<str>>, first: &Opt<u32>, second: &Opt<u32>| {
        target(&scope.get(path), mode(scope, first, second))
    };
    EcLogger {
        name,
        mainlog: file(&ec::EC_LOGGER_MAINLOG, &ec::EC_LOGGER_MAINLOG_MODE, &ec::EC_LOGGER_MAINLOG_LOG_MODE),
        rejectlog: file(&ec::EC_LOGGER_REJECTLOG, &ec::EC_LOGGER_REJECTLOG_MODE, &ec::EC_LOGGER_REJECTLOG_LOG_MODE),
        paniclog: file(&ec::EC_LOGGER_PANICLOG, &ec::EC_LOGGER_PANICLOG_MODE, &ec::EC_LOGGER_PANICLOG_LOG_MODE),
        acctlog: file(&ec::EC_LOGGER_ACCTLOG, &ec::EC_LOGGER_ACCTLOG_MODE, &ec::EC_LOGGER_ACCTLOG_LOG_MODE),
        switches: Switches {
            receptions: scope.get(&ec::EC_LOGGER_LOG_RECEPTIONS),
            deliveries: scope.get(&ec::EC_LOGGER_LOG_DELIVERIES),
            transient_failures: scope.get(&ec::EC_LOGGER_LOG_TRANSIENT_FAILURES),
            permanent_failures: scope.get(&ec::EC_LOGGER_LOG_PERMANENT_FAILURES),
            rejections: scope.get(&ec::EC_LOGGER_LOG_REJECTIONS),
            errors: scope.get(&ec::EC_LOGGER_LOG_ERRORS),
        },
        heartbeat_s: scope.get(&ec::EC_LOGGER_HEARTBEAT),
    }
}

fn bounce_logger(scope: &Scope<'_>, name: String, is_custom: bool) -> BounceLogger {
    let default = if is_custom { "/var/log/ecelerity/bouncelog.cl" } else { "/var/log/ecelerity/bouncelog.ec" };
    let path = match scope.find(&bounce::BOUNCE_LOGGER_BOUNCELOG) {
        Some((path, _)) => path.to_string(),
        None => default.to_owned(),
    };
    BounceLogger {
        name,
        bouncelog: Target { path, mode: scope.get(&bounce::BOUNCE_LOGGER_BOUNCELOG_MODE) },
        heartbeat_s: scope.get(&bounce::BOUNCE_LOGGER_HEARTBEAT),
        inband_bounces: scope.get(&bounce::BOUNCE_LOGGER_LOG_INBAND_BOUNCES),
        outofband_bounces: scope.get(&bounce::BOUNCE_LOGGER_LOG_OUTOFBAND_BOUNCES),
        transient_failures: scope.get(&bounce::BOUNCE_LOGGER_LOG_TRANSIENT_FAILURES),
        user_string: scope.get(&bounce::BOUNCE_LOGGER_USER_STRING).map(|text| text.to_string()).filter(|_| is_custom),
    }
}

fn custom_logger(scope: &Scope<'_>, name: String) -> CustomLogger {
    let text = |option: &Opt<Option<Arc<str>>>| scope.get(option).map(|text| text.to_string());
    let file =
        |path: &Opt<Option<Arc<str>>>, mode: &Opt<u32>| scope.get(path).and_then(|path| target(&path, scope.get(mode)));
    let stage = |format: &Opt<Option<Arc<str>>>, path: &Opt<Option<Arc<str>>>, mode: &Opt<u32>| CustomStage {
        format: text(format),
        file: file(path, mode),
    };
    CustomLogger {
        name,
        mainlog: file(&custom::CUSTOM_LOGGER_MAINLOG, &custom::CUSTOM_LOGGER_MAINLOG_MODE),
        paniclog: file(&custom::CUSTOM_LOGGER_PANICLOG, &custom::CUSTOM_LOGGER_PANICLOG_MODE),
        reception: stage(
            &custom::CUSTOM_LOGGER_RECEPTION_FORMAT,
            &custom::CUSTOM_LOGGER_RECEPTION_LOGFILE,
            &custom::CUSTOM_LOGGER_RECEPTION_LOG_MODE,
        ),
        delivery: stage(
            &custom::CUSTOM_LOGGER_DELIVERY_FORMAT,
            &custom::CUSTOM_LOGGER_DELIVERY_LOGFILE,
            &custom::CUSTOM_LOGGER_DELIVERY_LOG_MODE,
        ),
        transfer: stage(
            &custom::CUSTOM_LOGGER_XFER_FORMAT,
            &custom::CUSTOM_LOGGER_XFER_LOGFILE,
            &custom::CUSTOM_LOGGER_XFER_LOG_MODE,
        ),
        transient_failure: stage(
            &custom::CUSTOM_LOGGER_TRANSIENT_FAILURE_FORMAT,
            &custom::CUSTOM_LOGGER_TRANSIENT_FAILURE_LOGFILE,
            &custom::CUSTOM_LOGGER_TRANSIENT_FAILURE_LOG_MODE,
        ),
        permanent_failure: stage(
            &custom::CUSTOM_LOGGER_PERMANENT_FAILURE_FORMAT,
            &custom::CUSTOM_LOGGER_PERMANENT_FAILURE_LOGFILE,
            &custom::CUSTOM_LOGGER_PERMANENT_FAILURE_LOG_MODE,
        ),
        rejection: stage(
            &custom::CUSTOM_LOGGER_REJECTION_FORMAT,
            &custom::CUSTOM_LOGGER_REJECTION_LOGFILE,
            &custom::CUSTOM_LOGGER_REJECTION_LOG_MODE,
        ),
        sanitize: text(&custom::CUSTOM_LOGGER_SANITIZE),
    }
}

fn chunk_logger(scope: &Scope<'_>, name: String) -> Option<ChunkLogger> {
    Some(ChunkLogger {
        name,
        destination: target(&scope.get(&chunk::CHUNK_LOGGER_DESTINATION)?, scope.get(&chunk::CHUNK_LOGGER_MODE))?,
        timestamp_format: scope.get(&chunk::CHUNK_LOGGER_TIMESTAMP_FORMAT).to_string(),
        add_newline: scope.get(&chunk::CHUNK_LOGGER_ADD_NEWLINE),
    })
}

fn json_logger(scope: &Scope<'_>, name: String) -> JsonLogger {
    JsonLogger {
        name,
        file: Target {
            path: scope.get(&json::JSON_LOGGER_LOGFILE).to_string(),
            mode: scope.get(&json::JSON_LOGGER_LOG_MODE),
        },
        switches: Switches {
            receptions: scope.get(&json::JSON_LOGGER_LOG_RECEPTIONS),
            deliveries: scope.get(&json::JSON_LOGGER_LOG_DELIVERIES),
            transient_failures: scope.get(&json::JSON_LOGGER_LOG_TRANSIENT_FAILURES),
            permanent_failures: scope.get(&json::JSON_LOGGER_LOG_PERMANENT_FAILURES),
            rejections: scope.get(&json::JSON_LOGGER_LOG_REJECTIONS),
            errors: scope.get(&json::JSON_LOGGER_LOG_ERRORS),
        },
        accounting: scope.get(&json::JSON_LOGGER_ACCOUNTING),
        heartbeat_s: scope.get(&json::JSON_LOGGER_HEARTBEAT),
    }
}
