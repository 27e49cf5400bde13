-- A plugin for the Lua language server (LuaLS): it shows the server a policy's source as plain Lua, so that what only the
-- dialect has is no error. Lines stay as they are. Set `Lua.runtime.version` to `LuaJIT`, `Lua.runtime.plugin` to this file.
--
-- An operator becomes one of plain Lua that has the same priority and gives a number too, so that types come out right:
-- `& | ^^` become `+`, `<< >> \` become `*` and `/`, `~x` becomes `-x`. The editor still shows the source; only the server's
-- analysis sees this.

-- Escapes that plain Lua knows; of any other character the dialect takes the character itself.
local plain = {}
for c in ("abfnrtv\\\"'\n\r0123456789"):gmatch(".") do plain[c] = true end

-- Where a long bracket that opens at `at` ends; nil: none opens there.
local function long_end(text, at)
  local level = text:match("^%[(=*)%[", at)
  if not level then return nil end
  local _, last = text:find("]" .. level .. "]", at, true)
  return (last or #text) + 1
end

-- Adds the edits of the string that begins at `at`; returns where it ends.
local function string_end(text, at, edit)
  local quote = text:sub(at, at)
  local i = at + 1
  while i <= #text do
    local c = text:sub(i, i)
    if c == quote then return i + 1 end
    if c == "\n" then return i end -- not closed: the server says so
    if c ~= "\\" then
      i = i + 1
    else
      local after = text:sub(i + 1, i + 1)
      if after == "x" and text:find("^%x%x", i + 2) then
        i = i + 4
      elseif after == "u" and text:find("^%x%x%x%x", i + 2) then
        local digits = #text:match("^%x+", i + 2)
        if digits > 8 then digits = 8 end
        edit(i, i + 1 + digits, "?")
        i = i + 2 + digits
      elseif plain[after] or after == "x" or after == "u" then
        i = i + (text:find("^\r\n", i + 1) and 3 or 2) -- a wrong `\x` or `\u` stays an error
      else
        edit(i, i, "")
        i = i + 2
      end
    end
  end
  return i
end

-- Words after which an operand comes.
local before_operand = {}
for word in ("and or not return if elseif while until in do then else repeat"):gmatch("%a+") do before_operand[word] = true end

-- The operators, longest first: what the server sees instead. `false`: plain Lua, taken whole.
local operators = {
  { "...", false }, { "..", false }, { "!=", "~=" }, { "~=", false }, { "==", false }, { "<=", false }, { ">=", false },
  { "^^", "+" }, { "<<", "*" }, { ">>", "*" }, { "&", "+" }, { "|", "+" }, { "\\", "/" },
}

-- What is no operator of the dialect, although it begins like one: it stays, and the server says so.
local foreign = { "&&", "||", "|=", "&=" }

local function edits_of(text)
  local edits = {}
  local function edit(first, last, by) edits[#edits + 1] = { start = first, finish = last, text = by } end
  -- Whether the token before is the end of an operand: tells `~x` from a slip of the pen.
  local operand = false
  local i = text:sub(1, 1) == "#" and (text:find("\n", 1, true) or #text + 1) or 1
  while i <= #text do
    local c = text:sub(i, i)
    local word = text:match("^[%a_\128-\255][%w_\128-\255]*", i)
    local number = text:match("^0[xX][%w]*", i) or text:match("^%.?%d[%w%.]*", i)
    if c:find("%s") then
      i = i + 1
    elseif text:sub(i, i + 1) == "--" then
      i = long_end(text, i + 2) or text:find("\n", i, true) or #text + 1
    elseif c == "[" and long_end(text, i) then
      i, operand = long_end(text, i), true
    elseif c == '"' or c == "'" then
      i, operand = string_end(text, i, edit), true
    elseif number then
      -- The sign of an exponent belongs to the number.
      if number:find("[eE]$") and not number:find("^0[xX]") then
        number = number .. (text:match("^[+-]%d+", i + #number) or "")
      end
      -- A leading zero means octal.
      if number:find("^0[0-7]+$") then edit(i, i + #number - 1, string.format("%d", tonumber(number, 8))) end
      i, operand = i + #number, true
    elseif word then
      -- The server takes it for a keyword of later versions.
      if word == "goto" then edit(i, i + 3, "goto_") end
      i, operand = i + #word, not before_operand[word]
    else
      local length, by = 1, false
      for _, token in ipairs(operators) do
        if text:sub(i, i + #token[1] - 1) == token[1] then
          length, by = #token[1], token[2]
          break
        end
      end
      for _, token in ipairs(foreign) do
        if text:sub(i, i + #token - 1) == token then length, by = #token, false end
      end
      if c == "!" and length == 1 then
        by = " not "
      elseif c == "~" and length == 1 and not operand then
        by = " - " -- two minus signs in a row would be a comment
      end
      if by then edit(i, i + length - 1, by) end
      operand = c == ")" or c == "]" or c == "}" or text:sub(i, i + length - 1) == "..."
      i = i + length
    end
  end
  return edits
end

-- Called by the server with each source; the answer is what to change in it.
function OnSetText(uri, text)
  if text:find("^%s*%-%-%-@meta") then return nil end
  local edits = edits_of(text)
  if #edits == 0 then return nil end
  return edits
end
