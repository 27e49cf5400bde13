//! What a message must be like to come in (RFC 5322 sections 2.1 to 3.6), and the repairs that a site may choose instead.
//!
//! A pure judgement on content and rules: reception picks the rules from the options `rfc2822_*` and writes the reply. The
//! texts are Momentum's, which log parsers know. A repair may add bytes but never makes a header field out of what was the
//! value of another: a lone CR becomes a fold, and none becomes the blank line that ends the header block.

use crate::content::{Body, Content};
use crate::header::{
    LINE_LEN_MAX, char_boundary_before, fields, is_blank, is_field_name, without_blanks_at_end, write_folded,
};
use bytes::Bytes;
use memchr::{memchr, memchr2};
use std::borrow::Cow;

/// `rfc2822_lone_lf_in_headers` and `rfc2822_lone_lf_in_body`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LoneLineEnds {
    #[default]
    Ignore,
    Reject,
    Fix,
}

/// `rfc2822_date_header` and `rfc2822_messageid_header`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MissingField {
    Ignore,
    Reject,
    #[default]
    Add,
}

/// `rfc2822_max_line_length` and its policy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LongLines {
    #[default]
    Ignore,
    /// Refuse a message with a line of more octets (line end not counted).
    Reject(usize),
    /// Break such lines.
    Fix(usize),
}

impl LongLines {
    /// From the two options: `ignore`, `pedantic` and `fix` speak for themselves, with the limit of RFC 5322; a number is the
    /// limit for what `policy` says (`none`, `fix`, `reject`). `None`: not a value of the option.
    pub fn from_options(length: &str, policy: &str) -> Option<LongLines> {
        Some(match length {
            "ignore" => LongLines::Ignore,
            "pedantic" => LongLines::Reject(LINE_LEN_MAX),
            "fix" => LongLines::Fix(LINE_LEN_MAX),
            number => match (number.parse().ok().filter(|&max| max > 0)?, policy) {
                (max, "reject") => LongLines::Reject(max),
                (max, "fix") => LongLines::Fix(max),
                (_, "none") => LongLines::Ignore,
                _ => return None,
            },
        })
    }

    fn reject_above(self) -> usize {
        if let LongLines::Reject(max) = self { max } else { usize::MAX }
    }
}

/// The rules of one session. The defaults are Momentum's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// `rfc2822_missing_headers = reject`: a message needs a header block of nothing but fields.
    pub require_headers: bool,
    pub lone_in_headers: LoneLineEnds,
    pub lone_in_body: LoneLineEnds,
    pub date: MissingField,
    pub message_id: MissingField,
    pub long_lines: LongLines,
}

impl Default for Rules {
    fn default() -> Rules {
        Rules {
            require_headers: true,
            lone_in_headers: LoneLineEnds::Reject,
            lone_in_body: LoneLineEnds::Ignore,
            date: MissingField::Add,
            message_id: MissingField::Add,
            long_lines: LongLines::Ignore,
        }
    }
}

/// Why a message is refused: the sender's fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeaderFault {
    #[error("Lone CR or LF in headers (see RFC2822 section 2.2)")]
    LoneInHeaders,
    #[error("Required headers not found (see RFC2822 section 3.6)")]
    NoHeaders,
    #[error("Header not terminated by CR LF (see RFC2822 section 2.2)")]
    NotTerminated,
    #[error("Invalid header found (see RFC2822 section 3.6)")]
    InvalidHeader,
    #[error("Missing required RFC2822 Date field (see RFC2822 section 3.6)")]
    NoDate,
    #[error("Missing required RFC2822 Message-ID field (see RFC2822 section 3.6)")]
    NoMessageId,
    #[error("Lone CR or LF in body (see RFC2822 section 2.3)")]
    LoneInBody,
    #[error("Header line too long (see RFC2822 section 3.5)")]
    HeaderLineTooLong,
    #[error("Body line too long (see RFC2822 section 3.5)")]
    BodyLineTooLong,
}

