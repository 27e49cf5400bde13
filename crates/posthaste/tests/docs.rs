//! The guides under docs/ are true: their configurations load, their policies load and do what is said of them, the commands
//! and options they name are there, their links lead somewhere.
//!
//! Fenced blocks are found by their first word: `ecelerity` (a configuration), `lua` (a policy; `lua bad` is followed by a
//! `text` block with what `check` says of it), `lua-test` (tests of the policy that it names), `console` (lines that begin with
//! `$ ` are commands).

mod common;

use common::next_hop::NextHop;
use common::{Client, Server, assert_matches, letter, posthaste, wait_for, write};
use ph_config::Config;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

const GUIDES: [&str; 4] = ["getting-started.md", "moving-from-momentum.md", "policy-guide.md", "operations.md"];

struct Block {
    page: &'static str,
    line: usize,
    /// The words behind the fence.
    info: String,
    text: String,
}

impl Block {
    fn place(&self) -> String {
        format!("docs/{}:{}", self.page, self.line)
    }

    fn is(&self, language: &str) -> bool {
        self.info.split(' ').next() == Some(language)
    }

    fn name(&self) -> Option<&str> {
        self.info.split(' ').find_map(|word| word.strip_prefix("name="))
    }
}

fn docs() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs")
}

fn page(name: &str) -> String {
    std::fs::read_to_string(docs().join(name)).unwrap_or_else(|error| panic!("docs/{name}: {error}"))
}

/// All fenced blocks of the guides; one within a list is unindented.
fn blocks() -> Vec<Block> {
    let mut blocks = Vec::new();
    for name in GUIDES {
        let text = page(name);
        let mut open: Option<(Block, usize)> = None;
        for (at, line) in text.lines().enumerate() {
            let indent = line.len() - line.trim_start().len();
            match (&mut open, line.trim_start().strip_prefix("```")) {
                (None, Some(info)) => {
                    let block = Block { page: name, line: at + 1, info: info.to_owned(), text: String::new() };
                    open = Some((block, indent));
                }
                (Some(_), Some(_)) => blocks.extend(open.take().map(|(block, _)| block)),
                (Some((block, indent)), None) => {
                    block.text.push_str(line.get(*indent..).unwrap_or(""));
                    block.text.push('\n');
                }
                (None, None) => {}
            }
        }
        assert!(open.is_none(), "docs/{name}: a fence is not closed");
    }
    blocks
}

/// Inline code of a page, without what stands in fences, with its line.
fn inline_code(name: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let mut fenced = false;
    for (at, line) in page(name).lines().enumerate() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        } else if !fenced {
            found.extend(line.split('`').skip(1).step_by(2).map(|code| (at + 1, code.to_owned())));
        }
    }
    found
}

#[test]
fn every_configuration_of_the_guides_loads() {
    let configurations: Vec<Block> = blocks().into_iter().filter(|block| block.is("ecelerity")).collect();
    assert!(configurations.len() >= 10, "only {} configurations", configurations.len());
    for block in configurations {
        if let Err(report) = Config::parse("example.conf", &block.text) {
            panic!("{}:\n{report}", block.place());
        }
    }
}

