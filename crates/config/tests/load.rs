//! Whole configurations as sites write them, and what must hold in each.

use ph_config::{BucketId, Config, ListenAddr, ListenerKind, Receiving, Severity, Throttle, options as opt};
use std::net::IpAddr;
use std::path::{Path, PathBuf};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/files")
}

fn load(name: &str) -> Config {
    let loaded = Config::load(&folder().join(name)).unwrap_or_else(|report| panic!("{report}"));
    assert!(!loaded.warnings.has_errors());
    loaded.config
}

fn parse(text: &str) -> Config {
    Config::parse("test", text).unwrap_or_else(|report| panic!("{report}")).config
}

fn client<'c>(config: &'c Config, listen: &str, address: &str) -> ph_config::Scope<'c> {
    let listener = config.listeners().iter().position(|l| l.kind == ListenerKind::Esmtp).unwrap();
    let listen = config.listeners()[listener].listens.iter().position(|l| l.name.contains(listen)).unwrap();
    let remote: IpAddr = address.parse().unwrap();
    config.receiving(&Receiving { listener, listen, remote, pathway: None })
}

#[test]
fn small_relay() {
    let config = load("relay.conf");
    assert_eq!(&*config.global().get(&opt::HOSTNAME), "mta1.shop.example");
    assert_eq!(config.global().get(&opt::RETRY_INTERVAL), 1200);
    assert_eq!(config.global().get(&opt::MESSAGE_EXPIRATION), 259_200);
    let relay = config.global().get(&opt::RELAY_HOSTS);
    for (address, inside) in [("127.9.9.9", true), ("10.20.1.1", true), ("10.21.1.1", false), ("fd00:20::5", true)] {
        assert_eq!(relay.contains(address.parse().unwrap()), inside, "{address}");
    }
    assert!(config.global().get(&opt::RELAY_DOMAINS).matches("mail.shop.example"));
    assert!(config.global().get(&opt::PROHIBITED_HOSTS).contains("0.0.0.0".parse().unwrap()));
    let esmtp = &config.listeners()[0];
    assert_eq!(esmtp.kind, ListenerKind::Esmtp);
    let listens: Vec<_> = esmtp.listens.iter().map(|l| (&*l.name, l.address.to_string(), l.enabled)).collect();
    assert_eq!(listens, [(":25", "0.0.0.0:25".to_string(), true), ("[*]:25", "[::]:25".to_string(), false)]);
    assert_eq!(client(&config, ":25", "1.1.1.1").get(&opt::IDLE_TIME), 300);
    let control = &config.listeners()[1];
    assert_eq!(control.listens[0].address, ListenAddr::Unix("/tmp/2025".into()));
    assert_eq!(config.listen_scope(1, 0).get(&opt::FILE_MODE), 0o660);
    let logger = config.module("ec_logger", None).unwrap();
    assert_eq!(logger.get(&opt::EC_LOGGER_HEARTBEAT), 60);
    assert_eq!(&*config.modules()[0].instance, "main");
    assert_eq!(config.source_dir(), Some(folder().as_path()));
}

#[test]
fn bulk_sender_with_pools() {
    let config = load("bulk.conf");
    let connections =
        |group, binding, domain| config.sending(group, binding, domain).get(&opt::MAX_OUTBOUND_CONNECTIONS);
    assert_eq!(connections("brand-a", "a-2", "gmail.com"), 12);
    assert_eq!(connections("brand-a", "a-1", "gmail.com"), 60);
    assert_eq!(connections("brand-b", "b-1", "any.example"), 5);
    assert_eq!(config.sending("brand-a", "a-1", "x").get(&opt::MESSAGE_EXPIRATION), 172_800);
    assert!(config.sending("default", "default", "x").get(&opt::SUSPEND_DELIVERY));
    assert!(!config.sending("brand-a", "a-1", "x").get(&opt::SUSPEND_DELIVERY));
    let host = |name| config.host("brand-a", "a-1", name).get(&opt::MAX_OUTBOUND_CONNECTIONS);
    assert_eq!((host("mx.slow.example"), host("MX.slow.example."), host("mx.other.example")), (2, 2, -1));
    let bindings: Vec<_> = config.bindings().iter().map(|b| format!("{}/{}", b.group, b.name)).collect();
    assert_eq!(bindings, ["default/default", "brand-a/a-1", "brand-a/a-2", "brand-b/b-1", "brand-b/b-2"]);
    let routes = config.sending("default", "default", "news.partner.example").get(&opt::ROUTES);
    assert_eq!(routes.iter().map(|r| &**r).collect::<Vec<_>>()[2], "__mx__");
    assert_eq!(config.files().len(), 3, "the hidden file is not read");
}

