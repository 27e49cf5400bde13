//! Edits: what is not edited keeps its octets, and the tree is always that of the next reader.

use super::*;
use proptest::prelude::*;

fn content(raw: &str) -> Content {
    Content::parse(Bytes::copy_from_slice(raw.as_bytes()))
}

fn forest(raw: &str) -> MimeForest {
    let content = content(raw);
    let mut forest = MimeForest::default();
    forest.take(&content, MimeTree::parse(&content).unwrap());
    forest
}

fn written(forest: &mut MimeForest) -> String {
    String::from_utf8_lossy(&forest.content().unwrap().to_bytes().unwrap()).into_owned()
}

/// The ids of the message's parts in document order.
fn walk(forest: &MimeForest) -> Vec<PartId> {
    std::iter::successors(forest.top(), |part| forest.thread(*part)).collect()
}

fn part(forest: &mut MimeForest, raw: &str) -> PartId {
    let (head, body) = raw.split_once("\r\n\r\n").unwrap();
    let head = if head.is_empty() { "\r\n".to_owned() } else { format!("{head}\r\n\r\n") };
    let content = Content::new(head.into(), Body::Memory(Bytes::copy_from_slice(body.as_bytes())));
    forest.make(&content).unwrap()
}

fn set_body(forest: &mut MimeForest, part: PartId, body: &str) {
    let mut content = forest.copy_of(part).unwrap();
    content.set_body(Body::Memory(Bytes::copy_from_slice(body.as_bytes())));
    forest.replace(part, &content, false).unwrap();
}

/// Whether a multipart stands in one of the same boundary: where one of them ends is then anybody's guess, and an edit that gives the
/// outer one another boundary may end handles.
fn is_ambiguous(forest: &MimeForest) -> bool {
    let (tree, _) = forest.find(forest.top().unwrap()).unwrap();
    let parts = tree.parts();
    parts.iter().any(|part| {
        let mut around = std::iter::successors(part.parent, |at| parts[*at].parent);
        part.boundary.is_some() && around.any(|at| parts[at].boundary == part.boundary)
    })
}

const TOP: &str = "Subject: x\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n";

#[test]
fn parts_are_linked_where_they_are_told() {
    for (body, place, expected) in [
        (
            "pre\r\n--b\r\n\r\none\r\n--b--\r\nepi\r\n",
            "last",
            "pre\r\n--b\r\n\r\none\r\n--b\r\nX: n\r\n\r\nnew\r\n--b--\r\nepi\r\n",
        ),
        (
            "pre\r\n--b\r\n\r\none\r\n--b--\r\nepi\r\n",
            "first",
            "pre\r\n--b\r\nX: n\r\n\r\nnew\r\n--b\r\n\r\none\r\n--b--\r\nepi\r\n",
        ),
        // The last part is empty, and its blank line ends in the delimiter's line end.
        ("--b\r\n\r\n--b--", "last", "--b\r\n\r\n--b\r\nX: n\r\n\r\nnew\r\n--b--"),
        // Never closed; never begun.
        ("--b\r\n\r\none\r\n", "last", "--b\r\n\r\none\r\n\r\n--b\r\nX: n\r\n\r\nnew\r\n--b--\r\n"),
        ("--b\r\n\r\none", "first", "--b\r\nX: n\r\n\r\nnew\r\n--b\r\n\r\none"),
        ("preamble", "last", "preamble\r\n--b\r\nX: n\r\n\r\nnew\r\n--b--\r\n"),
        ("", "first", "--b\r\nX: n\r\n\r\nnew\r\n--b--\r\n"),
        ("pre\r\n--b--\r\n", "first", "pre\r\n--b\r\nX: n\r\n\r\nnew\r\n--b--\r\n"),
        // Bare line feeds and blanks behind the delimiters stay.
        ("--b \n\none\n--b--\t\n", "last", "--b \n\none\n--b\r\nX: n\r\n\r\nnew\r\n--b--\t\n"),
    ] {
        let mut forest = forest(&format!("{TOP}{body}"));
        let top = forest.top().unwrap();
        let new = part(&mut forest, "X: n\r\n\r\nnew");
        let place = if place == "first" { Place::FirstIn(top) } else { Place::LastIn(top) };
        assert_eq!(forest.link(new, place), Ok(true), "{body:?}");
        assert_eq!(written(&mut forest), format!("{TOP}{expected}"), "{body:?}");
        assert_eq!(forest.link(new, place), Ok(false));
        assert_eq!(forest.parent(new), Some(top));
    }
}

