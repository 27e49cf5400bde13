//! The SMTP service of the running server: replies to the byte, limits, extensions, who may relay, trusted commands.

mod common;

use common::{Client, Server, assert_matches, certificate, letter, matches, wait_for, write};
use std::time::{Duration, Instant};

/// A server that keeps what it takes. `listener` is the inside of its ESMTP_Listener.
fn server(settings: &str, listener: &str) -> Server {
    let (cert, key) = certificate();
    let users = "ann:s3cret\nbob:other\n";
    Server::start(
        &format!(
            "suspend_delivery = true\nRelay_Domains = ( rcpt.test )\n{settings}\nESMTP_Listener {{\n{listener}\n}}\n"
        ),
        &[("cert.pem", &cert), ("key.pem", &key), ("users", users)],
    )
}

const TLS: &str = "TLS_Certificate = \"@dir@/cert.pem\" TLS_Key = \"@dir@/key.pem\"";
const AUTH: &str = "AuthPlainParameters = [ uri = \"file://@dir@/users\" log_authentication = true ]\n\
                    AuthLoginParameters = [ uri = \"file://@dir@/users\" log_authentication = true ]\n\
                    AuthCramMD5Parameters = [ uri = \"file://@dir@/users\" ]";
/// `\0ann\0s3cret`
const ANN: &str = "AGFubgBzM2NyZXQ=";

/// Each command with its exact reply, in one session.
fn converse(client: &mut Client, lines: &[(&str, &str)]) {
    for (command, wanted) in lines {
        assert_eq!(client.command(command), *wanted, "{command}");
    }
}

fn ready(client: &mut Client) {
    assert_matches("^250", &client.command("EHLO client.test"));
}

