//! From a routing domain to hosts and addresses, in the order in which they are tried (RFC 5321 section 5.1).
//!
//! A domain is a name, an address literal, or what `gateway` says (`host:port`, `[v6]:port`); `routes` replaces DNS for
//! it. The result has every address at once, sorted by preference, so that choosing a host for a connection asks nobody.
//! Failures come as the texts that logs and bounce rules know. Pure but for the look-ups, which are a seam.

use crate::lookup::{Addresses, Lookup, MxAnswer};
use ph_config::{CidrSet, Config, GlobSet, ListenAddr, options as opt};
use ph_smtp::client::Protocol;
use std::future::poll_fn;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::path::Path;
use std::sync::Arc;
use std::task::Poll;

/// MX hosts of one domain that are looked at; more than this is abuse.
const HOSTS_MAX: usize = 32;
/// Addresses of one host that are looked at.
const ADDRESSES_MAX: usize = 32;

/// The texts of failures of routing.
pub mod text {
    pub const NULL_MX: &str = "550 5.4.4 [internal] NULL MX domain does not accept mail";
    pub const PROHIBITED: &str = "551 5.4.6 [internal] Private/Loopback Address";
    pub const NO_MX_OR_A: &str = "454 4.4.4 [internal] no MX or A for domain";
    pub const LOOKUP_FAILED: &str = "554 5.4.4 [internal] Domain Lookup Failed";
    pub const FOREIGN: &str = "451 4.3.5 [internal] delivery method of the route is not available";
    pub const LOOP: &str = "554 5.4.6 [internal] mail loops back to myself";
    pub const NO_VALID_HOSTS: &str = "451 4.4.1 [internal] No valid hosts (unable to make any connections)";
}

/// One address that mail for a domain may go to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Lower is better.
    pub preference: u32,
    /// The MX's name; the domain itself where it has no MX; the address where only that is known.
    pub host: Arc<str>,
    pub address: IpAddr,
    /// `None`: the port of the scope.
    pub port: Option<u16>,
    /// The scheme of the route, where it names one.
    pub method: Option<Method>,
    /// A unix socket of this machine. `address` then only stands for it in the books about hosts: it comes from a prefix to
    /// which nothing is ever sent.
    pub socket: Option<Arc<Path>>,
}

impl Target {
    /// A unix socket of this machine.
    fn of_socket(preference: u32, path: &str, method: Option<Method>) -> Target {
        let mut hasher = DefaultHasher::new();
        path.hash(&mut hasher);
        // The discard-only prefix of RFC 6666.
        let address = Ipv6Addr::from(0x0100_u128 << 112 | u128::from(hasher.finish())).into();
        let socket = Some(Path::new(path).into());
        Target { preference, host: path.into(), address, port: None, method, socket }
    }

    /// The address that logs show: unix sockets are this machine.
    pub(crate) fn shown(&self) -> IpAddr {
        if self.socket.is_some() { Ipv4Addr::LOCALHOST.into() } else { self.address }
    }

    /// What is spoken to it, `configured` being the scope's `delivery_method`.
    pub(crate) fn protocol(&self, configured: Protocol) -> Protocol {
        match (self.method, configured) {
            (Some(Method::Lmtp), _) => Protocol::Lmtp,
            (Some(Method::Smtp), Protocol::Lmtp) => Protocol::Esmtp,
            (_, protocol) => protocol,
        }
    }
}

/// How a route wants to be spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    Smtp,
    Lmtp,
}

/// The targets of a domain, sorted by preference; those of one preference in no particular order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Route {
    pub targets: Vec<Target>,
    /// Some hosts were not looked up yet when the first address was known.
    pub partial: bool,
    /// For how long it is good, where the configuration says so (`ttl` of a route).
    pub life_s: Option<u64>,
}

/// Why there is no route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoRoute {
    /// Mail for the domain fails.
    Final(&'static str),
    /// Nothing was found. `mx_failed`: the MX look-up itself had no answer, so addresses were not looked for. `silent`: no
    /// DNS server answered, which is our trouble and not the domain's.
    Failed { mx_failed: bool, silent: bool },
    /// The routes want protocols that are not spoken here.
    Foreign,
}

/// The options of routing, as they hold for one domain.
#[derive(Clone)]
pub struct Rules {
    pub routes: Arc<[Arc<str>]>,
    pub use_ipv6: bool,
    pub prefer_ipv6: bool,
    pub prohibited: Arc<CidrSet>,
    pub skip: Arc<CidrSet>,
    /// The domain is one that we relay for.
    pub relayed: bool,
    /// Only the best MXs of the domain are used.
    pub best_only: bool,
    /// Wait for the addresses of all MXs, and not only for the first that are known. A domain that we relay for has always to
    /// be known as a whole: otherwise mail might go to an MX behind ourselves.
    pub wait_for_all: bool,
    pub own_name: Arc<str>,
    /// Where this process listens for SMTP.
    pub own_listens: Arc<[SocketAddr]>,
    /// Port that the scope connects to: an MX is ourselves only where we listen on it.
    pub port: u16,
    /// Look for addresses even where the MX look-up had no answer (`mx_failures_fallback_to_a`).
    pub without_mx: bool,
}

