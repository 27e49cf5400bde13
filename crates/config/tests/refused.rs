//! What must be refused: each time with file, line, column, and how to mend it.

use ph_config::{Config, Diagnostic, Report, Severity};
use std::fs;
use std::path::Path;

fn errors(text: &str) -> Vec<Diagnostic> {
    let report = Config::parse("test.conf", text).expect_err(text);
    assert!(report.to_string().ends_with("Reconfigure failed.\n"), "{report}");
    report.of(Severity::Error).cloned().collect()
}

#[test]
fn each_error_has_its_place_and_its_help() {
    let cases: &[(&str, u32, u32, &str, &str)] = &[
        (
            "retry_intervall = 5",
            1,
            1,
            "'retry_intervall' is not a valid option name in scope 'Global'",
            "did you mean `Retry_Interval`?",
        ),
        ("\n\n  binding \"a b\" {}", 3, 11, "has a blank in it", "use `-` or `_`"),
        ("binding a:b {}", 1, 9, "has a `:` in it", "use `-` or `_`"),
        ("binding_group \"g:h\" {}", 1, 15, "has a `:` in it", "use `-` or `_`"),
        ("listen \":25\" {}", 1, 1, "'listen' is not a valid scope name in scope 'Global'", "Esmtp_Listener"),
        ("bindign b {}", 1, 1, "'bindign' is not a valid scope name in scope 'Global'", "did you mean `Binding`?"),
        ("tls = maybe", 1, 7, "`maybe` is not allowed", "`no`, `ifavailable`, `required`"),
        ("domain \"/(/\" {}", 1, 8, "is not a valid pattern at character 2", "Perl-compatible"),
        ("relay_hosts = ( 10.0.0.0/33 )", 1, 17, "`/33` is not a prefix length", "10.0.0.0/8"),
        ("relay_hosts = ( \"[::1]\" )", 1, 17, "has brackets", "10.0.0.0/8"),
        ("spool_mode = 0999", 1, 14, "`0999` is not allowed", "octal"),
        ("spool_mode = 640", 1, 14, "`640` is not allowed", "leading 0"),
        ("outbound_throttle_messages = \"5/0\"", 1, 30, "`5/0` is not allowed", "`N/S`"),
        (
            "domain x { bind_address = 10.0.0.1 }",
            1,
            12,
            "is not a valid option name in scope 'Domain'",
            "global, binding_group, binding",
        ),
        ("esmtp_listener { static_banner = \"hello\" }", 1, 34, "begins with `220`", "text"),
        ("domain x {\n  retry_interval = 1", 1, 10, "this `{` is never closed", "`}`"),
        ("retry_interval = \"1\n", 1, 18, "this `\"` is never closed", "close the string"),
        ("retry_interval = 1 /* x", 1, 20, "this comment is never closed", "`*/`"),
        ("retry_interval 5", 1, 16, "a `=` is missing after `retry_interval`", "retry_interval = 5"),
        ("retry_interval = 5 minutes\n", 1, 20, "`minutes` has no value", "needs quotes: \"5 minutes\""),
        (
            "esmtp_listener { listen \":465\" { use_ssl = true smtp_extensions = ( STARTTLS ) } }",
            1,
            49,
            "exclude each other",
            "take STARTTLS out",
        ),
        ("local_changes_only = true", 1, 1, "needs Local_Changes_File", "set Local_Changes_File"),
        ("esmtp_listener { enabled = false }", 1, 18, "is not a valid option name", "here it is called `Enable`"),
        ("ec_logger { enable = false }", 1, 13, "is not a valid option name", "here it is called `Enabled`"),
        (
            "ec_logger { mainlg = x }",
            1,
            13,
            "is not a valid option name in scope 'EC_Logger'",
            "did you mean `MainLog`?",
        ),
        ("mainlog = x", 1, 1, "is not a valid option name", "is an option of: "),
        ("binding = x", 1, 1, "is not a valid option name", "write `binding { … }`"),
        ("retry_interval { }", 1, 1, "is not a valid scope name", "write `Retry_Interval = …`"),
        ("esmtp_listener x { }", 1, 16, "has no name of its own", "write `Esmtp_Listener { … }`"),
        ("binding { }", 1, 1, "needs a name", "write `Binding \"name\" { … }`"),
        ("esmtp_listener { listen 25 {} }", 1, 25, "has no port", "\":25\""),
        (
            "esmtp_listener { listen \":25\" {} listen \"*:25\" {} listen \"0.0.0.0:25\" {} listen :26 {} } control_listener { listen :26 {} }",
            1,
            109,
            "listened on already",
            "another port",
        ),
        ("esmtp_listener { listen \":25\" { peer x { } } }", 1, 38, "is not a network", ""),
        ("never_retry = maybe", 1, 15, "`maybe` is not allowed", "`true`/`false`"),
        ("retry_interval = -1", 1, 18, "`-1` is not allowed", "number of seconds"),
        ("remote_smtp_port = 65536", 1, 20, "`65536` is not allowed", "from 1 to 65535"),
        ("retry_interval = ( 1 2 )", 1, 18, "one value is expected", ""),
        ("bounce_pattern = \"(\"", 1, 18, "is not a valid pattern", ""),
        ("relay_domains = ( a*.org )", 1, 19, "at the left end only", ""),
        ("gateway = fd00::1", 1, 11, "needs brackets", ""),
        ("gateway = \"[fd00::1]:x\"", 1, 11, "a port is a number", ""),
        ("esmtp_listener { authplainparameters = [ realm = x ] }", 1, 18, "needs the key `uri`", "file:///etc/users"),
        (
            "esmtp_listener { authplainparameters = [ uri = a reallm = x ] }",
            1,
            50,
            "unknown key `reallm`",
            "did you mean `realm`?",
        ),
        ("esmtp_listener { context = ( a b ) }", 1, 28, "pairs in `[ ]` are expected", ""),
        ("tls_protocols = \"+ALL:-TLSv9\"", 1, 17, "`TLSv9` is no protocol", ""),
        (
            "binding_group a { binding x {} }\nbinding_group b { binding x {} }",
            2,
            19,
            "is in group `a` already",
            "another name",
        ),
        ("binding \"#mmove\" {}", 1, 9, "are reserved", ""),
        ("scriptlet a { }\nscriptlet b { }", 2, 1, "another scriptlet stanza", "put all scripts into one"),
        ("scriptlet { script \"x\" { } }", 1, 13, "needs `source`", "policy.main"),
        ("opendkim { } dkim_sign { }", 1, 1, "exclude each other", "take one of them out"),
        ("datasource d { cache_size = 1 }", 1, 1, "needs `uri`", ""),
        ("custom_logger c { log_receptions = on mainlog = x }", 1, 19, "needs Reception_Format", ""),
        ("custom_logger c { reception_format = \"%i\" }", 1, 19, "needs Reception_LogFile or MainLog", ""),
        ("domain \"a b\" {}", 1, 8, "is not a domain", "pattern"),
        ("binding x {} }", 1, 14, "no open `{`", ""),
    ];
    for (text, line, column, message, help) in cases {
        let errors = errors(text);
        let first = &errors[0];
        assert!(first.message.contains(message), "{text}\n{first}");
        assert_eq!((&*first.file, first.line, first.column), ("test.conf", *line, *column), "{text}\n{first}");
        assert!(first.help.as_deref().unwrap_or_default().contains(help), "{text}\n{first}");
        let shown = first.to_string();
        assert!(shown.starts_with(&format!("test.conf:{line}:{column}: error: ")), "{shown}");
        assert!(shown.contains('^'), "{shown}");
    }
}

