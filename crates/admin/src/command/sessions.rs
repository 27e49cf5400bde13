//! Connections open now: `show inbound`, `show outbound`, `count`, and traces of SMTP dialogues.

use super::{Command, CommandError, Context, Outcome, Words, command, none, number, one, usage};
use crate::doc::{Data, Doc};
use crate::view::Services;
use ipnet::IpNet;
use std::collections::BTreeMap;
use std::net::IpAddr;

pub(super) static COMMANDS: &[Command] = &[
    command! { "show inbound", "", Network, "Lists the connections that others made to us", inbound },
    command! { "show outbound", "", Network, "Lists the connections that we made", outbound },
    command! {
        "count", "SMTP|SERVICE|outbound|outbound/BINDING CIDR|BITS|FROM-TO", Network,
        "Counts sessions by network", count
    },
    command! {
        "trace smtp add", "BINDING|* DOMAIN|* FILE", Network, "Writes outbound SMTP dialogues to a file", trace_add
    },
    command! { "trace smtp list", "", Network, "Lists the SMTP tracers", trace_list },
    command! { "trace smtp remove", "NUMBER", Network, "Ends an SMTP tracer", trace_remove },
];

async fn inbound(context: &mut Context, words: Words) -> Outcome {
    none(&words)?;
    let sessions = context.services.server.inbound();
    let mut doc = Doc::new("Inbound");
    for session in &sessions {
        let factory = match session.service {
            "SMTP" => "esmtp_message_factory",
            "Control" => "control_factory",
            "HTTP" => "http_factory",
            other => other,
        };
        let (family, peer) = match session.remote {
            Some(remote) if remote.ip().to_canonical().is_ipv4() => ("IPv4", remote.to_string()),
            Some(remote) => ("IPv6", remote.to_string()),
            None => ("unix", "-".to_owned()),
        };
        doc.push_line(&format!(
            "{:>6}: [inbound/{factory}] {family} {peer} {} (for {:.3}s)",
            session.fd,
            session.state,
            session.since.as_secs_f64()
        ));
    }
    let items = sessions.iter().map(|session| {
        Data::map([
            ("Fd", session.fd.into()),
            ("Service", session.service.into()),
            ("Peer", session.remote.map(|remote| remote.to_string()).unwrap_or_default().into()),
            ("State", session.state.as_str().into()),
            ("Seconds", session.since.as_secs_f64().into()),
        ])
    });
    Ok(doc.with(Data::list("Session", items.collect::<Vec<_>>())))
}

async fn outbound(context: &mut Context, words: Words) -> Outcome {
    none(&words)?;
    let sessions = context.services.server.outbound();
    let mut doc = Doc::new("Outbound");
    for session in &sessions {
        let family = if session.remote.to_canonical().is_ipv4() { "IPv4" } else { "IPv6" };
        doc.push_line(&format!(
            "{:>6}: [outbound/connection_handleconnect] {} {family} {} {} (for {:.3}s)",
            session.fd,
            session.host,
            session.remote,
            session.state,
            session.since.as_secs_f64()
        ));
    }
    let items = sessions.iter().map(|session| {
        Data::map([
            ("Fd", session.fd.into()),
            ("Host", session.host.as_str().into()),
            ("Address", session.remote.to_string().into()),
            ("Binding", session.binding.as_str().into()),
            ("Domain", session.domain.as_str().into()),
            ("State", session.state.as_str().into()),
            ("Seconds", session.since.as_secs_f64().into()),
        ])
    });
    Ok(doc.with(Data::list("Session", items.collect::<Vec<_>>())))
}

/// The addresses at the other ends of a kind of session.
fn addresses(services: &Services, kind: &str) -> Vec<IpAddr> {
    let addresses: Vec<IpAddr> = match kind.split_once('/').unwrap_or((kind, "")) {
        ("outbound", "") => services.server.outbound().iter().map(|session| session.remote).collect(),
        ("outbound", binding) => {
            let of_binding = services.server.outbound();
            of_binding.iter().filter(|session| session.binding == binding).map(|session| session.remote).collect()
        }
        (service, _) => {
            let sessions = services.server.inbound();
            let of_service = sessions.iter().filter(|session| session.service.eq_ignore_ascii_case(service));
            of_service.filter_map(|session| session.remote).map(|remote| remote.ip()).collect()
        }
    };
    addresses.into_iter().map(|address| address.to_canonical()).collect()
}

