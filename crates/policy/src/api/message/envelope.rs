//! The envelope: ids, addresses, status, fate.

use super::{READERS, READERS_WITH_RCPTTO, RECEPTION, parse_mailbox};
use crate::objects::{ContextKind, Message};
use crate::registry::{
    ApiError, Args, Call, Ctx, FUNCTION, Function, Phase, Phases, Ret, Type, omissible, optional, param, returns,
};
use crate::userdata::{EcString, Text, address_text};
use mlua::Value;
use ph_message::{Mailbox, Protocol};
use std::net::SocketAddr;

pub static BATCH_ID: Function = Function {
    name: "msg.batch_id",
    since: "3.1",
    phases: READERS,
    returns: &[returns("id", "shared by all messages of one reception")],
    doc: "The id of the reception that the message came from.",
    page: "4/lua/ref-msg-batch-id.md",
    example: "local of_reception = tostring(msg.batch_id)",
    call: Call::Field { get: |ctx, args| id(ctx, args.message()?.state.lock().envelope.batch_id), set: None },
    ..FUNCTION
};

pub static CONN_ID: Function = Function {
    name: "msg.conn_id",
    since: "3.1",
    phases: READERS,
    returns: &[returns("id", "all zeros for internal mail")],
    doc: "The id of the session that the message came in on.",
    page: "4/lua/ref-msg-conn-id.md",
    example: r#"msg:header("X-Session", tostring(msg.conn_id))"#,
    call: Call::Field { get: |ctx, args| id(ctx, args.message()?.state.lock().envelope.conn_id), set: None },
    ..FUNCTION
};

pub static ID: Function = Function {
    name: "msg.id",
    since: "3.1",
    phases: READERS,
    returns: &[returns("id", "what the logs and the console show")],
    doc: "The id of the message.",
    page: "4/lua/ref-msg-id.md",
    example: r#"msys.core.log(msys.core.LOG_INFO, "message " .. tostring(msg.id))"#,
    call: Call::Field { get: |ctx, args| id(ctx, args.message()?.state.lock().envelope.id), set: None },
    ..FUNCTION
};

pub static RECV_METHOD: Function = Function {
    name: "msg.recv_method",
    returns: &[returns("integer", "`msys.core.P_ESMTP`, `P_INTERNAL`, `P_ECSTREAM`, `P_REST` ...")],
    doc: "How the message came in. Policies that make mail out of mail guard against loops with it.",
    example: r#"if msg.recv_method ~= msys.core.P_INTERNAL then msg:copy():inject("", "archive@example.com") end"#,
    call: Call::Field {
        get: |_, args| Ok(Ret::integer(args.message()?.state.lock().envelope.protocol as i64)),
        set: None,
    },
    ..FUNCTION
};

pub static CREATION_TIME: Function = Function {
    name: "msg.creation_time",
    returns: &[returns("table", "`tv_sec`, `tv_usec`")],
    doc: "When the message came in.",
    example: "local age = msys.core.get_now_ts() - msg.creation_time.tv_sec",
    call: Call::Field {
        get: |ctx, args| {
            let created = args.message()?.state.lock().envelope.created;
            Ok(Ret::One(Value::Table(crate::call::timeval(&ctx.lua, created)?)))
        },
        set: None,
    },
    ..FUNCTION
};

pub static PRIORITY: Function = Function {
    name: "msg.priority",
    phases: READERS,
    returns: &[returns(
        "integer",
        "0, or 1 for mail that is first out of its queue; may be assigned until it is queued",
    )],
    doc: "Whether the message goes before others of its queue.",
    raises: "when it is set to another value than 0 or 1, or once the message is queued",
    example: r#"if msg:header("X-Urgent")[1] then msg.priority = 1 end"#,
    call: Call::Field {
        get: |_, args| Ok(Ret::flag(args.message()?.state.lock().envelope.urgent)),
        set: Some(set_priority),
    },
    ..FUNCTION
};

pub static DELIVERED: Function = Function {
    name: "msg.delivered",
    phases: READERS,
    returns: &[returns("integer", "`msys.core.EM_TRYING`, `EM_SUCCEEDED` or `EM_FAILED`; may be assigned")],
    doc: "What has become of the message, in the words of a hook of `core_ec_message_enqueue` that takes it over.",
    raises: "when it is set to another value than these three",
    example: r#"if msg:rcptto() == "null@example.com" then msg.delivered = msys.core.EM_SUCCEEDED end"#,
    call: Call::Field {
        get: |_, args| Ok(Ret::integer(i64::from(args.message()?.state.lock().delivered))),
        set: Some(|_, args| {
            let value = args.integer(0)?;
            let wrong = || args.bad(0, format!("EM_TRYING, EM_SUCCEEDED or EM_FAILED expected, got {value}"));
            let value = u8::try_from(value).ok().filter(|value| *value <= 2).ok_or_else(wrong)?;
            args.message()?.state.lock().delivered = value;
            Ok(Ret::None)
        }),
    },
    ..FUNCTION
};

