//! Content: headers, body, the whole message.
//!
//! Everything here works on the unstuffed message without the SMTP terminator. No value can become a second header field: line
//! ends in it turn into folds. Large bodies lie in files; reading one happens outside the state.

use super::{READERS, RECEPTION, writable};
use crate::objects::{ContextKind, Message, MessageState};
use crate::registry::{ApiError, Args, Call, Ctx, FUNCTION, Function, Ret, Type, optional, param, returns};
use crate::userdata::Msg;
use bytes::Bytes;
use mlua::Value;
use ph_message::{Body, Content, Envelope, encoded_word, header};
use std::borrow::Cow;
use std::sync::Arc;

/// No value that a policy gives is longer than this.
const CONTENT_SIZE_MAX: usize = 256 << 20;

pub static HEADER: Function = Function {
    name: "msg:header",
    since: "3.1",
    phases: READERS,
    params: &[
        param("hdr", Type::String, "the name, in any case, without colon"),
        optional("value", Type::Strings, "the new value or an array of them; the empty string removes the header"),
        optional("mode", Type::String, "`replace` (the default), `append` (below all others) or `prepend` (above)"),
    ],
    returns: &[returns("string[]|boolean", "all values when reading; when writing, whether something changed")],
    doc: "Reads, sets or removes a header of the top-level block. Values come unfolded and decoded to UTF-8.",
    page: "4/lua/ref-header.md",
    raises: "when `hdr` is no name of a header, `mode` is not one of its three, or it writes and the content is read-only",
    example: r#"
        local subject = msg:header("Subject")[1]
        msg:header("X-Seen", { "one", "two" }, "prepend")
    "#,
    call: Call::Sync(header),
    ..FUNCTION
};

pub static BODY: Function = Function {
    name: "msg:body",
    since: "3.1",
    phases: READERS,
    params: &[optional("...", Type::String, "the new body; one trailing end-of-data mark is taken off")],
    returns: &[
        returns("string|nil", "the body, transfer encoding untouched; nil before there is content"),
        returns("string|nil", "why not"),
    ],
    doc: "Reads or replaces the body. Content-Type and transfer encoding are the caller's to keep right.",
    page: "4/lua/ref-msg-body.md",
    raises: "when it replaces and the content is read-only",
    example: r#"
        local body = msg:body()
        if body and #body < 10 then msg:body(body .. "Sent by Example.\r\n") end
    "#,
    call: Call::Async(|ctx, args| Box::pin(body(ctx, args))),
    ..FUNCTION
};

pub static RAW: Function = Function {
    name: "msg:raw",
    since: "3.1",
    phases: RECEPTION,
    params: &[optional("value", Type::String, "the new content, headers first")],
    returns: &[
        returns("string|nil", "the whole message; nil before there is content"),
        returns("integer", "its length in octets"),
    ],
    doc: "Reads or replaces the whole message.",
    page: "4/lua/ref-msg-raw.md",
    raises: "when it replaces and the content is read-only, or there is nothing in the new one",
    example: "local whole, size = msg:raw()",
    call: Call::Async(|ctx, args| Box::pin(raw(ctx, args))),
    ..FUNCTION
};

pub static SIZE: Function = Function {
    name: "msg:get_message_size",
    package: "msys.core",
    since: "3.1",
    phases: RECEPTION,
    returns: &[returns("integer", "octets of headers and body as sent, unstuffed; 0 before there is content")],
    doc: "The size of the message; follows edits.",
    page: "4/lua/ref-msg-get-message-size.md",
    example: r#"if msg:get_message_size() > 10 * 1024 * 1024 then vctx:set_code(552, "too large") end"#,
    call: Call::Sync(|_, args| {
        let message = args.message()?;
        let state = message.state.lock();
        let size = match &state.content {
            Some(content) => content.size(),
            // A message whose content was not read back for a queue or log hook still knows its size.
            None => state.envelope.size,
        };
        Ok(Ret::number(size as f64))
    }),
    ..FUNCTION
};

pub static COPY: Function = Function {
    name: "msg:copy",
    phases: READERS,
    returns: &[returns("msg", "an independent message with an id of its own, not queued")],
    doc: "Copies the message with its content and contexts. Binding and routing domain are not copied: they are those of one recipient.",
    example: r#"
        local copy = msg:copy()
        copy:header("Subject", "Copy of a message")
        copy:inject("", "archive@example.com")
    "#,
    call: Call::Sync(|ctx, args| {
        let message = args.message()?;
        let (mut envelope, content) = own_parts(&message);
        envelope.id = ctx.host.services.ids.next(ctx.host.services.now());
        envelope.batch_id = envelope.id;
        (envelope.binding, envelope.binding_group, envelope.routing_domain) = Default::default();
        let copy = Message::new(envelope, content);
        Ok(Ret::One(Value::UserData(ctx.lua.create_userdata(Msg::Own(copy))?)))
    }),
    ..FUNCTION
};

