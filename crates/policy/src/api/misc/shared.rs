//! `msys.shareGet`, `shareSet`, `shareUnset`: values that every policy state of the process sees, over reloads.

use crate::host::Host;
use crate::registry::{ApiError, Arg, Args, Call, Ctx, FUNCTION, Function, Ret, Type, param, returns};
use mlua::Value;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::LazyLock;

/// Values that are shared at a time, and the longest of them in octets.
const VALUES_MAX: usize = 100_000;
const VALUE_LEN_MAX: usize = 16 << 20;

static VALUES: LazyLock<Mutex<HashMap<Box<[u8]>, Arg>>> = LazyLock::new(Mutex::default);

pub static GET: Function = Function {
    name: "msys.shareGet",
    since: "3.1",
    deprecated: true,
    params: &[param("keystring", Type::String, "the key")],
    returns: &[returns("string|number|boolean|nil", "nil where nothing is set")],
    doc: "The shared value of a key.",
    page: "3/3-reference/lua-ref-msys-share-get.md",
    example: r#"local seen = msys.shareGet("seen") or 0"#,
    call: Call::Sync(|ctx, args| {
        note(&ctx.host);
        let key = args.bytes(0)?;
        let value = VALUES.lock().get(&*key).cloned().unwrap_or_default();
        Ok(Ret::One(value.to_value(&ctx.lua)?))
    }),
    ..FUNCTION
};

pub static SET: Function = Function {
    name: "msys.shareSet",
    since: "3.1",
    deprecated: true,
    // The value is checked below: nil means to unset, and is not the same as a missing argument of a wrong type.
    params: &[
        param("keystring", Type::Any, "the key"),
        param("value", Type::Any, "a string, number or boolean; nil unsets"),
    ],
    returns: &[returns("boolean", "false where the key is no string or is empty")],
    doc: "Shares a value with every policy of the process; it survives a reload, not a restart. One call is atomic; what reads, \
          changes and writes takes `msys.lock`.",
    page: "3/3-reference/lua-ref-msys-share-set.md",
    raises: "when `value` is no string, number, boolean or nil, when it is too large, and when there are too many",
    example: r#"
        msys.lock("seen")
        msys.shareSet("seen", (msys.shareGet("seen") or 0) + 1)
        msys.unlock("seen")
    "#,
    call: Call::Sync(set),
    ..FUNCTION
};

pub static UNSET: Function = Function {
    name: "msys.shareUnset",
    since: "3.1",
    deprecated: true,
    params: &[param("keystring", Type::String, "the key")],
    doc: "Forgets a shared value; a key that is not set is no error.",
    page: "3/3-reference/lua-ref-msys-share-unset.md",
    example: r#"msys.shareUnset("seen")"#,
    call: Call::Sync(|ctx, args| {
        note(&ctx.host);
        VALUES.lock().remove(&*args.bytes(0)?);
        Ok(Ret::None)
    }),
    ..FUNCTION
};

fn note(host: &Host) {
    host.note_once("scriptlet: msys.shareGet, shareSet and shareUnset are deprecated");
}

fn set(ctx: &Ctx<'_>, args: &Args) -> Result<Ret, ApiError> {
    note(&ctx.host);
    let Arg::Bytes(key) = args.arg(0) else { return Ok(Ret::FALSE) };
    if key.is_empty() {
        return Ok(Ret::FALSE);
    }
    let value = match args.arg(1) {
        Arg::Nil => {
            VALUES.lock().remove(key);
            return Ok(Ret::One(Value::Boolean(true)));
        }
        value @ (Arg::Boolean(_) | Arg::Number(_)) => value.clone(),
        value => match value.as_bytes() {
            Some(bytes) if bytes.len() <= VALUE_LEN_MAX => Arg::Bytes(bytes.into()),
            Some(_) => return Err(args.bad(1, format!("a string of more than {VALUE_LEN_MAX} octets"))),
            None => return Err(args.bad(1, format!("string, number or boolean expected, got {}", value.type_name()))),
        },
    };
    let mut values = VALUES.lock();
    if values.len() >= VALUES_MAX && !values.contains_key(key) {
        return Err(ctx.raise(format!("{VALUES_MAX} values are shared already")));
    }
    values.insert(key.clone(), value);
    Ok(Ret::One(Value::Boolean(true)))
}
