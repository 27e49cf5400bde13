//! `posthaste test`: unit tests of policies, written in Lua, with a clock that stands still and a DNS that knows what it was told.
//!
//! Each test begins with the policy freshly loaded. Nothing leaves the process: mail that the policy sends is kept, and names
//! that no test has set do not exist. While a hook waits, time passes by itself, so that no test waits for real.

use crate::cli::TestArgs;
use crate::run_policy::world::{self, World};
use crate::run_policy::{Scene, letter_of, send};
use anyhow::{Context, Result, bail};
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use ph_config::Config;
use ph_eventlog::Clock;
use ph_message::{Mailbox, Time};
use ph_policy::{Answer, Dns, DnsQuestion, DnsRecord, DnsType, Evaluated, Phase, Session, Settings, TestScript};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

mod junit;

/// Where time begins in each test.
const BEGIN_S: i64 = 1_000_000_000;
/// A test that has not ended by then has failed.
const TEST_LIMIT: Duration = Duration::from_secs(60);
/// While a hook waits, this much of the test's time passes in each millisecond.
const PASSES: Duration = Duration::from_millis(100);

/// One test that was run.
pub(crate) struct Case {
    pub name: String,
    pub took: Duration,
    pub failure: Option<String>,
}

/// One file of tests.
pub(crate) struct Suite {
    pub name: String,
    pub cases: Vec<Case>,
}

