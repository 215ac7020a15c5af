//! Start, stop, restart, kill and remove of a stack's services. A stop is remembered, so that the loop leaves
//! what the user stopped alone, also after a boot.

use std::collections::BTreeSet;
use std::sync::Arc;

use tokio::sync::mpsc;

use super::StackError;
use super::keep::LIMIT;
use super::report::{Detail, Failure, Teller};
use super::turns::{Claim, Held};
use crate::engine::containers::lifecycle::By;
use crate::engine::core::Engine;
use crate::engine::error::{EngineError, Kind};
use crate::engine::host::{RealHost, seconds};
use crate::engine::state::{Durability, stacks};
use crate::protocol::{Progress, ServiceSelection};
use crate::reconcile::apply::apply;
use crate::reconcile::diff::{Verb, plan_verb, restarted_with};
use crate::reconcile::host::Host as _;
use crate::reconcile::observed::{Observed, ObservedContainer, State};
use crate::spec::name::{ServiceName, StackName};

/// What to do with some services of a stack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ServiceVerb {
    Start,
    Stop,
    Restart,
    Kill,
    Remove,
}

impl Engine {
    pub async fn stack_services(
        self: &Arc<Self>,
        name: &str,
        verb: ServiceVerb,
        selection: ServiceSelection,
    ) -> Result<mpsc::Receiver<Progress>, EngineError> {
        let name = self.known_stack(name)?;
        let words = Words::parse(&selection.services)?;
        let signal = match &selection.signal {
            Some(word) => {
                signal(word).ok_or_else(|| StackError::BadSignal { word: word.clone() })?
            }
            None => libc::SIGKILL,
        };
        let (mut teller, lines) = Teller::new(name.as_str(), Detail::Cause);
        let engine = Arc::clone(self);
        tokio::spawn(async move {
            let outcome = match verb {
                ServiceVerb::Kill => engine.kill_services(&name, &words, signal).await,
                ServiceVerb::Start if words.numbers.is_empty() && engine.is_stored(&name) => {
                    let (services, no_deps) = (&selection.services, selection.no_deps);
                    engine.resume_services(name.as_str(), services, no_deps, &mut teller).await
                }
                _ => engine.change_services(&name, verb, &words, &selection, &mut teller).await,
            };
            teller.finish(outcome);
        });
        Ok(lines)
    }

    fn is_stored(&self, name: &StackName) -> bool {
        self.stack_row(name.as_str()).is_ok_and(|row| row.is_some())
    }

    async fn change_services(
        self: &Arc<Self>,
        name: &StackName,
        verb: ServiceVerb,
        words: &Words,
        selection: &ServiceSelection,
        teller: &mut Teller,
    ) -> Result<Option<String>, Failure> {
        let keeper = self.keeper(name.as_str());
        let claim = if verb == ServiceVerb::Start { Claim::Begin } else { Claim::End };
        let Held { mut turn, way } = keeper.turns.claim(claim).await;
        let mut host = RealHost { way, ..RealHost::new(self) };
        host.grace = seconds(selection.timeout);
        host.anonymous_volumes = selection.volumes;
        let observed = host.observe(name, None).await?;
        let wanted = self.wanted_replicas(name)?;
        let chosen = words.choose(name, &observed, &wanted)?;
        let mut ids: BTreeSet<String> = chosen.iter().map(|one| one.id.clone()).collect();
        let mut message = None;
        let verb = match verb {
            ServiceVerb::Start => Verb::Start,
            ServiceVerb::Stop => {
                host.by = By::User;
                Verb::Stop
            }
            ServiceVerb::Restart => {
                if !selection.no_deps {
                    let services = chosen.iter().map(|one| one.service.clone()).collect();
                    ids.extend(restarted_with(&observed, &services));
                }
                Verb::Restart
            }
            ServiceVerb::Remove | ServiceVerb::Kill if selection.stop => {
                // One replica out of several is healed; a whole service that was stopped stays away.
                if words.numbers.is_empty() {
                    host.by = By::User;
                } else {
                    message = Some(
                        "what was removed is made again, since the stack wants it: change its scale, or take the \
                         stack down"
                            .to_owned(),
                    );
                }
                Verb::StopAndRemove
            }
            ServiceVerb::Remove | ServiceVerb::Kill => {
                let running: Vec<String> = chosen
                    .iter()
                    .filter(|one| !matches!(one.state, State::Created | State::Exited { .. }))
                    .map(|one| format!("{}.{}", one.service, one.number))
                    .collect();
                if !running.is_empty() {
                    message = Some(format!(
                        "not removed, since running: {} (with --stop they are stopped first)",
                        running.join(", ")
                    ));
                }
                Verb::Remove
            }
        };
        if host.by == By::User {
            self.remember_stop(name, &chosen, &words.absent(&observed, &wanted))?;
        }
        let plan = plan_verb(&observed, &ids, verb);
        teller.plan(&plan);
        let report = apply(&host, name, &plan, LIMIT, |event| teller.step(event)).await;
        turn.heals.forget();
        if self.is_stored(name) {
            self.start_loop(name.as_str(), &mut turn);
        }
        match report.is_success() {
            true => Ok(message),
            false => Err(Failure::of_report(&plan, &report)),
        }
    }

    /// Remembers the wish for what has nothing to stop: what never started, ended by itself, or has no container.
    fn remember_stop(
        &self,
        name: &StackName,
        chosen: &[&ObservedContainer],
        absent: &[(ServiceName, u32)],
    ) -> Result<(), EngineError> {
        self.write(Durability::Process, |tx| stacks::dismiss(tx, name.as_str(), absent))?;
        for one in chosen.iter().filter(|one| !runs(one)) {
            let handle = self.container(&one.id)?;
            self.change(&handle, Durability::Process, |row| row.stopped_by_user = true)?;
        }
        Ok(())
    }

