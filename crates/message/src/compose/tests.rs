use super::*;
use crate::MimeTree;
use mail_parser::{MessageParser, MimeHeaders, PartType};
use proptest::prelude::*;
use std::io::Write;
use std::process::{Command, Stdio};

const HEAD: &[u8] = b"From: a@b.example\r\nSubject: s\r\n";

fn mixed<'a>(alternatives: Vec<Leaf<'a>>, attachments: Vec<Leaf<'a>>) -> Part<'a> {
    let leaves = |leaves: Vec<Leaf<'a>>| leaves.into_iter().map(Part::Leaf);
    let alternative = Part::Multipart("alternative", leaves(alternatives).collect());
    Part::Multipart("mixed", [alternative].into_iter().chain(leaves(attachments)).collect())
}

fn raw(root: &Part<'_>) -> Vec<u8> {
    compose(HEAD.to_vec(), root, "18/00-07149-D7E16B94").to_bytes().unwrap().to_vec()
}

/// Type, file name and decoded content of every leaf, as our own reader has them.
fn leaves(raw: &[u8]) -> Vec<(String, Option<String>, Vec<u8>)> {
    let tree = MimeTree::parse(&Content::parse(raw.to_vec().into())).unwrap();
    let leaves = tree.parts().iter().enumerate().filter(|(at, part)| {
        let inside = part.parent.is_some_and(|parent| tree.is_inside(parent, "message/rfc822"));
        !part.content_type.is_multipart() && !inside && (*at > 0 || tree.parts().len() == 1)
    });
    leaves
        .map(|(_, part)| {
            let info = tree.info(part);
            (info.mimetype, info.filename, tree.decoded(part).into_owned())
        })
        .collect()
}

/// The same, as Python's `email` package has them: one line a leaf.
const READER: &str = r#"
import sys, email, email.policy
data = sys.stdin.buffer.read()
while data:
    head, data = data.split(b"\n", 1)
    raw, data = data[:int(head)], data[int(head):]
    message = email.message_from_bytes(raw, policy=email.policy.default)
    def walk(part):
        if part.get_content_type() == "message/rfc822":
            # What lies between the part's own header and the delimiter, as the generator wrote it.
            inner = part.get_payload(0).as_bytes(policy=email.policy.SMTP)
            yield part, inner
        elif part.is_multipart():
            for child in part.iter_parts():
                yield from walk(child)
        else:
            yield part, part.get_payload(decode=True)
    for part, content in walk(message):
        defects = [type(d).__name__ for d in part.defects]
        print(part.get_content_type(), part.get_filename() or "-", content.hex() or "-", ",".join(defects) or "-", sep="\t")
    print("end", [type(d).__name__ for d in message.defects], message["Subject"], sep="\t")
"#;

/// What Python reads out of each message; `None` where there is no Python.
fn python(messages: &[Vec<u8>]) -> Option<Vec<Vec<String>>> {
    let spawned = Command::new("python3")
        .args(["-c", READER])
        .env("PYTHONIOENCODING", "utf-8")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn();
    let mut child = match spawned {
        Ok(child) => child,
        Err(error) if std::env::var_os("CI").is_none() => {
            eprintln!("python3: {error}");
            return None;
        }
        Err(error) => panic!("python3: {error}"),
    };
    let mut input = Vec::new();
    for message in messages {
        input.extend_from_slice(format!("{}\n", message.len()).as_bytes());
        input.extend_from_slice(message);
    }
    let mut stdin = child.stdin.take().unwrap();
    let writer = std::thread::spawn(move || stdin.write_all(&input));
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap().unwrap();
    assert!(output.status.success());
    let text = String::from_utf8(output.stdout).unwrap();
    let mut read = vec![Vec::new()];
    for line in text.lines() {
        if line.starts_with("end\t") {
            assert_eq!(line, "end\t[]\ts");
            read.push(Vec::new());
        } else {
            read.last_mut().unwrap().push(line.to_owned());
        }
    }
    read.pop();
    Some(read)
}

