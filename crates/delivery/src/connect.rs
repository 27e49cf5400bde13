//! Making a connection: a socket from the binding's address, then banner, EHLO and TLS, with a time for each.

use crate::connections::Entry;
use crate::route::Target;
use crate::services::Shared;
use crate::settings::{Settings, SourceError};
use ph_eventlog::{OutboundTls, Stage, Subsystem, metrics};
use ph_message::Id;
use ph_smtp::client::{Connection, Protocol, Socket, TlsMode, TlsTarget, text};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;
use tokio::net::{TcpSocket, TcpStream, UnixStream};

/// A connection that takes mail.
pub(crate) struct Open {
    pub connection: Connection,
    pub id: Id,
    pub host: Arc<str>,
    pub peer: IpAddr,
    /// The peer as logs name it.
    pub shown: IpAddr,
    pub port: u16,
    pub local: Option<IpAddr>,
    pub protocol: Protocol,
    pub tls: Option<OutboundTls>,
}

/// Why there is none.
pub(crate) struct NotOpen {
    pub stage: Stage,
    pub reply: String,
    pub id: Id,
    /// Once there was a socket.
    pub peer: Option<IpAddr>,
    pub whose: Fault,
}

/// Who is to blame for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The address: it rests for a while.
    Host,
    /// The binding has no address of this family: others may do.
    Family,
    /// This machine: no other address would do either.
    Here,
}

/// Connects to one target and greets. Falls back to clear text on a new connection where TLS is only opportunistic.
pub(crate) async fn open(
    shared: &Shared,
    settings: &Settings,
    target: &Target,
    sender_domain: &str,
    entry: &Entry,
) -> Result<Open, NotOpen> {
    let first = attempt(shared, settings, target, sender_domain, entry, settings.session.tls).await;
    match first {
        Err((_, true)) if settings.session.tls == TlsMode::IfAvailable && settings.session.tls_fallback => {
            attempt(shared, settings, target, sender_domain, entry, TlsMode::No).await.map_err(|(error, _)| error)
        }
        other => other.map_err(|(error, _)| error),
    }
}

