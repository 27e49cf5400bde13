//! The console of the running server: every command against real queues, connections and files, in text, XML and JSON; who
//! may do what; what outlasts a restart.

mod common;

use common::next_hop::NextHop;
use common::{Client, Server, assert_matches, letter, matches, strain, wait_for, write};
use ph_admin::{Address, ConsoleClient};
use std::collections::HashSet;
use tokio::runtime::Runtime;

/// One connection of the control channel.
struct Console {
    runtime: Runtime,
    client: ConsoleClient,
}

impl Console {
    fn to(address: &Address) -> Console {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let client = runtime.block_on(ConsoleClient::connect(address)).expect("the console answers");
        Console { runtime, client }
    }

    fn of(server: &Server) -> Console {
        Console::to(&Address::Unix(server.dir.join("control")))
    }

    fn say(&mut self, command: &str) -> String {
        let reply = self.runtime.block_on(self.client.request(command));
        reply.unwrap_or_else(|error| panic!("{command}: {error}"))
    }

    /// The text of a command; that its XML and JSON are well-formed is checked on the way, where it changes nothing.
    fn show(&mut self, command: &str) -> String {
        let json = self.say(&format!("json {command}"));
        serde_json::from_str::<serde_json::Value>(&json).unwrap_or_else(|error| panic!("{command}: {error}: {json}"));
        let xml = self.say(&format!("xml {command}"));
        assert!(is_well_formed(&xml), "{command}: {xml}");
        let text = self.say(command);
        assert!(text.is_empty() || text.ends_with('\n'), "{command}: {text:?}");
        text
    }
}

/// One element, every element closed in its turn, no bare special characters.
fn is_well_formed(xml: &str) -> bool {
    let mut reader = xml.trim();
    let (mut open, mut roots) = (Vec::new(), 0);
    while let Some(at) = reader.find('<') {
        let text = &reader[..at];
        let is_entity = |piece: &str| ["amp;", "lt;", "gt;", "quot;"].iter().any(|name| piece.starts_with(name));
        if text.contains('>') || text.split('&').skip(1).any(|piece| !is_entity(piece)) {
            return false;
        }
        let Some((tag, rest)) = reader[at + 1..].split_once('>') else { return false };
        reader = rest;
        match tag.strip_prefix('/') {
            Some(name) if open.pop() != Some(name) => return false,
            Some(_) => {}
            None => {
                roots += usize::from(open.is_empty());
                if !tag.ends_with('/') {
                    open.push(tag.split(' ').next().unwrap_or_default());
                }
            }
        }
    }
    open.is_empty() && roots == 1 && reader.is_empty()
}

/// Two bindings, `slow.test` is put off by its host, `held.test` is suspended by the configuration, `dead.test` has no host
/// that listens.
fn server(next: &NextHop) -> Server {
    let text = format!(
        "Relay_Hosts = ( 127.0.0.0/8 )\nretry_interval = 3600\nThreadPool extra {{ concurrency = 3 }}\n\
         domain fast.test {{ Routes = ( \"{0}\" ) }}\ndomain slow.test {{ Routes = ( \"{0}\" ) }}\n\
         domain \"dead.test\" {{ Routes = ( \"[127.0.0.1]:1\" ) }}\n\
         Binding_Group outs {{ Binding out-1 {{ domain held.test {{ suspend_delivery = true }} }} Binding out-2 {{}} }}\n\
         domain held.test {{ suspend_delivery = true }}\n\
         scriptlet \"scriptlet\" {{ script \"binding\" {{ source = \"binding\" }} }}\n\
         ESMTP_Listener {{ SMTP_Extensions = ( ENHANCEDSTATUSCODES ) Listen \"127.0.0.1:0\" {{}} }}\n",
        next.gateway()
    );
    let script = "require(\"msys.core\")\nlocal mod = {}\n\
         function mod:validate_set_binding(msg)\n  msg:binding(\"out-1\")\n  return msys.core.VALIDATE_CONT\nend\n\
         msys.registerModule(\"binding\", mod)\n";
    Server::start(&text, &[("binding.lua", script)])
}

