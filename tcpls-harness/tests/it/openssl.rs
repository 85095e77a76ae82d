//! OpenSSL's command as a plain TLS 1.3 peer, where it is installed.

use std::net::SocketAddr;
use std::process::Stdio;

use bytes::Bytes;
use tcpls_core::wire::ids::ErrorCode;
use tcpls_harness::net::{ClientOptions, Session};
use tcpls_harness::tls::Trust;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, Command};

use crate::library;
use crate::support::{Directory, PROTOCOL, Server};

/// Starts `openssl` with these arguments; `None`, and a word about it, where there is none.
fn openssl(arguments: &[&str]) -> Option<Child> {
    let mut command = Command::new("openssl");
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).kill_on_drop(true);
    match command.spawn() {
        Ok(child) => Some(child),
        Err(error) => {
            eprintln!("skipped: the openssl command can't be run ({error})");
            None
        }
    }
}

#[tokio::test]
async fn our_client_falls_back_with_openssl_s_server() {
    let directory = Directory::new("s_server");
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let (cert, key) = (directory.path().join("cert.pem"), directory.path().join("key.pem"));
    std::fs::write(&cert, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    let (cert, key) = (cert.to_str().unwrap(), key.to_str().unwrap());
    let alpn = std::str::from_utf8(PROTOCOL).unwrap();
    // -rev answers each line with the same line backwards.
    let arguments =
        ["s_server", "-accept", "127.0.0.1:0", "-tls1_3", "-alpn", alpn, "-cert", cert, "-key", key, "-rev"];
    let Some(mut server) = openssl(&arguments) else { return };
    let mut output = BufReader::new(server.stdout.take().unwrap()).lines();
    let address: SocketAddr = loop {
        let line = output.next_line().await.unwrap().expect("s_server ended early");
        if let Some(address) = line.strip_prefix("ACCEPT ") {
            break address.trim().parse().unwrap();
        }
    };
    let tls = library::client(&Trust::Pem(made.cert.pem()), PROTOCOL);
    let options = ClientOptions::new(tls, "localhost".try_into().unwrap());
    let session = Session::connect(&[address], options).await.unwrap();
    assert!(!session.is_tcpls());
    assert_eq!(session.established().unwrap().application_protocol.as_deref(), Some(PROTOCOL));
    let mut stream = session.open_stream().await.unwrap();
    stream.write_all(b"abcdef\n").await.unwrap();
    let mut answer = [0; 7];
    stream.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"fedcba\n");
    stream.finish().unwrap();
    session.close(ErrorCode(0), b"").await;
}

#[tokio::test]
async fn our_server_falls_back_with_openssl_s_client() {
    let mut server = Server::start();
    let directory = Directory::new("s_client");
    let ca = directory.path().join("ca.pem");
    std::fs::write(&ca, server.identity.certificate_pem()).unwrap();
    let (address, ca) = (server.addresses[0].to_string(), ca.to_str().unwrap());
    let alpn = std::str::from_utf8(PROTOCOL).unwrap();
    let trust = ["-CAfile", ca, "-verify_return_error", "-verify_hostname", "localhost", "-servername", "localhost"];
    let arguments = [&["s_client", "-connect", &address, "-tls1_3", "-alpn", alpn, "-quiet"][..], &trust].concat();
    let Some(mut client) = openssl(&arguments) else { return };
    let mut input = client.stdin.take().unwrap();
    input.write_all(b"question\n").await.unwrap();
    let session = server.listener.accept().await;
    assert!(!session.is_tcpls());
    let mut stream = session.accept_stream().await.unwrap();
    let mut question = [0; 9];
    stream.read_exact(&mut question).await.unwrap();
    assert_eq!(&question, b"question\n");
    stream.write_chunk(Bytes::from_static(b"answer\n")).await.unwrap();
    stream.finish().unwrap();
    let mut answer = Vec::new();
    client.stdout.take().unwrap().read_to_end(&mut answer).await.unwrap();
    assert_eq!(answer, b"answer\n");
    session.closed().await;
}
