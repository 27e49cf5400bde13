//! The types of values: what the text of a setting means, and what is wrong with it.
//!
//! Values are made once, when a configuration is loaded; networks become ranges and patterns are compiled then, so that a
//! look-up only clones a small thing or a reference count. An error names the forms that are allowed.

mod words;

pub(crate) use words::unit_seconds;
pub use words::{boolean_word, seconds};

use crate::cidr::{self, CidrSet};
use crate::glob::{self, GlobSet};
use crate::options::{Kind, OptionDecl};
use crate::source::{FileId, Span};
use crate::syntax::{Literal, Scalar};
use std::fmt;
use std::sync::Arc;
use words::{enum_word, file_mode, int, octets, thousandths, throttle};

/// So many events in so many seconds; a count of 0 is no limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Throttle {
    pub count: u32,
    /// Window in seconds, at least 1.
    pub per_s: u32,
}

impl Throttle {
    /// No limit.
    pub const UNLIMITED: Throttle = Throttle { count: 0, per_s: 1 };
}

impl fmt::Display for Throttle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.per_s == 1 { write!(f, "{}", self.count) } else { write!(f, "{}/{}", self.count, self.per_s) }
    }
}

/// Pairs in the order of the file; a key that is set twice has the last value.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Dict {
    entries: Vec<(Arc<str>, DictValue)>,
}

/// What a dict may hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DictValue {
    Text(Arc<str>),
    List(Arc<[Arc<str>]>),
    Dict(Arc<Dict>),
}

impl Dict {
    /// The text under a key. Known keys of the engine's own dicts are in lower case.
    pub fn get(&self, key: &str) -> Option<&str> {
        match self.value(key) {
            Some(DictValue::Text(text)) => Some(text),
            _ => None,
        }
    }

    /// Whatever is under a key.
    pub fn value(&self, key: &str) -> Option<&DictValue> {
        self.entries.iter().find(|(k, _)| **k == *key).map(|(_, v)| v)
    }

    /// The pairs whose value is text.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.entries.iter().filter_map(|(k, v)| match v {
            DictValue::Text(text) => Some((&**k, &**text)),
            _ => None,
        })
    }

    /// All pairs.
    pub fn entries(&self) -> &[(Arc<str>, DictValue)] {
        &self.entries
    }

    /// The value under a key read as a boolean; `default` where it is missing or no boolean.
    pub fn flag(&self, key: &str, default: bool) -> bool {
        self.get(key).and_then(boolean_word).unwrap_or(default)
    }

    /// No pair at all.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The number of pairs.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    fn insert(&mut self, key: Arc<str>, value: DictValue) {
        match self.entries.iter_mut().find(|(k, _)| *k == key) {
            Some(entry) => entry.1 = value,
            None => self.entries.push((key, value)),
        }
    }
}

/// A compiled Perl-compatible pattern. Matching has a step limit, so that no subject can hold a thread.
#[derive(Clone, Debug)]
pub struct Pcre {
    regex: pcre2::bytes::Regex,
    text: Arc<str>,
}

/// Steps one match may take; a pattern that needs more does not match.
const MATCH_LIMIT: u32 = 1_000_000;

impl Pcre {
    /// Compiles a pattern; bytes, not characters, are what it matches.
    pub fn new(text: &str) -> Result<Pcre, String> {
        Pcre::compile(text, false)
    }

    /// As `new`, without regard to case.
    pub fn caseless(text: &str) -> Result<Pcre, String> {
        Pcre::compile(text, true)
    }

    fn compile(text: &str, caseless: bool) -> Result<Pcre, String> {
        let prefix = format!("(*LIMIT_MATCH={MATCH_LIMIT})");
        pcre2::bytes::RegexBuilder::new()
            .caseless(caseless)
            .jit_if_available(true)
            .build(&format!("{prefix}{text}"))
            .map(|regex| Pcre { regex, text: Arc::from(text) })
            .map_err(|error| {
                let offset = error.offset().map(|at| at.saturating_sub(prefix.len()).min(text.len()));
                let place = offset.map(|at| format!(" at character {}", at + 1)).unwrap_or_default();
                format!("`{text}` is not a valid pattern{place}: {}", error_text(&error))
            })
    }

