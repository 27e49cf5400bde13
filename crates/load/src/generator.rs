//! The generator: so many messages in so many sessions, and how long each took.
//!
//! Each session keeps one prepared message and changes only the digits of its load id, so that a message costs the system
//! calls and little else. What was acknowledged is remembered by id.

use bytes::BytesMut;
use hdrhistogram::Histogram;
use parking_lot::Mutex;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Digits of an id in the message.
const ID_DIGITS: usize = 12;
/// Latencies are kept in microseconds up to a minute.
const LATENCY_MAX_US: u64 = 60_000_000;

#[derive(Clone, Debug)]
pub struct GeneratorOptions {
    pub to: SocketAddr,
    pub sessions: usize,
    pub messages: u64,
    /// Octets of one message, header included.
    pub size: usize,
    /// Messages a second over all sessions; 0: as fast as it goes.
    pub rate: u64,
    /// MAIL, RCPT and DATA in one packet (RFC 2920).
    pub pipelining: bool,
    /// A new connection for each message.
    pub connection_each: bool,
    /// Recipients of each message.
    pub recipients: usize,
    /// Recipient domains `d0.DOMAIN` to `dN-1.DOMAIN`; 1: `DOMAIN` alone.
    pub domains: u64,
    pub domain: String,
    pub sender: String,
    /// The first load id.
    pub first_id: u64,
    /// Stop after this time.
    pub time_max: Option<Duration>,
    /// How long a reply may take. A server that was killed in the middle of a handshake leaves a connection that nobody
    /// will ever end.
    pub reply_timeout: Duration,
}

impl Default for GeneratorOptions {
    fn default() -> GeneratorOptions {
        GeneratorOptions {
            to: SocketAddr::from(([127, 0, 0, 1], 2525)),
            sessions: 10,
            messages: 1000,
            size: 10 << 10,
            rate: 0,
            pipelining: false,
            connection_each: false,
            recipients: 1,
            domains: 1,
            domain: "load.example".to_owned(),
            sender: "load@sender.example".to_owned(),
            first_id: 1,
            time_max: None,
            reply_timeout: Duration::from_secs(60),
        }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    #[error("cannot connect to {0}: {1}")]
    Connect(SocketAddr, io::Error),
    #[error("the connection broke: {0}")]
    Broken(#[from] io::Error),
    #[error("the server closed the connection")]
    Closed,
    #[error("no reply came within {0:?}")]
    Silent(Duration),
}

/// Percentiles in microseconds.
#[derive(Clone, Copy, Debug, Default, serde::Serialize)]
pub struct Latency {
    pub p50_us: u64,
    pub p90_us: u64,
    pub p99_us: u64,
    pub max_us: u64,
}

impl Latency {
    fn of(histogram: &Histogram<u64>) -> Latency {
        Latency {
            p50_us: histogram.value_at_quantile(0.5),
            p90_us: histogram.value_at_quantile(0.9),
            p99_us: histogram.value_at_quantile(0.99),
            max_us: histogram.max(),
        }
    }
}

/// What one run came to.
#[derive(Clone, Debug, Default, serde::Serialize)]
pub struct Report {
    pub acknowledged: u64,
    /// 4xx and 5xx replies to a command or to the data.
    pub refused: u64,
    /// Sessions that broke; their present message was not acknowledged.
    pub broken: u64,
    pub seconds: f64,
    pub messages_per_second: f64,
    /// From MAIL (with `connection_each`: from connect) to the `250` after the data.
    pub transaction: Latency,
    /// From the final dot to its `250`.
    pub commit: Latency,
    /// The first few refusals, for a person.
    pub examples: Vec<String>,
}

/// The load ids that were acknowledged.
#[derive(Clone, Debug, Default)]
pub struct Acknowledged(pub Arc<Mutex<Vec<u64>>>);

struct Shared {
    options: GeneratorOptions,
    next: AtomicU64,
    begun: Instant,
    acknowledged: Acknowledged,
    totals: Mutex<Totals>,
}

struct Totals {
    report: Report,
    transaction: Histogram<u64>,
    commit: Histogram<u64>,
}

/// Sends what the options ask for. `acknowledged` may be looked at while it runs.
pub async fn generate(options: GeneratorOptions, acknowledged: Acknowledged) -> Report {
    let histogram = || Histogram::new_with_bounds(1, LATENCY_MAX_US, 3).expect("the bounds are in order");
    let totals = Totals { report: Report::default(), transaction: histogram(), commit: histogram() };
    let shared = Arc::new(Shared {
        next: AtomicU64::new(0),
        begun: Instant::now(),
        acknowledged,
        totals: Mutex::new(totals),
        options,
    });
    let mut sessions = tokio::task::JoinSet::new();
    for _ in 0..shared.options.sessions.max(1) {
        sessions.spawn(session(shared.clone()));
    }
    while sessions.join_next().await.is_some() {}
    let seconds = shared.begun.elapsed().as_secs_f64();
    let totals = shared.totals.lock();
    let mut report = totals.report.clone();
    report.seconds = seconds;
    report.messages_per_second = report.acknowledged as f64 / seconds.max(1e-9);
    report.transaction = Latency::of(&totals.transaction);
    report.commit = Latency::of(&totals.commit);
    report
}

async fn session(shared: Arc<Shared>) {
    let mut local = Local::new(&shared);
    let mut connection = None;
    while let Some(id) = shared.claim().await {
        let begun = Instant::now();
        let outcome = local.message(&shared, &mut connection, id, begun).await;
        if outcome.is_err() || shared.options.connection_each {
            if outcome.is_err() {
                local.report.broken += 1;
                local.example(outcome.err().map(|error| error.to_string()).unwrap_or_default());
            }
            connection = None;
        }
    }
    if let Some(mut connection) = connection {
        let _ = connection.exchange(b"QUIT\r\n").await;
    }
    local.add_to(&shared);
}

impl Shared {
    /// The next message's number, at its time; `None` when all are taken.
    async fn claim(&self) -> Option<u64> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        if number >= self.options.messages || self.options.time_max.is_some_and(|max| self.begun.elapsed() > max) {
            return None;
        }
        if let Some(due_us) = number.saturating_mul(1_000_000).checked_div(self.options.rate) {
            tokio::time::sleep_until((self.begun + Duration::from_micros(due_us)).into()).await;
        }
        Some(self.options.first_id + number)
    }
}

/// What a session keeps to itself until it ends.
struct Local {
    content: Vec<u8>,
    id_at: usize,
    commands: Vec<u8>,
    report: Report,
    transaction: Histogram<u64>,
    commit: Histogram<u64>,
}

impl Local {
    fn new(shared: &Shared) -> Local {
        let (content, id_at) = content(&shared.options);
        let totals = shared.totals.lock();
        Local {
            content,
            id_at,
            commands: Vec::new(),
            report: Report::default(),
            transaction: totals.transaction.clone(),
            commit: totals.commit.clone(),
        }
    }

