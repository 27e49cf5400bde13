//! Messages and their parts: header block, MIME, repairs, addresses, encoded words, transfer encodings.

use crate::choices::Choices;
use bytes::Bytes;
use ph_message::eight_bit::{strip_high_bits, transform_8bit};
use ph_message::encoded_word;
use ph_message::header_check::{self, LoneLineEnds, LongLines, MissingField, Rules};
use ph_message::mime::{MimeForest, Place};
use ph_message::transfer::{
    ENCODED_LINE_LEN_MAX, Lines, TransferEncoding, base64_decode, base64_encode, quoted_printable_decode,
    quoted_printable_encode,
};
use ph_message::{Body, Content, ContentType, Id, Mailbox, MimeTree, PathRules, charset, parse_address_list};
use ph_smtp::client::{Path, is_sendable};

pub static MESSAGE_WORDS: &[&str] = &[
    "From: a@b.example\r\n",
    "Date: Mon, 1 Jan 2024 00:00:00 +0000\r\n",
    "Message-ID: <x@y>\r\n",
    "Received: from x\r\n\tby y\r\n",
    "Subject: =?utf-8?Q?x=20y?=\r\n",
    "Content-Type: multipart/mixed; boundary=b\r\n",
    "Content-Type: multipart/signed; boundary=\"c d\"\r\n",
    "Content-Type: message/rfc822\r\n",
    "Content-Type: text/plain; charset=iso-8859-1; name*0=a; name*1*=utf-8''%41\r\n",
    "Content-Transfer-Encoding: base64\r\n",
    "Content-Transfer-Encoding: quoted-printable\r\n",
    "Content-Transfer-Encoding: 8bit\r\n",
    "Content-Disposition: attachment; filename=\"x\"\r\n",
    "\r\n\r\n",
    "\r\n--b\r\n",
    "\r\n--b--\r\n",
    "\r\n ",
    "\u{e9}",
    "=E9=\r\n",
];

/// Reading, writing and editing a message.
pub fn message(input: &[u8]) {
    let mut choices = Choices::new(input);
    let value = choices.bytes().to_vec();
    let raw = Bytes::copy_from_slice(choices.rest());
    let content = Content::parse(raw.clone());
    assert_eq!(content.to_bytes().expect("memory"), raw, "not the same octets");
    read_all(&content);

    let before = fields(&content);
    for edit in 0..4 {
        let mut edited = content.clone();
        let name = "X-Fuzz";
        let had = edited.headers_named(name).count();
        let made = match edit {
            0 => edited.prepend_header(name, &value),
            1 => edited.append_header(name, &value),
            2 => edited.set_header(name, &value),
            _ => {
                assert_eq!(edited.remove_header(name), had);
                Ok(())
            }
        };
        made.expect("the name is good");
        let count = edited.headers_named(name).count();
        assert_eq!(count, [had + 1, had + 1, 1, 0][edit], "edit {edit} of {content:?}");
        let others = |list: &[(Vec<u8>, Vec<u8>)]| -> Vec<(Vec<u8>, Vec<u8>)> {
            list.iter().filter(|(name, _)| !name.is_empty() && !name.eq_ignore_ascii_case(b"x-fuzz")).cloned().collect()
        };
        assert_eq!(others(&fields(&edited)), others(&before), "edit {edit} changed other fields");
        let again = Content::parse(edited.to_bytes().expect("memory"));
        assert_eq!(again.headers_named(name).count(), count, "edit {edit} is lost on the wire: {edited:?}");
        assert_eq!(again.body().to_bytes().expect("memory"), edited.body().to_bytes().expect("memory"));
    }
}

fn fields(content: &Content) -> Vec<(Vec<u8>, Vec<u8>)> {
    content.headers().map(|field| (field.name.to_vec(), field.unfolded().into_owned())).collect()
}

/// Everything that a policy may ask of a message.
fn read_all(content: &Content) {
    let facts = content.facts();
    assert_eq!(facts.date, content.has_date());
    assert_eq!(facts.message_id, content.has_message_id());
    assert_eq!(facts.hops, content.hops());
    for name in ["Subject", "From", "Content-Type"] {
        let _ = content.header_text(name);
    }
    let size = content.size() as usize;
    let tree = MimeTree::parse(content).expect("memory");
    for (at, part) in tree.parts().iter().enumerate() {
        assert!(part.headers.end <= size && part.body.end <= size, "a part beyond the message");
        assert!(part.depth <= ph_message::mime::DEPTH_MAX && part.parent.is_none_or(|parent| parent < at));
        assert_eq!(tree.body(part).len(), part.body.len(), "a part whose octets are not there");
        let _ = (tree.info(part), tree.decoded(part), tree.text(part), tree.field(part, "Content-ID"));
        assert!(tree.children(at).all(|child| tree.parts()[child].parent == Some(at)));
    }
    let _ = ContentType::parse_disposition(content.header_block());
    edit_all(content, &tree);
}

