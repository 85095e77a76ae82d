//! Tickets for early data: what a client keeps of them, and under which terms a server takes them.

use core::fmt;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustls::NamedGroup;
use rustls::client::{ClientSessionStore, Tls12ClientSessionValue, Tls13ClientSessionValue};
use rustls::pki_types::ServerName;
use rustls::server::StoresServerSessions;

use crate::crypto::EARLY_DATA;
use crate::crypto::by_server::ByServer;

/// Servers whose tickets are kept if the user sets no number.
const SERVERS: usize = 256;
/// Tickets of one server: a session keeps as many.
const PER_SERVER: usize = 4;
/// The longest terms of a server.
const MAX_TERMS: usize = 64;
/// The longest state that is kept with a ticket.
const MAX_STATE: usize = 512;

/// A client's tickets of TCPLS sessions, with what their servers granted: each serves one resumption, with early data if
/// the server takes it.
///
/// Share one among the configurations of [`RustlsClient::with_early_data`](super::RustlsClient::with_early_data) that
/// have the same trust. It is in memory: a process that starts anew begins with full handshakes.
pub struct EarlyTickets(Mutex<ByServer<Kept>>);

/// What is kept of one server.
#[derive(Default)]
struct Kept {
    tickets: VecDeque<Ticket>,
    group: Option<NamedGroup>,
}

/// A ticket and what belongs to it.
pub(super) struct Ticket {
    value: Tls13ClientSessionValue,
    /// The ALPN name of its session.
    alpn: Vec<u8>,
    /// What the session remembers; empty if that is nothing.
    state: Vec<u8>,
}

impl Ticket {
    /// What was remembered, if early data may be sent with the ticket by a client that offers these names.
    pub(super) fn early_state(&self, names: &[Vec<u8>]) -> Option<Vec<u8>> {
        let takes_enough = self.value.max_early_data_size() as usize >= EARLY_DATA;
        let is_usable = takes_enough && names.contains(&self.alpn) && !self.state.is_empty();
        is_usable.then(|| self.state.clone())
    }
}

/// The secrets of tickets are not shown.
impl fmt::Debug for EarlyTickets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EarlyTickets").field("servers", &self.kept().most()).finish_non_exhaustive()
    }
}

impl fmt::Debug for SessionTickets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionTickets").finish_non_exhaustive()
    }
}

impl Default for EarlyTickets {
    fn default() -> Self {
        Self::new(SERVERS)
    }
}

impl EarlyTickets {
    /// Returns an empty store for the tickets of `servers` servers, by name, at least 1; of each it keeps 4.
    pub fn new(servers: usize) -> Self {
        Self(Mutex::new(ByServer::new(servers)))
    }

    fn kept(&self) -> MutexGuard<'_, ByServer<Kept>> {
        lock(&self.0)
    }

    /// Takes the newest ticket of a server.
    pub(super) fn take(&self, name: &ServerName<'_>) -> Option<Ticket> {
        self.kept().get_mut(&name.to_str())?.tickets.pop_back()
    }

    fn insert(&self, name: &ServerName<'_>, ticket: Ticket) {
        let mut kept = self.kept();
        let tickets = &mut kept.touch(&name.to_str()).tickets;
        tickets.push_back(ticket);
        while tickets.len() > PER_SERVER {
            tickets.pop_front();
        }
    }

    fn group(&self, name: &ServerName<'_>) -> Option<NamedGroup> {
        self.kept().get_mut(&name.to_str())?.group
    }

    fn set_group(&self, name: &ServerName<'_>, group: NamedGroup) {
        self.kept().touch(&name.to_str()).group = Some(group);
    }
}

/// The part of the tickets that one session uses, as rustls takes it.
pub(super) struct SessionTickets {
    tickets: Arc<EarlyTickets>,
    /// The ticket that this session offers.
    offered: Mutex<Option<Tls13ClientSessionValue>>,
    kept_with: Mutex<KeptWith>,
}

/// What is kept with the tickets of a session.
#[derive(Default)]
struct KeptWith {
    alpn: Vec<u8>,
    state: Vec<u8>,
}

