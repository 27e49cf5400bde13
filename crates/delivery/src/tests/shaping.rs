//! Throttles, suspension, shutdown.

use super::*;
use std::time::Instant;

#[tokio::test]
async fn a_message_throttle_paces_delivery_without_counting_anything() {
    let peer = Peer::start(&[]).await;
    let config = format!("remote_smtp_port = {} outbound_throttle_messages = \"10/5\"", peer.address.port());
    let mut world = World::new(&config, &zone_of(&peer), Clock::fake(START)).await;
    for n in 0..30 {
        world.push("s@x.example", &format!("r{n}@d.example")).await;
    }
    world.start();
    world.wait_for("D", 10).await;
    let mut elapsed_ms = 0;
    while world.lines_of("D").len() < 30 {
        assert!(world.lines_of("D").len() as u64 <= 10 + elapsed_ms / 500, "never ahead of the bucket");
        world.clock.advance(Duration::from_millis(100));
        elapsed_ms += 100;
        tokio::time::sleep(Duration::from_millis(2)).await;
        assert!(elapsed_ms < 60_000, "it must not stall");
    }
    assert!(elapsed_ms >= 10_000, "{elapsed_ms}");
    assert!(world.lines_of("T").is_empty());
    assert!(world.lines_of("D").iter().all(|line| line[9] == "0"));
}

#[tokio::test]
async fn suspension_holds_mail_until_it_ends() {
    let peer = Peer::start(&[]).await;
    let base = format!("remote_smtp_port = {}", peer.address.port());
    let world = World::running(&format!("{base} suspend_delivery = true"), &zone_of(&peer)).await;
    for n in 0..5 {
        world.push("s@x.example", &format!("r{n}@d.example")).await;
    }
    assert_eq!(world.queue.overview().active, 5);
    assert_eq!(peer.connections(), 0);
    world.reconfigure(&base);
    world.wait_for("D", 5).await;
    world.drained().await;
}

#[tokio::test]
async fn stopping_waits_for_the_confirmation_and_gives_the_rest_back() {
    let peer = Peer::start(&[]).await;
    let mut world = World::new(
        &format!("remote_smtp_port = {} max_outbound_connections = 1", peer.address.port()),
        &zone_of(&peer),
        Clock::system(),
    )
    .await;
    let handle = world.start().clone();
    for n in 0..20 {
        world.push("s@x.example", &format!("r{n}@d.example")).await;
    }
    world.wait_for("D", 1).await;
    handle.stop(Duration::from_secs(10)).await;
    assert_eq!(handle.connection_count(), 0);
    let delivered = world.lines_of("D").len();
    assert_eq!(peer.look(|seen| seen.contents.len()), delivered, "what the peer took is known as delivered");
    assert_eq!(world.queue.overview().total() as usize, 20 - delivered);
    assert!(world.lines_of("T").is_empty());
}

#[tokio::test]
async fn stopping_does_not_wait_longer_than_its_deadline() {
    let peer = Peer::start(&[("content", "hang")]).await;
    let mut world =
        World::new(&format!("remote_smtp_port = {}", peer.address.port()), &zone_of(&peer), Clock::system()).await;
    let handle = world.start().clone();
    world.push("s@x.example", "r@d.example").await;
    until("the content", || (!peer.commands("DATA").is_empty()).then_some(())).await;
    let begun = Instant::now();
    handle.stop(Duration::from_millis(50)).await;
    assert!(begun.elapsed() < Duration::from_secs(5));
    until("the message back in its queue", || (world.queue.overview().active == 1).then_some(())).await;
    assert!(world.lines_of("T").is_empty());
}

#[tokio::test]
async fn hosts_of_one_preference_share_the_connections_and_the_next_one_gets_what_is_left() {
    // Nobody lets a message end, so connections stay.
    let first = Peer::start(&[("content", "hang")]).await;
    let second = first.beside("127.0.0.2", &[("content", "hang")]).await;
    let last = first.beside("127.0.0.3", &[("content", "hang")]).await;
    let zone = "d.example MX 10 a.example\nd.example MX 10 b.example\nd.example MX 20 c.example\n\
                a.example A 127.0.0.1\nb.example A 127.0.0.2\nc.example A 127.0.0.3\n";
    let config = format!(
        "remote_smtp_port = {} connection_allocation_aggressiveness = high max_outbound_connections = 5 \
         host a.example {{ max_outbound_connections = 2 }} host b.example {{ max_outbound_connections = 2 }}",
        first.address.port()
    );
    let world = World::running(&config, zone).await;
    for n in 0..40 {
        world.push("s@x.example", &format!("r{n}@d.example")).await;
    }
    let open = || [&first, &second, &last].map(|peer| peer.connections());
    until("all connections", || (open() == [2, 2, 1]).then_some(())).await;
    assert!(world.lines_of("T").is_empty());
}

#[tokio::test]
async fn a_saturated_host_is_passed_over_and_none_fails_for_it() {
    let first = Peer::start(&[]).await;
    let second = first.beside("127.0.0.2", &[]).await;
    let zone = "d.example MX 10 a.example\nd.example MX 20 b.example\na.example A 127.0.0.1\nb.example A 127.0.0.2\n";
    let config = format!(
        "remote_smtp_port = {} max_outbound_connections = 1 max_deliveries_per_connection = 1 \
         host a.example {{ outbound_throttle_connections = \"2/3600\" }} \
         host b.example {{ outbound_throttle_connections = \"3/3600\" }}",
        first.address.port()
    );
    let mut world = World::new(&config, zone, Clock::fake(START)).await;
    for n in 0..6 {
        world.push("s@x.example", &format!("r{n}@d.example")).await;
    }
    world.start();
    world.wait_for("D", 5).await;
    assert_eq!((first.connections(), second.connections()), (2, 3));
    // Both are used up: the last one waits for the first token that comes, which is that of the second host.
    world.clock.advance(Duration::from_secs(1201));
    world.wait_for("D", 6).await;
    assert_eq!((first.connections(), second.connections()), (2, 4));
    let lines = world.lines();
    assert!(!lines.iter().any(|line| line.contains("@T@")), "{lines:?}");
    assert!(world.lines_of("D").iter().all(|line| line[9] == "0"));
}
