//! Patterns over the content as it stands: `msg:body_match`, `msg:raw_match` and their `_replace`.
//!
//! A match sees octets, no characters, and nothing is decoded. The subject ends in the end-of-data mark that the reference's content
//! has: policies append text by replacing `\r\n.\r\n`. So header, body and mark have to lie in one piece: one is made for a content
//! at its first match, kept for the matches that follow and shared by all recipients of the content, which itself stays as it is.
//! A body in a file is read for the match alone. Big subjects are searched outside the state.

use super::{READERS, RECEPTION, WRITE, writable};
use crate::api::matching::{self, MATCH_RETURNS, PATTERN, REPLACE_RETURNS, REPLACEMENT, Range};
use crate::api::pcre;
use crate::objects::Message;
use crate::registry::{ApiError, Args, Call, Ctx, FUNCTION, Function, Phases, Ret};
use bytes::Bytes;
use mlua::Value;
use parking_lot::Mutex;
use ph_message::{Body, Content};
use std::collections::VecDeque;

pub static BODY_MATCH: Function = Function {
    name: "msg:body_match",
    since: "3.0",
    phases: READERS,
    params: &[PATTERN],
    returns: MATCH_RETURNS,
    doc: "The first match in the body, which is not decoded and ends in the mark `.` CRLF.",
    page: "4/lua/ref-msg-body-match.md",
    example: r#"
        local match = msg:body_match([[https?://([\w.-]+)]])
        if match then msg:context_set(msys.core.VCTX_MESS, "link", match[1]) end
    "#,
    call: Call::Async(|ctx, args| Box::pin(find(ctx, args, Range::Body))),
    ..FUNCTION
};

pub static RAW_MATCH: Function = Function {
    name: "msg:raw_match",
    since: "3.0",
    phases: RECEPTION,
    params: &[PATTERN],
    returns: MATCH_RETURNS,
    doc: "The first match in headers and body; every match, up to 10,000 of them, is in its field `all`.",
    page: "4/lua/ref-msg-raw-match.md",
    example: r#"if msg:raw_match([[(?m)^X-Loop: yes]]) then msg:discard("loop") end"#,
    call: Call::Async(|ctx, args| Box::pin(find(ctx, args, Range::Whole))),
    ..FUNCTION
};

pub static BODY_REPLACE: Function = Function {
    name: "msg:body_replace",
    since: "3.0",
    phases: WRITERS,
    params: &[PATTERN, REPLACEMENT],
    returns: REPLACE_RETURNS,
    doc: "Replaces every match in the body. Content-Type and transfer encoding are the caller's to keep right.",
    page: "4/lua/ref-msg-body-replace.md",
    raises: "where the content is read-only, as it is from `set_binding` on",
    example: r#"msg:body_replace([[\d{12}(\d{4})]], "************$1")"#,
    call: Call::Async(|ctx, args| Box::pin(replace(ctx, args, Range::Body))),
    ..FUNCTION
};

pub static RAW_REPLACE: Function = Function {
    name: "msg:raw_replace",
    since: "3.0",
    phases: WRITERS,
    params: &[PATTERN, REPLACEMENT],
    returns: REPLACE_RETURNS,
    doc: "Replaces every match in headers and body; what comes out is taken apart anew.",
    page: "4/lua/ref-msg-raw-replace.md",
    raises: "where the content is read-only, as it is from `set_binding` on",
    example: r#"msg:raw_replace("internal\\.example", "example.com")"#,
    call: Call::Async(|ctx, args| Box::pin(replace(ctx, args, Range::Whole))),
    ..FUNCTION
};

/// Where these are called on the engine's message elsewhere they say why not, as all writers do.
const WRITERS: Phases = Phases::new("data, data_spool, data_spool_each_rcpt", WRITE).works_anywhere();

/// The end-of-data mark, less the line end before it.
const MARK: &[u8] = b".\r\n";

/// The pieces that were made last.
#[derive(Default)]
pub(crate) struct Subjects(Mutex<VecDeque<Piece>>);

/// A content, or its body alone, with the mark. It holds what it was made of, so that the same place in memory is the same content.
struct Piece {
    head: Bytes,
    body: Bytes,
    range: Range,
    subject: Bytes,
}

/// How many pieces are kept for the next match, and how large they may be. A small one is made faster than it is found.
const KEPT_MAX: usize = 8;
const KEPT_SIZE: std::ops::RangeInclusive<usize> = (8 << 10)..=(1 << 20);

impl Subjects {
    fn of(&self, head: &Bytes, body: &Bytes, range: Range) -> Bytes {
        if !KEPT_SIZE.contains(&(head.len() + body.len())) {
            return in_one_piece(head, body, range);
        }
        let is_same = |a: &Bytes, b: &Bytes| std::ptr::eq(&**a, &**b);
        let mut kept = self.0.lock();
        let known = kept.iter().find(|piece| {
            piece.range == range && is_same(&piece.body, body) && (range == Range::Body || is_same(&piece.head, head))
        });
        if let Some(piece) = known {
            return piece.subject.clone();
        }
        let subject = in_one_piece(head, body, range);
        kept.truncate(KEPT_MAX - 1);
        kept.push_front(Piece { head: head.clone(), body: body.clone(), range, subject: subject.clone() });
        subject
    }
}

fn in_one_piece(head: &[u8], body: &[u8], range: Range) -> Bytes {
    Bytes::from(match range {
        Range::Body => [body, MARK].concat(),
        Range::Whole => [head, body, MARK].concat(),
    })
}

/// What is searched; `None` before there is content.
async fn subject(ctx: &Ctx<'_>, message: &Message, range: Range) -> std::io::Result<Option<Bytes>> {
    let Some(content) = message.state.lock().content.clone() else { return Ok(None) };
    if let Some(body) = content.body().memory() {
        return Ok(Some(ctx.host.subjects.of(content.head(), body, range)));
    }
    let read = move || content.body().to_bytes().map(|body| in_one_piece(content.head(), &body, range));
    tokio::task::spawn_blocking(read).await.map_err(std::io::Error::other)?.map(Some)
}

async fn find(ctx: Ctx<'static>, args: Args, range: Range) -> Result<Ret, ApiError> {
    let message = args.message()?;
    let regex = match ctx.host.patterns.get(&args.bytes(0)?, false) {
        Ok(regex) => regex,
        Err(problem) => return pcre::failed(&ctx, &problem),
    };
    let subject = match subject(&ctx, &message, range).await {
        Ok(Some(subject)) => subject,
        Ok(None) => return Ok(Ret::FALSE),
        Err(error) => return ctx.failure(&error.to_string()),
    };
    matching::find(&ctx, &regex, &subject, range).await
}

async fn replace(ctx: Ctx<'static>, args: Args, range: Range) -> Result<Ret, ApiError> {
    let message = args.message()?;
    writable(&ctx, &args, &message.state.lock())?;
    let regex = match ctx.host.patterns.get(&args.bytes(0)?, false) {
        Ok(regex) => regex,
        Err(problem) => return pcre::failed(&ctx, &problem),
    };
    let template = args.bytes(1)?.into_owned();
    let subject = match subject(&ctx, &message, range).await {
        Ok(Some(subject)) => subject,
        Ok(None) => return Ok(Ret::FALSE),
        Err(error) => return ctx.failure(&error.to_string()),
    };
    let content = match matching::replace(regex, &subject, template, MARK).await {
        Ok(Some(content)) => content,
        Ok(None) => return Ok(Ret::FALSE),
        Err(problem) => return pcre::failed(&ctx, &problem),
    };
    let mut state = message.state.lock();
    writable(&ctx, &args, &state)?; // the hook may be in another phase by now, if it is a thread's
    state.envelope.eight_bit |= !content.is_ascii();
    state.edited = true;
    match (range, &mut state.content) {
        (Range::Body, Some(present)) => present.set_body(Body::Memory(content)),
        (_, present) => *present = Some(Content::parse(content)),
    }
    Ok(Ret::One(Value::Boolean(true)))
}
