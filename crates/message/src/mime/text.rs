//! Text into a part: charset, transfer encoding, and the header fields that say so.
//!
//! What is written is safe on any way: lines are at most 998 octets long and have no lone line ends, unless an encoding hides
//! them. A charset that lacks a character of the text gives way to UTF-8, since a reader wants the text.

use crate::charset::{self, EncodeError};
use crate::content::Content;
use crate::content_type::{ContentType, raw_params, rewritten};
use crate::header::HeaderError;
use crate::header_check::fix_line_ends;
use crate::transfer::{Lines, TransferEncoding, base64_encode, quoted_printable_encode};
use std::borrow::Cow;

/// The longest line of a body (RFC 5321 section 4.5.3.1.6), without its line end.
const LINE_LEN_MAX: usize = 998;

/// A text as it stands in a part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WrittenText {
    pub bytes: Vec<u8>,
    pub charset: String,
    pub encoding: TransferEncoding,
}

/// Writes `text` in a charset (us-ascii or UTF-8 where none is given), in the transfer encoding to keep or the best one: 7bit
/// where that is possible, base64 where more than a third is beyond ASCII, else quoted-printable. `None`: nobody here knows the
/// charset.
pub fn write_text(text: &str, charset: Option<&str>, keep: Option<TransferEncoding>) -> Option<WrittenText> {
    let wanted = charset.unwrap_or(if text.is_ascii() { "us-ascii" } else { "utf-8" });
    let (octets, charset) = match charset::encode(wanted, text) {
        Ok(octets) => (octets, wanted),
        Err(EncodeError::Unmappable) => (Cow::Borrowed(text.as_bytes()), "utf-8"),
        Err(EncodeError::UnknownCharset) => return None,
    };
    let wide = charset.to_ascii_lowercase().starts_with("utf-16");
    let encoding = match keep {
        Some(TransferEncoding::Base64) => TransferEncoding::Base64,
        Some(TransferEncoding::Binary) => TransferEncoding::Binary,
        _ if wide => TransferEncoding::Base64,
        Some(TransferEncoding::EightBit) if fits_lines(&octets) => TransferEncoding::EightBit,
        Some(TransferEncoding::SevenBit) | None if octets.is_ascii() && fits_lines(&octets) => {
            TransferEncoding::SevenBit
        }
        None if octets.iter().filter(|byte| !byte.is_ascii()).count() > octets.len() / 3 => TransferEncoding::Base64,
        _ => TransferEncoding::QuotedPrintable,
    };
    let bytes = match encoding {
        TransferEncoding::Base64 => base64_encode(&octets),
        TransferEncoding::QuotedPrintable => quoted_printable_encode(&octets, Lines::Text),
        _ => octets.into_owned(),
    };
    Some(WrittenText { bytes, charset: charset.to_owned(), encoding })
}

/// Whether lines are short and their ends are CRLF.
fn fits_lines(octets: &[u8]) -> bool {
    !octets.contains(&0)
        && matches!(fix_line_ends(octets), Cow::Borrowed(_))
        && octets
            .split(|&byte| byte == b'\n')
            .all(|line| line.strip_suffix(b"\r").unwrap_or(line).len() <= LINE_LEN_MAX)
}

/// A `Content-Type` for a text: the present one with another charset, or `mimetype` with the file's name of the present one.
pub fn text_field(present: &[u8], mimetype: Option<&str>, charset: &str) -> Vec<u8> {
    let Some(mimetype) = mimetype else { return rewritten(present, None, "charset", charset) };
    let mut value = mimetype.as_bytes().to_vec();
    if ContentType::parse(&value).param("name").is_none() {
        for piece in raw_params(present, "name") {
            value.push(b';');
            value.extend_from_slice(piece);
        }
    }
    rewritten(&value, None, "charset", charset)
}

