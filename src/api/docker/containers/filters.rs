//! Which containers `ps` and `prune` mean.

use regex::Regex;

use crate::api::error::ApiError;
use crate::api::query::{self, Filters};
use crate::engine::containers::view::View;
use crate::engine::state::containers::Container;
use crate::engine::status;
use crate::spec::container::PortSpec;

const KNOWN: [&str; 15] = [
    "ancestor",
    "before",
    "exited",
    "expose",
    "health",
    "id",
    "is-task",
    "isolation",
    "label",
    "name",
    "network",
    "publish",
    "since",
    "status",
    "volume",
];
const STATES: [&str; 7] =
    ["created", "running", "paused", "restarting", "removing", "exited", "dead"];
const HEALTHS: [&str; 4] = ["starting", "healthy", "unhealthy", "none"];

/// The filters of a list, parsed.
#[derive(Debug)]
pub(super) struct Wanted {
    filters: Filters,
    names: Vec<Regex>,
    /// Ids of images that `ancestor` names.
    pub(super) ancestors: Option<Vec<String>>,
    /// Only older than this one, only newer than that one; Unix nanoseconds.
    pub(super) before: Option<i64>,
    pub(super) since: Option<i64>,
}

impl Wanted {
    /// # Errors
    /// 400: an unknown filter, state, health, number or pattern.
    pub(super) fn new(filters: Filters) -> Result<Self, ApiError> {
        query::check_filters(&filters, &KNOWN)?;
        let known = |key: &str, words: &[&str]| match filters.get(key) {
            Some(values) => match values.iter().find(|value| !words.contains(&value.as_str())) {
                Some(value) => Err(ApiError::invalid(format!("invalid filter '{key}={value}'"))),
                None => Ok(()),
            },
            None => Ok(()),
        };
        known("status", &STATES)?;
        known("health", &HEALTHS)?;
        let names = filters
            .get("name")
            .into_iter()
            .flatten()
            .map(|pattern| {
                Regex::new(pattern).map_err(|error| {
                    ApiError::invalid(format!("invalid filter 'name={pattern}': {error}"))
                })
            })
            .collect::<Result<_, _>>()?;
        for code in filters.get("exited").into_iter().flatten() {
            if code.parse::<i32>().is_err() {
                return Err(ApiError::invalid(format!("invalid filter 'exited={code}'")));
            }
        }
        for key in ["publish", "expose"] {
            let ports = filters.get(key).into_iter().flatten();
            if let Some(wrong) = ports.into_iter().find(|port| !is_port(port)) {
                return Err(ApiError::invalid(format!("invalid filter '{key}={wrong}'")));
            }
        }
        Ok(Self { filters, names, ancestors: None, before: None, since: None })
    }

    pub(super) fn values(&self, key: &str) -> &[String] {
        self.filters.get(key).map_or(&[], Vec::as_slice)
    }

    /// Asking for a state asks for stopped ones too.
    pub(super) fn names_states(&self) -> bool {
        self.filters.contains_key("status")
    }

    /// Tells by the row alone; `wants_view` has the rest.
    pub(super) fn wants_row(&self, row: &Container) -> bool {
        self.any("id", |id| row.id.starts_with(id))
            && (self.names.is_empty() || self.names.iter().any(|name| fits_name(name, &row.name)))
            && self.any("status", |wanted| status::state(row.phase) == wanted)
            && self.any("exited", |code| exited(row, code))
            && self.any("health", |wanted| {
                row.health.as_ref().map_or("none", status::health) == wanted
            })
            && self.any("publish", |port| {
                row.bound_ports.iter().any(|bound| fits_port(port, bound.host.0, bound))
            })
            && self.any("is-task", |value| matches!(value, "false" | "0"))
            && self.any("isolation", |value| matches!(value, "" | "default"))
            && self.before.is_none_or(|before| row.created_at < before)
            && self.since.is_none_or(|since| row.created_at > since)
            && self.ancestors.as_ref().is_none_or(|images| images.contains(&row.image_id))
    }

