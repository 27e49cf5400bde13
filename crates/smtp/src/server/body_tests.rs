use super::*;
use crate::server::testing::has_foreign_dot_line;
use proptest::prelude::*;

const POLICIES: [LoneLf; 3] = [LoneLf::Ignore, LoneLf::Fix, LoneLf::Pedantic];

fn rules(in_headers: LoneLf, in_body: LoneLf) -> BodyRules {
    BodyRules { size_max: 0, header_size_max: 0, lone_in_headers: in_headers, lone_in_body: in_body }
}

/// Content, fault, and how much of the input the data took (`None`: it did not end).
type Outcome = (Vec<u8>, Option<BodyFault>, Option<usize>);

fn data(rules: BodyRules, pieces: &[&[u8]]) -> Outcome {
    let mut reader = BodyReader::data(rules);
    let mut body = Vec::new();
    let mut taken = 0;
    for piece in pieces {
        match reader.feed(piece, &mut body) {
            Progress::More => taken += piece.len(),
            Progress::End { consumed } => return (body, reader.fault(), Some(taken + consumed)),
        }
    }
    (body, reader.fault(), None)
}

fn chunks(rules: BodyRules, pieces: &[&[u8]]) -> Outcome {
    let mut reader = BodyReader::chunks(rules);
    let mut body = Vec::new();
    for piece in pieces {
        assert_eq!(reader.feed(piece, &mut body), Progress::More, "no dot ends a chunk");
    }
    reader.finish(&mut body);
    (body, reader.fault(), None)
}

/// `content` after a header block, as DATA.
fn in_body(policy: LoneLf, content: &[u8]) -> Outcome {
    let input = [b"s: x\r\n\r\n", content, b"\r\n.\r\n"].concat();
    let (body, fault, end) = data(rules(LoneLf::Pedantic, policy), &[&input]);
    assert_eq!(end, Some(input.len()), "{content:?}");
    (body.get(8..).unwrap_or_default().to_vec(), fault, end)
}

#[test]
fn near_ends_never_end_the_data_and_are_repaired_or_refused() {
    for near in ["\n.\n", "\r\n.\n", "\n.\r\n", "\r.\r", "\r\n.\r", "\r.\r\n", "\r.\n", "\n.\r", "\r\r\n.\r\r\n"] {
        let content = format!("a{near}b");
        for policy in [LoneLf::Ignore, LoneLf::Fix] {
            let (body, fault, _) = in_body(policy, content.as_bytes());
            assert_eq!(fault, None, "{near:?} {policy:?}");
            let text = String::from_utf8(body).unwrap();
            assert!(text.contains("\r\n.\r\n") && text.ends_with("b\r\n"), "{near:?} {policy:?} {text:?}");
        }
        let (_, fault, _) = in_body(LoneLf::Pedantic, content.as_bytes());
        assert_eq!(fault, Some(BodyFault::LoneLfInBody), "{near:?}");
    }
}

#[test]
fn a_dot_line_with_nuls_is_refused_under_every_policy() {
    for near in
        ["\n\0.\n", "\n.\0\n", "\r\n\0.\r\n", "\r\n.\0\r\n", "\r\0.\0\r", "\r\n.\0\0\r", "\n\0\0.\r\n", "\r\n..\0\r\n"]
    {
        for policy in POLICIES {
            let (_, fault, _) = in_body(policy, format!("a{near}b").as_bytes());
            assert_eq!(fault, Some(BodyFault::LoneLfInBody), "{near:?} {policy:?}");
            let input = format!("s: x\r\n\r\na{near}b");
            let (_, fault, _) = chunks(rules(LoneLf::Pedantic, policy), &[input.as_bytes()]);
            let wanted = !near.starts_with("\r\n..");
            assert_eq!(fault.is_some(), wanted, "in BDAT: {near:?} {policy:?}");
        }
    }
    // A NUL elsewhere is content.
    assert_eq!(in_body(LoneLf::Ignore, b"a\0b\r\n\0\r\n.a\0"), (b"a\0b\r\n\0\r\na\0\r\n".to_vec(), None, Some(24)));
}

