//! A new configuration in the running server: all of it or nothing, and what sessions, sockets and queued mail see of it.

mod common;

use common::next_hop::NextHop;
use common::{Client, Server, assert_matches, base_config, letter, wait_for, write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Writes the configuration anew.
fn rewrite(server: &Server, settings: &str) {
    write(&server.dir.join("posthaste.conf"), &base_config(&server.dir, settings));
}

fn reload(server: &Server, settings: &str) -> String {
    rewrite(server, settings);
    server.console("config reload")
}

fn eval(server: &Server, option: &str) -> String {
    server.console(&format!("config eval {option}")).trim().to_owned()
}

/// A port that is free now.
fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a free port").port()
}

const LISTENER: &str = "Relay_Domains = ( rcpt.test )\nsuspend_delivery = true\nESMTP_Listener { SMTP_Extensions = ( ENHANCEDSTATUSCODES ) Listen \"127.0.0.1:0\" {} }\n";

/// A policy that answers MAIL with `word`.
fn policy(word: &str) -> String {
    format!(
        "require(\"msys.core\")\nlocal mod = {{}}\nlocal calls = 0\n\
         function mod:validate_mailfrom(str, ac, vctx)\n  calls = calls + 1\n\
         vctx:set_code(250, \"{word} \" .. calls)\n  return msys.core.VALIDATE_CONT\nend\n\
         msys.registerModule(\"policy\", mod)\n"
    )
}

const SCRIPT: &str = "scriptlet \"scriptlet\" { script \"policy\" { source = \"policy\" } }\n";

#[test]
fn a_reload_is_all_or_nothing() {
    let with_policy = format!("{LISTENER}{SCRIPT}retry_interval = 100\n");
    let server = Server::start(&with_policy, &[("policy.lua", &policy("old"))]);
    assert_eq!(eval(&server, "retry_interval"), "Retry_Interval = 100");
    let mail = || Client::hello(server.smtp()).command("MAIL FROM:<ann@sender.test>");
    assert_eq!(mail(), "250 old 1");

    // Each of these is wrong in one place and right in another; nothing of them may take effect.
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let taken = taken.local_addr().expect("its address");
    let listen = format!("{with_policy}retry_interval = 200\nESMTP_Listener {{ Listen \"{taken}\" {{}} }}\n");
    for (what, settings, script, said) in [
        (
            "an unknown option",
            format!("{with_policy}retry_interval = 200\nretry_intervall = 5\n"),
            policy("new"),
            "retry_intervall",
        ),
        ("a bad value", format!("{with_policy}retry_interval = 200\ntls = maybe\n"), policy("new"), "maybe"),
        (
            "an open brace",
            format!("{with_policy}retry_interval = 200\nDomain x.test {{\n"),
            policy("new"),
            "posthaste.conf:",
        ),
        (
            "a syntax error in Lua",
            with_policy.replace("100", "200"),
            format!("{}\nfunction (", policy("new")),
            "policy.lua:",
        ),
        (
            "an error at load",
            with_policy.replace("100", "200"),
            format!("{}\nerror('at load')", policy("new")),
            "at load",
        ),
        (
            "a missing script",
            with_policy.replace("100", "200").replace("\"policy\" }", "\"nosuch\" }"),
            policy("new"),
            "nosuch",
        ),
        ("a port that is taken", listen, policy("new"), &taken.to_string()),
    ] {
        write(&server.dir.join("policy.lua"), &script);
        let answer = reload(&server, &settings);
        assert!(answer.trim_end().ends_with("Reconfigure failed."), "{what}: {answer}");
        assert!(answer.contains(said), "{what}: {answer}");
        assert_eq!(eval(&server, "retry_interval"), "Retry_Interval = 100", "{what}");
        assert_matches("^250 old ", &mail());
    }
    // By a signal the reason is in the paniclog.
    rewrite(&server, "retry_intervall = 5\n");
    server.signal("-HUP");
    server.wait_for_log("paniclog.ec", |line| line.contains("Reconfigure failed."));
    assert!(server.log("paniclog.ec").contains("retry_intervall"));
    assert_matches("^250 old ", &mail());

    // An editor that empties the file before it writes, seen in between.
    let file = server.dir.join("posthaste.conf");
    for (text, said) in [("", "the configuration is empty"), ("retry_interval = 200\n", "has no listener")] {
        write(&file, text);
        let answer = server.console("config reload");
        assert!(answer.contains(said) && answer.trim_end().ends_with("Reconfigure failed."), "{answer}");
        server.signal("-HUP");
        server.wait_for_log("paniclog.ec", |line| line.contains(said));
        assert_eq!(eval(&server, "retry_interval"), "Retry_Interval = 100", "{said}");
        assert_matches("^250 old ", &mail());
    }

    // Then it is mended.
    write(&server.dir.join("policy.lua"), &policy("new"));
    let answer = reload(&server, &with_policy.replace("100", "200"));
    assert!(!answer.contains("failed"), "{answer}");
    assert_eq!(eval(&server, "retry_interval"), "Retry_Interval = 200");
    assert_eq!(mail(), "250 new 1", "what the script counted begins anew");
    write(&server.dir.join("policy.lua"), &policy("third"));
    rewrite(&server, &with_policy.replace("100", "300"));
    server.signal("-HUP");
    wait_for("the third", || (eval(&server, "retry_interval") == "Retry_Interval = 300").then_some(()));
    assert_eq!(mail(), "250 third 1");
    // An online change leaves the scripts as they run.
    write(&server.dir.join("policy.lua"), &policy("fourth"));
    assert_matches("^Retry_Interval = 400", &server.console("config set retry_interval 400"));
    assert_eq!(mail(), "250 third 2");
    assert_eq!(eval(&server, "retry_interval"), "Retry_Interval = 400");
    // What only a start can change is named and stays; the rest is taken.
    let answer = reload(&server, &format!("{}SpoolBase = \"@dir@/elsewhere\"\n", with_policy.replace("100", "500")));
    assert!(answer.contains("Spoolbase needs a restart") && !answer.contains("failed"), "{answer}");
    assert_eq!(eval(&server, "retry_interval"), "Retry_Interval = 500");
    assert_eq!(mail(), "250 fourth 1");
    // And a reload forgets what was changed online.
    server.console("config set retry_interval 400");
    reload(&server, &with_policy.replace("100", "300"));
    assert_eq!(eval(&server, "retry_interval"), "Retry_Interval = 300");
    assert_eq!(mail(), "250 fourth 1");
    assert!(!server.dir.join("elsewhere").exists());
}

