//! The MIME structure of a message as a tree of byte ranges (RFC 2045, RFC 2046): lossless, lenient, bounded.
//!
//! One pass over the body; nothing is copied, and every octet of the message belongs to a known range, so that an edit of
//! one part leaves all others alone. Parsing never fails: what cannot be understood is the opaque body of its part. A
//! delimiter of an outer multipart ends all that is open inside of it, as RFC 2046 section 5.1.2 asks. Depth and number of
//! parts are limited; beyond the limits, parts are opaque. `forest` edits such trees, `text` writes text into parts.

use crate::charset;
use crate::content::Content;
use crate::content_type::ContentType;
use crate::header::{Field, fields_named, is_field_name, without_blanks_at_end};
use crate::transfer::{TransferEncoding, base64_decode, quoted_printable_decode};
use bytes::Bytes;
use memchr::{memchr, memmem};
use std::borrow::Cow;
use std::io;
use std::ops::Range;

pub use forest::{EditError, MimeForest, PartId, Place};
pub use text::{WrittenText, declare, text_field, write_text};

mod forest;
mod text;

/// How deep parts nest before they are opaque.
pub const DEPTH_MAX: usize = 100;
/// How many parts a tree has at most.
pub const PARTS_MAX: usize = 10_000;
/// RFC 2046 allows 70 characters; senders exceed it.
const BOUNDARY_LEN_MAX: usize = 250;

/// The parts of a message, in document order (depth first): the first is the message itself.
#[derive(Clone, Debug)]
pub struct MimeTree {
    head: Bytes,
    body: Bytes,
    parts: Vec<Part>,
}

/// One part. All ranges are offsets in the whole message.
#[derive(Clone, Debug)]
pub struct Part {
    pub parent: Option<usize>,
    pub depth: usize,
    /// The header fields, without the blank line behind them.
    pub headers: Range<usize>,
    /// All behind the blank line, up to the line end that belongs to the next delimiter.
    pub body: Range<usize>,
    /// Of a multipart: the first octet of its first delimiter line, and the first one behind its last delimiter line.
    pub delimited: Option<Range<usize>>,
    pub content_type: ContentType,
    /// `None`: a transfer encoding that nobody here knows.
    pub encoding: Option<TransferEncoding>,
    /// The boundary of a multipart that was taken apart.
    pub boundary: Option<String>,
    /// Whether its close delimiter was found.
    pub closed: bool,
}

/// What a part is, as policies ask for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartInfo {
    /// In lower case, without parameters.
    pub mimetype: String,
    /// In lower case; `us-ascii` for text that declares none.
    pub charset: Option<String>,
    /// In lower case, as declared.
    pub encoding: String,
    /// The disposition's `filename`, else the type's `name`.
    pub filename: Option<String>,
    pub is_attachment: bool,
}

impl MimeTree {
    /// Takes a message apart. Reads an external body whole (blocking).
    pub fn parse(content: &Content) -> io::Result<MimeTree> {
        Ok(MimeTree::of(content, content.body().to_bytes()?, false))
    }

    /// The same with the body at hand. `in_digest`: without a type of its own, this is a message (RFC 2046 section 5.1.5).
    fn of(content: &Content, body: Bytes, in_digest: bool) -> MimeTree {
        let head = content.head().clone();
        let parts = Parser::new(&head, content.header_block().len(), &body, in_digest).run();
        MimeTree { head, body, parts }
    }

    pub fn parts(&self) -> &[Part] {
        &self.parts
    }

    /// The whole message.
    pub fn root(&self) -> &Part {
        &self.parts[0]
    }

    /// The indices of a part's children.
    pub fn children(&self, parent: usize) -> impl Iterator<Item = usize> {
        let depth = self.parts[parent].depth;
        let inside = self.parts.iter().enumerate().skip(parent + 1).take_while(move |(_, part)| part.depth > depth);
        inside.filter(move |(_, part)| part.depth == depth + 1).map(|(at, _)| at)
    }

    /// Whether a part lies inside (or is) a part of this type, in lower case.
    pub fn is_inside(&self, part: usize, mimetype: &str) -> bool {
        std::iter::successors(Some(part), |&at| self.parts[at].parent)
            .any(|at| self.parts[at].content_type.value == mimetype)
    }

    /// The octets of a range that lies on one side of the end of the header block, as all ranges of a part do.
    pub fn slice(&self, range: &Range<usize>) -> &[u8] {
        match range.start.checked_sub(self.head.len()) {
            Some(start) => self.body.get(start..range.end.saturating_sub(self.head.len())).unwrap_or(&[]),
            None => self.head.get(range.clone()).unwrap_or(&[]),
        }
    }

    /// The same, shared with the tree.
    pub fn bytes(&self, range: &Range<usize>) -> Bytes {
        let bytes = self.slice(range);
        let whole = if range.start >= self.head.len() { &self.body } else { &self.head };
        if bytes.is_empty() { Bytes::new() } else { whole.slice_ref(bytes) }
    }