#[test]
fn a_throttle_has_one_bucket_for_all_that_fall_back_to_it() {
    let config = load("bulk.conf");
    let bucket = |group: &str, binding: &str, domain: &str| -> (Throttle, BucketId) {
        config.sending(group, binding, domain).bucket(&opt::OUTBOUND_THROTTLE_MESSAGES).unwrap()
    };
    let live = bucket("brand-a", "a-1", "live.co.uk");
    assert_eq!(live.0, Throttle { count: 3000, per_s: 60 });
    assert_eq!(live, bucket("brand-a", "a-2", "outlook.com"), "a pattern is one bucket");
    let other = bucket("brand-a", "a-1", "gmail.com");
    assert_eq!(other.0, Throttle { count: 20_000, per_s: 1 });
    assert_ne!(other.1, live.1);
    assert_eq!(other, bucket("brand-b", "b-2", "x.example"), "the global one is shared too");
    let again = load("bulk.conf");
    let reloaded = again.sending("brand-a", "a-1", "live.co.uk").bucket(&opt::OUTBOUND_THROTTLE_MESSAGES).unwrap();
    assert_eq!(reloaded.1, live.1, "a reload keeps the identity");
    assert!(again.generation() > config.generation());
    assert!(config.sending("brand-a", "a-1", "x").bucket(&opt::OUTBOUND_THROTTLE_CONNECTIONS).is_none());
}

#[test]
fn sending_fallback() {
    let config = load("fallback.conf");
    for (group, binding, domain, retry, retries, expiration) in [
        ("default", "default", "d1.test", 200, "7", 1000),
        ("default", "default", "d9.test", 210, "7", 1000),
        ("default", "default", "zz.test", 220, "8", 1000),
        ("default", "default", "x.org", 100, "auto", 1000),
        ("default", "solo", "d1.test", 200, "3", 1300),
        ("default", "solo", "d9.test", 210, "7", 1300),
        ("G", "g1", "d2.test", 800, "7", 1000),
        ("G", "g1", "d1.test", 600, "7", 1000),
        ("G", "g1", "x.org", 700, "auto", 1000),
        ("G", "g2", "d1.test", 600, "7", 1000),
        ("G", "g2", "d9.test", 500, "7", 1000),
        ("default", "default", "D1.TEST", 200, "7", 1000),
        ("none", "none", "d1.test", 200, "7", 1000),
    ] {
        let scope = config.sending(group, binding, domain);
        let got = (scope.get(&opt::RETRY_INTERVAL), scope.get(&opt::MAX_RETRIES), scope.get(&opt::MESSAGE_EXPIRATION));
        assert_eq!((got.0, &*got.1, got.2), (retry, retries, expiration), "{group} {binding} {domain}");
    }
    let (_, origin) = config.sending("G", "g1", "d1.test").find(&opt::RETRY_INTERVAL).unwrap();
    assert_eq!(origin.path, "Binding_Group:G:Domain:d1.test:");
    let place = origin.place.unwrap();
    assert_eq!((place.line, place.column), (8, 20));
    assert!(config.sending("G", "g1", "x").find(&opt::MAX_RETRIES).is_none());
}