    /// Whether the pattern matches anywhere in the subject.
    pub fn is_match(&self, subject: &[u8]) -> bool {
        self.regex.is_match(subject).unwrap_or(false)
    }

    /// The compiled form, for captures.
    pub fn regex(&self) -> &pcre2::bytes::Regex {
        &self.regex
    }

    /// The pattern as configured.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

fn error_text(error: &pcre2::Error) -> String {
    // "PCRE2: error compiling pattern at offset 24: missing closing parenthesis": the offset counts the prefix
    let text = error.to_string();
    text.rsplit_once(": ").map_or(text.clone(), |(_, reason)| reason.to_string())
}

impl PartialEq for Pcre {
    fn eq(&self, other: &Pcre) -> bool {
        self.text == other.text
    }
}

/// A list of patterns.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PcreList(Vec<Pcre>);

impl PcreList {
    /// Whether any of them matches anywhere in the subject.
    pub fn is_match(&self, subject: &[u8]) -> bool {
        self.0.iter().any(|pattern| pattern.is_match(subject))
    }

    /// The patterns in order.
    pub fn patterns(&self) -> &[Pcre] {
        &self.0
    }

    /// No pattern: nothing matches.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// A value, understood.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    Bool(bool),
    Int(i64),
    Mode(u32),
    /// An interval in seconds, milliseconds, or a size in octets.
    Amount(u64),
    /// An interval that was read to the millisecond, in milliseconds.
    Fine(u64),
    Throttle(Throttle),
    Text(Arc<str>),
    /// `none`: as if nothing were set in outer scopes either.
    Nothing,
    List(Arc<[Arc<str>]>),
    Dict(Arc<Dict>),
    Cidrs(Arc<CidrSet>),
    Domains(Arc<GlobSet>),
    Pattern(Arc<Pcre>),
    Patterns(Arc<PcreList>),
}

mod sealed {
    pub trait Sealed {}
}

/// A type that an option may have.
pub trait OptionValue: Clone + Send + Sync + sealed::Sealed + 'static {
    #[doc(hidden)]
    fn from_value(value: &Value) -> Option<Self>;
    /// What an option without default gives.
    #[doc(hidden)]
    fn absent() -> Self;
}

macro_rules! option_value {
    ($($ty:ty, $absent:expr, $($pattern:pat => $value:expr),+;)*) => {
        $(impl sealed::Sealed for $ty {}
        impl OptionValue for $ty {
            fn from_value(value: &Value) -> Option<$ty> {
                match value {
                    $($pattern => Some($value),)+
                    _ => None,
                }
            }

            fn absent() -> $ty {
                $absent
            }
        })*
    };
}

option_value! {
    bool, false, Value::Bool(v) => *v;
    i64, 0, Value::Int(v) => *v;
    u32, 0, Value::Mode(v) => *v;
    u64, 0, Value::Amount(v) => *v, Value::Fine(v) => *v;
    Throttle, Throttle::UNLIMITED, Value::Throttle(v) => *v;
    Arc<str>, Arc::from(""), Value::Text(v) => v.clone();
    Option<Arc<str>>, None, Value::Text(v) => Some(v.clone()), Value::Nothing => None;
    Arc<[Arc<str>]>, Arc::from(Vec::new()), Value::List(v) => v.clone();
    Arc<Dict>, Arc::default(), Value::Dict(v) => v.clone();
    Arc<CidrSet>, Arc::default(), Value::Cidrs(v) => v.clone();
    Arc<GlobSet>, Arc::default(), Value::Domains(v) => v.clone();
    Option<Arc<Pcre>>, None, Value::Pattern(v) => Some(v.clone()), Value::Nothing => None;
    Arc<PcreList>, Arc::default(), Value::Patterns(v) => v.clone();
}

