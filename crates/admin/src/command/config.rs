//! The configuration: `config …` and `write config`. What a change means is the editor's business (`ph_config`); its
//! transaction belongs to this control session.

use super::process::blocking;
use super::{Command, CommandError, Context, Outcome, Words, command, usage};
use crate::doc::Doc;
use ph_eventlog::metrics;
use std::sync::Arc;

pub(super) static COMMANDS: &[Command] = &[
    command! {
        "config get", "[SCOPE [NAME]]… OPTION", Configuration, "Shows an option where it is set", edit
    },
    command! {
        "config eval", "[SCOPE [NAME]]… OPTION", Configuration, "Shows the value in force, default included", edit
    },
    command! { "config set", "[SCOPE [NAME]]… OPTION [=] VALUE", Configuration, "Sets an option", edit },
    command! {
        "config unset", "[SCOPE [NAME]]… [OPTION]", Configuration, "Removes an option, or a whole scope", edit
    },
    command! { "config show", "[SCOPE [NAME]]…", Configuration, "Shows the settings and scopes within a scope", edit },
    command! {
        "config showrecurse", "[SCOPE [NAME]]…", Configuration, "Shows a scope with everything in it", edit
    },
    command! { "config locate", "SCOPE [REGEX]", Configuration, "Finds scopes by kind and name", edit },
    command! { "config begin", "", Configuration, "Begins a transaction", edit },
    command! {
        "config begin from scratch", "", Configuration, "Begins a transaction with an empty configuration", edit
    },
    command! { "config replay", "", Configuration, "Shows the changes of the transaction as commands", edit },
    command! { "config commit", "", Configuration, "Puts the transaction in force", edit },
    command! { "config rollback", "", Configuration, "Forgets the transaction", edit },
    command! { "config reload", "[PATH]", Configuration, "Reads the files anew, forgetting online changes", edit },
    command! { "config writeback", "[PATH]", Configuration, "Writes online changes to the files", edit },
    command! {
        "write config", "[PATH]", Configuration, "Shows the configuration in force, or writes it to a file", write
    },
];

/// `config …`: the editor takes the line as it was typed, since lists and quotes mean something to it.
async fn edit(context: &mut Context, _: Words) -> Outcome {
    let line = context.line.trim_start();
    let line = line.strip_prefix("config").unwrap_or(line).trim().to_owned();
    let configuration = Arc::clone(&context.services.configuration);
    let reloads = line == "reload" || line.starts_with("reload ");
    let result = configuration.run(&mut context.edit, &line).await;
    if reloads {
        metrics::CONFIG_RELOADS.add(if result.is_ok() { "ok" } else { "failed" }, 1);
    }
    result.map(|text| Doc::block(&text)).map_err(CommandError::Failed)
}

async fn write(context: &mut Context, words: Words) -> Outcome {
    let text = context.services.configuration.text().map_err(CommandError::Failed)?;
    match &words[..] {
        [] => Ok(Doc::block(&text)),
        [path] => {
            let target = path.clone();
            let written = blocking(move || std::fs::write(target, text)).await?;
            written.map_err(|error| CommandError::Failed(format!("{path}: {error}")))?;
            Ok(Doc::say(format!("Configuration written to {path}.")))
        }
        _ => usage(),
    }
}
