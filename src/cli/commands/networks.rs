//! `bargee network …`.

use serde_json::{Map, Value, json};

use super::each;
use super::ps::short;
use crate::cli::client::segment;
use crate::cli::container::{pairs, put};
use crate::cli::error::CliError;
use crate::cli::exit;
use crate::cli::filters;
use crate::cli::global::Global;
use crate::cli::output::listing::Listing;
use crate::cli::output::printer;
use crate::cli::verb::Verb;

#[derive(Debug, clap::Args)]
pub(crate) struct List {
    /// Show those that match: NAME=VALUE
    #[arg(short, long, value_name = "FILTER")]
    filter: Vec<String>,
    /// table, json, or a Go template
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,
    /// Show ids in full
    #[arg(long)]
    no_trunc: bool,
    /// Show only ids
    #[arg(short, long)]
    quiet: bool,
}

const TITLES: &[(&str, &str)] = &[
    ("ID", "NETWORK ID"),
    ("Name", "NAME"),
    ("Driver", "DRIVER"),
    ("Scope", "SCOPE"),
    ("IPv4", "IPV4"),
    ("IPv6", "IPV6"),
    ("Internal", "INTERNAL"),
    ("Labels", "LABELS"),
    ("CreatedAt", "CREATED AT"),
];

impl Verb for List {
    async fn run(self, global: &Global) -> Result<u8, CliError> {
        let filters = filters::encode(&self.filter)?;
        let query: Vec<(&str, &str)> =
            filters.iter().map(|filters| ("filters", filters.as_str())).collect();
        let client = global.connect().await?;
        let mut found: Vec<Value> = client.get("/networks", &query).await?.json()?;
        found.sort_by(|one, other| one["Name"].as_str().cmp(&other["Name"].as_str()));
        let rows: Vec<_> = found.iter().map(|network| self.row(network)).collect();
        if self.quiet && self.format.is_none() {
            for row in rows {
                printer::line(row["ID"].as_str().unwrap_or_default())?;
            }
            return Ok(exit::OK);
        }
        let shown = vec!["ID", "Name", "Driver", "Scope"];
        Listing { titles: TITLES, shown, rows }.print(self.format.as_deref())?;
        Ok(exit::OK)
    }
}

impl List {
    fn row(&self, network: &Value) -> Map<String, Value> {
        let id = network["Id"].as_str().unwrap_or_default();
        let flag = |value: &Value| value.as_bool().unwrap_or(false).to_string();
        let row = json!({
            "ID": if self.no_trunc { id } else { short(id) },
            "Name": network["Name"],
            "Driver": network["Driver"],
            "Scope": network["Scope"],
            "IPv4": network["EnableIPv4"].as_bool().unwrap_or(true).to_string(),
            "IPv6": flag(&network["EnableIPv6"]),
            "Internal": flag(&network["Internal"]),
            "Labels": labels(&network["Labels"]),
            "CreatedAt": network["Created"],
        });
        row.as_object().cloned().unwrap_or_default()
    }
}

/// Returns `a=1,b=2`.
pub(super) fn labels(value: &Value) -> String {
    let mut words: Vec<String> = value
        .as_object()
        .into_iter()
        .flatten()
        .map(|(name, value)| format!("{name}={}", value.as_str().unwrap_or_default()))
        .collect();
    words.sort();
    words.join(",")
}

#[derive(Debug, clap::Args)]
pub(crate) struct Create {
    /// Driver of the network
    #[arg(short, long, value_name = "DRIVER", default_value = "bridge")]
    driver: String,
    /// Option of the driver
    #[arg(short, long, value_name = "NAME=VALUE")]
    opt: Vec<String>,
    /// Set a label
    #[arg(long, value_name = "NAME[=VALUE]")]
    label: Vec<String>,
    /// Subnet, as in 10.1.0.0/16
    #[arg(long, value_name = "SUBNET")]
    subnet: Vec<String>,
    /// Part of the subnet that addresses are taken from
    #[arg(long, value_name = "SUBNET")]
    ip_range: Vec<String>,
    /// Address of the host in the subnet
    #[arg(long, value_name = "ADDRESS")]
    gateway: Vec<String>,
    /// Address that another driver uses: NAME=ADDRESS
    #[arg(long, value_name = "NAME=ADDRESS")]
    aux_address: Vec<String>,
    /// Driver of addresses
    #[arg(long, value_name = "DRIVER")]
    ipam_driver: Option<String>,
    /// Option of the driver of addresses
    #[arg(long, value_name = "NAME=VALUE")]
    ipam_opt: Vec<String>,
    /// No way out of the network
    #[arg(long)]
    internal: bool,
    /// IPv6 addresses too
    #[arg(long)]
    ipv6: bool,
    /// Let containers join that are started by hand
    #[arg(long)]
    attachable: bool,
    /// Name of the network
    #[arg(value_name = "NAME")]
    name: String,
}

