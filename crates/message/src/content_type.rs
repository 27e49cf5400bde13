//! `Content-Type` and `Content-Disposition` values (RFC 2045 section 5, RFC 2183), with the parameters of RFC 2231.
//!
//! Reading is lenient: comments, missing quotes, stray semicolons and unknown parameters do no harm, and a type that is
//! none is `text/plain`, as RFC 2045 section 5.2 asks. Parameters that a sender split or encoded are given whole, in UTF-8.

use crate::{charset, encoded_word};
use std::borrow::Cow;

/// Parameters that are read of one value; more have no use.
const PARAMS_MAX: usize = 64;

/// A media type, or a disposition, with its parameters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContentType {
    /// In lower case: `text/plain`, or for a disposition `attachment`.
    pub value: String,
    /// Names in lower case, values unquoted, in the order of the field; each name once, the first counts.
    pub params: Vec<(String, String)>,
}

impl Default for ContentType {
    fn default() -> ContentType {
        ContentType { value: "text/plain".into(), params: Vec::new() }
    }
}

impl ContentType {
    /// Reads an unfolded or raw `Content-Type`.
    pub fn parse(value: &[u8]) -> ContentType {
        let (value, params) = value_and_params(value);
        let is_type = |value: &str| {
            let parts = value.split_once('/');
            parts.is_some_and(|(main, sub)| !main.is_empty() && !sub.is_empty() && !sub.contains('/'))
        };
        match is_type(&value) {
            true => ContentType { value, params },
            false => ContentType { params, ..ContentType::default() },
        }
    }

    /// Reads a `Content-Disposition`; a missing one is `inline`.
    pub fn parse_disposition(value: &[u8]) -> ContentType {
        let (value, params) = value_and_params(value);
        ContentType { value: if value.is_empty() { "inline".into() } else { value }, params }
    }

    /// `text` of `text/plain`.
    pub fn main(&self) -> &str {
        self.value.split('/').next().unwrap_or(&self.value)
    }

    pub fn is_text(&self) -> bool {
        self.main() == "text"
    }

    pub fn is_multipart(&self) -> bool {
        self.main() == "multipart"
    }

    /// `message/rfc822` and `message/global`: the body is a message.
    pub fn is_message(&self) -> bool {
        matches!(self.value.as_str(), "message/rfc822" | "message/global")
    }

    /// A parameter, by its lower-case name.
    pub fn param(&self, name: &str) -> Option<&str> {
        self.params.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }
}

/// A raw value with one parameter set to something else, and a new type where one is given. What the rest was stays to the
/// octet, folds and comments too.
pub fn rewritten(raw: &[u8], value: Option<&str>, param: &str, to: &str) -> Vec<u8> {
    let mut pieces = raw_pieces(raw).into_iter();
    let first = pieces.next().unwrap_or_default().trim_ascii();
    let mut out = value.map_or(first, str::as_bytes).to_vec();
    for piece in pieces.filter(|piece| !piece.trim_ascii().is_empty() && !is_param(piece, param)) {
        out.push(b';');
        out.extend_from_slice(piece);
    }
    out.truncate(out.trim_ascii_end().len());
    out.extend_from_slice(b"; ");
    out.extend_from_slice(param.as_bytes());
    out.push(b'=');
    let is_token =
        !to.is_empty() && to.bytes().all(|byte| byte.is_ascii_graphic() && !b"()<>@,;:\\\"/[]?=".contains(&byte));
    if is_token && param != "boundary" {
        out.extend_from_slice(to.as_bytes());
        return out;
    }
    out.push(b'"');
    for byte in to.bytes() {
        if matches!(byte, b'"' | b'\\') {
            out.push(b'\\');
        }
        out.push(byte);
    }
    out.push(b'"');
    out
}

/// The parameters of that name as they stand in a raw value, those that RFC 2231 splits or encodes too.
pub(crate) fn raw_params<'a>(raw: &'a [u8], param: &str) -> Vec<&'a [u8]> {
    raw_pieces(raw).into_iter().skip(1).filter(|piece| is_param(piece, param)).collect()
}

fn is_param(piece: &[u8], param: &str) -> bool {
    let name = piece.split(|&byte| byte == b'=').next().unwrap_or_default().trim_ascii();
    let name = name.split(|byte| matches!(byte, b' ' | b'\t' | b'(' | b'*')).next().unwrap_or_default();
    name.eq_ignore_ascii_case(param.as_bytes())
}

/// Splits at semicolons outside of quotes and comments.
fn raw_pieces(raw: &[u8]) -> Vec<&[u8]> {
    let (mut depth, mut quoted, mut escaped) = (0_usize, false, false);
    let mut ends = |byte: &u8| {
        let was_escaped = std::mem::take(&mut escaped);
        match byte {
            b'\\' if !was_escaped && (quoted || depth > 0) => escaped = true,
            b'"' if !was_escaped && depth == 0 => quoted = !quoted,
            b'(' if !was_escaped && !quoted => depth += 1,
            b')' if !was_escaped && !quoted => depth = depth.saturating_sub(1),
            b';' => return !quoted && depth == 0,
            _ => {}
        }
        false
    };
    raw.split(|byte| ends(byte)).collect()
}

