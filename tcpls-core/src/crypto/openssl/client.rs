//! The client's side of the OpenSSL provider: completes an `SslConnector` and starts handshakes from it.

use core::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use openssl::ssl::{SslConnector, SslConnectorBuilder, SslRef};

use super::complete;
use super::driver::{ClientSide, Driver};
use super::errors::{misconfigured, refused_configuration};
use super::extensions::Policy;
use super::resumption::{Resumption, TicketSink, offer};
use super::tickets::OpensslTickets;
use crate::crypto::alpn::is_tcpls;
use crate::crypto::{Handshake, Offer, TlsClient, alpn};
use crate::error::HandshakeError;

/// Starts a client's handshakes, with the certificates, suites and trust of the user's OpenSSL configuration.
///
/// Without [`with_resumption`](Self::with_resumption), it resumes no sessions: New Session Tickets are dropped.
#[derive(Clone)]
pub struct OpensslClient {
    connector: SslConnector,
    names: Vec<Vec<u8>>,
    offer: Offer,
    policy: Policy,
    tickets: Option<Arc<OpensslTickets>>,
    sends_early_data: bool,
}

impl OpensslClient {
    /// Completes `connector`. `application_protocols`, most wanted first, are offered over TCPLS and, after that, over
    /// plain TLS; ALPN names that `connector` has are not used. A server that selects none of them ends the session with
    /// [`CloseReason::NoApplicationProtocol`].
    ///
    /// It sets the callback for key logs, allows TLS 1.3 alone, and sends no early data: see
    /// [`with_early_data`](Self::with_early_data).
    ///
    /// # Errors
    /// OpenSSL cannot use TLS 1.3, or a protocol's name is empty, longer than 249 bytes, or one of TCPLS.
    ///
    /// [`CloseReason::NoApplicationProtocol`]: crate::error::CloseReason::NoApplicationProtocol
    pub fn new(mut connector: SslConnectorBuilder, application_protocols: &[&[u8]]) -> Result<Self, HandshakeError> {
        let names = alpn::names(application_protocols)?;
        complete(&mut connector).map_err(refused_configuration)?;
        let offer = if application_protocols.is_empty() { Offer::Anything } else { Offer::Protocols };
        Ok(Self {
            connector: connector.build(),
            names,
            offer,
            policy: Policy::Absent,
            tickets: None,
            sends_early_data: false,
        })
    }

    /// Returns a copy that resumes TCPLS sessions with `tickets`, and keeps those of its sessions there. A session then holds
    /// on to OpenSSL's state, some tens of KiB. `tickets` must come from clients with the same trust.
    #[must_use]
    pub fn with_resumption(&self, tickets: Arc<OpensslTickets>) -> Self {
        Self { tickets: Some(tickets), ..self.clone() }
    }

    /// Returns a copy that does the same, and with which streams can be opened and written before the handshake is complete:
    /// early data, in the same flight as the ClientHello. [`Connection::early_data`] says how much can be sent. Sessions
    /// that the draft's extension negotiates have none.
    ///
    /// An attacker can send a copy of early data to the server, which rejects it as far as its tickets work once: send
    /// only requests that may be repeated. Early data has no forward secrecy: the ticket's key, from either end,
    /// decrypts it.
    ///
    /// [`Connection::early_data`]: crate::connection::Connection::early_data
    #[must_use]
    pub fn with_early_data(&self, tickets: Arc<OpensslTickets>) -> Self {
        Self { sends_early_data: true, ..self.with_resumption(tickets) }
    }

    /// Returns a copy that negotiates TCPLS by the draft's TLS extension, with only the plain names in ALPN (decision D132).
    ///
    /// A server that does not know the extension, as all servers with rustls, is one without TCPLS to such a client. With a
    /// server that knows only the draft, the session has only the draft's frames: see [`Connection::is_draft_only`]. A token in
    /// the server's EncryptedExtensions is accepted (decision D146).
    ///
    /// [`Connection::is_draft_only`]: crate::connection::Connection::is_draft_only
    #[must_use]
    pub fn by_extensions(&self) -> Self {
        Self { names: self.filtered(|name| !is_tcpls(name)), policy: Policy::Any, ..self.clone() }
    }

