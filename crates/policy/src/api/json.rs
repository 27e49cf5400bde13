//! `json`: JSON values as objects that policies read and change in place.
//!
//! An array or object, and whatever stands at the root, is a userdata; parts share their storage with what they were taken
//! from. The tree is in `value.rs`, the reader in `parse.rs`; this file is what Lua sees of them. Whatever a policy builds, a
//! value never contains itself, so that nothing leaks and printing ends.

use crate::registry::{
    ApiError, Arg, Args, Call, Ctx, FUNCTION, Function, Ret, Table, Type, param, place_of, returns, unlisted,
};
use crate::userdata;
use mlua::{Lua, UserData, UserDataMethods, Value};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use value::{Json, TooMuch};

mod parse;
mod value;

pub static TABLE: Table =
    Table { name: "json", package: "json", functions: &[&DECODE, &ENCODE, &NEW, &STRERROR, &FREE, &ADDREF] };

/// `json.ERROR_*`: codes of what `decode` finds.
pub(crate) const CONSTANTS: &[(&str, i64)] = &[
    ("ERROR_DEPTH", 2),
    ("ERROR_PARSE_EOF", 3),
    ("ERROR_PARSE_UNEXPECTED", 4),
    ("ERROR_PARSE_NULL", 5),
    ("ERROR_PARSE_BOOLEAN", 6),
    ("ERROR_PARSE_NUMBER", 7),
    ("ERROR_PARSE_ARRAY", 8),
    ("ERROR_PARSE_OBJECT_KEY_NAME", 9),
    ("ERROR_PARSE_OBJECT_KEY_SEP", 10),
    ("ERROR_PARSE_OBJECT_VALUE_SEP", 11),
    ("ERROR_PARSE_STRING", 12),
    ("ERROR_PARSE_COMMENT", 13),
];

/// Levels of nesting that are read, made and written.
const DEPTH_MAX: usize = 512;

/// Values that one call reads or makes; a table that is reached on many ways is copied once a way.
const VALUES_MAX: usize = 4_000_000;

/// The longest array that an assignment beyond its end makes.
const ARRAY_LEN_MAX: usize = 1_000_000;

/// The longest text that a value is written as; shared parts are written once a way.
const TEXT_LEN_MAX: usize = 256 << 20;

/// Octets of values made since the last collection: Lua's collector does not see what its objects hold outside of its heap.
static MADE: AtomicUsize = AtomicUsize::new(0);

/// So many octets bring about a collection.
const COLLECT_AT: usize = 32 << 20;

static DECODE: Function = Function {
    name: "json.decode",
    since: "3.1",
    params: &[param("str", Type::String, "the text; what follows its first value is ignored")],
    returns: &[
        returns(
            "json|nil",
            "the value; members read from it are Lua strings, numbers, booleans, or further json objects",
        ),
        returns("integer|nil", "on failure one of `json.ERROR_*`; 0 for the text `null`"),
        returns("string|nil", "what is wrong, and at which offset"),
    ],
    doc: "Reads a JSON text. Comments and strings in single quotes are read too.",
    page: "4/lua/ref-json-decode.md",
    raises: "when the text has too many values",
    example: r#"
        require("json")
        local obj, code, problem = json.decode('{"ip": "192.0.2.7", "scores": [1, 2]}')
        if obj then vctx:set(msys.core.VCTX_MESS, "score", obj.scores[1]) end
    "#,
    call: Call::Sync(decode),
    ..FUNCTION
};

static ENCODE: Function = Function {
    name: "json.encode",
    since: "3.1",
    params: &[param(
        "obj",
        Type::Any,
        "a string, number, boolean, table, or a json object (which comes back as it is)",
    )],
    returns: &[returns("json", "`tostring` gives its text")],
    doc: "Makes a JSON value of a Lua value. A table with an element 1 becomes an array up to its first nil, any other an object.",
    page: "4/lua/ref-json-encode.md",
    raises: "when a table contains itself, is nested too deeply, or holds what JSON has no form for",
    example: r#"
        require("json")
        local text = tostring(json.encode({ sender = msg:mailfrom(), flags = { "a", "b" } }))
    "#,
    call: Call::Sync(encode),
    ..FUNCTION
};

