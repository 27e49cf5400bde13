-- Conformance of table `misc`.

block("msys.asyncOk", "load", function() eq(msys.asyncOk(), false) end)
block("msys.asyncOk", "connect", function() eq(msys.asyncOk(), true) end)

block("msys.type", "data", function(t)
  eq(msys.type(1), "number")
  eq(msys.type(nil), "nil")
  eq(msys.type("x"), "string")
  eq(msys.type({}), "table")
  eq(msys.type(print), "function")
  eq(msys.type(msys.core.string_new()), "msys.core:_ec_string")
  eq(msys.type(t.msg), "msys.core:_ec_message")
  eq(msys.type(t.ac), "msys.core:_accept_construct")
  eq(msys.type(t.vctx), "msys.core:_validate_context")
  eq(msys.type(msys.core.accept_construct_get_message_construct(t.ac)), "msys.core:_message_construct")
  eq(msys.type(t.msg.id), "userdata")
end)

block("msys.dumper.Dumper", "load", function()
  local Dumper = require("msys.dumper").Dumper
  eq(Dumper("s"), 'return "s"')
  eq(Dumper(nil), "return nil")
  eq(Dumper { 1, 2, x = { y = "a\nb" } }, 'return { 1, 2, x={ y="a\\nb" } }')
  local value = { 1, 2, x = { y = "a\nb" }, ["k k"] = true, [7] = 1.5, ["end"] = "\0001\t\200" }
  eq(loadstring(Dumper(value))(), value)
  local loop = {} loop.me = loop
  eq(Dumper(loop), 'return { me="<cycle>" }')
  local long = { recipient = ("x"):rep(50), code = ("y"):rep(50) }
  local lines = select(2, Dumper(long):gsub("\n", ""))
  eq(lines, 3)
  eq(loadstring(Dumper(long))(), long)
end)

block("msys.readfile", "connect", function()
  eq(msys.readfile(data_file), "one\0two\r\n")
  eq(msys.readfile("file:" .. data_file), "one\0two\r\n")
  local content, problem = msys.readfile("/no/such/file")
  eq(content, nil)
  assert(problem:find("No such file or directory", 1, true), problem)
  content, problem = msys.readfile("/")
  eq(content, nil)
  assert(problem:find("directory", 1, true), problem)
  raises("bad argument #1 to 'msys.readfile' (string expected, got nil)", msys.readfile)
end)

block("msys.registerModule", "load", function()
  raises("bad argument #1 to 'msys.registerModule' (string expected, got table)", msys.registerModule, {}, {})
  raises("bad argument #2 to 'msys.registerModule' (table expected, got nil)", msys.registerModule, "x")
end)

block("msys.core.log", "load", function()
  msys.core.log(msys.core.LOG_ERROR, "an error line")
  msys.log(msys.core.LOG_DEBUG, 12)
  raises("no such level: 9", msys.core.log, 9, "x")
  raises("no such level: 1.5", msys.core.log, 1.5, "x")
  raises("number expected, got nil", msys.core.log)
end)

block("gethostname", "load", function() eq(gethostname(), "mx.example") end)

block("msys.core.get_now_ts", "load", function() assert(msys.core.get_now_ts() > 1.6e9) end)

block("msys.core.ec_message_new", "load", function()
  local msg = msys.core.ec_message_new(nil)
  eq(msg.recv_method, msys.core.P_INTERNAL)
  eq(msg:header("Subject"), {})
  eq(msg:header("Subject", "s"), true)
  eq(msg:header("Subject"), { "s" })
  eq(msg:body("text"), "text\r\n")
  eq(msg:raw(), "Subject: s\r\n\r\ntext\r\n")
end)

block("msys.getClassMetaTable", "data", function(t)
  eq(msys.getClassMetaTable("nonsense"), nil)
  local class = msys.getClassMetaTable("msys.core:_ec_message")
  function class.__index.twice(self) return self:rcptto() .. self:rcptto() end
  eq(t.msg:twice(), "b@y.exampleb@y.example")
  raises("'header' is a built-in method", function() class.__index.header = print end)
end)