#[test]
fn siblings_are_linked_before_and_after() {
    let mut forest = forest(&format!("{TOP}--b\r\n\r\na\r\n--b\r\n\r\nb\r\n--b--\r\n"));
    let ids = walk(&forest);
    let (after, before, nowhere) =
        (part(&mut forest, "\r\n\r\nc"), part(&mut forest, "\r\n\r\nd"), part(&mut forest, "\r\n\r\n"));
    assert_eq!(forest.link(after, Place::After(ids[1])), Ok(true));
    assert_eq!(forest.link(before, Place::Before(ids[1])), Ok(true));
    assert_eq!(forest.link(nowhere, Place::After(ids[0])), Ok(false));
    assert_eq!(forest.link(nowhere, Place::LastIn(ids[1])), Ok(false));
    assert_eq!(walk(&forest), [ids[0], before, ids[1], after, ids[2]]);
    assert_eq!(forest.next_sibling(ids[1]), Some(after));
    assert_eq!(
        written(&mut forest),
        format!("{TOP}--b\r\n\r\nd\r\n--b\r\n\r\na\r\n--b\r\n\r\nc\r\n--b\r\n\r\nb\r\n--b--\r\n")
    );
}

#[test]
fn what_is_taken_out_can_be_put_elsewhere() {
    for (body, at, expected) in [
        ("p\r\n--b\r\n\r\none\r\n--b\r\n\r\ntwo\r\n--b--\r\ne", 1, "p\r\n--b\r\n\r\ntwo\r\n--b--\r\ne"),
        ("p\r\n--b\r\n\r\none\r\n--b\r\n\r\ntwo\r\n--b--\r\ne", 2, "p\r\n--b\r\n\r\none\r\n--b--\r\ne"),
        ("p\r\n--b\r\n\r\none\r\n--b--\r\ne", 1, "p\r\n--b--\r\ne"),
        ("--b\r\n\r\none\r\n--b\r\n\r\ntwo", 2, "--b\r\n\r\none"),
        ("--b\r\n\r\none\r\n", 1, "--b--\r\n"),
    ] {
        let mut forest = forest(&format!("{TOP}{body}"));
        let ids = walk(&forest);
        forest.unlink(ids[at]).unwrap();
        assert_eq!(written(&mut forest), format!("{TOP}{expected}"), "{body:?}");
        assert!(forest.is_unlinked(ids[at]) && forest.parent(ids[at]).is_none() && forest.thread(ids[at]).is_none());
        assert_eq!(forest.unlink(ids[at]), Ok(()));
        assert_eq!(forest.link(ids[at], Place::LastIn(ids[0])), Ok(true));
        assert_eq!(walk(&forest).last(), Some(&ids[at]));
    }
    let mut one = forest("Subject: x\r\n\r\n");
    assert_eq!(one.unlink(one.top().unwrap()), Err(EditError::Top));
}

#[test]
fn a_container_takes_its_children_with_it() {
    let inner =
        "--b\r\nContent-Type: multipart/alternative; boundary=i\r\n\r\n--i\r\n\r\np\r\n--i\r\n\r\nh\r\n--i--\r\n";
    let mut forest = forest(&format!("{TOP}{inner}--b\r\n\r\nt\r\n--b--\r\n"));
    let ids = walk(&forest);
    forest.unlink(ids[1]).unwrap();
    assert_eq!(walk(&forest), [ids[0], ids[4]]);
    assert_eq!((forest.parent(ids[2]), forest.thread(ids[2])), (Some(ids[1]), Some(ids[3])));
    // Not into itself, nor into what is inside of it.
    assert_eq!(forest.link(ids[1], Place::LastIn(ids[1])), Ok(false));
    assert_eq!(forest.link(ids[1], Place::After(ids[2])), Ok(false));
    assert_eq!(forest.link(ids[1], Place::LastIn(ids[0])), Ok(true));
    assert_eq!(walk(&forest), [ids[0], ids[4], ids[1], ids[2], ids[3]]);
}

#[test]
fn a_delimiter_that_occurs_in_what_is_put_in_gives_way() {
    let mut forest = forest(&format!("{TOP}--b\r\n\r\none\r\n--b--\r\n"));
    let ids = walk(&forest);
    let new = part(&mut forest, "\r\n\r\ntext\r\n--b\r\nmore");
    assert_eq!(forest.link(new, Place::LastIn(ids[0])), Ok(true));
    assert_eq!(walk(&forest), [ids[0], ids[1], new]);
    let (tree, at) = forest.find(new).unwrap();
    assert_eq!(tree.body(&tree.parts()[at]), b"text\r\n--b\r\nmore");
    assert_ne!(tree.root().boundary.as_deref(), Some("b"));
    let raw = written(&mut forest);
    assert!(raw.starts_with("Subject: x\r\nContent-Type: multipart/mixed; boundary=\"=_"), "{raw}");
    // The other way round: a boundary that an inner one is the beginning of.
    let mut outer = self::forest("Content-Type: multipart/mixed; boundary=bb\r\n\r\n--bb\r\n\r\nx\r\n--bb--\r\n");
    let inner = part(&mut outer, "Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\ny\r\n--b--");
    let top = outer.top().unwrap();
    assert_eq!(outer.link(inner, Place::LastIn(top)), Ok(true));
    assert_eq!(walk(&outer).len(), 4);
    assert!(!written(&mut outer).contains("--bb"));
}

