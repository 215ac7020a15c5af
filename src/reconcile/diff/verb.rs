//! What a user asks of some containers of a stack: stop, restart, remove, in the order of its graph.

use std::collections::{BTreeMap, BTreeSet};

use super::down::StopOrder;
use super::steps::{of_container, runs};
use crate::reconcile::cause::Cause;
use crate::reconcile::host::Step;
use crate::reconcile::observed::{Observed, ObservedContainer};
use crate::reconcile::plan::{Draft, Order, Plan};
use crate::spec::name::ServiceName;

/// What to do with the containers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    Start,
    Stop,
    Restart,
    /// Those that don't run.
    Remove,
    StopAndRemove,
}

/// Returns the plan that does `verb` to the containers with these ids: dependents stop first, start last.
pub fn plan_verb(observed: &Observed, ids: &BTreeSet<String>, verb: Verb) -> Plan {
    let mut draft = Draft::default();
    let order = StopOrder::of(observed);
    let chosen = observed.containers.values().filter(|container| ids.contains(&container.id));
    let chosen: Vec<&ObservedContainer> = order.sorted(chosen.filter(|container| match verb {
        Verb::Start | Verb::Remove => !runs(container),
        Verb::Stop | Verb::Restart | Verb::StopAndRemove => true,
    }));
    let stops = match verb {
        Verb::Start => BTreeMap::new(),
        _ => order.add_stops(&mut draft, &chosen),
    };
    match verb {
        Verb::Stop => {}
        Verb::Remove | Verb::StopAndRemove => {
            for container in chosen {
                let remove = Step::RemoveContainer { id: container.id.clone() };
                let stop = stops.get(container.id.as_str()).copied();
                draft.add(of_container(container, remove, &Cause::Requested), stop);
            }
        }
        Verb::Start | Verb::Restart => add_starts(&mut draft, &order, &chosen, &stops),
    }
    draft.finish()
}

/// Starts all of `chosen`, each behind what it depends on.
fn add_starts<'a>(
    draft: &mut Draft,
    order: &StopOrder<'a>,
    chosen: &[&'a ObservedContainer],
    stops: &BTreeMap<&'a str, usize>,
) {
    let mut starts: BTreeMap<&ServiceName, Vec<usize>> = BTreeMap::new();
    for container in chosen.iter().rev() {
        let start = Step::StartContainer { id: container.id.clone() };
        let stop = stops.get(container.id.as_str()).copied();
        let start = draft.add(of_container(container, start, &Cause::Requested), stop);
        starts.entry(&container.service).or_default().push(start);
    }
    for (service, earlier) in &starts {
        for dependent in order.dependents(service) {
            for later in starts.get(dependent).into_iter().flatten() {
                for earlier in earlier {
                    draft.order(*earlier, *later, Order::After);
                }
            }
        }
    }
}

/// Returns the containers that are restarted with those of `services`, as `depends_on` says with `restart: true`.
pub fn restarted_with(observed: &Observed, services: &BTreeSet<ServiceName>) -> BTreeSet<String> {
    let mut all = services.clone();
    let mut ids = BTreeSet::new();
    loop {
        let before = ids.len();
        for container in observed.containers.values().filter(|container| runs(container)) {
            let label = container.spec.labels.get("com.docker.compose.depends_on");
            let mut entries = label.into_iter().flat_map(|label| label.split(','));
            let follows = entries.any(|entry| {
                let mut words = entry.split(':');
                let name = words.next().and_then(|name| ServiceName::try_from(name).ok());
                name.is_some_and(|name| all.contains(&name)) && words.next_back() == Some("true")
            });
            if follows && ids.insert(container.id.clone()) {
                all.insert(container.service.clone());
            }
        }
        if ids.len() == before {
            return ids;
        }
    }
}
