//! `bargee config`: the merged stack as it is understood, or every mistake in it.

use std::collections::BTreeMap;
use std::io::{self, Write};

use crate::cli::error::CliError;
use crate::cli::global::Global;
use crate::cli::stack_files::{self, ReadStack, StackArgs};
use crate::cli::verb::Verb;
use crate::cli::{error, exit};
use crate::diagnostic::{self, Colour};
use crate::spec::emit;
use crate::spec::stack::Stack;

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    stack: StackArgs,
    /// Form of the output
    #[arg(long, value_enum, default_value_t = Format::Yaml)]
    format: Format,
    /// Check only, print nothing
    #[arg(short, long)]
    quiet: bool,
    /// Print the services' names, one a line
    #[arg(long, conflicts_with_all = ["volumes", "networks", "images", "variables"])]
    services: bool,
    /// Print the volumes' names, one a line
    #[arg(long, conflicts_with_all = ["networks", "images", "variables"])]
    volumes: bool,
    /// Print the networks' names, one a line
    #[arg(long, conflicts_with_all = ["images", "variables"])]
    networks: bool,
    /// Print the images' references, one a line
    #[arg(long, conflicts_with = "variables")]
    images: bool,
    /// Print the variables that the files use, and their values or defaults
    #[arg(long)]
    variables: bool,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Format {
    Yaml,
    Json,
}

impl Verb for Args {
    /// Reads, checks and prints. Exit code 1 when anything is wrong.
    async fn run(mut self, global: &Global) -> Result<u8, CliError> {
        self.stack.after(&global.stack);
        Ok(print(&self))
    }
}

fn print(args: &Args) -> u8 {
    let environment: BTreeMap<String, String> = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect();
    let read = match stack_files::read(&args.stack, &environment) {
        Ok(read) => read,
        Err(error) => {
            error::tell(&error);
            return exit::FAILURE;
        }
    };
    let mut stderr = anstream::stderr();
    let colour = match anstream::AutoStream::choice(&io::stderr()) {
        anstream::ColorChoice::Never => Colour::Plain,
        _ => Colour::Ansi,
    };
    for found in &read.diagnostics {
        // Nobody is left to tell when standard error is closed; the exit code still says it.
        drop(writeln!(stderr, "{}\n", diagnostic::render(found, &read.sources, colour)));
    }
    let Some(stack) = &read.stack else {
        return exit::FAILURE;
    };
    if args.quiet {
        return exit::OK;
    }
    match io::stdout().write_all(output(args, &read, stack).as_bytes()) {
        Ok(()) => exit::OK,
        // `bargee config | head` is no failure.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => exit::OK,
        Err(error) => {
            error::tell(&error);
            exit::FAILURE
        }
    }
}

fn output(args: &Args, read: &ReadStack, stack: &Stack) -> String {
    if args.services {
        return lines(stack.services.keys());
    }
    if args.volumes {
        return lines(stack.volumes.keys());
    }
    if args.networks {
        return lines(stack.networks.keys());
    }
    if args.images {
        return lines(stack.services.values().map(|service| &service.container.image));
    }
    if args.variables {
        let line = |(name, variable): (&String, &crate::spec::interpolate::Variable)| match variable
            .value
            .as_ref()
            .or(variable.default.as_ref())
        {
            Some(value) => format!("{name}={value}"),
            None => name.clone(),
        };
        return lines(read.variables.iter().map(line));
    }
    match args.format {
        Format::Yaml => emit::to_yaml(&read.root),
        Format::Json => format!("{:#}\n", emit::to_json(&read.root)),
    }
}

fn lines<T: std::fmt::Display>(items: impl Iterator<Item = T>) -> String {
    items.map(|item| format!("{}\n", diagnostic::escape_controls(&item.to_string()))).collect()
}