pub fn run(args: &TestArgs) -> Result<ExitCode> {
    let files = test_files(&args.place)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut suites = Vec::new();
    for file in &files {
        let suite = runtime.block_on(run_file(file, args))?;
        suite.show();
        suites.push(suite);
    }
    let cases = || suites.iter().flat_map(|suite| &suite.cases);
    let failed = cases().filter(|case| case.failure.is_some()).count();
    println!("{} tests in {} files, {failed} failed", cases().count(), suites.len());
    if let Some(file) = &args.junit {
        std::fs::write(file, junit::report(&suites)).with_context(|| format!("cannot write {}", file.display()))?;
    }
    if cases().next().is_none() {
        bail!("no test was run");
    }
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

impl Suite {
    fn show(&self) {
        println!("{}", self.name);
        for case in &self.cases {
            let took = case.took.as_secs_f64() * 1000.0;
            println!("  {}  {} ({took:.1} ms)", if case.failure.is_some() { "FAIL" } else { "ok  " }, case.name);
            for line in case.failure.iter().flat_map(|text| text.lines()) {
                println!("        {line}");
            }
        }
    }
}

/// A test file itself, or those below a folder.
fn test_files(place: &Path) -> Result<Vec<PathBuf>> {
    if !place.is_dir() {
        return Ok(vec![place.to_owned()]);
    }
    let (mut files, mut folders) = (Vec::new(), vec![place.to_owned()]);
    while let Some(folder) = folders.pop() {
        for entry in folder.read_dir().with_context(|| format!("cannot read {}", folder.display()))? {
            let entry = entry?;
            let path = entry.path();
            // Links to folders are not followed: they may lead in a circle.
            if entry.file_type()?.is_dir() {
                folders.push(path);
            } else if path.file_name().is_some_and(|name| name.to_string_lossy().ends_with("_test.lua")) {
                files.push(path);
            }
        }
    }
    if files.is_empty() {
        bail!("there is no *_test.lua in {}", place.display());
    }
    files.sort();
    Ok(files)
}

async fn run_file(file: &Path, args: &TestArgs) -> Result<Suite> {
    let policy = match &args.policy {
        Some(policy) => policy.clone(),
        None => tested_by(file)?,
    };
    let (settings, config) = world::settings(&policy)?;
    let bench = Arc::new(Bench { settings, config: config.map(Arc::new), set: tokio::sync::Mutex::new(None) });
    let answer: Answer = {
        let bench = bench.clone();
        Arc::new(move |what, argument| {
            let bench = bench.clone();
            Box::pin(async move { bench.answer(&what, &argument).await.map_err(|error| format!("{error:#}")) })
        })
    };
    let services = ph_policy::Services::without_engine(Arc::new(Printed));
    let mut suite = Suite { name: file.display().to_string(), cases: Vec::new() };
    let script = match TestScript::load(file, services, answer).await {
        Ok(script) => script,
        Err(text) => {
            suite.cases.push(Case { name: "loading".to_owned(), took: Duration::ZERO, failure: Some(text) });
            return Ok(suite);
        }
    };
    let names: Vec<String> = script.names().map(str::to_owned).collect();
    for (at, name) in names.into_iter().enumerate() {
        if args.filter.as_ref().is_some_and(|filter| !name.contains(filter.as_str())) {
            continue;
        }
        let began = Instant::now();
        let outcome = tokio::time::timeout(TEST_LIMIT, script.run(at)).await;
        let failure = match outcome {
            Ok(outcome) => outcome.err(),
            Err(_) => Some(format!("did not end within {} s", TEST_LIMIT.as_secs())),
        };
        suite.cases.push(Case { name, took: began.elapsed(), failure });
    }
    Ok(suite)
}

/// `inbound_test.lua` tests `inbound.lua`.
fn tested_by(file: &Path) -> Result<PathBuf> {
    let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let policy = name.strip_suffix("_test.lua").map(|stem| file.with_file_name(format!("{stem}.lua")));
    match policy.filter(|policy| policy.is_file()) {
        Some(policy) => Ok(policy),
        None => bail!("{}: which policy does it test? Name it with --policy", file.display()),
    }
}

/// What test scripts print themselves.
struct Printed;

impl ph_policy::Log for Printed {
    fn panic(&self, _: ph_policy::LogLevel, _: &str, text: &str) {
        println!("{text}");
    }
}

/// What the tests of one file work on.
struct Bench {
    settings: Settings,
    config: Option<Arc<Config>>,
    set: tokio::sync::Mutex<Option<Set>>,
}

/// The policy of the running test with its fakes.
struct Set {
    world: World,
    clock: Clock,
    dns: Arc<FakeDns>,
    session: Arc<Session>,
}

impl Bench {
    async fn answer(&self, what: &str, argument: &Value) -> Result<Value> {
        let mut set = self.set.lock().await;
        if what == "begin" {
            *set = None; // The former policy ends before the next begins.
            *set = Some(Set::new(self.settings.clone(), self.config.clone()).await?);
            return Ok(Value::Null);
        }
        let set = set.as_ref().context("only inside of a test")?;
        match what {
            "send" => set.send(argument).await,
            "eval" => set.eval(argument.as_str().unwrap_or_default()).await,
            "clock" => {
                let (now, wanted) = (set.clock.now().secs(), argument.as_i64().context("a number is wanted")?);
                let ahead =
                    u64::try_from(wanted - now).ok().with_context(|| format!("time only goes on: it is {now}"))?;
                set.clock.advance(Duration::from_secs(ahead));
                Ok(Value::Null)
            }
            "advance" => {
                let seconds = argument.as_f64().context("a number of seconds is wanted")?;
                set.clock.advance(Duration::try_from_secs_f64(seconds).context("a number of seconds is wanted")?);
                // What waited runs now, as far as it does not wait again.
                for _ in 0..100 {
                    tokio::task::yield_now().await;
                }
                Ok(Value::Null)
            }
            "dns" => set.dns.set(argument).map(|()| Value::Null),
            "said" => Ok(json!(set.world.said.take())),
            "mail" => Ok(set.mail()),
            other => bail!("{other} is not known"),
        }
    }
}

impl Set {
    async fn new(settings: Settings, config: Option<Arc<Config>>) -> Result<Set> {
        let clock = Clock::fake(Time::from_secs(BEGIN_S));
        let dns = Arc::new(FakeDns::default());
        let world = World::with(settings, config, "localhost", |services| {
            services.clock = clock.clone();
            services.dns = dns.clone();
        })
        .await?;
        let session = Session::new(
            world.ids.next(clock.now()),
            ([127, 0, 0, 1], 2525).into(),
            ([127, 0, 0, 1], 25).into(),
            ":25",
            "SMTP",
        );
        Ok(Set { world, clock, dns, session })
    }

    async fn send(&self, mail: &Value) -> Result<Value> {
        const KNOWN: &[&str] = &["from", "to", "ip", "helo", "context", "message", "headers", "body"];
        let given = mail.as_object().cloned().unwrap_or_default();
        if let Some(key) = given.keys().find(|key| !KNOWN.contains(&key.as_str())) {
            bail!("send takes no {key}; there are {}", KNOWN.join(", "));
        }
        let text = |key: &str, otherwise: &str| -> String {
            given.get(key).and_then(Value::as_str).unwrap_or(otherwise).to_owned()
        };
        let from = text("from", "sender@example.com");
        let to = match given.get("to").and_then(Value::as_array) {
            Some(list) => list.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
            None => vec!["recipient@example.net".to_owned()],
        };
        let ip: std::net::IpAddr = text("ip", "192.0.2.1").parse().context("ip: an address is wanted")?;
        let context = given.get("context").and_then(Value::as_object).cloned().unwrap_or_default();
        let plain = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        let scene = Scene {
            from: Some(Mailbox::parse_sender(&from, true).with_context(|| format!("from: {from}"))?),
            to: to
                .iter()
                .map(|to: &String| Mailbox::parse(to, true).with_context(|| format!("to: {to}")))
                .collect::<Result<_>>()?,
            client: (ip, 2525).into(),
            helo: text("helo", "client.example"),
            context: context.iter().map(|(key, value)| (key.clone(), plain(value))).collect(),
        };
        let letter = letter_of(&self.content(&given, &from, &to));
        let sending = send(&self.world, &scene, &letter);
        tokio::pin!(sending);
        loop {
            tokio::select! {
                biased;
                outcome = &mut sending => return Ok(outcome),
                () = tokio::time::sleep(Duration::from_millis(1)) => self.clock.advance(PASSES),
            }
        }
    }

    /// The message that a test describes.
    fn content(&self, given: &serde_json::Map<String, Value>, from: &str, to: &[String]) -> String {
        if let Some(text) = given.get("message").and_then(Value::as_str) {
            return text.to_owned();
        }
        let mut content = String::new();
        let headers = given.get("headers").and_then(Value::as_object).cloned().unwrap_or_default();
        let has = |name: &str| headers.keys().any(|key| key.eq_ignore_ascii_case(name));
        for (name, value) in [("From", from.to_owned()), ("To", to.join(", ")), ("Subject", "test".to_owned())] {
            if !has(name) {
                content.push_str(&format!("{name}: {value}\n"));
            }
        }
        for (name, value) in &headers {
            let values = value.as_array().cloned().unwrap_or_else(|| vec![value.clone()]);
            for value in values {
                let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
                content.push_str(&format!("{name}: {value}\n"));
            }
        }
        content.push('\n');
        content.push_str(given.get("body").and_then(Value::as_str).unwrap_or("text\n"));
        content
    }

    /// An expression in the policy's state, outside of any message.
    async fn eval(&self, source: &str) -> Result<Value> {
        match self.world.policy.evaluate(source, Phase::Queue, &self.session).await {
            Evaluated::Values(values) => Ok(values.into_iter().next().map_or(Value::Null, Value::String)),
            Evaluated::Incomplete => bail!("not finished: {source}"),
            Evaluated::Error(text) => bail!("{text}"),
        }
    }

    fn mail(&self) -> Value {
        let mail = self.world.sent.take().into_iter().map(|mail| {
            let message = mail.content.to_bytes().map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
            json!({ "from": mail.sender, "to": mail.recipients, "message": message.unwrap_or_default() })
        });
        Value::Array(mail.collect())
    }
}

/// Answers by name and type.
#[derive(Default)]
struct FakeDns(Mutex<HashMap<(String, &'static str), Answered>>);

type Answered = Result<Vec<DnsRecord>, &'static str>;

/// The codes that a policy may see.
const DNS_ERRORS: &[&str] = &["NXDOMAIN", "NODATA", "SERVFAIL", "TIMEOUT", "REFUSED", "FORMERR", "NOTIMP"];

impl FakeDns {
    fn set(&self, given: &Value) -> Result<()> {
        let name = given["name"].as_str().context("a name is wanted")?;
        let kind = given["kind"].as_str().unwrap_or("A");
        let kind = DnsType::named(kind).with_context(|| format!("{kind} is no type of records"))?;
        let answer = match (&given["records"], given["error"].as_str()) {
            (_, Some(wanted)) => {
                let error = DNS_ERRORS.iter().find(|error| **error == wanted);
                Err(*error.with_context(|| format!("{wanted} is none of {}", DNS_ERRORS.join(", ")))?)
            }
            (Value::Array(records), None) => {
                Ok(records.iter().filter_map(Value::as_str).map(|text| record(kind, text)).collect())
            }
            _ => Ok(Vec::new()),
        };
        self.0.lock().insert((key(name, kind), kind.name()), answer);
        Ok(())
    }
}

/// `10 mx.example` of an MX record has a preference.
fn record(kind: DnsType, text: &str) -> DnsRecord {
    let (preference, value) = match text.split_once(' ') {
        Some((number, host)) if kind == DnsType::Mx => (number.parse().ok(), host),
        _ => (None, text),
    };
    DnsRecord { preference, value: value.as_bytes().to_vec() }
}

/// An address that a PTR record is asked for is its name under `arpa`.
fn key(name: &str, kind: DnsType) -> String {
    let name = match name.parse() {
        Ok(address) if kind == DnsType::Ptr => ph_dns::arpa_name(address),
        _ => name.to_owned(),
    };
    name.trim_end_matches('.').to_ascii_lowercase()
}

impl Dns for FakeDns {
    fn lookup(&self, question: DnsQuestion) -> BoxFuture<'static, Result<Vec<DnsRecord>, &'static str>> {
        let known = self.0.lock().get(&(key(&question.name, question.kind), question.kind.name())).cloned();
        Box::pin(async move { known.unwrap_or(Err("NXDOMAIN")) })
    }
}