    async fn message(
        &mut self,
        shared: &Shared,
        connection: &mut Option<Connection>,
        id: u64,
        begun: Instant,
    ) -> Result<(), LoadError> {
        if connection.is_none() {
            *connection = Some(Connection::open(&shared.options).await?);
        }
        let connection = connection.as_mut().expect("it was just opened");
        if let Some(refusal) = self.envelope(shared, connection, id).await? {
            self.refused(refusal);
            connection.exchange(b"RSET\r\n").await?;
            return Ok(());
        }
        write_id(&mut self.content[self.id_at..self.id_at + ID_DIGITS], id);
        let dot = Instant::now();
        connection.stream.write_all(&self.content).await?;
        let reply = connection.reply().await?;
        if !reply.starts_with(b"250") {
            self.refused(String::from_utf8_lossy(&reply).into_owned());
            return Ok(());
        }
        let micros = |since: Instant| u64::try_from(since.elapsed().as_micros()).unwrap_or(LATENCY_MAX_US);
        self.commit.saturating_record(micros(dot));
        self.transaction.saturating_record(micros(begun));
        self.report.acknowledged += 1;
        shared.acknowledged.0.lock().push(id);
        if shared.options.connection_each {
            let _ = connection.exchange(b"QUIT\r\n").await;
        }
        Ok(())
    }

