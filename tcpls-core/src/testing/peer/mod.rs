//! A scripted peer, which can violate every rule of the protocol.
//!
//! It runs the real TLS handshake against a [`Connection`] under test, takes the keys, and from then on seals whatever the
//! script asks for. It is not built on `Connection` and knows the protocol from `docs/protocol.md` alone, so that both ends
//! cannot share a mistake.

mod asserts;
pub mod frames;
pub mod joins;
mod keys;
mod record;

use core::time::Duration;
use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::BytesMut;

use self::frames::ack;
pub use self::joins::Dial;
use self::keys::{Keys, Position};
use self::record::split_records;
pub use self::record::{ALERT, DATA, GENEROUS, HANDSHAKE, Record, encoded, entries, frames_of};
use super::recordings::Kept;
use super::tls::Tls;
use crate::config::Config;
use crate::connection::Connection;
use crate::crypto::rng::Seed;
use crate::crypto::{Agreed, Handshake};
use crate::endpoint::{Endpoint, EndpointConfig, Incoming};
use crate::event::{Event, TcpEvent};
use crate::time::Time;
use crate::wire::frame::{Frame, Parameters, SessionParameters};
use crate::wire::ids::{ConnectionId, Side, Token};

/// The TCP connection that a session begins with.
pub const FIRST: ConnectionId = ConnectionId::FIRST;
/// The TCP connection that joins first.
pub const SECOND: ConnectionId = ConnectionId(1);

/// The handshakes of a client and a server.
pub type Handshakes = (Box<dyn Handshake>, Box<dyn Handshake>);

/// More room than anything needs.
const ROOM: usize = 1 << 24;

/// The peer's end of one TCP connection.
struct Wire {
    /// Sent to the session, and not yet taken by it.
    unread: BytesMut,
    /// Received from the session, not yet a complete record.
    partial: Vec<u8>,
    seal: Position,
    open: Position,
    log: Vec<Record>,
}

/// A scripted peer and the session under test. See the [module](self).
pub struct Peer {
    /// The session under test.
    pub conn: Connection,
    /// The present moment; it begins at 1 s.
    pub now: Time,
    /// The events of the session that the test has not taken.
    pub events: Vec<Event>,
    /// The tokens that the session under test has sent and no join has used.
    pub tokens: BTreeMap<u32, Token>,
    /// A scripted client's last flight of the TLS handshake, while it is held back.
    finished: Vec<u8>,
    suite: u16,
    keys: Keys,
    wires: BTreeMap<ConnectionId, Wire>,
    endpoint: Endpoint,
    _kept: Kept,
}

impl Peer {
    /// Returns a scripted client and a server under test, at rest.
    pub fn client() -> Self {
        Self::with(Side::Client, Config::default())
    }

    /// Returns a scripted server and a client under test, at rest. The client has no tokens.
    pub fn server() -> Self {
        Self::with(Side::Server, Config::default())
    }

    /// Returns a scripted peer of this endpoint and a session with this configuration, at rest.
    ///
    /// The peer's Session Parameters allow everything ([`GENEROUS`]).
    pub fn with(side: Side, config: Config) -> Self {
        Self::with_parameters(side, config, GENEROUS)
    }

    /// Does the same with Session Parameters of the peer.
    pub fn with_parameters(side: Side, config: Config, parameters: Parameters) -> Self {
        let mut peer = Self::bare(side, config);
        peer.send(FIRST, &[Frame::SessionParameters(SessionParameters { entries: &entries(&parameters) })]);
        peer.rest();
        peer.events.clear();
        peer
    }

    /// Does the same, but returns right after the TLS handshake: the peer has sent no frame and has taken none.
    pub fn bare(side: Side, config: Config) -> Self {
        Self::with_handshakes(side, config, handshakes())
    }

    /// Does the same with given handshakes of a client and a server, for example null crypto.
    pub fn with_handshakes(side: Side, config: Config, handshakes: Handshakes) -> Self {
        match side {
            Side::Client => {
                let mut peer = Self::scripted_client(config, handshakes);
                peer.finish_handshake();
                peer
            }
            Side::Server => Self::scripted_server(config, handshakes),
        }
    }

    /// Returns a scripted client that holds back its last flight of the TLS handshake.
    pub fn before_finished(config: Config) -> Self {
        Self::scripted_client(config, handshakes())
    }

    fn scripted_client(config: Config, (mut tls, server_tls): Handshakes) -> Self {
        let (now, mut endpoint) = (Time::from_millis(1000), endpoint());
        let mut hello = BytesMut::from(&written(&mut *tls)[..]);
        let incoming = endpoint.handle_accepted(now);
        let Some(Incoming::New(session)) = endpoint.handle_bytes(now, incoming, &mut hello) else {
            panic!("a ClientHello without a token starts a session");
        };
        let kept = Kept::new();
        let recorder = kept.recorder();
        let mut conn = Connection::server_with(now, Arc::new(config), server_tls, session, Seed([2; 32]), recorder);
        conn.handle_bytes(now, FIRST, &mut hello);
        let sealed = feed(&mut *tls, &transmit(&mut conn, now, FIRST));
        let finished = written(&mut *tls);
        let agreed = tls.finish().expect("the handshake is over");
        Self { _kept: kept, ..Self::new(conn, now, agreed, finished, sealed, endpoint) }
    }

