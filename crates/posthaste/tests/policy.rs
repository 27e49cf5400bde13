//! A policy in the running server: what its hooks refuse, change, choose, throw away and delay, and what becomes of a hook that
//! fails, never ends or waits.

mod common;

use common::next_hop::NextHop;
use common::{Client, Server, assert_matches, letter, matches, wait_for};
use std::time::{Duration, Instant};

/// A server for `rcpt.test` that sends everything to `next` and runs `policy`.
fn server(policy: &str, next: &NextHop, settings: &str) -> Server {
    let extra = format!(
        "Relay_Domains = ( rcpt.test )\nGateway = \"{}\"\n{settings}\n\
         scriptlet \"scriptlet\" {{ script \"policy\" {{ source = \"policy\" }} }}\n",
        next.gateway()
    );
    let extra = match settings.contains("ESMTP_Listener") {
        true => extra,
        false => extra + "ESMTP_Listener { SMTP_Extensions = ( ENHANCEDSTATUSCODES ) Listen \"127.0.0.1:0\" {} }\n",
    };
    Server::start(&extra, &[("policy.lua", policy), ("users", "barred:pw\nann:pw\n")])
}

/// A module of a policy: the functions, and its registration.
fn module(functions: &str) -> String {
    format!(
        "require(\"msys.core\")\nrequire(\"msys.extended.message\")\nrequire(\"msys.extended.vctx\")\n\
         require(\"msys.extended.ac\")\nlocal core = msys.core\nlocal CONN, MESS = core.VCTX_CONN, core.VCTX_MESS\n\
         local CONT = core.VALIDATE_CONT\nlocal mod = {{}}\n{functions}\nmsys.registerModule(\"policy\", mod)\n"
    )
}

