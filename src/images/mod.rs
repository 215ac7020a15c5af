//! References, store, archives, unpacking, and the built-in image.

pub mod archive;
pub mod commit;
pub mod config;
pub mod descriptor;
pub mod gc;
pub mod hello;
pub mod import;
pub mod manifest;
pub mod platform;
pub mod snapshot;
pub mod store;

pub use archive::Format;
pub use config::ImageConfig;
pub use import::ImportOptions;
pub use store::{Loaded, Store, StoreError};
