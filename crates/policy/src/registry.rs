//! The declaration of the policy API: every function is one static value, and everything else follows from it.
//!
//! A `Function` says its name, parameters with types, package, version, phases, documentation and implementation. From that
//! come the registration in Lua, the argument errors (`bad argument #2 to 'msys.counter.add' (number expected, got nil)`), the
//! phase check, the machine-readable list, the reference pages and the editor stubs (`reference.rs`). No list of functions is
//! kept by hand a second time.

use crate::api::misc::domain::DomainRecord;
use crate::host::Host;
use crate::objects::{Message, Session};
use crate::userdata::{self, EcString};
use bytes::Bytes;
use futures_util::future::BoxFuture;
use mlua::{AnyUserData, Lua, MultiValue, Value};
use std::sync::Arc;

pub use arguments::{Arg, Args};
pub(crate) use arguments::{Object, Receiver};
pub(crate) use arguments::{bytes_of, format_number, number_of};
pub use phases::{Phase, Phases};

mod arguments;
mod install;
mod phases;
pub mod plugin;
pub mod reference;

pub(crate) use install::{install, package, place_of};

/// One table of the API: a file of `api/`.
pub struct Table {
    /// As the function list calls it: `accept`, `message`, `misc` ...
    pub name: &'static str,
    /// The package that most functions of the table belong to.
    pub package: &'static str,
    pub functions: &'static [&'static Function],
}

/// One function, method or field of the API.
pub struct Function {
    /// `msys.counter.add` (a function), `msg:header` (a method) or `msg.id` (a field).
    pub name: &'static str,
    /// Where it is not the table's.
    pub package: &'static str,
    /// The first version of the reference that has it; empty for what is beyond the function list.
    pub since: &'static str,
    pub phases: Phases,
    pub params: &'static [Param],
    pub returns: &'static [Return],
    pub deprecated: bool,
    pub doc: &'static str,
    /// The page of Momentum's reference.
    pub page: &'static str,
    /// Further names under which policies know it.
    pub aliases: &'static [&'static str],
    /// When it raises, beyond what holds for all: arguments of a wrong type, a phase where it cannot work.
    pub raises: &'static str,
    /// A few lines of a policy: the body of a hook that has `msg`, `ac` and `vctx`. A test runs it.
    pub example: &'static str,
    pub call: Call,
}

/// What most functions share; a declaration ends in `..FUNCTION`.
pub const FUNCTION: Function = Function {
    name: "",
    package: "",
    since: "",
    phases: Phases::ANY,
    params: &[],
    returns: &[],
    deprecated: false,
    doc: "",
    page: "",
    aliases: &[],
    raises: "",
    example: "",
    call: Call::Sync(|_, _| Ok(Ret::None)),
};

pub struct Param {
    pub name: &'static str,
    pub kind: Type,
    pub optional: bool,
    pub listed: Listed,
    pub doc: &'static str,
}

/// How the function list has a parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Listed {
    AsItIs,
    /// Without brackets, though it may be left out.
    Required,
    Not,
}

/// A required parameter.
pub const fn param(name: &'static str, kind: Type, doc: &'static str) -> Param {
    Param { name, kind, optional: false, listed: Listed::AsItIs, doc }
}

/// A parameter that may be nil or left out.
pub const fn optional(name: &'static str, kind: Type, doc: &'static str) -> Param {
    Param { name, kind, optional: true, listed: Listed::AsItIs, doc }
}

/// One that may be left out and that the function list does not name.
pub const fn unlisted(name: &'static str, kind: Type, doc: &'static str) -> Param {
    Param { name, kind, optional: true, listed: Listed::Not, doc }
}

/// One that may be left out, though the function list has it without brackets.
pub const fn omissible(name: &'static str, kind: Type, doc: &'static str) -> Param {
    Param { name, kind, optional: true, listed: Listed::Required, doc }
}

/// One returned value: its type in the editor's annotation language, and what it is.
pub struct Return {
    pub kind: &'static str,
    pub doc: &'static str,
}

