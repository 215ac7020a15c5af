//! An image from one rootfs archive, and the Dockerfile words that `import` and `commit` take as `--change`.

use std::io::Read;
use std::sync::PoisonError;

use super::config::{Empty, HealthConfig, History, ImageConfig, RootFs, RunConfig};
use super::descriptor::{Descriptor, OCI_CONFIG, layer_media_type};
use super::manifest::Manifest;
use super::platform::Platform;
use super::store::blobs::{BlobError, Ingested, finish, io_error};
use super::store::{Loaded, Store, StoreError};
use crate::archive::Limits;
use crate::archive::compression::{Compression, decompress};

/// A `--change` that cannot be applied.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("cannot apply change {change:?}: {rule}")]
pub struct ChangeError {
    pub change: String,
    pub rule: &'static str,
}

#[derive(Debug, Clone, Default)]
pub struct ImportOptions {
    /// Dockerfile instructions, e.g. `CMD ["/bin/sh"]`.
    pub changes: Vec<String>,
    pub message: Option<String>,
    /// RFC 3339; the caller has the clock.
    pub created: String,
    /// `None`: the host's.
    pub platform: Option<Platform>,
}

impl Store {
    /// Makes an image whose only layer is `rootfs`, a tar, plain or packed.
    pub fn import(&self, rootfs: impl Read, options: &ImportOptions) -> Result<Loaded, StoreError> {
        let mut run = RunConfig::default();
        apply_changes(&mut run, &options.changes)?;
        let comment = options.message.clone().unwrap_or_else(|| "Imported from -".to_owned());
        let history = History {
            created: Some(options.created.clone()),
            comment: Some(comment),
            ..History::default()
        };
        let mut fresh = Vec::new();
        let result = {
            let _content = self.content.read().unwrap_or_else(PoisonError::into_inner);
            self.blobs.ingest(rootfs, None).map_err(StoreError::from).and_then(|layer| {
                fresh.push(layer.digest.clone());
                self.single_layer(&layer, run, history, options)
            })
        };
        if result.is_err() {
            let _content = self.content.write().unwrap_or_else(PoisonError::into_inner);
            self.delete_leftovers(&fresh)?;
        }
        result
    }

    fn single_layer(
        &self,
        layer: &Ingested,
        run: RunConfig,
        history: History,
        options: &ImportOptions,
    ) -> Result<Loaded, StoreError> {
        let platform = options.platform.clone().unwrap_or_else(Platform::host);
        let (diff_id, compression) = self.diff_id(layer)?;
        let config = ImageConfig {
            created: history.created.clone(),
            author: None,
            architecture: platform.architecture,
            os: platform.os,
            variant: platform.variant,
            config: run,
            rootfs: RootFs { kind: "layers".to_owned(), diff_ids: vec![diff_id] },
            history: vec![history],
        };
        let config = serde_json::to_vec(&config).expect("an image config is always JSON");
        let config = self.blobs.ingest(config.as_slice(), None)?;
        let manifest = Manifest::new(
            Descriptor::new(OCI_CONFIG, config.digest, config.size),
            vec![Descriptor::new(layer_media_type(compression), layer.digest.clone(), layer.size)],
        );
        self.commit_locked(&serde_json::to_vec(&manifest).expect("a manifest is always JSON"))
    }

    fn diff_id(
        &self,
        layer: &Ingested,
    ) -> Result<(crate::spec::digest::Digest, Compression), StoreError> {
        use sha2::Digest as _;
        let path = self.blobs.path(&layer.digest);
        let read = |source| StoreError::from(io_error("read", &path)(source));
        let (mut plain, compression) = decompress(self.blobs.open(&layer.digest)?).map_err(read)?;
        if compression == Compression::None {
            return Ok((layer.digest.clone(), compression));
        }
        let mut hasher = sha2::Sha256::new();
        let mut buffer = vec![0; 128 << 10];
        let mut left = Limits::default().bytes;
        loop {
            let count = plain.read(&mut buffer).map_err(read)?;
            if count == 0 {
                return Ok((finish(hasher), compression));
            }
            left = left.checked_sub(count as u64).ok_or_else(|| BlobError::TooLarge {
                digest: layer.digest.clone(),
                limit: Limits::default().bytes,
            })?;
            hasher.update(&buffer[..count]);
        }
    }
}

