//! The process as its surroundings see it: names and flags of the program, what it tells the service manager, its signals
//! besides those that end it, and whom it refuses to be.

mod common;

use common::{Client, Server, base_config, finish, letter, strain, wait_for, write};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const BINARY: &str = env!("CARGO_BIN_EXE_posthaste");

/// The binary under another name.
fn under_the_name(dir: &Path, name: &str) -> PathBuf {
    let link = dir.join(name);
    std::os::unix::fs::symlink(BINARY, &link).expect("a link can be made");
    link
}

fn run_to_its_end(program: PathBuf, arguments: &[&Path]) -> Output {
    let mut command = Command::new(program);
    command.args(arguments);
    finish(command)
}

#[test]
fn under_the_names_of_momentums_programs_it_acts_as_they_did() {
    let keep = tempfile::tempdir().expect("a folder");
    let dir = keep.path();
    strain::relay(dir, "", "");
    let config = dir.join("posthaste.conf");
    let output = run_to_its_end(under_the_name(dir, "validate_config"), &[&config]);
    assert!(output.status.success() && String::from_utf8_lossy(&output.stdout).starts_with("Configuration valid"));

    // `ecelerity -c FILE -d`: in the foreground, diagnostics on stderr too.
    let mut command = Command::new(under_the_name(dir, "ecelerity"));
    command.args(["-d", "-c"]).arg(&config);
    let server = Server::spawned(command, dir).unwrap_or_else(|text| panic!("{text}"));
    write(&config, "retry_intervall = 1\n");
    server.signal("-HUP");
    wait_for("the reason on stderr", || server.log("stderr").contains("Reconfigure failed.").then_some(()));

    let output = run_to_its_end(under_the_name(dir, "ec_console"), &[&dir.join("control"), Path::new("pid")]);
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), server.pid().to_string());

    let run = |name: &str, arguments: &[&str]| {
        let output = run_to_its_end(under_the_name(dir, name), &arguments.iter().map(Path::new).collect::<Vec<_>>());
        assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let path = |name: &str| dir.join(name).display().to_string();
    strain::relay(dir, "", "");
    let shown = run("ec_dump_config", &[&path("posthaste.conf")]);
    assert!(shown.contains("Hostname = \"mx.test\"") || shown.to_lowercase().contains("mx.test"), "{shown}");
    run("ec_md5passwd", &["-f", &path("users"), "-r", "here", "admin", "secret"]);
    let users = std::fs::read_to_string(dir.join("users")).expect("the file is made");
    assert!(users.starts_with("admin:here:") && users.len() == "admin:here:\n".len() + 32, "{users}");
    let reply = Client::hello(server.smtp()).deliver("ann@sender.test", &["bob@rcpt.invalid"], &letter("stays", "x\n"));
    let id = reply.rsplit(' ').next().expect("an id");
    let shown = run("ec_show", &["-c", &path("posthaste.conf"), "-m", id]);
    assert!(shown.contains("bob@rcpt.invalid") && shown.contains("Subject: stays"), "{shown}");
    server.wait_for_log("mainlog.ec", |line| line.contains("@R@"));
    run("ec_rotate", &["-n", "-logfile", &path("mainlog.ec"), "-socket", &path("control"), "-retention", "2"]);
    assert!(server.log("mainlog.ec.1").contains(id), "the old lines have moved");
    assert!(!server.log("mainlog.ec").contains("@R@bob"), "the new file is new");
    assert!(run("ec_spool_check", &[&path("spool")]).contains("message"));
}

#[test]
fn the_server_is_started_and_stopped_by_its_pid_file() {
    let keep = tempfile::tempdir().expect("a folder");
    let dir = keep.path();
    strain::relay(dir, "", &format!("Pidfile = \"{}\"\n", dir.join("pid").display()));
    let config = dir.join("posthaste.conf");
    let ctl = |action: &str| {
        let mut command = Command::new(BINARY);
        command.args(["ctl", action, "-c"]).arg(&config);
        finish(command)
    };
    let pid = || std::fs::read_to_string(dir.join("pid")).ok().map(|pid| pid.trim().to_owned());
    let said = |output: &Output| String::from_utf8_lossy(&output.stdout).into_owned();
    let started = ctl("start");
    assert!(started.status.success(), "{}", String::from_utf8_lossy(&started.stderr));
    let first = pid().expect("a pid file");
    assert_eq!(said(&started), format!("posthaste is running, process {first}\n"));
    assert_eq!(said(&ctl("start")), format!("posthaste is running already, process {first}\n"));
    let restarted = said(&ctl("restart"));
    let second = pid().expect("a pid file");
    assert!(second != first && restarted.ends_with(&format!("running, process {second}\n")), "{restarted}");
    assert_eq!(said(&ctl("stop")), format!("posthaste has ended, process {second}\n"));
    assert_eq!(pid(), None);
    assert_eq!(said(&ctl("stop")), "posthaste is not running\n");
    // What keeps it from starting is told.
    std::fs::write(&config, "retry_intervall = 1\n").expect("a file can be written");
    let refused = ctl("start");
    assert!(!refused.status.success() && String::from_utf8_lossy(&refused.stderr).contains("retry_intervall"));
}

