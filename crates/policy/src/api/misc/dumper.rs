//! `msys.dumper.Dumper`: a value as Lua source that rebuilds it.

use crate::registry::{ApiError, Args, Call, Ctx, FUNCTION, Function, Ret, Type, format_number, param, returns};
use mlua::{Table, Value};
use std::collections::HashSet;
use std::ffi::c_void;

pub static DUMPER: Function = Function {
    name: "msys.dumper.Dumper",
    package: "msys.dumper",
    since: "3.0",
    params: &[param("res", Type::Any, "any value")],
    returns: &[returns("string", "`return ...`")],
    doc: "A value as a Lua chunk: tables with their array part first, then their keys in order; on one line where 80 columns \
          suffice. A table that was shown already is `\"<cycle>\"`.",
    page: "4/lua/ref-msys-dumper-dumper.md",
    raises: "when the dump would be too large",
    example: r#"
        require("msys.dumper")
        print(msys.dumper.Dumper({ sender = msg:mailfrom(), lines = { 1, 2 } }))
    "#,
    call: Call::Sync(dump),
    ..FUNCTION
};

const DEPTH_MAX: usize = 50;
const WIDTH: usize = 80;
/// A dump never grows beyond this.
const SIZE_MAX: usize = 16 << 20;

fn dump(ctx: &Ctx<'_>, args: &Args) -> Result<Ret, ApiError> {
    let mut seen = HashSet::new();
    let mut out = b"return ".to_vec();
    write(&mut out, &args.arg(0).to_value(&ctx.lua)?, 0, "return ".len(), &mut seen)?;
    ctx.string(&out)
}

fn write(
    out: &mut Vec<u8>,
    value: &Value,
    depth: usize,
    column: usize,
    seen: &mut HashSet<*const c_void>,
) -> Result<(), ApiError> {
    if out.len() > SIZE_MAX {
        return Err(ApiError::Raise(format!("Dumper: the dump is larger than {SIZE_MAX} octets")));
    }
    match value {
        Value::Nil => out.extend_from_slice(b"nil"),
        Value::Boolean(value) => out.extend_from_slice(value.to_string().as_bytes()),
        Value::Integer(number) => out.extend_from_slice(format_number(*number as f64).as_bytes()),
        Value::Number(number) => out.extend_from_slice(&number_source(*number)),
        Value::String(text) => quote(out, &text.as_bytes()),
        Value::Table(table) if depth >= DEPTH_MAX || !seen.insert(table.to_pointer()) => {
            out.extend_from_slice(b"\"<cycle>\"");
        }
        Value::Table(table) => write_table(out, table, depth, column, seen)?,
        other => quote(out, other.to_string()?.as_bytes()),
    }
    Ok(())
}

fn number_source(number: f64) -> Vec<u8> {
    if number.is_nan() {
        return b"0/0".to_vec();
    }
    if number.is_infinite() {
        return if number > 0.0 { b"1/0".to_vec() } else { b"-1/0".to_vec() };
    }
    format_number(number).into_bytes()
}

fn write_table(
    out: &mut Vec<u8>,
    table: &Table,
    depth: usize,
    column: usize,
    seen: &mut HashSet<*const c_void>,
) -> Result<(), ApiError> {
    let mut items: Vec<Vec<u8>> = Vec::new();
    let length = table.raw_len();
    let inner = 2 * (depth + 1);
    for index in 1..=length {
        let mut item = Vec::new();
        write(&mut item, &table.raw_get::<Value>(index)?, depth + 1, inner, seen)?;
        items.push(item);
    }
    let mut keyed: Vec<(Vec<u8>, Value)> = Vec::new();
    for pair in table.pairs::<Value, Value>() {
        let (key, value) = pair?;
        match &key {
            Value::Integer(index) if usize::try_from(*index).is_ok_and(|index| (1..=length).contains(&index)) => {}
            _ => keyed.push((key_source(&key)?, value)),
        }
    }
    keyed.sort_by(|a, b| a.0.cmp(&b.0));
    for (mut item, value) in keyed {
        item.push(b'=');
        let at = inner + item.len();
        write(&mut item, &value, depth + 1, at, seen)?;
        items.push(item);
    }
    if items.is_empty() {
        out.extend_from_slice(b"{}");
        return Ok(());
    }
    let one_line: usize = items.iter().map(|item| item.len() + 2).sum::<usize>() + 2;
    if column + one_line <= WIDTH && !items.iter().any(|item| item.contains(&b'\n')) {
        out.extend_from_slice(b"{ ");
        out.extend_from_slice(&items.join(&b", "[..]));
        out.extend_from_slice(b" }");
    } else {
        out.extend_from_slice(b"{\n");
        for item in items {
            out.extend(std::iter::repeat_n(b' ', inner));
            out.extend_from_slice(&item);
            out.extend_from_slice(b",\n");
        }
        out.extend(std::iter::repeat_n(b' ', 2 * depth));
        out.push(b'}');
    }
    Ok(())
}

/// `name` or `["na me"]`.
fn key_source(key: &Value) -> Result<Vec<u8>, ApiError> {
    if let Value::String(text) = key
        && is_name(&text.as_bytes())
    {
        return Ok(text.as_bytes().to_vec());
    }
    let mut source = b"[".to_vec();
    match key {
        Value::String(text) => quote(&mut source, &text.as_bytes()),
        Value::Boolean(value) => source.extend_from_slice(value.to_string().as_bytes()),
        Value::Integer(number) => source.extend_from_slice(format_number(*number as f64).as_bytes()),
        Value::Number(number) => source.extend_from_slice(&number_source(*number)),
        other => quote(&mut source, other.to_string()?.as_bytes()),
    }
    source.push(b']');
    Ok(source)
}

fn is_name(text: &[u8]) -> bool {
    let letters = text.iter().all(|b| b.is_ascii_alphanumeric() || *b == b'_');
    letters && text.first().is_some_and(|b| !b.is_ascii_digit()) && !crate::dialect::is_keyword(text)
}

fn quote(out: &mut Vec<u8>, text: &[u8]) {
    out.push(b'"');
    for (at, &byte) in text.iter().enumerate() {
        match byte {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', byte]),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            0..=31 | 127 => {
                // Three digits where a digit follows, which would be read as part of the number.
                let wide = text.get(at + 1).is_some_and(u8::is_ascii_digit);
                let digits = if wide { format!("\\{byte:03}") } else { format!("\\{byte}") };
                out.extend_from_slice(digits.as_bytes());
            }
            _ => out.push(byte),
        }
    }
    out.push(b'"');
}