fn value_and_params(raw: &[u8]) -> (String, Vec<(String, String)>) {
    let text = String::from_utf8_lossy(raw);
    let text = without_comments(&text);
    let mut pieces = Pieces { rest: &text };
    let value = pieces.next().unwrap_or("");
    // Where a sender forgot the semicolon, what follows the first blank is no part of the type.
    let value = value.split_ascii_whitespace().next().unwrap_or("");
    let raw_params = pieces.take(PARAMS_MAX).filter_map(|piece| {
        let (name, value) = piece.split_once('=')?;
        let name = name.trim().to_ascii_lowercase();
        (!name.is_empty()).then(|| (name, unquoted(value.trim())))
    });
    (value.to_ascii_lowercase(), joined_params(raw_params.collect()))
}

/// Splits at semicolons outside of quotes.
struct Pieces<'a> {
    rest: &'a str,
}

impl<'a> Iterator for Pieces<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        if self.rest.is_empty() {
            return None;
        }
        let (mut quoted, mut escaped) = (false, false);
        let end = self.rest.bytes().position(|byte| {
            let ends = byte == b';' && !quoted;
            match byte {
                _ if escaped => escaped = false,
                b'\\' => escaped = quoted,
                b'"' => quoted = !quoted,
                _ => {}
            }
            ends
        });
        let end = end.unwrap_or(self.rest.len());
        let piece = &self.rest[..end];
        self.rest = self.rest.get(end + 1..).unwrap_or("");
        Some(piece.trim())
    }
}

/// Takes out comments outside of quotes; line ends become blanks.
fn without_comments(text: &str) -> Cow<'_, str> {
    if !text.contains(['(', '\r', '\n']) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len());
    let (mut depth, mut quoted, mut escaped) = (0_usize, false, false);
    for character in text.chars() {
        let was_escaped = std::mem::take(&mut escaped);
        match character {
            '\\' if !was_escaped && (quoted || depth > 0) => escaped = true,
            '"' if !was_escaped && depth == 0 => quoted = !quoted,
            '(' if !was_escaped && !quoted => depth += 1,
            ')' if !was_escaped && !quoted && depth > 0 => {
                depth -= 1;
                continue;
            }
            _ => {}
        }
        match character {
            _ if depth > 0 => {}
            '\r' => {}
            '\n' => out.push(' '),
            _ => out.push(character),
        }
    }
    Cow::Owned(out)
}

/// A token up to its first blank, or the inside of a quoted string, whose end may be missing.
fn unquoted(value: &str) -> String {
    let Some(inner) = value.strip_prefix('"') else {
        return value.split_ascii_whitespace().next().unwrap_or("").to_owned();
    };
    let mut out = String::with_capacity(inner.len());
    let mut escaped = false;
    for character in inner.chars() {
        match character {
            '\\' if !escaped => {
                escaped = true;
                continue;
            }
            '"' if !escaped => break,
            // Windows programs write paths without escaping: a backslash before other characters is itself.
            _ if escaped && !matches!(character, '"' | '\\') => out.push('\\'),
            _ => {}
        }
        escaped = false;
        out.push(character);
    }
    out
}

/// Joins `name*0*`, `name*1` and decodes `name*` (RFC 2231). An encoded form counts before the plain one of that name.
fn joined_params(raw: Vec<(String, String)>) -> Vec<(String, String)> {
    let mut params: Vec<(String, String)> = Vec::new();
    let mut names: Vec<&str> = Vec::new();
    for (name, _) in &raw {
        let base = name.split('*').next().unwrap_or(name);
        if !base.is_empty() && !names.contains(&base) {
            names.push(base);
        }
    }
    for base in names {
        let section = |suffix: &str| {
            raw.iter().find(|(n, _)| n.strip_prefix(base) == Some(suffix)).map(|(_, value)| value.as_str())
        };
        let extended = section("*").map(|value| decode_extended(&[(value, true)]));
        let value = extended.or_else(|| {
            let sections: Vec<(&str, bool)> = (0..PARAMS_MAX)
                .map_while(|n| {
                    let encoded = section(&format!("*{n}*")).map(|value| (value, true));
                    encoded.or_else(|| section(&format!("*{n}")).map(|value| (value, false)))
                })
                .collect();
            (!sections.is_empty()).then(|| decode_extended(&sections))
        });
        let plain = || {
            section("").map(|value| match value.contains("=?") {
                true => encoded_word::decode(value.as_bytes()), // not allowed there, but common
                false => value.to_owned(),
            })
        };
        if let Some(value) = value.or_else(plain) {
            params.push((base.to_owned(), value));
        }
    }
    params
}

