//! Two ends of a session, the server's endpoint, and the TCP connections between them, in virtual time. Nothing happens
//! that a test did not ask for; [`Pair::drive`] asks for everything. `world` has what happens then.

mod world;

use std::sync::Arc;

use bytes::Bytes;
use tcpls_core::config::Config;
use tcpls_core::connection::schedule::Aggregate;
use tcpls_core::connection::{Connection, JoinOptions, State, TcpEnd};
use tcpls_core::crypto::rustls::RustlsServer;
use tcpls_core::endpoint::{Endpoint, EndpointConfig};
use tcpls_core::error::{CloseReason, ReadError, TcpFault};
use tcpls_core::event::{Event, TcpEvent};
use tcpls_core::time::Time;
use tcpls_core::wire::ids::{ConnectionId, ErrorCode, Side, StreamId};

use super::end::End;
use super::pipe::{Pipe, Role};
use super::tls::{Tls, start_client};
use super::{Ledger, seed};

/// The secret that tokens are made with.
const SECRET: [u8; 32] = [0x5e; 32];

/// Where a pair begins.
#[derive(Clone)]
pub struct Setup {
    pub seed: u64,
    pub client: Config,
    pub server: Config,
    pub tls: Tls,
    /// Bytes that a socket takes before it is full.
    pub socket_buffer: usize,
}

impl Default for Setup {
    fn default() -> Self {
        let (client, server) = (Config::default(), Config::default());
        Self { seed: 1, client, server, tls: Tls::default(), socket_buffer: 64 << 10 }
    }
}

impl Setup {
    /// Changes the configuration of both ends.
    pub fn both(mut self, change: impl Fn(&mut Config)) -> Self {
        change(&mut self.client);
        change(&mut self.server);
        self
    }

    /// A pair whose first TCP connection is there and has carried nothing.
    pub fn start(self) -> Pair {
        let client = self.tls.client(self.seed);
        let server = self.tls.server(self.seed);
        Pair::new(self, start_client(&client), server)
    }

    /// A pair whose handshake is over.
    pub fn established(self) -> Pair {
        let mut pair = self.start();
        pair.drive();
        assert_eq!(pair.client().state(), State::Established);
        assert_eq!(pair.server().state(), State::Established);
        pair
    }
}

/// See the module's description.
pub struct Pair {
    pub now: Time,
    pub endpoint: Endpoint,
    pub socket_buffer: usize,
    client: End,
    /// There once the endpoint has seen a ClientHello.
    server: Option<End>,
    pipes: Vec<Pipe>,
    ledger: Ledger,
    server_tls: RustlsServer,
    server_config: Arc<Config>,
    seed: u64,
}

impl Pair {
    /// A pair from given TLS ends, so that a later pair can resume what an earlier one began.
    pub fn new(setup: Setup, client: Box<dyn tcpls_core::crypto::Handshake>, server_tls: RustlsServer) -> Self {
        let (now, ledger) = (Time::from_millis(1_000), Ledger::default());
        let config = Arc::new(setup.client.clone());
        let conn = Connection::client(now, config, ledger.watch(client), seed(setup.seed ^ 0xc11e));
        let mut pair = Self {
            now,
            endpoint: Endpoint::new(EndpointConfig::default(), SECRET, seed(setup.seed ^ 0xe4d)),
            socket_buffer: setup.socket_buffer,
            client: End::new(conn, &setup.client),
            server: None,
            pipes: Vec::new(),
            ledger,
            server_tls,
            server_config: Arc::new(setup.server),
            seed: setup.seed,
        };
        pair.connect(Role::Tcp(ConnectionId::FIRST));
        pair
    }

    /// Both ends as they are by default, after the handshake.
    pub fn established() -> Self {
        Setup::default().established()
    }

    /// After the handshake, with `n` TCP connections.
    pub fn with_tcp_connections(n: usize) -> Self {
        let mut pair = Self::established();
        (1..n).for_each(|_| _ = pair.join());
        pair
    }

    /// From now on all TCP connections of both ends take what they have room for, whatever is known of their speed.
    pub fn spread(&mut self) {
        for side in [Side::Client, Side::Server] {
            self.conn(side).set_scheduler(Box::new(Aggregate));
        }
    }

    pub fn client(&mut self) -> &mut Connection {
        &mut self.client.conn
    }

    pub fn server(&mut self) -> &mut Connection {
        self.conn(Side::Server)
    }

    pub fn conn(&mut self, side: Side) -> &mut Connection {
        &mut self.end(side).conn
    }

    pub fn update_keys(&mut self, side: Side) {
        let now = self.now;
        self.conn(side).update_keys(now);
    }

    pub fn end(&mut self, side: Side) -> &mut End {
        match side {
            Side::Client => &mut self.client,
            Side::Server => self.server.as_mut().expect("the ClientHello has not arrived"),
        }
    }

