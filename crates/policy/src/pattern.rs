//! Lua's own patterns with a step limit (Lua 5.1 manual, section 5.4.1).
//!
//! LuaJIT matches them in C, where the watchdog cannot stop them, and two quantifiers suffice to make a match of 100 KB take for
//! ever. So such a pattern on a subject over 4 KB comes here (see `prelude.lua`), where every step counts. The results are those of
//! LuaJIT's matcher; the recursion is bounded too, as there.

/// Where a match lies, and its captures.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Match {
    pub start: usize,
    pub end: usize,
    pub captures: Vec<Capture>,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Capture {
    Span(usize, usize),
    /// `()`: a position, from 1.
    Position(usize),
}

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PatternError {
    #[error("{0}")]
    Malformed(&'static str),
    #[error("invalid capture index")]
    CaptureIndex,
    #[error("pattern too complex")]
    TooComplex,
}

const CAPTURES_MAX: usize = 32;
/// As LuaJIT's `LJ_MAX_XLEVEL`.
const DEPTH_MAX: usize = 200;

/// How many steps one call may take: about half a second.
pub(crate) const STEPS_MAX: u64 = 50_000_000;

/// Whether a pattern has two quantifiers or more, so that it can take more than linear time.
pub(crate) fn can_explode(pattern: &[u8]) -> bool {
    let mut quantifiers = 0;
    let mut at = 0;
    while at < pattern.len() {
        match pattern[at] {
            b'%' => at += 1,
            b'*' | b'+' | b'-' | b'?' => quantifiers += 1,
            _ => {}
        }
        at += 1;
    }
    quantifiers >= 2
}

/// The first match at or after `from`; with `anchored` a `^` at the beginning of the pattern means that place only.
pub(crate) fn search(
    subject: &[u8],
    pattern: &[u8],
    from: usize,
    anchored: bool,
    steps: &mut u64,
) -> Result<Option<Match>, PatternError> {
    let (start_at, anchor) = match pattern.first() {
        Some(b'^') if anchored => (1, true),
        _ => (0, false),
    };
    let mut matcher = Matcher { subject, pattern, steps, captures: Vec::new(), depth: 0 };
    let mut start = from;
    loop {
        matcher.captures.clear();
        if let Some(end) = matcher.run(start, start_at)? {
            let captures = matcher.captures.iter().map(|capture| capture.finished()).collect::<Result<_, _>>()?;
            return Ok(Some(Match { start, end, captures }));
        }
        if anchor || start >= subject.len() {
            return Ok(None);
        }
        start += 1;
    }
}

struct Matcher<'a> {
    subject: &'a [u8],
    pattern: &'a [u8],
    steps: &'a mut u64,
    captures: Vec<Open>,
    depth: usize,
}

#[derive(Clone, Copy)]
struct Open {
    start: usize,
    state: State,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Unfinished,
    Position,
    Length(usize),
}

impl Open {
    fn finished(&self) -> Result<Capture, PatternError> {
        match self.state {
            State::Unfinished => Err(PatternError::Malformed("unfinished capture")),
            State::Position => Ok(Capture::Position(self.start + 1)),
            State::Length(length) => Ok(Capture::Span(self.start, self.start + length)),
        }
    }
}

type Outcome = Result<Option<usize>, PatternError>;

