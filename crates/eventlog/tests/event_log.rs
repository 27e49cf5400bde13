//! The event log as its users see it: files on disk, a clock that stands still until it is moved.

use ph_eventlog::{
    Attempt, Auth, AuthResult, Bounce, BounceLogger, CLASS_SUBSCRIBE, ChunkLogger, Clock, CustomLogger, CustomStage,
    DebugFlags, EcLogger, EventLog, JsonLogger, Level, LogSettings, Rejection, SettingsError, Stage, Subsystem,
    Switches, Target,
};
use ph_message::{Envelope, Mailbox, Time};
use std::path::Path;
use std::time::Duration;

const START: Time = Time::from_secs(1_800_000_000);

fn target(folder: &Path, name: &str) -> Target {
    Target::new(folder.join(name).to_str().unwrap())
}

fn ec_logger(folder: &Path) -> EcLogger {
    EcLogger {
        mainlog: Some(target(folder, "mainlog.ec")),
        rejectlog: Some(target(folder, "rejectlog.ec")),
        paniclog: Some(target(folder, "paniclog.ec")),
        acctlog: Some(target(folder, "acctlog.ec")),
        ..EcLogger::default()
    }
}

fn settings(folder: &Path, clock: &Clock) -> LogSettings {
    LogSettings { ec_loggers: vec![ec_logger(folder)], clock: clock.clone(), ..LogSettings::default() }
}

fn envelope() -> Envelope {
    Envelope {
        id: "18/00-07149-D7E16B94".parse().unwrap(),
        sender: Mailbox { local: "info".into(), domain: "example.org".into() },
        recipient: Mailbox { local: "bob".into(), domain: "example.com".into() },
        created: START,
        size: 10,
        ..Envelope::default()
    }
}

fn read(folder: &Path, name: &str) -> String {
    std::fs::read_to_string(folder.join(name)).unwrap()
}

#[test]
fn each_event_goes_to_the_files_that_want_it() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let log = EventLog::open(settings(folder, &Clock::fake(START)));
    let attempt = Attempt { stage: Stage::AfterRcptTo, reply: "550 no", class: 10, ..Attempt::NONE };
    log.reception(START, &envelope(), None);
    log.delivery(START, &envelope(), &attempt);
    log.transient(START, &envelope(), &attempt);
    log.permanent(START, &envelope(), &attempt);
    log.transfer(START, &envelope(), &attempt);
    log.rejection(&Rejection { now: START, code: 421, text: "busy", ..Rejection::NONE });
    log.auth(START, &Auth { listener: "*:25", peer: None, user: "u", outcome: AuthResult::Pass });
    log.panic(Level::Error, Subsystem::Smtp, "one\ntwo");
    log.panic(Level::Warning, Subsystem::Smtp, "not at this level");
    log.flush();
    let mainlog = read(folder, "mainlog.ec");
    let kinds: Vec<&str> = mainlog.lines().map(|line| line.split('@').nth(4).unwrap()).collect();
    assert_eq!(kinds, ["R", "D", "T", "P", "X"]);
    assert_eq!(read(folder, "rejectlog.ec").lines().count(), 1);
    assert_eq!(read(folder, "acctlog.ec"), "1800000000@N@*:25@@u@1\n");
    assert_eq!(read(folder, "paniclog.ec"), "1800000000:one\n\ttwo\n");
    assert_eq!(log.recent_diagnostics().len(), 1);
    assert_eq!(log.stats().binding("default").failed, 1);
}

#[test]
fn switches_turn_kinds_of_events_off() {
    let folder = tempfile::tempdir().unwrap();
    let mut settings = settings(folder.path(), &Clock::fake(START));
    settings.ec_loggers[0].switches = Switches { receptions: false, errors: false, ..Switches::ALL };
    let log = EventLog::open(settings);
    log.reception(START, &envelope(), None);
    log.delivery(START, &envelope(), &Attempt::NONE);
    log.panic(Level::Critical, Subsystem::Smtp, "x");
    log.flush();
    assert_eq!(read(folder.path(), "mainlog.ec").lines().count(), 1);
    assert!(!folder.path().join("paniclog.ec").exists() || read(folder.path(), "paniclog.ec").is_empty());
}

#[test]
fn debug_flags_take_effect_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let log = EventLog::open(settings(folder.path(), &Clock::fake(START)));
    log.panic(Level::Debug, Subsystem::Smtp, "no");
    assert!(!log.wants(Level::Debug, Subsystem::Smtp));
    log.set_debug_flags(DebugFlags::default().with(Level::Debug, Subsystem::Smtp));
    log.panic(Level::Debug, Subsystem::Smtp, "yes");
    log.panic(Level::Debug, Subsystem::Dns, "no");
    log.print("printed");
    log.flush();
    assert_eq!(read(folder.path(), "paniclog.ec"), "1800000000:yes\n1800000000:printed\n");
}

