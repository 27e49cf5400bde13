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
    /// Run the hooks of a policy over messages, without a server, and show what each hook did
    #[command(
        after_help = "POLICY is a script, for which every binding exists that it names, or a configuration with its scripts \
                      and bindings. Hooks run in the order of an SMTP session; what they change is shown hook by hook, then the \
                      contexts and the message as a difference. Several messages (more files, an mbox, a maildir, a folder) give \
                      a summary.\n\nExits with 1 when a hook raised an error.\n\n\
                      Examples:\n  posthaste run-policy policy.lua --message letter.eml\n  \
                      posthaste run-policy policy.lua --message letter.eml --from a@b.example --to c@d.example --ip 192.0.2.7\n  \
                      posthaste run-policy posthaste.conf --message ~/Maildir --json | jq '.[].fate'"
    )]
    RunPolicy(RunPolicyArgs),
    /// Run the unit tests of policies: every `*_test.lua` below a folder
    #[command(
        after_help = "inbound_test.lua tests inbound.lua beside it, or what --policy names. Each test begins with the policy \
                      freshly loaded, a clock that stands still, and a DNS that knows nothing; see the policy guide.\n\n\
                      Exits with 1 when a test failed or there was none.\n\nExamples:\n  posthaste test /etc/posthaste/lua\n  \
                      posthaste test lua/inbound_test.lua --filter recipient --junit report.xml"
    )]
    Test(TestArgs),
    /// A Lua prompt with the policy API, a session and a message at hand
    #[command(
        after_help = "`msg`, `ac` and `vctx` are there as in a hook of data_spool_each_rcpt (or of --phase); what an expression \
                      gives is printed. Tab completes names of the API; `help NAME` explains one.\n\n\
                      Examples:\n  posthaste repl\n  posthaste repl --message letter.eml policy.lua\n  \
                      echo 'msg:header(\"Subject\")' | posthaste repl --message letter.eml"
    )]
    Repl(ReplArgs),
    /// Talk to a running server: one command, or a prompt with completion and history
    #[command(
        alias = "ec_console",
        after_help = "Examples:\n  posthaste console                          a prompt\n  posthaste console \
                            --socket /tmp/2025 -c summary\n  posthaste console summary\n  posthaste console json mailq\n  \
                            posthaste console --socket user@mx1:2025 version"
    )]
    Console(ConsoleArgs),
    /// Show live what a running server's policy does: hooks, calls, times, verdicts
    #[command(
        after_help = "Names and addresses may have * in them; @DOMAIN is every address of the domain, <> the null sender. What comes \
                      faster than it is read is left out, and counted.\n\nExamples:\n  posthaste trace\n  \
                      posthaste trace --from ann@a.example --hook 'validate_*'\n  \
                      posthaste trace --ip 192.0.2.0/24 --to @b.example --json | jq .Verdict"
    )]
    Trace(TraceArgs),
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
    /// Print every function of the Lua API that this build has, or what an editor needs to know them
    #[command(
        after_help = "Editors with the Lua language server: see \"In an editor\" of the policy guide.\n\nExample:\n  \
                      posthaste lua-api --stubs > posthaste.lua; posthaste lua-api --plugin > posthaste-plugin.lua"
    )]
    LuaApi(LuaApiArgs),
    /// Print the version
    Version,
    /// Start a whole mail world on this machine, send mail through it, and show what happened
    Demo(DemoArgs),
    /// Start, stop or restart the server, as scripts for `ec_ctl` do; a service manager does it better
    #[command(
        alias = "ec_ctl",
        after_help = "The server is found by the configuration's Pidfile. Start and end are waited for, up to 55 seconds.\n\n\
                      Example:\n  posthaste ctl restart -c /etc/posthaste/posthaste.conf"
    )]
    Ctl(CtlArgs),
    /// Move each log to LOG.1, LOG.1 to LOG.2 and so on, and have the server reopen its logs
    #[command(
        alias = "ec_rotate",
        after_help = "The module log_rotation does it in the server, without this command.\n\n\
                      Example:\n  posthaste rotate -l /var/log/ecelerity/mainlog.ec -r 3 --compress /usr/bin/gzip"
    )]
    Rotate(RotateArgs),
    /// Show a queued message: envelope, contexts, content
    #[command(alias = "ec_show", after_help = "Example:\n  posthaste show -m 00/00-02001-C6DD1CA4")]
    Show(ShowArgs),
    /// Print a user's line for a file of `digest://` or `file://` users; the password is read from standard input
    #[command(
        alias = "ec_md5passwd",
        after_help = "Example:\n  echo secret | posthaste passwd --realm 'Momentum Console' admin >> console_passwd"
    )]
    Passwd(PasswdArgs),
    /// Print the effective configuration
    #[command(alias = "ec_dump_config")]
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
pub struct RunPolicyArgs {
    /// A script (`*.lua`) or a configuration file
    #[arg(value_name = "POLICY")]
    pub policy: PathBuf,
    /// A message, an mbox, a maildir or a folder of messages; `-` is standard input
    #[arg(short, long, value_name = "FILE", required = true, num_args = 1..)]
    pub message: Vec<PathBuf>,
    /// The sender of the envelope; by default the message's Return-Path or From
    #[arg(long, value_name = "ADDRESS")]
    pub from: Option<String>,
    /// A recipient of the envelope, once for each; by default the message's Delivered-To, or To and Cc
    #[arg(long, value_name = "ADDRESS")]
    pub to: Vec<String>,
    /// The client's address
    #[arg(long, default_value = "127.0.0.1")]
    pub ip: std::net::IpAddr,
    /// The client's name in EHLO
    #[arg(long, default_value = "client.example")]
    pub helo: String,
    /// Our own host name
    #[arg(long, default_value = "localhost")]
    pub hostname: String,
    /// A value of the connection's context, as a listener or an authentication would set it
    #[arg(long, value_name = "KEY=VALUE")]
    pub context: Vec<String>,
    /// Look names up in the DNS; without it no name exists
    #[arg(long)]
    pub dns: bool,
    /// As JSON, with the messages
    #[arg(long)]
    pub json: bool,
}

