//! Random histories against a model that is only a map: nothing is lost, nothing is doubled, all sums are true, no cap is
//! passed, and whatever happened before, all mail goes in the end.

use super::*;
use crate::entry::{NIL, Place};
use crate::limits::OwnerKey;
use crate::table::State;
use crate::throttle::Rate;
use crate::{Scope, retry};
use proptest::prelude::*;
use std::collections::HashMap;

#[derive(Clone, Debug)]
enum Op {
    Push { binding: u8, domain: u8, delay_s: u16 },
    Connect,
    Take { connection: u8, max: u8 },
    Deliver { message: u8 },
    Fail { message: u8 },
    Retry { message: u8, delay_s: u16 },
    GiveBack { message: u8 },
    Close { connection: u8 },
    Migrate { connection: u8, domain: u8 },
    Advance { ms: u32 },
    Suspend { domain: u8, secs: u16 },
    Resume { domain: u8 },
    Flush { domain: u8 },
    Delay { domain: u8, secs: u16 },
    Reroute { domain: u8, to: u8 },
    Purge { domain: u8, max: u8 },
    Requeue { message: u8 },
    Reload { kind: u8 },
}

fn op() -> impl Strategy<Value = Op> {
    let (small, secs) = (any::<u8>(), 0..400_u16);
    prop_oneof![
        8 => (0..3_u8, 0..4_u8, prop_oneof![2 => Just(0_u16), 1 => 0..300_u16])
            .prop_map(|(binding, domain, delay_s)| Op::Push { binding, domain, delay_s }),
        6 => Just(Op::Connect),
        6 => (small, 1..6_u8).prop_map(|(connection, max)| Op::Take { connection, max }),
        5 => small.prop_map(|message| Op::Deliver { message }),
        1 => small.prop_map(|message| Op::Fail { message }),
        3 => (small, secs.clone()).prop_map(|(message, delay_s)| Op::Retry { message, delay_s }),
        2 => small.prop_map(|message| Op::GiveBack { message }),
        4 => small.prop_map(|connection| Op::Close { connection }),
        1 => (small, 0..4_u8).prop_map(|(connection, domain)| Op::Migrate { connection, domain }),
        4 => (0..40_000_u32).prop_map(|ms| Op::Advance { ms }),
        1 => (0..4_u8, secs.clone()).prop_map(|(domain, secs)| Op::Suspend { domain, secs }),
        1 => (0..4_u8).prop_map(|domain| Op::Resume { domain }),
        1 => (0..4_u8).prop_map(|domain| Op::Flush { domain }),
        1 => (0..4_u8, secs).prop_map(|(domain, secs)| Op::Delay { domain, secs }),
        1 => (0..4_u8, 0..4_u8).prop_map(|(domain, to)| Op::Reroute { domain, to }),
        1 => (0..4_u8, 1..5_u8).prop_map(|(domain, max)| Op::Purge { domain, max }),
        1 => small.prop_map(|message| Op::Requeue { message }),
        1 => (0..5_u8).prop_map(|kind| Op::Reload { kind }),
    ]
}

fn limits(kind: u8) -> Limits {
    let base = Limits { connections_max: 3, eager: kind.is_multiple_of(2), ..Limits::default() };
    match kind {
        0 => base,
        1 => Limits { scope_max: Some((OwnerKey(1), 2)), ..base },
        2 => Limits { messages: Some((OwnerKey(2), Rate { count: 3, per_s: 5 })), ..base },
        3 => Limits { connects: Some((OwnerKey(3), Rate { count: 2, per_s: 3 })), binding_max: 1, ..base },
        _ => Limits {
            messages: Some((OwnerKey(2), Rate { count: 1, per_s: 2 })),
            scope_max: Some((OwnerKey(1), 1)),
            ..base
        },
    }
}

fn domain(no: u8) -> String {
    format!("d{no}")
}

fn pick<T>(from: &mut Vec<T>, no: u8) -> Option<T> {
    (!from.is_empty()).then(|| from.swap_remove(usize::from(no) % from.len()))
}

