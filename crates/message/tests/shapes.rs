//! Three hundred shapes of messages, whole and broken, as Python's `email` and another parser read them; and again after edits.
//!
//! The shapes come from a generator of fixed seed: nesting, odd boundaries, preambles and epilogues, missing and doubled delimiters,
//! truncation, broken encodings, octets beyond ASCII. What the readers are known to see differently is not generated: the same
//! boundary in one another, two delimiters in a row, lone carriage returns, a line in the middle of a header that is no field.

use mail_parser::{Message, MessageParser, PartType};
use ph_message::mime::{MimeForest, Place};
use ph_message::{Body, Content, MimeTree};
use std::io::Write;
use std::process::{Command, Stdio};

const SHAPES: usize = 300;

/// A generator of numbers that is the same everywhere (Marsaglia's xorshift).
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % limit as u64) as usize
    }

    fn one<'a, T: ?Sized>(&mut self, of: &[&'a T]) -> &'a T {
        of[self.below(of.len())]
    }

    fn chance(&mut self, of: usize) -> bool {
        self.below(of) == 0
    }
}

struct Shape {
    raw: Vec<u8>,
    /// Nothing about it is broken: every reader must agree.
    whole: bool,
}

struct Generator {
    numbers: Numbers,
    out: Vec<u8>,
    boundaries: usize,
    broken: bool,
    /// What ends a line.
    line_end: &'static str,
}

impl Generator {
    fn shape(seed: usize) -> Shape {
        let numbers = Numbers(0x9e37_79b9_7f4a_7c15 ^ (seed as u64 + 1).wrapping_mul(0x1234_5677));
        let broken = seed % 3 == 2;
        let line_end = if broken && seed.is_multiple_of(5) { "\n" } else { "\r\n" };
        let mut generator = Generator { numbers, out: Vec::new(), boundaries: 0, broken, line_end };
        generator.line("From: \"A, B\" <a@b.example>");
        generator.line("Subject: =?utf-8?q?caf=C3=A9?=");
        if generator.numbers.chance(2) {
            generator.line("MIME-Version: 1.0");
        }
        if generator.numbers.chance(4) {
            generator.line("X-Raw: caf\u{e9} \u{ff}");
        }
        generator.part(0, !seed.is_multiple_of(4));
        if broken && generator.numbers.chance(4) {
            // A connection that broke, at the end of a line: half a header line means something else to everybody.
            let keep = generator.out.len() - generator.numbers.below(generator.out.len() / 2);
            let lines = generator.out[..keep].iter().rposition(|&byte| byte == b'\n').map_or(0, |at| at + 1);
            let with_line_end = generator.numbers.chance(2);
            generator.out.truncate(if with_line_end { lines } else { lines - generator.line_end.len() });
        }
        Shape { raw: generator.out, whole: !broken }
    }

    fn line(&mut self, text: &str) {
        self.out.extend_from_slice(text.as_bytes());
        self.out.extend_from_slice(self.line_end.as_bytes());
    }

    /// The rest of a header, its blank line and the body.
    fn part(&mut self, depth: usize, container: bool) {
        match self.numbers.below(8) {
            0..=4 if container && depth < 4 => self.multipart(depth),
            5 if depth < 4 && depth > 0 => {
                self.line("Content-Type: message/rfc822");
                self.line("");
                self.line("Subject: inner");
                self.part(depth + 1, container);
            }
            _ if container && depth == 0 => self.multipart(depth),
            _ => self.leaf(),
        }
    }

    fn leaf(&mut self) {
        let (kind, encoding, body) = [
            ("text/plain; charset=utf-8", "8bit", "caf\u{e9} \u{4f60}"),
            ("text/plain; charset=iso-8859-1", "quoted-printable", "caf=E9 =\nand more=20"),
            ("text/html; charset=utf-8", "base64", "PHA+Y2Fmw6k8L3A+"),
            ("text/plain", "", "two\nlines\n"),
            ("text/plain; charset=\"us-ascii\"; format=flowed", "7bit", ""),
            ("image/png; name=\"a b.png\"", "base64", "iVBORw0KGgo="),
            ("application/octet-stream", "binary", "\u{0}\u{1}\u{7f}"),
            ("", "", "no header at all"),
        ][self.numbers.below(8)];
        if !kind.is_empty() {
            let name = self.numbers.one(&["Content-Type", "content-type", "CONTENT-TYPE"]);
            self.line(&format!("{name}: {kind}"));
        }
        if !encoding.is_empty() {
            self.line(&format!("Content-Transfer-Encoding: {encoding}"));
        }
        if self.numbers.chance(4) {
            self.line(
                "Content-Disposition: attachment;\r\n filename*=utf-8''%C3%A9.txt"
                    .replace("\r\n", self.line_end)
                    .as_str(),
            );
        }
        self.line("");
        if self.broken && self.numbers.chance(3) {
            // What says that it is encoded is not, or badly.
            let garbage = self.numbers.one(&["=ZZ =E", "%%%not base64", "--", "--not a delimiter--", "=", "A"]);
            self.line(garbage);
        }
        let body = body.replace('\n', self.line_end);
        self.line(&body);
        if self.numbers.chance(4) {
            self.line("");
        }
    }

