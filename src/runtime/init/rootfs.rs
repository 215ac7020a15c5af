//! The container's view of files. Every target is resolved below the root by openat2(2) with
//! RESOLVE_IN_ROOT and mounted on by descriptor, so that no link inside can lead outside.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::fs;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use oci_spec::runtime::{LinuxDevice, LinuxDeviceType, Mount, Spec};
use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountPropagationFlags, MoveMountFlags,
    OpenTreeFlags, UnmountFlags,
};

use super::{During, InitError, source};
use crate::runtime::bundle::{FileInside, Rootfs, Sources};
use crate::runtime::mounts::{self, Bind};
use crate::runtime::sys::{self, MountAttributes};

/// Devices that every container has, with the links of the OCI spec's "Default Devices".
const DEVICES: [(&str, u32, u32); 6] = [
    ("null", 1, 3),
    ("zero", 1, 5),
    ("full", 1, 7),
    ("random", 1, 8),
    ("urandom", 1, 9),
    ("tty", 5, 0),
];
const LINKS: [(&str, &str); 5] = [
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("ptmx", "pts/ptmx"),
];

/// A layer says all by itself, whatever the kernel's defaults are: `diff`, `export` and `commit` read it unmounted.
const OVERLAY_OPTIONS: [(&str, &str); 2] = [("redirect_dir", "off"), ("metacopy", "off")];

/// Clones what the container shares with the host, by where it is mounted: [`mount`] cuts the host's mounts off.
pub(crate) fn clone_shared(
    spec: &Spec,
    sources: &Sources,
) -> Result<BTreeMap<PathBuf, OwnedFd>, InitError> {
    let mut shared = BTreeMap::new();
    for mount in spec.mounts().iter().flatten() {
        let options = mounts::parse(mount.options().iter().flatten().map(String::as_str));
        if let Some(bind) = options.bind
            && options.propagation == mounts::SHARED
        {
            let tree = clone_source(mount, bind, sources)?;
            shared.insert(mount.destination().clone(), tree);
        }
    }
    Ok(shared)
}

fn clone_source(mount: &Mount, bind: Bind, sources: &Sources) -> Result<OwnedFd, InitError> {
    let (source, target) =
        (mount.source().as_deref().unwrap_or(Path::new("/")), mount.destination());
    source::clone(source, bind, sources.get(target))
        .during(|| format!("bind {} on {}", source.display(), target.display()))
}

/// Mounts the root at `target` and opens it.
pub(crate) fn mount(spec: &Spec, rootfs: &Rootfs, target: &Path) -> Result<OwnedFd, InitError> {
    let wanted = spec.linux().as_ref().and_then(|linux| linux.rootfs_propagation().as_deref());
    // Nothing that we mount may reach the host; `shared` is for the end, see `seal`.
    let inherited = match wanted {
        Some("shared" | "rshared" | "slave" | "rslave") => MountPropagationFlags::DOWNSTREAM,
        _ => MountPropagationFlags::PRIVATE,
    };
    rustix::mount::mount_change("/", inherited | MountPropagationFlags::REC)
        .during(|| "stop mounts from propagating".into())?;
    fs::create_dir_all(target).during(|| format!("create {}", target.display()))?;
    match rootfs {
        Rootfs::Overlay { lower, upper, work } => mount_overlay(lower, upper, work, target)?,
        Rootfs::Directory { path } => {
            let tree = clone_tree(CWD, path, Bind::Recursive)
                .during(|| format!("bind the rootfs {}", path.display()))?;
            rustix::mount::move_mount(
                &tree,
                "",
                CWD,
                target,
                MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH,
            )
            .during(|| format!("mount the rootfs on {}", target.display()))?;
        }
    }
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(target, flags, Mode::empty()).during(|| format!("open {}", target.display()))
}

fn mount_overlay(
    lower: &[PathBuf],
    upper: &Path,
    work: &Path,
    target: &Path,
) -> Result<(), InitError> {
    match mount_overlay_by_layer(lower, upper, work, target) {
        // `lowerdir+` is unknown before Linux 6.5.
        Err(Errno::INVAL | Errno::NOSYS) => mount_overlay_by_string(lower, upper, work, target),
        result => result.during(|| format!("mount the overlay on {}", target.display())),
    }
}

