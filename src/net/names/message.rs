//! DNS messages: reads a query, writes our own answer (RFC 1035). Pure.
//!
//! A name of ours without an address of the asked kind is NOERROR and empty, never NXDOMAIN: resolvers ask A and
//! AAAA side by side, and an NXDOMAIN for one of them would hide the other.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::records::{Outside, Records};

/// A query with its one question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Query {
    id: [u8; 2],
    /// OPCODE and RD as they came.
    flags: u8,
    pub name: String,
    pub kind: u16,
    class: u16,
    /// The question as it came: the answer repeats its letters, which some resolvers randomise and compare.
    question: Vec<u8>,
}

/// What to do with a query.
#[derive(Debug, PartialEq, Eq)]
pub enum Reply {
    Answer(Vec<u8>),
    /// Not ours: ask the host's resolvers.
    Forward,
}

/// Types of RFC 1035 and RFC 3596.
const A: u16 = 1;
const PTR: u16 = 12;
const AAAA: u16 = 28;
const ANY: u16 = 255;
const CLASS_IN: u16 = 1;
/// Answers change with every scaling, so nobody may keep them for long.
const TTL: u32 = 1;
const HEADER: usize = 12;
/// Without EDNS a UDP answer has 512 bytes at most (RFC 1035, 4.2.1).
pub const UDP_LIMIT: usize = 512;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Code {
    NoError,
    ServerFailure,
    NoSuchName,
}

impl Query {
    /// Reads a query; `None` for anything that deserves no answer.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let header = bytes.get(..HEADER)?;
        let is_response = header[2] & 0x80 != 0;
        let questions = u16::from_be_bytes([header[4], header[5]]);
        if is_response || questions != 1 {
            return None;
        }
        let mut name = String::new();
        let mut at = HEADER;
        loop {
            let length = usize::from(*bytes.get(at)?);
            at += 1;
            if length == 0 {
                break;
            }
            // A pointer (RFC 1035, 4.1.4) has nothing to point at in the first question.
            if length > 63 {
                return None;
            }
            let label = bytes.get(at..at + length)?;
            at += length;
            if !name.is_empty() {
                name.push('.');
            }
            name.push_str(&String::from_utf8_lossy(label));
            if at - HEADER > 255 {
                return None;
            }
        }
        let tail = bytes.get(at..at + 4)?;
        Some(Query {
            id: [header[0], header[1]],
            flags: header[2] & 0x79,
            name,
            kind: u16::from_be_bytes([tail[0], tail[1]]),
            class: u16::from_be_bytes([tail[2], tail[3]]),
            question: bytes[HEADER..at + 4].to_vec(),
        })
    }

    /// Answers from the records, or says that the query is not for us.
    pub fn answer(&self, records: &Records) -> Reply {
        if self.class == CLASS_IN && self.kind == PTR {
            if let Some(name) =
                reverse_address(&self.name).and_then(|address| records.name(address))
            {
                return Reply::Answer(self.write(Code::NoError, &[(PTR, encode_name(name))]));
            }
        } else if let Some(addresses) = records.addresses(&self.name) {
            let wanted = addresses.iter().filter_map(|address| match (address, self.kind) {
                (IpAddr::V4(address), A | ANY) => Some((A, address.octets().to_vec())),
                (IpAddr::V6(address), AAAA | ANY) => Some((AAAA, address.octets().to_vec())),
                _ => None,
            });
            let mut answers: Vec<_> = wanted.collect();
            // Clients take the first: turn the list by the query's id, so that replicas share the load.
            if !answers.is_empty() {
                let turn = usize::from(u16::from_be_bytes(self.id)) % answers.len();
                answers.rotate_left(turn);
            }
            return Reply::Answer(self.write(Code::NoError, &answers));
        }
        match records.outside {
            Outside::Forwarded => Reply::Forward,
            Outside::Refused => Reply::Answer(self.failure(Code::NoSuchName)),
        }
    }

    /// Returns an answer without records.
    pub fn failure(&self, code: Code) -> Vec<u8> {
        self.write(code, &[])
    }

    fn write(&self, code: Code, answers: &[(u16, Vec<u8>)]) -> Vec<u8> {
        let code = match code {
            Code::NoError => 0,
            Code::ServerFailure => 2,
            Code::NoSuchName => 3,
        };
        let count = u16::try_from(answers.len()).unwrap_or(u16::MAX);
        let mut bytes = self.id.to_vec();
        // QR, then RA: other names are resolved too.
        bytes.extend([self.flags | 0x80, 0x80 | code]);
        bytes.extend([0, 1]);
        bytes.extend(count.to_be_bytes());
        bytes.extend([0; 4]);
        bytes.extend(&self.question);
        for (kind, data) in answers.iter().take(usize::from(count)) {
            // 0xc00c points at the question's name.
            bytes.extend([0xc0, 0x0c]);
            bytes.extend(kind.to_be_bytes());
            bytes.extend(CLASS_IN.to_be_bytes());
            bytes.extend(TTL.to_be_bytes());
            bytes.extend(u16::try_from(data.len()).unwrap_or(u16::MAX).to_be_bytes());
            bytes.extend(data);
        }
        bytes
    }
}

