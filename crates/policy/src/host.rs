//! The Lua host: one configuration generation of policies in one state.
//!
//! All policy code of a generation shares one LuaJIT state, entered by one task at a time; what waits runs outside it. `Host` is
//! what functions see (services, settings, the running frame); `Policy` owns the state. The state refers to the host weakly or
//! through closures it owns, never the other way round: dropping the `Policy` frees everything.

use crate::call::{Dispatch, Frame};
use crate::error::{LoadError, LoadErrors, lua_error_text};
use crate::hooks::{HOOK_COUNT, Hook};
use crate::objects::{Message, Session};
use crate::raw::StatePointer;
use crate::registry::{Phase, type_name};
use crate::services::{LogLevel, Services};
use crate::settings::{Script, Settings};
use crate::state;
use crate::userdata::{Accept, Msg, Validate};
use crate::watchdog::{Watch, Watchdog};
use arc_swap::ArcSwap;
use mlua::{AnyUserData, Lua, Table, Value};
use parking_lot::Mutex;
use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock, Weak};

pub use crate::settings::PhaseCheck;

/// The policies of one configuration generation.
pub struct Policy {
    // Dropped in this order: the watchdog, which is only held to live, must be gone before the state.
    _watchdog: Watchdog,
    pub(crate) host: Arc<Host>,
    pub(crate) lua: Lua,
}

/// What functions of the API work with.
pub struct Host {
    pub services: Services,
    pub settings: Settings,
    /// Tells the states of two generations apart: handles of one are useless in the other.
    pub(crate) generation: u64,
    pub(crate) dispatch: ArcSwap<Dispatch>,
    /// Which hooks some module has: bit `hook as usize`.
    present: [AtomicU64; HOOK_COUNT.div_ceil(64)],
    pub(crate) watch: OnceLock<Watch>,
    phase: AtomicU8,
    /// False at file level, where a wait would block.
    async_ok: AtomicBool,
    current: Mutex<Option<Arc<Frame>>>,
    entries: AtomicU64,
    noted: Mutex<HashSet<String>>,
    pub(crate) tasks: Arc<crate::task::Tasks>,
    /// Octets of Lua values at which a turn ends with a collection.
    collect_at: AtomicUsize,
    /// True while scripts are loaded and `init` runs: then a new module's `init` is still to come.
    loading: AtomicBool,
    loading_script: Mutex<Option<String>>,
    /// Modules whose hooks are not looked up yet: name, script, table.
    pub(crate) pending_modules: Mutex<Vec<(String, String, Table)>>,
    pub(crate) patterns: crate::api::pcre::Cache,
    /// Contents that patterns were matched against last.
    pub(crate) subjects: crate::api::message::Subjects,
    pub(crate) controls: crate::control::Controls,
    /// `print` writes to standard output as the reference interpreter does: for running scripts outside a server.
    plain_output: bool,
}

/// The Lua side of a session.
pub struct SessionHandles {
    pub(crate) generation: u64,
    pub(crate) accept: AnyUserData,
    pub(crate) validate: AnyUserData,
    /// `self` of each registered module, by its index.
    pub(crate) selves: Vec<Option<Table>>,
    pub(crate) tls: Option<Table>,
    /// The message of the present transaction: `mc.message`.
    pub(crate) message: Weak<Message>,
}

/// The Lua side of a message.
pub struct MessageHandle {
    pub(crate) generation: u64,
    pub(crate) data: AnyUserData,
}

/// How many different notes are logged once each; beyond it they are dropped, so that a policy cannot fill memory by them.
const NOTES_MAX: usize = 10_000;

impl Policy {
    /// Loads every script of `settings`, runs each `init`, and resolves the hooks. All that is wrong is in the error.
    pub async fn load(services: Services, settings: Settings) -> Result<Policy, LoadErrors> {
        Policy::build(services, settings, false).await
    }

