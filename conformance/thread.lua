-- Conformance of table `thread`.

block("msys.sleep", "connect", function()
  returns(0, {}, msys.sleep(0.01))
  returns(0, {}, msys.sleep("0"))
  returns(0, {}, msys.sleep(-1))
  raises("bad argument #1 to 'msys.sleep' (number expected, got table)", msys.sleep, {})
  local ok = pcall(function() msys.sleep(0.01) error("after") end)
  eq(ok, false)
  local object = setmetatable({}, { __index = function(_, key) msys.sleep(0.01) return key end })
  eq(object.x, "x")
  local function waiting() msys.sleep(0.01) return nil end
  for _ in waiting do error("nothing to iterate") end
  local co = coroutine.wrap(function() msys.sleep(0.01) coroutine.yield(1) return 2 end)
  eq(co(), 1)
  eq(co(), 2)
  raises("attempt to yield across C-call boundary", table.sort, { 2, 1 }, function() msys.sleep(0.01) end)
end)

-- Two tasks that add to a number across a wait, under what `lock` and `unlock` guard.
local function guarded_sum(lock, unlock)
  local value, jobs = 0, {}
  for job = 1, 20 do
    jobs[job] = thread.create(function()
      lock()
      local seen = value
      msys.sleep(0.001)
      value = seen + 1
      unlock()
    end)
  end
  for _, job in ipairs(jobs) do job:join() end
  return value
end

