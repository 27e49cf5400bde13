//! The arguments of one call, checked against the declaration before the implementation sees them.

use super::{ApiError, Function, Type, type_name};
use crate::objects::{Message, Session};
use crate::userdata::{Accept, Construct, EcString, Msg, Part, Validate};
use mlua::{AnyUserData, Lua, Table, Value};
use std::borrow::Cow;
use std::marker::PhantomData;
use std::sync::Arc;

/// One argument, taken out of Lua's stack.
#[derive(Clone, Debug, Default)]
pub enum Arg {
    #[default]
    Nil,
    Boolean(bool),
    Number(f64),
    Bytes(Box<[u8]>),
    /// Tables, functions, objects, coroutines.
    Value(Value),
}

impl From<Value> for Arg {
    fn from(value: Value) -> Arg {
        match value {
            Value::Nil => Arg::Nil,
            Value::Boolean(value) => Arg::Boolean(value),
            Value::Integer(number) => Arg::Number(number as f64),
            Value::Number(number) => Arg::Number(number),
            Value::String(text) => Arg::Bytes((&*text.as_bytes()).into()),
            other => Arg::Value(other),
        }
    }
}

impl Arg {
    pub fn is_nil(&self) -> bool {
        matches!(self, Arg::Nil)
    }

    /// As a value of Lua again.
    pub fn to_value(&self, lua: &Lua) -> mlua::Result<Value> {
        Ok(match self {
            Arg::Nil => Value::Nil,
            Arg::Boolean(value) => Value::Boolean(*value),
            Arg::Number(number) => Value::Number(*number),
            Arg::Bytes(bytes) => Value::String(lua.create_string(bytes)?),
            Arg::Value(value) => value.clone(),
        })
    }

    /// The name of its type, objects of the engine by their class.
    pub fn type_name(&self) -> String {
        match self {
            Arg::Nil => "nil".to_owned(),
            Arg::Boolean(_) => "boolean".to_owned(),
            Arg::Number(_) => "number".to_owned(),
            Arg::Bytes(_) => "string".to_owned(),
            Arg::Value(value) => type_name(value),
        }
    }

    /// What it is as a string: strings, numbers as Lua prints them, ec_strings.
    pub fn as_bytes(&self) -> Option<Cow<'_, [u8]>> {
        Some(match self {
            Arg::Bytes(bytes) => Cow::Borrowed(bytes),
            Arg::Number(number) => Cow::Owned(format_number(*number).into_bytes()),
            Arg::Value(Value::UserData(data)) => Cow::Owned(text_of(data)?),
            _ => return None,
        })
    }

    pub fn as_number(&self) -> Option<f64> {
        match self {
            Arg::Number(number) => Some(*number),
            Arg::Bytes(text) => number_in(text),
            _ => None,
        }
    }
}

/// What a method was called on.
pub(crate) enum Object {
    None,
    Message(Msg),
    Part(Part),
    Accept(Accept),
    Validate(Validate),
    Str(EcString),
    Construct(Construct),
    /// Not an object of the method's class.
    Wrong(Value),
}

impl From<Msg> for Object {
    fn from(object: Msg) -> Object {
        Object::Message(object)
    }
}

impl From<Part> for Object {
    fn from(object: Part) -> Object {
        Object::Part(object)
    }
}

impl From<Accept> for Object {
    fn from(object: Accept) -> Object {
        Object::Accept(object)
    }
}

impl From<Validate> for Object {
    fn from(object: Validate) -> Object {
        Object::Validate(object)
    }
}

impl From<EcString> for Object {
    fn from(object: EcString) -> Object {
        Object::Str(object)
    }
}

impl From<Construct> for Object {
    fn from(object: Construct) -> Object {
        Object::Construct(object)
    }
}

/// The first argument of a method of class `T`.
pub(crate) struct Receiver<T> {
    pub(super) object: Object,
    class: PhantomData<T>,
}

impl<T: Clone + Into<Object> + 'static> Receiver<T> {
    pub(crate) fn new(object: Object) -> Receiver<T> {
        Receiver { object, class: PhantomData }
    }

    pub(crate) fn of(value: Value) -> Receiver<T> {
        if let Value::UserData(data) = &value
            && let Ok(object) = data.borrow::<T>()
        {
            return Receiver::new((*object).clone().into());
        }
        Receiver::new(Object::Wrong(value))
    }
}

