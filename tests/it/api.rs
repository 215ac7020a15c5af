//! What is on the wire between docker's clients and the engine, byte by byte.

use std::io::ErrorKind;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::engine::{self, Engine, PATIENCE, wait_for};
use crate::support::http::{Answer, Client, demultiplex};
use crate::support::pace::slowed;

/// An engine with the image `bb`, or nothing where none can run.
fn engine() -> Option<Engine> {
    if !engine::possible() {
        return None;
    }
    let engine = Engine::start();
    engine.load_busybox("bb");
    Some(engine)
}

fn get(engine: &Engine, path: &str) -> Answer {
    engine.client().get(path).expect("the engine answers")
}

fn post(engine: &Engine, path: &str) -> Answer {
    engine.client().send("POST", path, &[], b"").expect("the engine answers")
}

fn message(answer: &Answer) -> String {
    answer.json()["message"].as_str().unwrap_or_default().to_owned()
}

/// Makes a container without a network that runs `script`; `more` goes over the body.
fn create(engine: &Engine, name: &str, script: &str, more: &Value) -> String {
    let mut body = json!({
        "Image": "bb", "Cmd": ["sh", "-c", script], "HostConfig": { "NetworkMode": "none" },
    });
    for (key, value) in more.as_object().into_iter().flatten() {
        body[key] = value.clone();
    }
    let path = format!("/containers/create?name={name}");
    let answer = engine.client().post(&path, &body).expect("the engine answers");
    assert_eq!(answer.status, 201, "{}", answer.text());
    answer.json()["Id"].as_str().expect("an id").to_owned()
}

fn start(engine: &Engine, name: &str) {
    let answer = post(engine, &format!("/containers/{name}/start"));
    assert_eq!(answer.status, 204, "{}", answer.text());
}

fn wait(engine: &Engine, name: &str) -> i64 {
    post(engine, &format!("/containers/{name}/wait")).json()["StatusCode"].as_i64().expect("a code")
}

/// Opens a raw stream and reads its head.
fn hijack(engine: &Engine, path: &str, upgrade: bool, body: &str, early: &str) -> (Client, Answer) {
    let mut client = engine.client();
    let upgrade = if upgrade { "Connection: Upgrade\r\nUpgrade: tcp\r\n" } else { "" };
    let request = format!(
        "POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n{upgrade}Content-Length: {}\r\n\r\n\
         {body}{early}",
        body.len()
    );
    client.write_raw(request.as_bytes()).expect("the engine reads");
    let head = client.head().expect("a head");
    (client, head)
}

#[test]
fn versions_are_negotiated_in_dockers_words() {
    let Some(engine) = engine() else { return };
    let old = get(&engine, "/v1.23/info");
    assert_eq!(old.status, 400);
    assert!(
        message(&old)
            .starts_with("client version 1.23 is too old. Minimum supported API version is 1.24")
    );
    let new = get(&engine, "/v1.99/info");
    assert_eq!(
        (new.status, message(&new).as_str()),
        (400, "client version 1.99 is too new. Maximum supported API version is 1.51")
    );
    for path in ["/info", "/v1.24/info", "/v1.51/info"] {
        let answer = get(&engine, path);
        assert_eq!((answer.status, answer.header("api-version")), (200, Some("1.51")), "{path}");
    }
    let ping = engine.client().send("HEAD", "/_ping", &[], b"").expect("the engine answers");
    assert_eq!(
        (ping.status, ping.header("content-length"), ping.header("ostype")),
        (200, Some("0"), Some("linux"))
    );
    assert_eq!(get(&engine, "/_ping").text(), "OK");
    let lost = get(&engine, "/nosuch");
    assert_eq!((lost.status, message(&lost).as_str()), (404, "page not found"));
}