    /// Sends what [`Peer::before_finished`] holds back.
    pub fn finish_handshake(&mut self) {
        let finished = core::mem::take(&mut self.finished);
        self.send_bytes(FIRST, &finished);
    }

    fn scripted_server(config: Config, (client_tls, mut tls): Handshakes) -> Self {
        let now = Time::from_millis(1000);
        let kept = Kept::new();
        let recorder = kept.recorder();
        let mut conn = Connection::client_with(now, Arc::new(config), client_tls, Seed([3; 32]), recorder);
        feed(&mut *tls, &transmit(&mut conn, now, FIRST));
        conn.handle_bytes(now, FIRST, &mut BytesMut::from(&written(&mut *tls)[..]));
        let sealed = feed(&mut *tls, &transmit(&mut conn, now, FIRST));
        let tickets = written(&mut *tls);
        let agreed = tls.finish().expect("the handshake is over");
        let mut peer = Self { _kept: kept, ..Self::new(conn, now, agreed, Vec::new(), sealed, endpoint()) };
        peer.send_bytes(FIRST, &tickets);
        peer
    }

    fn new(
        conn: Connection,
        now: Time,
        agreed: Agreed,
        finished: Vec<u8>,
        sealed: Vec<u8>,
        endpoint: Endpoint,
    ) -> Self {
        let first = Wire {
            seal: Position::at(agreed.seal.0),
            open: Position::at(agreed.open.0),
            unread: BytesMut::new(),
            partial: Vec::new(),
            log: Vec::new(),
        };
        let suite = agreed.suite;
        let keys = Keys::new(agreed.seal.1, agreed.open.1, agreed.schedule);
        let mut peer = Self {
            conn,
            now,
            events: Vec::new(),
            tokens: BTreeMap::new(),
            finished,
            suite,
            keys,
            wires: BTreeMap::from([(FIRST, first)]),
            endpoint,
            _kept: Kept::default(),
        };
        peer.take_in(FIRST, &sealed);
        peer
    }

