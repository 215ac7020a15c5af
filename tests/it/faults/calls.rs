//! What a waiting system call is, who makes it, and how it fails in real life.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::filter::{Call, WATCHED};

/// A call that counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Point {
    pub role: &'static str,
    /// In words, such as `openat /x/y`.
    pub text: String,
    pub errno: i32,
    /// The process, not the thread.
    pub process: i32,
}

impl std::fmt::Display for Point {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.role, self.text)
    }
}

/// Which processes are looked at.
#[derive(Debug)]
pub struct Subject {
    pub program: PathBuf,
    /// The engine's folders and the kernel's file systems: writes elsewhere, to logs say, are not looked at.
    pub folder: PathBuf,
}

impl Subject {
    /// Returns what a call is, unless it is of no interest.
    pub fn point(&self, call: &Call) -> Option<Point> {
        let thread = PathBuf::from(format!("/proc/{}", call.pid));
        let role = self.role(&thread)?;
        let name = WATCHED.iter().find(|(number, _)| *number == i64::from(call.number))?.1;
        let (what, errno) = self.describe(name, &thread, call)?;
        let process = status(&thread, "Tgid")?;
        Some(Point { role, text: format!("{name} {what}").trim_end().to_owned(), errno, process })
    }

    /// A fresh child of a shim is on its way to be an init, and one of an init to be the user's program.
    fn role(&self, thread: &Path) -> Option<&'static str> {
        if fs::read_link(thread.join("exe")).ok()? != self.program {
            return None;
        }
        let role = role_word(thread)?;
        let parent = PathBuf::from(format!("/proc/{}", status(thread, "PPid")?));
        if role == "__shim" && is_first_of_its_namespace(&parent) {
            return Some(PROGRAM);
        }
        Some(match (role.as_str(), role_word(&parent).as_deref()) {
            ("__shim", Some("__shim")) => "init",
            ("engine", Some("engine")) => "child",
            ("__shim", _) => "shim",
            ("__netd", _) => "netd",
            ("engine", _) => "engine",
            _ => return None,
        })
    }

    fn describe(&self, name: &str, thread: &Path, call: &Call) -> Option<(String, i32)> {
        let argument = |at: usize| call.arguments[at];
        let path = |at: usize| text_at(thread, argument(at));
        let opened = |at: usize| {
            let link = thread.join("fd").join(argument(at).to_string());
            fs::read_link(link).ok().map(|path| path.to_string_lossy().into_owned())
        };
        Some(match name {
            "openat" => {
                let creates = argument(2) & u64::from(libc::O_CREAT.cast_unsigned()) != 0;
                let path = path(1).filter(|path| !path.starts_with("/dev/"))?;
                (path, if creates { libc::ENOSPC } else { libc::EIO })
            }
            "write" => {
                let file = opened(0)?;
                let ours = self.folder.join("root");
                let run = self.folder.join("run");
                let counts = Path::new(&file).starts_with(ours)
                    || Path::new(&file).starts_with(run)
                    || file.starts_with("/sys/")
                    || file.starts_with("/proc/");
                (Some(file).filter(|_| counts)?, libc::EIO)
            }
            "pwrite" | "fsync" | "fdatasync" | "syncfs" | "ftruncate" | "fchmod" | "fchown"
            | "fsetxattr" => (opened(0).unwrap_or_default(), libc::EIO),
            "mkdir" | "symlink" | "link" | "setxattr" => (path(0)?, libc::ENOSPC),
            "mkdirat" | "mknodat" => (path(1)?, libc::ENOSPC),
            "symlinkat" => (path(2)?, libc::ENOSPC),
            "linkat" => (path(3)?, libc::ENOSPC),
            "rmdir" | "unlink" | "rename" | "chmod" | "chown" => (path(0)?, libc::EIO),
            "unlinkat" | "renameat" | "renameat2" | "fchmodat" | "fchownat" => {
                (path(1)?, libc::EIO)
            }
            "mount" => (path(1)?, libc::ENOMEM),
            "umount" | "fsopen" | "pivot_root" => (path(0)?, libc::ENOMEM),
            "fsconfig" => (path(2).unwrap_or_default(), libc::ENOMEM),
            "move_mount" => (path(3)?, libc::ENOMEM),
            "open_tree" => (path(1)?, libc::ENOMEM),
            "fsmount" | "mount_setattr" => (String::new(), libc::ENOMEM),
            "setns" => (opened(0).unwrap_or_default(), libc::ENOMEM),
            "unshare" => (format!("{:#x}", argument(0)), libc::ENOMEM),
            "clone3" => {
                let flags = number_at(thread, argument(0))?;
                // A thread is none of it.
                let is_process = flags & u64::from(libc::CLONE_THREAD.cast_unsigned()) == 0;
                (is_process.then(|| format!("{flags:#x}"))?, libc::EAGAIN)
            }
            "fork" | "vfork" => (String::new(), libc::EAGAIN),
            "execve" => (path(0)?, libc::ENOMEM),
            "execveat" => (path(1)?, libc::ENOMEM),
            "socket" => (format!("{} {}", argument(0), argument(2)), libc::EMFILE),
            "bind" => (String::new(), libc::ENOMEM),
            "connect" => (String::new(), libc::EAGAIN),
            "sendto" => {
                let destination = number_at(thread, argument(4)).unwrap_or_default() & 0xffff;
                let is_netlink = destination == u64::from(libc::AF_NETLINK.cast_unsigned());
                (is_netlink.then(|| "netlink".to_owned())?, libc::ENOBUFS)
            }
            "pidfd_open" => (String::new(), libc::EMFILE),
            "inotify_add_watch" => (path(1)?, libc::ENOSPC),
            "sethostname" => (String::new(), libc::EPERM),
            "setresuid" => (String::new(), libc::EAGAIN),
            _ => return None,
        })
    }
}

/// The role of a child of `init: true`, which may do no more than execute what the user wants.
pub const PROGRAM: &str = "program";

/// PID 1 of some other namespace than the reader's, pid_namespaces(7).
fn is_first_of_its_namespace(process: &Path) -> bool {
    let text = fs::read_to_string(process.join("status")).unwrap_or_default();
    let pids = text.lines().find_map(|line| line.strip_prefix("NSpid:")).unwrap_or_default();
    let pids: Vec<&str> = pids.split_whitespace().collect();
    pids.len() > 1 && pids.last() == Some(&"1")
}

/// The first argument behind the program's name.
fn role_word(process: &Path) -> Option<String> {
    let line = fs::read(process.join("cmdline")).ok()?;
    let word = line.split(|byte| *byte == 0).nth(1)?;
    String::from_utf8(word.to_vec()).ok()
}

fn status(process: &Path, field: &str) -> Option<i32> {
    let text = fs::read_to_string(process.join("status")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'))?;
    line.trim().parse().ok()
}

fn memory(thread: &Path, address: u64, length: usize) -> Option<Vec<u8>> {
    let mut bytes = vec![0; length];
    let memory = File::open(thread.join("mem")).ok()?;
    // A string may end right before an unmapped page.
    let read = memory.read_at(&mut bytes, address).ok()?;
    bytes.truncate(read);
    Some(bytes)
}

fn text_at(thread: &Path, address: u64) -> Option<String> {
    let bytes = memory(thread, address, 512)?;
    let text = bytes.split(|byte| *byte == 0).next()?;
    Some(String::from_utf8_lossy(text).into_owned())
}

fn number_at(thread: &Path, address: u64) -> Option<u64> {
    memory(thread, address, 8)?.try_into().ok().map(u64::from_ne_bytes)
}