#[test]
fn heartbeats_follow_the_clock() {
    let folder = tempfile::tempdir().unwrap();
    let clock = Clock::fake(START);
    let mut settings = settings(folder.path(), &clock);
    settings.bounce_loggers.push(BounceLogger {
        bouncelog: target(folder.path(), "bouncelog.ec"),
        heartbeat_s: 0,
        ..BounceLogger::default()
    });
    let log = EventLog::open(settings);
    clock.advance(Duration::from_secs(59));
    log.flush();
    assert_eq!(read(folder.path(), "mainlog.ec"), "");
    clock.advance(Duration::from_secs(1));
    log.flush();
    log.flush();
    assert_eq!(read(folder.path(), "mainlog.ec"), "1800000060@@@@M1\n");
    assert_eq!(read(folder.path(), "rejectlog.ec"), "1800000060: Marker 1\n");
    assert_eq!(read(folder.path(), "bouncelog.ec"), "");
}

#[test]
fn bounces_of_every_kind_and_the_custom_string() {
    let folder = tempfile::tempdir().unwrap();
    let bouncelog = |name: &str, user_string: Option<&str>, transient_failures| BounceLogger {
        name: name.into(),
        bouncelog: target(folder.path(), name),
        user_string: user_string.map(str::to_owned),
        transient_failures,
        ..BounceLogger::default()
    };
    let log = EventLog::open(LogSettings {
        bounce_loggers: vec![bouncelog("b.ec", None, true), bouncelog("b.cl", Some("mine"), false)],
        clock: Clock::fake(START),
        ..LogSettings::default()
    });
    let attempt = Attempt { stage: Stage::AfterRcptTo, reply: "450 no", class: 22, ..Attempt::NONE };
    log.transient(START, &envelope(), &attempt);
    log.permanent(START, &envelope(), &attempt);
    log.permanent(START, &envelope(), &Attempt { class: CLASS_SUBSCRIBE, ..attempt });
    log.delivery(START, &envelope(), &attempt);
    let bounce =
        Bounce { connection: ph_message::Id::NULL, class: 10, class_name: "", peer: None, text: "gone\r\naway" };
    log.bounce(START, &envelope(), &bounce);
    log.flush();
    let text = read(folder.path(), "b.ec");
    let kinds: Vec<&str> = text.lines().map(|line| line.split('@').nth(4).unwrap()).collect();
    assert_eq!(kinds, ["T", "B", "B"]);
    assert!(text.ends_with("@21@10@10@@550 5.7.1 550 [internal] [oob] gone away\n"), "{text}");
    let text = read(folder.path(), "b.cl");
    assert_eq!(text.lines().count(), 2);
    assert!(text.lines().all(|line| line.ends_with("@mine")), "{text}");
}

#[test]
fn custom_chunk_and_json_loggers_write_theirs() {
    let folder = tempfile::tempdir().unwrap();
    let log = EventLog::open(LogSettings {
        custom_loggers: vec![CustomLogger {
            mainlog: Some(target(folder.path(), "custom.cl")),
            delivery: CustomStage { format: Some("%t %r@%R".into()), file: None },
            ..CustomLogger::default()
        }],
        chunk_loggers: vec![ChunkLogger {
            name: "chunk".into(),
            destination: target(folder.path(), "chunk.cl"),
            timestamp_format: String::new(),
            add_newline: true,
        }],
        json_loggers: vec![JsonLogger {
            name: "json".into(),
            file: target(folder.path(), "events.json"),
            switches: Switches::ALL,
            accounting: true,
            heartbeat_s: 0,
        }],
        clock: Clock::fake(START),
        ..LogSettings::default()
    });
    log.delivery(START, &envelope(), &Attempt::NONE);
    log.reception(START, &envelope(), None);
    assert!(log.chunk(None, b"free text") && log.chunk(Some("chunk"), b"more") && !log.chunk(Some("x"), b""));
    log.auth(START, &Auth { listener: "*:25", peer: None, user: "u", outcome: AuthResult::Fail });
    log.flush();
    assert_eq!(read(folder.path(), "custom.cl"), "1800000000 bob@example.com\n");
    assert_eq!(read(folder.path(), "chunk.cl"), "free text\nmore\n");
    let kinds: Vec<String> = read(folder.path(), "events.json")
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["type"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(kinds, ["delivery", "reception", "authentication"]);
}

#[test]
fn no_line_is_lost_or_split_while_files_are_renamed_and_reopened() {
    let folder = tempfile::tempdir().unwrap();
    let log = EventLog::open(settings(folder.path(), &Clock::system()));
    const THREADS: usize = 4;
    const EVENTS: usize = 5_000;
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| (0..EVENTS).for_each(|_| log.reception(START, &envelope(), None)));
        }
        for number in 0..20 {
            let path = folder.path().join("mainlog.ec");
            let _ = std::fs::rename(&path, folder.path().join(format!("mainlog.ec.{number}")));
            log.reopen();
        }
    });
    drop(log);
    let mut lines = 0;
    for entry in std::fs::read_dir(folder.path()).unwrap() {
        let path = entry.unwrap().path();
        if !path.file_name().unwrap().to_str().unwrap().starts_with("mainlog") {
            continue;
        }
        for line in std::fs::read_to_string(path).unwrap().lines() {
            assert!(
                line.starts_with("1800000000@18/00-07149-D7E16B94@") && line.ends_with("@default@default"),
                "{line}"
            );
            lines += 1;
        }
    }
    assert_eq!(lines, THREADS * EVENTS);
}