    /// Returns the replicas that the stored stack wants; none when it was never brought up.
    fn wanted_replicas(&self, name: &StackName) -> Result<Vec<(ServiceName, u32)>, EngineError> {
        let Some(stored) = self.stored_stack(name.as_str())? else { return Ok(Vec::new()) };
        let services = stored.stack().services.values();
        Ok(services
            .flat_map(|service| (1..=service.replicas).map(|number| (service.name.clone(), number)))
            .collect())
    }

    async fn kill_services(
        self: &Arc<Self>,
        name: &StackName,
        words: &Words,
        signal: i32,
    ) -> Result<Option<String>, Failure> {
        let observed = RealHost::new(self).observe(name, None).await?;
        for container in words.choose(name, &observed, &self.wanted_replicas(name)?)? {
            let running = matches!(container.state, State::Running { .. } | State::Paused);
            if !running {
                continue;
            }
            match self.kill_container(&container.id, signal).await {
                // It ended while we looked.
                Err(error) if matches!(error.kind(), Kind::NotFound | Kind::Conflict) => {}
                other => other?,
            }
        }
        Ok(None)
    }
}

/// Whether there is something to stop.
fn runs(container: &ObservedContainer) -> bool {
    !matches!(container.state, State::Created | State::Exited { .. } | State::Removing)
}

/// Which containers are meant: services, and replicas by number.
#[derive(Debug, Default)]
struct Words {
    services: BTreeSet<ServiceName>,
    numbers: BTreeSet<(ServiceName, u32)>,
}

impl Words {
    /// Parses `web` and `web.2`.
    fn parse(words: &[String]) -> Result<Self, StackError> {
        let mut parsed = Self::default();
        for word in words {
            let numbered = word
                .rsplit_once('.')
                .and_then(|(name, number)| Some((name, number.parse::<u32>().ok()?)));
            let name = numbered.map_or(word.as_str(), |(name, _)| name);
            let name = ServiceName::try_from(name)
                .map_err(|_| StackError::BadSelection { word: word.clone() })?;
            match numbered {
                Some((_, number)) => _ = parsed.numbers.insert((name, number)),
                None => _ = parsed.services.insert(name),
            }
        }
        Ok(parsed)
    }

    /// Returns whether a replica is meant; no words mean all.
    fn mean(&self, service: &ServiceName, number: u32) -> bool {
        self.services.is_empty() && self.numbers.is_empty()
            || self.services.contains(service)
            || self.numbers.contains(&(service.clone(), number))
    }

    /// Returns the replicas that are meant, wanted, and have no container.
    fn absent(
        &self,
        observed: &Observed,
        wanted: &[(ServiceName, u32)],
    ) -> Vec<(ServiceName, u32)> {
        let is_there = |service: &ServiceName, number: u32| {
            let mut replicas = observed.containers.values().filter(|container| !container.oneoff);
            replicas.any(|container| container.service == *service && container.number == number)
        };
        let absent = wanted
            .iter()
            .filter(|(service, number)| self.mean(service, *number) && !is_there(service, *number));
        absent.cloned().collect()
    }

    /// Returns the containers that are meant. One-off containers are not meant.
    fn choose<'a>(
        &self,
        stack: &StackName,
        observed: &'a Observed,
        wanted: &[(ServiceName, u32)],
    ) -> Result<Vec<&'a ObservedContainer>, EngineError> {
        let replicas = || observed.containers.values().filter(|container| !container.oneoff);
        let named = self.services.iter().chain(self.numbers.iter().map(|(service, _)| service));
        for service in named {
            let known: BTreeSet<&str> = replicas()
                .map(|container| &container.service)
                .chain(wanted.iter().map(|(service, _)| service))
                .map(ServiceName::as_str)
                .collect();
            if !known.contains(service.as_str()) {
                return Err(StackError::NoService {
                    stack: stack.as_str().to_owned(),
                    word: service.as_str().to_owned(),
                    known: known.into_iter().map(str::to_owned).collect(),
                }
                .into());
            }
        }
        Ok(replicas().filter(|container| self.mean(&container.service, container.number)).collect())
    }
}

/// Returns the number of a signal: `9`, `KILL`, `SIGKILL`, in any case.
fn signal(word: &str) -> Option<i32> {
    if let Ok(number) = word.parse::<i32>() {
        return (1..=64).contains(&number).then_some(number);
    }
    let upper = word.to_ascii_uppercase();
    let name = if upper.starts_with("SIG") { upper } else { format!("SIG{upper}") };
    name.parse::<nix::sys::signal::Signal>().ok().map(|signal| signal as i32)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed step fails the test")]
    use super::*;

    #[test]
    fn a_word_is_a_service_or_one_of_its_replicas() {
        let words = Words::parse(&["web".to_owned(), "db.2".to_owned()]).unwrap();
        assert_eq!(words.services.iter().map(ServiceName::as_str).collect::<Vec<_>>(), ["web"]);
        let numbers: Vec<_> = words.numbers.iter().map(|(name, n)| (name.as_str(), *n)).collect();
        assert_eq!(numbers, [("db", 2)]);
        assert!(Words::parse(&["a b".to_owned()]).is_err());
    }

    #[test]
    fn signals_have_names_and_numbers() {
        assert_eq!(signal("9"), Some(9));
        assert_eq!(signal("hup"), Some(1));
        assert_eq!(signal("SIGTERM"), Some(15));
        assert_eq!(signal("SIGNOPE"), None);
        assert_eq!(signal("0"), None);
    }
}
