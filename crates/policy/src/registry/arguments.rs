//! The arguments of one call, checked against the declaration before the implementation sees them.

use super::{ApiError, Function, Type, message_of, session_of, type_name};
use crate::objects::{Message, Session};
use crate::userdata::EcString;
use mlua::{AnyUserData, MultiValue, Table, Value};
use std::borrow::Cow;
use std::sync::Arc;

/// The values of one call. Index 0 is the first declared parameter; the object of a method or field is apart.
pub struct Args {
    function: &'static Function,
    object: Value,
    values: Values,
}

/// Up to four values come without an allocation: nearly all calls.
enum Values {
    Few([Value; 4], usize),
    Many(Vec<Value>),
}

impl Args {
    /// From the fixed form in which short calls come: the object (of a method or field) is the first.
    pub(super) fn few(function: &'static Function, values: [Value; 4]) -> Args {
        if function.class().is_none() {
            return Args { function, object: Value::Nil, values: Values::Few(values, 4) };
        }
        let [object, one, two, three] = values;
        Args { function, object, values: Values::Few([one, two, three, Value::Nil], 3) }
    }

    pub(super) fn many(function: &'static Function, mut values: MultiValue) -> Args {
        let object = if function.class().is_some() { values.pop_front().unwrap_or_default() } else { Value::Nil };
        Args { function, object, values: Values::Many(values.into_vec()) }
    }

    /// Checks every value against its parameter.
    pub(super) fn check(&self) -> Result<(), ApiError> {
        for (at, param) in self.function.params.iter().enumerate() {
            let value = self.value(at);
            if param.rest {
                let given = self.given();
                for later in at..given {
                    if !param.kind.takes(self.value(later)) {
                        return Err(self.mismatch(later, param.kind));
                    }
                }
            } else if !param.kind.takes(value) && !(param.optional && value.is_nil()) {
                return Err(self.mismatch(at, param.kind));
            }
        }
        Ok(())
    }

    fn mismatch(&self, at: usize, kind: Type) -> ApiError {
        let got = match self.value(at) {
            Value::Nil => "nil".to_owned(),
            value => type_name(value),
        };
        self.function.bad_argument(at, format!("{} expected, got {got}", kind.expected()))
    }

    /// The object of a method or field.
    pub fn object(&self) -> &Value {
        &self.object
    }

    pub fn value(&self, at: usize) -> &Value {
        const NIL: &Value = &Value::Nil;
        match &self.values {
            Values::Few(values, _) => values.get(at).unwrap_or(NIL),
            Values::Many(values) => values.get(at).unwrap_or(NIL),
        }
    }

    /// How many values there are, trailing nils of the short form not counted.
    pub fn given(&self) -> usize {
        match &self.values {
            Values::Few(values, most) => values[..*most].iter().rposition(|v| !v.is_nil()).map_or(0, |at| at + 1),
            Values::Many(values) => values.len(),
        }
    }

    pub fn is_nil(&self, at: usize) -> bool {
        self.value(at).is_nil()
    }

    /// Lua's truth: everything but nil and false.
    pub fn is_true(&self, at: usize) -> bool {
        !matches!(self.value(at), Value::Nil | Value::Boolean(false))
    }

    /// The bytes of a string argument; numbers as Lua prints them.
    pub fn bytes(&self, at: usize) -> Result<Vec<u8>, ApiError> {
        match bytes_of(self.value(at)) {
            Some(bytes) => Ok(bytes),
            None => Err(self.mismatch(at, Type::String)),
        }
    }

    /// The same as text; bytes that are no UTF-8 become U+FFFD.
    pub fn text(&self, at: usize) -> Result<String, ApiError> {
        Ok(match String::from_utf8_lossy(&self.bytes(at)?) {
            Cow::Borrowed(text) => text.to_owned(),
            Cow::Owned(text) => text,
        })
    }

    pub fn optional_text(&self, at: usize) -> Result<Option<String>, ApiError> {
        if self.is_nil(at) { Ok(None) } else { self.text(at).map(Some) }
    }

    pub fn number(&self, at: usize) -> Result<f64, ApiError> {
        number_of(self.value(at)).ok_or_else(|| self.mismatch(at, Type::Number))
    }

    /// A number cut toward zero.
    pub fn integer(&self, at: usize) -> Result<i64, ApiError> {
        self.number(at).map(|number| number as i64)
    }

    pub fn table(&self, at: usize) -> Result<&Table, ApiError> {
        match self.value(at) {
            Value::Table(table) => Ok(table),
            _ => Err(self.mismatch(at, Type::Table)),
        }
    }

    /// One string, or the strings of an array.
    pub fn strings(&self, at: usize) -> Result<Vec<Vec<u8>>, ApiError> {
        let Value::Table(table) = self.value(at) else { return Ok(vec![self.bytes(at)?]) };
        let mut items = Vec::new();
        for index in 1..=table.raw_len() {
            let item: Value = table.raw_get(index)?;
            let bytes = bytes_of(&item).ok_or_else(|| {
                self.function.bad_argument(at, format!("strings expected, item {index} is a {}", type_name(&item)))
            })?;
            items.push(bytes);
        }
        Ok(items)
    }

    pub fn userdata(&self, at: usize) -> Result<&AnyUserData, ApiError> {
        match self.value(at) {
            Value::UserData(data) => Ok(data),
            _ => Err(self.mismatch(at, Type::Userdata)),
        }
    }

    /// The message a method was called on. `Err(Gone)` once it has left: the caller then gets nil, "message gone".
    pub fn message(&self) -> Result<Arc<Message>, ApiError> {
        match &self.object {
            Value::UserData(data) => message_of(data).ok_or(ApiError::Gone("message gone")),
            _ => Err(self.no_object()),
        }
    }

    /// The session a method was called on.
    pub fn session(&self) -> Result<Arc<Session>, ApiError> {
        match &self.object {
            Value::UserData(data) => session_of(data).ok_or(ApiError::Gone("session is closed")),
            _ => Err(self.no_object()),
        }
    }

    fn no_object(&self) -> ApiError {
        let name = self.function.name;
        let got = type_name(&self.object);
        ApiError::Raise(format!("calling '{name}' on bad self ({} expected, got {got})", self.function.owner()))
    }

    pub(super) fn check_object(&self) -> Result<(), ApiError> {
        match (self.function.class(), &self.object) {
            (None, _) => Ok(()),
            (Some(class), Value::UserData(data)) if class.includes(data) => Ok(()),
            (Some(_), _) => Err(self.no_object()),
        }
    }

    /// An error about the argument at `at`.
    pub fn bad(&self, at: usize, problem: impl Into<String>) -> ApiError {
        self.function.bad_argument(at, problem)
    }
}

/// What a string argument holds: strings, numbers as Lua prints them, ec_strings.
pub(crate) fn bytes_of(value: &Value) -> Option<Vec<u8>> {
    Some(match value {
        Value::String(text) => text.as_bytes().to_vec(),
        Value::Integer(number) => format_number(*number as f64).into_bytes(),
        Value::Number(number) => format_number(*number).into_bytes(),
        Value::UserData(data) => data.borrow::<EcString>().ok()?.bytes(),
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
