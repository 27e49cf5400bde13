//! What hooks get and give besides a verdict: out-parameters, answers, TLS parameters, the functions around those of the modules,
//! the choice of a binding, and console commands.

mod common;

use common::{Site, envelope, message, module, session};
use ph_message::{Envelope, Time};
use ph_policy::{Hook, HookCall, Message, NoEngine, Routes, TlsParameters, TlsValues};
use std::sync::Arc;

#[tokio::test]
async fn what_a_policy_leaves_in_out_parameters_comes_back() {
    let site = Site::new(&module(
        "function mod:core_generate_bounces(msg, enabled)
           print('enabled', enabled.value, enabled[0])
           if msg:rcptto() == 'quiet@e.f' then
             enabled.value = 0
             return GENERATE_BOUNCES_HOOK_OK
           end
           return GENERATE_BOUNCES_HOOK_CONT
         end
         function mod:core_get_msg_expiration_params(msg, exp, retry, max)
           print('params', exp.value, retry.value, max.value)
           retry.value = 30
           max.value = 2
           return 1
         end
         function mod:core_config_get_domain_relay(cs, domain, retval)
           print('relay', cs, domain)
           retval.value = 1
           return 1
         end
         function mod:outbound_smtp_auth_config(msg, ac, vctx)
           print('auth', ac, vctx)
           msg:context_set(msys.core.VCTX_MESS, 'outbound_smtp_auth_user', 'u')
         end",
    ));
    let policy = site.load().await;
    let message = |to: &str| Message::new(envelope("a@b.c", to), None);
    for (to, value, out) in [("loud@e.f", 0, None), ("quiet@e.f", 1, Some(0))] {
        let message = message(to);
        let result = policy.call(&HookCall::CoreGenerateBounces { message: &message, enabled: true }).await.unwrap();
        assert_eq!((result.value, result.out), (value, out), "{to}");
    }
    assert!(site.log.has("enabled 1 1"), "{:?}", site.log.all());
    let of = message("d@e.f");
    let call = HookCall::CoreGetMsgExpirationParams { message: &of, numbers: [604_800, 1200, -1] };
    let result = policy.call(&call).await.unwrap();
    assert_eq!((result.value, result.out, result.further), (1, None, [Some(30), Some(2)]));
    assert!(site.log.has("params 604800 1200 -1"));
    let session = session();
    let call = HookCall::CoreConfigGetDomainRelay { domain: "x.example", session: &session };
    let result = policy.call(&call).await.unwrap();
    assert_eq!((result.value, result.out), (1, Some(1)));
    assert!(site.log.has("relay nil x.example"));
    policy.call(&HookCall::OutboundSmtpAuthConfig { message: &of }).await.unwrap();
    assert_eq!(of.state.lock().envelope.mess_context.text("outbound_smtp_auth_user"), Some("u"));
    assert!(site.log.has("auth nil nil"));
}

#[tokio::test]
async fn a_question_without_an_answer_goes_to_the_next_module() {
    let auth = |body: &str| {
        format!(
            "local mod = {{}}\nfunction mod:core_pre_esmtp_auth(ac, mc, vctx) {body} end\nmsys.registerModule('x', mod)"
        )
    };
    for (first, second, want) in [
        ("", "", None),
        ("return -1", "return msys.core.EC_AUTH_FAIL", Some(1)),
        ("return nil", "return msys.core.EC_AUTH_ERROR", Some(2)),
        ("return msys.core.EC_AUTH_OK", "error('not asked')", Some(0)),
        ("vctx:set(msys.core.VCTX_CONN, 'k', mc.ctx:get(msys.core.VCTX_CONN, 'j')) return 1", "", Some(1)),
    ] {
        let site = Site::with(&[("one", &auth(first)), ("two", &auth(second))]);
        let policy = site.load().await;
        let session = session();
        session.state.lock().conn.set("j", "seen");
        let result = policy.call(&HookCall::CorePreEsmtpAuth { session: &session }).await.unwrap();
        assert_eq!(result.done.then_some(result.value), want, "{first} {second}");
        assert!(first.is_empty() || !first.contains("'k'") || session.state.lock().conn.text("k") == Some("seen"));
    }
}

