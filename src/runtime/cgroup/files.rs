//! Reading and writing the small files of a cgroup; every error names its file.

use std::fs;
use std::io::{self, Write};
use std::path::Path;

use super::CgroupError;

/// Writes `value` in one call; the kernel parses each `write(2)` by itself (cgroups(7)).
pub(super) fn write(file: &Path, value: &str) -> Result<(), CgroupError> {
    write_raw(file, value).map_err(|source| CgroupError::Write {
        file: file.to_owned(),
        value: value.to_owned(),
        source,
    })
}

/// Like [`write`], with the bare error for callers that branch on it. The file is never created.
pub(super) fn write_raw(file: &Path, value: &str) -> io::Result<()> {
    fs::OpenOptions::new().write(true).truncate(true).open(file)?.write_all(value.as_bytes())
}

/// Reads a whole file.
pub(super) fn read(file: &Path) -> Result<String, CgroupError> {
    fs::read_to_string(file).map_err(|source| CgroupError::Read { file: file.to_owned(), source })
}

/// Reads a file that older kernels or disabled controllers lack.
pub(super) fn read_optional(file: &Path) -> Result<Option<String>, CgroupError> {
    match fs::read_to_string(file) {
        Ok(text) => Ok(Some(text)),
        // ENODEV: the cgroup was removed between open and read.
        Err(error)
            if error.kind() == io::ErrorKind::NotFound
                || matches!(error.raw_os_error(), Some(libc::ENODEV | libc::EOPNOTSUPP)) =>
        {
            Ok(None)
        }
        Err(source) => Err(CgroupError::Read { file: file.to_owned(), source }),
    }
}

/// Reads a file with one number; `max` and an absent file are `None`.
pub(super) fn read_number(file: &Path) -> Result<Option<u64>, CgroupError> {
    let Some(text) = read_optional(file)? else { return Ok(None) };
    let text = text.trim();
    if text == "max" {
        return Ok(None);
    }
    text.parse()
        .map(Some)
        .map_err(|_| CgroupError::Parse { file: file.to_owned(), text: text.to_owned() })
}

/// Returns the value beside `key` in a file of `key value` lines.
pub(super) fn keyed(text: &str, key: &str) -> Option<u64> {
    text.lines().find_map(|line| {
        let (name, value) = line.split_once(' ')?;
        if name == key { value.trim().parse().ok() } else { None }
    })
}