impl SessionTickets {
    pub(super) fn new(tickets: Arc<EarlyTickets>, offered: Option<Ticket>) -> Self {
        let offered = Mutex::new(offered.map(|ticket| ticket.value));
        Self { tickets, offered, kept_with: Mutex::default() }
    }

    /// The session uses TCPLS under this name, and keeps `state` with its tickets.
    pub(super) fn remember(&self, alpn: &[u8], state: &[u8]) {
        if state.len() <= MAX_STATE {
            *lock(&self.kept_with) = KeptWith { alpn: alpn.to_vec(), state: state.to_vec() };
        }
    }
}

/// TLS 1.2 is not used.
impl ClientSessionStore for SessionTickets {
    fn set_kx_hint(&self, server_name: ServerName<'static>, group: NamedGroup) {
        self.tickets.set_group(&server_name, group);
    }

    fn kx_hint(&self, server_name: &ServerName<'_>) -> Option<NamedGroup> {
        self.tickets.group(server_name)
    }

    fn set_tls12_session(&self, _: ServerName<'static>, _: Tls12ClientSessionValue) {}

    fn tls12_session(&self, _: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        None
    }

    fn remove_tls12_session(&self, _: &ServerName<'static>) {}

    /// Tickets of plain sessions are dropped: a server without TCPLS would take frames for data of its application.
    fn insert_tls13_ticket(&self, server_name: ServerName<'static>, value: Tls13ClientSessionValue) {
        let KeptWith { alpn, state } = &*lock(&self.kept_with);
        if !alpn.is_empty() {
            self.tickets.insert(&server_name, Ticket { value, alpn: alpn.clone(), state: state.clone() });
        }
    }

    fn take_tls13_ticket(&self, _: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        lock(&self.offered).take()
    }
}

/// A server's store of sessions that gives out only those whose tickets were issued under the terms of now.
#[derive(Debug)]
pub(super) struct SessionsUnderTerms {
    pub(super) store: Arc<dyn StoresServerSessions>,
    pub(super) terms: Mutex<Vec<u8>>,
}

impl SessionsUnderTerms {
    pub(super) fn new(store: Arc<dyn StoresServerSessions>) -> Self {
        Self { store, terms: Mutex::default() }
    }

    pub(super) fn set_terms(&self, terms: &[u8]) {
        if terms.len() <= MAX_TERMS {
            *lock(&self.terms) = terms.to_vec();
        }
    }

    /// Terms of at most 64 bytes, with their length in front.
    fn head(&self) -> Vec<u8> {
        let terms = lock(&self.terms);
        let mut head = vec![terms.len() as u8];
        head.extend_from_slice(&terms);
        head
    }

    fn strip(&self, value: &[u8]) -> Option<Vec<u8>> {
        value.strip_prefix(&self.head()[..]).map(<[u8]>::to_vec)
    }
}

impl StoresServerSessions for SessionsUnderTerms {
    fn put(&self, key: Vec<u8>, value: Vec<u8>) -> bool {
        let mut stored = self.head();
        stored.extend_from_slice(&value);
        self.store.put(key, stored)
    }

    fn get(&self, key: &[u8]) -> Option<Vec<u8>> {
        self.strip(&self.store.get(key)?)
    }

    fn take(&self, key: &[u8]) -> Option<Vec<u8>> {
        self.strip(&self.store.take(key)?)
    }

    fn can_cache(&self) -> bool {
        self.store.can_cache()
    }
}

/// rustls' stores are good for OpenSSL's sessions. Servers that share one should have the same TLS library: what another has
/// stored is of no use to them.
#[cfg(feature = "openssl")]
impl crate::crypto::openssl::SharedSessions for Arc<dyn StoresServerSessions> {
    fn put(&self, ticket: &[u8; 32], session: Vec<u8>) {
        // If it was not stored, the client has a full handshake later.
        _ = StoresServerSessions::put(&**self, ticket.to_vec(), session);
    }

    fn take(&self, ticket: &[u8; 32]) -> Option<Vec<u8>> {
        StoresServerSessions::take(&**self, ticket)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
