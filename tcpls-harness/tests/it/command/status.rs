//! `tcpls status`, and the sockets at which commands answer it.

use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::process::Command;

use super::output::connect;
use super::proxy::{proxy, web_server};
use super::{Tcpls, command};
use crate::support::{Directory, relay};

/// A command whose socket is in this directory.
fn command_in(directory: &Directory, arguments: &[&str]) -> Command {
    let mut command = command(arguments);
    // A server writes its certificate there.
    command.env("XDG_RUNTIME_DIR", directory.path()).current_dir(directory.path());
    command
}

/// The answer of `status --json` for the only command in this directory.
async fn status(directory: &Directory) -> Value {
    let output = command_in(directory, &["status", "--json"]).output().await.unwrap();
    assert!(output.status.success(), "{output:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}

/// A socket that a SOCKS proxy has connected to `target`.
async fn through_socks(proxy: &str, target: &str) -> TcpStream {
    let port: u16 = target.rsplit(':').next().unwrap().parse().unwrap();
    let mut socket = TcpStream::connect(proxy).await.unwrap();
    socket.write_all(&[5, 1, 0]).await.unwrap();
    socket.read_exact(&mut [0; 2]).await.unwrap();
    socket.write_all(&[&[5, 1, 0, 1, 127, 0, 0, 1][..], &port.to_be_bytes()].concat()).await.unwrap();
    let mut answer = [0; 10];
    socket.read_exact(&mut answer).await.unwrap();
    assert_eq!(answer[1], 0, "{answer:?}");
    socket
}

#[tokio::test]
async fn status_of_a_tunnel_shows_its_paths_and_the_cause_of_a_loss() {
    let directory = Directory::new("status");
    let (_proxy, address) = proxy(&directory, &["--allow", "127.0.0.1:*"]).await;
    let path = relay(address.parse().unwrap());
    let through = path.address().to_string();
    let (ca, server) = (directory.path().join("ca.pem"), address.replace("127.0.0.1", "localhost"));
    let mut line = command_in(&directory, &["socks", "--listen", "127.0.0.1:0", &server]);
    line.args(["--connect", &address, "--connect", &through, "--ca", ca.to_str().unwrap()]);
    #[cfg(target_os = "linux")]
    line.args(["--path", "lo"]);
    let mut client = Tcpls::spawn({
        line.env("TCPLS_AUTH", "ann:s3cret");
        line
    });
    let mut messages = BufReader::new(client.child.stderr.take().unwrap()).lines();
    let local = loop {
        let line = messages.next_line().await.unwrap().expect("it listens");
        if let Some((_, address)) = line.split_once(" on ") {
            break address.to_owned();
        }
    };
    let target = web_server().await;
    let tunnel = through_socks(&local, &target).await;
    let two = loop {
        let now = status(&directory).await;
        let paths = now["sessions"][0]["paths"].as_array().unwrap().clone();
        if paths.iter().filter(|path| path["state"] == "active").count() == 2 {
            break now;
        }
    };
    assert_eq!((two["version"].as_u64(), two["command"].as_str()), (Some(1), Some("socks")));
    assert_eq!(two["pid"].as_u64(), client.child.id().map(u64::from));
    assert_eq!(two["sessions"][0]["streams"][0]["target"], target);
    for path in two["sessions"][0]["paths"].as_array().unwrap() {
        let remote = path["remote"].as_str().unwrap();
        assert!([&address, &through].iter().any(|known| *known == remote), "{path}");
        assert!(path["local"].as_str().unwrap().starts_with("127.0.0.1:"), "{path}");
        assert!(path["bytes_received"].as_u64().unwrap() > 0 && path["last_loss"].is_null(), "{path}");
        assert!(path["bits_per_second_sent"].is_number(), "{path}");
        #[cfg(target_os = "linux")]
        assert_eq!(path["interface"], "lo");
    }
    path.reset();
    let lost = loop {
        let now = status(&directory).await;
        let paths = now["sessions"][0]["paths"].as_array().unwrap().clone();
        if let Some(path) = paths.into_iter().find(|path| path["last_loss"].is_object()) {
            break path;
        }
    };
    assert_eq!(lost["remote"].as_str(), Some(through.as_str()), "{lost}");
    // The relay resets both ends: the server's report of that may arrive first, on the other TCP connection.
    let cause = lost["last_loss"]["cause"].as_str().unwrap();
    assert!(cause == "reset" || cause.starts_with("closed by the peer (reason 1: "), "{lost}");
    let output = command_in(&directory, &["status"]).output().await.unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains(&format!("ago: {cause}")) && text.contains(&target), "{text}");
    path.take_down();
    let down = loop {
        let now = status(&directory).await;
        let paths = now["sessions"][0]["paths"].as_array().unwrap().clone();
        if let Some(path) = paths.into_iter().find(|path| path["state"] == "down") {
            break path;
        }
    };
    assert!(down["local"].is_null() && down["last_loss"].is_object(), "{down}");
    #[cfg(target_os = "linux")]
    assert_eq!(down["interface"], "lo", "{down}");
    drop(tunnel);
    client.signal("TERM");
    assert!(client.child.wait().await.unwrap().success());
    assert_eq!(sockets(directory.path()), [] as [PathBuf; 0]);
}

/// A proxy with the user ann whose status is in this directory; returns its address.
async fn proxy_in(directory: &Directory) -> (Tcpls, String) {
    let (ca, secret) = (directory.path().join("ca.pem"), directory.path().join("secret"));
    std::fs::write(&secret, "s3cret\n").unwrap();
    let user = format!("ann:{}", secret.display());
    let listen = ["proxy", "--json", "--listen", "127.0.0.1:0", "--allow", "127.0.0.1:*"];
    let mut line = command_in(directory, &listen);
    line.args(["--user", &user, "--ca-out", ca.to_str().unwrap()]);
    let mut proxy = Tcpls::spawn(line);
    let address = proxy.event("listening").await["addresses"][0].as_str().unwrap().to_owned();
    (proxy, address)
}

/// What is in the directory of sockets.
fn sockets(runtime: &Path) -> Vec<PathBuf> {
    std::fs::read_dir(runtime.join("tcpls")).unwrap().map(|entry| entry.unwrap().path()).collect()
}

#[tokio::test]
async fn sockets_are_for_one_user_and_those_of_killed_commands_are_removed() {
    let directory = Directory::new("status-sockets");
    let root = directory.path().to_str().unwrap();
    let serve = ["serve", "--json", "--listen", "127.0.0.1:0", "--root", root];
    let mut server = Tcpls::spawn(command_in(&directory, &serve));
    server.event("listening").await;
    let made = sockets(directory.path());
    assert_eq!(made.len(), 1, "{made:?}");
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&made[0]), mode(&directory.path().join("tcpls"))), (0o600, 0o700));
    let (pid, other) = (server.child.id().unwrap().to_string(), u32::MAX.to_string());
    assert_eq!(status(&directory).await["sessions_open"], 0);
    let output = command_in(&directory, &["status", "--pid", &pid]).output().await.unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.starts_with(&format!("tcpls serve, PID {pid}, up ")), "{text}");
    let output = command_in(&directory, &["status", "--pid", &other, "--json"]).output().await.unwrap();
    let error: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(!output.status.success() && error["error"].as_str().unwrap().contains(&other), "{output:?}");

    let mut second = Tcpls::spawn(command_in(&directory, &serve));
    second.event("listening").await;
    let output = command_in(&directory, &["status"]).output().await.unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(text.lines().filter(|line| line.contains("  serve  ")).count(), 2, "{text}");
    second.signal("TERM");
    assert!(second.end().await.0.success());
    assert_eq!(sockets(directory.path()), made);

    server.child.kill().await.unwrap();
    assert_eq!(sockets(directory.path()), made, "a killed command leaves it behind");
    let output = command_in(&directory, &["status"]).output().await.unwrap();
    assert!(!output.status.success() && output.stdout.is_empty(), "{output:?}");
    assert_eq!(sockets(directory.path()), [] as [PathBuf; 0]);
}

