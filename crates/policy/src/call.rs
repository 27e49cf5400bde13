//! Calling hooks: the dispatch lists, one call through all modules, and its verdict.
//!
//! A hook runs as a coroutine of its own, so that it may wait anywhere; a hook that does not wait is done after one turn. A turn
//! holds the state from beginning to end (`Turn`), and a waiting hook does not hold it.

use crate::error::{HookError, lua_error_text};
use crate::hooks::{HOOK_COUNT, Hook, HookCall, HookResult, Parts, Returns};
use crate::host::{Host, Policy};
use crate::objects::{Message, Session};
use crate::registry::{Phase, number_of, type_name};
use crate::settings::{OnError, Settings};
use crate::task::Task;
use crate::trace::{self, HookTrace, Traced};
use mlua::function::AsyncCallFuture;
use mlua::{FromLuaMulti, Lua, Table, Value};
use parking_lot::Mutex;
use ph_eventlog::metrics::{self, Histogram};
use start::{Outs, start};
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Weak};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

mod choose;
mod start;

pub(crate) use start::{command, timeval};

/// A table that was given to `msys.registerModule`.
pub(crate) struct Module {
    pub name: String,
    /// The `script` stanza that registered it.
    pub script: String,
    /// Its place in the `self` tables of a session.
    pub index: usize,
    pub table: Table,
}

/// One module's function for one hook.
#[derive(Clone)]
pub(crate) struct Entry {
    pub module: Arc<Module>,
    pub function: mlua::Function,
    pub stats: Arc<Stats>,
    /// The hook's histogram, found once: a look-up by name would cost as much as a short hook.
    pub seconds: &'static Histogram,
}

/// Counters of one module's hook: `scriptlet stats`.
#[derive(Debug, Default)]
pub struct Stats {
    pub calls: AtomicU64,
    pub errors: AtomicU64,
    /// Waits included.
    pub total_us: AtomicU64,
    pub worst_us: AtomicU64,
}

/// The hooks of all modules, in the order in which they are called.
pub(crate) struct Dispatch {
    lists: Vec<Arc<[Entry]>>,
    pub modules: Vec<Arc<Module>>,
}

impl Default for Dispatch {
    fn default() -> Dispatch {
        Dispatch { lists: vec![Arc::from([]); HOOK_COUNT], modules: Vec::new() }
    }
}

impl Dispatch {
    pub fn list(&self, hook: Hook) -> &Arc<[Entry]> {
        &self.lists[hook as usize]
    }

    /// The same with one more module.
    pub fn with(&self, module: Arc<Module>, hooks: Vec<(Hook, mlua::Function)>) -> Dispatch {
        self.around(module, Vec::new(), hooks)
    }

    /// The same with one more module, some of whose hooks come before those of all others.
    pub fn around(
        &self,
        module: Arc<Module>,
        before: Vec<(Hook, mlua::Function)>,
        after: Vec<(Hook, mlua::Function)>,
    ) -> Dispatch {
        let mut lists = self.lists.clone();
        let entry = |hook: Hook, function| {
            let seconds = metrics::HOOK_SECONDS.with(hook.name());
            Entry { module: module.clone(), function, stats: Arc::default(), seconds }
        };
        for (hook, function) in before {
            let first = entry(hook, function);
            lists[hook as usize] = [first].into_iter().chain(lists[hook as usize].iter().cloned()).collect();
        }
        for (hook, function) in after {
            let last = entry(hook, function);
            lists[hook as usize] = lists[hook as usize].iter().cloned().chain([last]).collect();
        }
        let mut modules = self.modules.clone();
        modules.push(module.clone());
        Dispatch { lists, modules }
    }
}

