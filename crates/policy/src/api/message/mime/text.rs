//! `msg:text` in its two forms, `msg:text_match` and `msg:text_replace`: the text parts of a whole message.
//!
//! A message of one part has the end-of-data mark at its end for these functions, as the reference's content has: policies append
//! a text by replacing `\r\n.\r\n`.

use crate::api::matching::{MATCH_RETURNS, PATTERN, REPLACE_RETURNS, REPLACEMENT};
use crate::api::message::content::{check_size, take_off_terminator};
use crate::api::message::{RECEPTION, writable};
use crate::api::message_part::{apply_to_message, ready, replace_texts, search_texts, set_text, text_of, texts_below};
use crate::api::pcre;
use crate::objects::Message;
use crate::registry::{ApiError, Args, Call, Ctx, FUNCTION, Function, Ret, Type, optional, param, returns};
use bytes::Bytes;
use mlua::Value;
use ph_message::mime::PartId;
use ph_message::{Body, Content, MimeTree};
use std::sync::Arc;

pub static TEXT: Function = Function {
    name: "msg:text",
    since: "3.1",
    phases: RECEPTION,
    params: &[param("...", Type::Any, "nothing; see the other form")],
    returns: &[
        returns("string|string[]|boolean|nil", "the text; an array where several parts have one; nil where none has"),
        returns("string|nil", "why not"),
    ],
    doc: "The text of the message's text parts in UTF-8, in the order of the message, attachments included.",
    page: "4/lua/ref-msg-text.md",
    example: r#"
        local text = msg:text()
        if type(text) == "table" then text = table.concat(text, "\n") end
    "#,
    call: Call::Async(|ctx, args| Box::pin(text(ctx, args))),
    ..FUNCTION
};

pub static TEXT_SET: Function = Function {
    params: &[
        param("value", Type::String, "the new text, in UTF-8; one trailing end-of-data mark is taken off"),
        optional("type", Type::String, "`text/plain` where left out"),
        optional(
            "charset",
            Type::String,
            "`us-ascii` or `utf-8` where left out, and `utf-8` where the text does not fit",
        ),
    ],
    returns: &[returns("boolean|nil", "nil where nobody here knows the charset"), returns("string|nil", "why not")],
    doc: "Replaces the body by one text part: Content-Type, transfer encoding and MIME-Version say so, other headers stay.",
    page: "4/lua/ref-msg-text-1.md",
    raises: "when `type` is no media type of a text, and where the content is read-only, as it is from `set_binding` on",
    example: r#"msg:text("<p>Grüße</p>", "text/html", "utf-8")"#,
    call: Call::Form,
    ..TEXT
};

pub static TEXT_MATCH: Function = Function {
    name: "msg:text_match",
    since: "3.0",
    phases: RECEPTION,
    params: &[PATTERN],
    returns: MATCH_RETURNS,
    doc: "The first match in the decoded text of the text parts, one after the other; the field `part` of the match says in \
          which of them, from 1. The text of a message of one part ends in the mark `.` CRLF.",
    page: "4/lua/ref-msg-text-match.md",
    example: r#"
        local match = msg:text_match("(?i)order (\\d+)")
        if match then msg:header("X-Order", match[1]) end
    "#,
    call: Call::Async(|ctx, args| Box::pin(find(ctx, args))),
    ..FUNCTION
};

pub static TEXT_REPLACE: Function = Function {
    name: "msg:text_replace",
    since: "3.0",
    phases: RECEPTION,
    params: &[PATTERN, REPLACEMENT],
    returns: REPLACE_RETURNS,
    doc: "Replaces every match in the decoded text of the text parts. What changed is written back in its own charset and \
          transfer encoding; what did not keeps its octets.",
    page: "4/lua/ref-msg-text-replace.md",
    raises: "where the content is read-only, as it is from `set_binding` on",
    example: r#"local changed, problem = msg:text_replace("(?i)colour", "color")"#,
    call: Call::Async(|ctx, args| Box::pin(replace(ctx, args))),
    ..FUNCTION
};

/// The end-of-data mark, less the line end before it.
const MARK: &str = ".\r\n";

