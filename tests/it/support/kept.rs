//! An engine under a keeper, as the first command of a user starts it.

use std::os::unix::net::UnixStream;

use super::engine::{Engine, PATIENCE, wait_for};
use super::http::Client;
use super::stack::Host;

/// Dropping it shuts everything.
#[derive(Debug)]
pub struct Kept {
    pub host: Host,
}

impl Kept {
    pub fn start() -> Self {
        let mut engine = Engine::start();
        engine.load_busybox("busybox");
        assert!(engine.stop().success());
        let kept = Self { host: Host(engine) };
        kept.command(&["engine", "start"]);
        kept
    }

    pub fn command(&self, arguments: &[&str]) -> String {
        let output = self.host.0.bargee(arguments);
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        assert!(output.status.success(), "{arguments:?}: {}", text(&output.stderr));
        text(&output.stdout)
    }

    /// Returns the engine's pid, once one answers.
    pub fn engine(&self) -> i64 {
        let socket = self.host.0.socket();
        wait_for(PATIENCE, || {
            let stream = UnixStream::connect(&socket).ok()?;
            let answer = Client::over(stream).get("/bargee/v1/version");
            answer.ok()?.json()["pid"].as_i64()
        })
        .expect("an engine answers")
    }

    /// What the engines and their keeper have logged so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.host.0.run().join("engine.log")).unwrap_or_default()
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        if UnixStream::connect(self.host.0.socket()).is_ok() {
            drop(self.host.0.bargee(&["rm", "-f", "web", "shop-web-1", "shop-client-1", "alone"]));
            drop(self.host.0.bargee(&["system", "shutdown"]));
        }
    }
}
