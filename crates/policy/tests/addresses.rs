//! `msys.parseRFC2822Addresses` against Python's `email.utils` on a corpus of address lists.

mod common;

use common::{Site, message, module, session};
use ph_policy::HookCall;
use std::io::Write;
use std::process::{Command, Stdio};

/// Lists that both read alike.
const CORPUS: &str = include_str!("addresses.txt");

/// Lists that Python reads otherwise: ours, and why.
const DIFFERENT: &[(&str, &[&str], &str)] = &[
    ("<@one.org,@two.org:joe@three.org>", &["joe@three.org"], "the commas of a route end no mailbox"),
    ("\"\"@quoted.org", &[], "an empty local part is none"),
    ("@x", &[], "nor is a missing one"),
    ("two words@x, a@b", &["a@b"], "words without a dot between them are no local part"),
    ("a@b@c, d@e", &["d@e"], "a mailbox has one @"),
    ("<<a@b>>", &[], "brackets do not nest"),
    ("a@b> , c@d", &["c@d"], "a bracket that was never opened spoils its mailbox"),
    ("a@b c@d", &[], "two mailboxes need a comma"),
];

/// One line of output a list: what is found, with blanks between. Python joins what stands around an `@`; words without one are no
/// addresses.
const SCRIPT: &str = r#"
import email.utils, inspect, sys
lenient = {"strict": False} if "strict" in inspect.signature(email.utils.getaddresses).parameters else {}
for line in sys.stdin.buffer.read().decode().split("\n"):
    found = email.utils.getaddresses([line], **lenient)
    print("|".join(address for name, address in found if "@" in address))
"#;

/// `None` where there is no Python, which only a machine that is not CI may lack.
fn pythons(lists: &[&str]) -> Option<Vec<String>> {
    let child = Command::new("python3").args(["-c", SCRIPT]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
    let mut child = match child {
        Ok(child) => child,
        Err(error) if std::env::var_os("CI").is_none() && error.kind() == std::io::ErrorKind::NotFound => return None,
        Err(error) => panic!("python3: {error}"),
    };
    child.stdin.take().unwrap().write_all(lists.join("\n").as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    Some(String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect())
}

/// As a policy sees them.
async fn ours(lists: &[&str]) -> Vec<String> {
    let functions = r#"
    function mod:validate_data(msg, ac, vctx)
      for line in (msys.readfile(lists) .. "\n"):gmatch("([^\n]*)\n") do
        print("found", table.concat(msys.parseRFC2822Addresses(line), "|"))
      end
      return msys.core.VALIDATE_CONT
    end
    "#;
    let mut site = Site::new("");
    let path = site.folder.path().join("lists");
    std::fs::write(&path, lists.join("\n")).unwrap();
    let policy = format!("lists = {:?}\n{}", path.display().to_string(), module(functions));
    std::fs::write(site.folder.path().join("policy.lua"), policy).unwrap();
    site.settings.hook_cpu_limit = std::time::Duration::from_secs(30);
    let policy = site.load().await;
    let session = session();
    let message = message(&session, "X: 1\r\n\r\n");
    policy.call(&HookCall::ValidateData { message: &message, session: &session }).await.unwrap();
    let found = |line: String| line.strip_prefix("found ").map(str::to_owned);
    site.log.all().into_iter().filter_map(found).collect()
}

#[tokio::test]
async fn address_lists_are_read_as_python_reads_them() {
    let lists: Vec<&str> = CORPUS.lines().collect();
    let ours = ours(&lists).await;
    assert_eq!(ours.len(), lists.len());
    let Some(theirs) = pythons(&lists) else { return };
    let mut differing = Vec::new();
    for ((list, ours), theirs) in lists.iter().zip(&ours).zip(&theirs) {
        match DIFFERENT.iter().find(|(known, ..)| known == list) {
            Some((_, expected, why)) => {
                assert_eq!(*ours, expected.join("|"), "{list}: {why}");
                assert_ne!(ours, theirs, "{list}: no longer different");
            }
            None if ours != theirs => differing.push(format!("{list}\n  ours   {ours}\n  theirs {theirs}")),
            None => {}
        }
    }
    assert!(differing.is_empty(), "{}", differing.join("\n"));
}
