//! Editing the parts of a message: its tree, and parts that are linked to none yet.
//!
//! An edit replaces octets where they stand and the tree is taken apart anew; so all other octets stay as they were, and what
//! policies see of the structure is always what the next reader of the message will see. Parts keep their `PartId` over edits:
//! the ids in front of and behind an edit are carried over in document order. A delimiter that occurs in what is put inside of
//! its multipart is replaced by another one first. No id is ever used twice in one forest.

use super::{DEPTH_MAX, MimeTree, PARTS_MAX, Part};
use crate::content::{Body, Content};
use crate::content_type::rewritten;
use bytes::Bytes;
use memchr::{memmem, memrchr};
use std::collections::HashMap;
use std::hash::Hasher;
use std::ops::Range;

/// How many parts a forest holds at most, those linked to nothing included.
const FOREST_PARTS_MAX: usize = 2 * PARTS_MAX;

/// A part for as long as it exists, wherever it is linked.
pub type PartId = u64;

/// Why an edit is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EditError {
    /// The part is no more: what it stood in was replaced.
    #[error("message part is stale")]
    Stale,
    #[error("a message has at most {FOREST_PARTS_MAX} parts")]
    TooManyParts,
    #[error("the top of a message cannot be unlinked")]
    Top,
    /// A boundary that a policy chose stands at the beginning of a line of what it has to delimit.
    #[error("the boundary occurs in the content")]
    BoundaryInUse,
}

/// Where a part is to be linked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    FirstIn(PartId),
    LastIn(PartId),
    Before(PartId),
    After(PartId),
}

/// The tree of a message, and the unlinked parts that belong to it.
#[derive(Debug, Default)]
pub struct MimeForest {
    /// What the tree was taken from, or was written to last.
    source: Option<Content>,
    /// The body of `source` as it is in memory.
    body: Bytes,
    docs: HashMap<DocId, Doc>,
    places: HashMap<PartId, (DocId, usize)>,
    last_id: u64,
}

type DocId = u64;
/// The document of the message itself; others are unlinked parts.
const MESSAGE: DocId = 0;

/// One tree with its octets.
#[derive(Debug)]
struct Doc {
    tree: MimeTree,
    /// The ids of the tree's parts.
    ids: Vec<PartId>,
    in_digest: bool,
}

impl MimeForest {
    /// Whether the tree is that of `content`. Where only the header block has changed it follows by itself; where the body has
    /// changed, the old tree's parts are no more.
    pub fn follow(&mut self, content: &Content) -> bool {
        let Some(source) = &self.source else { return false };
        let (same_head, same_body) =
            (same_bytes(source.head(), content.head()), same_body(source.body(), content.body()));
        if same_head && same_body {
            return true;
        }
        // The same octets may have moved to another place in memory.
        let moved = content.body().memory().filter(|body| !same_body && self.body == **body).cloned();
        if !same_body && moved.is_none() {
            self.drop_doc(MESSAGE);
            self.source = None;
            self.body = Bytes::new();
            return false;
        }
        self.source = Some(content.clone());
        self.body = moved.unwrap_or_else(|| self.body.clone());
        if let Some(doc) = self.docs.get(&MESSAGE) {
            let tree = MimeTree::of(content, self.body.clone(), false);
            let ids = doc.ids.clone();
            self.adopt(MESSAGE, tree, &ids[..1], &ids[1..], &[]);
        }
        true
    }

    /// Takes the tree of `content`, which the caller has taken apart: reading its body may have to wait.
    pub fn take(&mut self, content: &Content, tree: MimeTree) {
        self.drop_doc(MESSAGE);
        self.source = Some(content.clone());
        self.body = tree.body.clone();
        self.insert_doc(MESSAGE, tree, false);
    }

    /// The message as the tree has it; `None` while there is no tree. A body in a file stays there while nobody has edited it.
    pub fn content(&mut self) -> Option<Content> {
        let tree = &self.docs.get(&MESSAGE)?.tree;
        let body = match &self.source {
            Some(source) if same_bytes(&self.body, &tree.body) => source.body().clone(),
            _ => Body::Memory(tree.body.clone()),
        };
        let content = Content::new(tree.head.clone(), body);
        self.body = tree.body.clone();
        self.source = Some(content.clone());
        Some(content)
    }

