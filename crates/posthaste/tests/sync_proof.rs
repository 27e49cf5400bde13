//! `scripts/sync-proof`: that no `250` leaves before the disk has the message is shown on the system calls of the real
//! binary; and that the script would say so if it were otherwise, on traces that were made to be wrong.

mod common;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn script() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scripts/sync-proof")
}

fn run(arguments: &[&str]) -> Output {
    Command::new("python3").arg(script()).args(arguments).output().expect("python3 runs")
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

#[test]
fn no_250_leaves_before_the_fdatasync_of_its_batch() {
    let messages = if common::strain::soak() { "5000" } else { "100" };
    let output = run(&["--binary", env!("CARGO_BIN_EXE_posthaste"), "--messages", messages]);
    let text = text(&output);
    println!("{text}");
    if output.status.code() == Some(2) && (text.contains("strace is not installed") || text.contains("not permitted")) {
        assert!(std::env::var_os("CI").is_none(), "the tests need strace: run `make test`");
        return;
    }
    assert!(output.status.success(), "{text}");
    assert_eq!(text.matches("every 250 after its sync").count(), 4, "{text}");
}

const OPENED: &str = r#"100 10:00:00.1 openat(AT_FDCWD, "/spool/log/00000001.log", O_RDWR|O_CLOEXEC) = 9"#;
const ACCEPTED: &str =
    r#"101 10:00:00.2 accept4(5, {sa_family=AF_INET}, [128 => 16], SOCK_CLOEXEC|SOCK_NONBLOCK) = 12"#;
const CAME: &str =
    r#"101 10:00:00.3 recvfrom(12, "X-Proof-Id: 000000000001\r\nSubject: proof\r\n.\r\n", 4096, 0, NULL, NULL) = 60"#;
const WRITTEN: &str =
    r#"100 10:00:00.4 pwritev(9, [{iov_base="\1\0X-Proof-Id: 000000000001\r\n", iov_len=60}], 1, 4096) = 60"#;
const SYNC_BEGUN: &str = "100 10:00:00.5 fdatasync(9 <unfinished ...>";
const SYNCED: &str = "100 10:00:00.6 <... fdatasync resumed>) = 0";
const REPLIED: &str =
    r#"101 10:00:00.7 sendto(12, "250 2.0.0 OK 2E/D5-01006-1C8E7B6A\r\n", 37, MSG_NOSIGNAL, NULL, 0) = 37"#;

#[test]
fn the_script_sees_each_way_to_speak_too_early() {
    let good = [OPENED, ACCEPTED, CAME, WRITTEN, SYNC_BEGUN, SYNCED, REPLIED];
    let failed = "100 10:00:00.6 <... fdatasync resumed>) = -1 EIO (Input/output error)";
    let write_failed = WRITTEN.replace("= 60", "= -1 ENOSPC (No space left on device)");
    let other_file = "100 10:00:00.5 fdatasync(8 <unfinished ...>";
    let closed = "100 10:00:00.45 close(9) = 0";
    let again = REPLIED.replace("10:00:00.7", "10:00:00.8");
    let cases: [(&str, Vec<&str>, bool); 9] = [
        ("in order", good.to_vec(), true),
        ("before the sync has ended", vec![OPENED, ACCEPTED, CAME, WRITTEN, SYNC_BEGUN, REPLIED, SYNCED], false),
        ("before the write", vec![OPENED, ACCEPTED, CAME, SYNC_BEGUN, WRITTEN, SYNCED, REPLIED], false),
        ("without a sync", vec![OPENED, ACCEPTED, CAME, WRITTEN, REPLIED], false),
        ("after a sync that failed", vec![OPENED, ACCEPTED, CAME, WRITTEN, SYNC_BEGUN, failed, REPLIED], false),
        ("after a write that failed", vec![OPENED, ACCEPTED, CAME, &write_failed, SYNC_BEGUN, SYNCED, REPLIED], false),
        ("after a sync of another file", vec![OPENED, ACCEPTED, CAME, WRITTEN, other_file, SYNCED, REPLIED], false),
        (
            "after the file was closed",
            vec![OPENED, ACCEPTED, CAME, WRITTEN, closed, OPENED, SYNC_BEGUN, SYNCED, REPLIED],
            false,
        ),
        ("twice", vec![OPENED, ACCEPTED, CAME, WRITTEN, SYNC_BEGUN, SYNCED, REPLIED, &again], false),
    ];
    let keep = tempfile::tempdir().expect("a folder");
    for (what, lines, proven) in cases {
        let trace = keep.path().join("trace");
        common::write(&trace, &(lines.join("\n") + "\n"));
        let output = run(&["--analyse", &trace.display().to_string()]);
        assert_eq!(output.status.code(), Some(i32::from(!proven)), "{what}: {}", text(&output));
    }
}
