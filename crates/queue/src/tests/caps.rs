//! Caps on connections, growth, fairness, the reserve, sibling domains, hosts.

use super::*;
use crate::explain::Reason;
use crate::hosts::HostBusy;
use crate::limits::OwnerKey;
use crate::permit::Deferral;
use crate::throttle::Rate;
use std::net::IpAddr;

fn eager(connections_max: u32) -> Limits {
    Limits { eager: true, connections_max, ..Limits::default() }
}

#[test]
fn never_more_connections_than_the_domain_may_have() {
    let world = World::with(eager(1));
    world.push_many("b", "d", 50);
    let permit = world.connection().unwrap();
    for _ in 0..5 {
        assert!(world.connection().is_none());
        let taken = world.queue.take(&permit, 10);
        assert_eq!(taken.len(), 10);
        taken.into_iter().for_each(|taken| world.queue.delivered(taken));
        world.advance_s(10);
    }
    drop(permit);
    assert!(world.connection().is_none());
    world.push_many("b", "d", 50);
    // max_deliveries_per_connection 10 is the caller's matter: five connections, one after the other.
    for _ in 0..5 {
        let permit = world.connection().unwrap();
        assert!(world.connection().is_none());
        world.queue.take(&permit, 10).into_iter().for_each(|taken| world.queue.delivered(taken));
    }
    assert_eq!(world.sums(), (0, 0, 0));
}

#[test]
fn high_goes_to_the_cap_at_once_and_never_beyond_the_waiting_mail() {
    let world = World::with(eager(32));
    world.push_many("b", "d", 5);
    assert_eq!(world.connections().len(), 5);
    let world = World::with(eager(32));
    world.push_many("b", "d", 500);
    assert_eq!(world.connections().len(), 32);
}

#[test]
fn normal_grows_by_a_tenth_of_the_waiting_mail_per_second() {
    let world = World::plain();
    world.push("b", "d");
    let mut permits = world.connections();
    assert_eq!(permits.len(), 1);
    world.push_many("b", "d", 49);
    let taken = world.queue.take(&permits[0], 1);
    assert!(world.connections().is_empty(), "not within the same second");
    world.advance_s(1);
    permits.extend(world.connections());
    assert_eq!(permits.len(), 1 + 4, "49 wait");
    world.advance_s(1);
    permits.extend(world.connections());
    assert_eq!(permits.len(), 1 + 4 + 4);
    drop(taken);
}

#[test]
fn a_small_rest_behind_a_busy_connection_gets_a_second_one_after_a_second() {
    let world = World::plain();
    world.push_many("b", "d", 3);
    let first = world.connection().unwrap();
    let taken = world.queue.take(&first, 1);
    assert!(world.connection().is_none());
    world.advance_s(1);
    assert!(world.connection().is_some());
    drop(taken);
}

#[test]
fn a_group_cap_counts_over_bindings_and_a_freed_place_goes_to_who_waited_longest() {
    let world = World::new(|_| Limits { scope_max: Some((OwnerKey(1), 2)), ..eager(10) });
    for domain in ["d1", "d2", "d3", "d4"] {
        world.push_many("b", domain, 1);
    }
    let ids = world.push_many("c", "d5", 1);
    let mut open = world.connections();
    assert_eq!(open.len(), 2);
    assert_eq!(
        world.queue.explain(ids[0]).unwrap().reason,
        Reason::CapReached { option: "scope_max_outbound_connections", used: 2, limit: 2 }
    );
    let mut order = vec![open[0].queue().domain.clone(), open[1].queue().domain.clone()];
    while let Some(permit) = (!open.is_empty()).then(|| open.remove(0)) {
        assert_eq!(world.deliver(&permit), 1);
        drop(permit);
        let next = world.connections();
        assert!(next.len() <= 1);
        order.extend(next.iter().map(|permit| permit.queue().domain.clone()));
        open.extend(next);
    }
    assert_eq!(order, ["d1", "d2", "d3", "d4", "d5"]);
}

