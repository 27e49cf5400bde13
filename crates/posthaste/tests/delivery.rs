//! Delivery by the running server: routing by DNS, hosts that are down, connections and their limits, TLS, retries, what the
//! console does to the queue, and reports.

mod common;

use common::next_hop::{NextHop, Taken};
use common::{Client, Server, assert_matches, letter, matches, server_tls, wait_for};
use ph_dns::testing::Authority;
use std::time::{Duration, Instant};

const LISTENER: &str = "Relay_Hosts = ( 127.0.0.0/8 )\n\
                        ESMTP_Listener { SMTP_Extensions = ( ENHANCEDSTATUSCODES DSN SMTPUTF8 ) Listen \"127.0.0.1:0\" {} }\n";

/// A server that sends everything to one next hop.
fn server(next: &NextHop, settings: &str) -> Server {
    Server::start(&format!("Gateway = \"{}\"\n{LISTENER}{settings}", next.gateway()), &[])
}

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

fn send(server: &Server, from: &str, to: &[&str]) {
    let mut client = Client::hello(server.smtp());
    let reply = client.deliver(from, to, &letter("delivery", "the body\n"));
    assert_matches("^250 2.0.0 OK ID$", &reply);
}

/// The lines of that type about mail for that domain or recipient id.
fn lines(server: &Server, kind: &str) -> Vec<String> {
    let wanted = format!("@{kind}@");
    server.log("mainlog.ec").lines().filter(|line| line.contains(&wanted)).map(str::to_owned).collect()
}

fn wait_for_lines(server: &Server, kind: &str, count: usize) -> Vec<String> {
    wait_for(&format!("{count} lines of {kind}"), || Some(lines(server, kind)).filter(|lines| lines.len() >= count))
}

fn field(line: &str, at: usize) -> &str {
    line.splitn(14, '@').nth(at).unwrap_or_default()
}

/// The reports to the senders so far.
fn reports(next: &NextHop) -> Vec<Taken> {
    next.messages().into_iter().filter(|taken| taken.mail.starts_with("MAIL FROM:<>")).collect()
}

#[test]
fn the_dns_decides_where_mail_goes() {
    let next = NextHop::start();
    let names = Names::start(
        "two.test MX 10 dead.two.test\n two.test MX 20 live.two.test\n\
         dead.two.test A 127.0.0.2\nlive.two.test A 127.0.0.1\n\
         down.test MX 10 dead1.down.test\ndown.test MX 20 dead2.down.test\n\
         dead1.down.test A 127.0.0.3\ndead2.down.test A 127.0.0.4\n\
         null.test MX 0 .\n\
         plain.test A 127.0.0.1\n\
         private.test MX 10 private.mx.test\nprivate.mx.test A 127.0.0.66\n\
         skip.test MX 10 skipped.skip.test\nskip.test MX 20 live.two.test\nskipped.skip.test A 127.0.0.67\n\
         loop.test MX 10 mx.test\nmx.test A 127.0.0.1\n\
         behind.test MX 10 live.two.test\nbehind.test MX 20 mx.test\n\
         aliased.test CNAME two.test\n\
         sender.test A 127.0.0.1\n",
    );
    let server = Server::start(
        &format!(
            "{LISTENER}Resolv_Conf = \"@dir@/resolv.conf\"\nRemote_SMTP_Port = {}\nProhibited_Hosts = ( 127.0.0.66 )\n\
             Skip_Hosts = ( 127.0.0.67 )\nRetry_Interval = 600\nDomain literal.test {{ Gateway = \"[127.0.0.1]\" }}\n",
            next.address.port()
        ),
        &[("resolv.conf", &names.resolv_conf())],
    );
    // Delivered in the first attempt: the second MX when the first is down, the address where there is no MX, an alias, a literal.
    for domain in ["two.test", "plain.test", "skip.test", "behind.test", "aliased.test", "[127.0.0.1]", "literal.test"]
    {
        let recipient = format!("bob@{domain}");
        send(&server, "ann@sender.test", &[&recipient]);
        next.wait_for_rcpt(&recipient);
    }
    for line in wait_for_lines(&server, "D", 7) {
        assert_eq!((field(&line, 9), field(&line, 11)), ("0", "127.0.0.1"), "{line}");
    }
    assert_eq!(lines(&server, "T"), [""; 0]);

    // All hosts down: one transient failure, of no connection.
    send(&server, "ann@sender.test", &["bob@down.test"]);
    let failed = &wait_for_lines(&server, "T", 1)[0];
    assert_matches(
        r"^\d{10}@ID@ID@00/00-00000-00000000@T@down\.test@0@default@default@0@0@\d+\.\d{3}@@451 4\.4\.1 \[internal\] No valid hosts \(unable to make any connections\)$",
        failed,
    );
    // No such domain: a transient failure as well.
    send(&server, "ann@sender.test", &["bob@nowhere.test"]);
    let failed = &wait_for_lines(&server, "T", 2)[1];
    assert_eq!((field(failed, 5), field(failed, 13)), ("nowhere.test", "454 4.4.4 [internal] no MX or A for domain"));

    // What can never work fails at once.
    for (domain, text) in [
        ("null.test", "550 5.4.4 [internal] NULL MX domain does not accept mail"),
        ("private.test", "551 5.4.6 [internal] Private/Loopback Address"),
        ("loop.test", "554 5.4.6 [internal] mail loops back to myself"),
    ] {
        send(&server, "ann@sender.test", &[&format!("bob@{domain}")]);
        let failed = server.wait_for_log("mainlog.ec", |line| line.contains(&format!("@P@{domain}@")));
        assert_eq!((field(&failed, 9), field(&failed, 10), field(&failed, 13)), ("0", "0", text), "{failed}");
        // The sender, whose domain has an address, is told.
        wait_for("a report", || reports(&next).into_iter().find(|report| report.content().contains(text)));
    }
    assert_eq!(lines(&server, "T").len(), 2);
    let domain = server.console("domain two.test");
    assert_matches(r"(?m)^Domain 'two\.test' has 2 MXs", &domain);
}

