//! Numbers of bytes as compose writes them: `512m`, `1.5gb`, `64kib`, `100`. Units are powers of 1024.

use super::{InvalidValue, decimal};

const RULE: &str = "expected a number and one of b, k, m, g, t, as in 512m or 1.5gb";

/// Returns the bytes that `text` stands for.
pub fn parse(text: &str) -> Result<u64, InvalidValue> {
    let invalid = || InvalidValue::new(text, "size", RULE);
    let lower = text.trim().to_ascii_lowercase();
    let split = lower.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(lower.len());
    let (number, unit) = lower.split_at(split);
    let scale: u64 = match unit.trim_start() {
        "" | "b" => 1,
        "k" | "kb" | "kib" => 1 << 10,
        "m" | "mb" | "mib" => 1 << 20,
        "g" | "gb" | "gib" => 1 << 30,
        "t" | "tb" | "tib" => 1 << 40,
        "p" | "pb" | "pib" => 1 << 50,
        _ => return Err(invalid()),
    };
    decimal(number, scale).ok_or_else(invalid)
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn units_are_powers_of_1024_in_any_case() {
        for (text, bytes) in [
            ("100", 100),
            ("1b", 1),
            ("2k", 2048),
            ("2KB", 2048),
            ("512m", 512 << 20),
            ("1.5g", 3 << 29),
            ("1 gb", 1 << 30),
            ("1tib", 1 << 40),
        ] {
            assert_eq!(parse(text), Ok(bytes), "{text}");
        }
    }

    #[test]
    fn other_text_is_refused() {
        for text in ["", "m", "-1", "1x", "1mm", "1..5m", "99999999999g", "0x10"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
