//! The configuration in force and its online changes: `ph_config`'s editor, and the way to put its results into force.
//!
//! From the command to its acceptance one change runs at a time, over all control sessions and reloads. What cannot be put
//! into force changes nothing.

use crate::view::Later;
use ph_config::{Answer, Config, ConfigEditor, EditSession, Pending};
use ph_eventlog::metrics;
use std::path::Path;
use std::sync::Arc;
use tokio::sync::Mutex;

/// Puts configurations into force: sockets, policies, queues, logs.
pub trait Apply: Send + Sync {
    /// All or nothing: after an error the old configuration is in force, whole. `pending` is `None` when an earlier
    /// configuration must be put back. Returns what the operator should know of what is in force now.
    fn apply<'a>(
        &'a self,
        config: &'a Arc<Config>,
        pending: Option<&'a Pending>,
    ) -> Later<'a, Result<Vec<String>, String>>;
}

/// The editor of a process.
pub struct Configuration {
    editor: ConfigEditor,
    apply: Arc<dyn Apply>,
    turn: Mutex<()>,
}

impl Configuration {
    pub fn new(editor: ConfigEditor, apply: Arc<dyn Apply>) -> Configuration {
        Configuration { editor, apply, turn: Mutex::new(()) }
    }

    /// In force.
    pub fn current(&self) -> Arc<Config> {
        self.editor.current()
    }

    /// The bindings of the configuration: name and group.
    pub fn bindings(&self) -> Vec<(String, String)> {
        let config = self.current();
        config.bindings().iter().map(|binding| (binding.name.to_string(), binding.group.to_string())).collect()
    }

    /// The configuration in force as text.
    pub fn text(&self) -> Result<String, String> {
        match self.editor.run(&mut EditSession::default(), "showrecurse") {
            Answer::Text(text) => Ok(text),
            Answer::Failed(reason) => Err(reason),
            Answer::Apply(_) => Err("showing the configuration changed it".to_owned()),
        }
    }

    /// A question whose answer changes nothing; `None`: there is no answer.
    pub fn ask(&self, session: &mut EditSession, line: &str) -> Option<String> {
        match self.editor.run(session, line) {
            Answer::Text(text) => Some(text),
            Answer::Failed(_) | Answer::Apply(_) => None,
        }
    }

    /// Runs what follows `config `; the text to show, or why nothing has changed.
    pub async fn run(&self, session: &mut EditSession, line: &str) -> Result<String, String> {
        let _turn = self.turn.lock().await;
        match self.editor.run(session, line) {
            Answer::Text(text) => Ok(text),
            Answer::Failed(reason) => Err(reason),
            Answer::Apply(pending) => self.put_in_force(session, pending).await,
        }
    }

    /// As `run`, with words that are already apart (policies).
    pub async fn run_words(&self, session: &mut EditSession, words: &[&str]) -> Result<String, String> {
        let _turn = self.turn.lock().await;
        match self.editor.run_words(session, words) {
            Answer::Text(text) => Ok(text),
            Answer::Failed(reason) => Err(reason),
            Answer::Apply(pending) => self.put_in_force(session, pending).await,
        }
    }

    /// Reads the files anew: SIGHUP and `config reload`.
    pub async fn reload(&self, path: Option<&Path>) -> Result<String, String> {
        let _turn = self.turn.lock().await;
        let result = match self.editor.reload(path) {
            Ok(pending) => self.put_in_force(&mut EditSession::default(), pending).await,
            Err(report) => Err(report.to_string()),
        };
        let result = result.map_err(with_last_line);
        metrics::CONFIG_RELOADS.add(if result.is_ok() { "ok" } else { "failed" }, 1);
        result
    }

    async fn put_in_force(&self, session: &mut EditSession, pending: Pending) -> Result<String, String> {
        let config = Arc::clone(&pending.config);
        let applied = self.apply.apply(&config, Some(&pending)).await;
        let notes = applied.map_err(|reason| if pending.is_reload() { with_last_line(reason) } else { reason })?;
        let warnings = pending.warnings.to_string();
        match self.editor.accept(session, pending) {
            Ok(mut text) => {
                metrics::CONFIG_GENERATION.set(i64::try_from(config.generation()).unwrap_or(i64::MAX));
                text.push_str(&warnings);
                for note in notes {
                    if !text.is_empty() && !text.ends_with('\n') {
                        text.push('\n');
                    }
                    text.push_str(&note);
                    text.push('\n');
                }
                Ok(text)
            }
            Err(reason) => match self.apply.apply(&self.current(), None).await {
                Ok(_) => Err(reason),
                Err(also) => Err(format!("{reason}\n{also}")),
            },
        }
    }
}

/// Scripts look for this line at the end of what went wrong.
fn with_last_line(reason: String) -> String {
    let last = "Reconfigure failed.";
    if reason.trim_end().ends_with(last) { reason } else { format!("{}\n{last}\n", reason.trim_end()) }
}