#[test]
fn connections_keep_their_limits() {
    let next = NextHop::start();
    let server =
        server(&next, "suspend_delivery = true\nmax_outbound_connections = 1\nmax_deliveries_per_connection = 10\n");
    let mut client = Client::hello(server.smtp());
    for at in 0..50 {
        client.deliver("ann@sender.test", &[&format!("r{at}@rcpt.test")], &letter("capped", "x\n"));
    }
    // Suspended: nothing leaves, everything is taken.
    assert_eq!(next.connections(), 0);
    assert_matches(r"(?m)\b50\b", &server.console("mailq"));
    assert_matches("^Suspend_Delivery = false", &server.console("config set suspend_delivery false"));
    next.wait_for(50);
    wait_for_lines(&server, "D", 50);
    assert_eq!(next.open_most(), 1, "one at a time");
    assert_eq!(next.connections(), 5, "ten deliveries each");
    assert_eq!(next.messages().len(), 50);
    assert!(!server.console("mailq").contains("rcpt.test"));
}

#[test]
fn throttles_delay_and_fail_nothing() {
    let next = NextHop::start();
    let server = server(&next, "suspend_delivery = true\noutbound_throttle_messages = \"5/1\"\n");
    let mut client = Client::hello(server.smtp());
    for at in 0..12 {
        client.deliver("ann@sender.test", &[&format!("r{at}@rcpt.test")], &letter("throttled", "x\n"));
    }
    let began = Instant::now();
    server.console("config set suspend_delivery false");
    next.wait_for(12);
    // A bucket of five, then five a second.
    assert!(began.elapsed() >= Duration::from_millis(1300), "{:?}", began.elapsed());
    for line in wait_for_lines(&server, "D", 12) {
        assert_eq!(field(&line, 9), "0", "{line}");
    }
    assert_eq!(lines(&server, "T"), [""; 0]);
}

