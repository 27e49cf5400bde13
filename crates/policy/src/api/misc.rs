//! What belongs to no object: registering modules, logging, types, dumps, files.

use crate::call::Module;
use crate::hooks::Hook;
use crate::host::Host;
use crate::objects::Message;
use crate::registry::{ApiError, Args, Call, Ctx, FUNCTION, Function, Ret, Table, Type, optional, param, returns};
use crate::services::LogLevel;
use crate::userdata::{Class, Msg};
use mlua::Value;
use ph_message::{Envelope, Protocol};
use std::io::Read;
use std::path::PathBuf;
use std::sync::Arc;

mod addresses;
mod cast;
mod config;
mod control;
mod dns;
pub(crate) mod domain;
mod dumper;
mod fcdns;
mod macros;
mod pbp;
mod shared;

pub static TABLE: Table = Table {
    name: "misc",
    package: "msys",
    functions: &[
        &ASYNC_OK,
        &dumper::DUMPER,
        &READFILE,
        &control::REGISTER_CONTROL,
        &REGISTER_MODULE,
        &TYPE,
        &LOG,
        &GETHOSTNAME,
        &MESSAGE_NEW,
        &CLASS_META_TABLE,
        &addresses::PARSE,
        &cast::CAST,
        &config::CONFIG,
        &dns::LOOKUP,
        &domain::GET_DOMAIN,
        &domain::DELAY_DOMAIN,
        &macros::EXPAND,
        &shared::GET,
        &shared::SET,
        &shared::UNSET,
        &control::BINDING_ID,
        &control::BINDING_NAME,
        &control::GROUP_SIZE,
        &control::TLS_PARAMS_SET,
        &fcdns::FCDNS_CHECK,
        &pbp::CHECK_WHITELIST,
        &pbp::SET_WHITELIST,
        &pbp::SIZE_IN_BYTES,
    ],
};

static ASYNC_OK: Function = Function {
    name: "msys.asyncOk",
    since: "3.1",
    returns: &[returns("boolean", "false while a script is being loaded")],
    doc: "Whether the running code may wait without holding anybody up.",
    page: "4/lua/ref-msys-async-ok.md",
    example: "if msys.asyncOk() then msys.sleep(0.01) end",
    call: Call::Sync(|ctx, _| Ok(Ret::One(Value::Boolean(ctx.host.async_ok())))),
    ..FUNCTION
};

static READFILE: Function = Function {
    name: "msys.readfile",
    since: "3.1",
    params: &[param("filename_or_uri", Type::String, "a path or a `file:` URI")],
    returns: &[returns("string|nil", "the whole content"), returns("string|nil", "why not")],
    doc: "Reads a file. Other sessions go on meanwhile.",
    page: "4/lua/ref-msys-readfile.md",
    example: r#"
        local text, problem = msys.readfile("/etc/hosts")
        if not text then msys.core.log(msys.core.LOG_ERROR, problem) end
    "#,
    call: Call::Async(|ctx, args| Box::pin(readfile(ctx, args))),
    ..FUNCTION
};

static REGISTER_MODULE: Function = Function {
    name: "msys.registerModule",
    since: "3.0",
    params: &[
        param("name", Type::String, "the module's name, as logs show it"),
        param("functable", Type::Table, "its functions; the keys that name hooks are called as hooks"),
    ],
    doc: "Registers the hooks of a module. Functions added to the table until the end of the script count.",
    page: "4/lua/ref-msys-register-module.md",
    example: r#"
        local mod = {}
        function mod:validate_connect(ac, vctx) return msys.core.VALIDATE_CONT end
        msys.registerModule("welcome", mod)
    "#,
    call: Call::Sync(register_module),
    ..FUNCTION
};

static TYPE: Function = Function {
    name: "msys.type",
    since: "3.1",
    params: &[param("parameter", Type::Any, "any value")],
    returns: &[returns("string", "as Lua's `type`, but engine objects give their class")],
    doc: "The type of a value.",
    page: "4/lua/ref-msys-type.md",
    example: r#"if msys.type(msg) == "msys.core:_ec_message" then print("a message") end"#,
    call: Call::Sync(|ctx, args| ctx.string(args.arg(0).type_name().as_bytes())),
    ..FUNCTION
};

static LOG: Function = Function {
    name: "msys.core.log",
    aliases: &["msys.log"],
    params: &[
        param("level", Type::Integer, "`msys.core.LOG_DEBUG` to `LOG_CRITICAL`"),
        param("text", Type::Any, "the line"),
    ],
    doc: "Writes a line to paniclog, if the level is on.",
    raises: "when there is no such level",
    example: r#"msys.core.log(msys.core.LOG_NOTICE, "from " .. msg:mailfrom())"#,
    call: Call::Sync(log),
    ..FUNCTION
};