#[test]
fn a_full_disk_loses_lines_only_beyond_the_buffer_and_is_told_in_the_paniclog() {
    let folder = tempfile::tempdir().unwrap();
    let mut settings = settings(folder.path(), &Clock::fake(START));
    settings.ec_loggers[0].mainlog = Some(Target::new("/dev/full"));
    let log = EventLog::open(settings);
    log.reception(START, &envelope(), None);
    log.flush();
    log.flush();
    let paniclog = read(folder.path(), "paniclog.ec");
    assert_eq!(paniclog.lines().count(), 1, "told once: {paniclog}");
    assert!(paniclog.contains("/dev/full"), "{paniclog}");
    assert_eq!(log.faults().len(), 1);
}

#[test]
fn a_folder_that_appears_later_gets_the_lines_held_back() {
    let folder = tempfile::tempdir().unwrap();
    // A file stands where the folder should be.
    let place = folder.path().join("logs");
    std::fs::write(&place, "").unwrap();
    let clock = Clock::fake(START);
    let log = EventLog::open(settings(&place, &clock));
    assert!(!log.faults().is_empty());
    log.reception(START, &envelope(), None);
    log.flush();
    std::fs::remove_file(&place).unwrap();
    clock.advance(Duration::from_secs(1));
    log.flush();
    assert_eq!(read(&place, "mainlog.ec").lines().count(), 1);
    assert!(log.faults().is_empty(), "{:?}", log.faults());
}

#[test]
fn loggers_can_be_exchanged_while_events_come_in() {
    let folder = tempfile::tempdir().unwrap();
    let clock = Clock::fake(START);
    let log = EventLog::open(settings(folder.path(), &clock));
    log.reception(START, &envelope(), None);
    let mut other = settings(folder.path(), &clock);
    other.ec_loggers[0].mainlog = Some(target(folder.path(), "other.ec"));
    log.apply(&other);
    log.reception(START, &envelope(), None);
    log.flush();
    assert_eq!(read(folder.path(), "mainlog.ec").lines().count(), 1);
    assert_eq!(read(folder.path(), "other.ec").lines().count(), 1);
    assert!(log.reopen_logger("ec_logger", None) && !log.reopen_logger("ec_logger", Some("nobody")));
}

#[test]
fn two_loggers_of_one_path_share_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let mut settings = settings(folder.path(), &Clock::fake(START));
    settings.ec_loggers.push(ec_logger(folder.path()));
    let log = EventLog::open(settings);
    (0..100).for_each(|_| log.reception(START, &envelope(), None));
    log.flush();
    assert_eq!(read(folder.path(), "mainlog.ec").lines().count(), 200);
}

#[test]
fn unsupported_targets_and_wrong_formats_are_found_by_check() {
    let mut settings = LogSettings { ec_loggers: vec![EcLogger::default()], ..LogSettings::default() };
    assert_eq!(settings.check(), Ok(()));
    settings.ec_loggers[0].mainlog = Some(Target::new("jlog:///var/log/main=>master"));
    settings.ec_loggers[0].rejectlog = Some(Target::new("|/usr/bin/logger"));
    settings.ec_loggers[0].paniclog = Some(Target::new("file:///var/log/panic"));
    settings.custom_loggers.push(CustomLogger {
        name: "c".into(),
        mainlog: None,
        reception: CustomStage { format: Some("%t".into()), file: None },
        delivery: CustomStage { format: Some("%nonsense %zz".into()), file: None },
        ..CustomLogger::default()
    });
    let problems = settings.check().unwrap_err();
    assert_eq!(problems.len(), 4, "{problems:?}");
    assert!(matches!(problems[0], SettingsError::Target { .. }));
    assert_eq!(
        problems[0].to_string(),
        "ec_logger: log target 'jlog:///var/log/main=>master': 'jlog://' is not supported; use a path or file://"
    );
}
