//! `msys.registerControl`: console commands; and what only hooks of bindings and of TLS need.

use crate::registry::{ApiError, Args, Call, Ctx, FUNCTION, Function, Phase, Phases, Ret, Type, param, returns};
use crate::tls::TlsParameters;
use mlua::Value;

pub static REGISTER_CONTROL: Function = Function {
    name: "msys.registerControl",
    since: "3.1",
    phases: Phases::new("init", &[Phase::Init]).works_anywhere(),
    params: &[
        param(
            "prefix",
            Type::String,
            "the command's first word or words, in any case; the longest one that fits is run",
        ),
        param(
            "closure",
            Type::Any,
            "a function that is called with `cc`: `cc.argc` is the number of words, the command's own included, and `cc.argv` has \
             them from 0, without quotes",
        ),
    ],
    doc: "Adds a command to the console. What the function prints is the answer, and a string that it returns is appended. \
          The command goes away with the configuration that made it; `authorization` holds for it as for any other.",
    page: "4/lua/ref-msys-register-control.md",
    raises: "when `prefix` is no name of a command",
    example: r#"
        msys.registerControl("hello", function(cc)
          print("hello " .. (cc.argv[1] or "world"))
        end)
    "#,
    call: Call::Sync(register_control),
    ..FUNCTION
};

pub static BINDING_ID: Function = Function {
    name: "msys.core.config_get_binding_id_from_name",
    params: &[param("name", Type::String, "the name of a binding")],
    returns: &[returns("integer", "its slot; -1 when there is no such binding")],
    doc: "The slot of a binding, as `core_binding_group_choose_binding` returns it. A reload may change it.",
    example: r#"local slot = msys.core.config_get_binding_id_from_name("default")"#,
    call: Call::Sync(|ctx, args| Ok(Ret::integer(ctx.host.services.routes.slot_of(&args.text(0)?).unwrap_or(-1)))),
    ..FUNCTION
};

pub static BINDING_NAME: Function = Function {
    name: "msys.core.config_get_binding_name_from_id",
    params: &[param("id", Type::Integer, "a slot")],
    returns: &[returns("string|nil", "the binding's name; nil when the slot is of no binding")],
    doc: "The name of the binding in a slot.",
    example: "local name = msys.core.config_get_binding_name_from_id(0)",
    call: Call::Sync(|ctx, args| match ctx.host.services.routes.binding_in_slot(args.number(0)? as i64) {
        Some((name, _)) => ctx.string(name.as_bytes()),
        None => Ok(Ret::NIL),
    }),
    ..FUNCTION
};

pub static GROUP_SIZE: Function = Function {
    name: "msys.core.config_get_binding_group_size",
    params: &[param("group", Type::String, "the name of a binding group")],
    returns: &[returns("integer", "how many bindings it has; 0 when there is no such group")],
    doc: "The size of a binding group.",
    example: r#"if msys.core.config_get_binding_group_size("bulk") == 0 then print("no bindings") end"#,
    call: Call::Sync(|ctx, args| {
        let size = ctx.host.services.routes.group_size(&args.text(0)?);
        Ok(Ret::integer(i64::try_from(size).unwrap_or(i64::MAX)))
    }),
    ..FUNCTION
};

pub static TLS_PARAMS_SET: Function = Function {
    name: "msys.tls_params.set",
    params: &[
        param("tls_params", Type::Userdata, "what a hook that may change TLS was given"),
        param("param", Type::String, "`certfile`, `keyfile`, `ca`, `cipherlist` or `tls_verify`"),
        param("val", Type::String, "the value, for this connection alone"),
    ],
    doc: "Sets a TLS parameter of a connection: the same as assigning the field.",
    page: "4/lua/ref-msys-tls-params-set.md",
    raises: "when the first argument is no set of TLS parameters",
    example: r#"
        msys.registerModule("tls", {
          outbound_smtp_pre_tls = function(self, msg, params)
            msys.tls_params.set(params, "ca", "/etc/ssl/certs/ca-certificates.crt")
          end,
        })
    "#,
    call: Call::Sync(|ctx, args| {
        let Value::UserData(data) = args.arg(0).to_value(&ctx.lua)? else {
            return Err(args.bad(0, "TLS parameters expected"));
        };
        let parameters = data.borrow::<TlsParameters>().map_err(|_| args.bad(0, "TLS parameters expected"))?.clone();
        parameters.set(&args.text(1)?, &args.arg(2).to_value(&ctx.lua)?).map_err(|text| ctx.raise(text))?;
        Ok(Ret::None)
    }),
    ..FUNCTION
};

fn register_control(ctx: &Ctx<'_>, args: &Args) -> Result<Ret, ApiError> {
    let value = args.arg(1).to_value(&ctx.lua)?;
    let Value::Function(closure) = value else {
        let got = crate::registry::type_name(&value);
        return Err(args.bad(1, format!("function expected, got {got}")));
    };
    ctx.host.register_control(&args.text(0)?, closure).map_err(|text| ctx.raise(text))?;
    Ok(Ret::None)
}
