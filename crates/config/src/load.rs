//! From files to the merged tree: reads files, follows includes, and gives every name and value its meaning.
//!
//! All errors are collected. A tree that came with errors is not used; building it to the end only serves to find the rest
//! of them.

use crate::diagnostic::{Diagnostic, ERRORS_MAX, Report, Severity, did_you_mean};
use crate::include::{Found, SearchPath};
use crate::options::{OptionDecl, Status, registry};
use crate::schema::{self, ScopeClass};
use crate::source::{FILE_SIZE_MAX, FileId, Source, Sources, Span};
use crate::syntax::{self, Item, Literal, Scalar};
use crate::tree::{Name, NodeId, Opening, ROOT, Setting, SettingPlace, Tree};
use crate::value;
use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

/// Includes may be nested so deep.
const INCLUDE_DEPTH_MAX: usize = 32;
/// A configuration may have so many files.
const FILES_MAX: usize = 10_000;

/// A configuration as read, before the checks that concern more than one setting.
pub(crate) struct Raw {
    pub sources: Sources,
    pub tree: Tree,
    pub report: Report,
}

/// Reads the file and all that it includes.
pub(crate) fn file(path: &Path) -> Raw {
    let mut loader = Loader::new();
    match read(path) {
        Ok(text) => {
            let canonical = path.canonicalize().unwrap_or_else(|_| path.to_path_buf());
            let source = Source::new(&path.to_string_lossy(), Some(path), &text, is_writable(path));
            loader.main(source, Some(canonical));
        }
        Err(error) => loader.report.push(Diagnostic::general(
            Severity::Error,
            &path.to_string_lossy(),
            format!("cannot be read: {error}"),
        )),
    }
    loader.finish()
}

/// Reads a text; relative includes are looked for in the current folder.
pub(crate) fn text(name: &str, text: &[u8]) -> Raw {
    let mut loader = Loader::new();
    loader.main(Source::new(name, None, text, false), None);
    loader.finish()
}

struct Loader {
    sources: Sources,
    tree: Tree,
    report: Report,
    search: SearchPath,
    /// Files that are being read, outermost first.
    stack: Vec<PathBuf>,
    seen: HashMap<PathBuf, FileId>,
    /// Options and modules that were already warned of.
    warned: HashSet<usize>,
}

impl Loader {
    fn new() -> Loader {
        Loader {
            sources: Sources::default(),
            tree: Tree::new(),
            report: Report::default(),
            search: SearchPath::from_environment(),
            stack: Vec::new(),
            seen: HashMap::new(),
            warned: HashSet::new(),
        }
    }

    fn main(&mut self, source: Source, canonical: Option<PathBuf>) {
        let file = self.sources.add(source);
        if let Some(path) = canonical {
            self.seen.insert(path.clone(), file);
            self.stack.push(path);
        }
        self.whole_file(file, ROOT);
        self.stack.clear();
        self.local_changes(file);
    }

    fn finish(self) -> Raw {
        Raw { sources: self.sources, tree: self.tree, report: self.report }
    }

    /// Reads all of a file into a scope.
    fn whole_file(&mut self, file: FileId, into: NodeId) {
        let text = self.sources.get(file).text.clone();
        let (items, errors) = syntax::parse(file, &text);
        for error in errors.into_iter().take(ERRORS_MAX) {
            self.error(error.span, error.message, error.help);
        }
        let end = Span::new(file, text.len(), text.len());
        self.tree.node_mut(into).openings.push(Opening { head: Span::new(file, 0, 0), close: end });
        self.items(&items, into);
    }

    fn items(&mut self, items: &[Item], into: NodeId) {
        for item in items {
            if self.report.error_count() >= ERRORS_MAX {
                return;
            }
            match item {
                Item::Include { readonly, target, span } => self.include(*readonly, target, *span, into),
                Item::Setting { name, value } => self.setting(name, value, into),
                Item::Stanza { name, instance, items, close } => {
                    self.stanza(name, instance.as_ref(), items, *close, into);
                }
            }
        }
    }

    fn setting(&mut self, name: &Scalar, literal: &Literal, into: NodeId) {
        let class = self.tree.node(into).class;
        let Some(decl) = self.option(class, name) else { return };
        let understood = match value::understand(decl, literal) {
            Ok(understood) => understood,
            Err(error) => return self.error(error.span, error.message, error.help),
        };
        for (span, message) in understood.warnings {
            self.warn(span, message, None);
        }
        let place = SettingPlace { whole: name.span.to(literal.span()), value: literal.span() };
        let value = understood.value;
        self.tree.set(into, Setting { decl, value, literal: literal.clone(), places: vec![place], edited: false });
    }

