//! Every target over its corpus and over inputs made from it, for a bounded time, without libFuzzer.
//!
//! `FUZZ_SECONDS` (default 1) is the time of each target, `FUZZ_SEED` the generator's seed (default 1), `FUZZ_TARGET` runs
//! one alone. An input that breaks an invariant is kept under `fuzz/artifacts/TARGET/`; that folder is read like the corpus,
//! so that the same test shows the failure again until it is mended.

use ph_fuzzing::{Mutator, TARGETS, Target, target};
use std::collections::BTreeSet;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// One input may take so long: more is a machine that does work out of proportion to what it was sent.
const ONE_INPUT_MAX: Duration = Duration::from_secs(10);

macro_rules! bounded {
    ($($name:ident)*) => {
        const NAMES: &[&str] = &[$(stringify!($name)),*];
        $(#[test] fn $name() { run(target(stringify!($name)).expect("a target of that name")); })*
    };
}

bounded! {
    proxy_header smtp_server smtp_body smtp_client sasl_server message header_repair seven_bit address address_list
    encoded_word transfer report report_parse envelope spool config_text config_line log_format lua_dialect
    console_framing dns_files
}

fn run(target: &Target) {
    if std::env::var("FUZZ_TARGET").is_ok_and(|only| only != target.name) {
        return;
    }
    let number =
        |name: &str, default: u64| std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default);
    let (seed, seconds) = (number("FUZZ_SEED", 1), number("FUZZ_SECONDS", 1));
    let corpus = inputs(&fuzz_folder().join("corpus").join(target.name));
    assert!(corpus.len() >= 3, "{}: a handful of seeds belongs into fuzz/corpus", target.name);
    for (nth, input) in corpus.iter().chain(&inputs(&fuzz_folder().join("artifacts").join(target.name))).enumerate() {
        try_one(target, input, &format!("seed file {nth}"));
    }
    let mut mutator = Mutator::new(seed);
    let until = Instant::now() + Duration::from_secs(seconds);
    let mut count = 0_u64;
    while Instant::now() < until {
        let input = mutator.input(&corpus, target.words);
        try_one(target, &input, &format!("FUZZ_SEED={seed}, input {count}"));
        count += 1;
    }
    assert!(count > 10, "{}: only {count} inputs in {seconds} s", target.name);
    println!("{}: {count} inputs from {} seeds, seed {seed}", target.name, corpus.len());
}

fn try_one(target: &Target, input: &[u8], origin: &str) {
    let begin = Instant::now();
    let sound = catch_unwind(AssertUnwindSafe(|| (target.run)(input)));
    let took = begin.elapsed();
    if sound.is_ok() && took < ONE_INPUT_MAX {
        return;
    }
    let folder = fuzz_folder().join("artifacts").join(target.name);
    let name = format!(
        "failure-{:08x}",
        input.iter().fold(0x811c_9dc5_u32, |hash, &byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193))
    );
    let kept = fs::create_dir_all(&folder).and_then(|()| fs::write(folder.join(&name), input));
    panic!(
        "{}: {} ({origin}, {} ms); {}\n  input: b\"{}\"",
        target.name,
        if sound.is_ok() { "an input that takes too long" } else { "an invariant is broken" },
        took.as_millis(),
        match kept {
            Ok(()) => format!("kept as {}", folder.join(name).display()),
            Err(error) => format!("could not be kept: {error}"),
        },
        input.escape_ascii()
    );
}

fn inputs(folder: &Path) -> Vec<Vec<u8>> {
    let mut files: Vec<PathBuf> = fs::read_dir(folder)
        .map(|entries| entries.filter_map(|entry| Some(entry.ok()?.path())).collect())
        .unwrap_or_default();
    files.sort();
    files.iter().filter_map(|file| fs::read(file).ok()).collect()
}

fn fuzz_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz")
}

#[test]
fn every_target_is_run_here_and_by_libfuzzer() {
    let names: BTreeSet<&str> = TARGETS.iter().map(|target| target.name).collect();
    assert_eq!(names.len(), TARGETS.len(), "a name stands twice");
    assert_eq!(names, NAMES.iter().copied().collect(), "tests/bounded.rs runs other targets");
    let manifest = fs::read_to_string(fuzz_folder().join("Cargo.toml")).unwrap();
    for name in &names {
        assert!(manifest.contains(&format!("name = \"{name}\"")), "{name} is missing in fuzz/Cargo.toml");
        let text = fs::read_to_string(fuzz_folder().join(format!("fuzz_targets/{name}.rs"))).unwrap();
        assert!(text.contains(&format!("\"{name}\"")), "fuzz_targets/{name}.rs runs another target");
    }
    let folders: BTreeSet<String> = fs::read_dir(fuzz_folder().join("corpus"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    assert_eq!(folders, names.iter().map(|name| name.to_string()).collect(), "fuzz/corpus has other folders");
}

#[test]
fn the_same_seed_makes_the_same_inputs() {
    let corpus = [b"MAIL FROM:<a@b>\r\n".to_vec(), b"x".to_vec()];
    let make = |seed| {
        let mut mutator = Mutator::new(seed);
        (0..50).map(|_| mutator.input(&corpus, &["DATA\r\n"])).collect::<Vec<_>>()
    };
    assert_eq!(make(7), make(7));
    assert_ne!(make(7), make(8));
    assert!(make(7).iter().all(|input| input.len() <= ph_fuzzing::INPUT_LEN_MAX));
}
