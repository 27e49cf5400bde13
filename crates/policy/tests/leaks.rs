//! Memory, files and locks stay flat however often a policy uses them and however its sessions end.

mod common;

use common::{Lines, Site, module, session};
use ph_policy::{HookCall, Policy, Session};
use std::sync::Arc;
use std::time::Duration;

/// What the process holds in memory.
fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

fn open_files() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

async fn connect(policy: &Policy, session: &Arc<Session>) {
    policy.call(&HookCall::ValidateConnect { session }).await.unwrap();
}

async fn wait_for_line(log: &Lines, line: &str) {
    for _ in 0..500 {
        if log.has(line) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("no line {line:?} in {:?}", log.all());
}

#[tokio::test]
async fn json_values_that_nobody_holds_are_collected() {
    // What they hold is outside of Lua's heap, whose collector sees only the handles.
    let functions = r#"
    local text = '[ "' .. ("x"):rep(1024 * 1024) .. '" ]'
    function mod:validate_connect(ac, vctx)
      for _ = 1, 50 do
        json.decode(text)
        json.encode({ text, { text } })
      end
      return msys.core.VALIDATE_CONT
    end
    "#;
    let policy = Site::new(&module(functions)).load().await;
    connect(&policy, &session()).await;
    let before = resident_kib();
    for _ in 0..10 {
        connect(&policy, &session()).await;
    }
    let grown = resident_kib().saturating_sub(before);
    assert!(grown < 150 << 10, "grew by {grown} KiB where 1.5 GiB of values were made");
}

#[tokio::test]
async fn dns_look_ups_leave_nothing() {
    let functions = r#"
    function mod:validate_connect(ac, vctx)
      for n = 1, 100 do
        msys.dnsLookup("two.example", "MX", { priority = true })
        msys.dnsLookup("absent.example")
      end
      return msys.core.VALIDATE_CONT
    end
    "#;
    let authority = common::engine::authority().await;
    let mut site = Site::new(&module(functions));
    common::engine::furnish(&mut site.services, &authority);
    let policy = site.load().await;
    for _ in 0..5 {
        connect(&policy, &session()).await;
    }
    let before = policy.used_memory();
    for _ in 0..50 {
        connect(&policy, &session()).await;
    }
    let after = policy.used_memory();
    assert!(after < before * 2 + (1 << 20), "{before} octets became {after}");
}

#[tokio::test]
async fn forgotten_files_are_closed() {
    let functions = r#"
    function mod:validate_connect(ac, vctx)
      for _ = 1, 500 do assert(msys.core.io_wrapper_open("/dev/null")) end
      return msys.core.VALIDATE_CONT
    end
    "#;
    let site = Site::new(&module(functions));
    let policy = site.load().await;
    for _ in 0..6 {
        connect(&policy, &session()).await;
    }
    assert!(open_files() < 1200, "{} files are open", open_files());
    drop(policy);
    assert!(open_files() < 200, "{} files are open", open_files());
}

#[tokio::test]
async fn a_session_that_goes_away_leaves_no_lock_and_no_place_in_a_queue() {
    let functions = r#"
    function mod:validate_connect(ac, vctx)
      local what = vctx:get(msys.core.VCTX_CONN, "what")
      if what == "holds" then
        msys.lock("x")
        print("held")
        msys.sleep(3600)
      elseif what == "waits" then
        print("waiting")
        msys.lock("x")
        print("got it, though it is gone")
      else
        msys.lock("x")
        msys.unlock("x")
        print("got it")
      end
      return msys.core.VALIDATE_CONT
    end
    "#;
    let site = Site::new(&module(functions));
    let policy = Arc::new(site.load().await);
    let begin = |what: &'static str| {
        let (policy, session) = (policy.clone(), session());
        session.state.lock().conn.set("what", what);
        tokio::spawn(async move { connect(&policy, &session).await })
    };
    let holder = begin("holds");
    wait_for_line(&site.log, "held").await;
    let waiter = begin("waits");
    wait_for_line(&site.log, "waiting").await;
    let last = begin("wants");
    tokio::time::sleep(Duration::from_millis(20)).await;
    // The one that would be next goes first, then the owner.
    waiter.abort();
    holder.abort();
    tokio::time::timeout(Duration::from_secs(10), last).await.expect("the lock was given back").unwrap();
    assert!(site.log.has("lock 'x': released at end of validate_connect"), "{:?}", site.log.all());
    assert!(!site.log.has("got it, though"));
}

#[tokio::test]
async fn a_job_outlives_its_session() {
    let functions = r#"
    function mod:validate_connect(ac, vctx)
      if vctx:get(msys.core.VCTX_CONN, "what") == "again" then
        print("pool", msys.runInPool("SpoolIn", function() return "free" end))
      else
        msys.runInPool("SpoolIn", function()
          print("begun")
          msys.sleep(0.05)
          print("ended")
        end)
        print("the session is gone")
      end
      return msys.core.VALIDATE_CONT
    end
    "#;
    let site = Site::new(&module(functions));
    let policy = Arc::new(site.load().await);
    let gone = {
        let policy = policy.clone();
        tokio::spawn(async move { connect(&policy, &session()).await })
    };
    wait_for_line(&site.log, "begun").await;
    gone.abort();
    let again = session();
    again.state.lock().conn.set("what", "again");
    tokio::time::timeout(Duration::from_secs(10), connect(&policy, &again)).await.expect("the slot was given back");
    assert!(site.log.has("ended") && site.log.has("pool true free"), "{:?}", site.log.all());
    assert!(!site.log.has("the session is gone"));
}

#[tokio::test]
async fn many_tasks_with_locks_and_jobs_leave_the_state_small() {
    let functions = r#"
    local m = thread.mutex()
    function mod:validate_connect(ac, vctx)
      for n = 1, 20 do
        msys.lock("name " .. math.random(1e9))
        msys.runInPool("IO", function() m:lock() msys.sleep(0) m:unlock() end)
        msys.runInPool("CPU", function() end, true)
        thread.create(function() m:lock() end):join()
      end
      return msys.core.VALIDATE_CONT
    end
    "#;
    let site = Site::new(&module(functions));
    let policy = site.load().await;
    let used = async || {
        for _ in 0..100 {
            connect(&policy, &session()).await;
            site.log.clear();
        }
        policy.used_memory()
    };
    let (first, second, third) = (used().await, used().await, used().await);
    let least_grown = third.saturating_sub(first.max(second));
    assert!(least_grown < 2 << 20, "{first}, {second}, {third} octets");
}
