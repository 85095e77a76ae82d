//! Sessions over sockets between OpenSSL and rustls, either way round, and the command with `--tls`.

use std::sync::Arc;

use tcpls_core::crypto::{TlsClient, TlsServer};
use tcpls_core::error::{CloseReason, HandshakeErrorKind as Kind, code};
use tcpls_core::wire::ids::ConnectionId;
use tcpls_harness::dial::Keep;
use tcpls_harness::net::{ClientOptions, ConnectError, Listener, PathFault, ServerOptions, Session};
use tcpls_harness::tls::{Identity, Pins, Trust};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::{ANY, Directory, PROTOCOL, identity, pattern, trust};

const LEN: usize = 300_000;

fn options(tls: impl TlsClient + 'static) -> ClientOptions {
    let mut options = ClientOptions::new(tls, "localhost".try_into().unwrap());
    options.dial.keep = Keep::Session;
    options
}

/// A session in which a second TCP connection joins, and remains when the first is retired.
async fn use_a_session(server: Arc<dyn TlsServer>, client: Arc<dyn TlsClient>) {
    let mut listener = Listener::bind(&[ANY, ANY], ServerOptions::new(server)).unwrap();
    let addresses = listener.local_addresses().to_vec();
    let (client, server) = tokio::join!(Session::connect(&addresses[..1], options(client)), listener.accept());
    let client = client.unwrap();
    for session in [&client, &server] {
        let established = session.established().unwrap();
        assert!(established.tcpls && !established.draft_only);
        assert_eq!(established.application_protocol.as_deref(), Some(PROTOCOL));
    }
    client.add_tcp(addresses[1], None).await.unwrap();
    client.retire_tcp(ConnectionId::FIRST).unwrap();
    for (from, to) in [(&client, &server), (&server, &client)] {
        let mut stream = from.open_stream().await.unwrap();
        let mut received = Vec::new();
        let (sent, read) = tokio::join!(
            async {
                stream.write_all(&pattern(LEN)).await?;
                stream.finish().map_err(std::io::Error::other)
            },
            async { to.accept_stream().await.unwrap().read_to_end(&mut received).await }
        );
        sent.unwrap();
        read.unwrap();
        assert!(received == pattern(LEN), "{} bytes", received.len());
    }
    client.close(code::NO_ERROR, b"").await;
    server.closed().await;
}

fn servers(identity: &Identity) -> [Arc<dyn TlsServer>; 2] {
    [Arc::new(identity.server(&[PROTOCOL]).unwrap()), Arc::new(identity.openssl_server_for(&[PROTOCOL], None).unwrap())]
}

#[tokio::test]
async fn openssl_and_rustls_have_sessions_with_each_other_over_sockets() {
    let identity = identity();
    let rustls: Arc<dyn TlsClient> = Arc::new(trust(&identity).client(&[PROTOCOL]).unwrap());
    let openssl = trust(&identity).openssl_client_as(&[PROTOCOL], None).unwrap();
    for server in servers(&identity) {
        use_a_session(server.clone(), rustls.clone()).await;
        use_a_session(server, Arc::new(openssl.clone())).await;
    }
    let [_, server] = servers(&identity);
    use_a_session(server, Arc::new(openssl.by_extensions().tcpls_only())).await;
}

async fn connect(tls: impl TlsClient + 'static, server: Arc<dyn TlsServer>) -> Result<(), Kind> {
    let mut listener = Listener::bind(&[ANY], ServerOptions::new(server)).unwrap();
    let addresses = listener.local_addresses().to_vec();
    let connected = tokio::select! {
        session = Session::connect(&addresses, options(tls)) => session.map(drop),
        () = async { loop { _ = listener.accept().await.closed().await; } } => unreachable!(),
    };
    connected.map_err(|error| match error {
        ConnectError::Paths(failures) => match &failures[0].fault {
            PathFault::Handshake(CloseReason::Handshake(error)) => error.kind(),
            fault => panic!("{fault:?}"),
        },
        error => panic!("{error}"),
    })
}

#[tokio::test]
async fn openssl_has_the_trust_that_rustls_has() {
    let (own, other) = (identity(), identity());
    let pins = |identity: &Identity| Pins::new(identity.pin().unwrap());
    let cases = [
        (trust(&own), Ok(())),
        (trust(&other), Err(Kind::UnknownIssuer)),
        (Trust::Pinned(pins(&own)), Ok(())),
        (Trust::Pinned(pins(&other).or(own.pin().unwrap())), Ok(())),
        (Trust::Pinned(pins(&other)), Err(Kind::BadCertificate)),
        (Trust::Anyone, Ok(())),
        (Trust::System, Err(Kind::UnknownIssuer)),
    ];
    for (trust, expected) in cases {
        for server in servers(&own) {
            let client = trust.openssl_client_as(&[PROTOCOL], None).unwrap();
            assert_eq!(connect(client, server).await, expected, "{trust:?}");
        }
    }
}

#[tokio::test]
async fn pins_that_openssl_misses_are_named_with_the_key_that_the_server_has() {
    let (own, other) = (identity(), identity());
    let client = Trust::Pinned(Pins::new(other.pin().unwrap())).openssl_client_as(&[PROTOCOL], None).unwrap();
    let [_, server] = servers(&own);
    let mut listener = Listener::bind(&[ANY], ServerOptions::new(server)).unwrap();
    let addresses = listener.local_addresses().to_vec();
    let error = tokio::select! {
        session = Session::connect(&addresses, options(client)) => session.unwrap_err().to_string(),
        () = async { loop { _ = listener.accept().await.closed().await; } } => unreachable!(),
    };
    assert!(error.contains(&format!("the server has another public key: {}", own.pin().unwrap())), "{error}");
}

#[tokio::test]
async fn openssl_server_requires_client_certificates_if_asked_to() {
    let (own, client) = (identity(), identity());
    let directory = Directory::new("openssl-clients");
    let path = directory.path().join("clients.pem");
    std::fs::write(&path, client.certificate_pem()).unwrap();
    let server: Arc<dyn TlsServer> = Arc::new(own.openssl_server_for(&[PROTOCOL], Some(&path)).unwrap());
    let tls = |identity| trust(&own).openssl_client_as(&[PROTOCOL], identity).unwrap();
    assert_eq!(connect(tls(Some(&client)), server.clone()).await, Ok(()));
    assert!(matches!(connect(tls(None), server.clone()).await, Err(Kind::PeerAlert(_))));
    assert!(matches!(connect(tls(Some(&own)), server).await, Err(Kind::PeerAlert(_))));
}
