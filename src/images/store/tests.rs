//! Whole images in and out.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::Command;

use super::{Loaded, Store, StoreError, digest_of};
use crate::images::archive::{Format, write};
use crate::images::config::{ImageConfig, RootFs};
use crate::images::import::ImportOptions;

fn tar(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, data) in files {
        write::file(&mut builder, name, 0o644, data.len() as u64, *data).unwrap();
    }
    builder.into_inner().unwrap()
}

fn store() -> (tempfile::TempDir, Store) {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    (folder, store)
}

fn imported(store: &Store, archive: &[u8]) -> Loaded {
    let options = ImportOptions {
        changes: vec![r#"CMD ["/app"]"#.to_owned()],
        created: "2026-01-01T00:00:00Z".to_owned(),
        ..ImportOptions::default()
    };
    store.import(archive, &options).unwrap()
}

fn count(root: &Path, folder: &str) -> usize {
    fs::read_dir(root.join(folder)).unwrap().count()
}

/// A docker archive of one layer whose parts can be made wrong.
fn docker_archive(diff_id_of: &[u8], layer_name: &str) -> Vec<u8> {
    let layer = tar(&[("app", b"program")]);
    let rootfs = RootFs { kind: "layers".to_owned(), diff_ids: vec![digest_of(diff_id_of)] };
    let config = serde_json::to_vec(&ImageConfig { rootfs, ..ImageConfig::default() }).unwrap();
    let manifest =
        format!(r#"[{{"Config":"c.json","RepoTags":["a:1","b:2"],"Layers":["{layer_name}"]}}]"#);
    tar(&[("l/layer.tar", &layer), ("c.json", &config), ("manifest.json", manifest.as_bytes())])
}

#[test]
fn what_is_saved_loads_again_as_the_same_image() {
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&tar(&[("app", b"program")])).unwrap();
    let zstd = zstd::encode_all(tar(&[("app", b"program")]).as_slice(), 1).unwrap();
    for layer in [tar(&[("app", b"program")]), gzip.finish().unwrap(), zstd] {
        let (_keep, first) = store();
        let image = imported(&first, &layer);
        for format in [Format::Docker, Format::Oci] {
            let mut archive = Vec::new();
            first
                .save(&[(image.image_id.clone(), vec!["app:1".to_owned()])], &mut archive, format)
                .unwrap();
            let (_keep, second) = store();
            let loaded = second.load(archive.as_slice()).unwrap();
            assert_eq!(loaded.len(), 1);
            assert_eq!(
                (&loaded[0].image_id, &loaded[0].manifest),
                (&image.image_id, &image.manifest)
            );
            assert_eq!(loaded[0].names, ["app:1"]);
            let lower = second.unpack(&image.image_id).unwrap();
            assert_eq!(fs::read(lower[0].join("app")).unwrap(), b"program");
            assert_eq!(second.config(&image.image_id).unwrap().config.cmd.unwrap(), ["/app"]);
        }
    }
}

#[test]
fn a_removed_image_leaves_nothing_and_a_shared_layer_stays() {
    let (root, store) = store();
    let first = imported(&store, &tar(&[("app", b"program")]));
    let options =
        ImportOptions { created: "2026-01-02T00:00:00Z".to_owned(), ..ImportOptions::default() };
    let second = store.import(tar(&[("app", b"program")]).as_slice(), &options).unwrap();
    assert_ne!(first.image_id, second.image_id);
    store.remove(&first.image_id).unwrap();
    assert_eq!(
        (count(root.path(), "layers"), store.images().unwrap()),
        (1, vec![second.image_id.clone()])
    );
    store.unpack(&second.image_id).unwrap();
    store.remove(&second.image_id).unwrap();
    store.remove(&second.image_id).unwrap();
    for folder in ["layers", "blobs/sha256", "images", "tmp"] {
        assert_eq!(count(root.path(), folder), 0, "{folder}");
    }
}

#[test]
fn a_wrong_image_is_not_added_and_leaves_nothing() {
    let right = tar(&[("app", b"program")]);
    let attacks = [
        docker_archive(b"something else", "l/layer.tar"),
        docker_archive(&right, "/etc/passwd"),
        docker_archive(&right, "../../etc/passwd"),
        docker_archive(&right, "absent"),
        tar(&[("readme", b"no image")]),
        b"not even a tar".repeat(100),
    ];
    for (at, attack) in attacks.iter().enumerate() {
        let (root, store) = store();
        assert!(store.load(attack.as_slice()).is_err(), "{at}");
        for folder in ["layers", "blobs/sha256", "images", "tmp"] {
            assert_eq!(count(root.path(), folder), 0, "{at} {folder}");
        }
    }
    let (_keep, store) = store();
    let loaded = store.load(docker_archive(&right, "l/layer.tar").as_slice()).unwrap();
    assert_eq!(loaded[0].names, ["a:1", "b:2"]);
}

#[test]
fn a_layer_that_links_to_the_host_is_missing() {
    let mut builder = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(tar::EntryType::Symlink);
    header.set_size(0);
    builder.append_link(&mut header, "l/layer.tar", "/etc/passwd").unwrap();
    let config = br#"{"rootfs":{"type":"layers","diff_ids":[]}}"#;
    write::file(&mut builder, "c.json", 0o644, config.len() as u64, config.as_slice()).unwrap();
    let manifest = br#"[{"Config":"c.json","Layers":["l/layer.tar"]}]"#;
    write::file(&mut builder, "manifest.json", 0o644, manifest.len() as u64, manifest.as_slice())
        .unwrap();
    let (_keep, store) = store();
    assert!(matches!(
        store.load(builder.into_inner().unwrap().as_slice()),
        Err(StoreError::Archive(_))
    ));
}

#[test]
fn a_blob_with_another_digest_or_size_is_refused() {
    let (root, store) = store();
    let digest = digest_of(b"content");
    assert!(store.ingest(b"Content".as_slice(), &digest, 7).is_err());
    assert!(store.ingest(b"content and more".as_slice(), &digest, 7).is_err());
    assert!(store.ingest(b"conten".as_slice(), &digest, 7).is_err());
    assert_eq!(count(root.path(), "tmp") + count(root.path(), "blobs/sha256"), 0);
    assert!(store.ingest(b"content".as_slice(), &digest, 7).unwrap().fresh);
    store.collect().unwrap();
    assert!(!store.has_blob(&digest));
}

#[test]
fn hello_is_the_same_image_each_time() {
    let (root, store) = store();
    let binary = root.path().join("binary");
    fs::write(&binary, "program").unwrap();
    let first = store.hello(&binary).unwrap();
    assert_eq!(first.image_id, store.hello(&binary).unwrap().image_id);
    let lower = store.unpack(&first.image_id).unwrap();
    assert_eq!(fs::read(lower[0].join("bargee")).unwrap(), b"program");
}

#[test]
fn skopeo_reads_what_we_save_and_we_read_what_it_writes() {
    if Command::new("skopeo").arg("--version").output().is_err() {
        // Nothing to compare with.
        return;
    }
    let (root, first) = store();
    let image = imported(&first, &tar(&[("app", b"program")]));
    let saved = root.path().join("saved.tar");
    let file = fs::File::create(&saved).unwrap();
    first
        .save(
            &[(image.image_id.clone(), vec!["example.org/app:1".to_owned()])],
            file,
            Format::Docker,
        )
        .unwrap();
    for kind in ["docker-archive", "oci-archive"] {
        let copied = root.path().join(kind);
        let output = Command::new("skopeo")
            .args(["--insecure-policy", "--tmpdir"])
            .arg(root.path())
            .arg("copy")
            .arg(format!("docker-archive:{}", saved.display()))
            .arg(format!("{kind}:{}:example.org/app:2", copied.display()))
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let (_keep, second) = store();
        let loaded = second.load(fs::File::open(&copied).unwrap()).unwrap();
        assert_eq!(loaded[0].names, ["example.org/app:2"]);
        let lower = second.unpack(&loaded[0].image_id).unwrap();
        assert_eq!(fs::read(lower[0].join("app")).unwrap(), b"program");
    }
}
