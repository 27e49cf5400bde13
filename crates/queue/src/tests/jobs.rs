//! What operators do to queued mail, and what they see of it.

use super::*;
use crate::inspect::{Find, ListQuery, MessageState, Which};
use crate::operate::QueueError;
use crate::{PAGE_MAX, Scope};

#[test]
fn a_flushed_domain_is_attempted_once_more_per_message() {
    let world = World::plain();
    let ids = world.push_many("b", "d", 600);
    world.push_many("b", "other", 1);
    let permit = world.connection().unwrap();
    for taken in world.queue.take(&permit, 600) {
        world.queue.retry(taken, START.plus_secs(5000));
    }
    drop(permit);
    assert_eq!(world.run(), 1);
    assert!(world.connection().is_none());
    let mut job = world.queue.flush(&Scope::domain("d"));
    assert_eq!(job.left(), 600);
    let first = job.step().unwrap();
    assert!(!first.is_empty() && first.len() < 600, "in pieces: {}", first.len());
    assert!(first.iter().all(|moved| moved.next_attempt == world.clock.now()));
    assert_eq!(job.finish(), 600);
    assert_eq!(world.sums(), (600, 0, 0));
    let permit = world.connection().unwrap();
    let mut retries: Vec<(Id, u32)> =
        world.queue.take(&permit, 600).iter().map(|taken| (taken.summary.id, taken.summary.retries)).collect();
    retries.sort_unstable();
    assert_eq!(retries, ids.into_iter().map(|id| (id, 1)).collect::<Vec<_>>());
    assert_eq!(world.queue.flush(&Scope::domain("nobody")).finish(), 0);
}

#[test]
fn a_bulk_requeue_is_spread_over_the_fuzz() {
    let world = World::with(Limits { requeue_fuzz_s: 100, ..Limits::default() });
    world.push_many("b", "d", 1000);
    assert_eq!(world.queue.delay(&Scope::all(), START.plus_secs(50_000)).finish(), 1000);
    assert_eq!(world.queue.flush(&Scope::domain("d")).finish(), 1000);
    let page = world.queue.list(&ListQuery { limit: PAGE_MAX, ..ListQuery::default() });
    let dues: Vec<u64> = page.entries.iter().map(|entry| entry.next_attempt.since(START).as_secs()).collect();
    assert_eq!(dues.len(), 1000);
    assert!(dues.iter().all(|due| *due <= 100));
    let late = dues.iter().filter(|due| **due > 50).count();
    assert!((300..700).contains(&late), "{late}");
}

#[test]
fn delaying_moves_active_mail_and_leaves_what_is_later_anyway() {
    let world = World::plain();
    let ids = world.push_many("b", "d", 10);
    world.queue.delay_one(ids[0], START.plus_secs(9000)).unwrap();
    world.queue.delay_one(ids[1], START.plus_secs(10)).unwrap();
    assert_eq!(world.queue.delay(&Scope::domain("d"), START.plus_secs(600)).finish(), 9);
    assert_eq!(world.sums(), (0, 10, 0));
    assert_eq!(world.queue.entry(ids[0]).unwrap().next_attempt, START.plus_secs(9000));
    assert_eq!(world.queue.entry(ids[1]).unwrap().next_attempt, START.plus_secs(600));
    assert_eq!(world.queue.delay(&Scope::domain("d"), START.plus_secs(600)).finish(), 0);
    world.advance_s(600);
    assert_eq!(world.run(), 9);
}

#[test]
fn a_purge_takes_everything_that_waits_in_pieces_and_can_stop_in_between() {
    let world = World::plain();
    world.push_many("b", "d", 700);
    world.push_many("c", "d", 300);
    world.push_many("c", "other", 5);
    world.queue.delay(&Scope::of(&at("c", "d")), START.plus_secs(60)).finish();
    let permit = world.connection().unwrap();
    let in_hand = world.queue.take(&permit, 10);
    assert_eq!(world.queue.count(&Scope::domain("d")), 990);
    let mut purge = world.queue.purge(&Scope::domain("d"));
    purge.next_chunk(100).into_iter().for_each(|taken| world.queue.failed(taken));
    assert_eq!(purge.left(), 890);
    drop(purge); // the operator gives up
    let mut purge = world.queue.purge(&Scope::domain("d"));
    let mut failed = 100;
    loop {
        let chunk = purge.next_chunk(usize::MAX);
        if chunk.is_empty() {
            break;
        }
        failed += chunk.len();
        chunk.into_iter().for_each(|taken| world.queue.failed(taken));
        world.push("b", "d"); // mail that keeps coming does not keep the purge from its end
    }
    assert_eq!(failed, 990);
    in_hand.into_iter().for_each(|taken| world.queue.delivered(taken));
    assert_eq!(world.queue.overview().counters.failures, 990);
}