#[test]
fn the_replies_are_these_to_the_byte() {
    let server = server(
        "",
        &format!(
            "{TLS}\nMax_Message_Size = 1000\nListen \"127.0.0.1:0\" {{}}\n\
             Listen \"127.0.0.2:0\" {{ SMTP_Extensions = ( ENHANCEDSTATUSCODES STARTTLS \"X-Shown here\" ) }}\n\
             Listen \"127.0.0.3:0\" {{ Static_Banner = \"220 mail ready\" Banner_Hostname = other.test Require_EHLO = true \
             Allow_IP_Literal = false Allow_Null_Envelope_Sender = false }}"
        ),
    );
    // Without any extension: no enhanced codes.
    let (mut client, greeting) = Client::connect(server.listener(0));
    assert_matches(
        r"^220 mx\.test ESMTP Posthaste (Mon|Tue|Wed|Thu|Fri|Sat|Sun), \d{1,2} [A-Z][a-z]{2} \d{4} \d\d:\d\d:\d\d [+-]\d{4}$",
        &greeting,
    );
    let us = client.local_addr();
    let says = |verb: &str| format!("250 mx.test says {verb} to {us}");
    assert_eq!(client.command("HELO client.test"), says("HELO"));
    let first = says("EHLO").replacen("250 ", "250-", 1);
    assert_eq!(client.command("ehlo client.test"), format!("{first}\n250-SIZE 1000\n250-PIPELINING\n250 8BITMIME"));
    converse(
        &mut client,
        &[
            ("MAIL FROM:<a@b.c>", "250 MAIL FROM accepted"),
            ("RCPT TO:<bob@rcpt.test>", "250 RCPT TO accepted"),
            ("DATA", "354 continue.  finished with \"\\r\\n.\\r\\n\""),
        ],
    );
    assert_matches(r"^250 OK ID$", &client.command("Subject: x\r\n\r\nx\r\n."));
    assert_eq!(client.command("QUIT"), "221 mx.test closing connection");
    assert_eq!(client.rest(), "");

    // With them.
    let (mut client, greeting) = Client::connect(server.listener(1));
    assert_matches(r"^220 2\.0\.0 mx\.test ESMTP Posthaste ", &greeting);
    let us = client.local_addr();
    assert_eq!(client.command("HELO client.test"), format!("250 2.0.0 mx.test says HELO to {us}"));
    assert_eq!(
        client.command("EHLO client.test"),
        format!(
            "250-mx.test says EHLO to {us}\n250-STARTTLS\n250-ENHANCEDSTATUSCODES\n250-X-Shown here\n250-SIZE 1000\n\
             250-PIPELINING\n250 8BITMIME"
        )
    );
    let long_domain = format!("EHLO {}", "a".repeat(256));
    converse(
        &mut client,
        &[
            ("NOOP", "250 2.0.0 OK"),
            ("noop ignored", "250 2.0.0 OK"),
            ("VRFY bob", "252 2.1.5 cannot verify, but will accept"),
            ("EXPN list", "502 5.5.1 EXPN not implemented"),
            ("RCPT TO:<bob@rcpt.test>", "503 5.5.1 RCPT TO without MAIL FROM"),
            ("DATA", "503 5.5.1 DATA without MAIL FROM"),
            ("MAIL FROM:<a@b.c>", "250 2.0.0 MAIL FROM accepted"),
            ("MAIL FROM:<a@b.c>", "501 5.5.1 MAIL FROM already established"),
            ("DATA", "503 5.5.1 DATA without RCPT TO"),
            ("RCPT TO:<bob@elsewhere.test>", "550 5.7.1 relaying denied"),
            ("RCPT TO:<bob@rcpt.test>", "250 2.0.0 RCPT TO accepted"),
            ("RSET", "250 2.0.0 OK"),
            ("DATA", "503 5.5.1 DATA without MAIL FROM"),
            ("MAIL FROM:<a@b.c> SIZE=1001", "552 5.3.4 message size limit exceeded"),
            ("MAIL FROM:<a@b.c> SIZE=1000 BODY=8BITMIME", "250 2.0.0 MAIL FROM accepted"),
            ("RSET", "250 2.0.0 OK"),
            ("MAIL FROM:<>", "250 2.0.0 MAIL FROM accepted"),
            ("RCPT TO:<PostMaster>", "250 2.0.0 RCPT TO accepted"),
            ("RCPT TO:<abuse@mx.test>", "250 2.0.0 RCPT TO accepted"),
            ("RCPT TO:<bob@mx.test>", "550 5.7.1 relaying denied"),
            ("RSET", "250 2.0.0 OK"),
        ],
    );
    // What is wrong in itself; each counts as an error of the session, so over several.
    let mut wrong = [
        ("FROBNICATE", "500 5.5.2 unrecognized command"),
        ("EHLO", "501 5.5.2 invalid EHLO"),
        ("EHLO a<b", "501 5.5.2 invalid EHLO"),
        ("HELO a b", "501 5.5.2 invalid HELO"),
        (&long_domain, "501 5.5.2 invalid EHLO"),
        ("MAIL FROM:a@b.c>", "501 5.5.2 MAIL FROM syntax error"),
        ("MAIL FROM:<a..b@c.test>", "501 5.5.2 MAIL FROM syntax error"),
        ("MAIL FROM:<a@b.c> FROB=1", "555 5.5.4 unsupported parameter"),
        ("MAIL FROM:<a@b.c> RET=FULL", "555 5.5.4 unsupported parameter"),
        ("DATA now", "501 5.5.4 unexpected argument to DATA"),
        ("RSET now", "501 5.5.4 invalid arguments to RSET"),
        ("STARTTLS now", "501 5.5.4 Syntax error (no parameters allowed)"),
        ("BDAT 0 LAST", "500 5.5.2 unrecognized command"),
        ("XCLIENT ADDR=1.2.3.4", "500 5.5.2 unrecognized command"),
    ]
    .into_iter();
    let mut client = Client::hello(server.listener(1));
    converse(&mut client, &wrong.by_ref().take(7).collect::<Vec<_>>());
    let mut client = Client::hello(server.listener(1));
    converse(&mut client, &wrong.collect::<Vec<_>>());
    converse(
        &mut client,
        &[("MAIL FROM:<a@b.c>", "250 2.0.0 MAIL FROM accepted"), ("RCPT TO:<@>", "501 5.5.2 RCPT TO syntax error")],
    );

    let (mut client, greeting) = Client::connect(server.listener(2));
    assert_eq!(greeting, "220 mail ready");
    assert_eq!(client.command("MAIL FROM:<a@b.c>"), "550 RFC2821 HELO/EHLO needed");
    assert_matches("^250-other.test says EHLO to ", &client.command("EHLO x"));
    assert_matches("^550 ", &client.command("MAIL FROM:<>"));
    converse(&mut client, &[("MAIL FROM:<a@b.c>", "250 MAIL FROM accepted")]);
    assert_matches("^5\\d\\d ", &client.command("RCPT TO:<bob@[127.0.0.1]>"));
    assert_eq!(client.command("QUIT"), "221 other.test closing connection");
}

