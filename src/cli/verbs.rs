//! The table of verbs. One line each: its name, what it is for, and the type of its arguments.

use std::ffi::OsString;

use clap::{Arg, Command};

use super::commands;
use super::error::{CliError, report};
use super::exit;
use super::global::{Global, OPTIONS};
use super::stack;
use super::verb::Row;

const CONTAINER: &[Row] = &[
    Row::docker::<commands::ps::Args>("ls", "List containers"),
    Row::docker::<commands::ps::Args>("ps", "List containers"),
    Row::docker::<commands::ps::Args>("list", "List containers"),
    Row::docker::<commands::inspect::OfContainers>("inspect", "Print all about containers"),
    Row::docker::<commands::prune::Containers>("prune", "Remove all stopped containers"),
    Row::docker::<commands::rm::Args>("remove", "Remove containers"),
    Row::docker::<commands::attach::Args>("attach", "Join a running container's input and output"),
    Row::docker::<commands::commit::Args>("commit", "Make an image of a container's changes"),
    Row::docker::<commands::cp::Args>("cp", "Copy files between a container and here"),
    Row::docker::<commands::create::Args>("create", "Create a container"),
    Row::docker::<commands::diff::Args>("diff", "Print what a container changed of its image"),
    Row::docker::<commands::exec::Args>("exec", "Run a program in a running container"),
    Row::docker::<commands::export::Args>("export", "Write a container's root as an archive"),
    Row::docker::<commands::kill::Args>("kill", "Send a signal to containers"),
    Row::docker::<commands::logs::Args>("logs", "Print what a container wrote"),
    Row::docker::<commands::pause::Args>("pause", "Freeze the processes of containers"),
    Row::docker::<commands::port::Args>("port", "Print a container's published ports"),
    Row::docker::<commands::rename::Args>("rename", "Rename a container"),
    Row::docker::<commands::restart::Args>("restart", "Restart containers"),
    Row::docker::<commands::rm::Args>("rm", "Remove containers"),
    Row::docker::<commands::run::Args>("run", "Create a container and run it"),
    Row::docker::<commands::start::Args>("start", "Start containers"),
    Row::docker::<commands::stats::Args>("stats", "Print what containers use"),
    Row::docker::<commands::stop::Args>("stop", "Stop containers"),
    Row::docker::<commands::top::Args>("top", "Print the processes of a container"),
    Row::docker::<commands::unpause::Args>("unpause", "Thaw the processes of containers"),
    Row::docker::<commands::update::Args>(
        "update",
        "Change limits and restart policy of containers",
    ),
    Row::docker::<commands::wait::Args>(
        "wait",
        "Wait until containers exit, and print their exit codes",
    ),
];

const IMAGE: &[Row] = &[
    Row::docker::<commands::images::Args>("ls", "List images"),
    Row::docker::<commands::images::Args>("list", "List images"),
    Row::docker::<commands::history::Args>("history", "Print the steps that made an image"),
    Row::docker::<commands::inspect::OfImages>("inspect", "Print all about images"),
    Row::docker::<commands::load::Args>("load", "Load images from an archive"),
    Row::docker::<commands::import::Args>("import", "Make an image of a root's archive"),
    Row::docker::<commands::save::Args>("save", "Write images to an archive"),
    Row::docker::<commands::tag::Args>("tag", "Give an image a further name"),
    Row::docker::<commands::rmi::Args>("rm", "Remove images"),
    Row::docker::<commands::rmi::Args>("remove", "Remove images"),
    Row::docker::<commands::prune::Images>("prune", "Remove images that nothing uses"),
];

