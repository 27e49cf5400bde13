//! Where a message goes: its binding, the group of it, its routing domain, the way of delivery.
//!
//! Assigning is for the hooks before the queue; what is queued already is moved by the console (`rebind`, `reroute`).

use super::RECEPTION;
use crate::objects::Message;
use crate::registry::{
    ApiError, Arg, Args, Call, Ctx, FUNCTION, Function, Phase, Phases, Ret, Type, optional, returns,
};
use crate::userdata::Msg;
use std::sync::Arc;

pub static BINDING: Function = Function {
    name: "msg:binding",
    since: "3.0",
    phases: Phases::new("set_binding", &[Phase::SetBinding]).works_anywhere(),
    params: &[optional("value", Type::Any, "the name of a binding")],
    returns: &[returns("string|nil", "the binding's name; nil when there is none, or no such binding")],
    doc: "Reads or assigns the binding. Assigning sets the binding's group too.",
    page: "4/lua/ref-msg-binding.md",
    example: r#"if msg:routing_domain() == "gmail.com" then msg:binding("gmail") end"#,
    call: Call::Sync(binding),
    ..FUNCTION
};

pub static BINDING_GROUP: Function = Function {
    name: "msg:binding_group",
    since: "3.0",
    phases: Phases::new("set_binding", &[Phase::SetBinding]).works_anywhere(),
    params: &[optional("value", Type::Any, "the name of a binding group")],
    returns: &[returns("string|nil", "the group's name; nil when there is none, or no such group")],
    doc: "Reads the group of the binding, or assigns one binding of a group.",
    page: "4/lua/ref-msg-binding-group.md",
    example: r#"if msg:header("X-Priority")[1] == "bulk" then msg:binding_group("bulk") end"#,
    call: Call::Sync(binding_group),
    ..FUNCTION
};

pub static ROUTING_DOMAIN: Function = Function {
    name: "msg:routing_domain",
    package: "msys.extended.message_routing",
    since: "3.0",
    phases: Phases::new("data_spool_each_rcpt, rcptto", &[Phase::EachRcpt, Phase::Rcptto]).works_anywhere(),
    params: &[optional("...", Type::String, "a domain, host name or address literal, with `:port` where wanted")],
    returns: &[returns("string|nil", "the domain of the queue, in lower case"), returns("string|nil", "why not")],
    doc: "Reads or sets where the message is routed to; the envelope stays as it is.",
    page: "4/lua/ref-msg-routing-domain.md",
    raises: "when it sets the domain of a message that is queued",
    example: r#"if msg:routing_domain() == "example.org" then msg:routing_domain("[192.0.2.1]:2525") end"#,
    call: Call::Sync(routing_domain),
    ..FUNCTION
};

pub static DELIVERY_METHOD: Function = Function {
    name: "msg:get_delivery_method",
    package: "msys.core",
    since: "3.1",
    phases: RECEPTION,
    returns: &[returns("string", "`esmtp` by default")],
    doc: "How the message will be delivered: the configured `delivery_method` for its binding and domain.",
    page: "4/lua/ref-msg-get-delivery-method.md",
    example: r#"if msg:get_delivery_method() ~= "esmtp" then msg:header("X-Pushed", "yes") end"#,
    call: Call::Sync(|ctx, args| {
        let message = args.message()?;
        let (binding, domain) = {
            let state = message.state.lock();
            (state.envelope.binding.clone(), state.envelope.queue_domain().to_owned())
        };
        ctx.string(ctx.host.services.routes.delivery_method(&binding, &domain).as_bytes())
    }),
    ..FUNCTION
};

/// `None` for an empty name.
fn name_or_nil(ctx: &Ctx<'_>, name: &str) -> Result<Ret, ApiError> {
    if name.is_empty() { Ok(Ret::NIL) } else { ctx.string(name.as_bytes()) }
}

fn binding(ctx: &Ctx<'_>, args: &Args) -> Result<Ret, ApiError> {
    let message = args.message()?;
    if args.is_nil(0) {
        let name = message.state.lock().envelope.binding.clone();
        return name_or_nil(ctx, &name);
    }
    let name = match args.arg(0) {
        Arg::Bytes(_) | Arg::Number(_) => Some(args.text(0)?),
        _ => None,
    };
    let group = name.as_deref().and_then(|name| ctx.host.services.routes.binding(name));
    let (Some(name), Some(group)) = (name.clone(), group) else {
        ctx.host.error(&format!("msg:binding: no such binding: {}", name.unwrap_or("(not a name)".into())));
        return Ok(Ret::NIL);
    };
    // In the queue a message is moved by `rebind` only.
    if ctx.phase() == Phase::Queue && !args.is_own_message() {
        return Ok(Ret::NIL);
    }
    assign(&message, &name, &group);
    ctx.string(name.as_bytes())
}

