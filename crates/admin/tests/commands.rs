//! The commands as scripts see them: the texts that are matched, and their XML and JSON forms.

mod support;

use ph_admin::{Failure, Session};
use ph_eventlog::{Attempt, Level, Subsystem};
use ph_message::{Envelope, Mailbox};
use std::time::Duration;
use support::{START, World, id, world};

async fn say(session: &mut Session, line: &str) -> String {
    session.command(line.as_bytes()).await.text
}

fn filled(world: &World) {
    for number in 0..30 {
        world.queues.add(number, "default", "example.com", number % 3 != 0, &format!("rcpt{number}@example.com"));
    }
    world.queues.add(100, "out-1", "example.net", true, "bob@example.net");
    world.queues.add(101, "out-1", "example.net", false, "evil\r\nX@example.net");
}

fn matches(pattern: &str, text: &str) -> bool {
    pcre2::bytes::RegexBuilder::new().multi_line(true).build(pattern).unwrap().is_match(text.as_bytes()).unwrap()
}

#[tokio::test]
async fn version_names_both_products() {
    let folder = tempfile::tempdir().unwrap();
    let mut session = world(folder.path()).session();
    let text = say(&mut session, "version").await;
    assert!(matches("posthaste version: 0\\.1\\.0", &text) && matches("ecelerity version: 3\\.6", &text), "{text}");
    assert!(text.starts_with("####") && text.ends_with("#\n"), "{text}");
    assert_eq!(say(&mut session, "\nversion").await, text, "blanks around a command are cut");
}

#[tokio::test]
async fn summary_in_its_order_and_three_forms() {
    let folder = tempfile::tempdir().unwrap();
    let world = world(folder.path());
    filled(&world);
    world.clock.advance(Duration::from_secs(90));
    let mut session = world.session();
    let text = say(&mut session, "summary").await;
    let labels: Vec<&str> = text.lines().skip(1).map(|line| line.trim_start().split_once(':').unwrap().0).collect();
    assert_eq!(text.lines().next(), Some("Summary Statistics"));
    assert_eq!(
        labels,
        [
            "Outbound Concurrency",
            "Inbound Concurrency",
            "Active Domains",
            "Active Queue Size",
            "Delayed Queue Size",
            "Total Queue Size",
            "DNS Resolver",
            "DNS A Queries",
            "DNS AAAA Queries",
            "DNS MX Queries",
            "DNS TXT Queries",
            "Pending DNS Queries",
            "Query Rate",
            "Successfully Delivered Messages",
            "Failed Messages",
            "Rejected Messages",
            "Received Messages",
            "Delivery Rate",
            "Reception Rate",
            "Statistics Last Reset",
            "Uptime",
        ]
    );
    assert!(matches("Query Rate: +\\d+\\.\\d\\d queries/second$", &text), "{text}");
    assert!(matches("Delivery Rate: +\\d+\\.\\d\\d messages/second$", &text), "{text}");
    assert!(matches("Uptime: +90 seconds$", &text), "{text}");
    assert!(matches("Active Queue Size: +21$", &text), "{text}");
    let xml = say(&mut session, "xml summary").await;
    assert!(xml.starts_with("<ServerSummary>\n") && xml.ends_with("</ServerSummary>\n"), "{xml}");
    for name in [
        "OutboundConcurrency",
        "InboundConcurrency",
        "ActiveDomains",
        "ActiveQueueSize",
        "DelayedQueueSize",
        "TotalQueueSize",
        "Receptions",
        "Deliveries",
        "Transients",
        "Failures",
        "Rejections",
        "Uptime",
    ] {
        assert!(matches(&format!("<{name}>\\d+</{name}>"), &xml), "{name}: {xml}");
    }
    let json: serde_json::Value = serde_json::from_str(&say(&mut session, "json summary").await).unwrap();
    assert_eq!(json["ActiveQueueSize"], 21);
    assert!(json["DeliveredMessages"].is_u64() && json["ReceivedMessages"].is_u64());
    assert!(matches("DNS Resolver: posthaste$", &text) && matches("DNS MX Queries: +12$", &text), "{text}");
    assert_eq!(say(&mut session, "summary with-mobile").await, text);
    assert_eq!(say(&mut session, "summary reset").await, "statistics cleared.\n");
    assert_eq!(say(&mut session, "debugging mode").await, "I am Ten Ninjas\n");
    assert!(say(&mut session, "summary").await.lines().count() > text.lines().count());
}

