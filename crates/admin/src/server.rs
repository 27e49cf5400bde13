//! The listeners of the control channel and the driver of a session: bytes between a socket and `Session`.
//!
//! One task for each connection; requests of a connection are answered one after the other, in order. A connection ends
//! when the client closes, speaks another protocol, or is idle for the listener's timeout.

use crate::access::{Access, Client};
use crate::framing::{Requests, encode_reply};
use crate::session::Session;
use crate::view::{InboundSession, Services};
use ph_eventlog::{Level, Subsystem, metrics};
use ph_message::Time;
use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{Semaphore, watch};

/// Control sessions at one time, over all listeners.
const SESSIONS_MAX: usize = 256;
/// Seconds that a client has to take a reply.
const WRITE_TIMEOUT_S: u64 = 60;
/// Used where the listener's timeout is 0.
const IDLE_TIMEOUT_S: u64 = 60;
const READ_SIZE: usize = 16 << 10;

/// The rules for a connection: the listener as configured, and who is there.
pub type Rules = dyn Fn(&str, &Client) -> Access + Send + Sync;

/// The control channel of a process. Clones share it.
#[derive(Clone)]
pub struct ControlServer {
    inner: Arc<Inner>,
}

struct Inner {
    services: Arc<Services>,
    rules: Box<Rules>,
    places: Arc<Semaphore>,
    open: parking_lot::Mutex<HashMap<u64, Open>>,
    next: AtomicU64,
}

struct Open {
    fd: i32,
    remote: Option<SocketAddr>,
    state: &'static str,
    since: Time,
}

impl ControlServer {
    /// `rules` is asked at every connect, so that a reload of the configuration needs no word here.
    pub fn new(
        services: Arc<Services>,
        rules: impl Fn(&str, &Client) -> Access + Send + Sync + 'static,
    ) -> ControlServer {
        let inner = Inner {
            services,
            rules: Box::new(rules),
            places: Arc::new(Semaphore::new(SESSIONS_MAX)),
            open: parking_lot::Mutex::default(),
            next: AtomicU64::new(0),
        };
        ControlServer { inner: Arc::new(inner) }
    }