static NEW: Function = Function {
    name: "json.new",
    since: "3.1",
    params: &[unlisted("obj", Type::Any, "as with `json.encode`")],
    returns: &[returns("json", "an empty object where nothing is given")],
    doc: "Makes an empty object. With an argument it does what `json.encode` does.",
    page: "4/lua/ref-json-new.md",
    raises: "as `json.encode`, with an argument",
    example: r#"
        require("json")
        local obj = json.new()
        obj.sender = msg:mailfrom()
        local text = tostring(obj)
    "#,
    call: Call::Sync(
        |ctx, args| {
            if args.is_nil(0) { made(ctx, Json::object(), size_of::<Json>()) } else { encode(ctx, args) }
        },
    ),
    ..FUNCTION
};

static STRERROR: Function = Function {
    name: "json.strerror",
    since: "3.1",
    params: &[param("code", Type::Number, "an error code of `decode`")],
    returns: &[returns("string", "`unknown error` for any other number")],
    doc: "The text of an error code.",
    page: "4/lua/ref-json-strerror.md",
    example: r#"
        require("json")
        local obj, code = json.decode("[1,")
        local problem = json.strerror(code)
    "#,
    call: Call::Sync(|ctx, args| {
        let code = args.number(0)?;
        let text = (0..=13).find(|known| f64::from(*known) == code).map_or("unknown error", parse::text);
        ctx.string(text.as_bytes())
    }),
    ..FUNCTION
};

static FREE: Function = Function {
    name: "json.free",
    params: &[param("obj", Type::Any, "a json object")],
    doc: "Does nothing: values are collected.",
    example: r#"
        require("json")
        local obj = json.new()
        json.free(obj)
    "#,
    call: Call::Sync(|_, _| Ok(Ret::None)),
    ..FUNCTION
};

static ADDREF: Function = Function {
    name: "json.addref",
    params: &[param("obj", Type::Any, "a json object")],
    returns: &[returns("boolean", "true")],
    doc: "Does nothing: values are collected.",
    example: r#"
        require("json")
        local obj = json.new()
        json.addref(obj)
    "#,
    call: Call::Sync(|_, _| Ok(Ret::One(Value::Boolean(true)))),
    ..FUNCTION
};

fn decode(ctx: &Ctx<'_>, args: &Args) -> Result<Ret, ApiError> {
    let text = args.bytes(0)?;
    match parse::parse(&text) {
        Ok(Json::Null) => failure(ctx, parse::SUCCESS, 4),
        Ok(json) => made(ctx, json, text.len() * 4),
        Err(parse::Fault::Syntax { code, offset }) => failure(ctx, code, offset),
        Err(parse::Fault::TooMany) => Err(ctx.raise(format!("the text has more than {VALUES_MAX} values"))),
    }
}

fn failure(ctx: &Ctx<'_>, code: u8, offset: usize) -> Result<Ret, ApiError> {
    let text = ctx.bytes(format!("{} at offset {offset}", parse::text(code)).as_bytes())?;
    Ok(Ret::Many(vec![Value::Nil, Value::Integer(code.into()), text]))
}

fn encode(ctx: &Ctx<'_>, args: &Args) -> Result<Ret, ApiError> {
    if let Arg::Value(value @ Value::UserData(data)) = args.arg(0)
        && data.is::<Object>()
    {
        return Ok(Ret::One(value.clone()));
    }
    let mut maker = Maker::default();
    let json = maker.make(&args.arg(0).to_value(&ctx.lua)?).map_err(ApiError::Raise)?;
    made(ctx, json, maker.size)
}

/// A new object for Lua of about `size` octets.
fn made(ctx: &Ctx<'_>, json: Json, size: usize) -> Result<Ret, ApiError> {
    if MADE.fetch_add(size, Ordering::Relaxed) + size > COLLECT_AT {
        MADE.store(0, Ordering::Relaxed);
        ctx.lua.gc_collect()?;
    }
    Ok(Ret::One(Value::UserData(ctx.lua.create_userdata(Object(json))?)))
}