pub const fn returns(kind: &'static str, doc: &'static str) -> Return {
    Return { kind, doc }
}

/// The type of a parameter. Numbers are taken for strings and numeric strings for numbers, as in Lua; an ec_string or a
/// JSON value is taken for a string.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Type {
    Any,
    Integer,
    Number,
    String,
    /// A string, a number or a boolean: what a context holds. Nil changes nothing there.
    Scalar,
    /// One string or an array of them.
    Strings,
    Table,
    EcString,
    Message,
    Part,
    Accept,
    Validate,
    Userdata,
}

impl Type {
    /// As an argument error names it.
    pub fn expected(self) -> &'static str {
        match self {
            Type::Any => "value",
            Type::Integer | Type::Number => "number",
            Type::String => "string",
            Type::Scalar => "string, number or boolean",
            Type::Strings => "string or table",
            Type::Table => "table",
            Type::EcString => "ec_string",
            Type::Message => "message",
            Type::Part => "message_part",
            Type::Accept => "accept_construct",
            Type::Validate => "validate_context",
            Type::Userdata => "userdata",
        }
    }

    /// As the editor stubs name it.
    pub fn annotation(self) -> &'static str {
        match self {
            Type::Any | Type::Userdata => "any",
            Type::Integer => "integer",
            Type::Number => "number",
            Type::String => "string|ec_string",
            Type::Scalar => "string|number|boolean|nil",
            Type::Strings => "string|string[]",
            Type::Table => "table",
            Type::EcString => "ec_string",
            Type::Message => "msg",
            Type::Part => "msgpart",
            Type::Accept => "ac",
            Type::Validate => "vctx",
        }
    }

    /// Whether `value` may be given for it.
    pub(crate) fn takes(self, value: &Arg) -> bool {
        match (self, value) {
            (Type::Any, _)
            | (Type::Scalar, Arg::Boolean(_) | Arg::Nil)
            | (Type::Integer | Type::Number | Type::String | Type::Scalar | Type::Strings, Arg::Number(_))
            | (Type::String | Type::Scalar | Type::Strings, Arg::Bytes(_)) => true,
            (Type::Integer | Type::Number, Arg::Bytes(text)) => arguments::number_in(text).is_some(),
            (_, Arg::Value(value)) => self.takes_value(value),
            _ => false,
        }
    }

    fn takes_value(self, value: &Value) -> bool {
        match (self, value) {
            (Type::Strings | Type::Table, Value::Table(_)) | (Type::Userdata, Value::UserData(_)) => true,
            (Type::EcString, Value::UserData(data)) => data.is::<EcString>(),
            (Type::String | Type::Scalar | Type::Strings, Value::UserData(data)) => {
                data.is::<EcString>() || data.is::<crate::api::json::Object>()
            }
            (Type::Message, Value::UserData(data)) => data.is::<userdata::Msg>(),
            (Type::Part, Value::UserData(data)) => data.is::<userdata::Part>(),
            (Type::Accept, Value::UserData(data)) => data.is::<userdata::Accept>(),
            (Type::Validate, Value::UserData(data)) => data.is::<userdata::Validate>(),
            _ => false,
        }
    }
}