fn hex(bytes: &[u8]) -> String {
    if bytes.is_empty() { "-".into() } else { bytes.iter().map(|byte| format!("{byte:02x}")).collect() }
}

const NESTED: &[u8] =
    b"From: x@y.example\r\nSubject: inner\r\n\r\n.\r\nFrom here\r\n--=_18.00.07149.D7E16B94_A--\r\nend\r\n";

fn shapes() -> Vec<Vec<u8>> {
    let long = "x".repeat(3000);
    let texts: [&[u8]; 7] = [
        b"",
        b"one\ntwo\r\n",
        "caf\u{e9} = 1".as_bytes(),
        b"\r\n.\r\n",
        long.as_bytes(),
        b"From x\r\n-- \r\n",
        b"a \t",
    ];
    let binaries: [&[u8]; 4] = [b"", b"\0\x01", b"\r\n\n\r\xff\xfe", &[7; 1000]];
    let mut shapes = Vec::new();
    for text in texts {
        for binary in binaries {
            for encoding in [TransferEncoding::Base64, TransferEncoding::QuotedPrintable] {
                let alternatives = vec![
                    Leaf::alternative("text/plain", text).unwrap(),
                    Leaf::alternative("text/html; charset=utf-8", text).unwrap(),
                ];
                let attachments = vec![
                    Leaf::attachment("application/x", "./a.bin", b"X-A: 1\r\nX-B: 2", binary, encoding).unwrap(),
                    Leaf::attachment("image/png", "dir/caf\u{e9} \"1\".png", b"", binary, encoding).unwrap(),
                    Leaf::message(NESTED, "Attached Message"),
                ];
                shapes.push(raw(&mixed(alternatives, attachments)));
            }
        }
    }
    let text = Leaf::text("caf\u{e9}\n", Some("iso-8859-1")).unwrap();
    shapes.push(raw(&Part::Multipart("mixed", vec![Part::Leaf(text), Part::Leaf(Leaf::message(NESTED, ""))])));
    shapes
}

#[test]
fn python_and_our_own_reader_read_the_same() {
    let shapes = shapes();
    let Some(theirs) = python(&shapes) else { return };
    assert_eq!(theirs.len(), shapes.len());
    for (shape, theirs) in shapes.iter().zip(theirs) {
        let ours: Vec<String> = leaves(shape)
            .into_iter()
            .map(|(kind, name, content)| format!("{kind}\t{}\t{}\t-", name.unwrap_or("-".into()), hex(&content)))
            .collect();
        assert_eq!(ours, theirs, "{}", String::from_utf8_lossy(shape));
    }
}

#[test]
fn mail_parser_reads_the_same() {
    for shape in shapes() {
        let parsed = MessageParser::default().parse(&shape[..]).unwrap();
        let theirs: Vec<(Option<String>, Vec<u8>)> = parsed
            .parts
            .iter()
            .filter(|part| !part.is_multipart())
            .map(|part| match &part.body {
                PartType::Message(inner) => (part.attachment_name(), inner.raw_message().to_vec()),
                _ => (part.attachment_name(), part.contents().to_vec()),
            })
            .map(|(name, content)| (name.map(str::to_owned), content))
            .collect();
        let ours: Vec<(Option<String>, Vec<u8>)> = leaves(&shape)
            .into_iter()
            .map(|(kind, name, content)| match kind.starts_with("text/") && std::str::from_utf8(&content).is_err() {
                true => (name, charset::decode_or_utf8("iso-8859-1", &content).into_owned().into_bytes()),
                false => (name, content),
            })
            .collect();
        assert_eq!(theirs, ours, "{}", String::from_utf8_lossy(&shape));
    }
}