/// Judges header block and, where it lies in memory, body. An external body is judged by a `BodyCheck` while it streams.
pub fn check(content: &Content, rules: &Rules) -> Result<(), HeaderFault> {
    check_head(content, rules)?;
    match content.body() {
        Body::Memory(bytes) if BodyCheck::has_work(rules) => {
            let mut check = BodyCheck::new(rules);
            check.feed(bytes)?;
            check.finish()
        }
        _ => Ok(()),
    }
}

/// The header block's part of `check`.
pub fn check_head(content: &Content, rules: &Rules) -> Result<(), HeaderFault> {
    let facts = content.facts();
    let block = content.header_block();
    if facts.lone_line_ends && rules.lone_in_headers == LoneLineEnds::Reject {
        return Err(HeaderFault::LoneInHeaders);
    }
    if rules.require_headers {
        if block.is_empty() {
            return Err(HeaderFault::NoHeaders);
        }
        if !block.ends_with(b"\n") {
            return Err(HeaderFault::NotTerminated);
        }
        if fields(block).any(|field| field.name.is_empty()) {
            return Err(HeaderFault::InvalidHeader);
        }
    }
    if facts.line_len_max > rules.long_lines.reject_above() {
        return Err(HeaderFault::HeaderLineTooLong);
    }
    if !facts.date && rules.date == MissingField::Reject {
        return Err(HeaderFault::NoDate);
    }
    if !facts.message_id && rules.message_id == MissingField::Reject {
        return Err(HeaderFault::NoMessageId);
    }
    Ok(())
}

/// Judges a body that comes in pieces.
#[derive(Clone, Debug)]
pub struct BodyCheck {
    reject_lone: bool,
    line_len_max: usize,
    line_len: usize,
    after_cr: bool,
}

impl BodyCheck {
    pub fn new(rules: &Rules) -> BodyCheck {
        BodyCheck {
            reject_lone: rules.lone_in_body == LoneLineEnds::Reject,
            line_len_max: rules.long_lines.reject_above(),
            line_len: 0,
            after_cr: false,
        }
    }

    /// Whether the rules ask anything of a body: by default they do not, and it need not be looked at.
    pub fn has_work(rules: &Rules) -> bool {
        rules.lone_in_body == LoneLineEnds::Reject || matches!(rules.long_lines, LongLines::Reject(_))
    }

    pub fn feed(&mut self, piece: &[u8]) -> Result<(), HeaderFault> {
        let mut rest = piece;
        while !rest.is_empty() {
            if std::mem::take(&mut self.after_cr) {
                if rest[0] == b'\n' {
                    self.line_len = 0;
                    rest = &rest[1..];
                    continue;
                }
                self.lone()?;
            }
            let end = memchr2(b'\r', b'\n', rest);
            self.line_len += end.unwrap_or(rest.len());
            if self.line_len > self.line_len_max {
                return Err(HeaderFault::BodyLineTooLong);
            }
            let Some(end) = end else { break };
            match rest[end] {
                b'\r' => self.after_cr = true,
                _ => self.lone()?,
            }
            rest = &rest[end + 1..];
        }
        Ok(())
    }

    pub fn finish(mut self) -> Result<(), HeaderFault> {
        if self.after_cr { self.lone() } else { Ok(()) }
    }

    /// A lone CR or LF. Where it is let through, readers take it for a line end.
    fn lone(&mut self) -> Result<(), HeaderFault> {
        self.line_len = 0;
        if self.reject_lone { Err(HeaderFault::LoneInBody) } else { Ok(()) }
    }
}

/// What `repair` did, besides the bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Repaired {
    pub date_added: bool,
    pub message_id_added: bool,
    pub head_changed: bool,
    pub body_changed: bool,
}