pub static CODE: Function = Function {
    name: "msg:code",
    since: "3.0",
    phases: RECEPTION,
    params: &[
        optional("number", Type::Integer, "the code; 0: the one that the text begins with"),
        optional("string", Type::String, "the text, of one line or several"),
    ],
    returns: &[
        returns("string|nil", "the status text, `421 Too much spam`; nil when there is none"),
        returns("string|nil", "why not"),
    ],
    doc: "Reads or sets the delivery status text of the message: what logs and reports show. It is not the verdict of a reception.",
    page: "4/lua/ref-msg-code.md",
    raises: "when the status is to be set and cannot be",
    example: r#"msg:code(550, "refused by policy")"#,
    call: Call::Sync(code),
    ..FUNCTION
};

pub static GET_CODE: Function = Function {
    name: "msg:get_code",
    returns: &[returns("string|nil", "the status text")],
    doc: "`msg:code()`.",
    example: "local status = msg:get_code()",
    call: Call::Sync(|ctx, args| status_text(ctx, &*args.message()?)),
    ..FUNCTION
};

pub static SET_STATUS: Function = Function {
    name: "msg:set_code",
    params: CODE.params,
    returns: CODE.returns,
    doc: "`msg:code(number, string)`.",
    raises: "when the status is to be set and cannot be",
    example: r#"msg:set_code(550, "refused by policy")"#,
    call: Call::Sync(code),
    ..FUNCTION
};

pub static DISCARD: Function = Function {
    name: "msg:discard",
    since: "3.0",
    phases: Phases::new("data, data_spool, data_spool_each_rcpt", &[Phase::Data, Phase::DataSpool, Phase::EachRcpt])
        .also(&[Phase::Rcptto, Phase::Queue]),
    params: &[optional(
        "reason",
        Type::String,
        "for the log; where it has no SMTP code it is replaced by the default text",
    )],
    doc: "Accepts the message and throws it away: the client gets 250, nothing is queued, no report is made.",
    page: "4/lua/ref-msg-discard.md",
    example: r#"if msg:body_match("lottery") then msg:discard("spam") end"#,
    call: Call::Sync(|_, args| {
        let message = args.message()?;
        let reason = discard_reason(args.optional_text(0)?.map(|text| text.into_owned()));
        let mut state = message.state.lock();
        state.discarded = Some(reason);
        state.edited = true;
        Ok(Ret::None)
    }),
    ..FUNCTION
};

pub static ENVELOPE: Function = Function {
    name: "msg:get_envelope2",
    since: "3.0.9",
    phases: READERS,
    params: &[
        param(
            "flags",
            Type::Integer,
            "`EC_MSG_ENV_FROM` or `EC_MSG_ENV_TO`, with `| EC_MSG_ENV_COMPLETE` for the whole address",
        ),
        omissible("localpart_str", Type::EcString, "receives the local part, or the whole address"),
        omissible("domain_str", Type::EcString, "receives the domain"),
    ],
    returns: &[returns("integer", "1, or 0 when the address is not set"), returns("integer", "1 for the null sender")],
    doc: "Takes an address of the envelope apart.",
    page: "4/lua/ref-msg-get-envelope-2.md",
    raises: "when `flags` names neither or both of sender and recipient",
    example: r#"
        local user, domain = msys.core.string_new(), msys.core.string_new()
        msg:get_envelope2(msys.core.EC_MSG_ENV_FROM, user, domain)
        msg:header("X-Sender-Domain", tostring(domain))
    "#,
    call: Call::Sync(envelope),
    ..FUNCTION
};

pub static LISTENER_ADDR: Function = Function {
    name: "msg:listener_addr",
    since: "3.1",
    phases: RECEPTION,
    params: &[optional("flag", Type::String, "`all` (the default), `ip` or `port`")],
    returns: &[returns("string|nil", "`10.1.2.3:25`, `::1.25` for IPv6; nil for internal mail")],
    doc: "Our address of the connection that the message came in on.",
    page: "4/lua/ref-msg-listener-addr.md",
    raises: "when `flag` is none of its values",
    example: r#"if msg:listener_addr("port") == "587" then msg:header("X-Submission", "yes") end"#,
    call: Call::Sync(|ctx, args| address(ctx, args, args.message()?.state.lock().envelope.listener)),
    ..FUNCTION
};