/// The value of sections, each percent-encoded or not; the first encoded one begins with `charset'language'`.
fn decode_extended(sections: &[(&str, bool)]) -> String {
    let mut charset = "utf-8";
    let mut bytes = Vec::new();
    for (at, &(section, encoded)) in sections.iter().enumerate() {
        let mut text = section;
        if at == 0 && encoded {
            let mut parts = section.splitn(3, '\'');
            if let (Some(name), Some(_), Some(rest)) = (parts.next(), parts.next(), parts.next()) {
                charset = name;
                text = rest;
            }
        }
        match encoded {
            true => percent_decode(text, &mut bytes),
            false => bytes.extend_from_slice(text.as_bytes()),
        }
    }
    charset::decode_or_utf8(charset, &bytes).into_owned()
}

fn percent_decode(text: &str, out: &mut Vec<u8>) {
    let mut rest = text.as_bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        match crate::transfer::code(tail) {
            Some(code) if byte == b'%' => {
                out.push(code);
                rest = &tail[2..];
            }
            _ => {
                out.push(byte);
                rest = tail;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn types_that_mail_has() {
        for (raw, value, params) in [
            ("text/plain", "text/plain", &[][..]),
            ("TEXT/Html; Charset=UTF-8; name=b.txt", "text/html", &[("charset", "UTF-8"), ("name", "b.txt")][..]),
            ("multipart/mixed;\r\n\tboundary=\"a;b\\\"c\"", "multipart/mixed", &[("boundary", "a;b\"c")]),
            ("text/plain (comment; x=y); charset (c) = us-ascii", "text/plain", &[("charset", "us-ascii")]),
            ("text/plain; charset=\"utf-8", "text/plain", &[("charset", "utf-8")]),
            ("text/plain;; charset=a;charset=b;", "text/plain", &[("charset", "a")]),
            ("image/png; name=\"C:\\dir\\a.png\"", "image/png", &[("name", "C:\\dir\\a.png")]),
            ("text", "text/plain", &[]),
            ("/", "text/plain", &[]),
            ("", "text/plain", &[]),
            ("a/b/c; x=1", "text/plain", &[("x", "1")]),
            ("text/html charset=utf-8", "text/html", &[]),
        ] {
            let parsed = ContentType::parse(raw.as_bytes());
            assert_eq!(parsed.value, value, "{raw}");
            let found: Vec<_> = parsed.params.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
            assert_eq!(found, params, "{raw}");
        }
    }

    #[test]
    fn split_and_encoded_parameters() {
        for (raw, filename) in [
            ("inline; filename*=utf-8''%C3%A9.txt", "é.txt"),
            ("attachment; filename*=iso-8859-1'fr'%E9.txt; filename=plain.txt", "é.txt"),
            ("attachment; filename*0=\"one \"; filename*1=two", "one two"),
            ("attachment; filename*0*=utf-8''%C3; filename*1*=%A9; filename*2=.txt", "é.txt"),
            ("attachment; filename*1=b; filename*0=a; filename*3=d", "ab"),
            ("attachment; filename=\"=?utf-8?q?=C3=A9?=.txt\"", "é.txt"),
            ("attachment; filename*=%41%zz", "A%zz"),
        ] {
            let parsed = ContentType::parse_disposition(raw.as_bytes());
            assert_eq!(parsed.param("filename"), Some(filename), "{raw}");
        }
        assert_eq!(ContentType::parse_disposition(b"").value, "inline");
    }

    #[test]
    fn one_parameter_is_rewritten_and_the_rest_stays() {
        for (raw, value, param, to, expected) in [
            ("text/plain", None, "charset", "utf-8", "text/plain; charset=utf-8"),
            (" text/plain; Charset=\"a;b\"; name=x", None, "charset", "utf-8", "text/plain; name=x; charset=utf-8"),
            ("text/html;\r\n\tcharset*0=a; charset*1=b;", Some("text/plain"), "charset", "b", "text/plain; charset=b"),
            (
                "multipart/mixed (a;b); boundary=\"x\"; type=\"t\"",
                None,
                "boundary",
                "a b",
                "multipart/mixed (a;b); type=\"t\"; boundary=\"a b\"",
            ),
            ("", Some("text/plain"), "charset", "a\"b", "text/plain; charset=\"a\\\"b\""),
        ] {
            let found = rewritten(raw.as_bytes(), value, param, to);
            assert_eq!(String::from_utf8_lossy(&found), expected, "{raw}");
            assert_eq!(ContentType::parse(&found).param(param), Some(to), "{raw}");
        }
    }

    proptest! {
        #[test]
        fn any_octets_are_read(bytes in proptest::collection::vec(
            prop_oneof![Just(b';'), Just(b'='), Just(b'"'), Just(b'\\'), Just(b'*'), Just(b'('), Just(b'/'), any::<u8>()], 0..100)) {
            let parsed = ContentType::parse(&bytes);
            prop_assert!(parsed.value.contains('/'));
            prop_assert!(parsed.params.len() <= PARAMS_MAX);
        }
    }
}
