//! Writes a new MIME message: parts in, bytes out (RFC 2045, RFC 2046, RFC 2183, RFC 2231).
//!
//! Pure: ids and time come from the caller, who also writes the header fields of the message itself. What goes in comes out again
//! octet for octet for whoever decodes it, whatever it holds: boundaries occur nowhere in the parts, no value of a caller can begin
//! a header field or a part, and an attached message is never encoded (RFC 2046 section 5.2.1).

use crate::charset::{self, EncodeError};
use crate::content::{Body, Content};
use crate::content_type::ContentType;
use crate::encoded_word;
use crate::header::{FOLD_AT, HeaderError, fields, is_field_name, write_field};
use crate::header_check::fix_line_ends;
use crate::transfer::{Lines, TransferEncoding, base64_encode, quoted_printable_encode};
use memchr::memmem;
use std::borrow::Cow;

/// RFC 5322 section 2.1.1, without the line end.
const LINE_LEN_MAX: usize = 998;
/// A file name is cut to this many octets.
const FILENAME_LEN_MAX: usize = 255;

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ComposeError {
    #[error("'{0}' is no media type of a single part")]
    MediaType(String),
    #[error("header fields expected, each on a line of its own")]
    Fields,
    #[error(transparent)]
    Name(#[from] HeaderError),
    #[error("unknown charset '{0}'")]
    Charset(String),
}

/// One part of a message to be.
#[derive(Clone, Debug)]
pub enum Part<'a> {
    Leaf(Leaf<'a>),
    /// `multipart/SUBTYPE`.
    Multipart(&'static str, Vec<Part<'a>>),
}

/// A part with content of its own.
#[derive(Clone, Debug)]
pub struct Leaf<'a> {
    /// The value of Content-Type, without what `filename` adds.
    kind: Cow<'a, str>,
    encoding: TransferEncoding,
    disposition: Option<&'static str>,
    filename: String,
    /// Further fields, each with its CRLF.
    fields: Vec<u8>,
    /// Encoded already.
    body: Cow<'a, [u8]>,
}

impl<'a> Leaf<'a> {
    /// One of several forms of the same text: shown in place. A text that names no charset is quoted-printable, all others base64.
    pub fn alternative(kind: &'a str, content: &'a [u8]) -> Result<Leaf<'a>, ComposeError> {
        let parsed = media_type(kind)?;
        let content = if parsed.is_text() { fix_line_ends(content) } else { Cow::Borrowed(content) };
        let (encoding, body) = if parsed.is_text() && parsed.param("charset").is_none() {
            (TransferEncoding::QuotedPrintable, quoted_printable_encode(&content, Lines::Text))
        } else {
            (TransferEncoding::Base64, base64_encode(&content))
        };
        let kind = with_charset(kind, &parsed, &content);
        Ok(Leaf { disposition: Some("inline"), ..Leaf::new(kind, encoding, Cow::Owned(body)) })
    }

    /// A text in a charset, by default the least that it needs; one that lacks characters of it gives way to UTF-8.
    pub fn text(text: &str, charset: Option<&str>) -> Result<Leaf<'static>, ComposeError> {
        let text = match fix_line_ends(text.as_bytes()) {
            Cow::Borrowed(_) => Cow::Borrowed(text),
            Cow::Owned(fixed) => Cow::Owned(String::from_utf8_lossy(&fixed).into_owned()),
        };
        let least = if text.is_ascii() { "us-ascii" } else { "utf-8" };
        let label = charset.map_or(least, str::trim);
        let is_token = !label.is_empty() && label.bytes().all(is_token);
        let (label, bytes) = match charset::encode(label, &text) {
            Ok(bytes) if is_token => (label, bytes),
            Err(EncodeError::Unmappable) => ("utf-8", Cow::Borrowed(text.as_bytes())),
            Ok(_) | Err(EncodeError::UnknownCharset) => return Err(ComposeError::Charset(label.to_owned())),
        };
        let kind = format!("text/plain; charset={}", label.to_ascii_lowercase());
        let (encoding, body) = if is_plain(&bytes) {
            (TransferEncoding::SevenBit, bytes.into_owned())
        } else {
            (TransferEncoding::QuotedPrintable, quoted_printable_encode(&bytes, Lines::Text))
        };
        Ok(Leaf::new(kind.into(), encoding, Cow::Owned(body)))
    }

    /// A file. `name` may be a path: its last element counts. `further` holds header fields of the part, line by line; its own
    /// type and encoding are not among them.
    pub fn attachment(
        kind: &'a str,
        name: &str,
        further: &[u8],
        content: &'a [u8],
        encoding: TransferEncoding,
    ) -> Result<Leaf<'a>, ComposeError> {
        let parsed = media_type(kind)?;
        let (fields, has_disposition) = further_fields(further)?;
        let leaf = if parsed.main() == "message" && has_short_lines(content) {
            Leaf::new(kind.into(), identity(content), Cow::Borrowed(content))
        } else if encoding == TransferEncoding::Base64 || parsed.main() == "message" {
            Leaf::new(kind.into(), TransferEncoding::Base64, Cow::Owned(base64_encode(content)))
        } else {
            let (content, lines) = match parsed.is_text() {
                true => (fix_line_ends(content), Lines::Text),
                false => (Cow::Borrowed(content), Lines::Binary),
            };
            let body = quoted_printable_encode(&content, lines);
            let kind = with_charset(kind, &parsed, &content);
            Leaf::new(kind, TransferEncoding::QuotedPrintable, Cow::Owned(body))
        };
        let disposition = (!has_disposition).then_some("attachment");
        Ok(Leaf { disposition, filename: last_element(name), fields, ..leaf })
    }

    /// A whole message, as it stands.
    pub fn message(raw: &'a [u8], name: &str) -> Leaf<'a> {
        let leaf = Leaf::new("message/rfc822".into(), identity(raw), Cow::Borrowed(raw));
        Leaf { disposition: Some("attachment"), filename: last_element(name), ..leaf }
    }

    fn new(kind: Cow<'a, str>, encoding: TransferEncoding, body: Cow<'a, [u8]>) -> Leaf<'a> {
        Leaf { kind, encoding, disposition: None, filename: String::new(), fields: Vec::new(), body }
    }

    fn is_encoded(&self) -> bool {
        matches!(self.encoding, TransferEncoding::Base64 | TransferEncoding::QuotedPrintable)
    }

    fn write_header(&self, out: &mut Vec<u8>) {
        let mut field = |name: &str, value: &str| {
            write_field(out, name, value.as_bytes(), FOLD_AT).expect("the names are good");
        };
        let has_name = ContentType::parse(self.kind.as_bytes()).param("name").is_some();
        let name = if has_name { String::new() } else { parameter("name", &self.filename) };
        field("Content-Type", &format!("{}{name}", self.kind));
        if self.encoding != TransferEncoding::SevenBit {
            field("Content-Transfer-Encoding", self.encoding.name());
        }
        if let Some(disposition) = self.disposition {
            field("Content-Disposition", &format!("{disposition}{}", parameter("filename", &self.filename)));
        }
        out.extend_from_slice(&self.fields);
    }
}

