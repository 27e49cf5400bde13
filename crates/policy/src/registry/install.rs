//! Puts the declared functions into a Lua state: under their names, on the classes of their objects, with their checks.

use super::arguments::{Object, Receiver};
use super::{ApiError, Arg, Args, Call, Ctx, Function, Phase, Ret, SyncCall, Table};
use crate::host::{Host, PhaseCheck};
use crate::trace::{self, CallTrace};
use crate::userdata::{self, Class};
use mlua::{FromLua, Lua, Value, Variadic};
use std::borrow::Cow;
use std::sync::Arc;

/// Registers every function of `tables`.
pub(crate) fn install(lua: &Lua, host: &Arc<Host>, tables: &[&Table]) -> mlua::Result<()> {
    let functions = || tables.iter().flat_map(|table| table.functions);
    let forms: Vec<&str> = functions().filter(|f| matches!(f.call, Call::Form)).map(|f| f.name).collect();
    for function in functions() {
        match (&function.call, function.class()) {
            (Call::Form, _) => {}
            (Call::Lua, _) => {}
            (Call::Field { get, set }, Some(class)) => {
                class.getters(lua)?.raw_set(function.short_name(), sync_function(lua, host, function, *get, true)?)?;
                if let Some(set) = set {
                    class
                        .setters(lua)?
                        .raw_set(function.short_name(), sync_function(lua, host, function, *set, true)?)?;
                }
            }
            (Call::Field { .. }, None) => {
                return Err(mlua::Error::runtime(format!("{} is a field of no class", function.name)));
            }
            (_, Some(class)) => {
                let made = make(lua, host, function, &forms)?;
                class.methods(lua)?.raw_set(function.short_name(), &made)?;
                if class == Class::Message {
                    // The C names of the reference: `msys.core.ec_message_context_get(msg, ...)`.
                    let core = package(lua, "msys.core")?;
                    core.raw_set(format!("ec_message_{}", function.short_name()), &made)?;
                }
                for alias in function.aliases {
                    place(lua, alias, &made)?;
                }
            }
            (_, None) => {
                let made = make(lua, host, function, &forms)?;
                place(lua, function.name, &made)?;
                for alias in function.aliases {
                    place(lua, alias, &made)?;
                }
            }
        }
    }
    Ok(())
}

fn place(lua: &Lua, name: &str, function: &mlua::Function) -> mlua::Result<()> {
    match name.rsplit_once('.') {
        Some((owner, short)) => package(lua, owner)?.raw_set(short, function),
        None => lua.globals().raw_set(name, function),
    }
}

/// The global table of that dotted name, made where it is not there yet.
pub(crate) fn package(lua: &Lua, name: &str) -> mlua::Result<mlua::Table> {
    let mut table = lua.globals();
    for part in name.split('.') {
        table = match table.raw_get::<Value>(part)? {
            Value::Table(next) => next,
            _ => {
                let next = lua.create_table()?;
                table.raw_set(part, &next)?;
                next
            }
        };
    }
    Ok(table)
}

fn make(lua: &Lua, host: &Arc<Host>, function: &'static Function, forms: &[&str]) -> mlua::Result<mlua::Function> {
    match function.call {
        Call::Sync(call) => sync_function(lua, host, function, call, !forms.contains(&function.name)),
        Call::Async(call) => {
            let host = host.clone();
            lua.create_async_function(move |lua, values: Variadic<Arg>| {
                let args = Args::many(function, values.into());
                // mlua's waiting loop, written in Lua, stands between. Boxed: every waiting call carries the place for it.
                let tracing = trace::is_on().then(|| CallTrace::begin(&host, &lua, function, &args, 2)).flatten();
                let tracing = tracing.map(Box::new);
                let ready = check(&host, &lua, function, &args);
                let ctx = Ctx { lua: Cow::Owned(lua), host: Cow::Owned(host.clone()), function };
                async move {
                    let lua = ctx.lua.clone().into_owned();
                    let outcome = match ready {
                        Ok(()) => call(ctx, args).await,
                        Err(error) => Err(error),
                    };
                    if let Some(tracing) = tracing {
                        tracing.end(&outcome);
                    }
                    // Level 1 is mlua's waiting loop, written in Lua; the policy's line is at level 2.
                    finish(&lua, outcome, 2)?.into_multi(&lua)
                }
            })
        }
        Call::Field { .. } | Call::Form | Call::Lua => Err(mlua::Error::runtime("a field or a form is no function")),
    }
}

