//! `--mount`: fields with commas between them.

use serde_json::{Map, Value, json};

use super::{pairs, put};
use crate::cli::error::CliError;
use crate::spec::value::size;

/// Splits at commas; a field in double quotes keeps its own (RFC 4180).
///
/// # Errors
/// A quote that is not closed.
pub(super) fn fields(text: &str) -> Result<Vec<String>, CliError> {
    let mut fields = vec![String::new()];
    let mut quoted = false;
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        let field = fields.last_mut().expect("there is always one");
        match character {
            '"' if quoted && characters.peek() == Some(&'"') => {
                characters.next();
                field.push('"');
            }
            '"' if quoted => quoted = false,
            '"' if field.is_empty() => quoted = true,
            ',' if !quoted => fields.push(String::new()),
            other => field.push(other),
        }
    }
    if quoted {
        return Err(CliError::Usage(format!("{text}: a quote is not closed")));
    }
    Ok(fields)
}

/// Reads one `--mount` as an element of `HostConfig.Mounts`.
///
/// # Errors
/// An unknown field, or one that does not belong to this type of mount.
pub(super) fn read(text: &str) -> Result<Value, CliError> {
    let wrong = |why: String| CliError::Usage(format!("--mount {text}: {why}"));
    let mut mount = Mount::default();
    for field in fields(text)? {
        let (key, value) = field.split_once('=').unwrap_or((&field, ""));
        let bare = !field.contains('=');
        mount.field(&key.to_ascii_lowercase(), value, bare).map_err(wrong)?;
    }
    mount.finish().map_err(wrong)
}

#[derive(Debug, Default)]
struct Mount {
    kind: String,
    source: String,
    common: Map<String, Value>,
    bind: Map<String, Value>,
    volume: Map<String, Value>,
    tmpfs: Map<String, Value>,
    image: Map<String, Value>,
    driver: String,
    driver_options: Vec<String>,
    labels: Vec<String>,
}

impl Mount {
    fn field(&mut self, key: &str, value: &str, bare: bool) -> Result<(), String> {
        let switch = || match value {
            "" if bare => Ok(Value::Bool(true)),
            "true" | "1" => Ok(Value::Bool(true)),
            "false" | "0" => Ok(Value::Bool(false)),
            _ => Err(format!("{key}={value}: expected true or false")),
        };
        match key {
            "type" => value.to_ascii_lowercase().clone_into(&mut self.kind),
            "source" | "src" => value.clone_into(&mut self.source),
            "target" | "dst" | "destination" => put(&mut self.common, "Target", Value::from(value)),
            "readonly" | "ro" => put(&mut self.common, "ReadOnly", switch()?),
            "consistency" => put(&mut self.common, "Consistency", Value::from(value)),
            "bind-propagation" => put(&mut self.bind, "Propagation", Value::from(value)),
            "bind-nonrecursive" => put(&mut self.bind, "NonRecursive", switch()?),
            "bind-recursive" => match value {
                "enabled" => {}
                "disabled" => put(&mut self.bind, "NonRecursive", Value::Bool(true)),
                "writable" => put(&mut self.bind, "ReadOnlyNonRecursive", Value::Bool(true)),
                "readonly" => put(&mut self.bind, "ReadOnlyForceRecursive", Value::Bool(true)),
                _ => return Err(format!("unknown {key}={value}")),
            },
            "bind-create-src" => put(&mut self.bind, "CreateMountpoint", switch()?),
            "volume-subpath" => put(&mut self.volume, "Subpath", Value::from(value)),
            "volume-nocopy" => put(&mut self.volume, "NoCopy", switch()?),
            "volume-label" => self.labels.push(value.to_owned()),
            "volume-driver" => value.clone_into(&mut self.driver),
            "volume-opt" => self.driver_options.push(value.to_owned()),
            "image-subpath" => put(&mut self.image, "Subpath", Value::from(value)),
            "tmpfs-size" => {
                let bytes = size::parse(value).map_err(|error| error.to_string())?;
                put(&mut self.tmpfs, "SizeBytes", Value::from(bytes));
            }
            "tmpfs-mode" => {
                let mode = u32::from_str_radix(value, 8)
                    .map_err(|_| format!("{key}={value}: expected an octal number"))?;
                put(&mut self.tmpfs, "Mode", Value::from(mode));
            }
            _ => return Err(format!("unknown field {key}")),
        }
        Ok(())
    }

    fn finish(mut self) -> Result<Value, String> {
        if self.kind.is_empty() {
            "volume".clone_into(&mut self.kind);
        }
        if !self.common.contains_key("Target") {
            return Err("target is missing".to_owned());
        }
        if self.kind == "bind" {
            if self.source.is_empty() {
                return Err("a bind mount needs a source".to_owned());
            }
            self.source = super::storage::absolute(&self.source)?;
        }
        put(&mut self.volume, "Labels", Value::Object(pairs(&self.labels)));
        if !self.driver.is_empty() || !self.driver_options.is_empty() {
            let options = pairs(&self.driver_options);
            put(&mut self.volume, "DriverConfig", json!({"Name": self.driver, "Options": options}));
        }
        let options = [
            ("bind", "BindOptions", self.bind),
            ("volume", "VolumeOptions", self.volume),
            ("tmpfs", "TmpfsOptions", self.tmpfs),
            ("image", "ImageOptions", self.image),
        ];
        if !options.iter().any(|(kind, ..)| *kind == self.kind) {
            return Err(format!("unknown type {}", self.kind));
        }
        let mut mount = self.common;
        mount.insert("Type".to_owned(), Value::from(self.kind.as_str()));
        put(&mut mount, "Source", Value::from(self.source));
        for (kind, key, fields) in options {
            if kind != self.kind && !fields.is_empty() {
                return Err(format!("a mount of type {} has no {kind} options", self.kind));
            }
            put(&mut mount, key, Value::Object(fields));
        }
        Ok(Value::Object(mount))
    }
}
