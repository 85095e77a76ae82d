//! Early data on either side: what a client sends behind its ClientHello, and what a server takes.
//!
//! OpenSSL seals and opens it, with keys that nothing else uses, and refuses tickets that were used before. A server
//! finds here under which terms it has issued a ticket.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::crypto::{EARLY_DATA, EarlyData};
use crate::wire::hello::{ExtensionTypes, peek_client_hello};
use crate::wire::ids::Token;

/// Early data that a server accepts, and that OpenSSL skips if it rejects it.
pub(super) const MAX_EARLY_DATA: u32 = 16 << 10;
/// Tickets whose terms are known: as many as OpenSSL keeps sessions by default.
const MAX_TICKETS: usize = 20 << 10;

/// Early data of one handshake.
#[derive(Default)]
pub(super) struct Early {
    /// Client: what was kept with the ticket that it offers early data with.
    pub(super) state: Option<Vec<u8>>,
    /// Client: bytes sealed.
    bytes: usize,
    /// Client: the first record of the server's flight has arrived.
    pub(super) is_over: bool,
    /// Whether the ClientHello offers early data.
    pub(super) is_offered: bool,
    pub(super) is_accepted: bool,
    /// Server: record contents that the session has not fetched.
    pub(super) received: VecDeque<Vec<u8>>,
}

impl Early {
    /// Client: begins with the flight that has the ClientHello. OpenSSL does not offer early data with every ticket.
    pub(super) fn begin(state: Vec<u8>, flight: &[u8]) -> Self {
        let hello = peek_client_hello(flight, &ExtensionTypes::default());
        let is_offered = matches!(hello, Ok(Some((hello, _))) if hello.early_data);
        Self { state: is_offered.then_some(state), is_offered, ..Self::default() }
    }

    /// Client: whether `len` bytes may still be sealed.
    pub(super) fn may_write(&self, len: usize) -> bool {
        self.state.is_some() && !self.is_over && len > 0 && self.bytes + len <= EARLY_DATA
    }

    /// Client: `len` bytes were sealed; `None` if that has failed, and no more can be.
    pub(super) fn note_written(&mut self, len: Option<usize>) {
        self.bytes = len.map_or(EARLY_DATA, |len| self.bytes + len);
    }

    pub(super) fn outcome(&self) -> EarlyData {
        match (self.is_offered, self.is_accepted) {
            (false, _) => EarlyData::None,
            (true, false) => EarlyData::Rejected,
            (true, true) => EarlyData::Accepted,
        }
    }

    pub(super) fn memory(&self) -> usize {
        self.received.iter().map(Vec::capacity).sum()
    }
}

/// A server's tickets, and under which terms it has issued each.
#[derive(Default)]
pub(super) struct Issued(Mutex<Terms>);

#[derive(Default)]
struct Terms {
    /// Sessions of one configuration share their terms.
    of_ticket: BTreeMap<[u8; 32], Arc<[u8]>>,
    order: VecDeque<[u8; 32]>,
    has_forgotten: bool,
}

impl Issued {
    fn terms(&self) -> MutexGuard<'_, Terms> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes a ticket. Those that OpenSSL stores are as long as a token; of others, it accepts no early data.
    pub(super) fn note(&self, ticket: &[u8], under: &Arc<[u8]>) {
        let Ok(ticket) = <[u8; 32]>::try_from(ticket) else { return };
        let mut terms = self.terms();
        if terms.of_ticket.insert(ticket, under.clone()).is_none() {
            terms.order.push_back(ticket);
        }
        if terms.order.len() > MAX_TICKETS {
            terms.has_forgotten = true;
            if let Some(oldest) = terms.order.pop_front() {
                terms.of_ticket.remove(&oldest);
            }
        }
    }

    /// Whether early data may be accepted with a ticket. One that is not known is not known to OpenSSL either, unless it was
    /// forgotten here.
    pub(super) fn allows(&self, ticket: &Token, now: &[u8]) -> bool {
        let terms = self.terms();
        terms.of_ticket.get(&ticket.0).map_or(!terms.has_forgotten, |under| **under == *now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(number: usize) -> Token {
        let mut token = [0; 32];
        token[..8].copy_from_slice(&number.to_be_bytes());
        Token(token)
    }

    #[test]
    fn terms_of_tickets_are_bounded_and_what_was_forgotten_is_not_allowed() {
        let issued = Issued::default();
        let (then, now): (Arc<[u8]>, Arc<[u8]>) = ([1].into(), [2].into());
        issued.note(&token(0).0, &then);
        issued.note(&token(1).0, &now);
        issued.note(b"longer or shorter", &then);
        assert_eq!([0, 1, 2].map(|ticket| issued.allows(&token(ticket), &now)), [false, true, true]);
        (2..=MAX_TICKETS).for_each(|ticket| issued.note(&token(ticket).0, &now));
        assert_eq!(issued.terms().of_ticket.len(), MAX_TICKETS);
        assert_eq!([0, 1, MAX_TICKETS + 1].map(|ticket| issued.allows(&token(ticket), &now)), [false, true, false]);
    }
}
