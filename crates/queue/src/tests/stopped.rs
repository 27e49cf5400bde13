//! Suspension, blackholes, and mail that expires where it lies.

use super::*;
use crate::Reason;
use crate::inspect::MessageState;
use crate::retry::{BLACKHOLED, EXCEEDED_TIME, EXPIRED, RetryRules};
use crate::{Scope, Suspension};

fn finals(world: &World) -> Vec<(Id, &'static str)> {
    let mut all = Vec::new();
    while let Some(found) = now_or_never(world.queue.next_finals(100)) {
        for found in found {
            all.push((found.taken.summary.id, found.text));
            world.queue.failed(found.taken);
        }
    }
    all
}

#[test]
fn suspend_delivery_stops_what_goes_out_but_not_what_comes_in() {
    let world = World::plain();
    world.push_many("b", "d", 3);
    let permit = world.connection().unwrap();
    let in_hand = world.queue.take(&permit, 1);
    world.options.set(|_| Limits { suspend: true, ..Limits::default() });
    assert!(world.queue.take(&permit, 1).is_empty(), "at take-out");
    assert_eq!(now_or_never(world.queue.wait_for_work(&permit, Duration::from_secs(5))), Some(false));
    in_hand.into_iter().for_each(|taken| world.queue.delivered(taken)); // what runs, finishes
    drop(permit);
    let id = world.push("b", "d");
    assert!(world.connection().is_none());
    assert_eq!(world.sums(), (3, 0, 0));
    let explained = world.queue.explain(id).unwrap();
    assert_eq!((explained.entry.state, explained.reason), (MessageState::Suspended, Reason::SuspendedByConfig));
    world.options.set(|_| Limits::default());
    assert_eq!(world.run(), 3, "resumes at once");
}

#[test]
fn a_suspension_holds_for_its_scope_until_its_time_also_for_queues_that_come_later() {
    let world = World::plain();
    let held = world.push("b", "d");
    world.push("b", "other");
    world.push("c", "d");
    let until = START.plus_secs(4 * 3600);
    world.queue.suspend(Scope::of(&at("b", "d")), Some(until), "too many 421").unwrap();
    assert_eq!(world.run(), 2);
    let reason = world.queue.explain(held).unwrap().reason;
    assert_eq!(reason, Reason::Suspended { until, note: "too many 421".into() });
    world.queue.suspend(Scope::binding("later"), Some(until), "warm-up").unwrap();
    world.push("later", "new.example");
    assert!(world.connection().is_none());
    assert!(matches!(world.queue.suspension(&at("later", "any")), Some(Suspension::Hold(_))));
    assert_eq!(world.queue.suspension(&at("c", "d")), None);
    world.advance_s(4 * 3600 - 1);
    assert!(world.connection().is_none());
    world.advance_s(1);
    assert_eq!(world.run(), 2);
    assert!(world.queue.holds().is_empty());
}

#[test]
fn the_longer_of_two_suspensions_holds_and_lifting_one_leaves_the_other() {
    let world = World::plain();
    world.push("b", "d");
    world.queue.suspend(Scope::domain("D"), None, "all of it").unwrap();
    world.queue.suspend(Scope::of(&at("b", "d")), Some(START.plus_secs(60)), "a minute").unwrap();
    assert!(world.queue.resume(&Scope::domain("d")));
    assert!(!world.queue.resume(&Scope::domain("d")));
    assert!(world.connection().is_none());
    assert!(world.queue.resume(&Scope::of(&at("b", "d"))));
    assert_eq!(world.run(), 1);
}

#[test]
fn an_idle_connection_hears_of_a_suspension() {
    let world = World::plain();
    world.push("b", "d");
    let permit = world.connection().unwrap();
    world.deliver(&permit);
    let mut wait = pin!(world.queue.wait_for_work(&permit, Duration::from_secs(5)));
    assert!(now_or_never(wait.as_mut()).is_none());
    world.queue.suspend(Scope::domain("d"), None, "").unwrap();
    assert_eq!(now_or_never(wait), Some(false));
}

