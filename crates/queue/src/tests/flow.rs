//! Push, take, and the outcomes.

use super::*;
use crate::Reason;
use crate::inspect::MessageState;
use crate::retry::{EXCEEDED_TIME, Verdict};

#[test]
fn mail_for_an_idle_queue_gets_a_connection_at_once_and_is_gone_when_delivered() {
    let world = World::plain();
    assert!(world.connection().is_none());
    let id = world.push("", "D.Example");
    let permit = world.connection().expect("due mail");
    assert_eq!(*permit.queue(), at("default", "d.example"));
    assert!(world.connection().is_none(), "one message needs one connection");
    let (ids, mut taken) = world.take_ids(&permit, 10);
    assert_eq!(ids, [id]);
    assert_eq!(world.sums(), (0, 0, 1));
    assert_eq!(world.queue.entry(id).map(|entry| entry.state), Some(MessageState::InFlight));
    world.queue.delivered(taken.remove(0));
    assert_eq!(world.sums(), (0, 0, 0));
    assert_eq!(world.queue.entry(id), None);
    let counters = world.queue.overview().counters;
    assert_eq!((counters.receptions, counters.deliveries), (1, 1));
}

#[tokio::test]
async fn a_push_wakes_whoever_waits_for_a_connection() {
    let world = World::plain();
    let waiter = tokio::spawn({
        let queue = world.queue.clone();
        async move { queue.next_connection().await.queue().clone() }
    });
    tokio::task::yield_now().await;
    assert!(!waiter.is_finished());
    world.push("b", "d.example");
    assert_eq!(waiter.await.unwrap(), at("b", "d.example"));
}

#[tokio::test]
async fn a_push_wakes_an_idle_connection_instead_of_opening_another() {
    let world = World::plain();
    world.push("b", "d.example");
    let permit = world.connection().unwrap();
    assert_eq!(world.deliver(&permit), 1);
    {
        let mut wait = pin!(world.queue.wait_for_work(&permit, Duration::from_secs(5)));
        assert!(now_or_never(wait.as_mut()).is_none());
        world.push("b", "d.example");
        assert!(world.connection().is_none(), "the idle connection takes it");
        assert_eq!(now_or_never(wait), Some(true));
    }
    assert_eq!(world.deliver(&permit), 1);
    let mut wait = pin!(world.queue.wait_for_work(&permit, Duration::from_secs(5)));
    assert!(now_or_never(wait.as_mut()).is_none());
    world.advance_s(5);
    assert_eq!(now_or_never(wait), Some(false));
}

#[tokio::test]
async fn mail_that_falls_due_wakes_an_idle_connection_of_a_queue_at_its_cap() {
    let world = World::with(Limits { connections_max: 2, eager: true, ..Limits::default() });
    world.push_many("b", "d.example", 4);
    let permits = world.connections();
    assert_eq!(permits.len(), 2);
    // The cap holds while mail waits; then all of it is gone but for what was put off.
    let mut taken = world.queue.take(&permits[0], 4);
    let next = world.clock.now().plus_secs(10);
    world.queue.retry(taken.pop().unwrap(), next);
    taken.into_iter().for_each(|taken| world.queue.delivered(taken));
    assert!(world.queue.take(&permits[1], 4).is_empty());
    let mut idle = permits.iter().map(|permit| Box::pin(world.queue.wait_for_work(permit, Duration::from_secs(3600))));
    let (mut first, mut second) = (idle.next().unwrap(), idle.next().unwrap());
    assert!(now_or_never(first.as_mut()).is_none() && now_or_never(second.as_mut()).is_none());
    world.advance_s(10);
    assert!(world.connection().is_none(), "an idle one takes it");
    let woken = [now_or_never(first), now_or_never(second)];
    assert_eq!(woken.iter().filter(|woken| **woken == Some(true)).count(), 1, "{woken:?}");
}

