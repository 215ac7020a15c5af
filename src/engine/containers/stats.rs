//! What a container uses, and which processes are in it.

use std::collections::BTreeSet;
use std::sync::Arc;

use tokio::process::Command;

use super::lifecycle::is_up;
use crate::engine::core::Engine;
use crate::engine::error::EngineError;
use crate::engine::state::containers::Container;
use crate::runtime::cgroup::Stats;

/// One process of a container, as `ps` prints it: titles and rows of the host's `ps`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Top {
    pub titles: Vec<String>,
    pub processes: Vec<Vec<String>>,
}

impl Engine {
    /// Reads the container's cgroup once; all is zero when it doesn't run.
    pub fn container_stats(self: &Arc<Self>, word: &str) -> Result<Stats, EngineError> {
        let handle = self.container(word)?;
        let Some(cgroup) = self.cgroup(&handle.row()).filter(|_| is_up(handle.row().phase)) else {
            return Ok(Stats::default());
        };
        let doing = format!("read what container {} uses", handle.id());
        cgroup.stats().map_err(|error| EngineError::io(doing)(std::io::Error::other(error)))
    }

    /// Lists its processes with ps(1)'s arguments (default `-ef`).
    pub async fn container_top(
        self: &Arc<Self>,
        word: &str,
        arguments: &[String],
    ) -> Result<Top, EngineError> {
        let handle = self.container(word)?;
        if !is_up(handle.row().phase) {
            let message = format!("container {} is not running", handle.id());
            return Err(EngineError::Conflict { message });
        }
        let pids = self.pids(&handle.row())?;
        self.announce(&handle.row(), "top", &[]);
        let default = ["-ef".to_owned()];
        let arguments = if arguments.is_empty() { &default } else { arguments };
        let output = Command::new("ps")
            .args(arguments)
            .output()
            .await
            .map_err(EngineError::io("list processes with the host's `ps`"))?;
        if !output.status.success() {
            // Its usage follows.
            let text = String::from_utf8_lossy(&output.stderr);
            let first = text.lines().next().unwrap_or_default();
            return Err(EngineError::Invalid { message: format!("ps: {first}") });
        }
        parse(&String::from_utf8_lossy(&output.stdout), &pids).ok_or_else(|| EngineError::Invalid {
            message: "Couldn't find PID field in ps output".to_owned(),
        })
    }

    fn pids(&self, row: &Container) -> Result<BTreeSet<i32>, EngineError> {
        let Some(cgroup) = self.cgroup(row) else { return Ok(BTreeSet::new()) };
        let pids = cgroup.processes().map_err(|error| {
            EngineError::io(format!("list the processes of {}", row.id))(std::io::Error::other(
                error,
            ))
        })?;
        Ok(pids.into_iter().collect())
    }
}

/// Keeps the rows of these processes; `None` when there is no PID column. The last column may hold spaces.
fn parse(text: &str, pids: &BTreeSet<i32>) -> Option<Top> {
    let mut lines = text.lines();
    let titles: Vec<String> = lines.next()?.split_whitespace().map(str::to_owned).collect();
    let place = titles.iter().position(|title| title == "PID")?;
    let row = |line: &str| -> Option<Vec<String>> {
        let words: Vec<&str> = line.split_whitespace().collect();
        let pid: i32 = words.get(place)?.parse().ok()?;
        if !pids.contains(&pid) {
            return None;
        }
        let last = titles.len() - 1;
        let mut fields: Vec<String> =
            words.iter().take(last).map(|word| (*word).to_owned()).collect();
        fields.push(words.get(last..).unwrap_or_default().join(" "));
        Some(fields)
    };
    Some(Top { processes: lines.filter_map(row).collect(), titles })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_containers_processes_are_listed_and_a_command_keeps_its_spaces() {
        let text = "UID PID CMD\nroot 1 /sbin/init\nroot 7 sh -c  sleep 5\n";
        let top = parse(text, &BTreeSet::from([7])).expect("there is a PID column");
        assert_eq!(top.titles, ["UID", "PID", "CMD"]);
        assert_eq!(top.processes, [["root", "7", "sh -c sleep 5"]]);
        assert_eq!(parse("UID CMD\nroot init\n", &BTreeSet::new()), None);
    }
}
