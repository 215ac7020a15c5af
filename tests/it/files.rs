//! A container's files over the API: `archive`, `export`, `changes` and `commit`, while it runs and when it does not.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::os::unix::fs::{MetadataExt as _, symlink};

use base64::Engine as _;
use serde_json::{Value, json};

use crate::support::engine::{self, Engine, PATIENCE, wait_for};
use crate::support::http::Answer;

/// An engine with the image `bb` and a container `box` of it that runs `script`.
fn started(script: &str, host_config: Value) -> Option<Engine> {
    if !engine::possible() {
        return None;
    }
    let engine = Engine::start();
    engine.load_busybox("bb");
    let mut host = json!({ "NetworkMode": "none", "Init": true });
    host.as_object_mut().unwrap().extend(host_config.as_object().unwrap().clone());
    let body =
        json!({ "Image": "bb", "Cmd": ["sh", "-c", script], "User": "user", "HostConfig": host });
    let made = engine.client().post("/containers/create?name=box", &body).unwrap();
    assert_eq!(made.status, 201, "{}", made.text());
    start(&engine);
    Some(engine)
}

fn start(engine: &Engine) {
    let answer = engine.client().post("/containers/box/start", &json!({})).unwrap();
    assert_eq!(answer.status, 204, "{}", answer.text());
}

fn stop(engine: &Engine) {
    let answer = engine.client().post("/containers/box/stop?t=0", &json!({})).unwrap();
    assert_eq!(answer.status, 204, "{}", answer.text());
}

fn encoded(path: &str) -> String {
    path.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

fn read(engine: &Engine, path: &str) -> Answer {
    engine.client().get(&format!("/containers/box/archive?path={}", encoded(path))).unwrap()
}

fn put(engine: &Engine, path: &str, more: &str, archive: &[u8]) -> Answer {
    let path = format!("/containers/box/archive?path={}{more}", encoded(path));
    let tar = [("Content-Type", "application/x-tar")];
    engine.client().send("PUT", &path, &tar, archive).unwrap()
}

fn stat(engine: &Engine, path: &str) -> Value {
    let path = format!("/containers/box/archive?path={}", encoded(path));
    let answer = engine.client().send("HEAD", &path, &[], b"").unwrap();
    assert_eq!(answer.status, 200);
    stat_of(&answer)
}

fn stat_of(answer: &Answer) -> Value {
    let header = answer.header("x-docker-container-path-stat").expect("the header is there");
    let text = base64::engine::general_purpose::STANDARD.decode(header).expect("it is base64");
    serde_json::from_slice(&text).expect("it is JSON")
}

/// What an archive holds: name, then kind, owner and content or link.
fn unpacked(archive: &[u8]) -> BTreeMap<String, String> {
    let mut all = BTreeMap::new();
    for entry in tar::Archive::new(archive).entries().unwrap() {
        let mut entry = entry.unwrap();
        let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        let header = entry.header().clone();
        let link = entry.link_name_bytes().map(|link| String::from_utf8_lossy(&link).into_owned());
        let mut content = String::new();
        if header.entry_type().is_file() && header.size().unwrap() < 1000 {
            entry.read_to_string(&mut content).unwrap();
        }
        let kind = char::from(header.entry_type().as_byte());
        let owner = header.uid().unwrap();
        all.insert(name, format!("{kind} {owner} {}", link.unwrap_or(content)));
    }
    all
}

/// An archive of files, folders (a name that ends with a slash) and links (`name -> target`).
fn packed(entries: &[(&str, &str)]) -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    for (name, content) in entries {
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o644);
        header.set_uid(7);
        header.set_gid(8);
        header.set_mtime(1_000_000);
        if let Some((name, target)) = name.split_once(" -> ") {
            header.set_entry_type(tar::EntryType::Symlink);
            header.set_size(0);
            archive.append_link(&mut header, name, target).unwrap();
            continue;
        }
        let is_folder = name.ends_with('/');
        if is_folder {
            header.set_entry_type(tar::EntryType::Directory);
            header.set_mode(0o755);
        }
        header.set_size(content.len() as u64);
        // The builder would refuse a name that leads out.
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        header.set_cksum();
        archive.append(&header, content.as_bytes()).unwrap();
    }
    archive.into_inner().unwrap()
}

