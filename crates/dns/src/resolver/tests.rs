//! Every kind of answer and failure, against a server on loopback.

use super::*;
use crate::testing::{Authority, Failure, NEGATIVE_TTL_S};

const ZONE: &str = r#"
example.org      MX 20 b.example.org
example.org      MX 10 A.Example.org
example.org  60  TXT "v=spf1 " "-all ; x"
a.example.org    A 192.0.2.1
a.example.org 20 A 192.0.2.2
a.example.org    AAAA 2001:db8::1
b.example.org    AAAA 2001:db8::2
null.example     MX 0 .
odd.example      MX 0 .
odd.example      MX 10 a.example.org
only-a.example   A 192.0.2.9
www.example 40   CNAME web.example
web.example      A 192.0.2.10
lone.example 15  ALIAS web.example
dead.example     CNAME nowhere.example
loop1.example    ALIAS loop2.example
loop2.example    ALIAS loop1.example
1.2.0.192.in-addr.arpa  PTR a.example.org
2.2.0.192.in-addr.arpa  PTR bad(name.example.org
fail.example     SERVFAIL
no.example       REFUSED
silent.example   SILENT
cut.example      TRUNCATED
cut.example      MX 10 a.example.org
xn--bcher-kva.example  A 192.0.2.11
"#;

async fn start() -> (Authority, Resolver) {
    let authority = Authority::start(ZONE).await.unwrap();
    let resolver = authority.resolver();
    (authority, resolver)
}

fn texts(addresses: Result<Vec<IpAddr>, DnsError>) -> Result<String, DnsError> {
    addresses.map(|all| all.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "))
}

#[tokio::test]
async fn mail_hosts_come_best_first() {
    let (_authority, resolver) = start().await;
    let hosts = resolver.mx("EXAMPLE.org.").await.unwrap();
    let mx = |preference, host: &str| Mx { preference, host: host.into() };
    assert_eq!(hosts, [mx(10, "a.example.org"), mx(20, "b.example.org")]);
    assert_eq!(resolver.mx("null.example").await, Err(DnsError::NullMx));
    assert_eq!(resolver.mx("odd.example").await.unwrap(), [mx(10, "a.example.org")]);
    assert_eq!(resolver.mx("only-a.example").await, Err(DnsError::NoData));
    assert_eq!(resolver.mx("absent.example").await, Err(DnsError::NxDomain));
    let raw = resolver.lookup("null.example", RecordType::Mx).await.unwrap();
    assert_eq!(raw.records[0].data, Data::Mx(mx(0, "")));
}

#[tokio::test]
async fn addresses_of_both_families() {
    let (_authority, resolver) = start().await;
    for (host, want_v6, expected) in [
        ("a.example.org", false, Ok("192.0.2.1 192.0.2.2")),
        ("a.example.org", true, Ok("192.0.2.1 192.0.2.2 2001:db8::1")),
        ("b.example.org", true, Ok("2001:db8::2")),
        ("b.example.org", false, Err(DnsError::NoData)),
        ("bücher.example", false, Ok("192.0.2.11")),
        ("192.0.2.77", false, Ok("192.0.2.77")),
        ("[192.0.2.77]", false, Ok("192.0.2.77")),
        ("2001:db8::7", false, Ok("2001:db8::7")),
        ("localhost", false, Ok("127.0.0.1")),
        ("www.example", false, Ok("192.0.2.10")),
        ("lone.example", false, Ok("192.0.2.10")),
        ("dead.example", true, Err(DnsError::NxDomain)),
        ("fail.example", true, Err(DnsError::ServFail)),
        ("", true, Err(DnsError::BadName)),
    ] {
        assert_eq!(
            texts(resolver.addresses(host, want_v6).await).as_deref().map_err(|e| *e),
            expected,
            "{host} {want_v6}"
        );
    }
}

#[tokio::test]
async fn each_failure_has_its_kind() {
    let (authority, resolver) = start().await;
    for (name, error, code) in [
        ("absent.example", DnsError::NxDomain, "NXDOMAIN"),
        ("example", DnsError::NoData, "NODATA"),
        ("a.example.org", DnsError::NoData, "NODATA"),
        ("fail.example", DnsError::ServFail, "SERVFAIL"),
        ("no.example", DnsError::Refused, "REFUSED"),
        ("silent.example", DnsError::Timeout, "TIMEOUT"),
        ("loop1.example", DnsError::ServFail, "SERVFAIL"),
        ("a b", DnsError::BadName, "NXDOMAIN"),
    ] {
        assert_eq!(resolver.lookup(name, RecordType::Txt).await, Err(error), "{name}");
        assert_eq!(error.code(), code);
    }
    // A port that nobody listens on any more.
    let closed = authority.address();
    drop(authority);
    let settings =
        Settings { attempts: 1, timeout: Duration::from_millis(200), hosts_file: None, ..Settings::default() };
    let error = Resolver::new(vec![closed], settings).mx("example.org").await.unwrap_err();
    assert!(matches!(error, DnsError::Unreachable | DnsError::Timeout), "{error}");
    assert_eq!(Resolver::empty().mx("example.org").await, Err(DnsError::NoServers));
    assert_eq!(texts(Resolver::empty().addresses("localhost", false).await).as_deref(), Ok("127.0.0.1"));
}

#[tokio::test]
async fn a_cut_answer_is_asked_for_again_over_tcp() {
    let (authority, resolver) = start().await;
    assert_eq!(resolver.mx("cut.example").await.unwrap().len(), 1);
    assert_eq!(authority.tcp_questions(), 1);
    // One too large for a datagram is cut by nobody here, but has to fit into the buffer.
    let many: String = (0..60).map(|n| format!("many.example MX 10 mx{n}.example.org\n")).collect();
    authority.add(&many).unwrap();
    assert_eq!(resolver.mx("many.example").await.unwrap().len(), 60);
}

#[tokio::test]
async fn reverse_names_are_host_names() {
    let (_authority, resolver) = start().await;
    assert_eq!(resolver.ptr("192.0.2.1".parse().unwrap()).await.unwrap(), ["a.example.org"]);
    assert_eq!(resolver.ptr("::ffff:192.0.2.1".parse().unwrap()).await.unwrap(), ["a.example.org"]);
    assert_eq!(resolver.ptr("192.0.2.2".parse().unwrap()).await, Err(DnsError::NoData));
    assert_eq!(resolver.ptr("192.0.2.3".parse().unwrap()).await, Err(DnsError::NxDomain));
}

#[tokio::test]
async fn the_strings_of_a_text_are_joined() {
    let (_authority, resolver) = start().await;
    assert_eq!(resolver.txt("example.org").await.unwrap(), ["v=spf1 -all ; x"]);
}

#[tokio::test]
async fn answers_are_kept_for_the_shortest_ttl_on_the_way() {
    let (authority, resolver) = start().await;
    for (name, kind, ttl_s) in [
        ("a.example.org", RecordType::A, 20),
        ("www.example", RecordType::A, 40),
        ("lone.example", RecordType::A, 15),
        ("example.org", RecordType::Mx, 300),
    ] {
        assert_eq!(resolver.lookup(name, kind).await.unwrap().ttl_s, ttl_s, "{name}");
        let asked = authority.questions().len();
        assert_eq!(resolver.lookup(name, kind).await.unwrap().ttl_s, ttl_s, "{name}");
        assert_eq!(authority.questions().len(), asked, "{name}");
    }
}

#[tokio::test]
async fn the_bounds_of_the_ttl_hold() {
    let authority = Authority::start("a.example 10 A 192.0.2.1\nb.example 9000 A 192.0.2.1\nz.example 0 A 192.0.2.1")
        .await
        .unwrap();
    let with = |min, max| {
        let settings = Settings { ttl_min_s: min, ttl_max_s: max, hosts_file: None, ..Settings::default() };
        Resolver::new(vec![authority.address()], settings)
    };
    for (min, max, name, ttl_s) in [
        (0, u32::MAX, "a.example", 10),
        (100, 1000, "a.example", 100),
        (100, 1000, "b.example", 1000),
        (100, 50, "b.example", 50),
        (u32::MAX, u32::MAX, "a.example", TTL_MAX_S),
    ] {
        assert_eq!(with(min, max).lookup(name, RecordType::A).await.unwrap().ttl_s, ttl_s, "{min} {max} {name}");
    }
    let resolver = with(0, u32::MAX);
    for _ in 0..2 {
        resolver.lookup("z.example", RecordType::A).await.unwrap();
    }
    assert_eq!(authority.questions().iter().filter(|(name, _)| name == "z.example").count(), 2);
}

#[tokio::test]
async fn negative_answers_are_kept_and_failures_of_servers_are_not() {
    let (authority, resolver) = start().await;
    let asked = |name: &str| authority.questions().iter().filter(|(n, _)| n == name).count();
    for name in ["absent.example", "only-a.example", "fail.example", "silent.example"] {
        for _ in 0..2 {
            assert!(resolver.lookup(name, RecordType::Mx).await.is_err());
        }
    }
    assert_eq!((asked("absent.example"), asked("only-a.example")), (1, 1));
    assert_eq!((asked("fail.example"), asked("silent.example")), (2, 2));
    assert_eq!(
        resolver.shared.cache.get(&Key { name: "absent.example".into(), kind: RecordType::Mx }).unwrap().ttl_s,
        NEGATIVE_TTL_S
    );
}

#[tokio::test]
async fn flush_forgets_one_name_or_all() {
    let (authority, resolver) = start().await;
    let both = async || {
        resolver.lookup("example.org", RecordType::Mx).await.unwrap();
        resolver.lookup("a.example.org", RecordType::A).await.unwrap();
        authority.questions().len()
    };
    assert_eq!((both().await, both().await), (2, 2));
    assert_eq!(resolver.stats().cache_entries, 2);
    resolver.flush("EXAMPLE.ORG");
    assert!(resolver.cached("example.org", RecordType::Mx).is_none());
    assert!(resolver.cached("a.example.org", RecordType::A).is_some());
    assert_eq!(both().await, 3);
    resolver.flush_all();
    assert_eq!(both().await, 5);
}

#[tokio::test]
async fn the_cache_can_be_looked_into() {
    let (_authority, resolver) = start().await;
    assert_eq!(resolver.cached("example.org", RecordType::Mx), None);
    resolver.mx("example.org").await.unwrap();
    let answer = resolver.cached("Example.org", RecordType::Mx).unwrap().unwrap();
    assert!(answer.records[0].to_string().ends_with(" IN MX 20 b.example.org."), "{}", answer.records[0]);
    let _ = resolver.mx("absent.example").await;
    assert_eq!(resolver.cached("absent.example", RecordType::Mx), Some(Err(DnsError::NxDomain)));
}

#[tokio::test]
async fn questions_of_the_same_kind_at_one_time_are_one() {
    let (authority, resolver) = start().await;
    let ask = |_| {
        let resolver = resolver.clone();
        tokio::spawn(async move { resolver.mx("example.org").await })
    };
    let questions: Vec<_> = (0..50).map(ask).collect();
    for question in questions {
        assert_eq!(question.await.unwrap().unwrap().len(), 2);
    }
    assert_eq!(authority.questions().len(), 1);
    let stats = resolver.stats();
    assert_eq!((stats.queries(RecordType::Mx), stats.queries(RecordType::A), stats.pending), (1, 0, 0));
    assert_eq!(stats.cache_hits + stats.cache_misses, 50);
    resolver.reset_counters();
    assert_eq!(resolver.stats().queries(RecordType::Mx), 0);
}

#[tokio::test]
async fn timeouts_are_counted_and_the_next_server_is_asked() {
    let (authority, _) = start().await;
    let broken = Authority::start("example.org SILENT\na.example.org SERVFAIL\nabsent.example NXDOMAIN").await.unwrap();
    let settings =
        Settings { timeout: Duration::from_millis(100), attempts: 1, hosts_file: None, ..Settings::default() };
    let resolver = Resolver::new(vec![broken.address(), authority.address()], settings);
    assert_eq!(resolver.mx("example.org").await.unwrap().len(), 2);
    assert_eq!(texts(resolver.addresses("a.example.org", false).await).as_deref(), Ok("192.0.2.1 192.0.2.2"));
    // No such name is an answer: the next server is not asked.
    assert_eq!(resolver.mx("absent.example").await, Err(DnsError::NxDomain));
    assert!(authority.questions().iter().all(|(name, _)| name != "absent.example"));
    assert_eq!(resolver.stats().types.iter().map(|one| one.timeouts).sum::<u64>(), 0);
    let alone = broken.resolver();
    assert_eq!(alone.mx("example.org").await, Err(DnsError::Timeout));
    assert_eq!(alone.stats().types.iter().map(|one| one.timeouts).sum::<u64>(), 1);
}

#[tokio::test]
async fn a_name_can_fail_and_recover() {
    let (authority, resolver) = start().await;
    authority.fail("example.org", Some(Failure::ServFail));
    assert_eq!(resolver.mx("example.org").await, Err(DnsError::ServFail));
    authority.fail("example.org", None);
    assert_eq!(resolver.mx("example.org").await.unwrap().len(), 2);
    authority.set_zone("example.org MX 5 c.example.org").unwrap();
    resolver.flush("example.org");
    assert_eq!(resolver.mx("example.org").await.unwrap()[0].preference, 5);
    let error = authority.set_zone("\nexample.org MX nonsense").unwrap_err();
    assert_eq!(error.line, 2);
}

#[tokio::test]
async fn a_question_outlives_the_caller_that_began_it() {
    let (authority, resolver) = start().await;
    {
        let question = resolver.mx("example.org");
        let mut question = std::pin::pin!(question);
        // Polled once, so that it is under way, then dropped.
        std::future::poll_fn(|cx| {
            let _ = question.as_mut().poll(cx);
            std::task::Poll::Ready(())
        })
        .await;
    }
    assert_eq!(resolver.mx("example.org").await.unwrap().len(), 2);
    assert_eq!(authority.questions().len(), 1);
}

#[tokio::test]
async fn another_server_can_be_asked_beside_the_cache() {
    let (authority, _) = start().await;
    let resolver = Resolver::empty();
    let by_address = resolver.lookup_at(&authority.address().to_string(), "example.org", RecordType::Mx).await.unwrap();
    assert_eq!(by_address.records.len(), 2);
    let by_name = format!("localhost:{}", authority.address().port());
    assert!(resolver.lookup_at(&by_name, "example.org", RecordType::Mx).await.is_ok());
    assert_eq!(resolver.cached("example.org", RecordType::Mx), None);
    assert_eq!(resolver.lookup_at("unknown.name", "example.org", RecordType::Mx).await, Err(DnsError::Unreachable));
}

#[tokio::test]
async fn the_order_of_hosts_file_and_servers_is_obeyed() {
    let (authority, _) = start().await;
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "198.51.100.1 a.example.org\n198.51.100.2 file.example\n").unwrap();
    let with = |order| {
        let settings = Settings { hosts_file: Some(file.path().into()), hosts_order: order, ..Settings::default() };
        Resolver::new(vec![authority.address()], settings)
    };
    for (order, name, expected) in [
        (HostsOrder::HostsFirst, "a.example.org", Ok("198.51.100.1")),
        (HostsOrder::HostsFirst, "web.example", Ok("192.0.2.10")),
        (HostsOrder::DnsFirst, "a.example.org", Ok("192.0.2.1 192.0.2.2")),
        (HostsOrder::DnsFirst, "file.example", Ok("198.51.100.2")),
        (HostsOrder::HostsOnly, "web.example", Err(DnsError::NxDomain)),
        (HostsOrder::DnsOnly, "file.example", Err(DnsError::NxDomain)),
        (HostsOrder::DnsOnly, "localhost", Ok("127.0.0.1")),
    ] {
        assert_eq!(
            texts(with(order).addresses(name, false).await).as_deref().map_err(|e| *e),
            expected,
            "{order:?} {name}"
        );
    }
}

#[tokio::test]
async fn a_configuration_file_names_the_servers() {
    let (authority, _) = start().await;
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), format!("nameserver {}\noptions timeout:1 attempts:1\n", authority.address())).unwrap();
    let resolver = Resolver::from_resolv_conf(file.path(), Settings::default());
    assert_eq!(resolver.servers(), [authority.address()]);
    let setup = resolver.shared.setup();
    assert_eq!((setup.settings.timeout, setup.settings.attempts), (Duration::from_secs(1), 1));
    assert_eq!(resolver.mx("example.org").await.unwrap().len(), 2);
}