fn mount_overlay_by_layer(
    lower: &[PathBuf],
    upper: &Path,
    work: &Path,
    target: &Path,
) -> rustix::io::Result<()> {
    let context = rustix::mount::fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
    for layer in lower {
        rustix::mount::fsconfig_set_string(context.as_fd(), "lowerdir+", layer)?;
    }
    rustix::mount::fsconfig_set_string(context.as_fd(), "upperdir", upper)?;
    rustix::mount::fsconfig_set_string(context.as_fd(), "workdir", work)?;
    for (key, value) in OVERLAY_OPTIONS {
        rustix::mount::fsconfig_set_string(context.as_fd(), key, value)?;
    }
    rustix::mount::fsconfig_create(context.as_fd())?;
    let mount = rustix::mount::fsmount(
        context.as_fd(),
        FsMountFlags::FSMOUNT_CLOEXEC,
        MountAttrFlags::empty(),
    )?;
    rustix::mount::move_mount(&mount, "", CWD, target, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
}

/// mount(2) takes one page of options; descriptors' links in `/proc` keep each layer's name short.
fn mount_overlay_by_string(
    lower: &[PathBuf],
    upper: &Path,
    work: &Path,
    target: &Path,
) -> Result<(), InitError> {
    let open = |path: &Path| {
        rustix::fs::open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
            .during(|| format!("open the layer {}", path.display()))
    };
    let layers: Vec<OwnedFd> = lower.iter().map(|path| open(path)).collect::<Result<_, _>>()?;
    let (upper, work) = (open(upper)?, open(work)?);
    let link = |fd: &OwnedFd| format!("/proc/self/fd/{}", sys::number(fd));
    let lower: Vec<String> = layers.iter().map(link).collect();
    let mut data =
        format!("lowerdir={},upperdir={},workdir={}", lower.join(":"), link(&upper), link(&work));
    for (key, value) in OVERLAY_OPTIONS {
        data.push_str(&format!(",{key}={value}"));
    }
    let mount = || {
        let target = CString::new(target.as_os_str().as_encoded_bytes())?;
        sys::mount_overlay(&target, &CString::new(data)?)
    };
    mount().during(|| format!("mount the overlay on {}", target.display()))
}

/// Makes the config's mounts in order, then the devices if `/dev` is the container's own.
pub(crate) fn populate(
    spec: &Spec,
    sources: &Sources,
    mut shared: BTreeMap<PathBuf, OwnedFd>,
    root: BorrowedFd<'_>,
) -> Result<(), InitError> {
    let mut own_dev = false;
    for mount in spec.mounts().iter().flatten() {
        make(root, mount, sources, shared.remove(mount.destination()))?;
        own_dev |=
            mount.destination() == Path::new("/dev") && mount.typ().as_deref() != Some("bind");
    }
    if own_dev {
        let extra = spec.linux().as_ref().and_then(|linux| linux.devices().as_ref());
        make_devices(root, extra.into_iter().flatten())?;
    }
    Ok(())
}

fn make(
    root: BorrowedFd<'_>,
    mount: &Mount,
    sources: &Sources,
    shared: Option<OwnedFd>,
) -> Result<(), InitError> {
    let mut options = mounts::parse(mount.options().iter().flatten().map(String::as_str));
    let kind = mount.typ().as_deref().unwrap_or("bind");
    let destination = mount.destination();
    if kind == "bind" && options.bind.is_none() {
        options.bind = Some(Bind::Recursive);
    }
    if let Some(bind) = options.bind {
        let tree = match shared {
            Some(tree) => tree,
            None => clone_source(mount, bind, sources)?,
        };
        return make_bind(root, mount.destination(), &tree, &options);
    }
    if kind == "cgroup" || kind == "cgroup2" {
        return super::cgroup_files::mount(root, destination, options.set);
    }
    let source = mount.source().as_deref().unwrap_or(Path::new(kind));
    let action = || format!("mount {kind} on {}", destination.display());
    let fd = new_filesystem(kind, source, &options).during(action)?;
    place(root, &fd, destination, true).during(action)
}

fn make_bind(
    root: BorrowedFd<'_>,
    destination: &Path,
    tree: &OwnedFd,
    options: &mounts::Options,
) -> Result<(), InitError> {
    let action = || format!("bind on {}", destination.display());
    let stat = rustix::fs::fstat(tree).during(action)?;
    let folder = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
    let attributes =
        MountAttributes { set: options.set, clear: options.clear, ..Default::default() };
    if attributes != MountAttributes::default() {
        sys::mount_setattr(tree.as_fd(), false, &attributes).during(action)?;
    }
    if options.recursive_set != 0 {
        let attributes = MountAttributes { set: options.recursive_set, ..Default::default() };
        sys::mount_setattr(tree.as_fd(), true, &attributes).during(action)?;
    }
    if options.propagation != 0 {
        let attributes = MountAttributes { propagation: options.propagation, ..Default::default() };
        sys::mount_setattr(tree.as_fd(), options.propagation_recursive, &attributes)
            .during(action)?;
    }
    place(root, tree, destination, folder).during(action)
}

pub(super) fn new_filesystem(
    kind: &str,
    source: &Path,
    options: &mounts::Options,
) -> rustix::io::Result<OwnedFd> {
    let context = rustix::mount::fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC)?;
    rustix::mount::fsconfig_set_string(context.as_fd(), "source", source)?;
    for (key, value) in &options.data {
        match value {
            Some(value) => rustix::mount::fsconfig_set_string(context.as_fd(), key, value)?,
            None => rustix::mount::fsconfig_set_flag(context.as_fd(), key)?,
        }
    }
    rustix::mount::fsconfig_create(context.as_fd())?;
    let attributes = u32::try_from(options.set).unwrap_or_default();
    rustix::mount::fsmount(
        context.as_fd(),
        FsMountFlags::FSMOUNT_CLOEXEC,
        MountAttrFlags::from_bits_retain(attributes),
    )
}

