//! A merged document, section by section: each file reads one section's keys, every one of them, and
//! reports what is unknown, mistyped or not enforced. Links between sections are checked by `validate`.

mod config;
mod deploy;
mod healthcheck;
mod network;
mod process;
mod reader;
mod resources;
mod security;
mod service;
mod service_network;
mod storage;
mod volume;

pub(crate) use config::{FileSource, file_sources};
pub(crate) use network::networks;
pub(crate) use reader::{Fields, Place, Report, hinted};
pub(crate) use service::{EnvFile, Extension, Loose, extension, service};
pub(crate) use volume::volumes;
