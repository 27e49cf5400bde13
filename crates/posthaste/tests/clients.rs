//! Who a client is, and what is made of it: its name in DNS, what proxies say of it, caps, sockets, logins.

mod common;

use common::next_hop::NextHop;
use common::{Client, Server, assert_matches, letter, wait_for};
use ph_dns::testing::Authority;
use std::collections::HashSet;
use std::net::SocketAddr;

/// A name server with a zone, on a runtime of its own.
struct Names {
    authority: Authority,
    _runtime: tokio::runtime::Runtime,
}

impl Names {
    fn start(zone: &str) -> Names {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
        let authority = runtime.block_on(Authority::start(zone)).expect("a name server");
        Names { authority, _runtime: runtime }
    }

    fn resolv_conf(&self) -> String {
        format!("nameserver {}\n", self.authority.address())
    }
}

/// A session that a proxy brings for `address`.
fn proxied(to: SocketAddr, address: &str) -> (Client, String) {
    let mut client = Client::silent(to);
    client.send(format!("PROXY TCP4 {address} 10.0.0.1 4000 25\r\n"));
    let greeting = client.reply();
    (client, greeting)
}

const FULL: &str = "421 4.4.5 Service unavailable, concurrency limit reached.";

#[test]
fn the_received_field_has_the_clients_name() {
    let names = Names::start(
        "9.100.51.198.in-addr.arpa. PTR mail.far.example.\nmail.far.example. A 198.51.100.9\n\
         10.100.51.198.in-addr.arpa. PTR bank.example.\nbank.example. A 192.0.2.1\n\
         20.100.51.198.in-addr.arpa. PTR mail.quiet.example.\nmail.quiet.example. A 198.51.100.20\n",
    );
    let next = NextHop::start();
    let server = Server::start(
        &format!(
            "Resolv_Conf = \"@dir@/resolv.conf\"\nGateway = \"{}\"\nRelay_Domains = ( rcpt.test )\n\
             ESMTP_Listener {{ Peer 198.51.100.20 {{ Reverse_DNS = false }}\n\
               Listen \"127.0.0.1:0\" {{ Proxy_Protocol = true }}\n\
               Listen \"127.0.0.2:0\" {{ Peer 127.0.0.0/8 {{ SMTP_Extensions = ( XCLIENT ) }} }}\n\
             }}",
            next.gateway()
        ),
        &[("resolv.conf", &names.resolv_conf())],
    );
    let mut count = 0;
    let mut received = |client: &mut Client| {
        count += 1;
        let to = format!("n{count}@rcpt.test");
        assert_matches("^250", &client.command("EHLO client.test"));
        assert_matches("^250 OK ID$", &client.deliver("ann@sender.test", &[&to], &letter("name", "x\n")));
        next.wait_for_rcpt(&to).headers("Received").remove(0)
    };
    for (address, from) in [
        ("198.51.100.9", "mail.far.example ([198.51.100.9:4000]"),
        ("198.51.100.10", "[198.51.100.10] ([198.51.100.10:4000]"), // whose name is another's
        ("198.51.100.11", "[198.51.100.11] ([198.51.100.11:4000]"), // no name
        ("198.51.100.20", "[198.51.100.20] ([198.51.100.20:4000]"), // not asked for
    ] {
        let (mut client, _) = proxied(server.listener(0), address);
        let header = received(&mut client);
        assert!(header.starts_with(&format!("from {from} helo=client.test)")), "{header}");
    }
    for (command, from) in [
        ("XCLIENT ADDR=198.51.100.9 PORT=4000", "mail.far.example ([198.51.100.9:4000]"),
        ("XCLIENT ADDR=198.51.100.9 PORT=4000 NAME=told.example", "told.example ([198.51.100.9:4000]"),
        ("XCLIENT ADDR=198.51.100.9 PORT=4000 NAME=[UNAVAILABLE]", "[198.51.100.9] ([198.51.100.9:4000]"),
    ] {
        let mut client = Client::hello(server.listener(1));
        assert_matches("^220 ", &client.command(command));
        let header = received(&mut client);
        assert!(header.starts_with(&format!("from {from} helo=client.test)")), "{header}");
    }
    // A client of this machine is not looked up.
    let mut client = Client::hello(server.listener(1));
    let us = client.local_addr();
    assert_matches(&format!(r"^from \[127\.0\.0\.1\] \(\[{us}\] helo="), &received(&mut client));
    assert!(
        !names.authority.questions().iter().any(|(name, _)| name.contains("127.in-addr") || name.starts_with("20."))
    );
}

