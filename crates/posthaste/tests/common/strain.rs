//! What the reliability tests share: long or short form, randomness that can be had again, a sink with a generator, and a
//! look at a process's memory.
//!
//! `POSTHASTE_SOAK=1` asks for the long forms, `POSTHASTE_SEED=N` for the random choices of a former run.

use super::{Server, base_config, write};
use ph_load::{Acknowledged, GeneratorOptions, Report, SinkHandle, SinkOptions};
use std::collections::HashSet;
use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

/// Whether the long form of a test is asked for.
pub fn soak() -> bool {
    std::env::var_os("POSTHASTE_SOAK").is_some_and(|value| value != "0")
}

/// Random choices (SplitMix64), the same for the same seed.
pub struct Random(u64);

impl Random {
    /// From `POSTHASTE_SEED` or the clock; the seed is printed, so that a failure can be had again.
    pub fn seeded() -> Random {
        let asked = std::env::var("POSTHASTE_SEED").ok().and_then(|seed| seed.parse().ok());
        let clock = || {
            let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
            u64::try_from(now.unwrap_or_default().as_micros()).unwrap_or(0)
        };
        let seed = asked.unwrap_or_else(clock);
        println!("POSTHASTE_SEED={seed}");
        Random(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// From `low` to `high`, both included.
    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.next() % (high - low + 1)
    }

    pub fn millis(&mut self, low: u64, high: u64) -> Duration {
        Duration::from_millis(self.between(low, high))
    }

    pub fn one_in(&mut self, count: u64) -> bool {
        self.next().is_multiple_of(count)
    }
}

/// The next hop, in this process: it outlives every server, and knows what came, and how often.
pub struct NextHop {
    runtime: tokio::runtime::Runtime,
    pub sink: SinkHandle,
    pub acknowledged: Acknowledged,
}

impl NextHop {
    pub fn start(options: SinkOptions) -> NextHop {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
        let sink = runtime.block_on(ph_load::sink::run(SinkOptions { record_ids: true, ..options }));
        NextHop { runtime, sink: sink.expect("the sink starts"), acknowledged: Acknowledged::default() }
    }

    /// `Gateway = …` for a configuration: all mail goes to the sink.
    pub fn gateway(&self) -> String {
        format!("Gateway = \"[127.0.0.1]:{}\"\n", self.sink.address().port())
    }

    /// Sends in the background; `acknowledged` grows meanwhile.
    pub fn send(&self, to: SocketAddr, options: GeneratorOptions) -> tokio::task::JoinHandle<Report> {
        let options = GeneratorOptions { to, ..options };
        self.runtime.spawn(ph_load::generate(options, self.acknowledged.clone()))
    }

    pub fn report(&self, sending: tokio::task::JoinHandle<Report>) -> Report {
        self.runtime.block_on(sending).expect("the generator does not panic")
    }

    /// Load ids that were acknowledged and that the sink does not have.
    pub fn missing(&self) -> Vec<u64> {
        let came = self.sink.ids();
        let acknowledged: HashSet<u64> = self.acknowledged.0.lock().iter().copied().collect();
        acknowledged.into_iter().filter(|id| !came.contains_key(id)).collect()
    }

    /// How many deliveries were one too many.
    pub fn duplicates(&self) -> u64 {
        self.sink.ids().values().map(|times| u64::from(times - 1)).sum()
    }