/// Shows the container its own cgroup: v2 as one tree, v1 and hybrid as a tmpfs with a folder for each
/// hierarchy of the host. A cgroup namespace makes our own cgroup the root of each.
fn make_devices<'a>(
    root: BorrowedFd<'_>,
    extra: impl Iterator<Item = &'a LinuxDevice>,
) -> Result<(), InitError> {
    for (name, major, minor) in DEVICES {
        let path = Path::new("/dev").join(name);
        make_device(root, &path, FileType::CharacterDevice, (major, minor), 0o666, (0, 0))?;
    }
    for device in extra {
        let kind = match device.typ() {
            LinuxDeviceType::B => FileType::BlockDevice,
            LinuxDeviceType::P => FileType::Fifo,
            _ => FileType::CharacterDevice,
        };
        let number = |number: i64| u32::try_from(number).unwrap_or_default();
        let numbers = (number(device.major()), number(device.minor()));
        let owner = (device.uid().unwrap_or(0), device.gid().unwrap_or(0));
        make_device(
            root,
            device.path(),
            kind,
            numbers,
            device.file_mode().unwrap_or(0o666),
            owner,
        )?;
    }
    let dev = open_inside(root, Path::new("dev"), OFlags::PATH).during(|| "open /dev".into())?;
    for (name, target) in LINKS {
        match rustix::fs::symlinkat(target, &dev, name) {
            Err(Errno::EXIST) => {}
            result => result.during(|| format!("link /dev/{name}"))?,
        }
    }
    Ok(())
}

fn make_device(
    root: BorrowedFd<'_>,
    path: &Path,
    kind: FileType,
    (major, minor): (u32, u32),
    mode: u32,
    (uid, gid): (u32, u32),
) -> Result<(), InitError> {
    let action = || format!("make the device {}", path.display());
    let (parent, name) = parent_and_name(path).ok_or(Errno::INVAL).during(action)?;
    let folder = make_folders(root, parent).during(action)?;
    let mode = Mode::from_raw_mode(mode);
    match rustix::fs::mknodat(&folder, name, kind, mode, rustix::fs::makedev(major, minor)) {
        Err(Errno::EXIST) => return Ok(()),
        // Where mknod(2) is forbidden (a nested host), the host's own node will do.
        Err(Errno::PERM) => {
            let tree = clone_tree(CWD, path, Bind::One).during(action)?;
            return place(root, &tree, path, false).during(action);
        }
        result => result.during(action)?,
    }
    rustix::fs::chmodat(&folder, name, mode, rustix::fs::AtFlags::empty()).during(action)?;
    let (uid, gid) = (rustix::fs::Uid::from_raw(uid), rustix::fs::Gid::from_raw(gid));
    let no_follow = rustix::fs::AtFlags::SYMLINK_NOFOLLOW;
    rustix::fs::chownat(&folder, name, Some(uid), Some(gid), no_follow).during(action)
}