#[test]
fn sessions_go_on_unless_what_they_were_promised_has_changed() {
    let server = Server::start(&format!("{LISTENER}{SCRIPT}"), &[("policy.lua", &policy("old"))]);
    let open = || {
        let mut client = Client::hello(server.smtp());
        client.command("MAIL FROM:<ann@sender.test>");
        assert_eq!(client.command("RCPT TO:<bob@rcpt.test>"), "250 2.0.0 RCPT TO accepted");
        client
    };
    // Something else has changed: the transaction is finished, the next one sees the new generation.
    let mut client = open();
    write(&server.dir.join("policy.lua"), &policy("new"));
    let answer = reload(&server, &format!("{LISTENER}{SCRIPT}retry_interval = 50\n"));
    assert!(!answer.contains("failed"), "{answer}");
    assert_matches("^354 ", &client.command("DATA"));
    assert_matches("^250 2.0.0 OK ID$", &client.command("Subject: x\r\n\r\nx\r\n."));
    assert_eq!(client.command("MAIL FROM:<ann@sender.test>"), "250 new 1");
    assert_eq!(client.command("RSET"), "250 2.0.0 OK");

    // The rights of the client have changed: what is under way is finished, then the session ends.
    let (mut sends, mut resets, mut idle) = (open(), open(), Client::hello(server.smtp()));
    let answer = reload(&server, &format!("{LISTENER}{SCRIPT}Relay_Hosts = ( 127.0.0.0/8 )\n"));
    assert!(!answer.contains("failed"), "{answer}");
    assert_matches("^354 ", &sends.command("DATA"));
    assert_matches("^250 2.0.0 OK ID$", &sends.command("Subject: x\r\n\r\nx\r\n."));
    for (client, command) in
        [(&mut sends, "MAIL FROM:<ann@sender.test>"), (&mut resets, "RSET"), (&mut idle, "MAIL FROM:<a@b.c>")]
    {
        assert_eq!(client.command(command), "421 4.3.2 Reconfiguration in progress");
        assert_eq!(client.rest(), "");
    }
    let mut client = Client::hello(server.smtp());
    client.command("MAIL FROM:<ann@sender.test>");
    assert_eq!(client.command("RCPT TO:<eve@elsewhere.test>"), "250 2.0.0 RCPT TO accepted");

    // The site's own words.
    let own = LISTENER.replace("Listen \"", "Reconfig_Message = \"4.3.2 please reconnect\" Listen \"");
    reload(&server, &own);
    let mut client = Client::hello(server.smtp());
    reload(&server, &own.replace("rcpt.test", "other.test"));
    assert_eq!(client.command("MAIL FROM:<a@b.c>"), "421 4.3.2 please reconnect");
}

