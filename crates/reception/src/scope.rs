//! What the configuration says about one session: every option looked up once, for the listener, the listen address, the
//! client's network and the pathway.
//!
//! A look-up walks several scopes, so the result is kept for each client address and configuration generation; a session
//! asks again only when its peer changes (PROXY, XCLIENT) or when a reload happened.

use crate::services::Generation;
use crate::sessions::Cap;
use crate::tls::{TlsContexts, wanted};
use parking_lot::Mutex;
use ph_config::options as opt;
use ph_config::{BucketId, CidrSet, Config, Dict, GlobSet, ListenerKind, Opt, Receiving, Scope, ScopeKind};
use ph_message::header_check::{LoneLineEnds, LongLines, MissingField, Rules};
use ph_policy::CapabilityEdit;
use ph_queue::Rate;
use ph_smtp::server::{LoneLf, Settings};
use ph_smtp::tls::ServerTls;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

/// Addresses whose scope is kept; beyond that the table starts anew.
const CACHE_SIZE_MAX: usize = 8192;

/// Where a connection came in: indexes into `Config::listeners`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Place {
    pub listener: usize,
    pub listen: usize,
}

/// The scopes that are known of one generation.
#[derive(Default)]
pub struct Scopes {
    cache: Mutex<Known>,
    tls: TlsContexts,
}

/// The generation's number, and what is known of it.
type Known = (u64, HashMap<(Place, IpAddr), Arc<SessionScope>>);

impl Scopes {
    /// The scope of a client; `None` when the generation no longer has the listen.
    pub fn get(&self, generation: &Generation, place: Place, remote: IpAddr) -> Option<Arc<SessionScope>> {
        let config = &generation.config;
        config.listeners().get(place.listener)?.listens.get(place.listen)?;
        let key = (place, remote);
        {
            let mut cache = self.cache.lock();
            if cache.0 != config.generation() || cache.1.len() >= CACHE_SIZE_MAX {
                *cache = (config.generation(), HashMap::new());
            }
            if let Some(scope) = cache.1.get(&key) {
                return Some(scope.clone());
            }
        }
        let scope = Arc::new(SessionScope::resolve(config, place, remote, &self.tls));
        self.cache.lock().1.insert(key, scope.clone());
        Some(scope)
    }

    /// Makes the TLS of every listen address, so that what is wrong is known before a client comes.
    pub fn prepare_tls(&self, config: &Config) {
        for (listener, declared) in config.listeners().iter().enumerate() {
            for listen in 0..declared.listens.len() {
                if declared.kind == ListenerKind::Esmtp && declared.listens[listen].enabled {
                    let scope = config.listen_scope(listener, listen);
                    self.tls.server_config(&scope, Place { listener, listen }, config.generation());
                }
            }
        }
    }

    /// The TLS that is in use.
    pub fn tls(&self) -> &TlsContexts {
        &self.tls
    }

    /// Sessions to come are judged anew, with new TLS.
    pub fn clear_tls(&self) {
        self.tls.clear();
        self.cache.lock().1.clear();
    }
}

/// One session's options.
pub struct SessionScope {
    pub settings: Arc<Settings>,
    pub pathway: Option<Arc<str>>,
    pub pathway_group: Option<Arc<str>>,
    pub context: Arc<Dict>,
    pub received_hostname: Arc<str>,
    pub caps: Vec<Cap>,
    pub sessions_per_address_max: u32,
    pub max_receptions: u32,
    pub max_recipients_per_connection: u32,
    pub max_recipients_per_message: u32,
    pub max_recipients_hard: u32,
    pub max_hops: u32,
    /// `inbound_throttle_messages`, with the scope that owns its tokens.
    pub throttle: Option<(Rate, BucketId)>,
    pub open_relay: bool,
    pub relay_by_address: bool,
    pub tls_verified_peer_can_relay: bool,
    pub relay_domains: Arc<GlobSet>,
    pub bounce_domains: Arc<GlobSet>,
    pub relay_for_sending_domains: Arc<GlobSet>,
    pub domain_for_unqualified_recipient: Option<Arc<str>>,
    pub domain_for_unqualified_sender: Option<Arc<str>>,
    pub trace_headers: bool,
    /// Whether the client's name is looked up.
    pub reverse_dns: bool,
    pub headers: Rules,
    pub bounce_refused_recipients: bool,
    pub large_message_threshold: u64,
    pub reconfig_message: Arc<str>,
    pub auth: Vec<AuthSource>,
    /// `XSETCONTEXT` may set what the engine itself trusts: a `peer` stanza enabled it for this client.
    pub trusts_client_context: bool,
    pub socket: SocketOptions,
    /// Only proxies are served here, and this client is none of them.
    pub for_proxies_only: bool,
    /// Seconds to wait for a PROXY header, where the option is on.
    pub proxy_protocol: Option<u64>,
    pub implicit_tls: Option<Arc<rustls::ServerConfig>>,
    /// What TLS is made of, where it is offered.
    pub tls_source: Option<ServerTls>,
    pub always_allow: bool,
    pub always_deny: bool,
}