/// What runs at once.
pub type SyncCall = fn(&Ctx<'_>, &Args) -> Result<Ret, ApiError>;

/// The implementation.
pub enum Call {
    /// Runs at once, inside the state.
    Sync(SyncCall),
    /// May wait: the policy's coroutine is suspended and the state is free for other sessions meanwhile.
    Async(fn(Ctx<'static>, Args) -> BoxFuture<'static, Result<Ret, ApiError>>),
    /// Another form of the function of the same name that is declared before it and does the work: a page of its own in the
    /// reference.
    Form,
    /// Written in Lua (`thread.lua`, `pool.lua`), with its checks; only declared here.
    Lua,
    /// A field: how to read it, and how to assign it where it is writable. `Args` hold the object, then the new value.
    Field { get: SyncCall, set: Option<SyncCall> },
}

/// What an implementation works with.
pub struct Ctx<'a> {
    pub lua: std::borrow::Cow<'a, Lua>,
    pub host: std::borrow::Cow<'a, Arc<Host>>,
    pub function: &'static Function,
}

impl Ctx<'_> {
    pub fn bytes(&self, bytes: &[u8]) -> Result<Value, ApiError> {
        Ok(Value::String(self.lua.create_string(bytes)?))
    }

    /// `nil, text`: how a function reports a failure that is no mistake of the caller.
    pub fn failure(&self, text: &str) -> Result<Ret, ApiError> {
        Ok(Ret::Two(Value::Nil, self.bytes(text.as_bytes())?))
    }

    /// One string.
    pub fn string(&self, bytes: &[u8]) -> Result<Ret, ApiError> {
        Ok(Ret::Bytes(Bytes::copy_from_slice(bytes)))
    }

    /// An array of strings.
    pub fn strings<S: AsRef<[u8]>>(&self, items: impl IntoIterator<Item = S>) -> Result<Ret, ApiError> {
        let table = self.lua.create_table()?;
        for (index, item) in items.into_iter().enumerate() {
            table.raw_set(index + 1, self.lua.create_string(item)?)?;
        }
        Ok(Ret::One(Value::Table(table)))
    }

    /// The phase of the running hook.
    pub fn phase(&self) -> Phase {
        self.host.phase()
    }

    /// `header: no such thing`, with the name of this function in front, as a Lua error.
    pub fn raise(&self, text: impl std::fmt::Display) -> ApiError {
        ApiError::Raise(format!("{}: {text}", self.function.short_name()))
    }
}

/// The returned values.
#[derive(Debug)]
pub enum Ret {
    None,
    One(Value),
    /// One string, without a detour through a value.
    Bytes(Bytes),
    Two(Value, Value),
    Many(Vec<Value>),
}

impl Ret {
    pub const NIL: Ret = Ret::One(Value::Nil);
    pub const FALSE: Ret = Ret::One(Value::Boolean(false));

    pub fn number(number: f64) -> Ret {
        Ret::One(Value::Number(number))
    }

    pub fn integer(number: i64) -> Ret {
        Ret::One(Value::Integer(number))
    }

    pub fn flag(flag: bool) -> Ret {
        Ret::One(Value::Integer(i64::from(flag)))
    }

    /// The one value of a function that is declared with one. `roomy`: the memory limit is far off.
    pub(crate) fn into_one(self, roomy: bool) -> Out {
        match self {
            Ret::None => Out::Value(Value::Nil),
            Ret::One(value) | Ret::Two(value, _) => Out::Value(value),
            Ret::Bytes(bytes) => Out::Bytes(bytes, roomy),
            Ret::Many(values) => Out::Value(values.into_iter().next().unwrap_or_default()),
        }
    }

    pub(crate) fn into_multi(self, lua: &Lua) -> mlua::Result<MultiValue> {
        Ok(match self {
            Ret::None => MultiValue::new(),
            Ret::One(value) => MultiValue::from_iter([value]),
            Ret::Bytes(bytes) => MultiValue::from_iter([Value::String(lua.create_string(bytes)?)]),
            Ret::Two(one, two) => MultiValue::from_iter([one, two]),
            Ret::Many(values) => MultiValue::from_vec(values),
        })
    }
}

/// One returned value on its way to Lua's stack.
pub(crate) enum Out {
    Value(Value),
    /// With `Host::is_roomy`.
    Bytes(Bytes, bool),
}

