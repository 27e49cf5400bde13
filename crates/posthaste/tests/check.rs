//! `posthaste check` and the commands that only print: exit codes, places, help, and output that machines read.

mod common;

use common::{assert_matches, matches, posthaste, write};
use serde_json::Value;
use std::path::{Path, PathBuf};

/// Exit code, standard output, standard error.
fn run(arguments: &[&str]) -> (i32, String, String) {
    let output = posthaste(arguments);
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code().unwrap_or(-1), text(&output.stdout), text(&output.stderr))
}

fn check(file: &Path) -> (i32, String, String) {
    run(&["check", &file.display().to_string()])
}

#[test]
fn each_broken_configuration_is_refused_with_its_place_and_a_way_out() {
    let dir = tempfile::tempdir().expect("a folder");
    let file = dir.path().join("broken.conf");
    for (text, place, said, help) in [
        ("retry_intervall = 5\n", "1:1", "retry_intervall", "did you mean `Retry_Interval`?"),
        ("\n\n  binding \"a b\" {}\n", "3:11", "blank", "use `-` or `_`"),
        ("binding a:b {}\n", "1:9", "`:`", "use `-` or `_`"),
        ("listen \":25\" {}\n", "1:1", "'listen' is not a valid scope name in scope 'Global'", "Esmtp_Listener"),
        ("tls = maybe\n", "1:7", "`maybe` is not allowed", "`no`, `ifavailable`, `required`"),
        ("domain \"/(/\" {}\n", "1:8", "not a valid pattern", "Perl-compatible"),
        ("relay_hosts = ( 10.0.0.0/33 )\n", "1:17", "not a prefix length", "10.0.0.0/8"),
        ("spool_mode = 0999\n", "1:14", "`0999` is not allowed", "octal"),
        ("outbound_throttle_messages = \"5/0\"\n", "1:30", "`5/0` is not allowed", "`N/S`"),
        ("domain x { bind_address = 10.0.0.1 }\n", "1:12", "not a valid option name in scope 'Domain'", "binding"),
        ("esmtp_listener { static_banner = \"hello\" }\n", "1:34", "220", ""),
        ("domain x {\n  retry_interval = 1\n", "1:10", "never closed", "`}`"),
        ("retry_interval = \"1\n", "1:18", "never closed", "close the string"),
        ("retry_interval = 1 /* x\n", "1:20", "never closed", "`*/`"),
        ("include \"nosuchfile.conf\"\n", "1:9", "nosuchfile.conf", ""),
        ("include \"broken.conf\"\n", "1:9", "broken.conf", ""),
        (
            "esmtp_listener { listen \":465\" { use_ssl = true smtp_extensions = ( STARTTLS ) } }\n",
            "1:49",
            "exclude each other",
            "STARTTLS",
        ),
        ("local_changes_only = true\n", "1:1", "Local_Changes_File", "set Local_Changes_File"),
        ("domain [IPv6] {}\n", "1:8", "", "quote"),
        ("scriptlet \"scriptlet\" { script \"p\" { source = \"no.such\" } }\n", "1:", "no/such.lua", ""),
        (
            "scriptlet \"scriptlet\" { script \"p\" { source = \"foo.lua\" } }\n",
            "1:",
            "foo/lua.lua",
            "source = \"foo\"",
        ),
    ] {
        write(&file, text);
        let (code, out, error) = check(&file);
        assert_eq!(code, 1, "{text}{out}{error}");
        assert!(!out.contains("Configuration valid"), "{out}");
        let wanted = format!("{}:{place}", file.display());
        assert!(error.contains(&wanted), "{text}: {wanted} is not in\n{error}");
        assert!(error.contains("error: ") && error.contains(said), "{text}: {said} is not in\n{error}");
        assert!(error.contains(help), "{text}: {help} is not in\n{error}");
        assert!(error.trim_end().ends_with("Reconfigure failed."), "{text}: {error}");
        // `run` refuses the same, before it opens anything.
        let (code, _, refused) = run(&["run", "--config", &file.display().to_string()]);
        assert_eq!(code, 1, "{text}: {refused}");
        assert!(refused.contains(&wanted), "{text}: {refused}");
    }
    // All errors at once, not the first alone; an included file is named itself.
    write(&dir.path().join("part.conf"), "max_retries = 3\nmax_retriez = 3\n");
    write(&file, "retry_intervall = 5\ninclude \"part.conf\"\ntls = maybe\n");
    let (code, _, error) = check(&file);
    assert_eq!(code, 1);
    for place in ["broken.conf:1:1", "part.conf:2:1", "broken.conf:3:7"] {
        assert!(error.contains(place), "{place}: {error}");
    }
    // What is no text at all.
    std::fs::write(&file, (0..=255).cycle().take(5000).collect::<Vec<u8>>()).expect("written");
    assert_eq!(check(&file).0, 1);
    assert_eq!(check(&dir.path().join("nosuch.conf")).0, 1);
}