impl Matcher<'_> {
    fn step(&mut self) -> Result<(), PatternError> {
        *self.steps = self.steps.checked_sub(1).ok_or(PatternError::TooComplex)?;
        Ok(())
    }

    /// Matches the pattern from `p` at `s`: the end of the match.
    fn run(&mut self, s: usize, p: usize) -> Outcome {
        if self.depth >= DEPTH_MAX {
            return Err(PatternError::TooComplex);
        }
        self.depth += 1;
        let outcome = self.run_inside(s, p);
        self.depth -= 1;
        outcome
    }

    fn run_inside(&mut self, mut s: usize, mut p: usize) -> Outcome {
        loop {
            self.step()?;
            let Some(&item) = self.pattern.get(p) else { return Ok(Some(s)) };
            match (item, self.pattern.get(p + 1)) {
                (b'(', Some(b')')) => return self.open(s, p + 2, State::Position),
                (b'(', _) => return self.open(s, p + 1, State::Unfinished),
                (b')', _) => return self.close(s, p + 1),
                (b'%', Some(b'b')) => match self.balance(s, p + 2)? {
                    Some(end) => (s, p) = (end, p + 4),
                    None => return Ok(None),
                },
                (b'%', Some(b'f')) => {
                    p += 2;
                    if self.pattern.get(p) != Some(&b'[') {
                        return Err(PatternError::Malformed("missing '[' after '%f' in pattern"));
                    }
                    let end = self.item_end(p)?;
                    let before = if s == 0 { 0 } else { self.subject[s - 1] };
                    let here = self.subject.get(s).copied().unwrap_or(0);
                    if self.in_set(before, p, end - 1) || !self.in_set(here, p, end - 1) {
                        return Ok(None);
                    }
                    p = end;
                }
                (b'%', Some(digit @ b'0'..=b'9')) => match self.back_reference(s, *digit)? {
                    Some(end) => (s, p) = (end, p + 2),
                    None => return Ok(None),
                },
                (b'$', None) => return Ok((s == self.subject.len()).then_some(s)),
                _ => {
                    let end = self.item_end(p)?;
                    let here = self.single(s, p, end);
                    match self.pattern.get(end) {
                        Some(b'?') => {
                            if here && let Some(found) = self.run(s + 1, end + 1)? {
                                return Ok(Some(found));
                            }
                            p = end + 1;
                        }
                        Some(b'*') => return self.longest(s, p, end, 0),
                        Some(b'+') => return if here { self.longest(s, p, end, 1) } else { Ok(None) },
                        Some(b'-') => return self.shortest(s, p, end),
                        _ if here => (s, p) = (s + 1, end),
                        _ => return Ok(None),
                    }
                }
            }
        }
    }

    fn longest(&mut self, s: usize, p: usize, end: usize, least: usize) -> Outcome {
        let mut count = 0;
        while self.single(s + count, p, end) {
            self.step()?;
            count += 1;
        }
        loop {
            if let Some(found) = self.run(s + count, end + 1)? {
                return Ok(Some(found));
            }
            if count == least {
                return Ok(None);
            }
            count -= 1;
        }
    }

    fn shortest(&mut self, mut s: usize, p: usize, end: usize) -> Outcome {
        loop {
            if let Some(found) = self.run(s, end + 1)? {
                return Ok(Some(found));
            }
            self.step()?;
            if !self.single(s, p, end) {
                return Ok(None);
            }
            s += 1;
        }
    }

    fn open(&mut self, s: usize, p: usize, state: State) -> Outcome {
        if self.captures.len() >= CAPTURES_MAX {
            return Err(PatternError::Malformed("too many captures"));
        }
        let level = self.captures.len();
        self.captures.push(Open { start: s, state });
        let outcome = self.run(s, p)?;
        if outcome.is_none() {
            self.captures.truncate(level);
        }
        Ok(outcome)
    }

    fn close(&mut self, s: usize, p: usize) -> Outcome {
        let open = self.captures.iter().rposition(|capture| capture.state == State::Unfinished);
        let level = open.ok_or(PatternError::Malformed("invalid pattern capture"))?;
        self.captures[level].state = State::Length(s - self.captures[level].start);
        let outcome = self.run(s, p)?;
        if outcome.is_none() {
            self.captures[level].state = State::Unfinished;
        }
        Ok(outcome)
    }

    fn balance(&mut self, s: usize, p: usize) -> Outcome {
        let (Some(&begin), Some(&end)) = (self.pattern.get(p), self.pattern.get(p + 1)) else {
            return Err(PatternError::Malformed("unbalanced pattern"));
        };
        if self.subject.get(s) != Some(&begin) {
            return Ok(None);
        }
        let mut depth = 1;
        for (at, &byte) in self.subject.iter().enumerate().skip(s + 1) {
            self.step()?;
            if byte == end {
                depth -= 1;
                if depth == 0 {
                    return Ok(Some(at + 1));
                }
            } else if byte == begin {
                depth += 1;
            }
        }
        Ok(None)
    }

    fn back_reference(&mut self, s: usize, digit: u8) -> Outcome {
        let capture = usize::from(digit).checked_sub(usize::from(b'1')).and_then(|level| self.captures.get(level));
        let (start, length) = match capture {
            Some(Open { start, state: State::Length(length) }) => (*start, *length),
            // A position is no text: it never matches.
            Some(Open { state: State::Position, .. }) => return Ok(None),
            _ => return Err(PatternError::CaptureIndex),
        };
        let text = &self.subject[start..start + length];
        Ok(self.subject[s..].starts_with(text).then_some(s + length))
    }

    /// The end of the single character class at `p`.
    fn item_end(&self, p: usize) -> Result<usize, PatternError> {
        match self.pattern[p] {
            b'%' if p + 1 >= self.pattern.len() => Err(PatternError::Malformed("malformed pattern (ends with '%')")),
            b'%' => Ok(p + 2),
            b'[' => {
                let mut at = p + 1;
                if self.pattern.get(at) == Some(&b'^') {
                    at += 1;
                }
                loop {
                    // A `]` right at the beginning is a member.
                    let byte = self.pattern.get(at).copied();
                    at += 1;
                    match byte {
                        None => return Err(PatternError::Malformed("malformed pattern (missing ']')")),
                        Some(b'%') => at += 1,
                        Some(_) => {}
                    }
                    if self.pattern.get(at) == Some(&b']') {
                        return Ok(at + 1);
                    }
                }
            }
            _ => Ok(p + 1),
        }
    }

    fn single(&self, s: usize, p: usize, end: usize) -> bool {
        let Some(&byte) = self.subject.get(s) else { return false };
        match self.pattern[p] {
            b'.' => true,
            b'%' => in_class(byte, self.pattern[p + 1]),
            b'[' => self.in_set(byte, p, end - 1),
            literal => literal == byte,
        }
    }

    /// Whether `byte` is in the set from `[` at `p` to `]` at `last`.
    fn in_set(&self, byte: u8, p: usize, last: usize) -> bool {
        let negated = self.pattern.get(p + 1) == Some(&b'^');
        let mut at = p + 1 + usize::from(negated);
        while at < last {
            let found = match self.pattern[at] {
                b'%' => {
                    at += 1;
                    in_class(byte, self.pattern[at])
                }
                low if self.pattern[at + 1] == b'-' && at + 2 < last => {
                    at += 2;
                    (low..=self.pattern[at]).contains(&byte)
                }
                literal => literal == byte,
            };
            if found {
                return !negated;
            }
            at += 1;
        }
        negated
    }
}

