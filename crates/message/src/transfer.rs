//! Content transfer encodings: base64 and quoted-printable (RFC 2045 sections 6.7 and 6.8).
//!
//! Encoders give lines of at most 76 octets that end in CRLF. Decoders never fail: what is no code is skipped (base64) or
//! kept as it stands (quoted-printable), as mail programs do, since a policy wants to see what a reader would see.

use crate::header::is_blank;
use data_encoding::BASE64;
use memchr::memchr2;

/// The longest line that an encoder writes, without its CRLF.
pub const ENCODED_LINE_LEN_MAX: usize = 76;

/// How a part's body is encoded on the wire.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TransferEncoding {
    #[default]
    SevenBit,
    EightBit,
    Binary,
    QuotedPrintable,
    Base64,
}

impl TransferEncoding {
    /// From a `Content-Transfer-Encoding` value, in any case, comments ignored. `None`: one that nobody here knows.
    pub fn parse(value: &[u8]) -> Option<TransferEncoding> {
        let end = value.iter().position(|&byte| matches!(byte, b'(' | b';')).unwrap_or(value.len());
        let token = value[..end].trim_ascii();
        const NAMES: [(&[u8], TransferEncoding); 5] = [
            (b"7bit", TransferEncoding::SevenBit),
            (b"8bit", TransferEncoding::EightBit),
            (b"binary", TransferEncoding::Binary),
            (b"quoted-printable", TransferEncoding::QuotedPrintable),
            (b"base64", TransferEncoding::Base64),
        ];
        NAMES.iter().find(|(name, _)| token.eq_ignore_ascii_case(name)).map(|(_, encoding)| *encoding)
    }

    pub fn name(self) -> &'static str {
        match self {
            TransferEncoding::SevenBit => "7bit",
            TransferEncoding::EightBit => "8bit",
            TransferEncoding::Binary => "binary",
            TransferEncoding::QuotedPrintable => "quoted-printable",
            TransferEncoding::Base64 => "base64",
        }
    }
}

/// Base64 in lines of 76 octets, each with its CRLF; nothing for nothing.
pub fn base64_encode(bytes: &[u8]) -> Vec<u8> {
    const BYTES_PER_LINE: usize = ENCODED_LINE_LEN_MAX / 4 * 3;
    let lines = bytes.len().div_ceil(BYTES_PER_LINE);
    let mut out = vec![0; BASE64.encode_len(bytes.len()) + 2 * lines];
    let mut at = 0;
    for line in bytes.chunks(BYTES_PER_LINE) {
        let len = BASE64.encode_len(line.len());
        BASE64.encode_mut(line, &mut out[at..at + len]);
        out[at + len..at + len + 2].copy_from_slice(b"\r\n");
        at += len + 2;
    }
    out
}

/// Decodes base64 up to its padding or its end. Line ends and octets outside the alphabet are skipped.
pub fn base64_decode(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len() / 4 * 3 + 3);
    let (mut bits, mut count) = (0_u32, 0);
    for &byte in text {
        let value = BASE64_VALUES[usize::from(byte)];
        if value == NO_VALUE {
            if byte == b'=' && count >= 2 {
                break;
            }
            continue;
        }
        bits = bits << 6 | u32::from(value);
        count += 1;
        if count == 4 {
            out.extend_from_slice(&[(bits >> 16) as u8, (bits >> 8) as u8, bits as u8]);
            (bits, count) = (0, 0);
        }
    }
    match count {
        2 => out.push((bits >> 4) as u8),
        3 => out.extend_from_slice(&[(bits >> 10) as u8, (bits >> 2) as u8]),
        _ => {}
    }
    out
}

const NO_VALUE: u8 = 255;

const BASE64_VALUES: [u8; 256] = {
    let alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut values = [NO_VALUE; 256];
    let mut at = 0;
    while at < alphabet.len() {
        values[alphabet[at] as usize] = at as u8;
        at += 1;
    }
    values
};

