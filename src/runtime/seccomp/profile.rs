//! The default profile: docker's allow-list (moby/profiles, 2026) as data, and a few calls fewer.
//!
//! Not in it: `io_uring`, vsock and kernel-crypto sockets, and i386's `socketcall`, whose arguments no filter can
//! see. Only the native architecture is listed, so 32-bit and x32 calls kill the process; for a 386 image add
//! `Arch::ScmpArchX86` to the profile.

use oci_spec::runtime::{
    Capability, LinuxSeccomp, LinuxSeccompAction, LinuxSeccompArgBuilder, LinuxSeccompOperator,
    LinuxSyscall,
};

/// Calls that any program may make.
const ALLOWED: &str = "\
    _llseek _newselect accept accept4 access adjtimex alarm arch_prctl bind brk cachestat capget \
    capset chdir chmod chown chown32 clock_adjtime clock_adjtime64 clock_getres \
    clock_getres_time64 clock_gettime clock_gettime64 clock_nanosleep clock_nanosleep_time64 close \
    close_range connect copy_file_range creat dup dup2 dup3 epoll_create epoll_create1 epoll_ctl \
    epoll_ctl_old epoll_pwait epoll_pwait2 epoll_wait epoll_wait_old eventfd eventfd2 execve \
    execveat exit exit_group faccessat faccessat2 fadvise64 fadvise64_64 fallocate fanotify_mark \
    fchdir fchmod fchmodat fchmodat2 fchown fchown32 fchownat fcntl fcntl64 fdatasync fgetxattr \
    flistxattr flock fork fremovexattr fsetxattr fstat fstat64 fstatat64 fstatfs fstatfs64 fsync \
    ftruncate ftruncate64 futex futex_requeue futex_time64 futex_wait futex_waitv futex_wake \
    futimesat get_robust_list get_thread_area getcpu getcwd getdents getdents64 getegid getegid32 \
    geteuid geteuid32 getgid getgid32 getgroups getgroups32 getitimer getpeername getpgid getpgrp \
    getpid getppid getpriority getrandom getresgid getresgid32 getresuid getresuid32 getrlimit \
    getrusage getsid getsockname getsockopt gettid gettimeofday getuid getuid32 getxattr \
    getxattrat inotify_add_watch inotify_init inotify_init1 inotify_rm_watch io_cancel io_destroy \
    io_getevents io_pgetevents io_pgetevents_time64 io_setup io_submit ioctl ioprio_get ioprio_set \
    ipc kill landlock_add_rule landlock_create_ruleset landlock_restrict_self lchown lchown32 \
    lgetxattr link linkat listen listmount listxattr listxattrat llistxattr lremovexattr lseek \
    lsetxattr lstat lstat64 madvise map_shadow_stack membarrier memfd_create memfd_secret mincore \
    mkdir mkdirat mknod mknodat mlock mlock2 mlockall mmap mmap2 modify_ldt mprotect mq_getsetattr \
    mq_notify mq_open mq_timedreceive mq_timedreceive_time64 mq_timedsend mq_timedsend_time64 \
    mq_unlink mremap mseal msgctl msgget msgrcv msgsnd msync munlock munlockall munmap \
    name_to_handle_at nanosleep newfstatat open openat openat2 pause pidfd_open pidfd_send_signal \
    pipe pipe2 pkey_alloc pkey_free pkey_mprotect poll ppoll ppoll_time64 prctl pread64 preadv \
    preadv2 prlimit64 process_mrelease process_vm_readv process_vm_writev pselect6 pselect6_time64 \
    ptrace pwrite64 pwritev pwritev2 read readahead readlink readlinkat readv recvfrom recvmmsg \
    recvmmsg_time64 recvmsg remap_file_pages removexattr removexattrat rename renameat renameat2 \
    restart_syscall rmdir rseq rt_sigaction rt_sigpending rt_sigprocmask rt_sigqueueinfo \
    rt_sigreturn rt_sigsuspend rt_sigtimedwait rt_sigtimedwait_time64 rt_tgsigqueueinfo \
    sched_get_priority_max sched_get_priority_min sched_getaffinity sched_getattr sched_getparam \
    sched_getscheduler sched_rr_get_interval sched_rr_get_interval_time64 sched_setaffinity \
    sched_setattr sched_setparam sched_setscheduler sched_yield seccomp select semctl semget semop \
    semtimedop semtimedop_time64 sendfile sendfile64 sendmmsg sendmsg sendto set_robust_list \
    set_thread_area set_tid_address setfsgid setfsgid32 setfsuid setfsuid32 setgid setgid32 \
    setgroups setgroups32 setitimer setpgid setpriority setregid setregid32 setresgid setresgid32 \
    setresuid setresuid32 setreuid setreuid32 setrlimit setsid setsockopt setuid setuid32 setxattr \
    setxattrat shmat shmctl shmdt shmget shutdown sigaltstack signalfd signalfd4 sigprocmask \
    sigreturn socketpair splice stat stat64 statfs statfs64 statmount statx symlink symlinkat sync \
    sync_file_range syncfs sysinfo tee tgkill time timer_create timer_delete timer_getoverrun \
    timer_gettime timer_gettime64 timer_settime timer_settime64 timerfd_create timerfd_gettime \
    timerfd_gettime64 timerfd_settime timerfd_settime64 times tkill truncate truncate64 ugetrlimit \
    umask uname unlink unlinkat uretprobe utime utimensat utimensat_time64 utimes vfork vmsplice \
    wait4 waitid waitpid write writev";

