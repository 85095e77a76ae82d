//! A server under limits of the operating system.

#[cfg(target_os = "linux")]
use tcpls_core::wire::ids::ConnectionId;
#[cfg(target_os = "linux")]
use tcpls_harness::{
    dial::Keep,
    files::PROTOCOL,
    net::{ClientOptions, Session},
    tls::Trust,
};
use tokio::net::TcpStream;

use super::*;
use crate::library;
use crate::support::Directory;
#[cfg(target_os = "linux")]
use crate::support::{ask, lost, read_content};

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
    shell.args(["-c", &line]).kill_on_drop(true).env("XDG_STATE_HOME", env!("CARGO_TARGET_TMPDIR"));
    shell.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut server = Tcpls::spawn(shell);
    let listening = server.event("listening").await;
    let limits = server.event("limits").await;
    (server, limits, listening["addresses"][0].as_str().unwrap().to_owned())
}

#[tokio::test]
async fn server_raises_its_descriptor_limit_and_prints_its_limits() {
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

/// Leaves the server no descriptor above those that are in use.
#[cfg(target_os = "linux")]
fn use_up_descriptors(server: &Tcpls) {
    use rustix::process::{Pid, Resource, Rlimit, prlimit};
    let pid = i32::try_from(server.child.id().unwrap()).unwrap();
    let unused = (0..).find(|number| !Path::new(&format!("/proc/{pid}/fd/{number}")).exists()).unwrap();
    let limit = Rlimit { current: Some(unused), maximum: Some(256) };
    prlimit(Pid::from_raw(pid), Resource::Nofile, limit).unwrap();
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn if_no_descriptor_is_left_idle_sessions_give_way_to_files() {
    let directory = Directory::new("no-descriptor-left");
    let (server, _, address) = serve_under("ulimit -n 256", directory.path(), "").await;
    sparse_file(&directory.path().join("root/file"), 20_000);
    let tls = library::client(&Trust::File(directory.path().join("ca.pem")), PROTOCOL);
    let mut options = ClientOptions::new(tls, "localhost".try_into().unwrap());
    options.dial.keep = Keep::Session;
    let addresses = [address.parse().unwrap()];
    let idle = Session::connect(&addresses, options.clone()).await.unwrap();
    let asking = Session::connect(&addresses, options).await.unwrap();
    use_up_descriptors(&server);
    assert_eq!(read_content(&mut ask(&asking, "/file").await).await.len(), 20_000);
    lost(&mut idle.events(), ConnectionId::FIRST).await;
}

#[tokio::test]
async fn server_with_too_few_descriptors_does_not_start() {
    let line = format!("ulimit -n 40; exec {} serve --listen 127.0.0.1:0 --root .", env!("CARGO_BIN_EXE_tcpls"));
    let output = Command::new("sh").args(["-c", &line]).output().await.unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && text.contains("only 40 file descriptors"), "{text}");
}
