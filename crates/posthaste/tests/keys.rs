//! Certificates and keys of a server that has given root up: read before that, and kept when a reload finds others that it
//! may not read.

mod common;

use common::next_hop::NextHop;
use common::{Client, Server, base_config, certificate, letter, server_tls, strain, wait_for, write};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

const NOBODY: u32 = 65534;

/// A new pair: the certificate for everybody, the key for root.
fn renew(folder: &Path) -> CertificateDer<'static> {
    let (cert, key) = certificate();
    write(&folder.join("cert.pem"), &cert);
    write(&folder.join("key.pem"), &key);
    mode(&folder.join("key.pem"), 0o600);
    CertificateDer::from_pem_slice(cert.as_bytes()).expect("a certificate")
}

fn mode(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).expect("the mode can be set");
}

/// The certificate that a client from `from` is shown after STARTTLS.
fn shown(from: &str, to: SocketAddr) -> CertificateDer<'static> {
    let (mut client, _) = Client::connect_from(from, to);
    let hello = client.command("EHLO client.test");
    assert!(hello.contains("STARTTLS"), "{hello}");
    assert!(client.command("STARTTLS").starts_with("220"));
    client.start_tls();
    client.command("EHLO client.test");
    client.server_certificate()
}

#[test]
fn keys_of_root_alone_serve_and_those_that_cannot_be_read_any_more_stay() {
    if !strain::is_root("the test of keys that are root's alone") {
        return;
    }
    let next = NextHop::with(&["ENHANCEDSTATUSCODES", "STARTTLS"], Some(server_tls()), |_| None);
    let keep = tempfile::tempdir().expect("a folder");
    mode(keep.path(), 0o755);
    let dir = keep.path().join("home");
    // The second folder cannot even be entered, as on Debian.
    let [open, hidden, peer] = ["open", "hidden", "peer"].map(|name| {
        let folder = keep.path().join(name);
        std::fs::create_dir(&folder).expect("the folder can be made");
        folder
    });
    std::fs::create_dir(&dir).expect("the folder can be made");
    std::os::unix::fs::chown(&dir, Some(NOBODY), Some(NOBODY)).expect("root can give it away");
    mode(&hidden, 0o700);
    let [first, second, third] = [&open, &hidden, &peer].map(|folder| renew(folder));
    let pair = |folder: &Path| {
        let folder = folder.display();
        format!("TLS_Certificate = \"{folder}/cert.pem\" TLS_Key = \"{folder}/key.pem\"")
    };
    let config = |more: &str| {
        let text = format!(
            "security {{ user = \"nobody\" }}\nRelay_Hosts = ( 127.0.0.0/8 )\nGateway = \"{}\"\ntls = required\n{}\n{more}\n\
             ESMTP_Listener {{ SMTP_Extensions = ( ENHANCEDSTATUSCODES STARTTLS )\n\
             Listen \"127.0.0.1:0\" {{ {}\n Peer 127.0.0.9 {{ {} }} }}\nListen \"127.0.0.2:0\" {{ {} }} }}\n",
            next.gateway(),
            pair(&peer),
            pair(&open),
            pair(&peer),
            pair(&hidden)
        );
        write(&dir.join("posthaste.conf"), &base_config(&dir, &text));
    };
    config("");
    let server = Server::run(&dir);
    assert_eq!(strain::status_number(server.pid(), "Uid:"), u64::from(NOBODY));
    let one = |from: &str| shown(from, server.listener(0));
    let two = || shown("127.0.0.1", server.listener(1));
    assert_eq!((one("127.0.0.1"), one("127.0.0.9"), two()), (first.clone(), third.clone(), second.clone()));
    assert!(!server.log("paniclog.ec").contains("TLS"), "{}", server.log("paniclog.ec"));
    // As a client too.
    Client::hello(server.smtp()).deliver("ann@sender.test", &["bob@rcpt.test"], &letter("secret", "x\n"));
    assert!(next.wait_for(1)[0].tls);
    let contexts = server.console("tls show cache");
    assert!(contexts.contains(&format!("certificate: {}/cert.pem", open.display())), "{contexts}");

    // Nothing is new in a folder that everybody may look into.
    config("retry_interval = 100");
    let answer = server.console("config reload");
    assert!(!answer.contains(&open.display().to_string()), "{answer}");
    assert!(answer.contains(&hidden.display().to_string()) && answer.contains("stay in use"), "{answer}");

    // Renewed, and the new keys are root's: the old pairs stay, and the operator is told.
    let renewed = renew(&open);
    assert_ne!(renewed, first);
    config("retry_interval = 200");
    let answer = server.console("config reload");
    let key = open.join("key.pem").display().to_string();
    let told = |text: &str| text.contains(&key) && text.contains("ermission denied") && text.contains("stay in use");
    assert!(told(&answer) && !answer.contains("failed"), "{answer}");
    assert!(server.console("config eval retry_interval").contains("= 200"), "the rest is in force");
    server.wait_for_log("paniclog.ec", |line| told(line));
    assert_eq!((one("127.0.0.1"), one("127.0.0.9"), two()), (first, third, second));

    // Once it may read them, the server takes them up.
    mode(&open.join("key.pem"), 0o644);
    config("retry_interval = 300");
    let answer = server.console("config reload");
    assert!(!answer.contains(&key), "{answer}");
    wait_for("the new certificate", || (one("127.0.0.1") == renewed).then_some(()));

    // The console takes up a new pair without a reload.
    let renewed = renew(&open);
    mode(&open.join("key.pem"), 0o644);
    assert_eq!(server.console("tls flush cache").lines().next(), Some("Cache flush request submitted."));
    assert_eq!(one("127.0.0.1"), renewed);
    assert_eq!(server.console("tls rekey").lines().next(), Some("Rekey request submitted."));
    assert_eq!(one("127.0.0.1"), renewed);
}
