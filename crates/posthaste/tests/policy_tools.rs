//! The tools of who writes policies: `check` with its marks, `run-policy`, `repl`, as they are called from a shell.

mod common;

use common::{assert_matches, posthaste, write};
use serde_json::Value;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

/// Exit code, standard output, standard error.
fn run(arguments: &[&str]) -> (i32, String, String) {
    let output = posthaste(arguments);
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code().unwrap_or(-1), text(&output.stdout), text(&output.stderr))
}

fn run_policy(policy: &Path, message: &Path, more: &[&str]) -> (i32, String, String) {
    let (policy, message) = (policy.display().to_string(), message.display().to_string());
    run(&[&["run-policy", &policy, "--message", &message], more].concat())
}

/// What `--json` gives for each message.
fn outcomes(policy: &Path, message: &Path, more: &[&str]) -> Vec<Value> {
    let (code, out, error) = run_policy(policy, message, &[&["--json"], more].concat());
    assert_eq!(code, 0, "{error}");
    serde_json::from_str(&out).unwrap_or_else(|error| panic!("{error}: {out}"))
}

const POLICY: &str = r#"
require("msys.core")
local mod = {}

function mod:validate_connect(ac, vctx)
  if string.find(tostring(ac.remote_addr), "^192%.0%.2%.66") then
    vctx:set_code(554, "5.7.1 not from there")
  end
  return msys.core.VALIDATE_CONT
end

function mod:validate_mailfrom(str, ac, vctx)
  vctx:set(msys.core.VCTX_MESS, "helo", vctx:get(msys.core.VCTX_CONN, "ehlo_domain"))
  if vctx:get(msys.core.VCTX_MESS, "mailfrom_domain") == "slow.example" then
    vctx:set_code(451, "4.7.1 later")
  end
  return msys.core.VALIDATE_CONT
end

function mod:validate_rcptto(msg, str, ac, vctx)
  if vctx:get(msys.core.VCTX_MESS, "rcptto_localpart") == "nobody" then
    vctx:set_code(550, "5.1.1 nobody")
  end
  return msys.core.VALIDATE_CONT
end

function mod:validate_data_spool_each_rcpt(msg, ac, vctx)
  print("subject is", msg:header("Subject")[1])
  if msg:header("Subject")[1] == "raise" then error("as asked") end
  if msg:header("Subject")[1] == "drop" then
    msg:discard("550 dropped")
    return msys.core.VALIDATE_DONE
  end
  msg:header("X-For", msg:rcptto())
  msg:header("X-Secret", "")
  return msys.core.VALIDATE_CONT
end

function mod:validate_set_binding(msg)
  msg:binding("bulk")
  return msys.core.VALIDATE_CONT
end

msys.registerModule("tried", mod)
"#;

fn letter(subject: &str) -> String {
    format!("From: Ann <ann@a.example>\nTo: bob@b.example\nSubject: {subject}\nX-Secret: 1\n\nHello.\n")
}

#[test]
fn each_hook_is_shown_with_what_it_did() {
    let dir = tempfile::tempdir().expect("a folder");
    let (policy, message) = (dir.path().join("policy.lua"), dir.path().join("letter.eml"));
    write(&policy, POLICY);
    write(&message, &letter("hi"));
    let (code, out, error) = run_policy(&policy, &message, &["--helo", "mx.a.example"]);
    assert_eq!(code, 0, "{error}");
    for wanted in [
        r"from <ann@a\.example>",
        r"(?m)^validate_mailfrom +\d+ us  tried$\n    MESS helo = .mx\.a\.example.",
        r"(?m)^validate_data_spool_each_rcpt +[\d.]+ [um]s  tried  <bob@b\.example>$",
        r"says: subject is hi",
        r"header X-For added: .bob@b\.example.",
        r"header X-Secret removed: .1.",
        r"(?m)^validate_set_binding[^\n]*\n    binding bulk$",
        r"(?m)^for <bob@b\.example>: accepted",
        r"binding bulk of group \S+, routed to b\.example",
        r"(?m)^  -X-Secret: 1$",
        r"(?m)^  \+X-For: bob@b\.example$",
        r"(?m)^accepted: 250 ",
    ] {
        assert_matches(wanted, &out);
    }
    // The text of the body has not changed and is not shown as if it had.
    assert!(!out.contains("-Hello") && !out.contains("+Hello"), "{out}");
}

