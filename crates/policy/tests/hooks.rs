//! Hooks: their order, their verdicts, their errors, `self`, waiting, and the watchdog.

mod common;

use common::{Site, message, module, session};
use ph_policy::{Hook, HookCall, OnError, PhaseCheck, Session, Verdict};
use std::sync::Arc;
use std::time::{Duration, Instant};

const CONT: &str = "return msys.core.VALIDATE_CONT";

fn verdict(session: &Session) -> (u16, Option<String>, bool) {
    let Verdict { code, note, disconnect } = session.verdict();
    (code, note.map(|note| String::from_utf8_lossy(&note).into_owned()), disconnect)
}

#[tokio::test]
async fn a_verdict_reaches_the_session() {
    let site = Site::new(&module(
        "function mod:validate_ehlo(str, ac, vctx)
           if tostring(str) == 'EHLO bad\\r\\n' then vctx:set_code(550, '5.7.1 go away') return msys.core.VALIDATE_DONE end
           return msys.core.VALIDATE_CONT
         end",
    ));
    let policy = site.load().await;
    assert!(policy.has(Hook::ValidateEhlo));
    assert!(!policy.has(Hook::ValidateConnect));
    let session = session();
    session.begin_phase(250);
    let result = policy.call(&HookCall::ValidateEhlo { command: b"EHLO bad\r\n", session: &session }).await.unwrap();
    assert!(result.done);
    assert_eq!(verdict(&session), (550, Some("5.7.1 go away".to_owned()), false));
    session.begin_phase(250);
    let result = policy.call(&HookCall::ValidateEhlo { command: b"EHLO good\r\n", session: &session }).await.unwrap();
    assert!(!result.done);
    assert_eq!(verdict(&session), (250, None, false));
}

