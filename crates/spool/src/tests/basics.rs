//! What works when nothing fails.

use super::*;
use ph_message::DeliveryState;

#[test]
fn what_was_committed_is_there_after_a_restart_with_its_summary() {
    let disk = Sim::new(1);
    runtime().block_on(async {
        let (spool, report, found) = open(options(&disk)).expect("opens");
        assert!(found.is_empty() && report.damage.is_empty());
        for id in 1..=30 {
            let key = commit_one(&spool, id, 3000).await.expect("commits");
            assert_whole(&spool, key, id, 3000).await;
            assert_eq!(spool.find_id(Id(id)), Some(key));
        }
        spool.done(spool.find_id(Id(7)).expect("there"));
        assert_eq!(spool.find_id(Id(7)), None);
        assert_eq!(spool.id_floor(), Id(30));
        drop(spool);
        for round in 0..3 {
            let (spool, report, found) = open(options(&disk)).expect("opens");
            assert_eq!(report.scanned, 0, "sealed segments have an index");
            assert_eq!(found.len(), 29, "round {round}");
            assert_eq!(spool.id_floor(), Id(30));
            for (&id, one) in &found {
                assert_eq!(one.summary, envelope(id).summary(&DeliveryState::default()));
                assert_whole(&spool, one.key, id, 3000).await;
            }
        }
    });
}

#[test]
fn one_body_serves_many_recipients() {
    let disk = Sim::new(2);
    runtime().block_on(async {
        let (spool, ..) = open(SpoolOptions { cache_bytes: 0, ..options(&disk) }).expect("opens");
        let shared = content(1, 20_000);
        let other = content(2, 100);
        let messages: Vec<_> = (0..20)
            .map(|nth| (Arc::new(envelope(100 + nth)), if nth == 13 { other.clone() } else { shared.clone() }))
            .collect();
        let keys = spool.commit(messages).await.expect("commits");
        assert!(spool.stats().live_bytes < 20_000 + 20 * 400, "stored once: {:?}", spool.stats());
        for (nth, &key) in keys.iter().enumerate() {
            let stored = spool.read(key).await.expect("there");
            assert_eq!(bytes_of(&stored.content), bytes_of(if nth == 13 { &other } else { &shared }));
        }
        for &key in &keys[1..] {
            spool.done(key);
        }
        let stored = spool.read(keys[0]).await.expect("there");
        assert_eq!(bytes_of(&stored.content), bytes_of(&shared));
        drop(spool);
        let (_, _, found) = open(options(&disk)).expect("opens");
        assert_eq!(found.keys().copied().collect::<Vec<_>>(), [100]);
    });
}

#[test]
fn states_and_replaced_envelopes_survive() {
    let disk = Sim::new(3);
    runtime().block_on(async {
        for kill in [false, true] {
            let disk = if kill { disk.after_kill() } else { disk.clone() };
            let base = if kill { 1000 } else { 0 };
            let (spool, ..) = open(options(&disk)).expect("opens");
            let mut keys = Vec::new();
            for id in base + 1..=base + 40 {
                keys.push(commit_one(&spool, id, 2000).await.expect("commits"));
            }
            let state = |n: u32| DeliveryState {
                retries: n,
                attempts: n + 1,
                next_attempt: ph_message::Time(i64::from(n) * 77),
                last_reply: format!("450 4.2.{n} later").into(),
            };
            for (n, &key) in keys.iter().enumerate() {
                spool.update(key, state(1));
                spool.update(key, state(n as u32));
                assert_eq!(spool.read(key).await.expect("there").state, state(n as u32), "at once");
            }
            spool.flush().await.expect("flushes");
            let mut changed = envelope(base + 5);
            changed.binding = "other".into();
            spool.replace(keys[4], changed.clone()).await.expect("replaces");
            assert!(matches!(spool.replace(keys[4], envelope(9999)).await, Err(SpoolError::NotFound)));
            spool.update(keys[5], state(99));
            spool.flush().await.expect("flushes");
            let disk = if kill { disk.after_kill() } else { disk.clone() };
            if !kill {
                drop(spool);
            }
            let (spool, report, found) = open(options(&disk)).expect("opens");
            assert_eq!(report.damage, []);
            for (n, id) in (base + 1..=base + 40).enumerate() {
                let n = if n == 5 { 99 } else { n as u32 };
                let one = &found[&id];
                let stored = spool.read(one.key).await.expect("there");
                assert_eq!(stored.state, state(n), "state of {id}, killed: {kill}");
                let want = if id == base + 5 { changed.clone() } else { envelope(id) };
                assert_eq!(*stored.envelope, want);
                assert_eq!(one.summary, want.summary(&state(n)), "summary of {id}, killed: {kill}");
                spool.done(one.key);
            }
        }
    });
}