#[test]
fn a_body_is_read_whatever_its_keys_case_its_nulls_and_its_type() {
    let Some(engine) = engine() else { return };
    let body = br#"{"image":"bb","CMD":"true","Env":null,"entrypoint":null,"hostconfig":{"networkmode":"none"}}"#;
    let answer =
        engine.client().send("POST", "/containers/create?name=one", &[], body).expect("an answer");
    assert_eq!(answer.status, 201, "{}", answer.text());
    let shown = get(&engine, "/v1.30/containers/%2Fone/json").json();
    assert_eq!(
        (&shown["Config"]["Image"], &shown["HostConfig"]["NetworkMode"]),
        (&json!("bb"), &json!("none"))
    );
    let wrong = engine
        .client()
        .post("/containers/create", &json!({"Image": "bb", "HostConfig": {"Memory": "x"}}));
    let wrong = wrong.expect("an answer");
    assert_eq!((wrong.status, message(&wrong).contains("HostConfig.Memory")), (400, true));
    let empty = post(&engine, "/containers/create");
    assert_eq!((empty.status, message(&empty).contains("config cannot be empty")), (400, true));
}

#[test]
fn names_with_slashes_are_found_encoded_or_not() {
    let Some(engine) = engine() else { return };
    assert_eq!(post(&engine, "/images/bb/tag?repo=localhost:5000/a/b&tag=1").status, 201);
    for path in [
        "/images/localhost:5000/a/b:1/json",
        "/images/localhost:5000%2Fa%2Fb:1/json",
        "/images/bb%3Alatest/json",
    ] {
        assert_eq!(get(&engine, path).status, 200, "{path}");
    }
    let lost = get(&engine, "/images/x/y/json");
    assert_eq!((lost.status, message(&lost).as_str()), (404, "No such image: x/y:latest"));
}

#[test]
fn what_is_missing_or_done_already_has_dockers_status_and_words() {
    let Some(engine) = engine() else { return };
    let missing = get(&engine, "/containers/x/json");
    assert_eq!((missing.status, message(&missing).as_str()), (404, "No such container: x"));
    let image = engine
        .client()
        .post("/containers/create", &json!({"Image": "no/such:1"}))
        .expect("an answer");
    assert_eq!((image.status, message(&image).as_str()), (404, "No such image: no/such:1"));
    // Docker's command line pulls the image when it reads 404.
    let body = json!({"Image": "bb", "HostConfig": {"NetworkMode": "nosuch"}});
    let network = engine.client().post("/containers/create", &body).expect("an answer");
    assert_eq!((network.status, message(&network).as_str()), (400, "network nosuch not found"));
    let id = create(&engine, "one", "sleep 1000", &json!({}));
    let taken = engine
        .client()
        .post("/containers/create?name=one", &json!({"Image": "bb"}))
        .expect("an answer");
    assert_eq!(taken.status, 409);
    assert_eq!(
        message(&taken),
        format!(
            "Conflict. The container name \"/one\" is already in use by container \"{id}\". You have to remove (or \
             rename) that container to be able to reuse that name."
        )
    );
    assert_eq!(post(&engine, "/containers/one/stop").status, 304);
    start(&engine, "one");
    let again = post(&engine, "/containers/one/start");
    assert_eq!((again.status, again.body.len()), (304, 0));
    let running = engine.client().send("DELETE", "/containers/one", &[], b"").expect("an answer");
    assert_eq!(running.status, 409);
    assert_eq!(get(&engine, "/swarm").status, 503);
    assert!(message(&get(&engine, "/services")).starts_with("This node is not a swarm manager."));
}

