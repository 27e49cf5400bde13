//! What `check` finds, and above all what it does not.

use super::*;

fn findings(source: &str) -> Vec<String> {
    let found = check_source(Path::new("p.lua"), source.as_bytes());
    found.iter().filter(|found| found.severity > Severity::Note).map(ToString::to_string).collect()
}

/// A hook with this body.
fn hook(signature: &str, body: &str) -> String {
    format!(
        "local mod = {{}}\nfunction mod:{signature}\n{body}\nreturn msys.core.VALIDATE_CONT\nend\nmsys.registerModule('m', mod)"
    )
}

fn assert_fine(sources: &[&str]) {
    for fine in sources {
        assert_eq!(findings(fine), Vec::<String>::new(), "{fine}");
    }
}

#[test]
fn syntax_errors_have_their_place_and_what_lua_has_instead() {
    for (source, want) in [
        ("x = 1\nlocal y = = 2\n", "p.lua:2:11: error: unexpected symbol near '='"),
        ("if x = 1 then end", "p.lua:1:6: error: 'then' expected near '='; one `=` assigns; equality is `==`"),
        ("x = a && b", "p.lua:1:8: error: unexpected symbol near '&'; Lua writes `and`"),
        ("if a || b then end", "p.lua:1:7: error: unexpected symbol near '|'; Lua writes `or`"),
        ("x += 1", "p.lua:1:3: error: '=' expected near '+'; Lua has no `+=`: write `x = x + 1`"),
        ("if a then elsif b then end", "p.lua:1:17: error: '=' expected near 'b'; Lua writes `elseif`"),
    ] {
        assert_eq!(findings(source), [want]);
    }
    assert_eq!(check_policy(Path::new("/nowhere.lua"))[0].severity, Severity::Error);
}

#[test]
fn unknown_functions_are_named_with_what_was_meant() {
    for (source, want) in [
        (
            "msys.registerModul('x', {})",
            "p.lua:1:1: warning: msys.registerModul is not there; did you mean msys.registerModule?",
        ),
        (
            "\n  local m = msys.pcre.mach('a', 'b')",
            "p.lua:2:13: warning: msys.pcre.mach is not there; did you mean msys.pcre.match?",
        ),
        ("msys.nothing.like_it()", "p.lua:1:1: warning: msys.nothing.like_it is not there"),
        (
            "return msys.core.VALIDATE_CNT",
            "p.lua:1:8: warning: msys.core.VALIDATE_CNT is not there; did you mean msys.core.VALIDATE_CONT?",
        ),
        (
            "local core = require('msys.core') return core.VALIDATE_DON",
            "p.lua:1:42: warning: msys.core.VALIDATE_DON is not there; did you mean msys.core.VALIDATE_DONE?",
        ),
        ("x = string.splitt(y0 or '')", "p.lua:1:5: warning: string.splitt is not there"),
        ("require('msys.nothing')", "p.lua:1:9: warning: there is no package msys.nothing, and no file of it"),
    ] {
        assert_eq!(findings(source), [want]);
    }
    assert_eq!(findings("msys.core.nope() msys.core.nope() msys.core.nope()").len(), 3, "each use is told");
    assert_fine(&[
        "msys.registerModule('x', {})",
        "function f(m) return msys.core.ec_message_header(m, 'x') end",
        "msys.log(1, 'x')",
        "local x = msys.core.VALIDATE_CONT",
        "msys.site = { f = print } msys.site.f()",
        "function msys.mine() end msys.mine()",
        "local msys = {} msys.anything()",
        "if msys.later then msys.later() end msys.later = print",
        "local unpack = table.unpack or unpack",
        "function string.trim(s) return s end local t = string.trim(' ')",
        "module('msys.site', package.seeall) x = msys.site.y.z",
        "local x = require('msys').core.VALIDATE_CONT",
    ]);
}