fn next_hop() -> NextHop {
    NextHop::answering(|said| said.line.contains("@slow.test").then(|| "451 4.7.1 later \u{1b}[31m".to_owned()))
}

/// The id of the first message that `showqueue` has for a domain.
fn id_in(console: &mut Console, domain: &str) -> String {
    let text = wait_for(domain, || {
        let text = console.say(&format!("showqueue {domain}"));
        (!text.starts_with("Nothing")).then_some(text)
    });
    text.split_whitespace().nth(1).expect("an id").to_owned()
}

#[test]
fn every_command_works_on_a_running_server() {
    let next = next_hop();
    let server = server(&next);
    let mut client = Client::hello(server.smtp());
    for (recipient, subject) in [
        ("a@fast.test", "one"),
        ("b@slow.test", "two"),
        ("c@held.test", "three"),
        ("d@held.test", "four"),
        ("e@dead.test", "five"),
    ] {
        let reply = client.deliver("ann@sender.test", &[recipient], &letter(subject, "Hello\n"));
        assert!(reply.starts_with("250"), "{reply}");
    }
    next.wait_for(1);
    server.wait_for_log("mainlog.ec", |line| line.contains("@T@") && line.contains("slow.test"));
    server.wait_for_log("mainlog.ec", |line| line.contains("@T@") && line.contains("dead.test"));
    let mut console = Console::of(&server);
    let (slow, held) = (id_in(&mut console, "slow.test"), id_in(&mut console, "held.test"));
    wait_for("the slow message to wait", || {
        console.say("showqueue slow.test delayed").starts_with("[delayed").then_some(())
    });
    wait_for("the host that failed to rest", || {
        console.say("domain dead.test").contains("since failure").then_some(())
    });
    let dir = server.dir.display().to_string();
    let pid = server.pid();
    let time = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d";
    let mut used = HashSet::new();
    let mut wrong = Vec::new();

    // What only looks: in three forms.
    let looks = [
        ("help", r"^active N  .*\n(.*\n)*write config \[PATH\] .*\n$".to_owned()),
        ("help flush", r"^flush domain DOMAIN\|all +\S".to_owned()),
        ("version", r"(?m)^# posthaste version: \d.*\n# ecelerity version: 3\.6".to_owned()),
        ("sysinfo", r"^Momentum Version: \S+ \(64-bit\)\nbuild date: .*\nproduct name: Posthaste\nOS release: .*\nLinux ".to_owned()),
        ("pid", format!("^{pid}\n$")),
        ("summary", r"(?m)^Summary Statistics\n(.*\n)+? +Active Queue Size: +2\n +Delayed Queue Size: +2\n +Total Queue Size: +4\n +DNS Resolver: posthaste\n(.*\n)+? +Successfully Delivered Messages: +1\n".to_owned()),
        ("binding summary", r"^Summary Statistics For Binding ".to_owned()),
        ("binding summary out-1", r"^Summary Statistics For Binding out-1\n +Open Connections: +\d+\n +Active Queue Size: +2\n +Total Queue Size: +4\n +Successfully Delivered Messages: +1\n +Failed Messages: +0\n +Received Messages: +5\n +Resident Messages: +\d+\n +Delivery Rate: +\d+\.\d\d messages/second\n +Reception Rate: .*\n +Uptime: +\d+ seconds\n$".to_owned()),
        ("binding summary group:outs", r"(?m)^Summary Statistics For Binding out-1 in Binding Group outs\n(.*\n)+\*+\nSummary Statistics For Binding Group outs\n".to_owned()),
        ("active 0", r"^Domain: +held\.test  C: +0  A: +2  D: +0  S: +0\n +Total:  C: +\d+  A: +2  D: +2  S: +\d+\n$".to_owned()),
        ("delayed 0", r"^Domain: +dead\.test .*\nDomain: +slow\.test  C: +\d+  A: +0  D: +1  S: +0\n +Total: ".to_owned()),
        ("binding active out-1 0", r"^Domain: +held\.test .*\n +Total: ".to_owned()),
        ("binding delayed out-2 0", r"^ +Total:  C: +0  A: +0  D: +0  S: +0\n$".to_owned()),
        ("mailq -d held.test -b out-1 -l 5", r"^Group/Binding +Domain +AQ +DQ\n-+\nouts/out-1 +held\.test +2 +0\n$".to_owned()),
        ("domain slow.test", r"(?s)^Domain .slow\.test. \{\n.*\}\nDomain 'slow\.test' has 1 MXs and a TTL of \d+ seconds\n.*\[127\.0\.0\.1\] IPv4 .*Domain has had 0 consecutive connection failures\nBinding: out-1\n +Active Queue: 0\n +Delayed Queue: 1\nActive Queue: 0\nDelayed Queue: 1\nDeliveries: 0\nFailures: 0\nActive Connections: \d+\n".to_owned()),
        ("domain dead.test", r"(?s) \*      \[127\.0\.0\.1\] IPv4 .*s since failure\n.*Domain has had [1-9]\d* consecutive".to_owned()),
        ("domain none.test", r"^(?!(?s).*Queue:)".to_owned()),
        ("domain all", r"^Domain summary:\nDomain: (.*\n)+Totals: C: ".to_owned()),
        ("domains", r"^Domain summary:\nDomain: (.*\n)+Totals: C: ".to_owned()),
        ("showqueue binding all held.test active 1,1", r"^\[active/out-1\] ID Created: \d{10}\n  From: <ann@sender\.test> To: <[cd]@held\.test>\n$".to_owned()),
        ("showqueue slow.test active", r"^Nothing in active queue\.\n$".to_owned()),
        ("message details SLOW", format!(r"^Message: ID\nMessage Type: full message\n +Created: {time}\n +Next Attempt: {time}\n +Retries: \d+\n +Received Via: SMTP 127\.0\.0\.1 \(IPv4\)\n +Sender: ann@sender\.test\n +Recipient: b@slow\.test\n +Code: 451 4\.7\.1 later \?\[31m\n +Size: \d+\n$")),
        ("message details full SLOW", r"(?m)^Message Context:\n(.*\n)* +mailfrom_domain: sender\.test\n(.*\n)*\n(.*\n)*Subject: two\n(.*\n)*\nHello\n$".to_owned()),
        ("message details body SLOW", r"^(?!Message)(?s).*\nSubject: two\n.*\n\nHello\n$".to_owned()),
        ("queue find from ann@sender.test domain held.test binding out-1 10", r"^(\[active/out-1\] ID .*\n.*\n){2}2 messages found\.\n$".to_owned()),
        ("queue find rcpt B@slow.test", r"^\[delayed/out-1\] .*\n.*\n1 messages found\.\n$".to_owned()),
        ("queue explain HELD", r"^Message: ID\n +Reason: suspend_delivery is set\n".to_owned()),
        ("queue explain SLOW", r"Reason: waits for its next attempt at \d+\n(.*\n)+ +Last Error: .*451 4\.7\.1 later".to_owned()),
        ("jobs", r"^0 jobs\n$".to_owned()),
        ("suspensions", r"^0 suspensions\n$".to_owned()),
        ("fail domain --dry-run held.test", r"^(  ID  domain=held\.test from=<ann@sender\.test> to=<[cd]@held\.test>\n){2}\[dry-run\] held\.test: 2 messages would be failed\.\n$".to_owned()),
        ("fail all --dry-run --header Subject three", r"\[dry-run\] all domains: 1 messages would be failed\.\n$".to_owned()),
        ("reroute queue --dry-run --meta mailfrom_domain sender.test held.test x.test", r"\[dry-run\] held\.test -> x\.test: 2 messages would be moved\.\n$".to_owned()),
        ("show inbound", r"(?m)^ +\d+: \[inbound/esmtp_message_factory\] IPv4 127\.0\.0\.1:\d+ \S.* \(for \d+\.\d{3}s\)$".to_owned()),
        ("show outbound", r"^( +\d+: \[outbound/connection_handleconnect\] \S+ IPv4 127\.0\.0\.1.*\n)*$".to_owned()),
        ("count SMTP 127.0.0.0/8", r"^1 sessions\n$".to_owned()),
        ("count SMTP 8-32", r"^Displaying 'SMTP' from /8 to /32\n +1 +127\.0\.0\.0/8\n +1 +127\.0\.0\.1/32\n$".to_owned()),
        ("count outbound/out-1 32", r"^Displaying 'outbound/out-1' from /32 to /32\n".to_owned()),
        ("threads", r"(?m)^CPU thread pool: concurrency \d+$".to_owned()),
        ("threads stats", r"(?m)^(\S*)\s+thread\s+pool:\s+concurrency\s+(\d+)\s*$(?s).*Current queue length: \d+\n.*\n\nextra thread pool: concurrency 3\n".to_owned()),
        ("threads io queue", r"^Jobs in the IO pool\n\d+ jobs\n$".to_owned()),
        ("threads cpu queue", r"^Jobs in the CPU pool\n\d+ jobs\n$".to_owned()),
        ("memory", r"(?m)^queue +\d+$(?s).*VmRSS:\s+\d+ kB\n".to_owned()),
        ("memory queue", r"(?m)^queue +\d+$".to_owned()),
        ("cache list", r"(?m)^ dns\n(.*\n)*\n \d+ caches listed\.\n$".to_owned()),
        ("cache list entries hit-rate", r"(?m)^ +\d+ +\d+\.\d\d% dns$".to_owned()),
        ("cache stat dns", r"^Name          : dns\nCapacity ".to_owned()),
        ("cache stats dns", r"^cache name (.*\n)+dns +\d+ ".to_owned()),
        ("counter list", r"^VALUE +RESET_TIME +SEMANTICS COUNTER\n\n(.*\n)*\n?\d+ counters listed\.\n$".to_owned()),
        ("counter help", r"(?m)^counter unlink PATH ".to_owned()),
        ("dns_cache stats", r"^DNS Queries:\n(.*\n)+\nDNS timeouts:\n(.*\n)+\nDNS cache:\n +Entries: \d+\n +Lookups: \d+\n +Hit Rate: \d+\.\d{4}%\n$".to_owned()),
        ("dns_cache refcnts", r"^Entries: \d+\n".to_owned()),
        ("dns_cache lookup nothing.invalid A", r"^Cached result not found, try a submit\.\n$".to_owned()),
        ("config get retry_interval", r"^Retry_Interval = 3600\n$".to_owned()),
        ("config get blackhole", r"^Option 'Blackhole' is not set in scope ''\.\n$".to_owned()),
        ("config eval blackhole", r"^Blackhole = 0\n$".to_owned()),
        ("config eval binding_group outs binding out-1 domain held.test suspend_delivery", r"^\s*Suspend_Delivery = true\n$".to_owned()),
        ("config show", r"(?m)^Binding_Group .?outs.? \{ \.\.\. \}$".to_owned()),
        ("config showrecurse domain fast.test", r"Routes = \(".to_owned()),
        ("config locate listen", r"(?m)^Listen .127\.0\.0\.1:0.\n +is at Esmtp_Listener::Listen:127\.0\.0\.1\\:0:$".to_owned()),
        ("config replay", "transaction".to_owned()),
        ("write config", r"(?m)^Retry_Interval = 3600$".to_owned()),
        ("module list", r"(?m)^Module: ec_logger:main\n  Scope_Name: ec_logger\n  Instance_Name: main\n  Enabled: enabled\n  API: Logger\n  Name: ".to_owned()),
        ("module hooks", r"(?m)^validate_rcptto\n\tmod:validate_rcptto\(msg, str, ac, vctx\): phase rcptto, returns verdict$".to_owned()),
        ("paniclog", r"^(.*\n)*$".to_owned()),
        ("tail mainlog 3", r"^(\d+@.*\n){3}$".to_owned()),
        ("signing_stats", r"^.+\n".to_owned()),
        ("tls show cache", r"^0 TLS contexts\n$".to_owned()),
        ("trace smtp list", r"^No smtp tracers\.\n$".to_owned()),
        ("spool import /nowhere", r"not available in this release".to_owned()),
        ("spool import_poll /nowhere", r"not available in this release".to_owned()),
        ("spool_in X", r"not available in this release".to_owned()),
        ("unlink stats", r"^This server keeps no file for each message".to_owned()),
        ("authz id", r#"^<AuthzInformation username="\S+">\n"#.to_owned()),
        ("authz roles list", r"^<Roles".to_owned()),
        ("debugging mode", r"^I am Ten Ninjas\n$".to_owned()),
        ("summary with-mobile", r"(?m)^ +Log Lines Lost: +0$".to_owned()),
    ];
    for (command, wanted) in &looks {
        used.extend(ph_admin_name(command));
        let command = command.replace("SLOW", &slow).replace("HELD", &held);
        let text = console.show(&command);
        if !matches(wanted, &text) {
            wrong.push(format!("{command}:\n{text}\n  does not match\n{wanted}"));
        }
    }

    // What changes something, in an order that tells a story.
    let does = [
        ("summary reset", r"^statistics cleared\.\n$"),
        ("suspend domain fast.test 600 a rest", r"^fast\.test suspended for 600 seconds\.\n$"),
        ("resume domain fast.test", r"^fast\.test resumed\.\n$"),
        ("refresh domain dead.test", r"^dead\.test refreshed\.\n$"),
        ("message retry SLOW", r"^Message requeued for delivery\n$"),
        ("flush domain slow.test", r"^slow\.test flushed\. \d messages requeued\.\n$"),
        ("binding flush domain out-2 all", r"^All domains flushed\. 0 messages requeued\.\n$"),
        ("delay 600 --domain held.test --header Subject three", r"^Delayed 1 messages\.\n$"),
        ("showqueue held.test delayed", r"^\[delayed/out-1\] ID .*\n  From: <ann@sender\.test> To: <c@held\.test>\n$"),
        ("flush domain held.test", r"^held\.test flushed\. 1 messages requeued\.\n$"),
        ("rebind out-1 held.test", r"^Rebound 2 messages\.\n$"),
        ("suspend domain other.test", r"^other\.test suspended\.\n$"),
        ("reroute queue held.test other.test", r"^Moved 2 messages from 'held\.test' to 'other\.test'\n$"),
        ("reroute queue other.test held.test", r"^Moved 2 messages from 'other\.test' to 'held\.test'\n$"),
        ("dig fast.test", r"^submitted\n$"),
        ("dns_cache submit fast.invalid a", r"^Submitted\n$"),
        ("trace smtp add * slow.test DIR/trace", r"^Registered smtp tracer #1\n$"),
        ("trace smtp list", r"^\[ 1\] binding: \* domain: slow\.test file: \S+/trace\n$"),
        ("trace smtp remove 1", r"^Removed smtp tracer #1\n$"),
        ("trace smtp remove 99", r"^There is no smtp tracer #99\n$"),
        ("trace hook validate_rcptto", r"^Tracing the policy\.\n$"),
        ("trace next", r"^$"),
        ("trace stop", r"^The trace has ended\.\n$"),
        ("trace next", r"^.*No trace is under way\.\n$"),
        ("jobs stop 1", r"^There is no job 1\.\n$"),
        ("counter add /no/such/thing 1", r"^.+\n$"),
        ("counter increment /no/such/thing", r"^.+\n$"),
        ("counter reset /no/such/thing", r"^.+\n$"),
        ("counter unlink /no/such/thing", r"^.+\n$"),
        ("signing_stats reset", r"^Signing Statistics are reset\n$"),
        ("tls flush cache", r"^Cache flush request submitted\.\n$"),
        ("tls rekey", r"^Rekey request submitted\.\n$"),
        ("reopen logs", r"^Logs reopened\.\n$"),
        ("ec_logger:main reopen logs", r"^Logs reopened\.\n$"),
        ("bounce_logger reopen logs", r"^Logs reopened\.\n$"),
        ("custom_bounce_logger reopen logs", r"^There is no custom_bounce_logger\.\n$"),
        ("custom_logger reopen logs", r"^There is no custom_logger\.\n$"),
        ("chunk_logger reopen logs", r"^There is no chunk_logger\.\n$"),
        ("json_logger reopen logs", r"^There is no json_logger\.\n$"),
        (
            "config set relay_hosts ( 127.0.0.0/8 10.0.0.2 )",
            r"^Relay_Hosts = \(\n\s+127\.0\.0\.0/8\n\s+10\.0\.0\.2\n\)\n$",
        ),
        ("config unset relay_hosts", "^\"Relay_Hosts\" has been unset\\. Effective value is now:\n"),
        ("config begin", r"(?i)transaction|^$"),
        ("config set retry_interval 1800", r"^Retry_Interval = 1800\n$"),
        ("config replay", r"^config set retry_interval 1800\n$"),
        ("config rollback", r"(?i)roll"),
        ("config begin from scratch", r"(?i)transaction|scratch|^$"),
        ("config rollback", r"(?i)roll"),
        ("config commit", r"(?i)transaction"),
        ("config writeback", r".+"),
        ("config reload", r"^(?!(?s).*failed)"),
        ("config eval retry_interval", r"^Retry_Interval = 3600\n$"),
        ("write config DIR/copy.conf", r"^Configuration written to \S+/copy\.conf\.\n$"),
        ("message fail quiet HELD", r"^Message failed\n$"),
        ("message fail SLOW", r"^(Message failed|Message ID is being delivered\.)\n$"),
        ("binding fail domain quiet out-2 held.test", r"^held\.test purged\. 0 messages failed\.\n$"),
        ("binding fail domain out-1 held.test not wanted", r"^held\.test purged\. 1 messages failed\.\n$"),
        ("fail domain quiet held.test", r"^held\.test purged\. 0 messages failed\.\n$"),
        ("fail domain held.test", r"^held\.test purged\. 0 messages failed\.\n$"),
        ("fail all quiet --meta no such", r"^All domains purged\. 0 messages failed\.\n$"),
        ("fail all --header X-No such", r"^All domains purged\. 0 messages failed\.\n$"),
        ("quit", r"^Goodbye\.\n$"),
    ];
    for (command, wanted) in does {
        used.extend(ph_admin_name(command));
        let command = command.replace("SLOW", &slow).replace("HELD", &held).replace("DIR", &dir);
        let text = console.say(&command);
        if !matches(wanted, &text) {
            wrong.push(format!("{command}:\n{text}\n  does not match\n{wanted}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
    assert!(console.runtime.block_on(console.client.request("pid")).is_err(), "`quit` closes");
    let line = server.wait_for_log("mainlog.ec", |line| line.contains("@P@") && line.contains("not wanted"));
    assert!(line.contains("@held.test@"), "{line}");
    assert!(server.log("mainlog.ec").lines().any(|line| line.contains("@P@") && line.contains("554 manually failed.")));

    let mut console = Console::of(&server);
    used.insert("shutdown");
    assert_eq!(console.say("shutdown"), "Shutting down.\n");
    let mut server = server;
    assert_eq!(server.wait(), Some(0));
    let left: Vec<&str> =
        ph_admin::commands().map(|command| command.name).filter(|name| !used.contains(name)).collect();
    assert!(left.is_empty(), "commands without a case here: {left:?}");
}

/// The declared command that a line is.
fn ph_admin_name(line: &str) -> Option<&'static str> {
    // `ec_logger:main reopen logs` is `ec_logger reopen logs`.
    let line = line.replace(":main ", " ");
    let is = |name: &&str| line == *name || line.strip_prefix(name).is_some_and(|rest| rest.starts_with(' '));
    ph_admin::commands().map(|command| command.name).filter(is).max_by_key(|name| name.len())
}

#[test]
fn suspensions_outlast_a_restart_and_a_crash() {
    let next = NextHop::start();
    let keep = tempfile::tempdir().expect("a folder");
    let dir = keep.path();
    let gateway = |domain: &str| format!("domain {domain} {{ Routes = ( \"{}\" ) }}\n", next.gateway());
    strain::relay(dir, "", &(gateway("a.test") + &gateway("b.test")));
    let mut server = Server::run(dir);
    let time = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d";
    assert_eq!(server.console("suspend domain a.test they asked us to wait"), "a.test suspended.\n");
    assert_eq!(server.console("suspend binding default 7200"), "default suspended for 7200 seconds.\n");
    let before = server.console("suspensions");
    assert_matches(
        &format!(
            "^domain a.test since {time} by \\S+ until resumed: they asked us to wait\n\
             binding default since {time} by \\S+ until {time}\n2 suspensions\n$"
        ),
        &before,
    );
    server.kill();
    let mut server = Server::run(dir);
    assert_eq!(server.console("suspensions"), before, "after a crash");
    assert_eq!(server.console("resume binding default"), "default resumed.\n");
    assert_eq!(server.stop(), Some(0));
    let mut server = Server::run(dir);
    let text = server.console("suspensions");
    assert!(text.starts_with("domain a.test since ") && text.ends_with("\n1 suspensions\n"), "{text}");

    let mut client = Client::hello(server.smtp());
    client.deliver("ann@sender.test", &["x@a.test"], &letter("held", "x\n"));
    client.deliver("ann@sender.test", &["x@b.test"], &letter("goes", "x\n"));
    next.wait_for_rcpt("x@b.test");
    let id = id_in(&mut Console::of(&server), "a.test");
    let text = server.console(&format!("queue explain {id}"));
    assert_matches("Reason: suspended: they asked us to wait\n +Suspended Since: \\d+\n +Suspended By: \\S+\n", &text);
    server.kill();

    // A file that cannot be read must not let mail go that somebody has stopped.
    let file = dir.join("spool").join(ph_admin::SUSPENSIONS_FILE);
    let good = std::fs::read_to_string(&file).expect("the file is there");
    write(&file, &good[..good.len() / 2]);
    let error = Server::try_run(dir).err().expect("no start");
    assert!(error.contains("suspensions.json") && error.contains("remove it"), "{error}");
    write(&file, &good);
    let server = Server::run(dir);
    assert_eq!(next.count("RCPT TO:<x@a.test>"), 0, "nothing has left");
    assert_eq!(server.console("resume domain a.test"), "a.test resumed.\n");
    next.wait_for_rcpt("x@a.test");
}

#[test]
fn open_relays_are_seen_in_the_paniclog() {
    let listener = "ESMTP_Listener { SMTP_Extensions = ( ENHANCEDSTATUSCODES ) Listen \"127.0.0.1:0\" {} }\n";
    let warning = "everybody may relay: Relay_Hosts";
    let server = Server::start(&format!("Relay_Hosts = ( 0.0.0.0/0 )\n{listener}"), &[]);
    let line = server.wait_for_log("paniclog.ec", |line| line.contains(warning));
    assert!(line.contains("posthaste.conf:"), "{line}");
    assert!(server.log("stderr").contains(warning));
    assert!(server.console("paniclog").contains(warning));
    // Once is enough: not again for a change that has nothing to do with it.
    assert_eq!(server.console("config set retry_interval 5"), "Retry_Interval = 5\n");
    assert_eq!(server.log("paniclog.ec").matches(warning).count(), 1);

    // Whoever opens one online is told in the reply.
    let server = Server::start(listener, &[]);
    let text = server.console("config set relay_hosts ( 0.0.0.0/0 )");
    assert!(text.starts_with("Relay_Hosts = (\n") && text.contains(warning), "{text}");
    server.wait_for_log("paniclog.ec", |line| line.contains(warning));
}

#[test]
fn whoever_comes_by_tcp_says_who_they_are_and_may_do_what_their_role_may() {
    let port =
        std::net::TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port").port();
    // As `posthaste passwd --realm 'Momentum Console' ops` writes it.
    let secret = ph_admin::digest_secret("ops", "Momentum Console", b"s3cret");
    let hex: String = secret.iter().map(|byte| format!("{byte:02x}")).collect();
    let text = format!(
        "suspend_delivery = true\n\
         Control_Listener {{\n AuthDigestMD5Parameters = [ uri = \"digest://@dir@/passwd\" realm = \"Momentum Console\" \
         log_authentication = true ]\n AuthorizationParameters = [ uri = \"groups://@dir@/roles\" ]\n\
         Listen \"127.0.0.1:{port}\" {{ Enable_Authentication = true Enable_Authorization = true }} }}\n\
         Authorization {{ Role staff {{ allow = ( \"^config (get|eval|show)\" \"^summary$\" ) }} }}\n\
         ESMTP_Listener {{ Listen \"127.0.0.1:0\" {{}} }}\n"
    );
    let server =
        Server::start(&text, &[("passwd", &format!("ops:Momentum Console:{hex}\n")), ("roles", "staff:ops\n")]);
    let address: Address = format!("127.0.0.1:{port}").parse().expect("an address");
    let mut console = Console::to(&address);
    assert!(console.say("version").contains("Authorization required"));
    let mut login = |password: &str| {
        let Console { runtime, client } = &mut console;
        runtime.block_on(client.authenticate("ops", password)).expect("an answer")
    };
    assert!(!login("wrong") && login("s3cret"));
    assert!(console.say("summary").starts_with("Summary Statistics\n"));
    assert_eq!(console.say("config get blackhole"), "Option 'Blackhole' is not set in scope ''.\n");
    assert_eq!(console.say("config set retry_interval 1"), "Not Authorized for this command\n");
    let denied = format!("@Z@127.0.0.1:{port}@");
    let line = server.wait_for_log("acctlog.ec", |line| line.contains(&denied) && line.contains("config set"));
    assert!(line.ends_with("@ops@0@config set retry_interval 1"), "{line}");
    let logins: Vec<String> =
        server.log("acctlog.ec").lines().filter(|line| line.contains("@N@127.0.0.1:")).map(str::to_owned).collect();
    assert!(logins.len() == 2 && logins[0].ends_with("@ops@0") && logins[1].ends_with("@ops@1"), "{logins:?}");
}

#[test]
fn of_two_transactions_the_second_changes_nothing_and_rubbish_gets_an_answer() {
    let server = Server::start("suspend_delivery = true\nESMTP_Listener { Listen \"127.0.0.1:0\" {} }\n", &[]);
    let (mut one, mut two) = (Console::of(&server), Console::of(&server));
    for (console, value) in [(&mut one, "5"), (&mut two, "6")] {
        console.say("config begin");
        assert_eq!(console.say(&format!("config set max_retries {value}")), format!("Max_Retries = {value}\n"));
    }
    assert_eq!(server.console("config eval max_retries").trim(), "Max_Retries = auto", "nobody else sees it yet");
    assert!(one.say("config commit").contains("committed"));
    assert!(two.say("config commit").contains("changed by another session"));
    assert_eq!(server.console("config eval max_retries"), "Max_Retries = 5\n");
    // A session that goes away takes its changes along.
    one.say("config begin");
    one.say("config set max_retries 7");
    drop(one);
    assert_eq!(server.console("config eval max_retries"), "Max_Retries = 5\n");

    for line in [
        "trace smtp remove 99",
        "xml ",
        "\nversion",
        "json",
        "\u{0}",
        "auth",
        "\"",
        ":",
        "config",
        "config set",
        "message details",
    ] {
        server_answers(&mut two, line);
    }
    let mut state = 88172645463325252_u64;
    let rubbish: Vec<u8> = std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    })
    .take(60_000)
    .collect();
    let mut frame = vec![0, 1];
    frame.extend_from_slice(&60_000_u16.to_be_bytes());
    frame.extend_from_slice(&rubbish);
    for bytes in [&frame[..], &rubbish[..]] {
        use std::io::{Read, Write};
        let mut stream = std::os::unix::net::UnixStream::connect(server.dir.join("control")).expect("it listens");
        stream.set_read_timeout(Some(common::PATIENCE)).expect("a timeout can be set");
        let _ = stream.write_all(bytes);
        let mut head = [0; 2];
        let closed = |error: &std::io::Error| error.kind() == std::io::ErrorKind::ConnectionReset;
        // Closed in order (0), closed with bytes of ours unread, or the beginning of an answer.
        let heard = stream.read(&mut head);
        let is_fine = match &heard {
            Ok(octets) => *octets <= head.len(),
            Err(error) => closed(error),
        };
        assert!(is_fine, "{heard:?}");
    }
    assert_eq!(server.console("pid").trim(), server.pid().to_string());
}

fn server_answers(console: &mut Console, line: &str) {
    let Console { runtime, client } = console;
    runtime.block_on(client.request(line)).unwrap_or_else(|error| panic!("{line:?}: {error}"));
}
