//! What the network driver is asked for, as plain data: networks, endpoints and published ports.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// Everything that the driver keeps true, in one value.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// By network id.
    pub networks: BTreeMap<String, NetworkConfig>,
    pub endpoints: Vec<EndpointConfig>,
    pub publications: Vec<Publication>,
}

/// A bridge with its subnets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkConfig {
    pub id: String,
    pub name: String,
    /// Name of the bridge device, see [`bridge_name`].
    pub bridge: String,
    pub subnets: Vec<SubnetConfig>,
    /// Nothing leaves and nothing enters: no masquerade, no default route, local names only.
    pub internal: bool,
    pub ipv6: bool,
    /// Whether what leaves takes the host's address.
    pub masquerade: bool,
    /// Bytes of the largest packet.
    pub mtu: u32,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SubnetConfig {
    pub subnet: IpNet,
    /// The bridge's own address, and the default route of the endpoints.
    pub gateway: IpAddr,
}

/// One container on one network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndpointConfig {
    pub container: String,
    /// The network's id.
    pub network: String,
    pub addresses: Vec<IpNet>,
    /// `None` lets the address be derived from the first IP address.
    pub mac: Option<[u8; 6]>,
    /// Names that only this network knows.
    pub aliases: Vec<String>,
    /// The container's name, service and short id.
    pub names: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    Tcp,
    Udp,
    Sctp,
}

impl Protocol {
    /// Returns its name, as in `80/tcp`.
    pub fn word(self) -> &'static str {
        match self {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
            Protocol::Sctp => "sctp",
        }
    }

    /// The number of the protocol in an IP header (RFC 5237).
    pub fn number(self) -> u8 {
        match self {
            Protocol::Tcp => 6,
            Protocol::Udp => 17,
            Protocol::Sctp => 132,
        }
    }
}

/// A host port and the containers behind it. Without backends the port stays reserved and unanswered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Publication {
    /// An unspecified address stands for every local address of its family.
    pub host_ip: IpAddr,
    pub host_port: u16,
    pub protocol: Protocol,
    pub backends: Vec<SocketAddr>,
}

/// Returns the bridge's device name for a network.
pub fn bridge_name(root_id: &str, network: &str) -> String {
    device_name(root_id, 'b', network)
}

/// Returns the host side's device name of an endpoint.
pub fn veth_name(root_id: &str, network: &str, container: &str) -> String {
    device_name(root_id, 'v', &format!("{network}/{container}"))
}

/// Tells whether a device carries a name that this root gives.
pub fn is_ours(root_id: &str, device: &str) -> bool {
    ['b', 'v'].iter().any(|kind| {
        device.len() == NAME_LENGTH && device.starts_with(&device_prefix(root_id, *kind))
    })
}

/// The longest name that fits IFNAMSIZ with its NUL (netdevice(7)).
const NAME_LENGTH: usize = 15;

/// Returns what the names of all bridges of a root begin with, unless a network names its own.
pub fn bridge_prefix(root_id: &str) -> String {
    device_prefix(root_id, 'b')
}

fn device_prefix(root_id: &str, kind: char) -> String {
    let root: String = root_id.chars().filter(char::is_ascii_alphanumeric).take(6).collect();
    format!("b{kind}{root}")
}

/// Returns the root's prefix and as much of the key's hash as fits, five bits a letter.
fn device_name(root_id: &str, kind: char, key: &str) -> String {
    const LETTERS: &[u8; 32] = b"0123456789abcdefghijklmnopqrstuv";
    let mut name = device_prefix(root_id, kind);
    let hash = Sha256::digest(format!("{root_id}/{key}").as_bytes());
    let letters = hash.iter().map(|byte| char::from(LETTERS[usize::from(byte & 31)]));
    name.extend(letters.take(NAME_LENGTH - name.len()));
    name
}

/// Returns the locally administered address that belongs to `address`, so that a re-created endpoint keeps its MAC
/// and no neighbour holds a stale entry.
pub fn derived_mac(address: IpAddr) -> [u8; 6] {
    match address {
        IpAddr::V4(address) => {
            let [a, b, c, d] = address.octets();
            [0x02, 0x42, a, b, c, d]
        }
        IpAddr::V6(address) => {
            let [.., a, b, c, d] = address.octets();
            [0x02, 0x46, a, b, c, d]
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn device_names_fit_the_kernel_and_differ_by_root_network_and_container() {
        let names = [
            bridge_name("0123456789ab", "front"),
            bridge_name("ffff", "front"),
            bridge_name("0123456789ab", "back"),
            veth_name("0123456789ab", "front", "c1"),
            veth_name("0123456789ab", "front", "c2"),
        ];
        let distinct: std::collections::BTreeSet<_> = names.iter().collect();
        assert_eq!(distinct.len(), names.len());
        assert!(names.iter().all(|name| name.len() <= 15), "{names:?}");
        assert!(is_ours("0123456789ab", &names[0]) && is_ours("0123456789ab", &names[3]));
        assert!(!is_ours("0123456789ab", &names[1]) && !is_ours("0123456789ab", "br0"));
    }
}
