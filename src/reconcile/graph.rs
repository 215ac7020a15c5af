//! `depends_on` as a graph: cycles, and the order of starts and stops.

use std::collections::{BTreeMap, BTreeSet};

use petgraph::Direction;
use petgraph::algo::tarjan_scc;
use petgraph::graph::{DiGraph, NodeIndex};
use petgraph::visit::Dfs;

use super::desired::Desired;
use crate::spec::name::ServiceName;

/// Services that wait for each other.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("services depend on each other: {}", services.iter().map(ServiceName::as_str).collect::<Vec<_>>().join(", "))]
pub struct Cycle {
    pub services: Vec<ServiceName>,
}

/// Who depends on whom; an edge leads from a service to its dependency.
#[derive(Debug, Clone)]
pub struct Dependencies<'a> {
    graph: DiGraph<&'a ServiceName, ()>,
    nodes: BTreeMap<&'a ServiceName, NodeIndex>,
}

impl<'a> Dependencies<'a> {
    /// Returns the graph of `desired`; dependencies that it does not have are left out.
    pub fn of(desired: &'a Desired) -> Self {
        let pairs =
            desired.services.iter().map(|(name, service)| (name, service.depends_on.keys()));
        Self::from_pairs(pairs)
    }

    /// Returns the graph of services and the names of what each depends on.
    pub fn from_pairs<D>(services: impl Iterator<Item = (&'a ServiceName, D)> + Clone) -> Self
    where
        D: Iterator<Item = &'a ServiceName>,
    {
        let mut graph = DiGraph::new();
        let nodes: BTreeMap<&ServiceName, NodeIndex> =
            services.clone().map(|(name, _)| (name, graph.add_node(name))).collect();
        for (name, dependencies) in services {
            for dependency in dependencies {
                if let Some(node) = nodes.get(dependency) {
                    graph.update_edge(nodes[name], *node, ());
                }
            }
        }
        Self { graph, nodes }
    }

    /// Returns every service after all that it depends on, by name where the graph leaves a choice.
    pub fn start_order(&self) -> Result<Vec<&'a ServiceName>, Cycle> {
        let mut waiting = vec![0; self.graph.node_count()];
        let mut free = BTreeSet::new();
        for (name, node) in &self.nodes {
            waiting[node.index()] = self.graph.neighbors(*node).count();
            if waiting[node.index()] == 0 {
                free.insert(*name);
            }
        }
        let mut order = Vec::with_capacity(self.graph.node_count());
        while let Some(name) = free.pop_first() {
            order.push(name);
            for dependent in self.graph.neighbors_directed(self.nodes[name], Direction::Incoming) {
                waiting[dependent.index()] -= 1;
                if waiting[dependent.index()] == 0 {
                    free.insert(self.graph[dependent]);
                }
            }
        }
        if order.len() == self.nodes.len() { Ok(order) } else { Err(self.cycle()) }
    }

    /// Returns every service before all that it depends on.
    pub fn stop_order(&self) -> Result<Vec<&'a ServiceName>, Cycle> {
        let mut order = self.start_order()?;
        order.reverse();
        Ok(order)
    }

    /// Returns `services` and all that they need.
    pub fn with_dependencies(&self, services: &BTreeSet<ServiceName>) -> BTreeSet<&'a ServiceName> {
        let mut found = BTreeSet::new();
        for (_, start) in self.nodes.iter().filter(|(name, _)| services.contains(**name)) {
            let mut walk = Dfs::new(&self.graph, *start);
            while let Some(node) = walk.next(&self.graph) {
                found.insert(self.graph[node]);
            }
        }
        found
    }

    fn cycle(&self) -> Cycle {
        let mut cycles: Vec<Vec<ServiceName>> = tarjan_scc(&self.graph)
            .into_iter()
            .filter(|part| part.len() > 1 || self.graph.contains_edge(part[0], part[0]))
            .map(|part| {
                let mut names: Vec<ServiceName> =
                    part.into_iter().map(|node| self.graph[node].clone()).collect();
                names.sort();
                names
            })
            .collect();
        cycles.sort();
        Cycle { services: cycles.into_iter().next().unwrap_or_default() }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn name(text: &str) -> ServiceName {
        ServiceName::try_from(text).unwrap()
    }

    #[test]
    fn a_service_starts_after_and_stops_before_its_dependencies() {
        let [web, db, cache] = [name("web"), name("db"), name("cache")];
        let pairs = [(&web, vec![&db, &cache]), (&db, vec![]), (&cache, vec![&db])];
        let graph = Dependencies::from_pairs(
            pairs.iter().map(|(name, needs)| (*name, needs.iter().copied())),
        );
        assert_eq!(graph.start_order().unwrap(), [&db, &cache, &web]);
        assert_eq!(graph.stop_order().unwrap(), [&web, &cache, &db]);
        assert_eq!(
            graph.with_dependencies(&BTreeSet::from([cache.clone()])),
            BTreeSet::from([&cache, &db])
        );
    }

    #[test]
    fn a_cycle_names_its_services_only() {
        let [a, b, c] = [name("a"), name("b"), name("c")];
        let pairs = [(&a, vec![&b]), (&b, vec![&a]), (&c, vec![&a])];
        let graph = Dependencies::from_pairs(
            pairs.iter().map(|(name, needs)| (*name, needs.iter().copied())),
        );
        assert_eq!(
            graph.start_order().unwrap_err().to_string(),
            "services depend on each other: a, b"
        );
    }
}