/// Hides the masked paths and closes the read-only ones; those that don't exist are skipped.
pub(crate) fn restrict(spec: &Spec, root: BorrowedFd<'_>) -> Result<(), InitError> {
    let Some(linux) = spec.linux() else {
        return Ok(());
    };
    for path in linux.readonly_paths().iter().flatten() {
        let action = || format!("make {path} read-only");
        let Some(target) = existing(root, Path::new(path)).during(action)? else {
            continue;
        };
        let flags = OpenTreeFlags::OPEN_TREE_CLONE
            | OpenTreeFlags::OPEN_TREE_CLOEXEC
            | OpenTreeFlags::AT_EMPTY_PATH
            | OpenTreeFlags::AT_RECURSIVE;
        let tree = rustix::mount::open_tree(&target, "", flags).during(action)?;
        let read_only = MountAttributes { set: mounts::READ_ONLY, ..Default::default() };
        sys::mount_setattr(tree.as_fd(), true, &read_only).during(action)?;
        attach(&tree, &target).during(action)?;
    }
    for path in linux.masked_paths().iter().flatten() {
        let action = || format!("mask {path}");
        if let Some(target) = existing(root, Path::new(path)).during(action)? {
            mask(&target).during(action)?;
        }
    }
    Ok(())
}

fn mask(target: &OwnedFd) -> rustix::io::Result<()> {
    let stat = rustix::fs::fstat(target)?;
    let cover = if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
        let options = mounts::parse(["ro", "size=0k"]);
        new_filesystem("tmpfs", Path::new("tmpfs"), &options)?
    } else {
        clone_tree(CWD, Path::new("/dev/null"), Bind::One)?
    };
    attach(&cover, target)
}

/// Makes `root` the root of our mount namespace and lets go of the host's, pivot_root(2) "pivot_root(\".\", \".\")".
pub(crate) fn enter(root: BorrowedFd<'_>) -> Result<(), InitError> {
    let pivot = || -> rustix::io::Result<()> {
        rustix::process::fchdir(root)?;
        rustix::process::pivot_root(".", ".")?;
        rustix::mount::unmount(".", UnmountFlags::DETACH)?;
        rustix::process::chdir("/")
    };
    pivot().during(|| "enter the rootfs".into())
}

/// Makes the root read-only if wanted. Last, since the terminal still adds a mount point.
pub(crate) fn seal(spec: &Spec, root: BorrowedFd<'_>) -> Result<(), InitError> {
    let mut attributes = MountAttributes::default();
    if spec.root().as_ref().is_some_and(|root| root.readonly().unwrap_or(false)) {
        attributes.set = mounts::READ_ONLY;
    }
    let wanted = spec.linux().as_ref().and_then(|linux| linux.rootfs_propagation().as_deref());
    attributes.propagation = wanted.and_then(mounts::propagation).unwrap_or_default();
    if attributes == MountAttributes::default() {
        return Ok(());
    }
    sys::mount_setattr(root, false, &attributes).during(|| "seal the rootfs".into())
}

/// Binds the terminal on `/dev/console`.
pub(crate) fn bind_console(master: &OwnedFd) -> Result<(), InitError> {
    let action = || "bind /dev/console".into();
    let name = rustix::pty::ptsname(master, Vec::new()).during(action)?;
    let name = name.into_string().ok().ok_or(Errno::INVAL).during(action)?;
    let tree = clone_tree(CWD, Path::new(&name), Bind::One).during(action)?;
    let root =
        rustix::fs::open("/", OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).during(action)?;
    place(root.as_fd(), &tree, Path::new("/dev/console"), false).during(action)
}

