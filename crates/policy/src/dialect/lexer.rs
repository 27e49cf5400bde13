//! Tokens of the dialect, with their places; what a token alone decides is rewritten here: escapes, octal numbers, `!=`.

use super::{Edits, SyntaxError};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Name,
    Keyword,
    Number,
    String,
    /// Operators and punctuation; the text tells which.
    Symbol,
    End,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Token {
    pub kind: Kind,
    pub start: usize,
    pub end: usize,
    pub line: usize,
    pub column: usize,
}

const KEYWORDS: &[&[u8]] = &[
    b"and",
    b"break",
    b"do",
    b"else",
    b"elseif",
    b"end",
    b"false",
    b"for",
    b"function",
    b"if",
    b"in",
    b"local",
    b"nil",
    b"not",
    b"or",
    b"repeat",
    b"return",
    b"then",
    b"true",
    b"until",
    b"while",
];

/// Symbols, the longest first.
const SYMBOLS: &[&[u8]] = &[
    b"...", b"..", b"==", b"~=", b"!=", b"<=", b">=", b"<<", b">>", b"^^", b"+", b"-", b"*", b"/", b"%", b"^", b"#",
    b"&", b"|", b"~", b"!", b"\\", b"<", b">", b"=", b"(", b")", b"{", b"}", b"[", b"]", b";", b":", b",", b".",
];

pub fn is_keyword(word: &[u8]) -> bool {
    KEYWORDS.contains(&word)
}

pub(super) struct Lexer<'a> {
    source: &'a [u8],
    at: usize,
    line: usize,
    line_start: usize,
}