#[test]
fn filters_come_in_two_shapes() {
    let Some(engine) = engine() else { return };
    create(&engine, "one", "true", &json!({"Labels": {"k": "v"}}));
    create(&engine, "two", "true", &json!({}));
    for filters in
        ["%7B%22label%22%3A%5B%22k%3Dv%22%5D%7D", "%7B%22label%22%3A%7B%22k%3Dv%22%3Atrue%7D%7D"]
    {
        let list = get(&engine, &format!("/containers/json?all=1&filters={filters}")).json();
        let names: Vec<&Value> =
            list.as_array().into_iter().flatten().map(|entry| &entry["Names"]).collect();
        assert_eq!(names, [&json!(["/one"])], "{filters}");
    }
    let wrong = get(&engine, "/containers/json?filters=%7B%22colour%22%3A%5B%22red%22%5D%7D");
    assert_eq!((wrong.status, message(&wrong).as_str()), (400, "invalid filter 'colour'"));
    assert_eq!(get(&engine, "/containers/json?filters=bad").status, 400);
}

#[test]
fn a_raw_stream_carries_what_came_with_the_head_and_its_half_close() {
    let Some(engine) = engine() else { return };
    let stdin = json!({"OpenStdin": true, "StdinOnce": true, "AttachStdin": true});
    for (name, upgrade) in [("new", true), ("old", false)] {
        create(&engine, name, "cat; echo done; echo err >&2", &stdin);
        let path = format!("/containers/{name}/attach?stream=1&stdin=1&stdout=1&stderr=1");
        let (mut client, head) = hijack(&engine, &path, upgrade, "", "early\n");
        assert_eq!(head.status, if upgrade { 101 } else { 200 });
        assert_eq!(head.header("content-type"), Some("application/vnd.docker.multiplexed-stream"));
        start(&engine, name);
        client.write_raw(b"late\n").expect("the engine reads");
        client.half_close().expect("one side closes");
        let (out, err) = demultiplex(&client.rest().expect("the output"));
        assert_eq!((out.as_str(), err.as_str()), ("early\nlate\ndone\n", "err\n"), "{name}");
        assert_eq!(wait(&engine, name), 0);
    }
}

#[test]
fn the_content_type_of_a_raw_stream_follows_the_version() {
    let Some(engine) = engine() else { return };
    create(&engine, "one", "echo hi", &json!({}));
    start(&engine, "one");
    wait(&engine, "one");
    for (version, expected) in [("1.41", "raw"), ("1.42", "multiplexed")] {
        let answer = get(&engine, &format!("/v{version}/containers/one/logs?stdout=1"));
        let expected = format!("application/vnd.docker.{expected}-stream");
        assert_eq!(answer.header("content-type"), Some(expected.as_str()));
        assert_eq!(demultiplex(&answer.body).0, "hi\n");
    }
    let none = get(&engine, "/containers/one/logs");
    assert_eq!(
        (none.status, message(&none).as_str()),
        (400, "Bad parameters: you must choose at least one stream")
    );
}

#[test]
fn a_line_without_an_end_has_none_in_the_log() {
    let Some(engine) = engine() else { return };
    create(&engine, "one", "echo one; printf two", &json!({}));
    start(&engine, "one");
    wait(&engine, "one");
    let logs = |query: &str| {
        demultiplex(&get(&engine, &format!("/containers/one/logs?stdout=1&stderr=1{query}")).body).0
    };
    assert_eq!(logs(""), "one\ntwo");
    assert_eq!(logs("&follow=1"), "one\ntwo");
    assert_eq!(logs("&tail=1"), "two");
    assert_eq!(logs("&tail=0"), "");
    assert_eq!(logs("&since=4102444800"), "");
}

#[test]
fn an_exec_that_cannot_begin_says_so_on_its_stream_and_by_its_code() {
    let Some(engine) = engine() else { return };
    create(&engine, "one", "sleep 1000", &json!({}));
    start(&engine, "one");
    let cases =
        [("nosuch", 127, "executable file not found in $PATH"), ("/etc", 126, "permission denied")];
    for (program, code, words) in cases {
        let body = json!({"Cmd": [program], "AttachStdout": true, "AttachStderr": true});
        let exec = engine.client().post("/containers/one/exec", &body).expect("an answer").json();
        let exec = exec["Id"].as_str().expect("an id").to_owned();
        let (mut client, head) = hijack(&engine, &format!("/exec/{exec}/start"), true, "{}", "");
        assert_eq!(head.status, 101);
        let (out, _) = demultiplex(&client.rest().expect("the output"));
        assert!(out.contains(words), "{out}");
        let shown = get(&engine, &format!("/exec/{exec}/json")).json();
        assert_eq!((&shown["ExitCode"], &shown["Running"]), (&json!(code), &json!(false)));
        let (_, again) = hijack(&engine, &format!("/exec/{exec}/start"), true, "{}", "");
        assert_eq!(again.status, 409);
    }
    assert_eq!(post(&engine, "/exec/nosuch/start").status, 404);
}