impl Verb for Create {
    async fn run(self, global: &Global) -> Result<u8, CliError> {
        let body = self.body()?;
        let client = global.connect().await?;
        let answer: Value =
            client.post("/networks/create", &[], Some((&body).into())).await?.json()?;
        if let Some(text) = answer["Warning"].as_str().filter(|text| !text.is_empty()) {
            crate::cli::error::warn(text);
        }
        printer::line(answer["Id"].as_str().unwrap_or_default())?;
        Ok(exit::OK)
    }
}

impl Create {
    fn body(&self) -> Result<Value, CliError> {
        let mut body = Map::new();
        put(&mut body, "Name", Value::from(self.name.as_str()));
        put(&mut body, "Driver", Value::from(self.driver.as_str()));
        put(&mut body, "Options", Value::Object(pairs(&self.opt)));
        put(&mut body, "Labels", Value::Object(pairs(&self.label)));
        put(&mut body, "Internal", Value::Bool(self.internal));
        put(&mut body, "EnableIPv6", Value::Bool(self.ipv6));
        put(&mut body, "Attachable", Value::Bool(self.attachable));
        let mut ipam = Map::new();
        put(&mut ipam, "Driver", Value::from(self.ipam_driver.clone()));
        put(&mut ipam, "Options", Value::Object(pairs(&self.ipam_opt)));
        put(&mut ipam, "Config", Value::from(self.pools()?));
        put(&mut body, "IPAM", Value::Object(ipam));
        Ok(Value::Object(body))
    }

    /// Gives each subnet the range, the gateway and the addresses that lie in it.
    fn pools(&self) -> Result<Vec<Value>, CliError> {
        use ipnet::IpNet;
        use std::net::IpAddr;
        let wrong = |flag: &str, word: &str, what: &str| {
            CliError::Usage(format!("--{flag} {word}: expected {what}"))
        };
        let subnet = |flag: &str, word: &str| -> Result<IpNet, CliError> {
            word.parse().map_err(|_| wrong(flag, word, "a subnet, as in 10.1.0.0/16"))
        };
        let mut pools: Vec<(IpNet, Map<String, Value>)> = Vec::new();
        for word in &self.subnet {
            let net = subnet("subnet", word)?;
            pools.push((net, Map::from_iter([("Subnet".to_owned(), json!(word))])));
        }
        let mut give = |flag: &str, address: IpAddr, key: &str, value: Value| {
            let pool = pools.iter_mut().find(|(net, _)| net.contains(&address));
            let Some((_, pool)) = pool else {
                return Err(CliError::Usage(format!("--{flag} {address}: no --subnet holds it")));
            };
            match (pool.get_mut(key), value) {
                (Some(Value::Object(old)), Value::Object(new)) => old.extend(new),
                (Some(_), _) => {
                    let text = format!("--{flag}: a subnet has only one");
                    return Err(CliError::Usage(text));
                }
                (None, value) => drop(pool.insert(key.to_owned(), value)),
            }
            Ok(())
        };
        for word in &self.ip_range {
            give("ip-range", subnet("ip-range", word)?.addr(), "IPRange", json!(word))?;
        }
        for word in &self.gateway {
            let address = word.parse().map_err(|_| wrong("gateway", word, "an address"))?;
            give("gateway", address, "Gateway", json!(word))?;
        }
        for word in &self.aux_address {
            let wrong = || wrong("aux-address", word, "NAME=ADDRESS");
            let (name, text) = word.split_once('=').ok_or_else(wrong)?;
            let address = text.parse().map_err(|_| wrong())?;
            give("aux-address", address, "AuxiliaryAddresses", json!({name: text}))?;
        }
        Ok(pools.into_iter().map(|(_, pool)| Value::Object(pool)).collect())
    }
}

#[derive(Debug, clap::Args)]
pub(crate) struct Remove {
    /// Don't fail for networks that are not there
    #[arg(short, long)]
    force: bool,
    /// Networks
    #[arg(required = true, value_name = "NETWORK")]
    names: Vec<String>,
}