/// One edit of each kind at the ends of a message: it is always whole afterwards.
fn edit_all(content: &Content, tree: &MimeTree) {
    let new = Content::new(Bytes::from_static(b"X: y\r\n\r\n"), Body::Memory(Bytes::from_static(b"new")));
    let places = [Place::FirstIn, Place::LastIn, Place::Before, Place::After];
    for (kind, last) in (0..8).flat_map(|kind| [(kind, false), (kind, true)]) {
        let mut forest = MimeForest::default();
        forest.take(content, tree.clone());
        let ids: Vec<_> = std::iter::successors(forest.top(), |part| forest.thread(*part)).collect();
        let part = if last { ids[ids.len() - 1] } else { ids[ids.len().min(2) - 1] };
        let made = forest.make(&new).expect("few parts");
        let linked = match kind {
            0..4 => forest.link(made, places[kind](part)).expect("both are there"),
            4 => {
                assert_eq!(forest.unlink(part).is_err(), part == ids[0]);
                false
            }
            5 => {
                let _ = forest.replace(part, &new, false);
                false
            }
            6 => {
                if tree.parts()[ids.iter().position(|id| *id == part).unwrap_or(0)].boundary.is_some() {
                    let _ = forest.set_boundary(part, "new boundary");
                }
                false
            }
            _ => {
                let mut head = forest.content_of(part).expect("it is there");
                head.append_raw(b"X-New: 1\r\n");
                let _ = forest.replace(part, &head, true);
                false
            }
        };
        assert!(!linked || forest.parent(made).is_some(), "linked to nothing");
        let now = forest.content().expect("there is a tree");
        assert_eq!(now.size(), now.to_bytes().expect("memory").len() as u64);
    }
}

/// Repairs: what they are asked for holds afterwards, and no value becomes a field.
pub fn repair(input: &[u8]) {
    let mut choices = Choices::new(input);
    let look = choices.octet();
    let lone = |bits: u8| if bits & 1 == 0 { LoneLineEnds::Fix } else { LoneLineEnds::Ignore };
    let rules = Rules {
        require_headers: false,
        lone_in_headers: lone(look),
        lone_in_body: lone(look >> 1),
        date: if look & 4 == 0 { MissingField::Add } else { MissingField::Ignore },
        message_id: if look & 8 == 0 { MissingField::Add } else { MissingField::Ignore },
        long_lines: if look & 16 == 0 { LongLines::Fix(998) } else { LongLines::Ignore },
    };
    let mut content = Content::parse(Bytes::copy_from_slice(choices.rest()));
    let known: Vec<Vec<u8>> = content.headers().map(|field| field.name.to_ascii_lowercase()).collect();
    header_check::repair(&mut content, &rules, || "Thu, 1 Jan 1970 00:00:00 +0000", || "<fuzz@mx.example>");
    let strict =
        |lone: LoneLineEnds| if lone == LoneLineEnds::Fix { LoneLineEnds::Reject } else { LoneLineEnds::Ignore };
    let strict = Rules {
        require_headers: false,
        lone_in_headers: strict(rules.lone_in_headers),
        lone_in_body: strict(rules.lone_in_body),
        date: if rules.date == MissingField::Add { MissingField::Reject } else { MissingField::Ignore },
        message_id: if rules.message_id == MissingField::Add { MissingField::Reject } else { MissingField::Ignore },
        long_lines: if rules.long_lines == LongLines::Ignore { LongLines::Ignore } else { LongLines::Reject(998) },
    };
    assert_eq!(header_check::check(&content, &strict), Ok(()), "the repair did not repair: {content:?}");
    for field in content.headers().filter(|field| !field.name.is_empty()) {
        let name = field.name.to_ascii_lowercase();
        let added = name == b"date" || name == b"message-id";
        assert!(added || known.contains(&name), "a field that was none: {:?}", String::from_utf8_lossy(&name));
    }
    let again = Content::parse(content.to_bytes().expect("memory"));
    assert_eq!(again.header_block(), content.header_block(), "the head does not end where it ends");
}

/// Mail for a peer of seven bits.
pub fn seven_bit(input: &[u8]) {
    let content = Content::parse(Bytes::copy_from_slice(input));
    let stripped = strip_high_bits(&content).expect("memory");
    assert!(!stripped.is_eight_bit().expect("memory"));
    assert_eq!(stripped.size(), content.size());
    let changed = transform_8bit(&content).expect("memory");
    if changed.left.is_none() {
        assert!(!changed.content.is_eight_bit().expect("memory"), "octets above 127 are left and nobody says so");
    }
    let (before, after) =
        (MimeTree::parse(&content).expect("memory"), MimeTree::parse(&changed.content).expect("memory"));
    assert_eq!(before.parts().len(), after.parts().len(), "parts came or went");
    for (at, (old, new)) in before.parts().iter().zip(after.parts()).enumerate() {
        if before.children(at).next().is_none() && old.boundary.is_none() {
            assert_eq!(before.decoded(old), after.decoded(new), "part {at} means something else now");
        }
    }
}

