//! The configuration: `config …` and `write config`. What a change means is the editor's business (`ConfigSession`); its
//! transaction belongs to this control session.

use super::process::blocking;
use super::{Command, CommandError, Context, Outcome, Words, command, none, usage};
use crate::doc::Doc;
use crate::view::ConfigResult;

pub(super) static COMMANDS: &[Command] = &[
    command! {
        "config get", "[SCOPE [NAME]]… OPTION", Configuration, "Shows an option where it is set", get
    },
    command! {
        "config eval", "[SCOPE [NAME]]… OPTION", Configuration, "Shows the value in force, default included", eval
    },
    command! { "config set", "[SCOPE [NAME]]… OPTION [=] VALUE", Configuration, "Sets an option", set },
    command! {
        "config unset", "[SCOPE [NAME]]… [OPTION]", Configuration, "Removes an option, or a whole scope", unset
    },
    command! { "config show", "[SCOPE [NAME]]…", Configuration, "Shows the settings and scopes within a scope", show },
    command! {
        "config showrecurse", "[SCOPE [NAME]]…", Configuration, "Shows a scope with everything in it", showrecurse
    },
    command! { "config locate", "SCOPE [REGEX]", Configuration, "Finds scopes by kind and name", locate },
    command! { "config begin", "", Configuration, "Begins a transaction", begin },
    command! {
        "config begin from scratch", "", Configuration, "Begins a transaction with an empty configuration", from_scratch
    },
    command! { "config replay", "", Configuration, "Shows the changes of the transaction as commands", replay },
    command! { "config commit", "", Configuration, "Puts the transaction in force", commit },
    command! { "config rollback", "", Configuration, "Forgets the transaction", rollback },
    command! { "config reload", "[PATH]", Configuration, "Reads the files anew, forgetting online changes", reload },
    command! { "config writeback", "[PATH]", Configuration, "Writes online changes to the files", writeback },
    command! {
        "write config", "[PATH]", Configuration, "Shows the configuration in force, or writes it to a file", write
    },
];

fn outcome(result: ConfigResult) -> Outcome {
    result.map(|text| Doc::block(&text)).map_err(CommandError::Failed)
}

async fn get(context: &mut Context, words: Words) -> Outcome {
    if words.is_empty() {
        return usage();
    }
    outcome(context.config.get(&words))
}

async fn eval(context: &mut Context, words: Words) -> Outcome {
    if words.is_empty() {
        return usage();
    }
    outcome(context.config.eval(&words))
}

async fn set(context: &mut Context, words: Words) -> Outcome {
    if words.len() < 2 {
        return usage();
    }
    outcome(context.config.set(&words).await)
}

async fn unset(context: &mut Context, words: Words) -> Outcome {
    if words.is_empty() {
        return usage();
    }
    outcome(context.config.unset(&words).await)
}

async fn show(context: &mut Context, words: Words) -> Outcome {
    outcome(context.config.show(&words))
}

async fn showrecurse(context: &mut Context, words: Words) -> Outcome {
    outcome(context.config.show_recurse(&words))
}

async fn locate(context: &mut Context, words: Words) -> Outcome {
    match &words[..] {
        [scope] => outcome(context.config.locate(scope, None)),
        [scope, pattern] => outcome(context.config.locate(scope, Some(pattern))),
        _ => usage(),
    }
}

async fn begin(context: &mut Context, words: Words) -> Outcome {
    none(&words)?;
    outcome(context.config.begin(false))
}

async fn from_scratch(context: &mut Context, words: Words) -> Outcome {
    none(&words)?;
    outcome(context.config.begin(true))
}

async fn replay(context: &mut Context, words: Words) -> Outcome {
    none(&words)?;
    outcome(context.config.replay())
}

async fn commit(context: &mut Context, words: Words) -> Outcome {
    none(&words)?;
    outcome(context.config.commit().await)
}

async fn rollback(context: &mut Context, words: Words) -> Outcome {
    none(&words)?;
    outcome(context.config.rollback())
}

async fn reload(context: &mut Context, words: Words) -> Outcome {
    match &words[..] {
        [] => outcome(context.config.reload(None).await),
        [path] => outcome(context.config.reload(Some(path)).await),
        _ => usage(),
    }
}

async fn writeback(context: &mut Context, words: Words) -> Outcome {
    match &words[..] {
        [] => outcome(context.config.writeback(None)),
        [path] => outcome(context.config.writeback(Some(path))),
        _ => usage(),
    }
}

async fn write(context: &mut Context, words: Words) -> Outcome {
    let text = context.services.server.configuration_text();
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
