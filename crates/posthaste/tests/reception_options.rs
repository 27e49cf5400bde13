//! Options of reception through the running server, one by one: the envelope, the content, budgets of sessions and time, TLS.

mod common;

use common::next_hop::NextHop;
use common::{Client, Server, assert_matches, certificate, letter};
use rcgen::{BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A server that keeps what it takes.
fn server(settings: &str, listener: &str) -> Server {
    Server::start(
        &format!(
            "suspend_delivery = true\nRelay_Domains = ( rcpt.test )\n{settings}\nESMTP_Listener {{\n{listener}\n}}\n"
        ),
        &[],
    )
}

#[test]
fn what_an_envelope_may_look_like() {
    let server = server(
        "Pathway loose { RFC2821_Pedantic_Address_Rules = false }\n\
         Pathway blanks { RFC2821_Allow_Whitespace_In_Envelope = true }",
        "Listen \"127.0.0.1:0\" {}\n\
         Listen \"127.0.0.2:0\" { Pathway = loose }\n\
         Listen \"127.0.0.3:0\" { Pathway = blanks }\n\
         Listen \"127.0.0.4:0\" { Allow_Trailing_Whitespace_In_Commands = true }\n\
         Listen \"127.0.0.5:0\" { Domain_For_Unqualified_Sender_Address = here.test }",
    );
    let (fine, wrong) = ("250 MAIL FROM accepted", "501 MAIL FROM syntax error");
    for (listener, command, wanted) in [
        (0, "MAIL FROM:<a..b@c.test>", wrong),
        (1, "MAIL FROM:<a..b@c.test>", fine),
        (1, "MAIL FROM:<ab.@c.test>", fine),
        (0, "MAIL FROM:<a@c.test> ", wrong),
        (1, "MAIL FROM:<a@c.test>  ", fine),
        (2, "MAIL FROM:<a@c.test> ", fine),
        (2, "MAIL FROM:<a..b@c.test>", wrong),
        (0, "MAIL FROM:< a@c.test >", wrong),
        (3, "MAIL FROM:< a@c.test >", fine),
        (0, "MAIL FROM:<ann>", fine),
    ] {
        let mut client = Client::hello(server.listener(listener));
        assert_eq!(client.command(command), wanted, "{listener} {command}");
    }
    for (listener, logged) in
        [(0, "@R@bob@rcpt.test@ann@@127.0.0.1@"), (4, "@R@bob@rcpt.test@ann@here.test@127.0.0.1@")]
    {
        let mut client = Client::hello(server.listener(listener));
        assert_matches("^250 OK ID$", &client.deliver("ann", &["bob@rcpt.test"], &letter("x", "x\n")));
        server.wait_for_log("mainlog.ec", |line| line.contains(logged));
    }
}

#[test]
fn what_a_content_must_be_and_what_is_added() {
    let next = NextHop::start();
    let server = Server::start(
        &format!(
            "Gateway = \"{}\"\nRelay_Domains = ( rcpt.test )\nMax_Header_Size = 2000\n\
             Pathway bare {{ RFC2822_MessageID_Header = ignore RFC2822_Date_Header = ignore RFC2822_Trace_Headers = false }}\n\
             Pathway short {{ RFC2822_Max_Line_Length = 100 RFC2822_Max_Line_Length_Policy = reject }}\n\
             Pathway cut {{ RFC2822_Max_Line_Length = 100 RFC2822_Max_Line_Length_Policy = fix }}\n\
             Pathway any {{ RFC2822_Missing_Headers = allow }}\n\
             ESMTP_Listener {{\n\
               Listen \"127.0.0.1:0\" {{ Received_Hostname = seen.test }}\n\
               Listen \"127.0.0.2:0\" {{ Pathway = bare }} Listen \"127.0.0.3:0\" {{ Pathway = short }}\n\
               Listen \"127.0.0.4:0\" {{ Pathway = cut }} Listen \"127.0.0.5:0\" {{ Pathway = any }} }}",
            next.gateway()
        ),
        &[],
    );
    let send = |listener: usize, to: &str, content: &str| {
        let mut client = Client::hello(server.listener(listener));
        client.deliver("ann@sender.test", &[&format!("{to}@rcpt.test")], content)
    };
    let long = "x".repeat(120);
    for (listener, to, content, wanted) in [
        (0, "usual", "Return-Path: <forged@x.test>\nSubject: s\n\nb\n", "^250 "),
        (1, "bare", "Subject: s\n\nb\n", "^250 "),
        (2, "short", &format!("Subject: s\n\n{long}\n"), "^550 Body line too long"),
        (2, "short2", "Subject: s\n\nb\n", "^250 "),
        (3, "cut", &format!("Subject: s\n\n{long}\n"), "^250 "),
        (0, "none", "no header\n", "^550 Required headers not found"),
        (4, "any", "no header\n", "^250 "),
        (0, "head", &format!("Subject: {}\n\nb\n", "y".repeat(2000)), "^552 message header size limit exceeded$"),
    ] {
        assert_matches(wanted, &send(listener, to, content));
    }
    let usual = next.wait_for_rcpt("usual@rcpt.test");
    assert_matches(
        r"^<ID@mx\.test>$".replace("ID", r"[0-9A-F.]+").as_str(),
        &usual.header("Message-ID").expect("an id"),
    );
    assert!(usual.header("Date").is_some());
    assert_eq!(usual.headers("Return-Path"), ["<ann@sender.test>"]);
    assert_matches(
        r"^from \[127\.0\.0\.1\] .* by seen\.test \(envelope-from <ann@sender\.test>\)",
        &usual.headers("Received")[0],
    );
    let bare = next.wait_for_rcpt("bare@rcpt.test");
    // The client ends the body with one line end more.
    assert_eq!(bare.content(), "Subject: s\r\n\r\nb\r\n\r\n", "nothing is added");
    let cut = next.wait_for_rcpt("cut@rcpt.test");
    assert!(cut.body().split("\r\n").all(|line| line.len() <= 100), "{}", cut.body());
    assert_eq!(cut.body().replace("\r\n", ""), long);
    assert!(next.wait_for_rcpt("any@rcpt.test").content().ends_with("no header\r\n\r\n"));
}

#[test]
fn budgets_of_sessions_recipients_and_time() {
    let server = server(
        "Max_Recipients_Hard = 2\nPathway slow { Inbound_Throttle_Messages = 2/1 }",
        "Listen \"127.0.0.1:0\" { Service_Sessions = 2 } Listen \"127.0.0.2:0\" { Service_Sessions = 2 }\n\
         Listen \"127.0.0.3:0\" { Max_Session_Time = 1 } Listen \"127.0.0.4:0\" { Pathway = slow }",
    );
    // One budget over the listeners of the service.
    let full = "421 4.4.5 Service unavailable, concurrency limit reached.";
    let open = [Client::hello(server.listener(0)), Client::hello(server.listener(1))];
    assert_eq!(Client::connect(server.listener(0)).1, full);
    assert_eq!(Client::connect(server.listener(1)).1, full);
    drop(open);
    // A busy session ends, too.
    let mut client = Client::hello(server.listener(2));
    let began = Instant::now();
    let last = loop {
        let reply = client.command("VRFY x");
        if !reply.starts_with("252 ") {
            break reply;
        }
        std::thread::sleep(Duration::from_millis(50));
        assert!(began.elapsed() < Duration::from_secs(20));
    };
    assert_eq!(last, "421 mx.test session time exceeded");
    // Recipients, where nothing else bounds them.
    let mut client = Client::hello(server.listener(3));
    client.command("MAIL FROM:<a@b.c>");
    for _ in 0..2 {
        assert_eq!(client.command("RCPT TO:<bob@rcpt.test>"), "250 RCPT TO accepted");
    }
    assert_matches("^452 .*recipients per message limit reached$", &client.command("RCPT TO:<bob@rcpt.test>"));
    // Mail above the rate is delayed, and taken.
    let began = Instant::now();
    for _ in 0..4 {
        client.command("RSET");
        assert_eq!(client.command("MAIL FROM:<a@b.c>"), "250 MAIL FROM accepted");
    }
    assert!(began.elapsed() >= Duration::from_millis(900), "{:?}", began.elapsed());
}

/// An authority, and a certificate and key of it, as PEM.
fn authority() -> (String, String, String) {
    let mut params = CertificateParams::new(Vec::new()).expect("parameters");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, "Test CA");
    let key = KeyPair::generate().expect("a key");
    let ca = params.self_signed(&key).expect("a certificate").pem();
    let issuer = Issuer::new(params, key);
    let mut params = CertificateParams::new(vec!["client.test".to_owned()]).expect("parameters");
    params.distinguished_name.push(DnType::CommonName, "a client");
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    let key = KeyPair::generate().expect("a key");
    (ca, params.signed_by(&key, &issuer).expect("a certificate").pem(), key.serialize_pem())
}

