//! The header of a part: `header` in its three forms, and `address_header`.

use super::{Opened, RECEPTION, message_of, open, refused};
use crate::api::message::content::{Mode, set_fields};
use crate::registry::{ApiError, Args, Call, Ctx, FUNCTION, Function, Param, Ret, Type, optional, param, returns};
use mlua::Value;
use ph_message::content_type::rewritten;
use ph_message::header::{fields_named, is_field_name};
use ph_message::{Content, ContentType, encoded_word, parse_address_list};

const NAME: Param = param("name", Type::String, "the name, in any case, without colon");

pub static HEADER: Function = Function {
    name: "msgpart:header",
    since: "3.1",
    phases: RECEPTION,
    params: &[NAME],
    returns: &[returns("string[]|boolean", "every value, in order; in the other forms, whether something changed")],
    doc: "Reads a header of this part. Values come unfolded and decoded to UTF-8.",
    page: "4/lua/ref-msgpart-header.md",
    raises: "when `name` is no name of a header, and for a stale part",
    example: r#"
        local part = msg:mime(false)
        local id = part:header("Content-ID")[1]
    "#,
    call: Call::Sync(header),
    ..FUNCTION
};

pub static HEADER_UNSET: Function = Function {
    params: &[NAME, param("nil", Type::Any, "nil, which is given")],
    returns: &[returns("boolean", "whether there was one")],
    doc: "Removes a header of this part. That differs from `msg:header`, which reads when it is given nil.",
    page: "4/lua/ref-msgpart-header-2.md",
    raises: "when the parts are read-only, and for a stale part (the message was replaced as a whole)",
    example: r#"
        local part = msg:mime(false)
        part:header("X-Word", nil)
    "#,
    call: Call::Form,
    ..HEADER
};

pub static HEADER_SET: Function = Function {
    params: &[
        NAME,
        param("value", Type::Strings, "the new value or an array of them; the empty string removes the header"),
        optional("mode", Type::String, "`replace` (the default), `append` (below all others) or `prepend` (above)"),
    ],
    returns: &[returns("boolean", "whether something changed")],
    doc: "Sets a header of this part. A new Content-Type or transfer encoding does not convert the body; a new boundary of a \
          container is written into its delimiters too.",
    page: "4/lua/ref-msgpart-header-3.md",
    raises: "when `mode` is not one of its three, when a new boundary occurs in the content, and when the parts are read-only, and for a stale part (the message was replaced as a whole)",
    example: r#"
        local part = msg:mime(false)
        part:header("Content-Description", "a letter", "append")
    "#,
    call: Call::Form,
    ..HEADER
};

pub static ADDRESS_HEADER: Function = Function {
    name: "msgpart:address_header",
    since: "3.0",
    phases: RECEPTION,
    params: &[
        param("headername", Type::String, "the name, in any case, without colon"),
        optional("component", Type::String, "`all` (the default), `localpart`, `user`, `detail` or `domain`"),
    ],
    returns: &[returns("string[]", "one entry for each mailbox")],
    doc: "The mailboxes of every header of that name in this part, those of groups among them.",
    page: "4/lua/ref-msgpart-address-header.md",
    raises: "when there is no such component, and for a stale part",
    example: r#"
        local part = msg:mime(false)
        local addresses = part:address_header("From")
    "#,
    call: Call::Sync(address_header),
    ..FUNCTION
};

fn name_of(args: &Args) -> Result<String, ApiError> {
    let name = args.text(0)?.into_owned();
    if is_field_name(name.as_bytes()) {
        return Ok(name);
    }
    Err(args.bad(0, "not a header name: visible ASCII without a colon is expected"))
}

fn header(ctx: &Ctx<'_>, args: &Args) -> Result<Ret, ApiError> {
    let name = name_of(args)?;
    let part = args.part()?;
    let message = message_of(ctx, part)?;
    if args.count() < 2 {
        let mut opened = open(&message, part)?;
        let (tree, at) = opened.find()?;
        let fields = fields_named(tree.headers(&tree.parts()[at]), &name);
        return ctx.strings(fields.map(|field| encoded_word::decode_bytes(&field.unfolded()).into_owned()));
    }
    let mode = Mode::named(args)?;
    let values = if args.is_nil(1) { Vec::new() } else { args.strings(1)? };
    let mut opened = open(&message, part)?;
    opened.check_writable(ctx, args)?;
    let before = opened.forest().content_of(part.id).map_err(refused)?;
    let mut content = before.clone();
    if !set_fields(ctx, &mut content, &name, &values, mode)? {
        return Ok(Ret::FALSE);
    }
    if name.eq_ignore_ascii_case("content-type") {
        set_type(&mut opened, before, content)?;
    } else {
        opened.replace(&content, true)?;
    }
    Ok(Ret::One(Value::Boolean(true)))
}

/// A container that gets another boundary keeps its parts: the delimiters change with it.
fn set_type(opened: &mut Opened<'_>, before: Content, mut content: Content) -> Result<(), ApiError> {
    let id = opened.id;
    let (tree, at) = opened.find()?;
    let old = tree.parts()[at].boundary.clone();
    let value = content.header("Content-Type").map(|value| value.into_owned());
    let new = value.as_deref().map(ContentType::parse).filter(ContentType::is_multipart);
    let new = new.and_then(|kind| kind.param("boundary").map(str::to_owned));
    let (Some(old), Some(new), Some(value)) = (old, new, value) else { return opened.replace(&content, true) };
    if !is_boundary(&new) {
        return Err(ApiError::Raise(format!("'{new}' is no boundary")));
    }
    let with_old = rewritten(&value, None, "boundary", &old);
    content.set_header("Content-Type", &with_old).map_err(|error| ApiError::Raise(error.to_string()))?;
    opened.forest().replace(id, &content, true).map_err(refused)?;
    if let Err(error) = opened.forest().set_boundary(id, &new) {
        opened.forest().replace(id, &before, true).map_err(refused)?;
        return Err(refused(error));
    }
    if opened.forest().is_in_message(id) {
        opened.store();
    }
    Ok(())
}

/// RFC 2046 section 5.1.1: up to 70 characters of a small set, the last of them no blank.
pub(crate) fn is_boundary(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"'()+_,-./:=? ".contains(&byte);
    (1..=70).contains(&text.len()) && text.bytes().all(allowed) && !text.ends_with(' ')
}

fn address_header(ctx: &Ctx<'_>, args: &Args) -> Result<Ret, ApiError> {
    let name = name_of(args)?;
    let component = args.optional_text(1)?;
    let component = component.as_deref().unwrap_or("all");
    if !["all", "localpart", "user", "detail", "domain"].contains(&component) {
        return Err(args.bad(1, format!("no such component: {component}")));
    }
    let part = args.part()?;
    let message = message_of(ctx, part)?;
    let mut opened = open(&message, part)?;
    let (tree, at) = opened.find()?;
    let mut found = Vec::new();
    for field in fields_named(tree.headers(&tree.parts()[at]), &name) {
        let value = field.unfolded();
        let text = String::from_utf8_lossy(&value);
        found.extend(parse_address_list(&text).iter().map(|address| match component {
            "all" => address.address(),
            "localpart" => address.local.to_string(),
            "user" => address.user().to_owned(),
            "detail" => address.detail().to_owned(),
            _ => address.domain.to_string(),
        }));
    }
    drop(opened);
    ctx.strings(found)
}