#[test]
fn every_policy_of_the_guides_loads() {
    let blocks = blocks();
    let dir = tempfile::tempdir().expect("a folder");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let mut count = 0;
    for (at, block) in blocks.iter().enumerate().filter(|(_, block)| block.is("lua")) {
        let mut found = ph_policy::check_source(Path::new("bad.lua"), block.text.as_bytes());
        found.retain(|found| found.severity > ph_policy::Severity::Note);
        if block.info == "lua bad" {
            let said: Vec<String> = found.iter().map(ToString::to_string).collect();
            assert_eq!(said.join("\n"), blocks[at + 1].text.trim_end(), "{}", block.place());
            continue;
        }
        assert!(found.is_empty(), "{}: {found:?}", block.place());
        let name = block.name().unwrap_or_else(|| panic!("{}: a policy needs a name=", block.place()));
        write(&dir.path().join(format!("{name}.lua")), &block.text);
        let settings = ph_policy::Settings {
            scripts: vec![ph_policy::Script { name: name.to_owned(), source: name.to_owned(), place: block.place() }],
            folder: Some(dir.path().to_owned()),
            ..ph_policy::Settings::default()
        };
        let services = ph_policy::Services::without_engine(Arc::new(ph_policy::NoEngine));
        if let Err(error) = runtime.block_on(ph_policy::Policy::load(services, settings)) {
            panic!("{}: {error}", block.place());
        }
        count += 1;
    }
    assert!(count >= 12, "only {count} policies");
}

/// Whether a command line of the console begins with the name of a command.
fn is_console_command(line: &str) -> bool {
    let words: Vec<&str> = line.split_whitespace().filter(|word| !word.starts_with("--")).collect();
    (1..=words.len()).any(|count| ph_admin::command_names().contains(&words[..count].join(" ").as_str()))
}

#[test]
fn every_command_of_the_guides_is_there() {
    let mut programs = BTreeSet::new();
    let mut commands = BTreeSet::new();
    for block in blocks().iter().filter(|block| block.is("console") || block.is("sh")) {
        for line in block.text.lines() {
            let line = line.strip_prefix("$ ").unwrap_or(if block.is("sh") { line } else { "" });
            let Some((_, words)) = line.split_once("posthaste ").filter(|(before, _)| !before.contains('#')) else {
                continue;
            };
            let mut words = words.split_whitespace();
            let (program, rest) = (words.next().unwrap_or(""), words.collect::<Vec<_>>().join(" "));
            if program.starts_with('/') || line.contains("install ") || line.contains("ln -s") || line.contains("mv ") {
                continue;
            }
            if program == "console" {
                assert!(is_console_command(&rest), "{}: no such command: {rest}", block.place());
                commands.insert(rest);
            }
            programs.insert(program.to_owned());
        }
    }
    assert!(commands.len() >= 15, "{commands:?}");
    for program in programs {
        let help = posthaste(&[&program, "--help"]);
        assert!(help.status.success(), "posthaste {program} --help");
    }
    // Commands in running text: what begins like a command of several words must be one.
    let first_words: BTreeSet<&str> =
        ph_admin::command_names().iter().filter_map(|name| name.split(' ').next()).collect();
    for (line, code) in inline_code("operations.md") {
        let Some(command) = code.strip_prefix("posthaste console ").or(Some(&*code)) else { continue };
        let words: Vec<&str> = command.split(' ').collect();
        if words.len() > 1 && first_words.contains(words[0]) {
            assert!(is_console_command(command), "docs/operations.md:{line}: no such command: {command}");
        }
    }
}

#[test]
fn every_option_and_metric_of_the_guides_is_there() {
    let options: BTreeSet<String> = ph_config::registry::to_json()
        .as_array()
        .expect("a list")
        .iter()
        .filter_map(|option| option["name"].as_str().map(str::to_ascii_lowercase))
        .collect();
    let reference = page("configuration-options.md").to_ascii_lowercase();
    let metrics = ph_eventlog::metrics::render_openmetrics();
    let mut seen = 0;
    for name in GUIDES.iter().copied().chain(["differences.md"]) {
        for (line, code) in inline_code(name) {
            let word = code.split([' ', '=', '{']).next().unwrap_or("");
            if word.starts_with("posthaste_") {
                let metric = word.trim_end_matches("_total");
                assert!(metrics.contains(metric), "docs/{name}:{line}: no such metric: {word}");
            }
            // An option as the guides write it: Capital_Letters_And_Underlines.
            let mut parts = word.split('_');
            let capital = |part: &str| part.starts_with(|first: char| first.is_ascii_uppercase());
            let lower = word.bytes().any(|byte| byte.is_ascii_lowercase());
            if word.contains('_')
                && lower
                && parts.all(capital)
                && word.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
            {
                let known =
                    options.contains(&word.to_ascii_lowercase()) || reference.contains(&word.to_ascii_lowercase());
                assert!(known, "docs/{name}:{line}: no such option: {word}");
                seen += 1;
            }
        }
    }
    assert!(seen >= 40, "only {seen} options");
}

