//! The suspensions that users of the console have set, kept over a restart: `suspensions.json` in the spool's folder.
//!
//! Whoever stops mail means it until they let it go again, and mail that has left cannot be called back. So the file is
//! written, synced and put in place of the old one before the console says that a suspension is set or lifted, and one
//! that cannot be read is an error of the start. What policies suspend is their business, and not kept.
//!
//! The format is in `docs/formats/suspensions.md`.

use parking_lot::Mutex;
use ph_message::Time;
use ph_queue::{Hold, Queue, Scope};
use serde_json::{Value, json};
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The name of the file.
pub const SUSPENSIONS_FILE: &str = "suspensions.json";

const VERSION: u64 = 1;
/// Octets of a file: several times what the most suspensions with the longest notes take.
const FILE_SIZE_MAX: u64 = 32 << 20;

/// Why the file is of no use.
#[derive(Debug, thiserror::Error)]
#[error("{}: {reason}", path.display())]
pub struct SuspensionsError {
    pub path: PathBuf,
    pub reason: String,
}

/// The file of a server.
#[derive(Clone)]
pub struct Suspensions {
    path: Arc<Path>,
    /// What is written last must be what was set last.
    turn: Arc<Mutex<()>>,
}

impl Suspensions {
    /// In the folder of the spool.
    pub fn within(folder: &Path) -> Suspensions {
        Suspensions { path: folder.join(SUSPENSIONS_FILE).into(), turn: Arc::default() }
    }

    /// Sets what was in force when the file was written and has not ended since. Returns how many.
    pub fn restore(&self, queue: &Queue, now: Time) -> Result<usize, SuspensionsError> {
        let failed = |reason: String| SuspensionsError { path: self.path.to_path_buf(), reason };
        let file = match File::open(&self.path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
            Err(error) => return Err(failed(error.to_string())),
        };
        let mut text = String::new();
        file.take(FILE_SIZE_MAX).read_to_string(&mut text).map_err(|error| failed(error.to_string()))?;
        let holds = parse(&text).map_err(failed)?;
        let mut count = 0;
        for hold in holds.into_iter().filter(|hold| hold.until > now) {
            queue.hold(hold).map_err(|error| failed(error.to_string()))?;
            count += 1;
        }
        Ok(count)
    }

    /// Writes what is in force now. Blocks for as long as the disk does.
    pub fn store(&self, queue: &Queue) -> Result<(), SuspensionsError> {
        let _turn = self.turn.lock();
        let holds: Vec<Arc<Hold>> = queue.holds().into_iter().filter(|hold| !hold.by.is_empty()).collect();
        self.replace(&render(&holds))
            .map_err(|error| SuspensionsError { path: self.path.to_path_buf(), reason: error.to_string() })
    }

    fn replace(&self, text: &str) -> io::Result<()> {
        let new = self.path.with_extension("tmp");
        let mut file = File::create(&new)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&new, &self.path)?;
        match self.path.parent() {
            Some(folder) => File::open(folder)?.sync_all(),
            None => Ok(()),
        }
    }
}

fn render(holds: &[Arc<Hold>]) -> String {
    let one = |hold: &Arc<Hold>| {
        json!({
            "group": hold.scope.group.as_deref(),
            "binding": hold.scope.binding.as_deref(),
            "domain": hold.scope.domain.as_deref(),
            "since": hold.since.secs(),
            "until": (hold.until != Time::MAX).then(|| hold.until.secs()),
            "by": hold.by,
            "note": hold.note,
        })
    };
    // One a line: a person may have to mend it.
    let lines: Vec<String> = holds.iter().map(|hold| one(hold).to_string()).collect();
    format!("{{\"version\":{VERSION},\"suspensions\":[\n{}\n]}}\n", lines.join(",\n"))
}

fn parse(text: &str) -> Result<Vec<Hold>, String> {
    let value: Value = serde_json::from_str(text).map_err(|error| error.to_string())?;
    match value["version"].as_u64() {
        Some(VERSION) => {}
        Some(other) => return Err(format!("version {other} is not known here")),
        None => return Err("there is no version".to_owned()),
    }
    let list = value["suspensions"].as_array().ok_or("there is no list of suspensions")?;
    list.iter()
        .enumerate()
        .map(|(at, one)| hold(one).map_err(|reason| format!("suspension {}: {reason}", at + 1)))
        .collect()
}

fn hold(value: &Value) -> Result<Hold, String> {
    let text = |name: &str| match &value[name] {
        Value::Null => Ok(None),
        Value::String(text) => Ok(Some(text.as_str())),
        _ => Err(format!("'{name}' is not text")),
    };
    let time = |name: &str| match &value[name] {
        Value::Null => Ok(None),
        other => other.as_i64().map(|secs| Some(Time::from_secs(secs))).ok_or(format!("'{name}' is not a time")),
    };
    let scope = Scope {
        group: text("group")?.map(Into::into),
        binding: text("binding")?.map(Into::into),
        domain: text("domain")?.map(Into::into),
    };
    Ok(Hold {
        scope,
        since: time("since")?.ok_or("'since' is missing")?,
        until: time("until")?.unwrap_or(Time::MAX),
        by: text("by")?.ok_or("'by' is missing")?.into(),
        note: text("note")?.unwrap_or_default().into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_reads_back_as_it_was() {
        let at = Time::from_secs(1_800_000_000);
        let hold = |scope: Scope, until: Time, note: &str| {
            Arc::new(Hold { scope, since: at, until, note: note.into(), by: "ann".into() })
        };
        let holds = [
            hold(Scope::all(), Time::MAX, ""),
            hold(Scope::domain("x.test"), at.plus_secs(60), "a \"b\"\n\u{1b}c \u{e9}"),
            hold(Scope { group: Some("g".into()), ..Scope::binding("b") }, Time::MAX, "both"),
        ];
        let text = render(&holds);
        assert_eq!(text.lines().count(), 5, "{text}");
        let read: Vec<Arc<Hold>> = parse(&text).unwrap().into_iter().map(Arc::new).collect();
        assert_eq!(read, holds);
        assert_eq!(parse(&render(&[])), Ok(Vec::new()));
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (text, wanted) in [
            ("", "EOF"),
            ("{}", "no version"),
            ("{\"version\":2,\"suspensions\":[]}", "version 2 is not known"),
            ("{\"version\":1}", "no list"),
            (
                "{\"version\":1,\"suspensions\":[{\"since\":1,\"by\":\"a\",\"domain\":7}]}",
                "suspension 1: 'domain' is not text",
            ),
            ("{\"version\":1,\"suspensions\":[{\"since\":\"x\",\"by\":\"a\"}]}", "'since' is not a time"),
            ("{\"version\":1,\"suspensions\":[{\"since\":1}]}", "'by' is missing"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(wanted), "{text}: {error}");
        }
    }
}