#[test]
fn the_envelope_and_the_client_are_those_that_were_asked_for() {
    let dir = tempfile::tempdir().expect("a folder");
    let (policy, message) = (dir.path().join("policy.lua"), dir.path().join("letter.eml"));
    write(&policy, POLICY);
    write(&message, &letter("hi"));
    for (more, fate, at, reply) in [
        (&["--ip", "192.0.2.66"][..], "refused", "connect", "554 5.7.1 not from there"),
        (&["--from", "x@slow.example"], "deferred", "MAIL FROM", "451 4.7.1 later"),
        (&["--to", "nobody@b.example"], "refused", "RCPT TO", "550 5.1.1 nobody"),
    ] {
        let found = outcomes(&policy, &message, more);
        assert_eq!(found[0]["fate"], fate, "{found:?}");
        assert_eq!(found[0]["at"], at);
        assert_eq!(found[0]["reply"], reply);
    }
    // One recipient is refused, the others have a message of their own each.
    let to = ["--to", "nobody@b.example", "--to", "c@b.example", "--to", "d@d.example", "--from", ""];
    let found = outcomes(&policy, &message, &to);
    assert_eq!(found[0]["fate"], "accepted");
    assert_eq!(found[0]["sender"], "");
    let copies = found[0]["copies"].as_array().expect("copies");
    let fates: Vec<_> = copies.iter().map(|copy| (copy["recipient"].as_str(), copy["fate"].as_str())).collect();
    assert_eq!(
        fates,
        [
            (Some("nobody@b.example"), Some("refused")),
            (Some("c@b.example"), Some("accepted")),
            (Some("d@d.example"), Some("accepted")),
        ]
    );
    assert_eq!(copies[2]["routing_domain"], "d.example");
    assert_eq!(copies[2]["mess"]["rcptto_localpart"], "d");
    assert!(copies[2]["message"].as_str().is_some_and(|text| text.contains("X-For: d@d.example\r\n")));
    assert!(copies[1]["diff"].as_str().is_some_and(|text| text.contains("+X-For: c@b.example")));
    let steps = found[0]["steps"].as_array().expect("steps");
    assert!(steps.iter().all(|step| step["modules"][0]["module"] == "tried" && step["time_us"].is_u64()), "{steps:?}");
    // What the configuration would have known of the connection.
    let more = ["--context", "auth_user=ann"];
    assert_eq!(outcomes(&policy, &message, &more)[0]["copies"][0]["conn"]["auth_user"], "ann");
}

#[test]
fn a_hook_that_raises_is_shown_with_its_line_and_fails_the_run() {
    let dir = tempfile::tempdir().expect("a folder");
    let (policy, message) = (dir.path().join("policy.lua"), dir.path().join("letter.eml"));
    write(&policy, POLICY);
    write(&message, &letter("raise"));
    let (code, out, error) = run_policy(&policy, &message, &[]);
    assert_eq!(code, 1, "{out}{error}");
    assert_matches(r"error: .*policy\.lua:\d+: as asked", &out);
    assert_matches(r"deferred at each recipient: 421", &out);
    // What does not load, what is not there.
    write(&policy, "x = = 1\n");
    let (code, _, error) = run_policy(&policy, &message, &[]);
    assert_eq!(code, 1);
    assert!(error.contains("policy.lua:1") && error.contains("unexpected symbol"), "{error}");
    for (arguments, said) in [
        (&["--from", "no address"][..], "--from no address"),
        (&["--context", "novalue"], "KEY=VALUE"),
        (&["--message", "/nowhere.eml"], "/nowhere.eml"),
    ] {
        write(&policy, POLICY);
        let (code, _, error) = run_policy(&policy, &message, arguments);
        assert!(code == 1 && error.contains(said), "{arguments:?}: {error}");
    }
}

