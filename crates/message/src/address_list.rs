//! Address lists of header fields (RFC 5322 section 3.4, with the obsolete forms of section 4.4).
//!
//! One pass over tokens: atoms, quoted strings, comments, domain literals, specials. What cannot be read as a mailbox is
//! left out and the list goes on after the next comma, since policies want the good addresses of a bad field. The work is
//! linear in the input whatever it holds: nesting is counted, never recursed into.

use crate::encoded_word;
use std::borrow::Cow;
use std::ops::Range;

/// Mailboxes of one list; those beyond are left out.
pub const ADDRESSES_MAX: usize = 50_000;

/// One mailbox of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address<'a> {
    /// As it stands in the field, from display name to comments, without outer blanks.
    pub text: &'a str,
    /// Without quotes, encoded-words decoded; empty when there is none.
    pub display_name: String,
    /// With its quotes, if it has some.
    pub local: Cow<'a, str>,
    /// In the case of the field; a literal with its brackets.
    pub domain: Cow<'a, str>,
    /// The comments in order, without their brackets.
    pub comments: Vec<&'a str>,
    /// The name of the group that it stands in.
    pub group: Option<String>,
}

impl Address<'_> {
    /// `local@domain`.
    pub fn address(&self) -> String {
        format!("{}@{}", self.local, self.domain)
    }

    /// The local part up to its first `+`.
    pub fn user(&self) -> &str {
        self.local.split_once('+').map_or(&*self.local, |(user, _)| user)
    }

    /// The local part after its first `+`; empty when there is none.
    pub fn detail(&self) -> &str {
        self.local.split_once('+').map_or("", |(_, detail)| detail)
    }
}

/// All mailboxes of a list, groups flattened.
pub fn parse_address_list(text: &str) -> Vec<Address<'_>> {
    let mut list = Vec::new();
    let mut item = Item::default();
    let mut group: Option<String> = None;
    let mut in_angle = false;
    for token in Tokens::new(text) {
        match token.kind {
            Kind::Special(b',') if in_angle && item.in_route => item.push(token),
            Kind::Special(b',' | b';') => {
                list.extend(item.finish(text, &group));
                item = Item::default();
                in_angle = false;
                if token.kind == Kind::Special(b';') {
                    group = None;
                }
            }
            Kind::Special(b':') if !in_angle => {
                group = Some(item.phrase(text, item.tokens.len()));
                item = Item::default();
            }
            Kind::Special(b'<') if !in_angle && item.angle.is_none() => {
                item.angle = Some(item.tokens.len());
                in_angle = true;
                item.push(token);
            }
            Kind::Special(b'>') if in_angle => {
                item.angle_end = Some(item.tokens.len());
                in_angle = false;
                item.push(token);
            }
            _ => item.push(token),
        }
        if list.len() >= ADDRESSES_MAX {
            return list;
        }
    }
    list.extend(item.finish(text, &group));
    list
}

/// The tokens between two commas.
#[derive(Default)]
struct Item {
    tokens: Vec<Token>,
    angle: Option<usize>,
    angle_end: Option<usize>,
    /// Inside angle brackets, in the list of hosts before the address: its commas end no mailbox.
    in_route: bool,
}

impl Item {
    fn push(&mut self, token: Token) {
        if let (Some(angle), None) = (self.angle, self.angle_end) {
            match token.kind {
                Kind::Special(b'@') if self.tokens.len() == angle + 1 => self.in_route = true,
                Kind::Special(b':') => self.in_route = false,
                _ => {}
            }
        }
        self.tokens.push(token);
    }

    fn finish<'a>(&self, text: &'a str, group: &Option<String>) -> Option<Address<'a>> {
        let (first, last) = (self.tokens.first()?, self.tokens.last()?);
        let (spec, name_len) = match (self.angle, self.angle_end) {
            (Some(angle), end) => (&self.tokens[angle + 1..end.unwrap_or(self.tokens.len())], angle),
            (None, _) => (&self.tokens[..], 0),
        };
        let route_end = match self.angle {
            Some(_) => spec.iter().rposition(|token| token.kind == Kind::Special(b':')).map_or(0, |at| at + 1),
            None => 0,
        };
        let spec = &spec[route_end..];
        let at = spec.iter().position(|token| token.kind == Kind::Special(b'@'))?;
        let local = joined(text, &spec[..at], false)?;
        let domain = joined(text, &spec[at + 1..], true)?;
        let comments = self.tokens.iter().filter(|token| token.kind == Kind::Comment);
        Some(Address {
            text: &text[first.range.start..last.range.end],
            display_name: self.phrase(text, name_len),
            local,
            domain,
            comments: comments.map(|token| comment_text(&text[token.range.clone()])).collect(),
            group: group.clone(),
        })
    }

    /// The words of the first `count` tokens as a name.
    fn phrase(&self, text: &str, count: usize) -> String {
        let mut out = String::new();
        let mut end = None;
        for token in self.tokens[..count].iter().filter(|token| token.kind != Kind::Comment) {
            if end.is_some_and(|end| end < token.range.start) {
                out.push(' ');
            }
            end = Some(token.range.end);
            let word = &text[token.range.clone()];
            match token.kind {
                Kind::Quoted => unquote(word, &mut out),
                _ => out.push_str(word),
            }
        }
        match out.contains("=?") {
            true => encoded_word::decode(out.as_bytes()),
            false => out,
        }
    }
}