/// Runs a command in the container and returns what it printed.
fn inside(engine: &Engine, script: &str) -> String {
    let body =
        json!({ "Cmd": ["sh", "-c", script], "User": "0", "AttachStdout": true, "Tty": true });
    let exec = engine.client().post("/containers/box/exec", &body).unwrap();
    assert_eq!(exec.status, 201, "{}", exec.text());
    let path = format!("/exec/{}/start", exec.json()["Id"].as_str().unwrap());
    let mut client = engine.client();
    let text = json!({ "Tty": true }).to_string();
    let kind = [("Content-Type", "application/json")];
    client.write("POST", &path, &kind, text.as_bytes()).unwrap();
    assert_eq!(client.head().unwrap().status, 200);
    String::from_utf8(client.rest().unwrap()).unwrap().replace("\r\n", "\n").trim().to_owned()
}

const FILES: &str = "mkdir -p /tmp/d/sub; echo one > /tmp/d/one; ln -s ../one /tmp/d/sub/up; \
                     ln -s /tmp/d /tmp/link; ln -s /etc/passwd /tmp/d/abs; \
                     touch /tmp/ready; exec sleep 1000";

fn with_files() -> Option<Engine> {
    let engine = started(FILES, json!({ "Binds": ["data:/data"] }))?;
    ready(&engine);
    Some(engine)
}

fn ready(engine: &Engine) {
    let there = wait_for(PATIENCE, || (read(engine, "/tmp/ready").status == 200).then_some(()));
    assert!(there.is_some(), "the program is not ready\n{}", engine.log());
}

#[test]
fn a_path_is_read_with_what_is_mounted_there_running_or_not() {
    let Some(engine) = with_files() else { return };
    // The volume is root's and the program is not.
    assert_eq!(inside(&engine, "chmod 777 /data; echo in > /data/f; echo done"), "done");
    ready(&engine);
    let look = || {
        let folder = read(&engine, "/tmp/d");
        assert_eq!(folder.status, 200, "{}", folder.text());
        assert_eq!(folder.header("content-type"), Some("application/x-tar"));
        let volume = read(&engine, "/data/f");
        let dot = read(&engine, "/tmp/link/.");
        (unpacked(&folder.body), unpacked(&volume.body), unpacked(&dot.body))
    };
    let (folder, volume, dot) = look();
    let expected = [
        ("d/", "5 1000 "),
        ("d/abs", "2 1000 /etc/passwd"),
        ("d/one", "0 1000 one\n"),
        ("d/sub/", "5 1000 "),
        ("d/sub/up", "2 1000 ../one"),
    ];
    let expected = expected.map(|(name, value)| (name.to_owned(), value.to_owned()));
    assert_eq!(folder, BTreeMap::from(expected));
    assert_eq!(volume, BTreeMap::from([("f".to_owned(), "0 0 in\n".to_owned())]));
    assert!(dot.contains_key("./one") && dot.contains_key("./sub/up"), "{dot:?}");
    stop(&engine);
    assert_eq!(look(), (folder, volume, dot));
    // Nothing of the look stays mounted, and the container starts again.
    start(&engine);
    ready(&engine);
}

#[test]
fn a_paths_facts_are_dockers() {
    let Some(engine) = with_files() else { return };
    let passwd = stat(&engine, "/etc/passwd");
    assert_eq!((&passwd["name"], &passwd["mode"]), (&json!("passwd"), &json!(0o644)));
    assert_eq!(
        (&passwd["linkTarget"], &passwd["mtime"]),
        (&json!(""), &json!("2026-01-01T00:00:00Z"))
    );
    let link = stat(&engine, "/tmp/link");
    assert_eq!(link["linkTarget"], "/tmp/d");
    assert_eq!(link["mode"], 0x0800_0000 | 0o777);
    assert_eq!(stat(&engine, "/tmp/link/")["mode"], json!(0x8000_0000_u32 | 0o755));
    assert_eq!(stat(&engine, "/tmp")["mode"], json!(0x8010_0000_u32 | 0o777));
    let missing = read(&engine, "/tmp/nosuch");
    assert_eq!(missing.status, 404);
    assert_eq!(missing.json()["message"], "Could not find the file /tmp/nosuch in container box");
    let nothing = engine.client().get("/containers/box/archive").unwrap();
    assert_eq!(
        (nothing.status, nothing.json()["message"].as_str()),
        (400, Some("bad parameter: path cannot be empty"))
    );
    assert_eq!(read(&engine, "/etc/passwd/").status, 400);
    let unknown = engine.client().get("/containers/x/archive?path=/").unwrap();
    assert_eq!(
        (unknown.status, unknown.json()["message"].as_str()),
        (404, Some("No such container: x"))
    );
}

