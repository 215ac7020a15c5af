//! A small image for tests: the host's static busybox and links for its applets, as `docker save` writes one.

use std::io::Write as _;

const APPLETS: &str = "sh ash cat echo sleep ls ps id env true false kill hostname ip ping nc wget httpd head tail wc \
                       grep seq date stty tty mkdir rm touch chmod chown dd sort tr mount umount test yes printf pwd \
                       readlink nslookup nproc df du find awk sed cut uname whoami";

/// Returns the archive of an image `name:latest` whose command is `sh`.
pub fn busybox(name: &str) -> Vec<u8> {
    let layer = layer();
    let digest = |bytes: &[u8]| {
        use sha2::Digest as _;
        sha2::Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect::<String>()
    };
    let config = serde_json::json!({
        "architecture": "amd64",
        "os": "linux",
        "created": "2026-01-01T00:00:00Z",
        "config": {
            "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
            "Cmd": ["sh"],
        },
        "rootfs": { "type": "layers", "diff_ids": [format!("sha256:{}", digest(&layer))] },
        "history": [{ "created": "2026-01-01T00:00:00Z", "created_by": "busybox" }],
    });
    let config = config.to_string().into_bytes();
    let config_name = format!("{}.json", digest(&config));
    let manifest = serde_json::json!([{
        "Config": config_name,
        "RepoTags": [format!("{name}:latest")],
        "Layers": ["layer.tar"],
    }]);
    let mut archive = tar::Builder::new(Vec::new());
    for (path, bytes) in [
        ("layer.tar", layer.as_slice()),
        (&config_name, config.as_slice()),
        ("manifest.json", manifest.to_string().as_bytes()),
    ] {
        append(&mut archive, path, bytes, 0o644);
    }
    archive.into_inner().expect("memory takes all")
}

fn layer() -> Vec<u8> {
    let busybox = std::fs::read("/bin/busybox").expect("busybox-static is installed");
    let mut layer = tar::Builder::new(Vec::new());
    for folder in ["bin", "dev", "etc", "home", "proc", "root", "sys", "var", "usr"] {
        folder_entry(&mut layer, folder, 0o755);
    }
    folder_entry(&mut layer, "tmp", 0o1777);
    append(&mut layer, "bin/busybox", &busybox, 0o755);
    for applet in APPLETS.split_whitespace() {
        let mut header = header(0o777, tar::EntryType::Symlink);
        layer
            .append_link(&mut header, format!("bin/{applet}"), "busybox")
            .expect("memory takes all");
    }
    append(
        &mut layer,
        "etc/passwd",
        b"root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000::/home:/bin/sh\n",
        0o644,
    );
    append(&mut layer, "etc/group", b"root:x:0:\nuser:x:1000:\nextra:x:2000:user\n", 0o644);
    layer.get_mut().flush().expect("memory takes all");
    layer.into_inner().expect("memory takes all")
}

fn header(mode: u32, kind: tar::EntryType) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(1_767_225_600);
    header.set_size(0);
    header
}

fn folder_entry(archive: &mut tar::Builder<Vec<u8>>, path: &str, mode: u32) {
    let mut header = header(mode, tar::EntryType::Directory);
    archive
        .append_data(&mut header, format!("{path}/"), std::io::empty())
        .expect("memory takes all");
}

fn append(archive: &mut tar::Builder<Vec<u8>>, path: &str, bytes: &[u8], mode: u32) {
    let mut header = header(mode, tar::EntryType::Regular);
    header.set_size(bytes.len() as u64);
    archive.append_data(&mut header, path, bytes).expect("memory takes all");
}