/// Applies Dockerfile instructions in their order.
pub fn apply_changes(config: &mut RunConfig, changes: &[String]) -> Result<(), ChangeError> {
    for change in changes {
        let (word, rest) =
            change.trim().split_once(char::is_whitespace).unwrap_or((change.trim(), ""));
        apply_change(config, &word.to_ascii_uppercase(), rest.trim())
            .map_err(|rule| ChangeError { change: change.clone(), rule })?;
    }
    Ok(())
}

fn apply_change(config: &mut RunConfig, word: &str, rest: &str) -> Result<(), &'static str> {
    if rest.is_empty() {
        return Err("the instruction needs a value");
    }
    match word {
        "CMD" => config.cmd = Some(command(rest)),
        "ENTRYPOINT" => config.entrypoint = Some(command(rest)),
        "ENV" => {
            for (key, value) in pairs(rest)? {
                let prefix = format!("{key}=");
                config.env.retain(|line| !line.starts_with(&prefix));
                config.env.push(prefix + &value);
            }
        }
        "LABEL" => config.labels.extend(pairs(rest)?),
        "EXPOSE" => {
            for port in words(rest)? {
                config.exposed_ports.insert(exposed(&port)?, Empty {});
            }
        }
        "VOLUME" => {
            let volumes = if rest.starts_with('[') {
                array(rest).ok_or("not a JSON list")?
            } else {
                words(rest)?
            };
            config.volumes.extend(volumes.into_iter().map(|path| (path, Empty {})));
        }
        "WORKDIR" if rest.starts_with('/') => rest.clone_into(&mut config.working_dir),
        "WORKDIR" => {
            config.working_dir = format!("{}/{rest}", config.working_dir.trim_end_matches('/'))
        }
        "USER" => rest.clone_into(&mut config.user),
        "STOPSIGNAL" => config.stop_signal = Some(rest.to_owned()),
        "ONBUILD" => config.on_build.push(rest.to_owned()),
        "HEALTHCHECK" => config.healthcheck = Some(healthcheck(rest)?),
        _ => {
            return Err(
                "only CMD, ENTRYPOINT, ENV, EXPOSE, HEALTHCHECK, LABEL, ONBUILD, STOPSIGNAL, USER, VOLUME and WORKDIR can be changed",
            );
        }
    }
    Ok(())
}

fn array(text: &str) -> Option<Vec<String>> {
    serde_json::from_str(text).ok()
}

/// A JSON list is executed as it is; anything else is a line for the shell.
fn command(text: &str) -> Vec<String> {
    array(text).unwrap_or_else(|| vec!["/bin/sh".to_owned(), "-c".to_owned(), text.to_owned()])
}

fn exposed(text: &str) -> Result<String, &'static str> {
    const RULE: &str = "a port is a number from 1 to 65535, or FROM-TO, with /tcp, /udp or /sctp";
    let (ports, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let valid = ports.split('-').all(|port| port.parse::<u16>().is_ok_and(|port| port != 0));
    if !valid || !matches!(protocol, "tcp" | "udp" | "sctp") {
        return Err(RULE);
    }
    Ok(format!("{ports}/{protocol}"))
}

/// Reads `K=V K2="V 2"`, or the old `K rest of the line`.
fn pairs(text: &str) -> Result<Vec<(String, String)>, &'static str> {
    let (first, rest) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
    if !first.contains('=') {
        if rest.is_empty() {
            return Err("expected KEY=VALUE");
        }
        return Ok(vec![(first.to_owned(), rest.trim().to_owned())]);
    }
    words(text)?
        .into_iter()
        .map(|word| match word.split_once('=') {
            Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
            _ => Err("expected KEY=VALUE"),
        })
        .collect()
}

/// Splits at spaces outside quotes; a backslash keeps the next character.
fn words(text: &str) -> Result<Vec<String>, &'static str> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote: Option<char> = None;
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        match (character, quote) {
            ('\\', Some('"') | None) => {
                let next = characters.next().ok_or("a backslash at the end")?;
                word.get_or_insert_default().push(next);
            }
            (_, Some(open)) if character == open => quote = None,
            ('"' | '\'', None) => {
                quote = Some(character);
                word.get_or_insert_default();
            }
            (_, None) if character.is_whitespace() => words.extend(word.take()),
            _ => word.get_or_insert_default().push(character),
        }
    }
    if quote.is_some() {
        return Err("a quote is not closed");
    }
    words.extend(word);
    Ok(words)
}

