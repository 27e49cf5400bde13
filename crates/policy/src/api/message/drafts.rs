//! Messages of the policy's own, and what is called on any message by its C name: snapshots, rendering, building a message octet by
//! octet, walking a context.
//!
//! A draft lives as long as Lua holds it. A snapshot shares the octets of the message that it was taken of, which no later edit of
//! that message changes.

use super::{READERS, context_kind, outside, writable};
use crate::objects::Message;
use crate::registry::{
    ApiError, Args, Call, Ctx, FUNCTION, Function, Phases, Ret, Type, bytes_of, optional, param, returns,
};
use crate::userdata::{EcString, Msg};
use bytes::Bytes;
use mlua::{UserData, UserDataMethods, Value};
use parking_lot::Mutex;
use ph_message::{Address, Content, MimeTree, parse_address_list};
use std::sync::Arc;

/// What the builder of a message takes.
const BUILT_SIZE_MAX: usize = 256 << 20;
/// Addresses that `address_header` lists.
const ADDRESSES_MAX: usize = 100_000;

pub static SNAPSHOT: Function = Function {
    name: "msg:snapshot",
    phases: READERS,
    returns: &[returns("msg", "its content cannot be changed")],
    doc: "The message as it is now, to look at later or elsewhere. It shares the octets of this one.",
    example: r#"
        local before = msg:snapshot()
        msg:header("Subject", "changed")
        local was = before:header("Subject")[1]
    "#,
    call: Call::Sync(|ctx, args| {
        let message = args.message()?;
        let (envelope, content) = super::content::own_parts(&message);
        let snapshot = Message::new(envelope, content);
        {
            let (was, mut state) = (message.state.lock(), snapshot.state.lock());
            state.code.clone_from(&was.code);
            state.read_only = true;
        }
        Ok(Ret::One(Value::UserData(ctx.lua.create_userdata(Msg::Snapshot(snapshot))?)))
    }),
    ..FUNCTION
};

pub static FREE: Function = Function {
    name: "msg:free",
    phases: READERS,
    doc: "Lets go of a snapshot or of a message of the policy's own before its collection; using it afterwards raises.",
    raises: "when the message is the engine's",
    example: r"
        local copy = msg:copy()
        copy:free()
    ",
    call: Call::Sync(|ctx, args| {
        let message = args.message()?;
        if !args.is_own_message() && !args.is_snapshot() {
            return Err(ctx.raise("the message is the engine's"));
        }
        let mut state = message.state.lock();
        state.live = false;
        state.content = None;
        Ok(Ret::None)
    }),
    ..FUNCTION
};

pub static RENDER: Function = Function {
    name: "msg:render_to_string",
    phases: READERS,
    params: &[
        optional("str", Type::EcString, "receives the rendition; may be nil where only the length is asked for"),
        optional("flags", Type::Integer, "sum of `msys.core.EC_MSG_RENDER_*`; 0 where left out"),
    ],
    returns: &[returns("integer|nil", "octets of the rendition"), returns("string|nil", "why not")],
    doc: "The message as it goes over the wire: dots stuffed, with the mark of the end of data; the flags take from it.",
    page: "3/3-api/apis-ec-message-render-to-string.md",
    raises: "when `str` is needed and no ec_string",
    example: r"
        local out = msys.core.string_new()
        local size = msg:render_to_string(out, msys.core.EC_MSG_RENDER_OMIT_DOT)
    ",
    call: Call::Async(|ctx, args| Box::pin(render(ctx, args))),
    ..FUNCTION
};

pub static RSRC_GET: Function = Function {
    name: "msg:rsrc_get",
    params: &[param("name", Type::String, "of the resource")],
    returns: &[returns("nil", "messages have no resources here")],
    doc: "A resource that a module of the reference attaches to a message.",
    example: r#"if not msg:rsrc_get("scan_result") then msg:header("X-Unscanned", "yes") end"#,
    call: Call::Sync(|_, args| args.message().map(|_| Ret::NIL)),
    ..FUNCTION
};

pub static ADDRESS_HEADER: Function = Function {
    name: "msg:address_header",
    phases: READERS,
    params: &[
        param("headername", Type::String, "the name, in any case"),
        optional("component", Type::String, "`all` (the default), `localpart`, `user`, `detail` or `domain`"),
    ],
    returns: &[returns("string[]", "in order, groups taken apart")],
    doc: "The addresses in every header of that name.",
    raises: "when there is no such component",
    example: r#"for _, domain in ipairs(msg:address_header("To", "domain")) do print(domain) end"#,
    call: Call::Sync(address_header),
    ..FUNCTION
};