/// What runs: seen by functions of the API while it has its turn.
pub(crate) struct Frame {
    pub phase: Phase,
    pub hook: Option<Hook>,
    pub session: Option<Arc<Session>>,
    pub async_ok: bool,
    pub cpu_limit: Duration,
    pub tls: Mutex<Option<Table>>,
    /// The message that the hook is about.
    pub message: Weak<Message>,
    /// `Envelope::generation` of the hook's message: mail that the hook makes is one further.
    pub message_generation: u8,
    /// What the running code prints, for a console command; otherwise it goes to the paniclog.
    pub output: Option<Mutex<String>>,
    /// The task's number, once it holds a lock; then its end is told to the host, so that others can have the lock.
    pub task: Task,
    /// The module's hook under way, while somebody traces it.
    pub trace: Mutex<Option<Arc<Traced>>>,
}

impl Frame {
    /// What runs for no session, and may wait.
    pub fn new(phase: Phase, hook: Option<Hook>, cpu_limit: Duration) -> Frame {
        Frame {
            phase,
            hook,
            session: None,
            async_ok: true,
            cpu_limit,
            tls: Mutex::default(),
            message: Weak::new(),
            message_generation: 0,
            output: None,
            task: Task::default(),
            trace: Mutex::default(),
        }
    }

    /// What `thread.create` started, in a hook about a message of that generation.
    pub fn task(settings: &Settings, message_generation: u8) -> Arc<Frame> {
        Arc::new(Frame { message_generation, ..Frame::new(Phase::Queue, None, settings.hook_cpu_limit) })
    }

    /// What the caller waits for: it works in the caller's place.
    pub fn job(caller: &Frame) -> Arc<Frame> {
        Arc::new(Frame {
            session: caller.session.clone(),
            message: caller.message.clone(),
            message_generation: caller.message_generation,
            trace: Mutex::new(caller.trace.lock().clone()),
            ..Frame::new(caller.phase, caller.hook, caller.cpu_limit)
        })
    }

    /// A console command of a policy.
    pub fn control(settings: &Settings) -> Arc<Frame> {
        let output = Some(Mutex::default());
        Arc::new(Frame { output, ..Frame::new(Phase::Queue, None, settings.hook_cpu_limit) })
    }

    pub fn loading(settings: &Settings, async_ok: bool) -> Arc<Frame> {
        let hook = async_ok.then_some(Hook::Init);
        Arc::new(Frame { async_ok, ..Frame::new(Phase::Init, hook, settings.load_cpu_limit) })
    }

    fn of_hook(parts: &Parts<'_>, settings: &Settings) -> Arc<Frame> {
        let session = parts.session.cloned();
        let message_generation = parts.message.map_or(0, |message| message.state.lock().envelope.generation);
        let frame = Frame::new(parts.hook.phase(), Some(parts.hook), settings.hook_cpu_limit);
        let message = parts.message.map(Arc::downgrade).unwrap_or_default();
        Arc::new(Frame { session, message, message_generation, ..frame })
    }
}

/// Why one function failed.
pub(crate) struct Failure {
    /// Message and traceback.
    pub text: String,
}

/// One function's run, turn by turn. Starting happens in the first turn, under the same hold of the state.
struct Turn<'a, S, R: FromLuaMulti> {
    lua: &'a Lua,
    host: &'a Arc<Host>,
    frame: &'a Arc<Frame>,
    start: Option<S>,
    running: Option<AsyncCallFuture<R>>,
}

impl<S, R> Future for Turn<'_, S, R>
where
    S: FnOnce(&Lua) -> mlua::Result<AsyncCallFuture<R>> + Unpin,
    R: FromLuaMulti + Unpin,
{
    type Output = Result<R, Failure>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        let (lua, host) = (this.lua, this.host);
        // The state is ours until the turn ends: nothing else runs in it between `enter` and `leave`.
        let (poll, stopped) = lua.exec_raw_lua(|_| {
            let before = host.enter(this.frame);
            let started = this.start.take().map(|start| host.unlimited(lua, || start(lua)));
            let poll = match (started, &mut this.running) {
                (Some(Ok(future)), running) => Pin::new(running.insert(future)).poll(context),
                (Some(Err(error)), _) => Poll::Ready(Err(error)),
                (None, Some(running)) => Pin::new(running).poll(context),
                (None, None) => unreachable!("polled after it was ready"),
            };
            if !poll.is_pending() {
                this.running = None; // Gives its coroutine back for reuse.
            }
            let stopped = host.leave(before);
            host.collect_early(lua);
            (poll, stopped)
        });
        if let Poll::Ready(Err(error @ mlua::Error::MemoryError(_))) = &poll {
            // LuaJIT has no emergency collection: until one is made, every further allocation fails.
            let text = lua_error_text(error);
            if let Err(error) = lua.gc_collect() {
                host.error(&format!("scriptlet: collection after a memory error: {}", lua_error_text(&error)));
            }
            return Poll::Ready(Err(Failure { text }));
        }
        match poll {
            Poll::Ready(Ok(value)) => Poll::Ready(Ok(value)),
            Poll::Ready(Err(error)) => Poll::Ready(Err(Failure { text: lua_error_text(&error) })),
            Poll::Pending if stopped => {
                this.running = None;
                Poll::Ready(Err(Failure { text: crate::watchdog::MESSAGE.to_string_lossy().into_owned() }))
            }
            Poll::Pending => Poll::Pending,
        }
    }
}

