//! What a part is and where it stands: its fields and `content_type`.

use super::{Made, Opened, RECEPTION, handle, message_of, open};
use crate::registry::{ApiError, Args, Call, Ctx, FUNCTION, Function, Ret, Return, SyncCall, returns};
use bytes::Bytes;
use mlua::Value;
use ph_message::mime::{MimeForest, PartId};
use ph_message::transfer::TransferEncoding;
use ph_message::{Body, Part};

pub static CONTENT_TYPE: Function = Function {
    name: "msgpart:content_type",
    since: "3.0",
    phases: RECEPTION,
    returns: &[returns("table", "fields `mimetype`, `charset`, `encoding`, `filename` and `is_attachment`")],
    doc: "What the part's header says of its body: `mimetype`, `charset` and `encoding` in lower case, with the defaults where it \
          says nothing. `filename` comes from Content-Disposition, else from Content-Type; with one, or with the disposition \
          `attachment`, `is_attachment` is true.",
    page: "4/lua/ref-msgpart-content-type.md",
    raises: "for a stale part",
    example: r#"
        local part = msg:mime(false)
        local name = part:content_type().filename or "unnamed"
    "#,
    call: Call::Sync(content_type),
    ..FUNCTION
};

const NEIGHBOUR_RETURNS: &[Return] = &[returns("msgpart|nil", "nil where there is none")];
const OFFSET_RETURNS: &[Return] =
    &[returns("integer", "octets from the beginning of the message, or of a part that is linked to nothing")];

/// A field that is another part.
const fn neighbour(name: &'static str, doc: &'static str, example: &'static str, get: SyncCall) -> Function {
    Function {
        name,
        returns: NEIGHBOUR_RETURNS,
        doc,
        page: "4/lua/ref-msg-mime.md",
        raises: "for a stale part",
        example,
        call: Call::Field { get, set: None },
        ..FUNCTION
    }
}

pub static THREAD: Function = neighbour(
    "msgpart.thread",
    "The next part in document order, depth first.",
    r"
        local part = msg:mime(true)
        while part do
          print(part.type)
          part = part.thread
        end
    ",
    |ctx, args| related(ctx, args, MimeForest::thread),
);
pub static NEXT: Function = neighbour(
    "msgpart.next",
    "The next part of the same container.",
    r"
        local part = msg:mime(true)
        local child = part.parts
        while child do
          print(child.type)
          child = child.next
        end
    ",
    |ctx, args| related(ctx, args, MimeForest::next_sibling),
);
pub static PARENT: Function = neighbour(
    "msgpart.parent",
    "The part that this one is in.",
    r"
        local part = msg:mime(true)
        local is_top = part.parent == nil
    ",
    |ctx, args| related(ctx, args, MimeForest::parent),
);
pub static PARTS: Function = neighbour(
    "msgpart.parts",
    "The first part inside: nil for leaves.",
    r"
        local part = msg:mime(true)
        local is_container = part.parts ~= nil
    ",
    |ctx, args| related(ctx, args, MimeForest::first_child),
);

pub static BOUNDARY: Function = Function {
    name: "msgpart.boundary",
    returns: &[returns("string|nil", "nil for leaves")],
    doc: "What delimits the parts of a container.",
    page: "4/lua/ref-msg-mime.md",
    example: r"
        local part = msg:mime(true)
        if part.boundary then print(part.boundary) end
    ",
    call: Call::Field {
        get: |ctx, args| {
            let boundary = read(ctx, args, |part| part.boundary.clone())?;
            boundary.map_or(Ok(Ret::NIL), |boundary| ctx.string(boundary.as_bytes()))
        },
        set: None,
    },
    ..FUNCTION
};

pub static ENCODING: Function = Function {
    name: "msgpart.encoding",
    returns: &[returns("integer|nil", "nil for an encoding that has no number")],
    doc: "The transfer encoding: one of `msys.core.EC_MIME_TE_*`.",
    page: "4/lua/ref-msg-mime.md",
    example: r#"
        local part = msg:mime(true)
        if part.encoding == msys.core.EC_MIME_TE_BASE64 then print("base64") end
    "#,
    call: Call::Field {
        get: |ctx, args| {
            let encoding = read(ctx, args, |part| part.encoding)?;
            Ok(encoding.map_or(Ret::NIL, |encoding| Ret::number(number_of(encoding))))
        },
        set: None,
    },
    ..FUNCTION
};

