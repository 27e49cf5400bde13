//! Changed options hold for mail that already waits; and the real options, read from a configuration.

use super::*;
use crate::limits::OwnerKey;
use crate::retry::{EXCEEDED_TIME, MaxRetries, RetryRules, Verdict};
use crate::{Orphan, Queue};
use arc_swap::ArcSwap;
use ph_config::Config;

#[test]
fn a_lower_cap_makes_connections_leave_and_a_higher_one_is_used_at_once() {
    let world = World::with(Limits { eager: true, connections_max: 4, ..Limits::default() });
    world.push_many("b", "d", 100);
    let mut open = world.connections();
    assert_eq!(open.len(), 4);
    world.options.set(|_| Limits { eager: true, connections_max: 2, ..Limits::default() });
    assert!(world.queue.take(&open[0], 1).is_empty());
    drop(open.remove(0));
    assert_eq!(now_or_never(world.queue.wait_for_work(&open[0], Duration::from_secs(5))), Some(false));
    drop(open.remove(0));
    assert_eq!(world.queue.take(&open[0], 1).len(), 1);
    world.options.set(|_| Limits { eager: true, connections_max: 6, ..Limits::default() });
    assert_eq!(world.connections().len(), 4);
}

#[test]
fn a_lower_expiration_fails_old_mail_at_its_next_attempt() {
    let world = World::plain();
    world.push("b", "d");
    world.advance_s(1000);
    let rules = RetryRules { message_expiration_s: 500, ..RetryRules::default() };
    world.options.set(move |_| Limits { retry: rules, ..Limits::default() });
    let permit = world.connection().unwrap();
    let taken = world.queue.take(&permit, 1).remove(0);
    assert_eq!(world.queue.decide(&taken), Verdict::Final(EXCEEDED_TIME));
}

#[test]
fn a_raised_pool_is_used_by_those_who_wait_for_it() {
    let world = World::new(|_| Limits { scope_max: Some((OwnerKey(1), 1)), ..Limits::default() });
    for domain in ["a", "b", "c", "d"] {
        world.push("x", domain);
    }
    let first = world.connections();
    assert_eq!(first.len(), 1);
    world.options.set(|_| Limits { scope_max: Some((OwnerKey(1), 3)), ..Limits::default() });
    let more = world.connections();
    assert_eq!(more.len(), 2, "the open one still counts");
    world.options.set(|_| Limits::default());
    assert_eq!(world.connections().len(), 1);
    drop((first, more));
    assert_eq!(world.queue.overview().connections, 0);
}

#[tokio::test]
async fn a_sleeping_dispatcher_hears_of_a_reload() {
    let world = World::with(Limits { suspend: true, ..Limits::default() });
    world.push("b", "d");
    let waiter = tokio::spawn({
        let queue = world.queue.clone();
        async move { queue.next_connection().await.queue().clone() }
    });
    tokio::task::yield_now().await;
    world.options.set(|_| Limits::default());
    world.queue.config_changed();
    assert_eq!(waiter.await.unwrap(), at("b", "d"));
}

#[test]
fn the_mail_of_a_binding_that_went_moves_to_default() {
    let world = World::plain();
    *world.options.bindings.write() = vec![("g", "old"), ("g", "stays"), ("g", "moves")];
    world.options.bump();
    let push = |binding: &str| {
        let summary = Summary { binding_group: "g".into(), ..world.summary(binding, "d") };
        let id = summary.id;
        world.queue.push(SpoolKey(id.0 as u32), summary);
        id
    };
    let old: Vec<Id> = (0..1200).map(|_| push("old")).collect();
    let (stays, moves) = (push("stays"), push("moves"));
    world.queue.delay_one(old[5], START.plus_secs(77)).unwrap();
    let permit = world.connection().unwrap();
    assert_eq!(permit.queue().binding, "old");
    let in_hand = world.queue.take(&permit, 1);
    *world.options.bindings.write() = vec![("g", "stays"), ("h", "moves")];
    world.options.bump();
    let open = world.connections();
    assert!(open.iter().all(|permit| permit.queue().binding != "old"));
    let place = |id: Id| world.queue.entry(id).unwrap().at;
    assert_eq!(place(old[5]), QueueRef::new("default", "default", "d"));
    assert_eq!(world.queue.entry(old[5]).unwrap().next_attempt, START.plus_secs(77));
    assert_eq!(place(stays), QueueRef::new("g", "stays", "d"));
    assert_eq!(place(moves), QueueRef::new("h", "moves", "d"));
    world.queue.give_back_all(in_hand);
    assert_eq!(place(old[0]), QueueRef::new("default", "default", "d"));
    let mut orphans = world.queue.orphans();
    orphans.sort_by(|a, b| a.binding.cmp(&b.binding));
    let orphan = |binding: &str, moved| Orphan { group: "g".into(), binding: binding.into(), moved };
    assert_eq!(orphans, [orphan("moves", 1), orphan("old", 1200)]);
    assert_eq!(place(push("old")), QueueRef::new("default", "default", "d"), "new mail too");
    assert_eq!(world.queue.count(&crate::Scope::all()), 1203);
}

#[test]
fn a_reload_looks_at_queues_in_pieces() {
    let world = World::with(Limits { suspend: true, ..Limits::default() });
    for n in 0..2000 {
        world.push("b", &format!("d{n}"));
    }
    let before = world.queue.with(|state, _| state.steps);
    world.options.bump();
    world.queue.with(|state, now| _ = state.step(now));
    let steps = world.queue.with(|state, _| state.steps) - before;
    assert!(steps < 2000, "one step looked at {steps}");
    world.options.set(|_| Limits::default());
    assert_eq!(world.run(), 2000);
}

