//! What verbs print: plain text, tables, templates.

pub(crate) mod listing;
pub(crate) mod printer;
pub(crate) mod size;
pub(crate) mod table;
pub(crate) mod template;
pub(crate) mod time;