/// The arguments of one call. Index 0 is the first declared parameter; the object of a method or field is apart.
pub struct Args {
    function: &'static Function,
    object: Object,
    values: Values,
}

/// Up to four values come without an allocation: nearly all calls.
enum Values {
    Few([Arg; 4]),
    Many(Vec<Arg>),
}

impl Args {
    pub(super) fn few(function: &'static Function, object: Object, values: [Arg; 4]) -> Args {
        Args { function, object, values: Values::Few(values) }
    }

    /// Any number of values; the object of a method is the first of them.
    pub(super) fn many(function: &'static Function, mut values: Vec<Arg>) -> Args {
        if function.class().is_none() {
            return Args { function, object: Object::None, values: Values::Many(values) };
        }
        let first = if values.is_empty() { Arg::Nil } else { values.remove(0) };
        let object = match first {
            Arg::Value(Value::UserData(data)) => object_of(data),
            Arg::Value(value) => Object::Wrong(value),
            _ => Object::Wrong(Value::Nil),
        };
        Args { function, object, values: Values::Many(values) }
    }

    pub(super) fn with_object(function: &'static Function, object: Object, values: Vec<Arg>) -> Args {
        Args { function, object, values: Values::Many(values) }
    }

    /// Checks every value against its parameter.
    pub(super) fn check(&self) -> Result<(), ApiError> {
        for (at, param) in self.function.params.iter().enumerate() {
            let value = self.arg(at);
            let left_out = param.optional && value.is_nil();
            if !left_out && !param.kind.takes(value) {
                return Err(self.mismatch(at, param.kind));
            }
        }
        Ok(())
    }

    fn mismatch(&self, at: usize, kind: Type) -> ApiError {
        let got = self.arg(at).type_name();
        self.function.bad_argument(at, format!("{} expected, got {got}", kind.expected()))
    }

    pub fn arg(&self, at: usize) -> &Arg {
        const NIL: &Arg = &Arg::Nil;
        match &self.values {
            Values::Few(values) => values.get(at).unwrap_or(NIL),
            Values::Many(values) => values.get(at).unwrap_or(NIL),
        }
    }

    pub fn is_nil(&self, at: usize) -> bool {
        self.arg(at).is_nil()
    }

    /// How many values were given, nil at the end included: exact for functions with several forms and for those that wait.
    pub(crate) fn count(&self) -> usize {
        match &self.values {
            Values::Few(values) => values.iter().rposition(|value| !value.is_nil()).map_or(0, |last| last + 1),
            Values::Many(values) => values.len(),
        }
    }