    /// The top of the message.
    pub fn top(&self) -> Option<PartId> {
        Some(self.docs.get(&MESSAGE)?.ids[0])
    }

    /// The tree that a part is in, and its index there.
    pub fn find(&self, part: PartId) -> Option<(&MimeTree, usize)> {
        let (doc, at) = self.places.get(&part)?;
        Some((&self.docs.get(doc)?.tree, *at))
    }

    /// Whether the part is in the message, or in a part that is linked to nothing.
    pub fn is_in_message(&self, part: PartId) -> bool {
        self.places.get(&part).is_some_and(|(doc, _)| *doc == MESSAGE)
    }

    /// Whether the part is free to be linked.
    pub fn is_unlinked(&self, part: PartId) -> bool {
        self.places.get(&part).is_some_and(|(doc, at)| *doc != MESSAGE && *at == 0)
    }

    pub fn parent(&self, part: PartId) -> Option<PartId> {
        let (tree, at) = self.find(part)?;
        self.id_at(part, tree.parts[at].parent?)
    }

    pub fn first_child(&self, part: PartId) -> Option<PartId> {
        let (tree, at) = self.find(part)?;
        self.id_at(part, tree.children(at).next()?)
    }

    pub fn next_sibling(&self, part: PartId) -> Option<PartId> {
        let (tree, at) = self.find(part)?;
        let parent = tree.parts[at].parent?;
        let next = at + subtree_len(tree, at);
        (tree.parts.get(next)?.parent == Some(parent)).then(|| self.id_at(part, next)).flatten()
    }

    /// The next part in document order.
    pub fn thread(&self, part: PartId) -> Option<PartId> {
        let (_, at) = self.find(part)?;
        self.id_at(part, at + 1)
    }

    fn id_at(&self, neighbour: PartId, at: usize) -> Option<PartId> {
        let (doc, _) = self.places.get(&neighbour)?;
        self.docs.get(doc)?.ids.get(at).copied()
    }

    /// A part, with its header, as it stands.
    pub fn content_of(&self, part: PartId) -> Result<Content, EditError> {
        let (tree, at) = self.find(part).ok_or(EditError::Stale)?;
        Ok(content_at(tree, at))
    }

    /// The same for use elsewhere: what a digest's part is without a type of its own is written down.
    pub fn copy_of(&self, part: PartId) -> Result<Content, EditError> {
        let (tree, at) = self.find(part).ok_or(EditError::Stale)?;
        let (mut content, part) = (content_at(tree, at), &tree.parts[at]);
        if tree.field(part, "Content-Type").is_none() && part.content_type.is_message() {
            content.append_raw(b"Content-Type: message/rfc822\r\n");
        }
        Ok(content)
    }

    /// A new part that is linked to nothing.
    pub fn make(&mut self, content: &Content) -> Result<PartId, EditError> {
        let body = content.body().memory().cloned().unwrap_or_default();
        let tree = MimeTree::of(content, body, false);
        if self.places.len() + tree.parts.len() > FOREST_PARTS_MAX {
            return Err(EditError::TooManyParts);
        }
        self.last_id += 1;
        let doc = self.last_id;
        self.insert_doc(doc, tree, false);
        Ok(self.docs[&doc].ids[0])
    }

    /// Drops a part that is linked to nothing.
    pub fn forget(&mut self, part: PartId) {
        if self.is_unlinked(part)
            && let Some((doc, _)) = self.places.get(&part).copied()
        {
            self.drop_doc(doc);
        }
    }

