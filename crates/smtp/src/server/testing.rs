//! Whole sessions without a network: a handler that accepts and records, and a stream that plays a script. For tests,
//! benchmarks and fuzz targets, of this crate and of others.

use super::driver::{DriverOptions, serve};
use super::handler::{
    AuthOutcome, BodyFault, Ended, Handler, LoneLf, MailCommand, Peer, Phase, RcptCommand, Secret, Settings, TlsFacts,
};
use crate::Reply;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Settings as without any configuration: no extensions, no limits but the ceilings, no TLS.
pub fn settings() -> Settings {
    Settings {
        hostname: "mx.example".to_owned(),
        static_banner: None,
        extensions: Vec::new(),
        max_message_size: 0,
        max_header_size: 1 << 20,
        idle_time_s: 300,
        max_session_time_s: 0,
        max_session_errors: 20,
        require_ehlo: false,
        allow_ip_literal: true,
        allow_null_sender: true,
        allow_trailing_whitespace_in_commands: false,
        allow_whitespace_in_envelope: false,
        pedantic_address_rules: true,
        lone_lf_in_headers: LoneLf::Pedantic,
        lone_lf_in_body: LoneLf::Ignore,
        starttls_injection_reject: true,
        tls: None,
    }
}

/// Client and server address of a session.
pub fn peer() -> Peer {
    Peer {
        remote: SocketAddr::from(([192, 0, 2, 7], 40_000)),
        local: SocketAddr::from(([192, 0, 2, 1], 25)),
        name: super::handler::PeerName::default(),
    }
}

/// What a `Recorder` saw.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Record {
    /// One line per call of the handler.
    pub calls: Vec<String>,
    /// The content of each message that was accepted.
    pub messages: Vec<Vec<u8>>,
    pub refused: Vec<(Phase, Reply)>,
    pub peers: Vec<Peer>,
    pub tls: Vec<TlsFacts>,
    /// The most content that lay in the buffer at once.
    pub buffered_max: usize,
    pub ended: Option<Ended>,
}

/// A handler that accepts everything that it was not told to answer otherwise, and records it.
pub struct Recorder {
    pub settings: Arc<Settings>,
    /// Replies by call: `connected`, `hello`, `mail`, `rcpt`, `rcpt:LOCAL`, `data`, `body`, `body_end`, `peer_changed`, `farewell`,
    /// `tls_started`, `set_context`, `authenticated`.
    pub replies: HashMap<&'static str, Reply>,
    pub users: HashMap<String, Secret>,
    /// No user can be looked up.
    pub users_broken: bool,
    /// At this length the buffer is emptied to a file that is not there; 0: never.
    pub flush_size: usize,
    pub record: Arc<Mutex<Record>>,
    body: Vec<u8>,
    flushed: Vec<u8>,
}

impl Recorder {
    pub fn new(settings: Settings) -> Recorder {
        Recorder {
            settings: Arc::new(settings),
            replies: HashMap::new(),
            users: HashMap::new(),
            users_broken: false,
            flush_size: 0,
            record: Arc::default(),
            body: Vec::new(),
            flushed: Vec::new(),
        }
    }

    fn call(&mut self, name: &str, line: String) -> Option<Reply> {
        self.record.lock().calls.push(line);
        self.replies.get(name).cloned()
    }

    fn drop_content(&mut self) {
        self.body.clear();
        self.flushed.clear();
    }
}

impl Handler for Recorder {
    fn settings(&mut self) -> Arc<Settings> {
        self.settings.clone()
    }

    async fn connected(&mut self, peer: &Peer) -> Option<Reply> {
        self.record.lock().peers.push(peer.clone());
        self.call("connected", format!("connected {}", peer.remote))
    }

    async fn hello(&mut self, esmtp: bool, name: &str) -> Option<Reply> {
        self.drop_content();
        self.call("hello", format!("{} {name}", if esmtp { "ehlo" } else { "helo" }))
    }

    async fn mail(&mut self, command: &MailCommand) -> Option<Reply> {
        self.drop_content();
        self.call("mail", command.line.clone())
    }

    async fn rcpt(&mut self, command: &RcptCommand) -> Option<Reply> {
        let named = self.replies.iter().find(|(name, _)| name.strip_prefix("rcpt:") == Some(&command.local));
        let named = named.map(|(_, reply)| reply.clone());
        let general = self.call("rcpt", command.line.clone());
        named.or(general)
    }

    async fn data(&mut self) -> Option<Reply> {
        self.call("data", "data".to_owned())
    }

    fn body_buffer(&mut self) -> &mut Vec<u8> {
        &mut self.body
    }

