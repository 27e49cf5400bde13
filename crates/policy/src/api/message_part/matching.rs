//! Patterns over a part as it stands: `body_match`, `raw_match` and their `_replace`.
//!
//! A match sees octets; nothing is decoded, and nothing of a part is copied for it. Big subjects are searched outside the state.

use super::{RECEPTION, message_of, open};
use crate::api::pcre::{self, Spans};
use crate::registry::{ApiError, Args, Call, Ctx, FUNCTION, Function, Param, Ret, Return, Type, param, returns};
use bytes::Bytes;
use mlua::Value;
use ph_message::{Body, Content};

pub(super) const PATTERN: Param = param("pattern", Type::String, "a Perl pattern, as `msys.pcre.match` takes it");
pub(super) const REPLACEMENT: Param =
    param("replacement", Type::String, "with `$1`, `${name}` and `$0`, as `msys.pcre.replace` takes it");

pub(crate) const MATCH_RETURNS: &[Return] = &[
    returns("table|boolean|nil", "the match as `msys.pcre.match` gives it; false when there is none; nil on an error"),
    returns("string|nil", "what is wrong"),
    returns("integer|nil", "its place in the pattern, or its number"),
];
pub(crate) const REPLACE_RETURNS: &[Return] = &[
    returns("boolean|nil", "whether something changed; nil on an error"),
    returns("string|nil", "what is wrong"),
    returns("integer|nil", "its place in the pattern, or its number"),
];

/// How many matches `raw_match` lists.
const MATCHES_MAX: usize = 10_000;

pub static BODY_MATCH: Function = Function {
    name: "msgpart:body_match",
    since: "3.1",
    phases: RECEPTION,
    params: &[PATTERN],
    returns: MATCH_RETURNS,
    doc: "The first match in the part's body, which is not decoded; in a container's with all that is inside of it.",
    page: "4/lua/ref-msgpart-body-match.md",
    call: Call::Async(|ctx, args| Box::pin(find(ctx, args, Range::Body))),
    ..FUNCTION
};

pub static RAW_MATCH: Function = Function {
    name: "msgpart:raw_match",
    doc: "The first match in the part's header and body; every match, up to 10,000 of them, is in its field `all`.",
    page: "4/lua/ref-msgpart-raw-match.md",
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
    call: Call::Async(|ctx, args| Box::pin(replace(ctx, args, Range::Body))),
    ..FUNCTION
};

pub static RAW_REPLACE: Function = Function {
    name: "msgpart:raw_replace",
    since: "3.0",
    doc: "Replaces every match in the part's header and body; what comes out is taken apart anew.",
    page: "4/lua/ref-msgpart-raw-replace.md",
    call: Call::Async(|ctx, args| Box::pin(replace(ctx, args, Range::Whole))),
    ..BODY_REPLACE
};

#[derive(Clone, Copy, PartialEq, Eq)]
enum Range {
    Body,
    Whole,
}

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
    let work = {
        let (regex, subject) = (regex.clone(), subject.clone());
        move || match range {
            Range::Body => pcre::search(&regex, &subject, 0).map(Vec::from_iter),
            Range::Whole => pcre::search_all(&regex, &subject, MATCHES_MAX),
        }
    };
    let matches: Vec<Spans> = match pcre::run(subject.len(), work).await {
        Ok(matches) => matches,
        Err(problem) => return pcre::failed(&ctx, &problem),
    };
    let Some(first) = matches.first() else { return Ok(Ret::FALSE) };
    let table = pcre::match_table(&ctx, &regex, &subject, first)?;
    if range == Range::Whole {
        let all = ctx.lua.create_table_with_capacity(matches.len(), 0)?;
        for (at, spans) in matches.iter().enumerate() {
            all.raw_set(at + 1, pcre::match_table(&ctx, &regex, &subject, spans)?)?;
        }
        table.raw_set("all", all)?;
    }
    Ok(Ret::One(Value::Table(table)))
}

async fn replace(ctx: Ctx<'static>, args: Args, range: Range) -> Result<Ret, ApiError> {
    let regex = match ctx.host.patterns.get(&args.bytes(0)?, false) {
        Ok(regex) => regex,
        Err(problem) => return pcre::failed(&ctx, &problem),
    };
    let template = args.bytes(1)?.into_owned();
    let subject = subject(&ctx, &args, range, true)?;
    let work = {
        let subject = subject.clone();
        move || {
            let changed = pcre::substitute(&regex, &subject, &template, usize::MAX)?;
            Ok(changed.filter(|changed| changed[..] != subject[..]).map(Bytes::from))
        }
    };
    let changed = match pcre::run(subject.len(), work).await {
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
