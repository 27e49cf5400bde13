//! The live trace of a running server's policy: what is shown, which filters let it through, what a slow reader gets.

mod common;

use common::{Client, Server, assert_matches, letter, wait_for};
use ph_admin::{Address, ConsoleClient};
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

const POLICY: &str = r#"require("msys.core")
require("msys.extended.message")
local mod = {}
function mod:validate_mailfrom(str, ac, vctx)
  vctx:set(msys.core.VCTX_MESS, "seen", "yes")
  return msys.core.VALIDATE_CONT
end
function mod:validate_rcptto(msg, str, ac, vctx)
  if tostring(str):find("refused") then
    vctx:set_code(550, "not here")
    return msys.core.VALIDATE_DONE
  end
  return msys.core.VALIDATE_CONT
end
function mod:validate_data_spool(msg, ac, vctx)
  local subject = msg:header("Subject")
  msys.sleep(0.05)
  if subject[1] == "broken" then msg:header({}) end
  return msys.core.VALIDATE_CONT
end
msys.registerModule("first", mod)
local other = {}
function other:validate_data_spool(msg, ac, vctx)
  if msg:header("X-Flood")[1] then for i = 1, 6000 do msg:header("X-Flood") end end
  return msys.core.VALIDATE_CONT
end
msys.registerModule("second", other)
"#;

fn server() -> Server {
    let extra = "Relay_Domains = ( rcpt.test )\nGateway = \"[127.0.0.1]:1\"\n\
                 scriptlet \"scriptlet\" { script \"policy\" { source = \"policy\" } }\n\
                 ESMTP_Listener { Listen \"127.0.0.1:0\" {} }\n";
    Server::start(extra, &[("policy.lua", POLICY)])
}

/// `posthaste trace` under way.
struct Trace {
    child: Child,
    text: Arc<Mutex<String>>,
}

impl Trace {
    /// Returns when the server traces.
    fn start(server: &Server, arguments: &[&str]) -> Trace {
        let mut command = Command::new(env!("CARGO_BIN_EXE_posthaste"));
        command.args(["trace", "--socket"]).arg(server.dir.join("control")).args(arguments);
        let mut child =
            command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
        let mut said = String::new();
        BufReader::new(child.stderr.take().expect("piped")).read_line(&mut said).expect("it says that it traces");
        assert_eq!(said, "Tracing; interrupt to end.\n");
        let text = Arc::new(Mutex::new(String::new()));
        let (into, mut stdout) = (text.clone(), BufReader::new(child.stdout.take().expect("piped")));
        std::thread::spawn(move || {
            let mut line = String::new();
            while stdout.read_line(&mut line).is_ok_and(|read| read > 0) {
                into.lock().unwrap().push_str(&std::mem::take(&mut line));
            }
        });
        Trace { child, text }
    }

    fn text(&self) -> String {
        self.text.lock().unwrap().clone()
    }

    fn wait_for(&self, wanted: &str) -> String {
        wait_for(wanted, || Some(self.text()).filter(|text| text.contains(wanted)))
    }
}

impl Drop for Trace {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn hooks_calls_times_and_verdicts_are_shown() {
    let server = server();
    let trace = Trace::start(&server, &[]);
    let mut client = Client::hello(server.smtp());
    client.command("MAIL FROM:<ann@sender.test>");
    assert_matches("^550", &client.command("RCPT TO:<refused@rcpt.test>"));
    client.command("RSET");
    client.deliver("ann@sender.test", &["bob@rcpt.test"], &letter("plain", "x\n"));
    client.deliver("eve@sender.test", &["bob@rcpt.test"], &letter("broken", "x\n"));
    let text = trace.wait_for("error: policy.lua:18");
    for wanted in [
        r"(?m)^\d\d:\d\d:\d\d\.\d{3} validate_mailfrom of first, client 127\.0\.0\.1, connection \S+$",
        r"(?m)^    policy\.lua:4 +begins$",
        r#"(?m)^    policy\.lua:5 +vctx:set\(\d+, "seen", "yes"\) -> .*\[\d+ us\]$"#,
        r#"(?m)^    policy\.lua:10 +vctx:set_code\(550, "not here"\) -> .*\]$"#,
        r#"(?m)^    ends +VAL.DATE_DONE, 550 "not here"  \[.*\]$"#,
        r#"(?m)^    policy\.lua:16 +msg:header\("Subject"\) -> <table>  \["#,
        r"(?m)^    policy\.lua:17 +msys\.sleep\(0\.05\) -> .*\[[5-9]\d\.\d{3} ms\]$",
        r"(?m)^    ends +VAL.DATE_CONT, 250  \[[5-9]\d\.\d{3} ms\]$",
        r"(?m)^    policy\.lua:18 +msg:header\(<table>\) -> error: bad argument #1 to 'msg:header' \(",
        r"(?m)^    ends +error: policy\.lua:18: bad argument #1 to 'msg:header' \(",
    ] {
        assert_matches(wanted, &text);
    }
}

#[test]
fn each_filter_lets_through_what_fits() {
    let server = server();
    // What of three mails each filter shows: hook, module and sender's command stand for the rest.
    let cases: [(&[&str], &[&str]); 9] = [
        (&["--from", "ANN@sender.test", "--hook", "validate_mailfrom"], &["validate_mailfrom first 127.0.0.1"]),
        (
            &["--from", "@sender.test", "--hook", "validate_rcptto"],
            &["validate_rcptto first 127.0.0.1", "validate_rcptto first 127.0.0.2"],
        ),
        (&["--from", "<>", "--hook", "validate_rcptto"], &["validate_rcptto first 127.0.0.3"]),
        (&["--from", "nobody@*"], &[]),
        (
            &["--to", "bob@rcpt.test", "--hook", "validate_*", "--module", "first"],
            &["validate_rcptto first 127.0.0.1", "validate_data_spool first 127.0.0.1"],
        ),
        (&["--module", "second", "--ip", "127.0.0.2/32"], &["validate_data_spool second 127.0.0.2"]),
        (
            &["--hook", "validate_data_spool", "--ip", "127.0.0.3"],
            &["validate_data_spool first 127.0.0.3", "validate_data_spool second 127.0.0.3"],
        ),
        (&["--ip", "10.0.0.0/8"], &[]),
        (&["--hook", "validate_rcptto", "--to", "c*@rcpt.test"], &["validate_rcptto first 127.0.0.2"]),
    ];
    let traces: Vec<Trace> =
        cases.iter().map(|(filters, _)| Trace::start(&server, &[*filters, &["--json"]].concat())).collect();
    let all = Trace::start(&server, &["--json"]);
    for (ip, from, to) in [
        ("127.0.0.1", "ann@sender.test", "bob@rcpt.test"),
        ("127.0.0.2", "eve@sender.test", "carl@rcpt.test"),
        ("127.0.0.3", "", "dora@rcpt.test"),
    ] {
        let (mut client, _) = Client::connect_from(ip, server.smtp());
        client.command("EHLO client.test");
        assert_matches("^250", &client.deliver(from, &[to], &letter("plain", "x\n")));
    }
    let ends = |trace: &Trace| -> Vec<String> {
        let text = trace.text();
        let events = text.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).expect("JSON"));
        events
            .filter(|event| event["Kind"] == "end")
            .map(|event| {
                ["Hook", "Module", "Peer"].map(|name| event[name].as_str().unwrap_or("-").to_owned()).join(" ")
            })
            .collect()
    };
    wait_for("all events", || (ends(&all).len() == 12).then_some(()));
    for ((filters, wanted), trace) in cases.iter().zip(&traces) {
        wait_for(&format!("{filters:?} to show {wanted:?}"), || (ends(trace) == *wanted).then_some(()));
    }
}

