//! Reading docker's json-file logs: `path`, and the rotated `path.1`, `path.2` … (older ones perhaps `.gz`).
//!
//! A [`Reader`] yields what is there, oldest first. When it has returned `None`, a follower waits for
//! [`Watch`] to become readable and asks again: the reader goes on where it stopped, across rotations.
//! Half-written lines wait for their end; damaged ones are skipped.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use flate2::bufread::GzDecoder;
use jiff::Timestamp;
use nix::errno::Errno;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use serde::Deserialize;

use crate::engine::error::EngineError;

/// Longest line of a log file that is read; the shim cuts a program's lines at 16 KiB.
const MAX_LINE: u64 = 1 << 20;

/// One line of output, its newline included when it had one.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Entry {
    pub log: String,
    pub stream: Stream,
    pub time: Timestamp,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stream {
    Stdout,
    Stderr,
}

impl Entry {
    /// Returns the text with docker's `--timestamps` prefix: nine digits of a second, UTC.
    pub fn with_timestamp(&self) -> String {
        format!("{:.9} {}", self.time, self.log)
    }
}

/// Which lines are wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Query {
    pub stdout: bool,
    pub stderr: bool,
    /// The last so many of those that match; `None` is all.
    pub tail: Option<usize>,
    pub since: Option<Timestamp>,
    pub until: Option<Timestamp>,
}

impl Query {
    fn wants(&self, entry: &Entry) -> bool {
        let stream = match entry.stream {
            Stream::Stdout => self.stdout,
            Stream::Stderr => self.stderr,
        };
        stream
            && self.since.is_none_or(|since| entry.time >= since)
            && self.until.is_none_or(|until| entry.time <= until)
    }
}

#[derive(Debug, thiserror::Error)]
pub enum LogError {
    #[error("cannot read the log {}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("cannot watch the folder {}", folder.display())]
    Watch { folder: PathBuf, source: Errno },
    #[error("cannot read the log in the background")]
    Background(#[source] Box<EngineError>),
}

/// A place in a container's log, moving forward.
#[derive(Debug)]
pub struct Reader {
    path: PathBuf,
    query: Query,
    /// Files still to read, oldest first; opened, so that a rotation can't swap them.
    files: VecDeque<Source>,
    scope: Scope,
}

/// Which lines a [`Reader`] comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// Those that were written when it was opened, however fast more come.
    Written,
    /// Later ones too.
    Following,
}

impl Reader {
    /// Opens the log at `path`, at the first line that the query wants. A missing log is an empty one.
    pub fn open(path: &Path, query: Query, scope: Scope) -> Result<Self, LogError> {
        let mut reader = Self { path: path.to_owned(), query, files: VecDeque::new(), scope };
        let mut found = open_all(path)?;
        if scope == Scope::Written {
            found.iter_mut().try_for_each(Source::end_here)?;
        }
        match reader.query.tail {
            None => reader.files = found.into(),
            Some(count) => reader.seek_tail(found, count)?,
        }
        Ok(reader)
    }

    /// Returns the next wanted line, or `None` at the end of what is written so far.
    pub fn next_entry(&mut self) -> Result<Option<Entry>, LogError> {
        loop {
            let Some(source) = self.files.front_mut() else {
                if self.scope == Scope::Written {
                    return Ok(None);
                }
                match Source::open(self.path.clone())? {
                    Some(source) => self.files.push_back(source),
                    None => return Ok(None),
                }
                continue;
            };
            match source.next_entry()? {
                Some(entry) if self.query.wants(&entry) => return Ok(Some(entry)),
                Some(_) => {}
                None if self.files.len() > 1 => drop(self.files.pop_front()),
                None => {
                    if self.scope == Scope::Written || !self.rotated()? {
                        return Ok(None);
                    }
                }
            }
        }
    }

    /// Queues the files that were started after the one we are at the end of, and tells whether there are any.
    fn rotated(&mut self) -> Result<bool, LogError> {
        let Some(current) = self.files.front().map(|source| source.inode) else { return Ok(false) };
        let all = open_all(&self.path)?;
        let newest = all.last().map(|source| source.inode);
        if newest.is_none() || newest == Some(current) {
            return Ok(false);
        }
        // When even our own file has been rotated away, all that is left is newer.
        let newer =
            all.iter().position(|source| source.inode == current).map_or(0, |place| place + 1);
        self.files.extend(all.into_iter().skip(newer));
        Ok(true)
    }

