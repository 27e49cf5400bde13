//! `msg:build`: a whole MIME message out of tables.
//!
//! What the tables hold is read first, io objects included; then `ph_message::compose` writes the message in one go. The caller's
//! own fields of MIME give way to ours, and no value of the tables becomes a field or a part of its own.

use super::content::write_field;
use super::{READERS, outside, writable};
use crate::api::resource::Handle;
use crate::registry::{
    ApiError, Arg, Args, Call, Ctx, FUNCTION, Function, Ret, Type, bytes_of, param, returns, type_name,
};
use crate::userdata::Msg;
use bytes::Bytes;
use mlua::{AnyUserData, ObjectLike, Table, Value};
use ph_message::Content;
use ph_message::compose::{self, ComposeError, Leaf, Part};
use ph_message::transfer::TransferEncoding;

pub static BUILD: Function = Function {
    name: "msg:build",
    since: "3.1",
    phases: READERS,
    params: &[
        param("headers", Type::Table, "name to value, or to an array of values; those of MIME are ignored"),
        param("parts", Type::Table, "content type to text: the same text in several forms"),
        param(
            "attachments",
            Type::Any,
            "nil, or an array of tables with `type`, `name`, `headers` and `content`: a string, an io object or a message",
        ),
    ],
    returns: &[returns("boolean", "true")],
    doc: "Fills an empty message, as `msys.core.ec_message_new` makes one. Date and Message-ID are added where they are missing.",
    page: "4/lua/ref-msg-build.md",
    raises: "when the message is not empty, and when a header, a part or an attachment is not as described",
    example: r#"
        local report = msys.core.ec_message_new()
        local headers = { From = "mta@example.com", To = "ops@example.com", Subject = "Report" }
        report:build(headers, { ["text/plain"] = "All is well." }, nil)
    "#,
    call: Call::Async(|ctx, args| Box::pin(build(ctx, args))),
    ..FUNCTION
};

/// How many attachments one message has at most.
const ATTACHMENTS_MAX: usize = 1000;
/// All contents together, before they are encoded.
const SIZE_MAX: usize = 256 << 20;
/// How the reference calls a message that is attached.
const MESSAGE_NAME: &str = "Attached Message";

struct Attachment {
    kind: String,
    name: String,
    headers: Vec<u8>,
    content: Attached,
}

enum Attached {
    Text(Vec<u8>),
    /// Out of an io object.
    File(Vec<u8>),
    Message(Content),
}

async fn build(ctx: Ctx<'static>, args: Args) -> Result<Ret, ApiError> {
    let message = args.message()?;
    {
        let state = message.state.lock();
        writable(&ctx, &args, &state)?;
        if state.content.as_ref().is_some_and(|content| content.size() > 0) {
            return Err(ApiError::Raise("msg:build: message is not empty".to_owned()));
        }
    }
    let head = head(&ctx, &args)?;
    let alternatives = alternatives(&args)?;
    let attachments = attachments(&args).await?;
    let sizes = alternatives.iter().map(|(_, text)| text.len());
    let size: usize = sizes.chain(attachments.iter().map(Attachment::size)).sum();
    if size > SIZE_MAX {
        return Err(ctx.raise(format_args!("content is at most {SIZE_MAX} octets long")));
    }
    let seed = ctx.host.services.ids.next(ctx.host.services.now()).to_string();
    let in_memory = attachments.iter().all(Attachment::is_in_memory);
    let make = move || Ok(compose(head, &alternatives, &attachments, &seed));
    let made = outside(size as u64, in_memory, make).await.map_err(|error| ApiError::Raise(error.to_string()))?;
    let content = made.map_err(|(at, problem)| args.bad(at, problem))?;
    let mut state = message.state.lock();
    state.envelope.eight_bit |= content.body().memory().is_some_and(|body| !body.is_ascii());
    state.content = Some(content);
    state.edited = true;
    Ok(Ret::One(Value::Boolean(true)))
}

impl Attachment {
    fn size(&self) -> usize {
        match &self.content {
            Attached::Text(bytes) | Attached::File(bytes) => bytes.len(),
            Attached::Message(content) => usize::try_from(content.size()).unwrap_or(usize::MAX),
        }
    }

    fn is_in_memory(&self) -> bool {
        !matches!(&self.content, Attached::Message(content) if content.body().memory().is_none())
    }
}