/// Makes the repairs that the rules ask for. `date` and `message_id` give the values of fields that have to be added, and
/// are called only then. An external body is left as it is: `fix_body` mends its pieces while they stream.
pub fn repair<D: AsRef<[u8]>, M: AsRef<[u8]>>(
    content: &mut Content,
    rules: &Rules,
    date: impl FnOnce() -> D,
    message_id: impl FnOnce() -> M,
) -> Repaired {
    let mut done = Repaired::default();
    let facts = content.facts();
    let fix_lone = facts.lone_line_ends && rules.lone_in_headers == LoneLineEnds::Fix;
    let fix_long = matches!(rules.long_lines, LongLines::Fix(max) if facts.line_len_max > max);
    if fix_lone || fix_long {
        done.head_changed = true;
        let mut head = content.head().to_vec();
        if fix_lone {
            head = fix_head_line_ends(&head);
        }
        if let (true, LongLines::Fix(max)) = (fix_long, rules.long_lines) {
            head = fold_long_lines(&head, max);
        }
        *content = Content::new(head.into(), content.body().clone());
    }
    if let Body::Memory(bytes) = content.body()
        && let Some(fixed) = fix_body(bytes, rules)
    {
        done.body_changed = true;
        *content = Content::new(content.head().clone(), Body::Memory(fixed));
    }
    // A repaired line end may have made a field visible; an added one must not double it.
    let facts = if done.head_changed { content.facts() } else { facts };
    let mut added = Vec::new();
    let mut add = |name: &str, value: &[u8]| {
        crate::header::write_field(&mut added, name, value, crate::header::FOLD_AT).expect("the names are good")
    };
    if !facts.date && rules.date == MissingField::Add {
        add("Date", date().as_ref());
        done.date_added = true;
    }
    if !facts.message_id && rules.message_id == MissingField::Add {
        add("Message-ID", message_id().as_ref());
        done.message_id_added = true;
    }
    if !added.is_empty() {
        content.append_raw(&added);
    }
    done
}

/// A body with the repairs that the rules ask for; `None` when it needs none.
pub fn fix_body(bytes: &Bytes, rules: &Rules) -> Option<Bytes> {
    let mut fixed = Cow::Borrowed(&bytes[..]);
    if rules.lone_in_body == LoneLineEnds::Fix {
        fixed = fix_line_ends(bytes);
    }
    if let LongLines::Fix(max) = rules.long_lines
        && let Cow::Owned(broken) = break_long_lines(&fixed, max)
    {
        fixed = Cow::Owned(broken);
    }
    match fixed {
        Cow::Borrowed(_) => None,
        Cow::Owned(fixed) => Some(fixed.into()),
    }
}

/// Every lone CR and lone LF becomes CRLF. Borrowed when there is none.
pub fn fix_line_ends(bytes: &[u8]) -> Cow<'_, [u8]> {
    let mut out: Vec<u8> = Vec::new();
    let (mut kept, mut at) = (0, 0);
    while let Some(found) = memchr2(b'\r', b'\n', &bytes[at..]) {
        let end = at + found;
        if bytes[end] == b'\r' && bytes.get(end + 1) == Some(&b'\n') {
            at = end + 2;
            continue;
        }
        out.extend_from_slice(&bytes[kept..end]);
        out.extend_from_slice(b"\r\n");
        at = end + 1;
        kept = at;
    }
    if kept == 0 {
        return Cow::Borrowed(bytes);
    }
    out.extend_from_slice(&bytes[kept..]);
    Cow::Owned(out)
}

/// A header block whose lines all end in CRLF. Only LF ends a line, as for every reader of this crate; a lone CR inside one
/// becomes a fold, and goes where that would make a line of blanks.
fn fix_head_line_ends(head: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(head.len() + 32);
    for line in head.split_inclusive(|&byte| byte == b'\n') {
        let text = line.strip_suffix(b"\n").unwrap_or(line);
        let ended = text.len() < line.len();
        let mut first = true;
        for (nth, piece) in text.split(|&byte| byte == b'\r').enumerate().filter(|(_, p)| !p.trim_ascii().is_empty()) {
            if !first {
                out.extend_from_slice(b"\r\n");
            }
            if nth > 0 && !is_blank(piece[0]) {
                out.push(b' '); // what stood behind a CR was no field and does not become one
            }
            out.extend_from_slice(piece);
            first = false;
        }
        // A line of lone CRs alone is dropped, or it would become the end of the header block.
        if ended && (!first || text.is_empty() || text == b"\r") {
            out.extend_from_slice(b"\r\n");
        }
    }
    out
}

