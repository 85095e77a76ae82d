//! Sessions over sockets with a provider of TLS handshakes from outside the crates: the one that `tcpls-core` tests its seam with.
//! `net` knows it as [`TlsClient`] and [`TlsServer`], as it knows the provider for rustls.

#[path = "../../../tcpls-core/tests/it/second_provider/keys.rs"]
mod keys;
#[path = "../../../tcpls-core/tests/it/second_provider/provider.rs"]
mod provider;

use std::sync::Arc;

use rustls::crypto::ring::default_provider;
use rustls::pki_types::PrivateKeyDer;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tcpls_core::HandshakeError;
use tcpls_core::crypto::{Handshake, TlsClient, TlsServer, alpn};
use tcpls_core::error::{CloseReason, HandshakeErrorKind, code};
use tcpls_core::wire::ids::ConnectionId;
use tcpls_harness::dial::Keep;
use tcpls_harness::net::{ClientOptions, ConnectError, HandshakeFault, Listener, ServerOptions, Session};
use tcpls_harness::tls::Trust;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use self::provider::Buffered;
use crate::plain::plain_client;
use crate::support::{ANY, PROTOCOL, Server, pattern, read_all};

const LEN: usize = 300_000;

/// The second provider, as a client has it.
#[derive(Debug)]
struct SecondClient(ClientConfig);

impl TlsClient for SecondClient {
    fn handshake(&self, server_name: &str) -> Result<Box<dyn Handshake>, HandshakeError> {
        Ok(Box::new(Buffered::client(&self.0, server_name)))
    }
}

/// The second provider, as a server has it.
#[derive(Debug)]
struct SecondServer(ServerConfig);

impl TlsServer for SecondServer {
    fn handshake(&self) -> Result<Box<dyn Handshake>, HandshakeError> {
        Ok(Box::new(Buffered::server(&self.0, false)))
    }
}

/// A server and a client of the second provider, and the server's certificate as PEM.
fn second() -> (SecondServer, SecondClient, String) {
    second_with(alpn::names(&[PROTOCOL]).unwrap())
}

/// The same with these ALPN names.
fn second_with(protocols: Vec<Vec<u8>>) -> (SecondServer, SecondClient, String) {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let key = PrivateKeyDer::Pkcs8(made.signing_key.serialize_der().into());
    let provider = Arc::new(default_provider());
    let server = ServerConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions().unwrap();
    let mut server = server.with_no_client_auth().with_single_cert(vec![made.cert.der().clone()], key).unwrap();
    server.alpn_protocols.clone_from(&protocols);
    let mut roots = RootCertStore::empty();
    roots.add(made.cert.der().clone()).unwrap();
    let client = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let mut client = client.with_root_certificates(roots).with_no_client_auth();
    client.alpn_protocols = protocols;
    (SecondServer(server), SecondClient(client), made.cert.pem())
}

fn options(tls: impl TlsClient + 'static) -> ClientOptions {
    let mut options = ClientOptions::new(tls, "localhost".try_into().unwrap());
    options.dial.keep = Keep::Session;
    options
}

/// Sends bytes over a new stream of one end, and reads them at the other.
async fn transfer(from: &Session, to: &Session) {
    let (sent, received) = tokio::join!(
        async {
            let mut stream = from.open_stream().await.unwrap();
            stream.write_all(&pattern(LEN)).await.unwrap();
            stream.finish().unwrap();
            stream
        },
        async { read_all(to.accept_stream().await.unwrap().recv()).await }
    );
    assert!(received == pattern(LEN), "{} bytes", received.len());
    drop(sent);
}

/// A session in which a second TCP connection joins, and remains when the first is retired.
async fn use_a_session(listener: &mut Listener, options: ClientOptions) {
    let addresses = listener.local_addresses().to_vec();
    let (client, server) = tokio::join!(Session::connect(&addresses[..1], options), listener.accept());
    let client = client.unwrap();
    for session in [&client, &server] {
        assert!(session.is_tcpls());
        let established = session.established().unwrap();
        assert_eq!(established.application_protocol.as_deref(), Some(PROTOCOL));
    }
    transfer(&client, &server).await;
    let second = client.add_tcp(addresses[1], None).await.unwrap();
    assert_ne!(second, ConnectionId::FIRST);
    client.retire_tcp(ConnectionId::FIRST).unwrap();
    transfer(&server, &client).await;
    transfer(&client, &server).await;
    client.close(code::NO_ERROR, b"").await;
    server.closed().await;
}

