//! Saving changes into the files they belong to.
//!
//! A value that stands in a writable file is replaced in place. A new one goes into the first writable file in which its
//! scope is opened, else into the local changes file, else to the end of the main file. All other bytes stay as they are.
//! What has no place is printed and kept. A file that was changed meanwhile by somebody else is not touched.

use super::{Change, ConfigEditor, Route, State, find};
use crate::config::Config;
use crate::options::{self, OptionDecl};
use crate::show::{self, Style};
use crate::source::{FileId, Sources};
use crate::syntax::Literal;
use crate::tree::{NodeId, ROOT, Tree};
use crate::value::Value;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::ops::Range;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

impl ConfigEditor {
    /// `writeback`: saves into the files, or the whole into another one.
    pub(super) fn writeback(&self, other: Option<&Path>) -> Result<String, String> {
        let mut state = self.state.lock();
        if let Some(path) = other {
            write_file(path, state.current.text().as_bytes())?;
            return Ok(format!("{} written.\n", path.display()));
        }
        if state.from_scratch {
            return Err(
                "This configuration was begun from scratch and belongs to no file: config writeback PATH".into()
            );
        }
        if state.changes.is_empty() && state.unsaved.is_empty() {
            return Ok("Nothing has changed.\n".into());
        }
        let plan = Plan::new(&state)?;
        let mut text = plan.write()?;
        text.push_str(&plan.notes);
        if !plan.unsaved.is_empty() {
            text.push_str("Not everything could be saved. There is no writable file for:\n");
            text.push_str(&plan.unsaved);
        }
        state.unsaved = plan.unsaved;
        self.read_again(&mut state, &mut text);
        Ok(text)
    }

    /// What was saved is in the files now: later changes are measured against those.
    fn read_again(&self, state: &mut State, text: &mut String) {
        let Some(path) = &self.path else { return };
        match Config::load(path) {
            Ok(loaded) => {
                state.loaded = Arc::new(loaded.config);
                if state.unsaved.is_empty() {
                    state.changes.clear();
                }
            }
            Err(report) => {
                let _ = write!(text, "The files do not load now:\n{report}");
            }
        }
    }
}

/// What is to be done to which file.
struct Plan<'a> {
    loaded: &'a Config,
    current: &'a Config,
    local_changes: Option<PathBuf>,
    local_only: bool,
    edits: BTreeMap<FileId, Vec<(Range<usize>, String)>>,
    /// Text for the end of the local changes file, when that is not one of the files read.
    new_local: String,
    unsaved: String,
    notes: String,
}

