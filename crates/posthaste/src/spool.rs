//! `posthaste spool`: a stopped server's spool, looked into, carried out, taken in.

use crate::cli::SpoolAction;
use anyhow::Result;
use std::process::ExitCode;

pub fn run(action: SpoolAction) -> Result<ExitCode> {
    match action {
        SpoolAction::Check { spool } => {
            let report = ph_spool::check(&spool)?;
            println!("{report}");
            Ok(if report.is_sound() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
        }
        SpoolAction::Export { spool, to } => {
            println!("{}", ph_spool::export(&spool, &to)?);
            Ok(ExitCode::SUCCESS)
        }
        SpoolAction::Import { spool, from } => {
            println!("{}", ph_spool::import(&spool, &from)?);
            Ok(ExitCode::SUCCESS)
        }
    }
}
