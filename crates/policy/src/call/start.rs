//! Starting one function of a module: its Lua arguments, its `self`, its out-parameters.

use super::{Entry, Module};
use crate::hooks::{Arguments, HookResult, Parts};
use crate::host::{Host, SessionHandles};
use crate::objects::Session;
use crate::userdata::{Construct, EcString, IntBox};
use bytes::Bytes;
use mlua::function::AsyncCallFuture;
use mlua::{AnyUserData, Lua, Table, Value};
use ph_message::Time;
use std::sync::Arc;

/// The out-parameters of a hook that has some: the modules of one call share them.
#[derive(Default)]
pub(super) struct Outs {
    numbers: [Option<IntBox>; 3],
    buffer: Option<EcString>,
}

/// Capacity of the buffers that hooks fill, as the C interface has it.
const BUFFER_SIZE: usize = 1024;

impl Outs {
    pub fn of(parts: &Parts<'_>) -> Outs {
        let number = |value| Some(IntBox::holding(value));
        let one = |value| Outs { numbers: [number(value), None, None], ..Outs::default() };
        match parts.arguments {
            Arguments::RelayTo(_) => Outs { numbers: [number(0), number(0), None], ..Outs::default() },
            Arguments::MsgNowOut(_) | Arguments::DomainOut(_) => one(0),
            Arguments::MsgFlagOut(flag) => one(i64::from(flag)),
            Arguments::MsgNumbersOut(values) => Outs { numbers: values.map(number), ..Outs::default() },
            Arguments::RoutingDomain => Outs { buffer: Some(EcString::with_capacity(BUFFER_SIZE)), ..Outs::default() },
            Arguments::ReceivedText | Arguments::Words(_) | Arguments::UserPasswordAc(..) => {
                Outs { buffer: Some(EcString::new(b"")), ..Outs::default() }
            }
            _ => Outs::default(),
        }
    }

    fn number(&self, at: usize) -> Option<IntBox> {
        self.numbers.get(at).cloned().flatten()
    }

    pub fn read_into(&self, result: &mut HookResult) {
        let assigned = |at| self.number(at).as_ref().and_then(IntBox::assigned);
        result.out = assigned(0);
        result.further = [assigned(1), assigned(2)];
        result.text = self.buffer.as_ref().map(EcString::bytes).filter(|b| !b.is_empty()).map(Bytes::from);
    }
}