#[test]
fn lone_line_ends_are_kept_fixed_or_refused() {
    for (content, ignored, fixed) in [
        ("a\nb", "a\nb\r\n", "a\r\nb\r\n"),
        ("a\rb", "a\rb\r\n", "a\r\nb\r\n"),
        ("a\r\rb", "a\r\rb\r\n", "a\r\n\r\nb\r\n"),
        ("a\n\r\nb", "a\n\r\nb\r\n", "a\r\n\r\nb\r\n"),
        ("a\n..b", "a\n..b\r\n", "a\r\n..b\r\n"),
        ("a\r\n..b", "a\r\n.b\r\n", "a\r\n.b\r\n"),
        ("a\r\n.b", "a\r\nb\r\n", "a\r\nb\r\n"),
        ("a\r\n..", "a\r\n.\r\n", "a\r\n.\r\n"),
        ("a\r\n..\nb", "a\r\n.\r\nb\r\n", "a\r\n.\r\nb\r\n"),
        ("a\n.b", "a\n.b\r\n", "a\r\n.b\r\n"),
        ("a\n.\n.\nb", "a\r\n.\r\n.\r\nb\r\n", "a\r\n.\r\n.\r\nb\r\n"),
    ] {
        let text = |policy| String::from_utf8(in_body(policy, content.as_bytes()).0).unwrap();
        assert_eq!(text(LoneLf::Ignore), ignored, "{content:?}");
        assert_eq!(text(LoneLf::Fix), fixed, "{content:?}");
        let lone = content.replace("\r\n", "").contains(['\r', '\n']);
        assert_eq!(in_body(LoneLf::Pedantic, content.as_bytes()).1.is_some(), lone, "{content:?}");
    }
}

#[test]
fn headers_and_body_have_their_own_policy() {
    let input = b"a: b\nc: d\r\n\r\nbody\nbody\r\n.\r\n";
    let fault = |headers, body| data(rules(headers, body), &[input]).1;
    assert_eq!(fault(LoneLf::Pedantic, LoneLf::Ignore), Some(BodyFault::LoneLfInHeaders));
    assert_eq!(fault(LoneLf::Fix, LoneLf::Pedantic), Some(BodyFault::LoneLfInBody));
    // The first fault is kept.
    assert_eq!(fault(LoneLf::Pedantic, LoneLf::Pedantic), Some(BodyFault::LoneLfInHeaders));
    let (body, fault, _) = data(rules(LoneLf::Fix, LoneLf::Ignore), &[input]);
    assert_eq!((body, fault), (b"a: b\r\nc: d\r\n\r\nbody\nbody\r\n".to_vec(), None));
    // Where line ends are fixed, a fixed blank line ends the header block; where they are ignored, it does not.
    let input = b"a: b\n\nbody\rbody\r\n.\r\n";
    assert_eq!(data(rules(LoneLf::Fix, LoneLf::Pedantic), &[input]).1, Some(BodyFault::LoneLfInBody));
    assert_eq!(data(rules(LoneLf::Ignore, LoneLf::Pedantic), &[input]).1, None);
}

#[test]
fn sizes_below_at_and_above_the_limit() {
    let content = "s: x\r\n\r\n0123456789\r\n"; // 20 octets, of which 8 are the header block
    let wire = format!("{content}.\r\n");
    for (size_max, header_size_max, wanted) in [
        (0, 0, None),
        (21, 9, None),
        (20, 8, None),
        (19, 0, Some(BodyFault::TooLarge)),
        (0, 7, Some(BodyFault::HeaderTooLarge)),
        (7, 7, Some(BodyFault::TooLarge)),
    ] {
        let rules = BodyRules { size_max, header_size_max, ..rules(LoneLf::Pedantic, LoneLf::Ignore) };
        for split in 0..wire.len() {
            let (head, tail) = wire.as_bytes().split_at(split);
            let (body, fault, end) = data(rules, &[head, tail]);
            assert_eq!((fault, end), (wanted, Some(wire.len())), "{size_max} {header_size_max} {split}");
            assert!(fault.is_some() || body == content.as_bytes());
            assert!(size_max == 0 || body.len() as u64 <= size_max);
        }
    }
    // Dots of transparency and the end are not counted (RFC 1870 section 3).
    let rules = BodyRules { size_max: 7, ..rules(LoneLf::Ignore, LoneLf::Ignore) };
    assert_eq!(data(rules, &[b"\r\n..xx\r\n.\r\n"]), (b"\r\n.xx\r\n".to_vec(), None, Some(11)));
}

#[test]
fn an_empty_message_and_the_bytes_behind_the_end() {
    let plain = rules(LoneLf::Pedantic, LoneLf::Ignore);
    assert_eq!(data(plain, &[b".\r\nQUIT\r\n"]), (vec![], None, Some(3)));
    assert_eq!(data(plain, &[b"a\r\n.\r\n.\r\n"]), (b"a\r\n".to_vec(), None, Some(6)));
    assert_eq!(data(plain, &[b"a\r\n.\r"]).2, None);
    assert_eq!(data(plain, &[]).2, None);
}

