//! What the host reads from the configuration, as plain values: one `Settings` per configuration generation.

use std::path::PathBuf;
use std::time::Duration;

/// One `script "NAME" { source = "dir.file" }`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Script {
    pub name: String,
    /// Path without extension; `.` or `/` separate folders.
    pub source: String,
    /// File and line of the stanza, for messages.
    pub place: String,
}

/// One `ThreadPool "NAME"`, or one of those that always exist.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ThreadPool {
    pub name: String,
    /// `msys.core.ECTP_CLASS_*` of those that always exist; the others count from 10.
    pub id: u32,
    /// Jobs at a time; 0: no limit.
    pub concurrency: u32,
    /// Jobs that may wait; 0: no limit.
    pub backlog: u32,
}

impl ThreadPool {
    /// Pools with their numbers, from name, concurrency and backlog of each.
    pub fn numbered<'a>(pools: impl IntoIterator<Item = (&'a str, u32, u32)>) -> Vec<ThreadPool> {
        const CLASSES: [&str; 8] = ["CPU", "IO", "SWAPOUT", "SWAPIN", "CLOSE", "UNLINK", "BATCH_UNLINK", "SPOOLIN"];
        let mut own = 10..;
        let pool = |(name, concurrency, backlog): (&str, u32, u32)| {
            let class = CLASSES.into_iter().zip(0..).find(|(class, _)| class.eq_ignore_ascii_case(name));
            let (name, id) = class.unwrap_or_else(|| (name, own.next().unwrap_or(u32::MAX)));
            ThreadPool { name: name.to_owned(), id, concurrency, backlog }
        };
        pools.into_iter().map(pool).collect()
    }

    fn predefined() -> Vec<ThreadPool> {
        ThreadPool::numbered([
            ("SWAPOUT", 5, 0),
            ("SWAPIN", 5, 0),
            ("UNLINK", 6, 100),
            ("BATCH_UNLINK", 4, 0),
            ("CLOSE", 0, 0),
            ("CPU", 4, 0),
            ("IO", 50, 0),
            ("SPOOLIN", 1, 0),
        ])
    }
}

/// `lua_phase_check`: what becomes of a use that works but is not documented for the phase.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PhaseCheck {
    /// Logged once per script line.
    #[default]
    Warn,
    /// Raised.
    Error,
    Off,
}

/// `on_error`: how a session goes on after an error in a hook.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnError {
    /// `421` and close: nothing is lost, the client tries again.
    #[default]
    Close,
    /// `451`; the session stays.
    Tempfail,
    /// As if the hook had returned `VALIDATE_CONT`.
    Continue,
}

#[derive(Clone, Debug)]
pub struct Settings {
    pub scripts: Vec<Script>,
    /// The folder of the configuration file; scripts are looked up in it, in `lua/` below it, then in Momentum's two folders.
    pub folder: Option<PathBuf>,
    /// The CPU budget of one hook call, waits not counted.
    pub hook_cpu_limit: Duration,
    /// The CPU budget of loading one script, and of `init`.
    pub load_cpu_limit: Duration,
    /// The most that a state's Lua values may take, in octets; 0: no limit.
    pub memory_limit: usize,
    pub phase_check: PhaseCheck,
    pub on_error: OnError,
    /// How long a hook may go on returning `VALIDATE_AGAIN`.
    pub again_limit: Duration,
    /// `gc_pause` and `gc_stepmul` of the scriptlet module, in percent.
    pub gc_pause: u32,
    pub gc_step_multiplier: u32,
    /// `pcre_match_limit`: steps of one match.
    pub pcre_match_limit: u32,
    /// `pcre_cache_size`: compiled patterns that are kept.
    pub pcre_cache_size: usize,
    /// The largest file that `msys.readfile` reads, in octets.
    pub readfile_size_max: u64,
    /// The pools of `msys.runInPool`.
    pub thread_pools: Vec<ThreadPool>,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            scripts: Vec::new(),
            folder: None,
            hook_cpu_limit: Duration::from_secs(2),
            load_cpu_limit: Duration::from_secs(30),
            memory_limit: 512 << 20,
            phase_check: PhaseCheck::default(),
            on_error: OnError::default(),
            again_limit: Duration::from_secs(30),
            gc_pause: 200,
            gc_step_multiplier: 200,
            pcre_match_limit: 1_000_000,
            pcre_cache_size: 100,
            readfile_size_max: 64 << 20,
            thread_pools: ThreadPool::predefined(),
        }
    }
}

/// Momentum's own script folders, searched last where they exist.
pub(crate) const MOMENTUM_FOLDERS: [&str; 2] =
    ["/opt/msys/ecelerity/etc/conf/default/lua", "/opt/msys/3rdParty/share/lua/5.1"];

impl Settings {
    /// The folders where scripts are looked up, in order.
    pub fn search_folders(&self) -> Vec<PathBuf> {
        let own = self.folder.iter().flat_map(|folder| [folder.clone(), folder.join("lua")]);
        own.chain(MOMENTUM_FOLDERS.iter().map(PathBuf::from)).collect()
    }
}