    /// The declaration behind a name, or a report why there is none.
    fn option(&mut self, class: &'static ScopeClass, name: &Scalar) -> Option<&'static OptionDecl> {
        if let Some(decl) = registry::find(class, &name.text) {
            if decl.status == Status::Missing
                && class.status != Status::Missing
                && self.warned.insert(std::ptr::from_ref(decl) as usize)
            {
                let message = format!("`{}` is known, but not implemented yet: it has no effect", decl.name);
                self.warn(name.span, message, None);
            }
            return Some(decl);
        }
        if class.is_open() {
            let decl = schema::foreign_option(&name.text)?;
            if class.is_module() && self.warned.insert(std::ptr::from_ref(decl) as usize) {
                self.warn(name.span, format!("`{}` is not a known option of `{}`", name.text, class.name), None);
            }
            return Some(decl);
        }
        let (message, help) = unknown_option(class, &name.text);
        self.error(name.span, message, help);
        None
    }

    fn stanza(&mut self, name: &Scalar, instance: Option<&Scalar>, items: &[Item], close: Span, into: NodeId) {
        let outer = self.tree.node(into).class;
        let class = match outer.part(&name.text) {
            Some(class) => class,
            None if outer.is_open() => match schema::foreign(&name.text) {
                Some(class) => class,
                None => return,
            },
            None => {
                let (message, help) = unknown_scope(outer, &name.text);
                return self.error(name.span, message, help);
            }
        };
        if class.status == Status::Missing && !outer.is_open() && self.warned.insert(std::ptr::from_ref(class) as usize)
        {
            let message = format!("`{}` is known, but not implemented yet: the stanza has no effect", class.name);
            self.warn(name.span, message, None);
        }
        let span = instance.map_or(name.span, |i| i.span);
        let understood = Name::understand(class, instance.map(|i| &*i.text)).unwrap_or_else(|(message, help)| {
            self.error(span, message, help);
            Name::any(instance.map_or("", |i| &*i.text))
        });
        if let (Some(i), crate::tree::Meaning::Net(net)) = (instance, &understood.meaning)
            && crate::cidr::parse(&i.text).is_ok_and(|(_, cut)| cut)
        {
            self.warn(i.span, format!("`{}` has bits below its mask; it is taken as `{net}`", i.text), None);
        }
        let node = self.tree.open(into, class, understood);
        self.tree.node_mut(node).openings.push(Opening { head: name.span.to(span), close });
        self.items(items, node);
    }

    fn include(&mut self, readonly: bool, target: &Scalar, span: Span, into: NodeId) {
        if self.stack.len() >= INCLUDE_DEPTH_MAX {
            return self.error(span, format!("includes are nested more than {INCLUDE_DEPTH_MAX} deep"), None);
        }
        let including = self.sources.get(target.span.file).path.clone();
        let folder = including.as_deref().and_then(Path::parent);
        let found = match self.search.find(&target.text, folder) {
            Ok(found) => found,
            Err((message, help)) => return self.error(target.span, message, help),
        };
        match found {
            Found::Virtual(name) => {
                let file = self.sources.add(Source::new(&name, None, b"", false));
                self.whole_file(file, into);
            }
            Found::File(path) => self.include_file(&path, readonly, target.span, into),
            Found::Folder(path) => self.include_folder(&path, readonly, target.span, into),
        }
    }

    /// All plain files of a folder in the byte order of their names.
    fn include_folder(&mut self, folder: &Path, readonly: bool, span: Span, into: NodeId) {
        let entries = match std::fs::read_dir(folder).and_then(|entries| entries.collect::<Result<Vec<_>, _>>()) {
            Ok(entries) => entries,
            Err(error) => return self.error(span, format!("{} cannot be read: {error}", folder.display()), None),
        };
        let mut paths: Vec<PathBuf> = entries.iter().map(|entry| entry.path()).filter(|path| path.is_file()).collect();
        paths.sort_by(|a, b| a.as_os_str().as_encoded_bytes().cmp(b.as_os_str().as_encoded_bytes()));
        for path in paths {
            let name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
            if name.starts_with('.') {
                continue;
            }
            if name.ends_with('~') {
                let message = format!("{} looks like a backup of an editor and is skipped", path.display());
                self.report.push(Diagnostic::at(&self.sources, Severity::Info, span, message));
                continue;
            }
            self.include_file(&path, readonly, span, into);
        }
    }

    fn include_file(&mut self, path: &Path, readonly: bool, span: Span, into: NodeId) {
        let canonical = path.canonicalize().unwrap_or_else(|_| path.to_path_buf());
        if let Some(from) = self.stack.iter().position(|open| *open == canonical) {
            let chain: Vec<String> = self.stack[from..].iter().map(|p| p.display().to_string()).collect();
            let message =
                format!("{} includes itself: {} → {}", path.display(), chain.join(" → "), canonical.display());
            return self.error(span, message, Some("take one of these includes out".into()));
        }
        if self.sources.iter().count() >= FILES_MAX {
            return self.error(span, format!("there are more than {FILES_MAX} files"), None);
        }
        let text = match read(path) {
            Ok(text) => text,
            Err(error) => return self.error(span, format!("{} cannot be read: {error}", path.display()), None),
        };
        let twice = self.seen.get(&canonical).copied();
        if let Some(earlier) = twice {
            self.sources.get_mut(earlier).writable = false; // a change there would take effect in two places
        }
        let writable = twice.is_none() && !readonly && is_writable(path);
        let file = self.sources.add(Source::new(&path.to_string_lossy(), Some(path), &text, writable));
        self.seen.entry(canonical.clone()).or_insert(file);
        self.stack.push(canonical);
        self.whole_file(file, into);
        self.stack.pop();
    }

    /// The file for changes made on the console comes after all others, wherever it is named.
    fn local_changes(&mut self, main: FileId) {
        let Some(setting) = self.tree.node(ROOT).setting(&crate::options::LOCAL_CHANGES_FILE.decl) else {
            return;
        };
        let (value::Value::Text(name), Some(place)) = (setting.value.clone(), setting.places.last().copied()) else {
            return;
        };
        let path = Path::new(&*name).to_path_buf();
        let canonical = path.canonicalize().unwrap_or_else(|_| path.clone());
        match self.seen.get(&canonical) {
            Some(file) if *file == main => {
                let message = "Local_Changes_File: this is the main file";
                return self.error(place.value, message, Some("name a file that is used for nothing else".into()));
            }
            Some(_) => {
                let message = "Local_Changes_File: this file is included already";
                return self.error(place.value, message, Some("take the include out: it is read by itself".into()));
            }
            None => {}
        }
        if !path.exists() {
            return; // it is made when the first change is saved
        }
        if !is_writable(&path) {
            return self.error(place.value, format!("Local_Changes_File: {name} is not writable"), None);
        }
        match read(&path) {
            Ok(text) => {
                let file = self.sources.add(Source::new(&name, Some(&path), &text, true));
                self.seen.insert(canonical.clone(), file);
                self.stack.push(canonical);
                self.whole_file(file, ROOT);
                self.stack.pop();
            }
            Err(error) => self.error(place.value, format!("Local_Changes_File: {name} cannot be read: {error}"), None),
        }
    }

    fn error(&mut self, span: Span, message: impl Into<String>, help: Option<String>) {
        let mut diagnostic = Diagnostic::at(&self.sources, Severity::Error, span, message);
        diagnostic.help = help;
        self.report.push(diagnostic);
    }

    fn warn(&mut self, span: Span, message: impl Into<String>, help: Option<String>) {
        let mut diagnostic = Diagnostic::at(&self.sources, Severity::Warning, span, message);
        diagnostic.help = help;
        self.report.push(diagnostic);
    }
}

/// Why there is no such option, and what might be meant.
pub(crate) fn unknown_option(class: &ScopeClass, name: &str) -> (String, Option<String>) {
    let message = format!("'{name}' is not a valid option name in scope '{}'", class.name);
    if class.part(name).is_some() {
        return (message, Some(format!("`{name}` is a stanza: write `{name} {{ … }}`")));
    }
    // `enable` and `enabled` are easily mixed up: listeners have the first, modules the second.
    let other = if name.eq_ignore_ascii_case("enable") { "Enabled" } else { "Enable" };
    if (name.eq_ignore_ascii_case("enable") || name.eq_ignore_ascii_case("enabled"))
        && registry::find(class, other).is_some()
    {
        return (message, Some(format!("here it is called `{other}`")));
    }
    let elsewhere = registry::named(name);
    if let Some(first) = elsewhere.first() {
        let scopes = elsewhere.iter().fold(first.scopes, |all, decl| all.or(decl.scopes));
        return (message, Some(format!("`{}` is valid in: {scopes}", first.name)));
    }
    let modules: Vec<&str> = schema::classes()
        .into_iter()
        .filter(|c| c.is_module() && c.options.iter().any(|d| d.name.eq_ignore_ascii_case(name)))
        .map(|c| c.name)
        .collect();
    if !modules.is_empty() {
        return (message, Some(format!("`{name}` is an option of: {}", modules.join(", "))));
    }
    let here = did_you_mean(name, registry::names_in(class).into_iter());
    let help = here.or_else(|| did_you_mean(name, registry::all().map(|d| d.name)));
    (message, help)
}

/// Why there is no such stanza, and what might be meant.
pub(crate) fn unknown_scope(outer: &ScopeClass, name: &str) -> (String, Option<String>) {
    let message = format!("'{name}' is not a valid scope name in scope '{}'", outer.name);
    let parents = schema::parents_of(name);
    if !parents.is_empty() {
        return (message, Some(format!("`{name}` stands in: {}", parents.join(", "))));
    }
    if let Some(decl) = registry::find(outer, name) {
        return (message, Some(format!("`{}` is an option: write `{} = …`", decl.name, decl.name)));
    }
    let near = did_you_mean(name, outer.parts.iter().map(|part| part.name));
    let any = || did_you_mean(name, schema::classes().iter().map(|class| class.name));
    (message, near.or_else(any))
}

fn read(path: &Path) -> std::io::Result<Vec<u8>> {
    let length = std::fs::metadata(path)?.len();
    if length > FILE_SIZE_MAX {
        return Err(std::io::Error::other(format!("it has {length} octets; {FILE_SIZE_MAX} are the limit")));
    }
    std::fs::read(path)
}

/// Opening for writing changes nothing and tells more than the mode bits.
fn is_writable(path: &Path) -> bool {
    std::fs::OpenOptions::new().write(true).open(path).is_ok()
}
