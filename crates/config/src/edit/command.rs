//! The words of a `config` command: which scope and which option they name.
//!
//! On the console names follow each other without braces: `esmtp_listener listen :25 idle_time`. Whether a word is a name
//! of a stanza, the name of an instance, or an option follows from the stanzas around it.

use super::{Route, with_help};
use crate::lexer::{self, Kind};
use crate::load::{unknown_option, unknown_scope};
use crate::options::{OptionDecl, registry};
use crate::schema::{self, Naming, ROOT as ROOT_CLASS, ScopeClass};
use crate::source::FileId;
use crate::tree::{Name, NodeId, ROOT, Tree};

/// One word of a command.
#[derive(Clone, Debug)]
pub(super) struct Word {
    pub text: String,
    pub quoted: bool,
    /// Where it begins in the line.
    pub start: usize,
}

impl Word {
    /// A word that comes from a program.
    pub(super) fn plain(text: &str) -> Word {
        Word { text: text.to_string(), quoted: false, start: 0 }
    }

    pub(super) fn is(&self, text: &str) -> bool {
        self.text.eq_ignore_ascii_case(text)
    }
}

/// Splits a line. Brackets and `=` become words of their own.
pub(super) fn words(line: &str) -> Result<Vec<Word>, String> {
    let (tokens, errors) = lexer::tokens(FileId(0), line.as_bytes());
    if let Some(error) = errors.first() {
        return Err(with_help(error.message.into(), Some(error.help.into())));
    }
    let words = tokens.into_iter().filter(|t| t.kind != Kind::End).map(|token| Word {
        text: match token.kind {
            Kind::Word | Kind::Quoted => token.text,
            _ => line[token.span.range()].to_string(),
        },
        quoted: token.kind == Kind::Quoted,
        start: token.span.range().start,
    });
    Ok(words.collect())
}

/// What a command is about.
pub(super) struct Target<'w> {
    pub route: Route,
    pub option: Option<&'static OptionDecl>,
    /// The words behind it.
    pub rest: &'w [Word],
}

/// Reads scopes, then an option if one follows.
pub(super) fn target<'w>(tree: &Tree, words: &'w [Word]) -> Result<Target<'w>, String> {
    let mut route = Route::new();
    let mut class: &'static ScopeClass = &ROOT_CLASS;
    let mut node = Some(ROOT);
    let mut rest = words;
    while let Some((word, after)) = rest.split_first() {
        let option = registry::find(class, &word.text);
        // A name that is both an option and a stanza is an option when it ends the command.
        let part = class.part(&word.text).filter(|_| option.is_none() || !after.is_empty());
        let Some(part) = part else {
            let option = match option {
                Some(option) => option,
                None => foreign_option(tree, class, node, word)?,
            };
            return Ok(Target { route, option: Some(option), rest: after });
        };
        let (name, after) = instance(tree, part, node, after)?;
        node = node.and_then(|node| tree.child(node, part, &name.key));
        route.push((part, name));
        (class, rest) = (part, after);
    }
    Ok(Target { route, option: None, rest })
}

/// The name that follows a stanza, if it takes one.
fn instance<'w>(
    tree: &Tree,
    part: &'static ScopeClass,
    node: Option<NodeId>,
    after: &'w [Word],
) -> Result<(Name, &'w [Word]), String> {
    let take = match (part.naming, after.first()) {
        (Naming::Named, Some(_)) => true,
        (Naming::Named | Naming::Anonymous, _) | (_, None) => false,
        (Naming::Optional, Some(word)) => {
            let exists = node.is_some_and(|node| tree.child(node, part, &word.text).is_some());
            let known = registry::find(part, &word.text).is_some() || part.part(&word.text).is_some();
            word.quoted || exists || !known
        }
    };
    let (text, rest) = match (take, after) {
        (true, [word, rest @ ..]) => (Some(&*word.text), rest),
        _ => (None, after),
    };
    let name = Name::understand(part, text).map_err(|(message, help)| with_help(message, help))?;
    Ok((name, rest))
}

/// An option nobody here knows may still be set in a stanza of which not all is known.
fn foreign_option(
    tree: &Tree,
    class: &'static ScopeClass,
    node: Option<NodeId>,
    word: &Word,
) -> Result<&'static OptionDecl, String> {
    let set = node.and_then(|node| {
        tree.node(node).settings.iter().find(|s| s.decl.name.eq_ignore_ascii_case(&word.text)).map(|s| s.decl)
    });
    if let Some(decl) = set.or_else(|| class.is_open().then(|| schema::foreign_option(&word.text)).flatten()) {
        return Ok(decl);
    }
    let (message, help) = unknown_option(class, &word.text);
    let (message, help) = match help {
        None => unknown_scope(class, &word.text),
        help => (message, help),
    };
    Err(with_help(message, help))
}
