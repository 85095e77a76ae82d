//! The client's side of the rustls provider: completes a `ClientConfig` and starts handshakes from it.

use std::sync::Arc;

use rustls::client::{ClientConnectionData, ClientSessionStore, Resumption, UnbufferedClientConnection};
use rustls::pki_types::ServerName;
use rustls::unbuffered::{TransmitTlsData, UnbufferedStatus};
use rustls::{ClientConfig, CommonState, quic};

use super::allows_tls13;
use super::driver::{Driver, Tls};
use super::early::{EarlyTickets, SessionTickets};
use super::errors::misconfigured;
use super::joins::{ClientJoins, JoinTickets};
use super::secrets::{ClientSchedule, Extracted, extracted, ticket_ages};
use crate::crypto::alpn::is_tcpls;
use crate::crypto::{Handshake, Offer, TlsClient, alpn};
use crate::error::HandshakeError;

/// Starts a client's handshakes, with the certificates, suites, resumption and key log of the user's rustls
/// configuration.
#[derive(Clone, Debug)]
pub struct RustlsClient {
    config: Arc<ClientConfig>,
    offer: Offer,
    early: Option<Arc<EarlyTickets>>,
    /// Keeps the tickets of sessions whose joins are resumptions.
    joins: Option<Arc<dyn ClientSessionStore>>,
}

impl RustlsClient {
    /// Completes a copy of `config`. `application_protocols`, most wanted first, are offered over TCPLS and, after that,
    /// over plain TLS; if there are none, the `alpn_protocols` of `config` take their place. A server that selects none of
    /// them ends the session with [`CloseReason::NoApplicationProtocol`].
    ///
    /// It disables TLS 1.3 early data: see [`RustlsClient::with_early_data`]. Joins have the draft's form: see
    /// [`RustlsClient::with_resumed_joins`].
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
        Ok(Self { config, offer, early: None, joins: None })
    }

    /// Returns a copy that resumes sessions with `tickets` instead of those of the user's configuration, and with which
    /// streams can be opened and written before the handshake is complete: early data, in the same flight as the
    /// ClientHello. [`Connection::early_data`](crate::Connection::early_data) says how much can be sent.
    ///
    /// An attacker can send a copy of early data to the server, which rejects it as far as its tickets work once: send
    /// only requests that may be repeated. Early data has no forward secrecy: if the server's store of sessions is
    /// stolen, it can be read.
    #[must_use]
    pub fn with_early_data(&self, tickets: Arc<EarlyTickets>) -> Self {
        Self { early: Some(tickets), ..self.clone() }
    }

    /// Returns a copy whose sessions join TCP connections by TLS resumptions, if the server takes part: rustls writes their
    /// hellos, and without keys they cannot be told from those of a client that resumes a session. Until the server's
    /// first ticket has arrived, or without one, a join has the draft's form.
    ///
    /// `store` keeps the tickets for later sessions, in place of the store in the configuration, which rustls does not show:
    /// [`ClientSessionMemoryCache`], for example.
    ///
    /// [`ClientSessionMemoryCache`]: rustls::client::ClientSessionMemoryCache
    #[must_use]
    pub fn with_resumed_joins(&self, store: Arc<dyn ClientSessionStore>) -> Self {
        Self { joins: Some(store), ..self.clone() }
    }

    /// Returns a copy that joins in the draft's form alone, and keeps tickets in the store of the configuration.
    #[must_use]
    pub fn without_resumed_joins(&self) -> Self {
        Self { joins: None, ..self.clone() }
    }

    /// Like `new`, for TCPLS only: a server that does not support it ends the session with [`CloseReason::NoTcpls`] or
    /// with an alert of its own.
    ///
    /// [`CloseReason::NoTcpls`]: crate::error::CloseReason::NoTcpls
    #[must_use]
    pub fn tcpls_only(&self) -> Self {
        let mut config = ClientConfig::clone(&self.config);
        config.alpn_protocols.retain(|name| is_tcpls(name));
        Self { config: Arc::new(config), offer: Offer::Tcpls, early: self.early.clone(), joins: self.joins.clone() }
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
        Ok(Self { config: Arc::new(config), offer: Offer::Protocols, early: None, joins: None })
    }

    /// Starts a handshake with the server called `server_name`.
    ///
    /// # Errors
    /// The error of rustls, if the configuration is invalid.
    pub fn handshake(&self, server_name: ServerName<'static>) -> Result<Box<dyn Handshake>, HandshakeError> {
        let shown = if self.config.enable_sni { dns_name(&server_name) } else { None };
        let (mut config, mut early, mut early_state) = (self.config.clone(), None, None);
        let mut tickets_of_session = self.joins.clone();
        if let Some(tickets) = &self.early {
            let ticket = tickets.take(&server_name);
            early_state = ticket.as_ref().and_then(|ticket| ticket.early_state(&config.alpn_protocols));
            let store = Arc::new(SessionTickets::new(tickets.clone(), ticket));
            let own = Arc::make_mut(&mut config);
            own.resumption = Resumption::store(store.clone());
            own.enable_early_data = early_state.is_some();
            own.max_fragment_size = None; // for early data, a record of the core is one of rustls
            tickets_of_session = tickets_of_session.map(|_| -> Arc<dyn ClientSessionStore> { store.clone() });
            early = Some(store);
        }
        let mut joins = None;
        if let Some(store) = tickets_of_session {
            let tickets = Arc::new(JoinTickets::new(store));
            Arc::make_mut(&mut config).resumption = Resumption::store(tickets.clone());
            joins = Some(ClientJoins::new(start_join, config.clone(), server_name.clone(), tickets));
        }
        let tls = UnbufferedClientConnection::new(config, server_name)?;
        let tls = ClientTls { tls, server_name: shown, offer: self.offer, early, early_state, joins };
        Ok(Box::new(Driver::start(tls)?))
    }
}

