//! A process that commits and is killed at any moment: what it said was acknowledged is there afterwards.
//!
//! The child is this test binary, told by an environment variable to play that part. `POSTHASTE_SOAK=1` kills a thousand
//! of them, each on the spool that the one before left behind.

use bytes::Bytes;
use ph_message::{Body, Content, Envelope, Id, IdSource, Time};
use ph_spool::{Spool, SpoolOptions};
use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

const CHILD: &str = "POSTHASTE_KILL_TEST_SPOOL";

fn options(dir: &Path) -> SpoolOptions {
    SpoolOptions { segment_bytes: 1 << 20, ..SpoolOptions::new(dir) }
}

fn content(id: Id) -> Content {
    let body = vec![id.0 as u8; 500 + (id.0 % 9000) as usize];
    Content::new(Bytes::from(format!("Subject: {id}\r\n\r\n")), Body::Memory(Bytes::from(body)))
}

/// The child's part: commits in eight tasks, says so, finishes every other message, until it is killed.
#[test]
fn child() {
    let Some(dir) = std::env::var_os(CHILD) else { return };
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
    let (spool, _) = Spool::open(options(Path::new(&dir)), &mut |_| {}).expect("opens");
    let ids = Arc::new(IdSource::new(std::process::id(), spool.id_floor()));
    runtime.block_on(async {
        let tasks: Vec<_> = (0..8)
            .map(|_| {
                let (spool, ids) = (spool.clone(), ids.clone());
                tokio::spawn(async move {
                    for nth in 0_u64.. {
                        let now = std::time::UNIX_EPOCH.elapsed().expect("after 1970").as_micros();
                        let id = ids.next(Time(now as i64));
                        let envelope = Arc::new(Envelope { id, ..Envelope::default() });
                        let keys = spool.commit(vec![(envelope, content(id))]).await.expect("commits");
                        say(&format!("ack {id}\n"));
                        if nth % 2 == 0 {
                            say(&format!("done {id}\n"));
                            spool.done(keys[0]);
                        }
                    }
                })
            })
            .collect();
        for task in tasks {
            task.await.expect("no panic");
        }
    });
}

/// One write, so that a line is there whole or not at all.
fn say(line: &str) {
    std::io::stdout().lock().write_all(line.as_bytes()).expect("the parent listens");
    std::io::stdout().flush().expect("the parent listens");
}

#[test]
fn whatever_was_acknowledged_survives_kill_9() {
    let kills = if std::env::var_os("POSTHASTE_SOAK").is_some() { 1000 } else { 12 };
    let dir = tempfile::tempdir().expect("a folder");
    let mut promised: BTreeSet<Id> = BTreeSet::new();
    let mut acknowledged = 0;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    for round in 0..kills {
        let mut child = Command::new(std::env::current_exe().expect("this binary"))
            .args(["--exact", "child", "--nocapture", "--test-threads=1"])
            .env(CHILD, dir.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .expect("a child");
        // Killed after so many lines: the moment differs each time, and no clock is needed.
        let lines_max = 3 + (round * 37) % 400;
        let stdout = child.stdout.take().expect("piped");
        for (nth, line) in BufReader::new(stdout).lines().enumerate() {
            if nth == lines_max {
                child.kill().expect("kills");
            }
            let line = line.expect("text");
            match line.split_once(' ') {
                Some(("ack", id)) => {
                    acknowledged += 1;
                    promised.insert(id.parse().unwrap_or_else(|_| panic!("no id: {line:?}")));
                }
                Some(("done", id)) => drop(promised.remove(&id.parse().expect("an id"))),
                _ => {}
            }
        }
        child.wait().expect("ends");
        let mut found = Vec::new();
        let (spool, report) = Spool::open(options(dir.path()), &mut |one| found.push(one)).expect("opens");
        assert_eq!(report.damage, [], "round {round}");
        let ids: BTreeSet<Id> = found.iter().map(|one| one.summary.id).collect();
        let lost: Vec<_> = promised.difference(&ids).collect();
        assert!(lost.is_empty(), "round {round}: lost {lost:?}");
        for one in &found {
            let stored = runtime.block_on(spool.read(one.key)).expect("whole");
            let want = content(one.summary.id);
            assert_eq!(stored.content.head(), want.head());
            assert!(matches!((stored.content.body(), want.body()), (Body::Memory(a), Body::Memory(b)) if a == b));
            // What nobody was promised goes, and the spool does not fill up.
            if !promised.contains(&one.summary.id) || promised.len() > 2000 && promised.remove(&one.summary.id) {
                spool.done(one.key);
            }
        }
    }
    assert!(acknowledged > kills, "{acknowledged}");
}
