//! `posthaste run-policy`: the hooks of a policy over messages, without a server: what each did, and what became of the message.

mod diff;
mod letters;
mod snapshot;
mod stage;
pub mod world;

use crate::cli::RunPolicyArgs;
use anyhow::{Context, Result, bail};
use letters::Letter;
use ph_message::Mailbox;
use serde_json::{Value, json};
use stage::{Copy, Fate, Outcome, Step};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::process::ExitCode;
use world::World;

pub use letters::with_crlf;
pub use stage::Scene;

/// One message through the hooks of a policy; the outcome as `--json` has it, with the header fields of each copy.
pub async fn send(world: &World, scene: &Scene, letter: &Letter) -> Value {
    let outcome = stage::run(world, scene, letter).await;
    let mut value = as_json(&outcome);
    let copies = value["copies"].as_array_mut().map(Vec::as_mut_slice).unwrap_or_default();
    for (value, copy) in copies.iter_mut().zip(&outcome.copies) {
        let mut headers: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for field in copy.content.iter().flat_map(|content| content.headers()) {
            let name = String::from_utf8_lossy(field.name).to_ascii_lowercase();
            headers.entry(name).or_default().push(String::from_utf8_lossy(&field.unfolded()).into_owned());
        }
        value["headers"] = json!(headers);
    }
    value
}

/// A message that stands in no file.
pub fn letter_of(text: &str) -> Letter {
    Letter { name: "message".to_owned(), bytes: with_crlf(text.as_bytes()), sender: None }
}

