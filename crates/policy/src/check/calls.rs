//! Calls: of methods, of functions under a global name, of `require`; what they give, and whether it is thrown away.

use super::arguments::{Call, after_first};
use super::names::{Declared, Sort};
use super::walk::{Finding, Object, Use, Walk, What};
use super::{Severity, hint, nearest};
use crate::dialect::tree::{Arguments, Expression, Form, Name, Place, Suffix};
use crate::registry;

impl Walk<'_> {
    /// `self:lokup()` of a module that has a `lookup`: only a near miss of its own functions is reported.
    pub(super) fn own_method(&mut self, base: &Expression, name: &Name) {
        let Some(owner) = base.name() else { return };
        if self.facts.fields.contains(&name.text) {
            return;
        }
        let methods = self.facts.methods(owner);
        if let Some(meant) = nearest(&name.text, methods).map(str::to_owned) {
            self.warn(name.place, format!("{owner}:{} is not there", name.text), hint(Some(&meant)));
        }
    }

    pub(super) fn method_call(&mut self, owner: &What, name: &Name, arguments: &Arguments) -> What {
        self.arguments(arguments);
        let What::Object(object) = owner else { return What::Unknown };
        let object = object.clone();
        let members = self.member(&object, name, false);
        let Some(first) = members.first() else { return What::Unknown };
        if first.is_field() {
            if !object.conventional {
                let help = Some(format!("write {}.{}", object.class, name.text));
                self.warn(name.place, format!("{} is a field, no method", first.name), help);
            }
            return What::Unknown;
        }
        // A helper's `msg` may be a text of its own.
        if !object.conventional || object.class != "msg" {
            self.declared_call(&Call {
                functions: members,
                shown: first.name,
                arguments: &arguments.values,
                place: name.place.to(arguments.place),
                own_object: object.own,
            });
        }
        self.result(first, true)
    }

    /// `msg.header(...)`: a method called without its object, unless the object is the first argument.
    pub(super) fn dotted_call(&mut self, object: &Object, name: &Name, arguments: &Arguments) -> What {
        self.arguments(arguments);
        let members = self.member(object, name, false);
        let Some(method) = members.first().filter(|member| member.is_method()) else { return What::Unknown };
        let given = arguments.values.first().map(|value| &value.form);
        let literal = matches!(
            given,
            None | Some(Form::Nil | Form::True | Form::False | Form::Number | Form::String(_) | Form::Table(_))
        );
        if literal && !object.conventional && self.guarded == 0 {
            let text = format!("{} is a method, and called without its object", method.name);
            let help = Some(format!("write {}(...) with a colon", method.name));
            self.report(Finding { place: name.place, severity: Severity::Error, text, help });
        }
        self.result(method, true)
    }

    pub(super) fn call(&mut self, callee: &What, shown: &str, place: Place, arguments: &Arguments) -> What {
        let What::Global(path) = callee else {
            self.arguments(arguments);
            return What::Unknown;
        };
        let names = self.names;
        let declared = names.functions(path);
        self.arguments(arguments);
        if path == "require" {
            return self.require(arguments);
        }
        let Some(Declared { function, object_first }) = declared.first() else { return What::Unknown };
        let functions: Vec<&'static registry::Function> = declared.iter().map(|declared| declared.function).collect();
        let open = arguments.values.len() == 1 && arguments.values[0].is_open();
        let values = if *object_first { after_first(arguments) } else { &arguments.values };
        if !(*object_first && open) {
            self.declared_call(&Call {
                functions: &functions,
                shown,
                arguments: values,
                place: place.to(arguments.place),
                // Whose object it is given is not followed.
                own_object: *object_first,
            });
        }
        self.result(function, true)
    }

    /// Functions among the arguments run when the called function likes, and `pcall` is handed what may fail.
    fn arguments(&mut self, arguments: &Arguments) {
        for value in &arguments.values {
            if let Form::Function(function) = &value.form {
                let running = self.running.take();
                self.guarded += 1;
                self.function(function, None);
                self.guarded -= 1;
                self.running = running;
            } else {
                self.expression(value, Use::Value);
            }
        }
    }

    fn require(&mut self, arguments: &Arguments) -> What {
        let Some(Expression { form: Form::String(Some(package)), place }) = arguments.values.first() else {
            return What::Unknown;
        };
        if self.facts.missing.contains(package) {
            let meant = nearest(package, self.names.all());
            self.warn(*place, format!("there is no package {package}, and no file of it"), hint(meant));
            return What::Unknown;
        }
        match self.names.sort(package) {
            Some(Sort::Table) if !self.facts.assigns(package) => What::Global(package.clone()),
            _ => What::Unknown,
        }
    }

    /// What a declared function or field gives, where that is an object: `msg|nil`.
    pub(super) fn result(&self, function: &registry::Function, own: bool) -> What {
        let Some(kind) = function.returns.first().map(|value| value.kind) else { return What::Unknown };
        let kinds: Vec<&str> = kind.split('|').filter(|kind| !["nil", "boolean", "false"].contains(kind)).collect();
        let class = match kinds.as_slice() {
            [kind] => self.names.class(kind),
            _ => None,
        };
        // `mc.message` is the session's message, not one of the policy's own.
        let own = own && function.owner() != "mc";
        class.map_or(What::Unknown, |class| What::Object(Object { class, own, conventional: false }))
    }

    pub(super) fn result_ignored(&mut self, call: &Expression) {
        if self.guarded > 0 {
            return;
        }
        let Form::Suffixed { base, suffixes } = &call.form else { return };
        let Some((last, before)) = suffixes.split_last() else { return };
        // With a function as its last argument `gsub` is called for what that does.
        let (name, arguments) = match (last, before.last()) {
            (Suffix::Method(name, arguments), _) => (name.text.as_str(), arguments),
            (Suffix::Call(arguments), Some(Suffix::Field(name))) => (name.text.as_str(), arguments),
            (Suffix::Call(arguments), _) => ("", arguments),
            _ => return,
        };
        let replacement = arguments.values.last().map(|value| &value.form);
        if name == "gsub" && !matches!(replacement, Some(Form::String(_) | Form::Binary { .. })) {
            return;
        }
        // What was found in it is known already.
        let found = self.found.len();
        let owner = self.suffixed(base, before, Use::Value);
        self.found.truncate(found);
        match (last, owner) {
            (Suffix::Method(name, _), What::Object(object)) => {
                let member = self.names.member(object.class, &name.text).first();
                if let Some(member) = member {
                    self.thrown_away(member.name, call.place);
                }
            }
            (Suffix::Method(name, arguments), What::Unknown) if !self.facts.fields.contains(&name.text) => {
                // Of a string, as far as can be seen: `text:gsub("a", "b")`.
                let text = arguments.values.first().is_some_and(|value| matches!(value.form, Form::String(_)));
                if text || arguments.values.is_empty() && ["lower", "upper", "reverse"].contains(&name.text.as_str()) {
                    self.method_thrown_away(&name.text, call.place);
                }
            }
            (Suffix::Call(_), What::Global(path)) => self.thrown_away(&path, call.place),
            _ => {}
        }
    }
}
