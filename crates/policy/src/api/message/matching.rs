//! Patterns over the content as it stands: `msg:body_match`, `msg:raw_match` and their `_replace`.
//!
//! A match sees octets, no characters, and nothing is decoded. The subject ends in the end-of-data mark that the reference's content
//! has: policies append text by replacing `\r\n.\r\n`. The first match of a message puts header, body and mark into one piece, of
//! which header and body are slices from then on; later matches copy nothing, however many there are. A body in a file is read for
//! the match alone. Big subjects are searched outside the state.

use super::{READERS, RECEPTION, WRITE, writable};
use crate::api::pcre::{self, Spans};
use crate::objects::{Message, MessageState};
use crate::registry::{ApiError, Args, Call, Ctx, FUNCTION, Function, Param, Phases, Ret, Type, param, returns};
use bytes::{Bytes, BytesMut};
use mlua::Value;
use ph_message::{Body, Content};

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

/// What is searched.
enum Subject {
    /// With the mark at its end.
    Ready(Bytes),
    File(Content),
}

impl Subject {
    /// `None` before there is content.
    fn of(message: &Message, range: Range) -> Option<Subject> {
        let mut state = message.state.lock();
        let content = state.content.as_ref()?;
        match content.body() {
            Body::External(_) => Some(Subject::File(content.clone())),
            Body::Memory(_) => Some(Subject::Ready(match joined(&state, range) {
                Some(subject) => subject,
                None => join(&mut state, range),
            })),
        }
    }

    async fn read(self, range: Range) -> std::io::Result<Bytes> {
        match self {
            Subject::Ready(bytes) => Ok(bytes),
            Subject::File(content) => {
                let read = move || {
                    let head = if range == Range::Whole { content.head() } else { &Bytes::new() };
                    content.body().to_bytes().map(|body| in_one_piece(head, &body))
                };
                tokio::task::spawn_blocking(read).await.map_err(std::io::Error::other)?
            }
        }
    }
}

fn in_one_piece(head: &[u8], body: &[u8]) -> Bytes {
    Bytes::from([head, body, MARK].concat())
}

/// The subject, where the content's own bytes lie in it.
fn joined(state: &MessageState, range: Range) -> Option<Bytes> {
    let (joined, content) = (&state.joined, state.content.as_ref()?);
    let body = content.body().memory()?;
    let body_at = joined.len().checked_sub(body.len() + MARK.len())?;
    if body.is_empty() || !std::ptr::eq(&joined[body_at], &body[0]) {
        return None;
    }
    match range {
        Range::Body => Some(joined.slice(body_at..)),
        Range::Whole => {
            let head = content.head();
            let follows = body_at == head.len() && head.as_ptr() == joined.as_ptr();
            (follows || head.is_empty()).then(|| joined.slice(body_at - head.len()..))
        }
    }
}

/// Puts the content into one piece with the mark. A body that nobody shares takes the mark in its own buffer.
fn join(state: &mut MessageState, range: Range) -> Bytes {
    state.joined = Bytes::new();
    let Some(content) = state.content.take() else { return Bytes::new() };
    let head = content.head().clone();
    let body = content.body().memory().cloned().unwrap_or_default();
    drop(content);
    let (body_at, joined) = match range {
        Range::Whole => (head.len(), in_one_piece(&head, &body)),
        Range::Body => {
            let mut piece = body.try_into_mut().unwrap_or_else(|shared| BytesMut::from(&shared[..]));
            piece.extend_from_slice(MARK);
            (0, piece.freeze())
        }
    };
    let body = joined.slice(body_at..joined.len() - MARK.len());
    let head = if range == Range::Whole { joined.slice(..body_at) } else { head };
    state.content = Some(Content::new(head, Body::Memory(body)));
    state.joined = joined.clone();
    joined
}

async fn find(ctx: Ctx<'static>, args: Args, range: Range) -> Result<Ret, ApiError> {
    let message = args.message()?;
    let regex = match ctx.host.patterns.get(&args.bytes(0)?, false) {
        Ok(regex) => regex,
        Err(problem) => return pcre::failed(&ctx, &problem),
    };
    let Some(subject) = Subject::of(&message, range) else { return Ok(Ret::FALSE) };
    let subject = match subject.read(range).await {
        Ok(subject) => subject,
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
    let Some(subject) = Subject::of(&message, range) else { return Ok(Ret::FALSE) };
    let subject = match subject.read(range).await {
        Ok(subject) => subject,
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
    state.joined = Bytes::new();
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
