//! Tokens to items: settings, stanzas and includes, with their places.
//!
//! The grammar knows no option and no stanza name; what names mean is the affair of `build`. After an error reading goes
//! on at the next item, so that one run shows all errors. Nesting has a limit: no input may exhaust the stack.

use crate::lexer::{self, Kind, Token};
use crate::source::{FileId, Span};
use std::sync::Arc;

/// Stanzas, lists and dicts may be nested so deep.
const DEPTH_MAX: usize = 32;

/// A word or string as written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Scalar {
    pub text: Arc<str>,
    pub quoted: bool,
    pub span: Span,
}

/// A value as written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Literal {
    Scalar(Scalar),
    List(Vec<Scalar>, Span),
    Dict(Vec<(Scalar, Literal)>, Span),
}

impl Literal {
    pub(crate) fn span(&self) -> Span {
        match self {
            Literal::Scalar(scalar) => scalar.span,
            Literal::List(_, span) | Literal::Dict(_, span) => *span,
        }
    }
}

/// One thing in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Item {
    Include { readonly: bool, target: Scalar, span: Span },
    Setting { name: Scalar, value: Literal },
    Stanza { name: Scalar, instance: Option<Scalar>, items: Vec<Item>, close: Span },
}

/// A fault of grammar.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SyntaxError {
    pub span: Span,
    pub message: String,
    pub help: Option<String>,
}

/// Reads a whole file.
pub(crate) fn parse(file: FileId, text: &[u8]) -> (Vec<Item>, Vec<SyntaxError>) {
    let (tokens, faults) = lexer::tokens(file, text);
    let cut_short = faults.iter().any(|f| f.fatal);
    let mut parser = Parser { tokens, at: 0, depth: 0, errors: Vec::new(), cut_short, loose: false };
    let items = parser.items(None);
    let mut errors = parser.errors;
    errors.extend(faults.into_iter().map(|f| SyntaxError {
        span: f.span,
        message: f.message.to_string(),
        help: Some(f.help.to_string()),
    }));
    errors.sort_by_key(|e| e.span.start);
    (items, errors)
}

/// Reads one value, such as the default of an option or the rest of a console command. On the console the blanks may
/// part a list without commas and a scalar may be missing altogether (an empty string).
pub(crate) fn parse_value(file: FileId, text: &[u8]) -> Result<Literal, SyntaxError> {
    let (tokens, faults) = lexer::tokens(file, text);
    if let Some(fault) = faults.into_iter().next() {
        return Err(SyntaxError { span: fault.span, message: fault.message.into(), help: Some(fault.help.into()) });
    }
    let mut parser = Parser { tokens, at: 0, depth: 0, errors: Vec::new(), cut_short: false, loose: true };
    let value = parser.value();
    if let Some(error) = parser.errors.drain(..).next() {
        return Err(error);
    }
    let rest = parser.peek().clone();
    match value {
        Some(value) if rest.kind == Kind::End => Ok(value),
        _ => Err(SyntaxError { span: rest.span, message: "one value is expected".into(), help: None }),
    }
}

struct Parser {
    tokens: Vec<Token>,
    at: usize,
    depth: usize,
    errors: Vec<SyntaxError>,
    /// The lexer gave up: a missing `}` at the end is its consequence.
    cut_short: bool,
    loose: bool,
}

impl Parser {
    fn peek(&self) -> &Token {
        &self.tokens[self.at] // `End` is never passed
    }

    fn kind(&self, ahead: usize) -> Kind {
        self.tokens.get(self.at + ahead).map_or(Kind::End, |t| t.kind)
    }

    fn next(&mut self) -> Token {
        let token = self.tokens[self.at].clone();
        if token.kind != Kind::End {
            self.at += 1;
        }
        token
    }

    fn error(&mut self, span: Span, message: impl Into<String>, help: Option<&str>) {
        self.errors.push(SyntaxError { span, message: message.into(), help: help.map(str::to_string) });
    }

    /// Items up to `}` (when `open` is the place of its `{`) or to the end of the file.
    fn items(&mut self, open: Option<Span>) -> Vec<Item> {
        let mut items = Vec::new();
        loop {
            match (self.kind(0), open) {
                (Kind::End, None) => return items,
                (Kind::End, Some(open)) => {
                    if !self.cut_short {
                        self.error(open, "this `{` is never closed", Some("add the missing `}`"));
                        self.cut_short = true; // one report is enough for a nest of them
                    }
                    return items;
                }
                (Kind::BraceClose, Some(_)) => return items,
                (Kind::BraceClose, None) => {
                    let token = self.next();
                    self.error(token.span, "there is no open `{` for this `}`", None);
                }
                _ => {
                    if let Some(item) = self.item() {
                        items.push(item);
                    }
                }
            }
        }
    }

