//! Behaviour of cgroups on temporary folders and, where this host lets us, on its kernel.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use oci_spec::runtime::LinuxResources;

use super::v2::weight_of_shares;
use super::{Birth, Cgroup, CgroupError, Roots};
use crate::runtime::devices;

/// Says why a test looks at nothing here.
#[expect(clippy::print_stderr, reason = "a skipped test says so")]
fn skipped<T>(why: &str) -> Option<T> {
    eprintln!("skipped: {why}");
    None
}

fn resources(json: &str) -> LinuxResources {
    serde_json::from_str(json).unwrap()
}

/// Makes files with the texts that a kernel would put there.
fn fill(dir: &Path, files: &[(&str, &str)]) {
    fs::create_dir_all(dir).unwrap();
    for (name, text) in files {
        fs::write(dir.join(name), text).unwrap();
    }
}

fn read(dir: &Path, name: &str) -> String {
    fs::read_to_string(dir.join(name)).unwrap().trim().to_owned()
}

#[test]
fn controllers_are_taken_back_at_once() {
    let mount = tempfile::tempdir().unwrap();
    let dir = mount.path().join("unit");
    fill(mount.path(), &[("cgroup.controllers", "")]);
    fill(&dir, &[("cgroup.subtree_control", "cpu memory pids\n")]);
    let roots = Roots::detect(mount.path()).unwrap();
    Cgroup::open(&roots, "/unit").unwrap().take_controllers_back().unwrap();
    assert_eq!(read(&dir, "cgroup.subtree_control"), "-cpu -memory -pids");
}

/// A cgroup below this host's own mounts that removes itself, with its parent, in any case.
struct OnHost {
    roots: Roots,
    parent: String,
}

impl OnHost {
    /// Returns `None` where cgroups cannot be created, for instance without root.
    fn new(name: &str) -> Option<OnHost> {
        if !nix::unistd::geteuid().is_root() {
            return skipped("root makes cgroups");
        }
        let roots = Roots::detect(Path::new("/sys/fs/cgroup")).unwrap();
        let parent = format!("bargee-test-{}-{name}", std::process::id());
        let host = OnHost { roots, parent };
        Cgroup::create(&host.roots, &host.parent, None).unwrap();
        Some(host)
    }

    fn create(&self, json: &str) -> Cgroup {
        let path = format!("/{}/web", self.parent);
        Cgroup::create(&self.roots, &path, Some(&resources(json))).unwrap()
    }

    /// Starts a shell that joins the cgroup by itself, then runs `script`.
    fn shell(&self, cgroup: &Cgroup, script: &str) -> Child {
        self.shell_that_reads(cgroup, script, Stdio::null())
    }

    fn shell_that_reads(&self, cgroup: &Cgroup, script: &str, input: Stdio) -> Child {
        let mut joins = String::new();
        for dir in cgroup.dirs() {
            let file = if dir.join("tasks").exists() { "tasks" } else { "cgroup.procs" };
            joins.push_str(&format!("echo 0 > {}/{file} || exit 99\n", dir.display()));
        }
        Command::new("/bin/sh")
            .args(["-c", &format!("{joins}echo in\n{script}")])
            .stdin(input)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap()
    }
}

impl Drop for OnHost {
    fn drop(&mut self) {
        if let Ok(cgroup) = Cgroup::open(&self.roots, &self.parent) {
            let _ = cgroup.kill();
            let _ = cgroup.remove();
        }
    }
}

/// Waits until the shell is inside.
fn await_join(child: &mut Child) {
    use std::io::Read;
    let mut line = [0; 3];
    child.stdout.as_mut().unwrap().read_exact(&mut line).unwrap();
    assert_eq!(&line, b"in\n");
}

/// Lets a shell read a line.
fn go_on(child: &mut Child) {
    use std::io::Write;
    child.stdin.as_mut().unwrap().write_all(b"\n").unwrap();
}

#[test]
fn version_2_is_told_by_its_controllers_file() {
    let mount = tempfile::tempdir().unwrap();
    fill(mount.path(), &[("cgroup.controllers", "cpu memory"), ("cgroup.procs", "")]);
    let roots = Roots::detect(mount.path()).unwrap();
    assert_eq!(roots.v2_mount(), Some(mount.path()));
    assert!(!roots.is_hybrid());
}

