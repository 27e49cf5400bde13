-- What every policy state starts with: the parts of the runtime that are best written in Lua itself.
--
-- Called once with the table of host functions. It leaves the library as Threaded Lua policies know it: errors that are
-- strings, coroutines that pass the engine's waits outwards, the dialect in every loader, `_TLS`, and nothing that reaches
-- beyond the state (byte code, C modules, hooks, the registry).
local host = ...

local globals = _G
local rawpcall, rawxpcall, rawtostring, rawerror, rawsetfenv = pcall, xpcall, tostring, error, setfenv
local select, type, setmetatable, ipairs, unpack = select, type, setmetatable, ipairs, unpack
local rawget, tonumber, next = rawget, tonumber, next
local coroutine, debug, io, math, os, package, string, table = coroutine, debug, io, math, os, package, string, table
local bit = bit
local new_table = require("table.new")
local error_text, pending = host.error_text, host.pending

-- `error` counts the levels of the policy: frames of this file (its `pcall` and the like) are none.
local function error(message, level)
  if level == 0 or (type(message) ~= "string" and type(message) ~= "number") then rawerror(message, 0) end
  local wanted, at = level or 1, 2
  while wanted > 0 do
    local info = debug.getinfo(at, "S")
    if not info then break end
    if info.short_src ~= "posthaste" then
      wanted = wanted - 1
      if wanted == 0 then rawerror(message, at) end
    end
    at = at + 1
  end
  rawerror(message, 0)
end
globals.error = error

-- Functions of this file are as good as C functions: their environment is not a policy's to change.
function setfenv(target, env)
  if type(env) ~= "table" then
    error("bad argument #2 to 'setfenv' (table expected, got " .. type(env) .. ")", 1)
  end
  if type(target) == "function" and debug.getinfo(target, "S").short_src == "posthaste" then
    error("'setfenv' cannot change environment of given object", 1)
  end
  return rawsetfenv(target, env)
end

-- Errors of the engine's functions are userdata of the binding; a policy sees their text.
local function readable(failure)
  if type(failure) == "userdata" then return error_text(failure) end
  return failure
end

local function outcome(ok, ...)
  if ok then return true, ... end
  return false, readable((...))
end

function pcall(...) return outcome(rawpcall(...)) end

function xpcall(call, handler, ...)
  if type(handler) ~= "function" then return outcome(rawxpcall(call, handler, ...)) end
  return outcome(rawxpcall(call, function(failure) return handler(readable(failure)) end, ...))
end

-- Coroutines. A wait inside a script's own coroutine yields the engine's marker; it goes on to whoever resumed the outermost
-- one, which is the engine, and the script's `resume` sees only the script's own yields.
local create, resume, yield, status, running =
  coroutine.create, coroutine.resume, coroutine.yield, coroutine.status, coroutine.running
local own_tls = setmetatable({}, { __mode = "k" })

local function settle(co, ok, ...)
  if ok then
    if (...) == pending and select("#", ...) == 1 and status(co) == "suspended" then
      return settle(co, resume(co, yield(pending)))
    end
    return true, ...
  end
  return false, readable((...))
end

function coroutine.create(call)
  if type(call) ~= "function" then error("bad argument #1 to 'create' (Lua function expected)", 1) end
  local co = create(call)
  own_tls[co] = {}
  return co
end

function coroutine.resume(co, ...)
  if type(co) ~= "thread" then error("bad argument #1 to 'resume' (coroutine expected)", 1) end
  return settle(co, resume(co, ...))
end

-- As in Lua 5.1, an error that leaves a wrapped coroutine gets the caller's place before it.
local function unwrap(ok, ...)
  if ok then return ... end
  error((...), 1)
end

function coroutine.wrap(call)
  local co = coroutine.create(call)
  return function(...) return unwrap(settle(co, resume(co, ...))) end
end

-- A hook is a coroutine of the engine: for the policy it is the main program.
function coroutine.running()
  local co = running()
  if co and own_tls[co] then return co end