#[tokio::test]
async fn binding_summary_by_name_slot_and_group() {
    let folder = tempfile::tempdir().unwrap();
    let world = world(folder.path());
    filled(&world);
    let envelope = Envelope { binding: "out-1".into(), ..Envelope::default() };
    world.services.log.reception(START, &envelope, None);
    world.services.log.delivery(START, &envelope, &Attempt::NONE);
    let mut session = world.session();
    let text = say(&mut session, "binding summary").await;
    assert_eq!(text.matches("Summary Statistics For Binding ").count(), 3);
    let one = say(&mut session, "binding summary out-1").await;
    assert!(one.starts_with("Summary Statistics For Binding out-1\n"), "{one}");
    assert!(matches("Successfully Delivered Messages: +1$", &one) && matches("Total Queue Size: +2$", &one), "{one}");
    assert_eq!(say(&mut session, "binding summary 1").await, one);
    let group = say(&mut session, "binding summary group:outs").await;
    assert!(group.contains("Summary Statistics For Binding out-2 in Binding Group outs\n"), "{group}");
    assert!(matches("^\\*+\nSummary Statistics For Binding Group outs$", &group), "{group}");
    assert_eq!(say(&mut session, "binding summary nobody").await, "Binding 'nobody' not found.\n");
    let xml = say(&mut session, "xml binding summary").await;
    assert_eq!(xml.matches("<ServerSummary>").count(), 3);
    assert!(matches("<BindingName>out-1</BindingName>", &xml), "{xml}");
}

#[tokio::test]
async fn lists_of_domains() {
    let folder = tempfile::tempdir().unwrap();
    let world = world(folder.path());
    filled(&world);
    let mut session = world.session();
    let text = say(&mut session, "active 5").await;
    assert!(matches("^Domain: +example\\.com +C: +0 +A: +20 +D: +10 +S: +0$", &text), "{text}");
    assert!(!text.contains("example.net"), "{text}");
    assert!(matches("^ +Total: +C: +0 +A: +21 +D: +11 +S: +0$", text.lines().last().unwrap()), "{text}");
    assert!(say(&mut session, "delayed 0").await.contains("example.net"));
    assert!(!say(&mut session, "binding active out-1 0").await.contains("example.com"));
    assert!(say(&mut session, "binding delayed out-1 0").await.contains("example.net"));
    assert_eq!(say(&mut session, "binding active nobody 0").await, "Binding 'nobody' not found.\n");
    assert!(say(&mut session, "xml active 0").await.contains("<DomainSummary>\n    <Name>example.com</Name>"));
    let all = say(&mut session, "domain all").await;
    assert!(all.starts_with("Domain summary:\nDomain: ") && matches("^Totals: C:", &all), "{all}");
    assert_eq!(say(&mut session, "domains").await, all);
    let text = say(&mut session, "mailq -b out-1 -l 5").await;
    let lines: Vec<&str> = text.lines().collect();
    assert!(matches("^Group/Binding +Domain +AQ +DQ$", lines[0]) && lines[1].trim_matches('-').is_empty(), "{text}");
    assert!(matches("^default/out-1 +example\\.net +1 +1$", lines[2]) && lines.len() == 3, "{text}");
    let json: serde_json::Value = serde_json::from_str(&say(&mut session, "json mailq").await).unwrap();
    assert_eq!(json["QueueSummary"][0]["domain"], "example.com");
}

