//! Runs `conformance/<table>.lua`: every function of the API has its block there, or this fails. The examples of the reference pages
//! run in the same hooks.

mod common;

use common::{Site, envelope, mailbox, recipient};
use futures_util::future::BoxFuture;
use ph_message::{Content, Envelope, Id, Mailbox, Time};
use ph_policy::{HookCall, Inject, Message, Options, Policy, Routes, Session, SessionCounts};
use std::collections::{BTreeMap, HashSet};
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;

struct Engine;

impl SessionCounts for Engine {
    fn count(&self, address: IpAddr, prefix: u8, service: &str) -> u64 {
        match (address.to_string().as_str(), prefix, service.to_ascii_lowercase().as_str()) {
            ("192.0.2.7", 32, "smtp") => 3,
            ("192.0.2.7", 24, "smtp") => 24,
            ("192.0.2.7", 32, "control") => 1,
            _ => 0,
        }
    }
}

impl Routes for Engine {
    fn binding(&self, name: &str) -> Option<String> {
        match name {
            "b1" => Some("g".to_owned()),
            "default" => Some(String::new()),
            _ => None,
        }
    }

    fn choose(&self, group: &str) -> Option<String> {
        (group == "g").then(|| "b1".to_owned())
    }

    fn slot_of(&self, binding: &str) -> Option<i64> {
        ["default", "b1"].iter().position(|name| *name == binding).map(|slot| slot as i64)
    }

    fn binding_in_slot(&self, slot: i64) -> Option<(String, String)> {
        let (name, group) = [("default", ""), ("b1", "g")].get(usize::try_from(slot).ok()?)?;
        Some(((*name).to_owned(), (*group).to_owned()))
    }

    fn group_size(&self, group: &str) -> usize {
        usize::from(group == "g")
    }

    fn gateway(&self, _: &str, _: &str) -> Option<String> {
        None
    }

    fn delivery_method(&self, _: &str, _: &str) -> String {
        "esmtp".to_owned()
    }
}

impl Inject for Engine {
    /// Takes everything; for one sender it tells in the text of a refusal what it was given.
    fn inject(
        &self,
        envelope: Envelope,
        content: Content,
        to: Vec<Mailbox>,
    ) -> BoxFuture<'static, Result<Vec<Id>, String>> {
        let shown = (envelope.sender.local == "show").then(|| {
            let to: Vec<String> = to.iter().map(ToString::to_string).collect();
            let raw = content.to_bytes().unwrap();
            let (bits, generation) = (if envelope.eight_bit { 8 } else { 7 }, envelope.generation);
            format!("{} generation {generation} {bits}bit\n{}", to.join(" "), String::from_utf8_lossy(&raw))
        });
        let ids = (1..=to.len() as u64).map(Id).collect();
        Box::pin(async move { shown.map_or(Ok(ids), Err) })
    }
}

impl Options for Engine {
    fn hostname(&self) -> String {
        "mx.example".to_owned()
    }
}

const RAW: &str = "Received: here\r\nX-A: 1\r\nSubject: hello\r\n there\r\nX-A: 2\r\nX-Word: =?UTF-8?Q?caf=C3=A9_x?=\r\n\r\na\r\nb\r\n";

/// A session and a message as they are in the middle of a transaction.
fn fixture(index: usize, with_content: bool) -> (Arc<Session>, Arc<Message>) {
    let session = common::session();
    {
        let mut state = session.state.lock();
        state.conn.set("block", index.to_string().into_bytes());
        state.mess.set("mailfrom_domain", &b"Example.COM"[..]);
        state.recipients = vec![recipient("a@x.example"), recipient("b@y.example")];
    }
    let mut envelope = envelope("a@b.c", "b@y.example");
    envelope.sender = mailbox("Joe+x@Example.COM");
    let content = with_content.then(|| Content::parse(RAW.into()));
    let message = Message::in_session(envelope, content, &session);
    (session, message)
}

