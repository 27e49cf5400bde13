//! Header fields in a block of bytes: finding, unfolding, and writing them (RFC 5322 sections 2.2 and 3.6.8).
//!
//! A block is scanned where it lies; nothing is copied or indexed, since most messages are asked for two or three fields
//! once. A line ends at LF, with or without a CR before it; a field goes on while the next line begins with a blank. A
//! line that is no field is yielded too, with an empty name, so that a walk over all fields covers every byte. What is
//! written here can never be more than one field: that is the invariant of `write_field`.

use memchr::memchr;
use std::borrow::Cow;
use std::ops::Range;

/// The longest line, without its line end (RFC 5322 section 2.1.1).
pub const LINE_LEN_MAX: usize = 998;

/// The line length that a fold aims for (RFC 5322 section 2.1.1).
pub const FOLD_AT: usize = 78;

/// The longest field name: with its colon it still fits into a line.
pub const NAME_LEN_MAX: usize = 997;

/// A header field could not be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    /// Only visible ASCII without colon, 1 to 997 octets (RFC 5322 section 3.6.8).
    #[error("not a header field name: visible ASCII without a colon is expected")]
    Name,
}

/// One field where it lies in its block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field<'a> {
    /// As written; empty when the line is no field (no colon, or something else than visible ASCII before it).
    pub name: &'a [u8],
    /// What follows the colon, with its folds and outer blanks, without the final line end. All of a line that is no field.
    pub value: &'a [u8],
    /// The whole field in the block, final line end included.
    pub range: Range<usize>,
}

impl<'a> Field<'a> {
    pub fn is(&self, name: &str) -> bool {
        self.name.eq_ignore_ascii_case(name.as_bytes())
    }

    /// The value on one line, without outer blanks.
    pub fn unfolded(&self) -> Cow<'a, [u8]> {
        unfold(self.value)
    }

    fn at(block: &'a [u8], start: usize) -> Field<'a> {
        let end = field_end(block, start);
        let line = &block[start..end];
        let text = line.strip_suffix(b"\n").map_or(line, |l| l.strip_suffix(b"\r").unwrap_or(l));
        match memchr(b':', text) {
            // Blanks before the colon are the obsolete form of RFC 5322 section 4.5.
            Some(colon) if is_field_name(without_blanks_at_end(&text[..colon])) => {
                Field { name: without_blanks_at_end(&text[..colon]), value: &text[colon + 1..], range: start..end }
            }
            _ => Field { name: &[], value: text, range: start..end },
        }
    }
}

/// Walks over the fields of `block` up to its end or its first empty line.
pub fn fields(block: &[u8]) -> Fields<'_> {
    Fields { block, at: 0 }
}

#[derive(Clone, Debug)]
pub struct Fields<'a> {
    block: &'a [u8],
    at: usize,
}

impl<'a> Iterator for Fields<'a> {
    type Item = Field<'a>;

    fn next(&mut self) -> Option<Field<'a>> {
        let rest = &self.block[self.at..];
        if rest.is_empty() || rest.starts_with(b"\r\n") || rest.starts_with(b"\n") {
            return None;
        }
        let field = Field::at(self.block, self.at);
        self.at = field.range.end;
        Some(field)
    }
}

/// Walks over the fields of one name (in any case), without looking into the others.
pub fn fields_named<'a, 'n>(block: &'a [u8], name: &'n str) -> FieldsNamed<'a, 'n> {
    FieldsNamed { block, at: 0, name: name.as_bytes() }
}

#[derive(Clone, Debug)]
pub struct FieldsNamed<'a, 'n> {
    block: &'a [u8],
    at: usize,
    name: &'n [u8],
}

impl<'a> Iterator for FieldsNamed<'a, '_> {
    type Item = Field<'a>;

    /// A line that continues a field begins with a blank and so never has a name: every line may be tried.
    fn next(&mut self) -> Option<Field<'a>> {
        while self.at < self.block.len() {
            let start = self.at;
            let line = &self.block[start..];
            if is_named(line, self.name) {
                let field = Field::at(self.block, start);
                self.at = field.range.end;
                return Some(field);
            }
            if line.starts_with(b"\r\n") || line.starts_with(b"\n") {
                break;
            }
            self.at = memchr(b'\n', line).map_or(self.block.len(), |len| start + len + 1);
        }
        self.at = self.block.len();
        None
    }
}