#[tokio::test]
async fn a_hundred_stuck_readers_keep_no_other_from_an_answer() {
    let directory = Directory::new("status-stuck");
    let socket = directory.path().join("socket");
    let (path, root) = (socket.to_str().unwrap(), directory.path().to_str().unwrap());
    let serve = ["serve", "--json", "--listen", "127.0.0.1:0", "--root", root, "--status-socket", path];
    let mut server = Tcpls::spawn(command_in(&directory, &serve));
    server.event("listening").await;
    let stuck: Vec<UnixStream> = (0..100).map(|_| UnixStream::connect(&socket).unwrap()).collect();
    let output = command(&["status", "--json", "--socket", path]).output().await.unwrap();
    assert!(output.status.success(), "{output:?}");
    // All but a few were ended by those that came later.
    let ended = stuck.iter().filter(|socket| {
        socket.set_nonblocking(true).unwrap();
        (&mut &**socket).read(&mut [0]).is_ok_and(|read| read == 0)
    });
    assert!(ended.count() >= 80);
    for (request, text) in
        [("{}\n", "no request"), ("{\"version\":99}\n", "version 99"), (&"x".repeat(1025), "no request")]
    {
        let mut socket = UnixStream::connect(&socket).unwrap();
        socket.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        _ = socket.read_to_string(&mut answer);
        assert!(answer.contains("\"error\":") && answer.contains(text), "{answer}");
    }
    let output = command_in(&directory, &serve).output().await.unwrap();
    assert!(!output.status.success(), "the socket is in use");
    assert!(String::from_utf8_lossy(&output.stdout).contains("--status-socket"), "{output:?}");
    server.signal("TERM");
    assert!(server.end().await.0.success() && !socket.exists());
}

