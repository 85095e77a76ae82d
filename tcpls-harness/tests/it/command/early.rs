//! `get --early-data`, and with OpenSSL `--session-cache`: requests with the ClientHello.

#[cfg(feature = "openssl")]
use std::{net::SocketAddr, path::Path};

use tcpls_core::wire::ids::ErrorCode;
use tcpls_harness::files::PROTOCOL;
use tcpls_harness::net::{Listener, ServerOptions, Session, Stream};
#[cfg(feature = "openssl")]
use tokio::io::copy_bidirectional;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
#[cfg(feature = "openssl")]
use tokio::net::{TcpListener, TcpStream};

use super::command;
#[cfg(feature = "openssl")]
use super::{Tcpls, get_line};
use crate::library;
use crate::support::{ANY, Directory, identity, soon};

/// The next request, on the first stream of a session.
async fn request(session: &Session) -> Stream {
    let mut stream = session.accept_stream().await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    stream
}

/// Runs `get` with these options against a server whose first session ends within an answer. Returns whether the request
/// of the second one was early.
async fn second_request_is_early(name: &str, options: &[&str]) -> bool {
    let directory = Directory::new(name);
    let identity = identity();
    let ca = directory.path().join("ca.pem");
    std::fs::write(&ca, identity.certificate_pem()).unwrap();
    let tls = library::early_server(&identity, PROTOCOL);
    let options_of_server = ServerOptions::new(tls).with(|options| options.early_data = true);
    let mut listener = Listener::bind(&[ANY], options_of_server).unwrap();
    let address = listener.local_addresses()[0].to_string();
    let out = directory.path().join("file");
    let (ca, out) = (ca.to_str().unwrap(), out.to_str().unwrap());
    let line = ["get", "--connect", &address, "--ca", ca, "-O", out, "https://localhost/file"];
    let get = command(&[&line, options].concat()).output();
    let served = async {
        let first = listener.accept().await;
        let mut stream = request(&first).await;
        assert!(!stream.is_early());
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n12345").await.unwrap();
        first.close(ErrorCode(0), b"").await;
        let second = listener.accept().await;
        let mut stream = request(&second).await;
        let is_early = stream.is_early();
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabcdefghij").await.unwrap();
        _ = stream.finish(); // the client may have closed the session: it has all of it
        second.closed().await;
        is_early
    };
    let (output, is_early) = soon(async { tokio::join!(get, served) }).await;
    let output = output.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(std::fs::read(out).unwrap(), b"abcdefghij");
    is_early
}

#[tokio::test(flavor = "multi_thread")]
async fn get_repeats_its_request_as_early_data_in_the_session_that_replaces_another() {
    assert!(second_request_is_early("early-renewed", &["--early-data"]).await);
    assert!(!second_request_is_early("early-not-asked-for", &[]).await);
    #[cfg(feature = "openssl")]
    assert!(second_request_is_early("early-openssl", &["--early-data", "--tls", "openssl"]).await);
}

/// A path to a server that lets nothing back before the client has sent a protected record, which is early data then.
#[cfg(feature = "openssl")]
async fn path_for_early_data(target: SocketAddr) -> SocketAddr {
    let listener = TcpListener::bind(ANY).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let (mut client, _) = listener.accept().await.unwrap();
        let mut server = TcpStream::connect(target).await.unwrap();
        loop {
            let mut record = vec![0; 5];
            client.read_exact(&mut record).await.unwrap();
            record.resize(5 + usize::from(u16::from_be_bytes([record[3], record[4]])), 0);
            client.read_exact(&mut record[5..]).await.unwrap();
            server.write_all(&record).await.unwrap();
            if record[0] == 23 {
                break;
            }
        }
        copy_bidirectional(&mut client, &mut server).await
    });
    address
}

/// Runs `get` with OpenSSL and a session cache.
#[cfg(feature = "openssl")]
async fn get(directory: &Path, address: &str, options: &[&str]) -> std::process::Output {
    let mut line = get_line(directory, address, "file");
    let cache = directory.join("sessions");
    line.extend(["--tls", "openssl", "--session-cache", cache.to_str().unwrap()].map(str::to_owned));
    line.extend(options.iter().map(|word| (*word).to_owned()));
    soon(command(&[]).args(line).output()).await.unwrap()
}

#[cfg(feature = "openssl")]
#[tokio::test(flavor = "multi_thread")]
async fn later_run_sends_early_data_with_a_session_of_the_file() {
    for library in ["rustls", "openssl"] {
        let directory = Directory::new(&format!("session-cache-{library}"));
        let (_server, address) = Tcpls::serve(directory.path(), &["--early-data", "--tls", library]).await;
        std::fs::write(directory.path().join("root/file"), b"contents").unwrap();
        for run in 0..3 {
            // Without early data, nothing gets through after the first run.
            let path = match run {
                0 => address.parse().unwrap(),
                _ => path_for_early_data(address.parse().unwrap()).await,
            };
            let output = get(directory.path(), &path.to_string(), &["--early-data"]).await;
            assert!(output.status.success(), "{library} {run}: {}", String::from_utf8_lossy(&output.stderr));
            let file = directory.path().join("out/file");
            assert_eq!(std::fs::read(&file).unwrap(), b"contents");
            std::fs::remove_file(file).unwrap();
        }
    }
}

#[cfg(feature = "openssl")]
#[tokio::test(flavor = "multi_thread")]
async fn sessions_of_a_file_are_not_resumed_with_other_trust() {
    let directory = Directory::new("session-cache-trust");
    let (_server, address) = Tcpls::serve(directory.path(), &["--tls", "openssl"]).await;
    std::fs::write(directory.path().join("root/file"), b"contents").unwrap();
    let cache = directory.path().join("sessions");
    let insecure =
        ["get", "--connect", &address, "--insecure", "--tls", "openssl", "-O", "-", "https://localhost/file"];
    let line = [&insecure[..], &["--session-cache", cache.to_str().unwrap()]].concat();
    assert!(command(&line).output().await.unwrap().status.success());
    // The certificate is another server's.
    std::fs::write(directory.path().join("ca.pem"), identity().certificate_pem()).unwrap();
    let output = get(directory.path(), &address, &["--wait", "0s"]).await;
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && text.contains("certificate"), "{text}");
}

#[cfg(feature = "openssl")]
#[tokio::test]
async fn session_cache_needs_openssl_and_a_file_of_its_own() {
    let directory = Directory::new("session-cache-errors");
    let cache = directory.path().join("sessions");
    std::fs::write(&cache, b"something else").unwrap();
    let line = ["get", "--insecure", "--session-cache", cache.to_str().unwrap(), "https://localhost:1/file"];
    for options in [&["--tls", "openssl"][..], &[]] {
        let output = command(&[&line, options].concat()).output().await.unwrap();
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && text.contains("can't use the sessions"), "{text}");
        assert_eq!(std::fs::read(&cache).unwrap(), b"something else");
    }
    std::fs::remove_file(&cache).unwrap();
    let output = command(&line).output().await.unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && text.contains("--tls openssl"), "{text}");
}
