//! `vctx`: the validation context of a session, its contexts, its verdict and its recipients.
//!
//! The verdict is code and note (`set_code`); returning `VALIDATE_DONE` ends the phase and decides nothing by itself. The two
//! contexts are the ones that `msg:context_get` and its kin see during reception.

use super::message::{check_context_size, context_kind, context_value, parse_mailbox};
use crate::objects::{ContextKind, Recipient, SessionState};
use crate::registry::{
    ApiError, Arg, Args, Call, Ctx, FUNCTION, Function, Phase, Phases, Ret, Table, Type, omissible, optional, param,
    returns,
};
use bytes::Bytes;
use mlua::Value;
use ph_message::{DsnRequest, Mailbox};

pub static TABLE: Table = Table {
    name: "validation",
    package: "msys.core",
    functions: &[
        &ADD_RECIPIENT,
        &DISCONNECT,
        &GET,
        &RECIPIENT_LIST,
        &REMOVE_RECIPIENT,
        &SET,
        &SET_CODE,
        &TARPIT,
        &EXISTS,
        &EXISTS_AND_GET,
        &DELETE,
        &CODE,
        &NOTE,
        &DISCONNECT_MARK,
        &PBP_ACTION,
        &PBP_DISCONNECT,
        &CAN_MODIFY,
    ],
};

/// A recipient list never grows beyond this.
const RECIPIENTS_MAX: usize = 10_000;
/// `tarpit` adds up to at most this per phase.
const TARPIT_MAX_S: f64 = 600.0;

const LIST_PHASES: Phases = Phases::new(
    "data, data_spool, data_spool_each_rcpt, rcptto",
    &[Phase::Rcptto, Phase::Data, Phase::DataSpool, Phase::EachRcpt],
)
.works_anywhere();

const KIND: crate::registry::Param = param("type", Type::Integer, "`msys.core.VCTX_CONN` or `msys.core.VCTX_MESS`");
const KEY: crate::registry::Param = param("key", Type::String, "the key, case-sensitive");

static ADD_RECIPIENT: Function = Function {
    name: "vctx:add_recipient",
    package: "msys.extended.vctx",
    since: "3.1",
    phases: LIST_PHASES,
    params: &[param("address", Type::Strings, "one address or an array of them, bare or in angle brackets")],
    doc: "Adds to the recipients of the transaction; one that is in the list is not added again. Added ones skip \
          `validate_rcptto` and the relay check.",
    page: "4/lua/ref-vctx-add-recipient.md",
    raises: "when one is no address, once the list is final, and beyond what it may hold",
    example: r#"vctx:add_recipient("archive@example.com")"#,
    call: Call::Sync(add_recipient),
    ..FUNCTION
};

static DISCONNECT: Function = Function {
    name: "vctx:disconnect",
    since: "3.1",
    params: &[
        optional("code", Type::Integer, "the code of the reply; 421 where it is left out"),
        optional("message", Type::String, "its text"),
    ],
    doc: "Sets the verdict, and closes the session once the reply of this phase has been sent.",
    page: "4/lua/ref-vctx-disconnect.md",
    raises: "when `code` is no code of a verdict",
    example: r#"vctx:disconnect(421, "come back later")"#,
    call: Call::Sync(disconnect),
    ..FUNCTION
};

static GET: Function = Function {
    name: "vctx:get",
    since: "3.5",
    params: &[KIND, KEY],
    returns: &[returns("string", "the value, or the empty string when there is no such key")],
    doc: "Reads from the context of the connection or of the message.",
    page: "4/lua/ref-vctx-get.md",
    raises: "when `type` is neither `VCTX_CONN` nor `VCTX_MESS`",
    example: r#"if vctx:get(msys.core.VCTX_CONN, "trusted") == "1" then return msys.core.VALIDATE_CONT end"#,
    call: Call::Sync(get),
    ..FUNCTION
};

