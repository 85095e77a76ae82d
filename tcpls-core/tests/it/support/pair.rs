//! Two ends of a session, the server's endpoint, and the TCP connections between them, in virtual time. Nothing happens
//! that a test did not ask for; [`Pair::drive`] asks for everything.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tcpls_core::config::Config;
use tcpls_core::connection::schedule::Aggregate;
use tcpls_core::connection::{Claim, Connection, State, TcpEnd};
use tcpls_core::crypto::rustls::RustlsServer;
use tcpls_core::endpoint::{Endpoint, EndpointConfig, Incoming, Join};
use tcpls_core::error::{CloseReason, ReadError, TcpFault};
use tcpls_core::event::{Event, TcpEvent};
use tcpls_core::time::Time;
use tcpls_core::wire::ids::{ConnectionId, ErrorCode, Side, StreamId};

use super::end::End;
use super::ledger::Watched;
use super::pipe::{Flow, Pipe, Role};
use super::tls::{Tls, seed, start_client};

/// Rounds after which a pair that never comes to rest counts as livelocked.
const MAX_ROUNDS: usize = 50_000;
/// How long bytes are under way.
const LATENCY: Duration = Duration::from_millis(1);
/// [`Pair::drive`] waits for what will happen within this time; the longer timeouts are for [`Pair::drive_for`].
const PATIENCE: Duration = Duration::from_secs(1);
/// With so much room, a TCP connection that wants to write does.
const ENOUGH_ROOM: usize = 256;
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
    server_tls: RustlsServer,
    server_config: Arc<Config>,
    seed: u64,
}