    /// A part with its header. Shared with the tree, but for the whole message: its header block and body lie apart.
    pub fn raw(&self, part: &Part) -> Bytes {
        match part.parent {
            Some(_) => self.bytes(&(part.headers.start..part.body.end)),
            None if self.head.is_empty() => self.body.clone(),
            None => [&self.head[..], &self.body[..]].concat().into(),
        }
    }

    pub fn headers(&self, part: &Part) -> &[u8] {
        self.slice(&part.headers)
    }

    /// The body as it stands, in its transfer encoding.
    pub fn body(&self, part: &Part) -> &[u8] {
        self.slice(&part.body)
    }

    /// The first field of that name in a part's header.
    pub fn field(&self, part: &Part, name: &str) -> Option<Field<'_>> {
        fields_named(self.headers(part), name).next()
    }

    /// The body without its transfer encoding.
    pub fn decoded(&self, part: &Part) -> Cow<'_, [u8]> {
        let body = self.body(part);
        match part.encoding {
            Some(TransferEncoding::Base64) => Cow::Owned(base64_decode(body)),
            Some(TransferEncoding::QuotedPrintable) => Cow::Owned(quoted_printable_decode(body)),
            _ => Cow::Borrowed(body),
        }
    }

    /// The text of a text part in UTF-8; `None` for other types.
    pub fn text(&self, part: &Part) -> Option<String> {
        if !part.content_type.is_text() {
            return None;
        }
        let label = part.content_type.param("charset").unwrap_or("us-ascii");
        Some(match self.decoded(part) {
            Cow::Borrowed(bytes) => charset::decode_or_utf8(label, bytes).into_owned(),
            Cow::Owned(bytes) => charset::decode_or_utf8(label, &bytes).into_owned(),
        })
    }

    pub fn info(&self, part: &Part) -> PartInfo {
        let disposition = self.field(part, "Content-Disposition");
        let disposition = disposition.map(|field| ContentType::parse_disposition(field.value));
        let filename =
            disposition.as_ref().and_then(|d| d.param("filename")).or_else(|| part.content_type.param("name"));
        let charset = part.content_type.param("charset").map(str::to_ascii_lowercase);
        let encoding = self.field(part, "Content-Transfer-Encoding").map(|field| {
            let value = String::from_utf8_lossy(&field.unfolded()).to_ascii_lowercase();
            value.split(['(', ';']).next().unwrap_or("").trim().to_owned()
        });
        PartInfo {
            mimetype: part.content_type.value.clone(),
            charset: charset.or_else(|| part.content_type.is_text().then(|| "us-ascii".into())),
            encoding: encoding.filter(|name| !name.is_empty()).unwrap_or_else(|| "7bit".into()),
            is_attachment: filename.is_some() || disposition.as_ref().is_some_and(|d| d.value == "attachment"),
            filename: filename.map(str::to_owned),
        }
    }
}

/// One pass over the lines of a message. Offsets are those of the whole message.
struct Parser<'a> {
    head_len: usize,
    body: &'a [u8],
    parts: Vec<Part>,
    /// Parts whose end has not been seen, outermost first.
    open: Vec<Open>,
    /// Where the search for delimiters begins.
    at: usize,
    /// Whether the first part is one of a digest.
    in_digest: bool,
}

struct Open {
    part: usize,
    /// `--boundary` of a multipart whose close delimiter has not been seen.
    delimiter: Option<Vec<u8>>,
}