const NETWORK: &[Row] = &[
    Row::docker::<commands::networks::List>("ls", "List networks"),
    Row::docker::<commands::networks::List>("list", "List networks"),
    Row::docker::<commands::networks::Create>("create", "Create a network"),
    Row::docker::<commands::inspect::OfNetworks>("inspect", "Print all about networks"),
    Row::docker::<commands::networks::Connect>("connect", "Let a container join a network"),
    Row::docker::<commands::networks::Disconnect>("disconnect", "Let a container leave a network"),
    Row::docker::<commands::networks::Remove>("rm", "Remove networks"),
    Row::docker::<commands::networks::Remove>("remove", "Remove networks"),
    Row::docker::<commands::prune::Networks>("prune", "Remove networks that nothing uses"),
];

const VOLUME: &[Row] = &[
    Row::docker::<commands::volumes::List>("ls", "List volumes"),
    Row::docker::<commands::volumes::List>("list", "List volumes"),
    Row::docker::<commands::volumes::Create>("create", "Create a volume"),
    Row::docker::<commands::inspect::OfVolumes>("inspect", "Print all about volumes"),
    Row::docker::<commands::volumes::Remove>("rm", "Remove volumes"),
    Row::docker::<commands::volumes::Remove>("remove", "Remove volumes"),
    Row::docker::<commands::prune::Volumes>("prune", "Remove volumes that nothing uses"),
];

const SYSTEM: &[Row] = &[
    Row::docker::<commands::check::Args>(
        "check",
        "Print what belongs to nothing, and what is missing",
    ),
    Row::docker::<commands::df::Args>("df", "Print what takes room on the disk"),
    Row::docker::<commands::events::Args>("events", "Print what happens, as it happens"),
    Row::docker::<commands::version::Info>("info", "Print all about the engine and its machine"),
    Row::docker::<commands::prune::System>("prune", "Remove what nothing uses"),
    Row::docker::<commands::engine::Shutdown>("shutdown", "Stop all containers, and the engine"),
];

const ENGINE: &[Row] = &[
    Row::docker::<commands::engine::Start>("start", "Start the engine in the background"),
    Row::docker::<commands::engine::Stop>("stop", "Stop the engine; containers run on"),
    Row::docker::<commands::engine::Restart>(
        "restart",
        "Stop the engine and start it again; containers run on",
    ),
    Row::docker::<commands::engine::Status>("status", "Print whether the engine runs"),
];

const STACKS: &[Row] = &[
    Row::stack::<stack::up::Args>(
        "up",
        "Make the machine what the stack's files want, and follow it",
    ),
    Row::stack::<stack::up::apply::Args>("apply", "Make the machine what the stack's files want"),
    Row::stack::<stack::plan::Args>("plan", "Print what up would change, and why"),
    Row::stack::<stack::down::Args>("down", "End a stack; its volumes stay"),
    Row::stack::<commands::config::Args>(
        "config",
        "Read the stack files, check them, and print the merged stack",
    ),
    Row::family("stack", "Look at the stacks of this machine", stack::list::VERBS),
];

