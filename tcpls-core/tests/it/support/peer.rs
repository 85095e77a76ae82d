//! A scripted peer: it runs the real TLS handshake against a [`Connection`] under test, takes the keys, and from then on
//! seals whatever the script asks for. It is not built on `Connection`, so it can break every rule, and it knows the protocol
//! from `docs/protocol.md` alone, so both ends can't share a mistake.
//!
//! Here: the handshake, sending, receiving, time, and what a test expects of a session that ends. `keys` has the
//! records' protection, `joins` the joins of either side, `frames` constructors that make scripts readable.

pub(crate) mod frames;
pub(crate) mod joins;
mod keys;

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::BytesMut;
use tcpls_core::config::Config;
use tcpls_core::connection::{Connection, State};
use tcpls_core::crypto::rng::Seed;
use tcpls_core::crypto::{Agreed, Handshake};
use tcpls_core::endpoint::{Endpoint, EndpointConfig, Incoming};
use tcpls_core::error::{Alert, CloseReason, TcpFault, Violation, code};
use tcpls_core::event::{Event, TcpEvent};
use tcpls_core::time::Time;
use tcpls_core::wire::frame::{CloseSession, Frame, Frames, Parameters, SessionParameters};
use tcpls_core::wire::ids::{ConnectionId, ErrorCode, Side, Token};

use self::frames::ack;
pub(crate) use self::joins::Dial;
use self::keys::{Keys, Position};
use tcpls_core::testing::Tls;
use tcpls_core::testing::tls::start_client;

/// Inner content types (RFC 8446, B.1).
pub(crate) const ALERT: u8 = 21;
pub(crate) const HANDSHAKE: u8 = 22;
pub(crate) const DATA: u8 = 23;

pub(crate) const FIRST: ConnectionId = ConnectionId::FIRST;
pub(crate) const SECOND: ConnectionId = ConnectionId(1);

/// More room than anything needs.
const ROOM: usize = 1 << 24;

/// A record from the session under test.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    /// Its number as ACKs count; `None` for a record in clear.
    pub(crate) number: Option<u64>,
    pub(crate) content_type: u8,
    pub(crate) content: Vec<u8>,
}

impl Record {
    /// Its frames in the order of the wire; none if it carries something else.
    pub(crate) fn frames(&self) -> Vec<Frame<'_>> {
        if self.number.is_none() || self.content_type != DATA {
            return Vec::new();
        }
        let mut frames: Vec<_> = Frames::new(&self.content).map(|frame| frame.expect("it sends good frames")).collect();
        frames.reverse();
        frames
    }

    /// The description of the alert that it carries.
    pub(crate) fn alert(&self) -> Option<u8> {
        (self.content_type == ALERT).then(|| self.content[1])
    }
}

/// All frames of some records, in order.
pub(crate) fn frames_of(records: &[Record]) -> Vec<Frame<'_>> {
    records.iter().flat_map(Record::frames).collect()
}

/// The peer's end of one TCP connection.
struct Wire {
    /// Sent to the session, and not yet taken by it.
    unread: BytesMut,
    /// Received from the session, not yet a whole record.
    partial: Vec<u8>,
    seal: Position,
    open: Position,
    log: Vec<Record>,
}

/// See the description of this file.
pub(crate) struct Peer {
    /// The session under test.
    pub(crate) conn: Connection,
    pub(crate) now: Time,
    /// What the session told so far and no test has taken.
    pub(crate) events: Vec<Event>,
    /// The tokens that the session under test has sent and no join has used.
    pub(crate) tokens: BTreeMap<u32, Token>,
    /// A scripted client's last flight of the TLS handshake, as long as it is held back.
    finished: Vec<u8>,
    suite: u16,
    keys: Keys,
    wires: BTreeMap<ConnectionId, Wire>,
    endpoint: Endpoint,
}

impl Peer {
    /// A scripted client, and a server under test that is at rest.
    pub(crate) fn client() -> Self {
        Self::with(Side::Client, Config::default())
    }

    /// A scripted server, and a client under test that is at rest. It has no tokens.
    pub(crate) fn server() -> Self {
        Self::with(Side::Server, Config::default())
    }

    /// A peer of this side and a session with this configuration, at rest; the peer's parameters allow everything.
    pub(crate) fn with(side: Side, config: Config) -> Self {
        Self::with_parameters(side, config, GENEROUS)
    }

