//! `posthaste repl`: a Lua prompt in a policy's state, with a session and a message at hand and the API completed.

use crate::cli::ReplArgs;
use crate::run_policy::with_crlf;
use crate::run_policy::world::{self, World};
use anyhow::{Context as _, Result, bail};
use ph_message::{Content, Envelope, Mailbox, Protocol};
use ph_policy::{Evaluated, Message, Phase, Recipient, Session, Settings};
use rustyline::completion::{Completer, Pair};
use rustyline::error::ReadlineError;
use rustyline::{Context, Editor, Helper, Highlighter, Hinter, Validator};
use std::io::{BufRead, IsTerminal};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

/// What `msg` is when no message was named.
const LETTER: &str = "From: Ann <ann@example.com>\r\nTo: Bob <bob@example.net>\r\nSubject: A message to try things on\r\n\
                      Message-ID: <1@example.com>\r\nContent-Type: text/plain; charset=utf-8\r\n\r\nHello.\r\n";

pub fn run(args: &ReplArgs) -> Result<ExitCode> {
    let Some(phase) = Phase::named(&args.phase) else {
        bail!("no phase is named {}; there are {}", args.phase, Phase::names().collect::<Vec<_>>().join(", "));
    };
    let content = match &args.message {
        Some(file) => {
            let bytes = std::fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
            Content::parse(with_crlf(&bytes).into())
        }
        None => Content::parse(LETTER.into()),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let world = match &args.policy {
            Some(file) => World::load(file, "localhost", args.dns).await?,
            None => {
                let names = args.dns.then(|| crate::server::names(&ph_config::Config::builtin()));
                let change = |services: &mut ph_policy::Services| services.dns = names.unwrap_or(services.dns.clone());
                World::with(Settings::default(), None, "localhost", change).await?
            }
        };
        let prompt = Prompt::new(world, phase, content)?;
        prompt.show_what_was_said();
        if std::io::stdin().is_terminal() { prompt.interactive().await } else { prompt.batch().await }
    })
}

struct Prompt {
    world: World,
    phase: Phase,
    session: Arc<Session>,
    /// Held: the handles know it weakly.
    _message: Arc<Message>,
}

impl Prompt {
    fn new(world: World, phase: Phase, content: Content) -> Result<Prompt> {
        let now = world.services.now();
        let (remote, local) = (([192, 0, 2, 7], 2525).into(), ([127, 0, 0, 1], 25).into());
        let session = Session::new(world.ids.next(now), remote, local, ":25", "SMTP");
        let address = |field: &str, otherwise: &str| -> Result<Mailbox> {
            let text = content.header_text(field).unwrap_or_default();
            let first = ph_message::parse_address_list(&text).first().map(|address| address.address());
            let mailbox = first.and_then(|address| Mailbox::parse(&address, true).ok());
            Ok(mailbox.map_or_else(|| Mailbox::parse(otherwise, true), Ok)?)
        };
        let (sender, recipient) = (address("From", "ann@example.com")?, address("To", "bob@example.net")?);
        {
            let mut state = session.state.lock();
            state.conn.set("ehlo_domain", "client.example");
            state.mess.set("mailfrom_domain", sender.domain.as_bytes().to_vec());
            state.mess.set("mailfrom_localpart", sender.local.as_bytes().to_vec());
            state.mess.set("rcptto_domain", recipient.domain.as_bytes().to_vec());
            state.mess.set("rcptto_localpart", recipient.local.as_bytes().to_vec());
            state.recipients = vec![Recipient { mailbox: recipient.clone(), dsn: Default::default() }];
        }
        session.begin_phase(250);
        let id = world.ids.next(now);
        let envelope = Envelope {
            id,
            batch_id: id,
            conn_id: session.conn_id,
            sender,
            recipient,
            created: now,
            protocol: Protocol::Esmtp,
            peer: Some(remote),
            listener: Some(local),
            ..Envelope::default()
        };
        let message = Message::in_session(envelope, Some(content), &session);
        world.policy.set_objects(&session, &message).map_err(anyhow::Error::msg)?;
        Ok(Prompt { world, phase, session, _message: message })
    }

    fn show_what_was_said(&self) {
        self.world.said.take().iter().for_each(|line| println!("{line}"));
        for world::Mail { sender, recipients, .. } in self.world.sent.take() {
            println!("mail sent from <{sender}> to {}", recipients.join(", "));
        }
    }

