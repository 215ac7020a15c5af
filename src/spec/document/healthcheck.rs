//! `healthcheck:` of a service.

use std::time::Duration;

use super::{Place, Report};
use crate::spec::container::Healthcheck;
use crate::spec::keys;
use crate::spec::node::Kind;
use crate::spec::value::duration;

pub(crate) fn healthcheck(place: &Place<'_>, report: &mut Report) -> Option<Healthcheck> {
    let mut fields = place.fields(&keys::HEALTHCHECK, report)?;
    let mut health = Healthcheck::default();
    if let Some(test) = fields.get("test") {
        health.test = self::test(&test, report);
    }
    for (key, slot) in [
        ("interval", &mut health.interval),
        ("timeout", &mut health.timeout),
        ("start_period", &mut health.start_period),
        ("start_interval", &mut health.start_interval),
    ] {
        if let Some(place) = fields.get(key) {
            *slot = place.parsed(report, duration::parse).map_or(0, nanoseconds);
        }
    }
    if let Some(retries) = fields.get("retries") {
        health.retries = retries.integer(report).unwrap_or(0);
    }
    if let Some(disable) = fields.get("disable")
        && disable.flag(report) == Some(true)
    {
        health.test = vec!["NONE".to_owned()];
    }
    fields.finish(report);
    Some(health)
}

/// A string is a shell's line; a list begins with the word that says how to run it.
fn test(place: &Place<'_>, report: &mut Report) -> Vec<String> {
    if let Kind::Scalar(line) = &place.node.kind {
        return vec!["CMD-SHELL".to_owned(), line.text.clone()];
    }
    let words = place.texts(report);
    match words.first().map(String::as_str) {
        Some("NONE" | "CMD" | "CMD-SHELL") | None => {}
        Some(_) => report.push(
            place
                .error("invalid-value", "a healthcheck's list begins with NONE, CMD or CMD-SHELL")
                .with_hint("put \"CMD\" in front of the words"),
        ),
    }
    words
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