#[test]
fn each_hook_can_refuse_and_the_rejectlog_says_where() {
    // The sender's local part names the hook that shall refuse, and the code.
    let policy = module(
        r#"
        local function judge(hook, vctx)
          local asked, code = string.match(vctx:get(MESS, "mailfrom_localpart"), "^(.+)-(%d%d%d)$")
          if asked == hook then vctx:set_code(tonumber(code), "5.7.0 refused in " .. hook) end
          return CONT
        end
        function mod:validate_connect(ac, vctx)
          local from = tostring(ac.remote_addr)
          if string.find(from, "^127%.0%.0%.9:") then vctx:set_code(554, "5.7.1 not you") end
          if string.find(from, "^127%.0%.0%.10:") then vctx:set_code(421, "4.7.1 not now") end
          return CONT
        end
        function mod:validate_ehlo(str, ac, vctx)
          if tostring(str) == "EHLO bad.test\r\n" then vctx:set_code(550, "5.7.1 bad name\nsecond line") end
          return CONT
        end
        function mod:core_validate_auth(vctx, info, status)
          if vctx:get(CONN, "auth_user") == "barred" then vctx:set_code(535, "5.7.8 barred") end
          return CONT
        end
        function mod:validate_mailfrom(str, ac, vctx) return judge("mailfrom", vctx) end
        function mod:validate_rcptto(msg, str, ac, vctx) return judge("rcptto", vctx) end
        function mod:validate_rcptto_list(list, vctx) return judge("rcptto_list", vctx) end
        function mod:validate_data(msg, ac, vctx) return judge("data", vctx) end
        function mod:validate_data_spool(msg, ac, vctx) return judge("data_spool", vctx) end
        function mod:validate_rcptto_list_final(node, vctx) return judge("rcptto_list_final", vctx) end
        function mod:validate_data_spool_each_rcpt(msg, ac, vctx) return judge("each_rcpt", vctx) end
        function mod:core_final_validation2(msg, ac, vctx)
          local from = msg:context_get(MESS, "mailfrom_localpart")
          if from == "final-550" then return core.EC_HOOK_DONE end
          if from == "final-451" then return core.EC_HOOK_RETRY end
          return core.EC_HOOK_CONT
        end
        "#,
    );
    let next = NextHop::start();
    let server = server(
        &policy,
        &next,
        "ESMTP_Listener { SMTP_Extensions = ( ENHANCEDSTATUSCODES \"AUTH PLAIN\" )\n\
         AuthPlainParameters = [ uri = \"file://@dir@/users\" ] Listen \"127.0.0.1:0\" {} }",
    );

    // At connect: 554 answers 503 to all but QUIT, 421 closes.
    let (mut barred, greeting) = Client::connect_from("127.0.0.9", server.smtp());
    assert_eq!(greeting, "554 5.7.1 not you");
    assert_matches(r"^503 ", &barred.command("EHLO client.test"));
    assert_matches(r"^503 ", &barred.command("MAIL FROM:<a@b.test>"));
    assert_matches(r"^221 ", &barred.command("QUIT"));
    let (mut barred, greeting) = Client::connect_from("127.0.0.10", server.smtp());
    assert_eq!(greeting, "421 4.7.1 not now");
    assert_eq!(barred.rest(), "");
    let line = server.wait_for_log("rejectlog.ec", |line| line.contains("5.7.1 not you"));
    assert_matches(
        r#"^\d{10}: R="127\.0\.0\.9:\d+" L="127\.0\.0\.1:\d+" C="ID" PATH="default" PATH_GRP="default" P="(just connected|sending banner)" E=554 M=scriptlet CTXCONN=\[.*\] CTXMESS=\[\] 5\.7\.1 not you$"#,
        &line,
    );

    // EHLO and AUTH.
    let (mut client, _) = Client::connect(server.smtp());
    assert_eq!(client.command("EHLO bad.test"), "550-5.7.1 bad name\n550 second line");
    server.wait_for_log("rejectlog.ec", |line| {
        line.contains("P=\"awaiting ehlo/helo\" E=550 M=scriptlet") && line.ends_with(" 5.7.1 bad name second line")
    });
    assert_matches("^250-mx.test says EHLO", &client.command("EHLO good.test"));
    assert_eq!(client.command("AUTH PLAIN AGJhcnJlZABwdw=="), "535 5.7.8 barred");
    // The right password of a user whom the policy bars opens nothing.
    client.command("MAIL FROM:<barred@sender.test>");
    assert_eq!(client.command("RCPT TO:<eve@elsewhere.test>"), "550 5.7.1 relaying denied");
    client.command("RSET");
    assert_eq!(client.command("AUTH PLAIN AGFubgBwdw=="), "235 2.0.0 Authed. Go on.");

    // The hooks of a message: at which command, with which name of the phase in the log.
    for (hook, at, phase) in [
        ("mailfrom", "MAIL", "awaiting mailfrom"),
        ("rcptto", "RCPT", "awaiting rcptto"),
        ("rcptto_list", "DATA", "rcptto list response"),
        ("data", ".", "reading body"),
        ("data_spool", ".", "reading body"),
        ("rcptto_list_final", ".", "rcptto list final response"),
        ("each_rcpt", ".", "async body response"),
    ] {
        for code in ["550", "451"] {
            let sender = format!("{hook}-{code}@sender.test");
            let refusal = format!("{code} 5.7.0 refused in {hook}");
            client.command("RSET");
            for (name, command) in [
                ("MAIL", format!("MAIL FROM:<{sender}>")),
                ("RCPT", "RCPT TO:<bob@rcpt.test>".to_owned()),
                ("DATA", "DATA".to_owned()),
                (".", letter("refused", "x\n").replace('\n', "\r\n") + "."),
            ] {
                let reply = client.command(&command);
                if name == at {
                    assert_eq!(reply, refusal, "{hook}");
                    break;
                }
                assert!(reply.starts_with(['2', '3']), "{hook} at {name}: {reply}");
            }
            let line = server.wait_for_log("rejectlog.ec", |line| {
                line.ends_with(&format!("5.7.0 refused in {hook}")) && line.contains(&format!(" E={code} "))
            });
            assert!(line.contains(&format!("P=\"{phase}\" E={code} M=scriptlet ")), "{hook}: {line}");
            assert!(line.contains("mailfrom_domain=sender.test"), "the context of the message: {line}");
        }
    }
    for (sender, wanted) in [("final-550", "^550 "), ("final-451", "^451 ")] {
        client.command("RSET");
        let reply = client.deliver(&format!("{sender}@sender.test"), &["bob@rcpt.test"], &letter("final", "x\n"));
        assert_matches(wanted, &reply);
    }
    // Nothing of all that was kept; the session is as good as ever.
    let reply = client.deliver("good@sender.test", &["bob@rcpt.test"], &letter("good", "x\n"));
    assert_matches("^250 2.0.0 OK ID$", &reply);
    let messages = next.wait_for(1);
    assert_eq!(messages.len(), 1);
    assert_eq!(messages[0].header("Subject").as_deref(), Some("good"));
    server.wait_for_log("mainlog.ec", |line| line.contains("@D@"));
    assert_eq!(server.log("mainlog.ec").matches("@R@").count(), 1);
}

