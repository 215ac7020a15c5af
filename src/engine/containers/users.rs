//! Who a container's process is: `user[:group]` by the image's own /etc/passwd and /etc/group, as docker
//! reads them (moby/sys `user.GetExecUser`). The C library's `getpwnam` would load libraries of the host.

use std::io;

use super::layered::Root;
use crate::engine::error::EngineError;
use crate::engine::translate::Identity;

/// Bytes of a passwd or group file that we are willing to read.
const MAX_FILE: u64 = 4 << 20;
/// The highest id that docker takes.
const MAX_ID: u32 = i32::MAX.unsigned_abs();

/// A line of passwd(5).
struct User<'a> {
    name: &'a str,
    uid: u32,
    gid: u32,
    home: &'a str,
}

/// A line of group(5).
struct Group<'a> {
    name: &'a str,
    gid: u32,
    members: &'a str,
}

/// Returns the identity that `user` (`user[:group]`, empty: root) and `more` groups mean in `root`.
pub(crate) fn identify(root: &Root, user: &str, more: &[String]) -> Result<Identity, EngineError> {
    let read = |path: &str| -> Result<String, EngineError> {
        let content = root.read(path, MAX_FILE);
        let content = content.or_else(|error| match error.raw_os_error() {
            // Nothing that a container could read is there.
            Some(libc::ELOOP | libc::ENOTDIR) => Ok(None),
            _ => Err(error),
        });
        let content: Result<_, io::Error> = content;
        let content = content.map_err(EngineError::io(format!("read {path} of the container")))?;
        Ok(String::from_utf8_lossy(&content.unwrap_or_default()).into_owned())
    };
    from_files(&read("/etc/passwd")?, &read("/etc/group")?, user, more)
}

/// As [`identify`], for an exec in the running process `pid`.
pub(crate) fn identify_inside(
    pid: i32,
    user: &str,
    more: &[String],
) -> Result<Identity, EngineError> {
    let path = format!("/proc/{pid}/root");
    let root = Root::open(&[&path]).map_err(EngineError::io(format!("open {path}")))?;
    identify(&root, user, more)
}

fn from_files(
    passwd: &str,
    group: &str,
    user: &str,
    more: &[String],
) -> Result<Identity, EngineError> {
    let (user, asked_group) = user.split_once(':').unwrap_or((user, ""));
    let user = if user.is_empty() { "0" } else { user };
    let number: Option<u32> = user.parse().ok();
    let known = users(passwd).find(|known| known.name == user || number == Some(known.uid));
    let (uid, mut gid, home, name) = match (known, number) {
        (Some(known), _) => (known.uid, known.gid, known.home, Some(known.name)),
        (None, Some(uid)) => (uid, 0, "/", None),
        (None, None) => {
            let message = format!("unable to find user {user}: no matching entries in passwd file");
            return Err(EngineError::Invalid { message });
        }
    };
    let mut groups = Vec::new();
    if asked_group.is_empty() {
        let member = |known: &Group<'_>| known.members.split(',').any(|one| Some(one) == name);
        groups.extend(self::groups(group).filter(member).map(|known| known.gid));
    } else {
        gid = group_id(group, asked_group)?;
    }
    for word in more {
        groups.push(group_id(group, word)?);
    }
    if uid > MAX_ID || gid > MAX_ID {
        let message = format!("uids and gids must be in range 0-{MAX_ID}");
        return Err(EngineError::Invalid { message });
    }
    // The primary group is one of the others too, so that dropping it takes nothing away (CVE-2022-36109).
    let mut all = vec![gid];
    for one in groups {
        if !all.contains(&one) {
            all.push(one);
        }
    }
    Ok(Identity { uid, gid, groups: all, home: home.to_owned() })
}

fn group_id(group: &str, word: &str) -> Result<u32, EngineError> {
    let number: Option<u32> = word.parse().ok();
    let known = groups(group).find(|known| known.name == word || number == Some(known.gid));
    known.map(|known| known.gid).or(number).ok_or_else(|| EngineError::Invalid {
        message: format!("unable to find group {word}: no matching entries in group file"),
    })
}

