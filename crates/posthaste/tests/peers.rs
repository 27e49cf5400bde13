//! Mail to and from real programs: swaks and Postfix as clients, Postfix as the next hop, in clear and over TLS.

mod common;

use common::postfix::{self, Postfix};
use common::{Client, Server, letter, wait_for, write};
use std::path::Path;
use std::process::Command;

/// A certificate for `mx.test`, made for the test.
fn certificate(dir: &Path) {
    let made =
        rcgen::generate_simple_self_signed(vec!["mx.test".to_owned(), "postfix.test".to_owned()]).expect("rcgen");
    write(&dir.join("cert.pem"), &made.cert.pem());
    write(&dir.join("key.pem"), &made.signing_key.serialize_pem());
}

/// A server that takes mail for everybody at `rcpt.test` and has nowhere to send it.
fn last_hop(extensions: &str) -> Server {
    let dir = tempfile::tempdir().expect("tempdir").keep();
    certificate(&dir);
    write(&dir.join("users"), "ann:s3cret pass\n");
    let text = format!(
        "Relay_Domains = ( rcpt.test )\nsuspend_delivery = true\nESMTP_Listener {{\n  SMTP_Extensions = ( {extensions} )\n  \
         TLS_Certificate = \"{dir}/cert.pem\"  TLS_Key = \"{dir}/key.pem\"\n  \
         AuthPlainParameters = [ uri = \"file://{dir}/users\" ]  AuthLoginParameters = [ uri = \"file://{dir}/users\" ]\n  \
         AuthCramMD5Parameters = [ uri = \"file://{dir}/users\" ]\n  Listen \"127.0.0.1:0\" {{}}\n}}\n",
        dir = dir.display()
    );
    write(&dir.join("posthaste.conf"), &common::base_config(&dir, &text));
    Server::run(&dir)
}

/// A server that relays for loopback to one next hop.
fn relay_to(next: std::net::SocketAddr, settings: &str) -> Server {
    Server::start(
        &format!(
            "Relay_Hosts = ( 127.0.0.0/8 )\nGateway = \"[{}]:{}\"\n{settings}\n\
             ESMTP_Listener {{ SMTP_Extensions = ( ENHANCEDSTATUSCODES SMTPUTF8 DSN )\n Listen \"127.0.0.1:0\" {{}} }}\n",
            next.ip(),
            next.port()
        ),
        &[],
    )
}