end

-- `_TLS` belongs to the session, or to the coroutine that a script made; `_OSTLS` to the process, or to a task of
-- `thread.create`.
local os_tls, os_of_task = {}, {}
host.os_of_task = os_of_task
host.own_tls, host.running = own_tls, running

function host.os_tls()
  if next(os_of_task) == nil then return os_tls end
  return os_of_task[host.task()] or os_tls
end

function host.tls()
  local co = running()
  return co and own_tls[co] or host.frame_tls()
end

setmetatable(_G, {
  __index = function(_, key)
    if key == "_TLS" then return host.tls() end
    if key == "_OSTLS" then return host.os_tls() end
  end,
})

-- Objects. Methods first: they are called the most.
function host.make_index(methods, getters, falls_through)
  if falls_through then
    return function(self, key)
      local method = methods[key]
      if method ~= nil then return method end
      local getter = getters[key]
      if getter ~= nil then return getter(self) end
      local call = string[key]
      if call ~= nil then return function(me, ...) return call(rawtostring(me), ...) end end
    end
  end
  return function(self, key)
    local method = methods[key]
    if method ~= nil then return method end
    local getter = getters[key]
    if getter ~= nil then return getter(self) end
  end
end

function host.make_newindex(setters, class)
  return function(self, key, value)
    local setter = setters[key]
    if setter == nil then error("cannot assign field '" .. rawtostring(key) .. "' of a " .. class, 1) end
    setter(self, value)
  end
end

-- Loaders. All source is the dialect; the translation keeps lines, and names the helpers that it calls.
local helpers = host.helpers
local rawloadstring = loadstring

