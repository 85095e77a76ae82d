//! Trust in a public key, on real sockets.

use std::sync::Arc;

use rustls::ServerConfig;
use rustls::crypto::ring::{default_provider, sign::any_supported_type};
use rustls::pki_types::PrivateKeyDer;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tcpls_core::crypto::rustls::RustlsServer;
use tcpls_harness::net::{ClientOptions, ConnectError, Listener, ServerOptions, Session};
use tcpls_harness::tls::{Pins, Trust};

use crate::library;
use crate::support::{ANY, PROTOCOL, Server, identity};

/// Connects to `listener`, whose name and address are in no certificate.
async fn connect(listener: &mut Listener, pins: Pins) -> Result<Session, ConnectError> {
    let tls = library::client(&Trust::Pinned(pins), PROTOCOL);
    let options = ClientOptions::new(tls, "another.example".try_into().unwrap());
    let addresses = listener.local_addresses().to_vec();
    tokio::select! {
        session = Session::connect(&addresses[..1], options) => session,
        () = async { loop { _ = listener.accept().await.closed().await; } } => unreachable!(),
    }
}

#[tokio::test]
async fn client_with_pins_connects_to_the_server_with_one_of_these_keys() {
    let mut server = Server::start();
    let (own, other) = (server.identity.pin().unwrap(), identity().pin().unwrap());
    for pins in [Pins::new(own), Pins::new(other).or(own)] {
        assert!(connect(&mut server.listener, pins).await.unwrap().is_tcpls());
    }
    let error = connect(&mut server.listener, Pins::new(other)).await.unwrap_err().to_string();
    assert!(error.contains(&format!("the server has another public key: {own}")), "{error}");
}

/// Presents a certificate whether or not the key is of it.
#[derive(Debug)]
struct Present(Arc<CertifiedKey>);

impl ResolvesServerCert for Present {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.clone())
    }
}

#[tokio::test]
async fn pinned_certificate_without_its_private_key_is_refused() {
    let (copied, key) = (identity(), rcgen::KeyPair::generate().unwrap());
    let key = any_supported_type(&PrivateKeyDer::Pkcs8(key.serialize_der().into())).unwrap();
    let presented = Present(Arc::new(CertifiedKey::new(copied.certificates().to_vec(), key)));
    let config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(presented));
    let options = ServerOptions::new(RustlsServer::new(Arc::new(config), &[PROTOCOL]).unwrap());
    let mut listener = Listener::bind(&[ANY], options).unwrap();
    let error = connect(&mut listener, Pins::new(copied.pin().unwrap())).await.unwrap_err().to_string();
    assert!(error.contains("BadSignature"), "{error}");
}