/// Writes a file given by the engine, replacing what the image has there.
pub(crate) fn write_file(root: BorrowedFd<'_>, file: &FileInside) -> Result<(), InitError> {
    let path = Path::new(&file.target);
    let write = || -> rustix::io::Result<()> {
        let (parent, name) = parent_and_name(path).ok_or(Errno::INVAL)?;
        let folder = make_folders(root, parent)?;
        match rustix::fs::unlinkat(&folder, name, rustix::fs::AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(error) => return Err(error),
        }
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let created = rustix::fs::openat(&folder, name, flags, Mode::RUSR | Mode::WUSR)?;
        let mut rest = file.content.as_slice();
        while !rest.is_empty() {
            let written = rustix::io::write(&created, rest)?;
            rest = &rest[written..];
        }
        let (uid, gid) = (rustix::fs::Uid::from_raw(file.uid), rustix::fs::Gid::from_raw(file.gid));
        rustix::fs::fchown(&created, Some(uid), Some(gid))?;
        rustix::fs::fchmod(&created, Mode::from_raw_mode(file.mode))
    };
    write().during(|| format!("write {}", file.target))
}

/// Opens an existing path as the container would see it.
pub(crate) fn open_inside(
    root: BorrowedFd<'_>,
    path: &Path,
    flags: OFlags,
) -> rustix::io::Result<OwnedFd> {
    loop {
        let flags = flags | OFlags::CLOEXEC;
        match rustix::fs::openat2(root, path, flags, Mode::empty(), ResolveFlags::IN_ROOT) {
            // EAGAIN: a rename raced the resolution, openat2(2).
            Err(Errno::AGAIN | Errno::INTR) => {}
            result => return result,
        }
    }
}

fn existing(root: BorrowedFd<'_>, path: &Path) -> rustix::io::Result<Option<OwnedFd>> {
    match open_inside(root, path, OFlags::PATH) {
        Ok(fd) => Ok(Some(fd)),
        Err(Errno::NOENT | Errno::NOTDIR | Errno::ACCESS) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Mounts `mount` on `path`, which is made if missing.
pub(super) fn place(
    root: BorrowedFd<'_>,
    mount: &OwnedFd,
    path: &Path,
    folder: bool,
) -> rustix::io::Result<()> {
    let target = if folder { make_folders(root, path)? } else { make_file(root, path)? };
    attach(mount, &target)
}

fn attach(mount: &OwnedFd, target: &OwnedFd) -> rustix::io::Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    rustix::mount::move_mount(mount, "", target, "", flags)
}

fn make_file(root: BorrowedFd<'_>, path: &Path) -> rustix::io::Result<OwnedFd> {
    if let Some(found) = existing(root, path)? {
        return Ok(found);
    }
    let (parent, name) = parent_and_name(path).ok_or(Errno::INVAL)?;
    let folder = make_folders(root, parent)?;
    let flags = OFlags::CREATE | OFlags::WRONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    rustix::fs::openat(&folder, name, flags, Mode::from_raw_mode(0o644))?;
    open_inside(root, path, OFlags::PATH)
}

/// Opens `path` below `root`, making folders that are missing.
fn make_folders(root: BorrowedFd<'_>, path: &Path) -> rustix::io::Result<OwnedFd> {
    let mut so_far = PathBuf::new();
    let mut folder = open_inside(root, Path::new("."), OFlags::PATH | OFlags::DIRECTORY)?;
    for component in path.components() {
        let name = match component {
            Component::Normal(name) => name,
            Component::RootDir | Component::CurDir => continue,
            Component::ParentDir | Component::Prefix(_) => return Err(Errno::INVAL),
        };
        so_far.push(name);
        folder = match open_inside(root, &so_far, OFlags::PATH | OFlags::DIRECTORY) {
            Err(Errno::NOENT) => {
                match rustix::fs::mkdirat(&folder, name, Mode::from_raw_mode(0o755)) {
                    Ok(()) | Err(Errno::EXIST) => {}
                    Err(error) => return Err(error),
                }
                open_inside(root, &so_far, OFlags::PATH | OFlags::DIRECTORY)?
            }
            result => result?,
        };
    }
    Ok(folder)
}

fn parent_and_name(path: &Path) -> Option<(&Path, &std::ffi::OsStr)> {
    Some((path.parent()?, path.file_name()?))
}

pub(super) fn clone_tree(
    from: BorrowedFd<'_>,
    path: &Path,
    bind: Bind,
) -> rustix::io::Result<OwnedFd> {
    let mut flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    if bind == Bind::Recursive {
        flags |= OpenTreeFlags::AT_RECURSIVE;
    }
    rustix::mount::open_tree(from, path, flags)
}
