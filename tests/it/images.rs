//! Images and volumes over the API, and what containers do with both.

use serde_json::{Value, json};

use super::support::engine::{Engine, possible};
use super::support::http::Answer;

fn call(engine: &Engine, method: &str, path: &str, body: &Value) -> Answer {
    let body = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
    engine.client().send(method, path, &[], &body).expect("the engine answers")
}

#[track_caller]
fn ok(answer: &Answer) -> Value {
    assert!(answer.status < 300, "{}: {}", answer.status, answer.text());
    answer.json()
}

#[track_caller]
fn refused(answer: &Answer, status: u16) -> String {
    assert_eq!(answer.status, status, "{}", answer.text());
    answer.json()["message"].as_str().expect("an error has a message").to_owned()
}

/// Creates a container and returns its id.
#[track_caller]
fn create(engine: &Engine, name: &str, body: &Value) -> String {
    let answer = call(engine, "POST", &format!("/containers/create?name={name}"), body);
    ok(&answer)["Id"].as_str().expect("a container has an id").to_owned()
}

/// Starts a container, waits for its end and returns its code.
#[track_caller]
fn run(engine: &Engine, id: &str) -> i64 {
    ok(&call(engine, "POST", &format!("/containers/{id}/start"), &Value::Null));
    let ended = call(engine, "POST", &format!("/containers/{id}/wait"), &Value::Null);
    ok(&ended)["StatusCode"].as_i64().expect("an exit has a code")
}

/// An archive with one image `name` whose only layer has these files below /data.
fn image_with_data(files: &[(&str, &str)]) -> Vec<u8> {
    let mut rootfs = tar::Builder::new(Vec::new());
    let busybox = std::fs::read("/bin/busybox").expect("busybox-static is installed");
    let mut add = |path: &str, mode: u32, owner: u64, bytes: &[u8]| {
        let mut header = tar::Header::new_gnu();
        header.set_mode(mode);
        header.set_uid(owner);
        header.set_gid(owner);
        header.set_size(bytes.len() as u64);
        rootfs.append_data(&mut header, path, bytes).expect("memory takes all");
    };
    add("bin/busybox", 0o755, 0, &busybox);
    add("etc/passwd", 0o644, 0, b"root:x:0:0::/root:\napp:x:77:78::/home/app:\n");
    add("etc/group", 0o644, 0, b"root:x:0:\napp:x:78:\nlogs:x:79:app\n");
    for (path, text) in files {
        add(&format!("data/{path}"), 0o640, 77, text.as_bytes());
    }
    rootfs.into_inner().expect("memory takes all")
}

#[track_caller]
fn import(engine: &Engine, name: &str, rootfs: &[u8], changes: &[&str]) {
    let changes: String =
        changes.iter().map(|change| format!("&changes={}", change.replace(' ', "+"))).collect();
    let path = format!("/images/create?fromSrc=-&repo={name}{changes}");
    let answer = engine.client().send("POST", &path, &[], rootfs).expect("the engine answers");
    let told = ok(&answer);
    assert!(told["status"].as_str().is_some_and(|id| id.starts_with("sha256:")), "{told}");
}

#[test]
fn an_image_is_loaded_named_saved_and_removed() {
    if !possible() {
        return;
    }
    let engine = Engine::start();
    engine.load_busybox("box");
    let list = ok(&call(&engine, "GET", "/images/json", &Value::Null));
    assert_eq!(list[0]["RepoTags"], json!(["box:latest"]));
    let id = list[0]["Id"].as_str().expect("an id").to_owned();

    ok(&call(&engine, "POST", "/images/box/tag?repo=localhost:5000/me/box&tag=v1", &Value::Null));
    let inspected =
        ok(&call(&engine, "GET", "/images/localhost:5000/me/box:v1/json", &Value::Null));
    assert_eq!((&inspected["Id"], &inspected["Os"]), (&json!(id), &json!("linux")));
    assert_eq!(inspected["RepoTags"], json!(["box:latest", "localhost:5000/me/box:v1"]));
    let by_prefix =
        ok(&call(&engine, "GET", &format!("/images/{}/json", &id[7..19]), &Value::Null));
    assert_eq!(by_prefix["Id"], json!(id));
    let history = ok(&call(&engine, "GET", "/images/box/history", &Value::Null));
    assert_eq!(history[0]["CreatedBy"], json!("busybox"));

    let saved = call(&engine, "GET", "/images/box/get", &Value::Null);
    assert_eq!(saved.header("content-type"), Some("application/x-tar"));
    let removed = ok(&call(&engine, "DELETE", "/images/box", &Value::Null));
    assert_eq!(removed, json!([{ "Untagged": "box:latest" }]));
    let removed =
        ok(&call(&engine, "DELETE", "/images/localhost:5000%2Fme%2Fbox:v1", &Value::Null));
    assert_eq!(removed[0], json!({ "Untagged": "localhost:5000/me/box:v1" }));
    assert_eq!(removed[1], json!({ "Deleted": id }));
    let message = refused(&call(&engine, "GET", "/images/box/json", &Value::Null), 404);
    assert_eq!(message, "No such image: box:latest");

    let loaded = engine.client().send("POST", "/images/load", &[], &saved.body);
    let loaded = ok(&loaded.expect("the engine answers"));
    assert_eq!(loaded["stream"], json!("Loaded image: box:latest\n"));
    let again = ok(&call(&engine, "GET", "/images/box/json", &Value::Null));
    assert_eq!(again["Id"], json!(id), "the same content has the same id");
}

