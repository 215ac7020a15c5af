//! Text of the files by which a container knows its own name and asks for others'.

use std::net::{IpAddr, SocketAddr};

use super::live;
use crate::engine::containers::Handle;
use crate::engine::core::Engine;
use crate::engine::error::EngineError;
use crate::engine::state::addresses;
use crate::engine::state::containers::Container;
use crate::net::hosts::{self, InvalidField, ResolvConf};
use crate::spec::container::NetworkMode;

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct NetworkFiles {
    pub(crate) hosts: String,
    pub(crate) hostname: String,
    pub(crate) resolv_conf: String,
}

const HOST_HOSTS: &str = "/etc/hosts";
const HOST_RESOLV_CONF: &str = "/etc/resolv.conf";

impl Engine {
    /// Text of /etc/hosts, /etc/hostname and /etc/resolv.conf of a container.
    pub(crate) fn network_files(&self, handle: &Handle) -> Result<NetworkFiles, EngineError> {
        let row = handle.row();
        let hostname = hostname(&row);
        let held = self.read(|connection| addresses::of_container(connection, &row.id))?;
        let own: Vec<IpAddr> = held.into_iter().map(|(_, address)| address).collect();
        let mut extra = self.extra_hosts(&row)?;
        extra.extend(self.links(&row)?);
        let texts = || -> Result<NetworkFiles, InvalidField> {
            Ok(NetworkFiles {
                hosts: match row.spec.network_mode {
                    // As docker has it: who shares the host's network knows the host's names.
                    NetworkMode::Host => hosts::append(host_hosts(), &extra)?,
                    _ => hosts::hosts(&hostname, &own, &extra)?,
                },
                hostname: hosts::hostname(&hostname)?,
                resolv_conf: resolv_conf(&row).text()?,
            })
        };
        texts().map_err(|error| EngineError::Invalid { message: error.to_string() })
    }

    fn extra_hosts(&self, row: &Container) -> Result<Vec<(String, IpAddr)>, EngineError> {
        let mut all = Vec::new();
        for entry in &row.spec.extra_hosts {
            let invalid = || EngineError::Invalid {
                message: format!("bad format for add-host: {entry:?}: it must be host:ip"),
            };
            let (name, address) = entry.split_once([':', '=']).ok_or_else(invalid)?;
            let address = match address {
                "host-gateway" => self.host_gateway()?,
                text => {
                    let text = text.trim_start_matches('[').trim_end_matches(']');
                    text.parse().map_err(|_| invalid())?
                }
            };
            all.push((name.to_owned(), address));
        }
        Ok(all)
    }

    fn host_gateway(&self) -> Result<IpAddr, EngineError> {
        let default = || self.networks.default_bridge()?.subnets.first().map(|one| one.gateway);
        self.config.network.host_gateway.or_else(default).ok_or_else(|| EngineError::Invalid {
            message:
                "host-gateway: the default network has no gateway; set `network.host_gateway` in \
                      the configuration"
                    .to_owned(),
        })
    }

    /// Docker's links: the alias, the other's name and its host name lead to its first address.
    fn links(&self, row: &Container) -> Result<Vec<(String, IpAddr)>, EngineError> {
        let mut all = Vec::new();
        for link in &row.spec.links {
            let (word, alias) = link.split_once(':').unwrap_or((link, link));
            let other = self.container(word)?.row();
            let alias = alias.rsplit('/').next().unwrap_or(alias).to_owned();
            let held = self.read(|connection| addresses::of_container(connection, &other.id))?;
            let rows = self.networks.rows();
            let shared: Vec<&str> = live::memberships(row)
                .into_iter()
                .filter_map(|(name, _)| live::find(&rows, name))
                .map(|network| network.id.as_str())
                .collect();
            let reachable = held.iter().find(|(network, _)| shared.contains(&network.as_str()));
            let Some((_, address)) = reachable else {
                let message =
                    format!("cannot link to {word}: it is on no network of container {}", row.name);
                return Err(EngineError::Conflict { message });
            };
            all.extend([alias, other.name.clone()].map(|name| (name, *address)));
        }
        Ok(all)
    }

    /// Returns the resolvers that the container itself names.
    pub(super) fn upstreams(&self, row: &Container) -> Vec<SocketAddr> {
        let servers = row.spec.dns.iter().filter_map(|text| text.parse::<IpAddr>().ok());
        servers.map(|server| SocketAddr::new(server, 53)).collect()
    }
}

fn hostname(row: &Container) -> String {
    let short = row.id.get(..12).unwrap_or(&row.id);
    let host = match (&row.spec.hostname, &row.spec.network_mode) {
        (Some(name), _) => name.clone(),
        (None, NetworkMode::Host) => host_name().unwrap_or_else(|| short.to_owned()),
        (None, _) => short.to_owned(),
    };
    match row.spec.domainname.as_deref().filter(|domain| !domain.is_empty()) {
        Some(domain) => format!("{host}.{domain}"),
        None => host,
    }
}

/// A host without the file has no names to share.
fn host_hosts() -> String {
    std::fs::read_to_string(HOST_HOSTS).unwrap_or_default()
}

fn host_name() -> Option<String> {
    nix::unistd::gethostname().ok()?.into_string().ok().filter(|name| !name.is_empty())
}

/// With networks our resolver answers, which knows the container's own servers; without, they stand in the file.
fn resolv_conf(row: &Container) -> ResolvConf {
    let text = std::fs::read_to_string(HOST_RESOLV_CONF).unwrap_or_default();
    let host = ResolvConf::parse(&text);
    let mut conf = match live::has_endpoints(row) {
        true => hosts::container_resolv_conf(&host),
        false => host,
    };
    if !live::has_endpoints(row) && !row.spec.dns.is_empty() {
        conf.nameservers = row.spec.dns.iter().filter_map(|text| text.parse().ok()).collect();
    }
    if !row.spec.dns_search.is_empty() {
        // A single dot is docker's word for an empty list.
        conf.search = row.spec.dns_search.iter().filter(|name| *name != ".").cloned().collect();
    }
    if !row.spec.dns_options.is_empty() {
        conf.options.clone_from(&row.spec.dns_options);
    }
    conf
}
