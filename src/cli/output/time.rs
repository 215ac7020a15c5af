//! Times for people (`3 minutes ago`), and the times that people give.

use jiff::Timestamp;

use crate::cli::error::CliError;
use crate::spec::value::duration;

/// Returns a length of time in the largest unit that fits it, as docker words it.
pub(crate) fn human(seconds: i64) -> String {
    let (minutes, hours) = (seconds / 60, (seconds + 1800) / 3600);
    match seconds {
        ..1 => "Less than a second".to_owned(),
        1 => "1 second".to_owned(),
        2..60 => format!("{seconds} seconds"),
        60..120 => "About a minute".to_owned(),
        120..3600 => format!("{minutes} minutes"),
        _ if hours == 1 => "About an hour".to_owned(),
        _ if hours < 48 => format!("{hours} hours"),
        _ if hours < 24 * 7 * 2 => format!("{} days", hours / 24),
        _ if hours < 24 * 30 * 2 => format!("{} weeks", hours / 24 / 7),
        _ if hours < 24 * 365 * 2 => format!("{} months", hours / 24 / 30),
        _ => format!("{} years", hours / 24 / 365),
    }
}

/// Returns how long ago `then` was.
pub(crate) fn ago(then: Timestamp, now: Timestamp) -> String {
    format!("{} ago", human(now.as_second() - then.as_second()))
}

/// Returns `2026-01-02 15:04:05 +0000 UTC`, as Go prints a time.
pub(crate) fn go(time: Timestamp) -> String {
    time.strftime("%Y-%m-%d %H:%M:%S +0000 UTC").to_string()
}

/// Reads a time as `--since` takes it: RFC 3339 (parts of it may be left out), seconds since 1970, or a
/// while ago (`42m`). Returns seconds with their fraction, as the engine takes them.
///
/// # Errors
/// It is none of these.
pub(crate) fn moment(text: &str) -> Result<String, CliError> {
    moment_at(text, Timestamp::now(), &jiff::tz::TimeZone::system())
}

fn moment_at(text: &str, now: Timestamp, zone: &jiff::tz::TimeZone) -> Result<String, CliError> {
    let number = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, "0"));
    if number(seconds) && number(fraction) {
        return Ok(text.to_owned());
    }
    if let Ok(length) = duration::parse(text) {
        let then = jiff::SignedDuration::try_from(length)
            .ok()
            .and_then(|length| now.checked_sub(length).ok())
            .ok_or_else(|| wrong(text))?;
        return Ok(seconds_of(then));
    }
    if let Ok(time) = text.parse::<Timestamp>() {
        return Ok(seconds_of(time));
    }
    // Without a zone it is ours.
    let full = match text.len() {
        10 => format!("{text}T00:00:00"),
        13 => format!("{text}:00:00"),
        16 => format!("{text}:00"),
        _ => text.to_owned(),
    };
    let local: jiff::civil::DateTime = full.parse().map_err(|_| wrong(text))?;
    let time = zone.to_timestamp(local).map_err(|_| wrong(text))?;
    Ok(seconds_of(time))
}

fn seconds_of(time: Timestamp) -> String {
    format!("{}.{:09}", time.as_second(), time.subsec_nanosecond())
}

fn wrong(text: &str) -> CliError {
    CliError::Usage(format!(
        "invalid time {text}: expected 2026-01-02T15:04:05Z, seconds since 1970, or a while ago as in 42m"
    ))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_worded_as_docker_words_them() {
        for (seconds, expected) in [
            (0, "Less than a second"),
            (1, "1 second"),
            (59, "59 seconds"),
            (60, "About a minute"),
            (180, "3 minutes"),
            (3600, "About an hour"),
            (7200, "2 hours"),
            (3 * 86400, "3 days"),
            (21 * 86400, "3 weeks"),
            (90 * 86400, "3 months"),
            (800 * 86400, "2 years"),
        ] {
            assert_eq!(human(seconds), expected, "{seconds}");
        }
    }

    #[test]
    fn a_time_may_be_given_in_three_ways() {
        let now: Timestamp = "2026-01-02T12:00:00Z".parse().unwrap();
        let utc = jiff::tz::TimeZone::UTC;
        let read = |text| moment_at(text, now, &utc).unwrap();
        assert_eq!(read("1700000000"), "1700000000");
        assert_eq!(read("10m"), format!("{}.000000000", now.as_second() - 600));
        assert_eq!(read("2026-01-02T11:00:00Z"), format!("{}.000000000", now.as_second() - 3600));
        assert_eq!(read("2026-01-02"), format!("{}.000000000", now.as_second() - 12 * 3600));
        assert_eq!(read("2026-01-02T11:00"), read("2026-01-02T11:00:00Z"));
        assert!(moment_at("yesterday", now, &utc).is_err());
    }
}