    pub(crate) fn with_parameters(side: Side, config: Config, parameters: Parameters) -> Self {
        let mut peer = Self::bare(side, config);
        peer.send(FIRST, &[Frame::SessionParameters(SessionParameters { entries: &entries(&parameters) })]);
        peer.rest();
        peer.events.clear();
        peer
    }

    /// Right after the TLS handshake: the peer has sent no frame and has looked at none.
    pub(crate) fn bare(side: Side, config: Config) -> Self {
        match side {
            Side::Client => {
                let mut peer = Self::before_finished(config);
                peer.finish_handshake();
                peer
            }
            Side::Server => Self::scripted_server(config),
        }
    }

    /// A scripted client that has finished the handshake, which the server under test does not know yet.
    pub(crate) fn before_finished(config: Config) -> Self {
        let (mut tls, server_tls) = handshakes();
        let (now, mut endpoint) = (Time::from_millis(1000), endpoint());
        let mut hello = BytesMut::from(&written(&mut *tls)[..]);
        let incoming = endpoint.handle_accepted(now);
        let Some(Incoming::New(session)) = endpoint.handle_bytes(now, incoming, &mut hello) else {
            panic!("a ClientHello without a token starts a session");
        };
        let mut conn = Connection::server(now, Arc::new(config), server_tls, session, Seed([2; 32]));
        conn.handle_bytes(now, FIRST, &mut hello);
        let sealed = feed(&mut *tls, &transmit(&mut conn, now, FIRST));
        let finished = written(&mut *tls);
        Self::new(conn, now, tls.finish().expect("the handshake is over"), finished, sealed, endpoint)
    }

    /// Sends what [`Peer::before_finished`] holds back.
    pub(crate) fn finish_handshake(&mut self) {
        let finished = core::mem::take(&mut self.finished);
        self.send_bytes(FIRST, &finished);
    }

