//! What the files of a policy assign and require, gathered before the check: a name that any of them makes is not unknown.

use super::names::names;
use crate::api;
use crate::dialect;
use crate::dialect::tree::{Arguments, Block, Expression, Form, Function, Key, Statement, Suffix};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

#[derive(Debug, Default)]
pub(super) struct Facts {
    /// Globals and dotted paths below them that are assigned; `module("a.b")` counts as one.
    assigned: BTreeSet<String>,
    /// Functions that were defined on a table, with the table's name: `mod` and `lookup`.
    functions: BTreeSet<(String, String)>,
    /// Names that are used as a value: handed over, assigned, returned.
    pub values: BTreeSet<String>,
    /// Every field name that is assigned, defined as a function or a table's key.
    pub fields: BTreeSet<String>,
    /// Every name that is called as a field or method.
    pub called: BTreeSet<String>,
    /// Globals may come from elsewhere: a file that was not found, `setfenv`, `_G[name] = value`, `loadstring`.
    pub open_globals: bool,
    /// Methods may be added to objects: `msys.getClassMetaTable`.
    pub open_classes: bool,
    /// `require`s of ours that nothing provides.
    pub missing: BTreeSet<String>,
    required: BTreeSet<String>,
}

/// No more files than these are read for one policy, and none that is larger.
const FILES_MAX: usize = 200;
const FILE_SIZE_MAX: u64 = 4 << 20;

impl Facts {
    pub fn gather(chunk: &Block, others: &[PathBuf], folders: &[PathBuf]) -> Facts {
        let mut facts = Facts::default();
        let mut waiting = facts.read(chunk);
        for other in others.iter().take(FILES_MAX) {
            if let Some(Ok(translated)) = source_of(other).map(|source| dialect::translate(&source)) {
                waiting.extend(facts.read(&translated.chunk));
            }
        }
        while let Some(name) = waiting.pop() {
            if !facts.required.insert(name.clone()) || facts.required.len() > FILES_MAX {
                continue;
            }
            if api::is_builtin_package(&name) || names().sort(&name).is_some() {
                continue;
            }
            let relative = format!("{}.lua", name.replace('.', "/"));
            let path = folders.iter().map(|folder| folder.join(&relative)).find(|path| path.is_file());
            match path.and_then(|path| source_of(&path)).map(|source| dialect::translate(&source)) {
                Some(Ok(translated)) => waiting.extend(facts.read(&translated.chunk)),
                Some(Err(_)) => facts.open_globals = true,
                None if name == "msys" || name.starts_with("msys.") => {
                    facts.missing.insert(name);
                }
                None => facts.open_globals = true,
            }
        }
        facts
    }

    /// Whether the policy itself assigns this path, one above it or one below it.
    pub fn assigns(&self, path: &str) -> bool {
        self.assigned.iter().any(|own| {
            let (longer, shorter) = if own.len() > path.len() { (own.as_str(), path) } else { (path, own.as_str()) };
            longer.strip_prefix(shorter).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        })
    }

    pub fn globals(&self) -> impl Iterator<Item = &str> {
        self.assigned.iter().filter(|path| !path.contains('.')).map(String::as_str)
    }

    /// The functions that were defined on a table; those of all tables for `self`.
    pub fn methods<'a>(&'a self, owner: &'a str) -> impl Iterator<Item = &'a str> {
        self.functions.iter().filter(move |(of, _)| owner == "self" || of == owner).map(|(_, name)| name.as_str())
    }

    /// Reads one file; what it requires is returned.
    fn read(&mut self, chunk: &Block) -> Vec<String> {
        let mut reader = Reader { facts: self, required: Vec::new() };
        reader.block(chunk);
        reader.required
    }
}

fn source_of(path: &Path) -> Option<Vec<u8>> {
    path.metadata().ok().filter(|data| data.len() <= FILE_SIZE_MAX)?;
    std::fs::read(path).ok()
}

struct Reader<'a> {
    facts: &'a mut Facts,
    required: Vec<String>,
}

