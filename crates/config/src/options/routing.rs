//! Options of routing: from the domain of a message to addresses, and how we present ourselves there.

use super::*;
use crate::cidr::CidrSet;
use crate::scopes::*;
use crate::value::Value;
use std::net::IpAddr;
use std::sync::Arc;

/// Ways to deliver.
const METHODS: &[&str] = &["esmtp", "smtp", "lmtp", "ecstream", "apn", "gcm", "mm7", "http", "smpp"];

options! {
    /// Mail is queued under and sent to this host instead: a name (its MX, else its addresses), or an address with an
    /// optional port; IPv6 in brackets.
    GATEWAY: Option<Arc<str>> = or_none("Gateway", S4).check(gateway);
    /// Hosts to send to instead of those in DNS: `__mx__`, names, addresses, or
    /// `smtp://HOST?pref=P&ttl=T&port=O&type=mx|a`. Without `pref` the order decides.
    ROUTES: Arc<[Arc<str>]> = list("Routes", "( )", G.or(D)).check(routes);
    /// Protocol of the next hop. `SMTP` says HELO instead of EHLO.
    DELIVERY_METHOD: Arc<str> = text("Delivery_Method", "ESMTP", S4).check(method);
    /// Port for SMTP deliveries.
    REMOTE_SMTP_PORT: i64 = range("Remote_SMTP_Port", "25", 1, 65535, S4);
    /// Port for LMTP deliveries.
    LMTP_PORT: i64 = range("LMTP_Port", "2003", 1, 65535, S4);
    /// Port for ecstream deliveries.
    ECSTREAM_PORT: i64 = range("ECStream_Port", "1825", 1, 65535, S4).missing();
    /// Source address of outbound connections, or a host name; `*` leaves it to the system.
    BIND_ADDRESS: Arc<str> = text("Bind_Address", "*", G.or(BG).or(B)).check(bind_address);
    /// What becomes of mail that no binding was chosen for: it is sent, it waits, or (`none`) it is refused with 451.
    DEFAULT_BINDING: Arc<str> = word("Default_Binding", "normal", &["normal", "suspended", "none"], G);
    /// Share of the binding when its group chooses one at random; 0: only when no other is left.
    BINDING_WEIGHT: i64 = range("Binding_Weight", "1", 0, 1_000_000, B).ours();
    /// Name in HELO and EHLO; `__hostname__`, or `__message__` for the domain of the envelope sender.
    EHLO_HOSTNAME: Arc<str> = text("EHLO_Hostname", "__hostname__", S4);
    /// Networks to which mail must never go: a message whose domain resolves there fails.
    PROHIBITED_HOSTS: Arc<CidrSet> = cidrs("Prohibited_Hosts", "( )", G);
    /// Networks that are left out of what a domain resolves to.
    SKIP_HOSTS: Arc<CidrSet> = cidrs("Skip_Hosts", "( )", G);
    /// For domains that we relay for, only the MXs of the best preference are used.
    ONLY_USE_BEST_MX_FOR_RELAY_DOMAINS: bool = boolean("Only_Use_Best_MX_For_Relay_Domains", "true", G);
    /// Waits for the addresses of all MXs before connecting to one.
    FULLY_RESOLVE_BEFORE_SMTP: bool = boolean("Fully_Resolve_Before_SMTP", "true", S4);
    /// Uses IPv6 addresses at all.
    USE_IPV6: bool = boolean("Use_IPv6", "false", G);
    /// Prefers IPv6 addresses among MXs of one preference.
    PREFER_IPV6_MXS: bool = boolean("Prefer_IPv6_MXs", "false", G);
    /// Queues mail for domains with this MX together.
    ROLLUP_MX: bool = boolean("Rollup_MX", "false", H);
    /// Name of the common queue. The default is the name of the MX.
    ROLLUP_MX_NAME: Option<Arc<str>> = optional("Rollup_MX_Name", H);
    /// Sends XCLIENT before each message: never, where it is offered, or always.
    XCLIENT: Arc<str> = word("XCLIENT", "no", &["no", "ifavailable", "required"], S4);
    /// Declares 8-bit bodies with `BODY=8BITMIME` where the next hop knows it.
    SEND_8BITMIME: Arc<str> = word("Send_8BITMIME", "no", &["no", "ifavailable"], S4);
    /// What happens to 8-bit content when the next hop does not take it: nothing; it is re-encoded; re-encoded, and the
    /// message fails if that does not suffice; or the high bits are cleared.
    TRANSFORM_8BITMIME_CONTENT: Arc<str> =
        word("Transform_8BITMIME_Content", "ifneeded", &["no", "ifneeded", "strict", "strip"], S4);
    /// File with the addresses of the DNS servers.
    RESOLV_CONF: Arc<str> = text("Resolv_Conf", "/etc/resolv.conf", G);
    /// Shortest life of a cached routing record.
    MIN_DNS_TTL: u64 = interval("Min_DNS_TTL", "0", G);
    /// Longest life of a cached routing record.
    MAX_DNS_TTL: u64 = interval("Max_DNS_TTL", "4294967295", G);
    /// Pause between removals of stale DNS records.
    DNS_EXPIRE_INTERVAL: u64 = interval("DNS_Expire_Interval", "10", G).accepted();
    /// Pause between removals of unused DNS records.
    DNS_CACHE_PURGE_INTERVAL: u64 = interval("DNS_Cache_Purge_Interval", "60", G).accepted();
    /// Failed look-ups of a domain after which its mail fails.
    DNS_FAILURES_TO_PURGE: i64 = int("DNS_Failures_To_Purge", "10", G.or(D));
    /// Failed MX look-ups after which the addresses of the domain itself are used; -1: from the second on.
    MX_FAILURES_FALLBACK_TO_A: i64 = range("MX_Failures_Fallback_To_A", "3", -1, i32::MAX as i64, G.or(D));
    /// Asks again over TCP when an answer is cut off; that is always done.
    DNS_FALLBACK_TO_TCP: bool = boolean("DNS_Fallback_To_TCP", "false", G).accepted();
    /// Queries over one UDP port; nothing to choose here.
    DNS_MAX_UDP_QUERIES_PER_PORT: i64 = int("DNS_Max_UDP_Queries_Per_Port", "0", G).accepted();
    /// Receive buffer of DNS sockets; nothing to choose here.
    DNS_UDP_RCVBUF_SIZE: u64 = size("DNS_UDP_RcvBuf_Size", "0", G).accepted();
    /// Send buffer of DNS sockets; nothing to choose here.
    DNS_UDP_SNDBUF_SIZE: u64 = size("DNS_UDP_SndBuf_Size", "0", G).accepted();
    /// Limits the rate of DNS queries.
    DNS_RATE_LIMIT_ENABLED: bool = boolean("DNS_Rate_Limit_Enabled", "false", G).missing();
    /// Domains that may wait for a DNS query.
    DNS_RATE_LIMIT_MAX_QUEUE: i64 = int("DNS_Rate_Limit_Max_Queue", "100000", G).missing();
    /// MX queries in one period.
    DNS_RATE_LIMIT_MX_QUERIES: i64 = int("DNS_Rate_Limit_MX_Queries", "100", G).missing();
    /// Period of the limit of DNS queries.
    DNS_RATE_LIMIT_PERIOD: u64 = interval("DNS_Rate_Limit_Period", "1", G).missing();
    /// Pause between removals of unused facts about hosts; nothing to choose here.
    ADDRESS_METRICS_CLEANSE_INTERVAL: u64 = interval("Address_Metrics_Cleanse_Interval", "3600", G).accepted();
    /// How long facts about a host are kept; nothing to choose here.
    ADDRESS_METRICS_LIFETIME: u64 = interval("Address_Metrics_Lifetime", "1800", G).accepted();
    /// Request target for deliveries over HTTP.
    HTTP_URI: Arc<str> = text("HTTP_URI", "", S4).missing();
    /// Method for deliveries over HTTP.
    HTTP_METHOD: Arc<str> = text("HTTP_Method", "POST", S4).missing();
    /// Version for deliveries over HTTP.
    HTTP_VERSION: Arc<str> = text("HTTP_Version", "1.1", S4).missing();
    /// Host field for deliveries over HTTP.
    HTTP_HOST: Option<Arc<str>> = optional("HTTP_Host", S4).missing();
    /// `user:password` for deliveries over HTTP.
    HTTP_BASIC_AUTH: Option<Arc<str>> = optional("HTTP_Basic_Auth", S4).missing();
}