impl Pair {
    /// A pair from given TLS ends, so that a later pair can resume what an earlier one began.
    pub fn new(setup: Setup, client: Box<dyn tcpls_core::crypto::Handshake>, server_tls: RustlsServer) -> Self {
        let now = Time::from_millis(1_000);
        let config = Arc::new(setup.client.clone());
        let conn = Connection::client(now, config, Box::new(Watched(client)), seed(setup.seed ^ 0xc11e));
        let mut pair = Self {
            now,
            endpoint: Endpoint::new(EndpointConfig::default(), SECRET, seed(setup.seed ^ 0xe4d)),
            socket_buffer: setup.socket_buffer,
            client: End::new(conn, &setup.client),
            server: None,
            pipes: Vec::new(),
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
        let tcp = self.client.conn.open_tcp_with(self.now, false).unwrap();
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
        let found = self.pipes.iter().position(|pipe| pipe.name == Some(tcp));
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

    fn set_stalled(&mut self, tcp: ConnectionId, stalled: bool) {
        let pipe = self.pipe(tcp);
        (pipe.up.stalled, pipe.down.stalled) = (stalled, stalled);
    }

    /// Every stall ends.
    pub fn heal(&mut self) {
        self.pipes.iter_mut().for_each(|pipe| (pipe.up.stalled, pipe.down.stalled) = (false, false));
    }

    /// Somebody on the path flips a bit of what is under way to `side`.
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

    // How the world turns.

    /// One end's application and sockets do what they can; whether anything was sent.
    pub fn step(&mut self, side: Side) -> bool {
        if self.try_end(side).is_none() {
            return false;
        }
        self.end(side).run_application();
        let mut sent = false;
        for number in 0..self.pipes.len() {
            if let Role::Tcp(tcp) = self.pipes[number].role(side) {
                sent |= self.transmit(side, number, tcp);
            }
        }
        self.settle();
        sent
    }

    fn transmit(&mut self, side: Side, number: usize, tcp: ConnectionId) -> bool {
        let (now, buffer) = (self.now, self.socket_buffer);
        let mut out = Vec::new();
        loop {
            let room = buffer.saturating_sub(self.pipes[number].towards(side.peer()).in_flight.len() + out.len());
            let before = out.len();
            let wanted = self.conn(side).wants_write(tcp);
            let written = self.conn(side).poll_transmit(now, tcp, room, &mut out);
            assert_eq!(out.len() - before, written, "poll_transmit says how much it appended");
            assert!(written <= room, "poll_transmit keeps to the room that there is");
            assert!(wanted || written == 0, "{side:?} did not want to write on {tcp}, and wrote");
            let idle = written == 0 && room >= ENOUGH_ROOM;
            assert!(!(idle && self.conn(side).wants_write(tcp)), "{side:?} wants to write on {tcp} and does not");
            if written == 0 {
                break;
            }
        }
        self.pipes[number].towards(side.peer()).send(&out);
        !out.is_empty()
    }

    /// Delivers at most `n` bytes of one direction of a TCP connection; how many that were.
    pub fn deliver(&mut self, tcp: ConnectionId, to: Side, n: usize) -> usize {
        let number = self.number(tcp);
        self.deliver_on(number, to, n)
    }

    fn deliver_on(&mut self, number: usize, to: Side, n: usize) -> usize {
        let arrived = self.pipes[number].towards(to).arrive(n);
        if arrived > 0 {
            self.receive(number, to);
            self.settle();
        }
        if self.pipes[number].towards(to).is_at_end() {
            self.pipes[number].towards(to).end_told = true;
            let role = self.pipes[number].role(to);
            self.tell_end(to, role, TcpEnd::Fin);
            self.pipes[number].set_role(to, if role == Role::Stranger { role } else { Role::Closed });
            self.pipes[number].towards(to.peer()).finished = true;
            self.settle();
            return arrived + 1;
        }
        arrived
    }

    fn receive(&mut self, number: usize, side: Side) {
        let now = self.now;
        let mut inbox = std::mem::take(&mut self.pipes[number].towards(side).inbox);
        match self.pipes[number].role(side) {
            Role::Tcp(tcp) => self.conn(side).handle_bytes(now, tcp, &mut inbox),
            Role::Claim(claim) => _ = self.conn(side).handle_claim_bytes(now, claim, &mut inbox),
            Role::Door(incoming) => {
                let recognised = self.endpoint.handle_bytes(now, incoming, &mut inbox);
                self.pipes[number].towards(side).inbox = inbox;
                return recognised.into_iter().for_each(|incoming| self.recognised(number, incoming));
            }
            Role::Stranger => {}
            Role::Closed => inbox.clear(),
        }
        self.pipes[number].towards(side).inbox = inbox;
    }

    fn recognised(&mut self, number: usize, incoming: Incoming) {
        match incoming {
            Incoming::New(session) => {
                let tls = Box::new(Watched(self.server_tls.handshake().unwrap()));
                let config = self.server_config.clone();
                let conn = Connection::server(self.now, config.clone(), tls, session, seed(self.seed ^ 0x5e4));
                assert!(self.server.is_none(), "a pair has one session");
                self.server = Some(End::new(conn, &config));
                self.pipes[number].server = Role::Tcp(ConnectionId::FIRST);
                self.receive(number, Side::Server);
            }
            Incoming::Join(join) => self.claim(number, join),
            Incoming::Refused { alert } => self.refuse(number, &alert),
        }
    }

    fn claim(&mut self, number: usize, join: Join) {
        let now = self.now;
        if self.server().session_id() != Some(join.session()) {
            return self.refuse(number, &Endpoint::refuse_join(&join));
        }
        let claim = self.server().handle_join(now, join);
        self.pipes[number].server = Role::Claim(claim);
        self.receive(number, Side::Server);
    }

    fn refuse(&mut self, number: usize, alert: &[u8]) {
        self.pipes[number].down.send(alert);
        self.pipes[number].close(Side::Server);
    }

    /// After anything: claims are decided, events are heard, sockets closed, invariants checked.
    pub fn settle(&mut self) {
        self.settle_claims();
        for side in [Side::Client, Side::Server] {
            let Some(end) = self.try_end(side) else { continue };
            let discarded = end.take_events();
            discarded.into_iter().for_each(|tcp| self.discard(side, tcp));
            self.end(side).check();
        }
    }

    fn settle_claims(&mut self) {
        for number in 0..self.pipes.len() {
            let Role::Claim(claim) = self.pipes[number].server else { continue };
            self.receive(number, Side::Server);
            let mut out = Vec::new();
            self.server().poll_claim_transmit(claim, &mut out);
            self.pipes[number].down.send(&out);
            match self.server().claim(claim) {
                Claim::Waiting => {}
                Claim::Proven(tcp) => self.pipes[number].server = Role::Tcp(tcp),
                Claim::Refused => self.pipes[number].close(Side::Server),
            }
        }
    }

    /// The owner of an end writes the last words and closes the socket.
    fn discard(&mut self, side: Side, tcp: ConnectionId) {
        let Some(number) = (0..self.pipes.len()).find(|&number| self.pipes[number].role(side) == Role::Tcp(tcp)) else {
            return;
        };
        let now = self.now;
        let mut words = Vec::new();
        self.conn(side).poll_transmit(now, tcp, usize::MAX, &mut words);
        self.pipes[number].towards(side.peer()).send(&words);
        self.pipes[number].close(side);
    }

    /// Delivers all that is under way; whether anything was.
    pub fn deliver_all(&mut self) -> bool {
        let mut moved = false;
        for number in 0..self.pipes.len() {
            for side in [Side::Server, Side::Client] {
                moved |= self.deliver_on(number, side, usize::MAX) > 0;
            }
        }
        moved
    }

    /// Both ends act, everything is delivered; whether anything happened.
    pub fn round(&mut self) -> bool {
        let sent = self.step(Side::Client) | self.step(Side::Server);
        if sent {
            self.advance(LATENCY);
        }
        sent | self.deliver_all()
    }

    /// Time passes, and what it makes due happens.
    pub fn advance(&mut self, by: Duration) {
        self.now += by;
        let now = self.now;
        for side in [Side::Client, Side::Server] {
            let Some(end) = self.try_end(side) else { continue };
            if end.conn.poll_timeout().is_none_or(|at| at > now) {
                continue;
            }
            end.conn.handle_timeout(now);
            let left = (end.conn.poll_timeout(), end.conn.timeout_reason());
            assert!(
                left.0.is_none_or(|at| at > now),
                "{side:?} at {now:?} is left with a timeout in the past: {left:?}"
            );
        }
        self.endpoint.handle_timeout(now);
        while let Some((incoming, alert)) = self.endpoint.poll_refused() {
            let refused = self.pipes.iter().position(|pipe| pipe.server == Role::Door(incoming));
            refused.into_iter().for_each(|number| self.refuse(number, &alert));
        }
        self.settle();
    }

    fn next_timeout(&mut self) -> Option<Time> {
        let sides = [Side::Client, Side::Server];
        sides.into_iter().filter_map(|side| self.try_end(side)?.conn.poll_timeout()).min()
    }

    /// Delivers everything, waits for what is due soon, until nothing happens any more.
    pub fn drive(&mut self) {
        for _ in 0..MAX_ROUNDS {
            if self.round() {
                continue;
            }
            match self.next_timeout() {
                Some(at) if at <= self.now + PATIENCE => self.advance(at - self.now),
                _ => return,
            }
        }
        panic!("the pair does not come to rest");
    }

    /// The same, for so long that `time` has passed.
    pub fn drive_for(&mut self, time: Duration) {
        let end = self.now + time;
        for _ in 0..MAX_ROUNDS {
            if self.round() {
                continue;
            }
            match self.next_timeout() {
                Some(at) if at <= end => self.advance(at - self.now),
                _ => {
                    let rest = end - self.now;
                    self.advance(rest);
                    while self.round() {}
                    return;
                }
            }
        }
        panic!("the pair does not come to rest");
    }

    /// A direction of a TCP connection.
    pub fn flow(&mut self, tcp: ConnectionId, to: Side) -> &mut Flow {
        self.pipe(tcp).towards(to)
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
