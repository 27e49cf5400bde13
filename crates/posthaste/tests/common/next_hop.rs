//! A next hop that records: every octet it was sent, and the messages in it, read as strictly as RFC 5321 says.
//!
//! Only CRLF.CRLF ends a message here, so whatever a laxer server would take for an end of data stays visible in what was
//! recorded. Its replies come from the test: a function that sees each command and may answer in its place.

#![allow(dead_code)] // each test file uses its part

use super::{PATIENCE, wait_for};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

/// One command as the function of the test sees it.
#[derive(Clone, Debug)]
pub struct Said<'a> {
    /// Number of the connection, from 0.
    pub connection: usize,
    /// The command line without its CRLF; empty for the banner, `.` for the end of a message.
    pub line: &'a str,
    pub tls: bool,
}

/// What the test wants said: the lines of a reply joined by `\n`; empty closes the connection without a word.
pub type Answer = dyn Fn(&Said<'_>) -> Option<String> + Send + Sync;

/// One message as it came.
#[derive(Clone, Debug, Default)]
pub struct Taken {
    pub connection: usize,
    /// The whole MAIL command.
    pub mail: String,
    /// The RCPT commands that were answered with 250.
    pub rcpt: Vec<String>,
    /// As it was on the wire, dots stuffed, with its last CRLF and without the dot that ends it.
    pub wire: Vec<u8>,
    pub tls: bool,
}

impl Taken {
    /// The content, unstuffed.
    pub fn content(&self) -> String {
        let text = String::from_utf8_lossy(&self.wire);
        let unstuffed: Vec<&str> = text.split("\r\n").map(|line| line.strip_prefix('.').unwrap_or(line)).collect();
        unstuffed.join("\r\n")
    }

    pub fn body(&self) -> String {
        let content = self.content();
        content.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or_default()
    }

    /// The first field of that name, unfolded.
    pub fn header(&self, name: &str) -> Option<String> {
        self.headers(name).into_iter().next()
    }

    pub fn headers(&self, name: &str) -> Vec<String> {
        let content = self.content();
        let head = content.split("\r\n\r\n").next().unwrap_or_default().replace("\r\n\t", " ").replace("\r\n ", " ");
        let field = |line: &str| {
            let (found, value) = line.split_once(':')?;
            found.eq_ignore_ascii_case(name).then(|| value.trim().to_owned())
        };
        head.split("\r\n").filter_map(field).collect()
    }
}

#[derive(Default)]
struct Record {
    messages: Vec<Taken>,
    /// Every command line, with the connection it came on.
    lines: Vec<(usize, String)>,
    octets: Vec<u8>,
}

struct Shared {
    record: Mutex<Record>,
    answer: Box<Answer>,
    keywords: Vec<String>,
    tls: Option<Arc<ServerConfig>>,
    connections: AtomicUsize,
    open: AtomicUsize,
    open_most: AtomicUsize,
    stop: AtomicBool,
}

pub struct NextHop {
    pub address: SocketAddr,
    shared: Arc<Shared>,
}

impl NextHop {
    /// Takes everything, and offers what a usual server offers.
    pub fn start() -> NextHop {
        NextHop::answering(|_| None)
    }

    pub fn answering(answer: impl Fn(&Said<'_>) -> Option<String> + Send + Sync + 'static) -> NextHop {
        NextHop::with(&["PIPELINING", "8BITMIME", "SMTPUTF8", "ENHANCEDSTATUSCODES"], None, answer)
    }

    /// `keywords` are the lines of its reply to EHLO. With `tls` it can do STARTTLS, if that is among them.
    pub fn with(
        keywords: &[&str],
        tls: Option<Arc<ServerConfig>>,
        answer: impl Fn(&Said<'_>) -> Option<String> + Send + Sync + 'static,
    ) -> NextHop {
        NextHop::on("127.0.0.1:0".parse().expect("an address"), keywords, tls, answer)
    }

    pub fn on(
        address: SocketAddr,
        keywords: &[&str],
        tls: Option<Arc<ServerConfig>>,
        answer: impl Fn(&Said<'_>) -> Option<String> + Send + Sync + 'static,
    ) -> NextHop {
        let listener = TcpListener::bind(address).expect("a port for the next hop");
        let address = listener.local_addr().expect("its address");
        let shared = Arc::new(Shared {
            record: Mutex::default(),
            answer: Box::new(answer),
            keywords: keywords.iter().map(|keyword| (*keyword).to_owned()).collect(),
            tls,
            connections: AtomicUsize::new(0),
            open: AtomicUsize::new(0),
            open_most: AtomicUsize::new(0),
            stop: AtomicBool::new(false),
        });
        let for_thread = shared.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if for_thread.stop.load(Ordering::SeqCst) {
                    return;
                }
                let Ok(stream) = stream else { continue };
                let shared = for_thread.clone();
                std::thread::spawn(move || serve(&shared, stream));
            }
        });
        NextHop { address, shared }
    }

    /// For `gateway = "…"` and `routes`.
    pub fn gateway(&self) -> String {
        format!("[{}]:{}", self.address.ip(), self.address.port())
    }

    pub fn messages(&self) -> Vec<Taken> {
        self.shared.record.lock().expect("the record").messages.clone()
    }

    /// Waits for at least `count` messages.
    pub fn wait_for(&self, count: usize) -> Vec<Taken> {
        wait_for(&format!("{count} messages at the next hop, which has {}", self.messages().len()), || {
            let messages = self.messages();
            (messages.len() >= count).then_some(messages)
        })
    }

    /// Waits for a message to that recipient.
    pub fn wait_for_rcpt(&self, address: &str) -> Taken {
        let wanted = format!("<{address}>");
        wait_for(&format!("a message to {address}"), || {
            self.messages().into_iter().find(|taken| taken.rcpt.iter().any(|rcpt| rcpt.contains(&wanted)))
        })
    }

    /// Every command line so far, with the number of its connection.
    pub fn lines(&self) -> Vec<(usize, String)> {
        self.shared.record.lock().expect("the record").lines.clone()
    }

    /// How many of the commands begin with `verb`.
    pub fn count(&self, verb: &str) -> usize {
        self.lines().iter().filter(|(_, line)| line.starts_with(verb)).count()
    }

    pub fn octets(&self) -> Vec<u8> {
        self.shared.record.lock().expect("the record").octets.clone()
    }

    /// Connections so far.
    pub fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::SeqCst)
    }

    /// The most connections that were open at once.
    pub fn open_most(&self) -> usize {
        self.shared.open_most.load(Ordering::SeqCst)
    }
}

