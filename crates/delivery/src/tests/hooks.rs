//! The hooks of delivery, by real scripts.

use super::*;
use arc_swap::ArcSwap;
use ph_policy::{Log, LogLevel, Policy, Script, Services, Settings};

/// What scripts print.
#[derive(Default)]
struct Printed(Mutex<Vec<String>>);

impl Log for Printed {
    fn panic(&self, _: LogLevel, _: &str, text: &str) {
        self.0.lock().push(text.to_owned());
    }

    fn is_on(&self, _: LogLevel) -> bool {
        true
    }
}

async fn with_policy(peer: &Peer, functions: &str, clock: Clock) -> (World, Arc<Printed>) {
    let config = format!("remote_smtp_port = {}", peer.address.port());
    let mut world = World::new(&config, &zone_of(peer), clock).await;
    let source =
        format!("require(\"msys.core\")\nlocal mod = {{}}\n{functions}\nmsys.registerModule(\"policy\", mod)\n");
    std::fs::write(world.folder.path().join("policy.lua"), source).unwrap();
    let printed = Arc::new(Printed::default());
    let script = Script { name: "policy".into(), source: "policy".into(), place: "test:1".into() };
    let folder = Some(world.folder.path().to_owned());
    let settings = Settings { scripts: vec![script], folder, ..Settings::default() };
    let policy = match Policy::load(Services::without_engine(printed.clone()), settings).await {
        Ok(policy) => policy,
        Err(errors) => panic!("{errors}"),
    };
    world.policy = Some(Arc::new(ArcSwap::from_pointee(policy)));
    world.start();
    (world, printed)
}

const LOGGING: &str = r#"
for _, kind in ipairs({"delivery", "transient_failure", "permanent_failure", "attempt"}) do
  mod["core_log_" .. kind .. "_v1"] = function(self, msg, dr, now, note, note_len)
    print(kind .. " " .. msg:rcptto() .. " " .. tostring(note) .. " " .. tostring(note_len))
  end
end
"#;

#[tokio::test]
async fn every_outcome_is_told_to_the_policy() {
    let peer = Peer::start(&[("RCPT TO:<no@", "550 no"), ("RCPT TO:<later@", "450 later")]).await;
    let (world, printed) = with_policy(&peer, LOGGING, Clock::system()).await;
    for name in ["yes", "no", "later"] {
        world.push("", &format!("{name}@d.example")).await;
    }
    world.wait_for("D", 1).await;
    world.wait_for("P", 1).await;
    world.wait_for("T", 1).await;
    until("six calls", || (printed.0.lock().len() >= 6).then_some(())).await;
    let lines = printed.0.lock().join("\n");
    for wanted in [
        "delivery yes@d.example 250 taken 9",
        "attempt yes@d.example 250 taken 9",
        "permanent_failure no@d.example 550 no 6",
        "transient_failure later@d.example 450 later 9",
        "attempt later@d.example 450 later 9",
    ] {
        assert!(lines.contains(wanted), "{wanted} in {lines}");
    }
}

#[tokio::test]
async fn a_policy_chooses_the_next_attempt() {
    let peer = Peer::start(&[("RCPT", "450 later")]).await;
    let functions = "
function mod:core_ec_message_set_next_attempt(msg, now, rv)
  rv.value = now.tv_sec + 77
  return 1
end";
    let (world, _) = with_policy(&peer, functions, Clock::fake(START)).await;
    world.push("", "r@d.example").await;
    world.wait_for("T", 1).await;
    until("a delayed message", || (world.queue.overview().delayed == 1).then_some(())).await;
    let at = ph_queue::QueueRef::new("", "", "d.example");
    let next = world.queue.queues(&ph_queue::Scope::of(&at))[0].next_due.unwrap();
    assert_eq!(next.since(START).as_secs(), 77);
}

#[tokio::test]
async fn an_error_in_a_hook_loses_no_mail() {
    let peer = Peer::start(&[]).await;
    let functions = "function mod:core_log_delivery_v1(msg) error('oh') end";
    let (world, printed) = with_policy(&peer, functions, Clock::system()).await;
    world.push("", "r@d.example").await;
    world.wait_for("D", 1).await;
    world.drained().await;
    assert!(printed.0.lock().iter().any(|line| line.contains("oh")));
}