/// A client that shows a certificate.
fn client_with(certificate: &str, key: &str) -> Arc<rustls::ClientConfig> {
    let usual = common::client_tls();
    let chain = vec![CertificateDer::from_pem_slice(certificate.as_bytes()).expect("a certificate")];
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).expect("a key");
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    let resolver = rustls::sign::SingleCertAndKey::from(
        rustls::sign::CertifiedKey::from_der(chain, key, &provider).expect("a pair"),
    );
    let mut config = (*usual).clone();
    config.client_auth_cert_resolver = Arc::new(resolver);
    Arc::new(config)
}

#[test]
fn certificates_of_clients_and_versions_of_tls() {
    let (cert, key) = certificate();
    let (ca, client_cert, client_key) = authority();
    let (other_cert, other_key) = certificate();
    let server = Server::start(
        "suspend_delivery = true\n\
         ESMTP_Listener { SMTP_Extensions = ( STARTTLS XDUMPCONTEXT ) TLS_Verified_Peer_Can_Relay = true\n\
           TLS_Certificate = \"@dir@/cert.pem\" TLS_Key = \"@dir@/key.pem\" TLS_Client_CA = \"@dir@/ca.pem\"\n\
           Listen \"127.0.0.1:0\" {} Listen \"127.0.0.2:0\" { TLS_Verify_Mode = none }\n\
           Listen \"127.0.0.3:0\" { TLS_Verify_Mode = require }\n\
           Listen \"127.0.0.4:0\" { TLS_Protocols = \"+ALL:-TLSv1.3\" TLS_Ciphers = \"ECDHE-ECDSA-AES256-GCM-SHA384\" }\n\
           Listen \"127.0.0.5:0\" { TLSv13_Ciphersuites = TLS_CHACHA20_POLY1305_SHA256 } }",
        &[("cert.pem", &cert), ("key.pem", &key), ("ca.pem", &ca)],
    );
    let known = client_with(&client_cert, &client_key);
    let stranger = client_with(&other_cert, &other_key);
    // The context after STARTTLS; `None`: there is no session.
    let context = |listener: usize, config: &Arc<rustls::ClientConfig>| {
        let mut client = Client::hello(server.listener(listener));
        assert_eq!(client.command("STARTTLS"), "220 continue");
        client.start_tls_as(config.clone());
        let said = if client.try_send("EHLO client.test\r\n") { client.reply() } else { String::new() };
        said.starts_with("250").then(|| client.command("XDUMPCONTEXT"))
    };
    let has = |context: &str, line: &str| context.lines().any(|found| found == format!("250-[connection] {line}"));
    let nobody = common::client_tls();
    for (listener, config, session, shown, verified) in [
        (0, &known, true, true, true),
        (0, &stranger, true, true, false),
        (0, &nobody, true, false, false),
        (1, &known, true, false, false),
        (2, &known, true, true, true),
        (2, &stranger, false, false, false),
        (2, &nobody, false, false, false),
    ] {
        let context = context(listener, config);
        assert_eq!(context.is_some(), session, "{listener} {context:?}");
        let Some(context) = context else { continue };
        assert_eq!(context.contains("tls_client_cert_subject "), shown, "{listener} {context}");
        assert_eq!(has(&context, "tls_client_verified yes"), verified, "{listener} {context}");
        assert_eq!(has(&context, "can_relay true"), verified, "{listener} {context}");
    }
    for (listener, cipher) in [(3, "ECDHE-ECDSA-AES256-GCM-SHA384"), (4, "TLS_CHACHA20_POLY1305_SHA256")] {
        let context = context(listener, &nobody).expect("a session");
        assert!(has(&context, &format!("tls_cipher {cipher}")), "{context}");
    }
}
