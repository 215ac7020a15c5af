//! Privileges, capabilities, profiles and namespaces.

use std::fs;

use serde_json::json;

use super::Body;
use crate::cli::error::CliError;

#[derive(Debug, Default, clap::Args)]
pub(crate) struct SecurityFlags {
    /// Give the container all privileges
    #[arg(long)]
    privileged: bool,
    /// Add a capability
    #[arg(long, value_name = "CAPABILITY")]
    cap_add: Vec<String>,
    /// Drop a capability
    #[arg(long, value_name = "CAPABILITY")]
    cap_drop: Vec<String>,
    /// no-new-privileges, seccomp=FILE, profile=bargee|strict|docker, …
    #[arg(long, value_name = "OPTION")]
    security_opt: Vec<String>,
    /// Mount the root read-only
    #[arg(long)]
    read_only: bool,
    /// Further group of the program
    #[arg(long, value_name = "GROUP")]
    group_add: Vec<String>,
    /// Processes to see: host, container:NAME
    #[arg(long, value_name = "MODE")]
    pid: Option<String>,
    /// Shared memory: private, shareable, host, none, container:NAME
    #[arg(long, value_name = "MODE")]
    ipc: Option<String>,
    /// Host name's namespace: host
    #[arg(long, value_name = "MODE")]
    uts: Option<String>,
    /// Users' namespace: host
    #[arg(long, value_name = "MODE")]
    userns: Option<String>,
    /// Cgroup namespace: host, private
    #[arg(long, value_name = "MODE")]
    cgroupns: Option<String>,
    /// Cgroup that the container's own lies in
    #[arg(long, value_name = "PATH")]
    cgroup_parent: Option<String>,
}

impl SecurityFlags {
    pub(super) fn put(&self, body: &mut Body) -> Result<(), CliError> {
        body.host("Privileged", self.privileged);
        body.host("CapAdd", capabilities(&self.cap_add));
        body.host("CapDrop", capabilities(&self.cap_drop));
        body.host("ReadonlyRootfs", self.read_only);
        body.host("GroupAdd", self.group_add.clone());
        body.host("PidMode", self.pid.clone());
        body.host("IpcMode", self.ipc.clone());
        body.host("UTSMode", self.uts.clone());
        body.host("UsernsMode", self.userns.clone());
        body.host("CgroupnsMode", self.cgroupns.clone());
        body.host("CgroupParent", self.cgroup_parent.clone());
        self.put_options(body)
    }

    fn put_options(&self, body: &mut Body) -> Result<(), CliError> {
        let mut profile = "bargee";
        let mut options = Vec::new();
        for option in &self.security_opt {
            match option.split_once(['=', ':']) {
                Some(("profile", name @ ("bargee" | "strict" | "docker"))) => profile = name,
                Some(("profile", _)) => {
                    return Err(CliError::Usage(format!(
                        "--security-opt {option}: the profiles are bargee, strict and docker"
                    )));
                }
                Some(("systempaths", "unconfined")) => {
                    // Empty lists hide nothing; absent ones mean the defaults.
                    body.host.insert("MaskedPaths".to_owned(), json!([]));
                    body.host.insert("ReadonlyPaths".to_owned(), json!([]));
                }
                Some(("seccomp", file)) if file != "unconfined" && file != "builtin" => {
                    // The engine gets the rules and not their path, which is ours.
                    let doing = format!("read {file}");
                    let rules = fs::read_to_string(file).map_err(CliError::io(doing))?;
                    options.push(format!("seccomp={rules}"));
                }
                _ => options.push(option.clone()),
            }
        }
        body.host("SecurityOpt", options);
        body.host("BargeeProfile", profile);
        Ok(())
    }
}

/// Spells capabilities as the engine keeps them: `CAP_NET_ADMIN`, `ALL`.
fn capabilities(words: &[String]) -> Vec<String> {
    let spell = |word: &String| {
        let upper = word.to_ascii_uppercase();
        if upper == "ALL" || upper.starts_with("CAP_") { upper } else { format!("CAP_{upper}") }
    };
    words.iter().map(spell).collect()
}