#[test]
fn urgent_mail_is_first_out_of_its_queue_and_keeps_its_order() {
    let world = World::plain();
    let push = |urgent| {
        let summary = Summary { urgent, ..world.summary("b", "d.example") };
        let id = summary.id;
        assert!(world.queue.push(SpoolKey(0), summary));
        id
    };
    let ids: Vec<Id> = [false, true, false, true].map(push).to_vec();
    let permit = world.connection().unwrap();
    let (got, taken) = world.take_ids(&permit, 10);
    assert_eq!(got, [ids[1], ids[3], ids[0], ids[2]]);
    assert!(taken[0].summary.urgent && !taken[2].summary.urgent);
    // What comes back is first again, but not before what is more urgent.
    world.queue.give_back_all(taken);
    let late = push(true);
    let (got, mut taken) = world.take_ids(&permit, 4);
    assert_eq!(got, [ids[1], ids[3], late, ids[0]]);
    // Being put off does not change that.
    let next = world.clock.now().plus_secs(1);
    taken.drain(..).for_each(|taken| world.queue.retry(taken, next));
    drop(permit);
    world.advance_s(1);
    let permit = world.connection().unwrap();
    let (got, _taken) = world.take_ids(&permit, 10);
    assert_eq!(got[..3].iter().filter(|id| [ids[1], ids[3], late].contains(id)).count(), 3, "{got:?}");
    assert_eq!(got.len(), 5);
}

#[test]
fn what_is_postponed_counts_no_attempt() {
    let world = World::plain();
    let id = world.push("b", "d.example");
    let permit = world.connection().unwrap();
    let taken = world.queue.take(&permit, 1).remove(0);
    world.queue.postpone(taken, world.clock.now().plus_secs(60));
    drop(permit);
    assert!(world.connection().is_none());
    world.advance_s(60);
    let permit = world.connection().unwrap();
    let taken = world.queue.take(&permit, 1).remove(0);
    assert_eq!((taken.summary.id, taken.summary.retries, taken.summary.attempts), (id, 0, 0));
    assert_eq!(world.queue.overview().counters.transients, 0);
}

#[test]
fn a_message_whose_task_breaks_lets_the_others_go_first() {
    let world = World::with(Limits { connections_max: 1, ..Limits::default() });
    let ids = world.push_many("b", "d.example", 3);
    let broken = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let permit = world.connection().unwrap();
        let taken = world.queue.take(&permit, 1);
        assert_eq!(taken[0].summary.id, ids[0]);
        std::panic::resume_unwind(Box::new("something in it"));
    }));
    assert!(broken.is_err());
    assert_eq!((world.run(), world.sums()), (2, (0, 1, 0)));
    world.advance_s(60);
    let permit = world.connection().unwrap();
    let taken = world.queue.take(&permit, 1).remove(0);
    assert_eq!((taken.summary.id, taken.summary.attempts), (ids[0], 0));
}

#[test]
fn a_woken_connection_that_ends_leaves_the_mail_to_a_new_one() {
    let world = World::plain();
    world.push("b", "d.example");
    let permit = world.connection().unwrap();
    world.deliver(&permit);
    {
        let mut wait = pin!(world.queue.wait_for_work(&permit, Duration::from_secs(5)));
        assert!(now_or_never(wait.as_mut()).is_none());
        world.push("b", "d.example");
    }
    assert!(world.connection().is_none());
    drop(permit);
    assert_eq!(world.run(), 1);
}