pub static TYPE: Function = Function {
    name: "msgpart.type",
    returns: &[returns("string", "such as `text/plain`")],
    doc: "The media type in lower case, without parameters.",
    page: "4/lua/ref-msg-mime.md",
    example: r#"
        local part = msg:mime(true)
        if part.type == "text/html" then msg:header("X-HTML", "yes") end
    "#,
    call: Call::Field {
        get: |ctx, args| {
            let value = read(ctx, args, |part| part.content_type.value.clone())?;
            ctx.string(value.as_bytes())
        },
        set: None,
    },
    ..FUNCTION
};

/// A field that is a place in the message.
const fn offset(
    name: &'static str,
    doc: &'static str,
    example: &'static str,
    get: SyncCall,
    set: Option<SyncCall>,
) -> Function {
    Function {
        name,
        returns: OFFSET_RETURNS,
        doc,
        page: "4/lua/ref-msg-mime.md",
        raises: match set {
            Some(_) => {
                "when it is set to a place outside of the body, or in a part that is linked, and for a stale part"
            }
            None => "for a stale part",
        },
        example,
        call: Call::Field { get, set },
        ..FUNCTION
    }
}

pub static HEADERS_START: Function = offset(
    "msgpart.headers_start",
    "Where the part's header begins.",
    r"
        local part = msg:mime(true)
        local header = msg:raw():sub(part.headers_start + 1, part.preamble_start)
    ",
    |ctx, args| place(ctx, args, |part| part.headers.start),
    None,
);
pub static PREAMBLE_START: Function = offset(
    "msgpart.preamble_start",
    "Where the part's body begins, with a container's preamble.",
    r"
        local part = msg:mime(true)
        local preamble = msg:raw():sub(part.preamble_start + 1, part.body_start)
    ",
    |ctx, args| place(ctx, args, |part| part.body.start),
    None,
);
pub static BODY_START: Function = offset(
    "msgpart.body_start",
    "Where the content begins: a leaf's body, or a container's first delimiter. For a part that `msg:makePart` has made and \
     nobody has linked it counts in the given body, and can be set.",
    r"
        local part = msg:mime(true)
        local body = msg:raw():sub(part.body_start + 1, part.body_end)
    ",
    |ctx, args| chosen(ctx, args, |made| made.start, |part| content_of(part).start),
    Some(|ctx, args| choose(ctx, args, |made, at| made.start = at)),
);
pub static BODY_END: Function = offset(
    "msgpart.body_end",
    "Where the content ends: a leaf's body, or a container's last delimiter. It can be set where `body_start` can.",
    r"
        local part = msg:mime(true)
        local size = part.body_end - part.body_start
    ",
    |ctx, args| chosen(ctx, args, |made| made.end, |part| content_of(part).end),
    Some(|ctx, args| choose(ctx, args, |made, at| made.end = at)),
);
pub static EPILOGUE_END: Function = offset(
    "msgpart.epilogue_end",
    "Where the part ends, with a container's epilogue.",
    r"
        local part = msg:mime(true)
        local epilogue = msg:raw():sub(part.body_end + 1, part.epilogue_end)
    ",
    |ctx, args| place(ctx, args, |part| part.body.end),
    None,
);

/// The numbers of `msys.core.EC_MIME_TE_*`.
const ENCODINGS: [TransferEncoding; 5] = [
    TransferEncoding::SevenBit,
    TransferEncoding::EightBit,
    TransferEncoding::Binary,
    TransferEncoding::QuotedPrintable,
    TransferEncoding::Base64,
];

fn number_of(encoding: TransferEncoding) -> f64 {
    ENCODINGS.iter().position(|known| *known == encoding).unwrap_or_default() as f64
}

pub(crate) fn encoding_of(number: i64) -> Option<TransferEncoding> {
    ENCODINGS.get(usize::try_from(number).ok()?).copied()
}

