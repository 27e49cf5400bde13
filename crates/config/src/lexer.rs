//! Bytes to tokens, each with its place (Momentum's reference, "Configuration file format").
//!
//! A comment begins only where a token may begin: `10.0.0.0/8` and `/opt/x/*` are words. A word ends at white space and at
//! any of `# " ' = { } [ ] ( ) ,`. Tokens hold text that is valid UTF-8 without NUL; anything else is an error here, so
//! that nothing behind this file meets binary data.

use crate::source::{FileId, Span};

/// What a token is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Word,
    Quoted,
    Equals,
    BraceOpen,
    BraceClose,
    BracketOpen,
    BracketClose,
    ParenOpen,
    ParenClose,
    Comma,
    End,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Token {
    pub kind: Kind,
    /// For words and quoted strings the text without quotes and escapes.
    pub text: String,
    pub span: Span,
    /// No other token stands before it on its line.
    pub first_on_line: bool,
}

/// A fault in the text itself, at the place where the thing began.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LexError {
    pub span: Span,
    pub message: &'static str,
    pub help: &'static str,
    /// The rest of the file is lost: what follows from that need not be reported.
    pub fatal: bool,
}

/// All tokens of a file, ending with `Kind::End`, and what was wrong.
pub(crate) fn tokens(file: FileId, text: &[u8]) -> (Vec<Token>, Vec<LexError>) {
    let mut lexer = Lexer { file, text, at: 0, new_line: true, tokens: Vec::new(), errors: Vec::new() };
    if text.starts_with(b"\xEF\xBB\xBF") {
        lexer.at = 3; // a byte order mark, as some editors write it
    }
    while lexer.step() {}
    let end = Span::new(file, lexer.at.min(text.len()), lexer.at.min(text.len()));
    lexer.tokens.push(Token { kind: Kind::End, text: String::new(), span: end, first_on_line: true });
    (lexer.tokens, lexer.errors)
}

/// Whether a byte may stand in a word.
pub(crate) fn is_word_byte(byte: u8) -> bool {
    !byte.is_ascii_whitespace() && byte != 0x0B && !b"#\"'={}[](),".contains(&byte)
}

struct Lexer<'a> {
    file: FileId,
    text: &'a [u8],
    at: usize,
    new_line: bool,
    tokens: Vec<Token>,
    errors: Vec<LexError>,
}

