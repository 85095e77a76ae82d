//! What is left of a handshake behind an established session: later generations of keys, and a client's tickets.

use super::errors::failure;
use super::resumption::TicketReader;
use super::secrets::Secret;
use super::tickets::ticket;
use crate::crypto::aead::Suite;
use crate::crypto::{KeySchedule, OpenKeys, SealKeys};
use crate::error::{HandshakeError, HandshakeErrorKind as Kind};
use crate::wire::ids::Side;

/// The generations of keys after the first.
pub(super) struct Schedule {
    pub(super) side: Side,
    pub(super) suite: Suite,
    pub(super) own: Secret,
    pub(super) peers: Secret,
    /// Of a client that resumes sessions.
    pub(super) tickets: Option<TicketReader>,
}

impl KeySchedule for Schedule {
    fn next_seal(&mut self) -> Result<SealKeys, HandshakeError> {
        self.own = self.own.next(self.suite)?;
        self.own.seal_keys(self.suite)
    }

    fn next_open(&mut self) -> Result<OpenKeys, HandshakeError> {
        self.peers = self.peers.next(self.suite)?;
        self.peers.open_keys(self.suite)
    }

    /// Checks the form of the ticket, and keeps it only for a client that resumes sessions.
    fn handle_new_session_ticket(&mut self, body: &[u8]) -> Result<(), HandshakeError> {
        if self.side == Side::Server {
            return Err(failure(Kind::Violation, "clients do not send session tickets"));
        }
        if ticket(body).is_none() {
            return Err(failure(Kind::Violation, "the peer sent a malformed session ticket"));
        }
        self.tickets.as_mut().map_or(Ok(()), |tickets| tickets.take(body))
    }

    fn remember(&mut self, state: &[u8]) {
        self.tickets.iter_mut().for_each(|tickets| tickets.remember(state));
    }
}
