//! Where parts are linked: `addFirstChild`, `addLastChild`, `insertAfter`, `insertBefore`, `unlink`.

use super::{RECEPTION, message_of, open, refused};
use crate::registry::{ApiError, Args, Call, Ctx, FUNCTION, Function, Ret, Type, param, returns};
use crate::userdata::Part;
use mlua::Value;
use ph_message::mime::{PartId, Place};

pub static ADD_FIRST_CHILD: Function = Function {
    name: "msgpart:addFirstChild",
    since: "3.0",
    phases: RECEPTION,
    params: &[param("child", Type::Part, "a part that is linked to nothing")],
    returns: &[returns(
        "boolean",
        "false: this is no container, or the child is linked already, or this is inside of it",
    )],
    doc: "Makes a part the first one of this container. A part of another message is copied. A boundary that occurs in the new \
          part gives way to another one.",
    page: "4/lua/ref-msgpart-add-first-child.md",
    raises: "when the parts are read-only, and for a stale part (the message was replaced as a whole)",
    example: r#"
        local container = msg:makeContainer("multipart/mixed")
        container:addFirstChild(msg:makePart("text/plain", "First of all."))
    "#,
    call: Call::Sync(|ctx, args| link(ctx, args, Side::Child, Place::FirstIn)),
    ..FUNCTION
};

pub static ADD_LAST_CHILD: Function = Function {
    name: "msgpart:addLastChild",
    doc: "Makes a part the last one of this container. A part of another message is copied. A boundary that occurs in the new \
          part gives way to another one.",
    page: "4/lua/ref-msgpart-add-last-child.md",
    raises: "when the parts are read-only, and for a stale part (the message was replaced as a whole)",
    example: r#"
        local container = msg:makeContainer("multipart/mixed")
        container:addLastChild(msg:makePart("text/plain", "A disclaimer."))
    "#,
    call: Call::Sync(|ctx, args| link(ctx, args, Side::Child, Place::LastIn)),
    ..ADD_FIRST_CHILD
};

pub static INSERT_AFTER: Function = Function {
    name: "msgpart:insertAfter",
    since: "3.0",
    phases: RECEPTION,
    params: &[param("after", Type::Part, "a part of a container")],
    returns: &[returns("boolean", "false: this part is linked already, or the other one is in no container")],
    doc: "Links this part, which is linked to nothing, behind another one.",
    page: "4/lua/ref-msgpart-insert-after.md",
    raises: "when the parts are read-only, and for a stale part (the message was replaced as a whole)",
    example: r#"
        local container = msg:makeContainer("multipart/mixed")
        local first = msg:makePart("text/plain", "one")
        container:addLastChild(first)
        msg:makePart("text/plain", "two"):insertAfter(first)
    "#,
    call: Call::Sync(|ctx, args| link(ctx, args, Side::Itself, Place::After)),
    ..FUNCTION
};

pub static INSERT_BEFORE: Function = Function {
    name: "msgpart:insertBefore",
    params: &[param("before", Type::Part, "a part of a container")],
    doc: "Links this part, which is linked to nothing, in front of another one.",
    page: "4/lua/ref-msgpart-insert-before.md",
    raises: "when the parts are read-only, and for a stale part (the message was replaced as a whole)",
    example: r#"
        local container = msg:makeContainer("multipart/mixed")
        local last = msg:makePart("text/plain", "two")
        container:addLastChild(last)
        msg:makePart("text/plain", "one"):insertBefore(last)
    "#,
    call: Call::Sync(|ctx, args| link(ctx, args, Side::Itself, Place::Before)),
    ..INSERT_AFTER
};

pub static UNLINK: Function = Function {
    name: "msgpart:unlink",
    since: "3.1",
    phases: RECEPTION,
    doc: "Takes the part out of its container, with what is inside of it; it can be linked elsewhere then. The top of a message \
          cannot be taken out.",
    page: "4/lua/ref-msgpart-unlink.md",
    raises: "for the top of a message, and when the parts are read-only, and for a stale part (the message was replaced as a whole)",
    example: r#"
        local container = msg:makeContainer("multipart/mixed")
        local part = msg:makePart("application/octet-stream", "MZ")
        container:addLastChild(part)
        part:unlink()
    "#,
    call: Call::Sync(unlink),
    ..FUNCTION
};

/// Which of the two parts is to be linked: the argument, or the one that the method is called on.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Child,
    Itself,
}

fn link(ctx: &Ctx<'_>, args: &Args, side: Side, place: fn(PartId) -> Place) -> Result<Ret, ApiError> {
    let own = args.part()?.clone();
    let other = args.userdata(0)?.borrow::<Part>()?.clone();
    let (child, target) = if side == Side::Child { (other, own) } else { (own, other) };
    let (child_message, message) = (message_of(ctx, &child)?, message_of(ctx, &target)?);
    // Two messages are never locked at a time: a copy is made first.
    let copy = match child.message.is_same(&target.message) {
        true => None,
        false => {
            let mut opened = open(&child_message, &child)?;
            Some(opened.forest().copy_of(child.id).map_err(refused)?)
        }
    };
    let mut opened = open(&message, &target)?;
    opened.check_writable(ctx, args)?;
    let id = match &copy {
        Some(content) => opened.forest().make(content).map_err(refused)?,
        None => child.id,
    };
    let linked = opened.forest().link(id, place(target.id)).map_err(refused)?;
    if linked {
        if let Some(parts) = &mut opened.state.parts {
            parts.made.remove(&id);
        }
        if opened.forest().is_in_message(id) {
            opened.store();
        }
    } else if copy.is_some() {
        opened.forest().forget(id);
    }
    Ok(Ret::One(Value::Boolean(linked)))
}

fn unlink(ctx: &Ctx<'_>, args: &Args) -> Result<Ret, ApiError> {
    let part = args.part()?;
    let message = message_of(ctx, part)?;
    let mut opened = open(&message, part)?;
    opened.check_writable(ctx, args)?;
    let was_in_message = opened.forest().is_in_message(part.id);
    opened.forest().unlink(part.id).map_err(refused)?;
    if was_in_message {
        opened.store();
    }
    Ok(Ret::None)
}
