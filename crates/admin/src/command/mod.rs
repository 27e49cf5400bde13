//! The console's commands: each declared once, with name, arguments, one line of help and what it does.
//!
//! `help`, completion and `docs/console.md` come from the declarations. A command line belongs to the command with the
//! longest name that it begins with (`fail domain quiet` before `fail domain`); modules and policies add commands at the
//! same level (`Server::extensions`). A command answers with a `Doc`, which has a text, an XML and a JSON form.

mod access;
mod cache;
mod config;
mod counter;
mod dns;
mod message;
mod process;
mod purge;
mod queue;
mod resources;
mod sessions;
mod summary;
mod tls;
mod trace;

pub(crate) use queue::{MailqQuery, mailq_json};
pub(crate) use summary::Summary;

use crate::access::{Access, Client};
use crate::doc::{Doc, Form, render_error};
use crate::view::{Later, PolicyTrace, Services};
use ph_config::EditSession;
use std::sync::Arc;

/// What a command works with.
pub struct Context {
    pub services: Arc<Services>,
    pub access: Access,
    pub client: Client,
    /// The authenticated user; `anonymous` without authentication.
    pub user: String,
    /// The configuration transaction of this session; dropping it rolls back.
    pub edit: EditSession,
    /// The command line under way, without its form.
    pub line: String,
    /// `debugging mode` was given.
    pub debugging: bool,
    /// The connection is to be closed after the reply.
    pub close: bool,
    /// The form of the answer under way.
    pub form: Form,
    /// `NAME` of `module:NAME command`.
    pub instance: Option<String>,
    /// The trace of the policy that this session reads.
    pub trace: Option<Box<dyn PolicyTrace>>,
}

/// The words behind a command's name, quotes resolved.
pub type Words = Vec<String>;

/// What a command comes to.
pub type Outcome = Result<Doc, CommandError>;

/// Why a command did nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CommandError {
    #[error("Usage: {0}")]
    Usage(String),
    /// What was asked for is not there, or could not be done; the text is for the operator.
    #[error("{0}")]
    Failed(String),
}

impl CommandError {
    pub(crate) fn failed(text: impl Into<String>) -> CommandError {
        CommandError::Failed(text.into())
    }
}

/// What a command is about: the sections of the reference page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Category {
    Server,
    Queues,
    Messages,
    Network,
    Configuration,
    Access,
}

impl Category {
    pub(crate) const ALL: [Category; 6] = [
        Category::Server,
        Category::Queues,
        Category::Messages,
        Category::Network,
        Category::Configuration,
        Category::Access,
    ];

    pub(crate) const fn title(self) -> &'static str {
        match self {
            Category::Server => "The server",
            Category::Queues => "Queues",
            Category::Messages => "Messages",
            Category::Network => "Connections and DNS",
            Category::Configuration => "Configuration",
            Category::Access => "Access",
        }
    }
}

type Run = for<'a> fn(&'a mut Context, Words) -> Later<'a, Outcome>;

/// One command.
pub struct Command {
    /// Words apart by one blank.
    pub name: &'static str,
    /// What follows the name, for people.
    pub arguments: &'static str,
    /// One line.
    pub help: &'static str,
    pub category: Category,
    pub(crate) run: Run,
}

/// Declares a command: `command! { "name", "ARGUMENTS", Category, "help", function }`. The function is
/// `async fn(&mut Context, Words) -> Outcome`.
macro_rules! command {
    ($name:literal, $arguments:literal, $category:ident, $help:literal, $function:path) => {
        $crate::command::Command {
            name: $name,
            arguments: $arguments,
            help: $help,
            category: $crate::command::Category::$category,
            run: |context, words| Box::pin($function(context, words)),
        }
    };
}
pub(crate) use command;

/// Every command of the server itself.
pub fn commands() -> impl Iterator<Item = &'static Command> {
    [
        process::COMMANDS,
        summary::COMMANDS,
        queue::COMMANDS,
        message::COMMANDS,
        purge::COMMANDS,
        sessions::COMMANDS,
        dns::COMMANDS,
        resources::COMMANDS,
        cache::COMMANDS,
        counter::COMMANDS,
        tls::COMMANDS,
        trace::COMMANDS,
        config::COMMANDS,
        access::COMMANDS,
    ]
    .into_iter()
    .flatten()
}

impl Command {
    /// The usage line.
    pub fn usage(&self) -> String {
        if self.arguments.is_empty() { self.name.to_owned() } else { format!("{} {}", self.name, self.arguments) }
    }
}

