//! Charsets to UTF-8 and back (the WHATWG tables of encoding_rs, which are what mail programs use).
//!
//! Decoding never fails on content: what does not decode becomes U+FFFD. Only an unknown label is an error of the caller's
//! choice. Text labelled us-ascii that has octets above 127 is read as UTF-8 where it is valid, since that is what it
//! nearly always is.

use encoding_rs::{Encoding, UTF_8, UTF_16BE, UTF_16LE, WINDOWS_1252};
use std::borrow::Cow;

/// Text in UTF-8. `None`: nobody here knows a charset of that name.
pub fn decode<'a>(label: &str, bytes: &'a [u8]) -> Option<Cow<'a, str>> {
    let label = label.trim();
    if is_ascii_label(label) || label.eq_ignore_ascii_case("utf8") || label.eq_ignore_ascii_case("utf-8") {
        return Some(decode_utf8(bytes));
    }
    if label.eq_ignore_ascii_case("utf-16") {
        // Without a byte order mark it is big-endian (RFC 2781 section 4.3).
        let (encoding, text) = match bytes {
            [0xff, 0xfe, text @ ..] => (UTF_16LE, text),
            [0xfe, 0xff, text @ ..] | text => (UTF_16BE, text),
        };
        return Some(encoding.decode_without_bom_handling(text).0);
    }
    let encoding = Encoding::for_label(label.as_bytes())?;
    Some(encoding.decode_without_bom_handling(bytes).0)
}

/// As `decode`; octets of an unknown charset are read as UTF-8.
pub fn decode_or_utf8<'a>(label: &str, bytes: &'a [u8]) -> Cow<'a, str> {
    decode(label, bytes).unwrap_or_else(|| decode_utf8(bytes))
}

/// Whether `decode` and `encode` know the label.
pub fn is_known(label: &str) -> bool {
    is_ascii_label(label.trim()) || Encoding::for_label(label.trim().as_bytes()).is_some()
}

/// Why a text cannot be written in a charset.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    #[error("unknown charset")]
    UnknownCharset,
    /// The text has characters that the charset lacks.
    #[error("the charset lacks characters of the text")]
    Unmappable,
}

/// The octets of `text` in a charset.
pub fn encode<'a>(label: &str, text: &'a str) -> Result<Cow<'a, [u8]>, EncodeError> {
    let label = label.trim();
    if is_ascii_label(label) {
        return if text.is_ascii() { Ok(Cow::Borrowed(text.as_bytes())) } else { Err(EncodeError::Unmappable) };
    }
    let encoding = Encoding::for_label(label.as_bytes()).ok_or(EncodeError::UnknownCharset)?;
    if encoding == UTF_8 {
        return Ok(Cow::Borrowed(text.as_bytes()));
    }
    // The tables have no encoder for UTF-16.
    if encoding == UTF_16LE || encoding == UTF_16BE {
        let units = text.encode_utf16();
        return Ok(Cow::Owned(match encoding == UTF_16LE && !label.eq_ignore_ascii_case("utf-16") {
            true => units.flat_map(u16::to_le_bytes).collect(),
            false => units.flat_map(u16::to_be_bytes).collect(),
        }));
    }
    // The label iso-8859-1 means windows-1252 in the tables; what is written under it must be the real one.
    if encoding == WINDOWS_1252 && !label.to_ascii_lowercase().contains("1252") {
        return text.chars().map(|c| u8::try_from(u32::from(c)).map_err(|_| EncodeError::Unmappable)).collect();
    }
    match encoding.encode(text) {
        (bytes, _, false) => Ok(bytes),
        (_, _, true) => Err(EncodeError::Unmappable),
    }
}

fn is_ascii_label(label: &str) -> bool {
    ["us-ascii", "ascii", "ansi_x3.4-1968", "unknown-8bit"].iter().any(|known| label.eq_ignore_ascii_case(known))
}

fn decode_utf8(bytes: &[u8]) -> Cow<'_, str> {
    String::from_utf8_lossy(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_that_mail_uses() {
        for (label, bytes, text) in [
            ("utf-8", &b"caf\xc3\xa9"[..], "café"),
            ("US-ASCII", b"caf\xc3\xa9", "café"),
            ("us-ascii", b"caf\xe9", "caf\u{fffd}"),
            ("iso-8859-1", b"caf\xe9", "café"),
            ("Windows-1251", b"\xcf\xf0", "Пр"),
            ("koi8-r", b"\xf0\xd2", "Пр"),
            ("iso-2022-jp", b"\x1b$B$3\x1b(B", "こ"),
            ("gb2312", b"\xc4\xe3", "你"),
            ("utf-8", b"\xff", "\u{fffd}"),
            ("UTF-16", b"\xff\xfea\0", "a"),
            ("utf-16", b"\xfe\xff\0a", "a"),
            ("utf-16", b"\0a", "a"),
            (" utf8 ", b"\xc3\xa9", "é"),
        ] {
            assert_eq!(decode(label, bytes).as_deref(), Some(text), "{label}");
        }
        assert_eq!(decode("no-such-charset", b"x"), None);
        assert_eq!(decode_or_utf8("no-such-charset", b"\xc3\xa9"), "é");
    }

    #[test]
    fn writes_what_it_reads() {
        for (label, text) in [
            ("iso-8859-1", "é"),
            ("windows-1252", "€"),
            ("koi8-r", "Пр"),
            ("utf-8", "你"),
            ("utf-16be", "你a"),
            ("utf-16", "你a"),
        ] {
            let bytes = encode(label, text).unwrap();
            assert_eq!(decode(label, &bytes).unwrap(), text, "{label}");
        }
        assert_eq!(encode("iso-8859-1", "é").unwrap(), &b"\xe9"[..]);
        assert_eq!(encode("iso-8859-1", "€"), Err(EncodeError::Unmappable));
        assert_eq!(encode("us-ascii", "é"), Err(EncodeError::Unmappable));
        assert_eq!(encode("koi8-r", "你"), Err(EncodeError::Unmappable));
        assert_eq!(encode("nope", "a"), Err(EncodeError::UnknownCharset));
    }
}
