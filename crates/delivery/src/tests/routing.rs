//! Hosts in their order, and what happens when there are none.

use super::peer::nobody;
use super::*;

const NO_HOSTS: &str = "451 4.4.1 [internal] No valid hosts (unable to make any connections)";

#[tokio::test]
async fn the_second_mx_gets_it_in_the_same_attempt_when_the_first_refuses() {
    let peer = Peer::start_at("127.0.0.2:0".parse().unwrap(), &[]).await;
    // Nobody listens on that port of 127.0.0.3.
    let zone = "d.example MX 10 a.example\nd.example MX 20 b.example\na.example A 127.0.0.3\nb.example A 127.0.0.2\n";
    let world = World::running(&format!("remote_smtp_port = {}", peer.address.port()), zone).await;
    world.push("s@x.example", "r@d.example").await;
    let lines = world.wait_for("D", 1).await;
    assert_eq!((&*lines[0][9], &*lines[0][11]), ("0", "127.0.0.2"));
    assert!(world.lines_of("T").is_empty());
    // The first rests now: the next message does not even try it.
    world.push("s@x.example", "r@d.example").await;
    world.wait_for("D", 2).await;
}

#[tokio::test]
async fn when_all_refuse_it_is_one_transient_failure_that_never_had_a_connection() {
    let port = nobody("127.0.0.1").await.port();
    let zone = "d.example MX 10 a.example\nd.example MX 20 b.example\na.example A 127.0.0.3\nb.example A 127.0.0.2\n";
    let world = World::running(&format!("remote_smtp_port = {port}"), zone).await;
    world.push("s@x.example", "r@d.example").await;
    let lines = world.wait_for("T", 1).await;
    let line = &lines[0];
    assert_eq!((&*line[3], &*line[6], &*line[9], &*line[10]), ("00/00-00000-00000000", "0", "0", "0"));
    assert_eq!((&*line[12], &*line[13]), ("", NO_HOSTS));
    assert_eq!(world.lines_of("T").len(), 1);
}

#[tokio::test]
async fn routing_failures_have_their_texts() {
    let zone = "null.example MX 0 .\nself.example A 127.0.0.1\n";
    let world = World::running("prohibited_hosts = ( 127.0.0.0/8 )", zone).await;
    for (domain, kind, text) in [
        ("null.example", "P", "550 5.4.4 [internal] NULL MX domain does not accept mail"),
        ("self.example", "P", "551 5.4.6 [internal] Private/Loopback Address"),
        ("nowhere.example", "T", "454 4.4.4 [internal] no MX or A for domain"),
    ] {
        world.push("s@x.example", &format!("r@{domain}")).await;
        until(text, || {
            let lines = world.lines_of(kind);
            lines.iter().any(|line| line[5] == domain && line[13] == text).then_some(())
        })
        .await;
    }
    assert_eq!(world.lines_of("T").len(), 1);
}

#[tokio::test]
async fn a_host_to_skip_is_passed_over() {
    let peer = Peer::start_at("127.0.0.2:0".parse().unwrap(), &[]).await;
    let zone = "d.example MX 10 a.example\nd.example MX 20 b.example\na.example A 127.0.0.1\nb.example A 127.0.0.2\n";
    let config = format!("remote_smtp_port = {} skip_hosts = ( 127.0.0.1 )", peer.address.port());
    let world = World::running(&config, zone).await;
    world.push("s@x.example", "r@d.example").await;
    assert_eq!(world.wait_for("D", 1).await[0][11], "127.0.0.2");
}

#[tokio::test]
async fn a_domain_that_is_never_found_is_purged() {
    let clock = Clock::fake(START);
    let mut world =
        World::new("dns_failures_to_purge = 3 retry_interval = 100 max_retry_interval = 100", "", clock).await;
    world.start();
    world.push("s@x.example", "r@gone.example").await;
    world.wait_for("T", 1).await;
    let late = world.push("s@x.example", "late@gone.example").await;
    world.wait_for("T", 2).await;
    assert_eq!(world.lines_of("T")[1][1], late.to_string(), "it learns the same without a look-up");
    for count in 1..=2 {
        world.clock.advance(Duration::from_secs(100));
        if count == 1 {
            world.wait_for("T", 4).await;
        }
    }
    let lines = world.wait_for("P", 2).await;
    assert!(lines.iter().all(|line| line[13] == "554 5.4.4 [internal] Domain Lookup Failed"));
    world.drained().await;
}

#[tokio::test]
async fn after_enough_failures_of_every_mx_all_active_mail_is_delayed() {
    let port = nobody("127.0.0.1").await.port();
    let config = format!("remote_smtp_port = {port} mx_failures_to_delay = 2 host_failure_retry = 10");
    let mut world = World::new(&config, "d.example A 127.0.0.1\n", Clock::fake(START)).await;
    world.push_five().await;
    world.start();
    assert_eq!(world.wait_for("T", 1).await[0][13], NO_HOSTS);
    // Until the address is up again the others wait, and nothing is counted.
    world.clock.advance(Duration::from_secs(11));
    let lines = world.wait_for("T", 5).await;
    let text = "421 4.4.0 [internal] no MXs for this domain could be reached at this time";
    assert_eq!(lines[1..].iter().filter(|line| line[13] == text).count(), 4);
    assert_eq!(world.queue.overview().active, 0);
}

