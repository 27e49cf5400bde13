//! The end of the process, and its beginning: TERM drains and ends with 0, what is not delivered stays for the next start;
//! one server for one spool; and no root where a user is named.

mod common;

use common::strain::{self, NextHop};
use common::{Client, Server, letter, wait_for};
use ph_load::{GeneratorOptions, SinkOptions};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

/// Takes mail for loopback and keeps it; with a pid file.
fn holding(dir: &Path) -> Server {
    let settings = format!("Suspend_Delivery = true\nPidfile = \"{}/pid\"\n", dir.display());
    strain::relay(dir, "", &settings);
    Server::run(dir)
}

/// Up to the 354 of DATA.
fn within_data(server: &Server) -> Client {
    let (mut client, _) = Client::connect(server.smtp());
    for command in ["EHLO client.test", "MAIL FROM:<a@sender.test>", "RCPT TO:<b@rcpt.test>", "DATA"] {
        let reply = client.command(command);
        assert!(reply.starts_with(['2', '3']), "{command}: {reply}");
    }
    client
}

/// Waits for a process that was told to end, and returns its exit code.
fn exit_code(server: &mut Server) -> Option<i32> {
    let before = Instant::now();
    let code = server.wait();
    println!("ended after {:.2?} with {code:?}", before.elapsed());
    code
}

#[test]
fn term_says_goodbye_finishes_what_is_in_data_and_ends_with_0() {
    let keep = tempfile::tempdir().expect("a folder");
    let dir = keep.path();
    let mut server = holding(dir);
    let pid = std::fs::read_to_string(dir.join("pid")).expect("the pid file is there");
    assert_eq!(pid.trim(), server.pid().to_string());

    let (mut idle, _) = Client::connect(server.smtp());
    let (mut greeted, _) = Client::connect(server.smtp());
    assert!(greeted.command("EHLO client.test").starts_with("250"));
    let (mut in_transaction, _) = Client::connect(server.smtp());
    for command in ["EHLO client.test", "MAIL FROM:<a@sender.test>", "RCPT TO:<b@rcpt.test>"] {
        assert!(in_transaction.command(command).starts_with("250"));
    }
    let mut in_data = within_data(&server);
    in_data.send("Subject: half\r\n\r\nThe first half,\r\n");

    server.signal("-TERM");
    for (what, client) in [("idle", &mut idle), ("greeted", &mut greeted), ("in a transaction", &mut in_transaction)] {
        let goodbye = client.reply();
        assert!(goodbye.starts_with("421 4.3.2 "), "{what}: {goodbye:?}");
        assert_eq!(client.reply(), "", "{what}: closed after the goodbye");
    }
    assert!(std::net::TcpStream::connect(server.smtp()).is_err(), "no new session is begun");
    in_data.send("and the second.\r\n");
    let reply = in_data.command(".");
    assert!(reply.starts_with("250 2.0.0 OK"), "{reply}");
    let goodbye = in_data.reply();
    assert!(goodbye.starts_with("421 4.3.2 "), "{goodbye:?}");

    assert_eq!(exit_code(&mut server), Some(0));
    assert!(!dir.join("pid").exists(), "the pid file is removed");
    let server = Server::run(dir);
    assert_eq!(strain::queued(&server), 1, "the message whose end came after TERM is kept");
}

#[test]
fn an_orderly_stop_under_load_loses_nothing_and_doubles_nothing() {
    let keep = tempfile::tempdir().expect("a folder");
    let dir = keep.path();
    // A next hop that thinks: deliveries are under way when the server stops.
    let next = NextHop::start(SinkOptions { delay: Duration::from_millis(30), ..SinkOptions::default() });
    strain::relay(dir, &next.gateway(), "");
    let mut stops = Vec::new();
    for life in 0..4 {
        let mut server = Server::run(dir);
        let options = GeneratorOptions {
            sessions: 8,
            messages: 1_000_000,
            size: 3000,
            first_id: 1 + life * 1_000_000,
            time_max: Some(Duration::from_millis(600)),
            ..GeneratorOptions::default()
        };
        let sending = next.send(server.smtp(), options);
        std::thread::sleep(Duration::from_millis(500));
        let begun = Instant::now();
        server.signal("-TERM");
        assert_eq!(exit_code(&mut server), Some(0));
        stops.push(begun.elapsed());
        next.report(sending);
    }
    let server = Server::run(dir);
    next.wait_for_all(&server, Duration::from_secs(20));
    let acknowledged = next.acknowledged.0.lock().len();
    println!("{acknowledged} acknowledged over {} stops ({stops:.1?}), all delivered once", stops.len());
    assert!(acknowledged > 400, "{acknowledged}");
    assert_eq!(next.duplicates(), 0);
    assert!(stops.iter().all(|took| *took < Duration::from_secs(10)), "{stops:?}");
}

