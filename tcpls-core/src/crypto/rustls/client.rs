//! The client's side of the rustls provider: completes a `ClientConfig` and starts handshakes from it.

use std::sync::Arc;

use rustls::client::{ClientConnectionData, UnbufferedClientConnection};
use rustls::pki_types::ServerName;
use rustls::unbuffered::UnbufferedStatus;
use rustls::{ClientConfig, CommonState, quic};

use super::allows_tls13;
use super::driver::{Driver, Tls};
use super::errors::misconfigured;
use super::secrets::{Extracted, extracted};
use crate::crypto::alpn::is_tcpls;
use crate::crypto::{Handshake, Offer, TlsClient, alpn};
use crate::error::HandshakeError;

/// Starts a client's handshakes, with the certificates, suites, resumption and key log of the user's rustls
/// configuration.
#[derive(Clone, Debug)]
pub struct RustlsClient {
    config: Arc<ClientConfig>,
    offer: Offer,
}

impl RustlsClient {
    /// Completes a copy of `config`. `application_protocols`, most wanted first, are offered over TCPLS and, after that,
    /// over plain TLS; if there are none, the `alpn_protocols` of `config` take their place. A server that selects none of
    /// them ends the session with [`CloseReason::NoApplicationProtocol`].
    ///
    /// It disables TLS 1.3 early data: a session has no keys before the handshake has.
    ///
    /// # Errors
    /// `config` does not allow TLS 1.3, or a protocol's name is empty, longer than 249 bytes, or one of TCPLS.
    ///
    /// [`CloseReason::NoApplicationProtocol`]: crate::error::CloseReason::NoApplicationProtocol
    pub fn new(config: Arc<ClientConfig>, application_protocols: &[&[u8]]) -> Result<Self, HandshakeError> {
        let mut config = Arc::unwrap_or_clone(config);
        config.alpn_protocols = match application_protocols {
            [] => alpn::names(&config.alpn_protocols)?,
            given => alpn::names(given)?,
        };
        config.enable_secret_extraction = true;
        config.enable_early_data = false;
        let config = Arc::new(config);
        if !allows_tls13(config.crypto_provider(), || is_good_for_quic(&config)) {
            return Err(misconfigured("the TLS configuration does not allow TLS 1.3"));
        }
        let offer =
            if config.alpn_protocols.iter().all(|name| is_tcpls(name)) { Offer::Anything } else { Offer::Protocols };
        Ok(Self { config, offer })
    }

    /// Like `new`, for TCPLS only: a server that does not support it ends the session with [`CloseReason::NoTcpls`] or
    /// with an alert of its own.
    ///
    /// [`CloseReason::NoTcpls`]: crate::error::CloseReason::NoTcpls
    #[must_use]
    pub fn tcpls_only(&self) -> Self {
        let mut config = ClientConfig::clone(&self.config);
        config.alpn_protocols.retain(|name| is_tcpls(name));
        Self { config: Arc::new(config), offer: Offer::Tcpls }
    }

    /// Returns a copy without TCPLS, which offers only the plain names. It is for applications that decide to use plain
    /// TLS on paths that block TCPLS. The library never decides this, because an attacker that can reset a TCP
    /// connection could force it.
    ///
    /// # Errors
    /// There is no application protocol to offer.
    pub fn without_tcpls(&self) -> Result<Self, HandshakeError> {
        let mut config = ClientConfig::clone(&self.config);
        config.alpn_protocols.retain(|name| !is_tcpls(name));
        if config.alpn_protocols.is_empty() {
            return Err(misconfigured("there is no application protocol to offer without TCPLS"));
        }
        Ok(Self { config: Arc::new(config), offer: Offer::Protocols })
    }

    /// Starts a handshake with the server called `server_name`.
    ///
    /// # Errors
    /// The error of rustls, if the configuration is invalid.
    pub fn handshake(&self, server_name: ServerName<'static>) -> Result<Box<dyn Handshake>, HandshakeError> {
        let shown = if self.config.enable_sni { dns_name(&server_name) } else { None };
        let tls = UnbufferedClientConnection::new(self.config.clone(), server_name)?;
        Ok(Box::new(Driver::start(ClientTls { tls, server_name: shown, offer: self.offer })?))
    }
}

impl TlsClient for RustlsClient {
    fn handshake(&self, server_name: &str) -> Result<Box<dyn Handshake>, HandshakeError> {
        let name = ServerName::try_from(server_name.to_owned())
            .map_err(|_| misconfigured("the server's name is neither a DNS name nor an IP address"))?;
        Self::handshake(self, name)
    }
}

/// The name cannot belong to a server (RFC 2606), so that no stored session is used up.
fn is_good_for_quic(config: &Arc<ClientConfig>) -> bool {
    let name = ServerName::try_from("tcpls.invalid").expect("it is a DNS name");
    quic::ClientConnection::new(config.clone(), quic::Version::V1, name, Vec::new()).is_ok()
}

/// The name as it goes into the ClientHello, which is never an IP address.
fn dns_name(name: &ServerName<'_>) -> Option<String> {
    match name {
        ServerName::DnsName(name) => Some(name.as_ref().to_owned()),
        _ => None,
    }
}

struct ClientTls {
    tls: UnbufferedClientConnection,
    server_name: Option<String>,
    offer: Offer,
}

impl Tls for ClientTls {
    type Data = ClientConnectionData;

    fn process<'c, 'i>(&'c mut self, incoming: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, ClientConnectionData> {
        self.tls.process_tls_records(incoming)
    }

    fn common(&self) -> &CommonState {
        &self.tls
    }

    fn server_name(&self) -> Option<String> {
        self.server_name.clone()
    }

    fn offer(&self) -> Offer {
        self.offer
    }

    fn extract(self) -> Result<Extracted, HandshakeError> {
        let (secrets, kernel) = self.tls.dangerous_into_kernel_connection()?;
        extracted(secrets, kernel)
    }
}
