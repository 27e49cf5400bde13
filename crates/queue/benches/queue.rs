//! What one message costs in the queue: push, take, outcome; alone, in batches, and beside a million others.
//!
//! `cargo bench -p ph-queue`. One iteration is one message.

use arc_swap::ArcSwap;
use criterion::{Criterion, criterion_group, criterion_main};
use ph_config::Config;
use ph_eventlog::Clock;
use ph_message::{Id, SpoolKey, Summary, Time};
use ph_queue::{Find, ListQuery, Permit, Queue, Scope};
use std::future::Future;
use std::hint::black_box;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

const START: Time = Time(1_800_000_000_000_000);

struct Bench {
    queue: Queue,
    next: u64,
}

impl Bench {
    fn new() -> Bench {
        let config = Arc::new(ArcSwap::from_pointee(Config::builtin()));
        Bench { queue: Queue::new(config, Clock::fake(START)), next: 1 }
    }

    fn full() -> Bench {
        let mut bench = Bench::new();
        let domains: Vec<String> = (0..10_000).map(|n| format!("domain-{n}.example")).collect();
        for n in 0..100 {
            for domain in &domains {
                let next_attempt = if n % 2 == 0 { Time::ZERO } else { START.plus_secs(600 + (bench.next * 7) % 3600) };
                bench.push(domain, next_attempt);
            }
        }
        bench
    }

    fn push(&mut self, domain: &str, next_attempt: Time) {
        self.next += 1;
        let summary = Summary {
            id: Id(self.next),
            batch_id: Id(self.next << 32),
            created: START,
            next_attempt,
            size: 10_240,
            domain: domain.into(),
            recipient_hash: self.next as u32,
            ..Summary::default()
        };
        black_box(self.queue.push(SpoolKey(self.next as u32), summary));
    }

    fn connection(&self) -> Permit {
        let mut future = pin!(self.queue.next_connection());
        let mut context = Context::from_waker(Waker::noop());
        loop {
            if let Poll::Ready(permit) = future.as_mut().poll(&mut context) {
                return permit;
            }
        }
    }
}

fn one_queue(c: &mut Criterion) {
    let mut bench = Bench::new();
    bench.push("sink.example", Time::ZERO);
    let permit = bench.connection();
    c.bench_function("push, take, delivered on an open connection", |b| {
        b.iter(|| {
            bench.push("sink.example", Time::ZERO);
            for taken in bench.queue.take(&permit, 1) {
                bench.queue.delivered(taken);
            }
        });
    });
    c.bench_function("the same with ten per take", |b| {
        b.iter_custom(|iterations| {
            let begin = std::time::Instant::now();
            for _ in 0..iterations.div_ceil(10) {
                for _ in 0..10 {
                    bench.push("sink.example", Time::ZERO);
                }
                for taken in bench.queue.take(&permit, 10) {
                    bench.queue.delivered(taken);
                }
            }
            begin.elapsed()
        });
    });
    c.bench_function("push, take, retry among growing delayed mail", |b| {
        let mut due = START;
        b.iter(|| {
            bench.push("sink.example", Time::ZERO);
            due = Time(due.0 + 1_000_003);
            for taken in bench.queue.take(&permit, 1) {
                bench.queue.retry(taken, due);
            }
        });
    });
}

fn a_million(c: &mut Criterion) {
    let mut bench = Bench::full();
    let mut domain = 0_u64;
    c.bench_function("push, connection, take, delivered beside a million", |b| {
        b.iter(|| {
            domain = (domain + 7919) % 10_000;
            bench.push(&format!("domain-{domain}.example"), Time::ZERO);
            let permit = bench.connection();
            for taken in bench.queue.take(&permit, 1) {
                bench.queue.delivered(taken);
            }
        });
    });
    c.bench_function("search of a recipient in a million", |b| {
        b.iter(|| {
            let find = Find { recipient_hash: Some(500_000), limit: 10, ..Find::default() };
            black_box(bench.queue.find(&find).entries.len())
        });
    });
    c.bench_function("page of a hundred in a million", |b| {
        b.iter(|| {
            let scope = Scope::domain("domain-77.example");
            black_box(bench.queue.list(&ListQuery { scope, limit: 100, ..ListQuery::default() }).entries.len())
        });
    });
    c.bench_function("overview of a million", |b| b.iter(|| black_box(bench.queue.overview().total())));
}

criterion_group!(benches, one_queue, a_million);
criterion_main!(benches);