const CONTAINERS: &[Row] = &[
    Row::docker::<commands::run::Args>(
        "run",
        "Run a program in a new container, of an image or of a stack's service",
    )
    .or_chosen_stack::<stack::run::Args>(),
    Row::docker::<commands::create::Args>("create", "Create a container"),
    Row::docker::<commands::start::Args>("start", "Start containers, or services")
        .or_stack::<stack::services::start::Args>(),
    Row::docker::<commands::stop::Args>("stop", "Stop containers, or services")
        .or_stack::<stack::services::stop::Args>(),
    Row::docker::<commands::restart::Args>("restart", "Restart containers, or services")
        .or_stack::<stack::services::restart::Args>(),
    Row::docker::<commands::kill::Args>("kill", "Send a signal to containers, or services")
        .or_stack::<stack::services::kill::Args>(),
    Row::docker::<commands::rm::Args>("rm", "Remove containers, or those of services")
        .or_stack::<stack::services::rm::Args>(),
    Row::docker::<commands::pause::Args>("pause", "Let processes stand still")
        .or_stack::<stack::pause::pausing::Args>(),
    Row::docker::<commands::unpause::Args>("unpause", "Let processes go on")
        .or_stack::<stack::pause::resuming::Args>(),
    Row::docker::<commands::exec::Args>("exec", "Run another program in a running container")
        .or_stack::<stack::exec::Args>(),
    Row::docker::<commands::attach::Args>("attach", "Join the streams of a running container"),
    Row::docker::<commands::logs::Args>("logs", "Print what a container, or a stack, wrote")
        .or_stack::<stack::logs::Args>(),
    Row::docker::<commands::top::Args>("top", "List the processes of a container, or of a stack")
        .or_stack::<stack::top::Args>(),
    Row::docker::<commands::port::Args>("port", "Print what is published, and where")
        .or_stack::<stack::port::Args>(),
    Row::docker::<commands::wait::Args>("wait", "Wait until containers end, and print their codes"),
    Row::docker::<commands::rename::Args>("rename", "Rename a container"),
    Row::docker::<commands::update::Args>(
        "update",
        "Change limits and restart policy of containers",
    ),
    Row::docker::<commands::ps::Args>("ps", "List containers, or those of a stack")
        .or_stack::<stack::ps::Args>(),
    Row::docker::<commands::inspect::Args>(
        "inspect",
        "Print all about containers, images, networks or volumes, or a stack's containers",
    )
    .or_stack::<stack::inspect::Args>(),
    Row::docker::<commands::stats::Args>("stats", "Print what containers use"),
    Row::docker::<commands::cp::Args>("cp", "Copy files between a container and here"),
    Row::docker::<commands::diff::Args>("diff", "Print what a container changed of its image"),
    Row::docker::<commands::export::Args>("export", "Write a container's root as an archive"),
    Row::docker::<commands::commit::Args>("commit", "Make an image of a container's changes"),
];

const IMAGES: &[Row] = &[
    Row::docker::<commands::images::Args>("images", "List images, or those of a stack")
        .or_stack::<stack::images::Args>(),
    Row::docker::<commands::history::Args>("history", "Print the steps that made an image"),
    Row::docker::<commands::load::Args>("load", "Load images from an archive"),
    Row::docker::<commands::import::Args>("import", "Make an image of a root's archive"),
    Row::docker::<commands::save::Args>("save", "Write images to an archive"),
    Row::docker::<commands::tag::Args>("tag", "Give an image a further name"),
    Row::docker::<commands::rmi::Args>("rmi", "Remove images"),
];

const MACHINE: &[Row] = &[
    Row::docker::<commands::events::Args>("events", "Print what happens, as it happens")
        .or_stack::<stack::events::Args>(),
    Row::docker::<commands::version::Args>(
        "version",
        "Print the versions of command line and engine",
    ),
    Row::docker::<commands::version::Info>("info", "Print all about the engine and its machine"),
    Row::docker::<commands::install::Args>("install", "Write the units that let systemd run it"),
    Row::family("engine", "The engine's own process", ENGINE),
    Row::family("system", "Verbs on the whole", SYSTEM),
];

const FAMILIES: &[Row] = &[
    Row::family("container", "Verbs on containers", CONTAINER),
    Row::family("image", "Verbs on images", IMAGE),
    Row::family("network", "Verbs on networks", NETWORK),
    Row::family("volume", "Verbs on volumes", VOLUME),
];

/// All verbs, in the order and under the titles of `--help`. A verb that docker and stacks both have is docker's
/// with `.or_stack::<stack::VERB::Args>()` behind it.
const GROUPS: [(&str, &[Row]); 5] = [
    ("Stacks", STACKS),
    ("Containers, and services of a chosen stack", CONTAINERS),
    ("Images", IMAGES),
    ("The engine", MACHINE),
    ("Verbs by what they act on", FAMILIES),
];

fn verbs() -> impl Iterator<Item = &'static Row> {
    GROUPS.iter().flat_map(|(_, verbs)| verbs.iter())
}

