//! The `sanitize` option of `custom_logger`: what happens to bytes that a peer chose.

use super::FormatError;
use crate::out;

/// The `sanitize` option. Line ends never pass, whatever it says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Sanitize {
    special_characters: bool,
    non_printable: bool,
    map: Vec<(u8, u8)>,
}

impl Sanitize {
    pub fn parse(text: &str) -> Result<Sanitize, FormatError> {
        let mut sanitize = Sanitize::default();
        let mut rest = text.trim();
        while !rest.is_empty() {
            if let Some(after) = rest.strip_prefix("tr/") {
                // A comma may stand within the mapping, hence this is read up to its third slash.
                let mut pieces = after.splitn(3, '/');
                let (Some(from), Some(to), Some(tail)) = (pieces.next(), pieces.next(), pieces.next()) else {
                    return Err(FormatError::Sanitize(rest.to_owned()));
                };
                let last = to.bytes().last();
                for (at, byte) in from.bytes().enumerate() {
                    let Some(target) = to.as_bytes().get(at).copied().or(last) else {
                        return Err(FormatError::Sanitize(rest.to_owned()));
                    };
                    sanitize.map.push((byte, target));
                }
                rest = tail.trim_start_matches([',', ' ']);
                continue;
            }
            let (rule, tail) = rest.split_once(',').unwrap_or((rest, ""));
            match rule.trim() {
                "special_characters" => sanitize.special_characters = true,
                "non_printable" => sanitize.non_printable = true,
                other => return Err(FormatError::Sanitize(other.to_owned())),
            }
            rest = tail.trim_start();
        }
        Ok(sanitize)
    }

    /// Cleans what was appended since `start`.
    pub fn apply(&self, out: &mut Vec<u8>, start: usize) {
        for byte in &mut out[start..] {
            if let Some((_, target)) = self.map.iter().find(|(from, _)| from == byte) {
                *byte = *target;
            }
        }
        let dirty = |byte: &u8| byte.is_ascii_control() || (self.non_printable && !byte.is_ascii());
        if !out[start..].iter().any(dirty) {
            return;
        }
        let raw = out.split_off(start);
        if !self.special_characters && !self.non_printable {
            out::one_line_piece(out, &raw);
            return;
        }
        for byte in raw {
            match byte {
                b'\n' if self.special_characters => out.extend_from_slice(b"\\n"),
                b'\r' if self.special_characters => out.extend_from_slice(b"\\r"),
                b'\t' if self.special_characters => out.extend_from_slice(b"\\t"),
                b'\n' | b'\r' if !self.non_printable => out.push(b' '),
                byte if self.non_printable && (byte.is_ascii_control() || !byte.is_ascii()) => {
                    out::number(out, byte.into());
                }
                byte if byte.is_ascii_control() => out.extend_from_slice(&[b'\\', byte]),
                byte => out.push(byte),
            }
        }
    }
}
