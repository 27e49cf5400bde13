//! Calling hooks: the dispatch lists, one call through all modules, and its verdict.
//!
//! A hook runs as a coroutine of its own, so that it may wait anywhere; a hook that does not wait is done after one turn. A turn
//! holds the state from beginning to end (`Turn`), and a waiting hook does not hold it.

use crate::error::{HookError, lua_error_text};
use crate::hooks::{Arguments, HOOK_COUNT, Hook, HookCall, HookResult, Parts, Returns};
use crate::host::{Host, Policy};
use crate::objects::Session;
use crate::registry::{Phase, number_of, type_name};
use crate::settings::{OnError, Settings};
use crate::task::Task;
use crate::userdata::{EcString, IntBox};
use bytes::Bytes;
use mlua::function::AsyncCallFuture;
use mlua::{AnyUserData, FromLuaMulti, Lua, Table, Value};
use parking_lot::Mutex;
use ph_eventlog::metrics::{self, Histogram};
use ph_message::Time;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

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
        let mut lists = self.lists.clone();
        for (hook, function) in hooks {
            let seconds = metrics::HOOK_SECONDS.with(hook.name());
            let entry = Entry { module: module.clone(), function, stats: Arc::default(), seconds };
            lists[hook as usize] = lists[hook as usize].iter().cloned().chain([entry]).collect();
        }
        let mut modules = self.modules.clone();
        modules.push(module);
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
    /// The task's number, once it holds a lock; then its end is told to the host, so that others can have the lock.
    pub task: Task,
}

impl Frame {
    /// What `thread.create` started.
    pub fn task(settings: &Settings) -> Arc<Frame> {
        Arc::new(Frame {
            phase: Phase::Queue,
            hook: None,
            session: None,
            async_ok: true,
            cpu_limit: settings.hook_cpu_limit,
            tls: Mutex::default(),
            task: Task::default(),
        })
    }

    pub fn loading(settings: &Settings, async_ok: bool) -> Arc<Frame> {
        Arc::new(Frame {
            phase: Phase::Init,
            hook: async_ok.then_some(Hook::Init),
            session: None,
            async_ok,
            cpu_limit: settings.load_cpu_limit,
            tls: Mutex::default(),
            task: Task::default(),
        })
    }

