//! `msg:mime` and what makes new parts: `makePart`, `makeContainer`, `makeBoundary`.
//!
//! Taking a message apart copies nothing: parts are ranges of its octets. A large body is taken apart outside of the state.

use super::{RECEPTION, writable};
use crate::api::message_part::{Made, encoding_of, handle, is_boundary, ready, refused};
use crate::registry::{ApiError, Arg, Args, Call, Ctx, FUNCTION, Function, Ret, Type, optional, param, returns};
use crate::userdata::Part;
use bytes::Bytes;
use mlua::Value;
use ph_message::transfer::TransferEncoding;
use ph_message::{Body, Content, ContentType, content_type::rewritten};
use std::hash::{BuildHasher, RandomState};

pub(super) mod text;

pub static MIME: Function = Function {
    name: "msg:mime",
    since: "3.0",
    phases: RECEPTION,
    params: &[optional("readonly", Type::Any, "false: the parts can be changed")],
    returns: &[
        returns("msgpart|nil", "the top of the tree; nil before there is content"),
        returns("string|nil", "why not, where the body cannot be read"),
    ],
    doc: "The parts of the message. Its field `thread` leads from part to part. A message that is no MIME is one text part; \
          beyond 100 levels and 10,000 parts, parts are not taken apart.",
    page: "4/lua/ref-msg-mime.md",
    raises: "when the parts are to be edited and the content is read-only",
    example: r#"
        local part = msg:mime(true)
        while part do
          if part:content_type().is_attachment then msg:context_set(msys.core.VCTX_MESS, "attached", "1") end
          part = part.thread
        end
    "#,
    call: Call::Async(|ctx, args| Box::pin(mime(ctx, args))),
    ..FUNCTION
};

pub static MAKE_PART: Function = Function {
    name: "msg:makePart",
    since: "3.0",
    phases: RECEPTION,
    params: &[
        param("mimetype", Type::String, "such as `text/plain; charset=utf-8`; no multipart"),
        optional(
            "body",
            Type::Any,
            "a string or an io object, in the transfer encoding that the next argument declares",
        ),
        optional("encoding", Type::Integer, "one of `msys.core.EC_MIME_TE_*`: 7bit where left out"),
    ],
    returns: &[returns("msgpart", "linked to nothing")],
    doc: "Makes a leaf. Octets above 127 in a body that is declared as 7bit are declared as 8bit.",
    page: "4/lua/ref-msg-make-part.md",
    raises: "when `mimetype` is no media type, or a multipart, and when there is no such encoding",
    example: r#"local part = msg:makePart("text/plain; charset=utf-8", "Grüße", msys.core.EC_MIME_TE_8BIT)"#,
    call: Call::Async(|ctx, args| Box::pin(make_part(ctx, args))),
    ..FUNCTION
};

pub static MAKE_CONTAINER: Function = Function {
    name: "msg:makeContainer",
    since: "3.0",
    phases: RECEPTION,
    params: &[
        param("mimetype", Type::String, "such as `multipart/mixed`, with parameters or without"),
        optional("boundary", Type::String, "what delimits its parts; a new one where left out"),
        optional("add_terminator", Type::Any, "of no effect: a message's end-of-data mark is no content"),
    ],
    returns: &[returns("msgpart", "linked to nothing, and empty")],
    doc: "Makes a multipart.",
    page: "4/lua/ref-msg-make-container.md",
    raises: "when `mimetype` is no multipart or `boundary` is no boundary",
    example: r#"
        local container = msg:makeContainer("multipart/alternative")
        container:addLastChild(msg:makePart("text/plain", "Hello."))
        container:addLastChild(msg:makePart("text/html", "<p>Hello.</p>"))
    "#,
    call: Call::Async(|ctx, args| Box::pin(make_container(ctx, args))),
    ..FUNCTION
};

pub static MAKE_BOUNDARY: Function = Function {
    name: "msg:makeBoundary",
    since: "3.0",
    phases: RECEPTION,
    params: &[param("...", Type::Any, "parts of other messages that it is to delimit as well")],
    returns: &[returns("string", "of at most 70 characters")],
    doc: "A boundary that occurs in no part of the message and of the given parts' messages.",
    page: "4/lua/ref-msg-make-boundary.md",
    example: r#"
        local part = msg:makePart("text/plain", "Hello.")
        local container = msg:makeContainer("multipart/mixed", msg:makeBoundary(part))
    "#,
    call: Call::Async(|ctx, args| Box::pin(make_boundary(ctx, args))),
    ..FUNCTION
};

async fn mime(ctx: Ctx<'static>, args: Args) -> Result<Ret, ApiError> {
    let message = args.message()?;
    let to_write = matches!(args.arg(0), Arg::Boolean(false));
    if to_write {
        writable(&ctx, &args, &message.state.lock())?;
    }
    match ready(&message).await {
        Ok(true) => {}
        Ok(false) => return Ok(Ret::NIL),
        Err(error) => return ctx.failure(&error.to_string()),
    }
    let top = message.state.lock().parts.as_ref().and_then(|parts| parts.forest.top());
    top.map_or(Ok(Ret::NIL), |top| handle(&ctx, args.handle()?, top, to_write))
}