#[tokio::test]
async fn one_domain_and_its_totals_last() {
    let folder = tempfile::tempdir().unwrap();
    let world = world(folder.path());
    filled(&world);
    let mut session = world.session();
    let text = say(&mut session, "domain Example.com").await;
    for wanted in [
        "Domain 'example.com' has 1 MXs and a TTL of 1902 seconds\n",
        "  [5 mx1.example.com TTL:1902]\n",
        " =>     [192.0.2.1] IPv4 (0.50ms con 12.25ms dlv) 54.00s since failure\n",
        "(also used by example.net pref 7)\n",
        "Domain has had 1 consecutive connection failures\n",
        "Binding: default\n",
        "Active Connections: 1\n[ 1] FD:     20  IP:       192.0.2.1  State: reading confirmation (4615.00ms)\n",
    ] {
        assert!(text.contains(wanted), "{wanted}{text}");
    }
    let queues: Vec<&str> = text.lines().filter(|line| line.contains("Queue:")).collect();
    assert_eq!(queues[queues.len() - 2..], ["Active Queue: 20", "Delayed Queue: 10"]);
    let empty = say(&mut session, "domain nothing.example").await;
    assert!(!empty.contains("Queue:"), "{empty}");
}

#[tokio::test]
async fn messages_of_a_domain_and_one_message() {
    let folder = tempfile::tempdir().unwrap();
    let world = world(folder.path());
    filled(&world);
    let mut session = world.session();
    let text = say(&mut session, "showqueue binding all example.com active").await;
    let first = text.lines().next().unwrap();
    assert_eq!(first.split_whitespace().nth(3), Some("1800000000"), "{first}");
    assert!(
        matches("^\\[active/default\\] [0-9A-F]{2}/[0-9A-F]{2}-\\d{5}-[0-9A-F]{8} Created: \\d+$", first),
        "{first}"
    );
    assert_eq!(text.lines().nth(1), Some("  From: <info@example.org> To: <rcpt1@example.com>"));
    assert_eq!(text.lines().count(), 40);
    assert_eq!(say(&mut session, "showqueue example.com 3,1").await.lines().count(), 6);
    let text = say(&mut session, "showqueue example.net delayed").await;
    assert!(text.contains("To: <evil\\r\\nX@example.net>") && text.lines().count() == 2, "{text}");
    assert_eq!(say(&mut session, "showqueue nothing.example active").await, "Nothing in active queue.\n");
    let text = say(&mut session, &format!("message details {}", id(1))).await;
    for wanted in ["Message Type: full message", "Retries: 5", "Received Via: SMTP 10.0.0.103 (IPv4)", "Size: 11317"] {
        assert!(text.contains(wanted), "{wanted}\n{text}");
    }
    assert!(text.contains("Code: 451 No valid hosts\\x1b[2J\n"), "{text}");
    assert!(matches("^ +Created: \\d{4}-\\d\\d-\\d\\d \\d\\d:\\d\\d:\\d\\d$", &text), "{text}");
    assert!(say(&mut session, &format!("message details full {}", id(1))).await.contains("Message Context:"));
    assert_eq!(say(&mut session, &format!("message details body {}", id(1))).await, "Subject: x\n\n");
    let absent = say(&mut session, &format!("message details {}", id(999))).await;
    assert_eq!(absent, format!("Message {} not found.\n", id(999)));
    assert_eq!(say(&mut session, "message details x").await, "'x' is not a message id.\n");
    assert_eq!(say(&mut session, &format!("message retry {}", id(0))).await, "Message requeued for delivery\n");
    assert_eq!(say(&mut session, &format!("message fail quiet {}", id(0))).await, "Message failed\n");
    let failure = Failure { quiet: true, text: "554 manually failed.".into() };
    assert_eq!(world.queues.failures.lock().unwrap()[..], [(id(0), failure)]);
    let found = say(&mut session, "queue find rcpt bob@example.net 10").await;
    assert!(found.ends_with("1 messages found.\n"), "{found}");
    assert!(say(&mut session, &format!("queue explain {}", id(1))).await.contains("is being delivered"));
}

