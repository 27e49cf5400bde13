//! Changing a configuration from the console, and saving it.

use ph_config::{Answer, Config, ConfigEditor, EditSession, options as opt};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

struct Console {
    editor: ConfigEditor,
    session: EditSession,
}

impl Console {
    fn new(text: &str) -> Console {
        let config = Config::parse("test", text).unwrap_or_else(|report| panic!("{report}")).config;
        Console { editor: ConfigEditor::new(Arc::new(config), None), session: EditSession::default() }
    }

    fn open(path: &Path) -> Console {
        let config = Config::load(path).unwrap_or_else(|report| panic!("{report}")).config;
        Console { editor: ConfigEditor::new(Arc::new(config), Some(path)), session: EditSession::default() }
    }

    fn run(&mut self, line: &str) -> String {
        run(&self.editor, &mut self.session, line)
    }

    fn refused(&mut self, line: &str) -> String {
        match self.editor.run(&mut self.session, line) {
            Answer::Failed(text) => text,
            Answer::Text(text) => panic!("{line} was done: {text}"),
            Answer::Apply(pending) => panic!("{line} was done: {}", pending.text),
        }
    }
}

fn run(editor: &ConfigEditor, session: &mut EditSession, line: &str) -> String {
    match editor.run(session, line) {
        Answer::Text(text) => text,
        Answer::Failed(text) => panic!("{line}: {text}"),
        Answer::Apply(pending) => editor.accept(session, pending).unwrap(),
    }
}

const DOCUMENTED: &str = "\
Message_Expiration = 86400

Domain earthlink.net {
  Message_Expiration = 900
}

Binding smtp-01 {
  EHLO_Hostname = \"smtp-01.com\"
  Domain relay.com {
    EHLO_Hostname = \"relay.com\"
  }
}
";

#[test]
fn outputs_are_those_of_the_documentation() {
    let mut console = Console::new(DOCUMENTED);
    for (line, wanted) in [
        ("get message_expiration", "Message_Expiration = 86400\n"),
        ("get domain earthlink.net message_expiration", "\tMessage_Expiration = 900\n"),
        (
            "unset domain earthlink.net message_expiration",
            "\"Message_Expiration\" has been unset. Effective value is now:\n\tMessage_Expiration = 86400\n",
        ),
        ("get binding smtp-01 ehlo_hostname", "\tEHLO_Hostname = \"smtp-01.com\"\n"),
        ("get binding smtp-01 domain relay.com ehlo_hostname", "\tEHLO_Hostname = \"relay.com\"\n"),
        (
            "unset binding smtp-01 domain relay.com ehlo_hostname",
            "\"EHLO_Hostname\" has been unset. Effective value is now:\n\tEHLO_Hostname = \"smtp-01.com\"\n",
        ),
        ("set Relay_Hosts ( 10.0.0.1 10.0.0.2 )", "Relay_Hosts = (\n  10.0.0.1\n  10.0.0.2\n)\n"),
        ("get blackhole", "Option 'Blackhole' is not set in scope ''.\n"),
        ("eval blackhole", "Blackhole = 0\n"),
        ("eval never_retry", "Never_Retry = 0\n"),
        ("eval retry_interval", "Retry_Interval = 1200\n"),
        ("eval spool_mode", "Spool_Mode = 0640\n"),
        ("set suspend_delivery true", "Suspend_Delivery = true\n"),
        ("set suspend_delivery = enabled", "Suspend_Delivery = enabled\n"),
        ("eval suspend_delivery", "Suspend_Delivery = enabled\n"),
        (
            "get domain new.example retry_interval",
            "Option 'Retry_Interval' is not set in scope 'Domain:new.example:'.\n",
        ),
        ("eval domain new.example retry_interval", "\tRetry_Interval = 1200\n"),
        ("set bounce_pattern \"^v-\\d+#@\"", "Bounce_Pattern = \"^v-\\d+#@\"\n"),
    ] {
        assert_eq!(console.run(line), wanted, "{line}");
    }
    let config = console.editor.current();
    assert!(config.global().get(&opt::SUSPEND_DELIVERY));
    assert!(config.global().get(&opt::RELAY_HOSTS).contains("10.0.0.2".parse().unwrap()));
    assert_eq!(config.global().find(&opt::SUSPEND_DELIVERY).unwrap().1.place, None, "it stands in no file");
}