#[test]
fn chunks_keep_their_dots_but_no_dot_line_of_another_kind() {
    let plain = rules(LoneLf::Pedantic, LoneLf::Ignore);
    let (body, fault, _) = chunks(plain, &[b"s: x\r\n\r\n", b".a\r\n..\r\n.", b"\r\nb\n", b".\nc\n."]);
    assert_eq!(fault, None);
    assert_eq!(body, b"s: x\r\n\r\n.a\r\n..\r\n.\r\nb\r\n.\r\nc\r\n.");
    for (tail, wanted) in
        [("a\r", "a\r"), ("a\n", "a\n"), ("\r\n.", "\r\n."), ("\r\n.\r", "\r\n.\r\n"), ("a\n.\r", "a\r\n.\r\n")]
    {
        let (body, fault, _) = chunks(plain, &[b"\r\n", tail.as_bytes()]);
        assert_eq!((String::from_utf8(body).unwrap(), fault), (format!("\r\n{wanted}"), None), "{tail:?}");
    }
}

/// The first CRLF "." CRLF, the line end before the data included.
fn end_of_data(input: &[u8]) -> Option<usize> {
    let whole = [b"\r\n", input].concat();
    whole.windows(5).position(|window| window == b"\r\n.\r\n").map(|at| at + 3)
}

fn check(input: &[u8], splits: bool) {
    for policy in POLICIES {
        for prefix in [&b""[..], b"\r\n"] {
            // Without a prefix all of it may be header block.
            let input = [prefix, input].concat();
            let rules = rules(policy, policy);
            let whole = data(rules, &[&input]);
            assert_eq!(whole.2, end_of_data(&input), "{input:?} {policy:?}");
            if whole.1.is_none() && whole.2.is_some() {
                assert!(!has_foreign_dot_line(&whole.0), "{input:?} {policy:?}: {:?}", whole.0);
            }
            let whole_chunks = chunks(rules, &[&input]);
            if whole_chunks.1.is_none() {
                let content = [&whole_chunks.0[..], b"\r\n"].concat();
                assert!(!has_foreign_dot_line(&content), "{input:?} {policy:?}: {content:?}");
            }
            if splits {
                for at in 1..input.len() {
                    let (head, tail) = input.split_at(at);
                    assert_eq!(data(rules, &[head, tail]), whole, "{input:?} {policy:?} split at {at}");
                    assert_eq!(chunks(rules, &[head, tail]), whole_chunks, "{input:?} {policy:?} split at {at}");
                }
            }
        }
    }
}

#[test]
fn every_short_input_ends_where_it_must_and_any_split_gives_the_same() {
    const ALPHABET: &[u8] = b"\r\n.\0a";
    for length in 0..=6 {
        for number in 0..ALPHABET.len().pow(length) {
            let mut rest = number;
            let input: Vec<u8> = (0..length)
                .map(|_| {
                    let byte = ALPHABET[rest % ALPHABET.len()];
                    rest /= ALPHABET.len();
                    byte
                })
                .collect();
            check(&input, length < 6);
        }
    }
}

#[test]
fn blocks_and_single_bytes_give_the_same() {
    // Long enough for the block path, with something odd at each offset of a block.
    let line = "x".repeat(70) + "\r\n";
    let plain = format!("\r\n{}", line.repeat(12)).into_bytes();
    for odd in ["\r\n..", "\n", "\r", "\r\n.\n", "\r\n\0", "\0", "\r\n\r\n", "\r\n.\r\n"] {
        for at in 200..600 {
            let mut input = plain.clone();
            input.splice(at..at, odd.bytes());
            let rules = rules(LoneLf::Pedantic, LoneLf::Ignore);
            let single: Vec<&[u8]> = input.chunks(1).collect();
            assert_eq!(data(rules, &[&input]), data(rules, &single), "{odd:?} at {at}");
        }
    }
}

proptest! {
    #[test]
    fn random_inputs_in_random_pieces(
        input in proptest::collection::vec(prop_oneof![
            Just(b"\r\n".to_vec()), Just(b"\r".to_vec()), Just(b"\n".to_vec()), Just(b".".to_vec()), Just(b"\0".to_vec()),
            "[a-z ]{1,90}".prop_map(String::into_bytes),
        ], 0..60),
        size in 1_usize..400,
    ) {
        let input = input.concat();
        check(&input, false);
        for policy in POLICIES {
            let rules = rules(policy, policy);
            let pieces: Vec<&[u8]> = input.chunks(size).collect();
            prop_assert_eq!(data(rules, &pieces), data(rules, &[&input]));
            prop_assert_eq!(chunks(rules, &pieces), chunks(rules, &[&input]));
        }
    }
}