pub static PREPEND_HEADERS: Function = Function {
    name: "msys.core.rfc2822_prepend_headers",
    params: &[
        param("msg", Type::Message, "the message"),
        optional("text", Type::String, "whole field lines; nil changes nothing"),
    ],
    doc: "Puts header fields above all others.",
    raises: "when the text is no whole header lines, and where the content is read-only, as it is from `set_binding` on",
    example: r#"msys.core.rfc2822_prepend_headers(msg, "X-One: 1\r\nX-Two: 2\r\n")"#,
    call: Call::Sync(prepend_headers),
    ..FUNCTION
};

/// Envelope and content of a message, with its contexts as they are now.
pub(super) fn own_parts(message: &Message) -> (Envelope, Option<Content>) {
    let conn_context = Arc::new(message.context(ContextKind::Conn, Clone::clone));
    let mess_context = Arc::new(message.context(ContextKind::Mess, Clone::clone));
    let state = message.state.lock();
    (Envelope { conn_context, mess_context, ..state.envelope.clone() }, state.content.clone())
}

fn header(ctx: &Ctx<'_>, args: &Args) -> Result<Ret, ApiError> {
    let message = args.message()?;
    let name = args.text(0)?;
    if !header::is_field_name(name.as_bytes()) {
        return Err(args.bad(0, "not a header name: visible ASCII without a colon is expected"));
    }
    if args.is_nil(1) {
        return read(ctx, &message, &name);
    }
    let mode = Mode::named(args)?;
    let values = args.strings(1)?;
    let mut state = message.state.lock();
    writable(ctx, args, &state)?;
    let Some(content) = own_content(args, &mut state) else { return Ok(Ret::FALSE) };
    let changed = set_fields(ctx, content, &name, &values, mode)?;
    state.edited |= changed;
    Ok(Ret::One(Value::Boolean(changed)))
}

/// Writes the fields of one name: whether anything changed.
pub(crate) fn set_fields(
    ctx: &Ctx<'_>,
    content: &mut Content,
    name: &str,
    values: &[Vec<u8>],
    mode: Mode,
) -> Result<bool, ApiError> {
    let fold = ctx.host.services.options.header_fold();
    let mut fields = Vec::new();
    for value in values.iter().filter(|value| !value.is_empty()) {
        write_field(&mut fields, name, value, fold)?;
    }
    let removed = if mode == Mode::Replace || fields.is_empty() { content.remove_header(name) } else { 0 };
    match mode {
        Mode::Prepend => content.prepend_raw(&fields),
        Mode::Replace | Mode::Append => content.append_raw(&fields),
    }
    Ok(removed > 0 || !fields.is_empty())
}

fn read(ctx: &Ctx<'_>, message: &Message, name: &str) -> Result<Ret, ApiError> {
    let state = message.state.lock();
    let table = ctx.lua.create_table()?;
    if let Some(content) = &state.content {
        for (index, value) in content.header_values(name).enumerate() {
            table.raw_set(index + 1, ctx.lua.create_string(encoded_word::decode_bytes(&value))?)?;
        }
    }
    Ok(Ret::One(Value::Table(table)))
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    Replace,
    Append,
    Prepend,
}

impl Mode {
    pub(crate) fn named(args: &Args) -> Result<Mode, ApiError> {
        match args.optional_text(2)?.as_deref() {
            None | Some("replace") => Ok(Mode::Replace),
            Some("append") => Ok(Mode::Append),
            Some("prepend") => Ok(Mode::Prepend),
            Some(other) => Err(args.bad(2, format!("replace, append or prepend expected, got '{other}'"))),
        }
    }
}

/// One field. Text beyond ASCII becomes encoded-words; ASCII, in which there may be such words already, stays as it is, and so do
/// octets that are no UTF-8.
pub(super) fn write_field(out: &mut Vec<u8>, name: &str, value: &[u8], fold: usize) -> Result<(), ApiError> {
    let encoded = match std::str::from_utf8(value) {
        Ok(text) if !text.is_ascii() => encoded_word::encode(text, name.len() + 2),
        _ => Cow::Borrowed(""),
    };
    let bytes = if encoded.is_empty() { value } else { encoded.as_bytes() };
    header::write_field(out, name, bytes, fold).map_err(|error| ApiError::Raise(error.to_string()))
}