impl<'a> Parser<'a> {
    fn new(head: &'a [u8], fields_len: usize, body: &'a [u8], in_digest: bool) -> Parser<'a> {
        let mut parser = Parser { head_len: head.len(), body, parts: Vec::new(), open: Vec::new(), at: 0, in_digest };
        if parser.begin(0..fields_len, &head[..fields_len], head.len()) {
            parser.at = parser.headers(0);
        }
        parser
    }

    fn run(mut self) -> Vec<Part> {
        let mut at = self.at;
        while let Some(line) = self.next_delimiter_candidate(at) {
            let end = memchr(b'\n', &self.body[line..]).map_or(self.body.len(), |len| line + len + 1);
            at = match self.delimiter(line, end) {
                Some(Delimiter { level, close }) => self.cross(level, close, line, end),
                None => end,
            };
        }
        let end = self.head_len + self.body.len();
        self.close(0, end);
        self.parts
    }

    /// The next line that begins with `--`, from the beginning of a line on.
    fn next_delimiter_candidate(&self, at: usize) -> Option<usize> {
        if !self.open.iter().any(|open| open.delimiter.is_some()) {
            return None;
        }
        if self.body[at..].starts_with(b"--") {
            return Some(at);
        }
        memmem::find(&self.body[at..], b"\n--").map(|found| at + found + 1)
    }

    fn delimiter(&self, line: usize, end: usize) -> Option<Delimiter> {
        let line = self.body[line..end].trim_ascii_end();
        self.open.iter().enumerate().rev().find_map(|(level, open)| {
            let rest = line.strip_prefix(&open.delimiter.as_ref()?[..])?;
            match rest {
                b"" => Some(Delimiter { level, close: false }),
                b"--" => Some(Delimiter { level, close: true }),
                _ => None,
            }
        })
    }

    /// Ends what is open inside the multipart at `level`; begins its next part, or its epilogue. Gives where to go on.
    fn cross(&mut self, level: usize, close: bool, line: usize, end: usize) -> usize {
        self.close(level + 1, self.head_len + self.before_line_end(line));
        let multipart = self.open[level].part;
        let (line_at, end_at) = (self.head_len + line, self.head_len + end);
        let delimited = self.parts[multipart].delimited.get_or_insert(line_at..end_at);
        delimited.end = end_at;
        if close {
            self.parts[multipart].closed = true;
            self.open[level].delimiter = None;
            return end;
        }
        if self.parts.len() >= PARTS_MAX {
            self.open[level].delimiter = None; // the rest is opaque
            return end;
        }
        self.headers(end)
    }

    /// Reads the header of a part that begins at `start`, and of the message in it if it is one. Gives where its body begins.
    fn headers(&mut self, start: usize) -> usize {
        let mut at = start;
        loop {
            let (fields_end, body_start) = self.header_block(at);
            let fields = &self.body[at..fields_end];
            let nested = self.begin(self.head_len + at..self.head_len + fields_end, fields, self.head_len + body_start);
            at = body_start;
            if !nested {
                return at;
            }
        }
    }

    /// The header block that begins at `start`: the end of its fields, and where the body begins. A delimiter line ends it too.
    fn header_block(&self, start: usize) -> (usize, usize) {
        let mut at = start;
        while at < self.body.len() {
            let end = memchr(b'\n', &self.body[at..]).map_or(self.body.len(), |len| at + len + 1);
            let line = &self.body[at..end];
            if matches!(line, b"\r\n" | b"\n") {
                return (at, end);
            }
            let is_delimiter = line.starts_with(b"--") && self.delimiter(at, end).is_some();
            if is_delimiter || (at == start && !is_field(line)) {
                return (at, at);
            }
            at = end;
        }
        (self.body.len(), self.body.len())
    }

    /// Adds a part whose header is known. True: its body is a message, whose header comes next.
    fn begin(&mut self, headers: Range<usize>, fields: &[u8], body_start: usize) -> bool {
        let parent = self.open.last().map(|open| open.part);
        let depth = self.open.len();
        let value = |name| fields_named(fields, name).next().map(|field| field.value);
        let content_type = match value("Content-Type") {
            Some(value) => ContentType::parse(value),
            None if parent.map_or(self.in_digest, |p| self.parts[p].content_type.value == "multipart/digest") => {
                ContentType { value: "message/rfc822".into(), params: Vec::new() }
            }
            None => ContentType::default(),
        };
        let encoding = match value("Content-Transfer-Encoding").map(<[u8]>::trim_ascii) {
            None | Some([]) => Some(TransferEncoding::SevenBit),
            Some(value) => TransferEncoding::parse(value),
        };
        let plain = !matches!(encoding, Some(TransferEncoding::Base64 | TransferEncoding::QuotedPrintable));
        let may_nest = depth + 1 < DEPTH_MAX && self.parts.len() + 1 < PARTS_MAX;
        // A multipart must not be encoded (RFC 2045 section 6.4); if the field says so anyway it is wrong, not the body.
        let boundary = content_type
            .param("boundary")
            .map(|b| b.trim_end())
            .filter(|b| may_nest && content_type.is_multipart() && (1..=BOUNDARY_LEN_MAX).contains(&b.len()))
            .map(str::to_owned);
        let is_message = may_nest && plain && content_type.is_message();
        self.open.push(Open {
            part: self.parts.len(),
            delimiter: boundary.as_ref().map(|boundary| [b"--", boundary.as_bytes()].concat()),
        });
        self.parts.push(Part {
            parent,
            depth,
            headers,
            body: body_start..body_start,
            delimited: None,
            content_type,
            encoding,
            boundary,
            closed: false,
        });
        is_message
    }

    /// Ends all parts from `level` on, the innermost first. A delimiter right behind a blank line shares that line's end:
    /// the body is empty then, and the parts around reach as far as it does.
    fn close(&mut self, level: usize, mut end: usize) {
        for open in self.open.drain(level..).rev() {
            let body = &mut self.parts[open.part].body;
            end = end.max(body.start);
            body.end = end;
        }
    }

    /// The line end before a delimiter line belongs to the delimiter (RFC 2046 section 5.1.1).
    fn before_line_end(&self, line: usize) -> usize {
        let before = &self.body[..line];
        match before {
            [.., b'\r', b'\n'] => line - 2,
            [.., b'\n'] => line - 1,
            _ => line,
        }
    }
}

struct Delimiter {
    level: usize,
    close: bool,
}

fn is_field(line: &[u8]) -> bool {
    memchr(b':', line).is_some_and(|colon| is_field_name(without_blanks_at_end(&line[..colon])))
}

#[cfg(test)]
mod tests;
