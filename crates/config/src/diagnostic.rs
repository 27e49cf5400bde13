//! What is wrong with a configuration, where, and how to mend it.
//!
//! A [`Report`] collects everything found in one reading. Its text begins each entry with `FILE:LINE:COLUMN: error: …`, so
//! that editors can jump there, shows the line with a mark below the place, and ends with `Reconfigure failed.` when there
//! is an error: scripts written for Momentum look for that line.

use crate::source::{Sources, Span};
use std::fmt::{self, Write as _};
use std::sync::Arc;

/// Beyond so many errors reading stops: the rest would be consequences.
pub(crate) const ERRORS_MAX: usize = 100;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Worth knowing; nothing is wrong.
    Info,
    /// The configuration loads, but probably does not do what was meant.
    Warning,
    /// The configuration does not load.
    Error,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Severity::Info => "info",
            Severity::Warning => "warning",
            Severity::Error => "error",
        })
    }
}

/// One finding. Without a place (`line` 0) it is about the configuration as a whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    pub severity: Severity,
    /// Name of the file as given.
    pub file: Arc<str>,
    /// Counted from 1; 0: no place.
    pub line: u32,
    /// Counted from 1, in bytes.
    pub column: u32,
    /// Bytes of the file that it is about.
    pub span: std::ops::Range<usize>,
    pub message: String,
    /// How to mend it.
    pub help: Option<String>,
    /// The line it stands in, made printable.
    source_line: String,
    /// Characters before the mark and length of the mark, in `source_line`.
    mark: (usize, usize),
}

impl Diagnostic {
    /// A finding at a place.
    pub(crate) fn at(sources: &Sources, severity: Severity, span: Span, message: impl Into<String>) -> Diagnostic {
        let source = sources.get(span.file);
        let (line, column) = source.position(span.start);
        let (source_line, mark) = window(source.line(line), column as usize - 1, (span.end - span.start) as usize);
        Diagnostic {
            severity,
            file: source.name.clone(),
            line,
            column,
            span: span.range(),
            message: message.into(),
            help: None,
            source_line,
            mark,
        }
    }

    /// A finding without a place.
    pub(crate) fn general(severity: Severity, file: &str, message: impl Into<String>) -> Diagnostic {
        Diagnostic {
            severity,
            file: Arc::from(file),
            line: 0,
            column: 0,
            span: 0..0,
            message: message.into(),
            help: None,
            source_line: String::new(),
            mark: (0, 0),
        }
    }

    pub(crate) fn with_help(mut self, help: impl Into<String>) -> Diagnostic {
        self.help = Some(help.into());
        self
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.line == 0 {
            let colon = if self.file.is_empty() { "" } else { ": " };
            writeln!(f, "{}{colon}{}: {}", self.file, self.severity, self.message)?;
        } else {
            writeln!(f, "{}:{}:{}: {}: {}", self.file, self.line, self.column, self.severity, self.message)?;
            let number = self.line.to_string();
            let gutter = " ".repeat(number.len());
            writeln!(f, "{gutter} |")?;
            writeln!(f, "{number} | {}", self.source_line)?;
            writeln!(f, "{gutter} | {}{}", " ".repeat(self.mark.0), "^".repeat(self.mark.1.max(1)))?;
        }
        match &self.help {
            Some(help) => writeln!(f, "  = help: {}", help.replace('\n', "\n          ")),
            None => Ok(()),
        }
    }
}

/// Everything found in one reading, in the order of reading.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    diagnostics: Vec<Diagnostic>,
}

impl Report {
    pub(crate) fn push(&mut self, diagnostic: Diagnostic) {
        self.diagnostics.push(diagnostic);
    }

    pub(crate) fn extend(&mut self, other: impl IntoIterator<Item = Diagnostic>) {
        self.diagnostics.extend(other);
    }

    /// A report with a single error that has no place, such as an unreadable main file.
    pub fn single(file: &str, message: impl Into<String>) -> Report {
        Report { diagnostics: vec![Diagnostic::general(Severity::Error, file, message)] }
    }

    /// All findings.
    pub fn diagnostics(&self) -> &[Diagnostic] {
        &self.diagnostics
    }

    /// Findings of one severity.
    pub fn of(&self, severity: Severity) -> impl Iterator<Item = &Diagnostic> {
        self.diagnostics.iter().filter(move |d| d.severity == severity)
    }

    /// Whether the configuration cannot be used.
    pub fn has_errors(&self) -> bool {
        self.diagnostics.iter().any(|d| d.severity == Severity::Error)
    }

    /// Nothing was found.
    pub fn is_empty(&self) -> bool {
        self.diagnostics.is_empty()
    }

    pub(crate) fn error_count(&self) -> usize {
        self.of(Severity::Error).count()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for diagnostic in &self.diagnostics {
            write!(f, "{diagnostic}")?;
        }
        if self.has_errors() {
            f.write_str("Reconfigure failed.\n")?;
        }
        Ok(())
    }
}

impl std::error::Error for Report {}

/// `, did you mean …`: the names nearest to `word`, best first, at most three; empty when none is near.
pub(crate) fn nearest<'a>(word: &str, names: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let wanted = word.to_ascii_lowercase();
    let mut found: Vec<(f64, &str)> = names
        .map(|name| (strsim::jaro_winkler(&wanted, &name.to_ascii_lowercase()), name))
        .filter(|(score, name)| {
            *score > 0.86 && strsim::levenshtein(&wanted, &name.to_ascii_lowercase()) <= 2 + wanted.len() / 4
        })
        .collect();
    found.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(b.1)));
    found.dedup_by(|a, b| a.1 == b.1);
    found.into_iter().take(3).map(|(_, name)| name).collect()
}

/// The question to put to the operator, if any name is near.
pub(crate) fn did_you_mean<'a>(word: &str, names: impl Iterator<Item = &'a str>) -> Option<String> {
    let near = nearest(word, names);
    match near.as_slice() {
        [] => None,
        [one] => Some(format!("did you mean `{one}`?")),
        many => Some(format!("did you mean one of `{}`?", many.join("`, `"))),
    }
}

/// The part of a line around the mark, with controls made visible, and the mark's place in it, both in characters.
fn window(line: &[u8], column: usize, length: usize) -> (String, (usize, usize)) {
    const BEFORE: usize = 60;
    const WIDTH: usize = 110;
    let column = column.min(line.len());
    let mut start = column.saturating_sub(BEFORE);
    if column < WIDTH / 2 {
        start = 0;
    }
    while start > 0 && line.get(start).is_some_and(|b| b & 0xC0 == 0x80) {
        start -= 1; // never begin inside a character
    }
    let end = (start + WIDTH).min(line.len());
    let head = printable(&line[start..column]);
    let marked = printable(&line[column..(column + length).clamp(column, end.max(column))]);
    let tail_from = (column + length).clamp(column, end.max(column));
    let tail = printable(&line[tail_from..end.max(tail_from)]);
    let dots = if start > 0 { "…" } else { "" };
    let mut text = String::from(dots);
    let _ = write!(text, "{head}{marked}{tail}");
    if end < line.len() {
        text.push('…');
    }
    (text, (dots.chars().count() + head.chars().count(), marked.chars().count()))
}

fn printable(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).chars().map(|c| if c == '\t' || c.is_control() { ' ' } else { c }).collect()
}