#[tokio::test]
async fn all_clones_ask_other_servers_after_a_reload_and_forget_what_the_old_ones_said() {
    let old = Authority::start("a.example 3600 A 192.0.2.1").await.unwrap();
    let new = Authority::start("a.example 3600 A 192.0.2.2").await.unwrap();
    let resolver = Resolver::new(vec![old.address()], Settings::default());
    let clone = resolver.clone();
    let ask = async || clone.addresses("a.example", false).await.unwrap();
    let address = |text: &str| vec![text.parse::<IpAddr>().unwrap()];
    assert_eq!(ask().await, address("192.0.2.1"));
    // The same servers with other bounds: the cache stays.
    let same = Resolver::new(vec![old.address()], Settings { ttl_max_s: 5, ..Settings::default() });
    resolver.adopt(&same);
    let hits = clone.stats().cache_hits;
    assert_eq!((ask().await, clone.stats().cache_hits), (address("192.0.2.1"), hits + 1));
    resolver.adopt(&Resolver::new(vec![new.address()], Settings { ttl_max_s: 5, ..Settings::default() }));
    assert_eq!(ask().await, address("192.0.2.2"));
    assert_eq!(clone.lookup("a.example", RecordType::A).await.unwrap().ttl_s, 5, "the new bound");
    assert_eq!(clone.servers(), [new.address()]);
}