#[test]
fn the_structure_is_mixed_with_alternatives_and_attachments() {
    let alternatives = vec![Leaf::alternative("text/plain", "\u{e9}=1".as_bytes()).unwrap()];
    let attachments = vec![
        Leaf::attachment("application/x", "./a.bin", b"X-A: 1\r\nX-B: 2", b"\0\x01", TransferEncoding::QuotedPrintable)
            .unwrap(),
    ];
    let raw = raw(&mixed(alternatives, attachments));
    let text = String::from_utf8(raw).unwrap();
    let want = concat!(
        "From: a@b.example\r\nSubject: s\r\nMIME-Version: 1.0\r\n",
        "Content-Type: multipart/mixed; boundary=\"=_18.00.07149.D7E16B94_A\"\r\n\r\n",
        "--=_18.00.07149.D7E16B94_A\r\n",
        "Content-Type: multipart/alternative; boundary=\"=_18.00.07149.D7E16B94_B\"\r\n\r\n",
        "--=_18.00.07149.D7E16B94_B\r\n",
        "Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n",
        "Content-Disposition: inline\r\n\r\n=C3=A9=3D1\r\n--=_18.00.07149.D7E16B94_B--\r\n",
        "\r\n--=_18.00.07149.D7E16B94_A\r\n",
        "Content-Type: application/x; name=\"a.bin\"\r\nContent-Transfer-Encoding: quoted-printable\r\n",
        "Content-Disposition: attachment; filename=\"a.bin\"\r\nX-A: 1\r\nX-B: 2\r\n\r\n=00=01\r\n",
        "--=_18.00.07149.D7E16B94_A--\r\n",
    );
    assert_eq!(text, want);
}

#[test]
fn a_text_without_charset_is_quoted_printable_and_any_other_base64() {
    for (kind, content, want) in [
        ("text/plain", "x", TransferEncoding::QuotedPrintable),
        ("text/html; format=flowed", "x", TransferEncoding::QuotedPrintable),
        ("text/plain; charset=utf8", "x", TransferEncoding::Base64),
        ("TEXT/plain; CHARSET=us-ascii", "x", TransferEncoding::Base64),
        ("application/json", "{}", TransferEncoding::Base64),
    ] {
        let leaf = Leaf::alternative(kind, content.as_bytes()).unwrap();
        assert_eq!(leaf.encoding, want, "{kind}");
    }
    assert_eq!(&*Leaf::alternative("text/plain; charset=utf8", b"x").unwrap().body, b"eA==\r\n");
}

#[test]
fn what_is_no_media_type_is_refused() {
    for kind in
        ["", "text", "text/", "/plain", "te xt/plain", "text/plain\r\nX: y", "multipart/mixed", "text/pl\u{e9}in"]
    {
        assert!(Leaf::alternative(kind, b"x").is_err(), "{kind}");
        assert!(Leaf::attachment(kind, "n", b"", b"x", TransferEncoding::Base64).is_err(), "{kind}");
    }
}

#[test]
fn fields_of_an_attachment_are_whole_lines_and_no_more() {
    let attachment =
        |fields: &'static str| Leaf::attachment("image/png", "n", fields.as_bytes(), b"x", TransferEncoding::Base64);
    for (given, written) in [
        ("", ""),
        ("X-A: 1", "X-A: 1\r\n"),
        ("X-A: 1\r\n", "X-A: 1\r\n"),
        ("X-A: 1\nX-B: 2", "X-A: 1\r\nX-B: 2\r\n"),
        ("X-A: 1\r\n folded", "X-A: 1\r\n folded\r\n"),
        ("Content-Type: text/html\r\nContent-ID: <i@x>\r\nContent-Transfer-Encoding: 8bit", "Content-ID: <i@x>\r\n"),
        ("Content-Disposition: inline", "Content-Disposition: inline\r\n"),
        ("Content-Description: caf\u{e9}", "Content-Description: =?utf-8?Q?caf=C3=A9?=\r\n"),
    ] {
        assert_eq!(String::from_utf8(attachment(given).unwrap().fields).unwrap(), written, "{given:?}");
    }
    for wrong in ["no field", "X-A: 1\r\n\r\nX-B: 2", "X-A: 1\r\n\r\n", "\r\nX-A: 1", " folded", ": x"] {
        assert_eq!(attachment(wrong).unwrap_err(), ComposeError::Fields, "{wrong:?}");
    }
    let inline = raw(&Part::Leaf(attachment("Content-Disposition: inline").unwrap()));
    assert_eq!(String::from_utf8(inline).unwrap().matches("Content-Disposition").count(), 1);
}

