//! `ac`: the accepted connection.
//!
//! Edits of the capability list are kept in the order they were made; reception applies them to every EHLO reply of the session.
//! Adding the name of an extension only advertises it: no protocol feature is switched on that the listener has off.

use crate::objects::CapabilityEdit;
use crate::registry::{
    ApiError, Args, Call, Ctx, FUNCTION, Function, Phase, Phases, Ret, Table, Type, optional, param, returns,
};
use crate::userdata::{Construct, Text};
use ipnet::IpNet;
use mlua::Value;
use std::net::IpAddr;
use std::sync::Arc;

pub static TABLE: Table = Table {
    name: "accept",
    package: "msys.extended.ac",
    functions: &[
        &CAPABILITY_ADD,
        &CAPABILITY_REMOVE,
        &SESSION_COUNT,
        &PBP_SESSION_COUNT,
        &REMOTE_ADDR,
        &LOCAL_ADDR,
        &CONN_ID,
        &PROTOCOL,
        &MESSAGE_CONSTRUCT,
        &SOCKADDR_FAMILY,
        &CONSTRUCT_MESSAGE,
        &CONSTRUCT_CONTEXT,
    ],
};

const EHLO_PHASES: Phases = Phases::new("connect, ehlo", &[Phase::Connect, Phase::Ehlo]).works_anywhere();

/// How many edits of the capability list one session may make.
const CAPABILITY_EDITS_MAX: usize = 200;

static CAPABILITY_ADD: Function = Function {
    name: "ac:esmtp_capability_add",
    since: "3.1",
    phases: EHLO_PHASES,
    params: &[param("name", Type::String, "one line of the EHLO reply, such as `XFOO 1`; the first word is its key")],
    doc: "Adds a line to the capability list of this session, replacing a line with the same key. It shows in the EHLO replies \
          that follow, the one of a running `validate_ehlo` included.",
    page: "4/lua/ref-ac-esmtp-capability-add.md",
    raises: "when the name is no line of visible characters, in a session that speaks no SMTP, and beyond 200 edits in one session",
    example: r#"ac:esmtp_capability_add("XCLIENT NAME ADDR")"#,
    call: Call::Sync(capability_add),
    ..FUNCTION
};

static CAPABILITY_REMOVE: Function = Function {
    name: "ac:esmtp_capability_remove",
    since: "3.1",
    phases: EHLO_PHASES,
    params: &[param("name", Type::String, "the capability; only its first word counts")],
    doc: "Removes every line with that key from the capability list of this session. The commands of a built-in extension are \
          then refused.",
    page: "4/lua/ref-ac-esmtp-capability-remove.md",
    raises: "when the name is no line of visible characters, in a session that speaks no SMTP, and beyond 200 edits in one session",
    example: r#"ac:esmtp_capability_remove("SMTPUTF8")"#,
    call: Call::Sync(capability_remove),
    ..FUNCTION
};

static SESSION_COUNT: Function = Function {
    name: "ac:inbound_session_count",
    since: "3.1",
    params: &[
        optional("cidr", Type::String, "`a.b.c.d/n`, an address, `/n` (the peer's network) or nothing (the peer)"),
        optional("service_type", Type::String, "`SMTP` (the default), `Control`, `ECStream`, `HTTP` ..., in any case"),
    ],
    returns: &[returns("integer", "the sessions that are open now, this one included")],
    doc: "Counts the open sessions from a network to a service.",
    page: "4/lua/ref-ac-inbound-session-count.md",
    raises: "when `cidr` is no network",
    example: r#"
        if ac:inbound_session_count("/24") > 50 then
          vctx:set_code(421, "too many sessions from your network")
        end
    "#,
    call: Call::Sync(|ctx, args| session_count(ctx, args, 0, 1)),
    ..FUNCTION
};

static PBP_SESSION_COUNT: Function = Function {
    name: "ac:pbp_inbound_session_count_service",
    params: &[
        optional("service", Type::String, "the service"),
        optional("mask", Type::String, "the network, as in `inbound_session_count`"),
    ],
    returns: &[returns("integer", "the sessions that are open now")],
    doc: "`inbound_session_count(mask, service)`.",
    raises: "when `mask` is no network",
    example: r#"local of_client = ac:pbp_inbound_session_count_service("SMTP", "/32")"#,
    call: Call::Sync(|ctx, args| session_count(ctx, args, 1, 0)),
    ..FUNCTION
};