impl Policy {
    /// Runs `start`'s call to its end, with `frame` around every turn.
    pub(crate) async fn run<R, S>(&self, frame: &Arc<Frame>, start: S) -> Result<R, Failure>
    where
        S: FnOnce(&Lua) -> mlua::Result<AsyncCallFuture<R>> + Unpin,
        R: FromLuaMulti + Unpin,
    {
        run(&self.lua, &self.host, frame, start).await
    }

    /// Calls every module's hook in order, until one ends the phase. The verdict is in `session.state.verdict`.
    ///
    /// An error in a hook has been logged when this returns. Hooks after the acceptance of a message (binding, queue, log) never
    /// fail a message: their errors are logged and the next module goes on. Cancel by dropping: the waiting hook is dropped too.
    pub async fn call(&self, call: &HookCall<'_>) -> Result<HookResult, HookError> {
        let parts = call.parts();
        if !self.has(parts.hook) {
            return Ok(HookResult::default());
        }
        let dispatch = self.host.dispatch.load_full();
        let frame = Frame::of_hook(&parts, &self.host.settings);
        let outs = Outs::of(&parts);
        let mut result = HookResult::default();
        for entry in dispatch.list(parts.hook).iter() {
            let tracing = trace::is_on().then(|| HookTrace::begin(&self.host, &frame, entry, &parts)).flatten();
            let outcome = self.call_entry(entry, &parts, &frame, &outs).await;
            if let Some(tracing) = tracing {
                tracing.end(&parts, &outcome);
            }
            match outcome {
                Ok(value) => {
                    result.value = value;
                    if value != parts.hook.returns().goes_on() {
                        result.done = true;
                        break;
                    }
                }
                Err(text) => {
                    entry.stats.errors.fetch_add(1, Relaxed);
                    metrics::HOOK_ERRORS.add(parts.hook.name(), 1);
                    let (module, hook) = (&entry.module.name, parts.hook.name());
                    self.host.error(&format!("scriptlet: {module}: {hook} error: {text}"));
                    let goes_on = matches!(parts.hook.phase(), Phase::SetBinding | Phase::Queue)
                        || self.host.settings.on_error == OnError::Continue;
                    if !goes_on {
                        let close = self.host.settings.on_error == OnError::Close;
                        return Err(HookError { module: module.clone(), hook, text, close });
                    }
                }
            }
        }
        outs.read_into(&mut result);
        if let (Hook::ValidateDealloc, Some(session)) = (parts.hook, parts.session) {
            // Dropped after the lock is: dropping takes the state's lock, which is taken before this one elsewhere.
            let handles = session.handles.lock().take();
            drop(handles);
        }
        Ok(result)
    }