fn with<R>(
    ctx: &Ctx<'_>,
    args: &Args,
    work: impl FnOnce(&mut Opened<'_>) -> Result<R, ApiError>,
) -> Result<R, ApiError> {
    let part = args.part()?;
    let message = message_of(ctx, part)?;
    let mut opened = open(&message, part)?;
    work(&mut opened)
}

fn read<R>(ctx: &Ctx<'_>, args: &Args, get: impl FnOnce(&Part) -> R) -> Result<R, ApiError> {
    with(ctx, args, |opened| opened.find().map(|(tree, at)| get(&tree.parts()[at])))
}

fn related(
    ctx: &Ctx<'_>,
    args: &Args,
    get: impl FnOnce(&MimeForest, PartId) -> Option<PartId>,
) -> Result<Ret, ApiError> {
    let found = with(ctx, args, |opened| {
        let id = opened.id;
        Ok(get(opened.forest(), id))
    })?;
    let part = args.part()?;
    found.map_or(Ok(Ret::NIL), |id| handle(ctx, &part.message, id, part.writable))
}

fn place(ctx: &Ctx<'_>, args: &Args, get: impl FnOnce(&Part) -> usize) -> Result<Ret, ApiError> {
    read(ctx, args, get).map(|at| Ret::number(at as f64))
}

/// From the first to the last delimiter; all of a leaf's body.
fn content_of(part: &Part) -> std::ops::Range<usize> {
    part.delimited.clone().unwrap_or_else(|| part.body.clone())
}

fn chosen(
    ctx: &Ctx<'_>,
    args: &Args,
    of_made: impl FnOnce(&Made) -> usize,
    get: impl FnOnce(&Part) -> usize,
) -> Result<Ret, ApiError> {
    let at = with(ctx, args, |opened| {
        let id = opened.id;
        let is_unlinked = opened.forest().is_unlinked(id);
        let made = opened.state.parts.as_ref().and_then(|parts| parts.made.get(&id)).filter(|_| is_unlinked);
        if let Some(made) = made {
            return Ok(of_made(made));
        }
        opened.find().map(|(tree, at)| get(&tree.parts()[at]))
    })?;
    Ok(Ret::number(at as f64))
}

fn choose(ctx: &Ctx<'_>, args: &Args, set: impl FnOnce(&mut Made, usize)) -> Result<Ret, ApiError> {
    let at = args.integer(0)?;
    with(ctx, args, |opened| {
        let id = opened.id;
        let is_unlinked = opened.forest().is_unlinked(id);
        let made = opened.state.parts.as_mut().and_then(|parts| parts.made.remove(&id)).filter(|_| is_unlinked);
        let Some(mut made) = made else {
            return Err(ctx.raise("can be set of a part that makePart has made and that is not linked yet"));
        };
        let old = (made.start, made.end);
        let fits = usize::try_from(at).ok().filter(|at| *at <= made.body.len());
        if let Some(at) = fits {
            set(&mut made, at);
        }
        let is_range = fits.is_some();
        if !is_range {
            (made.start, made.end) = old;
        }
        let body: Bytes = made.body.slice(made.start.min(made.end)..made.end);
        let mut content = opened.forest().content_of(id).map_err(super::refused)?;
        content.set_body(Body::Memory(body));
        opened.forest().replace(id, &content, false).map_err(super::refused)?;
        let length = made.body.len();
        opened.state.parts.get_or_insert_default().made.insert(id, made);
        if is_range { Ok(Ret::None) } else { Err(args.bad(0, format!("0 to {length} expected, got {at}"))) }
    })
}

fn content_type(ctx: &Ctx<'_>, args: &Args) -> Result<Ret, ApiError> {
    let info = with(ctx, args, |opened| opened.find().map(|(tree, at)| tree.info(&tree.parts()[at])))?;
    let table = ctx.lua.create_table()?;
    table.raw_set("mimetype", info.mimetype)?;
    table.raw_set("charset", info.charset)?;
    table.raw_set("encoding", info.encoding)?;
    table.raw_set("filename", info.filename)?;
    table.raw_set("is_attachment", info.is_attachment)?;
    Ok(Ret::One(Value::Table(table)))
}
