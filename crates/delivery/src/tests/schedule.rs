//! The retry schedule from attempt to attempt, with a clock that is moved by hand.

use super::*;

const MAX_TIME: &str = "554 5.4.7 [internal] exceeded max time without delivery";

/// Ages of the attempts until the message is gone.
async fn attempts(config: &str) -> (Vec<u64>, Vec<String>, Vec<Vec<String>>) {
    let peer = Peer::start(&[("RCPT", "450 not now")]).await;
    let config = format!("remote_smtp_port = {} {config}", peer.address.port());
    let mut world = World::new(&config, &zone_of(&peer), Clock::fake(START)).await;
    world.start();
    world.push("", "r@d.example").await;
    let mut ages = Vec::new();
    let mut heard = 0;
    loop {
        let event = until("an attempt or an end", || {
            let logged = world.lines_of("T").len() + world.lines_of("P").len();
            (logged > heard || world.queue.overview().total() == 0).then_some(logged)
        })
        .await;
        if peer.commands("RCPT").len() > ages.len() {
            ages.push(world.clock.now().since(START).as_secs());
        }
        heard = event;
        if world.queue.overview().total() == 0 {
            break;
        }
        until("a delayed message", || (world.queue.overview().delayed == 1).then_some(())).await;
        let at = ph_queue::QueueRef::new("", "", "d.example");
        let next = world.queue.queues(&ph_queue::Scope::of(&at))[0].next_due.unwrap();
        // The idle connection ends on the way, so that each attempt has one of its own.
        world.clock.advance(next.since(world.clock.now()));
    }
    let fails = world.lines_of("P");
    let retries = world.lines_of("T").iter().map(|line| line[10].clone()).collect();
    (ages, retries, fails)
}

#[tokio::test]
async fn with_the_defaults_a_message_is_tried_seven_times_in_a_day() {
    let (ages, retries, fails) = attempts("").await;
    assert_eq!(ages, [0, 1200, 3600, 8400, 18000, 37200, 75600]);
    assert_eq!(retries, ["0", "1", "2", "3", "4", "5"]);
    assert_eq!((fails.len(), &*fails[0][13], &*fails[0][10]), (1, MAX_TIME, "6"));
    assert_eq!(fails[0][9], "5", "where the last attempt stood");
}

#[tokio::test]
async fn without_a_count_only_age_ends_a_message() {
    let (ages, _, fails) = attempts("max_retries = none message_expiration = 4000").await;
    assert_eq!(ages, [0, 1200, 3600, 8400]);
    assert_eq!(fails[0][13], MAX_TIME);
    let (ages, _, fails) =
        attempts("max_retries = none message_expiration = 4000 never_attempt_expired_messages = true").await;
    assert_eq!(ages, [0, 1200, 3600]);
    assert_eq!(fails[0][13], "554 5.4.5 [internal] Delivery not attempted (message expired)");
}

#[tokio::test]
async fn never_retry_and_counts_are_final_at_once() {
    let text = "554 5.4.7 [internal] exceeded max retries without delivery";
    let (ages, _, fails) = attempts("never_retry = true").await;
    assert_eq!((ages, &*fails[0][13]), (vec![0], text));
    let (ages, _, fails) = attempts("max_retry_interval = 1200 max_retries = 5").await;
    assert_eq!((ages, &*fails[0][13]), (vec![0, 1200, 2400, 3600, 4800, 6000], text));
}

#[tokio::test]
async fn a_lowered_expiration_holds_for_mail_that_waits() {
    let peer = Peer::start(&[("RCPT", "450 not now")]).await;
    let base = format!("remote_smtp_port = {}", peer.address.port());
    let mut world = World::new(&base, &zone_of(&peer), Clock::fake(START)).await;
    world.start();
    world.push("", "r@d.example").await;
    world.wait_for("T", 1).await;
    until("a delayed message", || (world.queue.overview().delayed == 1).then_some(())).await;
    world.reconfigure(&format!("{base} message_expiration = 600"));
    world.clock.advance(Duration::from_secs(1200));
    assert_eq!(world.wait_for("P", 1).await[0][13], MAX_TIME);
}

#[tokio::test]
async fn the_state_of_a_delayed_message_is_in_the_spool() {
    let peer = Peer::start(&[("RCPT", "450 4.2.0 not now")]).await;
    let world = with_peer(&peer, "").await;
    let id = world.push("", "r@d.example").await;
    world.wait_for("T", 1).await;
    until("a delayed message", || (world.queue.overview().delayed == 1).then_some(())).await;
    let stored = world.spool.read(world.spool.find_id(id).unwrap()).await.unwrap();
    assert_eq!((stored.state.retries, stored.state.attempts, &*stored.state.last_reply), (0, 1, "450 4.2.0 not now"));
    assert_eq!(stored.state.next_attempt.since(stored.envelope.created).as_secs() / 10, 120);
}

#[tokio::test]
async fn a_flush_tries_each_message_once_more() {
    let peer = Peer::start(&[("RCPT", "450 not now")]).await;
    let world = with_peer(&peer, "").await;
    for n in 0..3 {
        world.push("", &format!("r{n}@d.example")).await;
    }
    world.wait_for("T", 3).await;
    until("delayed messages", || (world.queue.overview().delayed == 3).then_some(())).await;
    assert_eq!(world.queue.flush(&ph_queue::Scope::domain("d.example")).finish(), 3);
    let lines = world.wait_for("T", 6).await;
    assert!(lines[3..].iter().all(|line| line[10] == "1"));
}

#[tokio::test]
async fn a_purge_fails_everything_quietly_or_not() {
    let world = World::running("suspend_delivery = true", "").await;
    for n in 0..3 {
        world.push("s@x.example", &format!("r{n}@d.example")).await;
    }
    let handle = world.handle.as_ref().unwrap();
    let scope = ph_queue::Scope::domain("d.example");
    let text = "554 5.7.0 [internal] Message manually purged";
    assert_eq!(handle.fail_all(world.queue.purge(&scope), text, true).await, 3);
    let lines = world.wait_for("P", 3).await;
    assert!(lines.iter().all(|line| line[13] == text && line[3] == "00/00-00000-00000000"));
    assert!(world.injected.taken.lock().is_empty());
    world.push("s@x.example", "loud@d.example").await;
    assert_eq!(handle.fail_all(world.queue.purge(&scope), text, false).await, 1);
    assert_eq!(world.injected.taken.lock().len(), 1);
    world.drained().await;
}
