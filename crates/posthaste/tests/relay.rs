//! For whom the running server takes mail: the relay decision, and the roles that are always reachable.

mod common;

use common::{Client, Server, assert_matches};

/// A server that keeps what it takes. `listener` is the inside of its ESMTP_Listener.
fn server(settings: &str, listener: &str) -> Server {
    Server::start(
        &format!(
            "suspend_delivery = true\nRelay_Domains = ( rcpt.test )\n{settings}\nESMTP_Listener {{\n{listener}\n}}\n"
        ),
        &[],
    )
}

#[test]
fn who_may_relay_is_decided_in_order() {
    let server = server(
        "Domain black.test { Blackhole = true }\nBounce_Domains = ( bounces.test )\n",
        "SMTP_Extensions = ( ENHANCEDSTATUSCODES )\n\
         Relay_For_Sending_Domains = ( a.test *.a.test )\n\
         Listen \"127.0.0.1:0\" { Peer 127.0.0.9 { Relay_Hosts = ( 127.0.0.9 ) } Peer 127.0.0.10 { Open_Relay = true } }\n\
         Listen \"127.0.0.2:0\" { Pathway = inner }\n",
    );
    let denied = "550 5.7.1 relaying denied";
    let fine = "250 2.0.0 RCPT TO accepted";
    for (from, sender, recipient, wanted) in [
        ("127.0.0.1", "x@b.test", "bob@rcpt.test", fine),
        ("127.0.0.1", "x@b.test", "bob@RCPT.TEST", fine),
        ("127.0.0.1", "x@b.test", "bob@sub.rcpt.test", denied),
        ("127.0.0.1", "x@b.test", "bounce-1@bounces.test", fine),
        ("127.0.0.1", "x@b.test", "eve@elsewhere.test", denied),
        ("127.0.0.1", "x@a.test", "eve@elsewhere.test", fine),
        ("127.0.0.1", "x@deep.a.test", "eve@elsewhere.test", fine),
        ("127.0.0.1", "", "eve@elsewhere.test", denied),
        ("127.0.0.9", "x@b.test", "eve@elsewhere.test", fine),
        ("127.0.0.10", "x@b.test", "eve@elsewhere.test", fine),
        ("127.0.0.9", "x@b.test", "bob@black.test", "551 5.7.1 recipient blackholed"),
        ("127.0.0.1", "x@b.test", "eve%elsewhere.test@rcpt.test", fine),
    ] {
        let (mut client, _) = Client::connect_from(from, server.listener(0));
        assert_matches("^250", &client.command("EHLO client.test"));
        client.command(&format!("MAIL FROM:<{sender}>"));
        assert_eq!(client.command(&format!("RCPT TO:<{recipient}>")), wanted, "{from} {sender} {recipient}");
    }
}

#[test]
fn the_postmaster_is_reached_under_each_of_our_names() {
    let server = server(
        "",
        "Listen \"127.0.0.1:0\" {} Listen \"127.0.0.2:0\" { Banner_Hostname = other.test }\n\
         Listen \"127.0.0.3:0\" { Domain_For_Unqualified_Recipient_Addresses = Site.Test }",
    );
    let (fine, denied) = ("250 RCPT TO accepted", "550 relaying denied");
    for (listener, recipient, wanted) in [
        (0, "PostMaster", fine),
        (0, "abuse@MX.test", fine),
        (0, "postmaster@other.test", denied),
        (1, "postmaster", fine),
        (1, "postmaster@mx.test", fine),
        (1, "abuse@other.test", fine),
        (2, "postmaster", fine),
        (2, "abuse@site.test", fine),
        (2, "bob", denied),
        (2, "bob@mx.test", denied),
    ] {
        let mut client = Client::hello(server.listener(listener));
        client.command("MAIL FROM:<a@b.c>");
        assert_eq!(client.command(&format!("RCPT TO:<{recipient}>")), wanted, "{listener} {recipient}");
    }
}
