//! The client against a server of a few lines.

use std::path::PathBuf;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixListener;

use super::*;

/// Serves one connection: reads a request's head, answers with `answers` in turn. Returns the heads.
async fn serve(listener: UnixListener, answers: Vec<&'static str>) -> Vec<String> {
    let mut heads = Vec::new();
    let (mut stream, _) = listener.accept().await.unwrap();
    for answer in answers {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            if stream.read(&mut byte).await.unwrap() == 0 {
                return heads;
            }
            head.extend(byte);
        }
        heads.push(String::from_utf8(head).unwrap());
        stream.write_all(answer.as_bytes()).await.unwrap();
        if answer.starts_with("HTTP/1.1 101") {
            let mut rest = String::new();
            stream.read_to_string(&mut rest).await.unwrap();
            heads.push(rest);
            stream.write_all(b"after the end").await.unwrap();
        }
    }
    heads
}

struct Socket {
    _folder: tempfile::TempDir,
    path: PathBuf,
    listener: UnixListener,
}

fn socket() -> Socket {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s");
    let listener = UnixListener::bind(&path).unwrap();
    Socket { _folder: folder, path, listener }
}

fn client(path: PathBuf) -> Client {
    Client { socket: path, idle: Mutex::default() }
}

#[tokio::test]
async fn a_refusal_is_the_engines_message_and_the_connection_is_used_again() {
    let Socket { _folder, path, listener } = socket();
    let served = tokio::spawn(serve(
        listener,
        vec![
            "HTTP/1.1 404 Not Found\r\nContent-Length: 34\r\n\r\n{\"message\":\"No such container: x\"}",
            "HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n{\"a\":1}",
        ],
    ));
    let client = client(path);
    let error = client.get("/containers/x/json", &[("size", "a b&")]).await.unwrap_err();
    assert!(error.is_not_found());
    let answer = client.get("/bargee/v1/version", &[]).await.unwrap();
    assert_eq!(answer.json::<Value>().unwrap()["a"], 1);
    drop(client);
    let heads = served.await.unwrap();
    assert!(heads[0].starts_with("GET /v1.51/containers/x/json?size=a%20b%26 HTTP/1.1\r\n"));
    assert!(heads[1].starts_with("GET /bargee/v1/version HTTP/1.1\r\n"));
}

#[tokio::test]
async fn lines_come_one_by_one_however_they_are_cut() {
    let Socket { _folder, path, listener } = socket();
    let body = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\
        5\r\n{\"a\":\r\n7\r\n1}\n{\"a\"\r\n4\r\n:2}\n\r\n0\r\n\r\n";
    let served = tokio::spawn(serve(listener, vec![body]));
    let mut lines = client(path).lines(Method::GET, "/events", &[], None).await.unwrap();
    assert_eq!(lines.next().await.unwrap().unwrap()["a"], 1);
    assert_eq!(lines.next().await.unwrap().unwrap()["a"], 2);
    assert!(lines.next().await.unwrap().is_none());
    served.await.unwrap();
}

#[tokio::test]
async fn an_upgraded_connection_can_be_closed_in_one_direction() {
    let Socket { _folder, path, listener } = socket();
    let answer = "HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\nfirst";
    let served = tokio::spawn(serve(listener, vec![answer]));
    let (mut read, mut write) =
        client(path).upgrade("/containers/c/attach", &[("stdin", "1")], None).await.unwrap();
    write.write_all(b"typed").await.unwrap();
    write.shutdown().await.unwrap();
    let mut all = String::new();
    read.read_to_string(&mut all).await.unwrap();
    assert_eq!(all, "firstafter the end");
    let heads = served.await.unwrap();
    assert!(heads[0].contains("upgrade: tcp"), "{}", heads[0]);
    assert_eq!(heads[1], "typed");
}

#[tokio::test]
async fn a_missing_engine_that_was_named_by_its_socket_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let host = format!("unix://{}/none.sock", folder.path().display());
    let asked = crate::cli::place::Asked { host: Some(host), ..Default::default() };
    let place = Place::new(asked).unwrap();
    assert!(matches!(Client::connect(&place).await, Err(ClientError::Connect { .. })));
    assert!(Client::connect_running(&place).await.unwrap().is_none());
}