#[test]
fn objects_of_hooks_have_fields_and_methods_and_no_others() {
    for (signature, body, want) in [
        (
            "validate_data(msg, ac, vctx)",
            "local s = msg:hedaer('Subject')",
            "p.lua:3:15: warning: msg has no field or method hedaer; did you mean msg:header?",
        ),
        // Positions tell what a parameter is, not its name.
        (
            "validate_data(m, a, v)",
            "v:set_cod(550, 'x')",
            "p.lua:3:3: warning: vctx has no field or method set_cod; did you mean vctx:set_code?",
        ),
        (
            "validate_data(str, accept, vctx)",
            "local mc = msys.core.accept_construct_get_message_construct(accept)\nlocal r = mc.message:rcpttoo()",
            "p.lua:4:22: warning: msg has no field or method rcpttoo; did you mean msg:rcptto?",
        ),
        (
            "validate_data(msg, ac, vctx)",
            "local i = msg:id()",
            "p.lua:3:15: warning: msg.id is a field, no method; write msg.id",
        ),
        (
            "validate_data(msg, ac, vctx)",
            "local s = msg.header('Subject')",
            "p.lua:3:15: error: msg:header is a method, and called without its object; write msg:header(...) with a colon",
        ),
        ("validate_data(msg, ac, vctx)", "msg.id = 1", "p.lua:3:5: error: msg.id cannot be assigned"),
    ] {
        assert_eq!(findings(&hook(signature, body)), [want]);
    }
    for (signature, body) in [
        ("validate_ehlo(str, ac, vctx)", "local s = str:lower():find('x')"),
        ("validate_data(msg, ac, vctx)", "local h = msg.header local s = h(msg, 'Subject')"),
        ("validate_data(msg, ac, vctx)", "if msg.colour then msg.colour() end"),
        ("validate_data(msg, ac, vctx)", "msg = self.other msg:anything()"),
        ("validate_data(msg, ac, vctx)", "local m = msg if ac then m = {} end m:anything()"),
    ] {
        assert_fine(&[&hook(signature, body)]);
    }
    // Who adds methods knows what is there.
    let added = hook("validate_data(msg, ac, vctx)", "msg:mine()");
    assert_fine(&[&format!("msys.getClassMetaTable('msys.core:_ec_message').__index.mine = print\n{added}")]);
    // A helper's `vctx` is one by its name alone: only what nearly is a method's name is reported.
    assert_fine(&["local function f(msg) msg:upper_case_it() end f()"]);
    assert_eq!(
        findings("local function f(vctx) vctx:set_cod(1, 'x') end f()"),
        ["p.lua:1:29: warning: vctx has no field or method set_cod; did you mean vctx:set_code?"]
    );
}

#[test]
fn arguments_are_counted_and_literals_compared() {
    for (body, want) in [
        (
            "local m = msys.pcre.match('a')",
            "p.lua:3:11: error: msys.pcre.match: argument 2 (pattern) is missing: string expected; msys.pcre.match(str, pattern)",
        ),
        (
            "vctx:set_code('high', 'x')",
            "p.lua:3:15: error: vctx:set_code: argument 1 (codenum): number expected, got string; vctx:set_code(codenum, ",
        ),
        (
            "local h = msg:header({})",
            "p.lua:3:22: error: msg:header: argument 1 (hdr): string expected, got table; msg:header(",
        ),
        (
            "local n = msys.core.get_now_ts(1)",
            "p.lua:3:32: warning: msys.core.get_now_ts: takes no argument at most; the rest is ignored; msys.core.get_now_ts()",
        ),
    ] {
        let found = findings(&hook("validate_data(msg, ac, vctx)", body));
        assert!(found.len() == 1 && found[0].starts_with(want), "{found:?}");
    }
    for body in [
        "vctx:set_code('550', 'x')",
        "vctx:set_code(550, 5)",
        "vctx:set_code(self:verdict())",
        "local h = msg:header('X-A', nil, 'append')",
        "local m = msys.pcre.match(unpack({ 'a', 'b' }))",
        "local ok = pcall(function() msys.pcre.match() end)",
        "local h = msys.core.ec_message_header(msg, 'x')",
    ] {
        assert_fine(&[&hook("validate_data(msg, ac, vctx)", body)]);
    }
}