#[derive(Args)]
pub struct TestArgs {
    /// A folder, or one file of tests
    #[arg(value_name = "DIR", default_value = ".")]
    pub place: PathBuf,
    /// The script or configuration that is tested
    #[arg(long, value_name = "FILE")]
    pub policy: Option<PathBuf>,
    /// Only tests whose name has this text in it
    #[arg(long, value_name = "TEXT")]
    pub filter: Option<String>,
    /// Write a report in JUnit's XML
    #[arg(long, value_name = "FILE")]
    pub junit: Option<PathBuf>,
}

#[derive(Args)]
pub struct ReplArgs {
    /// A script or a configuration whose scripts are loaded first
    #[arg(value_name = "POLICY")]
    pub policy: Option<PathBuf>,
    /// The message that `msg` is
    #[arg(short, long, value_name = "FILE")]
    pub message: Option<PathBuf>,
    /// Look names up in the DNS; without it no name exists
    #[arg(long)]
    pub dns: bool,
    /// The phase that the prompt is in, as the API reference names it
    #[arg(long, default_value = "data_spool_each_rcpt")]
    pub phase: String,
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
pub struct TraceArgs {
    /// A unix socket's path, host:port, or user@host:port
    #[arg(long, value_name = "ADDR", env = "POSTHASTE_CONSOLE", default_value = "/tmp/2025")]
    pub socket: String,
    /// Only this hook
    #[arg(long, value_name = "NAME")]
    pub hook: Option<String>,
    /// Only this module, as `msys.registerModule` named it
    #[arg(long, value_name = "NAME")]
    pub module: Option<String>,
    /// Only mail of this sender
    #[arg(long, value_name = "ADDRESS")]
    pub from: Option<String>,
    /// Only mail to this recipient
    #[arg(long, value_name = "ADDRESS")]
    pub to: Option<String>,
    /// Only clients of this address or network
    #[arg(long, value_name = "ADDRESS|CIDR", value_parser = network)]
    pub ip: Option<ipnet::IpNet>,
    /// As JSON, one event a line
    #[arg(long)]
    pub json: bool,
}

fn network(text: &str) -> Result<ipnet::IpNet, String> {
    let address = || text.parse::<std::net::IpAddr>().map(ipnet::IpNet::from);
    text.parse().or_else(|_| address()).map_err(|_| "no address and no network".to_owned())
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
pub struct LuaApiArgs {
    /// As JSON
    #[arg(long)]
    pub json: bool,
    /// The declarations for the Lua language server
    #[arg(long, conflicts_with = "json")]
    pub stubs: bool,
    /// The plugin for the Lua language server that makes it read the dialect
    #[arg(long, conflicts_with_all = ["json", "stubs"])]
    pub plugin: bool,
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
pub struct CtlArgs {
    #[arg(value_enum)]
    pub action: CtlAction,
    /// The configuration file; without it the file that `run` would take
    #[arg(short, long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum CtlAction {
    Start,
    Stop,
    Restart,
}

#[derive(Args)]
pub struct RotateArgs {
    /// A log; without it all those of the configuration
    #[arg(short, long, value_name = "FILE")]
    pub logfile: Vec<PathBuf>,
    /// The configuration file of the server; without it the file that `run` would take
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// How many old ones of each log are kept
    #[arg(short, long, value_name = "NUMBER", default_value_t = 7)]
    pub retention: u32,
    /// The control socket; without it that of the configuration
    #[arg(short, long, value_name = "ADDR")]
    pub socket: Option<String>,
    /// A program that compresses the file it is given, such as /usr/bin/bzip2
    #[arg(short, long, value_name = "PROGRAM")]
    pub compress: Option<PathBuf>,
    /// Do not compress: the default
    #[arg(short, long, conflicts_with = "compress")]
    pub nocompress: bool,
}

#[derive(Args)]
pub struct ShowArgs {
    /// The message's id
    #[arg(short, long, value_name = "ID", required = true)]
    pub message: String,
    /// The configuration file of the server; without it the file that `run` would take
    #[arg(short, long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// The control socket; without it that of the configuration
    #[arg(long, value_name = "ADDR")]
    pub socket: Option<String>,
}

#[derive(Args)]
pub struct PasswdArgs {
    pub user: String,
    /// The password; without it one line of standard input. Others on this machine can see what stands on a command line
    pub password: Option<String>,
    /// Write the line into this file, in place of the user's last one
    #[arg(short, long, value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// The realm of DIGEST-MD5
    #[arg(short, long, env = "EC_DIGEST_REALM", default_value = "Momentum Console")]
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
