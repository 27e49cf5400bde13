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
    with_policy_and(peer, "", functions, clock).await
}

async fn with_policy_and(peer: &Peer, config: &str, functions: &str, clock: Clock) -> (World, Arc<Printed>) {
    let config = format!("remote_smtp_port = {} idle_timeout = 1 {config}", peer.address.port());
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

#[tokio::test]
async fn a_policy_decides_whether_a_failure_is_reported() {
    let functions = "
function mod:core_generate_bounces(msg, enabled)
  print('asked ' .. msg:rcptto() .. ' ' .. enabled.value)
  local wanted = string.match(msg:rcptto(), '^(%w+)')
  if wanted == 'yes' or wanted == 'no' then
    enabled.value = wanted == 'yes' and 1 or 0
    return GENERATE_BOUNCES_HOOK_OK
  end
  enabled.value = 0 -- left there without an answer
  return GENERATE_BOUNCES_HOOK_CONT
end";
    // By default there are reports; where they are off, the policy may have one all the same.
    for (option, value, reported) in [("", 1, vec!["yes", "silent"]), (" generate_bounces = false", 0, vec!["yes"])] {
        let peer = Peer::start(&[("RCPT", "550 no")]).await;
        let (world, printed) = with_policy_and(&peer, option, functions, Clock::system()).await;
        for name in ["yes", "no", "silent"] {
            world.push(&format!("{name}@x.example"), &format!("{name}@d.example")).await;
        }
        world.wait_for("P", 3).await;
        world.drained().await;
        let mut to: Vec<String> =
            world.injected.taken.lock().iter().map(|(report, _)| report.recipient.local.to_string()).collect();
        to.sort_unstable();
        let mut wanted = reported;
        wanted.sort_unstable();
        assert_eq!(to, wanted, "{option}");
        assert!(printed.0.lock().iter().any(|line| *line == format!("asked no@d.example {value}")));
    }
}

#[tokio::test]
async fn a_policy_sets_the_retry_rules_of_a_message() {
    let peer = Peer::start(&[("RCPT", "450 later")]).await;
    let functions = "
function mod:core_get_msg_expiration_params(msg, exp, retry, max)
  print(table.concat({ 'rules', exp.value, retry.value, max.value }, ' '))
  if msg:rcptto() ~= 'short@d.example' then return 0 end
  if msg.num_retries == 0 then
    retry.value = 77
  else
    max.value = 1
  end
  return 1
end";
    let (world, printed) = with_policy(&peer, functions, Clock::fake(START)).await;
    world.push("", "short@d.example").await;
    world.wait_for("T", 1).await;
    until("a delayed message", || (world.queue.overview().delayed == 1).then_some(())).await;
    let at = ph_queue::QueueRef::new("", "", "d.example");
    let next = world.queue.queues(&ph_queue::Scope::of(&at))[0].next_due.unwrap();
    assert_eq!(next.since(START).as_secs(), 77);
    assert!(printed.0.lock().iter().any(|line| line == "rules 86400 1200 -1"), "{:?}", printed.0.lock());
    // One retry is allowed, and used up.
    world.clock.advance(Duration::from_secs(77));
    let failed = world.wait_for("P", 1).await;
    assert!(failed[0].iter().any(|field| field.contains("exceeded max retries")), "{failed:?}");
}

#[tokio::test]
async fn a_policy_says_who_to_log_in_as() {
    let peer = Peer::start(&[("EHLO", "250-p\r\n250 AUTH PLAIN"), ("AUTH", "235 ok")]).await;
    let functions = "
function mod:outbound_smtp_auth_config(msg, ac, vctx)
  if msg:rcptto() == 'plain@d.example' then return end
  for key, value in pairs({ type = 'PLAIN', user = 'u', pass = 'p' }) do
    msg:context_set(msys.core.VCTX_MESS, 'outbound_smtp_auth_' .. key, value)
  end
end";
    let (world, _) = with_policy(&peer, functions, Clock::system()).await;
    world.push("", "plain@d.example").await;
    world.drained().await;
    assert!(peer.commands("AUTH").is_empty());
    world.push("", "r@d.example").await;
    world.drained().await;
    assert_eq!(peer.commands("AUTH"), ["AUTH PLAIN AHUAcA=="]);
}

#[tokio::test]
async fn a_policy_changes_the_tls_of_a_connection() {
    // The peer has none: with TLS required nothing goes to it, and the options alone would not care.
    let peer = Peer::start(&[]).await;
    let functions = "
function mod:core_get_outbound_tls_parameters(msg, params)
  print('tls ' .. params.use_tls)
  if msg:rcptto() == 'secret@d.example' then params.use_tls = 2 end
  if msg:rcptto() == 'odd@d.example' then params.tls_verify = 'perhaps' end
end";
    let (world, printed) = with_policy(&peer, functions, Clock::system()).await;
    for (name, kind) in [("open", "D"), ("odd", "D"), ("secret", "T")] {
        let before = world.lines_of(kind).len();
        world.push("", &format!("{name}@d.example")).await;
        let lines = world.wait_for(kind, before + 1).await;
        let tls = "STARTTLS required but not advertised";
        assert_eq!(lines.last().unwrap().iter().any(|field| field.contains(tls)), name == "secret", "{lines:?}");
        // The next one gets a connection of its own.
        until("an idle host", || (world.handle.as_ref().unwrap().connection_count() == 0).then_some(())).await;
    }
    assert_eq!(peer.look(|seen| seen.contents.len()), 2);
    assert!(printed.0.lock().iter().any(|line| line == "tls 0"));
    let panics = std::fs::read_to_string(world.folder.path().join("paniclog")).unwrap_or_default();
    assert!(panics.contains("tls_verify is no, ca, host or optional, not 'perhaps'"), "{panics}");
}
