//! Peers that do not support TCPLS: plain TLS 1.3 by rustls, as tokio-rustls drives it.

use std::sync::Arc;

use bytes::Bytes;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use tcpls_core::error::OpenStreamError;
use tcpls_core::wire::ids::{ErrorCode, StreamId};
use tcpls_harness::net::{AddTcpError, ClientOptions, Session, Stream};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::library;
use crate::support::{ANY, PROTOCOL, Server, pattern, read_all};

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// A plain server with a certificate of its own, and that certificate as PEM. Without a protocol it ignores ALPN.
pub(crate) fn plain_server(protocol: &[u8]) -> (TlsAcceptor, String) {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let key = rustls::pki_types::PrivateKeyDer::Pkcs8(made.signing_key.serialize_der().into());
    let mut config = rustls::ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    if !protocol.is_empty() {
        config.alpn_protocols = vec![protocol.to_vec()];
    }
    (TlsAcceptor::from(Arc::new(config)), made.cert.pem())
}

/// A plain client that trusts this certificate.
pub(crate) fn plain_client(pem: &str, protocol: &[u8]) -> TlsConnector {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(pem.as_bytes()).unwrap()).unwrap();
    let mut config = rustls::ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![protocol.to_vec()];
    TlsConnector::from(Arc::new(config))
}

#[tokio::test]
async fn our_client_falls_back_with_a_plain_server() {
    let (acceptor, pem) = plain_server(PROTOCOL);
    let listener = TcpListener::bind(ANY).await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = tokio::spawn(async move {
        let mut tls = acceptor.accept(listener.accept().await.unwrap().0).await.unwrap();
        let mut question = vec![0; 100_000];
        tls.read_exact(&mut question).await.unwrap();
        tls.write_all(&pattern(3 << 20)).await.unwrap();
        tls.shutdown().await.unwrap();
        question
    });
    let tls = library::client(&tcpls_harness::tls::Trust::Pem(pem), PROTOCOL);
    let options = ClientOptions::new(tls, "localhost".try_into().unwrap());
    let session = Session::connect(&[address], options).await.unwrap();
    assert!(!session.is_tcpls());
    assert_eq!(session.established().unwrap().application_protocol.as_deref(), Some(PROTOCOL));
    assert!(matches!(session.add_tcp(address, None).await, Err(AddTcpError::Tcp(..) | AddTcpError::Session(_))));
    let mut stream = session.open_stream().await.unwrap();
    assert_eq!(stream.id(), StreamId(0));
    assert!(matches!(session.open_stream().await, Err(OpenStreamError::Plain)));
    stream.write_chunk(pattern(100_000).into()).await.unwrap();
    assert_eq!(read_all(stream.recv()).await, pattern(3 << 20));
    assert_eq!(server.await.unwrap(), pattern(100_000));
    session.close(ErrorCode(0), b"").await;
}

#[tokio::test]
async fn our_server_falls_back_with_a_plain_client() {
    let mut server = Server::start();
    let connector = plain_client(server.identity.certificate_pem(), PROTOCOL);
    let address = server.addresses[0];
    let client = tokio::spawn(async move {
        let tcp = TcpStream::connect(address).await.unwrap();
        let mut tls = connector.connect("localhost".try_into().unwrap(), tcp).await.unwrap();
        assert_eq!(tls.get_ref().1.alpn_protocol(), Some(PROTOCOL));
        tls.write_all(&pattern(100_000)).await.unwrap();
        let mut answer = Vec::new();
        // rustls takes an end without close_notify for an error.
        tls.read_to_end(&mut answer).await.unwrap();
        answer
    });
    let session = server.listener.accept().await;
    assert!(!session.is_tcpls());
    let mut stream = session.accept_stream().await.unwrap();
    assert_eq!(stream.id(), StreamId(0));
    let mut question = vec![0; 100_000];
    stream.read_exact(&mut question).await.unwrap();
    assert_eq!(question, pattern(100_000));
    stream.write_chunk(Bytes::from(pattern(3 << 20))).await.unwrap();
    stream.finish().unwrap();
    assert_eq!(client.await.unwrap(), pattern(3 << 20));
    session.closed().await;
}

/// What a plain client has got, and how its reading ended, when the server ends the session as `end` does in the middle
/// of an answer.
async fn cut_short<F: Future<Output = ()>>(
    end: impl FnOnce(Session, Stream) -> F,
) -> (Vec<u8>, std::io::Result<usize>) {
    let mut server = Server::start();
    let connector = plain_client(server.identity.certificate_pem(), PROTOCOL);
    let tcp = TcpStream::connect(server.addresses[0]).await.unwrap();
    let connect = connector.connect("localhost".try_into().unwrap(), tcp);
    let (client, session) = tokio::join!(connect, server.listener.accept());
    let mut client = client.unwrap();
    client.write_all(b"GET /").await.unwrap();
    let mut stream = session.accept_stream().await.unwrap();
    stream.read_exact(&mut [0; 5]).await.unwrap();
    stream.write_chunk(pattern(1000).into()).await.unwrap();
    let mut answer = vec![0; 1000];
    client.read_exact(&mut answer).await.unwrap();
    end(session, stream).await;
    let ended = client.read_to_end(&mut answer).await;
    (answer, ended)
}

#[tokio::test]
async fn an_answer_that_is_cut_short_is_an_error_to_a_plain_client() {
    let closed = cut_short(|session, stream| async move {
        session.close(ErrorCode(1), b"interrupted").await;
        drop(stream);
    });
    let dropped = cut_short(|_session, stream| async move { drop(stream) });
    let all_dropped = cut_short(|session, stream| async move {
        drop(session);
        drop(stream);
    });
    let (closed, dropped, all_dropped) = tokio::join!(closed, dropped, all_dropped);
    for (answer, ended) in [closed, dropped, all_dropped] {
        assert_eq!(answer, pattern(1000));
        let error = ended.expect_err("it must not look complete");
        assert!(error.to_string().contains("InternalError"), "{error}");
    }
}