#[test]
fn an_image_in_use_stays_and_the_refusal_is_dockers() {
    if !possible() {
        return;
    }
    let engine = Engine::start();
    engine.load_busybox("box");
    let id = create(&engine, "user", &json!({ "Image": "box" }));
    let message = refused(&call(&engine, "DELETE", "/images/box", &Value::Null), 409);
    let image = ok(&call(&engine, "GET", "/images/box/json", &Value::Null))["Id"].clone();
    let image = image.as_str().expect("an id")[7..19].to_owned();
    assert_eq!(
        message,
        format!(
            "conflict: unable to remove repository reference \"box\" (must force) - container {} is using its \
             referenced image {image}",
            &id[..12]
        )
    );
    let removed = ok(&call(&engine, "DELETE", "/images/box?force=1", &Value::Null));
    assert_eq!(removed, json!([{ "Untagged": "box:latest" }]));
    let message = refused(&call(&engine, "DELETE", &format!("/images/{image}"), &Value::Null), 409);
    assert!(message.contains("image is being used by stopped container"), "{message}");
    let pruned = ok(&call(&engine, "POST", "/images/prune", &Value::Null));
    assert_eq!(pruned["ImagesDeleted"], Value::Null);
    ok(&call(&engine, "DELETE", "/containers/user", &Value::Null));
    let pruned = ok(&call(&engine, "POST", "/images/prune", &Value::Null));
    assert!(pruned["SpaceReclaimed"].as_u64().is_some_and(|bytes| bytes > 0), "{pruned}");
    assert_eq!(ok(&call(&engine, "GET", "/images/json", &Value::Null)), json!([]));
}

#[test]
fn what_cannot_be_pulled_says_what_to_do_and_hello_is_always_there() {
    if !possible() {
        return;
    }
    let engine = Engine::start();
    let answer = call(&engine, "POST", "/images/create?fromImage=nginx&tag=1", &Value::Null);
    assert_eq!(answer.status, 200, "{}", answer.text());
    let message = answer.json()["error"].as_str().unwrap_or_default().to_owned();
    assert!(
        message.contains("cannot pull nginx:1") && message.contains("bargee load"),
        "{message}"
    );
    let hello = ok(&call(&engine, "GET", "/images/bargee/hello/json", &Value::Null));
    assert_eq!(hello["RepoTags"], json!(["bargee/hello:latest"]));
    assert_eq!(hello["Config"]["Cmd"], json!(["/bargee", "__hello"]));
}

