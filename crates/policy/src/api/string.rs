//! ec_strings and PCRE.

use super::pcre;
use crate::registry::{
    ApiError, Args, Call, FUNCTION, Function, Ret, Table, Type, bytes_of, optional, param, returns,
};
use crate::userdata::EcString;
use mlua::Value;
use std::ops::Deref;

pub static TABLE: Table = Table {
    name: "string",
    package: "msys.pcre",
    functions: &[
        &STRING_NEW,
        &pcre::MATCH,
        &pcre::REPLACE,
        &pcre::SPLIT,
        &STRING_WRITE,
        &SET,
        &WRITE,
        &CLEAR,
        &BUFFER,
        &LEN,
        &LENGTH,
    ],
};

static STRING_NEW: Function = Function {
    name: "msys.core.string_new",
    package: "msys.core",
    since: "3.0",
    returns: &[returns("ec_string", "empty")],
    doc: "A growable byte string: what functions of the engine fill, as `msg:get_envelope2` does.",
    page: "4/lua/ref-msys-core-string-new.md",
    call: Call::Sync(|ctx, _| Ok(Ret::One(Value::UserData(ctx.lua.create_userdata(EcString::default())?)))),
    ..FUNCTION
};

static STRING_WRITE: Function = Function {
    name: "msys.core.stringwrite",
    package: "msys.core",
    params: &[
        param("ecstr", Type::EcString, "the string"),
        param("s", Type::String, "what to append"),
        optional("n", Type::Integer, "how many octets of it"),
    ],
    returns: &[returns("integer", "octets written")],
    doc: "Appends to an ec_string.",
    call: Call::Sync(|_, args| {
        let bytes = part(args, 1, 2)?;
        args.userdata(0)?.borrow::<EcString>()?.append(&bytes);
        Ok(Ret::number(bytes.len() as f64))
    }),
    ..FUNCTION
};

static SET: Function = Function {
    name: "ec_string:set",
    params: &[param("str", Type::String, "the new content")],
    doc: "Replaces the content.",
    call: Call::Sync(|_, args| {
        let bytes = args.bytes(0)?;
        this(args)?.set(&bytes);
        Ok(Ret::None)
    }),
    ..FUNCTION
};

static WRITE: Function = Function {
    name: "ec_string:write",
    params: &[
        param("str", Type::String, "what to append"),
        optional("n", Type::Integer, "how many octets of it"),
    ],
    returns: &[returns("integer", "octets written")],
    doc: "Appends.",
    call: Call::Sync(|_, args| {
        let bytes = part(args, 0, 1)?;
        this(args)?.append(&bytes);
        Ok(Ret::number(bytes.len() as f64))
    }),
    ..FUNCTION
};

static CLEAR: Function = Function {
    name: "ec_string:clear",
    doc: "Empties it.",
    call: Call::Sync(|_, args| {
        this(args)?.set(b"");
        Ok(Ret::None)
    }),
    ..FUNCTION
};

static BUFFER: Function = Function {
    name: "ec_string.buffer",
    returns: &[returns("string", "the content")],
    doc: "The content as a Lua string.",
    call: Call::Field { get: |ctx, args| ctx.string(&this(args)?.bytes()), set: None },
    ..FUNCTION
};

static LEN: Function = Function {
    name: "ec_string.len",
    returns: &[returns("integer", "octets")],
    doc: "The length of the content.",
    call: Call::Field { get: |_, args| Ok(Ret::number(this(args)?.len() as f64)), set: None },
    ..FUNCTION
};

static LENGTH: Function = Function {
    name: "ec_string.length",
    returns: &[returns("integer", "octets")],
    doc: "The length of the content.",
    call: Call::Field { get: |_, args| Ok(Ret::number(this(args)?.len() as f64)), set: None },
    ..FUNCTION
};

fn this(args: &Args) -> Result<impl Deref<Target = EcString> + '_, ApiError> {
    match args.object() {
        Value::UserData(data) => Ok(data.borrow::<EcString>()?),
        _ => Err(ApiError::Raise("ec_string expected".to_owned())),
    }
}

/// The string at `at`, cut to the number at `count_at` where one is given.
fn part(args: &Args, at: usize, count_at: usize) -> Result<Vec<u8>, ApiError> {
    let mut bytes = bytes_of(args.value(at)).unwrap_or_default();
    if !args.is_nil(count_at) {
        bytes.truncate(usize::try_from(args.integer(count_at)?).unwrap_or(0));
    }
    Ok(bytes)
}