fn method(value: &Value) -> Result<(), String> {
    match value {
        Value::Text(text) if text.is_empty() || text.contains(char::is_whitespace) => {
            Err(format!("a delivery method is one word, such as `{}`", METHODS.join("`, `")))
        }
        _ => Ok(()),
    }
}

fn bind_address(value: &Value) -> Result<(), String> {
    let Value::Text(text) = value else { return Ok(()) };
    if text.starts_with('[') {
        return Err("an IPv6 address stands without brackets here".into());
    }
    host_or_address(text).map_err(|_| format!("`{text}` is neither an address nor a host name nor `*`"))
}

fn host_or_address(text: &str) -> Result<(), String> {
    let name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_') || !c.is_ascii();
    if text == "*" || text.parse::<IpAddr>().is_ok() || (!text.is_empty() && text.chars().all(name)) {
        return Ok(());
    }
    Err(format!("`{text}` is neither a host name nor an address"))
}

fn gateway(value: &Value) -> Result<(), String> {
    match value {
        Value::Text(text) => host_and_port(text),
        _ => Ok(()),
    }
}

/// `HOST`, `HOST:PORT`, `[V6]`, `[V6]:PORT`, a pseudo-domain beginning with `#`, or a path of a unix socket.
fn host_and_port(text: &str) -> Result<(), String> {
    if text.starts_with('#') || text.starts_with('/') {
        return Ok(());
    }
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (host, port) = rest.split_once(']').ok_or_else(|| format!("`{text}`: the `]` is missing"))?;
            let bare = host.strip_prefix("IPv6:").unwrap_or(host);
            bare.parse::<IpAddr>().map_err(|_| format!("`{host}` is not an address"))?;
            (None, port.strip_prefix(':').or(port.is_empty().then_some("")))
        }
        None if text.parse::<std::net::Ipv6Addr>().is_ok() => {
            return Err(format!("an IPv6 address needs brackets here: \"[{text}]\""));
        }
        None => match text.split_once(':') {
            Some((host, port)) => (Some(host), Some(port).filter(|p| !p.is_empty())),
            None => (Some(text), Some("")),
        },
    };
    if let Some(host) = host {
        host_or_address(host)?;
    }
    match port {
        Some("") => Ok(()),
        Some(port) if port.parse::<u16>().is_ok_and(|p| p > 0) => Ok(()),
        _ => Err(format!("`{text}`: a port is a number from 1 to 65535")),
    }
}