    fn of_hook(parts: &Parts<'_>, settings: &Settings) -> Arc<Frame> {
        Arc::new(Frame {
            phase: parts.hook.phase(),
            hook: Some(parts.hook),
            session: parts.session.cloned(),
            async_ok: true,
            cpu_limit: settings.hook_cpu_limit,
            tls: Mutex::default(),
            task: Task::default(),
        })
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
            match self.call_entry(entry, &parts, &frame, &outs).await {
                Ok(value) => {
                    result.value = value;
                    if value != 0 {
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
        (Returns::Number, Some(number)) => Ok(Verdict::Number(number as i64)),
        (Returns::Number, None) if value.is_nil() => Ok(Verdict::Number(0)),
        (Returns::Number, None) => match number_of(value) {
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

/// The out-parameters of a hook that has some.
#[derive(Default)]
struct Outs {
    number: Option<IntBox>,
    cont: Option<IntBox>,
    buffer: Option<EcString>,
}

/// Capacity of the buffers that hooks fill, as the C interface has it.
const BUFFER_SIZE: usize = 1024;

impl Outs {
    fn of(parts: &Parts<'_>) -> Outs {
        match parts.arguments {
            Arguments::RelayTo(_) => {
                Outs { number: Some(IntBox::default()), cont: Some(IntBox::default()), buffer: None }
            }
            Arguments::MsgNowOut(_) => Outs { number: Some(IntBox::default()), ..Outs::default() },
            Arguments::RoutingDomain => Outs { buffer: Some(EcString::with_capacity(BUFFER_SIZE)), ..Outs::default() },
            Arguments::ReceivedText | Arguments::Words(_) => {
                Outs { buffer: Some(EcString::new(b"")), ..Outs::default() }
            }
            _ => Outs::default(),
        }
    }

    fn read_into(&self, result: &mut HookResult) {
        result.out = self.number.as_ref().and_then(IntBox::assigned);
        result.text = self.buffer.as_ref().map(EcString::bytes).filter(|b| !b.is_empty()).map(Bytes::from);
    }
}

/// Starts one function with its arguments. Runs inside a turn: the state is held.
fn start(
    lua: &Lua,
    host: &Host,
    entry: &Entry,
    parts: &Parts<'_>,
    outs: &Outs,
) -> mlua::Result<AsyncCallFuture<Value>> {
    let mut session_lock = parts.session.map(|session| session.handles.lock());
    let session = match (parts.session, &mut session_lock) {
        (Some(session), Some(lock)) => Some(host.session_handles(lua, session, lock)?),
        _ => None,
    };
    let mut message_lock = parts.message.map(|message| message.handle.lock());
    let message = match (parts.message, &mut message_lock) {
        (Some(message), Some(lock)) => Some(host.message_handle(lua, message, lock)?),
        _ => None,
    };
    let (mut accept, mut validate, mut me) = (None, None, &entry.module.table);
    if let Some(handles) = session {
        if let Some(message) = parts.message {
            handles.message = Arc::downgrade(message);
        }
        if parts.own_self {
            own_self(lua, handles, &entry.module)?;
        }
        let handles = &*handles;
        (accept, validate) = (Some(&handles.accept), Some(&handles.validate));
        if parts.own_self
            && let Some(Some(own)) = handles.selves.get(entry.module.index)
        {
            me = own;
        }
    }
    let call = &entry.function;
    let ec_string = |bytes: &[u8]| lua.create_userdata(EcString::new(bytes));
    Ok(match &parts.arguments {
        Arguments::None => call.call_async(me),
        Arguments::AcVctx => call.call_async((me, accept, validate)),
        Arguments::StrAcVctx(text) => call.call_async((me, ec_string(text)?, accept, validate)),
        Arguments::MsgStrAcVctx(text) => call.call_async((me, message, ec_string(text)?, accept, validate)),
        Arguments::VctxAuth(mechanism, status) => call.call_async((me, validate, *mechanism, *status)),
        Arguments::RelayTo(domain) => call.call_async((me, *domain, outs.number.clone(), outs.cont.clone())),
        Arguments::ListVctx => call.call_async((me, recipients(lua, parts.session)?, validate)),
        Arguments::MsgAc => call.call_async((me, message, accept)),
        Arguments::MsgAcVctx => call.call_async((me, message, accept, validate)),
        Arguments::Msg => call.call_async((me, message)),
        Arguments::AcMsgNowNote(now, note) => {
            call.call_async((me, accept, message, timeval(lua, *now)?, *note, note.len()))
        }
        Arguments::MsgNow(now) => call.call_async((me, message, timeval(lua, *now)?)),
        Arguments::NowAcVctxPhaseText(now, phase, text) => {
            call.call_async((me, timeval(lua, *now)?, accept, validate, *phase, *text))
        }
        Arguments::Ac => call.call_async((me, accept)),
        Arguments::RoutingDomain => call.call_async((me, Value::Nil, message, outs.buffer.clone(), BUFFER_SIZE)),
        Arguments::ReceivedText => {
            let construct = construct(lua, parts)?;
            call.call_async((me, message, construct, accept, validate, outs.buffer.clone()))
        }
        Arguments::MsgNowOut(now) => call.call_async((me, message, timeval(lua, *now)?, outs.number.clone())),
        Arguments::MsgDomainNowNote(domain, now, note) => {
            let record = lua.create_table()?;
            record.raw_set("domain", *domain)?;
            call.call_async((me, message, record, timeval(lua, *now)?, *note, note.len()))
        }
        Arguments::MsgNumber(number) => call.call_async((me, message, *number)),
        Arguments::MsgStr(text) => call.call_async((me, message, *text)),
        Arguments::Words(words) => call.call_async((me, command(lua, words)?, outs.buffer.clone())),
    })
}

/// The module's `self` in this session: a table of its own that finds the module's functions.
fn own_self(lua: &Lua, handles: &mut crate::host::SessionHandles, module: &Module) -> mlua::Result<()> {
    if handles.selves.len() <= module.index {
        handles.selves.resize(module.index + 1, None);
    }
    if handles.selves[module.index].is_none() {
        let table = lua.create_table()?;
        let meta = lua.create_table()?;
        meta.raw_set("__index", &module.table)?;
        table.set_metatable(Some(meta))?;
        handles.selves[module.index] = Some(table);
    }
    Ok(())
}

/// The recipients as a fresh array of bare addresses.
fn recipients(lua: &Lua, session: Option<&Arc<Session>>) -> mlua::Result<Table> {
    let addresses: Vec<String> = session.map_or_else(Vec::new, |session| {
        session.state.lock().recipients.iter().map(|recipient| recipient.mailbox.to_string()).collect()
    });
    lua.create_sequence_from(addresses)
}

fn construct(lua: &Lua, parts: &Parts<'_>) -> mlua::Result<Option<AnyUserData>> {
    let session = parts.session.map(Arc::downgrade);
    session.map(|session| lua.create_userdata(crate::userdata::Construct { session })).transpose()
}

/// A timeval: `tv_sec`, `tv_usec`.
pub(crate) fn timeval(lua: &Lua, time: Time) -> mlua::Result<Table> {
    let table = lua.create_table_with_capacity(0, 2)?;
    table.raw_set("tv_sec", time.secs())?;
    table.raw_set("tv_usec", time.micros().rem_euclid(1_000_000))?;
    Ok(table)
}

/// A console command: `argc`, and `argv` from 0.
fn command(lua: &Lua, words: &[String]) -> mlua::Result<Table> {
    let argv = lua.create_table()?;
    for (index, word) in words.iter().enumerate() {
        argv.raw_set(index, word.as_str())?;
    }
    let table = lua.create_table()?;
    table.raw_set("argc", words.len())?;
    table.raw_set("argv", argv)?;
    Ok(table)
}
