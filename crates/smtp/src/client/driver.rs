//! The tokio driver of the client machine: moves bytes between a socket and `Client`, and keeps the time.
//!
//! In the steady state a message costs one `writev` (content, final dot, and the next message's commands) and one `read`.
//! The socket is read while it is written, so that a peer which answers early or stops reading cannot lock both sides up.
//! Every wait has a deadline: that of the oldest reply, moved on while content leaves at no less than
//! `SENDING_RATE_MIN`.

use super::machine::Client;
use super::settings::{Cause, Settings};
use super::stage::text;
use super::tls::{ClientTls, TlsSession, Verify};
use super::transaction::{Failure, Outcome, Refused, Transaction};
use bytes::Bytes;
use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::{Instant, Sleep};
use tokio_rustls::client::TlsStream;

/// Octets a second below which a peer that takes content is given up, once its `body` timeout is over.
pub const SENDING_RATE_MIN: u64 = 1024;

/// Octets of a body in a file that are held at a time.
const FILE_CHUNK_LEN: u64 = 128 << 10;

/// Slices handed to one `writev`.
const SLICES_MAX: usize = 32;

/// Free room for a read. Replies are short; EHLO's is the longest.
const READ_LEN: usize = 2048;

/// How long the answer to QUIT is waited for at most.
const QUIT_PATIENCE: Duration = Duration::from_secs(5);

/// TLS for a connection, where its settings may ask for it.
#[derive(Clone, Debug)]
pub struct TlsTarget {
    pub tls: Arc<ClientTls>,
    pub verify: Verify,
    /// The routing domain: one of the two names that a certificate may have.
    pub domain: String,
    /// The host that was connected to: the other, and the one that SNI names.
    pub host: String,
}

/// Sees what goes over a connection, for `trace smtp`: inside of TLS, where there is any.
pub trait Trace: Send + Sync {
    /// The peer said something.
    fn heard(&mut self, bytes: &[u8]);
    /// We said something; `[secret]` stands for what proves our identity in AUTH.
    fn said(&mut self, bytes: &[u8]);
}

/// An outbound session that stands.
pub struct Connection {
    stream: Stream,
    client: Client,
    tls: Option<TlsSession>,
    deadline: Instant,
    /// Fires at or before `deadline`; set anew only when it fires, so that a message costs no timer.
    timer: Pin<Box<Sleep>>,
    /// What `deadline` was set for.
    waiting_for: (u64, u64, usize),
    write_broken: bool,
    needs_flush: bool,
    trace: Option<Box<dyn Trace>>,
}

/// A connected socket. TLS is spoken over TCP only: what lies behind a unix socket is this machine.
#[derive(Debug)]
pub enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl From<TcpStream> for Socket {
    fn from(stream: TcpStream) -> Socket {
        Socket::Tcp(stream)
    }
}

impl From<UnixStream> for Socket {
    fn from(stream: UnixStream) -> Socket {
        Socket::Unix(stream)
    }
}

enum Stream {
    Plain(Socket),
    Tls(Box<TlsStream<TcpStream>>),
    /// Between the two, during the handshake.
    None,
}

/// Why an exchange of bytes came to an end.
enum Turn {
    Read,
    Closed,
    TimedOut,
    File,
}

impl Connection {
    /// Greets over a connected socket: banner, EHLO, STARTTLS and EHLO again, as the settings say.
    pub async fn open(
        stream: impl Into<Socket>,
        settings: Arc<Settings>,
        tls: Option<&TlsTarget>,
    ) -> Result<Connection, Failure> {
        Connection::open_traced(stream, settings, tls, None).await
    }

    /// As `open`, with somebody who looks on.
    pub async fn open_traced(
        stream: impl Into<Socket>,
        settings: Arc<Settings>,
        tls: Option<&TlsTarget>,
        trace: Option<Box<dyn Trace>>,
    ) -> Result<Connection, Failure> {
        let patience = settings.timeouts.ehlo;
        let deadline = Instant::now() + patience;
        let mut connection = Connection {
            stream: Stream::Plain(stream.into()),
            client: Client::new(settings),
            tls: None,
            deadline,
            timer: Box::pin(tokio::time::sleep_until(deadline)),
            waiting_for: (0, 0, usize::MAX),
            write_broken: false,
            needs_flush: false,
            trace,
        };
        loop {
            if let Some(failure) = connection.client.failure() {
                return Err(failure.clone());
            }
            if connection.client.is_ready() {
                return Ok(connection);
            }
            if connection.client.wants_handshake() {
                connection.handshake(tls, patience).await;
            } else {
                connection.turn().await;
            }
        }
    }

