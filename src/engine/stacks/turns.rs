//! Whose turn it is on a stack: one run at a time. A run that only waits, for health or for a pause's end, gives way to
//! a request that would else wait for as long: who takes a stack down need not wait until it is healthy.

use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio_util::sync::CancellationToken;

/// Who wants the turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Claim {
    /// The stack's own loop, which nobody waits for: it gives way to every request.
    Loop,
    /// A request that brings something up. It gives way to one that ends something.
    Begin,
    /// A request that ends something.
    End,
}

impl Claim {
    fn gives_way_to(self, other: Self) -> bool {
        match self {
            Self::Loop => other != Self::Loop,
            Self::Begin => other == Self::End,
            Self::End => false,
        }
    }
}

/// The turn over `T`, and who is there for it.
#[derive(Debug, Default)]
pub(super) struct Turns<T> {
    turn: tokio::sync::Mutex<T>,
    queue: Mutex<Queue>,
}

#[derive(Debug, Default)]
struct Queue {
    waiting: Vec<Claim>,
    present: Option<(Claim, CancellationToken)>,
}

impl Queue {
    /// Ends the waiting of a run that must give way to one that is in the queue.
    fn clear_the_way(&self) {
        let Some((present, way)) = &self.present else { return };
        if self.waiting.iter().any(|waiting| present.gives_way_to(*waiting)) {
            way.cancel();
        }
    }
}

/// The turn, until it is dropped.
#[derive(Debug)]
pub(super) struct Held<'a, T> {
    pub(super) turn: tokio::sync::MutexGuard<'a, T>,
    /// Cancelled when somebody comes for whom waits are given up.
    pub(super) way: CancellationToken,
}

impl<T> Turns<T> {
    /// Waits for the turn. Cancel-safe.
    pub(super) async fn claim(&self, claim: Claim) -> Held<'_, T> {
        let queued = Queued::join(&self.queue, claim);
        let turn = self.turn.lock().await;
        let way = CancellationToken::new();
        drop(queued);
        let mut queue = lock(&self.queue);
        queue.present = Some((claim, way.clone()));
        queue.clear_the_way();
        Held { turn, way }
    }
}

/// A place in the queue, which is left however the waiting ends.
struct Queued<'a> {
    queue: &'a Mutex<Queue>,
    claim: Claim,
}

impl<'a> Queued<'a> {
    fn join(queue: &'a Mutex<Queue>, claim: Claim) -> Self {
        let mut joined = lock(queue);
        joined.waiting.push(claim);
        joined.clear_the_way();
        Self { queue, claim }
    }
}

impl Drop for Queued<'_> {
    fn drop(&mut self) {
        let mut queue = lock(self.queue);
        if let Some(place) = queue.waiting.iter().position(|waiting| *waiting == self.claim) {
            queue.waiting.swap_remove(place);
        }
    }
}

fn lock(queue: &Mutex<Queue>) -> MutexGuard<'_, Queue> {
    queue.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    /// Whether a run by `present` is told to give way to `other`.
    async fn gives_way(present: Claim, other: Claim) -> bool {
        let turns = Arc::new(Turns::<()>::default());
        let held = turns.claim(present).await;
        let also = Arc::clone(&turns);
        let waiting = tokio::spawn(async move { drop(also.claim(other).await) });
        while lock(&turns.queue).waiting.is_empty() {
            tokio::task::yield_now().await;
        }
        let told = held.way.is_cancelled();
        drop(held);
        assert!(waiting.await.is_ok(), "the turn does not go on");
        told
    }

    #[tokio::test]
    async fn waits_are_given_up_for_who_would_wait_as_long() {
        for (present, other, told) in [
            (Claim::Loop, Claim::Loop, false),
            (Claim::Loop, Claim::Begin, true),
            (Claim::Loop, Claim::End, true),
            (Claim::Begin, Claim::Begin, false),
            (Claim::Begin, Claim::End, true),
            (Claim::End, Claim::End, false),
            (Claim::End, Claim::Begin, false),
        ] {
            assert_eq!(gives_way(present, other).await, told, "{present:?} {other:?}");
        }
    }

    #[tokio::test]
    async fn who_stands_behind_another_is_not_forgotten() {
        let turns = Turns::<()>::default();
        let first = turns.claim(Claim::End).await;
        let mut looping = std::pin::pin!(turns.claim(Claim::Loop));
        let mut ending = std::pin::pin!(turns.claim(Claim::End));
        tokio::select! {
            biased;
            _ = &mut looping => unreachable!("the turn is taken"),
            _ = &mut ending => unreachable!("the turn is taken"),
            () = std::future::ready(()) => {}
        }
        drop(first);
        assert!(looping.await.way.is_cancelled());
        drop(ending.await);
    }
}