#[test]
fn a_binding_goes_before_a_global_domain() {
    let loaded =
        Config::parse("test", "binding b { message_expiration = 3600 }\ndomain x.org { message_expiration = 120 }")
            .unwrap();
    assert_eq!(loaded.config.sending("default", "b", "x.org").get(&opt::MESSAGE_EXPIRATION), 3600);
    let info: Vec<_> = loaded.warnings.of(Severity::Info).collect();
    assert_eq!(info.len(), 1);
    assert!(info[0].message.contains("never counts"), "{}", info[0]);
}

#[test]
fn host_chain_has_no_fallback_to_the_sending_scopes() {
    let config = parse(
        "max_outbound_connections = 7 outbound_throttle_messages = 9
         host h.example { max_outbound_connections = 1 } host \"/slow/\" { max_outbound_connections = 2 }
         binding b { host h.example { max_outbound_connections = 3 } }
         binding_group g { host h.example { max_outbound_connections = 4 } binding c { host h.example { max_outbound_connections = 5 } } }
         host empty.example {}",
    );
    let host = |group, binding, name| config.host(group, binding, name).get(&opt::MAX_OUTBOUND_CONNECTIONS);
    for (group, binding, name, wanted) in [
        ("default", "default", "h.example", 1),
        ("default", "default", "very-slow.example", 2),
        ("default", "b", "h.example", 3),
        ("g", "d", "h.example", 4),
        ("g", "c", "h.example", 5),
        ("g", "c", "empty.example", -1),
    ] {
        assert_eq!(host(group, binding, name), wanted, "{group} {binding} {name}");
    }
    assert!(config.host("g", "c", "h.example").bucket(&opt::OUTBOUND_THROTTLE_MESSAGES).is_none());
}

#[test]
fn inbound_gateway() {
    let config = load("gateway.conf");
    let trusted = client(&config, ":25", "203.0.113.7");
    assert!(trusted.get(&opt::OPEN_RELAY));
    assert_eq!(trusted.get(&opt::PATHWAY).as_deref(), Some("partner"));
    assert_eq!(trusted.get(&opt::MAX_MESSAGE_SIZE), 104_857_600);
    assert_eq!(trusted.get(&opt::SMTP_EXTENSIONS).len(), 2);
    assert!(trusted.get(&opt::RELAY_FOR_SENDING_DOMAINS).matches("a.partner.example"));
    assert!(trusted.get(&opt::RELAY_DOMAINS).matches("x.corp.example"));
    assert_eq!(trusted.pathway_group().as_deref(), Some("edge"));
    let mapped = client(&config, ":25", "::ffff:203.0.113.7");
    assert!(mapped.get(&opt::OPEN_RELAY), "an IPv4 address in IPv6 form is the same client");
    let stranger = client(&config, ":587", "198.51.100.1");
    let extensions: Vec<_> = stranger.get(&opt::SMTP_EXTENSIONS).iter().map(|e| e.to_string()).collect();
    assert_eq!(extensions, ["ENHANCEDSTATUSCODES", "STARTTLS", "AUTH PLAIN", "AUTH LOGIN"]);
    assert!(stranger.get(&opt::REQUIRE_EHLO));
    assert!(!stranger.get(&opt::OPEN_RELAY));
    assert_eq!(stranger.get(&opt::MAX_MESSAGE_SIZE), 26_214_400);
    assert_eq!(&*stranger.get(&opt::RFC2822_LONE_LF_IN_HEADERS), "fix");
    assert_eq!(stranger.get(&opt::AUTHPLAINPARAMETERS).get("uri"), Some("file:///etc/smtp.users"));
    assert!(stranger.get(&opt::AUTHPLAINPARAMETERS).flag("log_authentication", false));
    assert_eq!(stranger.get(&opt::CONTEXT).get("site"), Some("ams1"));
    let v6 = client(&config, ":25", "2001:db8:7::1");
    assert_eq!((v6.get(&opt::LISTENER_SESSIONS), v6.get(&opt::IDLE_TIME)), (50, 30));
    assert_ne!(v6.bucket(&opt::LISTENER_SESSIONS).unwrap().1, stranger.bucket(&opt::LISTENER_SESSIONS).unwrap().1);
    let corp = config.sending("default", "default", "corp.example");
    assert_eq!(corp.get(&opt::GATEWAY).as_deref(), Some("[fd00::25]:2525"));
    assert_eq!((&*corp.get(&opt::TLS), &*config.global().get(&opt::TLS)), ("required", "ifavailable"));
    let by_policy = config.receiving(&Receiving {
        listener: 0,
        listen: 1,
        remote: "198.51.100.1".parse().unwrap(),
        pathway: Some("partner"),
    });
    assert_eq!(by_policy.get(&opt::MAX_MESSAGE_SIZE), 104_857_600);
}

