//! Which stack a verb acts on, and which of its services.
//!
//! A name is enough where nothing but the engine's own knowledge is needed: `--stack NAME`, `-p NAME`,
//! `STACK/SERVICE[.N]`. Else the files say it, found as `up` finds them.

use super::wanted::Wanted;
use crate::cli::error::CliError;
use crate::cli::global::{Global, StackChoice};
use crate::cli::stack_files::StackArgs;

/// Chooses a stack in verbs whose `-f` means what docker means by it.
#[derive(Debug, Default, clap::Args)]
pub(crate) struct ByName {
    /// Name of the stack, instead of looking for its file
    #[arg(long, value_name = "NAME")]
    pub(crate) stack: Option<String>,
}

/// A stack, and the `web` or `web.2` in it that were named; none: all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Chosen {
    pub(crate) stack: String,
    pub(crate) services: Vec<String>,
}

/// Finds the stack of a verb that takes services as its words.
///
/// # Errors
/// The words name several stacks, or there is no file and no name.
pub(crate) fn choose(
    global: &Global,
    by_name: &ByName,
    words: &[String],
) -> Result<Chosen, CliError> {
    let (stack, services) = split(words)?;
    if let Some(stack) = stack {
        return Ok(Chosen { stack, services });
    }
    let stack = match &by_name.stack {
        Some(name) => name.clone(),
        None => name(global, &StackArgs::default())?,
    };
    Ok(Chosen { stack, services })
}

/// Returns the name of the stack: what was said, else what the files say.
///
/// # Errors
/// There is no file, or it has mistakes.
pub(crate) fn name(global: &Global, own: &StackArgs) -> Result<String, CliError> {
    let args = both(&global.stack, own);
    if let Some(name) = &global.stack.name {
        return Ok(name.clone());
    }
    match args.project_name {
        Some(name) if args.file.is_empty() => Ok(name),
        _ => Ok(Wanted::read(&args)?.name().to_owned()),
    }
}

/// Joins what stands before the verb and what stands behind it; the latter wins.
pub(crate) fn both(before: &StackChoice, own: &StackArgs) -> StackArgs {
    let list = |first: &Vec<_>, second: &Vec<_>| [first.clone(), second.clone()].concat();
    StackArgs {
        file: list(&before.files, &own.file),
        project_name: own
            .project_name
            .clone()
            .or_else(|| before.project_name.clone())
            .or_else(|| before.name.clone()),
        project_directory: own
            .project_directory
            .clone()
            .or_else(|| before.project_directory.clone()),
        env_file: list(&before.env_files, &own.env_file),
        profile: [before.profiles.clone(), own.profile.clone()].concat(),
        selected: own.selected.clone(),
    }
}

/// Splits `STACK/SERVICE` words into their stack and the services.
fn split(words: &[String]) -> Result<(Option<String>, Vec<String>), CliError> {
    let mut stack: Option<&str> = None;
    let mut services = Vec::new();
    for (index, word) in words.iter().enumerate() {
        let (named, service) = match word.split_once('/') {
            Some((named, service)) => (Some(named), service),
            None => (None, word.as_str()),
        };
        if index > 0 && named != stack {
            let text = "the services belong to different stacks: call the verb once for each";
            return Err(CliError::Usage(text.to_owned()));
        }
        stack = named;
        services.push(service.to_owned());
    }
    Ok((stack.map(str::to_owned), services))
}

/// Splits `web.2`; without a number the first replica is meant only where one must be.
pub(crate) fn replica(word: &str) -> (&str, Option<u32>) {
    match word.rsplit_once('.') {
        Some((service, number)) => match number.parse() {
            Ok(number) => (service, Some(number)),
            Err(_) => (word, None),
        },
        None => (word, None),
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    fn words(words: &[&str]) -> Vec<String> {
        words.iter().map(|word| (*word).to_owned()).collect()
    }

    #[test]
    fn a_stack_before_the_services_is_split_off() {
        assert_eq!(
            split(&words(&["shop/web", "shop/db.2"])).unwrap(),
            (Some("shop".into()), words(&["web", "db.2"]))
        );
        assert_eq!(split(&words(&["web"])).unwrap(), (None, words(&["web"])));
        assert!(split(&words(&["shop/web", "blog/db"])).is_err());
        assert!(split(&words(&["shop/web", "db"])).is_err());
    }

    #[test]
    fn a_replica_is_a_service_and_a_number() {
        assert_eq!(replica("web.12"), ("web", Some(12)));
        assert_eq!(replica("web"), ("web", None));
        assert_eq!(replica("my.web"), ("my.web", None));
    }
}