#[test]
fn an_archive_is_unpacked_where_the_containers_links_lead_and_nowhere_else() {
    let Some(engine) = with_files() else { return };
    let outside = engine.folder().join("outside");
    std::fs::create_dir(&outside).unwrap();
    let escape = outside.to_str().unwrap();
    for running in [true, false] {
        if !running {
            stop(&engine);
        }
        let archive = packed(&[
            ("new/", ""),
            ("new/f", "new"),
            ("one", "replaced"),
            (&format!("new/out -> {escape}"), ""),
            ("new/out/stolen", "x"),
        ]);
        // A folder of that name in the container is where the link leads.
        let there = format!("{}/", escape.trim_start_matches('/'));
        assert_eq!(put(&engine, "/", "", &packed(&[(&there, "")])).status, 200);
        let answer = put(&engine, "/tmp/link", "", &archive);
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 0, "nothing came out");
        assert_eq!(unpacked(&read(&engine, "/tmp/d/one").body)["one"], "0 7 replaced");
        assert_eq!(unpacked(&read(&engine, &format!("{escape}/stolen")).body)["stolen"], "0 7 x");
        let up = put(&engine, "/tmp", "", &packed(&[("../../etc/up", "x")]));
        assert_eq!(up.status, 400, "{}", up.text());
        assert_eq!(put(&engine, "/data", "", &packed(&[("g", "volume")])).status, 200);
    }
    let volume = engine.root().join("volumes/data/_data/g");
    assert_eq!(std::fs::read_to_string(&volume).unwrap(), "volume");
    assert_eq!(std::fs::metadata(&volume).unwrap().uid(), 7);
    start(&engine);
    assert_eq!(inside(&engine, "cat /tmp/d/new/f /data/g"), "newvolume");
}

#[test]
fn links_that_the_host_has_are_not_followed_out_of_a_stopped_container() {
    let Some(engine) = with_files() else { return };
    stop(&engine);
    let id = engine.client().get("/containers/box/json").unwrap().json()["Id"].to_string();
    let upper = engine.root().join("containers").join(id.trim_matches('"')).join("upper");
    let secret = engine.folder().join("secret");
    std::fs::write(&secret, "secret").unwrap();
    symlink(engine.folder(), upper.join("tmp/out")).unwrap();
    assert_eq!(read(&engine, "/tmp/out/secret").status, 404);
    let answer = put(&engine, "/tmp/out", "", &packed(&[("secret", "overwritten")]));
    assert_eq!(answer.status, 404, "{}", answer.text());
    assert_eq!(std::fs::read_to_string(&secret).unwrap(), "secret");
}

#[test]
fn kinds_owners_and_read_only_places_are_kept_as_asked() {
    let Some(engine) = with_files() else { return };
    let keep = "&noOverwriteDirNonDir=true";
    let answer = put(&engine, "/tmp", keep, &packed(&[("d", "file")]));
    assert_eq!(answer.status, 400);
    let message = answer.json()["message"].to_string();
    assert!(
        message.contains("cannot overwrite directory") && message.contains("/tmp/d"),
        "{message}"
    );
    let answer = put(&engine, "/tmp/d", keep, &packed(&[("one/", "")]));
    assert_eq!(answer.status, 400, "{}", answer.text());
    assert_eq!(put(&engine, "/tmp/d", "", &packed(&[("one/", "")])).status, 200);
    assert_eq!(stat(&engine, "/tmp/d/one")["mode"], json!(0x8000_0000_u32 | 0o755));
    assert_eq!(put(&engine, "/tmp", "&copyUIDGID=1", &packed(&[("mine", "x")])).status, 200);
    assert_eq!(unpacked(&read(&engine, "/tmp/mine").body)["mine"], "0 1000 x");
    let file = put(&engine, "/etc/passwd", "", &packed(&[("x", "x")]));
    assert_eq!(
        (file.status, file.json()["message"].as_str()),
        (400, Some("extraction point is not a directory"))
    );
    assert_eq!(put(&engine, "/tmp", "", b"no archive at all, whatever it is").status, 400);
}