    /// MAIL, RCPTs and DATA; the first refusal, if there is one.
    async fn envelope(
        &mut self,
        shared: &Shared,
        connection: &mut Connection,
        id: u64,
    ) -> Result<Option<String>, LoadError> {
        let options = &shared.options;
        let mut commands = vec![format!("MAIL FROM:<{}>\r\n", options.sender)];
        for at in 0..options.recipients.max(1) {
            let domain = match options.domains {
                0 | 1 => options.domain.clone(),
                count => format!("d{}.{}", id % count, options.domain),
            };
            commands.push(format!("RCPT TO:<r{id}.{at}@{domain}>\r\n"));
        }
        commands.push("DATA\r\n".to_owned());
        let mut refusal = None;
        if options.pipelining {
            self.commands.clear();
            commands.iter().for_each(|command| self.commands.extend_from_slice(command.as_bytes()));
            connection.stream.write_all(&self.commands).await?;
        }
        for (at, command) in commands.iter().enumerate() {
            let reply = match options.pipelining {
                true => connection.reply().await?,
                false => connection.exchange(command.as_bytes()).await?,
            };
            let wanted: &[u8] = if at + 1 == commands.len() { b"3" } else { b"2" };
            if !reply.starts_with(wanted) {
                refusal = refusal.or_else(|| Some(String::from_utf8_lossy(&reply).into_owned()));
                if !options.pipelining {
                    break;
                }
            } else if at + 1 == commands.len() && refusal.is_some() {
                // DATA went through for the recipients that were taken: give it an empty body.
                connection.exchange(b"\r\n.\r\n").await?;
            }
        }
        Ok(refusal)
    }

    fn refused(&mut self, reply: String) {
        self.report.refused += 1;
        self.example(reply);
    }

    fn example(&mut self, text: String) {
        if self.report.examples.len() < 5 {
            self.report.examples.push(text.trim_end().to_owned());
        }
    }

    fn add_to(self, shared: &Shared) {
        let mut totals = shared.totals.lock();
        totals.report.acknowledged += self.report.acknowledged;
        totals.report.refused += self.report.refused;
        totals.report.broken += self.report.broken;
        for example in self.report.examples {
            if totals.report.examples.len() < 5 {
                totals.report.examples.push(example);
            }
        }
        let _ = totals.transaction.add(&self.transaction);
        let _ = totals.commit.add(&self.commit);
    }
}

/// A session of the client.
struct Connection {
    stream: TcpStream,
    input: BytesMut,
    reply_timeout: Duration,
}

impl Connection {
    async fn open(options: &GeneratorOptions) -> Result<Connection, LoadError> {
        let (to, reply_timeout) = (options.to, options.reply_timeout);
        let stream = TcpStream::connect(to).await.map_err(|error| LoadError::Connect(to, error))?;
        stream.set_nodelay(true)?;
        let mut connection = Connection { stream, input: BytesMut::with_capacity(4096), reply_timeout };
        connection.reply().await?;
        connection.exchange(b"EHLO load.example\r\n").await?;
        Ok(connection)
    }

    async fn exchange(&mut self, command: &[u8]) -> Result<BytesMut, LoadError> {
        self.stream.write_all(command).await?;
        self.reply().await
    }

    /// The last line of the next reply.
    async fn reply(&mut self) -> Result<BytesMut, LoadError> {
        loop {
            while let Some(end) = memchr::memchr(b'\n', &self.input) {
                let line = self.input.split_to(end + 1);
                if line.get(3) != Some(&b'-') {
                    return Ok(line);
                }
            }
            self.input.reserve(1024);
            let read = tokio::time::timeout(self.reply_timeout, self.stream.read_buf(&mut self.input)).await;
            if read.map_err(|_| LoadError::Silent(self.reply_timeout))?? == 0 {
                return Err(LoadError::Closed);
            }
        }
    }
}

/// A message of the wanted size with its end-of-data mark, and where the digits of its id are.
fn content(options: &GeneratorOptions) -> (Vec<u8>, usize) {
    let mut content = format!(
        "From: <{}>\r\nTo: <undisclosed@{}>\r\nSubject: load\r\nDate: Wed, 25 Nov 2026 10:00:00 +0000\r\n\
         Message-ID: <load@sender.example>\r\nX-Load-Id: ",
        options.sender, options.domain
    )
    .into_bytes();
    let id_at = content.len();
    content.extend_from_slice(&[b'0'; ID_DIGITS]);
    content.extend_from_slice(b"\r\n\r\n");
    const LINE: &[u8; 78] = b"The quick brown fox jumps over the lazy dog, and the dog does not mind at all\r";
    while content.len() + LINE.len() < options.size {
        content.extend_from_slice(LINE);
        content.push(b'\n');
    }
    let rest = options.size.saturating_sub(content.len() + 2);
    content.extend(std::iter::repeat_n(b'x', rest));
    content.extend_from_slice(b"\r\n.\r\n");
    (content, id_at)
}

fn write_id(digits: &mut [u8], mut id: u64) {
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + (id % 10) as u8;
        id /= 10;
    }
}
