//! Test scripts of policy authors: Lua in a state of its own, which asks Rust for everything that concerns the policy under test.
//!
//! The policy has another state, so that it is as it is in a server: no test sees its globals, and each test may have a fresh one.
//! What passes between the two is plain: nil, booleans, numbers, strings and tables of them.

use crate::call::Frame;
use crate::error::lua_error_cause;
use crate::host::Policy;
use crate::services::Services;
use crate::settings::Settings;
use crate::state;
use futures_util::future::BoxFuture;
use mlua::{Lua, Table, Value};
use serde_json::{Map, Number, Value as Plain};
use std::path::Path;
use std::sync::Arc;

/// Answers what a test script asks: `ask(what, argument)`.
pub type Answer = Arc<dyn Fn(String, Plain) -> BoxFuture<'static, Result<Plain, String>> + Send + Sync>;

/// One loaded test script.
pub struct TestScript {
    state: Policy,
    cases: Vec<(String, mlua::Function)>,
}

/// Tables are followed this deep.
const DEPTH_MAX: usize = 20;

impl TestScript {
    /// Runs a test script, which declares its tests.
    pub async fn load(path: &Path, services: Services, answer: Answer) -> Result<TestScript, String> {
        let folder = path.parent().map(Path::to_owned);
        let settings = Settings { folder, ..Settings::default() };
        let state = Policy::build(services, settings, true).await.map_err(|error| error.to_string())?;
        let source = std::fs::read(path).map_err(|error| format!("{}: {error}", path.display()))?;
        let cases = state.prepare(answer).map_err(|error| lua_error_cause(&error))?;
        let chunk = state::compile(&state.lua, &source, &state.host.shown_path(path))?;
        let frame = Frame::loading(&state.host.settings, true);
        state.run(&frame, |_| Ok(chunk.call_async::<()>(()))).await.map_err(|failure| failure.text)?;
        let pairs = cases.sequence_values::<Table>();
        let cases = pairs.map(|case| case.and_then(|case| Ok((case.get("name")?, case.get("run")?))));
        let cases = cases.collect::<mlua::Result<_>>().map_err(|error| lua_error_cause(&error))?;
        Ok(TestScript { state, cases })
    }

    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.cases.iter().map(|(name, _)| name.as_str())
    }

    /// Runs one test; the error is what it failed with.
    pub async fn run(&self, index: usize) -> Result<(), String> {
        let Some((_, function)) = self.cases.get(index) else { return Err("there is no such test".to_owned()) };
        let frame = Frame::loading(&self.state.host.settings, true);
        let outcome = self.state.run(&frame, |_| Ok(function.call_async::<()>(()))).await;
        outcome.map_err(|failure| without_own_lines(&failure.text))
    }
}

/// A traceback without the lines of these words and of the host.
fn without_own_lines(text: &str) -> String {
    let own = |line: &&str| !["[C]: ", "posthaste:", "test:"].iter().any(|own| line.trim_start().starts_with(own));
    let mut lines = text.lines();
    let first = lines.next().unwrap_or_default();
    [first].into_iter().chain(lines.filter(own)).collect::<Vec<_>>().join("\n")
}

impl Policy {
    /// Puts the words of test scripts into the state; returned is the list that cases go to.
    fn prepare(&self, answer: Answer) -> mlua::Result<Table> {
        let lua = &self.lua;
        let ask = lua.create_async_function(move |lua, (what, argument): (String, Value)| {
            let answer = answer.clone();
            async move {
                let argument = to_plain(&argument, 0)?;
                match answer(what, argument).await {
                    Ok(plain) => Ok((from_plain(&lua, &plain)?, Value::Nil)),
                    Err(text) => Ok((Value::Nil, Value::String(lua.create_string(text)?))),
                }
            }
        })?;
        let cases = lua.create_table()?;
        lua.load(include_str!("testing.lua")).set_name("=test").call::<()>((&ask, &cases))?;
        Ok(cases)
    }
}

fn to_plain(value: &Value, depth: usize) -> mlua::Result<Plain> {
    let refused = |what: &str| Err(mlua::Error::runtime(format!("{what} cannot be given to the policy under test")));
    Ok(match value {
        Value::Nil => Plain::Null,
        Value::Boolean(value) => Plain::Bool(*value),
        Value::Integer(number) => Plain::from(*number),
        // Whole numbers stay whole: a clock, a count.
        Value::Number(number) if number.fract() == 0.0 && number.abs() < 9e15 => Plain::from(*number as i64),
        Value::Number(number) => Number::from_f64(*number).map_or(Plain::Null, Plain::Number),
        Value::String(text) => Plain::String(text.to_string_lossy()),
        Value::Table(_) if depth >= DEPTH_MAX => return refused("a table this deep"),
        Value::Table(table) if table.raw_len() > 0 => {
            let items = table.sequence_values::<Value>();
            Plain::Array(items.map(|item| to_plain(&item?, depth + 1)).collect::<mlua::Result<_>>()?)
        }
        Value::Table(table) => {
            let mut map = Map::new();
            for pair in table.pairs::<String, Value>() {
                let (key, value) = pair?;
                map.insert(key, to_plain(&value, depth + 1)?);
            }
            Plain::Object(map)
        }
        other => return refused(&format!("a {}", other.type_name())),
    })
}

fn from_plain(lua: &Lua, plain: &Plain) -> mlua::Result<Value> {
    Ok(match plain {
        Plain::Null => Value::Nil,
        Plain::Bool(value) => Value::Boolean(*value),
        Plain::Number(number) => Value::Number(number.as_f64().unwrap_or(f64::NAN)),
        Plain::String(text) => Value::String(lua.create_string(text)?),
        Plain::Array(items) => {
            let table = lua.create_table()?;
            for (at, item) in items.iter().enumerate() {
                table.raw_set(at + 1, from_plain(lua, item)?)?;
            }
            Value::Table(table)
        }
        Plain::Object(map) => {
            let table = lua.create_table()?;
            for (key, value) in map {
                table.raw_set(key.as_str(), from_plain(lua, value)?)?;
            }
            Value::Table(table)
        }
    })
}
