//! Mounts in compose's short notation: `[source:]target[:options]`. A source that begins with `/`, `.` or
//! `~` is a path of the host, any other a named volume.

use super::InvalidValue;
use crate::spec::container::{Mount, MountKind};

const RULE: &str =
    "expected [source:]/target[:options], as in data:/var/lib/data or ./conf:/etc/app:ro";

/// Folders that relative and home paths of the host start from.
#[derive(Debug, Clone, Copy)]
pub struct Folders<'a> {
    pub working_dir: &'a str,
    /// What a leading `~` stands for, when it is known.
    pub home: Option<&'a str>,
}

impl Folders<'_> {
    /// Returns `path` absolute and without `.`, `..` and doubled slashes. `None` for `~` without a home.
    pub fn absolute(&self, path: &str) -> Option<String> {
        if let Some(rest) = path.strip_prefix('~') {
            let home = self.home.filter(|_| rest.is_empty() || rest.starts_with('/'))?;
            return Some(clean(&format!("{home}/{rest}")));
        }
        if path.starts_with('/') {
            return Some(clean(path));
        }
        Some(clean(&format!("{}/{path}", self.working_dir)))
    }
}

/// Removes `.`, `..` and empty parts of an absolute path, by its text alone.
pub fn clean(path: &str) -> String {
    let mut parts = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            other => parts.push(other),
        }
    }
    format!("/{}", parts.join("/"))
}

/// Reads a mount. Words that change nothing here (`rw`, `cached`, `z` …) are accepted.
pub fn parse(text: &str, folders: Folders<'_>) -> Result<Mount, InvalidValue> {
    let invalid = |rule| InvalidValue::new(text, "mount", rule);
    let parts: Vec<&str> = text.split(':').collect();
    let (source, target, options) = match parts[..] {
        [target] => (None, target, ""),
        [source, target] => (Some(source), target, ""),
        [source, target, options] => (Some(source), target, options),
        _ => return Err(invalid(RULE)),
    };
    if !target.starts_with('/') || source == Some("") {
        return Err(invalid(RULE));
    }
    let (mut read_only, mut nocopy, mut propagation) = (false, false, String::new());
    for option in options.split(',').filter(|option| !option.is_empty()) {
        match option {
            "ro" => read_only = true,
            "nocopy" | "volume-nocopy" => nocopy = true,
            "shared" | "rshared" | "slave" | "rslave" | "private" | "rprivate" => {
                option.clone_into(&mut propagation)
            }
            "rw" | "z" | "Z" | "cached" | "delegated" | "consistent" | "copy" | "rbind" => {}
            _ => {
                return Err(invalid(
                    "the options are ro, rw, nocopy, z, Z, cached and the words of propagation",
                ));
            }
        }
    }
    let kind = match source {
        Some(path) if path.starts_with(['/', '.', '~']) => {
            let source =
                folders.absolute(path).ok_or_else(|| invalid("there is no home folder for ~"))?;
            MountKind::Bind { source, create_host_path: true, recursive: true, propagation }
        }
        Some(name) if name.contains('/') => {
            return Err(invalid("a relative path begins with ./ or ../"));
        }
        name => MountKind::Volume { name: name.map(str::to_owned), nocopy, subpath: String::new() },
    };
    Ok(Mount { target: clean(target), read_only, kind })
}

/// Reads a `tmpfs:` entry: `path[:options]`, the options in the words of mount(8) for tmpfs(5).
pub fn parse_tmpfs(text: &str) -> Result<Mount, InvalidValue> {
    let invalid = |rule| InvalidValue::new(text, "tmpfs", rule);
    let (target, words) = text.split_once(':').unwrap_or((text, ""));
    if !target.starts_with('/') {
        return Err(invalid("expected /path[:options], as in /run:size=64m,mode=1770"));
    }
    let (mut size, mut mode, mut options, mut read_only) = (0, None, Vec::new(), false);
    for word in words.split(',').filter(|word| !word.is_empty()) {
        match word.split_once('=') {
            Some(("size", value)) => size = super::size::parse(value)?,
            Some(("mode", value)) => {
                let bits = u32::from_str_radix(value, 8).ok().filter(|bits| *bits <= 0o7777);
                mode = Some(bits.ok_or_else(|| invalid("the mode is an octal number"))?);
            }
            None if word == "ro" => read_only = true,
            None if word == "rw" => {}
            _ => options.push(word.to_owned()),
        }
    }
    Ok(Mount { target: clean(target), read_only, kind: MountKind::Tmpfs { size, mode, options } })
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    const FOLDERS: Folders<'_> = Folders { working_dir: "/srv/app", home: Some("/home/me") };

    fn source(text: &str) -> String {
        match parse(text, FOLDERS).unwrap().kind {
            MountKind::Bind { source, .. } => source,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn host_paths_become_absolute() {
        assert_eq!(source("./a/../b:/x"), "/srv/app/b");
        assert_eq!(source("..:/x"), "/srv");
        assert_eq!(source("~/c:/x"), "/home/me/c");
        assert_eq!(source("/etc//hosts:/x:ro"), "/etc/hosts");
        assert!(parse("~/c:/x", Folders { home: None, ..FOLDERS }).is_err());
    }

    #[test]
    fn a_word_is_a_volume_and_a_target_alone_an_anonymous_one() {
        let mount = parse("data:/var/lib/:ro,nocopy", FOLDERS).unwrap();
        assert!(mount.read_only);
        assert_eq!(mount.target, "/var/lib");
        assert_eq!(
            mount.kind,
            MountKind::Volume { name: Some("data".into()), nocopy: true, subpath: String::new() }
        );
        assert!(matches!(
            parse("/data", FOLDERS).unwrap().kind,
            MountKind::Volume { name: None, .. }
        ));
    }

    #[test]
    fn bad_mounts_are_refused() {
        for text in ["", "data", "a:b", "a:/b:bad", ":/b", "a/b:/c", "a:/b:ro:rw"] {
            assert!(parse(text, FOLDERS).is_err(), "{text}");
        }
    }

    #[test]
    fn a_tmpfs_has_size_mode_and_further_words() {
        let mount = parse_tmpfs("/run:size=1m,mode=1770,uid=5,ro").unwrap();
        let kind =
            MountKind::Tmpfs { size: 1 << 20, mode: Some(0o1770), options: vec!["uid=5".into()] };
        assert_eq!(mount, Mount { target: "/run".into(), read_only: true, kind });
        assert!(parse_tmpfs("run").is_err() && parse_tmpfs("/a:mode=9").is_err());
    }
}
