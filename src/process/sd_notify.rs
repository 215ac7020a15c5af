//! sd_notify(3): tells a service manager that asked for it how far we are, and that we still are.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

/// Sends `state`, such as `READY=1`, to `$NOTIFY_SOCKET`; without one does nothing.
pub(super) fn tell(state: &str) {
    let Some(name) = std::env::var_os("NOTIFY_SOCKET") else { return };
    if let Err(error) = send(&name, state) {
        tracing::warn!(%error, "cannot tell the service manager {state}");
    }
}

/// A name with a leading `@` is an abstract one: unix(7).
fn send(name: &OsStr, state: &str) -> io::Result<()> {
    let address = match name.as_encoded_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(name)?,
    };
    UnixDatagram::unbound()?.send_to_addr(state.as_bytes(), &address).map(drop)
}

/// Returns how often the service manager wants to hear `WATCHDOG=1`: half the time it waits, as sd_watchdog_enabled(3)
/// has it. `None` when it does not ask this process.
pub(super) fn watchdog(variable: impl Fn(&str) -> Option<OsString>) -> Option<Duration> {
    let number = |name| variable(name)?.to_str()?.parse::<u64>().ok();
    let ours = match variable("WATCHDOG_PID") {
        Some(_) => number("WATCHDOG_PID") == Some(u64::from(std::process::id())),
        None => true,
    };
    let microseconds = number("WATCHDOG_USEC").filter(|&time| ours && time > 0)?;
    Some(Duration::from_micros(microseconds / 2))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed step fails the test")]
mod tests {
    use super::*;

    #[test]
    fn a_state_reaches_a_path_and_an_abstract_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let abstract_name = format!("bargee-test-{}", std::process::id());
        let by_path = UnixDatagram::bind(&path).unwrap();
        let address = SocketAddr::from_abstract_name(&abstract_name).unwrap();
        let by_name = UnixDatagram::bind_addr(&address).unwrap();
        let at = OsString::from(format!("@{abstract_name}"));
        for (socket, name) in [(by_path, path.as_os_str()), (by_name, at.as_os_str())] {
            send(name, "READY=1").unwrap();
            let mut bytes = [0; 32];
            let length = socket.recv(&mut bytes).unwrap();
            assert_eq!(&bytes[..length], b"READY=1");
        }
        assert!(send(folder.path().join("none").as_os_str(), "READY=1").is_err());
    }

    #[test]
    fn the_watchdog_is_fed_twice_as_often_as_it_asks_and_only_by_whom_it_asks() {
        let environment = |time: &'static str, pid: Option<String>| {
            watchdog(move |name| match name {
                "WATCHDOG_USEC" => Some(time.into()),
                "WATCHDOG_PID" => pid.clone().map(Into::into),
                _ => None,
            })
        };
        let ours = Some(std::process::id().to_string());
        assert_eq!(environment("3000000", ours), Some(Duration::from_millis(1500)));
        assert_eq!(environment("3000000", None), Some(Duration::from_millis(1500)));
        assert_eq!(environment("3000000", Some("1".to_owned())), None);
        assert_eq!(environment("0", None), None);
        assert_eq!(watchdog(|_| None), None);
    }
}
