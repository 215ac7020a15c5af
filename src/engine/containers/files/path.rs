//! A path as `cp` gives it, read as docker reads it: absolute, without `.` and `..`, and with the meaning of a slash
//! or a dot at its end. Pure.

use std::path::{Path, PathBuf};

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct AskedPath {
    /// Without `.` and `..`.
    pub(super) clean: PathBuf,
    /// What the path calls itself: its last name, `.` or `/`.
    pub(super) base: String,
    /// It ends with `/` or `/.`, so it means a folder, and a link there is followed.
    pub(super) is_folder: bool,
}

impl AskedPath {
    pub(super) fn new(text: &str) -> Self {
        let mut names: Vec<&str> = Vec::new();
        for name in text.split('/') {
            match name {
                "" | "." => {}
                ".." => drop(names.pop()),
                name => names.push(name),
            }
        }
        let is_dot = text == "." || text.ends_with("/.");
        let base = match names.last() {
            _ if is_dot => ".",
            Some(name) => name,
            None => "/",
        };
        Self {
            clean: Path::new("/").join(names.iter().collect::<PathBuf>()),
            base: base.to_owned(),
            is_folder: is_dot || text.ends_with('/'),
        }
    }

    /// What the names of an archive of it begin with.
    pub(super) fn prefix(&self) -> &str {
        if self.base == "/" { "" } else { &self.base }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_read_as_docker_reads_them() {
        let read = |text: &str| {
            let path = AskedPath::new(text);
            (path.clean.display().to_string(), path.base, path.is_folder)
        };
        assert_eq!(read("/etc/passwd"), ("/etc/passwd".into(), "passwd".into(), false));
        assert_eq!(read("etc//x/../passwd"), ("/etc/passwd".into(), "passwd".into(), false));
        assert_eq!(read("/etc/"), ("/etc".into(), "etc".into(), true));
        assert_eq!(read("/etc/."), ("/etc".into(), ".".into(), true));
        assert_eq!(read("/"), ("/".into(), "/".into(), true));
        assert_eq!(read("../../.."), ("/".into(), "/".into(), false));
        assert_eq!(AskedPath::new("/").prefix(), "");
    }
}