/// How accepted sockets are set up; a buffer of 0 is the system's choice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SocketOptions {
    pub nodelay: bool,
    pub recv_buffer: usize,
    pub send_buffer: usize,
}

/// Parameters of one AUTH mechanism.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuthSource {
    pub mechanism: &'static str,
    pub uri: String,
    pub log: bool,
    /// Of DIGEST-MD5, and of the lines of a `digest://` file.
    pub realm: Option<String>,
    /// The file has passwords where it could have hashes.
    pub stored_cleartext: bool,
}

impl AuthSource {
    /// Whether the file has hashes for this mechanism: a `digest://` file has, and for DIGEST-MD5 any has, unless it says
    /// otherwise.
    pub fn hashed(&self) -> bool {
        !self.stored_cleartext && (self.mechanism == "DIGEST-MD5" || self.uri.starts_with("digest:"))
    }
}

impl SessionScope {
    fn resolve(config: &Config, place: Place, remote: IpAddr, tls: &TlsContexts) -> SessionScope {
        let at = |pathway| Receiving { listener: place.listener, listen: place.listen, remote, pathway };
        let pathway = config.receiving(&at(None)).get(&opt::PATHWAY);
        let scope = config.receiving(&at(pathway.as_deref()));
        let hostname = config.global().get(&opt::HOSTNAME);
        let banner = scope.get(&opt::BANNER_HOSTNAME).unwrap_or(hostname);
        let context = tls.server_config(&scope, place, config.generation());
        let implicit = scope.get(&opt::USE_SSL);
        let relay_hosts: Arc<CidrSet> = scope.get(&opt::RELAY_HOSTS);
        SessionScope {
            received_hostname: scope.get(&opt::RECEIVED_HOSTNAME).unwrap_or_else(|| banner.clone()),
            settings: Arc::new(settings(&scope, &banner, context.clone().filter(|_| !implicit))),
            tls_source: context.as_ref().and_then(|_| wanted(&scope)),
            implicit_tls: context.filter(|_| implicit),
            pathway_group: pathway.as_deref().and_then(|name| config.pathway_group(name)),
            pathway,
            context: scope.get(&opt::CONTEXT),
            caps: caps(&scope, place),
            sessions_per_address_max: count(&scope, &opt::MAX_SESSIONS_PER_ADDRESS),
            max_receptions: count(&scope, &opt::MAX_RECEPTIONS_PER_CONNECTION),
            max_recipients_per_connection: count(&scope, &opt::MAX_RECIPIENTS_PER_CONNECTION),
            max_recipients_per_message: count(&scope, &opt::MAX_RECIPIENTS_PER_MESSAGE),
            max_recipients_hard: count(&scope, &opt::MAX_RECIPIENTS_HARD),
            max_hops: count(&scope, &opt::MAX_HOPS),
            throttle: throttle(&scope),
            open_relay: scope.get(&opt::OPEN_RELAY),
            relay_by_address: relay_hosts.contains(remote),
            tls_verified_peer_can_relay: scope.get(&opt::TLS_VERIFIED_PEER_CAN_RELAY),
            relay_domains: scope.get(&opt::RELAY_DOMAINS),
            bounce_domains: scope.get(&opt::BOUNCE_DOMAINS),
            relay_for_sending_domains: scope.get(&opt::RELAY_FOR_SENDING_DOMAINS),
            domain_for_unqualified_recipient: scope.get(&opt::DOMAIN_FOR_UNQUALIFIED_RECIPIENT_ADDRESSES),
            domain_for_unqualified_sender: scope.get(&opt::DOMAIN_FOR_UNQUALIFIED_SENDER_ADDRESS),
            trace_headers: scope.get(&opt::RFC2822_TRACE_HEADERS),
            reverse_dns: scope.get(&opt::REVERSE_DNS),
            headers: header_rules(&scope),
            bounce_refused_recipients: scope.get(&opt::GENERATE_BOUNCES_FOR_MULTI_RECIPIENT_POLICY_REJECTIONS),
            large_message_threshold: config.global().get(&opt::LARGE_MESSAGE_THRESHOLD),
            reconfig_message: scope.get(&opt::RECONFIG_MESSAGE),
            auth: auth_sources(&scope),
            always_allow: scope.get(&opt::ALWAYS_ALLOW),
            always_deny: scope.get(&opt::ALWAYS_DENY),
            trusts_client_context: set_in_peer(&scope, &opt::SMTP_EXTENSIONS),
            socket: socket(&scope),
            for_proxies_only: scope.find(&opt::PROXY_PROTOCOL).is_none()
                && config.some_peer_sets(place.listener, place.listen, &opt::PROXY_PROTOCOL),
            proxy_protocol: scope.get(&opt::PROXY_PROTOCOL).then(|| scope.get(&opt::PROXY_PROTOCOL_TIMEOUT)),
        }
    }