#[test]
fn recipients_share_a_transaction_and_are_judged_one_by_one() {
    let next = NextHop::answering(|said| match said.line {
        line if line.contains("<bad@") => Some("550 5.1.1 no such user".to_owned()),
        line if line.contains("<later@") => Some("451 4.2.2 mailbox full".to_owned()),
        _ => None,
    });
    let server = server(&next, "max_recipients_per_batch = 100\nmax_outbound_connections = 1\n");
    let many: Vec<String> = (0..200).map(|at| format!("r{at}@rcpt.test")).collect();
    send(&server, "ann@sender.test", &many.iter().map(String::as_str).collect::<Vec<_>>());
    let messages = next.wait_for(2);
    assert_eq!(messages.iter().map(|taken| taken.rcpt.len()).collect::<Vec<_>>(), [100, 100]);
    wait_for_lines(&server, "D", 200);
    assert_eq!(next.count("DATA"), 2);

    send(&server, "ann@sender.test", &["bad@rcpt.test", "good@rcpt.test", "later@rcpt.test"]);
    let taken = next.wait_for_rcpt("good@rcpt.test");
    assert_eq!(taken.rcpt.len(), 1);
    let (failed, deferred) = (&wait_for_lines(&server, "P", 1)[0], &wait_for_lines(&server, "T", 1)[0]);
    assert_eq!((field(failed, 9), field(failed, 13)), ("5", "550 5.1.1 no such user"));
    assert_eq!((field(deferred, 9), field(deferred, 13)), ("5", "451 4.2.2 mailbox full"));
    // Different messages never share one.
    let mut client = Client::hello(server.smtp());
    for at in 0..2 {
        client.deliver("ann@sender.test", &["same@rcpt.test"], &letter(&format!("number {at}"), "x\n"));
    }
    wait_for("both", || (next.count("RCPT TO:<same@") == 2).then_some(()));
}

#[test]
fn reports_say_what_failed_and_go_only_where_they_may() {
    let next = NextHop::answering(|said| match said.line {
        line if line.contains("<bad") => Some("550-5.1.1 no such user\n550 5.1.1 look again".to_owned()),
        _ => None,
    });
    let server = server(
        &next,
        "Domain silent.test { generate_bounces = false }\nMDN_Failures_Notify = \"postmaster@site.test\"\n\
         Domain whole.test { bounces_inline_original = all }\n",
    );
    let mut client = Client::hello(server.smtp());
    client.command("MAIL FROM:<ann@sender.test> ENVID=id+20one RET=HDRS");
    client.command("RCPT TO:<bad1@rcpt.test> ORCPT=rfc822;first@origin.test");
    client.command("DATA");
    assert_matches("^250 ", &client.command(&(letter("report me", "secret body\n").replace('\n', "\r\n") + ".")));
    let report = next.wait_for_rcpt("ann@sender.test");
    assert_matches("^MAIL FROM:<>", &report.mail);
    assert_eq!(report.header("From").as_deref(), Some("Mail Delivery System <mailer-daemon@mx.test>"));
    assert_eq!(report.header("To").as_deref(), Some("ann@sender.test"));
    assert_eq!(report.header("Subject").as_deref(), Some("Mail Delivery Failure"));
    assert_matches(
        "multipart/report; *report-type=\"?delivery-status",
        &report.header("Content-Type").unwrap_or_default(),
    );
    assert!(report.header("Message-ID").is_some() && report.header("Date").is_some());
    let text = report.content();
    for wanted in [
        r"bad1@rcpt\.test \(after RCPT TO\): 550[- ]5\.1\.1 no such user",
        r"(?m)^Content-Type: message/delivery-status\r$",
        r"(?m)^Reporting-MTA: dns; ?mx\.test\r$",
        r"(?m)^Original-Envelope-Id: id one\r$",
        r"(?m)^Original-Recipient: rfc822; ?first@origin\.test\r$",
        r"(?m)^Final-Recipient: rfc822; ?bad1@rcpt\.test\r$",
        r"(?m)^Action: failed\r$",
        r"(?m)^Status: 5\.1\.1\r$",
        r"(?m)^Diagnostic-Code: smtp; ?550[- ]5\.1\.1 no such user",
        r"(?m)^Remote-MTA: dns; ?",
        r"(?m)^Content-Type: text/rfc822-headers",
        r"(?m)^Subject: report me\r$",
    ] {
        assert_matches(wanted, &text);
    }
    assert!(!text.contains("secret body"), "{text}");
    server.wait_for_log("mainlog.ec", |line| {
        matches("@R@ann@sender.test@@@unknown@\\d+@internal@default@default$", line)
    });

    // The failure of mail from nobody goes to the site's address; where reports are off, nowhere.
    send(&server, "", &["bad2@rcpt.test"]);
    let notice = next.wait_for_rcpt("postmaster@site.test");
    assert_matches("^MAIL FROM:<>", &notice.mail);
    assert!(notice.content().contains("bad2@rcpt.test"), "{}", notice.content());
    let before = reports(&next).len();
    // A recipient who asked for no report gets none; the sender of a success that was asked for gets one.
    let mut client = Client::hello(server.smtp());
    client.command("MAIL FROM:<never@sender.test>");
    client.command("RCPT TO:<bad3@rcpt.test> NOTIFY=NEVER");
    client.command("DATA");
    client.command("Subject: x\r\n\r\nx\r\n.");
    client.command("MAIL FROM:<success@sender.test>");
    client.command("RCPT TO:<good@rcpt.test> NOTIFY=SUCCESS");
    client.command("DATA");
    client.command("Subject: x\r\n\r\nx\r\n.");
    let relayed = next.wait_for_rcpt("success@sender.test");
    assert_matches(r"(?m)^Action: relayed\r$", &relayed.content());
    server.wait_for_log("mainlog.ec", |line| line.contains("@P@") && line.contains("no such user"));
    assert_eq!(reports(&next).len(), before + 1);
    assert!(!server.log("mainlog.ec").contains("@R@never@"));
    // A report that cannot be delivered makes none but the site's notice.
    send(&server, "bad4@sender.test", &["bad5@rcpt.test"]);
    wait_for("both failures", || (lines(&server, "P").len() == 5).then_some(()));
    let internal = server.log("mainlog.ec").matches("@internal@").count();
    assert_eq!(internal, 5, "{}", server.log("mainlog.ec"));
    wait_for("the second notice", || (next.count("RCPT TO:<postmaster@site.test>") == 2).then_some(()));
}

