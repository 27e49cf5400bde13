//! Several recipients of one message.

use super::*;

#[tokio::test]
async fn two_hundred_recipients_are_two_transactions_of_a_hundred() {
    let peer = Peer::start(&[]).await;
    let mut world = World::new(
        &format!("remote_smtp_port = {} max_outbound_connections = 1", peer.address.port()),
        &zone_of(&peer),
        Clock::system(),
    )
    .await;
    let envelopes = (0..200).map(|n| world.envelope("s@x.example", &format!("r{n}@d.example"))).collect();
    world.push_all(envelopes, &Content::parse("A: b\r\n\r\nhello\r\n".into())).await;
    world.start();
    world.wait_for("D", 200).await;
    assert_eq!((peer.commands("RCPT").len(), peer.commands("DATA").len()), (200, 2));
    let commands = peer.look(|seen| seen.commands.clone());
    let sizes: Vec<usize> = commands
        .split(|line| line == "DATA")
        .map(|part| part.iter().filter(|l| l.starts_with("RCPT")).count())
        .collect();
    assert_eq!(sizes, [100, 100, 0]);
}

#[tokio::test]
async fn a_recipient_that_fails_does_not_fail_its_siblings() {
    let peer = Peer::start(&[("RCPT TO:<no@", "550 5.1.1 no"), ("RCPT TO:<later@", "450 4.2.1 later")]).await;
    let world = with_peer(&peer, "").await;
    let names = ["yes", "no", "later", "also"];
    let envelopes = names.iter().map(|name| world.envelope("", &format!("{name}@d.example"))).collect();
    let ids = world.push_all(envelopes, &Content::parse("A: b\r\n\r\n".into())).await;
    world.wait_for("D", 2).await;
    let (failed, delayed) = (world.wait_for("P", 1).await, world.wait_for("T", 1).await);
    assert_eq!((&failed[0][1], &*failed[0][9], &*failed[0][13]), (&ids[1].to_string(), "5", "550 5.1.1 no"));
    assert_eq!((&delayed[0][1], &*delayed[0][13]), (&ids[2].to_string(), "450 4.2.1 later"));
    assert_eq!(peer.commands("DATA").len(), 1);
}

#[tokio::test]
async fn an_edited_copy_has_a_transaction_of_its_own() {
    let peer = Peer::start(&[]).await;
    let mut world = World::new(
        &format!("remote_smtp_port = {} max_outbound_connections = 1", peer.address.port()),
        &zone_of(&peer),
        Clock::system(),
    )
    .await;
    let batch = world.envelope("s@x.example", "1@d.example");
    let other = Envelope { batch_id: batch.batch_id, ..world.envelope("s@x.example", "2@d.example") };
    let third = Envelope { batch_id: batch.batch_id, ..world.envelope("s@x.example", "3@d.example") };
    let content = Content::parse("A: b\r\n\r\nsame\r\n".into());
    let edited = Content::parse("A: b\r\n\r\nother\r\n".into());
    let messages: Vec<(Arc<Envelope>, Content)> =
        vec![(Arc::new(batch), content.clone()), (Arc::new(other), edited), (Arc::new(third), content)];
    let summaries: Vec<_> = messages.iter().map(|(envelope, _)| envelope.summary(&Default::default())).collect();
    let keys = world.spool.commit(messages).await.unwrap();
    world.queue.push_all(&keys.into_iter().zip(summaries).collect::<Vec<_>>());
    world.start();
    world.wait_for("D", 3).await;
    let contents = peer.look(|seen| seen.contents.clone());
    assert_eq!(contents.iter().filter(|text| text.ends_with("other\r\n")).count(), 1);
    assert_eq!(peer.commands("RCPT TO:<2@").len(), 1);
}
