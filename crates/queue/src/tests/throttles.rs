//! Message and connection throttles.

use super::*;
use crate::explain::Reason;
use crate::limits::OwnerKey;
use crate::throttle::Rate;

fn messages(owner: u64, count: u32, per_s: u32) -> Limits {
    Limits { messages: Some((OwnerKey(owner), Rate { count, per_s })), ..Limits::default() }
}

/// Delivers for `secs` seconds, looking every tenth; returns the deliveries of each second.
fn per_second(world: &World, secs: usize) -> Vec<usize> {
    let mut counts = Vec::new();
    for _ in 0..secs {
        let mut count = 0;
        for _ in 0..10 {
            count += world.run();
            world.clock.advance(Duration::from_millis(100));
        }
        counts.push(count);
    }
    counts
}

#[test]
fn thirty_messages_at_ten_in_five_seconds_take_ten_seconds_and_no_retry() {
    let world = World::with(messages(1, 10, 5));
    let ids = world.push_many("b", "d", 30);
    assert_eq!(per_second(&world, 11), [11, 2, 2, 2, 2, 2, 2, 2, 2, 2, 1]);
    assert_eq!(world.sums(), (0, 0, 0));
    let counters = world.queue.overview().counters;
    assert_eq!((counters.deliveries, counters.transients), (ids.len() as u64, 0));
}

#[test]
fn scopes_that_fall_back_to_one_throttle_share_it_and_an_own_one_is_its_own() {
    let world = World::new(|at| messages(if at.binding == "own" { 2 } else { 1 }, 10, 1));
    for binding in ["a", "b", "own"] {
        world.push_many(binding, "d", 100);
    }
    let before: Vec<u64> = vec![0, 0, 0];
    let delivered = |world: &World| -> Vec<u64> {
        let bindings = world.queue.bindings();
        let of = |name: &str| bindings.iter().find(|b| b.name == name).unwrap().counters.deliveries;
        vec![of("a"), of("b"), of("own")]
    };
    assert_eq!(delivered(&world), before);
    per_second(&world, 1);
    let burst = delivered(&world);
    per_second(&world, 4);
    let later = delivered(&world);
    let shared = later[0] + later[1] - burst[0] - burst[1];
    assert_eq!((shared, later[2] - burst[2]), (40, 40));
    assert!(later[0] - burst[0] >= 10 && later[1] - burst[1] >= 10, "both get their share: {burst:?} {later:?}");
}

#[test]
fn a_saturated_throttle_says_so_and_until_when() {
    let world = World::with(messages(1, 1, 60));
    world.push_many("b", "d", 2);
    let permit = world.connection().unwrap();
    assert_eq!(world.deliver(&permit), 1);
    assert_eq!(now_or_never(world.queue.wait_for_work(&permit, Duration::from_secs(5))), Some(false), "it closes");
    drop(permit);
    assert!(world.connection().is_none());
    let id = world.queue.list(&crate::ListQuery { limit: 1, ..Default::default() }).entries[0].id;
    let explained = world.queue.explain(id).unwrap();
    let reason =
        Reason::Throttled { option: "outbound_throttle_messages", count: 1, per_s: 60, until: START.plus_secs(60) };
    assert_eq!((explained.reason, explained.next), (reason, Some(START.plus_secs(60))));
}

#[test]
fn an_open_connection_waits_for_a_token_that_comes_soon() {
    let world = World::with(messages(1, 50, 1));
    world.push_many("b", "d", 60);
    let permit = world.connection().unwrap();
    assert_eq!(world.deliver(&permit), 50);
    let mut wait = pin!(world.queue.wait_for_work(&permit, Duration::from_secs(5)));
    assert!(now_or_never(wait.as_mut()).is_none());
    world.clock.advance(Duration::from_millis(20));
    assert_eq!(now_or_never(wait), Some(true));
    assert_eq!(world.deliver(&permit), 1);
}

#[test]
fn a_connection_that_brings_nothing_gives_its_message_token_back() {
    let world = World::with(messages(1, 1, 3600));
    world.push("b", "d");
    for _ in 0..3 {
        drop(world.connection().expect("the token is there again"));
        world.advance_s(100);
    }
    let permit = world.connection().unwrap();
    let taken = world.queue.take(&permit, 1);
    assert_eq!(taken.len(), 1);
    world.queue.give_back_all(taken);
    assert_eq!(world.deliver(&permit), 1, "so does a message that was not sent");
}

#[test]
fn connections_are_throttled_apart_from_messages() {
    let world = World::with(Limits {
        connects: Some((OwnerKey(1), Rate { count: 2, per_s: 10 })),
        eager: true,
        ..Limits::default()
    });
    world.push_many("b", "d", 10);
    let open = world.connections();
    assert_eq!(open.len(), 2);
    assert!(!open[0].another_connect(), "a second address is a connect() too");
    world.advance_s(5);
    assert_eq!(world.connections().len(), 1);
    world.advance_s(5);
    assert!(open[0].another_connect());
    assert_eq!(world.deliver(&open[0]), 10, "messages are free");
}

#[test]
fn a_changed_throttle_starts_full_and_an_unchanged_one_survives_a_reload() {
    let world = World::with(messages(1, 5, 3600));
    world.push_many("b", "d", 50);
    assert_eq!(world.run(), 5);
    world.options.bump();
    assert_eq!(world.run(), 0);
    world.options.set(|_| messages(1, 6, 3600));
    assert_eq!(world.run(), 6);
    world.options.set(|_| Limits::default());
    assert_eq!(world.run(), 39);
}

#[test]
fn a_thousand_queues_behind_one_throttle_are_served_in_turn_and_woken_by_the_token() {
    let world = World::with(messages(1, 10, 1));
    for n in 0..1000 {
        world.push_many("b", &format!("d{n}"), 2);
    }
    world.run();
    per_second(&world, 1);
    let steps_before = world.queue.with(|state, _| state.steps);
    let counts = per_second(&world, 100);
    let steps = world.queue.with(|state, _| state.steps) - steps_before;
    assert!(counts.iter().all(|count| *count == 10), "{counts:?}");
    assert!(steps < 20_000, "{steps} steps for 1000 tokens: the queues are not woken all together");
    let most = world.queue.queues(&crate::Scope::all()).iter().map(|queue| queue.counters.deliveries).max();
    assert!(most <= Some(2));
    let served = world.queue.queues(&crate::Scope::all()).iter().filter(|q| q.counters.deliveries > 0).count();
    assert!(served >= 990, "every queue had its turn before one had many: {served}");
}
