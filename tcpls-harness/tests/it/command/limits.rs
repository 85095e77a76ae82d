//! A server under limits of the operating system.

use tokio::net::TcpStream;

use super::*;
use crate::support::Directory;

/// A shell that runs `serve` after `limits`.
async fn serve_under(limits: &str, directory: &Path, more: &str) -> (Tcpls, Value, String) {
    let root = directory.join("root");
    std::fs::create_dir_all(&root).unwrap();
    let ca = directory.join("ca.pem");
    let line = format!(
        "{limits}; exec {} serve --json --listen 127.0.0.1:0 --root {} --ca-out {} {more}",
        env!("CARGO_BIN_EXE_tcpls"),
        root.display(),
        ca.display()
    );
    let mut shell = Command::new("sh");
    shell.args(["-c", &line]).kill_on_drop(true);
    shell.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut server = Tcpls::spawn(shell);
    let listening = server.event("listening").await;
    let limits = server.event("limits").await;
    (server, limits, listening["addresses"][0].as_str().unwrap().to_owned())
}

#[tokio::test]
async fn a_server_raises_its_soft_limit_of_descriptors_and_says_what_it_may_use() {
    let directory = Directory::new("raises-limit");
    let (_server, limits, _) =
        serve_under("ulimit -S -n 70; ulimit -H -n 500", directory.path(), "--memory 64MiB").await;
    assert_eq!(limits["descriptors"], 500);
    assert!(limits["sockets"].as_u64().unwrap() > 300, "{limits}");
    assert_eq!(limits["memory"], 64 << 20);
}

#[tokio::test]
async fn memory_is_half_of_what_the_limits_of_the_process_allow() {
    let directory = Directory::new("half-of-memory");
    let (_server, limits, _) = serve_under("ulimit -v 4000000", directory.path(), "").await;
    assert!(limits["memory"].as_u64().unwrap() <= 2_048_000_000, "{limits}");
}

#[tokio::test]
async fn with_256_descriptors_300_silent_tcp_connections_keep_no_client_out() {
    let directory = Directory::new("few-descriptors");
    let (_server, limits, address) = serve_under("ulimit -n 256", directory.path(), "").await;
    assert_eq!(limits["descriptors"], 256);
    sparse_file(&directory.path().join("root/file"), 20_000);
    std::fs::create_dir_all(directory.path().join("out")).unwrap();
    let mut silent = Vec::new();
    for _ in 0..6 {
        for _ in 0..50 {
            silent.push(TcpStream::connect(&address).await.unwrap());
        }
        let line = get_line(directory.path(), &address, "file");
        let line: Vec<&str> = line.iter().map(String::as_str).collect();
        let (status, text) = Tcpls::start(&line).end().await;
        assert!(status.success(), "{text}");
    }
}

#[tokio::test]
async fn with_too_few_descriptors_a_server_says_so_and_does_not_start() {
    let line = format!("ulimit -n 40; exec {} serve --listen 127.0.0.1:0 --root .", env!("CARGO_BIN_EXE_tcpls"));
    let output = Command::new("sh").args(["-c", &line]).output().await.unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && text.contains("only 40 file descriptors"), "{text}");
}
