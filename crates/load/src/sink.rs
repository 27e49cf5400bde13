//! A receiving server for tests, demos and benchmarks: takes mail and forgets it, or puts off and refuses it by pattern.
//!
//! One task a connection; all commands that one read brought are answered with one write, so that a pipelining client costs
//! two system calls a message. It is no mail server: it neither checks addresses nor keeps anything safe.

use crate::pattern::Pattern;
use bytes::{Buf, BytesMut};
use memchr::memmem;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// The longest command line that is read.
const LINE_MAX: usize = 16 << 10;
/// The largest message that is taken.
const MESSAGE_MAX: usize = 256 << 20;
/// The header of a message is searched for its load id this far.
const ID_SEARCH_MAX: usize = 4096;

#[derive(Clone, Debug)]
pub struct SinkOptions {
    pub listen: SocketAddr,
    /// Recipients that get `451`.
    pub defer: Vec<String>,
    /// How often each recipient of `defer` is put off before it is taken; 0: always.
    pub defer_times: u32,
    /// So many of a hundred messages get `451` after the data, at random.
    pub defer_percent: u32,
    /// Recipients that get `550`.
    pub refuse: Vec<String>,
    /// Wait before the reply to the data.
    pub delay: Duration,
    /// Remember the load ids of what came.
    pub record_ids: bool,
    /// Write each message into this folder as `N.eml`.
    pub store: Option<PathBuf>,
    /// Offer PIPELINING.
    pub pipelining: bool,
}

impl Default for SinkOptions {
    fn default() -> SinkOptions {
        SinkOptions {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            defer: Vec::new(),
            defer_times: 0,
            defer_percent: 0,
            refuse: Vec::new(),
            delay: Duration::ZERO,
            record_ids: false,
            store: None,
            pipelining: true,
        }
    }
}

/// What came so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct SinkStats {
    pub connections: u64,
    /// Messages taken.
    pub messages: u64,
    /// Recipients of messages that were taken.
    pub recipients: u64,
    pub deferred: u64,
    pub refused: u64,
    pub octets: u64,
}

/// A running sink; it stops when the last handle is dropped.
#[derive(Clone)]
pub struct SinkHandle {
    address: SocketAddr,
    shared: Arc<Shared>,
    _task: Arc<Running>,
}

struct Running(tokio::task::JoinHandle<()>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl SinkHandle {
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn stats(&self) -> SinkStats {
        let at = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let counters = &self.shared.counters;
        SinkStats {
            connections: at(&counters.connections),
            messages: at(&counters.messages),
            recipients: at(&counters.recipients),
            deferred: at(&counters.deferred),
            refused: at(&counters.refused),
            octets: at(&counters.octets),
        }
    }

    /// The load ids that came, each with how often it came. Empty unless `record_ids` is set.
    pub fn ids(&self) -> HashMap<u64, u32> {
        self.shared.ids.lock().clone()
    }
}

struct Shared {
    options: SinkOptions,
    defer: Vec<Pattern>,
    refuse: Vec<Pattern>,
    deferrals: Mutex<HashMap<Vec<u8>, u32>>,
    ids: Mutex<HashMap<u64, u32>>,
    counters: Counters,
}

#[derive(Default)]
struct Counters {
    connections: AtomicU64,
    messages: AtomicU64,
    recipients: AtomicU64,
    deferred: AtomicU64,
    refused: AtomicU64,
    octets: AtomicU64,
}

/// Binds and starts a sink on the present runtime.
pub async fn run(options: SinkOptions) -> io::Result<SinkHandle> {
    if let Some(folder) = &options.store {
        std::fs::create_dir_all(folder)?;
    }
    let listener = TcpListener::bind(options.listen).await?;
    let address = listener.local_addr()?;
    let patterns = |texts: &[String]| texts.iter().map(|text| Pattern::new(text)).collect();
    let shared = Arc::new(Shared {
        defer: patterns(&options.defer),
        refuse: patterns(&options.refuse),
        options,
        deferrals: Mutex::default(),
        ids: Mutex::default(),
        counters: Counters::default(),
    });
    let task = tokio::spawn(accept(listener, shared.clone()));
    Ok(SinkHandle { address, shared, _task: Arc::new(Running(task)) })
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    // The connections belong to the set, so that they end with the sink.
    let mut sessions = tokio::task::JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    let _ = stream.set_nodelay(true);
                    shared.counters.connections.fetch_add(1, Ordering::Relaxed);
                    sessions.spawn(Session::new(shared.clone()).serve(stream));
                }
                // Out of descriptors: let the sessions that are open end first.
                Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
            },
            Some(_) = sessions.join_next() => {}
        }
    }
}

