//! `proxy` with clients that know nothing of TCPLS.

use std::process::Stdio;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, SanType};
use tcpls_harness::net::{ClientOptions, Session};
use tcpls_harness::proxy::{Credentials, PROTOCOL, RemoteForward, RemoteForwards, request};
use tcpls_harness::tls::{Identity, Trust};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::Command;

use super::{Tcpls, command};
use crate::library;
use crate::proxy::echo_target;
use crate::support::{ANY, Directory};

const PAGE: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello";

/// A web server with one page; returns its address.
pub(super) async fn web_server() -> String {
    let listener = TcpListener::bind(ANY).await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut request = Vec::new();
                while !request.ends_with(b"\r\n\r\n") {
                    let Ok(byte) = socket.read_u8().await else { return };
                    request.push(byte);
                }
                _ = socket.write_all(PAGE).await;
            });
        }
    });
    address
}

/// `proxy --json` with the user ann, whose secret is "s3cret"; returns its address.
pub(super) async fn proxy(directory: &Directory, more: &[&str]) -> (Tcpls, String) {
    let (ca, secret) = (directory.path().join("ca.pem"), directory.path().join("secret"));
    std::fs::write(&secret, "s3cret\n").unwrap();
    let user = format!("ann:{}", secret.display());
    let mut line =
        vec!["proxy", "--json", "--listen", "127.0.0.1:0", "--user", &user, "--ca-out", ca.to_str().unwrap()];
    line.extend(more);
    let mut proxy = Tcpls::start(&line);
    let listening = proxy.event("listening").await;
    let address = listening["addresses"][0].as_str().unwrap().to_owned();
    (proxy, address)
}

/// Runs curl; `None`, with a note, if it is not installed.
pub(super) async fn curl(arguments: &[&str]) -> Option<std::process::Output> {
    let mut command = Command::new("curl");
    command.args(["--silent", "--show-error", "--noproxy", ""]).args(arguments).stdin(Stdio::null());
    match command.output().await {
        Ok(output) => Some(output),
        Err(error) => {
            println!("skipped: curl can't be run ({error})");
            None
        }
    }
}

#[tokio::test]
async fn curl_uses_the_proxy_over_plain_tls() {
    let directory = Directory::new("curl");
    let (mut proxy, address) = proxy(&directory, &["--allow", "127.0.0.1:*"]).await;
    let port = address.rsplit(':').next().unwrap();
    let (ca, page) = (directory.path().join("ca.pem"), format!("http://{}/", web_server().await));
    let with = |login: &str| format!("https://{login}localhost:{port}");
    let ca = ca.to_str().unwrap();
    for (login, page, code) in [
        ("ann:s3cret@", page.as_str(), Some(0)),
        ("", &page, None),
        ("ann:wrong@", &page, None),
        ("ann:s3cret@", "http://127.0.0.2:1/", None),
    ] {
        let proxy = with(login);
        let line = ["--proxy-cacert", ca, "-x", &proxy, "--proxytunnel", page];
        let Some(output) = curl(&line).await else { return };
        if code == Some(0) {
            assert_eq!(output.stdout, b"hello", "{output:?}");
        } else {
            assert!(!output.status.success(), "{output:?}");
        }
    }
    let connected = proxy.event("connected").await;
    assert_eq!((connected["user"].as_str(), connected["session"].as_u64()), (Some("ann"), Some(0)));
    assert_eq!(proxy.event("ended").await["to_client"], PAGE.len());
    let reasons = [proxy.event("refused").await, proxy.event("refused").await, proxy.event("refused").await];
    assert_eq!(reasons[0]["reason"], "the proxy requires credentials");
    assert_eq!(reasons[1]["reason"], "the proxy requires credentials");
    assert_eq!(reasons[2]["reason"], "the proxy does not permit this target");
    assert_eq!(reasons[2]["target"], "127.0.0.2:1");
    proxy.signal("TERM");
    assert!(proxy.end().await.0.success());
}

