//! What a session looks like to the peer: pipelining, reuse, extensions, protocols, TLS policy.

use super::*;
use ph_message::{DsnRequest, Notify, Ret};

#[tokio::test]
async fn mail_of_one_domain_shares_a_connection_and_is_pipelined() {
    let peer = Peer::start(&[]).await;
    let mut world = World::new(
        &format!("remote_smtp_port = {} max_outbound_connections = 1", peer.address.port()),
        &zone_of(&peer),
        Clock::system(),
    )
    .await;
    for n in 0..10 {
        world.push("s@x.example", &format!("r{n}@d.example")).await;
    }
    world.start();
    let lines = world.wait_for("D", 10).await;
    assert_eq!(peer.connections(), 1);
    let first = &lines[0];
    assert!(lines.iter().all(|line| line[3] == first[3]), "one connection id");
    assert_eq!(first[6], "21");
    assert_eq!(peer.look(|seen| seen.contents.len()), 10);
    // Each message's commands after the first came behind the content of the one before.
    assert!(peer.look(|seen| seen.pipelined) >= 9 * 3);
    assert!(peer.commands("RSET").is_empty());
    world.drained().await;
}

#[tokio::test]
async fn an_idle_connection_is_kept_for_a_while_and_then_says_quit() {
    let peer = Peer::start(&[]).await;
    let clock = Clock::fake(START);
    let config = format!("remote_smtp_port = {}", peer.address.port());
    let mut world = World::new(&config, &zone_of(&peer), clock).await;
    world.start();
    world.push("s@x.example", "1@d.example").await;
    world.wait_for("D", 1).await;
    world.clock.advance(Duration::from_secs(4));
    world.push("s@x.example", "2@d.example").await;
    world.wait_for("D", 2).await;
    assert_eq!(peer.connections(), 1);
    until("the idle state", || {
        let list = world.handle.as_ref().unwrap().connections();
        (list.len() == 1 && list[0].stage == ph_eventlog::Stage::Idle).then_some(())
    })
    .await;
    world.clock.advance(Duration::from_secs(6));
    until("QUIT", || (!peer.commands("QUIT").is_empty()).then_some(())).await;
    until("no connection", || (world.handle.as_ref().unwrap().connection_count() == 0).then_some(())).await;
}

#[tokio::test]
async fn max_deliveries_per_connection_and_one_connection_at_a_time() {
    let peer = Peer::start(&[]).await;
    let config = "max_outbound_connections = 1 max_deliveries_per_connection = 10";
    let world = with_peer(&peer, config).await;
    for n in 0..50 {
        world.push("s@x.example", &format!("r{n}@d.example")).await;
    }
    world.wait_for("D", 50).await;
    assert_eq!(peer.connections(), 5);
    assert_eq!(peer.look(|seen| seen.open_max), 1);
}

#[tokio::test]
async fn a_connection_never_delivers_more_than_it_may_though_two_are_under_way() {
    for max in [1, 2, 3] {
        let peer = Peer::start(&[]).await;
        let config = format!(
            "remote_smtp_port = {} max_outbound_connections = 1 max_deliveries_per_connection = {max}",
            peer.address.port()
        );
        let mut world = World::new(&config, &zone_of(&peer), Clock::system()).await;
        for n in 0..6 {
            world.push("s@x.example", &format!("r{n}@d.example")).await;
        }
        world.start();
        let lines = world.wait_for("D", 6).await;
        let mut per_connection = std::collections::HashMap::new();
        lines.iter().for_each(|line| *per_connection.entry(&*line[3]).or_insert(0) += 1);
        assert!(per_connection.values().all(|count| *count <= max), "{max}: {per_connection:?}");
        assert_eq!(peer.connections(), 6 / max, "{max}");
    }
}

#[tokio::test]
async fn only_successes_count_against_max_deliveries() {
    let peer = Peer::start(&[("RCPT TO:<bad", "550 no")]).await;
    let config = "max_outbound_connections = 1 max_deliveries_per_connection = 3";
    let mut world =
        World::new(&format!("remote_smtp_port = {} {config}", peer.address.port()), &zone_of(&peer), Clock::system())
            .await;
    for name in ["bad1", "ok1", "bad2", "ok2", "bad3", "ok3"] {
        world.push("", &format!("{name}@d.example")).await;
    }
    world.start();
    world.wait_for("D", 3).await;
    world.wait_for("P", 3).await;
    assert_eq!(peer.connections(), 1);
}