    /// Looks from the newest file backwards, remembering where the last `count` wanted lines begin.
    fn seek_tail(&mut self, found: Vec<Source>, count: usize) -> Result<(), LogError> {
        let mut missing = count;
        for mut source in found.into_iter().rev() {
            let newest = self.files.is_empty();
            if missing == 0 && !newest {
                break;
            }
            let mut starts = VecDeque::new();
            loop {
                let start = source.position;
                let Some(entry) = source.next_entry()? else { break };
                if self.query.wants(&entry) && missing > 0 {
                    if starts.len() == missing {
                        starts.pop_front();
                    }
                    starts.push_back(start);
                }
            }
            missing -= starts.len();
            if self.scope == Scope::Written {
                // A line whose end came meanwhile was not counted.
                source.end = Some(source.position);
            }
            // The newest file stays even without a match: a follower goes on at its end.
            let start = starts.front().copied().unwrap_or(source.position);
            source.rewind_to(start)?;
            self.files.push_front(source);
        }
        Ok(())
    }
}

/// Opens what exists, oldest first.
fn open_all(path: &Path) -> Result<Vec<Source>, LogError> {
    let mut found: Vec<Source> = Source::open(path.to_owned())?.into_iter().collect();
    for number in 1_u32.. {
        let mut name = path.as_os_str().to_owned();
        name.push(format!(".{number}"));
        let mut compressed = name.clone();
        compressed.push(".gz");
        let older = match Source::open(name.into())? {
            Some(source) => Some(source),
            None => Source::open(compressed.into())?,
        };
        match older {
            // A rotation between two opens shows one file twice.
            Some(source) if found.iter().any(|known| known.inode == source.inode) => {}
            Some(source) => found.push(source),
            None => break,
        }
    }
    found.reverse();
    Ok(found)
}

/// One open file of the log.
struct Source {
    path: PathBuf,
    inode: u64,
    lines: Box<dyn BufRead + Send>,
    /// Bytes of whole lines that were read, of the text and not of its compressed form.
    position: u64,
    /// The beginning of a line whose end is not written yet.
    partial: Vec<u8>,
    /// Lines that begin here or later are not read.
    end: Option<u64>,
    file: File,
    compressed: bool,
}

impl std::fmt::Debug for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Source")
            .field("path", &self.path)
            .field("position", &self.position)
            .finish_non_exhaustive()
    }
}

impl Source {
    fn open(path: PathBuf) -> Result<Option<Self>, LogError> {
        let failed = |source| LogError::Read { path: path.clone(), source };
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed(error)),
        };
        let inode = file.metadata().map_err(failed)?.ino();
        let compressed = path.extension().is_some_and(|extension| extension == "gz");
        let lines = Self::lines(&file, compressed).map_err(failed)?;
        let partial = Vec::new();
        Ok(Some(Self { path, inode, lines, position: 0, partial, end: None, file, compressed }))
    }

    /// Reads no line that is not there yet. Nobody writes to a compressed file.
    fn end_here(&mut self) -> Result<(), LogError> {
        if !self.compressed {
            let failed = |source| LogError::Read { path: self.path.clone(), source };
            self.end = Some(self.file.metadata().map_err(failed)?.len());
        }
        Ok(())
    }

    fn lines(file: &File, compressed: bool) -> io::Result<Box<dyn BufRead + Send>> {
        let plain = BufReader::new(file.try_clone()?);
        if compressed {
            Ok(Box::new(BufReader::new(GzDecoder::new(plain))))
        } else {
            Ok(Box::new(plain))
        }
    }

    /// Returns the next whole line that is a log entry.
    fn next_entry(&mut self) -> Result<Option<Entry>, LogError> {
        loop {
            if self.end.is_some_and(|end| self.position >= end) {
                return Ok(None);
            }
            let room = MAX_LINE.saturating_sub(self.partial.len() as u64);
            (&mut self.lines)
                .take(room)
                .read_until(b'\n', &mut self.partial)
                .map_err(|source| LogError::Read { path: self.path.clone(), source })?;
            let whole = self.partial.last() == Some(&b'\n');
            if !whole && (self.partial.len() as u64) < MAX_LINE {
                return Ok(None);
            }
            self.position += self.partial.len() as u64;
            let line = std::mem::take(&mut self.partial);
            if let Ok(entry) = serde_json::from_slice(&line) {
                return Ok(Some(entry));
            }
        }
    }

    fn rewind_to(&mut self, position: u64) -> Result<(), LogError> {
        let failed = |source| LogError::Read { path: self.path.clone(), source };
        io::Seek::seek(&mut self.file, io::SeekFrom::Start(0)).map_err(failed)?;
        let mut lines = Self::lines(&self.file, self.compressed).map_err(failed)?;
        io::copy(&mut (&mut lines).take(position), &mut io::sink()).map_err(failed)?;
        self.lines = lines;
        self.position = position;
        self.partial.clear();
        Ok(())
    }
}

