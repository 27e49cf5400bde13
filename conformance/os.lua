-- Conformance of table `os`.

block("msys.os.statvfs_read", "connect", function()
  local read, subscribe = msys.os.statvfs_read, msys.os.statvfs_subscribe
  local st = read(subscribe("/", 60))
  eq(st.version, 1)
  assert(st.kilobytes_total >= st.kilobytes_available and st.kilobytes_available > 0)
  assert(st["objects_total"] >= st.objects_available)
  eq(st.nope, nil)
  raises("", function() st.version = 2 end)
  assert(read("/").kilobytes_total == st.kilobytes_total)
  returns(2, { nil, "No such file or directory" }, read(subscribe("/no/such/file", 0)))
  raises("statvfs record or path expected, got number", read, 42)
  raises("expected, got userdata", read, json.new())
end)

block("msys.os.statvfs_subscribe", "connect", function()
  local path = data_file .. ".later"
  -- The smallest interval counts for all who subscribed.
  local slow = msys.os.statvfs_subscribe(path, 3600)
  eq(msys.os.statvfs_read(slow), nil)
  local file = assert(io.open(path, "w"))
  file:close()
  eq(msys.os.statvfs_read(slow), nil)
  local fast = msys.os.statvfs_subscribe(path, 0.02)
  for _ = 1, 200 do
    if msys.os.statvfs_read(slow) and msys.os.statvfs_read(fast) then break end
    msys.sleep(0.02)
  end
  assert(msys.os.statvfs_read(slow).kilobytes_total > 0)
  raises("must not be negative", msys.os.statvfs_subscribe, "/", -1)
  raises("string expected, got nil", msys.os.statvfs_subscribe)
  os.remove(path)
end)
