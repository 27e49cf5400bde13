//! `core_binding_group_choose_binding`: a policy picks the member of a binding group.
//!
//! It is asked in the middle of a function of the API that is itself called by a hook, so it runs at once, inside the same turn
//! and its budget: such a hook cannot wait.

use super::Frame;
use crate::error::lua_error_text;
use crate::hooks::Hook;
use crate::host::Host;
use crate::userdata::Msg;
use mlua::{Lua, Value};
use ph_eventlog::metrics;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;

impl Host {
    /// One binding of `group`, as the policy's hook says, or by weight and state where no hook answers. `None`: no such group.
    pub(crate) fn choose_binding(self: &Arc<Self>, lua: &Lua, message: &Msg, group: &str) -> Option<String> {
        let hook = Hook::CoreBindingGroupChooseBinding;
        let by_weight = || self.services.routes.choose(group);
        if !self.has(hook) {
            return by_weight();
        }
        let chance = by_weight()?; // the policy is asked about groups that are there
        let outer = self.frame().map(|outer| (outer.session.clone(), outer.message_generation));
        let (session, message_generation) = outer.unwrap_or_default();
        let plain = Frame::new(hook.phase(), Some(hook), self.settings.hook_cpu_limit);
        let frame = Arc::new(Frame { session, message_generation, async_ok: false, ..plain });
        let before = self.enter(&frame);
        let answer = self.ask_for_slot(lua, message, group);
        self.leave(before);
        let Some(slot) = answer else { return Some(chance) };
        match self.services.routes.binding_in_slot(slot) {
            Some((name, of)) if of == group => Some(name),
            _ => {
                self.error(&format!("scriptlet: {}: {slot} is no binding of group {group}", hook.name()));
                Some(chance)
            }
        }
    }

    /// The slot that the first module with an answer names.
    fn ask_for_slot(&self, lua: &Lua, message: &Msg, group: &str) -> Option<i64> {
        let hook = Hook::CoreBindingGroupChooseBinding;
        // The function that asks may have lifted the limit for values of its own.
        let _ = lua.set_memory_limit(self.settings.memory_limit);
        for entry in self.dispatch.load().list(hook).iter() {
            let began = Instant::now();
            let answer = lua
                .create_userdata(message.clone())
                .and_then(|message| entry.function.call::<Value>((&entry.module.table, message, group)))
                .map_err(|error| lua_error_text(&error))
                .and_then(|value| super::number(hook, &value));
            entry.seconds.observe(began.elapsed());
            let took_us = u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX);
            entry.stats.calls.fetch_add(1, Relaxed);
            entry.stats.total_us.fetch_add(took_us, Relaxed);
            entry.stats.worst_us.fetch_max(took_us, Relaxed);
            match answer {
                Ok(super::Verdict::Number(slot)) if slot != hook.returns().goes_on() => return Some(slot),
                Ok(_) => {}
                Err(text) => {
                    entry.stats.errors.fetch_add(1, Relaxed);
                    metrics::HOOK_ERRORS.add(hook.name(), 1);
                    let module = &entry.module.name;
                    self.error(&format!("scriptlet: {module}: {} error: {text}", hook.name()));
                }
            }
        }
        None
    }
}