/// The text of a local part or domain without blanks and comments. `None`: empty, or words without a dot between them.
fn joined<'a>(text: &'a str, tokens: &[Token], domain: bool) -> Option<Cow<'a, str>> {
    let mut out: Option<Cow<'a, str>> = None;
    for token in tokens.iter().filter(|token| token.kind != Kind::Comment) {
        let word = &text[token.range.clone()];
        match token.kind {
            Kind::Atom => {}
            Kind::Quoted if !domain => {}
            Kind::Literal if domain => {}
            _ => return None,
        }
        out = Some(match out {
            None => Cow::Borrowed(word),
            Some(before) if before.ends_with('.') || word.starts_with('.') => Cow::Owned(before.into_owned() + word),
            Some(_) => return None,
        });
    }
    out.filter(|word| !matches!(&**word, "." | "\"\""))
}

/// A comment without its brackets; the closing one may be missing at the end of the field.
fn comment_text(comment: &str) -> &str {
    comment[1..].strip_suffix(')').unwrap_or(&comment[1..])
}

fn unquote(quoted: &str, out: &mut String) {
    let mut escaped = false;
    for character in quoted[1..quoted.len() - 1].chars() {
        escaped = !escaped && character == '\\';
        if !escaped {
            out.push(character);
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// A run of anything but blanks and specials; dots are part of it.
    Atom,
    Quoted,
    Comment,
    Literal,
    Special(u8),
}

#[derive(Clone, Debug)]
struct Token {
    kind: Kind,
    range: Range<usize>,
}

struct Tokens<'a> {
    bytes: &'a [u8],
    at: usize,
    /// A search for the end of a quoted string failed: there is none further on either, so do not search again.
    quotes_end_here: bool,
    literals_end_here: bool,
}

impl<'a> Tokens<'a> {
    fn new(text: &'a str) -> Tokens<'a> {
        Tokens { bytes: text.as_bytes(), at: 0, quotes_end_here: false, literals_end_here: false }
    }

    fn token(&mut self, kind: Kind, end: usize) -> Option<Token> {
        let range = self.at..end;
        self.at = end;
        Some(Token { kind, range })
    }

    /// The end of what `open` began at `self.at`, behind its closing octet; backslashes quote.
    fn closing(&self, close: u8) -> Option<usize> {
        let mut at = self.at + 1;
        while let Some(&byte) = self.bytes.get(at) {
            match byte {
                b'\\' => at += 2,
                _ if byte == close => return Some(at + 1),
                _ => at += 1,
            }
        }
        None
    }

    fn comment_end(&self) -> usize {
        let (mut at, mut depth) = (self.at, 0_usize);
        while let Some(&byte) = self.bytes.get(at) {
            match byte {
                b'\\' => at += 1,
                b'(' => depth += 1,
                b')' => depth -= 1,
                _ => {}
            }
            at += 1;
            if depth == 0 {
                return at;
            }
        }
        self.bytes.len()
    }
}

impl Iterator for Tokens<'_> {
    type Item = Token;

    fn next(&mut self) -> Option<Token> {
        loop {
            match *self.bytes.get(self.at)? {
                byte if byte.is_ascii_whitespace() || byte == 0 => self.at += 1,
                b'(' => {
                    let end = self.comment_end();
                    return self.token(Kind::Comment, end);
                }
                b'"' if !self.quotes_end_here => match self.closing(b'"') {
                    Some(end) => return self.token(Kind::Quoted, end),
                    None => self.quotes_end_here = true,
                },
                b'[' if !self.literals_end_here => match self.closing(b']') {
                    Some(end) => return self.token(Kind::Literal, end),
                    None => self.literals_end_here = true,
                },
                // Strays: without their partner they mean nothing.
                b'"' | b'[' | b']' | b')' | b'\\' => self.at += 1,
                byte @ (b',' | b';' | b':' | b'<' | b'>' | b'@') => {
                    return self.token(Kind::Special(byte), self.at + 1);
                }
                _ => {
                    let rest = &self.bytes[self.at..];
                    let len = rest.iter().position(|&byte| ends_atom(byte)).unwrap_or(rest.len());
                    return self.token(Kind::Atom, self.at + len);
                }
            }
        }
    }
}

fn ends_atom(byte: u8) -> bool {
    byte.is_ascii_whitespace() || byte == 0 || b"()\"[]\\,;:<>@".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn addresses(text: &str) -> Vec<String> {
        parse_address_list(text).iter().map(Address::address).collect()
    }

    #[test]
    fn lists_that_mail_has() {
        let cases: [(&str, &[&str]); 24] = [
            ("Bob (x) <b+d@E.org>, grp: a@b, \"q p\"@c;", &["b+d@E.org", "a@b", "\"q p\"@c"]),
            ("\"X, Y\" <a+b@c.d>, e@f", &["a+b@c.d", "e@f"]),
            ("", &[]),
            ("<>", &[]),
            ("undisclosed-recipients:;", &[]),
            ("A: x@y;, z@w", &["x@y", "z@w"]),
            ("a@b,, ,c@d", &["a@b", "c@d"]),
            ("<@one,@two:joe@three>, x@y", &["joe@three", "x@y"]),
            ("a . b @ c . d", &["a.b@c.d"]),
            ("a(comment)@(other)b", &["a@b"]),
            ("nobody, a@b", &["a@b"]),
            ("two words@x, a@b", &["a@b"]),
            ("a@b@c, d@e", &["d@e"]),
            ("a@[192.0.2.1], b@[IPv6:::1]", &["a@[192.0.2.1]", "b@[IPv6:::1]"]),
            ("John Q. Public <john@x.org>", &["john@x.org"]),
            ("\"unterminated <a@b>", &["a@b"]),
            ("<a@b", &["a@b"]),
            ("a@b>", &[]),
            ("x <a@b> <c@d>, e@f", &["a@b", "e@f"]),
            ("(only a comment)", &[]),
            ("\"a\\\"b\"@c", &["\"a\\\"b\"@c"]),
            ("δοκιμή@παράδειγμα.gr", &["δοκιμή@παράδειγμα.gr"]),
            ("a@b\r\n\t, c@d", &["a@b", "c@d"]),
            ("@x, a@, @", &[]),
        ];
        for (text, expected) in cases {
            assert_eq!(addresses(text), expected, "{text}");
        }
    }

    #[test]
    fn components_and_the_original_text() {
        let list = parse_address_list(
            "  \"Doe, \\\"J\\\"\" (one) <j.doe+tag@X.org> (two (deep)) , Team: =?utf-8?q?J=C3=BCrg?= M <j@m>;",
        );
        let first = &list[0];
        assert_eq!(first.text, "\"Doe, \\\"J\\\"\" (one) <j.doe+tag@X.org> (two (deep))");
        assert_eq!(first.display_name, "Doe, \"J\"");
        assert_eq!((first.user(), first.detail(), &*first.domain), ("j.doe", "tag", "X.org"));
        assert_eq!(first.comments, ["one", "two (deep)"]);
        assert_eq!(first.group, None);
        assert_eq!((list[1].display_name.as_str(), list[1].group.as_deref()), ("Jürg M", Some("Team")));
        assert_eq!(list[1].detail(), "");
    }

    #[test]
    fn hostile_input_takes_linear_time() {
        let begin = std::time::Instant::now();
        for piece in ["(", "(((", "\"\\", "[\\", "<", "a@b,", "a.", "a@", ":", "\\\"", "<@a,"] {
            let text = format!("\"{}", piece.repeat((1 << 20) / piece.len()));
            parse_address_list(&text);
            parse_address_list(&text[1..]);
        }
        // Quadratic work on one of them would take hours.
        assert!(begin.elapsed().as_secs() < 60);
        assert_eq!(parse_address_list(&"a@b,".repeat(ADDRESSES_MAX + 5)).len(), ADDRESSES_MAX);
    }

    proptest! {
        #[test]
        fn any_text_is_read(text in "[ -~é\r\n\t]{0,80}") {
            for address in parse_address_list(&text) {
                prop_assert!(text.contains(address.text));
                prop_assert!(!address.local.is_empty() && !address.domain.is_empty());
            }
        }

        #[test]
        fn a_plain_mailbox_is_found_between_any_others(before in "[a-z >@.]{0,30}(\"[a-z<,]*\")?[a-z >@.)]{0,9}", local in "[a-z]{1,8}") {
            let text = format!("{before}, {local}@example.org");
            let found = addresses(&text);
            prop_assert!(found.last().is_some_and(|a| a == &format!("{local}@example.org")), "{:?}", found);
        }
    }
}
