//! Writes archives that depend on their content alone: fixed owner, mode and time, sorted by the caller.

use std::io::{self, Read, Write};

use tar::{Builder, EntryType, Header};

/// Adds a regular file of `size` bytes.
pub(crate) fn file<W: Write>(
    builder: &mut Builder<W>,
    path: &str,
    mode: u32,
    size: u64,
    data: impl Read,
) -> io::Result<()> {
    let mut header = header(EntryType::Regular, mode);
    header.set_size(size);
    builder.append_data(&mut header, path, data)
}

/// Adds a folder.
pub(crate) fn folder<W: Write>(builder: &mut Builder<W>, path: &str, mode: u32) -> io::Result<()> {
    let mut header = header(EntryType::Directory, mode);
    header.set_size(0);
    builder.append_data(&mut header, path, io::empty())
}

fn header(kind: EntryType, mode: u32) -> Header {
    let mut header = Header::new_ustar();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header
}