fn assign(message: &Message, binding: &str, group: &str) {
    let mut state = message.state.lock();
    state.envelope.binding = binding.into();
    state.envelope.binding_group = group.into();
    state.edited = true;
}

fn binding_group(ctx: &Ctx<'_>, args: &Args) -> Result<Ret, ApiError> {
    let message = args.message()?;
    if args.is_nil(0) {
        let group = message.state.lock().envelope.binding_group.clone();
        return name_or_nil(ctx, &group);
    }
    let group = match args.arg(0) {
        Arg::Bytes(_) | Arg::Number(_) => Some(args.text(0)?),
        _ => None,
    };
    let chosen = group.as_deref().and_then(|group| {
        let asked =
            if args.is_own_message() { Msg::Own(message.clone()) } else { Msg::Engine(Arc::downgrade(&message)) };
        ctx.host.choose_binding(&ctx.lua, &asked, group)
    });
    let (Some(group), Some(binding)) = (group.clone(), chosen) else {
        let name = group.unwrap_or("(not a name)".into());
        ctx.host.error(&format!("msg:binding_group: no such binding group: {name}"));
        return Ok(Ret::NIL);
    };
    if ctx.phase() == Phase::Queue && !args.is_own_message() {
        return Ok(Ret::NIL);
    }
    assign(&message, &binding, &group);
    ctx.string(group.as_bytes())
}

fn routing_domain(ctx: &Ctx<'_>, args: &Args) -> Result<Ret, ApiError> {
    let message = args.message()?;
    if let Some(value) = args.optional_text(0)? {
        if ctx.phase() == Phase::Queue && !args.is_own_message() {
            return Err(ctx.raise("a queued message is moved by reroute"));
        }
        let Some(domain) = valid_route(&value) else { return ctx.failure(&format!("'{value}' is no domain")) };
        let mut state = message.state.lock();
        state.envelope.routing_domain = Some(domain.as_str().into());
        state.edited = true;
        return ctx.string(domain.as_bytes());
    }
    let (explicit, binding, domain) = {
        let state = message.state.lock();
        let envelope = &state.envelope;
        (envelope.routing_domain.clone(), envelope.binding.clone(), envelope.recipient.domain.clone())
    };
    if let Some(explicit) = explicit {
        return ctx.string(explicit.as_bytes());
    }
    if domain.is_empty() {
        return Ok(Ret::NIL);
    }
    match ctx.host.services.routes.gateway(&binding, &domain) {
        Some(gateway) => ctx.string(gateway.as_bytes()),
        None => ctx.string(domain.as_bytes()),
    }
}

/// A domain, host name or address literal, with or without `:port`, in lower case and without a final dot.
fn valid_route(text: &str) -> Option<String> {
    let text = text.trim().to_ascii_lowercase();
    let (host, port) = if let Some(rest) = text.strip_prefix('[') {
        let (inside, after) = rest.split_once(']')?;
        let address = inside.strip_prefix("ipv6:").unwrap_or(inside);
        address.parse::<std::net::IpAddr>().ok()?;
        (format!("[{inside}]"), after)
    } else if text.parse::<std::net::IpAddr>().is_ok() {
        return Some(text);
    } else {
        match text.split_once(':') {
            Some((host, _)) => (host.trim_end_matches('.').to_owned(), &text[host.len()..]),
            None => (text.trim_end_matches('.').to_owned(), ""),
        }
    };
    if !port.is_empty() {
        port.strip_prefix(':')?.parse::<u16>().ok().filter(|port| *port > 0)?;
    }
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_' || b >= 128)
    };
    let good = host.starts_with('[') || (host.len() <= 253 && host.split('.').all(label));
    good.then(|| format!("{host}{port}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn routes_are_domains_hosts_and_literals_with_a_port() {
        for (text, want) in [
            ("My.Smart.Host", Some("my.smart.host")),
            ("host.", Some("host")),
            ("host:2525", Some("host:2525")),
            ("[192.0.2.1]", Some("[192.0.2.1]")),
            ("[192.0.2.1]:26", Some("[192.0.2.1]:26")),
            ("192.0.2.1", Some("192.0.2.1")),
            ("[IPv6:2001:db8::1]", Some("[ipv6:2001:db8::1]")),
            ("2001:db8::1", Some("2001:db8::1")),
            ("", None),
            ("a b", None),
            ("a..b", None),
            ("host:0", None),
            ("host:x", None),
            ("[nonsense]", None),
        ] {
            assert_eq!(valid_route(text).as_deref(), want, "{text}");
        }
    }
}