static RECIPIENT_LIST: Function = Function {
    name: "vctx:recipient_list",
    package: "msys.extended.vctx",
    since: "3.1",
    phases: LIST_PHASES.unlabelled(),
    params: &[optional("addresses", Type::Strings, "the new list")],
    returns: &[returns("string[]", "the bare addresses, in order of acceptance")],
    doc: "The recipients of the transaction; with an argument, replaces them first.",
    page: "4/lua/ref-vctx-recipient-list.md",
    raises: "when it replaces: for what is no address, once the list is final, and beyond what it may hold",
    example: "for _, address in ipairs(vctx:recipient_list()) do print(address) end",
    call: Call::Sync(recipient_list),
    ..FUNCTION
};

static REMOVE_RECIPIENT: Function = Function {
    name: "vctx:remove_recipient",
    package: "msys.extended.vctx",
    since: "3.1",
    phases: Phases::new(
        "data, data_spool, data_spool_each_rcpt, mailfrom, rcptto",
        &[Phase::Mailfrom, Phase::Rcptto, Phase::Data, Phase::DataSpool, Phase::EachRcpt],
    )
    .works_anywhere(),
    params: &[param("address", Type::Strings, "one address or an array of them")],
    doc: "Removes recipients of the transaction. The client was told that they are accepted; no report is made.",
    page: "4/lua/ref-vctx-remove-recipient.md",
    raises: "once the list is final",
    example: r#"vctx:remove_recipient("nobody@example.com")"#,
    call: Call::Sync(remove_recipient),
    ..FUNCTION
};

static SET: Function = Function {
    name: "vctx:set",
    since: "3.5",
    params: &[KIND, KEY, param("value", Type::Scalar, "nil changes nothing and is logged")],
    doc: "Writes to the context of the connection or of the message.",
    page: "4/lua/ref-vctx-set.md",
    raises: "when `type` is neither `VCTX_CONN` nor `VCTX_MESS`, and when key, value or context would be too large",
    example: r#"vctx:set(msys.core.VCTX_CONN, "trusted", "1")"#,
    call: Call::Sync(set),
    ..FUNCTION
};

static SET_CODE: Function = Function {
    name: "vctx:set_code",
    since: "3.1",
    params: &[
        param("codenum", Type::Integer, "200 to 599, but 334 and 354"),
        omissible("message", Type::String, "the text of the reply; several lines make a multi-line reply"),
    ],
    doc: "Sets the verdict of the phase. The last call counts; 2xx takes an earlier refusal back. Later hooks still run: return \
          `msys.core.VALIDATE_DONE` to stop them.",
    page: "4/lua/ref-vctx-set-code.md",
    raises: "when `codenum` is no code of a verdict",
    example: r#"
        vctx:set_code(550, "5.7.1 not from here")
        return msys.core.VALIDATE_DONE
    "#,
    call: Call::Sync(set_code),
    ..FUNCTION
};

static TARPIT: Function = Function {
    name: "vctx:tarpit",
    package: "msys.extended.vctx",
    since: "3.1",
    phases: Phases::new("connect", &[Phase::Connect]).works_anywhere(),
    params: &[param("interval", Type::Number, "seconds; fractions are allowed")],
    doc: "Delays the reply of this phase. Several calls add up; the policy itself goes on at once.",
    page: "4/lua/ref-vctx-tarpit.md",
    example: "vctx:tarpit(0.01)",
    call: Call::Sync(tarpit),
    ..FUNCTION
};

static EXISTS: Function = Function {
    name: "vctx:exists",
    params: &[KIND, KEY],
    returns: &[returns("integer", "1 or 0")],
    doc: "Whether the context has the key.",
    raises: "when `type` is neither `VCTX_CONN` nor `VCTX_MESS`",
    example: r#"if vctx:exists(msys.core.VCTX_MESS, "score") == 1 then print("scored") end"#,
    call: Call::Sync(|_, args| {
        let session = args.session()?;
        let state = session.state.lock();
        Ok(Ret::flag(context(&state, args)?.get(&args.text(1)?).is_some()))
    }),
    ..FUNCTION
};

