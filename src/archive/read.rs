//! Reads tar headers: ustar, GNU long names and PAX records (pax(1), tar(5)), with every size bounded
//! before it is believed. Data stays in the stream, to be read through [`TarReader`] itself.

use std::io::{self, Read};

use tar::{EntryType, Header};

const BLOCK: usize = 512;
/// Bytes of one PAX or long-name record.
const MAX_EXTENSION: u64 = 1 << 20;
/// The kernel's PATH_MAX.
const MAX_NAME: usize = 4096;

#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    #[error("the archive cannot be read")]
    Io(#[from] io::Error),
    #[error("a tar header is damaged: {0}")]
    Header(&'static str),
    #[error("an extended header has {0} bytes, more than {MAX_EXTENSION}")]
    HugeExtension(u64),
    #[error("a name has more than {MAX_NAME} bytes")]
    LongName,
}

/// One member of an archive.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) path: Vec<u8>,
    pub(crate) link: Vec<u8>,
    pub(crate) kind: EntryType,
    pub(crate) size: u64,
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// Major and minor number; zero when the header has none.
    pub(crate) device: (u32, u32),
    /// Seconds and nanoseconds since the epoch.
    pub(crate) mtime: (i64, u32),
    pub(crate) xattrs: Vec<(String, Vec<u8>)>,
}

#[derive(Debug, Default)]
struct Extensions {
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    size: Option<u64>,
    uid: Option<u32>,
    gid: Option<u32>,
    mtime: Option<(i64, u32)>,
    xattrs: Vec<(String, Vec<u8>)>,
}

/// Walks an archive; between two calls of [`TarReader::next`] it reads as the current entry's data.
#[derive(Debug)]
pub(crate) struct TarReader<R> {
    input: R,
    left: u64,
    padding: u64,
}

impl<R: Read> TarReader<R> {
    pub(crate) fn new(input: R) -> Self {
        Self { input, left: 0, padding: 0 }
    }

    pub(crate) fn into_inner(self) -> R {
        self.input
    }

    /// Returns the next entry, skipping what was not read of the last one.
    pub(crate) fn next(&mut self) -> Result<Option<Entry>, ReadError> {
        let mut extensions = Extensions::default();
        loop {
            self.skip()?;
            let Some(block) = self.block()? else { return Ok(None) };
            let header = Header::from_byte_slice(&block);
            let size =
                header.entry_size().map_err(|_| ReadError::Header("its size is no number"))?;
            let kind = header.entry_type();
            match kind {
                EntryType::GNULongName => extensions.path = Some(trimmed(self.extension(size)?)),
                EntryType::GNULongLink => extensions.link = Some(trimmed(self.extension(size)?)),
                EntryType::XHeader => extensions.read_pax(&self.extension(size)?)?,
                EntryType::XGlobalHeader => drop(self.extension(size)?),
                EntryType::GNUSparse => {
                    return Err(ReadError::Header("sparse members are not supported"));
                }
                _ => {
                    let entry = entry(header, size, extensions)?;
                    self.begin(entry.size);
                    return Ok(Some(entry));
                }
            }
        }
    }

    fn begin(&mut self, size: u64) {
        self.left = size;
        self.padding = (BLOCK as u64 - size % BLOCK as u64) % BLOCK as u64;
    }

    fn skip(&mut self) -> Result<(), ReadError> {
        let rest = self.left.saturating_add(self.padding);
        (self.left, self.padding) = (0, 0);
        let skipped = io::copy(&mut self.input.by_ref().take(rest), &mut io::sink())?;
        if skipped != rest {
            return Err(ReadError::Io(io::ErrorKind::UnexpectedEof.into()));
        }
        Ok(())
    }

    /// Returns the next header block, or `None` at the end: a block of zeros, or no more bytes.
    fn block(&mut self) -> Result<Option<[u8; BLOCK]>, ReadError> {
        let mut block = [0; BLOCK];
        let mut filled = 0;
        while filled < BLOCK {
            match self.input.read(&mut block[filled..]) {
                Ok(0) if filled == 0 => return Ok(None),
                Ok(0) => return Err(ReadError::Io(io::ErrorKind::UnexpectedEof.into())),
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
        if block.iter().all(|byte| *byte == 0) {
            return Ok(None);
        }
        let sum: u32 = block[..148].iter().chain(&block[156..]).map(|byte| u32::from(*byte)).sum();
        let stated = Header::from_byte_slice(&block)
            .cksum()
            .map_err(|_| ReadError::Header("its checksum"))?;
        // The checksum counts its own eight bytes as spaces.
        if stated != sum + 8 * u32::from(b' ') {
            return Err(ReadError::Header("its checksum is wrong"));
        }
        Ok(Some(block))
    }

    fn extension(&mut self, size: u64) -> Result<Vec<u8>, ReadError> {
        if size > MAX_EXTENSION {
            return Err(ReadError::HugeExtension(size));
        }
        self.begin(size);
        let mut data = Vec::new();
        self.read_to_end(&mut data)?;
        Ok(data)
    }
}

impl<R: Read> Read for TarReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let wanted = usize::try_from(self.left).map_or(buffer.len(), |left| left.min(buffer.len()));
        if wanted == 0 {
            return Ok(0);
        }
        let count = self.input.read(&mut buffer[..wanted])?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.left -= count as u64;
        Ok(count)
    }
}