    /// Gives a part a new header block, which ends in its blank line, and a new body. Parts inside of it stay the same ones where
    /// `same_children` says so and the structure did not change.
    pub fn replace(&mut self, part: PartId, with: &Content, same_children: bool) -> Result<(), EditError> {
        let (doc_id, mut at) = *self.places.get(&part).ok_or(EditError::Stale)?;
        let body = with.body().memory().cloned().unwrap_or_default();
        let doc = self.docs.get(&doc_id).ok_or(EditError::Stale)?;
        if at == 0 {
            let tree = MimeTree::of(with, body, doc.in_digest);
            let ids = doc.ids.clone();
            let old = if same_children { &ids[1..] } else { &[] };
            self.adopt(doc_id, tree, &ids[..1], old, &[]);
            return Ok(());
        }
        let parent = doc.tree.parts[at].parent;
        if let Some(message) = parent.filter(|parent| doc.tree.parts[*parent].boundary.is_none()) {
            let message = doc.ids[message];
            self.end_header(doc_id, message)?;
        }
        let mut bytes = [&with.head()[..], &body[..]].concat();
        let inside = if same_children { Vec::new() } else { boundaries(&MimeTree::of(with, body.clone(), false)) };
        self.make_room(doc_id, parent, &bytes, &inside);
        // Another delimiter has moved everything.
        at = self.places.get(&part).ok_or(EditError::Stale)?.1;
        let doc = &self.docs[&doc_id];
        let range = whole(&doc.tree.parts[at]);
        if !bytes.is_empty() && (!body.is_empty() || !bytes.ends_with(b"\n")) && doc.needs_line_end(range.end) {
            bytes.extend_from_slice(b"\r\n");
        }
        let len = subtree_len(&doc.tree, at);
        let ids = doc.ids.clone();
        let tree = doc.spliced(range, &bytes);
        let old = if same_children { &ids[at + 1..at + len] } else { &[] };
        self.adopt(doc_id, tree, &ids[..=at], old, &ids[at + len..]);
        Ok(())
    }

    /// Gives a multipart another boundary, in its header and in all its delimiters.
    pub fn set_boundary(&mut self, part: PartId, boundary: &str) -> Result<(), EditError> {
        let (doc_id, at) = *self.places.get(&part).ok_or(EditError::Stale)?;
        let doc = self.docs.get(&doc_id).ok_or(EditError::Stale)?;
        if doc.tree.parts[at].boundary.as_deref() == Some(boundary) {
            return Ok(());
        }
        let content = self.with_boundary(doc_id, at, boundary);
        let body = content.body().memory().cloned().unwrap_or_default();
        let alone = MimeTree::of(&content, body, false);
        let depth = doc.tree.parts[at].depth;
        let shape = doc.tree.parts[at..at + subtree_len(&doc.tree, at)].iter().map(|part| part.depth - depth);
        let mut others = doc.tree.parts.iter().enumerate().filter(|(other, _)| *other != at);
        let is_taken =
            others.any(|(_, part)| part.boundary.as_deref().is_some_and(|known| are_related(known, boundary)));
        if is_taken || !alone.parts.iter().map(|part| part.depth).eq(shape) {
            return Err(EditError::BoundaryInUse);
        }
        self.replace(part, &content, true)
    }

