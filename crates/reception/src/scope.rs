//! What the configuration says about one session: every option looked up once, for the listener, the listen address, the
//! client's network and the pathway.
//!
//! A look-up walks several scopes, so the result is kept for each client address and configuration generation; a session
//! asks again only when its peer changes (PROXY, XCLIENT) or when a reload happened.

use crate::sessions::Cap;
use ph_config::options as opt;
use ph_config::{CidrSet, Config, Dict, GlobSet, Opt, Receiving, Scope};
use ph_smtp::server::{LoneLf, Settings};
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
    pub open_relay: bool,
    pub relay_by_address: bool,
    pub tls_verified_peer_can_relay: bool,
    pub relay_domains: Arc<GlobSet>,
    pub bounce_domains: Arc<GlobSet>,
    pub relay_for_sending_domains: Arc<GlobSet>,
    pub domain_for_unqualified_recipient: Option<Arc<str>>,
    pub domain_for_unqualified_sender: Option<Arc<str>>,
    pub trace_headers: bool,
    pub headers: HeaderRules,
    pub bounce_refused_recipients: bool,
    pub large_message_threshold: u64,
    pub reconfig_message: Arc<str>,
    pub auth: Vec<AuthSource>,
    pub always_allow: bool,
    pub always_deny: bool,
}

/// The `rfc2822_*` options that judge the header block once the message is whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeaderRules {
    pub date: Arc<str>,
    pub message_id: Arc<str>,
    pub missing: Arc<str>,
    pub max_line_length: Arc<str>,
    pub max_line_length_policy: Arc<str>,
}

/// Parameters of one AUTH mechanism.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuthSource {
    pub mechanism: &'static str,
    pub uri: String,
    pub log: bool,
}

impl SessionScope {
    fn resolve(config: &Config, place: Place, remote: IpAddr, tls: &TlsSource) -> SessionScope {
        let first = config.receiving(&Receiving { listener: place.listener, listen: place.listen, remote, pathway: None });
        let pathway = first.get(&opt::PATHWAY);
        let receiving =
            Receiving { listener: place.listener, listen: place.listen, remote, pathway: pathway.as_deref() };
        let scope = config.receiving(&receiving);
        let hostname = config.global().get(&opt::HOSTNAME);
        let banner = scope.get(&opt::BANNER_HOSTNAME).unwrap_or_else(|| hostname.clone());
        let relay_hosts: Arc<CidrSet> = scope.get(&opt::RELAY_HOSTS);
        SessionScope {
            received_hostname: scope.get(&opt::RECEIVED_HOSTNAME).unwrap_or_else(|| banner.clone()),
            settings: Arc::new(settings(&scope, &banner, tls.server_config(config, place))),
            pathway_group: pathway.as_deref().and_then(|name| config.pathway_group(name)),
            pathway,
            context: scope.get(&opt::CONTEXT),
            caps: [cap(&scope, &opt::LISTENER_SESSIONS, place), cap(&scope, &opt::SERVICE_SESSIONS, place)]
                .into_iter()
                .flatten()
                .collect(),
            sessions_per_address_max: count(&scope, &opt::MAX_SESSIONS_PER_ADDRESS),
            max_receptions: count(&scope, &opt::MAX_RECEPTIONS_PER_CONNECTION),
            max_recipients_per_connection: count(&scope, &opt::MAX_RECIPIENTS_PER_CONNECTION),
            max_recipients_per_message: count(&scope, &opt::MAX_RECIPIENTS_PER_MESSAGE),
            max_recipients_hard: count(&scope, &opt::MAX_RECIPIENTS_HARD),
            max_hops: count(&scope, &opt::MAX_HOPS),
            open_relay: scope.get(&opt::OPEN_RELAY),
            relay_by_address: relay_hosts.contains(remote),
            tls_verified_peer_can_relay: scope.get(&opt::TLS_VERIFIED_PEER_CAN_RELAY),
            relay_domains: scope.get(&opt::RELAY_DOMAINS),
            bounce_domains: scope.get(&opt::BOUNCE_DOMAINS),
            relay_for_sending_domains: scope.get(&opt::RELAY_FOR_SENDING_DOMAINS),
            domain_for_unqualified_recipient: scope.get(&opt::DOMAIN_FOR_UNQUALIFIED_RECIPIENT_ADDRESSES),
            domain_for_unqualified_sender: scope.get(&opt::DOMAIN_FOR_UNQUALIFIED_SENDER_ADDRESS),
            trace_headers: scope.get(&opt::RFC2822_TRACE_HEADERS),
            headers: HeaderRules {
                date: scope.get(&opt::RFC2822_DATE_HEADER),
                message_id: scope.get(&opt::RFC2822_MESSAGEID_HEADER),
                missing: scope.get(&opt::RFC2822_MISSING_HEADERS),
                max_line_length: scope.get(&opt::RFC2822_MAX_LINE_LENGTH),
                max_line_length_policy: scope.get(&opt::RFC2822_MAX_LINE_LENGTH_POLICY),
            },
            bounce_refused_recipients: scope.get(&opt::GENERATE_BOUNCES_FOR_MULTI_RECIPIENT_POLICY_REJECTIONS),
            large_message_threshold: config.global().get(&opt::LARGE_MESSAGE_THRESHOLD),
            reconfig_message: scope.get(&opt::RECONFIG_MESSAGE),
            auth: auth_sources(&scope),
            always_allow: scope.get(&opt::ALWAYS_ALLOW),
            always_deny: scope.get(&opt::ALWAYS_DENY),
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