/// The anchor that a heading gets.
fn anchor(heading: &str) -> String {
    let kept = heading.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    kept.map(|c| if c == ' ' { '-' } else { c.to_ascii_lowercase() }).collect()
}

#[test]
fn every_link_leads_somewhere() {
    let anchors = |text: &str| -> BTreeSet<String> {
        text.lines()
            .filter_map(|line| line.strip_prefix('#'))
            .map(|line| anchor(line.trim_start_matches('#').trim()))
            .collect()
    };
    let mut pages: BTreeMap<PathBuf, String> = BTreeMap::new();
    for name in GUIDES.iter().copied().chain(["differences.md", "configuration.md", "console.md", "../README.md"]) {
        pages.insert(docs().join(name), page(name));
    }
    for (path, text) in &pages {
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            if link.contains("://") || link.contains(char::is_whitespace) {
                continue;
            }
            let (file, wanted) = link.split_once('#').map_or((link, None), |(file, wanted)| (file, Some(wanted)));
            let target = if file.is_empty() { path.clone() } else { path.parent().expect("a folder").join(file) };
            assert!(target.exists(), "{}: {link} leads nowhere", path.display());
            if let Some(wanted) = wanted {
                let text = std::fs::read_to_string(&target).expect("a page");
                assert!(anchors(&text).contains(wanted), "{}: {link}: no such heading", path.display());
            }
        }
    }
}

#[test]
fn what_check_is_said_to_say_it_says() {
    let blocks = blocks();
    let at = blocks.iter().position(|block| block.text.starts_with("force_fsync")).expect("the example of a site");
    let dir = tempfile::tempdir().expect("a folder");
    let file = dir.path().join("site.conf");
    write(&file, &blocks[at].text);
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_posthaste"))
        .current_dir(dir.path())
        .args(["check", "-v", "site.conf"])
        .output()
        .expect("the binary runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    for line in blocks[at + 1].text.lines() {
        assert!(said.contains(line), "{line}\nis not in\n{said}");
    }
}

#[test]
fn unit_tests_of_the_guide_pass() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut count = 0;
    for block in blocks().iter().filter(|block| block.is("lua-test")) {
        let name = block.info.split(' ').find_map(|word| word.strip_prefix("for=")).expect("the policy's name");
        write(&dir.path().join(format!("{name}.lua")), &recipe(name));
        write(&dir.path().join(format!("{name}_test.lua")), &block.text);
        let output = posthaste(&["test", &dir.path().display().to_string()]);
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{}: {said}", block.place());
        count += 1;
    }
    assert!(count > 0);
}

#[test]
fn what_run_policy_is_said_to_show_it_shows() {
    let block = blocks().into_iter().find(|block| block.info == "text shown=headers").expect("the example");
    let dir = tempfile::tempdir().expect("a folder");
    let (policy, message) = (dir.path().join("headers.lua"), dir.path().join("letter.eml"));
    write(&policy, &recipe("headers"));
    write(
        &message,
        "From: bob@partner.example\nTo: ann@shop.example\nX-Internal-Route: secret\nSubject: Hello\n\ntext\n",
    );
    let (policy, message) = (policy.display().to_string(), message.display().to_string());
    let output = posthaste(&["run-policy", &policy, "--message", &message, "--to", "ann@shop.example"]);
    let said = String::from_utf8_lossy(&output.stdout);
    for line in block.text.lines().filter(|line| !line.is_empty()) {
        // The time is another one.
        let known = match line.split_once("  ").filter(|_| !line.starts_with(' ') && line.contains(" us ")) {
            Some((hook, rest)) => said.lines().any(|shown| {
                shown.starts_with(hook) && rest.split_once(" us ").is_some_and(|(_, modules)| shown.ends_with(modules))
            }),
            None => said.lines().any(|shown| shown.trim_end() == line.trim_end()),
        };
        assert!(known, "{line}\nis not in\n{said}");
    }
}

