//! The text of parts: decoded to UTF-8 for policies, written back in the part's own charset and transfer encoding.
//!
//! What a policy does not change keeps its octets. Octets that are no text in their charset survive a replacement around them:
//! such a part is searched octet by octet.

use super::matching::end_top;
use super::{Opened, RECEPTION, message_of, open, refused};
use crate::api::matching::{MATCH_RETURNS, PATTERN, REPLACE_RETURNS, REPLACEMENT};
use crate::api::message::content::check_size;
use crate::api::pcre::{self, Problem};
use crate::objects::Message;
use crate::registry::{ApiError, Args, Call, Ctx, FUNCTION, Function, Ret, Type, optional, param, returns};
use bytes::Bytes;
use mlua::Value;
use ph_message::mime::{PartId, declare, text_field, write_text};
use ph_message::transfer::TransferEncoding;
use ph_message::{Body, Content, ContentType, MimeTree, Part, charset, header_check};
use std::io;
use std::sync::Arc;

pub static TEXT: Function = Function {
    name: "msgpart:text",
    since: "3.0",
    phases: RECEPTION,
    params: &[param("...", Type::Any, "nothing; see the other form")],
    returns: &[
        returns("string|boolean|nil", "nil for other types than text, containers and empty parts"),
        returns("string|nil", "why not"),
    ],
    doc: "The text of this part in UTF-8.",
    page: "4/lua/ref-msgpart-text.md",
    raises: "for a stale part",
    example: r"
        local part = msg:mime(false)
        local text = part:text()
    ",
    call: Call::Async(|ctx, args| Box::pin(text(ctx, args))),
    ..FUNCTION
};

pub static TEXT_SET: Function = Function {
    since: "3.1",
    params: &[
        param("value", Type::String, "the new text, in UTF-8"),
        optional("type", Type::String, "the part's own where that is text, else `text/plain`"),
        optional("charset", Type::String, "the part's own where the text fits into it, else `utf-8`"),
    ],
    returns: &[returns("boolean|nil", "nil where nobody here knows the charset"), returns("string|nil", "why not")],
    doc: "Replaces this part by a text: its body, its Content-Type and its transfer encoding. A container becomes a leaf. A file \
          name is kept.",
    page: "4/lua/ref-msgpart-text-2.md",
    raises: "when `type` is no media type of a text, and when the parts are read-only, and for a stale part (the message was replaced as a whole)",
    example: r#"
        local part = msg:mime(false)
        part:text("<p>Grüße</p>", "text/html", "utf-8")
    "#,
    call: Call::Form,
    ..TEXT
};

pub static TEXT_MATCH: Function = Function {
    name: "msgpart:text_match",
    since: "3.0",
    phases: RECEPTION,
    params: &[PATTERN],
    returns: MATCH_RETURNS,
    doc: "The first match in the decoded text of this part, or of the text parts in this container, one after the other; the \
          field `part` of the match says in which of them, from 1.",
    page: "4/lua/ref-msgpart-text-match.md",
    raises: "for a stale part",
    example: r#"
        local part = msg:mime(false)
        local match = part:text_match("order (\\d+)")
    "#,
    call: Call::Async(|ctx, args| Box::pin(find(ctx, args))),
    ..FUNCTION
};

pub static TEXT_REPLACE: Function = Function {
    name: "msgpart:text_replace",
    since: "3.0",
    phases: RECEPTION,
    params: &[PATTERN, REPLACEMENT],
    returns: REPLACE_RETURNS,
    doc: "Replaces every match in the decoded text of this part, or of the text parts in this container. What changed is written \
          back in its own charset and transfer encoding.",
    page: "4/lua/ref-msgpart-text-replace.md",
    raises: "when the parts are read-only, and for a stale part (the message was replaced as a whole)",
    example: r#"
        local part = msg:mime(false)
        part:text_replace("a", "b")
    "#,
    call: Call::Async(|ctx, args| Box::pin(replace(ctx, args))),
    ..FUNCTION
};

/// Bodies above this are taken apart and decoded by a thread that may take its time.
const BIG: usize = 256 << 10;
/// A charset that has a character for each octet: text that is none in its own charset comes back unharmed.
const OCTETS: &str = "x-user-defined";

/// The tree of a message. A body in a file is read outside of the state.
pub(crate) async fn take_apart(content: &Content) -> io::Result<MimeTree> {
    if content.body().memory().is_some_and(|body| body.len() <= BIG) {
        return MimeTree::parse(content);
    }
    let content = content.clone();
    tokio::task::spawn_blocking(move || MimeTree::parse(&content)).await.map_err(io::Error::other)?
}