/// Folds the header lines of more than `max` octets before blanks, or breaks them where there is none.
fn fold_long_lines(head: &[u8], max: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(head.len() + 64);
    for line in head.split_inclusive(|&byte| byte == b'\n') {
        let text = text_of(line);
        if text.len() <= max {
            out.extend_from_slice(line);
            continue;
        }
        let mut line_start = out.len();
        let name_len = memchr(b':', text).filter(|&colon| is_field_name(without_blanks_at_end(&text[..colon])));
        let name_len = name_len.map_or(0, |colon| colon + 1);
        out.extend_from_slice(&text[..name_len]);
        let value = text[name_len..].trim_ascii_end();
        write_folded(&mut out, &mut line_start, value, max, max);
        out.extend_from_slice(&line[text.len()..]);
    }
    out
}

/// Breaks the body lines of more than `max` octets: behind a blank where there is one in the second half of what fits, else
/// between characters. Nothing but line ends is added.
fn break_long_lines(body: &[u8], max: usize) -> Cow<'_, [u8]> {
    let max = max.max(LINE_LEN_MIN);
    let mut out: Vec<u8> = Vec::new();
    let mut kept = 0;
    let mut start = 0;
    while start < body.len() {
        let end = memchr(b'\n', &body[start..]).map_or(body.len(), |len| start + len + 1);
        while text_of(&body[start..end]).len() > max {
            let rest = &body[start..end];
            let blank = (max / 2..max).rev().find(|&at| is_blank(rest[at])).map(|at| at + 1);
            start += blank.unwrap_or_else(|| char_boundary_before(rest, max));
            out.extend_from_slice(&body[kept..start]);
            out.extend_from_slice(b"\r\n");
            kept = start;
        }
        start = end;
    }
    if kept == 0 {
        return Cow::Borrowed(body);
    }
    out.extend_from_slice(&body[kept..]);
    Cow::Owned(out)
}

/// A line without its line end.
fn text_of(line: &[u8]) -> &[u8] {
    line.strip_suffix(b"\n").map_or(line, |text| text.strip_suffix(b"\r").unwrap_or(text))
}

