//! Moves bytes between a connection and the machine of its session, and asks the handler what the machine wants to know.
//!
//! One read buffer, one write buffer. Replies leave when the input is drained, when a handler takes its time, or when the
//! session ends: a client that does not pipeline costs one read and one write per command, and so does a whole pipelined
//! group. One timer per session; it is moved when it fires, not at every command.

use super::handler::{AuthOutcome, Ended, Handler, Peer, TlsFacts};
use super::input::Input;
use super::machine::{Action, Machine};
use super::transport::Transport;
use crate::Reply;
use crate::proxy::{self, Parsed};
use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, SystemTime};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio::time::{Instant, Sleep};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

/// Room to read commands into.
const COMMAND_READ_SIZE: usize = 4 << 10;
/// Room to read content into: begins here, grows to the maximum while reads fill it.
const CONTENT_READ_SIZE: usize = 16 << 10;
const CONTENT_READ_SIZE_MAX: usize = 64 << 10;
/// Replies that wait for the end of a pipelined group; beyond, they are sent at once.
const REPLIES_SIZE_MAX: usize = 16 << 10;
/// How long a client may leave our replies unread where `idle_time` is 0.
const WRITE_TIMEOUT: Duration = Duration::from_secs(300);
/// How long the last words of a session are waited for: `shutdown`, and what the client still sends.
const LINGER: Duration = Duration::from_secs(2);
/// Later than any session.
const NEVER: Duration = Duration::from_secs(30 * 86_400);

/// What the listener knows of a connection.
#[derive(Clone, Debug)]
pub struct DriverOptions {
    /// A PROXY header must come first, within that many seconds (0: no limit). Without a valid one the connection is closed
    /// without a byte.
    pub proxy_protocol: Option<u64>,
    /// TLS from the first byte (`use_ssl`), after a PROXY header.
    pub implicit_tls: Option<Arc<rustls::ServerConfig>>,
    /// The server stops: sessions end with 421 at once, those within a message's content once it has its reply.
    pub shutdown: CancellationToken,
    /// How long such content may take, in seconds.
    pub shutdown_grace_s: u64,
}

impl Default for DriverOptions {
    fn default() -> DriverOptions {
        DriverOptions {
            proxy_protocol: None,
            implicit_tls: None,
            shutdown: CancellationToken::new(),
            shutdown_grace_s: 30,
        }
    }
}

/// Serves one connection to its end. `Handler::ended` is the last call, in every case.
///
/// TCP_NODELAY is the listener's matter: with it off, the last segment of a reply may wait for the client's ACK.
pub async fn serve<S, H>(stream: S, peer: Peer, handler: H, options: DriverOptions) -> Ended
where
    S: AsyncRead + AsyncWrite + Unpin + Send,
    H: Handler,
{
    let now = Instant::now();
    // A token of its own, so that polling it takes no lock that sessions share.
    let token = options.shutdown.child_token();
    let timer = pin!(tokio::time::sleep_until(now + NEVER));
    let shutdown = pin!(token.cancelled_owned());
    let mut handler = handler;
    let settings = handler.settings();
    let mut driver = Driver {
        transport: Transport::Plain(stream),
        machine: Machine::new(settings, peer),
        handler,
        input: Input::new(),
        out: Vec::with_capacity(512),
        clock: Waits { timer, shutdown, started: now, stopping: false, grace_end: None },
        content_read_size: CONTENT_READ_SIZE,
        shutdown_grace: Duration::from_secs(options.shutdown_grace_s),
    };
    let ended = match driver.connect(&options).await {
        Ok(()) => driver.converse().await,
        Err(ended) => ended,
    };
    driver.handler.ended(ended).await;
    ended
}

struct Driver<'t, S, H> {
    transport: Transport<S>,
    handler: H,
    machine: Machine,
    input: Input,
    /// Replies that are not sent yet.
    out: Vec<u8>,
    clock: Waits<'t>,
    content_read_size: usize,
    shutdown_grace: Duration,
}

/// What a session waits for besides its client.
struct Waits<'t> {
    timer: Pin<&'t mut Sleep>,
    shutdown: Pin<&'t mut WaitForCancellationFutureOwned>,
    started: Instant,
    stopping: bool,
    grace_end: Option<Instant>,
}

enum Woken<T> {
    Ready(T),
    Deadline,
    Shutdown,
}

