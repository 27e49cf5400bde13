//! Mail that a policy makes, in the running server: where it goes, which hooks see it, what refuses it, that it is safe before the
//! function returns, and that it comes to an end.

mod common;

use common::next_hop::NextHop;
use common::{Client, Server, assert_matches, letter, wait_for, write};

/// A server for `rcpt.test` that sends everything to `next` and runs a policy of these functions.
fn server(functions: &str, next: &NextHop, settings: &str) -> Server {
    let policy = format!(
        "require(\"msys.core\")\nrequire(\"msys.extended.message\")\nlocal core = msys.core\n\
         local CONN, MESS, CONT = core.VCTX_CONN, core.VCTX_MESS, core.VALIDATE_CONT\n\
         local mod = {{}}\n{functions}\nmsys.registerModule(\"policy\", mod)\n"
    );
    let extra = format!(
        "Relay_Domains = ( rcpt.test )\nGateway = \"{}\"\n{settings}\n\
         scriptlet \"scriptlet\" {{ script \"policy\" {{ source = \"policy\" }} }}\n\
         ESMTP_Listener {{ SMTP_Extensions = ( ENHANCEDSTATUSCODES ) Listen \"127.0.0.1:0\" {{}} }}\n",
        next.gateway()
    );
    Server::start(&extra, &[("policy.lua", &policy)])
}

#[test]
fn a_copy_that_makes_copies_ends_after_twenty_generations() {
    let next = NextHop::start();
    let server = server(
        r#"
        function mod:core_post_msg_each_rcpt(msg, ac, vctx)
          local to = msg:rcptto()
          if to == "once@rcpt.test" then
            if msg.recv_method ~= core.P_INTERNAL then
              print("once", msg:inject("ann@sender.test", "copy@rcpt.test"))
            end
          elseif to == "loop@rcpt.test" then
            local ok, err = msg:inject("ann@sender.test", "loop@rcpt.test")
            if not ok then print("refused", err) end
          elseif to == "anew@rcpt.test" then
            local letter = core.ec_message_new()
            letter:build({ Subject = "anew" }, { ["text/plain"] = "x" }, nil)
            local done = false
            thread.create(function()
              if not letter:inject("", "anew@rcpt.test") then print("refused anew") end
              done = true
            end)
            while not done do msys.sleep(0.01) end
          elseif to == "many@rcpt.test" then
            print("many", msg:inject("ann@sender.test", "m1@rcpt.test,m2@rcpt.test"))
            print("bad", msg:inject("ann@sender.test", "m1@rcpt.test, not an address"))
          end
        end
        "#,
        &next,
        "",
    );
    let mut client = Client::hello(server.smtp());
    // The two copies of one call go out in one transaction.
    for (to, messages) in [("once", 2), ("many", 4), ("loop", 25), ("anew", 46)] {
        let reply = client.deliver("ann@sender.test", &[&format!("{to}@rcpt.test")], &letter(to, "x\n"));
        assert_matches("^250 2.0.0 OK ", &reply);
        assert_eq!(next.wait_for(messages).len(), messages, "{to}");
    }
    for to in ["copy", "m1", "m2"] {
        let taken = next.wait_for_rcpt(&format!("{to}@rcpt.test"));
        assert!(taken.mail.starts_with("MAIL FROM:<ann@sender.test>"), "{}", taken.mail);
        assert_eq!(taken.body().trim_end(), "x");
    }
    server.wait_for_log("paniclog.ec", |line| line.contains("scriptlet: refused injection loop"));
    server.wait_for_log("paniclog.ec", |line| line.contains("scriptlet: refused anew"));
    let panics = server.log("paniclog.ec"); // what came before the last line is there too
    assert_eq!(panics.matches("msg:inject: injection loop: ").count(), 2, "{panics}");
    assert_matches("(?m)scriptlet: once true", &panics);
    assert_matches("(?m)scriptlet: many true", &panics);
    assert_matches("(?m)scriptlet: bad false 'not an address' is no address", &panics);
    wait_for("the records of 43 copies", || {
        (server.log("mainlog.ec").matches("@internal@").count() >= 43).then_some(())
    });
    assert_eq!(server.log("mainlog.ec").matches("@internal@").count(), 43);
}

