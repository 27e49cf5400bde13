//! What to write instead, for syntax errors that come from another language's habits.

use crate::dialect::SyntaxError;

/// What stands at the place of an error, and what Lua has for it.
const HABITS: &[(&str, &str)] = &[
    ("&&", "Lua writes `and`"),
    ("||", "Lua writes `or`"),
    ("+=", "Lua has no `+=`: write `x = x + 1`"),
    ("-=", "Lua has no `-=`: write `x = x - 1`"),
    ("++", "Lua has no `++`: write `x = x + 1`"),
    ("//", "a comment begins with `--`"),
    ("/*", "a comment begins with `--`, a long one stands in `--[[ ]]`"),
    ("===", "equality is `==`"),
    ("!==", "inequality is `~=` or `!=`"),
    ("<>", "inequality is `~=` or `!=`"),
    ("?", "Lua has no `? :`: write `condition and a or b`"),
    ("elsif", "Lua writes `elseif`"),
    ("elif", "Lua writes `elseif`"),
    ("continue", "Lua has no `continue`: put the rest of the loop into an `if`"),
    ("{", "a block begins with `then` or `do` and ends with `end`"),
];

pub(super) fn help(source: &[u8], error: &SyntaxError) -> Option<String> {
    let line = source.split(|byte| *byte == b'\n').nth(error.line.checked_sub(1)?)?;
    let at = error.column.checked_sub(1)?;
    let rest = line.get(at..)?;
    let before = line.get(..at)?.trim_ascii_end();
    if rest.starts_with(b"=") && !rest.starts_with(b"==") && error.text.contains("'then' expected") {
        return Some("one `=` assigns; equality is `==`".to_owned());
    }
    // The second octet of `&&` is where the parser stops.
    let around = before.last().map_or_else(Vec::new, |last| [&[*last], rest].concat());
    let habit = HABITS.iter().find(|(wrong, _)| {
        let wrong = wrong.as_bytes();
        rest.starts_with(wrong) || wrong.len() > 1 && !wrong[0].is_ascii_alphabetic() && around.starts_with(wrong)
    });
    let word = before.rsplit(|byte| !byte.is_ascii_alphanumeric()).next().unwrap_or_default();
    let habit = habit.or_else(|| HABITS.iter().find(|(wrong, _)| wrong.as_bytes() == word && !word.is_empty()));
    if let Some((_, help)) = habit {
        return Some((*help).to_owned());
    }
    error.text.starts_with("'=' expected").then(|| "a statement is a call or an assignment".to_owned())
}