/// Cuts an answer that doesn't fit a datagram down to its question and says so (TC): the client asks again by TCP.
pub fn fit_datagram(query: &Query, mut answer: Vec<u8>) -> Vec<u8> {
    if answer.len() > UDP_LIMIT {
        answer.truncate(HEADER + query.question.len());
        answer[2] |= 0x02;
        answer[6..HEADER].fill(0);
    }
    answer
}

/// Reads `4.3.2.1.in-addr.arpa` and its `ip6.arpa` twin (RFC 3596, 2.5).
fn reverse_address(name: &str) -> Option<IpAddr> {
    let name = name.to_ascii_lowercase();
    if let Some(digits) = name.strip_suffix(".in-addr.arpa") {
        let parts: Vec<u8> =
            digits.split('.').rev().map(|part| part.parse().ok()).collect::<Option<_>>()?;
        return Some(Ipv4Addr::from(<[u8; 4]>::try_from(parts).ok()?).into());
    }
    let digits: Vec<&str> = name.strip_suffix(".ip6.arpa")?.split('.').rev().collect();
    if digits.len() != 32 || digits.iter().any(|digit| digit.len() != 1) {
        return None;
    }
    u128::from_str_radix(&digits.concat(), 16).ok().map(|bits| Ipv6Addr::from(bits).into())
}

/// Writes a name as labels. Labels that are too long for DNS are cut: they come from our own names.
fn encode_name(name: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    for label in name.split('.').filter(|label| !label.is_empty()) {
        let label = &label.as_bytes()[..label.len().min(63)];
        bytes.push(u8::try_from(label.len()).unwrap_or(63));
        bytes.extend(label);
    }
    bytes.push(0);
    bytes
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may fail by panicking")]
pub(crate) mod tests {
    use super::super::records::tests::state;
    use super::*;

    pub(crate) fn query(name: &str, kind: u16) -> Vec<u8> {
        let mut bytes = vec![0, 0, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        bytes.extend(encode_name(name));
        bytes.extend(kind.to_be_bytes());
        bytes.extend([0, 1]);
        bytes
    }

    fn ask(container: &str, name: &str, kind: u16) -> Reply {
        Query::parse(&query(name, kind))
            .unwrap()
            .answer(&super::super::records::Views::new(&state()).of(container))
    }

    fn answered(reply: Reply) -> (u8, u8, Vec<u8>) {
        let Reply::Answer(bytes) = reply else { panic!("forwarded") };
        (bytes[3] & 15, bytes[7], bytes)
    }

    #[test]
    fn both_replicas_answer_for_their_service() {
        let (code, count, bytes) = answered(ask("a", "web", A));
        assert_eq!((code, count), (0, 2));
        assert_eq!(bytes[bytes.len() - 4..], [10, 0, 0, 3]);
    }

    #[test]
    fn a_known_name_without_ipv6_is_empty_and_not_missing() {
        assert!(matches!(answered(ask("a", "web", AAAA)), (0, 0, _)));
    }

    #[test]
    fn an_unknown_name_is_forwarded_except_on_internal_networks() {
        assert_eq!(ask("a", "example.org", A), Reply::Forward);
        assert!(matches!(answered(ask("c", "example.org", A)), (3, 0, _)));
    }

    #[test]
    fn an_address_turns_back_into_a_name() {
        let (code, count, bytes) = answered(ask("a", "3.0.0.10.in-addr.arpa", PTR));
        assert_eq!((code, count), (0, 1));
        assert!(bytes.ends_with(b"\x01b\x0ashop_front\0"));
    }

    #[test]
    fn broken_queries_get_no_answer() {
        let whole = query("web", A);
        for cut in 0..whole.len() {
            assert_eq!(Query::parse(&whole[..cut]), None);
        }
        let mut response = whole.clone();
        response[2] |= 0x80;
        assert_eq!(Query::parse(&response), None);
        let mut pointer = whole;
        pointer[HEADER] = 0xc0;
        assert_eq!(Query::parse(&pointer), None);
    }

    #[test]
    fn an_answer_beyond_a_datagram_says_so() {
        let query = Query::parse(&query("web", A)).unwrap();
        let cut =
            fit_datagram(&query, query.write(Code::NoError, &vec![(A, vec![1, 2, 3, 4]); 60]));
        assert!(cut.len() < UDP_LIMIT);
        assert_eq!((cut[2] & 2, cut[7]), (2, 0));
    }
}