#[test]
fn rerouted_mail_keeps_its_binding_and_due_time() {
    let world = World::plain();
    let ids = world.push_many("b", "d1", 3);
    world.push_many("c", "d1", 2);
    world.queue.delay_one(ids[0], START.plus_secs(50)).unwrap();
    assert_eq!(world.queue.reroute(&Scope::domain("d1"), "D2").finish(), 5);
    assert_eq!(world.queue.reroute(&Scope::domain("d2"), "d2").finish(), 0, "it is there already");
    assert_eq!(world.queue.entry(ids[0]).unwrap().at, at("b", "d2"));
    assert_eq!(world.queue.entry(ids[0]).unwrap().next_attempt, START.plus_secs(50));
    assert!(world.queue.queues(&Scope::domain("d1")).iter().all(|queue| queue.active + queue.delayed == 0));
    assert_eq!(world.run(), 4);
    world.push_many("b", "d3", 2);
    world.push_many("c", "d4", 2);
    assert_eq!(world.queue.reroute(&Scope::all(), "d2").finish(), 4, "the delayed one is there already");
}

#[test]
fn single_messages_can_be_retried_delayed_moved_and_taken_but_not_in_delivery() {
    let world = World::plain();
    let ids = world.push_many("b", "d", 4);
    world.queue.delay_one(ids[3], START.plus_secs(1000)).unwrap();
    world.queue.requeue(ids[3]).unwrap();
    let permit = world.connection().unwrap();
    let (first, in_hand) = world.take_ids(&permit, 1);
    assert_eq!(first, [ids[3]], "at the front");
    let in_delivery = QueueError::InDelivery(ids[3]);
    assert_eq!(world.queue.requeue(ids[3]), Err(in_delivery));
    assert_eq!(world.queue.take_one(ids[3]).map(|_| ()), Err(in_delivery));
    assert_eq!(world.queue.move_one(ids[3], &at("c", "d")), Err(in_delivery));
    assert_eq!(world.queue.requeue(Id(999)), Err(QueueError::Unknown(Id(999))));
    assert_eq!(world.queue.move_one(ids[0], &at("c", "other")), Ok(at("c", "other")));
    let taken = world.queue.take_one(ids[1]).unwrap();
    world.queue.failed(taken);
    drop(in_hand);
    assert_eq!(world.sums(), (3, 0, 0));
}

#[test]
fn pages_list_everything_once_in_due_order_while_mail_leaves() {
    let world = World::plain();
    let active = world.push_many("b", "d", 40);
    let delayed: Vec<Id> = (0..60_u64)
        .map(|n| {
            let due = START.plus_secs(1000 + (n * 7) % 60);
            let summary = Summary { next_attempt: due, ..world.summary("b", "d") };
            let id = summary.id;
            world.queue.push(SpoolKey(id.0 as u32), summary);
            id
        })
        .collect();
    let permit = world.connection().unwrap();
    let (mut listed, mut dues, mut cursor) = (Vec::new(), Vec::new(), None);
    loop {
        let page = world.queue.list(&ListQuery { limit: 7, cursor, ..ListQuery::default() });
        listed.extend(page.entries.iter().map(|entry| entry.id));
        let waiting = page.entries.iter().filter(|entry| entry.state == MessageState::Delayed);
        dues.extend(waiting.map(|entry| entry.next_attempt));
        cursor = page.next;
        if cursor.is_none() {
            break;
        }
        // What was listed already leaves from the front.
        world.queue.take(&permit, 3).into_iter().for_each(|taken| world.queue.delivered(taken));
    }
    assert_eq!(listed[..40], active);
    assert!(dues.is_sorted());
    let (mut rest, mut wanted) = (listed[40..].to_vec(), delayed);
    rest.sort_unstable();
    wanted.sort_unstable();
    assert_eq!(rest, wanted);
}