#[test]
fn what_a_policy_changes_reaches_the_next_hop_and_the_logs() {
    let policy = module(
        r#"
        function mod:validate_connect(ac, vctx)
          vctx:set(CONN, "site", "ams 1")
          ac:esmtp_capability_add("XTEST one")
          return CONT
        end
        function mod:validate_mailfrom(str, ac, vctx)
          vctx:set(MESS, "campaign", "spring")
          return CONT
        end
        function mod:validate_rcptto(msg, str, ac, vctx)
          if tostring(str) == "RCPT TO:<refuse@rcpt.test>\r\n" then vctx:set_code(550, "5.1.1 no such user") end
          return CONT
        end
        function mod:validate_data(msg, ac, vctx)
          msg:header("Subject", "rewritten: " .. msg:header("Subject")[1])
          msg:header("X-Removed", "")
          msg:header("X-Seen", "all", "append")
          return CONT
        end
        function mod:validate_data_spool_each_rcpt(msg, ac, vctx)
          print("each", tostring(msg.id), msg:rcptto())
          local localpart = vctx:get(MESS, "rcptto_localpart")
          msg:header("X-For", localpart)
          vctx:set(MESS, "who", localpart)
          if localpart == "redirected" then msg:rcptto("elsewhere@other.test") end
          return CONT
        end
        function mod:validate_set_binding(msg)
          local to = msg:context_get(MESS, "rcptto_localpart")
          if string.find(to, "^solo") then msg:binding("solo") end
          if string.find(to, "^group") then msg:binding_group("pool") end
          if to == "routed" then msg:routing_domain("@other@") end
          return CONT
        end
        "#,
    );
    let (next, other) = (NextHop::start(), NextHop::start());
    let server = server(
        &policy.replace("@other@", &other.gateway()),
        &next,
        "Binding solo {}\nBinding_Group pool { Binding p1 {} Binding p2 {} }\n\
         custom_logger c { reception_format = \"%i|%b|%g|%vctx_conn{site}|%vctx_mess{campaign}|%vctx_mess{who}\" \
         reception_logfile = \"@dir@/custom.log\" }\n",
    );
    let (mut client, _) = Client::connect(server.smtp());
    assert_matches(r"(?m)^250[- ]XTEST one$", &client.command("EHLO client.test"));
    let message = letter("hello", "x\n").replacen("Date:", "X-Removed: yes\nDate:", 1);

    // The context is in the rejectlog, quoted where it must be.
    client.command("MAIL FROM:<ann@sender.test>");
    assert_eq!(client.command("RCPT TO:<refuse@rcpt.test>"), "550 5.1.1 no such user");
    let line = server.wait_for_log("rejectlog.ec", |line| line.contains("no such user"));
    assert_matches(
        r#"CTXCONN=\[[^\]]*site="ams 1"[^\]]*\] CTXMESS=\[[^\]]*campaign=spring[^\]]*\] 5\.1\.1 no such user$"#,
        &line,
    );
    client.command("RSET");

    let reply = client.deliver("ann@sender.test", &["solo@rcpt.test", "plain@rcpt.test"], &message);
    assert_matches("^250 2.0.0 OK ID$", &reply);
    for who in ["solo", "plain"] {
        let taken = next.wait_for_rcpt(&format!("{who}@rcpt.test"));
        assert_eq!(taken.header("Subject").as_deref(), Some("rewritten: hello"));
        assert_eq!(taken.header("X-Removed"), None);
        assert_eq!(taken.header("X-Seen").as_deref(), Some("all"));
        // Each recipient's copy is its own.
        assert_eq!(taken.headers("X-For"), [who]);
        assert_eq!(taken.rcpt.len(), 1);
    }
    let record = |who: &str| server.wait_for_log("mainlog.ec", |line| line.contains(&format!("@R@{who}@")));
    assert_matches("@default@solo$", &record("solo"));
    assert_matches("@default@default$", &record("plain"));
    let fields = |line: &str| line.split('@').map(str::to_owned).collect::<Vec<_>>();
    let (solo, plain) = (fields(&record("solo")), fields(&record("plain")));
    assert_eq!(solo[2], plain[2], "one batch");
    assert_eq!(solo[3], plain[3], "one connection");
    assert_ne!(solo[1], plain[1], "two messages");
    // The first recipient's id is the one that the client was told, and what the policy saw.
    assert_eq!(reply, format!("250 2.0.0 OK {}", solo[1]));
    server.wait_for_log("paniclog.ec", |line| line.ends_with(&format!("scriptlet: each {} solo@rcpt.test", solo[1])));
    let custom = server.wait_for_log("custom.log", |line| line.starts_with(&solo[1]));
    assert_eq!(custom, format!("{}|solo|default|ams 1|spring|solo", solo[1]));
    // The delivery is logged under the binding.
    let delivered =
        server.wait_for_log("mainlog.ec", |line| line.contains("@D@") && line.split('@').nth(1) == Some(&solo[1]));
    assert_matches(r"@default@solo@0@\d+\.\d{3}@127\.0\.0\.1$", &delivered);

    // A group: every member gets its share. The envelope may be another than the client's.
    for at in 0..30 {
        client.deliver("ann@sender.test", &[&format!("group{at}@rcpt.test")], &message);
    }
    client.deliver("ann@sender.test", &["redirected@rcpt.test", "routed@rcpt.test"], &message);
    let log = wait_for("the records", || {
        let log = server.log("mainlog.ec");
        (log.matches("@D@").count() == 34).then_some(log)
    });
    for binding in ["p1", "p2"] {
        let count =
            log.lines().filter(|line| line.contains("@R@group") && line.ends_with(&format!("@pool@{binding}"))).count();
        assert!((1..30).contains(&count), "{binding} has {count} of 30");
    }
    assert_matches("@R@elsewhere@other.test@", &record("elsewhere"));
    next.wait_for_rcpt("elsewhere@other.test");
    other.wait_for_rcpt("routed@rcpt.test");
}