#[test]
fn each_broken_policy_is_refused_with_its_place() {
    let dir = tempfile::tempdir().expect("a folder");
    let script = dir.path().join("policy.lua");
    let config = dir.path().join("posthaste.conf");
    write(&config, "scriptlet \"scriptlet\" { script \"policy\" { source = \"policy\" } }\n");
    for (text, place) in [
        ("local x = \n", "policy.lua:"),
        ("function f(\nend\n", "policy.lua:2:"),
        ("if true then\n  print(1)\n", "policy.lua:"),
        ("This line is prose, not Lua\n", "policy.lua:1:"),
        ("local s = \"open\n", "policy.lua:1:"),
    ] {
        write(&script, text);
        for file in [&script, &config] {
            let (code, out, error) = check(file);
            assert_eq!(code, 1, "{text}{out}");
            assert!(error.contains(place) && error.contains("error: "), "{text}: {error}");
            assert!(error.trim_end().ends_with("Reconfigure failed."), "{error}");
        }
        let (code, _, error) = run(&["run", "--config", &config.display().to_string()]);
        assert_eq!(code, 1);
        assert!(error.contains(place), "{text}: {error}");
    }
    // What will be missed at run time is a warning, with what was probably meant.
    write(
        &script,
        "local mod = {}\nfunction mod:validate_rcpto() return msys.core.VALIDATE_CONT end\nmsys.registerModul(\"m\", mod)\n",
    );
    let (code, out, error) = check(&config);
    assert_eq!(code, 0, "{error}");
    assert!(out.contains("Configuration valid"), "{out}");
    assert!(error.contains("policy.lua:2:") && error.contains("validate_rcptto"), "{error}");
    assert!(error.contains("policy.lua:3:") && error.contains("msys.registerModule"), "{error}");
}

fn examples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../config/tests/files")
}

#[test]
fn configurations_as_sites_write_them_are_valid() {
    let dir = tempfile::tempdir().expect("a folder");
    for name in ["relay.conf", "bulk.conf", "fallback.conf", "gateway.conf", "torture.conf", "ops.conf"] {
        std::fs::copy(examples().join(name), dir.path().join(name)).expect(name);
    }
    std::fs::copy(examples().join("site-readonly.conf"), dir.path().join("site-readonly.conf")).expect("copied");
    std::fs::create_dir(dir.path().join("pools.d")).expect("a folder");
    for name in ["10-b.conf", "20-b.conf"] {
        std::fs::copy(examples().join("pools.d").join(name), dir.path().join("pools.d").join(name)).expect(name);
    }
    write(&dir.path().join("pools.d/.hidden"), "this is not a config\n");
    for script in ["policy/inbound.lua", "policy/routing.lua"] {
        write(&dir.path().join(script), "require(\"msys.core\")\n");
    }
    for name in ["relay.conf", "bulk.conf", "fallback.conf", "gateway.conf", "torture.conf", "ops.conf"] {
        let (code, out, error) = check(&dir.path().join(name));
        assert_eq!(code, 0, "{name}: {error}");
        assert!(out.contains("Configuration valid"), "{name}: {out}");
        // What `dump-config` prints says the same again.
        let (code, text, error) = run(&["dump-config", &dir.path().join(name).display().to_string()]);
        assert_eq!(code, 0, "{name}: {error}");
        let again = dir.path().join("again.conf");
        write(&again, &text);
        let (code, _, error) = check(&again);
        assert_eq!(code, 0, "{name} printed: {error}\n{text}");
        let (_, twice, _) = run(&["dump-config", &again.display().to_string()]);
        assert_eq!(twice, text, "{name}");
    }
    // Who may relay for strangers is said.
    let open = dir.path().join("open.conf");
    write(&open, "esmtp_listener { open_relay = true listen \":25\" {} }\nrelay_hosts = ( 0.0.0.0/0 )\n");
    let (code, _, error) = check(&open);
    assert_eq!(code, 0, "{error}");
    assert!(error.to_lowercase().contains("relay"), "{error}");
    assert!(matches("(?i)open_relay", &error) && matches("(?i)relay_hosts", &error), "{error}");
    // Accepted and without effect: told with -v.
    write(&open, "growbuf_size = 4096\n");
    let (_, _, quiet) = check(&open);
    let (code, _, told) = run(&["check", "-v", &open.display().to_string()]);
    assert_eq!(code, 0);
    assert!(
        !quiet.to_lowercase().contains("growbuf_size") && told.to_lowercase().contains("growbuf_size"),
        "{quiet}{told}"
    );
}

