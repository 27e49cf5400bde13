//! The numbers under `/metrics` are those of what happened: one message in, through a policy, and out.

mod common;

use common::next_hop::NextHop;
use common::{Client, Server, assert_matches, letter, wait_for};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};

/// A port that was free a moment ago: the HTTP listener does not say which one it took.
fn free_port() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port")
}

fn get(address: SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(address).expect("the HTTP listener accepts");
    write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").expect("sent");
    let mut text = String::new();
    stream.read_to_string(&mut text).expect("an answer");
    text
}

/// The value of a series, labels included in its name.
fn value(page: &str, series: &str) -> f64 {
    let line = page.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    line.and_then(|number| number.trim().parse().ok()).unwrap_or_else(|| panic!("no {series} in\n{page}"))
}

#[test]
fn one_message_is_counted_wherever_it_passes() {
    let next = NextHop::start();
    let http = free_port();
    let extra = format!(
        "Relay_Domains = ( rcpt.test )\nGateway = \"{}\"\nHTTP_Listener {{ Listen \"{http}\" {{ }} }}\n\
         ESMTP_Listener {{ Listen \"127.0.0.1:0\" {{ }} }}\n\
         scriptlet \"scriptlet\" {{ script \"policy\" {{ source = \"policy\" }} }}\n",
        next.gateway()
    );
    let policy = "local mod = {}\nfunction mod:validate_rcptto(msg, str, ac, vctx)\n\
                  if vctx:get(msys.core.VCTX_MESS, 'rcptto_localpart') == 'broken' then error('on purpose') end\n\
                  return msys.core.VALIDATE_CONT end\nmsys.registerModule('policy', mod)\n";
    let server = Server::start(&extra, &[("policy.lua", policy)]);
    assert_matches("^250 ", &Client::hello(server.smtp()).deliver("a@b.test", &["c@rcpt.test"], &letter("One", "x\n")));
    next.wait_for(1);
    let mut client = Client::hello(server.smtp());
    client.command("MAIL FROM:<a@b.test>");
    assert_matches("^421 ", &client.command("RCPT TO:<broken@rcpt.test>"));

    let page = wait_for("the delivery in the metrics", || {
        let page = get(http, "/metrics");
        // What is looked at once a second comes last.
        let there = value(&page, "posthaste_delivered_messages_total") > 0.0;
        (there
            && value(&page, "posthaste_spool_free_bytes") > 0.0
            && value(&page, "posthaste_policy_memory_bytes") > 0.0)
            .then_some(page)
    });
    for (series, wanted) in [
        ("posthaste_received_messages_total", 1.0),
        ("posthaste_delivered_messages_total", 1.0),
        ("posthaste_inbound_connections_total", 2.0),
        ("posthaste_outbound_connections_total", 1.0),
        ("posthaste_outbound_connect_failures_total", 0.0),
        ("posthaste_accept_seconds_count", 1.0),
        ("posthaste_spool_commit_seconds_count", 1.0),
        ("posthaste_delivery_attempt_seconds_count", 1.0),
        ("posthaste_connect_seconds_count", 1.0),
        ("posthaste_time_in_queue_seconds_count", 1.0),
        ("posthaste_hook_seconds_count{hook=\"validate_rcptto\"}", 2.0),
        ("posthaste_hook_errors_total{hook=\"validate_rcptto\"}", 1.0),
        ("posthaste_diagnostics_total{level=\"ERROR\"}", 1.0),
        ("posthaste_spool_errors_total", 0.0),
    ] {
        assert_eq!(value(&page, series), wanted, "{series}");
    }
    assert!(value(&page, "posthaste_resident_memory_bytes") > 1e6);
    assert!(get(http, "/healthz").ends_with("ok\n") || get(http, "/healthz").ends_with("ok"));
}
