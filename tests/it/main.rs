//! Tests of the binary as a user meets it, a file per theme.

#![expect(clippy::unwrap_used, reason = "a failed step fails the test")]
#![expect(clippy::print_stderr, reason = "a test says why it is skipped")]
#![expect(unreachable_pub, reason = "the helpers have no crate around them")]

mod api;
mod boot;
mod chaos;
mod check;
mod cli;
mod clients;
mod coexistence;
mod compose;
mod config;
mod containers;
mod copy;
mod crash;
mod display;
mod endurance;
mod exhaustion;
mod faults;
mod files;
mod firewalls;
mod foreground;
mod healing;
mod history;
mod images;
mod isolation;
mod keys;
mod limits;
mod network;
mod oneoff;
mod plan_file;
mod recovery;
mod repair;
mod rollout;
mod servers;
mod spec;
mod stacks;
mod support;
mod up;
mod verbs;
mod websocket;
