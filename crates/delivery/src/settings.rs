//! The options of delivery for one (group, binding, domain): read once per generation, then values.
//!
//! The only file here, besides `route`, that knows names of options.

use crate::lookup::{Addresses, Lookup};
use crate::route::Route;
use arc_swap::ArcSwap;
use parking_lot::Mutex;
use ph_config::{Config, Scope, options as opt};
use ph_message::dsn::Inline;
use ph_message::{Context, Envelope};
use ph_queue::QueueRef;
use ph_smtp::client::{self, ClientTls, Credentials, Mechanism, Protocol, Timeouts, TlsMode, TlsOptions, Verify};
use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// The options of one queue.
#[derive(Clone, Debug)]
pub struct Settings {
    pub at: QueueRef,
    /// The generation of the configuration that they are from.
    pub generation: u64,
    pub session: SessionSettings,
    pub xclient: Xclient,
    pub send_8bitmime: bool,
    pub transform: Transform,
    pub auth: Option<Arc<Credentials>>,
    pub idle_timeout: Duration,
    /// `max_deliveries_per_connection`; `u32::MAX`: no limit.
    pub deliveries_max: u32,
    /// `max_recipients_per_connection`; `u32::MAX`: no limit.
    pub recipients_max: u32,
    /// `max_recipients_per_batch`.
    pub batch_max: usize,
    /// `migrate_connections_between_sibling_domains`.
    pub migrate: bool,
    /// `fully_resolve_before_smtp`.
    pub resolve_fully: bool,
    pub reports: Reports,
    /// The method, where it is none that is spoken here.
    pub unknown_method: Option<Arc<str>>,
}

/// What a connection is made with: queues that agree in it may share one.
#[derive(Clone, Debug, PartialEq)]
pub struct SessionSettings {
    pub protocol: Protocol,
    pub port: u16,
    pub bind: Bind,
    pub hello: Hello,
    pub hostname: Arc<str>,
    pub tls: TlsMode,
    pub tls_fallback: bool,
    pub verify: Verify,
    pub tls_options: TlsOptions,
    pub connect_timeout: Duration,
    pub timeouts: Timeouts,
    /// `tcp_buffer_size`, where it is set.
    pub send_buffer: Option<u32>,
}

/// Message context that goes before the options of the same names.
pub(crate) const LOGIN_KEYS: [&str; 3] =
    ["outbound_smtp_auth_type", "outbound_smtp_auth_user", "outbound_smtp_auth_pass"];

/// `bind_address`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Bind {
    Any,
    Address(IpAddr),
    /// A host name, resolved for each connection.
    Name(Arc<str>),
}

/// `ehlo_hostname`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hello {
    Name(Arc<str>),
    /// `__message__`: the domain of the first message's sender.
    Message,
}

/// `xclient`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Xclient {
    No,
    IfAvailable,
    Required,
}

/// `transform_8bitmime_content`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transform {
    No,
    IfNeeded,
    Strict,
    Strip,
}

/// Options of reports about failures and delays.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reports {
    pub generate: bool,
    /// `mailerdaemon`, or its default.
    pub from: Arc<str>,
    pub hostname: Arc<str>,
    pub mdn_failures_notify: Option<Arc<str>>,
    pub original: Inline,
    pub delay: bool,
    pub delay_first_s: u64,
    pub delay_max_s: u64,
}

impl Settings {
    /// Reads the options.
    pub fn new(config: &Config, at: &QueueRef) -> Settings {
        let scope = config.sending(&at.group, &at.binding, &at.domain);
        let method = scope.get(&opt::DELIVERY_METHOD);
        let protocol = match &*method.to_ascii_lowercase() {
            "esmtp" => Some(Protocol::Esmtp),
            "smtp" => Some(Protocol::Smtp),
            "lmtp" => Some(Protocol::Lmtp),
            _ => None,
        };
        Settings {
            at: at.clone(),
            generation: config.generation(),
            session: SessionSettings::new(config, &scope, protocol.unwrap_or(Protocol::Esmtp)),
            xclient: match &*scope.get(&opt::XCLIENT) {
                "ifavailable" => Xclient::IfAvailable,
                "required" => Xclient::Required,
                _ => Xclient::No,
            },
            send_8bitmime: &*scope.get(&opt::SEND_8BITMIME) == "ifavailable",
            transform: match &*scope.get(&opt::TRANSFORM_8BITMIME_CONTENT) {
                "no" => Transform::No,
                "strict" => Transform::Strict,
                "strip" => Transform::Strip,
                _ => Transform::IfNeeded,
            },
            auth: auth(
                scope.get(&opt::OUTBOUND_SMTP_AUTH_TYPE).as_deref(),
                scope.get(&opt::OUTBOUND_SMTP_AUTH_USER).as_deref(),
                scope.get(&opt::OUTBOUND_SMTP_AUTH_PASS).as_deref(),
            ),
            idle_timeout: Duration::from_secs(scope.get(&opt::IDLE_TIMEOUT)),
            deliveries_max: limit(scope.get(&opt::MAX_DELIVERIES_PER_CONNECTION)),
            recipients_max: limit(scope.get(&opt::MAX_RECIPIENTS_PER_CONNECTION)),
            batch_max: usize::try_from(scope.get(&opt::MAX_RECIPIENTS_PER_BATCH)).unwrap_or(100).max(1),
            migrate: config.global().get(&opt::MIGRATE_CONNECTIONS_BETWEEN_SIBLING_DOMAINS),
            resolve_fully: scope.get(&opt::FULLY_RESOLVE_BEFORE_SMTP),
            reports: Reports::new(config, &scope),
            unknown_method: protocol.is_none().then_some(method),
        }
    }