    fn try_end(&mut self, side: Side) -> Option<&mut End> {
        match side {
            Side::Client => Some(&mut self.client),
            Side::Server => self.server.as_mut(),
        }
    }

    // TCP connections.

    fn connect(&mut self, client: Role) -> usize {
        let incoming = self.endpoint.handle_accepted(self.now);
        self.pipes.push(Pipe::new(client, Role::Door(incoming)));
        self.pipes.len() - 1
    }

    /// The client opens a TCP connection and spends a token on it. Nothing is sent yet.
    pub fn open_tcp(&mut self) -> ConnectionId {
        let tcp = self.client.conn.open_tcp(self.now).unwrap();
        self.connect(Role::Tcp(tcp));
        tcp
    }

    /// The same, waiting for the ServerHello before anything else is sent.
    pub fn open_tcp_slowly(&mut self) -> ConnectionId {
        self.open_tcp_with(JoinOptions::default())
    }

    pub fn open_tcp_with(&mut self, options: JoinOptions) -> ConnectionId {
        let tcp = self.client.conn.open_tcp_with(self.now, options).unwrap();
        self.connect(Role::Tcp(tcp));
        tcp
    }

    /// One more TCP connection becomes part of the session.
    pub fn join(&mut self) -> ConnectionId {
        let tcp = self.open_tcp();
        self.drive();
        for side in [Side::Client, Side::Server] {
            assert!(self.conn(side).tcp_connections().any(|live| live == tcp), "{side:?} does not have {tcp}");
        }
        tcp
    }

    /// A TCP connection to the server that is no client's; the number names it.
    pub fn connect_stranger(&mut self) -> usize {
        self.connect(Role::Stranger)
    }

    /// The stranger writes.
    pub fn stranger_sends(&mut self, stranger: usize, bytes: &[u8]) {
        self.pipes[stranger].up.send(bytes);
    }

    /// What the stranger has received, and whether the server has closed.
    pub fn stranger_has(&mut self, stranger: usize) -> (Vec<u8>, bool) {
        let pipe = &mut self.pipes[stranger];
        (pipe.down.inbox.to_vec(), pipe.down.end_told)
    }

    /// The pipe of a TCP connection of the client's.
    pub fn pipe(&mut self, tcp: ConnectionId) -> &mut Pipe {
        let number = self.number(tcp);
        &mut self.pipes[number]
    }

    fn number(&self, tcp: ConnectionId) -> usize {
        let found = self.pipes.iter().rposition(|pipe| pipe.name == Some(tcp));
        found.unwrap_or_else(|| panic!("{tcp} never was"))
    }

    /// Whether any end has a socket for it.
    pub fn has_socket(&self, tcp: ConnectionId) -> bool {
        self.pipes.iter().any(|pipe| pipe.client == Role::Tcp(tcp) || pipe.server == Role::Tcp(tcp))
    }

    /// All bytes that were ever sent, by pipe and direction.
    pub fn wire(&self) -> Vec<(&[u8], &[u8])> {
        self.pipes.iter().map(|pipe| (&pipe.up.log[..], &pipe.down.log[..])).collect()
    }

    /// Bytes in flight vanish, both ends see a reset.
    pub fn cut(&mut self, tcp: ConnectionId) {
        let number = self.number(tcp);
        let (client, server) = (self.pipes[number].client, self.pipes[number].server);
        self.pipes[number].cut();
        self.tell_end(Side::Client, client, TcpEnd::Reset);
        self.tell_end(Side::Server, server, TcpEnd::Reset);
        self.settle();
    }

    /// Nothing arrives on it any more, in either direction.
    pub fn stall(&mut self, tcp: ConnectionId) {
        self.set_stalled(tcp, true);
    }

    pub fn unstall(&mut self, tcp: ConnectionId) {
        self.set_stalled(tcp, false);
    }

    /// Nothing arrives at `side`; what it sends still does.
    pub fn stall_towards(&mut self, tcp: ConnectionId, side: Side) {
        self.pipe(tcp).towards(side).stalled = true;
    }

    /// Whether there are bytes that were sent to `side` and have not arrived.
    pub fn is_under_way(&mut self, tcp: ConnectionId, side: Side) -> bool {
        !self.pipe(tcp).towards(side).in_flight.is_empty()
    }

    fn set_stalled(&mut self, tcp: ConnectionId, stalled: bool) {
        let pipe = self.pipe(tcp);
        (pipe.up.stalled, pipe.down.stalled) = (stalled, stalled);
    }

    /// Every stall ends.
    pub fn heal(&mut self) {
        self.pipes.iter_mut().for_each(|pipe| (pipe.up.stalled, pipe.down.stalled) = (false, false));
    }

