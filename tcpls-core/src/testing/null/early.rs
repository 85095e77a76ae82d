//! Early data without protection: tickets are numbers, and each works once.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use super::NullKey;
use crate::config::Config;
use crate::connection::early_terms;
use crate::crypto::{EARLY_DATA, EarlyData};
use crate::error::{HandshakeError, HandshakeErrorKind};

/// Bytes of early data that a server accepts, or skips.
const MAX_EARLY_DATA: usize = 16 << 10;

/// A server's tickets. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct NullTickets(Arc<Mutex<Issued>>);

#[derive(Debug, Default)]
struct Issued {
    next: u64,
    /// What each ticket was issued under.
    terms: BTreeMap<u64, Vec<u8>>,
}

/// A client's ticket.
#[derive(Clone, Debug)]
pub struct NullTicket {
    id: u64,
    state: Vec<u8>,
}

impl NullTicket {
    pub(super) fn id(&self) -> [u8; 8] {
        self.id.to_be_bytes()
    }
}

impl NullTickets {
    /// Issues a ticket as a session with a server of this configuration does.
    pub fn issue(&self, server: &Config) -> NullTicket {
        let mut issued = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let id = issued.next;
        issued.next += 1;
        let terms = early_terms(server);
        issued.terms.insert(id, terms.clone());
        NullTicket { id, state: terms }
    }

    fn take(&self, id: &[u8]) -> Option<Vec<u8>> {
        let id = u64::from_be_bytes(id.try_into().ok()?);
        self.0.lock().unwrap_or_else(PoisonError::into_inner).terms.remove(&id)
    }
}

/// The early data of one handshake, on either side.
#[derive(Default)]
pub(super) struct Early {
    /// Client.
    ticket: Option<NullTicket>,
    /// Server.
    tickets: Option<NullTickets>,
    terms: Vec<u8>,
    /// Whether the ClientHello has a ticket.
    offered: bool,
    accepted: bool,
    key: Option<NullKey>,
    records: u64,
    bytes: usize,
    received: VecDeque<Vec<u8>>,
}

impl Early {
    pub(super) fn client(ticket: NullTicket, key: NullKey) -> Self {
        Self { ticket: Some(ticket), offered: true, key: Some(key), ..Self::default() }
    }

    pub(super) fn server(tickets: NullTickets) -> Self {
        Self { tickets: Some(tickets), ..Self::default() }
    }

    /// Server: what a client sends in vain is skipped.
    pub(super) fn skipping() -> Self {
        Self { offered: true, ..Self::default() }
    }

    pub(super) fn lenient(key: NullKey) -> Self {
        Self { offered: true, accepted: true, key: Some(key), ..Self::default() }
    }

    pub(super) fn is_offered(&self) -> bool {
        self.offered
    }

    pub(super) fn accept(&mut self) {
        self.accepted = true;
    }

    pub(super) fn outcome(&self) -> EarlyData {
        match (self.offered, self.accepted) {
            (false, _) => EarlyData::None,
            (true, false) => EarlyData::Rejected,
            (true, true) => EarlyData::Accepted,
        }
    }

    /// How many records were sealed, or opened.
    pub(super) fn records(&self) -> u64 {
        self.records
    }

    pub(super) fn state(&self) -> Option<&[u8]> {
        self.ticket.as_ref().map(|ticket| &ticket.state[..])
    }

    pub(super) fn may_seal(&self, len: usize) -> bool {
        self.ticket.is_some() && self.bytes + len <= EARLY_DATA
    }

    pub(super) fn seal(&mut self, plaintext: &[u8], out: &mut Vec<u8>) {
        let Some(key) = self.key else { return };
        key.seal_record(self.records, plaintext, out);
        self.records += 1;
        self.bytes += plaintext.len();
    }

    pub(super) fn set_terms(&mut self, terms: &[u8]) {
        self.terms = terms.to_vec();
    }

    /// Server: the ClientHello has this ticket, or none. Whether early data is accepted.
    pub(super) fn take_ticket(&mut self, id: &[u8], key: NullKey) -> bool {
        self.offered = !id.is_empty();
        let issued_under = self.tickets.as_ref().and_then(|tickets| tickets.take(id));
        self.accepted = issued_under.is_some_and(|terms| terms == self.terms);
        self.key = Some(key);
        self.accepted
    }

    /// Server: opens a record of early data, or skips it.
    pub(super) fn receive(&mut self, record: &mut [u8]) -> Result<(), HandshakeError> {
        let failure = |text| HandshakeError::new(HandshakeErrorKind::Violation, text);
        self.bytes += record.len();
        if !self.offered || self.bytes > 2 * MAX_EARLY_DATA {
            return Err(failure("application data during the handshake"));
        }
        let Some(key) = self.key.filter(|_| self.accepted) else { return Ok(()) };
        let content = key.open_record(self.records, record).map_err(|_| failure("early data is damaged"))?;
        self.records += 1;
        self.received.push_back(content);
        Ok(())
    }

    pub(super) fn take_received(&mut self) -> Option<Vec<u8>> {
        self.received.pop_front()
    }
}