/// A policy of the guide, by its name.
fn recipe(name: &str) -> String {
    let found = blocks().into_iter().find(|block| block.page == "policy-guide.md" && block.name() == Some(name));
    found.unwrap_or_else(|| panic!("the guide has no policy {name}")).text
}

/// A server with one policy of the guide, which sends everything to `next`.
fn server(name: &str, next: &NextHop) -> Server {
    let extra = format!(
        "Relay_Domains = ( shop.example vault.example )\nGateway = \"{}\"\n\
         Binding_Group marketing {{ Binding news-1 {{ }} Binding news-2 {{ }} }} Binding transactional {{ }}\n\
         ESMTP_Listener {{ SMTP_Extensions = ( ENHANCEDSTATUSCODES ) Listen \"127.0.0.1:0\" {{ }} }}\n\
         scriptlet \"scriptlet\" {{ script \"{name}\" {{ source = \"{name}\" }} }}\n",
        next.gateway()
    );
    let text = recipe(name).replace("/etc/posthaste/blocked-recipients", "@blocked@");
    // The list of the recipe lies beside the server, where a test may write.
    let blocked = std::env::temp_dir().join(format!("posthaste-docs-{}", std::process::id()));
    write(&blocked, "full@shop.example\n");
    Server::start(&extra, &[(&format!("{name}.lua"), &text.replace("@blocked@", &blocked.display().to_string()))])
}

fn greet(server: &Server) -> Client {
    Client::hello(server.smtp())
}

/// Nothing is in the paniclog: no error, and no use of a function out of its phase.
fn quiet(server: &Server) {
    assert_eq!(server.console("paniclog").trim(), "", "the policy is not as clean as the guide");
}

#[test]
fn recipes_refuse_what_they_say() {
    let next = NextHop::start();
    let first = server("first", &next);
    let mut client = greet(&first);
    client.command("MAIL FROM:<a@b.example>");
    assert_eq!(client.command("RCPT TO:<nobody@shop.example>"), "550 5.1.1 there is nobody here");
    assert_matches("^250 ", &client.command("RCPT TO:<ann@shop.example>"));
    quiet(&first);

    let refuse = server("refuse-sender", &next);
    let mut client = greet(&refuse);
    assert_matches("^550 5.7.1 mail from list.example is not", &client.command("MAIL FROM:<a@LIST.example>"));
    assert_matches("^250 ", &client.command("MAIL FROM:<a@other.example>"));
    quiet(&refuse);

    let blocklist = server("blocklist", &next);
    let mut client = greet(&blocklist);
    client.command("MAIL FROM:<a@b.example>");
    assert_eq!(client.command("RCPT TO:<Full@shop.example>"), "550 5.1.1 this address takes no mail");
    assert_matches("^250 ", &client.command("RCPT TO:<ann@shop.example>"));
    quiet(&blocklist);

    let harvest = server("harvest", &next);
    let mut client = greet(&harvest);
    client.command("MAIL FROM:<a@b.example>");
    for guess in ["x", "y", "z", "q"] {
        assert_eq!(client.command(&format!("RCPT TO:<{guess}@shop.example>")), "550 5.1.1 no such user");
    }
    assert_matches("^250 ", &client.command("RCPT TO:<bob@shop.example>"));
    assert_eq!(client.command("RCPT TO:<r@shop.example>"), "421 4.7.0 you are guessing");
    assert_eq!(client.rest(), "", "the session is closed");
    quiet(&harvest);
}