impl World {
    async fn push_five(&self) {
        for n in 0..5 {
            self.push("s@x.example", &format!("r{n}@d.example")).await;
        }
    }
}

#[tokio::test]
async fn a_gateway_and_a_literal_need_no_dns() {
    let peer = Peer::start(&[]).await;
    let world = World::running("", "").await;
    let literal = format!("127.0.0.1:{}", peer.address.port());
    let envelope = world.envelope("s@x.example", "r@d.example");
    world.push_with(Envelope { routing_domain: Some(literal.as_str().into()), ..envelope }, "A: b\r\n\r\n").await;
    let lines = world.wait_for("D", 1).await;
    assert_eq!(lines[0][5], literal);
    assert_eq!(peer.commands("RCPT"), ["RCPT TO:<r@d.example>"]);
}

#[tokio::test]
async fn domains_behind_one_host_are_queued_together_where_it_says_so() {
    let peer = Peer::start(&[]).await;
    let ip = peer.address.ip();
    let zone = format!(
        "a.example MX 10 mx.host.example\nb.example MX 10 MX.host.example\nc.example MX 10 other.example\n\
         big.example MX 10 mx.host.example\nmx.host.example A {ip}\nother.example A {ip}\n"
    );
    let config = format!(
        "remote_smtp_port = {} host mx.host.example {{ rollup_mx = true rollup_mx_name = Big.Example }}",
        peer.address.port()
    );
    let world = World::running(&config, &zone).await;
    let mut wanted = Vec::new();
    for (domain, queued) in [("a", "big"), ("b", "big"), ("c", "c"), ("big", "big")] {
        let id = world.push("s@x.example", &format!("r@{domain}.example")).await;
        wanted.push((id.to_string(), format!("{queued}.example")));
    }
    let lines = world.wait_for("D", 4).await;
    let mut found: Vec<_> = lines.iter().map(|line| (line[1].clone(), line[5].clone())).collect();
    found.sort();
    wanted.sort();
    assert_eq!(found, wanted);
    assert!(world.lines_of("T").is_empty());
}

#[tokio::test]
async fn domains_that_are_rolled_up_to_each_other_do_not_go_to_and_fro() {
    let peer = Peer::start(&[]).await;
    let ip = peer.address.ip();
    let zone =
        format!("a.example MX 10 mxa.example\nb.example MX 10 mxb.example\nmxa.example A {ip}\nmxb.example A {ip}\n");
    let config = format!(
        "remote_smtp_port = {} host mxa.example {{ rollup_mx = true rollup_mx_name = b.example }} \
         host mxb.example {{ rollup_mx = true rollup_mx_name = a.example }}",
        peer.address.port()
    );
    let world = World::running(&config, &zone).await;
    for domain in ["a", "b"] {
        world.push("s@x.example", &format!("r@{domain}.example")).await;
    }
    world.wait_for("D", 2).await;
    world.drained().await;
}

#[tokio::test]
async fn a_gateway_may_be_a_unix_socket() {
    use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
    let world = World::running("delivery_method = LMTP tls = ifavailable prohibited_hosts = ( ::/0 )", "").await;
    let path = world.folder.path().join("Lmtp");
    let listener = tokio::net::UnixListener::bind(&path).unwrap();
    let envelope = world.envelope("s@x.example", "r@d.example");
    let gateway = path.display().to_string();
    world
        .push_with(Envelope { routing_domain: Some(gateway.as_str().into()), ..envelope }, "A: b\r\n\r\nhello\r\n")
        .await;
    let (stream, _) = listener.accept().await.unwrap();
    let mut stream = BufReader::new(stream);
    stream.write_all(b"220 box\r\n").await.unwrap();
    let mut heard = Vec::new();
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).await.unwrap();
        let reply = match line.split([' ', '\r']).next() {
            Some("LHLO") => "250-box\r\n250 STARTTLS\r\n",
            Some("DATA") => "354 go on\r\n",
            Some("MAIL" | "RCPT") => "250 ok\r\n",
            Some(".") => "250 in the box\r\n",
            _ => "",
        };
        stream.write_all(reply.as_bytes()).await.unwrap();
        heard.push(line);
        if reply == "250 in the box\r\n" {
            break;
        }
    }
    assert!(heard[0].starts_with("LHLO") && heard.contains(&"hello\r\n".to_owned()), "{heard:?}");
    let line = &world.wait_for("D", 1).await[0];
    assert_eq!((&*line[5], &*line[11]), (&*gateway, "127.0.0.1"));

    // One that nobody listens on is a host that cannot be reached, and no other one rests for it.
    let gone = world.folder.path().join("gone").display().to_string();
    let envelope = world.envelope("s@x.example", "r2@d.example");
    world.push_with(Envelope { routing_domain: Some(gone.as_str().into()), ..envelope }, "A: b\r\n\r\n").await;
    assert_eq!(world.wait_for("T", 1).await[0][13], NO_HOSTS);
    let at = ph_queue::QueueRef::new("", "", &gone);
    assert!(world.queue.host_is_up(&at, "127.0.0.1".parse().unwrap()));
}
