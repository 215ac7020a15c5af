//! What runs in the container, and how it is joined to the terminal, restarted and logged.

use std::fs;
use std::path::PathBuf;

use serde_json::{Value, json};

use super::{Body, environment, pairs};
use crate::cli::error::CliError;

#[derive(Debug, Default, clap::Args)]
pub(crate) struct ProcessFlags {
    /// Keep standard input open
    #[arg(short, long)]
    pub(crate) interactive: bool,
    /// Give the program a terminal
    #[arg(short, long)]
    pub(crate) tty: bool,
    /// Join only these: stdin, stdout, stderr
    #[arg(short, long, value_name = "STREAM")]
    pub(crate) attach: Vec<String>,
    /// Remove the container when it exits
    #[arg(long)]
    pub(crate) rm: bool,
    /// Set a variable, or pass it on from here
    #[arg(short, long, value_name = "NAME[=VALUE]")]
    env: Vec<String>,
    /// Read variables from a file
    #[arg(long, value_name = "FILE")]
    env_file: Vec<PathBuf>,
    /// Set a label
    #[arg(short, long, value_name = "NAME[=VALUE]")]
    label: Vec<String>,
    /// Read labels from a file
    #[arg(long, value_name = "FILE")]
    label_file: Vec<PathBuf>,
    /// Annotation for the OCI runtime
    #[arg(long, value_name = "NAME=VALUE")]
    annotation: Vec<String>,
    /// Folder that the program starts in
    #[arg(short, long, value_name = "FOLDER")]
    workdir: Option<String>,
    /// User and group, by name or number
    #[arg(short, long, value_name = "USER[:GROUP]")]
    user: Option<String>,
    /// Program to run instead of the image's own; empty for none
    #[arg(long, value_name = "PROGRAM")]
    entrypoint: Option<String>,
    /// Start again after an exit: no, always, unless-stopped, on-failure[:N]
    #[arg(long, value_name = "POLICY", default_value = "no")]
    restart: String,
    /// Run a small init that forwards signals and reaps processes
    #[arg(long)]
    init: bool,
    /// Signal that asks the program to stop
    #[arg(long, value_name = "SIGNAL")]
    stop_signal: Option<String>,
    /// Seconds from that signal to SIGKILL
    #[arg(long, value_name = "SECONDS")]
    stop_timeout: Option<i64>,
    /// Where the output goes
    #[arg(long, value_name = "DRIVER")]
    log_driver: Option<String>,
    /// Option of the log driver
    #[arg(long, value_name = "NAME=VALUE")]
    log_opt: Vec<String>,
    /// OCI runtime to use
    #[arg(long, value_name = "NAME")]
    runtime: Option<String>,
    /// Technology that isolates the container (Windows)
    #[arg(long, value_name = "NAME", hide = true)]
    isolation: Option<String>,
    /// Skip a check that no longer exists
    #[arg(long, hide = true)]
    disable_content_trust: bool,
}

impl ProcessFlags {
    pub(super) fn put(&self, body: &mut Body) -> Result<(), CliError> {
        let [stdin, stdout, stderr] = self.streams(false)?;
        body.config("AttachStdin", stdin);
        body.config("AttachStdout", stdout);
        body.config("AttachStderr", stderr);
        body.config("Tty", self.tty);
        body.config("OpenStdin", self.interactive);
        // The container's input ends with the one client that was attached at its creation.
        body.config("StdinOnce", self.interactive && stdin);
        body.config("Env", environment(&self.env_file, &self.env)?);
        body.config("Labels", self.labels()?);
        body.config("WorkingDir", self.workdir.clone());
        body.config("User", self.user.clone());
        if let Some(program) = &self.entrypoint {
            // A list with one empty word clears the image's own.
            body.config("Entrypoint", vec![program.clone()]);
        }
        body.config("StopSignal", self.stop_signal.clone());
        if let Some(seconds) = self.stop_timeout {
            // Zero means something here: kill at once.
            body.config.insert("StopTimeout".to_owned(), Value::from(seconds));
        }
        body.host("RestartPolicy", restart_policy(&self.restart)?);
        if self.rm && self.restart != "no" && !self.restart.is_empty() {
            return Err(CliError::Usage("--rm and --restart exclude each other".to_owned()));
        }
        body.host("AutoRemove", self.rm);
        body.host("Init", self.init);
        body.host("Runtime", self.runtime.clone());
        body.host("Isolation", self.isolation.clone().filter(|name| name != "default"));
        body.host("Annotations", pairs(&self.annotation));
        if self.log_driver.is_some() || !self.log_opt.is_empty() {
            let config = pairs(&self.log_opt);
            body.host("LogConfig", json!({"Type": self.log_driver, "Config": config}));
        }
        Ok(())
    }

    /// Which of the three streams are joined.
    ///
    /// # Errors
    /// A word that names none.
    pub(crate) fn streams(&self, detach: bool) -> Result<[bool; 3], CliError> {
        if self.attach.is_empty() {
            return Ok(if detach { [false; 3] } else { [self.interactive, true, true] });
        }
        let mut streams = [false; 3];
        for word in &self.attach {
            let names = ["stdin", "stdout", "stderr"];
            let index = names.iter().position(|name| word.eq_ignore_ascii_case(name));
            let index = index.ok_or_else(|| {
                CliError::Usage(format!("--attach {word}: expected stdin, stdout or stderr"))
            })?;
            streams[index] = true;
        }
        Ok(streams)
    }

    fn labels(&self) -> Result<Value, CliError> {
        let mut words = Vec::new();
        for path in &self.label_file {
            let doing = format!("read {}", path.display());
            let text = fs::read_to_string(path).map_err(CliError::io(doing))?;
            let lines = text.lines().map(str::trim);
            words.extend(
                lines.filter(|line| !line.is_empty() && !line.starts_with('#')).map(str::to_owned),
            );
        }
        words.extend(self.label.iter().cloned());
        Ok(Value::Object(pairs(&words)))
    }
}

/// Reads `no`, `always`, `unless-stopped`, `on-failure` or `on-failure:N`.
///
/// # Errors
/// Any other word, or a count for a policy that has none.
pub(crate) fn restart_policy(text: &str) -> Result<Value, CliError> {
    let wrong = || {
        CliError::Usage(format!(
            "--restart {text}: expected no, always, unless-stopped, on-failure or on-failure:N"
        ))
    };
    let (name, count) = text.split_once(':').unwrap_or((text, "0"));
    let count: u32 = count.parse().map_err(|_| wrong())?;
    match name {
        "" | "no" | "always" | "unless-stopped" if count == 0 => {
            Ok(json!({"Name": if name.is_empty() { "no" } else { name }}))
        }
        "on-failure" => Ok(json!({"Name": name, "MaximumRetryCount": count})),
        _ => Err(wrong()),
    }
}