#[test]
fn what_is_injected_takes_the_way_of_internal_mail() {
    let next = NextHop::start();
    let server = server(
        r#"
        local function seen(hook, msg, ac, vctx)
          if msg.recv_method == core.P_INTERNAL then
            print(hook, msg:rcptto(), ac, vctx, msg:binding(), msg:context_get(MESS, "mark"),
              msg:context_get(MESS, "mailfrom_localpart"), msg:context_get(MESS, "rcptto_localpart"),
              msg:context_get(MESS, "rcptto_string"), msg:context_get(CONN, "site"), tostring(msg.conn_id))
          end
        end
        function mod:validate_connect(ac, vctx) vctx:set(CONN, "site", "ams") return CONT end
        function mod:validate_data(msg) seen("validate_data", msg) return CONT end
        function mod:core_pre_msg_each_rcpt(msg, ac, vctx) seen("pre", msg, ac, vctx) return 0 end
        function mod:validate_data_spool_each_rcpt(msg, ac, vctx)
          seen("validate_data_spool_each_rcpt", msg, ac, vctx)
          vctx:set(MESS, "mark", "m1")
          msg:routing_domain("[127.0.0.1]:1") -- of this recipient alone
          msg:discard()
          local copy = msg:copy()
          copy:header("X-Copy", "1")
          copy:binding("b2")
          print("copy", copy:inject("<bob@sender.test>", "one@rcpt.test, two@rcpt.test"))
          print("itself", msg:inject("", "three@rcpt.test"))
          return CONT
        end
        function mod:core_post_msg_each_rcpt(msg, ac, vctx) seen("post", msg, ac, vctx) end
        function mod:validate_set_binding(msg)
          seen("binding", msg)
          if not msg:binding() then msg:binding("b1") end
          return CONT
        end
        function mod:core_final_validation(msg, ac, vctx) seen("final", msg, ac, vctx) msg:header("X-Final", "1") end
        function mod:core_log_reception_v1(msg, ac) end
        "#,
        &next,
        "Binding b1 {}\nBinding b2 {}\n",
    );
    let mut client = Client::hello(server.smtp());
    let reply = client.deliver("ann@sender.test", &["gone@rcpt.test"], &letter("hello", "x\n"));
    assert_matches("^250 ", &reply);
    assert_eq!(next.wait_for(2).len(), 2, "one transaction for the two copies");
    for (to, sender, copied) in [("one", "bob@sender.test", 1), ("two", "bob@sender.test", 1), ("three", "", 0)] {
        let taken = next.wait_for_rcpt(&format!("{to}@rcpt.test"));
        assert!(taken.mail.starts_with(&format!("MAIL FROM:<{sender}>")), "{}", taken.mail);
        assert_eq!(taken.headers("X-Copy").len(), copied);
        assert_eq!(taken.headers("X-Final").len(), 1);
        assert_eq!(taken.headers("Date").len(), 1);
        assert_matches("with internal id ", &taken.headers("Received")[0]);
    }
    server.wait_for_log("paniclog.ec", |line| line.contains("scriptlet: itself true"));
    let panics = server.log("paniclog.ec");
    for hook in ["pre", "post", "binding", "final"] {
        for (to, sender, binding) in [("one", "bob", "b2"), ("two", "bob", "b2"), ("three", "", "nil")] {
            let binding = if hook == "final" && binding == "nil" { "b1" } else { binding };
            let line = format!(
                "scriptlet: {hook} {to}@rcpt.test nil nil {binding} m1 {sender} {to} RCPT TO:<{to}@rcpt.test> ams \
                 00/00-00000-00000000"
            );
            assert_eq!(panics.matches(&line).count(), 1, "{line}\n{panics}");
        }
    }
    assert_eq!(panics.matches("validate_data").count(), 0, "{panics}");
    assert_matches("scriptlet: copy true", &panics);
    assert_matches("scriptlet: itself true", &panics);
}

#[test]
fn a_hook_that_refuses_or_fails_leaves_nothing_behind() {
    let next = NextHop::start();
    let server = server(
        r#"
        function mod:core_final_validation2(msg, ac, vctx)
          if msg.recv_method == core.P_INTERNAL and msg:rcptto() == "refused@rcpt.test" then return 1 end
          return 0
        end
        function mod:core_pre_msg_each_rcpt(msg, ac, vctx)
          if msg:rcptto() == "broken@rcpt.test" then error("broken") end
          if msg:rcptto() == "thrown@rcpt.test" then msg:discard("550 5.7.1 thrown away") end
          return 0
        end
        function mod:validate_data_spool_each_rcpt(msg, ac, vctx)
          for _, to in ipairs { "a@rcpt.test,refused@rcpt.test", "a@rcpt.test,broken@rcpt.test", "thrown@rcpt.test",
            "kept@rcpt.test,thrown@rcpt.test" } do
            print("to", to, msg:inject("ann@sender.test", to))
          end
          return CONT
        end
        "#,
        &next,
        "",
    );
    let mut client = Client::hello(server.smtp());
    assert_matches("^250 ", &client.deliver("ann@sender.test", &["bob@rcpt.test"], &letter("hello", "x\n")));
    next.wait_for_rcpt("bob@rcpt.test");
    next.wait_for_rcpt("kept@rcpt.test");
    assert_eq!(next.messages().len(), 2);
    server.wait_for_log("paniclog.ec", |line| line.contains("to kept@rcpt.test"));
    let panics = server.log("paniclog.ec");
    for line in [
        "to a@rcpt.test,refused@rcpt.test false refused by policy: 550 5.7.1 Rejected by policy",
        "to a@rcpt.test,broken@rcpt.test false refused by policy: 4",
        "to thrown@rcpt.test false discarded by policy",
        "to kept@rcpt.test,thrown@rcpt.test true",
    ] {
        assert!(panics.contains(line), "{line}\n{panics}");
    }
    wait_for("two records of what was thrown away", || {
        (server.log("rejectlog.ec").matches(" E=550 M=scriptlet ").count() == 2).then_some(())
    });
    server.wait_for_log("rejectlog.ec", |line| line.ends_with(" 5.7.1 thrown away"));
}