/// Becomes readable when the log grows or rotates. Make it before the reader is at its end.
#[derive(Debug)]
pub struct Watch {
    inotify: Inotify,
    folder: PathBuf,
}

impl Watch {
    /// Watches the folder of the log, as inotify(7) follows inodes and a rotation changes them.
    pub fn new(log: &Path) -> Result<Self, LogError> {
        let folder = log.parent().unwrap_or(Path::new("/")).to_owned();
        let events =
            AddWatchFlags::IN_MODIFY | AddWatchFlags::IN_CREATE | AddWatchFlags::IN_MOVED_TO;
        Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)
            .and_then(|inotify| inotify.add_watch(&folder, events).map(|_| inotify))
            .map(|inotify| Self { inotify, folder: folder.clone() })
            .map_err(|source| LogError::Watch { folder, source })
    }

    /// Takes the pending events, so that the descriptor is quiet again. Call it before reading on.
    pub fn clear(&self) -> Result<(), LogError> {
        loop {
            match self.inotify.read_events() {
                Ok(_) => {}
                Err(Errno::EAGAIN) => return Ok(()),
                Err(source) => return Err(LogError::Watch { folder: self.folder.clone(), source }),
            }
        }
    }
}

impl AsFd for Watch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.inotify.as_fd()
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed step fails the test")]
    use std::fs::OpenOptions;
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::GzEncoder;
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

    use super::*;

    fn line(number: u32) -> String {
        let stream = if number.is_multiple_of(2) { "stderr" } else { "stdout" };
        format!(
            "{{\"log\":\"{number}\\n\",\"stream\":\"{stream}\",\"time\":\"2026-01-01T00:00:{number:02}.5Z\"}}\n"
        )
    }

    fn append(path: &Path, text: &str) {
        let mut file = OpenOptions::new().create(true).append(true).open(path).unwrap();
        file.write_all(text.as_bytes()).unwrap();
    }

    fn all() -> Query {
        Query { stdout: true, stderr: true, tail: None, since: None, until: None }
    }

    fn rest(reader: &mut Reader) -> String {
        let mut text = String::new();
        while let Some(entry) = reader.next_entry().unwrap() {
            text.push_str(&entry.log.replace('\n', " "));
        }
        text
    }

    fn read(path: &Path, query: Query) -> String {
        rest(&mut Reader::open(path, query, Scope::Following).unwrap())
    }

    /// Lines 1–2 compressed, 3–4 rotated, 5–6 in the file.
    fn rotated_log(folder: &Path) -> PathBuf {
        let path = folder.join("x-json.log");
        let mut old = GzEncoder::new(
            File::create(folder.join("x-json.log.2.gz")).unwrap(),
            Compression::fast(),
        );
        old.write_all((line(1) + &line(2)).as_bytes()).unwrap();
        old.finish().unwrap();
        append(&folder.join("x-json.log.1"), &(line(3) + &line(4)));
        append(&path, &(line(5) + &line(6)));
        path
    }

    #[test]
    fn rotated_files_are_read_oldest_first() {
        let folder = tempfile::tempdir().unwrap();
        let path = rotated_log(folder.path());
        assert_eq!(read(&path, all()), "1 2 3 4 5 6 ");
        assert_eq!(read(&folder.path().join("none"), all()), "");
    }

    #[test]
    fn tail_counts_wanted_lines_across_files() {
        let folder = tempfile::tempdir().unwrap();
        let path = rotated_log(folder.path());
        for (tail, expected) in
            [(0, ""), (1, "6 "), (3, "4 5 6 "), (5, "2 3 4 5 6 "), (9, "1 2 3 4 5 6 ")]
        {
            assert_eq!(read(&path, Query { tail: Some(tail), ..all() }), expected, "{tail}");
        }
        assert_eq!(read(&path, Query { tail: Some(2), stderr: false, ..all() }), "3 5 ");
    }

    #[test]
    fn who_does_not_follow_gets_what_was_written_when_it_asked() {
        let folder = tempfile::tempdir().unwrap();
        let path = rotated_log(folder.path());
        let seventh = line(7);
        append(&path, &seventh[..20]);
        for (tail, expected) in [(Some(1), "6 "), (Some(3), "4 5 6 "), (Some(0), "")] {
            let query = Query { tail, ..all() };
            let mut reader = Reader::open(&path, query, Scope::Written).unwrap();
            append(&path, &seventh[20..]);
            append(&path, &line(8));
            assert_eq!(rest(&mut reader), expected, "{tail:?}");
            std::fs::remove_file(&path).unwrap();
            append(&path, &(line(5) + &line(6) + &seventh[..20]));
        }
        let mut reader = Reader::open(&path, all(), Scope::Written).unwrap();
        std::fs::rename(&path, folder.path().join("x-json.log.1")).unwrap();
        append(&path, &line(8));
        assert_eq!(rest(&mut reader), "1 2 3 4 5 6 ");
        let mut reader = Reader::open(&folder.path().join("none"), all(), Scope::Written).unwrap();
        append(&folder.path().join("none"), &line(1));
        assert_eq!(rest(&mut reader), "");
    }

    #[test]
    fn since_and_until_bound_the_time_and_timestamps_have_nine_digits() {
        let folder = tempfile::tempdir().unwrap();
        let path = rotated_log(folder.path());
        let at = |text: &str| Some(text.parse().unwrap());
        let query =
            Query { since: at("2026-01-01T00:00:03Z"), until: at("2026-01-01T00:00:05Z"), ..all() };
        assert_eq!(read(&path, query.clone()), "3 4 ");
        let entry =
            Reader::open(&path, query, Scope::Written).unwrap().next_entry().unwrap().unwrap();
        assert_eq!(entry.with_timestamp(), "2026-01-01T00:00:03.500000000Z 3\n");
    }

    #[test]
    fn a_damaged_line_is_skipped_and_a_half_written_one_waits() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let second = line(2);
        append(&path, &format!("{}garbage\n{}", line(1), &second[..20]));
        let mut reader = Reader::open(&path, all(), Scope::Following).unwrap();
        assert_eq!(rest(&mut reader), "1 ");
        append(&path, &second[20..]);
        assert_eq!(rest(&mut reader), "2 ");
    }

    #[test]
    fn a_follower_is_woken_and_loses_nothing_over_rotations() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let older = |number: u32| folder.path().join(format!("log.{number}"));
        append(&path, &line(1));
        let watch = Watch::new(&path).unwrap();
        let mut reader =
            Reader::open(&path, Query { tail: Some(0), ..all() }, Scope::Following).unwrap();
        assert_eq!(rest(&mut reader), "");
        append(&path, &line(2));
        std::fs::rename(&path, older(1)).unwrap();
        append(&path, &line(3));
        std::fs::rename(older(1), older(2)).unwrap();
        std::fs::rename(&path, older(1)).unwrap();
        append(&path, &line(4));
        let mut ready = [PollFd::new(watch.as_fd(), PollFlags::POLLIN)];
        assert_eq!(poll(&mut ready, PollTimeout::ZERO).unwrap(), 1);
        watch.clear().unwrap();
        let mut quiet = [PollFd::new(watch.as_fd(), PollFlags::POLLIN)];
        assert_eq!(poll(&mut quiet, PollTimeout::ZERO).unwrap(), 0);
        assert_eq!(rest(&mut reader), "2 3 4 ");
    }
}