async fn make_part(ctx: Ctx<'static>, args: Args) -> Result<Ret, ApiError> {
    let message = args.message()?;
    let mimetype = args.text(0)?;
    let kind = media_type(&args, &mimetype)?;
    if kind.is_multipart() {
        return Err(args.bad(0, "a multipart is made by makeContainer"));
    }
    let body = match args.arg(1) {
        Arg::Nil => Bytes::new(),
        arg => match arg.as_bytes() {
            Some(bytes) => Bytes::from(bytes.into_owned()),
            None => {
                Bytes::from(super::build::read_io(&args, 1, "string or io object", &arg.to_value(&ctx.lua)?).await?)
            }
        },
    };
    super::content::check_size(&ctx, body.len())?;
    let number = if args.is_nil(2) { 0 } else { args.integer(2)? };
    let Some(mut encoding) = encoding_of(number) else {
        return Err(args.bad(2, format!("one of EC_MIME_TE_* expected, got {number}")));
    };
    if encoding == TransferEncoding::SevenBit && !body.is_ascii() {
        encoding = TransferEncoding::EightBit;
    }
    let mut content = Content::new(Bytes::from_static(b"\r\n"), Body::Memory(body.clone()));
    let field = |error: ph_message::HeaderError| ApiError::Raise(error.to_string());
    content.append_header("Content-Type", mimetype.as_bytes()).map_err(field)?;
    if encoding != TransferEncoding::SevenBit {
        content.append_header("Content-Transfer-Encoding", encoding.name().as_bytes()).map_err(field)?;
    }
    let id = {
        let mut state = message.state.lock();
        let parts = state.parts.get_or_insert_default();
        let id = parts.forest.make(&content).map_err(refused)?;
        let end = body.len();
        parts.made.insert(id, Made { body, start: 0, end });
        id
    };
    handle(&ctx, args.handle()?, id, true)
}

async fn make_container(ctx: Ctx<'static>, args: Args) -> Result<Ret, ApiError> {
    let message = args.message()?;
    let mimetype = args.text(0)?;
    let kind = media_type(&args, &mimetype)?;
    if !kind.is_multipart() {
        return Err(args.bad(0, format!("a multipart type expected, got '{}'", kind.value)));
    }
    let boundary = match args.optional_text(1)? {
        Some(given) if is_boundary(&given) => given.into_owned(),
        Some(given) => return Err(args.bad(1, format!("'{given}' is no boundary"))),
        None => match new_boundary(&args, &[]).await {
            Ok(boundary) => boundary,
            Err(error) => return ctx.failure(&error.to_string()),
        },
    };
    let body = Bytes::from(format!("--{boundary}--"));
    let mut content = Content::new(Bytes::from_static(b"\r\n"), Body::Memory(body));
    let value = rewritten(mimetype.as_bytes(), None, "boundary", &boundary);
    content.append_header("Content-Type", &value).map_err(|error| ApiError::Raise(error.to_string()))?;
    let made = message.state.lock().parts.get_or_insert_default().forest.make(&content);
    handle(&ctx, args.handle()?, made.map_err(refused)?, true)
}

async fn make_boundary(ctx: Ctx<'static>, args: Args) -> Result<Ret, ApiError> {
    let mut others = Vec::new();
    for at in 0..args.count() {
        let given = match args.arg(at) {
            Arg::Value(Value::UserData(data)) => data.borrow::<Part>().ok().map(|part| part.clone()),
            _ => None,
        };
        let Some(part) = given else {
            return Err(args.bad(at, format!("message_part expected, got {}", args.arg(at).type_name())));
        };
        others.push(part);
    }
    match new_boundary(&args, &others).await {
        Ok(boundary) => ctx.string(boundary.as_bytes()),
        Err(error) => ctx.failure(&error.to_string()),
    }
}

/// A boundary that neither the message knows nor those of `others`. Each message is locked for itself.
async fn new_boundary(args: &Args, others: &[Part]) -> Result<String, std::io::Error> {
    let gone = |error: ApiError| std::io::Error::other(error.to_string());
    let message = args.message().map_err(gone)?;
    ready(&message).await?;
    let others: Vec<_> = others.iter().filter_map(|part| part.message.message()).collect();
    loop {
        // The keys of a hash map are random, and others each time.
        let seed = RandomState::new().hash_one(0_u8);
        let boundary = message.state.lock().parts.get_or_insert_default().forest.new_boundary(seed);
        let is_known = others.iter().any(|other| {
            let state = other.state.lock();
            state.parts.as_ref().is_some_and(|parts| parts.forest.knows(&boundary))
        });
        if !is_known {
            return Ok(boundary);
        }
    }
}

/// A media type with its parameters.
fn media_type(args: &Args, text: &str) -> Result<ContentType, ApiError> {
    let kind = ContentType::parse(text.as_bytes());
    let named = text.split(';').next().unwrap_or_default().trim();
    let is_type = kind.value.eq_ignore_ascii_case(named) && !named.contains(char::is_control);
    if is_type { Ok(kind) } else { Err(args.bad(0, format!("a media type expected, got '{text}'"))) }
}
