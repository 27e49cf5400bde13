//! Changing a running configuration from the console.
//!
//! A [`ConfigEditor`] knows the configuration in force, the one last read from files, and what was changed since. Each
//! console session has an [`EditSession`]. A change that is to take effect comes out as a [`Pending`] configuration: whole,
//! checked, not in force. The caller puts it into force (sockets, policies) and then calls [`ConfigEditor::accept`]; when
//! that fails on the caller's side, the pending value is dropped and nothing has changed. Callers run one command at a time
//! from `run` to `accept`.

mod command;
mod lookup;
mod writeback;

use crate::check;
use crate::config::Config;
use crate::diagnostic::{Diagnostic, Report};
use crate::load;
use crate::options::OptionDecl;
use crate::schema::ScopeClass;
use crate::show;
use crate::source::{FileId, Sources};
use crate::syntax::{self, Literal};
use crate::tree::{Name, NodeId, ROOT, Setting, Tree};
use crate::value;
use parking_lot::Mutex;
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use lookup::Looked;

/// Changes of one transaction; more than anybody types.
const CHANGES_MAX: usize = 100_000;

/// What is already set in a configuration that was begun from scratch, and cannot be unset.
const SCRATCH: &str = r#"
ThreadPool "SwapOut" { Concurrency = 5 }
ThreadPool "SwapIn" { Concurrency = 5 }
ThreadPool "Unlink" { Concurrency = 6 Backlog = 100 }
ThreadPool "Batch_Unlink" { Concurrency = 4 }
ThreadPool "Close" { Concurrency = 0 }
ThreadPool "CPU" { Concurrency = 4 }
ThreadPool "IO" { Concurrency = 50 }
ThreadPool "SpoolIn" { Concurrency = 1 }
Debug_Flags { ERROR = ( ALL ) CRITICAL = ( ALL ) }
TimestampFormat = "[%a %d %b %Y %H:%M:%S] "
"#;

/// The configuration of a server, as the console sees it.
pub struct ConfigEditor {
    /// The main file; `None` without one.
    path: Option<PathBuf>,
    state: Mutex<State>,
}

struct State {
    /// In force.
    current: Arc<Config>,
    /// As last read from, or written to, files.
    loaded: Arc<Config>,
    /// What was committed since, in order.
    changes: Vec<Change>,
    /// The configuration in force has nothing to do with the files.
    from_scratch: bool,
    /// What could not be saved anywhere.
    unsaved: String,
}

/// What one console session has begun.
#[derive(Default)]
pub struct EditSession {
    transaction: Option<Transaction>,
}

struct Transaction {
    base_generation: u64,
    tree: Tree,
    sources: Sources,
    changes: Vec<Change>,
    /// The commands as typed, for `replay`.
    commands: Vec<String>,
    from_scratch: bool,
}

