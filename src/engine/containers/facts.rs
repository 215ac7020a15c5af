//! What a container's image says about it.

use crate::engine::core::Engine;
use crate::engine::merge::ImageFacts;
use crate::engine::state::containers::Container;
use crate::images::config::{HealthConfig, RunConfig};
use crate::spec::container::Healthcheck;

impl Engine {
    /// Returns the facts of the container's image; empty ones when the image was removed by force.
    pub(crate) fn image_facts(&self, row: &Container) -> ImageFacts {
        self.image_of(&row.image_id).map(|image| image.facts.clone()).unwrap_or_default()
    }
}

impl From<&RunConfig> for ImageFacts {
    fn from(config: &RunConfig) -> Self {
        Self {
            env: config.env.clone(),
            cmd: config.cmd.clone().unwrap_or_default(),
            entrypoint: config.entrypoint.clone().unwrap_or_default(),
            user: config.user.clone(),
            workdir: config.working_dir.clone(),
            volumes: config.volumes.keys().cloned().collect(),
            exposed: config.exposed_ports.keys().cloned().collect(),
            stop_signal: config.stop_signal.clone().filter(|signal| !signal.is_empty()),
            labels: config.labels.clone(),
            healthcheck: config.healthcheck.as_ref().map(Healthcheck::from),
        }
    }
}

impl From<&HealthConfig> for Healthcheck {
    fn from(config: &HealthConfig) -> Self {
        Self {
            test: config.test.clone(),
            interval: config.interval,
            timeout: config.timeout,
            start_period: config.start_period,
            start_interval: config.start_interval,
            retries: config.retries,
        }
    }
}

impl From<&Healthcheck> for HealthConfig {
    fn from(check: &Healthcheck) -> Self {
        Self {
            test: check.test.clone(),
            interval: check.interval,
            timeout: check.timeout,
            start_period: check.start_period,
            start_interval: check.start_interval,
            retries: check.retries,
        }
    }
}
