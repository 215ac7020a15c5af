//! Mount options of `config.json` (OCI runtime spec, "Linux mount options") parsed into flags. Pure.

/// What a list of options asks for.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Options {
    pub(crate) bind: Option<Bind>,
    /// `MOUNT_ATTR_*` to set and to clear, mount_setattr(2).
    pub(crate) set: u64,
    pub(crate) clear: u64,
    /// Of `set`, those that hold for submounts too.
    pub(crate) recursive_set: u64,
    /// `MS_SHARED`, `MS_SLAVE`, `MS_PRIVATE`, `MS_UNBINDABLE`.
    pub(crate) propagation: u64,
    pub(crate) propagation_recursive: bool,
    /// For the filesystem itself.
    pub(crate) data: Vec<(String, Option<String>)>,
}

/// A bind mount, of one mount or of all below it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Bind {
    One,
    Recursive,
}

pub(crate) const READ_ONLY: u64 = 0x1;
const NO_SUID: u64 = 0x2;
const NO_DEV: u64 = 0x4;
const NO_EXEC: u64 = 0x8;
const ATIME_MASK: u64 = 0x70;
const NO_ATIME: u64 = 0x10;
const STRICT_ATIME: u64 = 0x20;
const NO_DIRATIME: u64 = 0x80;
const NO_SYMLINK_FOLLOW: u64 = 0x20_0000;

/// Parses in order; a later option wins over an earlier one.
pub(crate) fn parse<'a>(options: impl IntoIterator<Item = &'a str>) -> Options {
    let mut parsed = Options::default();
    for option in options {
        apply(&mut parsed, option);
    }
    parsed
}

fn apply(parsed: &mut Options, option: &str) {
    match option {
        "defaults" | "" | "rw" => parsed.set &= !READ_ONLY,
        "bind" => parsed.bind = Some(Bind::One),
        "rbind" => parsed.bind = Some(Bind::Recursive),
        "ro" => parsed.set |= READ_ONLY,
        "rro" => parsed.recursive_set |= READ_ONLY,
        "nosuid" => parsed.set |= NO_SUID,
        "suid" => unset(parsed, NO_SUID),
        "nodev" => parsed.set |= NO_DEV,
        "dev" => unset(parsed, NO_DEV),
        "noexec" => parsed.set |= NO_EXEC,
        "exec" => unset(parsed, NO_EXEC),
        "noatime" => atime(parsed, NO_ATIME),
        "strictatime" => atime(parsed, STRICT_ATIME),
        "relatime" | "atime" => atime(parsed, 0),
        "nodiratime" => parsed.set |= NO_DIRATIME,
        "diratime" => unset(parsed, NO_DIRATIME),
        "nosymfollow" => parsed.set |= NO_SYMLINK_FOLLOW,
        "shared" | "slave" | "private" | "unbindable" | "rshared" | "rslave" | "rprivate"
        | "runbindable" => propagate(parsed, option),
        _ => parsed.data.push(match option.split_once('=') {
            Some((key, value)) => (key.to_owned(), Some(value.to_owned())),
            None => (option.to_owned(), None),
        }),
    }
}

fn unset(parsed: &mut Options, flag: u64) {
    parsed.set &= !flag;
    parsed.clear |= flag;
}

/// The access-time modes are one number, so that setting one clears all, mount_setattr(2).
fn atime(parsed: &mut Options, mode: u64) {
    parsed.set = parsed.set & !ATIME_MASK | mode;
    parsed.clear |= ATIME_MASK;
}

fn propagate(parsed: &mut Options, option: &str) {
    parsed.propagation = propagation(option).unwrap_or_default();
    parsed.propagation_recursive = option.starts_with('r');
}

/// `MS_SHARED`.
pub(crate) const SHARED: u64 = 1 << 20;

/// Returns the `MS_*` number of a propagation's name, with or without the leading `r`.
pub(crate) fn propagation(name: &str) -> Option<u64> {
    match name.strip_prefix('r').unwrap_or(name) {
        "shared" => Some(SHARED),
        "slave" => Some(1 << 19),
        "private" => Some(1 << 18),
        "unbindable" => Some(1 << 17),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_are_attributes_and_the_rest_is_the_filesystems() {
        let parsed = parse(["nosuid", "noexec", "mode=755", "size=64k", "newinstance"]);
        assert_eq!(parsed.set, NO_SUID | NO_EXEC);
        let data: Vec<_> =
            parsed.data.iter().map(|(key, value)| (key.as_str(), value.as_deref())).collect();
        assert_eq!(data, [("mode", Some("755")), ("size", Some("64k")), ("newinstance", None)]);
    }

    #[test]
    fn a_later_option_wins() {
        assert_eq!(parse(["ro", "rw"]).set, 0);
        assert_eq!(parse(["rw", "ro"]).set, READ_ONLY);
        let parsed = parse(["noatime", "strictatime"]);
        assert_eq!((parsed.set, parsed.clear), (STRICT_ATIME, ATIME_MASK));
    }

    #[test]
    fn a_recursive_propagation_reaches_submounts() {
        let parsed = parse(["rbind", "rslave"]);
        assert_eq!(parsed.bind, Some(Bind::Recursive));
        assert!(parsed.propagation_recursive);
        assert_eq!(parsed.propagation, 1 << 19);
    }
}