/// The text of one part.
pub(crate) async fn text_of(tree: &MimeTree, at: usize) -> Option<String> {
    let part = &tree.parts()[at];
    if part.body.len() <= BIG || !part.content_type.is_text() {
        return tree.text(part);
    }
    let tree = tree.clone();
    tokio::task::spawn_blocking(move || tree.text(&tree.parts()[at])).await.ok().flatten()
}

/// The text parts from `at` on that are inside of it, itself included.
pub(crate) fn texts_below(tree: &MimeTree, at: usize) -> Vec<usize> {
    let parts = tree.parts();
    let inside = (at + 1..parts.len()).take_while(|inner| parts[*inner].depth > parts[at].depth);
    std::iter::once(at).chain(inside).filter(|at| parts[*at].content_type.is_text()).collect()
}

async fn text(ctx: Ctx<'static>, args: Args) -> Result<Ret, ApiError> {
    let part = args.part()?;
    let message = message_of(&ctx, part)?;
    if !args.is_nil(0) {
        let mut opened = open(&message, part)?;
        opened.check_writable(&ctx, &args)?;
        let content = opened.forest().content_of(part.id).map_err(refused)?;
        let own = {
            let (tree, at) = opened.find()?;
            let kind = &tree.parts()[at].content_type;
            kind.is_text().then(|| kind.param("charset").map(str::to_owned)).flatten()
        };
        let is_top = opened.forest().top() == Some(part.id);
        let value = match args.arg(0).as_bytes() {
            Some(value) => value.into_owned(),
            None => return Err(args.bad(0, format!("string expected, got {}", args.arg(0).type_name()))),
        };
        let kind = args.optional_text(1)?;
        return match set_text(&ctx, &args, &value, kind.as_deref(), content, own, is_top)? {
            Ok(content) => opened.replace(&content, false).map(|()| Ret::One(Value::Boolean(true))),
            Err(problem) => ctx.failure(&problem),
        };
    }
    let (tree, at) = open(&message, part)?.tree()?;
    if tree.parts()[at].body.is_empty() {
        return Ok(Ret::NIL);
    }
    match text_of(&tree, at).await {
        Some(text) => Ok(Ret::Bytes(Bytes::from(text))),
        None => Ok(Ret::NIL),
    }
}

/// A header block and body that hold a text, in the charset of the third argument. `kind`: its type, where the present one is not
/// kept; `own`: the charset to keep where the text fits into it.
pub(crate) fn set_text(
    ctx: &Ctx<'_>,
    args: &Args,
    value: &[u8],
    kind: Option<&str>,
    mut content: Content,
    own: Option<String>,
    is_top: bool,
) -> Result<Result<Content, String>, ApiError> {
    check_size(ctx, value.len())?;
    // The line end of text is CRLF, whatever carries it.
    let value = header_check::fix_line_ends(value);
    let value = String::from_utf8_lossy(&value);
    let present = content.header("Content-Type").map(|value| value.into_owned()).unwrap_or_default();
    let keeps_type = kind.is_none() && ContentType::parse(&present).is_text() && !present.is_empty();
    let kind = kind.unwrap_or("text/plain");
    let parsed = ContentType::parse(kind.as_bytes());
    let named = kind.split(';').next().unwrap_or_default().trim();
    if !parsed.value.eq_ignore_ascii_case(named) || parsed.is_multipart() || parsed.is_message() {
        return Err(args.bad(1, format!("the media type of a text expected, got '{kind}'")));
    }
    let wanted = args.optional_text(2)?.map(|charset| charset.into_owned());
    let wanted = wanted.or_else(|| parsed.param("charset").map(str::to_owned));
    if let Some(unknown) = wanted.as_deref().filter(|label| !charset::is_known(label)) {
        return Ok(Err(format!("unknown charset '{unknown}'")));
    }
    let own = own.filter(|label| charset::is_known(label));
    let Some(written) = write_text(&value, wanted.or(own).as_deref(), None) else {
        return Ok(Err("unknown charset".to_owned()));
    };
    let field = text_field(&present, (!keeps_type).then_some(kind), &written.charset);
    let problem = |error: ph_message::HeaderError| ApiError::Raise(error.to_string());
    declare(&mut content, Some(&field), written.encoding).map_err(problem)?;
    if is_top {
        if content.header("MIME-Version").as_deref() != Some(b"1.0") {
            content.set_header("MIME-Version", b"1.0").map_err(problem)?;
        }
        content.remove_header("Content-Disposition");
    }
    content.set_body(Body::Memory(written.bytes.into()));
    end_top(&mut content, is_top);
    Ok(Ok(content))
}

