//! Clients that get no session, on real sockets, and the reasons that they get.

use std::net::SocketAddr;
use std::sync::Arc;

use clap::Parser;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::server::WebPkiClientVerifier;
use tcpls_core::crypto::rustls::{RustlsClient, RustlsServer};
use tcpls_core::error::{CloseReason, JoinRefusal};
use tcpls_harness::cli::get;
use tcpls_harness::files;
use tcpls_harness::net::{ConnectError, HandshakeFault, Listener, PathFault, ServerOptions, Session};
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};

use crate::plain::plain_server;
use crate::support::{ANY, Directory, PROTOCOL, Server};

/// Forwards one TCP connection to `target`; returns what its client sent first.
pub(crate) async fn overhear(target: SocketAddr) -> (SocketAddr, tokio::task::JoinHandle<Vec<u8>>) {
    let listener = TcpListener::bind(ANY).await.unwrap();
    let address = listener.local_addr().unwrap();
    let overheard = tokio::spawn(async move {
        let (mut client, _) = listener.accept().await.unwrap();
        let mut server = TcpStream::connect(target).await.unwrap();
        let mut first = Vec::with_capacity(16 * 1024);
        client.read_buf(&mut first).await.unwrap();
        server.write_all(&first).await.unwrap();
        tokio::spawn(async move { copy_bidirectional(&mut client, &mut server).await });
        first
    });
    (address, overheard)
}

#[tokio::test]
async fn listener_reports_why_a_join_is_refused() {
    let mut server = Server::start().with_joins_of_the_draft();
    let (client, session) = server.pair(server.addresses[0]).await;
    let mut failures = server.listener.handshake_failures();
    let (path, overheard) = overhear(server.addresses[1]).await;
    client.add_tcp(path, None).await.unwrap();
    let hello = overheard.await.unwrap();
    // The token is used up, then its session is over.
    let mut again = TcpStream::connect(server.addresses[0]).await.unwrap();
    again.write_all(&hello).await.unwrap();
    let failure = failures.next().await.unwrap();
    assert_eq!(failure.client, again.local_addr().unwrap());
    assert_eq!(failure.fault, HandshakeFault::Join(JoinRefusal::Token));
    assert!(failure.fault.is_of_join(), "{failure}");
    assert_eq!(failure.session, Some(session.monitor()));
    client.close(Default::default(), b"").await;
    session.closed().await;
    drop(session);
    loop {
        let mut late = TcpStream::connect(server.addresses[0]).await.unwrap();
        late.write_all(&hello).await.unwrap();
        match failures.next().await.unwrap().fault {
            HandshakeFault::NoSession => break,
            HandshakeFault::Join(JoinRefusal::Closing | JoinRefusal::Token) => {} // its task still runs
            other => panic!("{other}"),
        }
    }
}

#[tokio::test]
async fn replayed_join_that_is_a_tls_resumption_gets_a_full_handshake() {
    let mut server = Server::start();
    let options = server.options();
    let addresses = [server.addresses[0]];
    let (client, session) = tokio::join!(Session::connect(&addresses, options), server.listener.accept());
    let client = client.unwrap();
    // The server's tickets are in front of its answer.
    let mut asked = client.open_stream().await.unwrap();
    asked.write_all(b"?").await.unwrap();
    let mut answered = session.accept_stream().await.unwrap();
    answered.write_all(b"!").await.unwrap();
    asked.read_exact(&mut [0]).await.unwrap();
    let (path, overheard) = overhear(server.addresses[1]).await;
    client.add_tcp(path, None).await.unwrap();
    let hello = overheard.await.unwrap();
    assert!(!hello.windows(4).any(|bytes| bytes == [0xff, 0x61, 0, 32]), "it has no extension of TCPLS");
    let mut again = TcpStream::connect(server.addresses[0]).await.unwrap();
    again.write_all(&hello).await.unwrap();
    let mut flight = vec![0; 700];
    again.read_exact(&mut flight).await.unwrap();
    assert_eq!(flight[..3], [22, 3, 3], "a ServerHello, and behind it a certificate");
    drop((answered, client, session));
}

#[derive(Parser)]
struct GetLine {
    #[command(flatten)]
    args: get::Args,
}