    /// Whether a session that began under `self` may go on under `new`: nothing that it was promised has changed.
    pub fn allows(&self, new: &SessionScope) -> bool {
        same_settings(&self.settings, &new.settings)
            && self.pathway == new.pathway
            && self.open_relay == new.open_relay
            && self.relay_by_address == new.relay_by_address
            && self.relay_domains == new.relay_domains
            && self.relay_for_sending_domains == new.relay_for_sending_domains
            && self.headers == new.headers
            && self.auth == new.auth
            && self.max_receptions == new.max_receptions
            && self.max_recipients_per_message == new.max_recipients_per_message
            && self.max_recipients_per_connection == new.max_recipients_per_connection
    }
}

fn settings(scope: &Scope<'_>, banner: &str, tls: Option<Arc<rustls::ServerConfig>>) -> Settings {
    Settings {
        hostname: banner.to_owned(),
        static_banner: scope.get(&opt::STATIC_BANNER).map(|banner| banner.to_string()),
        extensions: scope.get(&opt::SMTP_EXTENSIONS).iter().map(|keyword| keyword.to_string()).collect(),
        max_message_size: scope.get(&opt::MAX_MESSAGE_SIZE),
        max_header_size: scope.get(&opt::MAX_HEADER_SIZE),
        idle_time_s: scope.get(&opt::IDLE_TIME),
        max_session_time_s: scope.get(&opt::MAX_SESSION_TIME),
        max_session_errors: count(scope, &opt::MAX_SESSION_ERRORS),
        require_ehlo: scope.get(&opt::REQUIRE_EHLO),
        allow_ip_literal: scope.get(&opt::ALLOW_IP_LITERAL),
        allow_null_sender: scope.get(&opt::ALLOW_NULL_ENVELOPE_SENDER),
        allow_trailing_whitespace_in_commands: scope.get(&opt::ALLOW_TRAILING_WHITESPACE_IN_COMMANDS),
        allow_whitespace_in_envelope: scope.get(&opt::RFC2821_ALLOW_WHITESPACE_IN_ENVELOPE),
        pedantic_address_rules: scope.get(&opt::RFC2821_PEDANTIC_ADDRESS_RULES),
        lone_lf_in_headers: lone_lf(&scope.get(&opt::RFC2822_LONE_LF_IN_HEADERS)),
        lone_lf_in_body: lone_lf(&scope.get(&opt::RFC2822_LONE_LF_IN_BODY)),
        starttls_injection_reject: &*scope.get(&opt::STARTTLS_INJECTION_POLICY) == "reject",
        tls,
    }
}

/// The rules for the finished message. Lone CR and LF are the protocol's business, which sees them before dots are taken
/// away; what it let through is no fault any more.
fn header_rules(scope: &Scope<'_>) -> Rules {
    let field = |word: &str| match word {
        "pedantic" => MissingField::Reject,
        "ifneeded" => MissingField::Add,
        _ => MissingField::Ignore,
    };
    let length = scope.get(&opt::RFC2822_MAX_LINE_LENGTH);
    let policy = scope.get(&opt::RFC2822_MAX_LINE_LENGTH_POLICY);
    Rules {
        require_headers: &*scope.get(&opt::RFC2822_MISSING_HEADERS) == "reject",
        lone_in_headers: LoneLineEnds::Ignore,
        lone_in_body: LoneLineEnds::Ignore,
        date: field(&scope.get(&opt::RFC2822_DATE_HEADER)),
        message_id: field(&scope.get(&opt::RFC2822_MESSAGEID_HEADER)),
        long_lines: LongLines::from_options(&length, &policy).unwrap_or_default(),
    }
}

