//! Pieces of output to whole lines: writers that interleave within a line must not mix on the screen.

/// Longest line that is kept together, in bytes; a longer one is shown in pieces.
const MAX_LINE: usize = 64 << 10;

/// One line of a container's output, without its newline.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Line {
    /// RFC 3339 with nanoseconds, when it was asked for.
    pub(crate) time: Option<String>,
    pub(crate) text: Vec<u8>,
    pub(crate) from_stderr: bool,
}

/// Joins the pieces of one container's two streams.
#[derive(Debug, Default)]
pub(crate) struct Lines {
    stdout: Vec<u8>,
    stderr: Vec<u8>,
    /// Each line begins with its time and a space.
    timed: bool,
}

impl Lines {
    pub(crate) fn new(timed: bool) -> Self {
        Self { timed, ..Self::default() }
    }

    /// Takes a piece in, and returns the lines that it completes.
    pub(crate) fn push(&mut self, from_stderr: bool, piece: &[u8]) -> Vec<Line> {
        let timed = self.timed;
        let buffer = if from_stderr { &mut self.stderr } else { &mut self.stdout };
        buffer.extend_from_slice(piece);
        let mut lines = Vec::new();
        let mut start = 0;
        while let Some(end) = buffer[start..].iter().position(|byte| *byte == b'\n') {
            lines.push(line(&buffer[start..start + end], from_stderr, timed));
            start += end + 1;
        }
        buffer.drain(..start);
        if buffer.len() > MAX_LINE {
            lines.push(line(buffer, from_stderr, timed));
            buffer.clear();
        }
        lines
    }

    /// Returns what was written without a final newline.
    pub(crate) fn finish(&mut self) -> Vec<Line> {
        let mut lines = Vec::new();
        for (buffer, from_stderr) in [(&mut self.stdout, false), (&mut self.stderr, true)] {
            if !buffer.is_empty() {
                lines.push(line(buffer, from_stderr, self.timed));
                buffer.clear();
            }
        }
        lines
    }
}

fn line(bytes: &[u8], from_stderr: bool, timed: bool) -> Line {
    let bytes = bytes.strip_suffix(b"\r").unwrap_or(bytes);
    let (time, text) = if timed { split_time(bytes) } else { (None, bytes) };
    Line { time, text: text.to_vec(), from_stderr }
}

/// Splits `2026-01-02T03:04:05.000000006Z text`; a line without a time is all text.
fn split_time(bytes: &[u8]) -> (Option<String>, &[u8]) {
    let end = bytes.iter().position(|byte| *byte == b' ').unwrap_or(bytes.len());
    let word = String::from_utf8_lossy(&bytes[..end]);
    if word.parse::<jiff::Timestamp>().is_err() {
        return (None, bytes);
    }
    (Some(word.into_owned()), bytes.get(end + 1..).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(lines: &[Line]) -> Vec<String> {
        lines.iter().map(|line| String::from_utf8_lossy(&line.text).into_owned()).collect()
    }

    #[test]
    fn a_line_is_shown_once_it_is_whole_and_streams_do_not_mix() {
        let mut lines = Lines::default();
        assert!(lines.push(false, b"hel").is_empty());
        let errors = lines.push(true, b"oh\nno");
        assert_eq!(texts(&errors), ["oh"]);
        assert!(errors[0].from_stderr);
        assert_eq!(texts(&lines.push(false, b"lo\r\nwor")), ["hello"]);
        assert_eq!(texts(&lines.finish()), ["wor", "no"]);
        assert!(lines.finish().is_empty());
    }

    #[test]
    fn a_line_without_end_is_shown_in_pieces() {
        let mut lines = Lines::default();
        let shown = lines.push(false, &vec![b'x'; MAX_LINE + 1]);
        assert_eq!(shown[0].text.len(), MAX_LINE + 1);
        assert!(lines.finish().is_empty());
    }

    #[test]
    fn the_time_is_split_off_and_a_line_without_one_is_kept() {
        let mut lines = Lines::new(true);
        let shown = lines
            .push(false, b"2026-01-02T03:04:05.000000006Z a b\nplain text\n2026-01-02T03:04:05Z\n");
        assert_eq!(texts(&shown), ["a b", "plain text", ""]);
        assert_eq!(shown[0].time.as_deref(), Some("2026-01-02T03:04:05.000000006Z"));
        assert_eq!(shown[1].time, None);
    }
}