async fn run(policy: &Policy, phase: &str, index: usize) {
    let content = !["connect", "ehlo", "mailfrom", "rcptto", "rcptto_list"].contains(&phase);
    let (session, message) = fixture(index, content);
    session.begin_phase(if phase == "connect" { 220 } else { 250 });
    if phase == "queue" {
        let mut state = message.state.lock();
        (state.delivery.retries, state.delivery.next_attempt) = (3, Time::from_secs(77));
    }
    let (session, message) = (&session, &message);
    let call = match phase {
        "connect" => HookCall::ValidateConnect { session },
        "ehlo" => HookCall::ValidateEhlo { command: b"EHLO mail.example\r\n", session },
        "mailfrom" => HookCall::ValidateMailfrom { command: b"MAIL FROM:<Joe+x@Example.COM>\r\n", session, message },
        "rcptto" => HookCall::ValidateRcptto { message, command: b"RCPT TO:<b@y.example>\r\n", session },
        "rcptto_list" => HookCall::ValidateRcpttoList { session, message },
        "data" => HookCall::ValidateData { message, session },
        "data_spool" => HookCall::ValidateDataSpool { message, session },
        "list_final" => HookCall::ValidateRcpttoListFinal { session, message },
        "each_rcpt" => HookCall::ValidateDataSpoolEachRcpt { message, session },
        "set_binding" => HookCall::ValidateSetBinding { message },
        "queue" => HookCall::CoreLogDeliveryV1 { message, domain: "y.example", now: Time::from_secs(1), note: "" },
        other => panic!("no phase is named {other}"),
    };
    policy.call(&call).await.unwrap();
}

/// What became of the blocks of one file.
struct Outcome {
    /// One name for each block.
    proved: Vec<String>,
    failures: Vec<String>,
}

/// Runs the blocks of `source`, each in a hook of its phase.
async fn run_blocks(table: &str, source: &str) -> Outcome {
    let harness = std::fs::read_to_string(folder().join("harness.lua")).unwrap();
    let authority = common::engine::authority().await;
    // A port that takes questions and never answers.
    let silent = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let mut site = Site::with(&[("harness", &harness), (table, source)]);
    let file = site.folder.path().join("data");
    std::fs::write(&file, b"one\0two\r\n").unwrap();
    let (data, dns, dead) = (file.display(), authority.address(), silent.local_addr().unwrap());
    let prelude = format!("data_file, dns_server, dead_server = '{data}', '{dns}', '{dead}'");
    std::fs::write(site.folder.path().join("harness.lua"), format!("{prelude} {harness}")).unwrap();
    let engine = Arc::new(Engine);
    site.services.sessions = engine.clone();
    site.services.routes = engine.clone();
    site.services.inject = engine.clone();
    site.services.options = engine;
    common::engine::furnish(&mut site.services, &authority);
    let policy = site.load().await;
    let blocks: Vec<(usize, String, String)> = site
        .log
        .all()
        .iter()
        .filter_map(|line| line.strip_prefix("block "))
        .map(|line| {
            let mut words = line.splitn(3, ' ');
            let index = words.next().unwrap().parse().unwrap();
            (index, words.next().unwrap().to_owned(), words.next().unwrap().to_owned())
        })
        .collect();
    assert!(!blocks.is_empty(), "{table}");
    let mut outcome = Outcome { proved: Vec::new(), failures: Vec::new() };
    for (index, phase, name) in blocks {
        if phase != "load" {
            run(&policy, &phase, index).await;
        }
        let lines = site.log.all();
        if !lines.iter().any(|line| *line == format!("ok {index}")) {
            let why = lines.iter().find(|line| line.starts_with(&format!("failed {index} ")));
            outcome.failures.push(format!("{name} ({phase}): {}", why.map_or("did not run", String::as_str)));
        }
        outcome.proved.push(name);
    }
    outcome
}

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../conformance")
}

fn field<'a>(function: &'a serde_json::Value, name: &str) -> &'a str {
    function[name].as_str().unwrap()
}

/// The declared functions, each table's for itself.
fn declared() -> BTreeMap<String, Vec<serde_json::Value>> {
    let mut tables: BTreeMap<String, Vec<serde_json::Value>> = BTreeMap::new();
    for function in ph_policy::lua_api_json().as_array().unwrap() {
        tables.entry(field(function, "table").to_owned()).or_default().push(function.clone());
    }
    tables
}