#[test]
fn the_code_of_an_exec_is_there_when_its_stream_ends() {
    let Some(engine) = engine() else { return };
    create(&engine, "one", "sleep 1000", &json!({}));
    start(&engine, "one");
    // What it leaves behind holds the pipe, not the stream.
    let body = json!({"Cmd": ["sh", "-c", "sleep 1000 & cat; exit 7"], "AttachStdin": true, "AttachStdout": true});
    let exec = engine.client().post("/containers/one/exec", &body).expect("an answer").json();
    let exec = exec["Id"].as_str().expect("an id").to_owned();
    let (mut client, _) = hijack(&engine, &format!("/exec/{exec}/start"), true, "{}", "in\n");
    client.half_close().expect("one side closes");
    assert_eq!(demultiplex(&client.rest().expect("the output")).0, "in\n");
    assert_eq!(get(&engine, &format!("/exec/{exec}/json")).json()["ExitCode"], 7);
}

#[test]
fn a_wait_sends_its_head_before_the_container_starts() {
    let Some(engine) = engine() else { return };
    create(
        &engine,
        "one",
        "exit 3",
        &json!({"HostConfig": {"NetworkMode": "none", "AutoRemove": true}}),
    );
    let mut waiting = engine.client();
    waiting
        .write("POST", "/containers/one/wait?condition=removed", &[], b"")
        .expect("the engine reads");
    assert_eq!(waiting.head().expect("a head at once").status, 200);
    start(&engine, "one");
    let body = waiting.chunk().expect("the code");
    assert_eq!(serde_json::from_slice::<Value>(&body).expect("JSON")["StatusCode"], 3);
    assert_eq!(get(&engine, "/containers/one/json").status, 404);
}

#[test]
fn events_begin_at_once_and_end_at_until() {
    let Some(engine) = engine() else { return };
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .expect("a clock")
        .as_secs();
    let mut client = engine.client();
    let path = format!(
        "/events?since={}&until={}&filters=%7B%22type%22%3A%5B%22container%22%5D%7D",
        now - 1,
        now + slowed(Duration::from_secs(2)).as_secs()
    );
    client.write("GET", &path, &[], b"").expect("the engine reads");
    assert_eq!(client.head().expect("a head at once").status, 200);
    create(&engine, "one", "exit 4", &json!({}));
    start(&engine, "one");
    let mut actions = Vec::new();
    loop {
        let chunk = client.chunk().expect("an event or the end");
        let Ok(event) = serde_json::from_slice::<Value>(&chunk) else { break };
        assert_eq!((&event["status"], &event["from"]), (&event["Action"], &json!("bb")));
        actions.push(event["Action"].as_str().unwrap_or_default().to_owned());
        if event["Action"] == "die" {
            assert_eq!(event["Actor"]["Attributes"]["exitCode"], "4");
        }
    }
    assert_eq!(actions, ["create", "start", "die"]);
}

#[test]
fn a_client_that_still_sends_reads_why_it_was_refused() {
    let Some(engine) = engine() else { return };
    let archive = vec![0; 8 << 20];
    let path = "/images/create?fromSrc=-&repo=x&changes=BAD";
    let answer = engine.client().send("POST", path, &[], &archive).expect("no broken pipe");
    assert_eq!((answer.status, message(&answer).contains("BAD")), (400, true), "{}", answer.text());
}