    /// Runs one input; false when more lines have to follow.
    async fn input(&self, text: &str) -> (bool, bool) {
        if let Some(name) = text.trim().strip_prefix("help ") {
            match ph_policy::describe(name.trim()) {
                Some(text) => print!("{text}"),
                None => println!("{name} is no function of the API"),
            }
            return (true, true);
        }
        // As in Lua's own prompt of old: `= 1 + 1`.
        let text = text.trim_start().strip_prefix('=').unwrap_or(text);
        let outcome = self.world.policy.evaluate(text, self.phase, &self.session).await;
        self.show_what_was_said();
        match outcome {
            Evaluated::Incomplete => return (false, true),
            Evaluated::Values(values) if values.is_empty() => {}
            Evaluated::Values(values) => println!("{}", values.join("\t")),
            Evaluated::Error(text) => {
                eprintln!("{text}");
                return (true, false);
            }
        }
        (true, true)
    }

    /// Lines of a pipe. Fails when one of them raised an error.
    async fn batch(&self) -> Result<ExitCode> {
        let mut code = ExitCode::SUCCESS;
        let mut text = String::new();
        for line in std::io::stdin().lock().lines() {
            text.push_str(&line?);
            let (whole, good) = self.input(&text).await;
            if !good {
                code = ExitCode::FAILURE;
            }
            if whole {
                text.clear();
            } else {
                text.push('\n');
            }
        }
        if !text.trim().is_empty() {
            eprintln!("the input ends in the middle of: {}", text.trim());
            code = ExitCode::FAILURE;
        }
        Ok(code)
    }

    async fn interactive(&self) -> Result<ExitCode> {
        println!(
            "msg, ac and vctx as in {}; Tab completes, `help msg:header` explains, Ctrl-D ends",
            self.phase.name()
        );
        let mut editor: Editor<Names, rustyline::history::FileHistory> = Editor::new()?;
        editor.set_helper(Some(Names));
        let history = std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".posthaste_lua_history"));
        if let Some(history) = &history {
            let _ = editor.load_history(history);
        }
        let mut text = String::new();
        loop {
            match editor.readline(if text.is_empty() { "> " } else { ">> " }) {
                Ok(line) => text.push_str(&line),
                Err(ReadlineError::Interrupted) => {
                    text.clear();
                    continue;
                }
                Err(ReadlineError::Eof) => break,
                Err(error) => return Err(error.into()),
            }
            if text.trim().is_empty() {
                text.clear();
                continue;
            }
            if self.input(&text).await.0 {
                let _ = editor.add_history_entry(text.as_str());
                text.clear();
            } else {
                text.push('\n');
            }
        }
        if let Some(history) = &history {
            let _ = editor.save_history(history);
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Completes the names of the API and of Lua's libraries.
#[derive(Helper, Highlighter, Hinter, Validator)]
struct Names;

impl Completer for Names {
    type Candidate = Pair;

    fn complete(&self, line: &str, at: usize, _: &Context<'_>) -> rustyline::Result<(usize, Vec<Pair>)> {
        let typed = &line[..at];
        let part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | ':');
        let start = typed
            .rfind(|c: char| !part(c))
            .map_or(0, |end| end + typed[end..].chars().next().map_or(1, char::len_utf8));
        let names = ph_policy::completions(&typed[start..]);
        Ok((start, names.into_iter().map(|name| Pair { display: name.clone(), replacement: name }).collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustyline::history::DefaultHistory;

    #[test]
    fn what_is_typed_is_completed_from_the_api() {
        let history = DefaultHistory::new();
        for (line, from, wanted) in [
            ("msg:he", 0, "msg:header"),
            ("x = msys.pcre.ma", 4, "msys.pcre.match"),
            ("print(vctx:set_", 6, "vctx:set_code"),
            ("é = msys.core.VALIDATE_CO", 5, "msys.core.VALIDATE_CONT"),
            ("string.gs", 0, "string.gsub"),
        ] {
            let (start, found) = Names.complete(line, line.len(), &Context::new(&history)).unwrap();
            assert_eq!(start, from, "{line}");
            assert!(found.iter().any(|pair| pair.replacement == wanted), "{line}");
        }
    }
}