/// Says, for each hook that is called, the types of its arguments after `self`.
const TELL_TYPES: &str = "
    local mod = {}
    for _, name in ipairs(hooks) do
      mod[name] = function(self, ...)
        local types = {}
        for index = 1, select('#', ...) do types[index] = msys.type((select(index, ...))) end
        print(name .. '=' .. table.concat(types, ','))
        return 0
      end
    end
    msys.registerModule('types', mod)";

#[derive(Default)]
struct Printed(parking_lot::Mutex<Vec<String>>);

impl crate::services::Log for Printed {
    fn panic(&self, _: crate::services::LogLevel, _: &str, text: &str) {
        self.0.lock().push(text.to_owned());
    }
}

#[tokio::test]
async fn parameters_of_hooks_are_what_the_engine_hands_over() {
    use crate::hooks::{Hook, HookCall};
    use crate::objects::{Message, Session};
    use ph_message::{Content, Envelope, Id, Time};
    use std::sync::Arc;
    let dir = tempfile::tempdir().unwrap();
    let names: Vec<String> = Hook::all()
        .filter(|hook| ![Hook::Init, Hook::Deinit].contains(hook))
        .map(|hook| format!("'{}'", hook.name()))
        .collect();
    let source = format!("hooks = {{ {} }}\n{TELL_TYPES}", names.join(", "));
    std::fs::write(dir.path().join("types.lua"), source).unwrap();
    let script = crate::Script { name: "types".to_owned(), source: "types".to_owned(), place: String::new() };
    let settings =
        crate::Settings { scripts: vec![script], folder: Some(dir.path().to_owned()), ..crate::Settings::default() };
    let printed = Arc::new(Printed::default());
    let services = crate::Services::without_engine(printed.clone());
    let policy = crate::Policy::load(services, settings).await.unwrap();
    let here = "127.0.0.1:25".parse().unwrap();
    let session = &Session::new(Id(7 << 32), here, here, ":25", "SMTP");
    let content = Content::parse("Subject: x\r\n\r\nx\r\n".into());
    let message = &Message::in_session(Envelope::default(), Some(content), session);
    let (some, now, domain, note) = (Some(session), Time::from_secs(1), "d.example", "note");
    let calls = [
        HookCall::CoreValidateAccept { session },
        HookCall::ValidateConnect { session },
        HookCall::CoreValidateConnect { session },
        HookCall::CoreInboundSmtpTlsPostAccept { session, now },
        HookCall::ValidateEhlo { command: b"EHLO x", session },
        HookCall::CorePreEsmtpAuth { session },
        HookCall::AcAuthPerformAuth { session, user: "u", password: b"p" },
        HookCall::AcAuthLogAuthFailure { session, user: "u", response: b"r" },
        HookCall::CoreValidateAuth { session, mechanism: "PLAIN", status: "pass" },
        HookCall::ValidateMailfrom { command: b"MAIL", session, message },
        HookCall::ValidateRcptto { message, command: b"RCPT", session },
        HookCall::CorePreEcCanRelayTo { domain, session },
        HookCall::ValidateRcpttoList { session, message },
        HookCall::ValidateData { message, session },
        HookCall::ValidateDataSpool { message, session },
        HookCall::ValidateRcpttoListFinal { session, message },
        HookCall::CorePreMsgEachRcpt { message, session: some },
        HookCall::ValidateDataSpoolEachRcpt { message, session },
        HookCall::CoreValidateDataSpoolEachRcpt { message, session },
        HookCall::CorePostValidateDataSpoolEachRcptV1 { message, session },
        HookCall::CorePostMsgEachRcpt { message, session: some },
        HookCall::ValidateSetBinding { message },
        HookCall::CorePostValidateSetBinding { message },
        HookCall::CoreFinalValidation2 { message, session: some },
        HookCall::CoreFinalValidation { message, session: some },
        HookCall::CorePostFinalValidation { message, session: some },
        HookCall::CoreLogReceptionV1 { session: some, message, now, note },
        HookCall::CoreEcMessageEnqueue { message, now },
        HookCall::CoreLogRejection { now, session, phase: "p", text: "t" },
        HookCall::CoreServerEsmtpSessionAbort { session },
        HookCall::CoreConfigGetMessageRoutingDomain { message },
        HookCall::CoreGetReceivedHeaderText { message, session },
        HookCall::CoreEcMessageSetNextAttempt { message, now },
        HookCall::CorePreMailqMessageRequeue { message, now },
        HookCall::CoreLogDeliveryV1 { message, domain, now, note },
        HookCall::CoreLogTransientFailureV1 { message, domain, now, note },
        HookCall::CoreLogPermanentFailureV1 { message, domain, now, note },
        HookCall::CoreLogAttemptV1 { message, domain, now, note },
        HookCall::CoreGenerateBounces { message, enabled: true },
        HookCall::OutboundSmtpAuthConfig { message },
        HookCall::ValidateDealloc { session },
    ];
    for call in calls {
        printed.0.lock().clear();
        policy.call(&call).await.unwrap();
        let hook = call.hook();
        let line =
            printed.0.lock().iter().find_map(|line| line.strip_prefix(&format!("{}=", hook.name())).map(str::to_owned));
        let line = line.unwrap_or_else(|| panic!("{} was not called", hook.name()));
        let classes: Vec<&str> = line
            .split(',')
            .map(|given| match given {
                "msys.core:_ec_message" => "msg",
                "msys.core:_accept_construct" => "ac",
                "msys.core:_validate_context" => "vctx",
                "msys.core:_ec_string" => "ec_string",
                "msys.core:_message_construct" => "mc",
                _ => "",
            })
            .collect();
        let known = hook_functions::parameters(hook);
        let last = classes.iter().rposition(|class| !class.is_empty()).map_or(0, |at| at + 1);
        assert_eq!(&classes[..last], known, "{}: {line}", hook.name());
        let names = hook.parameters();
        assert_eq!(
            names.len(),
            line.split(',').filter(|given| !given.is_empty()).count(),
            "{}: {line}",
            hook.signature()
        );
        for (class, name) in known.iter().zip(names) {
            match *class {
                "" => {}
                "ec_string" => assert!(["str", "buf", "response"].contains(name), "{}", hook.signature()),
                class => assert_eq!(class, *name, "{}", hook.signature()),
            }
        }
    }
}