    async fn body_grew(&mut self) -> Result<(), Reply> {
        {
            let mut record = self.record.lock();
            record.buffered_max = record.buffered_max.max(self.body.len());
        }
        self.flushed.append(&mut self.body);
        match self.replies.get("body") {
            Some(reply) => Err(reply.clone()),
            None => Ok(()),
        }
    }

    fn body_wants_flush(&self) -> bool {
        self.flush_size > 0 && self.body.len() >= self.flush_size
    }

    async fn body_end(&mut self, fault: Option<BodyFault>) -> Reply {
        let content = [std::mem::take(&mut self.flushed), std::mem::take(&mut self.body)].concat();
        let replied = self.call("body_end", format!("body_end {fault:?}"));
        let reply = replied.unwrap_or_else(|| match fault {
            None => Reply::new(250, (2, 0, 0), "OK 1/2-3"),
            Some(BodyFault::TooLarge) => Reply::new(552, (5, 3, 4), "message size limit exceeded"),
            Some(BodyFault::HeaderTooLarge) => Reply::new(552, (5, 3, 4), "message header size limit exceeded"),
            Some(BodyFault::LoneLfInHeaders) => Reply::new(550, (5, 6, 0), "Lone CR or LF in headers"),
            Some(BodyFault::LoneLfInBody) => Reply::new(550, (5, 6, 0), "Lone CR or LF in body"),
        });
        if reply.is_positive() {
            self.record.lock().messages.push(content);
        }
        reply
    }

    fn reset(&mut self) {
        self.drop_content();
        self.record.lock().calls.push("reset".to_owned());
    }

    fn refused(&mut self, phase: Phase, reply: &Reply) {
        self.record.lock().refused.push((phase, reply.clone()));
    }

    async fn secret(&mut self, mechanism: &str, user: &str) -> Result<Option<Secret>, ()> {
        self.record.lock().calls.push(format!("secret {mechanism} {user}"));
        if self.users_broken { Err(()) } else { Ok(self.users.get(user).cloned()) }
    }

    async fn verify(&mut self, _mechanism: &str, user: &str, password: &[u8]) -> AuthOutcome {
        if self.users_broken {
            return AuthOutcome::Error;
        }
        match self.users.get(user) {
            Some(Secret::Clear(known)) if crate::sasl::constant_time_eq(known, password) => AuthOutcome::Pass,
            _ => AuthOutcome::Fail,
        }
    }

    async fn authenticated(&mut self, mechanism: &str, user: &str, outcome: AuthOutcome) -> Option<Reply> {
        self.call("authenticated", format!("authenticated {mechanism} {user} {outcome:?}"))
    }

    async fn tls_started(&mut self, facts: &TlsFacts) -> Option<Reply> {
        self.record.lock().tls.push(facts.clone());
        self.call("tls_started", format!("tls {} {}", facts.protocol, facts.client_verified))
    }

    fn tls_failed(&mut self, _error: &str) {
        self.record.lock().calls.push("tls_failed".to_owned());
    }

    async fn peer_changed(&mut self, peer: &Peer, helo: Option<&str>, login: Option<&str>) -> Option<Reply> {
        self.record.lock().peers.push(peer.clone());
        self.call("peer_changed", format!("peer {} {} helo={helo:?} login={login:?}", peer.remote, peer.local))
    }

    fn set_context(&mut self, key: &str, value: &[u8]) -> Result<(), Reply> {
        let line = format!("set {key}={}", String::from_utf8_lossy(value));
        self.call("set_context", line).map_or(Ok(()), Err)
    }

    fn dump_context(&mut self) -> Vec<String> {
        vec!["[connection] ehlo_domain there".to_owned(), "[message] k v\r\n250 x".to_owned()]
    }

    fn farewell(&mut self) -> Option<Reply> {
        self.replies.get("farewell").cloned()
    }

    async fn ended(&mut self, how: Ended) {
        let mut record = self.record.lock();
        debug_assert!(record.ended.is_none(), "a session ends once");
        record.ended = Some(how);
    }
}

/// A client that sends what it was given, piece by piece, and takes whatever comes.
pub struct Script {
    pieces: std::vec::IntoIter<Vec<u8>>,
    piece: Vec<u8>,
    at: usize,
    sent: Arc<Mutex<Sent>>,
}

/// What the server sent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sent {
    pub bytes: Vec<u8>,
    pub writes: usize,
    /// Reads that gave bytes.
    pub reads: usize,
}

impl Script {
    pub fn new(pieces: Vec<Vec<u8>>) -> (Script, Arc<Mutex<Sent>>) {
        let sent = Arc::new(Mutex::new(Sent::default()));
        (Script { pieces: pieces.into_iter(), piece: Vec::new(), at: 0, sent: sent.clone() }, sent)
    }
}

