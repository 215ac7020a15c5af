//! A plan: a graph of steps, each with its cause. Steps are numbered in an order that respects the graph.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::SystemTime;

use petgraph::Direction;
use petgraph::graph::{DiGraph, NodeIndex};
use petgraph::visit::EdgeRef;
use serde::{Deserialize, Serialize};

use super::cause::Cause;
use super::host::Step;
use crate::spec::name::ServiceName;
use crate::spec::stack::Condition;

/// What to do, in which order, and what stands against it.
#[derive(Debug, Clone, Default)]
pub struct Plan {
    graph: DiGraph<Planned, Order>,
    /// What must be mended before any step may run.
    pub problems: Vec<Problem>,
    /// Problems whose services were left out of the plan, so that the others are healed all the same.
    pub held: Vec<Problem>,
    /// What the user should know; nothing waits for it.
    pub warnings: Vec<String>,
    /// When the clock alone makes another plan of this one: a backoff ends.
    pub again: Option<SystemTime>,
}

/// A step, and why it is there.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Planned {
    pub step: Step,
    pub cause: Cause,
    pub service: Option<ServiceName>,
    /// Whom it is done to, as plans print it: `web.1`, `network shop_default`.
    pub subject: String,
}

/// How a step follows another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Order {
    /// It can only be done when the other one succeeded.
    Needs,
    /// It comes later; the other one may fail.
    After,
}

/// What stands against a plan, found before anything is touched.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, thiserror::Error)]
#[serde(tag = "problem", rename_all = "kebab-case")]
pub enum Problem {
    #[error("services depend on each other: {}", services.iter().map(ServiceName::as_str).collect::<Vec<_>>().join(", "))]
    Cycle { services: Vec<ServiceName> },
    #[error("{service}: host port {port} is held by {holder}")]
    PortTaken { service: ServiceName, port: String, holder: String },
    #[error("{service}: image {image} is not here and its pull policy forbids to pull it")]
    ImageMissing { service: ServiceName, image: String },
    #[error("{service}: image {image} is not here, and {reason}")]
    ImageUnobtainable { service: ServiceName, image: String, reason: String },
    #[error("{service}: image {image} must be built first")]
    ImageNotBuilt { service: ServiceName, image: String },
    #[error("{service}: {path} does not exist on this machine")]
    MountMissing { service: ServiceName, path: String },
    #[error("{name} belongs to {owner}")]
    NameTaken { name: String, owner: String },
    #[error("external network {name} does not exist")]
    NetworkMissing { name: String },
    #[error("external volume {name} does not exist")]
    VolumeMissing { name: String },
    #[error("{service}: start-first is impossible with {obstacle}")]
    StartFirstImpossible { service: ServiceName, obstacle: String },
}

/// One step of the JSON form.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PlanLine {
    pub number: usize,
    /// Numbers of the steps that come before it.
    pub after: Vec<usize>,
    #[serde(rename = "do")]
    pub planned: Planned,
}

/// The JSON form of a plan.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PlanDocument {
    pub steps: Vec<PlanLine>,
    pub problems: Vec<Problem>,
    pub held: Vec<Problem>,
    pub warnings: Vec<String>,
}

impl Plan {
    /// Returns whether nothing is to be done. Problems and warnings do not count.
    pub fn is_empty(&self) -> bool {
        self.graph.node_count() == 0
    }

    /// Returns the number of steps.
    pub fn len(&self) -> usize {
        self.graph.node_count()
    }

    /// Returns the steps in order; the first one has number 1.
    pub fn steps(&self) -> impl Iterator<Item = (usize, &Planned)> {
        self.graph.node_weights().enumerate().map(|(index, planned)| (index + 1, planned))
    }

    /// Returns step `number`, counted from 1.
    pub fn step(&self, number: usize) -> Option<&Planned> {
        self.graph.node_weight(NodeIndex::new(number.checked_sub(1)?))
    }

    /// Returns the numbers of the steps right before step `number`, ascending.
    pub fn before(&self, number: usize) -> Vec<(usize, Order)> {
        self.neighbours(number, Direction::Incoming)
    }

    /// Returns the numbers of the steps right after step `number`, ascending.
    pub fn following(&self, number: usize) -> Vec<(usize, Order)> {
        self.neighbours(number, Direction::Outgoing)
    }

    /// Returns the JSON form.
    pub fn document(&self) -> PlanDocument {
        let steps = self.steps().map(|(number, planned)| PlanLine {
            number,
            after: self.before(number).into_iter().map(|(before, _)| before).collect(),
            planned: planned.clone(),
        });
        PlanDocument {
            steps: steps.collect(),
            problems: self.problems.clone(),
            held: self.held.clone(),
            warnings: self.warnings.clone(),
        }
    }