const FILE: &str = r#"
    max_outbound_connections = 60
    server_max_outbound_connections = 15000
    outbound_throttle_messages = "20000"
    never_attempt_expired_messages = true
    Binding_Group brand-a {
      message_expiration = 172800
      Binding a-1 { bind_address = 192.0.2.11 }
      Binding a-2 { bind_address = 192.0.2.12  server_max_outbound_connections = 40
        domain gmail.com { max_outbound_connections = 12  max_retries = 3 } }
      Domain "/(^|\.)(hotmail|outlook|live)\.[a-z.]+$/" {
        outbound_throttle_messages = 3000/60
        outbound_throttle_connections = "10/60"
        scope_max_outbound_connections = 25
      }
    }
    binding "default" { suspend_delivery = true }
    domain slow.example { retry_interval = 60 max_retry_interval = 600 max_retries = none
      connection_allocation_aggressiveness = high }
    host "mx.slow.example" { max_outbound_connections = 2 }
"#;

fn configured(text: &str) -> (Queue, Arc<ArcSwap<Config>>) {
    let config = match Config::parse("test.conf", text) {
        Ok(loaded) => loaded.config,
        Err(report) => panic!("{report}"),
    };
    let config = Arc::new(ArcSwap::from_pointee(config));
    (Queue::new(config.clone(), Clock::fake(START)), config)
}

#[test]
fn options_are_read_with_fallback_and_owners() {
    let (queue, _) = configured(FILE);
    let of = |group: &str, binding: &str, domain: &str| queue.limits(&QueueRef::new(group, binding, domain));
    assert_eq!(of("brand-a", "a-2", "gmail.com").connections_max, 12);
    assert_eq!(of("brand-a", "a-2", "gmail.com").retry.max_retries, MaxRetries::Count(3));
    assert_eq!(of("brand-a", "a-1", "gmail.com").connections_max, 60);
    assert_eq!((of("brand-a", "a-2", "x").binding_max, of("brand-a", "a-1", "x").binding_max), (40, crate::UNLIMITED));
    assert_eq!(of("brand-a", "a-1", "x").retry.message_expiration_s, 172_800);
    assert!(of("", "", "x").suspend);
    let (live, outlook) = (of("brand-a", "a-1", "live.co.uk"), of("brand-a", "a-2", "outlook.com"));
    assert_eq!(live.messages.unwrap().1, crate::Rate { count: 3000, per_s: 60 });
    assert_eq!((live.messages, live.scope_max), (outlook.messages, outlook.scope_max), "one bucket, one pool");
    assert_ne!(live.messages.map(|m| m.0), live.connects.map(|m| m.0));
    assert_ne!(live.messages, of("brand-a", "a-1", "x").messages);
    assert_eq!(of("brand-a", "a-1", "x").messages, of("", "", "y").messages, "the global one");
    let slow = of("brand-a", "a-1", "slow.example");
    assert_eq!((slow.retry.interval_s(0), slow.retry.interval_s(9)), (60, 600));
    assert_eq!((slow.retry.max_retries, slow.eager, slow.retry.never_attempt_expired), (MaxRetries::None, true, true));
    assert_eq!(queue.0.settings.host("brand-a", "a-1", "mx.slow.example").connections_max, 2);
    assert_eq!(queue.0.settings.host("brand-a", "a-1", "other").connections_max, crate::UNLIMITED);
    assert_eq!(queue.0.settings.server().connections_max, 15_000);
}

#[test]
fn without_a_file_the_documented_defaults_hold() {
    let (queue, _) = configured("");
    let limits = queue.limits(&QueueRef::new("", "", "x"));
    assert_eq!(limits, Limits { scope_max: limits.scope_max, ..Limits::default() });
    assert_eq!(queue.0.settings.server(), ServerLimits::default());
}

#[test]
fn mail_without_its_group_finds_the_group_of_its_binding() {
    let (queue, config) = configured(FILE);
    let summary = Summary { id: Id(5), binding: "a-1".into(), domain: "x".into(), ..Summary::default() };
    queue.push(SpoolKey(5), summary);
    assert_eq!(queue.entry(Id(5)).unwrap().at, QueueRef::new("brand-a", "a-1", "x"));
    let stopped = format!("{FILE} binding_group brand-a {{ suspend_delivery = true }}");
    config.store(Arc::new(Config::parse("test.conf", &stopped).expect("a good file").config));
    queue.config_changed();
    assert!(now_or_never(queue.next_connection()).is_none());
    config.store(Arc::new(Config::parse("test.conf", FILE).expect("a good file").config));
    queue.config_changed();
    assert!(now_or_never(queue.next_connection()).is_some());
}

#[test]
fn a_suspended_default_binding_keeps_what_no_policy_bound() {
    let of = |text: &str, binding: &str| {
        let (queue, _) = configured(&format!("binding b {{ }} {text}"));
        queue.limits(&QueueRef::new("", binding, "d.example")).suspend
    };
    assert!(of("default_binding = suspended", ""));
    assert!(!of("default_binding = suspended", "b"));
    assert!(!of("default_binding = suspended domain d.example { suspend_delivery = false }", ""));
    assert!(!of("default_binding = none", ""));
}
