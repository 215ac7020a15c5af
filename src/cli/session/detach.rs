//! The keys that leave a container alone: `ctrl-p,ctrl-q`, or what `--detach-keys` says.

use crate::cli::error::CliError;

/// Lets typed bytes pass until the keys were typed in a row.
#[derive(Debug)]
pub(crate) struct KeyFilter {
    keys: Vec<u8>,
    /// How many of them were typed and are held back.
    typed: usize,
}

impl Default for KeyFilter {
    fn default() -> Self {
        Self { keys: vec![16, 17], typed: 0 }
    }
}

impl KeyFilter {
    /// Reads keys with commas between them: a character, or `ctrl-` and one of `a-z@[\]^_`. Empty: none.
    pub(crate) fn new(text: &str) -> Result<Self, CliError> {
        let mut keys = Vec::new();
        for word in text.split(',').filter(|_| !text.is_empty()) {
            let key = match (word.strip_prefix("ctrl-").map(str::as_bytes), word.as_bytes()) {
                (Some([letter]), _) if matches!(letter.to_ascii_uppercase(), b'@'..=b'_') => {
                    letter.to_ascii_uppercase() - b'@'
                }
                (None, [character]) => *character,
                _ => {
                    let text =
                        format!("--detach-keys {text}: expected keys as in ctrl-p,ctrl-q or a");
                    return Err(CliError::Usage(text));
                }
            };
            keys.push(key);
        }
        Ok(Self { keys, typed: 0 })
    }

    /// Returns the bytes that go to the process, and whether the keys are complete.
    pub(crate) fn pass(&mut self, bytes: &[u8]) -> (Vec<u8>, bool) {
        let mut kept = Vec::with_capacity(bytes.len());
        for byte in bytes {
            if self.keys.get(self.typed) == Some(byte) {
                self.typed += 1;
                if self.typed == self.keys.len() {
                    return (kept, true);
                }
                continue;
            }
            kept.extend_from_slice(&self.keys[..self.typed]);
            self.typed = 0;
            if self.keys.first() == Some(byte) && self.keys.len() > 1 {
                self.typed = 1;
            } else {
                kept.push(*byte);
            }
        }
        (kept, false)
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    #[test]
    fn the_keys_leave_and_a_part_of_them_is_typed() {
        let mut filter = KeyFilter::default();
        assert_eq!(filter.pass(b"ab"), (b"ab".to_vec(), false));
        assert_eq!(filter.pass(&[16]), (vec![], false));
        assert_eq!(filter.pass(b"x"), (vec![16, b'x'], false));
        assert_eq!(filter.pass(&[16, 16, 17]), (vec![16], true));
    }

    #[test]
    fn keys_have_docker_s_names() {
        assert_eq!(KeyFilter::new("ctrl-a,x").unwrap().keys, [1, b'x']);
        assert_eq!(KeyFilter::new("ctrl-@").unwrap().keys, [0]);
        assert!(KeyFilter::new("").unwrap().pass(&[16, 17]) == (vec![16, 17], false));
        assert!(KeyFilter::new("ctrl-").is_err() && KeyFilter::new("ab").is_err());
    }
}
