//! A million messages in ten thousand domains: memory, and the number of steps of what is done to them.

use super::*;
use crate::inspect::{Find, ListQuery};
use crate::{PAGE_MAX, Scope};

const DOMAINS: u64 = 10_000;
const PER_DOMAIN: u64 = 100;

/// Half of the mail is active, half is delayed.
fn full_world() -> World {
    let world = World::plain();
    for n in 0..PER_DOMAIN {
        for domain in 0..DOMAINS {
            let mut summary = world.summary("pool-1", &format!("domain-{domain}.example"));
            if n % 2 == 1 {
                summary.next_attempt = START.plus_secs(600 + (domain * 7 + n * 13) % 3600);
            }
            assert!(world.queue.push(SpoolKey(summary.id.0 as u32), summary));
        }
    }
    world
}

#[test]
fn a_million_messages_take_little_memory_and_little_work() {
    let world = full_world();
    let total = DOMAINS * PER_DOMAIN;
    let overview = world.queue.overview();
    assert_eq!((overview.active, overview.delayed), (total / 2, total / 2));
    let per_message = overview.heap_bytes as f64 / total as f64;
    println!("{per_message:.1} octets per message");
    assert!(per_message < 100.0, "{per_message} octets per message");

    let steps = |what: &str, limit: u64, run: &dyn Fn()| {
        let before = world.queue.with(|state, _| state.steps);
        run();
        let taken = world.queue.with(|state, _| state.steps) - before;
        println!("{what}: {taken} steps");
        assert!(taken <= limit, "{what}: {taken} steps");
    };
    let place = at("pool-1", "domain-77.example");
    let scope = Scope::of(&place);
    steps("one push", 10, &|| {
        world.push("other", "idle.example");
    });
    steps("a thousand connections with ten messages each", 2_500, &|| {
        for _ in 0..1000 {
            let permit = world.connection().expect("every domain has due mail");
            world.queue.take(&permit, 10).into_iter().for_each(|taken| world.queue.delivered(taken));
        }
    });
    steps("flush of a domain", 200, &|| assert!(world.queue.flush(&scope).finish() >= 50));
    steps("delay of a domain", 300, &|| {
        assert!(world.queue.delay(&scope, START.plus_secs(10_000)).finish() >= 90);
    });
    steps("reroute of a domain", 300, &|| assert!(world.queue.reroute(&scope, "elsewhere.example").finish() >= 90));
    steps("a page of a domain", 200, &|| {
        let query = ListQuery { scope: Scope::domain("domain-78.example"), limit: 100, ..ListQuery::default() };
        assert!(world.queue.list(&query).entries.len() >= 90);
    });
    steps("a page of everything", DOMAINS + 2 * PAGE_MAX as u64, &|| {
        let query = ListQuery { limit: PAGE_MAX, ..ListQuery::default() };
        assert_eq!(world.queue.list(&query).entries.len(), PAGE_MAX);
    });
    steps("suspension of a domain", 10, &|| {
        world.queue.suspend(Scope::domain("domain-79.example"), None, "").unwrap();
    });
    let begin = std::time::Instant::now();
    let hash = 123_456;
    let find = Find { recipient_hash: Some(hash), limit: 10, ..Find::default() };
    let found = world.queue.find(&find);
    println!("search over a million: {:?} (unoptimised build)", begin.elapsed());
    assert!(found.entries.len() <= 1 && found.next.is_none());

    // Nothing is done before the first delayed message is due, whatever time passes.
    let idle = || while world.queue.with(|state, now| matches!(state.step(now), crate::scheduler::Step::Again)) {};
    idle();
    world.advance_s(500);
    steps("five hundred quiet seconds", 60_000, &idle);

    let mut purge = world.queue.purge(&Scope::all());
    let mut purged = 0;
    loop {
        let before = world.queue.with(|state, _| state.steps);
        let chunk = purge.next_chunk(512);
        assert!(world.queue.with(|state, _| state.steps) - before < 2048);
        if chunk.is_empty() {
            break;
        }
        purged += chunk.len();
        chunk.into_iter().for_each(|taken| world.queue.failed(taken));
    }
    println!("purged {purged}");
    let overview = world.queue.overview();
    assert_eq!(overview.total(), 0);
    println!("{} octets when empty", overview.heap_bytes);
    assert!(overview.heap_bytes < 30 << 20, "memory is given back: {}", overview.heap_bytes);
}

#[test]
fn empty_queues_are_forgotten_beyond_a_number() {
    let world = World::plain();
    for domain in 0..20_000 {
        world.push("b", &format!("d{domain}"));
        assert_eq!(world.run(), 1);
    }
    let queues = world.queue.queues(&Scope::all()).len();
    assert!((16_000..=16_500).contains(&queues), "{queues}");
    assert_eq!(world.queue.bindings()[0].counters.deliveries, 20_000, "bindings keep their counters");
}