#[tokio::test]
async fn dsn_wishes_are_passed_on_to_a_peer_that_knows_them() {
    let peer = Peer::start(&[("EHLO", "250-p\r\n250 DSN")]).await;
    let world = with_peer(&peer, "").await;
    let dsn = DsnRequest {
        notify: Some(Notify { success: true, failure: false, delay: false }),
        orcpt: Some("rfc822;r+x@d.example".into()),
        ret: Some(Ret::Headers),
        envid: Some("a b".into()),
    };
    let envelope = world.envelope("s@x.example", "r@d.example");
    world.push_with(Envelope { dsn, ..envelope }, "A: b\r\n\r\n").await;
    world.wait_for("D", 1).await;
    assert_eq!(peer.commands("MAIL"), ["MAIL FROM:<s@x.example> RET=HDRS ENVID=a+20b"]);
    assert_eq!(peer.commands("RCPT"), ["RCPT TO:<r@d.example> NOTIFY=SUCCESS ORCPT=rfc822;r+2Bx@d.example"]);
    world.drained().await;
    assert!(world.injected.taken.lock().is_empty(), "the peer reports");
}

#[tokio::test]
async fn eight_bit_mail_is_re_encoded_for_a_peer_without_8bitmime() {
    let content = "Subject: x\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\ncaf\u{e9}\r\n";
    for (config, ehlo, check) in [
        ("", "250 p", &(|wire: &str| wire.contains("caf=C3=A9") && wire.is_ascii()) as &dyn Fn(&str) -> bool),
        ("", "250-p\r\n250 8BITMIME", &|wire: &str| wire.contains("caf\u{e9}")),
        ("transform_8bitmime_content = no", "250 p", &|wire: &str| wire.contains("caf\u{e9}")),
        ("transform_8bitmime_content = strip", "250 p", &|wire: &str| wire.contains("cafC)")),
    ] {
        let peer = Peer::start(&[("EHLO", ehlo)]).await;
        let world = with_peer(&peer, config).await;
        let envelope = Envelope { eight_bit: true, ..world.envelope("s@x.example", "r@d.example") };
        world.push_with(envelope, content).await;
        world.wait_for("D", 1).await;
        let wire = peer.look(|seen| seen.contents[0].clone());
        assert!(check(&wire), "{config} {ehlo}: {wire}");
    }
    // Declared, where that is asked for.
    let peer = Peer::start(&[]).await;
    let world = with_peer(&peer, "send_8bitmime = ifavailable").await;
    world.push_with(Envelope { eight_bit: true, ..world.envelope("s@x.example", "r@d.example") }, content).await;
    world.wait_for("D", 1).await;
    assert!(peer.commands("MAIL")[0].ends_with(" BODY=8BITMIME"));
}

#[tokio::test]
async fn what_a_peer_cannot_take_fails_with_our_text() {
    let peer = Peer::start(&[("EHLO", "250-p\r\n250-PIPELINING\r\n250 SIZE 30")]).await;
    let world = with_peer(&peer, "").await;
    world.push_with(world.envelope("", "big@d.example"), &format!("A: b\r\n\r\n{}\r\n", "x".repeat(40))).await;
    world.push_with(world.envelope("", "j\u{f6}@d.example"), "A: b\r\n\r\n").await;
    world.push_with(world.envelope("", "a>\r\nDATA@d.example"), "A: b\r\n\r\n").await;
    world.push_with(world.envelope("", "ok@d.example"), "A: b\r\n\r\n").await;
    world.wait_for("D", 1).await;
    let lines = world.wait_for("P", 3).await;
    let mut texts: Vec<&str> = lines.iter().map(|line| &*line[13]).collect();
    texts.sort_unstable();
    assert_eq!(
        texts,
        [
            "552 5.3.4 [internal] message size exceeds remote limit",
            "553 5.1.3 [internal] invalid address",
            "553 5.6.7 [internal] SMTPUTF8 required",
        ]
    );
    assert_eq!(peer.commands("RCPT"), ["RCPT TO:<ok@d.example>"]);
}