impl Drop for NextHop {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        // Wakes the thread that accepts.
        let _ = TcpStream::connect(self.address);
        if std::thread::panicking() {
            let record = self.shared.record.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            let lines: Vec<String> =
                record.lines.iter().rev().take(20).map(|(at, line)| format!("{at}: {line}")).collect();
            eprintln!("--- next hop {} ({} messages)\n{}", self.address, record.messages.len(), lines.join("\n"));
        }
    }
}

enum Wire {
    Plain(TcpStream),
    Tls(Box<StreamOwned<ServerConnection, TcpStream>>),
}

impl Wire {
    fn read(&mut self, into: &mut [u8]) -> usize {
        let read = match self {
            Wire::Plain(stream) => stream.read(into),
            Wire::Tls(stream) => stream.read(into),
        };
        read.unwrap_or(0)
    }

    fn say(&mut self, text: &str) -> bool {
        let code = text.get(..3).unwrap_or("250").to_owned();
        let lines: Vec<&str> = text.split('\n').collect();
        let mut out = String::new();
        for (at, line) in lines.iter().enumerate() {
            // A line after the first may leave its code out.
            let rest = line.strip_prefix(&*code).map_or(*line, |rest| rest.trim_start_matches([' ', '-']));
            let mark = if at + 1 < lines.len() { '-' } else { ' ' };
            out.push_str(&format!("{code}{mark}{rest}\r\n"));
        }
        let written = match self {
            Wire::Plain(stream) => stream.write_all(out.as_bytes()),
            Wire::Tls(stream) => stream.write_all(out.as_bytes()).and_then(|()| stream.flush()),
        };
        written.is_ok()
    }
}

fn serve(shared: &Shared, stream: TcpStream) {
    let connection = shared.connections.fetch_add(1, Ordering::SeqCst);
    let open = shared.open.fetch_add(1, Ordering::SeqCst) + 1;
    shared.open_most.fetch_max(open, Ordering::SeqCst);
    let _ = stream.set_read_timeout(Some(PATIENCE));
    let _ = stream.set_nodelay(true);
    converse(shared, connection, stream, &mut Counted(Some(&shared.open)));
}

/// A connection that counts as open.
struct Counted<'a>(Option<&'a AtomicUsize>);

impl Counted<'_> {
    fn end(&mut self) {
        if let Some(open) = self.0.take() {
            open.fetch_sub(1, Ordering::SeqCst);
        }
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.end();
    }
}

