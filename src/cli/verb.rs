//! A row of the table of verbs: its name, its clap arguments (built only when it is the one that was called),
//! and what it runs.

use std::ffi::OsString;

use clap::{Arg, ArgAction, ArgMatches, Command};

use super::error::{CliError, report};
use super::exit;
use super::global::Global;

/// A verb's arguments, and what it does with them.
pub(crate) trait Verb: clap::Args + Sized {
    /// Does it; returns the exit code.
    fn run(self, global: &Global) -> impl Future<Output = Result<u8, CliError>>;

    /// The containers that were named, in verbs that act on a stack when one of them is `STACK/SERVICE`.
    fn targets(&self) -> &[String] {
        &[]
    }
}

/// Who says how a verb is spelled: what being called wrongly exits with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Family {
    Docker,
    Stack,
}

impl Family {
    fn usage(self) -> u8 {
        match self {
            Self::Docker => exit::USAGE,
            Self::Stack => exit::FAILURE,
        }
    }
}

/// One way to carry a verb out.
#[derive(Debug, Clone, Copy)]
struct Action {
    family: Family,
    /// Adds the arguments.
    arguments: fn(Command) -> Command,
    run: fn(&Global, &mut ArgMatches) -> Result<u8, CliError>,
    /// Whether a target names a service.
    names_service: fn(&ArgMatches) -> bool,
}

impl Action {
    const fn new<V: Verb>(family: Family) -> Self {
        Self {
            family,
            arguments: V::augment_args,
            run: run::<V>,
            names_service: names_service::<V>,
        }
    }
}

fn run<V: Verb>(global: &Global, matches: &mut ArgMatches) -> Result<u8, CliError> {
    let verb = V::from_arg_matches_mut(matches)
        .map_err(|error| CliError::Usage(error.to_string().trim_end().to_owned()))?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(CliError::io("start the event loop"))?;
    let result = runtime.block_on(verb.run(global));
    // A read of the terminal that still hangs in a thread must not hold the exit.
    runtime.shutdown_background();
    result
}

fn names_service<V: Verb>(matches: &ArgMatches) -> bool {
    V::from_arg_matches(matches)
        .is_ok_and(|verb| verb.targets().iter().any(|word| is_service(word)))
}

/// Whether `word` has the form `STACK/SERVICE[.N]`. A container's own name holds no slash but a leading one.
pub(crate) fn is_service(word: &str) -> bool {
    word.split_once('/').is_some_and(|(stack, service)| {
        let plain = |text: &str| {
            !text.is_empty()
                && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
        };
        plain(stack) && plain(service)
    })
}

/// Whether `word` chooses a stack behind the verb.
fn is_stack_option(word: &str) -> bool {
    word == "--stack" || word.starts_with("--stack=")
}

/// A row of the table.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Row {
    pub(crate) name: &'static str,
    pub(crate) about: &'static str,
    docker: Option<Action>,
    stack: Option<Action>,
    /// Whether a word `STACK/SERVICE` chooses the stack's meaning; else it may be an image's name.
    takes_services: bool,
    /// Verbs below this one: `container ls`.
    verbs: &'static [Row],
}

impl Row {
    /// A verb that is docker's alone.
    pub(crate) const fn docker<V: Verb>(name: &'static str, about: &'static str) -> Self {
        let docker = Some(Action::new::<V>(Family::Docker));
        Self { name, about, docker, stack: None, takes_services: false, verbs: &[] }
    }

    /// A verb that only a stack has.
    pub(crate) const fn stack<V: Verb>(name: &'static str, about: &'static str) -> Self {
        let stack = Some(Action::new::<V>(Family::Stack));
        Self { name, about, docker: None, stack, takes_services: false, verbs: &[] }
    }

    /// Gives docker's verb its second meaning: on a stack, when one is chosen.
    pub(crate) const fn or_stack<V: Verb>(self) -> Self {
        Self { stack: Some(Action::new::<V>(Family::Stack)), takes_services: true, ..self }
    }

