//! Include files: where they are looked for, in which order they count, what is skipped.

use ph_config::{Config, Severity, options as opt};
use std::fs;

#[test]
fn folders_are_read_in_the_order_of_names_and_skip_hidden_files_and_backups() {
    let folder = tempfile::tempdir().unwrap();
    let main = folder.path().join("main.conf");
    fs::create_dir(folder.path().join("d")).unwrap();
    fs::create_dir(folder.path().join("d/sub")).unwrap();
    for (name, text) in [
        ("b.conf", "retry_interval = 2"),
        ("a.conf", "retry_interval = 1 never_retry = true"),
        ("B.conf", "retry_interval = 9"),
        (".hidden", "broken {"),
        ("a.conf~", "broken {"),
        ("sub/c.conf", "broken {"),
    ] {
        fs::write(folder.path().join("d").join(name), text).unwrap();
    }
    fs::write(&main, "include d").unwrap();
    let loaded = Config::load(&main).unwrap_or_else(|report| panic!("{report}"));
    assert_eq!(loaded.config.global().get(&opt::RETRY_INTERVAL), 2, "byte order: B before a before b");
    assert!(loaded.config.global().get(&opt::NEVER_RETRY));
    assert_eq!(loaded.warnings.of(Severity::Info).count(), 1, "the backup is mentioned: {}", loaded.warnings);
}

#[test]
fn items_of_an_included_file_belong_to_the_scope_around_the_include() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("sub")).unwrap();
    let main = folder.path().join("main.conf");
    fs::write(&main, "domain x.org { include \"sub/x.conf\" never_retry = true }").unwrap();
    // Relative to the including file, not to the main one.
    fs::write(folder.path().join("sub/x.conf"), "retry_interval = 7 include y.conf").unwrap();
    fs::write(folder.path().join("sub/y.conf"), "max_retries = 3").unwrap();
    let config = Config::load(&main).unwrap_or_else(|report| panic!("{report}")).config;
    let scope = config.sending("default", "default", "x.org");
    assert_eq!((scope.get(&opt::RETRY_INTERVAL), &*scope.get(&opt::MAX_RETRIES)), (7, "3"));
    assert_eq!(config.global().get(&opt::RETRY_INTERVAL), 1200);
    let origin = scope.find(&opt::MAX_RETRIES).unwrap().1;
    assert!(origin.place.unwrap().file.ends_with("sub/y.conf"));
}

#[test]
fn uris_and_absolute_paths() {
    let folder = tempfile::tempdir().unwrap();
    let main = folder.path().join("main.conf");
    let x = folder.path().join("x.conf");
    fs::write(&x, "retry_interval = 7").unwrap();
    for target in [format!("file://{}", x.display()), format!("persist://{}", x.display()), x.display().to_string()] {
        fs::write(&main, format!("include \"{target}\"")).unwrap();
        let config = Config::load(&main).unwrap_or_else(|report| panic!("{report}")).config;
        assert_eq!(config.global().get(&opt::RETRY_INTERVAL), 7, "{target}");
    }
    fs::write(&main, "include \"persist:///nowhere/at/all\"").unwrap();
    assert!(Config::load(&main).is_ok(), "a cache that is empty yet");
}

#[test]
fn the_local_changes_file_counts_last_wherever_it_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let main = folder.path().join("main.conf");
    let local = folder.path().join("local.conf");
    let text = format!("local_changes_file = \"{}\"\nretry_interval = 1", local.display());
    fs::write(&main, &text).unwrap();
    assert_eq!(Config::load(&main).unwrap().config.global().get(&opt::RETRY_INTERVAL), 1, "it need not exist");
    fs::write(&local, "retry_interval = 5").unwrap();
    assert_eq!(Config::load(&main).unwrap().config.global().get(&opt::RETRY_INTERVAL), 5);
}