/// Lines are not broken shorter than this, whatever an option says.
const LINE_LEN_MIN: usize = 80;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn content(raw: &[u8]) -> Content {
        Content::parse(Bytes::copy_from_slice(raw))
    }

    fn strict() -> Rules {
        Rules {
            require_headers: true,
            lone_in_headers: LoneLineEnds::Reject,
            lone_in_body: LoneLineEnds::Reject,
            date: MissingField::Reject,
            message_id: MissingField::Ignore,
            long_lines: LongLines::Reject(LINE_LEN_MAX),
        }
    }

    fn fixing() -> Rules {
        Rules {
            require_headers: false,
            lone_in_headers: LoneLineEnds::Fix,
            lone_in_body: LoneLineEnds::Fix,
            date: MissingField::Add,
            message_id: MissingField::Add,
            long_lines: LongLines::Fix(LINE_LEN_MAX),
        }
    }

    fn repaired(raw: &[u8], rules: &Rules) -> (String, Repaired) {
        let mut content = content(raw);
        let done = repair(&mut content, rules, || "today", || "<id@host>");
        (String::from_utf8(content.to_bytes().unwrap().to_vec()).unwrap(), done)
    }

    #[test]
    fn each_fault_has_its_text() {
        let at_limit =
            format!("Date: x\r\nX: {}\r\n\r\n{}\r\n", "h".repeat(LINE_LEN_MAX - 3), "b".repeat(LINE_LEN_MAX));
        let head_over = at_limit.replacen("hh", "hhh", 1);
        let body_over = at_limit.replacen("bb", "bbb", 1);
        for (raw, fault) in [
            ("Date: x\r\n\r\nbody\r\n", None),
            (at_limit.as_str(), None),
            ("A: 1\nDate: x\r\n\r\n", Some("Lone CR or LF in headers (see RFC2822 section 2.2)")),
            ("A: 1\rDate: x\r\n\r\n", Some("Lone CR or LF in headers (see RFC2822 section 2.2)")),
            ("Date: x\n\nbody", Some("Lone CR or LF in headers (see RFC2822 section 2.2)")),
            ("no header\r\n", Some("Required headers not found (see RFC2822 section 3.6)")),
            ("\r\nbody", Some("Required headers not found (see RFC2822 section 3.6)")),
            ("", Some("Required headers not found (see RFC2822 section 3.6)")),
            ("Date: x", Some("Header not terminated by CR LF (see RFC2822 section 2.2)")),
            ("Date: x\r\nno field\r\n\r\n", Some("Invalid header found (see RFC2822 section 3.6)")),
            ("Da te: x\r\n\r\n", Some("Required headers not found (see RFC2822 section 3.6)")),
            ("Subject: x\r\n\r\n", Some("Missing required RFC2822 Date field (see RFC2822 section 3.6)")),
            ("Date: x\r\n\r\na\nb\r\n", Some("Lone CR or LF in body (see RFC2822 section 2.3)")),
            ("Date: x\r\n\r\na\rb\r\n", Some("Lone CR or LF in body (see RFC2822 section 2.3)")),
            ("Date: x\r\n\r\na\r", Some("Lone CR or LF in body (see RFC2822 section 2.3)")),
            (&head_over, Some("Header line too long (see RFC2822 section 3.5)")),
            (&body_over, Some("Body line too long (see RFC2822 section 3.5)")),
        ] {
            let found = check(&content(raw.as_bytes()), &strict()).err().map(|fault| fault.to_string());
            assert_eq!(found.as_deref(), fault, "{raw:?}");
        }
    }

    #[test]
    fn loose_rules_let_the_same_through() {
        let loose = Rules { require_headers: false, lone_in_headers: LoneLineEnds::Ignore, ..Rules::default() };
        for raw in ["A: 1\nB: 2\r\n\r\n", "no header\r\n", "", "Date: x\r\nno field\r\n\r\n", "A: 1\r\n\r\na\nb"] {
            assert_eq!(check(&content(raw.as_bytes()), &loose), Ok(()), "{raw:?}");
        }
        // By default a body is not even looked at.
        assert!(!BodyCheck::has_work(&Rules::default()));
    }

    #[test]
    fn options_name_the_line_rule() {
        for (length, policy, rule) in [
            ("ignore", "reject", Some(LongLines::Ignore)),
            ("pedantic", "none", Some(LongLines::Reject(998))),
            ("fix", "none", Some(LongLines::Fix(998))),
            ("500", "reject", Some(LongLines::Reject(500))),
            ("500", "fix", Some(LongLines::Fix(500))),
            ("500", "none", Some(LongLines::Ignore)),
            ("0", "fix", None),
            ("x", "fix", None),
        ] {
            assert_eq!(LongLines::from_options(length, policy), rule, "{length} {policy}");
        }
    }

    #[test]
    fn missing_fields_are_added_below_the_others() {
        let (text, done) = repaired(b"Subject: x\r\n\r\nbody", &Rules::default());
        assert_eq!(text, "Subject: x\r\nDate: today\r\nMessage-ID: <id@host>\r\n\r\nbody");
        assert_eq!((done.date_added, done.message_id_added, done.head_changed), (true, true, false));
        let whole = b"DATE: x\r\nMessage-id: y\r\n\r\nbody";
        let mut content = content(whole);
        let head = content.head().as_ptr();
        let done = repair(&mut content, &Rules::default(), || -> &str { panic!() }, || -> &str { panic!() });
        assert_eq!((done, content.head().as_ptr()), (Repaired::default(), head));
    }

    #[test]
    fn lone_line_ends_are_mended_without_making_headers() {
        let ignore = MissingField::Ignore;
        let rules = Rules { date: ignore, message_id: ignore, ..fixing() };
        for (raw, text) in [
            ("A: 1\nB: 2\r\n\r\nx\ny\rz\r\n", "A: 1\r\nB: 2\r\n\r\nx\r\ny\r\nz\r\n"),
            ("A: 1\n\nx", "A: 1\r\n\r\nx"),
            ("A: 1\rBcc: 2\r\n\r\n", "A: 1\r\n Bcc: 2\r\n\r\n"),
            ("A: 1\r\r\nB: 2\r\n\r\n", "A: 1\r\nB: 2\r\n\r\n"),
            ("A: 1\r\n\r\r\nB: 2\r\n\r\n", "A: 1\r\nB: 2\r\n\r\n"),
            ("A: 1\n 2\r\n\r\n", "A: 1\r\n 2\r\n\r\n"),
            ("A: 1\r\n\rBcc: 2\r\n\r\n", "A: 1\r\n Bcc: 2\r\n\r\n"),
            ("A: 1\r 2\r\n\r\n", "A: 1\r\n 2\r\n\r\n"),
        ] {
            let (fixed, done) = repaired(raw.as_bytes(), &rules);
            assert_eq!(fixed, text, "{raw:?}");
            assert!(done.head_changed || done.body_changed);
        }
    }

    #[test]
    fn long_lines_are_broken() {
        let raw = format!("Date: d\r\nMessage-ID: m\r\nX: {}\r\n\r\n{}\r\n", "word ".repeat(400), "é".repeat(700));
        let (text, done) = repaired(raw.as_bytes(), &fixing());
        assert!(text.split("\r\n").all(|line| line.len() <= LINE_LEN_MAX));
        assert!(done.head_changed && done.body_changed);
        let back = content(text.as_bytes());
        assert_eq!(back.header("X").unwrap(), "word ".repeat(400).trim().as_bytes());
        assert_eq!(text.split_once("\r\n\r\n").unwrap().1.replace("\r\n", ""), "é".repeat(700));
        let raw = format!("Date: d\r\nMessage-ID: m\r\nX: {}\r\n\r\n", "w".repeat(3000));
        let (text, _) = repaired(raw.as_bytes(), &fixing());
        assert_eq!(content(text.as_bytes()).headers().count(), 3);
    }

    fn bytes() -> impl Strategy<Value = Vec<u8>> {
        let piece = prop_oneof![
            Just(b"\r\n".to_vec()),
            Just(b"\n".to_vec()),
            Just(b"\r".to_vec()),
            Just(b"A: ".to_vec()),
            Just(b" ".to_vec()),
            Just(vec![b'w'; 700]),
            proptest::collection::vec(any::<u8>(), 0..12),
        ];
        proptest::collection::vec(piece, 0..24).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #[test]
        fn what_is_repaired_passes_the_strict_rules(raw in bytes()) {
            let mut content = content(&[b"A: 1\r\n", &raw[..]].concat());
            let before: Vec<_> = content.headers().filter(|f| !f.name.is_empty()).map(|f| f.name.to_vec()).collect();
            repair(&mut content, &fixing(), || "today", || "<id@host>");
            let rules = Rules { require_headers: false, ..strict() };
            prop_assert_eq!(check(&content, &rules), Ok(()));
            let known = |name: &[u8]| before.iter().any(|b| b == name) || name == b"Date" || name == b"Message-ID";
            prop_assert!(content.headers().all(|f| f.name.is_empty() || known(f.name)));
            // And another reader of the repaired bytes sees the same block.
            let again = Content::parse(content.to_bytes().unwrap());
            prop_assert_eq!(again.head(), content.head());
        }

        #[test]
        fn a_body_is_judged_alike_in_any_pieces(raw in bytes(), cut in any::<prop::sample::Index>()) {
            let judge = |pieces: &[&[u8]]| {
                let mut check = BodyCheck::new(&strict());
                pieces.iter().try_for_each(|piece| check.feed(piece))?;
                check.finish()
            };
            let (a, b) = raw.split_at(cut.index(raw.len() + 1));
            prop_assert_eq!(judge(&[a, b]), judge(&[&raw]));
        }
    }
}