#[test]
fn a_read_only_root_and_a_read_only_volume_refuse_in_dockers_words() {
    let host = json!({ "ReadonlyRootfs": true, "Binds": ["data:/data:ro", "free:/free"] });
    let Some(engine) = started("exec sleep 1000", host) else { return };
    for running in [true, false] {
        if !running {
            stop(&engine);
        }
        let told = |path: &str| {
            let answer = put(&engine, path, "", &packed(&[("x", "x")]));
            (answer.status, answer.json()["message"].as_str().map(str::to_owned))
        };
        assert_eq!(told("/tmp"), (403, Some("container rootfs is marked read-only".into())));
        assert_eq!(told("/data"), (403, Some("mounted volume is marked read-only".into())));
        assert_eq!(told("/free"), (200, None));
    }
}

#[test]
fn changes_and_export_show_the_containers_own_layer() {
    let script = "rm /bin/wget; echo x >> /etc/passwd; mkdir /srv; echo s > /srv/s; touch /data/v; \
                  touch /tmp/ready; exec sleep 1000";
    let body = json!({ "Binds": ["data:/data"] });
    let Some(engine) = started("exec sleep 1000", body) else { return };
    assert_eq!(inside(&engine, &script.replace("exec sleep 1000", "echo done")), "done");
    let changes = || {
        let answer = engine.client().get("/containers/box/changes").unwrap();
        assert_eq!(answer.status, 200, "{}", answer.text());
        let list = answer.json();
        let told = list
            .as_array()
            .unwrap()
            .iter()
            .map(|one| format!("{} {}", one["Kind"], one["Path"].as_str().unwrap()));
        told.collect::<Vec<_>>()
    };
    let expected = [
        "0 /bin",
        "2 /bin/wget",
        "1 /data",
        "0 /etc",
        "0 /etc/passwd",
        "1 /srv",
        "1 /srv/s",
        "0 /tmp",
        "1 /tmp/ready",
    ];
    assert_eq!(changes(), expected);
    let export = || {
        let answer = engine.client().get("/containers/box/export").unwrap();
        assert_eq!(answer.status, 200, "{}", answer.text());
        unpacked(&answer.body)
    };
    let running = export();
    assert_eq!(running["srv/s"], "0 0 s\n");
    assert!(running.contains_key("bin/busybox") && running.contains_key("data/"));
    assert!(!running.contains_key("bin/wget") && !running.contains_key("data/v"));
    stop(&engine);
    assert_eq!(changes(), expected);
    assert_eq!(export(), running);
}