pub(crate) fn is_named(line: &[u8], name: &[u8]) -> bool {
    let Some((start, rest)) = line.split_at_checked(name.len()) else { return false };
    match rest.first() {
        Some(b':' | b' ' | b'\t') if !name.is_empty() && start.eq_ignore_ascii_case(name) => {
            rest.iter().find(|&&byte| byte != b' ' && byte != b'\t') == Some(&b':')
        }
        _ => false,
    }
}

/// Where the field that begins at `start` ends, final line end included.
fn field_end(block: &[u8], start: usize) -> usize {
    let mut at = start;
    while let Some(len) = memchr(b'\n', &block[at..]) {
        at += len + 1;
        if !matches!(block.get(at), Some(b' ' | b'\t')) {
            return at;
        }
    }
    block.len()
}

/// A name without the blanks that may stand before its colon. A CR is none: a line with one there is no field.
pub(crate) fn without_blanks_at_end(name: &[u8]) -> &[u8] {
    let end = name.iter().rposition(|&byte| !is_blank(byte)).map_or(0, |last| last + 1);
    &name[..end]
}

/// Whether `name` may stand before a colon (RFC 5322 section 3.6.8, and short enough for a line).
pub fn is_field_name(name: &[u8]) -> bool {
    (1..=NAME_LEN_MAX).contains(&name.len()) && name.iter().all(|&byte| (33..=126).contains(&byte) && byte != b':')
}

/// A raw value on one line: line ends taken out, outer blanks trimmed. Borrowed where there is no fold.
pub fn unfold(raw: &[u8]) -> Cow<'_, [u8]> {
    let value = raw.trim_ascii();
    if memchr(b'\n', value).is_none() {
        return Cow::Borrowed(value);
    }
    let mut out = Vec::with_capacity(value.len());
    for line in value.split(|&byte| byte == b'\n') {
        out.extend_from_slice(line.strip_suffix(b"\r").unwrap_or(line));
    }
    Cow::Owned(out)
}

/// Appends `name: value` CRLF to `out`, as one field whatever `value` holds.
///
/// Line ends in the value become folds (the blanks that follow one are kept), NULs are dropped. Lines longer than `fold_at` are folded before blanks;
/// one of more than 998 octets without blanks is broken by force, between UTF-8 characters, since no next hop need take it.
pub fn write_field(out: &mut Vec<u8>, name: &str, value: &[u8], fold_at: usize) -> Result<(), HeaderError> {
    if !is_field_name(name.as_bytes()) {
        return Err(HeaderError::Name);
    }
    let mut line_start = out.len();
    out.extend_from_slice(name.as_bytes());
    out.push(b':');
    let value = without_nul(value);
    let mut first = true;
    for segment in value.split(|&byte| byte == b'\r' || byte == b'\n') {
        let segment = segment.trim_ascii_end();
        let text = segment.trim_ascii_start();
        if text.is_empty() {
            continue; // an empty continuation line could be taken for the end of the header block
        }
        if first {
            if out.len() - line_start < LINE_LEN_MAX {
                out.push(b' ');
            }
            write_folded(out, &mut line_start, text, fold_at, LINE_LEN_MAX);
        } else {
            out.extend_from_slice(b"\r\n");
            line_start = out.len();
            if !is_blank(segment[0]) {
                out.push(b' ');
            }
            write_folded(out, &mut line_start, segment, fold_at, LINE_LEN_MAX);
        }
        first = false;
    }
    out.extend_from_slice(b"\r\n");
    Ok(())
}

