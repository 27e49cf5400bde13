-- What the conformance files are written with. Loaded before each of them, in the same state.
--
--   block("vctx:set_code", "mailfrom", function(t) ... end)
--
-- proves one function of the policy API. The function runs inside the hook of its phase, with a fresh session and message:
-- `t.ac`, `t.vctx`, `t.msg`, `t.str` as the hook has them. Phases: load, connect, ehlo, mailfrom, rcptto, rcptto_list, data,
-- data_spool, list_final, each_rcpt, set_binding, queue.
require("msys.core")

CONN, MESS = msys.core.VCTX_CONN, msys.core.VCTX_MESS

local blocks = {}

function block(name, phase, run)
  blocks[#blocks + 1] = { name = name, phase = phase, run = run }
  print("block", #blocks, phase, name)
  if phase == "load" then report(#blocks, pcall(run, {})) end
end

function report(index, ok, failure)
  if ok then print("ok", index) else print("failed", index, tostring(failure)) end
end

local function shown(value)
  if type(value) == "string" then return string.format("%q", value) end
  if type(value) == "table" then return msys.dumper.Dumper(value):gsub("^return ", "") end
  return tostring(value)
end

local function same(a, b)
  if type(a) ~= "table" or type(b) ~= "table" then return a == b end
  for key, value in pairs(a) do
    if not same(value, b[key]) then return false end
  end
  for key in pairs(b) do
    if a[key] == nil then return false end
  end
  return true
end

-- Equal values; tables by content.
function eq(got, want)
  if not same(got, want) then error("got " .. shown(got) .. ", want " .. shown(want), 2) end
end

-- All values of a call: all(f(...), n, ...) compares n values.
function returns(count, want, ...)
  local got = { n = select("#", ...), ... }
  if got.n ~= count then error("got " .. got.n .. " values, want " .. count, 2) end
  for index = 1, count do
    if not same(got[index], want[index]) then
      error("value " .. index .. ": got " .. shown(got[index]) .. ", want " .. shown(want[index]), 2)
    end
  end
end

-- The call raises, and the text has `part` in it (no pattern).
function raises(part, call, ...)
  local ok, failure = pcall(call, ...)
  if ok then error("did not raise; want an error with " .. shown(part), 2) end
  if type(failure) ~= "string" or not failure:find(part, 1, true) then
    error("raised " .. shown(failure) .. ", want " .. shown(part), 2)
  end
end

local function run(phase, t)
  local vctx = t.vctx
  local index = tonumber(vctx and vctx:get(CONN, "block") or t.msg:context_get(CONN, "block"))
  local chosen = blocks[index]
  if chosen and chosen.phase == phase then report(index, pcall(chosen.run, t)) end
  return msys.core.VALIDATE_CONT
end

msys.registerModule("harness", {
  validate_connect = function(self, ac, vctx) return run("connect", { ac = ac, vctx = vctx }) end,
  validate_ehlo = function(self, str, ac, vctx) return run("ehlo", { str = str, ac = ac, vctx = vctx }) end,
  validate_mailfrom = function(self, str, ac, vctx) return run("mailfrom", { str = str, ac = ac, vctx = vctx }) end,
  validate_rcptto = function(self, msg, str, ac, vctx)
    return run("rcptto", { msg = msg, str = str, ac = ac, vctx = vctx })
  end,
  validate_rcptto_list = function(self, list, vctx) return run("rcptto_list", { list = list, vctx = vctx }) end,
  validate_data = function(self, msg, ac, vctx) return run("data", { msg = msg, ac = ac, vctx = vctx }) end,
  validate_data_spool = function(self, msg, ac, vctx) return run("data_spool", { msg = msg, ac = ac, vctx = vctx }) end,
  validate_rcptto_list_final = function(self, list, vctx) return run("list_final", { list = list, vctx = vctx }) end,
  validate_data_spool_each_rcpt = function(self, msg, ac, vctx)
    return run("each_rcpt", { msg = msg, ac = ac, vctx = vctx })
  end,
  validate_set_binding = function(self, msg) return run("set_binding", { msg = msg }) end,
  core_log_delivery_v1 = function(self, msg) run("queue", { msg = msg }) end,
})