#[test]
fn a_commit_makes_an_image_of_the_changes() {
    let Some(engine) = started("exec sleep 1000", json!({ "Binds": ["data:/data"] })) else {
        return;
    };
    let script =
        "echo app > /home/app; rm /bin/wget; rm -r /var; mkdir /var; echo v > /var/new; echo done";
    assert_eq!(inside(&engine, script), "done");
    let changes = encoded("CMD [\"cat\", \"/home/app\"]");
    let query =
        format!("container=box&repo=shop/app&tag=1&author=me&comment=why&changes={changes}");
    let body = json!({ "Env": ["A=1"], "Labels": { "l": "1" } });
    let made = engine.client().post(&format!("/commit?{query}&changes=ENV%20B=2"), &body).unwrap();
    assert_eq!(made.status, 201, "{}", made.text());
    let id = made.json()["Id"].as_str().unwrap().to_owned();
    let state =
        engine.client().get("/containers/box/json").unwrap().json()["State"]["Status"].clone();
    assert_eq!(state, "running", "it goes on after its pause");
    let image = engine.client().get("/images/shop/app:1/json").unwrap().json();
    assert_eq!(
        (&image["Id"], &image["Author"], &image["Comment"]),
        (&json!(id), &json!("me"), &json!("why"))
    );
    assert_eq!(image["Config"]["Cmd"], json!(["cat", "/home/app"]));
    assert_eq!(image["Config"]["User"], "user");
    assert_eq!(image["Config"]["Labels"]["l"], "1");
    let env = image["Config"]["Env"].as_array().unwrap();
    assert!(env.contains(&json!("A=1")) && env.contains(&json!("B=2")), "{env:?}");
    assert_eq!(image["RootFS"]["Layers"].as_array().unwrap().len(), 2);
    stop(&engine);
    let removed = engine.client().send("DELETE", "/containers/box?v=1", &[], b"").unwrap();
    assert_eq!(removed.status, 204);
    let show =
        json!(["sh", "-c", "cat /home/app; ls /var; test ! -e /bin/wget && echo gone; echo $A$B"]);
    let body =
        json!({ "Image": "shop/app:1", "Cmd": show, "HostConfig": { "NetworkMode": "none" } });
    let made = engine.client().post("/containers/create?name=box", &body).unwrap();
    assert_eq!(made.status, 201, "{}", made.text());
    start(&engine);
    let exit = engine.client().post("/containers/box/wait", &json!({})).unwrap();
    assert_eq!(exit.json()["StatusCode"], 0);
    let logs = engine.client().get("/containers/box/logs?stdout=1").unwrap();
    let (out, _) = crate::support::http::demultiplex(&logs.body);
    assert_eq!(out, "app\nnew\ngone\n12\n");
    // Nothing changed: the image differs in its configuration alone.
    let same =
        engine.client().post("/commit?container=box&repo=shop/app&tag=2", &json!({})).unwrap();
    assert_eq!(same.status, 201, "{}", same.text());
    let image = engine.client().get("/images/shop/app:2/json").unwrap().json();
    assert_eq!(image["RootFS"]["Layers"].as_array().unwrap().len(), 2);
    let refused =
        engine.client().post("/commit?container=box&changes=RUN%20x", &json!({})).unwrap();
    assert_eq!(refused.status, 400, "{}", refused.text());
}

#[test]
fn a_client_that_stalls_does_not_keep_a_stopped_container_for_ever() {
    if !engine::possible() {
        return;
    }
    let engine = Engine::with_config("[containers]\nstalled_copy = 1\n");
    engine.load_busybox("bb");
    let script = "dd if=/dev/urandom of=/big bs=1M count=32 2>/dev/null";
    let body = json!({ "Image": "bb", "Cmd": ["sh", "-c", script], "HostConfig": { "NetworkMode": "none" } });
    let made = engine.client().post("/containers/create?name=box", &body).unwrap();
    assert_eq!(made.status, 201, "{}", made.text());
    for path in ["/containers/box/export", "/containers/box/archive?path=/big"] {
        start(&engine);
        engine.client().send("POST", "/containers/box/wait", &[], b"").unwrap();
        let mut stalled = engine.client();
        stalled.write("GET", path, &[], b"").unwrap();
        let head = stalled.head().unwrap();
        assert_eq!(head.status, 200);
        // It waits for the client, and no longer.
        start(&engine);
        engine.client().send("POST", "/containers/box/wait", &[], b"").unwrap();
        let mut got = 0;
        let cut = loop {
            match stalled.chunk() {
                Ok(chunk) if chunk.is_empty() => break false,
                Ok(chunk) => got += chunk.len(),
                Err(_) => break true,
            }
        };
        assert!(cut && got < 32 << 20, "{path}: the client took {got} bytes for the whole");
    }
    let mut stalled = engine.client();
    let path = "/containers/box/archive?path=/";
    stalled
        .write_raw(
            format!("PUT {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n").as_bytes(),
        )
        .unwrap();
    let answer = stalled.head().unwrap();
    assert_eq!(answer.status, 400);
    let removed = engine.client().send("DELETE", "/containers/box", &[], b"").unwrap();
    assert_eq!(removed.status, 204, "{}", removed.text());
}
