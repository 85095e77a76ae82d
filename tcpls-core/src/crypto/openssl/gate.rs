//! What a server decides about a ClientHello before OpenSSL gets it: whether early data may be accepted with its ticket.

use std::sync::Arc;

use super::Notes;
use super::early::Issued;
use super::shared::SharedSessions;
use crate::wire::hello::{ClientHello, ExtensionTypes, peek_client_hello};

/// The longest terms of a server.
const MAX_TERMS: usize = 64;

/// Where the sessions of a server's tickets are.
#[derive(Clone)]
pub(super) enum Tickets {
    /// In OpenSSL's cache: what is known of them here are their terms.
    Own(Arc<Issued>),
    /// In a store that servers share.
    Shared(Arc<dyn SharedSessions>),
}

/// Stands between the records of a ClientHello and OpenSSL.
pub(super) struct Gate {
    tickets: Tickets,
    terms: Arc<[u8]>,
    /// The ClientHello, until all of it is there.
    hello: Vec<u8>,
}

/// What the gate says of the ClientHello.
pub(super) enum Verdict {
    /// More of it has to arrive.
    Incomplete,
    /// All of it, which OpenSSL may get.
    Complete { records: Vec<u8>, offers_early_data: bool, is_allowed: bool },
}

impl Gate {
    /// A gate where there is something to decide.
    pub(super) fn new(tickets: &Tickets, takes_early_data: bool) -> Option<Self> {
        let is_needed = takes_early_data || matches!(tickets, Tickets::Shared(_));
        let gate = || Self { tickets: tickets.clone(), terms: Arc::default(), hello: Vec::new() };
        is_needed.then(gate)
    }

    pub(super) fn set_terms(&mut self, terms: &[u8]) {
        if terms.len() <= MAX_TERMS {
            self.terms = terms.into();
        }
    }

    /// Takes a record of the ClientHello. What is none is OpenSSL's to refuse.
    pub(super) fn take_record(&mut self, record: &[u8], notes: &Notes) -> Verdict {
        self.hello.extend_from_slice(record);
        let (offers_early_data, is_allowed) = match peek_client_hello(&self.hello, &ExtensionTypes::default()) {
            Ok(None) => return Verdict::Incomplete,
            Ok(Some((hello, _))) => (hello.early_data, self.allows(&hello, notes)),
            Err(_) => (false, false),
        };
        Verdict::Complete { records: core::mem::take(&mut self.hello), offers_early_data, is_allowed }
    }

    /// Whether OpenSSL is asked for early data, which it takes only if the server has opted in. A store is asked once for each
    /// handshake, for the first ticket: early data is sent with that one (RFC 8446, 4.2.10).
    fn allows(&self, hello: &ClientHello, notes: &Notes) -> bool {
        let Some(ticket) = &hello.ticket else { return true };
        match &self.tickets {
            Tickets::Own(issued) => issued.allows(ticket, &self.terms),
            Tickets::Shared(store) => notes.passage.take(&**store, ticket.0, &self.terms),
        }
    }

    /// Notes the ticket in a New Session Ticket, before it is sent.
    pub(super) fn note(&self, ticket: &[u8], notes: &Notes) {
        match &self.tickets {
            Tickets::Own(issued) => issued.note(ticket, &self.terms),
            Tickets::Shared(store) => notes.passage.put_made(&**store, &self.terms),
        }
    }

    pub(super) fn memory(&self) -> usize {
        self.hello.capacity()
    }
}
