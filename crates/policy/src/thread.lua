-- The libraries `thread` and `buffer` of Threaded Lua, and `msys.lock`.
--
-- Objects are userdata of `newproxy` with one metatable a class, their state beside them in a weak table. Only one task runs in a
-- state at a time, and tasks change only at waits; so what happens between two waits needs no further lock. The owner of a lock
-- is the running task (a hook call, or what `thread.create` started; coroutines count as their resumer's task).
local host, msys = ...
local error, type, tostring, tonumber, select = error, type, tostring, tonumber, select
local setmetatable, getmetatable, newproxy, pairs, ipairs, pcall, next =
  setmetatable, debug.getmetatable, newproxy, pairs, ipairs, pcall, next
local table, math = table, math
local task, waiter, wait, wait_for_lock, wake_one, wake_all =
  host.task, host.waiter, host.wait, host.wait_for_lock, host.wake_one, host.wake_all

local EBUSY = 16
local states = setmetatable({}, { __mode = "k" })

local function class(name)
  local prototype = newproxy(true)
  local meta = getmetatable(prototype)
  meta.__index = meta
  meta.__gc = function() end
  return meta, function(state)
    local object = newproxy(prototype)
    state.class = name
    states[object] = state
    return object
  end
end

local function shown(count, value)
  if count == 0 then return "no value" end
  return type(value)
end

-- The state of an object that a method was called on.
local function state_of(name, method, count, object)
  local state = type(object) == "userdata" and states[object]
  if not state or state.class ~= name then
    error("bad argument #1 to '" .. method .. "' (" .. name .. " expected, got " .. shown(count, object) .. ")", 1)
  end
  return state
end

-- Locks. One that is released goes to who waited first; nobody overtakes. Locks of a task that has ended are released; whoever
-- wants one next, or waits for one, sees to it.
local held = {}

-- What each waiting task waits for: a lock with its place in the queue, or the end of another task (`job.task`).
local waiting = {}
host.waiting = waiting

local function own(lock, owner, hook)
  lock.owner, lock.count, lock.hook = owner, 1, hook
  if not held[owner] then held[owner] = {} end
  held[owner][lock] = true
  if lock.name then lock.names[lock.name] = lock end
end

local function release(lock)
  local owner = lock.owner
  if owner then
    held[owner][lock] = nil
    if next(held[owner]) == nil then held[owner] = nil end
  end
  lock.owner, lock.count = nil, 0
  while lock.first <= lock.last do
    local place = lock.queue[lock.first]
    lock.queue[lock.first] = nil
    lock.first = lock.first + 1
    if not place.dead then
      own(lock, place.task, place.hook)
      waiting[place.task] = nil
      wake_one(place.bell)
      return
    end
  end
  if lock.name then lock.names[lock.name] = nil end -- A name that nobody wants costs nothing.
end

local function sweep()
  local ended = host.ended_tasks()
  if #ended == 0 then return end
  for _, gone in ipairs(ended) do
    local what = waiting[gone]
    if what and what.place then what.place.dead = true end
    waiting[gone] = nil
  end
  for _, gone in ipairs(ended) do
    local locks = held[gone]
    if locks then
      for lock in pairs(locks) do
        local shown = lock.name and "lock '" .. lock.name .. "'" or "thread.mutex"
        host.log(3, "scriptlet: " .. shown .. ": released at end of " .. lock.hook)
        release(lock)
      end
    end
  end
end
host.sweep = sweep

local function new_lock(kind) return { kind = kind, count = 0, first = 1, last = 0, queue = {} } end

-- Whether the owner of the lock waits, directly or through others, for this task.
local function is_deadlock(lock, me)
  local owner = lock.owner
  while owner do
    if owner == me then return true end
    local what = waiting[owner]
    if not what then return false end
    if what.lock then owner = what.lock.owner else owner = what.job.task end
  end
  return false
end

local function acquire(lock, deadlock)
  local me = task()
  sweep()
  host.watch_task()
  if not lock.owner then
    own(lock, me, host.hook_name())
    return true
  end
  if is_deadlock(lock, me) then error(deadlock, 1) end
  local place = { task = me, bell = waiter(), hook = host.hook_name() }
  lock.last = lock.last + 1
  lock.queue[lock.last] = place
  waiting[me] = { lock = lock, place = place }
  repeat
    wait_for_lock(place.bell)
    sweep()
  until lock.owner == me
  return true
end

-- Mutexes.
local NORMAL, RECURSIVE, ERRORCHECK = 0, 1, 2
local mutex, new_mutex = class("thread.mutex")
local DEADLOCK = "failed to lock mutex: 35 Resource deadlock avoided"

local function lock_mutex(lock)
  if lock.owner and lock.owner == task() then
    if lock.kind ~= RECURSIVE then error(DEADLOCK, 1) end
    lock.count = lock.count + 1
    return true
  end
  return acquire(lock, DEADLOCK)
end

local function unlock_mutex(lock)
  if not lock.owner or (lock.owner ~= task() and lock.kind ~= NORMAL) then
    error("failed to unlock mutex: 1 Operation not permitted", 1)
  end
  lock.count = lock.count - 1
  if lock.count <= 0 then release(lock) end
  return true
end

function mutex.lock(...) return lock_mutex(state_of("thread.mutex", "lock", select("#", ...), (...))) end
function mutex.unlock(...) return unlock_mutex(state_of("thread.mutex", "unlock", select("#", ...), (...))) end

function mutex.trylock(...)
  local lock = state_of("thread.mutex", "trylock", select("#", ...), (...))
  local me = task()
  if lock.owner == me and lock.kind == RECURSIVE then
    lock.count = lock.count + 1
    return true
  end
  sweep()
  if lock.owner then return EBUSY end
  host.watch_task()
  own(lock, me, host.hook_name())
  return true
end

local function make_mutex(kind) return new_mutex(new_lock(kind or ERRORCHECK)) end

-- `msys.lock`: locks by name.
local names = {}

local function name_of(method, value)
  local name = host.text(value)
  if not name then error("bad argument #1 to '" .. method .. "' (string expected, got " .. type(value) .. ")", 1) end
  return name
end

function msys.lock(name)
  name = name_of("msys.lock", name)
  local lock = names[name]
  if not lock then
    lock = new_lock(ERRORCHECK)
    lock.name, lock.names = name, names
  elseif lock.owner == task() then
    error("lock '" .. name .. "' is already held", 1)
  end
  return acquire(lock, "deadlock on lock '" .. name .. "'")
end

function msys.unlock(name)
  name = name_of("msys.unlock", name)
  local lock = names[name]
  if not lock or lock.owner ~= task() then error("lock '" .. name .. "' is not held by this task", 1) end
  release(lock)
  return true
end

-- Conditions: a mutex with a bell.
local condition, new_condition = class("thread.condition")

function condition.acquire(...) return lock_mutex(state_of("thread.condition", "acquire", select("#", ...), (...)).lock) end
function condition.release(...) return unlock_mutex(state_of("thread.condition", "release", select("#", ...), (...)).lock) end

function condition.wait(...)
  local state = state_of("thread.condition", "wait", select("#", ...), (...))
  local seconds = select(2, ...)
  unlock_mutex(state.lock)
  state.waiting = state.waiting + 1
  local rung = wait(state.bell, seconds)
  state.waiting = state.waiting - 1
  lock_mutex(state.lock)
  if seconds ~= nil then return rung end
end

function condition.signal(...)
  local state = state_of("thread.condition", "signal", select("#", ...), (...))
  if state.waiting > 0 then wake_one(state.bell) end -- A signal that nobody waits for is lost.
end

function condition.broadcast(...) wake_all(state_of("thread.condition", "broadcast", select("#", ...), (...)).bell) end

-- Locks for many readers or one writer.
local rwlock, new_rwlock = class("thread.rwlock")

local function get_rwlock(name, writes, waits)
  return function(...)
    local lock = state_of("thread.rwlock", name, select("#", ...), (...))
    while lock.writer or (writes and lock.readers > 0) do
      if not waits then return EBUSY end
      wait(lock.waiter)
    end
    if writes then lock.writer = true else lock.readers = lock.readers + 1 end
    return true
  end
end

rwlock.rdlock = get_rwlock("rdlock", false, true)
rwlock.wrlock = get_rwlock("wrlock", true, true)
rwlock.tryrdlock = get_rwlock("tryrdlock", false, false)
rwlock.trywrlock = get_rwlock("trywrlock", true, false)

function rwlock.unlock(...)
  local lock = state_of("thread.rwlock", "unlock", select("#", ...), (...))
  if lock.writer then
    lock.writer = false
  elseif lock.readers > 0 then
    lock.readers = lock.readers - 1
  else
    error("failed to unlock rwlock: 1 Operation not permitted", 1)
  end
  wake_all(lock.waiter)
  return true
end

-- Tasks.
local thread_class, new_thread = class("thread.thread")

function thread_class.join(...)
  local state = state_of("thread.thread", "join", select("#", ...), (...))
  local me = task()
  sweep()
  host.watch_task()
  waiting[me] = { job = state }
  while not state.done do wait(state.waiter) end
  waiting[me] = nil
  return true
end

thread = {
  MUTEX_NORMAL = NORMAL,
  MUTEX_RECURSIVE = RECURSIVE,
  MUTEX_ERRORCHECK = ERRORCHECK,
}

function thread.mutex(kind)
  if kind ~= nil and type(kind) ~= "number" and not tonumber(kind) then
    error("bad argument #1 to 'mutex' (number expected, got " .. type(kind) .. ")", 1)
  end
  kind = kind and tonumber(kind)
  if kind and kind ~= NORMAL and kind ~= RECURSIVE and kind ~= ERRORCHECK then
    error("bad argument #1 to 'mutex' (specify one of thread.MUTEX_NORMAL, thread.MUTEX_RECURSIVE or thread.MUTEX_ERRORCHECK)", 1)
  end
  return make_mutex(kind)
end

function thread.condition(...)
  local lock = states[make_mutex()]
  if select("#", ...) > 0 and (...) ~= nil then lock = state_of("thread.mutex", "condition", 1, (...)) end
  return new_condition({ lock = lock, bell = waiter(), waiting = 0 })
end

function thread.rwlock() return new_rwlock({ readers = 0, writer = false, waiter = waiter() }) end

function thread.sleep(seconds)
  if seconds and tonumber(seconds) and tonumber(seconds) > 0 then wait(waiter(), math.floor(tonumber(seconds))) end
  return 0
end

function thread.create(call, argument, joinable)
  if type(call) ~= "function" then error("bad argument #1 to 'create' (function expected)", 1) end
  local state = { done = false, waiter = waiter() }
  local object = joinable ~= false and new_thread(state) or nil
  local given = argument
  if object and given == nil then given = object end
  host.spawn(function()
    local me = task()
    state.task = me
    host.os_of_task[me] = {}
    local ok, failure = pcall(call, given)
    if not ok then host.log(4, "thread pcall failed with status 2, error=" .. tostring(failure)) end
    host.os_of_task[me] = nil
    state.done = true
    wake_all(state.waiter)
  end)
  if object then return object end
  return argument
end

package.loaded.thread = thread

-- Byte buffers of fixed size. The octets stand one by one in a table, which slices share.
local buffer_class, new_buffer = class("buffer")
local methods = {}

local function buffer_of(method, count, object) return state_of("buffer", method, count, object) end

local function text_of(state, from, to)
  local octets = {}
  for at = from, to - 1 do octets[#octets + 1] = state.octets[state.offset + at] end
  return table.concat(octets)
end

function methods.write(...)
  local state = buffer_of("write", select("#", ...), (...))
  local text, offset = select(2, ...)
  if type(text) == "number" then text = tostring(text) end
  if type(text) ~= "string" then error("bad argument #1 to 'write' (string expected, got " .. type(text) .. ")", 1) end
  local at = offset or state.length
  if at < 0 or at > state.size then return 0 end
  local count = math.min(#text, state.size - at)
  for index = 1, count do state.octets[state.offset + at + index - 1] = text:sub(index, index) end
  state.length = at + count
  return count
end

function methods.string(...)
  local state = buffer_of("string", select("#", ...), (...))
  local from, to = select(2, ...)
  from, to = from or 0, to or state.length
  if from < 0 or from > state.length or to > state.length or to < from then return nil end
  return text_of(state, from, to)
end

function methods.slice(...)
  local state = buffer_of("slice", select("#", ...), (...))
  local from, count = select(2, ...)
  if type(from) ~= "number" or type(count) ~= "number" or from < 0 or count < 0 or from + count > state.length then return nil end
  return new_buffer({ octets = state.octets, offset = state.offset + from, size = count, length = count })
end

-- copy(dest, [dest_offset], [offset], [count])
function methods.copy(...)
  local state = buffer_of("copy", select("#", ...), (...))
  local object, to, from, count = select(2, ...)
  local dest = buffer_of("copy", select("#", ...) - 1, object)
  to, from = to or 0, from or 0
  count = math.min(count or state.length, state.length - from, dest.size - to)
  if count < 0 then return 0 end
  local text = text_of(state, from, from + count)
  for index = 1, count do dest.octets[dest.offset + to + index - 1] = text:sub(index, index) end
  dest.length = to + count
  return count
end

buffer_class.__index = function(_, key) return methods[key] end
buffer_class.__len = function(object) return states[object].length end
buffer_class.__tostring = function(object)
  local state = states[object]
  return text_of(state, 0, state.length)
end

buffer = {}

function buffer.new(...)
  local what = ...
  if select("#", ...) == 0 then return end
  if type(what) == "number" then
    return new_buffer({ octets = {}, offset = 0, size = math.floor(what), length = 0 })
  end
  if type(what) ~= "string" then error("bad argument #1 to 'new' (number expected, got " .. type(what) .. ")", 1) end
  local octets = {}
  for at = 1, #what do octets[at - 1] = what:sub(at, at) end
  return new_buffer({ octets = octets, offset = 0, size = #what, length = #what })
end