static EXISTS_AND_GET: Function = Function {
    name: "vctx:exists_and_get",
    params: &[KIND, KEY],
    returns: &[returns("integer", "1 or 0"), returns("string|nil", "the value")],
    doc: "`exists` and `get` in one.",
    raises: "when `type` is neither `VCTX_CONN` nor `VCTX_MESS`",
    example: r#"local there, score = vctx:exists_and_get(msys.core.VCTX_MESS, "score")"#,
    call: Call::Sync(|ctx, args| {
        let session = args.session()?;
        let value = context(&session.state.lock(), args)?.get(&args.text(1)?).cloned();
        match value {
            Some(value) => Ok(Ret::Two(Value::Integer(1), ctx.bytes(&value)?)),
            None => Ok(Ret::Two(Value::Integer(0), Value::Nil)),
        }
    }),
    ..FUNCTION
};

static DELETE: Function = Function {
    name: "vctx:delete",
    params: &[KIND, KEY],
    returns: &[returns("integer", "1 when there was such a key, else 0")],
    doc: "Removes a key.",
    raises: "when `type` is neither `VCTX_CONN` nor `VCTX_MESS`",
    example: r#"vctx:delete(msys.core.VCTX_MESS, "score")"#,
    call: Call::Sync(|_, args| {
        let session = args.session()?;
        let mut state = session.state.lock();
        let key = args.text(1)?;
        Ok(Ret::flag(context_mut(&mut state, args)?.remove(&key)))
    }),
    ..FUNCTION
};

static CODE: Function = Function {
    name: "vctx.code",
    returns: &[returns("integer", "the code of the verdict")],
    doc: "The code of the verdict as it stands; assigning keeps the note.",
    raises: "when it is set to what is no code of a verdict",
    example: r#"if vctx.code >= 500 then print("refused already") end"#,
    call: Call::Field {
        get: |_, args| Ok(Ret::integer(i64::from(args.session()?.state.lock().verdict.code))),
        set: Some(|_, args| {
            let code = valid_code(args, 0)?;
            args.session()?.state.lock().verdict.code = code;
            Ok(Ret::None)
        }),
    },
    ..FUNCTION
};

static NOTE: Function = Function {
    name: "vctx.note",
    returns: &[returns("string|nil", "nil when no hook has set one")],
    doc: "The text of the verdict.",
    example: r#"
        vctx:set_code(550, "no")
        print(vctx.note)
    "#,
    call: Call::Field {
        get: |_, args| match &args.session()?.state.lock().verdict.note {
            Some(note) => Ok(Ret::Bytes(note.clone())),
            None => Ok(Ret::NIL),
        },
        set: None,
    },
    ..FUNCTION
};

/// Reading `vctx.disconnect` gives the method (methods come first); only the assignment is a field.
static DISCONNECT_MARK: Function = Function {
    name: "vctx.disconnect",
    returns: &[returns("integer", "1 or 0")],
    doc: "Assigning 1 marks the session for closing after the reply of this phase, 0 takes the mark off.",
    raises: "when it is set to no number",
    example: "vctx.disconnect = 1",
    call: Call::Field {
        get: |_, args| Ok(Ret::flag(args.session()?.state.lock().verdict.disconnect)),
        set: Some(|_, args| {
            let mark = match args.arg(0) {
                Arg::Boolean(mark) => *mark,
                other => other.as_number().ok_or_else(|| args.bad(0, "number expected"))? != 0.0,
            };
            args.session()?.state.lock().verdict.disconnect = mark;
            Ok(Ret::None)
        }),
    },
    ..FUNCTION
};

static PBP_ACTION: Function = Function {
    name: "vctx:pbp_action",
    params: &[param("code", Type::Integer, "as in `set_code`"), optional("message", Type::String, "its text")],
    returns: &[returns("integer", "`msys.core.VALIDATE_DONE`")],
    doc: "`set_code`, for `return vctx:pbp_action(...)`.",
    raises: "when `code` is no code of a verdict",
    example: r#"return vctx:pbp_action(550, "5.7.1 not from here")"#,
    call: Call::Sync(|ctx, args| set_code(ctx, args).map(|_| Ret::integer(1))),
    ..FUNCTION
};