/// Every method and hook whose parameters carry its class, with the call in that hook.
fn uses() -> Vec<(&'static crate::registry::Function, crate::hooks::Hook, String)> {
    let functions = crate::api::TABLES.iter().flat_map(|table| table.functions.iter().copied());
    let mut uses = Vec::new();
    for function in functions.filter(|function| function.is_method()) {
        for hook in crate::hooks::Hook::all() {
            let classes = hook_functions::parameters(hook);
            if classes.contains(&function.owner()) {
                let names: Vec<String> = (0..classes.len()).map(|at| format!("p{at}")).collect();
                let object = classes.iter().position(|class| *class == function.owner()).unwrap();
                let call = format!("self.x = p{object}:{}(...)", function.short_name());
                let source = format!(
                    "local mod = {{}} function mod:{}({}, ...) {call} return 0 end return mod",
                    hook.name(),
                    names.join(", ")
                );
                uses.push((function, hook, source));
            }
        }
    }
    uses
}

#[test]
fn what_a_phase_cannot_have_is_an_error_and_what_it_may_have_a_note() {
    let (mut errors, mut notes, mut fine) = (0, 0, 0);
    for (function, hook, source) in uses() {
        let found = check_source(Path::new("p.lua"), source.as_bytes());
        let found: Vec<&Diagnostic> = found.iter().filter(|found| !found.text.contains("not called yet")).collect();
        match (function.phases.works_in(hook.phase()), function.phases.documents(hook.phase())) {
            (false, _) => {
                assert_eq!(found.len(), 1, "{source}");
                assert_eq!(found[0].severity, Severity::Error, "{source}");
                assert_eq!(found[0].text, format!("{} cannot be used in {}", function.name, hook.name()));
                errors += 1;
                // What a timer or a helper runs is in no hook.
                let later = source
                    .replace("self.x", "self.later(function(...) self.x")
                    .replace(" return 0 end", " end) return 0 end");
                assert_fine(&[&later]);
            }
            (true, false) => {
                assert_eq!(found.iter().map(|found| found.severity).collect::<Vec<_>>(), [Severity::Note], "{source}");
                notes += 1;
            }
            (true, true) => {
                assert_eq!(found, Vec::<&Diagnostic>::new(), "{source}");
                fine += 1;
            }
        }
    }
    assert!(errors > 0 && notes > 0 && fine > 100, "{errors} {notes} {fine}");
}

