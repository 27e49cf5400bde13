//! Threaded Lua, the dialect of Momentum's policies, to LuaJIT source.
//!
//! Lua 5.1 with `!=`, `!`, `\xHH` and `\u` escapes, octal literals, 64-bit bit operators at precedences of their own, `\` for
//! integer division, `__iter` in the generic `for`, and the implicit `arg`. The whole grammar is parsed, since LuaJIT has
//! operators that look the same and compute otherwise: what would slip through unchanged would be silently wrong. The translation
//! touches only the bytes of dialect constructs and keeps every line where it is. What only LuaJIT knows is refused.

mod lexer;
mod parser;
#[cfg(test)]
mod recorded;
mod scope;
pub(crate) mod tree;

pub use lexer::is_keyword;

/// Translated source and the helpers that it calls.
#[derive(Debug)]
pub struct Translated {
    /// LuaJIT source. With helpers it is a chunk that takes them, in order, and returns the policy's chunk.
    pub text: Vec<u8>,
    pub helpers: Vec<&'static str>,
    /// The syntax tree: what `check` walks.
    pub(crate) chunk: tree::Block,
}

/// A syntax error, in the words of Lua.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{line}:{column}: {text}")]
pub struct SyntaxError {
    pub line: usize,
    /// In octets, from 1.
    pub column: usize,
    pub text: String,
}

/// Translates one chunk.
pub fn translate(source: &[u8]) -> Result<Translated, SyntaxError> {
    if source.first() == Some(&0x1b) {
        return Err(SyntaxError { line: 1, column: 1, text: "byte code is not loaded".to_owned() });
    }
    let prefix = free_prefix(source);
    let parsed = parser::parse(source, &prefix)?;
    let mut text = Vec::with_capacity(source.len() + 256);
    if !parsed.helpers.is_empty() {
        let names: Vec<String> = parsed.helpers.iter().map(|helper| format!("{prefix}{helper}")).collect();
        text.extend_from_slice(format!("local {}=... return function(...) ", names.join(",")).as_bytes());
    }
    parsed.edits.apply(source, &mut text);
    if !parsed.helpers.is_empty() {
        text.extend_from_slice(b"\nend");
    }
    Ok(Translated { text, helpers: parsed.helpers, chunk: parsed.chunk })
}

/// The beginning of the helpers' names: one that the source does not have.
fn free_prefix(source: &[u8]) -> String {
    let mut prefix = "__ph_".to_owned();
    while source.windows(prefix.len()).any(|window| window == prefix.as_bytes()) {
        prefix.push('_');
    }
    prefix
}

/// A chunk's name as messages show it: `@file` and `=name` without their mark, else the source's first line, cut as Lua 5.1 cuts.
pub fn chunk_name(name: &[u8]) -> String {
    const SHOWN_MAX: usize = 43;
    if let Some(b'@' | b'=') = name.first() {
        return String::from_utf8_lossy(&name[1..]).into_owned();
    }
    let line = name.split(|byte| matches!(byte, b'\n' | b'\r')).next().unwrap_or_default();
    let shown = &line[..line.len().min(SHOWN_MAX)];
    let dots = if shown.len() < name.len() { "..." } else { "" };
    format!("[string \"{}{dots}\"]", String::from_utf8_lossy(shown))
}

/// Changes of the source, by place.
#[derive(Debug, Default)]
pub(crate) struct Edits {
    list: Vec<Edit>,
}

#[derive(Debug)]
struct Edit {
    at: usize,
    /// At one place: what closes comes before what replaces, then what opens, the outermost (made last) first.
    order: (u8, isize),
    remove: usize,
    insert: String,
}

impl Edits {
    /// Replaces `from..to`.
    fn replace(&mut self, from: usize, to: usize, insert: impl Into<String>) {
        let order = (1, 0);
        self.list.push(Edit { at: from, order, remove: to - from, insert: insert.into() });
    }

    /// Inserts before what begins at `at`, and before what was inserted there earlier.
    fn open(&mut self, at: usize, insert: impl Into<String>) {
        let order = (1, -1 - self.list.len() as isize);
        self.list.push(Edit { at, order, remove: 0, insert: insert.into() });
    }

    /// Inserts after what ends at `at`, and after what was inserted there earlier.
    fn close(&mut self, at: usize, insert: impl Into<String>) {
        let order = (0, self.list.len() as isize);
        self.list.push(Edit { at, order, remove: 0, insert: insert.into() });
    }

    fn len(&self) -> usize {
        self.list.len()
    }

    /// Takes back what was entered after `len` was asked.
    fn truncate(&mut self, len: usize) {
        self.list.truncate(len);
    }

