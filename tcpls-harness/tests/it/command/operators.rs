//! What operators of a server see.

use serde_json::Value;
use tcpls_harness::net::AddTcpError;
use tcpls_harness::proxy::Credentials;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

use super::output::{ask_for, connect};
use super::proxy::proxy;
use super::{Tcpls, command};
use crate::plain::plain_client;
use crate::support::{ANY, Directory, relay};

/// Reads the metrics at an address.
pub(super) async fn metrics(address: &str) -> String {
    let mut socket = TcpStream::connect(address).await.unwrap();
    socket.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
    let mut text = String::new();
    socket.read_to_string(&mut text).await.unwrap();
    text
}

/// A port of this host that is free.
async fn free_address() -> String {
    TcpListener::bind(ANY).await.unwrap().local_addr().unwrap().to_string()
}

#[tokio::test]
async fn metrics_have_sessions_bytes_and_failures_by_reason() {
    let directory = Directory::new("metrics");
    let reader = free_address().await;
    let (mut server, address) = Tcpls::serve(directory.path(), &["--metrics", &reader]).await;
    let mut stranger = TcpStream::connect(&address).await.unwrap();
    stranger.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    server.event("handshake_failed").await;
    let session = connect(directory.path(), &address).await;
    ask_for(&session, "/nothing").await;
    let has = |text: &str, line: &str| assert!(text.lines().any(|other| other == line), "no {line} in {text}");
    let text = metrics(&reader).await;
    assert!(text.starts_with("HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4"), "{text}");
    for line in [
        "tcpls_sessions 1",
        "tcpls_sessions_total{protocol=\"tcpls\"} 1",
        "tcpls_tcp_connections{state=\"live\"} 1",
        "tcpls_handshake_failures_total{reason=\"refused\"} 1",
    ] {
        has(&text, line);
    }
    let received = |text: &str| -> u64 {
        let line = text.lines().find(|line| line.starts_with("tcpls_tcp_bytes_total{direction=\"received\"}"));
        line.unwrap().rsplit(' ').next().unwrap().parse().unwrap()
    };
    let before = received(&text);
    assert!(before > 0, "{text}");
    session.close(Default::default(), b"").await;
    server.event("session_ended").await;
    let text = metrics(&reader).await;
    has(&text, "tcpls_sessions_total{protocol=\"tcpls\"} 1");
    assert!(received(&text) >= before, "{text}");
}

#[tokio::test]
async fn guesses_of_secrets_are_answered_429_logged_and_counted() {
    let directory = Directory::new("guesses");
    let reader = free_address().await;
    let (mut proxy, address) = proxy(&directory, &["--allow", "127.0.0.1:*", "--metrics", &reader]).await;
    let pem = std::fs::read_to_string(directory.path().join("ca.pem")).unwrap();
    let client = plain_client(&pem, b"http/1.1");
    let ask = async |login: &str| {
        let socket = TcpStream::connect(&address).await.unwrap();
        let mut tls = client.connect("localhost".try_into().unwrap(), socket).await.unwrap();
        let login = Credentials::parse(login).unwrap();
        let head = format!("CONNECT 127.0.0.2:1 HTTP/1.1\r\nHost: a\r\nProxy-Authorization: {}\r\n\r\n", login.field());
        tls.write_all(head.as_bytes()).await.unwrap();
        let mut answer = String::new();
        _ = tls.read_to_string(&mut answer).await;
        answer
    };
    assert!(ask("ann:s3cret").await.starts_with("HTTP/1.1 403 "));
    // The fifth wrong secret is followed by a wait of 1 s; a slow machine may need some more until one is in a wait.
    let mut wrong = 0;
    let answer = loop {
        let answer = ask("ann:guess").await;
        if !answer.starts_with("HTTP/1.1 407 ") {
            break answer;
        }
        wrong += 1;
    };
    assert!((5..15).contains(&wrong), "{wrong}");
    assert!(answer.starts_with("HTTP/1.1 429 ") && answer.contains("\r\nRetry-After: "), "{answer}");
    assert_eq!(proxy.event("refused").await["user"], "ann");
    for _ in 0..wrong {
        assert_eq!(proxy.event("refused").await["reason"], "the proxy requires credentials");
    }
    let refused = proxy.event("refused").await;
    let reason = refused["reason"].as_str().unwrap();
    assert!(reason.starts_with("too many wrong credentials came from this network; try again in "), "{reason}");
    assert!(refused["client"].as_str().unwrap().starts_with("127.0.0.1:"), "{refused}");
    let text = metrics(&reader).await;
    for line in [
        format!("tcpls_requests_refused_total{{reason=\"credentials\"}} {wrong}"),
        "tcpls_requests_refused_total{reason=\"wrong_too_often\"} 1".to_owned(),
        "tcpls_requests_refused_total{reason=\"denied\"} 1".to_owned(),
    ] {
        assert!(text.lines().any(|other| other == line), "no {line} in {text}");
    }
}

