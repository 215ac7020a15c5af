//! Docker's frames, which carry two streams on one connection: kind, three zeros, length, bytes.

/// Bytes of a frame's head.
const HEAD: usize = 8;
/// The kind that is standard error; 0 and 1 are standard input and output.
const STDERR: u8 = 2;

/// Takes frames apart that come in pieces of any size.
#[derive(Debug, Default)]
pub(crate) struct Frames {
    buffer: Vec<u8>,
}

impl Frames {
    /// Returns the frames that `piece` completes: whether it is standard error, and its bytes.
    pub(crate) fn push(&mut self, piece: &[u8]) -> Vec<(bool, Vec<u8>)> {
        self.buffer.extend_from_slice(piece);
        let mut frames = Vec::new();
        let mut at = 0;
        while let Some(head) = self.buffer.get(at..at + HEAD) {
            let length = u32::from_be_bytes([head[4], head[5], head[6], head[7]]) as usize;
            let Some(bytes) = self.buffer.get(at + HEAD..at + HEAD + length) else { break };
            frames.push((head[0] == STDERR, bytes.to_vec()));
            at += HEAD + length;
        }
        self.buffer.drain(..at);
        frames
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_found_however_they_are_cut() {
        let bytes = b"\x01\0\0\0\0\0\0\x03abc\x02\0\0\0\0\0\0\x01x\x01\0\0\0\0\0\0\0";
        for size in 1..bytes.len() {
            let mut frames = Frames::default();
            let found: Vec<_> = bytes.chunks(size).flat_map(|piece| frames.push(piece)).collect();
            let expected = [(false, b"abc".to_vec()), (true, b"x".to_vec()), (false, Vec::new())];
            assert_eq!(found, expected);
        }
    }
}
