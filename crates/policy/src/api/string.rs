//! ec_strings, PCRE, and the encodings of mail.

use super::pcre;
use crate::registry::{ApiError, Args, Call, FUNCTION, Function, Ret, Table, Type, optional, param, returns};
use crate::userdata::EcString;
use mlua::Value;

mod base64;
mod charset;
mod qp;

pub static TABLE: Table = Table {
    name: "string",
    package: "msys.pcre",
    functions: &[
        &STRING_NEW,
        &base64::DECODE,
        &base64::ENCODE,
        &qp::DECODE,
        &qp::ENCODE,
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
    example: r#"
        local str = msys.core.string_new()
        str:write("Hello")
        print(tostring(str))
    "#,
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
    example: r#"
        local str = msys.core.string_new()
        msys.core.stringwrite(str, "Hello", 4)
    "#,
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
    example: r#"
        local str = msys.core.string_new()
        str:set("Hello")
    "#,
    call: Call::Sync(|_, args| {
        let bytes = args.bytes(0)?.into_owned(); // A copy: it may be this very string.
        args.ec_string()?.set(&bytes);
        Ok(Ret::None)
    }),
    ..FUNCTION
};

static WRITE: Function = Function {
    name: "ec_string:write",
    params: &[param("str", Type::String, "what to append"), optional("n", Type::Integer, "how many octets of it")],
    returns: &[returns("integer", "octets written")],
    doc: "Appends.",
    example: r#"
        local str = msys.core.string_new()
        str:write("Hello")
        str:write(" world")
    "#,
    call: Call::Sync(|_, args| {
        let bytes = part(args, 0, 1)?;
        args.ec_string()?.append(&bytes);
        Ok(Ret::number(bytes.len() as f64))
    }),
    ..FUNCTION
};

static CLEAR: Function = Function {
    name: "ec_string:clear",
    doc: "Empties it.",
    example: r#"
        local str = msys.core.string_new()
        str:write("Hello")
        str:clear()
    "#,
    call: Call::Sync(|_, args| {
        args.ec_string()?.set(b"");
        Ok(Ret::None)
    }),
    ..FUNCTION
};

static BUFFER: Function = Function {
    name: "ec_string.buffer",
    returns: &[returns("string", "the content")],
    doc: "The content as a Lua string.",
    example: r#"
        local str = msys.core.string_new()
        str:write("Hello")
        local text = str.buffer
    "#,
    call: Call::Field { get: |ctx, args| ctx.string(&args.ec_string()?.bytes()), set: None },
    ..FUNCTION
};

static LEN: Function = Function {
    name: "ec_string.len",
    returns: &[returns("integer", "octets")],
    doc: "The length of the content.",
    example: r#"
        local str = msys.core.string_new()
        str:write("Hello")
        local size = str.len
    "#,
    call: Call::Field { get: |_, args| Ok(Ret::number(args.ec_string()?.length() as f64)), set: None },
    ..FUNCTION
};

static LENGTH: Function = Function {
    name: "ec_string.length",
    returns: &[returns("integer", "octets")],
    doc: "The length of the content.",
    example: r#"
        local str = msys.core.string_new()
        str:write("Hello")
        local size = str.length
    "#,
    call: Call::Field { get: |_, args| Ok(Ret::number(args.ec_string()?.length() as f64)), set: None },
    ..FUNCTION
};

/// The string at `at`, cut to the number at `count_at` where one is given.
fn part(args: &Args, at: usize, count_at: usize) -> Result<Vec<u8>, ApiError> {
    let mut bytes = args.bytes(at)?.into_owned();
    if !args.is_nil(count_at) {
        bytes.truncate(usize::try_from(args.integer(count_at)?).unwrap_or(0));
    }
    Ok(bytes)
}