#[test]
fn a_second_term_ends_at_once_with_1_and_what_was_acknowledged_stays() {
    let keep = tempfile::tempdir().expect("a folder");
    let dir = keep.path();
    let mut server = holding(dir);
    let (mut client, _) = Client::connect(server.smtp());
    client.command("EHLO client.test");
    let reply = client.deliver("a@sender.test", &["b@rcpt.test"], &letter("kept", "Hello\n"));
    assert!(reply.starts_with("250"), "{reply}");
    let mut stuck = within_data(&server);
    stuck.send("Subject: never ends\r\n\r\n");

    server.signal("-TERM");
    // The goodbye shows that the first one has arrived: two that come together are one.
    assert!(client.reply().starts_with("421 "));
    let begun = Instant::now();
    server.signal("-TERM");
    assert_eq!(exit_code(&mut server), Some(1));
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    let server = Server::run(dir);
    assert_eq!(strain::queued(&server), 1);
}

#[test]
fn a_client_that_never_finishes_its_data_cannot_hold_the_end_up() {
    if !strain::soak() {
        return; // it takes the half minute that such a client is given
    }
    let keep = tempfile::tempdir().expect("a folder");
    let mut server = holding(keep.path());
    let mut stuck = within_data(&server);
    stuck.send("Subject: never ends\r\n\r\n");
    let begun = Instant::now();
    server.signal("-TERM");
    let code = loop {
        if let Some(code) = server.has_ended() {
            break code;
        }
        assert!(begun.elapsed() < Duration::from_secs(45), "it has not ended");
        std::thread::sleep(Duration::from_millis(50));
    };
    println!("ended after {:.1?}", begun.elapsed());
    assert_eq!(code, Some(0));
    assert!(stuck.rest().contains("421 "), "the client is told");
}

#[test]
fn a_console_that_says_shutdown_is_a_term() {
    let keep = tempfile::tempdir().expect("a folder");
    let mut server = holding(keep.path());
    let (mut idle, _) = Client::connect(server.smtp());
    server.console("shutdown");
    assert!(idle.reply().starts_with("421 4.3.2 "));
    assert_eq!(exit_code(&mut server), Some(0));
    assert!(!keep.path().join("pid").exists());
}

/// Runs a server to its end.
fn second(dir: &Path) -> Output {
    let child = Command::new(env!("CARGO_BIN_EXE_posthaste"))
        .args(["run", "--config"])
        .arg(dir.join("posthaste.conf"))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary starts");
    let pid = child.id();
    let (done, ended) = std::sync::mpsc::channel::<()>();
    // A server that wrongly goes on must not hold the test up for ever.
    let watch = std::thread::spawn(move || {
        if ended.recv_timeout(common::PATIENCE).is_err() {
            let _ = Command::new("kill").args(["-9", &pid.to_string()]).status();
        }
    });
    let output = child.wait_with_output().expect("it can be waited for");
    let _ = done.send(());
    watch.join().expect("no panic");
    output
}