    fn item(&mut self) -> Option<Item> {
        let token = self.next();
        if token.kind != Kind::Word {
            let help =
                (token.kind == Kind::Quoted).then_some("names of options and stanzas are written without quotes");
            self.error(token.span, format!("expected a name, found {}", describe(&token)), help);
            self.recover();
            return None;
        }
        let name = scalar(&token);
        if matches!(token.text.to_ascii_lowercase().as_str(), "include" | "readonly_include") {
            return self.include(&token);
        }
        match self.kind(0) {
            Kind::BraceOpen => self.stanza(name, None),
            Kind::Equals if self.kind(1) == Kind::BraceOpen => {
                self.next();
                self.stanza(name, None)
            }
            Kind::Equals => {
                self.next();
                self.setting(name)
            }
            Kind::BracketOpen if self.bracketed_instance() => {
                let bracket = self.peek().span;
                self.error(
                    bracket,
                    format!("a name with `[` must be quoted after `{}`", name.text),
                    Some("write it as \"[…]\""),
                );
                self.recover();
                None
            }
            Kind::BracketOpen | Kind::ParenOpen => self.setting(name),
            Kind::Word | Kind::Quoted => self.after_scalar(name),
            _ => {
                let found = describe(self.peek());
                let help = if is_unit(&name.text) { UNIT_HELP } else { "write `name = value` or `name { … }`" };
                self.error(name.span, format!("`{}` has no value, {found} follows", name.text), Some(help));
                self.recover();
                None
            }
        }
    }

    /// `NAME scalar` is the head of a stanza when a brace follows.
    fn after_scalar(&mut self, name: Scalar) -> Option<Item> {
        let brace = match (self.kind(1), self.kind(2)) {
            (Kind::BraceOpen, _) => 1,
            (Kind::Equals, Kind::BraceOpen) => 2,
            _ => 0,
        };
        let token = self.peek().clone();
        if brace == 0 {
            self.missing_equals(&name, &token);
            return None;
        }
        self.at += brace;
        self.stanza(name, Some(scalar(&token)))
    }

    fn missing_equals(&mut self, name: &Scalar, token: &Token) {
        if self.kind(1) == Kind::Equals {
            // `a b = c`: more likely that `a` was left without a value than that `b` is one.
            self.error(name.span, format!("`{}` has no value", name.text), Some("write `name = value`"));
            return;
        }
        let help = if is_unit(&name.text) {
            UNIT_HELP.to_string()
        } else {
            format!("write `{} = {}`; a stanza needs `{{ … }}`", name.text, token.text)
        };
        self.error(token.span, format!("a `=` is missing after `{}`", name.text), Some(&help));
        self.next();
        if !self.peek().first_on_line {
            self.recover();
        }
    }

    fn include(&mut self, word: &Token) -> Option<Item> {
        if self.kind(0) == Kind::Equals {
            self.next();
        }
        let token = self.peek().clone();
        if !matches!(token.kind, Kind::Word | Kind::Quoted) {
            self.error(word.span, format!("`{}` needs the name of a file", word.text), None);
            self.recover();
            return None;
        }
        self.next();
        let readonly = word.text.len() > "include".len();
        Some(Item::Include { readonly, target: scalar(&token), span: word.span.to(token.span) })
    }

    fn stanza(&mut self, name: Scalar, instance: Option<Scalar>) -> Option<Item> {
        let open = self.next().span;
        if self.too_deep(open) {
            return None;
        }
        self.depth += 1;
        let items = self.items(Some(open));
        self.depth -= 1;
        let close = self.next().span;
        Some(Item::Stanza { name, instance, items, close })
    }

    fn setting(&mut self, name: Scalar) -> Option<Item> {
        match self.value() {
            Some(value) => Some(Item::Setting { name, value }),
            None => {
                self.recover();
                None
            }
        }
    }