#[test]
fn a_deferred_message_is_tried_again_at_its_time_with_the_next_number() {
    let world = World::plain();
    let id = world.push("b", "d.example");
    let mut ages = Vec::new();
    let last = loop {
        let permit = world.connection().expect("due");
        let taken = world.queue.take(&permit, 1).remove(0);
        ages.push(world.clock.now().since(START).as_secs());
        assert_eq!(taken.summary.retries as usize, ages.len() - 1);
        match world.queue.decide(&taken) {
            Verdict::RetryAt(next) => {
                world.queue.retry(taken, next);
                drop(permit);
                assert!(world.connection().is_none());
                assert_eq!(world.queue.explain(id).unwrap().reason, Reason::RetryAt(next));
                world.clock.advance(next.since(world.clock.now()) - Duration::from_micros(1));
                assert!(world.connection().is_none(), "not before its time");
                world.clock.advance(Duration::from_micros(1));
            }
            Verdict::Final(text) => {
                let retries = taken.summary.retries;
                world.queue.failed(taken);
                break (text, retries);
            }
        }
    };
    assert_eq!(ages, [0, 1200, 3600, 8400, 18000, 37200, 75600]);
    assert_eq!(last, (EXCEEDED_TIME, 6));
    let counters = world.queue.overview().counters;
    assert_eq!((counters.transients, counters.failures, world.sums()), (6, 1, (0, 0, 0)));
}

#[tokio::test]
async fn a_sleeping_dispatcher_wakes_when_the_first_message_is_due() {
    let world = World::plain();
    let mut summary = world.summary("b", "d.example");
    summary.next_attempt = START.plus_secs(100);
    world.queue.push(SpoolKey(1), summary);
    let waiter = tokio::spawn({
        let queue = world.queue.clone();
        async move { queue.next_connection().await.queue().clone() }
    });
    for _ in 0..99 {
        world.advance_s(1);
        tokio::task::yield_now().await;
        tokio::task::yield_now().await;
    }
    assert!(!waiter.is_finished());
    world.advance_s(1);
    assert_eq!(waiter.await.unwrap(), at("b", "d.example"));
}

#[test]
fn what_is_given_back_or_dropped_is_first_again_and_no_attempt_is_counted() {
    let world = World::plain();
    let ids = world.push_many("b", "d.example", 5);
    let permit = world.connection().unwrap();
    let (taken_ids, taken) = world.take_ids(&permit, 3);
    assert_eq!(taken_ids, ids[..3]);
    world.queue.give_back_all(taken);
    let (again, mut taken) = world.take_ids(&permit, 5);
    assert_eq!(again, ids);
    assert!(taken.iter().all(|taken| taken.summary.attempts == 0 && taken.summary.retries == 0));
    drop(taken.remove(4));
    assert_eq!(world.sums(), (1, 0, 4));
}

#[test]
fn a_batch_is_taken_together_first() {
    let world = World::plain();
    let batch = |batch: u64, count: usize| -> Vec<(SpoolKey, Summary)> {
        let member = |_| Summary { batch_id: Id(batch), ..world.summary("b", "d.example") };
        (0..count).map(member).map(|summary| (SpoolKey(summary.id.0 as u32), summary)).collect()
    };
    assert_eq!(world.queue.push_all(&batch(1, 3)), 3);
    // Two sessions whose pushes met.
    let mut first = batch(2, 2);
    let mut second = batch(3, 2);
    let late = first.remove(1);
    world.queue.push_all(&first);
    world.queue.push_all(&[second.remove(0)]);
    world.queue.push_all(&[late]);
    let permit = world.connection().unwrap();
    let taken = world.queue.take(&permit, 2);
    assert!(taken.iter().all(|taken| taken.summary.batch_id == Id(1)));
    let rest = world.queue.take(&permit, 100);
    let batches: Vec<u64> = rest.iter().map(|taken| taken.summary.batch_id.0).collect();
    assert_eq!(batches, [1, 2, 3, 2]);
}

#[test]
fn take_batch_takes_siblings_and_nothing_else() {
    let world = World::plain();
    let batch = |batch: u64, count: usize| -> Vec<(SpoolKey, Summary)> {
        let member = |_| Summary { batch_id: Id(batch), ..world.summary("b", "d.example") };
        (0..count).map(member).map(|summary| (SpoolKey(summary.id.0 as u32), summary)).collect()
    };
    world.queue.push_all(&batch(1, 1));
    world.queue.push_all(&batch(2, 5));
    let permit = world.connection().unwrap();
    let sizes: Vec<usize> = (0..4)
        .map(|_| {
            let taken = world.queue.take_batch(&permit, 3);
            let count = taken.len();
            taken.into_iter().for_each(|taken| world.queue.delivered(taken));
            count
        })
        .collect();
    assert_eq!(sizes, [1, 3, 2, 0]);
}