fn sync_function(
    lua: &Lua,
    host: &Arc<Host>,
    function: &'static Function,
    call: SyncCall,
    one_form: bool,
) -> mlua::Result<mlua::Function> {
    match function.class() {
        None => plain_function(lua, host, function, call),
        Some(Class::Message) => method::<userdata::Msg>(lua, host, function, call, one_form),
        Some(Class::Part) => method::<userdata::Part>(lua, host, function, call, one_form),
        Some(Class::Accept) => method::<userdata::Accept>(lua, host, function, call, one_form),
        Some(Class::Validate) => method::<userdata::Validate>(lua, host, function, call, one_form),
        Some(Class::Str) => method::<userdata::EcString>(lua, host, function, call, one_form),
        Some(Class::Construct) => method::<userdata::Construct>(lua, host, function, call, one_form),
        Some(Class::Text) => Err(mlua::Error::runtime("texts have no declared methods")),
    }
}

/// Calls of up to this many parameters come without an allocation.
const FEW: usize = 4;

fn plain_function(
    lua: &Lua,
    host: &Arc<Host>,
    function: &'static Function,
    call: SyncCall,
) -> mlua::Result<mlua::Function> {
    let host = host.clone();
    let few = function.params.len() <= FEW;
    match (few, function.returns.len() <= 1) {
        (true, true) => lua.create_function(move |lua, (a, b, c, d): (Arg, Arg, Arg, Arg)| {
            let args = Args::few(function, Object::None, [a, b, c, d]);
            Ok(invoke_sync(lua, &host, function, call, args)?.into_one(host.is_roomy(lua)))
        }),
        (true, false) => lua.create_function(move |lua, (a, b, c, d): (Arg, Arg, Arg, Arg)| {
            let args = Args::few(function, Object::None, [a, b, c, d]);
            invoke_sync(lua, &host, function, call, args)?.into_multi(lua)
        }),
        (false, _) => lua.create_function(move |lua, values: Variadic<Arg>| {
            let args = Args::many(function, values.into());
            invoke_sync(lua, &host, function, call, args)?.into_multi(lua)
        }),
    }
}

fn method<T: Clone + Into<Object> + 'static>(
    lua: &Lua,
    host: &Arc<Host>,
    function: &'static Function,
    call: SyncCall,
    one_form: bool,
) -> mlua::Result<mlua::Function>
where
    Receiver<T>: FromLua,
{
    let host = host.clone();
    // Forms are told apart by the number of values: `f(x, nil)` is another one than `f(x)`.
    let few = one_form && function.params.len() < FEW;
    match (few, function.returns.len() <= 1) {
        (true, true) => lua.create_function(move |lua, (object, a, b, c): (Receiver<T>, Arg, Arg, Arg)| {
            let args = Args::few(function, object.object, [a, b, c, Arg::Nil]);
            Ok(invoke_sync(lua, &host, function, call, args)?.into_one(host.is_roomy(lua)))
        }),
        (true, false) => lua.create_function(move |lua, (object, a, b, c): (Receiver<T>, Arg, Arg, Arg)| {
            let args = Args::few(function, object.object, [a, b, c, Arg::Nil]);
            invoke_sync(lua, &host, function, call, args)?.into_multi(lua)
        }),
        (false, _) => lua.create_function(move |lua, (object, values): (Receiver<T>, Variadic<Arg>)| {
            let args = Args::with_object(function, object.object, values.into());
            invoke_sync(lua, &host, function, call, args)?.into_multi(lua)
        }),
    }
}

