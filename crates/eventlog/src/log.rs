//! `EventLog`: the one place that events are told to. It counts them, and appends their lines to the files that want
//! them.
//!
//! Telling is synchronous, borrows everything, and costs the formatting and one short lock for each file; the disk is the
//! writer thread's business. The loggers can be exchanged while events come in (`apply`); files that stay keep their
//! buffers.

use crate::clock::Clock;
use crate::facts::{Attempt, Auth, AuthResult, Authz, Bounce, CLASS_SUBSCRIBE, Facts, Kind, Rejection};
use crate::file::{FileNews, Fill, LogFile};
use crate::level::{DebugFlags, Level, LiveFlags, Subsystem};
use crate::paniclog::{Diagnostic, Recent, Throttle};
use crate::settings::LogSettings;
use crate::sinks::Loggers;
use crate::stage::Stage;
use crate::stats::{Counted, Stats};
use crate::{acctlog, bouncelog, custom, json, mainlog, metrics, paniclog, rejectlog};
use arc_swap::ArcSwap;
use parking_lot::{Condvar, Mutex};
use ph_message::{Content, Envelope, Time};
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Weak};
use std::time::Duration;

/// The log of the process. Clones share it; the last one to go writes out what is left.
#[derive(Clone)]
pub struct EventLog {
    inner: Arc<Inner>,
}

struct Inner {
    loggers: ArcSwap<Loggers>,
    /// Every file in use, so that two loggers of one path, and the loggers before and after `apply`, share it.
    files: Mutex<HashMap<PathBuf, Arc<LogFile>>>,
    clock: Clock,
    flags: LiveFlags,
    recent: Recent,
    throttle: Throttle,
    stats: Stats,
    signal: Arc<Signal>,
    /// Held while ticking: heartbeats and rotation happen once.
    last_check: Mutex<Time>,
}

#[derive(Default)]
struct Signal {
    wake: Mutex<Wake>,
    condition: Condvar,
}

#[derive(Default)]
struct Wake {
    write: bool,
    stop: bool,
}

/// How often buffers are written.
const TICK: Duration = Duration::from_millis(100);
/// How often paths are compared with the open files.
const CHECK: Duration = Duration::from_secs(1);

impl EventLog {
    /// Opens all files and starts the writer thread. What cannot be opened is retried every second and reported
    /// (`faults`, stderr, the other paniclogs); settings that `LogSettings::check` refuses are left out.
    pub fn open(settings: LogSettings) -> EventLog {
        let now = settings.clock.now();
        metrics::START_TIME.set(now.secs());
        let mut files = HashMap::new();
        let (loggers, problems) = Loggers::build(&settings, &mut files, now);
        let signal = Arc::new(Signal::default());
        let inner = Arc::new(Inner {
            loggers: ArcSwap::from_pointee(loggers),
            files: Mutex::new(files),
            clock: settings.clock,
            flags: LiveFlags::new(settings.debug_flags),
            recent: Recent::default(),
            throttle: Throttle::default(),
            stats: Stats::new(now),
            signal: Arc::clone(&signal),
            last_check: Mutex::new(now),
        });
        let weak = Arc::downgrade(&inner);
        let log = EventLog { inner };
        for problem in problems {
            log.panic(Level::Error, Subsystem::Log, &problem);
        }
        log.inner.open_files(now);
        let thread = std::thread::Builder::new().name("log-writer".into()).spawn(move || write_forever(&signal, &weak));
        if let Err(error) = thread {
            log.panic(Level::Critical, Subsystem::Log, &format!("cannot start the log writer: {error}"));
        }
        log
    }

    /// A log without files: counts, keeps diagnostics in memory. For tests and tools.
    pub fn discard() -> EventLog {
        EventLog::open(LogSettings::default())
    }

    /// Puts other loggers in place of the present ones. The clock stays the one of `open`.
    pub fn apply(&self, settings: &LogSettings) {
        let now = self.inner.clock.now();
        let problems = {
            let mut files = self.inner.files.lock();
            let (loggers, problems) = Loggers::build(settings, &mut files, now);
            // A file that nobody uses any more is written out and closed when its last user lets go of it.
            files.retain(|_, file| loggers.files.iter().any(|used| Arc::ptr_eq(used, file)));
            self.inner.loggers.store(Arc::new(loggers));
            problems
        };
        self.inner.flags.set(settings.debug_flags);
        for problem in problems {
            self.panic(Level::Error, Subsystem::Log, &problem);
        }
        self.inner.open_files(now);
    }

