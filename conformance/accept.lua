-- Conformance of table `accept`.

block("ac:esmtp_capability_add", "connect", function(t)
  returns(1, { nil }, t.ac:esmtp_capability_add("XTEST"))
  t.ac:esmtp_capability_add("size 10")
  raises("one line of visible characters", t.ac.esmtp_capability_add, t.ac, "X\r\n250 Y")
  raises("one line of visible characters", t.ac.esmtp_capability_add, t.ac, "")
  raises("bad argument #1 to 'ac:esmtp_capability_add' (string expected, got nil)", t.ac.esmtp_capability_add, t.ac)
  raises("calling 'ac:esmtp_capability_add' on bad self", t.ac.esmtp_capability_add, "x", "X")
end)

block("ac:esmtp_capability_remove", "ehlo", function(t)
  t.ac:esmtp_capability_remove("8bitmime")
  t.ac:esmtp_capability_remove("NOSUCH")
  raises("one line of visible characters", t.ac.esmtp_capability_remove, t.ac, "\1")
end)

block("ac:inbound_session_count", "connect", function(t)
  eq(t.ac:inbound_session_count(), 3)
  eq(t.ac:inbound_session_count("/24"), 24)
  eq(t.ac:inbound_session_count("127.0.0.2"), 0)
  eq(t.ac:inbound_session_count(nil, "control"), 1)
  eq(t.ac:inbound_session_count(nil, "nosuch"), 0)
  raises("bad argument #1 to 'ac:inbound_session_count' ('127.0.0.1/33' is no network)", t.ac.inbound_session_count, t.ac, "127.0.0.1/33")
end)

block("ac:pbp_inbound_session_count_service", "connect", function(t)
  eq(t.ac:pbp_inbound_session_count_service("SMTP", "/24"), 24)
end)

block("ac.remote_addr", "connect", function(t)
  eq(tostring(t.ac.remote_addr), "192.0.2.7:2525")
  eq("from " .. t.ac.remote_addr, "from 192.0.2.7:2525")
  eq(t.ac.remote_addr:match("^(.-):"), "192.0.2.7")
  raises("cannot assign field 'remote_addr'", function() t.ac.remote_addr = "x" end)
  eq(t.ac.no_such_field, nil)
end)

block("ac.local_addr", "connect", function(t) eq(tostring(t.ac.local_addr), "127.0.0.1:25") end)

block("ac.conn_id", "data", function(t)
  assert(tostring(t.ac.conn_id):find("^%x%x/%x%x%-%d%d%d%d%d%-%x%x%x%x%x%x%x%x$"))
  eq(tostring(t.msg.conn_id), tostring(t.ac.conn_id))
end)

block("ac.protocol", "connect", function(t) eq(t.ac.protocol, msys.core.P_ESMTP) end)

block("msys.core.accept_construct_get_message_construct", "mailfrom", function(t)
  local mc = msys.core.accept_construct_get_message_construct(t.ac)
  eq(mc.message:mailfrom(), "Joe+x@Example.COM")
  raises("bad argument #1", msys.core.accept_construct_get_message_construct, t.vctx)
end)

block("mc.message", "mailfrom", function(t)
  local mc = msys.core.accept_construct_get_message_construct(t.ac)
  eq(mc.message:mailfrom(), "Joe+x@Example.COM")
end)

block("mc.ctx", "mailfrom", function(t)
  local mc = msys.core.accept_construct_get_message_construct(t.ac)
  assert(mc.ctx == t.vctx)
end)

block("msys.core.ec_sockaddr_family", "connect", function(t)
  eq(msys.core.ec_sockaddr_family(t.ac.remote_addr), msys.core.AF_INET)
  raises("sockaddr expected", msys.core.ec_sockaddr_family, t.vctx)
end)
