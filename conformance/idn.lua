-- Conformance of table `idn`.

block("msys.idn.to_idn", "load", function()
  local to_idn = require("msys.idn").to_idn
  eq(to_idn("bücher.de"), "xn--bcher-kva.de")
  eq(to_idn("faß.de"), "xn--fa-hia.de")
  eq(to_idn("弗兰克.example"), "xn--74q5c021c.example")
  eq(to_idn("EXAMPLE.com"), "example.com")
  eq(to_idn("_dmarc.bücher.de."), "_dmarc.xn--bcher-kva.de.")
  eq(to_idn("a。b"), "a.b")
  eq(to_idn(""), "")
  for _, name in ipairs { "a..b", "\xff.de", ("l"):rep(64) .. ".de", ("l."):rep(130) .. "de", "xn--!!!.de" } do
    local got, problem = to_idn(name)
    eq(got, nil)
    assert(problem:find("not a valid domain name", 1, true), problem)
  end
  raises("bad argument #1 to 'msys.idn.to_idn' (string expected, got nil)", to_idn)
end)

block("msys.idn.to_utf8", "load", function()
  local to_utf8 = msys.idn.to_utf8
  eq(to_utf8("xn--bcher-kva.de"), "bücher.de")
  eq(to_utf8("XN--fa-hia.DE"), "faß.DE")
  eq(to_utf8(msys.idn.to_idn("弗兰克.example")), "弗兰克.example")
  eq(to_utf8("Example.com."), "Example.com.")
  for _, name in ipairs { "xn--ü.de", "xn--!!!.de", "xn--.de", "a.\xff" } do
    local got, problem = to_utf8(name)
    eq(got, nil)
    assert(type(problem) == "string", name)
  end
  raises("string expected, got nil", to_utf8)
end)
