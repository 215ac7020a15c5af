//! What verbs print: plain text, tables, templates.

pub(crate) mod printer;
