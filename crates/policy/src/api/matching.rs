//! Patterns over octets: what `msg:body_match`, `msg:raw_match`, their `_replace` and those of parts have in common.
//!
//! A match sees octets, no characters, and nothing is decoded. Big subjects are searched outside of the state. What is searched, and
//! where the outcome goes, is the business of the tables.

use super::pcre::{self, Problem, Spans};
use crate::registry::{ApiError, Ctx, Param, Ret, Return, Type, param, returns};
use bytes::Bytes;
use mlua::Value;
use pcre2::bytes::Regex;
use std::sync::Arc;

pub(crate) const PATTERN: Param = param("pattern", Type::String, "a Perl pattern, as `msys.pcre.match` takes it");
pub(crate) const REPLACEMENT: Param =
    param("replacement", Type::String, "with `$1`, `${name}` and `$0`, as `msys.pcre.replace` takes it");

pub(crate) const MATCH_RETURNS: &[Return] = &[
    returns("table|boolean|nil", "the match as `msys.pcre.match` gives it; false when there is none; nil on an error"),
    returns("string|nil", "what is wrong"),
    returns("integer|nil", "its place in the pattern, or its number"),
];
pub(crate) const REPLACE_RETURNS: &[Return] = &[
    returns("boolean|nil", "whether something changed; nil on an error"),
    returns("string|nil", "what is wrong"),
    returns("integer|nil", "its place in the pattern, or its number"),
];

/// What a pattern looks at. Of the whole every match is told, of a body the first.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Range {
    Body,
    Whole,
}

/// How many matches `raw_match` lists.
const MATCHES_MAX: usize = 10_000;

/// The match as a table, or false.
pub(crate) async fn find(
    ctx: &Ctx<'static>,
    regex: &Arc<Regex>,
    subject: &Bytes,
    range: Range,
) -> Result<Ret, ApiError> {
    let work = {
        let (regex, subject) = (regex.clone(), subject.clone());
        move || match range {
            Range::Body => pcre::search(&regex, &subject, 0).map(Vec::from_iter),
            Range::Whole => pcre::search_all(&regex, &subject, MATCHES_MAX),
        }
    };
    let matches: Vec<Spans> = match pcre::run(subject.len(), work).await {
        Ok(matches) => matches,
        Err(problem) => return pcre::failed(ctx, &problem),
    };
    let Some(first) = matches.first() else { return Ok(Ret::FALSE) };
    let table = pcre::match_table(ctx, regex, subject, first)?;
    if range == Range::Whole {
        let all = ctx.lua.create_table_with_capacity(matches.len(), 0)?;
        for (at, spans) in matches.iter().enumerate() {
            all.raw_set(at + 1, pcre::match_table(ctx, regex, subject, spans)?)?;
        }
        table.raw_set("all", all)?;
    }
    Ok(Ret::One(Value::Table(table)))
}

/// The subject with every match replaced and without the `mark` that it ends in; `None` where nothing changes by that.
pub(crate) async fn replace(
    regex: Arc<Regex>,
    subject: &Bytes,
    template: Vec<u8>,
    mark: &'static [u8],
) -> Result<Option<Bytes>, Problem> {
    let subject = subject.clone();
    let size = subject.len();
    let work = move || {
        let changed = pcre::substitute(&regex, &subject, &template, usize::MAX)?;
        let changed = changed.map(|changed| without_mark(changed, mark));
        Ok(changed.filter(|changed| changed[..] != subject[..subject.len() - mark.len()]).map(Bytes::from))
    };
    pcre::run(size, work).await
}

/// Takes the mark off where it is still last; otherwise the content gets the line end that it needs.
fn without_mark(mut content: Vec<u8>, mark: &[u8]) -> Vec<u8> {
    if mark.is_empty() {
        return content;
    }
    if content == mark || content.strip_suffix(mark).is_some_and(|before| before.ends_with(b"\r\n")) {
        content.truncate(content.len() - mark.len());
    } else if !content.is_empty() && !content.ends_with(b"\r\n") {
        content.extend_from_slice(b"\r\n");
    }
    content
}