#[test]
fn recipes_rewrite_and_throw_away() {
    let next = NextHop::start();
    let headers = server("headers", &next);
    let content = letter("Hello", "text\n").replace("\nDate:", "\nX-Internal-Route: secret\nDate:");
    assert_matches("^250 ", &greet(&headers).deliver("a@b.example", &["ann@shop.example"], &content));
    let taken = next.wait_for_rcpt("ann@shop.example");
    assert_eq!(taken.headers("Subject"), ["[external] Hello"]);
    assert_eq!(taken.headers("X-Received-For"), ["ann@shop.example"]);
    assert_eq!(taken.headers("X-Internal-Route"), [""; 0]);
    quiet(&headers);

    let discard = server("discard", &next);
    let mut client = greet(&discard);
    assert_matches("^250 ", &client.deliver("a@b.example", &["bob@shop.example"], &letter("[test] no", "x\n")));
    assert_matches("^250 ", &client.deliver("a@b.example", &["carl@shop.example"], &letter("yes", "x\n")));
    next.wait_for_rcpt("carl@shop.example");
    assert!(!next.messages().iter().any(|taken| taken.rcpt.iter().any(|rcpt| rcpt.contains("bob@"))));
    let log = discard.wait_for_log("rejectlog.ec", |text| !text.is_empty());
    assert!(log.contains("test mail goes nowhere"), "{log}");
    quiet(&discard);

    let archive = server("archive", &next);
    let reply = greet(&archive).deliver("dora@shop.example", &["eve@shop.example"], &letter("both", "x\n"));
    assert_matches("^250 ", &reply);
    next.wait_for_rcpt("archive@vault.example");
    next.wait_for_rcpt("eve@shop.example");
    quiet(&archive);
}

#[test]
fn recipes_edit_parts() {
    let next = NextHop::start();
    let attachments = server("attachments", &next);
    let part = |name: &str, text: &str| format!("--b\nContent-Type: application/x; name={name}\n\n{text}\n");
    let content =
        letter("Files", &format!("--b\n\nsee below\n{}{}--b--\n", part("a.EXE", "MZ"), part("b.txt", "fine")))
            .replace("\nDate:", "\nContent-Type: multipart/mixed; boundary=b\nDate:");
    assert_matches("^250 ", &greet(&attachments).deliver("a@b.example", &["ann@shop.example"], &content));
    let body = next.wait_for_rcpt("ann@shop.example").body();
    assert!(body.contains("\r\n\r\nThe attachment has been removed.\r\n\r\n--b\r\n"), "{body}");
    assert!(body.contains("fine") && body.contains("see below") && !body.contains("MZ"), "{body}");
    quiet(&attachments);
}

#[test]
fn recipes_make_mail() {
    let next = NextHop::start();
    let answer = server("answer", &next);
    let mut client = greet(&answer);
    let reply = client.deliver("a@b.example", &["help@shop.example", "bob@shop.example"], &letter("How?", "x\n"));
    assert_matches("^250 ", &reply);
    let forwarded = next.wait_for_rcpt("team@shop.example");
    assert_eq!(forwarded.headers("Subject"), ["Fwd: How?"]);
    assert!(forwarded.body().contains("\r\nSubject: How?\r\n"), "{}", forwarded.body());
    let answered = next.wait_for_rcpt("a@b.example");
    assert!(answered.mail.starts_with("MAIL FROM:<>"), "{}", answered.mail);
    assert_eq!(answered.headers("Subject"), ["Re: How?"]);
    next.wait_for_rcpt("bob@shop.example");
    assert!(!next.messages().iter().any(|taken| taken.rcpt.iter().any(|rcpt| rcpt.contains("help@"))));
    quiet(&answer);
}

