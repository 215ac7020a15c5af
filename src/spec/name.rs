//! Names with one door each.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A name that its kind does not allow.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a {kind} name: {rule}")]
pub struct InvalidName {
    pub text: String,
    pub kind: &'static str,
    pub rule: &'static str,
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $kind:literal, $rule:literal, $valid:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidName;

            fn try_from(text: String) -> Result<Self, InvalidName> {
                let valid: fn(&str) -> bool = $valid;
                if valid(&text) { Ok(Self(text)) } else { Err(InvalidName { text, kind: $kind, rule: $rule }) }
            }
        }

        impl TryFrom<&str> for $name {
            type Error = InvalidName;

            fn try_from(text: &str) -> Result<Self, InvalidName> {
                Self::try_from(text.to_owned())
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> String {
                name.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

name!(
    /// A stack's name: compose's project name.
    StackName,
    "stack",
    "it starts with a lower-case letter or digit and goes on with those, `-` and `_`, at most 63 characters",
    |text| {
        let mut bytes = text.bytes();
        text.len() <= 63
            && bytes.next().is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
            && bytes.all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_')
    }
);

name!(
    /// A service's name, as the Compose Specification allows it.
    ServiceName,
    "service",
    "it consists of letters, digits, `.`, `_` and `-`, at most 128 characters",
    |text| {
        !text.is_empty()
            && text.len() <= 128
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
    }
);

name!(
    /// A container's, volume's or network's own name on the machine.
    ObjectName,
    "container, network or volume",
    "it starts with a letter or digit and goes on with those, `_`, `.` and `-`, at most 255 characters",
    |text| {
        let mut bytes = text.bytes();
        text.len() <= 255
            && bytes.next().is_some_and(|b| b.is_ascii_alphanumeric())
            && bytes.all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'))
    }
);