/// What Lua holds.
pub(crate) struct Object(Json);

impl Object {
    /// Its text, as `tostring` gives it; empty where that would be too long.
    pub(crate) fn text(&self) -> Vec<u8> {
        self.0.to_text().unwrap_or_default()
    }
}

impl UserData for Object {
    fn add_methods<M: UserDataMethods<Self>>(methods: &mut M) {
        methods.add_meta_method("__index", |lua, this, key: Value| {
            let found = match &this.0 {
                Json::Array(array) => array_index(&key).and_then(|at| array.lock().get(at)),
                Json::Object(object) => object_key(&key).and_then(|key| object.lock().get(&key)),
                _ => None,
            };
            found.map_or(Ok(Value::Nil), |json| to_lua(lua, json))
        });
        methods.add_meta_method("__newindex", |lua, this, (key, value): (Value, Value)| {
            assign(&this.0, &key, &value).map_err(|text| raised(lua, &text))
        });
        methods.add_meta_method("__len", |_, this, ()| {
            Ok(match &this.0 {
                Json::Array(array) => array.lock().len(),
                _ => 0,
            })
        });
        methods.add_meta_method("__tostring", |lua, this, ()| match this.0.to_text() {
            Ok(text) => lua.create_string(text),
            Err(TooMuch) => {
                Err(raised(lua, &format!("a json value of more than {DEPTH_MAX} levels or {TEXT_LEN_MAX} octets")))
            }
        });
        methods.add_meta_method("__iter", |lua, this, ()| {
            let json = this.0.clone();
            let mut at = 0;
            lua.create_function_mut(move |lua, _: mlua::MultiValue| next(lua, &json, &mut at))
        });
        methods.add_meta_function("__concat", userdata::concat);
        methods.add_meta_function("__eq", |_, (a, b): (Value, Value)| {
            let (Value::UserData(a), Value::UserData(b)) = (a, b) else { return Ok(false) };
            let (Ok(a), Ok(b)) = (a.borrow::<Object>(), b.borrow::<Object>()) else { return Ok(false) };
            Ok(a.0.is(&b.0))
        });
    }
}

/// The next key and value at or after `at`; members that hold null come with nil.
fn next(lua: &Lua, json: &Json, at: &mut usize) -> mlua::Result<(Value, Value)> {
    match json {
        Json::Array(array) => {
            let Some(value) = array.lock().get(*at) else { return Ok((Value::Nil, Value::Nil)) };
            *at += 1;
            Ok((Value::Integer(*at as i64), to_lua(lua, value)?))
        }
        Json::Object(object) => {
            let Some((place, key, value)) = object.lock().next(*at) else { return Ok((Value::Nil, Value::Nil)) };
            *at = place + 1;
            Ok((Value::String(lua.create_string(&key)?), to_lua(lua, value)?))
        }
        _ => Ok((Value::Nil, Value::Nil)),
    }
}

fn to_lua(lua: &Lua, json: Json) -> mlua::Result<Value> {
    Ok(match json {
        Json::Null => Value::Nil,
        Json::Boolean(value) => Value::Boolean(value),
        Json::Number(number) => Value::Number(number),
        Json::Text(text) => Value::String(lua.create_string(&text)?),
        container => Value::UserData(lua.create_userdata(Object(container))?),
    })
}

/// `object[key] = value`, or why not.
fn assign(json: &Json, key: &Value, value: &Value) -> Result<(), String> {
    match json {
        Json::Array(array) => {
            if crate::registry::number_of(key).is_none() {
                return Err("json array index must be numeric".to_owned());
            }
            let at = array_index(key).ok_or("lua array semantics are that index operations are 1-based")?;
            if value.is_nil() {
                return Err("cannot delete from json arrays".to_owned());
            }
            if at >= ARRAY_LEN_MAX && at > array.lock().len() {
                return Err(format!("json array index {} is too large", at + 1));
            }
            let part = part(json, value)?;
            array.lock().set(at, part);
        }
        Json::Object(object) => {
            let key = object_key(key).ok_or("json object key must be a string")?;
            if value.is_nil() {
                drop(object.lock().remove(&key));
            } else {
                let part = part(json, value)?;
                object.lock().set(key, part);
            }
        }
        _ => return Err("cannot assign to this type of json object".to_owned()),
    }
    Ok(())
}

