//! Times as Go writes them (`time.ParseDuration`): `1h5m30s20ms`, `1.5s`, `0`.

use std::time::Duration;

use super::{InvalidValue, decimal};

const RULE: &str = "expected numbers with units, as in 1m30s or 500ms";

/// Returns the time that `text` stands for. A number needs a unit, except zero.
pub fn parse(text: &str) -> Result<Duration, InvalidValue> {
    let invalid = || InvalidValue::new(text, "duration", RULE);
    let mut rest = text.trim();
    if rest == "0" {
        return Ok(Duration::ZERO);
    }
    if rest.is_empty() {
        return Err(invalid());
    }
    let mut nanos = 0_u64;
    while !rest.is_empty() {
        let number_end =
            rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(invalid)?;
        let (number, tail) = rest.split_at(number_end);
        let unit_end = tail.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(unit_end);
        let scale: u64 = match unit {
            "ns" => 1,
            "us" | "µs" | "μs" => 1_000,
            "ms" => 1_000_000,
            "s" => 1_000_000_000,
            "m" => 60_000_000_000,
            "h" => 3_600_000_000_000,
            _ => return Err(invalid()),
        };
        nanos =
            decimal(number, scale).and_then(|part| nanos.checked_add(part)).ok_or_else(invalid)?;
        rest = tail;
    }
    Ok(Duration::from_nanos(nanos))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::parse;

    #[test]
    fn parts_add_up() {
        assert_eq!(parse("1h5m30s20ms"), Ok(Duration::from_millis(3_930_020)));
        assert_eq!(parse("1.5s"), Ok(Duration::from_millis(1500)));
        assert_eq!(parse("10us"), Ok(Duration::from_micros(10)));
        assert_eq!(parse("0"), Ok(Duration::ZERO));
    }

    #[test]
    fn a_number_without_a_known_unit_is_refused() {
        for text in ["10", "", "s", "1d", "-1s", "1s2", "9999999999h"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