#[tokio::test]
async fn purges_with_notes_filters_and_dry_runs() {
    let folder = tempfile::tempdir().unwrap();
    let world = world(folder.path());
    filled(&world);
    let mut session = world.session();
    let text = say(&mut session, "fail domain --dry-run example.com").await;
    assert_eq!(text.lines().count(), 26, "{text}");
    assert!(
        matches("^ +\\S+ +domain=example\\.com from=<info@example\\.org> to=<rcpt0@example\\.com>$", &text),
        "{text}"
    );
    assert!(
        text.ends_with("[dry-run] example.com: 30 messages would be failed. (Showing first 25; 5 more not listed.)\n"),
        "{text}"
    );
    assert!(
        say(&mut session, "xml reroute queue --dry-run example.com x.example")
            .await
            .contains("<DryRun>1</DryRun>\n  <MessagesMatched>30</MessagesMatched>")
    );
    let text = say(&mut session, "fail all --meta campaign campaign-1 554 gone away").await;
    assert_eq!(text, "All domains purged. 16 messages failed.\n");
    assert_eq!(world.queues.failures.lock().unwrap()[0].1, Failure { quiet: false, text: "554 gone away".into() });
    assert!(say(&mut session, "fail all").await.starts_with("A filter is required"));
    let text = say(&mut session, "fail domain quiet example.com").await;
    assert_eq!(text, "example.com purged. 15 messages failed.\n");
    let last = world.queues.failures.lock().unwrap().last().unwrap().1.clone();
    assert_eq!(last, Failure { quiet: true, text: "554 5.7.0 [internal] Message manually purged".into() });
    let text = say(&mut session, "binding fail domain out-1 all").await;
    assert_eq!(text, "All domains purged. 1 messages failed.\n");
    assert_eq!(say(&mut session, "fail domain example.com").await, "example.com purged. 0 messages failed.\n");
}

#[tokio::test]
async fn flush_delay_reroute_rebind_suspend() {
    let folder = tempfile::tempdir().unwrap();
    let world = world(folder.path());
    filled(&world);
    let mut session = world.session();
    for (line, wanted) in [
        ("flush domain example.com", "example.com flushed. 10 messages requeued."),
        ("binding flush domain out-1 all", "All domains flushed. 1 messages requeued."),
        ("delay 300 --domain example.com", "Delayed 30 messages."),
        ("delay 300 --domain nothing.example", "No messages for nothing.example found."),
        ("delay 0 --domain example.com", "The delay must be greater than zero."),
        ("delay 300", "Select messages: --domain, --binding, --meta or --header."),
        ("delay 300 --binding nobody", "Binding 'nobody' not found."),
        ("reroute queue example.net relay.example", "Moved 2 messages from 'example.net' to 'relay.example'"),
        ("rebind all example.com", "Rebound 30 messages."),
        ("suspend domain example.com 60 holiday", "example.com suspended for 60 seconds."),
        ("resume domain example.com", "example.com resumed."),
        ("resume domain example.com", "example.com was not suspended."),
        ("refresh domain example.com", "example.com refreshed."),
    ] {
        assert_eq!(say(&mut session, line).await, format!("{wanted}\n"), "{line}");
    }
    assert!(say(&mut session, "xml reroute queue relay.example x.example").await.contains("<MessagesRerouted>2<"));
}