    /// The bytes of a string argument; numbers as Lua prints them.
    pub fn bytes(&self, at: usize) -> Result<Cow<'_, [u8]>, ApiError> {
        self.arg(at).as_bytes().ok_or_else(|| self.mismatch(at, Type::String))
    }

    /// The same as text; bytes that are no UTF-8 become U+FFFD.
    pub fn text(&self, at: usize) -> Result<Cow<'_, str>, ApiError> {
        Ok(match self.bytes(at)? {
            Cow::Borrowed(bytes) => String::from_utf8_lossy(bytes),
            Cow::Owned(bytes) => Cow::Owned(String::from_utf8_lossy(&bytes).into_owned()),
        })
    }

    pub fn optional_text(&self, at: usize) -> Result<Option<Cow<'_, str>>, ApiError> {
        if self.is_nil(at) { Ok(None) } else { self.text(at).map(Some) }
    }

    pub fn number(&self, at: usize) -> Result<f64, ApiError> {
        self.arg(at).as_number().ok_or_else(|| self.mismatch(at, Type::Number))
    }

    /// A number cut toward zero.
    pub fn integer(&self, at: usize) -> Result<i64, ApiError> {
        self.number(at).map(|number| number as i64)
    }

    pub fn table(&self, at: usize) -> Result<&Table, ApiError> {
        match self.arg(at) {
            Arg::Value(Value::Table(table)) => Ok(table),
            _ => Err(self.mismatch(at, Type::Table)),
        }
    }

    /// One string, or the strings of an array.
    pub fn strings(&self, at: usize) -> Result<Vec<Vec<u8>>, ApiError> {
        let Arg::Value(Value::Table(table)) = self.arg(at) else { return Ok(vec![self.bytes(at)?.into_owned()]) };
        let mut items = Vec::new();
        for index in 1..=table.raw_len() {
            let item = Arg::from(table.raw_get::<Value>(index)?);
            let bytes = item.as_bytes().ok_or_else(|| {
                self.function.bad_argument(at, format!("strings expected, item {index} is a {}", item.type_name()))
            })?;
            items.push(bytes.into_owned());
        }
        Ok(items)
    }

    pub fn userdata(&self, at: usize) -> Result<&AnyUserData, ApiError> {
        match self.arg(at) {
            Arg::Value(Value::UserData(data)) => Ok(data),
            _ => Err(self.mismatch(at, Type::Userdata)),
        }
    }

    /// The message a method was called on. `Err(Gone)` once it has left: the caller then gets nil, "message gone".
    pub fn message(&self) -> Result<Arc<Message>, ApiError> {
        match &self.object {
            Object::Message(message) => message.message().ok_or_else(|| ApiError::Gone(message.gone())),
            _ => Err(self.no_object()),
        }
    }

    /// Whether the method was called on a message of the policy's own, which may be worked on in any phase.
    pub fn is_own_message(&self) -> bool {
        match &self.object {
            Object::Message(message) => message.is_own(),
            Object::Part(part) => part.message.is_own(),
            _ => false,
        }
    }

    /// The message a method was called on, as its handle.
    pub(crate) fn handle(&self) -> Result<&Msg, ApiError> {
        match &self.object {
            Object::Message(message) => Ok(message),
            Object::Part(part) => Ok(&part.message),
            _ => Err(self.no_object()),
        }
    }

    /// The part a method was called on.
    pub(crate) fn part(&self) -> Result<&Part, ApiError> {
        match &self.object {
            Object::Part(part) => Ok(part),
            _ => Err(self.no_object()),
        }
    }

    pub fn is_snapshot(&self) -> bool {
        matches!(&self.object, Object::Message(Msg::Snapshot(_)))
    }

    /// The session a method was called on.
    pub fn session(&self) -> Result<Arc<Session>, ApiError> {
        let session = match &self.object {
            Object::Accept(accept) => accept.session(),
            Object::Validate(validate) => validate.session(),
            _ => return Err(self.no_object()),
        };
        session.ok_or(ApiError::Gone("session is closed"))
    }

    /// The session of the message construct that a field was read of.
    pub fn construct(&self) -> Result<Option<Arc<Session>>, ApiError> {
        match &self.object {
            Object::Construct(construct) => Ok(construct.session.upgrade()),
            _ => Err(self.no_object()),
        }
    }

    /// The ec_string a method was called on.
    pub fn ec_string(&self) -> Result<&EcString, ApiError> {
        match &self.object {
            Object::Str(text) => Ok(text),
            _ => Err(self.no_object()),
        }
    }

    fn no_object(&self) -> ApiError {
        let name = self.function.name;
        let got = match &self.object {
            Object::Wrong(value) => type_name(value),
            _ => "another class".to_owned(),
        };
        ApiError::Raise(format!("calling '{name}' on bad self ({} expected, got {got})", self.function.owner()))
    }

    pub(super) fn check_object(&self) -> Result<(), ApiError> {
        if matches!(self.object, Object::Wrong(_)) { Err(self.no_object()) } else { Ok(()) }
    }

    /// An error about the argument at `at`.
    pub fn bad(&self, at: usize, problem: impl Into<String>) -> ApiError {
        self.function.bad_argument(at, problem)
    }
}

fn object_of(data: AnyUserData) -> Object {
    fn taken<T: Clone + Into<Object> + 'static>(data: &AnyUserData) -> Option<Object> {
        data.borrow::<T>().ok().map(|object| (*object).clone().into())
    }
    taken::<Msg>(&data)
        .or_else(|| taken::<Part>(&data))
        .or_else(|| taken::<Accept>(&data))
        .or_else(|| taken::<Validate>(&data))
        .or_else(|| taken::<EcString>(&data))
        .or_else(|| taken::<Construct>(&data))
        .unwrap_or(Object::Wrong(Value::UserData(data)))
}

/// The text of an object that may stand for a string.
fn text_of(data: &AnyUserData) -> Option<Vec<u8>> {
    match data.borrow::<EcString>() {
        Ok(text) => Some(text.bytes()),
        Err(_) => data.borrow::<crate::api::json::Object>().ok().map(|json| json.text()),
    }
}