/// Carries `name` out.
pub(super) fn call(global: &Global, name: &str, words: Vec<OsString>) -> u8 {
    match verbs().find(|row| row.name == name) {
        Some(row) => row.call(global, &format!("bargee {name}"), words),
        None if name == "help" => help_on(global, words),
        None => {
            let near = near(name).map_or(String::new(), |near| format!(" (did you mean {near}?)"));
            report(
                &CliError::Usage(format!("there is no verb {name}{near}; see bargee --help")),
                exit::USAGE,
            )
        }
    }
}

/// `bargee help VERB …`.
fn help_on(global: &Global, mut words: Vec<OsString>) -> u8 {
    if words.is_empty() {
        // A closed pipe leaves nobody to tell.
        drop(help().print_help());
        return exit::OK;
    }
    let name = words.remove(0).to_string_lossy().into_owned();
    words.push("--help".into());
    if name == "help" { exit::OK } else { call(global, &name, words) }
}

/// The whole command, for its help.
pub(super) fn help() -> Command {
    let options = OPTIONS.iter().map(|(short, name, value, about)| {
        let option = Arg::new(*name).long(*name).value_name(*value).help(*about);
        match short {
            Some(letter) => option.short(*letter),
            None => option,
        }
    });
    Command::new("bargee")
        .about("A container engine and a declarative supervisor in one binary")
        .version(env!("CARGO_PKG_VERSION"))
        .override_usage("bargee [OPTIONS] VERB [ARGUMENTS]")
        .after_help(
            "Exit codes: 0 done; 1 it failed, or a stack verb was called wrongly; 2 `plan`: there are changes; \
             125 a verb of docker was called wrongly, or `run` got no container; 126 and 127 the program can't be \
             executed or is not there; else the container's own.",
        )
        .disable_help_subcommand(true)
        .args(options)
        .help_template(format!(
            "{{about}}\n\n{{usage-heading}} {{usage}}\n\n{}Options:\n{{options}}{{after-help}}",
            listing()
        ))
        .subcommands(verbs().map(Row::tree))
}

/// The verbs under their titles.
fn listing() -> String {
    let width = verbs().map(|row| row.name.len()).max().unwrap_or(0);
    let mut text = String::new();
    for (title, verbs) in GROUPS {
        text.push_str(&format!("{title}:\n"));
        for row in verbs {
            text.push_str(&format!("  {:width$}  {}\n", row.name, row.about));
        }
        text.push('\n');
    }
    text
}

/// The verb that differs from `name` by the fewest letters, when they are few.
fn near(name: &str) -> Option<&'static str> {
    let (distance, row) =
        verbs().map(|row| (distance(row.name, name), row.name)).min_by_key(|(far, _)| *far)?;
    (distance <= 2 && distance < name.chars().count()).then_some(row)
}

/// How many letters must be put in, left out or changed (Levenshtein).
fn distance(one: &str, other: &str) -> usize {
    let other: Vec<char> = other.chars().collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (line, letter) in one.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = line + 1;
        for (column, against) in other.iter().enumerate() {
            let change = diagonal + usize::from(letter != *against);
            diagonal = row[column + 1];
            row[column + 1] = change.min(diagonal + 1).min(row[column] + 1);
        }
    }
    row[other.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_whole_tree_is_a_command_that_clap_accepts() {
        help().debug_assert();
        verbs().for_each(Row::debug_assert);
    }

    #[test]
    fn every_verb_and_every_flag_says_what_it_is_for() {
        verbs().for_each(|row| row.assert_documented("bargee"));
        let help = help();
        assert!(help.get_arguments().all(|argument| argument.get_help().is_some()));
    }

    #[test]
    fn a_slip_is_guessed_and_a_stranger_is_not() {
        assert_eq!(distance("config", "confg"), 1);
        assert_eq!(near("confg"), Some("config"));
        assert_eq!(near("zzzzzz"), None);
    }
}
