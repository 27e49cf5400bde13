//! Mail beyond seven bits for a peer without 8BITMIME (RFC 6152 section 3): re-encoding, or stripping the high bit.
//!
//! Only the leaf parts that have such octets are re-encoded; the rest of the message stays as it is. What lies inside a
//! `multipart/signed` is never touched, since that would break its signature, and neither is a part whose encoding is
//! unknown or a lie. Header octets cannot be mended here. What is left is reported, and the caller decides.

use crate::content::{Body, Content};
use crate::header::fields_named;
use crate::mime::{MimeTree, Part};
use crate::transfer::{Lines, TransferEncoding, base64_encode, quoted_printable_encode};
use std::io;
use std::ops::Range;

/// What came of `transform_8bit`.
#[derive(Clone, Debug)]
pub struct SevenBit {
    pub content: Content,
    /// Parts that were re-encoded.
    pub parts_encoded: usize,
    /// Why octets above 127 are left, if any are: the first cause found.
    pub left: Option<EightBitLeft>,
}

/// Where octets above 127 had to stay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EightBitLeft {
    /// In a header field, of the message or of a part.
    Headers,
    /// In signed content.
    Signed,
    /// In a part of unknown or contradictory encoding, or outside of any part.
    Unparsable,
}

/// Re-encodes what needs it. A message in seven bits comes back as it is. Reads an external body whole (blocking).
pub fn transform_8bit(content: &Content) -> io::Result<SevenBit> {
    if !content.is_eight_bit()? {
        return Ok(SevenBit { content: content.clone(), parts_encoded: 0, left: None });
    }
    let tree = MimeTree::parse(content)?;
    let mut edits = Edits::default();
    let mut left = None;
    for (at, part) in tree.parts().iter().enumerate() {
        let is_container = part.boundary.is_some() || tree.children(at).next().is_some();
        if !tree.headers(part).is_ascii() {
            left = left.or(Some(EightBitLeft::Headers));
        }
        if tree.body(part).is_ascii() {
            continue;
        }
        if tree.is_inside(at, "multipart/signed") {
            left = left.or(Some(EightBitLeft::Signed));
        } else if is_container {
            edits.declare(&tree, part, TransferEncoding::SevenBit, false);
            if gaps_are_eight_bit(&tree, at) {
                left = left.or(Some(EightBitLeft::Unparsable));
            }
        } else if let Some(encoding) = encoding_for(&tree, part) {
            let body = tree.body(part);
            let encoded = match encoding {
                TransferEncoding::Base64 => without_last_line_end(base64_encode(body), part, &tree),
                _ => quoted_printable_encode(body, Lines::Text),
            };
            edits.declare(&tree, part, encoding, true);
            edits.replace(part.body.clone(), encoded);
            edits.parts_encoded += 1;
        } else {
            left = left.or(Some(EightBitLeft::Unparsable));
        }
    }
    if edits.parts_encoded == 0 {
        return Ok(SevenBit { content: content.clone(), parts_encoded: 0, left });
    }
    let parts_encoded = edits.parts_encoded;
    // Containers are declared seven-bit only if they now are.
    if left.is_some_and(|left| left != EightBitLeft::Headers) {
        edits.edits.retain(|edit| !edit.container);
    }
    Ok(SevenBit { content: edits.apply(content, &tree)?, parts_encoded, left })
}

/// Clears the high bit of every octet: what `transform_8bitmime_content = strip` asks for. Reads an external body whole.
pub fn strip_high_bits(content: &Content) -> io::Result<Content> {
    if !content.is_eight_bit()? {
        return Ok(content.clone());
    }
    let strip = |bytes: &[u8]| -> Vec<u8> { bytes.iter().map(|byte| byte & 0x7f).collect() };
    let body = content.body().to_bytes()?;
    Ok(Content::new(strip(content.head()).into(), Body::Memory(strip(&body).into())))
}

