//! `bargee plan`: what `up` would change, and why. Exit code 0: nothing; 2: something; 1: an error.

use std::path::PathBuf;

use super::ansi::Paint;
use super::convergence::Convergence;
use super::plan_file;
use super::plan_text;
use super::problems::tell_problems;
use super::requests;
use crate::cli::error::{CliError, warn};
use crate::cli::exit;
use crate::cli::global::Global;
use crate::cli::output::printer;
use crate::cli::verb::Verb;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    convergence: Convergence,
    /// Keep the plan in a file, for `bargee apply FILE`
    #[arg(short, long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Print the plan as JSON
    #[arg(long)]
    json: bool,
    /// Print without colours
    #[arg(long)]
    no_color: bool,
}

impl Verb for Args {
    async fn run(self, global: &Global) -> Result<u8, CliError> {
        let mut wanted = self.convergence.wanted(global)?;
        if self.out.is_some() {
            // What is carried out later needs them.
            wanted.add_compose_hashes();
        }
        let client = global.connect().await?;
        let mut request = self.convergence.request(&wanted, false, None);
        request.options.detail = self.json;
        request.options.with_digest = self.out.is_some();
        let report = requests::plan(&client, &request).await?;
        if self.json {
            printer::json(&report)?;
        } else {
            let paint = if self.no_color { Paint::PLAIN } else { Paint::stdout() };
            printer::print(&plan_text::render(&report, paint))?;
        }
        report.warnings.iter().for_each(|warning| warn(warning));
        if !report.problems.is_empty() {
            tell_problems(Some(&wanted), &report.problems);
            return Err(CliError::Told);
        }
        if let Some(path) = &self.out {
            let request = self.convergence.request(&wanted, false, None);
            plan_file::write(path, request, report.clone())?;
        }
        let code = if report.steps.is_empty() { exit::OK } else { exit::CHANGES };
        // The process ends now; to free a large stack piece by piece takes longer than to print it.
        std::mem::forget((wanted, request, report));
        Ok(code)
    }
}