    fn value(&mut self) -> Option<Literal> {
        let token = self.peek().clone();
        match token.kind {
            Kind::Word | Kind::Quoted => {
                self.next();
                Some(Literal::Scalar(scalar(&token)))
            }
            Kind::ParenOpen => self.list(),
            Kind::BracketOpen => self.dict(),
            _ => {
                self.error(token.span, format!("expected a value, found {}", describe(&token)), None);
                None
            }
        }
    }

    fn list(&mut self) -> Option<Literal> {
        let open = self.next().span;
        let mut elements = Vec::new();
        loop {
            let token = self.next();
            match token.kind {
                Kind::Word | Kind::Quoted => elements.push(scalar(&token)),
                Kind::Comma => {}
                Kind::ParenClose => return Some(Literal::List(elements, open.to(token.span))),
                Kind::End => return self.unclosed(open, "(", ")"),
                _ => {
                    self.error(
                        token.span,
                        format!("a list holds words and strings, not {}", describe(&token)),
                        Some("a string with brackets or `=` needs quotes; the list ends with `)`"),
                    );
                    self.at -= 1;
                    return None;
                }
            }
        }
    }

    fn dict(&mut self) -> Option<Literal> {
        let open = self.next().span;
        if self.too_deep(open) {
            return None;
        }
        let mut entries = Vec::new();
        loop {
            let token = self.next();
            match token.kind {
                Kind::Comma => {}
                Kind::BracketClose => return Some(Literal::Dict(entries, open.to(token.span))),
                Kind::End => return self.unclosed(open, "[", "]"),
                Kind::Word | Kind::Quoted => {
                    if self.kind(0) == Kind::Equals {
                        self.next();
                    }
                    if matches!(self.kind(0), Kind::BracketClose | Kind::Comma) {
                        self.error(
                            token.span,
                            format!("the key `{}` has no value", token.text),
                            Some("write `key = value`"),
                        );
                        continue;
                    }
                    self.depth += 1;
                    let value = self.value();
                    self.depth -= 1;
                    entries.push((scalar(&token), value?));
                }
                _ => {
                    self.error(token.span, format!("expected a key, found {}", describe(&token)), None);
                    self.at -= 1;
                    return None;
                }
            }
        }
    }

    fn unclosed(&mut self, open: Span, sign: &str, closing: &str) -> Option<Literal> {
        if !self.cut_short {
            self.error(open, format!("this `{sign}` is never closed"), Some(&format!("add the missing `{closing}`")));
            self.cut_short = true;
        }
        None
    }

    fn too_deep(&mut self, open: Span) -> bool {
        let deep = self.depth >= DEPTH_MAX;
        if deep {
            self.error(open, format!("nested more than {DEPTH_MAX} deep"), None);
            self.at = self.tokens.len() - 1; // nothing sensible can follow
            self.cut_short = true;
        }
        deep
    }

    /// `[ … ]` directly followed by `{`: an instance name whose quotes were forgotten.
    fn bracketed_instance(&self) -> bool {
        let close = self.tokens[self.at..].iter().take(4).position(|t| t.kind == Kind::BracketClose);
        close.is_some_and(|close| self.kind(close + 1) == Kind::BraceOpen)
    }

    /// Skips to the next item: a word that begins a line outside of what was opened meanwhile, or the `}` of the stanza.
    fn recover(&mut self) {
        if self.loose {
            return;
        }
        let mut open = 0usize;
        loop {
            let token = self.peek();
            match token.kind {
                Kind::End => return,
                Kind::BraceClose if open == 0 => return,
                Kind::Word if open == 0 && token.first_on_line => return,
                Kind::BraceOpen => open += 1,
                Kind::BraceClose => open -= 1,
                _ => {}
            }
            self.at += 1;
        }
    }
}

fn scalar(token: &Token) -> Scalar {
    Scalar { text: Arc::from(token.text.as_str()), quoted: token.kind == Kind::Quoted, span: token.span }
}

fn describe(token: &Token) -> String {
    match token.kind {
        Kind::Word => format!("`{}`", token.text),
        Kind::Quoted => "a string".into(),
        Kind::Equals => "`=`".into(),
        Kind::BraceOpen => "`{`".into(),
        Kind::BraceClose => "`}`".into(),
        Kind::BracketOpen => "`[`".into(),
        Kind::BracketClose => "`]`".into(),
        Kind::ParenOpen => "`(`".into(),
        Kind::ParenClose => "`)`".into(),
        Kind::Comma => "`,`".into(),
        Kind::End => "the end of the file".into(),
    }
}

