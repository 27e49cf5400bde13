//! Where mail goes and in which order, by the running server: name servers that a reload changes, mail that is more urgent than
//! other.

mod common;

use common::next_hop::NextHop;
use common::{Client, Server, assert_matches, letter, wait_for};
use ph_dns::testing::Authority;

const LISTENER: &str = "Relay_Hosts = ( 127.0.0.0/8 )\n\
                        ESMTP_Listener { SMTP_Extensions = ( ENHANCEDSTATUSCODES ) Listen \"127.0.0.1:0\" {} }\n";

fn send(server: &Server, to: &str) {
    let reply = Client::hello(server.smtp()).deliver("ann@sender.test", &[to], &letter("routing", "the body\n"));
    assert_matches("^250 2.0.0 OK ID$", &reply);
}

/// Recipient domains and the domains under which they were delivered, sorted.
fn deliveries(server: &Server, count: usize) -> Vec<String> {
    wait_for(&format!("{count} deliveries"), || {
        let log = server.log("mainlog.ec");
        let mut found: Vec<String> = log
            .lines()
            .filter(|line| line.contains("@D@"))
            .filter_map(|line| line.split('@').nth(5).map(str::to_owned))
            .collect();
        found.sort();
        Some(found).filter(|found| found.len() >= count)
    })
}

#[test]
fn a_reload_asks_other_name_servers() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let zones = ["gone.test A 127.0.0.3\n", "found.test A 127.0.0.1\n"];
    let names = zones.map(|zone| runtime.block_on(Authority::start(zone)).unwrap());
    let resolv_conf = |at: usize| format!("nameserver {}\n", names[at].address());
    let next = NextHop::start();
    let settings = format!(
        "{LISTENER}Resolv_Conf = \"@dir@/resolv.conf\"\nRemote_SMTP_Port = {}\nRetry_Interval = 1\nMax_Retry_Interval = 1\n\
         DNS_Failures_To_Purge = 100\n",
        next.address.port()
    );
    let server = Server::start(&settings, &[("resolv.conf", &resolv_conf(0))]);
    send(&server, "ann@found.test");
    server.wait_for_log("mainlog.ec", |line| line.contains("no MX or A for domain"));
    common::strain::replace(&server.dir.join("resolv.conf"), &resolv_conf(1));
    server.signal("-HUP");
    assert_eq!(deliveries(&server, 1), ["found.test"]);
}

#[test]
fn urgent_mail_overtakes_what_waits_also_after_a_kill() {
    let next = NextHop::start();
    let policy = "require(\"msys.core\") require(\"msys.extended.message\")\nlocal mod = {}\n\
                  function mod:validate_set_binding(msg)\n\
                    local to = msg:context_get(msys.core.ECMESS_CTX_MESS, \"rcptto_localpart\")\n\
                    if to == \"urgent\" then msg.priority = 1 end\n\
                    return msys.core.VALIDATE_CONT\nend\nmsys.registerModule(\"policy\", mod)\n";
    let settings = |suspend: bool| {
        format!(
            "{LISTENER}Gateway = \"{}\"\nmax_outbound_connections = 1\nsuspend_delivery = {suspend}\n\
             scriptlet \"scriptlet\" {{ script \"policy\" {{ source = \"policy\" }} }}\n",
            next.gateway()
        )
    };
    let keep = tempfile::tempdir().unwrap();
    let dir = keep.path();
    common::write(&dir.join("policy.lua"), policy);
    common::write(&dir.join("posthaste.conf"), &common::base_config(dir, &settings(true)));
    let mut server = Server::run(dir);
    for name in ["first", "second", "urgent", "last"] {
        send(&server, &format!("{name}@rcpt.test"));
    }
    server.kill();
    common::write(&dir.join("posthaste.conf"), &common::base_config(dir, &settings(false)));
    let _server = Server::run(dir);
    next.wait_for(4);
    let order: Vec<String> = next.messages().iter().map(|taken| taken.rcpt.join(" ")).collect();
    let wanted = ["urgent", "first", "second", "last"].map(|name| format!("RCPT TO:<{name}@rcpt.test>"));
    assert_eq!(order, wanted);
}