#[test]
fn file_names_are_cut_to_their_last_element() {
    for (path, name) in [
        ("./a.bin", "a.bin"),
        ("/etc/passwd", "passwd"),
        ("c:\\x\\y.doc", "y.doc"),
        ("a\r\nb", "ab"),
        ("dir/", ""),
        ("..", ".."),
    ] {
        assert_eq!(last_element(path), name);
    }
    assert_eq!(last_element(&"\u{e9}".repeat(200)).len(), 254);
}

#[test]
fn a_boundary_is_nowhere_in_what_is_attached() {
    let boundary = "=_18.00.07149.D7E16B94";
    let nested = format!("A: b\r\n\r\n--{boundary}_A\r\n--{boundary}.1_A--\r\n");
    let raw = raw(&Part::Multipart("mixed", vec![Part::Leaf(Leaf::message(nested.as_bytes(), ""))]));
    assert_eq!(leaves(&raw)[0].2, nested.as_bytes());
    assert!(String::from_utf8(raw).unwrap().contains("boundary=\"=_18.00.07149.D7E16B94.2_A\""));
}

#[test]
fn a_message_with_high_octets_makes_all_around_it_8bit() {
    let nested = "Subject: x\r\n\r\ncaf\u{e9}\r\n";
    let raw = raw(&mixed(vec![], vec![Leaf::message(nested.as_bytes(), "")]));
    let text = String::from_utf8(raw).unwrap();
    assert_eq!(text.matches("Content-Transfer-Encoding: 8bit").count(), 2);
    assert!(text.contains(&format!("\r\n\r\n{nested}\r\n--=_")));
}

#[test]
fn a_text_is_written_in_the_charset_that_it_fits() {
    for (text, charset, kind, encoding, body) in [
        ("see\n", None, "text/plain; charset=us-ascii", TransferEncoding::SevenBit, "see\r\n"),
        ("\u{e9}", None, "text/plain; charset=utf-8", TransferEncoding::QuotedPrintable, "=C3=A9"),
        ("\u{e9}", Some("ISO-8859-1"), "text/plain; charset=iso-8859-1", TransferEncoding::QuotedPrintable, "=E9"),
        ("\u{20ac}", Some("iso-8859-1"), "text/plain; charset=utf-8", TransferEncoding::QuotedPrintable, "=E2=82=AC"),
        ("see", Some("utf-8"), "text/plain; charset=utf-8", TransferEncoding::SevenBit, "see"),
    ] {
        let leaf = Leaf::text(text, charset).unwrap();
        assert_eq!((&*leaf.kind, leaf.encoding), (kind, encoding));
        assert_eq!(&*leaf.body, body.as_bytes());
    }
    for unknown in ["no-such", "", "utf-8; x=y", "a b"] {
        assert!(matches!(Leaf::text("x", Some(unknown)), Err(ComposeError::Charset(_))), "{unknown}");
    }
}

proptest! {
    #[test]
    fn what_goes_in_comes_out(
        texts in proptest::collection::vec("[a-z\u{e9}=. \t\r\n-]{0,60}", 0..3),
        files in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..200), 0..3),
        base64: bool,
    ) {
        let alternatives = texts.iter().map(|text| Leaf::alternative("text/html", text.as_bytes()).unwrap()).collect();
        let encoding = if base64 { TransferEncoding::Base64 } else { TransferEncoding::QuotedPrintable };
        let attach = |file| Leaf::attachment("application/x", "f", b"", file, encoding).unwrap();
        let root = mixed(alternatives, files.iter().map(|file| attach(file)).collect());
        let got: Vec<Vec<u8>> = leaves(&raw(&root)).into_iter().map(|(_, _, content)| content).collect();
        let want: Vec<Vec<u8>> =
            texts.iter().map(|text| fix_line_ends(text.as_bytes()).into_owned()).chain(files).collect();
        prop_assert_eq!(got, want);
    }
}
