//! Text of a container's /etc/hosts, /etc/resolv.conf and /etc/hostname. Pure.
//!
//! Values come from users: one that could open a second line or field is refused.

use std::net::{IpAddr, Ipv4Addr};

/// Where a container's resolver listens.
pub const RESOLVER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 11);

/// A value that would write more than its own field.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{value:?} cannot stand in {file}: it is empty, or holds white space, `#` or a control character"
)]
pub struct InvalidField {
    pub value: String,
    pub file: &'static str,
}

/// Returns /etc/hosts (hosts(5)): loopback, the container's own addresses, then what the user added.
pub fn hosts(
    hostname: &str,
    own: &[IpAddr],
    extra: &[(String, IpAddr)],
) -> Result<String, InvalidField> {
    let mut text = String::from(
        "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\nfe00::\tip6-localnet\n\
         ff00::\tip6-mcastprefix\nff02::1\tip6-allnodes\nff02::2\tip6-allrouters\n",
    );
    let hostname = field(hostname, "/etc/hosts")?;
    // The name without its domain is an alias, as hostname(1) expects.
    let short = hostname.split('.').next().unwrap_or(hostname);
    let names = if short == hostname || short.is_empty() {
        hostname.to_owned()
    } else {
        format!("{hostname} {short}")
    };
    for address in own {
        text.push_str(&format!("{address}\t{names}\n"));
    }
    append(text, extra)
}

/// Adds what the user wants to a hosts file.
pub fn append(mut text: String, extra: &[(String, IpAddr)]) -> Result<String, InvalidField> {
    if !text.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
    for (name, address) in extra {
        text.push_str(&format!("{address}\t{}\n", field(name, "/etc/hosts")?));
    }
    Ok(text)
}

/// Returns /etc/hostname (hostname(5)).
pub fn hostname(name: &str) -> Result<String, InvalidField> {
    Ok(format!("{}\n", field(name, "/etc/hostname")?))
}

/// What resolv.conf says, or what the user wants it to say.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ResolvConf {
    pub nameservers: Vec<IpAddr>,
    pub search: Vec<String>,
    pub options: Vec<String>,
}

impl ResolvConf {
    /// Reads a resolv.conf (resolv.conf(5)): the last `search` or `domain` line counts; scoped and broken addresses
    /// are skipped, as the C library does.
    pub fn parse(text: &str) -> Self {
        let mut conf = Self::default();
        for line in text.lines() {
            let line = line.split(['#', ';']).next().unwrap_or_default();
            let mut words = line.split_whitespace();
            let keyword = words.next();
            let values = words.map(str::to_owned);
            match keyword {
                Some("nameserver") => conf
                    .nameservers
                    .extend(values.take(1).filter_map(|word| word.parse::<IpAddr>().ok())),
                Some("search" | "domain") => conf.search = values.collect(),
                Some("options") => conf.options.extend(values),
                _ => {}
            }
        }
        conf
    }

    /// Returns the file's text.
    pub fn text(&self) -> Result<String, InvalidField> {
        let mut text = String::new();
        for server in &self.nameservers {
            text.push_str(&format!("nameserver {server}\n"));
        }
        for (keyword, values) in [("search", &self.search), ("options", &self.options)] {
            if values.is_empty() {
                continue;
            }
            text.push_str(keyword);
            for value in values {
                text.push(' ');
                text.push_str(field(value, "/etc/resolv.conf")?);
            }
            text.push('\n');
        }
        Ok(text)
    }
}

/// Returns the resolv.conf of a container: our resolver alone, with the host's search list and options.
pub fn container_resolv_conf(host: &ResolvConf) -> ResolvConf {
    ResolvConf {
        nameservers: vec![RESOLVER.into()],
        search: host.search.clone(),
        options: host.options.clone(),
    }
}

fn field<'a>(value: &'a str, file: &'static str) -> Result<&'a str, InvalidField> {
    let breaks_out = |letter: char| letter.is_whitespace() || letter.is_control() || letter == '#';
    if value.is_empty() || value.contains(breaks_out) {
        return Err(InvalidField { value: value.to_owned(), file });
    }
    Ok(value)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may fail by panicking")]
mod tests {
    use super::*;

    #[test]
    fn hosts_names_the_container_and_what_the_user_added() {
        let extra = [("db.example".to_owned(), "10.0.0.9".parse().unwrap())];
        let text = hosts("web.example", &["10.0.0.2".parse().unwrap()], &extra).unwrap();
        assert!(text.ends_with("10.0.0.2\tweb.example web\n10.0.0.9\tdb.example\n"), "{text}");
    }

    #[test]
    fn a_name_that_opens_a_second_line_is_refused() {
        let extra = [("a\n10.0.0.1 bank.example".to_owned(), "10.0.0.9".parse().unwrap())];
        assert!(hosts("web", &[], &extra).is_err());
        assert!(hostname("web\nx").is_err());
        let conf = ResolvConf {
            search: vec!["a\nnameserver 10.0.0.1".to_owned()],
            ..ResolvConf::default()
        };
        assert!(conf.text().is_err());
    }

    #[test]
    fn a_container_asks_our_resolver_and_keeps_the_hosts_search_list() {
        let host = ResolvConf::parse(
            "# made by x\ndomain old\nsearch a.example b.example\nnameserver 10.0.0.53\noptions ndots:2\nnameserver fe80::1%eth0\n",
        );
        assert_eq!(host.nameservers, ["10.0.0.53".parse::<IpAddr>().unwrap()]);
        let text = container_resolv_conf(&host).text().unwrap();
        assert_eq!(text, "nameserver 127.0.0.11\nsearch a.example b.example\noptions ndots:2\n");
    }
}
