//! Patterns over a part as it stands: `body_match`, `raw_match` and their `_replace`.
//!
//! A match sees octets; nothing is decoded, and nothing of a part is copied for it. Big subjects are searched outside the state.

use super::{RECEPTION, message_of, open};
use crate::api::matching::{self, MATCH_RETURNS, PATTERN, REPLACE_RETURNS, REPLACEMENT, Range};
use crate::api::pcre;
use crate::registry::{ApiError, Args, Call, Ctx, FUNCTION, Function, Ret};
use bytes::Bytes;
use mlua::Value;
use ph_message::{Body, Content};

pub static BODY_MATCH: Function = Function {
    name: "msgpart:body_match",
    since: "3.1",
    phases: RECEPTION,
    params: &[PATTERN],
    returns: MATCH_RETURNS,
    doc: "The first match in the part's body, which is not decoded; in a container's with all that is inside of it.",
    page: "4/lua/ref-msgpart-body-match.md",
    raises: "for a stale part",
    example: r#"
        local part = msg:mime(false)
        if part:body_match("^MZ") then msg:discard("a program") end
    "#,
    call: Call::Async(|ctx, args| Box::pin(find(ctx, args, Range::Body))),
    ..FUNCTION
};

pub static RAW_MATCH: Function = Function {
    name: "msgpart:raw_match",
    doc: "The first match in the part's header and body; every match, up to 10,000 of them, is in its field `all`.",
    page: "4/lua/ref-msgpart-raw-match.md",
    raises: "for a stale part",
    example: r#"
        local part = msg:mime(false)
        local match = part:raw_match("(?i)x-a: (\\d)")
    "#,
    call: Call::Async(|ctx, args| Box::pin(find(ctx, args, Range::Whole))),
    ..BODY_MATCH
};

pub static BODY_REPLACE: Function = Function {
    name: "msgpart:body_replace",
    since: "3.1",
    phases: RECEPTION,
    params: &[PATTERN, REPLACEMENT],
    returns: REPLACE_RETURNS,
    doc: "Replaces every match in the part's body. Content-Type and transfer encoding are the caller's to keep right. What is \
          inside of a container is taken apart anew.",
    page: "4/lua/ref-msgpart-body-replace.md",
    raises: "when the parts are read-only, and for a stale part (the message was replaced as a whole)",
    example: r#"
        local part = msg:mime(false)
        part:body_replace("a", "b")
    "#,
    call: Call::Async(|ctx, args| Box::pin(replace(ctx, args, Range::Body))),
    ..FUNCTION
};

pub static RAW_REPLACE: Function = Function {
    name: "msgpart:raw_replace",
    since: "3.0",
    doc: "Replaces every match in the part's header and body; what comes out is taken apart anew.",
    page: "4/lua/ref-msgpart-raw-replace.md",
    raises: "when the parts are read-only, and for a stale part (the message was replaced as a whole)",
    example: r#"
        local part = msg:mime(false)
        part:raw_replace("X-A: 1", "X-A: one")
    "#,
    call: Call::Async(|ctx, args| Box::pin(replace(ctx, args, Range::Whole))),
    ..BODY_REPLACE
};

/// The octets to search.
fn subject(ctx: &Ctx<'_>, args: &Args, range: Range, to_write: bool) -> Result<Bytes, ApiError> {
    let part = args.part()?;
    let message = message_of(ctx, part)?;
    let mut opened = open(&message, part)?;
    if to_write {
        opened.check_writable(ctx, args)?;
    }
    let (tree, at) = opened.find()?;
    let part = &tree.parts()[at];
    Ok(if range == Range::Body { tree.bytes(&part.body) } else { tree.raw(part) })
}

async fn find(ctx: Ctx<'static>, args: Args, range: Range) -> Result<Ret, ApiError> {
    let regex = match ctx.host.patterns.get(&args.bytes(0)?, false) {
        Ok(regex) => regex,
        Err(problem) => return pcre::failed(&ctx, &problem),
    };
    let subject = subject(&ctx, &args, range, false)?;
    matching::find(&ctx, &regex, &subject, range).await
}

async fn replace(ctx: Ctx<'static>, args: Args, range: Range) -> Result<Ret, ApiError> {
    let regex = match ctx.host.patterns.get(&args.bytes(0)?, false) {
        Ok(regex) => regex,
        Err(problem) => return pcre::failed(&ctx, &problem),
    };
    let template = args.bytes(1)?.into_owned();
    let subject = subject(&ctx, &args, range, true)?;
    let changed = match matching::replace(regex, &subject, template, b"").await {
        Ok(Some(changed)) => changed,
        Ok(None) => return Ok(Ret::FALSE),
        Err(problem) => return pcre::failed(&ctx, &problem),
    };
    let part = args.part()?;
    let message = message_of(&ctx, part)?;
    let mut opened = open(&message, part)?;
    // The hook may be in another phase by now, and the part may have been edited: what was not searched is not replaced.
    opened.check_writable(&ctx, &args)?;
    let (tree, at) = opened.find()?;
    let present = &tree.parts()[at];
    let now = if range == Range::Body { tree.bytes(&present.body) } else { tree.raw(present) };
    if now != subject {
        return Err(super::stale());
    }
    let mut content = match range {
        Range::Whole => Content::parse(changed),
        Range::Body => {
            let mut content = opened.forest().content_of(part.id).map_err(super::refused)?;
            content.set_body(Body::Memory(changed));
            content
        }
    };
    end_top(&mut content, opened.forest().top() == Some(part.id));
    opened.replace(&content, false)?;
    Ok(Ret::One(Value::Boolean(true)))
}

/// A message ends in a line end.
pub(super) fn end_top(content: &mut Content, is_top: bool) {
    let Some(body) = content.body().memory().filter(|body| is_top && !body.is_empty() && !body.ends_with(b"\r\n"))
    else {
        return;
    };
    let ended = Bytes::from([&body[..], b"\r\n"].concat());
    content.set_body(Body::Memory(ended));
}