#[test]
fn sockets_come_and_go_and_no_connection_is_refused() {
    let server = Server::start(LISTENER, &[]);
    let address = server.smtp();
    // Somebody connects all the time.
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = stop.clone();
    let knocking = std::thread::spawn(move || {
        let mut served = 0;
        while !stopped.load(Ordering::SeqCst) {
            let (mut client, greeting) = Client::connect(address);
            assert_matches("^220 ", &greeting);
            assert_matches("^221 ", &client.command("QUIT"));
            served += 1;
        }
        served
    });
    let second: SocketAddr = format!("127.0.0.2:{}", free_port()).parse().expect("an address");
    let with_second =
        format!("{LISTENER}ESMTP_Listener {{ Listen \"{second}\" {{ Banner_Hostname = second.test }} }}\n");
    assert!(TcpStream::connect(second).is_err());
    for _ in 0..5 {
        let answer = reload(&server, &with_second);
        assert!(!answer.contains("failed"), "{answer}");
        let (mut live, greeting) = Client::connect(second);
        assert_matches("^220 2.0.0 second.test ", &greeting);
        live.command("EHLO client.test");
        let answer = reload(&server, LISTENER);
        assert!(!answer.contains("failed"), "{answer}");
        wait_for("the second listener to be gone", || TcpStream::connect(second).is_err().then_some(()));
        // The session that it has still ends in order.
        assert_matches("^421 4.3.2 ", &live.command("MAIL FROM:<a@b.c>"));
        // `enable = false` closes as well.
        reload(&server, &with_second.replace("second.test }", "second.test Enable = false }"));
        assert!(TcpStream::connect(second).is_err());
    }
    stop.store(true, Ordering::SeqCst);
    let served = knocking.join().expect("nobody was turned away");
    assert!(served > 5, "{served}");
}

#[test]
fn queued_mail_sees_changed_options_at_its_next_attempt() {
    let next = NextHop::answering(|said| said.line.contains("<later").then(|| "451 4.7.1 later".to_owned()));
    let settings = format!(
        "Relay_Domains = ( rcpt.test )\nGateway = \"{}\"\nretry_interval = 3600\nRelay_Hosts = ( 127.0.0.0/8 )\n\
         Domain quiet.test {{ generate_bounces = false }}\n\
         ESMTP_Listener {{ SMTP_Extensions = ( ENHANCEDSTATUSCODES ) Listen \"127.0.0.1:0\" {{}} }}\n",
        next.gateway()
    );
    let server = Server::start(&settings, &[]);
    let mut client = Client::hello(server.smtp());
    client.deliver("", &["later@rcpt.test"], &letter("queued", "x\n"));
    let domain = server.wait_for_log("mainlog.ec", |line| line.contains("@T@"));
    let domain = domain.split('@').nth(5).expect("a routing domain").to_owned();
    // Older than a second it is by now, or will be.
    let answer = reload(&server, &format!("{settings}message_expiration = 1\n"));
    assert!(!answer.contains("failed"), "{answer}");
    std::thread::sleep(std::time::Duration::from_millis(1100)); // the age is the system's clock's
    assert_matches("1 messages requeued", &server.console(&format!("flush domain {domain}")));
    let failed = server.wait_for_log("mainlog.ec", |line| line.contains("@P@"));
    assert!(failed.ends_with("554 5.4.7 [internal] exceeded max time without delivery"), "{failed}");
    assert_eq!(next.count("RCPT TO:<later"), 2, "the attempt was made");

    // Suspended by one reload, released by the next.
    reload(&server, &format!("{settings}suspend_delivery = true\n"));
    let mut client = Client::hello(server.smtp());
    client.deliver("ann@sender.test", &["now@rcpt.test"], &letter("suspended", "x\n"));
    assert!(next.messages().is_empty());
    reload(&server, &settings);
    next.wait_for(1);
}
