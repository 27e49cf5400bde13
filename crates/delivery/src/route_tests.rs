//! Routing against a table of names.

use super::*;
use crate::lookup::Answer;
use std::collections::HashMap;
use std::pin::pin;
use std::task::{Context, Waker};

#[derive(Default)]
struct Zone {
    mx: HashMap<&'static str, MxAnswer>,
    addresses: HashMap<&'static str, Vec<IpAddr>>,
}

impl Lookup for Zone {
    fn mx<'a>(&'a self, domain: &'a str) -> Answer<'a, MxAnswer> {
        let none = if self.addresses.contains_key(domain) { MxAnswer::None } else { MxAnswer::NoSuchDomain };
        Box::pin(async move { self.mx.get(domain).cloned().unwrap_or(none) })
    }

    fn addresses<'a>(&'a self, host: &'a str, _: bool) -> Answer<'a, Addresses> {
        Box::pin(async move { Addresses::Found(self.addresses.get(host).cloned().unwrap_or_default()) })
    }
}

fn zone() -> Zone {
    let mut zone = Zone::default();
    let hosts =
        |list: &[(u16, &str)]| MxAnswer::Hosts(list.iter().map(|(pref, host)| (*pref, host.to_string())).collect());
    zone.mx.insert("two.example", hosts(&[(20, "mx2.example"), (10, "mx1.example")]));
    zone.mx.insert("null.example", MxAnswer::Null);
    zone.mx.insert("broken.example", MxAnswer::Failed("SERVFAIL".into()));
    zone.mx.insert("mine.example", hosts(&[(10, "mx1.example"), (20, "me.example"), (30, "mx2.example")]));
    zone.mx.insert("allmine.example", hosts(&[(10, "me.example"), (20, "mx2.example")]));
    zone.mx.insert("dead.example", hosts(&[(10, "gone.example")]));
    zone.mx.insert("six.example", hosts(&[(10, "mx6.example")]));
    for (host, addresses) in [
        ("mx1.example", &["192.0.2.1"][..]),
        ("mx2.example", &["192.0.2.2", "192.0.2.3"]),
        ("me.example", &["192.0.2.9"]),
        ("mx6.example", &["192.0.2.6", "2001:db8::6"]),
        ("a.example", &["192.0.2.7"]),
        ("broken.example", &["192.0.2.8"]),
        ("self.example", &["127.0.0.1"]),
    ] {
        zone.addresses.insert(host, addresses.iter().map(|address| address.parse().unwrap()).collect());
    }
    zone
}

async fn routed(text: &str, domain: &str) -> Result<Vec<String>, NoRoute> {
    with(text, domain, |_| {}).await
}

async fn with(text: &str, domain: &str, change: impl FnOnce(&mut Rules)) -> Result<Vec<String>, NoRoute> {
    let text = format!("hostname = me.example {text}");
    let config = Config::parse("test", &text).unwrap().config;
    let mut rules = Rules::new(&config, domain);
    change(&mut rules);
    let route = resolve(&zone(), domain, &rules).await?;
    let show = |target: &Target| {
        let port = target.port.map(|port| format!(":{port}")).unwrap_or_default();
        format!("{} {}{port}", target.preference, target.address)
    };
    Ok(route.targets.iter().map(show).collect())
}

fn ok(list: &[&str]) -> Result<Vec<String>, NoRoute> {
    Ok(list.iter().map(|text| text.to_string()).collect())
}

#[tokio::test]
async fn mx_hosts_are_sorted_and_a_is_the_fallback() {
    assert_eq!(routed("", "two.example").await, ok(&["10 192.0.2.1", "20 192.0.2.2", "20 192.0.2.3"]));
    assert_eq!(routed("", "a.example").await, ok(&["0 192.0.2.7"]));
    assert_eq!(routed("", "null.example").await, Err(NoRoute::Final(text::NULL_MX)));
    assert_eq!(routed("", "nowhere.example").await, Err(NoRoute::Failed { mx_failed: false, silent: false }));
    assert_eq!(routed("", "dead.example").await, Err(NoRoute::Failed { mx_failed: false, silent: false }));
    assert_eq!(routed("", "broken.example").await, Err(NoRoute::Failed { mx_failed: true, silent: false }));
    assert_eq!(with("", "broken.example", |rules| rules.without_mx = true).await, ok(&["0 192.0.2.8"]));
}

