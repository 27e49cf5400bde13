-- Conformance of table `resource`.

block("msys.core.get_now_ts", "load", function()
  local now = msys.core.get_now_ts()
  eq(now, math.floor(now))
  assert(math.abs(now - os.time()) <= 1)
end)

block("msys.core.io_wrapper_open", "connect", function()
  local core = msys.core
  local open = core.io_wrapper_open
  local path = data_file .. ".log"
  local h = assert(open(path, core.O_CREAT | core.O_APPEND | core.O_WRONLY, 0660))
  eq(h:write("ab\n", 3), 3)
  eq(h:write("ab\ncd", 3), 3)
  eq(h:write(12, 99), 2)
  eq(h:flush(), true)
  eq(h:close(), true)
  eq(h:close(), true)
  returns(2, { nil, "closed" }, h:write("x"))
  eq(msys.readfile(path), "ab\nab\n12")
  -- Reading, with and without a count; places.
  h = assert(open("file://" .. path))
  eq(h:read(2), "ab")
  eq(h:read(), "\nab\n12")
  eq(h:read(), nil)
  eq(h:lseek(-2, core.SEEK_END), 6)
  eq(h:read(10), "12")
  eq(select(2, h:lseek(0, 9)) ~= nil, true)
  eq(select(1, h:write("x")), nil)
  h:lseek(3, 0)
  eq(msys.qp.encode(h), "ab\r\n12")
  h:close()
  -- Appending and truncating imply writing.
  h = assert(open(path, core.O_APPEND))
  eq(h:write("!"), 1)
  h:close()
  eq(msys.readfile(path), "ab\nab\n12!")
  h = assert(open(path, core.O_TRUNC))
  h:close()
  eq(msys.readfile(path), "")
  h = assert(open(path, core.O_RDRW))
  h:write("both")
  h:lseek(0, 0)
  eq(h:read(), "both")
  h:close()
  returns(3, { nil, "No such file or directory", 2 }, open("/no/such/file", core.O_RDONLY))
  returns(3, { nil, "File exists", 17 }, open(path, core.O_CREAT | core.O_EXCL | core.O_WRONLY))
  eq(select(2, open("gopher://x/y")), "gopher://x/y: gopher: is not supported")
  raises("string expected, got nil", open)
  -- Writers on one handle never tear each other's lines.
  h = assert(open(path, core.O_TRUNC | core.O_WRONLY))
  local jobs = {}
  for job = 1, 2 do
    jobs[job] = thread.create(function()
      for _ = 1, 100 do h:write(("%d"):format(job):rep(40) .. "\n") end
    end)
  end
  for _, job in ipairs(jobs) do job:join() end
  h:close()
  local counts = { 0, 0 }
  for line in msys.readfile(path):gmatch("[^\n]+") do
    eq(#line, 40)
    local job = tonumber(line:sub(1, 1))
    eq(line, line:sub(1, 1):rep(40))
    counts[job] = counts[job] + 1
  end
  eq(counts, { 100, 100 })
  -- Forgotten handles are closed before there are too many.
  for _ = 1, 3000 do assert(open(data_file)) end
  os.remove(path)
end)