async fn attempt(
    shared: &Shared,
    settings: &Settings,
    target: &Target,
    sender_domain: &str,
    entry: &Entry,
    tls: TlsMode,
) -> Result<Open, (NotOpen, bool)> {
    let session = &settings.session;
    let now = shared.clock.now();
    let id = shared.ids.next(now);
    entry.attempt(id, &target.host, target.shown(), now);
    let fail = |stage, reply: &str, peer, whose| NotOpen { stage, reply: reply.to_owned(), id, peer, whose };
    let protocol = target.protocol(session.protocol);
    // What lies behind a unix socket is this machine: there is nothing to be hidden from.
    let tls = if target.socket.is_some() && tls == TlsMode::IfAvailable { TlsMode::No } else { tls };
    let source = match session.source(shared.routes.lookup(), target.address).await {
        _ if target.socket.is_some() => None,
        Ok(source) => source,
        Err(SourceError::OtherFamily) => return Err((fail(Stage::NotConnected, "", None, Fault::Family), false)),
        Err(SourceError::Unresolved(name, reason)) => {
            shared.complain(
                Subsystem::Net,
                &format!("bind_address {name} of {} cannot be resolved: {reason}", settings.at),
            );
            return Err((fail(Stage::NotConnected, "", None, Fault::Here), false));
        }
    };
    let address = SocketAddr::new(target.address, target.port.unwrap_or(session.port));
    let connecting = async {
        match &target.socket {
            Some(path) => UnixStream::connect(path).await.map(Socket::Unix).map_err(ConnectError::of),
            None => connect(address, source, session.send_buffer).await.map(Socket::Tcp),
        }
    };
    let began = Instant::now();
    let connected = tokio::time::timeout(session.connect_timeout, connecting).await;
    match &connected {
        Ok(Ok(_)) => {
            metrics::OUTBOUND_CONNECTIONS.add(1);
            metrics::CONNECT_SECONDS.observe(began.elapsed());
        }
        _ => metrics::OUTBOUND_CONNECT_FAILURES.add(1),
    }
    let stream = match connected {
        Ok(Ok(stream)) => stream,
        Ok(Err(ConnectError::Refused)) => return Err((fail(Stage::NotConnected, "", None, Fault::Host), false)),
        Ok(Err(ConnectError::Here(error))) => {
            let from = source.map(|source| format!(" from {source}")).unwrap_or_default();
            shared.complain(Subsystem::Net, &format!("no socket{from} for {}: {error}", settings.at));
            return Err((fail(Stage::NotConnected, "", None, Fault::Here), false));
        }
        Err(_) => return Err((fail(Stage::NotConnected, text::CONNECT_TIMED_OUT, None, Fault::Host), false)),
    };
    let peer = Some(target.shown());
    let local = match &stream {
        Socket::Tcp(stream) => stream.local_addr().ok().map(|address| address.ip()),
        Socket::Unix(_) => peer,
    };
    entry.stage(Stage::ReadingBanner, shared.clock.now());
    let tls_target = match tls {
        TlsMode::No => None,
        _ => match shared.settings.tls(&session.tls_options, |text| shared.complain(Subsystem::Net, text)).await {
            Ok(tls) => Some(TlsTarget {
                tls,
                verify: session.verify,
                domain: settings.at.domain.to_string(),
                host: target.host.to_string(),
            }),
            Err(reason) => {
                shared.complain(Subsystem::Net, &format!("TLS of {}: {reason}", settings.at));
                return Err((fail(Stage::HandshakingTls, text::TLS_FAILED, peer, Fault::Here), true));
            }
        },
    };
    let machine = Arc::new(session.machine(tls, protocol, sender_domain));
    let trace = shared.connections.trace(&settings.at, id, target.shown());
    match Connection::open_traced(stream, machine, tls_target.as_ref(), trace).await {
        Ok(connection) => {
            metrics::OUTBOUND_TLS.add(u64::from(connection.tls().is_some()));
            let tls = connection.tls().map(|tls| OutboundTls {
                protocol: tls.protocol.clone(),
                cipher: tls.cipher.clone(),
                cipher_bits: tls.cipher_bits,
                verified: tls.verified,
                issuer: tls.issuer.clone(),
                subject: tls.subject.clone(),
            });
            let host = target.host.clone();
            let (peer, shown) = (target.address, target.shown());
            Ok(Open { connection, id, host, peer, shown, port: address.port(), local, protocol, tls })
        }
        Err(failure) => {
            metrics::OUTBOUND_TLS_FAILURES.add(u64::from(failure.tls));
            let stage = stage_of(failure.stage);
            Err((fail(stage, &failure.reply, peer, Fault::Host), failure.tls))
        }
    }
}

enum ConnectError {
    Refused,
    Here(io::Error),
}

async fn connect(address: SocketAddr, source: Option<IpAddr>, buffer: Option<u32>) -> Result<TcpStream, ConnectError> {
    let socket =
        if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }.map_err(ConnectError::Here)?;
    // Content, dot and the next commands go out together; waiting for more would only cost time.
    let _ = socket.set_nodelay(true);
    if let Some(size) = buffer.filter(|size| *size > 0) {
        let _ = socket.set_send_buffer_size(size);
    }
    if let Some(source) = source {
        socket.bind(SocketAddr::new(source, 0)).map_err(ConnectError::Here)?;
    }
    socket.connect(address).await.map_err(ConnectError::of)
}

impl ConnectError {
    fn of(error: io::Error) -> ConnectError {
        match error.kind() {
            // No port, no route to be asked for, no memory, no right: the host was not even tried.
            io::ErrorKind::AddrNotAvailable
            | io::ErrorKind::AddrInUse
            | io::ErrorKind::PermissionDenied
            | io::ErrorKind::OutOfMemory
            | io::ErrorKind::WouldBlock => ConnectError::Here(error),
            _ => ConnectError::Refused,
        }
    }
}

/// The client's stage as logs know it.
pub(crate) fn stage_of(stage: ph_smtp::client::Stage) -> Stage {
    Stage::ALL.get(usize::from(stage.number())).copied().unwrap_or(Stage::Unknown)
}