#[test]
fn a_deferred_message_is_tried_again_until_it_goes_or_its_time_is_up() {
    let next = NextHop::answering({
        let tries = std::sync::atomic::AtomicUsize::new(0);
        move |said| match said.line {
            line if line.contains("<twice@") && line.starts_with("RCPT") => {
                let before = tries.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
                (before < 2).then(|| "451 4.7.1 not yet".to_owned())
            }
            line if line.contains("<always@") || line.contains("<once@") => Some("451 4.7.1 never".to_owned()),
            _ => None,
        }
    });
    let server = Server::start(
        &format!(
            "{LISTENER}Gateway = \"{}\"\nretry_interval = 1\nmax_retry_interval = 1\ngenerate_bounces = false\n\
             scriptlet \"scriptlet\" {{ script \"policy\" {{ source = \"policy\" }} }}\n\
             Binding once {{ never_retry = true }} Binding twice {{ max_retries = 1 }}\n",
            next.gateway()
        ),
        &[(
            "policy.lua",
            "require(\"msys.core\") require(\"msys.extended.message\")\nlocal mod = {}\n\
             function mod:validate_set_binding(msg)\n\
               local to = msg:context_get(msys.core.ECMESS_CTX_MESS, \"rcptto_localpart\")\n\
               if to == \"once\" then msg:binding(\"once\") elseif to == \"always\" then msg:binding(\"twice\") end\n\
               return msys.core.VALIDATE_CONT\nend\nmsys.registerModule(\"policy\", mod)\n",
        )],
    );
    send(&server, "ann@sender.test", &["twice@rcpt.test", "always@rcpt.test", "once@rcpt.test"]);
    let delivered = server.wait_for_log("mainlog.ec", |line| line.contains("@D@"));
    assert_eq!(field(&delivered, 9), "2", "{delivered}");
    assert!(field(&delivered, 10).parse::<f64>().is_ok_and(|age| (2.0..20.0).contains(&age)), "{delivered}");
    let id = field(&delivered, 1).to_owned();
    let deferred: Vec<String> = lines(&server, "T").into_iter().filter(|line| field(line, 1) == id).collect();
    assert_eq!(deferred.iter().map(|line| field(line, 10)).collect::<Vec<_>>(), ["0", "1"]);
    let failed = wait_for_lines(&server, "P", 2);
    for (binding, retries) in [("once", "0"), ("twice", "1")] {
        let line = failed.iter().find(|line| field(line, 8) == binding).expect(binding);
        assert_eq!(
            (field(line, 10), field(line, 13)),
            (retries, "554 5.4.7 [internal] exceeded max retries without delivery"),
            "{line}"
        );
    }
}