impl Lexer<'_> {
    /// Reads one token, comment or blank; false at the end.
    fn step(&mut self) -> bool {
        let Some(&byte) = self.text.get(self.at) else { return false };
        let start = self.at;
        match byte {
            b'\n' => {
                self.new_line = true;
                self.at += 1;
            }
            b' ' | b'\t' | b'\r' | 0x0B | 0x0C => self.at += 1,
            b'#' => self.skip_line(),
            b'/' if self.text.get(start + 1) == Some(&b'*') => return self.skip_block(),
            b'"' | b'\'' => return self.quoted(byte),
            b'=' => self.single(Kind::Equals),
            b'{' => self.single(Kind::BraceOpen),
            b'}' => self.single(Kind::BraceClose),
            b'[' => self.single(Kind::BracketOpen),
            b']' => self.single(Kind::BracketClose),
            b'(' => self.single(Kind::ParenOpen),
            b')' => self.single(Kind::ParenClose),
            b',' => self.single(Kind::Comma),
            _ => {
                while self.text.get(self.at).is_some_and(|b| is_word_byte(*b)) {
                    self.at += 1;
                }
                return self.push(Kind::Word, start, self.text[start..self.at].to_vec());
            }
        }
        true
    }

    fn single(&mut self, kind: Kind) {
        self.at += 1;
        self.push(kind, self.at - 1, Vec::new());
    }

    fn skip_line(&mut self) {
        while self.text.get(self.at).is_some_and(|b| *b != b'\n') {
            self.at += 1;
        }
    }

    fn skip_block(&mut self) -> bool {
        let start = self.at;
        let body = &self.text[start + 2..];
        match body.windows(2).position(|pair| pair == b"*/") {
            Some(length) => {
                self.new_line |= body[..length].contains(&b'\n');
                self.at = start + 2 + length + 2;
                true
            }
            None => self.fatal(start, 2, "this comment is never closed", "end it with `*/`"),
        }
    }

    /// In `"…"` a backslash takes the meaning from a quote or a backslash and is itself before anything else; in `'…'`
    /// nothing is special.
    fn quoted(&mut self, quote: u8) -> bool {
        let start = self.at;
        let mut text = Vec::new();
        let mut at = start + 1;
        while let Some(&byte) = self.text.get(at) {
            match byte {
                b'\\' if quote == b'"' => match self.text.get(at + 1) {
                    Some(&next @ (b'"' | b'\\')) => {
                        text.push(next);
                        at += 2;
                    }
                    _ => {
                        text.push(byte);
                        at += 1;
                    }
                },
                _ if byte == quote => {
                    self.at = at + 1;
                    return self.push(Kind::Quoted, start, text);
                }
                _ => {
                    text.push(byte);
                    at += 1;
                }
            }
        }
        let message = if quote == b'"' { "this `\"` is never closed" } else { "this `'` is never closed" };
        self.fatal(start, 1, message, "close the string with the same sign; inside `\"…\"` a quote is written `\\\"`")
    }

    fn push(&mut self, kind: Kind, start: usize, text: Vec<u8>) -> bool {
        let span = Span::new(self.file, start, self.at);
        if text.iter().any(|b| *b == 0 || (kind == Kind::Word && b.is_ascii_control())) {
            return self.fatal(start, self.at - start, "this is not text", "is it a binary file?");
        }
        let text = match String::from_utf8(text) {
            Ok(text) => text,
            Err(bad) => {
                self.errors.push(LexError {
                    span,
                    message: "this is not valid UTF-8",
                    help: "save the file as UTF-8",
                    fatal: false,
                });
                String::from_utf8_lossy(bad.as_bytes()).into_owned()
            }
        };
        self.tokens.push(Token { kind, text, span, first_on_line: self.new_line });
        self.new_line = false;
        true
    }

    fn fatal(&mut self, start: usize, length: usize, message: &'static str, help: &'static str) -> bool {
        self.errors.push(LexError { span: Span::new(self.file, start, start + length), message, help, fatal: true });
        self.at = self.text.len();
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        let (tokens, errors) = tokens(FileId(0), text.as_bytes());
        assert!(errors.is_empty(), "{text}: {errors:?}");
        tokens.iter().filter(|t| t.kind != Kind::End).map(|t| format!("{:?}:{}", t.kind, t.text)).collect()
    }

    #[test]
    fn words_and_strings() {
        for (text, wanted) in [
            ("10.0.0.0/8", vec!["Word:10.0.0.0/8"]),
            ("/opt/x/*", vec!["Word:/opt/x/*"]),
            ("a/*b*/c", vec!["Word:a/*b*/c"]),
            ("/*b*/c", vec!["Word:c"]),
            ("a#b", vec!["Word:a"]),
            (r#""^b-\d+@""#, vec![r"Quoted:^b-\d+@"]),
            (r#""a\\.b""#, vec![r"Quoted:a\.b"]),
            (r#""say \"x\"""#, vec![r#"Quoted:say "x""#]),
            (r#"'x"y\z'"#, vec![r#"Quoted:x"y\z"#]),
            ("\"two\nlines\"", vec!["Quoted:two\nlines"]),
            ("*.x|y%{a", vec!["Word:*.x|y%", "BraceOpen:", "Word:a"]),
            ("a\r\nb", vec!["Word:a", "Word:b"]),
            ("\u{feff}a", vec!["Word:a"]),
            ("a=b,c", vec!["Word:a", "Equals:", "Word:b", "Comma:", "Word:c"]),
        ] {
            assert_eq!(words(text), wanted, "{text}");
        }
    }

    #[test]
    fn what_is_never_closed_is_reported_where_it_began() {
        for (text, start) in [("a \"b\nc", 2), ("a 'b", 2), ("x /* y", 2), ("\"a\\\"", 0)] {
            let (_, errors) = tokens(FileId(0), text.as_bytes());
            assert_eq!(errors.len(), 1, "{text}");
            assert_eq!(errors[0].span.start, start, "{text}");
            assert!(errors[0].fatal);
        }
    }

    #[test]
    fn binary_data_stops_the_reading() {
        let (_, errors) = tokens(FileId(0), b"\x7fELF\x02\x01\0\0 a \0");
        assert_eq!(errors.len(), 1);
        let (_, errors) = tokens(FileId(0), b"a = \"\xff\"");
        assert_eq!(errors[0].message, "this is not valid UTF-8");
        let (_, errors) = tokens(FileId(0), b"a = b # caf\xe9");
        assert!(errors.is_empty(), "comments may hold anything");
    }
}
