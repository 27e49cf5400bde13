//! Tasks and their waits: what the library `thread` is made of (`thread.lua`).
//!
//! A task is a hook call, or what `thread.create` started. Its number names it as the owner of locks; the end of a task that held
//! one is told to the host, and those who wait look again.

use crate::call::{self, Frame};
use crate::host::Host;
use crate::registry::bytes_of;
use crate::services::LogLevel;
use mlua::{Lua, Table, UserData, UserDataRef, Value};
use parking_lot::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::{Duration, Instant};
use tokio::sync::Notify;

/// The part of a frame that locks know.
#[derive(Default)]
pub(crate) struct Task {
    number: OnceLock<u64>,
    watched: OnceLock<Weak<Tasks>>,
}

/// The ends of tasks that held locks.
#[derive(Default)]
pub(crate) struct Tasks {
    ended: Mutex<Vec<u64>>,
    bell: Notify,
}

impl Task {
    fn number(&self) -> u64 {
        static NUMBERS: AtomicU64 = AtomicU64::new(1);
        *self.number.get_or_init(|| NUMBERS.fetch_add(1, Ordering::Relaxed))
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        if let (Some(number), Some(tasks)) = (self.number.get(), self.watched.get().and_then(Weak::upgrade)) {
            tasks.ended.lock().push(*number);
            tasks.bell.notify_waiters();
        }
    }
}

/// What tasks wait on.
#[derive(Clone, Default)]
struct Waiter(Arc<Notify>);

impl UserData for Waiter {}

/// No wait of a policy is longer than this.
const WAIT_MAX_S: f64 = 86_400.0;

/// Adds what `thread.lua` needs to the table of host functions.
pub(crate) fn add_functions(lua: &Lua, host: &Arc<Host>, table: &Table) -> mlua::Result<()> {
    let weak = Arc::downgrade(host);
    let frame = move || weak.upgrade().and_then(|host| Some((host.frame()?, host)));
    let running = frame.clone();
    table.raw_set(
        "task",
        lua.create_function(move |_, ()| Ok(running().map_or(0, |(frame, _)| frame.task.number())))?,
    )?;
    let running = frame.clone();
    table.raw_set(
        "watch_task",
        lua.create_function(move |_, ()| {
            if let Some((frame, host)) = running() {
                frame.task.watched.get_or_init(|| Arc::downgrade(&host.tasks));
            }
            Ok(())
        })?,
    )?;
    let weak = Arc::downgrade(host);
    table.raw_set(
        "ended_tasks",
        lua.create_function(move |lua, ()| {
            let ended = weak.upgrade().map(|host| std::mem::take(&mut *host.tasks.ended.lock()));
            lua.create_sequence_from(ended.unwrap_or_default())
        })?,
    )?;
    let running = frame;
    table.raw_set(
        "hook_name",
        lua.create_function(move |_, ()| {
            Ok(running().and_then(|(frame, _)| frame.hook).map_or("a task", |hook| hook.name()))
        })?,
    )?;
    table.raw_set(
        "text",
        lua.create_function(|lua, value: Value| bytes_of(&value).map(|text| lua.create_string(text)).transpose())?,
    )?;
    let began = Instant::now();
    table.raw_set("seconds", lua.create_function(move |_, ()| Ok(began.elapsed().as_secs_f64()))?)?;
    let pools = lua.create_table()?;
    for (at, pool) in host.settings.thread_pools.iter().enumerate() {
        let entry = lua.create_table()?;
        entry.raw_set("name", pool.name.as_str())?;
        entry.raw_set("id", pool.id)?;
        entry.raw_set("concurrency", pool.concurrency)?;
        entry.raw_set("backlog", pool.backlog)?;
        pools.raw_set(at + 1, entry)?;
    }
    table.raw_set("pools", pools)?;
    table.raw_set("waiter", lua.create_function(|_, ()| Ok(Waiter::default()))?)?;
    table.raw_set(
        "wait",
        lua.create_async_function(|_, (waiter, seconds): (UserDataRef<Waiter>, Option<f64>)| {
            let bell = waiter.0.clone();
            async move {
                match seconds {
                    None => {
                        bell.notified().await;
                        Ok(true)
                    }
                    Some(seconds) => {
                        let limit = Duration::from_secs_f64(seconds.clamp(0.0, WAIT_MAX_S));
                        Ok(tokio::time::timeout(limit, bell.notified()).await.is_ok())
                    }
                }
            }
        })?,
    )?;
    let weak = Arc::downgrade(host);
    table.raw_set(
        "wait_for_lock",
        lua.create_async_function(move |_, waiter: UserDataRef<Waiter>| {
            let bell = waiter.0.clone();
            let tasks = weak.upgrade().map(|host| host.tasks.clone()).unwrap_or_default();
            async move {
                let ended = tasks.bell.notified();
                // A task that ended since the caller looked has rung already.
                if tasks.ended.lock().is_empty() {
                    tokio::select! {
                        () = bell.notified() => {}
                        () = ended => {}
                    }
                }
                Ok(())
            }
        })?,
    )?;
    table.raw_set(
        "wake_one",
        lua.create_function(|_, waiter: UserDataRef<Waiter>| {
            waiter.0.notify_one();
            Ok(())
        })?,
    )?;
    table.raw_set(
        "wake_all",
        lua.create_function(|_, waiter: UserDataRef<Waiter>| {
            waiter.0.notify_waiters();
            Ok(())
        })?,
    )?;
    let weak = Arc::downgrade(host);
    table.raw_set(
        "spawn",
        lua.create_function(move |lua, (function, for_caller): (mlua::Function, Option<bool>)| {
            let (Some(host), Ok(runtime)) = (weak.upgrade(), tokio::runtime::Handle::try_current()) else {
                return Err(mlua::Error::runtime("no task can be started here"));
            };
            let lua = lua.clone();
            // One that its caller waits for is in the caller's phase and session; any other is in none.
            let caller = host.frame();
            let frame = match &caller {
                Some(caller) if for_caller == Some(true) => Frame::job(caller),
                _ => Frame::task(&host.settings, caller.map_or(0, |frame| frame.message_generation)),
            };
            runtime.spawn(async move {
                if let Err(failure) = call::run(&lua, &host, &frame, |_| Ok(function.call_async::<()>(()))).await {
                    host.services.log.panic(
                        LogLevel::Error,
                        "scriptlet",
                        &format!("scriptlet: thread: {}", failure.text),
                    );
                }
            });
            Ok(())
        })?,
    )
}