#[tokio::test]
async fn pools_caches_counters_connections() {
    let folder = tempfile::tempdir().unwrap();
    let world = world(folder.path());
    let mut session = world.session();
    let text = say(&mut session, "threads stats").await;
    assert!(matches("^(\\S*)\\s+thread\\s+pool:\\s+concurrency\\s+(\\d+)\\s*$", &text), "{text}");
    assert!(text.contains("Average wallclock time per op: 0.25ms") && !text.contains("invocations"), "{text}");
    assert!(text.contains("Current queue length: 0") && text.contains("\n\nIO thread pool"), "{text}");
    assert_eq!(say(&mut session, "threads io queue").await, "Jobs in the IO pool\n0 jobs\n");
    assert!(say(&mut session, "cache list").await.ends_with(" 1 caches listed.\n"));
    assert!(say(&mut session, "cache list hit-rate").await.starts_with(" 75.00% core:bounce_classify\n"));
    assert!(say(&mut session, "cache list xxx").await.starts_with("Valid attributes are [capacity,"));
    assert!(say(&mut session, "cache stat core:bounce_classify").await.contains("Hit Rate      :  75.00%\n"));
    let xml = say(&mut session, "xml cache stats").await;
    assert!(xml.contains("<Cache name=\"core:bounce_classify\">"), "{xml}");
    assert!(xml.contains("<hit_rate>75.00</hit_rate>") && xml.contains("<deletes type=\"lru\">2</deletes>"), "{xml}");
    for (line, wanted) in [
        ("counter add /site/spam", "Counter /site/spam added."),
        ("counter increment /site/spam 5", "/site/spam = 5"),
        ("counter increment /none", "no such counter"),
        ("trace smtp remove 99", "There is no smtp tracer #99"),
        ("trace smtp remove x", "'x' is not a number."),
        ("count SMTP 10.1.0.0/16", "2 sessions"),
        ("dig example.com", "submitted"),
        ("dns_cache submit example.com mx", "Submitted"),
        ("dns_cache lookup nothing.example A", "Cached result not found, try a submit."),
        ("signing_stats", "This server does not sign messages."),
        ("counter add /site/spam 3", "/site/spam = 8"),
        ("counter reset /site/spam", "Counter /site/spam reset."),
        ("counter unlink /site/none", "no such counter"),
        ("tls flush cache", "Cache flush request submitted."),
        ("tls rekey", "Rekey request submitted.\n/etc/x.key: Permission denied"),
    ] {
        assert_eq!(say(&mut session, line).await, format!("{wanted}\n"), "{line}");
    }
    let text = say(&mut session, "counter list").await;
    assert!(
        matches(
            "^VALUE +RESET_TIME +SEMANTICS COUNTER\n\n0 +never +relaxed +/site/spam\n\n1 counters listed\\.\n$",
            &text
        ),
        "{text}"
    );
    assert!(say(&mut session, "counter help").await.contains("counter add PATH [DELTA]"));
    let text = say(&mut session, "tls show cache").await;
    assert!(
        matches(
            "^   1\\) server context\n +age: 7 seconds old\n +state: in use\n +certificate: /etc/mx.pem\n +ca list: none\n +ciphers: default\n1 TLS contexts\n$",
            &text
        ),
        "{text}"
    );
    let text = say(&mut session, "dns_cache stats").await;
    assert!(matches("^DNS Queries:\n +MX: 12\n +Pending: 0\n", &text), "{text}");
    assert!(matches("^DNS cache:\n +Entries: 0\n +Lookups: 4\n +Hit Rate: 75\\.0000%\n", &text), "{text}");
    let text = say(&mut session, "dns_cache lookup example.com MX").await;
    assert!(text.starts_with(";; QUESTION SECTION:\n;example.com.\t\tIN\tMX\n\n;; ANSWER SECTION:\n"), "{text}");
    let text = say(&mut session, "count SMTP 16").await;
    assert!(matches("^ +2 +10\\.1\\.0\\.0/16$", &text), "{text}");
    let text = say(&mut session, "show inbound").await;
    assert!(
        matches(
            "^ +10: \\[inbound/esmtp_message_factory\\] IPv4 10\\.1\\.2\\.3:4711 awaiting mailfrom \\(for 1\\.500s\\)$",
            &text
        ),
        "{text}"
    );
    let text = say(&mut session, "show outbound").await;
    assert!(
        matches("^ +20: \\[outbound/connection_handleconnect\\] mx1\\.example\\.com IPv4 192\\.0\\.2\\.1", &text),
        "{text}"
    );
    assert!(say(&mut session, "module list").await.starts_with("Module: ec_logger:main\n  Scope_Name: ec_logger\n"));
    assert!(say(&mut session, "module hooks").await.contains("validate_connect"));
    assert!(say(&mut session, "memory").await.contains("VmRSS:"));
}