    /// Returns a copy that negotiates as [`by_extensions`](Self::by_extensions) does, and ends the handshake with a server that
    /// has only the draft's frames.
    #[must_use]
    pub fn by_extensions_with_parameters(&self) -> Self {
        Self { policy: Policy::Parameters, ..self.by_extensions() }
    }

    /// Like `new`, for TCPLS only: a server that does not support it ends the session with [`CloseReason::NoTcpls`] or
    /// with an alert of its own.
    ///
    /// [`CloseReason::NoTcpls`]: crate::error::CloseReason::NoTcpls
    #[must_use]
    pub fn tcpls_only(&self) -> Self {
        let names = self.filtered(|name| is_tcpls(name) || self.policy != Policy::Absent);
        Self { names, offer: Offer::Tcpls, ..self.clone() }
    }

    /// Returns a copy without TCPLS, which offers only the plain names. It is for applications that decide to use plain
    /// TLS on paths that block TCPLS. The library never decides this, because an attacker that can reset a TCP
    /// connection could force it.
    ///
    /// # Errors
    /// There is no application protocol to offer.
    pub fn without_tcpls(&self) -> Result<Self, HandshakeError> {
        let names = self.filtered(|name| !is_tcpls(name));
        if names.is_empty() {
            return Err(misconfigured("there is no application protocol to offer without TCPLS"));
        }
        Ok(Self { names, offer: Offer::Protocols, policy: Policy::Absent, tickets: None, ..self.clone() })
    }

    /// Offers the newest ticket of the server, if there is one that OpenSSL can use.
    fn resume(&self, tickets: &Arc<OpensslTickets>, tls: &mut SslRef, server_name: &str) -> Resumption {
        let sink = TicketSink { tickets: tickets.clone(), server_name: server_name.to_owned() };
        let (mut chain, mut early_state, mut expiry) = (Vec::new(), None, None);
        if let Some(ticket) = tickets.take(server_name)
            && let Ok(max_early_data) = offer(tls, &ticket.session)
        {
            early_state = ticket.early_state(&self.names, max_early_data).filter(|_| self.sends_early_data);
            chain = ticket.chain;
            expiry = Some(ticket.expiry);
        }
        Resumption { sink, chain, early_state, expiry }
    }

    fn filtered(&self, is_kept: impl Fn(&[u8]) -> bool) -> Vec<Vec<u8>> {
        self.names.iter().filter(|name| is_kept(name)).cloned().collect()
    }
}

impl TlsClient for OpensslClient {
    fn handshake(&self, server_name: &str) -> Result<Box<dyn Handshake>, HandshakeError> {
        let is_address = server_name.parse::<IpAddr>().is_ok();
        if !is_address && !is_dns_name(server_name) {
            return Err(misconfigured("the server's name is neither a DNS name nor an IP address"));
        }
        let mut tls = self.connector.configure().map_err(refused_configuration)?;
        let mut wire = Vec::new();
        for name in &self.names {
            wire.push(name.len() as u8); // checked by `alpn::names`
            wire.extend_from_slice(name);
        }
        if !wire.is_empty() {
            tls.set_alpn_protos(&wire).map_err(refused_configuration)?;
        }
        let mut tls = tls.into_ssl(server_name).map_err(refused_configuration)?;
        let resumption = self.tickets.as_ref().map(|tickets| self.resume(tickets, &mut tls, server_name));
        let shown_name = (!is_address).then(|| server_name.to_owned());
        let side = ClientSide { offer: self.offer, policy: self.policy, shown_name, resumption };
        Ok(Box::new(Driver::client(tls, side)?))
    }
}

impl fmt::Debug for OpensslClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OpensslClient")
            .field("offer", &self.offer)
            .field("tickets", &self.tickets)
            .finish_non_exhaustive()
    }
}

/// Labels of letters, digits, hyphens and underscores, at most 253 bytes in all (RFC 1035, 2.3.1 and 2.3.4).
fn is_dns_name(name: &str) -> bool {
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    name.len() <= 253 && name.split('.').all(is_label)
}
