//! `bargee run`: create, attach, wait, start; the container's exit code is ours.

use std::fs;

use serde_json::Value;

use super::create;
use crate::cli::client::{Client, Method};
use crate::cli::container::ContainerFlags;
use crate::cli::error::CliError;
use crate::cli::exit;
use crate::cli::global::Global;
use crate::cli::output::printer;
use crate::cli::session::{Ended, Peer, Session};
use crate::cli::terminal;
use crate::cli::verb::Verb;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Run in the background and print the container's id
    #[arg(short, long)]
    detach: bool,
    /// Keys that leave the container alone
    #[arg(long, value_name = "KEYS")]
    detach_keys: Option<String>,
    /// Pass signals on to the program (--sig-proxy=false to keep them)
    #[arg(long, value_name = "BOOL", default_value = "true", num_args = 0..=1, require_equals = true, default_missing_value = "true", action = clap::ArgAction::Set)]
    sig_proxy: bool,
    #[command(flatten)]
    container: ContainerFlags,
}

impl Verb for Args {
    async fn run(self, global: &Global) -> Result<u8, CliError> {
        self.check()?;
        // Whatever keeps us from a container is 125, as docker has it.
        match self.go(global).await {
            Err(CliError::Client(error)) => {
                Err(CliError::Exit { code: exit::USAGE, message: full(&error) })
            }
            Err(CliError::Failed(message)) => Err(CliError::Exit { code: exit::USAGE, message }),
            other => other,
        }
    }
}

fn full(error: &dyn std::error::Error) -> String {
    crate::cli::error::chain(error)
}

impl Args {
    fn check(&self) -> Result<(), CliError> {
        let process = &self.container.process;
        if self.detach && !process.attach.is_empty() {
            return Err(CliError::Usage("--detach and --attach exclude each other".to_owned()));
        }
        if !self.detach && process.tty && process.interactive && !terminal::stdin_is_terminal() {
            let text = "the input is no terminal, so -i and -t don't go together; leave -t out";
            return Err(CliError::Exit { code: exit::FAILURE, message: text.to_owned() });
        }
        Ok(())
    }

    async fn go(&self, global: &Global) -> Result<u8, CliError> {
        let streams = self.container.process.streams(self.detach)?;
        let mut body = self.container.body()?;
        for (key, joined) in ["AttachStdin", "AttachStdout", "AttachStderr"].iter().zip(streams) {
            body[*key] = Value::Bool(joined);
        }
        if self.detach {
            body["StdinOnce"] = Value::Bool(false);
        }
        if let (true, Some((rows, columns))) = (self.container.process.tty, terminal::size()) {
            body["HostConfig"]["ConsoleSize"] = serde_json::json!([rows, columns]);
        }
        let client = global.connect().await?;
        let id = create::create(&client, &self.container, &body).await?;
        if streams == [false; 3] {
            start(&client, &id).await?;
            printer::line(&id)?;
            return Ok(exit::OK);
        }
        let process = &self.container.process;
        let joining = Joining {
            streams,
            tty: process.tty,
            proxy: self.sig_proxy,
            detach_keys: self.detach_keys.as_deref(),
            removed: process.rm,
        };
        joining.run(&client, &id).await
    }
}

/// How a container that was just created is joined.
#[derive(Debug)]
pub(crate) struct Joining<'a> {
    pub(crate) streams: [bool; 3],
    pub(crate) tty: bool,
    /// Pass signals on.
    pub(crate) proxy: bool,
    pub(crate) detach_keys: Option<&'a str>,
    /// It goes when its program ends.
    pub(crate) removed: bool,
}

