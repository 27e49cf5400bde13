//! Sockets that take connections: bound while privileged, kept over a reload, one accept loop each.

use crate::scope::{Place, SessionScope, SocketOptions};
use crate::services::Reception;
use crate::session::{CONCURRENCY_LIMIT, Inbound};
use crate::sessions::SessionLine;
use ph_config::{Config, ListenAddr, ListenerKind, options as opt};
use ph_eventlog::{Level, Rejection, Subsystem, metrics};
use ph_policy::Session;
use ph_smtp::server::{DriverOptions, Peer, PeerName, serve};
use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream, UnixListener};
use tokio_util::sync::CancellationToken;

/// How long the accept loop rests when it cannot accept.
const EXHAUSTED_PAUSE: Duration = Duration::from_millis(100);
/// How often a lack of descriptors is told of.
const EXHAUSTED_TOLD: Duration = Duration::from_secs(10);
/// No descriptor is left: in the process, in the system.
const EMFILE: i32 = 24;
const ENFILE: i32 = 23;
/// Tasks that accept from one socket.
const ACCEPTORS_MAX: usize = 64;

#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {name}: {source}")]
pub struct ListenError {
    pub name: String,
    pub source: io::Error,
}

enum Socket {
    Tcp(TcpListener),
    Unix(UnixListener),
}

/// A socket that is bound and listening but that nobody accepts from yet.
pub struct Bound {
    name: String,
    place: Place,
    socket: Socket,
    /// `concurrency`.
    acceptors: usize,
}

impl Bound {
    /// The address in use: the system's choice where the configuration says port 0.
    pub fn local_addr(&self) -> Option<SocketAddr> {
        match &self.socket {
            Socket::Tcp(listener) => listener.local_addr().ok(),
            Socket::Unix(_) => None,
        }
    }

    pub fn name(&self) -> &str {
        &self.name
    }
}

/// The accept loops that run now, by the name of their `listen`.
#[derive(Default)]
pub struct Listeners {
    running: HashMap<String, CancellationToken>,
}

/// Binds every enabled ESMTP `listen` that is not bound yet. Nothing is accepted before `Listeners::start`.
pub fn bind(config: &Config, already: &Listeners) -> Result<Vec<Bound>, ListenError> {
    let mut bound = Vec::new();
    for (listener, declared) in config.listeners().iter().enumerate() {
        if declared.kind != ListenerKind::Esmtp {
            continue;
        }
        for (listen, entry) in declared.listens.iter().enumerate() {
            if !entry.enabled || already.running.contains_key(&*entry.name) {
                continue;
            }
            let place = Place { listener, listen };
            let scope = config.listen_scope(listener, listen);
            let backlog = i32::try_from(scope.get(&opt::LISTEN_BACKLOG)).unwrap_or(500);
            let socket = open(&entry.address, backlog, scope.get(&opt::FILE_MODE))
                .map_err(|source| ListenError { name: entry.name.to_string(), source })?;
            let acceptors = usize::try_from(scope.get(&opt::CONCURRENCY)).unwrap_or(1).clamp(1, ACCEPTORS_MAX);
            bound.push(Bound { name: entry.name.to_string(), place, socket, acceptors });
        }
    }
    Ok(bound)
}

fn open(address: &ListenAddr, backlog: i32, mode: u32) -> io::Result<Socket> {
    match address {
        ListenAddr::Tcp(address) => {
            let domain = socket2::Domain::for_address(*address);
            let socket = socket2::Socket::new(domain, socket2::Type::STREAM, None)?;
            socket.set_reuse_address(true)?;
            if address.is_ipv6() {
                socket.set_only_v6(true)?;
            }
            socket.set_nonblocking(true)?;
            socket.bind(&(*address).into())?;
            socket.listen(backlog)?;
            Ok(Socket::Tcp(TcpListener::from_std(socket.into())?))
        }
        ListenAddr::Unix(path) => {
            replace_stale(path)?;
            let listener = UnixListener::bind(path)?;
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))?;
            Ok(Socket::Unix(listener))
        }
    }
}