#[tokio::test]
async fn lmtp_and_helo_are_spoken_where_the_scope_says_so() {
    let peer = Peer::start(&[("content", "250 one"), ("content", "450 full")]).await;
    let config = format!("domain d.example {{ delivery_method = LMTP lmtp_port = {} }}", peer.address.port());
    let world = World::running(&config, &zone_of(&peer)).await;
    let envelopes = vec![world.envelope("s@x.example", "1@d.example"), world.envelope("s@x.example", "2@d.example")];
    world.push_all(envelopes, &Content::parse("A: b\r\n\r\n".into())).await;
    world.wait_for("D", 1).await;
    assert_eq!(world.wait_for("T", 1).await[0][13], "450 full");
    assert_eq!((peer.commands("LHLO").len(), peer.commands("DATA").len()), (1, 1));

    let peer = Peer::start(&[]).await;
    let world = with_peer(&peer, "delivery_method = SMTP ehlo_hostname = __message__").await;
    world.push("s@x.example", "r@d.example").await;
    world.wait_for("D", 1).await;
    assert_eq!((peer.commands("HELO"), peer.commands("EHLO").len()), (vec!["HELO x.example".to_owned()], 0));
}

#[tokio::test]
async fn tls_is_required_or_done_without() {
    let peer = Peer::start(&[]).await;
    let world = with_peer(&peer, "tls = required").await;
    world.push("s@x.example", "r@d.example").await;
    let lines = world.wait_for("T", 1).await;
    assert_eq!(lines[0][13], "451 4.7.6 [internal] STARTTLS required but not advertised");
    assert_eq!((&*lines[0][9], &*lines[0][12]), ("11", "127.0.0.1"));
    // A handshake that breaks is followed by a connection in clear, at once and without a trace in the log.
    let starttls = [("EHLO", "250-p\r\n250 STARTTLS"), ("STARTTLS", "220 go"), ("\u{16}", "close")];
    let peer = Peer::start(&starttls).await;
    let world = with_peer(&peer, "tls = ifavailable").await;
    world.push("s@x.example", "r@d.example").await;
    world.wait_for("D", 1).await;
    assert_eq!(peer.connections(), 2);
    assert!(world.lines_of("T").is_empty());
    // Unless the scope would rather wait.
    let peer = Peer::start(&starttls).await;
    let world = with_peer(&peer, "tls = ifavailable tls_ifavailable_fallback = false").await;
    world.push("s@x.example", "r@d.example").await;
    let lines = world.wait_for("T", 1).await;
    assert_eq!((&*lines[0][9], &*lines[0][13]), ("17", "451 4.7.5 [internal] TLS negotiation failed"));
    assert_eq!(peer.connections(), 1);
}

#[tokio::test]
async fn xclient_and_auth_tell_who_we_are_and_for_whom() {
    let peer = Peer::start(&[
        ("EHLO", "250-p\r\n250-XCLIENT ADDR HELO\r\n250 AUTH PLAIN"),
        ("AUTH", "235 ok"),
        ("XCLIENT", "220 again"),
    ])
    .await;
    let config =
        "xclient = ifavailable outbound_smtp_auth_type = PLAIN outbound_smtp_auth_user = u outbound_smtp_auth_pass = p";
    let world = with_peer(&peer, config).await;
    let mut context = ph_message::Context::new();
    context.set("ehlo_domain", "client.example");
    let envelope = Envelope {
        peer: Some("192.0.2.7:1234".parse().unwrap()),
        conn_context: Arc::new(context),
        ..world.envelope("s@x.example", "r@d.example")
    };
    world.push_with(envelope, "A: b\r\n\r\n").await;
    world.wait_for("D", 1).await;
    assert_eq!(peer.commands("AUTH"), ["AUTH PLAIN AHUAcA=="]);
    assert_eq!(peer.commands("XCLIENT"), ["XCLIENT ADDR=192.0.2.7 HELO=client.example"]);
    assert_eq!(peer.commands("EHLO").len(), 2);
    // A message of another identity gets a connection of its own.
    let mut context = ph_message::Context::new();
    context.set("outbound_smtp_auth_user", "v");
    let envelope = Envelope { mess_context: Arc::new(context), ..world.envelope("s@x.example", "r@d.example") };
    world.push_with(envelope, "A: b\r\n\r\n").await;
    world.wait_for("D", 2).await;
    assert_eq!(peer.commands("AUTH")[1], "AUTH PLAIN AHYAcA==");
    assert_eq!(peer.connections(), 2);
}