#[tokio::test]
async fn tls_parameters_are_read_and_assigned() {
    let site = Site::new(&module(
        "require('msys.tls_params')
         function mod:core_get_outbound_tls_parameters(msg, params)
           print('now', params.use_tls, params.certfile, params.ca, params.tls_verify)
           params.use_tls = 2
           params.cipherlist = 'HIGH'
           msys.tls_params.set(params, 'certfile', '/c.pem')
           msys.tls_params.set(params, 'ca', '')
           for _, wrong in ipairs({ { 'use_tls', 3 }, { 'certfile', {} }, { 'nothing', 'x' } }) do
             print(pcall(function() params[wrong[1]] = wrong[2] end))
           end
           print(pcall(msys.tls_params.set, {}, 'ca', 'x'))
         end
         function mod:core_get_inbound_tls_parameters(mc, vctx, params) params.keyfile = vctx:get(msys.core.VCTX_CONN, 'k') end
         function mod:core_inbound_smtp_tls_verify_callback(mc, ctx, ok, subject, issuer, x509)
           print('verify', mc.ctx:get(msys.core.VCTX_CONN, 'k'), ctx, ok, subject, issuer, x509)
           return 0
         end
         function mod:core_inbound_smtp_tls_post_accept(mc, event, eventtype, vclosure, now)
           mc.ctx.code = 420
           mc.ctx.disconnect = 1
           print('post', event, eventtype, vclosure, now.tv_sec)
         end",
    ));
    let policy = site.load().await;
    let values = TlsValues { use_tls: 1, ca: "/ca.pem".into(), tls_verify: "no".into(), ..TlsValues::default() };
    let parameters = TlsParameters::new(values);
    let message = Message::new(Envelope::default(), None);
    let call = HookCall::CoreGetOutboundTlsParameters { message: &message, parameters: &parameters };
    policy.call(&call).await.unwrap();
    let want = TlsValues {
        use_tls: 2,
        tls_verify: "no".into(),
        certfile: "/c.pem".into(),
        cipherlist: "HIGH".into(),
        ..TlsValues::default()
    };
    assert_eq!(parameters.values(), want);
    for line in [
        "now 1 nil /ca.pem no",
        "use_tls is 0 (no), 1 (where the peer has it) or 2 (required)",
        "certfile takes a string, not a table",
        "there is no TLS parameter 'nothing'",
        "bad argument #1 to 'msys.tls_params.set'",
    ] {
        assert!(site.log.has(line), "{line}: {:?}", site.log.all());
    }
    let session = session();
    session.state.lock().conn.set("k", "/key.pem");
    let parameters = TlsParameters::default();
    policy.call(&HookCall::CoreGetInboundTlsParameters { session: &session, parameters: &parameters }).await.unwrap();
    assert_eq!(parameters.values().keyfile, "/key.pem");
    let call = HookCall::CoreInboundSmtpTlsVerifyCallback {
        session: &session,
        verified: true,
        subject: Some("CN=a"),
        issuer: None,
    };
    let result = policy.call(&call).await.unwrap();
    assert!(result.done && result.value == 0, "{result:?}");
    assert!(site.log.has("verify /key.pem nil 1 CN=a nil nil"), "{:?}", site.log.all());
    session.begin_phase(220);
    let now = Time::from_secs(1_800_000_000);
    policy.call(&HookCall::CoreInboundSmtpTlsPostAccept { session: &session, now }).await.unwrap();
    let verdict = session.verdict();
    assert_eq!((verdict.code, verdict.disconnect), (420, true));
    assert!(site.log.has("post nil 0 nil 1800000000"));
}

