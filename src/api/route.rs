//! From a request's path to the router's: the version prefix goes, and an image's name becomes one segment.

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::uri::{PathAndQuery, Uri};
use std::convert::Infallible;

use super::error::ApiError;

/// The oldest and newest versions that are served.
pub(crate) const MIN_VERSION: ApiVersion = ApiVersion { major: 1, minor: 24 };
pub(crate) const VERSION: ApiVersion = ApiVersion { major: 1, minor: 51 };

/// The API version that a request names; ours when it names none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ApiVersion {
    pub(crate) major: u32,
    pub(crate) minor: u32,
}

impl ApiVersion {
    pub(crate) const fn new(major: u32, minor: u32) -> Self {
        Self { major, minor }
    }
}

impl std::fmt::Display for ApiVersion {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

impl<S: Send + Sync> FromRequestParts<S> for ApiVersion {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Infallible> {
        Ok(parts.extensions.get().copied().unwrap_or(VERSION))
    }
}

/// Returns the path that the router knows, and the version that the client speaks.
///
/// # Errors
/// A version that is not served, in dockerd's words.
pub(super) fn normalise(uri: &Uri) -> Result<(Uri, ApiVersion), ApiError> {
    let path = uri.path();
    let (version, rest) = match prefix(path) {
        Some((version, rest)) => (version, rest),
        None => (VERSION, path),
    };
    if version < MIN_VERSION {
        return Err(ApiError::invalid(format!(
            "client version {version} is too old. Minimum supported API version is {MIN_VERSION}, please upgrade \
             your client to a newer version"
        )));
    }
    if version > VERSION {
        return Err(ApiError::invalid(format!(
            "client version {version} is too new. Maximum supported API version is {VERSION}"
        )));
    }
    let path = join_name(rest);
    let text = match uri.query() {
        Some(query) => format!("{path}?{query}"),
        None => path,
    };
    let target: PathAndQuery =
        text.parse().map_err(|error| ApiError::invalid(format!("invalid path: {error}")))?;
    Ok((Uri::from(target), version))
}

/// Splits `/v1.NN` off.
fn prefix(path: &str) -> Option<(ApiVersion, &str)> {
    let after = path.strip_prefix("/v")?;
    let slash = after.find('/')?;
    let (major, minor) = after[..slash].split_once('.')?;
    let version = ApiVersion::new(major.parse().ok()?, minor.parse().ok()?);
    Some((version, &after[slash..]))
}

/// Names of images hold slashes: all but the verb after the name becomes one segment, `a%2Fb`.
fn join_name(path: &str) -> String {
    for family in ["/images/", "/distribution/"] {
        let Some(rest) = path.strip_prefix(family) else { continue };
        let rest = rest.trim_matches('/');
        let (name, verb) = match rest.rsplit_once('/') {
            Some((name, verb)) if IMAGE_VERBS.contains(&verb) => (name, Some(verb)),
            _ => (rest, None),
        };
        let name = name.replace('/', "%2F");
        return match verb {
            Some(verb) => format!("{family}{name}/{verb}"),
            None => format!("{family}{name}"),
        };
    }
    path.to_owned()
}

const IMAGE_VERBS: [&str; 6] = ["json", "history", "push", "tag", "get", "attestations"];

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed step fails the test")]
mod tests {
    use super::*;

    fn routed(path: &str) -> String {
        let (uri, version) = normalise(&path.parse().unwrap()).unwrap();
        format!("{version} {uri}")
    }

    #[test]
    fn a_version_is_taken_off_and_ours_is_the_default() {
        assert_eq!(routed("/_ping"), "1.51 /_ping");
        assert_eq!(routed("/v1.24/containers/json?all=1"), "1.24 /containers/json?all=1");
        assert_eq!(routed("/volumes/x"), "1.51 /volumes/x");
        assert_eq!(routed("/bargee/v1/stacks"), "1.51 /bargee/v1/stacks");
    }

    #[test]
    fn versions_out_of_range_are_refused_in_dockers_words() {
        let refusal = |path: &str| normalise(&path.parse().unwrap()).unwrap_err().message;
        assert_eq!(
            refusal("/v1.23/info"),
            "client version 1.23 is too old. Minimum supported API version is 1.24, please upgrade your client to a \
             newer version"
        );
        assert_eq!(
            refusal("/v1.52/info"),
            "client version 1.52 is too new. Maximum supported API version is 1.51"
        );
    }

    #[test]
    fn an_image_with_slashes_in_its_name_is_one_segment() {
        assert_eq!(routed("/images/json?all=1"), "1.51 /images/json?all=1");
        assert_eq!(
            routed("/v1.40/images/ghcr.io/a/b:c/json"),
            "1.40 /images/ghcr.io%2Fa%2Fb:c/json"
        );
        assert_eq!(routed("/images/a%2Fb/history"), "1.51 /images/a%2Fb/history");
        assert_eq!(routed("/images/a/b"), "1.51 /images/a%2Fb");
        assert_eq!(routed("/images/get?names=a"), "1.51 /images/get?names=a");
        assert_eq!(routed("/distribution/a/b/json"), "1.51 /distribution/a%2Fb/json");
    }
}