/// Why a value is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ValueError {
    pub span: Span,
    pub message: String,
    pub help: Option<String>,
}

/// A value and what is doubtful about it.
#[derive(Debug)]
pub(crate) struct Understood {
    pub value: Value,
    pub warnings: Vec<(Span, String)>,
}

/// The meaning of a default, which has no file.
pub(crate) fn standard_value(decl: &OptionDecl, text: &str) -> Option<Value> {
    let quoted;
    let text = match decl.kind {
        Kind::Text => {
            quoted = Scalar { text: Arc::from(text), quoted: true, span: Span::new(FileId(0), 0, 0) };
            return understand(decl, &Literal::Scalar(quoted)).ok().map(|u| u.value);
        }
        _ => text,
    };
    let literal = crate::syntax::parse_value(FileId(0), text.as_bytes()).ok()?;
    understand(decl, &literal).ok().map(|u| u.value)
}

/// Reads the value of an option.
pub(crate) fn understand(decl: &OptionDecl, literal: &Literal) -> Result<Understood, ValueError> {
    let mut reader = Reader { decl, warnings: Vec::new() };
    let value = reader.value(literal)?;
    if let Some(check) = decl.check {
        check(&value).map_err(|message| reader.error(literal.span(), message))?;
    }
    Ok(Understood { value, warnings: reader.warnings })
}

struct Reader<'a> {
    decl: &'a OptionDecl,
    warnings: Vec<(Span, String)>,
}

