//! Joins that are resumptions (decision D147): rustls writes and answers their hellos.
//!
//! The ticket that a join offers is a token, which rustls never issued. Its key is that of the session's first New Session
//! Ticket: a client gives rustls this ticket again, with the token in place of the ticket; a server gives rustls the value that
//! it stored for this ticket. Both use a store of one ticket, which no other handshake sees.

use core::fmt;
use core::time::Duration;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use rustls::client::{ClientSessionStore, Resumption, Tls12ClientSessionValue, Tls13ClientSessionValue};
use rustls::pki_types::{ServerName, UnixTime};
use rustls::server::{ProducesTickets, StoresServerSessions};
use rustls::time_provider::TimeProvider;
use rustls::{ClientConfig, NamedGroup, ServerConfig};

use crate::crypto::aead::Prf;
use crate::crypto::{Handshake, KeySchedule, OpenKeys, SealKeys};
use crate::error::HandshakeError;

/// The early data that the ticket of a join allows: no more than any server skips.
const MAX_EARLY_DATA: u32 = 14 << 10;
/// The TLS extension early_data (RFC 8446, 4.2).
const EARLY_DATA: u16 = 42;

type Started = Result<Box<dyn Handshake>, HandshakeError>;

/// What a client's session needs for its joins.
pub(super) struct ClientJoins {
    start: fn(ClientConfig, ServerName<'static>) -> Started,
    config: Arc<ClientConfig>,
    server_name: ServerName<'static>,
    tickets: Arc<JoinTickets>,
}

impl ClientJoins {
    /// `config` is that of the session, and stores its tickets in `tickets`. `start` starts handshakes.
    pub(super) fn new(
        start: fn(ClientConfig, ServerName<'static>) -> Started,
        config: Arc<ClientConfig>,
        server_name: ServerName<'static>,
        tickets: Arc<JoinTickets>,
    ) -> Self {
        Self { start, config, server_name, tickets }
    }

    /// Returns the session's keys with its joins.
    pub(super) fn schedule(self, schedule: Box<dyn KeySchedule>, ages: Prf) -> Box<dyn KeySchedule> {
        Box::new(ClientSchedule { schedule, joins: self, ages, first: None })
    }

    fn start(&self, ticket: Tls13ClientSessionValue, early_data: bool) -> Started {
        let mut config = ClientConfig::clone(&self.config);
        let group = self.tickets.kx_hint(&self.server_name);
        config.resumption = Resumption::store(Arc::new(OneTicket { ticket: Mutex::new(Some(ticket)), group }));
        config.enable_early_data = early_data;
        (self.start)(config, self.server_name.clone())
    }
}

struct ClientSchedule {
    schedule: Box<dyn KeySchedule>,
    joins: ClientJoins,
    ages: Prf,
    /// The first ticket of the session.
    first: Option<TicketHead>,
}

impl KeySchedule for ClientSchedule {
    fn next_seal(&mut self) -> Result<SealKeys, HandshakeError> {
        self.schedule.next_seal()
    }

    fn next_open(&mut self) -> Result<OpenKeys, HandshakeError> {
        self.schedule.next_open()
    }

    fn handle_new_session_ticket(&mut self, body: &[u8]) -> Result<(), HandshakeError> {
        self.schedule.handle_new_session_ticket(body)?;
        if self.first.is_none() {
            self.first = TicketHead::read(body);
        }
        Ok(())
    }

    fn remember(&mut self, state: &[u8]) {
        self.schedule.remember(state);
    }

    fn memory(&self) -> usize {
        let head = self.first.as_ref().map_or(0, |first| first.nonce.capacity());
        self.schedule.memory() + size_of::<Self>() + size_of::<ClientConfig>() + head
    }

    fn can_join(&self) -> bool {
        self.first.is_some()
    }

    fn join(&mut self, token: &[u8; 32], early_data: bool) -> Option<Box<dyn Handshake>> {
        let body = self.first.as_ref()?.with_ticket(token, age(&self.ages, token));
        self.joins.tickets.expect();
        let outcome = self.schedule.handle_new_session_ticket(&body);
        let ticket = self.joins.tickets.take()?;
        outcome.and_then(|()| self.joins.start(ticket, early_data)).ok()
    }
}

/// The age that the ticket of a join has, in milliseconds. Both endpoints know it, and an observer does not: with age 0, all joins
/// of a session would show the first ticket's age_add.
fn age(ages: &Prf, token: &[u8; 32]) -> u32 {
    let [a, b, c, d, ..] = ages.sign(&[token]);
    u32::from_be_bytes([a, b, c, d])
}

/// The fields of a New Session Ticket in front of the ticket (RFC 8446, 4.6.1).
struct TicketHead {
    lifetime: [u8; 4],
    age_add: [u8; 4],
    nonce: Vec<u8>,
}

impl TicketHead {
    fn read(body: &[u8]) -> Option<Self> {
        let (lifetime, rest) = body.split_first_chunk()?;
        let (age_add, rest) = rest.split_first_chunk()?;
        let (&len, rest) = rest.split_first()?;
        Some(Self { lifetime: *lifetime, age_add: *age_add, nonce: rest.get(..usize::from(len))?.to_vec() })
    }

