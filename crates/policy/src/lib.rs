//! The Lua host: Momentum's policy API on LuaJIT.
//!
//! A `Policy` is one configuration generation of scripts in one state. Reception, queue and delivery ask `policy.has(hook)` and
//! call `policy.call(&HookCall::ValidateEhlo { .. })`; what the scripts decided stands in the `Session` and the `Message` they
//! were given. Every function of the API is declared once, in `api/<table>.rs`; registration, argument errors, phase check,
//! `lua-api --json`, reference pages and editor stubs follow from the declaration.

mod api;
mod call;
mod check;
mod control;
mod custom_policy;
pub mod dialect;
mod error;
mod hooks;
pub mod host;
mod objects;
mod pattern;
mod pool_stats;
mod prompt;
mod raw;
mod registry;
mod services;
mod settings;
mod state;
mod task;
mod testing;
mod tls;
pub mod trace;
mod userdata;
mod watchdog;

pub use call::Stats;
pub use check::{Diagnostic, Severity, check_policy, check_policy_among, check_source, completions, describe};
pub use control::ControlName;
pub use error::{HookError, LoadError, LoadErrors};
pub use hooks::{HOOK_COUNT, Hook, HookCall, HookResult};
pub use host::{Host, MessageHandle, Policy, SessionHandles};
pub use objects::{CapabilityEdit, ContextKind, Message, MessageState, Recipient, Session, SessionState, Verdict};
pub use pool_stats::PoolStats;
pub use prompt::Evaluated;
pub use registry::Phase;
pub use registry::plugin::PLUGIN as LANGUAGE_SERVER_PLUGIN;
pub use registry::reference::{lua_api_json, reference_markdown, stubs};
pub use services::{
    ConfigValue, Configuration, Dns, DnsQuestion, DnsRecord, DnsType, DomainNumbers, Domains, GENERATION_MAX, Inject,
    Log, LogLevel, NoEngine, Options, Routes, Services, SessionCounts,
};
pub use settings::{OnError, PhaseCheck, Script, Settings, ThreadPool};
pub use testing::{Answer, TestScript};
pub use tls::{TlsParameters, TlsValues};