    /// `Debug_Flags` changed.
    pub fn set_debug_flags(&self, flags: DebugFlags) {
        self.inner.flags.set(flags);
    }

    /// Whether a diagnostic would be written: ask before building a costly text.
    pub fn wants(&self, level: Level, subsystem: Subsystem) -> bool {
        self.inner.flags.allows(level, subsystem)
    }

    /// Closes and reopens every file: after somebody renamed them, and on SIGHUP. No line is lost or split. Blocks for
    /// the disk.
    pub fn reopen(&self) {
        let now = self.inner.clock.now();
        for file in &self.inner.loggers.load_full().files {
            file.reopen(now);
        }
    }

    /// Reopens the files of one logger (`ec_logger:NAME reopen logs`); false: there is no such logger.
    pub fn reopen_logger(&self, module: &str, instance: Option<&str>) -> bool {
        let now = self.inner.clock.now();
        let files = self.inner.loggers.load().files_of(module, instance);
        for file in files.iter().flatten() {
            file.reopen(now);
        }
        files.is_some()
    }

    /// Writes everything told so far to the files, due heartbeats included. Blocks for the disk.
    pub fn flush(&self) {
        self.inner.tick();
    }

    /// The files that cannot be used at present, with the reason.
    pub fn faults(&self) -> Vec<String> {
        self.inner.loggers.load().files.iter().filter_map(|file| file.fault()).collect()
    }

    /// Totals, rates and counters of bindings, for the console.
    pub fn stats(&self) -> &Stats {
        &self.inner.stats
    }

    /// The clock that the log was opened with.
    pub fn clock(&self) -> &Clock {
        &self.inner.clock
    }

    /// The path of the first mainlog, for the console's `tail mainlog`.
    pub fn mainlog_path(&self) -> Option<PathBuf> {
        let loggers = self.inner.loggers.load();
        loggers.mains.iter().find_map(|logger| logger.main.as_ref()).map(|file| file.path().to_owned())
    }

    /// A message was accepted for the envelope's recipient and is on stable storage.
    pub fn reception(&self, now: Time, envelope: &Envelope, content: Option<&Content>) {
        metrics::RECEIVED.add(1);
        metrics::RECEIVED_BYTES.add(envelope.size);
        self.inner.stats.count(&envelope.binding, Counted::Received);
        let loggers = self.inner.loggers.load();
        self.message(&loggers, &Facts::reception(now, loggers.hires, envelope, content));
    }

    /// The next host took the message.
    pub fn delivery(&self, now: Time, envelope: &Envelope, attempt: &Attempt<'_>) {
        metrics::DELIVERED.add(1);
        metrics::DELIVERED_BYTES.add(envelope.size);
        metrics::TIME_IN_QUEUE.observe(now.since(envelope.created));
        self.inner.stats.count(&envelope.binding, Counted::Delivered);
        self.attempt(Kind::Delivery, now, envelope, attempt);
    }

    /// Another node took the message.
    pub fn transfer(&self, now: Time, envelope: &Envelope, attempt: &Attempt<'_>) {
        metrics::TRANSFERRED.add(1);
        self.attempt(Kind::Transfer, now, envelope, attempt);
    }

    /// An attempt failed, and the message will be tried again. Writes the bouncelog's line too.
    pub fn transient(&self, now: Time, envelope: &Envelope, attempt: &Attempt<'_>) {
        metrics::TRANSIENT_FAILURES.add(1);
        self.inner.stats.count(&envelope.binding, Counted::Transient);
        self.attempt(Kind::Transient, now, envelope, attempt);
    }

    /// The message was given up. Writes the bouncelog's line too.
    pub fn permanent(&self, now: Time, envelope: &Envelope, attempt: &Attempt<'_>) {
        metrics::PERMANENT_FAILURES.add(1);
        self.inner.stats.count(&envelope.binding, Counted::Failed);
        self.attempt(Kind::Permanent, now, envelope, attempt);
    }

    /// A bounce report came in for a message delivered earlier; `envelope` is that message as far as it is known.
    pub fn bounce(&self, now: Time, envelope: &Envelope, bounce: &Bounce<'_>) {
        metrics::OUT_OF_BAND_BOUNCES.add(1);
        let attempt = Attempt {
            connection: bounce.connection,
            stage: Stage::OutOfBandBounce,
            peer: bounce.peer,
            reply: bounce.text,
            class: bounce.class,
            class_name: bounce.class_name,
            ..Attempt::NONE
        };
        self.attempt(Kind::OutOfBand, now, envelope, &attempt);
    }

