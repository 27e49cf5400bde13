//! `msys.config`: the console's `config` command for policies.

use crate::registry::{ApiError, Arg, Args, Call, Ctx, FUNCTION, Function, Phase, Ret, Type, param, returns};
use crate::services::ConfigValue;
use mlua::Value;

pub static CONFIG: Function = Function {
    name: "msys.config",
    since: "3.1",
    params: &[
        param("action", Type::String, "`get`, `eval`, `set`, `unset`, `show` ..."),
        param(
            "parameters",
            Type::Any,
            "scopes and their names, then the option, then a value, each a string of its own",
        ),
    ],
    returns: &[
        returns("any", "the value: a number, string, boolean, array or table; nil where there is none or on failure"),
        returns("string", "what the console prints"),
    ],
    doc: "Runs a command on the configuration. `get` looks in the named scope only, `eval` as the server does, `set` and `unset` \
          act at once. Times are in seconds.",
    page: "4/lua/ref-msys-config.md",
    example: r#"local limit = msys.config("eval", "max_outbound_connections")"#,
    call: Call::Async(|ctx, args| Box::pin(config(ctx, args))),
    ..FUNCTION
};

/// Words of one command.
const WORDS_MAX: usize = 32;

async fn config(ctx: Ctx<'static>, args: Args) -> Result<Ret, ApiError> {
    let mut words = vec![args.text(0)?.into_owned()];
    for at in 1..=WORDS_MAX {
        match args.arg(at) {
            Arg::Nil => break,
            Arg::Boolean(value) => words.push(value.to_string()),
            _ => words.push(args.text(at)?.into_owned()),
        }
    }
    // While a configuration is being put in force its scripts run; a change would wait for that to end, and it for the change.
    let is_look =
        ["get", "eval", "show", "showrecurse", "locate"].iter().any(|look| words[0].eq_ignore_ascii_case(look));
    if !is_look && ctx.phase() == Phase::Init {
        return ctx.failure("the configuration cannot be changed while it is being loaded");
    }
    match ctx.host.services.configuration.run(words).await {
        Ok((value, text)) => Ok(Ret::Two(to_lua(&ctx, value)?, ctx.bytes(text.trim_end().as_bytes())?)),
        Err(text) => ctx.failure(text.trim_end()),
    }
}

fn to_lua(ctx: &Ctx<'_>, value: ConfigValue) -> Result<Value, ApiError> {
    Ok(match value {
        ConfigValue::Nothing => Value::Nil,
        ConfigValue::Boolean(value) => Value::Boolean(value),
        ConfigValue::Number(number) => Value::Number(number),
        ConfigValue::Text(text) => ctx.bytes(text.as_bytes())?,
        ConfigValue::List(items) => Value::Table(ctx.lua.create_sequence_from(items)?),
        ConfigValue::Dictionary(pairs) => Value::Table(ctx.lua.create_table_from(pairs)?),
    })
}