#[tokio::test]
async fn each_line_of_a_log_has_time_session_and_peer() {
    let directory = Directory::new("log-lines");
    let (root, ca) = (directory.path().to_str().unwrap(), directory.path().join("ca.pem"));
    let line = ["serve", "--listen", "127.0.0.1:0", "--root", root, "--ca-out", ca.to_str().unwrap()];
    let mut server = command(&line).spawn().unwrap();
    let mut log = BufReader::new(server.stderr.take().unwrap()).lines();
    let listening = log.next_line().await.unwrap().unwrap();
    let address = listening.split_once(" listening on ").unwrap().1.to_owned();
    let session = connect(directory.path(), &address).await;
    let client = session.local_address().unwrap().to_string();
    ask_for(&session, "/nothing").await;
    session.close(Default::default(), b"").await;
    loop {
        let line = log.next_line().await.unwrap().unwrap();
        let (time, rest) = line.split_once(' ').unwrap();
        assert!(time.len() == "2026-03-01T12:34:56.789Z".len() && time.ends_with('Z'), "{line}");
        if rest.starts_with("session ") {
            assert!(rest.contains(&client), "{line}");
        }
        if rest.contains(": ended: ") {
            return;
        }
    }
}

#[tokio::test]
async fn clients_learn_the_addresses_that_an_operator_names() {
    let directory = Directory::new("advertise");
    let named = ["--listen", "127.0.0.1:0", "--advertise", "198.51.100.1", "--advertise", "[2001:db8::1]:8443"];
    let (_server, address) = Tcpls::serve(directory.path(), &named).await;
    let session = connect(directory.path(), &address).await;
    let mut events = session.events();
    while session.peer_addresses().len() < 3 {
        events.next().await.unwrap();
    }
    let learned: Vec<String> = session.peer_addresses().iter().map(ToString::to_string).collect();
    let port = address.rsplit(':').next().unwrap();
    assert_eq!(learned[..2], [format!("198.51.100.1:{port}"), "[2001:db8::1]:8443".to_owned()]);
    assert!(learned[2].starts_with("127.0.0.1:") && learned[2] != address, "{learned:?}");
}

#[tokio::test]
async fn clients_of_a_server_behind_a_balancer_join_at_its_own_address() {
    let directory = Directory::new("direct");
    let (_server, address) = Tcpls::serve(directory.path(), &["--direct", "127.0.0.1"]).await;
    let own = address.parse().unwrap();
    let balancer = relay(own);
    let session = connect(directory.path(), &balancer.address().to_string()).await;
    let mut events = session.events();
    while session.peer_addresses().is_empty() {
        events.next().await.unwrap();
    }
    assert_eq!(session.peer_addresses(), [own]);
    let refused = session.add_tcp(balancer.address(), None).await;
    assert!(matches!(refused, Err(AddTcpError::NoJoins(_))), "{refused:?}");
    session.add_tcp(own, None).await.unwrap();
}