    /// A command or a message was refused.
    pub fn rejection(&self, rejection: &Rejection<'_>) {
        metrics::REJECTIONS.add(1);
        let loggers = self.inner.loggers.load();
        self.message(&loggers, &Facts::rejection(loggers.hires, rejection));
    }

    /// Somebody authenticated, or failed to. The caller decides whether that is logged at all (`log_authentication`).
    pub fn auth(&self, now: Time, auth: &Auth<'_>) {
        let result = match auth.outcome {
            AuthResult::Pass => "pass",
            AuthResult::Fail => "fail",
            AuthResult::TimedOut => "timeout",
            AuthResult::Unknown => "unknown",
        };
        metrics::AUTHENTICATIONS.add(result, 1);
        let loggers = self.inner.loggers.load();
        for file in loggers.mains.iter().filter_map(|logger| logger.acct.as_ref()) {
            self.append(file, |out| acctlog::authentication(out, now, loggers.hires, auth));
        }
        for logger in loggers.jsons.iter().filter(|logger| logger.accounting) {
            self.append(&logger.file, |out| json::authentication(out, now, auth));
        }
    }

    /// A console command was allowed or denied.
    pub fn authz(&self, now: Time, authz: &Authz<'_>) {
        let loggers = self.inner.loggers.load();
        for file in loggers.mains.iter().filter_map(|logger| logger.acct.as_ref()) {
            self.append(file, |out| acctlog::authorization(out, now, loggers.hires, authz));
        }
        for logger in loggers.jsons.iter().filter(|logger| logger.accounting) {
            self.append(&logger.file, |out| json::authorization(out, now, authz));
        }
    }

    /// A diagnostic for the operator, written if `Debug_Flags` says so.
    pub fn panic(&self, level: Level, subsystem: Subsystem, text: &str) {
        if !self.inner.flags.allows(level, subsystem) {
            return;
        }
        let loggers = self.inner.loggers.load();
        if let Some(limit) = loggers.throttle.filter(|_| level < Level::Warning)
            && !self.inner.throttle.admits(limit, self.inner.clock.now(), text)
        {
            return;
        }
        self.write_diagnostic(&loggers, level, subsystem, text);
    }

    /// Text that a policy prints: always written, whatever `Debug_Flags` says.
    pub fn print(&self, text: &str) {
        self.write_diagnostic(&self.inner.loggers.load(), Level::Notice, Subsystem::Mod, text);
    }

    /// The last ten diagnostics of every level, oldest first.
    pub fn recent_diagnostics(&self) -> Vec<Diagnostic> {
        self.inner.recent.all()
    }

    /// The lines of `recent_diagnostics`, with the time in `TimestampFormat`.
    pub fn recent_lines(&self) -> Vec<String> {
        let loggers = self.inner.loggers.load();
        self.inner.recent.all().iter().map(|diagnostic| diagnostic.line(&loggers.timestamp_format)).collect()
    }

    /// Text from a policy to a `chunk_logger`; without a name to the first. False: there is no such logger.
    pub fn chunk(&self, name: Option<&str>, text: &[u8]) -> bool {
        let loggers = self.inner.loggers.load();
        let Some(logger) = loggers.chunks.iter().find(|logger| name.is_none_or(|name| logger.name == name)) else {
            return false;
        };
        self.append(&logger.file, |out| {
            if !logger.timestamp_format.is_empty() {
                custom::strftime(out, &logger.timestamp_format, self.inner.clock.now());
                out.push(b' ');
            }
            out.extend_from_slice(text);
            if logger.add_newline {
                out.push(b'\n');
            }
        });
        true
    }

    fn attempt(&self, kind: Kind, now: Time, envelope: &Envelope, attempt: &Attempt<'_>) {
        let loggers = self.inner.loggers.load();
        self.message(&loggers, &Facts::attempt(kind, now, loggers.hires, envelope, attempt));
    }

