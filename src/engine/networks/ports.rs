//! Host ports: chosen and reserved when a container starts, given back when it stops.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::sync::Arc;

use super::live::{self, Live, Rows};
use crate::engine::containers::Handle;
use crate::engine::core::Engine;
use crate::engine::error::EngineError;
use crate::engine::state::containers::Container;
use crate::engine::state::{Durability, StateError, Transaction, ports as table};
use crate::net::model;
use crate::net::ports::{self as sockets, ReserveError};
use crate::spec::container::{PortSpec, Protocol};

/// Ports that netd holds, by what it was last told.
pub(super) type Held = BTreeSet<(SocketAddr, model::Protocol)>;

/// Why a host port can't be had.
enum Refusal {
    /// Another container or service has it, or another port of the same one.
    Owned(String),
    /// Another program has it.
    Program(ReserveError),
}

impl Engine {
    /// Chooses and reserves the host ports of a container that starts; they are in the returned order of its spec.
    pub(super) fn reserve_ports(
        &self,
        tx: &Transaction<'_>,
        rows: &Rows,
        row: &Container,
        wanted: &[PortSpec],
    ) -> Result<Vec<PortSpec>, EngineError> {
        table::release(tx, &row.id)?;
        let held = self.networks.held();
        let mut chosen: Vec<PortSpec> = Vec::new();
        for port in wanted {
            let take = |number: u16| self.take(tx, rows, row, port, number, (&chosen, &held));
            let number = choose(port, row, take)?
                .map_err(|(number, refusal)| self.refused(row, port, number, &refusal))?;
            chosen.push(PortSpec { host: (number, number), ..port.clone() });
        }
        Ok(chosen)
    }

    /// Returns the ports that the spec wants published.
    pub(super) fn wanted_ports(&self, row: &Container) -> Vec<PortSpec> {
        let mut wanted = row.spec.ports.clone();
        if !row.spec.publish_all {
            return wanted;
        }
        let image = self.image_facts(row).exposed;
        let exposed = image.iter().chain(&row.spec.exposed);
        for (container, protocol) in exposed.filter_map(|text| parse_exposed(text)) {
            let is_published =
                wanted.iter().any(|port| (port.container, port.protocol) == (container, protocol));
            if !is_published {
                wanted.push(PortSpec { container, protocol, host_ip: None, host: (0, 0) });
            }
        }
        wanted
    }