local function compile(source, name)
  local text, used = host.translate(source, name)
  if not text then return nil, used end
  -- The name of a chunk that is text is its first line; a long one is cut as Lua 5.1 cuts it.
  local chunk, failure = rawloadstring(text, host.short_name(name))
  if not chunk or not used then return chunk, failure end
  local bound = {}
  for index = 1, #used do bound[index] = helpers[used[index]] end
  return chunk(unpack(bound, 1, #used))
end
host.compile = compile

function loadstring(...)
  local source, name = ...
  if type(source) == "number" then source = rawtostring(source) end
  if type(source) ~= "string" then
    local got = select("#", ...) == 0 and "no value" or type(source)
    error("bad argument #1 to 'loadstring' (string expected, got " .. got .. ")", 1)
  end
  return compile(source, name or source)
end

function load(source, name)
  if type(source) == "function" then
    local pieces = {}
    while true do
      local piece = source()
      if piece == nil or piece == "" then break end
      if type(piece) ~= "string" then return nil, "reader function must return a string" end
      pieces[#pieces + 1] = piece
    end
    return compile(table.concat(pieces), name or "=(load)")
  end
  if type(source) == "string" then return compile(source, name or source) end
  error("bad argument #1 to 'load' (function expected, got " .. (source == nil and "no value" or type(source)) .. ")", 1)
end

local function read(path)
  local file, failure = io.open(path, "rb")
  if not file then return nil, failure end
  local text = file:read("*a")
  file:close()
  if not text then return nil, "cannot read " .. path end
  -- A first line such as `#!/usr/bin/lua` is a comment; its line break stays.
  return (text:gsub("^#[^\n]*", "", 1))
end

function loadfile(path)
  if path == nil then return nil, "a policy state has no standard input" end
  local text, failure = read(path)
  if not text then return nil, "cannot open " .. rawtostring(failure) end
  return compile(text, "@" .. host.shown_path(path))
end

function dofile(path)
  local chunk, failure = loadfile(path)
  if not chunk then error(failure, 0) end
  return chunk()
end

-- `require`: what is preloaded, the built-in packages, files of the search path, and for any other `msys.*` an empty package.
local function search_builtin(name)
  if host.is_builtin(name) then return function() return host.package(name) end end
  return "\n\tno built-in package '" .. name .. "'"
end

local function search_file(name)
  local path, tried = package.searchpath(name, package.path)
  if not path then return tried end
  local text, failure = read(path)
  if not text then error("error loading module '" .. name .. "' from file '" .. path .. "':\n\t" .. rawtostring(failure), 0) end
  local chunk, problem = compile(text, "@" .. host.shown_path(path))
  if not chunk then
    error("error loading module '" .. name .. "' from file '" .. path .. "':\n\t" .. rawtostring(problem), 0)
  end
  return chunk
end

local function search_msys(name)
  if name == "msys" or name:find("^msys%.") then return function() return host.package(name) end end
  return "\n\tno C modules in a policy state"
end

local preload = package.loaders[1]
package.loaders = { preload, search_builtin, search_file, search_msys }
package.loadlib = function() return nil, "a policy state loads no C libraries", "absent" end
package.cpath = ""

-- What must not reach beyond the state, and what Threaded Lua has besides.
debug.sethook = function() end
debug.gethook = function() end
debug.getregistry = function() return {} end
debug.output = function(text) host.log(0, rawtostring(text)) end
os.exit = function() error("os.exit is not available to a policy", 1) end

local environment = {}
local rawgetenv = os.getenv
os.getenv = function(name)
  local value = environment[name]
  if value ~= nil then return value or nil end
  return rawgetenv(name)
end
os.setenv = function(name, value, overwrite)
  if type(name) ~= "string" then error("bad argument #1 to 'setenv' (string expected, got " .. type(name) .. ")", 1) end
  if overwrite ~= false or os.getenv(name) == nil then
    environment[name] = value ~= nil and rawtostring(value) or false
  end
  return true
end

math.mod = math.fmod

-- Lua's own patterns run in C, where nothing stops them. One that can take more than linear time goes, on a long subject,
-- through a matcher of the engine that counts its steps; all others are matched as ever, in a tail call that costs nothing.
local rawfind, rawmatch, rawgmatch, rawgsub = string.find, string.match, string.gmatch, string.gsub
local search, steps_max = host.search, host.steps_max
local LONG = 4096
local explosive, explosive_count = {}, 0

local function is_dangerous(subject, pattern)
  if type(subject) ~= "string" or #subject <= LONG or type(pattern) ~= "string" then return false end
  local known = explosive[pattern]
  if known == nil then
    if explosive_count >= 1000 then explosive, explosive_count = {}, 0 end
    known = host.can_explode(pattern)
    explosive[pattern], explosive_count = known, explosive_count + 1
  end
  return known
end

local function checked(left, ...)
  if left then return left, ... end
  error((...), 1)
end

local function start_of(subject, init)
  init = tonumber(init) or 1
  if init < 0 then init = #subject + init + 1 end
  if init < 1 then init = 1 end
  return init
end

local function after_steps(_, ...) return ... end

function string.find(subject, pattern, init, plain)
  if plain or not is_dangerous(subject, pattern) then return rawfind(subject, pattern, init, plain) end
  local from = start_of(subject, init)
  if from > #subject + 1 then return nil end
  return after_steps(checked(search(subject, pattern, from, true, steps_max)))
end

-- The captures of a match, or all of it where the pattern has none.
local function captured(subject, first, last, ...)
  if not first then return nil end
  if select("#", ...) > 0 then return ... end
  return subject:sub(first, last)
end

function string.match(subject, pattern, init)
  if not is_dangerous(subject, pattern) then return rawmatch(subject, pattern, init) end
  local from = start_of(subject, init)
  if from > #subject + 1 then return nil end
  return captured(subject, after_steps(checked(search(subject, pattern, from, true, steps_max))))
end

function string.gmatch(subject, pattern)
  if not is_dangerous(subject, pattern) then return rawgmatch(subject, pattern) end
  local from, steps = 1, steps_max
  local function step(left, first, last, ...)
    steps = left
    if not first then
      from = #subject + 2
      return nil
    end
    from = last < first and last + 2 or last + 1
    return captured(subject, first, last, ...)
  end
  return function()
    if from > #subject + 1 then return nil end
    return step(checked(search(subject, pattern, from, false, steps)))
  end
end
string.gfind = string.gmatch

function string.gsub(subject, pattern, replacement, limit)
  local kind = type(replacement)
  if not is_dangerous(subject, pattern)
    or (kind ~= "string" and kind ~= "number" and kind ~= "table" and kind ~= "function") then
    return rawgsub(subject, pattern, replacement, limit)
  end
  local anchored = pattern:sub(1, 1) == "^"
  local out, from, count, steps = {}, 1, 0, steps_max
  limit = tonumber(limit) or #subject + 1
  while count < limit do
    local found = { checked(search(subject, pattern, from, true, steps)) }
    steps = found[1]
    local first, last = found[2], found[3]
    if not first then break end
    count = count + 1
    out[#out + 1] = subject:sub(from, first - 1)
    local whole = subject:sub(first, last)
    if #found == 3 then found[4] = whole end
    local value
    if kind == "function" then
      value = replacement(unpack(found, 4))
    elseif kind == "table" then
      value = replacement[found[4]]
    else
      value = rawgsub(rawtostring(replacement), "%%(.)", function(mark)
        if mark == "0" then return whole end
        local index = tonumber(mark)
        if not index then return mark end
        local text = found[3 + index]
        if text == nil then error("invalid capture index", 1) end
        return text
      end)
    end
    if not value then
      value = whole
    elseif type(value) ~= "string" and type(value) ~= "number" then
      error("invalid replacement value (a " .. type(value) .. ")", 1)
    end
    out[#out + 1] = value
    if last < first then
      -- An empty match: the next character is kept as it is.
      out[#out + 1] = subject:sub(first, first)
      from = first + 1
    else
      from = last + 1
    end
    if anchored or from > #subject + 1 then break end
  end
  out[#out + 1] = subject:sub(from)
  return table.concat(out), count
end
table.setn = function() error("'setn' is obsolete", 1) end
_VERSION = "thrLua 5.1"

local rawcollect = collectgarbage
local collect_options = { globaltrace = true, setglobaltrace = true, destroy = true, globaltraceonly = true }
function collectgarbage(option, argument)
  if option == "meminfo" or option == "meminfo:global" then return { total = rawcollect("count") * 1024 } end
  if collect_options[option] then
    rawcollect("collect")
    return 0
  end
  if argument == nil then return rawcollect(option) end
  return rawcollect(option, argument)
end

function print(...)
  local parts = {}
  for index = 1, select("#", ...) do
    local text = globals.tostring((select(index, ...)))
    if type(text) ~= "string" then error("'tostring' must return a string to 'print'", 1) end
    parts[index] = text
  end
  host.print(table.concat(parts, host.print_separator))
end

function trim(text) return (string.match(text, "^%s*(.-)%s*$")) end

-- Helpers of the dialect. The operands' names, where they have some, come after them for the error messages.
local tobit, band, bor, bxor, arshift, bnot = bit.tobit, bit.band, bit.bor, bit.bxor, bit.arshift, bit.bnot
local floor = math.floor
local wide = host.wide -- the 64-bit way: wide(operation, a, b) with numbers

local function described(value, name)
  if name then return name .. " (a " .. type(value) .. " value)" end
  return "a " .. type(value) .. " value"
end

-- An operation that goes over several lines fails at its last line.
local function fail(message, line)
  local at = 2
  while line do
    local info = debug.getinfo(at, "S")
    if not info then break end
    if info.short_src ~= "posthaste" then rawerror(info.short_src .. ":" .. line .. ": " .. message, 0) end
    at = at + 1
  end
  error(message, 1)
end

-- A handler is read raw from the metatable and called as it is.
local function handler_of(value, event)
  local meta = debug.getmetatable(value)
  return meta and rawget(meta, event)
end

local function slow(operation, event, a, b, a_name, b_name, line)
  local x, y = tonumber(a), tonumber(b)
  if (type(a) == "number" or type(a) == "string") and (type(b) == "number" or type(b) == "string") and x and y then
    return wide(operation, x, y)
  end
  local handler = handler_of(a, event)
  if handler == nil then handler = handler_of(b, event) end
  if handler ~= nil then return (handler(a, b)) end
  local wrong, name = b, b_name
  if not (type(a) == "number" or (type(a) == "string" and x)) then wrong, name = a, a_name end
  fail("attempt to perform bitwise operation on " .. described(wrong, name), line)
end

function helpers.band(a, b, a_name, b_name, line)
  if type(a) == "number" and type(b) == "number" and tobit(a) == a and tobit(b) == b then return band(a, b) end
  return (slow("and", "__and", a, b, a_name, b_name, line))
end

function helpers.bor(a, b, a_name, b_name, line)
  if type(a) == "number" and type(b) == "number" and tobit(a) == a and tobit(b) == b then return bor(a, b) end
  return (slow("or", "__or", a, b, a_name, b_name, line))
end

function helpers.bxor(a, b, a_name, b_name, line)
  if type(a) == "number" and type(b) == "number" and tobit(a) == a and tobit(b) == b then return bxor(a, b) end
  return (slow("xor", "__xor", a, b, a_name, b_name, line))
end

function helpers.shl(a, b, a_name, b_name, line)
  if type(a) == "number" and type(b) == "number" and tobit(a) == a and b >= 0 and b <= 20 and floor(b) == b then
    return a * 2 ^ b -- exact: below 2^53
  end
  return (slow("shl", "__shl", a, b, a_name, b_name, line))
end

function helpers.shr(a, b, a_name, b_name, line)
  if type(a) == "number" and type(b) == "number" and tobit(a) == a and b >= 0 and b <= 31 and floor(b) == b then
    return arshift(a, b)
  end
  return (slow("shr", "__shr", a, b, a_name, b_name, line))
end

function helpers.bnot(a, a_name)
  if type(a) == "number" and tobit(a) == a then return bnot(a) end
  local x = tonumber(a)
  if x and (type(a) == "number" or type(a) == "string") then return wide("not", x, 0) end
  local handler = handler_of(a, "__not")
  if handler ~= nil then return (handler(a, a)) end
  error("attempt to perform bitwise operation on " .. described(a, a_name), 1)
end

function helpers.intdiv(a, b, a_name, b_name, line)
  if type(a) == "number" and type(b) == "number" then return floor(a / b) end
  local x, y = tonumber(a), tonumber(b)
  if x and y and (type(a) == "number" or type(a) == "string") and (type(b) == "number" or type(b) == "string") then
    return floor(x / y)
  end
  for _, event in ipairs({ "__intdiv", "__div" }) do
    local handler = handler_of(a, event)
    if handler == nil then handler = handler_of(b, event) end
    if handler ~= nil then return (handler(a, b)) end
  end
  local wrong, name = b, b_name
  if not (type(a) == "number" or (type(a) == "string" and x)) then wrong, name = a, a_name end
  fail("attempt to perform arithmetic on " .. described(wrong, name), line)
end

-- The generic `for`: an object with `__iter` gives its own iterator.
function helpers.iter(subject, state, control)
  if type(subject) ~= "function" then
    local iter = handler_of(subject, "__iter")
    if type(iter) == "function" then return iter(subject) end
  end
  return subject, state, control
end

-- The implicit `arg` of Lua 5.0.
function helpers.arg(...)
  local count = select("#", ...)
  local arg = new_table(count, 1) -- sized, so that nils in it do not shorten it
  for index = 1, count do arg[index] = (select(index, ...)) end
  arg.n = count
  return arg
end

helpers.tls = host.tls
helpers.ostls = host.os_tls
