//! The files a configuration was read from, and places in them.
//!
//! Text is kept as bytes, exactly as read: writing a file back must leave untouched parts alone, whatever their encoding.
//! A `Span` is three small integers; a `Place` is a span made readable.

use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A file may not be larger; a configuration never is, and offsets are 32 bits.
pub(crate) const FILE_SIZE_MAX: u64 = 64 * 1024 * 1024;

/// Index into [`Sources`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct FileId(pub u32);

/// Bytes `start..end` of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    pub(crate) file: FileId,
    pub(crate) start: u32,
    pub(crate) end: u32,
}

impl Span {
    pub(crate) fn new(file: FileId, start: usize, end: usize) -> Span {
        Span { file, start: start as u32, end: end as u32 }
    }

    /// From the start of `self` to the end of `other`.
    pub(crate) fn to(self, other: Span) -> Span {
        Span { file: self.file, start: self.start, end: other.end.max(self.start) }
    }

    /// Byte offsets within the file.
    pub fn range(&self) -> std::ops::Range<usize> {
        self.start as usize..self.end as usize
    }
}

/// Where something stands in a configuration: file, line and column, both counted from 1, the column in bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    pub file: Arc<str>,
    pub line: u32,
    pub column: u32,
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}:{}", self.file, self.line, self.column)
    }
}

/// One file of the configuration.
#[derive(Clone, Debug)]
pub(crate) struct Source {
    /// As shown in messages.
    pub name: Arc<str>,
    /// Where it lies; `None` for text handed in by a program and for `persist://`.
    pub path: Option<PathBuf>,
    pub text: Arc<[u8]>,
    /// Online changes may be saved into it.
    pub writable: bool,
    line_starts: Arc<[u32]>,
}

impl Source {
    pub(crate) fn new(name: &str, path: Option<&Path>, text: &[u8], writable: bool) -> Source {
        let mut line_starts = vec![0u32];
        line_starts.extend(text.iter().enumerate().filter(|(_, b)| **b == b'\n').map(|(at, _)| at as u32 + 1));
        Source {
            name: Arc::from(name),
            path: path.map(Path::to_path_buf),
            text: Arc::from(text),
            writable,
            line_starts: line_starts.into(),
        }
    }

    /// Line (from 1) and column (from 1, bytes) of an offset.
    pub(crate) fn position(&self, offset: u32) -> (u32, u32) {
        let line = self.line_starts.partition_point(|start| *start <= offset);
        let start = self.line_starts[line - 1]; // the first entry is 0, so `line` is at least 1
        (line as u32, offset - start + 1)
    }

    /// The text of a line (from 1) without its end.
    pub(crate) fn line(&self, line: u32) -> &[u8] {
        let start = self.line_starts[line as usize - 1] as usize;
        let end = self.line_starts.get(line as usize).map_or(self.text.len(), |next| *next as usize);
        let text = &self.text[start..end];
        text.strip_suffix(b"\n").map_or(text, |t| t.strip_suffix(b"\r").unwrap_or(t))
    }
}

/// All files of one configuration, in the order in which they were read.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sources {
    files: Vec<Source>,
}

impl Sources {
    pub(crate) fn add(&mut self, source: Source) -> FileId {
        self.files.push(source);
        FileId(self.files.len() as u32 - 1)
    }

    pub(crate) fn get(&self, id: FileId) -> &Source {
        &self.files[id.0 as usize]
    }

    pub(crate) fn get_mut(&mut self, id: FileId) -> &mut Source {
        &mut self.files[id.0 as usize]
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (FileId, &Source)> {
        self.files.iter().enumerate().map(|(at, s)| (FileId(at as u32), s))
    }

    pub(crate) fn place(&self, span: Span) -> Place {
        let source = self.get(span.file);
        let (line, column) = source.position(span.start);
        Place { file: source.name.clone(), line, column }
    }
}