    fn take(
        &self,
        tx: &Transaction<'_>,
        rows: &Rows,
        row: &Container,
        port: &PortSpec,
        number: u16,
        (chosen, held): (&[PortSpec], &Held),
    ) -> Result<Result<(), Refusal>, EngineError> {
        let mine = chosen.iter().any(|other| {
            other.host.0 == number
                && other.protocol == port.protocol
                && (specific(other) == specific(port)
                    || specific(other).is_none()
                    || specific(port).is_none())
        });
        if mine {
            return Ok(Err(Refusal::Owned(format!("another port of {}", row.name))));
        }
        let protocol = live::protocol(port.protocol);
        for address in live::host_addresses(rows, row, port, self.networks.host_has_ipv6) {
            let address = SocketAddr::new(address, number);
            if !held.contains(&(address, protocol))
                && let Err(error) = self.try_bind(address, protocol)
            {
                return Ok(Err(Refusal::Program(error)));
            }
        }
        match table::reserve(tx, &owner(row, port), port.protocol, specific(port), number) {
            Ok(()) => Ok(Ok(())),
            Err(StateError::PortTaken { holder, .. }) => {
                Ok(Err(Refusal::Owned(self.owner_text(&holder))))
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Tells whether netd will get the port. What netd still holds it will have.
    fn try_bind(&self, address: SocketAddr, protocol: model::Protocol) -> Result<(), ReserveError> {
        match sockets::reserve(address, protocol) {
            Ok(reservation) => {
                drop(reservation);
                Ok(())
            }
            Err(ReserveError::Taken { holder: Some(holder), .. })
                if Some(holder.pid) == self.networks.netd.pid() =>
            {
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    fn refused(
        &self,
        row: &Container,
        port: &PortSpec,
        number: u16,
        refusal: &Refusal,
    ) -> EngineError {
        let address = SocketAddr::new(port.host_ip.unwrap_or(Ipv4Addr::UNSPECIFIED.into()), number);
        let why = match refusal {
            Refusal::Owned(holder) => {
                format!("Bind for {address} failed: port is already allocated: {holder} has it")
            }
            Refusal::Program(ReserveError::Taken { address, holder, .. }) => {
                let holder =
                    holder.as_ref().map_or("another program".to_owned(), ToString::to_string);
                format!(
                    "failed to bind host port {address}/{}: address already in use: {holder} has it",
                    word(port.protocol)
                )
            }
            Refusal::Program(error) => {
                EngineError::io("")(std::io::Error::other(error.to_string())).full()
            }
        };
        let short = row.id.get(..12).unwrap_or(&row.id);
        let message = format!(
            "failed to set up container networking: driver failed programming external connectivity \
             on endpoint {} ({short}): {why}",
            row.name
        );
        EngineError::Start { message, code: 125 }
    }

    fn owner_text(&self, owner: &str) -> String {
        match owner.split_once('/') {
            Some((stack, service)) => format!("service {service} of stack {stack}"),
            None => match self.container(owner) {
                Ok(handle) => format!("container {}", handle.row().name),
                Err(_) => format!("container {owner}"),
            },
        }
    }

    /// Gives a stopped container's ports back. Those of its service stay while another replica has them.
    pub(super) fn release_ports(&self, row: &Container) -> Result<(), EngineError> {
        if row.bound_ports.is_empty() {
            return Ok(());
        }
        let live = self.networks.live().clone();
        self.write(Durability::Process, |tx| {
            table::release(tx, &row.id)?;
            if let Some((stack, service)) = live::service_of(row) {
                table::release(tx, &format!("{stack}/{service}"))?;
                let replicas = live
                    .values()
                    .filter(|other| live::service_of(&other.row) == Some((stack, service)));
                for replica in replicas {
                    reserve_again(tx, &replica.row)?;
                }
            }
            Ok(())
        })
    }

    /// After a start of the engine: the table says what the running containers have, and nothing else.
    pub(super) fn restore_ports(
        &self,
        live: &std::collections::BTreeMap<String, Live>,
    ) -> Result<(), EngineError> {
        self.write(Durability::Process, |tx| {
            table::release_all(tx)?;
            live.values().try_for_each(|container| reserve_again(tx, &container.row))
        })
    }

    /// Who holds a host port that is neither ours nor free: container, or program and pid. A range has a holder
    /// when none of it is free.
    pub fn port_holder(&self, port: &PortSpec, ours: &[String]) -> Option<String> {
        if port.host.0 == 0 {
            return None;
        }
        let mut first = None;
        for number in port.host.0..=port.host.1 {
            let holder = self.holder_of(port, number, ours)?;
            first.get_or_insert(holder);
        }
        first
    }

    fn holder_of(&self, port: &PortSpec, number: u16, ours: &[String]) -> Option<String> {
        let live = self.networks.live().clone();
        let overlaps = |other: &PortSpec| {
            other.host.0 == number
                && other.protocol == port.protocol
                && (specific(other) == specific(port)
                    || specific(other).is_none()
                    || specific(port).is_none())
        };
        let holds = |found: &&Live| found.row.bound_ports.iter().any(overlaps);
        let mut holders = live.values().filter(holds).map(|found| &found.row).peekable();
        if holders.peek().is_some() {
            let is_ours =
                |row: &&Arc<Container>| ours.contains(&row.id) || ours.contains(&row.name);
            let other = holders.find(|row| !is_ours(row))?;
            return Some(format!("container {}", other.name));
        }
        let address = SocketAddr::new(port.host_ip.unwrap_or(Ipv4Addr::UNSPECIFIED.into()), number);
        match self.try_bind(address, live::protocol(port.protocol)) {
            Err(ReserveError::Taken { holder, .. }) => {
                Some(holder.map_or("another program".to_owned(), |holder| holder.to_string()))
            }
            _ => None,
        }
    }

    /// Changes a running container's published ports.
    pub(crate) async fn change_ports(
        self: &Arc<Self>,
        handle: &Handle,
        ports: Vec<PortSpec>,
    ) -> Result<(), EngineError> {
        let row = handle.row();
        let connected = self.networks.live().contains_key(handle.id());
        if !connected {
            self.change(handle, Durability::Process, |row| row.spec.ports = ports)?;
            return Ok(());
        }
        let rows = self.networks.rows();
        let before = Container::clone(&row);
        let bound =
            self.write(Durability::Process, |tx| self.reserve_ports(tx, &rows, &row, &ports))?;
        let changed = self.change(handle, Durability::Process, |row| {
            row.spec.ports = ports;
            row.bound_ports = bound;
        })?;
        if let Some(found) = self.networks.live().get_mut(handle.id()) {
            found.row = changed;
        }
        // Ports of the service that no replica has any more.
        self.release_ports(&before)?;
        let published = self.refresh_publications().await;
        self.purge_ports(&before.bound_ports);
        published
    }
}

/// Tries the numbers that a port may have until one is taken; the last refusal is the answer when all are.
fn choose(
    port: &PortSpec,
    row: &Container,
    mut take: impl FnMut(u16) -> Result<Result<(), Refusal>, EngineError>,
) -> Result<Result<u16, (u16, Refusal)>, EngineError> {
    // The port of the last run first: clients may know it.
    let same = |other: &&PortSpec| {
        other.container == port.container
            && other.protocol == port.protocol
            && other.host_ip == port.host_ip
    };
    let range = if port.host.0 == 0 { ephemeral_ports() } else { port.host.0..=port.host.1 };
    let before = row.bound_ports.iter().find(same).map(|other| other.host.0);
    let before = before.filter(|number| range.contains(number));
    let mut refused = None;
    for number in before.into_iter().chain(range.clone()) {
        match take(number)? {
            Ok(()) => return Ok(Ok(number)),
            Err(refusal) => refused = Some((number, refusal)),
        }
    }
    let nothing = || (*range.start(), Refusal::Owned("nobody".to_owned()));
    Ok(Err(refused.unwrap_or_else(nothing)))
}

/// Returns the ports that the kernel itself gives out (ip-sysctl.rst, ip_local_port_range), as docker does.
fn ephemeral_ports() -> RangeInclusive<u16> {
    let text = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range");
    let text = text.unwrap_or_default();
    let mut numbers = text.split_whitespace().map(|word| word.parse::<u16>());
    match (numbers.next(), numbers.next()) {
        (Some(Ok(first)), Some(Ok(last))) if first <= last => first..=last,
        _ => 32_768..=60_999,
    }
}

/// A fixed port belongs to the service, whose replicas share it; any other to the container.
fn owner(row: &Container, port: &PortSpec) -> String {
    match live::service_of(row) {
        Some((stack, service)) if port.host.0 == port.host.1 && port.host.0 != 0 => {
            format!("{stack}/{service}")
        }
        _ => row.id.clone(),
    }
}

fn reserve_again(tx: &Transaction<'_>, row: &Container) -> Result<(), EngineError> {
    for port in &row.bound_ports {
        let asked = row.spec.ports.iter().find(|asked| {
            asked.container == port.container
                && asked.protocol == port.protocol
                && asked.host_ip == port.host_ip
                && (asked.host.0..=asked.host.1).contains(&port.host.0)
        });
        let owner = asked.map_or_else(|| row.id.clone(), |asked| owner(row, asked));
        table::reserve(tx, &owner, port.protocol, specific(port), port.host.0)?;
    }
    Ok(())
}

/// Returns the one host address of a port; `None` is all of them.
fn specific(port: &PortSpec) -> Option<IpAddr> {
    port.host_ip.filter(|address| !address.is_unspecified())
}

/// Reads `80/tcp` or `80`.
fn parse_exposed(text: &str) -> Option<(u16, Protocol)> {
    let (port, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let protocol = match protocol {
        "tcp" => Protocol::Tcp,
        "udp" => Protocol::Udp,
        "sctp" => Protocol::Sctp,
        _ => return None,
    };
    Some((port.parse().ok()?, protocol))
}

fn word(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Tcp => "tcp",
        Protocol::Udp => "udp",
        Protocol::Sctp => "sctp",
    }
}