impl<'a> Plan<'a> {
    fn new(state: &'a State) -> Result<Plan<'a>, String> {
        let root = state.current.tree.node(ROOT);
        let local_changes = match root.setting(&options::LOCAL_CHANGES_FILE.decl).map(|s| &s.value) {
            Some(Value::Text(path)) => Some(PathBuf::from(&**path)),
            _ => None,
        };
        let local_only =
            matches!(root.setting(&options::LOCAL_CHANGES_ONLY.decl).map(|s| &s.value), Some(Value::Bool(true)));
        let mut plan = Plan {
            loaded: &state.loaded,
            current: &state.current,
            local_changes,
            local_only,
            edits: BTreeMap::new(),
            new_local: String::new(),
            unsaved: String::new(),
            notes: String::new(),
        };
        state.changes.iter().for_each(|change| plan.change(change));
        Ok(plan)
    }

    /// One scope or option that was touched, as it is in the end.
    fn change(&mut self, change: &Change) {
        let old = find(&self.loaded.tree, &change.route);
        let new = find(&self.current.tree, &change.route);
        match (change.option, new) {
            (None, new) => old.into_iter().for_each(|old| self.reconcile(old, new)),
            (Some(decl), new) => {
                let literal = new.and_then(|n| self.current.tree.node(n).setting(decl)).map(|s| s.literal.clone());
                let saved = |literal: &Literal| show::literal(literal, "", Style::Saved);
                let same = |old: NodeId| {
                    let old = self.loaded.tree.node(old).setting(decl).map(|s| saved(&s.literal));
                    old == literal.as_ref().map(saved)
                };
                match literal {
                    Some(_) if old.is_some_and(same) => {} // back to what the files say
                    Some(literal) => self.set(&change.route, old, decl, &literal),
                    None => old.into_iter().for_each(|node| self.remove_setting(node, decl)),
                }
            }
        }
    }

    fn set(&mut self, route: &Route, old: Option<NodeId>, decl: &'static OptionDecl, literal: &Literal) {
        if self.local_only {
            return self.append_local(route, decl, literal);
        }
        let tree = &self.loaded.tree;
        let sources = &self.loaded.sources;
        let last = old.and_then(|id| tree.node(id).setting(decl)).and_then(|s| s.places.last().copied());
        if let Some(place) = last.filter(|place| sources.get(place.value.file).writable) {
            let indent = indent_at(&sources.get(place.whole.file).text, place.whole.range().start);
            let text = show::literal(literal, &indent, Style::Saved);
            return self.edit(place.value.file, place.value.range(), text);
        }
        let opening = old.and_then(|id| tree.node(id).openings.iter().find(|o| sources.get(o.close.file).writable));
        match opening {
            Some(opening) => {
                let (file, at) = (opening.close.file, opening.close.range().start);
                if let Some(place) = last.filter(|place| place.value.file > file) {
                    let _ = writeln!(
                        self.notes,
                        "{}: a later definition in {} hides what was saved.",
                        decl.name,
                        sources.get(place.value.file).name
                    );
                }
                self.insert(file, at, decl, literal);
            }
            None => self.append(route, decl, literal),
        }
    }

    /// Before the `}` of a stanza, or at the end of a file.
    fn insert(&mut self, file: FileId, at: usize, decl: &'static OptionDecl, literal: &Literal) {
        let text = self.loaded.sources.get(file).text.clone();
        let line = text[..at].iter().rposition(|b| *b == b'\n').map_or(0, |newline| newline + 1);
        let alone = text[line..at].iter().all(|b| b.is_ascii_whitespace());
        let at_end = at == text.len();
        if at_end {
            let newline = if text.is_empty() || text.ends_with(b"\n") { "" } else { "\n" };
            let setting = show::setting(decl, literal, "", Style::Saved);
            return self.edit(file, at..at, format!("{newline}{setting}\n"));
        }
        if alone {
            let indent = String::from_utf8_lossy(&text[line..at]).into_owned() + "  ";
            let setting = show::setting(decl, literal, &indent, Style::Saved);
            return self.edit(file, line..line, format!("{setting}\n"));
        }
        let blank = if text[..at].last().is_some_and(u8::is_ascii_whitespace) { "" } else { " " };
        let setting = show::setting(decl, literal, "", Style::Saved);
        self.edit(file, at..at, format!("{blank}{setting} "));
    }

    /// No file opens the scope: the local changes file, else the main file, else nothing.
    fn append(&mut self, route: &Route, decl: &'static OptionDecl, literal: &Literal) {
        if self.local_changes.is_some() {
            return self.append_local(route, decl, literal);
        }
        let main = self.loaded.sources.iter().next().filter(|(_, source)| source.writable);
        match main.map(|(file, source)| (file, source.text.clone())) {
            Some((file, text)) => self.append_to(file, &text, &stanza(route, decl, literal)),
            None => self.unsaved.push_str(&stanza(route, decl, literal)),
        }
    }

    fn append_local(&mut self, route: &Route, decl: &'static OptionDecl, literal: &Literal) {
        let text = stanza(route, decl, literal);
        let Some(path) = &self.local_changes else { return self.unsaved.push_str(&text) };
        let known = (self.loaded.sources.iter())
            .find(|(_, source)| source.path.as_deref() == Some(path))
            .map(|(file, source)| (file, source.text.clone()));
        let Some((file, old_text)) = known else { return self.new_local.push_str(&text) };
        // What the file says already is replaced in place.
        let place = find(&self.loaded.tree, route)
            .and_then(|node| self.loaded.tree.node(node).setting(decl))
            .and_then(|setting| setting.places.iter().rev().find(|p| p.value.file == file).copied());
        match place {
            Some(place) => {
                let value = show::literal(literal, &indent_at(&old_text, place.whole.range().start), Style::Saved);
                self.edit(file, place.value.range(), value);
            }
            None => self.append_to(file, &old_text, &text),
        }
    }

    fn append_to(&mut self, file: FileId, old: &[u8], text: &str) {
        let newline = if old.is_empty() || old.ends_with(b"\n") { "" } else { "\n" };
        // Only the first of several pieces at the end needs the line end.
        let first = !self.edits.get(&file).is_some_and(|edits| edits.iter().any(|(range, _)| range.start == old.len()));
        let newline = if first { newline } else { "" };
        self.edit(file, old.len()..old.len(), format!("{newline}{text}"));
    }

    fn remove_scope(&mut self, id: NodeId) {
        let tree = self.loaded.tree.clone();
        let node = tree.node(id);
        for opening in &node.openings {
            // A whole file that was included into the scope is not a stanza that could be cut out.
            let whole_file = opening.head.range().is_empty();
            if !whole_file {
                let range = opening.head.range().start..opening.close.range().end;
                self.cut(opening.close.file, range, &show::head(&tree, id));
            }
        }
        self.remove_settings(id);
    }

    /// Everything in a scope; pieces inside of pieces that are cut anyway do no harm.
    fn remove_settings(&mut self, id: NodeId) {
        let tree = self.loaded.tree.clone();
        for setting in &tree.node(id).settings {
            self.remove_setting(id, setting.decl);
        }
        for child in &tree.node(id).children {
            self.remove_scope(*child);
        }
    }

    /// A scope that was taken out, and perhaps made again: what is not in the new one goes. What is, has changes of its
    /// own.
    fn reconcile(&mut self, old: NodeId, new: Option<NodeId>) {
        let Some(new) = new else { return self.remove_scope(old) };
        let tree = self.loaded.tree.clone();
        let current = self.current.tree.clone();
        for setting in &tree.node(old).settings {
            if current.node(new).setting(setting.decl).is_none() {
                self.remove_setting(old, setting.decl);
            }
        }
        for child in &tree.node(old).children {
            let node = tree.node(*child);
            self.reconcile(*child, current.child(new, node.class, &node.key));
        }
    }

    fn remove_setting(&mut self, id: NodeId, decl: &'static OptionDecl) {
        let tree: Arc<Tree> = self.loaded.tree.clone();
        let Some(setting) = tree.node(id).setting(decl) else { return };
        for place in &setting.places {
            self.cut(place.whole.file, place.whole.range(), decl.name);
        }
    }

    fn cut(&mut self, file: FileId, range: Range<usize>, what: &str) {
        let source = self.loaded.sources.get(file);
        if !source.writable {
            let _ = writeln!(self.notes, "{what} stays in {}, which is not to be written.", source.name);
            return;
        }
        let range = with_line(&source.text, range);
        self.edit(file, range, String::new());
    }

    fn edit(&mut self, file: FileId, range: Range<usize>, text: String) {
        self.edits.entry(file).or_default().push((range, text));
    }

    /// Writes all files; each is replaced as a whole or not at all.
    fn write(&self) -> Result<String, String> {
        let sources: &Sources = &self.loaded.sources;
        let mut files = Vec::new();
        for (file, edits) in &self.edits {
            let source = sources.get(*file);
            let path = source.path.as_deref().ok_or_else(|| format!("{} is no file.", source.name))?;
            let now = std::fs::read(path).map_err(|error| format!("{}: {error}", path.display()))?;
            if now != *source.text {
                return Err(format!("{} was changed since it was read; nothing was written.", path.display()));
            }
            files.push((path.to_path_buf(), apply(&source.text, edits)));
        }
        if let (Some(path), false) = (&self.local_changes, self.new_local.is_empty()) {
            let mut text = std::fs::read(path).unwrap_or_default();
            text.extend_from_slice(self.new_local.as_bytes());
            files.push((path.clone(), text));
        }
        let mut text = String::new();
        for (path, contents) in &files {
            write_file(path, contents)?;
            let _ = writeln!(text, "{} written.", path.display());
        }
        Ok(text)
    }
}

/// The text with all edits made. Edits inside of a piece that is cut out are left out.
fn apply(text: &[u8], edits: &[(Range<usize>, String)]) -> Vec<u8> {
    let mut edits: Vec<(usize, &(Range<usize>, String))> = edits.iter().enumerate().collect();
    // Where several begin together insertions come first, in their order, then the widest piece.
    edits.sort_by_key(|(at, (range, _))| (range.start, !range.is_empty(), std::cmp::Reverse(range.end), *at));
    let mut out = Vec::with_capacity(text.len() + 256);
    let mut done = 0;
    for (_, (range, new)) in edits {
        if range.start < done {
            continue;
        }
        out.extend_from_slice(&text[done..range.start]);
        out.extend_from_slice(new.as_bytes());
        done = range.end;
    }
    out.extend_from_slice(&text[done..]);
    out
}

/// A piece together with its line, when nothing else stands there.
fn with_line(text: &[u8], range: Range<usize>) -> Range<usize> {
    let start = text[..range.start].iter().rposition(|b| *b == b'\n').map_or(0, |at| at + 1);
    let end = text[range.end..].iter().position(|b| *b == b'\n').map_or(text.len(), |at| range.end + at + 1);
    let blank = |part: &[u8]| part.iter().all(u8::is_ascii_whitespace);
    if blank(&text[start..range.start]) && blank(&text[range.end..end]) { start..end } else { range }
}

/// The blanks at the beginning of the line of an offset.
fn indent_at(text: &[u8], offset: usize) -> String {
    let start = text[..offset].iter().rposition(|b| *b == b'\n').map_or(0, |at| at + 1);
    text[start..offset].iter().take_while(|b| matches!(b, b' ' | b'\t')).map(|b| char::from(*b)).collect()
}

/// A setting with the stanzas around it.
fn stanza(route: &Route, decl: &OptionDecl, literal: &Literal) -> String {
    let mut text = String::new();
    let mut indent = String::new();
    for (class, name) in route {
        let name = if name.text.is_empty() { String::new() } else { format!(" {}", show::quote(&name.text)) };
        let _ = writeln!(text, "{indent}{}{name} {{", class.name);
        indent.push_str("  ");
    }
    let _ = writeln!(text, "{}", show::setting(decl, literal, &indent, Style::Saved));
    while indent.pop().and(indent.pop()).is_some() {
        let _ = writeln!(text, "{indent}}}");
    }
    text
}

/// Beside the old file, then into its place; where the folder does not allow that, over it.
fn write_file(path: &Path, contents: &[u8]) -> Result<(), String> {
    let error = |error: std::io::Error| format!("{} cannot be written: {error}", path.display());
    let target = path.canonicalize().unwrap_or_else(|_| path.to_path_buf()); // a link stays a link
    let name = target.file_name().ok_or_else(|| format!("{} is no file", path.display()))?;
    let temporary = target.with_file_name(format!(".{}.new", name.to_string_lossy()));
    let beside = || -> std::io::Result<()> {
        let _ = std::fs::remove_file(&temporary); // left over from a crash
        // Nobody else may read it before it has the mode of the old one: it may hold passwords.
        let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
        if let Ok(meta) = std::fs::metadata(&target) {
            file.set_permissions(meta.permissions())?;
        }
        file.write_all(contents)?;
        file.sync_all()?;
        std::fs::rename(&temporary, &target)
    };
    if beside().is_ok() {
        return Ok(());
    }
    let _ = std::fs::remove_file(&temporary);
    std::fs::write(&target, contents).map_err(error)
}