#[test]
fn a_policy_takes_part_in_the_relay_decision() {
    let policy = module(
        r#"
        function mod:validate_mailfrom(str, ac, vctx)
          if vctx:get(MESS, "mailfrom_localpart") == "trusted" then vctx:set(CONN, "can_relay", "true") end
          return CONT
        end
        function mod:validate_rcptto(msg, str, ac, vctx)
          -- Done ends the phase; it grants nothing.
          return core.VALIDATE_DONE
        end
        function mod:core_pre_ec_can_relay_to(domain, rv, cont)
          if tostring(domain) == "partner.test" then rv.value = 1 return 1 end
          return 0
        end
        "#,
    );
    let next = NextHop::start();
    let server = server(&policy, &next, "");
    let mut client = Client::hello(server.smtp());
    for (sender, domain, wanted) in [
        ("ann", "rcpt.test", "250 2.0.0 RCPT TO accepted"),
        ("ann", "elsewhere.test", "550 5.7.1 relaying denied"),
        ("ann", "partner.test", "250 2.0.0 RCPT TO accepted"),
        ("trusted", "elsewhere.test", "250 2.0.0 RCPT TO accepted"),
    ] {
        client.command("RSET");
        client.command(&format!("MAIL FROM:<{sender}@sender.test>"));
        assert_eq!(client.command(&format!("RCPT TO:<bob@{domain}>")), wanted, "{sender} to {domain}");
    }
}

#[test]
fn recipients_are_added_removed_and_discarded() {
    let policy = module(
        r#"
        function mod:validate_rcptto(msg, str, ac, vctx)
          if string.find(tostring(str), "<drop") then msg:discard() end
          return CONT
        end
        function mod:validate_data(msg, ac, vctx)
          local what = vctx:get(MESS, "mailfrom_localpart")
          if what == "add" then
            vctx:add_recipient("bcc@rcpt.test")
            vctx:add_recipient({ "BOB2@rcpt.test", "bcc@RCPT.test" })
          elseif what == "remove" then vctx:remove_recipient("two@rcpt.test")
          elseif what == "replace" then vctx:recipient_list({ "only@rcpt.test" })
          elseif what == "empty" then vctx:recipient_list({})
          elseif what == "discard" then msg:discard("QA: thrown away")
          elseif what == "list" then vctx:set_code(250, table.concat(vctx:recipient_list(), ","))
          end
          return CONT
        end
        function mod:validate_data_spool_each_rcpt(msg, ac, vctx)
          if vctx:get(MESS, "rcptto_localpart") == "silent" then msg:discard("451 not for you") end
          if vctx:get(MESS, "mailfrom_localpart") == "late" then
            local ok, err = pcall(vctx.remove_recipient, vctx, "one@rcpt.test")
            if not ok then msg:header("X-Late", err) end
            if vctx:get(MESS, "rcptto_localpart") == "one" then vctx:add_recipient("extra@rcpt.test") end
          end
          return CONT
        end
        "#,
    );
    let next = NextHop::start();
    let server = server(&policy, &next, "");
    let mut client = Client::hello(server.smtp());
    let mut send = |sender: &str, to: &[&str]| {
        let to: Vec<String> = to.iter().map(|local| format!("{local}@rcpt.test")).collect();
        let to: Vec<&str> = to.iter().map(String::as_str).collect();
        client.deliver(&format!("{sender}@sender.test"), &to, &letter(sender, "x\n"))
    };
    for (sender, to, delivered) in [
        ("add", &["bob"][..], &["BOB2", "bcc", "bob"][..]),
        ("remove", &["one", "two"], &["one"]),
        ("replace", &["one", "two"], &["only"]),
        ("empty", &["one", "two"], &[]),
        ("discard", &["one", "two", "three"], &[]),
        ("rcptto", &["drop", "kept"], &["kept"]),
        ("each", &["silent", "heard"], &["heard"]),
        ("late", &["one", "two"], &["extra", "one", "two"]),
    ] {
        let reply = send(sender, to);
        assert_matches("^250 2.0.0 OK ID$", &reply);
        // A sentinel behind it: when that is through, all is.
        let mut found = Vec::new();
        for local in delivered {
            let taken = wait_for(&format!("{sender}: {local}"), || {
                next.messages().into_iter().find(|taken| {
                    taken.mail.contains(sender) && taken.rcpt.iter().any(|rcpt| rcpt.contains(&format!("<{local}@")))
                })
            });
            assert_eq!(taken.headers("To"), ["Bob <bob@rcpt.test>"], "the header is as it was");
            found.push(taken);
        }
        if sender == "late" {
            let error = found[0].header("X-Late").expect("removing is too late");
            assert!(error.contains("recipient list is final"), "{error}");
        }
        let receptions = || server.log("mainlog.ec").matches(&format!("@{sender}@sender.test@")).count();
        wait_for("the receptions", || (receptions() >= delivered.len()).then_some(()));
        assert_eq!(receptions(), delivered.len(), "{sender}: {}", server.log("mainlog.ec"));
    }
    assert_eq!(send("list", &["a", "b"]), "250 a@rcpt.test,b@rcpt.test");
    let rejections = wait_for("four lines of what was discarded", || {
        let log = server.log("rejectlog.ec");
        (log.lines().count() >= 4).then_some(log)
    });
    for (code, text) in [
        (550, "5.7.0 discarded by policy (no recipients)"),
        (550, "5.7.1 [internal] discarded by policy"),
        (550, "5.7.0 discarded by policy"),
        (451, "not for you"),
    ] {
        let code = format!(" E={code} ");
        assert!(rejections.lines().any(|line| line.contains(&code) && line.ends_with(text)), "{text}\n{rejections}");
    }
    // A discarded message is nobody's failure: no report.
    assert!(!server.log("mainlog.ec").contains("@internal@"));
}

