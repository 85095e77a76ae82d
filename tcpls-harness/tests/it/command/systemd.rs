//! Servers that systemd starts: it passes sockets, and gets notifications.

use std::os::fd::AsRawFd;
use std::os::unix::net::UnixDatagram;
use std::process::Stdio;

use tcpls_harness::net::{ClientOptions, Session};
use tcpls_harness::tls::Trust;
use tokio::process::Command;

use super::output::{ask_for, connect};
use super::{Tcpls, command};
use crate::library;
use crate::support::Directory;

/// A command that gets `socket` as systemd passes it, by way of a shell that knows the number of the process.
fn activated(line: &[&str], socket: &impl AsRawFd) -> Command {
    let mut activated = Command::new("sh");
    activated.args(["-c", "export LISTEN_PID=$$ LISTEN_FDS=1 LISTEN_FDNAMES=web; exec \"$@\"", "sh"]);
    activated.arg(env!("CARGO_BIN_EXE_tcpls")).args(line).kill_on_drop(true);
    activated.env("XDG_STATE_HOME", env!("CARGO_TARGET_TMPDIR"));
    activated.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let descriptor = socket.as_raw_fd();
    let pass = move || {
        // SAFETY: both calls are async-signal-safe. A descriptor that is 3 already would not be inherited by `dup2` alone.
        let passed =
            unsafe { if descriptor == 3 { libc::fcntl(3, libc::F_SETFD, 0) } else { libc::dup2(descriptor, 3) } };
        if passed < 0 { Err(std::io::Error::last_os_error()) } else { Ok(()) }
    };
    // SAFETY: `pass` neither allocates nor takes a lock.
    unsafe { activated.pre_exec(pass) };
    activated
}

#[tokio::test]
async fn server_uses_the_sockets_of_systemd_and_notifies_it() {
    let directory = Directory::new("systemd");
    let (root, ca) = (directory.path().to_str().unwrap(), directory.path().join("ca.pem"));
    let notifications = directory.path().join("notify");
    let notified = UnixDatagram::bind(&notifications).unwrap();
    // What arrived so far: waiting for a notification that is never sent would hang.
    notified.set_nonblocking(true).unwrap();
    let messages = || {
        let next = || {
            let mut text = [0; 100];
            let len = notified.recv(&mut text).ok()?;
            Some(String::from_utf8(text[..len].to_vec()).unwrap())
        };
        std::iter::from_fn(next).collect::<Vec<_>>()
    };
    let socket = std::net::TcpListener::bind("[::]:0").or_else(|_| std::net::TcpListener::bind("0.0.0.0:0")).unwrap();
    let port = socket.local_addr().unwrap().port();
    let line = ["serve", "--json", "--listen", "systemd", "--root", root, "--ca-out", ca.to_str().unwrap()];
    let mut server = activated(&line, &socket);
    server.env("NOTIFY_SOCKET", &notifications);
    let mut server = Tcpls::spawn(server);
    let listening = server.event("listening").await;
    assert!(listening["addresses"][0].as_str().unwrap().ends_with(&format!(":{port}")), "{listening}");
    // By IPv4, to a socket of both families.
    let session = connect(directory.path(), &format!("127.0.0.1:{port}")).await;
    let began = server.event("session_began").await;
    assert!(began["client"].as_str().unwrap().starts_with("127.0.0.1:"), "{began}");
    ask_for(&session, "/nothing").await;
    assert_eq!(messages(), ["READY=1"]);
    server.signal("TERM");
    assert!(server.end().await.0.success());
    assert_eq!(messages(), ["STOPPING=1"]);
}

#[tokio::test]
async fn the_certificate_has_the_addresses_of_the_sockets_of_systemd() {
    let directory = Directory::new("systemd-names");
    let (root, ca) = (directory.path().to_str().unwrap(), directory.path().join("ca.pem"));
    let socket = std::net::TcpListener::bind("127.0.0.5:0").unwrap();
    let line = ["serve", "--json", "--listen", "systemd", "--root", root, "--ca-out", ca.to_str().unwrap()];
    let mut server = Tcpls::spawn(activated(&line, &socket));
    let listening = server.event("listening").await;
    let address: std::net::SocketAddr = listening["addresses"][0].as_str().unwrap().parse().unwrap();
    let trust = Trust::Pem(std::fs::read_to_string(&ca).unwrap());
    let options = ClientOptions::new(library::client(&trust, b"http/1.1"), "127.0.0.5".try_into().unwrap());
    Session::connect(&[address], options).await.unwrap();
}

#[tokio::test]
async fn what_systemd_passes_must_be_sockets_of_tcp() {
    let directory = Directory::new("no-sockets");
    let (root, ca) = (directory.path().to_str().unwrap(), directory.path().join("ca.pem"));
    let line = ["serve", "--listen", "systemd", "--root", root, "--ca-out", ca.to_str().unwrap()];
    let fails = |output: std::process::Output, part: &str| {
        let text = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.code() == Some(1) && text.contains(part), "{text}");
    };
    fails(command(&line).output().await.unwrap(), "systemd passes no socket");
    let other = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    fails(activated(&line, &other).output().await.unwrap(), "the socket web from systemd is no listening TCP socket");
    let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let connected = std::net::TcpStream::connect(socket.local_addr().unwrap()).unwrap();
    fails(
        activated(&line, &connected).output().await.unwrap(),
        "the socket web from systemd is no listening TCP socket",
    );
    let mixed = [&line[..], &["--listen", "127.0.0.1:0"]].concat();
    fails(activated(&mixed, &socket).output().await.unwrap(), "--listen systemd takes the sockets");
}
