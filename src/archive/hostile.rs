//! Archives made to escape, to lie or to exhaust; and honest ones, to see that they still unpack.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs::{self, File};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::Path;

use tar::{EntryType, Header};

use super::apply::{ApplyError, Limits, apply};

#[derive(Default)]
struct Hostile(Vec<u8>);

impl Hostile {
    /// Writes the name into the header as it is: the builder of the `tar` package would refuse it.
    fn add(mut self, kind: EntryType, path: &str, link: &str, data: &[u8]) -> Self {
        let mut header = Header::new_gnu();
        header.as_old_mut().name[..path.len()].copy_from_slice(path.as_bytes());
        header.as_old_mut().linkname[..link.len()].copy_from_slice(link.as_bytes());
        header.set_entry_type(kind);
        header.set_mode(0o4755);
        header.set_uid(12);
        header.set_gid(34);
        header.set_mtime(1_000_000);
        header.set_size(data.len() as u64);
        header.set_device_major(8).unwrap();
        header.set_device_minor(0).unwrap();
        header.set_cksum();
        self.0.extend(header.as_bytes());
        self.0.extend(data);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }

    fn file(self, path: &str, data: &str) -> Self {
        self.add(EntryType::Regular, path, "", data.as_bytes())
    }

    fn folder(self, path: &str) -> Self {
        self.add(EntryType::Directory, path, "", b"")
    }

    fn link(self, path: &str, target: &str) -> Self {
        self.add(EntryType::Symlink, path, target, b"")
    }

    fn pax(self, key: &str, value: &str) -> Self {
        let rest = format!(" {key}={value}\n");
        let length =
            (rest.len()..).find(|length| length.to_string().len() + rest.len() == *length).unwrap();
        self.add(EntryType::XHeader, "pax", "", format!("{length}{rest}").as_bytes())
    }

    fn apply_to(&self, root: &Path) -> Result<(), ApplyError> {
        let limits = Limits { entries: 50, bytes: 1 << 20, depth: 20 };
        apply(self.0.as_slice(), &File::open(root).unwrap(), &limits).map(drop)
    }
}

/// A rootfs and, beside it, a host that must stay as it is.
fn places() -> (tempfile::TempDir, std::path::PathBuf, std::path::PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let (root, host) = (folder.path().join("rootfs"), folder.path().join("host"));
    fs::create_dir(&root).unwrap();
    fs::create_dir(&host).unwrap();
    fs::write(host.join("secret"), "untouched").unwrap();
    (folder, root, host)
}

fn untouched(host: &Path) {
    assert_eq!(fs::read_dir(host).unwrap().count(), 1);
    assert_eq!(fs::read_to_string(host.join("secret")).unwrap(), "untouched");
    assert_eq!(fs::metadata(host.join("secret")).unwrap().nlink(), 1);
}

#[test]
fn dots_in_names_and_link_targets_are_refused() {
    let (_keep, root, host) = places();
    let attacks = [
        Hostile::default().file("../host/x", "x"),
        Hostile::default().file("a/../../host/x", "x"),
        Hostile::default().folder(".."),
        Hostile::default().add(EntryType::Link, "x", "../host/secret", b""),
        Hostile::default().file("a/../../host/.wh.secret", ""),
        Hostile::default().pax("path", "../host/x").file("innocent", "x"),
    ];
    for attack in attacks {
        assert!(matches!(attack.apply_to(&root), Err(ApplyError::EscapesRootfs { .. })));
    }
    untouched(&host);
}

#[test]
fn absolute_names_and_links_lead_into_the_rootfs() {
    let (_keep, root, host) = places();
    let outside = host.to_str().unwrap();
    let attack = Hostile::default()
        .file(&format!("{outside}/absolute"), "x")
        .link("link", outside)
        .file("link/through", "x")
        .link("up", "../../../../../..")
        .folder("up/etc-of-mine")
        .file("link/.wh.secret", "");
    attack.apply_to(&root).unwrap();
    untouched(&host);
    let inside = root.join(outside.trim_start_matches('/'));
    assert!(inside.join("absolute").is_file());
    assert!(inside.join("through").is_file());
    assert!(root.join("etc-of-mine").is_dir());
}

#[test]
fn hard_links_cannot_reach_the_host() {
    let (_keep, root, host) = places();
    let outside = host.to_str().unwrap();
    let absolute = Hostile::default().add(EntryType::Link, "x", &format!("{outside}/secret"), b"");
    assert!(absolute.apply_to(&root).is_err());
    let chain = Hostile::default().link("l", outside).add(EntryType::Link, "x", "l/secret", b"");
    assert!(chain.apply_to(&root).is_err());
    // A hard link to a symbolic link links the link, and writing to that name replaces it.
    let swap = Hostile::default()
        .link("s", &format!("{outside}/secret"))
        .add(EntryType::Link, "h", "s", b"")
        .file("h", "overwritten");
    swap.apply_to(&root).unwrap();
    untouched(&host);
}