/// The tree as it is now; `None` before there is content.
async fn tree_of(message: &Arc<Message>) -> std::io::Result<Option<(MimeTree, Vec<PartId>)>> {
    if !ready(message).await? {
        return Ok(None);
    }
    let state = message.state.lock();
    let Some(forest) = state.parts.as_ref().map(|parts| &parts.forest) else { return Ok(None) };
    let Some((top, (tree, _))) = forest.top().and_then(|top| Some((top, forest.find(top)?))) else { return Ok(None) };
    let ids = std::iter::successors(Some(top), |part| forest.thread(*part)).collect();
    Ok(Some((tree.clone(), ids)))
}

/// The mark that the text of a message ends in.
fn mark(tree: &MimeTree) -> &'static str {
    if tree.parts().len() == 1 { MARK } else { "" }
}

async fn text(ctx: Ctx<'static>, args: Args) -> Result<Ret, ApiError> {
    let message = args.message()?;
    if !args.is_nil(0) {
        return set(&ctx, &args, &message);
    }
    let tree = match tree_of(&message).await {
        Ok(Some((tree, _))) => tree,
        Ok(None) => return Ok(Ret::NIL),
        Err(error) => return ctx.failure(&error.to_string()),
    };
    let mut texts = Vec::new();
    for at in texts_below(&tree, 0) {
        texts.extend(text_of(&tree, at).await);
    }
    match texts.len() {
        0 => Ok(Ret::NIL),
        1 => Ok(Ret::Bytes(Bytes::from(texts.remove(0)))),
        _ => ctx.strings(texts),
    }
}

fn set(ctx: &Ctx<'_>, args: &Args, message: &Arc<Message>) -> Result<Ret, ApiError> {
    let mut value = args.bytes(0)?.into_owned();
    check_size(ctx, value.len())?;
    take_off_terminator(&mut value);
    if !value.is_empty() && !value.ends_with(b"\r\n") {
        let line_end: &[u8] = if value.ends_with(b"\n") || value.ends_with(b"\r") { b"" } else { b"\r\n" };
        value.extend_from_slice(line_end);
    }
    let mut state = message.state.lock();
    writable(ctx, args, &state)?;
    let present = match &state.content {
        Some(content) => Content::new(content.head().clone(), Body::Memory(Bytes::new())),
        None if args.is_own_message() => Content::new(Bytes::from_static(b"\r\n"), Body::Memory(Bytes::new())),
        None => return Ok(Ret::NIL),
    };
    let kind = args.optional_text(1)?;
    let kind = kind.as_deref().unwrap_or("text/plain");
    match set_text(ctx, args, &value, Some(kind), present, None, true)? {
        Ok(content) => {
            state.envelope.eight_bit |= content.body().memory().is_some_and(|body| !body.is_ascii());
            state.content = Some(content);
            state.edited = true;
            Ok(Ret::One(Value::Boolean(true)))
        }
        Err(problem) => {
            drop(state);
            ctx.failure(&problem)
        }
    }
}

async fn find(ctx: Ctx<'static>, args: Args) -> Result<Ret, ApiError> {
    let message = args.message()?;
    match tree_of(&message).await {
        Ok(Some((tree, _))) => search_texts(&ctx, &args, &tree, &texts_below(&tree, 0), mark(&tree)).await,
        Ok(None) => Ok(Ret::FALSE),
        Err(error) => ctx.failure(&error.to_string()),
    }
}

async fn replace(ctx: Ctx<'static>, args: Args) -> Result<Ret, ApiError> {
    let message = args.message()?;
    writable(&ctx, &args, &message.state.lock())?;
    let (tree, ids) = match tree_of(&message).await {
        Ok(Some(found)) => found,
        Ok(None) => return Ok(Ret::FALSE),
        Err(error) => return ctx.failure(&error.to_string()),
    };
    let texts: Vec<(usize, PartId)> = texts_below(&tree, 0).into_iter().map(|at| (at, ids[at])).collect();
    match replace_texts(&ctx, &args, &tree, &texts, mark(&tree)).await? {
        Err(problem) => pcre::failed(&ctx, &problem),
        Ok(changes) if changes.is_empty() => Ok(Ret::FALSE),
        Ok(changes) => {
            writable(&ctx, &args, &message.state.lock())?; // the hook may be in another phase by now, if it is a thread's
            apply_to_message(&message, ids[0], changes)?;
            Ok(Ret::One(Value::Boolean(true)))
        }
    }
}
