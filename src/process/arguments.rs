//! The arguments of `bargee engine`, read by hand as nothing may come before the process's set-up.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

use crate::engine::config::{DEFAULT_PATH, InvalidLogLevel, LogLevel, Named};
use crate::engine::paths::{DEFAULT_ROOT, DEFAULT_RUN, Paths};

/// How the process was called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    pub paths: Paths,
    pub config: PathBuf,
    pub(super) config_named: bool,
    pub start: Start,
    /// What is logged, over the settings file.
    pub(super) log_level: Option<LogLevel>,
    /// The bound socket is standard input: the keeper's way to pass it on.
    pub(super) socket_on_stdin: bool,
    /// The keeper's word that engines crashed again and again.
    pub(super) after_crashes: bool,
    /// Pid of the keeper, who started this engine.
    pub(super) keeper: Option<i32>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// This process is the engine.
    Foreground,
    /// `--auto`: returns when clients can connect; a keeper and the engine go on.
    Detached,
    /// The keeper of the engine that has this pid, which started it.
    Keeper(i32),
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UsageError {
    #[error(
        "unknown argument {0:?} of bargee engine; it takes --root, --run, --config, --log-level, --cgroup and --auto"
    )]
    Unknown(OsString),
    #[error("{0} needs a value")]
    NoValue(&'static str),
    #[error("--log-level: {0}")]
    LogLevel(InvalidLogLevel),
}

/// The last two are between keeper and engine.
const FLAGS: [&str; 7] =
    ["--root", "--run", "--config", "--log-level", "--cgroup", "--keeper", "--keep"];

impl Options {
    /// Reads the words after `engine`. `variable` looks one up in the environment.
    ///
    /// # Errors
    /// An argument is unknown or lacks its value.
    pub fn parse(
        mut arguments: impl Iterator<Item = OsString>,
        variable: impl Fn(&str) -> Option<OsString>,
    ) -> Result<Self, UsageError> {
        let mut given: [Option<OsString>; FLAGS.len()] = Default::default();
        let (mut start, mut socket_on_stdin) = (Start::Foreground, false);
        let mut after_crashes = false;
        while let Some(word) = arguments.next() {
            if word == "--auto" {
                start = Start::Detached;
            } else if word == "--socket-on-stdin" {
                socket_on_stdin = true;
            } else if word == "--after-crashes" {
                after_crashes = true;
            } else {
                let (place, value) =
                    valued(&word).ok_or_else(|| UsageError::Unknown(word.clone()))?;
                let value = match value {
                    Some(value) => value,
                    None => arguments.next().ok_or(UsageError::NoValue(FLAGS[place]))?,
                };
                given[place] = Some(value);
            }
        }
        let [root, run, config, level, cgroup, keeper, keep] = given;
        let keeper = keeper.map(|word| pid("--keeper", &word)).transpose()?;
        if let Some(word) = keep {
            start = Start::Keeper(pid("--keep", &word)?);
        }
        let log_level = level
            .map(|level| LogLevel::try_from(level.to_string_lossy().into_owned()))
            .transpose()
            .map_err(UsageError::LogLevel)?;
        let home = cgroup.unwrap_or_default().to_string_lossy().into_owned();
        let folder = |given: Option<OsString>, name, default: &str| {
            given.or_else(|| variable(name)).map_or_else(|| default.into(), PathBuf::from)
        };
        let root = folder(root, "BARGEE_ROOT", DEFAULT_ROOT);
        let run = folder(run, "BARGEE_RUN", DEFAULT_RUN);
        Ok(Self {
            paths: Paths::new(absolute(root), absolute(run)).at_home(&home),
            config_named: config.is_some(),
            config: absolute(config.map_or_else(|| DEFAULT_PATH.into(), PathBuf::from)),
            start,
            log_level,
            socket_on_stdin,
            after_crashes,
            keeper,
        })
    }

    pub(super) fn named(&self) -> Named {
        if self.config_named { Named::ByUser } else { Named::ByDefault }
    }

    /// The arguments of an engine that the keeper `keeper` starts with these options.
    pub(super) fn of_engine(&self, keeper: u32) -> Vec<OsString> {
        let mut words = self.words();
        words.extend(["--keeper".into(), keeper.to_string().into()]);
        words
    }