#[tokio::test]
async fn logs_and_process() {
    let folder = tempfile::tempdir().unwrap();
    let world = world(folder.path());
    let mut session = world.session();
    world.services.log.panic(Level::Error, Subsystem::Smtp, "trouble \x1b[31m");
    assert!(matches("\\[error\\] trouble \\\\x1b\\[31m$", &say(&mut session, "paniclog").await));
    std::fs::rename(folder.path().join("mainlog.ec"), folder.path().join("mainlog.ec.1")).unwrap();
    assert_eq!(say(&mut session, "reopen logs").await, "Logs reopened.\n");
    assert!(folder.path().join("mainlog.ec").exists());
    assert_eq!(say(&mut session, "ec_logger:main reopen logs").await, "Logs reopened.\n");
    assert_eq!(say(&mut session, "ec_logger:other reopen logs").await, "There is no ec_logger 'other'.\n");
    let envelope =
        Envelope { recipient: Mailbox { local: "bob".into(), domain: "example.com".into() }, ..Envelope::default() };
    world.services.log.reception(START, &envelope, None);
    assert!(say(&mut session, "tail mainlog 5").await.contains("@R@bob@example.com@"));
    assert_eq!(say(&mut session, "pid").await, format!("{}\n", std::process::id()));
    assert!(say(&mut session, "sysinfo").await.starts_with("Momentum Version: 0.1.0 (64-bit)\nbuild date: "));
    assert!(say(&mut session, "spool import /x").await.contains("not available in this release"));
    let reply = session.command(b"shutdown").await;
    assert!(reply.close && world.server.stopped.load(std::sync::atomic::Ordering::SeqCst));
}

#[tokio::test]
async fn help_and_what_nobody_knows() {
    let folder = tempfile::tempdir().unwrap();
    let mut session = world(folder.path()).session();
    let help = say(&mut session, "help").await;
    assert!(help.lines().count() > 80 && help.contains("bounce_classifier_override reload"), "{help}");
    assert!(say(&mut session, "help flush").await.starts_with("flush domain DOMAIN|all"));
    for (line, wanted) in [
        ("nonsense", "Unknown command\n"),
        ("xml nonsense", "<Error>Unknown command</Error>\n"),
        ("json nonsense", "{\"Error\":\"Unknown command\"}\n"),
        ("xml ", "<Error>No command given</Error>\n"),
        ("", ""),
        ("active", "Usage: active N\n"),
        ("active many", "'many' is not a number.\n"),
    ] {
        assert_eq!(say(&mut session, line).await, wanted, "{line}");
    }
    assert_eq!(
        say(&mut session, "bounce_classifier_override:x reload now").await,
        "bounce_classifier_override reload Some(\"x\") [\"now\"]\n"
    );
}