#[test]
fn large_bodies_live_as_long_as_their_messages_and_handles() {
    let disk = Sim::new(4);
    let large = || disk.names().into_iter().filter(|path| path.starts_with("/spool/large")).count();
    runtime().block_on(async {
        let (spool, ..) = open(options(&disk)).expect("opens");
        let mut writer = spool.begin_large().expect("begins");
        let octets: Vec<u8> = (0..700_000_u32).map(|at| (at * 13 / 7) as u8).collect();
        for chunk in octets.chunks(10_007) {
            writer.write(chunk).await.expect("writes");
        }
        assert_eq!(writer.len(), 700_000);
        let body = writer.finish().await.expect("finishes");
        let external = Content::new(Bytes::from_static(b"A: b\r\n\r\n"), body);
        let messages = vec![(Arc::new(envelope(1)), external.clone()), (Arc::new(envelope(2)), external.clone())];
        let keys = spool.commit(messages).await.expect("commits");
        // Also a body in memory goes to a file when it would take too much of a segment.
        let key = commit_one(&spool, 3, 30_000).await.expect("commits");
        assert_eq!(large(), 2);
        drop(spool.begin_large().expect("begins"));
        until("an unfinished body goes", || large() == 2);
        assert_whole(&spool, key, 3, 30_000).await;
        spool.done(keys[0]);
        drop(spool);
        drop(external);
        let disk = disk.after_kill();
        let large = || disk.names().into_iter().filter(|path| path.starts_with("/spool/large")).count();
        let (spool, report, found) = open(options(&disk)).expect("opens");
        assert_eq!((report.orphans, found.len()), (0, 2));
        let stored = spool.read(found[&2].key).await.expect("there");
        assert_eq!(&bytes_of(&stored.content)[8..], octets);
        assert_whole(&spool, found[&3].key, 3, 30_000).await;
        spool.done(found[&2].key);
        spool.done(found[&3].key);
        spool.flush().await.expect("flushes");
        until("the body that nobody holds goes", || large() == 1);
        assert_eq!(&bytes_of(&stored.content)[8..], octets, "a handle keeps it");
        drop(stored);
        until("the other one, too", || large() == 0);
    });
}

#[test]
fn bodies_that_no_message_has_go_at_the_next_start() {
    let disk = Sim::new(5);
    runtime().block_on(async {
        let (spool, ..) = open(options(&disk)).expect("opens");
        let mut writer = spool.begin_large().expect("begins");
        writer.write(&[1; 300_000]).await.expect("writes");
        let body = writer.finish().await.expect("finishes");
        let after = disk.after_kill();
        let (_, report, _) = open(options(&after)).expect("opens");
        assert_eq!(report.orphans, 1);
        assert!(!after.names().iter().any(|path| path.starts_with("/spool/large")));
        drop(body);
    });
}

#[test]
fn empty_segments_are_used_again_and_not_piled_up() {
    let disk = Sim::new(6);
    runtime().block_on(async {
        let (spool, ..) = open(SpoolOptions { spares: 2, spares_max: 3, ..options(&disk) }).expect("opens");
        for id in 1..=400 {
            let key = commit_one(&spool, id, 4000).await.expect("commits");
            spool.done(key);
        }
        spool.flush().await.expect("flushes");
        until("old segments are given up", || spool.stats().segments <= 2);
        assert!(log_files(&disk).len() <= 8, "{:?}", log_files(&disk));
        let stats = spool.stats();
        assert_eq!((stats.messages, stats.commits), (0, 400));
        assert!(stats.written_bytes > 20 * 64 * 1024);
    });
}

#[test]
fn nearly_empty_segments_are_compacted_and_their_messages_stay() {
    let disk = Sim::new(7);
    runtime().block_on(async {
        let (spool, ..) = open(SpoolOptions { compact_below_percent: 50, ..options(&disk) }).expect("opens");
        let mut kept = BTreeMap::new();
        for id in 1..=300 {
            let key = commit_one(&spool, id, 3000).await.expect("commits");
            if id % 20 == 0 {
                spool.update(key, DeliveryState { attempts: id as u32, ..DeliveryState::default() });
                kept.insert(id, key);
            } else {
                spool.done(key);
            }
        }
        spool.flush().await.expect("flushes");
        until("compaction", || spool.stats().segments <= 4);
        assert!(spool.stats().compacted > 0);
        for (&id, &key) in &kept {
            assert_whole(&spool, key, id, 3000).await;
            assert_eq!(spool.read(key).await.expect("there").state.attempts, id as u32);
        }
        for disk in [disk.after_power_loss(3), disk.after_kill()] {
            let (spool, report, found) = open(options(&disk)).expect("opens");
            assert_eq!(report.damage, []);
            assert_eq!(found.keys().collect::<Vec<_>>(), kept.keys().collect::<Vec<_>>());
            for (&id, one) in &found {
                assert_whole(&spool, one.key, id, 3000).await;
                assert_eq!(one.summary.attempts, id as u32);
            }
        }
    });
}

