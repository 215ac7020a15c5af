//! What can go wrong between command line and engine.

use std::io;
use std::path::PathBuf;

use serde::Deserialize;

/// Why a request has no answer, or a refusal.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ClientError {
    #[error("cannot connect to the engine at {}", socket.display())]
    Connect { socket: PathBuf, source: io::Error },
    #[error("no engine runs at {}, and only root can start one", socket.display())]
    NotRoot { socket: PathBuf },
    #[error("cannot start the engine: cannot {doing}")]
    Start { doing: String, source: io::Error },
    #[error("the engine does not start{log}")]
    StartFailed { log: String },
    #[error("the engine does not listen at {} after {seconds} s{log}", socket.display())]
    StartTimeout { socket: PathBuf, seconds: u64, log: String },
    #[error("{asked}: the connection to the engine broke")]
    Http { asked: String, source: hyper::Error },
    #[error("{asked}: the engine's answer was cut off")]
    Read { asked: String, source: Box<dyn std::error::Error + Send + Sync> },
    #[error("{asked}: the engine's answer makes no sense")]
    Answer { asked: String, source: serde_json::Error },
    #[error("{asked}: the engine did not hand its connection over")]
    NoUpgrade { asked: String },
    /// A refusal, in the engine's words.
    #[error("{message}")]
    Server { status: u16, message: String },
}

impl ClientError {
    /// Reads `{"message": …}`; any other body is the message itself.
    pub(super) fn server(status: u16, body: &[u8]) -> Self {
        #[derive(Deserialize)]
        struct Refusal {
            message: String,
        }
        let message = match serde_json::from_slice::<Refusal>(body) {
            Ok(refusal) => refusal.message,
            Err(_) => String::from_utf8_lossy(body).trim().to_owned(),
        };
        let message =
            if message.is_empty() { format!("the engine answered {status}") } else { message };
        Self::Server { status, message }
    }

    /// The status of a refusal.
    pub(crate) fn status(&self) -> Option<u16> {
        match self {
            Self::Server { status, .. } => Some(*status),
            _ => None,
        }
    }

    pub(crate) fn is_not_found(&self) -> bool {
        self.status() == Some(404)
    }

    pub(crate) fn hint(&self) -> Option<&'static str> {
        match self {
            Self::NotRoot { .. } => {
                Some("run this as root, or start the engine once: sudo bargee engine start")
            }
            Self::Connect { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => {
                Some(
                    "the socket belongs to root and to the group that the engine's `socket_group` names",
                )
            }
            _ => None,
        }
    }
}
