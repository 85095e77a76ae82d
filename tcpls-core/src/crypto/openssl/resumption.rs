//! Resumption on a client: a session is offered, and OpenSSL reads the tickets that arrive later.
//!
//! OpenSSL derives a ticket's key from a secret that it does not show. So it lives on behind the session, and gets
//! each New Session Ticket in a record that is made here for it, under the server's first application keys and with
//! OpenSSL's own count. Those records are never sent, and what OpenSSL writes is dropped.

use std::sync::Arc;

use openssl::error::ErrorStack;
use openssl::ssl::{ErrorCode, SslRef, SslSession, SslStream};

use super::errors::{failure, library};
use super::pipe::Pipe;
use super::records::seal;
use super::secrets::Secret;
use super::tickets::{MAX_LIFETIME, MAX_STATE, OpensslTickets, Ticket, now};
use crate::crypto::SealKeys;
use crate::crypto::aead::Suite;
use crate::error::{HandshakeError, HandshakeErrorKind as Kind};
use crate::wire::record::{ContentType, MAX_PLAINTEXT};

/// The type of NewSessionTicket (RFC 8446, 4).
pub(super) const NEW_SESSION_TICKET: u8 = 4;

/// Offers a session that was stored.
///
/// # Errors
/// OpenSSL cannot read it, or refuses it.
// The only unsafe code of the crate, and only in builds with the feature `openssl` (D163).
#[allow(unsafe_code)]
pub(super) fn offer(tls: &mut SslRef, session: &Secret) -> Result<u32, ErrorStack> {
    let session = SslSession::from_der(session.bytes())?;
    // SAFETY: the session must not be one of another context's. It was made from bytes just now, and belongs to none.
    unsafe { tls.set_session(&session) }?;
    Ok(session.max_early_data())
}

/// What a client's handshake has of earlier sessions.
pub(super) struct Resumption {
    pub(super) sink: TicketSink,
    /// The certificates of the session that is offered.
    pub(super) chain: Vec<Vec<u8>>,
    /// Until when it works.
    pub(super) expiry: Option<u64>,
    /// What was kept with its ticket, if early data may be sent.
    pub(super) early_state: Option<Vec<u8>>,
}

/// Where the tickets of a session go.
pub(super) struct TicketSink {
    pub(super) tickets: Arc<OpensslTickets>,
    pub(super) server_name: String,
}

/// OpenSSL behind an established session, for its tickets.
pub(super) struct TicketReader {
    tls: SslStream<Pipe>,
    sink: TicketSink,
    /// The server's first application keys, and how many records OpenSSL has opened with them.
    keys: SealKeys,
    sealed: u64,
    alpn: Vec<u8>,
    chain: Vec<Vec<u8>>,
    /// Of a resumed session, which verified nothing: its tickets work no longer than the one that it began with (RFC 8446,
    /// 4.6.1).
    expiry: Option<u64>,
    /// Absent until the session is one of TCPLS: other tickets are dropped.
    state: Option<Vec<u8>>,
}

impl TicketReader {
    /// `tls` has completed its handshake, `peers` is the server's secret; the session that was offered works until `offered`.
    pub(super) fn new(
        tls: SslStream<Pipe>,
        sink: TicketSink,
        (peers, suite): (&Secret, Suite),
        (chain, offered): (Vec<Vec<u8>>, Option<u64>),
    ) -> Result<Self, HandshakeError> {
        let alpn = tls.ssl().selected_alpn_protocol().unwrap_or_default().to_vec();
        let expiry = offered.filter(|_| tls.ssl().session_reused());
        Ok(Self { tls, sink, keys: peers.seal_keys(suite)?, sealed: 0, alpn, chain, expiry, state: None })
    }

    pub(super) fn remember(&mut self, state: &[u8]) {
        if state.len() <= MAX_STATE {
            self.state = Some(state.to_vec());
        }
    }

    /// Takes the body of a New Session Ticket, which has the right form.
    ///
    /// # Errors
    /// OpenSSL refuses it.
    pub(super) fn take(&mut self, body: &[u8]) -> Result<(), HandshakeError> {
        let Some(state) = self.state.clone() else { return Ok(()) };
        let &[a, b, c, d, ..] = body else { return Ok(()) };
        let lifetime = u64::from(u32::from_be_bytes([a, b, c, d])).min(MAX_LIFETIME);
        let session = self.read(body)?;
        let expiry = self.expiry.unwrap_or(u64::MAX).min(now() + lifetime);
        let (alpn, chain) = (self.alpn.clone(), self.chain.clone());
        self.sink.tickets.insert(&self.sink.server_name, Ticket { session, alpn, state, chain, expiry });
        Ok(())
    }

    /// Lets OpenSSL make a session of a ticket.
    fn read(&mut self, body: &[u8]) -> Result<Secret, HandshakeError> {
        let len = (body.len() as u32).to_be_bytes(); // at most 64 KiB
        let message = [&[NEW_SESSION_TICKET], &len[1..], body].concat();
        let mut records = Vec::new();
        for part in message.chunks(MAX_PLAINTEXT) {
            seal(&self.keys, self.sealed, ContentType::Handshake as u8, part, &mut records);
            self.sealed += 1;
        }
        self.tls.get_mut().feed(&records);
        let outcome = self.tls.ssl_read(&mut [0]);
        _ = (self.tls.get_mut().take_flight(), self.tls.get_mut().take_late());
        match outcome {
            Err(error) if error.code() == ErrorCode::WANT_READ => {}
            _ => return Err(failure(Kind::Violation, "OpenSSL refuses the server's session ticket")),
        }
        let missing = || failure(Kind::Other, "OpenSSL has no session");
        self.tls.ssl().session().ok_or_else(missing)?.to_der().map(Secret::new).map_err(library)
    }
}