#[test]
fn many_messages_give_a_summary() {
    let dir = tempfile::tempdir().expect("a folder");
    let policy = dir.path().join("policy.lua");
    write(&policy, POLICY);
    let mbox = dir.path().join("mbox");
    let from = |sender: &str, subject: &str| format!("From {sender} Thu Jan  1 00:00:00 1970\n{}\n", letter(subject));
    write(&mbox, &[from("a@b.c", "hi"), from("x@slow.example", "hi"), from("a@b.c", "drop")].concat());
    let (code, out, error) = run_policy(&policy, &mbox, &[]);
    assert_eq!(code, 0, "{error}");
    for wanted in [
        r"(?m)^accepted .*mbox#1",
        r"(?m)^deferred .*mbox#2 +at MAIL FROM: 451 4\.7\.1 later$",
        r"(?m)^discarded .*mbox#3 +<bob@b\.example> 550 dropped$",
        r"3 messages: 1 accepted, 0 refused, 1 deferred, 1 discarded; 0 with errors",
        r"validate_data_spool_each_rcpt: 2 calls, ",
    ] {
        assert_matches(wanted, &out);
    }
    let folder = dir.path().join("maildir");
    for (name, subject) in [("cur/1", "hi"), ("new/2", "drop"), ("tmp/3", "hi")] {
        write(&folder.join(name), &letter(subject));
    }
    let fates: Vec<Value> = outcomes(&policy, &folder, &[]).iter().map(|outcome| outcome["fate"].clone()).collect();
    assert_eq!(fates, ["accepted", "discarded"]);
}

#[test]
fn a_configuration_brings_its_scripts_and_bindings() {
    let dir = tempfile::tempdir().expect("a folder");
    let (config, message) = (dir.path().join("site.conf"), dir.path().join("letter.eml"));
    write(
        &config,
        "Binding_Group marketing { Binding news-1 { } }\n\
         scriptlet \"scriptlet\" { script \"bind\" { source = \"bind\" } }\n",
    );
    write(
        &dir.path().join("bind.lua"),
        "local mod = {}\nfunction mod:validate_set_binding(msg)\n  print(tostring(msg:binding('nosuch')))\n\
         msg:binding_group('marketing')\n  return msys.core.VALIDATE_CONT\nend\nmsys.registerModule('bind', mod)\n",
    );
    write(&message, &letter("hi"));
    let found = outcomes(&config, &message, &[]);
    assert_eq!(found[0]["copies"][0]["binding"], "news-1");
    assert_eq!(found[0]["copies"][0]["binding_group"], "marketing");
    let said = found[0]["steps"][0]["said"].as_array().expect("lines");
    assert!(said.contains(&Value::from("nil")), "{said:?}");
}

/// A prompt that reads a pipe.
fn repl(arguments: &[&str], input: &str) -> (i32, String, String) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_posthaste"))
        .arg("repl")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary runs");
    child.stdin.take().expect("a pipe").write_all(input.as_bytes()).expect("written");
    let output = child.wait_with_output().expect("it ends");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code().unwrap_or(-1), text(&output.stdout), text(&output.stderr))
}

#[test]
fn a_prompt_has_a_message_a_policy_and_several_lines() {
    let dir = tempfile::tempdir().expect("a folder");
    let (policy, message) = (dir.path().join("policy.lua"), dir.path().join("letter.eml"));
    write(&policy, "function twice(x) return 2 * x end\nprint('loaded')\n");
    write(&message, &letter("at hand"));
    let (policy, message) = (policy.display().to_string(), message.display().to_string());
    let input = "= msg:header('Subject')[1]\nfunction add(a, b)\n  return a + b\nend\nadd(1, twice(20))\nhelp msg:header\n\
                 print('said')\nmsg:mailfrom()\n";
    let (code, out, error) = repl(&["--message", &message, &policy], input);
    assert_eq!(code, 0, "{error}");
    assert!(out.starts_with("loaded\n\"at hand\"\n41\nmsg:header(hdr"), "{out}");
    assert!(out.contains("said\n") && out.trim_end().ends_with("\"ann@a.example\""), "{out}");
    for (input, said) in [
        ("nothing.here\n", "nothing"),
        ("f(\n", "the input ends in the middle of"),
        ("vctx:set_code({})\n", "bad argument #1"),
    ] {
        let (code, _, error) = repl(&[], input);
        assert!(code == 1 && error.contains(said), "{input}{error}");
    }
    let (code, _, error) = repl(&["--phase", "nosuch"], "");
    assert!(code == 1 && error.contains("set_binding"), "{error}");
}