impl Reader<'_> {
    fn block(&mut self, block: &Block) {
        block.iter().for_each(|statement| self.statement(statement));
    }

    fn statement(&mut self, statement: &Statement) {
        match statement {
            Statement::Call(call) => self.expression(call),
            Statement::Assign { targets, values } => {
                for target in targets {
                    self.assign(target);
                    if target.name().is_none() {
                        self.expression(target);
                    }
                }
                self.expressions(values);
            }
            Statement::Local { values, .. } | Statement::Return { values, .. } => self.expressions(values),
            Statement::LocalFunction { function, .. } => self.block(&function.body),
            Statement::Function { path, function } => {
                let names: Vec<&str> = path.iter().map(|name| name.text.as_str()).collect();
                self.facts.assigned.insert(names.join("."));
                if let [owner, name] = names.as_slice() {
                    self.facts.functions.insert(((*owner).to_owned(), (*name).to_owned()));
                }
                self.facts.fields.extend(names.iter().skip(1).map(|name| (*name).to_owned()));
                self.function(function);
            }
            Statement::Break => {}
            Statement::Do(body) => self.block(body),
            Statement::While { condition, body } | Statement::Repeat { body, condition } => {
                self.expression(condition);
                self.block(body);
            }
            Statement::If { arms, otherwise } => {
                for (condition, body) in arms {
                    self.expression(condition);
                    self.block(body);
                }
                otherwise.iter().for_each(|body| self.block(body));
            }
            Statement::For { values, body, .. } => {
                self.expressions(values);
                self.block(body);
            }
        }
    }

    fn function(&mut self, function: &Function) {
        self.block(&function.body);
    }

    fn expressions(&mut self, values: &[Expression]) {
        values.iter().for_each(|value| self.expression(value));
    }

    /// Locals are noted too: a global of the same name is then not reported, which is the lesser evil.
    fn assign(&mut self, target: &Expression) {
        match &target.form {
            Form::Name(name) => {
                self.facts.assigned.insert(name.clone());
            }
            Form::Suffixed { base, suffixes } => {
                let mut path = base.name().map(str::to_owned);
                for suffix in suffixes {
                    match suffix {
                        Suffix::Field(name) => {
                            self.facts.fields.insert(name.text.clone());
                            path = path.map(|path| format!("{path}.{}", name.text));
                        }
                        _ => {
                            self.facts.open_globals |= matches!(path.as_deref(), Some("_G"));
                            path = None;
                        }
                    }
                }
                if let Some(path) = path {
                    let path = path.strip_prefix("_G.").unwrap_or(&path).to_owned();
                    self.facts.assigned.insert(path);
                }
            }
            _ => {}
        }
    }

    fn expression(&mut self, expression: &Expression) {
        match &expression.form {
            Form::Function(function) => self.function(function),
            Form::Table(items) => {
                for item in items {
                    match &item.key {
                        Key::Name(name) => {
                            self.facts.fields.insert(name.text.clone());
                        }
                        Key::Value(Expression { form: Form::String(Some(text)), .. }) => {
                            self.facts.fields.insert(text.clone());
                        }
                        Key::Value(key) => self.expression(key),
                        Key::Position => {}
                    }
                    self.expression(&item.value);
                }
            }
            Form::Parenthesized(inner) | Form::Not(inner) | Form::Unary(inner) => self.expression(inner),
            Form::Binary { operands, .. } => self.expressions(operands),
            Form::Suffixed { base, suffixes } => {
                match base.name() {
                    Some(name) => self.name(name),
                    None => self.expression(base),
                }
                self.suffixes(base, suffixes);
            }
            Form::Name(name) => {
                self.name(name);
                self.facts.values.insert(name.clone());
            }
            _ => {}
        }
    }

    fn name(&mut self, name: &str) {
        self.facts.open_globals |= ["setfenv", "loadstring", "loadfile", "dofile", "load"].contains(&name);
    }

    fn suffixes(&mut self, base: &Expression, suffixes: &[Suffix]) {
        for (at, suffix) in suffixes.iter().enumerate() {
            match suffix {
                Suffix::Field(name) => {
                    if matches!(suffixes.get(at + 1), Some(Suffix::Call(_))) {
                        self.facts.called.insert(name.text.clone());
                    }
                    self.facts.open_classes |= name.text == "getClassMetaTable";
                }
                Suffix::Index(key) => self.expression(key),
                Suffix::Method(name, arguments) => {
                    self.facts.called.insert(name.text.clone());
                    self.expressions(&arguments.values);
                }
                Suffix::Call(arguments) => {
                    if at == 0 {
                        self.call(base.name().unwrap_or_default(), arguments);
                    }
                    self.expressions(&arguments.values);
                }
            }
        }
    }

    fn call(&mut self, name: &str, arguments: &Arguments) {
        let first = arguments.values.first().map(|value| &value.form);
        match (name, first) {
            ("require", Some(Form::String(Some(package)))) => self.required.push(package.clone()),
            ("require", _) => self.facts.open_globals = true,
            ("module", Some(Form::String(Some(package)))) => {
                self.facts.assigned.insert(package.clone());
                if let Some((first, _)) = package.split_once('.')
                    && first != "msys"
                {
                    self.facts.assigned.insert(first.to_owned());
                }
            }
            ("module", _) => self.facts.open_globals = true,
            ("rawset", Some(Form::Name(table))) if table == "_G" => self.facts.open_globals = true,
            _ => {}
        }
    }
}