    /// The body of a message with another ticket and the same key, which allows early data. rustls takes it for new; it
    /// states the age that is added here.
    fn with_ticket(&self, ticket: &[u8; 32], age: u32) -> Vec<u8> {
        let mut body = self.lifetime.to_vec();
        body.extend_from_slice(&u32::from_be_bytes(self.age_add).wrapping_add(age).to_be_bytes());
        body.push(self.nonce.len() as u8);
        body.extend_from_slice(&self.nonce);
        body.extend_from_slice(&(ticket.len() as u16).to_be_bytes());
        body.extend_from_slice(ticket);
        body.extend_from_slice(&[0, 8]);
        body.extend_from_slice(&EARLY_DATA.to_be_bytes());
        body.extend_from_slice(&[0, 4]);
        body.extend_from_slice(&MAX_EARLY_DATA.to_be_bytes());
        body
    }
}

/// The store of one client session: keeps what is made for its joins, and passes everything else on.
pub(super) struct JoinTickets {
    store: Arc<dyn ClientSessionStore>,
    for_join: Mutex<ForJoin>,
    /// The group that the server chose for this session: the store may forget it.
    group: Mutex<Option<NamedGroup>>,
}

enum ForJoin {
    /// Tickets are the server's.
    No,
    /// The next ticket is made for a join.
    Expected,
    Made(Tls13ClientSessionValue),
}

impl JoinTickets {
    pub(super) fn new(store: Arc<dyn ClientSessionStore>) -> Self {
        Self { store, for_join: Mutex::new(ForJoin::No), group: Mutex::default() }
    }

    fn expect(&self) {
        *lock(&self.for_join) = ForJoin::Expected;
    }

    fn take(&self) -> Option<Tls13ClientSessionValue> {
        match core::mem::replace(&mut *lock(&self.for_join), ForJoin::No) {
            ForJoin::Made(ticket) => Some(ticket),
            ForJoin::No | ForJoin::Expected => None,
        }
    }
}

/// The secrets of tickets are not shown.
impl fmt::Debug for JoinTickets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinTickets").finish_non_exhaustive()
    }
}

/// TLS 1.2 is not used.
impl ClientSessionStore for JoinTickets {
    fn set_kx_hint(&self, server_name: ServerName<'static>, group: NamedGroup) {
        *lock(&self.group) = Some(group);
        self.store.set_kx_hint(server_name, group);
    }

    fn kx_hint(&self, server_name: &ServerName<'_>) -> Option<NamedGroup> {
        lock(&self.group).or_else(|| self.store.kx_hint(server_name))
    }

    fn set_tls12_session(&self, _: ServerName<'static>, _: Tls12ClientSessionValue) {}

    fn tls12_session(&self, _: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        None
    }

    fn remove_tls12_session(&self, _: &ServerName<'static>) {}

    fn insert_tls13_ticket(&self, server_name: ServerName<'static>, value: Tls13ClientSessionValue) {
        let for_join = &mut *lock(&self.for_join);
        match for_join {
            ForJoin::Expected => *for_join = ForJoin::Made(value),
            ForJoin::No | ForJoin::Made(_) => self.store.insert_tls13_ticket(server_name, value),
        }
    }

    fn take_tls13_ticket(&self, server_name: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        self.store.take_tls13_ticket(server_name)
    }
}

/// The store of one join: its ticket. What the server sends is not kept.
struct OneTicket {
    ticket: Mutex<Option<Tls13ClientSessionValue>>,
    group: Option<NamedGroup>,
}

impl fmt::Debug for OneTicket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OneTicket").finish_non_exhaustive()
    }
}