#[test]
fn a_copy_is_on_stable_storage_before_inject_returns() {
    let next = NextHop::start();
    let mut first = server(
        r#"
        function mod:validate_data_spool_each_rcpt(msg, ac, vctx)
          if msg:inject("ann@sender.test", "copy@rcpt.test") then print("it is safe") end
          msys.sleep(3600)
          return CONT
        end
        "#,
        &next,
        "Suspend_Delivery = true\n",
    );
    let dir = first.dir.clone();
    let mut client = Client::hello(first.smtp());
    for line in ["MAIL FROM:<ann@sender.test>", "RCPT TO:<bob@rcpt.test>", "DATA"] {
        client.command(line);
    }
    client.send("Subject: x\r\n\r\nx\r\n.\r\n");
    first.wait_for_log("paniclog.ec", |line| line.contains("it is safe"));
    first.kill();
    let config = std::fs::read_to_string(dir.join("posthaste.conf")).expect("the configuration can be read");
    write(&dir.join("posthaste.conf"), &config.replace("Suspend_Delivery = true\n", ""));
    let second = Server::run(&dir);
    next.wait_for_rcpt("copy@rcpt.test");
    assert_eq!(next.messages().len(), 1, "what had no reply is not sent");
    drop(second);
}

#[test]
fn large_bodies_are_matched_replaced_forwarded_and_attached() {
    let next = NextHop::start();
    let server = server(
        r#"
        function mod:validate_data_spool_each_rcpt(msg, ac, vctx)
          print("match", msg:body_match("needle (\\d+)")[1], msg:raw_match("needle (\\d+)").all[1][1])
          print("forward", msg:forward("ann@sender.test", "forwarded@rcpt.test", "see", "subject"))
          local letter = core.ec_message_new()
          letter:build({ Subject = "built" }, { ["text/plain"] = "x" }, { { content = msg } })
          print("build", letter:inject("ann@sender.test", "built@rcpt.test"))
          print("replace", msg:body_replace("needle (\\d+)", "found $1"))
          print("replaced", msg:body_match("found (\\d+)")[1])
          return CONT
        end
        "#,
        &next,
        "large_message_threshold = 65536\n",
    );
    let filling = "0123456789abcdef0123456789abcdef0123456789abcdef012345678\n".repeat(4000);
    let body = format!("{filling}needle 42\n{filling}");
    let mut client = Client::hello(server.smtp());
    assert_matches("^250 ", &client.deliver("ann@sender.test", &["bob@rcpt.test"], &letter("large", &body)));
    let original = letter("large", &body).replace('\n', "\r\n");
    for to in ["forwarded", "built"] {
        let taken = next.wait_for_rcpt(&format!("{to}@rcpt.test"));
        let (_, attached) = taken
            .content()
            .split_once("\r\nContent-Type: message/rfc822")
            .map(|(a, b)| (a.to_owned(), b.to_owned()))
            .expect("it is attached");
        assert!(attached.contains(&original), "{to}");
    }
    let taken = wait_for("the message itself", || {
        next.messages().into_iter().find(|taken| taken.rcpt.iter().any(|rcpt| rcpt.contains("bob@")))
    });
    assert_eq!(taken.body().trim_end(), body.replace("needle", "found").replace("\n", "\r\n").trim_end());
    server.wait_for_log("paniclog.ec", |line| line.contains("scriptlet: replaced"));
    let panics = server.log("paniclog.ec");
    for line in ["match 42 42", "forward true", "build true", "replace true", "replaced 42"] {
        assert!(panics.contains(&format!("scriptlet: {line}")), "{line}\n{panics}");
    }
}