static PBP_DISCONNECT: Function = Function {
    name: "vctx:pbp_disconnect",
    params: &[optional("code", Type::Integer, "as in `disconnect`"), optional("message", Type::String, "its text")],
    returns: &[returns("integer", "`msys.core.VALIDATE_DONE`")],
    doc: "`disconnect`, for `return vctx:pbp_disconnect(...)`.",
    raises: "when `code` is no code of a verdict",
    example: r#"return vctx:pbp_disconnect(421, "come back later")"#,
    call: Call::Sync(|ctx, args| disconnect(ctx, args).map(|_| Ret::integer(1))),
    ..FUNCTION
};

static CAN_MODIFY: Function = Function {
    name: "vctx:can_modify_rcpts",
    returns: &[returns("integer", "1 or 0")],
    doc: "Whether the recipient list may be changed in this hook.",
    example: r#"if vctx:can_modify_rcpts() == 1 then vctx:add_recipient("archive@example.com") end"#,
    call: Call::Sync(|ctx, _| Ok(Ret::flag(matches!(ctx.phase(), Phase::Rcptto | Phase::Data | Phase::DataSpool)))),
    ..FUNCTION
};

fn context<'s>(state: &'s SessionState, args: &Args) -> Result<&'s ph_message::Context, ApiError> {
    Ok(if context_kind(args, 0)? == ContextKind::Mess { &state.mess } else { &state.conn })
}

fn context_mut<'s>(state: &'s mut SessionState, args: &Args) -> Result<&'s mut ph_message::Context, ApiError> {
    Ok(if context_kind(args, 0)? == ContextKind::Mess { &mut state.mess } else { &mut state.conn })
}

fn get(_: &Ctx<'_>, args: &Args) -> Result<Ret, ApiError> {
    let session = args.session()?;
    let key = args.text(1)?;
    let value = context(&session.state.lock(), args)?.get(&key).cloned();
    Ok(Ret::Bytes(value.unwrap_or_default()))
}

fn set(ctx: &Ctx<'_>, args: &Args) -> Result<Ret, ApiError> {
    let session = args.session()?;
    let key = args.text(1)?;
    let Some(value) = context_value(ctx, args, 2)? else { return Ok(Ret::None) };
    let mut state = session.state.lock();
    let context = context_mut(&mut state, args)?;
    check_context_size(ctx, context, &key, &value)?;
    context.set(&key, value);
    Ok(Ret::None)
}

fn valid_code(args: &Args, at: usize) -> Result<u16, ApiError> {
    match args.integer(at)? {
        code @ (334 | 354) => Err(args.bad(at, format!("{code} belongs to the protocol"))),
        code @ 200..=599 => Ok(code as u16),
        code => Err(args.bad(at, format!("code {code} is outside of 200..599"))),
    }
}

fn set_code(_: &Ctx<'_>, args: &Args) -> Result<Ret, ApiError> {
    let session = args.session()?;
    let code = valid_code(args, 0)?;
    let note = note(args, 1)?;
    let mut state = session.state.lock();
    (state.verdict.code, state.verdict.note) = (code, note);
    Ok(Ret::None)
}

/// The text of a verdict; empty counts as none.
fn note(args: &Args, at: usize) -> Result<Option<Bytes>, ApiError> {
    if args.is_nil(at) {
        return Ok(None);
    }
    Ok(Some(args.bytes(at)?.into_owned()).filter(|note| !note.is_empty()).map(Bytes::from))
}

fn disconnect(_: &Ctx<'_>, args: &Args) -> Result<Ret, ApiError> {
    let session = args.session()?;
    let code = if args.is_nil(0) { 421 } else { valid_code(args, 0)? };
    let note = note(args, 1)?
        .unwrap_or_else(|| Bytes::from_static(b"4.3.2 Service not available, closing transmission channel"));
    session.state.lock().verdict = crate::objects::Verdict { code, note: Some(note), disconnect: true };
    Ok(Ret::None)
}