#[test]
fn the_caps_of_a_client_behind_a_proxy_are_its_own() {
    let server = Server::start(
        "suspend_delivery = true\n\
         ESMTP_Listener { Concurrency = 3 Max_Sessions_Per_Address = 2\n\
           Peer 198.51.100.0/24 { Listener_Sessions = 2 }\n\
           Peer 127.0.0.0/8 { SMTP_Extensions = ( XCLIENT ) }\n\
           Listen \"127.0.0.1:0\" { Proxy_Protocol = true }\n\
           Listen \"127.0.0.2:0\" {} }",
        &[],
    );
    let proxy = server.listener(0);
    // The proxy's own address is that of all of them.
    let open: Vec<_> = (1..=6).map(|n| proxied(proxy, &format!("192.0.2.{n}"))).collect();
    assert!(open.iter().all(|(_, greeting)| greeting.starts_with("220 ")));
    // One address more than twice.
    let (_second, greeting) = proxied(proxy, "192.0.2.1");
    assert_matches("^220 ", &greeting);
    let (mut third, greeting) = proxied(proxy, "192.0.2.1");
    assert_eq!((greeting.as_str(), third.rest().as_str()), (FULL, ""));
    // A budget of the network.
    let mut inside: Vec<_> = (1..=2).map(|n| proxied(proxy, &format!("198.51.100.{n}"))).collect();
    assert!(inside.iter().all(|(_, greeting)| greeting.starts_with("220 ")));
    let (mut over, greeting) = proxied(proxy, "198.51.100.3");
    assert_eq!((greeting.as_str(), over.rest().as_str()), (FULL, ""));
    server.wait_for_log("rejectlog.ec", |line| line.contains("R=\"198.51.100.3:4000\"") && line.contains("E=421"));
    let mut client = Client::hello(server.listener(1));
    assert_eq!(client.command("XCLIENT ADDR=198.51.100.4"), FULL);
    assert_eq!(client.rest(), "");
    let (mut last, _) = inside.pop().expect("a session");
    last.command("QUIT");
    assert_eq!(last.rest(), "");
    wait_for("a free slot", || proxied(proxy, "198.51.100.3").1.starts_with("220").then_some(()));
}

#[test]
fn where_a_peer_is_a_proxy_nobody_else_is_served() {
    let server = Server::start(
        "suspend_delivery = true\nRelay_Domains = ( rcpt.test )\n\
         ESMTP_Listener { Listen \"127.0.0.1:0\" {\n\
           Peer 127.0.0.5 { Proxy_Protocol = true } Peer 127.0.0.6 { Proxy_Protocol = false } } }",
        &[],
    );
    let mut stranger = Client::silent(server.smtp());
    assert_eq!(stranger.rest(), "", "closed without an octet");
    let mut stranger = Client::silent(server.smtp());
    let _ = stranger.try_send("PROXY TCP4 198.51.100.9 10.0.0.1 4000 25\r\n");
    assert_eq!(stranger.rest(), "");
    let (mut direct, greeting) = Client::connect_from("127.0.0.6", server.smtp());
    assert_matches("^220 ", &greeting);
    assert_matches("^500 ", &direct.command("PROXY TCP4 198.51.100.9 10.0.0.1 4000 25"));
    let mut proxy = Client::silent_from("127.0.0.5", server.smtp());
    proxy.send("PROXY TCP4 198.51.100.9 10.0.0.1 4000 25\r\n");
    assert_matches("^220 ", &proxy.reply());
    assert_matches("says EHLO to 198.51.100.9:4000\n", &proxy.command("EHLO client.test"));
}

