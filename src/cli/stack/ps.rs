//! `bargee ps` on a stack: its containers, in compose's columns.

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::choose::{self, ByName};
use super::containers::{Found, select};
use super::requests;
use super::tell;
use crate::cli::client::Client;
use crate::cli::commands::ps::{row, short};
use crate::cli::error::{CliError, warn};
use crate::cli::exit;
use crate::cli::global::Global;
use crate::cli::output::printer;
use crate::cli::output::table::Table;
use crate::cli::output::template::{self, Template};
use crate::cli::output::time::ago;
use crate::cli::verb::Verb;
use crate::diagnostic::escape_controls;

/// Longest command that the table shows, in characters.
const MAX_COMMAND: usize = 20;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    by_name: ByName,
    /// SERVICE, SERVICE.N or STACK/SERVICE[.N] [default: all services]
    #[arg(value_name = "SERVICE")]
    services: Vec<String>,
    /// Show containers that do not run, and one-off ones, too
    #[arg(short, long)]
    all: bool,
    /// Print the containers' ids alone
    #[arg(short, long)]
    quiet: bool,
    /// Print the services' names alone
    #[arg(long = "services", conflicts_with = "quiet")]
    only_services: bool,
    /// Only containers of this state: status=running; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    filter: Vec<String>,
    /// Only containers of this state; may be repeated
    #[arg(long, value_name = "STATE")]
    status: Vec<String>,
    /// table, json, or a template over the fields of json
    #[arg(long, value_name = "FORMAT", default_value = "table")]
    format: String,
    /// Show commands and ids whole
    #[arg(long)]
    no_trunc: bool,
}

impl Verb for Args {
    async fn run(self, global: &Global) -> Result<u8, CliError> {
        let states = self.states()?;
        let chosen = choose::choose(global, &self.by_name, &self.services)?;
        let client = global.connect().await?;
        let view = requests::view(&client, &chosen.stack).await?;
        let mut found = select(&view, &chosen)?;
        found.retain(|container| {
            let replica = container.replica;
            let state = replica.state.as_str();
            let live = matches!(state, "running" | "starting" | "paused" | "restarting")
                && !replica.oneoff;
            let asked = states.is_empty() || states.iter().any(|asked| asked == state);
            asked && (live || self.all || !states.is_empty())
        });
        if let Some(reason) = &view.frozen {
            tell::note(&format!(
                "stack {} is frozen: {reason}; `bargee up` lets it go on",
                view.name
            ));
        }
        let listed = match self.wants_fields() {
            true => listed(&client, &view.name).await?,
            false => Vec::new(),
        };
        printer::print(&self.text(&view.name, &found, &listed)?)?;
        Ok(exit::OK)
    }

    fn targets(&self) -> &[String] {
        &self.services
    }
}

impl Args {
    fn states(&self) -> Result<Vec<String>, CliError> {
        let mut states = self.status.clone();
        for filter in &self.filter {
            match filter.split_once('=') {
                Some(("status", state)) => states.push(state.to_owned()),
                _ => {
                    let hint = "this one is known: status=running";
                    return Err(tell::refuse(
                        &format!("--filter {filter}: unknown filter"),
                        Some(hint),
                    ));
                }
            }
        }
        Ok(states)
    }

    /// Whether more is asked for than the table and the lists show.
    fn wants_fields(&self) -> bool {
        !self.quiet && !self.only_services && self.format != "table"
    }

