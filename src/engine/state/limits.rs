//! What the kernel said of a container's limits right after we wrote them: the kernel rounds, so that only
//! a difference from this is drift.

use std::collections::BTreeMap;

use rusqlite::{Connection, OptionalExtension, params};

use super::StateError;
use super::database::{decode, encode};
use crate::spec::container::Resources;

/// The limits of one run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    pub incarnation: u64,
    /// What was asked for when they were read.
    pub resources: Resources,
    /// By file of the cgroup.
    pub told: BTreeMap<String, String>,
}

pub fn put(connection: &Connection, container: &str, limits: &Limits) -> Result<(), StateError> {
    let resources = encode("limits", &limits.resources)?;
    let told = encode("limits", &limits.told)?;
    let incarnation = i64::try_from(limits.incarnation).unwrap_or(i64::MAX);
    connection
        .execute(
            "INSERT OR REPLACE INTO limits (container, incarnation, resources, told) VALUES (?,?,?,?)",
            params![container, incarnation, resources, told],
        )
        .map(drop)
        .map_err(StateError::on("write a container's limits"))
}

pub fn get(connection: &Connection, container: &str) -> Result<Option<Limits>, StateError> {
    let row: Option<(i64, String, String)> = connection
        .prepare_cached("SELECT incarnation, resources, told FROM limits WHERE container = ?")
        .and_then(|mut statement| {
            statement
                .query_row([container], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
                .optional()
        })
        .map_err(StateError::on("read a container's limits"))?;
    row.map(|(incarnation, resources, told)| {
        Ok(Limits {
            incarnation: u64::try_from(incarnation).unwrap_or_default(),
            resources: decode("limits", &resources)?,
            told: decode("limits", &told)?,
        })
    })
    .transpose()
}