#[test]
fn globals_that_nothing_assigns_are_reported_once() {
    for (source, want) in [
        (
            "local count = 1\nprint(coutn)\nprint(coutn)",
            &["p.lua:2:7: warning: the global coutn is never assigned: it is nil; did you mean count?"][..],
        ),
        ("limit()", &["p.lua:1:1: warning: the global limit is never assigned: it is nil"]),
        ("prnt('x')", &["p.lua:1:1: warning: the global prnt is never assigned: it is nil; did you mean print?"]),
        // A file that is not there may make globals: only what looks mistyped is reported.
        (
            "require('site.globals') limit() prnt('x')",
            &["p.lua:1:33: warning: the global prnt is never assigned: it is nil; did you mean print?"],
        ),
    ] {
        assert_eq!(findings(source), want, "{source}");
    }
    assert_fine(&[
        "if DEBUG then print('x') end",
        "local level = LEVEL or 3",
        "if SETTING == nil then SETTING = 1 end",
        "function set() later = 1 end function get() return later end",
        "_G.name = 1 print(name)",
        "_G['na' .. 'me'] = 1 print(some)",
        "module('inbound.limits', package.seeall) inbound.limits.conf = {} print(inbound.limits.conf)",
        "print(_TLS.x, _VERSION) local function f(...) return arg.n end",
        "for key, value in pairs({}) do print(key, value) end",
        "local function f() return f end",
    ]);
}

#[test]
fn other_files_of_the_policy_are_known() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("site")).unwrap();
    std::fs::write(dir.path().join("site/shared.lua"), "LIMIT = 5\nfunction shared_helper() end\n").unwrap();
    std::fs::write(dir.path().join("other.lua"), "other_global = 1\n").unwrap();
    let main = dir.path().join("main.lua");
    std::fs::write(&main, "require('site.shared')\nshared_helper(LIMIT)\nprint(other_global)\n").unwrap();
    let alone: Vec<String> = check_policy(&main).iter().map(|found| found.text.clone()).collect();
    assert_eq!(alone, ["the global other_global is never assigned: it is nil"]);
    let scripts = [main.clone(), dir.path().join("other.lua")];
    assert_eq!(check_policy_among(&main, &scripts, &[dir.path().to_owned()]), []);
}

