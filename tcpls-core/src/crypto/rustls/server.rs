//! The server's side of the rustls provider: completes a `ServerConfig` and starts handshakes from it.

use std::collections::VecDeque;
use std::sync::{Arc, OnceLock};

use rustls::server::{ClientHello, ResolvesServerCert, ServerConnectionData, UnbufferedServerConnection};
use rustls::sign::CertifiedKey;
use rustls::unbuffered::{ReadEarlyData, UnbufferedStatus};
use rustls::{CommonState, ServerConfig, quic};

use super::allows_tls13;
use super::driver::{Driver, Tls};
use super::early::SessionsUnderTerms;
use super::errors::misconfigured;
use super::joins::ServerJoins;
use super::secrets::{Extracted, extracted, ticket_ages};
use crate::crypto::{Handshake, TlsServer, alpn};
use crate::error::HandshakeError;

/// Starts a server's handshakes, with the certificates, suites, tickets and key log of the user's rustls configuration.
#[derive(Clone, Debug)]
pub struct RustlsServer {
    config: Arc<ServerConfig>,
    takes_early_data: bool,
    resumes_joins: bool,
}

impl RustlsServer {
    /// Completes a copy of `config`. `application_protocols`, most wanted first, are accepted over TCPLS and, if the
    /// client does not speak it, over plain TLS; if there are none, the `alpn_protocols` of `config` take their place.
    ///
    /// If the configuration issues tickets of sessions in a store, as rustls does by default, joins may be TLS resumptions:
    /// see [`RustlsServer::with_resumed_joins`].
    ///
    /// It enables half-RTT data, which carries the first tokens, and disables early data and the record size limit: a
    /// frame has to fit in one record (draft, 4), so TLS must not fragment records.
    ///
    /// # Errors
    /// `config` does not allow TLS 1.3, or a protocol's name is empty, longer than 249 bytes, or one of TCPLS.
    pub fn new(config: Arc<ServerConfig>, application_protocols: &[&[u8]]) -> Result<Self, HandshakeError> {
        let mut config = Arc::unwrap_or_clone(config);
        config.alpn_protocols = match application_protocols {
            [] => alpn::names(&config.alpn_protocols)?,
            given => alpn::names(given)?,
        };
        config.enable_secret_extraction = true;
        config.send_half_rtt_data = true;
        config.max_early_data_size = 0;
        config.max_fragment_size = None;
        let config = Arc::new(config);
        if !allows_tls13(config.crypto_provider(), || is_good_for_quic(&config)) {
            return Err(misconfigured("the TLS configuration does not allow TLS 1.3"));
        }
        let resumes_joins = keeps_tickets(&config);
        Ok(Self { config, takes_early_data: false, resumes_joins })
    }

    /// Returns a copy that accepts early data of clients that resume a session: requests that arrive with the
    /// ClientHello. [`Stream::is_early`](crate::connection::Stream::is_early) tells them apart.
    ///
    /// Each ticket works once, as far as [`StoresServerSessions`] gives out each session once: a copy of a first flight is
    /// rejected. Servers that share their tickets must share such a store.
    ///
    /// # Errors
    /// The configuration issues tickets that it does not store ([`ServerConfig::ticketer`]), or none, or has no store.
    ///
    /// [`StoresServerSessions`]: rustls::server::StoresServerSessions
    pub fn with_early_data(&self) -> Result<Self, HandshakeError> {
        let mut config = ServerConfig::clone(&self.config);
        if !keeps_tickets(&config) {
            return Err(misconfigured("early data needs tickets that work once, of sessions in a store"));
        }
        config.max_early_data_size = super::MAX_EARLY_DATA;
        Ok(Self { config: Arc::new(config), takes_early_data: true, resumes_joins: self.resumes_joins })
    }

    /// Returns a copy that also takes joins that are TLS resumptions, and lets its clients know: as [`RustlsServer::new`]
    /// does where it can. rustls answers such joins as it answers clients that resume a session. Joins in the draft's form
    /// are accepted in any case. Early data of joins is accepted, also if that of sessions is not.
    ///
    /// # Errors
    /// The configuration issues tickets that it does not store ([`ServerConfig::ticketer`]), or none, or has no store: a
    /// token, which is the ticket of a join, looks like those of a store.
    pub fn with_resumed_joins(&self) -> Result<Self, HandshakeError> {
        if !keeps_tickets(&self.config) {
            return Err(misconfigured("joins that are resumptions need tickets of sessions in a store"));
        }
        Ok(Self { resumes_joins: true, ..self.clone() })
    }

