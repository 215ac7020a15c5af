//! `bargee exec`: another process in a running container.

use std::path::PathBuf;

use serde_json::{Map, Value, json};

use super::path;
use super::run::{signal_code, start_code};
use crate::cli::client::{Client, ClientError};
use crate::cli::container::{environment, put};
use crate::cli::error::{CliError, chain};
use crate::cli::exit;
use crate::cli::global::Global;
use crate::cli::session::{Ended, Peer, Session};
use crate::cli::terminal;
use crate::cli::verb::Verb;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Run in the background
    #[arg(short, long)]
    pub(crate) detach: bool,
    /// Keys that leave the process alone
    #[arg(long, value_name = "KEYS")]
    pub(crate) detach_keys: Option<String>,
    /// Keep standard input open
    #[arg(short, long)]
    pub(crate) interactive: bool,
    /// Give the program a terminal
    #[arg(short, long)]
    pub(crate) tty: bool,
    /// Set a variable, or pass it on from here
    #[arg(short, long, value_name = "NAME[=VALUE]")]
    pub(crate) env: Vec<String>,
    /// Read variables from a file
    #[arg(long, value_name = "FILE")]
    pub(crate) env_file: Vec<PathBuf>,
    /// Give the process all privileges
    #[arg(long)]
    pub(crate) privileged: bool,
    /// User and group, by name or number
    #[arg(short, long, value_name = "USER[:GROUP]")]
    pub(crate) user: Option<String>,
    /// Folder that the program starts in
    #[arg(short, long, value_name = "FOLDER")]
    pub(crate) workdir: Option<String>,
    /// Container, program and its arguments
    #[arg(required = true, num_args = 2.., trailing_var_arg = true, value_names = ["CONTAINER", "COMMAND"])]
    pub(crate) words: Vec<String>,
}

impl Verb for Args {
    async fn run(self, global: &Global) -> Result<u8, CliError> {
        if !self.detach && self.tty && self.interactive && !terminal::stdin_is_terminal() {
            let text = "the input is no terminal, so -i and -t don't go together; leave -t out";
            return Err(CliError::Failed(text.to_owned()));
        }
        let body = self.body()?;
        let client = global.connect().await?;
        let created = client.post(&path(&self.words[0], "exec"), &[], Some((&body).into())).await?;
        let created: Value = created.json()?;
        let id = created["Id"].as_str().unwrap_or_default();
        if self.detach {
            let start = json!({"Detach": true, "Tty": self.tty});
            client.post(&format!("/exec/{id}/start"), &[], Some((&start).into())).await?;
            return Ok(exit::OK);
        }
        self.attached(&client, id).await
    }

    fn targets(&self) -> &[String] {
        &self.words[..1]
    }
}

/// A program that can't be executed is the program's failure, with the code that a shell has for it.
fn not_started(error: ClientError) -> CliError {
    let message = chain(&error);
    match start_code(&message) {
        exit::USAGE => error.into(),
        code => CliError::Exit { code, message },
    }
}

impl Args {
    fn body(&self) -> Result<Value, CliError> {
        let mut body = Map::new();
        put(&mut body, "AttachStdin", Value::Bool(self.interactive && !self.detach));
        put(&mut body, "AttachStdout", Value::Bool(!self.detach));
        put(&mut body, "AttachStderr", Value::Bool(!self.detach));
        put(&mut body, "Detach", Value::Bool(self.detach));
        put(&mut body, "Tty", Value::Bool(self.tty));
        put(&mut body, "Privileged", Value::Bool(self.privileged));
        put(&mut body, "User", Value::from(self.user.clone()));
        put(&mut body, "WorkingDir", Value::from(self.workdir.clone()));
        put(&mut body, "Env", Value::from(environment(&self.env_file, &self.env)?));
        put(&mut body, "Cmd", Value::from(self.words[1..].to_vec()));
        if let (true, Some((rows, columns))) = (self.tty, terminal::size()) {
            body.insert("ConsoleSize".to_owned(), json!([rows, columns]));
        }
        Ok(Value::Object(body))
    }

    async fn attached(&self, client: &Client, id: &str) -> Result<u8, CliError> {
        let session = Session {
            client,
            peer: Peer::Exec(id),
            stdin: self.interactive,
            tty: self.tty,
            proxy: false,
            detach_keys: self.detach_keys.as_deref(),
        };
        let ready = session.prepare()?;
        let mut start = json!({"Detach": false, "Tty": self.tty});
        if let (true, Some((rows, columns))) = (self.tty, terminal::size()) {
            start["ConsoleSize"] = json!([rows, columns]);
        }
        let started =
            client.upgrade(&format!("/exec/{id}/start"), &[], Some((&start).into())).await;
        let streams = started.map_err(not_started)?;
        ready.resize().await;
        match ready.run(streams).await? {
            Ended::Detached => return Ok(exit::OK),
            Ended::Signal(number) => return Ok(signal_code(number)),
            Ended::Closed => {}
        }
        let ended: Value = client.get(&format!("/exec/{id}/json"), &[]).await?.json()?;
        let code = ended["ExitCode"].as_i64().unwrap_or(0);
        Ok(u8::try_from(code & 0xff).unwrap_or(exit::FAILURE))
    }
}