/// One call: checks, implementation, errors with the policy's script and line.
pub(crate) fn invoke_sync(
    lua: &Lua,
    host: &Arc<Host>,
    function: &'static Function,
    call: SyncCall,
    args: Args,
) -> mlua::Result<Ret> {
    let outcome = if trace::is_on() {
        traced(lua, host, function, call, &args)
    } else {
        attempt(lua, host, function, call, &args)
    };
    finish(lua, outcome, 1)
}

fn attempt(
    lua: &Lua,
    host: &Arc<Host>,
    function: &'static Function,
    call: SyncCall,
    args: &Args,
) -> Result<Ret, ApiError> {
    check(host, lua, function, args)?;
    let ctx = Ctx { lua: Cow::Borrowed(lua), host: Cow::Borrowed(host), function };
    host.unlimited(lua, || call(&ctx, args))
}

#[cold]
fn traced(
    lua: &Lua,
    host: &Arc<Host>,
    function: &'static Function,
    call: SyncCall,
    args: &Args,
) -> Result<Ret, ApiError> {
    let tracing = CallTrace::begin(host, lua, function, args, 1);
    let outcome = attempt(lua, host, function, call, args);
    if let Some(tracing) = tracing {
        tracing.end(&outcome);
    }
    outcome
}

fn check(host: &Host, lua: &Lua, function: &'static Function, args: &Args) -> Result<(), ApiError> {
    args.check_object()?;
    let phase = host.phase();
    if !function.phases.documents(phase) {
        check_phase(host, lua, function, args, phase)?;
    }
    args.check()
}

#[cold]
fn check_phase(host: &Host, lua: &Lua, function: &'static Function, args: &Args, phase: Phase) -> Result<(), ApiError> {
    if args.is_own_message() {
        return Ok(()); // A message that the policy made itself can be worked on anywhere.
    }
    let (name, allowed) = (function.name, function.phases.label);
    if !function.phases.works_in(phase) {
        return Err(ApiError::Raise(format!("{name}: not available in phase '{}' (only in: {allowed})", phase.name())));
    }
    match host.settings.phase_check {
        PhaseCheck::Off => Ok(()),
        PhaseCheck::Error => Err(ApiError::Raise(format!(
            "{name}: not documented for phase '{}' (documented: {allowed}; lua_phase_check = error)",
            phase.name()
        ))),
        PhaseCheck::Warn => {
            let place = place_of(lua, 1).unwrap_or_default();
            host.note_once(&format!(
                "scriptlet: {place}{name} is not documented for phase '{}' (documented: {allowed})",
                phase.name()
            ));
            Ok(())
        }
    }
}

/// Turns a failure into a Lua error with the policy's script and line before it, as Lua's own functions do.
fn finish(lua: &Lua, outcome: Result<Ret, ApiError>, level: usize) -> mlua::Result<Ret> {
    match outcome {
        Ok(ret) => Ok(ret),
        Err(ApiError::Gone("message gone")) => {
            Ok(Ret::Two(Value::Nil, Value::String(lua.create_string("message gone")?)))
        }
        Err(ApiError::Lua(error)) => Err(error),
        Err(error) => {
            let place = place_of(lua, level).unwrap_or_default();
            Err(mlua::Error::RuntimeError(format!("{place}{error}")))
        }
    }
}

/// `script:line: ` of the Lua function at `level`.
pub(crate) fn place_of(lua: &Lua, level: usize) -> Option<String> {
    lua.inspect_stack(level, |debug| {
        let line = debug.current_line()?;
        let source = debug.source();
        Some(format!("{}:{line}: ", source.short_src?))
    })
    .flatten()
}