#[test]
fn the_console_fails_flushes_and_moves_mail() {
    let next = NextHop::answering(|said| said.line.contains("<later").then(|| "451 4.7.1 later".to_owned()));
    let server = server(&next, "retry_interval = 3600\nmax_outbound_connections = 1\n");
    let queue = |sender: &str, count: usize| {
        let before = lines(&server, "T").len();
        for at in 0..count {
            send(&server, sender, &[&format!("later{at}@rcpt.test")]);
        }
        wait_for_lines(&server, "T", before + count)
    };
    let domain = field(&queue("ann@sender.test", 3)[0], 5).to_owned();
    assert!(server.console("mailq").contains(&domain), "{}", server.console("mailq"));
    // Flush: one attempt each, which counts.
    assert_eq!(
        server.console(&format!("flush domain {domain}")).trim(),
        format!("{domain} flushed. 3 messages requeued.")
    );
    let second = wait_for_lines(&server, "T", 6);
    let mut retries: Vec<&str> = second.iter().map(|line| field(line, 10)).collect();
    retries.sort_unstable();
    assert_eq!(retries, ["0", "0", "0", "1", "1", "1"]);
    // What is known of one of them, and its end by hand.
    let id = field(&second[0], 1).to_owned();
    let details = wait_for("a message at rest", || {
        Some(server.console(&format!("message details {id}"))).filter(|text| text.contains("Retries"))
    });
    assert_matches(r"(?m)^ *Sender: .*ann@sender\.test", &details);
    assert_matches(r"(?m)^ *Code: .*451 4\.7\.1 later", &details);
    server.console(&format!("message fail {id}"));
    let failed = server.wait_for_log("mainlog.ec", |line| line.contains("@P@") && line.contains(&id));
    assert!(failed.ends_with("@554 manually failed."), "{failed}");
    next.wait_for_rcpt("ann@sender.test");
    // All of a domain, quietly and with words.
    let quiet = server.console(&format!("fail domain quiet {domain}"));
    assert_eq!(quiet.trim(), format!("{domain} purged. 2 messages failed."));
    for line in wait_for_lines(&server, "P", 3).iter().filter(|line| !line.contains(&id)) {
        assert!(line.ends_with("@554 5.7.0 [internal] Message manually purged"), "{line}");
    }
    assert_eq!(reports(&next).len(), 1, "quiet");
    queue("eve@sender.test", 2);
    assert_eq!(
        server.console(&format!("fail domain {domain} 550 5.0.0 gone")).trim(),
        format!("{domain} purged. 2 messages failed.")
    );
    wait_for("two reports", || (reports(&next).len() == 3).then_some(()));
    server.wait_for_log("mainlog.ec", |line| line.contains("@P@") && line.ends_with("550 5.0.0 gone"));
    // Suspend in one scope; the rest goes on. Reroute.
    queue("ann@sender.test", 1);
    let other = NextHop::start();
    let moved = server.console(&format!("reroute queue {domain} {}", other.gateway()));
    assert_matches("^Moved 1 messages from ", &moved);
    assert_matches("^0 messages|No |^Moved 0", &server.console(&format!("reroute queue {domain} {}", other.gateway())));
    assert_matches("1 messages requeued", &server.console(&format!("flush domain {}", other.gateway())));
    other.wait_for(1);
    let summary = server.console("summary");
    assert_matches(r"(?m)^ *Failed Messages: +5$", &summary);
    assert_matches(r"(?m)^ *Total Queue Size: +0$", &summary);
}

