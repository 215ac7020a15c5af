//! One A query to the first name server of resolv.conf(5). A static glibc's `getaddrinfo` would load the
//! image's libraries, which it does not have.

use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::time::Duration;

const A: [u8; 2] = [0, 1];
const INTERNET: [u8; 2] = [0, 1];
const ID: [u8; 2] = [0xba, 0x46];

/// Returns the addresses of `name`; none when nobody knows it.
pub(super) fn resolve(name: &str) -> io::Result<Vec<Ipv4Addr>> {
    let configuration = fs::read_to_string("/etc/resolv.conf")?;
    let Some(server) = name_server(&configuration) else {
        return Err(io::Error::new(io::ErrorKind::NotFound, "no name server"));
    };
    let query = query(name).ok_or(io::ErrorKind::InvalidInput)?;
    let local: IpAddr = if server.is_ipv4() { [0, 0, 0, 0].into() } else { [0_u16; 8].into() };
    let socket = UdpSocket::bind(SocketAddr::new(local, 0))?;
    socket.set_read_timeout(Some(Duration::from_secs(2)))?;
    socket.connect(SocketAddr::new(server, 53))?;
    socket.send(&query)?;
    let mut answer = [0; 1500];
    let length = socket.recv(&mut answer)?;
    addresses(&answer[..length]).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

fn name_server(configuration: &str) -> Option<IpAddr> {
    configuration
        .lines()
        .filter_map(|line| line.strip_prefix("nameserver"))
        .find_map(|address| address.trim().parse().ok())
}

/// Encodes the question (RFC 1035, 4.1): id, recursion desired, one question.
fn query(name: &str) -> Option<Vec<u8>> {
    let mut query = ID.to_vec();
    query.extend([1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    for label in name.trim_end_matches('.').split('.') {
        let length = u8::try_from(label.len()).ok().filter(|length| (1..64).contains(length))?;
        query.push(length);
        query.extend(label.as_bytes());
    }
    query.push(0);
    query.extend(A);
    query.extend(INTERNET);
    Some(query)
}

fn addresses(message: &[u8]) -> Option<Vec<Ipv4Addr>> {
    if message.get(..2)? != ID {
        return None;
    }
    let count = |at: usize| Some(u16::from_be_bytes([*message.get(at)?, *message.get(at + 1)?]));
    let (questions, answers) = (count(4)?, count(6)?);
    let mut at = 12;
    for _ in 0..questions {
        at = after_name(message, at)? + 4;
    }
    let mut found = Vec::new();
    for _ in 0..answers {
        at = after_name(message, at)?;
        let fixed = message.get(at..at + 10)?;
        let length = usize::from(u16::from_be_bytes([fixed[8], fixed[9]]));
        let data = message.get(at + 10..at + 10 + length)?;
        if fixed[..2] == A
            && let Ok(address) = <[u8; 4]>::try_from(data)
        {
            found.push(address.into());
        }
        at += 10 + length;
    }
    Some(found)
}

fn after_name(message: &[u8], mut at: usize) -> Option<usize> {
    loop {
        match *message.get(at)? {
            0 => return Some(at + 1),
            // A pointer ends a name (RFC 1035, 4.1.4).
            length if length >= 0xc0 => return Some(at + 2),
            length => at += usize::from(length) + 1,
        }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    #[test]
    fn an_answer_with_a_compressed_name_gives_its_address() {
        let mut message = query("db").unwrap();
        message[7] = 1;
        message.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 10, 1, 2, 3]);
        assert_eq!(addresses(&message).unwrap(), [Ipv4Addr::new(10, 1, 2, 3)]);
        assert_eq!(addresses(&message[..message.len() - 1]), None);
    }

    #[test]
    fn a_name_that_is_no_host_name_is_not_asked() {
        assert_eq!(query("a..b"), None);
        assert_eq!(query(&"x".repeat(64)), None);
        assert_eq!(name_server("search x\nnameserver 127.0.0.11\n"), Some([127, 0, 0, 11].into()));
    }
}
