//! What the logs say of a scripted scenario, field by field, and that rotation loses no line.

mod common;

use common::next_hop::NextHop;
use common::{Client, Server, assert_matches, letter, matches, wait_for};
use serde_json::Value;
use std::collections::HashMap;

/// Takes mail for anybody; what becomes of a recipient is in its name.
fn next_hop() -> NextHop {
    NextHop::answering(|said| match said.line {
        line if line.contains("<later") => Some("451 4.7.1 come back\n451 4.7.1 later".to_owned()),
        line if line.contains("<never") => Some("550 5.1.1 no such user @here".to_owned()),
        _ => None,
    })
}

fn server(next: &NextHop, settings: &str) -> Server {
    let user =
        nix::unistd::User::from_uid(nix::unistd::geteuid()).ok().flatten().map_or("root".to_owned(), |user| user.name);
    let extra = format!(
        "Relay_Domains = ( rcpt.test )\nRelay_Hosts = ( 127.0.0.8 )\nGateway = \"{}\"\n\
         Binding_Group pool {{ Binding one {{}} }}\n\
         Control_Listener {{ Listen \"@dir@/control\" {{ Enable_Authorization = true }} }}\n\
         Authorization {{ Role {user} {{ allow = ( \"^(version|mailq|reopen)\" ) }} }}\n\
         ESMTP_Listener {{ SMTP_Extensions = ( ENHANCEDSTATUSCODES \"AUTH PLAIN\" ) Context = [ site = \"ams 1\" ]\n\
           AuthPlainParameters = [ uri = \"file://@dir@/users\" log_authentication = true ]\n\
           Pathway = inner Listen \"127.0.0.1:0\" {{}} }}\n\
         Pathway_Group edge {{ Pathway inner {{}} }}\n{settings}",
        next.gateway()
    );
    Server::start(&extra, &[("users", "ann:pw\n")])
}

/// The scenario: one message to four recipients, a refused one, a report, logins, console commands.
fn scenario(server: &Server, next: &NextHop) {
    let mut client = Client::hello(server.smtp());
    assert_eq!(client.command("AUTH PLAIN AGFubgB3cm9uZw=="), "535 5.7.8 Authentication failed.");
    assert_eq!(client.command("AUTH PLAIN AGFubgBwdw=="), "235 2.0.0 Authed. Go on.");
    let to = ["now@rcpt.test", "\"od@d\"@rcpt.test", "later@rcpt.test", "never@rcpt.test"];
    assert_matches("^250 ", &client.deliver("ann@sender.test", &to, &letter("logged", "the body\n")));
    let mut stranger = Client::hello(server.smtp());
    stranger.command("MAIL FROM:<eve@evil.test>");
    assert_eq!(stranger.command("RCPT TO:<bob@elsewhere.test>"), "550 5.7.1 relaying denied");
    // Two deliveries in one transaction, and the report of the failure.
    next.wait_for(2);
    wait_for("all records", || {
        let log = server.log("mainlog.ec");
        (log.matches("@D@").count() == 3 && log.contains("@T@") && log.contains("@P@")).then_some(())
    });
    assert_matches("version: ", &server.console("version"));
    assert_matches("Not Authorized for this command", &server.console("shutdown"));
}

/// Lines of one type of the mainlog, by the recipient or message id in them.
fn records(log: &str, kind: &str) -> Vec<Vec<String>> {
    let fields = |line: &str| -> Vec<String> {
        let mut fields: Vec<String> = Vec::new();
        let mut field = String::new();
        let mut escaped = false;
        for character in line.chars() {
            match character {
                '@' if !escaped && fields.len() < 13 => fields.push(std::mem::take(&mut field)),
                _ => field.push(character),
            }
            escaped = character == '\\' && !escaped;
        }
        fields.push(field);
        fields
    };
    log.lines().map(fields).filter(|fields| fields.get(4).is_some_and(|found| found == kind)).collect()
}