#[test]
fn a_boundary_can_be_chosen() {
    let mut forest = forest(&format!("{TOP}pre\r\n--b \r\n\r\none\r\n--b\t\r\n\r\n--n\r\n--b-- \r\nepi"));
    let ids = walk(&forest);
    assert_eq!(forest.set_boundary(ids[0], "n"), Err(EditError::BoundaryInUse));
    assert_eq!(forest.set_boundary(ids[0], "new one"), Ok(()));
    assert_eq!(walk(&forest), ids);
    assert_eq!(
        written(&mut forest),
        "Subject: x\r\nContent-Type: multipart/mixed; boundary=\"new one\"\r\n\r\npre\r\n--new one \r\n\r\none\r\n--new one\t\r\n\r\n--n\r\n--new one-- \r\nepi"
    );
}

#[test]
fn a_digest_does_not_change_what_its_parts_are() {
    let digest = "Content-Type: multipart/digest; boundary=b\r\n\r\n--b\r\n\r\nSubject: in\r\n\r\nx\r\n--b--\r\n";
    let mut digest = forest(digest);
    let ids = walk(&digest);
    assert_eq!(ids.len(), 3);
    let text = part(&mut digest, "X: 1\r\n\r\nplain: text");
    assert_eq!(digest.link(text, Place::FirstIn(ids[0])), Ok(true));
    assert_eq!(walk(&digest), [ids[0], text, ids[1], ids[2]]);
    digest.unlink(ids[1]).unwrap();
    let copy = digest.copy_of(ids[1]).unwrap();
    assert_eq!(copy.header("Content-Type").as_deref(), Some(&b"message/rfc822"[..]));
    let mut mixed = forest(&format!("{TOP}--b--\r\n"));
    let (id, top) = (mixed.make(&copy).unwrap(), mixed.top().unwrap());
    assert_eq!(mixed.link(id, Place::LastIn(top)), Ok(true));
    assert_eq!(walk(&mixed).len(), 3);
}

#[test]
fn a_header_changed_from_outside_is_taken_up_and_another_body_is_not() {
    let raw = format!("{TOP}--b\r\n\r\none\r\n--b--\r\n");
    let mut message = content(&raw);
    let mut forest = MimeForest::default();
    forest.take(&message, MimeTree::parse(&message).unwrap());
    let ids = walk(&forest);
    let free = part(&mut forest, "\r\n\r\nfree");
    message.prepend_header("X-New", b"1").unwrap();
    assert!(forest.follow(&message));
    assert_eq!(walk(&forest), ids);
    let (tree, at) = forest.find(ids[1]).unwrap();
    assert_eq!(tree.body(&tree.parts()[at]), b"one");
    message.set_body(Body::Memory(message.to_bytes().unwrap().slice(message.head().len()..)));
    assert!(forest.follow(&message));
    assert_eq!(walk(&forest), ids);
    message.set_body(Body::Memory("other".into()));
    assert!(!forest.follow(&message));
    assert_eq!(forest.replace(ids[1], &message, false), Err(EditError::Stale));
    assert!(forest.is_unlinked(free) && forest.top().is_none());
}

#[test]
fn limits_hold() {
    let mut forest = forest(&format!("{TOP}--b--\r\n"));
    let mut inner = forest.top().unwrap();
    let mut depth = 1;
    loop {
        let raw = format!("Content-Type: multipart/mixed; boundary=n{depth}.\r\n\r\n--n{depth}.--");
        let new = part(&mut forest, &raw);
        if !forest.link(new, Place::LastIn(inner)).unwrap() {
            break;
        }
        (inner, depth) = (new, depth + 1);
    }
    assert_eq!(depth, DEPTH_MAX);
    assert_eq!(walk(&forest).len(), depth);
    let mut made = 0;
    while forest.make(&content("\r\n")).is_ok() {
        made += 1;
    }
    assert!(made <= FOREST_PARTS_MAX && made > PARTS_MAX);
}

#[test]
fn two_hundred_levels_keep_their_octets() {
    let open: String =
        (0..200).map(|n| format!("Content-Type: multipart/mixed; boundary=b{n}.\r\n\r\n--b{n}.\r\n")).collect();
    let close: String = (0..200).rev().map(|n| format!("\r\n--b{n}.--\r\nepilogue {n}")).collect();
    let raw = format!("{open}\r\ndeep{close}\r\n");
    let mut forest = forest(&raw);
    let ids = walk(&forest);
    assert_eq!(ids.len(), DEPTH_MAX);
    let new = part(&mut forest, "X: 1\r\n\r\nnew");
    assert_eq!(forest.link(new, Place::FirstIn(ids[50])), Ok(true));
    forest.unlink(new).unwrap();
    assert_eq!(written(&mut forest), raw);
}