/// The first match in the texts of some parts, in order. `mark` ends each of them.
pub(crate) async fn search_texts(
    ctx: &Ctx<'static>,
    args: &Args,
    tree: &MimeTree,
    texts: &[usize],
    mark: &'static str,
) -> Result<Ret, ApiError> {
    let regex = match ctx.host.patterns.get(&args.bytes(0)?, true) {
        Ok(regex) => regex,
        Err(problem) => return pcre::failed(ctx, &problem),
    };
    for (index, at) in texts.iter().enumerate() {
        let work = {
            let (regex, tree, at) = (regex.clone(), tree.clone(), *at);
            move || {
                let text = with_mark(tree.text(&tree.parts()[at]).unwrap_or_default(), mark);
                pcre::search(&regex, text.as_bytes(), 0).map(|found| found.map(|spans| (text, spans)))
            }
        };
        match pcre::run(tree.parts()[*at].body.len(), work).await {
            Ok(Some((text, spans))) => {
                let table = pcre::match_table(ctx, &regex, text.as_bytes(), &spans)?;
                table.raw_set("part", index + 1)?;
                return Ok(Ret::One(Value::Table(table)));
            }
            Ok(None) => {}
            Err(problem) => return pcre::failed(ctx, &problem),
        }
    }
    Ok(Ret::FALSE)
}

/// The end-of-data mark stands on a line of its own.
fn with_mark(mut text: String, mark: &str) -> String {
    if !mark.is_empty() {
        if !text.is_empty() && !text.ends_with("\r\n") {
            text.push_str("\r\n");
        }
        text.push_str(mark);
    }
    text
}

fn without_mark(mut text: String, mark: &str) -> String {
    if !mark.is_empty() {
        if text == mark || text.strip_suffix(mark).is_some_and(|before| before.ends_with("\r\n")) {
            text.truncate(text.len() - mark.len());
        } else if !text.is_empty() && !text.ends_with("\r\n") {
            text.push_str("\r\n");
        }
    }
    text
}

/// What replacing makes of a part.
pub(crate) struct TextChange {
    pub id: PartId,
    /// What was searched: where the part is another one meanwhile, nothing is replaced.
    searched: Bytes,
    content: Content,
}

/// Replaces in the texts of some parts, outside of the state; nothing of the message has changed yet.
pub(crate) async fn replace_texts(
    ctx: &Ctx<'static>,
    args: &Args,
    tree: &MimeTree,
    texts: &[(usize, PartId)],
    mark: &'static str,
) -> Result<Result<Vec<TextChange>, Problem>, ApiError> {
    let pattern = args.bytes(0)?.into_owned();
    let regex = match ctx.host.patterns.get(&pattern, true) {
        Ok(regex) => regex,
        Err(problem) => return Ok(Err(problem)),
    };
    let template = Arc::new(args.bytes(1)?.into_owned());
    let mut changes = Vec::new();
    for (at, id) in texts.iter().copied() {
        let work = {
            let (regex, tree, template) = (regex.clone(), tree.clone(), template.clone());
            move || {
                let substitute = |text: String| {
                    let text = with_mark(text, mark);
                    let changed = pcre::substitute(&regex, text.as_bytes(), &template, usize::MAX)?;
                    let changed = changed.filter(|changed| changed[..] != *text.as_bytes());
                    Ok(changed.map(|changed| without_mark(String::from_utf8_lossy(&changed).into_owned(), mark)))
                };
                replaced(&tree, at, substitute)
            }
        };
        match pcre::run(tree.parts()[at].body.len(), work).await {
            Ok(Some(content)) => {
                let searched = tree.bytes(&tree.parts()[at].body);
                changes.push(TextChange { id, searched, content });
            }
            Ok(None) => {}
            Err(problem) => return Ok(Err(problem)),
        }
    }
    Ok(Ok(changes))
}

/// A part with another text, in its own charset and transfer encoding where they can carry it.
fn replaced(
    tree: &MimeTree,
    at: usize,
    substitute: impl Fn(String) -> Result<Option<String>, Problem>,
) -> Result<Option<Content>, Problem> {
    let part = &tree.parts()[at];
    let declared = part.content_type.param("charset");
    let label = declared.filter(|label| charset::is_known(label)).unwrap_or("us-ascii");
    let octets = tree.decoded(part);
    let text = charset::decode_or_utf8(label, &octets);
    let is_lossless = match charset::encode(label, &text) {
        Ok(back) => back == octets,
        Err(_) => text.as_bytes() == &octets[..], // 8-bit text that nobody declared, but UTF-8
    };
    if !is_lossless {
        let raw = charset::decode_or_utf8(OCTETS, &octets).into_owned();
        let Some(changed) = substitute(raw)? else { return Ok(None) };
        if charset::encode(OCTETS, &changed).is_ok() {
            return Ok(rewrite(tree, part, &changed, OCTETS, false));
        }
    }
    let Some(changed) = substitute(text.into_owned())? else { return Ok(None) };
    Ok(rewrite(tree, part, &changed, label, true))
}

