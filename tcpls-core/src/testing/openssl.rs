//! The ends of [`Tls`] by OpenSSL, with the same certificates. Its clock and its randomness are the system's, so that the bytes
//! of a handshake differ from run to run.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use openssl::error::ErrorStack;
use openssl::pkey::{Id, PKey};
use openssl::ssl::{
    SslAcceptor, SslAcceptorBuilder, SslConnector, SslConnectorBuilder, SslContextBuilder, SslMethod, SslVerifyMode,
    SslVersion,
};
use openssl::x509::X509;
use openssl::x509::store::{X509Store, X509StoreBuilder};
use rustls::{CipherSuite, ProtocolVersion};

use super::tls::{CLIENT, ClientCertificate, Identity, SERVER, SERVER_NAME, STRANGER, Tls};
use crate::crypto::openssl::{OpensslClient, OpensslServer, SharedSessions};
use crate::crypto::{Handshake, TlsClient};

/// Clients by their configurations: each `SslConnector` reads the system's certificates, which takes longer than a handshake.
static CLIENTS: Mutex<BTreeMap<String, OpensslClient>> = Mutex::new(BTreeMap::new());

impl Tls {
    /// Returns the client's end by OpenSSL. Clients of one configuration share their `SslConnector`.
    pub fn openssl_client(&self) -> OpensslClient {
        let build = || {
            let connector = self.connector().expect("a valid configuration");
            OpensslClient::new(connector, &self.client_protocols).expect("valid protocol names")
        };
        let mut clients = CLIENTS.lock().unwrap_or_else(PoisonError::into_inner);
        clients.entry(format!("{self:?}")).or_insert_with(build).clone()
    }

    /// Returns the server's end by OpenSSL.
    pub fn openssl_server(&self) -> OpensslServer {
        let acceptor = self.acceptor().expect("a valid configuration");
        let server = OpensslServer::new(acceptor, &self.server_protocols).expect("valid protocol names");
        if self.early_server { server.with_early_data().expect("OpenSSL keeps sessions") } else { server }
    }

    /// The same, with sessions in a store that servers share.
    pub fn openssl_server_sharing(&self, store: Arc<dyn SharedSessions>) -> OpensslServer {
        let acceptor = self.acceptor().expect("a valid configuration");
        let server = OpensslServer::with_shared_sessions(acceptor, &self.server_protocols, store);
        let server = server.expect("valid protocol names");
        if self.early_server {
            server.with_early_data().expect("the store gives out each session once")
        } else {
            server
        }
    }

    fn connector(&self) -> Result<SslConnectorBuilder, ErrorStack> {
        let mut connector = SslConnector::builder(SslMethod::tls())?;
        connector.set_cert_store(if self.trusted { SERVER.store()? } else { CLIENT.store()? });
        self.limit(&mut connector)?;
        connector.set_groups_list(if self.retry { "X25519:P-256" } else { "X25519" })?;
        if let Some(certificate) = self.client_certificate {
            let identity = if certificate == ClientCertificate::Trusted { &CLIENT } else { &STRANGER };
            identity.present(&mut connector, self.client_chain)?;
        }
        Ok(connector)
    }

    fn acceptor(&self) -> Result<SslAcceptorBuilder, ErrorStack> {
        let mut acceptor = SslAcceptor::mozilla_intermediate_v5(SslMethod::tls())?;
        self.limit(&mut acceptor)?;
        acceptor.set_groups_list(if self.retry { "P-256" } else { "X25519" })?;
        SERVER.present(&mut acceptor, self.server_chain)?;
        acceptor.set_num_tickets(self.tickets)?;
        if self.client_auth {
            acceptor.set_verify(SslVerifyMode::PEER | SslVerifyMode::FAIL_IF_NO_PEER_CERT);
            acceptor.set_cert_store(CLIENT.store()?);
        }
        Ok(acceptor)
    }

    fn limit(&self, context: &mut SslContextBuilder) -> Result<(), ErrorStack> {
        let name = |suite: &CipherSuite| match suite {
            CipherSuite::TLS13_AES_128_GCM_SHA256 => "TLS_AES_128_GCM_SHA256",
            CipherSuite::TLS13_AES_256_GCM_SHA384 => "TLS_AES_256_GCM_SHA384",
            _ => "TLS_CHACHA20_POLY1305_SHA256",
        };
        context.set_ciphersuites(&self.suites.iter().map(name).collect::<Vec<_>>().join(":"))?;
        if self.versions.iter().all(|version| version.version != ProtocolVersion::TLSv1_3) {
            context.set_max_proto_version(Some(SslVersion::TLS1_2))?;
        }
        Ok(())
    }
}

impl Identity {
    fn certificate(&self) -> Result<X509, ErrorStack> {
        X509::from_der(self.certificate)
    }

    fn store(&self) -> Result<X509Store, ErrorStack> {
        let mut store = X509StoreBuilder::new()?;
        store.add_cert(self.certificate()?)?;
        Ok(store.build())
    }

    fn present(&self, context: &mut SslContextBuilder, chain: usize) -> Result<(), ErrorStack> {
        context.set_certificate(&*self.certificate()?)?;
        for _ in 1..chain {
            context.add_extra_chain_cert(self.certificate()?)?;
        }
        context.set_private_key(&*PKey::private_key_from_raw_bytes(&[self.secret; 32], Id::ED25519)?)
    }
}

/// Starts a handshake of `tls` with the server of this module.
pub fn start_client(tls: &OpensslClient) -> Box<dyn Handshake> {
    tls.handshake(SERVER_NAME).expect("a valid configuration")
}
