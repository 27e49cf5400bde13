//! The walk through a policy's tree: which name is what, as far as that is certain.
//!
//! A value is followed from where it comes from (a global, `require`, a hook's parameter, the result of a declared function) through
//! locals to where it is used. A local that is assigned anew is not known any more. Nothing is guessed: what is not certainly
//! an object or a table of the API is never reported on.

use super::facts::Facts;
use super::hook_functions;
use super::names::Names;
use super::{Severity, hint, nearest};
use crate::dialect::tree::{Block, Expression, Form, Function, Item, Key, Name, Operator, Place, Statement, Suffix};
use crate::hooks::Hook;
use crate::registry::{self, Phase};
use std::collections::BTreeSet;

pub(super) struct Finding {
    pub place: Place,
    pub severity: Severity,
    pub text: String,
    pub help: Option<String>,
}

pub(super) struct Walk<'a> {
    pub facts: &'a Facts,
    pub names: &'static Names,
    pub found: Vec<Finding>,
    scopes: Vec<Vec<Local>>,
    /// The phase that the code runs in and the hook, where both are certain.
    pub running: Option<(Phase, &'static str)>,
    /// In how many functions we are that were handed to some other function, which may catch their errors.
    pub guarded: usize,
    /// Globals that were reported: once each.
    unassigned: BTreeSet<String>,
    /// Modules that were reported as registered nowhere.
    modules: BTreeSet<String>,
    /// Names that the policy asks for itself before it uses them: `if msg.colour then`.
    tested: BTreeSet<String>,
}

struct Local {
    name: String,
    what: What,
}

/// What a value is.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) enum What {
    #[default]
    Unknown,
    /// A local that no value was given to yet.
    Unset,
    /// Something under a global name: `msys.core`.
    Global(String),
    Object(Object),
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Object {
    pub class: &'static str,
    /// The policy made it itself.
    pub own: bool,
    /// Only by its name: a helper's parameter that is called as in hooks.
    pub conventional: bool,
}

/// How a value is used.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Use {
    Value,
    /// Whether it is there: `if x`, `x or y`, `x == nil`.
    Test,
}

/// Globals that the language itself provides without being in a table.
const LANGUAGE: &[&str] = &["_G", "_TLS", "_OSTLS", "arg", "_M", "_NAME", "_PACKAGE", "_VERSION"];

pub(super) fn walk(chunk: &Block, facts: &Facts, names: &'static Names) -> Vec<Finding> {
    let mut walk = Walk {
        facts,
        names,
        found: Vec::new(),
        scopes: vec![Vec::new()],
        running: Some((Phase::Init, "")),
        guarded: 0,
        unassigned: BTreeSet::new(),
        modules: BTreeSet::new(),
        tested: BTreeSet::new(),
    };
    walk.statements(chunk);
    walk.found
}

