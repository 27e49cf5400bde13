//! The configuration: its text, and what the console changes of it.

use ph_config::{Answer, Config, ConfigEditor, EditSession};
use std::sync::Arc;

pub static TEXT_WORDS: &[&str] = &[
    "retry_interval = 60\n",
    "Domain x.example { Max_Retries = 5 }\n",
    "Domain \"/^d[0-9]$/\" { }\n",
    "Binding_Group g { Binding b { Bind_Address = 192.0.2.1 } }\n",
    "ESMTP_Listener { Listen \":25\" { } Peer 10.0.0.0/8 { Open_Relay = true } }\n",
    "Scriptlet \"scriptlet\" { Script \"a\" { Source = \"a.b\" } }\n",
    "Relay_Hosts = ( 10.0.0.0/8 \"fd00::/8\" )\n",
    "Context = [ a = \"b\" ]\n",
    "Pathway_Group e { Pathway p { } }\n",
    "Outbound_Throttle_Messages = 3000/60\n",
    "\"15 minutes\"",
    "# c\n",
    "/* c */",
    "{",
    "}",
    "(",
    "[",
    "\"",
    "'",
    " = ",
];

/// A text that loads loads again from what it is written out as.
pub fn text(input: &[u8]) {
    // What an include names would be read from this machine.
    if includes(input) {
        return;
    }
    match Config::parse_bytes("fuzz.conf", input) {
        Ok(loaded) => writes_out(&loaded.config),
        Err(report) => {
            let text = report.to_string();
            assert!(text.contains("fuzz.conf:"), "an error without its place: {text}");
        }
    }
}

fn includes(input: &[u8]) -> bool {
    input.to_ascii_lowercase().windows(7).any(|seven| seven == b"include")
}

fn writes_out(config: &Config) {
    let text = config.text();
    let again = match Config::parse("again.conf", &text) {
        Ok(loaded) => loaded.config,
        Err(report) => panic!("what was written out does not load:\n{text}\n{report}"),
    };
    assert_eq!(again.to_json(), config.to_json(), "another configuration came back from:\n{text}");
    let _ = (config.relay_warnings(), config.without_effect(), config.restart_only_changes(&again));
    let scope = config.sending("g", "b", "x.example");
    let _ = scope.get(&ph_config::options::RETRY_INTERVAL);
    for at in 0..config.listeners().len() {
        let _ = config.listen_scope(at, 0);
    }
}

pub static LINE_WORDS: &[&str] = &[
    "begin\n",
    "begin from scratch\n",
    "commit\n",
    "rollback\n",
    "replay\n",
    "set retry_interval 60\n",
    "set domain x.example max_retries = 5\n",
    "set binding_group g binding b domain d outbound_throttle_messages 10/60\n",
    "set esmtp_listener listen :2526 idle_time 30\n",
    "set relay_hosts ( 10.0.0.0/8 )\n",
    "set context [ a = b ]\n",
    "unset domain x.example\n",
    "get retry_interval\n",
    "eval binding b domain d retry_interval\n",
    "show\n",
    "showrecurse binding\n",
    "locate domain x\n",
    "\"",
    "\n",
];

/// Lines of the console, each put in force.
pub fn line(input: &[u8]) {
    if includes(input) {
        return;
    }
    let editor = ConfigEditor::new(Arc::new(Config::builtin()), None);
    let mut session = EditSession::default();
    let text = String::from_utf8_lossy(input);
    for line in text.lines().take(20) {
        let verb = line.split_ascii_whitespace().next().unwrap_or("");
        // These two read and write files by name.
        if verb.to_ascii_lowercase().contains("reload") || verb.to_ascii_lowercase().contains("writeback") {
            continue;
        }
        if let Answer::Apply(pending) = editor.run(&mut session, line) {
            let _ = editor.accept(&mut session, pending);
        }
    }
    writes_out(&editor.current());
}
