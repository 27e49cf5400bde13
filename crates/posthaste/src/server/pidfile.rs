//! The pid file: tells scripts which process is the server, and a second server that there is one.

use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};

/// Removed when the server ends in order.
pub struct PidFile {
    path: PathBuf,
}

impl PidFile {
    /// An error when the process that the file names is a server. After a crash and a reboot the number may be that of
    /// any other program: that hinders nobody, and two servers on one spool are kept apart by the spool's own lock.
    pub fn check(path: &Path) -> Result<()> {
        if let Some(pid) = PidFile::running(path) {
            bail!("process {pid} is running already ({} names it)", path.display());
        }
        Ok(())
    }

    /// The process that the file names, if it is another than this and a server.
    pub fn running(path: &Path) -> Option<u32> {
        let pid = std::fs::read_to_string(path).ok()?.trim().parse().ok()?;
        (pid != std::process::id() && is_server(pid)).then_some(pid)
    }

    pub fn write(path: &Path) -> Result<PidFile> {
        std::fs::write(path, format!("{}\n", std::process::id()))
            .with_context(|| format!("cannot write the pid file {}", path.display()))?;
        Ok(PidFile { path: path.to_owned() })
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Whether there is a process of that number that bears our name, or the name under which sites of Momentum start us.
fn is_server(pid: u32) -> bool {
    let name = |pid: &str| std::fs::read_to_string(format!("/proc/{pid}/comm")).ok();
    let Some(other) = name(&pid.to_string()) else { return false };
    name("self").is_some_and(|own| own == other) || ["posthaste", "ecelerity"].contains(&other.trim_end())
}