enum State {
    Commands,
    /// In a body; the octets before `scanned` hold no end of data.
    Body {
        scanned: usize,
    },
    Closing,
}

struct Session {
    shared: Arc<Shared>,
    state: State,
    accepted: u64,
    out: Vec<u8>,
    dice: u64,
}

impl Session {
    fn new(shared: Arc<Shared>) -> Session {
        let dice = shared.counters.connections.load(Ordering::Relaxed);
        Session { shared, state: State::Commands, accepted: 0, out: b"220 sink ESMTP\r\n".to_vec(), dice }
    }

    async fn serve(mut self, mut stream: TcpStream) {
        let mut input = BytesMut::with_capacity(64 << 10);
        loop {
            if !self.out.is_empty() {
                if stream.write_all(&self.out).await.is_err() {
                    return;
                }
                self.out.clear();
            }
            if matches!(self.state, State::Closing) {
                return;
            }
            input.reserve(16 << 10);
            match stream.read_buf(&mut input).await {
                Ok(0) | Err(_) => return,
                Ok(_) => {}
            }
            if self.take(&mut input) && !self.shared.options.delay.is_zero() {
                tokio::time::sleep(self.shared.options.delay).await;
            }
        }
    }

    /// Works off what has come; true when a message ended in it.
    fn take(&mut self, input: &mut BytesMut) -> bool {
        let mut ended = false;
        loop {
            match self.state {
                State::Closing => return ended,
                State::Body { scanned } => match end_of_data(input, scanned) {
                    Some(end) => {
                        self.message(&input[..end]);
                        // A body that is empty ends with the dot alone.
                        let mark = if end == 0 && input.starts_with(b".\r\n") { 3 } else { 5 };
                        input.advance(end + mark);
                        self.state = State::Commands;
                        ended = true;
                    }
                    None if input.len() > MESSAGE_MAX => return self.close(b"552 too large\r\n"),
                    None => {
                        self.state = State::Body { scanned: input.len().saturating_sub(4) };
                        return ended;
                    }
                },
                State::Commands => match memchr::memchr(b'\n', input) {
                    Some(end) => {
                        let line = input.split_to(end + 1);
                        self.command(line.trim_ascii_end());
                    }
                    None if input.len() > LINE_MAX => return self.close(b"500 line too long\r\n"),
                    None => return ended,
                },
            }
        }
    }

    fn close(&mut self, reply: &[u8]) -> bool {
        self.out.extend_from_slice(reply);
        self.state = State::Closing;
        false
    }

    fn command(&mut self, line: &[u8]) {
        let verb = line.get(..4).unwrap_or(line).to_ascii_uppercase();
        let reply: &[u8] = match verb.as_slice() {
            b"MAIL" => {
                self.accepted = 0;
                b"250 2.1.0 ok\r\n"
            }
            b"RCPT" => self.recipient(line),
            b"DATA" if self.accepted == 0 => b"503 5.5.1 no recipient\r\n",
            b"DATA" => {
                self.state = State::Body { scanned: 0 };
                b"354 go on\r\n"
            }
            b"EHLO" if self.shared.options.pipelining => {
                b"250-sink\r\n250-PIPELINING\r\n250-8BITMIME\r\n250-SMTPUTF8\r\n250-ENHANCEDSTATUSCODES\r\n250 SIZE\r\n"
            }
            b"EHLO" => b"250-sink\r\n250-8BITMIME\r\n250 SIZE\r\n",
            b"RSET" => {
                self.accepted = 0;
                b"250 2.0.0 ok\r\n"
            }
            b"HELO" | b"NOOP" => b"250 2.0.0 ok\r\n",
            b"QUIT" => {
                self.state = State::Closing;
                b"221 2.0.0 bye\r\n"
            }
            _ => b"500 5.5.2 unknown command\r\n",
        };
        self.out.extend_from_slice(reply);
    }