/// Starts the handshake of a join.
fn start_join(config: ClientConfig, server_name: ServerName<'static>) -> Result<Box<dyn Handshake>, HandshakeError> {
    let tls = UnbufferedClientConnection::new(Arc::new(config), server_name)?;
    Ok(Box::new(Driver::start(ClientTls {
        tls,
        server_name: None,
        offer: Offer::Anything,
        early: None,
        early_state: None,
        joins: None,
    })?))
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
    early: Option<Arc<SessionTickets>>,
    early_state: Option<Vec<u8>>,
    joins: Option<ClientJoins>,
}

impl Tls for ClientTls {
    type Data = ClientConnectionData;
    const IS_SERVER: bool = false;

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

    fn early_state(&self) -> Option<&[u8]> {
        self.early_state.as_deref()
    }

    fn offers_early_data(mut data: TransmitTlsData<'_, ClientConnectionData>) -> bool {
        data.may_encrypt_early_data().is_some()
    }

    fn withdraw_early(&mut self) {
        self.early_state = None;
    }

    fn encrypt_early(
        mut data: TransmitTlsData<'_, ClientConnectionData>,
        plaintext: &[u8],
        out: &mut [u8],
    ) -> Option<usize> {
        // The limit was checked: rustls would cut what exceeds it.
        data.may_encrypt_early_data()?.encrypt(plaintext, out).ok()
    }

    fn resumes_joins(&self) -> bool {
        self.joins.is_some()
    }

    fn extract(self) -> Result<Extracted, HandshakeError> {
        let alpn = self.tls.alpn_protocol().unwrap_or_default().to_vec();
        let (secrets, kernel) = self.tls.dangerous_into_kernel_connection()?;
        let ages = self.joins.as_ref().map(|_| ticket_ages(&secrets.tx.1)).transpose()?;
        let schedule = ClientSchedule { kernel, alpn, early: self.early };
        let mut extracted = extracted(secrets, schedule)?;
        if let Some((joins, ages)) = self.joins.zip(ages) {
            extracted.schedule = joins.schedule(extracted.schedule, ages);
        }
        Ok(extracted)
    }
}