fn lone_lf(word: &str) -> LoneLf {
    match word {
        "fix" => LoneLf::Fix,
        "pedantic" => LoneLf::Pedantic,
        _ => LoneLf::Ignore,
    }
}

/// Only who asks for Nagle's algorithm gets it: with it a reply may wait for the client's ACK.
fn socket(scope: &Scope<'_>) -> SocketOptions {
    let octets = |option| usize::try_from(scope.get(option)).unwrap_or(usize::MAX);
    SocketOptions {
        nodelay: scope.find(&opt::DISABLE_NAGLE_ALGORITHM).is_none_or(|(disabled, _)| disabled),
        recv_buffer: octets(&opt::TCP_RECV_BUFFER_SIZE),
        send_buffer: octets(&opt::TCP_SEND_BUFFER_SIZE),
    }
}

/// Negative numbers mean no limit, as 0 does.
fn count(scope: &Scope<'_>, option: &Opt<i64>) -> u32 {
    u32::try_from(scope.get(option).max(0)).unwrap_or(u32::MAX)
}

/// The budgets of sessions that this client's session draws on: each belongs to the scope that sets it.
fn caps(scope: &Scope<'_>, place: Place) -> Vec<Cap> {
    let cap = |option: &'static Opt<i64>, shared: &str| {
        let (limit, origin) = scope.find(option)?;
        let owner = if origin.kind == ScopeKind::EsmtpPeer { origin.path.as_str() } else { shared };
        let name = option.decl.name;
        Some(Cap { owner: format!("{name} {owner}").into(), limit: u32::try_from(limit.max(0)).unwrap_or(u32::MAX) })
    };
    let listener = format!("listener {}/{}", place.listener, place.listen);
    [cap(&opt::LISTENER_SESSIONS, &listener), cap(&opt::SERVICE_SESSIONS, "smtp")].into_iter().flatten().collect()
}

fn throttle(scope: &Scope<'_>) -> Option<(Rate, BucketId)> {
    let (throttle, owner) = scope.bucket(&opt::INBOUND_THROTTLE_MESSAGES)?;
    (throttle.count > 0).then_some((Rate { count: throttle.count, per_s: throttle.per_s }, owner))
}

fn set_in_peer<T: ph_config::OptionValue>(scope: &Scope<'_>, option: &'static Opt<T>) -> bool {
    scope.find(option).is_some_and(|(_, origin)| origin.kind == ScopeKind::EsmtpPeer)
}

fn auth_sources(scope: &Scope<'_>) -> Vec<AuthSource> {
    let declared = [
        ("PLAIN", &opt::AUTHPLAINPARAMETERS),
        ("LOGIN", &opt::AUTHLOGINPARAMETERS),
        ("CRAM-MD5", &opt::AUTHCRAMMD5PARAMETERS),
        ("DIGEST-MD5", &opt::AUTHDIGESTMD5PARAMETERS),
        ("SCRAM-SHA-256", &opt::AUTHSCRAMSHA256PARAMETERS),
    ];
    let source = |(mechanism, option): (&'static str, &'static Opt<Arc<Dict>>)| {
        let parameters = scope.get(option);
        let log = parameters.flag("log_authentication", false);
        let realm = parameters.get("realm").map(str::to_owned);
        let stored_cleartext = parameters.flag("stored_cleartext", false);
        Some(AuthSource { mechanism, uri: parameters.get("uri")?.to_owned(), log, realm, stored_cleartext })
    };
    declared.into_iter().filter_map(source).collect()
}

/// The settings with what a policy added to and took from the announcement of this session: `+LINE` and `-LINE`, which the
/// protocol understands as edits of the announcement alone.
pub(crate) fn with_capability_edits(settings: &Settings, edits: &[CapabilityEdit]) -> Settings {
    let mut edited = settings.clone();
    edited.extensions.extend(edits.iter().map(|edit| match edit {
        CapabilityEdit::Add(line) => format!("+{line}"),
        CapabilityEdit::Remove(line) => format!("-{line}"),
    }));
    edited
}

/// Whether two sessions' protocol settings are the same. TLS counts by being there: a renewed certificate ends no session.
fn same_settings(a: &Settings, b: &Settings) -> bool {
    let text = |settings: &Settings| format!("{:?}", Settings { tls: None, ..settings.clone() });
    a.tls.is_some() == b.tls.is_some() && text(a) == text(b)
}