#[test]
fn every_log_of_a_scenario_field_by_field() {
    let next = next_hop();
    let server = server(
        &next,
        "custom_logger c {\n\
           mainlog = \"@dir@/custom.log\" sanitize = \"special_characters,tr/|/_/\"\n\
           reception_format = \"R|%t|%i|%BI|%CI|%m@%M|%r@%R|%g|%b|%B|%H|%p|%A|%U|%P|%PG|%h{Subject}|%vctx_conn{site}|%%\"\n\
           delivery_format = \"D|%i|%OC|%d|%n|%N|%H|%T{3}|%s|%S\"\n\
           transient_failure_format = \"T|%i|%S|%s|%n|%N\"\n\
           permanent_failure_format = \"P|%i|%S|%s|%n|%C|%c\"\n\
           rejection_format = \"X|%t|%H|%n\" rejection_logfile = \"@dir@/custom-rejections.log\"\n\
         }\njson_logger j { logfile = \"@dir@/events.json\" }\n",
    );
    scenario(&server, &next);
    let log = server.log("mainlog.ec");
    for line in log.lines() {
        let known = [
            r"^\d{10}@ID@ID@ID@R@(\\.|[^@])+@[a-z.]+@[a-z]*@[a-z.]*@(127\.0\.0\.1|unknown)@\d+@(esmtp|internal)@default@default$",
            r"^\d{10}@ID@ID@ID@D@[^@]+@\d+@default@default@0@\d+\.\d{3}@127\.0\.0\.1$",
            r"^\d{10}@ID@ID@ID@[TP]@[^@]+@\d+@default@default@5@0@\d+\.\d{3}@127\.0\.0\.1@[45]\d\d[ -].*$",
            r"^\d{10}@@@@M1$",
        ];
        assert!(known.iter().any(|pattern| matches(pattern, line)), "{line}");
    }
    let received = records(&log, "R");
    assert_eq!(received.len(), 5, "four recipients and a report: {log}");
    let by_recipient: HashMap<&str, &Vec<String>> = received.iter().map(|record| (&*record[5], record)).collect();
    let now = by_recipient["now"];
    assert_eq!(now[6..10], ["rcpt.test", "ann", "sender.test", "127.0.0.1"]);
    assert_eq!(now[11], "esmtp");
    for other in ["\"od\\@d\"", "later", "never"] {
        assert_eq!(by_recipient[other][2], now[2], "one batch");
        assert_eq!(by_recipient[other][3], now[3], "one connection");
        assert_ne!(by_recipient[other][1], now[1], "a message each");
    }
    let report = by_recipient["ann"];
    assert_eq!(report[6..10], ["sender.test", "", "", "unknown"], "the null sender, and no peer");
    assert_eq!(report[11], "internal");
    assert_eq!(report[3], "00/00-00000-00000000");
    // The size is that of what was sent on.
    let taken = next.wait_for_rcpt("now@rcpt.test");
    let octets = taken.content().len();
    assert_eq!(now[10], octets.to_string());
    let delivered = records(&log, "D");
    let delivery = delivered.iter().find(|record| record[1] == now[1]).expect("a delivery");
    assert_eq!(delivery[6], octets.to_string());
    assert_ne!(delivery[3], now[3], "an outbound connection has an id of its own");
    let (transient, permanent) = (&records(&log, "T")[0], &records(&log, "P")[0]);
    assert_eq!(transient[1], by_recipient["later"][1]);
    assert_eq!(transient[9..11], ["5", "0"]);
    assert_eq!((&*transient[6], &*permanent[6]), ("0", "0"), "nothing was sent to those who were refused before DATA");
    assert_eq!(transient[13], "451-4.7.1 come back 451 4.7.1 later", "each line keeps its code");
    assert_eq!(permanent[1], by_recipient["never"][1]);
    assert_eq!(permanent[13], "550 5.1.1 no such user @here", "the last field is as it came");

    // The bouncelog has both failures.
    for (kind, local, text) in
        [("T", "later", "451-4.7.1 come back 451 4.7.1 later$"), ("B", "never", "550 5.1.1 no such user")]
    {
        let line = server.wait_for_log("bouncelog.ec", |line| line.contains(&format!("@{kind}@")));
        assert_matches(
            &format!(
                r"^\d{{10}}@ID@ID@ID@{kind}@{local}@rcpt\.test@ann@sender\.test@default@default@5@\d+@\d+@127\.0\.0\.1@{text}"
            ),
            &line,
        );
        assert_eq!(line.split('@').nth(1), by_recipient[local].get(1).map(String::as_str));
    }

    // The rejectlog: the refusals of the scenario in their order, with the context of the session.
    let rejections = server.log("rejectlog.ec");
    let rejections: Vec<&str> = rejections.lines().filter(|line| !line.contains("Marker")).collect();
    let head = r#"^\d{10}: R="127\.0\.0\.1:\d+" L="127\.0\.0\.1:\d+" C="ID" PATH="inner" PATH_GRP="edge" "#;
    assert_matches(
        &format!(
            r#"{head}P="[a-z/ ]+" E=535 M=- CTXCONN=\[.*site="ams 1".*\] CTXMESS=\[\] 5\.7\.8 Authentication failed\.$"#
        ),
        rejections[0],
    );
    assert_matches(
        &format!(
            r#"{head}P="awaiting rcptto" E=550 M=- CTXCONN=\[.*\] CTXMESS=\[.*mailfrom_string="MAIL FROM:<eve@evil.test>".*rcptto_domain=elsewhere\.test.*\] 5\.7\.1 relaying denied$"#
        ),
        rejections[1],
    );
    assert_eq!(rejections.len(), 2, "{rejections:?}");

    // The acctlog: logins of SMTP, console sessions and commands.
    for pattern in [
        r"^\d{10}@N@127\.0\.0\.1:\d+@127\.0\.0\.1:\d+@ann@0$",
        r"^\d{10}@N@127\.0\.0\.1:\d+@127\.0\.0\.1:\d+@ann@1$",
        r"^\d{10}@N@/.*/control@@[a-z]+@1$",
        r"^\d{10}@Z@/.*/control@@[a-z]+@1@version@[a-z]+$",
        r"^\d{10}@Z@/.*/control@@[a-z]+@0@shutdown$",
    ] {
        server.wait_for_log("acctlog.ec", |line| matches(pattern, line));
    }

    // The site's own format.
    let custom = wait_for("the custom lines", || {
        let text = server.log("custom.log");
        (text.lines().count() >= 5 + 3 + 2).then_some(text)
    });
    let id = &now[1];
    let line = custom.lines().find(|line| line.starts_with("R|") && line.contains(id.as_str())).expect("a reception");
    assert_eq!(
        line,
        format!(
            "R|{}|{id}|{}|{}|ann@sender.test|now@rcpt.test|default|default|{octets}|127.0.0.1|esmtp|PLAIN|ann|inner|edge|logged|ams 1|%",
            now[0], now[2], now[3]
        )
    );
    let line = custom.lines().find(|line| line.starts_with("D|") && line.contains(id.as_str())).expect("a delivery");
    assert_matches(
        &format!(r"^D\|{id}\|{}\|[^|]+\|250 2\.0\.0 taken\|1\|127\.0\.0\.1\|\d+\.\d{{3}}\|", delivery[3]),
        line,
    );
    let later = &by_recipient["later"][1];
    assert!(custom.contains(&format!("T|{later}|5|after RCPT TO|451-4.7.1 come back")), "{custom}");
    let never = &by_recipient["never"][1];
    assert!(custom.contains(&format!("P|{never}|5|after RCPT TO|550 5.1.1 no such user @here|")), "{custom}");
    server.wait_for_log("custom-rejections.log", |line| {
        matches(r"^X\|\d{10}\|127\.0\.0\.1\|(550 )?5\.7\.1 relaying denied$", line)
    });

    // The same as JSON.
    let events = wait_for("the events", || {
        let text = server.log("events.json");
        let events: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).expect(line)).collect();
        (events.iter().filter(|event| event["type"] == "delivery").count() == 3).then_some(events)
    });
    let event = |kind: &str, id: &str| {
        let found = events.iter().find(|event| event["type"] == kind && event["message_id"] == id);
        found.unwrap_or_else(|| panic!("no {kind} of {id} in {events:#?}")).clone()
    };
    for event in &events {
        assert_eq!(event["schema"], 1);
        assert!(event["time"].as_f64().is_some_and(|time| time > 1e9), "{event}");
    }
    let reception = event("reception", id);
    assert_eq!(reception["sender"], "ann@sender.test");
    assert_eq!(reception["recipient"], "now@rcpt.test");
    assert_eq!(reception["size"], octets);
    assert_eq!(reception["protocol"], "esmtp");
    assert_eq!(reception["conn_context"]["site"], "ams 1");
    let failure = event("permanent_failure", never);
    assert_eq!(failure["stage"], 5);
    assert_eq!(failure["retries"], 0);
    assert_eq!(failure["reply"], "550 5.1.1 no such user @here");
    assert_eq!(event("transient_failure", later)["stage_text"], "after RCPT TO");
    assert_eq!(event("delivery", id)["connection_id"], *delivery[3]);
    let rejection =
        events.iter().find(|event| event["type"] == "rejection" && event["code"] == 550).expect("a rejection");
    assert!(rejection.to_string().contains("relaying denied"), "{rejection}");
}

