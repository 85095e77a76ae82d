//! What signals do to clients and servers.

use std::path::Path;

use tcpls_core::error::CloseReason;
use tcpls_harness::files::{PROTOCOL, codes};
use tcpls_harness::net::{ClientOptions, Session};
use tcpls_harness::relay::{PathOptions, Relay};
use tcpls_harness::tls::Trust;
use tokio::io::AsyncReadExt;

use super::{Tcpls, downloading, get_line, sparse_file};
use crate::library;
use crate::support::{ANY, Directory};

/// A path that lets 2 MB through in a second.
fn slow_path(target: &str) -> Relay {
    let options = PathOptions::default().with(|path| path.rate = Some(2_000_000));
    Relay::start(ANY, target.parse().unwrap(), options).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signal_ends_get_which_closes_its_session_and_keeps_what_it_can_continue() {
    let directory = Directory::new("get-signals");
    let (mut server, address) = Tcpls::serve(directory.path(), &[]).await;
    sparse_file(&directory.path().join("root/large"), 1 << 30);
    let out = directory.path().join("out");
    for (name, code) in [("HUP", 129), ("INT", 130), ("TERM", 143)] {
        let slow = slow_path(&address);
        let line = get_line(directory.path(), &slow.address().to_string(), "large");
        let line: Vec<&str> = line.iter().map(String::as_str).collect();
        let get = Tcpls::start(&line);
        downloading(&out).await;
        get.signal(name);
        let (status, text) = get.end().await;
        assert_eq!(status.code(), Some(code), "{name}: {text}");
        assert!(text.contains(&format!("stopped by SIG{name}")), "{text}");
        let mut left: Vec<_> = std::fs::read_dir(&out).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        left.sort();
        assert!(left.is_empty() || left == ["large.tcpls-part", "large.tcpls-part.etag"], "{name}: {left:?}");
        std::fs::remove_dir_all(&out).unwrap();
        let ended = server.event("session_ended").await;
        assert!(ended["reason"].as_str().unwrap().contains("the client was stopped"), "{ended}");
    }
}

/// A session with a server whose certificate is in a file.
async fn connect(ca: Trust, address: &str) -> Session {
    let options = ClientOptions::new(library::client(&ca, PROTOCOL), "localhost".try_into().unwrap());
    Session::connect(&[address.parse().unwrap()], options).await.unwrap()
}

#[tokio::test]
async fn sigterm_ends_serve_which_closes_its_sessions() {
    let directory = Directory::new("serve-term");
    let (mut server, address) = Tcpls::serve(directory.path(), &[]).await;
    let session = connect(Trust::File(directory.path().join("ca.pem")), &address).await;
    server.event("session_began").await;
    server.signal("TERM");
    let reason = CloseReason::Peer { error: codes::STOPPING, reason: b"the server stops".to_vec() };
    assert_eq!(session.closed().await, reason);
    assert!(server.end().await.0.success());
}

#[tokio::test]
async fn a_second_signal_ends_serve_at_once() {
    let directory = Directory::new("serve-twice");
    let (mut server, address) = Tcpls::serve(directory.path(), &[]).await;
    let relay = slow_path(&address);
    let _session = connect(Trust::File(directory.path().join("ca.pem")), &relay.address().to_string()).await;
    server.event("session_began").await;
    // The client never learns that the session is closed, so that the server waits for it.
    relay.stall();
    server.signal("TERM");
    server.event("stopping").await;
    server.signal("TERM");
    assert_eq!(server.end().await.0.code(), Some(143));
}

#[tokio::test]
async fn sighup_makes_serve_read_its_files_again_or_keep_what_it_has() {
    let directory = Directory::new("serve-reload");
    let (cert, key) = (directory.path().join("cert.pem"), directory.path().join("key.pem"));
    let write = || {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        std::fs::write(&cert, made.cert.pem()).unwrap();
        std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
        Trust::Pem(made.cert.pem())
    };
    let first = write();
    let more = ["--cert", cert.to_str().unwrap(), "--key", key.to_str().unwrap()];
    let (mut server, address) = Tcpls::serve(directory.path(), &more).await;
    let old = connect(first, &address).await;
    let second = write();
    server.signal("HUP");
    server.event("reloaded").await;
    connect(second.clone(), &address).await;
    assert_eq!(old.close_reason(), None);
    std::fs::write(&key, "no key").unwrap();
    server.signal("HUP");
    let failed = server.event("reload_failed").await;
    assert!(failed["error"].as_str().unwrap().contains("no private key"), "{failed}");
    connect(second.clone(), &address).await;
}

#[tokio::test]
async fn failed_reload_leaves_the_certificate_in_ca_out() {
    let directory = Directory::new("failed-reload");
    let (state, ca) = (directory.path().join("state"), directory.path().join("ca.pem"));
    let client_ca = directory.path().join("clients.pem");
    let made = rcgen::generate_simple_self_signed(["client".to_owned()]).unwrap();
    std::fs::write(&client_ca, made.cert.pem()).unwrap();
    let more = ["--state", state.to_str().unwrap(), "--client-ca", client_ca.to_str().unwrap()];
    let (mut server, _) = Tcpls::serve(directory.path(), &more).await;
    let first = std::fs::read_to_string(&ca).unwrap();
    std::fs::remove_file(state.join("key.pem")).unwrap();
    std::fs::write(&client_ca, "no certificate").unwrap();
    server.signal("HUP");
    server.event("reload_failed").await;
    assert_eq!(std::fs::read_to_string(&ca).unwrap(), first, "the server still shows this one");
    std::fs::write(&client_ca, made.cert.pem()).unwrap();
    server.signal("HUP");
    server.event("reloaded").await;
    assert_ne!(std::fs::read_to_string(&ca).unwrap(), first);
}

#[tokio::test]
async fn clients_trust_the_next_start_of_a_server_with_the_same_state_directory() {
    let directory = Directory::new("state");
    let state = directory.path().join("state");
    let more = ["--state", state.to_str().unwrap()];
    let (server, _) = Tcpls::serve(directory.path(), &more).await;
    let pem = std::fs::read_to_string(directory.path().join("ca.pem")).unwrap();
    assert!(!pem.contains("PRIVATE KEY"));
    server.signal("TERM");
    assert!(server.end().await.0.success());
    let mode = |path: &Path| std::os::unix::fs::PermissionsExt::mode(&path.metadata().unwrap().permissions()) & 0o777;
    assert_eq!((mode(&state), mode(&state.join("key.pem"))), (0o700, 0o600));
    // Its certificate has other names than the one that the client knows.
    let more = [&more[..], &["--name", "another.example"]].concat();
    let (server, address) = Tcpls::serve(directory.path(), &more).await;
    assert_ne!(std::fs::read_to_string(directory.path().join("ca.pem")).unwrap(), pem);
    connect(Trust::Pem(pem), &address).await;
    server.signal("TERM");
    server.end().await;
    let key = state.join("key.pem");
    std::fs::set_permissions(&key, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
    let root = directory.path().to_str().unwrap();
    let line = [&["serve", "--listen", "127.0.0.1:0", "--root", root][..], &more].concat();
    let (status, text) = Tcpls::start(&line).end().await;
    assert!(!status.success() && text.contains("mode 644") && text.contains("chmod 600 "), "{text}");
}

#[tokio::test]
async fn sigterm_ends_perf_server_and_demo() {
    let mut server = Tcpls::start(&["perf", "server", "--json", "--listen", "127.0.0.1:0"]);
    server.lines.next_line().await.unwrap().unwrap();
    server.signal("HUP");
    server.signal("TERM");
    assert!(server.end().await.0.success());
    let mut demo = Tcpls::start(&["demo", "--size", "1GiB"]);
    let mut text = [0; 1];
    demo.child.stderr.as_mut().unwrap().read_exact(&mut text).await.unwrap();
    demo.signal("TERM");
    assert_eq!(demo.end().await.0.code(), Some(143));
}
