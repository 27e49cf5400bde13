//! Encoded-words: text beyond ASCII in header fields (RFC 2047, and RFC 2231 section 5 for the language tag).
//!
//! Reading is lenient as mail programs are: a word counts wherever it stands, blanks between two words vanish, octets of
//! adjacent words in one charset are joined before they are decoded (a character may be cut in two). A word that does not
//! decode stays as it is. Writing is strict: only octets that are legal in a phrase, words of at most 75 octets.

use crate::charset;
use crate::header::is_blank;
use crate::transfer::{base64_decode, code, push_code};
use data_encoding::BASE64;
use memchr::memmem;
use std::borrow::Cow;

/// The longest encoded-word (RFC 2047 section 2).
const WORD_LEN_MAX: usize = 75;

/// Decodes an unfolded value; octets that are no UTF-8 become U+FFFD.
pub fn decode(value: &[u8]) -> String {
    match decode_bytes(value) {
        Cow::Borrowed(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        Cow::Owned(bytes) => {
            String::from_utf8(bytes).unwrap_or_else(|e| String::from_utf8_lossy(e.as_bytes()).into_owned())
        }
    }
}

/// Decodes the encoded-words of an unfolded value to UTF-8 and leaves all other octets as they are.
pub fn decode_bytes(value: &[u8]) -> Cow<'_, [u8]> {
    if memmem::find(value, b"=?").is_none() {
        return Cow::Borrowed(value);
    }
    let mut out = Vec::with_capacity(value.len());
    let mut run = Run::default();
    let mut rest = value;
    while let Some(at) = memmem::find(rest, b"=?") {
        let (before, from_word) = rest.split_at(at);
        match Word::parse(from_word) {
            Some(word) => {
                if run.is_empty() || !before.iter().all(|&byte| is_blank(byte)) {
                    run.flush(&mut out);
                    out.extend_from_slice(before);
                }
                if !run.charset.eq_ignore_ascii_case(word.charset) {
                    run.flush(&mut out);
                }
                run.charset = word.charset;
                run.bytes.extend_from_slice(&word.bytes);
                rest = &from_word[word.len..];
            }
            None => {
                run.flush(&mut out);
                out.extend_from_slice(before);
                out.extend_from_slice(b"=?");
                rest = &from_word[2..];
            }
        }
    }
    run.flush(&mut out);
    out.extend_from_slice(rest);
    Cow::Owned(out)
}

/// Octets of adjacent words in one charset.
#[derive(Default)]
struct Run<'a> {
    charset: &'a str,
    bytes: Vec<u8>,
}

impl Run<'_> {
    fn is_empty(&self) -> bool {
        self.charset.is_empty()
    }

    fn flush(&mut self, out: &mut Vec<u8>) {
        if let Some(text) = charset::decode(self.charset, &self.bytes) {
            // A word must not put line ends or NULs into a value that is one line.
            out.extend(text.bytes().map(|byte| if matches!(byte, b'\r' | b'\n' | 0) { b' ' } else { byte }));
        }
        self.charset = "";
        self.bytes.clear();
    }
}

/// One encoded-word at the start of a text.
struct Word<'a> {
    charset: &'a str,
    bytes: Vec<u8>,
    len: usize,
}

impl<'a> Word<'a> {
    fn parse(text: &'a [u8]) -> Option<Word<'a>> {
        let inner = text.strip_prefix(b"=?")?;
        let charset_len = inner.iter().take(80).position(|&byte| byte == b'?')?;
        let charset = std::str::from_utf8(&inner[..charset_len]).ok()?;
        let charset = charset.split('*').next().unwrap_or(charset);
        let encoding = *inner.get(charset_len + 1)?;
        let payload = inner.get(charset_len + 3..).filter(|_| inner[charset_len + 2] == b'?')?;
        let payload_len = memchr::memchr2(b'?', b' ', payload).filter(|&at| payload[at..].starts_with(b"?="))?;
        let payload = &payload[..payload_len];
        if charset.is_empty() || !charset::is_known(charset) {
            return None;
        }
        let bytes = match encoding {
            b'b' | b'B' if payload.iter().all(|&byte| byte.is_ascii_alphanumeric() || b"+/=".contains(&byte)) => {
                base64_decode(payload)
            }
            b'q' | b'Q' => q_decode(payload)?,
            _ => return None,
        };
        Some(Word { charset, bytes, len: 2 + charset_len + 3 + payload_len + 2 })
    }
}

fn q_decode(payload: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(payload.len());
    let mut rest = payload;
    while let Some((&byte, tail)) = rest.split_first() {
        rest = tail;
        match byte {
            b'_' => out.push(b' '),
            b'=' => {
                out.push(code(tail)?);
                rest = &tail[2..];
            }
            _ => out.push(byte),
        }
    }
    Some(out)
}

/// Encodes a text for a header value. ASCII text (without a sequence that would read as a word) stays as it is; else the
/// stretch from the first to the last word beyond ASCII is encoded, as UTF-8, Q unless B is much shorter.
///
/// `used` is how much of the first line is taken: the field's name, colon and blank.
pub fn encode(text: &str, used: usize) -> Cow<'_, str> {
    let needs =
        |word: &str| !word.is_ascii() || word.contains("=?") || word.bytes().any(|byte| byte < b' ' || byte == 127);
    if !needs(text) {
        return Cow::Borrowed(text);
    }
    // The needy stretch, widened to whole words, so that no encoded-word touches other text.
    let mut starts = text.split(' ').scan(0, |at, word| {
        let start = *at;
        *at += word.len() + 1;
        Some((start, word))
    });
    let first = starts.clone().find(|(_, word)| needs(word)).map_or(0, |(start, _)| start);
    let last =
        starts.by_ref().filter(|(_, word)| needs(word)).last().map_or(text.len(), |(start, word)| start + word.len());
    let mut out = String::with_capacity(text.len() * 3);
    out.push_str(&text[..first]);
    let on_first_line = used + first;
    encode_words(&mut out, &text[first..last], WORD_LEN_MAX.saturating_sub(on_first_line).max(WORD_LEN_MAX / 2));
    out.push_str(&text[last..]);
    Cow::Owned(out)
}

