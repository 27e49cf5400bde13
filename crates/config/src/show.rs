//! Configuration as text and as JSON: what `config show` prints, loadable again.

use crate::lexer::is_word_byte;
use crate::options::{Kind, OptionDecl, Standard};
use crate::syntax::{Literal, Scalar};
use crate::tree::{NodeId, ROOT, Tree};
use crate::value::{self, DictValue, Value};
use std::fmt::Write as _;

/// How strings are written.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Style {
    /// As the operator typed them.
    Typed,
    /// Quoted unless they are a plain word, as saved files have them.
    Saved,
}

/// A value; lists and dicts take several lines, of which the later ones begin with `indent`.
pub(crate) fn literal(literal: &Literal, indent: &str, style: Style) -> String {
    match literal {
        Literal::Scalar(scalar) => self::scalar(scalar, style),
        Literal::List(elements, _) => {
            let mut text = String::from("(\n");
            for element in elements {
                let _ = writeln!(text, "{indent}  {}", self::scalar(element, style));
            }
            text + indent + ")"
        }
        Literal::Dict(entries, _) => {
            let mut text = String::from("[\n");
            for (key, value) in entries {
                let value = self::literal(value, &format!("{indent}  "), style);
                let _ = writeln!(text, "{indent}  {} = {value}", self::scalar(key, style));
            }
            text + indent + "]"
        }
    }
}

fn scalar(scalar: &Scalar, style: Style) -> String {
    let bare = match style {
        Style::Typed => !scalar.quoted && is_bare(&scalar.text),
        Style::Saved => is_plain(&scalar.text),
    };
    if bare { scalar.text.to_string() } else { quote(&scalar.text) }
}

/// Whether it reads as one word.
fn is_bare(text: &str) -> bool {
    !text.is_empty() && !text.starts_with("/*") && text.bytes().all(|b| is_word_byte(b) && !b.is_ascii_control())
}

/// `[A-Za-z0-9_.-]+`.
fn is_plain(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'))
}

/// In double quotes. A backslash is doubled only where it would otherwise take the meaning from what follows.
pub(crate) fn quote(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match (c, chars.peek()) {
            ('"', _) | ('\\', Some('"' | '\\') | None) => {
                out.push('\\');
                out.push(c);
            }
            _ => out.push(c),
        }
    }
    out.push('"');
    out
}

/// `Name = value`.
pub(crate) fn setting(decl: &OptionDecl, value: &Literal, indent: &str, style: Style) -> String {
    format!("{indent}{} = {}", decl.name, literal(value, indent, style))
}

/// `Name = value` where only the default holds; truth is printed as 0 and 1 then.
pub(crate) fn standard(decl: &OptionDecl, in_host: bool, hostname: &Value, indent: &str) -> String {
    let text = match (in_host, decl.host_default, decl.default) {
        (true, Some(text), _) | (_, _, Standard::Text(text)) => value::standard_value(decl, text),
        (_, _, Standard::Hostname) => Some(hostname.clone()),
        (_, _, Standard::Nothing) => None,
    };
    let value = match (&text, decl.kind) {
        (Some(Value::Bool(value)), _) => u8::from(*value).to_string(),
        (Some(Value::Text(word)), Kind::Enum(_)) if matches!(&**word, "true" | "false") => {
            u8::from(&**word == "true").to_string()
        }
        (Some(value), _) => plain(value),
        (None, _) => "\"\"".into(),
    };
    format!("{indent}{} = {value}", decl.name)
}

/// A value without its spelling.
fn plain(value: &Value) -> String {
    match value {
        Value::Bool(value) => value.to_string(),
        Value::Int(value) => value.to_string(),
        Value::Amount(value) => value.to_string(),
        Value::Fine(value) if value % 1000 == 0 => (value / 1000).to_string(),
        Value::Fine(value) => format!("{value}ms"),
        Value::Mode(value) => format!("{value:#05o}").replacen("0o", "0", 1),
        Value::Throttle(value) => value.to_string(),
        Value::Text(text) if is_plain(text) => text.to_string(),
        Value::Text(text) => quote(text),
        Value::Nothing => "none".into(),
        Value::List(list) => list_text(list.iter().map(|s| &**s)),
        Value::Dict(dict) => {
            let mut text = String::from("[\n");
            for (key, value) in dict.entries() {
                let value = match value {
                    DictValue::Text(text) => quote(text),
                    DictValue::List(list) => list_text(list.iter().map(|s| &**s)),
                    DictValue::Dict(dict) => plain(&Value::Dict(dict.clone())),
                };
                let _ = writeln!(text, "  {} = {value}", quote(key));
            }
            text + "]"
        }
        Value::Cidrs(set) => list_text(set.nets().iter().map(|net| net.to_string())),
        Value::Domains(set) => list_text(set.patterns().iter().map(|s| &**s)),
        Value::Pattern(pattern) => quote(pattern.as_str()),
        Value::Patterns(list) => list_text(list.patterns().iter().map(|p| p.as_str())),
    }
}