#[test]
fn limits_hold_and_the_session_goes_on() {
    let server = server(
        "",
        "SMTP_Extensions = ( ENHANCEDSTATUSCODES )\n\
         Listen \"127.0.0.1:0\" { Max_Message_Size = 1000 }\n\
         Listen \"127.0.0.2:0\" { Max_Recipients_Per_Message = 2 Max_Receptions_Per_Connection = 2 }\n\
         Listen \"127.0.0.3:0\" { Max_Recipients_Per_Connection = 2 }\n\
         Listen \"127.0.0.4:0\" { Max_Session_Errors = 3 }\n\
         Listen \"127.0.0.5:0\" { Idle_Time = 1 }\n\
         Listen \"127.0.0.6:0\" { Listener_Sessions = 2 }\n\
         Listen \"127.0.0.7:0\" { Peer 127.0.0.0/8 { Listener_Sessions = 1 } }\n\
         Listen \"127.0.0.8:0\" { Max_Hops = 3 }\n",
    );
    // Size: one below, at, and above the limit.
    let mut client = Client::hello(server.listener(0));
    for (size, wanted) in [(999, "^250 "), (1000, "^250 "), (1001, "^552 5.3.4 message size limit exceeded$")] {
        let head = "Subject: x\r\n\r\n";
        let lines = "x".repeat(size - head.len() - 2);
        let message = format!("{head}{lines}\r\n");
        assert_eq!(message.len(), size);
        converse(
            &mut client,
            &[
                ("MAIL FROM:<a@b.c>", "250 2.0.0 MAIL FROM accepted"),
                ("RCPT TO:<bob@rcpt.test>", "250 2.0.0 RCPT TO accepted"),
            ],
        );
        client.command("DATA");
        assert_matches(wanted, &client.command(&(message + ".")));
    }
    server.wait_for_log("rejectlog.ec", |line| {
        line.contains("P=\"reading body\" E=552 M=- ") && line.ends_with("5.3.4 message size limit exceeded")
    });

    // Lines: 4096 octets of MAIL are read, more are not; the session stays.
    let mut client = Client::hello(server.listener(0));
    let line = |length: usize| {
        let head = "MAIL FROM:<a@b.c> AAAA=";
        format!("{head}{}", "x".repeat(length - head.len() - 2))
    };
    assert_eq!(client.command(&line(4096)), "555 5.5.4 unsupported parameter");
    assert_eq!(client.command(&line(4097)), "500 5.5.2 line too long");
    assert_eq!(client.command(&line(100_000)), "500 5.5.2 line too long");
    assert_eq!(client.command("NOOP"), "250 2.0.0 OK");

    // Recipients of a message, and messages of a connection.
    let mut client = Client::hello(server.listener(1));
    let too_many = "452 4.5.3 Service unavailable, recipients per message limit reached";
    converse(
        &mut client,
        &[
            ("MAIL FROM:<a@b.c>", "250 2.0.0 MAIL FROM accepted"),
            ("RCPT TO:<one@rcpt.test>", "250 2.0.0 RCPT TO accepted"),
            ("RCPT TO:<two@rcpt.test>", "250 2.0.0 RCPT TO accepted"),
            ("RCPT TO:<three@rcpt.test>", too_many),
        ],
    );
    client.command("DATA");
    assert_matches("^250 ", &client.command("Subject: x\r\n\r\nx\r\n."));
    client.deliver("a@b.c", &["one@rcpt.test"], "Subject: x\n\nx\n");
    assert_eq!(client.command("MAIL FROM:<a@b.c>"), "421 4.5.3 Service unavailable, batch limit reached");
    assert_eq!(client.rest(), "");

    // Recipients of a connection.
    let mut client = Client::hello(server.listener(2));
    client.deliver("a@b.c", &["one@rcpt.test"], "Subject: x\n\nx\n");
    converse(
        &mut client,
        &[
            ("MAIL FROM:<a@b.c>", "250 2.0.0 MAIL FROM accepted"),
            ("RCPT TO:<two@rcpt.test>", "250 2.0.0 RCPT TO accepted"),
            ("RCPT TO:<three@rcpt.test>", "452 4.5.3 Service unavailable, recipients per connection limit reached"),
            ("RSET", "250 2.0.0 OK"),
        ],
    );
    assert_matches("^421 ", &client.command("MAIL FROM:<a@b.c>"));

    // Errors: three are borne.
    let mut client = Client::hello(server.listener(3));
    for (command, wanted) in [("WHAT", "^500 "), ("EHLO", "^501 "), ("EXPN x", "^502 ")] {
        assert_matches(wanted, &client.command(command));
    }
    assert_eq!(client.command("RCPT TO:<x@rcpt.test>"), "503 5.5.1 RCPT TO without MAIL FROM");
    assert_eq!(client.command("WHAT"), "421 4.7.0 too many errors");
    assert_eq!(client.rest(), "");

    // Idle: counted while the server waits.
    let (mut client, _) = Client::connect(server.listener(4));
    let began = Instant::now();
    assert_eq!(client.reply(), "421 4.4.2 mx.test idle timeout");
    assert_eq!(client.rest(), "");
    assert!((Duration::from_millis(900)..Duration::from_secs(5)).contains(&began.elapsed()), "{:?}", began.elapsed());

    // Sessions of a listener, and of a block of peers.
    let full = "421 4.4.5 Service unavailable, concurrency limit reached.";
    for (listener, budget) in [(5, 2), (6, 1)] {
        let mut open: Vec<Client> = (0..budget).map(|_| Client::hello(server.listener(listener))).collect();
        let (mut refused, greeting) = Client::connect(server.listener(listener));
        assert_eq!(greeting, full);
        assert_eq!(refused.rest(), "");
        let mut last = open.pop().expect("a session");
        last.command("QUIT");
        assert_eq!(last.rest(), "");
        // Its slot is free as soon as the server has closed; that is a moment after we saw it.
        wait_for("a free slot", || Client::connect(server.listener(listener)).1.starts_with("220").then_some(()));
    }
    server.wait_for_log("rejectlog.ec", |line| line.contains("E=421") && line.contains("concurrency limit reached."));

    // Hops.
    let mut client = Client::hello(server.listener(7));
    for (hops, wanted) in [(3, "^250 "), (4, "^554 5.4.6 too many hops$")] {
        let message = "Received: from a by b; Wed, 25 Nov 2026 10:00:00 +0000\n".repeat(hops) + &letter("hops", "x\n");
        assert_matches(wanted, &client.deliver("a@b.c", &["bob@rcpt.test"], &message));
    }
}

