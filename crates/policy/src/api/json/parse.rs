//! Reads JSON texts, with the codes and offsets of faults that policies know from json-c.
//!
//! As lenient as that library: comments, strings in single quotes, literals in any case, a comma before a closing bracket; what
//! follows the first value is not looked at. Octets inside strings are kept whatever they are. The nesting is bounded.

use super::value::{Json, Members};
use super::{DEPTH_MAX, VALUES_MAX};
use std::sync::Arc;

pub(super) const SUCCESS: u8 = 0;
const DEPTH: u8 = 2;
const END: u8 = 3;
const UNEXPECTED: u8 = 4;
const NULL: u8 = 5;
const BOOLEAN: u8 = 6;
const NUMBER: u8 = 7;
const ARRAY: u8 = 8;
const KEY_NAME: u8 = 9;
const KEY_SEPARATOR: u8 = 10;
const VALUE_SEPARATOR: u8 = 11;
const STRING: u8 = 12;
const COMMENT: u8 = 13;

/// The text of a code.
pub(super) fn text(code: u8) -> &'static str {
    const TEXTS: [&str; 14] = [
        "success",
        "continue",
        "nesting to deep",
        "unexpected end of data",
        "unexpected character",
        "null expected",
        "boolean expected",
        "number expected",
        "array value separator ',' expected",
        "quoted object property name expected",
        "object property name separator ':' expected",
        "object value separator ',' expected",
        "invalid string sequence",
        "expected comment",
    ];
    TEXTS.get(usize::from(code)).copied().unwrap_or("unknown error")
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Fault {
    Syntax {
        code: u8,
        offset: usize,
    },
    /// More values than one text may have.
    TooMany,
}

/// The first value of the text.
pub(super) fn parse(text: &[u8]) -> Result<Json, Fault> {
    Parser { text, at: 0, values: 0 }.value(0)
}

struct Parser<'a> {
    text: &'a [u8],
    at: usize,
    values: usize,
}

