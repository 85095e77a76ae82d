//! The network between two endpoints: byte pipes, one for each TCP connection, which deliver as much as the script
//! requests, stall, corrupt a byte, or are cut. It is also the driver of both endpoints: it takes their bytes, passes
//! received ones, and closes sockets. The script determines the order of calls.

use core::time::Duration;

use bytes::BytesMut;
use tcpls_core::connection::{JoinOptions, TimeoutReason};
use tcpls_core::{
    Claim, ClaimId, Config, Connection, ConnectionId, Endpoint, EndpointConfig, Event, Incoming, IncomingId, Seed,
    Side, TcpEnd, TcpEvent, Time,
};

use super::end::End;
use tcpls_core::testing::NullHandshake;

/// Bytes that a socket and the network behind it hold.
const CAPACITY: usize = 50_000;

/// The state of a TCP connection at the server.
#[derive(Clone, Copy, Debug)]
enum Door {
    Incoming(IncomingId),
    Claim(ClaimId),
    Tcp(ConnectionId),
}

/// One end of a pipe.
#[derive(Debug, Default)]
struct Socket {
    /// On its way here.
    coming: Vec<u8>,
    /// Here, and not taken yet.
    unread: BytesMut,
    /// This end has dropped it.
    closed: bool,
    /// This end knows that nothing comes any more.
    ended: bool,
}

/// One TCP connection.
#[derive(Debug)]
pub(super) struct Pipe {
    tcp: ConnectionId,
    door: Door,
    client: Socket,
    server: Socket,
    stalled: bool,
    cut: bool,
}

impl Pipe {
    fn socket(&mut self, side: Side) -> &mut Socket {
        match side {
            Side::Client => &mut self.client,
            Side::Server => &mut self.server,
        }
    }

    /// Its connection ID at `side`, once it has joined.
    pub(super) fn name(&self, side: Side) -> Option<ConnectionId> {
        match (side, self.door) {
            (Side::Client, _) => Some(self.tcp),
            (Side::Server, Door::Tcp(tcp)) => Some(tcp),
            (Side::Server, _) => None,
        }
    }
}

pub(super) struct World {
    pub(super) now: Time,
    pub(super) client: End,
    pub(super) server: End,
    endpoint: Endpoint,
    pub(super) pipes: Vec<Pipe>,
    /// Bytes that were moved, sockets opened and ends told, ever: nothing happens as long as it stays the same.
    pub(super) moved: u64,
}

impl World {
    /// The client's hello has arrived; the handshake is not complete.
    pub(super) fn new(config: &Config) -> Self {
        let (now, first) = (Time::from_millis(1), ConnectionId::FIRST);
        let tls = |side| Box::new(NullHandshake::new(side, [1; 32]));
        let mut client = Connection::client(now, config.clone().into(), tls(Side::Client), Seed([2; 32]));
        let mut endpoint = Endpoint::new(EndpointConfig::default(), [3; 32], Seed([4; 32]));
        let incoming = endpoint.handle_accepted(now);
        let mut hello = Vec::new();
        client.poll_transmit(now, first, CAPACITY, &mut hello);
        let unread = BytesMut::from(&hello[..]);
        let Some(Incoming::New(session)) = endpoint.handle_bytes(now, incoming, &mut unread.clone()) else {
            panic!("a hello without a token begins a session");
        };
        let server = Connection::server(now, config.clone().into(), tls(Side::Server), session, Seed([5; 32]));
        let (client, server) = (End::new(client, config), End::new(server, config));
        let first = Pipe {
            tcp: first,
            door: Door::Tcp(first),
            client: Socket::default(),
            server: Socket { unread, ..Socket::default() },
            stalled: false,
            cut: false,
        };
        let mut world = Self { now, client, server, endpoint, pipes: vec![first], moved: 0 };
        world.deliver(0, Side::Server, 0);
        world.settle();
        world
    }

    pub(super) fn end(&mut self, side: Side) -> &mut End {
        match side {
            Side::Client => &mut self.client,
            Side::Server => &mut self.server,
        }
    }