static GETHOSTNAME: Function = Function {
    name: "gethostname",
    returns: &[returns("string", "the option `hostname`, by default the system's name")],
    doc: "Our host name.",
    example: r#"msg:header("X-Host", gethostname())"#,
    call: Call::Sync(|ctx, _| ctx.string(ctx.host.services.options.hostname().as_bytes())),
    ..FUNCTION
};

static MESSAGE_NEW: Function = Function {
    name: "msys.core.ec_message_new",
    params: &[optional("now", Type::Any, "ignored: the message's time is now")],
    returns: &[returns("msg", "an empty message of the policy's own")],
    doc: "Makes an empty message.",
    example: r#"
        local letter = msys.core.ec_message_new()
        letter:header("Subject", "Hello")
        letter:body("How are you?\r\n")
    "#,
    call: Call::Sync(|ctx, _| {
        let services = &ctx.host.services;
        let created = services.now();
        let id = services.ids.next(created);
        let envelope = Envelope { id, batch_id: id, created, protocol: Protocol::Internal, ..Envelope::default() };
        let message = Message::new(envelope, None);
        Ok(Ret::One(Value::UserData(ctx.lua.create_userdata(Msg::Own(message))?)))
    }),
    ..FUNCTION
};

static CLASS_META_TABLE: Function = Function {
    name: "msys.getClassMetaTable",
    since: "3.1",
    params: &[param("classnamestring", Type::String, "such as `msys.core:_ec_message`")],
    returns: &[returns("table|nil", "nil for an unknown class")],
    doc: "The class of objects: what is added to its `__index` becomes a method of all of them. Built-in methods cannot be replaced.",
    page: "4/lua/ref-msys-get-class-meta-table.md",
    raises: "when a built-in method is to be replaced",
    example: r#"
        local class = msys.getClassMetaTable("msys.core:_ec_message")
        function class.__index.recipient_domain(self) return self:rcptto():match("@(.*)$") end
        local domain = msg:recipient_domain()
    "#,
    call: Call::Sync(class_meta_table),
    ..FUNCTION
};