#[test]
fn results_that_must_not_be_thrown_away() {
    for (source, want) in [
        (
            "string.gsub(name or '', 'a', 'b')",
            "p.lua:1:1: warning: string.gsub only gives a result, and it is thrown away",
        ),
        (
            "local t = 'x' t:gsub('a', 'b')",
            "p.lua:1:15: warning: the method gsub only gives a result, and it is thrown away; \
             strings do not change: assign what it returns",
        ),
    ] {
        assert_eq!(findings(source), [want]);
    }
    assert_fine(&[
        "local t = {} function t:gsub(a) end t:gsub('a')",
        "print(('x'):gsub('a', 'b'))",
        "string.gsub('x', 'y', function(found) print(found) end)",
    ]);
    // Whether mail was queued is told by the result alone.
    let sending = hook("validate_data(msg, ac, vctx)", "msg:inject(self.from, self.to)");
    let found = findings(&sending);
    assert!(found.len() == 1 && found[0].contains("the result of msg:inject is not looked at"), "{found:?}");
    assert_fine(&[&sending.replace("msg:inject", "self.sent = msg:inject")]);
}

#[test]
fn a_hook_returns_what_it_must() {
    let short = |body: &str| {
        format!("local mod = {{}} msys.registerModule('m', mod) function mod:validate_ehlo(str, ac, vctx) {body} end")
    };
    for (body, want) in [
        ("if ac then return msys.core.VALIDATE_DONE end", "can end here without returning anything"),
        ("return true", "returns true"),
        ("return", "returns nothing"),
        ("for i = 1, 2 do return msys.core.VALIDATE_CONT end", "can end here without returning anything"),
    ] {
        let said = findings(&short(body));
        assert!(said.len() == 1 && said[0].contains(want), "{body}: {said:?}");
    }
    for body in [
        "if ac then return msys.core.VALIDATE_DONE else return msys.core.VALIDATE_CONT end",
        "error('x')",
        "while true do if ac then return msys.core.VALIDATE_CONT end end",
        "local f = function() return end return f()",
        "do return 0 end",
    ] {
        assert_fine(&[&short(body)]);
    }
    assert!(findings("local m = {} m.init = function(self) return 1 end")[0].contains("init returns a number"));
    assert_fine(&["local m = {} function m:core_log_delivery_v1(msg) end return m", "function init() end"]);
}

#[test]
fn a_module_that_is_given_to_nobody_is_told() {
    let module = "local mod = {} function mod:init() return true end function mod:deinit() return true end";
    assert_eq!(
        findings(module),
        ["p.lua:1:29: warning: init is never called: mod is registered nowhere; \
             msys.registerModule(\"name\", mod) at the end of the script"]
    );
    for end in ["msys.registerModule('m', mod)", "return mod", "local m = mod", "setup { mod } function setup() end"] {
        assert_fine(&[&format!("{module} {end}")]);
    }
    assert_fine(&["mod = {} function mod:init() return true end"]);
}

#[test]
fn functions_named_like_hooks_are_hooks_or_reported() {
    assert_eq!(
        findings(
            "local mod = {} self = mod\nfunction mod:validate_elho() end\nfunction mod.core_log_error() end\nmod.validate_dat = function() end\n\
             msys.registerModule('m', { validate_rcpto = function() end })"
        ),
        [
            "p.lua:2:14: warning: no hook is named validate_elho; did you mean validate_ehlo?",
            "p.lua:3:14: warning: the hook core_log_error is known, but not called yet",
            "p.lua:4:5: warning: no hook is named validate_dat; did you mean validate_data?",
            "p.lua:5:28: warning: no hook is named validate_rcpto; did you mean validate_rcptto?",
        ]
    );
    assert_fine(&[
        "local mod = {} function mod:helper() end",
        "local mod = {} function mod:validate_list() end mod:validate_list()",
    ]);
}

#[test]
fn findings_show_their_line_with_a_mark() {
    let source = "\tlocal m = msys.pcre.mach(\"\u{e9}\", 'b')\n";
    let found = check_source(Path::new("p.lua"), source.as_bytes());
    assert_eq!(
        found[0].shown(),
        "p.lua:1:12: warning: msys.pcre.mach is not there\n  |\n1 |  local m = msys.pcre.mach(\"\u{e9}\", 'b')\n  |            ^^^^^^^^^^^^^^\n  \
         = help: did you mean msys.pcre.match?\n"
    );
    let long = format!("x = '{}' .. y0", "a".repeat(1000));
    let shown = check_source(Path::new("p.lua"), long.as_bytes())[0].shown();
    assert!(shown.lines().all(|line| line.chars().count() < 200), "{shown}");
}

