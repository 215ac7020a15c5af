//! Docker's frames: `[stream, 0, 0, 0, length as u32 big-endian]`, then the bytes.

use crate::cli::error::CliError;

/// The largest frame that is believed, in bytes.
const MAX_FRAME: usize = 64 << 20;
const HEADER: usize = 8;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stream {
    Output,
    Error,
}

/// Puts frames together that arrive in pieces.
#[derive(Debug, Default)]
pub(crate) struct Frames {
    buffer: Vec<u8>,
}

impl Frames {
    /// Takes the next piece; returns what is whole.
    ///
    /// # Errors
    /// The bytes are no frames, or a frame is the engine's own error.
    pub(crate) fn feed(&mut self, piece: &[u8]) -> Result<Vec<(Stream, Vec<u8>)>, CliError> {
        self.buffer.extend_from_slice(piece);
        let mut whole = Vec::new();
        let mut at = 0;
        while let Some(header) = self.buffer.get(at..at + HEADER) {
            let length = u32::from_be_bytes([header[4], header[5], header[6], header[7]]);
            let length = usize::try_from(length).unwrap_or(usize::MAX);
            if header[0] > 3 || header[1..4] != [0, 0, 0] || length > MAX_FRAME {
                return Err(CliError::Failed(
                    "the engine's stream of output makes no sense".to_owned(),
                ));
            }
            let kind = header[0];
            let start = at + HEADER;
            let Some(bytes) = self.buffer.get(start..start + length) else { break };
            match kind {
                3 => return Err(CliError::Failed(String::from_utf8_lossy(bytes).into_owned())),
                2 => whole.push((Stream::Error, bytes.to_vec())),
                _ => whole.push((Stream::Output, bytes.to_vec())),
            }
            at = start + length;
        }
        self.buffer.drain(..at);
        Ok(whole)
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    #[test]
    fn frames_are_whole_however_they_are_cut() {
        let bytes =
            [&[1, 0, 0, 0, 0, 0, 0, 2][..], b"ab", &[2, 0, 0, 0, 0, 0, 0, 1], b"c"].concat();
        let expected = [(Stream::Output, b"ab".to_vec()), (Stream::Error, b"c".to_vec())];
        for cut in 0..bytes.len() {
            let mut frames = Frames::default();
            let mut got = frames.feed(&bytes[..cut]).unwrap();
            got.extend(frames.feed(&bytes[cut..]).unwrap());
            assert_eq!(got, expected, "cut at {cut}");
        }
    }

    #[test]
    fn other_bytes_and_errors_of_the_engine_are_errors() {
        assert!(Frames::default().feed(b"plain text").is_err());
        let error = [&[3, 0, 0, 0, 0, 0, 0, 3][..], b"bad"].concat();
        assert_eq!(Frames::default().feed(&error).unwrap_err().to_string(), "bad");
    }
}