#[test]
fn show_and_locate() {
    let mut console = Console::new(
        "Esmtp_Listener { Listen \":25\" { } Listen \":587\" { Enable = false SMTP_Extensions = ( \"STARTTLS\" ) }
         Idle_Time = 300 } Control_Listener { Listen \"/tmp/2025\" { } }
         domain \"/(?:^|[.])example[.]com$/\" { } mail_loop \"m\" { Use_IP = false }",
    );
    assert_eq!(
        console.run("show esmtp_listener"),
        "Listen \":25\" { ... }\nListen \":587\" { ... }\nIdle_Time = 300\n"
    );
    assert_eq!(
        console.run("showrecurse esmtp_listener"),
        "Listen \":25\" {\n}\nListen \":587\" {\n  Enable = false\n  SMTP_Extensions = (\n    \"STARTTLS\"\n  )\n}\nIdle_Time = 300\n"
    );
    assert_eq!(console.run("show mail_loop m"), "Use_IP = false\n");
    assert_eq!(console.run("show esmtp_listener idle_time"), "\tIdle_Time = 300\n");
    assert_eq!(
        console.run("locate listen 25$"),
        "Listen \":25\"\n  is at Esmtp_Listener::Listen:\\:25:\nListen \"/tmp/2025\"\n  is at Control_Listener::Listen:/tmp/2025:\n"
    );
    assert!(console.run("locate domain ex.+").starts_with("Domain \"/(?:^|[.])example"));
    assert!(console.refused("locate nothing").contains("There is no scope"));
    assert!(console.refused("show domain nowhere").contains("There is no Domain:nowhere:"));
}