/// Writes a text in `label`; `declares`: and says so where the header says something else.
fn rewrite(tree: &MimeTree, part: &Part, text: &str, label: &str, declares: bool) -> Option<Content> {
    // An encoding that nobody knows was not taken off, and is not put on again.
    let keep = part.encoding.unwrap_or(TransferEncoding::Binary);
    let hides_line_ends = matches!(keep, TransferEncoding::Base64 | TransferEncoding::QuotedPrintable);
    let fixed = header_check::fix_line_ends(text.as_bytes());
    let text = if hides_line_ends { text } else { std::str::from_utf8(&fixed).unwrap_or(text) };
    let written = write_text(text, Some(label), Some(keep))?;
    let head = tree.bytes(&(part.headers.start..part.body.start));
    let mut content = Content::new(head, Body::Memory(Bytes::new()));
    let says = part.content_type.param("charset").unwrap_or("us-ascii");
    let present = content.header("Content-Type").map(|value| value.into_owned());
    let field = (declares && !written.charset.eq_ignore_ascii_case(says)).then(|| match &present {
        Some(present) if ContentType::parse(present).is_text() => text_field(present, None, &written.charset),
        _ => text_field(b"", Some(&part.content_type.value), &written.charset),
    });
    if part.encoding.is_some() {
        declare(&mut content, field.as_deref(), written.encoding).ok()?;
    }
    let says_more = field.is_some() || written.encoding != TransferEncoding::SevenBit;
    if part.parent.is_none() && says_more && !content.has_header("MIME-Version") {
        content.set_header("MIME-Version", b"1.0").ok()?;
    }
    content.set_body(Body::Memory(written.bytes.into()));
    end_top(&mut content, part.parent.is_none());
    Some(content)
}

/// Puts changed texts into their parts.
pub(crate) fn apply(opened: &mut Opened<'_>, changes: Vec<TextChange>) -> Result<(), ApiError> {
    for change in &changes {
        let (tree, at) = opened.forest().find(change.id).ok_or_else(super::stale)?;
        if tree.bytes(&tree.parts()[at].body) != change.searched {
            return Err(super::stale());
        }
    }
    for change in changes {
        opened.forest().replace(change.id, &change.content, true).map_err(refused)?;
        if let Some(parts) = &mut opened.state.parts {
            parts.made.remove(&change.id);
        }
    }
    let id = opened.id;
    if opened.forest().is_in_message(id) {
        opened.store();
    }
    Ok(())
}

/// `msg:text_replace`: the same over the whole message.
pub(crate) fn apply_to_message(message: &Arc<Message>, top: PartId, changes: Vec<TextChange>) -> Result<(), ApiError> {
    let part = crate::userdata::Part { message: crate::userdata::Msg::Own(message.clone()), id: top, writable: true };
    apply(&mut open(message, &part)?, changes)
}

async fn find(ctx: Ctx<'static>, args: Args) -> Result<Ret, ApiError> {
    let (tree, at) = {
        let part = args.part()?;
        let message = message_of(&ctx, part)?;
        open(&message, part)?.tree()?
    };
    search_texts(&ctx, &args, &tree, &texts_below(&tree, at), "").await
}

async fn replace(ctx: Ctx<'static>, args: Args) -> Result<Ret, ApiError> {
    let part = args.part()?;
    let message = message_of(&ctx, part)?;
    let (tree, texts) = {
        let mut opened = open(&message, part)?;
        opened.check_writable(&ctx, &args)?;
        let (tree, at) = opened.tree()?;
        let first = std::iter::successors(Some(part.id), |id| opened.forest().thread(*id));
        let ids: Vec<PartId> = first.collect();
        let texts = texts_below(&tree, at);
        (tree, texts.into_iter().map(|text| (text, ids[text - at])).collect::<Vec<_>>())
    };
    match replace_texts(&ctx, &args, &tree, &texts, "").await? {
        Err(problem) => pcre::failed(&ctx, &problem),
        Ok(changes) if changes.is_empty() => Ok(Ret::FALSE),
        Ok(changes) => {
            let mut opened = open(&message, part)?;
            opened.check_writable(&ctx, &args)?;
            apply(&mut opened, changes)?;
            Ok(Ret::One(Value::Boolean(true)))
        }
    }
}
