//! The pid file: tells scripts which process is the server, and a second server that there is one.

use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};

/// Removed when the server ends in order.
pub struct PidFile {
    path: PathBuf,
}

impl PidFile {
    /// An error when the process that the file names is alive.
    pub fn check(path: &Path) -> Result<()> {
        let Ok(text) = std::fs::read_to_string(path) else { return Ok(()) };
        let Ok(pid) = text.trim().parse::<i32>() else { return Ok(()) };
        let own = pid == i32::try_from(std::process::id()).unwrap_or(0);
        if !own && nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), None).is_ok() {
            bail!("process {pid} is running already ({} names it)", path.display());
        }
        Ok(())
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