const UNIT_HELP: &str = "a number with its unit is one value and needs quotes: \"5 minutes\"";

fn is_unit(word: &str) -> bool {
    crate::value::unit_seconds(word).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(items: &[Item]) -> String {
        items
            .iter()
            .map(|item| match item {
                Item::Include { readonly, target, .. } => format!("include({readonly} {})", target.text),
                Item::Setting { name, value } => format!("{}={}", name.text, literal(value)),
                Item::Stanza { name, instance, items, .. } => format!(
                    "{}{}{{{}}}",
                    name.text,
                    instance.as_ref().map(|i| format!(":{}", i.text)).unwrap_or_default(),
                    shape(items)
                ),
            })
            .collect::<Vec<_>>()
            .join(" ")
    }

    fn literal(value: &Literal) -> String {
        match value {
            Literal::Scalar(s) => s.text.to_string(),
            Literal::List(list, _) => format!("({})", list.iter().map(|s| &*s.text).collect::<Vec<_>>().join(",")),
            Literal::Dict(dict, _) => {
                format!(
                    "[{}]",
                    dict.iter().map(|(k, v)| format!("{}:{}", k.text, literal(v))).collect::<Vec<_>>().join(",")
                )
            }
        }
    }

    #[test]
    fn accepted_forms() {
        for (text, wanted) in [
            ("", ""),
            ("a=b", "a=b"),
            ("a =\n\n b c = d", "a=b c=d"),
            ("x { } y{}", "x{} y{}"),
            ("x = { a = b }", "x{a=b}"),
            ("x \"i\" = { a = b }", "x:i{a=b}"),
            ("l = ( a, b c, )", "l=(a,b,c)"),
            ("l ( a )", "l=(a)"),
            ("d [ k = v, k2 v2 l = ( a ) e [ x y ] ]", "d=[k:v,k2:v2,l:(a),e:[x:y]]"),
            ("include \"f\" readonly_include g INCLUDE = h", "include(false f) include(true g) include(false h)"),
            ("domain d { a = 1 include x }", "domain:d{a=1 include(false x)}"),
        ] {
            let (items, errors) = parse(FileId(0), text.as_bytes());
            assert_eq!(errors, [], "{text}");
            assert_eq!(shape(&items), wanted, "{text}");
        }
    }

    #[test]
    fn errors_name_the_place_and_reading_goes_on() {
        for (text, at, message, rest) in [
            ("a b\nc = d", 2, "a `=` is missing after `a`", "c=d"),
            ("a b = c", 0, "`a` has no value", "b=c"),
            ("t = 5 minutes\nc = d", 6, "`minutes` has no value", "t=5 c=d"),
            ("x {\n a = b", 2, "this `{` is never closed", "x{a=b}"),
            ("x { y { a = b", 6, "this `{` is never closed", "x{y{a=b}}"),
            ("} a = b", 0, "there is no open `{` for this `}`", "a=b"),
            ("\"a\" = b\nc = d", 0, "expected a name, found a string", "c=d"),
            ("a = }\nc = d", 4, "expected a value, found `}`", ""),
            ("l = ( a { b } \nc = d", 8, "a list holds words and strings, not `{`", "c=d"),
            ("l = ( a", 4, "this `(` is never closed", ""),
            ("d = [ a ]\nc = d", 6, "the key `a` has no value", "d=[] c=d"),
            ("domain [IPv6] {}\nc = d", 7, "a name with `[` must be quoted after `domain`", "c=d"),
        ] {
            let (items, errors) = parse(FileId(0), text.as_bytes());
            assert!(!errors.is_empty(), "{text}");
            assert_eq!(
                (errors[0].span.start, errors[0].message.split(',').next().unwrap()),
                (at, message.split(',').next().unwrap()),
                "{text}"
            );
            if !rest.is_empty() {
                assert_eq!(shape(&items), rest, "{text}");
            }
        }
    }

    #[test]
    fn deep_nesting_is_an_error_and_not_a_crash() {
        let (_, errors) = parse(FileId(0), "a {".repeat(100_000).as_bytes());
        assert_eq!(errors.len(), 1);
        let (_, errors) = parse(FileId(0), format!("d = {}", "[ k ".repeat(100_000)).as_bytes());
        assert_eq!(errors.len(), 1);
    }
}