#[tokio::test]
async fn options_are_shown_set_and_unset() {
    let folder = tempfile::tempdir().unwrap();
    let world = world(folder.path());
    let mut session = world.session();
    for (line, wanted) in [
        ("config get blackhole", "Option 'Blackhole' is not set in scope ''.\n"),
        ("config eval blackhole", "Blackhole = 0\n"),
        ("config set relay_hosts ( 10.0.0.1 10.0.0.2 )", "Relay_Hosts = (\n\t10.0.0.1\n\t10.0.0.2\n)\n"),
    ] {
        let text = say(&mut session, line).await;
        assert_eq!(text.replace("  ", "\t").replace('"', ""), wanted, "{line}");
    }
    assert_eq!(world.apply.applied.lock().unwrap().len(), 1);
    assert!(say(&mut session, "write config").await.contains("Relay_Hosts = ("));
    let domain = say(&mut session, "domain d7.example").await;
    assert!(
        domain.starts_with("Domain \"d7.example\" {\n") && domain.contains("Max_Outbound_Connections = 5"),
        "{domain}"
    );
    assert!(say(&mut session, "config set hostname refuse.example").await.contains("the sockets cannot be opened"));
    assert!(!say(&mut session, "config get hostname").await.contains("refuse.example"), "nothing changed");
    assert!(say(&mut session, "config set nonsense 1").await.contains("nonsense"));
    assert!(say(&mut session, "config reload").await.contains("no configuration file"));
    let copy = folder.path().join("copy.conf");
    let text = say(&mut session, &format!("write config {}", copy.display())).await;
    assert!(text.starts_with("Configuration written to "), "{text}");
    assert!(std::fs::read_to_string(copy).unwrap().contains("Relay_Hosts"));
}

#[tokio::test]
async fn of_two_transactions_the_first_commit_wins() {
    let folder = tempfile::tempdir().unwrap();
    let world = world(folder.path());
    let (mut one, mut two) = (world.session(), world.session());
    for session in [&mut one, &mut two] {
        say(session, "config begin").await;
    }
    say(&mut one, "config set max_retries 5").await;
    say(&mut two, "config set max_retries 6").await;
    assert!(say(&mut one, "config eval max_retries").await.contains("= 5"), "a session sees its own changes");
    assert!(say(&mut two, "config eval max_retries").await.contains("= 6"));
    assert!(say(&mut one, "config commit").await.contains("committed"));
    assert!(say(&mut two, "config commit").await.contains("changed by another session"));
    say(&mut two, "config rollback").await;
    assert!(say(&mut two, "config eval max_retries").await.contains("= 5"));
    assert_eq!(world.apply.applied.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn every_command_answers_in_every_form_whatever_its_arguments() {
    let folder = tempfile::tempdir().unwrap();
    let world = world(folder.path());
    filled(&world);
    let mut session = world.session();
    let arguments = ["", " x", " 1", " a b", " all", " 1 2 3 4", " --meta", " \"", " -d", " \u{0}\u{7f}é"];
    for command in ph_admin::commands() {
        for argument in arguments {
            let line = format!("{}{argument}", command.name);
            let text = say(&mut session, &line).await;
            assert!(text.is_empty() || text.ends_with('\n'), "{line}: {text}");
            assert!(!text.contains(|c: char| c.is_control() && !"\n\t".contains(c)), "{line}: {text}");
            let json = say(&mut session, &format!("json {line}")).await;
            serde_json::from_str::<serde_json::Value>(&json).unwrap_or_else(|error| panic!("{line}: {error}: {json}"));
            let xml = say(&mut session, &format!("xml {line}")).await;
            assert!(is_well_formed(&xml), "{line}: {xml}");
        }
    }
}

/// One element with properly nested children, and no bare special characters.
fn is_well_formed(xml: &str) -> bool {
    let mut open: Vec<&str> = Vec::new();
    let mut roots = 0;
    let mut rest = xml.trim();
    while let Some(at) = rest.find('<') {
        let text = &rest[..at];
        let entity = |piece: &str| ["amp;", "lt;", "gt;", "quot;"].iter().any(|name| piece.starts_with(name));
        if text.contains('>') || text.split('&').skip(1).any(|piece| !entity(piece)) {
            return false;
        }
        let Some((tag, after)) = rest[at + 1..].split_once('>') else { return false };
        rest = after;
        if let Some(name) = tag.strip_prefix('/') {
            if open.pop() != Some(name) {
                return false;
            }
        } else {
            roots += usize::from(open.is_empty());
            if !tag.ends_with('/') {
                open.push(tag.split(' ').next().unwrap());
            }
        }
    }
    open.is_empty() && roots == 1 && rest.is_empty()
}