    fn neighbours(&self, number: usize, direction: Direction) -> Vec<(usize, Order)> {
        let Some(index) = number.checked_sub(1) else { return Vec::new() };
        let mut found: Vec<(usize, Order)> = self
            .graph
            .edges_directed(NodeIndex::new(index), direction)
            .map(|edge| match direction {
                Direction::Incoming => (edge.source().index() + 1, *edge.weight()),
                Direction::Outgoing => (edge.target().index() + 1, *edge.weight()),
            })
            .collect();
        found.sort_by_key(|(neighbour, _)| *neighbour);
        found
    }
}

/// One line a step: `[1] #2 db.1 stop, image changed`, dependencies first; then problems and warnings.
impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, planned) in self.steps() {
            let before: Vec<String> =
                self.before(number).iter().map(|(n, _)| n.to_string()).collect();
            writeln!(f, "[{}] #{number} {planned}", before.join(" "))?;
        }
        for problem in &self.problems {
            writeln!(f, "problem: {problem}")?;
        }
        for problem in &self.held {
            writeln!(f, "held back: {problem}")?;
        }
        for warning in &self.warnings {
            writeln!(f, "warning: {warning}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Planned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}, {}", self.subject, self.step, self.cause)
    }
}

/// What is done, as plans print it: `create`, `wait until healthy`.
impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Step::CreateNetwork { .. } | Step::CreateVolume { .. } => f.write_str("create"),
            Step::RemoveNetwork { .. }
            | Step::RemoveVolume { .. }
            | Step::RemoveContainer { .. } => f.write_str("remove"),
            Step::PullImage { .. } => f.write_str("pull"),
            Step::CreateContainer { name, replica } if *name != replica.container_name => {
                write!(f, "create as {name}")
            }
            Step::CreateContainer { .. } => f.write_str("create"),
            Step::StartContainer { .. } | Step::StartNew { .. } => f.write_str("start"),
            Step::StopContainer { drain: Some(drain), .. } => {
                write!(f, "drain for at most {drain:?}, stop")
            }
            Step::StopContainer { drain: None, .. } => f.write_str("stop"),
            Step::RenameContainer { to, .. } => write!(f, "rename to {to}"),
            Step::UpdateContainer { .. } => f.write_str("update"),
            Step::ConnectNetwork { network, .. } => write!(f, "connect to {network}"),
            Step::DisconnectNetwork { network, .. } => write!(f, "disconnect from {network}"),
            Step::WaitFor { condition, .. } => f.write_str(match condition {
                Condition::ServiceStarted => "wait until started",
                Condition::ServiceHealthy => "wait until healthy",
                Condition::ServiceCompletedSuccessfully => "wait until completed",
            }),
            Step::Monitor { duration, .. } => write!(f, "watch for {duration:?}"),
            Step::CheckFailures { containers, tolerated } => {
                write!(f, "check that at most {tolerated} of {} failed", containers.len())
            }
            Step::Pause { duration } => write!(f, "pause for {duration:?}"),
        }
    }
}

/// A plan in the making: steps may be ordered behind steps that come later in the list.
#[derive(Debug, Default)]
pub(super) struct Draft {
    steps: Vec<Planned>,
    before: Vec<BTreeMap<usize, Order>>,
    pub(super) problems: Vec<Problem>,
    pub(super) held: Vec<Problem>,
    pub(super) warnings: Vec<String>,
    pub(super) again: Option<SystemTime>,
}

impl Draft {
    /// Adds a step that needs all of `needs`, and returns its handle.
    pub(super) fn add(
        &mut self,
        planned: Planned,
        needs: impl IntoIterator<Item = usize>,
    ) -> usize {
        self.steps.push(planned);
        self.before.push(needs.into_iter().map(|step| (step, Order::Needs)).collect());
        self.steps.len() - 1
    }

    /// Orders `later` behind `earlier`; a need is never weakened.
    pub(super) fn order(&mut self, earlier: usize, later: usize, order: Order) {
        let known = self.before[later].entry(earlier).or_insert(order);
        if order == Order::Needs {
            *known = order;
        }
    }

    /// Lets `later` run when only `needed` succeeded, still behind all that it follows.
    pub(super) fn weaken(&mut self, later: usize, needed: usize) {
        for (earlier, order) in &mut self.before[later] {
            *order = if *earlier == needed { Order::Needs } else { Order::After };
        }
    }

    pub(super) fn step(&self, step: usize) -> &Step {
        &self.steps[step].step
    }

    pub(super) fn steps(&self) -> impl Iterator<Item = &Planned> {
        self.steps.iter()
    }