    /// Links an unlinked part. False: it is linked already or would be its own ancestor, or there is no such place.
    pub fn link(&mut self, child: PartId, place: Place) -> Result<bool, EditError> {
        let (child_doc, child_at) = *self.places.get(&child).ok_or(EditError::Stale)?;
        let target = match place {
            Place::FirstIn(part) | Place::LastIn(part) | Place::Before(part) | Place::After(part) => part,
        };
        let (doc_id, target_at) = *self.places.get(&target).ok_or(EditError::Stale)?;
        let (parent, index) = match place {
            Place::FirstIn(_) => (target_at, 0),
            Place::LastIn(_) => (target_at, usize::MAX),
            Place::Before(_) | Place::After(_) => {
                let tree = &self.docs[&doc_id].tree;
                let Some(parent) = tree.parts[target_at].parent else { return Ok(false) };
                let index = tree.children(parent).take_while(|at| *at != target_at).count();
                (parent, index + usize::from(matches!(place, Place::After(_))))
            }
        };
        if child_at != 0 || child_doc == MESSAGE || child_doc == doc_id {
            return Ok(false);
        }
        let (tree, inside) = (&self.docs[&doc_id].tree, &self.docs[&child_doc]);
        let height = 1 + inside.tree.parts.iter().map(|part| part.depth).max().unwrap_or(0);
        let fits = tree.parts[parent].depth + height < DEPTH_MAX && tree.parts.len() + inside.ids.len() < PARTS_MAX;
        if tree.parts[parent].boundary.is_none() || !fits {
            return Ok(false);
        }
        let parent_id = self.docs[&doc_id].ids[parent];
        let bytes = self.as_child(child_doc, tree.parts[parent].content_type.value == "multipart/digest");
        let boundaries = boundaries(&inside.tree);
        self.end_header(doc_id, parent_id)?;
        self.make_room(doc_id, Some(parent), &bytes, &boundaries);
        let parent = self.places[&parent_id].1;
        let doc = &self.docs[&doc_id];
        let (range, with, before) = doc.insertion(parent, index, &bytes);
        let tree = doc.spliced(range, &with);
        let ids = doc.ids.clone();
        let middle = self.docs.remove(&child_doc).map(|doc| doc.ids).unwrap_or_default();
        for id in &middle {
            self.places.remove(id);
        }
        let (first, rest) = middle.split_at(1);
        self.adopt(doc_id, tree, &[&ids[..before], first].concat(), rest, &ids[before..]);
        Ok(true)
    }

    /// Takes a part out, with what is inside. One that is linked to nothing stays as it is.
    pub fn unlink(&mut self, part: PartId) -> Result<(), EditError> {
        let (doc_id, at) = *self.places.get(&part).ok_or(EditError::Stale)?;
        if at == 0 {
            return if doc_id == MESSAGE { Err(EditError::Top) } else { Ok(()) };
        }
        let doc = &self.docs[&doc_id];
        let len = subtree_len(&doc.tree, at);
        let (range, with) = doc.removal(at);
        let rest = doc.spliced(range, &with);
        let cut = &doc.tree.parts[at];
        let content =
            Content::new(doc.tree.bytes(&(cut.headers.start..cut.body.start)), Body::Memory(doc.tree.bytes(&cut.body)));
        let in_digest =
            cut.parent.is_some_and(|parent| doc.tree.parts[parent].content_type.value == "multipart/digest");
        let tree = MimeTree::of(&content, doc.tree.bytes(&cut.body), in_digest);
        let ids = doc.ids.clone();
        self.adopt(doc_id, rest, &ids[..at], &[], &ids[at + len..]);
        self.last_id += 1;
        let new_doc = self.last_id;
        self.docs.insert(new_doc, Doc { tree: tree.clone(), ids: vec![ids[at]], in_digest });
        self.adopt(new_doc, tree, &ids[at..=at], &ids[at + 1..at + len], &[]);
        Ok(())
    }

    /// A boundary that no part of this forest knows. `seed` makes it another one each time.
    pub fn new_boundary(&self, mut seed: u64) -> String {
        loop {
            let boundary = format!("=_{seed:016x}_part");
            if !self.knows(&boundary) {
                return boundary;
            }
            seed = seed.wrapping_add(1);
        }
    }

    /// Whether a boundary occurs in some part, or one of the multiparts has a boundary that begins with it or that it begins with.
    pub fn knows(&self, boundary: &str) -> bool {
        let mut known = self.docs.values().flat_map(|doc| &doc.tree.parts).filter_map(|part| part.boundary.as_deref());
        known.any(|known| are_related(known, boundary))
            || self.docs.values().any(|doc| memmem::find(&doc.tree.body, boundary.as_bytes()).is_some())
    }

