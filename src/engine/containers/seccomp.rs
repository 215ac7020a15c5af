//! Which system calls a container may make: the default, none refused, or a profile of the asker's in docker's
//! JSON (moby `profiles/seccomp`), whose text the client sends.

use std::collections::BTreeSet;

use oci_spec::runtime::{Capability, LinuxSeccomp};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::engine::error::EngineError;
use crate::images::platform::Platform;
use crate::runtime::seccomp::default_profile;

/// A profile as docker's clients send it.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Profile {
    default_action: String,
    #[serde(default)]
    default_errno_ret: Option<u32>,
    #[serde(default)]
    architectures: Vec<String>,
    #[serde(default)]
    arch_map: Vec<Architecture>,
    #[serde(default)]
    flags: Vec<String>,
    #[serde(default)]
    syscalls: Vec<Rule>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Architecture {
    architecture: String,
    #[serde(default)]
    sub_architectures: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Rule {
    #[serde(default)]
    name: String,
    #[serde(default)]
    names: Vec<String>,
    action: String,
    #[serde(default)]
    errno_ret: Option<u32>,
    #[serde(default)]
    args: Option<Vec<Value>>,
    #[serde(default)]
    includes: Condition,
    #[serde(default)]
    excludes: Condition,
}

/// Where a rule holds.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Condition {
    #[serde(default)]
    caps: Vec<String>,
    #[serde(default)]
    arches: Vec<String>,
    #[serde(default)]
    min_kernel: String,
}

/// Returns the filter for a container with `capabilities`; `None`: no filter. `kernel` is the host's release.
pub(super) fn filter(
    security_opt: &[String],
    capabilities: &[String],
    kernel: &str,
) -> Result<Option<LinuxSeccomp>, EngineError> {
    let asked = security_opt.iter().rev().find_map(|word| {
        let (key, value) = word.split_once(['=', ':'])?;
        (key == "seccomp").then_some(value)
    });
    match asked {
        Some("unconfined") => Ok(None),
        None | Some("builtin" | "default" | "") => {
            let known = |name: &String| serde_json::from_value::<Capability>(json!(name)).ok();
            let capabilities: Vec<Capability> = capabilities.iter().filter_map(known).collect();
            Ok(Some(default_profile(&capabilities)))
        }
        Some(text) => custom(text, &capabilities.iter().map(String::as_str).collect(), kernel)
            .map(Some)
            .map_err(|error| EngineError::Invalid {
                message: format!("decoding seccomp profile failed: {error}"),
            }),
    }
}

fn custom(
    text: &str,
    capabilities: &BTreeSet<&str>,
    kernel: &str,
) -> Result<LinuxSeccomp, serde_json::Error> {
    let profile: Profile = serde_json::from_str(text)?;
    let here = Platform::host().architecture;
    let mut architectures = profile.architectures;
    for known in profile.arch_map.iter().filter(|known| go_name(&known.architecture) == here) {
        architectures.push(known.architecture.clone());
        architectures.extend(known.sub_architectures.clone());
    }
    let rules: Vec<Value> = profile
        .syscalls
        .into_iter()
        .filter(|rule| rule.includes.holds(capabilities, &here, kernel))
        .filter(|rule| !rule.excludes.touches(capabilities, &here, kernel))
        .map(|rule| {
            let mut names = rule.names;
            names.extend((!rule.name.is_empty()).then_some(rule.name));
            let mut value = json!({ "names": names, "action": rule.action });
            if let Some(number) = rule.errno_ret {
                value["errnoRet"] = json!(number);
            }
            if let Some(arguments) = rule.args {
                value["args"] = json!(arguments);
            }
            value
        })
        .collect();
    let mut value = json!({ "defaultAction": profile.default_action, "syscalls": rules });
    if let Some(number) = profile.default_errno_ret {
        value["defaultErrnoRet"] = json!(number);
    }
    if !architectures.is_empty() {
        value["architectures"] = json!(architectures);
    }
    if !profile.flags.is_empty() {
        value["flags"] = json!(profile.flags);
    }
    serde_json::from_value(value)
}

