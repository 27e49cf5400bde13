//! The dialect of policies.

use ph_policy::dialect::translate;
use std::cell::RefCell;

pub static WORDS: &[&str] = &[
    "local a = 1 ",
    "function f(...) return arg.n end ",
    "for k in x do end ",
    "if a != b then end ",
    "!a",
    "a & b",
    "a | b",
    "a << 2",
    "a ^^ b",
    "~a",
    "a \\ b",
    "0755",
    "'\\x41\\u00e9'",
    "[==[ x ]==]",
    "-- c\n",
    "--[[ c ]]",
    "msys.core.VALIDATE_CONT",
    "_TLS.x",
    "repeat until a ",
    "while a do break end ",
    "t.x.y:z{1, [2]=3; 4}",
    "return ",
    "goto a",
    "::a::",
    "\n",
    "(",
    ")",
    "end ",
];

thread_local! {
    static LUA: RefCell<mlua::Lua> = RefCell::new(mlua::Lua::new());
}

/// Nothing that the translator lets through may fail in the compiler behind it, since its errors would name another text.
pub fn dialect(input: &[u8]) {
    let translated = match translate(input) {
        Ok(translated) => translated,
        Err(error) => {
            let lines = input.iter().filter(|&&byte| byte == b'\n' || byte == b'\r').count() + 1;
            assert!(error.line <= lines, "an error in line {} of {lines}: {error}", error.line);
            assert!(!error.text.is_empty());
            return;
        }
    };
    let ends = |bytes: &[u8]| bytes.iter().filter(|&&byte| byte == b'\n').count();
    let added = usize::from(!translated.helpers.is_empty());
    assert_eq!(
        ends(&translated.text),
        ends(input) + added,
        "lines moved:\n{}",
        String::from_utf8_lossy(&translated.text)
    );
    LUA.with_borrow(|lua| {
        let compiled =
            lua.load(&translated.text[..]).set_name("=fuzz").set_mode(mlua::chunk::ChunkMode::Text).into_function();
        if let Err(error) = compiled {
            let text = error.to_string();
            // Limits of the compiler, which the translator does not count: it also calls a number malformed whose exponent is
            // far beyond what a number can have.
            let huge = text.contains("malformed number") && has_long_exponent(input);
            let limit = ["limit", "too many", "too long", "overflow", "memory"].iter().any(|word| text.contains(word));
            let limit = limit || huge;
            assert!(limit, "{text}\nfrom:\n{}", String::from_utf8_lossy(&translated.text));
        }
    });
}

fn has_long_exponent(source: &[u8]) -> bool {
    source
        .windows(6)
        .any(|six| matches!(six[0], b'e' | b'E' | b'p' | b'P' | b'+' | b'-') && six[1..].iter().all(u8::is_ascii_digit))
}