fn log(ctx: &Ctx<'_>, args: &Args) -> Result<Ret, ApiError> {
    let number = args.number(0)?;
    let level = LogLevel::from_number(number as i64).filter(|level| f64::from(*level as u8) == number);
    let level = level.ok_or_else(|| args.bad(0, format!("no such level: {number}")))?;
    if ctx.host.services.log.is_on(level) {
        let text = match args.arg(1).as_bytes() {
            Some(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
            None => args.arg(1).to_value(&ctx.lua)?.to_string()?,
        };
        ctx.host.services.log.panic(level, "scriptlet", &text);
    }
    Ok(Ret::None)
}

fn register_module(ctx: &Ctx<'_>, args: &Args) -> Result<Ret, ApiError> {
    let (name, table) = (args.text(0)?.into_owned(), args.table(1)?.clone());
    let host = &ctx.host;
    let script = host.loading_script();
    if let Some(script) = &script
        && *script != name
    {
        host.note_once(&format!("scriptlet: script \"{script}\" registers its module as \"{name}\""));
    }
    host.register(name, script.unwrap_or_default(), table)?;
    Ok(Ret::None)
}

impl Host {
    /// Notes a module; its functions are looked up when the script has been loaded (`resolve_modules`), or at once later.
    fn register(&self, name: String, script: String, table: mlua::Table) -> mlua::Result<()> {
        if self.dispatch.load().modules.iter().any(|module| module.name == name) {
            self.warn(&format!("scriptlet: module \"{name}\" is registered twice; both are called"));
        }
        self.pending_modules.lock().push((name, script, table));
        if !self.is_loading() {
            self.note_once("scriptlet: a module was registered after the start; its init is not called");
            self.resolve_modules()?;
        }
        Ok(())
    }

    /// Enters the hooks of the modules that were registered since the last time.
    pub(crate) fn resolve_modules(&self) -> mlua::Result<()> {
        let pending = std::mem::take(&mut *self.pending_modules.lock());
        for (name, script, table) in pending {
            let mut hooks = Vec::new();
            for pair in table.pairs::<Value, Value>() {
                let (Value::String(key), Value::Function(function)) = pair? else { continue };
                let key = key.to_string_lossy();
                match Hook::named(&key) {
                    Some(hook) => {
                        if !hook.is_called() {
                            self.warn(&format!("scriptlet: module \"{name}\": {key} is known, but not called yet"));
                        }
                        hooks.push((hook, function));
                    }
                    None if Hook::looks_like_one(&key) => self.warn(&unknown_hook(&name, &key)),
                    None => {}
                }
            }
            if hooks.is_empty() {
                self.error(&format!("scriptlet: no usable methods found for module {name} in registerModule call"));
            }
            hooks.sort_by_key(|(hook, _)| *hook);
            let current = self.dispatch.load_full();
            let module = Arc::new(Module { name, script, index: current.modules.len(), table });
            let present: Vec<Hook> = hooks.iter().map(|(hook, _)| *hook).collect();
            self.dispatch.store(Arc::new(current.with(module, hooks)));
            for hook in present {
                self.mark_present(hook);
            }
        }
        Ok(())
    }
}

fn unknown_hook(module: &str, key: &str) -> String {
    let nearest = crate::check::nearest(key, Hook::all().map(Hook::name));
    let hint = nearest.map_or_else(String::new, |name| format!("; did you mean {name}?"));
    format!("scriptlet: module \"{module}\": no hook is named {key}{hint}")
}

/// A table whose `__index` takes new methods for the class and refuses to replace built-in ones.
fn class_meta_table(ctx: &Ctx<'_>, args: &Args) -> Result<Ret, ApiError> {
    let name = args.text(0)?;
    let Some(class) = Class::ALL.into_iter().find(|class| class.name() == name && *class != Class::Text) else {
        return Ok(Ret::NIL);
    };
    let key = format!("posthaste.{class:?}.class");
    if let Value::Table(table) = ctx.lua.named_registry_value::<Value>(&key)? {
        return Ok(Ret::One(Value::Table(table)));
    }
    let methods = class.methods(&ctx.lua)?;
    let built_in: std::collections::HashSet<Vec<u8>> = methods
        .clone()
        .pairs::<mlua::LuaString, Value>()
        .map(|pair| pair.map(|(name, _)| name.as_bytes().to_vec()))
        .collect::<mlua::Result<_>>()?;
    let index = ctx.lua.create_table()?;
    let guard = ctx.lua.create_table()?;
    guard.raw_set("__index", &methods)?;
    guard.raw_set(
        "__newindex",
        ctx.lua.create_function(move |lua, (_, name, value): (Value, mlua::LuaString, Value)| {
            if built_in.contains(&*name.as_bytes()) {
                let place = crate::registry::place_of(lua, 1).unwrap_or_default();
                let name = name.to_string_lossy();
                return Err(mlua::Error::RuntimeError(format!("{place}'{name}' is a built-in method")));
            }
            methods.raw_set(name, value)
        })?,
    )?;
    index.set_metatable(Some(guard))?;
    let table = ctx.lua.create_table()?;
    table.raw_set("__index", index)?;
    ctx.lua.set_named_registry_value(&key, &table)?;
    Ok(Ret::One(Value::Table(table)))
}

async fn readfile(ctx: Ctx<'static>, args: Args) -> Result<Ret, ApiError> {
    let name = args.text(0)?.into_owned();
    let path = match name.split_once(':') {
        Some(("file", rest)) => PathBuf::from(rest.strip_prefix("//").unwrap_or(rest)),
        Some((scheme @ ("http" | "https"), rest)) if rest.starts_with("//") => {
            return ctx.failure(&format!("{name}: {scheme} is not supported"));
        }
        _ => PathBuf::from(&name),
    };
    let size_max = ctx.host.settings.readfile_size_max;
    let shown = path.display().to_string();
    let read = tokio::task::spawn_blocking(move || {
        let mut bytes = Vec::new();
        std::fs::File::open(&path)?.take(size_max + 1).read_to_end(&mut bytes)?;
        std::io::Result::Ok(bytes)
    });
    match read.await.map_err(std::io::Error::other).flatten() {
        Ok(bytes) if bytes.len() as u64 > size_max => ctx.failure(&format!("{shown}: larger than {size_max} octets")),
        Ok(bytes) => ctx.string(&bytes),
        Err(error) => ctx.failure(&format!("{shown}: {}", words(&error))),
    }
}

/// The words of an error of the system, without Rust's number.
fn words(error: &std::io::Error) -> String {
    let text = error.to_string();
    text.split_once(" (os error").map_or(text.clone(), |(words, _)| words.to_owned())
}