#[test]
fn a_hybrid_host_has_both_and_links_count_once() {
    let mount = tempfile::tempdir().unwrap();
    fill(&mount.path().join("unified"), &[("cgroup.controllers", ""), ("cgroup.procs", "")]);
    fill(&mount.path().join("cpu,cpuacct"), &[("cgroup.procs", "")]);
    std::os::unix::fs::symlink("cpu,cpuacct", mount.path().join("cpu")).unwrap();
    let roots = Roots::detect(mount.path()).unwrap();
    assert!(roots.is_hybrid());
    assert_eq!(roots.v1_mounts().len(), 1);
    assert_eq!(roots.v1_controller("cpuacct"), roots.v1_controller("cpu"));
}

#[test]
fn a_folder_without_hierarchies_is_refused() {
    let mount = tempfile::tempdir().unwrap();
    assert!(matches!(Roots::detect(mount.path()), Err(CgroupError::NoHierarchy { .. })));
}

#[test]
fn a_path_never_leaves_its_root() {
    let mount = tempfile::tempdir().unwrap();
    fill(&mount.path().join("pids"), &[("cgroup.procs", "")]);
    let roots = Roots::detect(mount.path()).unwrap();
    for path in ["", "/", "../x", "/a/../../x", "."] {
        let made = Cgroup::create(&roots, path, None);
        assert!(matches!(made, Err(CgroupError::BadPath { .. })), "{path:?}");
    }
}

#[test]
fn an_occupied_cgroup_is_not_taken_over() {
    let mount = tempfile::tempdir().unwrap();
    fill(&mount.path().join("pids"), &[("cgroup.procs", "")]);
    fill(&mount.path().join("pids/web"), &[("cgroup.procs", "17\n")]);
    let roots = Roots::detect(mount.path()).unwrap();
    let made = Cgroup::create(&roots, "web", None);
    assert!(matches!(made, Err(CgroupError::Occupied { .. })));
}

#[test]
fn version_2_swap_is_the_sum_less_the_memory() {
    let mount = tempfile::tempdir().unwrap();
    let controllers = ("cgroup.controllers", "cpu memory pids io");
    fill(mount.path(), &[controllers, ("cgroup.subtree_control", "cpu memory pids io")]);
    let web = mount.path().join("web");
    let empty =
        ["memory.max", "memory.swap.max", "memory.low", "cpu.max", "cpu.weight", "pids.max"];
    fill(&web, &[controllers]);
    fill(&web, &empty.map(|name| (name, "")));
    let roots = Roots::detect(mount.path()).unwrap();
    let cgroup = Cgroup::create(
        &roots,
        "web",
        Some(&resources(
            r#"{"memory":{"limit":1000,"swap":1500,"reservation":500},
            "cpu":{"shares":1024,"quota":50000,"period":100000},"pids":{"limit":-1},
            "rdma":{"mlx5_1":{"hcaHandles":3}}}"#,
        )),
    )
    .unwrap();
    assert_eq!(read(&web, "memory.max"), "1000");
    assert_eq!(read(&web, "memory.swap.max"), "500");
    assert_eq!(read(&web, "memory.low"), "500");
    assert_eq!(read(&web, "cpu.max"), "50000 100000");
    assert_eq!(read(&web, "cpu.weight"), "100");
    assert_eq!(read(&web, "pids.max"), "max");
    let keys: Vec<_> = cgroup.unenforced().iter().map(|wish| wish.key).collect();
    assert_eq!(keys, ["rdma"]);
}