#[test]
fn a_policy_takes_a_message_over_or_fails_its_queueing() {
    let policy = module(
        r#"
        function mod:core_ec_message_enqueue(msg, now)
          if msg:rcptto() == "mine@rcpt.test" then return core.EC_MESSAGE_ENQUEUE_HOOK_OK end
          if msg:rcptto() == "fails@rcpt.test" then return core.EC_MESSAGE_ENQUEUE_HOOK_ERR end
          return core.EC_MESSAGE_ENQUEUE_HOOK_CONT
        end
        "#,
    );
    let next = NextHop::start();
    let server = server(&policy, &next, "");
    let mut client = Client::hello(server.smtp());
    let mut send = |to: &[&str]| client.deliver("ann@sender.test", to, &letter("x", "x\n"));
    assert_matches("^250 2.0.0 OK ID$", &send(&["mine@rcpt.test"]));
    // One answer for all of them: nothing is queued, so that the client's next try makes no duplicate.
    assert_eq!(send(&["bob@rcpt.test", "fails@rcpt.test"]), "451 4.3.0 not queued by policy");
    server.wait_for_log("rejectlog.ec", |line| line.contains(" E=451 ") && line.ends_with("not queued by policy"));
    assert_matches("^250 2.0.0 OK ID$", &send(&["last@rcpt.test"]));
    next.wait_for_rcpt("last@rcpt.test");
    assert_eq!(next.messages().len(), 1, "neither the one that was taken over nor those that failed");
    server.wait_for_log("mainlog.ec", |line| line.contains("@D@"));
    assert_eq!(server.log("mainlog.ec").lines().filter(|line| line.contains("@R@")).count(), 1);
}

#[test]
fn replies_can_be_delayed_and_sessions_ended() {
    let policy = module(
        r#"
        function mod:validate_mailfrom(str, ac, vctx)
          local what = vctx:get(MESS, "mailfrom_localpart")
          if what == "slow" then vctx:tarpit(0.2) vctx:tarpit("0.2") end
          if what == "away" then vctx:disconnect(421, "Go away") end
          if what == "plain" then vctx:disconnect() end
          if what == "marked" then vctx:set_code(550, "5.7.1 x") vctx.disconnect = 1 end
          if what == "bad" then vctx:set_code(354, "no") end
          return CONT
        end
        "#,
    );
    let next = NextHop::start();
    let server = server(&policy, &next, "");
    // A hundred delays take as long as one.
    let began = Instant::now();
    let mut slow: Vec<Client> = (0..100).map(|_| Client::hello(server.smtp())).collect();
    let asked = Instant::now();
    for client in &mut slow {
        client.send("MAIL FROM:<slow@sender.test>\r\n");
    }
    let mut other = Client::hello(server.smtp());
    assert_eq!(other.command("MAIL FROM:<quick@sender.test>"), "250 2.0.0 MAIL FROM accepted");
    assert!(!slow[99].hears_within(Duration::from_millis(1)) || asked.elapsed() > Duration::from_millis(400));
    for client in &mut slow {
        assert_eq!(client.reply(), "250 2.0.0 MAIL FROM accepted");
    }
    assert!(asked.elapsed() >= Duration::from_millis(400), "{:?}", asked.elapsed());
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());

    for (sender, reply) in [
        ("away", "421 Go away"),
        ("plain", "421 4.3.2 Service not available, closing transmission channel"),
        ("marked", "550 5.7.1 x"),
    ] {
        let mut client = Client::hello(server.smtp());
        client.send(format!("MAIL FROM:<{sender}@sender.test>\r\nRCPT TO:<bob@rcpt.test>\r\nNOOP\r\n"));
        assert_eq!(client.reply(), reply);
        assert_eq!(client.rest(), "", "what is behind is not answered");
    }
    let mut client = Client::hello(server.smtp());
    assert_matches("^421 4.3.0 mx.test temporary issue", &client.command("MAIL FROM:<bad@sender.test>"));
}

const FAULTY: &str = r#"
function mod:validate_rcptto(msg, str, ac, vctx)
  local what = string.match(tostring(str), "<(%a+)")
  if what == "raise" then error("on purpose") end
  if what == "index" then local nothing return nothing.field end
  if what == "nothing" then return end
  if what == "wrong" then return "yes" end
  if what == "table" then error({ code = 5 }) end
  return CONT