    fn multipart(&mut self, depth: usize) {
        self.boundaries += 1;
        // The number is at the end of each, in brackets of its own, so that none is the beginning of another one.
        let base = self.numbers.one(&[
            "b",
            "=_Part",
            "----=_NextPart_000",
            "a b",
            "x'()+_,-./:=?y",
            "0123456789012345678901234567890123456789012345678901234",
        ]);
        let boundary = format!("{base}_{}_", self.boundaries);
        let kind = self.numbers.one(&["mixed", "alternative", "related", "digest", "signed; micalg=x", "x-unknown"]);
        let fold = if self.numbers.chance(2) { format!(";{}\t", self.line_end) } else { "; ".to_owned() };
        self.line(&format!("Content-Type: multipart/{kind}{fold}boundary=\"{boundary}\""));
        self.line("");
        if self.numbers.chance(3) {
            self.line("This is a message in several parts.");
            self.line(&format!("-- {boundary} is no delimiter, and --{boundary} neither"));
        }
        let is_digest = kind == "digest";
        for _ in 0..1 + self.numbers.below(3) {
            let blanks = if self.numbers.chance(6) { " \t" } else { "" };
            self.line(&format!("--{boundary}{blanks}"));
            if self.broken && self.numbers.chance(8) {
                self.line("just text, and no header");
                continue;
            }
            if is_digest && self.numbers.chance(2) {
                self.line("");
                self.line("Subject: in a digest");
                self.leaf();
                continue;
            }
            if self.numbers.chance(3) {
                self.line("Content-ID: <x@y.example>");
            }
            self.part(depth + 1, true);
        }
        if self.broken && self.numbers.chance(4) {
            return; // never closed
        }
        self.line(&format!("--{boundary}--"));
        if self.numbers.chance(3) {
            self.line("An epilogue,");
            self.line("of two lines.");
        }
        if self.broken && self.numbers.chance(6) {
            self.line(&format!("--{boundary}"));
            self.line("");
            self.line("behind the end");
        }
    }
}

fn shapes() -> Vec<Shape> {
    (0..SHAPES).map(Generator::shape).collect()
}

