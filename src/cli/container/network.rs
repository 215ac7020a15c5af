//! Networks, ports, names and addresses.

use std::net::IpAddr;

use serde_json::{Map, Value, json};

use super::{Body, mounts, pairs, ports, put};
use crate::cli::error::CliError;

#[derive(Debug, Default, clap::Args)]
pub(crate) struct NetworkFlags {
    /// Network to join, or host, none, container:NAME; also name=NAME,alias=…,ip=…
    #[arg(long, visible_alias = "net", value_name = "NETWORK")]
    network: Vec<String>,
    /// Further name of the container on its network
    #[arg(long, visible_alias = "net-alias", value_name = "NAME")]
    network_alias: Vec<String>,
    /// IPv4 address
    #[arg(long, value_name = "ADDRESS")]
    ip: Option<String>,
    /// IPv6 address
    #[arg(long, value_name = "ADDRESS")]
    ip6: Option<String>,
    /// Link-local address
    #[arg(long, value_name = "ADDRESS")]
    link_local_ip: Vec<String>,
    /// MAC address
    #[arg(long, value_name = "ADDRESS")]
    mac_address: Option<String>,
    /// Publish a port: [ADDRESS:][HOST:]CONTAINER[/PROTOCOL]
    #[arg(short, long, value_name = "PORT")]
    publish: Vec<String>,
    /// Publish all exposed ports on random host ports
    #[arg(short = 'P', long)]
    publish_all: bool,
    /// Expose a port without publishing it
    #[arg(long, value_name = "PORT")]
    expose: Vec<String>,
    /// Host name of the container
    #[arg(short = 'h', long, value_name = "NAME")]
    hostname: Option<String>,
    /// NIS domain name of the container
    #[arg(long, value_name = "NAME")]
    domainname: Option<String>,
    /// Add a line to /etc/hosts: NAME:ADDRESS or NAME=ADDRESS
    #[arg(long, value_name = "NAME:ADDRESS")]
    add_host: Vec<String>,
    /// DNS server
    #[arg(long, value_name = "ADDRESS")]
    dns: Vec<String>,
    /// Domain to search
    #[arg(long, value_name = "DOMAIN")]
    dns_search: Vec<String>,
    /// Option of the resolver
    #[arg(long, visible_alias = "dns-opt", value_name = "OPTION")]
    dns_option: Vec<String>,
    /// Container to reach by another name
    #[arg(long, value_name = "CONTAINER[:NAME]")]
    link: Vec<String>,
}

impl NetworkFlags {
    pub(super) fn put(&self, body: &mut Body) -> Result<(), CliError> {
        let networks: Vec<Joined> =
            self.network.iter().map(|word| joined(word)).collect::<Result<_, _>>()?;
        let mode = networks.first().map_or("default", |network| network.name.as_str()).to_owned();
        body.host("NetworkMode", mode.clone());
        for (index, network) in networks.into_iter().enumerate() {
            let mut settings = network.settings;
            if index == 0 {
                self.put_own(&mut settings)?;
            }
            // Host, none and another container's network have no endpoint of ours.
            let joins = !matches!(network.name.as_str(), "host" | "none")
                && !network.name.starts_with("container:");
            if !joins && !settings.is_empty() {
                return Err(CliError::Usage(format!(
                    "aliases and addresses need a network of their own, not --network {}",
                    network.name
                )));
            }
            if joins
                && body.networks.insert(network.name.clone(), Value::Object(settings)).is_some()
            {
                let text = format!("network {} is given more than once", network.name);
                return Err(CliError::Usage(text));
            }
        }
        if self.network.is_empty() {
            let mut settings = Map::new();
            self.put_own(&mut settings)?;
            if !settings.is_empty() {
                body.networks.insert("default".to_owned(), Value::Object(settings));
            }
        }
        let (bindings, exposed) = ports::bindings(&self.publish, &self.expose)?;
        body.host("PortBindings", bindings);
        body.config("ExposedPorts", exposed);
        body.host("PublishAllPorts", self.publish_all);
        body.config("Hostname", self.hostname.clone());
        body.config("Domainname", self.domainname.clone());
        body.host("ExtraHosts", extra_hosts(&self.add_host)?);
        body.host("Dns", self.dns.clone());
        body.host("DnsSearch", self.dns_search.clone());
        body.host("DnsOptions", self.dns_option.clone());
        body.host("Links", self.link.clone());
        Ok(())
    }

