//! A disk that gives back other octets than it was given: costs the messages whose octets they are, says so in the paniclog
//! with file and offset, keeps a copy for a person to look at, and delivers everything else. What is damaged is never sent.

mod common;

use common::Server;
use common::strain::{self, NextHop};
use ph_load::{GeneratorOptions, SinkOptions};
use std::path::{Path, PathBuf};
use std::time::Duration;

const MESSAGES: u64 = 30;
const DAMAGED: u64 = 11;

/// A stopped server's spool with 30 messages, each a batch of its own.
fn filled(dir: &Path, next: &NextHop, orderly: bool) {
    strain::relay(dir, &next.gateway(), "Suspend_Delivery = true\n");
    let mut server = Server::run(dir);
    let options = GeneratorOptions { sessions: 1, messages: MESSAGES, size: 3000, ..GeneratorOptions::default() };
    let report = next.report(next.send(server.smtp(), options));
    assert_eq!(report.acknowledged, MESSAGES);
    if orderly {
        assert_eq!(server.stop(), Some(0));
    } else {
        server.kill();
    }
    strain::relay(dir, &next.gateway(), "");
}

/// Changes one bit of a message's body where it lies.
fn damage(dir: &Path) -> PathBuf {
    let mark = format!("X-Load-Id: {DAMAGED:012}").into_bytes();
    for entry in std::fs::read_dir(dir.join("spool/log")).expect("the log is there") {
        let path = entry.expect("an entry").path();
        let mut bytes = std::fs::read(&path).expect("it can be read");
        if let Some(at) = bytes.windows(mark.len()).position(|octets| octets == mark) {
            bytes[at + 200] ^= 0x10;
            std::fs::write(&path, bytes).expect("it can be written");
            return path;
        }
    }
    panic!("message {DAMAGED} is not in the log");
}

#[test]
fn one_damaged_message_is_reported_and_all_others_are_delivered() {
    // After a kill the segment is read from end to end; after an orderly stop its index is, and the damage shows when the
    // message is to be sent.
    for orderly in [false, true] {
        let keep = tempfile::tempdir().expect("a folder");
        let dir = keep.path();
        let next = NextHop::start(SinkOptions::default());
        filled(dir, &next, orderly);
        let log = damage(dir);
        let mut server = Server::run(dir);
        common::wait_for("all others", || (next.sink.ids().len() as u64 == MESSAGES - 1).then_some(()));
        let name = log.file_name().expect("a name").to_string_lossy().into_owned();
        let line = server.wait_for_log("paniclog.ec", |line| line.contains(&name));
        println!("after {}: {line}", if orderly { "an orderly stop" } else { "a kill" });
        assert!(line.contains("offset") && line.contains("quarantine"), "{line}");
        let copies = std::fs::read_dir(dir.join("spool/quarantine")).expect("the folder is there").count();
        assert!(copies > 0, "a copy is kept");
        common::wait_for("an empty queue", || (strain::queued(&server) == 0).then_some(()));
        std::thread::sleep(Duration::from_millis(200)); // a delivery that must not be would come now
        assert!(!next.sink.ids().contains_key(&DAMAGED), "what is damaged is not sent");
        assert_eq!((next.sink.ids().len() as u64, next.duplicates()), (MESSAGES - 1, 0));
        assert_eq!(server.stop(), Some(0));
        // It is not reported for ever.
        std::fs::remove_file(dir.join("paniclog.ec")).expect("the log can be removed");
        let mut server = Server::run(dir);
        assert_eq!(strain::queued(&server), 0);
        assert!(!server.log("paniclog.ec").contains("quarantine"), "{}", server.log("paniclog.ec"));
        assert_eq!(server.stop(), Some(0));
    }
}
