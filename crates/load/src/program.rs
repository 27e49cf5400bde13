//! `posthaste sink` and `posthaste bench`: the command lines of this crate, and what they print.

use crate::generator::{Acknowledged, GeneratorOptions, Report, generate};
use crate::sink::{self, SinkOptions, SinkStats};
use crate::verify::Verification;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

#[derive(Clone, Debug, clap::Args)]
pub struct SinkArgs {
    /// Where to listen; port 0 takes a free one and prints it
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:2526")]
    pub listen: SocketAddr,
    /// Put recipients of this pattern off with 451 (may be given more than once)
    #[arg(long, value_name = "PATTERN")]
    pub defer: Vec<String>,
    /// Put each of them off so often, then take them; 0: always
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub defer_times: u32,
    /// Put off so many of a hundred messages with 451 after the data, at random
    #[arg(long, value_name = "PERCENT", default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=100))]
    pub defer_percent: u32,
    /// Refuse recipients of this pattern with 550
    #[arg(long, value_name = "PATTERN")]
    pub refuse: Vec<String>,
    /// Wait so long before the reply to the data
    #[arg(long, value_name = "MS", default_value_t = 0)]
    pub delay_ms: u64,
    /// Write each message into this folder
    #[arg(long, value_name = "DIR")]
    pub store: Option<PathBuf>,
    /// At the end, write the load ids that came, and how often, into this file
    #[arg(long, value_name = "FILE")]
    pub ids: Option<PathBuf>,
    /// Do not offer PIPELINING
    #[arg(long)]
    pub no_pipelining: bool,
    /// Print nothing but the address and the final statistics
    #[arg(long)]
    pub quiet: bool,
}

/// Runs until it is interrupted or terminated, then prints the statistics as JSON.
pub fn run_sink(args: SinkArgs) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let handle = sink::run(SinkOptions {
            listen: args.listen,
            defer: args.defer,
            defer_times: args.defer_times,
            defer_percent: args.defer_percent,
            refuse: args.refuse,
            delay: Duration::from_millis(args.delay_ms),
            record_ids: args.ids.is_some(),
            store: args.store,
            pipelining: !args.no_pipelining,
        })
        .await?;
        println!("listening on {}", handle.address());
        let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
        let mut shown = SinkStats::default();
        loop {
            tokio::select! {
                _ = tokio::signal::ctrl_c() => break,
                _ = terminate.recv() => break,
                () = tokio::time::sleep(Duration::from_secs(1)) => {
                    let now = handle.stats();
                    if !args.quiet && now != shown {
                        println!("{} messages, {} deferred, {} refused", now.messages, now.deferred, now.refused);
                    }
                    shown = now;
                }
            }
        }
        if let Some(path) = &args.ids {
            let ids = handle.ids();
            let mut file = io::BufWriter::new(std::fs::File::create(path)?);
            for (id, count) in ids {
                writeln!(file, "{id} {count}")?;
            }
            file.flush()?;
        }
        println!("{}", serde_json::to_string(&handle.stats()).map_err(io::Error::other)?);
        Ok(())
    })
}

#[derive(Clone, Debug, clap::Args)]
pub struct GeneratorArgs {
    /// The server to send to
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:2525")]
    pub to: SocketAddr,
    #[arg(long, value_name = "N", default_value_t = 50)]
    pub sessions: usize,
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    pub messages: u64,
    /// Octets of one message
    #[arg(long, value_name = "OCTETS", default_value_t = 10_240)]
    pub size: usize,
    /// Messages a second over all sessions; 0: as fast as it goes
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub rate: u64,
    /// Send MAIL, RCPT and DATA in one packet
    #[arg(long)]
    pub pipelining: bool,
    /// A new connection for each message
    #[arg(long)]
    pub connection_each: bool,
    /// Recipients of each message
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub recipients: usize,
    /// Number of recipient domains
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub domains: u64,
    /// The recipients' domain (its parent, with --domains)
    #[arg(long, value_name = "NAME", default_value = "load.example")]
    pub domain: String,
    #[arg(long, value_name = "ADDRESS", default_value = "load@sender.example")]
    pub sender: String,
    /// The first load id
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub first_id: u64,
    /// Stop after so many seconds
    #[arg(long, value_name = "S")]
    pub seconds: Option<u64>,
    /// Write the load ids that were acknowledged into this file
    #[arg(long, value_name = "FILE")]
    pub ids: Option<PathBuf>,
    /// Afterwards, compare the ids in --ids with those that a sink wrote into this file; fail when one is lost or doubled
    #[arg(long, value_name = "FILE", requires = "ids")]
    pub verify: Option<PathBuf>,
    /// Send nothing; only compare as --verify says
    #[arg(long, requires = "verify")]
    pub verify_only: bool,
    /// Print the report as JSON
    #[arg(long)]
    pub json: bool,
}

impl From<&GeneratorArgs> for GeneratorOptions {
    fn from(args: &GeneratorArgs) -> GeneratorOptions {
        GeneratorOptions {
            to: args.to,
            sessions: args.sessions,
            messages: args.messages,
            size: args.size,
            rate: args.rate,
            pipelining: args.pipelining,
            connection_each: args.connection_each,
            recipients: args.recipients,
            domains: args.domains,
            domain: args.domain.clone(),
            sender: args.sender.clone(),
            first_id: args.first_id,
            time_max: args.seconds.map(Duration::from_secs),
            ..GeneratorOptions::default()
        }
    }
}

/// Sends, prints the report; true when everything was acknowledged.
pub fn run_generator(args: GeneratorArgs) -> io::Result<bool> {
    let sent = args.verify_only || send(&args)?;
    let (Some(ids), Some(came)) = (&args.ids, &args.verify) else { return Ok(sent) };
    let verification = Verification::of_files(ids, came, 1)?;
    if args.json {
        println!("{}", serde_json::to_string(&verification).map_err(io::Error::other)?);
    } else {
        println!(
            "delivered {}, lost {}, doubled {}, never acknowledged {}",
            verification.delivered,
            verification.lost.len(),
            verification.duplicates.len(),
            verification.unacknowledged.len()
        );
    }
    Ok(sent && verification.is_exact())
}

fn send(args: &GeneratorArgs) -> io::Result<bool> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let acknowledged = Acknowledged::default();
    let report = runtime.block_on(generate(GeneratorOptions::from(args), acknowledged.clone()));
    if let Some(path) = &args.ids {
        write_ids(path, &acknowledged)?;
    }
    if args.json {
        println!("{}", serde_json::to_string(&report).map_err(io::Error::other)?);
    } else {
        print(&report);
    }
    Ok(report.refused == 0 && report.broken == 0)
}

fn write_ids(path: &Path, acknowledged: &Acknowledged) -> io::Result<()> {
    let mut file = io::BufWriter::new(std::fs::File::create(path)?);
    for id in acknowledged.0.lock().iter() {
        writeln!(file, "{id}")?;
    }
    file.flush()
}

fn print(report: &Report) {
    println!(
        "acknowledged {} in {:.2} s: {:.0} messages/s",
        report.acknowledged, report.seconds, report.messages_per_second
    );
    let line = |name: &str, l: &crate::Latency| {
        println!("{name:12} p50 {} us   p90 {} us   p99 {} us   max {} us", l.p50_us, l.p90_us, l.p99_us, l.max_us);
    };
    line("transaction", &report.transaction);
    line("final dot", &report.commit);
    if report.refused + report.broken > 0 {
        println!("refused {}, broken {}", report.refused, report.broken);
        report.examples.iter().for_each(|example| println!("  {example}"));
    }
}
