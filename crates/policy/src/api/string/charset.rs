//! Conversion of charsets for the functions that take one: strict, since their callers want to know.

use ph_message::charset;

/// Octets in `label` as UTF-8; an unknown charset or octets that it has not is an error.
pub(super) fn to_utf8(label: &str, bytes: &[u8]) -> Result<Vec<u8>, String> {
    let unreadable = || format!("the text is not valid in {label}");
    let name = label.trim();
    let text = charset::decode(name, bytes).ok_or_else(|| format!("unknown charset '{label}'"))?;
    let is_ascii = charset::encode(name, "\u{e9}").is_err() && name.to_ascii_lowercase().contains("ascii");
    if is_ascii && !bytes.is_ascii() {
        return Err(unreadable());
    }
    // Decoding puts U+FFFD where the octets mean nothing; UTF-8 alone may hold that character itself.
    let is_utf8 = name.eq_ignore_ascii_case("utf-8") || name.eq_ignore_ascii_case("utf8");
    let is_faulty = if is_utf8 { std::str::from_utf8(bytes).is_err() } else { text.contains('\u{fffd}') };
    if is_faulty { Err(unreadable()) } else { Ok(text.into_owned().into_bytes()) }
}

/// UTF-8 as octets in `label`.
pub(super) fn from_utf8(label: &str, bytes: &[u8]) -> Result<Vec<u8>, String> {
    let text = std::str::from_utf8(bytes).map_err(|_| "the text is not valid UTF-8".to_owned())?;
    charset::encode(label.trim(), text).map(|bytes| bytes.into_owned()).map_err(|error| match error {
        charset::EncodeError::UnknownCharset => format!("unknown charset '{label}'"),
        charset::EncodeError::Unmappable => format!("the text has characters that {label} lacks"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conversion_is_strict() {
        assert_eq!(to_utf8("ISO-8859-1", b"\xe9").unwrap(), "é".as_bytes());
        assert_eq!(to_utf8("utf-8", "\u{fffd}".as_bytes()).unwrap(), "\u{fffd}".as_bytes());
        assert_eq!(to_utf8("us-ascii", b"a").unwrap(), b"a");
        for (label, bytes) in [("utf-8", &b"\xff"[..]), ("us-ascii", b"\xc3\xa9"), ("gb2312", b"\xff"), ("nope", b"a")]
        {
            assert!(to_utf8(label, bytes).is_err(), "{label}");
        }
        assert_eq!(from_utf8("iso-8859-1", "é".as_bytes()).unwrap(), b"\xe9");
        for (label, bytes) in [("koi8-r", "你".as_bytes()), ("utf-8", b"\xff"), ("nope", b"a")] {
            assert!(from_utf8(label, bytes).is_err(), "{label}");
        }
    }
}