#[test]
fn receiving_goes_from_the_nearest_peer_outwards() {
    let config = parse(
        "esmtp_listener { idle_time = 1 peer 10.0.0.0/8 { idle_time = 2 max_message_size = 20 }
           listen \":25\" { idle_time = 3 max_message_size = 30 peer 10.1.0.0/16 { idle_time = 4 } peer 10.1.2.0/24 { max_recipients_per_message = 9 } } }",
    );
    let scope = client(&config, ":25", "10.1.2.3");
    assert_eq!(scope.get(&opt::IDLE_TIME), 4, "a shorter prefix that sets it, since the longest does not");
    assert_eq!(scope.get(&opt::MAX_RECIPIENTS_PER_MESSAGE), 9);
    assert_eq!(scope.get(&opt::MAX_MESSAGE_SIZE), 20, "a peer of the listener goes before the listen");
    assert_eq!(client(&config, ":25", "10.2.0.1").get(&opt::IDLE_TIME), 2);
    assert_eq!(client(&config, ":25", "192.0.2.1").get(&opt::IDLE_TIME), 3);
}

#[test]
fn a_switch_of_some_peer_is_seen_by_the_listen_that_it_is_about() {
    let sets = |text: &str, listen| parse(text).some_peer_sets(0, listen, &opt::PROXY_PROTOCOL);
    let of_listens = "esmtp_listener { listen \":25\" { peer 10.0.0.0/8 { proxy_protocol = true } } \
                      listen \":26\" { peer 10.0.0.0/8 { proxy_protocol = false idle_time = 1 } } }";
    assert_eq!([sets(of_listens, 0), sets(of_listens, 1), sets(of_listens, 9)], [true, false, false]);
    let of_listener = "esmtp_listener { peer 192.0.2.1 { proxy_protocol = true } listen \":25\" {} listen \":26\" {} }";
    assert_eq!([sets(of_listener, 0), sets(of_listener, 1)], [true, true]);
}

#[test]
fn lexical_torture() {
    let config = load("torture.conf");
    let global = config.global();
    assert_eq!(&*global.get(&opt::HOSTNAME), "a.example");
    assert_eq!(global.get(&opt::RETRY_INTERVAL), 60);
    assert_eq!(global.get(&opt::BOUNCE_PATTERN).unwrap().as_str(), r"^v-\d+-[a-f0-9]+@");
    assert!(global.get(&opt::BOUNCE_PATTERN).unwrap().is_match(b"v-12-0af@x"));
    assert_eq!(&*global.get(&opt::BOUNCE_SUPPRESS_LIST), "x\"y@z.example");
    assert_eq!(global.get(&opt::EXCLUDE_VCTX_MESS).patterns().len(), 2);
    let text = std::fs::read_to_string(folder().join("torture.conf")).unwrap() + "\ndomain [IPv6] {}";
    let report = Config::parse("torture.conf", &text).unwrap_err();
    let error = report.of(Severity::Error).next().unwrap();
    assert_eq!((error.line, error.column), (7, 8));
    assert!(error.message.contains("must be quoted"), "{error}");
}