    /// The arguments of another keeper that the engine `engine`, which has these options, starts for itself.
    pub(super) fn of_keeper(&self, engine: u32) -> Vec<OsString> {
        let mut words = self.words();
        words.extend(["--keep".into(), engine.to_string().into()]);
        if self.after_crashes {
            words.push("--after-crashes".into());
        }
        words
    }

    fn words(&self) -> Vec<OsString> {
        let mut words: Vec<OsString> = vec!["engine".into(), "--socket-on-stdin".into()];
        words.extend(["--root".into(), self.paths.root().into()]);
        words.extend(["--run".into(), self.paths.run().into()]);
        if !self.paths.home().is_empty() {
            words.extend(["--cgroup".into(), self.paths.home().into()]);
        }
        if self.config_named {
            words.extend(["--config".into(), self.config.clone().into()]);
        }
        if let Some(level) = &self.log_level {
            words.extend(["--log-level".into(), level.as_str().into()]);
        }
        words
    }
}

/// Takes `--flag` or `--flag=value` apart.
fn valued(word: &OsStr) -> Option<(usize, Option<OsString>)> {
    let text = word.to_str()?;
    let (name, value) = match text.split_once('=') {
        Some((name, value)) => (name, Some(value.into())),
        None => (text, None),
    };
    FLAGS.iter().position(|flag| *flag == name).map(|place| (place, value))
}

fn pid(flag: &'static str, word: &OsStr) -> Result<i32, UsageError> {
    let pid = word.to_str().and_then(|word| word.parse().ok()).filter(|pid| *pid > 0);
    pid.ok_or(UsageError::NoValue(flag))
}

/// Against the current folder, which a detached engine leaves. A folder that is gone leaves the path as it is.
fn absolute(path: PathBuf) -> PathBuf {
    std::path::absolute(&path).unwrap_or(path)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed step fails the test")]
mod tests {
    use super::*;

    fn parse(words: &[&str]) -> Result<Options, UsageError> {
        let variable = |name: &str| (name == "BARGEE_RUN").then(|| "/env".into());
        Options::parse(words.iter().map(Into::into), variable)
    }

    #[test]
    fn an_argument_wins_over_the_environment_and_that_over_the_default() {
        let options = parse(&["--root=/r"]).unwrap();
        assert_eq!(options.paths, Paths::new("/r".into(), "/env".into()));
        assert_eq!(options.named(), Named::ByDefault);
        let options = parse(&["--run", "/x", "--config", "/c", "--auto"]).unwrap();
        assert_eq!(options.paths, Paths::new(DEFAULT_ROOT.into(), "/x".into()));
        assert_eq!((options.named(), options.start), (Named::ByUser, Start::Detached));
    }

    #[test]
    fn a_keepers_engine_gets_the_same_options() {
        let words =
            ["--root", "/r", "--config=/c", "--log-level", "debug", "--cgroup=/x.scope", "--auto"];
        let options = parse(&words).unwrap();
        let words = options.of_engine(7);
        let again = Options::parse(words.into_iter().skip(1), |_| None).unwrap();
        assert_eq!((&again.paths, again.keeper), (&options.paths, Some(7)));
        assert_eq!((&again.config, again.config_named), (&options.config, true));
        assert_eq!(again.log_level, Some(LogLevel::debug()));
        assert!(again.socket_on_stdin && again.start == Start::Foreground);
        let engine = Options { after_crashes: true, ..again };
        let keeper = engine.of_keeper(8).into_iter().skip(1);
        let keeper = Options::parse(keeper, |_| None).unwrap();
        assert_eq!(keeper, Options { start: Start::Keeper(8), keeper: None, ..engine });
    }

    #[test]
    fn what_is_unknown_or_incomplete_is_refused() {
        assert_eq!(parse(&["--rot", "/r"]), Err(UsageError::Unknown("--rot".into())));
        assert_eq!(parse(&["--run"]), Err(UsageError::NoValue("--run")));
        assert_eq!(parse(&["--keep", "it"]), Err(UsageError::NoValue("--keep")));
        assert!(matches!(parse(&["--log-level", "loud"]), Err(UsageError::LogLevel(_))));
    }
}