block("msys.lock", "connect", function()
  eq(msys.lock("x"), true)
  eq(msys.lock("y"), true)
  raises("lock 'x' is already held", msys.lock, "x")
  eq(msys.unlock("x"), true)
  eq(msys.unlock("y"), true)
  eq(guarded_sum(function() msys.lock(7) end, function() msys.unlock("7") end), 20)
  raises("string expected, got nil", msys.lock)
  -- In turn: nobody overtakes.
  local order, jobs = {}, {}
  msys.lock("turn")
  for job = 1, 5 do
    jobs[job] = thread.create(function()
      msys.lock("turn")
      order[#order + 1] = job
      msys.unlock("turn")
    end)
    msys.sleep(0.002)
  end
  msys.unlock("turn")
  eq(msys.lock("turn"), true)
  eq(order, { 1, 2, 3, 4, 5 })
  msys.unlock("turn")
  -- The end of a task gives back what it holds, also when it fails, and also to one that waits.
  for _, ending in ipairs { function() end, error } do
    thread.create(function() msys.lock("left") ending() end):join()
    eq(msys.lock("left"), true)
    msys.unlock("left")
  end
  thread.create(function() msys.lock("left") msys.sleep(0.01) end)
  msys.sleep(0)
  eq(msys.lock("left"), true)
  msys.unlock("left")
  -- A wait that could never end raises: across two locks, and through a job.
  msys.lock("a")
  local other = thread.create(function()
    msys.lock("b")
    msys.lock("a")
    msys.unlock("a")
    msys.unlock("b")
  end)
  msys.sleep(0.005)
  raises("deadlock on lock 'b'", msys.lock, "b")
  local ok, text = msys.runInPool("IO", function() msys.lock("a") end)
  eq(ok, false)
  assert(text:find("deadlock on lock 'a'", 1, true), text)
  msys.unlock("a")
  other:join()
  eq(msys.lock("a") and msys.lock("b"), true)
  msys.unlock("a")
  msys.unlock("b")
end)

block("msys.unlock", "connect", function()
  raises("lock 'never taken' is not held by this task", msys.unlock, "never taken")
  msys.lock("mine")
  local ok, text = msys.runInPool("CPU", function() msys.unlock("mine") end)
  eq(ok, false)
  assert(text:find("lock 'mine' is not held by this task", 1, true), text)
  msys.unlock("mine")
  raises("string expected, got table", msys.unlock, {})
end)

block("thread.mutex", "connect", function()
  eq(require("thread"), thread)
  local m = thread.mutex()
  eq(m:lock(), true)
  raises("failed to lock mutex: 35 Resource deadlock avoided", m.lock, m)
  eq(m:trylock(), 16)
  local tried, failed
  thread.create(function()
    tried = m:trylock()
    failed = select(2, pcall(m.unlock, m))
  end):join()
  eq(tried, 16)
  assert(failed:find("failed to unlock mutex: 1 Operation not permitted", 1, true), failed)
  eq(m:unlock(), true)
  eq(guarded_sum(function() m:lock() end, function() m:unlock() end), 20)
  local r = thread.mutex(thread.MUTEX_RECURSIVE)
  eq(r:lock() and r:lock() and r:trylock(), true)
  local function try() local got thread.create(function() got = r:trylock() end):join() return got end
  r:unlock()
  r:unlock()
  eq(try(), 16)
  r:unlock()
  eq(try(), true)
  -- A signal: a NORMAL one may be given back by anybody.
  local n = thread.mutex(thread.MUTEX_NORMAL)
  n:lock()
  thread.create(function() n:unlock() end):join()
  eq(n:trylock(), true)
  -- Deadlocks are found across both kinds of locks.
  m:lock()
  local other = thread.create(function()
    msys.lock("cross")
    m:lock()
    m:unlock()
    msys.unlock("cross")
  end)
  msys.sleep(0.005)
  raises("deadlock on lock 'cross'", msys.lock, "cross")
  m:unlock()
  other:join()
  raises("specify one of", thread.mutex, 7)
end)

block("msys.runInPool", "connect", function(t)
  local run = msys.runInPool
  returns(4, { true, 1, nil, 3 }, run("IO", function() return 1, nil, 3 end))
  returns(1, { true }, run("io", function() end))
  returns(2, { true, "x" }, run(msys.core.ECTP_CLASS_CPU, function() msys.sleep(0.001) return "x" end))
  local ok, text = run("CPU", function() error("x") end)
  eq(ok, false)
  assert(text:find("^thread.lua:%d+: x$"), text)
  raises("no such thread pool 'nope'", run, "nope", print)
  raises("no such thread pool '999'", run, 999, print)
  raises("function expected, got nil", run, "IO")
  raises("boolean or function expected, got string", run, "IO", print, "x")
  raises("string or number expected, got nil", run, nil, print)
  eq(select(2, run("IO", msys.asyncOk)), true)
  -- A job that is waited for is in the caller's phase and session.
  run("IO", function() t.vctx:set_code(451, "from a job") end)
  eq(t.vctx.code, 451)
  t.vctx:set_code(220, "")
  -- Asynchronous: not before the caller waits; the completion comes after.
  local seen = {}
  returns(0, {}, run("IO", function() seen[#seen + 1] = "job" end, true))
  returns(0, {}, run("IO", function() seen[#seen + 1] = "first" return 5 end,
    function(...) seen[#seen + 1] = { ... } end))
  run("IO", function() error("broken", 0) end, function(...) seen[#seen + 1] = { ... } end,
    msys.core.ECTP_COMPLETE_CALLBACK_SCHED)
  eq(seen, {})
  for _ = 1, 100 do
    if #seen == 4 then break end
    msys.sleep(0.002)
  end
  table.sort(seen, function(a, b) return msys.dumper.Dumper(a) < msys.dumper.Dumper(b) end)
  eq(seen, { "first", "job", { false, "broken" }, { true, 5 } })
  -- `_TLS` is fresh, `_OSTLS` the slot's.
  _OSTLS.x, _TLS.x = 1, 1
  eq({ select(2, run("SpoolIn", function()
    local before = _OSTLS.x
    _OSTLS.x = "slot"
    return before == nil, _TLS.x == nil
  end)) }, { true, true })
  eq(select(2, run("SpoolIn", function() return _OSTLS.x end)), "slot")
  eq(_OSTLS.x, 1)
  eq(_TLS.x, 1)
  local in_pool, in_scheduler
  run("SpoolIn", print, function() in_pool = _OSTLS.x end)
  run("SpoolIn", print, function() in_scheduler = _OSTLS.x end, msys.core.ECTP_COMPLETE_CALLBACK_SCHED)
  for _ = 1, 100 do
    if in_pool and in_scheduler then break end
    msys.sleep(0.002)
  end
  eq(in_pool, "slot")
  eq(in_scheduler, 1)
  -- A job within a job of a pool that is full uses the slot of the one that waits for it.
  eq({ run("SpoolIn", function()
    return select(2, run("SpoolIn", function() return select(2, run("CPU", function()
      return select(2, run("SpoolIn", function() return "inside" end))
    end)) end))
  end) }, { true, "inside" })
  -- No more at a time than the pool has slots.
  local most, now, jobs = 0, 0, {}
  for job = 1, 9 do
    jobs[job] = thread.create(function()
      run("CPU", function()
        now = now + 1
        most = math.max(most, now)
        msys.sleep(0.003)
        now = now - 1
      end)
    end)
  end
  for _, job in ipairs(jobs) do job:join() end
  eq(most, 4)
  _OSTLS.x = nil
end)

block("msys.threadpool.count", "load", function() eq(require("msys.threadpool").count(), 8) end)

block("msys.threadpool.find", "load", function()
  local find = msys.threadpool.find
  eq(find("IO"), msys.core.ECTP_CLASS_IO)
  eq(find(find("IO")), "IO")
  eq(find("io"), find("IO"))
  eq(find("SwapIn"), msys.core.ECTP_CLASS_SWAPIN)
  eq(find("nope"), nil)
  eq(find(9999), nil)
  eq(find("5"), nil)
  raises("string or number expected, got nil", find)
end)

block("msys.threadpool.stat", "connect", function()
  local stat = msys.threadpool.stat
  local before = stat("Unlink").invocations
  local during
  for _ = 1, 3 do msys.runInPool("UNLINK", function() msys.sleep(0.002) during = stat("unlink") end) end
  local st = stat("Unlink")
  eq(st.invocations - before, 3)
  eq(st.job_num_running, 0)
  eq(during.job_num_running, 1)
  eq(during.num_active_threads, 1)
  eq(during.num_inactive_threads, 5)
  eq(st.num_threads, 6)
  eq(st.queue_sz, 0)
  eq(st.job_num_queued, 0)
  assert(st.avg_wallclock_time_per_op >= 1 and st.avg_concurrency > 0 and st.saturation == 0)
  eq(st.name, "UNLINK")
  eq(stat(msys.core.ECTP_CLASS_IO).name, "IO")
  assert(tostring(st):find("Thread pool:%s+UNLINK\n"))
  eq(stat("nope"), nil)
  raises("string or number expected, got table", stat, {})
end)