#[test]
fn a_second_server_on_the_same_spool_is_refused_and_the_first_goes_on() {
    // What the two have in common besides the spool, the words of the refusal, its exit code.
    let cases = [
        ("everything, with a pid file", "is running already", 2),
        ("everything, without a pid file", "is in use", 1),
        ("nothing", "is in use by process", 1),
    ];
    for (common, wanted, code) in cases {
        let keep = tempfile::tempdir().expect("a folder");
        let dir = keep.path();
        let pidfile = common == "everything, with a pid file";
        let mut server = if pidfile {
            holding(dir)
        } else {
            strain::relay(dir, "Suspend_Delivery = true\n", "");
            Server::run(dir)
        };
        if common == "nothing" {
            let config = std::fs::read_to_string(dir.join("posthaste.conf")).expect("it is there");
            common::write(&dir.join("posthaste.conf"), &config.replace("/control\"", "/second-control\""));
        }
        let output = second(dir);
        let text = String::from_utf8_lossy(&output.stderr);
        let pid = server.pid().to_string();
        assert!(text.contains(wanted), "{common}: {text}");
        assert!(common == "everything, without a pid file" || text.contains(&pid), "it names process {pid}: {text}");
        assert_eq!(output.status.code(), Some(code), "{common}: {text}");
        let stdout = String::from_utf8_lossy(&output.stdout);
        assert!(!stdout.contains("ready"), "{stdout}");

        let (mut client, _) = Client::connect(server.smtp());
        client.command("EHLO client.test");
        let reply = client.deliver("a@sender.test", &["b@rcpt.test"], &letter("still here", "Hello\n"));
        assert!(reply.starts_with("250"), "{reply}");
        assert_eq!(strain::queued(&server), 1, "its console still answers");
        if pidfile {
            let named = std::fs::read_to_string(dir.join("pid")).expect("the pid file is still there");
            assert_eq!(named.trim(), pid);
        }
        assert_eq!(server.stop(), Some(0));
    }
}

#[test]
fn a_pid_file_that_a_crash_left_does_not_hinder() {
    let keep = tempfile::tempdir().expect("a folder");
    let dir = keep.path();
    let mut server = holding(dir);
    server.kill();
    assert!(dir.join("pid").exists(), "kill -9 leaves it");
    let mut server = Server::run(dir);
    assert_eq!(server.stop(), Some(0));
    // After a reboot the number may be that of any other program.
    common::write(&dir.join("pid"), &format!("{}\n", std::process::id()));
    let mut server = Server::run(dir);
    assert_eq!(server.stop(), Some(0));
    // Nor does a file that says nothing.
    common::write(&dir.join("pid"), "");
    let server = Server::run(dir);
    assert_eq!(std::fs::read_to_string(dir.join("pid")).expect("it is there").trim(), server.pid().to_string());
}

/// A server whose policy takes its time to load: the pid file is there, and the server not yet ready.
fn slow_start(dir: &Path) {
    let settings = format!(
        "Suspend_Delivery = true\nPidfile = \"{}/pid\"\nscriptlet \"scriptlet\" {{ script \"slow\" {{ source = \"slow\" }} }}\n",
        dir.display()
    );
    strain::relay(dir, "", &settings);
    let policy = "local begun = os.clock()\nwhile os.clock() - begun < 0.5 do end\nmsys.registerModule(\"slow\", {})\n";
    common::write(&dir.join("lua/slow.lua"), &format!("require(\"msys.core\")\n{policy}"));
}

/// Signals the process as soon as its pid file names it.
fn signal_at_pid_file(dir: &Path, signal: &str) {
    let pid = wait_for("the pid file", || {
        std::fs::read_to_string(dir.join("pid")).ok().and_then(|pid| pid.trim().parse::<u32>().ok())
    });
    let status = Command::new("kill").args([signal, &pid.to_string()]).status().expect("kill runs");
    assert!(status.success());
}

#[test]
fn a_hup_before_the_server_is_ready_is_obeyed_when_it_is() {
    let keep = tempfile::tempdir().expect("a folder");
    let dir = keep.path();
    slow_start(dir);
    let config = dir.join("posthaste.conf");
    let changed = std::fs::read_to_string(&config).expect("it is there").replace("mx.test", "changed.test");
    let server = std::thread::scope(|scope| {
        scope.spawn(|| {
            wait_for("the pid file", || dir.join("pid").exists().then_some(()));
            common::write(&config, &changed);
            signal_at_pid_file(dir, "-HUP");
        });
        Server::run(dir)
    });
    wait_for("the greeting of the changed configuration", || {
        let (_, greeting) = Client::connect(server.smtp());
        greeting.contains(" changed.test ").then_some(())
    });
}

