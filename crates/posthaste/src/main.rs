//! The program: command line and wiring. What a message goes through lives in the other crates.

mod check;
mod cli;
mod console;
mod demo;
mod docs;
mod passwd;
mod policy_test;
mod privileges;
mod programs;
mod repl;
mod run_policy;
mod server;
mod sigpipe;
mod spool;
mod trace;

use clap::{CommandFactory, Parser};
use cli::{Cli, Command};
use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // Two TLS providers in one program would make rustls panic at run time; naming ours settles it.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    match run(Cli::parse_from(arguments())) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("posthaste: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Under the names of Momentum's programs the binary acts as they did: `ec_console` is `posthaste console`, `ecelerity`
/// is `posthaste run`.
fn arguments() -> Vec<std::ffi::OsString> {
    let mut arguments: Vec<_> = std::env::args_os().collect();
    let name = arguments.first().map(std::path::Path::new).and_then(|path| path.file_name()).unwrap_or_default();
    let command: &[&str] = match name.to_str() {
        Some("ec_console") => &["console"],
        Some("ecelerity") => &["run"],
        Some("validate_config") => &["check"],
        Some("ec_ctl") => &["ctl"],
        Some("ec_dump_config") => &["dump-config"],
        Some("ec_md5passwd") => &["passwd"],
        Some("ec_rotate") => &["rotate"],
        Some("ec_show") => &["show"],
        Some("ec_spool_check") => &["spool", "check"],
        _ => return arguments,
    };
    if command == ["rotate"] {
        // It writes long options with one dash.
        for argument in &mut arguments[1..] {
            let is_long = |text: &&str| text.starts_with('-') && !text.starts_with("--") && text.len() > 2;
            if let Some(long) = argument.to_str().filter(is_long) {
                *argument = format!("-{long}").into();
            }
        }
    }
    arguments.splice(1..1, command.iter().map(Into::into));
    arguments
}

fn run(cli: Cli) -> anyhow::Result<ExitCode> {
    if !matches!(cli.command, Command::Run(_) | Command::Demo(_)) {
        sigpipe::end_with_the_reader();
    }
    match cli.command {
        Command::Run(args) => return server::run(&args),
        Command::Check(args) => return check::run(&args),
        Command::RunPolicy(args) => return run_policy::run(&args),
        Command::Test(args) => return policy_test::run(&args),
        Command::Repl(args) => return repl::run(&args),
        Command::Console(args) => return console::run(&args),
        Command::Trace(args) => return trace::run(&args),
        Command::Sink(args) => ph_load::run_sink(args)?,
        Command::Bench(args) => {
            return Ok(if ph_load::run_generator(args)? { ExitCode::SUCCESS } else { ExitCode::FAILURE });
        }
        Command::Spool(args) => return spool::run(args.action),
        Command::Options(args) => print!("{}", docs::options(args.json)),
        Command::LuaApi(args) => print!("{}", docs::lua_api(&args)),
        Command::Version => println!("posthaste {}", env!("CARGO_PKG_VERSION")),
        Command::Demo(args) => demo::run(&args)?,
        Command::Ctl(args) => return programs::ctl(&args),
        Command::Rotate(args) => return programs::rotate(&args),
        Command::Show(args) => return programs::show(&args),
        Command::Passwd(args) => passwd::run(&args)?,
        Command::DumpConfig(args) => return check::dump(&args),
        Command::Docs(args) => return docs::write(&args),
        Command::Completions { shell } => {
            clap_complete::generate(shell, &mut Cli::command(), "posthaste", &mut std::io::stdout());
        }
    }
    Ok(ExitCode::SUCCESS)
}
