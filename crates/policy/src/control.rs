//! Console commands of policies: what `msys.registerControl` registered, and running one.
//!
//! They belong to their configuration generation and go with it. A command runs like a hook of no session: it may wait, its
//! work in Lua is bounded by `hook_cpu_limit`, and what it prints is the answer.

use crate::call::{Frame, command};
use crate::host::{Host, Policy};
use mlua::Value;
use parking_lot::Mutex;

/// One command.
#[derive(Clone)]
pub(crate) struct Control {
    /// Words apart by one blank.
    name: String,
    function: mlua::Function,
    /// The script that registered it; empty after the start.
    script: String,
}

/// A command of a policy, for the console's help.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ControlName {
    pub name: String,
    pub script: String,
}

/// Commands of one generation.
const CONTROLS_MAX: usize = 1000;
/// Octets of a command's name.
const NAME_MAX: usize = 256;
/// Octets of one answer; what is printed beyond is dropped.
pub(crate) const OUTPUT_MAX: usize = 4 << 20;

impl Host {
    /// Enters a command. One of the same name is replaced. The error says why it is not taken.
    pub(crate) fn register_control(&self, prefix: &str, function: mlua::Function) -> Result<(), String> {
        let name = prefix.split_whitespace().collect::<Vec<_>>().join(" ");
        if name.is_empty() || name.len() > NAME_MAX || name.chars().any(char::is_control) {
            return Err(format!("'{}' is no name of a command", prefix.escape_default()));
        }
        let script = self.loading_script().unwrap_or_default();
        let mut controls = self.controls.lock();
        if let Some(same) = controls.iter().position(|control| control.name.eq_ignore_ascii_case(&name)) {
            self.warn(&format!("scriptlet: the command \"{name}\" is registered twice; the later one counts"));
            controls.remove(same);
        }
        if controls.len() >= CONTROLS_MAX {
            return Err(format!("there are {CONTROLS_MAX} commands already"));
        }
        controls.push(Control { name, function, script });
        Ok(())
    }

    /// Takes what the running code prints, where somebody waits for it. False: it belongs into the paniclog.
    pub(crate) fn print_to_console(&self, text: &str) -> bool {
        let Some(frame) = self.frame() else { return false };
        let Some(output) = &frame.output else { return false };
        let mut output = output.lock();
        if output.len() + text.len() < OUTPUT_MAX {
            output.push_str(text);
            output.push('\n');
        }
        true
    }
}

impl Policy {
    /// The commands, in the order of their registration.
    pub fn controls(&self) -> Vec<ControlName> {
        let name = |control: &Control| ControlName { name: control.name.clone(), script: control.script.clone() };
        self.host.controls.lock().iter().map(name).collect()
    }

    /// Runs the command of that name. `words` are those of the command line, the name included, without quotes. `None`: there is
    /// no such command (any more). The error is the text of a failure, after what was printed before it.
    pub async fn control(&self, name: &str, words: &[String]) -> Option<Result<String, String>> {
        let found = self.host.controls.lock().iter().find(|control| control.name == name).cloned();
        let control = found?;
        let frame = Frame::control(&self.host.settings);
        let outcome = self.run(&frame, |lua| Ok(control.function.call_async::<Value>(command(lua, words)?))).await;
        let mut text = frame.output.as_ref().map(|output| std::mem::take(&mut *output.lock())).unwrap_or_default();
        Some(match outcome {
            Ok(Value::String(more)) => {
                text.push_str(&more.to_string_lossy());
                Ok(text)
            }
            Ok(_) => Ok(text),
            Err(failure) => {
                self.host.error(&format!("scriptlet: command {name} error: {}", failure.text));
                text.push_str(&failure.text);
                Err(text)
            }
        })
    }
}

/// The commands of a generation.
pub(crate) type Controls = Mutex<Vec<Control>>;
