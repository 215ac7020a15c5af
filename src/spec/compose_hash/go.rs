//! Values as Go's `encoding/json`, `time` and `strconv` write them.

use std::time::Duration;

/// Appends `text` as a JSON string. Go escapes what HTML takes for markup, and the two line ends of JavaScript.
pub(super) fn string(into: &mut String, text: &str) {
    into.push('"');
    for c in text.chars() {
        match c {
            '"' => into.push_str("\\\""),
            '\\' => into.push_str("\\\\"),
            '\n' => into.push_str("\\n"),
            '\r' => into.push_str("\\r"),
            '\t' => into.push_str("\\t"),
            '\u{8}' => into.push_str("\\b"),
            '\u{c}' => into.push_str("\\f"),
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' | '\0'..='\u{1f}' => {
                into.push_str(&format!("\\u{:04x}", u32::from(c)));
            }
            other => into.push(other),
        }
    }
    into.push('"');
}

/// Returns `text` as a JSON string.
pub(super) fn quoted(text: &str) -> String {
    let mut json = String::with_capacity(text.len() + 2);
    string(&mut json, text);
    json
}

/// Returns a list of strings.
pub(super) fn strings<'t>(texts: impl IntoIterator<Item = &'t str>) -> String {
    let parts: Vec<String> = texts.into_iter().map(quoted).collect();
    format!("[{}]", parts.join(","))
}

/// Returns a duration as `time.Duration.String` does: `1h0m0s`, `1.5s`, `200ms`, `0s`.
pub(super) fn duration(duration: Duration) -> String {
    let nanos = duration.as_nanos();
    if nanos == 0 {
        return "0s".to_owned();
    }
    if nanos < 1_000 {
        return format!("{nanos}ns");
    }
    if nanos < 1_000_000 {
        return format!("{}µs", fraction(nanos, 1_000));
    }
    if nanos < 1_000_000_000 {
        return format!("{}ms", fraction(nanos, 1_000_000));
    }
    let minute = 60_000_000_000;
    let (minutes, seconds) = (nanos / minute, fraction(nanos % minute, 1_000_000_000));
    match (minutes / 60, minutes % 60) {
        (0, 0) => format!("{seconds}s"),
        (0, minutes) => format!("{minutes}m{seconds}s"),
        (hours, minutes) => format!("{hours}h{minutes}m{seconds}s"),
    }
}

/// Returns `value / unit` with as many decimals as it takes; `unit` is a power of ten.
fn fraction(value: u128, unit: u128) -> String {
    let (whole, rest) = (value / unit, value % unit);
    if rest == 0 {
        return whole.to_string();
    }
    let digits = unit.to_string().len() - 1;
    format!("{whole}.{}", format!("{rest:0digits$}").trim_end_matches('0'))
}

/// Returns a `float32`. Go and Rust both write the shortest text that reads back to the same number.
pub(super) fn float(value: f32) -> Option<String> {
    // Go changes to an exponent out here, which no file has.
    (value == 0.0 || (1e-6..1e21).contains(&value.abs())).then(|| value.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_written_as_go_does() {
        for (nanos, text) in [
            (0, "0s"),
            (7, "7ns"),
            (1_100, "1.1µs"),
            (2_200_000, "2.2ms"),
            (30_000_000_000, "30s"),
            (90_000_000_000, "1m30s"),
            (1_500_000_000, "1.5s"),
            (3_600_000_000_000, "1h0m0s"),
            (3_930_020_000_000, "1h5m30.02s"),
        ] {
            assert_eq!(duration(Duration::from_nanos(nanos)), text);
        }
    }

    #[test]
    fn strings_are_escaped_as_go_does() {
        assert_eq!(
            quoted("a<b>&\u{2028}\"\\\n\u{1}é"),
            "\"a\\u003cb\\u003e\\u0026\\u2028\\\"\\\\\\n\\u0001é\""
        );
    }
}
