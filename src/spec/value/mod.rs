//! The small notations that scalars of a stack file use: sizes, times, CPU counts, ports, mounts, words.
//! Each has one parser, and a parser's error says what would have been right.

pub mod command;
pub mod cpu;
pub mod duration;
pub mod mount;
pub mod port;
pub mod ratio;
pub mod size;

/// A scalar that its notation does not allow.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a {kind}: {rule}")]
pub struct InvalidValue {
    pub text: String,
    pub kind: &'static str,
    pub rule: &'static str,
}

impl InvalidValue {
    pub(crate) fn new(text: &str, kind: &'static str, rule: &'static str) -> Self {
        Self { text: text.to_owned(), kind, rule }
    }
}

/// Reads `12`, `12.5` or `.5` as a whole number of `1/scale`. `None` for anything else and on overflow.
/// `scale` is how many of the smallest unit make one; digits beyond the smallest unit are cut off.
fn decimal(text: &str, scale: u64) -> Option<u64> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    if (whole.is_empty() && fraction.is_empty())
        || !digits(whole)
        || !digits(fraction)
        || fraction.len() > 18
    {
        return None;
    }
    let scale = u128::from(scale);
    let whole: u128 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    let mut value = whole.checked_mul(scale)?;
    if !fraction.is_empty() {
        let power = 10_u128.pow(u32::try_from(fraction.len()).ok()?);
        value = value.checked_add(fraction.parse::<u128>().ok()?.checked_mul(scale)? / power)?;
    }
    u64::try_from(value).ok()
}