#[test]
fn siblings_are_found_behind_strangers_once_the_batch_is_known_as_one() {
    let world = World::plain();
    let of_batch = |batch: u64| {
        let summary = Summary { batch_id: Id(batch), ..world.summary("b", "d.example") };
        world.queue.push(SpoolKey(summary.id.0 as u32), summary);
    };
    [1, 1, 9, 1, 9].into_iter().for_each(of_batch);
    let permit = world.connection().unwrap();
    let batches: Vec<u64> = world.queue.take(&permit, 100).iter().map(|taken| taken.summary.batch_id.0).collect();
    assert_eq!(batches, [1, 1, 1, 9, 9]);
}

#[test]
fn an_id_is_queued_once() {
    let world = World::plain();
    let summary = world.summary("b", "d.example");
    assert!(world.queue.push(SpoolKey(1), summary.clone()));
    assert!(!world.queue.push(SpoolKey(2), summary.clone()));
    assert_eq!(world.sums(), (1, 0, 0));
    assert_eq!(world.queue.entry(summary.id).unwrap().key, SpoolKey(1));
}

#[test]
fn what_comes_out_is_what_went_in() {
    let world = World::plain();
    let summary = Summary {
        size: 123_456,
        sender_hash: 1,
        recipient_hash: 2,
        null_sender: true,
        binding_group: "g".into(),
        next_attempt: START,
        ..world.summary("b", "a-domain-that-is-longer-than-what-fits-inline.example")
    };
    world.queue.push(SpoolKey(77), summary.clone());
    let permit = world.connection().unwrap();
    let taken = world.queue.take(&permit, 1).remove(0);
    assert_eq!((taken.key, &taken.summary), (SpoolKey(77), &summary));
}

#[test]
fn a_restart_continues_where_the_state_says_and_tries_what_has_none_at_once() {
    let world = World::plain();
    let created = Time(START.0 - 4_000_000_000);
    let known =
        Summary { created, attempts: 2, retries: 1, next_attempt: START.plus_secs(50), ..world.summary("b", "d") };
    let untried = Summary { created, ..world.summary("b", "d") };
    let fresh = Summary { created: Time(START.0 - 1_000_000), ..world.summary("b", "d") };
    for summary in [&known, &untried, &fresh] {
        assert!(world.queue.recover(SpoolKey(summary.id.0 as u32), summary.clone()));
    }
    let state = |summary: &Summary| {
        let entry = world.queue.entry(summary.id).unwrap();
        (entry.state, entry.retries, entry.next_attempt)
    };
    assert_eq!(state(&known), (MessageState::Delayed, 1, START.plus_secs(50)));
    // However old it is: in a backlog nothing was tried yet.
    assert_eq!((state(&untried).0, state(&untried).1), (MessageState::Active, 0));
    assert_eq!(state(&fresh).0, MessageState::Active);
    assert_eq!(world.queue.overview().counters.receptions, 0);
}

#[test]
fn very_long_delays_do_not_overflow() {
    let world = World::plain();
    world.push("b", "d");
    let permit = world.connection().unwrap();
    let taken = world.queue.take(&permit, 1).remove(0);
    world.queue.retry(taken, START.plus_secs(u64::MAX));
    drop(permit);
    world.advance_s(1_000_000_000);
    assert!(world.connection().is_none());
    assert_eq!(world.sums(), (0, 1, 0));
    assert_eq!(world.queue.flush(&crate::Scope::all()).finish(), 1);
    assert_eq!(world.run(), 1);
}
