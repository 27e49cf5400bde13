//! The hooks beside those of a session's phases, in the running server: what each changes, and the policy's own console commands.

mod common;

use common::next_hop::NextHop;
use common::{Client, Server, assert_matches, certificate, letter, wait_for, write};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

/// A server for `rcpt.test` that sends everything to `next` and runs `policy`; `listener` are options of its listener.
fn server(policy: &str, next: &NextHop, settings: &str, listener: &str, files: &[(&str, &str)]) -> Server {
    let extra = format!(
        "Relay_Domains = ( rcpt.test )\nGateway = \"{}\"\n{settings}\n\
         scriptlet \"scriptlet\" {{ script \"policy\" {{ source = \"policy\" }} }}\n\
         ESMTP_Listener {{ {listener} Listen \"127.0.0.1:0\" {{}} }}\n",
        next.gateway()
    );
    let files: Vec<(&str, &str)> = files.iter().copied().chain([("policy.lua", policy)]).collect();
    Server::start(&extra, &files)
}

/// A module of a policy: the functions, and its registration.
fn module(functions: &str) -> String {
    format!(
        "require(\"msys.core\")\nrequire(\"msys.extended.message\")\nlocal core = msys.core\n\
         local CONN, MESS = core.VCTX_CONN, core.VCTX_MESS\nlocal mod = {{}}\n{functions}\n\
         msys.registerModule(\"policy\", mod)\n"
    )
}