impl Condition {
    /// All that is named must be so.
    fn holds(&self, capabilities: &BTreeSet<&str>, here: &str, kernel: &str) -> bool {
        self.caps.iter().all(|name| capabilities.contains(name.as_str()))
            && (self.arches.is_empty() || self.arches.iter().any(|name| name == here))
            && (self.min_kernel.is_empty() || version(kernel) >= version(&self.min_kernel))
    }

    /// One thing that is so is enough.
    fn touches(&self, capabilities: &BTreeSet<&str>, here: &str, kernel: &str) -> bool {
        self.caps.iter().any(|name| capabilities.contains(name.as_str()))
            || self.arches.iter().any(|name| name == here)
            || (!self.min_kernel.is_empty() && version(kernel) >= version(&self.min_kernel))
    }
}

/// Returns Go's name of an `SCMP_ARCH_*`.
fn go_name(architecture: &str) -> &str {
    match architecture {
        "SCMP_ARCH_X86_64" => "amd64",
        "SCMP_ARCH_X86" => "386",
        "SCMP_ARCH_AARCH64" => "arm64",
        "SCMP_ARCH_ARM" => "arm",
        "SCMP_ARCH_PPC64LE" => "ppc64le",
        "SCMP_ARCH_S390X" => "s390x",
        "SCMP_ARCH_RISCV64" => "riscv64",
        other => other,
    }
}

/// Returns major and minor of a kernel's release.
fn version(release: &str) -> (u32, u32) {
    let mut numbers = release.split(|letter: char| !letter.is_ascii_digit()).map(str::parse);
    let mut next = || numbers.next().and_then(Result::ok).unwrap_or_default();
    (next(), next())
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed step fails the test")]
    use super::*;

    const PROFILE: &str = r#"{"defaultAction":"SCMP_ACT_ERRNO","defaultErrnoRet":1,
        "archMap":[{"architecture":"SCMP_ARCH_X86_64","subArchitectures":["SCMP_ARCH_X86"]}],
        "syscalls":[
          {"names":["read","write"],"action":"SCMP_ACT_ALLOW","args":[],"comment":"","includes":{},"excludes":{}},
          {"names":["mount"],"action":"SCMP_ACT_ALLOW","includes":{"caps":["CAP_SYS_ADMIN"]}},
          {"names":["clone3"],"action":"SCMP_ACT_ERRNO","errnoRet":38,"excludes":{"caps":["CAP_SYS_ADMIN"]}},
          {"names":["ptrace"],"action":"SCMP_ACT_ALLOW","includes":{"minKernel":"4.8"}},
          {"name":"chroot","action":"SCMP_ACT_ALLOW","includes":{"minKernel":"99.0"}}]}"#;

    fn names(capabilities: &[&str]) -> Vec<String> {
        let options = [format!("seccomp={PROFILE}")];
        let owned: Vec<String> = capabilities.iter().map(|name| (*name).to_owned()).collect();
        let filter = filter(&options, &owned, "6.18.1-generic").unwrap().unwrap();
        filter.syscalls().iter().flatten().flat_map(|rule| rule.names().clone()).collect()
    }

    #[test]
    fn rules_hold_where_their_conditions_say() {
        assert_eq!(names(&[]), ["read", "write", "clone3", "ptrace"]);
        assert_eq!(names(&["CAP_SYS_ADMIN"]), ["read", "write", "mount", "ptrace"]);
    }

    #[test]
    fn no_word_is_the_default_and_unconfined_is_none() {
        assert!(filter(&[], &[], "6.1").unwrap().is_some());
        assert!(filter(&["seccomp=unconfined".into()], &[], "6.1").unwrap().is_none());
        let error = filter(&["seccomp=/etc/profile.json".into()], &[], "6.1").unwrap_err();
        assert!(error.to_string().starts_with("decoding seccomp profile failed"));
    }
}