pub static FIRST_KEY: Function = Function {
    name: "msg:context_firstkey",
    phases: READERS,
    params: &[param("type", Type::Integer, "`msys.core.VCTX_CONN` or `msys.core.VCTX_MESS`")],
    returns: &[returns("string|nil", "nil when the context is empty")],
    doc: "The first key of a context.",
    raises: "when `type` is neither `VCTX_CONN` nor `VCTX_MESS`",
    example: "local first = msg:context_firstkey(msys.core.VCTX_MESS)",
    call: Call::Sync(|ctx, args| {
        let key = args.message()?.context(context_kind(args, 0)?, |context| first(context.iter()));
        key_or_nil(ctx, key)
    }),
    ..FUNCTION
};

pub static NEXT_KEY: Function = Function {
    name: "msg:context_nextkey",
    phases: READERS,
    params: &[
        param("type", Type::Integer, "`msys.core.VCTX_CONN` or `msys.core.VCTX_MESS`"),
        param("key", Type::String, "the key before it"),
    ],
    returns: &[returns("string|nil", "nil at the end, or when the key is not there")],
    doc: "The key after another one.",
    raises: "when `type` is neither `VCTX_CONN` nor `VCTX_MESS`",
    example: r"
        local key = msg:context_firstkey(msys.core.VCTX_MESS)
        while key do
          print(key, msg:context_get(msys.core.VCTX_MESS, key))
          key = msg:context_nextkey(msys.core.VCTX_MESS, key)
        end
    ",
    call: Call::Sync(|ctx, args| {
        let key = args.text(1)?;
        let behind = args.message()?.context(context_kind(args, 0)?, |context| {
            let mut entries = context.iter();
            entries.find(|(present, _)| *present == key)?;
            first(entries)
        });
        key_or_nil(ctx, behind)
    }),
    ..FUNCTION
};

pub static BUILDER: Function = Function {
    name: "msys.core.ec_message_builder",
    phases: Phases::ANY,
    params: &[
        param("msg", Type::Message, "the message to fill, as `ec_message_new` makes one"),
        optional("size_hint", Type::Integer, "octets to make room for"),
    ],
    returns: &[returns("io", "`write(s, [n])` appends, `close()` makes the message of what was written")],
    doc: "Fills a message octet by octet. A final end-of-data mark is taken off when it is closed.",
    raises: "where the content is read-only, as it is from `set_binding` on",
    example: r#"
        local letter = msys.core.ec_message_new()
        local io = msys.core.ec_message_builder(letter)
        io:write("Subject: Hello\r\n\r\nHow are you?\r\n")
        io:close()
    "#,
    call: Call::Sync(|ctx, args| {
        let data = args.userdata(0)?;
        let message = crate::registry::message_of(data).ok_or(ApiError::Gone("message gone"))?;
        let own = data.borrow::<Msg>()?.is_own();
        writable(ctx, args, &message.state.lock()).or_else(|error| if own { Ok(()) } else { Err(error) })?;
        let hint = if args.is_nil(1) { 0 } else { args.integer(1)?.clamp(0, 1 << 20) };
        let room = Vec::with_capacity(usize::try_from(hint).unwrap_or(0));
        let builder = Builder { message, written: Mutex::new(Some(room)) };
        Ok(Ret::One(Value::UserData(ctx.lua.create_userdata(builder)?)))
    }),
    ..FUNCTION
};

pub static INVALID_MIME: Function = Function {
    name: "msg.invalid_mime",
    phases: READERS,
    returns: &[returns("integer", "1 when a multipart lacks its closing boundary or has no parts at all, else 0")],
    doc: "Whether the MIME structure of a message in memory is broken.",
    example: r#"if msg.invalid_mime == 1 then vctx:set_code(550, "broken MIME") end"#,
    call: Call::Field {
        get: |_, args| {
            let content = args.message()?.state.lock().content.clone();
            // A body in a file is not read for this.
            let tree = content.filter(|content| content.body().memory().is_some()).map(|c| MimeTree::parse(&c));
            let Some(Ok(tree)) = tree else { return Ok(Ret::flag(false)) };
            let broken = tree.parts().iter().any(|part| {
                part.content_type.is_multipart()
                    && (part.boundary.is_none() || part.delimited.is_none() || !part.closed)
            });
            Ok(Ret::flag(broken))
        },
        set: None,
    },
    ..FUNCTION
};

