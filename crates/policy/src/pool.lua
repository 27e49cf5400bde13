-- Thread pools: `msys.runInPool` and `msys.threadpool`.
--
-- A pool is a number of slots. A job is a task of its own that takes a slot when its turn comes and gives it back when it ends,
-- waits included; there is no thread behind it. A job that waits for a job of its own lends it its slot, so that pools cannot
-- block themselves. `_OSTLS` is the slot's.
local host, msys = ...
local error, type, tostring, select, unpack, xpcall, pairs, ipairs, setmetatable, next =
  error, type, tostring, select, unpack, xpcall, pairs, ipairs, setmetatable, next
local debug, string, table = debug, string, table
local task, waiter, wait, wake_one, wake_all = host.task, host.waiter, host.wait, host.wake_one, host.wake_all
local waiting, os_of_task, own_tls, running = host.waiting, host.os_of_task, host.own_tls, host.running

local pools, by_name, by_id = {}, {}, {}

for index, declared in ipairs(host.pools) do
  local pool = {
    name = declared.name,
    id = declared.id,
    limit = declared.concurrency,
    backlog = declared.backlog,
    free = {},
    slots = 0, -- made so far
    busy = 0,
    first = 1,
    last = 0,
    queue = {},
    room = waiter(),
    slot_tables = {},
    invocations = 0,
    ended = 0,
    took = 0, -- seconds of ended jobs
    since = host.seconds(),
    changed = host.seconds(),
    busy_seconds = 0, -- sum over slots
    full_seconds = 0,
  }
  pools[index], by_name[pool.name:lower()], by_id[pool.id] = pool, pool, pool
end

-- Job by the task that runs it.
local jobs = {}

local function count_time(pool)
  local now = host.seconds()
  local span = now - pool.changed
  pool.changed = now
  pool.busy_seconds = pool.busy_seconds + span * pool.busy
  if pool.limit > 0 and pool.busy >= pool.limit then pool.full_seconds = pool.full_seconds + span end
end

-- The job around this one, waiting for it, that has a slot in the pool.
local function lender(pool, job)
  local around = job.parent
  while around do
    if around.pool == pool and around.slot then return around end
    around = around.parent
  end
end

local function take_slot(pool, job)
  local around = lender(pool, job)
  if around then
    job.slot, job.is_lent = around.slot, true
    return
  end
  count_time(pool)
  if pool.busy < pool.limit or pool.limit == 0 then
    pool.busy = pool.busy + 1
    job.slot = table.remove(pool.free)
    if not job.slot then
      pool.slots = pool.slots + 1
      job.slot = pool.slots
    end
    return
  end
  local place = { job = job, bell = waiter() }
  pool.last = pool.last + 1
  pool.queue[pool.last] = place
  repeat wait(place.bell) until job.slot
end

