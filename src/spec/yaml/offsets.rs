//! The parser counts characters, a [`Span`] counts bytes.

use saphyr_parser::Span as CharSpan;

use crate::diagnostic::{FileId, Span};

/// Where each character of a text begins.
pub(super) struct Offsets {
    file: FileId,
    /// Bytes before the first character: the length of a byte order mark.
    base: usize,
    len: usize,
    /// Empty when every character is one byte.
    starts: Vec<usize>,
}

impl Offsets {
    pub(super) fn new(file: FileId, base: usize, text: &str) -> Self {
        let starts = if text.is_ascii() {
            Vec::new()
        } else {
            text.char_indices().map(|(byte, _)| byte).collect()
        };
        Self { file, base, len: text.len(), starts }
    }

    pub(super) fn file(&self) -> FileId {
        self.file
    }

    pub(super) fn span(&self, span: CharSpan) -> Span {
        let start = self.byte(span.start.index());
        Span { file: self.file, start, end: self.byte(span.end.index()).max(start) }
    }

    pub(super) fn byte(&self, character: usize) -> usize {
        let byte = if self.starts.is_empty() {
            character
        } else {
            self.starts.get(character).copied().unwrap_or(self.len)
        };
        self.base + byte.min(self.len)
    }
}