/// The error names the argument that is to blame.
fn compose(
    head: Vec<u8>,
    alternatives: &[(String, Vec<u8>)],
    attachments: &[Attachment],
    seed: &str,
) -> Result<Content, (usize, String)> {
    let in_parts = |error: ComposeError| (1, error.to_string());
    let in_attachments = |at: usize, error: String| (2, format!("attachment {}: {error}", at + 1));
    let texts = alternatives
        .iter()
        .map(|(kind, text)| Leaf::alternative(kind, text).map(Part::Leaf).map_err(in_parts))
        .collect::<Result<Vec<_>, _>>()?;
    // Messages are read first, since the parts borrow them.
    let mut messages: Vec<Bytes> = Vec::new();
    for (at, attachment) in attachments.iter().enumerate() {
        if let Attached::Message(content) = &attachment.content {
            messages.push(content.to_bytes().map_err(|error| in_attachments(at, error.to_string()))?);
        }
    }
    let mut messages = messages.iter();
    let mut parts = Vec::with_capacity(attachments.len() + 1);
    parts.push(Part::Multipart("alternative", texts));
    for (at, Attachment { kind, name, headers, content }) in attachments.iter().enumerate() {
        let leaf = match content {
            Attached::Text(bytes) => Leaf::attachment(kind, name, headers, bytes, TransferEncoding::QuotedPrintable),
            Attached::File(bytes) => Leaf::attachment(kind, name, headers, bytes, TransferEncoding::Base64),
            Attached::Message(_) => Ok(Leaf::message(messages.next().map_or(&[], |raw| raw), MESSAGE_NAME)),
        };
        parts.push(Part::Leaf(leaf.map_err(|error| in_attachments(at, error.to_string()))?));
    }
    Ok(compose::compose(head, &Part::Multipart("mixed", parts), seed))
}

/// The message's own fields: in the customary order, then by name, since a table has none.
fn head(ctx: &Ctx<'_>, args: &Args) -> Result<Vec<u8>, ApiError> {
    const FIRST: [&str; 8] = ["from", "sender", "reply-to", "to", "cc", "subject", "date", "message-id"];
    const IGNORED: [&str; 3] = ["content-type", "mime-version", "content-transfer-encoding"];
    let mut fields: Vec<(usize, String, String, Vec<Vec<u8>>)> = Vec::new();
    for pair in args.table(0)?.pairs::<Value, Value>() {
        let (name, value) = pair?;
        let Value::String(name) = name else { return Err(args.bad(0, "header names expected as keys")) };
        let name = name.to_string_lossy();
        let lower = name.to_ascii_lowercase();
        let values = values(args, &name, &value)?;
        if !IGNORED.contains(&lower.as_str()) {
            let rank = FIRST.iter().position(|first| *first == lower).unwrap_or(FIRST.len());
            fields.push((rank, lower, name, values));
        }
    }
    fields.sort();
    let services = &ctx.host.services;
    let has = |wanted: &str| fields.iter().any(|(_, lower, _, values)| lower == wanted && !values.is_empty());
    let now = services.now();
    let date = (!has("date")).then(|| ("Date", now.rfc5322()));
    let id = || services.ids.next(now).message_id(&services.options.hostname());
    let id = (!has("message-id")).then(|| ("Message-ID", id()));
    let fold = services.options.header_fold();
    let mut head = Vec::with_capacity(1024);
    for (_, _, name, values) in &fields {
        for value in values {
            write_field(&mut head, name, value, fold).map_err(|error| args.bad(0, format!("'{name}': {error}")))?;
        }
    }
    for (name, value) in [date, id].into_iter().flatten() {
        write_field(&mut head, name, value.as_bytes(), fold)?;
    }
    Ok(head)
}

/// The values of one header that are not empty.
fn values(args: &Args, name: &str, value: &Value) -> Result<Vec<Vec<u8>>, ApiError> {
    let one = |value: &Value| {
        let got = || args.bad(0, format!("'{name}': string or array of strings expected, got {}", type_name(value)));
        bytes_of(value).ok_or_else(got)
    };
    let all = match value {
        Value::Table(table) => {
            table.sequence_values::<Value>().map(|item| one(&item?)).collect::<Result<Vec<_>, ApiError>>()?
        }
        value => vec![one(value)?],
    };
    Ok(all.into_iter().filter(|value| !value.trim_ascii().is_empty()).collect())
}