local function give_slot(pool, job)
  local slot = job.slot
  job.slot = nil
  if job.is_lent then return end
  if pool.first <= pool.last then
    -- To whoever waited first; the pool is as busy as before.
    local place = pool.queue[pool.first]
    pool.queue[pool.first] = nil
    pool.first = pool.first + 1
    place.job.slot = slot
    wake_one(place.bell)
    wake_all(pool.room)
    return
  end
  count_time(pool)
  pool.busy = pool.busy - 1
  pool.free[#pool.free + 1] = slot
end

local function pack(...) return { n = select("#", ...), ... } end

-- A call whose failure goes to the log with its traceback.
local function guarded(what, call, ...)
  return pack(xpcall(call, function(failure)
    host.log(4, "scriptlet: " .. what .. ": " .. debug.traceback(tostring(failure), 2))
    return failure
  end, ...))
end

local function in_slot(pool, job, call)
  local me, co = task(), running()
  local slot_table = pool.slot_tables[job.slot]
  if not slot_table then
    slot_table = {}
    pool.slot_tables[job.slot] = slot_table
  end
  jobs[me], os_of_task[me], own_tls[co] = job, slot_table, {}
  call()
  jobs[me], os_of_task[me], own_tls[co] = nil, nil, nil
end

local function start(pool, job, closure, completion, in_scheduler)
  host.spawn(function()
    job.task = task()
    take_slot(pool, job)
    pool.invocations = pool.invocations + 1
    local began = host.seconds()
    in_slot(pool, job, function()
      job.results = guarded("thread pool " .. pool.name, closure)
      if completion and not in_scheduler then
        guarded("thread pool " .. pool.name .. ": completion", completion, unpack(job.results, 1, job.results.n))
      end
    end)
    pool.ended, pool.took = pool.ended + 1, pool.took + host.seconds() - began
    give_slot(pool, job)
    job.done = true
    wake_all(job.bell)
    if completion and in_scheduler then
      guarded("thread pool " .. pool.name .. ": completion", completion, unpack(job.results, 1, job.results.n))
    end
  end, job.is_synchronous)
end

local function pool_of(method, value)
  local name = host.text(value)
  if type(value) == "number" then return by_id[value] end
  if name then return by_name[name:lower()] end
  error("bad argument #1 to '" .. method .. "' (string or number expected, got " .. type(value) .. ")", 1)
end

function msys.runInPool(which, closure, mode, complete_in)
  local pool = pool_of("msys.runInPool", which)
  if not pool then error("no such thread pool '" .. tostring(which) .. "'", 1) end
  if type(closure) ~= "function" then
    error("bad argument #2 to 'msys.runInPool' (function expected, got " .. type(closure) .. ")", 1)
  end
  local completion = type(mode) == "function" and mode or nil
  if mode ~= nil and type(mode) ~= "boolean" and not completion then
    error("bad argument #3 to 'msys.runInPool' (boolean or function expected, got " .. type(mode) .. ")", 1)
  end
  host.sweep()
  local me = task()
  local job = { pool = pool, bell = waiter(), is_synchronous = not mode }
  if job.is_synchronous then job.parent = jobs[me] end
  while pool.backlog > 0 and pool.last - pool.first + 1 >= pool.backlog and not lender(pool, job) do wait(pool.room) end
  start(pool, job, closure, completion, complete_in == msys.core.ECTP_COMPLETE_CALLBACK_SCHED)
  if not job.is_synchronous then return end
  host.watch_task()
  waiting[me] = { job = job }
  while not job.done do wait(job.bell) end
  waiting[me] = nil
  return unpack(job.results, 1, job.results.n)
end

msys.threadpool = msys.threadpool or {}

function msys.threadpool.count() return #pools end

function msys.threadpool.find(which)
  local pool = pool_of("msys.threadpool.find", which)
  if not pool then return nil end
  if type(which) == "number" then return pool.name end
  return pool.id
end

local shown = {
  { "name", "Thread pool" },
  { "invocations", "Invocations" },
  { "avg_concurrency", "Average concurrency" },
  { "saturation", "Saturation, percent" },
  { "avg_wallclock_time_per_op", "Average time of a job, ms" },
  { "num_threads", "Threads" },
  { "num_active_threads", "Active threads" },
  { "num_inactive_threads", "Inactive threads" },
  { "job_num_queued", "Jobs queued" },
  { "job_num_running", "Jobs running" },
}

local stat_meta = {
  __tostring = function(stat)
    local lines = {}
    for _, line in ipairs(shown) do lines[#lines + 1] = string.format("%-26s %s", line[2] .. ":", tostring(stat[line[1]])) end
    return table.concat(lines, "\n") .. "\n"
  end,
}

local function stat_of(pool)
  count_time(pool)
  local span = pool.changed - pool.since
  local queued = pool.last - pool.first + 1
  return setmetatable({
    name = pool.name,
    invocations = pool.invocations,
    avg_concurrency = span > 0 and pool.busy_seconds / span or 0,
    saturation = span > 0 and pool.full_seconds / span * 100 or 0,
    avg_wallclock_time_per_op = pool.ended > 0 and pool.took / pool.ended * 1000 or 0,
    queue_sz = queued,
    num_threads = pool.limit,
    num_active_threads = pool.busy,
    num_inactive_threads = pool.limit > pool.busy and pool.limit - pool.busy or 0,
    job_num_queued = queued,
    job_num_running = pool.busy,
  }, stat_meta)
end

function msys.threadpool.stat(which)
  local pool = pool_of("msys.threadpool.stat", which)
  return pool and stat_of(pool)
end

-- For the console.
function host.pool_stats()
  local all = {}
  for index, pool in ipairs(pools) do all[index] = stat_of(pool) end
  return all
end
