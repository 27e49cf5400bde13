-- Conformance of table `json`.

block("json.decode", "load", function()
  eq(require("json"), json)
  returns(3, { nil, json.ERROR_PARSE_OBJECT_KEY_NAME, "quoted object property name expected at offset 2" },
    json.decode('{ bad: "json" }'))
  returns(3, { nil, json.ERROR_PARSE_EOF, "unexpected end of data at offset 0" }, json.decode(""))
  returns(3, { nil, 0, "success at offset 4" }, json.decode("null"))
  returns(3, { nil, json.ERROR_DEPTH, "nesting to deep at offset 512" }, json.decode(("["):rep(600)))
  raises("string expected, got nil", json.decode)
  raises("string expected, got table", json.decode, {})
  local o = json.decode('{"foo": "bar"} trailing')
  eq(type(o), "userdata")
  eq(tostring(o), '{ "foo": "bar" }')
  eq(o.foo, "bar")
  eq(o.nope, nil)
  eq(#o, 0)
  o.num = 42
  o.arr = { 0, 1, 3 }
  eq(#o.arr, 3)
  eq(o.arr[4], nil)
  raises("lua array semantics are that index operations are 1-based", function() o.arr[0] = 1 end)
  raises("json array index must be numeric", function() o.arr.x = 1 end)
  raises("cannot delete from json arrays", function() o.arr[1] = nil end)
  raises("cannot assign values of type thread", function() o.f = coroutine.create(print) end)
  raises("json.lua:", function() o.f = print end)
  o.arr[6] = 1
  eq(tostring(o.arr), "[ 0, 1, 3, null, null, 1 ]")
  raises("is too large", function() o.arr[1e9] = 1 end)
  o.foo = nil
  eq(tostring(o), '{ "num": 42, "arr": [ 0, 1, 3, null, null, 1 ] }')
  local null = json.decode('{ "null": null }')
  eq(null.null, nil)
  eq(tostring(null), '{ "null": null }')
  null.null = nil
  eq(tostring(null), "{ }")
  -- Parts share their storage.
  local part = o.arr
  part[1] = 5
  eq(o.arr[1], 5)
  assert(part == o.arr and part ~= o)
  -- In order, nulls among them; two iterators at a time.
  local seen = {}
  for key, value in json.decode('{"b": 1, "a": null, "c": [7, null, 8]}') do
    seen[#seen + 1] = key .. "=" .. tostring(value)
    if key == "c" then
      for at, item in value do seen[#seen + 1] = at .. ":" .. tostring(item) end
      for at in value do seen[#seen + 1] = at break end
    end
  end
  eq(seen, { "b=1", "a=nil", "c=[ 7, null, 8 ]", "1:7", "2:nil", "3:8", 1 })
  eq(json.decode("9007199254740992") .. "", "9007199254740992")
  eq(json.decode('["caf\\u00e9", "\xff"]')[1], "café")
  eq(json.decode('["\xff"]')[1], "\xff")
  -- What follows where a string is wanted.
  eq(msys.base64.encode(json.decode("[1]")), msys.base64.encode("[ 1 ]"))
  eq("x" .. json.decode("[1]"), "x[ 1 ]")
end)

block("json.encode", "load", function()
  eq(tostring(json.encode { 0, 1, 3 }), "[ 0, 1, 3 ]")
  eq(tostring(json.encode { 1, 2, nil, 4 }), "[ 1, 2 ]")
  eq(tostring(json.encode {}), "{ }")
  eq(json.encode({ foo = "bar", [32] = "dude" })["32"], "dude")
  eq(tostring(json.encode { [0] = "z", [1] = "a" }), '[ "a" ]')
  local o = json.encode(42)
  eq(type(o), "userdata")
  eq(tostring(o), "42")
  eq(o.foo, nil)
  raises("cannot assign to this type of json object", function() o.foo = 1 end)
  for _ in o do error("a number has no members") end
  eq(tostring(json.encode('a"b')), 'a"b')
  eq(tostring(json.encode { 'a"b/\n\1' }), '[ "a\\"b\\/\\n\\u0001" ]')
  eq(tostring(json.encode { 3.5, 1 / 3, 2 ^ 53, 0 / 0, true }), "[ 3.500000, 0.3333333333333333, 9007199254740992, null, true ]")
  raises("cannot assign values of type nil", json.encode, nil)
  raises("cannot assign values of type function", json.encode, { print })
  local same = json.encode(json.encode { a = 1 })
  local again = json.encode(same)
  again.a = 2
  eq(same.a, 2)
  assert(same == again)
  -- Nothing contains itself.
  local loop = {}
  loop.me = { loop }
  raises("json value contains itself", json.encode, loop)
  local a, b = json.new(), json.new()
  a.b = b
  raises("json value contains itself", function() b.a = { x = a } end)
  raises("json value contains itself", function() a.a = a end)
  local deep = {}
  for _ = 1, 600 do deep = { deep } end
  raises("levels", json.encode, deep)
  -- Built from outside in, it gets deeper than what can be written; it must still go away in peace.
  local root = json.new()
  local at = root
  for _ = 1, 2000 do
    at.x = {}
    at = at.x
  end
  raises("levels", tostring, root)
end)

block("json.new", "load", function()
  local o = json.new()
  o.name = "value"
  eq(tostring(o), '{ "name": "value" }')
  o["message-id"] = "x"
  eq(o["message-id"], "x")
  local kid = json.new()
  o.kid = kid
  kid.x = 1
  eq(tostring(o), '{ "name": "value", "message-id": "x", "kid": { "x": 1 } }')
  eq(tostring(json.new { 1 }), "[ 1 ]")
end)

block("json.strerror", "load", function()
  eq(json.strerror(json.ERROR_PARSE_NULL), "null expected")
  eq(json.strerror(json.ERROR_DEPTH), "nesting to deep")
  eq(json.strerror(0), "success")
  eq(json.strerror(13), "expected comment")
  eq(json.strerror(-1), "unknown error")
  eq(json.strerror(20000), "unknown error")
  raises("number expected, got nil", json.strerror)
end)

block("json.free", "load", function()
  local o = json.decode("[1]")
  eq(json.free(o), nil)
  eq(o[1], 1)
end)

block("json.addref", "load", function() eq(json.addref(json.new()), true) end)