    /// Returns the services whose containers come up or change.
    pub(super) fn services(&self) -> BTreeSet<&ServiceName> {
        let starts = self.steps.iter().filter(|planned| {
            matches!(
                planned.step,
                Step::CreateContainer { .. }
                    | Step::StartContainer { .. }
                    | Step::UpdateContainer { .. }
            )
        });
        starts.filter_map(|planned| planned.service.as_ref()).collect()
    }

    /// Takes the steps of `services` out, and those of all whose steps need one of them: a service is
    /// brought to its end or not touched.
    pub(super) fn leave_out(&mut self, mut services: BTreeSet<ServiceName>) {
        let mut gone = BTreeSet::new();
        loop {
            let before = gone.len();
            for (step, planned) in self.steps.iter().enumerate() {
                let of_service = planned.service.as_ref().is_some_and(|s| services.contains(s));
                // It would only make room for what is left out itself.
                let for_service = matches!(&planned.cause, Cause::DependencyChanged { service } if services.contains(service));
                let needs_gone = self.before[step]
                    .iter()
                    .any(|(earlier, order)| *order == Order::Needs && gone.contains(earlier));
                if !(of_service || for_service || needs_gone) || !gone.insert(step) {
                    continue;
                }
                if !for_service {
                    services.extend(planned.service.clone());
                }
            }
            if gone.len() == before {
                break;
            }
        }
        self.retain(|step, _| !gone.contains(&step));
    }

    /// Takes all starts out, and the waits for them: what is made stays as made.
    pub(super) fn without_starts(&mut self) {
        self.retain(|_, planned| {
            let only_restarts =
                matches!(planned.cause, Cause::DependencyChanged { .. } | Cause::Unhealthy);
            !only_restarts
                && !matches!(
                    planned.step,
                    Step::StartContainer { .. }
                        | Step::StartNew { .. }
                        | Step::WaitFor { .. }
                        | Step::Monitor { .. }
                        | Step::CheckFailures { .. }
                        | Step::Pause { .. }
                )
        });
    }

    /// Keeps the steps that `keep` wants; what followed one that goes now follows what that one followed.
    fn retain(&mut self, keep: impl Fn(usize, &Planned) -> bool) {
        let kept: Vec<bool> =
            self.steps.iter().enumerate().map(|(step, planned)| keep(step, planned)).collect();
        for gone in (0..kept.len()).filter(|step| !kept[*step]) {
            let inherited = std::mem::take(&mut self.before[gone]);
            for before in &mut self.before {
                let Some(order) = before.remove(&gone) else { continue };
                for earlier in inherited.keys() {
                    before.entry(*earlier).or_insert(order);
                }
            }
        }
        let mut place = 0;
        let places: Vec<usize> = kept
            .iter()
            .map(|kept| {
                place += usize::from(*kept);
                place.saturating_sub(1)
            })
            .collect();
        let mut kept_before = kept.iter();
        self.before.retain(|_| kept_before.next().copied().unwrap_or_default());
        for before in &mut self.before {
            *before = before.iter().map(|(earlier, order)| (places[*earlier], *order)).collect();
        }
        let mut kept_steps = kept.iter();
        self.steps.retain(|_| kept_steps.next().copied().unwrap_or_default());
    }

    /// Numbers the steps: each behind all that come before it, else in the order of their adding.
    pub(super) fn finish(self) -> Plan {
        let mut waiting: Vec<usize> = self.before.iter().map(BTreeMap::len).collect();
        let mut followers = vec![Vec::new(); self.steps.len()];
        for (later, before) in self.before.iter().enumerate() {
            for earlier in before.keys() {
                followers[*earlier].push(later);
            }
        }
        let mut free: BTreeSet<usize> = waiting
            .iter()
            .enumerate()
            .filter(|(_, count)| **count == 0)
            .map(|(step, _)| step)
            .collect();
        let mut graph = DiGraph::with_capacity(self.steps.len(), 0);
        let mut steps: Vec<Option<Planned>> = self.steps.into_iter().map(Some).collect();
        let mut nodes = vec![NodeIndex::end(); steps.len()];
        while let Some(step) = free.pop_first() {
            let planned = steps[step].take().expect("a step becomes free once");
            nodes[step] = graph.add_node(planned);
            for (earlier, order) in &self.before[step] {
                graph.add_edge(nodes[*earlier], nodes[step], *order);
            }
            for later in &followers[step] {
                waiting[*later] -= 1;
                if waiting[*later] == 0 {
                    free.insert(*later);
                }
            }
        }
        assert!(steps.iter().all(Option::is_none), "BUG: the planner ordered steps in a circle");
        Plan {
            graph,
            problems: self.problems,
            held: self.held,
            warnings: self.warnings,
            again: self.again,
        }
    }
}