    /// Sends one record with these frames, in this order on the wire, and returns its number.
    ///
    /// The session handles the last frame first.
    pub fn send(&mut self, tcp: ConnectionId, frames: &[Frame<'_>]) -> u64 {
        self.send_raw(tcp, DATA, &encoded(frames))
    }

    /// Sends one record with any content and returns its number.
    pub fn send_raw(&mut self, tcp: ConnectionId, content_type: u8, content: &[u8]) -> u64 {
        let record = self.seal(tcp, content_type, content);
        self.send_bytes(tcp, &record);
        self.sent(tcp) - 1
    }

    /// Sends bytes as they are.
    pub fn send_bytes(&mut self, tcp: ConnectionId, bytes: &[u8]) {
        let wire = self.wires.get_mut(&tcp).expect("the peer has this TCP connection");
        wire.unread.extend_from_slice(bytes);
        self.conn.handle_bytes(self.now, tcp, &mut wire.unread);
        self.hear_events();
    }

    /// Seals one record as the next of `tcp`, without sending it.
    pub fn seal(&mut self, tcp: ConnectionId, content_type: u8, content: &[u8]) -> Vec<u8> {
        let generation = self.keys.seal_current;
        let wire = self.wires.entry(tcp).or_insert_with(|| Wire::new(generation));
        self.keys.seal(tcp, &mut wire.seal, content_type, content)
    }

    /// Sends a KeyUpdate on `tcp`: the peer's next record there uses the next generation of its keys.
    pub fn update_keys(&mut self, tcp: ConnectionId, request: bool) {
        self.send_raw(tcp, HANDSHAKE, &[24, 0, 0, 1, u8::from(request)]);
        self.step_keys(tcp);
    }

    /// Moves on to the next keys on `tcp`: a KeyUpdate was the last record that the peer sealed there.
    pub fn step_keys(&mut self, tcp: ConnectionId) {
        let wire = self.wires.get_mut(&tcp).expect("a record was sent on it");
        wire.seal.step();
        self.keys.seal_current = self.keys.seal_current.max(wire.seal.generation);
    }

    /// Returns the number of records that the peer has sealed on `tcp`.
    pub fn sent(&self, tcp: ConnectionId) -> u64 {
        self.wires[&tcp].seal.number
    }

    /// Returns the number of records of the session that arrived on `tcp`.
    pub fn received(&self, tcp: ConnectionId) -> u64 {
        self.wires[&tcp].open.number
    }

    /// Returns the records that the session has sent on `tcp` since the last call, with those that it sends now.
    pub fn recv(&mut self, tcp: ConnectionId) -> Vec<Record> {
        let bytes = transmit(&mut self.conn, self.now, tcp);
        self.take_records(tcp, &bytes)
    }

    /// Does the same, but asks the session only once, with room for `room` bytes.
    pub fn recv_within(&mut self, tcp: ConnectionId, room: usize) -> Vec<Record> {
        let mut bytes = Vec::new();
        let len = self.conn.poll_transmit(self.now, tcp, room, &mut bytes);
        assert!(len == bytes.len() && len <= room, "{len} bytes were reported, {} written", bytes.len());
        self.take_records(tcp, &bytes)
    }

    fn take_records(&mut self, tcp: ConnectionId, bytes: &[u8]) -> Vec<Record> {
        self.take_in(tcp, bytes);
        self.hear_events();
        core::mem::take(&mut self.wires.get_mut(&tcp).expect("the peer has this TCP connection").log)
    }

    fn take_in(&mut self, tcp: ConnectionId, bytes: &[u8]) {
        let generation = self.keys.seal_current;
        let wire = self.wires.entry(tcp).or_insert_with(|| Wire::new(generation));
        wire.partial.extend_from_slice(bytes);
        for record in split_records(&mut wire.partial) {
            let record = self.keys.open(tcp, &mut wire.open, &record);
            if record.number.is_some() {
                note_tokens(&record, &mut self.tokens);
            }
            wire.log.push(record);
        }
    }

    pub(super) fn hear_events(&mut self) {
        while let Some(event) = self.conn.poll_event() {
            let over = matches!(self.events.last(), Some(Event::Closed { .. }));
            assert!(!over, "{event:?} came after Closed");
            self.events.push(event);
        }
    }

    /// Returns the events since the last call.
    pub fn take_events(&mut self) -> Vec<Event> {
        self.hear_events();
        core::mem::take(&mut self.events)
    }

    /// Returns the events about TCP connections since the last call; the others are dropped.
    pub fn tcp_events(&mut self) -> Vec<TcpEvent> {
        let tcp_event = |event| if let Event::Tcp(event) = event { Some(event) } else { None };
        self.take_events().into_iter().filter_map(tcp_event).collect()
    }

    /// Lets time pass, and each timeout that is due on the way.
    pub fn sleep(&mut self, millis: u64) {
        let until = self.now + Duration::from_millis(millis);
        while let Some(deadline) = self.conn.poll_timeout().filter(|deadline| *deadline <= until) {
            self.now = self.now.max(deadline);
            self.conn.handle_timeout(self.now);
            let next = self.conn.poll_timeout();
            assert!(next.is_none_or(|next| next > self.now), "{:?} stays due", self.conn.timeout_reason());
        }
        self.now = until;
        self.hear_events();
    }

    /// Lets 30 ms pass and acknowledges everything, so that neither end owes the other anything.
    pub fn rest(&mut self) {
        self.sleep(30);
        let live: Vec<ConnectionId> = self.conn.tcp_connections().collect();
        for tcp in live {
            self.recv(tcp);
            if let Some(last) = self.received(tcp).checked_sub(1) {
                self.send(tcp, &[ack(tcp, last)]);
            }
        }
    }
}

impl Wire {
    fn new(generation: usize) -> Self {
        let seal = Position { generation, ..Position::at(0) };
        Self { unread: BytesMut::new(), partial: Vec::new(), seal, open: Position::at(0), log: Vec::new() }
    }
}

fn note_tokens(record: &Record, tokens: &mut BTreeMap<u32, Token>) {
    for frame in record.frames() {
        match frame {
            Frame::NewToken(new) => _ = tokens.insert(u32::from(new.sequence), new.token),
            Frame::NewTokenWide(new) => _ = tokens.insert(new.sequence, new.token),
            _ => {}
        }
    }
}

fn transmit(conn: &mut Connection, now: Time, tcp: ConnectionId) -> Vec<u8> {
    let mut out = Vec::new();
    while conn.poll_transmit(now, tcp, ROOM, &mut out) > 0 {}
    out
}

/// Gives records to a handshake until it is over; what is left comes back.
fn feed(tls: &mut dyn Handshake, bytes: &[u8]) -> Vec<u8> {
    let mut records = split_records(&mut bytes.to_vec()).into_iter();
    while !tls.is_complete() {
        let Some(mut record) = records.next() else { break };
        tls.handle_record(&mut record).expect("both ends agree");
    }
    records.flatten().collect()
}

fn written(tls: &mut dyn Handshake) -> Vec<u8> {
    let mut out = Vec::new();
    tls.write(&mut out);
    out
}

fn endpoint() -> Endpoint {
    Endpoint::new(EndpointConfig::default(), [4; 32], Seed([5; 32]))
}

/// Both ends of a full handshake.
fn handshakes() -> Handshakes {
    let tls = Tls::default();
    (tls.start_client(6), tls.start_server(7))
}
