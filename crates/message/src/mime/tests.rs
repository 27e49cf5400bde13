//! Structure, leniency and limits of the MIME tree.

use super::*;
use proptest::prelude::*;

fn tree(raw: &str) -> MimeTree {
    MimeTree::parse(&Content::parse(Bytes::copy_from_slice(raw.as_bytes()))).unwrap()
}

/// One line a part: depth, type, body.
fn shape(raw: &str) -> Vec<(usize, String, String)> {
    let tree = tree(raw);
    let body = |part: &Part| String::from_utf8_lossy(tree.body(part)).into_owned();
    tree.parts().iter().map(|part| (part.depth, part.content_type.value.clone(), body(part))).collect()
}

fn expect(raw: &str, parts: &[(usize, &str, &str)]) {
    let found = shape(raw);
    let found: Vec<_> = found.iter().map(|(depth, kind, body)| (*depth, kind.as_str(), body.as_str())).collect();
    assert_eq!(found, parts, "{raw}");
}

const ALTERNATIVE: &str = "Content-Type: multipart/alternative; boundary=b\r\n\r\npreamble\r\n--b\r\n\r\nplain\r\n--b\r\n\
    Content-Type: text/html\r\n\r\n<p>\r\n\r\n--b--\r\nepilogue\r\n";

#[test]
fn a_multipart_is_taken_apart() {
    let tree = tree(ALTERNATIVE);
    let bodies: Vec<_> = tree.parts()[1..].iter().map(|part| tree.body(part)).collect();
    assert_eq!(bodies, [&b"plain"[..], b"<p>\r\n"]);
    assert_eq!(tree.children(0).collect::<Vec<_>>(), [1, 2]);
    assert!(tree.root().closed);
    let delimited = tree.root().delimited.clone().unwrap();
    assert_eq!(tree.slice(&(tree.root().body.start..delimited.start)), b"preamble\r\n");
    assert_eq!(tree.slice(&(delimited.end..tree.root().body.end)), b"epilogue\r\n");
    assert_eq!(tree.headers(&tree.parts()[2]), b"Content-Type: text/html\r\n");
}

#[test]
fn plain_mail_is_one_text_part() {
    expect("Subject: x\r\n\r\nbody\r\n", &[(0, "text/plain", "body\r\n")]);
    expect("", &[(0, "text/plain", "")]);
    expect("no header\r\n", &[(0, "text/plain", "no header\r\n")]);
}

#[test]
fn structures_that_mail_has() {
    // An outer delimiter ends an inner multipart that was never closed.
    expect(
        "Content-Type: multipart/mixed; boundary=o\r\n\r\n--o\r\nContent-Type: multipart/mixed; boundary=i\r\n\r\n--i\r\n\r\n\
         a\r\n--o\r\n\r\nb\r\n--o--\r\n",
        &[
            (
                0,
                "multipart/mixed",
                "--o\r\nContent-Type: multipart/mixed; boundary=i\r\n\r\n--i\r\n\r\na\r\n--o\r\n\r\nb\r\n--o--\r\n",
            ),
            (1, "multipart/mixed", "--i\r\n\r\na"),
            (2, "text/plain", "a"),
            (1, "text/plain", "b"),
        ],
    );
    // A forwarded message; its own multipart ends with the outer delimiter.
    expect(
        "Content-Type: multipart/mixed; boundary=o\r\n\r\n--o\r\nContent-Type: message/rfc822\r\n\r\nSubject: in\r\n\r\nbody\r\n--o--\r\n",
        &[
            (0, "multipart/mixed", "--o\r\nContent-Type: message/rfc822\r\n\r\nSubject: in\r\n\r\nbody\r\n--o--\r\n"),
            (1, "message/rfc822", "Subject: in\r\n\r\nbody"),
            (2, "text/plain", "body"),
        ],
    );
    // A boundary that is the beginning of another one is no delimiter of it.
    expect(
        "Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\n--bb\r\nx\r\n--b--\r\n",
        &[(0, "multipart/mixed", "--b\r\n\r\n--bb\r\nx\r\n--b--\r\n"), (1, "text/plain", "--bb\r\nx")],
    );
    // A part without a header and without the blank line; bare line feeds; blanks behind a delimiter.
    expect(
        "Content-Type: multipart/mixed; boundary=b\n\n--b \njust text\n--b\t\nX: y\n--b--",
        &[
            (0, "multipart/mixed", "--b \njust text\n--b\t\nX: y\n--b--"),
            (1, "text/plain", "just text"),
            (1, "text/plain", ""),
        ],
    );
    // No delimiter at all, or no boundary.
    expect("Content-Type: multipart/mixed; boundary=b\r\n\r\ntext\r\n", &[(0, "multipart/mixed", "text\r\n")]);
    expect("Content-Type: multipart/mixed\r\n\r\n--\r\n", &[(0, "multipart/mixed", "--\r\n")]);
    // A digest's parts are messages unless they say otherwise.
    expect(
        "Content-Type: multipart/digest; boundary=b\r\n\r\n--b\r\n\r\nSubject: x\r\n\r\nin\r\n--b--\r\n",
        &[
            (0, "multipart/digest", "--b\r\n\r\nSubject: x\r\n\r\nin\r\n--b--\r\n"),
            (1, "message/rfc822", "Subject: x\r\n\r\nin"),
            (2, "text/plain", "in"),
        ],
    );
    expect(
        "Content-Type: message/rfc822\r\n\r\nSubject: x\r\n\r\nin\r\n",
        &[(0, "message/rfc822", "Subject: x\r\n\r\nin\r\n"), (1, "text/plain", "in\r\n")],
    );
    // An encoded message is not taken apart: its octets are not there.
    expect(
        "Content-Type: message/rfc822\r\nContent-Transfer-Encoding: base64\r\n\r\nU3ViamVjdDogeA==\r\n",
        &[(0, "message/rfc822", "U3ViamVjdDogeA==\r\n")],
    );
}