#[test]
fn lists_go_by_queue_kind_offset_and_limit() {
    let world = World::plain();
    for domain in ["d1", "d2", "d3"] {
        world.push_many("b", domain, 10);
    }
    world.queue.delay(&Scope::domain("d2"), START.plus_secs(5)).finish();
    let count = |which, offset, limit, scope: Scope| {
        let query = ListQuery { scope, which, offset, limit, cursor: None };
        let page = world.queue.list(&query);
        (page.entries.len(), page.next.is_some())
    };
    assert_eq!(count(Which::Both, 0, 100, Scope::all()), (30, false));
    assert_eq!(count(Which::Active, 0, 100, Scope::all()), (20, false));
    assert_eq!(count(Which::Delayed, 3, 100, Scope::all()), (7, false));
    assert_eq!(count(Which::Both, 25, 100, Scope::all()), (5, false));
    assert_eq!(count(Which::Both, 25, 3, Scope::all()), (3, true));
    assert_eq!(count(Which::Both, 31, 3, Scope::all()), (0, false));
    assert_eq!(count(Which::Both, 8, 3, Scope::domain("d1")), (2, false));
    assert_eq!(count(Which::Active, 0, 3, Scope::domain("d2")), (0, false));
    assert_eq!(count(Which::Both, 0, 0, Scope::all()).0, 0);
}

#[test]
fn a_search_by_hash_finds_all_and_goes_on_behind_its_limit() {
    let world = World::plain();
    world.push_many("b", "d1", 3000);
    let mut wanted = Vec::new();
    for n in 0..50 {
        let domain = if n % 2 == 0 { "d1" } else { "d2" };
        let summary = Summary { recipient_hash: 0xabcd_0123, sender_hash: n % 5, ..world.summary("b", domain) };
        wanted.push(summary.id);
        world.queue.push(SpoolKey(summary.id.0 as u32), summary);
    }
    let search = |scope: Scope, sender_hash, limit, from| {
        world.queue.find(&Find { scope, sender_hash, recipient_hash: Some(0xabcd_0123), limit, from })
    };
    let all = search(Scope::all(), None, 1000, 0);
    assert_eq!((all.entries.iter().map(|e| e.id).collect::<Vec<_>>(), all.next), (wanted, None));
    assert_eq!(search(Scope::domain("d2"), None, 1000, 0).entries.len(), 25);
    assert_eq!(search(Scope::domain("d2"), Some(1), 1000, 0).entries.len(), 5);
    let (mut found, mut from) = (0, Some(0));
    while let Some(at) = from {
        let piece = search(Scope::all(), None, 7, at);
        assert!(piece.entries.len() <= 7);
        found += piece.entries.len();
        from = piece.next;
    }
    assert_eq!(found, 50);
}

#[test]
fn sums_are_kept_by_queue_domain_and_binding() {
    let world = World::plain();
    world.push_many("b", "d1", 4);
    world.push_many("b", "d2", 2);
    world.push_many("c", "d1", 1);
    let permit = world.connection().unwrap();
    assert_eq!(*permit.queue(), at("b", "d1"));
    let mut taken = world.queue.take(&permit, 3);
    world.queue.delivered(taken.remove(0));
    world.queue.failed(taken.remove(0));
    world.queue.retry(taken.remove(0), START.plus_secs(60));
    world.queue.note_error(permit.queue(), "451 4.7.1 try later");
    let overview = world.queue.overview();
    assert_eq!((overview.active, overview.delayed, overview.in_flight, overview.total()), (4, 1, 0, 5));
    assert_eq!((overview.active_domains, overview.connections), (2, 1));
    let counters = overview.counters;
    assert_eq!((counters.receptions, counters.deliveries, counters.transients, counters.failures), (7, 1, 1, 1));
    let queues = world.queue.queues(&Scope::domain("d1"));
    assert_eq!(queues.len(), 2);
    let first = queues.iter().find(|queue| queue.at.binding == "b").unwrap();
    assert_eq!((first.active, first.delayed, first.connections), (1, 1, 1));
    assert_eq!(first.next_due, Some(START.plus_secs(60)));
    assert_eq!(first.last_error, Some((START, "451 4.7.1 try later".into())));
    let bindings = world.queue.bindings();
    let of = |name: &str| bindings.iter().find(|binding| binding.name == name).unwrap();
    assert_eq!((of("b").active, of("b").delayed, of("b").counters.receptions), (3, 1, 6));
    assert_eq!((of("c").active, of("c").counters.receptions), (1, 1));
}
