//! Configuration in the language of Momentum's `ecelerity.conf`: stanzas, spans, diagnostics, options, and the fallback
//! from special scopes to general ones.
//!
//! ```
//! use ph_config::{Config, options};
//! let loaded = Config::parse("example", "retry_interval = 60 domain d.example { retry_interval = \"5 minutes\" }")?;
//! let scope = loaded.config.sending("default", "default", "d.example");
//! assert_eq!(scope.get(&options::RETRY_INTERVAL), 300);
//! # Ok::<(), ph_config::Report>(())
//! ```
//!
//! A [`Config`] is one generation and never changes; a reload makes another. What an option does is not known here: the
//! registry (`options`) has its name, type, default, scopes and documentation.

mod builtin;
mod check;
mod cidr;
mod config;
mod diagnostic;
mod edit;
mod glob;
mod host;
mod include;
mod lexer;
mod listen;
mod load;
pub mod options;
mod schema;
mod scope;
mod scopes;
mod show;
mod source;
mod syntax;
mod tree;
mod value;

pub use builtin::{SMTP_PORT, builtin_text};
pub use cidr::{CidrSet, UNIX_PEER};
pub use config::{
    BindingDecl, Config, DebugFlags, Listen, Listener, ListenerKind, Loaded, ModuleDecl, Receiving, RoleDecl,
    ScriptDecl, Security, ThreadPoolDecl,
};
pub use diagnostic::{Diagnostic, Report, Severity};
pub use edit::{Answer, ConfigEditor, EditSession, Looked, Pending};
pub use glob::GlobSet;
pub use listen::ListenAddr;
pub use options::{Opt, OptionDecl, registry};
pub use scope::{BucketId, Origin, Scope};
pub use scopes::{ScopeKind, Scopes};
pub use source::Place;
pub use value::{Dict, DictValue, OptionValue, Pcre, PcreList, Throttle, Value, boolean_word, seconds};
