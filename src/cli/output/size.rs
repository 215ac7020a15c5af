//! Sizes for people, as docker prints them: `12.3MB` in powers of 1000, `12.3MiB` in powers of 1024.

const DECIMAL: [&str; 9] = ["B", "kB", "MB", "GB", "TB", "PB", "EB", "ZB", "YB"];
const BINARY: [&str; 9] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB", "ZiB", "YiB"];

/// Returns `bytes` with three significant digits.
pub(crate) fn decimal(bytes: u64) -> String {
    scaled(bytes, 1000.0, &DECIMAL, 3)
}

/// Returns `bytes` with four significant digits, as docker's `system df` has them.
pub(crate) fn decimal_of_four(bytes: u64) -> String {
    scaled(bytes, 1000.0, &DECIMAL, 4)
}

/// Returns `bytes` with four significant digits.
pub(crate) fn binary(bytes: u64) -> String {
    scaled(bytes, 1024.0, &BINARY, 4)
}

#[expect(clippy::cast_precision_loss, reason = "a few digits are shown")]
fn scaled(bytes: u64, base: f64, units: &[&str; 9], digits: usize) -> String {
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= base && unit + 1 < units.len() {
        value /= base;
        unit += 1;
    }
    format!("{}{}", significant(value, digits), units[unit])
}

/// As C's `%.Ng`: N significant digits, no trailing zeros; printf(3).
pub(crate) fn significant(value: f64, digits: usize) -> String {
    if value == 0.0 {
        return "0".to_owned();
    }
    let before = 1 + std::iter::successors(Some(value / 10.0), |rest| Some(rest / 10.0))
        .take_while(|rest| *rest >= 1.0)
        .count();
    let places = digits.saturating_sub(before);
    let text = format!("{value:.places$}");
    if text.contains('.') {
        return text.trim_end_matches('0').trim_end_matches('.').to_owned();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_docker_s_digits() {
        for (bytes, expected) in [
            (0, "0B"),
            (999, "999B"),
            (1000, "1kB"),
            (12_345_678, "12.3MB"),
            (1_500_000_000, "1.5GB"),
            (7_377_920, "7.38MB"),
        ] {
            assert_eq!(decimal(bytes), expected);
        }
        assert_eq!(binary(1 << 20), "1MiB");
        assert_eq!(binary(1_234_567_890), "1.15GiB");
        assert_eq!(binary(512), "512B");
    }
}