#[test]
fn pipelined_commands_are_answered_in_order_and_a_refusal_stays_with_its_recipient() {
    let server = server("", "SMTP_Extensions = ( ENHANCEDSTATUSCODES ) Listen \"127.0.0.1:0\" {}");
    let mut client = Client::hello(server.smtp());
    client.send("MAIL FROM:<a@b.c>\r\nRCPT TO:<bob@elsewhere.test>\r\nDATA\r\n");
    assert_eq!(client.reply(), "250 2.0.0 MAIL FROM accepted");
    assert_eq!(client.reply(), "550 5.7.1 relaying denied");
    assert_eq!(client.reply(), "503 5.5.1 DATA without RCPT TO");

    client.send("RSET\r\nMAIL FROM:<a@b.c>\r\nRCPT TO:<bob@rcpt.test>\r\nRCPT TO:<eve@elsewhere.test>\r\nDATA\r\n");
    for wanted in [
        "250 2.0.0 OK",
        "250 2.0.0 MAIL FROM accepted",
        "250 2.0.0 RCPT TO accepted",
        "550 5.7.1 relaying denied",
        "354 3.0.0 continue.  finished with \"\\r\\n.\\r\\n\"",
    ] {
        assert_eq!(client.reply(), wanted);
    }
    // Message, next message's commands and QUIT in one packet.
    client.send("Subject: x\r\n\r\n\n.\n\r\n..\r\nx\r\n.\r\nMAIL FROM:<a@b.c>\r\nNOOP\r\nQUIT\r\nNOOP\r\n");
    assert_matches("^250 2.0.0 OK ID$", &client.reply());
    assert_eq!(
        client.rest(),
        "250 2.0.0 MAIL FROM accepted\r\n250 2.0.0 OK\r\n221 2.3.0 mx.test closing connection\r\n"
    );
    server.wait_for_log("mainlog.ec", |line| line.contains("@R@bob@rcpt.test@a@b.c@127.0.0.1@"));
    assert_eq!(server.log("mainlog.ec").matches("@R@").count(), 1);
    let refused =
        server.log("rejectlog.ec").lines().filter(|line| line.contains("P=\"awaiting rcptto\" E=550 M=- ")).count();
    assert_eq!(refused, 2, "{}", server.log("rejectlog.ec"));

    // A client that goes before its 250 leaves nothing behind, one that never ends its data too.
    for end in ["x\r\n", "x\r\n.", "x\r\n.\r"] {
        let mut client = Client::hello(server.smtp());
        client.send("MAIL FROM:<gone@b.c>\r\nRCPT TO:<bob@rcpt.test>\r\nDATA\r\n");
        for _ in 0..3 {
            client.reply();
        }
        client.send(format!("Subject: x\r\n\r\n{end}"));
        client.finish();
        client.rest();
    }
    assert!(!server.log("mainlog.ec").contains("@gone@"));
}