#[test]
fn a_term_before_the_server_is_ready_ends_it_with_0() {
    let keep = tempfile::tempdir().expect("a folder");
    let dir = keep.path();
    slow_start(dir);
    let output = std::thread::scope(|scope| {
        scope.spawn(|| signal_at_pid_file(dir, "-TERM"));
        second(dir)
    });
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(!dir.join("pid").exists());
    assert!(!String::from_utf8_lossy(&output.stdout).contains("ready"));
}

#[test]
fn root_becomes_the_user_that_the_configuration_names() {
    if !strain::is_root("the test of the change of user") {
        return;
    }
    let nobody = 65534;
    let keep = tempfile::tempdir().expect("a folder");
    std::fs::set_permissions(keep.path(), std::fs::Permissions::from_mode(0o755)).expect("the mode can be set");
    // As a package would leave it: folders of the user, the configuration root's.
    let dir = keep.path().join("home");
    std::fs::create_dir(&dir).expect("the folder can be made");
    std::os::unix::fs::chown(&dir, Some(nobody), Some(nobody)).expect("root can give it away");
    strain::relay(
        &dir,
        "",
        &format!("Suspend_Delivery = true\nPidfile = \"{}/pid\"\nsecurity {{ user = \"nobody\" }}\n", dir.display()),
    );
    let mut server = Server::run(&dir);
    for name in ["Uid:", "Gid:"] {
        let id = strain::status_number(server.pid(), name);
        assert_eq!(id, u64::from(nobody), "{name} of the process");
    }
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.pid())).expect("it runs");
    let uids = status.lines().find(|line| line.starts_with("Uid:")).expect("a uid");
    assert_eq!(uids, "Uid:\t65534\t65534\t65534\t65534", "real, effective, saved and of the file system");

    let (mut client, _) = Client::connect(server.smtp());
    client.command("EHLO client.test");
    let reply = client.deliver("a@sender.test", &["b@rcpt.test"], &letter("as nobody", "Hello\n"));
    assert!(reply.starts_with("250"), "{reply}");
    server.signal("-HUP"); // opens the logs again, now without root's rights
    let reply = client.deliver("a@sender.test", &["b@rcpt.test"], &letter("after the reload", "Hello\n"));
    assert!(reply.starts_with("250"), "{reply}");
    server.wait_for_log("mainlog.ec", |line| line.contains("@R@"));
    let receptions = || server.log("mainlog.ec").lines().filter(|line| line.contains("@R@")).count();
    wait_for("both receptions in the mainlog", || (receptions() == 2).then_some(()));

    let mut files = Vec::new();
    owned_by_others(&dir, nobody, &mut files);
    files.retain(|path| !path.ends_with("posthaste.conf") && !path.ends_with("stderr"));
    assert!(files.is_empty(), "not nobody's: {files:?}");
    assert_eq!(server.stop(), Some(0));
    assert!(!dir.join("pid").exists(), "the user may remove the pid file");
}

fn owned_by_others(dir: &Path, uid: u32, into: &mut Vec<std::path::PathBuf>) {
    for entry in std::fs::read_dir(dir).expect("the folder can be read") {
        let path = entry.expect("an entry").path();
        let meta = std::fs::symlink_metadata(&path).expect("it is there");
        if meta.uid() != uid {
            into.push(path.clone());
        }
        if meta.is_dir() {
            owned_by_others(&path, uid, into);
        }
    }
}

#[test]
fn an_unknown_user_is_an_error_before_anything_is_opened() {
    if !strain::is_root("the test of an unknown user") {
        return;
    }
    let keep = tempfile::tempdir().expect("a folder");
    let dir = keep.path();
    strain::relay(dir, "", "security { user = \"nobody-has-this-name\" }\n");
    let output = second(dir);
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && text.contains("nobody-has-this-name"), "{text}");
    assert!(!dir.join("spool").exists() && !dir.join("mainlog.ec").exists());
}
