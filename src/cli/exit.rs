//! Exit codes, as documented in `--help`.

/// All went well.
pub const OK: u8 = 0;
/// A stack verb failed, or was called wrongly.
pub const FAILURE: u8 = 1;