impl Verb for Remove {
    async fn run(self, global: &Global) -> Result<u8, CliError> {
        let client = global.connect().await?;
        each(&self.names, async |name| {
            match client.delete(&format!("/networks/{}", segment(name)), &[]).await {
                Err(error) if self.force && error.is_not_found() => Ok(None),
                other => other.map(|_| Some(name.to_owned())).map_err(CliError::from),
            }
        })
        .await
    }
}

#[derive(Debug, clap::Args)]
pub(crate) struct Connect {
    /// Further name of the container on the network
    #[arg(long, value_name = "NAME")]
    alias: Vec<String>,
    /// IPv4 address
    #[arg(long, value_name = "ADDRESS")]
    ip: Option<String>,
    /// IPv6 address
    #[arg(long, value_name = "ADDRESS")]
    ip6: Option<String>,
    /// Container to reach by another name
    #[arg(long, value_name = "CONTAINER[:NAME]")]
    link: Vec<String>,
    /// Link-local address
    #[arg(long, value_name = "ADDRESS")]
    link_local_ip: Vec<String>,
    /// Option of the driver
    #[arg(long, value_name = "NAME=VALUE")]
    driver_opt: Vec<String>,
    /// The network with the greatest number is the way out
    #[arg(long, value_name = "NUMBER")]
    gw_priority: Option<i64>,
    /// Network
    #[arg(value_name = "NETWORK")]
    network: String,
    /// Container
    #[arg(value_name = "CONTAINER")]
    container: String,
}

impl Verb for Connect {
    async fn run(self, global: &Global) -> Result<u8, CliError> {
        let (mut ipam, mut settings) = (Map::new(), Map::new());
        put(&mut ipam, "IPv4Address", Value::from(self.ip));
        put(&mut ipam, "IPv6Address", Value::from(self.ip6));
        put(&mut ipam, "LinkLocalIPs", Value::from(self.link_local_ip));
        put(&mut settings, "IPAMConfig", Value::Object(ipam));
        put(&mut settings, "Aliases", Value::from(self.alias));
        put(&mut settings, "Links", Value::from(self.link));
        put(&mut settings, "DriverOpts", Value::Object(pairs(&self.driver_opt)));
        put(&mut settings, "GwPriority", Value::from(self.gw_priority));
        let body = json!({"Container": self.container, "EndpointConfig": settings});
        let path = format!("/networks/{}/connect", segment(&self.network));
        global.connect().await?.post(&path, &[], Some((&body).into())).await?;
        Ok(exit::OK)
    }
}

#[derive(Debug, clap::Args)]
pub(crate) struct Disconnect {
    /// Also when the container is gone
    #[arg(short, long)]
    force: bool,
    /// Network
    #[arg(value_name = "NETWORK")]
    network: String,
    /// Container
    #[arg(value_name = "CONTAINER")]
    container: String,
}

impl Verb for Disconnect {
    async fn run(self, global: &Global) -> Result<u8, CliError> {
        let body = json!({"Container": self.container, "Force": self.force});
        let path = format!("/networks/{}/disconnect", segment(&self.network));
        global.connect().await?.post(&path, &[], Some((&body).into())).await?;
        Ok(exit::OK)
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use clap::{Args, FromArgMatches};

    use super::*;

    fn body(words: &[&str]) -> Result<Value, CliError> {
        let command = Create::augment_args(clap::Command::new("create").no_binary_name(true));
        let matches = command.try_get_matches_from(words).unwrap();
        Create::from_arg_matches(&matches).unwrap().body()
    }

    #[test]
    fn a_network_is_created_as_docker_asks_for_it() {
        let words = "--subnet 10.1.0.0/16 --gateway 10.1.0.1 --ip-range 10.1.1.0/24 --aux-address a=10.1.0.5 \
                     --aux-address b=10.1.0.6 --internal --ipv6 --label a=b -o k=v n";
        let words: Vec<&str> = words.split_whitespace().collect();
        let expected = json!({
            "Name": "n", "Driver": "bridge", "Options": {"k": "v"}, "Labels": {"a": "b"},
            "Internal": true, "EnableIPv6": true,
            "IPAM": {"Config": [{
                "Subnet": "10.1.0.0/16", "IPRange": "10.1.1.0/24", "Gateway": "10.1.0.1",
                "AuxiliaryAddresses": {"a": "10.1.0.5", "b": "10.1.0.6"},
            }]},
        });
        assert_eq!(body(&words).unwrap(), expected);
        assert!(body(&["--gateway", "10.2.0.1", "--subnet", "10.1.0.0/16", "n"]).is_err());
        assert!(body(&["--subnet", "10.1", "n"]).is_err());
    }
}
