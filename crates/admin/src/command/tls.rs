//! TLS contexts: `tls show cache`, `tls flush cache`, `tls rekey`.

use super::{Command, Context, Outcome, Words, command, none};
use crate::doc::{Data, Doc};

pub(super) static COMMANDS: &[Command] = &[
    command! { "tls show cache", "", Network, "Lists the TLS contexts of the listeners", show },
    command! { "tls flush cache", "", Network, "Reads certificates and keys anew", flush },
    command! { "tls rekey", "", Network, "Makes new keys for TLS session tickets", rekey },
];

async fn show(context: &mut Context, words: Words) -> Outcome {
    none(&words)?;
    let contexts = context.services.server.tls_contexts();
    let mut doc = Doc::new("TLSContexts");
    for (at, one) in contexts.iter().enumerate() {
        doc.push_line(&format!("{:>4}) server context", at + 1));
        let state = if one.works { "in use" } else { "not offered: see the paniclog" };
        let ciphers = if one.ciphers.is_empty() { "default" } else { &one.ciphers };
        for (label, value) in [
            ("age", format!("{} seconds old", one.age_s).as_str()),
            ("state", state),
            ("certificate", &one.certificate),
            ("ca list", one.ca.as_deref().unwrap_or("none")),
            ("ciphers", ciphers),
        ] {
            doc.push_line(&format!("{label:>17}: {value}"));
        }
    }
    doc.push_line(&format!("{} TLS contexts", contexts.len()));
    let items = contexts.iter().map(|one| {
        Data::map([
            ("Age", one.age_s.into()),
            ("InUse", one.works.into()),
            ("Certificate", one.certificate.as_str().into()),
            ("CAList", one.ca.as_deref().map_or(Data::Empty, Data::from)),
            ("Ciphers", one.ciphers.as_str().into()),
        ])
    });
    Ok(doc.with(Data::list("Context", items.collect::<Vec<_>>())))
}

async fn flush(context: &mut Context, words: Words) -> Outcome {
    none(&words)?;
    Ok(renew(context, "Cache flush request submitted."))
}

async fn rekey(context: &mut Context, words: Words) -> Outcome {
    none(&words)?;
    Ok(renew(context, "Rekey request submitted."))
}

/// Contexts are made anew as a whole: a context and the keys of its tickets have one life.
fn renew(context: &Context, text: &str) -> Doc {
    let problems = context.services.server.renew_tls();
    let doc = problems.iter().fold(Doc::new("Response").line(text), |doc, problem| doc.line(problem));
    doc.with(Data::map([
        ("Message", text.into()),
        ("Problem", Data::list("Problem", problems.iter().map(|problem| problem.as_str().into()))),
    ]))
}