#[tokio::test]
async fn a_user_file_that_cannot_be_used_is_named() {
    let directory = Directory::new("user-file");
    let empty = directory.path().join("empty");
    std::fs::write(&empty, "").unwrap();
    for file in [empty.to_str().unwrap(), "/nonexistent"] {
        let user = format!("ann:{file}");
        let (status, text) = Tcpls::start(&["proxy", "--listen", "127.0.0.1:0", "--user", &user]).end().await;
        assert!(!status.success() && text.contains(file), "{text}");
    }
}

#[tokio::test]
async fn a_client_certificate_names_the_user_of_a_proxy() {
    let directory = Directory::new("certified");
    let file = |name: &str| directory.path().join(name);
    let mut authority = CertificateParams::new(Vec::new()).unwrap();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate().unwrap()).unwrap();
    let (mut client, key) = (CertificateParams::new(Vec::new()).unwrap(), KeyPair::generate().unwrap());
    client.subject_alt_names = vec![SanType::Rfc822Name("ann@example.com".try_into().unwrap())];
    // OpenSSL takes a certificate with the name of its issuer for one that is signed by itself.
    client.distinguished_name.push(DnType::CommonName, "ann");
    let client = client.signed_by(&key, &authority).unwrap();
    std::fs::write(file("clients.pem"), authority.pem()).unwrap();
    std::fs::write(file("ann.pem"), client.pem()).unwrap();
    std::fs::write(file("ann.key"), key.serialize_pem()).unwrap();
    let [clients, ca, state] = ["clients.pem", "ca.pem", "state"].map(|name| file(name).to_str().unwrap().to_owned());
    let listen = TcpListener::bind(ANY).await.unwrap().local_addr().unwrap();
    let allowed = format!("ann@example.com@{listen}");
    let more = ["--client-ca", &clients, "--ca-out", &ca, "--state", &state, "--allow-remote", &allowed];
    let mut server =
        Tcpls::start(&[&["proxy", "--json", "--listen", "127.0.0.1:0", "--allow", "127.0.0.1:*"], &more[..]].concat());
    let address = server.event("listening").await["addresses"][0].as_str().unwrap().parse().unwrap();

    let identity = Identity::from_files(&file("ann.pem"), &file("ann.key")).unwrap();
    let trust = Trust::Pem(std::fs::read_to_string(file("ca.pem")).unwrap());
    let tls = library::client_as(&trust, PROTOCOL, Some(&identity));
    let options = ClientOptions::new(tls, "localhost".try_into().unwrap());
    let session = Session::connect(&[address], options).await.unwrap();
    let target = web_server().await.parse().unwrap();
    let stream = request(&session, &target, None).await.unwrap();
    assert_eq!(server.event("connected").await["user"], "ann@example.com");
    drop(stream);
    let forward = RemoteForward { listen, target };
    let remotes = RemoteForwards::new(&session.runtime(), vec![forward]);
    let (serving, own) = (session.clone(), remotes.clone());
    tokio::spawn(async move { own.serve(&serving, None, |_| {}).await });
    assert_eq!(server.event("listening_for").await["user"], "ann@example.com");
}

#[tokio::test]
async fn rate_of_the_command_line_slows_a_client_down() {
    const BYTES: usize = 100_000;
    let directory = Directory::new("rate");
    let (_proxy, address) = proxy(&directory, &["--allow", "127.0.0.1:*", "--rate", "200KB"]).await;
    let listener = TcpListener::bind(ANY).await.unwrap();
    let target = listener.local_addr().unwrap().to_string().parse().unwrap();
    tokio::spawn(async move {
        let (mut socket, _) = listener.accept().await.unwrap();
        socket.write_all(&[7; BYTES]).await.unwrap();
    });
    let trust = Trust::Pem(std::fs::read_to_string(directory.path().join("ca.pem")).unwrap());
    let options = ClientOptions::new(library::client(&trust, PROTOCOL), "localhost".try_into().unwrap());
    let session = Session::connect(&[address.parse().unwrap()], options).await.unwrap();
    let credentials = Credentials::parse("ann:s3cret");
    let start = std::time::Instant::now();
    let (mut stream, early) = request(&session, &target, credentials.as_ref()).await.unwrap();
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).await.unwrap();
    assert_eq!(early.len() + rest.len(), BYTES);
    // 0.5 s, less the 0.1 s that it has saved up, and its last turn.
    assert!(start.elapsed() > std::time::Duration::from_millis(350), "{:?}", start.elapsed());
}

