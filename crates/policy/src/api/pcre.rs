//! `msys.pcre`: Perl patterns on PCRE2.
//!
//! Patterns are compiled once and kept; every one carries a match limit, so that no pattern and no subject can hold the engine
//! up. A subject or pattern that is not UTF-8 is matched as bytes. Big subjects are searched outside the state.

use crate::registry::{
    ApiError, Arg, Args, Call, Ctx, FUNCTION, Function, Ret, Type, bytes_of, param, returns, type_name, unlisted,
};
use bytes::Bytes;
use mlua::{Table, Value};
use parking_lot::Mutex;
use pcre2::bytes::{CaptureLocations, Regex, RegexBuilder};
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

pub static MATCH: Function = Function {
    name: "msys.pcre.match",
    package: "msys.pcre",
    since: "3.0",
    params: &[param("str", Type::String, "the subject"), param("pattern", Type::String, "the pattern")],
    returns: MATCH_RETURNS,
    doc: "The first match: `[0]` is all of it, `[1]` and on its groups; named groups stand under their names too.",
    page: "4/lua/ref-msys-pcre-match.md",
    example: r#"
        require("msys.pcre")
        local match = msys.pcre.match(msg:mailfrom(), "^(?<user>[^@]*)@(.*)$")
        if match then print(match.user, match[2]) end
    "#,
    call: Call::Async(|ctx, args| Box::pin(find(ctx, args))),
    aliases: &["msys.pcre_match"],
    ..FUNCTION
};

pub static REPLACE: Function = Function {
    name: "msys.pcre.replace",
    package: "msys.pcre",
    since: "3.0",
    params: &[
        param("subject", Type::String, "the subject"),
        param("pattern", Type::String, "the pattern"),
        param(
            "replacement",
            Type::Any,
            "a string with `$1`, `${name}`, `\\1`, or a function that is called with each match",
        ),
        unlisted("limit", Type::Integer, "how many at most; -1 or nothing: all"),
    ],
    returns: STRING_RETURNS,
    doc: "The subject with its matches replaced.",
    page: "4/lua/ref-msys-pcre-replace.md",
    raises: "when the function of replacement gives neither string, number, nil nor false, what it raises, and when the result would be too large",
    example: r#"
        require("msys.pcre")
        local plain = msys.pcre.replace("a  b   c", " +", " ")
    "#,
    call: Call::Async(|ctx, args| Box::pin(replace(ctx, args))),
    ..FUNCTION
};

pub static SPLIT: Function = Function {
    name: "msys.pcre.split",
    package: "msys.pcre",
    since: "3.0",
    params: &[
        param("subject", Type::String, "the subject"),
        param("pattern", Type::String, "the separator"),
        unlisted("limit", Type::Integer, "how many pieces at most; the last has the rest"),
    ],
    returns: MATCH_RETURNS,
    doc: "The pieces between the matches; empty pieces never appear.",
    page: "4/lua/ref-msys-pcre-split.md",
    example: r#"
        require("msys.pcre")
        for _, word in ipairs(msys.pcre.split("one, two", ",\\s*")) do print(word) end
    "#,
    call: Call::Async(|ctx, args| Box::pin(split(ctx, args))),
    ..FUNCTION
};

const MATCH_RETURNS: &[crate::registry::Return] = &[
    returns("table|nil", "nil when nothing matches or on an error"),
    returns("string|nil", "what is wrong"),
    returns("integer|nil", "its place in the pattern, or its number"),
];
const STRING_RETURNS: &[crate::registry::Return] = &[
    returns("string|nil", "nil on an error"),
    returns("string|nil", "what is wrong"),
    returns("integer|nil", "its place in the pattern, or its number"),
];

/// Subjects above this are searched by a thread that may take its time.
const BIG: usize = 64 << 10;
const PATTERN_SIZE_MAX: usize = 64 << 10;
const HEAP_LIMIT_KIB: u32 = 20 << 10;
/// `replace` never makes more than this.
const RESULT_SIZE_MAX: usize = 256 << 20;