    /// An attacker on the path flips a bit of what is under way to `side`.
    pub fn corrupt(&mut self, tcp: ConnectionId, side: Side) {
        let flow = self.pipe(tcp).towards(side);
        let last = flow.in_flight.back_mut().expect("something must be under way");
        *last ^= 0x10;
    }

    fn tell_end(&mut self, side: Side, role: Role, how: TcpEnd) {
        let now = self.now;
        match role {
            Role::Door(incoming) => self.endpoint.handle_end(incoming),
            Role::Claim(claim) => self.conn(side).handle_claim_end(claim),
            Role::Tcp(tcp) => self.conn(side).handle_tcp_end(now, tcp, how),
            Role::Stranger | Role::Closed => {}
        }
    }

    // What an application does.

    pub fn open_stream(&mut self, side: Side) -> StreamId {
        self.conn(side).open_stream().unwrap()
    }

    /// Writes all of `data`, for which there must be room.
    pub fn write(&mut self, side: Side, id: StreamId, data: &[u8]) {
        let mut rest = data;
        while !rest.is_empty() {
            let taken = self.conn(side).stream(id).write(rest).unwrap();
            rest = &rest[taken..];
        }
    }

    pub fn finish(&mut self, side: Side, id: StreamId) {
        self.conn(side).stream(id).finish().unwrap();
    }

    /// Has the application write `data` and finish the stream, as there is room.
    pub fn submit(&mut self, side: Side, id: StreamId, data: &[u8]) {
        self.end(side).submit(id, Bytes::copy_from_slice(data), true);
    }

    /// What came on a stream since this was called last.
    pub fn read_all(&mut self, side: Side, id: StreamId) -> Vec<u8> {
        std::mem::take(&mut self.end(side).inbox(id).bytes)
    }

    /// How a stream ended, as its reader sees it; `None` if it has not.
    pub fn stream_end(&mut self, side: Side, id: StreamId) -> Option<Result<(), ReadError>> {
        self.end(side).inbox(id).end
    }

    /// `side` opens a stream, writes `data`, finishes it; the other end has all of it once everything is delivered.
    pub fn transfer(&mut self, side: Side, data: &[u8]) {
        let id = self.open_stream(side);
        self.submit(side, id, data);
        self.drive();
        self.assert_received(side.peer(), id, data);
    }

    /// All of `data` came, and the end.
    pub fn assert_received(&mut self, side: Side, id: StreamId, data: &[u8]) {
        let got = self.read_all(side, id);
        assert_eq!(got.len(), data.len(), "{side:?} has another length of {id}");
        assert!(got == data, "{side:?} has other bytes of {id}");
        assert_eq!(self.stream_end(side, id), Some(Ok(())), "{side:?} has no end of {id}");
    }

    pub fn close(&mut self, side: Side, error: u32, reason: &[u8]) {
        let now = self.now;
        self.conn(side).close(now, ErrorCode(error), reason);
        self.settle();
    }

    // What an end was told.

    pub fn events(&mut self, side: Side) -> &[Event] {
        &self.end(side).events
    }

    /// How TCP connections came and went.
    pub fn tcp_events(&mut self, side: Side) -> Vec<TcpEvent> {
        let tcp = |event: &Event| match event {
            Event::Tcp(TcpEvent::Stalled { .. } | TcpEvent::Resumed { .. } | TcpEvent::Status { .. }) => None,
            Event::Tcp(event) => Some(*event),
            _ => None,
        };
        self.events(side).iter().filter_map(tcp).collect()
    }

    /// Why a TCP connection was lost, if it was.
    pub fn fault(&mut self, side: Side, lost: ConnectionId) -> Option<TcpFault> {
        self.tcp_events(side).into_iter().find_map(|event| match event {
            TcpEvent::Lost { tcp, fault } if tcp == lost => Some(fault),
            _ => None,
        })
    }

    pub fn close_reason(&mut self, side: Side) -> Option<CloseReason> {
        self.conn(side).close_reason().cloned()
    }

    /// The live TCP connections.
    pub fn live(&mut self, side: Side) -> Vec<ConnectionId> {
        self.conn(side).tcp_connections().collect()
    }
}

pub fn joined(tcp: ConnectionId) -> TcpEvent {
    TcpEvent::Joined { tcp }
}

pub fn lost(tcp: ConnectionId, fault: TcpFault) -> TcpEvent {
    TcpEvent::Lost { tcp, fault }
}

pub fn discarded(tcp: ConnectionId) -> TcpEvent {
    TcpEvent::Discarded { tcp }
}

/// Bytes in which no part is like another.
pub fn bytes(len: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_u32;
    let step = |_| {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state.to_be_bytes()[0]
    };
    (0..len).map(step).collect()
}
