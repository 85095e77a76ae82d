//! Two ends of a session, the server's endpoint, and the TCP connections between them, in virtual time.

mod end;
mod pipe;
mod setup;
mod world;

use std::sync::Arc;

use bytes::Bytes;

pub use self::end::{End, Inbox};
use self::pipe::Pipe;
pub use self::pipe::{Flow, Role};
pub use self::setup::Setup;
use super::Recordings;
use super::ledger::Ledger;
use super::recordings::Kept;
use super::seed;
use crate::config::Config;
use crate::connection::schedule::Aggregate;
use crate::connection::{Connection, JoinOptions, TcpEnd};
use crate::crypto::Handshake;
use crate::endpoint::{Endpoint, EndpointConfig};
use crate::error::{CloseReason, OpenTcpError, ReadError, TcpFault};
use crate::event::{Event, TcpEvent};
use crate::time::Time;
use crate::wire::ids::{ConnectionId, ErrorCode, Side, StreamId};

/// The secret that tokens are made with.
const SECRET: [u8; 32] = [0x5e; 32];
const SIDES: [Side; 2] = [Side::Client, Side::Server];

/// Two ends of a session and the TCP connections between them.
///
/// Nothing happens that the test did not ask for: [`Pair::drive`] asks for everything, [`Pair::deliver`] for a single
/// byte. After each step the pair checks the [`Oracle`](super::Oracle) of each end and the [`Ledger`], and panics if they
/// complain. A TCP connection is named by the client's [`ConnectionId`].
pub struct Pair {
    /// The present moment; it begins at 1 s.
    pub now: Time,
    /// The server's endpoint.
    pub endpoint: Endpoint,
    /// The bytes that a socket takes before it is full.
    pub socket_buffer: usize,
    client: End,
    /// There once the endpoint has seen a ClientHello.
    server: Option<End>,
    pipes: Vec<Pipe>,
    ledger: Ledger,
    server_handshake: Option<Box<dyn Handshake>>,
    server_config: Arc<Config>,
    seed: u64,
    recordings: Option<Recordings>,
    _kept: Kept,
}

impl Pair {
    /// Returns a pair with given handshakes, so that a later pair can resume a session of an earlier one.
    ///
    /// `setup.tls` is ignored.
    pub fn new(setup: Setup, client: Box<dyn Handshake>, server: Box<dyn Handshake>) -> Self {
        let (now, ledger) = (Time::from_millis(1_000), Ledger::default());
        let config = Arc::new(setup.client.clone());
        let kept = Kept::new();
        let recordings = setup.recordings.or_else(|| kept.recordings().cloned());
        let recorder = recordings.as_ref().map(Recordings::recorder);
        let conn = Connection::client_with(now, config, ledger.watch(client), seed(setup.seed ^ 0xc11e), recorder);
        let mut pair = Self {
            now,
            endpoint: Endpoint::new(EndpointConfig::default(), SECRET, seed(setup.seed ^ 0xe4d)),
            socket_buffer: setup.socket_buffer,
            client: End::new(conn, &setup.client),
            server: None,
            pipes: Vec::new(),
            ledger,
            server_handshake: Some(server),
            server_config: Arc::new(setup.server),
            seed: setup.seed,
            recordings,
            _kept: kept,
        };
        pair.connect(Role::Tcp(ConnectionId::FIRST));
        pair
    }

    /// Returns a pair with the default setup whose handshake is complete.
    pub fn established() -> Self {
        Setup::default().established()
    }

    /// Returns such a pair with `n` TCP connections, at most 8.
    pub fn with_tcp_connections(n: usize) -> Self {
        let mut pair = Self::established();
        (1..n).for_each(|_| _ = pair.join());
        pair
    }

    /// Makes both ends use every TCP connection that has room, whatever is known of their speed.
    pub fn spread(&mut self) {
        for side in [Side::Client, Side::Server] {
            self.conn(side).set_scheduler(Box::new(Aggregate));
        }
    }

    /// Returns the client's session.
    pub fn client(&mut self) -> &mut Connection {
        &mut self.client.conn
    }

    /// Returns the server's session. Panics if the ClientHello has not arrived.
    pub fn server(&mut self) -> &mut Connection {
        self.conn(Side::Server)
    }

    /// Returns the session of one end.
    pub fn conn(&mut self, side: Side) -> &mut Connection {
        &mut self.end(side).conn
    }

    /// Renews the sending keys of one end.
    pub fn update_keys(&mut self, side: Side) {
        let now = self.now;
        self.conn(side).update_keys(now);
    }

