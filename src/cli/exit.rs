//! Exit codes, as documented in `--help`.

/// All went well.
pub const OK: u8 = 0;
/// A verb failed; for a stack verb also: it was called wrongly.
pub const FAILURE: u8 = 1;
/// A verb of docker was called wrongly, or `run` got no container.
pub const USAGE: u8 = 125;
/// `run`: the program is there and can't be executed.
pub const NOT_EXECUTABLE: u8 = 126;
/// `run`: the program is not there.
pub const NOT_FOUND: u8 = 127;
/// `plan`: there are changes.
pub const CHANGES: u8 = 2;
/// Ctrl+C (128 + SIGINT).
pub const INTERRUPTED: u8 = 130;
/// 128 + SIGTERM.
pub const TERMINATED: u8 = 143;