/// A control session that stays open.
struct Console {
    runtime: tokio::runtime::Runtime,
    client: ConsoleClient,
}

impl Console {
    fn of(server: &Server) -> Console {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let address = Address::Unix(server.dir.join("control"));
        let client = runtime.block_on(ConsoleClient::connect(&address)).expect("the console answers");
        Console { runtime, client }
    }

    fn say(&mut self, command: &str) -> String {
        self.runtime.block_on(self.client.request(command)).expect("a reply")
    }
}

#[test]
fn a_slow_reader_loses_events_and_is_told_how_many() {
    let server = server();
    let mut console = Console::of(&server);
    assert_eq!(console.say("trace next"), "No trace is under way.\n");
    assert_eq!(console.say("trace hook validate_data_spool module second"), "Tracing the policy.\n");
    let mut client = Client::hello(server.smtp());
    let reply = client.deliver(
        "ann@sender.test",
        &["bob@rcpt.test"],
        &format!("X-Flood: {}\n{}", "y".repeat(500), letter("flood", "x\n")),
    );
    assert_matches("^250", &reply);
    let text = console.say("trace next");
    // It begins, calls 6001 times, ends: 6003 events, of which 4096 have a place.
    assert_eq!(text.lines().count(), 4097);
    assert_matches(
        r"^\d\d:\d\d:\d\d\.\d{6} \S+ 127\.0\.0\.1 second\.validate_data_spool begins at policy\.lua:23\n",
        &text,
    );
    assert_matches(r"\n\d\d:\d\d:\d\d\.\d{6} 1907 events lost: they came faster than they were read\n$", &text);
    // From then on it goes on.
    client.deliver("ann@sender.test", &["bob@rcpt.test"], &letter("plain", "x\n"));
    let text = console.say("trace next");
    assert_eq!(text.lines().count(), 3, "{}", text.lines().count());
    assert_eq!(console.say("trace stop"), "The trace has ended.\n");
    assert_eq!(console.say("trace next"), "No trace is under way.\n");
    assert_eq!(
        console.say("trace hook"),
        "Usage: trace [hook NAME] [module NAME] [from ADDRESS] [to ADDRESS] [ip ADDRESS|CIDR]\n"
    );
}

#[test]
fn a_trace_goes_on_over_a_reload_and_the_console_follows_it() {
    let server = server();
    let trace = Trace::start(&server, &["--hook", "validate_rcptto"]);
    let mut console = Command::new(env!("CARGO_BIN_EXE_posthaste"));
    console.args(["console", "--socket"]).arg(server.dir.join("control")).args(["trace", "hook", "validate_rcptto"]);
    let mut console = console.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().expect("it starts");
    let mut lines = BufReader::new(console.stdout.take().expect("piped")).lines().map_while(Result::ok);
    assert_eq!(lines.next().as_deref(), Some("Tracing the policy."));
    common::write(&server.dir.join("policy.lua"), &POLICY.replace("not here", "not here any more"));
    server.console("config reload");
    let mut client = Client::hello(server.smtp());
    client.command("MAIL FROM:<ann@sender.test>");
    assert_matches("^550 .*not here any more", &client.command("RCPT TO:<refused@rcpt.test>"));
    trace.wait_for("VALIDATE_DONE, 550 \"not here any more\"");
    let last = lines.find(|line| line.contains(" ends: "));
    let _ = console.kill();
    let _ = console.wait();
    assert_matches(
        r"first\.validate_rcptto ends: VAL.DATE_DONE, 550 .not here any more. \(\d+ us\)$",
        &last.unwrap_or_default(),
    );
}
