//! Subnets that something else on the machine took while no bridge of ours held them: an engine without containers
//! leaves no bridge behind.

use ipnet::IpNet;

use super::choose::{self, Taken};
use super::rows::has_bridge;
use crate::engine::core::Engine;
use crate::engine::error::EngineError;
use crate::engine::state::networks::{self as table, Network};
use crate::engine::state::{Durability, StateError};

impl Engine {
    /// Gives networks without a bridge another subnet where theirs is taken, unless the user chose it. Nothing runs on
    /// them, and stopped containers get their addresses anew. The caller has the turn to choose.
    pub(super) async fn avoid_taken_subnets(&self) -> Result<(), EngineError> {
        let links = self.networks.driver.links().await?;
        let routes = self.networks.driver.routes().await?;
        let all = self.read(table::list)?;
        for row in all.iter().filter(|row| has_bridge(row)) {
            if links.contains(&self.bridge_name(row)) || !is_taken(row, &routes) {
                continue;
            }
            if !row.spec.subnets.is_empty() {
                tracing::warn!(network = row.name, "a route of the host leads to its subnet too");
                continue;
            }
            self.choose_again(row, &routes)?;
        }
        Ok(())
    }

    fn choose_again(&self, row: &Network, routes: &[IpNet]) -> Result<(), EngineError> {
        self.write(Durability::Process, |tx| {
            table::delete(tx, &row.id)?;
            let others = table::list(tx)?.into_iter().flat_map(|other| other.subnets);
            let mut subnets: Vec<IpNet> = others.map(|other| other.subnet).collect();
            subnets.extend(routes);
            let pools = &self.config.network.pools;
            let taken = Taken { subnets: &subnets, pools, root_id: &self.networks.root_id };
            let chosen = choose::subnets(&row.spec, &taken)?;
            let names: Vec<String> = chosen.iter().map(|one| one.subnet.to_string()).collect();
            let subnets = names.join(", ");
            tracing::warn!(network = row.name, subnets, "its subnet is taken; it has another one");
            table::insert(tx, &Network { subnets: chosen, ..row.clone() }, routes)?;
            Ok::<_, EngineError>(())
        })
        .or_else(|error| match error {
            // The pools are used up, or the disk is full: as before, and whoever connects is told.
            EngineError::Invalid { .. } | EngineError::State(StateError::Full { .. }) => {
                tracing::warn!(network = row.name, error = error.full(), "its subnet is taken");
                Ok(())
            }
            error => Err(error),
        })
    }
}

fn is_taken(row: &Network, routes: &[IpNet]) -> bool {
    row.subnets.iter().any(|one| {
        routes.iter().any(|route| one.subnet.contains(route) || route.contains(&one.subnet))
    })
}
