//! Splitting, looking up, editing: every byte that an edit does not name stays.

use super::*;
use proptest::prelude::*;

const MESSAGE: &[u8] =
    b"Received: from a\r\n\tby b\r\nX-A: 1\r\nSubject:  odd \t spacing\r\nx-a :2\r\nDate: d\r\n\r\nbody\r\n";

fn content(raw: &[u8]) -> Content {
    Content::parse(Bytes::copy_from_slice(raw))
}

fn text(content: &Content) -> String {
    String::from_utf8(content.to_bytes().unwrap().to_vec()).unwrap()
}

#[test]
fn splits_at_the_first_blank_line() {
    for (raw, head, body) in [
        ("A: 1\r\n\r\nbody\r\n\r\nmore", "A: 1\r\n\r\n", "body\r\n\r\nmore"),
        ("A: 1\n\nbody", "A: 1\n\n", "body"),
        ("A: 1\r\n\nbody", "A: 1\r\n\n", "body"),
        ("A: 1\n\r\nbody", "A: 1\n\r\n", "body"),
        ("\r\nbody", "\r\n", "body"),
        ("\nbody", "\n", "body"),
        ("A: 1\r\n", "A: 1\r\n", ""),
        ("A: 1", "A: 1", ""),
        ("no header at all\r\n\r\nmore", "", "no header at all\r\n\r\nmore"),
        ("From x\r\nA: 1\r\n\r\nb", "From x\r\nA: 1\r\n\r\n", "b"),
        ("A: 1\r\nno field\r\n\r\nb", "A: 1\r\nno field\r\n\r\n", "b"),
        ("", "", ""),
    ] {
        let content = content(raw.as_bytes());
        assert_eq!(&content.head()[..], head.as_bytes(), "{raw:?}");
        assert_eq!(&content.body().to_bytes().unwrap()[..], body.as_bytes(), "{raw:?}");
        assert_eq!(content.size(), raw.len() as u64);
    }
}

#[test]
fn looks_up_in_any_case() {
    let content = content(MESSAGE);
    assert_eq!(content.header("subject").unwrap(), &b"odd \t spacing"[..]);
    assert_eq!(content.header("RECEIVED").unwrap(), &b"from a\tby b"[..]);
    assert_eq!(content.header("body"), None);
    assert_eq!(content.header_values("X-A").collect::<Vec<_>>(), [&b"1"[..], b"2"]);
    assert_eq!((content.hops(), content.has_date(), content.has_message_id()), (1, true, false));
}

#[test]
fn facts_come_from_one_walk() {
    let facts = content(MESSAGE).facts();
    let expected = HeadFacts { hops: 1, date: true, line_len_max: 23, ..HeadFacts::default() };
    assert_eq!(facts, expected);
    for (head, lone, eight_bit) in [
        ("Message-Id: x\r\n\r\n", false, false),
        ("A: 1\nB: 2\r\n\r\n", true, false),
        ("A: 1\rB: 2\r\n\r\n", true, false),
        ("A: é\r\n\r\n", false, true),
        ("A: 1\r\r\n\r\n", true, false),
        ("A: 1\r\n\n", false, false),
        ("A: 1", false, false),
        ("", false, false),
    ] {
        let facts = content(head.as_bytes()).facts();
        assert_eq!((facts.lone_line_ends, facts.eight_bit), (lone, eight_bit), "{head:?}");
    }
    assert!(content(b"message-id : x\r\n\r\n").facts().message_id);
    assert!(!content(b"X:\r\n date: folded\r\nDated: x\r\n\r\n").facts().date);
}

#[test]
fn edits_touch_their_header_only() {
    let edit = |f: &dyn Fn(&mut Content)| {
        let mut content = content(MESSAGE);
        f(&mut content);
        text(&content)
    };
    let original = std::str::from_utf8(MESSAGE).unwrap();
    assert_eq!(edit(&|c| c.prepend_header("N", b"v").unwrap()), format!("N: v\r\n{original}"));
    assert_eq!(edit(&|c| c.append_header("N", b"v").unwrap()), original.replace("Date: d\r\n", "Date: d\r\nN: v\r\n"));
    assert_eq!(
        edit(&|c| c.set_header("X-a", b"v").unwrap()),
        original.replace("X-A: 1\r\n", "X-a: v\r\n").replace("x-a :2\r\n", "")
    );
    assert_eq!(edit(&|c| c.set_header("New", b"v").unwrap()), edit(&|c| c.append_header("New", b"v").unwrap()));
    assert_eq!(
        edit(&|c| assert_eq!(c.remove_header("x-A"), 2)),
        original.replace("X-A: 1\r\n", "").replace("x-a :2\r\n", "")
    );
    assert_eq!(edit(&|c| assert!(c.remove_header_nth("x-a", 1))), original.replace("x-a :2\r\n", ""));
    assert_eq!(edit(&|c| assert!(c.replace_header("X-A", 1, b"3").unwrap())), original.replace("x-a :2", "X-A: 3"));
    assert_eq!(edit(&|c| assert!(!c.replace_header("X-A", 2, b"3").unwrap())), original);
    assert_eq!(edit(&|c| assert!(!c.remove_header_nth("Nope", 0))), original);
    assert_eq!(edit(&|c| assert_eq!(c.set_header("Bad name", b"v"), Err(HeaderError::Name))), original);
}

