//! A verb on several objects: each is tried, and what failed is told.

use crate::cli::client::segment;
use crate::cli::error::CliError;
use crate::cli::exit;
use crate::cli::output::printer;
use crate::diagnostic::escape_controls;

/// Does `act` to each of `names` and prints what it returns, a line each. A failure is told and the rest goes on.
///
/// # Errors
/// [`CliError::Told`] when one failed, or nobody reads our output.
pub(super) async fn each(
    names: &[String],
    act: impl AsyncFn(&str) -> Result<Option<String>, CliError>,
) -> Result<u8, CliError> {
    let mut failed = false;
    for name in names {
        match act(name).await {
            Ok(Some(line)) => printer::line(&escape_controls(&line))?,
            Ok(None) => {}
            Err(CliError::OutputClosed) => return Err(CliError::OutputClosed),
            Err(error) => {
                failed = true;
                crate::cli::error::tell(&error);
            }
        }
    }
    if failed { Err(CliError::Told) } else { Ok(exit::OK) }
}

/// Returns the path of an action on a container.
pub(super) fn path(container: &str, action: &str) -> String {
    format!("/containers/{}/{action}", segment(container.trim_start_matches('/')))
}