impl Rules {
    /// From the configuration.
    pub fn new(config: &Config, domain: &str) -> Rules {
        let global = config.global();
        let scope = config.sending("default", "default", domain);
        let is_ours = |set: Arc<GlobSet>| set.matches(domain);
        let relayed = is_ours(global.get(&opt::RELAY_DOMAINS)) || is_ours(global.get(&opt::BOUNCE_DOMAINS));
        let listens = config.listeners().iter().flat_map(|listener| &listener.listens).filter(|listen| listen.enabled);
        let tcp = |address: &ListenAddr| match address {
            ListenAddr::Tcp(address) => Some(*address),
            ListenAddr::Unix(_) => None,
        };
        Rules {
            routes: scope.get(&opt::ROUTES),
            use_ipv6: global.get(&opt::USE_IPV6),
            prefer_ipv6: global.get(&opt::PREFER_IPV6_MXS),
            prohibited: global.get(&opt::PROHIBITED_HOSTS),
            skip: global.get(&opt::SKIP_HOSTS),
            relayed,
            wait_for_all: true,
            best_only: relayed && global.get(&opt::ONLY_USE_BEST_MX_FOR_RELAY_DOMAINS),
            own_name: global.get(&opt::HOSTNAME),
            own_listens: listens.filter_map(|listen| tcp(&listen.address)).collect(),
            port: scope.get(&opt::REMOTE_SMTP_PORT).try_into().unwrap_or(25),
            without_mx: false,
        }
    }

    fn is_own(&self, host: &str, address: IpAddr) -> bool {
        if host.trim_end_matches('.').eq_ignore_ascii_case(self.own_name.trim_end_matches('.')) {
            return true;
        }
        self.own_listens.iter().any(|listen| {
            listen.port() == self.port
                && match listen.ip() {
                    ip if ip.is_unspecified() => ip.is_ipv6() == address.is_ipv6() && is_of_this_machine(address),
                    ip => ip == address,
                }
        })
    }
}

/// Finds the route of a domain.
pub async fn resolve(lookup: &dyn Lookup, domain: &str, rules: &Rules) -> Result<Route, NoRoute> {
    let mut found = Finding {
        lookup,
        rules,
        targets: Vec::new(),
        partial: false,
        life_s: None,
        mx_failed: false,
        silent: false,
        loops: false,
        foreign: false,
    };
    if rules.routes.is_empty() {
        match parse_domain(domain) {
            Domain::Socket(path) => found.targets.push(Target::of_socket(0, path, None)),
            Domain::Address(address, port) => found.add(0, address.to_string().into(), address, port, None)?,
            Domain::Host(host, Some(port)) => found.host(0, host, Some(port), None, None).await?,
            Domain::Host(host, None) => found.dns(0, host).await?,
        }
    } else {
        for (place, item) in rules.routes.iter().enumerate() {
            found.route_item(place as u32, item, domain).await?;
        }
    }
    let Finding { mut targets, partial, life_s, mx_failed, silent, loops, foreign, .. } = found;
    if targets.is_empty() {
        return Err(match (loops, foreign) {
            (true, _) => NoRoute::Final(text::LOOP),
            (false, true) => NoRoute::Foreign,
            (false, false) => NoRoute::Failed { mx_failed, silent },
        });
    }
    // Stable, so that hosts of one preference keep the order of DNS until a connection shuffles them.
    let family = |target: &Target| rules.prefer_ipv6 && target.address.is_ipv4();
    targets.sort_by_key(|target| (target.preference, family(target)));
    if rules.best_only {
        let best = targets[0].preference;
        targets.retain(|target| target.preference == best);
    }
    Ok(Route { targets, partial, life_s })
}

struct Finding<'a> {
    lookup: &'a dyn Lookup,
    rules: &'a Rules,
    targets: Vec<Target>,
    partial: bool,
    life_s: Option<u64>,
    mx_failed: bool,
    silent: bool,
    loops: bool,
    /// There is a route by a protocol that is not spoken here.
    foreign: bool,
}

/// Levels of preference between two items of `routes`: an MX preference fits in between.
const LEVEL: u32 = 1 << 16;