    /// Gives a part the blank line that ends its header, if a delimiter has ended it.
    fn end_header(&mut self, doc_id: DocId, part: PartId) -> Result<(), EditError> {
        let doc = &self.docs[&doc_id];
        let lacks = doc.tree.parts[self.places[&part].1].clone();
        if lacks.headers.end < lacks.body.start {
            return Ok(());
        }
        let mut head = doc.tree.slice(&lacks.headers).to_vec();
        head.extend_from_slice(if head.is_empty() || head.ends_with(b"\n") { b"\r\n" } else { b"\r\n\r\n" });
        let content = Content::new(head.into(), Body::Memory(doc.tree.bytes(&lacks.body)));
        self.replace(part, &content, true)
    }

    /// Gives another boundary to `innermost` and each multipart around it that would be delimited by a line of `bytes`, or whose
    /// boundary begins with one of `boundaries`.
    fn make_room(&mut self, doc_id: DocId, innermost: Option<usize>, bytes: &[u8], boundaries: &[String]) {
        let doc = &self.docs[&doc_id];
        let around: Vec<PartId> = std::iter::successors(innermost, |&at| doc.tree.parts[at].parent)
            .filter(|&at| {
                let boundary = doc.tree.parts[at].boundary.as_deref();
                boundary.is_some_and(|b| occurs(bytes, b) || boundaries.iter().any(|inside| b.starts_with(&**inside)))
            })
            .map(|at| doc.ids[at])
            .collect();
        for part in around {
            let at = self.places[&part].1;
            let mut hasher = std::hash::DefaultHasher::new();
            hasher.write(bytes);
            let mut boundary = self.new_boundary(hasher.finish());
            while memmem::find(bytes, boundary.as_bytes()).is_some() {
                hasher.write_u8(0);
                boundary = self.new_boundary(hasher.finish());
            }
            let content = self.with_boundary(doc_id, at, &boundary);
            // The part is there and its octets have room for the new boundary: nothing to refuse.
            let _ = self.replace(part, &content, true);
        }
    }

    /// A multipart with its delimiters rewritten.
    fn with_boundary(&self, doc_id: DocId, at: usize, boundary: &str) -> Content {
        let tree = &self.docs[&doc_id].tree;
        let part = &tree.parts[at];
        let old_len = part.boundary.as_ref().map_or(0, String::len);
        let mut body = Vec::with_capacity(part.body.len() + 64);
        let mut from = part.body.start;
        for line in tree.children(at).map(|child| tree.line_start(tree.parts[child].headers.start)).chain(tree.tail(at))
        {
            body.extend_from_slice(tree.slice(&(from..line + 2)));
            body.extend_from_slice(boundary.as_bytes());
            from = line + 2 + old_len;
        }
        body.extend_from_slice(tree.slice(&(from..part.body.end)));
        let mut content = content_at(tree, at);
        content.set_body(Body::Memory(Bytes::from(body)));
        let value = tree.field(part, "Content-Type").map_or(&b""[..], |field| field.value);
        // The name is one; a value is never refused.
        let _ = content.set_header("Content-Type", &rewritten(value, None, "boundary", boundary));
        content
    }

    /// The octets of an unlinked part as they stand behind a delimiter line.
    fn as_child(&self, doc_id: DocId, of_digest: bool) -> Vec<u8> {
        let doc = &self.docs[&doc_id];
        let mut content = Content::new(doc.tree.head.clone(), Body::Memory(doc.tree.body.clone()));
        if !content.has_header("Content-Type") && of_digest != doc.in_digest {
            let implied = if doc.in_digest { &b"message/rfc822"[..] } else { b"text/plain" };
            let _ = content.append_header("Content-Type", implied);
        }
        let mut bytes = content.head().to_vec();
        if content.header_block().len() == bytes.len() {
            bytes.extend_from_slice(if bytes.is_empty() || bytes.ends_with(b"\n") { b"\r\n" } else { b"\r\n\r\n" });
        }
        bytes.extend_from_slice(&doc.tree.body);
        bytes
    }

    fn insert_doc(&mut self, doc: DocId, tree: MimeTree, in_digest: bool) {
        let ids: Vec<PartId> = (1..=tree.parts.len() as u64).map(|n| self.last_id + n).collect();
        self.last_id += ids.len() as u64;
        self.places.extend(ids.iter().enumerate().map(|(at, id)| (*id, (doc, at))));
        self.docs.insert(doc, Doc { tree, ids, in_digest });
    }