#[test]
fn without_a_descriptor_left_a_client_is_told_so() {
    let server = Server::start("suspend_delivery = true\nESMTP_Listener { Listen \"127.0.0.1:0\" {} }", &[]);
    let mut open = vec![Client::hello(server.smtp())];
    limit_descriptors(&server);
    let refused = loop {
        let (client, greeting) = Client::connect(server.smtp());
        if !greeting.starts_with("220 ") {
            break (client, greeting);
        }
        open.push(client);
        assert!(open.len() < 200, "the limit has no effect");
    };
    let (mut client, greeting) = refused;
    assert_eq!((greeting.as_str(), client.rest().as_str()), (FULL, ""));
    let said = server.wait_for_log("rejectlog.ec", |line| line.contains("E=421"));
    assert!(said.ends_with("4.4.5 Service unavailable, concurrency limit reached."), "{said}");
    // Those who are in go on, and a place that becomes free is given.
    assert_matches("^250", &open[0].command("NOOP"));
    let mut last = open.pop().expect("a session");
    last.command("QUIT");
    assert_eq!(last.rest(), "");
    wait_for("a free descriptor", || Client::connect(server.smtp()).1.starts_with("220").then_some(()));
    server.wait_for_log("paniclog.ec", |line| line.contains("accept on 127.0.0.1:0"));
    assert!(server.log("paniclog.ec").matches("accept on").count() <= 2, "{}", server.log("paniclog.ec"));
}

/// Leaves the running server six descriptors.
fn limit_descriptors(server: &Server) {
    let folder = format!("/proc/{}/fd", server.pid());
    let open: HashSet<u64> = std::fs::read_dir(folder)
        .expect("its descriptors")
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .collect();
    // Numbers are given from the lowest; an inherited one may be far above.
    let limit = (0..).filter(|number| !open.contains(number)).nth(6).expect("a free number");
    let status = std::process::Command::new("prlimit")
        .args(["--pid", &server.pid().to_string(), &format!("--nofile={limit}:")])
        .status()
        .expect("prlimit of util-linux");
    assert!(status.success(), "{status}");
}

#[test]
fn digest_files_and_the_switches_of_authentication() {
    let server = Server::start(
        "suspend_delivery = true\n\
         ESMTP_Listener {\n\
           SMTP_Extensions = ( ENHANCEDSTATUSCODES \"AUTH PLAIN\" \"AUTH DIGEST-MD5\" XDUMPCONTEXT )\n\
           AuthPlainParameters = [ uri = \"digest://@dir@/digests\" ]\n\
           AuthDigestMD5Parameters = [ uri = \"digest://@dir@/digests\" realm = Staff ]\n\
           Listen \"127.0.0.1:0\" {}\n\
           Listen \"127.0.0.2:0\" { Always_Allow = true }\n\
           Listen \"127.0.0.3:0\" { Always_Allow = true Always_Deny = true } }",
        &[("digests", "# staff\nann:Staff:a711ad521e59c0f525a2b567ba39138c\n")],
    );
    let (right, wrong, nobody) = ("AGFubgBzM2NyZXQ=", "AGFubgB3cm9uZw==", "AAA=");
    let (passed, failed) = ("235 2.0.0 Authed. Go on.", "535 5.7.8 Authentication failed.");
    for (listener, credentials, wanted) in [
        (0, right, passed),
        (0, wrong, failed),
        (0, nobody, failed),
        (1, wrong, passed),
        (1, nobody, passed),
        (2, right, failed),
    ] {
        let mut client = Client::hello(server.listener(listener));
        assert_eq!(client.command(&format!("AUTH PLAIN {credentials}")), wanted, "{listener} {credentials}");
        let may_relay = client.command("XDUMPCONTEXT").contains("[connection] can_relay true");
        assert_eq!(may_relay, wanted == passed);
    }
    let mut client = Client::hello(server.listener(1));
    client.command(&format!("AUTH PLAIN {nobody}"));
    assert_matches("(?m)^250-\\[connection\\] auth_user anonymous$", &client.command("XDUMPCONTEXT"));
    // `realm="Staff",nonce="` in base64.
    let mut client = Client::hello(server.listener(0));
    assert_matches("^334 cmVhbG09IlN0YWZmIixub25jZT0i", &client.command("AUTH DIGEST-MD5"));
}