static REMOTE_ADDR: Function = Function {
    name: "ac.remote_addr",
    returns: &[returns("sockaddr", "`1.2.3.4:2525`, and `2001:db8::1.2525` for IPv6")],
    doc: "The client's address and port, after PROXY or XCLIENT.",
    example: r#"local address, port = tostring(ac.remote_addr):match("^(.+)[:.](%d+)$")"#,
    call: Call::Field { get: |ctx, args| address(ctx, args.session()?.state.lock().remote), set: None },
    ..FUNCTION
};

static LOCAL_ADDR: Function = Function {
    name: "ac.local_addr",
    returns: &[returns("sockaddr", "in the form of `remote_addr`")],
    doc: "Our address and port of this connection.",
    example: r#"
        if tostring(ac.local_addr):match(":587$") then vctx:set(msys.core.VCTX_CONN, "submission", "1") end
    "#,
    call: Call::Field { get: |ctx, args| address(ctx, args.session()?.state.lock().local), set: None },
    ..FUNCTION
};

static CONN_ID: Function = Function {
    name: "ac.conn_id",
    returns: &[returns("id", "`tostring` gives `18/00-07149-D7E16B94`")],
    doc: "The id of this session.",
    example: r#"msys.core.log(msys.core.LOG_INFO, "session " .. tostring(ac.conn_id))"#,
    call: Call::Field { get: |ctx, args| text(ctx, Text::id(args.session()?.conn_id)), set: None },
    ..FUNCTION
};

static PROTOCOL: Function = Function {
    name: "ac.protocol",
    returns: &[returns("integer", "`msys.core.P_ESMTP` on an SMTP listener")],
    doc: "The protocol of the listener.",
    example: r#"if ac.protocol == msys.core.P_ESMTP then vctx:set(msys.core.VCTX_CONN, "by_smtp", "1") end"#,
    call: Call::Field {
        get: |_, args| {
            let esmtp = args.session()?.state.lock().service.eq_ignore_ascii_case("SMTP");
            Ok(Ret::integer(if esmtp { 2 } else { 4 }))
        },
        set: None,
    },
    ..FUNCTION
};

static MESSAGE_CONSTRUCT: Function = Function {
    name: "msys.core.accept_construct_get_message_construct",
    params: &[param("ac", Type::Accept, "the connection")],
    returns: &[returns("mc|nil", "nil where the session speaks no SMTP")],
    doc: "The message construct of an SMTP session: `mc.message` is the message of the transaction, `mc.ctx` the validation \
          context.",
    example: r"
        local mc = msys.core.accept_construct_get_message_construct(ac)
        if mc then msg = mc.message end
    ",
    call: Call::Sync(|ctx, args| {
        let session = crate::registry::session_of(args.userdata(0)?).ok_or(ApiError::Gone("session is closed"))?;
        if !session.state.lock().service.eq_ignore_ascii_case("SMTP") {
            return Ok(Ret::NIL);
        }
        Ok(Ret::One(Value::UserData(ctx.lua.create_userdata(Construct { session: Arc::downgrade(&session) })?)))
    }),
    ..FUNCTION
};

static SOCKADDR_FAMILY: Function = Function {
    name: "msys.core.ec_sockaddr_family",
    params: &[param("address", Type::Userdata, "such as `ac.remote_addr`")],
    returns: &[returns("integer", "`msys.core.AF_INET` or `msys.core.AF_INET6`")],
    doc: "The family of an address.",
    raises: "when `address` is no address of a socket",
    example: "local is_ipv6 = msys.core.ec_sockaddr_family(ac.remote_addr) == msys.core.AF_INET6",
    call: Call::Sync(|_, args| {
        let address = args.userdata(0)?.borrow::<Text>().ok().and_then(|text| text.address);
        let address = address.ok_or_else(|| args.bad(0, "sockaddr expected"))?;
        Ok(Ret::integer(if address.is_ipv4() { 2 } else { 10 }))
    }),
    ..FUNCTION
};

static CONSTRUCT_MESSAGE: Function = Function {
    name: "mc.message",
    returns: &[returns("msg|nil", "nil outside of a transaction")],
    doc: "The message of the present transaction.",
    example: r"
        local mc = msys.core.accept_construct_get_message_construct(ac)
        local sender = mc.message:mailfrom()
    ",
    call: Call::Field {
        get: |ctx, args| {
            let message = args.construct()?.and_then(|session| session.handles.lock().as_ref()?.message.upgrade());
            let Some(message) = message else { return Ok(Ret::NIL) };
            let mut handle = message.handle.lock();
            Ok(Ret::One(Value::UserData(ctx.host.message_handle(&ctx.lua, &message, &mut handle)?.clone())))
        },
        set: None,
    },
    ..FUNCTION
};