fn encode_words(out: &mut String, text: &str, first_len_max: usize) {
    const FRAME: usize = "=?utf-8?Q?".len() + "?=".len();
    let q_len: usize = text.bytes().map(q_width).sum();
    let use_q = q_len * 2 <= text.len().div_ceil(3) * 4 * 3; // readable even where it is a little longer
    let mut room = first_len_max - FRAME;
    let mut rest = text;
    let mut first = true;
    while !rest.is_empty() {
        let mut width = 0;
        let mut end = 0;
        for (at, character) in rest.char_indices() {
            let next = at + character.len_utf8();
            width = match use_q {
                true => width + rest[at..next].bytes().map(q_width).sum::<usize>(),
                false => next.div_ceil(3) * 4,
            };
            if width > room && end > 0 {
                break;
            }
            end = next;
        }
        if !first {
            out.push(' ');
        }
        first = false;
        let bytes = &rest.as_bytes()[..end];
        if use_q {
            let mut word = Vec::with_capacity(WORD_LEN_MAX);
            for &byte in bytes {
                match byte {
                    b' ' => word.push(b'_'),
                    _ if q_width(byte) == 1 => word.push(byte),
                    _ => push_code(&mut word, byte),
                }
            }
            out.push_str("=?utf-8?Q?");
            out.extend(word.into_iter().map(char::from)); // ASCII only
        } else {
            out.push_str("=?utf-8?B?");
            out.push_str(&BASE64.encode(bytes));
        }
        out.push_str("?=");
        rest = &rest[end..];
        room = WORD_LEN_MAX - FRAME;
    }
}

/// Columns of an octet in Q: the characters that RFC 2047 section 5 (3) allows in a phrase take one.
fn q_width(byte: u8) -> usize {
    if byte.is_ascii_alphanumeric() || b" !*+-/".contains(&byte) { 1 } else { 3 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn words_that_mail_has() {
        for (raw, text) in [
            ("plain", "plain"),
            ("=?UTF-8?Q?caf=C3=A9_x?=", "café x"),
            ("=?iso-8859-1?q?=E9?= and =?iso-8859-1*fr?Q?=E8?=", "é and è"),
            ("=?utf-8?B?Y2Fmw6k=?=", "café"),
            ("=?utf-8?B?Y2Fmw6k?=", "café"),
            ("=?utf-8?q?a?= =?utf-8?q?b?=", "ab"),
            ("=?utf-8?q?a?=  \t =?iso-8859-1?q?=E9?= c", "aé c"),
            ("a =?utf-8?q?b?= c", "a b c"),
            ("=?utf-8?q?=C3?= =?utf-8?q?=A9?=", "é"),
            ("\"=?utf-8?q?x?=\" <a@b>", "\"x\" <a@b>"),
            ("=?nope?q?x?= y", "=?nope?q?x?= y"),
            ("=?utf-8?x?x?= y", "=?utf-8?x?x?= y"),
            ("=?utf-8?q?=zz?=", "=?utf-8?q?=zz?="),
            ("=?utf-8?q?a b?=", "=?utf-8?q?a b?="),
            ("=?", "=?"),
            ("=?utf-8?q?x", "=?utf-8?q?x"),
            ("=?utf-8?q?a=0D=0ABcc:_x?=", "a  Bcc: x"),
            ("=?utf-8?q??= =?utf-8?q?x?=", "x"),
            ("é raw", "é raw"),
        ] {
            assert_eq!(decode(raw.as_bytes()), text, "{raw}");
        }
        assert_eq!(decode(b"raw \xe9"), "raw \u{fffd}");
        assert_eq!(decode_bytes(b"raw \xe9 =?utf-8?q?x?="), &b"raw \xe9 x"[..]);
    }

    #[test]
    fn ascii_stays_and_the_rest_is_words() {
        for (text, encoded) in [
            ("plain text", "plain text"),
            ("café", "=?utf-8?Q?caf=C3=A9?="),
            ("a café b", "a =?utf-8?Q?caf=C3=A9?= b"),
            ("é b è c", "=?utf-8?Q?=C3=A9_b_=C3=A8?= c"),
            ("日本", "=?utf-8?B?5pel5pys?="),
            ("=?x", "=?utf-8?B?PT94?="),
        ] {
            assert_eq!(encode(text, 9), encoded, "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_encoded_decodes_to_the_same(text in "[ -~é日\u{10000}]{0,200}", used in 0..100_usize) {
            let encoded = encode(&text, used);
            prop_assert!(encoded.is_ascii() || encoded == text.as_str());
            prop_assert!(encoded.split(' ').all(|word| !word.starts_with("=?utf-8") || word.len() <= WORD_LEN_MAX));
            prop_assert_eq!(decode(encoded.as_bytes()), text);
        }

        #[test]
        fn any_octets_are_decoded(bytes in proptest::collection::vec(
            prop_oneof![Just(b'='), Just(b'?'), Just(b'q'), Just(b' '), any::<u8>()], 0..120)) {
            let _ = decode(&bytes);
        }
    }
}