#[test]
fn a_service_can_be_left_out() {
    let keep = tempfile::tempdir().expect("a folder");
    let dir = keep.path();
    strain::relay(dir, "", "");
    let run = |service: &str| {
        let mut command = Command::new(BINARY);
        command.args(["run", "-n", service, "--config"]).arg(dir.join("posthaste.conf"));
        Server::spawned(command, dir).unwrap_or_else(|text| panic!("{text}"))
    };
    let mut server = run("queue");
    let reply = Client::hello(server.smtp()).deliver("ann@sender.test", &["bob@rcpt.invalid"], &letter("stays", "x\n"));
    assert!(reply.starts_with("250"), "{reply}");
    assert_eq!(strain::queued(&server), 1);
    assert!(server.console("trace smtp add * * /nowhere").contains("nothing is delivered by this server"));
    assert_eq!(server.stop(), Some(0));
    let server = run("esmtp");
    assert!(!server.listens(), "no listener was opened");
    assert!(server.console("version").contains("version:"));
}

#[test]
fn the_service_manager_is_told_what_the_server_does() {
    let keep = tempfile::tempdir().expect("a folder");
    let dir = keep.path();
    strain::relay(dir, "", "");
    let socket = UnixDatagram::bind(dir.join("notify")).expect("a socket");
    socket.set_read_timeout(Some(common::PATIENCE)).expect("a timeout can be set");
    let heard = |wanted: &str| {
        loop {
            let mut bytes = [0; 4096];
            let length = socket.recv(&mut bytes).unwrap_or_else(|error| panic!("{wanted}: {error}"));
            let text = String::from_utf8_lossy(&bytes[..length]).to_string();
            if text.lines().any(|line| line == wanted) {
                return text;
            }
        }
    };
    let mut command = Command::new(BINARY);
    command.env("NOTIFY_SOCKET", dir.join("notify"));
    let mut server = Server::try_run_as(command, dir).unwrap_or_else(|text| panic!("{text}"));
    heard("READY=1");
    heard("WATCHDOG=1");
    server.signal("-HUP");
    // `Type=notify-reload` takes a reload for done only with the time of its beginning.
    assert!(heard("RELOADING=1").contains("MONOTONIC_USEC="));
    heard("READY=1");
    assert_eq!(server.stop(), Some(0));
    heard("STOPPING=1");
}

#[test]
fn usr1_writes_the_state_and_a_closed_pipe_ends_nothing() {
    let server = Server::start("suspend_delivery = true\nESMTP_Listener { Listen \"127.0.0.1:0\" {} }\n", &[]);
    server.signal("-PIPE");
    server.signal("-USR1");
    let begun = server.wait_for_log("paniclog.ec", |line| line.ends_with(":state"));
    assert!(begun.split(':').next().is_some_and(|time| time.parse::<u64>().is_ok()), "{begun}");
    let text = server.log("paniclog.ec");
    for wanted in ["\n\tsessions 0\n", "\n\tconnections 0\n"] {
        assert!(text.contains(wanted), "{wanted:?}: {text}");
    }
    assert!(server.console("pid").trim() == server.pid().to_string());
}

#[test]
fn root_does_not_listen_to_the_world_as_root() {
    if !strain::is_root("the test of root without a user to become") {
        return;
    }
    let has = |name: &str| run_to_its_end("getent".into(), &[Path::new("passwd"), Path::new(name)]).status.success();
    if has("ecuser") || has("posthaste") {
        println!("this machine has a user for the server: left out");
        return;
    }
    let keep = tempfile::tempdir().expect("a folder");
    let dir = keep.path();
    let listen = |address: &str, more: &str| {
        let text = format!("{more}\nESMTP_Listener {{ Listen \"{address}\" {{}} }}\n");
        write(&dir.join("posthaste.conf"), &base_config(dir, &text));
    };
    listen("0.0.0.0:0", "");
    let error = Server::try_run(dir).err().expect("no start");
    assert!(error.contains("refusing to run as root"), "{error}");
    assert!(!dir.join("spool").exists() && !dir.join("control").exists(), "nothing was opened");
    listen("127.0.0.1:0", "");
    let mut server = Server::run(dir);
    assert!(server.log("stderr").contains("running as root, which only loopback listeners allow"));
    assert_eq!(server.stop(), Some(0));
    listen("0.0.0.0:0", "security { user = root }");
    let server = Server::run(dir);
    assert_eq!(strain::status_number(server.pid(), "Uid:"), 0);
}