/// Removes the socket of a dead process; the socket of a live one is an error.
fn replace_stale(path: &Path) -> io::Result<()> {
    match std::fs::symlink_metadata(path) {
        Ok(meta) if meta.file_type().is_socket() => match std::os::unix::net::UnixStream::connect(path) {
            Ok(_) => Err(io::Error::new(io::ErrorKind::AddrInUse, "another process listens there")),
            Err(_) => std::fs::remove_file(path),
        },
        Ok(_) => Err(io::Error::new(io::ErrorKind::AlreadyExists, "a file that is no socket is in the way")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

impl Listeners {
    pub fn start(&mut self, rx: &Arc<Reception>, bound: Vec<Bound>) {
        for bound in bound {
            let stop = rx.shutdown.child_token();
            let acceptors = bound.acceptors;
            let bound = Arc::new(bound);
            for _ in 0..acceptors {
                tokio::spawn(accept_loop(rx.clone(), bound.clone(), stop.clone()));
            }
            self.running.insert(bound.name.clone(), stop);
        }
    }

    /// Closes the sockets that the configuration no longer has. Their sessions end between two messages.
    pub fn retain(&mut self, config: &Config) {
        let wanted = |name: &str| {
            let esmtp = config.listeners().iter().filter(|l| l.kind == ListenerKind::Esmtp);
            esmtp.flat_map(|l| &l.listens).any(|entry| entry.enabled && *entry.name == *name)
        };
        self.running.retain(|name, stop| {
            let keep = wanted(name);
            if !keep {
                stop.cancel();
            }
            keep
        });
    }
}

async fn accept_loop(rx: Arc<Reception>, bound: Arc<Bound>, stop: CancellationToken) {
    let mut spare = Spare::new();
    let mut told: Option<Instant> = None;
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => return,
            accepted = accept(&bound.socket) => accepted,
        };
        let error = match accepted {
            Ok((stream, peer)) => {
                begin(&rx, &bound, stream, peer);
                continue;
            }
            Err(error) => error,
        };
        if told.is_none_or(|at| at.elapsed() >= EXHAUSTED_TOLD) {
            told = Some(Instant::now());
            rx.log.panic(Level::Error, Subsystem::Net, &format!("accept on {}: {error}", bound.name));
        }
        if !is_exhausted(&error) || !refuse_one(&rx, &bound, &mut spare).await {
            tokio::time::sleep(EXHAUSTED_PAUSE).await;
        }
    }
}

/// A descriptor that is kept for the time when there are no others.
struct Spare(Option<std::fs::File>);

impl Spare {
    fn new() -> Spare {
        Spare(std::fs::File::open("/dev/null").ok())
    }
}

/// No descriptor is left, in the process or the system.
fn is_exhausted(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(EMFILE | ENFILE))
}

/// Takes one client with the spare descriptor, to say that there is no place: better than to leave it waiting. False: that
/// was not possible.
async fn refuse_one(rx: &Reception, bound: &Bound, spare: &mut Spare) -> bool {
    let had_one = spare.0.take().is_some();
    let accepted = tokio::time::timeout(EXHAUSTED_PAUSE, accept(&bound.socket)).await;
    let refused = match accepted {
        Ok(Ok((stream, peer))) => {
            log_refusal(rx, &peer, None);
            // What does not fit into an empty socket buffer at once is not worth a descriptor.
            stream.say_at_once(format!("421 {CONCURRENCY_LIMIT}\r\n").as_bytes());
            true
        }
        _ => false,
    };
    *spare = Spare::new();
    refused && had_one
}

enum Stream {
    Tcp(TcpStream),
    Unix(tokio::net::UnixStream),
}

impl Stream {
    fn say_at_once(&self, text: &[u8]) {
        let _ = match self {
            Stream::Tcp(stream) => stream.try_write(text),
            Stream::Unix(stream) => stream.try_write(text),
        };
    }

    /// Buffers and Nagle's algorithm, as the scope wants them. A socket that refuses them serves all the same.
    fn tune(&self, wanted: &SocketOptions) {
        let Stream::Tcp(stream) = self else { return };
        let _ = stream.set_nodelay(wanted.nodelay);
        let socket = socket2::SockRef::from(stream);
        if wanted.recv_buffer > 0 {
            let _ = socket.set_recv_buffer_size(wanted.recv_buffer);
        }
        if wanted.send_buffer > 0 {
            let _ = socket.set_send_buffer_size(wanted.send_buffer);
        }
    }
}

async fn accept(socket: &Socket) -> io::Result<(Stream, Peer)> {
    match socket {
        Socket::Tcp(listener) => {
            let (stream, remote) = listener.accept().await?;
            let local = stream.local_addr()?;
            let peer = Peer { remote: canonical(remote), local: canonical(local), name: PeerName::Unsaid };
            Ok((Stream::Tcp(stream), peer))
        }
        Socket::Unix(listener) => {
            let (stream, _) = listener.accept().await?;
            let here = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
            Ok((Stream::Unix(stream), Peer { remote: here, local: here, name: PeerName::Unsaid }))
        }
    }
}

