//! `check`, `export` and `import`.

use super::*;
use crate::{ImportReport, check, export, import};
use ph_message::{Context, DeliveryState, DsnRequest, Notify, Protocol, Ret};

fn rich_envelope(id: u64) -> Envelope {
    let mut context = Context::new();
    context.set("plain", "text ü");
    context.set("raw", vec![0, 255, 254]);
    Envelope {
        conn_id: Id(id + 7),
        protocol: Protocol::Rest,
        peer: Some("[2001:db8::1]:25".parse().expect("an address")),
        listener: Some("192.0.2.1:25".parse().expect("an address")),
        binding: "b1".into(),
        binding_group: "g".into(),
        routing_domain: Some("route.example".into()),
        conn_context: Arc::new(context.clone()),
        mess_context: Arc::new(context),
        dsn: DsnRequest {
            notify: Some(Notify { success: true, failure: false, delay: true }),
            orcpt: Some("rfc822;x@y".into()),
            ret: Some(Ret::Headers),
            envid: Some("e+1".into()),
        },
        smtputf8: true,
        eight_bit: true,
        urgent: true,
        size: u64::from(u32::MAX) + 5,
        generation: 3,
        ..envelope(id)
    }
}

#[test]
fn what_was_exported_is_imported_as_it_was() {
    let (a, b, out) = (tempfile::tempdir(), tempfile::tempdir(), tempfile::tempdir());
    let (a, b, out) = (a.expect("a folder"), b.expect("a folder"), out.expect("a folder"));
    runtime().block_on(async {
        let (spool, ..) = open(real_options(a.path())).expect("opens");
        let shared = content(1, 500);
        let big = content(9, 3 << 20);
        let messages: Vec<_> = (1..=3).map(|id| (Arc::new(rich_envelope(id)), shared.clone())).collect();
        let keys = spool.commit(messages).await.expect("commits");
        spool.commit(vec![(Arc::new(envelope(9)), big.clone())]).await.expect("commits");
        let next_attempt = ph_message::Time(-5);
        let state = DeliveryState { retries: 2, attempts: 3, next_attempt, last_reply: "421 \"no\"\t".into() };
        spool.update(keys[1], state.clone());
        assert!(matches!(export(&real_options(a.path()), out.path()), Err(SpoolError::Locked { .. })));
        spool.close();
        assert_eq!(export(&real_options(a.path()), out.path()).expect("exports"), 4);
        let count = |extension: &str| {
            let files = std::fs::read_dir(out.path()).expect("a folder");
            files.filter(|f| f.as_ref().is_ok_and(|f| f.path().extension().is_some_and(|e| e == extension))).count()
        };
        assert_eq!((count("json"), count("eml")), (4, 2), "one file per content");

        let (spool, ..) = open(real_options(b.path())).expect("opens");
        let report = import(&spool, out.path()).await.expect("imports");
        assert_eq!(report, ImportReport { imported: 4, skipped: 0 });
        let report = import(&spool, out.path()).await.expect("again");
        assert_eq!(report, ImportReport { imported: 0, skipped: 4 });
        spool.close();
        let (spool, _, found) = open(real_options(b.path())).expect("opens");
        assert_eq!(found.len(), 4);
        for (&id, one) in &found {
            let stored = spool.read(one.key).await.expect("there");
            let (envelope, content) = if id == 9 { (envelope(9), &big) } else { (rich_envelope(id), &shared) };
            assert_eq!(*stored.envelope, envelope);
            assert_eq!(bytes_of(&stored.content), bytes_of(content));
            assert_eq!(stored.state, if id == 2 { state.clone() } else { DeliveryState::default() });
        }
    });
}

#[test]
fn an_import_of_something_else_names_file_and_field() {
    let (dir, from) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
    let (spool, ..) = open(real_options(dir.path())).expect("opens");
    for (text, wanted) in [
        ("{", "EOF"),
        ("{}", "`format` is no number"),
        (r#"{"format": 2}"#, "a format that is not known"),
        (r#"{"format": 1, "content": "../x.eml"}"#, "no name of an .eml file"),
        (
            r#"{"format": 1, "content": "x.eml", "head_octets": 0, "state": {"retries": -1}}"#,
            "`retries` is out of range",
        ),
    ] {
        std::fs::write(from.path().join("a.json"), text).expect("writes");
        match runtime().block_on(import(&spool, from.path())) {
            Err(error @ SpoolError::Import { .. }) => {
                assert!(error.to_string().contains(wanted) && error.to_string().contains("a.json"), "{error}");
            }
            other => panic!("{text}: {other:?}"),
        }
    }
}

#[test]
fn check_finds_what_is_damaged_and_changes_nothing() {
    let disk = Sim::new(50);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let options = |disk: &Sim| SpoolOptions { compact_below_percent: 0, ..super::options(disk) };
        let (spool, ..) = open(options(&disk)).expect("opens");
        for id in 1..=60 {
            let key = commit_one(&spool, id, 2000).await.expect("commits");
            if id % 2 == 0 {
                spool.done(key);
            }
        }
        commit_one(&spool, 100, 20_000).await.expect("commits");
        spool.close();
        let report = check(&options(&disk)).expect("checks");
        assert!(report.is_sound(), "{report:?}");
        assert_eq!((report.messages, report.large_bodies, report.orphans, report.without_index), (31, 1, 0, 0));
        assert!(report.records > 61 && report.segments >= 2);

        let hit = |wanted: &str| {
            let logs = log_files(&disk);
            logs.into_iter().find_map(|log| {
                let bytes = disk.bytes(&log);
                let at = bytes.windows(wanted.len()).position(|octets| octets == wanted.as_bytes())?;
                Some((log, at))
            })
        };
        let (log, at) = hit("Subject: 11\r\n").expect("there");
        disk.edit(&log, |bytes| bytes[at] ^= 1);
        let body = disk.names().into_iter().find(|path| path.starts_with("/spool/large")).expect("a body");
        disk.edit(&body, |bytes| bytes.truncate(5));
        let before: Vec<_> = disk.names().iter().map(|path| (path.clone(), disk.bytes(path))).collect();
        let report = check(&options(&disk)).expect("checks");
        assert!(!report.is_sound());
        assert_eq!(report.damaged_messages, [Id(11).to_string(), Id(100).to_string()]);
        assert!(!report.damage.is_empty() && report.damage.iter().all(|damage| damage.file == log), "{report:?}");
        let after: Vec<_> = disk.names().iter().map(|path| (path.clone(), disk.bytes(path))).collect();
        assert_eq!(before, after);
    });
}