    /// Serves a unix socket until `stop` becomes true (or its sender is gone). `listen` is the name as configured.
    pub async fn serve_unix(&self, listener: UnixListener, listen: &str, mut stop: watch::Receiver<bool>) {
        loop {
            let accepted = tokio::select! {
                () = stopped(&mut stop) => return,
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, _)) => {
                    let uid = stream.peer_cred().map(|cred| cred.uid());
                    let (server, listen, stop) = (self.clone(), listen.to_owned(), stop.clone());
                    tokio::spawn(async move {
                        let user = match uid {
                            Ok(uid) => user_name(uid).await,
                            Err(_) => "unknown".to_owned(),
                        };
                        let fd = stream.as_raw_fd();
                        server.serve(stream, fd, &listen, Client::Local { user }, stop).await;
                    });
                }
                Err(error) => self.accept_failed(listen, &error).await,
            }
        }
    }

    /// Serves a TCP socket until `stop` becomes true (or its sender is gone). `listen` is the name as configured.
    pub async fn serve_tcp(&self, listener: TcpListener, listen: &str, mut stop: watch::Receiver<bool>) {
        loop {
            let accepted = tokio::select! {
                () = stopped(&mut stop) => return,
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, remote)) => {
                    let (server, listen, stop) = (self.clone(), listen.to_owned(), stop.clone());
                    tokio::spawn(async move {
                        // Replies are whole messages; waiting for more would only delay them. An error here is the
                        // next read's as well.
                        let _ = stream.set_nodelay(true);
                        let fd = stream.as_raw_fd();
                        server.serve(stream, fd, &listen, Client::Remote(remote), stop).await;
                    });
                }
                Err(error) => self.accept_failed(listen, &error).await,
            }
        }
    }

    /// The sessions open now, for `show inbound`.
    pub fn sessions(&self) -> Vec<InboundSession> {
        let now = self.inner.services.clock.now();
        let open = self.inner.open.lock();
        open.values()
            .map(|session| InboundSession {
                fd: session.fd,
                service: "Control",
                remote: session.remote,
                state: session.state.to_owned(),
                since: now.since(session.since),
            })
            .collect()
    }

    async fn accept_failed(&self, listen: &str, error: &io::Error) {
        let text = format!("control listener {listen}: accept: {error}");
        self.inner.services.log.panic(Level::Warning, Subsystem::Net, &text);
        // Out of descriptors, mostly: another try at once would fail as well.
        tokio::time::sleep(Duration::from_millis(100)).await;
    }

    async fn serve<S>(&self, stream: S, fd: i32, listen: &str, client: Client, mut stop: watch::Receiver<bool>)
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        // Beyond the limit a connection is closed at once: a client sees that it was not served.
        let Ok(_place) = Arc::clone(&self.inner.places).try_acquire_owned() else { return };
        let _held = metrics::CONSOLE_SESSIONS.hold();
        let number = self.inner.next.fetch_add(1, Relaxed);
        let remote = match &client {
            Client::Remote(remote) => Some(*remote),
            Client::Local { .. } => None,
        };
        let since = self.inner.services.clock.now();
        self.inner.open.lock().insert(number, Open { fd, remote, state: "idle", since });
        let access = (self.inner.rules)(listen, &client);
        let session = Session::new(Arc::clone(&self.inner.services), access.clone(), client);
        // A dropped connection or a stop ends the session wherever it is; its transaction is then rolled back.
        tokio::select! {
            () = stopped(&mut stop) => {}
            result = self.drive(stream, session, &access, number) => {
                // The client went away: nobody is left to tell.
                drop(result);
            }
        }
        self.inner.open.lock().remove(&number);
    }

    async fn drive<S>(&self, mut stream: S, mut session: Session, access: &Access, number: u64) -> io::Result<()>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let idle_timeout_s = if access.idle_timeout_s == 0 { IDLE_TIMEOUT_S } else { access.idle_timeout_s };
        let mut requests = Requests::default();
        let mut bytes = vec![0; READ_SIZE];
        let mut out = Vec::new();
        loop {
            while let Ok(Some(command)) = requests.next_command() {
                self.note(number, "running a command");
                let reply = session.command(&command).await;
                out.clear();
                encode_reply(reply.text.as_bytes(), &mut out);
                let write = async {
                    stream.write_all(&out).await?;
                    stream.flush().await
                };
                tokio::time::timeout(Duration::from_secs(WRITE_TIMEOUT_S), write).await??;
                self.note(number, "idle");
                if reply.close {
                    return stream.shutdown().await;
                }
            }
            if requests.next_command().is_err() {
                return Err(io::ErrorKind::InvalidData.into());
            }
            let idle = Duration::from_secs(idle_timeout_s);
            let Ok(read) = tokio::time::timeout(idle, stream.read(&mut bytes)).await else {
                session.timed_out();
                return Ok(());
            };
            let read = read?;
            if read == 0 {
                return Ok(());
            }
            requests.feed(&bytes[..read]);
        }
    }

    fn note(&self, number: u64, state: &'static str) {
        let since = self.inner.services.clock.now();
        if let Some(open) = self.inner.open.lock().get_mut(&number) {
            (open.state, open.since) = (state, since);
        }
    }
}

/// Binds a unix socket, in place of one that a dead process left. Fails when a living one listens there, or when
/// something else stands there.
pub fn bind_unix(path: &Path, mode: u32) -> io::Result<UnixListener> {
    match std::os::unix::net::UnixStream::connect(path) {
        Ok(_) => return Err(io::Error::new(io::ErrorKind::AddrInUse, format!("{} is in use", path.display()))),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused && is_socket(path) => {
            std::fs::remove_file(path)?;
        }
        Err(_) => {}
    }
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))?;
    Ok(listener)
}

fn is_socket(path: &Path) -> bool {
    use std::os::unix::fs::FileTypeExt;
    std::fs::symlink_metadata(path).is_ok_and(|meta| meta.file_type().is_socket())
}

async fn stopped(stop: &mut watch::Receiver<bool>) {
    // An error means that the sender is gone, and with it who could serve us.
    let _ = stop.wait_for(|stop| *stop).await;
}

async fn user_name(uid: u32) -> String {
    let look_up = move || nix::unistd::User::from_uid(nix::unistd::Uid::from_raw(uid));
    // The look-up may ask a directory server.
    match tokio::task::spawn_blocking(look_up).await {
        Ok(Ok(Some(user))) => user.name,
        _ => uid.to_string(),
    }
}