#[tokio::test]
async fn sessions_of_a_second_provider_join_over_sockets() {
    let (server, client, pem) = second();
    let client = Arc::new(client);
    let mut listener = Listener::bind(&[ANY, ANY], ServerOptions::new(server)).unwrap();
    use_a_session(&mut listener, options(client.clone())).await;
    use_a_session(&mut listener, options(Trust::Pem(pem).client(&[PROTOCOL]).unwrap())).await;
}

#[tokio::test]
async fn a_listener_changes_its_provider_while_it_runs() {
    let mut server = Server::start();
    let own = server.options();
    use_a_session(&mut server.listener, own).await;
    let (second, client, _) = second();
    server.listener.set_tls(second);
    use_a_session(&mut server.listener, options(client)).await;
}

#[tokio::test]
async fn a_second_provider_falls_back_to_plain_tls() {
    let (server, _, pem) = second();
    let mut listener = Listener::bind(&[ANY], ServerOptions::new(server)).unwrap();
    let tcp = TcpStream::connect(listener.local_addresses()[0]).await.unwrap();
    let connector = plain_client(&pem, PROTOCOL);
    let (plain, session) = tokio::join!(connector.connect("localhost".try_into().unwrap(), tcp), listener.accept());
    let mut plain = plain.unwrap();
    assert!(!session.is_tcpls());
    plain.write_all(b"question").await.unwrap();
    let mut stream = session.accept_stream().await.unwrap();
    stream.read_exact(&mut [0; 8]).await.unwrap();
    stream.write_all(b"answer").await.unwrap();
    plain.read_exact(&mut [0; 6]).await.unwrap();

    let (server, client, _) = second_with(vec![PROTOCOL.to_vec()]); // neither end knows TCPLS
    let mut listener = Listener::bind(&[ANY], ServerOptions::new(server)).unwrap();
    let addresses = listener.local_addresses().to_vec();
    let (client, server) = tokio::join!(Session::connect(&addresses, options(client)), listener.accept());
    let client = client.unwrap();
    assert!(!client.is_tcpls() && !server.is_tcpls());
    let mut stream = client.open_stream().await.unwrap();
    stream.write_all(b"question").await.unwrap();
    server.accept_stream().await.unwrap().read_exact(&mut [0; 8]).await.unwrap();
}

/// A library that can start no handshake.
#[derive(Debug)]
struct Broken;

fn broken() -> HandshakeError {
    HandshakeError::new(HandshakeErrorKind::Configuration, "the key is missing")
}

impl TlsClient for Broken {
    fn handshake(&self, _server_name: &str) -> Result<Box<dyn Handshake>, HandshakeError> {
        Err(broken())
    }
}

impl TlsServer for Broken {
    fn handshake(&self) -> Result<Box<dyn Handshake>, HandshakeError> {
        Err(broken())
    }
}

#[tokio::test]
async fn a_provider_that_can_start_no_handshake_is_reported_at_both_ends() {
    let server = Server::start();
    server.listener.set_tls(Broken);
    let mut failures = server.listener.handshake_failures();
    let error = Session::connect(&server.addresses[..1], options(Broken)).await.unwrap_err();
    assert!(matches!(&error, ConnectError::Tls(error) if *error == broken()), "{error}");
    Session::connect(&server.addresses[..1], server.options()).await.unwrap_err();
    loop {
        // The TCP connection of the client that could send no ClientHello is the other one.
        match failures.next().await.unwrap().fault {
            HandshakeFault::Ended { received: 0 } => {}
            fault => return assert_eq!(fault, HandshakeFault::Session(CloseReason::Handshake(broken()))),
        }
    }
}
