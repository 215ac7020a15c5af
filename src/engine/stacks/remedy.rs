//! What is done about a release whose new containers are not good.

use std::sync::Arc;

use super::apply::Refused;
use super::report::{Failure, Teller};
use super::revision::Asked;
use crate::engine::core::Engine;
use crate::engine::error::EngineError;
use crate::engine::host::RealHost;
use crate::protocol::{Progress, RollbackRequest};
use crate::reconcile::rollout::{self, Remedy};
use crate::spec::name::StackName;

impl Engine {
    /// Does what the file wants when `revision` failed, under the turn in which it did. Returns the failure with what
    /// was done about it.
    pub(super) async fn remedy(
        self: &Arc<Self>,
        host: &RealHost,
        revision: Option<(StackName, u32)>,
        failure: Failure,
        teller: &mut Teller,
    ) -> Failure {
        let Some((name, number)) = revision else { return failure };
        if host.way.is_cancelled() {
            return failure;
        }
        match rollout::remedy(&failure.rollouts) {
            Remedy::Continue => failure,
            Remedy::Pause => {
                let said = format!(
                    "the update to revision {number} is paused, and what was not replaced stays: `bargee up` tries \
                     again, `bargee stack rollback` goes back"
                );
                add(teller, failure, said)
            }
            Remedy::Rollback => self.go_back(host, &name, number, failure, teller).await,
        }
    }

    async fn go_back(
        self: &Arc<Self>,
        host: &RealHost,
        name: &StackName,
        number: u32,
        failure: Failure,
        teller: &mut Teller,
    ) -> Failure {
        let request = RollbackRequest::default();
        let prepared = tokio::task::block_in_place(|| {
            let target = self.rollback_target(name.as_str(), None)?;
            Ok((target, self.prepare_rollback(name, target, &request)?))
        });
        let no_way = |why: &str| {
            format!("revision {number} failed and stays, since there is no way back: {why}")
        };
        let (target, prepared) = match prepared {
            Ok(prepared) => prepared,
            Err(error) => {
                let error: EngineError = error;
                let hint = error.hint().map_or_else(String::new, |hint| format!(" ({hint})"));
                return add(teller, failure, no_way(&format!("{}{hint}", error.full())));
            }
        };
        if !prepared.plan.problems.is_empty() {
            let problems = Failure::of_problems(&prepared.plan).message;
            return add(teller, failure, no_way(&problems));
        }
        let message = format!("revision {number} failed: going back to revision {target}");
        teller.say(Progress::Remark { message });
        teller.plan(&prepared.plan);
        let message =
            format!("rollback to {target}: revision {number} failed: {}", failure.message);
        let asked = Asked { author: Some("bargee"), message: Some(&message), take_over: false };
        match self.release(host, prepared, asked, teller).await {
            Ok(_) => {
                let (from, to) = (number.to_string(), target.to_string());
                self.tell_stack(name.as_str(), "rolledback", &[("from", &from), ("to", &to)]);
                let said = format!("revision {number} failed, and revision {target} is restored");
                add(teller, failure, said)
            }
            Err(Refused { failure: second, .. }) => {
                let said = format!(
                    "revision {number} failed, and the way back to revision {target} too: {}; `bargee stack rollback` \
                     tries again",
                    second.message
                );
                add(teller, failure, said)
            }
        }
    }
}

/// Tells what was done about `failure`, and puts it behind it.
fn add(teller: &Teller, failure: Failure, said: String) -> Failure {
    let message = format!("{}\n{said}", failure.message);
    teller.say(Progress::Remark { message: said });
    Failure { message, ..failure }
}