/// Takes `xml ` or `json ` off a command line.
pub fn form_of(line: &str) -> (Form, &str) {
    let (first, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
    match first {
        "xml" => (Form::Xml, rest.trim()),
        "json" => (Form::Json, rest.trim()),
        _ => (Form::Text, line),
    }
}

/// Runs a command line without its form, and renders the answer.
pub async fn run(context: &mut Context, line: &str) -> String {
    let form = context.form;
    line.clone_into(&mut context.line);
    match answer(context, line).await {
        Ok(doc) => doc.render(form),
        Err(error) => render_error(&error.to_string(), form),
    }
}

async fn answer(context: &mut Context, line: &str) -> Outcome {
    let mut words = split(line);
    if words.is_empty() {
        return Err(CommandError::Failed("No command given".to_owned()));
    }
    let matching = longest(commands().map(|command| (command.name, command)), &words);
    // A module's instance stands behind a colon in the first word; the command's name is without it.
    let mut bare = words.clone();
    let instance = bare[0].split_once(':').map(|(module, instance)| (module.to_owned(), instance.to_owned()));
    let instance = instance.map(|(module, instance)| {
        bare[0] = module;
        instance
    });
    let with_instance = longest(commands().map(|command| (command.name, command)), &bare);
    let server = Arc::clone(&context.services.server);
    if let Some(text) = server.before_command(&words).await {
        return Ok(Doc::block(&text));
    }
    let extensions = server.extensions();
    // Their names are found in any case.
    let folded: Vec<String> = bare.iter().map(|word| word.to_ascii_lowercase()).collect();
    let names: Vec<String> = extensions.iter().map(|extension| extension.name.to_ascii_lowercase()).collect();
    let extension = longest(names.iter().map(String::as_str).zip(&extensions), &folded);
    let built_in = matching.or(with_instance);
    context.instance = if matching.is_some() { None } else { instance.clone() };
    match (built_in, extension) {
        // Of two equally long names an extension's wins: whoever registers it wants the command otherwise.
        (Some((length, command)), other) if other.is_none_or(|(longer, _)| longer < length) => {
            words.drain(..length);
            (command.run)(context, words).await.map_err(|error| match error {
                CommandError::Usage(text) if text.is_empty() => CommandError::Usage(command.usage()),
                other => other,
            })
        }
        (_, Some((length, extension))) => {
            words.drain(..length);
            match server.run_extension(&extension.name, instance.as_deref(), &words).await {
                Ok(text) => Ok(Doc::block(&text)),
                Err(text) => Err(CommandError::Failed(text)),
            }
        }
        _ => Err(CommandError::Failed("Unknown command".to_owned())),
    }
}

/// The longest name that the words begin with, in words, and what belongs to it.
fn longest<'n, T>(names: impl Iterator<Item = (&'n str, T)>, words: &[String]) -> Option<(usize, T)> {
    names
        .filter_map(|(name, of)| {
            let mut count = 0;
            for word in name.split(' ') {
                if words.get(count).is_none_or(|given| given != word) {
                    return None;
                }
                count += 1;
            }
            Some((count, of))
        })
        .max_by_key(|(count, _)| *count)
}

/// Words apart by blanks; `"…"` holds blanks together, with `\"` and `\\` as escapes within.
pub fn split(line: &str) -> Words {
    let mut words = Vec::new();
    let mut chars = line.chars().peekable();
    loop {
        while chars.next_if(|c| c.is_whitespace()).is_some() {}
        if chars.peek().is_none() {
            return words;
        }
        let mut word = String::new();
        let mut quoted = false;
        while let Some(c) = chars.next_if(|c| quoted || !c.is_whitespace()) {
            match c {
                '"' => quoted = !quoted,
                '\\' if quoted => match chars.next_if(|c| matches!(c, '"' | '\\')) {
                    Some(escaped) => word.push(escaped),
                    None => word.push('\\'),
                },
                c => word.push(c),
            }
        }
        words.push(word);
    }
}

/// The error of wrong arguments; the dispatcher puts the command's usage in.
pub(crate) fn usage<T>() -> Result<T, CommandError> {
    Err(CommandError::Usage(String::new()))
}

/// Exactly one word.
pub(crate) fn one(words: Words) -> Result<String, CommandError> {
    match <[String; 1]>::try_from(words) {
        Ok([word]) => Ok(word),
        Err(_) => usage(),
    }
}

/// No words.
pub(crate) fn none(words: &Words) -> Result<(), CommandError> {
    if words.is_empty() { Ok(()) } else { usage() }
}

/// A whole number.
pub(crate) fn number<T: std::str::FromStr>(word: &str) -> Result<T, CommandError> {
    word.parse().map_err(|_| CommandError::Failed(format!("'{word}' is not a number.")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_and_quotes() {
        for (line, wanted) in [
            ("  a  b\tc ", vec!["a", "b", "c"]),
            ("a \"b c\" d", vec!["a", "b c", "d"]),
            ("a \"b \\\" \\\\ \\d\"", vec!["a", "b \" \\ \\d"]),
            ("a \"unclosed b", vec!["a", "unclosed b"]),
            ("\"\"", vec![""]),
            ("", vec![]),
        ] {
            assert_eq!(split(line), wanted, "{line}");
        }
    }

    #[test]
    fn the_longest_name_wins() {
        let names = ["fail domain", "fail domain quiet", "fail"];
        let find = |line: &str| longest(names.iter().map(|name| (*name, *name)), &split(line)).map(|(_, name)| name);
        assert_eq!(find("fail domain quiet x"), Some("fail domain quiet"));
        assert_eq!(find("fail domain x"), Some("fail domain"));
        assert_eq!(find("fail domainx"), Some("fail"));
        assert_eq!(find("failing"), None);
    }

    #[test]
    fn every_command_is_declared_once_and_has_help() {
        let mut seen = std::collections::HashSet::new();
        for command in commands() {
            assert!(seen.insert(command.name), "{} is declared twice", command.name);
            assert!(!command.help.is_empty() && !command.help.contains('\n'), "{}", command.name);
        }
        assert!(seen.len() > 60, "{}", seen.len());
    }
}