/// The whole message. `head` holds its fields, each with its CRLF; those of MIME are added. Of `seed` the boundaries are made: text
/// that differs from message to message.
pub fn compose(mut head: Vec<u8>, root: &Part<'_>, seed: &str) -> Content {
    let seed: String = seed.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '.' }).take(40).collect();
    let mut boundary = format!("=_{seed}");
    let mut nth = 0_u32;
    // Neither base64 nor quoted-printable has "=_" in it.
    while root.any_leaf(&|leaf| !leaf.is_encoded() && memmem::find(&leaf.body, boundary.as_bytes()).is_some()) {
        nth += 1;
        boundary = format!("=_{seed}.{nth}");
    }
    write_field(&mut head, "MIME-Version", b"1.0", FOLD_AT).expect("the name is good");
    let mut body = Vec::with_capacity(root.size());
    root.write_header(&mut head, &boundary, 0);
    root.write_body(&mut body, &boundary, 0);
    head.extend_from_slice(b"\r\n");
    Content::new(head.into(), Body::Memory(body.into()))
}

impl Part<'_> {
    fn any_leaf(&self, test: &impl Fn(&Leaf<'_>) -> bool) -> bool {
        match self {
            Part::Leaf(leaf) => test(leaf),
            Part::Multipart(_, children) => children.iter().any(|child| child.any_leaf(test)),
        }
    }

    fn size(&self) -> usize {
        match self {
            Part::Leaf(leaf) => leaf.body.len() + leaf.fields.len() + 512,
            Part::Multipart(_, children) => children.iter().map(Part::size).sum::<usize>() + 512,
        }
    }

    /// A multipart is never encoded; it is `8bit` when something in it is.
    fn write_header(&self, out: &mut Vec<u8>, boundary: &str, depth: usize) {
        match self {
            Part::Leaf(leaf) => leaf.write_header(out),
            Part::Multipart(subtype, _) => {
                let value = format!("multipart/{subtype}; boundary=\"{}\"", own(boundary, depth));
                write_field(out, "Content-Type", value.as_bytes(), FOLD_AT).expect("the name is good");
                if self.any_leaf(&|leaf| leaf.encoding == TransferEncoding::EightBit) {
                    write_field(out, "Content-Transfer-Encoding", b"8bit", FOLD_AT).expect("the name is good");
                }
            }
        }
    }

    fn write_body(&self, out: &mut Vec<u8>, boundary: &str, depth: usize) {
        match self {
            Part::Leaf(leaf) => out.extend_from_slice(&leaf.body),
            Part::Multipart(_, children) => {
                let delimiter = format!("--{}", own(boundary, depth));
                for (at, child) in children.iter().enumerate() {
                    // The line end before a delimiter belongs to it; the very first one has none to take.
                    out.extend_from_slice(if at == 0 { b"" } else { b"\r\n" });
                    out.extend_from_slice(delimiter.as_bytes());
                    out.extend_from_slice(b"\r\n");
                    child.write_header(out, boundary, depth + 1);
                    out.extend_from_slice(b"\r\n");
                    child.write_body(out, boundary, depth + 1);
                }
                out.extend_from_slice(format!("\r\n{delimiter}--\r\n").as_bytes());
            }
        }
    }
}

