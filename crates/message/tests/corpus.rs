//! Forty messages as mail has them: written back byte for byte, and read as another parser reads them.

use mail_parser::{Message, MessageParser, PartType};
use ph_message::{Content, MimeTree, parse_address_list, transform_8bit};
use std::path::Path;

fn corpus() -> Vec<(String, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus");
    let entries = std::fs::read_dir(folder).expect("the corpus is part of the source");
    let mut all: Vec<_> = entries
        .map(|entry| {
            let entry = entry.expect("a folder that can be listed");
            let bytes = std::fs::read(entry.path()).expect("a message that can be read");
            (entry.file_name().to_string_lossy().into_owned(), bytes)
        })
        .collect();
    all.sort();
    assert_eq!(all.len(), 40);
    all
}

fn both(raw: &[u8]) -> (Content, Message<'_>) {
    let theirs = MessageParser::default().parse(raw).expect("a message of the corpus");
    (Content::parse(raw.to_vec().into()), theirs)
}

#[test]
fn every_message_is_written_back_as_it_came() {
    for (name, raw) in corpus() {
        let content = Content::parse(raw.clone().into());
        assert_eq!(&content.to_bytes().unwrap()[..], &raw[..], "{name}");
        let mut edited = content.clone();
        edited.prepend_header("X-Test", b"value").unwrap();
        edited.remove_header("x-test");
        assert_eq!(&edited.to_bytes().unwrap()[..], &raw[..], "{name}");
    }
}

#[test]
fn raw_header_values_are_those_of_the_other_parser() {
    for (name, raw) in corpus() {
        let (content, theirs) = both(&raw);
        let ours: Vec<_> = content
            .headers()
            .map(|field| (field.name.to_ascii_lowercase(), field.value.trim_ascii().to_vec()))
            .collect();
        let theirs: Vec<_> = theirs.parts[0]
            .headers
            .iter()
            .map(|header| {
                let value = &raw[header.offset_start as usize..header.offset_end as usize];
                (header.name().to_ascii_lowercase().into_bytes(), value.trim_ascii().to_vec())
            })
            .collect();
        assert_eq!(ours, theirs, "{name}");
    }
}

#[test]
fn subjects_are_decoded_alike() {
    for (name, raw) in corpus() {
        let (content, theirs) = both(&raw);
        // Unfolding takes out line ends only (RFC 5322 section 2.2.3); the other parser also makes blanks of tabs.
        let blanks = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
        let ours = content.header_text("Subject").filter(|subject| !subject.is_empty());
        assert_eq!(ours.as_deref().map(blanks), theirs.subject().map(blanks), "{name}");
    }
}

#[test]
fn addresses_are_read_alike() {
    for (name, raw) in corpus() {
        let (content, theirs) = both(&raw);
        for (field, theirs) in [("From", theirs.from()), ("To", theirs.to()), ("Cc", theirs.cc())] {
            let Some(value) = content.header(field) else { continue };
            let value = String::from_utf8_lossy(&value).into_owned();
            let ours: Vec<String> = parse_address_list(&value).iter().map(|address| address.address()).collect();
            let theirs: Vec<String> = theirs
                .iter()
                .flat_map(|list| list.iter())
                .filter_map(|a| a.address.as_ref().map(|a| a.to_string()))
                .collect();
            assert_eq!(ours, theirs, "{name} {field}");
        }
    }
}

/// The decoded leaves in document order: texts as text, others as octets.
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

fn our_leaves(content: &Content) -> Vec<Vec<u8>> {
    let tree = MimeTree::parse(content).unwrap();
    let parts = tree.parts().iter().enumerate();
    let leaves = parts.filter(|(at, part)| part.boundary.is_none() && tree.children(*at).next().is_none());
    leaves
        .map(|(_, part)| match tree.text(part) {
            Some(text) => text.as_bytes().trim_ascii_end().to_vec(),
            None => tree.decoded(part).trim_ascii_end().to_vec(),
        })
        .collect()
}

#[test]
fn parts_are_decoded_alike() {
    for (name, raw) in corpus() {
        let (content, theirs) = both(&raw);
        let mut expected = Vec::new();
        their_leaves(&theirs, &mut expected);
        let ours = our_leaves(&content);
        let text = |leaves: &[Vec<u8>]| {
            leaves.iter().map(|leaf| String::from_utf8_lossy(leaf).into_owned()).collect::<Vec<_>>()
        };
        assert_eq!(text(&ours), text(&expected), "{name}");
    }
}

#[test]
fn re_encoding_changes_no_text() {
    for (name, raw) in corpus() {
        let content = Content::parse(raw.into());
        let result = transform_8bit(&content).unwrap();
        assert_eq!(our_leaves(&content), our_leaves(&result.content), "{name}");
    }
}