#[test]
fn what_machines_read_is_json() {
    let (code, out, error) = run(&["options", "--json"]);
    assert_eq!(code, 0, "{error}");
    let options: Value = serde_json::from_str(&out).expect("JSON");
    let options = options.as_array().expect("a list");
    assert!(options.len() > 200, "{}", options.len());
    let retry = options.iter().find(|option| option["name"] == "Retry_Interval").expect("Retry_Interval");
    assert_eq!(
        retry["default"].as_str().map(str::to_owned).or_else(|| Some(retry["default"].to_string())),
        Some("1200".to_owned())
    );

    let (code, out, error) = run(&["lua-api", "--json"]);
    assert_eq!(code, 0, "{error}");
    let functions: Value = serde_json::from_str(&out).expect("JSON");
    let text = functions.to_string();
    for name in ["msg:header", "vctx:set_code", "ac:esmtp_capability_add", "msys.registerModule"] {
        assert!(text.contains(name), "{name}");
    }
    let (code, out, _) = run(&["version"]);
    assert_eq!(code, 0);
    assert_matches(r"^posthaste \d+\.\d+\.\d+\n$", &out);
    // The JSON of the configuration in words is Markdown, and no less.
    let (code, out, _) = run(&["options"]);
    assert_eq!(code, 0);
    assert!(out.contains("Retry_Interval") && out.contains("| "), "{out:.200}");
}

#[test]
fn generated_pages_are_written_and_compared() {
    let dir = tempfile::tempdir().expect("a folder");
    let docs = dir.path().display().to_string();
    let (code, _, error) = run(&["docs", "--check", "--write", &docs]);
    assert_eq!(code, 1, "nothing is there yet: {error}");
    assert!(error.contains("configuration-options.md is out of date"), "{error}");
    let (code, out, error) = run(&["docs", "--write", &docs]);
    assert_eq!(code, 0, "{out}{error}");
    let (code, _, error) = run(&["docs", "--check", "--write", &docs]);
    assert_eq!(code, 0, "{error}");
    for page in
        ["configuration-options.md", "console.md", "api/README.md", "man/posthaste.8", "completions/posthaste.bash"]
    {
        let path = dir.path().join(page);
        let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{page}: {error}"));
        assert!(text.len() > 500, "{page}");
    }
    write(&dir.path().join("console.md"), "old\n");
    let (code, _, error) = run(&["docs", "--check", "--write", &docs]);
    assert_eq!(code, 1);
    assert!(error.contains("console.md is out of date") && error.lines().count() == 1, "{error}");
    // The pages of this tree.
    let tree = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs");
    let (code, _, error) = run(&["docs", "--check", "--write", &tree.display().to_string()]);
    assert_eq!(code, 0, "run `make docs`: {error}");
}