#[test]
fn starttls_makes_the_session_anew() {
    let server = server(
        "",
        &format!(
            "SMTP_Extensions = ( ENHANCEDSTATUSCODES STARTTLS \"AUTH PLAIN\" XDUMPCONTEXT )\n{TLS}\n{AUTH}\n\
             Listen \"127.0.0.1:0\" {{}}\nListen \"127.0.0.2:0\" {{ STARTTLS_Injection_Policy = ignore }}\n\
             Listen \"127.0.0.3:0\" {{ Use_SSL = true SMTP_Extensions = ( ENHANCEDSTATUSCODES \"AUTH PLAIN\" ) }}"
        ),
    );
    let mut client = Client::hello(server.listener(0));
    assert_eq!(client.command(&format!("AUTH PLAIN {ANN}")), "235 2.0.0 Authed. Go on.");
    assert_eq!(client.command("STARTTLS"), "220 2.0.0 continue");
    client.start_tls();
    // What AUTH gave in clear is void: somebody in between may have said it.
    assert_eq!(client.command("MAIL FROM:<ann@sender.test>"), "250 2.0.0 MAIL FROM accepted");
    assert_eq!(client.command("RCPT TO:<eve@elsewhere.test>"), "550 5.7.1 relaying denied");
    let offered = client.command("EHLO client.test");
    assert!(!offered.contains("STARTTLS") && offered.contains("250-AUTH PLAIN\n"), "{offered}");
    assert_eq!(client.command("DATA"), "503 5.5.1 DATA without MAIL FROM");
    assert_matches("^5", &client.command("STARTTLS"));
    assert_eq!(client.command(&format!("AUTH PLAIN {ANN}")), "235 2.0.0 Authed. Go on.");
    let context = client.command("XDUMPCONTEXT");
    for line in ["[connection] tls on", "[connection] auth_user ann", "[connection] can_relay true"] {
        assert!(context.lines().any(|found| found == format!("250-{line}")), "{line}\n{context}");
    }
    assert_matches("(?m)^250-\\[connection\\] tls_cipher .+\n", &context);
    assert_matches("\n250 XDUMPCONTEXT complete$", &context);
    let reply = client.deliver("ann@sender.test", &["eve@elsewhere.test"], &letter("secret", "x\n"));
    assert_matches("^250 2.0.0 OK ID$", &reply);

    // Octets behind STARTTLS: refused and closed, or thrown away; never taken for a command.
    let mut client = Client::hello(server.listener(0));
    client.send("STARTTLS\r\nEHLO injected.test\r\n");
    let said = client.rest();
    assert!(!said.contains("says EHLO"), "{said}");
    server.wait_for_log("rejectlog.ec", |line| line.contains("STARTTLS"));
    let mut client = Client::hello(server.listener(1));
    client.send("STARTTLS\r\nEHLO injected.test\r\n");
    assert_eq!(client.reply(), "220 2.0.0 continue");
    client.start_tls();
    assert_eq!(client.command("NOOP"), "250 2.0.0 OK");
    let context = client.command("XDUMPCONTEXT");
    assert!(!context.contains("injected.test"), "{context}");

    // TLS from the first octet.
    let mut client = Client::silent(server.listener(2));
    client.start_tls();
    assert_matches("^220 2.0.0 mx.test ", &client.reply());
    assert!(!client.command("EHLO client.test").contains("STARTTLS"));
    // The trace header says how it came.
    assert_eq!(client.command(&format!("AUTH PLAIN {ANN}")), "235 2.0.0 Authed. Go on.");
    client.deliver("ann@sender.test", &["bob@rcpt.test"], &letter("traced", "x\n"));
    let id = server
        .wait_for_log("mainlog.ec", |line| line.contains("@R@bob@rcpt.test@ann@"))
        .split('@')
        .nth(1)
        .map(str::to_owned);
    let body = server.console(&format!("message details full {}", id.expect("an id")));
    assert!(body.contains("auth_user"), "{body}");
}