#[test]
fn an_idle_connection_leaves_when_another_queue_needs_its_place() {
    let world = World::new(|at| match &*at.domain {
        "apart" => eager(10),
        _ => Limits { scope_max: Some((OwnerKey(1), 2)), ..eager(10) },
    });
    let mut permits = Vec::new();
    for domain in ["apart", "d1", "d2"] {
        world.push("b", domain);
        let permit = world.connection().unwrap();
        world.deliver(&permit);
        permits.push(permit);
    }
    let idle = |permit| Box::pin(world.queue.wait_for_work(permit, Duration::from_secs(3600)));
    let mut waits: Vec<_> = permits.iter().map(idle).collect();
    assert!(waits.iter_mut().all(|wait| now_or_never(wait.as_mut()).is_none()));
    world.push("b", "d3");
    assert!(world.connection().is_none());
    let answers: Vec<_> = waits.iter_mut().map(|wait| now_or_never(wait.as_mut())).collect();
    assert_eq!(answers, [None, Some(false), None], "one, and of those that count");
    drop(waits);
    drop(permits.remove(1));
    assert_eq!(world.connection().unwrap().queue().domain, "d3");
}

#[test]
fn a_binding_has_its_own_total() {
    let world =
        World::new(|at| Limits { binding_max: if at.binding == "b" { 2 } else { crate::UNLIMITED }, ..eager(10) });
    world.push_many("b", "d1", 5);
    world.push_many("b", "d2", 5);
    world.push_many("c", "d1", 5);
    let open = world.connections();
    let count = |binding: &str| open.iter().filter(|permit| permit.queue().binding == binding).count();
    assert_eq!((count("b"), count("c")), (2, 5));
}

#[test]
fn a_deep_queue_yields_its_place_when_others_wait_for_the_total() {
    let world = World::with(eager(10));
    world.options.server.write().connections_max = 1;
    world.options.server.write().reserve = 0;
    world.options.bump();
    world.push_many("b", "deep", 1000);
    let permit = world.connection().unwrap();
    assert_eq!(world.queue.take(&permit, 400).len(), 400, "nobody else waits");
    let other = world.push("b", "other");
    assert!(world.connection().is_none());
    assert!(matches!(world.queue.explain(other).unwrap().reason, Reason::CapReached { used: 1, limit: 1, .. }));
    assert!(world.queue.take(&permit, 10).is_empty(), "it had its share");
    assert_eq!(now_or_never(world.queue.wait_for_work(&permit, Duration::from_secs(5))), Some(false));
    drop(permit);
    // The deep queue waited for a second connection before the other one came: that turn is still its own.
    let turns: Vec<_> = (0..2)
        .map(|_| {
            let permit = world.connection().unwrap();
            world.queue.take(&permit, 100).into_iter().for_each(|taken| world.queue.delivered(taken));
            permit.queue().domain.clone()
        })
        .collect();
    assert_eq!(turns, ["deep", "other"]);
}

#[test]
fn the_reserve_serves_queues_without_any_connection_one_per_interval() {
    let world = World::with(eager(10));
    *world.options.server.write() = ServerLimits { connections_max: 3, reserve: 2, reserve_interval_s: 15 };
    world.options.bump();
    world.push_many("b", "deep", 100);
    let deep = world.connections();
    assert_eq!(deep.len(), 3);
    for domain in ["s1", "s2", "s3"] {
        world.push(domain, domain);
    }
    let first = world.connections();
    assert_eq!(first.len(), 1, "one at once");
    world.advance_s(14);
    assert!(world.connections().is_empty());
    world.advance_s(1);
    let second = world.connections();
    assert_eq!(second.len(), 1);
    assert!(second[0].queue().domain.starts_with('s'));
    world.advance_s(60);
    assert!(world.connections().is_empty(), "the reserve is used up");
    drop(first);
    let third = world.connections();
    assert_eq!(third.len(), 1, "a freed place of the reserve is given out again");
    assert_ne!(third[0].queue().domain, second[0].queue().domain);
}

