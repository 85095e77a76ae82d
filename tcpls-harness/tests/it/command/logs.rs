//! `RUST_LOG`.

use tokio::io::AsyncReadExt;

use super::output::{ask_for, connect};
use super::{Tcpls, command, get_line};
use crate::support::Directory;

#[tokio::test]
async fn rust_log_shows_what_sessions_do_on_standard_error() {
    let directory = Directory::new("rust-log");
    let (server, address) = Tcpls::serve(directory.path(), &[]).await;
    std::fs::create_dir_all(directory.path().join("out")).unwrap();
    std::fs::write(directory.path().join("root/file"), vec![7; 100_000]).unwrap();
    let get = |filter: &str| {
        let mut get = command(&[]);
        get.args(get_line(directory.path(), &address, "file")).env("RUST_LOG", filter);
        get.spawn().unwrap().wait_with_output()
    };
    let output = get("tcpls=trace").await.unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{text}");
    let span = format!("session{{number=1 side=\"client\" peer={address}}}");
    for event in ["tcp{id=0}: tcpls: Joined {", "tcp{id=0}: tcpls: RecordReceived {", " tcpls: Closed { reason:"] {
        assert!(text.lines().any(|line| line.contains(&span) && line.contains(event)), "no {event} in {text}");
    }
    let output = get("tcpls=info").await.unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(text.contains("StateChanged") && !text.contains("Joined") && !text.contains("Record"), "{text}");
    let output = get("").await.unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success() && !text.contains("StateChanged"), "{text}");
    server.signal("TERM");
}

#[tokio::test]
async fn bad_filter_in_rust_log_is_an_error_that_names_it() {
    let mut get = command(&["get", "--connect", "127.0.0.1:1", "--insecure", "https://localhost/file"]);
    let output = get.env("RUST_LOG", "tcpls=loud").output().await.unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("RUST_LOG: ") && text.contains("tcpls=debug"), "{text}");
}

/// More than the pipe and the queue hold: no session waits for the reader.
#[tokio::test]
async fn serve_answers_while_its_trace_is_not_read() {
    let directory = Directory::new("unread-trace");
    let (root, ca) = (directory.path().to_str().unwrap(), directory.path().join("ca.pem"));
    let line = ["serve", "--json", "--listen", "127.0.0.1:0", "--root", root, "--ca-out", ca.to_str().unwrap()];
    let mut serve = command(&line);
    serve.env("RUST_LOG", "tcpls=trace");
    let mut server = Tcpls::spawn(serve);
    let listening = server.event("listening").await;
    let session = connect(directory.path(), listening["addresses"][0].as_str().unwrap()).await;
    for _ in 0..500 {
        ask_for(&session, "/nothing").await;
    }
    server.signal("TERM");
    let mut log = String::new();
    server.child.stderr.take().unwrap().read_to_string(&mut log).await.unwrap();
    assert!(log.contains("messages lost: their reader is too slow") || log.len() > 256 * 1024, "{} bytes", log.len());
    assert!(server.child.wait().await.unwrap().success());
}
