//! Running a command in a container to its end, with the beginning of its output: health probes.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt};

use super::execs::ExecSpec;
use crate::engine::core::Engine;
use crate::engine::error::EngineError;
use crate::runtime::shim::protocol::Request;

/// Bytes of output that are kept, as docker keeps them.
const MOST_OUTPUT: usize = 4096;
/// The code of a probe that ran out of time.
const TIMED_OUT: i32 = -1;

impl Engine {
    /// Runs a command without streams to its end and returns its code and the beginning of its output: health
    /// probes. One that takes longer than `timeout` is killed; its code is -1.
    pub(crate) async fn run_exec(
        self: &Arc<Self>,
        container: &str,
        spec: ExecSpec,
        timeout: Duration,
    ) -> Result<(i32, String), EngineError> {
        let id = self.create_exec(container, spec).await?;
        let Some(attached) = self.start_exec(&id, false, None).await? else {
            return Ok((0, String::new()));
        };
        let mut output = Vec::new();
        let read = collect(attached.stream, &mut output);
        let in_time = tokio::time::timeout(timeout, read).await.is_ok();
        let text = String::from_utf8_lossy(&output).into_owned();
        if !in_time {
            self.kill_exec(container, &id).await;
            let message = format!("Health check exceeded timeout ({}): {text}", in_words(timeout));
            return Ok((TIMED_OUT, message));
        }
        let code = self.exec(&id).await?.exit_code;
        // Without a code the shim died, and the container with it.
        Ok((code.unwrap_or(TIMED_OUT), text))
    }

    async fn kill_exec(&self, container: &str, id: &str) {
        let Some(shim) = self.handle(container).and_then(|handle| handle.shim()) else { return };
        let request = Request::SignalExec { id: id.to_owned(), signal: libc::SIGKILL };
        // One that ended just now needs no signal.
        let _ = shim.order(request).await;
    }
}

/// Reads docker's frames to the end of the stream; bytes beyond the limit are dropped.
async fn collect(mut stream: impl AsyncRead + Unpin, output: &mut Vec<u8>) {
    let mut header = [0; 8];
    while stream.read_exact(&mut header).await.is_ok() {
        let length = u32::from_be_bytes([header[4], header[5], header[6], header[7]]);
        let mut piece = Vec::new();
        if (&mut stream).take(u64::from(length)).read_to_end(&mut piece).await.is_err() {
            return;
        }
        let room = MOST_OUTPUT.saturating_sub(output.len());
        output.extend(piece.into_iter().take(room));
    }
}

/// Writes a time as Go does for whole seconds and below.
fn in_words(time: Duration) -> String {
    if time.subsec_nanos() == 0 { format!("{}s", time.as_secs()) } else { format!("{time:?}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn frames_are_joined_and_the_rest_of_much_output_is_dropped() {
        let mut input = b"\x01\0\0\0\0\0\0\x03one\x02\0\0\0\0\0\0\x03two".to_vec();
        input.extend(b"\x01\0\0\0\0\0\x40\0");
        input.extend(vec![b'x'; 16384]);
        let mut output = Vec::new();
        collect(input.as_slice(), &mut output).await;
        assert!(output.starts_with(b"onetwoxxx"));
        assert_eq!(output.len(), MOST_OUTPUT);
    }

    #[test]
    fn times_are_written_as_docker_writes_them() {
        assert_eq!(in_words(Duration::from_secs(30)), "30s");
        assert_eq!(in_words(Duration::from_millis(500)), "500ms");
    }
}