/// Compiled patterns, the oldest going first when there are too many.
pub(crate) struct Cache {
    patterns: Mutex<Patterns>,
    size: usize,
    match_limit: u32,
}

/// A pattern, and whether it is matched as UTF-8.
type Key = (Vec<u8>, bool);

#[derive(Default)]
struct Patterns {
    compiled: HashMap<Key, Arc<Regex>>,
    order: VecDeque<Key>,
}

/// What a failed function returns after nil: text and number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Problem {
    pub text: String,
    pub number: i64,
}

impl Cache {
    pub(crate) fn new(size: usize, match_limit: u32) -> Cache {
        Cache { patterns: Mutex::default(), size: size.max(1), match_limit }
    }

    /// The compiled pattern for a subject that is UTF-8 or not.
    pub(crate) fn get(&self, pattern: &[u8], subject_is_utf8: bool) -> Result<Arc<Regex>, Problem> {
        if pattern.is_empty() {
            return Err(Problem { text: "an empty pattern was provided".to_owned(), number: 0 });
        }
        if pattern.len() > PATTERN_SIZE_MAX {
            return Err(Problem { text: format!("the pattern is longer than {PATTERN_SIZE_MAX} octets"), number: 0 });
        }
        // The binding takes patterns as text; octets that are no UTF-8 are written as escapes, for a match of bytes.
        let (text, utf8) = match std::str::from_utf8(pattern) {
            Ok(text) if subject_is_utf8 || text.is_ascii() => (text.to_owned(), subject_is_utf8),
            _ => (as_escapes(pattern), false),
        };
        let key = (pattern.to_vec(), utf8);
        if let Some(regex) = self.patterns.lock().compiled.get(&key) {
            return Ok(regex.clone());
        }
        let limits = format!("(*LIMIT_MATCH={})(*LIMIT_HEAP={HEAP_LIMIT_KIB})", self.match_limit);
        let regex = RegexBuilder::new()
            .utf(utf8)
            .ucp(utf8)
            .jit_if_available(true)
            .max_jit_stack_size(Some(1 << 20))
            .build(&format!("{limits}{text}"))
            .map_err(|error| {
                let offset = error.offset().unwrap_or(0).saturating_sub(limits.len());
                let text = error.to_string();
                let text = text.rsplit_once(": ").map_or(text.clone(), |(_, words)| words.to_owned());
                Problem { text, number: i64::try_from(offset).unwrap_or(0) }
            })?;
        let regex = Arc::new(regex);
        let Patterns { compiled, order } = &mut *self.patterns.lock();
        if compiled.len() >= self.size
            && let Some(oldest) = order.pop_front()
        {
            compiled.remove(&oldest);
        }
        if compiled.insert(key.clone(), regex.clone()).is_none() {
            order.push_back(key);
        }
        Ok(regex)
    }
}

fn as_escapes(pattern: &[u8]) -> String {
    let mut text = String::new();
    for &byte in pattern {
        if byte < 128 { text.push(byte as char) } else { text.push_str(&format!("\\x{{{byte:02x}}}")) }
    }
    text
}

fn problem(error: &pcre2::Error) -> Problem {
    // -47 match, -53 depth, -63 heap, -46 JIT stack: all of them mean that the search was given up.
    if [-46, -47, -53, -63].contains(&error.code()) {
        return Problem { text: "match limit exceeded".to_owned(), number: -8 };
    }
    Problem { text: error.to_string(), number: i64::from(error.code()) }
}

/// The spans of one match.
pub(crate) type Spans = Vec<Option<(usize, usize)>>;