#[test]
fn tls_is_used_required_and_given_up_as_configured() {
    let keywords = ["PIPELINING", "8BITMIME", "STARTTLS"];
    let with_tls = NextHop::with(&keywords, Some(server_tls()), |_| None);
    let broken = NextHop::with(&keywords, None, |_| None);
    let clear = NextHop::start();
    let server = Server::start(
        &format!(
            "{LISTENER}retry_interval = 3600\nhost_failure_retry = 1\ngenerate_bounces = false\n\
             Domain good.test {{ Gateway = \"{good}\" }} Domain broken.test {{ Gateway = \"{broken}\" }}\n\
             Domain clear.test {{ Gateway = \"{clear}\" }}\n\
             Domain \"{good}\" {{ TLS = required }} Domain \"{broken}\" {{ TLS = ifavailable }} Domain \"{clear}\" {{ TLS = required }}\n",
            good = with_tls.gateway(),
            broken = broken.gateway(),
            clear = clear.gateway()
        ),
        &[],
    );
    send(&server, "ann@sender.test", &["bob@good.test"]);
    let taken = with_tls.wait_for_rcpt("bob@good.test");
    assert!(taken.tls);
    // Broken, but only if available: in clear at once, on a new connection, without a failure.
    send(&server, "ann@sender.test", &["bob@broken.test"]);
    let taken = broken.wait_for_rcpt("bob@broken.test");
    assert!(!taken.tls);
    assert!(taken.connection > 0);
    wait_for_lines(&server, "D", 2);
    assert_eq!(lines(&server, "T"), [""; 0]);
    // Required: never in clear.
    send(&server, "ann@sender.test", &["bob@clear.test"]);
    let failed = &wait_for_lines(&server, "T", 1)[0];
    assert!(failed.ends_with("@451 4.7.6 [internal] STARTTLS required but not advertised"), "{failed}");
    assert!(clear.messages().is_empty());
    assert_eq!(clear.count("MAIL"), 0);
    // Broken and required.
    let set = server.console(&format!("config set domain \"{}\" tls required", broken.gateway()));
    assert_matches("TLS = required", &set);
    send(&server, "ann@sender.test", &["two@broken.test"]);
    let failed = &wait_for_lines(&server, "T", 2)[1];
    assert_matches(r"@451 4\.7\.5 \[internal\] TLS negotiation failed$", failed);
    assert_eq!(broken.messages().len(), 1);
}

#[test]
fn what_the_next_hop_cannot_take_is_changed_or_refused() {
    let old = NextHop::with(&["SIZE 2000"], None, |_| None);
    let server = server(
        &old,
        "generate_bounces = false\nDomain black.test { Gateway = hole.test }\n\
         Domain hole.test { Blackhole = internal }\n",
    );
    // Eight bits become seven.
    let mut client = Client::hello(server.smtp());
    let eight = "Subject: x\nMIME-Version: 1.0\nContent-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: 8bit\n\ncafé\n";
    client.deliver("ann@sender.test", &["eight@rcpt.test"], eight);
    let taken = old.wait_for_rcpt("eight@rcpt.test");
    assert!(taken.wire.is_ascii(), "{}", taken.content());
    assert_matches("^(quoted-printable|base64)$", &taken.header("Content-Transfer-Encoding").unwrap_or_default());
    if taken.header("Content-Transfer-Encoding").as_deref() == Some("quoted-printable") {
        assert!(taken.body().contains("caf=C3=A9"), "{}", taken.body());
    }
    // Too large, and addresses that it cannot spell: at once, and before any octet of it is sent.
    let large = letter("large", &"0123456789\n".repeat(300));
    client.deliver("ann@sender.test", &["large@rcpt.test"], &large);
    let failed = server.wait_for_log("mainlog.ec", |line| line.contains("@P@") && line.contains("5.3.4"));
    assert!(failed.ends_with("@552 5.3.4 [internal] message size exceeds remote limit"), "{failed}");
    client.command("MAIL FROM:<jörg@bücher.example> SMTPUTF8");
    client.command("RCPT TO:<bøb@rcpt.test>");
    client.command("DATA");
    assert_matches("^250 ", &client.command("Subject: x\r\n\r\nx\r\n."));
    let failed = server.wait_for_log("mainlog.ec", |line| line.contains("@P@") && line.contains("5.6.7"));
    assert!(failed.ends_with("@553 5.6.7 [internal] SMTPUTF8 required"), "{failed}");
    assert_eq!(old.messages().len(), 1);
    // Into the black hole: taken, and failed with a line in the log.
    client.command("RSET");
    client.deliver("ann@sender.test", &["bob@black.test"], &letter("black", "x\n"));
    let failed = server.wait_for_log("mainlog.ec", |line| line.contains("@P@") && line.contains("Blackholed"));
    assert!(failed.ends_with("@554 5.7.0 [internal] Blackholed"), "{failed}");
}