#[tokio::test]
async fn watching_prints_a_status_each_second_until_the_command_ends() {
    let directory = Directory::new("status-watch");
    let root = directory.path().to_str().unwrap();
    let mut server =
        Tcpls::spawn(command_in(&directory, &["serve", "--json", "--listen", "127.0.0.1:0", "--root", root]));
    server.event("listening").await;
    let mut watch = Tcpls::spawn(command_in(&directory, &["status", "--watch", "--json"]));
    for _ in 0..2 {
        let line = watch.lines.next_line().await.unwrap().unwrap();
        let status: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(status["command"], "serve");
    }
    server.signal("TERM");
    assert!(server.end().await.0.success());
    let (code, text) = watch.end().await;
    assert!(code.success() && text.contains("has ended"), "{text}");
}

/// Answers at a socket: the first `answers` readers get this line, others nothing.
fn answer_at(path: &Path, answers: usize, line: String) {
    let listener = UnixListener::bind(path).unwrap();
    // It ends with the test.
    std::thread::spawn(move || {
        // Whether a command listens is asked without a request.
        let has_asked = |reader: &UnixStream| (&mut &*reader).read(&mut [0; 1024]).is_ok_and(|read| read > 0);
        for (index, mut reader) in listener.incoming().map_while(Result::ok).filter(has_asked).enumerate() {
            if index < answers {
                _ = reader.write_all(line.as_bytes());
            }
        }
    });
}

#[tokio::test]
async fn a_command_that_lives_and_does_not_answer_is_neither_ended_nor_left_out() {
    let directory = Directory::new("status-busy");
    let root = directory.path().to_str().unwrap();
    let serve = ["serve", "--json", "--listen", "127.0.0.1:0", "--root", root];
    let mut server = Tcpls::spawn(command_in(&directory, &serve));
    server.event("listening").await;
    let known = status(&directory).await.to_string();
    answer_at(&directory.path().join("tcpls/serve-1.sock"), 2, known);
    let watch = command_in(&directory, &["status", "--watch", "--json", "--pid", "1"]).output().await.unwrap();
    let (text, error) = (String::from_utf8_lossy(&watch.stdout), String::from_utf8_lossy(&watch.stderr));
    assert_eq!(text.lines().count(), 2, "{text}{error}");
    assert!(text.lines().last().unwrap().starts_with("{\"error\":"), "{text}");
    assert!(!watch.status.success() && !error.contains("has ended"), "{error}");
    let list = command_in(&directory, &["status"]).output().await.unwrap();
    let (text, error) = (String::from_utf8_lossy(&list.stdout), String::from_utf8_lossy(&list.stderr));
    assert!(!list.status.success() && error.contains("serve-1.sock: "), "{error}");
    assert_eq!(text.lines().count(), 1, "{text}");
}