pub static ADDRESS_WORDS: &[&str] = &[
    "a@b.example",
    "<@x,@y:a@b>",
    "\"a b\"@c",
    "\"a\\\"\"@c",
    "@[192.0.2.1]",
    "@[IPv6:2001:db8::1]",
    "Ann <ann@x.example>, ",
    "list: a@b, c@d;",
    " (comment (in it))",
    "=?utf-8?Q?J=C3=B6rg?= ",
    "j\u{f6}rg@b\u{fc}cher.example",
    "a+b@c",
];

/// One mailbox, under every rule.
pub fn address(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    for (utf8, pedantic) in [(false, true), (true, true), (false, false), (true, false)] {
        let Ok(mailbox) = Mailbox::parse_with(&text, PathRules { utf8, pedantic }) else { continue };
        assert!(is_sendable(Path { local: &mailbox.local, domain: &mailbox.domain }), "cannot be sent: {mailbox:?}");
        let shown = mailbox.to_string();
        let again = Mailbox::parse_with(&shown, PathRules { utf8, pedantic });
        assert_eq!(again.as_ref(), Ok(&mailbox), "shown as {shown:?}");
        assert!(utf8 || mailbox.is_ascii());
        let _ = mailbox.literal();
    }
    let _ = Mailbox::parse_sender(&text, true);
    if let Ok(id) = text.parse::<Id>() {
        assert!(id.to_string().eq_ignore_ascii_case(&text), "an id that is written otherwise: {id}");
    }
}

/// The list of a header field.
pub fn address_list(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    let list = parse_address_list(&text);
    assert!(list.len() <= ph_message::address_list::ADDRESSES_MAX);
    for address in &list {
        let lies_in_it = text.as_bytes().as_ptr_range().contains(&address.text.as_ptr()) || address.text.is_empty();
        assert!(lies_in_it, "a text from elsewhere");
        let _ = (address.address(), address.user(), address.detail());
        assert!(!address.display_name.contains('\n') || text.contains(['\n', '=']), "a line end out of nothing");
    }
}

pub static ENCODED_WORDS: &[&str] =
    &["=?utf-8?Q?x=20y?=", "=?iso-8859-1?B?6Q==?=", " ", "=?", "?=", "\u{e9}", "\u{1f600}", "=?utf-8*de?q?_?="];

/// Encoded words, both ways.
pub fn encoded_word(input: &[u8]) {
    let _ = encoded_word::decode(input);
    let _ = encoded_word::decode_bytes(input);
    let mut choices = Choices::new(input);
    let used = usize::from(choices.octet());
    let text = String::from_utf8_lossy(choices.rest());
    let encoded = encoded_word::encode(&text, used);
    assert!(encoded.is_ascii(), "not encoded: {encoded:?}");
    assert!(!encoded.bytes().any(|byte| byte < b' ' || byte == 127), "a control in a header: {encoded:?}");
    for word in encoded.split(' ').filter(|word| word.starts_with("=?utf-8?")) {
        assert!(word.len() <= 75, "an encoded word of {} octets", word.len());
    }
    // A line end or a NUL in a value is none when the value is read: it could begin another field.
    let wanted = text.replace(['\r', '\n', '\0'], " ");
    assert_eq!(encoded_word::decode(encoded.as_bytes()), wanted, "encoded as {encoded:?}");
}

pub static TRANSFER_WORDS: &[&str] = &["=\r\n", "=3D", "= \r\n", "\r\n", "AAAA", "====", " \t\r\n", "From x", "."];

/// Base64 and quoted-printable, both ways; charsets.
pub fn transfer(input: &[u8]) {
    let _ = (base64_decode(input), quoted_printable_decode(input), TransferEncoding::parse(input));
    assert_eq!(base64_decode(&base64_encode(input)), input, "base64");
    check_lines(&base64_encode(input));
    for lines in [Lines::Text, Lines::Binary] {
        let encoded = quoted_printable_encode(input, lines);
        check_lines(&encoded);
        assert_eq!(quoted_printable_decode(&encoded), input, "{lines:?}: {}", String::from_utf8_lossy(&encoded));
    }
    let mut choices = Choices::new(input);
    let label =
        choices.pick(&["utf-8", "us-ascii", "iso-8859-1", "shift_jis", "utf-16", "iso-2022-jp", "gb18030", "x"]);
    let text = charset::decode_or_utf8(label, choices.clone().rest()).into_owned();
    if let Ok(bytes) = charset::encode(label, &text) {
        let again = charset::decode_or_utf8(label, &bytes);
        // The others have several forms of one character, of which an encoder writes one.
        let one_form = matches!(label, "utf-8" | "us-ascii" | "iso-8859-1");
        assert!(!one_form || again == text, "{label}: {again:?} is not {text:?}");
    }
}

fn check_lines(encoded: &[u8]) {
    assert!(encoded.is_ascii());
    for line in encoded.split(|&byte| byte == b'\n') {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        assert!(line.len() <= ENCODED_LINE_LEN_MAX, "a line of {} octets", line.len());
        assert!(!line.contains(&b'\r'), "a lone CR");
        assert!(!line.ends_with(b" ") && !line.ends_with(b"\t"), "a blank at the end of a line is lost on the way");
    }
}
