//! What `up`, `apply` and `plan` have in common: the options that change what is wanted, and the request.

use std::sync::Arc;

use super::choose;
use super::history;
use super::tell;
use super::wanted::Wanted;
use crate::cli::error::CliError;
use crate::cli::global::Global;
use crate::cli::stack_files::StackArgs;
use crate::protocol::{ApplyOptions, ApplyRequest, RecreatePolicy};
use crate::spec::name::ServiceName;
use crate::spec::stack::PullPolicy;

/// Options that say what is wanted.
#[derive(Debug, clap::Args)]
pub(crate) struct Convergence {
    #[command(flatten)]
    pub(crate) files: StackArgs,
    /// Services to bring up with what they need [default: all]
    #[arg(value_name = "SERVICE")]
    pub(crate) services: Vec<String>,
    /// Re-create every container, changed or not
    #[arg(long, conflicts_with = "no_recreate")]
    force_recreate: bool,
    /// Leave containers that exist as they are, changed or not
    #[arg(long)]
    no_recreate: bool,
    /// Leave alone what the named services need
    #[arg(long)]
    pub(crate) no_deps: bool,
    /// Create containers, and do not start them
    #[arg(long)]
    pub(crate) no_start: bool,
    /// Remove containers of services that the file no longer has: always so here
    #[arg(long, conflicts_with = "keep_orphans")]
    remove_orphans: bool,
    /// Keep containers of services that the file no longer has
    #[arg(long)]
    keep_orphans: bool,
    /// Number of replicas of a service; may be repeated
    #[arg(long, value_name = "SERVICE=N", value_parser = scale)]
    scale: Vec<(String, u32)>,
    /// When to pull images, over the file's own `pull_policy`
    #[arg(long, value_enum, value_name = "WHEN")]
    pull: Option<Pull>,
    /// Build images first: not possible yet
    #[arg(long)]
    build: bool,
    /// Seconds of grace before a container that is replaced is killed [default: its own]
    #[arg(short, long, value_name = "SECONDS")]
    pub(crate) timeout: Option<u64>,
    /// Why, for the stack's history
    #[arg(short, long, value_name = "TEXT")]
    message: Option<String>,
    /// Take the stack over from the file that it was brought up from
    #[arg(long)]
    take_over: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Pull {
    Always,
    Missing,
    Never,
}

fn scale(text: &str) -> Result<(String, u32), String> {
    let (service, number) = text.split_once('=').ok_or("expected SERVICE=N, as in web=3")?;
    let number = number.parse().map_err(|_| format!("{number:?} is not a number of replicas"))?;
    Ok((service.to_owned(), number))
}

impl Convergence {
    /// Reads the files and makes them what the options want. Speaks to no engine.
    ///
    /// # Errors
    /// The files have mistakes, or the options do not fit them; told.
    pub(crate) fn wanted(&self, global: &Global) -> Result<Wanted, CliError> {
        if self.build {
            return Err(tell::refuse(
                "--build: this version of bargee cannot build images",
                Some("build the image elsewhere and load it: docker save IMAGE | bargee load"),
            ));
        }
        let mut args = choose::both(&global.stack, &self.files);
        args.selected.clone_from(&self.services);
        let mut wanted = Wanted::read(&args)?;
        wanted
            .check_services(self.services.iter().chain(self.scale.iter().map(|(name, _)| name)))?;
        for (name, replicas) in &self.scale {
            let service = Arc::make_mut(&mut wanted.stack)
                .services
                .iter_mut()
                .find(|(key, _)| key.as_str() == name);
            let Some((_, service)) = service else {
                return Err(tell::refuse(
                    &format!("--scale {name}: a profile leaves this service out"),
                    Some("enable it with --profile"),
                ));
            };
            service.replicas = *replicas;
        }
        let policy = match self.pull {
            None => return Ok(wanted),
            Some(Pull::Never) => PullPolicy::Never,
            Some(Pull::Missing) => PullPolicy::Missing,
            Some(Pull::Always) => {
                return Err(tell::refuse(
                    "--pull always: this version of bargee cannot pull from registries",
                    Some("load the image: docker save IMAGE | bargee load"),
                ));
            }
        };
        for service in Arc::make_mut(&mut wanted.stack).services.values_mut() {
            service.pull_policy = policy;
        }
        Ok(wanted)
    }

    /// Returns whether nothing but services was said.
    pub(crate) fn is_plain(&self) -> bool {
        let flags = [
            self.force_recreate,
            self.no_recreate,
            self.no_deps,
            self.no_start,
            self.keep_orphans,
            self.build,
            self.take_over,
        ];
        !flags.contains(&true)
            && self.files.is_default()
            && self.scale.is_empty()
            && self.pull.is_none()
            && self.timeout.is_none()
    }

    /// Returns the request for `wanted`.
    pub(crate) fn request(
        &self,
        wanted: &Wanted,
        wait: bool,
        wait_timeout: Option<u64>,
    ) -> ApplyRequest {
        let recreate = match (self.force_recreate, self.no_recreate) {
            (true, _) => RecreatePolicy::Always,
            (false, true) => RecreatePolicy::Never,
            (false, false) => RecreatePolicy::Changed,
        };
        ApplyRequest {
            submission: wanted.submission(),
            options: ApplyOptions {
                services: self.services.clone(),
                no_deps: self.no_deps,
                recreate,
                keep_orphans: self.keep_orphans,
                no_start: self.no_start,
                wait,
                wait_timeout,
                take_over: self.take_over,
                detail: false,
                timeout: self.timeout,
                with_digest: false,
                expected_plan: None,
                author: Some(history::author()),
                message: self.message.clone(),
            },
        }
    }

    /// The services that are brought up: the named ones and what they need, or all.
    pub(crate) fn brought_up(&self, wanted: &Wanted) -> Vec<String> {
        match (self.services.is_empty(), self.no_deps) {
            (true, _) => wanted.stack.services.keys().map(ServiceName::to_string).collect(),
            (false, true) => self.services.clone(),
            (false, false) => wanted.with_needed(&self.services),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scale_is_a_service_and_a_number() {
        assert_eq!(scale("web=3"), Ok(("web".to_owned(), 3)));
        assert!(scale("web").is_err());
        assert!(scale("web=-1").is_err());
    }
}