#[test]
fn a_connection_that_breaks_fails_only_what_was_on_it() {
    let next = NextHop::answering(|said| match said.line {
        "." if said.connection == 0 => Some(String::new()),
        line if line.contains("<closing@") => Some("421 4.3.2 shutting down".to_owned()),
        _ => None,
    });
    let settings = "retry_interval = 1\nmax_retry_interval = 1\nmax_outbound_connections = 1\nhost_failure_retry = 1\n";
    let server = server(&next, settings);
    // Cut off when the data was sent: nobody knows, so it is tried again, and logged as it was.
    send(&server, "ann@sender.test", &["cut@rcpt.test"]);
    let failed = &wait_for_lines(&server, "T", 1)[0];
    assert_eq!(field(failed, 9), "9", "{failed}");
    assert_matches(r"@451 4\.4\.2 \[internal\] (no BODY response|connection closed by remote host)$", failed);
    let delivered = server.wait_for_log("mainlog.ec", |line| line.contains("@D@"));
    assert_eq!(field(&delivered, 9), "1");
    assert_ne!(field(&delivered, 3), field(failed, 3), "another connection");
    // A host that says goodbye: the message that heard it waits, the others go by the next connection.
    send(&server, "ann@sender.test", &["closing@rcpt.test"]);
    let failed = &wait_for_lines(&server, "T", 2)[1];
    assert!(failed.ends_with("@421 4.3.2 shutting down"), "{failed}");
    send(&server, "ann@sender.test", &["after@rcpt.test"]);
    next.wait_for_rcpt("after@rcpt.test");
}

#[test]
fn an_open_connection_serves_only_the_server_at_its_other_end() {
    // Two servers at one address: the port tells them apart.
    let (one, two) = (NextHop::start(), NextHop::start());
    let server = Server::start(
        &format!(
            "{LISTENER}Domain one.test {{ Gateway = \"{}\" }}\nDomain two.test {{ Gateway = \"{}\" }}\n",
            one.gateway(),
            two.gateway()
        ),
        &[],
    );
    // Each is known, and its connection idle, when the next message comes for the other.
    for at in 0..3 {
        send(&server, "ann@sender.test", &[&format!("r{at}@one.test")]);
        one.wait_for(at + 1);
        send(&server, "ann@sender.test", &[&format!("r{at}@two.test")]);
        two.wait_for(at + 1);
    }
    assert!(one.messages().iter().all(|taken| taken.rcpt[0].contains("@one.test>")));
    assert!(two.messages().iter().all(|taken| taken.rcpt[0].contains("@two.test>")));
}

#[test]
fn large_messages_arrive_as_they_came_also_after_a_kill() {
    let next = NextHop::start();
    let extra = format!(
        "Gateway = \"{}\"\nsuspend_delivery = true\nRelay_Hosts = ( 127.0.0.0/8 )\nRFC2822_Trace_Headers = false\n\
         ESMTP_Listener {{ SMTP_Extensions = ( ENHANCEDSTATUSCODES CHUNKING ) Listen \"127.0.0.1:0\" {{}} }}\n",
        next.gateway()
    );
    let mut server = Server::start(&extra, &[]);
    // Dots at the start of lines, long lines, eight bits; far above the threshold of large messages.
    let mut content = String::from(
        "Subject: large\r\nDate: Wed, 25 Nov 2026 10:00:00 +0000\r\nMessage-ID: <large@sender.test>\r\n\r\n",
    );
    for at in 0..30_000 {
        content.push_str(match at % 4 {
            0 => ".\r\n",
            1 => "..two dots\r\n",
            2 => "caf\u{e9} and a line that goes on for a while, as lines do in letters that people write\r\n",
            _ => "\r\n",
        });
    }
    content.push_str(&"x".repeat(200_000));
    content.push_str("\r\n");
    let mut client = Client::hello(server.smtp());
    for (local, chunked) in [("data", false), ("chunks", true)] {
        client.command("MAIL FROM:<ann@sender.test>");
        client.command(&format!("RCPT TO:<{local}1@rcpt.test>"));
        client.command(&format!("RCPT TO:<{local}2@rcpt.test>"));
        if chunked {
            let (first, second) = content.as_bytes().split_at(content.len() / 2);
            client.send([format!("BDAT {}\r\n", first.len()).as_bytes(), first].concat());
            assert_matches("^250 2.0.0 \\d+ octets received$", &client.reply());
            client.send([format!("BDAT {} LAST\r\n", second.len()).as_bytes(), second].concat());
        } else {
            assert_matches("^354 ", &client.command("DATA"));
            client.send(content.replace("\r\n.", "\r\n..") + ".\r\n");
        }
        assert_matches("^250 2.0.0 OK ID$", &client.reply());
    }
    server.kill();
    let server = Server::run(&server.dir);
    server.console("config set suspend_delivery false");
    for local in ["data1", "data2", "chunks1", "chunks2"] {
        let taken = next.wait_for_rcpt(&format!("{local}@rcpt.test"));
        let got = taken.content();
        let differs = got.bytes().zip(content.bytes()).position(|(got, sent)| got != sent);
        assert!(got == content, "{local}: {} octets for {}, different from {differs:?} on", got.len(), content.len());
    }
    wait_for_lines(&server, "D", 4);
}

