//! One LuaJIT state: libraries, prelude, packages, constants, search path.
//!
//! The state knows the host only through weak references, so that dropping the `Policy` drops everything.

use crate::api;
use crate::dialect;
use crate::error::{lua_error_cause, lua_error_text};
use crate::host::Host;
use crate::pattern;
use crate::raw;
use crate::registry::{self, package};
use crate::services::LogLevel;
use mlua::{IntoLuaMulti, Lua, LuaString, MultiValue, Table, Value};
use std::path::Path;
use std::sync::Arc;

/// Makes a state with everything a policy finds in it.
pub(crate) fn new(host: &Arc<Host>) -> mlua::Result<Lua> {
    let lua = raw::new_state();
    let functions = host_functions(&lua, host)?;
    lua.load(include_str!("prelude.lua")).set_name("=posthaste").call::<()>(&functions)?;
    crate::task::add_functions(&lua, host, &functions)?;
    let msys = package(&lua, "msys")?;
    lua.load(include_str!("thread.lua")).set_name("=posthaste").call::<()>((&functions, &msys))?;
    lua.load(include_str!("pool.lua")).set_name("=posthaste").call::<()>((&functions, &msys))?;
    for key in ["make_index", "make_newindex", "compile", "pool_stats"] {
        lua.set_named_registry_value(&format!("posthaste.{key}"), functions.raw_get::<Value>(key)?)?;
    }
    constants(&lua)?;
    registry::install(&lua, host, api::TABLES)?;
    api::after_install(&lua)?;
    search_path(&lua, host)?;
    lua.gc_set_mode(mlua::state::GcMode::Incremental(
        mlua::state::GcIncParams::default()
            .pause(host.settings.gc_pause as i32)
            .step_multiplier(host.settings.gc_step_multiplier as i32),
    ));
    if host.settings.memory_limit > 0 {
        lua.set_memory_limit(host.settings.memory_limit)?;
    }
    Ok(lua)
}

/// What `prelude.lua` needs of the host.
fn host_functions(lua: &Lua, host: &Arc<Host>) -> mlua::Result<Table> {
    let table = lua.create_table()?;
    table.raw_set("pending", Lua::poll_pending())?;
    table.raw_set("helpers", lua.create_table()?)?;
    table.raw_set("print_separator", if host.settings_for_scripts_output() { "\t" } else { " " })?;
    table.raw_set(
        "error_text",
        lua.create_function(|lua, failure: Value| match failure {
            Value::Error(error) => Ok(Value::String(lua.create_string(lua_error_cause(&error))?)),
            other => Ok(other),
        })?,
    )?;
    let weak = Arc::downgrade(host);
    table.raw_set(
        "print",
        lua.create_function(move |_, text: LuaString| {
            if let Some(host) = weak.upgrade() {
                let text = text.to_string_lossy();
                if !host.print_to_console(&text) {
                    host.services.log.print(&text);
                }
            }
            Ok(())
        })?,
    )?;
    let weak = Arc::downgrade(host);
    table.raw_set(
        "log",
        lua.create_function(move |_, (level, text): (i64, LuaString)| {
            if let (Some(host), Some(level)) = (weak.upgrade(), LogLevel::from_number(level))
                && host.services.log.is_on(level)
            {
                host.services.log.panic(level, "scriptlet", &text.to_string_lossy());
            }
            Ok(())
        })?,
    )?;
    let weak = Arc::downgrade(host);
    table.raw_set(
        "frame_tls",
        lua.create_function(move |lua, ()| match weak.upgrade() {
            Some(host) => host.frame_tls(lua),
            None => lua.create_table(),
        })?,
    )?;
    let weak = Arc::downgrade(host);
    table.raw_set(
        "shown_path",
        lua.create_function(move |_, path: LuaString| {
            let path = path.to_string_lossy();
            Ok(weak.upgrade().map_or(path.clone(), |host| host.shown_path(Path::new(&path))))
        })?,
    )?;
    table.raw_set("short_name", lua.create_function(short_name)?)?;
    table.raw_set("translate", lua.create_function(translate)?)?;
    table.raw_set(
        "can_explode",
        lua.create_function(|_, text: LuaString| Ok(pattern::can_explode(&text.as_bytes())))?,
    )?;
    table.raw_set("search", lua.create_function(search)?)?;
    table.raw_set("steps_max", pattern::STEPS_MAX)?;
    table.raw_set("wide", lua.create_function(wide)?)?;
    table.raw_set("package", lua.create_function(|lua, name: String| package(lua, &name))?)?;
    table.raw_set("is_builtin", lua.create_function(|_, name: String| Ok(api::is_builtin_package(&name)))?)?;
    Ok(table)
}

