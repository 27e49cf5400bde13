-- Conformance of table `thread`, as far as it is there.

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