/// The encoding for a leaf with octets above 127; `None` when it must stay as it is.
fn encoding_for(tree: &MimeTree, part: &Part) -> Option<TransferEncoding> {
    use TransferEncoding::{Base64, Binary, EightBit, QuotedPrintable, SevenBit};
    // RFC 2046 section 5.2 and RFC 6532 forbid an encoding on message/rfc822 and its kin.
    let may_encode = part.content_type.main() != "message" && !part.content_type.is_multipart();
    if !may_encode || !matches!(part.encoding, Some(SevenBit | EightBit | Binary)) {
        return None;
    }
    let body = tree.body(part);
    let beyond = body.iter().filter(|byte| !byte.is_ascii()).count();
    Some(if part.content_type.is_text() && beyond * 3 <= body.len() { QuotedPrintable } else { Base64 })
}

/// Octets above 127 in what lies before a multipart's first part or behind its last one.
fn gaps_are_eight_bit(tree: &MimeTree, at: usize) -> bool {
    let part = &tree.parts()[at];
    let Some(delimited) = &part.delimited else {
        return part.boundary.is_some(); // a multipart without a part
    };
    let parts_end = tree.children(at).last().map_or(0, |last| tree.parts()[last].body.end);
    let gaps = [part.body.start..delimited.start, delimited.end.max(parts_end)..part.body.end];
    gaps.iter().any(|gap| gap.start < gap.end && !tree.slice(gap).is_ascii())
}

/// Base64 ends in a line end; in a multipart the delimiter brings its own.
fn without_last_line_end(mut encoded: Vec<u8>, part: &Part, tree: &MimeTree) -> Vec<u8> {
    if part.parent.is_some_and(|parent| tree.parts()[parent].boundary.is_some()) {
        encoded.truncate(encoded.len().saturating_sub(2));
    }
    encoded
}

#[derive(Default)]
struct Edits {
    edits: Vec<Edit>,
    parts_encoded: usize,
}

struct Edit {
    range: Range<usize>,
    with: Vec<u8>,
    container: bool,
}

impl Edits {
    fn replace(&mut self, range: Range<usize>, with: Vec<u8>) {
        self.edits.push(Edit { range, with, container: false });
    }

    /// Makes a part's header say its new encoding. A leaf without the field gets one; a container only loses a wrong one.
    fn declare(&mut self, tree: &MimeTree, part: &Part, encoding: TransferEncoding, leaf: bool) {
        let field = format!("Content-Transfer-Encoding: {}\r\n", encoding.name());
        let start = part.headers.start;
        let old = fields_named(tree.headers(part), "Content-Transfer-Encoding").next();
        let container = !leaf;
        match old {
            Some(old) => {
                let range = start + old.range.start..start + old.range.end;
                self.edits.push(Edit { range, with: field.into_bytes(), container });
            }
            None if leaf => {
                let mut added = undeclared_type(tree, part) + &field;
                // A part that began without a header has no blank line either.
                if part.headers.end == part.body.start {
                    added.push_str("\r\n");
                }
                self.edits.push(Edit {
                    range: part.headers.end..part.headers.end,
                    with: added.into_bytes(),
                    container,
                });
            }
            None => {}
        }
    }

    fn apply(mut self, content: &Content, tree: &MimeTree) -> io::Result<Content> {
        self.edits.sort_by_key(|edit| (edit.range.start, edit.range.end));
        let (head, body) = (content.head(), content.body().to_bytes()?);
        let (mut new_head, mut new_body) =
            (Vec::with_capacity(head.len() + 128), Vec::with_capacity(body.len() * 4 / 3));
        let head_len = head.len();
        let mut at = 0;
        let mut copy_to = |end: usize, with: &[u8], next: usize, in_head: bool| {
            // The first edit of the body comes after all of the head.
            if at < head_len {
                new_head.extend_from_slice(&head[at..end.min(head_len)]);
            }
            if end > head_len {
                new_body.extend_from_slice(&body[at.max(head_len) - head_len..end - head_len]);
            }
            if in_head {
                new_head.extend_from_slice(with)
            } else {
                new_body.extend_from_slice(with)
            }
            at = next;
        };
        for edit in &self.edits {
            let in_head = edit.range.start < head_len || edit.range.end <= tree.root().headers.end;
            copy_to(edit.range.start, &edit.with, edit.range.end, in_head);
        }
        copy_to(head_len + body.len(), b"", head_len + body.len(), false);
        Ok(Content::new(new_head.into(), Body::Memory(new_body.into())))
    }
}