end
function mod:validate_data_spool_each_rcpt(msg, ac, vctx)
  if vctx:get(MESS, "rcptto_localpart") == "each" then error("in one of them") end
  return CONT
end
function mod:validate_set_binding(msg)
  if msg:context_get(MESS, "rcptto_localpart") == "binding" then error("no binding") end
  return CONT
end
"#;

#[test]
fn an_error_in_a_hook_defers_and_the_paniclog_has_its_place() {
    let next = NextHop::start();
    for (on_error, code, closes) in [("close", "421", true), ("tempfail", "451", false), ("continue", "250", false)] {
        let server = server(&module(FAULTY), &next, &format!("on_error = {on_error}"));
        let failure = match code {
            "250" => "250 2.0.0 RCPT TO accepted".to_owned(),
            code => format!("{code} 4.3.0 mx.test temporary issue, please retry your message later"),
        };
        for what in ["raise", "index", "nothing", "wrong", "table"] {
            let mut client = Client::hello(server.smtp());
            client.command("MAIL FROM:<ann@sender.test>");
            assert_eq!(client.command(&format!("RCPT TO:<{what}@rcpt.test>")), failure, "{on_error}: {what}");
            match closes {
                true => assert_eq!(client.rest(), ""),
                false => assert_matches("^250 ", &client.command("NOOP")),
            }
        }
        let log = wait_for("five errors", || {
            let log = server.log("paniclog.ec");
            (log.matches("validate_rcptto error: ").count() >= 5).then_some(log)
        });
        assert_matches(r"(?m)^\d{10}:scriptlet: policy: validate_rcptto error: .*policy\.lua:\d+: on purpose$", &log);
        assert!(log.contains("stack traceback"), "{log}");

        // One recipient of several fails: the whole message is deferred, so that nothing comes twice.
        let mut client = Client::hello(server.smtp());
        let reply = client.deliver("ann@sender.test", &["bob@rcpt.test", "each@rcpt.test"], &letter(on_error, "x\n"));
        assert_matches(&format!("^{code} "), &reply);
        let expected = if code == "250" { 3 } else { 1 };
        // After acceptance an error loses no mail.
        let mut client = Client::hello(server.smtp());
        let reply = client.deliver("ann@sender.test", &["binding@rcpt.test"], &letter("kept", "x\n"));
        assert_matches("^250 ", &reply);
        let record = server.wait_for_log("mainlog.ec", |line| line.contains("@R@binding@"));
        assert_matches("@default@default$", &record);
        assert_eq!(server.log("mainlog.ec").matches("@R@").count(), expected, "{on_error}");
        server.wait_for_log("paniclog.ec", |line| line.contains("validate_set_binding error: "));
    }
}

#[test]
fn a_hook_that_never_ends_is_stopped_and_others_go_on() {
    let policy = module(
        r#"
        function mod:validate_mailfrom(str, ac, vctx)
          if vctx:get(MESS, "mailfrom_localpart") == "forever" then
            local n = 0
            while true do n = n + 1 end
          end
          return CONT
        end
        "#,
    );
    let next = NextHop::start();
    let server = server(&policy, &next, "hook_cpu_limit = 250ms");
    let mut stuck = Client::hello(server.smtp());
    let mut other = Client::hello(server.smtp());
    let began = Instant::now();
    stuck.send("MAIL FROM:<forever@sender.test>\r\n");
    // Without a hook in the way, at once; with one, when the state is free again.
    assert_eq!(other.command("NOOP"), "250 2.0.0 OK");
    let reply = other.deliver("ann@sender.test", &["bob@rcpt.test"], &letter("meanwhile", "x\n"));
    assert_matches("^250 2.0.0 OK ID$", &reply);
    assert_matches("^421 4.3.0 mx.test temporary issue", &stuck.reply());
    assert_eq!(stuck.rest(), "");
    assert!(began.elapsed() < Duration::from_secs(15), "{:?}", began.elapsed());
    server.wait_for_log("paniclog.ec", |line| {
        line.contains("validate_mailfrom error: ") && line.contains("CPU limit exceeded")
    });
    next.wait_for(1);
}