static CONSTRUCT_CONTEXT: Function = Function {
    name: "mc.ctx",
    returns: &[returns("vctx|nil", "nil once the session is closed")],
    doc: "The validation context of the session.",
    example: r#"
        local mc = msys.core.accept_construct_get_message_construct(ac)
        mc.ctx:set(msys.core.VCTX_MESS, "seen", "1")
    "#,
    call: Call::Field {
        get: |ctx, args| {
            let Some(session) = args.construct()? else { return Ok(Ret::NIL) };
            let mut handles = session.handles.lock();
            let handles = ctx.host.session_handles(&ctx.lua, &session, &mut handles)?;
            Ok(Ret::One(Value::UserData(handles.validate.clone())))
        },
        set: None,
    },
    ..FUNCTION
};

fn capability_add(ctx: &Ctx<'_>, args: &Args) -> Result<Ret, ApiError> {
    edit(ctx, args, CapabilityEdit::Add)
}

fn capability_remove(ctx: &Ctx<'_>, args: &Args) -> Result<Ret, ApiError> {
    edit(ctx, args, CapabilityEdit::Remove)
}

fn edit(ctx: &Ctx<'_>, args: &Args, make: fn(String) -> CapabilityEdit) -> Result<Ret, ApiError> {
    let session = args.session()?;
    let name = args.text(0)?.into_owned();
    let mut state = session.state.lock();
    if !state.service.eq_ignore_ascii_case("SMTP") {
        return Err(ctx.raise("not an SMTP session"));
    }
    if name.trim().is_empty() || name.chars().any(char::is_control) {
        return Err(args.bad(0, "a capability is one line of visible characters"));
    }
    if state.capability_edits.len() >= CAPABILITY_EDITS_MAX {
        return Err(ctx.raise(format_args!("more than {CAPABILITY_EDITS_MAX} changes in one session")));
    }
    state.capability_edits.push(make(name));
    state.capabilities_changed = true;
    Ok(Ret::None)
}

fn session_count(ctx: &Ctx<'_>, args: &Args, cidr_at: usize, service_at: usize) -> Result<Ret, ApiError> {
    let session = args.session()?;
    let peer = session.state.lock().remote.ip().to_canonical();
    let service = args.optional_text(service_at)?.unwrap_or("SMTP".into());
    let (address, prefix) = match args.optional_text(cidr_at)? {
        None => (peer, host_bits(peer)),
        Some(cidr) => network(&cidr, peer).ok_or_else(|| args.bad(cidr_at, format!("'{cidr}' is no network")))?,
    };
    let count = ctx.host.services.sessions.count(address, prefix, &service);
    Ok(Ret::integer(i64::try_from(count).unwrap_or(i64::MAX)))
}

fn host_bits(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

/// An address, `address/bits`, or `/bits` of the peer's network. `localhost` is the loopback of the peer's family.
fn network(cidr: &str, peer: IpAddr) -> Option<(IpAddr, u8)> {
    let (address, bits) = match cidr.split_once('/') {
        Some((address, bits)) => (address, Some(bits)),
        None => (cidr, None),
    };
    let address = match address {
        "" => peer,
        "localhost" if peer.is_ipv4() => IpAddr::from([127, 0, 0, 1]),
        "localhost" => IpAddr::from(std::net::Ipv6Addr::LOCALHOST),
        text => text.parse::<IpAddr>().ok()?.to_canonical(),
    };
    let bits = match bits {
        None => host_bits(address),
        Some(bits) => bits.parse().ok()?,
    };
    let network = IpNet::new(address, bits).ok()?;
    Some((network.addr(), bits))
}

fn address(ctx: &Ctx<'_>, address: std::net::SocketAddr) -> Result<Ret, ApiError> {
    text(ctx, Text::address(address))
}

pub(super) fn text(ctx: &Ctx<'_>, text: Text) -> Result<Ret, ApiError> {
    Ok(Ret::One(Value::UserData(ctx.lua.create_userdata(text)?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_are_read_in_every_documented_form() {
        let peer: IpAddr = "192.0.2.7".parse().unwrap();
        for (cidr, want) in [
            ("", Some(("192.0.2.7", 32))),
            ("/24", Some(("192.0.2.7", 24))),
            ("10.0.0.0/8", Some(("10.0.0.0", 8))),
            ("10.1.2.3", Some(("10.1.2.3", 32))),
            ("localhost/32", Some(("127.0.0.1", 32))),
            ("2001:db8::/32", Some(("2001:db8::", 32))),
            ("127.0.0.1/33", None),
            ("127.0.0.1/x", None),
            ("nowhere", None),
        ] {
            let want = want.map(|(address, bits)| (address.parse().unwrap(), bits));
            assert_eq!(network(cidr, peer), want, "{cidr}");
        }
    }
}
