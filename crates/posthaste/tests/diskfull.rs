//! A disk without room, and a disk that fails. The sender is told to come again (452, 451), never that its mail is refused
//! for good; what is queued goes on leaving; and when there is room again, mail is taken without a restart.
//!
//! The full disk is a small tmpfs, the failing one is strace, which answers system calls in the kernel's place.

mod common;

use common::strain::{self, NextHop};
use common::{Client, Server, wait_for};
use ph_load::SinkOptions;
use std::collections::BTreeSet;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// A tmpfs; unmounted when dropped.
struct SmallDisk(PathBuf);

impl SmallDisk {
    /// `None` where the test cannot mount: not root, or in a container without the right. Under CI the latter fails.
    fn mount(at: &Path, size: &str) -> Option<SmallDisk> {
        if !strain::is_root("the test of a full disk") {
            return None;
        }
        std::fs::create_dir_all(at).expect("the folder can be made");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={size},mode=0755"), "tmpfs"])
            .arg(at)
            .output()
            .expect("mount runs");
        if mounted.status.success() {
            return Some(SmallDisk(at.to_owned()));
        }
        let reason = String::from_utf8_lossy(&mounted.stderr).into_owned();
        assert!(std::env::var_os("CI").is_none(), "a tmpfs cannot be mounted: {reason}");
        println!("a tmpfs cannot be mounted, the test of a full disk is left out: {reason}");
        None
    }

    /// Takes all the room that is left, and says how much it was.
    fn fill(&self) -> u64 {
        let mut ballast = std::fs::File::create(self.0.join("ballast")).expect("a file can be made");
        let mut octets = 0;
        for size in [1 << 20, 4096] {
            let block = vec![0; size];
            while ballast.write_all(&block).is_ok() {
                octets += size as u64;
            }
        }
        octets
    }

