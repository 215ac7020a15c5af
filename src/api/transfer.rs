//! Archives in requests and answers: bytes between the asynchronous server and blocking readers and writers.

use std::io::{self, Read, Write};
use std::time::Duration;

use axum::body::{Body, Bytes};
use futures_util::{StreamExt as _, stream};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};

use crate::engine::background;

/// Pieces that may wait for the other side.
const PIECES: usize = 8;
/// Bytes that are sent at once.
const PIECE: usize = 128 << 10;

/// How long a client may take or send nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Patience {
    /// As long as it likes: nobody waits for it.
    Endless,
    Limited(Duration),
}

impl Patience {
    /// Waits for what the client has to do.
    async fn wait<T>(self, for_client: impl Future<Output = T>) -> io::Result<T> {
        let Self::Limited(limit) = self else { return Ok(for_client.await) };
        tokio::time::timeout(limit, for_client).await.map_err(|_| {
            let message = format!("the client stalled for {} s", limit.as_secs_f32());
            io::Error::new(io::ErrorKind::TimedOut, message)
        })
    }
}

/// A request's body, to be read by a blocking thread.
#[derive(Debug)]
pub(crate) struct BodyReader {
    pieces: mpsc::Receiver<Result<Bytes, io::Error>>,
    rest: Bytes,
}

impl BodyReader {
    /// Begins to read; a reader that is dropped ends it.
    pub(crate) fn new(body: Body, patience: Patience) -> Self {
        let (sender, pieces) = mpsc::channel(PIECES);
        tokio::spawn(async move {
            let mut stream = body.into_data_stream();
            while let Some(piece) = patience.wait(stream.next()).await.transpose() {
                let piece = piece.and_then(|piece| piece.map_err(io::Error::other));
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
    patience: Patience,
    write: impl FnOnce(&mut dyn Write) -> Result<(), E> + Send + 'static,
) -> Body
where
    E: std::error::Error + Send + Sync + 'static,
{
    let (sender, pieces) = mpsc::channel::<Bytes>(PIECES);
    // Beside the pieces, which a client that stalls leaves where they are.
    let (fail, failure) = oneshot::channel();
    let started = background::start(move || {
        let mut output = io::BufWriter::with_capacity(PIECE, Pieces { sender, patience });
        let result = write(&mut output).map_err(io::Error::other).and_then(|()| output.flush());
        if let Err(error) = result {
            tracing::warn!(%error, "an archive is cut off");
            // Without a client there is nobody to tell.
            let _ = fail.send(error);
            // What is left in the buffer would go the way of the rest.
            drop(output.into_parts());
        }
    });
    if let Err(error) = started {
        tracing::warn!(error = error.full(), "an archive is cut off");
        return Body::from_stream(stream::once(async { Err::<Bytes, _>(io::Error::other(error)) }));
    }
    let failure = stream::once(failure).filter_map(async |failure| failure.ok().map(Err));
    Body::from_stream(super::answer::receiver(pieces).map(Ok).chain(failure))
}

struct Pieces {
    sender: mpsc::Sender<Bytes>,
    patience: Patience,
}

impl Write for Pieces {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // One that is much larger would wait for nobody.
        let bytes = &bytes[..bytes.len().min(PIECE)];
        let sent = self.patience.wait(self.sender.send(Bytes::copy_from_slice(bytes)));
        let sent = Handle::current().block_on(sent)?;
        sent.map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))?;
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
        let body = written_by(Patience::Endless, move |output| output.write_all(sent.as_bytes()));
        let mut reader = BodyReader::new(body, Patience::Endless);
        let read = tokio::task::spawn_blocking(move || {
            let mut read = String::new();
            reader.read_to_string(&mut read).map(|_| read)
        });
        assert_eq!(read.await.unwrap().unwrap(), text);
    }

    #[tokio::test]
    async fn a_writer_that_fails_cuts_the_answer_off() {
        let body = written_by(Patience::Endless, |output| {
            output.write_all(b"part")?;
            Err(io::Error::other("the disk is gone"))
        });
        assert!(axum::body::to_bytes(body, 1 << 20).await.is_err());
    }

    #[tokio::test]
    async fn a_client_that_takes_nothing_ends_the_writer_and_gets_no_whole() {
        let (done, ended) = oneshot::channel();
        let limit = Patience::Limited(Duration::from_millis(20));
        let body = written_by(limit, |output| {
            let result = output.write_all(&vec![0; 64 * PIECE]);
            done.send(result.as_ref().map_err(io::Error::kind).copied()).unwrap();
            result
        });
        assert_eq!(ended.await.unwrap(), Err(io::ErrorKind::TimedOut));
        assert!(axum::body::to_bytes(body, 64 << 20).await.is_err());
    }

    #[tokio::test]
    async fn a_client_that_sends_nothing_ends_the_reader() {
        let silent = Body::from_stream(stream::pending::<io::Result<Bytes>>());
        let limit = Patience::Limited(Duration::from_millis(20));
        let mut reader = BodyReader::new(silent, limit);
        let read = tokio::task::spawn_blocking(move || reader.read(&mut [0; 8]));
        assert_eq!(read.await.unwrap().unwrap_err().kind(), io::ErrorKind::TimedOut);
    }
}