    pub(super) fn wants_view(&self, view: &View) -> bool {
        let labels = crate::engine::merge::labels(&view.row.spec, &view.facts);
        self.values("label").iter().all(|wanted| has_label(&labels, wanted))
            && self.any("network", |wanted| {
                view.endpoints
                    .iter()
                    .any(|end| end.network == wanted || end.network_id.starts_with(wanted))
                    || crate::api::wire::host_config_out::network_mode(&view.row.spec.network_mode)
                        == wanted
            })
            && self.any("volume", |wanted| {
                view.mounts.iter().any(|mount| {
                    mount.name.as_deref() == Some(wanted)
                        || mount.target == wanted
                        || mount.source == wanted
                })
            })
            && self.any("expose", |wanted| {
                let exposed = view.facts.exposed.iter().chain(&view.row.spec.exposed);
                exposed.map(String::as_str).any(|port| exposes(wanted, port))
            })
    }

    fn any(&self, key: &str, fits: impl Fn(&str) -> bool) -> bool {
        self.filters
            .get(key)
            .is_none_or(|values| values.is_empty() || values.iter().any(|value| fits(value)))
    }
}

/// `key` or `key=value`.
pub(super) fn has_label(labels: &std::collections::BTreeMap<String, String>, wanted: &str) -> bool {
    match wanted.split_once('=') {
        Some((key, value)) => labels.get(key).is_some_and(|known| known == value),
        None => labels.contains_key(wanted),
    }
}

/// A pattern may say the slash that docker's names begin with, or not.
fn fits_name(pattern: &Regex, name: &str) -> bool {
    pattern.is_match(name) || pattern.is_match(&format!("/{name}"))
}

fn exited(row: &Container, code: &str) -> bool {
    let ended = row.exit.as_ref().is_some_and(|exit| exit.code.to_string() == code);
    ended && status::state(row.phase) == "exited"
}

/// `port[-last][/protocol]`.
fn fits_port(wanted: &str, port: u16, bound: &PortSpec) -> bool {
    let protocol = crate::api::wire::host_config_out::protocol_word(bound.protocol);
    exposes(wanted, &format!("{port}/{protocol}"))
}

/// `port[-last][/protocol]`.
fn is_port(text: &str) -> bool {
    let (range, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let (first, last) = range.split_once('-').unwrap_or((range, range));
    let numbers = first.parse::<u16>().is_ok() && last.parse::<u16>().is_ok();
    numbers && matches!(protocol, "tcp" | "udp" | "sctp")
}

fn exposes(wanted: &str, port: &str) -> bool {
    let (range, protocol) = wanted.split_once('/').unwrap_or((wanted, "tcp"));
    let (number, known) = port.split_once('/').unwrap_or((port, "tcp"));
    let (first, last) = range.split_once('-').unwrap_or((range, range));
    let (Ok(first), Ok(last), Ok(number)) = (first.parse::<u16>(), last.parse(), number.parse())
    else {
        return false;
    };
    protocol == known && (first..=last).contains(&number)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed step fails the test")]
mod tests {
    use super::*;

    fn wanted(key: &str, value: &str) -> Result<Wanted, ApiError> {
        Wanted::new(Filters::from([(key.to_owned(), vec![value.to_owned()])]))
    }

    #[test]
    fn what_docker_does_not_know_is_refused() {
        assert_eq!(wanted("colour", "red").unwrap_err().message, "invalid filter 'colour'");
        assert_eq!(
            wanted("status", "asleep").unwrap_err().message,
            "invalid filter 'status=asleep'"
        );
        assert!(wanted("name", "(").is_err() && wanted("exited", "x").is_err());
        assert!(wanted("publish", "x").is_err() && wanted("expose", "80-90/udp").is_ok());
        assert!(wanted("status", "exited").unwrap().names_states());
    }

    #[test]
    fn a_name_matches_with_and_without_its_slash() {
        let fits = |pattern: &str| fits_name(&Regex::new(pattern).unwrap(), "shop-web-1");
        assert!(fits("^/shop-web-1$") && fits("^shop") && fits("web"));
        assert!(!fits("^web"));
    }

    #[test]
    fn ports_fit_in_ranges_of_their_protocol() {
        assert!(exposes("80", "80/tcp") && exposes("8000-9000/udp", "8500/udp"));
        assert!(!exposes("80", "80/udp") && !exposes("x", "80/tcp"));
    }
}
