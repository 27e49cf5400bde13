//! The control and HTTP listeners of a configuration: sockets, and the rules of their connections.

use anyhow::{Context, Result};
use arc_swap::ArcSwap;
use ph_admin::{Access, Client, ControlServer, DigestUsers, Groups, LoginUsers, Mechanisms, Role, Services, UserFile};
use ph_config::{Config, ListenAddr, ListenerKind, Receiving, Scope, options as opt};
use ph_eventlog::{EventLog, Level, Subsystem};
use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::watch;

/// A socket that listens and is not served yet.
pub struct Bound {
    name: String,
    kind: ListenerKind,
    socket: Socket,
}

enum Socket {
    Tcp(TcpListener),
    Unix(UnixListener),
}

/// The listeners that are served, by name; dropping a sender ends its accept loop.
#[derive(Default)]
pub struct ControlListeners {
    running: HashMap<String, watch::Sender<bool>>,
}

/// Binds what is not bound yet.
pub fn bind(config: &Config, already: &ControlListeners) -> Result<Vec<Bound>> {
    let mut bound = Vec::new();
    for (listener, declared) in config.listeners().iter().enumerate() {
        if !matches!(declared.kind, ListenerKind::Control | ListenerKind::Http) {
            continue;
        }
        for (listen, entry) in declared.listens.iter().enumerate().filter(|(_, entry)| entry.enabled) {
            if already.running.contains_key(&*entry.name) {
                continue;
            }
            let mode = config.listen_scope(listener, listen).get(&opt::FILE_MODE);
            let socket = open(&entry.address, mode).with_context(|| format!("cannot listen on {}", entry.name))?;
            bound.push(Bound { name: entry.name.to_string(), kind: declared.kind, socket });
        }
    }
    Ok(bound)
}

fn open(address: &ListenAddr, mode: u32) -> Result<Socket> {
    match address {
        ListenAddr::Unix(path) => {
            if let Some(folder) = path.parent() {
                std::fs::create_dir_all(folder)?;
            }
            Ok(Socket::Unix(ph_admin::bind_unix(path, mode)?))
        }
        ListenAddr::Tcp(address) => {
            let listener = std::net::TcpListener::bind(address)?;
            listener.set_nonblocking(true)?;
            Ok(Socket::Tcp(TcpListener::from_std(listener)?))
        }
    }
}

impl ControlListeners {
    pub fn start(&mut self, bound: Vec<Bound>, control: &ControlServer, services: &Arc<Services>) {
        for Bound { name, kind, socket } in bound {
            let (sender, stop) = watch::channel(false);
            let (control, services, listen) = (control.clone(), services.clone(), name.clone());
            tokio::spawn(async move {
                match (kind, socket) {
                    (ListenerKind::Http, Socket::Tcp(listener)) => ph_admin::serve_http(listener, services, stop).await,
                    (ListenerKind::Http, Socket::Unix(_)) => {} // refused when the configuration was judged
                    (_, Socket::Tcp(listener)) => control.serve_tcp(listener, &listen, stop).await,
                    (_, Socket::Unix(listener)) => control.serve_unix(listener, &listen, stop).await,
                }
            });
            self.running.insert(name, sender);
        }
    }

    /// Ends what the configuration no longer has.
    pub fn retain(&mut self, config: &Config) {
        self.running.retain(|name, _| {
            let mut all = config.listeners().iter().filter(|l| l.kind != ListenerKind::Esmtp).flat_map(|l| &l.listens);
            all.any(|entry| entry.enabled && *entry.name == **name)
        });
    }

    /// Ends all, and removes the unix sockets.
    pub fn close(&mut self) {
        for (name, _) in self.running.drain() {
            if name.starts_with('/') {
                let _ = std::fs::remove_file(name);
            }
        }
    }
}

/// What a client may do: asked at every connection, of the configuration in force.
pub fn access(config: &ArcSwap<Config>, log: &EventLog, listen: &str, client: &Client) -> Access {
    let config = config.load();
    let remote = match client {
        Client::Local { .. } => IpAddr::V4(Ipv4Addr::LOCALHOST),
        Client::Remote(address) => address.ip(),
    };
    let Some((listener, at)) = place(&config, listen) else {
        return Access { listener: listen.to_owned(), always_deny: true, ..Access::default() };
    };
    let scope = config.receiving(&Receiving { listener, listen: at, remote, pathway: None });
    let is_local = matches!(client, Client::Local { .. });
    let complain = |text: String| log.panic(Level::Error, Subsystem::Generic, &text);
    Access {
        listener: listen.to_owned(),
        // Unix sockets know the peer's user; a password is asked for there only at the listener's own word.
        enable_authentication: scope.get(&opt::ENABLE_AUTHENTICATION)
            && (!is_local || asks_itself(&config, listener, at)),
        always_allow: scope.get(&opt::ALWAYS_ALLOW),
        always_deny: scope.get(&opt::ALWAYS_DENY),
        mechanisms: mechanisms(&config, &scope),
        log_authentication: scope.get(&opt::AUTHDIGESTMD5PARAMETERS).flag("log_authentication", false),
        enable_authorization: scope.get(&opt::ENABLE_AUTHORIZATION),
        groups: user_file(scope.get(&opt::AUTHORIZATIONPARAMETERS)).map(|file| Groups { file }),
        roles: roles(&config, complain),
        idle_timeout_s: scope.get(&opt::CONTROL_TIMEOUT),
    }
}

fn place(config: &Config, listen: &str) -> Option<(usize, usize)> {
    config.listeners().iter().enumerate().filter(|(_, l)| l.kind == ListenerKind::Control).find_map(|(at, listener)| {
        listener.listens.iter().position(|entry| *entry.name == *listen).map(|listen| (at, listen))
    })
}

fn asks_itself(config: &Config, listener: usize, listen: usize) -> bool {
    let found = config.listen_scope(listener, listen).find(&opt::ENABLE_AUTHENTICATION);
    found.is_some_and(|(asks, origin)| asks && origin.kind == ph_config::ScopeKind::ControlListen)
}

fn user_file(parameters: Arc<ph_config::Dict>) -> Option<UserFile> {
    UserFile::parse(parameters.get("uri")?).ok()
}

fn mechanisms(config: &Config, scope: &Scope<'_>) -> Mechanisms {
    let digest = scope.get(&opt::AUTHDIGESTMD5PARAMETERS);
    let realm = digest.get("realm").map_or_else(|| config.global().get(&opt::HOSTNAME).to_string(), str::to_owned);
    Mechanisms {
        digest: user_file(digest.clone()).map(|file| DigestUsers {
            file,
            realm,
            stored_cleartext: digest.flag("stored_cleartext", false),
        }),
        login: user_file(scope.get(&opt::AUTHLOGINPARAMETERS)).map(|file| LoginUsers { file }),
    }
}

fn roles(config: &Config, complain: impl Fn(String)) -> Vec<Role> {
    let declared = config.roles();
    let role = |role: &ph_config::RoleDecl| {
        let patterns: Vec<&str> = role.allow.patterns().iter().map(|pattern| pattern.as_str()).collect();
        Role::new(&role.name, &patterns).map_err(&complain).ok()
    };
    declared.iter().filter_map(role).collect()
}