pub static RECEPTION_PEER: Function = Function {
    name: "msg:reception_peer",
    since: "3.1",
    phases: RECEPTION,
    params: &[optional("flag", Type::String, "`all` (the default), `ip` or `port`")],
    returns: &[returns("string|nil", "`10.1.2.3:2525`; nil for internal mail")],
    doc: "The client's address of the connection that the message came in on.",
    page: "4/lua/ref-msg-reception-peer.md",
    raises: "when `flag` is none of its values",
    example: r#"msg:header("X-Client", msg:reception_peer("ip"))"#,
    call: Call::Sync(|ctx, args| address(ctx, args, args.message()?.state.lock().envelope.peer)),
    ..FUNCTION
};

pub static MAILFROM: Function = Function {
    name: "msg:mailfrom",
    since: "3.0",
    phases: READERS_WITH_RCPTTO,
    params: &[optional("value", Type::String, "the new sender; empty for the null sender")],
    returns: &[returns("string|nil", "the bare address, empty for the null sender"), returns("string|nil", "why not")],
    doc: "Reads or changes the sender of the envelope.",
    page: "4/lua/ref-msg-mailfrom.md",
    raises: "when it changes the sender once that is fixed",
    example: r#"if msg:mailfrom() ~= "" then msg:mailfrom("bounces@example.com") end"#,
    call: Call::Sync(mailfrom),
    ..FUNCTION
};

pub static RCPTTO: Function = Function {
    name: "msg:rcptto",
    since: "3.0",
    phases: READERS_WITH_RCPTTO,
    params: &[optional("value", Type::String, "the new recipient")],
    returns: &[
        returns("string|nil", "the bare address; nil before there is a recipient"),
        returns("string|nil", "why not"),
    ],
    doc: "Reads or changes the recipient of the envelope. Changing is for messages that have one recipient of their own.",
    page: "4/lua/ref-msg-rcptto.md",
    raises: "when it changes the recipient of a message that has not one recipient of its own",
    example: r#"local user, domain = msg:rcptto():match("^(.*)@(.*)$")"#,
    call: Call::Sync(rcptto),
    ..FUNCTION
};

pub static GET_MAILFROM: Function = Function {
    name: "msg:get_mailfrom",
    returns: &[returns("string", "`MAIL FROM:<a@b>` with CRLF")],
    doc: "The sender as a command.",
    example: "local command = msg:get_mailfrom()",
    call: Call::Sync(|ctx, args| {
        let message = args.message()?;
        ctx.string(format!("MAIL FROM:<{}>\r\n", spelled(&message, true)).as_bytes())
    }),
    ..FUNCTION
};

pub static GET_RCPTTO: Function = Function {
    name: "msg:get_rcptto",
    returns: &[returns("string", "`RCPT TO:<a@b>` with CRLF")],
    doc: "The recipient as a command.",
    example: "local command = msg:get_rcptto()",
    call: Call::Sync(|ctx, args| {
        let message = args.message()?;
        ctx.string(format!("RCPT TO:<{}>\r\n", spelled(&message, false)).as_bytes())
    }),
    ..FUNCTION
};

pub static IS_MCMT: Function = Function {
    name: "msg:is_mcmt",
    returns: &[returns("integer", "always 0 here")],
    doc: "Whether the message is held with several recipients in one.",
    example: r#"if msg:is_mcmt() == 0 then msg:header("X-Single", "yes") end"#,
    call: Call::Sync(|_, _| Ok(Ret::flag(false))),
    ..FUNCTION
};

pub static PROTOCOL_STRING: Function = Function {
    name: "msys.core.protocol_string",
    params: &[param("number", Type::Integer, "such as `msg.recv_method`")],
    returns: &[returns("string|nil", "`esmtp`, `internal`, `rest` ...")],
    doc: "The name of a protocol number.",
    example: r#"msg:header("X-Came-By", msys.core.protocol_string(msg.recv_method))"#,
    call: Call::Sync(|ctx, args| {
        let name = match args.integer(0)? {
            1 => "internal",
            2 => "esmtp",
            3 => "ecstream",
            4 => "rest",
            5 => "mm7",
            6 => "smpp",
            _ => return Ok(Ret::NIL),
        };
        ctx.string(name.as_bytes())
    }),
    ..FUNCTION
};