/// The first match at or after `from`.
pub(crate) fn search(regex: &Regex, subject: &[u8], from: usize) -> Result<Option<Spans>, Problem> {
    let mut locations = regex.capture_locations();
    match regex.captures_read_at(&mut locations, subject, from) {
        Ok(None) => Ok(None),
        Ok(Some(_)) => Ok(Some(spans_of(&locations))),
        Err(error) => Err(problem(&error)),
    }
}

fn spans_of(locations: &CaptureLocations) -> Spans {
    (0..locations.len()).map(|group| locations.get(group)).collect()
}

/// The matches in order; after an empty one the search goes on one character later. What a match takes is reused for the next.
struct Matches<'a> {
    regex: &'a Regex,
    subject: &'a [u8],
    locations: CaptureLocations,
    from: usize,
    last_end: Option<usize>,
}

impl<'a> Matches<'a> {
    fn new(regex: &'a Regex, subject: &'a [u8]) -> Matches<'a> {
        Matches { regex, subject, locations: regex.capture_locations(), from: 0, last_end: None }
    }

    /// Moves on to the next match, and gives its place; its groups are in `locations`.
    fn next(&mut self) -> Result<Option<(usize, usize)>, Problem> {
        while self.from <= self.subject.len() {
            let found = self.regex.captures_read_at(&mut self.locations, self.subject, self.from);
            if found.map_err(|error| problem(&error))?.is_none() {
                break;
            }
            let (start, end) = self.locations.get(0).unwrap_or((self.subject.len(), self.subject.len()));
            if start == end {
                self.from = next_character(self.subject, end);
                if self.last_end == Some(end) {
                    continue; // An empty match right after a match is none of its own.
                }
            } else {
                self.from = end;
            }
            self.last_end = Some(end);
            return Ok(Some((start, end)));
        }
        self.from = self.subject.len() + 1;
        Ok(None)
    }
}

/// Every match, at most `limit`.
pub(crate) fn search_all(regex: &Regex, subject: &[u8], limit: usize) -> Result<Vec<Spans>, Problem> {
    let mut matches = Matches::new(regex, subject);
    let mut all = Vec::new();
    while all.len() < limit && matches.next()?.is_some() {
        all.push(spans_of(&matches.locations));
    }
    Ok(all)
}

/// The subject with at most `limit` matches replaced by `template`; `None` where nothing matches. Nothing but the result is held,
/// however many matches there are.
pub(crate) fn substitute(
    regex: &Regex,
    subject: &[u8],
    template: &[u8],
    limit: usize,
) -> Result<Option<Vec<u8>>, Problem> {
    let mut matches = Matches::new(regex, subject);
    let mut out = Vec::new();
    let (mut at, mut count) = (0, 0);
    while count < limit
        && let Some((start, end)) = matches.next()?
    {
        if count == 0 {
            out.reserve(subject.len());
        }
        count += 1;
        out.extend_from_slice(&subject[at..start]);
        expand(&mut out, template, regex, subject, |group| matches.locations.get(group));
        if out.len() > RESULT_SIZE_MAX {
            return Err(Problem { text: format!("the result is larger than {RESULT_SIZE_MAX} octets"), number: 0 });
        }
        at = end;
    }
    if count == 0 {
        return Ok(None);
    }
    out.extend_from_slice(&subject[at..]);
    Ok(Some(out))
}

fn next_character(subject: &[u8], at: usize) -> usize {
    let utf8 = |byte: &u8| byte & 0xC0 == 0x80;
    at + 1 + subject.get(at + 1..).map_or(0, |rest| rest.iter().take(3).take_while(|byte| utf8(byte)).count())
}

/// Runs a search, for a big subject on another thread.
pub(crate) async fn run<R: Send + 'static>(
    size: usize,
    work: impl FnOnce() -> Result<R, Problem> + Send + 'static,
) -> Result<R, Problem> {
    if size <= BIG {
        return work();
    }
    let outcome = tokio::task::spawn_blocking(work).await;
    outcome.unwrap_or_else(|error| Err(Problem { text: error.to_string(), number: 0 }))
}