/// What a value is as a string: strings, numbers as Lua prints them, ec_strings, the text of JSON values.
pub(crate) fn bytes_of(value: &Value) -> Option<Vec<u8>> {
    Some(match value {
        Value::String(text) => text.as_bytes().to_vec(),
        Value::Integer(number) => format_number(*number as f64).into_bytes(),
        Value::Number(number) => format_number(*number).into_bytes(),
        Value::UserData(data) => text_of(data)?,
        _ => return None,
    })
}

pub(crate) fn number_of(value: &Value) -> Option<f64> {
    match value {
        Value::Integer(number) => Some(*number as f64),
        Value::Number(number) => Some(*number),
        Value::String(text) => number_in(&text.as_bytes()),
        _ => None,
    }
}

/// A number written as Lua 5.1 reads one in a string: decimal or hexadecimal, blanks around it.
pub(crate) fn number_in(text: &[u8]) -> Option<f64> {
    let text = std::str::from_utf8(text).ok()?.trim_matches([' ', '\t', '\n', '\r', '\x0b', '\x0c']);
    let (negative, digits) = match text.strip_prefix(['-', '+']) {
        Some(rest) => (text.starts_with('-'), rest),
        None => (false, text),
    };
    if let Some(hex) = digits.strip_prefix("0x").or_else(|| digits.strip_prefix("0X")) {
        if hex.is_empty() || !hex.bytes().all(|b| b.is_ascii_hexdigit()) {
            return None;
        }
        let value = hex.bytes().fold(0.0, |sum, b| sum * 16.0 + f64::from((b as char).to_digit(16).unwrap_or(0)));
        return Some(if negative { -value } else { value });
    }
    // Rust reads "inf" and "nan" too, which Lua does not.
    if !digits.starts_with(|c: char| c.is_ascii_digit() || c == '.') {
        return None;
    }
    let value: f64 = digits.parse().ok()?;
    Some(if negative { -value } else { value })
}

/// A number as Lua prints it: `%.14g`.
pub(crate) fn format_number(number: f64) -> String {
    if number.fract() == 0.0 && number.abs() < 1e14 {
        return if number == 0.0 && number.is_sign_negative() { "-0".to_owned() } else { format!("{}", number as i64) };
    }
    if number.is_nan() {
        return "nan".to_owned();
    }
    if number.is_infinite() {
        return if number > 0.0 { "inf".to_owned() } else { "-inf".to_owned() };
    }
    let scientific = format!("{number:.13e}");
    let (mantissa, exponent) = scientific.split_once('e').expect("the e format has an exponent");
    let exponent: i32 = exponent.parse().expect("the exponent is a number");
    if (-4..14).contains(&exponent) {
        let places = usize::try_from(13 - exponent).unwrap_or(0);
        trim_zeros(&format!("{number:.places$}")).to_owned()
    } else {
        let sign = if exponent < 0 { '-' } else { '+' };
        format!("{}e{sign}{:02}", trim_zeros(mantissa), exponent.abs())
    }
}

fn trim_zeros(text: &str) -> &str {
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_print_as_in_lua() {
        for (number, text) in [
            (0.0, "0"),
            (5.0, "5"),
            (-3.0, "-3"),
            (1.5, "1.5"),
            (0.1, "0.1"),
            (1e13, "10000000000000"),
            (1e14, "1e+14"),
            (1e15, "1e+15"),
            (1.0 / 3.0, "0.33333333333333"),
            (1e-5, "1e-05"),
            (0.0001, "0.0001"),
            (123_456_789_012_345_680.0, "1.2345678901235e+17"),
            (f64::INFINITY, "inf"),
        ] {
            assert_eq!(format_number(number), text);
        }
    }

    #[test]
    fn numbers_in_strings_are_read_as_in_lua() {
        for (text, number) in [
            ("10", Some(10.0)),
            (" 0x1F ", Some(31.0)),
            ("-2.5e1", Some(-25.0)),
            (".5", Some(0.5)),
            ("", None),
            ("inf", None),
            ("nan", None),
            ("1x", None),
            ("0x", None),
            ("--1", None),
        ] {
            assert_eq!(number_in(text.as_bytes()), number, "{text}");
        }
    }
}
