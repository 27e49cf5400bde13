//! `msys.pbp`: helpers that policies built on the shipped default policy call.

use crate::objects::SessionState;
use crate::registry::{
    ApiError, Arg, Args, Call, Ctx, FUNCTION, Function, Phase, Ret, Type, optional, param, returns, session_of,
};
use mlua::Value;

pub static CHECK_WHITELIST: Function = Function {
    name: "msys.pbp.check_whitelist",
    package: "msys.pbp",
    params: &[
        param("vctx", Type::Validate, "the validation context"),
        optional(
            "conf",
            Type::Strings,
            "a list name, an array of them, or a table with such an array as `honor_whitelist`",
        ),
    ],
    returns: &[returns("boolean", "whether the session or message is on one of the lists")],
    doc: "Looks for the keys `dp_whitelist_<name>` in both contexts.",
    example: r#"
        require("msys.pbp")
        if msys.pbp.check_whitelist(vctx, "friends") then return msys.core.VALIDATE_CONT end
    "#,
    call: Call::Sync(check_whitelist),
    ..FUNCTION
};

pub static SET_WHITELIST: Function = Function {
    name: "msys.pbp.set_whitelist",
    package: "msys.pbp",
    params: &[
        param("vctx", Type::Validate, "the validation context"),
        param(
            "type",
            Type::Any,
            "the context; where it is left out, that of the connection before MAIL, else the message's",
        ),
        optional("name", Type::Any, "the list"),
        optional("value", Type::Any, "true puts it on the list, false or nil takes it off"),
    ],
    doc: "Sets or deletes the key `dp_whitelist_<name>`.",
    example: r#"
        require("msys.pbp")
        msys.pbp.set_whitelist(vctx, msys.core.VCTX_CONN, "friends", true)
    "#,
    call: Call::Sync(set_whitelist),
    ..FUNCTION
};

pub static SIZE_IN_BYTES: Function = Function {
    name: "msys.pbp.size_in_bytes",
    package: "msys.pbp",
    params: &[param("value", Type::String, "a number, or text such as `10M`, `512k`, `1 GB`")],
    returns: &[returns("number", "octets")],
    doc: "Reads a size; the units are powers of 1024.",
    raises: "when `value` is no size",
    example: r#"
        require("msys.pbp")
        if msg:get_message_size() > msys.pbp.size_in_bytes("10M") then vctx:set_code(552, "too large") end
    "#,
    call: Call::Sync(size_in_bytes),
    ..FUNCTION
};

fn key(name: &[u8]) -> String {
    format!("dp_whitelist_{}", String::from_utf8_lossy(name))
}

fn check_whitelist(_: &Ctx<'_>, args: &Args) -> Result<Ret, ApiError> {
    let session = session_of(args.userdata(0)?).ok_or(ApiError::Gone("session is closed"))?;
    let names = match args.arg(1) {
        Arg::Nil => return Ok(Ret::FALSE),
        Arg::Value(Value::Table(table)) => match Arg::from(table.raw_get::<Value>("honor_whitelist")?) {
            Arg::Nil => args.strings(1)?,
            Arg::Value(Value::Table(list)) => {
                let items: Vec<mlua::LuaString> = list.sequence_values().collect::<mlua::Result<_>>()?;
                items.iter().map(|item| item.as_bytes().to_vec()).collect()
            }
            other => other.as_bytes().map(|name| name.into_owned()).into_iter().collect(),
        },
        _ => args.strings(1)?,
    };
    let state = session.state.lock();
    let on_a_list = |state: &SessionState, key: &str| state.conn.get(key).is_some() || state.mess.get(key).is_some();
    Ok(Ret::One(Value::Boolean(names.iter().any(|name| on_a_list(&state, &key(name))))))
}

fn set_whitelist(ctx: &Ctx<'_>, args: &Args) -> Result<Ret, ApiError> {
    let session = session_of(args.userdata(0)?).ok_or(ApiError::Gone("session is closed"))?;
    // Both forms are in use: (vctx, type, name, value) and (vctx, name, value).
    let with_type = matches!(args.arg(1), Arg::Number(_));
    let name_at = if with_type { 2 } else { 1 };
    let connection = match with_type {
        true => args.integer(1)? == 0,
        false => matches!(ctx.phase(), Phase::Connect | Phase::Ehlo),
    };
    let key = key(&args.bytes(name_at)?);
    let value = !matches!(args.arg(name_at + 1), Arg::Nil | Arg::Boolean(false));
    let mut state = session.state.lock();
    let context = if connection { &mut state.conn } else { &mut state.mess };
    if value {
        context.set(&key, &b"true"[..]);
    } else {
        context.remove(&key);
    }
    Ok(Ret::None)
}

fn size_in_bytes(_: &Ctx<'_>, args: &Args) -> Result<Ret, ApiError> {
    if let Some(number) = args.arg(0).as_number() {
        return Ok(Ret::number(number));
    }
    let text = args.text(0)?.trim().to_ascii_lowercase();
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic()).trim_end();
    let unit = match text[digits.len()..].trim() {
        "b" => Some(1.0),
        "k" | "kb" => Some(1024.0),
        "m" | "mb" => Some(1024.0 * 1024.0),
        "g" | "gb" => Some(1024.0 * 1024.0 * 1024.0),
        _ => None,
    };
    let number = digits.parse::<f64>().ok().filter(|number| number.is_finite() && *number >= 0.0);
    match (number, unit) {
        (Some(number), Some(unit)) => Ok(Ret::number(number * unit)),
        _ => Err(args.bad(0, format!("'{text}' is no size"))),
    }
}