fn converse(shared: &Shared, connection: usize, stream: TcpStream, counted: &mut Counted<'_>) {
    let mut wire = Wire::Plain(stream);
    let mut tls = false;
    let answer = |line: &str, tls: bool| (shared.answer)(&Said { connection, line, tls });
    match answer("", tls) {
        Some(text) if text.is_empty() => return,
        banner => {
            if !wire.say(&banner.unwrap_or_else(|| "220 next.test ESMTP".to_owned())) {
                return;
            }
        }
    }
    let mut input: Vec<u8> = Vec::new();
    let mut taken = Taken { connection, ..Taken::default() };
    let mut buffer = [0; 16 << 10];
    loop {
        let Some(end) = input.windows(2).position(|pair| pair == b"\r\n") else {
            let read = wire.read(&mut buffer);
            if read == 0 {
                return;
            }
            shared.record.lock().expect("the record").octets.extend_from_slice(&buffer[..read]);
            input.extend_from_slice(&buffer[..read]);
            continue;
        };
        let line = String::from_utf8_lossy(&input[..end]).into_owned();
        input.drain(..end + 2);
        shared.record.lock().expect("the record").lines.push((connection, line.clone()));
        let verb = line.split([' ', ':']).next().unwrap_or_default().to_ascii_uppercase();
        let scripted = answer(&line, tls);
        if scripted.as_deref() == Some("") {
            return;
        }
        let reply = scripted.unwrap_or_else(|| match &*verb {
            "EHLO" => {
                let lines: Vec<&str> =
                    shared.keywords.iter().map(String::as_str).filter(|word| !tls || *word != "STARTTLS").collect();
                std::iter::once("250 next.test").chain(lines).collect::<Vec<_>>().join("\n")
            }
            "DATA" if taken.rcpt.is_empty() => "503 5.5.1 no recipient".to_owned(),
            "DATA" => "354 go on".to_owned(),
            "STARTTLS" => "220 2.0.0 go on".to_owned(),
            "QUIT" => "221 2.0.0 bye".to_owned(),
            "HELO" | "MAIL" | "RCPT" | "RSET" | "NOOP" => "250 2.0.0 ok".to_owned(),
            _ => "500 5.5.2 what".to_owned(),
        });
        if verb == "QUIT" {
            // Before the client hears it and opens another.
            counted.end();
        }
        if !wire.say(&reply) {
            return;
        }
        let positive = reply.starts_with('2') || reply.starts_with('3');
        match &*verb {
            "MAIL" if positive => taken = Taken { connection, mail: line, tls, ..Taken::default() },
            "RCPT" if positive => taken.rcpt.push(line),
            "RSET" | "EHLO" | "HELO" => taken = Taken { connection, ..Taken::default() },
            "QUIT" => return,
            "STARTTLS" if positive => {
                let Some(config) = shared.tls.clone() else {
                    // A broken server: it says go, and then speaks no TLS.
                    wire.say("500 this is no handshake");
                    return;
                };
                let Wire::Plain(stream) = wire else { return };
                let Ok(server) = ServerConnection::new(config) else { return };
                wire = Wire::Tls(Box::new(StreamOwned::new(server, stream)));
                tls = true;
                input.clear();
                taken = Taken { connection, ..Taken::default() };
            }
            "DATA" if reply.starts_with('3') => {
                let mut searched = 0;
                let end = loop {
                    if let Some(end) = end_of_data(&input, searched) {
                        break end;
                    }
                    searched = input.len().saturating_sub(4);
                    let read = wire.read(&mut buffer);
                    if read == 0 {
                        return;
                    }
                    shared.record.lock().expect("the record").octets.extend_from_slice(&buffer[..read]);
                    input.extend_from_slice(&buffer[..read]);
                };
                taken.wire = input[..end].to_vec();
                input.drain(..end + 3);
                let scripted = answer(".", tls);
                if scripted.as_deref() == Some("") {
                    return;
                }
                let reply = scripted.unwrap_or_else(|| "250 2.0.0 taken".to_owned());
                // Recorded before it is acknowledged: who sees the delivery logged finds the message here.
                if reply.starts_with('2') {
                    shared.record.lock().expect("the record").messages.push(std::mem::take(&mut taken));
                }
                if !wire.say(&reply) || reply.starts_with("421") {
                    return;
                }
                taken = Taken { connection, ..Taken::default() };
            }
            _ => {}
        }
        if reply.starts_with("421") {
            return;
        }
    }
}

/// Where the dot stands that ends the data; it does not begin before `searched`.
fn end_of_data(input: &[u8], searched: usize) -> Option<usize> {
    if input.starts_with(b".\r\n") {
        return Some(0);
    }
    memchr::memmem::find(&input[searched..], b"\r\n.\r\n").map(|at| searched + at + 2)
}