    fn recipient(&mut self, line: &[u8]) -> &'static [u8] {
        let shared = &self.shared;
        if !shared.refuse.is_empty() || !shared.defer.is_empty() {
            let start = memchr::memchr(b'<', line).map_or(0, |at| at + 1);
            let end = memchr::memchr(b'>', line).unwrap_or(line.len()).max(start);
            let address = &line[start..end];
            if shared.refuse.iter().any(|pattern| pattern.matches(address)) {
                shared.counters.refused.fetch_add(1, Ordering::Relaxed);
                return b"550 5.1.1 no such user here\r\n";
            }
            if shared.defer.iter().any(|pattern| pattern.matches(address)) && self.put_off(address) {
                shared.counters.deferred.fetch_add(1, Ordering::Relaxed);
                return b"451 4.7.1 come back later\r\n";
            }
        }
        self.accepted += 1;
        b"250 2.1.5 ok\r\n"
    }

    /// Whether this recipient has not been put off often enough.
    fn put_off(&self, address: &[u8]) -> bool {
        let times = self.shared.options.defer_times;
        if times == 0 {
            return true;
        }
        let mut deferrals = self.shared.deferrals.lock();
        let count = deferrals.entry(address.to_ascii_lowercase()).or_default();
        *count += 1;
        *count <= times
    }

    /// A number below 100. Nothing depends on its quality.
    fn chance(&mut self) -> u32 {
        self.dice = self.dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.dice >> 33) % 100) as u32
    }

    fn message(&mut self, content: &[u8]) {
        let percent = self.shared.options.defer_percent;
        if percent > 0 && self.chance() < percent {
            self.shared.counters.deferred.fetch_add(1, Ordering::Relaxed);
            self.accepted = 0;
            self.out.extend_from_slice(b"451 4.3.0 not now\r\n");
            return;
        }
        let counters = &self.shared.counters;
        let number = counters.messages.fetch_add(1, Ordering::Relaxed);
        counters.recipients.fetch_add(self.accepted, Ordering::Relaxed);
        counters.octets.fetch_add(content.len() as u64, Ordering::Relaxed);
        if self.shared.options.record_ids
            && let Some(id) = load_id(content)
        {
            *self.shared.ids.lock().entry(id).or_default() += 1;
        }
        if let Some(folder) = &self.shared.options.store
            && let Err(error) = std::fs::write(folder.join(format!("{number}.eml")), content)
        {
            eprintln!("sink: cannot store message {number}: {error}");
        }
        self.accepted = 0;
        self.out.extend_from_slice(b"250 2.0.0 taken\r\n");
    }
}

/// Where the content ends: before CRLF.CRLF, or at 0 when the first line is the dot.
fn end_of_data(input: &[u8], scanned: usize) -> Option<usize> {
    if scanned == 0 && input.starts_with(b".\r\n") {
        return Some(0);
    }
    let from = scanned.min(input.len());
    memmem::find(&input[from..], b"\r\n.\r\n").map(|at| from + at)
}

/// The number in the field `X-Load-Id`.
fn load_id(content: &[u8]) -> Option<u64> {
    let head = &content[..content.len().min(ID_SEARCH_MAX)];
    let start = memmem::find(head, b"X-Load-Id: ")? + 11;
    let digits = head[start..].iter().take_while(|byte| byte.is_ascii_digit()).count();
    std::str::from_utf8(&head[start..start + digits]).ok()?.parse().ok()
}