    fn text(&self, stack: &str, found: &[Found<'_>], listed: &[Value]) -> Result<String, CliError> {
        let lines = |lines: &mut dyn Iterator<Item = &str>| -> String {
            lines.map(|line| format!("{}\n", escape_controls(line))).collect()
        };
        if self.quiet {
            return Ok(lines(&mut found.iter().map(|container| container.replica.id.as_str())));
        }
        if self.only_services {
            let names: BTreeSet<&str> =
                found.iter().map(|container| container.service.name.as_str()).collect();
            return Ok(lines(&mut names.into_iter()));
        }
        match self.format.as_str() {
            "table" => Ok(self.table(found, Timestamp::now()).to_string()),
            format => {
                let template = (format != "json").then(|| Template::parse(format)).transpose()?;
                let now = Timestamp::now();
                let mut text = String::new();
                for container in found {
                    let id = &container.replica.id;
                    let listed = listed.iter().find(|listed| listed["Id"] == **id);
                    let listed = listed.unwrap_or(&Value::Null);
                    let fields = fields(stack, container, listed, now, self.no_trunc);
                    text.push_str(&match &template {
                        Some(template) => template.render(&fields)?,
                        None => template::json(&fields),
                    });
                    text.push('\n');
                }
                Ok(text)
            }
        }
    }

    fn table(&self, found: &[Found<'_>], now: Timestamp) -> Table {
        let mut table =
            Table::new(["NAME", "IMAGE", "COMMAND", "SERVICE", "CREATED", "STATUS", "PORTS"]);
        for Found { service, replica } in found {
            let created = Timestamp::from_nanosecond(i128::from(replica.created_at));
            table.row([
                replica.container.clone(),
                service.image.clone(),
                format!("\"{}\"", self.shortened(&replica.command)),
                service.name.clone(),
                created.map_or_else(|_| String::new(), |created| ago(created, now)),
                replica.status.clone(),
                replica.ports.join(", "),
            ]);
        }
        table
    }

    fn shortened(&self, command: &str) -> String {
        if self.no_trunc || command.chars().count() <= MAX_COMMAND {
            return command.to_owned();
        }
        command.chars().take(MAX_COMMAND - 1).chain(['…']).collect()
    }
}

/// Returns the stack's containers as the Docker API lists them, which knows what a stack has no need of.
async fn listed(client: &Client, stack: &str) -> Result<Vec<Value>, CliError> {
    let label = format!("com.docker.compose.project={stack}");
    let filters = json!({ "label": [label] }).to_string();
    let query = [("all", "1"), ("filters", filters.as_str())];
    let answer = client.get("/containers/json", &query).await?;
    answer.warnings.iter().for_each(|text| warn(text));
    Ok(answer.json()?)
}

/// One container in compose's fields and their order, and ours behind them. One that went while we looked is not
/// `listed`, and has less to tell.
fn fields(
    stack: &str,
    Found { service, replica }: &Found<'_>,
    listed: &Value,
    now: Timestamp,
    full: bool,
) -> Value {
    let docker = row(listed, now, full);
    let of_docker = |key: &str| docker.get(key).cloned().unwrap_or_default();
    json!({
        "Command": of_docker("Command"),
        "CreatedAt": of_docker("CreatedAt"),
        "ExitCode": replica.exit_code.unwrap_or(0),
        "Health": replica.health.clone().unwrap_or_default(),
        "ID": if full { &replica.id } else { short(&replica.id) },
        "Image": service.image,
        "Labels": of_docker("Labels"),
        "LocalVolumes": of_docker("LocalVolumes"),
        "Mounts": of_docker("Mounts"),
        "Name": replica.container,
        "Names": replica.container,
        "Networks": of_docker("Networks"),
        "Ports": replica.ports.join(", "),
        "Project": stack,
        "Publishers": publishers(&listed["Ports"]),
        "RunningFor": of_docker("RunningFor"),
        "Service": service.name,
        "Size": of_docker("Size"),
        "State": replica.state,
        "Status": replica.status,
        "Number": replica.number,
        "OneOff": replica.oneoff,
        "OOMKilled": replica.oom,
        "Restarts": replica.restarts,
    })
}

fn publishers(ports: &Value) -> Vec<Value> {
    let ports = ports.as_array().into_iter().flatten();
    let publishers = ports.map(|port| {
        json!({
            "URL": port["IP"].as_str().unwrap_or_default(),
            "TargetPort": port["PrivatePort"],
            "PublishedPort": port["PublicPort"].as_u64().unwrap_or(0),
            "Protocol": port["Type"],
        })
    });
    publishers.collect()
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;
    use crate::protocol::{ReplicaView, ServiceView};

    fn args(format: &str) -> Args {
        Args {
            by_name: ByName::default(),
            services: Vec::new(),
            all: false,
            quiet: false,
            only_services: false,
            filter: Vec::new(),
            status: Vec::new(),
            format: format.to_owned(),
            no_trunc: false,
        }
    }

    #[test]
    fn the_table_has_compose_s_columns() {
        let service =
            ServiceView { name: "web".into(), image: "nginx".into(), ..ServiceView::default() };
        let replica = ReplicaView {
            container: "shop-web-1".into(),
            command: "/docker-entrypoint.sh nginx -g".into(),
            status: "Up 2 minutes (healthy)".into(),
            ports: vec!["0.0.0.0:80->80/tcp".into(), "[::]:80->80/tcp".into()],
            created_at: 1_000_000_000_000,
            ..ReplicaView::default()
        };
        let found = [Found { service: &service, replica: &replica }];
        let now = Timestamp::from_second(1120).unwrap();
        insta::assert_snapshot!(args("table").table(&found, now).to_string(), @r#"
        NAME         IMAGE     COMMAND                  SERVICE   CREATED         STATUS                   PORTS
        shop-web-1   nginx     "/docker-entrypoint.…"   web       2 minutes ago   Up 2 minutes (healthy)   0.0.0.0:80->80/tcp, [::]:80->80/tcp
        "#);
        let text = args("{{.Name}} {{.Project}}").text("shop", &found, &[]).unwrap();
        assert_eq!(text, "shop-web-1 shop\n");
        let line: Value =
            serde_json::from_str(&args("json").text("shop", &found, &[]).unwrap()).unwrap();
        assert_eq!(line["Service"], "web");
    }

    #[test]
    fn an_unknown_filter_is_refused() {
        let with = |filter: &str| Args { filter: vec![filter.into()], ..args("table") };
        assert_eq!(with("status=exited").states().unwrap(), ["exited"]);
        assert!(with("label=x").states().is_err());
    }
}