#[test]
fn a_client_that_does_not_read_holds_up_neither_others_nor_the_container() {
    let Some(engine) = engine() else { return };
    create(&engine, "one", "head -c 30000000 /dev/zero", &json!({}));
    let (mut slow, _) = hijack(&engine, "/containers/one/attach?stream=1&stdout=1", true, "", "");
    start(&engine, "one");
    assert_eq!(slow.exactly(8).expect("a frame begins").len(), 8);
    let begun = Instant::now();
    assert_eq!(get(&engine, "/containers/json").status, 200);
    assert!(begun.elapsed() < slowed(Duration::from_secs(2)), "{:?}", begun.elapsed());
    drop(slow);
    assert_eq!(wait(&engine, "one"), 0, "the program ends when its slow reader is gone");
}

#[test]
fn clients_that_leave_while_they_follow_leave_nothing_open() {
    let Some(engine) = engine() else { return };
    create(&engine, "one", "echo begun; sleep 1000", &json!({}));
    start(&engine, "one");
    let open = || {
        std::fs::read_dir(format!("/proc/{}/fd", engine.pid())).expect("its descriptors").count()
    };
    let follow = || {
        let mut client = engine.client();
        client
            .write("GET", "/containers/one/logs?stdout=1&follow=1", &[], b"")
            .expect("the engine reads");
        assert_eq!(client.head().expect("a head").status, 200);
        assert!(!client.chunk().expect("the first line").is_empty());
        client
    };
    drop(follow());
    let before = open();
    for _ in 0..20 {
        drop(follow());
        drop(hijack(&engine, "/containers/one/attach?stream=1&stdout=1", true, "", ""));
        let mut events = engine.client();
        events.write("GET", "/events", &[], b"").expect("the engine reads");
        assert_eq!(events.head().expect("a head").status, 200);
    }
    wait_for(PATIENCE, || (open() <= before + 2).then_some(()))
        .unwrap_or_else(|| panic!("{before} descriptors before, {} after", open()));
}

#[test]
fn one_connection_serves_many_requests() {
    let Some(engine) = engine() else { return };
    let mut client = engine.client();
    for path in ["/_ping", "/containers/nosuch/json", "/version", "/v1.10/info", "/images/json"] {
        client.get(path).unwrap_or_else(|error| panic!("{path}: {error}"));
    }
    let gone = client.send("POST", "/containers/nosuch/start", &[], b"").expect("an answer");
    assert_eq!(gone.status, 404);
    client.half_close().expect("one side closes");
    assert_eq!(client.line().map_err(|error| error.kind()), Err(ErrorKind::UnexpectedEof));
}

#[test]
fn json_may_stand_in_a_url_as_it_is() {
    let Some(engine) = engine() else { return };
    create(&engine, "one", "true", &json!({ "Labels": { "a": "é" } }));
    create(&engine, "two", "true", &json!({}));
    let mut client = engine.client();
    // Twice, as a connection is kept; a body between them is no request.
    for _ in 0..2 {
        let raw = "/containers/json?all=1&filters={\"label\":[\"a=é\"]}";
        let listed = client.get(raw).expect("the engine answers");
        assert_eq!(listed.status, 200, "{}", listed.text());
        let names: Vec<String> = listed
            .json()
            .as_array()
            .unwrap()
            .iter()
            .map(|one| one["Names"][0].to_string())
            .collect();
        assert_eq!(names, ["\"/one\""]);
        let body = json!({ "Name": "made", "Labels": { "GET /\"x HTTP/1.1\r\n": "{}" } });
        let made = client.post("/volumes/create", &body).expect("the engine answers");
        assert_eq!(made.json()["Labels"], body["Labels"], "{}", made.text());
    }
    assert_eq!(client.get("/containers/json?filters={\"nope\":[\"x\"]}").unwrap().status, 400);
}
