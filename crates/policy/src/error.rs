//! Errors of the host: what fails a load, and what fails a hook call.

use std::fmt;

/// Why a policy cannot be loaded. The running one stays.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("script \"{script}\"{}: {text}", place_text(.place))]
pub struct LoadError {
    /// Name of the `script` stanza.
    pub script: String,
    /// File and line of the stanza.
    pub place: String,
    /// What is wrong, with the script's own file and line, and a traceback where it ran.
    pub text: String,
}

fn place_text(place: &str) -> String {
    if place.is_empty() { String::new() } else { format!(" ({place})") }
}

/// All that is wrong, not the first only.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LoadErrors(pub Vec<LoadError>);

impl fmt::Display for LoadErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, error) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{error}")?;
        }
        Ok(())
    }
}

impl std::error::Error for LoadErrors {}

/// A hook failed and the session cannot simply go on. The paniclog has it already.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{module}: {hook} error: {text}")]
pub struct HookError {
    pub module: String,
    pub hook: &'static str,
    /// Message and traceback.
    pub text: String,
    /// `on_error = close`: the reply is 421 and the connection closes after it; else it is 451.
    pub close: bool,
}

impl HookError {
    /// The code of the reply and its text, `hostname` being ours.
    pub fn reply(&self, hostname: &str) -> (u16, String) {
        let code = if self.close { 421 } else { 451 };
        (code, format!("4.3.0 {hostname} temporary issue, please retry your message later"))
    }
}

/// The text of an error of Lua: the cause alone and, where there is one, the traceback.
pub(crate) fn lua_error_text(error: &mlua::Error) -> String {
    match error {
        mlua::Error::CallbackError { traceback, cause } => {
            let mut innermost = cause;
            while let mlua::Error::CallbackError { cause, .. } = &**innermost {
                innermost = cause;
            }
            format!("{}\n{}", lua_error_cause(innermost), traceback.trim_end())
        }
        other => lua_error_cause(other),
    }
}

/// The same without the traceback of a callback: what a policy's `pcall` sees.
pub(crate) fn lua_error_cause(error: &mlua::Error) -> String {
    match error {
        mlua::Error::CallbackError { cause, .. } => lua_error_cause(cause),
        mlua::Error::RuntimeError(text) | mlua::Error::MemoryError(text) => text.clone(),
        mlua::Error::SyntaxError { message, .. } => message.clone(),
        mlua::Error::BadArgument { cause, .. } => lua_error_cause(cause),
        other => other.to_string(),
    }
}
