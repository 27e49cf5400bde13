//! What the server has on disk when it starts: folders and files that it makes and gives to its user, and the spool with
//! the mail in it.

use crate::privileges;
use anyhow::{Context, Result};
use ph_config::{Config, options as opt};
use ph_eventlog::{EventLog, Level, Subsystem};
use ph_queue::Queue;
use ph_spool::{OpenReport, Spool, SpoolOptions};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The folders of the log files, given to the user who will write there.
pub fn make_folders(settings: &ph_eventlog::LogSettings, identity: &privileges::Identity) -> Result<()> {
    for logger in &settings.ec_loggers {
        for target in [&logger.mainlog, &logger.rejectlog, &logger.paniclog, &logger.acctlog].into_iter().flatten() {
            let Some(folder) = target.file().ok().and_then(|path| path.parent().map(Path::to_owned)) else { continue };
            if !folder.exists() {
                std::fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
                privileges::own(identity, &folder)?;
            }
        }
    }
    Ok(())
}

/// The sockets and the pid file that root has made are the user's from now on, who removes them at the end.
pub fn give_files(config: &Config, pidfile: Option<&Path>, identity: &privileges::Identity) -> Result<()> {
    let listens = config.listeners().iter().flat_map(|listener| &listener.listens);
    let sockets = listens.filter_map(|listen| match &listen.address {
        ph_config::ListenAddr::Unix(path) if listen.enabled => Some(path.as_path()),
        _ => None,
    });
    for path in sockets.chain(pidfile).filter(|path| path.exists()) {
        privileges::own(identity, path)?;
    }
    Ok(())
}

/// Opens the spool and queues what is in it.
pub async fn open_spool(config: &Config, dir: PathBuf, queue: &Queue) -> Result<(Spool, OpenReport)> {
    let global = config.global();
    let options = SpoolOptions {
        mode: global.get(&opt::SPOOL_MODE),
        // The option's bounds keep it within 32 bits; the log is written in blocks of 4096 octets.
        segment_bytes: u32::try_from(global.get(&opt::SPOOL_SEGMENT_SIZE)).unwrap_or(64 << 20) & !0xfff,
        compact_after: Duration::from_secs(global.get(&opt::SPOOL_COMPACT_AFTER)),
        // A third less latency until the first segment is full, for a start that is slower once.
        prewrite: true,
        // A tenth of a second of mail at full speed: what stays longer is read back from the page cache, and a small cache
        // stays in the processor's.
        cache_bytes: 16 << 20,
        ..SpoolOptions::new(dir)
    };
    let queue = queue.clone();
    let open = move || Spool::open(options, &mut |found| _ = queue.recover(found.key, found.summary));
    tokio::task::spawn_blocking(open).await.context("the spool's recovery broke")?.map_err(Into::into)
}

/// What the last end of the process left. A torn tail was never acknowledged; damage is for a person to look at.
pub fn report_recovery(log: &EventLog, report: &OpenReport) {
    let text = format!(
        "spool: {} messages in {} segments, {} octets after the last valid record cut off",
        report.messages, report.segments, report.torn_bytes
    );
    log.panic(Level::Notice, Subsystem::Generic, &text);
    for damage in &report.damage {
        let copy = damage
            .quarantined
            .as_ref()
            .map_or("no copy could be made".into(), |copy| format!("a copy is in {}", copy.display()));
        let (file, what) = (damage.file.display(), &damage.what);
        let text = format!("spool: {file} at offset {}, {} octets: {what}; {copy}", damage.offset, damage.len);
        log.panic(Level::Error, Subsystem::Generic, &text);
    }
}