fn tarpit(_: &Ctx<'_>, args: &Args) -> Result<Ret, ApiError> {
    let session = args.session()?;
    let seconds = args.number(0)?;
    if seconds > 0.0 {
        let mut state = session.state.lock();
        state.tarpit_s = (state.tarpit_s + seconds).min(TARPIT_MAX_S);
    }
    Ok(Ret::None)
}

/// The addresses of an argument; one bad address fails them all.
fn mailboxes(args: &Args, at: usize) -> Result<Vec<Mailbox>, ApiError> {
    let parse = |text: Vec<u8>| {
        let text = String::from_utf8(text).map_err(|_| args.bad(at, "an address is UTF-8 text"))?;
        let mailbox = parse_mailbox(&text).filter(|mailbox| !mailbox.is_null());
        mailbox.ok_or_else(|| args.bad(at, format!("'{text}' is no address")))
    };
    args.strings(at)?.into_iter().map(parse).collect()
}

fn append(list: &mut Vec<Recipient>, mailboxes: Vec<Mailbox>) -> bool {
    for mailbox in mailboxes {
        // Domains are kept in lower case, so that this compares them without case and local parts exactly.
        if !list.iter().any(|recipient| recipient.mailbox == mailbox) {
            list.push(Recipient { mailbox, dsn: DsnRequest::default() });
        }
    }
    list.len() <= RECIPIENTS_MAX
}

fn list_is_final(ctx: &Ctx<'_>) -> ApiError {
    ctx.raise("recipient list is final")
}

fn add_recipient(ctx: &Ctx<'_>, args: &Args) -> Result<Ret, ApiError> {
    let session = args.session()?;
    let changeable = matches!(ctx.phase(), Phase::Rcptto | Phase::Data | Phase::DataSpool | Phase::EachRcpt);
    if !changeable {
        return Err(list_is_final(ctx));
    }
    let added = mailboxes(args, 0)?;
    let mut state = session.state.lock();
    let mut list = state.recipients.clone();
    if !append(&mut list, added) {
        return Err(ctx.raise(format_args!("more than {RECIPIENTS_MAX} recipients")));
    }
    state.recipients = list;
    Ok(Ret::None)
}

fn remove_recipient(ctx: &Ctx<'_>, args: &Args) -> Result<Ret, ApiError> {
    let session = args.session()?;
    let removed = mailboxes(args, 0)?;
    match ctx.phase() {
        Phase::Mailfrom => {}
        Phase::Rcptto | Phase::Data | Phase::DataSpool => {
            let mut state = session.state.lock();
            state.recipients.retain(|recipient| !removed.contains(&recipient.mailbox));
        }
        _ => return Err(list_is_final(ctx)),
    }
    Ok(Ret::None)
}

fn recipient_list(ctx: &Ctx<'_>, args: &Args) -> Result<Ret, ApiError> {
    let session = args.session()?;
    if !args.is_nil(0) {
        let in_rcptto_hook = ctx.host.frame().is_some_and(|f| f.hook == Some(crate::hooks::Hook::ValidateRcptto));
        if in_rcptto_hook || !matches!(ctx.phase(), Phase::Rcptto | Phase::Data | Phase::DataSpool) {
            return Err(list_is_final(ctx));
        }
        let wanted = mailboxes(args, 0)?;
        let mut state = session.state.lock();
        // One that stays keeps the DSN parameters that its client gave.
        let known = std::mem::take(&mut state.recipients);
        let mut list = Vec::new();
        let fits = append(&mut list, wanted);
        for recipient in &mut list {
            if let Some(old) = known.iter().find(|old| old.mailbox == recipient.mailbox) {
                recipient.dsn = old.dsn.clone();
            }
        }
        state.recipients = if fits { list } else { known };
        if !fits {
            return Err(ctx.raise(format_args!("more than {RECIPIENTS_MAX} recipients")));
        }
    }
    let addresses: Vec<String> =
        session.state.lock().recipients.iter().map(|recipient| recipient.mailbox.to_string()).collect();
    ctx.strings(addresses)
}
