//! The flags of `run` and `create`, a file for each side of a container, and the create request they make.
//!
//! Only what was asked for is sent: the engine knows its defaults.

mod env;
mod health;
mod mounts;
mod network;
mod ports;
pub(crate) mod process;
pub(crate) mod resources;
mod security;
mod storage;

use serde_json::{Map, Value, json};

use super::error::CliError;

pub(crate) use env::environment;

/// What a flag does to the create request.
#[derive(Debug, Default)]
pub(crate) struct Body {
    config: Map<String, Value>,
    host: Map<String, Value>,
    networks: Map<String, Value>,
}

impl Body {
    /// Sets a key of the container's configuration, unless the value is the zero of its kind.
    fn config(&mut self, key: &str, value: impl Into<Value>) {
        put(&mut self.config, key, value.into());
    }

    /// Sets a key of `HostConfig`, unless the value is the zero of its kind.
    fn host(&mut self, key: &str, value: impl Into<Value>) {
        put(&mut self.host, key, value.into());
    }

    fn finish(mut self) -> Value {
        self.config.insert("HostConfig".to_owned(), Value::Object(self.host));
        if !self.networks.is_empty() {
            self.config
                .insert("NetworkingConfig".to_owned(), json!({"EndpointsConfig": self.networks}));
        }
        Value::Object(self.config)
    }
}

/// Sets `key`, unless `value` says nothing.
pub(crate) fn put(object: &mut Map<String, Value>, key: &str, value: Value) {
    let empty = match &value {
        Value::Null | Value::Bool(false) => true,
        Value::Number(number) => number.as_i64() == Some(0),
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        Value::Bool(true) => false,
    };
    if !empty {
        object.insert(key.to_owned(), value);
    }
}

/// Reads `NAME=VALUE` words into an object; a word without `=` has an empty value.
pub(crate) fn pairs(words: &[String]) -> Map<String, Value> {
    words
        .iter()
        .map(|word| word.split_once('=').unwrap_or((word, "")))
        .map(|(name, value)| (name.to_owned(), Value::from(value)))
        .collect()
}

/// All flags of a container that is created.
#[derive(Debug, Default, clap::Args)]
pub(crate) struct ContainerFlags {
    /// Name of the container
    #[arg(long, value_name = "NAME")]
    pub(crate) name: Option<String>,
    #[command(flatten)]
    pub(crate) process: process::ProcessFlags,
    #[command(flatten)]
    pub(crate) network: network::NetworkFlags,
    #[command(flatten)]
    storage: storage::StorageFlags,
    #[command(flatten)]
    resources: resources::ResourceFlags,
    #[command(flatten)]
    limits: resources::LimitFlags,
    #[command(flatten)]
    security: security::SecurityFlags,
    #[command(flatten)]
    health: health::HealthFlags,
    /// Pull the image first: always, missing or never
    #[arg(long, value_name = "WHEN", default_value = "missing")]
    pub(crate) pull: Pull,
    /// Platform of the image, as in linux/arm64
    #[arg(long, value_name = "PLATFORM")]
    pub(crate) platform: Option<String>,
    /// Print nothing of a pull
    #[arg(short, long)]
    pub(crate) quiet: bool,
    /// Write the container's id to this file
    #[arg(long, value_name = "FILE")]
    pub(crate) cidfile: Option<std::path::PathBuf>,
    /// Image, command and its arguments
    #[arg(required = true, trailing_var_arg = true, value_names = ["IMAGE", "COMMAND"])]
    pub(crate) words: Vec<String>,
}

/// When an image is pulled.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Pull {
    Always,
    #[default]
    Missing,
    Never,
}

impl ContainerFlags {
    pub(crate) fn image(&self) -> &str {
        &self.words[0]
    }

    /// Returns the body of `POST /containers/create`.
    ///
    /// # Errors
    /// A value that is none of its kind, or a file that can't be read.
    pub(crate) fn body(&self) -> Result<Value, CliError> {
        let mut body = Body::default();
        body.config("Image", self.image());
        body.config("Cmd", self.words[1..].to_vec());
        self.process.put(&mut body)?;
        self.network.put(&mut body)?;
        self.storage.put(&mut body)?;
        for (key, value) in self.resources.fields()? {
            body.host(&key, value);
        }
        self.limits.put(&mut body)?;
        self.security.put(&mut body)?;
        self.health.put(&mut body)?;
        Ok(body.finish())
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests;
