//! Threaded Lua, the dialect of Momentum's policies, to LuaJIT source.

/// Translated source and the helpers that it calls.
pub struct Translated {
    pub text: Vec<u8>,
    pub helpers: Vec<&'static str>,
}

/// A syntax error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SyntaxError {
    pub line: usize,
    pub column: usize,
    pub text: String,
}

pub fn translate(source: &[u8]) -> Result<Translated, SyntaxError> {
    Ok(Translated { text: source.to_vec(), helpers: Vec::new() })
}

pub fn is_keyword(word: &[u8]) -> bool {
    const WORDS: &[&[u8]] = &[
        b"and", b"break", b"do", b"else", b"elseif", b"end", b"false", b"for", b"function", b"if", b"in", b"local",
        b"nil", b"not", b"or", b"repeat", b"return", b"then", b"true", b"until", b"while",
    ];
    WORDS.contains(&word)
}

/// A chunk's name as messages show it.
pub fn chunk_name(name: &[u8]) -> String {
    let text = String::from_utf8_lossy(name);
    match text.chars().next() {
        Some('@' | '=') => text[1..].to_owned(),
        _ => {
            let line = text.split(['\n', '\r']).next().unwrap_or_default();
            format!("[string \"{line}\"]")
        }
    }
}
