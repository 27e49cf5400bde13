//! One finding of `check`: its place, what is wrong, what was probably meant, and the line it stands in.

use super::walk::Finding;
use crate::dialect::SyntaxError;
use std::path::{Path, PathBuf};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    pub file: PathBuf,
    /// From 1; 0 where the file as a whole is meant.
    pub line: usize,
    /// In octets, from 1.
    pub column: usize,
    pub severity: Severity,
    pub text: String,
    /// How to mend it.
    pub help: Option<String>,
    /// The script cannot be loaded. Other errors strike when their line is reached.
    pub prevents_loading: bool,
    /// The line it stands in, made printable.
    source_line: String,
    /// Characters before the mark and length of the mark, in `source_line`.
    mark: (usize, usize),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// It works here and is not documented to: only for those who ask.
    Note,
    /// It loads, but something will fail or never be called.
    Warning,
    /// It does not load, or raises an error whenever its line is reached.
    Error,
}

/// A longer line is cut around the mark.
const SHOWN_MAX: usize = 160;

impl Diagnostic {
    /// With the line of the source and a mark below it, on lines of its own.
    pub fn shown(&self) -> String {
        let mut text = format!("{}: {}\n", self.heading(), self.text);
        if self.line > 0 {
            let number = self.line.to_string();
            let gutter = " ".repeat(number.len());
            text.push_str(&format!("{gutter} |\n{number} | {}\n", self.source_line));
            text.push_str(&format!("{gutter} | {}{}\n", " ".repeat(self.mark.0), "^".repeat(self.mark.1.max(1))));
        }
        if let Some(help) = &self.help {
            text.push_str(&format!("  = help: {help}\n"));
        }
        text
    }

    pub(super) fn unreadable(path: &Path, error: &std::io::Error) -> Diagnostic {
        Diagnostic {
            file: path.to_owned(),
            line: 0,
            column: 0,
            severity: Severity::Error,
            text: format!("cannot be read: {error}"),
            help: None,
            prevents_loading: true,
            source_line: String::new(),
            mark: (0, 0),
        }
    }

    fn heading(&self) -> String {
        let word = match self.severity {
            Severity::Note => "note",
            Severity::Warning => "warning",
            Severity::Error => "error",
        };
        match self.line {
            0 => format!("{}: {word}", self.file.display()),
            line => format!("{}:{line}:{}: {word}", self.file.display(), self.column),
        }
    }
}

/// On one line.
impl std::fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.heading(), self.text)?;
        match &self.help {
            Some(help) => write!(f, "; {help}"),
            None => Ok(()),
        }
    }
}

/// What findings are made for.
pub(super) struct File<'a> {
    pub path: &'a Path,
    pub source: &'a [u8],
}

impl File<'_> {
    pub fn syntax_error(&self, error: &SyntaxError, help: Option<String>) -> Diagnostic {
        // The token at the place: a word as a whole, else one octet.
        let rest = self.line(error.line).get(error.column.saturating_sub(1)..).unwrap_or_default();
        let word = rest.iter().take_while(|byte| byte.is_ascii_alphanumeric() || **byte == b'_').count();
        let (source_line, mark) = self.printable(error.line, error.column, word.max(1));
        Diagnostic {
            file: self.path.to_owned(),
            line: error.line,
            column: error.column,
            severity: Severity::Error,
            text: error.text.clone(),
            help,
            prevents_loading: true,
            source_line,
            mark,
        }
    }

    pub fn finding(&self, finding: Finding) -> Diagnostic {
        let Finding { place, severity, text, help } = finding;
        let (source_line, mark) = self.printable(place.line, place.column, place.end.saturating_sub(place.start));
        Diagnostic {
            file: self.path.to_owned(),
            line: place.line,
            column: place.column,
            severity,
            text,
            help,
            prevents_loading: false,
            source_line,
            mark,
        }
    }

    fn line(&self, line: usize) -> &[u8] {
        let text = self.source.split(|byte| *byte == b'\n').nth(line.saturating_sub(1)).unwrap_or_default();
        text.strip_suffix(b"\r").unwrap_or(text)
    }

    /// A line without what would disturb a terminal, and where the mark goes.
    fn printable(&self, line: usize, column: usize, length: usize) -> (String, (usize, usize)) {
        let text = self.line(line);
        let column = column.saturating_sub(1).min(text.len());
        let marked = &text[column..(column + length).min(text.len())];
        let shown = |bytes: &[u8]| -> String {
            let text = String::from_utf8_lossy(bytes);
            text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
        };
        let (before, marked, after) = (shown(&text[..column]), shown(marked), shown(&text[column + marked.len()..]));
        let (start, width) = (before.chars().count(), marked.chars().count());
        let cut = start.saturating_sub(SHOWN_MAX / 2);
        let whole: String =
            before.chars().chain(marked.chars()).chain(after.chars()).skip(cut).take(SHOWN_MAX).collect();
        (whole, (start - cut, width.min(SHOWN_MAX / 2)))
    }
}
