//! Fetching an image from a registry, with the progress that the engine tells.

use serde_json::Value;

use crate::cli::client::{Client, Lines, Method};
use crate::cli::error::CliError;
use crate::diagnostic::escape_controls;

/// An image that is to be here.
#[derive(Debug, Clone, Copy)]
pub(super) struct Image<'a> {
    pub(super) name: &'a str,
    pub(super) platform: Option<&'a str>,
}

impl Image<'_> {
    /// Pulls it; what is told goes to standard error, since standard output is the container's.
    pub(super) async fn pull(self, client: &Client, quiet: bool) -> Result<(), CliError> {
        let (name, tag) = split(self.name);
        let mut query = vec![("fromImage", name), ("tag", tag)];
        query.extend(self.platform.map(|platform| ("platform", platform)));
        let lines = client.lines(Method::POST, "/images/create", &query, None).await?;
        follow(lines, quiet).await
    }
}

/// Splits the tag or the digest off; without either the tag is `latest`.
pub(super) fn split(name: &str) -> (&str, &str) {
    if let Some((name, digest)) = name.split_once('@') {
        return (name, digest);
    }
    match name.rsplit_once(':') {
        // A colon before a slash is a port.
        Some((front, tag)) if !tag.contains('/') => (front, tag),
        _ => (name, "latest"),
    }
}

/// Prints what a stream of progress says, without its bars.
///
/// # Errors
/// The stream tells one.
pub(super) async fn follow(mut lines: Lines, quiet: bool) -> Result<(), CliError> {
    use std::io::Write;
    while let Some(line) = lines.next().await? {
        if let Some(message) = failure(&line) {
            return Err(CliError::Failed(message));
        }
        let text = line["stream"].as_str().map(str::trim_end).or(line["status"].as_str());
        let (Some(text), false) =
            (text, quiet || line.get("progressDetail").is_some_and(has_total))
        else {
            continue;
        };
        let text = match line["id"].as_str().filter(|id| !id.is_empty()) {
            Some(id) => format!("{id}: {text}"),
            None => text.to_owned(),
        };
        // Nobody is left to tell when standard error is closed.
        drop(writeln!(std::io::stderr(), "{}", escape_controls(&text)));
    }
    Ok(())
}

/// Hands each line of a stream to `tell`.
///
/// # Errors
/// The stream broke off, or `tell` failed.
pub(super) async fn follow_to(
    mut lines: Lines,
    tell: impl Fn(&Value) -> Result<(), CliError>,
) -> Result<(), CliError> {
    while let Some(line) = lines.next().await? {
        tell(&line)?;
    }
    Ok(())
}

/// Returns the error that a line of progress tells.
pub(super) fn failure(line: &Value) -> Option<String> {
    line["errorDetail"]["message"].as_str().or(line["error"].as_str()).map(str::to_owned)
}

fn has_total(detail: &Value) -> bool {
    detail["total"].as_u64().is_some_and(|total| total > 0)
}

#[cfg(test)]
mod tests {
    use super::split;

    #[test]
    fn a_port_is_no_tag() {
        assert_eq!(split("alpine"), ("alpine", "latest"));
        assert_eq!(split("localhost:5000/a"), ("localhost:5000/a", "latest"));
        assert_eq!(split("localhost:5000/a:1"), ("localhost:5000/a", "1"));
        assert_eq!(split("a@sha256:00"), ("a", "sha256:00"));
    }
}