    /// Who to be for a message: its context goes before the options.
    pub fn auth_for(&self, envelope: &Envelope) -> Option<Arc<Credentials>> {
        let context: &Context = &envelope.mess_context;
        if context.is_empty() || LOGIN_KEYS.iter().all(|key| context.get(key).is_none()) {
            return self.auth.clone();
        }
        let known = self.auth.as_deref();
        auth(
            context.text(LOGIN_KEYS[0]).or(known.map(|who| who.mechanism.name())),
            context.text(LOGIN_KEYS[1]).or(known.map(|who| &*who.user)),
            context.text(LOGIN_KEYS[2]).or(known.map(|who| &*who.password)),
        )
    }
}

impl SessionSettings {
    fn new(config: &Config, scope: &Scope<'_>, protocol: Protocol) -> SessionSettings {
        let hostname = config.global().get(&opt::HOSTNAME);
        let bind = scope.get(&opt::BIND_ADDRESS);
        // Nobody is given no time at all.
        let seconds = |option: &ph_config::Opt<u64>| Duration::from_secs(scope.get(option).max(1));
        let port = if protocol == Protocol::Lmtp { &opt::LMTP_PORT } else { &opt::REMOTE_SMTP_PORT };
        let path = |value: Option<Arc<str>>| value.map(|path| PathBuf::from(&*path));
        let words = |value: Option<Arc<str>>| value.map(|words| words.to_string()).unwrap_or_default();
        SessionSettings {
            protocol,
            port: scope.get(port).try_into().unwrap_or(25),
            bind: match bind.parse() {
                _ if &*bind == "*" => Bind::Any,
                Ok(address) => Bind::Address(address),
                Err(_) => Bind::Name(bind),
            },
            hello: match &*scope.get(&opt::EHLO_HOSTNAME) {
                "__hostname__" => Hello::Name(hostname.clone()),
                "__message__" => Hello::Message,
                name => Hello::Name(name.into()),
            },
            hostname,
            tls: match &*scope.get(&opt::TLS) {
                "ifavailable" => TlsMode::IfAvailable,
                "required" => TlsMode::Required,
                _ => TlsMode::No,
            },
            tls_fallback: scope.get(&opt::TLS_IFAVAILABLE_FALLBACK),
            verify: match &*scope.get(&opt::TLS_VERIFY) {
                "ca" => Verify::Ca,
                "host" => Verify::Host,
                "optional" => Verify::Optional,
                _ => Verify::No,
            },
            tls_options: TlsOptions {
                ca: path(scope.get(&opt::TLS_CA)),
                certificate: path(scope.get(&opt::TLS_CERTIFICATE)),
                key: path(scope.get(&opt::TLS_KEY)),
                protocols: scope.get(&opt::TLS_PROTOCOLS).to_string(),
                ciphers: scope.get(&opt::TLS_CIPHERS).to_string(),
                ciphersuites_13: words(scope.get(&opt::TLSV13_CIPHERSUITES)),
                curves: words(config.global().get(&opt::TLS_EC_CURVE_NAMES)),
            },
            connect_timeout: seconds(&opt::CONNECT_TIMEOUT),
            timeouts: Timeouts {
                ehlo: seconds(&opt::EHLO_TIMEOUT),
                mail: seconds(&opt::MAILFROM_TIMEOUT),
                rcpt: seconds(&opt::RCPTTO_TIMEOUT),
                body: seconds(&opt::BODY_TIMEOUT),
                rset: seconds(&opt::RSET_TIMEOUT),
            },
            send_buffer: config.global().find(&opt::TCP_BUFFER_SIZE).and_then(|(size, _)| u32::try_from(size).ok()),
        }
    }