    /// As [`Row::or_stack`], for a verb whose first word is an image in docker's meaning: only `--stack` and what
    /// stands before the verb choose a stack.
    pub(crate) const fn or_chosen_stack<V: Verb>(self) -> Self {
        Self { stack: Some(Action::new::<V>(Family::Stack)), ..self }
    }

    /// A word with verbs of its own below it.
    pub(crate) const fn family(
        name: &'static str,
        about: &'static str,
        verbs: &'static [Row],
    ) -> Self {
        Self { name, about, docker: None, stack: None, takes_services: false, verbs }
    }

    /// Carries the verb out; `path` is the words that lead here. Returns the exit code.
    pub(crate) fn call(&self, global: &Global, path: &str, words: Vec<OsString>) -> u8 {
        if !self.verbs.is_empty() {
            return self.call_below(global, path, words);
        }
        match (self.docker, self.stack) {
            (Some(docker), None) => self.act(docker, global, path, words),
            (None, Some(stack)) => self.act(stack, global, path, words),
            (Some(_), Some(stack)) if global.stack.is_made() => {
                self.act(stack, global, path, words)
            }
            (Some(docker), Some(stack)) => {
                let chosen = match self.parse(docker, path, &words) {
                    Ok(matches) if (docker.names_service)(&matches) => stack,
                    Err(_)
                        if words.iter().filter_map(|word| word.to_str()).any(|word| {
                            is_stack_option(word) || (self.takes_services && is_service(word))
                        }) =>
                    {
                        stack
                    }
                    _ => docker,
                };
                self.act(chosen, global, path, words)
            }
            (None, None) => exit::FAILURE,
        }
    }

    fn call_below(&self, global: &Global, path: &str, mut words: Vec<OsString>) -> u8 {
        let first = words.first().map(|word| word.to_string_lossy().into_owned());
        match first.as_deref() {
            None | Some("-h" | "--help" | "help") => {
                drop(self.tree().bin_name(path.to_owned()).print_help());
                if first.is_some() { exit::OK } else { exit::FAILURE }
            }
            Some(name) => match find(self.verbs, name) {
                Some(row) => {
                    words.remove(0);
                    row.call(global, &format!("{path} {}", row.name), words)
                }
                None => {
                    let text = format!("{path} has no verb {name}; see {path} --help");
                    report(&CliError::Usage(text), exit::USAGE)
                }
            },
        }
    }

    fn act(&self, action: Action, global: &Global, path: &str, words: Vec<OsString>) -> u8 {
        let mut matches = match self.parse(action, path, &words) {
            Ok(matches) => matches,
            Err(error) => {
                // A closed pipe leaves nobody to tell.
                drop(error.print());
                // Clap's own code is 2, which `plan` uses for "there are changes".
                return if error.use_stderr() { action.family.usage() } else { exit::OK };
            }
        };
        match (action.run)(global, &mut matches) {
            Ok(code) => code,
            Err(error) => report(&error, action.family.usage()),
        }
    }

    fn parse(
        &self,
        action: Action,
        path: &str,
        words: &[OsString],
    ) -> clap::error::Result<ArgMatches> {
        let help = words.iter().any(|word| word == "--help");
        let command = self.command(action, path);
        // What `--flag=false` needs makes the help harder to read.
        let command = if help { command } else { command.mut_args(as_docker_reads_it) };
        command.no_binary_name(true).try_get_matches_from(words)
    }

    fn command(&self, action: Action, path: &str) -> Command {
        let command = (action.arguments)(Command::new(self.name).bin_name(path.to_owned()));
        let taken = command.get_arguments().any(|argument| argument.get_short() == Some('h'));
        let help = Arg::new("help").long("help").action(ArgAction::Help).help("Print help");
        let help = if taken { help } else { help.short('h') };
        command
            .about(self.about)
            .disable_help_flag(true)
            .arg(help)
            // The last one counts, as docker has it.
            .args_override_self(true)
    }