    pub(crate) async fn build(services: Services, settings: Settings, plain: bool) -> Result<Policy, LoadErrors> {
        static GENERATIONS: AtomicU64 = AtomicU64::new(1);
        let patterns = crate::api::pcre::Cache::new(settings.pcre_cache_size, settings.pcre_match_limit);
        let collect_at = if settings.memory_limit > 0 { settings.memory_limit / 4 * 3 } else { usize::MAX };
        let host = Arc::new(Host {
            services,
            settings,
            generation: GENERATIONS.fetch_add(1, Ordering::Relaxed),
            dispatch: ArcSwap::default(),
            present: Default::default(),
            watch: OnceLock::new(),
            phase: AtomicU8::new(Phase::Init as u8),
            async_ok: AtomicBool::new(false),
            current: Mutex::new(None),
            entries: AtomicU64::new(1),
            noted: Mutex::default(),
            tasks: Arc::default(),
            collect_at: AtomicUsize::new(collect_at),
            loading: AtomicBool::new(true),
            loading_script: Mutex::new(None),
            pending_modules: Mutex::default(),
            patterns,
            subjects: Default::default(),
            controls: Mutex::default(),
            plain_output: plain,
        });
        let lua = state::new(&host).map_err(|error| whole(&lua_error_text(&error)))?;
        let watchdog = Watchdog::start(StatePointer::of(&lua));
        host.watch.set(watchdog.watch()).unwrap_or_else(|_| unreachable!("the host is new"));
        let policy = Policy { _watchdog: watchdog, host, lua };
        policy.load_scripts().await?;
        Ok(policy)
    }

    async fn load_scripts(&self) -> Result<(), LoadErrors> {
        let mut errors = Vec::new();
        for script in &self.host.settings.scripts {
            *self.host.loading_script.lock() = Some(script.name.clone());
            if let Err(text) = self.load_script(script).await {
                errors.push(LoadError { script: script.name.clone(), place: script.place.clone(), text });
            }
            if let Err(error) = self.host.resolve_modules() {
                let text = lua_error_text(&error);
                errors.push(LoadError { script: script.name.clone(), place: script.place.clone(), text });
            }
            *self.host.loading_script.lock() = None;
        }
        if let Err(error) = self.enter_custom_policy() {
            errors.extend(whole(&lua_error_text(&error)).0);
        }
        if errors.is_empty() {
            errors.extend(self.run_inits().await);
        }
        self.host.loading.store(false, Ordering::Relaxed);
        if errors.is_empty() { Ok(()) } else { Err(LoadErrors(errors)) }
    }

    async fn load_script(&self, script: &Script) -> Result<(), String> {
        let path = self.host.find_script(&script.source)?;
        let text = std::fs::read(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        let chunk = state::compile(&self.lua, &text, &self.host.shown_path(&path))?;
        let frame = Frame::loading(&self.host.settings, false);
        self.run(&frame, |_| Ok(chunk.call_async::<()>(()))).await.map_err(|failure| failure.text)
    }

    /// Every module's `init`, in order of registration; each must return exactly `true`.
    async fn run_inits(&self) -> Vec<LoadError> {
        let mut errors = Vec::new();
        let mut done = 0;
        // `init` may register further modules, whose `init` is called too.
        loop {
            let dispatch = self.host.dispatch.load_full();
            let Some(entry) = dispatch.list(Hook::Init).get(done) else { break };
            done += 1;
            let frame = Frame::loading(&self.host.settings, true);
            let module = entry.module.clone();
            let outcome = self.run(&frame, |_| Ok(entry.function.call_async::<Value>(&entry.module.table))).await;
            if let Err(error) = self.host.resolve_modules() {
                let text = lua_error_text(&error);
                errors.push(LoadError { script: module.script.clone(), place: String::new(), text });
            }
            let text = match outcome {
                Ok(Value::Boolean(true)) => continue,
                Ok(other) => format!("init of module \"{}\" must return true, got {}", module.name, shown(&other)),
                Err(failure) => format!("init of module \"{}\": {}", module.name, failure.text),
            };
            errors.push(LoadError { script: module.script.clone(), place: String::new(), text });
        }
        errors
    }

    /// Runs every module's `deinit`, in reverse order: when a generation has been replaced. Failures are logged.
    pub async fn deinit(&self) {
        let dispatch = self.host.dispatch.load_full();
        for entry in dispatch.list(Hook::Deinit).iter().rev() {
            let frame = Frame::loading(&self.host.settings, true);
            let outcome = self.run(&frame, |_| Ok(entry.function.call_async::<Value>(&entry.module.table))).await;
            let text = match outcome {
                Ok(Value::Boolean(true)) => continue,
                Ok(other) => format!("must return true, got {}", shown(&other)),
                Err(failure) => failure.text,
            };
            self.host.error(&format!("scriptlet: {}: deinit error: {text}", entry.module.name));
        }
    }

    /// Whether some module has this hook: one load and one branch, so that a hook that nobody has costs nothing.
    #[inline]
    pub fn has(&self, hook: Hook) -> bool {
        self.host.has(hook)
    }

    /// Octets that the state's Lua values take.
    pub fn used_memory(&self) -> usize {
        self.lua.used_memory()
    }

    /// What functions of the API work with; for the engine's own use of the services it handed in.
    pub fn host(&self) -> &Arc<Host> {
        &self.host
    }
}

fn whole(text: &str) -> LoadErrors {
    LoadErrors(vec![LoadError { script: String::new(), place: String::new(), text: text.to_owned() }])
}

fn shown(value: &Value) -> String {
    match value {
        Value::Nil => "nothing".to_owned(),
        Value::Boolean(value) => value.to_string(),
        Value::Integer(_) | Value::Number(_) | Value::String(_) => {
            let text = crate::registry::bytes_of(value).unwrap_or_default();
            String::from_utf8_lossy(&text).into_owned()
        }
        other => format!("a {}", type_name(other)),
    }
}

impl Host {
    #[inline]
    pub(crate) fn has(&self, hook: Hook) -> bool {
        let at = hook as usize;
        self.present[at / 64].load(Ordering::Relaxed) & (1 << (at % 64)) != 0
    }

