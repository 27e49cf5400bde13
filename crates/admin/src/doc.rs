//! What a command answers: text for people and greps, and the same as data for XML and JSON.
//!
//! Text lines are written by the command, since tools match them; whatever stands in a line, it stays one line and
//! controls are shown escaped, because addresses and replies come from strangers and a terminal obeys escape sequences.
//! Data is a small tree; XML names are those that Momentum's scripts read, JSON names those of its HTTP statistics.

use std::borrow::Cow;
use std::fmt::Write;

/// The form a client asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Form {
    #[default]
    Text,
    Xml,
    Json,
}

/// An answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Doc {
    root: &'static str,
    text: String,
    data: Data,
    json: Option<Data>,
}

/// A value of the data form. In XML a map is elements (a name that begins with `@` an attribute, the name `#` the text),
/// a list repeats its element.
#[derive(Clone, Debug, PartialEq)]
pub enum Data {
    Empty,
    Bool(bool),
    Number(i64),
    Decimal(f64),
    Text(String),
    Map(Vec<(Cow<'static, str>, Data)>),
    List { element: &'static str, items: Vec<Data> },
}

impl Doc {
    /// An answer without text yet, whose XML root is `root`.
    pub fn new(root: &'static str) -> Doc {
        Doc { root, text: String::new(), data: Data::Empty, json: None }
    }

    /// One sentence; in the data forms it is `Message`.
    pub fn say(text: impl AsRef<str>) -> Doc {
        let text = text.as_ref();
        Doc::new("Response").line(text).with(Data::map([("Message", text.into())]))
    }

    /// A block of text whose line ends are meant (a configuration, a file); in the data forms it is `Text`.
    pub fn block(text: &str) -> Doc {
        let mut doc = Doc::new("Response");
        for line in text.lines() {
            doc.push_line(line);
        }
        doc.with(Data::map([("Text", text.into())]))
    }

    /// Adds one line of text. Line ends and other controls within it are escaped; tabs stay.
    pub fn line(mut self, line: impl AsRef<str>) -> Doc {
        self.push_line(line.as_ref());
        self
    }

    /// Adds one line of text, in place.
    pub fn push_line(&mut self, line: &str) {
        self.text.push_str(&clean(line));
        self.text.push('\n');
    }

    /// The data of the XML and JSON forms.
    pub fn with(mut self, data: Data) -> Doc {
        self.data = data;
        self
    }

    /// Other data for JSON, where its names differ from those of XML.
    pub fn with_json(mut self, data: Data) -> Doc {
        self.json = Some(data);
        self
    }

    /// The text form, which ends with a line end unless it is empty.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The answer in a form, with its line end.
    pub fn render(&self, form: Form) -> String {
        match form {
            Form::Text => self.text.clone(),
            Form::Xml => {
                let mut out = String::new();
                xml_element(&mut out, self.root, &self.data, 0);
                out
            }
            Form::Json => {
                let mut out = self.json.as_ref().unwrap_or(&self.data).to_json().to_string();
                out.push('\n');
                out
            }
        }
    }
}

impl Data {
    /// A map from pairs.
    pub fn map<const N: usize>(pairs: [(&'static str, Data); N]) -> Data {
        Data::Map(pairs.into_iter().map(|(name, value)| (Cow::Borrowed(name), value)).collect())
    }

    /// A list whose XML element is `element`.
    pub fn list(element: &'static str, items: impl IntoIterator<Item = Data>) -> Data {
        Data::List { element, items: items.into_iter().collect() }
    }

    /// As JSON; the signs of attributes and text are dropped from the names.
    pub fn to_json(&self) -> serde_json::Value {
        use serde_json::Value;
        match self {
            Data::Empty => Value::Null,
            Data::Bool(value) => Value::Bool(*value),
            Data::Number(value) => Value::from(*value),
            Data::Decimal(value) => Value::from((value * 100.0).round() / 100.0),
            Data::Text(value) => Value::String(value.clone()),
            Data::Map(pairs) => Value::Object(
                pairs
                    .iter()
                    .map(|(name, value)| {
                        let name = match name.strip_prefix('@').unwrap_or(name) {
                            "#" => "value",
                            name => name,
                        };
                        (name.to_owned(), value.to_json())
                    })
                    .collect(),
            ),
            Data::List { items, .. } => Value::Array(items.iter().map(Data::to_json).collect()),
        }
    }

    fn scalar(&self) -> Option<String> {
        match self {
            Data::Empty => Some(String::new()),
            Data::Bool(value) => Some(u8::from(*value).to_string()),
            Data::Number(value) => Some(value.to_string()),
            Data::Decimal(value) => Some(format!("{value:.2}")),
            Data::Text(value) => Some(value.clone()),
            Data::Map(_) | Data::List { .. } => None,
        }
    }
}

macro_rules! data_from {
    ($($type:ty => $make:expr;)*) => {
        $(impl From<$type> for Data {
            fn from(value: $type) -> Data {
                let make: fn($type) -> Data = $make;
                make(value)
            }
        })*
    };
}

data_from! {
    bool => Data::Bool;
    i64 => Data::Number;
    i32 => |value| Data::Number(value.into());
    u16 => |value| Data::Number(value.into());
    u32 => |value| Data::Number(value.into());
    u64 => |value| Data::Number(i64::try_from(value).unwrap_or(i64::MAX));
    usize => |value| Data::Number(i64::try_from(value).unwrap_or(i64::MAX));
    f64 => Data::Decimal;
    String => Data::Text;
    &str => |value| Data::Text(value.to_owned());
}

/// The error form of an answer.
pub fn render_error(text: &str, form: Form) -> String {
    match form {
        Form::Text => format!("{}\n", text.lines().map(clean).collect::<Vec<_>>().join("\n")),
        Form::Xml => {
            let mut out = String::new();
            xml_element(&mut out, "Error", &text.into(), 0);
            out
        }
        Form::Json => format!("{}\n", serde_json::json!({ "Error": text })),
    }
}

/// A line that is safe to show: controls but the tab become `\n`, `\r`, `\xNN`.
pub fn clean(line: &str) -> Cow<'_, str> {
    let odd = |c: char| c.is_control() && c != '\t';
    if !line.contains(odd) {
        return Cow::Borrowed(line);
    }
    let mut out = String::with_capacity(line.len() + 8);
    for c in line.chars() {
        match c {
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            // Writing into a String cannot fail.
            c if odd(c) => drop(write!(out, "\\x{:02x}", u32::from(c))),
            c => out.push(c),
        }
    }
    Cow::Owned(out)
}

fn xml_element(out: &mut String, name: &str, data: &Data, depth: usize) {
    let indent = "  ".repeat(depth);
    let (attributes, children): (Vec<_>, Vec<_>) = match data {
        Data::Map(pairs) => pairs.iter().partition(|(name, _)| name.starts_with('@')),
        _ => (Vec::new(), Vec::new()),
    };
    let _ = write!(out, "{indent}<{name}");
    for (attribute, value) in attributes {
        let _ = write!(out, " {}=\"{}\"", &attribute[1..], xml_text(&value.scalar().unwrap_or_default()));
    }
    match data {
        Data::Map(_) if children.is_empty() => out.push_str("/>\n"),
        Data::Map(_) => match children[..] {
            [(hash, value)] if hash == "#" => {
                let _ = writeln!(out, ">{}</{name}>", xml_text(&value.scalar().unwrap_or_default()));
            }
            _ => {
                out.push_str(">\n");
                for (child, value) in children {
                    match value {
                        Data::List { element, items } if child == element => {
                            items.iter().for_each(|item| xml_element(out, element, item, depth + 1));
                        }
                        value => xml_element(out, child, value, depth + 1),
                    }
                }
                let _ = writeln!(out, "{indent}</{name}>");
            }
        },
        Data::List { element, items } => {
            out.push_str(">\n");
            items.iter().for_each(|item| xml_element(out, element, item, depth + 1));
            let _ = writeln!(out, "{indent}</{name}>");
        }
        scalar => {
            let _ = writeln!(out, ">{}</{name}>", xml_text(&scalar.scalar().unwrap_or_default()));
        }
    }
}

/// Text for XML 1.0, which has no place for most controls: they are shown escaped, as in the text form.
fn xml_text(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\n' | '\t' => out.push(c),
            c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => drop(write!(out, "\\x{:02x}", u32::from(c))),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_answer_in_three_forms() {
        let doc = Doc::new("Caches").line("name hit").line("a<b 50").with(Data::list(
            "Cache",
            [Data::map([
                ("@name", "a<b\"".into()),
                ("hit_rate", 50.0.into()),
                ("deletes", Data::map([("@type", "lru".into()), ("#", 3_u64.into())])),
            ])],
        ));
        assert_eq!(doc.render(Form::Text), "name hit\na<b 50\n");
        assert_eq!(
            doc.render(Form::Xml),
            "<Caches>\n  <Cache name=\"a&lt;b&quot;\">\n    <hit_rate>50.00</hit_rate>\n    \
             <deletes type=\"lru\">3</deletes>\n  </Cache>\n</Caches>\n"
        );
        let json: serde_json::Value = serde_json::from_str(&doc.render(Form::Json)).unwrap();
        assert_eq!(
            json,
            serde_json::json!([{"name": "a<b\"", "hit_rate": 50.0, "deletes": {"type": "lru", "value": 3}}])
        );
    }

    #[test]
    fn what_strangers_wrote_stays_one_line_without_controls() {
        let doc = Doc::say("a\r\nb\x1b[2J\u{9b}c\td");
        assert_eq!(doc.render(Form::Text), "a\\r\\nb\\x1b[2J\\x9bc\td\n");
        assert!(doc.render(Form::Xml).contains("a\\x0d\nb\\x1b[2J"), "{}", doc.render(Form::Xml));
        assert_eq!(render_error("bad\x07 <x>", Form::Text), "bad\\x07 <x>\n");
        assert_eq!(render_error("bad <x>", Form::Xml), "<Error>bad &lt;x&gt;</Error>\n");
        assert_eq!(render_error("a\"b", Form::Json), "{\"Error\":\"a\\\"b\"}\n");
    }

    #[test]
    fn an_empty_map_and_a_bool_have_their_form() {
        let doc = Doc::new("Response").with(Data::map([("DryRun", true.into()), ("None", Data::Empty)]));
        assert_eq!(doc.render(Form::Xml), "<Response>\n  <DryRun>1</DryRun>\n  <None></None>\n</Response>\n");
        assert_eq!(doc.render(Form::Json), "{\"DryRun\":true,\"None\":null}\n");
    }
}
