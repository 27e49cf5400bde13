//! Damaged octets: set aside, reported, and never more lost than the record they are in.

use super::*;

/// A killed spool with one segment and messages 1 to 8, and one of another life that was sealed.
async fn image() -> (Sim, PathBuf) {
    let disk = Sim::new(40);
    let (spool, ..) = open(options(&disk)).expect("opens");
    for id in 1..=8 {
        commit_one(&spool, id, 700).await.expect("commits");
    }
    let image = disk.after_kill();
    let log = log_files(&image).into_iter().next().expect("a segment");
    (image, log)
}

fn quarantine(disk: &Sim) -> Vec<PathBuf> {
    disk.names().into_iter().filter(|path| path.starts_with("/spool/quarantine")).collect()
}

#[test]
fn a_flipped_octet_costs_one_message_at_most_and_is_reported() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let (image, log) = image().await;
        let whole = image.bytes(&log);
        let used = whole.iter().rposition(|&octet| octet != 0).expect("not empty") + 1;
        let mut reported = 0;
        for at in (0..used).step_by(3) {
            let disk = image.after_kill();
            disk.edit(&log, |bytes| bytes[at] ^= 1 << (at % 8));
            let (spool, report, found) = open(options(&disk)).expect("opens");
            assert!(found.len() >= 7, "octet {at}: {:?}", found.keys());
            // Of the last batch nothing says that it was ever synced: it may count as torn.
            if found.len() == 7 && found.contains_key(&8) {
                assert!(!report.damage.is_empty(), "octet {at}");
                assert!(report.damage.iter().all(|damage| damage.quarantined.is_some()), "{:?}", report.damage);
                assert!(!quarantine(&disk).is_empty());
                reported += 1;
            }
            for (&id, one) in &found {
                assert_whole(&spool, one.key, id, 700).await;
            }
            drop(spool);
            let (_, report, again) = open(options(&disk)).expect("opens");
            assert_eq!(report.damage, [], "reported once");
            assert_eq!(again.len(), found.len());
        }
        assert!(reported > 1000, "{reported}");
    });
}

#[test]
fn damage_in_a_sealed_segment_shows_when_it_is_read() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let (image, log) = image().await;
        drop(open(options(&image)).expect("opens")); // writes the index
        let image = image.after_kill();
        let subject = b"Subject: 3\r\n";
        let at = image.bytes(&log).windows(subject.len()).position(|octets| octets == subject).expect("there");
        image.edit(&log, |bytes| bytes[at] ^= 1);
        let (spool, report, found) = open(options(&image)).expect("opens");
        assert_eq!((found.len(), report.scanned), (8, 0));
        for (&id, one) in &found {
            if id != 3 {
                assert_whole(&spool, one.key, id, 700).await;
                continue;
            }
            match spool.read(one.key).await {
                Err(SpoolError::Corrupt { quarantined: Some(path), .. }) => {
                    assert!(image.bytes(&path).windows(4).any(|octets| octets == b"ject"));
                }
                other => panic!("{other:?}"),
            }
            spool.done(one.key);
        }
        assert_eq!(spool.stats().quarantined, 1);
    });
}

#[test]
fn a_lost_or_damaged_index_is_made_again() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let disk = Sim::new(41);
        let (spool, ..) = open(options(&disk)).expect("opens");
        let mut done = Vec::new();
        for id in 1..=100 {
            let key = commit_one(&spool, id, 1500).await.expect("commits");
            if id % 3 == 0 {
                done.push(key);
            }
        }
        done.into_iter().for_each(|key| spool.done(key));
        spool.close();
        let disk = disk.after_kill();
        let is_index = |path: &PathBuf| path.extension().is_some_and(|e| e == "idx");
        let indexes: Vec<PathBuf> = disk.names().into_iter().filter(is_index).collect();
        assert!(indexes.len() >= 3, "{indexes:?}");
        disk.delete(&indexes[0]);
        disk.edit(&indexes[1], |bytes| bytes[70] ^= 1);
        disk.edit(&indexes[2], |bytes| bytes.truncate(30));
        let (_, report, found) = open(options(&disk)).expect("opens");
        assert_eq!((found.len(), report.scanned, report.damage.len()), (67, 3, 0));
        let (_, report, found) = open(options(&disk)).expect("opens");
        assert_eq!((found.len(), report.scanned), (67, 0));
    });
}

#[test]
fn a_segment_without_a_readable_header_is_known_by_its_index_or_set_aside() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let (image, log) = image().await;
        for indexed in [false, true] {
            let disk = image.after_kill();
            if indexed {
                drop(open(options(&disk)).expect("opens"));
            }
            disk.edit(&log, |bytes| bytes[..4096].fill(0x55));
            let (spool, report, found) = open(options(&disk)).expect("opens");
            assert_eq!(report.damage.len(), 1);
            assert_eq!(found.len(), if indexed { 8 } else { 0 });
            assert_eq!(quarantine(&disk).len(), usize::from(!indexed));
            for (&id, one) in &found {
                assert_whole(&spool, one.key, id, 700).await;
            }
        }
    });
}

#[test]
fn a_newer_format_is_refused_and_left_alone() {
    let disk = Sim::new(42);
    drop(open(options(&disk)).expect("opens"));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let (image, log) = image().await;
        image.edit(&log, |bytes| {
            for at in [0, 2048] {
                bytes[at + 8] = 2;
                let crc = crc32c::crc32c(&bytes[at..at + 44]);
                bytes[at + 44..at + 48].copy_from_slice(&crc.to_le_bytes());
            }
        });
        let before = image.bytes(&log);
        match open(options(&image)) {
            Err(error @ SpoolError::Format { .. }) => assert!(error.to_string().contains("version 2"), "{error}"),
            other => panic!("{:?}", other.map(|_| ())),
        }
        assert_eq!(image.bytes(&log), before);
    });
}

#[test]
fn a_body_file_that_is_gone_is_reported_and_costs_its_message() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let disk = Sim::new(43);
        let (spool, ..) = open(options(&disk)).expect("opens");
        commit_one(&spool, 1, 30_000).await.expect("commits");
        commit_one(&spool, 2, 300).await.expect("commits");
        spool.close();
        let disk = disk.after_kill();
        let body = disk.names().into_iter().find(|path| path.starts_with("/spool/large")).expect("a file");
        disk.delete(&body);
        let (spool, report, found) = open(options(&disk)).expect("opens");
        assert_eq!((report.damage.len(), found.len()), (1, 2));
        assert!(matches!(spool.read(found[&1].key).await, Err(SpoolError::Corrupt { .. })));
        assert_whole(&spool, found[&2].key, 2, 300).await;
    });
}