/// Every message is in one place, and every sum is the sum.
fn check(state: &mut State) {
    let (mut active, mut delayed, mut in_flight, mut connections) = (0, 0, 0, 0);
    for (no, queue) in &state.queues {
        let no = no as u32;
        let (mut at, mut walked) = (queue.active.head(), 0);
        while at != NIL {
            assert_eq!((state.slots[at].place, state.slots[at].queue), (Place::Active, no));
            assert!(queue.oldest <= state.slots[at].created || queue.sweep.is_some());
            walked += 1;
            at = state.slots[at].next;
        }
        assert_eq!(walked, queue.active.len());
        let (mut position, mut walked) = ((Time(i64::MIN), 0), 0);
        while let Some(at) = queue.delayed.after(&state.slots, position) {
            assert_eq!((state.slots[at].place, state.slots[at].queue), (Place::Delayed, no));
            walked += 1;
            position = (state.slots[at].due, at);
        }
        assert_eq!(walked, queue.delayed.len());
        active += u64::from(queue.active.len());
        delayed += u64::from(queue.delayed.len());
        in_flight += u64::from(queue.in_flight);
        connections += u64::from(queue.connections);
        assert!(queue.untaken <= queue.connections && queue.woken <= queue.connections);
    }
    let totals = state.totals;
    assert_eq!(
        (totals.active, totals.delayed, totals.in_flight, totals.connections),
        (active, delayed, in_flight, connections)
    );
    let used = state.scheduler.pools[0].used;
    assert_eq!(u64::from(used), connections, "the server's pool counts every connection");
    assert_eq!(state.slots.len() as u64, active + delayed + in_flight);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn nothing_is_lost_or_doubled_and_everything_goes_in_the_end(ops in prop::collection::vec(op(), 1..250)) {
        let world = World::with(limits(0));
        let mut queued: HashMap<Id, bool> = HashMap::new(); // id -> in flight
        let mut open: Vec<crate::Permit> = Vec::new();
        let mut hands: Vec<crate::Taken> = Vec::new();
        for op in ops {
            match op {
                Op::Push { binding, domain: d, delay_s } => {
                    let mut summary = world.summary(&format!("b{binding}"), &domain(d));
                    summary.batch_id = Id(summary.id.0 / 3);
                    summary.urgent = summary.id.0.is_multiple_of(4);
                    if delay_s > 0 {
                        summary.next_attempt = world.clock.now().plus_secs(u64::from(delay_s));
                    }
                    queued.insert(summary.id, false);
                    prop_assert!(world.queue.push(SpoolKey(summary.id.0 as u32), summary));
                }
                Op::Connect => open.extend(world.connection()),
                Op::Take { connection, max } if !open.is_empty() => {
                    let permit = &open[usize::from(connection) % open.len()];
                    let taken = world.queue.take(permit, usize::from(max));
                    prop_assert!(taken.len() <= usize::from(max));
                    for taken in &taken {
                        prop_assert_eq!(queued.insert(taken.summary.id, true), Some(false), "taken twice, or unknown");
                        prop_assert_eq!(&taken.summary.domain, &permit.queue().domain);
                    }
                    hands.extend(taken);
                }
                Op::Deliver { message } => {
                    if let Some(taken) = pick(&mut hands, message) {
                        queued.remove(&taken.summary.id);
                        world.queue.delivered(taken);
                    }
                }
                Op::Fail { message } => {
                    if let Some(taken) = pick(&mut hands, message) {
                        queued.remove(&taken.summary.id);
                        world.queue.failed(taken);
                    }
                }
                Op::Retry { message, delay_s } => {
                    if let Some(taken) = pick(&mut hands, message) {
                        queued.insert(taken.summary.id, false);
                        world.queue.retry(taken, world.clock.now().plus_secs(u64::from(delay_s)));
                    }
                }
                Op::GiveBack { message } => {
                    if let Some(taken) = pick(&mut hands, message) {
                        queued.insert(taken.summary.id, false);
                        world.queue.give_back(taken);
                    }
                }
                Op::Close { connection } => drop(pick(&mut open, connection)),
                Op::Migrate { connection, domain: d } if !open.is_empty() => {
                    let at = usize::from(connection) % open.len();
                    world.queue.migrate(&mut open[at], &domain(d));
                }
                Op::Advance { ms } => world.clock.advance(Duration::from_millis(u64::from(ms))),
                Op::Suspend { domain: d, secs } => {
                    let until = (secs > 100).then(|| world.clock.now().plus_secs(u64::from(secs)));
                    world.queue.suspend(Scope::domain(&domain(d)), until, "").unwrap();
                }
                Op::Resume { domain: d } => _ = world.queue.resume(&Scope::domain(&domain(d))),
                Op::Flush { domain: d } => _ = world.queue.flush(&Scope::domain(&domain(d))).finish(),
                Op::Delay { domain: d, secs } => {
                    let until = world.clock.now().plus_secs(u64::from(secs));
                    world.queue.delay(&Scope::domain(&domain(d)), until).finish();
                }
                Op::Reroute { domain: d, to } => _ = world.queue.reroute(&Scope::domain(&domain(d)), &domain(to)).finish(),
                Op::Purge { domain: d, max } => {
                    let taken = world.queue.purge(&Scope::domain(&domain(d))).next_chunk(usize::from(max));
                    taken.iter().for_each(|taken| _ = queued.insert(taken.summary.id, true));
                    hands.extend(taken);
                }
                Op::Requeue { message } => {
                    let ids: Vec<Id> = queued.keys().copied().collect();
                    if !ids.is_empty() {
                        let id = ids[usize::from(message) % ids.len()];
                        prop_assert_eq!(world.queue.requeue(id).is_err(), queued[&id]);
                    }
                }
                Op::Reload { kind } => world.options.set(move |_| limits(kind)),
                Op::Take { .. } | Op::Migrate { .. } => {}
            }
            let (active, delayed, in_flight) = world.sums();
            let flying = queued.values().filter(|flying| **flying).count() as u64;
            prop_assert_eq!((active + delayed, in_flight), (queued.len() as u64 - flying, flying));
            world.queue.with(|state, _| check(state));
        }
        // The end: everything is given back, nothing is suspended, time passes.
        drop(open);
        drop(hands);
        for hold in world.queue.holds() {
            world.queue.resume(&hold.scope);
        }
        world.queue.config_changed();
        let mut left = queued.len();
        for _ in 0..4000 {
            left -= world.run();
            if left == 0 {
                break;
            }
            world.clock.advance(Duration::from_millis(500));
        }
        prop_assert_eq!(left, 0, "mail is stuck");
        prop_assert_eq!(world.sums(), (0, 0, 0));
        world.queue.with(|state, _| check(state));
    }

    #[test]
    fn the_due_times_of_a_queue_are_kept_to_the_microsecond(dues in prop::collection::vec(1..5_000_000_i64, 1..60)) {
        let world = World::with(Limits { eager: true, ..Limits::default() });
        for due in &dues {
            let summary = Summary { next_attempt: Time(START.0 + due), ..world.summary("b", "d") };
            world.queue.push(SpoolKey(summary.id.0 as u32), summary);
        }
        let mut sorted = dues.clone();
        sorted.sort_unstable();
        for (position, due) in sorted.iter().enumerate() {
            let early = Time(START.0 + due - 1);
            if world.clock.now() < early {
                world.clock.advance(early.since(world.clock.now()));
                prop_assert!(world.connection().is_none(), "nothing is due yet");
            }
            if world.clock.now() < Time(START.0 + due) {
                world.clock.advance(Duration::from_micros(1));
            }
            let waiting = world.queue.overview().total();
            world.run();
            prop_assert!(world.queue.overview().total() < waiting || position > 0 && sorted[position - 1] == *due);
        }
        prop_assert_eq!(world.sums(), (0, 0, 0));
    }
}

#[test]
fn texts_of_the_schedule_are_those_that_bounce_rules_match() {
    assert_eq!(retry::EXCEEDED_RETRIES, "554 5.4.7 [internal] exceeded max retries without delivery");
    assert_eq!(retry::PURGED, "554 5.7.0 [internal] Message manually purged");
    assert_eq!(retry::MANUALLY_FAILED, "554 manually failed.");
    assert_eq!(retry::UNREACHABLE, "421 4.4.0 [internal] no MXs for this domain could be reached at this time");
}