impl Joining<'_> {
    /// Joins the container, starts it, and follows it to its end; its exit code is returned.
    ///
    /// # Errors
    /// It does not start, or the engine is lost.
    pub(crate) async fn run(&self, client: &Client, id: &str) -> Result<u8, CliError> {
        let session = Session {
            client,
            peer: Peer::Container(id),
            stdin: self.streams[0],
            tty: self.tty,
            proxy: self.proxy,
            detach_keys: self.detach_keys,
        };
        let ready = session.prepare()?;
        let joined = attach(client, id, self.streams).await?;
        // Asked before the start, or a quick program's end is missed.
        let exited = Exited::watch(client, id, self.removed).await?;
        start(client, id).await?;
        ready.resize().await;
        match ready.run(joined).await? {
            Ended::Closed => exited.code().await,
            Ended::Detached => Ok(exit::OK),
            Ended::Signal(number) => Ok(signal_code(number)),
        }
    }
}

/// What a shell calls a death by signal `number`.
pub(super) fn signal_code(number: i32) -> u8 {
    u8::try_from(128 + number).unwrap_or(exit::FAILURE)
}

/// Joins the container's streams.
pub(super) async fn attach(
    client: &Client,
    id: &str,
    [stdin, stdout, stderr]: [bool; 3],
) -> Result<crate::cli::session::Streams, CliError> {
    let mut query = vec![("stream", "1")];
    query.extend(
        [("stdin", stdin), ("stdout", stdout), ("stderr", stderr)]
            .into_iter()
            .filter(|(_, joined)| *joined)
            .map(|(name, _)| (name, "1")),
    );
    Ok(client.upgrade(&format!("/containers/{id}/attach"), &query, None).await?)
}

/// Starts a container that was just created. The exit code of a failure is what docker's `run` has for it.
pub(crate) async fn start(client: &Client, id: &str) -> Result<(), CliError> {
    match client.post(&format!("/containers/{id}/start"), &[], None).await {
        Ok(_) => Ok(()),
        Err(error) => {
            let message = full(&error);
            Err(CliError::Exit { code: start_code(&message), message })
        }
    }
}

/// Tells a missing program from one that can't be executed, by the words that engines use.
pub(super) fn start_code(message: &str) -> u8 {
    let has = |words: &[&str]| words.iter().any(|word| message.contains(word));
    if has(&["executable file not found", "no such file or directory", "not found in $PATH"]) {
        exit::NOT_FOUND
    } else if has(&["permission denied", "is a directory", "exec format error"]) {
        exit::NOT_EXECUTABLE
    } else {
        exit::USAGE
    }
}

/// A request that is answered when the container exits.
#[derive(Debug)]
pub(super) struct Exited {
    answer: crate::cli::client::Lines,
}

impl Exited {
    /// Asks. `removed`: the answer comes when the container is gone too.
    pub(super) async fn watch(client: &Client, id: &str, removed: bool) -> Result<Self, CliError> {
        let condition = if removed { "removed" } else { "next-exit" };
        let path = format!("/containers/{id}/wait");
        let answer = client.lines(Method::POST, &path, &[("condition", condition)], None).await?;
        Ok(Self { answer })
    }

    /// Waits; returns the container's exit code.
    pub(super) async fn code(mut self) -> Result<u8, CliError> {
        let Some(answer) = self.answer.next().await? else {
            return Err(CliError::Failed(
                "the engine ended before it told the exit code".to_owned(),
            ));
        };
        if let Some(message) = answer["Error"]["Message"].as_str().filter(|text| !text.is_empty()) {
            return Err(CliError::Failed(message.to_owned()));
        }
        let code = answer["StatusCode"].as_i64().unwrap_or(i64::from(exit::USAGE));
        Ok(u8::try_from(code & 0xff).unwrap_or(exit::FAILURE))
    }
}

/// Writes the id to `--cidfile`, which must not exist: it may be another container's.
pub(super) fn write_cidfile(path: &std::path::Path, id: &str) -> Result<(), CliError> {
    use std::io::Write;
    let doing = format!("write {}", path.display());
    let file = fs::OpenOptions::new().write(true).create_new(true).open(path);
    file.and_then(|mut file| file.write_all(id.as_bytes())).map_err(CliError::io(doing))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_start_has_docker_s_exit_code() {
        assert_eq!(start_code("exec: \"x\": executable file not found in $PATH"), 127);
        assert_eq!(start_code("exec /etc: permission denied"), 126);
        assert_eq!(start_code("port is taken"), 125);
    }
}
