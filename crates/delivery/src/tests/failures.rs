//! Replies, broken connections, and what the log says of them.

use super::*;

#[tokio::test]
async fn a_failure_is_logged_with_the_stage_of_its_reply() {
    for (script, kind, stage, text) in [
        (&[("MAIL", "550 no")][..], "P", "3", "550 no"),
        (&[("MAIL", "451 later")], "T", "3", "451 later"),
        (&[("RCPT", "550 5.1.1 no")], "P", "5", "550 5.1.1 no"),
        (&[("RCPT", "450-4.2.0 wait\r\n450 4.2.0 a bit")], "T", "5", "450-4.2.0 wait 450 4.2.0 a bit"),
        (&[("DATA", "452 full")], "T", "7", "452 full"),
        (&[("content", "554 spam")], "P", "9", "554 spam"),
        (&[("content", "close")], "T", "9", "451 4.4.2 [internal] connection closed by remote host"),
        (&[("RCPT", "close")], "T", "5", "451 4.4.2 [internal] connection closed by remote host"),
        (&[("RCPT", "690 what")], "T", "5", "690 what"),
        (&[("banner", "554 go away")], "T", "12", "554 go away"),
        (&[("banner", "close")], "T", "12", "451 4.4.2 [internal] no banner"),
        (&[("EHLO", "421 busy")], "T", "11", "421 busy"),
    ] {
        let peer = Peer::start(script).await;
        let world = with_peer(&peer, "").await;
        world.push("", "r@d.example").await;
        let lines = world.wait_for(kind, 1).await;
        assert_eq!((&*lines[0][9], &*lines[0][13]), (stage, text), "{script:?}");
        assert_eq!((&*lines[0][10], &*lines[0][12]), ("0", "127.0.0.1"), "{script:?}");
        assert_ne!(lines[0][3], "00/00-00000-00000000");
    }
}

#[tokio::test]
async fn a_silent_peer_holds_nobody_else_up() {
    let silent = Peer::start(&[("MAIL", "hang")]).await;
    let friendly = silent.beside("127.0.0.2", &[]).await;
    let zone = "slow.example A 127.0.0.1\nfast.example A 127.0.0.2\n";
    let config = format!("remote_smtp_port = {} domain slow.example {{ mailfrom_timeout = 1 }}", silent.address.port());
    let world = World::running(&config, zone).await;
    for n in 0..5 {
        world.push("s@x.example", &format!("r{n}@slow.example")).await;
        world.push("s@x.example", &format!("r{n}@fast.example")).await;
    }
    world.wait_for("D", 5).await;
    assert!(world.lines_of("T").is_empty());
    let lines = world.wait_for("T", 1).await;
    assert_eq!((&*lines[0][9], &*lines[0][13]), ("3", "451 4.4.2 [internal] no MAIL FROM response"));
    drop(friendly);
}

#[tokio::test]
async fn after_421_the_rest_of_the_mail_stays_active_and_uncounted() {
    let peer = Peer::start(&[("RCPT TO:<2@", "421 enough")]).await;
    let config = format!("remote_smtp_port = {} max_outbound_connections = 1", peer.address.port());
    let mut world = World::new(&config, &zone_of(&peer), Clock::system()).await;
    for n in 1..=4 {
        world.push("", &format!("{n}@d.example")).await;
    }
    world.start();
    world.wait_for("D", 3).await;
    let lines = world.wait_for("T", 1).await;
    assert_eq!((lines.len(), &*lines[0][13]), (1, "421 enough"));
    assert_eq!(peer.connections(), 2);
}

#[tokio::test]
async fn a_peer_that_leaves_between_messages_costs_no_attempt() {
    let peer = Peer::start(&[]).await;
    let world = with_peer(&peer, "").await;
    world.push("", "1@d.example").await;
    world.wait_for("D", 1).await;
    // The kept connection ends at its next command; on a new one the same message gets through.
    peer.now("MAIL", &["close", "250 ok"]);
    world.push("", "2@d.example").await;
    let lines = world.wait_for("D", 2).await;
    assert_eq!((&*lines[1][9], peer.connections()), ("0", 2));
    assert!(world.lines_of("T").is_empty());
}