    fn apply(mut self, source: &[u8], out: &mut Vec<u8>) {
        self.list.sort_by_key(|edit| (edit.at, edit.order));
        let mut at = 0;
        for edit in self.list {
            out.extend_from_slice(&source[at.min(edit.at)..edit.at]);
            out.extend_from_slice(edit.insert.as_bytes());
            at = edit.at + edit.remove;
        }
        out.extend_from_slice(&source[at..]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The text without the wrapper of helpers.
    fn translated(source: &str) -> String {
        let text = String::from_utf8(translate(source.as_bytes()).unwrap().text).unwrap();
        match text.split_once("return function(...) ") {
            Some((_, rest)) => rest.strip_suffix("\nend").unwrap().to_owned(),
            None => text,
        }
    }

    #[test]
    fn what_is_plain_lua_stays_as_it_is() {
        let source = "-- comment\nlocal function f(a, b, ...)\n  local t = { x = 1, [2] = 'y'; 3, ... }\n  \
                      for i = 1, #t do t[i] = -i ^ 2 .. 'z' end\n  for k, v in pairs(t) do print(k, v) end\n  \
                      while not a do repeat a = a.b.c:d('x'):e{1} until a == nil end\n  \
                      if a ~= b then return f(...) elseif b then while b do break end end\nend\nreturn [[\nlong]], [==[x]]]==]";
        assert_eq!(translated(source), source);
    }

    #[test]
    fn operators_become_helpers_with_the_dialects_precedence() {
        for (source, want) in [
            ("x = 1 != 2", "x = 1 ~= 2"),
            ("x = !a == b", "x = not a == b"),
            ("x = !!a", "x = not not a"),
            ("return!a", "return not a"),
            ("x = b and!a", "x = b and not a"),
            ("x = 1 << 2 + 1", "x = (__ph_shl(1 , 2)) + 1"),
            ("x = 1 + 2 & 3", "x = (__ph_band(1 + 2 , 3))"),
            ("x = 6 | 1 & 2", "x = (__ph_band((__ph_bor(6 , 1)) , 2))"),
            ("x = 1 | 2 * 3", "x = (__ph_bor(1 , 2 * 3))"),
            ("x = ~1 & 3", "x = (__ph_band((__ph_bnot(1)) , 3))"),
            ("x = ~2 ^ 2", "x = (__ph_bnot(2 ^ 2))"),
            ("x = -1 \\ 2", "x = (__ph_intdiv(-1 , 2))"),
            ("x = 'a' .. 1|2", "x = 'a' .. (__ph_bor(1,2))"),
            ("x = 5 ^^ 3 ^ 2", "x = (__ph_bxor(5 , 3 ^ 2))"),
            ("x = 0755 + 010", "x = 493 + 8"),
            ("x = '\\d\\/\\z\\x41\\n'", "x = 'd/z\\x41\\n'"),
            ("x = '\\u00e9'", "x = '\\195\\169'"),
            ("for k in f() do end", "for k in __ph_iter(f()) do end"),
            ("for k in(f()) do end", "for k in __ph_iter((f())) do end"),
            ("for k in!f() do end", "for k in __ph_iter( not f()) do end"),
            ("for k in next, t do end", "for k in next, t do end"),
            ("local pairs = p for k in pairs(t) do end", "local pairs = p for k in __ph_iter(pairs(t)) do end"),
            ("x = _TLS.a", "x = __ph_tls().a"),
            ("local _TLS = 1 x = _TLS", "local _TLS = 1 x = _TLS"),
        ] {
            assert_eq!(translated(source), want, "{source}");
        }
    }

    #[test]
    fn operands_are_named_for_messages() {
        for (source, want) in [
            ("local a = 1 return a & b", "local a = 1 return (__ph_band(a , b,\"local 'a'\",\"global 'b'\"))"),
            (
                "local a function f() return 1 | a end",
                "local a function f() return (__ph_bor(1 , a,nil,\"upvalue 'a'\")) end",
            ),
            ("return t.x & 1", "return (__ph_band(t.x , 1,\"field 'x'\"))"),
            ("x = a |\n b", "x = (__ph_bor(a ,\n b,\"global 'a'\",\"global 'b'\",2))"),
            ("x = a\n| 1", "x = (__ph_bor(a\n, 1,\"global 'a'\",nil,2))"),
            ("return ~t.y", "return (__ph_bnot(t.y,\"field 'y'\"))"),
            ("return f() & t:m()", "return (__ph_band(f() , t:m()))"),
        ] {
            assert_eq!(translated(source), want, "{source}");
        }
    }

    #[test]
    fn the_implicit_arg_is_declared_where_it_is_named() {
        for (source, want) in [
            ("function f(...) return arg.n end", "function f(...) local arg=__ph_arg(...); return arg.n end"),
            ("function f(...) return ... end", "function f(...) return ... end"),
            ("function f(...) return arg, ... end", "function f(...) local arg; return arg, ... end"),
            ("function f(...)(g)(arg) end", "function f(...) local arg=__ph_arg(...);(g)(arg) end"),
            ("function f(arg) return arg end", "function f(arg) return arg end"),
            ("function f(...) local arg = 1 return arg end", "function f(...) local arg = 1 return arg end"),
            (
                "function f(...) return function() return arg end end",
                "function f(...) local arg=__ph_arg(...); return function() return arg end end",
            ),
            ("return arg", "return arg"),
        ] {
            assert_eq!(translated(source), want, "{source}");
        }
    }

    #[test]
    fn what_only_luajit_knows_is_refused() {
        for source in [
            "x = a && b",
            "x = a || b",
            "x = a ? b : c",
            "x = a?.b",
            "x = a ?? b",
            "x += 1",
            "x = 1LL",
            "x = 0b1",
            "x = 1_000",
            "x = 0x1p4",
            "x = 3i",
            "::label::",
            "goto label",
            "continue",
            "const x = 1",
            "x = a ~ b",
            "x = a ~>> b",
            "x = a // b",
            "f = a -> b",
            "x = 08",
            "x = 00.5",
            "x = 0e5",
        ] {
            assert!(translate(source.as_bytes()).is_err(), "{source}");
        }
    }

    #[test]
    fn names_that_are_no_keywords_stay_names() {
        for source in ["local goto = 1 t.goto = goto t:goto()", "continue = 1", "const.x = continue"] {
            assert_eq!(translated(source), source);
        }
    }

    #[test]
    fn syntax_errors_say_line_column_and_lua_s_words() {
        for (source, line, column, text) in [
            ("x =", 1, 4, "unexpected symbol near '<eof>'"),
            ("\n\nx = 1 +\n\n*", 5, 1, "unexpected symbol near '*'"),
            ("print('x' 'y' +)", 1, 11, "')' expected near ''y''"),
            ("if x then", 1, 10, "'end' expected near '<eof>'"),
            ("if x then\n\nfoo(", 3, 5, "unexpected symbol near '<eof>'"),
            ("while x do\nlocal y\n", 3, 1, "'end' expected (to close 'while' at line 1) near '<eof>'"),
            ("x = 'abc", 1, 5, "unfinished string near '<eof>'"),
            ("x = 'a\nb'", 1, 5, "unfinished string near ''a'"),
            ("x = [[abc", 1, 5, "unfinished long string near '<eof>'"),
            ("--[[ abc", 1, 1, "unfinished long comment near '<eof>'"),
            ("x = 08", 1, 5, "malformed number near '08'"),
            ("x = 'a\\x4'", 1, 7, "expected hex digit near ''a'"),
            ("x = '\\300'", 1, 6, "escape sequence too large near '''"),
            ("f", 1, 2, "'=' expected near '<eof>'"),
            ("break", 1, 1, "no loop to break near 'break'"),
            ("function f() return ... end", 1, 21, "cannot use '...' outside a vararg function near '...'"),
            ("x = f\n(g)()", 2, 1, "ambiguous syntax (function call x new statement) near '('"),
            ("return 1 x = 2", 1, 10, "'<eof>' expected near 'x'"),
        ] {
            let error = translate(source.as_bytes()).unwrap_err();
            assert_eq!((error.line, error.column, error.text.as_str()), (line, column, text), "{source}");
        }
    }

    #[test]
    fn deep_nesting_is_an_error_not_a_stack_overflow() {
        for source in ["(".repeat(100_000), "{".repeat(100_000), "!".repeat(100_000), "~".repeat(100_000)] {
            let error = translate(format!("x = {source}").as_bytes()).unwrap_err();
            assert!(error.text.contains("too many"), "{}", error.text);
        }
    }

    /// Pieces that make interesting sources when they are strung together.
    const PIECES: &[&str] = &[
        "a",
        "b.c",
        "1",
        "010",
        "'s'",
        "'\\d\\u00e9'",
        "\n",
        "(",
        ")",
        "{",
        "}",
        "[",
        "]",
        "[[x]]",
        "--c\n",
        "...",
        "..",
        "=",
        "==",
        "!=",
        "!",
        "~",
        "~=",
        "&",
        "|",
        "^^",
        "^",
        "<<",
        ">>",
        "\\",
        "+",
        "-",
        "*",
        ",",
        ";",
        ":m",
        "f()",
        "and",
        "not",
        "nil",
        "if a then",
        "end",
        "for k in",
        "for i = 1, 2 do",
        "do",
        "while a do",
        "repeat",
        "until",
        "function f(...)",
        "function(arg)",
        "return",
        "local x",
        "break",
        "arg",
        "_TLS",
        "pairs(t)",
    ];

    proptest::proptest! {
        #[test]
        fn translations_are_luajit_source_of_as_many_lines(picks in proptest::collection::vec(0..PIECES.len(), 0..25)) {
            let words: Vec<&str> = picks.into_iter().map(|at| PIECES[at]).collect();
            let source = words.join(" ");
            if let Ok(translated) = translate(source.as_bytes()) {
                let text = String::from_utf8(translated.text).unwrap();
                let added = usize::from(!translated.helpers.is_empty());
                proptest::prop_assert_eq!(text.matches('\n').count(), source.matches('\n').count() + added);
                let lua = mlua::Lua::new();
                let loaded = lua.load(&text).into_function();
                proptest::prop_assert!(loaded.is_ok(), "{} -> {}: {:?}", source, text, loaded.err());
            }
        }

        #[test]
        fn no_source_makes_the_translator_fail(source in proptest::collection::vec(proptest::num::u8::ANY, 0..200)) {
            let _ = translate(&source);
        }
    }
}