pub static NUM_RETRIES: Function = Function {
    name: "msg.num_retries",
    phases: READERS,
    returns: &[returns("integer", "attempts after the first one")],
    doc: "How often delivery was tried again.",
    example: r#"if msg.num_retries > 3 then msys.core.log(msys.core.LOG_INFO, "slow: " .. msg:rcptto()) end"#,
    call: Call::Field {
        get: |_, args| Ok(Ret::integer(i64::from(args.message()?.state.lock().delivery.retries))),
        set: None,
    },
    ..FUNCTION
};

pub static NEXT_ATTEMPT: Function = Function {
    name: "msg.next_attempt",
    phases: READERS,
    returns: &[returns("table", "`tv_sec`, `tv_usec`; zero before the first attempt")],
    doc: "When delivery is due.",
    example: "local wait_s = msg.next_attempt.tv_sec - msys.core.get_now_ts()",
    call: Call::Field {
        get: |ctx, args| {
            let due = args.message()?.state.lock().delivery.next_attempt;
            Ok(Ret::One(Value::Table(crate::call::timeval(&ctx.lua, due)?)))
        },
        set: None,
    },
    ..FUNCTION
};

fn first<'a>(mut entries: impl Iterator<Item = (&'a str, &'a Bytes)>) -> Option<String> {
    entries.next().map(|(key, _)| key.to_owned())
}

fn key_or_nil(ctx: &Ctx<'_>, key: Option<String>) -> Result<Ret, ApiError> {
    key.map_or(Ok(Ret::NIL), |key| ctx.string(key.as_bytes()))
}

fn address_header(ctx: &Ctx<'_>, args: &Args) -> Result<Ret, ApiError> {
    let message = args.message()?;
    let (name, component) = (args.text(0)?, args.optional_text(1)?);
    let of: fn(&Address<'_>) -> String = match component.as_deref().unwrap_or("all") {
        "all" => |address| address.address(),
        "localpart" => |address| address.local.to_string(),
        "user" => |address| address.user().to_owned(),
        "detail" => |address| address.detail().to_owned(),
        "domain" => |address| address.domain.to_string(),
        other => {
            return Err(args.bad(1, format!("all, localpart, user, detail or domain expected, got '{other}'")));
        }
    };
    let values: Vec<Vec<u8>> = {
        let state = message.state.lock();
        let content = state.content.iter();
        content.flat_map(|content| content.header_values(&name).map(|value| value.into_owned())).collect()
    };
    let texts = values.iter().map(|value| String::from_utf8_lossy(value));
    let mut all = Vec::new();
    for text in texts {
        all.extend(parse_address_list(&text).iter().take(ADDRESSES_MAX - all.len()).map(of));
    }
    ctx.strings(all)
}

/// The flags of `render_to_string`.
const OMIT_DOT: i64 = 1;
const HEADERS_ONLY: i64 = 2;
const OMIT_HEADERS: i64 = 4;
const UNSTUFFED: i64 = 8;
const OMIT_EPILOGUE: i64 = 16;
const LENGTH_ONLY: i64 = 32;

async fn render(ctx: Ctx<'static>, args: Args) -> Result<Ret, ApiError> {
    let message = args.message()?;
    let flags = if args.is_nil(1) { 0 } else { args.integer(1)? };
    if args.is_nil(0) && flags & LENGTH_ONLY == 0 {
        return Err(args.bad(0, "ec_string expected, got nil"));
    }
    let Some(content) = message.state.lock().content.clone() else { return ctx.failure("message has no content") };
    let (size, in_memory) = (content.size(), content.body().memory().is_some());
    let rendered = match outside(size, in_memory, move || rendition(&content, flags)).await {
        Ok(rendered) => rendered,
        Err(error) => return ctx.failure(&error.to_string()),
    };
    if flags & LENGTH_ONLY == 0 {
        args.userdata(0)?.borrow::<EcString>()?.set(&rendered);
    }
    Ok(Ret::Two(Value::Number(rendered.len() as f64), Value::Nil))
}