    fn drop_doc(&mut self, doc: DocId) {
        for id in self.docs.remove(&doc).map(|doc| doc.ids).unwrap_or_default() {
            self.places.remove(&id);
        }
    }

    /// Puts a tree in the place of a document's, with the ids of its first and last parts and of those between. Those between get
    /// new ids where there are more or fewer of them now.
    fn adopt(&mut self, doc_id: DocId, tree: MimeTree, first: &[PartId], between: &[PartId], last: &[PartId]) {
        let Some(doc) = self.docs.get_mut(&doc_id) else { return };
        let count = tree.parts.len();
        let mut ids = Vec::with_capacity(count);
        ids.extend_from_slice(&first[..first.len().min(count)]);
        let last = &last[last.len() - last.len().min(count - ids.len())..];
        let room = count - ids.len() - last.len();
        if between.len() == room {
            ids.extend_from_slice(between);
        } else {
            ids.extend((1..=room as u64).map(|n| self.last_id + n));
            self.last_id += room as u64;
        }
        ids.extend_from_slice(last);
        for id in std::mem::take(&mut doc.ids) {
            self.places.remove(&id);
        }
        self.places.extend(ids.iter().enumerate().map(|(at, id)| (*id, (doc_id, at))));
        doc.tree = tree;
        doc.ids = ids;
    }
}

impl Doc {
    /// The tree after a change of octets that lie in the body.
    fn spliced(&self, range: Range<usize>, with: &[u8]) -> MimeTree {
        let tree = &self.tree;
        let (start, end) = (range.start - tree.head.len(), range.end - tree.head.len());
        let mut body = Vec::with_capacity(tree.body.len() - (end - start) + with.len());
        body.extend_from_slice(&tree.body[..start]);
        body.extend_from_slice(with);
        body.extend_from_slice(&tree.body[end..]);
        let body = Bytes::from(body);
        MimeTree::of(&Content::new(tree.head.clone(), Body::Memory(body.clone())), body, self.in_digest)
    }

    /// Whether a delimiter line follows at once: what ends here has shared its last line end.
    fn needs_line_end(&self, end: usize) -> bool {
        self.tree.body[end - self.tree.head.len()..].starts_with(b"--")
    }

    /// Which octets to replace by which to make `child` the `index`th part of `parent`, and its place in document order.
    fn insertion(&self, parent: usize, index: usize, child: &[u8]) -> (Range<usize>, Vec<u8>, usize) {
        let tree = &self.tree;
        let part = &tree.parts[parent];
        let delimiter = [b"--", part.boundary.as_deref().unwrap_or_default().as_bytes()].concat();
        let next = tree.children(parent).nth(index);
        let before = next.unwrap_or(parent + subtree_len(tree, parent));
        let next = next.map(|child| tree.line_start(tree.parts[child].headers.start)).or_else(|| tree.tail(parent));
        let mut with = Vec::with_capacity(child.len() + 2 * delimiter.len() + 16);
        if next.is_none() {
            let has_children = before > parent + 1;
            let body = tree.slice(&part.body);
            // The line end before a delimiter is the delimiter's, but behind a preamble one is there.
            if (has_children && !self.shares_line_end(part.body.end)) || (!body.is_empty() && !body.ends_with(b"\n")) {
                with.extend_from_slice(b"\r\n");
            }
        }
        with.extend_from_slice(&delimiter);
        with.extend_from_slice(b"\r\n");
        with.extend_from_slice(child);
        with.extend_from_slice(b"\r\n");
        let at = next.unwrap_or_else(|| {
            with.extend_from_slice(&delimiter);
            with.extend_from_slice(b"--");
            if part.parent.is_none() || self.needs_line_end(part.body.end) {
                with.extend_from_slice(b"\r\n");
            }
            part.body.end
        });
        (at..at, with, before)
    }