fn message() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        4 => Just("--a\r\n"),
        4 => Just("--b\r\n"),
        2 => Just("--a--\r\n"),
        2 => Just("--b--\r\n"),
        4 => Just("\r\n"),
        1 => Just("\n"),
        2 => Just("text"),
        2 => Just("Content-Type: multipart/mixed; boundary=a\r\n\r\n--a\r\n"),
        2 => Just("Content-Type: multipart/digest; boundary=\"b\"\r\n\r\n"),
        1 => Just("Content-Type: multipart/mixed; boundary=b\r\n"),
        1 => Just("Content-Type: message/rfc822\r\n\r\n"),
        1 => Just("Content-Type: text/html; charset=\u{e9}\r\n"),
        1 => Just("--"),
        1 => Just(" "),
    ];
    proptest::collection::vec(piece, 0..30)
        .prop_map(|pieces| format!("Content-Type: multipart/mixed; boundary=a\r\n\r\n{}", pieces.concat()))
}

/// The leaves that an edit elsewhere must not touch: id, header and body.
fn leaves(forest: &MimeForest) -> Vec<(PartId, Vec<u8>, Vec<u8>)> {
    let of = |id: PartId| {
        let (tree, at) = forest.find(id).unwrap();
        let part = &tree.parts()[at];
        (tree.children(at).next().is_none() && part.boundary.is_none())
            .then(|| (id, tree.headers(part).to_vec(), tree.body(part).to_vec()))
    };
    walk(forest).into_iter().filter_map(of).collect()
}

fn shape(tree: &MimeTree) -> Vec<(usize, Range<usize>, Range<usize>)> {
    tree.parts().iter().map(|part| (part.depth, part.headers.clone(), part.body.clone())).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(800))]

    #[test]
    fn an_edit_touches_its_own_octets_only(
        raw in message(),
        edits in proptest::collection::vec((0..6_u8, any::<proptest::sample::Index>(), 0..5_usize), 1..6),
    ) {
        let mut forest = forest(&raw);
        for (kind, at, text) in edits {
            let ids = walk(&forest);
            let id = ids[at.index(ids.len())];
            if is_ambiguous(&forest) {
                return Ok(());
            }
            let before = leaves(&forest);
            let text = ["", "new", "new\r\n", "a\r\n--a\r\nb: c\r\n\r\nd\r\n--b--\r\n", "é\n"][text];
            let inside = {
                let (tree, at) = forest.find(id).unwrap();
                ids[at..at + subtree_len(tree, at)].to_vec()
            };
            match kind {
                0 => set_body(&mut forest, id, text),
                1 if id != ids[0] => forest.unlink(id).unwrap(),
                2..=4 => {
                    let new = part(&mut forest, &format!("X: y\r\n\r\n{text}"));
                    let place = [Place::FirstIn(id), Place::LastIn(id), Place::After(id)][usize::from(kind) - 2];
                    if forest.link(new, place).unwrap() {
                        prop_assert!(walk(&forest).contains(&new), "{:?}", raw);
                        let (tree, at) = forest.find(new).unwrap();
                        prop_assert_eq!(tree.body(&tree.parts()[at]), text.as_bytes());
                        // In a digest, what it is has to be said.
                        prop_assert!(tree.headers(&tree.parts()[at]).starts_with(b"X: y\r\n"));
                    }
                }
                _ => {
                    let mut head = forest.content_of(id).unwrap();
                    head.append_raw(b"X-Z: 1\r\n");
                    forest.replace(id, &head, true).unwrap();
                    let (tree, at) = forest.find(id).unwrap();
                    prop_assert!(tree.field(&tree.parts()[at], "X-Z").is_some());
                }
            }
            // The tree is what anybody reads from the octets.
            let now = forest.content().unwrap();
            let (fresh, top) = (MimeTree::parse(&Content::parse(now.to_bytes().unwrap())).unwrap(), forest.top().unwrap());
            prop_assert_eq!(shape(&fresh), shape(forest.find(top).unwrap().0));
            // And nobody else's octets have changed.
            let after = leaves(&forest);
            for leaf in before.iter().filter(|(leaf, ..)| !inside.contains(leaf)) {
                let found = after.iter().find(|(id, ..)| *id == leaf.0);
                if let Some(found) = found {
                    prop_assert_eq!(found, leaf, "{:?}", raw);
                } else {
                    // It got children (it was a multipart that had none), or it is gone although nobody touched it.
                    prop_assert!(forest.first_child(leaf.0).is_some(), "{:?}: {:?}", raw, leaf);
                }
            }
        }
    }
}
