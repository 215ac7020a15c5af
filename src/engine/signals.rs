//! Signals by the names and numbers that users write. Pure.

use nix::sys::signal::Signal;

/// The first real-time signal that programs may use: glibc keeps two for itself, signal(7).
const FIRST_REAL_TIME: i32 = 34;
const LAST: i32 = 64;

/// Returns the number of `SIGTERM`, `term`, `15`, `RTMIN+3` or `RTMAX-1`.
pub fn parse(word: &str) -> Option<i32> {
    if let Ok(number) = word.parse::<i32>() {
        return (1..=LAST).contains(&number).then_some(number);
    }
    let upper = word.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    let offset = |text: &str, sign: char| match text.strip_prefix(sign) {
        Some(digits) => digits.parse::<i32>().ok().filter(|offset| (0..=30).contains(offset)),
        None => text.is_empty().then_some(0),
    };
    if let Some(rest) = name.strip_prefix("RTMIN") {
        return Some(FIRST_REAL_TIME + offset(rest, '+')?);
    }
    if let Some(rest) = name.strip_prefix("RTMAX") {
        return Some(LAST - offset(rest, '-')?);
    }
    let known = match name {
        "CLD" => "CHLD",
        "POLL" => "IO",
        "IOT" => "ABRT",
        name => name,
    };
    format!("SIG{known}").parse::<Signal>().ok().map(|signal| signal as i32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_numbers_and_real_time_signals_are_understood_and_nothing_else() {
        for (word, number) in [
            ("SIGTERM", 15),
            ("term", 15),
            ("9", 9),
            ("SIGRTMIN+3", 37),
            ("RTMAX-1", 63),
            ("sigcld", libc::SIGCHLD),
        ] {
            assert_eq!(parse(word), Some(number), "{word}");
        }
        for word in ["", "0", "65", "SIG", "NOPE", "RTMIN-1", "RTMIN+31", "-9"] {
            assert_eq!(parse(word), None, "{word}");
        }
    }
}
