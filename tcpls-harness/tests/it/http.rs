//! `serve` as an HTTP/1.1 server: ranges and conditions over plain TLS, with curl and by hand.

use std::path::Path;
use std::process::Command;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use crate::command::Tcpls;
use crate::plain::plain_client;
use crate::support::{Directory, pattern};

/// A client without TCPLS.
async fn connect(directory: &Path, address: &str) -> TlsStream<TcpStream> {
    let pem = std::fs::read_to_string(directory.join("ca.pem")).unwrap();
    let tcp = TcpStream::connect(address).await.unwrap();
    let connector = plain_client(&pem, tcpls_harness::files::PROTOCOL);
    connector.connect("localhost".try_into().unwrap(), tcp).await.unwrap()
}

/// A response: status, head in lower case, and content.
struct Response {
    status: u16,
    head: String,
    content: Vec<u8>,
}

impl Response {
    fn field(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines.find_map(|(field, value)| field.eq_ignore_ascii_case(name).then_some(value))
    }
}

/// Sends a request, and reads the response; that to a HEAD has no content.
async fn exchange(tls: &mut TlsStream<TcpStream>, request: &str) -> Response {
    tls.write_all(request.as_bytes()).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(tls.read_u8().await.unwrap());
    }
    let head = String::from_utf8(head).unwrap();
    let status = head[9..12].parse().unwrap();
    let mut response = Response { status, head, content: Vec::new() };
    if !request.starts_with("HEAD") && status != 304 {
        response.content.resize(response.field("Content-Length").unwrap().parse().unwrap(), 0);
        tls.read_exact(&mut response.content).await.unwrap();
    }
    response
}

fn get(path: &str, fields: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n{fields}\r\n")
}

#[tokio::test]
async fn one_plain_session_serves_any_number_of_requests() {
    let directory = Directory::new("http-keep-alive");
    let (mut server, address) = Tcpls::serve(directory.path(), &[]).await;
    let root = directory.path().join("root");
    std::fs::write(root.join("file.txt"), pattern(200_000)).unwrap();
    std::fs::write(root.join("index.html"), "<p>").unwrap();
    std::fs::write(directory.path().join("secret"), "secret").unwrap();
    let mut tls = connect(directory.path(), &address).await;
    let all = exchange(&mut tls, &get("/file.txt", "")).await;
    assert_eq!((all.status, all.content), (200, pattern(200_000)));
    let [kind, ranges] = ["Content-Type", "Accept-Ranges"].map(|name| all.head.contains(name));
    assert!(kind && ranges && all.head.contains("text/plain") && all.head.contains("Date: "), "{}", all.head);
    let etag = all.head.lines().find_map(|line| line.strip_prefix("ETag: ")).unwrap().to_owned();

    let head = exchange(&mut tls, "HEAD /file.txt HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    assert_eq!((head.status, head.field("Content-Length"), head.field("ETag")), (200, Some("200000"), Some(&*etag)));
    let part = exchange(&mut tls, &get("/file.txt", &format!("Range: bytes=100000-\r\nIf-Range: {etag}\r\n"))).await;
    assert_eq!((part.status, &part.content[..]), (206, &pattern(200_000)[100_000..]));
    assert_eq!(part.field("Content-Range"), Some("bytes 100000-199999/200000"));
    let other = exchange(&mut tls, &get("/file.txt", "Range: bytes=100000-\r\nIf-Range: \"x\"\r\n")).await;
    assert_eq!((other.status, other.content.len()), (200, 200_000));
    let known = exchange(&mut tls, &get("/file.txt", &format!("If-None-Match: {etag}\r\n"))).await;
    assert_eq!((known.status, known.field("ETag")), (304, Some(&*etag)));
    let behind = exchange(&mut tls, &get("/file.txt", "Range: bytes=200000-\r\n")).await;
    assert_eq!((behind.status, behind.field("Content-Range")), (416, Some("bytes */200000")));
    assert_eq!(exchange(&mut tls, &get("/", "")).await.content, b"<p>");
    assert_eq!(exchange(&mut tls, &get("/missing", "")).await.status, 404);
    assert_eq!(exchange(&mut tls, &get("/../secret", "")).await.status, 403);
    assert_eq!(
        exchange(&mut tls, "OPTIONS / HTTP/1.1\r\nHost: localhost\r\n\r\n").await.field("Allow"),
        Some("GET, HEAD")
    );
    // Two at once.
    tls.write_all(get("/", "").as_bytes()).await.unwrap();
    assert_eq!(exchange(&mut tls, &get("/", "Connection: close\r\n")).await.content, b"<p>");
    let last = exchange(&mut tls, "").await;
    assert_eq!((last.content, last.head.contains("Connection: close")), (b"<p>".to_vec(), true));
    assert_eq!(tls.read_to_end(&mut Vec::new()).await.unwrap(), 0, "close_notify");
    let request = server.event("request").await;
    assert_eq!(
        (&request["method"], &request["status"], &request["bytes"]),
        (&"GET".into(), &200.into(), &200_000.into())
    );
}

#[tokio::test]
async fn what_is_no_request_is_refused_and_ends_the_session() {
    let directory = Directory::new("http-malformed");
    let (_server, address) = Tcpls::serve(directory.path(), &[]).await;
    let long = format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "x".repeat(20_000));
    for (request, status) in [
        ("nonsense\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\n\r\n", 400),
        ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc", 400),
        ("GET / HTTP/2.0\r\n\r\n", 505),
        (&long, 431),
    ] {
        let mut tls = connect(directory.path(), &address).await;
        let refused = exchange(&mut tls, request).await;
        assert_eq!((refused.status, refused.field("Connection")), (status, Some("close")), "{request:.40}");
        assert_eq!(tls.read_to_end(&mut Vec::new()).await.unwrap(), 0, "close_notify");
    }
}

#[tokio::test]
async fn curl_fetches_files_and_continues_them() {
    if Command::new("curl").arg("--version").output().is_err() {
        eprintln!("left out: there is no curl");
        return;
    }
    let directory = Directory::new("http-curl");
    let (_server, address) = Tcpls::serve(directory.path(), &[]).await;
    std::fs::write(directory.path().join("root/file"), pattern(3_000_000)).unwrap();
    let (ca, out) = (directory.path().join("ca.pem"), directory.path().join("out"));
    let port = address.rsplit(':').next().unwrap();
    let curl = |more: &[&str]| {
        let mut command = tokio::process::Command::new("curl");
        command.args(["--silent", "--show-error", "--fail", "--cacert"]).arg(&ca).arg("--output").arg(&out);
        command
            .args(more)
            .arg(format!("https://localhost:{port}/file"))
            .arg("--resolve")
            .arg(format!("localhost:{port}:127.0.0.1"));
        async move { command.output().await.unwrap() }
    };
    let output = curl(&[]).await;
    assert!(output.status.success(), "{output:?}");
    assert!(std::fs::read(&out).unwrap() == pattern(3_000_000));
    std::fs::File::options().write(true).open(&out).unwrap().set_len(1_234_567).unwrap();
    let output = curl(&["--continue-at", "-"]).await;
    assert!(output.status.success(), "{output:?}");
    assert!(std::fs::read(&out).unwrap() == pattern(3_000_000));
    assert!(curl(&["--range", "3000000-"]).await.status.code() == Some(22), "416");
}
