//! Counters of the kernel beside cgroups': a network namespace's devices, and the machine's CPU time.

use std::collections::BTreeMap;
use std::fs;

/// Since the device came up; bytes, packets, errors and drops, as proc_pid_net(5) `dev` has them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Device {
    pub received: [u64; 4],
    pub sent: [u64; 4],
}

/// Returns the devices that process `pid` sees, without the loopback one; none when it is gone.
pub fn devices(pid: i32) -> BTreeMap<String, Device> {
    fs::read_to_string(format!("/proc/{pid}/net/dev"))
        .map(|text| parse_devices(&text))
        .unwrap_or_default()
}

fn parse_devices(text: &str) -> BTreeMap<String, Device> {
    // Two lines of titles, then `name: received×8 sent×8`.
    text.lines()
        .skip(2)
        .filter_map(|line| {
            let (name, numbers) = line.split_once(':')?;
            let numbers: Vec<u64> =
                numbers.split_whitespace().map_while(|word| word.parse().ok()).collect();
            let received = numbers.first_chunk()?;
            let sent = numbers.get(8..)?.first_chunk()?;
            Some((name.trim().to_owned(), Device { received: *received, sent: *sent }))
        })
        .filter(|(name, _)| name != "lo")
        .collect()
}

/// Returns the time that all CPUs were busy or idle, in nanoseconds: proc_stat(5), its first seven columns.
pub fn machine_cpu() -> u64 {
    /// USER_HZ is 100 on every platform of ours.
    const NANOSECONDS_PER_TICK: u64 = 10_000_000;
    let text = fs::read_to_string("/proc/stat").unwrap_or_default();
    let ticks: u64 = text
        .lines()
        .next()
        .into_iter()
        .flat_map(|line| line.split_whitespace().skip(1).take(7))
        .filter_map(|word| word.parse::<u64>().ok())
        .sum();
    ticks * NANOSECONDS_PER_TICK
}

/// Returns the bytes that files below `folder` take, each inode once. What vanishes meanwhile counts nothing.
pub fn folder_size(folder: &std::path::Path) -> u64 {
    use std::os::unix::fs::MetadataExt as _;
    let mut seen = std::collections::BTreeSet::new();
    let mut size = 0;
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let Ok(facts) = entry.metadata() else { continue };
            if facts.is_dir() {
                folders.push(entry.path());
            } else if facts.nlink() == 1 || seen.insert((facts.dev(), facts.ino())) {
                size += facts.len();
            }
        }
    }
    size
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_are_read_without_the_loopback() {
        let text = "Inter-|   Receive\n face |bytes\n    lo: 9 9 9 9 0 0 0 0 9 9 9 9 0 0 0 0\n  eth0: 1 2 3 4 0 0 0 0 5 6 7 8 0 0 0 0\n";
        let devices = parse_devices(text);
        assert_eq!(devices.len(), 1);
        assert_eq!(devices["eth0"], Device { received: [1, 2, 3, 4], sent: [5, 6, 7, 8] });
        assert!(machine_cpu() > 0);
    }
}