impl ClientSessionStore for OneTicket {
    fn set_kx_hint(&self, _: ServerName<'static>, _: NamedGroup) {}

    fn kx_hint(&self, _: &ServerName<'_>) -> Option<NamedGroup> {
        self.group
    }

    fn set_tls12_session(&self, _: ServerName<'static>, _: Tls12ClientSessionValue) {}

    fn tls12_session(&self, _: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        None
    }

    fn remove_tls12_session(&self, _: &ServerName<'static>) {}

    fn insert_tls13_ticket(&self, _: ServerName<'static>, _: Tls13ClientSessionValue) {}

    fn take_tls13_ticket(&self, _: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        lock(&self.ticket).take()
    }
}

/// What a server's session needs for its joins.
pub(super) struct ServerJoins {
    start: fn(ServerConfig) -> Started,
    /// The user's configuration.
    config: Arc<ServerConfig>,
    first: Arc<FirstTicket>,
}

/// What rustls stored for the first ticket of a session, and when.
struct FirstTicket {
    clock: Arc<dyn TimeProvider>,
    stored: OnceLock<(Vec<u8>, UnixTime)>,
}

impl FirstTicket {
    fn note(&self, value: &[u8]) {
        if let Some(now) = self.clock.current_time() {
            self.stored.get_or_init(|| (value.to_vec(), now));
        }
    }
}

impl fmt::Debug for FirstTicket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FirstTicket").finish_non_exhaustive()
    }
}

impl ServerJoins {
    /// Makes `own`, the configuration of one session, a source of its first ticket. `start` starts handshakes.
    pub(super) fn new(start: fn(ServerConfig) -> Started, config: &Arc<ServerConfig>, own: &mut ServerConfig) -> Self {
        let first = Arc::new(FirstTicket { clock: own.time_provider.clone(), stored: OnceLock::new() });
        own.session_storage = Arc::new(NotedSessions { store: own.session_storage.clone(), first: first.clone() });
        Self { start, config: config.clone(), first }
    }

    /// Returns the session's keys with its joins.
    pub(super) fn schedule(self, schedule: Box<dyn KeySchedule>, ages: Prf) -> Box<dyn KeySchedule> {
        Box::new(ServerSchedule { schedule, joins: self, ages })
    }

    /// rustls compares the age of the ticket that the client states with its own clock, which stands still at that age.
    fn start(&self, token: &[u8; 32], age: Duration) -> Option<Box<dyn Handshake>> {
        let (value, stored_at) = self.first.stored.get()?;
        let mut config = ServerConfig::clone(&self.config);
        config.session_storage = Arc::new(OneSession { token: *token, value: Mutex::new(Some(value.clone())) });
        config.ticketer = Arc::new(NoTickets);
        config.max_early_data_size = MAX_EARLY_DATA;
        config.time_provider = Arc::new(At(UnixTime::since_unix_epoch(Duration::from_secs(stored_at.as_secs()) + age)));
        (self.start)(config).ok()
    }
}

struct ServerSchedule {
    schedule: Box<dyn KeySchedule>,
    joins: ServerJoins,
    ages: Prf,
}

impl KeySchedule for ServerSchedule {
    fn next_seal(&mut self) -> Result<SealKeys, HandshakeError> {
        self.schedule.next_seal()
    }

    fn next_open(&mut self) -> Result<OpenKeys, HandshakeError> {
        self.schedule.next_open()
    }

    fn handle_new_session_ticket(&mut self, body: &[u8]) -> Result<(), HandshakeError> {
        self.schedule.handle_new_session_ticket(body)
    }

    fn memory(&self) -> usize {
        let value = self.joins.first.stored.get().map_or(0, |(value, _)| value.capacity());
        self.schedule.memory() + size_of::<Self>() + size_of::<FirstTicket>() + value
    }

    fn can_join(&self) -> bool {
        self.joins.first.stored.get().is_some()
    }

    fn join(&mut self, token: &[u8; 32], _: bool) -> Option<Box<dyn Handshake>> {
        self.joins.start(token, Duration::from_millis(age(&self.ages, token).into()))
    }
}

/// The user's store, with a note of what is stored first.
#[derive(Debug)]
struct NotedSessions {
    store: Arc<dyn StoresServerSessions>,
    first: Arc<FirstTicket>,
}

impl StoresServerSessions for NotedSessions {
    fn put(&self, key: Vec<u8>, value: Vec<u8>) -> bool {
        let is_stored = self.store.put(key, value.clone());
        if is_stored {
            self.first.note(&value);
        }
        is_stored
    }

    fn get(&self, key: &[u8]) -> Option<Vec<u8>> {
        self.store.get(key)
    }

    fn take(&self, key: &[u8]) -> Option<Vec<u8>> {
        self.store.take(key)
    }

    fn can_cache(&self) -> bool {
        self.store.can_cache()
    }
}

/// The store of one join: gives out the session's value once, for the token.
struct OneSession {
    token: [u8; 32],
    value: Mutex<Option<Vec<u8>>>,
}

impl fmt::Debug for OneSession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OneSession").finish_non_exhaustive()
    }
}

impl StoresServerSessions for OneSession {
    fn put(&self, _: Vec<u8>, _: Vec<u8>) -> bool {
        false
    }

    fn get(&self, _: &[u8]) -> Option<Vec<u8>> {
        None
    }

    fn take(&self, key: &[u8]) -> Option<Vec<u8>> {
        if key == self.token { lock(&self.value).take() } else { None }
    }

    fn can_cache(&self) -> bool {
        false
    }
}

/// Tickets of joins contain no session.
#[derive(Debug)]
struct NoTickets;

impl ProducesTickets for NoTickets {
    fn enabled(&self) -> bool {
        false
    }

    fn lifetime(&self) -> u32 {
        0
    }

    fn encrypt(&self, _: &[u8]) -> Option<Vec<u8>> {
        None
    }

    fn decrypt(&self, _: &[u8]) -> Option<Vec<u8>> {
        None
    }
}

/// A clock that stands still.
#[derive(Debug)]
struct At(UnixTime);

impl TimeProvider for At {
    fn current_time(&self) -> Option<UnixTime> {
        Some(self.0)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
