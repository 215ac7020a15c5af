//! Published ports in compose's short notation: `[ip:][host[-host]:]container[-container][/protocol]`.
//! An IPv6 address stands in brackets; `localhost` means 127.0.0.1 and ::1.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::InvalidValue;
use crate::spec::container::{PortSpec, Protocol};

const RULE: &str =
    "expected [ip:][host:]container[/protocol], as in 8080:80 or 127.0.0.1:53:53/udp";

/// Returns the ports that `text` publishes, one for each container port and address.
pub fn parse(text: &str) -> Result<Vec<PortSpec>, InvalidValue> {
    let invalid = || InvalidValue::new(text, "port mapping", RULE);
    let (mapping, protocol) = match text.split_once('/') {
        Some((mapping, word)) => (mapping, protocol(word)?),
        None => (text, Protocol::Tcp),
    };
    let (front, container) =
        mapping.rsplit_once(':').map_or((None, mapping), |(front, port)| (Some(front), port));
    let container = range(container).ok_or_else(invalid)?;
    let (address, host) = match front {
        None => (None, None),
        Some(front) => match front.rsplit_once(':') {
            Some((address, host)) => (Some(address), Some(host)),
            None => (None, Some(front)),
        },
    };
    let host = match host {
        None | Some("") => None,
        Some(host) => Some(range(host).ok_or_else(invalid)?),
    };
    let addresses = match address {
        None => vec![None],
        Some(address) => addresses(address).ok_or_else(invalid)?,
    };
    expand(container, host, protocol, &addresses).ok_or_else(|| {
        InvalidValue::new(
            text,
            "port mapping",
            "both ranges must be of one length, or the container's a single port",
        )
    })
}

/// Reads a host address as a list for [`expand`]: `localhost` is two.
pub fn addresses(text: &str) -> Option<Vec<Option<IpAddr>>> {
    if text == "localhost" {
        return Some(vec![Some(Ipv4Addr::LOCALHOST.into()), Some(Ipv6Addr::LOCALHOST.into())]);
    }
    let bare = text.strip_prefix('[').and_then(|inner| inner.strip_suffix(']')).unwrap_or(text);
    bare.parse().ok().map(|address| vec![Some(address)])
}

/// Reads a protocol's name.
pub fn protocol(word: &str) -> Result<Protocol, InvalidValue> {
    match word.to_ascii_lowercase().as_str() {
        "tcp" => Ok(Protocol::Tcp),
        "udp" => Ok(Protocol::Udp),
        "sctp" => Ok(Protocol::Sctp),
        _ => Err(InvalidValue::new(word, "protocol", "expected tcp, udp or sctp")),
    }
}

/// Reads `80` or `8000-8010`; a port is never zero.
pub fn range(text: &str) -> Option<(u16, u16)> {
    let port = |text: &str| {
        let digits = text.bytes().all(|byte| byte.is_ascii_digit());
        text.parse::<u16>().ok().filter(|port| digits && *port > 0)
    };
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (port(first)?, port(last)?);
    (first <= last).then_some((first, last))
}

/// Makes one [`PortSpec`] for each container port and address. A host range goes port by port with a
/// container range of its length; with a single container port it is a range to pick from.
pub fn expand(
    container: (u16, u16),
    host: Option<(u16, u16)>,
    protocol: Protocol,
    addresses: &[Option<IpAddr>],
) -> Option<Vec<PortSpec>> {
    let width = container.1 - container.0;
    if let Some((first, last)) = host
        && width > 0
        && last - first != width
    {
        return None;
    }
    let mut ports = Vec::new();
    for &host_ip in addresses {
        for offset in 0..=width {
            let host = match host {
                None => (0, 0),
                Some(range) if width == 0 => range,
                Some((first, _)) => (first + offset, first + offset),
            };
            ports.push(PortSpec { container: container.0 + offset, protocol, host_ip, host });
        }
    }
    Some(ports)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn port(container: u16, ip: Option<&str>, host: (u16, u16)) -> PortSpec {
        let host_ip = ip.map(|ip| ip.parse().unwrap());
        PortSpec { container, protocol: Protocol::Tcp, host_ip, host }
    }

    #[test]
    fn every_part_but_the_container_port_may_be_left_out() {
        assert_eq!(parse("80").unwrap(), [port(80, None, (0, 0))]);
        assert_eq!(parse("8080:80").unwrap(), [port(80, None, (8080, 8080))]);
        assert_eq!(parse("127.0.0.1::80").unwrap(), [port(80, Some("127.0.0.1"), (0, 0))]);
        assert_eq!(parse("[::1]:6001:6001").unwrap(), [port(6001, Some("::1"), (6001, 6001))]);
        assert_eq!(parse("53:53/UDP").unwrap()[0].protocol, Protocol::Udp);
    }

    #[test]
    fn localhost_means_both_loopback_addresses() {
        let expected =
            [port(80, Some("127.0.0.1"), (8080, 8080)), port(80, Some("::1"), (8080, 8080))];
        assert_eq!(parse("localhost:8080:80").unwrap(), expected);
    }

    #[test]
    fn ranges_go_port_by_port_or_are_picked_from() {
        assert_eq!(
            parse("9090-9091:80-81").unwrap(),
            [port(80, None, (9090, 9090)), port(81, None, (9091, 9091))]
        );
        assert_eq!(parse("9000-9010:80").unwrap(), [port(80, None, (9000, 9010))]);
        assert_eq!(
            parse("3000-3001").unwrap(),
            [port(3000, None, (0, 0)), port(3001, None, (0, 0))]
        );
    }

    #[test]
    fn nonsense_is_refused() {
        for text in [
            "",
            "a",
            "0",
            "65536",
            "80:",
            "1-2:1-3",
            "5-4",
            "1.2.3:1:1",
            "80/icmp",
            "::1:80:80:",
            "+80",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