#[test]
fn suspended_mail_goes_on_ageing_and_expires_unattempted() {
    let rules = RetryRules { message_expiration_s: 3600, ..RetryRules::default() };
    let world = World::with(Limits { suspend: true, retry: rules, ..Limits::default() });
    let first = world.push_many("b", "d", 3);
    world.advance_s(1800);
    let second = world.push("b", "d");
    let mut delayed = world.summary("b", "d");
    delayed.created = START;
    delayed.next_attempt = START.plus_secs(100_000);
    let delayed_id = delayed.id;
    world.queue.push(SpoolKey(99), delayed);
    assert!(world.connection().is_none());
    assert!(finals(&world).is_empty());
    world.advance_s(1800);
    assert!(world.connection().is_none()); // the alarm of the oldest message rings here
    let mut failed = finals(&world);
    failed.sort_unstable();
    let mut wanted: Vec<_> = first.into_iter().chain([delayed_id]).map(|id| (id, EXCEEDED_TIME)).collect();
    wanted.sort_unstable();
    assert_eq!(failed, wanted);
    assert_eq!(world.sums(), (1, 0, 0));
    world.advance_s(1800);
    assert!(world.connection().is_none());
    assert_eq!(finals(&world), [(second, EXCEEDED_TIME)]);
    assert_eq!(world.queue.overview().counters.failures, 5);
}

#[test]
fn a_suspended_queue_is_not_looked_through_before_anything_can_have_expired() {
    let world = World::with(Limits { suspend: true, ..Limits::default() });
    world.push_many("b", "d", 5000);
    assert!(world.connection().is_none());
    let steps = world.queue.with(|state, _| state.steps);
    for _ in 0..80 {
        world.advance_s(1000);
        assert!(world.connection().is_none());
        assert!(now_or_never(world.queue.next_finals(10)).is_none());
    }
    assert!(world.queue.with(|state, _| state.steps) - steps < 100);
}

#[test]
fn expired_mail_at_the_front_fails_unattempted_when_asked_for() {
    let rules = RetryRules { message_expiration_s: 60, never_attempt_expired: true, ..RetryRules::default() };
    let world = World::with(Limits { retry: rules, ..Limits::default() });
    let old = world.push_many("b", "d", 3);
    world.advance_s(60);
    let young = world.push("b", "d");
    let permit = world.connection().unwrap();
    assert_eq!(world.take_ids(&permit, 1).0, [young]);
    assert_eq!(finals(&world), old.into_iter().map(|id| (id, EXPIRED)).collect::<Vec<_>>());
}

#[test]
fn the_queued_mail_of_a_blackhole_fails_and_so_does_what_comes_later() {
    let world = World::plain();
    let mut ids = world.push_many("b", "d", 250);
    world.queue.delay(&Scope::domain("d"), START.plus_secs(500)).finish();
    ids.extend(world.push_many("b", "d", 250));
    world.push("b", "other");
    world.options.set(|at| Limits { blackhole: at.domain == "d", ..Limits::default() });
    world.queue.config_changed();
    let permit = world.connection().unwrap();
    assert_eq!(permit.queue().domain, "other");
    assert_eq!(world.deliver(&permit), 1);
    drop(permit);
    let mut failed = finals(&world);
    assert!(failed.iter().all(|(_, text)| *text == BLACKHOLED));
    failed.sort_unstable();
    ids.sort_unstable();
    assert_eq!(failed.into_iter().map(|(id, _)| id).collect::<Vec<_>>(), ids);
    let late = world.push("b", "d");
    assert!(world.connection().is_none());
    assert_eq!(finals(&world), [(late, BLACKHOLED)]);
    world.options.set(|_| Limits::default());
    world.push("b", "d");
    assert_eq!(world.run(), 1);
}

#[tokio::test]
async fn whoever_fails_mail_is_woken_for_it() {
    let world = World::with(Limits { blackhole: true, ..Limits::default() });
    let waiter = tokio::spawn({
        let queue = world.queue.clone();
        async move { queue.next_finals(10).await.len() }
    });
    tokio::task::yield_now().await;
    world.push("b", "d");
    assert_eq!(waiter.await.unwrap(), 1);
}

#[test]
fn a_closed_queue_gives_no_connections_and_keeps_its_mail() {
    let world = World::plain();
    world.push_many("b", "d", 2);
    let permit = world.connection().unwrap();
    world.queue.close();
    assert!(world.queue.take(&permit, 1).is_empty());
    drop(permit);
    world.push("b", "d");
    assert!(world.connection().is_none());
    assert_eq!(world.sums(), (3, 0, 0));
}