#[test]
fn a_hook_that_waits_holds_up_nobody() {
    let policy = module(
        r#"
        function mod:validate_mailfrom(str, ac, vctx)
          local what = vctx:get(MESS, "mailfrom_localpart")
          if what == "pipe" then
            local answer = msys.readfile(vctx:get(CONN, "pipe"))
            vctx:set_code(250, "read " .. answer)
          elseif what == "again" then
            self.tries = (self.tries or 0) + 1
            if self.tries < 3 then return core.VALIDATE_AGAIN end
            vctx:set_code(250, "tried " .. self.tries)
          end
          return CONT
        end
        "#,
    );
    let next = NextHop::start();
    let server = server(
        &policy,
        &next,
        "ESMTP_Listener { SMTP_Extensions = ( ENHANCEDSTATUSCODES ) Context = [ pipe = \"@dir@/pipe\" ]\n\
         Listen \"127.0.0.1:0\" {} }",
    );
    let pipe = server.dir.join("pipe");
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).expect("a pipe");
    let mut waiting = Client::hello(server.smtp());
    waiting.send("MAIL FROM:<pipe@sender.test>\r\nNOOP\r\n");
    // The hook of this one runs through while the other waits.
    let mut other = Client::hello(server.smtp());
    let reply = other.deliver("ann@sender.test", &["bob@rcpt.test"], &letter("meanwhile", "x\n"));
    assert_matches("^250 2.0.0 OK ID$", &reply);
    assert!(!waiting.hears_within(Duration::from_millis(50)), "it waits");
    std::fs::write(&pipe, "it").expect("somebody reads");
    assert_eq!(waiting.reply(), "250 read it");
    assert_eq!(waiting.reply(), "250 2.0.0 OK");
    waiting.command("RSET");
    assert_eq!(waiting.command("MAIL FROM:<again@sender.test>"), "250 tried 3");
}

const REFUSES_SOME: &str = r#"
function mod:validate_data_spool_each_rcpt(msg, ac, vctx)
  local code = string.match(vctx:get(MESS, "rcptto_localpart"), "^(%d%d%d)")
  if code then vctx:set_code(tonumber(code), vctx:get(MESS, "rcptto_localpart") .. " is refused") end
  return CONT
end
"#;

#[test]
fn some_recipients_refused_after_the_data_make_a_report_each() {
    let next = NextHop::start();
    let server = server(&module(REFUSES_SOME), &next, "");
    let mut client = Client::hello(server.smtp());
    let all = ["550a@rcpt.test", "551b@rcpt.test"];
    assert_eq!(client.deliver("ann@sender.test", &all, &letter("all", "x\n")), "550 550a is refused");
    let deferred = ["bob@rcpt.test", "550a@rcpt.test", "450b@rcpt.test"];
    assert_eq!(client.deliver("ann@sender.test", &deferred, &letter("deferred", "x\n")), "450 450b is refused");
    assert!(!server.log("mainlog.ec").contains("@R@"), "nothing is kept");

    let some = ["one@rcpt.test", "550x@rcpt.test", "two@rcpt.test", "554y@rcpt.test"];
    let reply = client.deliver("ann@sender.test", &some, &letter("some", "the body\n"));
    assert_matches("^250 2.0.0 OK ID$", &reply);
    next.wait_for_rcpt("one@rcpt.test");
    next.wait_for_rcpt("two@rcpt.test");
    let reports = wait_for("two reports", || {
        let reports: Vec<_> =
            next.messages().into_iter().filter(|taken| taken.mail.starts_with("MAIL FROM:<>")).collect();
        (reports.len() == 2).then_some(reports)
    });
    for (refused, code, status) in [("550x", "550", "5.0.0"), ("554y", "554", "5.0.0")] {
        let report =
            reports.iter().find(|report| report.content().contains(&format!("{refused}@rcpt.test"))).expect(refused);
        assert_eq!(report.rcpt, ["RCPT TO:<ann@sender.test>"]);
        assert_matches(
            "^multipart/report;.*report-type=\"?delivery-status",
            &report.header("Content-Type").unwrap_or_default(),
        );
        let text = report.content();
        assert!(
            text.contains(&format!("rfc822; {refused}@rcpt.test"))
                || text.contains(&format!("rfc822;{refused}@rcpt.test")),
            "{text}"
        );
        assert!(text.contains(&format!("{code} {refused} is refused")), "{text}");
        assert_matches(&format!(r"(?m)^Status: {status}\r$"), &text);
    }
    // What was refused is no reception, a report is one.
    let log =
        wait_for("the deliveries", || Some(server.log("mainlog.ec")).filter(|log| log.matches("@D@").count() == 4));
    assert_eq!(log.matches("@R@").count(), 4, "{log}");
    assert_eq!(log.matches("@internal@").count(), 2, "{log}");
    // Whoever sends from nobody gets no report.
    client.deliver("", &["one@rcpt.test", "550z@rcpt.test"], &letter("null", "x\n"));
    wait_for("the delivery", || (next.count("RCPT TO:<one@rcpt.test>") == 2).then_some(()));
    assert_eq!(server.log("mainlog.ec").matches("@internal@").count(), 2);
}

#[test]
fn reports_of_partial_refusals_can_be_switched_off() {
    let next = NextHop::start();
    let settings = "generate_bounces_for_multi_recipient_policy_rejections = false";
    let server = server(&module(REFUSES_SOME), &next, settings);
    let mut client = Client::hello(server.smtp());
    let reply = client.deliver("ann@sender.test", &["one@rcpt.test", "550x@rcpt.test"], &letter("some", "x\n"));
    assert_matches("^250 ", &reply);
    client.deliver("ann@sender.test", &["last@rcpt.test"], &letter("last", "x\n"));
    next.wait_for_rcpt("last@rcpt.test");
    assert!(!server.log("mainlog.ec").contains("@internal@"));
    server.wait_for_log("rejectlog.ec", |line| line.ends_with("550x is refused"));
}