impl Parser<'_> {
    fn fault<T>(&self, code: u8) -> Result<T, Fault> {
        Err(Fault::Syntax { code, offset: self.at })
    }

    /// The next octet that is neither blank nor comment; it is not taken.
    fn peek(&mut self) -> Result<u8, Fault> {
        loop {
            match self.text.get(self.at) {
                None => return self.fault(END),
                Some(b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c) => self.at += 1,
                Some(b'/') => self.comment()?,
                Some(byte) => return Ok(*byte),
            }
        }
    }

    fn comment(&mut self) -> Result<(), Fault> {
        self.at += 1;
        let (end, closed_by_end) = match self.text.get(self.at) {
            Some(b'*') => (&b"*/"[..], false),
            Some(b'/') => (&b"\n"[..], true),
            None => return self.fault(END),
            Some(_) => return self.fault(COMMENT),
        };
        let rest = &self.text[self.at + 1..];
        match memchr::memmem::find(rest, end) {
            Some(found) => self.at += 1 + found + end.len(),
            None => {
                self.at = self.text.len();
                if !closed_by_end {
                    return self.fault(END);
                }
            }
        }
        Ok(())
    }

    fn value(&mut self, depth: usize) -> Result<Json, Fault> {
        self.values += 1;
        if self.values > VALUES_MAX {
            return Err(Fault::TooMany);
        }
        match self.peek()? {
            b'{' | b'[' if depth >= DEPTH_MAX => self.fault(DEPTH),
            b'{' => self.object(depth),
            b'[' => self.array(depth),
            quote @ (b'"' | b'\'') => self.string(quote).map(Json::Text),
            b'n' | b'N' => self.literal(b"null", NULL, Json::Null),
            b't' | b'T' => self.literal(b"true", BOOLEAN, Json::Boolean(true)),
            b'f' | b'F' => self.literal(b"false", BOOLEAN, Json::Boolean(false)),
            b'0'..=b'9' | b'-' => self.number(),
            _ => self.fault(UNEXPECTED),
        }
    }

    fn literal(&mut self, word: &[u8], code: u8, value: Json) -> Result<Json, Fault> {
        for expected in word {
            match self.text.get(self.at) {
                None => return self.fault(END),
                Some(byte) if byte.eq_ignore_ascii_case(expected) => self.at += 1,
                Some(_) => return self.fault(code),
            }
        }
        Ok(value)
    }

    fn number(&mut self) -> Result<Json, Fault> {
        let rest = &self.text[self.at..];
        let is_part = |byte: &u8| byte.is_ascii_digit() || matches!(byte, b'+' | b'-' | b'.' | b'e' | b'E');
        let length = rest.iter().position(|byte| !is_part(byte)).unwrap_or(rest.len());
        let number = std::str::from_utf8(&rest[..length]).ok().and_then(|text| text.parse::<f64>().ok());
        match number.filter(|number| number.is_finite()) {
            Some(number) => {
                self.at += length;
                Ok(Json::Number(number))
            }
            None => self.fault(NUMBER),
        }
    }

    fn string(&mut self, quote: u8) -> Result<Arc<[u8]>, Fault> {
        self.at += 1;
        let mut out = Vec::new();
        loop {
            let rest = &self.text[self.at..];
            let Some(length) = memchr::memchr2(quote, b'\\', rest) else {
                self.at = self.text.len();
                return self.fault(END);
            };
            out.extend_from_slice(&rest[..length]);
            self.at += length + 1;
            if rest[length] == quote {
                return Ok(out.into());
            }
            let Some(escape) = self.text.get(self.at) else { return self.fault(END) };
            out.push(match escape {
                b'"' | b'\\' | b'/' | b'\'' => *escape,
                b'b' => 0x08,
                b'f' => 0x0c,
                b'n' => b'\n',
                b'r' => b'\r',
                b't' => b'\t',
                b'u' => {
                    self.at += 1;
                    let character = self.escaped_character()?;
                    out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
                    continue;
                }
                _ => return self.fault(STRING),
            });
            self.at += 1;
        }
    }

    /// After `\u`. Half of a surrogate pair becomes U+FFFD.
    fn escaped_character(&mut self) -> Result<char, Fault> {
        let first = self.four_digits()?;
        if (0xd800..0xdc00).contains(&first) && self.text[self.at..].starts_with(b"\\u") {
            let back = self.at;
            self.at += 2;
            let second = self.four_digits()?;
            if (0xdc00..0xe000).contains(&second) {
                let code = 0x10000 + ((first - 0xd800) << 10) + (second - 0xdc00);
                return Ok(char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER));
            }
            self.at = back;
        }
        Ok(char::from_u32(first).unwrap_or(char::REPLACEMENT_CHARACTER))
    }

    fn four_digits(&mut self) -> Result<u32, Fault> {
        let mut code = 0;
        for _ in 0..4 {
            let Some(byte) = self.text.get(self.at) else { return self.fault(END) };
            let Some(digit) = char::from(*byte).to_digit(16) else { return self.fault(STRING) };
            code = code << 4 | digit;
            self.at += 1;
        }
        Ok(code)
    }

    fn array(&mut self, depth: usize) -> Result<Json, Fault> {
        self.at += 1;
        let mut items = Vec::new();
        while self.peek()? != b']' {
            items.push(self.value(depth + 1)?);
            match self.peek()? {
                b',' => self.at += 1,
                b']' => {}
                _ => return self.fault(ARRAY),
            }
        }
        self.at += 1;
        Ok(Json::array(items))
    }

    fn object(&mut self, depth: usize) -> Result<Json, Fault> {
        self.at += 1;
        let mut members = Members::default();
        loop {
            let key = match self.peek()? {
                b'}' => break,
                quote @ (b'"' | b'\'') => self.string(quote)?,
                _ => return self.fault(KEY_NAME),
            };
            if self.peek()? != b':' {
                return self.fault(KEY_SEPARATOR);
            }
            self.at += 1;
            members.set(key, self.value(depth + 1)?);
            match self.peek()? {
                b',' => self.at += 1,
                b'}' => {}
                _ => return self.fault(VALUE_SEPARATOR),
            }
        }
        self.at += 1;
        Ok(Json::of_members(members))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn texts_are_read_and_written_in_one_form() {
        for (text, expected) in [
            (r#"{"foo": "bar"}"#, r#"{ "foo": "bar" }"#),
            ("[1,[],{},null , true,FALSE]", "[ 1, [ ], { }, null, true, false ]"),
            ("/* a */ [ 1, // b\n 2 ] trailing", "[ 1, 2 ]"),
            (r#"{'a':1,"b":2,"a":3,}"#, r#"{ "a": 3, "b": 2 }"#),
            (r#"["\u00e9\ud83d\ude00\ud83dx\/"]"#, "[ \"é😀\u{fffd}x\\/\" ]"),
            ("[-0, 1e2, 0.5, 9007199254740992]", "[ 0, 100, 0.500000, 9007199254740992 ]"),
            ("[\"a\tb\\u0001\"]", r#"[ "a\tb\u0001" ]"#),
        ] {
            let json = parse(text.as_bytes()).unwrap_or_else(|fault| panic!("{text}: {fault:?}"));
            assert_eq!(String::from_utf8(json.to_text().unwrap()).unwrap(), expected);
        }
        assert_eq!(parse(b"[\"\xff\"]").map(|json| json.to_text().unwrap()).ok(), Some(b"[ \"\xff\" ]".to_vec()));
    }

    #[test]
    fn faults_have_a_code_and_a_place() {
        for (text, code, offset) in [
            ("{ bad: \"json\" }", KEY_NAME, 2),
            ("", END, 0),
            ("  ", END, 2),
            ("[1", END, 2),
            ("\"abc", END, 4),
            ("nul", END, 3),
            ("nulx", NULL, 3),
            ("[trux]", BOOLEAN, 4),
            ("[1.2.3]", NUMBER, 1),
            ("-", NUMBER, 0),
            ("[1 2]", ARRAY, 3),
            ("{\"a\" 1}", KEY_SEPARATOR, 5),
            ("{\"a\":1 \"b\"}", VALUE_SEPARATOR, 7),
            ("\"\\x\"", STRING, 2),
            ("\"\\u00g0\"", STRING, 5),
            ("/x", COMMENT, 1),
            ("?", UNEXPECTED, 0),
            ("]", UNEXPECTED, 0),
        ] {
            assert_eq!(parse(text.as_bytes()).err(), Some(Fault::Syntax { code, offset }), "{text}");
        }
        assert!(parse("[".repeat(DEPTH_MAX).as_bytes()).is_err_and(|f| matches!(f, Fault::Syntax { code: END, .. })));
        let deep = parse("[".repeat(DEPTH_MAX + 1).as_bytes());
        assert_eq!(deep.err(), Some(Fault::Syntax { code: DEPTH, offset: DEPTH_MAX }));
    }

    proptest! {
        #[test]
        fn any_octets_are_read_or_refused(text in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse(&text);
        }

        #[test]
        fn what_is_written_is_read_the_same(text in r#"[\[\]{}:,0-9a" \\n'/*.-]{0,60}"#) {
            if let Ok(json) = parse(text.as_bytes())
                && !matches!(json, Json::Text(_))
            {
                let once = json.to_text().unwrap();
                let again = parse(&once).unwrap().to_text().unwrap();
                prop_assert_eq!(once, again);
            }
        }
    }
}