/// What the line ends of the input mean to `quoted_printable_encode`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lines {
    /// CRLF ends a line and stays one; a lone CR or LF is data.
    Text,
    /// Every octet is data.
    Binary,
}

/// Quoted-printable, with soft line breaks; blanks before a line end are encoded.
pub fn quoted_printable_encode(bytes: &[u8], lines: Lines) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len() + bytes.len() / 8 + 16);
    let mut column = 0;
    let mut at = 0;
    while at < bytes.len() {
        let byte = bytes[at];
        if lines == Lines::Text && bytes[at..].starts_with(b"\r\n") {
            out.extend_from_slice(b"\r\n");
            (column, at) = (0, at + 2);
            continue;
        }
        let ends_line = match lines {
            Lines::Text => at + 1 == bytes.len() || bytes[at + 1..].starts_with(b"\r\n"),
            Lines::Binary => at + 1 == bytes.len(),
        };
        // A dot or "From " at the start of a line is at the mercy of what carries the message.
        let fragile = column == 0 && (byte == b'.' || bytes[at..].starts_with(b"From "));
        let literal = match byte {
            b'=' => false,
            33..=126 => !fragile,
            b' ' | b'\t' => !ends_line,
            _ => false,
        };
        let width = if literal { 1 } else { 3 };
        // One column is kept for the soft break's "=", unless the line ends here.
        if column + width > ENCODED_LINE_LEN_MAX - usize::from(!ends_line) {
            out.extend_from_slice(b"=\r\n");
            column = 0;
            continue; // the octet may be fragile at the start of a line
        }
        if literal {
            out.push(byte);
        } else {
            push_code(&mut out, byte);
        }
        column += width;
        at += 1;
    }
    out
}