    /// Whether the innermost part that ends here is empty, so that the blank line before it ends in the delimiter's line end.
    fn shares_line_end(&self, end: usize) -> bool {
        let last = self.tree.parts.iter().rfind(|part| part.body.end == end);
        last.is_some_and(|part| part.body.is_empty()) && self.tree.body[..end - self.tree.head.len()].ends_with(b"\n")
    }

    /// Which octets to replace by which to take a part out.
    fn removal(&self, at: usize) -> (Range<usize>, Vec<u8>) {
        let tree = &self.tree;
        let part = &tree.parts[at];
        let parent = part.parent.unwrap_or_default();
        let Some(boundary) = &tree.parts[parent].boundary else { return (whole(part), Vec::new()) };
        let start = tree.line_start(part.headers.start);
        let next = at + subtree_len(tree, at);
        let next = tree.parts.get(next).filter(|next| next.parent == Some(parent));
        let next = next.map(|next| tree.line_start(next.headers.start)).or_else(|| tree.tail(parent));
        if let Some(next) = next {
            return (start..next, Vec::new());
        }
        let end = tree.parts[parent].body.end;
        // Where another multipart's delimiter follows at once, it has shared the line end of what goes.
        let line_end = if self.needs_line_end(end) { "\r\n" } else { "" };
        match tree.children(parent).take_while(|child| *child != at).last() {
            Some(before) => (tree.parts[before].body.end..end, line_end.into()),
            None => {
                let line_end = if parent == 0 { "\r\n" } else { line_end };
                (start..end, format!("--{boundary}--{line_end}").into_bytes())
            }
        }
    }
}

impl MimeTree {
    /// The beginning of the delimiter line that ends at `end`.
    fn line_start(&self, end: usize) -> usize {
        let before = &self.body[..end - self.head.len()];
        let before = before.strip_suffix(b"\n").unwrap_or(before);
        self.head.len() + memrchr(b'\n', before).map_or(0, |at| at + 1)
    }

    /// The beginning of the line that ends a multipart's last part, if there is one: its close delimiter, mostly.
    fn tail(&self, multipart: usize) -> Option<usize> {
        let delimited = self.parts[multipart].delimited.as_ref()?;
        let last = self.children(multipart).last();
        let ended = last.is_none_or(|last| self.parts[last].headers.start < delimited.end);
        ended.then(|| self.line_start(delimited.end))
    }
}

fn content_at(tree: &MimeTree, at: usize) -> Content {
    let part = &tree.parts[at];
    Content::new(tree.bytes(&(part.headers.start..part.body.start)), Body::Memory(tree.bytes(&part.body)))
}

fn whole(part: &Part) -> Range<usize> {
    part.headers.start..part.body.end
}

/// A part and all that is inside of it.
fn subtree_len(tree: &MimeTree, at: usize) -> usize {
    let depth = tree.parts[at].depth;
    1 + tree.parts[at + 1..].iter().take_while(|part| part.depth > depth).count()
}

fn boundaries(tree: &MimeTree) -> Vec<String> {
    tree.parts.iter().filter_map(|part| part.boundary.clone()).collect()
}

/// Whether one boundary is the beginning of the other, so that lenient readers take one for the other.
fn are_related(one: &str, two: &str) -> bool {
    one.starts_with(two) || two.starts_with(one)
}

/// Whether a line of `bytes` begins with `--` and the boundary.
fn occurs(bytes: &[u8], boundary: &str) -> bool {
    let delimiter = [b"--", boundary.as_bytes()].concat();
    let starts_line = |at: usize| at == 0 || bytes[at - 1] == b'\n';
    memmem::find_iter(bytes, &delimiter).any(starts_line)
}

fn same_bytes(one: &Bytes, two: &Bytes) -> bool {
    one.as_ptr() == two.as_ptr() && one.len() == two.len()
}

fn same_body(one: &Body, two: &Body) -> bool {
    match (one, two) {
        (Body::Memory(one), Body::Memory(two)) => same_bytes(one, two),
        (Body::External(one), Body::External(two)) => std::sync::Arc::ptr_eq(one, two),
        _ => false,
    }
}

#[cfg(test)]
mod tests;
