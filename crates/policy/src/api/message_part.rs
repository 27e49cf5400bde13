//! `msgpart`: one part of a message, in its tree or linked to nothing yet.
//!
//! A handle is an id and a reference to the message; what it means is looked up in `Parts`, under the lock of the message's state,
//! at each call. Each edit goes into the message's content at once, so that everybody else sees it. Where somebody else has replaced
//! the body meanwhile, handles of its parts raise `message part is stale`; handles of a message that has left raise too.

use super::message::{RECEPTION, writable};
use crate::objects::{Message, MessageState};
use crate::registry::{ApiError, Args, Ctx, Ret, Table};
use crate::userdata::{Msg, Part};
use bytes::Bytes;
use mlua::Value;
use parking_lot::MutexGuard;
use ph_message::mime::{EditError, MimeForest, PartId};
use ph_message::{Content, MimeTree};
use std::collections::HashMap;
use std::io;
use std::sync::Arc;

mod fields;
mod header;
mod links;
mod matching;
mod text;

pub(crate) use fields::encoding_of;
pub(crate) use header::is_boundary;
pub(crate) use text::{apply_to_message, replace_texts, search_texts, set_text, take_apart, text_of, texts_below};

pub static TABLE: Table = Table {
    name: "message_part",
    package: "msys.extended.message",
    functions: &[
        &links::ADD_FIRST_CHILD,
        &links::ADD_LAST_CHILD,
        &header::ADDRESS_HEADER,
        &matching::BODY_MATCH,
        &matching::BODY_REPLACE,
        &fields::CONTENT_TYPE,
        &header::HEADER,
        &header::HEADER_UNSET,
        &header::HEADER_SET,
        &links::INSERT_AFTER,
        &links::INSERT_BEFORE,
        &matching::RAW_MATCH,
        &matching::RAW_REPLACE,
        &text::TEXT,
        &text::TEXT_SET,
        &text::TEXT_MATCH,
        &text::TEXT_REPLACE,
        &links::UNLINK,
        &fields::THREAD,
        &fields::NEXT,
        &fields::PARENT,
        &fields::PARTS,
        &fields::BOUNDARY,
        &fields::ENCODING,
        &fields::TYPE,
        &fields::HEADERS_START,
        &fields::PREAMBLE_START,
        &fields::BODY_START,
        &fields::BODY_END,
        &fields::EPILOGUE_END,
    ],
};

/// What the part handles of one message stand for.
#[derive(Default)]
pub(crate) struct Parts {
    pub forest: MimeForest,
    /// The bodies that `makePart` was given, of parts whose range can still be chosen.
    pub made: HashMap<PartId, Made>,
}

/// `body_start` and `body_end` of a part that was made choose from this.
pub(crate) struct Made {
    pub body: Bytes,
    pub start: usize,
    pub end: usize,
}

/// The part of a call, with the state that it stands in.
struct Opened<'a> {
    state: MutexGuard<'a, MessageState>,
    id: PartId,
    writable: bool,
}

impl Opened<'_> {
    fn forest(&mut self) -> &mut MimeForest {
        &mut self.state.parts.get_or_insert_default().forest
    }

    /// The tree and the part's index in it.
    fn find(&mut self) -> Result<(&MimeTree, usize), ApiError> {
        let id = self.id;
        self.forest().find(id).ok_or_else(stale)
    }

    /// The tree for work that outlives the lock: all its bytes are shared.
    fn tree(&mut self) -> Result<(MimeTree, usize), ApiError> {
        self.find().map(|(tree, at)| (tree.clone(), at))
    }

    /// Raises where this part may not be changed.
    fn check_writable(&mut self, ctx: &Ctx<'_>, args: &Args) -> Result<(), ApiError> {
        let id = self.id;
        if !self.forest().is_in_message(id) {
            return Ok(()); // linked to nothing: the policy's own
        }
        if !self.writable {
            return Err(ApiError::Raise("message part is read-only".to_owned()));
        }
        writable(ctx, args, &self.state)
    }

    /// Gives the part a new header and body.
    fn replace(&mut self, with: &Content, same_children: bool) -> Result<(), ApiError> {
        let id = self.id;
        self.forest().replace(id, with, same_children).map_err(refused)?;
        if let Some(parts) = &mut self.state.parts {
            parts.made.remove(&id);
        }
        if self.forest().is_in_message(id) {
            self.store();
        }
        Ok(())
    }

    /// Puts the tree's octets into the message.
    fn store(&mut self) {
        store(&mut self.state);
    }
}

/// Puts the tree's octets into the message, for everybody to see.
pub(crate) fn store(state: &mut MessageState) {
    let Some(content) = state.parts.as_mut().and_then(|parts| parts.forest.content()) else { return };
    if let Some(body) = content.body().memory() {
        state.envelope.eight_bit |= !body.is_ascii();
    }
    state.content = Some(content);
    state.edited = true;
}

pub(crate) fn refused(error: EditError) -> ApiError {
    ApiError::Raise(error.to_string())
}

fn stale() -> ApiError {
    refused(EditError::Stale)
}

/// The message of a part handle.
fn message_of(ctx: &Ctx<'_>, part: &Part) -> Result<Arc<Message>, ApiError> {
    part.message.message().ok_or_else(|| ctx.raise("the message of this part is gone"))
}

/// Looks a part up; its tree follows what happened to the message meanwhile.
fn open<'m>(message: &'m Message, part: &Part) -> Result<Opened<'m>, ApiError> {
    let mut state = message.state.lock();
    let MessageState { content, parts, .. } = &mut *state;
    let forest = &mut parts.get_or_insert_default().forest;
    if let Some(content) = content {
        forest.follow(content);
    }
    if forest.find(part.id).is_none() {
        return Err(stale());
    }
    Ok(Opened { state, id: part.id, writable: part.writable })
}

/// Takes the message apart, if that has not been done. False before there is content.
pub(crate) async fn ready(message: &Arc<Message>) -> io::Result<bool> {
    loop {
        let content = {
            let mut state = message.state.lock();
            let MessageState { content, parts, .. } = &mut *state;
            let Some(content) = content else { return Ok(false) };
            if parts.get_or_insert_default().forest.follow(content) {
                return Ok(true);
            }
            content.clone()
        };
        let tree = take_apart(&content).await?;
        let mut state = message.state.lock();
        let MessageState { content: present, parts, .. } = &mut *state;
        // Somebody may have edited it in between: a second look decides.
        if present.as_ref().is_some_and(|present| present.head().as_ptr() == content.head().as_ptr()) {
            parts.get_or_insert_default().forest.take(&content, tree);
        }
    }
}

/// A handle for Lua.
pub(crate) fn handle(ctx: &Ctx<'_>, message: &Msg, id: PartId, writable: bool) -> Result<Ret, ApiError> {
    let part = Part { message: message.clone(), id, writable };
    Ok(Ret::One(Value::UserData(ctx.lua.create_userdata(part)?)))
}
