//! Archives in requests and answers: bytes between the asynchronous server and blocking readers and writers.

use std::io::{self, Read, Write};

use axum::body::{Body, Bytes};
use futures_util::StreamExt as _;
use tokio::sync::mpsc;

use crate::engine::background;

/// Pieces that may wait for the other side.
const PIECES: usize = 8;
/// Bytes that are sent at once.
const PIECE: usize = 128 << 10;

/// A request's body, to be read by a blocking thread.
#[derive(Debug)]
pub(crate) struct BodyReader {
    pieces: mpsc::Receiver<Result<Bytes, io::Error>>,
    rest: Bytes,
}

impl BodyReader {
    /// Begins to read; a reader that is dropped ends it.
    pub(crate) fn new(body: Body) -> Self {
        let (sender, pieces) = mpsc::channel(PIECES);
        tokio::spawn(async move {
            let mut stream = body.into_data_stream();
            while let Some(piece) = stream.next().await {
                let piece = piece.map_err(io::Error::other);
                let last = piece.is_err();
                if sender.send(piece).await.is_err() || last {
                    return;
                }
            }
        });
        Self { pieces, rest: Bytes::new() }
    }
}

impl Read for BodyReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.rest.is_empty() {
            match self.pieces.blocking_recv() {
                None => return Ok(0),
                Some(piece) => self.rest = piece?,
            }
        }
        let count = buffer.len().min(self.rest.len());
        buffer[..count].copy_from_slice(&self.rest.split_to(count));
        Ok(count)
    }
}

/// Answers with what `write` writes. When it fails the connection is cut, so that no client takes a part for the
/// whole.
pub(crate) fn written_by<E>(
    write: impl FnOnce(&mut dyn Write) -> Result<(), E> + Send + 'static,
) -> Body
where
    E: std::error::Error + Send + Sync + 'static,
{
    let (sender, pieces) = mpsc::channel::<io::Result<Bytes>>(PIECES);
    let failed = sender.clone();
    let started = background::start(move || {
        let mut output = io::BufWriter::with_capacity(PIECE, Pieces(sender.clone()));
        let result = write(&mut output).map_err(io::Error::other).and_then(|()| output.flush());
        if let Err(error) = result {
            tracing::warn!(%error, "an archive is cut off");
            // Without a client there is nobody to tell.
            let _ = sender.blocking_send(Err(error));
        }
    });
    if let Err(error) = started {
        tracing::warn!(error = error.full(), "an archive is cut off");
        // The channel is empty yet.
        let _ = failed.try_send(Err(io::Error::other(error)));
    }
    Body::from_stream(super::answer::receiver(pieces))
}

struct Pieces(mpsc::Sender<io::Result<Bytes>>);

impl Write for Pieces {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0
            .blocking_send(Ok(Bytes::copy_from_slice(bytes)))
            .map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed step fails the test")]
    use super::*;

    #[tokio::test]
    async fn what_is_written_is_read() {
        let text = "x".repeat(3 * PIECE + 5);
        let sent = text.clone();
        let body = written_by(move |output| output.write_all(sent.as_bytes()));
        let mut reader = BodyReader::new(body);
        let read = tokio::task::spawn_blocking(move || {
            let mut read = String::new();
            reader.read_to_string(&mut read).map(|_| read)
        });
        assert_eq!(read.await.unwrap().unwrap(), text);
    }

    #[tokio::test]
    async fn a_writer_that_fails_cuts_the_answer_off() {
        let body = written_by(|output| {
            output.write_all(b"part")?;
            Err(io::Error::other("the disk is gone"))
        });
        assert!(axum::body::to_bytes(body, 1 << 20).await.is_err());
    }
}