    /// One module's hook: its number (1: done), run again as long as it answers `VALIDATE_AGAIN`.
    async fn call_entry(
        &self,
        entry: &Entry,
        parts: &Parts<'_>,
        frame: &Arc<Frame>,
        outs: &Outs,
    ) -> Result<i64, String> {
        let began = Instant::now();
        let mut pause = Duration::from_millis(100);
        let outcome = loop {
            let host = &self.host;
            let starter = |lua: &Lua| start(lua, host, entry, parts, outs);
            let value = match self.run(frame, starter).await {
                Ok(value) => value,
                Err(failure) => break Err(failure.text),
            };
            match number(parts.hook, &value) {
                Ok(Verdict::Number(number)) => break Ok(number),
                Ok(Verdict::MissingButGoOn) => {
                    let (module, hook) = (&entry.module.name, parts.hook.name());
                    self.host.error(&format!("scriptlet: {module}: {hook} error: returned nothing"));
                    break Ok(0);
                }
                Ok(Verdict::Again) => {
                    let (module, hook) = (&entry.module.name, parts.hook.name());
                    self.host.note_once(&format!("scriptlet: {module}: {hook} returned VALIDATE_AGAIN"));
                    if began.elapsed() + pause > self.host.settings.again_limit {
                        break Err("returned VALIDATE_AGAIN until its time was spent".to_owned());
                    }
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(Duration::from_secs(1));
                }
                Err(text) => break Err(text),
            }
        };
        let took = began.elapsed();
        entry.seconds.observe(took);
        let took_us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        entry.stats.calls.fetch_add(1, Relaxed);
        entry.stats.total_us.fetch_add(took_us, Relaxed);
        entry.stats.worst_us.fetch_max(took_us, Relaxed);
        outcome
    }

    /// Counters of every module's hooks: module, hook, numbers.
    pub fn stats(&self) -> Vec<(String, Hook, Arc<Stats>)> {
        let dispatch = self.host.dispatch.load();
        let entries = Hook::all().flat_map(|hook| dispatch.list(hook).iter().map(move |entry| (hook, entry)));
        entries.map(|(hook, entry)| (entry.module.name.clone(), hook, entry.stats.clone())).collect()
    }
}

/// Runs a call to its end, with `frame` around every turn.
pub(crate) async fn run<R, S>(lua: &Lua, host: &Arc<Host>, frame: &Arc<Frame>, start: S) -> Result<R, Failure>
where
    S: FnOnce(&Lua) -> mlua::Result<AsyncCallFuture<R>> + Unpin,
    R: FromLuaMulti + Unpin,
{
    Turn { lua, host, frame, start: Some(start), running: None }.await
}

enum Verdict {
    Number(i64),
    Again,
    MissingButGoOn,
}

/// What a hook's returned value says.
fn number(hook: Hook, value: &Value) -> Result<Verdict, String> {
    let returns = hook.returns();
    let number = match value {
        Value::Integer(number) => Some(*number as f64),
        Value::Number(number) => Some(*number),
        _ => None,
    };
    match (returns, number) {
        (Returns::Nothing | Returns::True, _) => Ok(Verdict::Number(0)),
        (Returns::Verdict | Returns::Lenient, Some(0.0)) => Ok(Verdict::Number(0)),
        (Returns::Verdict | Returns::Lenient, Some(1.0)) => Ok(Verdict::Number(1)),
        (Returns::Verdict | Returns::Lenient, Some(2.0)) => Ok(Verdict::Again),
        (Returns::Lenient, None) if value.is_nil() => Ok(Verdict::MissingButGoOn),
        (Returns::Number | Returns::Answer, Some(number)) => Ok(Verdict::Number(number as i64)),
        (Returns::Number | Returns::Answer, None) if value.is_nil() => Ok(Verdict::Number(returns.goes_on())),
        (Returns::Number | Returns::Answer, None) => match number_of(value) {
            Some(number) => Ok(Verdict::Number(number as i64)),
            None => Err(format!("returned a {}; a number is wanted", type_name(value))),
        },
        (_, Some(number)) => Err(format!("returned {number}; msys.core.VALIDATE_CONT, _DONE or _AGAIN is wanted")),
        (_, None) if value.is_nil() => {
            Err("returned nothing; msys.core.VALIDATE_CONT, _DONE or _AGAIN is wanted".to_owned())
        }
        (_, None) => {
            Err(format!("returned a {}; msys.core.VALIDATE_CONT, _DONE or _AGAIN is wanted", type_name(value)))
        }
    }
}
