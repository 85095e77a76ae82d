//! Error messages of the command, and its output of text from peers.

use clap::CommandFactory;
use tcpls_core::wire::ids::ErrorCode;
use tcpls_harness::cli::Cli;
use tcpls_harness::files::PROTOCOL;
use tcpls_harness::net::{Listener, ServerOptions};
use tokio::io::{AsyncBufReadExt, BufReader};

use super::output::{ask_for, connect};
use super::{Tcpls, command, get_line};
use crate::library;
use crate::support::{ANY, Directory, identity};

/// What `get` says about `url`, which it must not get.
async fn error_of_get(line: &[String]) -> String {
    let line: Vec<&str> = line.iter().map(String::as_str).collect();
    let output = command(&line).output().await.unwrap();
    assert_eq!(output.status.code(), Some(1));
    String::from_utf8(output.stderr).unwrap()
}

#[tokio::test]
async fn certificate_errors_name_the_cause_and_suggest_ca_only_if_it_helps() {
    let directory = Directory::new("certificates");
    let (cert, key) = (directory.path().join("ca.pem"), directory.path().join("key.pem"));
    let mut parameters = rcgen::CertificateParams::new(["localhost".to_owned()]).unwrap();
    parameters.not_before = rcgen::date_time_ymd(2000, 1, 1);
    parameters.not_after = rcgen::date_time_ymd(2001, 3, 1);
    let signing_key = rcgen::KeyPair::generate().unwrap();
    std::fs::write(&cert, parameters.self_signed(&signing_key).unwrap().pem()).unwrap();
    std::fs::write(&key, signing_key.serialize_pem()).unwrap();
    let more = ["--cert", cert.to_str().unwrap(), "--key", key.to_str().unwrap()];
    let (server, address) = Tcpls::serve(directory.path(), &more).await;
    let text = error_of_get(&get_line(directory.path(), &address, "file")).await;
    assert!(text.contains("certificate expired 2001-03-01 (") && !text.contains("--ca"), "{text}");
    drop(server);

    let (mut server, address) = Tcpls::serve(directory.path(), &[]).await;
    let mut line = get_line(directory.path(), &address, "file");
    *line.last_mut().unwrap() = "https://wrong.example/file".to_owned();
    let text = error_of_get(&line).await;
    assert!(text.contains("not valid for name \"wrong.example\"") && !text.contains("--ca"), "{text}");
    assert!(text.contains("only valid for 127.0.0.1, "), "{text}");

    std::fs::write(&cert, identity().certificate_pem()).unwrap();
    let text = error_of_get(&get_line(directory.path(), &address, "file")).await;
    assert!(text.contains("is that file of this server"), "{text}");
    server.signal("TERM");
    server.event("stopping").await;
}

#[tokio::test]
async fn serve_warns_of_an_expired_certificate() {
    let directory = Directory::new("expired");
    let (cert, key) = (directory.path().join("cert.pem"), directory.path().join("key.pem"));
    let mut parameters = rcgen::CertificateParams::new(["localhost".to_owned()]).unwrap();
    parameters.not_after = rcgen::date_time_ymd(2001, 3, 1);
    let signing_key = rcgen::KeyPair::generate().unwrap();
    std::fs::write(&cert, parameters.self_signed(&signing_key).unwrap().pem()).unwrap();
    std::fs::write(&key, signing_key.serialize_pem()).unwrap();
    let (cert, key, root) = (cert.to_str().unwrap(), key.to_str().unwrap(), directory.path().to_str().unwrap());
    let line = ["serve", "--listen", "localhost:0", "--root", root, "--cert", cert, "--key", key];
    let mut server = command(&line).spawn().unwrap();
    let warning = BufReader::new(server.stderr.take().unwrap()).lines().next_line().await.unwrap().unwrap();
    assert!(warning.contains("Z warning: ") && warning.contains("expired 2001-03-01 ("), "{warning}");
}

#[tokio::test]
async fn an_encrypted_key_is_called_encrypted() {
    let directory = Directory::new("encrypted");
    let (cert, key) = (directory.path().join("cert.pem"), directory.path().join("key.pem"));
    std::fs::write(&cert, identity().certificate_pem()).unwrap();
    std::fs::write(&key, "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n").unwrap();
    let (cert, key, root) = (cert.to_str().unwrap(), key.to_str().unwrap(), directory.path().to_str().unwrap());
    let line = ["serve", "--listen", "127.0.0.1:0", "--root", root, "--cert", cert, "--key", key];
    let output = command(&line).output().await.unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(text.contains("is encrypted") && text.contains("openssl pkey"), "{text}");
}