    /// Returns one end with its application.
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
        self.pipes.push(Pipe::new(client, Role::Incoming(incoming)));
        self.pipes.len() - 1
    }

    /// Has the client open a TCP connection with a token. Nothing is sent yet.
    ///
    /// Panics if the client has no token or as many TCP connections as it may have.
    pub fn open_tcp(&mut self) -> ConnectionId {
        let tcp = self.client.conn.open_tcp(self.now).expect("the client can open a TCP connection");
        self.connect(Role::Tcp(tcp));
        tcp
    }

    /// Does the same, but the client sends nothing behind its ClientHello before the ServerHello arrives.
    pub fn open_tcp_slowly(&mut self) -> ConnectionId {
        self.open_tcp_with(JoinOptions::default())
    }

    /// Does the same with options.
    pub fn open_tcp_with(&mut self, options: JoinOptions) -> ConnectionId {
        self.try_open_tcp(options).expect("the client can open a TCP connection")
    }

    /// Does the same, unless the client cannot open one.
    ///
    /// # Errors
    /// Those of [`Connection::open_tcp_with`].
    pub fn try_open_tcp(&mut self, options: JoinOptions) -> Result<ConnectionId, OpenTcpError> {
        let tcp = self.client.conn.open_tcp_with(self.now, options)?;
        self.connect(Role::Tcp(tcp));
        Ok(tcp)
    }

    /// Adds a TCP connection to the session and drives the pair until it has joined.
    pub fn join(&mut self) -> ConnectionId {
        let tcp = self.open_tcp();
        self.drive();
        for side in [Side::Client, Side::Server] {
            assert!(self.conn(side).tcp_connections().any(|live| live == tcp), "{side:?} does not have {tcp}");
        }
        tcp
    }

    /// Connects a socket to the server that the test reads and writes itself. Returns its number.
    pub fn connect_stranger(&mut self) -> usize {
        self.connect(Role::Stranger)
    }

    /// Writes on a socket of [`Pair::connect_stranger`].
    pub fn stranger_sends(&mut self, stranger: usize, bytes: &[u8]) {
        self.pipes[stranger].up.send(bytes);
    }

    /// Returns what arrived on a socket of [`Pair::connect_stranger`], and whether the server has closed it.
    pub fn stranger_has(&mut self, stranger: usize) -> (Vec<u8>, bool) {
        let pipe = &mut self.pipes[stranger];
        (pipe.down.inbox.to_vec(), pipe.down.end_reported)
    }

    /// Returns what `side` knows the socket of a TCP connection as.
    pub fn role(&self, tcp: ConnectionId, side: Side) -> Role {
        self.pipes[self.number(tcp)].role(side)
    }

    fn number(&self, tcp: ConnectionId) -> usize {
        let found = self.pipes.iter().rposition(|pipe| pipe.name == Some(tcp));
        found.unwrap_or_else(|| panic!("{tcp} never existed"))
    }

    /// Returns whether any end has a socket for a TCP connection.
    pub fn has_socket(&self, tcp: ConnectionId) -> bool {
        let is_open = |pipe: &Pipe| SIDES.into_iter().any(|side| pipe.role(side) == Role::Tcp(tcp));
        self.pipes.iter().any(is_open)
    }

    /// Returns all bytes that were ever sent: to the server and to the client, by TCP connection in the order of opening.
    pub fn wire(&self) -> Vec<(&[u8], &[u8])> {
        self.pipes.iter().map(|pipe| (&pipe.up.log[..], &pipe.down.log[..])).collect()
    }

    /// Resets a TCP connection: bytes in flight vanish, both ends see a reset.
    pub fn cut(&mut self, tcp: ConnectionId) {
        let number = self.number(tcp);
        let (client, server) = (self.pipes[number].role(Side::Client), self.pipes[number].role(Side::Server));
        self.pipes[number].cut();
        self.report_end(Side::Client, client, TcpEnd::Reset);
        self.report_end(Side::Server, server, TcpEnd::Reset);
        self.settle();
    }

    /// Resets a TCP connection in the network: bytes in flight vanish, now and later. Each end sees the reset when something
    /// would be delivered to it next.
    pub fn sever(&mut self, tcp: ConnectionId) {
        let number = self.number(tcp);
        self.pipes[number].sever();
    }

    /// Makes the path of a TCP connection hold back all bytes, in both directions.
    pub fn stall(&mut self, tcp: ConnectionId) {
        self.set_stalled(tcp, true);
    }

    /// Ends the stall of a TCP connection.
    pub fn unstall(&mut self, tcp: ConnectionId) {
        self.set_stalled(tcp, false);
    }

    /// Makes the path hold back the bytes to `side` alone.
    pub fn stall_towards(&mut self, tcp: ConnectionId, side: Side) {
        self.flow(tcp, side).stalled = true;
    }

    /// Returns whether bytes are under way to `side`.
    pub fn is_under_way(&mut self, tcp: ConnectionId, side: Side) -> bool {
        !self.flow(tcp, side).in_flight.is_empty()
    }

    fn set_stalled(&mut self, tcp: ConnectionId, stalled: bool) {
        SIDES.into_iter().for_each(|side| self.flow(tcp, side).stalled = stalled);
    }

    /// Ends every stall.
    pub fn heal(&mut self) {
        self.pipes.iter_mut().for_each(|pipe| (pipe.up.stalled, pipe.down.stalled) = (false, false));
    }

    /// Flips a bit of the last byte that is under way to `side`. Panics if there is none.
    pub fn corrupt(&mut self, tcp: ConnectionId, side: Side) {
        let flow = self.flow(tcp, side);
        let last = flow.in_flight.back_mut().expect("something must be under way");
        *last ^= 0x10;
    }

    fn report_end(&mut self, side: Side, role: Role, how: TcpEnd) {
        let now = self.now;
        match role {
            Role::Incoming(incoming) => self.endpoint.handle_end(incoming),
            Role::Claim(claim) => self.conn(side).handle_claim_end(claim),
            Role::Tcp(tcp) => self.conn(side).handle_tcp_end(now, tcp, how),
            Role::Stranger | Role::Closed => {}
        }
    }

    // What an application does.

    /// Opens a stream. Panics if the peer allows none.
    pub fn open_stream(&mut self, side: Side) -> StreamId {
        self.conn(side).open_stream().expect("the peer allows a stream")
    }

    /// Writes all of `data`. Panics if there is no room for it.
    pub fn write(&mut self, side: Side, id: StreamId, data: &[u8]) {
        let mut rest = data;
        while !rest.is_empty() {
            let taken = self.conn(side).stream(id).write(rest).expect("there is room");
            rest = &rest[taken..];
        }
    }

    /// Finishes a stream.
    pub fn finish(&mut self, side: Side, id: StreamId) {
        self.conn(side).stream(id).finish().expect("the stream is open");
    }

    /// Has the application write `data` as there is room, and finish the stream.
    pub fn submit(&mut self, side: Side, id: StreamId, data: &[u8]) {
        self.end(side).submit(id, Bytes::copy_from_slice(data), true);
    }

    /// Returns what was read from a stream since the last call.
    pub fn read_all(&mut self, side: Side, id: StreamId) -> Vec<u8> {
        std::mem::take(&mut self.end(side).inbox(id).bytes)
    }

    /// Returns how a stream ended as its reader sees it; `None` if it has not.
    pub fn stream_end(&mut self, side: Side, id: StreamId) -> Option<Result<(), ReadError>> {
        self.end(side).inbox(id).end
    }

    /// Transfers `data` from `side` on a new stream, drives the pair, and asserts that all of it arrived.
    pub fn transfer(&mut self, side: Side, data: &[u8]) {
        let id = self.open_stream(side);
        self.submit(side, id, data);
        self.drive();
        self.assert_received(side.peer(), id, data);
    }

    /// Asserts that all of `data` arrived at `side`, and the end of the stream.
    pub fn assert_received(&mut self, side: Side, id: StreamId, data: &[u8]) {
        let got = self.read_all(side, id);
        assert_eq!(got.len(), data.len(), "{side:?} has another length of {id}");
        assert!(got == data, "{side:?} has other bytes of {id}");
        assert_eq!(self.stream_end(side, id), Some(Ok(())), "{side:?} has no end of {id}");
    }

    /// Closes the session.
    pub fn close(&mut self, side: Side, error: u32, reason: &[u8]) {
        let now = self.now;
        self.conn(side).close(now, ErrorCode(error), reason);
        self.settle();
    }

    // What an end has seen.

    /// Returns every event of an end so far.
    pub fn events(&mut self, side: Side) -> &[Event] {
        &self.end(side).events
    }

    /// Returns the events `Joined`, `Lost` and `Discarded` of an end so far.
    pub fn tcp_events(&mut self, side: Side) -> Vec<TcpEvent> {
        let tcp = |event: &Event| match event {
            Event::Tcp(TcpEvent::Stalled { .. } | TcpEvent::Resumed { .. } | TcpEvent::Status { .. }) => None,
            Event::Tcp(event) => Some(*event),
            _ => None,
        };
        self.events(side).iter().filter_map(tcp).collect()
    }

    /// Returns why a TCP connection was lost, if it was.
    pub fn fault(&mut self, side: Side, lost: ConnectionId) -> Option<TcpFault> {
        self.tcp_events(side).into_iter().find_map(|event| match event {
            TcpEvent::Lost { tcp, fault } if tcp == lost => Some(fault),
            _ => None,
        })
    }

    /// Returns why the session of an end is over, if it is.
    pub fn close_reason(&mut self, side: Side) -> Option<CloseReason> {
        self.conn(side).close_reason().cloned()
    }

    /// Returns the live TCP connections of an end.
    pub fn live(&mut self, side: Side) -> Vec<ConnectionId> {
        self.conn(side).tcp_connections().collect()
    }
}