/// Starts a tunnel's client, and returns it with the address that it says to listen on.
async fn local(arguments: &[&str], directory: &Directory) -> (Tcpls, String) {
    let (ca, auth) = (directory.path().join("ca.pem"), directory.path().join("auth"));
    std::fs::write(&auth, "ann:s3cret\n").unwrap();
    let mut line = arguments.to_vec();
    line.extend(["--ca", ca.to_str().unwrap(), "--auth", auth.to_str().unwrap()]);
    let mut client = Tcpls::start(&line);
    let mut messages = BufReader::new(client.child.stderr.as_mut().unwrap()).lines();
    loop {
        let line = messages.next_line().await.unwrap().expect("it listens");
        if let Some((_, address)) = line.split_once(" on ") {
            let address = address.to_owned();
            return (client, address);
        }
    }
}

#[tokio::test]
async fn curl_uses_a_local_socks_proxy() {
    let directory = Directory::new("socks");
    let (_proxy, address) = proxy(&directory, &["--allow", "127.0.0.1:*"]).await;
    let server = address.replace("127.0.0.1", "localhost");
    let (client, address) = local(&["socks", "--listen", "127.0.0.1:0", &server], &directory).await;
    let page = format!("http://{}/", web_server().await);
    for way in ["socks5h://", "http://"] {
        let proxy = format!("{way}{address}");
        let Some(output) = curl(&["--proxytunnel", "-x", &proxy, &page]).await else { return };
        assert_eq!(output.stdout, b"hello", "{output:?}");
    }
    client.signal("TERM");
    let (status, log) = client.end().await;
    assert!(status.success());
    let last = log.lines().last().unwrap();
    let (time, text) = last.split_once(' ').unwrap();
    assert!(time.ends_with('Z') && text == "stopped by SIGTERM: closing the connections", "{log}");
}

#[tokio::test]
async fn a_forward_and_a_pipe_reach_their_target() {
    const REQUEST: &[u8] = b"GET / HTTP/1.1\r\n\r\n";
    let directory = Directory::new("pipe");
    let (_proxy, address) = proxy(&directory, &["--allow", "127.0.0.1:*"]).await;
    let (server, target) = (address.replace("127.0.0.1", "localhost"), web_server().await);
    let forward = format!("127.0.0.1:0:{target}");
    let (_client, address) = local(&["forward", "-L", &forward, &server], &directory).await;
    let mut socket = TcpStream::connect(address).await.unwrap();
    socket.write_all(REQUEST).await.unwrap();
    let mut answer = Vec::new();
    socket.read_to_end(&mut answer).await.unwrap();
    assert_eq!(answer, PAGE);

    let ca = directory.path().join("ca.pem");
    let mut pipe = command(&["pipe", &server, &target, "--ca", ca.to_str().unwrap()]);
    pipe.env("TCPLS_AUTH", "ann:s3cret").stdin(Stdio::piped());
    let mut child = pipe.spawn().unwrap();
    // The input stays open: the end of the target ends the command.
    let mut input = child.stdin.take().unwrap();
    input.write_all(REQUEST).await.unwrap();
    let output = child.wait_with_output().await.unwrap();
    assert_eq!((output.stdout.as_slice(), output.status.success()), (PAGE, true), "{output:?}");
    assert!(output.stderr.is_empty(), "ssh shows it on its terminal: {output:?}");
    drop(input);

    // ssh ends its ProxyCommand by SIGHUP.
    let echo = echo_target().await.to_string();
    let mut pipe = command(&["pipe", &server, &echo, "--ca", ca.to_str().unwrap()]);
    pipe.env("TCPLS_AUTH", "ann:s3cret").stdin(Stdio::piped());
    let mut child = Tcpls::spawn(pipe);
    child.child.stdin.as_mut().unwrap().write_all(b"echo\n").await.unwrap();
    assert_eq!(child.lines.next_line().await.unwrap().unwrap(), "echo");
    child.signal("HUP");
    let (status, text) = child.end().await;
    assert_eq!((status.code(), text.as_str()), (Some(129), ""));

    for (target, auth, text) in [
        ("127.0.0.2:1", "ann:s3cret", "--allow"),
        ("127.0.0.1:1", "wrong", "--auth"),
        ("127.0.0.1:1", "ann:s3cret", "refused"),
    ] {
        let mut pipe = command(&["pipe", &server, target, "--ca", ca.to_str().unwrap()]);
        let output = pipe.env("TCPLS_AUTH", auth).output().await.unwrap();
        let message = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && message.contains(text) && output.stdout.is_empty(), "{message}");
    }
}