#[tokio::test]
async fn text_of_peers_never_reaches_the_terminal_as_commands() {
    let directory = Directory::new("escapes");
    let identity = identity();
    std::fs::write(directory.path().join("ca.pem"), identity.certificate_pem()).unwrap();
    let options = ServerOptions::new(library::server(&identity, PROTOCOL));
    let mut listener = Listener::bind(&[ANY], options).unwrap();
    let address = listener.local_addresses()[0].to_string();
    let line = get_line(directory.path(), &address, "file");
    let serving = async {
        let session = listener.accept().await;
        _ = session.accept_stream().await;
        session.close(ErrorCode(7), "\x1b]0;title\x07\r\nall is well \u{9b}31m \u{202e}".as_bytes()).await;
    };
    let (text, ()) = tokio::join!(error_of_get(&line), serving);
    assert!(text.contains("\\u{1b}]0;title") || text.contains("\u{fffd}]0;title"), "{text}");
    let acted_on = |c: char| (c.is_control() && c != '\n') || c == '\u{202e}';
    assert!(!text.contains(acted_on) && !text.lines().any(|line| line.starts_with("all is well")), "{text:?}");

    let (mut server, address) = Tcpls::serve(directory.path(), &[]).await;
    let session = connect(directory.path(), &address).await;
    ask_for(&session, "/%1b%5b2J%e2%80%ae").await;
    let path = server.event("request").await["path"].as_str().unwrap().to_owned();
    assert_eq!(path, "/\\u{1b}[2J\\u{202e}");
}

#[tokio::test]
async fn a_server_that_demands_client_certificates_serves_those_that_have_one() {
    let directory = Directory::new("client-ca");
    let clients = identity_files(directory.path(), "client");
    let more = ["--client-ca", clients[0].as_str()];
    let (server, address) = Tcpls::serve(directory.path(), &more).await;
    std::fs::write(directory.path().join("root/file"), "for clients").unwrap();
    let text = error_of_get(&get_line(directory.path(), &address, "file")).await;
    assert!(text.contains("--cert and --key"), "{text}");
    let with = |files: &[String; 2]| {
        let mut line = get_line(directory.path(), &address, "file");
        line.extend(["--cert".to_owned(), files[0].clone(), "--key".to_owned(), files[1].clone()]);
        line
    };
    let strangers = identity_files(directory.path(), "stranger");
    error_of_get(&with(&strangers)).await;
    let line = with(&clients);
    let line: Vec<&str> = line.iter().map(String::as_str).collect();
    let output = command(&line).output().await.unwrap();
    assert!(output.status.success(), "{output:?}");
    assert_eq!(std::fs::read(directory.path().join("out/file")).unwrap(), b"for clients");
    drop(server);
}

/// A certificate and its key, in files.
fn identity_files(directory: &std::path::Path, name: &str) -> [String; 2] {
    let made = rcgen::generate_simple_self_signed([name.to_owned()]).unwrap();
    let files = ["cert", "key"].map(|kind| directory.join(format!("{name}-{kind}.pem")).to_str().unwrap().to_owned());
    std::fs::write(&files[0], made.cert.pem()).unwrap();
    std::fs::write(&files[1], made.signing_key.serialize_pem()).unwrap();
    files
}

/// Arguments for each command with `--json` with which it fails. FILE is a file.
const FAILING: &[(&str, &str)] = &[
    ("demo", "--file /nofile"),
    ("serve", "--listen 127.0.0.1:0 --root /nodir"),
    ("get", "--ca /nofile https://localhost/file"),
    ("proxy", "--listen 127.0.0.1:0 --allow *:1 --state FILE"),
    ("proxy invite add", "ann --address localhost:1 --state FILE"),
    ("proxy invite list", "--state FILE"),
    ("proxy invite revoke", "ann --state FILE"),
    ("proxy key show", "--state FILE"),
    ("proxy key next", "--state FILE"),
    ("proxy key switch", "--state FILE"),
    ("status", "--socket /nosocket"),
    ("perf server", "--listen 192.0.2.1:0"),
    ("perf client", "--connect 127.0.0.1:1"),
    ("sim run", "/nofile"),
    ("decrypt", "/nofile --keylog /nofile"),
    ("replay", "/nofile"),
];

/// The names of the commands with `--json`.
fn commands_with_json(command: &clap::Command, parents: &[&str], found: &mut Vec<String>) {
    for command in command.get_subcommands() {
        let names = [parents, &[command.get_name()]].concat();
        if command.get_arguments().any(|argument| argument.get_long() == Some("json")) {
            found.push(names.join(" "));
        }
        commands_with_json(command, &names, found);
    }
}

#[tokio::test]
async fn with_json_each_command_prints_its_errors_as_one_object() {
    let directory = Directory::new("json-errors");
    let file = directory.path().join("file");
    std::fs::write(&file, "").unwrap();
    let (file, mut commands) = (file.to_str().unwrap(), Vec::new());
    commands_with_json(&Cli::command(), &[], &mut commands);
    assert_eq!(commands.len(), FAILING.len(), "{commands:?}");
    for name in commands {
        let (_, arguments) = FAILING.iter().find(|(known, _)| *known == name).unwrap_or_else(|| panic!("{name}"));
        for (arguments, code) in [(*arguments, 1), ("--no-such-option", 2)] {
            let words = name.split(' ').chain(["--json"]).chain(arguments.split(' '));
            let line: Vec<&str> = words.map(|word| if word == "FILE" { file } else { word }).collect();
            let output = command(&line).output().await.unwrap();
            let error = serde_json::from_slice::<serde_json::Value>(&output.stdout);
            let error = error.unwrap_or_else(|error| panic!("{line:?}: {error}: {output:?}"));
            let (text, message) = (error["error"].as_str().unwrap(), String::from_utf8_lossy(&output.stderr));
            assert!(message.contains(text.lines().next().unwrap()), "{line:?}: {output:?}");
            assert_eq!(output.status.code(), Some(code), "{line:?}: {output:?}");
        }
    }
}