#[test]
fn findings_are_shown_with_their_line_a_mark_and_help() {
    let dir = tempfile::tempdir().expect("a folder");
    let policy = dir.path().join("policy.lua");
    let hook = "local mod = {}\nfunction mod:validate_data(msg, ac, vctx)\n  %\n  return msys.core.VALIDATE_CONT\nend\n\
                msys.registerModule('m', mod)\n";
    let check = |line: &str, more: &[&str]| {
        write(&policy, &hook.replace('%', line));
        run(&[&["check", &policy.display().to_string()], more].concat())
    };
    let (code, out, error) = check("local s = msg:hedaer('Subject')", &[]);
    assert_eq!(code, 0, "a warning fails nothing: {error}");
    assert!(out.contains("Configuration valid"), "{out}");
    assert!(
        error.contains(
            "policy.lua:3:17: warning: msg has no field or method hedaer\n  |\n3 |   local s = msg:hedaer('Subject')\n  \
             |                 ^^^^^^\n  = help: did you mean msg:header?\n"
        ),
        "{error}"
    );
    // All of them, and the exit code of the worst.
    let (code, _, error) = check("vctx:set_code('x', 'y') msg:hedaer() prnt(1)", &[]);
    assert_eq!(code, 1);
    for part in
        ["3:17: error: vctx:set_code: argument 1", "3:31: warning: msg has no", "3:40: warning: the global prnt"]
    {
        assert!(error.contains(part), "{part}: {error}");
    }
    assert!(error.trim_end().ends_with("Reconfigure failed."), "{error}");
    // What works and is not documented is told to those who ask.
    let note = "vctx:tarpit(1)";
    assert!(!check(note, &[]).2.contains("note:"));
    assert_matches(
        r"3:\d+: note: vctx:tarpit works in validate_data, but is not documented for it",
        &check(note, &["-v"]).2,
    );
    // An error that strikes only when its line is reached does not keep a server from starting or reloading.
    let config = dir.path().join("site.conf");
    write(&config, "scriptlet \"scriptlet\" { script \"policy\" { source = \"policy\" } }\n");
    write(&policy, &hook.replace('%', "vctx:set_code('x', 'y')"));
    let (code, _, error) = run(&["check", &config.display().to_string()]);
    assert!(code == 1 && error.contains("argument 1"), "{error}");
}

const TESTED: &str = r#"
require("msys.core")
local mod = {}
count = 0

function mod:validate_connect(ac, vctx)
  local found = msys.dnsLookup("7.2.0.192.list.example", "A")
  if found and found[1] then vctx:set_code(554, "5.7.1 listed as " .. tostring(found[1])) end
  return msys.core.VALIDATE_CONT
end

function mod:validate_rcptto(msg, str, ac, vctx)
  count = count + 1
  local began = msys.core.get_now_ts()
  if msg:rcptto() == "slow@b.example" then msys.sleep(20) end
  vctx:set(msys.core.VCTX_MESS, "took", msys.core.get_now_ts() - began)
  return msys.core.VALIDATE_CONT
end

msys.registerModule("tested", mod)
"#;

const TESTS: &str = r#"
test("accepts", function(t)
  local outcome = t:send { from = "a@a.example", to = "b@b.example", headers = { Subject = "hi", ["X-A"] = { "1", "2" } } }
  t:equal(outcome.fate, "accepted")
  t:equal(outcome.copies[1].headers["x-a"], { "1", "2" })
  t:equal(t:eval("count"), "1")
end)

test("each test has a fresh policy", function(t)
  t:equal(t:eval("count"), "0")
  t:equal(t:eval("msys.core.get_now_ts()"), "1000000000")
  t:clock(1500000000)
  t:equal(t:eval("msys.core.get_now_ts()"), "1500000000")
  t:raises("time only goes on", function() t:clock(5) end)
end)

test("refuses who is listed", function(t)
  t:equal(t:send({}).fate, "accepted")
  t:dns("7.2.0.192.LIST.example", "A", { "127.0.0.2" })
  local outcome = t:send { ip = "192.0.2.7" }
  t:match(outcome.reply, "^554 5%.7%.1 listed as 127%.0%.0%.2")
  t:equal(outcome.at, "connect")
end)