fn routes(value: &Value) -> Result<(), String> {
    const SCHEMES: &[&str] = &["smtp", "esmtp", "lmtp", "ecstream", "apn", "gcm", "mm7", "http", "https", "smpp"];
    let Value::List(list) = value else { return Ok(()) };
    for route in list.iter() {
        if &**route == "__mx__" {
            continue;
        }
        let Some((scheme, rest)) = route.split_once("://") else {
            host_and_port(route)?;
            continue;
        };
        if !SCHEMES.iter().any(|s| s.eq_ignore_ascii_case(scheme)) {
            return Err(format!("`{route}`: the scheme may be `{}`", SCHEMES.join("`, `")));
        }
        let (host, query) = rest.split_once('?').unwrap_or((rest, ""));
        host_and_port(host.split('/').next().unwrap_or(host))?;
        for pair in query.split('&').filter(|p| !p.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            let good = match key {
                "pref" | "ttl" => value.parse::<u32>().is_ok(),
                "port" => value.parse::<u16>().is_ok_and(|p| p > 0),
                "type" => matches!(value, "mx" | "a" | "MX" | "A"),
                "tls" => true,
                _ => return Err(format!("`{route}`: unknown `{key}`; known are pref, ttl, port, type")),
            };
            if !good {
                return Err(format!("`{route}`: `{value}` is not allowed for `{key}`"));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gateways() {
        for good in
            ["g", "g.example:2525", "10.0.0.1", "10.0.0.1:25", "[fd00::25]:2525", "[fd00::25]", "#x", "[IPv6:::1]"]
        {
            assert_eq!(host_and_port(good), Ok(()), "{good}");
        }
        for bad in ["fd00::25", "[fd00::25", "[x]", "g:0", "g:70000", "g:", "", "a b", "[::1]25"] {
            assert!(host_and_port(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn route_lists() {
        let check = |items: &[&str]| routes(&Value::List(items.iter().map(|s| Arc::from(*s)).collect()));
        assert!(
            check(&["smtp://10.9.0.4?pref=10&port=2525", "smtp://10.9.0.5?pref=20", "__mx__", "h", "[::1]"]).is_ok()
        );
        assert!(check(&["gcm://host?port=443", "http://h/path", "smtp://h?type=mx&ttl=60"]).is_ok());
        for bad in ["ftp://h", "smtp://h?pref=x", "smtp://h?prio=1", "smtp://h?port=0", "::1"] {
            assert!(check(&[bad]).is_err(), "{bad}");
        }
    }
}