    /// The client joins over a new pipe.
    pub(super) fn join(&mut self, zero_rtt: bool) {
        let Ok(tcp) =
            self.client.conn.open_tcp_with(self.now, JoinOptions::default().with(|join| join.zero_rtt = zero_rtt))
        else {
            return;
        };
        self.moved += 1;
        let door = Door::Incoming(self.endpoint.handle_accepted(self.now));
        let (client, server) = (Socket::default(), Socket::default());
        self.pipes.push(Pipe { tcp, door, client, server, stalled: false, cut: false });
    }

    /// Takes from `side` what it has to say, on every pipe that has room.
    pub(super) fn pump(&mut self, side: Side) {
        for at in 0..self.pipes.len() {
            self.pump_one(side, at);
        }
    }

    fn pump_one(&mut self, side: Side, at: usize) {
        let Self { now, client, server, pipes, moved, .. } = self;
        let pipe = &mut pipes[at];
        let (door, tcp, cut) = (pipe.door, pipe.tcp, pipe.cut);
        if pipe.socket(side).closed {
            return;
        }
        let coming = &mut pipe.socket(side.peer()).coming;
        let before = coming.len();
        let room = CAPACITY.saturating_sub(before);
        match (side, door) {
            (Side::Client, _) => client.transmit(*now, tcp, room, coming),
            (Side::Server, Door::Tcp(tcp)) => server.transmit(*now, tcp, room, coming),
            (Side::Server, Door::Claim(claim)) => _ = server.conn.poll_claim_transmit(claim, coming),
            (Side::Server, Door::Incoming(_)) => {}
        }
        *moved += (coming.len() - before) as u64;
        if cut {
            coming.clear();
        }
    }

    /// `side` gets up to `len` bytes of what is under way on a pipe, and its end behind the last of them.
    pub(super) fn deliver(&mut self, at: usize, side: Side, len: usize) {
        let Some(pipe) = self.pipes.get_mut(at).filter(|pipe| !pipe.stalled) else { return };
        let socket = pipe.socket(side);
        let len = len.min(socket.coming.len());
        self.moved += len as u64;
        let came: Vec<u8> = socket.coming.drain(..len).collect();
        if !socket.closed {
            socket.unread.extend(came);
        }
        let is_last = pipe.socket(side).coming.is_empty() && (pipe.socket(side.peer()).closed || pipe.cut);
        let how = if pipe.cut { TcpEnd::Reset } else { TcpEnd::Fin };
        match side {
            Side::Client => {
                let (tcp, unread) = (pipe.tcp, &mut pipe.client.unread);
                self.client.conn.handle_bytes(self.now, tcp, unread);
            }
            Side::Server => self.serve(at),
        }
        let ended = &mut self.pipes[at].socket(side).ended;
        if is_last && !core::mem::replace(ended, true) {
            self.moved += 1;
            self.end_socket(at, side, how);
        }
    }

    fn serve(&mut self, at: usize) {
        let (now, server, pipe) = (self.now, &mut self.server.conn, &mut self.pipes[at]);
        let unread = &mut pipe.server.unread;
        match pipe.door {
            Door::Incoming(incoming) => match self.endpoint.handle_bytes(now, incoming, unread) {
                Some(Incoming::Join(join)) => {
                    pipe.door = Door::Claim(server.handle_join(now, join));
                    self.serve(at);
                }
                Some(Incoming::Refused { alert }) => self.refuse(at, &alert),
                Some(Incoming::New(_)) => self.refuse(at, &[]), // a spoilt byte made it so
                None => {}
            },
            Door::Claim(claim) => _ = server.handle_claim_bytes(now, claim, unread),
            Door::Tcp(tcp) => server.handle_bytes(now, tcp, unread),
        }
    }

    fn refuse(&mut self, at: usize, alert: &[u8]) {
        let pipe = &mut self.pipes[at];
        pipe.server.closed = true;
        pipe.client.coming.extend_from_slice(alert);
    }