#[tokio::test]
async fn both_sides_say_why_the_usual_directory_is_not_used() {
    let directory = Directory::new("status-open");
    let sockets = directory.path().join("tcpls");
    std::fs::create_dir(&sockets).unwrap();
    std::fs::set_permissions(&sockets, std::fs::Permissions::from_mode(0o755)).unwrap();
    let root = directory.path().to_str().unwrap();
    let mut line = command_in(&directory, &["serve", "--json", "--listen", "127.0.0.1:0", "--root", root]);
    let mut server = Tcpls::spawn({
        line.env("RUST_LOG", "tcpls=info");
        line
    });
    server.event("listening").await;
    let output = command_in(&directory, &["status"]).output().await.unwrap();
    let fix = format!("(mode 755); run chmod 700 {}", sockets.display());
    assert!(String::from_utf8_lossy(&output.stderr).contains(&fix), "{output:?}");
    server.signal("TERM");
    let (_, log) = server.end().await;
    assert!(log.contains("tcpls status can't ask this command: ") && log.contains(&fix), "{log}");
}

#[tokio::test]
async fn a_socket_is_not_taken_from_a_command_of_another_kind() {
    let directory = Directory::new("status-taken");
    let path = directory.path().join("socket");
    let _taken = std::os::unix::net::UnixDatagram::bind(&path).unwrap();
    let root = directory.path().to_str().unwrap();
    let serve = ["serve", "--listen", "127.0.0.1:0", "--root", root, "--status-socket", path.to_str().unwrap()];
    let output = command_in(&directory, &serve).kill_on_drop(true).output().await.unwrap();
    assert!(String::from_utf8_lossy(&output.stderr).contains("another command listens there"), "{output:?}");
}

#[tokio::test]
async fn streams_of_a_file_server_are_shown_with_the_file() {
    let directory = Directory::new("status-files");
    let root = directory.path().to_str().unwrap();
    std::fs::File::create(directory.path().join("large")).unwrap().set_len(1 << 30).unwrap();
    let (ca, serve) = (directory.path().join("ca.pem"), ["serve", "--json", "--listen", "127.0.0.1:0", "--root", root]);
    let mut line = command_in(&directory, &serve);
    let mut server = Tcpls::spawn({
        line.args(["--ca-out", ca.to_str().unwrap()]);
        line
    });
    let address = server.event("listening").await["addresses"][0].as_str().unwrap().to_owned();
    let session = connect(directory.path(), &address).await;
    let mut stream = session.open_stream().await.unwrap();
    stream.write_all(b"GET /large HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
    loop {
        let target = &status(&directory).await["sessions"][0]["streams"][0]["target"];
        if !target.is_null() {
            break assert_eq!(target, "/large");
        }
    }
}

#[tokio::test]
async fn status_names_the_user_of_a_session_and_why_a_client_has_none() {
    let (directory, clients) = (Directory::new("status-user"), Directory::new("status-none"));
    let (server, address) = proxy_in(&directory).await;
    let ca = directory.path().join("ca.pem");
    let line = ["socks", "--listen", "127.0.0.1:0", &address.replace("127.0.0.1", "localhost")];
    let mut line = command_in(&clients, &line);
    line.args(["--ca", ca.to_str().unwrap()]).env("TCPLS_AUTH", "ann:s3cret");
    let mut client = Tcpls::spawn(line);
    let mut messages = BufReader::new(client.child.stderr.take().unwrap()).lines();
    let local = loop {
        let line = messages.next_line().await.unwrap().expect("it listens");
        if let Some((_, address)) = line.split_once(" on ") {
            break address.to_owned();
        }
    };
    assert!(status(&directory).await["sessions"][0]["user"].is_null(), "it has asked for nothing");
    let _tunnel = through_socks(&local, &web_server().await).await;
    assert_eq!(status(&directory).await["sessions"][0]["user"], "ann");
    assert!(status(&clients).await["no_session"].is_null());
    server.signal("TERM");
    let reason = loop {
        if let Some(reason) = status(&clients).await["no_session"].as_str() {
            break reason.to_owned();
        }
    };
    assert!(reason.contains("the server stops") || reason.contains("refused"), "{reason}");
}