#[tokio::test]
async fn an_idle_connection_moves_to_a_domain_behind_the_same_host() {
    for (option, connections) in [("true", 1), ("false", 2)] {
        let peer = Peer::start(&[]).await;
        let zone = "a.example MX 10 mx.example\nb.example MX 10 mx.example\nmx.example A 127.0.0.1\n";
        // Only one connection at a time for the whole server, so that the other domain has to wait for it.
        let config = format!(
            "remote_smtp_port = {} server_max_outbound_connections = 1 server_reserve_outbound_connections = 0 \
             migrate_connections_between_sibling_domains = {option}",
            peer.address.port()
        );
        let mut world = World::new(&config, zone, Clock::system()).await;
        let handle = world.start().clone();
        handle.resolve("a.example").await;
        handle.resolve("b.example").await;
        assert_eq!(handle.also_used_by("127.0.0.1".parse().unwrap(), "a.example"), ["b.example".into()]);
        world.push("s@x.example", "r@a.example").await;
        world.push("s@x.example", "r@b.example").await;
        world.wait_for("D", 2).await;
        assert_eq!(peer.connections(), connections, "migration {option}");
    }
}

#[tokio::test]
async fn a_reload_that_changes_how_a_session_is_made_ends_the_present_one() {
    let peer = Peer::start(&[]).await;
    let base = format!("remote_smtp_port = {} idle_timeout = 60", peer.address.port());
    let world = World::running(&base, &zone_of(&peer)).await;
    world.push("s@x.example", "1@d.example").await;
    world.wait_for("D", 1).await;
    // Something that the session does not depend on: it goes on.
    world.reconfigure(&format!("{base} max_recipients_per_batch = 5"));
    world.push("s@x.example", "2@d.example").await;
    world.wait_for("D", 2).await;
    assert_eq!(peer.connections(), 1);
    world.reconfigure(&format!("{base} ehlo_hostname = other.example"));
    world.push("s@x.example", "3@d.example").await;
    world.wait_for("D", 3).await;
    assert_eq!(peer.commands("EHLO"), ["EHLO me.example", "EHLO other.example"]);
}

#[tokio::test]
async fn a_conversation_can_be_traced() {
    let peer = Peer::start(&[]).await;
    let mut world =
        World::new(&format!("remote_smtp_port = {}", peer.address.port()), &zone_of(&peer), Clock::system()).await;
    let path = world.folder.path().join("trace");
    let handle = world.start().clone();
    assert_eq!(handle.tracers().add_tracer("*", "d.example", &path, 0o640).unwrap(), 1);
    world.push("s@x.example", "r@d.example").await;
    world.wait_for("D", 1).await;
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(text.contains("> MAIL FROM:<s@x.example>") && text.contains("< 220 peer.example"), "{text}");
    assert!(handle.tracers().remove_tracer(1));
    assert!(!handle.tracers().remove_tracer(99));
}

#[tokio::test]
async fn a_connection_says_so_many_rcpt_and_no_more() {
    let peer = Peer::start(&[("RCPT TO:<bad", "550 no")]).await;
    let config = format!(
        "remote_smtp_port = {} max_outbound_connections = 1 max_recipients_per_connection = 4",
        peer.address.port()
    );
    let mut world = World::new(&config, &zone_of(&peer), Clock::system()).await;
    // Three messages of three recipients; refused ones count as well.
    for n in 0..3 {
        let recipients = ["bad", "x", "y"].map(|name| world.envelope("", &format!("{name}{n}@d.example")));
        world.push_all(recipients.to_vec(), &Content::parse(format!("A: {n}\r\n\r\n").into())).await;
    }
    world.start();
    world.wait_for("D", 6).await;
    world.wait_for("P", 3).await;
    world.drained().await;
    assert_eq!((peer.commands("RCPT").len(), peer.connections()), (9, 3));
}

#[tokio::test]
async fn rset_is_said_only_after_a_transaction_that_was_left_open() {
    // Where RCPT was refused, MAIL still stands, and whoever comes next begins with RSET.
    for (script, rsets) in [(&[("RCPT TO:<bad", "550 no")], 1), (&[("MAIL FROM:<bad", "550 no")], 0)] {
        let peer = Peer::start(script).await;
        peer.now("EHLO", &["250 peer.example"]);
        let config = format!("remote_smtp_port = {} max_outbound_connections = 1", peer.address.port());
        let mut world = World::new(&config, &zone_of(&peer), Clock::system()).await;
        world.push("bad@x.example", "bad@d.example").await;
        world.push("s@x.example", "good@d.example").await;
        world.start();
        world.wait_for("D", 1).await;
        world.wait_for("P", 1).await;
        assert_eq!((peer.commands("RSET").len(), peer.connections()), (rsets, 1), "{script:?}");
    }
}
