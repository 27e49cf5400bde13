//! TLS contexts: `tls show cache`, `tls flush cache`, `tls rekey`.

use super::{Command, CommandError, Context, Outcome, Words, command, none};
use crate::doc::{Data, Doc};

pub(super) static COMMANDS: &[Command] = &[
    command! { "tls show cache", "", Network, "Lists the TLS contexts", show },
    command! { "tls flush cache", "", Network, "Reads certificates and keys anew", flush },
    command! { "tls rekey", "", Network, "Makes new keys for TLS session tickets", rekey },
];

async fn show(context: &mut Context, words: Words) -> Outcome {
    none(&words)?;
    let contexts = context.services.server.tls_contexts();
    let mut doc = Doc::new("TLSContexts");
    contexts.iter().for_each(|line| doc.push_line(line));
    doc.push_line(&format!("{} TLS contexts", contexts.len()));
    Ok(doc.with(Data::list("Context", contexts.into_iter().map(Data::from))))
}

async fn flush(context: &mut Context, words: Words) -> Outcome {
    none(&words)?;
    context.services.server.flush_tls().map_err(CommandError::Failed)?;
    Ok(Doc::say("Cache flush request submitted."))
}

async fn rekey(context: &mut Context, words: Words) -> Outcome {
    none(&words)?;
    context.services.server.rekey_tls().map_err(CommandError::Failed)?;
    Ok(Doc::say("Rekey request submitted."))
}
