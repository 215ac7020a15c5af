//! `start`, `stop`, `restart`, `kill` and `rm` on a stack: what the user wishes of services, kept by the engine.

use super::choose::{self, ByName};
use super::requests;
use super::show::{Display, show};
use super::tell;
use crate::cli::error::CliError;
use crate::cli::exit;
use crate::cli::global::Global;
use crate::cli::verb::Verb;
use crate::protocol::ServiceSelection;

/// What all of them take.
#[derive(Debug, clap::Args)]
struct Common {
    #[command(flatten)]
    by_name: ByName,
    /// SERVICE, SERVICE.N or STACK/SERVICE[.N] [default: all services]
    #[arg(value_name = "SERVICE")]
    services: Vec<String>,
    /// Print the progress as JSON lines
    #[arg(long)]
    json: bool,
}

impl Common {
    /// Sends `selection`, with the services of the words, and shows what is done.
    async fn run(
        &self,
        global: &Global,
        verb: &str,
        selection: ServiceSelection,
    ) -> Result<u8, CliError> {
        let chosen = choose::choose(global, &self.by_name, &self.services)?;
        let client = global.connect().await?;
        let selection = ServiceSelection { services: chosen.services, ..selection };
        let lines = requests::services(&client, &chosen.stack, verb, &selection).await?;
        let title = format!("{verb} {}", chosen.stack);
        show(lines, &title, Display::choose(self.json), None).await?;
        Ok(exit::OK)
    }
}

pub(crate) mod start {
    use super::*;

    #[derive(Debug, clap::Args)]
    pub(crate) struct Args {
        #[command(flatten)]
        common: Common,
        /// Leave alone what the services need
        #[arg(long)]
        no_deps: bool,
    }

    impl Verb for Args {
        async fn run(self, global: &Global) -> Result<u8, CliError> {
            let no_deps = self.no_deps;
            let selection = ServiceSelection { no_deps, ..ServiceSelection::default() };
            self.common.run(global, "start", selection).await
        }

        fn targets(&self) -> &[String] {
            &self.common.services
        }
    }
}

pub(crate) mod stop {
    use super::*;

    #[derive(Debug, clap::Args)]
    pub(crate) struct Args {
        #[command(flatten)]
        common: Common,
        /// Seconds of grace before a container is killed [default: its own]
        #[arg(short, long, value_name = "SECONDS")]
        timeout: Option<u64>,
    }

    impl Verb for Args {
        async fn run(self, global: &Global) -> Result<u8, CliError> {
            let timeout = self.timeout;
            let selection = ServiceSelection { timeout, ..ServiceSelection::default() };
            self.common.run(global, "stop", selection).await
        }

        fn targets(&self) -> &[String] {
            &self.common.services
        }
    }
}

pub(crate) mod restart {
    use super::*;

    #[derive(Debug, clap::Args)]
    pub(crate) struct Args {
        #[command(flatten)]
        common: Common,
        /// Seconds of grace before a container is killed [default: its own]
        #[arg(short, long, value_name = "SECONDS")]
        timeout: Option<u64>,
        /// Leave alone what needs the services
        #[arg(long)]
        no_deps: bool,
    }

    impl Verb for Args {
        async fn run(self, global: &Global) -> Result<u8, CliError> {
            let (timeout, no_deps) = (self.timeout, self.no_deps);
            let selection = ServiceSelection { timeout, no_deps, ..ServiceSelection::default() };
            self.common.run(global, "restart", selection).await
        }

        fn targets(&self) -> &[String] {
            &self.common.services
        }
    }
}

pub(crate) mod kill {
    use super::*;

    #[derive(Debug, clap::Args)]
    pub(crate) struct Args {
        #[command(flatten)]
        common: Common,
        /// Signal to send [default: KILL]
        #[arg(short, long, value_name = "SIGNAL")]
        signal: Option<String>,
    }

    impl Verb for Args {
        async fn run(self, global: &Global) -> Result<u8, CliError> {
            let signal = self.signal.clone();
            let selection = ServiceSelection { signal, ..ServiceSelection::default() };
            self.common.run(global, "kill", selection).await
        }

        fn targets(&self) -> &[String] {
            &self.common.services
        }
    }
}

pub(crate) mod rm {
    use super::*;

    #[derive(Debug, clap::Args)]
    pub(crate) struct Args {
        #[command(flatten)]
        common: Common,
        /// Stop running containers first
        #[arg(short, long)]
        stop: bool,
        /// Ask nothing: no question is ever asked
        #[arg(short, long)]
        force: bool,
        /// Remove the containers' anonymous volumes too
        #[arg(short, long)]
        volumes: bool,
    }

    impl Verb for Args {
        async fn run(self, global: &Global) -> Result<u8, CliError> {
            let (stop, volumes) = (self.stop, self.volumes);
            let selection = ServiceSelection { stop, volumes, ..ServiceSelection::default() };
            let one = self.common.services.iter().any(|word| choose::replica(word).1.is_some());
            let code = self.common.run(global, "rm", selection).await?;
            if one {
                tell::note(
                    "hint: a removed replica comes back: `up --scale` changes their number, `down` ends the stack",
                );
            }
            Ok(code)
        }

        fn targets(&self) -> &[String] {
            &self.common.services
        }
    }
}