/// The way to a scope: its stanzas from the outside.
type Route = Vec<(&'static ScopeClass, Name)>;

/// One change, by name: node numbers differ between trees.
#[derive(Clone, Debug)]
struct Change {
    route: Route,
    /// `None`: the whole scope is taken out.
    option: Option<&'static OptionDecl>,
}

impl Change {
    fn same(&self, other: &Change) -> bool {
        let option = |change: &Change| change.option.map(std::ptr::from_ref);
        let step = |(a, b): (&(&ScopeClass, Name), &(&ScopeClass, Name))| std::ptr::eq(a.0, b.0) && a.1.key == b.1.key;
        option(self) == option(other)
            && self.route.len() == other.route.len()
            && self.route.iter().zip(&other.route).all(step)
    }
}

/// A configuration that is ready to be put into force.
pub struct Pending {
    pub config: Arc<Config>,
    /// What to answer once it is in force.
    pub text: String,
    /// What is doubtful about it; after changes on the console only what was not so before.
    pub warnings: Report,
    /// Names of options that differ and need a restart.
    pub restart_only: Vec<&'static str>,
    base_generation: u64,
    kind: PendingKind,
}

impl Pending {
    /// Made by reading the files anew; policies are then read anew too. An online change leaves them as they run.
    pub fn is_reload(&self) -> bool {
        matches!(self.kind, PendingKind::Reload)
    }
}

enum PendingKind {
    Changes { changes: Vec<Change>, from_scratch: bool },
    Reload,
}

/// The outcome of a command.
pub enum Answer {
    /// Done; nothing to put into force.
    Text(String),
    /// Refused; nothing has changed.
    Failed(String),
    /// To be put into force, then accepted.
    Apply(Pending),
}

impl ConfigEditor {
    /// For a configuration that is in force. `path` is the main file that it was loaded from, if any.
    pub fn new(config: Arc<Config>, path: Option<&Path>) -> ConfigEditor {
        let state = State {
            current: config.clone(),
            loaded: config,
            changes: Vec::new(),
            from_scratch: false,
            unsaved: String::new(),
        };
        ConfigEditor { path: path.map(Path::to_path_buf), state: Mutex::new(state) }
    }

    /// The configuration in force.
    pub fn current(&self) -> Arc<Config> {
        self.state.lock().current.clone()
    }

    /// Runs a command: what follows `config ` on the console.
    pub fn run(&self, session: &mut EditSession, line: &str) -> Answer {
        match self.dispatch(session, line) {
            Ok(answer) => answer,
            Err(mut reason) => {
                if !reason.ends_with('\n') {
                    reason.push('\n');
                }
                Answer::Failed(reason)
            }
        }
    }

    /// As [`ConfigEditor::run`], for words that are already apart, such as the arguments of a policy. A last word that
    /// begins with `(` or `[` is read as a list or dict.
    pub fn run_words(&self, session: &mut EditSession, words: &[&str]) -> Answer {
        let last = words.len().saturating_sub(1);
        let line: Vec<String> = (words.iter().enumerate())
            .map(|(at, word)| {
                let is_value = at == last && words.first() == Some(&"set") && word.starts_with(['(', '[']);
                if is_value { (*word).to_string() } else { show::quote(word) }
            })
            .collect();
        self.run(session, &line.join(" "))
    }

    /// Reads the files anew, as `config reload` does, or another main file.
    pub fn reload(&self, path: Option<&Path>) -> Result<Pending, Report> {
        let current = self.current();
        let Some(path) = path.or(self.path.as_deref()) else {
            return Err(Report::single("", "there is no configuration file to read"));
        };
        let loaded = Config::load(path)?;
        let restart_only = check::restart_only_changes(&current.tree, &loaded.config.tree);
        let mut text = String::new();
        for name in &restart_only {
            text.push_str(&format!("{name} needs a restart: the old value stays in force.\n"));
        }
        text.push_str("Configuration reloaded.\n");
        Ok(Pending {
            config: Arc::new(loaded.config),
            text,
            warnings: loaded.warnings,
            restart_only,
            base_generation: current.generation(),
            kind: PendingKind::Reload,
        })
    }

    /// Notes that a pending configuration is in force now. Fails when another one came first; then the caller must go
    /// back to [`ConfigEditor::current`].
    pub fn accept(&self, session: &mut EditSession, pending: Pending) -> Result<String, String> {
        let mut state = self.state.lock();
        if state.current.generation() != pending.base_generation {
            return Err(CONFLICT.into());
        }
        state.current = pending.config;
        match pending.kind {
            PendingKind::Changes { changes, from_scratch } => {
                state.from_scratch |= from_scratch;
                for change in changes {
                    if !state.changes.iter().any(|known| known.same(&change)) {
                        state.changes.push(change); // policies may set one option for ever
                    }
                }
            }
            PendingKind::Reload => {
                state.loaded = state.current.clone();
                state.changes.clear();
                state.from_scratch = false;
            }
        }
        session.transaction = None;
        Ok(pending.text)
    }

    fn dispatch(&self, session: &mut EditSession, line: &str) -> Result<Answer, String> {
        let words = command::words(line)?;
        let Some(verb) = words.first() else { return Err(USAGE.into()) };
        let rest = &words[1..];
        match verb.text.to_ascii_lowercase().as_str() {
            "begin" => self.begin(session, rest),
            "rollback" => match session.transaction.take() {
                Some(_) => Ok(Answer::Text("Transaction rolled back.\n".into())),
                None => Err(NO_TRANSACTION.into()),
            },
            "replay" => match &session.transaction {
                Some(t) => Ok(Answer::Text(t.commands.iter().map(|command| format!("{command}\n")).collect())),
                None => Err(NO_TRANSACTION.into()),
            },
            "commit" => self.commit(session),
            "reload" => {
                if session.transaction.is_some() {
                    return Err("A transaction is open: commit it or roll it back first.".into());
                }
                let path = rest.first().map(|word| PathBuf::from(&word.text));
                self.reload(path.as_deref()).map(Answer::Apply).map_err(|report| report.to_string())
            }
            "writeback" => {
                if session.transaction.is_some() {
                    return Err("A transaction is open: commit it or roll it back first.".into());
                }
                self.writeback(rest.first().map(|word| Path::new(&word.text))).map(Answer::Text)
            }
            "set" => self.change(session, line, |transaction| transaction.set(line, rest)),
            "unset" => self.change(session, line, |transaction| transaction.unset(rest)),
            "get" => self.look(session, rest, false).map(|looked| Answer::Text(looked.text)),
            "eval" => self.look(session, rest, true).map(|looked| Answer::Text(looked.text)),
            "show" => self.view(session, |config| lookup::show(config, rest, false)),
            "showrecurse" => self.view(session, |config| lookup::show(config, rest, true)),
            "locate" => self.view(session, |config| lookup::locate(config, rest)),
            _ => Err(USAGE.into()),
        }
    }

    fn begin(&self, session: &mut EditSession, rest: &[command::Word]) -> Result<Answer, String> {
        if session.transaction.is_some() {
            return Err("A transaction is open already.".into());
        }
        let from_scratch = match rest {
            [] => false,
            [from, scratch] if from.is("from") && scratch.is("scratch") => true,
            _ => return Err("config begin [from scratch]".into()),
        };
        session.transaction = Some(Transaction::new(&self.current(), from_scratch));
        Ok(Answer::Text("Transaction begun.\n".into()))
    }

    fn commit(&self, session: &mut EditSession) -> Result<Answer, String> {
        let transaction = session.transaction.as_ref().ok_or(NO_TRANSACTION)?;
        let current = self.current();
        if transaction.base_generation != current.generation() {
            return Err(CONFLICT.into());
        }
        let text = "Transaction committed.\n".to_string();
        transaction.finish(&current, text).map(Answer::Apply)
    }

    /// `set` and `unset`: in the open transaction, or as one of their own.
    fn change(
        &self,
        session: &mut EditSession,
        line: &str,
        action: impl FnOnce(&mut Transaction) -> Result<Changed, String>,
    ) -> Result<Answer, String> {
        let current = self.current();
        if let Some(transaction) = &mut session.transaction {
            if transaction.changes.len() >= CHANGES_MAX {
                return Err(format!("A transaction has at most {CHANGES_MAX} changes."));
            }
            let changed = action(transaction)?;
            transaction.commands.push(format!("config {}", line.trim()));
            return Ok(Answer::Text(changed.text(&transaction.preview(&current))));
        }
        let mut transaction = Transaction::new(&current, false);
        let changed = action(&mut transaction)?;
        let mut pending = transaction.finish(&current, String::new())?;
        pending.text = changed.text(&pending.config);
        Ok(Answer::Apply(pending))
    }

    /// A value with its text: with fallback and default, or only what is set right there. Names that do not exist are
    /// errors; the value is `None` for an option that is not set, or has no default.
    pub fn lookup(&self, words: &[&str], with_fallback: bool) -> Result<Looked, String> {
        let words: Vec<command::Word> = words.iter().map(|word| command::Word::plain(word)).collect();
        lookup::look(&self.current(), &words, with_fallback)
    }

    fn look(&self, session: &EditSession, rest: &[command::Word], with_fallback: bool) -> Result<Looked, String> {
        lookup::look(&self.view_of(session), rest, with_fallback)
    }

    fn view(
        &self,
        session: &EditSession,
        action: impl FnOnce(&Config) -> Result<String, String>,
    ) -> Result<Answer, String> {
        action(&self.view_of(session)).map(Answer::Text)
    }

    /// What a session sees: its own changes, if it has begun any.
    fn view_of(&self, session: &EditSession) -> Arc<Config> {
        let current = self.current();
        match &session.transaction {
            Some(transaction) => Arc::new(transaction.preview(&current)),
            None => current,
        }
    }
}

const NO_TRANSACTION: &str = "No transaction is open.";
const CONFLICT: &str = "The configuration was changed by another session meanwhile; nothing was committed.";
const USAGE: &str = "config begin [from scratch] | commit | rollback | replay | reload [PATH] | writeback [PATH] | \
get, eval, unset [SCOPE [NAME]]... OPTION | set [SCOPE [NAME]]... OPTION VALUE | show, showrecurse [SCOPE [NAME]]... | \
locate SCOPE [REGEX]";

/// What `set` or `unset` did.
enum Changed {
    Set { decl: &'static OptionDecl, literal: Literal },
    Unset { route: Route, decl: &'static OptionDecl },
    Removed { head: String },
}

impl Changed {
    fn text(&self, after: &Config) -> String {
        match self {
            Changed::Set { decl, literal } => {
                format!("{}\n", show::setting(decl, literal, "", show::Style::Typed))
            }
            Changed::Unset { route, decl } => {
                let looked = lookup::evaluate(after, route, decl);
                format!("\"{}\" has been unset. Effective value is now:\n{}", decl.name, looked.text)
            }
            Changed::Removed { head } => format!("{head} has been unset.\n"),
        }
    }
}

impl Transaction {
    fn new(current: &Config, from_scratch: bool) -> Transaction {
        let (tree, sources) = if from_scratch {
            let raw = load::text("console", SCRATCH.as_bytes());
            (raw.tree, raw.sources)
        } else {
            ((*current.tree).clone(), (*current.sources).clone())
        };
        Transaction {
            base_generation: current.generation(),
            tree,
            sources,
            changes: Vec::new(),
            commands: Vec::new(),
            from_scratch,
        }
    }

    /// The configuration as it would be, for looking only.
    fn preview(&self, current: &Config) -> Config {
        let folder = current.source_dir().map(Path::to_path_buf);
        Config::from_tree(Arc::new(self.tree.clone()), Arc::new(self.sources.clone()), folder)
    }

    /// A configuration of what was changed, if it passes the checks.
    fn finish(&self, current: &Config, text: String) -> Result<Pending, String> {
        let known = check::all(&current.tree, &current.sources);
        let mut warnings = Report::default();
        let new = |found: &Diagnostic| !known.iter().any(|old| old.message == found.message && old.span == found.span);
        warnings.extend(check::all(&self.tree, &self.sources).into_iter().filter(new));
        if warnings.has_errors() {
            return Err(warnings.to_string());
        }
        let config = self.preview(current);
        Ok(Pending {
            restart_only: check::restart_only_changes(&current.tree, &config.tree),
            config: Arc::new(config),
            text,
            warnings,
            base_generation: self.base_generation,
            kind: PendingKind::Changes { changes: self.changes.clone(), from_scratch: self.from_scratch },
        })
    }

    fn set(&mut self, line: &str, words: &[command::Word]) -> Result<Changed, String> {
        let target = command::target(&self.tree, words)?;
        let decl = target.option.ok_or("Which option is to be set?")?;
        let text = target.rest.first().map_or("", |word| &line[word.start..]);
        let text = text.trim_start().strip_prefix('=').unwrap_or(text).trim();
        if text.is_empty() {
            return Err(format!("Which value is {} to have?", decl.name));
        }
        // What is typed is no file: places in it are never shown, and nothing of it is kept but the value.
        let literal = syntax::parse_value(FileId(0), text.as_bytes()).map_err(|e| with_help(e.message, e.help))?;
        let understood = value::understand(decl, &literal).map_err(|e| with_help(e.message, e.help))?;
        let node = self.open(&target.route);
        let setting =
            Setting { decl, value: understood.value, literal: literal.clone(), places: Vec::new(), edited: true };
        self.tree.set(node, setting);
        self.changes.push(Change { route: target.route, option: Some(decl) });
        Ok(Changed::Set { decl, literal })
    }

    fn unset(&mut self, words: &[command::Word]) -> Result<Changed, String> {
        let target = command::target(&self.tree, words)?;
        if let Some(extra) = target.rest.first() {
            return Err(format!("`{}` is too much.", extra.text));
        }
        let node = find(&self.tree, &target.route);
        match target.option {
            Some(decl) => {
                let node = node.filter(|node| self.tree.node(*node).setting(decl).is_some());
                let node = node.ok_or_else(|| lookup::not_set(decl, &target.route))?;
                self.refuse_scratch(&target.route, Some(decl))?;
                self.tree.node_mut(node).settings.retain(|s| !std::ptr::eq(s.decl, decl));
                self.changes.push(Change { route: target.route.clone(), option: Some(decl) });
                Ok(Changed::Unset { route: target.route, decl })
            }
            None if target.route.is_empty() => Err("The global scope cannot be unset.".into()),
            None => {
                let node = node.ok_or_else(|| format!("There is no {}.", lookup::path_text(&target.route)))?;
                self.refuse_scratch(&target.route, None)?;
                let head = show::head(&self.tree, node);
                self.tree.remove(node);
                self.changes.push(Change { route: target.route, option: None });
                Ok(Changed::Removed { head })
            }
        }
    }

    /// What a configuration from scratch begins with stays.
    fn refuse_scratch(&self, route: &Route, decl: Option<&OptionDecl>) -> Result<(), String> {
        if !self.from_scratch {
            return Ok(());
        }
        let scratch = load::text("console", SCRATCH.as_bytes()).tree;
        let implicit = find(&scratch, route)
            .is_some_and(|node| decl.is_none_or(|decl| scratch.node(node).setting(decl).is_some()));
        if implicit { Err("This is always set; give it another value instead.".into()) } else { Ok(()) }
    }

    fn open(&mut self, route: &Route) -> NodeId {
        route.iter().fold(ROOT, |node, (class, name)| self.tree.open(node, class, name.clone()))
    }
}

/// The scope at the end of a route, if it exists.
fn find(tree: &Tree, route: &Route) -> Option<NodeId> {
    route.iter().try_fold(ROOT, |node, (class, name)| tree.child(node, class, &name.key))
}

fn with_help(message: String, help: Option<String>) -> String {
    match help {
        Some(help) => format!("{message} ({help})"),
        None => message,
    }
}