/// The boundary of a multipart at a depth. None is the beginning of another.
fn own(boundary: &str, depth: usize) -> String {
    format!("{boundary}_{}", char::from(b'A' + (depth % 26) as u8))
}

fn is_token(byte: u8) -> bool {
    byte.is_ascii_graphic() && !br#"()<>@,;:\"/[]?="#.contains(&byte)
}

/// A media type with parameters, good for a part that is no multipart.
fn media_type(kind: &str) -> Result<ContentType, ComposeError> {
    let value = kind.split(';').next().unwrap_or_default().trim();
    let is_type = value.split_once('/').is_some_and(|(main, sub)| {
        !main.is_empty() && !sub.is_empty() && main.bytes().chain(sub.bytes()).all(is_token)
    });
    let is_printable = kind.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ' || byte == b'\t');
    let parsed = ContentType::parse(kind.as_bytes());
    if is_type && is_printable && !parsed.is_multipart() {
        Ok(parsed)
    } else {
        Err(ComposeError::MediaType(kind.chars().filter(|c| !c.is_control()).take(80).collect()))
    }
}

/// A text beyond ASCII that names no charset is UTF-8, if it is that: no reader could know it otherwise.
fn with_charset<'a>(kind: &'a str, parsed: &ContentType, content: &[u8]) -> Cow<'a, str> {
    let unnamed = parsed.is_text() && parsed.param("charset").is_none();
    if unnamed && !content.is_ascii() && std::str::from_utf8(content).is_ok() {
        return Cow::Owned(format!("{}; charset=utf-8", kind.trim_end_matches([';', ' ', '\t'])));
    }
    Cow::Borrowed(kind)
}

fn has_short_lines(bytes: &[u8]) -> bool {
    let long = |line: &[u8]| line.strip_suffix(b"\r").unwrap_or(line).len() > LINE_LEN_MAX;
    !bytes.contains(&0) && !bytes.split(|&byte| byte == b'\n').any(long)
}

fn is_plain(bytes: &[u8]) -> bool {
    bytes.is_ascii() && has_short_lines(bytes)
}

/// How content that is not to be encoded is declared.
fn identity(bytes: &[u8]) -> TransferEncoding {
    if bytes.is_ascii() { TransferEncoding::SevenBit } else { TransferEncoding::EightBit }
}

/// `; name="value"`, in the form of RFC 2231 for a value beyond ASCII; nothing for no value.
fn parameter(name: &str, value: &str) -> String {
    if value.is_empty() {
        return String::new();
    }
    if value.is_ascii() {
        let quoted = value.replace('\\', "\\\\").replace('"', "\\\"");
        return format!("; {name}=\"{quoted}\"");
    }
    let mut out = format!("; {name}*=utf-8''");
    for byte in value.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

/// The last element of a path, without controls, cut to a length that any file system takes.
fn last_element(path: &str) -> String {
    let name = path.rsplit(['/', '\\']).next().unwrap_or_default();
    let name: String = name.chars().filter(|c| !c.is_control()).collect();
    name[..name.floor_char_boundary(FILENAME_LEN_MAX)].trim().to_owned()
}

/// Whole fields out of lines that a caller gave, the part's own type and encoding left out; and whether a disposition is among them.
fn further_fields(lines: &[u8]) -> Result<(Vec<u8>, bool), ComposeError> {
    let lines = fix_line_ends(lines);
    let mut out = Vec::with_capacity(lines.len() + 2);
    let (mut read, mut has_disposition) = (0, false);
    for field in fields(&lines) {
        if !is_field_name(field.name) {
            return Err(ComposeError::Fields);
        }
        read = field.range.end;
        if field.is("Content-Type") || field.is("Content-Transfer-Encoding") {
            continue;
        }
        has_disposition |= field.is("Content-Disposition");
        let name = std::str::from_utf8(field.name).map_err(|_| ComposeError::Fields)?;
        match std::str::from_utf8(&field.unfolded()) {
            Ok(text) if !text.is_ascii() => {
                write_field(&mut out, name, encoded_word::encode(text, name.len() + 2).as_bytes(), FOLD_AT)?;
            }
            _ => write_field(&mut out, name, field.value, FOLD_AT)?,
        }
    }
    // An empty line would end the part's header.
    if read < lines.len() { Err(ComposeError::Fields) } else { Ok((out, has_disposition)) }
}

#[cfg(test)]
mod tests;