#[test]
fn further_forms() {
    assert_eq!(
        parse("Domain x.test{gateway=10.0.0.1}").sending("", "", "x.test").get(&opt::GATEWAY).as_deref(),
        Some("10.0.0.1")
    );
    let config = parse("max_outbound_connections=1 max_outbound_connections=2\nmax_outbound_connections=3");
    assert_eq!(config.global().get(&opt::MAX_OUTBOUND_CONNECTIONS), 3);
    assert_eq!(parse("binding B{} binding b{}").bindings().len(), 3);
    let config = parse("Domain A.Test { retry_interval = 1 } domain a.test { max_retries = 2 }");
    let scope = config.sending("", "", "a.TEST");
    assert_eq!((scope.get(&opt::RETRY_INTERVAL), &*scope.get(&opt::MAX_RETRIES)), (1, "2"));
    let config = parse("domain \"[IPv6:fd82::1]\" { retry_interval = 4 }");
    assert_eq!(config.sending("", "", "[IPv6:fd82::1]").get(&opt::RETRY_INTERVAL), 4);
    for text in ["", "\n", "domain x {}", "# only a comment", "/**/", "binding b {\r\n}\r\n"] {
        parse(text);
    }
    let config = parse("Esmtp_Listener = { listen \":40000\" = { } }");
    assert_eq!(config.listeners()[0].listens.len(), 1);
}

#[test]
fn units_and_words() {
    for (text, wanted) in
        [("90", 90), ("\"15 minutes\"", 900), ("2h", 7200), ("\"1 Day\"", 86_400), ("1w", 604_800), ("3sec", 3)]
    {
        assert_eq!(parse(&format!("retry_interval = {text}")).global().get(&opt::RETRY_INTERVAL), wanted, "{text}");
    }
    for (text, wanted) in [("131072", 131_072), ("128k", 131_072), ("1M", 1 << 20), ("2g", 2 << 30)] {
        let config = parse(&format!("large_message_threshold = {text}"));
        assert_eq!(config.global().get(&opt::LARGE_MESSAGE_THRESHOLD), wanted, "{text}");
    }
    for (text, wanted) in [("", 2000), ("3", 3000), ("250ms", 250), ("\"250 ms\"", 250), ("0.5", 500), ("1m", 60_000)] {
        let text = if text.is_empty() { String::new() } else { format!("hook_cpu_limit = {text}") };
        assert_eq!(parse(&text).global().get(&opt::HOOK_CPU_LIMIT), wanted, "{text}");
    }
    for word in ["true", "ON", "Enabled", "1", "yes"] {
        assert!(parse(&format!("never_retry = {word}")).global().get(&opt::NEVER_RETRY), "{word}");
        assert_eq!(&*parse(&format!("blackhole = {word}")).global().get(&opt::BLACKHOLE), "true");
    }
    assert_eq!(&*parse("blackhole = Internal").global().get(&opt::BLACKHOLE), "internal");
    assert_eq!(&*parse("max_retries = None").global().get(&opt::MAX_RETRIES), "none");
    assert_eq!(parse("spool_mode = \"0600\"").global().get(&opt::SPOOL_MODE), 0o600);
    assert_eq!(parse("remote_smtp_port = 40000").global().get(&opt::REMOTE_SMTP_PORT), 40_000);
    let config = parse("tls_certificate = /a domain x { tls_certificate = none }");
    assert_eq!(config.sending("", "", "x").get(&opt::TLS_CERTIFICATE), None);
    assert_eq!(config.sending("", "", "y").get(&opt::TLS_CERTIFICATE).as_deref(), Some("/a"));
}