async fn count(context: &mut Context, words: Words) -> Outcome {
    let [kind, range] = &words[..] else { return usage() };
    let addresses = addresses(&context.services, kind);
    if range.contains(['/', '.', ':']) {
        let net: IpNet = match range.parse::<IpAddr>() {
            Ok(address) => address.into(),
            Err(_) => range.parse().map_err(|_| CommandError::Failed(format!("'{range}' is not a network.")))?,
        };
        let within = addresses.iter().filter(|address| net.contains(*address)).count();
        return Ok(Doc::new("Count").line(format!("{within} sessions")).with(Data::map([("Sessions", within.into())])));
    }
    let (from, to) = range.split_once('-').unwrap_or((range, range));
    let (from, to): (u8, u8) = (number(from)?, number(to)?);
    if from > to || to > 128 {
        return Err(CommandError::Failed(format!("'{range}' is not a range of prefix lengths.")));
    }
    let mut doc = Doc::new("Count").line(format!("Displaying '{kind}' from /{from} to /{to}"));
    let mut items = Vec::new();
    for (wide, inner) in tally(&addresses, from) {
        push_row(&mut doc, &mut items, inner.len(), wide, 0);
        if to > from {
            for (narrow, inner) in tally(&inner, to) {
                push_row(&mut doc, &mut items, inner.len(), narrow, 32);
            }
        }
    }
    Ok(doc.with(Data::list("Network", items)))
}

fn push_row(doc: &mut Doc, items: &mut Vec<Data>, sessions: usize, net: IpNet, indent: usize) {
    doc.push_line(&format!("{sessions:>7}                 {:indent$}{net}", ""));
    items.push(Data::map([("@net", net.to_string().into()), ("#", sessions.into())]));
}

/// Addresses by their network of so many bits, cut to what the family has.
fn tally(addresses: &[IpAddr], bits: u8) -> BTreeMap<IpNet, Vec<IpAddr>> {
    let mut nets: BTreeMap<IpNet, Vec<IpAddr>> = BTreeMap::new();
    for address in addresses {
        let bits = if address.is_ipv4() { bits.min(32) } else { bits.min(128) };
        if let Ok(net) = IpNet::new(*address, bits) {
            nets.entry(net.trunc()).or_default().push(*address);
        }
    }
    nets
}

async fn trace_add(context: &mut Context, words: Words) -> Outcome {
    let [binding, domain, path] = &words[..] else { return usage() };
    let number = context.services.server.trace_add(binding, domain, path).map_err(CommandError::Failed)?;
    Ok(Doc::say(format!("Registered smtp tracer #{number}")))
}

async fn trace_list(context: &mut Context, words: Words) -> Outcome {
    none(&words)?;
    let traces = context.services.server.traces();
    let mut doc = Doc::new("Tracers");
    for (number, binding, domain, file) in &traces {
        doc.push_line(&format!("[{number:>2}] binding: {binding} domain: {domain} file: {file}"));
    }
    if traces.is_empty() {
        doc.push_line("No smtp tracers.");
    }
    let items = traces.into_iter().map(|(number, binding, domain, file)| {
        Data::map([
            ("@number", number.into()),
            ("Binding", binding.into()),
            ("Domain", domain.into()),
            ("File", file.into()),
        ])
    });
    Ok(doc.with(Data::list("Tracer", items.collect::<Vec<_>>())))
}

async fn trace_remove(context: &mut Context, words: Words) -> Outcome {
    let word = one(words)?;
    let tracer: u32 = number(word.trim_start_matches('#'))?;
    match context.services.server.trace_remove(tracer) {
        true => Ok(Doc::say(format!("Removed smtp tracer #{tracer}"))),
        false => Err(CommandError::Failed(format!("There is no smtp tracer #{tracer}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_counted_by_network() {
        let addresses: Vec<IpAddr> =
            ["10.1.2.3", "10.1.9.9", "10.2.0.1", "fd82::1"].iter().map(|text| text.parse().unwrap()).collect();
        let nets: Vec<(String, usize)> =
            tally(&addresses, 16).into_iter().map(|(net, inner)| (net.to_string(), inner.len())).collect();
        assert_eq!(nets, [("10.1.0.0/16".to_owned(), 2), ("10.2.0.0/16".to_owned(), 1), ("fd82::/16".to_owned(), 1)]);
    }
}