#[tokio::test]
async fn an_answer_to_another_question_is_not_taken() {
    // A server that answers with a wrong id first, with a wrong name second, rightly third.
    use hickory_proto::op::{Message, Query};
    let socket = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    let server = tokio::spawn(async move {
        let mut buffer = [0; 512];
        let (len, peer) = socket.recv_from(&mut buffer).await.unwrap();
        let question = Message::from_vec(&buffer[..len]).unwrap();
        let name = hickory_proto::rr::Name::from_ascii("evil.example.").unwrap();
        let record = |last: u8| {
            let ip = hickory_proto::rr::rdata::A(std::net::Ipv4Addr::new(192, 0, 2, last));
            hickory_proto::rr::Record::from_rdata(
                question.queries[0].name().clone(),
                60,
                hickory_proto::rr::RData::A(ip),
            )
        };
        let answer = |id: u16, query: Query, last: u8| {
            let mut answer = Message::response(id, hickory_proto::op::OpCode::Query);
            answer.add_query(query).add_answer(record(last));
            answer.to_vec().unwrap()
        };
        let (id, query) = (question.metadata.id, question.queries[0].clone());
        let other = Query::query(name, query.query_type());
        for bytes in [b"junk".to_vec(), answer(id ^ 1, query.clone(), 66), answer(id, other, 67), answer(id, query, 1)]
        {
            socket.send_to(&bytes, peer).await.unwrap();
        }
    });
    let resolver = Resolver::new(vec![address], Settings { hosts_file: None, ..Settings::default() });
    assert_eq!(texts(resolver.addresses("a.example", false).await).as_deref(), Ok("192.0.2.1"));
    server.await.unwrap();
}
