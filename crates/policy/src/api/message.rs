//! `msg`: one message, its envelope, content and context.
//!
//! Until the recipients are split all of them share one message; from then on each has its own. Content is lossless until it is
//! edited, and an edit touches its own bytes only. Once a message has left, its methods return nil, "message gone".

use crate::objects::{ContextKind, MessageState};
use crate::registry::{ApiError, Arg, Args, Ctx, Phase, Phases, Table};
use bytes::Bytes;
use ph_message::{Context, Mailbox};

mod build;
pub(crate) mod content;
mod context;
mod current;
mod drafts;
mod envelope;
mod inject;
mod matching;
mod mime;
mod routing;

pub(crate) use matching::Subjects;

pub static TABLE: Table = Table {
    name: "message",
    package: "msys.extended.message",
    functions: &[
        &envelope::BATCH_ID,
        &envelope::CONN_ID,
        &envelope::ID,
        &routing::BINDING,
        &routing::BINDING_GROUP,
        &content::BODY,
        &matching::BODY_MATCH,
        &matching::BODY_REPLACE,
        &build::BUILD,
        &envelope::CODE,
        &context::DELETE,
        &context::EXISTS,
        &context::EXISTS_AND_GET,
        &context::GET,
        &context::SET,
        &envelope::DISCARD,
        &inject::FORWARD,
        &routing::DELIVERY_METHOD,
        &envelope::ENVELOPE,
        &content::SIZE,
        &content::HEADER,
        &inject::INJECT,
        &envelope::LISTENER_ADDR,
        &envelope::MAILFROM,
        &mime::MAKE_BOUNDARY,
        &mime::MAKE_CONTAINER,
        &mime::MAKE_PART,
        &mime::MIME,
        &content::RAW,
        &matching::RAW_MATCH,
        &matching::RAW_REPLACE,
        &envelope::RCPTTO,
        &envelope::RECEPTION_PEER,
        &routing::ROUTING_DOMAIN,
        &mime::text::TEXT,
        &mime::text::TEXT_SET,
        &mime::text::TEXT_MATCH,
        &mime::text::TEXT_REPLACE,
        &envelope::GET_CODE,
        &envelope::SET_STATUS,
        &envelope::RECV_METHOD,
        &envelope::CREATION_TIME,
        &envelope::PRIORITY,
        &envelope::DELIVERED,
        &envelope::GET_MAILFROM,
        &envelope::GET_RCPTTO,
        &envelope::IS_MCMT,
        &envelope::PROTOCOL_STRING,
        &content::COPY,
        &content::PREPEND_HEADERS,
        &current::CURRENT,
        &drafts::SNAPSHOT,
        &drafts::FREE,
        &drafts::RENDER,
        &drafts::RSRC_GET,
        &drafts::ADDRESS_HEADER,
        &drafts::FIRST_KEY,
        &drafts::NEXT_KEY,
        &drafts::BUILDER,
        &drafts::INVALID_MIME,
        &drafts::NUM_RETRIES,
        &drafts::NEXT_ATTEMPT,
    ],
};

/// Where the function list documents readers of messages.
const READ: &[Phase] = &[Phase::Data, Phase::DataSpool, Phase::EachRcpt, Phase::SetBinding];
/// Where it documents writers.
const WRITE: &[Phase] = &[Phase::Data, Phase::DataSpool, Phase::EachRcpt];

/// Readers: they work wherever a message is live.
const READERS: Phases = Phases::new("data, data_spool, data_spool_each_rcpt, set_binding", READ).works_anywhere();
const READERS_WITH_RCPTTO: Phases = Phases::new(
    "data, data_spool, data_spool_each_rcpt, rcptto, set_binding",
    &[Phase::Rcptto, Phase::Data, Phase::DataSpool, Phase::EachRcpt, Phase::SetBinding],
)
.works_anywhere();
/// Those whose list leaves `set_binding` out.
pub(crate) const RECEPTION: Phases = Phases::new("data, data_spool, data_spool_each_rcpt", WRITE).works_anywhere();

/// Limits of what a policy can pile up in a context.
const KEY_SIZE_MAX: usize = 1 << 10;
const VALUE_SIZE_MAX: usize = 1 << 20;
const CONTEXT_SIZE_MAX: usize = 8 << 20;

/// An address as the API takes them: bare or in angle brackets; empty or `<>` is the null sender.
pub(crate) fn parse_mailbox(text: &str) -> Option<Mailbox> {
    Mailbox::parse_sender(text.trim(), true).ok()
}

/// Which context a `type` argument names.
pub(crate) fn context_kind(args: &Args, at: usize) -> Result<ContextKind, ApiError> {
    match args.integer(at)? {
        0 => Ok(ContextKind::Conn),
        1 => Ok(ContextKind::Mess),
        other => Err(args.bad(at, format!("VCTX_CONN or VCTX_MESS expected, got {other}"))),
    }
}

/// A value as a context keeps it. Nil changes nothing and is logged: real policies store headers that are absent.
pub(crate) fn context_value(ctx: &Ctx<'_>, args: &Args, at: usize) -> Result<Option<Bytes>, ApiError> {
    Ok(Some(match args.arg(at) {
        Arg::Nil => {
            let which = if context_kind(args, 0)? == ContextKind::Mess { "message" } else { "connection" };
            ctx.host.error(&format!("Attempt to set null key or value in validate context {which} dictionary."));
            return Ok(None);
        }
        Arg::Boolean(value) => Bytes::from_static(if *value { b"true" } else { b"false" }),
        Arg::Bytes(bytes) => Bytes::copy_from_slice(bytes),
        _ => Bytes::from(args.bytes(at)?.into_owned()),
    }))
}

pub(crate) fn check_context_size(ctx: &Ctx<'_>, context: &Context, key: &str, value: &[u8]) -> Result<(), ApiError> {
    if key.len() > KEY_SIZE_MAX || value.len() > VALUE_SIZE_MAX {
        return Err(
            ctx.raise(format_args!("a key is at most {KEY_SIZE_MAX} and a value at most {VALUE_SIZE_MAX} octets long"))
        );
    }
    // Only a context that has grown large is counted: the usual dozen of short values is far from the limit.
    if value.len() > 4096 || context.len() > 100 {
        let size: usize = context.iter().map(|(key, value)| key.len() + value.len()).sum();
        if size + key.len() + value.len() > CONTEXT_SIZE_MAX {
            return Err(ctx.raise(format_args!("a context holds at most {CONTEXT_SIZE_MAX} octets")));
        }
    }
    Ok(())
}

/// What is done on the spot: less than a thread costs.
const SMALL: u64 = 64 << 10;

/// Runs work over so many octets of content: a little of it on the spot, much, or what may have to wait for a file, elsewhere.
async fn outside<R: Send + 'static>(
    size: u64,
    in_memory: bool,
    work: impl FnOnce() -> std::io::Result<R> + Send + 'static,
) -> std::io::Result<R> {
    if in_memory && size <= SMALL {
        return work();
    }
    tokio::task::spawn_blocking(work).await.map_err(std::io::Error::other)?
}

/// Raises where the content may not be changed.
pub(crate) fn writable(ctx: &Ctx<'_>, args: &Args, state: &MessageState) -> Result<(), ApiError> {
    let phase = ctx.phase();
    if args.is_own_message() || (WRITE.contains(&phase) && !state.read_only) {
        return Ok(());
    }
    Err(ctx.raise(format_args!("message content is read-only in phase '{}'", phase.name())))
}