/// The content for writing; an own message that has none yet gets an empty one.
fn own_content<'s>(args: &Args, state: &'s mut MessageState) -> Option<&'s mut Content> {
    if state.content.is_none() && args.is_own_message() {
        state.content = Some(Content::new(Bytes::new(), Body::Memory(Bytes::new())));
    }
    state.content.as_mut()
}

async fn body(ctx: Ctx<'static>, args: Args) -> Result<Ret, ApiError> {
    let message = args.message()?;
    if !args.is_nil(0) {
        let mut value = args.bytes(0)?.into_owned();
        check_size(&ctx, value.len())?;
        take_off_terminator(&mut value);
        if !value.is_empty() && !value.ends_with(b"\r\n") {
            value.extend_from_slice(b"\r\n");
        }
        let mut state = message.state.lock();
        writable(&ctx, &args, &state)?;
        let eight_bit = !value.is_ascii();
        let Some(content) = own_content(&args, &mut state) else { return Ok(Ret::NIL) };
        content.set_body(Body::Memory(Bytes::from(value)));
        state.envelope.eight_bit |= eight_bit;
        state.edited = true;
    }
    let Some(body) = message.state.lock().content.as_ref().map(|content| content.body().clone()) else {
        return Ok(Ret::NIL);
    };
    match read_outside(body).await {
        Ok(bytes) => Ok(Ret::Bytes(bytes)),
        Err(error) => ctx.failure(&error.to_string()),
    }
}

async fn raw(ctx: Ctx<'static>, args: Args) -> Result<Ret, ApiError> {
    let message = args.message()?;
    if !args.is_nil(0) {
        let mut value = args.bytes(0)?.into_owned();
        check_size(&ctx, value.len())?;
        if value.is_empty() {
            return Err(args.bad(0, "a message is not empty"));
        }
        take_off_terminator(&mut value);
        let mut state = message.state.lock();
        writable(&ctx, &args, &state)?;
        state.envelope.eight_bit |= !value.is_ascii();
        state.content = Some(Content::parse(Bytes::from(value)));
        state.edited = true;
    }
    let Some(content) = message.state.lock().content.clone() else { return Ok(Ret::NIL) };
    match read_outside(content.body().clone()).await {
        Ok(body) => {
            let mut whole = Vec::with_capacity(content.head().len() + body.len());
            whole.extend_from_slice(content.head());
            whole.extend_from_slice(&body);
            let length = whole.len();
            Ok(Ret::Two(ctx.bytes(&whole)?, Value::Number(length as f64)))
        }
        Err(error) => ctx.failure(&error.to_string()),
    }
}

/// A body's bytes; one that lies in a file is read by a thread that may wait.
async fn read_outside(body: Body) -> std::io::Result<Bytes> {
    match body {
        Body::Memory(bytes) => Ok(bytes),
        external => tokio::task::spawn_blocking(move || external.to_bytes()).await.map_err(std::io::Error::other)?,
    }
}

/// The reference demands an end-of-data mark after a body that is set; ours takes both forms.
pub(super) fn take_off_terminator(value: &mut Vec<u8>) {
    if value == b".\r\n" {
        value.clear();
    } else if value.ends_with(b"\r\n.\r\n") {
        value.truncate(value.len() - 3);
    }
}

pub(crate) fn check_size(ctx: &Ctx<'_>, size: usize) -> Result<(), ApiError> {
    if size > CONTENT_SIZE_MAX {
        return Err(ctx.raise(format_args!("content is at most {CONTENT_SIZE_MAX} octets long")));
    }
    Ok(())
}

fn prepend_headers(ctx: &Ctx<'_>, args: &Args) -> Result<Ret, ApiError> {
    let message = crate::registry::message_of(args.userdata(0)?).ok_or(ApiError::Gone("message gone"))?;
    if args.is_nil(1) {
        return Ok(Ret::None);
    }
    let block = Content::new(Bytes::from(args.bytes(1)?.into_owned()), Body::Memory(Bytes::new()));
    let fold = ctx.host.services.options.header_fold();
    let mut fields = Vec::new();
    for field in block.headers() {
        let name = std::str::from_utf8(field.name).unwrap_or_default();
        if name.is_empty() {
            return Err(args.bad(1, "whole header lines expected"));
        }
        write_field(&mut fields, name, &field.unfolded(), fold)?;
    }
    let mut state = message.state.lock();
    writable(ctx, args, &state)?;
    if let Some(content) = state.content.as_mut() {
        content.prepend_raw(&fields);
        state.edited = true;
    }
    Ok(Ret::None)
}