/// Calls that are of use only with a capability.
const BY_CAPABILITY: [(Capability, &str); 14] = [
    (Capability::DacReadSearch, "open_by_handle_at"),
    (
        Capability::SysAdmin,
        "bpf clone clone3 fanotify_init fsconfig fsmount fsopen fspick lookup_dcookie \
         lsm_get_self_attr lsm_list_modules lsm_set_self_attr mount mount_setattr move_mount open_tree \
         perf_event_open quotactl quotactl_fd setdomainname sethostname setns syslog umount umount2 \
         unshare",
    ),
    (Capability::SysBoot, "reboot"),
    (Capability::SysChroot, "chroot"),
    (Capability::SysModule, "delete_module init_module finit_module"),
    (Capability::SysPacct, "acct"),
    (
        Capability::SysPtrace,
        "kcmp pidfd_getfd process_madvise process_vm_readv process_vm_writev ptrace",
    ),
    (Capability::SysRawio, "iopl ioperm"),
    (Capability::SysTime, "settimeofday stime clock_settime clock_settime64"),
    (Capability::SysTtyConfig, "vhangup"),
    (Capability::SysNice, "get_mempolicy mbind set_mempolicy set_mempolicy_home_node"),
    (Capability::Syslog, "syslog"),
    (Capability::Bpf, "bpf"),
    (Capability::Perfmon, "perf_event_open"),
];

/// `personality(2)`: Linux, Linux32, both with `UNAME26`, and the query.
const PERSONALITIES: [u64; 5] = [0x0, 0x8, 0x2_0000, 0x2_0008, 0xffff_ffff];

/// The first family that `socket` refuses below the listed ones: `AF_ALG`.
const AF_ALG: u64 = 38;

/// Families above `AF_ALG` that stay open (linux/socket.h): NFC, KCM, QIPCRTR, SMC, XDP, MCTP; 40 is vsock.
///
/// Docker says "greater than 40" instead. The kernel uses the low 32 bits of the argument only, so a program that
/// sets a high bit passes that comparison and gets vsock; equality has no such hole.
const HIGH_FAMILIES: [u64; 6] = [39, 41, 42, 43, 44, 45];

/// `CLONE_NEW*` of namespaces (clone(2)): cgroup, ipc, net, mount, pid, user, uts.
const NAMESPACE_FLAGS: u64 = 0x7e02_0000;