/// Appends `text`, which has no line ends and no blanks at its end, to the line that began at `line_start`. Lines aim for
/// `fold_at` octets and never have more than `len_max`.
pub(crate) fn write_folded(out: &mut Vec<u8>, line_start: &mut usize, text: &[u8], fold_at: usize, len_max: usize) {
    let len_max = len_max.clamp(80, LINE_LEN_MAX);
    let fold_at = fold_at.clamp(20, len_max);
    let mut rest = text;
    loop {
        let used = out.len() - *line_start;
        if used + rest.len() <= fold_at || rest.is_empty() {
            break;
        }
        let room = fold_at.saturating_sub(used).min(rest.len());
        let room_max = len_max.saturating_sub(used).min(rest.len());
        // A fold stands before a blank, with more than blanks on both sides of it.
        let ink = rest.iter().position(|byte| !byte.is_ascii_whitespace()).unwrap_or(rest.len());
        let mut before_room = (ink + 1..room).rev();
        let mut beyond_room = (room.max(ink + 1)..room_max).filter(|&at| is_blank(rest[at]));
        let cut = match before_room.find(|&at| is_blank(rest[at])).or_else(|| beyond_room.next()) {
            Some(at) => at,
            None if used + rest.len() <= len_max => break,
            None if room_max == 0 => 0, // nothing of this line but the name fits
            None if ink >= room_max => {
                // A line of blanks only must not be: they go, but for the one that makes this line a continuation.
                rest = &rest[room_max..];
                if used == 0 {
                    out.push(b' ');
                }
                continue;
            }
            None => char_boundary_before(rest, room_max),
        };
        out.extend_from_slice(&rest[..cut]);
        rest = &rest[cut..];
        out.extend_from_slice(b"\r\n");
        *line_start = out.len();
        if !is_blank(rest[0]) {
            out.push(b' ');
        }
    }
    out.extend_from_slice(rest);
}

fn without_nul(value: &[u8]) -> Cow<'_, [u8]> {
    match memchr(0, value) {
        None => Cow::Borrowed(value),
        Some(_) => value.iter().copied().filter(|&byte| byte != 0).collect(),
    }
}

pub(crate) fn is_blank(byte: u8) -> bool {
    byte == b' ' || byte == b'\t'
}