#[test]
fn auth_proves_who_may_relay() {
    let server = server(
        "",
        &format!(
            "SMTP_Extensions = ( ENHANCEDSTATUSCODES \"AUTH PLAIN\" \"AUTH LOGIN\" \"AUTH CRAM-MD5\" )\n{AUTH}\n\
             Listen \"127.0.0.1:0\" {{}}\nListen \"127.0.0.2:0\" {{ SMTP_Extensions = ( ENHANCEDSTATUSCODES ) }}\n\
             Listen \"127.0.0.3:0\" {{ AuthPlainParameters = [ uri = \"file://@dir@/nosuchfile\" ] }}"
        ),
    );
    let (mut client, _) = Client::connect(server.listener(0));
    let offered = client.command("EHLO client.test");
    assert_eq!(offered.matches("AUTH").count(), 2, "{offered}");
    assert!(offered.contains("\n250-AUTH=PLAIN LOGIN CRAM-MD5\n250-AUTH PLAIN LOGIN CRAM-MD5\n"), "{offered}");
    converse(
        &mut client,
        &[
            ("AUTH GSSAPI", "504 5.5.4 mechanism not supported"),
            ("AUTH PLAIN", "334 "),
            ("*", "501 5.7.0 authentication cancelled"),
            ("AUTH PLAIN AGFubgB3cm9uZw==", "535 5.7.8 Authentication failed."),
            ("AUTH LOGIN", "334 VXNlcm5hbWU6"),
            ("YW5u", "334 UGFzc3dvcmQ6"),
            ("czNjcmV0", "235 2.0.0 Authed. Go on."),
            ("AUTH PLAIN AGFubgBzM2NyZXQ=", "503 5.5.1 already authenticated"),
        ],
    );
    assert!(!client.command("EHLO client.test").contains("AUTH"), "who is in needs no login");
    let reply = client.deliver("ann@sender.test", &["eve@elsewhere.test"], &letter("relayed", "x\n"));
    assert_matches("^250 2.0.0 OK ID$", &reply);

    // The third failure ends the session.
    let mut client = Client::hello(server.listener(0));
    for _ in 0..2 {
        assert_eq!(client.command("AUTH PLAIN AGFubgB3cm9uZw=="), "535 5.7.8 Authentication failed.");
    }
    let last = client.command("AUTH PLAIN AGFubgB3cm9uZw==") + &client.rest();
    assert_matches("421 4.7.0 too many errors", &last);
    // Both outcomes are in the acctlog, without any password.
    let user = |result: u8| format!("@127.0.0.1:0@127\\.0\\.0\\.1:\\d+@ann@{result}$");
    server.wait_for_log("acctlog.ec", |line| {
        matches(&format!("^\\d{{10}}@N{}", user(1)), line) || line.ends_with("@ann@1")
    });
    server.wait_for_log("acctlog.ec", |line| line.contains("@N@") && line.ends_with("@ann@0"));
    assert!(!server.log("acctlog.ec").contains("wrong"));

    // Not offered: not there. A source that cannot be read is nobody's wrong password.
    let mut client = Client::hello(server.listener(1));
    assert_matches("^50[0-4] ", &client.command(&format!("AUTH PLAIN {ANN}")));
    let mut client = Client::hello(server.listener(2));
    assert_eq!(client.command(&format!("AUTH PLAIN {ANN}")), "454 4.7.0 temporary authentication failure");

    // A user who is added needs no restart.
    write(&server.dir.join("users"), "ann:s3cret\nnew:pw\n");
    let mut client = Client::hello(server.listener(0));
    assert_eq!(client.command("AUTH PLAIN AG5ldwBwdw=="), "235 2.0.0 Authed. Go on.");
}