    /// The settings of the protocol machine; `sender_domain` is that of the first message, for `__message__`.
    pub fn machine(&self, tls: TlsMode, protocol: Protocol, sender_domain: &str) -> client::Settings {
        let hello = match &self.hello {
            Hello::Name(name) => name,
            Hello::Message if sender_domain.is_empty() => &self.hostname,
            Hello::Message => sender_domain,
        };
        client::Settings { protocol, hello: hello.to_owned(), tls, pipelining: true, timeouts: self.timeouts }
    }

    /// The address to send from, for a target of that family.
    pub async fn source(&self, lookup: &dyn Lookup, target: IpAddr) -> Result<Option<IpAddr>, SourceError> {
        match &self.bind {
            Bind::Any => Ok(None),
            Bind::Address(address) if address.is_ipv6() == target.is_ipv6() => Ok(Some(*address)),
            Bind::Address(_) => Err(SourceError::OtherFamily),
            Bind::Name(name) => match lookup.addresses(name, target.is_ipv6()).await {
                Addresses::Found(addresses) => {
                    let fits = |address: &&IpAddr| address.is_ipv6() == target.is_ipv6();
                    addresses.iter().find(fits).copied().map(Some).ok_or(SourceError::OtherFamily)
                }
                Addresses::Failed(reason) | Addresses::Silent(reason) => {
                    Err(SourceError::Unresolved(name.clone(), reason))
                }
            },
        }
    }
}

/// Why there is no source address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SourceError {
    /// The binding has none of the target's family: another target may do.
    OtherFamily,
    /// The name of the binding's address cannot be resolved.
    Unresolved(Arc<str>, String),
}

impl Reports {
    fn new(config: &Config, scope: &Scope<'_>) -> Reports {
        let hostname = config.global().get(&opt::HOSTNAME);
        let default_from = || format!("mailer-daemon@{hostname}").into();
        Reports {
            generate: scope.get(&opt::GENERATE_BOUNCES),
            from: scope.get(&opt::MAILERDAEMON).unwrap_or_else(default_from),
            mdn_failures_notify: scope.get(&opt::MDN_FAILURES_NOTIFY).filter(|address| !address.is_empty()),
            original: match &*scope.get(&opt::BOUNCES_INLINE_ORIGINAL) {
                "none" => Inline::None,
                "all" => Inline::Full,
                _ => Inline::Headers,
            },
            delay: scope.get(&opt::GENERATE_DELAY_DSN),
            delay_first_s: scope.get(&opt::DELAY_DSN_RETRY_INTERVAL).max(1),
            delay_max_s: scope.get(&opt::DELAY_DSN_MAX_RETRY_INTERVAL).max(1),
            hostname,
        }
    }
}

fn auth(kind: Option<&str>, user: Option<&str>, password: Option<&str>) -> Option<Arc<Credentials>> {
    let mechanism = Mechanism::named(kind?)?;
    Some(Arc::new(Credentials { mechanism, user: user?.to_owned(), password: password.unwrap_or("").to_owned() }))
}

/// An option in which 0 is no limit.
fn limit(value: i64) -> u32 {
    if value <= 0 { u32::MAX } else { u32::try_from(value).unwrap_or(u32::MAX) }
}

/// Queues whose settings are remembered; beyond that the table starts anew.
const QUEUES_MAX: usize = 16_384;
/// TLS configurations that are kept ready.
const TLS_MAX: usize = 256;
/// Routing domains that others may be rolled up to in one generation of the configuration: each stands in it.
const ROLLUPS_MAX: usize = 65_536;

/// Settings by queue, of the present generation.
pub struct SettingsCache {
    config: Arc<ArcSwap<Config>>,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    generation: u64,
    queues: HashMap<QueueRef, Arc<Settings>>,
    tls: HashMap<TlsOptions, Arc<ClientTls>>,
    /// Routing domains that others were rolled up to.
    rollups: HashSet<String>,
}

impl SettingsCache {
    pub fn new(config: Arc<ArcSwap<Config>>) -> SettingsCache {
        SettingsCache { config, known: Mutex::default() }
    }

    /// The generation that is valid now.
    pub fn generation(&self) -> u64 {
        self.config.load().generation()
    }

    /// The settings of a queue.
    pub fn of(&self, at: &QueueRef) -> Arc<Settings> {
        let config = self.config.load();
        let mut known = self.known.lock();
        if known.generation != config.generation() {
            *known = Known { generation: config.generation(), ..Known::default() };
        } else if known.queues.len() >= QUEUES_MAX {
            known.queues.clear();
        }
        if let Some(settings) = known.queues.get(at) {
            return settings.clone();
        }
        let settings = Arc::new(Settings::new(&config, at));
        known.queues.insert(at.clone(), settings.clone());
        settings
    }