/// Fields that a message needs before it may have an encoded body: its version, and a type that says what the octets are.
fn undeclared_type(tree: &MimeTree, part: &Part) -> String {
    let mut out = String::new();
    if part.parent.is_none() && tree.field(part, "MIME-Version").is_none() {
        out.push_str("MIME-Version: 1.0\r\n");
    }
    if tree.field(part, "Content-Type").is_none() {
        let is_utf8 = std::str::from_utf8(tree.body(part)).is_ok();
        let label = if is_utf8 { "utf-8" } else { "unknown-8bit" };
        out.push_str(&format!("Content-Type: text/plain; charset={label}\r\n"));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use proptest::prelude::*;

    fn content(raw: &[u8]) -> Content {
        Content::parse(Bytes::copy_from_slice(raw))
    }

    fn transformed(raw: &[u8]) -> (String, usize, Option<EightBitLeft>) {
        let result = transform_8bit(&content(raw)).unwrap();
        let text = String::from_utf8_lossy(&result.content.to_bytes().unwrap()).into_owned();
        (text, result.parts_encoded, result.left)
    }

    #[test]
    fn seven_bits_stay_untouched() {
        let original = content(b"Content-Transfer-Encoding: 8bit\r\n\r\nplain\r\n");
        let result = transform_8bit(&original).unwrap();
        assert_eq!(result.content.body().memory().unwrap().as_ptr(), original.body().memory().unwrap().as_ptr());
        assert_eq!((result.parts_encoded, result.left), (0, None));
    }

    #[test]
    fn a_plain_message_becomes_quoted_printable() {
        let raw = "Subject: x\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\ncafé = good\r\n";
        let (text, parts, left) = transformed(raw.as_bytes());
        assert_eq!(text, raw.replace("8bit", "quoted-printable").replace("café =", "caf=C3=A9 =3D"));
        assert_eq!((parts, left), (1, None));
    }

    #[test]
    fn a_message_without_mime_fields_gets_them() {
        let (text, parts, left) = transformed("Subject: x\r\n\r\ncafé = good\r\n".as_bytes());
        assert_eq!(
            text,
            "Subject: x\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n\
             Content-Transfer-Encoding: quoted-printable\r\n\r\ncaf=C3=A9 =3D good\r\n"
        );
        assert_eq!((parts, left), (1, None));
        let (text, ..) = transformed(b"Subject: x\r\n\r\nmany good words, caf\xe9\r\n");
        assert!(text.contains("charset=unknown-8bit\r\n"), "{text}");
        let (text, ..) = transformed("no header é, some words\r\n".as_bytes());
        assert!(
            text.starts_with("MIME-Version: 1.0\r\n") && text.ends_with("\r\n\r\nno header =C3=A9, some words\r\n"),
            "{text}"
        );
    }

    #[test]
    fn only_the_parts_concerned_change() {
        let raw = "MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\nContent-Transfer-Encoding: 8bit\r\n\r\n\
            --b\r\nContent-Type: text/plain\r\n\r\nplain = plain\r\n--b\r\n\r\nsome words é\r\n--b\r\n\
            Content-Type: image/x\r\ncontent-transfer-encoding: binary\r\n\r\né\r\n--b--\r\n";
        let (text, parts, left) = transformed(raw.as_bytes());
        let expected = raw
            .replace("Encoding: 8bit", "Encoding: 7bit")
            .replace("--b\r\n\r\nsome words é", "--b\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\nsome words =C3=A9")
            .replace("content-transfer-encoding: binary\r\n\r\né", "Content-Transfer-Encoding: base64\r\n\r\nw6k=");
        assert_eq!(text, expected);
        assert_eq!((parts, left), (2, None));
    }

    #[test]
    fn a_forwarded_message_is_mended_inside() {
        let raw = "Content-Type: message/rfc822\r\nContent-Transfer-Encoding: 8bit\r\n\r\nContent-Type: text/plain\r\n\r\nsome words é\r\n";
        let (text, parts, left) = transformed(raw.as_bytes());
        assert_eq!(
            text,
            "Content-Type: message/rfc822\r\nContent-Transfer-Encoding: 7bit\r\n\r\nContent-Type: text/plain\r\n\
             Content-Transfer-Encoding: quoted-printable\r\n\r\nsome words =C3=A9\r\n"
        );
        assert_eq!((parts, left), (1, None));
    }

    #[test]
    fn what_cannot_be_mended_stays_and_is_reported() {
        let signed =
            "Content-Type: multipart/signed; boundary=b\r\n\r\n--b\r\n\r\né words words\r\n--b\r\n\r\nsig\r\n--b--\r\n";
        let unknown = "Content-Transfer-Encoding: x-uue\r\n\r\né words\r\n";
        let lie = "Content-Transfer-Encoding: base64\r\n\r\né words\r\n";
        let gap = "Content-Type: multipart/mixed; boundary=b\r\n\r\né\r\n--b\r\n\r\nx\r\n--b--\r\n";
        let empty = "Content-Type: multipart/mixed; boundary=b\r\n\r\né\r\n";
        for (raw, why) in [
            (signed, EightBitLeft::Signed),
            (unknown, EightBitLeft::Unparsable),
            (lie, EightBitLeft::Unparsable),
            (gap, EightBitLeft::Unparsable),
            (empty, EightBitLeft::Unparsable),
            ("Subject: é\r\n\r\nplain\r\n", EightBitLeft::Headers),
        ] {
            assert_eq!(transformed(raw.as_bytes()), (raw.into(), 0, Some(why)), "{raw}");
        }
    }

    #[test]
    fn stripping_clears_the_high_bit() {
        let stripped = strip_high_bits(&content(b"A: \xe9\r\n\r\n\xe9\r\n")).unwrap();
        assert_eq!(&stripped.to_bytes().unwrap()[..], b"A: i\r\n\r\ni\r\n");
    }

    fn message() -> impl Strategy<Value = String> {
        let piece = prop_oneof![
            Just("--a\r\n"),
            Just("--b\r\n"),
            Just("--a--\r\n"),
            Just("\r\n"),
            Just("text\r\n"),
            Just("é"),
            Just("words words "),
            Just("Content-Type: multipart/mixed; boundary=a\r\n"),
            Just("Content-Type: multipart/signed; boundary=\"b\"\r\n"),
            Just("Content-Type: message/rfc822\r\n"),
            Just("Content-Transfer-Encoding: 8bit\r\n"),
            Just("Content-Transfer-Encoding: base64\r\n"),
        ];
        proptest::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #[test]
        fn either_all_is_seven_bit_or_it_says_why(raw in message()) {
            let original = content(raw.as_bytes());
            let result = transform_8bit(&original).unwrap();
            prop_assert_eq!(result.content.is_eight_bit().unwrap(), result.left.is_some());
            if result.left.is_none() {
                // The texts that a reader sees are the same.
                let texts = |content: &Content| -> Vec<_> {
                    let tree = MimeTree::parse(content).unwrap();
                    tree.parts().iter().filter_map(|part| tree.text(part)).collect()
                };
                prop_assert_eq!(texts(&original), texts(&result.content));
            }
        }
    }
}
