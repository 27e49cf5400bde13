-- The words of test scripts: `test(name, function(t) ... end)`, and what `t` can do.
local ask, cases = ...

local t = {}
t.__index = t

-- No `return asked(...)` without brackets: a tail call would lose the test's line.

-- What failed, at the line of the test that asked.
local function fail(text, note)
  if note ~= nil then text = tostring(note) .. ": " .. text end
  error(text, 3)
end

local function shown(value)
  if type(value) == "string" then return string.format("%q", value) end
  if type(value) == "table" then return (msys.dumper.Dumper(value):gsub("^return ", "")) end
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

local function asked(what, argument)
  local answer, problem = ask(what, argument)
  if problem ~= nil then error(problem, 3) end
  return answer
end

-- Sends one message through the policy's hooks. `mail`: from, to (an address or a list), ip, helo, context, and the message as
-- `message` (its text) or as `headers` and `body`.
function t:send(mail)
  local sent = {}
  for key, value in pairs(mail or {}) do sent[key] = value end
  if type(sent.to) == "string" then sent.to = { sent.to } end
  return (asked("send", sent))
end

-- What an expression gives in the policy's own state, as text.
function t:eval(source) return (asked("eval", source)) end

-- Time stands still in a test; it begins at the number given, in seconds since the epoch.
function t:clock(seconds) asked("clock", seconds) end

-- Lets time pass, and what waits for it run.
function t:advance(seconds) asked("advance", seconds) end

-- What the DNS answers: t:dns("2.0.0.127.list.example", "A", { "127.0.0.2" }), or an error: t:dns(name, "A", "SERVFAIL").
-- A name that no test has set is NXDOMAIN.
function t:dns(name, kind, answer)
  local given = { name = name, kind = kind or "A" }
  if type(answer) == "table" then given.records = answer else given.error = answer or "NXDOMAIN" end
  asked("dns", given)
end

-- Mail that the policy sent by itself since the last call.
function t:mail() return (asked("mail", "")) end

-- What the policy printed and logged since the last call.
function t:said() return (asked("said", "")) end

function t:equal(got, want, note)
  if not same(got, want) then fail("got " .. shown(got) .. ", want " .. shown(want), note) end
end

function t:match(text, pattern, note)
  if type(text) ~= "string" or not text:find(pattern) then
    fail(shown(text) .. " does not match " .. shown(pattern), note)
  end
end

function t:ok(value, note)
  if not value then fail("got " .. shown(value), note) end
end

function t:raises(pattern, call, ...)
  local fine, failure = pcall(call, ...)
  if fine then fail("nothing was raised; want " .. shown(pattern)) end
  if not tostring(failure):find(pattern) then fail(shown(tostring(failure)) .. " does not match " .. shown(pattern)) end
end

function test(name, run)
  if type(name) ~= "string" or type(run) ~= "function" then error("test(name, function(t) ... end) is wanted", 2) end
  cases[#cases + 1] = {
    name = name,
    run = function()
      asked("begin", name)
      run(setmetatable({}, t))
    end,
  }
end
