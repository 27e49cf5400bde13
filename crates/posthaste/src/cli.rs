//! The command line. `--help`, the man page and the completions come from these declarations.

use clap::{Args, Parser, Subcommand, ValueEnum};
use std::path::PathBuf;

#[derive(Parser)]
#[command(
    name = "posthaste",
    version,
    about = "A mail transfer agent that is programmed in Lua",
    long_about = "Posthaste receives mail over SMTP, runs a Lua policy over it, keeps it safe on disk, and delivers it.\n\
                  It reads the configuration and the policies of Momentum (ecelerity.conf) as they are.",
    after_help = "Examples:\n  \
                  posthaste check /etc/posthaste/posthaste.conf   are configuration and policies right?\n  \
                  posthaste run --config posthaste.conf           run in the foreground\n  \
                  posthaste console summary                       what is it doing?\n  \
                  posthaste console queue explain ID              why has this message not gone yet?",
    propagate_version = true,
    disable_help_subcommand = true
)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Subcommand)]
pub enum Command {
    /// Run the server in the foreground
    #[command(after_help = "Without --config: /opt/msys/ecelerity/etc/conf/default/ecelerity.conf, else \
                            /etc/posthaste/posthaste.conf, else a built-in configuration on 127.0.0.1:2525.\n\nSignals: \
                            TERM and INT drain and stop, HUP reopens the logs and reloads, USR1 writes the state to the \
                            paniclog.\n\nExample:\n  posthaste run --config /etc/posthaste/posthaste.conf")]
    Run(RunArgs),
    /// Check a configuration (with its policies) or one policy, and start nothing
    #[command(
        after_help = "Exits with 1 and all errors, each with file, line and column, when something is wrong.\n\n\
                            Examples:\n  posthaste check ecelerity.conf\n  posthaste check lua/policy.lua"
    )]
    Check(CheckArgs),
    /// Talk to a running server: one command, or a prompt with completion and history
    #[command(
        alias = "ec_console",
        after_help = "Examples:\n  posthaste console                          a prompt\n  posthaste console \
                            --socket /tmp/2025 -c summary\n  posthaste console summary\n  posthaste console json mailq\n  \
                            posthaste console --socket user@mx1:2025 version"
    )]
    Console(ConsoleArgs),
    /// Run a receiving server that takes, delays, defers or refuses mail: for tests and benchmarks
    #[command(
        after_help = "Example:\n  posthaste sink --listen 127.0.0.1:2526 --defer 'slow-*@*' --refuse '*@closed.example'"
    )]
    Sink(ph_load::SinkArgs),
    /// Send generated mail to a server and measure it
    #[command(
        after_help = "Example:\n  posthaste bench --to 127.0.0.1:2525 --sessions 50 --messages 20000 --size 10240"
    )]
    Bench(ph_load::GeneratorArgs),
    /// Look into, export or import a spool while the server is stopped
    Spool(SpoolArgs),
    /// Print every configuration option
    #[command(after_help = "Example:\n  posthaste options --json | jq '.[] | select(.name == \"Retry_Interval\")'")]
    Options(FormatArgs),
    /// Print every function of the Lua API that this build has
    LuaApi(FormatArgs),
    /// Print the version
    Version,
    /// Start a whole mail world on this machine, send mail through it, and show what happened
    Demo(DemoArgs),
    /// Print a user's line for a file of `digest://` or `file://` users; the password is read from standard input
    #[command(
        after_help = "Example:\n  echo secret | posthaste passwd --realm 'Momentum Console' admin >> console_passwd"
    )]
    Passwd(PasswdArgs),
    /// Print the effective configuration
    DumpConfig(CheckArgs),
    /// Write the generated pages: options, console, API, formats, man page, completions
    Docs(DocsArgs),
    /// Print the completions for a shell
    #[command(after_help = "Example:\n  posthaste completions bash > /etc/bash_completion.d/posthaste")]
    Completions { shell: clap_complete::Shell },
}

#[derive(Args)]
pub struct RunArgs {
    /// The configuration file
    #[arg(short, long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Stay in the foreground and write diagnostics to stderr too
    #[arg(short, long)]
    pub debug: bool,
    /// Leave out a service: esmtp (no listener) or queue (no delivery)
    #[arg(short = 'n', value_name = "SERVICE", value_enum)]
    pub without: Vec<Service>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Service {
    Esmtp,
    Ecstream,
    Queue,
}

#[derive(Args)]
pub struct CheckArgs {
    /// A configuration file, or a policy (`*.lua`); without it the file that `run` would take
    pub file: Option<PathBuf>,
    /// Also list options that are accepted and have no effect, and uses of the policy API that work and are not documented
    #[arg(short, long)]
    pub verbose: bool,
}

#[derive(Args)]
pub struct ConsoleArgs {
    /// A unix socket's path, host:port, or user@host:port
    #[arg(long, value_name = "ADDR", env = "POSTHASTE_CONSOLE", default_value = "/tmp/2025")]
    pub socket: String,
    /// One command; its output is all that is printed
    #[arg(short, long, value_name = "COMMAND")]
    pub command: Vec<String>,
    /// One command as separate words
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    pub words: Vec<String>,
}

#[derive(Args)]
pub struct SpoolArgs {
    #[command(subcommand)]
    pub action: SpoolAction,
}

#[derive(Subcommand)]
pub enum SpoolAction {
    /// Verify every record; changes nothing
    Check { spool: PathBuf },
    /// Write every queued message as an `.eml` and a `.json` file
    Export { spool: PathBuf, to: PathBuf },
    /// Take in what `export` wrote
    Import { spool: PathBuf, from: PathBuf },
}

#[derive(Args)]
pub struct FormatArgs {
    /// As JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Args)]
pub struct DemoArgs {
    /// How many messages to send
    #[arg(long, default_value_t = 300)]
    pub messages: u32,
    /// Keep the demo's folder, and say where it is
    #[arg(long)]
    pub keep: bool,
}

#[derive(Args)]
pub struct PasswdArgs {
    pub user: String,
    /// The realm of DIGEST-MD5
    #[arg(long, env = "EC_DIGEST_REALM", default_value = "Momentum Console")]
    pub realm: String,
    /// A clear-text line for `file://` in place of a digest
    #[arg(long)]
    pub clear: bool,
}

#[derive(Args)]
pub struct DocsArgs {
    /// The folder of the pages
    #[arg(long, value_name = "DIR", default_value = "docs")]
    pub write: PathBuf,
    /// Compare instead of writing; exits with 1 when a page is out of date
    #[arg(long)]
    pub check: bool,
}