#[tokio::test]
async fn literals_and_gateways_need_no_dns() {
    for (domain, wanted) in [
        ("[192.0.2.44]", "0 192.0.2.44"),
        ("192.0.2.44:2525", "0 192.0.2.44:2525"),
        ("[IPv6:2001:db8::1]", "0 2001:db8::1"),
        ("[2001:db8::1]:2525", "0 2001:db8::1:2525"),
        ("mx1.example:2525", "0 192.0.2.1:2525"),
    ] {
        assert_eq!(routed("", domain).await, ok(&[wanted]), "{domain}");
    }
    // A gateway's name is looked up as MX first.
    assert_eq!(routed("", "two.example:26").await.unwrap()[0], "10 192.0.2.1:26");
}

#[tokio::test]
async fn routes_replace_dns_and_may_mix_it_in() {
    let text = "domain two.example { routes = ( \"smtp://192.0.2.50?pref=1&port=2525\" __mx__ a.example ) }";
    let wanted = ["65536 192.0.2.50:2525", "65546 192.0.2.1", "65556 192.0.2.2", "65556 192.0.2.3", "131072 192.0.2.7"];
    assert_eq!(routed(text, "two.example").await, ok(&wanted));
    let text = "domain two.example { routes = ( a.example mx1.example ) }";
    assert_eq!(routed(text, "two.example").await, ok(&["0 192.0.2.7", "65536 192.0.2.1"]));
    let text = "domain two.example { routes = ( \"smtp://two.example?type=a\" \"lmtp://[::1]?port=24\" ) }";
    assert_eq!(routed(text, "two.example").await, ok(&["65536 ::1:24"]));
}

#[tokio::test]
async fn prohibited_hosts_fail_and_skipped_ones_are_left_out() {
    let prohibited = Err(NoRoute::Final(text::PROHIBITED));
    assert_eq!(routed("prohibited_hosts = ( 127.0.0.0/8 )", "self.example").await, prohibited);
    assert_eq!(routed("prohibited_hosts = ( 192.0.2.3 )", "two.example").await, prohibited);
    let wanted = ok(&["20 192.0.2.2", "20 192.0.2.3"]);
    assert_eq!(routed("skip_hosts = ( 192.0.2.1 )", "two.example").await, wanted);
}

#[tokio::test]
async fn an_mx_that_is_ourselves_ends_the_list() {
    assert_eq!(routed("", "mine.example").await, ok(&["10 192.0.2.1"]));
    assert_eq!(routed("", "allmine.example").await, Err(NoRoute::Final(text::LOOP)));
    // By address and port that we listen on, too.
    let listening = "esmtp_listener { listen \"127.0.0.1:25\" {} }";
    assert_eq!(routed(listening, "self.example").await, Err(NoRoute::Final(text::LOOP)));
    let wildcard = "esmtp_listener { listen \":25\" {} }";
    assert_eq!(routed(wildcard, "self.example").await, Err(NoRoute::Final(text::LOOP)));
    let elsewhere = "esmtp_listener { listen \"127.0.0.1:2525\" {} }";
    assert_eq!(routed(elsewhere, "self.example").await, ok(&["0 127.0.0.1"]));
    // What the configuration names is trusted.
    assert_eq!(routed("domain mine.example { routes = ( me.example ) }", "mine.example").await, ok(&["0 192.0.2.9"]));
}

