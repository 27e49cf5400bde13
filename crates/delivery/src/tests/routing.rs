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