/// The classes `%a %c %d %l %p %s %u %w %x %z`, in the C locale; in upper case the opposite.
fn in_class(byte: u8, class: u8) -> bool {
    let inside = match class.to_ascii_lowercase() {
        b'a' => byte.is_ascii_alphabetic(),
        b'c' => byte.is_ascii_control(),
        b'd' => byte.is_ascii_digit(),
        b'l' => byte.is_ascii_lowercase(),
        b'p' => byte.is_ascii_punctuation(),
        b's' => byte.is_ascii_whitespace() || byte == 0x0b,
        b'u' => byte.is_ascii_uppercase(),
        b'w' => byte.is_ascii_alphanumeric(),
        b'x' => byte.is_ascii_hexdigit(),
        b'z' => byte == 0,
        _ => return class == byte,
    };
    inside != class.is_ascii_uppercase()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn found(subject: &str, pattern: &str) -> Result<Option<Match>, PatternError> {
        search(subject.as_bytes(), pattern.as_bytes(), 0, true, &mut STEPS_MAX.clone())
    }

    #[test]
    fn a_pattern_that_explodes_is_given_up() {
        let quotes = r#"".-"#.repeat(30) + "x";
        let subject = "\"".repeat(100_000);
        assert_eq!(found(&subject, &quotes), Err(PatternError::TooComplex));
        assert!(can_explode(b".-a.-") && !can_explode(b"^%s*x") && !can_explode(b"%*%+x*"));
    }

    #[test]
    fn deep_recursion_is_given_up() {
        assert_eq!(found(&"a".repeat(1000), &"a?".repeat(500)), Err(PatternError::TooComplex));
    }

    /// LuaJIT's own answer: start, end and captures as text.
    fn luajit(lua: &mlua::Lua, subject: &str, pattern: &str) -> Option<String> {
        let find: mlua::Function = lua
            .load("return function(s, p) local ok, r = pcall(function() return { s:find(p) } end) if not ok then return nil end \
                   for i = 1, #r do r[i] = tostring(r[i]) end return table.concat(r, '|') end")
            .eval()
            .unwrap();
        find.call((subject, pattern)).unwrap()
    }

    fn ours(subject: &str, pattern: &str) -> Option<String> {
        let found = found(subject, pattern).ok()?;
        let Some(found) = found else { return Some("nil".to_owned()) };
        let mut parts = vec![(found.start + 1).to_string(), found.end.to_string()];
        parts.extend(found.captures.iter().map(|capture| match capture {
            Capture::Span(start, end) => subject[*start..*end].to_owned(),
            Capture::Position(at) => at.to_string(),
        }));
        Some(parts.join("|"))
    }

    proptest! {
        #[test]
        fn results_are_those_of_luajit(subject in "[abc() .]{0,12}", pattern in r"\^?([abc.]|%[awsbf1.]|\[\^?[ab-c%]{1,3}\]|\(|\)|[*+?-]|%b\(\)|%f\[a\]|\(\)){0,7}\$?") {
            // LuaJIT searches text without magic characters plainly; such text never comes here.
            prop_assume!(pattern.contains(['^', '$', '*', '+', '?', '.', '(', '[', '%', '-']));
            let lua = mlua::Lua::new();
            let theirs = luajit(&lua, &subject, &pattern);
            let mine = ours(&subject, &pattern);
            // An empty answer of `find` is `nil`, which the concatenation shows as nothing.
            let theirs = theirs.map(|text| if text.is_empty() { "nil".to_owned() } else { text });
            prop_assert_eq!(mine, theirs, "{:?} in {:?}", pattern, subject);
        }
    }
}
