//! `bargee top`: the processes of a container.

use serde_json::Value;

use super::path;
use crate::cli::error::CliError;
use crate::cli::exit;
use crate::cli::global::Global;
use crate::cli::output::printer;
use crate::cli::output::table::Table;
use crate::cli::verb::Verb;

/// Docker makes the columns of this table wider than those of its others.
pub(crate) const WIDTH: usize = 20;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Container, then words for ps
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true, value_names = ["CONTAINER", "PS"])]
    words: Vec<String>,
}

impl Verb for Args {
    async fn run(self, global: &Global) -> Result<u8, CliError> {
        let client = global.connect().await?;
        let options = self.words[1..].join(" ");
        let query = [("ps_args", options.as_str())];
        let query = if options.is_empty() { &[][..] } else { &query };
        let answer: Value = client.get(&path(&self.words[0], "top"), query).await?.json()?;
        let words = |value: &Value| -> Vec<String> {
            value.as_array().into_iter().flatten().map(text_of).collect()
        };
        let titles = words(&answer["Titles"]);
        let mut table = Table::new(titles).no_narrower_than(WIDTH);
        for process in answer["Processes"].as_array().into_iter().flatten() {
            table.row(words(process));
        }
        printer::print(&table.to_string())?;
        Ok(exit::OK)
    }

    fn targets(&self) -> &[String] {
        &self.words[..1]
    }
}

fn text_of(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}