/// An IPv4 client on an IPv6 socket is an IPv4 client.
fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// Checks the caps and starts the session, or says why not and closes.
fn begin(rx: &Arc<Reception>, bound: &Bound, stream: Stream, peer: Peer) {
    metrics::INBOUND_CONNECTIONS.add(1);
    let generation = rx.generation.load_full();
    let Some(scope) = rx.scopes.get(&generation, bound.place, peer.remote.ip()) else {
        return; // the listen is gone: a reload is closing this socket
    };
    if scope.for_proxies_only {
        let text = format!("{} is none of the proxies of {}: closed", peer.remote, bound.name);
        return rx.log.panic(Level::Info, Subsystem::Net, &text);
    }
    stream.tune(&scope.socket);
    let now = rx.clock.now();
    let line = SessionLine {
        remote: peer.remote,
        listener: bound.name.as_str().into(),
        service: "SMTP",
        state: "connected",
        since: now,
    };
    // Behind a proxy many clients have its address; theirs are known, and counted, once its header has come.
    let per_address_max = if scope.proxy_protocol.is_some() { 0 } else { scope.sessions_per_address_max };
    let Some(admission) = rx.sessions.admit(line, &scope.caps, per_address_max) else {
        log_refusal(rx, &peer, Some(&scope));
        match stream {
            Stream::Tcp(stream) => _ = tokio::spawn(turn_away(stream)),
            Stream::Unix(stream) => _ = tokio::spawn(turn_away(stream)),
        }
        return;
    };
    let session = Session::new(rx.ids.next(now), peer.remote, peer.local, &bound.name, "SMTP");
    let options = DriverOptions {
        proxy_protocol: scope.proxy_protocol,
        implicit_tls: scope.implicit_tls.clone(),
        shutdown: rx.shutdown.clone(),
        ..DriverOptions::default()
    };
    let inbound = Inbound::new(rx.clone(), generation, bound.place, scope, admission, session, peer.clone());
    match stream {
        Stream::Tcp(stream) => _ = tokio::spawn(serve(stream, peer, inbound, options)),
        Stream::Unix(stream) => _ = tokio::spawn(serve(stream, peer, inbound, options)),
    }
}

async fn turn_away(mut stream: impl tokio::io::AsyncWrite + Unpin + Send) {
    let _ = stream.write_all(format!("421 {CONCURRENCY_LIMIT}\r\n").as_bytes()).await;
    let _ = stream.shutdown().await;
}

/// The rejectlog's line of a client for whom there is no place.
fn log_refusal(rx: &Reception, peer: &Peer, scope: Option<&SessionScope>) {
    rx.log.rejection(&Rejection {
        now: rx.clock.now(),
        remote: Some(peer.remote),
        local: Some(peer.local),
        pathway: scope.and_then(|scope| scope.pathway.as_deref()).unwrap_or_default(),
        pathway_group: scope.and_then(|scope| scope.pathway_group.as_deref()).unwrap_or_default(),
        code: 421,
        text: CONCURRENCY_LIMIT,
        ..Rejection::NONE
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn sockets_are_set_up_as_the_scope_says() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let _client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let Ok((Stream::Tcp(stream), peer)) = accept(&Socket::Tcp(listener)).await else { panic!("no client") };
        assert_eq!(peer.name, PeerName::Unsaid);
        let stream = Stream::Tcp(stream);
        let sizes = |stream: &Stream| {
            let Stream::Tcp(stream) = stream else { panic!("a TCP stream") };
            let socket = socket2::SockRef::from(stream);
            (stream.nodelay().unwrap(), socket.recv_buffer_size().unwrap(), socket.send_buffer_size().unwrap())
        };
        let before = sizes(&stream);
        stream.tune(&SocketOptions { nodelay: true, recv_buffer: 0, send_buffer: 0 });
        assert_eq!(sizes(&stream), (true, before.1, before.2), "0 leaves it to the system");
        // The system doubles what is asked for.
        stream.tune(&SocketOptions { nodelay: false, recv_buffer: 8192, send_buffer: 16384 });
        assert_eq!(sizes(&stream), (false, 16384, 32768));
    }
}