    /// The machine's view of the peer.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// The TLS session, if there is one.
    pub fn tls(&self) -> Option<&TlsSession> {
        self.tls.as_ref()
    }

    /// Takes a transaction; nothing is written before `outcome` is called. Two may be under way.
    pub fn submit(&mut self, transaction: &Transaction<'_>) -> Result<(), Refused> {
        self.client.submit(transaction)
    }

    /// The outcome of the oldest transaction; `None` when there is none. Dropping the future loses the connection's
    /// place: do not use it afterwards.
    pub async fn outcome(&mut self) -> Option<Outcome> {
        loop {
            if let Some(outcome) = self.client.outcome() {
                return Some(outcome);
            }
            if self.client.in_hand() == 0 {
                return None;
            }
            self.turn().await;
        }
    }

    /// Resolves when an idle connection is of no use any more: the peer closed it, or said something unasked. May be
    /// dropped at any time.
    pub async fn disturbed(&mut self) {
        while self.client.is_reusable() {
            self.waiting_for = self.client.wait();
            let turn = poll_fn(|cx| self.poll_read(cx)).await;
            self.take_up(turn);
        }
    }

    /// Says QUIT where that is possible, and closes.
    pub async fn close(mut self) {
        self.client.quit();
        let deadline = Instant::now() + QUIT_PATIENCE;
        let goodbye = async {
            while !self.client.is_closed() && self.client.patience().is_some() {
                self.turn().await;
            }
            if let Stream::Tls(stream) = &mut self.stream {
                let _ = poll_fn(|cx| Pin::new(&mut **stream).poll_shutdown(cx)).await;
            }
        };
        let _ = tokio::time::timeout_at(deadline, goodbye).await;
    }

    async fn handshake(&mut self, target: Option<&TlsTarget>, patience: Duration) {
        let (Some(target), Stream::Plain(Socket::Tcp(stream))) =
            (target, std::mem::replace(&mut self.stream, Stream::None))
        else {
            return self.client.tls_failed(text::TLS_FAILED);
        };
        let connecting = target.tls.connect(stream, target.verify, &target.domain, &target.host);
        match tokio::time::timeout(patience, connecting).await {
            Ok(Ok((stream, facts))) => {
                self.stream = Stream::Tls(Box::new(stream));
                self.tls = Some(facts);
                self.client.tls_established();
            }
            Ok(Err(reply)) => self.client.tls_failed(reply),
            Err(_) => self.client.tls_failed(text::TLS_FAILED),
        }
    }

    /// Writes and reads until something came, and works it off.
    async fn turn(&mut self) {
        if self.client.is_closed() {
            return;
        }
        let turn = poll_fn(|cx| self.poll_turn(cx)).await;
        if let Turn::File = turn {
            return self.read_file().await;
        }
        self.take_up(turn);
    }

    fn take_up(&mut self, turn: Turn) {
        match turn {
            Turn::Read => self.client.advance(),
            Turn::Closed => self.client.fail(if self.write_broken { Cause::NotSent } else { Cause::Closed }),
            Turn::TimedOut => self.client.fail(Cause::NoReply),
            Turn::File => {}
        }
    }

    async fn read_file(&mut self) {
        let Some(file) = self.client.take_file() else { return };
        let (source, offset) = (file.source.clone(), file.offset);
        let len = (source.len() - offset).min(FILE_CHUNK_LEN) as usize;
        let read = tokio::task::spawn_blocking(move || {
            let mut chunk = vec![0; len];
            source.read_at(offset, &mut chunk).map(|()| Bytes::from(chunk))
        });
        match read.await {
            Ok(Ok(chunk)) => self.client.file_chunk(file, chunk),
            _ => self.client.fail(Cause::Unreadable),
        }
    }

    fn poll_turn(&mut self, cx: &mut Context<'_>) -> Poll<Turn> {
        self.watch_the_time();
        if let Poll::Ready(turn) = self.poll_write(cx) {
            return Poll::Ready(turn);
        }
        if let Poll::Ready(turn) = self.poll_read(cx) {
            return Poll::Ready(turn);
        }
        loop {
            ready!(self.timer.as_mut().poll(cx));
            if Instant::now() >= self.deadline {
                return Poll::Ready(Turn::TimedOut);
            }
            let deadline = self.deadline;
            self.timer.as_mut().reset(deadline);
        }
    }

    /// Sets the deadline for a reply that was not waited for before.
    fn watch_the_time(&mut self) {
        let waiting_for = self.client.wait();
        if waiting_for != self.waiting_for {
            self.waiting_for = waiting_for;
            if let Some(patience) = self.client.patience() {
                self.deadline = Instant::now() + patience;
                // A timer that would fire too late is set anew; one that fires too early finds out by itself.
                if self.timer.deadline() > self.deadline {
                    let deadline = self.deadline;
                    self.timer.as_mut().reset(deadline);
                }
            }
        }
    }