#[tokio::test]
async fn ipv6_is_used_and_preferred_as_configured() {
    assert_eq!(routed("", "six.example").await, ok(&["10 192.0.2.6"]));
    assert_eq!(routed("use_ipv6 = true", "six.example").await, ok(&["10 192.0.2.6", "10 2001:db8::6"]));
    let preferred = "use_ipv6 = true prefer_ipv6_mxs = true";
    assert_eq!(routed(preferred, "six.example").await, ok(&["10 2001:db8::6", "10 192.0.2.6"]));
}

#[tokio::test]
async fn relay_domains_use_only_their_best_mx() {
    let text = "relay_domains = ( two.example )";
    assert_eq!(routed(text, "two.example").await, ok(&["10 192.0.2.1"]));
    let text = "relay_domains = ( two.example ) only_use_best_mx_for_relay_domains = false";
    assert_eq!(routed(text, "two.example").await.unwrap().len(), 3);
}

/// As `Zone`, but one host's addresses never come.
struct Slow(Zone, &'static str);

impl Lookup for Slow {
    fn mx<'a>(&'a self, domain: &'a str) -> Answer<'a, MxAnswer> {
        self.0.mx(domain)
    }

    fn addresses<'a>(&'a self, host: &'a str, want_v6: bool) -> Answer<'a, Addresses> {
        if host == self.1 { Box::pin(std::future::pending()) } else { self.0.addresses(host, want_v6) }
    }
}

#[test]
fn the_first_known_address_suffices_where_not_all_are_waited_for() {
    let zone = |slow| Slow(zone(), slow);
    // (options, slow host, what is found: preferences and whether more is to come)
    for (text, slow, wanted) in [
        ("", "", Some((vec![10, 20, 20], false))),
        ("", "mx1.example", Some((vec![20, 20], true))),
        ("", "mx2.example", Some((vec![10], true))),
        ("fully = true", "mx1.example", None),
        // A domain that we relay for is always waited for, and so is one that has our name among its hosts.
        ("relay_domains = ( two.example )", "mx1.example", None),
        ("hostname = mx2.example", "mx1.example", None),
        // What is to be skipped is no address to begin with.
        ("skip_hosts = ( 192.0.2.2, 192.0.2.3 )", "mx1.example", None),
    ] {
        let config = Config::parse("test", &text.replace("fully = true", "")).unwrap().config;
        let mut rules = Rules::new(&config, "two.example");
        assert!(rules.wait_for_all, "unless the option says otherwise");
        rules.wait_for_all = text == "fully = true";
        let lookup = zone(slow);
        // Whatever comes at all comes at once here.
        let mut resolving = pin!(resolve(&lookup, "two.example", &rules));
        let found = match resolving.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(route) => {
                let route = route.unwrap();
                Some((route.targets.iter().map(|target| target.preference).collect::<Vec<_>>(), route.partial))
            }
            Poll::Pending => None,
        };
        assert_eq!(found, wanted, "{text} {slow}");
    }
}

#[tokio::test]
async fn the_shortest_ttl_of_the_routes_is_the_life_of_the_route() {
    let text = "routes = ( \"smtp://192.0.2.7?ttl=30\", \"smtp://192.0.2.8?ttl=5\", \"192.0.2.9\" )";
    let config = Config::parse("test", text).unwrap().config;
    let route = resolve(&zone(), "two.example", &Rules::new(&config, "two.example")).await.unwrap();
    assert_eq!((route.life_s, route.targets.len()), (Some(5), 3));
}

#[tokio::test]
async fn a_route_by_a_protocol_that_is_not_spoken_is_never_taken_for_smtp() {
    for scheme in ["ecstream", "apn", "gcm", "mm7", "http", "https"] {
        let text = format!("routes = ( \"{scheme}://192.0.2.7\" )");
        assert_eq!(routed(&text, "two.example").await, Err(NoRoute::Foreign), "{scheme}");
        let text = format!("routes = ( \"{scheme}://192.0.2.7\", \"smtp://192.0.2.8\" )");
        assert_eq!(routed(&text, "two.example").await.map(|found| found.len()), Ok(1), "{scheme}");
    }
}