#[tokio::test]
async fn sigusr1_hands_the_address_over_and_ends_the_proxy_after_its_connections() {
    let directory = Directory::new("drain");
    let metrics = std::net::TcpListener::bind(ANY).unwrap().local_addr().unwrap().to_string();
    let (mut old, address) = proxy(&directory, &["--allow", "127.0.0.1:*", "--metrics", &metrics]).await;
    let (server, target) = (address.replace("127.0.0.1", "localhost"), web_server().await);
    let forward = format!("127.0.0.1:0:{target}");
    let (client, port) = local(&["forward", "-L", &forward, &server], &directory).await;
    let mut running = TcpStream::connect(&port).await.unwrap();
    old.event("connected").await;
    old.signal("USR1");
    assert_eq!(old.event("draining").await["limit"], "1 h");
    let line = ["--allow", "127.0.0.1:*", "--listen", &address, "--metrics", &metrics];
    let (mut new, _) = proxy(&directory, &line).await;
    new.event("session_began").await;
    for socket in [&mut TcpStream::connect(&port).await.unwrap(), &mut running] {
        socket.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
        let mut page = Vec::new();
        socket.read_to_end(&mut page).await.unwrap();
        assert_eq!(page, PAGE);
    }
    new.event("connected").await;
    drop(running);
    old.event("drained").await;
    assert!(old.end().await.0.success());
    client.signal("TERM");
    assert!(client.end().await.0.success());
}

#[tokio::test]
async fn a_pipe_makes_no_other_session_while_its_server_drains() {
    let directory = Directory::new("drained-pipe");
    let (mut old, address) = proxy(&directory, &["--allow", "127.0.0.1:*"]).await;
    let (server, echo) = (address.replace("127.0.0.1", "localhost"), echo_target().await.to_string());
    let ca = directory.path().join("ca.pem");
    let mut pipe = command(&["pipe", &server, &echo, "--ca", ca.to_str().unwrap()]);
    pipe.env("TCPLS_AUTH", "ann:s3cret").stdin(Stdio::piped());
    let mut child = Tcpls::spawn(pipe);
    let mut input = child.child.stdin.take().unwrap();
    input.write_all(b"before\n").await.unwrap();
    assert_eq!(child.lines.next_line().await.unwrap().unwrap(), "before");
    old.signal("USR1");
    old.event("draining").await;
    let (mut new, _) = proxy(&directory, &["--allow", "127.0.0.1:*", "--listen", &address]).await;
    input.write_all(b"after\n").await.unwrap();
    assert_eq!(child.lines.next_line().await.unwrap().unwrap(), "after");
    drop(input);
    let (status, text) = child.end().await;
    assert_eq!((status.code(), text.as_str()), (Some(0), ""));
    old.event("drained").await;
    assert!(old.end().await.0.success());
    new.signal("TERM");
    let mut rest = Vec::new();
    while let Some(line) = new.lines.next_line().await.unwrap() {
        rest.push(line);
    }
    assert!(!rest.iter().any(|line| line.contains("session_began")), "{rest:?}");
}
