//! Logs of several containers on one output: who wrote a line, and in which order lines are shown.

mod assemble;
mod fetch;
mod frames;
mod merge;
mod prefix;

pub(crate) use assemble::Line;
pub(crate) use fetch::{Message, Selection, all, follow};
pub(crate) use merge::by_time;
pub(crate) use prefix::{Printer, Style};