#[tokio::test]
async fn done_stops_the_phase_for_later_modules_and_no_other_phase() {
    let record = |name: &str, ehlo: &str| {
        format!(
            "log = log or {{}}
             local mod = {{}}
             function mod:init() log[#log + 1] = '{name}.init' return true end
             function mod:validate_ehlo() log[#log + 1] = '{name}.ehlo' return msys.core.{ehlo} end
             function mod:validate_mailfrom() log[#log + 1] = '{name}.mailfrom' {CONT} end
             function mod:validate_dealloc() print(table.concat(log, ' ')) end
             msys.registerModule('{name}', mod)"
        )
    };
    let site = Site::with(&[("one", &record("one", "VALIDATE_DONE")), ("two", &record("two", "VALIDATE_CONT"))]);
    let policy = site.load().await;
    let session = session();
    let message = message(&session, "");
    policy.call(&HookCall::ValidateEhlo { command: b"EHLO x\r\n", session: &session }).await.unwrap();
    let mail = HookCall::ValidateMailfrom { command: b"MAIL FROM:<a@b.c>\r\n", session: &session, message: &message };
    policy.call(&mail).await.unwrap();
    policy.call(&HookCall::ValidateDealloc { session: &session }).await.unwrap();
    assert!(site.log.has("one.init two.init one.ehlo one.mailfrom two.mailfrom"), "{:?}", site.log.all());
}

#[tokio::test]
async fn self_is_a_table_of_the_session_that_finds_the_module() {
    let site = Site::new(&module(
        "mod.shared = 'of the module'
         function mod:helper() return self.count end
         function mod:init() self.at_init = 'kept' return true end
         function mod:validate_connect(ac, vctx)
           local keys = {}
           for k in pairs(self) do keys[#keys + 1] = k end
           vctx:set(msys.core.VCTX_CONN, 'keys', #keys)
           self.count = (self.count or 0) + 1
           vctx:set(msys.core.VCTX_CONN, 'seen', self.shared .. ' ' .. self.at_init .. ' ' .. self:helper())
           return msys.core.VALIDATE_CONT
         end
         function mod:validate_set_binding(msg) assert(self == mod) return msys.core.VALIDATE_CONT end",
    ));
    let policy = site.load().await;
    let get = |session: &Session, key: &str| session.state.lock().conn.text(key).map(str::to_owned);
    let (one, two) = (session(), session());
    for (session, keys, seen) in [(&one, "0", 1), (&two, "0", 1), (&one, "1", 2)] {
        policy.call(&HookCall::ValidateConnect { session }).await.unwrap();
        assert_eq!(get(session, "keys").as_deref(), Some(keys));
        assert_eq!(get(session, "seen"), Some(format!("of the module kept {seen}")));
    }
    policy.call(&HookCall::ValidateDealloc { session: &one }).await.unwrap();
    let message = message(&two, "");
    policy.call(&HookCall::ValidateSetBinding { message: &message }).await.unwrap();
    assert!(!site.log.has("error"), "{:?}", site.log.all());
}

#[tokio::test]
async fn dealloc_forgets_self_and_handles() {
    let site = Site::new(&module(&format!(
        "function mod:validate_connect(ac, vctx) kept = vctx self.x = 1 {CONT} end
         function mod:validate_ehlo() print(pcall(kept.get, kept, 0, 'k')) {CONT} end
         function mod:validate_dealloc() print('dealloc', self.x) end"
    )));
    let policy = site.load().await;
    let first = session();
    policy.call(&HookCall::ValidateConnect { session: &first }).await.unwrap();
    policy.call(&HookCall::ValidateDealloc { session: &first }).await.unwrap();
    assert!(first.handles.lock().is_none());
    assert!(site.log.has("dealloc 1"));
    first.state.lock().open = false;
    let second = session();
    policy.call(&HookCall::ValidateEhlo { command: b"EHLO x\r\n", session: &second }).await.unwrap();
    assert!(site.log.has("session is closed"), "{:?}", site.log.all());
}

#[tokio::test]
async fn an_error_in_a_hook_is_logged_with_its_place_and_fails_by_on_error() {
    let source = module("function mod:validate_ehlo(str)\n  local nothing = nil\n  return nothing.x\nend");
    for (on_error, want) in [(OnError::Close, Some(true)), (OnError::Tempfail, Some(false)), (OnError::Continue, None)]
    {
        let mut site = Site::new(&source);
        site.settings.on_error = on_error;
        let policy = site.load().await;
        let outcome = policy.call(&HookCall::ValidateEhlo { command: b"EHLO x\r\n", session: &session() }).await;
        assert_eq!(outcome.as_ref().err().map(|error| error.close), want);
        assert!(site.log.has("scriptlet: policy: validate_ehlo error: policy.lua:5: "), "{:?}", site.log.all());
        assert!(site.log.has("stack traceback"));
        if let Err(error) = outcome {
            let code = if error.close { 421 } else { 451 };
            let text = "4.3.0 mx.example temporary issue, please retry your message later".to_owned();
            assert_eq!(error.reply("mx.example"), (code, text));
        }
    }
}

#[tokio::test]
async fn returned_values_are_checked() {
    for (returned, refused) in [
        ("", Some("returned nothing")),
        ("return nil", Some("returned nothing")),
        ("return 7", Some("returned 7")),
        ("return true", Some("returned a boolean")),
        ("return 'x'", Some("returned a string")),
        ("return 0", None),
        ("return msys.core.VALIDATE_DONE", None),
    ] {
        let functions = format!(
            "function mod:validate_connect() {returned} end
             function mod:validate_set_binding() {returned} end
             function mod:core_log_delivery_v1() {returned} end"
        );
        let site = Site::new(&module(&functions));
        let policy = site.load().await;
        let session = session();
        let outcome = policy.call(&HookCall::ValidateConnect { session: &session }).await;
        assert_eq!(outcome.is_err(), refused.is_some(), "{returned}");
        if let Some(text) = refused {
            assert!(site.log.has(text), "{returned}: {:?}", site.log.all());
        }
        // The binding hook logs the same and goes on; a log hook may return anything.
        let message = message(&session, "");
        site.log.clear();
        policy.call(&HookCall::ValidateSetBinding { message: &message }).await.unwrap();
        assert_eq!(site.log.has("error"), refused.is_some(), "{returned}");
        site.log.clear();
        let now = ph_message::Time::from_secs(1);
        policy.call(&HookCall::CoreLogDeliveryV1 { message: &message, domain: "e.f", now, note: "" }).await.unwrap();
        assert_eq!(site.log.all(), Vec::<String>::new());
    }
}

#[tokio::test]
async fn numbers_of_hook_points_come_back() {
    let site = Site::new(&module(
        "function mod:core_final_validation2(msg, ac, vctx) return tonumber(msg:context_get(1, 'answer')) end
         function mod:core_config_get_message_routing_domain(cs, msg, buf, len)
           assert(cs == nil and len == 1024)
           buf:set('hub.example')
           return #buf
         end
         function mod:core_pre_ec_can_relay_to(domain, rv, cont)
           if domain == 'ours.example' then rv.value = 1 return 1 end
         end",
    ));
    let policy = site.load().await;
    let session = session();
    let message = message(&session, "");
    for (answer, value) in [("", 0), ("1", 1), ("2", 2)] {
        session.state.lock().mess.set("answer", answer.as_bytes().to_vec());
        let call = HookCall::CoreFinalValidation2 { message: &message, session: Some(&session) };
        assert_eq!(policy.call(&call).await.unwrap().value, value);
    }
    let routed = policy.call(&HookCall::CoreConfigGetMessageRoutingDomain { message: &message }).await.unwrap();
    assert_eq!((routed.value, routed.text.as_deref()), (11, Some(&b"hub.example"[..])));
    for (domain, out) in [("ours.example", Some(1)), ("theirs.example", None)] {
        let result = policy.call(&HookCall::CorePreEcCanRelayTo { domain, session: &session }).await.unwrap();
        assert_eq!((result.done, result.out), (out.is_some(), out), "{domain}");
    }
}

#[tokio::test]
async fn a_runaway_hook_is_stopped_and_the_state_stays_usable() {
    let mut site = Site::new(&module(&format!(
        "function mod:validate_ehlo(str)
           local n = 0
           while true do n = n + 1 end
         end
         function mod:validate_connect()
           while true do pcall(function() while true do end end) end
         end
         function mod:validate_mailfrom() {CONT} end"
    )));
    site.settings.hook_cpu_limit = Duration::from_millis(100);
    let policy = site.load().await;
    let session = session();
    let began = Instant::now();
    let error = policy.call(&HookCall::ValidateEhlo { command: b"EHLO x\r\n", session: &session }).await.unwrap_err();
    assert!(error.text.contains("policy.lua:5: CPU limit exceeded"), "{}", error.text);
    let error = policy.call(&HookCall::ValidateConnect { session: &session }).await.unwrap_err();
    assert!(error.text.contains("CPU limit exceeded"), "{}", error.text);
    assert!(began.elapsed() < Duration::from_secs(20));
    let message = message(&session, "");
    let mail = HookCall::ValidateMailfrom { command: b"MAIL FROM:<>\r\n", session: &session, message: &message };
    for _ in 0..100 {
        policy.call(&mail).await.unwrap();
    }
}

#[tokio::test]
async fn memory_beyond_the_limit_fails_the_hook_alone() {
    let mut site = Site::new(&module(&format!(
        "function mod:validate_ehlo() local t = {{}} for i = 1, 1e9 do t[i] = ('x'):rep(1000) .. i end {CONT} end
         function mod:validate_connect() {CONT} end"
    )));
    site.settings.memory_limit = 32 << 20;
    let policy = site.load().await;
    let session = session();
    for _ in 0..3 {
        let error =
            policy.call(&HookCall::ValidateEhlo { command: b"EHLO x\r\n", session: &session }).await.unwrap_err();
        assert!(error.text.contains("not enough memory"), "{}", error.text);
        policy.call(&HookCall::ValidateConnect { session: &session }).await.unwrap();
    }
    assert!(policy.used_memory() < 8 << 20, "{}", policy.used_memory());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_waiting_hook_does_not_hold_the_state() {
    let site = Site::new(&module(&format!(
        "function mod:validate_ehlo()
           -- A pipe that nobody writes to for now: reading it waits.
           local text = msys.readfile(fifo)
           print('read', text)
           {CONT}
         end
         function mod:validate_connect() {CONT} end"
    )));
    let fifo = site.folder.path().join("pipe");
    let made = std::process::Command::new("mkfifo").arg(&fifo).status().unwrap();
    assert!(made.success());
    let path = site.folder.path().join("policy.lua");
    let source = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, format!("fifo = {:?}\n{source}", fifo.display().to_string())).unwrap();
    let policy = Arc::new(site.load().await);
    let waiting = tokio::spawn({
        let policy = policy.clone();
        async move {
            let session = session();
            policy.call(&HookCall::ValidateEhlo { command: b"EHLO x\r\n", session: &session }).await.map(|_| ())
        }
    });
    let session = session();
    for _ in 0..1000 {
        policy.call(&HookCall::ValidateConnect { session: &session }).await.unwrap();
        tokio::task::yield_now().await;
    }
    assert!(!waiting.is_finished());
    tokio::task::spawn_blocking(move || std::fs::write(fifo, "hello")).await.unwrap().unwrap();
    waiting.await.unwrap().unwrap();
    assert!(site.log.has("read hello"), "{:?}", site.log.all());
}

#[tokio::test]
async fn waits_work_in_pcall_and_in_a_scripts_own_coroutines() {
    let site = Site::new(&module(&format!(
        "function mod:validate_ehlo()
           local read = function() return msys.readfile(file) end
           print('direct', read())
           print('pcall', pcall(read))
           local co = coroutine.wrap(function() local a = read() coroutine.yield(a .. 1) return read() .. 2 end)
           print('wrap', co(), co())
           local co = coroutine.create(function() return pcall(function() return read() end) end)
           print('resume', coroutine.resume(co))
           print('missing', msys.readfile('/nowhere/file'))
           print('bad', pcall(msys.readfile))
           {CONT}
         end"
    )));
    let file = site.folder.path().join("data");
    std::fs::write(&file, "x").unwrap();
    let path = site.folder.path().join("policy.lua");
    let source = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, format!("file = {:?}\n{source}", file.display().to_string())).unwrap();
    let policy = site.load().await;
    policy.call(&HookCall::ValidateEhlo { command: b"EHLO x\r\n", session: &session() }).await.unwrap();
    for line in [
        "direct x",
        "pcall true x",
        "wrap x1 x2",
        "resume true true x",
        "missing nil /nowhere/file: No such file or directory",
        "bad false bad argument #1 to 'msys.readfile' (string expected, got nil)",
    ] {
        assert!(site.log.all().iter().any(|got| got == line), "{line}: {:?}", site.log.all());
    }
}

#[tokio::test]
async fn memory_stays_flat_over_many_hooks() {
    let site = Site::new(&module(&format!(
        "function mod:validate_ehlo(str, ac, vctx) vctx:set(0, 'ehlo', tostring(str)) local t = {{ ac.remote_addr }} {CONT} end
         function mod:validate_data(msg, ac, vctx) msg:header('Subject') msg:context_set(1, 'k', 'v') {CONT} end"
    )));
    let policy = site.load().await;
    let run = async |times: usize| {
        for _ in 0..times {
            let session = session();
            let message = message(&session, "Subject: x\r\n\r\nbody\r\n");
            policy.call(&HookCall::ValidateEhlo { command: b"EHLO x\r\n", session: &session }).await.unwrap();
            policy.call(&HookCall::ValidateData { message: &message, session: &session }).await.unwrap();
            policy.call(&HookCall::ValidateDealloc { session: &session }).await.unwrap();
        }
    };
    run(5_000).await;
    let before = policy.used_memory();
    run(50_000).await;
    let after = policy.used_memory();
    assert!(after < before.max(1 << 20) * 3, "{before} octets before, {after} after 100,000 hooks");
}

#[tokio::test]
async fn the_phase_check_warns_once_a_line_raises_or_is_off() {
    let source = module(&format!(
        "function mod:validate_mailfrom(str, ac, vctx)
           for _ = 1, 3 do ac:esmtp_capability_add('XFOO') end
           {CONT}
         end"
    ));
    for (check, fails, warns) in
        [(PhaseCheck::Warn, false, 1), (PhaseCheck::Error, true, 0), (PhaseCheck::Off, false, 0)]
    {
        let mut site = Site::new(&source);
        site.settings.phase_check = check;
        let policy = site.load().await;
        let session = session();
        let message = message(&session, "");
        let mail = HookCall::ValidateMailfrom { command: b"MAIL FROM:<>\r\n", session: &session, message: &message };
        assert_eq!(policy.call(&mail).await.is_err(), fails, "{check:?}");
        let warnings = site.log.all();
        let warnings =
            warnings.iter().filter(|line| line.contains("policy.lua:4: ") && line.contains("not documented"));
        assert_eq!(warnings.filter(|line| !line.contains("error:")).count(), warns, "{check:?}");
    }
}

#[tokio::test]
async fn modules_that_cannot_work_are_named() {
    let site = Site::new(
        "msys.registerModule('empty', {})
         msys.registerModule('typo', { validate_elho = function() end })
         msys.registerModule('later', { core_log_error = function() end })",
    );
    site.load().await;
    for line in [
        "no usable methods found for module empty in registerModule call",
        "no hook is named validate_elho; did you mean validate_ehlo?",
        "core_log_error is known, but not called yet",
    ] {
        assert!(site.log.has(line), "{line}: {:?}", site.log.all());
    }
}

#[tokio::test]
async fn patterns_on_long_subjects_give_the_usual_results_and_explosive_ones_fail() {
    let mut site = Site::new(&module(&format!(
        "function mod:validate_ehlo()
           local long = ('key = value; '):rep(1000)
           local short = ('key = value; '):rep(3)
           for _, pattern in ipairs {{ '(%w+)%s*=%s*(%w+)', '^%s*(.-)%s*$', '()%w+%s+=()', 'x*y*', '%s*;%s*$' }} do
             local function answers(text)
               local all, n = {{}}, 0
               for a, b in text:gmatch(pattern) do n = n + 1 if n <= 3 then all[#all + 1] = tostring(a) .. ':' .. tostring(b) end end
               local swapped, count = text:gsub(pattern, '<%0|%1>', 2)
               local called = text:gsub(pattern, function(a, b) return b and b .. a end, 2)
               local looked = text:gsub(pattern, {{ key = 'KEY' }}, 1)
               local f = {{ text:find(pattern, 2) }}
               return table.concat(all, ' ', 1, math.min(#all, 3)), swapped:sub(1, 20), count, called:sub(1, 20), looked:sub(1, 20), f[1], text:match(pattern) and 1
             end
             local a, b = {{ answers(long) }}, {{ answers(short) }}
             -- What does not depend on the length is the same from both matchers.
             if not pattern:find('$', 1, true) then
               for i = 1, 7 do if a[i] ~= b[i] then error(pattern .. ' ' .. i .. ': ' .. tostring(a[i]) .. ' / ' .. tostring(b[i])) end end
             end
           end
           local ok, failure = pcall(string.find, ('\"'):rep(100000), ('\".-'):rep(30) .. 'x')
           print('explosive', ok, failure)
           print(select(2, pcall(function() return ('x'):find(nil) end)))
           print(select(2, pcall(function() local a = string.rep('x', 5000):find('%w*%d*[') end)))
           {CONT}
         end"
    )));
    site.settings.hook_cpu_limit = Duration::from_secs(300); // The steps are what is tested, and an unoptimized build is slow.
    let policy = site.load().await;
    policy.call(&HookCall::ValidateEhlo { command: b"EHLO x\r\n", session: &session() }).await.unwrap();
    for line in ["explosive false pattern too complex", "malformed pattern (missing ']')", "string expected, got nil"] {
        assert!(site.log.has(line), "{line}: {:?}", site.log.all());
    }
}

#[tokio::test]
async fn hook_points_may_return_nothing_and_end_the_phase_with_a_number() {
    let site = Site::new(&module(
        "function mod:core_validate_connect(ac, vctx) return vctx:get(0, 'stop') == '1' and 1 or nil end",
    ));
    let policy = site.load().await;
    let session = session();
    assert!(!policy.call(&HookCall::CoreValidateConnect { session: &session }).await.unwrap().done);
    session.state.lock().conn.set("stop", &b"1"[..]);
    assert!(policy.call(&HookCall::CoreValidateConnect { session: &session }).await.unwrap().done);
}

#[tokio::test]
async fn a_dropped_policy_frees_its_state_and_a_dropped_call_its_hook() {
    let site = Site::new(&module(&format!(
        "function mod:validate_ehlo() msys.sleep(3600) {CONT} end
         function mod:validate_connect() {CONT} end"
    )));
    let policy = site.load().await;
    let session = session();
    {
        let call = HookCall::ValidateEhlo { command: b"EHLO x\r\n", session: &session };
        let waiting = policy.call(&call);
        let mut waiting = std::pin::pin!(waiting);
        let first = std::future::poll_fn(|context| std::task::Poll::Ready(waiting.as_mut().poll(context).is_pending()));
        assert!(first.await);
    }
    policy.call(&HookCall::ValidateConnect { session: &session }).await.unwrap();
    let host = Arc::downgrade(policy.host());
    drop(policy);
    assert!(host.upgrade().is_none(), "something of the state keeps the host alive");
}

#[tokio::test]
async fn garbage_is_collected_before_the_limit_is_reached() {
    let mut site = Site::new(&module(&format!(
        "function mod:init() kept = {{}} for i = 1, 12000 do kept[i] = ('k'):rep(1000) .. i end return true end
         function mod:validate_connect() for i = 1, 1000 do local garbage = ('g'):rep(1000) .. i end {CONT} end"
    )));
    // More than half of it lives: the collector alone would wait until the garbage has doubled that.
    site.settings.memory_limit = 20 << 20;
    let policy = site.load().await;
    let session = session();
    for _ in 0..200 {
        policy.call(&HookCall::ValidateConnect { session: &session }).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mutexes_hold_over_waits_and_are_released_with_their_task() {
    let site = Site::new(&module(&format!(
        "local lock, count = thread.mutex(), 0
         function mod:validate_connect()
           lock:lock()
           local seen = count
           msys.sleep(0.001)
           count = seen + 1
           lock:unlock()
           {CONT}
         end
         function mod:validate_ehlo() lock:lock() error('while holding') end
         function mod:validate_mailfrom() print('count', count, lock:trylock(), lock:trylock()) lock:unlock() {CONT} end"
    )));
    let policy = Arc::new(site.load().await);
    let run = |count: usize| {
        let tasks: Vec<_> = (0..count)
            .map(|_| {
                let policy = policy.clone();
                tokio::spawn(async move {
                    let session = session();
                    policy.call(&HookCall::ValidateConnect { session: &session }).await.map(|_| ())
                })
            })
            .collect();
        async {
            for task in tasks {
                task.await.unwrap().unwrap();
            }
        }
    };
    run(100).await;
    let session = session();
    policy.call(&HookCall::ValidateEhlo { command: b"EHLO x\r\n", session: &session }).await.unwrap_err();
    run(3).await;
    assert!(site.log.has("thread.mutex: released at end of"), "{:?}", site.log.all());
    let message = message(&session, "");
    let mail = HookCall::ValidateMailfrom { command: b"MAIL FROM:<>\r\n", session: &session, message: &message };
    policy.call(&mail).await.unwrap();
    assert!(site.log.has("count 103 true 16"), "{:?}", site.log.all());
}
