//! An image of another one and one more layer above it, as `commit` makes it.

use std::io::{self, Write};
use std::sync::PoisonError;

use super::config::{History, ImageConfig, RunConfig};
use super::descriptor::{Descriptor, OCI_CONFIG, OCI_LAYER};
use super::manifest::Manifest;
use super::store::{Loaded, Store, StoreError};
use crate::spec::digest::Digest;

#[derive(Debug, Clone, Default)]
pub struct CommitOptions {
    pub author: Option<String>,
    pub comment: Option<String>,
    /// RFC 3339; the caller has the clock.
    pub created: String,
    /// The command whose changes the layer holds.
    pub created_by: String,
    /// All of the new image's configuration; nothing is taken from the base.
    pub run: RunConfig,
}

impl Store {
    /// Makes an image of `base` and the layer that `layer` writes as a plain archive; without one it differs from
    /// the base in its configuration alone.
    pub fn extend<L>(
        &self,
        base: &Digest,
        layer: Option<L>,
        options: &CommitOptions,
    ) -> Result<Loaded, StoreError>
    where
        L: FnOnce(&mut dyn Write) -> io::Result<()>,
    {
        let mut fresh = Vec::new();
        let result = {
            let _content = self.content.read().unwrap_or_else(PoisonError::into_inner);
            self.extend_locked(base, layer, options, &mut fresh)
        };
        if result.is_err() {
            let _content = self.content.write().unwrap_or_else(PoisonError::into_inner);
            self.delete_leftovers(&fresh)?;
        }
        result
    }

    fn extend_locked<L>(
        &self,
        base: &Digest,
        layer: Option<L>,
        options: &CommitOptions,
        fresh: &mut Vec<Digest>,
    ) -> Result<Loaded, StoreError>
    where
        L: FnOnce(&mut dyn Write) -> io::Result<()>,
    {
        let (mut layers, base) = (self.manifest(base)?.layers, self.config(base)?);
        let mut rootfs = base.rootfs;
        let has_layer = layer.is_some();
        if let Some(layer) = layer {
            let written = self.blobs.write(None, |sink| layer(sink))?;
            fresh.push(written.digest.clone());
            rootfs.diff_ids.push(written.digest.clone());
            layers.push(Descriptor::new(OCI_LAYER, written.digest, written.size));
        }
        let step = History {
            created: Some(options.created.clone()),
            created_by: Some(options.created_by.clone()),
            author: options.author.clone(),
            comment: options.comment.clone(),
            empty_layer: !has_layer,
        };
        let config = ImageConfig {
            created: Some(options.created.clone()),
            author: options.author.clone(),
            config: options.run.clone(),
            rootfs,
            history: [base.history, vec![step]].concat(),
            architecture: base.architecture,
            os: base.os,
            variant: base.variant,
        };
        let config = serde_json::to_vec(&config).expect("an image config is always JSON");
        let config = self.blobs.ingest(config.as_slice(), None)?;
        fresh.push(config.digest.clone());
        let manifest =
            Manifest::new(Descriptor::new(OCI_CONFIG, config.digest, config.size), layers);
        self.commit_locked(&serde_json::to_vec(&manifest).expect("a manifest is always JSON"))
    }
}

/// Returns `new` with what it doesn't say taken from `old`, as docker does (moby `daemon/commit.go`, `merge`).
pub fn over(new: RunConfig, old: RunConfig) -> RunConfig {
    let text = |new: String, old: String| if new.is_empty() { old } else { new };
    let key = |line: &str| line.split('=').next().unwrap_or(line).to_owned();
    let mut env = new.env;
    let said: Vec<String> = env.iter().map(|line| key(line)).collect();
    env.extend(old.env.into_iter().filter(|line| !said.contains(&key(line))));
    // A new entrypoint has no use for arguments of the old one.
    let (entrypoint, cmd) = match new.entrypoint.filter(|words| !words.is_empty()) {
        Some(entrypoint) => (Some(entrypoint), new.cmd),
        None => (old.entrypoint, new.cmd.filter(|words| !words.is_empty()).or(old.cmd)),
    };
    RunConfig {
        user: text(new.user, old.user),
        exposed_ports: old.exposed_ports.into_iter().chain(new.exposed_ports).collect(),
        env,
        entrypoint,
        cmd,
        volumes: old.volumes.into_iter().chain(new.volumes).collect(),
        working_dir: text(new.working_dir, old.working_dir),
        labels: old.labels.into_iter().chain(new.labels).collect(),
        stop_signal: new.stop_signal.or(old.stop_signal),
        healthcheck: new.healthcheck.or(old.healthcheck),
        on_build: new.on_build,
        shell: new.shell.or(old.shell),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Option<Vec<String>> {
        Some(text.split(' ').map(str::to_owned).collect())
    }

    #[test]
    fn what_is_not_said_anew_stays_and_a_new_entrypoint_drops_the_old_command() {
        let old = RunConfig {
            env: vec!["A=1".into(), "B=1".into()],
            entrypoint: words("/old"),
            cmd: words("serve all"),
            user: "web".into(),
            labels: [("x".to_owned(), "1".to_owned()), ("y".to_owned(), "1".to_owned())].into(),
            ..RunConfig::default()
        };
        let new = RunConfig {
            env: vec!["B=2".into()],
            labels: [("y".to_owned(), "2".to_owned())].into(),
            ..RunConfig::default()
        };
        let merged = over(new, old.clone());
        assert_eq!(merged.env, ["B=2", "A=1"]);
        assert_eq!((merged.entrypoint, merged.cmd), (words("/old"), words("serve all")));
        assert_eq!((merged.user.as_str(), merged.labels["y"].as_str()), ("web", "2"));
        let entry =
            over(RunConfig { entrypoint: words("/new"), ..RunConfig::default() }, old.clone());
        assert_eq!((entry.entrypoint, entry.cmd), (words("/new"), None));
        let cmd = over(RunConfig { cmd: words("other"), ..RunConfig::default() }, old);
        assert_eq!((cmd.entrypoint, cmd.cmd), (words("/old"), words("other")));
    }
}