#[test]
fn throttles_are_shared_by_who_falls_back_to_them() {
    let next = NextHop::start();
    let policy = "require(\"msys.core\") require(\"msys.extended.message\")\nlocal mod = {}\n\
                  function mod:validate_set_binding(msg)\n\
                    msg:binding(string.sub(msg:context_get(msys.core.ECMESS_CTX_MESS, \"rcptto_localpart\"), 1, 1))\n\
                    return msys.core.VALIDATE_CONT\nend\nmsys.registerModule(\"policy\", mod)\n";
    let server = Server::start(
        &format!(
            "{LISTENER}Gateway = \"{}\"\nsuspend_delivery = true\n\
             scriptlet \"scriptlet\" {{ script \"policy\" {{ source = \"policy\" }} }}\n\
             Binding_Group g {{ outbound_throttle_messages = \"4/1\" Binding a {{}} Binding b {{}}\n\
             Binding c {{ outbound_throttle_messages = \"100/1\" }} }}\n",
            next.gateway()
        ),
        &[("policy.lua", policy)],
    );
    let mut client = Client::hello(server.smtp());
    for at in 0..6 {
        for binding in ["a", "b", "c"] {
            client.deliver("ann@sender.test", &[&format!("{binding}{at}@rcpt.test")], &letter("shared", "x\n"));
        }
    }
    let began = Instant::now();
    server.console("config set suspend_delivery false");
    let done = |binding: &str| {
        let rcpt = format!("RCPT TO:<{binding}");
        wait_for(binding, || (next.count(&rcpt) == 6).then(|| began.elapsed()));
        next.lines().iter().rposition(|(_, line)| line.starts_with(&rcpt)).expect("it was said")
    };
    // c has its own; a and b have twelve messages, a bucket of four and four a second together.
    let shared = done("a").max(done("b"));
    assert!(began.elapsed() >= Duration::from_millis(1900), "{:?}", began.elapsed());
    assert!(done("c") < shared, "{:?}", next.lines());
    next.wait_for(18);
}

#[test]
fn we_log_in_before_the_first_message() {
    let asked = |said: &common::next_hop::Said<'_>| match said.line {
        "AUTH PLAIN AGFubgBzM2NyZXQ=" => Some("235 2.7.0 welcome".to_owned()),
        line if line.starts_with("AUTH") => Some("535 5.7.8 who".to_owned()),
        _ => None,
    };
    let next = NextHop::with(&["PIPELINING", "8BITMIME", "AUTH PLAIN LOGIN"], None, asked);
    let server = server(
        &next,
        "Outbound_SMTP_Auth_Type = PLAIN Outbound_SMTP_Auth_User = ann Outbound_SMTP_Auth_Pass = s3cret\n\
         retry_interval = 3600\n",
    );
    send(&server, "ann@sender.test", &["bob@rcpt.test"]);
    next.wait_for_rcpt("bob@rcpt.test");
    let lines: Vec<String> = next.lines().into_iter().map(|(_, line)| line).collect();
    let auth = lines.iter().position(|line| line == "AUTH PLAIN AGFubgBzM2NyZXQ=").expect("a login");
    assert!(lines.iter().position(|line| line.starts_with("MAIL")).is_some_and(|mail| auth < mail), "{lines:?}");
    // A login that is refused delays the mail.
    server.console("config set outbound_smtp_auth_pass wrong");
    send(&server, "ann@sender.test", &["two@rcpt.test"]);
    let failed = &wait_for_lines(&server, "T", 1)[0];
    assert!(failed.contains("535 5.7.8 who"), "{failed}");
    assert_eq!(next.messages().len(), 1);
}