fn rendition(content: &Content, flags: i64) -> std::io::Result<Vec<u8>> {
    let head: &[u8] = if flags & OMIT_HEADERS == 0 { content.head() } else { &[] };
    let body = if flags & HEADERS_ONLY == 0 { content.body().to_bytes()? } else { Bytes::new() };
    let mut body = &body[..];
    if flags & OMIT_EPILOGUE != 0 && flags & HEADERS_ONLY == 0 {
        let tree = MimeTree::parse(content)?;
        if let Some(delimited) = tree.root().delimited.as_ref().filter(|_| tree.root().closed) {
            body = &body[..delimited.end.saturating_sub(content.head().len()).min(body.len())];
        }
    }
    let mut out = Vec::with_capacity(head.len() + body.len() + 16);
    if flags & UNSTUFFED != 0 {
        for line in head.split_inclusive(|&byte| byte == b'\n').chain(body.split_inclusive(|&byte| byte == b'\n')) {
            match line.strip_suffix(b"\r\n") {
                Some(text) => {
                    out.extend_from_slice(text);
                    out.push(b'\n');
                }
                None => out.extend_from_slice(line),
            }
        }
        return Ok(out);
    }
    for line in head.split_inclusive(|&byte| byte == b'\n').chain(body.split_inclusive(|&byte| byte == b'\n')) {
        if line.first() == Some(&b'.') {
            out.push(b'.');
        }
        out.extend_from_slice(line);
    }
    if flags & OMIT_DOT == 0 {
        if !out.is_empty() && !out.ends_with(b"\r\n") {
            out.extend_from_slice(b"\r\n");
        }
        out.extend_from_slice(b".\r\n");
    }
    Ok(out)
}

/// What `ec_message_builder` gives.
struct Builder {
    message: Arc<Message>,
    /// `None` once it is closed.
    written: Mutex<Option<Vec<u8>>>,
}

impl Builder {
    fn write(&self, bytes: &[u8]) -> Result<usize, &'static str> {
        let mut written = self.written.lock();
        let buffer = written.as_mut().ok_or("closed")?;
        if buffer.len() + bytes.len() > BUILT_SIZE_MAX {
            return Err("the message is too large");
        }
        buffer.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn close(&self) -> Result<(), &'static str> {
        let mut content = self.written.lock().take().ok_or("closed")?;
        super::content::take_off_terminator(&mut content);
        let mut state = self.message.state.lock();
        state.envelope.eight_bit |= !content.is_ascii();
        state.content = Some(Content::parse(content.into()));
        state.edited = true;
        Ok(())
    }
}

impl UserData for Builder {
    fn add_methods<M: UserDataMethods<Self>>(methods: &mut M) {
        methods.add_method("write", |lua, this, (value, count): (Value, Option<f64>)| {
            let Some(mut bytes) = bytes_of(&value) else {
                let place = crate::registry::place_of(lua, 1).unwrap_or_default();
                let got = crate::registry::type_name(&value);
                return Err(mlua::Error::RuntimeError(format!("{place}write: string expected, got {got}")));
            };
            if let Some(count) = count {
                bytes.truncate(count.max(0.0) as usize);
            }
            Ok(match this.write(&bytes) {
                Ok(length) => (Value::Number(length as f64), Value::Nil),
                Err(reason) => (Value::Nil, Value::String(lua.create_string(reason)?)),
            })
        });
        methods.add_method("close", |lua, this, ()| {
            Ok(match this.close() {
                Ok(()) => (Value::Boolean(true), Value::Nil),
                Err(reason) => (Value::Nil, Value::String(lua.create_string(reason)?)),
            })
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rendition_is_what_goes_over_the_wire_less_what_the_flags_take() {
        let multipart =
            "A: b\r\nContent-Type: multipart/mixed; boundary=x\r\n\r\n--x\r\n\r\nt\r\n--x--\r\nepilogue\r\n";
        for (raw, flags, want) in [
            ("A: b\r\n\r\n.x\r\n", 0, "A: b\r\n\r\n..x\r\n.\r\n"),
            ("A: b\r\n\r\n.x\r\n", OMIT_DOT, "A: b\r\n\r\n..x\r\n"),
            ("A: b\r\n\r\n.x", 0, "A: b\r\n\r\n..x\r\n.\r\n"),
            ("A: b\r\n\r\n.x\r\n", HEADERS_ONLY | OMIT_DOT, "A: b\r\n\r\n"),
            ("A: b\r\n\r\n.x\r\n", OMIT_HEADERS | OMIT_DOT, "..x\r\n"),
            ("A: b\r\n\r\n.x\r\n", UNSTUFFED, "A: b\n\n.x\n"),
            (
                multipart,
                OMIT_EPILOGUE | UNSTUFFED,
                "A: b\nContent-Type: multipart/mixed; boundary=x\n\n--x\n\nt\n--x--\n",
            ),
            (multipart, OMIT_EPILOGUE | OMIT_HEADERS | OMIT_DOT, "--x\r\n\r\nt\r\n--x--\r\n"),
        ] {
            let content = Content::parse(Bytes::from_static(raw.as_bytes()));
            let got = rendition(&content, flags).unwrap();
            assert_eq!(String::from_utf8(got).unwrap(), want, "{raw:?} {flags}");
        }
    }
}