#[test]
fn times_are_microseconds_where_asked_for_and_switches_switch() {
    let next = next_hop();
    let server = server(&next, "log_hires_timestamp = true\nec_logger main { log_deliveries = false heartbeat = 1 }\n");
    scenario_without_deliveries(&server, &next);
    let log = server.log("mainlog.ec");
    assert_matches(r"(?m)^\d{16}@ID@ID@ID@R@now@", &log);
    assert!(!log.contains("@D@"), "{log}");
    server.wait_for_log("mainlog.ec", |line| matches(r"^\d{16}@@@@M1$", line));
    server.wait_for_log("rejectlog.ec", |line| matches(r"^\d{16}: Marker 1$", line));
}

fn scenario_without_deliveries(server: &Server, next: &NextHop) {
    let mut client = Client::hello(server.smtp());
    client.deliver("ann@sender.test", &["now@rcpt.test", "later@rcpt.test"], &letter("x", "x\n"));
    next.wait_for(1);
    server.wait_for_log("mainlog.ec", |line| line.contains("@T@"));
}

#[test]
fn rotation_under_load_loses_no_line() {
    let next = NextHop::start();
    let server = server(&next, "suspend_delivery = true\n");
    let address = server.smtp();
    let senders: Vec<_> = (0..3)
        .map(|sender| {
            std::thread::spawn(move || {
                let mut client = Client::hello(address);
                for number in 0..100 {
                    let to = format!("s{sender}n{number}@rcpt.test");
                    assert_matches("^250 ", &client.deliver("ann@sender.test", &[&to], &letter("x", "x\n")));
                    assert_matches("^250 2.0.0 OK", &client.command("NOOP"));
                }
            })
        })
        .collect();
    let current = server.dir.join("mainlog.ec");
    let mut rotated = Vec::new();
    let mut rotate = |how: &str| {
        let old = server.dir.join(format!("mainlog.ec.{}", rotated.len()));
        wait_for("a log", || current.exists().then_some(()));
        std::fs::rename(&current, &old).expect("rename");
        match how {
            "HUP" => server.signal("-HUP"),
            _ => {
                let said = server.console("reopen logs");
                assert!(!said.contains("Unknown") && !said.contains("Not Authorized"), "{said}");
            }
        }
        rotated.push(old);
    };
    for at in 0..8 {
        rotate(if at % 2 == 0 { "HUP" } else { "console" });
    }
    for sender in senders {
        sender.join().expect("a sender");
    }
    wait_for("the new log", || current.exists().then_some(()));
    let all = || {
        let files = rotated.iter().chain([&current]);
        files.map(|file| std::fs::read_to_string(file).unwrap_or_default()).collect::<String>()
    };
    let log = wait_for("three hundred lines", || Some(all()).filter(|log| log.matches("@R@").count() >= 300));
    for sender in 0..3 {
        for number in 0..100 {
            assert_eq!(log.matches(&format!("@R@s{sender}n{number}@")).count(), 1, "s{sender}n{number}");
        }
    }
    for line in log.lines().filter(|line| !line.ends_with("@M1")) {
        assert_matches(
            r"^\d{10}@ID@ID@ID@R@s\dn\d+@rcpt\.test@ann@sender\.test@127\.0\.0\.1@\d+@esmtp@default@default$",
            line,
        );
    }
    // The file that somebody only moved away is followed too.
    std::fs::rename(&current, server.dir.join("mainlog.ec.last")).expect("rename");
    wait_for("the new log", || current.exists().then_some(()));
    let mut client = Client::hello(address);
    client.deliver("ann@sender.test", &["after@rcpt.test"], &letter("x", "x\n"));
    server.wait_for_log("mainlog.ec", |line| line.contains("@R@after@"));
}