impl Walk<'_> {
    pub(super) fn report(&mut self, finding: Finding) {
        self.found.push(finding);
    }

    pub(super) fn warn(&mut self, place: Place, text: String, help: Option<String>) {
        self.report(Finding { place, severity: Severity::Warning, text, help });
    }

    // Scopes.

    fn block(&mut self, block: &Block) {
        self.scopes.push(Vec::new());
        self.statements(block);
        self.scopes.pop();
    }

    fn declare(&mut self, name: &str, what: What) {
        if let Some(scope) = self.scopes.last_mut() {
            scope.push(Local { name: name.to_owned(), what });
        }
    }

    fn local(&mut self, name: &str) -> Option<&mut Local> {
        self.scopes.iter_mut().rev().flat_map(|scope| scope.iter_mut().rev()).find(|local| local.name == name)
    }

    // Statements.

    fn statements(&mut self, block: &Block) {
        for statement in block {
            self.statement(statement);
        }
    }

    fn statement(&mut self, statement: &Statement) {
        match statement {
            Statement::Call(call) => {
                self.expression(call, Use::Value);
                self.result_ignored(call);
            }
            Statement::Assign { targets, values } => {
                for (at, target) in targets.iter().enumerate() {
                    self.assignment(target, values.get(at));
                }
                for value in values.iter().skip(targets.len()) {
                    self.expression(value, Use::Value);
                }
            }
            Statement::Local { names, values } => {
                let whats = self.values(values, names.len());
                for (name, what) in names.iter().zip(whats) {
                    let what = if values.is_empty() { What::Unset } else { what };
                    self.declare(&name.text, what);
                }
            }
            Statement::LocalFunction { name, function } => {
                self.declare(&name.text, What::Unknown);
                self.function(function, None);
            }
            Statement::Function { path, function } => {
                if let [first] = path.as_slice()
                    && let Some(local) = self.local(&first.text)
                {
                    local.what = What::Unknown;
                }
                let hook = match path.as_slice() {
                    [_, .., last] => self.hook_of(last, true),
                    _ => None,
                };
                if let (Some(_), [module, name]) = (hook, path.as_slice()) {
                    self.unregistered(module, name);
                }
                self.function(function, hook);
            }
            Statement::Return { values, .. } => {
                self.values(values, 0);
            }
            Statement::Break => {}
            Statement::Do(body) => self.block(body),
            Statement::While { condition, body } => {
                self.expression(condition, Use::Test);
                self.block(body);
            }
            Statement::Repeat { body, condition } => {
                self.scopes.push(Vec::new());
                self.statements(body);
                self.expression(condition, Use::Test);
                self.scopes.pop();
            }
            Statement::If { arms, otherwise } => {
                for (condition, body) in arms {
                    self.expression(condition, Use::Test);
                    self.block(body);
                }
                otherwise.iter().for_each(|body| self.block(body));
            }
            Statement::For { names, values, body } => {
                self.values(values, 0);
                self.scopes.push(Vec::new());
                for name in names {
                    self.declare(&name.text, What::Unknown);
                }
                self.statements(body);
                self.scopes.pop();
            }
        }
    }

    /// Evaluates a list for `wanted` targets.
    fn values(&mut self, values: &[Expression], wanted: usize) -> Vec<What> {
        let mut whats: Vec<What> = values.iter().map(|value| self.expression(value, Use::Value)).collect();
        whats.resize(wanted.max(whats.len()), What::Unknown);
        whats
    }

    fn assignment(&mut self, target: &Expression, value: Option<&Expression>) {
        match &target.form {
            Form::Name(name) => {
                let what = value.map_or(What::Unknown, |value| self.expression(value, Use::Value));
                if let Some(local) = self.local(name) {
                    local.what = if local.what == What::Unset { what } else { What::Unknown };
                }
            }
            Form::Suffixed { base, suffixes } => {
                let Some((last, before)) = suffixes.split_last() else { return };
                let owner = self.suffixed(base, before, Use::Value);
                match last {
                    Suffix::Field(name) => {
                        self.assign_field(&owner, name);
                        // `mod.validate_data = function(self, ...) end`.
                        if let (What::Unknown, Some(Form::Function(function))) = (&owner, value.map(|v| &v.form))
                            && let Some(hook) = self.hook_of(name, false)
                        {
                            self.hook(hook, function);
                            return;
                        }
                    }
                    Suffix::Index(key) => {
                        self.expression(key, Use::Value);
                    }
                    _ => {}
                }
                if let Some(value) = value {
                    self.expression(value, Use::Value);
                }
            }
            _ => {}
        }
    }

    fn assign_field(&mut self, owner: &What, name: &Name) {
        let What::Object(object) = owner else { return };
        if object.conventional || self.facts.open_classes {
            return;
        }
        let members = self.names.member(object.class, &name.text);
        let settable = members.iter().any(|member| matches!(member.call, registry::Call::Field { set: Some(_), .. }));
        if !settable && self.guarded == 0 {
            let text = format!("{}.{} cannot be assigned", object.class, name.text);
            self.report(Finding { place: name.place, severity: Severity::Error, text, help: None });
        }
    }

    /// A local table with hooks that is used as a value nowhere can have been given to nobody.
    fn unregistered(&mut self, module: &Name, hook: &Name) {
        let local = self.local(&module.text).is_some();
        if local && !self.facts.values.contains(&module.text) && self.modules.insert(module.text.clone()) {
            let text = format!("{} is never called: {} is registered nowhere", hook.text, module.text);
            let help = format!("msys.registerModule(\"name\", {}) at the end of the script", module.text);
            self.warn(hook.place, text, Some(help));
        }
    }

    // Functions.

    pub(super) fn function(&mut self, function: &Function, hook: Option<Hook>) {
        match hook {
            Some(hook) => self.hook(hook, function),
            None => {
                // At file level a function is only made; in a hook it mostly runs there.
                let before = self.running;
                self.running = before.filter(|(phase, _)| *phase != Phase::Init);
                self.body(function, |name| {
                    Walk::conventional(name).map(|class| What::Object(Object { class, own: true, conventional: true }))
                });
                self.running = before;
            }
        }
    }

    fn hook(&mut self, hook: Hook, function: &Function) {
        let before = self.running.replace((hook.phase(), hook.name()));
        let guarded = std::mem::take(&mut self.guarded);
        let classes = hook_functions::parameters(hook);
        let mut given = classes.iter();
        let mut at_self = true;
        let names = self.names;
        self.body(function, |_| {
            if std::mem::take(&mut at_self) {
                return None;
            }
            let class = names.class(given.next()?)?;
            Some(What::Object(Object { class, own: false, conventional: false }))
        });
        self.returned(hook, function);
        self.guarded = guarded;
        self.running = before;
    }

    fn body(&mut self, function: &Function, mut what: impl FnMut(&str) -> Option<What>) {
        let parameters = function
            .parameters
            .iter()
            .map(|name| Local { name: name.text.clone(), what: what(&name.text).unwrap_or_default() });
        let parameters = parameters.collect();
        self.scopes.push(parameters);
        self.block(&function.body);
        self.scopes.pop();
    }

    // Expressions.

    pub(super) fn expression(&mut self, expression: &Expression, used: Use) -> What {
        match &expression.form {
            Form::Function(function) => self.function(function, None),
            Form::Table(items) => items.iter().for_each(|item| self.item(item)),
            Form::Name(name) => return self.name(name, expression.place, used),
            Form::Parenthesized(inner) => return self.expression(inner, used),
            Form::Not(inner) => {
                self.expression(inner, Use::Test);
            }
            Form::Unary(inner) => {
                self.expression(inner, Use::Value);
            }
            Form::Binary { operator, operands } => return self.binary(*operator, operands, used),
            Form::Suffixed { base, suffixes } => return self.suffixed(base, suffixes, used),
            Form::Nil | Form::True | Form::False | Form::Number | Form::String(_) | Form::Dots => {}
        }
        What::Unknown
    }

    fn item(&mut self, item: &Item) {
        if let Key::Value(key) = &item.key {
            self.expression(key, Use::Value);
        }
        if let (Key::Name(name), Form::Function(function)) = (&item.key, &item.value.form)
            && let Some(hook) = self.hook_of(name, false)
        {
            self.hook(hook, function);
            return;
        }
        self.expression(&item.value, Use::Value);
    }

    fn binary(&mut self, operator: Operator, operands: &[Expression], used: Use) -> What {
        let nil = operands.iter().any(|operand| operand.form == Form::Nil);
        let mut whats = Vec::with_capacity(operands.len());
        for (at, operand) in operands.iter().enumerate() {
            let last = at + 1 == operands.len();
            let tested = match operator {
                Operator::Or | Operator::And if last => used == Use::Test,
                Operator::Or | Operator::And => true,
                Operator::Equality => nil,
                Operator::Other => false,
            };
            whats.push(self.expression(operand, if tested { Use::Test } else { Use::Value }));
        }
        // `msys.x or msys.y`, both known and the same.
        match operator {
            Operator::Or if whats.windows(2).all(|two| two[0] == two[1]) => whats.swap_remove(0),
            _ => What::Unknown,
        }
    }

    fn name(&mut self, name: &str, place: Place, used: Use) -> What {
        if let Some(local) = self.local(name) {
            return match &local.what {
                What::Unset => What::Unknown,
                what => what.clone(),
            };
        }
        if self.facts.assigns(name) && self.names.sort(name).is_none() {
            return What::Unknown;
        }
        if self.names.sort(name).is_some() || LANGUAGE.contains(&name) {
            return What::Global(name.to_owned());
        }
        if used == Use::Value {
            self.unassigned(name, place);
        }
        What::Unknown
    }

    /// The shortest name that a typing mistake is looked for in, where globals may come from elsewhere.
    const LENGTH_MIN: usize = 4;

    fn unassigned(&mut self, name: &str, place: Place) {
        let locals = self.scopes.iter().flatten().map(|local| local.name.as_str());
        let known = locals.chain(self.facts.globals()).chain(self.names.globals());
        let meant = nearest(name, known.filter(|known| *known != name)).map(str::to_owned);
        if self.facts.open_globals && (meant.is_none() || name.len() < Walk::LENGTH_MIN) {
            return;
        }
        if self.unassigned.insert(name.to_owned()) {
            let text = format!("the global {name} is never assigned: it is nil");
            self.warn(place, text, hint(meant.as_deref()));
        }
    }

    pub(super) fn suffixed(&mut self, base: &Expression, suffixes: &[Suffix], used: Use) -> What {
        let mut what = match suffixes.is_empty() {
            true => return self.expression(base, used),
            false => self.expression(base, Use::Value),
        };
        let mut shown = base.name().unwrap_or_default().to_owned();
        let mut place = base.place;
        let mut at = 0;
        while let Some(suffix) = suffixes.get(at) {
            let follows = suffixes.get(at + 1);
            let tested = used == Use::Test && follows.is_none();
            match suffix {
                Suffix::Field(name) => {
                    shown = format!("{shown}.{}", name.text);
                    place = place.to(name.place);
                    if let (What::Object(object), Some(Suffix::Call(arguments))) = (&what, follows) {
                        let object = object.clone();
                        what = self.dotted_call(&object, name, arguments);
                        at += 2;
                        continue;
                    }
                    what = self.field(&what, name, place, tested, matches!(follows, Some(Suffix::Call(_))));
                }
                Suffix::Index(key) => {
                    self.expression(key, Use::Value);
                    what = What::Unknown;
                }
                Suffix::Method(name, arguments) => {
                    if at == 0 && what == What::Unknown {
                        self.own_method(base, name);
                    }
                    what = self.method_call(&what, name, arguments);
                }
                Suffix::Call(arguments) => what = self.call(&what, &shown, place, arguments),
            }
            at += 1;
        }
        what
    }

    fn field(&mut self, owner: &What, name: &Name, place: Place, tested: bool, called: bool) -> What {
        match owner {
            What::Global(path) if path == "_G" => What::Unknown,
            What::Global(path) => {
                let full = format!("{path}.{}", name.text);
                if self.names.sort(&full).is_some() {
                    return What::Global(full);
                }
                if tested {
                    self.tested.insert(full.clone());
                }
                if self.tested.contains(&full) || self.facts.assigns(&full) {
                    return What::Unknown;
                }
                // What is only read from `msys` may be another script's; what is called would have to be there now.
                let ours = path == "msys" || path.starts_with("msys.");
                if called && ours || path != "msys" && self.names.is_closed(path) {
                    let meant = nearest(&full, self.names.all());
                    self.warn(place, format!("{full} is not there"), hint(meant));
                    return What::Unknown;
                }
                if ours { What::Global(full) } else { What::Unknown }
            }
            What::Object(object) => {
                let object = object.clone();
                let members = self.member(&object, name, tested);
                match members.first() {
                    Some(member) if member.is_field() => {
                        let shown = format!("{}.{}", object.class, name.text);
                        self.phase(members, &shown, name.place, object.own);
                        self.result(member, object.own || object.class == "msg")
                    }
                    _ => What::Unknown,
                }
            }
            _ => What::Unknown,
        }
    }

    /// The declarations of an object's field or method; none is reported, as far as that is certain.
    pub(super) fn member(
        &mut self,
        object: &Object,
        name: &Name,
        tested: bool,
    ) -> &'static [&'static registry::Function] {
        let names = self.names;
        let members = names.member(object.class, &name.text);
        if tested {
            self.tested.insert(name.text.clone());
        }
        let excused =
            self.tested.contains(&name.text) || self.facts.open_classes || self.facts.fields.contains(&name.text);
        if !members.is_empty() || excused || names.falls_through(object.class, &name.text) {
            return members;
        }
        let all = names.class_members(object.class);
        let meant = nearest(&name.text, all.map(registry::Function::short_name));
        if meant.is_none() && object.conventional {
            return members;
        }
        let full = meant.and_then(|meant| names.member(object.class, meant).first()).map(|function| function.name);
        let text = format!("{} has no field or method {}", object.class, name.text);
        self.warn(name.place, text, hint(full));
        members
    }
}
