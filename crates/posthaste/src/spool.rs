//! `posthaste spool`: a stopped server's spool, looked into, carried out, taken in.

use crate::cli::SpoolAction;
use anyhow::{Result, bail};
use ph_spool::{CheckReport, Spool, SpoolOptions};
use std::process::ExitCode;

pub fn run(action: SpoolAction) -> Result<ExitCode> {
    match action {
        SpoolAction::Check { spool } => {
            if !spool.is_dir() {
                bail!("{} is no folder", spool.display());
            }
            let report = ph_spool::check(&SpoolOptions::new(spool))?;
            show(&report);
            let is_sound = report.is_sound();
            Ok(if is_sound { ExitCode::SUCCESS } else { ExitCode::FAILURE })
        }
        SpoolAction::Export { spool, to } => {
            let count = ph_spool::export(&SpoolOptions::new(spool), &to)?;
            println!("{count} messages exported to {}", to.display());
            Ok(ExitCode::SUCCESS)
        }
        SpoolAction::Import { spool, from } => {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            let report = runtime.block_on(async {
                let (spool, _) = Spool::open(SpoolOptions::new(spool), &mut |_| {})?;
                let report = ph_spool::import(&spool, &from).await;
                spool.close();
                report
            })?;
            println!("{} messages imported, {} were there already", report.imported, report.skipped);
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn show(report: &CheckReport) {
    if let Some(pid) = report.running {
        println!("process {pid} has the spool open: what it writes meanwhile may look cut short");
    }
    println!("messages         {}", report.messages);
    println!("segments         {} ({} without an index)", report.segments, report.without_index);
    println!("records          {}", report.records);
    println!("large bodies     {} ({} that no message has)", report.large_bodies, report.orphans);
    println!("cut short        {} octets, never acknowledged", report.torn_bytes);
    println!("in quarantine    {}", report.quarantined);
    for damage in &report.damage {
        println!(
            "damaged          {} at {}, {} octets: {}",
            damage.file.display(),
            damage.offset,
            damage.len,
            damage.what
        );
    }
    for message in &report.damaged_messages {
        println!("damaged message  {message}");
    }
    let is_sound = report.is_sound();
    println!(
        "{}",
        if is_sound { "sound" } else { "DAMAGED: restore from a copy, or start; what is readable is delivered" }
    );
}