fn list_text(elements: impl Iterator<Item = impl AsRef<str>>) -> String {
    let mut text = String::from("(\n");
    for element in elements {
        let _ = writeln!(text, "  {}", quote(element.as_ref()));
    }
    text + ")"
}

/// `Listen ":25"`.
pub(crate) fn head(tree: &Tree, id: NodeId) -> String {
    let node = tree.node(id);
    if node.name.is_empty() {
        node.class.name.to_string()
    } else {
        format!("{} {}", node.class.name, quote(&node.name))
    }
}

/// What is in a scope: its stanzas, shortened or in full, then its settings.
pub(crate) fn contents(tree: &Tree, id: NodeId, recurse: bool) -> String {
    let mut text = String::new();
    write_contents(tree, id, recurse, "", &mut text);
    text
}

fn write_contents(tree: &Tree, id: NodeId, recurse: bool, indent: &str, text: &mut String) {
    for child in &tree.node(id).children {
        let head = head(tree, *child);
        if !recurse {
            let _ = writeln!(text, "{indent}{head} {{ ... }}");
            continue;
        }
        let _ = writeln!(text, "{indent}{head} {{");
        write_contents(tree, *child, recurse, &format!("{indent}  "), text);
        let _ = writeln!(text, "{indent}}}");
    }
    for setting in &tree.node(id).settings {
        let _ = writeln!(text, "{}", self::setting(setting.decl, &setting.literal, indent, Style::Typed));
    }
}

/// The whole as JSON: settings under `options`, stanzas under `scopes`.
pub(crate) fn json(tree: &Tree) -> serde_json::Value {
    node_json(tree, ROOT)
}

fn node_json(tree: &Tree, id: NodeId) -> serde_json::Value {
    let node = tree.node(id);
    let mut object = serde_json::Map::new();
    if id != ROOT {
        object.insert("scope".into(), node.class.name.into());
        if !node.name.is_empty() {
            object.insert("name".into(), (*node.name).into());
        }
    }
    let options = node.settings.iter().map(|s| (s.decl.name.to_string(), literal_json(&s.literal)));
    object.insert("options".into(), serde_json::Value::Object(options.collect()));
    let scopes: Vec<serde_json::Value> = node.children.iter().map(|child| node_json(tree, *child)).collect();
    if !scopes.is_empty() {
        object.insert("scopes".into(), scopes.into());
    }
    serde_json::Value::Object(object)
}

fn literal_json(literal: &Literal) -> serde_json::Value {
    match literal {
        Literal::Scalar(scalar) => (*scalar.text).into(),
        Literal::List(list, _) => list.iter().map(|s| serde_json::Value::from(&*s.text)).collect::<Vec<_>>().into(),
        Literal::Dict(entries, _) => {
            let pairs = entries.iter().map(|(key, value)| (key.text.to_string(), literal_json(value)));
            serde_json::Value::Object(pairs.collect())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lexer;
    use crate::source::FileId;

    #[test]
    fn a_quoted_text_reads_back_as_it_was() {
        for text in ["", "a", "^b-\\d+@", "\\", "\\\\", "\\\"", "a\"b", "\\n", "a\\", "\\\\\"\\d\\", "x\ny", "'"] {
            let quoted = quote(text);
            let (tokens, errors) = lexer::tokens(FileId(0), quoted.as_bytes());
            assert!(errors.is_empty(), "{text}: {quoted}");
            assert_eq!((tokens.len(), &*tokens[0].text), (2, text), "{quoted}");
        }
        assert_eq!(quote("^b-\\d+@"), r#""^b-\d+@""#);
    }

    #[test]
    fn words_are_saved_in_quotes_unless_they_are_plain() {
        for (text, wanted) in
            [("300", "300"), ("on", "on"), ("a.b-c_d", "a.b-c_d"), ("10.0.0.0/8", "\"10.0.0.0/8\""), ("", "\"\"")]
        {
            let bare = Scalar { text: text.into(), quoted: false, span: crate::source::Span::new(FileId(0), 0, 0) };
            assert_eq!(scalar(&bare, Style::Saved), wanted);
        }
    }
}
