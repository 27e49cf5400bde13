//! The plugin for the Lua language server (LuaLS) that makes plain Lua of the dialect, for its analysis only.
//!
//! The server calls `OnSetText` with each source and applies the edits that come back. The plugin is Lua, since the server runs
//! it; here is what proves it: edited, every script of the dialect is plain Lua of as many lines.

/// The plugin's source.
pub const PLUGIN: &str = include_str!("plugin.lua");

#[cfg(test)]
mod tests {
    use super::*;
    use mlua::{Function, Lua, Table};

    /// The source as the server's analysis sees it.
    fn seen(lua: &Lua, source: &str) -> String {
        let plugin: Function = lua.globals().get("OnSetText").unwrap();
        let edits: Option<Table> = plugin.call(("file:///policy.lua", source)).unwrap();
        let (mut text, mut at) = (Vec::new(), 0);
        for edit in edits.iter().flat_map(|edits| edits.sequence_values::<Table>()) {
            let edit = edit.unwrap();
            let (start, finish): (usize, usize) = (edit.get("start").unwrap(), edit.get("finish").unwrap());
            assert!(at < start && start <= finish && finish <= source.len(), "{at} {start} {finish}");
            text.extend_from_slice(&source.as_bytes()[at..start - 1]);
            text.extend_from_slice(edit.get::<String>("text").unwrap().as_bytes());
            at = finish;
        }
        text.extend_from_slice(&source.as_bytes()[at..]);
        String::from_utf8_lossy(&text).into_owned()
    }

    fn lua() -> Lua {
        let lua = Lua::new();
        lua.load(PLUGIN).exec().unwrap();
        lua
    }

    #[test]
    fn each_token_of_the_dialect_becomes_one_of_plain_lua() {
        let lua = lua();
        for (source, wanted) in [
            ("if a != b then end", "if a ~= b then end"),
            ("if !a then return!b end", "if  not a then return not b end"),
            ("x = a & b | c ^^ d", "x = a + b + c + d"),
            ("x = a << 1 >> 2 \\ 3", "x = a * 1 * 2 / 3"),
            ("x = ~a + -~b, ~~c", "x =  - a + - - b,  -  - c"),
            ("x = a ~= b", "x = a ~= b"),
            ("x = 0755 + 0x1F + 08 + 1e-3 + 0", "x = 493 + 0x1F + 08 + 1e-3 + 0"),
            ("x = '\\d\\/\\n\\x41\\065\\u00e9ab'", "x = 'd/\\n\\x41\\065?'"),
            ("x = \"it's & ! -- \\\" & \" & 1", "x = \"it's & ! -- \\\" & \" + 1"),
            ("-- a & b != c\nx = 1 & 2", "-- a & b != c\nx = 1 + 2"),
            ("--[==[ a & ]] b\n]==] x = [[ & ]] .. 1 & 2", "--[==[ a & ]] b\n]==] x = [[ & ]] .. 1 + 2"),
            ("local goto = t.goto", "local goto_ = t.goto_"),
            ("#!/usr/bin/lua & !\nx = !y", "#!/usr/bin/lua & !\nx =  not y"),
            // What the dialect does not know either stays, for the server to say so.
            ("x = a && b || c", "x = a && b || c"),
            ("x = a ~ b", "x = a ~ b"),
            ("x += 1", "x += 1"),
            ("---@meta\nx = !y", "---@meta\nx = !y"),
        ] {
            assert_eq!(seen(&lua, source), wanted, "{source}");
        }
    }

    #[test]
    fn scripts_of_the_dialect_are_plain_lua_for_the_server() {
        let lua = lua();
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../conformance/dialect");
        let (mut edited, mut scripts) = (0, 0);
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_none_or(|extension| extension != "lua") {
                continue;
            }
            let Ok(source) = String::from_utf8(std::fs::read(&path).unwrap()) else { continue };
            let text = seen(&lua, &source);
            assert_eq!(text.lines().count(), source.lines().count(), "{}", path.display());
            if crate::dialect::translate(source.as_bytes()).is_err() {
                continue;
            }
            scripts += 1;
            edited += usize::from(text != source);
            let parsed =
                crate::dialect::translate(text.as_bytes()).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
            // `__iter`, the implicit `arg`, `_TLS` and `_OSTLS` are no matter of syntax.
            let operators: Vec<&str> =
                parsed.helpers.into_iter().filter(|helper| !["iter", "arg", "tls", "ostls"].contains(helper)).collect();
            assert!(operators.is_empty(), "{}: {operators:?}\n{text}", path.display());
            // What LuaJIT adds to the language is not in it: the dialect's own parser has seen to that.
            let loaded = lua.load(&text).into_function();
            assert!(loaded.is_ok(), "{}: {loaded:?}", path.display());
        }
        assert!(scripts > 50 && edited > 20, "{scripts} {edited}");
    }
}
