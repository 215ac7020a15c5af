//! Times as docker writes and reads them.

use jiff::Timestamp;

use crate::api::error::ApiError;

/// What Go writes for "never".
pub const ZERO: &str = "0001-01-01T00:00:00Z";
const SECOND: i64 = 1_000_000_000;

/// Unix time in nanoseconds.
pub fn now() -> i64 {
    i64::try_from(Timestamp::now().as_nanosecond()).unwrap_or(i64::MAX)
}

/// Writes Unix nanoseconds as RFC 3339 with up to nine digits, as Go does; `None` is "never".
pub fn rfc3339(nanoseconds: Option<i64>) -> String {
    nanoseconds
        .and_then(|time| Timestamp::from_nanosecond(time.into()).ok())
        .map_or_else(|| ZERO.to_owned(), |time| time.to_string())
}

/// Reads a time of a query: `seconds[.fraction]` since 1970, RFC 3339, or a Go duration back from `now`.
///
/// # Errors
/// 400: it is none of them.
pub fn parse(key: &str, text: &str, now: i64) -> Result<i64, ApiError> {
    let wrong = || ApiError::invalid(format!("invalid value of {key}: {text:?} is no time"));
    if let Some(time) = unix(text) {
        return Ok(time);
    }
    if let Ok(time) = text.parse::<Timestamp>() {
        return i64::try_from(time.as_nanosecond()).map_err(|_| wrong());
    }
    let back = text.parse::<jiff::SignedDuration>().map_err(|_| wrong())?;
    let back = i64::try_from(back.as_nanos()).map_err(|_| wrong())?;
    Ok(now.saturating_sub(back))
}

/// Reads `seconds[.fraction]`; the fraction has up to nine digits.
fn unix(text: &str) -> Option<i64> {
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, ""));
    if fraction.len() > 9 || !fraction.bytes().all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    let seconds: i64 = seconds.parse().ok()?;
    let nanoseconds: i64 = format!("{fraction:0<9}").parse().ok()?;
    seconds.checked_mul(SECOND)?.checked_add(nanoseconds)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed step fails the test")]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_in_all_forms() {
        let read = |text| parse("since", text, 100 * SECOND).unwrap();
        assert_eq!(read("5"), 5 * SECOND);
        assert_eq!(read("5.25"), 5 * SECOND + 250_000_000);
        assert_eq!(read("1970-01-01T00:00:07Z"), 7 * SECOND);
        assert_eq!(read("1m30s"), 10 * SECOND);
        assert_eq!(parse("since", "soon", 0).unwrap_err().status, 400);
    }

    #[test]
    fn times_are_written_as_go_writes_them() {
        assert_eq!(rfc3339(None), ZERO);
        assert_eq!(rfc3339(Some(1_500_000_000)), "1970-01-01T00:00:01.5Z");
    }
}