    /// The routing domain under which mail for `at` is to be queued instead (`rollup_mx`): that of the first host of its
    /// route, the best first, that has one. A domain to which others were rolled up stays where it is, or two that name each other
    /// would pass their mail to and fro.
    pub(crate) fn rolled_up(&self, at: &QueueRef, route: &Route) -> Option<String> {
        let config = self.config.load();
        let mut looked_at: Option<&str> = None;
        for target in &route.targets {
            if looked_at.replace(&target.host) == Some(&target.host) {
                continue; // another address of the same host
            }
            let host = config.host(&at.group, &at.binding, &target.host);
            if !host.get(&opt::ROLLUP_MX) {
                continue;
            }
            let name = host.get(&opt::ROLLUP_MX_NAME).unwrap_or_else(|| target.host.clone());
            let name = name.trim_end_matches('.').to_ascii_lowercase();
            let mut known = self.known.lock();
            if name.is_empty() || *at.domain == *name || known.rollups.contains(at.domain.as_str()) {
                return None;
            }
            if known.rollups.len() < ROLLUPS_MAX || known.rollups.contains(&name) {
                known.rollups.insert(name.clone());
                return Some(name);
            }
            return None;
        }
        None
    }

    /// TLS as options say, its files read on a thread that may wait. What is odd about them is told once, to `warn`.
    pub async fn tls(&self, options: &TlsOptions, warn: impl Fn(&str)) -> Result<Arc<ClientTls>, String> {
        if let Some(tls) = self.known.lock().tls.get(options) {
            return Ok(tls.clone());
        }
        let wanted = options.clone();
        let made = tokio::task::spawn_blocking(move || ClientTls::new(&wanted)).await;
        let tls = Arc::new(made.map_err(|error| error.to_string())?.map_err(|error| error.to_string())?);
        tls.warnings().iter().for_each(|text| warn(text));
        let mut known = self.known.lock();
        if known.tls.len() >= TLS_MAX {
            known.tls.clear();
        }
        known.tls.insert(options.clone(), tls.clone());
        Ok(tls)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(text: &str, binding: &str, domain: &str) -> Settings {
        let config = Config::parse("test", &format!("hostname = me.example {text}")).unwrap().config;
        Settings::new(&config, &QueueRef::new("default", binding, domain))
    }

    #[test]
    fn scopes_give_each_queue_its_own_settings() {
        let text = "binding b { bind_address = 192.0.2.1 ehlo_hostname = b.example }
            domain l.example { delivery_method = LMTP lmtp_port = 24 tls = required }
            domain h.example { ehlo_hostname = __message__ max_deliveries_per_connection = 10 }
            domain x.example { delivery_method = apn }";
        let b = settings(text, "b", "d.example");
        assert_eq!((&b.session.bind, b.session.port), (&Bind::Address("192.0.2.1".parse().unwrap()), 25));
        assert_eq!(b.session.hello, Hello::Name("b.example".into()));
        assert_eq!((b.deliveries_max, b.batch_max, b.idle_timeout), (u32::MAX, 100, Duration::from_secs(5)));
        let l = settings(text, "default", "l.example");
        assert_eq!((l.session.protocol, l.session.port, l.session.tls), (Protocol::Lmtp, 24, TlsMode::Required));
        let h = settings(text, "default", "h.example");
        assert_eq!(h.deliveries_max, 10);
        let hello = |sender: &str| h.session.machine(TlsMode::No, Protocol::Esmtp, sender).hello;
        assert_eq!((hello("s.example").as_str(), hello("").as_str()), ("s.example", "me.example"));
        assert_eq!(settings(text, "default", "x.example").unknown_method.as_deref(), Some("apn"));
        assert_eq!(&*h.reports.from, "mailer-daemon@me.example");
    }

    #[test]
    fn the_context_of_a_message_goes_before_the_options_of_auth() {
        let text = "outbound_smtp_auth_type = LOGIN outbound_smtp_auth_user = u outbound_smtp_auth_pass = p";
        let settings = settings(text, "default", "d.example");
        let mut context = Context::new();
        let who = |context: &Context| {
            let envelope = Envelope { mess_context: Arc::new(context.clone()), ..Envelope::default() };
            settings.auth_for(&envelope).map(|who| (who.mechanism, who.user.clone(), who.password.clone()))
        };
        assert_eq!(who(&context), Some((Mechanism::Login, "u".into(), "p".into())));
        context.set("outbound_smtp_auth_user", "other");
        context.set("outbound_smtp_auth_type", "plain");
        assert_eq!(who(&context), Some((Mechanism::Plain, "other".into(), "p".into())));
    }
}
