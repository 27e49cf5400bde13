//! The dialect against the recorded output of the real Threaded Lua interpreter: `conformance/dialect/`.
//!
//! Each script runs through the product's own path (translator, prelude, libraries), as a task that may wait. Its output must be
//! the recorded one byte for byte, save where `DIFFERENT` says why not; those must differ, so that the list stays true.

use crate::call::Frame;
use crate::host::Policy;
use crate::services::{Log, LogLevel, Services};
use crate::settings::Settings;
use parking_lot::Mutex;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Scripts whose output is not the recorded one.
const DIFFERENT: &[(&str, &str)] = &[
    ("07-bit-errors", "no name `field '?'` for an index that is no constant"),
    ("54-math", "LuaJIT's `math.floor()` without an argument does not raise"),
    ("55-differs-intdiv-strings", "`\\` on strings rounds"),
    ("56-differs-intdiv-event", "`\\` asks `__intdiv` before `__div`"),
    ("57-differs-yield-across", "a wait crosses pcall, metamethods and iterators"),
    ("58-differs-octal-strings", "octal numbers are for source literals only"),
    ("59-differs-minus-infinity", "`-inf` has its sign"),
    ("60-differs-nested-long-brackets", "`[[` inside of `[[ ]]` is text"),
    ("61-accident-misc", "accidents of the original's C code"),
];

#[derive(Default)]
struct Output(Mutex<Vec<u8>>);

impl Log for Output {
    fn panic(&self, _: LogLevel, _: &str, text: &str) {
        let mut out = self.0.lock();
        out.extend_from_slice(text.as_bytes());
        out.push(b'\n');
    }
}

async fn output_of(path: &Path) -> Vec<u8> {
    let name = path.file_name().unwrap().to_string_lossy().into_owned();
    let source = std::fs::read(path).unwrap();
    let output = Arc::new(Output::default());
    let settings = Settings::default();
    let policy = Policy::build(Services::without_engine(output.clone()), settings, true).await.unwrap();
    let written = output.clone();
    let write = policy
        .lua
        .create_function(move |_, text: mlua::LuaString| {
            written.0.lock().extend_from_slice(&text.as_bytes());
            Ok(())
        })
        .unwrap();
    policy
        .lua
        .load(
            "local write, raw, output, stdout = ..., io.write, io.output, io.stdout
             io.write = function(...)
               if output() ~= stdout then return raw(...) end
               for i = 1, select('#', ...) do write(tostring((select(i, ...)))) end
               return true
             end",
        )
        .call::<()>(write)
        .unwrap();
    let failure = match crate::state::compile(&policy.lua, &source, &name) {
        Ok(chunk) => {
            let frame = Frame::loading(&policy.host.settings, true);
            policy.run(&frame, |_| Ok(chunk.call_async::<()>(()))).await.err().map(|failure| failure.text)
        }
        Err(text) => Some(text),
    };
    let mut out = output.0.lock().clone();
    if let Some(text) = failure {
        out.extend_from_slice(format!("error: {}\n", text.lines().next().unwrap_or_default()).as_bytes());
    }
    out
}

#[tokio::test]
async fn scripts_print_what_the_real_interpreter_printed() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../conformance/dialect");
    let mut scripts: Vec<PathBuf> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|p| p.extension().is_some_and(|e| e == "lua"))
        .collect();
    scripts.sort();
    assert!(scripts.len() >= 61, "{} scripts", scripts.len());
    let mut wrong = Vec::new();
    for script in scripts {
        let stem = script.file_stem().unwrap().to_string_lossy().into_owned();
        let want = std::fs::read(script.with_extension("out")).unwrap();
        let got = output_of(&script).await;
        let listed = DIFFERENT.iter().any(|(name, _)| stem.starts_with(name));
        if (got == want) == listed {
            wrong.push(report(&stem, &want, &got, listed));
        }
    }
    assert!(wrong.is_empty(), "{} scripts:\n{}", wrong.len(), wrong.join("\n"));
}

fn report(stem: &str, want: &[u8], got: &[u8], listed: bool) -> String {
    if listed {
        return format!("{stem}: listed as different, but it is not");
    }
    let (want, got) = (String::from_utf8_lossy(want), String::from_utf8_lossy(got));
    let (mut want, mut got) = (want.lines(), got.lines());
    let mut text = stem.to_owned();
    loop {
        match (want.next(), got.next()) {
            (None, None) => return text,
            (want, got) if want == got => {}
            (want, got) => {
                text.push_str(&format!("\n    want {}\n    got  {}", want.unwrap_or("-"), got.unwrap_or("-")));
            }
        }
    }
}