fn trimmed(mut name: Vec<u8>) -> Vec<u8> {
    if let Some(end) = name.iter().position(|byte| *byte == 0) {
        name.truncate(end);
    }
    name
}

fn entry(header: &Header, size: u64, extensions: Extensions) -> Result<Entry, ReadError> {
    let number = |field: io::Result<u64>, what| {
        field.ok().and_then(|value| u32::try_from(value).ok()).ok_or(ReadError::Header(what))
    };
    let kind = header.entry_type();
    // These have no data, whatever their size field says (Go's archive/tar does the same).
    let has_data = !matches!(
        kind,
        EntryType::Link
            | EntryType::Symlink
            | EntryType::Char
            | EntryType::Block
            | EntryType::Directory
            | EntryType::Fifo
    );
    let seconds = header.mtime().ok().and_then(|value| i64::try_from(value).ok()).unwrap_or(0);
    let entry = Entry {
        path: extensions.path.unwrap_or_else(|| header.path_bytes().into_owned()),
        link: extensions.link.unwrap_or_else(|| {
            header.link_name_bytes().map(|name| name.into_owned()).unwrap_or_default()
        }),
        kind,
        size: if has_data { extensions.size.unwrap_or(size) } else { 0 },
        mode: header.mode().map_err(|_| ReadError::Header("its mode is no number"))? & 0o7777,
        uid: extensions
            .uid
            .map_or_else(|| number(header.uid(), "its owner is no 32-bit number"), Ok)?,
        gid: extensions
            .gid
            .map_or_else(|| number(header.gid(), "its group is no 32-bit number"), Ok)?,
        device: (device_number(header.device_major()), device_number(header.device_minor())),
        mtime: extensions.mtime.unwrap_or((seconds, 0)),
        xattrs: extensions.xattrs,
    };
    if entry.path.len() >= MAX_NAME || entry.link.len() >= MAX_NAME {
        return Err(ReadError::LongName);
    }
    Ok(entry)
}

/// Old headers have no such field, and of what is no device nobody asks for it.
fn device_number(field: io::Result<Option<u32>>) -> u32 {
    field.ok().flatten().unwrap_or_default()
}

impl Extensions {
    /// Reads records `LENGTH KEY=VALUE\n`; a value may hold any byte, so only the length delimits it.
    fn read_pax(&mut self, mut data: &[u8]) -> Result<(), ReadError> {
        const BAD: ReadError = ReadError::Header("a PAX record is malformed");
        while !data.is_empty() {
            let space = data.iter().position(|byte| *byte == b' ').ok_or(BAD)?;
            let length: usize =
                text(&data[..space]).and_then(|text| text.parse().ok()).ok_or(BAD)?;
            if length > data.len() || length <= space + 1 || data[length - 1] != b'\n' {
                return Err(BAD);
            }
            let record = &data[space + 1..length - 1];
            data = &data[length..];
            let equals = record.iter().position(|byte| *byte == b'=').ok_or(BAD)?;
            let (key, value) = (text(&record[..equals]).ok_or(BAD)?, &record[equals + 1..]);
            self.record(key, value).ok_or(BAD)?;
        }
        Ok(())
    }

    fn record(&mut self, key: &str, value: &[u8]) -> Option<()> {
        match key {
            "path" => self.path = Some(value.to_vec()),
            "linkpath" => self.link = Some(value.to_vec()),
            "size" => self.size = Some(text(value)?.parse().ok()?),
            "uid" => self.uid = Some(text(value)?.parse().ok()?),
            "gid" => self.gid = Some(text(value)?.parse().ok()?),
            "mtime" => self.mtime = Some(time(text(value)?)?),
            _ if key.starts_with("GNU.sparse.") => return None,
            _ => {
                if let Some(name) = key.strip_prefix("SCHILY.xattr.") {
                    self.xattrs.push((name.to_owned(), value.to_vec()));
                }
            }
        }
        Some(())
    }
}

fn text(bytes: &[u8]) -> Option<&str> {
    std::str::from_utf8(bytes).ok()
}

fn time(text: &str) -> Option<(i64, u32)> {
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, ""));
    let seconds: i64 = seconds.parse().ok()?;
    if !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let digits: String = fraction.chars().chain(std::iter::repeat('0')).take(9).collect();
    Some((seconds, if seconds < 0 { 0 } else { digits.parse().ok()? }))
}