fn set_priority(ctx: &Ctx<'_>, args: &Args) -> Result<Ret, ApiError> {
    let message = args.message()?;
    let value = args.number(0)?;
    if value != 0.0 && value != 1.0 {
        return Err(args.bad(0, "0 or 1 expected"));
    }
    if ctx.phase() == Phase::Queue && !args.is_own_message() {
        return Err(ctx.raise("the message is queued already"));
    }
    let mut state = message.state.lock();
    state.envelope.urgent = value == 1.0;
    state.edited = true;
    Ok(Ret::None)
}

fn id(ctx: &Ctx<'_>, id: ph_message::Id) -> Result<Ret, ApiError> {
    crate::api::accept::text(ctx, Text::id(id))
}

/// The status text: code and text, a reply of several lines with the code on each.
fn status_text(ctx: &Ctx<'_>, message: &Message) -> Result<Ret, ApiError> {
    match &message.state.lock().code {
        Some((code, text)) => ctx.string(reply_text(*code, text).as_bytes()),
        None => Ok(Ret::NIL),
    }
}

fn reply_text(code: u16, text: &str) -> String {
    let lines: Vec<&str> = text.split("\r\n").collect();
    let last = lines.len() - 1;
    let with_code = |(at, line): (usize, &&str)| format!("{code}{}{line}", if at == last { ' ' } else { '-' });
    lines.iter().enumerate().map(with_code).collect::<Vec<_>>().join("\r\n")
}

fn code(ctx: &Ctx<'_>, args: &Args) -> Result<Ret, ApiError> {
    let message = args.message()?;
    if args.is_nil(0) && args.is_nil(1) {
        return status_text(ctx, &message);
    }
    if ctx.phase() == Phase::SetBinding && !args.is_own_message() {
        return Err(ctx.raise("the status cannot be set in phase 'set_binding'"));
    }
    let number = if args.is_nil(0) { 0 } else { args.integer(0)? };
    let text = args.optional_text(1)?.unwrap_or_default();
    let code = if number == 0 { leading_code(&text) } else { u16::try_from(number).ok() };
    let Some(code) = code.filter(|code| (1..=999).contains(code)) else { return ctx.failure("invalid SMTP code") };
    // Lines are kept bare; the code is put before each when the text is read.
    let lines: Vec<&str> = text
        .split('\n')
        .map(|line| line.trim_end_matches('\r'))
        .map(|line| if leading_code(line) == Some(code) { line.get(4..).unwrap_or_default() } else { line })
        .collect();
    let mut lines = lines.as_slice();
    while let [rest @ .., ""] = lines {
        if rest.is_empty() {
            break;
        }
        lines = rest;
    }
    let mut state = message.state.lock();
    state.code = Some((code, lines.join("\r\n")));
    state.edited = true;
    drop(state);
    status_text(ctx, &message)
}

/// The code of `550 text`, `550-text` or `550`.
fn leading_code(text: &str) -> Option<u16> {
    let digits = text.get(..3).filter(|digits| digits.bytes().all(|b| b.is_ascii_digit()))?;
    matches!(text.as_bytes().get(3), None | Some(b' ' | b'-')).then(|| digits.parse().ok()).flatten()
}

fn discard_reason(reason: Option<String>) -> String {
    match reason {
        None => "550 5.7.0 discarded by policy".to_owned(),
        Some(text) => {
            let line = text.split(['\r', '\n']).next().unwrap_or_default();
            let has_code = leading_code(line).is_some() && line.as_bytes().get(3) != Some(&b'-');
            if has_code { line.to_owned() } else { "550 5.7.1 [internal] discarded by policy".to_owned() }
        }
    }
}

fn envelope(_: &Ctx<'_>, args: &Args) -> Result<Ret, ApiError> {
    const FROM: i64 = 1;
    const TO: i64 = 2;
    const COMPLETE: i64 = 4;
    let message = args.message()?;
    let flags = args.integer(0)?;
    let from = match flags & (FROM | TO) {
        FROM => true,
        TO => false,
        _ => return Err(args.bad(0, "one of EC_MSG_ENV_FROM and EC_MSG_ENV_TO expected")),
    };
    let mailbox = spelled(&message, from);
    if mailbox.is_null() && !from {
        return Ok(Ret::Two(Value::Integer(0), Value::Integer(0)));
    }
    let null = Value::Integer(i64::from(mailbox.is_null()));
    if flags & COMPLETE != 0 {
        fill(args, 1, mailbox.to_string().as_bytes())?;
    } else {
        fill(args, 1, mailbox.local.as_bytes())?;
        fill(args, 2, mailbox.domain.as_bytes())?;
    }
    Ok(Ret::Two(Value::Integer(1), null))
}

