//! The hooks of the process and of the console: a configuration taken up, logs reopened, a command about to be run, and the
//! commands that policies have themselves.

use super::Core;
use ph_admin::Extension;
use ph_eventlog::{Level, Subsystem};
use ph_policy::{HookCall, Policy};
use std::sync::Arc;

/// Calls a hook that answers nothing. What went wrong in it is in the paniclog.
async fn tell(policy: &Policy, call: &HookCall<'_>) {
    if policy.has(call.hook()) {
        let _ = policy.call(call).await;
    }
}

impl Core {
    fn policy(&self) -> Arc<Policy> {
        self.reception.generation.load().policy.clone()
    }

    /// A configuration is in force now, with its policy; `before` is the policy of the last one. Returns what the operator should
    /// know of it.
    pub(super) async fn committed(&self, before: &Arc<Policy>) -> Vec<String> {
        let present = self.policy();
        tell(&present, &HookCall::CorePostConfigCommit).await;
        if Arc::ptr_eq(before, &present) {
            return Vec::new();
        }
        // It may wait for as long as it likes: nobody waits for it.
        let before = before.clone();
        self.runtime.spawn(async move { before.deinit().await });
        self.warn_of_shadowed_commands()
    }

    pub(super) async fn logs_reopened(&self) {
        tell(&self.policy(), &HookCall::CoreLogReopen).await;
    }

    /// The policy's answer in place of a command's, if it has one.
    pub(super) async fn before_command(&self, words: &[String]) -> Option<String> {
        let policy = self.policy();
        let call = HookCall::CoreControlPreCommand { words };
        if !policy.has(call.hook()) {
            return None;
        }
        let result = policy.call(&call).await.ok().filter(|result| result.value != 0)?;
        Some(result.text.map_or_else(String::new, |text| String::from_utf8_lossy(&text).into_owned()))
    }

    /// The commands that the policy has registered.
    pub(super) fn policy_commands(&self) -> Vec<Extension> {
        let extension = |control: ph_policy::ControlName| Extension {
            help: match control.script.as_str() {
                "" => "A command of the policy".to_owned(),
                script => format!("A command of the script \"{script}\""),
            },
            name: control.name,
        };
        self.policy().controls().into_iter().map(extension).collect()
    }

    pub(super) async fn run_policy_command(&self, name: &str, arguments: &[String]) -> Result<String, String> {
        let words: Vec<String> = name.split(' ').map(str::to_owned).chain(arguments.iter().cloned()).collect();
        match self.policy().control(name, &words).await {
            Some(outcome) => outcome,
            None => Err("Unknown command".to_owned()),
        }
    }

    /// A policy's command goes before one of ours: an operator who wonders finds it in the paniclog.
    pub(super) fn warn_of_shadowed_commands(&self) -> Vec<String> {
        let mut notes = Vec::new();
        for control in self.policy().controls() {
            if ph_admin::commands().any(|command| command.name.eq_ignore_ascii_case(&control.name)) {
                let note = format!("the policy's command \"{}\" takes the place of the console's own", control.name);
                self.log.panic(Level::Warning, Subsystem::Generic, &note);
                notes.push(note);
            }
        }
        notes
    }
}
