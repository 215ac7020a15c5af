//! `bargee inspect`, of containers, images, networks and volumes.

use serde_json::Value;

use crate::cli::client::{Client, ClientError, image_path, segment};
use crate::cli::error::{CliError, tell};
use crate::cli::exit;
use crate::cli::global::Global;
use crate::cli::output::listing::escape_lines;
use crate::cli::output::printer;
use crate::cli::output::template::{Template, json};
use crate::cli::verb::Verb;

/// What kinds of objects there are, in the order in which a name is tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Kind {
    Container,
    Image,
    Network,
    Volume,
}

impl Kind {
    const ALL: [Self; 4] = [Self::Container, Self::Image, Self::Network, Self::Volume];

    fn path(self, name: &str) -> String {
        match self {
            Self::Container => format!("/containers/{}/json", segment(name)),
            Self::Image => format!("/images/{}/json", image_path(name)),
            Self::Network => format!("/networks/{}", segment(name)),
            Self::Volume => format!("/volumes/{}", segment(name)),
        }
    }
}

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Print with a Go template, or json
    #[arg(short, long, value_name = "FORMAT")]
    format: Option<String>,
    /// Print a container's size too
    #[arg(short, long)]
    size: bool,
    /// Kind of the objects
    #[arg(long = "type", value_name = "KIND")]
    kind: Option<Kind>,
    /// Names or ids
    #[arg(required = true, value_name = "NAME")]
    names: Vec<String>,
}

impl Verb for Args {
    async fn run(self, global: &Global) -> Result<u8, CliError> {
        let kinds = match &self.kind {
            Some(kind) => std::slice::from_ref(kind),
            None => &Kind::ALL,
        };
        let query = Inspect { kinds, format: self.format.as_deref(), size: self.size };
        query.print(&global.connect().await?, &self.names).await
    }

    fn targets(&self) -> &[String] {
        // An image's name may look like STACK/SERVICE.
        if self.kind.is_none() { &self.names } else { &[] }
    }
}

/// `container inspect`.
#[derive(Debug, clap::Args)]
pub(crate) struct OfContainers {
    /// Print with a Go template, or json
    #[arg(short, long, value_name = "FORMAT")]
    format: Option<String>,
    /// Print the size too
    #[arg(short, long)]
    size: bool,
    /// Containers
    #[arg(required = true, value_name = "CONTAINER")]
    names: Vec<String>,
}

/// `image inspect`, `network inspect` and `volume inspect`.
#[derive(Debug, clap::Args)]
pub(crate) struct Of<const KIND: usize> {
    /// Print with a Go template, or json
    #[arg(short, long, value_name = "FORMAT")]
    format: Option<String>,
    /// Names or ids
    #[arg(required = true, value_name = "NAME")]
    names: Vec<String>,
}

pub(crate) type OfImages = Of<1>;
pub(crate) type OfNetworks = Of<2>;
pub(crate) type OfVolumes = Of<3>;

impl Verb for OfContainers {
    async fn run(self, global: &Global) -> Result<u8, CliError> {
        let format = self.format.as_deref();
        let query = Inspect::of_containers(format, self.size);
        query.print(&global.connect().await?, &self.names).await
    }
}

impl<const KIND: usize> Verb for Of<KIND> {
    async fn run(self, global: &Global) -> Result<u8, CliError> {
        let format = self.format.as_deref();
        let query = Inspect { kinds: &Kind::ALL[KIND..=KIND], format, size: false };
        query.print(&global.connect().await?, &self.names).await
    }
}

/// What is asked about objects, and how it is printed.
#[derive(Debug)]
pub(crate) struct Inspect<'a> {
    kinds: &'a [Kind],
    format: Option<&'a str>,
    size: bool,
}

impl<'a> Inspect<'a> {
    pub(crate) fn of_containers(format: Option<&'a str>, size: bool) -> Self {
        Self { kinds: &[Kind::Container], format, size }
    }

    /// Prints all that are found, and fails when one is not.
    pub(crate) async fn print(&self, client: &Client, names: &[String]) -> Result<u8, CliError> {
        let template = match self.format {
            None | Some("json") => None,
            Some(text) => Some(Template::parse(text)?),
        };
        let mut objects = Vec::new();
        let mut failed = false;
        for name in names {
            match self.find(client, name).await {
                Ok(object) => objects.push(object),
                Err(error) => {
                    failed = true;
                    tell(&error);
                }
            }
        }
        match (&template, self.format) {
            (Some(template), _) => {
                for object in &objects {
                    printer::line(&escape_lines(&template.render(object)?))?;
                }
            }
            (None, Some(_)) => printer::line(&json(&Value::Array(objects)))?,
            (None, None) => printer::line(&pretty(&Value::Array(objects)))?,
        }
        if failed { Err(CliError::Told) } else { Ok(exit::OK) }
    }

    async fn find(&self, client: &Client, name: &str) -> Result<Value, CliError> {
        for kind in self.kinds {
            let query: &[(&str, &str)] =
                if self.size && *kind == Kind::Container { &[("size", "1")] } else { &[] };
            match client.get(&kind.path(name), query).await {
                Ok(answer) => return Ok(answer.json()?),
                Err(ClientError::Server { status: 404, .. }) if self.kinds.len() > 1 => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(CliError::Failed(format!("no such object: {name}")))
    }
}

/// Returns JSON with four blanks a level, as docker prints it.
pub(super) fn pretty(value: &Value) -> String {
    use serde::Serialize;
    let mut bytes = Vec::new();
    let formatter = serde_json::ser::PrettyFormatter::with_indent(b"    ");
    let mut serializer = serde_json::Serializer::with_formatter(&mut bytes, formatter);
    // Writing a JSON value to memory can't fail.
    drop(value.serialize(&mut serializer));
    String::from_utf8_lossy(&bytes).into_owned()
}