/// One line a part: depth, type, and the octets of a leaf in hexadecimal.
fn ours(raw: &[u8]) -> Vec<String> {
    let tree = MimeTree::parse(&Content::parse(raw.to_vec().into())).unwrap();
    let parts = tree.parts().iter().enumerate();
    let line = |(at, part): (usize, &ph_message::Part)| {
        let leaf = tree.children(at).next().is_none();
        let body = match tree.body(part) {
            _ if !leaf => "-".to_owned(),
            // What a multipart without parts holds is nobody's content,
            _ if part.content_type.is_multipart() => String::new(),
            // and Python ends a part that nothing ends as if a delimiter did.
            body if part.depth > 0 && part.body.end == raw.len() => {
                let body = body.strip_suffix(b"\n").unwrap_or(body);
                hex(body.strip_suffix(b"\r").unwrap_or(body))
            }
            body => hex(body),
        };
        format!("{} {} {body}", part.depth, part.content_type.value)
    };
    parts.map(line).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

const SCRIPT: &str = r#"
import sys, email
data = sys.stdin.buffer
def show(part, depth, out):
    payload = part.get_payload()
    body = "-" if part.is_multipart() else (payload or "").encode("utf-8", "surrogateescape").hex()
    if body != "-" and part.get_content_maintype() == "multipart":
        body = ""
    out.append("%d %s %s" % (depth, part.get_content_type(), body))
    for child in (payload if part.is_multipart() else []):
        show(child, depth + 1, out)
while True:
    head = data.readline()
    if not head:
        break
    out = []
    show(email.message_from_bytes(data.read(int(head))), 0, out)
    print("\n".join(out) + "\n.")
"#;

/// How Python reads some messages; `None` where there is no Python, which only a machine that is not CI may lack.
fn pythons(messages: &[Vec<u8>]) -> Option<Vec<Vec<String>>> {
    let child = Command::new("python3").args(["-c", SCRIPT]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
    let mut child = match child {
        Ok(child) => child,
        Err(error) if std::env::var_os("CI").is_none() && error.kind() == std::io::ErrorKind::NotFound => return None,
        Err(error) => panic!("python3: {error}"),
    };
    let mut input = child.stdin.take().unwrap();
    let all: Vec<u8> = messages.iter().flat_map(|raw| [format!("{}\n", raw.len()).as_bytes(), raw].concat()).collect();
    let writer = std::thread::spawn(move || input.write_all(&all));
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap().unwrap();
    assert!(output.status.success());
    let text = String::from_utf8(output.stdout).unwrap();
    let mut answers = vec![Vec::new()];
    for line in text.lines() {
        match line {
            "." => answers.push(Vec::new()),
            line => answers.last_mut().unwrap().push(line.to_owned()),
        }
    }
    answers.pop();
    assert_eq!(answers.len(), messages.len());
    Some(answers)
}

fn compare(messages: &[Vec<u8>]) {
    let Some(theirs) = pythons(messages) else { return };
    let differing: Vec<_> = messages.iter().zip(&theirs).filter(|(raw, theirs)| ours(raw) != **theirs).collect();
    // The shortest ones say the most.
    let mut shown: Vec<String> = Vec::new();
    let mut differing = differing;
    differing.sort_by_key(|(raw, _)| raw.len());
    for (raw, theirs) in differing.iter().take(12) {
        let (ours, raw) = (ours(raw).join("\n"), String::from_utf8_lossy(raw));
        shown.push(format!("ours\n{ours}\ntheirs\n{}\nof\n{raw}", theirs.join("\n")));
    }
    assert!(shown.is_empty(), "{} differ:\n{}", differing.len(), shown.join("\n------\n"));
}

#[test]
fn python_sees_the_same_parts() {
    let messages: Vec<_> = shapes().into_iter().map(|shape| shape.raw).collect();
    assert!(messages.iter().map(|raw| ours(raw).len()).sum::<usize>() > 4 * SHAPES);
    compare(&messages);
}

/// The octets of the leaves, decoded, in document order.
fn their_leaves(message: &Message, out: &mut Vec<Vec<u8>>) {
    for part in &message.parts {
        match &part.body {
            PartType::Text(text) | PartType::Html(text) => out.push(text.as_bytes().trim_ascii_end().to_vec()),
            PartType::Binary(bytes) | PartType::InlineBinary(bytes) => out.push(bytes.trim_ascii_end().to_vec()),
            PartType::Message(inner) => their_leaves(inner, out),
            PartType::Multipart(_) => {}
        }
    }
}

/// The other parser reads a header where a digest's part has none (RFC 2046 section 5.1.5).
fn is_digest(raw: &[u8]) -> bool {
    raw.windows(16).any(|window| window == b"multipart/digest")
}

#[test]
fn another_parser_decodes_whole_messages_to_the_same_leaves() {
    let mut stumbled = 0;
    let shapes: Vec<_> = shapes().into_iter().filter(|shape| shape.whole && !is_digest(&shape.raw)).collect();
    for shape in &shapes {
        // It stumbles over some (0.11.9: "could not find multipart"), which says nothing about ours.
        let Ok(theirs) = std::panic::catch_unwind(|| MessageParser::default().parse(&shape.raw).unwrap()) else {
            stumbled += 1;
            continue;
        };
        let mut expected = Vec::new();
        their_leaves(&theirs, &mut expected);
        let tree = MimeTree::parse(&Content::parse(shape.raw.clone().into())).unwrap();
        let leaves = tree.parts().iter().enumerate().filter(|(at, _)| tree.children(*at).next().is_none());
        let found: Vec<Vec<u8>> = leaves
            .map(|(_, part)| match tree.text(part) {
                Some(text) => text.as_bytes().trim_ascii_end().to_vec(),
                None => tree.decoded(part).trim_ascii_end().to_vec(),
            })
            .collect();
        let text = |leaves: &[Vec<u8>]| -> Vec<String> {
            leaves.iter().map(|leaf| String::from_utf8_lossy(leaf).into_owned()).collect()
        };
        assert_eq!(text(&found), text(&expected), "{}", String::from_utf8_lossy(&shape.raw));
    }
    assert!(stumbled < shapes.len() / 4, "{stumbled} of {}", shapes.len());
}

/// One edit of each kind at some part, and what comes out.
fn edited(shape: &Shape, seed: usize) -> Vec<Vec<u8>> {
    let content = Content::parse(shape.raw.clone().into());
    let count = MimeTree::parse(&content).unwrap().parts().len();
    let mut numbers = Numbers(seed as u64 + 99);
    let mut results = Vec::new();
    for kind in 0..5 {
        let mut forest = MimeForest::default();
        forest.take(&content, MimeTree::parse(&content).unwrap());
        let ids: Vec<_> = std::iter::successors(forest.top(), |part| forest.thread(*part)).collect();
        let part = ids[numbers.below(count)];
        let new = Content::new("Content-Type: text/plain\r\n\r\n".into(), Body::Memory("new text".into()));
        match kind {
            0 if part != ids[0] => forest.unlink(part).unwrap(),
            1 | 2 => {
                let new = forest.make(&new).unwrap();
                let place = if kind == 1 { Place::LastIn(part) } else { Place::FirstIn(part) };
                forest.link(new, place).unwrap();
            }
            3 => forest.replace(part, &new, false).unwrap(),
            _ => {
                let mut head = forest.content_of(part).unwrap();
                head.prepend_header("X-New", b"1").unwrap();
                forest.replace(part, &head, true).unwrap();
            }
        }
        results.push(forest.content().unwrap().to_bytes().unwrap().to_vec());
    }
    results
}

#[test]
fn python_sees_the_same_parts_after_edits() {
    let messages: Vec<_> = shapes().iter().enumerate().flat_map(|(at, shape)| edited(shape, at)).collect();
    assert!(messages.len() >= 5 * SHAPES);
    compare(&messages);
}