/// Builds the default profile for a container with these capabilities.
pub fn default_profile(caps: &[Capability]) -> LinuxSeccomp {
    let mut rules = vec![allow(ALLOWED)];
    rules.extend(
        BY_CAPABILITY
            .iter()
            .filter(|(capability, _)| caps.contains(capability))
            .map(|(_, names)| allow(names)),
    );
    rules.push(allow_if("socket", LinuxSeccompOperator::ScmpCmpLt, AF_ALG, None));
    for family in HIGH_FAMILIES {
        rules.push(allow_if("socket", LinuxSeccompOperator::ScmpCmpEq, family, None));
    }
    for personality in PERSONALITIES {
        rules.push(allow_if("personality", LinuxSeccompOperator::ScmpCmpEq, personality, None));
    }
    if !caps.contains(&Capability::SysAdmin) {
        let masked = LinuxSeccompOperator::ScmpCmpMaskedEq;
        rules.push(allow_if("clone", masked, NAMESPACE_FLAGS, Some(0)));
        // A filter cannot see clone3's flags, which lie in memory; ENOSYS makes libraries use clone.
        let mut clone3 = rule("clone3", LinuxSeccompAction::ScmpActErrno);
        clone3.set_errno_ret(Some(libc::ENOSYS.unsigned_abs()));
        rules.push(clone3);
    }
    let mut profile = LinuxSeccomp::default();
    profile.set_default_action(LinuxSeccompAction::ScmpActErrno);
    profile.set_default_errno_ret(Some(libc::EPERM.unsigned_abs()));
    profile.set_syscalls(Some(rules));
    profile
}

fn rule(names: &str, action: LinuxSeccompAction) -> LinuxSyscall {
    let mut rule = LinuxSyscall::default();
    rule.set_names(names.split_whitespace().map(str::to_owned).collect());
    rule.set_action(action);
    rule
}

fn allow(names: &str) -> LinuxSyscall {
    rule(names, LinuxSeccompAction::ScmpActAllow)
}

/// Allows a call by its first argument.
fn allow_if(
    name: &str,
    op: LinuxSeccompOperator,
    value: u64,
    value_two: Option<u64>,
) -> LinuxSyscall {
    let mut arg = LinuxSeccompArgBuilder::default().index(0_usize).value(value).op(op);
    if let Some(value_two) = value_two {
        arg = arg.value_two(value_two);
    }
    let arg = arg.build().expect("every field of the condition is set above");
    let mut rule = allow(name);
    rule.set_args(Some(vec![arg]));
    rule
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use std::thread;

    use super::super::{compile, install};
    use super::*;

    fn errno(result: std::io::Result<std::os::fd::OwnedFd>) -> Option<i32> {
        result.err().and_then(|error| error.raw_os_error())
    }

    fn socket(family: u32) -> std::io::Result<std::os::fd::OwnedFd> {
        let family = rustix::net::AddressFamily::from_raw(u16::try_from(family).unwrap());
        Ok(rustix::net::socket(family, rustix::net::SocketType::STREAM, None)?)
    }

    #[test]
    fn dangerous_calls_are_in_no_list() {
        for name in ["io_uring_setup", "socketcall", "socket", "mount", "unshare", "keyctl", "bpf"]
        {
            assert!(!ALLOWED.split_whitespace().any(|allowed| allowed == name), "{name}");
        }
    }

    #[test]
    fn the_kernel_takes_the_default_profile_and_obeys_it() {
        let program = compile(&default_profile(&[])).unwrap();
        // A filter without TSYNC binds one thread, and goes with it.
        thread::spawn(move || {
            if !nix::unistd::geteuid().is_root() {
                // Without CAP_SYS_ADMIN or no-new-privileges the kernel refuses every filter (seccomp(2)).
                return;
            }
            install(&program, &[]).unwrap();
            assert_eq!(errno(socket(38)), Some(libc::EPERM), "AF_ALG");
            assert_eq!(errno(socket(40)), Some(libc::EPERM), "AF_VSOCK");
            assert!(socket(1).is_ok(), "AF_UNIX");
            let unshared = nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWUTS);
            assert_eq!(unshared, Err(nix::errno::Errno::EPERM));
            assert!(std::fs::read("/proc/self/status").is_ok());
        })
        .join()
        .unwrap();
    }
}