impl<'a> Lexer<'a> {
    pub fn new(source: &'a [u8]) -> Lexer<'a> {
        Lexer { source, at: 0, line: 1, line_start: 0 }
    }

    /// The next token; blanks and comments before it are skipped.
    pub fn next(&mut self, edits: &mut Edits) -> Result<Token, SyntaxError> {
        self.skip_blanks()?;
        let (start, line, column) = (self.at, self.line, self.at - self.line_start + 1);
        let kind = match self.peek(0) {
            None => Kind::End,
            Some(b'a'..=b'z' | b'A'..=b'Z' | b'_') => {
                while self.peek(0).is_some_and(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
                    self.at += 1;
                }
                if is_keyword(&self.source[start..self.at]) { Kind::Keyword } else { Kind::Name }
            }
            Some(b'0'..=b'9') => self.number(edits)?,
            Some(b'.') if self.peek(1).is_some_and(|byte| byte.is_ascii_digit()) => self.number(edits)?,
            Some(quote @ (b'"' | b'\'')) => self.string(quote, edits)?,
            Some(b'[') if self.long_bracket().is_some() => {
                let level = self.long_bracket().unwrap_or_default();
                self.long(level, "unfinished long string", start)?;
                Kind::String
            }
            Some(byte) => match SYMBOLS.iter().find(|symbol| self.source[start..].starts_with(symbol)) {
                Some(symbol) => {
                    self.at += symbol.len();
                    if *symbol == b"!=" {
                        edits.replace(start, self.at, "~=");
                    }
                    Kind::Symbol
                }
                None => {
                    let shown = String::from_utf8_lossy(&[byte]).into_owned();
                    return Err(self.error(start, &format!("unexpected symbol near '{shown}'")));
                }
            },
        };
        Ok(Token { kind, start, end: self.at, line, column })
    }

    fn peek(&self, ahead: usize) -> Option<u8> {
        self.source.get(self.at + ahead).copied()
    }

    /// An error at a place of the present line (or, for what spans lines, at the present place).
    fn error(&self, at: usize, text: &str) -> SyntaxError {
        let column = if at >= self.line_start { at - self.line_start + 1 } else { 1 };
        SyntaxError { line: self.line, column, text: text.to_owned() }
    }

    fn near(&self, from: usize) -> String {
        String::from_utf8_lossy(&self.source[from..self.at.min(self.source.len())]).into_owned()
    }

    /// `\n`, `\r`, `\r\n` and `\n\r` are one line break each.
    fn line_break(&mut self) {
        let first = self.peek(0);
        self.at += 1;
        if matches!((first, self.peek(0)), (Some(b'\r'), Some(b'\n')) | (Some(b'\n'), Some(b'\r'))) {
            self.at += 1;
        }
        self.line += 1;
        self.line_start = self.at;
    }

    fn skip_blanks(&mut self) -> Result<(), SyntaxError> {
        loop {
            match self.peek(0) {
                Some(b'\n' | b'\r') => self.line_break(),
                Some(b' ' | b'\t' | 0x0b | 0x0c) => self.at += 1,
                Some(b'-') if self.peek(1) == Some(b'-') => {
                    let start = self.at;
                    self.at += 2;
                    if let Some(level) = self.long_bracket() {
                        self.long(level, "unfinished long comment", start)?;
                    } else {
                        while !matches!(self.peek(0), None | Some(b'\n' | b'\r')) {
                            self.at += 1;
                        }
                    }
                }
                _ => return Ok(()),
            }
        }
    }

    /// The level of a long bracket that opens here.
    fn long_bracket(&self) -> Option<usize> {
        let rest = self.source.get(self.at..)?.strip_prefix(b"[")?;
        let level = rest.iter().take_while(|byte| **byte == b'=').count();
        (rest.get(level) == Some(&b'[')).then_some(level)
    }

    fn long(&mut self, level: usize, unfinished: &str, start: usize) -> Result<(), SyntaxError> {
        let (line, column) = (self.line, start.saturating_sub(self.line_start) + 1);
        self.at += level + 2;
        loop {
            match self.peek(0) {
                None => {
                    let text = format!("{unfinished} near '<eof>'");
                    // The place is where it began: that is what one has to look at.
                    return Err(SyntaxError { line, column, text });
                }
                Some(b']') => {
                    let rest = &self.source[self.at + 1..];
                    let equals = rest.iter().take_while(|byte| **byte == b'=').count();
                    if equals == level && rest.get(level) == Some(&b']') {
                        self.at += level + 2;
                        return Ok(());
                    }
                    self.at += 1;
                }
                Some(b'\n' | b'\r') => self.line_break(),
                Some(_) => self.at += 1,
            }
        }
    }

    /// A number as Lua 5.1 reads one; a leading 0 before a digit makes it octal.
    fn number(&mut self, edits: &mut Edits) -> Result<Kind, SyntaxError> {
        let start = self.at;
        while self.peek(0).is_some_and(|byte| byte.is_ascii_digit() || byte == b'.') {
            self.at += 1;
        }
        if matches!(self.peek(0), Some(b'e' | b'E')) {
            self.at += 1;
            if matches!(self.peek(0), Some(b'+' | b'-')) {
                self.at += 1;
            }
        }
        while self.peek(0).is_some_and(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
            self.at += 1;
        }
        let text = &self.source[start..self.at];
        let good = match text {
            [b'0', b'x' | b'X', digits @ ..] => !digits.is_empty() && digits.iter().all(u8::is_ascii_hexdigit),
            [b'0', digits @ ..] if digits.iter().all(|byte| (b'0'..=b'7').contains(byte)) && !digits.is_empty() => {
                let value = digits.iter().fold(0.0, |sum, digit| sum * 8.0 + f64::from(digit - b'0'));
                edits.replace(start, self.at, format!("{value}"));
                true
            }
            [b'0', b'0'..=b'9' | b'e' | b'E', ..] => false,
            _ => is_decimal(text),
        };
        if good {
            Ok(Kind::Number)
        } else {
            Err(self.error(start, &format!("malformed number near '{}'", self.near(start))))
        }
    }

    fn string(&mut self, quote: u8, edits: &mut Edits) -> Result<Kind, SyntaxError> {
        let start = self.at;
        self.at += 1;
        loop {
            match self.peek(0) {
                None => return Err(self.error(start, "unfinished string near '<eof>'")),
                Some(b'\n' | b'\r') => {
                    return Err(self.error(start, &format!("unfinished string near '{}'", self.near(start))));
                }
                Some(b'\\') => self.escape(start, edits)?,
                Some(byte) => {
                    self.at += 1;
                    if byte == quote {
                        return Ok(Kind::String);
                    }
                }
            }
        }
    }

    /// What Lua has read of a string when it meets a bad escape.
    fn before(&self, start: usize, at: usize) -> String {
        String::from_utf8_lossy(&self.source[start..at]).into_owned()
    }

    /// One escape sequence; those that LuaJIT refuses or reads otherwise are rewritten.
    fn escape(&mut self, start: usize, edits: &mut Edits) -> Result<(), SyntaxError> {
        let at = self.at;
        self.at += 1;
        match self.peek(0) {
            None => return Ok(()), // The string is unfinished: its loop says so.
            Some(b'\n' | b'\r') => self.line_break(),
            Some(b'a' | b'b' | b'f' | b'n' | b'r' | b't' | b'v' | b'\\' | b'"' | b'\'') => self.at += 1,
            Some(b'x') => {
                self.at += 1;
                for _ in 0..2 {
                    if !self.peek(0).is_some_and(|byte| byte.is_ascii_hexdigit()) {
                        return Err(self.error(at, &format!("expected hex digit near '{}'", self.before(start, at))));
                    }
                    self.at += 1;
                }
            }
            Some(b'u') => {
                self.at += 1;
                let digits = self.source[self.at..].iter().take(8).take_while(|byte| byte.is_ascii_hexdigit()).count();
                let text = &self.source[self.at..self.at + digits];
                self.at += digits;
                let value = std::str::from_utf8(text).ok().and_then(|text| u32::from_str_radix(text, 16).ok());
                let value = match (digits, value) {
                    (4 | 6 | 8, Some(value)) if value <= 0x7fff_ffff => value,
                    (8, Some(_)) => {
                        return Err(
                            self.error(at, &format!("escape sequence too large near '{}'", self.before(start, at)))
                        );
                    }
                    _ => {
                        let text = "expected either 4, 6 or 8 hex digits for unicode escape";
                        return Err(self.error(at, &format!("{text} near '{}'", self.before(start, at))));
                    }
                };
                let bytes: Vec<String> = utf8(value).iter().map(|byte| format!("\\{byte:03}")).collect();
                edits.replace(at, self.at, bytes.concat());
            }
            Some(b'0'..=b'9') => {
                let digits = self.source[self.at..].iter().take(3).take_while(|byte| byte.is_ascii_digit()).count();
                let value = self.source[self.at..self.at + digits].iter().fold(0, |n, d| n * 10 + u32::from(d - b'0'));
                self.at += digits;
                if value > 255 {
                    return Err(self.error(at, &format!("escape sequence too large near '{}'", self.before(start, at))));
                }
            }
            Some(_) => {
                // Any other character stands for itself.
                edits.replace(at, at + 1, "");
                self.at += 1;
            }
        }
        Ok(())
    }
}

/// Digits with at most one dot, and an exponent with digits.
fn is_decimal(text: &[u8]) -> bool {
    let text = text.to_ascii_lowercase();
    let (mantissa, exponent) = match text.iter().position(|byte| *byte == b'e') {
        Some(at) => (&text[..at], Some(&text[at + 1..])),
        None => (&text[..], None),
    };
    let dots = mantissa.iter().filter(|byte| **byte == b'.').count();
    let digits = mantissa.iter().filter(|byte| byte.is_ascii_digit()).count();
    let exponent_good = exponent.is_none_or(|exponent| {
        let digits = exponent.strip_prefix(b"-").or_else(|| exponent.strip_prefix(b"+")).unwrap_or(exponent);
        !digits.is_empty() && digits.iter().all(u8::is_ascii_digit)
    });
    dots <= 1 && digits > 0 && dots + digits == mantissa.len() && exponent_good
}

/// UTF-8 as it was first defined: up to 31 bits in up to six octets, surrogates like any other.
fn utf8(value: u32) -> Vec<u8> {
    let continuation = |shift: u32| 0x80 | (value >> shift & 0x3f) as u8;
    let (lead, count) = match value {
        0..=0x7f => return vec![value as u8],
        0x80..=0x7ff => (0xc0, 1),
        0x800..=0xffff => (0xe0, 2),
        0x1_0000..=0x1f_ffff => (0xf0, 3),
        0x20_0000..=0x3ff_ffff => (0xf8, 4),
        _ => (0xfc, 5),
    };
    let mut bytes = vec![lead | (value >> (6 * count)) as u8];
    bytes.extend((0..count).rev().map(|at| continuation(6 * at)));
    bytes
}
