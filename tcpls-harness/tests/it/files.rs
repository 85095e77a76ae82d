//! `serve` and `get`, in one process.

use std::path::Path;

use clap::Parser;
use tcpls_core::error::CloseReason;
use tcpls_harness::cli::{get, serve, server};
use tcpls_harness::files::{self, FetchError};
use tcpls_harness::net::{ClientOptions, Session};
use tcpls_harness::relay::{PathOptions, Relay};
use tcpls_harness::tls::Trust;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::AbortHandle;

use crate::library;
use crate::plain::plain_server;
use crate::support::{ANY, Directory, pattern};

#[derive(Parser)]
struct ServeLine {
    #[command(flatten)]
    args: serve::Args,
}

#[derive(Parser)]
struct GetLine {
    #[command(flatten)]
    args: get::Args,
}

/// A server that serves `directory/root` on two addresses; its certificate is `directory/ca.pem`.
struct Running {
    addresses: Vec<String>,
    task: AbortHandle,
    _control: mpsc::Sender<server::Control>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Serves `directory/root`; the certificate is `directory/ca.pem`.
fn listen(directory: &Path) -> serve::Server {
    listen_on(directory, "127.0.0.1:0", &[]).unwrap()
}

fn listen_on(directory: &Path, address: &str, more: &[&str]) -> Result<serve::Server, String> {
    std::fs::create_dir_all(directory.join("root")).unwrap();
    let (root, ca) = (directory.join("root"), directory.join("ca.pem"));
    let (root, ca) = (root.to_str().unwrap(), ca.to_str().unwrap());
    let listen = ["--listen", address, "--listen", "127.0.0.1:0"];
    let line = [
        &["serve"][..],
        &listen,
        &["--root", root, "--ca-out", ca, "--state", env!("CARGO_TARGET_TMPDIR"), "--json"],
        more,
    ]
    .concat();
    serve::Server::start(&ServeLine::parse_from(line).args).map_err(|error| error.to_string())
}

fn start(directory: &Path) -> Running {
    let server = listen(directory);
    let addresses = server.addresses().iter().map(ToString::to_string).collect();
    let (control, wishes) = mpsc::channel(1);
    Running { addresses, task: tokio::spawn(server.run(wishes)).abort_handle(), _control: control }
}

async fn fetch(directory: &Path, connect: &[String], more: &[&str], paths: &[String]) -> get::Report {
    let (ca, out) = (directory.join("ca.pem"), directory.join("out"));
    let mut line = vec!["get".to_owned(), "--ca".to_owned(), ca.to_str().unwrap().to_owned()];
    line.extend(["-o".to_owned(), out.to_str().unwrap().to_owned()]);
    line.extend(connect.iter().flat_map(|address| ["--connect".to_owned(), address.clone()]));
    line.extend(more.iter().map(|more| (*more).to_owned()));
    line.extend(paths.iter().map(|path| format!("https://localhost{path}")));
    get::fetch(&GetLine::parse_from(line).args, std::future::pending()).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_small_files_arrive_over_two_tcp_connections() {
    let directory = Directory::new("small");
    let server = start(directory.path());
    let paths: Vec<String> = (0..1000).map(|number| format!("/{number}")).collect();
    for (number, path) in paths.iter().enumerate() {
        std::fs::write(directory.path().join(format!("root{path}")), pattern(number * 7)).unwrap();
    }
    let report = fetch(directory.path(), &server.addresses, &[], &paths).await;
    assert!(report.tcpls && report.failures.is_empty(), "{report:?}");
    assert_eq!(report.files, 1000);
    for (number, path) in paths.iter().enumerate() {
        assert_eq!(std::fs::read(directory.path().join(format!("out{path}"))).unwrap(), pattern(number * 7));
    }
    assert_eq!(std::fs::read_dir(directory.path().join("out")).unwrap().count(), 1000);
}

#[tokio::test]
async fn request_with_the_client_hello_is_answered_by_a_server_with_early_data_only() {
    for (more, is_early) in [(&["--early-data"][..], true), (&[], false)] {
        let directory = Directory::new("early");
        let server = listen_on(directory.path(), "127.0.0.1:0", more).unwrap();
        std::fs::write(directory.path().join("root/file"), pattern(10_000)).unwrap();
        let address = server.addresses()[0];
        let (control, wishes) = mpsc::channel(1);
        let task = tokio::spawn(async move { server.run(wishes).await });
        let tls = library::early_client(&Trust::File(directory.path().join("ca.pem")), files::PROTOCOL);
        for session in 0..2 {
            let mut options = ClientOptions::new(tls.clone(), "localhost".try_into().unwrap());
            options.early_data = true;
            let client = Session::connect(&[address], options).await.unwrap();
            assert_eq!(client.early_data() > 0, is_early && session == 1);
            let mut content = crate::support::ask(&client, "/file").await;
            assert_eq!(crate::support::read_content(&mut content).await, pattern(10_000));
            client.close(Default::default(), b"").await;
        }
        drop(control);
        task.await.unwrap();
    }
}

#[tokio::test]
async fn large_files_arrive_over_a_learnt_address_too() {
    let directory = Directory::new("large");
    let server = start(directory.path());
    let data = pattern(32 << 20);
    std::fs::write(directory.path().join("root/a b"), &data).unwrap();
    let report = fetch(
        directory.path(),
        &server.addresses[..1],
        &["--use-advertised", "--allow-private"],
        &["/a%20b".to_owned()],
    )
    .await;
    assert!(report.failures.is_empty(), "{report:?}");
    assert_eq!(report.bytes, data.len() as u64);
    assert_eq!(std::fs::read(directory.path().join("out/a b")).unwrap(), data);
}

/// A path to `target` that lets half a megabyte through in a second.
fn slow_path(target: &str) -> Relay {
    let options = PathOptions::default().with(|path| path.rate = Some(500_000));
    Relay::start(ANY, target.parse().unwrap(), options).unwrap()
}

/// The TCP connections of a report.
fn tcp_of(report: &get::Report) -> Vec<serde_json::Value> {
    assert!(report.failures.is_empty(), "{report:?}");
    serde_json::to_value(report).unwrap()["tcp"].as_array().unwrap().clone()
}

#[tokio::test]
async fn a_download_moves_to_another_path() {
    let directory = Directory::new("moved");
    let server = start(directory.path());
    // Half a minute, on the path that it starts on.
    let data = pattern(16 << 20);
    std::fs::write(directory.path().join("root/file"), &data).unwrap();
    let relay = slow_path(&server.addresses[0]);
    let step = format!("0:{}", server.addresses[1]);
    let report =
        fetch(directory.path(), &[relay.address().to_string()], &["--migrate", &step], &["/file".to_owned()]).await;
    let tcp = tcp_of(&report);
    // What the relay still holds may take longer than all the rest.
    assert!(["retiring", "lost: retired"].contains(&tcp[0]["state"].as_str().unwrap()), "{tcp:?}");
    assert!(tcp[1]["stream_bytes_received"].as_u64() > Some(15 << 20), "{tcp:?}");
    assert_eq!(std::fs::read(directory.path().join("out/file")).unwrap(), data);
}

#[tokio::test]
async fn a_standby_is_joined_and_known_as_one() {
    let directory = Directory::new("standby");
    let server = start(directory.path());
    let data = pattern(32 << 20);
    std::fs::write(directory.path().join("root/file"), &data).unwrap();
    let more = ["--standby", &server.addresses[1]];
    let report = fetch(directory.path(), &server.addresses[..1], &more, &["/file".to_owned()]).await;
    assert_eq!(tcp_of(&report)[1]["standby"], true);
    assert_eq!(std::fs::read(directory.path().join("out/file")).unwrap(), data);
}

#[tokio::test]
async fn failed_download_has_a_reason_and_leaves_no_file() {
    let directory = Directory::new("refused");
    let server = start(directory.path());
    std::fs::write(directory.path().join("secret"), "secret").unwrap();
    std::fs::write(directory.path().join("root/fine"), "fine").unwrap();
    let paths = ["/fine", "/missing", "/../secret", "/%2e%2e/secret2", "/b%zzad"].map(str::to_owned);
    let report = fetch(directory.path(), &server.addresses, &[], &paths[..4]).await;
    assert_eq!(report.files, 1);
    let mut errors: Vec<(&str, &str)> =
        report.failures.iter().map(|failure| (failure.url.as_str(), failure.error.as_str())).collect();
    errors.sort_unstable();
    assert_eq!(errors.len(), 3);
    assert!(errors[0].1.contains("out of the served directory"), "{errors:?}");
    assert!(errors[1].1.contains("out of the served directory"), "{errors:?}");
    assert!(errors[2].1.contains("there is no such file"), "{errors:?}");
    assert_eq!(std::fs::read_dir(directory.path().join("out")).unwrap().count(), 1);
}

#[tokio::test]
async fn truncated_file_is_an_error() {
    let directory = Directory::new("broken");
    let server = start(directory.path());
    std::fs::write(directory.path().join("root/large"), vec![7; 256 << 20]).unwrap();
    let connect = server.addresses.clone();
    let path = directory.path().to_owned();
    let fetching =
        tokio::spawn(async move { fetch(&path, &connect[..1], &["--wait", "0s"], &["/large".to_owned()]).await });
    let out = directory.path().join("out");
    while std::fs::read_dir(&out).map_or(0, Iterator::count) == 0 {
        tokio::task::yield_now().await;
    }
    drop(server);
    let report = fetching.await.unwrap();
    assert_eq!((report.files, report.failures.len()), (0, 1));
    assert!(!out.join("large").exists());
}

#[tokio::test]
async fn stopping_server_notifies_its_clients() {
    let directory = Directory::new("stop");
    let server = listen(directory.path());
    let address = server.addresses()[0];
    let (control, wishes) = mpsc::channel(1);
    let running = tokio::spawn(server.run(wishes));
    let tls = library::client(&Trust::File(directory.path().join("ca.pem")), files::PROTOCOL);
    let options = ClientOptions::new(tls, "localhost".try_into().unwrap());
    let session = Session::connect(&[address], options).await.unwrap();
    let refused = files::fetch(session.open_stream().await.unwrap(), "localhost", "/missing", None).await;
    assert_eq!(refused.unwrap_err(), FetchError::Refused(404, "there is no such file".to_owned()));
    drop(control);
    let reason = CloseReason::Peer { error: files::codes::STOPPING, reason: b"the server stops".to_vec() };
    assert_eq!(session.closed().await, reason);
    running.await.unwrap();
    assert!(TcpStream::connect(address).await.is_err());
}

#[tokio::test]
async fn file_cut_short_by_a_stopping_server_is_reported() {
    let directory = Directory::new("stop-busy");
    let server = listen(directory.path());
    std::fs::write(directory.path().join("root/large"), vec![7; 256 << 20]).unwrap();
    let connect = [server.addresses()[0].to_string()];
    let (control, wishes) = mpsc::channel(1);
    let running = tokio::spawn(server.run(wishes));
    let (path, out) = (directory.path().to_owned(), directory.path().join("out"));
    let fetching = tokio::spawn(async move { fetch(&path, &connect, &["--wait", "0s"], &["/large".to_owned()]).await });
    while std::fs::read_dir(&out).map_or(0, Iterator::count) == 0 {
        tokio::task::yield_now().await;
    }
    drop(control);
    let report = fetching.await.unwrap();
    assert!(report.failures[0].error.contains("the server stops"), "{report:?}");
    running.await.unwrap();
}

/// Waits until `get` has written something of a file that is not complete.
async fn writing(out: &Path) {
    let is_written = || {
        let mut entries = std::fs::read_dir(out).into_iter().flatten().flatten();
        entries.any(|entry| entry.metadata().is_ok_and(|metadata| metadata.len() > 0))
    };
    while !is_written() {
        tokio::task::yield_now().await;
    }
}

/// Listens where another server listens until it stops.
async fn take_over(directory: &Path, address: &str) -> serve::Server {
    loop {
        match listen_on(directory, address, &[]) {
            Ok(server) => return server,
            Err(_) => tokio::task::yield_now().await,
        }
    }
}

/// A download whose server is replaced in the middle; `wish` is what the first server does, and `between` happens before the
/// second begins. Each path lets 4 MB through in a second.
async fn replaced(
    directory: &Path,
    more: &[&str],
    wish: Option<server::Control>,
    paths: &[String],
    between: impl FnOnce(),
) -> get::Report {
    let first = listen_on(directory, "127.0.0.1:0", more).unwrap();
    let address = first.addresses()[0].to_string();
    let (control, wishes) = mpsc::channel(1);
    let running = tokio::spawn(first.run(wishes));
    let options = PathOptions::default().with(|path| path.rate = Some(4_000_000));
    let relay = Relay::start(ANY, address.parse().unwrap(), options).unwrap();
    let server = async {
        writing(&directory.join("out")).await;
        match wish {
            Some(wish) => control.send(wish).await.unwrap(),
            None => drop(control),
        }
        between();
        take_over(directory, &address).await.run(mpsc::channel(1).1).await
    };
    let connect = [relay.address().to_string()];
    let report = tokio::select! {
        report = fetch(directory, &connect, &[], paths) => report,
        () = server => unreachable!("it runs until it is dropped"),
    };
    running.abort();
    report
}

#[tokio::test(flavor = "multi_thread")]
async fn get_continues_in_another_session_where_it_was_when_the_server_restarts() {
    let directory = Directory::new("restarted");
    std::fs::create_dir_all(directory.path().join("root")).unwrap();
    let data = pattern(8 << 20);
    std::fs::write(directory.path().join("root/file"), &data).unwrap();
    let report = replaced(directory.path(), &[], None, &["/file".to_owned()], || ()).await;
    assert!(report.failures.is_empty() && report.sessions > 1, "{report:?}");
    assert_eq!((report.bytes, report.bytes_received), (8 << 20, 8 << 20), "each byte was received once");
    assert!(std::fs::read(directory.path().join("out/file")).unwrap() == data);
    assert_eq!(std::fs::read_dir(directory.path().join("out")).unwrap().count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn get_begins_again_when_the_file_changed_while_the_server_restarted() {
    let directory = Directory::new("restarted-changed");
    let path = directory.path().join("root/file");
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(&path, vec![7; 8 << 20]).unwrap();
    let change = || std::fs::write(&path, pattern(8 << 20)).unwrap();
    let report = replaced(directory.path(), &[], None, &["/file".to_owned()], change).await;
    assert!(report.failures.is_empty() && report.sessions > 1, "{report:?}");
    assert!(report.bytes == 8 << 20 && report.bytes_received > 8 << 20, "{report:?}");
    assert!(std::fs::read(directory.path().join("out/file")).unwrap() == pattern(8 << 20));
}

#[tokio::test(flavor = "multi_thread")]
async fn get_moves_when_the_drain_of_its_server_takes_too_long() {
    let directory = Directory::new("drained-long");
    std::fs::create_dir_all(directory.path().join("root")).unwrap();
    std::fs::write(directory.path().join("root/file"), pattern(8 << 20)).unwrap();
    let (drain, wish) = (["--drain", "100ms"], Some(server::Control::Drain));
    let report = replaced(directory.path(), &drain, wish, &["/file".to_owned()], || ()).await;
    assert!(report.failures.is_empty() && report.sessions > 1, "{report:?}");
    assert_eq!(report.bytes_received, 8 << 20);
    assert!(std::fs::read(directory.path().join("out/file")).unwrap() == pattern(8 << 20));
}

#[tokio::test(flavor = "multi_thread")]
async fn files_that_a_drained_server_does_not_begin_come_from_the_next_one() {
    let directory = Directory::new("drained");
    std::fs::create_dir_all(directory.path().join("root")).unwrap();
    // More than are fetched side by side.
    let paths: Vec<String> = (0..400).map(|number| format!("/{number}")).collect();
    for (number, path) in paths.iter().enumerate() {
        std::fs::write(directory.path().join(format!("root{path}")), pattern(10_000 + number)).unwrap();
    }
    let report = replaced(directory.path(), &[], Some(server::Control::Drain), &paths, || ()).await;
    assert!(report.failures.is_empty() && report.sessions > 1 && report.files == 400, "{report:?}");
    for (number, path) in paths.iter().enumerate() {
        assert!(std::fs::read(directory.path().join(format!("out{path}"))).unwrap() == pattern(10_000 + number));
    }
}

/// Reads the head of a request.
async fn read_request(tls: &mut (impl AsyncRead + Unpin)) -> String {
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        request.push(tls.read_u8().await.unwrap());
    }
    String::from_utf8(request).unwrap()
}

#[tokio::test]
async fn get_asks_a_plain_server_once_per_session() {
    let directory = Directory::new("plain-server");
    let (acceptor, pem) = plain_server(files::PROTOCOL);
    std::fs::write(directory.path().join("ca.pem"), pem).unwrap();
    let listener = TcpListener::bind(ANY).await.unwrap();
    let connect = [listener.local_addr().unwrap().to_string()];
    let server = async {
        let answers = [
            ("/a", "Content-Length: 5\r\n\r\nfirst"),
            ("/b", "X: y\r\n\r\nsecond"),
            ("/chunks", "Transfer-Encoding: chunked\r\n\r\n2;x\r\nth\r\n3\r\nird\r\n0\r\nX: y\r\n\r\n"),
            ("/c", "X: y\r\n\r\nhalf"),
        ];
        for (path, answer) in answers {
            let mut tls = acceptor.accept(listener.accept().await.unwrap().0).await.unwrap();
            let request = read_request(&mut tls).await;
            assert!(request.starts_with(&format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n")), "{request}");
            tls.write_all(format!("HTTP/1.1 200 OK\r\n{answer}").as_bytes()).await.unwrap();
            // The last breaks off without close_notify.
            if path != "/c" {
                tls.shutdown().await.unwrap();
            }
        }
    };
    let paths = ["/a", "/b", "/chunks", "/c"].map(str::to_owned);
    let ((), report) = tokio::join!(server, fetch(directory.path(), &connect, &["--wait", "0s"], &paths));
    assert!(!report.tcpls);
    assert_eq!((report.files, report.failures.len()), (3, 1), "{report:?}");
    assert_eq!(report.failures[0].url, "https://localhost/c");
    let out = directory.path().join("out");
    assert_eq!(std::fs::read(out.join("a")).unwrap(), b"first");
    assert_eq!(std::fs::read(out.join("b")).unwrap(), b"second");
    assert_eq!(std::fs::read(out.join("chunks")).unwrap(), b"third");
    assert!(!out.join("c").exists());
}

#[tokio::test]
async fn a_rest_without_a_length_that_ends_early_is_kept_and_continued() {
    let directory = Directory::new("plain-rest");
    let (acceptor, pem) = plain_server(files::PROTOCOL);
    std::fs::write(directory.path().join("ca.pem"), pem).unwrap();
    let listener = TcpListener::bind(ANY).await.unwrap();
    let connect = [listener.local_addr().unwrap().to_string()];
    let server = async |answers: &[(&str, &str, bool)]| {
        for (range, answer, is_ended) in answers {
            let mut tls = acceptor.accept(listener.accept().await.unwrap().0).await.unwrap();
            let request = read_request(&mut tls).await;
            let rest = format!("\r\nRange: bytes={range}-\r\nIf-Range: \"a\"\r\n");
            assert_eq!(request.contains(&rest), !range.is_empty(), "{request}");
            assert_eq!(request.contains("Range: "), !range.is_empty(), "{request}");
            tls.write_all(format!("HTTP/1.1 {answer}").as_bytes()).await.unwrap();
            if *is_ended {
                tls.shutdown().await.unwrap();
            }
        }
    };
    let part = |range, content| format!("206 x\r\nETag: \"a\"\r\nContent-Range: bytes {range}/10\r\n\r\n{content}");
    let first =
        [("", "200 OK\r\nETag: \"a\"\r\nContent-Length: 10\r\n\r\n01234", false), ("5", &*part("5-9", "56"), true)];
    let paths = ["/file".to_owned()];
    let ((), report) = tokio::join!(server(&first), fetch(directory.path(), &connect, &[], &paths));
    assert_eq!((report.files, report.failures.len(), report.sessions), (0, 1, 2), "{report:?}");
    let out = directory.path().join("out");
    assert_eq!(std::fs::read(out.join("file.tcpls-part")).unwrap(), b"0123456");
    assert_eq!(std::fs::read_dir(&out).unwrap().count(), 2, "the part and its entity tag");

    let second = [("7", &*part("7-9", "789"), true)];
    let ((), report) = tokio::join!(server(&second), fetch(directory.path(), &connect, &["-C"], &paths));
    assert_eq!((report.files, report.bytes_continued, report.bytes_received), (1, 7, 3), "{report:?}");
    assert_eq!(std::fs::read(out.join("file")).unwrap(), b"0123456789");
    assert_eq!(std::fs::read_dir(&out).unwrap().count(), 1);
}