impl Finding<'_> {
    async fn route_item(&mut self, place: u32, item: &str, domain: &str) -> Result<(), NoRoute> {
        let level = |preference: u32| preference.min(u32::MAX / LEVEL - 1) * LEVEL;
        if item == "__mx__" {
            let Domain::Host(host, _) = parse_domain(domain) else { return Ok(()) };
            return self.dns(level(place), host).await;
        }
        let (scheme, rest) = item.split_once("://").map_or((None, item), |(scheme, rest)| (Some(scheme), rest));
        let (place_of_host, query) = rest.split_once('?').unwrap_or((rest, ""));
        let value = |key: &str| query.split('&').find_map(|pair| pair.strip_prefix(key)?.strip_prefix('='));
        let preference = value("pref").and_then(|pref| pref.parse().ok()).unwrap_or(place);
        let kind = value("type").map(str::to_ascii_lowercase);
        if let Some(ttl_s) = value("ttl").and_then(|ttl| ttl.parse::<u64>().ok()) {
            self.life_s = Some(self.life_s.map_or(ttl_s, |other| other.min(ttl_s)).max(1));
        }
        let method = match scheme.map(str::to_ascii_lowercase).as_deref() {
            Some("lmtp") => Some(Method::Lmtp),
            Some("smtp" | "esmtp") => Some(Method::Smtp),
            None => None,
            // A protocol that is not spoken here: never is SMTP spoken there instead.
            Some(_) => {
                self.foreign = true;
                return Ok(());
            }
        };
        let is_socket = place_of_host.starts_with('/');
        let bare = if is_socket { place_of_host } else { place_of_host.split('/').next().unwrap_or(place_of_host) };
        let named = value("port").and_then(|port| port.parse().ok());
        match parse_domain(bare) {
            Domain::Socket(path) => {
                self.targets.push(Target::of_socket(level(preference), path, method));
                Ok(())
            }
            Domain::Address(address, port) => {
                self.add(level(preference), address.to_string().into(), address, named.or(port), method)
            }
            Domain::Host(host, port) => {
                let kind = if method == Some(Method::Lmtp) && kind.is_none() { Some("a") } else { kind.as_deref() };
                self.host(level(preference), host, named.or(port), method, kind).await
            }
        }
    }

    /// A host that the configuration names: as MX and, without one, by its addresses. It is not checked for loops.
    async fn host(
        &mut self,
        level: u32,
        host: &str,
        port: Option<u16>,
        method: Option<Method>,
        kind: Option<&str>,
    ) -> Result<(), NoRoute> {
        if kind != Some("a") {
            match self.lookup.mx(host).await {
                MxAnswer::Hosts(hosts) => {
                    for (preference, name) in hosts.into_iter().take(HOSTS_MAX) {
                        for address in self.addresses(&name).await {
                            self.add(level + u32::from(preference), name.as_str().into(), address, port, method)?;
                        }
                    }
                    return Ok(());
                }
                MxAnswer::Null => return Err(NoRoute::Final(text::NULL_MX)),
                answer => {
                    self.silent |= matches!(answer, MxAnswer::Silent(_));
                    if kind == Some("mx") {
                        return Ok(());
                    }
                }
            }
        }
        for address in self.addresses(host).await {
            self.add(level, host.into(), address, port, method)?;
        }
        Ok(())
    }

    /// What DNS says about a domain.
    async fn dns(&mut self, level: u32, domain: &str) -> Result<(), NoRoute> {
        let mut hosts = match self.lookup.mx(domain).await {
            MxAnswer::Hosts(hosts) => hosts,
            MxAnswer::Null => return Err(NoRoute::Final(text::NULL_MX)),
            MxAnswer::None => vec![(0, domain.to_owned())],
            MxAnswer::NoSuchDomain => return Ok(()),
            answer @ (MxAnswer::Failed(_) | MxAnswer::Silent(_)) if self.rules.without_mx => {
                self.silent = matches!(answer, MxAnswer::Silent(_));
                vec![(0, domain.to_owned())]
            }
            MxAnswer::Failed(_) => {
                self.mx_failed = true;
                return Ok(());
            }
            MxAnswer::Silent(_) => {
                (self.mx_failed, self.silent) = (true, true);
                return Ok(());
            }
        };
        hosts.sort();
        hosts.truncate(HOSTS_MAX);
        let is_named = |(_, host): &(u16, String)| host.eq_ignore_ascii_case(&self.rules.own_name);
        let wait_for_all = self.rules.wait_for_all || self.rules.relayed || hosts.iter().any(is_named);
        let resolved = if wait_for_all { self.resolve_all(hosts).await } else { self.resolve_some(hosts).await };
        // Ourselves, and whatever is as good or worse: mail never goes to a host that is as far away as we are.
        let is_own = |host: &str, addresses: &[IpAddr]| {
            addresses.iter().any(|address| self.rules.is_own(host, *address))
                || addresses.is_empty() && host.eq_ignore_ascii_case(&self.rules.own_name)
        };
        let own = resolved.iter().filter(|(_, host, addresses)| is_own(host, addresses)).map(|(pref, ..)| *pref).min();
        for (preference, host, addresses) in resolved {
            if own.is_some_and(|own| preference >= own) {
                self.loops = true;
                continue;
            }
            let host: Arc<str> = host.trim_end_matches('.').into();
            for address in addresses {
                self.add(level + u32::from(preference), host.clone(), address, None, None)?;
            }
        }
        Ok(())
    }

    async fn resolve_all(&mut self, hosts: Vec<(u16, String)>) -> Vec<(u16, String, Vec<IpAddr>)> {
        let mut resolved = Vec::with_capacity(hosts.len());
        for (preference, host) in hosts {
            let addresses = self.addresses(&host).await;
            resolved.push((preference, host, addresses));
        }
        resolved
    }

    /// Looks all hosts up at once, and waits until one of them has an address that may be used.
    async fn resolve_some(&mut self, hosts: Vec<(u16, String)>) -> Vec<(u16, String, Vec<IpAddr>)> {
        let lookup = self.lookup;
        let mut asked: Vec<_> =
            hosts.iter().map(|(_, host)| Some(lookup.addresses(host, self.rules.use_ipv6))).collect();
        let mut known: Vec<Option<Vec<IpAddr>>> = vec![None; hosts.len()];
        poll_fn(|cx| {
            for (question, answer) in asked.iter_mut().zip(&mut known) {
                let Some(open) = question else { continue };
                if let Poll::Ready(addresses) = open.as_mut().poll(cx) {
                    *question = None;
                    *answer = Some(self.sift(addresses));
                }
            }
            let skip = &self.rules.skip;
            let may_begin = known.iter().flatten().flatten().any(|address| !skip.contains(*address));
            if may_begin || known.iter().all(Option::is_some) { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
        drop(asked);
        self.partial = known.iter().any(Option::is_none);
        let some = |((preference, host), addresses): (_, Option<Vec<IpAddr>>)| Some((preference, host, addresses?));
        hosts.into_iter().zip(known).filter_map(some).collect()
    }

    async fn addresses(&mut self, host: &str) -> Vec<IpAddr> {
        let found = self.lookup.addresses(host, self.rules.use_ipv6).await;
        self.sift(found)
    }

    fn sift(&mut self, found: Addresses) -> Vec<IpAddr> {
        match found {
            Addresses::Found(mut addresses) => {
                addresses.retain(|address| self.rules.use_ipv6 || address.is_ipv4());
                addresses.truncate(ADDRESSES_MAX);
                addresses
            }
            Addresses::Failed(_) => Vec::new(),
            Addresses::Silent(_) => {
                self.silent = true;
                Vec::new()
            }
        }
    }

    fn add(
        &mut self,
        preference: u32,
        host: Arc<str>,
        address: IpAddr,
        port: Option<u16>,
        method: Option<Method>,
    ) -> Result<(), NoRoute> {
        if self.rules.prohibited.contains(address) {
            return Err(NoRoute::Final(text::PROHIBITED));
        }
        let known = |target: &Target| target.address == address && target.port == port && target.host == host;
        if !self.rules.skip.contains(address) && !self.targets.iter().any(known) {
            self.targets.push(Target { preference, host, address, port, method, socket: None });
        }
        Ok(())
    }
}

/// A routing domain taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Domain<'a> {
    Address(IpAddr, Option<u16>),
    Host(&'a str, Option<u16>),
    Socket(&'a str),
}

/// `[1.2.3.4]`, `[IPv6:fd00::1]`, `[fd00::1]:25`, `1.2.3.4`, `1.2.3.4:25`, `host:25`, `host`, `/path/of/a/socket`.
fn parse_domain(text: &str) -> Domain<'_> {
    if text.starts_with('/') {
        return Domain::Socket(text);
    }
    if let Some((inner, rest)) = text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        let bare = inner.get(..5).filter(|tag| tag.eq_ignore_ascii_case("ipv6:")).map_or(inner, |_| &inner[5..]);
        let port = rest.strip_prefix(':').and_then(|port| port.parse().ok());
        return match bare.parse() {
            Ok(address) => Domain::Address(address, port),
            Err(_) => Domain::Host(text, None),
        };
    }
    if let Ok(address) = text.parse() {
        return Domain::Address(address, None);
    }
    let (host, port) = match text.rsplit_once(':').map(|(host, port)| (host, port.parse())) {
        Some((host, Ok(port))) => (host, Some(port)),
        _ => (text, None),
    };
    match host.parse() {
        Ok(address) => Domain::Address(address, port),
        Err(_) => Domain::Host(host, port),
    }
}

/// Whether an address is one of this machine: only then can a socket be bound to it.
fn is_of_this_machine(address: IpAddr) -> bool {
    UdpSocket::bind((address, 0)).is_ok()
}

#[cfg(test)]
#[path = "route_tests.rs"]
mod tests;