/// A plain TLS server that selects `protocol`, or none if it is empty, and answers whatever comes as HTTP would.
async fn answers_http(protocol: &[u8]) -> (SocketAddr, String) {
    let (acceptor, pem) = plain_server(protocol);
    let listener = TcpListener::bind(ANY).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            let Ok(mut tls) = acceptor.accept(tcp).await else { continue };
            _ = tls.write_all(b"HTTP/1.0 200 ok\r\n\r\n").await;
            _ = tls.shutdown().await;
            _ = tls.read_to_end(&mut Vec::new()).await;
        }
    });
    (address, pem)
}

/// What `get` says of the file at `address`; it leaves none behind.
async fn get_fails(name: &str, (address, pem): (SocketAddr, String), more: &[&str]) -> String {
    let directory = Directory::new(name);
    let (ca, out) = (directory.path().join("ca.pem"), directory.path().join("out"));
    std::fs::write(&ca, pem).unwrap();
    let address = address.to_string();
    let files = ["--connect", &address, "--ca", ca.to_str().unwrap(), "-o", out.to_str().unwrap()];
    let line = [&["get"][..], &files, more, &["https://localhost/file"]].concat();
    let fetched = get::fetch(&GetLine::parse_from(line).args, std::future::pending()).await;
    assert_eq!(std::fs::read_dir(&out).map_or(0, Iterator::count), 0, "a file was left behind");
    fetched.unwrap_err().to_string()
}

#[tokio::test]
async fn get_believes_no_server_that_selects_no_application_protocol() {
    let error = get_fails("no-alpn", answers_http(b"").await, &[]).await;
    assert!(error.contains("the server agreed on no application protocol"), "{error}");
    assert!(error.contains("a proxy in front of it terminates TLS"), "{error}");
}

#[tokio::test]
async fn get_with_tcpls_only_takes_no_file_over_plain_tls() {
    let error = get_fails("tcpls-only", answers_http(files::PROTOCOL).await, &["--tcpls-only"]).await;
    assert!(error.contains("alert 120 (no_application_protocol)"), "{error}");
    let error = get_fails("tcpls-only-no-alpn", answers_http(b"").await, &["--tcpls-only"]).await;
    assert!(error.contains("does not support TCPLS"), "{error}");
}

#[tokio::test]
async fn connect_fails_if_the_server_refuses_the_client_certificate() {
    let server = Server::start();
    let certificate = CertificateDer::from_pem_slice(server.identity.certificate_pem().as_bytes()).unwrap();
    let mut roots = rustls::RootCertStore::empty();
    roots.add(certificate).unwrap();
    let roots = Arc::new(roots);
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(roots.clone(), provider.clone()).build().unwrap();
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let key = || rustls::pki_types::PrivateKeyDer::Pkcs8(made.signing_key.serialize_der().into());
    let config = rustls::ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(verifier)
        .with_single_cert(vec![made.cert.der().clone()], key())
        .unwrap();
    let tls = RustlsServer::new(Arc::new(config), &[PROTOCOL]).unwrap();
    let listener = Listener::bind(&[ANY], ServerOptions::new(tls)).unwrap();

    let mut trusted = rustls::RootCertStore::empty();
    trusted.add(made.cert.der().clone()).unwrap();
    let builder = || {
        rustls::ClientConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(trusted.clone())
    };
    let chain = |len| vec![made.cert.der().clone(); len];
    // Compressed, a chain of the same certificates is short.
    let uncompressed = |mut config: rustls::ClientConfig| {
        config.cert_compressors = Vec::new();
        config
    };
    for (config, cause) in [
        (builder().with_no_client_auth(), "alert 116 (certificate_required): it requires a client certificate"),
        (builder().with_client_auth_cert(chain(1), key()).unwrap(), "certificate"),
        (uncompressed(builder().with_client_auth_cert(chain(300), key()).unwrap()), "chain exceeds the 64 KiB"),
    ] {
        let mut options = server.options();
        options.tls = Arc::new(RustlsClient::new(Arc::new(config), &[PROTOCOL]).unwrap());
        let Err(ConnectError::Paths(failures)) = Session::connect(listener.local_addresses(), options).await else {
            panic!("{cause}: a session");
        };
        let PathFault::Handshake(CloseReason::Handshake(error)) = &failures[0].fault else {
            panic!("{cause}: {failures:?}");
        };
        assert!(error.to_string().contains(cause), "{error}");
    }
}