impl<S, H> Driver<'_, S, H>
where
    S: AsyncRead + AsyncWrite + Unpin + Send,
    H: Handler,
{
    /// PROXY header, implicit handshake, greeting.
    async fn connect(&mut self, options: &DriverOptions) -> Result<(), Ended> {
        let mut peer = self.machine.peer().clone();
        if let Some(timeout_s) = options.proxy_protocol {
            let limit = if timeout_s == 0 { NEVER } else { Duration::from_secs(timeout_s) };
            let header = tokio::time::timeout(limit, self.proxy_header()).await;
            match header {
                Ok(Some(addresses)) => {
                    if let Some((remote, local)) = addresses {
                        (peer.remote, peer.local) = (remote, local);
                    }
                }
                Ok(None) | Err(_) => return Err(Ended::ByServer),
            }
            self.machine = Machine::new(self.handler.settings(), peer.clone());
        }
        self.machine.set_realm(self.handler.realm());
        if let Some(config) = &options.implicit_tls {
            let prefix = self.input.unread().to_vec();
            self.input.clear();
            if !self.handshake(config.clone(), prefix).await? {
                return Ok(());
            }
        }
        let reply = self.handler.connected(&peer).await;
        self.machine.set_settings(self.handler.settings());
        self.machine.greet(reply, SystemTime::now(), &mut self.out);
        Ok(())
    }

    /// Reads a PROXY header. `None`: there is none that is valid.
    async fn proxy_header(&mut self) -> Option<proxy::Addresses> {
        loop {
            match proxy::parse(self.input.unread()) {
                Parsed::Header { size, addresses } => {
                    self.input.consume(size);
                    return Some(addresses);
                }
                Parsed::Invalid => return None,
                Parsed::Partial => {}
            }
            let buffer = self.input.room(proxy::HEADER_SIZE_MAX);
            if !matches!(self.transport.read_buf(buffer).await, Ok(1..)) {
                return None;
            }
        }
    }

    /// True: the session goes on. Otherwise its last words are in `out`.
    async fn handshake(&mut self, config: Arc<rustls::ServerConfig>, prefix: Vec<u8>) -> Result<bool, Ended> {
        let config = match self.handler.tls_config(config).await {
            Ok(config) => config,
            Err(error) => {
                self.handler.tls_failed(&error);
                return Err(Ended::ByServer);
            }
        };
        let facts: TlsFacts = match self.transport.start_tls(config, prefix).await {
            Ok(facts) => facts,
            Err(error) => {
                self.handler.tls_failed(&error.to_string());
                return Err(Ended::Aborted);
            }
        };
        self.machine.tls_started();
        let refusal = self.handler.tls_started(&facts).await.filter(|reply| !reply.is_positive());
        self.machine.set_settings(self.handler.settings());
        let goes_on = refusal.is_none();
        if let Some(reply) = refusal {
            self.machine.farewell(reply, &mut self.out);
        }
        Ok(goes_on)
    }

    async fn converse(&mut self) -> Ended {
        loop {
            let result = match self.machine.next(&mut self.input, &mut self.out) {
                Action::Read => self.fill().await,
                Action::Close(how) => return self.close(how).await,
                action => self.act(action).await,
            };
            if let Err(how) = result {
                return how;
            }
            if self.out.len() > REPLIES_SIZE_MAX
                && let Err(how) = self.flush().await
            {
                return how;
            }
        }
    }

    async fn act(&mut self, action: Action) -> Result<(), Ended> {
        let Driver { transport, handler, machine, input, out, .. } = self;
        match action {
            Action::Mail | Action::Reset if let Some(reply) = handler.farewell() => machine.farewell(reply, out),
            Action::Mail => {
                machine.set_settings(handler.settings()); // a reload may have been taken up
                let reply = meanwhile(transport, out, handler.mail(machine.mail_command())).await;
                machine.mailed(reply, out);
            }
            Action::Rcpt => {
                let reply = meanwhile(transport, out, handler.rcpt(machine.rcpt_command())).await;
                machine.rcpted(reply, out);
            }
            Action::Data => {
                let reply = meanwhile(transport, out, handler.data()).await;
                machine.data_begun(reply, out);
            }
            Action::Body => {
                machine.read_body(input, handler.body_buffer());
                if handler.body_wants_flush()
                    && !machine.body_is_dropped()
                    && let Err(reply) = handler.body_grew().await
                {
                    machine.body_failed(reply);
                }
            }
            Action::BodyEnd => {
                let reply = match machine.body_failure() {
                    Some(reply) => {
                        handler.reset();
                        reply
                    }
                    None => {
                        let fault = machine.body_fault();
                        meanwhile(transport, out, handler.body_end(fault)).await
                    }
                };
                machine.body_ended(&reply, out);
            }
            Action::Hello { esmtp } => {
                let reply = meanwhile(transport, out, handler.hello(esmtp, machine.hello_name())).await;
                machine.set_settings(handler.settings());
                machine.helloed(esmtp, reply, out);
            }
            Action::Reset => {
                handler.reset();
                machine.set_settings(handler.settings());
                machine.reset(out);
            }
            Action::Refused(phase, reply) => handler.refused(phase, &reply),
            Action::StartTls => return self.starttls().await,
            Action::Secret | Action::Verify | Action::Authenticate(_) => self.authenticate(action).await,
            Action::PeerChange | Action::SetContext | Action::DumpContext => self.trusted(action).await,
            Action::Read | Action::Close(_) => {}
        }
        Ok(())
    }

    async fn starttls(&mut self) -> Result<(), Ended> {
        let Some(config) = self.machine.settings().tls.clone() else { return Err(Ended::ByServer) };
        self.flush().await?;
        // Whatever came with the command was said in clear, and is forgotten.
        self.input.clear();
        self.handler.reset();
        self.handshake(config, Vec::new()).await.map(|_| ())
    }

    async fn authenticate(&mut self, action: Action) {
        let Driver { transport, handler, machine, out, .. } = self;
        let Some(exchange) = machine.exchange() else { return };
        let (mechanism, user) = (exchange.mechanism(), exchange.user());
        match action {
            Action::Secret => {
                let secret = meanwhile(transport, out, handler.secret(mechanism, user)).await;
                machine.secret(secret, out);
            }
            Action::Verify => {
                let outcome = meanwhile(transport, out, handler.verify(mechanism, user, exchange.password())).await;
                machine.verified(outcome);
            }
            Action::Authenticate(found) => {
                let outcome: AuthOutcome = handler.judge(mechanism, user, found);
                let reply = meanwhile(transport, out, handler.authenticated(mechanism, user, outcome)).await;
                machine.set_settings(handler.settings());
                machine.authenticated(outcome, reply, out);
            }
            _ => {}
        }
    }

    async fn trusted(&mut self, action: Action) {
        let Driver { transport, handler, machine, out, .. } = self;
        match action {
            Action::PeerChange => {
                let Some(change) = machine.peer_change() else { return };
                if change.restart {
                    handler.reset();
                }
                let asked = handler.peer_changed(&change.peer, change.helo.as_deref(), change.login.as_deref());
                let reply = meanwhile(transport, out, asked).await;
                machine.set_settings(handler.settings());
                machine.peer_changed(reply, SystemTime::now(), out);
            }
            Action::SetContext => {
                let pairs = machine.context_pairs();
                let result = pairs.iter().try_for_each(|(key, value)| handler.set_context(key, value));
                machine.context_set(result, out);
            }
            _ => machine.context_dumped(&handler.dump_context(), out),
        }
    }

    /// Sends the replies, then waits for more input.
    async fn fill(&mut self) -> Result<(), Ended> {
        self.flush().await?;
        let in_content = self.machine.in_content();
        if self.clock.stopping && !in_content {
            self.say_farewell();
            return Ok(());
        }
        let room = if in_content {
            self.content_read_size
        } else {
            // A line that is not whole yet gets room for the rest.
            COMMAND_READ_SIZE.max(self.input.unread().len() + COMMAND_READ_SIZE / 2)
        };
        let settings = self.machine.settings();
        // From now on the server waits for the client: what hooks and disks took before does not count.
        let idle = seconds(settings.idle_time_s).map(|idle| Instant::now() + idle);
        let session = seconds(settings.max_session_time_s).map(|time| self.clock.started + time);
        let deadline = [idle, session, self.clock.grace_end].into_iter().flatten().min();
        let buffer = self.input.room(room);
        let read = pin!(self.transport.read_buf(buffer));
        match self.clock.until(read, deadline, true).await {
            Woken::Ready(Ok(0)) | Woken::Ready(Err(_)) => return Err(Ended::Aborted),
            Woken::Ready(Ok(count)) => {
                if in_content && count == room {
                    self.content_read_size = (room * 4).min(CONTENT_READ_SIZE_MAX);
                }
            }
            Woken::Shutdown => {
                self.clock.stopping = true;
                if self.machine.in_content() {
                    self.clock.grace_end = Some(Instant::now() + self.shutdown_grace);
                }
            }
            Woken::Deadline => {
                let passed = |end: Option<Instant>| end.is_some() && end == deadline;
                if passed(self.clock.grace_end) {
                    self.say_farewell();
                } else {
                    let what = if passed(idle) { "idle timeout" } else { "session time exceeded" };
                    self.machine.time_out(what, &mut self.out);
                }
            }
        }
        Ok(())
    }

    fn say_farewell(&mut self) {
        let reply = self.handler.farewell().unwrap_or_else(|| {
            let text = format!("{} shutting down", self.machine.settings().hostname);
            Reply { code: 421, enhanced: Some((4, 3, 2)), text: text.into(), close: true }
        });
        self.machine.farewell(reply, &mut self.out);
    }

    async fn flush(&mut self) -> Result<(), Ended> {
        if self.out.is_empty() && self.transport.is_plain() {
            return Ok(()); // TLS may still hold a record that `meanwhile` could not send whole
        }
        let Driver { transport, out, clock, machine, .. } = self;
        let mut send = pin!(poll_fn(|cx| transport.poll_send(cx, out)));
        // Mostly the socket takes it all, and neither clock nor timer is asked.
        let sent = match poll_fn(|cx| Poll::Ready(send.as_mut().poll(cx))).await {
            Poll::Ready(sent) => sent,
            Poll::Pending => {
                let timeout = seconds(machine.settings().idle_time_s).unwrap_or(WRITE_TIMEOUT);
                match clock.until(send, Some(Instant::now() + timeout), false).await {
                    Woken::Ready(sent) => sent,
                    Woken::Deadline | Woken::Shutdown => return Err(Ended::Aborted),
                }
            }
        };
        if sent.is_err() {
            return Err(Ended::Aborted);
        }
        if self.out.capacity() > REPLIES_SIZE_MAX {
            self.out = Vec::with_capacity(512);
        }
        Ok(())
    }

    /// The last words, then the end. Where we end it, what the client still sends is read for a moment: closing a socket
    /// with unread bytes in it would reset the connection and take our reply along.
    async fn close(&mut self, how: Ended) -> Ended {
        if self.flush().await.is_err() || (how == Ended::Quit && self.transport.is_plain()) {
            return how;
        }
        let Driver { transport, input, .. } = self;
        let linger = async {
            if transport.finish().await.is_err() || how == Ended::Quit {
                return;
            }
            let mut left = CONTENT_READ_SIZE_MAX;
            while left > 0 {
                input.clear();
                match transport.read_buf(input.room(COMMAND_READ_SIZE)).await {
                    Ok(1..) => left = left.saturating_sub(input.unread().len()),
                    _ => return,
                }
            }
        };
        let _ = tokio::time::timeout(LINGER, linger).await;
        how
    }
}