fn fill(args: &Args, at: usize, bytes: &[u8]) -> Result<(), ApiError> {
    if !args.is_nil(at) {
        args.userdata(at)?.borrow::<EcString>()?.set(bytes);
    }
    Ok(())
}

/// Sender or recipient as the client spelled it: envelopes keep domains in lower case, the context has the original.
fn spelled(message: &Message, sender: bool) -> Mailbox {
    let mut mailbox = {
        let state = message.state.lock();
        if sender { state.envelope.sender.clone() } else { state.envelope.recipient.clone() }
    };
    let key = if sender { "mailfrom_domain" } else { "rcptto_domain" };
    let original = message.context(ContextKind::Mess, |context| context.text(key).map(str::to_owned));
    if let Some(original) = original.filter(|original| original.eq_ignore_ascii_case(&mailbox.domain)) {
        mailbox.domain = original.into();
    }
    mailbox
}

fn address(ctx: &Ctx<'_>, args: &Args, address: Option<SocketAddr>) -> Result<Ret, ApiError> {
    let flag = args.optional_text(0)?;
    let part = flag.as_deref().unwrap_or("all");
    if !["all", "ip", "port"].contains(&part) {
        return Err(args.bad(0, format!("all, ip or port expected, got '{part}'")));
    }
    let Some(address) = address else { return Ok(Ret::NIL) };
    let text = match part {
        "ip" => address.ip().to_canonical().to_string(),
        "port" => address.port().to_string(),
        _ => address_text(address),
    };
    ctx.string(text.as_bytes())
}

/// Writes the context variables of an address that a policy changed.
fn update_context(message: &Message, which: &str, command: &str, mailbox: &Mailbox) {
    message.context_mut(ContextKind::Mess, |context| {
        context.set(&format!("{which}_string"), format!("{command}:<{mailbox}>").into_bytes());
        context.set(&format!("{which}_localpart"), mailbox.local.as_bytes().to_vec());
        context.set(&format!("{which}_domain"), mailbox.domain.as_bytes().to_vec());
    });
}

fn mailfrom(ctx: &Ctx<'_>, args: &Args) -> Result<Ret, ApiError> {
    let message = args.message()?;
    if let Some(value) = args.optional_text(0)? {
        if matches!(ctx.phase(), Phase::SetBinding | Phase::Queue) && !args.is_own_message() {
            return Err(ctx.raise(format_args!("the sender is fixed in phase '{}'", ctx.phase().name())));
        }
        let Some(mailbox) = parse_mailbox(&value) else { return ctx.failure(&format!("'{value}' is no address")) };
        {
            let mut state = message.state.lock();
            state.envelope.sender = mailbox.clone();
            state.edited = true;
        }
        update_context(&message, "mailfrom", "MAIL FROM", &mailbox);
    }
    ctx.string(spelled(&message, true).to_string().as_bytes())
}

fn rcptto(ctx: &Ctx<'_>, args: &Args) -> Result<Ret, ApiError> {
    let message = args.message()?;
    if let Some(value) = args.optional_text(0)? {
        if ctx.phase() != Phase::EachRcpt && !args.is_own_message() {
            return Err(ctx.raise(format_args!("the recipient cannot be changed in phase '{}'", ctx.phase().name())));
        }
        let mailbox = parse_mailbox(&value).filter(|mailbox| !mailbox.is_null());
        let Some(mailbox) = mailbox else { return ctx.failure(&format!("'{value}' is no address")) };
        {
            let mut state = message.state.lock();
            state.envelope.recipient = mailbox.clone();
            state.edited = true;
        }
        update_context(&message, "rcptto", "RCPT TO", &mailbox);
    }
    let mailbox = spelled(&message, false);
    if mailbox.is_null() { Ok(Ret::NIL) } else { ctx.string(mailbox.to_string().as_bytes()) }
}

// The numbers of `recv_method` are those of the envelope's protocol.
const _: () = assert!(Protocol::Internal as u8 == 1 && Protocol::Esmtp as u8 == 2 && Protocol::Smpp as u8 == 6);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reason_of_a_discard_has_a_code() {
        for (reason, want) in [
            (None, "550 5.7.0 discarded by policy"),
            (Some("QA: x"), "550 5.7.1 [internal] discarded by policy"),
            (Some("550 Bounce message processed"), "550 Bounce message processed"),
            (Some("550"), "550"),
            (Some("5500 x"), "550 5.7.1 [internal] discarded by policy"),
        ] {
            assert_eq!(discard_reason(reason.map(str::to_owned)), want);
        }
    }
}