/// The largest index up to `at` that does not stand inside a UTF-8 character; `at` itself where the bytes are none.
pub(crate) fn char_boundary_before(bytes: &[u8], at: usize) -> usize {
    (at.saturating_sub(3)..=at)
        .rev()
        .find(|&i| i > 0 && bytes.get(i).is_none_or(|byte| byte & 0xc0 != 0x80))
        .unwrap_or(at)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn written(name: &str, value: &[u8], fold_at: usize) -> String {
        let mut out = Vec::new();
        write_field(&mut out, name, value, fold_at).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn walks_over_fields_folds_and_lines_that_are_none() {
        let block = b"From x\r\nA: 1\r\nB : 2\r\n\t3 \r\nno colon\r\nc:\nD: last";
        let found: Vec<_> = fields(block).map(|f| (f.name, f.value, &block[f.range])).collect();
        assert_eq!(
            found,
            [
                (&b""[..], &b"From x"[..], &b"From x\r\n"[..]),
                (b"A", b" 1", b"A: 1\r\n"),
                (b"B", b" 2\r\n\t3 ", b"B : 2\r\n\t3 \r\n"),
                (b"", b"no colon", b"no colon\r\n"),
                (b"c", b"", b"c:\n"),
                (b"D", b" last", b"D: last"),
            ]
        );
        assert_eq!(fields_named(block, "b").map(|f| f.unfolded().into_owned()).collect::<Vec<_>>(), [b"2\t3"]);
        assert_eq!(fields_named(block, "").count(), 0);
    }

    #[test]
    fn a_look_up_does_not_see_folds_prefixes_or_the_body() {
        let block = b"X-Subject: no\r\nX:\r\n Subject: no\r\nSubject-X: no\r\nSUBJECT\t: yes\r\n\r\nSubject: body\r\n";
        let found: Vec<_> = fields_named(block, "Subject").map(|f| f.unfolded()).collect();
        assert_eq!(found, [&b"yes"[..]]);
    }

    #[test]
    fn a_value_never_becomes_a_second_field() {
        for (value, expected) in [
            ("a\r\nBcc: x", "X: a\r\n Bcc: x\r\n"),
            ("a\nBcc: x\r\r\n", "X: a\r\n Bcc: x\r\n"),
            ("a\r\n\tb", "X: a\r\n\tb\r\n"),
            ("\r\n\r\nbody", "X: body\r\n"),
            ("a\r\n \r\n\r\nbody", "X: a\r\n body\r\n"),
            ("", "X:\r\n"),
            ("a\0b", "X: ab\r\n"),
        ] {
            assert_eq!(written("X", value.as_bytes(), FOLD_AT), expected, "{value:?}");
        }
    }

    #[test]
    fn names_are_visible_ascii_without_colon() {
        let long = "n".repeat(NAME_LEN_MAX);
        for good in ["X", "X-A_b!", long.as_str()] {
            assert!(is_field_name(good.as_bytes()), "{good}");
        }
        let longer = "n".repeat(NAME_LEN_MAX + 1);
        for bad in ["", "X Y", "X:", "X\r\n", "é", longer.as_str()] {
            assert_eq!(write_field(&mut Vec::new(), bad, b"v", FOLD_AT), Err(HeaderError::Name), "{bad}");
        }
    }

    #[test]
    fn long_values_fold_at_blanks_and_unfold_to_the_same() {
        let value = "word ".repeat(60);
        let text = written("Subject", value.as_bytes(), FOLD_AT);
        assert!(text.lines().count() > 3);
        assert!(text.lines().all(|line| line.len() <= FOLD_AT), "{text}");
        let field = fields(text.as_bytes()).next().unwrap();
        assert_eq!(field.unfolded(), value.trim().as_bytes());
    }

    #[test]
    fn a_word_without_blanks_is_broken_only_at_998() {
        let text = written("X", "w".repeat(990).as_bytes(), FOLD_AT);
        assert_eq!(text.lines().count(), 1);
        let text = written("X", "é".repeat(1500).as_bytes(), FOLD_AT);
        assert!(text.split("\r\n").all(|line| line.len() <= LINE_LEN_MAX));
        assert_eq!(text.lines().count(), 4);
        let text = written(&"n".repeat(NAME_LEN_MAX), b"value", FOLD_AT);
        assert!(text.split("\r\n").all(|line| line.len() <= LINE_LEN_MAX), "{text}");
        assert_eq!(fields(text.as_bytes()).next().unwrap().unfolded(), &b"value"[..]);
    }

    /// A run of blanks as long as a line once was dropped whole, and what followed began a line of its own.
    #[test]
    fn blanks_before_a_name_do_not_make_it_a_field() {
        for blanks in 0..2200 {
            for blank in [" ", "\t", "\x0c"] {
                let value = format!("a{}Bcc: x", blank.repeat(blanks));
                for value in
                    [value.as_str(), &value.replacen('a', "a ", 1), &value[1..], &format!("a\r\n {}", &value[1..])]
                {
                    let text = written("X", value.as_bytes(), FOLD_AT);
                    assert_eq!(fields(text.as_bytes()).count(), 1, "{blanks} {blank:?}");
                }
            }
        }
    }

    fn piece() -> impl Strategy<Value = Vec<u8>> {
        prop_oneof![
            Just(b" ".to_vec()),
            Just(b"\r".to_vec()),
            Just(b"\n".to_vec()),
            Just(b"\t:".to_vec()),
            (any::<u8>(), 0..1200_usize).prop_map(|(byte, count)| vec![byte; count]),
            proptest::collection::vec(any::<u8>(), 0..20),
        ]
    }

    proptest! {
        #[test]
        fn any_value_is_one_field_of_short_lines(pieces in proptest::collection::vec(piece(), 0..40), fold_at in 0..1200_usize) {
            let value = pieces.concat();
            let mut out = Vec::new();
            write_field(&mut out, "X-Name", &value, fold_at).unwrap();
            prop_assert_eq!(fields(&out).count(), 1);
            prop_assert_eq!(fields_named(&out, "x-name").count(), 1);
            prop_assert!(out.ends_with(b"\r\n"));
            let mut lines = out[..out.len() - 2].split(|&b| b == b'\n');
            prop_assert!(lines.all(|line| line.len() <= LINE_LEN_MAX + 1 && line.iter().any(|&b| !b" \t\r".contains(&b))));
        }

        #[test]
        fn the_fields_of_any_block_cover_it(block in proptest::collection::vec(
            prop_oneof![Just(b' '), Just(b'\r'), Just(b'\n'), Just(b':'), Just(b'a'), any::<u8>()], 0..300))
        {
            let mut at = 0;
            for field in fields(&block) {
                prop_assert_eq!(field.range.start, at);
                at = field.range.end;
            }
            prop_assert!(at == block.len() || block[at..].starts_with(b"\n") || block[at..].starts_with(b"\r\n"));
        }
    }
}