#[test]
fn all_errors_are_reported_and_not_only_the_first() {
    let text = "retry_intervall = 5\ntls = maybe\nbinding a:b { nonsense = 1 }\ndomain x { ";
    let lines: Vec<u32> = errors(text).iter().map(|e| e.line).collect();
    for line in [1, 2, 3, 4] {
        assert!(lines.contains(&line), "{lines:?}");
    }
    let many = "x = 1\n".repeat(10_000);
    assert!(errors(&many).len() <= 101, "consequences of one cause do not fill the screen");
}

#[test]
fn binary_files_are_refused() {
    for bytes in [&b"\x7fELF\x02\x01\x01\0\0\0"[..], b"retry_interval = \xff\xfe", b"\0", &[0x89; 4096]] {
        let report = Config::parse_bytes("x", bytes).unwrap_err();
        assert!(report.has_errors());
    }
}

#[test]
fn the_report_shows_the_line_and_the_place() {
    let report = Config::parse("mail.conf", "# first\n  tls = maybe # why\n").unwrap_err();
    let wanted = "\
mail.conf:2:9: error: TLS: `maybe` is not allowed here
  |
2 |   tls = maybe # why
  |         ^^^^^
  = help: allowed are `no`, `ifavailable`, `required`
Reconfigure failed.
";
    assert_eq!(report.to_string(), wanted);
}