/// `nil, text, number`.
pub(crate) fn failed(ctx: &Ctx<'_>, problem: &Problem) -> Result<Ret, ApiError> {
    Ok(Ret::Many(vec![Value::Nil, ctx.bytes(problem.text.as_bytes())?, Value::Integer(problem.number)]))
}

/// The table of a match.
pub(crate) fn match_table(ctx: &Ctx<'_>, regex: &Regex, subject: &[u8], spans: &Spans) -> Result<Table, ApiError> {
    let table = ctx.lua.create_table()?;
    let text = |span: Option<(usize, usize)>| span.map_or(&b""[..], |(start, end)| &subject[start..end]);
    let last = spans.iter().rposition(Option::is_some).unwrap_or(0);
    for (group, span) in spans.iter().enumerate().take(last + 1) {
        table.raw_set(group, ctx.lua.create_string(text(*span))?)?;
    }
    for (group, name) in regex.capture_names().iter().enumerate() {
        if let Some(name) = name {
            let span = spans.get(group).copied().flatten();
            table.raw_set(name.as_str(), ctx.lua.create_string(text(span))?)?;
        }
    }
    Ok(table)
}

async fn find(ctx: Ctx<'static>, args: Args) -> Result<Ret, ApiError> {
    let (subject, pattern) = (Arc::new(args.bytes(0)?.into_owned()), args.bytes(1)?.into_owned());
    let regex = match ctx.host.patterns.get(&pattern, std::str::from_utf8(&subject).is_ok()) {
        Ok(regex) => regex,
        Err(problem) => return failed(&ctx, &problem),
    };
    let work = {
        let (regex, subject) = (regex.clone(), subject.clone());
        move || search(&regex, &subject, 0)
    };
    match run(subject.len(), work).await {
        Ok(Some(spans)) => Ok(Ret::One(Value::Table(match_table(&ctx, &regex, &subject, &spans)?))),
        Ok(None) => Ok(Ret::NIL),
        Err(problem) => failed(&ctx, &problem),
    }
}

/// -1 and nothing mean all.
fn limit(args: &Args, at: usize) -> Result<usize, ApiError> {
    if args.is_nil(at) {
        return Ok(usize::MAX);
    }
    Ok(usize::try_from(args.integer(at)?).unwrap_or(usize::MAX))
}

async fn replace(ctx: Ctx<'static>, args: Args) -> Result<Ret, ApiError> {
    let (subject, pattern, limit) =
        (Arc::new(args.bytes(0)?.into_owned()), args.bytes(1)?.into_owned(), limit(&args, 3)?);
    let replacement = match args.arg(2) {
        Arg::Value(Value::Function(function)) => Err(function.clone()),
        other => match other.as_bytes() {
            Some(bytes) => Ok(bytes.into_owned()),
            None => return Err(args.bad(2, format!("string or function expected, got {}", other.type_name()))),
        },
    };
    let regex = match ctx.host.patterns.get(&pattern, std::str::from_utf8(&subject).is_ok()) {
        Ok(regex) => regex,
        Err(problem) => return failed(&ctx, &problem),
    };
    let function = match replacement {
        Err(function) => function,
        Ok(template) => {
            let size = subject.len();
            let work = move || match substitute(&regex, &subject, &template, limit)? {
                Some(result) => Ok(Bytes::from(result)),
                None => Ok(Bytes::from(Arc::unwrap_or_clone(subject))),
            };
            return match run(size, work).await {
                Ok(result) => Ok(Ret::Bytes(result)),
                Err(problem) => failed(&ctx, &problem),
            };
        }
    };
    let work = {
        let (regex, subject) = (regex.clone(), subject.clone());
        move || search_all(&regex, &subject, limit)
    };
    let matches = match run(subject.len(), work).await {
        Ok(matches) => matches,
        Err(problem) => return failed(&ctx, &problem),
    };
    let mut out = Vec::with_capacity(subject.len());
    let mut at = 0;
    for spans in &matches {
        let (start, end) = spans[0].unwrap_or((at, at));
        out.extend_from_slice(&subject[at..start]);
        let table = match_table(&ctx, &regex, &subject, spans)?;
        match function.call_async::<Value>(table).await? {
            Value::Nil | Value::Boolean(false) => out.extend_from_slice(&subject[start..end]),
            value @ (Value::String(_) | Value::Integer(_) | Value::Number(_)) => {
                out.extend_from_slice(&bytes_of(&value).unwrap_or_default());
            }
            other => return Err(ApiError::Raise(format!("invalid replacement value (a {})", type_name(&other)))),
        }
        if out.len() > RESULT_SIZE_MAX {
            return Err(ctx.raise(format_args!("the result is larger than {RESULT_SIZE_MAX} octets")));
        }
        at = end;
    }
    out.extend_from_slice(&subject[at..]);
    ctx.string(&out)
}

