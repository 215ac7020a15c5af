//! Reads the elements of our sets back from the kernel, to compare them with what was wanted.

use std::collections::BTreeSet;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr};

use super::ruleset::{Ruleset, Set, Type};
use crate::net::netfilter::{
    self, DUMP, FAMILY_INET, REQUEST, attributes_of, message, receive, text_attribute,
};

/// `NFT_MSG_GETSETELEM` of the subsystem `NFNL_SUBSYS_NFTABLES`.
const GET_ELEMENTS: u16 = 10 << 8 | 13;

/// Returns the elements that a ruleset has, each as `set key` or `set key : data`.
pub fn elements(ruleset: &Ruleset) -> BTreeSet<String> {
    let mut all = BTreeSet::new();
    for (name, set) in &ruleset.sets {
        all.extend(set.elements.iter().map(|(key, data)| describe(name, set, key, data)));
    }
    all
}

/// Returns the elements that the kernel has in the table and the sets of `ruleset`, in the same words; none without
/// the table.
pub fn present(ruleset: &Ruleset) -> io::Result<BTreeSet<String>> {
    let mut all = BTreeSet::new();
    for (name, set) in &ruleset.sets {
        let found = match read(&ruleset.table, name) {
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => continue,
            found => found?,
        };
        all.extend(found.iter().map(|(key, data)| describe(name, set, key, data)));
    }
    Ok(all)
}

/// Returns keys and data of a set of ours.
pub(in crate::net) fn read(table: &str, set: &str) -> io::Result<Vec<(Vec<u8>, Vec<u8>)>> {
    let socket = netfilter::open()?;
    let wanted = [text_attribute(1, table), text_attribute(2, set)].concat();
    netfilter::send(&socket, &message(GET_ELEMENTS, REQUEST | DUMP, FAMILY_INET, &wanted))?;
    let mut found = Vec::new();
    receive(&socket, |_, body| {
        let lists = attributes_of(body).filter(|(kind, ..)| *kind == 3);
        for (_, element, _) in lists.flat_map(|(_, list, _)| attributes_of(list)) {
            let part = |wanted: u16| {
                let data = attributes_of(element).find(|(kind, ..)| *kind == wanted)?.1;
                Some(attributes_of(data).find(|(kind, ..)| *kind == 1)?.1.to_vec())
            };
            if let Some(key) = part(1) {
                found.push((key, part(2).unwrap_or_default()));
            }
        }
    })?;
    Ok(found)
}

fn describe(name: &str, set: &Set, key: &[u8], data: &[u8]) -> String {
    let key = fields(&set.key, key);
    match data {
        [] => format!("{name} {key}"),
        data => format!("{name} {key} : {}", fields(&set.data, data)),
    }
}

/// Writes the fields of a concatenation as nft does; one that is cut short as its bytes.
fn fields(types: &[Type], bytes: &[u8]) -> String {
    let mut rest = bytes;
    let mut words = Vec::new();
    for kind in types {
        let (word, length) = field(*kind, rest);
        words.push(word);
        rest = rest.get(length..).unwrap_or_default();
    }
    words.join(" . ")
}

/// Returns the text of the first field and how many bytes it takes.
fn field(kind: Type, bytes: &[u8]) -> (String, usize) {
    let hex = || bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let four: Option<[u8; 4]> = bytes.first_chunk().copied();
    match (kind, four) {
        (Type::Interface, _) => {
            let name = bytes.get(..16).unwrap_or(bytes);
            let name: Vec<u8> = name.iter().copied().take_while(|byte| *byte != 0).collect();
            (String::from_utf8_lossy(&name).into_owned(), 16)
        }
        (Type::Ipv6, _) => {
            let address = bytes.first_chunk::<16>().map(|octets| Ipv6Addr::from(*octets));
            (address.map_or_else(hex, |address| address.to_string()), 16)
        }
        (_, None) => (hex(), 4),
        (Type::Ipv4, Some(octets)) => (Ipv4Addr::from(octets).to_string(), 4),
        (Type::Port, Some([high, low, ..])) => (u16::from_be_bytes([high, low]).to_string(), 4),
        (Type::Protocol, Some([6, ..])) => ("tcp".to_owned(), 4),
        (Type::Protocol, Some([17, ..])) => ("udp".to_owned(), 4),
        (Type::Protocol, Some([number, ..])) => (number.to_string(), 4),
        (Type::Bucket, Some(number)) => (u32::from_ne_bytes(number).to_string(), 4),
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may fail by panicking")]
mod tests {
    use super::*;
    use crate::net::model::{NetworkConfig, Protocol, Publication, State};
    use crate::net::netlink::throwaway;
    use crate::net::nft::{apply, ruleset};

    #[test]
    fn what_the_kernel_has_reads_as_what_was_wanted() {
        throwaway::host(async || {
            let network = NetworkConfig {
                id: "n".to_owned(),
                name: "n".to_owned(),
                bridge: "bbtest0".to_owned(),
                subnets: Vec::new(),
                internal: false,
                ipv6: false,
                masquerade: true,
                mtu: 1500,
            };
            let publication = |host: &str, backends: &[&str]| Publication {
                host_ip: host.parse().unwrap(),
                host_port: 8080,
                protocol: Protocol::Tcp,
                backends: backends.iter().map(|text| text.parse().unwrap()).collect(),
            };
            let state = State {
                networks: [("n".to_owned(), network)].into(),
                endpoints: Vec::new(),
                publications: vec![
                    publication("0.0.0.0", &["10.0.0.2:80"]),
                    publication("127.0.0.1", &["10.0.0.2:80", "10.0.0.3:80"]),
                    publication("fd00::1", &["[fd00::2]:80"]),
                ],
            };
            let wanted = ruleset::ruleset("dump01", &state);
            assert!(present(&wanted).unwrap().is_empty());
            apply::apply(None, &wanted).unwrap();
            let named = elements(&wanted);
            assert!(named.contains("any4 tcp . 8080 : 10.0.0.2 . 80"), "{named:?}");
            assert_eq!(present(&wanted).unwrap(), named);
            let fewer = ruleset::ruleset("dump01", &State::default());
            assert_eq!(present(&fewer).unwrap(), named);
        });
    }
}
