//! Docker's json-file log: one JSON object a line, cut at 16 KiB, rotated by size.
//!
//! A piece that was cut ends without `\n` inside `log`; the last piece of a line has it, unless the stream ended first. The bytes equal
//! those of moby's `daemon/logger/jsonfilelog/jsonlog`.

use std::fmt::Write as _;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use jiff::Timestamp;

use super::stdio::Stream;

/// moby's `daemon/logger/copier.go`, `defaultBufSize`.
const LONGEST: usize = 16 * 1024;

/// An open log and the unfinished line of each stream.
#[derive(Debug)]
pub(crate) struct JsonLog {
    path: PathBuf,
    file: File,
    size: u64,
    max_size: u64,
    max_files: u32,
    unfinished: [Vec<u8>; 2],
}

impl JsonLog {
    pub(crate) fn open(path: &Path, max_size: u64, max_files: u32) -> io::Result<Self> {
        let file = OpenOptions::new().create(true).append(true).open(path)?;
        let size = file.metadata()?.len();
        Ok(Self {
            path: path.to_owned(),
            file,
            size,
            max_size,
            max_files,
            unfinished: Default::default(),
        })
    }

    /// Logs all whole lines; keeps the rest until more comes or [`Self::finish`].
    pub(crate) fn write(&mut self, stream: Stream, bytes: &[u8], now: Timestamp) -> io::Result<()> {
        let mut pending = std::mem::take(&mut self.unfinished[stream.index()]);
        pending.extend_from_slice(bytes);
        let mut rest = pending.as_slice();
        let mut entries = String::new();
        loop {
            let reach = rest.len().min(LONGEST);
            match rest[..reach].iter().position(|byte| *byte == b'\n') {
                Some(newline) => {
                    encode(&mut entries, stream, &rest[..=newline], now);
                    rest = &rest[newline + 1..];
                }
                None if reach == LONGEST => {
                    encode(&mut entries, stream, &rest[..LONGEST], now);
                    rest = &rest[LONGEST..];
                }
                None => break,
            }
        }
        self.unfinished[stream.index()] = rest.to_vec();
        self.append(&entries)
    }

    /// Logs what has no newline yet, without one, as docker does at the end of a stream.
    pub(crate) fn finish(&mut self, now: Timestamp) -> io::Result<()> {
        let mut entries = String::new();
        for stream in [Stream::Stdout, Stream::Stderr] {
            let line = std::mem::take(&mut self.unfinished[stream.index()]);
            if !line.is_empty() {
                encode(&mut entries, stream, &line, now);
            }
        }
        self.append(&entries)
    }

    fn append(&mut self, entries: &str) -> io::Result<()> {
        for entry in entries.split_inclusive('\n') {
            if self.max_size > 0 && self.size >= self.max_size {
                self.rotate()?;
            }
            self.file.write_all(entry.as_bytes())?;
            self.size += entry.len() as u64;
        }
        Ok(())
    }

    /// Shifts `path.N` up, the oldest falling off; with one file only, starts it anew.
    fn rotate(&mut self) -> io::Result<()> {
        let numbered = |number: u32| {
            let mut name = self.path.clone().into_os_string();
            name.push(format!(".{number}"));
            PathBuf::from(name)
        };
        for number in (1..self.max_files.saturating_sub(1)).rev() {
            match fs::rename(numbered(number), numbered(number + 1)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        if self.max_files > 1 {
            fs::rename(&self.path, numbered(1))?;
            self.file = OpenOptions::new().create(true).append(true).open(&self.path)?;
        } else {
            self.file.set_len(0)?;
        }
        self.size = 0;
        Ok(())
    }
}

fn encode(out: &mut String, stream: Stream, line: &[u8], now: Timestamp) {
    out.push_str("{\"log\":\"");
    for chunk in line.utf8_chunks() {
        chunk.valid().chars().for_each(|character| escape(out, character));
        if !chunk.invalid().is_empty() {
            // moby replaces each wrong byte, not each wrong sequence.
            chunk.invalid().iter().for_each(|_| out.push_str("\\ufffd"));
        }
    }
    // Writing to a string cannot fail.
    let _ = writeln!(out, "\",\"stream\":\"{}\",\"time\":\"{now}\"}}", stream.name());
}

/// Go's encoder also hides what HTML or JavaScript could read.
fn escape(out: &mut String, character: char) {
    match character {
        '"' => out.push_str("\\\""),
        '\\' => out.push_str("\\\\"),
        '\n' => out.push_str("\\n"),
        '\r' => out.push_str("\\r"),
        '\0'..='\u{1f}' | '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => {
            let _ = write!(out, "\\u{:04x}", u32::from(character));
        }
        _ => out.push(character),
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn logged(pieces: &[&[u8]]) -> String {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let mut log = JsonLog::open(&path, 0, 1).unwrap();
        let now = at("2026-01-02T03:04:05.120Z");
        for piece in pieces {
            log.write(Stream::Stdout, piece, now).unwrap();
        }
        log.finish(now).unwrap();
        fs::read_to_string(path).unwrap()
    }

    #[test]
    fn a_line_is_written_as_docker_writes_it() {
        assert_eq!(
            logged(&[b"a <b>\t\"\xff", b"\n"]),
            "{\"log\":\"a \\u003cb\\u003e\\u0009\\\"\\ufffd\\n\",\"stream\":\"stdout\",\"time\":\"2026-01-02T03:04:05.12Z\"}\n"
        );
    }

    #[test]
    fn a_long_line_is_cut_and_only_its_last_piece_ends_it() {
        let text = logged(&[&[b'x'; LONGEST + 3], b"\nend"]);
        let lines: Vec<serde_json::Value> =
            text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let lines: Vec<&str> = lines.iter().map(|line| line["log"].as_str().unwrap()).collect();
        assert_eq!(lines[0].len(), LONGEST);
        assert_eq!(lines[1..], ["xxx\n", "end"]);
    }

    #[test]
    fn rotation_keeps_as_many_files_as_wanted() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let mut log = JsonLog::open(&path, 10, 3).unwrap();
        for line in [b"1\n", b"2\n", b"3\n", b"4\n"] {
            log.write(Stream::Stderr, line, at("2026-01-02T03:04:05Z")).unwrap();
        }
        let mut names: Vec<_> =
            fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names, ["log", "log.1", "log.2"]);
        assert!(fs::read_to_string(folder.path().join("log.2")).unwrap().contains("\"2\\n\""));
    }
}