/// The forms of the text: plain first and HTML last, since the last one that a reader can show is the one that it shows.
fn alternatives(args: &Args) -> Result<Vec<(String, Vec<u8>)>, ApiError> {
    let mut all = Vec::new();
    for pair in args.table(1)?.pairs::<Value, Value>() {
        let (kind, text) = pair?;
        let Value::String(kind) = kind else { return Err(args.bad(1, "content types expected as keys")) };
        let kind = kind.to_string_lossy();
        let bytes = bytes_of(&text)
            .ok_or_else(|| args.bad(1, format!("'{kind}': string expected, got {}", type_name(&text))))?;
        let lower = kind.to_ascii_lowercase();
        let rank = match lower.split(';').next().unwrap_or_default().trim() {
            "text/plain" => 0,
            "text/html" => 2,
            _ => 1,
        };
        all.push((rank, lower, kind, bytes));
    }
    if all.is_empty() {
        all.push((0, String::new(), "text/plain".to_owned(), Vec::new()));
    }
    all.sort();
    Ok(all.into_iter().map(|(_, _, kind, bytes)| (kind, bytes)).collect())
}

async fn attachments(args: &Args) -> Result<Vec<Attachment>, ApiError> {
    if args.is_nil(2) {
        return Ok(Vec::new());
    }
    let Arg::Value(Value::Table(list)) = args.arg(2) else {
        return Err(args.bad(2, format!("table expected, got {}", args.arg(2).type_name())));
    };
    if list.raw_len() > ATTACHMENTS_MAX {
        return Err(args.bad(2, format!("more than {ATTACHMENTS_MAX} attachments")));
    }
    let mut all = Vec::new();
    for at in 1..=list.raw_len() {
        match list.raw_get::<Value>(at)? {
            Value::Table(table) => all.push(attachment(args, at, &table).await?),
            other => return Err(args.bad(2, format!("attachment {at}: table expected, got {}", type_name(&other)))),
        }
    }
    Ok(all)
}

async fn attachment(args: &Args, at: usize, table: &Table) -> Result<Attachment, ApiError> {
    let field = |name: &str| -> Result<Option<Vec<u8>>, ApiError> {
        let value: Value = table.get(name)?;
        if value.is_nil() {
            return Ok(None);
        }
        let wrong = || args.bad(2, format!("attachment {at}: {name}: string expected, got {}", type_name(&value)));
        bytes_of(&value).map(Some).ok_or_else(wrong)
    };
    let text = |bytes: Option<Vec<u8>>| String::from_utf8_lossy(&bytes.unwrap_or_default()).into_owned();
    let content = match table.get::<Value>("content")? {
        Value::UserData(data) if data.is::<Msg>() => {
            let message = crate::registry::message_of(&data).ok_or(ApiError::Gone("message gone"))?;
            let content = message.state.lock().content.clone();
            Attached::Message(content.ok_or_else(|| args.bad(2, format!("attachment {at}: message has no content")))?)
        }
        value => match bytes_of(&value) {
            Some(bytes) => Attached::Text(bytes),
            None => Attached::File(
                read_io(args, 2, &format!("attachment {at}: content: string, io object or message"), &value).await?,
            ),
        },
    };
    if matches!(content, Attached::Message(_)) {
        return Ok(Attachment { kind: String::new(), name: String::new(), headers: Vec::new(), content });
    }
    let Some(kind) = field("type")? else {
        return Err(args.bad(2, format!("attachment {at}: it has no type")));
    };
    let (name, headers) = (text(field("name")?), field("headers")?.unwrap_or_default());
    Ok(Attachment { kind: text(Some(kind)), name, headers, content })
}

/// All that an io object still has: one of ours, or a file of Lua's `io`.
pub(super) async fn read_io(args: &Args, at: usize, expected: &str, value: &Value) -> Result<Vec<u8>, ApiError> {
    let wrong = |got: String| args.bad(at, format!("{expected} expected, got {got}"));
    let Value::UserData(data) = value else { return Err(wrong(type_name(value))) };
    if let Ok(handle) = data.borrow::<Handle>().map(|handle| handle.clone()) {
        let read = handle.read_to_end(SIZE_MAX as u64).await;
        return read.map_err(|failure| args.bad(2, format!("attachment {at}: {}", failure.text)));
    }
    let Ok(Value::Function(read)) = data.get::<Value>("read") else { return Err(wrong(type_name(value))) };
    let what = is_lua_file(data).then_some("*a");
    let answer: (Value, Value) = match what {
        Some(all) => read.call_async((data, all)).await?,
        None => read.call_async(data).await?,
    };
    match answer {
        (Value::Nil, Value::Nil) => Ok(Vec::new()), // at its end
        (Value::Nil, reason) => {
            let reason = bytes_of(&reason).unwrap_or_default();
            Err(args.bad(at, String::from_utf8_lossy(&reason)))
        }
        (value, _) => bytes_of(&value).ok_or_else(|| wrong(type_name(&value))),
    }
}

/// Whether it is a file of Lua's `io`, whose `read` wants to be told how much.
fn is_lua_file(data: &AnyUserData) -> bool {
    data.to_string().is_ok_and(|text| text.starts_with("file ("))
}