fn healthcheck(text: &str) -> Result<HealthConfig, &'static str> {
    let mut health = HealthConfig::default();
    let mut rest = text;
    while let Some(option) = rest.strip_prefix("--") {
        let (option, after) =
            option.split_once(char::is_whitespace).ok_or("expected CMD after the options")?;
        let (key, value) = option.split_once('=').ok_or("expected --OPTION=VALUE")?;
        match key {
            "interval" => health.interval = nanoseconds(value)?,
            "timeout" => health.timeout = nanoseconds(value)?,
            "start-period" => health.start_period = nanoseconds(value)?,
            "start-interval" => health.start_interval = nanoseconds(value)?,
            "retries" => health.retries = value.parse().map_err(|_| "retries is not a number")?,
            _ => return Err("unknown option"),
        }
        rest = after.trim_start();
    }
    let (word, line) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
    match word.to_ascii_uppercase().as_str() {
        "NONE" if line.is_empty() => health.test = vec!["NONE".to_owned()],
        "CMD" if !line.trim().is_empty() => {
            let line = line.trim();
            health.test = match array(line) {
                Some(command) => [vec!["CMD".to_owned()], command].concat(),
                None => vec!["CMD-SHELL".to_owned(), line.to_owned()],
            };
        }
        _ => return Err("expected NONE or CMD and a command"),
    }
    Ok(health)
}

/// Reads Go's durations: `1m30s`, `500ms`.
fn nanoseconds(text: &str) -> Result<u64, &'static str> {
    const RULE: &str = "a time is a number with h, m, s, ms, us or ns";
    let mut total: u64 = 0;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.find(|character: char| !character.is_ascii_digit()).ok_or(RULE)?;
        let unit_end = rest[digits..].find(|character: char| character.is_ascii_digit());
        let end = unit_end.map_or(rest.len(), |at| digits + at);
        let unit = match &rest[digits..end] {
            "h" => 3_600_000_000_000,
            "m" => 60_000_000_000,
            "s" => 1_000_000_000,
            "ms" => 1_000_000,
            "us" | "µs" => 1_000,
            "ns" => 1,
            _ => return Err(RULE),
        };
        let number: u64 = rest[..digits].parse().map_err(|_| RULE)?;
        total = number.checked_mul(unit).and_then(|part| total.checked_add(part)).ok_or(RULE)?;
        rest = &rest[end..];
    }
    if text.is_empty() { Err(RULE) } else { Ok(total) }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    fn changed(changes: &[&str]) -> Result<RunConfig, ChangeError> {
        let mut config = RunConfig::default();
        apply_changes(
            &mut config,
            &changes.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>(),
        )?;
        Ok(config)
    }

    #[test]
    fn changes_are_dockerfile_instructions() {
        let config = changed(&[
            r#"CMD ["/bin/app", "-v"]"#,
            "entrypoint exec /start",
            r#"ENV A=1 B="two words" A=3"#,
            "ENV OLD the rest",
            "EXPOSE 80 53/udp",
            "VOLUME /data",
            "WORKDIR /srv",
            "WORKDIR app",
            "USER 1000:1000",
            r#"LABEL a.b="c d""#,
            "STOPSIGNAL SIGQUIT",
            "HEALTHCHECK --interval=1m30s --retries=5 CMD curl -f localhost",
            "ONBUILD RUN make",
        ])
        .unwrap();
        assert_eq!(config.cmd.unwrap(), ["/bin/app", "-v"]);
        assert_eq!(config.entrypoint.unwrap(), ["/bin/sh", "-c", "exec /start"]);
        assert_eq!(config.env, ["B=two words", "A=3", "OLD=the rest"]);
        assert_eq!(config.exposed_ports.keys().collect::<Vec<_>>(), ["53/udp", "80/tcp"]);
        assert_eq!(config.working_dir, "/srv/app");
        assert_eq!(config.labels["a.b"], "c d");
        let health = config.healthcheck.unwrap();
        assert_eq!((health.interval, health.retries), (90_000_000_000, 5));
        assert_eq!(health.test, ["CMD-SHELL", "curl -f localhost"]);
        assert_eq!(config.on_build, ["RUN make"]);
    }

    #[test]
    fn a_change_that_means_nothing_is_refused() {
        for change in [
            "RUN make",
            "EXPOSE 0",
            "EXPOSE 80/icmp",
            "ENV",
            "ENV A",
            "ENV A='x",
            "HEALTHCHECK --interval=3 CMD x",
        ] {
            assert!(changed(&[change]).is_err(), "{change}");
        }
    }
}
