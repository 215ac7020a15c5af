//! Tells gzip, zstd and plain tar apart by their first bytes, never by a name or a media type.

use std::io::{self, BufRead, BufReader, Read};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Compression {
    None,
    Gzip,
    Zstd,
}

impl Compression {
    pub(crate) fn of(start: &[u8]) -> Self {
        if start.starts_with(&[0x1f, 0x8b]) {
            Self::Gzip
        } else if start.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]) {
            Self::Zstd
        } else {
            Self::None
        }
    }
}

/// Returns a reader of the plain bytes of `input`, and how they were packed.
pub(crate) fn decompress<'a>(
    input: impl Read + 'a,
) -> io::Result<(Box<dyn Read + 'a>, Compression)> {
    let mut input = BufReader::with_capacity(128 << 10, input);
    let mut start = Vec::with_capacity(4);
    // A pipe may hand out its bytes one at a time, so `fill_buf` alone could see too few.
    input.by_ref().take(4).read_to_end(&mut start)?;
    let compression = Compression::of(&start);
    let whole = io::Cursor::new(start).chain(input);
    let reader: Box<dyn Read + 'a> = match compression {
        Compression::None => Box::new(whole),
        Compression::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(whole)),
        Compression::Zstd => Box::new(zstd::stream::read::Decoder::with_buffer(whole)?),
    };
    Ok((reader, compression))
}

/// Reads `reader` to its end and returns how many bytes that were.
pub(crate) fn drain(reader: &mut impl Read) -> io::Result<u64> {
    let mut reader = BufReader::with_capacity(64 << 10, reader);
    let mut count = 0;
    loop {
        let got = reader.fill_buf()?.len();
        if got == 0 {
            return Ok(count);
        }
        count += got as u64;
        reader.consume(got);
    }
}