#[tokio::test]
async fn log_has_the_address_that_a_load_balancer_names() {
    let directory = Directory::new("balancer-log");
    let (mut server, address) = Tcpls::serve(directory.path(), &["--proxy-protocol", "127.0.0.0/8"]).await;
    let mut socket = TcpStream::connect(&address).await.unwrap();
    socket.write_all(b"PROXY TCP4 203.0.113.9 198.51.100.1 4711 443\r\nGET / HTTP/1.1\r\n\r\n").await.unwrap();
    let failed = server.event("handshake_failed").await;
    assert_eq!(failed["client"], "203.0.113.9:4711", "{failed}");
    let mut socket = TcpStream::connect(&address).await.unwrap();
    socket.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    let failed = server.event("handshake_failed").await;
    assert!(failed["reason"].as_str().unwrap().contains("PROXY protocol header"), "{failed}");
}

#[tokio::test]
async fn log_json_is_json_with_a_time() {
    let directory = Directory::new("log-json");
    let (root, ca) = (directory.path().to_str().unwrap(), directory.path().join("ca.pem"));
    let line = ["serve", "--log", "json", "--listen", "127.0.0.1:0", "--root", root, "--ca-out", ca.to_str().unwrap()];
    let mut server = Tcpls::start(&line);
    let listening = server.event("listening").await;
    assert!(listening["time"].as_str().unwrap().ends_with('Z') && listening["addresses"][0].is_string(), "{listening}");
}

/// The farm of the repository, with other numbers of clients and servers.
async fn simulated_farm(options: &[&str]) -> Result<(usize, u64), String> {
    let scenario = concat!(env!("CARGO_MANIFEST_DIR"), "/scenarios/farm.toml");
    let output = command(&["sim", "run", "--json", scenario]).args(options).output().await.unwrap();
    let said: Value = serde_json::from_slice(output.stdout.split(|byte| *byte == b'\n').next().unwrap()).unwrap();
    match said["error"].as_str() {
        Some(error) => Err(error.to_owned()),
        None => Ok((said["sessions"].as_array().unwrap().len(), said["hand_overs"].as_u64().unwrap_or(0))),
    }
}

#[tokio::test]
async fn simulated_farm_has_the_clients_and_servers_of_the_command_line() {
    let (clients, hand_overs) = simulated_farm(&["--clients", "3"]).await.unwrap();
    assert!(clients == 3 && (4..=6).contains(&hand_overs), "two joins of each: {hand_overs}");
    assert_eq!(simulated_farm(&["--clients", "2", "--servers", "1"]).await, Ok((2, 0)));
    for (options, most) in [(["--clients", "100001"], "100000"), (["--servers", "0"], "1000")] {
        let error = simulated_farm(&options).await.unwrap_err();
        assert!(error.contains(&format!("between 1 and {most}")), "{error}");
    }
}

#[tokio::test]
async fn errors_are_json_in_every_command_with_json() {
    let taken = TcpListener::bind(ANY).await.unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    for (line, code, part) in [
        (&["perf", "server", "--json", "--listen", &taken][..], 1, "in use"),
        (&["proxy", "--json", "--listen", &taken, "--anyone"], 1, "in use"),
        (&["sim", "run", "--json", "/nonexistent"], 1, "/nonexistent"),
        (&["get", "--json", "--bogus", "https://localhost/x"], 2, "--bogus"),
        (&["serve", "--json"], 2, "--listen"),
        (&["proxy", "invite", "revoke", "--json", "unknown"], 1, "has no invite"),
    ] {
        let output = command(line).output().await.unwrap();
        assert_eq!(output.status.code(), Some(code), "{line:?}: {output:?}");
        let error: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"));
        let text = error["error"].as_str().unwrap();
        assert!(text.contains(part) && !text.contains("Usage"), "{line:?}: {text}");
    }
}
