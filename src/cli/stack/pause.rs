//! `bargee pause` and `bargee unpause` on a stack: its processes stand still, and go on.

use super::choose::{self, ByName};
use super::containers::select;
use super::requests;
use crate::cli::client::segment;
use crate::cli::error::{CliError, tell};
use crate::cli::exit;
use crate::cli::global::Global;
use crate::cli::output::printer;
use crate::cli::verb::Verb;
use crate::diagnostic::escape_controls;

#[derive(Debug, clap::Args)]
struct Common {
    #[command(flatten)]
    by_name: ByName,
    /// SERVICE, SERVICE.N or STACK/SERVICE[.N] [default: all services]
    #[arg(value_name = "SERVICE")]
    services: Vec<String>,
}

impl Common {
    /// Does `verb` to each container that is in `state`, and prints its name.
    async fn run(&self, global: &Global, verb: &str, state: &str) -> Result<u8, CliError> {
        let chosen = choose::choose(global, &self.by_name, &self.services)?;
        let client = global.connect().await?;
        let view = requests::view(&client, &chosen.stack).await?;
        let mut failed = false;
        for found in select(&view, &chosen)? {
            if found.replica.state != state {
                continue;
            }
            let path = format!("/containers/{}/{verb}", segment(&found.replica.id));
            match client.post(&path, &[], None).await {
                Ok(_) => printer::line(&escape_controls(&found.replica.container))?,
                Err(error) => {
                    failed = true;
                    tell(&error);
                }
            }
        }
        if failed { Err(CliError::Told) } else { Ok(exit::OK) }
    }
}

pub(crate) mod pausing {
    use super::*;

    #[derive(Debug, clap::Args)]
    pub(crate) struct Args {
        #[command(flatten)]
        common: Common,
    }

    impl Verb for Args {
        async fn run(self, global: &Global) -> Result<u8, CliError> {
            self.common.run(global, "pause", "running").await
        }

        fn targets(&self) -> &[String] {
            &self.common.services
        }
    }
}

pub(crate) mod resuming {
    use super::*;

    #[derive(Debug, clap::Args)]
    pub(crate) struct Args {
        #[command(flatten)]
        common: Common,
    }

    impl Verb for Args {
        async fn run(self, global: &Global) -> Result<u8, CliError> {
            self.common.run(global, "unpause", "paused").await
        }

        fn targets(&self) -> &[String] {
            &self.common.services
        }
    }
}