impl Reader<'_> {
    fn error(&self, span: Span, message: impl Into<String>) -> ValueError {
        ValueError { span, message: format!("{}: {}", self.decl.name, message.into()), help: Some(self.allowed()) }
    }

    /// The forms that are allowed.
    fn allowed(&self) -> String {
        match self.decl.kind {
            Kind::Enum(words) => format!("allowed are `{}`", words.join("`, `")),
            Kind::NumberOr(words) => format!("allowed are a whole number and `{}`", words.join("`, `")),
            Kind::Int { min, max } => format!("allowed is a whole number from {min} to {max}"),
            kind => format!("allowed is {}", form(kind)),
        }
    }

    fn value(&mut self, literal: &Literal) -> Result<Value, ValueError> {
        match self.decl.kind {
            Kind::List => Ok(Value::List(self.elements(literal)?.iter().map(|s| s.text.clone()).collect())),
            Kind::Cidrs => self.cidrs(literal),
            Kind::Domains => self.domains(literal),
            Kind::Patterns => self.patterns(literal),
            Kind::Dict { keys } => self.dict(literal, keys).map(|dict| Value::Dict(Arc::new(dict))),
            Kind::Any => Ok(loose(literal)),
            _ => match literal {
                Literal::Scalar(scalar) => self.scalar(scalar),
                _ => Err(self.error(literal.span(), "one value is expected here, not a list")),
            },
        }
    }

    fn scalar(&self, scalar: &Scalar) -> Result<Value, ValueError> {
        let text = scalar.text.trim();
        let value = match self.decl.kind {
            Kind::Bool => boolean_word(text).map(Value::Bool),
            Kind::Int { min, max } => int(text).filter(|n| (min..=max).contains(n)).map(Value::Int),
            Kind::Mode => file_mode(text).map(Value::Mode),
            Kind::Interval => seconds(text).map(Value::Amount),
            Kind::FineInterval => thousandths(text).map(Value::Fine),
            Kind::Milliseconds => int(text).and_then(|n| u64::try_from(n).ok()).map(Value::Amount),
            Kind::Size => octets(text).map(Value::Amount),
            Kind::Throttle => throttle(text).map(Value::Throttle),
            Kind::Enum(words) => enum_word(text, words).map(|word| Value::Text(Arc::from(word))),
            Kind::NumberOr(words) => enum_word(text, words)
                .map(|word| Value::Text(Arc::from(word)))
                .or_else(|| int(text).filter(|n| *n >= 0).map(|n| Value::Text(n.to_string().into()))),
            Kind::TextOrNone if text.eq_ignore_ascii_case("none") => Some(Value::Nothing),
            Kind::Text | Kind::OptionalText | Kind::TextOrNone => Some(Value::Text(scalar.text.clone())),
            Kind::Pattern => {
                return Pcre::new(&scalar.text)
                    .map(|p| Value::Pattern(Arc::new(p)))
                    .map_err(|m| self.error(scalar.span, m));
            }
            Kind::List | Kind::Dict { .. } | Kind::Cidrs | Kind::Domains | Kind::Patterns | Kind::Any => None,
        };
        value.ok_or_else(|| self.error(scalar.span, format!("`{}` is not allowed here", scalar.text)))
    }

    /// The elements of a list; a lone scalar is taken for a list of one, with a warning.
    fn elements<'l>(&mut self, literal: &'l Literal) -> Result<&'l [Scalar], ValueError> {
        match literal {
            Literal::List(elements, _) => Ok(elements),
            Literal::Scalar(scalar) => {
                let message = format!("{}: a list is expected; write `( {} )`", self.decl.name, scalar.text);
                self.warnings.push((scalar.span, message));
                Ok(std::slice::from_ref(scalar))
            }
            Literal::Dict(_, span) => Err(self.error(*span, "a list is expected, not pairs in `[ ]`")),
        }
    }

    fn cidrs(&mut self, literal: &Literal) -> Result<Value, ValueError> {
        let mut nets = Vec::new();
        for element in self.elements(literal)? {
            let (net, cut) = cidr::parse(&element.text).map_err(|m| self.error(element.span, m))?;
            if cut {
                let message = format!("`{}` has bits below its mask; it is taken as `{net}`", element.text);
                self.warnings.push((element.span, message));
            }
            nets.push(net);
        }
        Ok(Value::Cidrs(Arc::new(CidrSet::new(nets))))
    }

    fn domains(&mut self, literal: &Literal) -> Result<Value, ValueError> {
        let mut patterns = Vec::new();
        for element in self.elements(literal)? {
            glob::check(&element.text).map_err(|m| self.error(element.span, m))?;
            if let Some(rest) = element.text.strip_prefix('*').filter(|r| !r.is_empty() && !r.starts_with('.')) {
                let message = format!("`*{rest}` also matches `bad{rest}`; for what lies below it write `*.{rest}`");
                self.warnings.push((element.span, message));
            }
            patterns.push(Arc::from(element.text.to_ascii_lowercase()));
        }
        Ok(Value::Domains(Arc::new(GlobSet::new(patterns))))
    }

    fn patterns(&mut self, literal: &Literal) -> Result<Value, ValueError> {
        let mut patterns = Vec::new();
        for element in self.elements(literal)? {
            patterns.push(Pcre::new(&element.text).map_err(|m| self.error(element.span, m))?);
        }
        Ok(Value::Patterns(Arc::new(PcreList(patterns))))
    }

    fn dict(&mut self, literal: &Literal, keys: &[&'static str]) -> Result<Dict, ValueError> {
        let Literal::Dict(entries, _) = literal else {
            return Err(self.error(literal.span(), "pairs in `[ ]` are expected"));
        };
        let mut dict = Dict::default();
        for (key, value) in entries {
            let known = keys.iter().find(|k| k.eq_ignore_ascii_case(&key.text));
            let name = match known {
                Some(known) => Arc::from(*known),
                None if keys.is_empty() => key.text.clone(),
                None => {
                    let help = crate::diagnostic::did_you_mean(&key.text, keys.iter().copied())
                        .unwrap_or_else(|| format!("known keys are `{}`", keys.join("`, `")));
                    let message = format!("{}: unknown key `{}`", self.decl.name, key.text);
                    return Err(ValueError { span: key.span, message, help: Some(help) });
                }
            };
            dict.insert(name, dict_value(value));
        }
        Ok(dict)
    }
}

