//! Where text came from and what is wrong with it: source files, spans, messages with excerpts.

mod json;
mod message;
mod source;
mod terminal;

pub use json::to_json;
pub use message::{Diagnostic, Label, Severity};
pub use source::{FileId, SourceMap, Span};
pub use terminal::{Colour, escape_controls, render};