#[test]
fn modules_logs_control_and_policy() {
    let loaded = Config::load(&folder().join("ops.conf")).unwrap_or_else(|report| panic!("{report}"));
    let config = loaded.config;
    let flags = config.debug_flags();
    assert_eq!(flags.levels[3].0, "warning");
    assert_eq!(flags.levels[3].1.iter().map(|s| &**s).collect::<Vec<_>>(), ["SMTP", "DNS"]);
    let pool = config.threadpools().into_iter().find(|p| &*p.name == "clog").unwrap();
    assert_eq!((pool.concurrency, pool.backlog), (1, 4096));
    let logger = config.module("custom_logger", Some("clog1")).unwrap();
    assert!(logger.get(&opt::CUSTOM_LOGGER_DELIVERY_FORMAT).unwrap().starts_with("%t|%i|"));
    assert!(!config.module("bounce_logger", Some("b1")).unwrap().get(&opt::BOUNCE_LOGGER_LOG_TRANSIENT_FAILURES));
    assert!(config.module("bounce_logger", Some("b2")).is_none());
    let scripts: Vec<_> =
        config.scripts().iter().map(|s| (s.name.to_string(), s.source.to_string(), s.place.line)).collect();
    assert_eq!(
        scripts,
        [
            ("policy".to_string(), "policy.inbound".to_string(), 12),
            ("routing".to_string(), "policy.routing".to_string(), 13),
        ]
    );
    let (name, users) = &config.datasources()[0];
    assert_eq!(
        (&**name, users.get(&opt::DATASOURCE_CACHE_SIZE), users.get(&opt::DATASOURCE_CACHE_LIFE)),
        ("users", 500, 60)
    );
    assert_eq!(users.get(&opt::DATASOURCE_URI).len(), 1);
    let roles = config.roles();
    assert!(roles[0].allow.is_match(b"config get x"));
    assert!(!roles[0].allow.is_match(b"config set x 1"));
    assert!(roles[1].allow.is_match(b"config set x 1"));
    let security = config.security();
    assert_eq!(security.user.as_deref(), Some("ecuser"));
    assert_eq!(config.listen_scope(0, 0).get(&opt::CONTROL_TIMEOUT), 120);
    assert!(!config.listen_scope(0, 0).get(&opt::ENABLE_AUTHENTICATION));
    assert!(config.listen_scope(0, 1).get(&opt::ALWAYS_DENY));
    let from = |address: &str| {
        let remote = address.parse().unwrap();
        config.receiving(&Receiving { listener: 0, listen: 1, remote, pathway: None }).get(&opt::ALWAYS_DENY)
    };
    assert!(!from("127.0.0.1"));
    assert!(from("127.0.0.2"));
    let digest = config.listen_scope(0, 1).get(&opt::AUTHDIGESTMD5PARAMETERS);
    assert_eq!(digest.get("realm"), Some("Momentum Console"));
    assert_eq!(config.sending("", "", "site.example").get(&opt::RETRY_INTERVAL), 30);
}