/// A function of `msys.dp_config.custom_policy` for each of these, and a module.
const AROUND: &str = "
    module('msys.dp_config.custom_policy', package.seeall)
    log = {}
    function pre_init() log[#log + 1] = 'pre_init' return true end
    function post_init() log[#log + 1] = 'post_init' return true end
    function pre_validate_data(msg, ac, vctx)
      log[#log + 1] = 'pre_data ' .. msys.type(msg) .. ' ' .. msys.type(ac) .. ' ' .. msys.type(vctx)
      if vctx:get(msys.core.VCTX_CONN, 'stop') == 'yes' then return msys.core.VALIDATE_DONE end
      return msys.core.VALIDATE_CONT
    end
    function post_validate_data(msg, ac, vctx)
      log[#log + 1] = 'post_data'
      return msys.core.VALIDATE_CONT
    end
    function pre_validate_nothing() end
    function post_core_log_error() end
    function helper() end
";

#[tokio::test]
async fn functions_of_the_custom_policy_stand_around_those_of_the_modules() {
    let of_module = module(
        "function mod:init() table.insert(msys.dp_config.custom_policy.log, 'init') return true end
         function mod:validate_data(msg, ac, vctx)
           table.insert(msys.dp_config.custom_policy.log, 'data')
           return msys.core.VALIDATE_CONT
         end
         function mod:validate_dealloc() print(table.concat(msys.dp_config.custom_policy.log, ',')) end",
    );
    // The module's script comes first: the order of scripts does not matter to the functions around.
    let site = Site::with(&[("policy", &of_module), ("custom", AROUND)]);
    let policy = site.load().await;
    let session = session();
    let message = message(&session, "Subject: x\r\n\r\n");
    policy.call(&HookCall::ValidateData { message: &message, session: &session }).await.unwrap();
    session.state.lock().conn.set("stop", "yes");
    let result = policy.call(&HookCall::ValidateData { message: &message, session: &session }).await.unwrap();
    assert!(result.done);
    policy.call(&HookCall::ValidateDealloc { session: &session }).await.unwrap();
    let classes = "msys.core:_ec_message msys.core:_accept_construct msys.core:_validate_context";
    let want = format!("pre_init,init,post_init,pre_data {classes},data,post_data,pre_data {classes}");
    assert!(site.log.has(&want), "{:?}", site.log.all());
    for line in ["custom_policy: no hook is named validate_nothing", "post_core_log_error is known, but not called yet"]
    {
        assert!(site.log.has(line), "{line}: {:?}", site.log.all());
    }
}

#[tokio::test]
async fn an_init_around_the_modules_that_fails_refuses_the_load() {
    let site = Site::new("function msys.dp_config.custom_policy.post_init() return false end");
    assert!(site.refused().await.contains("init of module \"custom_policy\" must return true, got false"));
    // A site that has put its own table there is not looked into.
    let site = Site::new("msys.dp_config = { custom_policy = 7 }");
    assert!(!site.load().await.has(Hook::Init));
}

/// Two bindings in one group.
struct Pool;

impl Routes for Pool {
    fn binding(&self, name: &str) -> Option<String> {
        ["one", "two"].contains(&name).then(|| "pool".to_owned())
    }

    fn choose(&self, group: &str) -> Option<String> {
        (group == "pool").then(|| "one".to_owned())
    }

    fn slot_of(&self, binding: &str) -> Option<i64> {
        ["default", "one", "two"].iter().position(|name| *name == binding).map(|slot| slot as i64)
    }

    fn binding_in_slot(&self, slot: i64) -> Option<(String, String)> {
        let (name, group) =
            [("default", "default"), ("one", "pool"), ("two", "pool")].get(usize::try_from(slot).ok()?)?;
        Some(((*name).to_owned(), (*group).to_owned()))
    }

    fn group_size(&self, group: &str) -> usize {
        if group == "pool" { 2 } else { 0 }
    }

    fn gateway(&self, binding: &str, domain: &str) -> Option<String> {
        NoEngine.gateway(binding, domain)
    }

    fn delivery_method(&self, binding: &str, domain: &str) -> String {
        NoEngine.delivery_method(binding, domain)
    }
}

#[tokio::test]
async fn a_policy_chooses_the_binding_of_a_group() {
    for (answer, want) in [
        ("return msys.core.config_get_binding_id_from_name('two')", "two"),
        ("return msys.core.EC_BINDING_SLOT_UNBOUND", "one"),
        ("", "one"),
        ("return msys.core.config_get_binding_id_from_name('default')", "one"),
        ("return 99", "one"),
        ("error('broken')", "one"),
        ("msys.sleep(1) return 2", "one"),
        ("return msg:rcptto() == 'd@e.f' and group == 'pool' and not msys.asyncOk() and 2", "two"),
    ] {
        let mut site = Site::new(&module(&format!(
            "function mod:core_binding_group_choose_binding(msg, group) {answer} end
             function mod:validate_set_binding(msg)
               assert(msg:binding_group('nowhere') == nil)
               print('chosen', msg:binding_group('pool'), msg:binding())
               return msys.core.VALIDATE_CONT
             end"
        )));
        site.services.routes = Arc::new(Pool);
        let policy = site.load().await;
        let message = Message::new(envelope("a@b.c", "d@e.f"), None);
        policy.call(&HookCall::ValidateSetBinding { message: &message }).await.unwrap();
        assert!(site.log.has(&format!("chosen pool {want}")), "{answer}: {:?}", site.log.all());
        let complains = ["99", "'default'", "broken", "sleep"].iter().any(|part| answer.contains(part));
        assert_eq!(site.log.has("core_binding_group_choose_binding"), complains, "{answer}: {:?}", site.log.all());
    }
}

#[tokio::test]
async fn console_commands_of_a_policy_answer_with_what_they_print() {
    let site = Site::new(
        "msys.registerControl('delay_domain', function(cc)
           print('argc', cc.argc, cc.argv[0], cc.argv[1], cc.argv[5])
           print('second')
           return 'returned'
         end)
         local mod = {}
         function mod:init()
           msys.registerControl('  site  Show ', function(cc) return cc.argv[0] .. '/' .. cc.argv[1] .. '/' .. cc.argc end)
           msys.registerControl('broken', function(cc) print('before') error('no such thing') end)
           msys.registerControl('waits', function(cc) msys.readfile('/dev/null') print('waited') end)
           msys.registerControl('twice', function(cc) return 'first' end)
           msys.registerControl('Twice', function(cc) return 'second' end)
           for _, wrong in ipairs({ '', '  ', string.rep('x', 300), 'a\\nb\\0' }) do
             print(pcall(msys.registerControl, wrong, function() end))
           end
           print(pcall(msys.registerControl, 'x', 'no function'))
           return true
         end
         msys.registerModule('policy', mod)",
    );
    let policy = site.load().await;
    let names: Vec<String> = policy.controls().into_iter().map(|control| control.name).collect();
    assert_eq!(names, ["delay_domain", "site Show", "broken", "waits", "Twice"]);
    assert_eq!(policy.controls()[0].script, "policy");
    let run = async |name: &str, words: &[&str]| {
        let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        policy.control(name, &words).await
    };
    let said = run("delay_domain", &["delay_domain", "example.com"]).await.unwrap().unwrap();
    assert_eq!(said, "argc 2 delay_domain example.com nil\nsecond\nreturned");
    assert_eq!(run("site Show", &["site", "show", "x"]).await, Some(Ok("site/show/3".to_owned())));
    let failure = run("broken", &["broken"]).await.unwrap().unwrap_err();
    assert!(failure.starts_with("before\npolicy.lua:") && failure.contains("no such thing"), "{failure}");
    assert!(site.log.has("scriptlet: command broken error: policy.lua:"), "{:?}", site.log.all());
    assert_eq!(run("waits", &["waits"]).await, Some(Ok("waited\n".to_owned())));
    assert_eq!(run("Twice", &["twice"]).await, Some(Ok("second".to_owned())));
    assert!(run("nothing", &["nothing"]).await.is_none());
    // What they print goes to the console alone; what others print goes on into the paniclog.
    assert!(!site.log.has("second\n") && !site.log.has("argc"));
    assert_eq!(site.log.all().iter().filter(|line| line.contains("is no name of a command")).count(), 4);
    assert!(site.log.has("bad argument #2 to 'msys.registerControl' (function expected, got string)"));
}
