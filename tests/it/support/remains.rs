//! What a test that panicked leaves of its engine, ended by force: the engine itself may be what broke.

use std::fs;
use std::path::Path;
use std::process::Command;

use bargee::engine::paths::Paths;
use rustix::process::{Pid, Signal, kill_process};

use super::engine::{PATIENCE, wait_for};

/// Ends every process of the engine whose root and run folder lie in `folder`, and all that it has in the kernel but
/// mounts.
pub fn end_all(folder: &Path) {
    let paths = Paths::new(folder.join("root"), folder.join("run"));
    // A keeper brings its engine back, and an engine its containers.
    let ended = wait_for(PATIENCE, || {
        let helpers = processes(folder);
        helpers.iter().chain(&inside(&paths)).for_each(|pid| {
            // It fails when it has ended meanwhile.
            let _ended = kill_process(*pid, Signal::KILL);
        });
        helpers.is_empty().then_some(())
    });
    if ended.is_none() {
        eprintln!("processes of {} are left", folder.display());
    }
    let emptied = wait_for(PATIENCE, || {
        let mut all = cgroups(&paths);
        // Those below come later in the list.
        all.reverse();
        all.iter().for_each(|cgroup| drop(fs::remove_dir(cgroup)));
        cgroups(&paths).is_empty().then_some(())
    });
    if emptied.is_none() {
        eprintln!("cgroups of {} are left", folder.display());
    }
    let links = fs::read_dir("/sys/class/net").into_iter().flatten().flatten();
    for link in links.filter_map(|entry| entry.file_name().into_string().ok()) {
        if ["bb", "bv"].iter().any(|kind| link.starts_with(&format!("{kind}{}", paths.id()))) {
            drop(Command::new("ip").args(["link", "del", &link]).output());
        }
    }
    drop(Command::new("nft").args(["delete", "table", "inet", &paths.nft_table()]).output());
}

/// Our own processes: all of them name the folder.
fn processes(folder: &Path) -> Vec<Pid> {
    let word = folder.to_str().expect("a plain path");
    let entries = fs::read_dir("/proc").expect("proc is mounted").flatten();
    let named = entries.filter_map(|entry| {
        let line = fs::read(entry.path().join("cmdline")).ok()?;
        let pid = entry.file_name().to_str()?.parse().ok()?;
        String::from_utf8_lossy(&line).contains(word).then(|| Pid::from_raw(pid))?
    });
    named.collect()
}

/// Processes in the root's cgroups.
fn inside(paths: &Paths) -> Vec<Pid> {
    let lists = cgroups(paths).into_iter().map(|cgroup| cgroup.join("cgroup.procs"));
    let texts = lists.filter_map(|list| fs::read_to_string(list).ok()).collect::<String>();
    texts.lines().filter_map(|line| Pid::from_raw(line.parse().ok()?)).collect()
}

/// The root's cgroups of all hierarchies, each before those below it.
fn cgroups(paths: &Paths) -> Vec<std::path::PathBuf> {
    let parent = paths.cgroup_parent();
    let tops = fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten();
    let tops = tops.map(|entry| entry.path()).chain(["/sys/fs/cgroup".into()]);
    let mut all: Vec<_> = tops.map(|top| top.join(parent.trim_start_matches('/'))).collect();
    all.retain(|cgroup| cgroup.is_dir());
    let mut next = 0;
    while let Some(cgroup) = all.get(next) {
        let below = fs::read_dir(cgroup).into_iter().flatten().flatten();
        let below: Vec<_> = below.map(|entry| entry.path()).filter(|path| path.is_dir()).collect();
        all.extend(below);
        next += 1;
    }
    all
}