fn write(folder: &Path, name: &str, text: &str) {
    fs::write(folder.join(name), text).unwrap();
}

fn load(folder: &Path) -> Result<Config, Report> {
    Config::load(&folder.join("main.conf")).map(|loaded| loaded.config)
}

#[test]
fn a_missing_include_is_an_error_that_tells_where_it_was_looked_for() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "main.conf", "retry_interval = 1\ninclude \"nowhere.conf\"\n");
    let report = load(folder.path()).unwrap_err();
    let error = report.of(Severity::Error).next().unwrap();
    assert_eq!((error.line, error.column), (2, 9), "{report}");
    assert!(error.message.contains("there is no `nowhere.conf`"));
    assert!(error.help.as_deref().unwrap().contains(&folder.path().display().to_string()));
    write(folder.path(), "main.conf", "include \"http://x/y\"");
    assert!(load(folder.path()).unwrap_err().to_string().contains("nothing here reads `http://`"));
}

#[test]
fn a_file_that_includes_itself_is_an_error_that_names_the_chain() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "main.conf", "include \"a.conf\"");
    write(folder.path(), "a.conf", "domain x { include \"b.conf\" }");
    write(folder.path(), "b.conf", "include \"a.conf\"");
    let report = load(folder.path()).unwrap_err();
    let error = report.of(Severity::Error).next().unwrap();
    assert!(error.file.ends_with("b.conf"), "{error}");
    assert!(error.message.contains("includes itself"), "{error}");
    assert_eq!(error.message.matches(" → ").count(), 2, "{error}");
    write(folder.path(), "a.conf", "include \"main.conf\"");
    assert!(load(folder.path()).unwrap_err().to_string().contains("includes itself"));
}

#[test]
fn a_local_changes_file_is_used_for_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let local = folder.path().join("local.conf");
    write(folder.path(), "main.conf", &format!("local_changes_file = \"{}\" include \"local.conf\"", local.display()));
    write(folder.path(), "local.conf", "");
    assert!(load(folder.path()).unwrap_err().to_string().contains("included already"));
    let main = folder.path().join("main.conf");
    write(folder.path(), "main.conf", &format!("local_changes_file = \"{}\"", main.display()));
    assert!(load(folder.path()).unwrap_err().to_string().contains("this is the main file"));
    fs::create_dir(folder.path().join("folder")).unwrap();
    let target = folder.path().join("folder");
    write(folder.path(), "main.conf", &format!("local_changes_file = \"{}\"", target.display()));
    assert!(load(folder.path()).unwrap_err().to_string().contains("not writable"));
}

#[test]
fn an_unreadable_main_file_is_an_error() {
    let report = Config::load(Path::new("/nowhere/at/all.conf")).unwrap_err();
    assert!(report.to_string().starts_with("/nowhere/at/all.conf: error: cannot be read"), "{report}");
    assert!(Config::load(Path::new("/")).is_err());
}

#[test]
fn an_error_in_an_included_file_names_that_file() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "main.conf", "domain x { include \"x.conf\" }");
    write(folder.path(), "x.conf", "retry_interval = 5\nrelay_domains = ( a )\n");
    let report = load(folder.path()).unwrap_err();
    let error = report.of(Severity::Error).next().unwrap();
    assert!(error.file.ends_with("x.conf"));
    assert_eq!((error.line, error.column), (2, 1));
}