#[test]
fn a_recipient_that_a_copy_adds_is_made_from_the_message_as_it_was() {
    let policy = module(
        r#"
        function mod:validate_data_spool_each_rcpt(msg, ac, vctx)
          local number = tonumber(string.match(vctx:get(MESS, "rcptto_localpart"), "^r(%d+)$"))
          if number and number < 30 then vctx:add_recipient("r" .. (number + 1) .. "@rcpt.test") end
          msg:header("X-Number", number, "append")
          return CONT
        end
        "#,
    );
    let next = NextHop::start();
    let server = server(&policy, &next, "");
    let mut client = Client::hello(server.smtp());
    let reply = client.deliver("ann@sender.test", &["r1@rcpt.test"], &letter("chain", "x\n"));
    assert_matches("^250 2.0.0 OK ID$", &reply);
    // Each copy was taken before the edits of the one that asked for it.
    for number in 1..=30 {
        let taken = next.wait_for_rcpt(&format!("r{number}@rcpt.test"));
        assert_eq!(taken.headers("X-Number"), [number.to_string()]);
    }
    assert_eq!(next.messages().len(), 30);
}

#[test]
fn what_is_logged_passes_the_hooks_of_the_log() {
    let policy = module(
        r#"
        local function seen(hook, msg, dr, now, note)
          print(hook, tostring(msg.id), msg:rcptto(), now.tv_sec > 1000000000, note)
        end
        function mod:core_log_reception_v1(ac, msg, now, note, len) seen("reception", msg, nil, now, "") end
        function mod:core_log_delivery_v1(msg, dr, now, note, len) seen("delivery", msg, dr, now, note) end
        function mod:core_log_transient_failure_v1(msg, dr, now, note, len) seen("transient", msg, dr, now, note) end
        function mod:core_log_permanent_failure_v1(msg, dr, now, note, len)
          seen("permanent", msg, dr, now, note)
          msg:set_code(550, "5.9.9 in other words")
        end
        function mod:core_log_attempt_v1(msg, dr, now, note, len) seen("attempt", msg, dr, now, note) end
        function mod:core_log_rejection(now, ac, vctx, phase, text) print("rejection", phase, text) end
        function mod:core_ec_message_enqueue(msg, now)
          print("enqueue", tostring(msg.id))
          return core.EC_MESSAGE_ENQUEUE_HOOK_CONT
        end
        function mod:validate_dealloc() print("dealloc") end
        function mod:core_server_esmtp_session_abort(ac) print("abort") end
        "#,
    );
    let next = NextHop::answering(|said| match said.line {
        line if line.contains("<later@") => Some("451 4.7.1 later".to_owned()),
        line if line.contains("<never@") => Some("550 5.1.1 never".to_owned()),
        _ => None,
    });
    let server = server(&policy, &next, "");
    let mut client = Client::hello(server.smtp());
    client.deliver("ann@sender.test", &["now@rcpt.test", "later@rcpt.test", "never@rcpt.test"], &letter("x", "x\n"));
    client.command("MAIL FROM:<ann@sender.test>");
    assert_eq!(client.command("RCPT TO:<bob@elsewhere.test>"), "550 5.7.1 relaying denied");
    let id = |to: &str| {
        let line = server.wait_for_log("mainlog.ec", |line| line.contains(&format!("@R@{to}@rcpt.test@")));
        line.split('@').nth(1).expect("an id").to_owned()
    };
    for (hook, to, note) in [
        ("reception", "now", ""),
        ("delivery", "now", "250 2.0.0 taken"),
        ("transient", "later", "451 4.7.1 later"),
        ("permanent", "never", "550 5.1.1 never"),
        ("attempt", "now", ""),
    ] {
        let wanted = format!("scriptlet: {hook} {} {to}@rcpt.test true {note}", id(to));
        server.wait_for_log("paniclog.ec", |line| line.contains(&wanted));
    }
    server.wait_for_log("paniclog.ec", |line| line.ends_with(&format!("scriptlet: enqueue {}", id("now"))));
    // What the policy says of a failure is what the log and the report say.
    let failed = server.wait_for_log("mainlog.ec", |line| line.contains("@P@"));
    assert!(failed.ends_with("@550 5.9.9 in other words"), "{failed}");
    let report = next.wait_for_rcpt("ann@sender.test");
    assert!(report.content().contains("550 5.9.9 in other words"), "{}", report.content());
    server.wait_for_log("paniclog.ec", |line| matches(r"scriptlet: rejection awaiting rcptto .*relaying denied", line));
    // A client that goes without a word.
    drop(client);
    server.wait_for_log("paniclog.ec", |line| line.ends_with("scriptlet: abort"));
    server.wait_for_log("paniclog.ec", |line| line.ends_with("scriptlet: dealloc"));
}
