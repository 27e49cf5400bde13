//! How fast a full queue leaves: messages a second and CPU seconds per 1,000, delivery's side alone.
//!
//! The next hop is a sink on a runtime and thread of its own, whose CPU time is not counted. Nothing is received
//! meanwhile, so these are the costs of queue, spool cache, client and log. Run with `cargo bench -p ph-delivery`; the
//! first argument is the number of messages, the second their size in octets.

use arc_swap::ArcSwap;
use ph_config::Config;
use ph_delivery::{Delivery, DeliveryServices, Inject, InjectError, Injecting};
use ph_dns::Resolver;
use ph_eventlog::{Clock, EcLogger, EventLog, LogSettings, Target};
use ph_load::{SinkHandle, SinkOptions, sink};
use ph_message::{Content, Envelope, Id, IdSource, Mailbox};
use ph_queue::Queue;
use ph_spool::{Spool, SpoolOptions};
use std::sync::Arc;
use std::time::{Duration, Instant};

struct NoReports;

impl Inject for NoReports {
    fn inject(&self, _: Envelope, _: Content) -> Injecting {
        Box::pin(async { Err(InjectError::Refused("no reports in a benchmark".into())) })
    }
}

fn main() {
    let mut numbers = std::env::args().skip(1).filter_map(|word| word.parse().ok());
    let count = numbers.next().unwrap_or(20_000_usize);
    let size = numbers.next().unwrap_or(10 << 10);
    let (ready, started) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let sink = sink::run(SinkOptions::default()).await.expect("a free port");
            ready.send(sink.clone()).expect("the other side waits");
            std::future::pending::<()>().await;
        });
    });
    let sink: SinkHandle = started.recv().expect("the sink starts");
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
    for connections in [1, 10, 50] {
        let before = sink.stats().messages;
        runtime.block_on(drain(count, size, sink.address().port(), connections));
        assert_eq!(sink.stats().messages - before, count as u64, "every message came, once");
    }
}

async fn drain(count: usize, size: usize, port: u16, connections: u32) {
    let folder = tempfile::tempdir().expect("a folder");
    let text = format!(
        "hostname = me.example remote_smtp_port = {port} max_outbound_connections = {connections} \
         connection_allocation_aggressiveness = high"
    );
    let config = Arc::new(ArcSwap::from_pointee(Config::parse("bench", &text).expect("good options").config));
    let clock = Clock::system();
    let mainlog = Target::new(folder.path().join("mainlog").display().to_string());
    let logger =
        EcLogger { mainlog: Some(mainlog), rejectlog: None, paniclog: None, acctlog: None, ..EcLogger::default() };
    let log = EventLog::open(LogSettings { ec_loggers: vec![logger], ..LogSettings::default() });
    let options = SpoolOptions { cache_bytes: 1 << 30, ..SpoolOptions::new(folder.path().join("spool")) };
    let (spool, _) = Spool::open(options, &mut |_| {}).expect("a spool");
    let queue = Queue::new(config.clone(), clock.clone());
    let ids = Arc::new(IdSource::new(1, Id::NULL));
    let body = format!("{}\r\n", "x".repeat(76)).repeat(size / 78);
    for chunk in (0..count).collect::<Vec<_>>().chunks(500) {
        let messages = chunk.iter().map(|n| {
            let now = clock.now();
            let id = ids.next(now);
            let mailbox = |local: String| Mailbox { local: local.into(), domain: "[127.0.0.1]".into() };
            let content = Content::parse(format!("Subject: {n}\r\n\r\n{body}").into());
            let envelope = Envelope {
                id,
                batch_id: id,
                created: now,
                sender: mailbox("sender".into()),
                recipient: mailbox(format!("r{n}")),
                size: content.size(),
                ..Envelope::default()
            };
            (Arc::new(envelope), content)
        });
        let messages: Vec<_> = messages.collect();
        let summaries: Vec<_> = messages.iter().map(|(envelope, _)| envelope.summary(&Default::default())).collect();
        let keys = spool.commit(messages).await.expect("room");
        queue.push_all(&keys.into_iter().zip(summaries).collect::<Vec<_>>());
    }
    let (begun, cpu, sink_cpu) = (Instant::now(), cpu_s("self"), sink_cpu_s());
    let handle = Delivery::start(DeliveryServices {
        config,
        policy: None,
        queue: queue.clone(),
        spool,
        log,
        clock,
        ids,
        lookup: Arc::new(Resolver::empty()),
        inject: Arc::new(NoReports),
    });
    while queue.overview().total() > 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let (took, all, sink) = (begun.elapsed().as_secs_f64(), cpu_s("self") - cpu, sink_cpu_s() - sink_cpu);
    println!(
        "{count} messages of {size} octets, {connections} connections: {:.0}/s, {:.3} CPU s per 1,000 (sink {:.3})",
        count as f64 / took,
        (all - sink) * 1000.0 / count as f64,
        sink * 1000.0 / count as f64,
    );
    handle.stop(Duration::from_secs(5)).await;
}

/// User and system time of a `/proc` entry, in seconds.
fn cpu_s(entry: &str) -> f64 {
    let text = std::fs::read_to_string(format!("/proc/{entry}/stat")).unwrap_or_default();
    let fields: Vec<&str> = text.rsplit(')').next().unwrap_or("").split_whitespace().collect();
    let ticks = |at: usize| fields.get(at).and_then(|field| field.parse::<f64>().ok()).unwrap_or(0.0);
    (ticks(11) + ticks(12)) / 100.0
}

/// The sink's thread is the first after the main one.
fn sink_cpu_s() -> f64 {
    let mut threads: Vec<u32> = std::fs::read_dir("/proc/self/task")
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .collect();
    threads.sort_unstable();
    threads.get(1).map_or(0.0, |thread| cpu_s(&format!("self/task/{thread}")))
}