fn swaks(server: &Server, arguments: &[&str]) -> String {
    if !Path::new("/usr/bin/swaks").exists() {
        assert!(std::env::var_os("CI").is_none(), "the tests need swaks: run `make test`");
        return String::new();
    }
    let mut command = Command::new("swaks");
    command
        .args(["--server", "127.0.0.1", "--port", &server.smtp().port().to_string()])
        .args(["--from", "ann@sender.test", "--to", "bob@rcpt.test", "--helo", "client.test"])
        .args(arguments);
    let output = common::finish(command);
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

#[test]
fn swaks_sends_in_clear_over_starttls_and_with_every_mechanism() {
    let server = last_hop("ENHANCEDSTATUSCODES STARTTLS \"AUTH PLAIN\" \"AUTH LOGIN\" \"AUTH CRAM-MD5\" XCLIENT");
    let cases: [(&str, &[&str], &str); 6] = [
        ("in clear", &[], "250 2.0.0 OK "),
        ("STARTTLS", &["--tls"], "250 2.0.0 OK "),
        ("AUTH PLAIN over TLS", &["--tls", "--auth", "PLAIN", "-au", "ann", "-ap", "s3cret pass"], "235 2.0.0 Authed"),
        ("AUTH LOGIN", &["--auth", "LOGIN", "-au", "ann", "-ap", "s3cret pass"], "235 2.0.0 Authed"),
        ("AUTH CRAM-MD5", &["--auth", "CRAM-MD5", "-au", "ann", "-ap", "s3cret pass"], "235 2.0.0 Authed"),
        ("a wrong password", &["--auth", "PLAIN", "-au", "ann", "-ap", "wrong"], "535 5.7.8"),
    ];
    for (case, arguments, wanted) in cases {
        let said = swaks(&server, arguments);
        assert!(said.is_empty() || said.contains(wanted), "{case}: {said}");
    }
}

#[test]
fn a_user_who_logs_in_may_relay_and_a_stranger_may_not() {
    let server = last_hop("ENHANCEDSTATUSCODES \"AUTH PLAIN\"");
    let refused = swaks(&server, &["--to", "eve@elsewhere.test"]);
    assert!(refused.is_empty() || refused.contains("550 5.7.1 relaying denied"), "{refused}");
    let login = ["--to", "eve@elsewhere.test", "--auth", "PLAIN", "-au", "ann", "-ap", "s3cret pass"];
    let relayed = swaks(&server, &login);
    assert!(relayed.is_empty() || relayed.contains("250 2.0.0 OK "), "{relayed}");
}

#[test]
fn postfix_as_a_client_delivers_to_us() {
    if !postfix::available() {
        return;
    }
    for (case, extensions, settings) in [
        ("in clear", "ENHANCEDSTATUSCODES", "smtp_tls_security_level = none"),
        ("over TLS", "ENHANCEDSTATUSCODES STARTTLS DSN CHUNKING", "smtp_tls_security_level = encrypt"),
    ] {
        let server = last_hop(extensions);
        let relay = format!("relayhost = [127.0.0.1]:{}\n{settings}", server.smtp().port());
        let postfix = Postfix::start(&relay);
        let (mut client, _) = Client::connect(postfix.address);
        client.command("EHLO client.test");
        let reply =
            client.deliver("ann@sender.test", &["bob@rcpt.test"], &letter("through Postfix", "..dots\n.\u{e9}\n"));
        assert!(reply.starts_with("250"), "{case}: {reply}");
        let sent = postfix.wait_for_log(|line| line.contains("to=<bob@rcpt.test>") && line.contains("status="));
        assert!(sent.contains("status=sent"), "{case}: {sent}");
        server.wait_for_log("mainlog.ec", |line| line.contains("@R@bob@rcpt.test@ann@sender.test@127.0.0.1@"));
    }
}

#[test]
fn postfix_as_the_next_hop_takes_mail_from_us() {
    if !postfix::available() {
        return;
    }
    let keys = tempfile::tempdir().expect("tempdir");
    certificate(keys.path());
    let tls = format!(
        "smtpd_tls_cert_file = {dir}/cert.pem\nsmtpd_tls_key_file = {dir}/key.pem\n",
        dir = keys.path().display()
    );
    for (case, settings, postfix_settings) in [
        ("in clear", "tls = no", String::new()),
        ("TLS if available", "tls = ifavailable", format!("{tls}smtpd_tls_security_level = may")),
        ("TLS required", "tls = required", format!("{tls}smtpd_tls_security_level = encrypt")),
    ] {
        let last = last_hop("ENHANCEDSTATUSCODES");
        let onwards = format!("relayhost = [127.0.0.1]:{}\nsmtp_tls_security_level = none\n", last.smtp().port());
        let postfix = Postfix::start(&(onwards + &postfix_settings));
        let server = relay_to(postfix.address, settings);
        let (mut client, _) = Client::connect(server.smtp());
        client.command("EHLO client.test");
        for at in 0..20 {
            let recipient = format!("bob{at}@rcpt.test");
            let reply =
                client.deliver("ann@sender.test", &[&recipient], &letter(&format!("letter {at}"), ".\n..\nx\n"));
            assert!(reply.starts_with("250 2.0.0 OK "), "{case}: {reply}");
        }
        wait_for(&format!("twenty deliveries ({case})"), || {
            (server.log("mainlog.ec").matches("@D@").count() == 20).then_some(())
        });
        wait_for("twenty letters at the end", || {
            (last.log("mainlog.ec").matches("@R@bob").count() == 20).then_some(())
        });
        if case == "TLS required" {
            assert!(!postfix.log().contains("Anonymous") || postfix.log().contains("TLS"), "{}", postfix.log());
        }
    }
}

#[test]
fn what_postfix_refuses_comes_back_as_a_report() {
    if !postfix::available() {
        return;
    }
    let postfix = Postfix::start(
        "mydestination = rcpt.test\nlocal_recipient_maps = inline:{ { bob=x }, { later=x } }\n\
         smtpd_recipient_restrictions = check_recipient_access \
         inline:{ { later@rcpt.test = 450 4.7.1 come back later } }, permit",
    );
    let server = relay_to(postfix.address, "retry_interval = 3600");
    let (mut client, _) = Client::connect(server.smtp());
    client.command("EHLO client.test");
    let reply = client.deliver("ann@sender.test", &["nobody@rcpt.test"], &letter("refused", "x\n"));
    assert!(reply.starts_with("250"), "{reply}");
    let failed = server.wait_for_log("mainlog.ec", |line| line.contains("@P@"));
    assert!(failed.contains("@5@") && failed.contains("550 5.1.1"), "{failed}");
    // The report goes back to the sender: received as internal mail from the null sender.
    server.wait_for_log("mainlog.ec", |line| line.contains("@R@ann@sender.test@@@") && line.contains("@internal@"));
    let reply = client.deliver("ann@sender.test", &["later@rcpt.test"], &letter("deferred", "x\n"));
    assert!(reply.starts_with("250"), "{reply}");
    let deferred = server.wait_for_log("mainlog.ec", |line| line.contains("@T@"));
    assert!(deferred.contains("450 4.7.1"), "{deferred}");
}
