//! Shares of a whole: `0.25`. Held as millionths.

use super::{InvalidValue, decimal};

const WHOLE: u64 = 1_000_000;

/// Returns the millionths that `text` stands for: at most all of them.
pub fn parse(text: &str) -> Result<u32, InvalidValue> {
    let millionths = decimal(text.trim(), WHOLE).filter(|millionths| *millionths <= WHOLE);
    millionths.and_then(|millionths| u32::try_from(millionths).ok()).ok_or_else(|| {
        InvalidValue::new(text, "share", "expected a number from 0 to 1, as in 0.25")
    })
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn a_share_becomes_millionths() {
        assert_eq!(parse("0.1"), Ok(100_000));
        assert_eq!(parse("1"), Ok(1_000_000));
        assert_eq!(parse(".3333333"), Ok(333_333));
        assert!(parse("1.1").is_err() && parse("-0.1").is_err() && parse("10%").is_err());
    }
}
