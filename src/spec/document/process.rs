//! A service's keys about its program: what runs, as whom, with which environment, how it stops.

use super::service::{EnvFile, Loose};
use super::{Fields, Place, Report};
use crate::spec::container::RestartPolicy;
use crate::spec::keys;
use crate::spec::validate::Context;
use crate::spec::value::{InvalidValue, command, duration};

pub(super) fn read(
    fields: &mut Fields<'_>,
    loose: &mut Loose,
    context: &Context<'_>,
    report: &mut Report,
) {
    let container = &mut loose.service.container;
    container.command = fields.get("command").and_then(|place| words(&place, report));
    container.entrypoint = fields.get("entrypoint").and_then(|place| words(&place, report));
    for (key, slot) in [
        ("working_dir", &mut container.working_dir),
        ("user", &mut container.user),
        ("runtime", &mut container.runtime),
    ] {
        *slot = fields.get(key).and_then(|place| place.string(report));
    }
    for (key, slot) in
        [("hostname", &mut container.hostname), ("domainname", &mut container.domainname)]
    {
        *slot = fields.get(key).and_then(|place| place.parsed(report, host_name));
    }
    for (key, slot) in [
        ("tty", &mut container.tty),
        ("stdin_open", &mut container.open_stdin),
        ("init", &mut container.init),
    ] {
        *slot = fields.get(key).and_then(|place| place.flag(report)).unwrap_or(false);
    }
    if let Some(place) = fields.get("group_add") {
        container.group_add = place.texts(report);
    }
    if let Some(place) = fields.get("stop_signal") {
        container.stop_signal = place.string(report);
    }
    if let Some(place) = fields.get("stop_grace_period")
        && let Some(grace) = place.parsed(report, duration::parse)
    {
        // A part of a second is still time that the program was promised.
        let seconds = grace.as_secs() + u64::from(grace.subsec_nanos() > 0);
        container.stop_timeout = i64::try_from(seconds).ok();
    }
    if let Some(place) = fields.get("restart") {
        container.restart = place.parsed(report, restart).unwrap_or_default();
    }
    if let Some(place) = fields.get("environment") {
        container.env = environment(&place, context, report);
    }
    for (key, labels) in [("env_file", false), ("label_file", true)] {
        if let Some(place) = fields.get(key) {
            loose.env_files.extend(env_files(&place, labels, context, report));
        }
    }
}

/// Reads a command: a string is split as a shell would, a list is taken as it is, either empty clears.
fn words(place: &Place<'_>, report: &mut Report) -> Option<Vec<String>> {
    if place.scalar().is_some() {
        return place.parsed(report, command::split);
    }
    Some(place.texts(report))
}

/// A name without a value is looked up where the stack was brought up; unset, it removes the image's.
fn environment(place: &Place<'_>, context: &Context<'_>, report: &mut Report) -> Vec<String> {
    let mut env = Vec::new();
    for (key, value, place) in place.pairs(report) {
        if key.contains('=') {
            report.push(place.error("invalid-value", format!("{key:?} is not a variable's name")));
            continue;
        }
        env.push(match value.as_ref().or_else(|| context.environment.get(&key)) {
            Some(value) => format!("{key}={value}"),
            None => key,
        });
    }
    env
}

fn env_files(
    place: &Place<'_>,
    labels: bool,
    context: &Context<'_>,
    report: &mut Report,
) -> Vec<EnvFile> {
    let mut files = Vec::new();
    for place in place.one_or_many(report) {
        let (mut required, mut raw) = (true, false);
        let path = if place.is_mapping() {
            let Some(mut fields) = place.fields(&keys::ENV_FILE, report) else { continue };
            let path = fields.get("path").and_then(|place| place.string(report));
            if path.is_none() {
                report.push(place.error("missing-key", "an env file needs a path"));
            }
            if let Some(place) = fields.get("required") {
                required = place.flag(report).unwrap_or(true);
            }
            if let Some(place) = fields.get("format") {
                raw = place.word(report, &["raw"]).is_some();
            }
            fields.finish(report);
            path
        } else {
            place.string(report)
        };
        let Some(path) = path else { continue };
        let Some(path) = context.folders().absolute(&path) else {
            report.push(place.error("invalid-value", "there is no home folder for ~"));
            continue;
        };
        files.push(EnvFile { path, span: place.span(), required, raw, labels });
    }
    files
}

/// The kernel takes 64 bytes of anything (sethostname(2)); files and prompts that show it don't.
fn host_name(text: &str) -> Result<String, InvalidValue> {
    let rule = "it consists of letters, digits, `.`, `_` and `-`, at most 64 characters";
    let valid = (1..=64).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'));
    if valid { Ok(text.to_owned()) } else { Err(InvalidValue::new(text, "host name", rule)) }
}

fn restart(text: &str) -> Result<RestartPolicy, InvalidValue> {
    let rule = "expected no, always, unless-stopped, on-failure or on-failure:N";
    match text {
        "no" | "false" | "" => Ok(RestartPolicy::No),
        "always" => Ok(RestartPolicy::Always),
        "unless-stopped" => Ok(RestartPolicy::UnlessStopped),
        "on-failure" => Ok(RestartPolicy::OnFailure { max: 0 }),
        other => other
            .strip_prefix("on-failure:")
            .and_then(|max| max.parse().ok())
            .map(|max| RestartPolicy::OnFailure { max })
            .ok_or_else(|| InvalidValue::new(text, "restart policy", rule)),
    }
}
