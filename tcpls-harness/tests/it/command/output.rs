//! Output that is not read, that can't be written, or whose reader leaves.

use std::path::Path;

use tcpls_harness::files::{FetchError, PROTOCOL, fetch};
use tcpls_harness::net::{ClientOptions, Session};
use tcpls_harness::tls::Trust;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

use super::{Tcpls, command};
use crate::library;
use crate::support::{Directory, ask, read_content};

pub(super) async fn connect(directory: &Path, address: &str) -> Session {
    let tls = library::client(&Trust::File(directory.join("ca.pem")), PROTOCOL);
    let options = ClientOptions::new(tls, "localhost".try_into().unwrap());
    Session::connect(&[address.parse().unwrap()], options).await.unwrap()
}

/// Asks for a file that is not there.
pub(super) async fn ask_for(session: &Session, path: &str) {
    let refused = fetch(session.open_stream().await.unwrap(), "localhost", path, None).await;
    assert_eq!(refused.unwrap_err(), FetchError::Refused(404, "there is no such file".to_owned()));
}

/// Asks for files with names of 3 kB that are not there, one after the other.
async fn ask_for_long_names(session: &Session, requests: usize) {
    let path = format!("/{}", "n".repeat(3000));
    for _ in 0..requests {
        ask_for(session, &path).await;
    }
}

#[tokio::test]
async fn serve_drops_and_counts_log_lines_while_its_log_is_not_read() {
    let directory = Directory::new("unread-log");
    let (mut server, address) = Tcpls::serve(directory.path(), &[]).await;
    std::fs::write(directory.path().join("root/file"), "served").unwrap();
    let session = connect(directory.path(), &address).await;
    // Far more than the pipe and the queue hold.
    ask_for_long_names(&session, 1500).await;
    assert_eq!(read_content(&mut ask(&session, "/file").await).await, b"served");
    let request = server.event("request").await;
    assert!(request["path"].as_str().unwrap().ends_with("nnn… (3001 bytes)"), "{request}");
    let lost = server.event("messages_lost").await;
    assert!(lost["messages"].as_u64() > Some(0), "{lost}");
    server.signal("TERM");
    assert!(server.end().await.0.success());
}

#[tokio::test]
async fn sigterm_ends_serve_while_its_log_is_not_read() {
    let directory = Directory::new("unread-text");
    let (root, ca) = (directory.path().to_str().unwrap(), directory.path().join("ca.pem"));
    let line = ["serve", "--listen", "127.0.0.1:0", "--root", root, "--ca-out", ca.to_str().unwrap()];
    let mut server = command(&line).spawn().unwrap();
    let mut log = BufReader::new(server.stderr.take().unwrap()).lines();
    let listening = log.next_line().await.unwrap().unwrap();
    let session = connect(directory.path(), listening.split_once(" listening on ").unwrap().1).await;
    ask_for_long_names(&session, 400).await;
    let pid = server.id().unwrap().to_string();
    assert!(std::process::Command::new("kill").args(["-s", "TERM", &pid]).status().unwrap().success());
    // The log is still open and unread.
    assert!(server.wait().await.unwrap().success());
    drop(log);
}

#[tokio::test]
async fn a_reader_that_has_seen_enough_ends_the_command_quietly() {
    let mut sim = command(&["sim", "swarm", "--seeds", "0..100000", "--print"]).spawn().unwrap();
    let mut lines = BufReader::new(sim.stdout.take().unwrap()).lines();
    lines.next_line().await.unwrap().unwrap();
    drop(lines);
    let output = sim.wait_with_output().await.unwrap();
    assert_eq!((output.status.code(), output.stderr.as_slice()), (Some(141), &b""[..]));
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn results_that_cannot_be_written_are_an_error() {
    let full = || std::fs::File::options().write(true).open("/dev/full").unwrap();
    let lines = [
        &["sim", "swarm", "--seeds", "0..1", "--print"][..],
        &["get", "--json", "--connect", "127.0.0.1:1", "--insecure", "https://localhost/file", "-o", "/tmp"],
    ];
    for line in lines {
        let output = command(line).stdout(full()).spawn().unwrap().wait_with_output().await.unwrap();
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{text}");
        assert!(!text.contains("panicked"), "{text}");
    }
    let output = command(&["sim", "swarm", "--seeds", "0..1", "--print"])
        .stdout(full())
        .spawn()
        .unwrap()
        .wait_with_output()
        .await
        .unwrap();
    assert!(String::from_utf8(output.stderr).unwrap().contains("can't write to standard output: No space left"));
}

#[tokio::test]
async fn errors_without_a_reader_are_no_panic() {
    let mut get =
        command(&["get", "--connect", "127.0.0.1:1", "--insecure", "https://localhost/50%.txt"]).spawn().unwrap();
    drop(get.stderr.take());
    assert_eq!(get.wait().await.unwrap().code(), Some(1));
}

#[tokio::test]
async fn serve_reports_requests_and_failures_with_the_clients_address() {
    let directory = Directory::new("addresses");
    let (mut server, address) = Tcpls::serve(directory.path(), &[]).await;
    let mut stranger = TcpStream::connect(&address).await.unwrap();
    stranger.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    let failed = server.event("handshake_failed").await;
    assert_eq!(failed["client"], stranger.local_addr().unwrap().to_string());
    assert!(failed["reason"].as_str().unwrap().contains("refused with alert"), "{failed}");
    let session = connect(directory.path(), &address).await;
    let client = session.local_address().unwrap().to_string();
    ask_for(&session, "/nothing").await;
    for event in ["session_began", "request"] {
        assert_eq!(server.event(event).await["client"], client, "{event}");
    }
}