    /// Returns a copy that takes joins in the draft's form alone.
    #[must_use]
    pub fn without_resumed_joins(&self) -> Self {
        Self { resumes_joins: false, ..self.clone() }
    }

    /// Starts a handshake with a client that has just connected.
    ///
    /// # Errors
    /// The error of rustls, if the configuration is invalid.
    pub fn handshake(&self) -> Result<Box<dyn Handshake>, HandshakeError> {
        let mut config = ServerConfig::clone(&self.config);
        let mut sessions = None;
        if self.takes_early_data {
            let store = Arc::new(SessionsUnderTerms::new(config.session_storage));
            config.session_storage = store.clone();
            sessions = Some(store);
        }
        let joins = self.resumes_joins.then(|| ServerJoins::new(start_join, &self.config, &mut config));
        start(config, sessions, joins)
    }
}

/// Whether tickets are short, and belong to sessions in a store that gives out each once.
fn keeps_tickets(config: &ServerConfig) -> bool {
    !config.ticketer.enabled() && config.send_tls13_tickets > 0 && config.session_storage.can_cache()
}

/// Starts the handshake of a join.
fn start_join(config: ServerConfig) -> Result<Box<dyn Handshake>, HandshakeError> {
    start(config, None, None)
}

fn start(
    mut config: ServerConfig,
    sessions: Option<Arc<SessionsUnderTerms>>,
    joins: Option<ServerJoins>,
) -> Result<Box<dyn Handshake>, HandshakeError> {
    let resolver = Arc::new(NameRecorder { inner: config.cert_resolver.clone(), name: OnceLock::new() });
    config.cert_resolver = resolver.clone();
    let tls = UnbufferedServerConnection::new(Arc::new(config))?;
    Ok(Box::new(Driver::start(ServerTls { tls, resolver, sessions, joins })?))
}

impl TlsServer for RustlsServer {
    fn handshake(&self) -> Result<Box<dyn Handshake>, HandshakeError> {
        Self::handshake(self)
    }
}

fn is_good_for_quic(config: &Arc<ServerConfig>) -> bool {
    quic::ServerConnection::new(config.clone(), quic::Version::V1, Vec::new()).is_ok()
}

/// Notes the server name on its way to the user's certificate resolver: an unbuffered connection does not show it.
#[derive(Debug)]
struct NameRecorder {
    inner: Arc<dyn ResolvesServerCert>,
    name: OnceLock<String>,
}

impl ResolvesServerCert for NameRecorder {
    fn resolve(&self, client_hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        if let Some(name) = client_hello.server_name() {
            // A second ClientHello, after a HelloRetryRequest, has the same name, or rustls refuses it.
            self.name.get_or_init(|| name.to_owned());
        }
        self.inner.resolve(client_hello)
    }

    fn only_raw_public_keys(&self) -> bool {
        self.inner.only_raw_public_keys()
    }
}

struct ServerTls {
    tls: UnbufferedServerConnection,
    resolver: Arc<NameRecorder>,
    sessions: Option<Arc<SessionsUnderTerms>>,
    joins: Option<ServerJoins>,
}

impl Tls for ServerTls {
    type Data = ServerConnectionData;
    const IS_SERVER: bool = true;

    fn process<'c, 'i>(&'c mut self, incoming: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, ServerConnectionData> {
        self.tls.process_tls_records(incoming)
    }

    fn common(&self) -> &CommonState {
        &self.tls
    }

    fn server_name(&self) -> Option<String> {
        self.resolver.name.get().cloned()
    }

    fn read_early(mut data: ReadEarlyData<'_, '_, ServerConnectionData>, into: &mut VecDeque<Vec<u8>>) {
        while let Some(Ok(record)) = data.next_record() {
            into.push_back(record.payload.to_vec());
        }
    }

    fn set_early_terms(&mut self, terms: &[u8]) {
        self.sessions.iter().for_each(|sessions| sessions.set_terms(terms));
    }

    fn resumes_joins(&self) -> bool {
        self.joins.is_some()
    }

    fn extract(self) -> Result<Extracted, HandshakeError> {
        let (secrets, kernel) = self.tls.dangerous_into_kernel_connection()?;
        let ages = self.joins.as_ref().map(|_| ticket_ages(&secrets.rx.1)).transpose()?;
        let mut extracted = extracted(secrets, kernel)?;
        if let Some((joins, ages)) = self.joins.zip(ages) {
            extracted.schedule = joins.schedule(extracted.schedule, ages);
        }
        Ok(extracted)
    }
}