#[test]
fn a_module_that_is_not_there_yet_loads_with_one_warning() {
    let text = "opendkim \"d\" { header_canon = relaxed headerlist = ( From To ) dkim_domain \"x.org\" { selector = s key = \"/k\" } }
                antivirus { clamav { daemon = \"127.0.0.1:3310\" } }
                alias \"a\" { anything [ a = b ] nested \"x\" { more = ( 1 2 ) } }";
    let loaded = Config::parse("test", text).unwrap_or_else(|report| panic!("{report}"));
    let warnings: Vec<_> = loaded.warnings.of(Severity::Warning).map(|w| w.message.clone()).collect();
    let stanzas = warnings.iter().filter(|w| w.contains("the stanza has no effect")).count();
    assert_eq!(stanzas, 3, "{}", loaded.warnings);
    assert!(warnings.iter().any(|w| w.contains("`anything` is not a known option of `Alias`")), "{}", loaded.warnings);
    assert_eq!(loaded.config.module_parts("opendkim", "d")[0].0, "dkim_domain");
}

#[test]
fn an_option_that_is_not_there_yet_is_a_warning_with_its_place() {
    let loaded = Config::parse("test", "retry_interval = 1\ndkim = enabled\nbinding b { dkim = disabled }").unwrap();
    let warnings: Vec<_> = loaded.warnings.of(Severity::Warning).collect();
    assert_eq!(warnings.len(), 1, "once is enough");
    assert_eq!((warnings[0].line, warnings[0].column), (2, 1));
    assert!(warnings[0].message.contains("not implemented yet"));
}

#[test]
fn doubtful_values_are_warned_of() {
    for (text, wanted) in [
        ("relay_hosts = ( 10.1.2.3/8 )", "taken as `10.0.0.0/8`"),
        ("relay_hosts = 10.0.0.1", "a list is expected"),
        ("relay_domains = ( *x.org )", "also matches `badx.org`"),
        ("esmtp_listener { relay_for_sending_domains = () }", "matches nothing"),
        ("esmtp_listener { starttls_injection_policy = allow }", "acts as `ignore`"),
        ("server_max_file_descriptors = 1000", "less than four times"),
        ("cluster_max_outbound_connections = 5", "acts as Max_Outbound_Connections"),
        ("esmtp_listener { smtp_extensions = ( \"AUTH PLAIN\" ) }", "in clear"),
        ("outbound_smtp_auth_pass = x", "in clear"),
        ("esmtp_listener { pathway = nowhere }", "no pathway `nowhere`"),
        ("esmtp_listener { pool_name = p }", "no thread pool `p`"),
        ("debug_flags { debug = ( SMPT ) }", "no subsystem `SMPT`"),
        ("esmtp_listener { peer 10.0.0.1/8 { } }", "taken as `10.0.0.0/8`"),
    ] {
        let loaded = Config::parse("test", text).unwrap_or_else(|report| panic!("{text}: {report}"));
        assert!(
            loaded.warnings.of(Severity::Warning).any(|w| w.message.contains(wanted)),
            "{text}: {}",
            loaded.warnings
        );
    }
    assert_eq!(parse("cluster_max_outbound_connections = 5").global().get(&opt::MAX_OUTBOUND_CONNECTIONS), 5);
}

#[test]
fn scopes_in_which_strangers_may_relay() {
    for (text, count) in [
        ("esmtp_listener { open_relay = true listen \":25\" {} }", 1),
        ("esmtp_listener { open_relay = true listen \"127.0.0.1:25\" {} }", 0),
        ("esmtp_listener { listen \":25\" { peer 10.0.0.0/8 { open_relay = true } } }", 0),
        ("esmtp_listener { listen \":25\" { peer 0.0.0.0/0 { open_relay = true } } }", 1),
        ("relay_hosts = ( 0.0.0.0/0 )", 1),
        ("relay_hosts = ( \"::/0\" )", 1),
        ("esmtp_listener { listen \":25\" { relay_for_sending_domains = ( a.org ) } }", 1),
        ("esmtp_listener { listen \":25\" { smtp_extensions = ( XCLIENT ) } }", 1),
        ("esmtp_listener { listen \":25\" { always_allow = true proxy_protocol = true } }", 2),
        ("pathway p { open_relay = true }", 1),
        ("control_listener { listen \"/tmp/x\" { always_allow = true } }", 0),
        ("control_listener { listen \":2025\" { always_allow = true } }", 1),
    ] {
        let found = parse(text).relay_warnings();
        assert_eq!(found.len(), count, "{text}: {found:?}");
    }
    assert_eq!(load("gateway.conf").relay_warnings().len(), 1, "PROXY on port 25");
}

#[test]
fn what_needs_a_restart_is_named() {
    let old = parse("spoolbase = /a retry_interval = 1 security { user = a }");
    let new = parse("spoolbase = /b retry_interval = 2 security { user = a }");
    assert_eq!(new.restart_only_changes(&old), ["Spoolbase"]);
    let new = parse("spoolbase = /a security { user = b }");
    assert_eq!(new.restart_only_changes(&old), ["User"]);
}

#[test]
fn printed_text_loads_again() {
    for name in ["relay.conf", "bulk.conf", "fallback.conf", "gateway.conf", "torture.conf", "ops.conf"] {
        let text = load(name).text();
        let again = Config::parse(name, &text).unwrap_or_else(|report| panic!("{name}:\n{text}\n{report}"));
        assert_eq!(again.config.text(), text, "{name}");
        assert_eq!(again.config.to_json(), load(name).to_json());
    }
}
