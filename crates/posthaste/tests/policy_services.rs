//! What policies reach beyond their session in the running server: the configuration, the queue's domains, the DNS, pools.

mod common;

use common::{Client, Server, letter, wait_for};
use ph_dns::testing::Authority;

/// A server whose policy answers `EHLO CALL.test` with what `calls[CALL]` gives, in the paniclog.
fn server(calls: &str, settings: &str) -> Server {
    let policy = format!(
        "require(\"msys.core\")\nlocal core, mod, calls = msys.core, {{}}, {{}}\n{calls}\n\
         function mod:validate_ehlo(str, ac, vctx)\n\
           local call = calls[vctx:get(core.VCTX_CONN, \"ehlo_domain\"):match(\"^[%w_]+\")]\n\
           if call then print(\"answer\", call()) end\n\
           return core.VALIDATE_CONT\n\
         end\n\
         msys.registerModule(\"policy\", mod)\n"
    );
    let extra = format!(
        "Relay_Hosts = ( 127.0.0.0/8 )\nResolv_Conf = \"@dir@/resolv.conf\"\n{settings}\n\
         scriptlet \"scriptlet\" {{ script \"policy\" {{ source = \"policy\" }} }}\n\
         ESMTP_Listener {{ Listen \"127.0.0.1:0\" {{}} }}\n"
    );
    Server::start(
        &extra,
        &[("policy.lua", &policy), ("resolv.conf", "nameserver 127.0.0.1\noptions timeout:1 attempts:1\n")],
    )
}

/// The answer of a call: the values with blanks between.
fn ask(server: &Server, call: &str) -> String {
    let marked = |line: &str| line.split_once("answer ").map(|(_, answer)| answer.to_owned());
    let count = || server.log("paniclog.ec").lines().filter_map(marked).count();
    let before = count();
    let (mut client, _) = Client::connect(server.smtp());
    client.command(&format!("EHLO {call}.test"));
    wait_for("the answer", || server.log("paniclog.ec").lines().filter_map(marked).nth(before))
}

#[test]
fn a_policy_reads_and_changes_the_configuration() {
    let server = server(
        r#"
        function calls.get() return msys.config("get", "max_outbound_connections") end
        function calls.eval() local value = msys.config("eval", "Max_Outbound_Connections") return type(value) end
        function calls.domain() return (msys.config("eval", "domain", "yahoo.test", "max_outbound_connections")) end
        function calls.time() return (msys.config("eval", "retry_interval")) end
        function calls.list() return table.concat(msys.config("eval", "relay_hosts"), "+") end
        function calls.set() return (msys.config("set", "domain", "yahoo.test", "max_outbound_connections", 9)) end
        function calls.unset() return (msys.config("unset", "domain", "yahoo.test", "max_outbound_connections")) end
        function calls.bad() return (msys.config("set", "blackhole", "maybe")) end
        function calls.nosuch() return (msys.config("eval", "nosuch")) end
        function calls.show() return (msys.config("show")):lower():find("hostname", 1, true) ~= nil end
        -- While scripts are loaded, a change would wait for the very loading.
        function mod:init()
          print("at init", msys.config("set", "blackhole", "true"))
          return true
        end
        "#,
        "domain yahoo.test { max_outbound_connections = 3 }\nretry_interval = 17\n",
    );
    for (call, answer) in [
        ("get", "nil Option 'Max_Outbound_Connections' is not set in scope ''."),
        ("eval", "number"),
        ("domain", "3"),
        ("time", "17"),
        ("list", "127.0.0.0/8"),
        ("set", "true"),
        ("domain", "9"),
        ("unset", "true"),
        ("bad", "nil"),
        ("nosuch", "nil"),
        ("show", "true"),
    ] {
        assert_eq!(ask(&server, call), answer, "{call}");
    }
    assert!(
        server.log("paniclog.ec").contains("at init nil the configuration cannot be changed while it is being loaded")
    );
    let reloaded = server.console("config reload");
    assert!(!reloaded.contains("failed"), "{reloaded}");
    assert_eq!(ask(&server, "domain"), "3");
}

