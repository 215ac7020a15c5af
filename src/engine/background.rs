//! Blocking work, each on a thread of its own.
//!
//! The runtime's own pool has work wait for ever where the machine has no thread to spare (`spawn_blocking` of tokio), or
//! panics. Here that is an error of whoever wanted the work.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::thread::Builder;

use tokio::runtime::Handle;
use tokio::sync::{Semaphore, oneshot};

use crate::engine::error::EngineError;

/// Threads at a time; beyond them work waits.
static ROOM: Semaphore = Semaphore::const_new(128);
/// Bytes of a thread's stack.
const STACK: usize = 1 << 20;

/// Runs `work` off the runtime's threads; it goes on when the caller doesn't wait any more.
pub(crate) async fn run<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, EngineError> {
    let room = ROOM.acquire().await.expect("the semaphore is never closed");
    let (answer, answered) = oneshot::channel();
    start(move || {
        let done = catch_unwind(AssertUnwindSafe(work));
        drop(room);
        // Without a receiver nobody wants to know.
        drop(answer.send(done));
    })?;
    match answered.await {
        Ok(Ok(done)) => Ok(done),
        Ok(Err(panic)) => resume_unwind(panic),
        Err(_) => Err(EngineError::io("wait for a thread")(io::Error::other("it ended early"))),
    }
}

/// Starts a thread, from within the runtime, whose timers and channels the work may use; without a thread, `work` is
/// dropped.
pub(crate) fn start(work: impl FnOnce() + Send + 'static) -> Result<(), EngineError> {
    let runtime = Handle::current();
    let work = move || {
        let _entered = runtime.enter();
        work();
    };
    let thread = Builder::new().name("background".to_owned()).stack_size(STACK);
    thread.spawn(work).map(drop).map_err(EngineError::io("start a thread"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn work_runs_where_it_may_block_and_its_panic_is_the_callers() {
        let (sender, receiver) = oneshot::channel();
        let work = run(|| receiver.blocking_recv());
        let told = async { sender.send(7) };
        let (received, sent) = tokio::join!(work, told);
        assert_eq!((received.ok(), sent), (Some(Ok(7)), Ok(())));
        let panicked = tokio::spawn(run(|| panic!("as it should"))).await;
        assert!(panicked.is_err_and(|error| error.is_panic()));
    }
}