#[test]
fn swapping_files_folders_and_links_never_writes_through_one() {
    let (_keep, root, host) = places();
    let outside = host.to_str().unwrap();
    let attack = Hostile::default()
        .folder("a/b")
        .file("a/b/c", "x")
        .link("a", outside)
        .folder("a")
        .file("a/secret", "mine")
        .link("f", &format!("{outside}/secret"))
        .file("f", "mine")
        .file("a", "now a file");
    attack.apply_to(&root).unwrap();
    untouched(&host);
    assert!(fs::symlink_metadata(root.join("a")).unwrap().is_file());
    assert_eq!(fs::read_to_string(root.join("f")).unwrap(), "mine");
    assert!(Hostile::default().link(".", outside).apply_to(&root).is_err());
    assert!(Hostile::default().add(EntryType::Link, "h", "h", b"").apply_to(&root).is_err());
}

#[test]
fn whiteouts_of_no_name_are_refused() {
    let (_keep, root, host) = places();
    for name in [".wh.", ".wh..", ".wh...", "a/.wh..."] {
        assert!(Hostile::default().file(name, "").apply_to(&root).is_err(), "{name}");
    }
    assert!(Hostile::default().file(".wh./../../host", "").apply_to(&root).is_err());
    untouched(&host);
}

#[test]
fn attributes_of_the_overlay_are_refused() {
    let (_keep, root, _host) = places();
    for name in [
        "trusted.overlay.redirect",
        "trusted.overlay.metacopy",
        "trusted.overlay.opaque",
        "user.overlay.opaque",
    ] {
        let attack = Hostile::default().pax(&format!("SCHILY.xattr.{name}"), "/etc").folder("d");
        assert!(matches!(attack.apply_to(&root), Err(ApplyError::Refused { .. })), "{name}");
    }
}

#[test]
fn devices_are_left_out_below_dev_and_refused_elsewhere() {
    let (_keep, root, _host) = places();
    Hostile::default().add(EntryType::Block, "dev/sda", "", b"").apply_to(&root).unwrap();
    assert!(!root.join("dev/sda").exists());
    for kind in [EntryType::Block, EntryType::Char] {
        assert!(Hostile::default().add(kind, "etc/disk", "", b"").apply_to(&root).is_err());
    }
}

#[test]
fn lies_about_sizes_and_bombs_end_at_a_limit() {
    let (_keep, root, _host) = places();
    let mut lie = Hostile::default().file("x", "");
    let mut header = Header::from_byte_slice(&lie.0[..512]).clone();
    for size in [1 << 40, u64::MAX, 100_000] {
        header.set_size(size);
        header.set_cksum();
        lie.0[..512].copy_from_slice(header.as_bytes());
        assert!(lie.apply_to(&root).is_err(), "{size}");
    }
    let many = (0..60).fold(Hostile::default(), |archive, at| archive.file(&format!("f{at}"), ""));
    assert!(matches!(many.apply_to(&root), Err(ApplyError::TooMuch { .. })));
    assert!(Hostile::default().folder(&"d/".repeat(30)).apply_to(&root).is_err());
    assert!(
        Hostile::default().pax("path", &"n".repeat(5000)).file("x", "").apply_to(&root).is_err()
    );
    assert!(
        Hostile::default().pax("path", &"n".repeat(300)).file("x", "").apply_to(&root).is_err()
    );
    let mut damaged = Hostile::default().file("x", "");
    damaged.0[0] ^= 1;
    assert!(damaged.apply_to(&root).is_err());
}

#[test]
fn an_honest_layer_keeps_owners_modes_times_links_and_whiteouts() {
    let (_keep, root, _host) = places();
    let layer = Hostile::default()
        .folder("bin")
        .file("bin/su", "program")
        .add(EntryType::Link, "bin/su2", "bin/su", b"")
        .link("sh", "bin/su")
        .file("etc/.wh.gone", "")
        .folder("cache")
        .file("cache/.wh..wh..opq", "")
        .file(".wh.again", "")
        .folder("again")
        .add(EntryType::Fifo, "fifo", "", b"");
    layer.apply_to(&root).unwrap();
    let su = fs::metadata(root.join("bin/su")).unwrap();
    assert_eq!(
        (su.mode() & 0o7777, su.uid(), su.gid(), su.mtime(), su.nlink()),
        (0o4755, 12, 34, 1_000_000, 2)
    );
    assert_eq!(fs::metadata(root.join("bin")).unwrap().mtime(), 1_000_000);
    assert_eq!(fs::read_link(root.join("sh")).unwrap(), Path::new("bin/su"));
    let gone = fs::symlink_metadata(root.join("etc/gone")).unwrap();
    assert!(gone.file_type().is_char_device() && gone.rdev() == 0);
    assert_eq!(fs::metadata(root.join("etc")).unwrap().permissions().mode() & 0o777, 0o755);
    for opaque in ["cache", "again"] {
        let mut value = [0; 4];
        let length =
            rustix::fs::getxattr(root.join(opaque), "trusted.overlay.opaque", &mut value).unwrap();
        assert_eq!(&value[..length], b"y", "{opaque}");
    }
    assert!(fs::symlink_metadata(root.join("fifo")).unwrap().file_type().is_fifo());
}