/// Appends `=XX`.
pub(crate) fn push_code(out: &mut Vec<u8>, byte: u8) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    out.extend_from_slice(&[b'=', HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
}

/// Decodes quoted-printable. Blanks at the end of a line go (transport padding); an `=` that begins no code stays.
pub fn quoted_printable_decode(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = memchr2(b'=', b'\n', rest) {
        let (before, special) = rest.split_at(at);
        out.extend_from_slice(before);
        if special[0] == b'\n' {
            let with_cr = out.ends_with(b"\r");
            out.truncate(out.len() - usize::from(with_cr));
            // Blanks that this line wrote literally: an encoded one was pushed by the branch below and stays.
            let literal = blanks_at_end(before.strip_suffix(b"\r").unwrap_or(before));
            out.truncate(out.len() - literal);
            out.extend_from_slice(if with_cr { b"\r\n" } else { b"\n" });
            rest = &special[1..];
            continue;
        }
        rest = &special[1..];
        if let Some(byte) = code(rest) {
            out.push(byte);
            rest = &rest[2..];
        } else if let Some(len) = soft_break_len(rest) {
            rest = &rest[len..];
        } else {
            out.push(b'=');
        }
    }
    out.extend_from_slice(&rest[..rest.len() - blanks_at_end(rest)]);
    out
}

fn blanks_at_end(bytes: &[u8]) -> usize {
    bytes.iter().rev().take_while(|&&byte| is_blank(byte)).count()
}

/// The octet that two hexadecimal digits at the start of `text` stand for.
pub(crate) fn code(text: &[u8]) -> Option<u8> {
    let digit = |at: usize| text.get(at).and_then(|&byte| char::from(byte).to_digit(16));
    Some((digit(0)? << 4 | digit(1)?) as u8)
}

/// After `=`: blanks and a line end, or nothing but blanks to the end of the text.
fn soft_break_len(text: &[u8]) -> Option<usize> {
    let blanks = text.iter().take_while(|&&byte| is_blank(byte)).count();
    match &text[blanks..] {
        [] => Some(blanks),
        [b'\r', b'\n', ..] => Some(blanks + 2),
        [b'\n', ..] => Some(blanks + 1),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn base64_of_known_texts() {
        for (plain, code) in
            [("", ""), ("f", "Zg==\r\n"), ("fo", "Zm8=\r\n"), ("foo", "Zm9v\r\n"), ("foob", "Zm9vYg==\r\n")]
        {
            assert_eq!(base64_encode(plain.as_bytes()), code.as_bytes());
            assert_eq!(base64_decode(code.as_bytes()), plain.as_bytes());
        }
    }

    #[test]
    fn base64_skips_what_is_no_code() {
        for (code, plain) in [("Zm 9v\r\n Yg", "foob"), ("Zm9v!*", "foo"), ("Zg==Zg==", "f"), ("Z", ""), ("====", "")] {
            assert_eq!(base64_decode(code.as_bytes()), plain.as_bytes(), "{code}");
        }
    }

    #[test]
    fn quoted_printable_of_known_texts() {
        for (plain, code) in [
            ("é=1", "=C3=A9=3D1"),
            ("a \r\nb\t", "a=20\r\nb=09"),
            ("a\nb\r", "a=0Ab=0D"),
            (".\r\n..", "=2E\r\n=2E."),
            ("From me\r\nFrom", "=46rom me\r\nFrom"),
        ] {
            let encoded = quoted_printable_encode(plain.as_bytes(), Lines::Text);
            assert_eq!(encoded, code.as_bytes());
            assert_eq!(quoted_printable_decode(&encoded), plain.as_bytes());
        }
        assert_eq!(quoted_printable_encode(b"a\r\n", Lines::Binary), b"a=0D=0A");
    }

    #[test]
    fn quoted_printable_reads_what_others_write() {
        for (code, plain) in [
            ("a=\r\nb", "ab"),
            ("a= \t\r\nb", "ab"),
            ("a=\nb=", "ab"),
            ("a  \r\nb", "a\r\nb"),
            ("a=20 \r\nb", "a \r\nb"),
            ("=c3=a9", "é"),
            ("1=2 =zz =", "1=2 =zz "),
            ("a  ", "a"),
        ] {
            assert_eq!(quoted_printable_decode(code.as_bytes()), plain.as_bytes(), "{code:?}");
        }
    }

    #[test]
    fn names_are_read_in_any_case_and_with_comments() {
        for (value, encoding) in [
            (" Base64 ", Some(TransferEncoding::Base64)),
            ("QUOTED-PRINTABLE (x)", Some(TransferEncoding::QuotedPrintable)),
            ("8bit;", Some(TransferEncoding::EightBit)),
            ("x-uuencode", None),
            ("", None),
        ] {
            assert_eq!(TransferEncoding::parse(value.as_bytes()), encoding, "{value}");
        }
    }

    proptest! {
        #[test]
        fn base64_comes_back(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            let encoded = base64_encode(&bytes);
            prop_assert!(encoded.split(|&b| b == b'\n').all(|line| line.len() <= ENCODED_LINE_LEN_MAX + 1));
            prop_assert_eq!(base64_decode(&encoded), bytes);
        }

        #[test]
        fn quoted_printable_comes_back(bytes in proptest::collection::vec(
            prop_oneof![Just(b' '), Just(b'\r'), Just(b'\n'), Just(b'='), Just(b'.'), Just(b'a'), any::<u8>()], 0..400),
            text in any::<bool>())
        {
            let encoded = quoted_printable_encode(&bytes, if text { Lines::Text } else { Lines::Binary });
            prop_assert!(encoded.is_ascii());
            for line in encoded.split(|&b| b == b'\n') {
                let line = line.strip_suffix(b"\r").unwrap_or(line);
                prop_assert!(line.len() <= ENCODED_LINE_LEN_MAX && !line.ends_with(b" ") && !line.ends_with(b"\t"));
                prop_assert!(!line.contains(&b'\r') && !line.starts_with(b"."));
            }
            prop_assert_eq!(quoted_printable_decode(&encoded), bytes);
        }

        #[test]
        fn decoders_take_any_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(base64_decode(&bytes).len() <= bytes.len());
            prop_assert!(quoted_printable_decode(&bytes).len() <= bytes.len());
        }
    }
}