#[test]
fn trusted_commands_and_proxy_headers_name_the_client() {
    let server = server(
        "",
        "SMTP_Extensions = ( ENHANCEDSTATUSCODES )\nContext = [ site = \"one\" ]\n\
         Listen \"127.0.0.1:0\" {\n\
           Peer 127.0.0.1 { SMTP_Extensions = ( ENHANCEDSTATUSCODES XCLIENT XREMOTEIP XSETCONTEXT XDUMPCONTEXT ) }\n\
           Peer 198.51.100.0/24 { Relay_Hosts = ( 198.51.100.0/24 ) Context = [ site = \"far\" ] }\n\
         }\n\
         Listen \"127.0.0.2:0\" { Proxy_Protocol = true Proxy_Protocol_Timeout = 1\n\
           Peer 198.51.100.9 { Relay_Hosts = ( 198.51.100.9 ) } }\n",
    );
    // XCLIENT: a new greeting, the rights of the new address, and its address in the log.
    let (mut client, _) = Client::connect(server.listener(0));
    assert_matches("(?m)^250-XCLIENT", &client.command("EHLO proxy.test"));
    assert_matches("^501 ", &client.command("XCLIENT ADDR=nonsense"));
    assert_matches(
        "^220 2.0.0 mx.test ",
        &client.command("XCLIENT ADDR=198.51.100.7 PORT=4711 NAME=far.example HELO=far.example"),
    );
    assert!(!client.command("EHLO far.example").contains("XCLIENT"), "the new address is not trusted");
    let reply = client.deliver("ann@sender.test", &["eve@elsewhere.test"], &letter("xclient", "x\n"));
    assert_matches("^250 2.0.0 OK ID$", &reply);
    let line = server.wait_for_log("mainlog.ec", |line| line.contains("@R@eve@elsewhere.test@"));
    assert_eq!(line.split('@').nth(9), Some("198.51.100.7"), "{line}");
    assert_matches("^50[0-4] ", &client.command("XCLIENT ADDR=127.0.0.1"));

    // XREMOTEIP: no greeting. XSETCONTEXT and XDUMPCONTEXT.
    let mut client = Client::hello(server.listener(0));
    assert_eq!(client.command("XSETCONTEXT colour=dark+20red can_relay=true"), "250 2.0.0 OK");
    let context = client.command("XDUMPCONTEXT");
    for line in ["[connection] colour dark red", "[connection] can_relay true", "[connection] site one"] {
        assert!(context.lines().any(|found| found == format!("250-{line}")), "{line}\n{context}");
    }
    assert_eq!(client.command("XREMOTEIP 198.51.100.8"), "250 2.0.0 OK");
    client.deliver("ann@sender.test", &["bob@rcpt.test"], &letter("xremoteip", "x\n"));
    server.wait_for_log("mainlog.ec", |line| line.contains("@R@bob@rcpt.test@ann@sender.test@198.51.100.8@"));

    // Not trusted: not there.
    let (mut client, _) = Client::connect_from("127.0.0.9", server.listener(0));
    ready(&mut client);
    for command in ["XCLIENT ADDR=127.0.0.1", "XREMOTEIP 127.0.0.1", "XSETCONTEXT can_relay=true", "XDUMPCONTEXT"] {
        assert_matches("^50[0-4] ", &client.command(command));
    }

    // PROXY: text and binary; what is no header is closed without an octet.
    let mut client = Client::silent(server.listener(1));
    client.send("EHLO client.test\r\n");
    assert_eq!(client.rest(), "");
    let mut client = Client::silent(server.listener(1));
    assert_eq!(client.rest(), "", "no header in time");
    let v2: Vec<u8> = [
        &b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c"[..],
        &[198, 51, 100, 9, 10, 0, 0, 1],
        &4000u16.to_be_bytes(),
        &25u16.to_be_bytes(),
    ]
    .concat();
    for header in [b"PROXY TCP4 198.51.100.9 10.0.0.1 4000 25\r\n".to_vec(), v2] {
        let mut client = Client::silent(server.listener(1));
        client.send(&header);
        assert_matches("^220 ", &client.reply());
        assert_matches("^250-mx.test says EHLO to 198.51.100.9:4000\n", &client.command("EHLO client.test"));
        let reply = client.deliver("ann@sender.test", &["eve@elsewhere.test"], &letter("proxied", "x\n"));
        assert_matches("^250 2.0.0 OK ID$", &reply);
    }
    wait_for("two receptions", || {
        (server.log("mainlog.ec").matches("@R@eve@elsewhere.test@ann@sender.test@198.51.100.9@").count() == 2)
            .then_some(())
    });
    // Header, TLS or not, and commands may come in one packet, or in pieces.
    let mut client = Client::silent(server.listener(1));
    for piece in ["PROXY TCP4 198.51.", "100.9 10.0.0.1 4000 25\r", "\nNOOP\r\n"] {
        client.send(piece);
    }
    assert_matches("^220 ", &client.reply());
    assert_eq!(client.command(""), "250 2.0.0 OK");
    // Without an address in it, the socket's counts.
    for local in [&b"PROXY UNKNOWN\r\n"[..], b"\r\n\r\n\0\r\nQUIT\n\x20\x00\0\0"] {
        let mut client = Client::silent(server.listener(1));
        client.send(local);
        assert_matches("^220 ", &client.reply());
        let us = client.local_addr();
        assert_matches(&format!("^250-mx.test says EHLO to {us}\n"), &client.command("EHLO client.test"));
    }
}

#[test]
fn chunks_utf8_and_dsn_parameters_where_they_are_offered() {
    let server = server(
        "",
        "SMTP_Extensions = ( ENHANCEDSTATUSCODES CHUNKING SMTPUTF8 DSN ) Max_Message_Size = 1000 Listen \"127.0.0.1:0\" {}",
    );
    let mut client = Client::hello(server.smtp());
    let begin = |client: &mut Client| {
        converse(
            client,
            &[
                ("RSET", "250 2.0.0 OK"),
                ("MAIL FROM:<a@b.c>", "250 2.0.0 MAIL FROM accepted"),
                ("RCPT TO:<bob@rcpt.test>", "250 2.0.0 RCPT TO accepted"),
            ],
        );
    };
    begin(&mut client);
    // No dot ends a chunk, and what follows the last octet is a command.
    client.send("BDAT 14\r\nSubject: x\r\n\r\nBDAT 11\r\na\r\n.\r\nb\r\n.\nBDAT 3 LAST\r\nc\r\nNOOP\r\n");
    assert_eq!(client.reply(), "250 2.0.0 14 octets received");
    assert_eq!(client.reply(), "250 2.0.0 11 octets received");
    assert_matches("^250 2.0.0 OK ID$", &client.reply());
    assert_eq!(client.reply(), "250 2.0.0 OK");
    // DATA behind BDAT is out of order; a refused chunk is still read.
    begin(&mut client);
    client.send("BDAT 14\r\nSubject: x\r\n\r\n");
    assert_eq!(client.reply(), "250 2.0.0 14 octets received");
    assert_matches("^503 5.5.1 ", &client.command("DATA"));
    client.command("RSET");
    client.send("BDAT 6 LAST\r\nQUIT\r\nNOOP\r\n");
    assert_matches("^503 5.5.1 ", &client.reply());
    assert_eq!(client.reply(), "250 2.0.0 OK");
    begin(&mut client);
    client.send(format!("BDAT 1001\r\n{}BDAT 0 LAST\r\n", "Subject: x\r\n\r\n".to_owned() + &"x".repeat(987)));
    let replies = client.reply() + "\n" + &client.reply();
    assert_matches("552 5.3.4 message size limit exceeded", &replies);

    // Addresses in UTF-8 need the parameter, and so does a message that has them.
    let mut client = Client::hello(server.smtp());
    assert_matches("^553 5.6.7 ", &client.command("MAIL FROM:<jörg@bücher.example>"));
    converse(
        &mut client,
        &[
            ("MAIL FROM:<jörg@bücher.example> SMTPUTF8", "250 2.0.0 MAIL FROM accepted"),
            ("RCPT TO:<bøb@rcpt.test> NOTIFY=SUCCESS,FAILURE ORCPT=utf-8;bøb@rcpt.test", "250 2.0.0 RCPT TO accepted"),
            ("RCPT TO:<x@rcpt.test> NOTIFY=NEVER,FAILURE", "501 5.5.2 RCPT TO syntax error"),
            ("RCPT TO:<x@rcpt.test> NOTIFY=NEVER", "250 2.0.0 RCPT TO accepted"),
        ],
    );
    client.command("DATA");
    assert_matches("^250 ", &client.command("Subject: ü\r\n\r\nx\r\n."));
    server.wait_for_log("mainlog.ec", |line| line.contains("@R@bøb@rcpt.test@jörg@"));
    converse(
        &mut client,
        &[
            ("MAIL FROM:<a@b.c> RET=HDRS ENVID=abc+20d", "250 2.0.0 MAIL FROM accepted"),
            ("RSET", "250 2.0.0 OK"),
            ("MAIL FROM:<a@b.c> RET=NONE", "501 5.5.2 MAIL FROM syntax error"),
        ],
    );
}

