//! The health check.

use serde_json::{Map, Value, json};

use super::{Body, put};
use crate::cli::error::CliError;
use crate::spec::value::duration;

#[derive(Debug, Default, clap::Args)]
pub(crate) struct HealthFlags {
    /// Command that checks the container's health
    #[arg(long, value_name = "COMMAND")]
    health_cmd: Option<String>,
    /// Time between checks
    #[arg(long, value_name = "DURATION")]
    health_interval: Option<String>,
    /// Time that one check may take
    #[arg(long, value_name = "DURATION")]
    health_timeout: Option<String>,
    /// Time in which failures don't count
    #[arg(long, value_name = "DURATION")]
    health_start_period: Option<String>,
    /// Time between checks in the start period
    #[arg(long, value_name = "DURATION")]
    health_start_interval: Option<String>,
    /// Failures in a row that make it unhealthy
    #[arg(long, value_name = "NUMBER")]
    health_retries: Option<u32>,
    /// Leave the image's own health check out
    #[arg(long)]
    no_healthcheck: bool,
}

impl HealthFlags {
    pub(super) fn put(&self, body: &mut Body) -> Result<(), CliError> {
        let mut check = Map::new();
        if let Some(command) = &self.health_cmd {
            put(&mut check, "Test", json!(["CMD-SHELL", command]));
        }
        for (key, text) in [
            ("Interval", &self.health_interval),
            ("Timeout", &self.health_timeout),
            ("StartPeriod", &self.health_start_period),
            ("StartInterval", &self.health_start_interval),
        ] {
            if let Some(text) = text {
                let nanoseconds =
                    u64::try_from(duration::parse(text)?.as_nanos()).unwrap_or(u64::MAX);
                put(&mut check, key, json!(nanoseconds));
            }
        }
        put(&mut check, "Retries", Value::from(self.health_retries));
        if self.no_healthcheck {
            if !check.is_empty() {
                let text = "--no-healthcheck and the --health flags exclude each other";
                return Err(CliError::Usage(text.to_owned()));
            }
            check.insert("Test".to_owned(), json!(["NONE"]));
        }
        body.config("Healthcheck", check);
        Ok(())
    }
}