    /// Adds what the flags beside `--network` say of the first network.
    fn put_own(&self, settings: &mut Map<String, Value>) -> Result<(), CliError> {
        let mut ipam = match settings.remove("IPAMConfig") {
            Some(Value::Object(ipam)) => ipam,
            _ => Map::new(),
        };
        for (flag, key, value) in
            [("--ip", "IPv4Address", &self.ip), ("--ip6", "IPv6Address", &self.ip6)]
        {
            if let Some(text) = value {
                put(&mut ipam, key, address(flag, text)?);
            }
        }
        put(&mut ipam, "LinkLocalIPs", Value::from(self.link_local_ip.clone()));
        put(settings, "IPAMConfig", Value::Object(ipam));
        if !self.network_alias.is_empty() {
            put(settings, "Aliases", Value::from(self.network_alias.clone()));
        }
        if let Some(mac) = &self.mac_address {
            put(settings, "MacAddress", Value::from(mac.as_str()));
        }
        Ok(())
    }
}

/// A network by its name, and the endpoint's settings.
struct Joined {
    name: String,
    settings: Map<String, Value>,
}

/// Reads a name, or docker's long form `name=NAME,alias=A,ip=ADDRESS,driver-opt=K=V`.
fn joined(word: &str) -> Result<Joined, CliError> {
    if !word.contains('=') {
        return Ok(Joined { name: word.to_owned(), settings: Map::new() });
    }
    let (mut name, mut aliases, mut options) = (String::new(), Vec::new(), Vec::new());
    let (mut ipam, mut link_local, mut settings) = (Map::new(), Vec::new(), Map::new());
    for field in mounts::fields(word)? {
        let (key, value) = field.split_once('=').unwrap_or((&field, ""));
        match key {
            "name" => value.clone_into(&mut name),
            "alias" => aliases.push(value.to_owned()),
            "driver-opt" => options.push(value.to_owned()),
            "ip" => put(&mut ipam, "IPv4Address", address("ip", value)?),
            "ip6" => put(&mut ipam, "IPv6Address", address("ip6", value)?),
            "link-local-ip" => link_local.push(value.to_owned()),
            "mac-address" => put(&mut settings, "MacAddress", Value::from(value)),
            "gw-priority" => {
                let number: i64 = value.parse().map_err(|_| {
                    CliError::Usage(format!("--network gw-priority={value}: expected a number"))
                })?;
                put(&mut settings, "GwPriority", Value::from(number));
            }
            _ => return Err(CliError::Usage(format!("--network {word}: unknown field {key}"))),
        }
    }
    if name.is_empty() {
        return Err(CliError::Usage(format!("--network {word}: name= is missing")));
    }
    put(&mut ipam, "LinkLocalIPs", Value::from(link_local));
    put(&mut settings, "IPAMConfig", Value::Object(ipam));
    put(&mut settings, "Aliases", Value::from(aliases));
    put(&mut settings, "DriverOpts", Value::Object(pairs(&options)));
    Ok(Joined { name, settings })
}

fn address(flag: &str, text: &str) -> Result<Value, CliError> {
    match text.parse::<IpAddr>() {
        Ok(address) => Ok(json!(address.to_string())),
        Err(_) => Err(CliError::Usage(format!("{flag} {text}: expected an address"))),
    }
}

/// `NAME=ADDRESS` is sent as `NAME:ADDRESS`; an IPv6 address may stand in brackets.
fn extra_hosts(words: &[String]) -> Result<Vec<String>, CliError> {
    let mut hosts = Vec::new();
    for word in words {
        let wrong = || CliError::Usage(format!("--add-host {word}: expected NAME:ADDRESS"));
        let at = word.find(['=', ':']).ok_or_else(wrong)?;
        let (name, address) = (&word[..at], &word[at + 1..]);
        let bare = address.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
        let address = bare.unwrap_or(address);
        if name.is_empty() || (address != "host-gateway" && address.parse::<IpAddr>().is_err()) {
            return Err(wrong());
        }
        hosts.push(format!("{name}:{address}"));
    }
    Ok(hosts)
}