    /// Ready only where the turn is over; pending when all is written or the socket takes no more.
    fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<Turn> {
        while !self.write_broken && !self.client.out.is_empty() {
            if self.client.out.waits_for_file() {
                return Poll::Ready(Turn::File);
            }
            let mut slices = [IoSlice::new(&[]); SLICES_MAX];
            let count = self.client.out.io_slices(&mut slices);
            match self.stream.poll_write_vectored(cx, &slices[..count]) {
                Poll::Ready(Ok(written)) if written > 0 => {
                    self.needs_flush = matches!(self.stream, Stream::Tls(_));
                    if let Some(trace) = &mut self.trace {
                        tell(trace, &slices[..count], written, self.client.out.written(), self.client.out.secrets());
                    }
                    self.client.out.advance(written);
                    if !self.client.out.is_empty() {
                        // More than a socket buffer: each octet taken earns the peer a little time.
                        self.deadline += Duration::from_micros(written as u64 * 1_000_000 / SENDING_RATE_MIN);
                    }
                }
                // The peer may have said why before it closed: read on until the end.
                Poll::Ready(_) => self.write_broken = true,
                Poll::Pending => return Poll::Pending,
            }
        }
        if self.needs_flush && !self.write_broken {
            match self.stream.poll_flush(cx) {
                Poll::Ready(Ok(())) => self.needs_flush = false,
                Poll::Ready(Err(_)) => self.write_broken = true,
                Poll::Pending => {}
            }
        }
        Poll::Pending
    }

    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<Turn> {
        if !self.client.wants_input() {
            return Poll::Ready(Turn::TimedOut); // a flood of replies to nothing
        }
        let buffer = self.client.input();
        let old = buffer.len();
        buffer.reserve(READ_LEN);
        let read = std::pin::pin!(self.stream.read_buf(buffer));
        match ready!(read.poll(cx)) {
            Ok(count) if count > 0 => {
                if let Some(trace) = &mut self.trace {
                    trace.heard(&self.client.input()[old..]);
                }
                Poll::Ready(Turn::Read)
            }
            _ => Poll::Ready(Turn::Closed),
        }
    }
}

/// The first `written` octets of the slices, for the one who looks on. `at` is their position in the stream, of which
/// `secrets` are not shown.
fn tell(trace: &mut Box<dyn Trace>, slices: &[IoSlice<'_>], mut written: usize, mut at: u64, secrets: &[Range<u64>]) {
    for slice in slices {
        let part = &slice[..slice.len().min(written)];
        if secrets.is_empty() {
            trace.said(part);
        } else {
            trace.said(&masked(part, at, secrets));
        }
        written -= part.len();
        at += part.len() as u64;
    }
}

/// `part`, which stands at `at`, with one word in place of each secret that begins in it.
fn masked(part: &[u8], at: u64, secrets: &[Range<u64>]) -> Vec<u8> {
    let mut shown = Vec::with_capacity(part.len());
    for (offset, &byte) in part.iter().enumerate() {
        let place = at + offset as u64;
        match secrets.iter().find(|secret| secret.contains(&place)) {
            Some(secret) if secret.start == place => shown.extend_from_slice(b"[secret]"),
            Some(_) => {}
            None => shown.push(byte),
        }
    }
    shown
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Plain(Socket::Tcp(stream)) => Pin::new(stream).poll_read(cx, into),
            Stream::Plain(Socket::Unix(stream)) => Pin::new(stream).poll_read(cx, into),
            Stream::Tls(stream) => Pin::new(&mut **stream).poll_read(cx, into),
            Stream::None => Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
        }
    }
}

impl Stream {
    fn poll_write_vectored(&mut self, cx: &mut Context<'_>, slices: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        match self {
            Stream::Plain(Socket::Tcp(stream)) => Pin::new(stream).poll_write_vectored(cx, slices),
            Stream::Plain(Socket::Unix(stream)) => Pin::new(stream).poll_write_vectored(cx, slices),
            Stream::Tls(stream) => Pin::new(&mut **stream).poll_write_vectored(cx, slices),
            Stream::None => Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
        }
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Stream::Plain(Socket::Tcp(stream)) => Pin::new(stream).poll_flush(cx),
            Stream::Plain(Socket::Unix(stream)) => Pin::new(stream).poll_flush(cx),
            Stream::Tls(stream) => Pin::new(&mut **stream).poll_flush(cx),
            Stream::None => Poll::Ready(Ok(())),
        }
    }
}

#[cfg(test)]
#[path = "driver_tests.rs"]
mod tests;
