//! The machine an image is made for, in the words of the OCI image index (Go's GOOS and GOARCH).

use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Platform {
    #[serde(default)]
    pub architecture: String,
    #[serde(default)]
    pub os: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
}

impl Platform {
    /// Returns the platform this program was built for.
    pub fn host() -> Self {
        let architecture = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            "x86" => "386",
            "powerpc64" => "ppc64le",
            other => other,
        };
        Self { architecture: architecture.to_owned(), os: "linux".to_owned(), variant: None }
    }

    /// Says whether an image for `self` runs on `host`; an image that names nothing is trusted to.
    pub fn runs_on(&self, host: &Self) -> bool {
        let os = self.os.is_empty() || self.os == host.os;
        os && (self.architecture.is_empty() || self.architecture == host.architecture)
    }
}
