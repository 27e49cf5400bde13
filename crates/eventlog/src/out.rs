//! Writing the parts of a log line into a byte buffer: numbers, times, addresses, escaped text. Nothing here allocates.

use ph_message::{Id, Time};
use std::io::Write;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

pub(crate) fn number(out: &mut Vec<u8>, mut value: u64) {
    let mut digits = [0_u8; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (value % 10) as u8;
        value /= 10;
        if value == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

/// `value` with leading zeros to `width` digits (at most 20).
pub(crate) fn padded(out: &mut Vec<u8>, value: u64, width: usize) {
    let start = out.len();
    number(out, value);
    let missing = width.saturating_sub(out.len() - start);
    for _ in 0..missing {
        out.insert(start, b'0');
    }
}

/// The epoch field of all logs: ten digits of seconds, or sixteen of microseconds.
pub(crate) fn stamp(out: &mut Vec<u8>, now: Time, hires: bool) {
    let value = if hires { now.micros() } else { now.secs() };
    number(out, value.max(0).unsigned_abs());
}

/// Seconds with three decimals.
pub(crate) fn seconds(out: &mut Vec<u8>, span: Duration) {
    decimal_seconds(out, span, 3);
}

/// Seconds with `decimals` decimals (0 to 6), cut, not rounded.
pub(crate) fn decimal_seconds(out: &mut Vec<u8>, span: Duration, decimals: usize) {
    number(out, span.as_secs());
    fraction(out, span.subsec_micros(), decimals);
}

/// `.` and the first `decimals` digits of a count of microseconds below one million; nothing for 0 decimals.
pub(crate) fn fraction(out: &mut Vec<u8>, micros: u32, decimals: usize) {
    let decimals = decimals.min(6);
    if decimals > 0 {
        out.push(b'.');
        padded(out, u64::from(micros) / 10_u64.pow(6 - decimals as u32), decimals);
    }
}

pub(crate) fn id(out: &mut Vec<u8>, id: Id) {
    out.extend_from_slice(&id.text());
}

/// An address; IPv4 mapped into IPv6 is shown as IPv4.
pub(crate) fn ip(out: &mut Vec<u8>, address: IpAddr) {
    match address.to_canonical() {
        IpAddr::V4(v4) => {
            let [a, b, c, d] = v4.octets();
            number(out, a.into());
            for octet in [b, c, d] {
                out.push(b'.');
                number(out, octet.into());
            }
        }
        // Writing into a Vec cannot fail.
        IpAddr::V6(v6) => drop(write!(out, "{v6}")),
    }
}

/// `ip:port`, with brackets around an IPv6 address.
pub(crate) fn socket(out: &mut Vec<u8>, address: SocketAddr) {
    let v6 = address.ip().to_canonical().is_ipv6();
    if v6 {
        out.push(b'[');
    }
    ip(out, address.ip());
    if v6 {
        out.push(b']');
    }
    out.push(b':');
    number(out, address.port().into());
}

/// A field that was set, or `default`.
pub(crate) fn or_default(text: &str) -> &str {
    if text.is_empty() { "default" } else { text }
}

/// Text between `@` separators: `@`, `\` and controls are written as `\` and the character; a newline as `\n`, a carriage
/// return as `\r`, so that one event stays one line.
pub(crate) fn escaped(out: &mut Vec<u8>, text: &[u8]) {
    let mut rest = text;
    while let Some(at) = rest.iter().position(|&byte| byte == b'@' || byte == b'\\' || byte.is_ascii_control()) {
        out.extend_from_slice(&rest[..at]);
        out.push(b'\\');
        out.push(escape_letter(rest[at]));
        rest = &rest[at + 1..];
    }
    out.extend_from_slice(rest);
}

/// What follows the backslash for a byte that is escaped.
fn escape_letter(byte: u8) -> u8 {
    match byte {
        b'\n' => b'n',
        b'\r' => b'r',
        other => other,
    }
}

/// The last field of a line: as it is, save that a run of line ends becomes one blank, and one at the end nothing.
pub(crate) fn one_line(out: &mut Vec<u8>, text: &[u8]) {
    let end = text.iter().rposition(|&byte| byte != b'\r' && byte != b'\n').map_or(0, |at| at + 1);
    one_line_piece(out, &text[..end]);
}

/// `one_line` for a piece that others follow: a line end at its end is a blank too.
pub(crate) fn one_line_piece(out: &mut Vec<u8>, text: &[u8]) {
    let mut rest = text;
    while let Some(at) = line_end(rest) {
        out.extend_from_slice(&rest[..at]);
        out.push(b' ');
        let run = rest[at..].iter().take_while(|&&byte| byte == b'\r' || byte == b'\n').count();
        rest = &rest[at + run..];
    }
    out.extend_from_slice(rest);
}

fn line_end(text: &[u8]) -> Option<usize> {
    text.iter().position(|&byte| byte == b'\r' || byte == b'\n')
}

/// A context value of the rejectlog: in double quotes where it holds a blank, `,`, `]`, `"`, `=` or a control.
pub(crate) fn context_value(out: &mut Vec<u8>, value: &[u8]) {
    let special = |byte: &u8| matches!(byte, b' ' | b',' | b']' | b'"' | b'=') || byte.is_ascii_control();
    if !value.iter().any(special) {
        out.extend_from_slice(value);
        return;
    }
    out.push(b'"');
    for &byte in value {
        if byte == b'"' || byte.is_ascii_control() {
            out.push(b'\\');
            out.push(escape_letter(byte));
        } else {
            out.push(byte);
        }
    }
    out.push(b'"');
}

/// A JSON string with its quotes. Bytes that are no UTF-8 become U+FFFD.
pub(crate) fn json_string(out: &mut Vec<u8>, text: &[u8]) {
    out.push(b'"');
    for chunk in text.utf8_chunks() {
        json_chars(out, chunk.valid());
        if !chunk.invalid().is_empty() {
            out.extend_from_slice("\u{fffd}".as_bytes());
        }
    }
    out.push(b'"');
}

fn json_chars(out: &mut Vec<u8>, text: &str) {
    let mut rest = text.as_bytes();
    while let Some(at) = rest.iter().position(|&byte| byte < 0x20 || byte == b'"' || byte == b'\\' || byte == 0x7f) {
        out.extend_from_slice(&rest[..at]);
        match rest[at] {
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            control => {
                const HEX: &[u8; 16] = b"0123456789abcdef";
                out.extend_from_slice(b"\\u00");
                out.push(HEX[usize::from(control >> 4)]);
                out.push(HEX[usize::from(control & 15)]);
            }
        }
        rest = &rest[at + 1..];
    }
    out.extend_from_slice(rest);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(write: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        write(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn numbers_and_times() {
        for value in [0, 9, 10, 1_234_567_890, u64::MAX] {
            assert_eq!(made(|out| number(out, value)), value.to_string());
        }
        assert_eq!(made(|out| padded(out, 7, 3)), "007");
        assert_eq!(made(|out| stamp(out, Time(1_251_200_446_123_456), false)), "1251200446");
        assert_eq!(made(|out| stamp(out, Time(1_251_200_446_123_456), true)), "1251200446123456");
        assert_eq!(made(|out| seconds(out, Duration::from_micros(18_530_999))), "18.530");
        assert_eq!(made(|out| decimal_seconds(out, Duration::from_micros(50), 6)), "0.000050");
        assert_eq!(made(|out| decimal_seconds(out, Duration::from_micros(1_999_999), 0)), "1");
    }

    #[test]
    fn addresses_with_mapped_ipv4_shown_as_ipv4() {
        for (text, wanted) in [
            ("127.0.0.1:25", "127.0.0.1:25"),
            ("[::ffff:10.1.2.3]:65535", "10.1.2.3:65535"),
            ("[fd82::1]:25", "[fd82::1]:25"),
        ] {
            assert_eq!(made(|out| socket(out, text.parse().unwrap())), wanted);
        }
    }

    #[test]
    fn separators_and_controls_are_escaped() {
        for (text, wanted) in [
            ("bob", "bob"),
            ("\"a@b\"", "\"a\\@b\""),
            ("a\\b", "a\\\\b"),
            ("a\nb\r", "a\\nb\\r"),
            ("a\tb\u{7f}", "a\\\tb\\\u{7f}"),
        ] {
            assert_eq!(made(|out| escaped(out, text.as_bytes())), wanted, "{text:?}");
        }
    }

    #[test]
    fn reply_lines_are_joined_by_one_blank() {
        for (text, wanted) in [
            ("451 try later", "451 try later"),
            ("451-a\r\n451 b\r\n", "451-a 451 b"),
            ("a\n\r\n\nb@c\\d", "a b@c\\d"),
            ("\r\n", ""),
        ] {
            assert_eq!(made(|out| one_line(out, text.as_bytes())), wanted, "{text:?}");
        }
    }

    #[test]
    fn context_values_are_quoted_where_they_would_confuse() {
        for (text, wanted) in [("true", "true"), ("a b", "\"a b\""), ("a\"]\n", "\"a\\\"]\\n\""), ("", "")] {
            assert_eq!(made(|out| context_value(out, text.as_bytes())), wanted, "{text:?}");
        }
    }

    #[test]
    fn json_strings_are_json_whatever_the_bytes() {
        for bytes in [&b"plain"[..], b"\"\\\n\r\t\x01\x7f", b"\xff\xfe\xc3", "\u{1f600}\u{2028}".as_bytes()] {
            let text = made(|out| json_string(out, bytes));
            let back: String = serde_json::from_str(&text).unwrap();
            assert_eq!(back, String::from_utf8_lossy(bytes));
        }
    }
}