#[test]
fn an_id_is_stored_once_and_a_transaction_has_a_largest_size() {
    let disk = Sim::new(8);
    runtime().block_on(async {
        let (spool, ..) = open(options(&disk)).expect("opens");
        let key = commit_one(&spool, 1, 10).await.expect("commits");
        assert!(matches!(commit_one(&spool, 1, 10).await, Err(SpoolError::DuplicateId(Id(1)))));
        let twice = vec![(Arc::new(envelope(2)), content(2, 10)), (Arc::new(envelope(2)), content(2, 10))];
        assert!(matches!(spool.commit(twice).await, Err(SpoolError::DuplicateId(Id(2)))));
        assert_eq!(spool.find_id(Id(2)), None);
        let shared = content(3, 10);
        let many: Vec<_> = (10..1000).map(|id| (Arc::new(envelope(id)), shared.clone())).collect();
        assert!(matches!(spool.commit(many).await, Err(SpoolError::TooLarge { .. })));
        // Just what fits: as many as possible.
        let mut fitting = 0;
        for count in (1..700).rev() {
            let many: Vec<_> = (10..10 + count).map(|id| (Arc::new(envelope(id)), shared.clone())).collect();
            match spool.commit(many).await {
                Ok(keys) => {
                    fitting = keys.len();
                    break;
                }
                Err(error) => assert!(matches!(error, SpoolError::TooLarge { .. }), "{error}"),
            }
        }
        assert!(fitting > 200, "{fitting}");
        spool.done(key);
        assert!(commit_one(&spool, 1, 10).await.is_ok(), "the id is free again");
    });
}

#[test]
fn a_caller_that_goes_away_leaves_no_message_behind() {
    let disk = Sim::new(9);
    runtime().block_on(async {
        let (spool, ..) = open(options(&disk)).expect("opens");
        for id in 1..=50 {
            let commit = commit_one(&spool, id, 100);
            let gone = tokio::time::timeout(Duration::ZERO, commit).await;
            drop(gone);
        }
        spool.flush().await.expect("flushes");
        // What was answered in time was dropped with its keys as well, and stays: a caller had it.
        let (messages, commits) = (spool.stats().messages, spool.stats().commits);
        assert!(messages <= commits, "{messages} of {commits}");
        let abandoned = tokio::spawn({
            let spool = spool.clone();
            async move { commit_one(&spool, 1000, 100).await }
        });
        abandoned.abort();
        let outcome = abandoned.await;
        spool.flush().await.expect("flushes");
        // Where the commit was quicker than the abort, its caller had the keys, and the message stays.
        if outcome.is_err() {
            until("given up", || spool.find_id(Id(1000)).is_none());
        }
    });
}

#[test]
fn many_sessions_at_once_share_batches() {
    let dir = tempfile::tempdir().expect("a folder");
    let runtime = runtime();
    runtime.block_on(async {
        let (spool, ..) = open(real_options(dir.path())).expect("opens");
        let tasks: Vec<_> = (0..32_u64)
            .map(|task| {
                let spool = spool.clone();
                tokio::spawn(async move {
                    for nth in 0..20 {
                        let id = 1 + task * 1000 + nth;
                        let key = commit_one(&spool, id, 5000).await.expect("commits");
                        assert_whole(&spool, key, id, 5000).await;
                        if nth % 2 == 0 {
                            spool.done(key);
                        }
                    }
                })
            })
            .collect();
        for task in tasks {
            task.await.expect("no panic");
        }
        let stats = spool.stats();
        assert_eq!((stats.commits, stats.messages), (640, 320));
        assert!(stats.batches < 640, "{stats:?}");
    });
    let (spool, report, found) = open(real_options(dir.path())).expect("opens");
    assert_eq!((found.len(), report.scanned, report.damage.len()), (320, 0, 0));
    runtime.block_on(async {
        for (&id, one) in &found {
            assert_whole(&spool, one.key, id, 5000).await;
        }
    });
}

#[test]
fn a_second_process_is_told_who_has_the_spool() {
    let dir = tempfile::tempdir().expect("a folder");
    let (spool, ..) = open(real_options(dir.path())).expect("opens");
    match open(real_options(dir.path())) {
        Err(error @ SpoolError::Locked { pid, .. }) => {
            assert_eq!(pid, Some(std::process::id()));
            assert!(error.to_string().contains(&format!("in use by process {}", std::process::id())), "{error}");
        }
        other => panic!("{other:?}"),
    }
    spool.close();
    open(real_options(dir.path())).expect("free again");
}

#[test]
fn commits_after_close_are_refused() {
    let disk = Sim::new(10);
    runtime().block_on(async {
        let (spool, ..) = open(options(&disk)).expect("opens");
        let key = commit_one(&spool, 1, 10).await.expect("commits");
        spool.close();
        assert!(matches!(commit_one(&spool, 2, 10).await, Err(SpoolError::Closed)));
        assert_whole(&spool, key, 1, 10).await;
    });
}
