//! Attaching over a web socket, with a client of the standard's (RFC 6455).

use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::json;
use tokio::net::UnixStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::{Error, Message};

use crate::support::engine::{self, Engine, PATIENCE};

/// An engine with a container `box` that runs `script`.
fn created(script: &str, tty: bool) -> Option<Engine> {
    if !engine::possible() {
        return None;
    }
    let engine = Engine::start();
    engine.load_busybox("bb");
    let body = json!({
        "Image": "bb", "Cmd": ["sh", "-c", script], "OpenStdin": true, "Tty": tty,
        "HostConfig": { "NetworkMode": "none", "Init": true },
    });
    let made = engine.client().post("/containers/create?name=box", &body).unwrap();
    assert_eq!(made.status, 201, "{}", made.text());
    Some(engine)
}

fn start(engine: &Engine) {
    let answer = engine.client().send("POST", "/containers/box/start", &[], b"").unwrap();
    assert_eq!(answer.status, 204, "{}", answer.text());
}

/// Runs `test` with a time limit.
fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        tokio::time::timeout(PATIENCE, test).await.expect("it ends in time");
    });
}

async fn open(
    engine: &Engine,
    version: &str,
    query: &str,
) -> Result<WebSocketStream<UnixStream>, Error> {
    let stream = UnixStream::connect(engine.socket()).await.unwrap();
    let url = format!("ws://localhost{version}/containers/box/attach/ws?{query}");
    tokio_tungstenite::client_async(url, stream).await.map(|(socket, _)| socket)
}

/// Reads messages until `words` are there, or the end.
async fn until(socket: &mut WebSocketStream<UnixStream>, words: &str) -> String {
    let mut seen = String::new();
    while !seen.contains(words) {
        match socket.next().await {
            Some(Ok(Message::Binary(bytes))) => seen.push_str(&String::from_utf8_lossy(&bytes)),
            Some(Ok(Message::Text(text))) => seen.push_str(&format!("text:{text}")),
            _ => return seen,
        }
    }
    seen
}

#[test]
fn input_and_both_outputs_go_over_a_web_socket_until_the_program_ends() {
    let Some(engine) = created("read x; echo out-$x; echo err-$x >&2; read y; exit 3", false)
    else {
        return;
    };
    run(async {
        let mut socket = open(&engine, "", "stream=1&stdin=1&stdout=1&stderr=1").await.unwrap();
        start(&engine);
        socket.send(Message::binary(b"a\n".to_vec())).await.unwrap();
        let seen = until(&mut socket, "err-a\n").await;
        assert!(seen.contains("out-a\n"), "{seen:?}");
        socket.send(Message::text("b\n")).await.unwrap();
        assert!(matches!(socket.next().await, Some(Ok(Message::Close(_)))));
    });
    let waited = engine.client().send("POST", "/containers/box/wait", &[], b"").unwrap();
    assert_eq!(waited.json()["StatusCode"], 3);
}

#[test]
fn logs_come_first_and_old_clients_get_text() {
    let Some(engine) = created("echo early; read x; echo late-$x; read y", false) else { return };
    start(&engine);
    run(async {
        let logged = "stream=1&logs=1&stdin=1&stdout=1";
        let mut socket = open(&engine, "", "stream=1&logs=1&stdout=1").await.unwrap();
        assert_eq!(until(&mut socket, "early\n").await, "early\n");
        let mut old = open(&engine, "/v1.27", logged).await.unwrap();
        assert_eq!(until(&mut old, "early\n").await, "text:early\n");
        // Of one that did not ask for input nothing arrives.
        socket.send(Message::binary(b"ignored\n".to_vec())).await.unwrap();
        old.send(Message::binary(b"x\n".to_vec())).await.unwrap();
        assert!(until(&mut old, "late-x\n").await.ends_with("text:late-x\n"));
        assert_eq!(until(&mut socket, "late-x\n").await, "late-x\n");
        // The end of a client's input is the program's.
        old.close(None).await.unwrap();
    });
}

#[test]
fn the_keys_leave_a_terminal_and_a_wrong_handshake_is_refused() {
    let Some(engine) = created("echo up; read x; sleep 1000", true) else { return };
    start(&engine);
    run(async {
        let query = "stream=1&logs=1&stdin=1&stdout=1&detachKeys=ctrl-a,b";
        let mut socket = open(&engine, "", query).await.unwrap();
        until(&mut socket, "up").await;
        socket.send(Message::binary(b"\x01b".to_vec())).await.unwrap();
        let left = tokio::time::timeout(Duration::from_secs(10), async {
            while !matches!(socket.next().await, None | Some(Err(_) | Ok(Message::Close(_)))) {}
        });
        left.await.expect("the keys end the session");
        let refused = open(&engine, "", "stream=1&detachKeys=ctrl-A").await.unwrap_err();
        assert!(matches!(&refused, Error::Http(answer) if answer.status() == 400), "{refused:?}");
    });
    let state = engine.client().get("/containers/box/json").unwrap().json();
    assert_eq!(state["State"]["Running"], true);
    let plain = engine.client().get("/containers/box/attach/ws?stream=1").unwrap();
    assert_eq!(plain.status, 400, "{}", plain.text());
    assert!(plain.text().contains("no web socket's handshake"), "{}", plain.text());
}
