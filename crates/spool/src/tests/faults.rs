//! Full disks and failing ones.

use super::*;
use crate::sim::{Dice, Faults};

#[test]
fn a_full_disk_refuses_mail_lets_mail_out_and_mends_itself() {
    let disk = Sim::new(20);
    runtime().block_on(async {
        let (spool, ..) = open(SpoolOptions { compact_below_percent: 0, ..options(&disk) }).expect("opens");
        disk.set_faults(Faults { capacity: Some(6 * 64 * 1024), ..Faults::default() });
        let mut stored = BTreeMap::new();
        let mut id = 0;
        let refused = loop {
            id += 1;
            match commit_one(&spool, id, 3000).await {
                Ok(key) => drop(stored.insert(id, key)),
                Err(error) => break error,
            }
        };
        assert!(matches!(refused, SpoolError::Full), "{refused}");
        assert!(stored.len() > 30, "{}", stored.len());
        assert!(matches!(commit_one(&spool, 5000, 3000).await, Err(SpoolError::Full)));
        assert!(spool.stats().failed_full >= 2);
        assert!(spool.begin_large().is_ok_and(|writer| writer.is_empty()), "an empty file needs no room");
        for (&id, &key) in &stored {
            assert_whole(&spool, key, id, 3000).await;
        }
        // A crash now: what was refused is not there, what was accepted is.
        {
            let (_, _, found) = open(options(&disk.after_power_loss(1))).expect("opens");
            assert_eq!(found.keys().collect::<Vec<_>>(), stored.keys().collect::<Vec<_>>());
        }
        // Mail goes out; that it is gone is on the disk in spite of all.
        for (_, key) in std::mem::take(&mut stored) {
            spool.done(key);
        }
        spool.flush().await.expect("done records have room");
        until("room", || spool.stats().spares > 1);
        for id in 6000..6010 {
            stored.insert(id, commit_one(&spool, id, 3000).await.expect("takes mail again"));
        }
        let (_, _, found) = open(options(&disk.after_power_loss(2))).expect("opens");
        assert_eq!(found.keys().collect::<Vec<_>>(), stored.keys().collect::<Vec<_>>());
    });
}

#[test]
fn room_that_comes_from_elsewhere_is_found_without_a_restart() {
    let disk = Sim::new(21);
    runtime().block_on(async {
        let (spool, ..) = open(options(&disk)).expect("opens");
        disk.set_faults(Faults { capacity: Some(2 * 64 * 1024), ..Faults::default() });
        let mut id = 0;
        while commit_one(&spool, id + 1, 3000).await.is_ok() {
            id += 1;
        }
        disk.set_faults(Faults::default());
        let deadline = Instant::now() + Duration::from_secs(20);
        while let Err(error) = commit_one(&spool, id + 1, 3000).await {
            assert!(matches!(error, SpoolError::Full) && Instant::now() < deadline, "{error}");
            tokio::task::yield_now().await;
        }
        assert_eq!(spool.stats().messages, id + 1);
    });
}

#[test]
fn a_spool_on_a_full_disk_opens_and_lets_mail_out() {
    let disk = Sim::new(22);
    runtime().block_on(async {
        let (spool, ..) = open(options(&disk)).expect("opens");
        for id in 1..=20 {
            commit_one(&spool, id, 3000).await.expect("commits");
        }
        drop(spool);
        let disk = disk.after_kill();
        disk.set_faults(Faults { capacity: Some(0), ..Faults::default() });
        let (spool, _, found) = open(options(&disk)).expect("opens");
        assert_eq!(found.len(), 20);
        for (&id, one) in &found {
            assert_whole(&spool, one.key, id, 3000).await;
            spool.done(one.key);
        }
        // The segments that become empty are the room for new mail.
        let deadline = Instant::now() + Duration::from_secs(20);
        while let Err(error) = commit_one(&spool, 100, 3000).await {
            assert!(error.is_full() && Instant::now() < deadline, "{error}");
            tokio::task::yield_now().await;
        }
    });
}

#[test]
fn after_a_failed_sync_nothing_is_acknowledged_and_the_next_segment_serves() {
    for seed in 0..40 {
        let disk = Sim::new(seed);
        runtime().block_on(async {
            let (spool, ..) = open(options(&disk)).expect("opens");
            let mut stored = BTreeMap::new();
            for id in 1..=10 {
                stored.insert(id, commit_one(&spool, id, 2000).await.expect("commits"));
            }
            disk.set_faults(Faults { sync_eio: 1, ..Faults::default() });
            let failed = commit_one(&spool, 11, 2000).await;
            assert!(matches!(failed, Err(SpoolError::Io { op: "fdatasync", .. })), "{failed:?}");
            disk.set_faults(Faults::default());
            let deadline = Instant::now() + Duration::from_secs(20);
            for id in 12..=20 {
                let key = loop {
                    match commit_one(&spool, id, 2000).await {
                        Ok(key) => break key,
                        // The preparer, too, may have met the fault.
                        Err(error) => assert!(Instant::now() < deadline, "{error}"),
                    }
                };
                stored.insert(id, key);
            }
            let (spool, _, found) = open(options(&disk.after_power_loss(seed))).expect("opens");
            for &id in stored.keys() {
                assert_whole(&spool, found[&id].key, id, 2000).await;
            }
            for (&id, one) in &found {
                assert_whole(&spool, one.key, id, 2000).await;
            }
        });
    }
}

/// Short writes and errors at random; a map is the truth.
#[test]
fn through_random_faults_every_acknowledged_message_stays() {
    for seed in 0..60 {
        let disk = Sim::new(seed);
        let mut dice = Dice(seed + 1000);
        runtime().block_on(async {
            let (spool, ..) = open(options(&disk)).expect("opens");
            let mut stored = BTreeMap::new();
            let mut given_up = Vec::new();
            for id in 1..=150_u64 {
                if dice.one_in(10) {
                    disk.set_faults(match dice.below(4) {
                        0 => Faults { write_eio: 5, ..Faults::default() },
                        1 => Faults { sync_eio: 5, ..Faults::default() },
                        2 => Faults { capacity: Some(128 * 1024), ..Faults::default() },
                        _ => Faults { short: 2, ..Faults::default() },
                    });
                } else if dice.one_in(5) {
                    disk.set_faults(Faults::default());
                }
                let octets = dice.below(6000) as usize;
                if let Ok(key) = commit_one(&spool, id, octets).await {
                    stored.insert(id, (key, octets));
                }
                if dice.one_in(2)
                    && let Some((id, (key, _))) = stored.pop_first()
                {
                    spool.done(key);
                    given_up.push(id);
                }
            }
            disk.set_faults(Faults::default());
            for (&id, &(key, octets)) in &stored {
                assert_whole(&spool, key, id, octets).await;
            }
            let clean = dice.one_in(2);
            if clean {
                drop(spool);
            }
            let disk = if clean { disk.after_kill() } else { disk.after_power_loss(seed) };
            let (spool, _, found) = open(options(&disk)).expect("opens");
            for (&id, &(_, octets)) in &stored {
                assert!(found.contains_key(&id), "seed {seed}: {id} is lost");
                assert_whole(&spool, found[&id].key, id, octets).await;
            }
            for one in found.values() {
                spool.read(one.key).await.expect("what is told can be read");
            }
        });
    }
}
