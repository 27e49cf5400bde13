-- Conformance of table `validation`.

block("vctx:get", "mailfrom", function(t)
  eq(t.vctx:get(CONN, "absent"), "")
  t.vctx:set(MESS, "k", "v")
  eq(t.vctx:get(msys.core.ECMESS_CTX_MESS, "k"), "v")
  eq(t.vctx:get(CONN, "k"), "")
  raises("bad argument #1 to 'vctx:get' (VCTX_CONN or VCTX_MESS expected, got 7)", t.vctx.get, t.vctx, 7, "k")
  raises("bad argument #2 to 'vctx:get' (string expected, got nil)", t.vctx.get, t.vctx, CONN, nil)
  raises("bad argument #1 to 'vctx:get' (number expected, got table)", t.vctx.get, t.vctx, {}, "k")
end)

block("vctx:set", "data", function(t)
  t.vctx:set(MESS, "n", 3)
  eq(t.vctx:get(MESS, "n"), "3")
  eq(t.msg:context_get(MESS, "n"), "3")
  t.vctx:set(MESS, "n", 1.5) eq(t.vctx:get(MESS, "n"), "1.5")
  t.vctx:set(MESS, "n", true) eq(t.vctx:get(MESS, "n"), "true")
  t.vctx:set(MESS, "n", nil) eq(t.vctx:get(MESS, "n"), "true")
  t.vctx:set(MESS, "b", "a\0b") eq(t.vctx:get(MESS, "b"), "a\0b")
  raises("bad argument #3 to 'vctx:set' (string, number or boolean expected, got table)", t.vctx.set, t.vctx, MESS, "n", {})
  raises("at most", t.vctx.set, t.vctx, MESS, ("k"):rep(2000), "v")
end)

block("vctx:exists", "mailfrom", function(t)
  eq(t.vctx:exists(CONN, "x"), 0)
  t.vctx:set(CONN, "x", "")
  eq(t.vctx:exists(CONN, "x"), 1)
end)

block("vctx:exists_and_get", "mailfrom", function(t)
  returns(2, { 0, nil }, t.vctx:exists_and_get(CONN, "x"))
  t.vctx:set(CONN, "x", 5)
  returns(2, { 1, "5" }, t.vctx:exists_and_get(CONN, "x"))
end)

block("vctx:delete", "mailfrom", function(t)
  t.vctx:set(CONN, "x", "y")
  eq(t.vctx:delete(CONN, "x"), 1)
  eq(t.vctx:delete(CONN, "x"), 0)
end)

block("vctx:set_code", "mailfrom", function(t)
  t.vctx:set_code(550, "5.1.1 no such user")
  eq(t.vctx.code, 550)
  eq(t.vctx.note, "5.1.1 no such user")
  t.vctx:set_code("250", "")
  eq(t.vctx.code, 250)
  eq(t.vctx.note, nil)
  for _, code in ipairs { 199, 600, 334, 354, -1 } do
    raises("bad argument #1 to 'vctx:set_code'", t.vctx.set_code, t.vctx, code, "x")
  end
  raises("number expected, got nil", t.vctx.set_code, t.vctx)
end)

block("vctx.code", "mailfrom", function(t)
  eq(t.vctx.code, 250)
  t.vctx:set_code(550, "note")
  t.vctx.code = 451
  eq(t.vctx.code, 451)
  eq(t.vctx.note, "note")
end)

block("vctx.note", "mailfrom", function(t) eq(t.vctx.note, nil) end)

block("vctx:disconnect", "mailfrom", function(t)
  t.vctx:disconnect()
  eq(t.vctx.code, 421)
  eq(t.vctx.note, "4.3.2 Service not available, closing transmission channel")
  t.vctx:disconnect(550, "Go away")
  eq(t.vctx.code, 550)
  eq(t.vctx.note, "Go away")
end)

block("vctx.disconnect", "mailfrom", function(t)
  t.vctx:set_code(550, "x")
  t.vctx.disconnect = 1
  eq(type(t.vctx.disconnect), "function")
  eq(t.vctx.code, 550)
  t.vctx.disconnect = 0
  raises("number expected", function() t.vctx.disconnect = "x" end)
end)

block("vctx:pbp_action", "mailfrom", function(t)
  eq(t.vctx:pbp_action(550, "no"), msys.core.VALIDATE_DONE)
  eq(t.vctx.code, 550)
end)

block("vctx:pbp_disconnect", "mailfrom", function(t)
  eq(t.vctx:pbp_disconnect(421, "bye"), msys.core.VALIDATE_DONE)
  eq(t.vctx.note, "bye")
end)

block("vctx:tarpit", "connect", function(t)
  t.vctx:tarpit(0.2)
  t.vctx:tarpit("0.2")
  t.vctx:tarpit(-5)
  raises("bad argument #1 to 'vctx:tarpit' (number expected, got table)", t.vctx.tarpit, t.vctx, {})
end)

block("vctx:recipient_list", "data", function(t)
  eq(t.vctx:recipient_list(), { "a@x.example", "b@y.example" })
  eq(t.vctx:recipient_list()[0], nil)
  eq(t.vctx:recipient_list("c@x.example"), { "c@x.example" })
  eq(t.vctx:recipient_list { "<d@x.example>", "d@X.example" }, { "d@x.example" })
  raises("'not an address' is no address", t.vctx.recipient_list, t.vctx, { "e@x", "not an address" })
  eq(t.vctx:recipient_list(), { "d@x.example" })
  eq(t.vctx:recipient_list {}, {})
end)

block("vctx:recipient_list", "each_rcpt", function(t)
  eq(t.vctx:recipient_list(), { "a@x.example", "b@y.example" })
  raises("recipient list is final", t.vctx.recipient_list, t.vctx, {})
end)

block("vctx:recipient_list", "rcptto", function(t)
  raises("recipient list is final", t.vctx.recipient_list, t.vctx, { "x@y.example" })
end)

block("vctx:add_recipient", "data", function(t)
  t.vctx:add_recipient("A@Z.Example")
  t.vctx:add_recipient { "A@z.example", "c@z.example" }
  eq(t.vctx:recipient_list(), { "a@x.example", "b@y.example", "A@z.example", "c@z.example" })
  raises("is no address", t.vctx.add_recipient, t.vctx, { "d@z.example", "" })
  eq(#t.vctx:recipient_list(), 4)
end)

block("vctx:add_recipient", "connect", function(t)
  raises("add_recipient: recipient list is final", t.vctx.add_recipient, t.vctx, "a@b.c")
end)

block("vctx:remove_recipient", "data_spool", function(t)
  t.vctx:remove_recipient("nobody@x.example")
  t.vctx:remove_recipient { "a@X.EXAMPLE" }
  eq(t.vctx:recipient_list(), { "b@y.example" })
end)

block("vctx:remove_recipient", "each_rcpt", function(t)
  raises("remove_recipient: recipient list is final", t.vctx.remove_recipient, t.vctx, "a@x.example")
end)

block("vctx:remove_recipient", "mailfrom", function(t) t.vctx:remove_recipient("a@x.example") end)

block("vctx:can_modify_rcpts", "data", function(t) eq(t.vctx:can_modify_rcpts(), 1) end)
block("vctx:can_modify_rcpts", "each_rcpt", function(t) eq(t.vctx:can_modify_rcpts(), 0) end)
