//! The web service inside `bargee/hello`. It is the container's program, so its environment is its own:
//! `PORT` (80), `PEERS` (host names to resolve, by comma), `MESSAGE`.
//!
//! `/` tells about the container, `/healthz` answers `ok`, `/crash` exits with 1, `/eat?mb=N` keeps N MiB.

use std::env;
use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv6Addr, TcpListener, TcpStream};
use std::process::ExitCode;
use std::sync::mpsc::{Sender, channel};
use std::thread;
use std::time::Duration;

use signal_hook::consts::{SIGINT, SIGTERM};

use super::dns;

/// Why the service ends.
enum End {
    Asked,
    Crash,
}

/// Serves until SIGTERM or SIGINT (exit code 0) or `/crash` (1).
pub fn serve() -> ExitCode {
    match run() {
        Ok(End::Asked) => ExitCode::SUCCESS,
        Ok(End::Crash) => ExitCode::FAILURE,
        Err(error) => {
            say(&format!("cannot serve: {error}"));
            ExitCode::FAILURE
        }
    }
}

fn run() -> io::Result<End> {
    let port: u16 = match env::var("PORT") {
        Ok(port) => port.parse().map_err(|_| {
            io::Error::new(io::ErrorKind::InvalidInput, format!("PORT={port:?} is no port"))
        })?,
        Err(_not_given) => 80,
    };
    // Without IPv6 in the kernel the wildcard of both families does not exist.
    let listener = TcpListener::bind((Ipv6Addr::UNSPECIFIED, port))
        .or_else(|_| TcpListener::bind(("0.0.0.0", port)))?;
    // PID 1 ignores every signal that it has no handler for (pid_namespaces(7)).
    let mut signals = signal_hook::iterator::Signals::new([SIGTERM, SIGINT])?;
    let (sender, ends) = channel();
    let asked = sender.clone();
    thread::spawn(move || signals.forever().next().map(|_| asked.send(End::Asked)));
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let sender = sender.clone();
            thread::spawn(move || answer(&stream, &sender));
        }
    });
    say(&format!("bargee/hello listens on port {port}"));
    ends.recv().map_err(io::Error::other)
}

fn say(line: &str) {
    // Nobody is left to tell when this fails.
    drop(writeln!(io::stdout(), "{line}"));
}

fn answer(stream: &TcpStream, sender: &Sender<End>) -> io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    let mut request = BufReader::new(stream.take(16 << 10)).lines();
    let first = request.next().transpose()?.unwrap_or_default();
    for line in request {
        if line?.is_empty() {
            break;
        }
    }
    let path = first.split(' ').nth(1).unwrap_or("/");
    say(&format!(
        "{} {}",
        first.split(' ').next().unwrap_or("-").escape_debug(),
        path.escape_debug()
    ));
    let (path, query) = path.split_once('?').unwrap_or((path, ""));
    let (status, body) = match path {
        "/" => ("200 OK", describe()),
        "/healthz" => ("200 OK", "ok\n".to_owned()),
        "/crash" => ("200 OK", "crashing\n".to_owned()),
        "/eat" => eat(query),
        _ => ("404 Not Found", "not found\n".to_owned()),
    };
    let length = body.len();
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
    );
    let mut output = stream;
    output.write_all((head + &body).as_bytes())?;
    if path == "/crash" {
        say("crashing, as asked");
        sender.send(End::Crash).map_err(io::Error::other)?;
    }
    Ok(())
}

fn eat(query: &str) -> (&'static str, String) {
    let Some(megabytes) = query.strip_prefix("mb=").and_then(|text| text.parse::<usize>().ok())
    else {
        return ("400 Bad Request", "expected /eat?mb=N\n".to_owned());
    };
    for _ in 0..megabytes {
        // Not zero, so that every page is really there; never freed: that is the point.
        std::mem::forget(vec![1_u8; 1 << 20]);
    }
    ("200 OK", format!("ate {megabytes} MiB\n"))
}

fn describe() -> String {
    let mut text = String::new();
    if let Ok(message) = env::var("MESSAGE") {
        text += &format!("{message}\n");
    }
    let host = rustix::system::uname();
    text += &format!("host {}\n", host.nodename().to_string_lossy());
    for address in nix::ifaddrs::getifaddrs().into_iter().flatten() {
        let Some(socket) = address.address else { continue };
        if let Some(v4) = socket.as_sockaddr_in() {
            text += &format!("address {} {}\n", address.interface_name, v4.ip());
        } else if let Some(v6) = socket.as_sockaddr_in6() {
            text += &format!("address {} {}\n", address.interface_name, v6.ip());
        }
    }
    text += &format!("memory {}\n", memory_limit());
    for peer in env::var("PEERS")
        .unwrap_or_default()
        .split(',')
        .map(str::trim)
        .filter(|peer| !peer.is_empty())
    {
        let found = match dns::resolve(peer) {
            Ok(addresses) if addresses.is_empty() => "unknown".to_owned(),
            Ok(addresses) => {
                addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
            }
            Err(error) => error.to_string(),
        };
        text += &format!("peer {peer} {found}\n");
    }
    text
}

/// Returns the limit of this container's cgroup in bytes, version 2's file or version 1's.
fn memory_limit() -> String {
    let files = ["/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"];
    let text = files.iter().find_map(|file| fs::read_to_string(file).ok()).unwrap_or_default();
    match text.trim() {
        "" => "unknown".to_owned(),
        // Version 1 says "no limit" by the largest number of pages.
        "max" | "9223372036854771712" => "unlimited".to_owned(),
        limit => limit.to_owned(),
    }
}