/// Dialect source to LuaJIT source: `text, used helpers` or `nil, message`.
fn translate(lua: &Lua, (source, name): (LuaString, LuaString)) -> mlua::Result<(Value, Value)> {
    match dialect::translate(&source.as_bytes()) {
        Ok(translated) => {
            let used = match translated.helpers.as_slice() {
                [] => Value::Nil,
                helpers => Value::Table(lua.create_sequence_from(helpers.iter().copied())?),
            };
            Ok((Value::String(lua.create_string(&translated.text)?), used))
        }
        Err(error) => {
            let chunk = dialect::chunk_name(&name.as_bytes());
            Ok((Value::Nil, Value::String(lua.create_string(format!("{chunk}:{}: {}", error.line, error.text))?)))
        }
    }
}

/// The name to compile a chunk under: LuaJIT cuts a long first line at another place than Lua 5.1, so ours is cut before.
fn short_name(lua: &Lua, name: LuaString) -> mlua::Result<LuaString> {
    let bytes = name.as_bytes();
    let plain = matches!(bytes.first(), Some(b'@' | b'=')) || bytes.len() <= 43;
    if plain { Ok(name.clone()) } else { lua.create_string(format!("={}", dialect::chunk_name(&bytes))) }
}

/// One search by the matcher that counts its steps: `steps left, start, end, captures...`, or `steps left` alone; `nil, message`
/// for a malformed pattern or too many steps.
fn search(
    lua: &Lua,
    (subject, text, from, anchored, mut steps): (LuaString, LuaString, usize, bool, u64),
) -> mlua::Result<MultiValue> {
    let subject = subject.as_bytes();
    let found = match pattern::search(&subject, &text.as_bytes(), from - 1, anchored, &mut steps) {
        Ok(found) => found,
        Err(error) => return (Value::Nil, error.to_string()).into_lua_multi(lua),
    };
    let mut values = vec![Value::Number(steps as f64)];
    if let Some(found) = found {
        values.push(Value::Number((found.start + 1) as f64));
        values.push(Value::Number(found.end as f64));
        for capture in found.captures {
            values.push(match capture {
                pattern::Capture::Span(start, end) => Value::String(lua.create_string(&subject[start..end])?),
                pattern::Capture::Position(at) => Value::Number(at as f64),
            });
        }
    }
    Ok(MultiValue::from_vec(values))
}

/// The bit operators on signed 64-bit integers, for what 32 bits do not hold.
fn wide(_: &Lua, (operation, a, b): (LuaString, f64, f64)) -> mlua::Result<f64> {
    let (a, b) = (to_int64(a), to_int64(b));
    Ok(match &*operation.as_bytes() {
        b"and" => a & b,
        b"or" => a | b,
        b"xor" => a ^ b,
        b"not" => !a,
        // Shift counts are taken modulo 64, as x86 does.
        b"shl" => a.wrapping_shl(b as u32),
        _ => a.wrapping_shr(b as u32),
    } as f64)
}

/// Cut toward zero; NaN and what lies outside becomes -2^63, as x86 converts.
fn to_int64(number: f64) -> i64 {
    const LIMIT: f64 = 9_223_372_036_854_775_808.0;
    if (-LIMIT..LIMIT).contains(&number) { number as i64 } else { i64::MIN }
}

fn search_path(lua: &Lua, host: &Host) -> mlua::Result<()> {
    let patterns: Vec<String> = host
        .settings
        .search_folders()
        .iter()
        .flat_map(|folder| [folder.join("?.lua"), folder.join("?/init.lua")])
        .map(|path| path.to_string_lossy().into_owned())
        .collect();
    package(lua, "package")?.raw_set("path", patterns.join(";"))
}

/// Numbers that policies know by name. Those marked in the reference's material keep its values.
fn constants(lua: &Lua) -> mlua::Result<()> {
    for (name, values) in api::CONSTANTS {
        let table = package(lua, name)?;
        for (key, value) in *values {
            table.raw_set(*key, *value)?;
        }
    }
    let core = package(lua, "msys.core")?;
    for key in ["mailfrom", "rcptto"] {
        for part in ["domain", "localpart", "string"] {
            let name = format!("STANDARD_KEY_{}_{}", key.to_ascii_uppercase(), part.to_ascii_uppercase());
            core.raw_set(name, format!("{key}_{part}"))?;
        }
    }
    for (number, state) in api::MC_STATES.iter().enumerate() {
        core.raw_set(format!("MC_STATE_{state}"), number)?;
    }
    Ok(())
}

/// Compiles dialect source as the chunk `@shown`.
pub(crate) fn compile(lua: &Lua, source: &[u8], shown: &str) -> Result<mlua::Function, String> {
    let compile: mlua::Function =
        lua.named_registry_value("posthaste.compile").map_err(|error| lua_error_text(&error))?;
    let (function, problem): (Option<mlua::Function>, Option<LuaString>) = lua
        .create_string(source)
        .and_then(|text| compile.call((text, format!("@{shown}"))))
        .map_err(|error| lua_error_text(&error))?;
    function.ok_or_else(|| problem.map_or_else(|| "cannot be compiled".to_owned(), |text| text.to_string_lossy()))
}