#[tokio::test]
async fn a_host_that_throws_us_out_at_once_rests() {
    let peer = Peer::start(&[("MAIL", "421 no")]).await;
    let world = with_peer(&peer, "").await;
    for n in 0..3 {
        world.push("", &format!("{n}@d.example")).await;
    }
    world.wait_for("T", 1).await;
    until("a resting host", || {
        let at = ph_queue::QueueRef::new("", "", "d.example");
        (!world.queue.host_is_up(&at, "127.0.0.1".parse().unwrap())).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_body_that_cannot_be_read_is_no_fault_of_the_host() {
    let peer = Peer::start(&[]).await;
    let config = format!("remote_smtp_port = {} max_outbound_connections = 1", peer.address.port());
    let mut world = World::new(&config, &zone_of(&peer), Clock::system()).await;
    let mut writer = world.spool.begin_large().unwrap();
    writer.write(&[b'y'; 300_000]).await.unwrap();
    let content = Content::new("A: b\r\n\r\n".into(), writer.finish().await.unwrap());
    let bad = world.push_all(vec![world.envelope("", "1@d.example")], &content).await[0];
    for file in std::fs::read_dir(world.folder.path().join("spool/large")).unwrap() {
        std::fs::File::options().write(true).open(file.unwrap().path()).unwrap().set_len(1000).unwrap();
    }
    world.push("", "2@d.example").await;
    world.start();
    // A connection that sent a part of a message cannot be used for another one; the next one is made at once.
    assert_eq!(world.wait_for("D", 1).await.len(), 1);
    let line = &world.wait_for("T", 1).await[0];
    assert_eq!((&*line[1], &*line[9]), (&*bad.to_string(), "8"));
    let at = ph_queue::QueueRef::new("", "", "d.example");
    assert!(world.queue.host_is_up(&at, "127.0.0.1".parse().unwrap()));
}

#[tokio::test]
async fn a_task_that_breaks_is_started_again_and_loses_nothing() {
    let peer = Peer::start(&[("RCPT", "550 no")]).await;
    let config = format!("remote_smtp_port = {} blackhole = internal", peer.address.port());
    let mut world = World::new(&config, &zone_of(&peer), Clock::system()).await;
    *world.injected.panic.lock() = 1;
    world.push("s@x.example", "1@d.example").await;
    world.start();
    until("the break", || (*world.injected.panic.lock() == 0).then_some(())).await;
    // The task that fails them is started again, for this one and for the others.
    for n in 2..4 {
        world.push("s@x.example", &format!("{n}@d.example")).await;
    }
    world.wait_for("P", 3).await;
    world.drained().await;
    let paniclog = std::fs::read_to_string(world.folder.path().join("paniclog")).unwrap();
    assert!(paniclog.contains("fails mail unattempted"), "{paniclog}");
}

#[tokio::test]
async fn what_a_hostile_peer_says_is_bounded_and_harmless() {
    let endless = "250-x\r\n".repeat(600);
    let long = format!("250 {}", "x".repeat(70_000));
    for reply in [endless.trim_end(), &long, "250 \u{1b}[2J\0", "garbage"] {
        let peer = Peer::start(&[("MAIL", reply)]).await;
        let world = with_peer(&peer, "mailfrom_timeout = 2").await;
        world.push("", "r@d.example").await;
        until("an outcome", || {
            let count = world.lines_of("T").len() + world.lines_of("D").len();
            (count > 0).then_some(())
        })
        .await;
        assert!(world.lines().iter().all(|line| !line.contains('\u{1b}') && !line.contains('\0')));
    }
}

#[tokio::test]
async fn bodies_in_files_are_streamed() {
    let peer = Peer::start(&[]).await;
    let world = with_peer(&peer, "").await;
    let mut writer = world.spool.begin_large().unwrap();
    let line = format!("{}\r\n", "y".repeat(98));
    for _ in 0..5000 {
        writer.write(line.as_bytes()).await.unwrap();
    }
    writer.write(b".\r\nend\r\n").await.unwrap();
    let content = Content::new("A: b\r\n\r\n".into(), writer.finish().await.unwrap());
    world.push_all(vec![world.envelope("s@x.example", "r@d.example")], &content).await;
    world.wait_for("D", 1).await;
    let wire = peer.look(|seen| seen.contents[0].clone());
    assert_eq!(wire.len() as u64, content.size() + 1);
    assert!(wire.ends_with("\r\n..\r\nend\r\n"));
}