fn users(passwd: &str) -> impl Iterator<Item = User<'_>> {
    passwd.lines().filter_map(|line| {
        let fields: Vec<&str> = line.trim().split(':').collect();
        let [name, _, uid, gid, _, home, ..] = fields[..] else { return None };
        Some(User { name, uid: uid.parse().ok()?, gid: gid.parse().ok()?, home })
    })
}

fn groups(group: &str) -> impl Iterator<Item = Group<'_>> {
    group.lines().filter_map(|line| {
        let fields: Vec<&str> = line.trim().split(':').collect();
        let [name, _, gid, ref rest @ ..] = fields[..] else { return None };
        let members = rest.first().copied().unwrap_or_default();
        Some(Group { name, gid: gid.parse().ok()?, members })
    })
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed step fails the test")]
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\n# a comment\nweb:x:100:101::/srv:/bin/false\n1:x:200:200::/one:\n";
    const GROUP: &str = "root:x:0:root\nbin:x:1:root,web\nweb:x:101:\naudio:x:29:web";

    fn look(user: &str) -> Result<(u32, u32, Vec<u32>, String), String> {
        let more: &[String] = &[];
        from_files(PASSWD, GROUP, user, more)
            .map(|found| (found.uid, found.gid, found.groups, found.home))
            .map_err(|error| error.to_string())
    }

    #[test]
    fn users_are_found_by_name_and_by_number() {
        assert_eq!(look("").unwrap(), (0, 0, vec![0, 1], "/root".into()));
        assert_eq!(look("web").unwrap(), (100, 101, vec![101, 1, 29], "/srv".into()));
        assert_eq!(look("100").unwrap(), look("web").unwrap());
        assert_eq!(look("web:bin").unwrap(), (100, 1, vec![1], "/srv".into()));
        assert_eq!(look("1234").unwrap(), (1234, 0, vec![0], "/".into()));
        assert_eq!(look("1234:5").unwrap(), (1234, 5, vec![5], "/".into()));
        assert_eq!(look("1").unwrap().0, 200, "a name of digits wins");
    }

    #[test]
    fn unknown_names_are_refused_in_dockers_words() {
        let message = "unable to find user nobody: no matching entries in passwd file";
        assert_eq!(look("nobody").unwrap_err(), message);
        let message = "unable to find group x: no matching entries in group file";
        assert_eq!(look("web:x").unwrap_err(), message);
        assert!(look("4294967295").is_err());
    }

    #[test]
    fn further_groups_are_added_once() {
        let found = from_files(PASSWD, GROUP, "web", &["audio".into(), "7".into()]).unwrap();
        assert_eq!(found.groups, [101, 1, 29, 7]);
    }

    #[test]
    fn files_are_read_through_layers_and_a_whiteout_hides_them() {
        let folder = tempfile::tempdir_in("/dev/shm").unwrap();
        let (top, low) = (folder.path().join("top"), folder.path().join("low"));
        for layer in [&top, &low] {
            std::fs::create_dir_all(layer.join("etc")).unwrap();
        }
        std::fs::write(low.join("etc/passwd"), "app:x:5:6::/app:").unwrap();
        let root = || Root::open(&[&top, &low]).unwrap();
        assert_eq!(identify(&root(), "app", &[]).unwrap().uid, 5);
        std::fs::write(top.join("etc/passwd"), "app:x:7:8::/app:").unwrap();
        assert_eq!(identify(&root(), "app", &[]).unwrap().uid, 7);
        std::fs::remove_file(top.join("etc/passwd")).unwrap();
        let path = top.join("etc/passwd");
        rustix::fs::mknodat(
            rustix::fs::CWD,
            &path,
            rustix::fs::FileType::CharacterDevice,
            rustix::fs::Mode::empty(),
            0,
        )
        .unwrap();
        assert!(identify(&root(), "app", &[]).is_err());
    }
}