/// `value` as a part of `whole`, which it must not contain.
fn part(whole: &Json, value: &Value) -> Result<Json, String> {
    let mut maker = Maker::default();
    let part = maker.make(value)?;
    // Only what a policy held before can contain something else that it holds.
    if maker.has_objects && part.contains(whole) {
        return Err(CYCLE.to_owned());
    }
    MADE.fetch_add(maker.size, Ordering::Relaxed);
    Ok(part)
}

const CYCLE: &str = "json value contains itself";

/// Makes JSON of Lua values.
#[derive(Default)]
struct Maker {
    /// The tables around the present one.
    path: Vec<*const std::ffi::c_void>,
    values: usize,
    /// Octets, about.
    size: usize,
    has_objects: bool,
}

impl Maker {
    fn make(&mut self, value: &Value) -> Result<Json, String> {
        self.values += 1;
        self.size += size_of::<Json>();
        if self.values > VALUES_MAX {
            return Err(format!("json value has more than {VALUES_MAX} parts"));
        }
        Ok(match value {
            Value::Boolean(value) => Json::Boolean(*value),
            Value::Integer(number) => Json::Number(*number as f64),
            Value::Number(number) => Json::number(*number),
            Value::String(text) => self.text(&text.as_bytes()),
            Value::Table(table) => return self.table(table),
            Value::UserData(data) => {
                let Ok(object) = data.borrow::<Object>() else {
                    return match crate::registry::bytes_of(value) {
                        Some(text) => Ok(self.text(&text)),
                        None => Err("cannot assign values of type userdata".to_owned()),
                    };
                };
                self.has_objects = true;
                object.0.clone()
            }
            other => return Err(format!("cannot assign values of type {}", crate::registry::type_name(other))),
        })
    }

    fn text(&mut self, text: &[u8]) -> Json {
        self.size += text.len();
        Json::Text(Arc::from(text))
    }

    fn table(&mut self, table: &mlua::Table) -> Result<Json, String> {
        let pointer = table.to_pointer();
        if self.path.contains(&pointer) {
            return Err(CYCLE.to_owned());
        }
        if self.path.len() >= DEPTH_MAX {
            return Err(format!("json value has more than {DEPTH_MAX} levels"));
        }
        self.path.push(pointer);
        let made = self.fill(table);
        self.path.pop();
        made
    }

    fn fill(&mut self, table: &mlua::Table) -> Result<Json, String> {
        let problem = |error: mlua::Error| error.to_string();
        let first: Value = table.raw_get(1).map_err(problem)?;
        if !first.is_nil() {
            let mut items = Vec::new();
            let mut item = first;
            while !item.is_nil() {
                items.push(self.make(&item)?);
                item = table.raw_get(items.len() + 1).map_err(problem)?;
            }
            return Ok(Json::array(items));
        }
        let mut object = value::Members::default();
        for pair in table.pairs::<Value, Value>() {
            let (key, value) = pair.map_err(problem)?;
            let key = match object_key(&key) {
                Some(key) => key,
                None => Arc::from(key.to_string().map_err(problem)?.as_bytes()),
            };
            self.size += key.len();
            object.set(key, self.make(&value)?);
        }
        Ok(Json::of_members(object))
    }
}

/// Lua counts from 1.
fn array_index(key: &Value) -> Option<usize> {
    let number = crate::registry::number_of(key)?;
    (1.0..9e15).contains(&number).then(|| number as usize - 1)
}

fn object_key(key: &Value) -> Option<Arc<[u8]>> {
    crate::registry::bytes_of(key).map(Arc::from)
}

fn raised(lua: &Lua, text: &str) -> mlua::Error {
    mlua::Error::RuntimeError(format!("{}{text}", place_of(lua, 1).unwrap_or_default()))
}