    fn scripted_server(config: Config) -> Self {
        let (client_tls, mut tls) = handshakes();
        let now = Time::from_millis(1000);
        let mut conn = Connection::client(now, Arc::new(config), client_tls, Seed([3; 32]));
        feed(&mut *tls, &transmit(&mut conn, now, FIRST));
        conn.handle_bytes(now, FIRST, &mut BytesMut::from(&written(&mut *tls)[..]));
        let sealed = feed(&mut *tls, &transmit(&mut conn, now, FIRST));
        let tickets = written(&mut *tls);
        let agreed = tls.finish().expect("the handshake is over");
        let mut peer = Self::new(conn, now, agreed, Vec::new(), sealed, endpoint());
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
        };
        peer.take_in(FIRST, &sealed);
        peer
    }

    /// Sends one record with these frames, in this order on the wire. Returns its number.
    pub(crate) fn send(&mut self, tcp: ConnectionId, frames: &[Frame<'_>]) -> u64 {
        self.send_raw(tcp, DATA, &encoded(frames))
    }

    /// Sends one record with any content. Returns its number.
    pub(crate) fn send_raw(&mut self, tcp: ConnectionId, content_type: u8, content: &[u8]) -> u64 {
        let record = self.seal(tcp, content_type, content);
        self.send_bytes(tcp, &record);
        self.sent(tcp) - 1
    }

    /// Sends bytes as they are.
    pub(crate) fn send_bytes(&mut self, tcp: ConnectionId, bytes: &[u8]) {
        let wire = self.wires.get_mut(&tcp).expect("the peer has this TCP connection");
        wire.unread.extend_from_slice(bytes);
        self.conn.handle_bytes(self.now, tcp, &mut wire.unread);
        self.hear_events();
    }

    /// Seals one record as the next of `tcp`, without sending it.
    pub(crate) fn seal(&mut self, tcp: ConnectionId, content_type: u8, content: &[u8]) -> Vec<u8> {
        let generation = self.keys.seal_current;
        let wire = self.wires.entry(tcp).or_insert_with(|| Wire::new(generation));
        self.keys.seal(tcp, &mut wire.seal, content_type, content)
    }

    /// Sends a KeyUpdate on `tcp`: the peer's next record there uses the next generation of its keys.
    pub(crate) fn update_keys(&mut self, tcp: ConnectionId, request: bool) {
        self.send_raw(tcp, HANDSHAKE, &[24, 0, 0, 1, u8::from(request)]);
        self.step_keys(tcp);
    }

    /// A KeyUpdate was the last record that the peer sealed on `tcp`.
    pub(crate) fn step_keys(&mut self, tcp: ConnectionId) {
        let wire = self.wires.get_mut(&tcp).expect("a record was sent on it");
        wire.seal.step();
        self.keys.seal_current = self.keys.seal_current.max(wire.seal.generation);
    }

    /// How many records the peer has sealed on `tcp`.
    pub(crate) fn sent(&self, tcp: ConnectionId) -> u64 {
        self.wires[&tcp].seal.number
    }

    /// How many records of the session came on `tcp`.
    pub(crate) fn received(&self, tcp: ConnectionId) -> u64 {
        self.wires[&tcp].open.number
    }

    /// What the session under test sends on `tcp` by now, and has sent since the last call.
    pub(crate) fn recv(&mut self, tcp: ConnectionId) -> Vec<Record> {
        let bytes = transmit(&mut self.conn, self.now, tcp);
        self.take_in(tcp, &bytes);
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

    fn hear_events(&mut self) {
        while let Some(event) = self.conn.poll_event() {
            let over = matches!(self.events.last(), Some(Event::Closed { .. }));
            assert!(!over, "{event:?} came after Closed");
            self.events.push(event);
        }
    }

    /// The events since the last call.
    pub(crate) fn take_events(&mut self) -> Vec<Event> {
        self.hear_events();
        core::mem::take(&mut self.events)
    }

    /// Those among them about TCP connections.
    pub(crate) fn tcp_events(&mut self) -> Vec<TcpEvent> {
        let tcp_event = |event| if let Event::Tcp(event) = event { Some(event) } else { None };
        self.take_events().into_iter().filter_map(tcp_event).collect()
    }

    /// Lets time pass; every deadline on the way is kept.
    pub(crate) fn sleep(&mut self, millis: u64) {
        let until = self.now + core::time::Duration::from_millis(millis);
        while let Some(deadline) = self.conn.poll_timeout().filter(|deadline| *deadline <= until) {
            self.now = self.now.max(deadline);
            self.conn.handle_timeout(self.now);
            let next = self.conn.poll_timeout();
            assert!(next.is_none_or(|next| next > self.now), "{:?} stays due", self.conn.timeout_reason());
        }
        self.now = until;
        self.hear_events();
    }

    /// Acknowledges everything, hears every acknowledgment: neither end owes the other anything then.
    pub(crate) fn rest(&mut self) {
        self.sleep(30);
        let live: Vec<ConnectionId> = self.conn.tcp_connections().collect();
        for tcp in live {
            self.recv(tcp);
            if let Some(last) = self.received(tcp).checked_sub(1) {
                self.send(tcp, &[ack(tcp, last)]);
            }
        }
    }

    /// The session lives, and so do these TCP connections and no others.
    pub(crate) fn assert_lives(&self, tcps: &[ConnectionId]) {
        assert_eq!(self.conn.state(), State::Established);
        assert_eq!(self.conn.tcp_connections().collect::<Vec<_>>(), tcps);
    }

    /// The session has ended because the peer broke `rule`, and has said so on each of `tcps`.
    pub(crate) fn assert_failed_on(&mut self, rule: Violation, tcps: &[ConnectionId]) {
        assert_eq!(self.conn.close_reason(), Some(&CloseReason::Violation(rule)));
        assert_eq!(self.conn.state(), State::Closed);
        assert_eq!(self.conn.poll_timeout(), None, "nothing is left to wait for");
        assert_eq!(self.conn.tcp_connections().count(), 0);
        self.hear_events();
        assert_eq!(self.events.last(), Some(&Event::Closed { reason: CloseReason::Violation(rule) }));
        for tcp in tcps {
            assert!(self.events.contains(&Event::Tcp(TcpEvent::Discarded { tcp: *tcp })));
            let records = self.recv(*tcp);
            assert_farewell(&records, rule);
            assert_eq!(self.recv(*tcp), [], "and nothing after that");
        }
    }

    /// The same where only the first TCP connection lives.
    pub(crate) fn assert_failed(&mut self, rule: Violation) {
        self.assert_failed_on(rule, &[FIRST]);
    }

    /// TCP connection `tcp` is lost, which the session has told its owner, and the peer by this last alert, under its keys.
    pub(crate) fn assert_lost(&mut self, tcp: ConnectionId, fault: TcpFault, alert: Option<Alert>) {
        assert_eq!(self.tcp_events(), [TcpEvent::Lost { tcp, fault }, TcpEvent::Discarded { tcp }]);
        assert!(!self.conn.tcp_connections().any(|live| live == tcp));
        let last = self.recv(tcp).pop().filter(|record| record.content_type == ALERT);
        assert_eq!(last.as_ref().and_then(Record::alert), alert.map(|alert| alert as u8));
        assert!(last.is_none_or(|record| record.number.is_some()), "the alert is in clear");
    }
}

impl Wire {
    fn new(generation: usize) -> Self {
        let seal = Position { generation, ..Position::at(0) };
        Self { unread: BytesMut::new(), partial: Vec::new(), seal, open: Position::at(0), log: Vec::new() }
    }
}

/// Close Session and a fatal alert, and nothing after them.
fn assert_farewell(records: &[Record], rule: Violation) {
    let [.., close, alert] = records else { panic!("no farewell in {records:?}") };
    let (error, description) = answer_to(rule);
    let text = rule.to_string();
    let expected = Frame::CloseSession(CloseSession { error, reason: text.as_bytes() });
    assert_eq!(close.frames().first(), Some(&expected));
    assert_eq!((alert.content_type, &alert.content[..]), (ALERT, &[2, description as u8][..]));
}

/// The code of Close Session and the alert that each broken rule gets.
fn answer_to(rule: Violation) -> (ErrorCode, Alert) {
    use Violation as Rule;
    match rule {
        Rule::UnknownFrame(_) | Rule::TruncatedFrame(_) => (code::FRAME_ENCODING, Alert::DecodeError),
        Rule::InvalidField(_) => (code::FRAME_ENCODING, Alert::IllegalParameter),
        Rule::EmptyRecord => (code::FRAME_ENCODING, Alert::UnexpectedMessage),
        Rule::ConflictingToken(_) | Rule::Parameters => (code::PROTOCOL_VIOLATION, Alert::IllegalParameter),
        Rule::RecordOverflow => (code::PROTOCOL_VIOLATION, Alert::RecordOverflow),
        Rule::HandshakeMessage => (code::PROTOCOL_VIOLATION, Alert::DecodeError),
        Rule::FlowControl | Rule::TooManyStreams(_) => (code::FLOW_CONTROL, Alert::UnexpectedMessage),
        Rule::FinalSize(_) => (code::FINAL_SIZE, Alert::UnexpectedMessage),
        Rule::StreamOfWrongSide(_) => (code::STREAM_STATE, Alert::UnexpectedMessage),
        Rule::IntegrityLimit => (code::AEAD_LIMIT, Alert::BadRecordMac),
        Rule::EnhanceYourCalm
        | Rule::TooManyGaps(_)
        | Rule::TooManyTokens
        | Rule::TooManyAddresses
        | Rule::TooManyKeyUpdates => (code::ENHANCE_YOUR_CALM, Alert::UnexpectedMessage),
        _ => (code::PROTOCOL_VIOLATION, Alert::UnexpectedMessage),
    }
}

/// Parameters that never stand in the way.
pub(crate) const GENEROUS: Parameters = Parameters {
    initial_max_data: 1 << 40,
    initial_max_stream_data: 1 << 40,
    max_streams: 1 << 20,
    idle_timeout_ms: 0,
    user_timeout_ms: 0,
    max_ack_delay_ms: 25,
    max_tcp_connections: 8,
};

pub(crate) fn entries(parameters: &Parameters) -> Vec<u8> {
    let mut entries = Vec::new();
    parameters.encode_entries(&mut entries);
    entries
}

pub(crate) fn encoded(frames: &[Frame<'_>]) -> Vec<u8> {
    let mut content = Vec::new();
    frames.iter().for_each(|frame| frame.encode(&mut content));
    content
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

/// Takes the whole records off the front of `bytes`.
fn split_records(bytes: &mut Vec<u8>) -> Vec<Vec<u8>> {
    let mut records = Vec::new();
    while let [_, _, _, high, low, rest @ ..] = &bytes[..] {
        let len = usize::from(u16::from_be_bytes([*high, *low]));
        if rest.len() < len {
            break;
        }
        let after = bytes.split_off(5 + len);
        records.push(core::mem::replace(bytes, after));
    }
    records
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

/// Both ends of a full handshake by the stock provider, the same in every run.
fn handshakes() -> (Box<dyn Handshake>, Box<dyn Handshake>) {
    let tls = Tls::default();
    (start_client(&tls.client(6)), tls.server(7).handshake().expect("a usable configuration"))
}