test("asks for the name of an address", function(t)
  t:dns("192.0.2.7", "PTR", { "mx.b.example" })
  t:dns("b.example", "MX", { "20 two.example", "10 one.example" })
  t:dns("broken.example", "A", "SERVFAIL")
  t:match(t:eval("msys.dnsLookup('7.2.0.192.in-addr.arpa', 'PTR')[1]"), "mx%.b%.example")
  t:match(t:eval("select(2, msys.dnsLookup('broken.example', 'A'))"), "SERVFAIL")
  t:raises("none of NXDOMAIN", function() t:dns("a.example", "A", "BROKEN") end)
end)

test("waits without waiting", function(t)
  local outcome = t:send { to = "slow@b.example" }
  t:ok(tonumber(outcome.copies[1].mess.took) >= 20, "time passed")
end)
"#;

#[test]
fn unit_tests_of_policies_have_a_fresh_policy_a_clock_and_a_dns() {
    let dir = tempfile::tempdir().expect("a folder");
    write(&dir.path().join("site.lua"), TESTED);
    write(&dir.path().join("site_test.lua"), TESTS);
    let place = dir.path().display().to_string();
    let begin = std::time::Instant::now();
    let (code, out, error) = run(&["test", &place]);
    assert_eq!(code, 0, "{out}{error}");
    assert_matches(r"(?m)^  ok    accepts \([\d.]+ ms\)$", &out);
    assert!(out.ends_with("5 tests in 1 files, 0 failed\n"), "{out}");
    assert!(begin.elapsed() < std::time::Duration::from_secs(15), "nobody waited twenty seconds");
}

#[test]
fn unit_tests_that_fail_say_where_and_why() {
    let dir = tempfile::tempdir().expect("a folder");
    write(&dir.path().join("lua/site.lua"), TESTED);
    write(
        &dir.path().join("lua/site_test.lua"),
        "test('wrong', function(t)\n  t:equal(t:send({}).fate, 'refused', 'the fate')\nend)\n\
         test('fine', function(t) t:ok(true) end)\n\
         test('raises', function(t) t:send { form = 'x' } end)\n\
         test('late', function(t) error('no <way>') end)\n",
    );
    let (place, report) = (dir.path().display().to_string(), dir.path().join("report.xml"));
    let (code, out, error) = run(&["test", &place, "--junit", &report.display().to_string()]);
    assert_eq!(code, 1, "{out}{error}");
    assert_matches(r"FAIL  wrong [^\n]*\n +site_test\.lua:2: the fate: got .accepted., want .refused.", &out);
    assert_matches(r"FAIL  raises [^\n]*\n +site_test\.lua:5: send takes no form; there are from, to", &out);
    assert!(out.ends_with("4 tests in 1 files, 3 failed\n"), "{out}");
    let xml = std::fs::read_to_string(&report).expect("the report");
    assert_matches(r#"<testsuite name="[^"]*site_test\.lua" tests="4" failures="3""#, &xml);
    assert_matches(
        r#"(?s)<testcase classname="[^"]*" name="late" time="[\d.]+">\s*<failure message="[^"]*no &lt;way&gt;"#,
        &xml,
    );
    let (code, out, _) = run(&["test", &place, "--filter", "fine"]);
    assert!(code == 0 && out.ends_with("1 tests in 1 files, 0 failed\n"), "{out}");
    // What cannot be run is no success.
    assert_eq!(run(&["test", &place, "--filter", "nothing like it"]).0, 1);
    write(&dir.path().join("lua/site.lua"), "x = = 1\n");
    let (code, out, _) = run(&["test", &place, "--filter", "fine"]);
    assert!(code == 1 && out.contains("site.lua:1"), "{out}");
    write(&dir.path().join("lua/site_test.lua"), "test('open', function(t)\n");
    let (code, out, _) = run(&["test", &place]);
    assert!(code == 1 && out.contains("loading") && out.contains("site_test.lua:"), "{out}");
    let alone = dir.path().join("alone_test.lua");
    write(&alone, "");
    let (code, _, error) = run(&["test", &alone.display().to_string()]);
    assert!(code == 1 && error.contains("--policy"), "{error}");
}