/// Says in a header block what its body holds now. What says so already is left alone.
pub fn declare(head: &mut Content, content_type: Option<&[u8]>, encoding: TransferEncoding) -> Result<(), HeaderError> {
    if let Some(content_type) = content_type {
        head.set_header("Content-Type", content_type)?;
    }
    let declared = head.header("Content-Transfer-Encoding").map(|value| TransferEncoding::parse(&value));
    let same = declared.map_or(encoding == TransferEncoding::SevenBit, |declared| declared == Some(encoding));
    if !same {
        head.set_header("Content-Transfer-Encoding", encoding.name().as_bytes())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transfer::{base64_decode, quoted_printable_decode};
    use proptest::prelude::*;

    fn decoded(written: &WrittenText) -> String {
        let octets = match written.encoding {
            TransferEncoding::Base64 => base64_decode(&written.bytes),
            TransferEncoding::QuotedPrintable => quoted_printable_decode(&written.bytes),
            _ => written.bytes.clone(),
        };
        charset::decode(&written.charset, &octets).unwrap().into_owned()
    }

    #[test]
    fn the_simplest_encoding_that_carries_the_text_is_taken() {
        let long = "x".repeat(999);
        for (text, charset, keep, bytes, in_charset, encoding) in [
            ("a\r\n", None, None, Some("a\r\n"), "us-ascii", TransferEncoding::SevenBit),
            ("caf\u{e9} au lait", None, None, Some("caf=C3=A9 au lait"), "utf-8", TransferEncoding::QuotedPrintable),
            (
                "é au lait",
                Some("iso-8859-1"),
                None,
                Some("=E9 au lait"),
                "iso-8859-1",
                TransferEncoding::QuotedPrintable,
            ),
            ("привет", Some("koi8-r"), None, Some("0NLJ18XU\r\n"), "koi8-r", TransferEncoding::Base64),
            (
                "привет",
                Some("us-ascii"),
                Some(TransferEncoding::SevenBit),
                None,
                "utf-8",
                TransferEncoding::QuotedPrintable,
            ),
            ("a", Some("utf-16le"), None, Some("YQA=\r\n"), "utf-16le", TransferEncoding::Base64),
            (&long, None, None, None, "us-ascii", TransferEncoding::QuotedPrintable),
            ("é", Some("utf-8"), Some(TransferEncoding::EightBit), Some("é"), "utf-8", TransferEncoding::EightBit),
            (&long, None, Some(TransferEncoding::EightBit), None, "us-ascii", TransferEncoding::QuotedPrintable),
            ("a", None, Some(TransferEncoding::Base64), Some("YQ==\r\n"), "us-ascii", TransferEncoding::Base64),
            ("a\nb", None, None, Some("a=0Ab"), "us-ascii", TransferEncoding::QuotedPrintable),
        ] {
            let written = write_text(text, charset, keep).unwrap();
            assert_eq!((written.charset.as_str(), written.encoding), (in_charset, encoding), "{text}");
            if let Some(bytes) = bytes {
                assert_eq!(String::from_utf8_lossy(&written.bytes), bytes, "{text}");
            }
            assert_eq!(decoded(&written), text);
        }
        assert_eq!(write_text("a", Some("no-such-charset"), None), None);
    }

    #[test]
    fn every_charset_of_the_tables_comes_back() {
        for encoding in [
            "utf-8",
            "ibm866",
            "iso-8859-2",
            "iso-8859-3",
            "iso-8859-4",
            "iso-8859-5",
            "iso-8859-6",
            "iso-8859-7",
            "iso-8859-8",
            "iso-8859-8-i",
            "iso-8859-10",
            "iso-8859-13",
            "iso-8859-14",
            "iso-8859-15",
            "iso-8859-16",
            "koi8-r",
            "koi8-u",
            "macintosh",
            "windows-874",
            "windows-1250",
            "windows-1251",
            "windows-1252",
            "windows-1253",
            "windows-1254",
            "windows-1255",
            "windows-1256",
            "windows-1257",
            "windows-1258",
            "x-mac-cyrillic",
            "gbk",
            "gb18030",
            "big5",
            "euc-jp",
            "iso-2022-jp",
            "shift_jis",
            "euc-kr",
            "utf-16be",
            "utf-16le",
            "utf-16",
            "iso-8859-1",
            "us-ascii",
        ] {
            let native: String = (0x80..=0xff_u8)
                .filter_map(|byte| charset::decode(encoding, &[byte]).map(Cow::into_owned))
                .filter(|text| text.chars().count() == 1 && !text.contains('\u{fffd}'))
                .collect();
            let text = format!("plain {native} text\r\n");
            let written = write_text(&text, Some(encoding), None).unwrap();
            assert_eq!(decoded(&written), text, "{encoding}");
        }
    }

    #[test]
    fn a_header_block_says_what_the_body_holds() {
        let raw = "X: 1\r\nContent-Type: text/html; charset=x; name=a.txt\r\nContent-Transfer-Encoding: 8bit\r\n\r\n";
        let mut head = Content::parse(raw.into());
        let value = text_field(head.header("Content-Type").unwrap().as_ref(), None, "utf-8");
        declare(&mut head, Some(&value), TransferEncoding::EightBit).unwrap();
        assert_eq!(
            &head.to_bytes().unwrap()[..],
            b"X: 1\r\nContent-Type: text/html; name=a.txt; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n"
        );
        assert_eq!(text_field(b"image/png; name=a", Some("text/plain"), "x"), b"text/plain; name=a; charset=x");
        assert_eq!(text_field(b"", Some("text/plain; name=b"), "x"), b"text/plain; name=b; charset=x");
    }

    proptest! {
        #[test]
        fn any_text_comes_back(text in "([a-zé你 .=-]|\r\n|\r|\n|\t|\0){0,80}", charset in prop_oneof![
            Just(None), Just(Some("iso-8859-1")), Just(Some("gb18030")), Just(Some("utf-16")), Just(Some("us-ascii"))]) {
            let written = write_text(&text, charset, None).unwrap();
            prop_assert_eq!(decoded(&written), text);
            prop_assert!(written.bytes.split(|b| *b == b'\n').all(|line| line.len() <= 999));
        }
    }
}