    pub(crate) fn mark_present(&self, hook: Hook) {
        let at = hook as usize;
        self.present[at / 64].fetch_or(1 << (at % 64), Ordering::Relaxed);
    }

    pub(crate) fn phase(&self) -> Phase {
        Phase::from_number(self.phase.load(Ordering::Relaxed))
    }

    /// Whether the running code may wait without blocking.
    pub(crate) fn async_ok(&self) -> bool {
        self.async_ok.load(Ordering::Relaxed)
    }

    /// The frame that runs now: which hook, session and message.
    pub(crate) fn frame(&self) -> Option<Arc<Frame>> {
        self.current.lock().clone()
    }

    /// Makes `frame` the running one. The caller holds the state until `leave`.
    pub(crate) fn enter(&self, frame: &Arc<Frame>) -> Option<Arc<Frame>> {
        self.phase.store(frame.phase as u8, Ordering::Relaxed);
        self.async_ok.store(frame.async_ok, Ordering::Relaxed);
        let before = self.current.lock().replace(frame.clone());
        if before.is_none()
            && let Some(watch) = self.watch.get()
        {
            watch.enter(self.entries.fetch_add(1, Ordering::Relaxed), frame.cpu_limit);
        }
        before
    }

    /// Ends the frame's turn. True: the watchdog stopped it.
    pub(crate) fn leave(&self, before: Option<Arc<Frame>>) -> bool {
        let outermost = before.is_none();
        if let Some(frame) = &before {
            self.phase.store(frame.phase as u8, Ordering::Relaxed);
            self.async_ok.store(frame.async_ok, Ordering::Relaxed);
        }
        *self.current.lock() = before;
        outermost && self.watch.get().is_some_and(Watch::leave)
    }

    /// Collects well below the limit: LuaJIT does not do it by itself when an allocation would go beyond, and fails instead. The
    /// caller holds the state.
    pub(crate) fn collect_early(&self, lua: &Lua) {
        if lua.used_memory() < self.collect_at.load(Ordering::Relaxed) {
            return;
        }
        if let Err(error) = lua.gc_collect() {
            self.error(&format!("scriptlet: collection: {}", lua_error_text(&error)));
        }
        // When nearly all of it lives, the next collection waits for a further tenth: not one after every turn.
        let used = lua.used_memory();
        self.collect_at.store((self.settings.memory_limit / 4 * 3).max(used / 10 * 11), Ordering::Relaxed);
    }

    /// Runs `make`, which makes some values for Lua and calls nothing of Lua, without the memory limit: under a limit each value costs
    /// a protected call, twice as much as the value itself. Only far below the limit; what one function makes may go beyond it,
    /// and then the policy's next allocation fails. The caller holds the state.
    pub(crate) fn unlimited<T>(&self, lua: &Lua, make: impl FnOnce() -> T) -> T {
        let _back = self.is_roomy(lua).then(|| Limit::lift(lua, self.settings.memory_limit));
        make()
    }

    /// Whether the memory limit is far off.
    pub(crate) fn is_roomy(&self, lua: &Lua) -> bool {
        lua.used_memory() < self.settings.memory_limit / 4 * 3
    }

