//! Invites, from the command that makes them to the clients that use them.

use std::process::{Output, Stdio};

use tcpls_harness::proxy::Invite;
use tokio::io::AsyncWriteExt;

use super::proxy::web_server;
use super::{Tcpls, command, command as command_line};
use crate::support::Directory;

/// A state directory, and the line of an invite for `name` at `address`.
async fn invite(state: &str, name: &str, address: &str) -> String {
    let output = run(&["proxy", "invite", "add", name, "--address", address, "--state", state], None).await;
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// Runs a command that has this in its environment as an invite.
async fn run(line: &[&str], invite: Option<&str>) -> Output {
    let mut command = command(line);
    if let Some(invite) = invite {
        command.env("TCPLS_INVITE", invite);
    }
    command.output().await.unwrap()
}

fn message(output: &Output) -> String {
    assert!(!output.status.success(), "{output:?}");
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// `proxy --json` without users; returns its address.
async fn proxy(state: &str) -> (Tcpls, String) {
    let ca = format!("{state}/ca.pem");
    let line = ["proxy", "--json", "--listen", "127.0.0.1:0", "--allow", "127.0.0.1:*", "--state", state];
    let mut proxy = Tcpls::start(&[&line[..], &["--ca-out", &ca]].concat());
    let listening = proxy.event("listening").await;
    (proxy, listening["addresses"][0].as_str().unwrap().to_owned())
}

#[tokio::test]
async fn invite_is_accepted_by_a_running_proxy_until_it_is_revoked() {
    const REQUEST: &[u8] = b"GET / HTTP/1.1\r\n\r\n";
    let directory = Directory::new("invites");
    let state = directory.path().join("state").to_str().unwrap().to_owned();
    let (mut server, address) = proxy(&state).await;
    let warning = server.event("warning").await;
    assert!(warning["warning"].as_str().unwrap().contains("proxy invite add"), "{warning}");
    let (ann, bob) = (invite(&state, "ann", &address).await, invite(&state, "bob", &address).await);
    let target = web_server().await;
    let file = directory.path().join("ann");
    std::fs::write(&file, &ann).unwrap();
    let source = format!("@{}", file.display());

    let mut pipe = command(&["pipe", "--invite", &source, &target]).stdin(Stdio::piped()).spawn().unwrap();
    pipe.stdin.as_mut().unwrap().write_all(REQUEST).await.unwrap();
    let output = pipe.wait_with_output().await.unwrap();
    assert!(output.status.success() && output.stdout.ends_with(b"hello"), "{output:?}");
    let warned = String::from_utf8(output.stderr).unwrap();
    assert!(warned.contains("chmod 600 "), "{warned}");
    assert_eq!(server.event("connected").await["user"], "ann");

    let listed = run(&["proxy", "invite", "list", "--state", &state], None).await;
    let listed = String::from_utf8(listed.stdout).unwrap();
    assert!(listed.starts_with("ann ") && listed.contains("\nbob "), "{listed}");
    let line = ["proxy", "invite", "revoke", "ann", "--state", &state];
    assert!(run(&line, None).await.status.success());
    let text = message(&run(&["pipe", &target], Some(&ann)).await);
    assert!(text.contains("revoked"), "{text}");
    // The other client's still counts, and the command line is the only thing that differs from ann's.
    let text = message(&run(&["pipe", "127.0.0.1:1"], Some(&bob)).await);
    assert!(text.contains("refused") && !text.contains("revoked"), "{text}");

    let text = message(&run(&line, None).await);
    assert!(text.contains("has no invite"), "{text}");
    let text = message(&run(&["proxy", "invite", "add", "bob", "--address", "a:1", "--state", &state], None).await);
    assert!(text.contains("bob has an invite already"), "{text}");
    server.signal("TERM");
    assert!(server.end().await.0.success());
}

/// What a client with this invite gets from the target, or its message.
async fn fetch(invite: &str, target: &str) -> Result<(), String> {
    let mut pipe = command(&["pipe", target]);
    let mut pipe = pipe.env("TCPLS_INVITE", invite).stdin(Stdio::piped()).spawn().unwrap();
    _ = pipe.stdin.as_mut().unwrap().write_all(b"GET / HTTP/1.1\r\n\r\n").await; // it may have ended
    let output = pipe.wait_with_output().await.unwrap();
    if output.status.success() { Ok(()) } else { Err(message(&output)) }
}

#[tokio::test]
async fn clients_connect_throughout_the_rotation_of_a_key() {
    let directory = Directory::new("rotation");
    let state = directory.path().join("state").to_str().unwrap().to_owned();
    let key = |command: &'static str, more: &'static [&'static str]| {
        let line = [&["proxy", "key", command, "--state", &state], more].concat();
        let mut command = command_line(&line);
        async move { command.output().await.unwrap() }
    };
    let text = message(&key("show", &[]).await);
    assert!(text.contains("there is no key in ") && !directory.path().join("state/key.pem").exists(), "{text}");
    let (mut server, address) = proxy(&state).await;
    assert!(key("show", &[]).await.status.success());
    let target = web_server().await;
    let early = invite(&state, "early", &address).await;
    fetch(&early, &target).await.unwrap();

    let text = message(&key("switch", &[]).await);
    assert!(text.contains("there is no next key"), "{text}");
    let made = key("next", &["--json"]).await;
    let made: serde_json::Value = serde_json::from_slice(&made.stdout).unwrap();
    assert!(made["next"].is_string() && made["next"] != made["in_use"], "{made}");
    let late = invite(&state, "late", &address).await;
    let pins: Vec<String> = late.trim().parse::<Invite>().unwrap().pins().iter().map(|pin| pin.to_string()).collect();
    assert_eq!(pins, [made["in_use"].as_str().unwrap(), made["next"].as_str().unwrap()]);
    fetch(&early, &target).await.unwrap();
    fetch(&late, &target).await.unwrap();

    let text = message(&key("switch", &[]).await);
    assert!(text.contains("clients do not have the next key: early;"), "{text}");
    assert!(key("switch", &["--force"]).await.status.success());
    // Until it reads its files again, the server has the former key, which both invites have.
    fetch(&early, &target).await.unwrap();
    fetch(&late, &target).await.unwrap();
    server.signal("HUP");
    server.event("reloaded_users").await;
    fetch(&late, &target).await.unwrap();
    let text = fetch(&early, &target).await.unwrap_err();
    assert!(text.contains("has another public key: sha256//"), "{text}");
    let newest = invite(&state, "newest", &address).await;
    fetch(&newest, &target).await.unwrap();

    let shown: serde_json::Value = serde_json::from_slice(&key("show", &["--json"]).await.stdout).unwrap();
    assert_eq!((&shown["in_use"], &shown["next"]), (&made["next"], &serde_json::Value::Null));
}

#[tokio::test]
async fn get_fetches_by_invite_from_a_server_with_the_same_state_directory() {
    let directory = Directory::new("get-invite");
    let state = directory.path().join("state").to_str().unwrap().to_owned();
    let (_server, address) = Tcpls::serve(directory.path(), &["--state", &state]).await;
    std::fs::write(directory.path().join("root/file"), "invited").unwrap();
    let (line, out) = (invite(&state, "ann", &address).await, directory.path().join("out"));
    let out = out.to_str().unwrap();
    // Names do not matter, and with an invite none is needed.
    for url in ["https://another.example/file", "/file"] {
        let mut get = command(&["get", "--invite", "-", "-o", out, url]).stdin(Stdio::piped()).spawn().unwrap();
        get.stdin.take().unwrap().write_all(line.as_bytes()).await.unwrap();
        let output = get.wait_with_output().await.unwrap();
        assert!(output.status.success(), "{output:?}");
        assert_eq!(std::fs::read(format!("{out}/file")).unwrap(), b"invited");
        std::fs::remove_file(format!("{out}/file")).unwrap();
    }
    let other = directory.path().join("other").to_str().unwrap().to_owned();
    let wrong = invite(&other, "ann", &address).await;
    #[cfg(feature = "openssl")]
    let libraries: &[&[&str]] = &[&[], &["--tls", "openssl"]];
    #[cfg(not(feature = "openssl"))]
    let libraries: &[&[&str]] = &[&[]];
    for library in libraries {
        let text = message(&run(&[&["get", "-o", out, "/file"], *library].concat(), Some(&wrong)).await);
        assert!(text.contains("has another public key: sha256//") && text.contains("new invite"), "{text}");
    }
    let text = message(&run(&["get", "-o", out, "/file"], Some(&line.trim_end()[..40])).await);
    assert!(text.contains("TCPLS_INVITE: ") && text.contains("copy the whole line"), "{text}");
}

#[tokio::test]
async fn secret_on_the_command_line_is_refused_and_not_shown() {
    let directory = Directory::new("exposed");
    let line = invite(directory.path().to_str().unwrap(), "ann", "192.0.2.1:443").await;
    assert!(line.trim().parse::<Invite>().is_ok());
    for command in [&["pipe", "--invite", line.trim(), "a:1"][..], &["get", "--invite", line.trim(), "/file"]] {
        let text = message(&run(command, None).await);
        assert!(!text.contains("tcpls1:") && text.contains("TCPLS_INVITE") && text.contains("revoked"), "{text}");
    }
    let text = message(&run(&["pipe", "--invite", "-", "a:1"], None).await);
    assert!(text.contains("standard input is for the target"), "{text}");
}
