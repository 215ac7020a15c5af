//! The keys that leave a terminal: `ctrl-p,ctrl-q`, or those that a client names. Pure.

use super::error::ApiError;

/// ctrl-p, ctrl-q.
pub(super) const DEFAULT: [u8; 2] = [16, 17];

/// Reads `ctrl-x,y,…`: single characters, or ctrl- with one of `a-z@[\]^_`.
///
/// # Errors
/// 400: another word.
pub(super) fn parse(text: &str) -> Result<Vec<u8>, ApiError> {
    text.split(',')
        .map(|word| {
            key(word)
                .ok_or_else(|| ApiError::invalid(format!("Invalid detach keys ({text}) provided")))
        })
        .collect()
}

fn key(word: &str) -> Option<u8> {
    match word.strip_prefix("ctrl-").map(str::as_bytes) {
        // ASCII: control characters are their letters without the upper bits.
        Some([letter @ (b'a'..=b'z' | b'@' | b'['..=b'_')]) => Some(letter & 0x1f),
        Some(_) => None,
        None => match word.as_bytes() {
            [byte] => Some(*byte),
            _ => None,
        },
    }
}

/// Finds the keys in a stream. What may be their beginning is held back until it is clear.
#[derive(Debug)]
pub(super) struct Scanner {
    keys: Vec<u8>,
    /// So many of the keys were typed.
    typed: usize,
}

/// What a piece of input is.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Scanned {
    pub(super) pass: Vec<u8>,
    pub(super) detached: bool,
}

impl Scanner {
    /// Without keys everything passes.
    pub(super) fn new(keys: Vec<u8>) -> Self {
        Self { keys, typed: 0 }
    }

    pub(super) fn scan(&mut self, bytes: &[u8]) -> Scanned {
        let mut pass = Vec::with_capacity(bytes.len() + self.typed);
        for byte in bytes {
            if self.keys.get(self.typed) == Some(byte) {
                self.typed += 1;
                if self.typed == self.keys.len() {
                    return Scanned { pass, detached: true };
                }
                continue;
            }
            pass.extend(self.rest());
            if self.keys.first() == Some(byte) {
                self.typed = 1;
            } else {
                pass.push(*byte);
            }
        }
        Scanned { pass, detached: false }
    }

    /// Returns what was held back, as the keys were not completed.
    pub(super) fn rest(&mut self) -> Vec<u8> {
        let held = self.keys[..self.typed].to_vec();
        self.typed = 0;
        held
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed step fails the test")]
mod tests {
    use super::*;

    #[test]
    fn keys_are_read_as_docker_writes_them() {
        assert_eq!(parse("ctrl-p,ctrl-q").unwrap(), DEFAULT);
        assert_eq!(parse("a,ctrl-[,ctrl-@").unwrap(), [b'a', 27, 0]);
        assert!(parse("ctrl-").is_err() && parse("ab").is_err() && parse("ctrl-P").is_err());
    }

    #[test]
    fn the_keys_detach_also_when_they_come_apart_and_everything_else_passes() {
        let mut scanner = Scanner::new(DEFAULT.to_vec());
        let passed = |bytes: &[u8]| Scanned { pass: bytes.to_vec(), detached: false };
        assert_eq!(scanner.scan(b"ab\x10"), passed(b"ab"));
        assert_eq!(scanner.scan(b"c"), passed(b"\x10c"));
        assert_eq!(scanner.scan(b"\x10\x10"), passed(b"\x10"));
        assert_eq!(scanner.scan(b"\x11rest"), Scanned { pass: vec![], detached: true });
        let mut none = Scanner::new(Vec::new());
        assert_eq!(none.scan(b"\x10\x11"), passed(b"\x10\x11"));
    }
}