    /// The command with everything below it, for help alone.
    pub(crate) fn tree(&self) -> Command {
        let command = Command::new(self.name).about(self.about).disable_help_subcommand(true);
        command.subcommands(self.verbs.iter().map(Row::tree))
    }
}

/// Switches may be given `=true` or `=false`, and a value may begin with a hyphen.
fn as_docker_reads_it(argument: Arg) -> Arg {
    if matches!(argument.get_action(), ArgAction::SetTrue) {
        return argument
            .action(ArgAction::Set)
            .num_args(0..=1)
            .require_equals(true)
            .default_value("false")
            .default_missing_value("true")
            .value_parser(clap::builder::BoolishValueParser::new());
    }
    let takes_value = matches!(argument.get_action(), ArgAction::Set | ArgAction::Append);
    if takes_value && !argument.is_positional() {
        argument.allow_hyphen_values(true)
    } else {
        argument
    }
}

/// Returns the row of `name`.
pub(crate) fn find<'a>(rows: &'a [Row], name: &str) -> Option<&'a Row> {
    rows.iter().find(|row| row.name == name)
}

#[cfg(test)]
impl Row {
    /// Lets clap check the arguments of this verb and of those below it.
    pub(crate) fn debug_assert(&self) {
        for action in [self.docker, self.stack].into_iter().flatten() {
            self.command(action, self.name).debug_assert();
            self.command(action, self.name).mut_args(as_docker_reads_it).debug_assert();
        }
        self.verbs.iter().for_each(Row::debug_assert);
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;
    use clap::FromArgMatches;

    #[derive(Debug, clap::Args)]
    struct Sample {
        #[arg(short, long)]
        interactive: bool,
        #[arg(short, long)]
        tty: bool,
        #[arg(long)]
        rm: bool,
        #[arg(short, long)]
        env: Vec<String>,
        #[arg(short = 'h', long)]
        hostname: Option<String>,
        #[arg(required = true, trailing_var_arg = true)]
        words: Vec<String>,
    }

    impl Verb for Sample {
        async fn run(self, _global: &Global) -> Result<u8, CliError> {
            Ok(0)
        }

        fn targets(&self) -> &[String] {
            &self.words[..1]
        }
    }

    const ROW: Row = Row::docker::<Sample>("sample", "Try");

    fn parse(words: &[&str]) -> clap::error::Result<Sample> {
        let words: Vec<OsString> = words.iter().map(OsString::from).collect();
        let matches = ROW.parse(ROW.docker.unwrap(), "bargee sample", &words)?;
        Sample::from_arg_matches(&matches)
    }

    #[test]
    fn flags_read_as_docker_reads_them() {
        let sample = parse(&[
            "-it",
            "--rm=false",
            "-e",
            "-A=1",
            "-eB",
            "-h",
            "a",
            "-h",
            "b",
            "img",
            "-c",
            "--rm",
        ])
        .unwrap();
        assert!(sample.interactive && sample.tty && !sample.rm);
        assert_eq!(sample.env, ["-A=1", "B"]);
        assert_eq!(sample.hostname.as_deref(), Some("b"));
        assert_eq!(sample.words, ["img", "-c", "--rm"]);
        assert!(parse(&["--rm", "img"]).unwrap().rm);
        assert!(parse(&["--nonsense", "img"]).is_err());
        assert!(parse(&["-i"]).is_err());
    }

    #[test]
    fn a_service_is_told_from_a_container() {
        for (word, expected) in [
            ("shop/web", true),
            ("shop/web.2", true),
            ("/web", false),
            ("web", false),
            ("a/b/c", false),
        ] {
            assert_eq!(is_service(word), expected, "{word}");
        }
        let words: Vec<OsString> = vec!["shop/web".into(), "etc/passwd".into()];
        let matches = ROW.parse(ROW.docker.unwrap(), "x", &words).unwrap();
        assert!(names_service::<Sample>(&matches));
    }
}