#[test]
fn a_unified_key_is_a_file_of_the_cgroup() {
    let mount = tempfile::tempdir().unwrap();
    fill(mount.path(), &[("cgroup.controllers", ""), ("cgroup.subtree_control", "")]);
    let roots = Roots::detect(mount.path()).unwrap();
    let hostile = resources(r#"{"unified":{"../cgroup.subtree_control":"+cpu"}}"#);
    let made = Cgroup::create(&roots, "web", Some(&hostile));
    assert!(matches!(made, Err(CgroupError::BadUnifiedKey { .. })));
    assert!(!mount.path().join("web").exists(), "a failed create leaves nothing");
}

#[test]
fn joining_writes_zero_to_every_hierarchy() {
    let mount = tempfile::tempdir().unwrap();
    for name in ["cpu", "pids"] {
        fill(&mount.path().join(name), &[("cgroup.procs", "")]);
        fill(&mount.path().join(name).join("web"), &[("tasks", "")]);
    }
    let unified = mount.path().join("unified");
    fill(&unified, &[("cgroup.controllers", "")]);
    fill(&unified.join("web"), &[("cgroup.procs", "")]);
    let cgroup = Cgroup::open(&Roots::detect(mount.path()).unwrap(), "/web").unwrap();
    cgroup.join(Birth::Inside).unwrap();
    assert_eq!(read(&mount.path().join("cpu/web"), "tasks"), "0");
    assert_eq!(read(&mount.path().join("pids/web"), "tasks"), "0");
    assert_eq!(read(cgroup.v2_dir().unwrap(), "cgroup.procs"), "", "it was born there");
    cgroup.join(Birth::Outside).unwrap();
    assert_eq!(read(cgroup.v2_dir().unwrap(), "cgroup.procs"), "0");
}

#[test]
fn shares_become_weights_as_in_runc() {
    let weights = [0, 2, 3, 512, 1024, 2048, 262_144, 1_000_000].map(weight_of_shares);
    assert_eq!(weights[..2], [1, 1]);
    assert_eq!(weights[4], 100, "the defaults meet");
    assert_eq!(weights[6..], [10_000, 10_000]);
    assert!(weights.is_sorted());
}

#[test]
fn limits_reach_the_kernel_and_can_be_raised_and_lowered() {
    let Some(host) = OnHost::new("limits") else { return };
    let limits = r#"{"memory":{"limit":67108864,"swap":134217728},
        "cpu":{"shares":512,"quota":50000,"period":100000},"pids":{"limit":77}}"#;
    let cgroup = host.create(limits);
    let stats = cgroup.stats().unwrap();
    if cgroup.v1_dir("memory").is_none() {
        skipped::<()>("the memory controller is not on v1");
        return;
    }
    assert_eq!(stats.memory_limit, Some(67_108_864));
    assert_eq!(stats.pids_limit, Some(77));
    let memory = cgroup.v1_dir("memory").unwrap();
    if memory.join("memory.memsw.limit_in_bytes").exists() {
        assert_eq!(read(&memory, "memory.memsw.limit_in_bytes"), "134217728");
    }
    assert_eq!(read(&cgroup.v1_dir("cpu").unwrap(), "cpu.shares"), "512");
    assert_eq!(read(&cgroup.v1_dir("cpu").unwrap(), "cpu.cfs_quota_us"), "50000");
    for bytes in [536_870_912, 33_554_432] {
        let memory = format!(r#"{{"memory":{{"limit":{bytes},"swap":{bytes}}}}}"#);
        cgroup.update(&resources(&memory)).unwrap();
        assert_eq!(cgroup.stats().unwrap().memory_limit, Some(bytes));
    }
    cgroup.remove().unwrap();
    assert!(cgroup.dirs().iter().all(|dir| !dir.exists()));
    cgroup.remove().unwrap();
}

/// The exit code says which of the two can be opened.
const OPENS: &str = "null=0; kmsg=0\n(: < /dev/null) && null=1\n(: < /dev/kmsg) 2>&- && kmsg=2\nexit $((null + kmsg))";

fn with_devices(rules: Vec<oci_spec::runtime::LinuxDeviceCgroup>) -> LinuxResources {
    let mut wanted = LinuxResources::default();
    wanted.set_devices(Some(rules));
    wanted
}

#[test]
fn denied_devices_cannot_be_opened() {
    let Some(host) = OnHost::new("devices") else { return };
    let path = format!("{}/web", host.parent);
    let wanted = with_devices(devices::default_rules());
    let cgroup = Cgroup::create(&host.roots, &path, Some(&wanted)).unwrap();
    assert_eq!(host.shell(&cgroup, OPENS).wait().unwrap().code(), Some(1));
    cgroup.remove().unwrap();
}

#[test]
fn device_rules_of_version_2_are_set_and_replaced() {
    let Some(host) = OnHost::new("devices-2") else { return };
    if host.roots.v2.is_none() {
        skipped::<()>("this host has no cgroup v2 tree");
        return;
    }
    // As on a host without the controller of version 1.
    let roots = Roots { v1: Default::default(), ..host.roots.clone() };
    let path = format!("{}/web", host.parent);
    let rules = devices::default_rules();
    let cgroup = Cgroup::create(&roots, &path, Some(&with_devices(rules.clone()))).unwrap();
    assert_eq!(host.shell(&cgroup, OPENS).wait().unwrap().code(), Some(1));
    // Had the first program stayed, it would deny still.
    let mut more = rules;
    let kmsg = r#"{"allow":true,"type":"c","major":1,"minor":11,"access":"r"}"#;
    more.push(serde_json::from_str(kmsg).unwrap());
    cgroup.update(&with_devices(more)).unwrap();
    assert_eq!(host.shell(&cgroup, OPENS).wait().unwrap().code(), Some(3));
    cgroup.remove().unwrap();
}

#[test]
fn one_that_holds_a_process_gives_no_controller_until_it_went_below() {
    let Some(host) = OnHost::new("busy") else { return };
    let Some(dir) = host.roots.v2_mount().map(|mount| mount.join(&host.parent)) else {
        skipped::<()>("this host has no cgroup v2 tree");
        return;
    };
    if read(&dir, "cgroup.controllers").is_empty() {
        skipped::<()>("this host's controllers are those of version 1");
        return;
    }
    let parent = Cgroup::open(&host.roots, &host.parent).unwrap();
    let below = dir.join("own/cgroup.procs");
    let script = format!("read line; echo 0 > {} || exit 98; echo in; read line", below.display());
    let mut child = host.shell_that_reads(&parent, &script, Stdio::piped());
    await_join(&mut child);
    Cgroup::ensure(&host.roots, &format!("{}/own", host.parent)).unwrap();
    assert_eq!(
        (&*read(&dir, "cgroup.subtree_control"), &*read(&dir, "cgroup.type")),
        ("", "domain")
    );
    go_on(&mut child);
    await_join(&mut child);
    let limited = host.create(r#"{"memory":{"limit":16777216},"cpu":{"quota":50000}}"#);
    assert_eq!(limited.unenforced(), []);
    limited.remove().unwrap();
    go_on(&mut child);
    assert_eq!(child.wait().unwrap().code(), Some(0));
    // As it came.
    parent.take_controllers_back().unwrap();
    assert_eq!(read(&dir, "cgroup.subtree_control"), "");
}

#[test]
fn running_out_of_memory_is_counted() {
    let Some(host) = OnHost::new("oom") else { return };
    let cgroup = host.create(r#"{"memory":{"limit":16777216,"swap":16777216}}"#);
    if !cgroup.unenforced().is_empty() {
        skipped::<()>("this host cannot limit swap");
        return;
    }
    assert_eq!(cgroup.oom_count().unwrap(), 0);
    // tail keeps all of a pipe's last bytes in memory; the shell reports its death as 128 + SIGKILL.
    let hog = "head -c 100000000 /dev/zero | tail -c 100000000 > /dev/null";
    let mut child = host.shell(&cgroup, hog);
    assert_eq!(child.wait().unwrap().code(), Some(137));
    assert!(cgroup.oom_count().unwrap() >= 1);
    cgroup.remove().unwrap();
}

#[test]
fn a_frozen_cgroup_is_killed_and_removed_at_once() {
    let Some(host) = OnHost::new("kill") else { return };
    let cgroup = host.create("{}");
    let mut child = host.shell(&cgroup, "sleep 100 & sleep 100");
    await_join(&mut child);
    assert!(!cgroup.processes().unwrap().is_empty());
    cgroup.freeze().unwrap();
    cgroup.thaw().unwrap();
    cgroup.freeze().unwrap();
    cgroup.kill().unwrap();
    cgroup.remove().unwrap();
    let status = child.wait().unwrap();
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(libc::SIGKILL));
    assert!(cgroup.dirs().iter().all(|dir| !dir.exists()));
}