#[test]
fn text_is_decoded() {
    for (head, body, text) in [
        ("Content-Type: text/plain; charset=iso-8859-1\r\nContent-Transfer-Encoding: quoted-printable", "=E9", "é"),
        ("Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: BASE64", "w6k=\r\n", "é"),
        ("Content-Type: text/plain; charset=nope", "x", "x"),
        ("Subject: x", "plain\r\n", "plain\r\n"),
    ] {
        let tree = tree(&format!("{head}\r\n\r\n{body}"));
        assert_eq!(tree.text(tree.root()).as_deref(), Some(text), "{head}");
    }
    let image = tree("Content-Type: image/png\r\n\r\nx");
    assert_eq!(image.text(image.root()), None);
}

#[test]
fn info_has_what_policies_ask_for() {
    let info = |raw: &str| {
        let tree = tree(raw);
        tree.info(tree.root())
    };
    let full = info(
        "Content-Type: TEXT/Html; Charset=UTF-8; name=b.txt\r\nContent-Disposition: inline; filename*=utf-8''%C3%A9.txt\r\n\r\n",
    );
    let expected = PartInfo {
        mimetype: "text/html".into(),
        charset: Some("utf-8".into()),
        encoding: "7bit".into(),
        filename: Some("é.txt".into()),
        is_attachment: true,
    };
    assert_eq!(full, expected);
    let bare = info("Subject: x\r\n\r\n");
    assert_eq!(
        (bare.mimetype.as_str(), bare.charset.as_deref(), bare.encoding.as_str()),
        ("text/plain", Some("us-ascii"), "7bit")
    );
    assert_eq!((bare.filename, bare.is_attachment), (None, false));
    let image =
        info("Content-Type: image/png\r\nContent-Disposition: attachment\r\nContent-Transfer-Encoding: Base64\r\n\r\n");
    assert_eq!((image.charset, image.is_attachment, image.encoding.as_str()), (None, true, "base64"));
}

#[test]
fn depth_and_number_of_parts_are_limited() {
    let deep: String =
        (0..300).map(|n| format!("Content-Type: multipart/mixed; boundary=b{n}\r\n\r\n--b{n}\r\n")).collect();
    let parsed = tree(&deep);
    assert_eq!(parsed.parts().len(), DEPTH_MAX);
    assert!(parsed.parts().iter().all(|part| part.depth < DEPTH_MAX));
    let messages = "Content-Type: message/rfc822\r\n\r\n".repeat(300);
    assert_eq!(tree(&messages).parts().len(), DEPTH_MAX);
    let many =
        format!("Content-Type: multipart/mixed; boundary=b\r\n\r\n{}", "--b\r\n\r\nx\r\n".repeat(PARTS_MAX + 50));
    assert_eq!(tree(&many).parts().len(), PARTS_MAX);
}

fn message() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        Just("--a\r\n"),
        Just("--b\r\n"),
        Just("--a--\r\n"),
        Just("--b--\r\n"),
        Just("\r\n"),
        Just("\n"),
        Just("text"),
        Just("Content-Type: multipart/mixed; boundary=a\r\n"),
        Just("Content-Type: multipart/mixed; boundary=\"b\"\r\n"),
        Just("Content-Type: message/rfc822\r\n"),
        Just("Content-Type: text/html\r\n"),
        Just("--"),
        Just(" "),
        Just("é"),
    ];
    proptest::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn parts_lie_in_their_parents_one_after_the_other(raw in message()) {
        let tree = tree(&raw);
        let mut last_end = vec![0; tree.parts().len()];
        prop_assert_eq!(tree.root().body.end, raw.len());
        for (at, part) in tree.parts().iter().enumerate() {
            prop_assert!(part.headers.start <= part.headers.end && part.headers.end <= part.body.start);
            prop_assert!(part.body.start <= part.body.end);
            if let Some(parent) = part.parent {
                prop_assert!(parent < at);
                let outer = &tree.parts()[parent];
                prop_assert!(outer.body.start <= part.headers.start && part.body.end <= outer.body.end);
                prop_assert!(last_end[parent] <= part.headers.start);
                last_end[parent] = part.body.end;
            }
        }
    }
}
