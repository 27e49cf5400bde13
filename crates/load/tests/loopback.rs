//! Generator against sink over loopback: what one acknowledged the other has, once.

use ph_load::{Acknowledged, GeneratorOptions, SinkOptions, Verification, generate, sink};
use std::collections::HashMap;

async fn run(sink: SinkOptions, generator: GeneratorOptions) -> (ph_load::Report, Vec<u64>, ph_load::SinkHandle) {
    let handle = sink::run(sink).await.unwrap();
    let acknowledged = Acknowledged::default();
    let report = generate(GeneratorOptions { to: handle.address(), ..generator }, acknowledged.clone()).await;
    let ids = acknowledged.0.lock().clone();
    (report, ids, handle)
}

#[tokio::test]
async fn every_acknowledged_message_is_in_the_sink_once() {
    for (pipelining, connection_each) in [(false, false), (true, false), (false, true)] {
        let generator = GeneratorOptions {
            sessions: 7,
            messages: 100,
            size: 3000,
            pipelining,
            connection_each,
            ..GeneratorOptions::default()
        };
        let (report, ids, sink) = run(SinkOptions { record_ids: true, ..SinkOptions::default() }, generator).await;
        assert_eq!((report.acknowledged, report.refused, report.broken), (100, 0, 0));
        let expected: HashMap<u64, u32> = ids.iter().map(|id| (*id, 1)).collect();
        assert_eq!(sink.ids(), expected);
        assert_eq!(sink.stats().octets, 100 * 2998, "the sink does not count the line end before the dot");
        assert!(report.transaction.p50_us > 0);
    }
}

#[tokio::test]
async fn the_sink_defers_so_often_and_refuses_for_good() {
    let sink = SinkOptions {
        defer: vec!["*.0@d1.load.example".to_owned()],
        defer_times: 1,
        refuse: vec!["*@d2.load.example".to_owned()],
        ..SinkOptions::default()
    };
    let generator = GeneratorOptions { sessions: 1, messages: 3, domains: 3, ..GeneratorOptions::default() };
    let (report, _, handle) = run(sink, generator).await;
    assert_eq!((report.acknowledged, report.refused), (1, 2));
    let again = GeneratorOptions { to: handle.address(), sessions: 1, messages: 1, domains: 3, ..Default::default() };
    let second = generate(again, Acknowledged::default()).await;
    assert_eq!(second.acknowledged, 1, "the recipient was put off once and is taken now");
    assert_eq!((handle.stats().deferred, handle.stats().refused), (1, 1));
}

#[tokio::test]
async fn a_store_holds_each_message() {
    let dir = tempfile::tempdir().unwrap();
    let sink = SinkOptions { store: Some(dir.path().join("in")), ..SinkOptions::default() };
    let (_, _, _handle) = run(sink, GeneratorOptions { sessions: 1, messages: 2, ..Default::default() }).await;
    let first = std::fs::read_to_string(dir.path().join("in/0.eml")).unwrap();
    assert!(first.contains("X-Load-Id: 000000000001\r\n"), "{first}");
    assert!(dir.path().join("in/1.eml").exists());
}

#[tokio::test]
async fn a_share_of_the_messages_is_put_off_and_the_books_agree() {
    let sink = SinkOptions { defer_percent: 30, record_ids: true, ..SinkOptions::default() };
    let generator = GeneratorOptions { sessions: 4, messages: 400, size: 500, pipelining: true, ..Default::default() };
    let (report, ids, handle) = run(sink, generator).await;
    assert_eq!(report.acknowledged + report.refused, 400);
    assert!((60..=180).contains(&report.refused), "about 120: {}", report.refused);
    assert_eq!(handle.stats().deferred, report.refused);
    let verification = Verification::of(&ids, &handle.ids(), 1);
    assert!(verification.is_exact() && verification.unacknowledged.is_empty(), "{verification:?}");
}