#[test]
fn policies_that_work_come_through_without_a_word() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut count = 0;
    for folder in ["conformance", "conformance/dialect", "examples/demo/lua", "benches"] {
        let folder = root.join(folder);
        let files: Vec<PathBuf> = std::fs::read_dir(&folder)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.extension().is_some_and(|extension| extension == "lua"))
            .collect();
        for file in &files {
            let found = check_policy_among(file, &files, std::slice::from_ref(&folder));
            // Scripts of the dialect test what happens to wrong code, too; one prints which functions are absent.
            let dialect = folder.ends_with("dialect");
            if file.ends_with("48-library-contents.lua") {
                assert!(found.iter().any(|found| found.text == "table.unpack is not there"));
                continue;
            }
            let bad =
                found.iter().filter(|found| found.severity > Severity::Note && !(dialect && found.prevents_loading));
            let said: Vec<String> = bad.map(ToString::to_string).collect();
            assert!(said.is_empty(), "{}", said.join("\n"));
            count += 1;
        }
    }
    assert!(count > 60, "{count} files");
}

#[test]
fn names_are_completed_and_described() {
    assert!(completions("msys.pcre.ma").contains(&"msys.pcre.match".to_owned()));
    assert!(completions("msg:he").contains(&"msg:header".to_owned()));
    assert!(completions("str").contains(&"string".to_owned()));
    assert!(!completions("msys").iter().any(|name| name.contains("msys.")));
    assert!(describe("msg:header").unwrap().starts_with("msg:header(hdr, [value], [mode])"));
    assert_eq!(describe("nothing"), None);
}

#[test]
fn code_as_deep_as_lua_allows_is_walked() {
    for (open, close, count) in [
        ("(", ")", 180),
        ("{", "}", 180),
        ("not ", "", 180),
        ("'' .. ", "", 180),
        ("f(", ")", 90),
        ("function() return ", " end", 60),
        ("(function() if a then x = ", " end end)", 45),
    ] {
        let source = format!("local f, a, x = print, 1 x = {}1{}", open.repeat(count), close.repeat(count));
        let found = findings(&source);
        assert_eq!(found, Vec::<String>::new(), "{open}");
    }
    let chains = [" + 1", " and 1", " == 1", " .. 'x' == 'y'"];
    for chain in chains {
        assert_fine(&[&format!("local x = 1{}", chain.repeat(20_000))]);
    }
    let parts = [".a", "[1]", ":b()", "{}"];
    for part in parts {
        assert_fine(&[&format!("local t = {{}} t = t{}", part.repeat(20_000))]);
    }
    assert_fine(&[&format!("local a = 1 if a then{} end", " elseif a == 1 then".repeat(20_000))]);
}

#[test]
fn calls_of_a_modules_own_functions_are_compared_with_them() {
    let module = |call: &str| {
        format!(
            "local mod = {{}}\nfunction mod:lookup(x) return x end\nfunction mod:init()\n  {call}\n  return true\nend\nreturn mod"
        )
    };
    for call in ["self:lokup(1)", "mod:lokup(1)"] {
        let found = findings(&module(call));
        assert!(found.len() == 1 && found[0].ends_with("lokup is not there; did you mean lookup?"), "{found:?}");
    }
    for call in ["self:lookup(1)", "self:other(1)", "self.lokup = print self:lokup()", "local t = self t:lokup()"] {
        assert_fine(&[&module(call)]);
    }
}

proptest::proptest! {
    #[test]
    fn no_source_makes_the_check_fail(source in "[a-z.:(){}=,\n '\"]{0,200}") {
        for found in check_source(Path::new("p.lua"), source.as_bytes()) {
            let _ = found.shown();
        }
    }
}