pub fn run(args: &RunPolicyArgs) -> Result<ExitCode> {
    let scene = scene(args)?;
    let mut letters = Vec::new();
    for place in &args.message {
        letters.extend(letters::read(place)?);
    }
    if letters.is_empty() {
        bail!("there is no message in {}", args.message[0].display());
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let outcomes = runtime.block_on(async {
        let world = World::load(&args.policy, &args.hostname, args.dns).await?;
        for line in world.said.take() {
            eprintln!("while loading: {line}");
        }
        let mut outcomes = Vec::with_capacity(letters.len());
        for letter in &letters {
            let mut outcome = stage::run(&world, &scene, letter).await;
            if letters.len() > 1 && !args.json {
                outcome.forget_messages(); // A summary does not show them.
            }
            outcomes.push(outcome);
        }
        world.policy.deinit().await;
        anyhow::Ok(outcomes)
    })?;
    match (args.json, outcomes.as_slice()) {
        (true, outcomes) => {
            let list: Vec<Value> = outcomes.iter().map(as_json).collect();
            println!("{}", serde_json::to_string_pretty(&list)?);
        }
        (false, [outcome]) => print!("{}", shown(outcome)),
        (false, outcomes) => print!("{}", summary(outcomes)),
    }
    // A policy that refuses did what it should; one that raises did not.
    let failed = outcomes.iter().any(Outcome::failed);
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn scene(args: &RunPolicyArgs) -> Result<Scene> {
    let sender = |text: &str| Mailbox::parse_sender(text, true).with_context(|| format!("--from {text}"));
    let recipient = |text: &String| Mailbox::parse(text, true).with_context(|| format!("--to {text}"));
    let pair = |text: &String| match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => bail!("--context {text}: KEY=VALUE is wanted"),
    };
    Ok(Scene {
        from: args.from.as_deref().map(sender).transpose()?,
        to: args.to.iter().map(recipient).collect::<Result<_>>()?,
        client: (args.ip, 2525).into(),
        helo: args.helo.clone(),
        context: args.context.iter().map(pair).collect::<Result<_>>()?,
    })
}

/// One message in full.
fn shown(outcome: &Outcome) -> String {
    let mut out = format!("{}: from <{}>\n\n", outcome.name, outcome.sender);
    let width = outcome.steps.iter().map(|step| step.hook.len()).max().unwrap_or(0);
    for step in &outcome.steps {
        show_step(&mut out, step, width);
    }
    if outcome.steps.is_empty() {
        out.push_str("no hook of the policy was called\n");
    }
    for copy in &outcome.copies {
        show_copy(&mut out, copy, outcome);
    }
    let at = outcome.at.map_or_else(String::new, |at| format!(" at {at}"));
    let _ = writeln!(out, "\n{}{at}: {}   ({} in hooks)", outcome.fate.name(), outcome.reply, time(outcome.time_us()));
    out
}

fn show_step(out: &mut String, step: &Step, width: usize) {
    let modules: Vec<&str> = step.modules.iter().map(|run| run.module.as_str()).collect();
    let recipient = step.recipient.as_ref().map_or_else(String::new, |recipient| format!("  <{recipient}>"));
    let _ = writeln!(out, "{:width$}  {:>9}  {}{recipient}", step.hook, time(step.time_us), modules.join(", "));
    let lines = step.changes.iter().map(|line| ("", line));
    let lines = lines.chain(step.said.iter().map(|line| ("says: ", line)));
    for (what, line) in lines.chain(step.error.iter().map(|line| ("error: ", line))) {
        for (at, part) in line.lines().enumerate() {
            let _ = writeln!(out, "    {}{part}", if at == 0 { what } else { "    " });
        }
    }
}

fn show_copy(out: &mut String, copy: &Copy, outcome: &Outcome) {
    let line = format!("for <{}>: {} {}", copy.recipient, copy.fate.name(), copy.reason);
    let _ = writeln!(out, "\n{}", line.trim_end());
    if copy.fate == Fate::Accepted {
        let _ = writeln!(
            out,
            "  binding {} of group {}, routed to {}",
            copy.binding, copy.binding_group, copy.routing_domain
        );
    }
    for (name, dictionary) in [("CONN", &copy.conn), ("MESS", &copy.mess)] {
        for (key, value) in dictionary {
            let _ = writeln!(out, "  {name} {key} = {value:?}");
        }
    }
    match difference(copy, outcome) {
        Some(text) if text.is_empty() => out.push_str("  the message is unchanged\n"),
        Some(text) => text.lines().for_each(|line| {
            let _ = writeln!(out, "  {line}");
        }),
        None => {}
    }
}

/// The message as it is now against what came; `None` before it has come.
fn difference(copy: &Copy, outcome: &Outcome) -> Option<String> {
    let after = copy.content.as_ref()?.to_bytes().ok()?;
    Some(diff::unified(&outcome.original.to_bytes().ok()?, &after))
}

fn time(time_us: u64) -> String {
    if time_us < 10_000 { format!("{time_us} us") } else { format!("{:.1} ms", time_us as f64 / 1000.0) }
}

/// How many slow hooks a summary names.
const SLOWEST: usize = 5;

/// Many messages: one line each, then numbers.
fn summary(outcomes: &[Outcome]) -> String {
    let mut out = String::new();
    for outcome in outcomes {
        let error = if outcome.failed() { "  ERROR in a hook" } else { "" };
        let what = match (outcome.at, outcome.copies.iter().find(|copy| copy.fate == Fate::Discarded)) {
            (Some(at), _) => format!("at {at}: {}", outcome.reply),
            (None, Some(copy)) => format!("<{}> {}", copy.recipient, copy.reason),
            (None, None) => String::new(),
        };
        let (fate, took) = (outcome.fate.name(), time(outcome.time_us()));
        let _ = writeln!(out, "{fate:9}  {took:>9}  {}  {what}{error}", outcome.name);
    }
    let count = |fate: Fate| outcomes.iter().filter(|outcome| outcome.fate == fate).count();
    let _ = writeln!(
        out,
        "\n{} messages: {} accepted, {} refused, {} deferred, {} discarded; {} with errors",
        outcomes.len(),
        count(Fate::Accepted),
        count(Fate::Refused),
        count(Fate::Deferred),
        count(Fate::Discarded),
        outcomes.iter().filter(|outcome| outcome.failed()).count()
    );
    let mut hooks: BTreeMap<&str, (u64, u64, u64)> = BTreeMap::new();
    for step in outcomes.iter().flat_map(|outcome| &outcome.steps) {
        let (calls, total, worst) = hooks.entry(step.hook).or_default();
        *calls += 1;
        *total += step.time_us;
        *worst = step.time_us.max(*worst);
    }
    let mut hooks: Vec<_> = hooks.into_iter().collect();
    hooks.sort_by_key(|(_, (_, total, _))| std::cmp::Reverse(*total));
    for (hook, (calls, total, worst)) in hooks.iter().take(SLOWEST) {
        let _ =
            writeln!(out, "  {hook}: {calls} calls, {} each, {} at worst", time(total / (*calls).max(1)), time(*worst));
    }
    out
}

fn as_json(outcome: &Outcome) -> Value {
    let mut value = serde_json::to_value(outcome).unwrap_or_default();
    let copies = value["copies"].as_array_mut().map(Vec::as_mut_slice).unwrap_or_default();
    for (value, copy) in copies.iter_mut().zip(&outcome.copies) {
        value["diff"] = difference(copy, outcome).map_or(Value::Null, Value::String);
        let bytes = copy.content.as_ref().and_then(|content| content.to_bytes().ok());
        value["message"] = bytes.map_or(Value::Null, |bytes| String::from_utf8_lossy(&bytes).into());
    }
    value["time_us"] = json!(outcome.time_us());
    value["error"] = json!(outcome.failed());
    value
}