    /// Waits until the queue of `server` is empty and the sink has all that was acknowledged. Fails when nothing has moved
    /// for `still`.
    pub fn wait_for_all(&self, server: &Server, still: Duration) {
        let mut before = (usize::MAX, u64::MAX);
        let mut moved = Instant::now();
        loop {
            let now = (self.missing().len(), queued(server));
            if now == (0, 0) {
                return;
            }
            if now != before {
                (before, moved) = (now, Instant::now());
            }
            assert!(
                moved.elapsed() < still,
                "{} acknowledged messages did not come to the sink, {} are in the queue, and nothing moves:\n{}",
                now.0,
                now.1,
                explanation(server)
            );
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

impl Server {
    /// The exit code of a process that was told to end and did. Waits for it as long as `stop` does.
    pub fn wait(&mut self) -> Option<i32> {
        let deadline = Instant::now() + super::PATIENCE;
        loop {
            if let Some(code) = self.has_ended() {
                return code;
            }
            assert!(Instant::now() < deadline, "the server did not end");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// The exit code if the process is no more; `Some(None)`: a signal ended it.
    pub fn has_ended(&mut self) -> Option<Option<i32>> {
        self.child.try_wait().expect("wait works").map(|status| status.code())
    }
}

/// Messages in the queue: due, waiting, and on their way.
pub fn queued(server: &Server) -> u64 {
    let summary = server.console("summary");
    let line = summary.lines().find_map(|line| line.trim().strip_prefix("Total Queue Size:"));
    line.and_then(|number| number.trim().parse().ok()).unwrap_or_else(|| panic!("no queue size in:\n{summary}"))
}

/// Why the mail of a server does not leave, in the words of its console and its log.
fn explanation(server: &Server) -> String {
    let mut text = server.console("mailq") + &server.console("queue find 5");
    let ids: Vec<String> = text
        .lines()
        .filter(|line| line.starts_with('['))
        .filter_map(|line| line.split(' ').nth(1))
        .map(Into::into)
        .collect();
    let log = server.log("mainlog.ec");
    for id in ids {
        text += &server.console(&format!("message details {id}"));
        text += &server.console(&format!("queue explain {id}"));
        log.lines().filter(|line| line.contains(&id)).for_each(|line| text += &format!("{line}\n"));
    }
    text
}

/// A folder with a configuration: relays for loopback, to `gateway`; `extra` follows.
pub fn relay(dir: &Path, gateway: &str, extra: &str) {
    let text = format!(
        "Relay_Hosts = ( 127.0.0.0/8 )\n{gateway}{extra}\n\
         ESMTP_Listener {{ SMTP_Extensions = ( ENHANCEDSTATUSCODES )\n Listen \"127.0.0.1:0\" {{}} }}\n"
    );
    replace(&dir.join("posthaste.conf"), &base_config(dir, &text));
}

/// Writes a file as one that a running server may read at any moment has to be written: it finds the old or the new one, and never
/// a part, which would be another configuration (one without `Retry_Interval`, say, by which mail then waits).
pub fn replace(path: &Path, text: &str) {
    let new = path.with_extension("new");
    write(&new, text);
    std::fs::rename(&new, path).expect("a file can be renamed in its folder");
}

/// The largest resident size that a process has had, in KiB.
pub fn peak_kib(pid: u32) -> u64 {
    status_number(pid, "VmHWM:")
}

/// A number of `/proc/PID/status`.
pub fn status_number(pid: u32, name: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|rest| rest.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}

/// Whether this process is root. Where it is not, the test says what was left out.
pub fn is_root(what: &str) -> bool {
    let root = status_number(std::process::id(), "Uid:") == 0;
    if !root {
        println!("not root: {what} is left out");
    }
    root
}

/// Lets this process open as many files as the system allows it.
pub fn raise_open_files() -> u64 {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).expect("limits can be read");
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).expect("the soft limit may go up to the hard one");
    hard
}

/// A message of about `size` octets with a load id, ready for the wire, with its end.
pub fn numbered(id: u64, size: usize) -> Vec<u8> {
    let mut message = format!(
        "From: <load@sender.example>\r\nTo: <r@load.example>\r\nSubject: {id}\r\n\
         Date: Wed, 25 Nov 2026 10:00:00 +0000\r\nMessage-ID: <{id}@sender.example>\r\nX-Load-Id: {id}\r\n\r\n"
    )
    .into_bytes();
    while message.len() < size {
        message.extend_from_slice(
            b"All work and no play makes Jack a dull boy, and the spool a full disk, line by line.\r\n",
        );
    }
    message.extend_from_slice(b".\r\n");
    message
}