#[test]
fn one_dead_domain_with_ten_thousand_messages_holds_up_none_of_a_hundred_live_ones() {
    let world = World::plain();
    world.push_many("b", "dead.example", 10_000);
    for n in 0..100 {
        world.push_many("b", &format!("d{n}.example"), 5);
    }
    // Every connection to the dead domain hangs: its permit is kept and never used.
    let mut hanging = Vec::new();
    let mut delivered = 0;
    let mut grants = 0;
    while let Some(permit) = world.connection() {
        grants += 1;
        if permit.queue().domain == "dead.example" {
            hanging.push(permit);
        } else {
            delivered += world.deliver(&permit);
        }
    }
    assert_eq!(delivered, 500, "all live mail goes at once");
    assert!(hanging.len() <= 32);
    assert!(grants <= 100 + 32);
    world.advance_s(300);
    hanging.extend(world.connections());
    assert_eq!(hanging.len(), 32, "only to its own cap");
    world.push("b", "d7.example");
    assert_eq!(world.run(), 1);
}

#[test]
fn grants_go_round_the_ready_queues() {
    let world = World::with(eager(3));
    for domain in ["a", "b", "c"] {
        world.push_many("x", domain, 100);
    }
    let order: Vec<String> = world.connections().iter().map(|permit| permit.queue().domain.to_string()).collect();
    assert_eq!(order, ["a", "b", "c", "a", "b", "c", "a", "b", "c"]);
}

#[test]
fn connections_that_end_before_they_take_mail_come_slower_and_slower() {
    let world = World::plain();
    let id = world.push("b", "d");
    let mut times = Vec::new();
    for _ in 0..200 {
        if let Some(permit) = world.connection() {
            times.push(world.clock.now().since(START).as_secs());
            drop(permit);
        }
        world.advance_s(1);
    }
    assert_eq!(times, [0, 1, 3, 7, 15, 31, 63, 123, 183]);
    assert!(matches!(world.queue.explain(id).unwrap().reason, Reason::BackingOff { connections: 9, .. }));
    world.advance_s(60);
    assert_eq!(world.run(), 1);
}

#[test]
fn an_idle_connection_goes_to_a_sibling_domain_with_mail() {
    let world = World::with(eager(1));
    world.push("b", "d1");
    let mut permit = world.connection().unwrap();
    world.deliver(&permit);
    assert!(!world.queue.migrate(&mut permit, "d2"), "no mail there");
    world.push_many("b", "d2", 2);
    let other = world.connection().unwrap();
    assert!(!world.queue.migrate(&mut permit, "d2"), "it has its one connection");
    drop(other);
    world.advance_s(1);
    assert!(world.queue.migrate(&mut permit, "d2"));
    assert_eq!(permit.queue().domain, "d2");
    assert_eq!(world.deliver(&permit), 2);
    world.push("b", "d1");
    let back = world.connection().unwrap();
    assert_eq!(back.queue().domain, "d1");
    drop((permit, back));
    assert_eq!(world.queue.overview().connections, 0);
}

const MX1: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));

#[test]
fn an_address_that_failed_rests_and_works_again_when_it_answers() {
    let world = World::plain();
    let place = at("b", "d");
    assert!(world.queue.host_permit("default", "b", "mx", MX1).is_some());
    assert_eq!(world.queue.host_failed(&place, MX1), START.plus_secs(120));
    let busy = world.queue.host_check("default", "b", "mx", MX1).err();
    assert_eq!(busy, Some(HostBusy::Resting(START.plus_secs(120))));
    assert!(world.queue.host_permit("default", "other", "mx", MX1).is_some(), "up and down is per binding");
    world.advance_s(119);
    assert!(!world.queue.host_is_up(&place, MX1));
    world.advance_s(1);
    assert!(world.queue.host_is_up(&place, MX1));
    world.queue.host_failed(&place, MX1);
    world.queue.host_worked(&place, MX1);
    assert!(world.queue.host_is_up(&place, MX1));
}

