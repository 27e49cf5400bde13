//! `msys.dp_config.custom_policy`: functions `pre_<hook>` and `post_<hook>` around the hooks of all modules.
//!
//! That is how sites of Momentum's default policy add their own without touching it (3/3-policy/policy-customize.md). The functions
//! get the hook's arguments without `self`. `VALIDATE_DONE` of a `pre_` function ends the phase like that of any other hook.

use crate::call::Module;
use crate::hooks::Hook;
use crate::host::{Host, Policy};
use mlua::{Function, Lua, Table, Value};
use std::sync::Arc;

/// The name of the module in logs and counters.
const NAME: &str = "custom_policy";

impl Policy {
    /// Enters what the scripts have left in the table, once all of them are loaded.
    pub(crate) fn enter_custom_policy(&self) -> mlua::Result<()> {
        let Some(table) = find(&self.lua)? else { return Ok(()) };
        let (mut before, mut after) = (Vec::new(), Vec::new());
        for pair in table.pairs::<Value, Value>() {
            let (Value::String(key), Value::Function(function)) = pair? else { continue };
            let key = key.to_string_lossy();
            let (list, name) = match (key.strip_prefix("pre_"), key.strip_prefix("post_")) {
                (Some(name), _) => (&mut before, name),
                (_, Some(name)) => (&mut after, name),
                _ => continue,
            };
            match Hook::named(name) {
                Some(hook) => {
                    if !hook.is_called() {
                        self.host.warn(&format!("scriptlet: {NAME}: {key} is known, but not called yet"));
                    }
                    list.push((hook, without_self(&self.lua, &function)?));
                }
                None => self.host.warn(&format!("scriptlet: {NAME}: no hook is named {name}")),
            }
        }
        self.host.enter_around(table, before, after);
        Ok(())
    }
}

impl Host {
    fn enter_around(&self, table: Table, mut before: Vec<(Hook, Function)>, mut after: Vec<(Hook, Function)>) {
        before.sort_by_key(|(hook, _)| *hook);
        after.sort_by_key(|(hook, _)| *hook);
        let hooks: Vec<Hook> = before.iter().chain(&after).map(|(hook, _)| *hook).collect();
        if hooks.is_empty() {
            return;
        }
        let current = self.dispatch.load_full();
        let index = current.modules.len();
        let module = Arc::new(Module { name: NAME.to_owned(), script: String::new(), index, table });
        self.dispatch.store(Arc::new(current.around(module, before, after)));
        hooks.into_iter().for_each(|hook| self.mark_present(hook));
    }
}

/// The table, unless a site has put something else in its place.
fn find(lua: &Lua) -> mlua::Result<Option<Table>> {
    let mut table = lua.globals();
    for name in ["msys", "dp_config", "custom_policy"] {
        let Value::Table(next) = table.raw_get::<Value>(name)? else { return Ok(None) };
        table = next;
    }
    Ok(Some(table))
}

fn without_self(lua: &Lua, function: &Function) -> mlua::Result<Function> {
    lua.load("local of = ... return function(_, ...) return of(...) end").set_name("=posthaste").call(function)
}