#[test]
fn a_message_without_blank_line_gets_the_line_ends_that_an_edit_needs() {
    for (raw, appended) in [
        ("", "N: v\r\n"),
        ("A: 1", "A: 1\r\nN: v\r\n"),
        ("A: 1\r\n", "A: 1\r\nN: v\r\n"),
        ("\r\nbody", "N: v\r\n\r\nbody"),
        ("only body\r\n", "N: v\r\n\r\nonly body\r\n"),
        ("A: 1\n\nbody", "A: 1\nN: v\r\n\nbody"),
    ] {
        let mut content = content(raw.as_bytes());
        content.append_header("N", b"v").unwrap();
        assert_eq!(text(&content), appended, "{raw:?}");
    }
    let mut content = content(b"A: 1");
    content.prepend_header("N", b"v").unwrap();
    assert_eq!(text(&content), "N: v\r\nA: 1");
    content.set_body(Body::Memory("text\r\n".into()));
    assert_eq!(text(&content), "N: v\r\nA: 1\r\n\r\ntext\r\n");
}

#[test]
fn the_body_is_shared_by_an_edited_copy() {
    let original = content(MESSAGE);
    let mut copy = original.clone();
    copy.prepend_raw(b"Received: x\r\n");
    assert_eq!(original.body().memory().unwrap().as_ptr(), copy.body().memory().unwrap().as_ptr());
    assert_eq!(copy.size(), original.size() + 13);
}

#[derive(Debug)]
struct File(Vec<u8>);

impl ExternalBody for File {
    fn len(&self) -> u64 {
        self.0.len() as u64
    }
    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<()> {
        let start = usize::try_from(offset).map_err(|_| io::ErrorKind::InvalidInput)?;
        let bytes = self.0.get(start..start + into.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
        into.copy_from_slice(bytes);
        Ok(())
    }
    fn as_any(&self) -> &dyn std::any::Any {
        self
    }
}

#[test]
fn an_external_body_is_written_in_chunks() {
    for len in [0, 1, CHUNK_LEN - 1, CHUNK_LEN, CHUNK_LEN + 1, 3 * CHUNK_LEN + 7] {
        let bytes: Vec<u8> = (0..len).map(|at| (at % 127) as u8).collect();
        let content = Content::new("A: 1\r\n\r\n".into(), Body::External(Arc::new(File(bytes.clone()))));
        let whole = content.to_bytes().unwrap();
        assert_eq!(whole.len() as u64, content.size());
        assert_eq!(&whole[8..], &bytes[..]);
        let mut chunks = 0;
        content
            .body()
            .for_each_chunk(|chunk| {
                assert!(chunk.len() <= CHUNK_LEN);
                chunks += 1;
                Ok(())
            })
            .unwrap();
        assert_eq!(chunks, len.div_ceil(CHUNK_LEN));
        assert!(!content.is_eight_bit().unwrap());
    }
    let last = Content::new(Bytes::new(), Body::External(Arc::new(File(vec![0, 0x80]))));
    assert!(last.is_eight_bit().unwrap());
}

fn bytes() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        Just(b"\r\n".to_vec()),
        Just(b"\n".to_vec()),
        Just(b"\r".to_vec()),
        Just(b": ".to_vec()),
        Just(b"X-A: value\r\n".to_vec()),
        Just(b"Subject: x\r\n\tfold\r\n".to_vec()),
        Just(b" ".to_vec()),
        proptest::collection::vec(any::<u8>(), 0..12),
    ];
    proptest::collection::vec(piece, 0..24).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn any_bytes_are_written_back_as_they_came(raw in bytes()) {
        let content = content(&raw);
        prop_assert_eq!(&content.to_bytes().unwrap()[..], &raw[..]);
        let mut out = Vec::new();
        content.write_to(&mut out).unwrap();
        prop_assert_eq!(out, raw);
    }

    #[test]
    fn what_is_added_and_removed_again_leaves_no_trace(raw in bytes(), prepend in any::<bool>()) {
        // With a header block, and with a last line that is ended: nothing has to be mended for the edit.
        let original = content(&[b"A: 1\r\n", &raw[..], b"\r\n"].concat());
        let mut edited = original.clone();
        if prepend {
            edited.prepend_header("X-New", b"value").unwrap();
        } else {
            edited.append_header("X-New", b"value").unwrap();
        }
        prop_assert_eq!(edited.header("x-new"), Some(Cow::Borrowed(&b"value"[..])));
        prop_assert_eq!(edited.remove_header("x-new"), 1);
        prop_assert_eq!(edited.to_bytes().unwrap(), original.to_bytes().unwrap());
    }

    #[test]
    fn removing_one_name_leaves_every_other_byte(raw in bytes()) {
        let original = content(&raw);
        let mut expected = Vec::new();
        let mut at = 0;
        for field in original.headers_named("x-a") {
            expected.extend_from_slice(&original.head()[at..field.range.start]);
            at = field.range.end;
        }
        expected.extend_from_slice(&original.head()[at..]);
        let mut edited = original.clone();
        edited.remove_header("X-A");
        prop_assert_eq!(&edited.head()[..], &expected[..]);
        prop_assert_eq!(edited.body().to_bytes().unwrap(), original.body().to_bytes().unwrap());
    }

    #[test]
    fn facts_agree_with_the_walk_over_fields(raw in bytes()) {
        let content = content(&raw);
        let facts = content.facts();
        prop_assert_eq!(facts.hops, content.hops());
        prop_assert_eq!(facts.date, content.has_date());
        prop_assert_eq!(facts.message_id, content.has_message_id());
    }
}