/// Why a function raises.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// The caller gave something of the wrong type or value; `at` counts from 1, `self` not included.
    #[error("bad argument #{at} to '{function}' ({problem})")]
    Argument { function: &'static str, at: usize, problem: String },
    #[error("{0}")]
    Raise(String),
    /// A session or message that has ended (`session is closed`).
    #[error("{0}")]
    Gone(&'static str),
    #[error(transparent)]
    Lua(#[from] mlua::Error),
}

impl Function {
    /// What stands before `:` or the last dot.
    pub fn owner(&self) -> &'static str {
        self.name.rsplit_once([':', '.']).map_or("", |(owner, _)| owner)
    }

    /// What stands after it.
    pub fn short_name(&self) -> &'static str {
        self.name.rsplit_once([':', '.']).map_or(self.name, |(_, short)| short)
    }

    pub fn is_method(&self) -> bool {
        self.name.contains(':')
    }

    pub fn is_field(&self) -> bool {
        matches!(self.call, Call::Field { .. })
    }

    /// The class whose objects carry it.
    pub(crate) fn class(&self) -> Option<userdata::Class> {
        (self.is_method() || self.is_field()).then(|| userdata::Class::of_owner(self.owner())).flatten()
    }

    /// The parameters: `hdr, [value], [mode]`.
    pub fn signature(&self) -> String {
        names(self.params.iter().map(|param| (param.name, param.optional)))
    }

    /// Those of the function list, as it writes them.
    pub fn listed_signature(&self) -> String {
        let listed = self.params.iter().filter(|param| param.listed != Listed::Not);
        names(listed.map(|param| (param.name, param.optional && param.listed != Listed::Required)))
    }

    /// When it raises, each in a clause: what holds for every function of its kind, then what is its own.
    pub fn errors(&self) -> Vec<String> {
        let mut errors = Vec::new();
        let typed = || self.params.iter().filter(|param| param.kind != Type::Any);
        if let Some(param) = typed().find(|param| !param.optional).or_else(|| typed().next()) {
            let missing = if param.optional { "" } else { "is missing or " };
            errors.push(format!(
                "`bad argument #N to '{}' ({} expected, got ...)` for an argument that {missing}has another type",
                self.name,
                param.kind.expected()
            ));
        }
        if let Call::Field { set: None, .. } = self.call {
            errors.push(format!("`cannot assign field '{}'`", self.short_name()));
        }
        if ["ac", "vctx"].contains(&self.owner()) {
            errors.push("`session is closed` once the session has ended".to_owned());
        }
        if !self.phases.works_everywhere() {
            errors.push("`not available in phase ...` where it cannot work".to_owned());
        }
        if !self.raises.is_empty() {
            errors.push(self.raises.to_owned());
        }
        errors
    }

    /// The example without the indentation that it has in its declaration.
    pub fn example(&self) -> String {
        let lines = || self.example.lines().filter(|line| !line.trim().is_empty());
        let indent = lines().map(|line| line.len() - line.trim_start().len()).min().unwrap_or(0);
        lines().map(|line| format!("{}\n", &line[indent..])).collect()
    }

    pub(crate) fn bad_argument(&'static self, at: usize, problem: impl Into<String>) -> ApiError {
        ApiError::Argument { function: self.name, at: at + 1, problem: problem.into() }
    }
}

/// `hdr, [value], [mode]` of names and whether each may be left out.
fn names(params: impl Iterator<Item = (&'static str, bool)>) -> String {
    let name = |(name, optional): (&str, bool)| if optional { format!("[{name}]") } else { name.to_owned() };
    params.map(name).collect::<Vec<_>>().join(", ")
}

/// The message behind a Lua value, if it is one that still lives.
pub(crate) fn message_of(data: &AnyUserData) -> Option<Arc<Message>> {
    data.borrow::<userdata::Msg>().ok()?.message()
}

pub(crate) fn session_of(data: &AnyUserData) -> Option<Arc<Session>> {
    if let Ok(validate) = data.borrow::<userdata::Validate>() {
        return validate.session();
    }
    data.borrow::<userdata::Accept>().ok()?.session()
}

/// The name of a value's type as an argument error gives it.
pub(crate) fn type_name(value: &Value) -> String {
    match value {
        Value::UserData(data) if data.is::<DomainRecord>() => DomainRecord::CLASS.to_owned(),
        Value::UserData(data) => userdata::Class::of(data).map_or("userdata".to_owned(), |c| c.name().to_owned()),
        Value::Integer(_) | Value::Number(_) => "number".to_owned(),
        Value::LightUserData(_) | Value::Error(_) => "userdata".to_owned(),
        other => other.type_name().to_owned(),
    }
}