    fn message(&self, loggers: &Loggers, facts: &Facts<'_>) {
        let kind = facts.kind;
        for logger in loggers.mains.iter().filter(|logger| logger.switches.wants(kind)) {
            match (kind, &logger.main, &logger.reject) {
                (Kind::OutOfBand, ..) => {}
                (Kind::Rejection, _, Some(file)) => self.append(file, |out| rejectlog::write(out, facts)),
                (Kind::Rejection, _, None) => {}
                (_, Some(file), _) => self.append(file, |out| mainlog::write(out, facts)),
                (_, None, _) => {}
            }
        }
        if matches!(kind, Kind::Permanent | Kind::Transient | Kind::OutOfBand) && facts.attempt.class != CLASS_SUBSCRIBE
        {
            for logger in loggers.bounces.iter().filter(|logger| logger.wants(kind)) {
                self.append(&logger.file, |out| bouncelog::write(out, facts, logger.user_string.as_ref()));
            }
        }
        for logger in &loggers.customs {
            if let Some((file, format)) = logger.stage(kind) {
                self.append(file, |out| format.write(out, facts));
            }
        }
        for logger in loggers.jsons.iter().filter(|logger| logger.switches.wants(kind)) {
            self.append(&logger.file, |out| json::write(out, facts));
        }
    }

    fn write_diagnostic(&self, loggers: &Loggers, level: Level, subsystem: Subsystem, text: &str) {
        let now = self.inner.clock.now();
        metrics::DIAGNOSTICS.add(level.name(), 1);
        for file in loggers.panic_files() {
            self.append(file, |out| paniclog::write(out, now, loggers.hires, text));
        }
        for logger in loggers.jsons.iter().filter(|logger| logger.switches.errors) {
            self.append(&logger.file, |out| json::diagnostic(out, now, level, subsystem, text));
        }
        let diagnostic = Diagnostic { time: now, level, subsystem, text: text.to_owned() };
        if loggers.stderr {
            eprintln!("{}", diagnostic.line(&loggers.timestamp_format));
        }
        self.inner.recent.keep(diagnostic);
    }

    fn append(&self, file: &LogFile, write: impl FnOnce(&mut Vec<u8>)) {
        if file.append(write) == Fill::WakeWriter {
            self.inner.signal.notify(false);
        }
    }
}

impl std::fmt::Debug for EventLog {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EventLog").finish_non_exhaustive()
    }
}

impl Signal {
    fn notify(&self, stop: bool) {
        let mut wake = self.wake.lock();
        wake.write = true;
        wake.stop |= stop;
        self.condition.notify_one();
    }
}

fn write_forever(signal: &Signal, inner: &Weak<Inner>) {
    loop {
        {
            let mut wake = signal.wake.lock();
            if !wake.write && !wake.stop {
                signal.condition.wait_for(&mut wake, TICK);
            }
            wake.write = false;
            if wake.stop {
                return;
            }
        }
        let Some(inner) = inner.upgrade() else { return };
        inner.tick();
    }
}

impl Inner {
    fn open_files(&self, now: Time) {
        for file in &self.loggers.load_full().files {
            file.open(now);
        }
    }

    fn tick(self: &Inner) {
        let mut last_check = self.last_check.lock();
        let now = self.clock.now();
        let loggers = self.loggers.load_full();
        loggers.heartbeats(now);
        let check = now.since(*last_check) >= CHECK || now < *last_check;
        if check {
            *last_check = now;
            self.stats.sample(now);
        }
        for file in &loggers.files {
            if check {
                file.follow_path(now);
            }
            file.write_out(now, loggers.rotation.as_ref());
        }
        for file in &loggers.files {
            for news in file.news() {
                self.report(&loggers, now, file, &news);
            }
        }
    }

    /// Tells of a file's trouble in the paniclogs, and on stderr where the trouble is the paniclog's own.
    fn report(&self, loggers: &Loggers, now: Time, about: &LogFile, news: &FileNews) {
        let text = match news {
            FileNews::Failed(reason) => format!("log file {reason}; lines are held back in memory"),
            FileNews::Lost(lines) => format!("log file {}: {lines} lines were lost", about.path().display()),
        };
        let mut told = false;
        for file in loggers.panic_files() {
            if file.fault().is_none() {
                file.append(|out| paniclog::write(out, now, loggers.hires, &text));
                told = true;
            }
        }
        let (level, subsystem) = (Level::Error, Subsystem::Log);
        let diagnostic = Diagnostic { time: now, level, subsystem, text };
        if !told || loggers.stderr {
            eprintln!("{}", diagnostic.line(&loggers.timestamp_format));
        }
        metrics::DIAGNOSTICS.add(level.name(), 1);
        self.recent.keep(diagnostic);
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.signal.notify(true);
        let now = self.clock.now();
        for file in &self.loggers.load_full().files {
            file.write_out(now, None);
        }
    }
}
