//! Reports: who gets one, when, and what is in it.

use super::*;
use ph_message::{DsnRequest, Notify, Protocol};

#[tokio::test]
async fn a_failure_is_reported_to_the_sender_from_nobody() {
    let peer = Peer::start(&[("RCPT", "550 5.1.1 no such user")]).await;
    let world = with_peer(&peer, "").await;
    world.push("s@x.example", "r@d.example").await;
    world.wait_for("P", 1).await;
    let reports = world.injected.taken.lock();
    let (envelope, content) = &reports[0];
    assert_eq!(reports.len(), 1);
    assert!(envelope.sender.is_null());
    assert_eq!((envelope.recipient.to_string().as_str(), envelope.protocol), ("s@x.example", Protocol::Internal));
    assert_eq!(envelope.generation, 1);
    let text = String::from_utf8(content.to_bytes().unwrap().to_vec()).unwrap();
    for part in [
        "Return-Path: <>",
        "From: Mail Delivery System <mailer-daemon@me.example>",
        "To: s@x.example",
        "Subject: Mail Delivery Failure",
        "r@d.example (after RCPT TO): 550 5.1.1 no such user",
        "Action: failed",
        "Status: 5.1.1",
        "Diagnostic-Code: smtp; 550 5.1.1 no such user",
        "Remote-MTA: dns; mx.d.example",
        "text/rfc822-headers",
    ] {
        assert!(text.contains(part), "{part} in {text}");
    }
}

#[tokio::test]
async fn a_failing_report_is_reported_to_nobody_but_the_operator() {
    for (config, wanted) in [("", None), ("mdn_failures_notify = op@x.example", Some("op@x.example"))] {
        let peer = Peer::start(&[("RCPT", "550 no")]).await;
        let world = with_peer(&peer, config).await;
        world.push("", "r@d.example").await;
        world.wait_for("P", 1).await;
        let reports = world.injected.taken.lock();
        let to: Vec<String> = reports.iter().map(|(envelope, _)| envelope.recipient.to_string()).collect();
        assert_eq!(to.first().map(String::as_str), wanted);
        assert!(to.len() <= 1);
    }
}

#[tokio::test]
async fn reports_can_be_switched_off_by_option_and_by_the_sender() {
    let peer = Peer::start(&[("RCPT", "550 no")]).await;
    let world = with_peer(&peer, "generate_bounces = false").await;
    world.push("s@x.example", "r@d.example").await;
    world.wait_for("P", 1).await;
    assert!(world.injected.taken.lock().is_empty());
    let world = with_peer(&peer, "").await;
    let dsn = DsnRequest { notify: Some(Notify { success: true, failure: false, delay: true }), ..Default::default() };
    world.push_with(Envelope { dsn, ..world.envelope("s@x.example", "r@d.example") }, "A: b\r\n\r\n").await;
    world.wait_for("P", 1).await;
    assert!(world.injected.taken.lock().is_empty());
}

#[tokio::test]
async fn success_is_reported_where_the_peer_does_not() {
    for (method, action) in [("ESMTP", "Action: relayed"), ("LMTP", "Action: delivered")] {
        let peer = Peer::start(&[]).await;
        let config = format!("lmtp_port = {} delivery_method = {method}", peer.address.port());
        let world = with_peer(&peer, &config).await;
        let dsn =
            DsnRequest { notify: Some(Notify { success: true, failure: true, delay: false }), ..Default::default() };
        world.push_with(Envelope { dsn, ..world.envelope("s@x.example", "r@d.example") }, "A: b\r\n\r\n").await;
        world.wait_for("D", 1).await;
        let report = until("a report", || world.injected.taken.lock().first().cloned()).await;
        let text = String::from_utf8(report.1.to_bytes().unwrap().to_vec()).unwrap();
        assert!(text.contains(action), "{text}");
    }
}

#[tokio::test]
async fn a_message_is_not_given_up_before_its_report_is_safe() {
    let peer = Peer::start(&[("RCPT", "550 no")]).await;
    let mut world =
        World::new(&format!("remote_smtp_port = {}", peer.address.port()), &zone_of(&peer), Clock::fake(START)).await;
    *world.injected.refuse.lock() = 1;
    world.start();
    let id = world.push("s@x.example", "r@d.example").await;
    until("a delayed message", || (world.queue.overview().delayed == 1).then_some(())).await;
    assert!(world.lines_of("P").is_empty());
    assert!(world.spool.find_id(id).is_some());
    world.clock.advance(Duration::from_secs(61));
    world.wait_for("P", 1).await;
    assert_eq!(world.injected.taken.lock().len(), 1);
    world.drained().await;
    assert!(world.spool.find_id(id).is_none());
}

#[tokio::test]
async fn the_last_reply_is_told_with_the_end_of_the_schedule() {
    let peer = Peer::start(&[("RCPT", "450 4.2.0 greylisted")]).await;
    let world = with_peer(&peer, "never_retry = true").await;
    world.push("s@x.example", "r@d.example").await;
    world.wait_for("P", 1).await;
    let text = world.injected.taken.lock()[0].1.to_bytes().unwrap();
    let text = String::from_utf8_lossy(&text);
    assert!(text.contains("exceeded max retries without delivery") && text.contains("450 4.2.0 greylisted"), "{text}");
}

#[tokio::test]
async fn delays_are_reported_once_at_their_times() {
    let peer = Peer::start(&[("RCPT", "450 4.2.0 not now")]).await;
    let config =
        format!("remote_smtp_port = {} generate_delay_dsn = true message_expiration = 604800", peer.address.port());
    let mut world = World::new(&config, &zone_of(&peer), Clock::fake(START)).await;
    world.start();
    world.push("s@x.example", "r@d.example").await;
    world.push("", "other@d.example").await;
    world.wait_for("T", 2).await;
    until("delayed messages", || (world.queue.overview().delayed == 2).then_some(())).await;
    let mut counts = Vec::new();
    let handle = world.handle.clone().unwrap();
    let mut last = world.clock.now();
    for _ in 0..8 {
        // By rounds of an hour, made by hand: the task's own rounds follow the same clock.
        let now = last.plus_secs(3600);
        crate::delay_dsn::round(handle.shared(), last, now).await;
        counts.push(world.injected.taken.lock().len());
        last = now;
    }
    assert_eq!(counts, [1, 1, 2, 2, 2, 2, 3, 3]);
    let text = world.injected.taken.lock()[0].1.to_bytes().unwrap();
    let text = String::from_utf8_lossy(&text);
    assert!(
        text.contains("Action: delayed") && text.contains("Will-Retry-Until") && text.contains("450 4.2.0 not now"),
        "{text}"
    );
}