impl Waits<'_> {
    /// Waits for `work`, but no longer than to `deadline`, nor (where `interruptible`) than to the server's shutdown.
    async fn until<T>(
        &mut self,
        mut work: Pin<&mut impl Future<Output = T>>,
        deadline: Option<Instant>,
        interruptible: bool,
    ) -> Woken<T> {
        poll_fn(|cx| {
            if let Poll::Ready(done) = work.as_mut().poll(cx) {
                return Poll::Ready(Woken::Ready(done));
            }
            // The timer may stand at a deadline of before: it moves backwards at once, forwards when it fires.
            if deadline.is_some_and(|deadline| deadline < self.timer.deadline()) {
                self.timer.as_mut().reset(deadline.unwrap_or(self.started));
            }
            while self.timer.as_mut().poll(cx).is_ready() {
                let now = Instant::now();
                match deadline {
                    Some(deadline) if deadline <= now => return Poll::Ready(Woken::Deadline),
                    Some(deadline) => self.timer.as_mut().reset(deadline),
                    None => self.timer.as_mut().reset(now + NEVER),
                }
            }
            if interruptible && !self.stopping && self.shutdown.as_mut().poll(cx).is_ready() {
                return Poll::Ready(Woken::Shutdown);
            }
            Poll::Pending
        })
        .await
    }
}

/// Waits for the handler. If that takes its time, the replies so far need not wait for it.
async fn meanwhile<S, T>(transport: &mut Transport<S>, out: &mut Vec<u8>, work: impl Future<Output = T>) -> T
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut work = pin!(work);
    let mut send = true;
    poll_fn(|cx| {
        if let Poll::Ready(done) = work.as_mut().poll(cx) {
            return Poll::Ready(done);
        }
        if send && !out.is_empty() {
            // A broken connection shows itself at the next flush: the handler's work comes first.
            send = !matches!(transport.poll_send(cx, out), Poll::Ready(Err(io::Error { .. })));
        }
        Poll::Pending
    })
    .await
}

/// 0 means no limit.
fn seconds(count: u64) -> Option<Duration> {
    (count > 0).then(|| Duration::from_secs(count).min(NEVER))
}