#[test]
fn a_policy_writes_the_received_header() {
    let policy = module(
        r#"
        function mod:core_get_received_header_text(msg, mc, ac, vctx, response)
          local who = vctx:get(MESS, "mailfrom_localpart")
          if who == "plain" then return 0 end
          if who == "broken" then error("no header today") end
          local text = "from somewhere (" .. msys.type(mc) .. ")\n\tby " .. msg:header("Subject")[1] .. "\r\nX-Evil: 1"
          response:write(text, #text)
          return 1
        end
        "#,
    );
    let next = NextHop::start();
    let server = server(&policy, &next, "", "", &[]);
    let mut client = Client::hello(server.smtp());
    for who in ["own", "plain"] {
        let reply =
            client.deliver(&format!("{who}@sender.test"), &[&format!("{who}@rcpt.test")], &letter("subject", "x\n"));
        assert_matches("^250 ", &reply);
    }
    let own = next.wait_for_rcpt("own@rcpt.test");
    let unfolded: Vec<String> = own.headers("Received").iter().map(|value| value.replace("\r\n", "")).collect();
    assert_eq!(unfolded.len(), 1, "{unfolded:?}");
    assert_matches(r"^from somewhere \(msys.core:_message_construct\)\s+by subject\s+X-Evil: 1$", unfolded[0].trim());
    assert_eq!(own.header("X-Evil"), None);
    let plain = next.wait_for_rcpt("plain@rcpt.test");
    assert_matches(r"\(Posthaste\) with ESMTP", &plain.headers("Received")[0]);
    // A hook that fails keeps the client's message with the client.
    let reply = client.deliver("broken@sender.test", &["broken@rcpt.test"], &letter("subject", "x\n"));
    assert_matches("^421 4.3.0 mx.test temporary issue", &reply);
    server.wait_for_log("paniclog.ec", |line| line.contains("core_get_received_header_text error: policy.lua:"));
}

#[test]
fn logins_are_decided_by_the_policy() {
    let policy = module(
        r#"
        function mod:core_pre_esmtp_auth(ac, mc, vctx)
          local host = vctx:get(CONN, "ehlo_domain")
          if host == "open.test" then return core.EC_AUTH_OK end
          if host == "shut.test" then return core.EC_AUTH_FAIL end
          if host == "ill.test" then error("ill") end
          if host == "odd.test" then return 77 end
        end
        function mod:ac_auth_perform_auth(username, password, ac, response)
          if username == "ann" and password == "pw" then return core.EC_AUTH_OK end
          if username == "gone" then response:write("531 Get out of town", 19) end
          if username == "later" then return core.EC_AUTH_ERROR end
          return core.EC_AUTH_FAIL
        end
        function mod:ac_auth_log_auth_failure(username, ac, response)
          print("failed:", username, tostring(response))
        end
        "#,
    );
    let next = NextHop::start();
    let server = server(
        &policy,
        &next,
        "",
        "SMTP_Extensions = ( ENHANCEDSTATUSCODES \"AUTH PLAIN CRAM-MD5\" ) \
         AuthPlainParameters = [ uri = \"ac_auth://\" ] AuthCRAMMD5Parameters = [ uri = \"file://@dir@/users\" ]",
        &[("users", "ann:pw\n")],
    );
    let plain = |user: &str, password: &str| {
        format!("AUTH PLAIN {}", data_encoding::BASE64.encode(format!("\0{user}\0{password}").as_bytes()))
    };
    let (passed, failed) = ("235 2.0.0 Authed. Go on.", "535 5.7.8 Authentication failed.");
    let later = "454 4.7.0 temporary authentication failure";
    for (host, user, password, wanted) in [
        // The credentials are checked by the policy.
        ("client.test", "ann", "pw", passed),
        ("client.test", "ann", "wrong", failed),
        ("client.test", "gone", "x", "531 Get out of town"),
        ("client.test", "later", "x", later),
        // It decides whatever they are.
        ("open.test", "nobody", "x", passed),
        ("shut.test", "ann", "pw", failed),
        // Nobody is logged in by a mistake.
        ("ill.test", "ann", "pw", later),
        ("odd.test", "ann", "pw", later),
    ] {
        let (mut client, _) = Client::connect(server.smtp());
        client.command(&format!("EHLO {host}"));
        assert_eq!(client.command(&plain(user, password)), wanted, "{host} {user} {password}");
        client.command("MAIL FROM:<ann@sender.test>");
        let relayed = client.command("RCPT TO:<bob@elsewhere.test>").starts_with("250");
        assert_eq!(relayed, wanted == passed, "{host} {user} {password}");
    }
    server.wait_for_log("paniclog.ec", |line| line.ends_with("failed: ann 535 Authentication failed."));
    server.wait_for_log("paniclog.ec", |line| line.ends_with("failed: gone 531 Get out of town"));
    // A mechanism that knows the secret itself is overruled too.
    for (host, wanted) in [("open.test", passed), ("shut.test", failed), ("client.test", failed)] {
        let (mut client, _) = Client::connect(server.smtp());
        client.command(&format!("EHLO {host}"));
        assert_matches("^334 ", &client.command("AUTH CRAM-MD5"));
        let answer = format!("ann {}", "0".repeat(32));
        assert_eq!(client.command(&data_encoding::BASE64.encode(answer.as_bytes())), wanted, "{host}");
    }
}

#[test]
fn a_policy_says_for_whom_mail_is_relayed() {
    let policy = module(
        r#"
        function mod:core_pre_ec_can_relay_to(domain, rv, cont)
          if domain == "never.test" then rv.value = 0 return 1 end
        end
        function mod:core_config_get_domain_relay(cs, domain, retval)
          if domain == "partner.test" or domain == "never.test" then retval.value = 1 return 1 end
          if domain == "halfway.test" then retval.value = 1 end
          return 0
        end
        "#,
    );
    let next = NextHop::start();
    let server = server(&policy, &next, "", "", &[]);
    let mut client = Client::hello(server.smtp());
    client.command("MAIL FROM:<ann@sender.test>");
    for (domain, wanted) in [
        ("partner.test", "^250 "),
        ("never.test", "^550 .*relaying denied"),
        ("halfway.test", "^550 .*relaying denied"),
        ("elsewhere.test", "^550 .*relaying denied"),
    ] {
        assert_matches(wanted, &client.command(&format!("RCPT TO:<bob@{domain}>")));
    }
}

#[test]
fn a_policy_has_its_part_in_a_handshake() {
    let policy = module(
        r#"
        function mod:core_get_inbound_tls_parameters(mc, vctx, params)
          local host = vctx:get(CONN, "ehlo_domain")
          print("parameters", params.certfile, params.tls_verify)
          if host == "other.test" then
            params.certfile, params.keyfile = "@dir@/other.pem", "@dir@/other.key"
          elseif host == "nowhere.test" then
            params.certfile = "/no/such/certificate.pem"
          end
        end
        function mod:core_inbound_smtp_tls_verify_callback(mc, ctx, preverify_ok, subject, issuer, x509ctx)
          mc.ctx:set(CONN, "asked", tostring(preverify_ok) .. tostring(subject))
          return 1
        end
        function mod:core_inbound_smtp_tls_post_accept(mc, event, eventtype, vclosure, now)
          local host = mc.ctx:get(CONN, "ehlo_domain")
          if string.find(host, "^go") then
            mc.ctx.code = 420
            mc.ctx.disconnect = 1
          end
          if host == "go2.test" then mc.ctx:set(CONN, "_tls_note", "454 4.7.1 not with this TLS") end
        end
        "#,
    );
    let next = NextHop::start();
    let (mine, other) = (certificate(), certificate());
    let policy = policy.as_str();
    let files = [
        ("mine.pem", mine.0.as_str()),
        ("mine.key", mine.1.as_str()),
        ("other.pem", other.0.as_str()),
        ("other.key", other.1.as_str()),
    ];
    let folder = tempfile::tempdir().expect("a folder for certificates");
    files.iter().for_each(|(name, text)| write(&folder.path().join(name), text));
    let dir = folder.path().display().to_string();
    let server = server(
        &policy.replace("@dir@", &dir),
        &next,
        "",
        &format!(
            "SMTP_Extensions = ( ENHANCEDSTATUSCODES STARTTLS XDUMPCONTEXT ) TLS_Certificate = \"{dir}/mine.pem\" \
             TLS_Key = \"{dir}/mine.key\""
        ),
        &[],
    );
    let der = |pem: &str| CertificateDer::from_pem_slice(pem.as_bytes()).expect("a certificate");
    for (host, wanted) in [("client.test", &mine.0), ("other.test", &other.0)] {
        let (mut client, _) = Client::connect(server.smtp());
        client.command(&format!("EHLO {host}"));
        assert_matches("^220 ", &client.command("STARTTLS"));
        client.start_tls();
        assert_matches("^250", &client.command("EHLO client.test"));
        assert!(client.server_certificate() == der(wanted), "{host}");
        let context = client.command("XDUMPCONTEXT");
        assert!(context.contains("[connection] asked 0nil"), "{context}");
        // Without a certificate there is nothing to be good.
        assert!(!context.contains("tls_client_verified"), "{context}");
    }
    server.wait_for_log("paniclog.ec", |line| line.contains(&format!("parameters {dir}/mine.pem none")));
    // A certificate that cannot be used ends the session; ours is not taken in its place.
    let (mut client, _) = Client::connect(server.smtp());
    client.command("EHLO nowhere.test");
    assert_matches("^220 ", &client.command("STARTTLS"));
    assert_eq!(client.rest(), "");
    server.wait_for_log("paniclog.ec", |line| line.contains("/no/such/certificate.pem cannot be used"));
    for (host, wanted) in
        [("go.test", "421 4.7.0 TLS Negotiation failed."), ("go2.test", "454 4.7.1 not with this TLS")]
    {
        let (mut client, _) = Client::connect(server.smtp());
        client.command(&format!("EHLO {host}"));
        assert_matches("^220 ", &client.command("STARTTLS"));
        client.start_tls();
        assert_eq!(client.reply(), wanted);
        assert_eq!(client.reply(), "", "the session is over");
        server.wait_for_log("rejectlog.ec", |line| line.contains(&wanted[4..]) && line.contains("M=scriptlet"));
    }
}

#[test]
fn a_policy_chooses_bindings_and_decides_on_reports() {
    let policy = module(
        r#"
        function mod:core_binding_group_choose_binding(msg, group)
          local wanted = string.match(msg:rcptto(), "^(%w+)")
          return core.config_get_binding_id_from_name(wanted)
        end
        function mod:validate_set_binding(msg)
          msg:binding_group("pool")
          return core.VALIDATE_CONT
        end
        function mod:core_generate_bounces(msg, enabled)
          if string.find(msg:mailfrom(), "quiet@", 1, true) then
            enabled.value = 0
            return core.GENERATE_BOUNCES_HOOK_OK
          end
          return core.GENERATE_BOUNCES_HOOK_CONT
        end
        "#,
    );
    let next =
        NextHop::answering(|said| said.line.starts_with("RCPT TO:<p2@").then(|| "550 5.1.1 no such user".to_owned()));
    let settings = "Binding_Group pool { Binding p1 {} Binding p2 {} Binding p3 {} }";
    let server = server(&policy, &next, settings, "", &[]);
    let mut client = Client::hello(server.smtp());
    for name in ["p1", "p2", "p3", "p2", "p1"] {
        let reply = client.deliver("quiet@sender.test", &[&format!("{name}@rcpt.test")], &letter(name, "x\n"));
        assert_matches("^250 ", &reply);
    }
    for name in ["p1", "p2", "p3"] {
        let line = server.wait_for_log("mainlog.ec", |line| line.contains(&format!("@R@{name}@")));
        assert_matches(&format!("@pool@{name}$"), &line);
    }
    assert_matches("^250 ", &client.deliver("loud@sender.test", &["p2@rcpt.test"], &letter("loud", "x\n")));
    // Reports are made before the P record is: whatever there is of them is there now.
    wait_for("three failures", || (server.log("mainlog.ec").matches("@P@").count() == 3).then_some(()));
    let report = next.wait_for_rcpt("loud@sender.test");
    assert_eq!(report.header("Subject").as_deref(), Some("Mail Delivery Failure"));
    assert!(!server.log("mainlog.ec").contains("@R@quiet@sender.test"));
}

const CONSOLE: &str = r#"
msys.registerControl("delay_domain", function(cc)
  print("argc", cc.argc, cc.argv[0], cc.argv[1], cc.argv[5])
end)
msys.registerControl("site show", function(cc) return "shown " .. cc.argc .. " " .. cc.argv[2] end)
msys.registerControl("broken", function(cc) error("no such thing") end)
msys.registerControl("sysinfo", function(cc) return "ours" end)
function mod:core_control_pre_command(cc, response)
  if cc.argv[0] == "pid" then
    response:write("no pid for you", 14)
    return 1
  end
  if cc.argv[0] == "version" then error("pre command") end
  return 0
end
function mod:core_post_config_commit() print("committed") end
function mod:core_log_reopen() print("reopened") end
function mod:deinit() print("deinit") return true end
"#;

#[test]
fn a_policy_has_console_commands_and_hears_of_those_of_others() {
    let next = NextHop::start();
    let server = server(&module(CONSOLE), &next, "", "", &[]);
    assert_eq!(server.console("delay_domain \"example.com\"").trim_end(), "argc 2 delay_domain example.com nil");
    assert_eq!(server.console("DELAY_DOMAIN").trim_end(), "argc 1 delay_domain nil nil");
    assert_eq!(server.console("site show \"a b\"").trim_end(), "shown 3 a b");
    assert!(server.console("broken").contains("no such thing"));
    server.wait_for_log("paniclog.ec", |line| line.contains("command broken error: policy.lua:"));
    assert_eq!(server.console("sysinfo").trim_end(), "ours", "a command of the policy goes first");
    assert!(server.console("xml delay_domain x").contains("argc 2 delay_domain x nil"));
    let help = server.console("help");
    for name in ["delay_domain", "site show", "broken"] {
        assert!(help.lines().any(|line| line.starts_with(name)), "{name}: {help}");
    }
    assert!(server.console("help delay").contains("script \"policy\""));

    // Commands of others: skipped, or run whatever goes wrong in the hook.
    assert_eq!(server.console("pid").trim_end(), "no pid for you");
    assert!(server.console("version").contains("posthaste version"));
    server.wait_for_log("paniclog.ec", |line| line.contains("core_control_pre_command error: policy.lua:"));

    // Logs, by command and by signal; online changes, and a reload.
    let count = |text: &str| server.log("paniclog.ec").lines().filter(|line| line.ends_with(text)).count();
    let becomes = |text: &str, wanted: usize| {
        wait_for(text, || (count(text) >= wanted).then_some(()));
        assert_eq!(count(text), wanted, "{text}");
    };
    server.console("reopen logs");
    becomes("scriptlet: reopened", 1);
    server.console("config set message_expiration 4000");
    becomes("scriptlet: committed", 1);
    server.console("config set message_expiration nonsense");
    assert_eq!(count("scriptlet: deinit"), 0, "an online change leaves the scripts as they run");
    server.signal("-HUP");
    becomes("scriptlet: reopened", 2);
    becomes("scriptlet: committed", 2);
    becomes("scriptlet: deinit", 1);

    // What a generation registered goes with it.
    write(&server.dir.join("policy.lua"), &module("function mod:core_post_config_commit() print('other') end"));
    server.console("config reload");
    becomes("scriptlet: deinit", 2);
    becomes("scriptlet: other", 1);
    assert!(server.console("delay_domain x").contains("Unknown command"));
    assert!(!server.console("help").contains("delay_domain"));
    assert!(server.console("pid").trim().parse::<u32>().is_ok());
}

#[test]
fn functions_of_the_custom_policy_are_called_around_the_modules() {
    let policy = module(
        r#"
        function mod:validate_rcptto(msg, str, ac, vctx)
          vctx:set(MESS, "way", vctx:get(MESS, "way") .. " module")
          return core.VALIDATE_CONT
        end
        require("msys.dp_config")
        function msys.dp_config.custom_policy.pre_validate_rcptto(msg, str, ac, vctx)
          vctx:set(MESS, "way", "pre")
          if string.find(tostring(str), "<stop@", 1, true) then
            vctx:set_code(550, "5.7.1 stopped")
            return core.VALIDATE_DONE
          end
          return core.VALIDATE_CONT
        end
        function msys.dp_config.custom_policy.post_validate_rcptto(msg, str, ac, vctx)
          vctx:set_code(250, "2.1.5 " .. vctx:get(MESS, "way") .. " post")
          return core.VALIDATE_CONT
        end
        "#,
    );
    let next = NextHop::start();
    let server = server(&policy, &next, "", "", &[]);
    let mut client = Client::hello(server.smtp());
    client.command("MAIL FROM:<ann@sender.test>");
    assert_eq!(client.command("RCPT TO:<bob@rcpt.test>"), "250 2.1.5 pre module post");
    assert_eq!(client.command("RCPT TO:<stop@rcpt.test>"), "550 5.7.1 stopped");
}