#[test]
fn a_policy_delays_the_mail_of_a_domain() {
    let server = server(
        r#"
        local dr = core.dns_get_domain("Held.Test.")
        function calls.delay() return core.mail_queue_delay_domain(dr, "452 4.3.1 not today") end
        function calls.numbers() return dr.domain, dr.transients, dr.attempts, dr.deliveries, dr.last_delivery.tv_sec end
        "#,
        "domain held.test { suspend_delivery = true }\n",
    );
    assert_eq!(ask(&server, "numbers"), "held.test 0 0 0 0");
    let mut client = Client::hello(server.smtp());
    for number in 0..3 {
        let reply = client.deliver("a@sender.test", &[&format!("r{number}@held.test")], &letter("x", "x\n"));
        assert!(reply.starts_with("250 "), "{reply}");
    }
    assert_eq!(ask(&server, "delay"), "nil");
    let log = wait_for("the records", || {
        let log = server.log("mainlog.ec");
        (log.matches("452 4.3.1 not today").count() == 3).then_some(log)
    });
    assert_eq!(log.lines().filter(|line| line.contains("@T@") && line.contains("not today")).count(), 3, "{log}");
    assert_eq!(ask(&server, "numbers"), "held.test 3 3 0 0");
    // They wait for their next attempt now: there is nothing left to delay.
    assert_eq!(ask(&server, "delay"), "nil");
    assert_eq!(server.log("mainlog.ec").matches("not today").count(), 3);
}

#[test]
fn a_policy_asks_the_dns() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let authority = runtime
        .block_on(Authority::start("two.test MX 20 b.test\ntwo.test MX 10 a.test\n9.2.0.192.in-addr.arpa PTR a.test\n"))
        .unwrap();
    let server = server(
        &format!(
            r#"
            local options = {{ server = "{}", priority = true }}
            function calls.mx()
              local found = assert(msys.dnsLookup("two.test", "MX", options))
              return #found, found[1][1], found[1][2], found[2][1], found[2][2]
            end
            function calls.ptr() return msys.dnsLookup("192.0.2.9", "PTR", options)[1] end
            function calls.none() return #msys.dnsLookup("two.test", "TXT", options) end
            function calls.absent() return msys.dnsLookup("absent.test", "A", options) end
            function calls.nobody() return msys.dnsLookup("two.test", "MX") end
            "#,
            authority.address()
        ),
        "",
    );
    for (call, answer) in [
        ("mx", "2 10 a.test 20 b.test"),
        ("ptr", "a.test"),
        ("none", "0"),
        ("absent", "nil NXDOMAIN"),
        ("nobody", "nil TIMEOUT"),
    ] {
        assert_eq!(ask(&server, call), answer, "{call}");
    }
}

#[test]
fn pools_of_the_configuration_are_there() {
    let server = server(
        r#"
        function calls.pools()
          local pool = msys.threadpool
          return pool.count(), pool.find("mine"), pool.find(10), pool.stat("MINE").num_threads, pool.stat("io").num_threads
        end
        function calls.run() return msys.runInPool("mine", function() msys.sleep(0.01) return "ran" end) end
        "#,
        "ThreadPool \"Mine\" { Concurrency = 3 }\nThreadPool \"IO\" { Concurrency = 7 }\n",
    );
    assert_eq!(ask(&server, "pools"), "9 10 Mine 3 7");
    assert_eq!(ask(&server, "run"), "true ran");
    let threads = server.console("threads");
    let mine = threads.split("\n\n").find(|pool| pool.starts_with("Mine ")).expect("the pool is shown");
    assert!(mine.contains("concurrency 3") && mine.contains("Total invocations: 1"), "{threads}");
    let time =
        mine.lines().find_map(|line| line.trim().strip_prefix("Average wallclock time per op: ")).expect("a time");
    let time: f64 = time.trim_end_matches("ms").parse().expect("a number");
    assert!((10.0..5000.0).contains(&time), "a sleep of 10 ms took {time}");
}