#[test]
fn recipes_choose_the_way() {
    let next = NextHop::start();
    let bindings = server("bindings", &next);
    let mut client = greet(&bindings);
    let bulk = letter("News", "x\n").replace("\nDate:", "\nPrecedence: bulk\nDate:");
    assert_matches("^250 ", &client.deliver("a@b.example", &["ann@shop.example"], &bulk));
    assert_matches("^250 ", &client.deliver("a@b.example", &["bob@shop.example"], &letter("One", "x\n")));
    bindings.wait_for_log("mainlog.ec", |line| line.contains("@R@bob@"));
    let log = bindings.log("mainlog.ec");
    let line = |of: &str| log.lines().find(|line| line.contains(of)).map(str::to_owned).unwrap_or_default();
    assert_matches("@marketing@news-[12]$|@news-[12]@marketing$", &line("@R@ann@shop.example"));
    assert!(line("@R@bob@shop.example").contains("@transactional"), "{log}");
    quiet(&bindings);

    let routing = server("routing", &next);
    routing.console("suspend domain new-store.shop.example");
    let mut client = greet(&routing);
    assert_matches("^250 ", &client.deliver("a@b.example", &["bob@shop.example"], &letter("Way", "x\n")));
    let queued = wait_for("the message in the queue of its new domain", || {
        let text = routing.console("showqueue new-store.shop.example");
        text.contains("bob@shop.example").then_some(text)
    });
    assert!(queued.contains("<bob@shop.example>"), "{queued}");
    quiet(&routing);

    let partner = server("partner", &next);
    let mut client = greet(&partner);
    client.command("MAIL FROM:<a@partner.example>");
    assert_matches("^250 ", &client.command("RCPT TO:<x@anywhere.example>"));
    let mut client = greet(&partner);
    client.command("MAIL FROM:<a@other.example>");
    assert_eq!(client.command("RCPT TO:<x@anywhere.example>"), "550 5.7.1 relaying denied");
    quiet(&partner);
}

#[test]
fn recipes_slow_down_and_retry() {
    let next =
        NextHop::answering(|said| said.line.starts_with("RCPT").then(|| "450 4.7.1 greylisted, come back".to_owned()));
    let tarpit = server("tarpit", &next);
    let (mut client, _) = Client::connect(tarpit.smtp());
    let begin = Instant::now();
    client.command("EHLO short");
    assert!(begin.elapsed() >= Duration::from_millis(1900), "{:?}", begin.elapsed());
    let begin = Instant::now();
    client.command("EHLO long.example");
    assert!(begin.elapsed() < Duration::from_millis(1500), "{:?}", begin.elapsed());
    quiet(&tarpit);

    let retry = server("retry", &next);
    assert_matches("^250 ", &greet(&retry).deliver("a@b.example", &["ann@shop.example"], &letter("Grey", "x\n")));
    let log = retry.wait_for_log("mainlog.ec", |text| text.contains("@T@"));
    let id = log.split('@').nth(1).expect("an id").to_owned();
    let explained = wait_for("the message to wait", || {
        let text = retry.console(&format!("queue explain {id}"));
        text.contains("waits for its next attempt").then_some(text)
    });
    let number = |name: &str| -> i64 {
        let line = explained.lines().find(|line| line.trim_start().starts_with(name)).unwrap_or_default();
        line.rsplit(' ').next().and_then(|word| word.parse().ok()).unwrap_or_else(|| panic!("{name}: {explained}"))
    };
    let wait = number("Next Attempt:") - number("Created:");
    assert!((295..=330).contains(&wait), "{wait} s: {explained}");
    quiet(&retry);

    let many = server("too-many", &next);
    let held: Vec<Client> = (0..50).map(|_| greet(&many)).collect();
    let (mut last, banner) = Client::connect(many.smtp());
    assert_eq!(banner, "421 4.7.0 too many connections from your network");
    assert_eq!(last.rest(), "");
    drop(held);
    quiet(&many);
}
