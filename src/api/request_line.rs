//! Request lines as docker reads them: clients write JSON into a URL as it is (`?filters={"label":["a"]}`), which the
//! HTTP library refuses. The bytes that it refuses are percent-encoded before it reads them.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Bytes that are looked at at once.
const CHUNK: usize = 8 << 10;

/// Tells that what is read next is the head of a request.
#[derive(Debug, Clone)]
pub(super) struct Expected(Arc<AtomicBool>);

impl Expected {
    pub(super) fn set(&self, expected: bool) {
        self.0.store(expected, Ordering::Release);
    }
}

/// A client's socket whose request lines are mended.
#[derive(Debug)]
pub(super) struct Mended<S> {
    stream: S,
    expected: Arc<AtomicBool>,
    line: Line,
    /// What was read and mended, from `taken` on not yet handed out.
    bytes: Vec<u8>,
    taken: usize,
}

/// Where in a head the next byte stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Line {
    Method,
    Target,
    /// Behind the target, where nothing is mended.
    Behind,
}

impl<S> Mended<S> {
    pub(super) fn new(stream: S) -> (Self, Expected) {
        // A connection begins with a head.
        let expected = Arc::new(AtomicBool::new(true));
        let mended = Self {
            stream,
            expected: Arc::clone(&expected),
            line: Line::Behind,
            bytes: Vec::new(),
            taken: 0,
        };
        (mended, Expected(expected))
    }

    /// Returns the socket and what was read of it and not handed out.
    pub(super) fn into_parts(mut self) -> (S, Vec<u8>) {
        let rest = self.bytes.split_off(self.taken);
        (self.stream, rest)
    }

    fn hand_out(&mut self, buffer: &mut ReadBuf<'_>) {
        let count = buffer.remaining().min(self.bytes.len() - self.taken);
        buffer.put_slice(&self.bytes[self.taken..self.taken + count]);
        self.taken += count;
        if self.taken == self.bytes.len() {
            self.bytes = Vec::new();
            self.taken = 0;
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Mended<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if !this.bytes.is_empty() {
            this.hand_out(buffer);
            return Poll::Ready(Ok(()));
        }
        if this.line == Line::Behind && !this.expected.load(Ordering::Acquire) {
            return Pin::new(&mut this.stream).poll_read(cx, buffer);
        }
        let mut chunk = [0; CHUNK];
        let mut read = ReadBuf::new(&mut chunk);
        ready!(Pin::new(&mut this.stream).poll_read(cx, &mut read))?;
        if read.filled().is_empty() {
            return Poll::Ready(Ok(()));
        }
        if this.line == Line::Behind {
            this.expected.store(false, Ordering::Release);
            this.line = Line::Method;
        }
        mend(&mut this.line, read.filled(), &mut this.bytes);
        this.hand_out(buffer);
        Poll::Ready(Ok(()))
    }
}

/// Appends `bytes` to `into`, those of a target encoded that RFC 3986 has no place for.
fn mend(line: &mut Line, bytes: &[u8], into: &mut Vec<u8>) {
    for byte in bytes {
        match (*line, byte) {
            // Empty lines before a request are no requests (RFC 9112, section 2.2).
            (Line::Method, b' ') => *line = Line::Target,
            (Line::Target, b' ' | b'\n') => *line = Line::Behind,
            (
                Line::Target,
                b'"' | b'#' | b'<' | b'>' | b'\\' | b'^' | b'`' | b'{'..=b'}' | 0x80..,
            ) => {
                into.extend_from_slice(format!("%{byte:02X}").as_bytes());
                continue;
            }
            _ => {}
        }
        into.push(*byte);
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Mended<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed step fails the test")]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    /// Returns what is read of `sent` in small pieces.
    async fn read(sent: &[u8], is_head: bool) -> Vec<u8> {
        let (mut client, server) = tokio::io::duplex(64 << 10);
        let (mut mended, expected) = Mended::new(server);
        expected.set(is_head);
        client.write_all(sent).await.unwrap();
        drop(client);
        let (mut all, mut piece) = (Vec::new(), [0; 7]);
        loop {
            match mended.read(&mut piece).await.unwrap() {
                0 => return all,
                count => all.extend_from_slice(&piece[..count]),
            }
        }
    }

    #[tokio::test]
    async fn json_in_a_url_is_encoded_and_all_else_stays() {
        let head =
            b"GET /x?filters={\"a\":[\"\xc3\xa9\"]} HTTP/1.1\r\nHost: \"a\"\r\n\r\n{\"b\":1}";
        let expected =
            b"GET /x?filters=%7B%22a%22:[%22%C3%A9%22]%7D HTTP/1.1\r\nHost: \"a\"\r\n\r\n{\"b\":1}";
        assert_eq!(read(head, true).await, expected);
        let plain = b"GET /x?a=%7B&b=c+d HTTP/1.1\r\n\r\n";
        assert_eq!(read(plain, true).await, plain);
    }

    #[tokio::test]
    async fn a_body_is_not_touched_though_it_looks_like_a_head() {
        let body = b"GET /\"{} HTTP/1.1\r\n";
        assert_eq!(read(body, false).await, body);
    }

    #[test]
    fn a_head_in_pieces_is_mended_across_them() {
        let (mut line, mut bytes) = (Line::Method, Vec::new());
        for piece in [&b"GE"[..], b"T /a", b"?{", b"} HTTP/1.1", b"\r\nA: {\r\n"] {
            mend(&mut line, piece, &mut bytes);
        }
        assert_eq!(bytes, b"GET /a?%7B%7D HTTP/1.1\r\nA: {\r\n");
        assert_eq!(line, Line::Behind);
    }
}