#[tokio::test]
async fn every_function_does_what_its_block_says() {
    let mut failures = Vec::new();
    for (table, functions) in declared() {
        let Ok(source) = std::fs::read_to_string(folder().join(format!("{table}.lua"))) else {
            failures.push(format!("{table} has no conformance/{table}.lua"));
            continue;
        };
        let outcome = run_blocks(&table, &source).await;
        failures.extend(outcome.failures);
        let names: HashSet<&str> = functions.iter().map(|function| field(function, "name")).collect();
        for name in &names {
            // Two forms of one name need two blocks at least.
            let forms = functions.iter().filter(|function| field(function, "name") == *name).count();
            let blocks = outcome.proved.iter().filter(|proved| proved == name).count();
            if blocks < forms {
                failures.push(format!("{name} has {blocks} blocks in conformance/{table}.lua for its {forms} forms"));
            }
        }
        for proved in outcome.proved.iter().filter(|proved| !names.contains(proved.as_str())) {
            failures.push(format!("conformance/{table}.lua has a block for {proved}, which the table does not have"));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

/// The phase in which an example runs: the first one that its function is documented for.
fn phase_of_example(function: &serde_json::Value) -> &'static str {
    let registers = field(function, "example").contains("msys.registerModule(");
    match field(function, "phases").split(", ").next() {
        Some("init") => "load",
        _ if registers => "load",
        Some("connect") => "connect",
        Some("mailfrom") => "mailfrom",
        Some("rcptto") => "rcptto",
        Some("data") => "data",
        Some("data_spool_each_rcpt") => "each_rcpt",
        Some("set_binding") => "set_binding",
        _ => "data_spool",
    }
}

#[tokio::test]
async fn every_example_of_the_reference_runs() {
    let mut failures = Vec::new();
    for (table, functions) in declared() {
        let mut source = String::new();
        for function in &functions {
            let (name, phase, example) =
                (field(function, "name"), phase_of_example(function), field(function, "example"));
            source.push_str(&format!(
                "block(\"{name}\", \"{phase}\", function(t)\nlocal msg, ac, vctx = t.msg, t.ac, t.vctx\n{example}end)\n"
            ));
        }
        let outcome = run_blocks(&format!("{table}_examples"), &source).await;
        failures.extend(outcome.failures);
        assert_eq!(outcome.proved.len(), functions.len(), "{table}");
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

/// How a block gets at an object of the class that a method belongs to.
fn object_of(owner: &str) -> &'static str {
    match owner {
        "msg" => "t.msg",
        "msgpart" => "t.msg:mime(false)",
        "ac" => "t.ac",
        "vctx" => "t.vctx",
        "ec_string" => "msys.core.string_new()",
        other => panic!("nothing makes a {other}"),
    }
}

#[tokio::test]
async fn every_function_refuses_a_missing_argument_as_its_page_says() {
    let mut failures = Vec::new();
    for (table, functions) in declared() {
        let mut source = String::new();
        let mut seen = HashSet::new();
        for function in &functions {
            let name = field(function, "name");
            let first = &function["arguments"][0];
            let is_required = first["optional"] == false && first["type"] != "value";
            // Which form of a name is meant the arguments tell: only the first can lack one.
            if !seen.insert(name) || !is_required {
                continue;
            }
            let (phase, package) = (phase_of_example(function), field(function, "package"));
            let call = match name.split_once(':') {
                Some((owner, method)) => format!("local o = {} local f, o = o.{method}, o", object_of(owner)),
                None => format!("pcall(require, \"{package}\") local f, o = {name}, nil"),
            };
            let arguments = if name.contains(':') { ", o" } else { "" };
            source.push_str(&format!(
                "block(\"{name}\", \"{phase}\", function(t) {call} raises(\"bad argument #1 to '{name}' (\", f{arguments}) end)\n"
            ));
        }
        if !source.is_empty() {
            failures.extend(run_blocks(&format!("{table}_arguments"), &source).await.failures);
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}
