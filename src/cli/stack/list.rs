//! The verbs below `bargee stack`; `ls` and `inspect` are here: the stacks of this machine.

use super::choose::{self, ByName};
use super::containers::one;
use super::history;
use super::requests;
use crate::cli::client::segment;
use crate::cli::error::CliError;
use crate::cli::exit;
use crate::cli::global::Global;
use crate::cli::output::printer;
use crate::cli::output::table::Table;
use crate::cli::output::template::Template;
use crate::cli::verb::{Row, Verb};
use serde::Serialize;
use serde_json::Value;

/// The verbs below `bargee stack`.
pub(crate) const VERBS: &[Row] = &[
    Row::stack::<ls::Args>("ls", "List the stacks of this machine"),
    Row::stack::<inspect::Args>("inspect", "Print all that is known of a stack as JSON"),
    Row::stack::<history::list::Args>("history", "List what was wanted of a stack, and when"),
    Row::stack::<history::diff::Args>("diff", "Print what changed between two revisions"),
    Row::stack::<history::at::Args>("at", "Print the files of a stack as they were at a time"),
    Row::stack::<history::rollback::Args>("rollback", "Make an earlier revision the newest one"),
];

pub(crate) mod ls {
    use super::*;

    #[derive(Debug, clap::Args)]
    pub(crate) struct Args {
        /// Print the names alone
        #[arg(short, long)]
        quiet: bool,
        /// table, json, or a template over the fields of json
        #[arg(long, value_name = "FORMAT", default_value = "table")]
        format: String,
    }

    impl Verb for Args {
        async fn run(self, global: &Global) -> Result<u8, CliError> {
            let client = global.connect().await?;
            let views = requests::views(&client).await?;
            let mut text = String::new();
            if self.quiet {
                text.extend(views.iter().map(|view| format!("{}\n", view.name)));
            } else if self.format == "table" {
                let mut table = Table::new(["NAME", "STATUS", "REVISION", "CONFIG FILES"]);
                for view in &views {
                    let status = match &view.frozen {
                        Some(why) => format!("{} ({why})", view.status),
                        None => view.status.clone(),
                    };
                    let revision = view.revision.to_string();
                    let files = view.config_files.join(",");
                    table.row([view.name.clone(), status, revision, files]);
                }
                text = table.to_string();
            } else {
                let template =
                    (self.format != "json").then(|| Template::parse(&self.format)).transpose()?;
                for view in &views {
                    let value = json(view)?;
                    text.push_str(&match &template {
                        Some(template) => template.render(&value)?,
                        None => value.to_string(),
                    });
                    text.push('\n');
                }
            }
            printer::print(&text)?;
            Ok(exit::OK)
        }
    }
}

pub(crate) mod inspect {
    use super::*;

    #[derive(Debug, clap::Args)]
    pub(crate) struct Args {
        #[command(flatten)]
        by_name: ByName,
        /// The stack's name, or STACK/SERVICE[.N] for one of its containers [default: the folder's stack]
        #[arg(value_name = "STACK")]
        word: Option<String>,
        /// A template over the fields
        #[arg(long, value_name = "TEMPLATE")]
        format: Option<String>,
    }

    impl Verb for Args {
        async fn run(self, global: &Global) -> Result<u8, CliError> {
            let (stack, service) = match self.word.as_deref() {
                Some(word) => match word.split_once('/') {
                    Some((stack, service)) => (stack.to_owned(), Some(service.to_owned())),
                    None => (word.to_owned(), None),
                },
                None => (choose::choose(global, &self.by_name, &[])?.stack, None),
            };
            let client = global.connect().await?;
            let view = requests::view(&client, &stack).await?;
            let value = match service {
                None => json(&view)?,
                Some(service) => {
                    let id = &one(&view, &service, None)?.replica.id;
                    client.get(&format!("/containers/{}/json", segment(id)), &[]).await?.json()?
                }
            };
            match &self.format {
                Some(template) => printer::line(&Template::parse(template)?.render(&value)?)?,
                None => printer::line(&format!("{value:#}"))?,
            }
            Ok(exit::OK)
        }
    }
}

fn json<T: Serialize>(view: &T) -> Result<Value, CliError> {
    serde_json::to_value(view)
        .map_err(|error| CliError::Failed(format!("cannot write the stack as JSON: {error}")))
}
