//! What a path in a container is, as `X-Docker-Container-Path-Stat` says it: JSON in base64.

use base64::Engine as _;
use jiff::Timestamp;
use serde_json::json;

use super::time;
use crate::engine::containers::files::PathStat;

/// Go's bits for what a file is besides its permissions (Go, `io/fs`, `FileMode`).
const KINDS: [(u32, u32); 6] = [
    (libc::S_IFDIR, 1 << 31),
    (libc::S_IFLNK, 1 << 27),
    (libc::S_IFBLK, 1 << 26),
    (libc::S_IFCHR, 1 << 26 | 1 << 21),
    (libc::S_IFIFO, 1 << 25),
    (libc::S_IFSOCK, 1 << 24),
];
const FLAGS: [(u32, u32); 3] =
    [(libc::S_ISUID, 1 << 23), (libc::S_ISGID, 1 << 22), (libc::S_ISVTX, 1 << 20)];

pub fn header(stat: &PathStat) -> String {
    let (seconds, nanoseconds) = stat.mtime;
    let nanoseconds = i32::try_from(nanoseconds).unwrap_or_default();
    let mtime = Timestamp::new(seconds, nanoseconds);
    let target = stat.link_target.as_deref().unwrap_or("".as_ref());
    let value = json!({
        "name": stat.name,
        "size": stat.size,
        "mode": go_mode(stat.mode),
        "mtime": mtime.map_or_else(|_| time::ZERO.to_owned(), |time| time.to_string()),
        "linkTarget": target.to_string_lossy(),
    });
    base64::engine::general_purpose::STANDARD.encode(value.to_string())
}

fn go_mode(mode: u32) -> u32 {
    let kind = KINDS.iter().find(|(kind, _)| mode & libc::S_IFMT == *kind);
    let flags = FLAGS.iter().filter(|(flag, _)| mode & flag != 0);
    (mode & 0o777) | kind.map_or(0, |(_, bits)| *bits) | flags.map(|(_, bit)| bit).sum::<u32>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_are_gos() {
        assert_eq!(go_mode(libc::S_IFREG | 0o644), 0o644);
        assert_eq!(go_mode(libc::S_IFDIR | 0o1777), 0x8000_0000 | 0x0010_0000 | 0o777);
        assert_eq!(go_mode(libc::S_IFLNK | 0o777), 0x0800_0000 | 0o777);
        assert_eq!(go_mode(libc::S_IFREG | 0o6755), 0x00c0_0000 | 0o755);
        assert_eq!(go_mode(libc::S_IFCHR | 0o620), 0x0420_0000 | 0o620);
    }
}