    fn make_room(&self) {
        std::fs::remove_file(self.0.join("ballast")).expect("the ballast can be removed");
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: a server that a failed test left behind may still have files open.
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

/// What clients were told.
#[derive(Default)]
struct Told {
    next_id: AtomicU64,
    acknowledged: Mutex<BTreeSet<u64>>,
    refusals: Mutex<Vec<String>>,
}

impl Told {
    fn refused(&self) -> usize {
        self.refusals.lock().expect("no panic").len()
    }

    fn acknowledged(&self) -> usize {
        self.acknowledged.lock().expect("no panic").len()
    }

    /// Sends one message; true when it was taken.
    fn send(&self, client: &mut Client, size: usize) -> bool {
        let id = self.next_id.fetch_add(1, Ordering::Relaxed) + 1;
        for command in ["MAIL FROM:<load@sender.example>", "RCPT TO:<r@load.example>", "DATA"] {
            let reply = client.command(command);
            if !reply.starts_with(['2', '3']) {
                self.refusals.lock().expect("no panic").push(format!("{command}: {reply}"));
                client.command("RSET");
                return false;
            }
        }
        client.send(strain::numbered(id, size));
        let reply = client.reply();
        if reply.starts_with("250") {
            self.acknowledged.lock().expect("no panic").insert(id);
            return true;
        }
        self.refusals.lock().expect("no panic").push(reply);
        false
    }

    /// Four clients send at once until `enough` says stop. Returns when they have ended.
    fn storm(self: &Arc<Told>, server: &Server, size: usize, enough: impl Fn(&Told) -> bool + Send + Sync + 'static) {
        let enough = Arc::new(enough);
        let deadline = Instant::now() + common::PATIENCE;
        let clients: Vec<_> = (0..4)
            .map(|_| {
                let (told, enough, to) = (self.clone(), enough.clone(), server.smtp());
                std::thread::spawn(move || {
                    let mut client = hello(to);
                    while !enough(&told) {
                        assert!(Instant::now() < deadline, "{} taken, {} refused", told.acknowledged(), told.refused());
                        told.send(&mut client, size);
                    }
                })
            })
            .collect();
        for client in clients {
            client.join().expect("the client does not fail");
        }
    }

    /// Every refusal begins with `prefix`.
    fn assert_refusals(&self, prefix: &str) {
        let refusals = self.refusals.lock().expect("no panic");
        let other = refusals.iter().find(|reply| !reply.starts_with(prefix));
        assert!(other.is_none(), "a client was told {other:?}");
    }

    /// What was acknowledged, and nothing else, came once.
    fn assert_delivered_once(&self, next: &NextHop) {
        let acknowledged = self.acknowledged.lock().expect("no panic").clone();
        let came: BTreeSet<u64> = next.sink.ids().keys().copied().collect();
        let lost: Vec<_> = acknowledged.difference(&came).collect();
        assert!(lost.is_empty(), "{} of {} are lost: {lost:?}", lost.len(), acknowledged.len());
        let uncalled: Vec<_> = came.difference(&acknowledged).collect();
        assert!(uncalled.is_empty(), "delivered though the sender was told to keep it: {uncalled:?}");
        assert_eq!(next.duplicates(), 0);
    }
}

fn hello(to: std::net::SocketAddr) -> Client {
    let (mut client, greeting) = Client::connect(to);
    assert!(greeting.starts_with("220"), "{greeting}");
    let reply = client.command("EHLO client.test");
    assert!(reply.starts_with("250"), "{reply}");
    client
}

fn wait_until_delivered(told: &Told, next: &NextHop) {
    let wanted = told.acknowledged();
    wait_for("all that was acknowledged", || (next.sink.ids().len() >= wanted).then_some(()));
}

const SETTINGS: &str = "Spool_Segment_Size = 1m\nSpool_Compact_After = 1\n";

/// Mail stays in the queue, also over a restart, until `release`.
fn hold(dir: &Path, next: &NextHop, settings: &str) {
    strain::relay(dir, &next.gateway(), &format!("{settings}Suspend_Delivery = true\n"));
}

fn release(server: &Server, next: &NextHop, settings: &str) {
    strain::relay(&server.dir, &next.gateway(), settings);
    server.signal("-HUP");
}

#[test]
fn a_full_spool_is_452_and_drains_and_takes_mail_again_by_itself() {
    let keep = tempfile::tempdir().expect("a folder");
    let dir = keep.path();
    let Some(_disk) = SmallDisk::mount(&dir.join("spool"), "24m") else { return };
    let next = NextHop::start(SinkOptions::default());
    hold(dir, &next, SETTINGS);
    let mut server = Server::run(dir);

    let told = Arc::new(Told::default());
    told.storm(&server, 20_000, |told| told.refused() >= 100);
    told.assert_refusals("452 4.3.1 ");
    let when_full = told.acknowledged();
    assert!(when_full * 20_000 > 12 << 20, "most of the disk holds mail: {when_full} messages");

    // A body that goes into a file of its own is told the same, and so is a sender after a restart on the full disk.
    let mut client = hello(server.smtp());
    assert!(!told.send(&mut client, 1 << 20));
    server.kill();
    server = Server::run(dir);
    assert_eq!(strain::queued(&server), when_full as u64, "the restart finds what was acknowledged");
    let refused = told.refused();
    told.storm(&server, 20_000, move |told| told.refused() >= refused + 20);
    told.assert_refusals("452 4.3.1 ");
    assert_eq!(next.sink.stats().messages, 0);

    // The queue flows out while senders go on knocking; what it frees is used again without a restart.
    let mut client = hello(server.smtp());
    release(&server, &next, SETTINGS);
    let before = told.acknowledged();
    told.storm(&server, 20_000, move |told| told.acknowledged() >= before + 500);
    // Files of their own need room that the log does not hold ready: it comes when the queue has gone.
    wait_for("room for a large body", || told.send(&mut client, 1 << 20).then_some(()));
    told.assert_refusals("452 4.3.1 ");
    wait_until_delivered(&told, &next);
    let acknowledged = told.acknowledged.lock().expect("no panic").clone();
    let came = next.sink.ids();
    assert!(acknowledged.iter().all(|id| came.contains_key(id)), "nothing is lost");
    println!("full at {when_full} messages; {} refused in all, {} delivered", told.refused(), came.len());
    assert_eq!(server.stop(), Some(0));
}

#[test]
fn mail_flows_out_of_a_full_disk_and_in_again_when_others_make_room() {
    let keep = tempfile::tempdir().expect("a folder");
    let dir = keep.path();
    let Some(disk) = SmallDisk::mount(&dir.join("spool"), "64m") else { return };
    let next = NextHop::start(SinkOptions::default());
    hold(dir, &next, SETTINGS);
    let mut server = Server::run(dir);
    let told = Arc::new(Told::default());
    told.storm(&server, 20_000, |told| told.acknowledged() >= 300);
    told.assert_refusals("never");

    // Somebody else's file takes the rest.
    let taken = disk.fill();
    assert!(taken > 20 << 20, "{taken}");
    told.storm(&server, 20_000, |told| told.refused() >= 50);
    told.assert_refusals("452 4.3.1 ");

    // No room at all, and still every `done` record finds its place: all of the queue leaves.
    release(&server, &next, SETTINGS);
    wait_until_delivered(&told, &next);
    wait_for_empty_queue(&server);

    let refused = told.refused();
    disk.make_room();
    let before = told.acknowledged();
    told.storm(&server, 20_000, move |told| told.acknowledged() >= before + 2000);
    // For a tenth of a second the spool answers from memory that there is no room, instead of asking the disk each time.
    assert!(told.refused() < refused + 1000, "{} refused after there was room", told.refused() - refused);
    let late = told.refused() - refused;
    println!("{refused} refused while there was no room, {late} after there was; {} taken in all", told.acknowledged());
    told.assert_refusals("452 4.3.1 ");
    wait_until_delivered(&told, &next);
    wait_for_empty_queue(&server);
    told.assert_delivered_once(&next);
    assert_eq!(server.stop(), Some(0));
}

fn wait_for_empty_queue(server: &Server) {
    wait_for("an empty queue", || (strain::queued(server) == 0).then_some(()));
}

/// Starts the server with some of its system calls answered by strace in the kernel's place. The tracer is a grandchild:
/// the process started here becomes the server.
fn with_faults(dir: &Path, call: &str, fault: &str) -> Option<Server> {
    if !Path::new("/usr/bin/strace").exists() {
        assert!(std::env::var_os("CI").is_none(), "the tests need strace: run `make test`");
        println!("strace is not installed: the test of a failing disk is left out");
        return None;
    }
    let mut command = Command::new("strace");
    command.args(["-D", "-f", "-qq", "-o"]).arg(dir.join("trace"));
    command.args(["-e", &format!("trace={call}"), "-e", &format!("inject={call}:{fault}")]);
    command.arg(env!("CARGO_BIN_EXE_posthaste"));
    match Server::try_run_as(command, dir) {
        Ok(server) => Some(server),
        Err(text) if text.contains("Operation not permitted") => {
            println!("strace may not trace here, the test of a failing disk is left out: {text}");
            None
        }
        Err(text) => panic!("the server did not start:\n{text}"),
    }
}

#[test]
fn a_failing_disk_is_451_and_what_was_refused_is_not_delivered() {
    // The call, what it answers, and what the sender is told then. Counted for each thread: the committer does nearly all.
    let cases = [
        ("fdatasync", "error=EIO:when=30..60", "451 4.3.0 "),
        ("pwritev", "error=EIO:when=30..60", "451 4.3.0 "),
        ("pwritev", "error=ENOSPC:when=30..60", "452 4.3.1 "),
    ];
    for (call, fault, refusal) in cases {
        let keep = tempfile::tempdir().expect("a folder");
        let dir = keep.path();
        let next = NextHop::start(SinkOptions::default());
        strain::relay(dir, &next.gateway(), "Spool_Segment_Size = 4m\n");
        let Some(mut server) = with_faults(dir, call, fault) else { return };
        let told = Arc::new(Told::default());
        told.storm(&server, 5_000, |told| told.refused() >= 1 && told.acknowledged() >= 300);
        told.assert_refusals(refusal);
        wait_until_delivered(&told, &next);
        wait_for_empty_queue(&server);
        told.assert_delivered_once(&next);
        println!(
            "{call} {fault}: {} refused with {refusal}, {} taken, all delivered once",
            told.refused(),
            told.acknowledged()
        );
        assert_eq!(server.stop(), Some(0), "{call}");
    }
}

#[test]
fn nothing_acknowledged_is_lost_when_the_process_dies_after_failed_syncs() {
    let keep = tempfile::tempdir().expect("a folder");
    let dir = keep.path();
    let next = NextHop::start(SinkOptions::default());
    let settings = "Spool_Segment_Size = 4m\n";
    hold(dir, &next, settings);
    // Every fifth sync fails, for as long as the server lives.
    let Some(mut server) = with_faults(dir, "fdatasync", "error=EIO:when=20+5") else { return };
    let told = Arc::new(Told::default());
    told.storm(&server, 5_000, |told| told.refused() >= 30 && told.acknowledged() >= 100);
    told.assert_refusals("451 4.3.0 ");
    server.kill();

    strain::relay(dir, &next.gateway(), settings);
    let server = Server::run(dir);
    next.acknowledged.0.lock().extend(told.acknowledged.lock().expect("no panic").iter());
    next.wait_for_all(&server, Duration::from_secs(20));
    assert_eq!(next.duplicates(), 0);
    println!("{} refused, {} acknowledged and delivered", told.refused(), told.acknowledged());
}
