//! Sockets that take connections: bound while privileged, kept over a reload, one accept loop each.

use crate::scope::Place;
use crate::services::Reception;
use crate::session::Inbound;
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
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream, UnixListener};
use tokio_util::sync::CancellationToken;

/// How long the accept loop rests when the process is out of descriptors.
const EXHAUSTED_PAUSE: Duration = Duration::from_millis(100);

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
    running: HashMap<String, (CancellationToken, tokio::task::JoinHandle<()>)>,
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
            bound.push(Bound { name: entry.name.to_string(), place, socket });
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
            let name = bound.name.clone();
            let task = tokio::spawn(accept_loop(rx.clone(), bound, stop.clone()));
            self.running.insert(name, (stop, task));
        }
    }

    /// Closes the sockets that the configuration no longer has. Their sessions end between two messages.
    pub fn retain(&mut self, config: &Config) {
        let wanted = |name: &str| {
            let esmtp = config.listeners().iter().filter(|l| l.kind == ListenerKind::Esmtp);
            esmtp.flat_map(|l| &l.listens).any(|entry| entry.enabled && *entry.name == *name)
        };
        self.running.retain(|name, (stop, _)| {
            let keep = wanted(name);
            if !keep {
                stop.cancel();
            }
            keep
        });
    }
}

async fn accept_loop(rx: Arc<Reception>, bound: Bound, stop: CancellationToken) {
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => return,
            accepted = accept(&bound.socket) => accepted,
        };
        match accepted {
            Ok((Stream::Tcp(stream), peer)) => begin(&rx, &bound, stream, peer),
            Ok((Stream::Unix(stream), peer)) => begin(&rx, &bound, stream, peer),
            Err(error) => {
                rx.log.panic(Level::Error, Subsystem::Net, &format!("accept on {}: {error}", bound.name));
                tokio::time::sleep(EXHAUSTED_PAUSE).await;
            }
        }
    }
}

enum Stream {
    Tcp(TcpStream),
    Unix(tokio::net::UnixStream),
}

async fn accept(socket: &Socket) -> io::Result<(Stream, Peer)> {
    match socket {
        Socket::Tcp(listener) => {
            let (stream, remote) = listener.accept().await?;
            stream.set_nodelay(true)?;
            let local = stream.local_addr()?;
            Ok((Stream::Tcp(stream), Peer { remote: canonical(remote), local: canonical(local), name: PeerName::Unsaid }))
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
fn begin<S>(rx: &Arc<Reception>, bound: &Bound, mut stream: S, peer: Peer)
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    metrics::INBOUND_CONNECTIONS.add(1);
    let generation = rx.generation.load_full();
    let Some(scope) = rx.scopes.get(&generation, bound.place, peer.remote.ip()) else {
        return; // the listen is gone: a reload is closing this socket
    };
    let now = rx.clock.now();
    let line = SessionLine {
        remote: peer.remote,
        listener: bound.name.as_str().into(),
        service: "SMTP",
        state: "connected",
        since: now,
    };
    let Some(admission) = rx.sessions.admit(line, &scope.caps, scope.sessions_per_address_max) else {
        let rejection = Rejection {
            now,
            remote: Some(peer.remote),
            local: Some(peer.local),
            pathway: scope.pathway.as_deref().unwrap_or_default(),
            pathway_group: scope.pathway_group.as_deref().unwrap_or_default(),
            code: 421,
            text: "4.4.5 Service unavailable, concurrency limit reached.",
            ..Rejection::NONE
        };
        rx.log.rejection(&rejection);
        tokio::spawn(async move {
            let _ = stream.write_all(b"421 4.4.5 Service unavailable, concurrency limit reached.\r\n").await;
            let _ = stream.shutdown().await;
        });
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
    tokio::spawn(serve(stream, peer, inbound, options));
}