impl AsyncRead for Script {
    fn poll_read(self: Pin<&mut Self>, _cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        while this.at == this.piece.len() {
            let Some(next) = this.pieces.next() else { return Poll::Ready(Ok(())) };
            (this.piece, this.at) = (next, 0);
        }
        let count = buf.remaining().min(this.piece.len() - this.at);
        buf.put_slice(&this.piece[this.at..this.at + count]);
        this.at += count;
        this.sent.lock().reads += 1;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Script {
    fn poll_write(self: Pin<&mut Self>, _cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let mut sent = self.sent.lock();
        sent.bytes.extend_from_slice(buf);
        sent.writes += 1;
        Poll::Ready(Ok(buf.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// A whole session: what the server sent, and what the handler saw. Must run within a tokio runtime.
pub async fn converse(recorder: Recorder, pieces: Vec<Vec<u8>>) -> (Sent, Record) {
    let record = recorder.record.clone();
    let (script, sent) = Script::new(pieces);
    serve(script, peer(), recorder, DriverOptions::default()).await;
    let sent = sent.lock().clone();
    let record = record.lock().clone();
    (sent, record)
}

/// One session of any bytes, with every extension offered; for fuzz targets. The first byte chooses how lone line ends are
/// treated and where the input is cut in pieces.
///
/// Panics where an invariant of the wire is broken: a reply that is no reply, or content with a dot line in it that the next
/// hop could take for the end of the data.
pub fn fuzz_session(input: &[u8]) {
    let (&choice, bytes) = input.split_first().unwrap_or((&0, &[]));
    let mut settings = settings();
    let lone = |bits: u8| [LoneLf::Ignore, LoneLf::Fix, LoneLf::Pedantic][usize::from(bits % 3)];
    (settings.lone_lf_in_body, settings.lone_lf_in_headers) = (lone(choice), lone(choice / 3));
    settings.pedantic_address_rules = choice & 0x40 == 0;
    settings.extensions = [
        "ENHANCEDSTATUSCODES",
        "SMTPUTF8",
        "DSN",
        "CHUNKING",
        "BINARYMIME",
        "XCLIENT",
        "XREMOTEIP",
        "XSETCONTEXT",
        "XDUMPCONTEXT",
        "AUTH PLAIN LOGIN CRAM-MD5 DIGEST-MD5 SCRAM-SHA-256",
    ]
    .map(str::to_owned)
    .to_vec();
    let mut recorder = Recorder::new(settings);
    recorder.users.insert("ann".to_owned(), Secret::Clear(b"pw".to_vec()));
    recorder.flush_size = 64;
    let piece = usize::from(choice / 9) + 1;
    let pieces = bytes.chunks(piece).map(<[u8]>::to_vec).collect();
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_time().build() else {
        return;
    };
    let (sent, record) = runtime.block_on(converse(recorder, pieces));
    assert!(record.ended.is_some(), "a session came to no end");
    check_replies(&sent.bytes);
    for message in &record.messages {
        assert!(!has_foreign_dot_line(message), "a dot line was stored: {message:?}");
    }
}

/// Panics unless `bytes` are whole reply lines.
pub fn check_replies(bytes: &[u8]) {
    assert!(bytes.is_empty() || bytes.ends_with(b"\r\n"), "a reply is not ended");
    for line in bytes.split(|&byte| byte == b'\n') {
        let Some(line) = line.strip_suffix(b"\r") else {
            assert!(line.is_empty(), "a reply line is not ended by CRLF");
            continue;
        };
        let code = line.get(..3).is_some_and(|code| code.iter().all(u8::is_ascii_digit));
        assert!(code && matches!(line.get(3), Some(b' ' | b'-')), "no reply line: {line:?}");
        assert!(!line.contains(&b'\r') && !line.contains(&0), "a control character in a reply: {line:?}");
    }
}

/// Whether content has a line of one dot (NULs aside) that is not between two CRLFs.
pub fn has_foreign_dot_line(content: &[u8]) -> bool {
    let ends = |at: usize| matches!(content.get(at), Some(b'\r' | b'\n'));
    content.iter().enumerate().filter(|&(_, &byte)| byte == b'.').any(|(dot, _)| {
        let nuls_before = content[..dot].iter().rev().take_while(|&&byte| byte == 0).count();
        let nuls_after = content[dot + 1..].iter().take_while(|&&byte| byte == 0).count();
        let before = dot - nuls_before;
        let after = dot + 1 + nuls_after;
        let line_before = before == 0 || ends(before - 1);
        if !line_before || !ends(after) {
            return false;
        }
        let crlf_before = before == 0 || content[..before].ends_with(b"\r\n");
        let crlf_after = content[after..].starts_with(b"\r\n");
        nuls_before + nuls_after > 0 || !crlf_before || !crlf_after
    })
}
