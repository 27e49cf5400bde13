-- Conformance of table `message_part`.

local ALTERNATIVE = table.concat({
  "Subject: x", "Content-Type: multipart/alternative; boundary=b", "", "preamble", "--b", "X-P: 1",
  "Content-Type: text/plain; charset=iso-8859-1", "Content-Transfer-Encoding: quoted-printable", "", "caf=E9", "--b",
  "Content-Type: text/html", "X-Odd:\ttab ", "", "<b>caf</b>", "", "--b--", "epilogue", "",
}, "\r\n")

local MIXED = table.concat({
  "Content-Type: multipart/mixed; boundary=\"o\"", "", "--o", "", "text", "--o",
  "Content-Type: image/png; name=a.png", "Content-Transfer-Encoding: base64", "", "Zm9v", "--o",
  "Content-Type: message/rfc822", "", "Subject: in", "", "inner", "--o--", "",
}, "\r\n")

-- The message's parts in document order, writable ones unless told otherwise.
local function parts(t, raw, readonly)
  t.msg:raw(raw)
  local all = {}
  local part = t.msg:mime(readonly or false)
  while part do
    all[#all + 1] = part
    part = part.thread
  end
  return all
end

local function types(top)
  local found = {}
  while top do
    found[#found + 1] = top.type
    top = top.thread
  end
  return found
end

block("msgpart.thread", "data", function(t)
  local p = parts(t, MIXED)
  eq(#p, 5)
  eq(types(p[1]), { "multipart/mixed", "text/plain", "image/png", "message/rfc822", "text/plain" })
  eq(p[5].thread, nil)
  raises("cannot assign field 'thread'", function() p[1].thread = p[2] end)
  eq(p[1].no_such_field, nil)
end)

block("msgpart.next", "data", function(t)
  local p = parts(t, MIXED)
  eq(p[2].next == p[3], true)
  eq(p[4].next, nil)
  eq(p[1].next, nil)
end)

block("msgpart.parent", "data", function(t)
  local p = parts(t, MIXED)
  eq(p[1].parent, nil)
  eq(p[3].parent == p[1], true)
  eq(p[5].parent == p[4], true)
end)

block("msgpart.parts", "data", function(t)
  local p = parts(t, MIXED)
  eq(p[1].parts == p[2], true)
  eq(p[4].parts == p[5], true)
  eq(p[2].parts, nil)
end)

block("msgpart.boundary", "data", function(t)
  local p = parts(t, MIXED)
  eq(p[1].boundary, "o")
  eq(p[2].boundary, nil)
end)

block("msgpart.encoding", "data", function(t)
  local p = parts(t, MIXED)
  eq(p[2].encoding, msys.core.EC_MIME_TE_7BIT)
  eq(p[3].encoding, msys.core.EC_MIME_TE_BASE64)
  p = parts(t, "Content-Transfer-Encoding: x-uue\r\n\r\nx\r\n")
  eq(p[1].encoding, nil)
end)

block("msgpart.type", "data", function(t)
  eq(parts(t, "Content-Type: TEXT/Html\r\n\r\n")[1].type, "text/html")
end)

-- The offsets cut the message into the pieces that the reference names.
block("msgpart.headers_start", "data", function(t)
  local p = parts(t, ALTERNATIVE)
  local raw = t.msg:raw()
  local function piece(from, to) return raw:sub(from + 1, to) end
  eq(p[1].headers_start, 0)
  eq(piece(p[1].preamble_start, p[1].body_start), "preamble\r\n")
  eq(piece(p[1].body_start, p[1].body_start + 5), "--b\r\n")
  eq(piece(p[1].body_end, p[1].epilogue_end), "epilogue\r\n")
  eq(piece(p[3].headers_start, p[3].preamble_start), "Content-Type: text/html\r\nX-Odd:\ttab \r\n\r\n")
  eq(piece(p[3].body_start, p[3].body_end), "<b>caf</b>\r\n")
  eq(p[3].epilogue_end, p[3].body_end)
end)

block("msgpart.preamble_start", "data", function(t)
  local p = parts(t, ALTERNATIVE)
  eq(p[2].preamble_start, p[2].body_start)
  eq(t.msg:raw():find("preamble", 1, true) - 1, p[1].preamble_start)
end)

block("msgpart.body_start", "data", function(t)
  local part = t.msg:makePart("text/plain", "0123456789")
  eq(part.body_start, 0)
  eq(part.body_end, 10)
  part.body_start = 2
  part.body_end = 5
  eq(part.body_start, 2)
  eq(part:text(), "234")
  part.body_end = 10
  eq(part:text(), "23456789")
  raises("0 to 10 expected, got 11", function() part.body_start = 11 end)
  raises("0 to 10 expected, got -1", function() part.body_start = -1 end)
  eq(part:text(), "23456789")
  local top = parts(t, MIXED)[1]
  eq(top:addLastChild(part), true)
  raises("not linked yet", function() part.body_start = 0 end)
  raises("not linked yet", function() top.body_start = 0 end)
end)

block("msgpart.body_end", "data", function(t)
  local plain = "Disclaimer"
  local part = t.msg:makePart("text/plain", plain)
  part.body_start = 0
  part.body_end = #plain
  eq(part:text(), plain)
  part.body_end = 4
  eq(part:text(), "Disc")
end)

block("msgpart.epilogue_end", "data", function(t)
  local p = parts(t, ALTERNATIVE)
  eq(p[1].epilogue_end, #ALTERNATIVE)
end)

block("msgpart:addLastChild", "data", function(t)
  local p = parts(t, ALTERNATIVE)
  local part = t.msg:makePart("text/plain", "D")
  eq(p[1]:addLastChild(part), true)
  eq(p[3].next == part, true)
  local new = "--b\r\nContent-Type: text/plain\r\n\r\nD\r\n--b--"
  local at = ALTERNATIVE:find("--b--", 1, true)
  eq(t.msg:raw(), ALTERNATIVE:sub(1, at - 1) .. new .. ALTERNATIVE:sub(at + 5))
  eq(p[1]:addLastChild(part), false)
  eq(p[2]:addLastChild(t.msg:makePart("text/plain", "E")), false)
  eq(p[1]:addLastChild(p[1]), false)
  raises("message_part expected, got string", p[1].addLastChild, p[1], "x")
  raises("message_part expected, got msys.core:_ec_message)", p[1].addLastChild, p[1], t.msg)
  raises("message part is read-only", function() t.msg:mime(true):addLastChild(t.msg:makePart("text/plain", "E")) end)
  raises("calling 'msgpart:addLastChild' on bad self", p[1].addLastChild, t.msg, part)
end)

-- A line of the new part looks like a delimiter: the container takes another one, and nothing is cut in two.
block("msgpart:addLastChild", "data_spool", function(t)
  local p = parts(t, ALTERNATIVE)
  local part = t.msg:makePart("text/plain", "one\r\n--b\r\ntwo")
  eq(p[1]:addLastChild(part), true)
  assert(p[1].boundary ~= "b")
  eq(part:text(), "one\r\n--b\r\ntwo")
  eq(#types(p[1]), 4)
  eq(p[2]:text(), "café")
  eq(t.msg:text(), { "café", "<b>caf</b>\r\n", "one\r\n--b\r\ntwo" })
end)

-- A part of another message is copied; the other message stays as it is.
block("msgpart:addLastChild", "each_rcpt", function(t)
  local other = t.msg:copy()
  other:raw(MIXED)
  local image = other:mime(true).parts.next
  local p = parts(t, ALTERNATIVE)
  eq(p[1]:addLastChild(image), true)
  eq(p[3].next:content_type().filename, "a.png")
  eq(other:raw(), MIXED)
  eq(image.parent == other:mime(true), true)
end)

block("msgpart:addFirstChild", "data", function(t)
  local p = parts(t, MIXED)
  local part = t.msg:makePart("text/plain", "first")
  eq(p[1]:addFirstChild(part), true)
  eq(p[1].parts == part, true)
  eq(part.next == p[2], true)
  local container = t.msg:makeContainer("multipart/alternative")
  eq(container.parts, nil)
  local only = t.msg:makePart("text/plain", "only")
  eq(container:addFirstChild(only), true)
  eq(container.parts == only and only.next == nil and only.parent == container, true)
  eq(only:text(), "only")
  -- Neither into itself nor into what is inside of it.
  eq(container:addFirstChild(container), false)
  local inner = t.msg:makeContainer("multipart/mixed")
  eq(container:addLastChild(inner), true)
  eq(inner:addFirstChild(container), false)
  eq(p[1]:addFirstChild(container), true)
  eq(types(p[1])[2], "multipart/alternative")
end)

block("msgpart:insertAfter", "data", function(t)
  local p = parts(t, "Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\na\r\n--b\r\n\r\nb\r\n--b--\r\n")
  local c, x = t.msg:makePart("text/plain", "c"), t.msg:makePart("text/plain", "x")
  eq(c:insertAfter(p[2]), true)
  eq(t.msg:text(), { "a", "c", "b" })
  eq(c:insertAfter(p[2]), false)
  eq(x:insertAfter(p[1]), false)
  eq(x:insertAfter(x), false)
  eq(t.msg:text(), { "a", "c", "b" })
  raises("message_part expected, got string", x.insertAfter, x, "a")
end)

block("msgpart:insertBefore", "data", function(t)
  local p = parts(t, "Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\na\r\n--b\r\n\r\nb\r\n--b--\r\n")
  local c = t.msg:makePart("text/plain", "c")
  eq(c:insertBefore(p[2]), true)
  eq(t.msg:text(), { "c", "a", "b" })
  eq(t.msg:makePart("text/plain", "x"):insertBefore(p[1]), false)
  eq(p[2]:text(), "a")
end)

block("msgpart:unlink", "data", function(t)
  local p = parts(t, MIXED)
  returns(1, { nil }, p[3]:unlink())
  eq(t.msg:raw():find("png", 1, true), nil)
  eq(p[2]:text(), "text")
  eq(types(p[1]), { "multipart/mixed", "text/plain", "message/rfc822", "text/plain" })
  eq(p[3].parent, nil)
  eq(p[3].thread, nil)
  eq(p[3]:body_match("Zm9v")[0], "Zm9v")
  p[3]:unlink()
  -- With its children, and back at another place.
  p[4]:unlink()
  eq(p[5].parent == p[4], true)
  eq(p[4].thread == p[5] and p[5].thread == nil, true)
  eq(p[4]:insertBefore(p[2]), true)
  eq(types(p[1]), { "multipart/mixed", "message/rfc822", "text/plain", "text/plain" })
  raises("the top of a message cannot be unlinked", p[1].unlink, p[1])
  raises("message part is read-only", function() t.msg:mime():unlink() end)
  p[4]:unlink()
  p[2]:unlink()
  eq(t.msg:body(), "--o--\r\n")
end)

block("msgpart:address_header", "data", function(t)
  local p = parts(t, 'From: "X, Y" <a+b@c.d>, e@f\r\nFrom: g: h@i;\r\nTo: nobody\r\n\r\n')[1]
  eq(p:address_header("From"), { "a+b@c.d", "e@f", "h@i" })
  eq(p:address_header("from", "all"), { "a+b@c.d", "e@f", "h@i" })
  eq(p:address_header("From", "localpart"), { "a+b", "e", "h" })
  eq(p:address_header("From", "user"), { "a", "e", "h" })
  eq(p:address_header("From", "detail"), { "b", "", "" })
  eq(p:address_header("From", "domain"), { "c.d", "f", "i" })
  eq(p:address_header("Cc"), {})
  eq(p:address_header("To"), {})
  raises("no such component: x", p.address_header, p, "From", "x")
end)

block("msgpart:body_match", "data", function(t)
  local p = parts(t, ALTERNATIVE)
  eq(p[3]:body_match("<(?P<tag>b)>")[0], "<b>")
  eq(p[3]:body_match("<(?P<tag>b)>").tag, "b")
  eq(p[2]:body_match("<b>"), false)
  eq(p[2]:body_match("=E9")[0], "=E9")
  eq(p[1]:body_match("epilogue")[0], "epilogue")
  eq(p[1]:body_match("Subject"), false)
  eq(p[3]:body_match("\r\n\\.\r\n"), false)
  local none, text, at = p[3]:body_match("(")
  eq(none, nil)
  eq(type(text) == "string" and type(at) == "number", true)
end)

-- No pattern holds the engine up.
block("msgpart:body_match", "data_spool", function(t)
  local p = parts(t, "Subject: x\r\n\r\n" .. ("a"):rep(200) .. "\r\n")
  returns(3, { nil, "match limit exceeded", -8 }, p[1]:body_match("^(a+)+$x|(a*)*b"))
end)

block("msgpart:body_replace", "data", function(t)
  local p = parts(t, ALTERNATIVE)
  eq(p[3]:body_replace("zzz", "y"), false)
  eq(t.msg:raw(), ALTERNATIVE)
  eq(p[3]:body_replace("<(/?)b>", "<$1i>"), true)
  eq(t.msg:raw(), (ALTERNATIVE:gsub("<b>caf</b>", "<i>caf</i>")))
  -- The container's parts are taken apart anew, other parts stay what they are.
  eq(p[1]:body_replace("X-P: 1", "X-P: 2"), true)
  eq(p[1].parts:header("X-P"), { "2" })
  raises("message part is stale", p[2].text, p[2])
  raises("message part is read-only", function() t.msg:mime():body_replace("a", "b") end)
end)

block("msgpart:raw_match", "data", function(t)
  local p = parts(t, ALTERNATIVE)
  eq(p[2]:raw_match("X-P: (.*?)\r")[1], "1")
  eq(p[3]:raw_match("X-P"), false)
  eq(#p[1]:raw_match("caf").all, 2)
  eq(p[1]:raw_match("Subject: (.)")[1], "x")
end)

block("msgpart:raw_replace", "data", function(t)
  local p = parts(t, ALTERNATIVE)
  eq(p[2]:raw_replace("charset=iso-8859-1", "charset=windows-1251"), true)
  eq(p[2]:text(), "cafй")
  eq(t.msg:raw(), (ALTERNATIVE:gsub("charset=iso%-8859%-1", "charset=windows-1251")))
  eq(p[2]:raw_replace("nothing", ""), false)
  eq(p[1]:raw_replace("Subject: x", "Subject: y"), true)
  eq(t.msg:header("Subject"), { "y" })
end)

block("msgpart:content_type", "data", function(t)
  local part = parts(t, "Content-Type: TEXT/Html; Charset=UTF-8; name=b.txt\r\n"
    .. "Content-Disposition: inline; filename*=utf-8''%C3%A9.txt\r\n\r\n")[1]
  eq(part:content_type(), { mimetype = "text/html", charset = "utf-8", encoding = "7bit", filename = "é.txt", is_attachment = true })
  local bare = { mimetype = "text/plain", charset = "us-ascii", encoding = "7bit", is_attachment = false }
  eq(parts(t, "Subject: x\r\n\r\n")[1]:content_type(), bare)
  eq(parts(t, "Content-Type: nonsense\r\n\r\n")[1]:content_type(), bare)
  local image = parts(t, MIXED)[3]:content_type()
  eq(image, { mimetype = "image/png", encoding = "base64", filename = "a.png", is_attachment = true })
  local digest = parts(t, "Content-Type: multipart/digest; boundary=b\r\n\r\n--b\r\n\r\nSubject: in\r\n\r\n--b--\r\n")
  eq(digest[2]:content_type().mimetype, "message/rfc822")
  local seen = {}
  for key in pairs(image) do seen[key] = true end
  eq(seen.mimetype and seen.is_attachment, true)
end)

block("msgpart:header", "data", function(t)
  local p = parts(t, MIXED)
  eq(p[3]:header("content-type"), { "image/png; name=a.png" })
  eq(p[3]:header("Content-ID"), {})
  -- Nil that is given removes; the empty string does the same.
  p[3]:header("X", "1")
  eq(p[3]:header("X", nil), true)
  eq(p[3]:header("X", nil), false)
  p[3]:header("X", { "1", "2" })
  eq(p[3]:header("X"), { "1", "2" })
  eq(p[3]:header("X", ""), true)
  eq(p[3]:header("X"), {})
  eq(t.msg:raw(), MIXED)
  -- Replace, append, prepend.
  eq(p[3]:header("Content-Disposition", "inline"), true)
  eq(p[3]:header("X", "b", "append"), true)
  eq(p[3]:header("X", "c", "append"), true)
  eq(p[3]:header("X", "a", "prepend"), true)
  eq(p[3]:header("X"), { "a", "b", "c" })
  eq(p[3]:header("X", "only"), true)
  eq(p[3]:header("X"), { "only" })
  eq(p[3]:header("X-Word", "café"), true)
  eq(p[3]:header("X-Word"), { "café" })
  eq(p[2]:header("X"), {})
  eq(p[2]:text(), "text")
  p[2]:header("X-Evil", "a\r\nBcc: x")
  eq(p[2]:header("Bcc"), {})
  raises("not a header name", p[2].header, p[2], "a b")
  raises("replace, append or prepend expected", p[2].header, p[2], "A", "b", "insert")
  raises("string expected, got boolean", p[2].header, p[2], "A", true)
  raises("message part is read-only", function() t.msg:mime(true):header("X", "1") end)
  -- On the top it is the message's header.
  p[1]:header("X-Top", "1")
  eq(t.msg:header("X-Top"), { "1" })
end)

-- Another boundary is written into the delimiters; one that occurs inside is refused.
block("msgpart:header", "data_spool", function(t)
  local p = parts(t, MIXED)
  eq(p[1]:header("Content-Type", 'multipart/mixed; boundary="new one"'), true)
  eq(p[1].boundary, "new one")
  eq(t.msg:raw(), (MIXED:gsub("%-%-o", "--new one"):gsub('"o"', '"new one"')))
  eq(p[2]:text(), "text")
  p[2]:text("--x\r\n")
  local before = t.msg:raw()
  raises("the boundary occurs in the content", p[1].header, p[1], "Content-Type", "multipart/mixed; boundary=x")
  eq(t.msg:raw(), before)
  -- What is no container any more has no parts.
  eq(p[1]:header("Content-Type", "text/plain"), true)
  eq(p[1].parts, nil)
  raises("message part is stale", p[2].text, p[2])
end)

block("msgpart:header", "set_binding", function(t)
  eq(t.msg:mime():header("Subject"), { "hello there" })
  raises("message content is read-only in phase 'set_binding'", t.msg.mime, t.msg, false)
end)

block("msgpart:text", "data", function(t)
  local p = parts(t, ALTERNATIVE)
  eq(p[2]:text(), "café")
  eq(p[3]:text(), "<b>caf</b>\r\n")
  eq(p[1]:text(), nil)
  local m = parts(t, MIXED)
  eq(m[3]:text(), nil)
  eq(m[4]:text(), nil)
  eq(parts(t, "Subject: x\r\n\r\n")[1]:text(), nil)
  -- Setting: the part's own type and charset where they will do.
  p = parts(t, ALTERNATIVE)
  eq(p[2]:text("thé"), true)
  eq(p[2]:text(), "thé")
  eq(p[2]:content_type().charset, "iso-8859-1")
  eq(t.msg:raw(), (ALTERNATIVE:gsub("caf=E9", "th=E9")))
  eq(p[3]:text("ü"), true)
  eq(p[3]:content_type(), { mimetype = "text/html", charset = "utf-8", encoding = "base64", is_attachment = false })
  eq(p[3]:text(), "ü")
  eq(p[3]:text(".\r\nx"), true)
  eq(p[3]:text(), ".\r\nx")
  eq(p[3]:header("X-Odd"), { "tab" })
  returns(2, { nil, "unknown charset 'klingon'" }, p[3]:text("x", nil, "klingon"))
  raises("the media type of a text expected", p[3].text, p[3], "x", "multipart/mixed")
  raises("the media type of a text expected", p[3].text, p[3], "x", "nonsense")
  raises("string expected, got table", p[3].text, p[3], {})
  -- A file's name is kept; a container becomes a leaf.
  m = parts(t, MIXED)
  eq(m[3]:text("no image"), true)
  eq(m[3]:content_type().mimetype, "text/plain")
  eq(m[3]:content_type().filename, "a.png")
  eq(m[1]:text("only"), true)
  eq(m[1].parts, nil)
  eq(t.msg:body(), "only\r\n")
  raises("message part is stale", m[3].text, m[3])
  raises("message part is read-only", function() t.msg:mime():text("x") end)
end)

-- Handles follow edits of the header, and end when the body is replaced.
block("msgpart:text", "data_spool", function(t)
  local p = parts(t, ALTERNATIVE)
  t.msg:header("X-New", "1")
  eq(p[2]:text(), "café")
  eq(p[1]:header("X-New"), { "1" })
  assert(t.msg:body_match("epilogue"))
  eq(p[2]:text(), "café")
  local free = t.msg:makePart("text/plain", "free")
  t.msg:body("other")
  raises("message part is stale", p[2].text, p[2])
  raises("message part is stale", function() return p[1].parts end)
  eq(free:text(), "free")
  eq(t.msg:mime() == p[1], false)
end)

block("msgpart:text", "connect", function(t)
  kept_parts = {}
  local draft = msys.core.ec_message_new()
  kept_parts.own = draft:makePart("text/plain", "mine")
  draft = nil
  collectgarbage()
  eq(kept_parts.own:text(), "mine")
end)

block("msgpart:text_match", "data", function(t)
  local p = parts(t, ALTERNATIVE)
  local found = p[2]:text_match("(?P<last>é)$")
  eq(found[0], "é")
  eq(found.last, "é")
  eq(found.part, 1)
  eq(p[1]:text_match("<b>").part, 2)
  eq(p[3]:text_match("é"), false)
  eq(p[3]:text_match("X-Odd"), false)
  eq(parts(t, MIXED)[3]:text_match("foo"), false)
  eq(parts(t, MIXED)[1]:text_match("inner").part, 2)
end)

block("msgpart:text_replace", "data", function(t)
  local p = parts(t, ALTERNATIVE)
  eq(p[3]:text_replace("caf", "tea"), true)
  eq(p[3]:text(), "<b>tea</b>\r\n")
  eq(p[2]:text(), "café")
  eq(t.msg:raw(), (ALTERNATIVE:gsub("<b>caf", "<b>tea")))
  eq(p[1]:text_replace("é", "ée"), true)
  eq(p[2]:body_match("caf=E9e")[0], "caf=E9e")
  eq(p[1]:text_replace("nothing", "x"), false)
  eq(p[2]:text_replace("é", "日"), true)
  eq(p[2]:content_type().charset, "utf-8")
  eq(p[2]:text(), "caf日e")
  eq(parts(t, MIXED)[3]:text_replace("foo", "x"), false)
end)
