//! Patterns over the content as it stands: `msg:body_match`, `msg:raw_match` and their `_replace`.
//!
//! A match sees octets, no characters, and nothing is decoded. The subject ends in the end-of-data mark that the reference's content
//! has: policies append text by replacing `\r\n.\r\n`. So header, body and mark have to lie in one piece: one is made for a content
//! at its first match, kept for the matches that follow and shared by all recipients of the content, which itself stays as it is.
//! A body in a file is read for the match alone. Big subjects are searched outside the state.

use super::{READERS, RECEPTION, WRITE, writable};
use crate::api::pcre::{self, Spans};
use crate::objects::Message;
use crate::registry::{ApiError, Args, Call, Ctx, FUNCTION, Function, Param, Phases, Ret, Type, param, returns};
use bytes::Bytes;
use mlua::Value;
use parking_lot::Mutex;
use ph_message::{Body, Content};
use std::collections::VecDeque;

const PATTERN: Param = param("pattern", Type::String, "a Perl pattern, as `msys.pcre.match` takes it");
const REPLACEMENT: Param =
    param("replacement", Type::String, "with `$1`, `${name}` and `$0`, as `msys.pcre.replace` takes it");

const MATCH_RETURNS: &[crate::registry::Return] = &[
    returns("table|boolean|nil", "the match as `msys.pcre.match` gives it; false when there is none; nil on an error"),
    returns("string|nil", "what is wrong"),
    returns("integer|nil", "its place in the pattern, or its number"),
];
const REPLACE_RETURNS: &[crate::registry::Return] = &[
    returns("boolean|nil", "whether something changed; nil on an error"),
    returns("string|nil", "what is wrong"),
    returns("integer|nil", "its place in the pattern, or its number"),
];

pub static BODY_MATCH: Function = Function {
    name: "msg:body_match",
    since: "3.0",
    phases: READERS,
    params: &[PATTERN],
    returns: MATCH_RETURNS,
    doc: "The first match in the body, which is not decoded and ends in the mark `.` CRLF.",
    page: "4/lua/ref-msg-body-match.md",
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
    call: Call::Async(|ctx, args| Box::pin(replace(ctx, args, Range::Whole))),
    ..FUNCTION
};

/// Where these are called on the engine's message elsewhere they say why not, as all writers do.
const WRITERS: Phases = Phases::new("data, data_spool, data_spool_each_rcpt", WRITE).works_anywhere();

/// How many matches `raw_match` lists.
const MATCHES_MAX: usize = 10_000;
/// The end-of-data mark, less the line end before it.
const MARK: &[u8] = b".\r\n";

#[derive(Clone, Copy, PartialEq, Eq)]
enum Range {
    Body,
    Whole,
}

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
    let work = {
        let subject = subject.clone();
        move || {
            let changed = pcre::substitute(&regex, &subject, &template, usize::MAX)?.map(without_mark);
            Ok(changed.filter(|content| content[..] != subject[..subject.len() - MARK.len()]).map(Bytes::from))
        }
    };
    let content = match pcre::run(subject.len(), work).await {
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

/// Takes the mark off where it is still last; otherwise the content gets the line end that it needs.
fn without_mark(mut content: Vec<u8>) -> Vec<u8> {
    if content == MARK || content.ends_with(b"\r\n.\r\n") {
        content.truncate(content.len() - MARK.len());
    } else if !content.is_empty() && !content.ends_with(b"\r\n") {
        content.extend_from_slice(b"\r\n");
    }
    content
}
