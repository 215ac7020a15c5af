//! Where text came from and what is wrong with it: source files, spans, messages with excerpts.

mod source;

pub use source::{FileId, SourceMap, Span};
