//! The display of a change while it is carried out.
//!
//! A [`Board`] follows the engine's progress lines; `live` draws it in place on a terminal, `lines` tells
//! it line by line elsewhere. Both are pure: the clock and the terminal's size are arguments.

mod board;
mod lines;
mod live;
mod words;

pub(crate) use board::Board;
pub(crate) use lines::Narrator;
pub(crate) use live::{Frame, Screen};
