//! `msg:context_*`: the two dictionaries that travel with a message.
//!
//! During reception they are those of the session, so that `vctx:get` and `msg:context_get` see the same.

use super::{READERS, check_context_size, context_kind, context_value};
use crate::registry::{ApiError, Args, Call, Ctx, FUNCTION, Function, Param, Ret, Type, param, returns};
use mlua::Value;

const KIND: Param = param("type", Type::Integer, "`msys.core.VCTX_CONN` or `msys.core.VCTX_MESS`");
const KEY: Param = param("key", Type::String, "the key, case-sensitive");

pub static DELETE: Function = Function {
    name: "msg:context_delete",
    package: "msys.core",
    since: "3.0",
    phases: READERS,
    params: &[KIND, KEY],
    returns: &[returns("integer", "1 when there was such a key, else 0 (which is true in Lua)")],
    doc: "Removes a key.",
    page: "4/lua/ref-msg-context-delete.md",
    raises: "when `type` is neither `VCTX_CONN` nor `VCTX_MESS`",
    example: r#"msg:context_delete(msys.core.VCTX_MESS, "score")"#,
    call: Call::Sync(|_, args| {
        let (message, key) = (args.message()?, args.text(1)?);
        Ok(Ret::flag(message.context_mut(context_kind(args, 0)?, |context| context.remove(&key))))
    }),
    ..FUNCTION
};

pub static EXISTS: Function = Function {
    name: "msg:context_exists",
    package: "msys.core",
    since: "3.0",
    phases: READERS,
    params: &[KIND, KEY],
    returns: &[returns("integer", "1 or 0 (which is true in Lua)")],
    doc: "Whether the context has the key.",
    page: "4/lua/ref-msg-context-exists.md",
    raises: "when `type` is neither `VCTX_CONN` nor `VCTX_MESS`",
    example: r#"if msg:context_exists(msys.core.VCTX_MESS, "score") == 1 then msg:header("X-Scored", "yes") end"#,
    call: Call::Sync(|_, args| {
        let (message, key) = (args.message()?, args.text(1)?);
        Ok(Ret::flag(message.context(context_kind(args, 0)?, |context| context.get(&key).is_some())))
    }),
    ..FUNCTION
};

pub static EXISTS_AND_GET: Function = Function {
    name: "msg:context_exists_and_get",
    package: "msys.core",
    since: "3.0",
    phases: READERS,
    params: &[KIND, KEY],
    returns: &[returns("integer", "1 or 0"), returns("string|nil", "the value")],
    doc: "`context_exists` and `context_get` in one.",
    page: "4/lua/ref-msg-context-exists-and-get.md",
    raises: "when `type` is neither `VCTX_CONN` nor `VCTX_MESS`",
    example: r#"local there, score = msg:context_exists_and_get(msys.core.VCTX_MESS, "score")"#,
    call: Call::Sync(|ctx, args| {
        let (message, key) = (args.message()?, args.text(1)?);
        let value = message.context(context_kind(args, 0)?, |context| context.get(&key).cloned());
        Ok(match value {
            Some(value) => Ret::Two(Value::Integer(1), ctx.bytes(&value)?),
            None => Ret::Two(Value::Integer(0), Value::Nil),
        })
    }),
    ..FUNCTION
};

pub static GET: Function = Function {
    name: "msg:context_get",
    package: "msys.core",
    since: "3.0",
    phases: READERS,
    params: &[KIND, KEY],
    returns: &[returns("string", "the value, or the empty string when there is no such key")],
    doc: "Reads a value. What was set as a number or boolean comes back as text.",
    page: "4/lua/ref-msg-context-get.md",
    raises: "when `type` is neither `VCTX_CONN` nor `VCTX_MESS`",
    example: r#"if msg:context_get(msys.core.VCTX_CONN, "trusted") == "1" then msg:header("X-Trusted", "yes") end"#,
    call: Call::Sync(|_, args| {
        let (message, key) = (args.message()?, args.text(1)?);
        let value = message.context(context_kind(args, 0)?, |context| context.get(&key).cloned());
        Ok(Ret::Bytes(value.unwrap_or_default()))
    }),
    ..FUNCTION
};

pub static SET: Function = Function {
    name: "msg:context_set",
    package: "msys.core",
    since: "3.0",
    phases: READERS,
    params: &[KIND, KEY, param("value", Type::Scalar, "nil changes nothing and is logged")],
    doc: "Writes a value; it travels with the message.",
    page: "4/lua/ref-msg-context-set.md",
    raises: "when `type` is neither `VCTX_CONN` nor `VCTX_MESS`, and when key, value or context would be too large",
    example: r#"msg:context_set(msys.core.VCTX_MESS, "campaign", msg:header("X-Campaign")[1] or "none")"#,
    call: Call::Sync(set),
    ..FUNCTION
};

fn set(ctx: &Ctx<'_>, args: &Args) -> Result<Ret, ApiError> {
    let (message, key) = (args.message()?, args.text(1)?);
    let kind = context_kind(args, 0)?;
    let Some(value) = context_value(ctx, args, 2)? else { return Ok(Ret::None) };
    message.context(kind, |context| check_context_size(ctx, context, &key, &value))?;
    message.context_mut(kind, |context| context.set(&key, value));
    Ok(Ret::None)
}