#[test]
fn a_queue_that_waits_for_a_resting_host_goes_on_when_another_connection_finds_it_working() {
    let world = World::with(eager(4));
    let host: IpAddr = "192.0.2.1".parse().unwrap();
    let at = at("b", "d");
    for finds_first in [false, true] {
        world.push_many("b", "d", 4);
        let mut permits = world.connections();
        assert_eq!(permits.len(), 4);
        // One fails while others are still on their way to the same address, and one more finds it resting.
        let until = world.queue.host_failed(&at, host);
        let late = permits.pop().unwrap();
        if finds_first {
            world.queue.host_worked(&at, host);
        }
        late.defer(until, Deferral::HostResting(host));
        drop(late);
        if !finds_first {
            assert!(world.connection().is_none());
            world.queue.host_worked(&at, host);
        }
        permits.iter().for_each(|permit| drop(world.queue.take(permit, 1)));
        drop(permits);
        assert_eq!(world.run(), 4, "nobody waits for an address that works");
        assert_eq!(world.sums(), (0, 0, 0));
    }
}

#[test]
fn a_full_host_sends_the_queue_to_wait_and_its_next_free_place_calls_it() {
    let world = World::plain();
    world.options.host.write().connections_max = 1;
    world.push("b", "d1");
    let first = world.connection().unwrap();
    let host = world.queue.host_check("default", "b", "mx", MX1).unwrap();
    let id = world.push("b", "d2");
    let second = world.connection().unwrap();
    assert_eq!(world.queue.host_check("default", "b", "mx", MX1).err(), Some(HostBusy::Full));
    second.defer(START.plus_secs(600), Deferral::HostFull(MX1));
    drop(second);
    assert!(world.connection().is_none());
    assert!(matches!(world.queue.explain(id).unwrap().reason, Reason::HostFull { host: MX1, .. }));
    drop(host);
    assert_eq!(world.connection().unwrap().queue().domain, "d2");
    drop(first);
}

#[test]
fn a_throttled_host_says_when() {
    let world = World::plain();
    world.options.host.write().messages = Some((OwnerKey(5), Rate { count: 2, per_s: 10 }));
    let host = world.queue.host_check("default", "b", "mx", MX1).unwrap();
    assert_eq!(host.messages(5), 1, "one was charged with the connection");
    let busy = world.queue.host_check("default", "b", "mx", MX1).err();
    assert_eq!(busy, Some(HostBusy::Throttled(START.plus_secs(5))));
}

#[test]
fn deferred_queues_wait_until_then_and_no_longer() {
    let world = World::plain();
    let id = world.push("b", "d");
    let permit = world.connection().unwrap();
    permit.defer(START.plus_secs(90), Deferral::HostResting(MX1));
    drop(permit);
    world.advance_s(89);
    assert!(world.connection().is_none());
    let explained = world.queue.explain(id).unwrap();
    assert_eq!(explained.next, Some(START.plus_secs(90)));
    world.advance_s(1);
    assert_eq!(world.run(), 1);
}

#[test]
fn a_domain_that_cannot_be_reached_is_given_up_by_count_and_by_time() {
    let world = World::with(Limits { mx_failures_to_delay: 3, ..Limits::default() });
    let place = at("b", "d");
    world.push_many("b", "d", 40);
    let failures: Vec<bool> = (0..4).map(|_| world.queue.no_contact(&place)).collect();
    assert_eq!(failures, [false, false, true, true]);
    world.queue.contact(&place);
    assert!(!world.queue.no_contact(&place));
    world.advance_s(900);
    assert!(world.queue.no_contact(&place), "900 seconds without contact");
    let taken = world.queue.drain(&place, 100);
    assert_eq!(taken.len(), 40);
    taken.into_iter().for_each(|taken| world.queue.retry(taken, START.plus_secs(9999)));
    assert_eq!(world.sums(), (0, 40, 0));
}
