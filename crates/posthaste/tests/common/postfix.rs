//! A Postfix of the test's own: configuration, queue and log in a folder, one SMTP port, started and stopped by the test.

#![allow(dead_code)]

use super::{PATIENCE, finish, wait_for, write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;

pub struct Postfix {
    dir: tempfile::TempDir,
    pub address: SocketAddr,
}

/// Whether Debian's Postfix is here and may be started. Under CI a missing peer is a failure.
pub fn available() -> bool {
    let here = std::path::Path::new("/usr/sbin/postfix").exists() && nix::unistd::geteuid().is_root();
    assert!(here || std::env::var_os("CI").is_none(), "the tests need Postfix and root: run `make test`");
    if !here {
        eprintln!("skipped: needs Postfix (`make test` installs it) and root");
    }
    here
}

impl Postfix {
    /// `settings` are lines of main.cf, after those that every instance has.
    pub fn start(settings: &str) -> Postfix {
        super::end_at_last();
        let dir = tempfile::Builder::new().prefix("postfix").tempdir().expect("a folder for Postfix");
        // The daemons run as `postfix` and must get in.
        std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).expect("chmod");
        let port = TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a free port").port();
        let root = dir.path().display();
        for sub in ["queue", "data", "conf"] {
            std::fs::create_dir(dir.path().join(sub)).expect("mkdir");
        }
        let data = dir.path().join("data");
        let owned = Command::new("chown").arg("postfix").arg(&data).status().expect("chown runs").success();
        assert!(owned, "chown postfix {}", data.display());
        write(
            &dir.path().join("conf/main.cf"),
            &format!(
                "compatibility_level = 3.6\nqueue_directory = {root}/queue\ndata_directory = {root}/data\n\
                 command_directory = /usr/sbin\ndaemon_directory = /usr/lib/postfix/sbin\nmail_owner = postfix\n\
                 setgid_group = postdrop\nmyhostname = postfix.test\nmydestination =\nlocal_recipient_maps =\n\
                 inet_interfaces = 127.0.0.1\ninet_protocols = ipv4\nmynetworks = 127.0.0.0/8\n\
                 smtp_host_lookup = native\nsmtp_dns_support_level = disabled\nmaillog_file = {root}/maillog\n\
                 maillog_file_prefixes = {root}\nalias_maps =\nalias_database =\nsmtputf8_enable = yes\n{settings}\n"
            ),
        );
        write(
            &dir.path().join("conf/master.cf"),
            &format!(
                "127.0.0.1:{port} inet n - n - - smtpd\npickup unix n - n 60 1 pickup\ncleanup unix n - n - 0 cleanup\n\
                 qmgr unix n - n 300 1 qmgr\ntlsmgr unix - - n 1000? 1 tlsmgr\nrewrite unix - - n - - trivial-rewrite\n\
                 bounce unix - - n - 0 bounce\ndefer unix - - n - 0 bounce\ntrace unix - - n - 0 bounce\n\
                 verify unix - - n - 1 verify\nflush unix n - n 1000? 0 flush\nproxymap unix - - n - - proxymap\n\
                 smtp unix - - n - - smtp\nrelay unix - - n - - smtp\nerror unix - - n - - error\n\
                 retry unix - - n - - error\ndiscard unix - - n - - discard\nlocal unix - n n - - local\n\
                 virtual unix - n n - - virtual\nlmtp unix - - n - - lmtp\nanvil unix - - n - 1 anvil\n\
                 scache unix - - n - 1 scache\npostlog unix-dgram n - n - 1 postlogd\n"
            ),
        );
        let postfix = Postfix { dir, address: SocketAddr::from(([127, 0, 0, 1], port)) };
        let output = postfix.command("start");
        assert!(output.status.success(), "postfix start: {}", String::from_utf8_lossy(&output.stderr));
        wait_for("Postfix to listen", || TcpStream::connect_timeout(&postfix.address, PATIENCE).ok());
        postfix
    }

    fn command(&self, word: &str) -> std::process::Output {
        let mut command = Command::new("/usr/sbin/postfix");
        command.arg("-c").arg(self.conf()).arg(word);
        finish(command)
    }

    fn conf(&self) -> PathBuf {
        self.dir.path().join("conf")
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("maillog")).unwrap_or_default()
    }

    pub fn wait_for_log(&self, wanted: impl Fn(&str) -> bool) -> String {
        wait_for("a line in Postfix's log", || self.log().lines().find(|line| wanted(line)).map(str::to_owned))
    }
}

/// Not `postfix abort`, which talks to the very log service that it ends.
impl Drop for Postfix {
    fn drop(&mut self) {
        let pid = std::fs::read_to_string(self.dir.path().join("queue/pid/master.pid")).unwrap_or_default();
        if let Ok(master) = pid.trim().parse().map(nix::unistd::Pid::from_raw) {
            // The master leads its own process group: its daemons go with it.
            let _ = nix::sys::signal::killpg(master, nix::sys::signal::Signal::SIGKILL);
        }
        if std::thread::panicking() {
            eprintln!("--- Postfix\n{}", self.log());
        }
    }
}
