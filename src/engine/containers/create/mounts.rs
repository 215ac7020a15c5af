//! Which mounts a container has: the asker's, those of other containers, and the image's volumes. Pure, but for
//! random names.

use std::path::Path;

use crate::engine::error::EngineError;
use crate::engine::state::volumes::Volume;
use crate::engine::volumes::{CreateVolume, check_name, wanted};
use crate::spec::container::{Mount, MountKind};
use crate::spec::value::mount::clean;

/// Adds to `mounts` what they leave open and names anonymous volumes. Returns a row for each volume, to be made
/// where there is none.
pub(super) fn complete(
    mounts: &mut Vec<Mount>,
    inherited: Vec<Mount>,
    of_image: &[String],
) -> Result<Vec<Volume>, EngineError> {
    for mount in &mut *mounts {
        mount.target = target(&mount.target)?;
    }
    if let Some(twice) = repeated(mounts) {
        return Err(invalid(format!("Duplicate mount point: {twice}")));
    }
    for mount in inherited {
        if !covers(mounts, &mount.target) {
            mounts.push(mount);
        }
    }
    for path in of_image {
        let target = target(&format!("/{path}"))?;
        if !covers(mounts, &target) {
            let kind = MountKind::Volume { name: None, nocopy: false, subpath: String::new() };
            mounts.push(Mount { target, read_only: false, kind });
        }
    }
    let mut rows = Vec::new();
    for mount in mounts {
        if let MountKind::Volume { name, subpath, .. } = &mut mount.kind {
            let row = wanted(CreateVolume { name: name.clone(), ..CreateVolume::default() })?;
            check_subpath(subpath)?;
            check_name(&row.name)?;
            *name = Some(row.name.clone());
            rows.push(row);
        }
    }
    rows.dedup_by(|one, other| one.name == other.name);
    Ok(rows)
}

/// Splits `container[:ro|rw]` of `--volumes-from`.
pub(super) fn split_from(word: &str) -> Result<(&str, bool), EngineError> {
    match word.rsplit_once(':') {
        None => Ok((word, false)),
        Some((name, mode)) => {
            let mut read_only = false;
            for mode in mode.split(',') {
                match mode {
                    "ro" => read_only = true,
                    // SELinux labels, as on a host without it.
                    "rw" | "z" | "Z" | "" => {}
                    _ => return Err(invalid(format!("invalid mode: {mode}"))),
                }
            }
            Ok((name, read_only))
        }
    }
}

/// Returns the mounts that another container takes over; what lives in memory stays its owner's.
pub(super) fn inherit(mounts: &[Mount], read_only: bool) -> Vec<Mount> {
    let shared = mounts.iter().filter(|mount| !matches!(mount.kind, MountKind::Tmpfs { .. }));
    shared
        .map(|mount| {
            let mut mount = mount.clone();
            mount.read_only |= read_only;
            if let MountKind::Volume { nocopy, .. } = &mut mount.kind {
                *nocopy = true;
            }
            mount
        })
        .collect()
}

pub(super) fn volume_names(mounts: &[Mount]) -> impl Iterator<Item = &str> {
    mounts.iter().filter_map(|mount| match &mount.kind {
        MountKind::Volume { name, .. } => name.as_deref(),
        _ => None,
    })
}

/// Refuses a bind whose source must be there and is not, in docker's words.
pub(in crate::engine::containers) fn check_source(source: &str) -> Result<(), EngineError> {
    if Path::new(source).symlink_metadata().is_ok() {
        return Ok(());
    }
    Err(invalid(format!(
        "invalid mount config for type \"bind\": bind source path does not exist: {source}"
    )))
}

fn target(path: &str) -> Result<String, EngineError> {
    if !path.starts_with('/') {
        return Err(invalid(format!(
            "invalid mount config: invalid mount path: '{path}' mount path must be absolute"
        )));
    }
    let target = clean(path);
    if target == "/" {
        return Err(invalid("invalid volume specification: destination can't be '/'".into()));
    }
    Ok(target)
}

fn check_subpath(subpath: &str) -> Result<(), EngineError> {
    let inside = !subpath.starts_with('/') && subpath.split('/').all(|part| part != "..");
    if inside {
        return Ok(());
    }
    Err(invalid(format!("volume subpath \"{subpath}\" must be a relative path inside the volume")))
}

fn covers(mounts: &[Mount], target: &str) -> bool {
    mounts.iter().any(|mount| mount.target == target)
}

fn repeated(mounts: &[Mount]) -> Option<&str> {
    let again = |(at, mount): (usize, &Mount)| covers(&mounts[..at], &mount.target);
    let at = mounts.iter().enumerate().position(again)?;
    Some(&mounts[at].target)
}

fn invalid(message: String) -> EngineError {
    EngineError::Invalid { message }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed step fails the test")]
    use super::*;

    fn volume(name: Option<&str>, target: &str) -> Mount {
        let name = name.map(str::to_owned);
        let kind = MountKind::Volume { name, nocopy: false, subpath: String::new() };
        Mount { target: target.into(), read_only: false, kind }
    }

    #[test]
    fn the_images_volumes_are_anonymous_where_no_mount_covers_them() {
        let mut mounts = vec![volume(Some("data"), "/data/"), volume(None, "/cache")];
        let image = ["/data".to_owned(), "/logs".to_owned()];
        let rows = complete(&mut mounts, vec![volume(Some("other"), "/more")], &image).unwrap();
        let targets: Vec<_> = mounts.iter().map(|mount| mount.target.as_str()).collect();
        assert_eq!(targets, ["/data", "/cache", "/more", "/logs"]);
        let anonymous: Vec<_> = rows.iter().map(|row| row.anonymous).collect();
        assert_eq!(anonymous, [false, true, false, true]);
        let names: Vec<_> = volume_names(&mounts).collect();
        assert_eq!(names, rows.iter().map(|row| row.name.as_str()).collect::<Vec<_>>());
    }

    #[test]
    fn wrong_targets_are_refused() {
        let refused = |mounts: &[Mount]| {
            complete(&mut mounts.to_vec(), Vec::new(), &[]).unwrap_err().to_string()
        };
        assert!(refused(&[volume(None, "data")]).contains("must be absolute"));
        assert!(refused(&[volume(None, "/a/..")]).contains("can't be '/'"));
        let twice = [volume(None, "/a"), volume(Some("bb"), "/a/")];
        assert_eq!(refused(&twice), "Duplicate mount point: /a");
        assert!(refused(&[volume(Some("../x"), "/a")]).contains("invalid characters"));
    }

    #[test]
    fn volumes_of_another_container_may_be_taken_read_only() {
        assert_eq!(split_from("web:ro").unwrap(), ("web", true));
        assert_eq!(split_from("web").unwrap(), ("web", false));
        assert!(split_from("web:x").is_err());
        let taken = inherit(&[volume(Some("data"), "/data")], true);
        assert!(taken[0].read_only);
    }

    #[test]
    fn a_missing_source_is_told_in_dockers_words() {
        let message = check_source("/nowhere/at/all").unwrap_err().to_string();
        assert_eq!(
            message,
            "invalid mount config for type \"bind\": bind source path does not exist: /nowhere/at/all"
        );
    }
}