/// Starts one function with its arguments. Runs inside a turn: the state is held.
pub(super) fn start(
    lua: &Lua,
    host: &Host,
    entry: &Entry,
    parts: &Parts<'_>,
    outs: &Outs,
) -> mlua::Result<AsyncCallFuture<Value>> {
    let mut session_lock = parts.session.map(|session| session.handles.lock());
    let session = match (parts.session, &mut session_lock) {
        (Some(session), Some(lock)) => Some(host.session_handles(lua, session, lock)?),
        _ => None,
    };
    let mut message_lock = parts.message.map(|message| message.handle.lock());
    let message = match (parts.message, &mut message_lock) {
        (Some(message), Some(lock)) => Some(host.message_handle(lua, message, lock)?),
        _ => None,
    };
    let (mut accept, mut validate, mut me) = (None, None, &entry.module.table);
    if let Some(handles) = session {
        if let Some(message) = parts.message {
            handles.message = Arc::downgrade(message);
        }
        if parts.own_self {
            own_self(lua, handles, &entry.module)?;
        }
        let handles = &*handles;
        (accept, validate) = (Some(&handles.accept), Some(&handles.validate));
        if parts.own_self
            && let Some(Some(own)) = handles.selves.get(entry.module.index)
        {
            me = own;
        }
    }
    let call = &entry.function;
    let ec_string = |bytes: &[u8]| lua.create_userdata(EcString::new(bytes));
    Ok(match &parts.arguments {
        Arguments::None => call.call_async(me),
        Arguments::AcVctx => call.call_async((me, accept, validate)),
        Arguments::StrAcVctx(text) => call.call_async((me, ec_string(text)?, accept, validate)),
        Arguments::MsgStrAcVctx(text) => call.call_async((me, message, ec_string(text)?, accept, validate)),
        Arguments::VctxAuth(mechanism, status) => call.call_async((me, validate, *mechanism, *status)),
        Arguments::RelayTo(domain) => call.call_async((me, *domain, outs.number(0), outs.number(1))),
        Arguments::ListVctx => call.call_async((me, recipients(lua, parts.session)?, validate)),
        Arguments::MsgAc => call.call_async((me, message, accept)),
        Arguments::MsgAcVctx => call.call_async((me, message, accept, validate)),
        Arguments::Msg => call.call_async((me, message)),
        Arguments::AcMsgNowNote(now, note) => {
            call.call_async((me, accept, message, timeval(lua, *now)?, *note, note.len()))
        }
        Arguments::MsgNow(now) => call.call_async((me, message, timeval(lua, *now)?)),
        Arguments::NowAcVctxPhaseText(now, phase, text) => {
            call.call_async((me, timeval(lua, *now)?, accept, validate, *phase, *text))
        }
        Arguments::Ac => call.call_async((me, accept)),
        Arguments::RoutingDomain => call.call_async((me, Value::Nil, message, outs.buffer.clone(), BUFFER_SIZE)),
        Arguments::ReceivedText => {
            let construct = construct(lua, parts)?;
            call.call_async((me, message, construct, accept, validate, outs.buffer.clone()))
        }
        Arguments::MsgNowOut(now) => call.call_async((me, message, timeval(lua, *now)?, outs.number(0))),
        Arguments::MsgDomainNowNote(domain, now, note) => {
            let record = lua.create_table()?;
            record.raw_set("domain", *domain)?;
            call.call_async((me, message, record, timeval(lua, *now)?, *note, note.len()))
        }
        Arguments::MsgFlagOut(_) => call.call_async((me, message, outs.number(0))),
        Arguments::MsgNumbersOut(_) => call.call_async((me, message, outs.number(0), outs.number(1), outs.number(2))),
        Arguments::MsgTls(parameters) => call.call_async((me, message, lua.create_userdata((*parameters).clone())?)),
        Arguments::MsgNilNil => call.call_async((me, message, Value::Nil, Value::Nil)),
        Arguments::McVctxTls(parameters) => {
            let parameters = lua.create_userdata((*parameters).clone())?;
            call.call_async((me, construct(lua, parts)?, validate, parameters))
        }
        // What C has behind `ctx` and `x509ctx` is not for Lua.
        Arguments::McVerified(verified, subject, issuer) => call.call_async((
            me,
            construct(lua, parts)?,
            Value::Nil,
            i64::from(*verified),
            *subject,
            *issuer,
            Value::Nil,
        )),
        Arguments::McEventNow(now) => {
            let (event, event_type, closure) = (Value::Nil, 0, Value::Nil);
            call.call_async((me, construct(lua, parts)?, event, event_type, closure, timeval(lua, *now)?))
        }
        Arguments::AcMcVctx => call.call_async((me, accept, construct(lua, parts)?, validate)),
        Arguments::UserPasswordAc(user, password) => {
            call.call_async((me, *user, lua.create_string(password)?, accept, outs.buffer.clone()))
        }
        Arguments::UserAcText(user, text) => call.call_async((me, *user, accept, ec_string(text)?)),
        Arguments::DomainOut(domain) => call.call_async((me, Value::Nil, *domain, outs.number(0))),
        Arguments::Words(words) => call.call_async((me, command(lua, words)?, outs.buffer.clone())),
    })
}

/// The module's `self` in this session: a table of its own that finds the module's functions.
fn own_self(lua: &Lua, handles: &mut SessionHandles, module: &Module) -> mlua::Result<()> {
    if handles.selves.len() <= module.index {
        handles.selves.resize(module.index + 1, None);
    }
    if handles.selves[module.index].is_none() {
        let table = lua.create_table()?;
        let meta = lua.create_table()?;
        meta.raw_set("__index", &module.table)?;
        table.set_metatable(Some(meta))?;
        handles.selves[module.index] = Some(table);
    }
    Ok(())
}

/// The recipients as a fresh array of bare addresses.
fn recipients(lua: &Lua, session: Option<&Arc<Session>>) -> mlua::Result<Table> {
    let addresses: Vec<String> = session.map_or_else(Vec::new, |session| {
        session.state.lock().recipients.iter().map(|recipient| recipient.mailbox.to_string()).collect()
    });
    lua.create_sequence_from(addresses)
}

fn construct(lua: &Lua, parts: &Parts<'_>) -> mlua::Result<Option<AnyUserData>> {
    let session = parts.session.map(Arc::downgrade);
    session.map(|session| lua.create_userdata(Construct { session })).transpose()
}

/// A timeval: `tv_sec`, `tv_usec`.
pub(crate) fn timeval(lua: &Lua, time: Time) -> mlua::Result<Table> {
    let table = lua.create_table_with_capacity(0, 2)?;
    table.raw_set("tv_sec", time.secs())?;
    table.raw_set("tv_usec", time.micros().rem_euclid(1_000_000))?;
    Ok(table)
}

/// A console command: `argc`, and `argv` from 0.
pub(crate) fn command(lua: &Lua, words: &[String]) -> mlua::Result<Table> {
    let argv = lua.create_table()?;
    for (index, word) in words.iter().enumerate() {
        argv.raw_set(index, word.as_str())?;
    }
    let table = lua.create_table()?;
    table.raw_set("argc", words.len())?;
    table.raw_set("argv", argv)?;
    Ok(table)
}