    /// `_TLS` of the running frame: the session's, or a table of the frame's own.
    pub(crate) fn frame_tls(&self, lua: &Lua) -> mlua::Result<Table> {
        let Some(frame) = self.frame() else { return lua.create_table() };
        if let Some(session) = &frame.session {
            let mut handles = session.handles.lock();
            let handles = self.session_handles(lua, session, &mut handles)?;
            if let Some(table) = &handles.tls {
                return Ok(table.clone());
            }
            let table = lua.create_table()?;
            handles.tls = Some(table.clone());
            return Ok(table);
        }
        let mut own = frame.tls.lock();
        if let Some(table) = &*own {
            return Ok(table.clone());
        }
        let table = lua.create_table()?;
        *own = Some(table.clone());
        Ok(table)
    }

    /// The handles of a session, made at its first hook (or anew when they are of an older generation).
    pub(crate) fn session_handles<'h>(
        &self,
        lua: &Lua,
        session: &Arc<Session>,
        handles: &'h mut Option<SessionHandles>,
    ) -> mlua::Result<&'h mut SessionHandles> {
        if handles.as_ref().is_some_and(|handles| handles.generation != self.generation) {
            *handles = None;
        }
        if handles.is_none() {
            *handles = Some(SessionHandles {
                generation: self.generation,
                accept: lua.create_userdata(Accept(Arc::downgrade(session)))?,
                validate: lua.create_userdata(Validate(Arc::downgrade(session)))?,
                selves: Vec::new(),
                tls: None,
                message: Weak::new(),
            });
        }
        Ok(handles.as_mut().expect("the handles were just made"))
    }

    /// The handle of a message, made once.
    pub(crate) fn message_handle<'h>(
        &self,
        lua: &Lua,
        message: &Arc<Message>,
        handle: &'h mut Option<MessageHandle>,
    ) -> mlua::Result<&'h AnyUserData> {
        if handle.as_ref().is_some_and(|handle| handle.generation != self.generation) {
            *handle = None;
        }
        if handle.is_none() {
            let data = lua.create_userdata(Msg::Engine(Arc::downgrade(message)))?;
            *handle = Some(MessageHandle { generation: self.generation, data });
        }
        Ok(&handle.as_ref().expect("the handle was just made").data)
    }

    /// A `script`'s file.
    fn find_script(&self, source: &str) -> Result<PathBuf, String> {
        let folders = self.settings.search_folders();
        let relative = format!("{}.lua", source.replace('.', "/"));
        if let Some(path) = folders.iter().map(|folder| folder.join(&relative)).find(|path| path.is_file()) {
            return Ok(path);
        }
        let looked: Vec<String> = folders.iter().map(|f| f.join(&relative).display().to_string()).collect();
        let mut text = format!("source \"{source}\" not found; looked for {}", looked.join(", "));
        if let Some(stem) = source.strip_suffix(".lua") {
            text.push_str(&format!(
                "; a source has no extension, since '.' separates folders: did you mean source = \"{stem}\"?"
            ));
        }
        Err(text)
    }

    /// A script's name in messages: its path below the folder it was found in.
    pub(crate) fn shown_path(&self, path: &Path) -> String {
        let folders = self.settings.search_folders();
        let short = folders.iter().rev().filter_map(|folder| path.strip_prefix(folder).ok());
        let shortest = short.min_by_key(|path| path.as_os_str().len());
        shortest.unwrap_or(path).display().to_string()
    }

    pub(crate) fn is_loading(&self) -> bool {
        self.loading.load(Ordering::Relaxed)
    }

    pub(crate) fn settings_for_scripts_output(&self) -> bool {
        self.plain_output
    }

    /// The stanza whose script is being loaded.
    pub(crate) fn loading_script(&self) -> Option<String> {
        self.loading_script.lock().clone()
    }

    pub(crate) fn error(&self, text: &str) {
        self.services.log.panic(LogLevel::Error, "scriptlet", text);
    }

    pub(crate) fn warn(&self, text: &str) {
        self.services.log.panic(LogLevel::Warning, "scriptlet", text);
    }

    /// A warning that is written once.
    pub(crate) fn note_once(&self, text: &str) {
        let mut noted = self.noted.lock();
        if noted.len() < NOTES_MAX && noted.insert(text.to_owned()) {
            drop(noted);
            self.warn(text);
        }
    }
}

/// Puts the memory limit back, also after a panic.
struct Limit<'a> {
    lua: &'a Lua,
    limit: usize,
}

impl<'a> Limit<'a> {
    fn lift(lua: &'a Lua, limit: usize) -> Limit<'a> {
        // Fails only for states that mlua did not make.
        let _ = lua.set_memory_limit(0);
        Limit { lua, limit }
    }
}

impl Drop for Limit<'_> {
    fn drop(&mut self) {
        let _ = self.lua.set_memory_limit(self.limit);
    }
}
