//! Tar archives: reading their headers, unpacking a layer or files, and packing real files.
//!
//! Both ends of a copy use it, the store of images and the command line; image archives are `images::archive`'s.

pub(crate) mod apply;
pub(crate) mod compression;
#[cfg(test)]
mod hostile;
mod pack;
pub(crate) mod read;

pub use apply::{ApplyError, Extraction, Limits, extract};
pub use pack::Packer;