#[test]
fn what_was_acknowledged_survives_a_kill() {
    let mut server = server("", "SMTP_Extensions = ( ENHANCEDSTATUSCODES ) Listen \"127.0.0.1:0\" {}");
    let mut client = Client::hello(server.smtp());
    let reply = client.deliver("ann@sender.test", &["bob@rcpt.test"], &letter("kept", "x\n"));
    server.kill();
    let id = reply.strip_prefix("250 2.0.0 OK ").expect("an id").to_owned();
    let server = Server::run(&server.dir);
    let details = server.console(&format!("message details {id}"));
    assert!(details.contains(&id) && details.contains("bob@rcpt.test"), "{details}");
}

#[test]
fn headers_that_must_be_there() {
    let server = server(
        "",
        "SMTP_Extensions = ( ENHANCEDSTATUSCODES )\nListen \"127.0.0.1:0\" {}\nListen \"127.0.0.2:0\" { Pathway = strict }\n}\n\
         Pathway strict { RFC2822_Date_Header = pedantic RFC2822_Lone_LF_In_Body = pedantic RFC2822_Max_Line_Length = pedantic \
         Max_Message_Size = 100000 ",
    );
    let no_headers = "550 5.6.0 Required headers not found (see RFC2822 section 3.6)";
    let long = "x".repeat(999);
    for (listener, message, wanted) in [
        (0, "no header at all\r\n".to_owned(), no_headers.to_owned()),
        (
            0,
            "Subject: a\nb\r\n\r\nx\r\n".to_owned(),
            "550 5.6.0 Lone CR or LF in headers (see RFC2822 section 2.2)".to_owned(),
        ),
        (0, "Subject: a\r\n\r\nx\ny\r\n".to_owned(), "250".to_owned()),
        (0, format!("Subject: a\r\n\r\n{long}\r\n"), "250".to_owned()),
        (
            1,
            "Subject: a\r\n\r\nx\r\n".to_owned(),
            "550 5.6.0 Missing required RFC2822 Date field (see RFC2822 section 3.6)".to_owned(),
        ),
        (
            1,
            "Date: Wed, 25 Nov 2026 10:00:00 +0000\r\n\r\nx\ny\r\n".to_owned(),
            "550 5.6.0 Lone CR or LF in body (see RFC2822 section 2.3)".to_owned(),
        ),
        (
            1,
            format!("Date: Wed, 25 Nov 2026 10:00:00 +0000\r\n\r\n{long}\r\n"),
            "550 5.6.0 Body line too long (see RFC2822 section 3.5)".to_owned(),
        ),
    ] {
        let mut client = Client::hello(server.listener(listener));
        client.command("MAIL FROM:<a@b.c>");
        client.command("RCPT TO:<bob@rcpt.test>");
        client.command("DATA");
        let reply = client.command(&format!("{message}."));
        assert!(reply.starts_with(&wanted), "{message:.60?}: {reply}");
    }
}