#[test]
fn eval_follows_the_fallback_of_each_side() {
    let mut console = Console::open(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/files/relay.conf"));
    assert_eq!(console.run("eval esmtp_listener listen :25 idle_time"), "\tIdle_Time = 300\n");
    assert_eq!(
        console.run("eval esmtp_listener listen \"[*]:25\" enable"),
        "\tENABLE = off\n".replace("ENABLE", "Enable")
    );
    assert_eq!(console.run("eval retry_interval"), "Retry_Interval = 1200\n");
    assert_eq!(console.run("eval hook_cpu_limit"), "Hook_CPU_Limit = 2\n");
    let mut console = Console::open(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/files/fallback.conf"));
    for (line, wanted) in [
        ("eval binding_group G binding g1 domain d2.test retry_interval", "\tRetry_Interval = 800\n"),
        ("eval binding_group G binding g1 domain d1.test retry_interval", "\tRetry_Interval = 600\n"),
        ("eval binding g2 domain d9.test retry_interval", "\tRetry_Interval = 500\n"),
        ("eval binding solo domain d1.test max_retries", "\tMax_Retries = 3\n"),
        ("eval domain zz.test max_retries", "\tMax_Retries = 8\n"),
        ("eval domain \"/test$/\" max_retries", "\tMax_Retries = 8\n"),
        ("eval binding nowhere domain x.org max_retries", "\tMax_Retries = auto\n"),
        ("eval host h.example max_outbound_connections", "\tMax_Outbound_Connections = -1\n"),
    ] {
        assert_eq!(console.run(line), wanted, "{line}");
    }
    let mut console = Console::open(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/files/gateway.conf"));
    for (line, wanted) in [
        ("eval esmtp_listener peer 203.0.113.7 open_relay", "\tOpen_Relay = true\n"),
        ("eval esmtp_listener peer 203.0.113.7 pathway", "\tPathway = partner\n"),
        ("eval esmtp_listener listen 10.1.1.5:587 peer 1.2.3.4 require_ehlo", "\tRequire_EHLO = true\n"),
        ("eval pathway_group edge pathway public max_message_size", "\tMax_Message_Size = 26214400\n"),
        ("eval esmtp_listener listen 10.1.1.5:465 listener_sessions", "\tListener_Sessions = 2000\n"),
    ] {
        assert_eq!(console.run(line), wanted, "{line}");
    }
}

#[test]
fn what_is_refused_changes_nothing() {
    let mut console = Console::new("retry_interval = 5 binding b { }");
    let before = console.editor.current().generation();
    for (line, reason) in [
        ("set blackhole maybe", "`maybe` is not allowed"),
        ("set retry_intervall 5", "did you mean `Retry_Interval`?"),
        ("set retry_interval", "Which value"),
        ("set domain x bind_address 10.0.0.1", "valid in: global"),
        ("set binding a:b retry_interval 5", "has a `:`"),
        ("set local_changes_only true", "needs Local_Changes_File"),
        ("set domain x", "Which option"),
        ("unset", "global scope cannot be unset"),
        ("unset domain nowhere", "There is no Domain:nowhere:"),
        ("unset never_retry", "is not set in scope ''"),
        ("get", "Which option"),
        ("get retry_interval 7", "is too much"),
        ("commit", "No transaction"),
        ("rollback", "No transaction"),
        ("replay", "No transaction"),
        ("reload", "no configuration file"),
        ("reload /nowhere", "Reconfigure failed."),
        ("nonsense", "config begin"),
        ("", "config begin"),
        ("set x \"", "never closed"),
        ("eval nosuch", "is not a valid"),
    ] {
        let text = console.refused(line);
        assert!(text.contains(reason), "{line}: {text}");
        assert!(text.ends_with('\n'), "{line}");
    }
    assert_eq!(console.editor.current().generation(), before);
}

#[test]
fn a_transaction_is_seen_only_by_its_session_until_it_is_committed() {
    let mut console = Console::new("");
    let mut other = EditSession::default();
    console.run("begin");
    console.run("set threadpool accept concurrency 5");
    console.run("set esmtp_listener listen :587 pool_name accept");
    console.run("set esmtp_listener listen :587 concurrency 5");
    assert_eq!(
        console.run("replay"),
        "config set threadpool accept concurrency 5\nconfig set esmtp_listener listen :587 pool_name accept\nconfig set esmtp_listener listen :587 concurrency 5\n"
    );
    assert_eq!(console.run("get esmtp_listener listen :587 concurrency"), "\tConcurrency = 5\n");
    let outside = run(&console.editor, &mut other, "get esmtp_listener listen :587 concurrency");
    assert!(outside.contains("is not set"), "{outside}");
    console.run("commit");
    assert_eq!(console.editor.current().listeners()[0].listens.len(), 1);
    console.run("begin");
    console.run("set retry_interval 9");
    console.run("rollback");
    assert_eq!(console.editor.current().global().get(&opt::RETRY_INTERVAL), 1200);
}

#[test]
fn the_first_commit_wins_and_later_ones_fail_whole() {
    let console = Console::new("retry_interval = 1 never_retry = false");
    let (mut a, mut b) = (EditSession::default(), EditSession::default());
    for session in [&mut a, &mut b] {
        run(&console.editor, session, "begin");
    }
    run(&console.editor, &mut a, "set retry_interval 2");
    run(&console.editor, &mut b, "set never_retry true");
    run(&console.editor, &mut a, "commit");
    let Answer::Failed(text) = console.editor.run(&mut b, "commit") else { panic!("the second commit was done") };
    assert!(text.contains("another session"), "{text}");
    let global = console.editor.current();
    assert_eq!((global.global().get(&opt::RETRY_INTERVAL), global.global().get(&opt::NEVER_RETRY)), (2, false));
    assert!(run(&console.editor, &mut b, "replay").contains("never_retry"), "what was typed is still there");
    run(&console.editor, &mut b, "rollback");
}

#[test]
fn a_pending_configuration_that_came_too_late_is_not_accepted() {
    let console = Console::new("");
    let (mut a, mut b) = (EditSession::default(), EditSession::default());
    let Answer::Apply(first) = console.editor.run(&mut a, "set retry_interval 2") else { panic!() };
    let Answer::Apply(second) = console.editor.run(&mut b, "set retry_interval 3") else { panic!() };
    console.editor.accept(&mut a, first).unwrap();
    assert!(console.editor.accept(&mut b, second).is_err());
    assert_eq!(console.editor.current().global().get(&opt::RETRY_INTERVAL), 2);
}

#[test]
fn a_configuration_from_scratch_keeps_what_must_be_set() {
    let mut console = Console::new("retry_interval = 7");
    console.run("begin from scratch");
    assert!(console.run("showrecurse").contains("ThreadPool \"IO\" {"));
    assert!(console.refused("unset threadpool IO").contains("always set"));
    assert!(console.refused("unset timestampformat").contains("always set"));
    console.run("set threadpool IO concurrency 9");
    console.run("set never_retry true");
    console.run("commit");
    let config = console.editor.current();
    assert_eq!(config.global().get(&opt::RETRY_INTERVAL), 1200);
    assert_eq!(config.threadpools().iter().find(|p| &*p.name == "IO").unwrap().concurrency, 9);
    assert!(console.refused("writeback").contains("from scratch"));
}

#[test]
fn unset_takes_a_whole_scope_out() {
    let mut console = Console::new("domain x { retry_interval = 1 } binding b { domain x { retry_interval = 2 } }");
    assert_eq!(console.run("unset binding b"), "Binding \"b\" has been unset.\n");
    assert_eq!(console.editor.current().bindings().len(), 1);
    assert_eq!(console.editor.current().sending("default", "b", "x").get(&opt::RETRY_INTERVAL), 1);
    console.run("set binding b retry_interval 5");
    assert_eq!(console.editor.current().sending("default", "b", "y").get(&opt::RETRY_INTERVAL), 5);
}

#[test]
fn a_policy_asks_with_words_and_gets_values() {
    let console = Console::new("domain x { retry_interval = \"5 minutes\" } relay_hosts = ( 10.0.0.0/8 )");
    let get = |words: &[&str], fallback| console.editor.lookup(words, fallback);
    let looked = get(&["domain", "x", "retry_interval"], false).unwrap();
    assert_eq!(looked.value, Some(ph_config::Value::Amount(300)));
    assert_eq!(get(&["blackhole"], false).unwrap().value, None);
    assert_eq!(get(&["never_retry"], true).unwrap().value, Some(ph_config::Value::Bool(false)));
    assert!(get(&["nosuch"], true).is_err());
    let mut session = EditSession::default();
    let mut set = |words: &[&str]| match console.editor.run_words(&mut session, words) {
        Answer::Apply(pending) => Ok(pending),
        Answer::Failed(text) => Err(text),
        Answer::Text(text) => panic!("{text}"),
    };
    let Err(text) = set(&["set", "relay_hosts", "( 10.9.0.1 a b )"]) else { panic!("a name is no network") };
    assert!(text.contains("`a` is not a network"), "{text}");
    let pending = set(&["set", "ehlo_hostname", "a b \"c\""]).unwrap_or_else(|text| panic!("{text}"));
    assert_eq!(&*pending.config.global().get(&opt::EHLO_HOSTNAME), "a b \"c\"");
    let pending = set(&["set", "relay_hosts", "( 10.9.0.1 )"]).unwrap_or_else(|text| panic!("{text}"));
    assert!(pending.config.global().get(&opt::RELAY_HOSTS).contains("10.9.0.1".parse().unwrap()));
}

#[test]
fn a_change_tells_only_what_it_made_doubtful() {
    let mut console = Console::new("server_max_file_descriptors = 100");
    let Answer::Apply(pending) = console.editor.run(&mut console.session, "set retry_interval 5") else { panic!() };
    assert!(pending.warnings.is_empty(), "{}", pending.warnings);
    let Answer::Apply(pending) = console.editor.run(&mut console.session, "set esmtp_listener pathway nowhere") else {
        panic!()
    };
    assert_eq!(pending.warnings.diagnostics().len(), 1, "{}", pending.warnings);
}

#[test]
fn an_option_that_is_set_again_and_again_is_one_change() {
    let site = Site::new(&[("main.conf", "retry_interval = 1\n")]);
    let mut console = Console::open(&site.path("main.conf"));
    for n in 2..300 {
        console.run(&format!("set retry_interval {n}"));
        console.run("set domain x max_retries 1");
    }
    console.run("set never_retry true");
    console.run("unset never_retry");
    console.run("writeback");
    assert_eq!(site.read("main.conf"), "retry_interval = 299\nDomain \"x\" {\n  Max_Retries = 1\n}\n");
}

#[test]
fn levels_are_set_as_the_documentation_shows() {
    let mut console = Console::new("");
    assert_eq!(console.run("set debug_flags DEBUG ( SMTP )"), "Debug = (\n  SMTP\n)\n");
    assert_eq!(console.editor.current().debug_flags().levels[0].1.len(), 1);
}

struct Site {
    folder: tempfile::TempDir,
}

impl Site {
    fn new(files: &[(&str, &str)]) -> Site {
        let site = Site { folder: tempfile::tempdir().unwrap() };
        for (name, text) in files {
            fs::write(site.path(name), text.replace("{dir}", &site.folder.path().display().to_string())).unwrap();
        }
        site
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }
}

#[test]
fn a_change_goes_into_the_writable_file_that_opens_the_scope() {
    let main = "readonly_include \"a.conf\"\ninclude \"c.conf\"\n";
    let a = "domain x.org { gateway = g1  include \"b.conf\" }\n";
    let site =
        Site::new(&[("main.conf", main), ("a.conf", a), ("b.conf", "# mine\n"), ("c.conf", "never_retry = true")]);
    let mut console = Console::open(&site.path("main.conf"));
    console.run("set domain x.org gateway g2");
    let text = console.run("writeback");
    assert!(text.contains("b.conf written."), "{text}");
    assert_eq!(site.read("b.conf"), "# mine\nGateway = g2\n");
    assert_eq!(
        (site.read("a.conf"), site.read("c.conf"), site.read("main.conf")),
        (a.into(), "never_retry = true".into(), main.into())
    );
    let again = Config::load(&site.path("main.conf")).unwrap().config;
    assert_eq!(again.sending("", "", "x.org").get(&opt::GATEWAY).as_deref(), Some("g2"));
    assert_eq!(console.run("writeback"), "Nothing has changed.\n");
}

#[test]
fn comments_and_layout_stay_and_values_are_replaced_in_place() {
    let main = "# top\nretry_interval   =  10   # base\n\nbinding b {   # one\n  max_retries = 3\n  domain x { gateway = a }\n}\nrelay_hosts = ( 10.0.0.1   # first\n )\n";
    let site = Site::new(&[("main.conf", main)]);
    let mut console = Console::open(&site.path("main.conf"));
    console.run("set retry_interval \"2 hours\"");
    console.run("set binding b never_retry on");
    console.run("set binding b domain x ehlo_hostname \"a b\"");
    console.run("set binding b domain new retry_interval 4");
    console.run("unset binding b max_retries");
    console.run("set relay_hosts ( 10.0.0.0/8 a::1 )");
    console.run("writeback");
    assert_eq!(
        site.read("main.conf"),
        "# top\nretry_interval   =  \"2 hours\"   # base\n\nbinding b {   # one\n  domain x { gateway = a EHLO_Hostname = \"a b\" }\n  Never_Retry = on\n}\nrelay_hosts = (\n  \"10.0.0.0/8\"\n  \"a::1\"\n)\nBinding \"b\" {\n  Domain \"new\" {\n    Retry_Interval = 4\n  }\n}\n"
    );
    let again = Config::load(&site.path("main.conf")).unwrap_or_else(|report| panic!("{report}")).config;
    // The same settings, though in another order.
    let sorted = |text: String| {
        let mut lines: Vec<String> = text.lines().map(|l| l.trim().replace('"', "")).collect();
        lines.sort();
        lines
    };
    assert_eq!(sorted(again.text()), sorted(console.editor.current().text()));
}

#[test]
fn a_scope_that_is_taken_out_leaves_the_file() {
    let main = "domain x {\n  retry_interval = 1\n}\n# between\ndomain y { retry_interval = 2 } domain z { }\ndomain x { never_retry = true }\n";
    let site = Site::new(&[("main.conf", main)]);
    let mut console = Console::open(&site.path("main.conf"));
    console.run("unset domain x");
    console.run("unset domain y");
    console.run("writeback");
    assert_eq!(site.read("main.conf"), "# between\n domain z { }\n");
}

#[test]
fn a_scope_that_is_taken_out_and_made_again_has_only_what_is_new() {
    let main = "binding b {\n  retry_interval = 1\n  max_retries = 2\n  domain x { retry_interval = 3 }\n}\n";
    let site = Site::new(&[("main.conf", main)]);
    let mut console = Console::open(&site.path("main.conf"));
    console.run("unset binding b");
    console.run("set binding b retry_interval 9");
    console.run("writeback");
    assert_eq!(site.read("main.conf"), "binding b {\n  retry_interval = 9\n}\n");
}

#[test]
fn what_no_file_opens_goes_into_the_local_changes_file() {
    let main = "local_changes_file = \"{dir}/local.conf\"\ndomain x { retry_interval = 1 }\n";
    let site = Site::new(&[("main.conf", main)]);
    let mut console = Console::open(&site.path("main.conf"));
    console.run("set domain new.example retry_interval 3");
    console.run("set domain x max_retries 3");
    console.run("writeback");
    assert_eq!(site.read("local.conf"), "Domain \"new.example\" {\n  Retry_Interval = 3\n}\n");
    assert!(site.read("main.conf").contains("domain x { retry_interval = 1 Max_Retries = 3 }"));
    console.run("set domain new.example retry_interval 4");
    console.run("writeback");
    assert_eq!(site.read("local.conf"), "Domain \"new.example\" {\n  Retry_Interval = 4\n}\n");
}

#[test]
fn with_local_changes_only_nothing_else_is_written() {
    let main = "local_changes_file = \"{dir}/local.conf\" local_changes_only = true\nretry_interval = 1\n";
    let site = Site::new(&[("main.conf", main)]);
    let before = site.read("main.conf");
    let mut console = Console::open(&site.path("main.conf"));
    console.run("set retry_interval 2");
    console.run("writeback");
    console.run("set retry_interval 3");
    console.run("writeback");
    assert_eq!((site.read("main.conf"), site.read("local.conf")), (before, "Retry_Interval = 3\n".into()));
    let again = Config::load(&site.path("main.conf")).unwrap().config;
    assert_eq!(again.global().get(&opt::RETRY_INTERVAL), 3);
}

#[test]
fn what_has_no_place_is_printed_and_kept() {
    let mut console = Console::new("retry_interval = 1");
    console.run("set domain x retry_interval 2");
    let text = console.run("writeback");
    assert!(text.contains("Not everything could be saved"), "{text}");
    assert!(text.contains("Domain \"x\" {\n  Retry_Interval = 2\n}\n"), "{text}");
    assert_eq!(console.run("writeback"), text);
}

#[test]
fn a_file_that_somebody_else_changed_is_not_touched() {
    let site = Site::new(&[("main.conf", "retry_interval = 1\n")]);
    let mut console = Console::open(&site.path("main.conf"));
    console.run("set retry_interval 2");
    fs::write(site.path("main.conf"), "retry_interval = 1 # edited\n").unwrap();
    assert!(console.refused("writeback").contains("was changed since it was read"));
    assert_eq!(site.read("main.conf"), "retry_interval = 1 # edited\n");
}

#[test]
fn writeback_to_another_path_writes_the_whole() {
    let site =
        Site::new(&[("main.conf", "retry_interval = 1\ninclude d.conf"), ("d.conf", "domain x { gateway = g }")]);
    let mut console = Console::open(&site.path("main.conf"));
    console.run("set never_retry true");
    console.run(&format!("writeback \"{}\"", site.path("all.conf").display()));
    let again = Config::load(&site.path("all.conf")).unwrap().config;
    assert!(again.global().get(&opt::NEVER_RETRY));
    assert_eq!(again.sending("", "", "x").get(&opt::GATEWAY).as_deref(), Some("g"));
}

#[test]
fn a_reload_forgets_online_changes_and_a_bad_file_changes_nothing() {
    let site = Site::new(&[("main.conf", "retry_interval = 1\nspoolbase = /a")]);
    let mut console = Console::open(&site.path("main.conf"));
    console.run("set retry_interval 2");
    fs::write(site.path("main.conf"), "retry_interval = ").unwrap();
    let text = console.refused("reload");
    assert!(text.ends_with("Reconfigure failed.\n"), "{text}");
    assert_eq!(console.editor.current().global().get(&opt::RETRY_INTERVAL), 2);
    console.run("begin");
    assert!(console.refused("reload").contains("transaction"));
    console.run("rollback");
    fs::write(site.path("main.conf"), "retry_interval = 4\nspoolbase = /b").unwrap();
    let text = console.run("reload");
    assert!(text.contains("Spoolbase needs a restart"), "{text}");
    assert_eq!(console.editor.current().global().get(&opt::RETRY_INTERVAL), 4);
    assert_eq!(console.run("writeback"), "Nothing has changed.\n");
}