#[test]
fn volumes_are_made_listed_kept_in_use_and_pruned() {
    if !possible() {
        return;
    }
    let engine = Engine::start();
    let wanted = json!({ "Name": "data", "Labels": { "tier": "db" } });
    let made = call(&engine, "POST", "/volumes/create", &wanted);
    assert_eq!(made.status, 201, "{}", made.text());
    let folder = made.json()["Mountpoint"].as_str().expect("a folder").to_owned();
    assert!(std::path::Path::new(&folder).is_dir());
    assert_eq!(ok(&call(&engine, "POST", "/volumes/create", &wanted))["Name"], json!("data"));
    let wrong = json!({ "Name": "../data" });
    let message = refused(&call(&engine, "POST", "/volumes/create", &wrong), 400);
    assert!(message.contains("includes invalid characters for a local volume name"), "{message}");

    engine.load_busybox("box");
    let body = json!({ "Image": "box", "HostConfig": { "Binds": ["data:/data"] } });
    let id = create(&engine, "user", &body);
    let message = refused(&call(&engine, "DELETE", "/volumes/data", &Value::Null), 409);
    assert_eq!(message, format!("remove data: volume is in use - [{id}]"));
    ok(&call(&engine, "DELETE", "/containers/user?v=1", &Value::Null));
    let pruned = ok(&call(&engine, "POST", "/volumes/prune", &Value::Null));
    assert_eq!(pruned["VolumesDeleted"], json!([]), "a named volume stays");
    let filters = "%7B%22all%22%3A%7B%22true%22%3Atrue%7D%7D";
    let pruned = call(&engine, "POST", &format!("/volumes/prune?filters={filters}"), &Value::Null);
    assert_eq!(ok(&pruned)["VolumesDeleted"], json!(["data"]));
    let message = refused(&call(&engine, "GET", "/volumes/data", &Value::Null), 404);
    assert_eq!(message, "get data: no such volume");
    assert!(!std::path::Path::new(&folder).exists());
}

#[test]
fn a_new_volume_begins_with_the_images_content_and_an_anonymous_one_goes_with_its_container() {
    if !possible() {
        return;
    }
    let engine = Engine::start();
    let rootfs = image_with_data(&[("file", "from the image")]);
    import(&engine, "seed", &rootfs, &["VOLUME /data", "USER app", "WORKDIR /srv/app"]);
    let script = "test \"$(busybox cat /data/file)\" = 'from the image' && test \"$(busybox id -u):$(busybox id \
                  -g)\" = 77:78 && busybox id | busybox grep -q 79 && test $PWD = /srv/app && echo $HOME | busybox \
                  grep -q ^/home/app$";
    let command =
        json!(["/bin/busybox", "sh", "-c", format!("alias busybox=/bin/busybox; {script}")]);
    let id = create(
        &engine,
        "one",
        &json!({ "Image": "seed", "Cmd": command, "HostConfig": { "NetworkMode": "none" } }),
    );
    let volumes = ok(&call(&engine, "GET", "/volumes", &Value::Null));
    let folder = volumes["Volumes"][0]["Mountpoint"].as_str().expect("a folder").to_owned();
    let file = std::path::Path::new(&folder).join("file");
    use std::os::unix::fs::MetadataExt;
    let metadata = std::fs::metadata(&file).expect("the file was copied");
    assert_eq!((metadata.uid(), metadata.mode() & 0o7777), (77, 0o640));
    assert_eq!(run(&engine, &id), 0);
    ok(&call(&engine, "DELETE", "/containers/one?v=1", &Value::Null));
    let volumes = ok(&call(&engine, "GET", "/volumes", &Value::Null));
    assert_eq!(volumes["Volumes"], json!([]));
}

#[test]
fn a_taken_name_a_missing_image_and_a_missing_source_are_told_in_dockers_words() {
    if !possible() {
        return;
    }
    let engine = Engine::start();
    engine.load_busybox("box");
    let id = create(&engine, "web", &json!({ "Image": "box" }));
    let again = call(&engine, "POST", "/containers/create?name=web", &json!({ "Image": "box" }));
    assert_eq!(
        refused(&again, 409),
        format!(
            "Conflict. The container name \"/web\" is already in use by container \"{id}\". You have to remove (or \
             rename) that container to be able to reuse that name."
        )
    );
    let missing = call(&engine, "POST", "/containers/create", &json!({ "Image": "nowhere" }));
    assert_eq!(refused(&missing, 404), "No such image: nowhere:latest");
    let mount = json!({ "Type": "bind", "Source": "/nowhere/at/all", "Target": "/x" });
    let body = json!({ "Image": "box", "HostConfig": { "Mounts": [mount] } });
    let message = refused(&call(&engine, "POST", "/containers/create", &body), 400);
    assert!(message.ends_with("bind source path does not exist: /nowhere/at/all"), "{message}");
    let left = std::fs::read_dir(engine.root().join("containers")).expect("a folder").count();
    assert_eq!(left, 1, "a refused creation leaves nothing");
}