/// A replacement string: `$1 ${1} ${name} \1`; `\\` and `\$` are literal; any other lone `$` or `\` vanishes.
fn expand(
    out: &mut Vec<u8>,
    template: &[u8],
    regex: &Regex,
    subject: &[u8],
    span: impl Fn(usize) -> Option<(usize, usize)>,
) {
    let number = |text: &[u8]| std::str::from_utf8(text).ok().and_then(|text| text.parse::<usize>().ok());
    let named =
        |name: &[u8]| regex.capture_names().iter().position(|known| known.as_deref().map(str::as_bytes) == Some(name));
    let put = |out: &mut Vec<u8>, group: Option<usize>| {
        if let Some((start, end)) = group.and_then(&span) {
            out.extend_from_slice(&subject[start..end]);
        }
    };
    let mut at = 0;
    while at < template.len() {
        let (byte, rest) = (template[at], &template[at + 1..]);
        let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        at += 1;
        match (byte, rest.first()) {
            (b'\\', Some(literal @ (b'$' | b'\\'))) => {
                out.push(*literal);
                at += 1;
            }
            (b'$' | b'\\', Some(b'0'..=b'9')) => {
                put(out, number(&rest[..digits]));
                at += digits;
            }
            (b'$', Some(b'{')) => {
                if let Some(close) = rest.iter().position(|byte| *byte == b'}') {
                    let name = &rest[1..close];
                    put(out, number(name).or_else(|| named(name)));
                    at += close + 1;
                }
            }
            (b'$' | b'\\', _) => {}
            _ => out.push(byte),
        }
    }
}

async fn split(ctx: Ctx<'static>, args: Args) -> Result<Ret, ApiError> {
    let (subject, pattern) = (Arc::new(args.bytes(0)?.into_owned()), args.bytes(1)?.into_owned());
    let limit = limit(&args, 2)?;
    let limit = if limit == 0 { usize::MAX } else { limit };
    let regex = match ctx.host.patterns.get(&pattern, std::str::from_utf8(&subject).is_ok()) {
        Ok(regex) => regex,
        Err(problem) => return failed(&ctx, &problem),
    };
    let work = {
        let (regex, subject) = (regex.clone(), subject.clone());
        move || search_all(&regex, &subject, usize::MAX)
    };
    let matches = match run(subject.len(), work).await {
        Ok(matches) => matches,
        Err(problem) => return failed(&ctx, &problem),
    };
    let mut pieces: Vec<&[u8]> = Vec::new();
    let mut at = 0;
    for spans in matches {
        let (start, end) = spans[0].unwrap_or((at, at));
        if pieces.len() + 1 >= limit {
            break;
        }
        if start > at {
            pieces.push(&subject[at..start]);
        }
        at = end;
    }
    if at < subject.len() {
        pieces.push(&subject[at..]);
    }
    ctx.strings(pieces)
}
