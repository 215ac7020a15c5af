//! Stacks on this machine: what is wanted is kept here, one loop each keeps it so.
//!
//! A request is merged into what is stored, planned, stored and carried out under the stack's turn; from then
//! on the loop looks whenever an event touches the stack. After a crash or a boot the same loop goes on.

mod apply;
mod at_work;
mod down;
mod error;
mod foreign;
mod heals;
mod history;
mod jobs;
mod keep;
mod merge;
mod oneoff;
mod remedy;
mod report;
mod revision;
mod services;
mod status;
mod turns;
mod view;
mod wait;

pub use error::StackError;
pub use keep::Stacks;
pub use services::ServiceVerb;