fn dict_value(literal: &Literal) -> DictValue {
    match literal {
        Literal::Scalar(scalar) => DictValue::Text(scalar.text.clone()),
        Literal::List(list, _) => DictValue::List(list.iter().map(|s| s.text.clone()).collect()),
        Literal::Dict(entries, _) => {
            let mut dict = Dict::default();
            for (key, value) in entries {
                dict.insert(key.text.clone(), dict_value(value));
            }
            DictValue::Dict(Arc::new(dict))
        }
    }
}

/// A value whose type nobody knows here.
fn loose(literal: &Literal) -> Value {
    match dict_value(literal) {
        DictValue::Text(text) => Value::Text(text),
        DictValue::List(list) => Value::List(list),
        DictValue::Dict(dict) => Value::Dict(dict),
    }
}

/// What a value of this kind looks like, for messages and the reference page.
pub(crate) fn form(kind: Kind) -> String {
    match kind {
        Kind::Bool => "`true`/`false`, `on`/`off`, `enabled`/`disabled`, `yes`/`no`, `1`/`0`".into(),
        Kind::Int { min: 0, max } if max == i64::from(u32::MAX) => "a whole number from 0".into(),
        Kind::Int { min, max } => format!("a whole number from {min} to {max}"),
        Kind::Mode => "an octal file mode with a leading 0, such as `0640`".into(),
        Kind::Interval => {
            "a number of seconds, or a number with s, m, h, d or w, such as `90` or `\"15 minutes\"`".into()
        }
        Kind::FineInterval => {
            "a number of seconds, or a number with ms, s, m, h, d or w, such as `2`, `0.5` or `250ms`".into()
        }
        Kind::Milliseconds => "a number of milliseconds".into(),
        Kind::Size => "a number of octets, or a number with k, m or g, such as `25m`".into(),
        Kind::Throttle => "`N` (per second) or `N/S` (per S seconds); N = 0 is no limit".into(),
        Kind::Enum(words) => format!("one of `{}`", words.join("`, `")),
        Kind::NumberOr(words) => format!("a whole number or `{}`", words.join("`, `")),
        Kind::Text | Kind::OptionalText => "text".into(),
        Kind::TextOrNone => "text, or `none`".into(),
        Kind::List => "a list `( a b )`".into(),
        Kind::Dict { keys: [] } => "pairs `[ key = value ]`".into(),
        Kind::Dict { keys } => format!("pairs `[ … ]` with the keys `{}`", keys.join("`, `")),
        Kind::Cidrs => "a list of addresses and networks: `( 10.0.0.0/8 \"fd00::/8\" )`".into(),
        Kind::Domains => "a list of domains: `( a.example *.a.example )`".into(),
        Kind::Pattern => "a Perl-compatible pattern".into(),
        Kind::Patterns => "a list of Perl-compatible patterns".into(),
        Kind::Any => "any value".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_cannot_run_for_ever() {
        let pattern = Pcre::new("^(a+)+$").unwrap();
        assert!(!pattern.is_match(format!("{}b", "a".repeat(60)).as_bytes()));
        assert!(pattern.is_match(b"aaa"));
        assert_eq!(
            Pcre::new("ab(c").unwrap_err(),
            "`ab(c` is not a valid pattern at character 5: missing closing parenthesis"
        );
        assert!(Pcre::caseless("example$").unwrap().is_match(b"EXAMPLE"));
    }

    #[test]
    fn the_last_value_of_a_key_counts() {
        let literal = crate::syntax::parse_value(FileId(0), b"[ a = 1 b = 2 a = on l = ( x y ) d [ k v ] ]").unwrap();
        let DictValue::Dict(dict) = dict_value(&literal) else { panic!() };
        assert_eq!((dict.get("a"), dict.get("b"), dict.get("A"), dict.len()), (Some("on"), Some("2"), None, 4));
        assert!(dict.flag("a", false) && !dict.flag("b", false) && dict.flag("c", true));
        assert_eq!(dict.iter().count(), 2);
        assert!(matches!(dict.value("d"), Some(DictValue::Dict(inner)) if inner.get("k") == Some("v")));
    }
}
