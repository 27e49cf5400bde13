//! Calls of declared functions: number and kinds of their arguments, their phase, and results that must not be thrown away.

use super::Severity;
use super::walk::{Finding, Walk};
use crate::dialect::tree::{Arguments, Expression, Form, Place};
use crate::registry::{Arg, Function, Param, Phase, Type};

/// Functions that report by their result whether mail was queued.
const MUST_BE_LOOKED_AT: &[(&str, &str)] = &[
    ("msg:inject", "false and a reason say that nothing was queued"),
    ("msg:forward", "false and a reason say that nothing was queued"),
];

/// Functions that do nothing but give a result.
const PURE: &[&str] = &[
    "msys.pcre.match",
    "msys.pcre.split",
    "msys.pcre.replace",
    "msys.base64.encode",
    "msys.base64.decode",
    "msys.qp.encode",
    "msys.qp.decode",
    "msys.dumper.Dumper",
    "msys.expandMacro",
    "msys.idn.to_idn",
    "msys.idn.to_utf8",
    "json.encode",
    "json.decode",
    "string.byte",
    "string.char",
    "string.find",
    "string.format",
    "string.gsub",
    "string.len",
    "string.lower",
    "string.match",
    "string.rep",
    "string.reverse",
    "string.sub",
    "string.upper",
    "table.concat",
    "tonumber",
    "tostring",
];

/// Methods of strings whose result is all that they do.
const PURE_METHODS: &[&str] = &["gsub", "lower", "upper", "format", "rep", "reverse", "sub"];

/// One call of something declared.
pub(super) struct Call<'a> {
    pub functions: &'a [&'static Function],
    /// As the policy writes it.
    pub shown: &'a str,
    /// Without the object of a method.
    pub arguments: &'a [Expression],
    pub place: Place,
    /// A message that the policy made itself may be worked on anywhere.
    pub own_object: bool,
}

impl Walk<'_> {
    pub(super) fn declared_call(&mut self, call: &Call<'_>) {
        if self.guarded > 0 {
            return; // `pcall(function() ... end)` and its like may mean to fail.
        }
        let problems: Vec<_> =
            call.functions.iter().map(|function| problem(function, call.arguments, call.place)).collect();
        if let Some(Some((place, severity, text))) = problems.first()
            && problems.iter().all(Option::is_some)
        {
            let signature = call.functions.iter().map(|f| format!("{}({})", f.name, f.signature()));
            let help = Some(signature.collect::<Vec<_>>().join(" or "));
            let text = format!("{}: {text}", call.shown);
            self.report(Finding { place: *place, severity: *severity, text, help });
        }
        self.phase(call.functions, call.shown, call.place, call.own_object);
    }

    /// A use of functions or fields in a hook.
    pub(super) fn phase(&mut self, functions: &[&'static Function], shown: &str, place: Place, own: bool) {
        let Some((phase, hook)) = self.running else { return };
        if own || self.guarded > 0 || functions.iter().any(|function| function.phases.documents(phase)) {
            return;
        }
        let Some(function) = functions.first() else { return };
        let works = functions.iter().any(|function| function.phases.works_in(phase));
        let severity = if works { Severity::Note } else { Severity::Error };
        let place_of = if phase == Phase::Init { "while a script is loaded" } else { hook };
        let text = if works {
            format!("{shown} works in {place_of}, but is not documented for it")
        } else {
            format!("{shown} cannot be used in {place_of}")
        };
        let help = Some(format!("its phases: {}", function.phases.label)).filter(|_| !function.phases.label.is_empty());
        self.report(Finding { place, severity, text, help });
    }

    /// A call that stands alone: is its result needed?
    pub(super) fn thrown_away(&mut self, name: &str, place: Place) {
        if let Some((_, help)) = MUST_BE_LOOKED_AT.iter().find(|(declared, _)| *declared == name) {
            self.warn(place, format!("the result of {name} is not looked at"), Some((*help).to_owned()));
        } else if PURE.contains(&name) {
            self.warn(place, format!("{name} only gives a result, and it is thrown away"), None);
        }
    }

    pub(super) fn method_thrown_away(&mut self, name: &str, place: Place) {
        if PURE_METHODS.contains(&name) {
            let help = Some("strings do not change: assign what it returns".to_owned());
            self.warn(place, format!("the method {name} only gives a result, and it is thrown away"), help);
        }
    }
}

/// What is wrong with the arguments; `None`: nothing that can be seen.
fn problem(function: &Function, arguments: &[Expression], call: Place) -> Option<(Place, Severity, String)> {
    let open = arguments.last().is_some_and(Expression::is_open);
    let fixed = if open { arguments.len() - 1 } else { arguments.len() };
    for (at, param) in function.params.iter().enumerate() {
        let number = at + 1;
        let Some(argument) = arguments.get(at) else {
            if open || param.optional || param.kind.takes(&Arg::Nil) {
                break;
            }
            let text = format!("argument {number} ({}) is missing: {} expected", param.name, param.kind.expected());
            return Some((call, Severity::Error, text));
        };
        if at < fixed
            && let Some(given) = misfit(param, argument)
        {
            let text = format!("argument {number} ({}): {} expected, got {given}", param.name, param.kind.expected());
            return Some((argument.place, Severity::Error, text));
        }
    }
    // A last parameter of any kind may stand for several: the words of `msys.config`.
    let variable = function.params.last().is_some_and(|param| param.name == "..." || param.kind == Type::Any);
    let extra = arguments.get(function.params.len()).filter(|_| !variable && fixed > function.params.len())?;
    let most = match function.params.len() {
        0 => "no argument".to_owned(),
        1 => "one argument".to_owned(),
        most => format!("{most} arguments"),
    };
    Some((extra.place, Severity::Warning, format!("takes {most} at most; the rest is ignored")))
}

/// What a literal is, where the parameter does not take it.
fn misfit(param: &Param, argument: &Expression) -> Option<&'static str> {
    let kind = param.kind;
    let takes = |value: Arg| kind.takes(&value);
    let names = |word: &str| kind.expected().contains(word) || kind == Type::Any;
    let (fits, given) = match &argument.form {
        Form::Nil => (param.optional || takes(Arg::Nil), "nil"),
        Form::True | Form::False => (takes(Arg::Boolean(true)), "boolean"),
        Form::Number => (takes(Arg::Number(1.0)), "number"),
        // Escapes make letters and digits too; what such a string holds is not known.
        Form::String(None) => (true, "string"),
        Form::String(Some(text)) => (takes(Arg::Bytes(text.as_bytes().into())), "string"),
        Form::Table(_) => (names("table"), "table"),
        Form::Function(_) => (names("function"), "function"),
        _ => return None,
    };
    (!fits).then_some(given)
}

/// The arguments of a call without the first.
pub(super) fn after_first(arguments: &Arguments) -> &[Expression] {
    arguments.values.get(1..).unwrap_or_default()
}
