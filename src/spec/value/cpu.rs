//! Counts of CPUs: `0.5`, `2`. Held as billionths, as the Docker API has them.

use super::{InvalidValue, decimal};

/// Returns the billionths of a CPU that `text` stands for.
pub fn parse(text: &str) -> Result<u64, InvalidValue> {
    decimal(text.trim(), 1_000_000_000).ok_or_else(|| {
        InvalidValue::new(text, "number of CPUs", "expected a number, as in 0.5 or 2")
    })
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn a_count_becomes_billionths_exactly() {
        assert_eq!(parse("0.1"), Ok(100_000_000));
        assert_eq!(parse("2"), Ok(2_000_000_000));
        assert_eq!(parse(".25"), Ok(250_000_000));
        assert!(parse("two").is_err() && parse("-1").is_err() && parse("").is_err());
    }
}