    fn end_socket(&mut self, at: usize, side: Side, how: TcpEnd) {
        let pipe = &self.pipes[at];
        match (side, pipe.door) {
            (Side::Client, _) => self.client.conn.handle_tcp_end(self.now, pipe.tcp, how),
            (Side::Server, Door::Incoming(incoming)) => self.endpoint.handle_end(incoming),
            (Side::Server, Door::Claim(claim)) => self.server.conn.handle_claim_end(claim),
            (Side::Server, Door::Tcp(tcp)) => self.server.conn.handle_tcp_end(self.now, tcp, how),
        }
    }

    /// Drops the data in flight; each end learns of the cut when it next receives something.
    pub(super) fn cut(&mut self, at: usize) {
        if let Some(pipe) = self.pipes.get_mut(at) {
            pipe.cut = true;
            pipe.client.coming.clear();
            pipe.server.coming.clear();
        }
    }

    pub(super) fn stall(&mut self, at: usize, stalled: bool) {
        if let Some(pipe) = self.pipes.get_mut(at) {
            pipe.stalled = stalled;
        }
    }

    /// A bit of a byte that is under way towards `side` flips.
    pub(super) fn spoil(&mut self, at: usize, side: Side, which: usize) {
        let Some(pipe) = self.pipes.get_mut(at) else { return };
        let coming = &mut pipe.socket(side).coming;
        let len = coming.len();
        if len > 0 {
            coming[which % len] ^= 1 << (which % 8);
        }
    }

    /// Time passes, for both endpoints.
    pub(super) fn pass(&mut self, time: Duration) {
        self.now += time;
        self.endpoint.handle_timeout(self.now);
        while let Some((refused, alert)) = self.endpoint.poll_refused() {
            let is_it = |pipe: &Pipe| matches!(pipe.door, Door::Incoming(incoming) if incoming == refused);
            if let Some(at) = self.pipes.iter().position(is_it) {
                self.refuse(at, &alert);
            }
        }
        for side in [Side::Client, Side::Server] {
            let now = self.now;
            let conn = &mut self.end(side).conn;
            conn.handle_timeout(now);
            assert!(conn.poll_timeout().is_none_or(|at| at > now), "{side:?} waits for the past");
        }
    }

    /// How long until the first deadline.
    pub(super) fn next_timeout(&self) -> Option<Duration> {
        let ends = [&self.client, &self.server].map(|end| end.conn.poll_timeout());
        ends.into_iter().chain([self.endpoint.poll_timeout()]).flatten().min().map(|at| at - self.now)
    }

    /// Takes the events of both endpoints, and closes discarded sockets.
    pub(super) fn settle(&mut self) {
        for side in [Side::Client, Side::Server] {
            for event in self.end(side).hear() {
                if let Event::Tcp(TcpEvent::Discarded { tcp }) = event {
                    self.close_socket(side, tcp);
                }
            }
        }
        for at in 0..self.pipes.len() {
            let Door::Claim(claim) = self.pipes[at].door else { continue };
            match self.server.conn.claim(claim) {
                Claim::Waiting => {}
                Claim::Authenticated(tcp) => self.pipes[at].door = Door::Tcp(tcp),
                Claim::Refused => {
                    self.pump_one(Side::Server, at);
                    self.pipes[at].server.closed = true;
                }
            }
        }
        self.client.check();
        self.server.check();
    }

    fn close_socket(&mut self, side: Side, tcp: ConnectionId) {
        // A claim may have been authenticated, and lost, by the same bytes.
        for pipe in &mut self.pipes {
            if let Door::Claim(_) = pipe.door
                && side == Side::Server
                && pipe.tcp == tcp
            {
                pipe.door = Door::Tcp(tcp);
            }
        }
        let is_it = |pipe: &Pipe| pipe.name(side) == Some(tcp);
        if let Some(at) = self.pipes.iter().position(is_it) {
            self.pump_one(side, at);
            self.pipes[at].socket(side).closed = true;
        }
    }

    /// Why each endpoint waits; for messages.
    pub(super) fn reasons(&self) -> [Option<TimeoutReason>; 2] {
        [&self.client, &self.server].map(|end| end.conn.timeout_reason())
    }
}
