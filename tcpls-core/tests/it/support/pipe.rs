//! A simulated TCP connection: two byte pipes that deliver on command. Knows nothing of what flows in it.

use std::collections::VecDeque;

use bytes::BytesMut;
use tcpls_core::connection::ClaimId;
use tcpls_core::endpoint::IncomingId;
use tcpls_core::wire::ids::{ConnectionId, Side};

/// What an end's socket of a pipe is to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Server: the endpoint has not recognised it.
    Door(IncomingId),
    /// Server: it showed a token.
    Claim(ClaimId),
    /// It belongs to the session.
    Tcp(ConnectionId),
    /// Client: a socket that the test writes and reads itself.
    Stranger,
    /// The end has closed it.
    Closed,
}

/// One direction of a pipe.
#[derive(Default)]
pub struct Flow {
    /// Sent and not delivered.
    pub in_flight: VecDeque<u8>,
    /// Delivered; what the receiver has not taken.
    pub inbox: BytesMut,
    /// Nothing is delivered for now.
    pub stalled: bool,
    /// The sender has closed its socket: the end follows the bytes.
    pub finished: bool,
    /// The receiver was told.
    pub end_told: bool,
    /// All bytes that were ever sent.
    pub log: Vec<u8>,
}

impl Flow {
    /// The sender writes.
    pub fn send(&mut self, bytes: &[u8]) {
        self.log.extend_from_slice(bytes);
        self.in_flight.extend(bytes);
    }

    /// Moves at most `n` bytes to the receiver's socket and returns how many.
    pub fn arrive(&mut self, n: usize) -> usize {
        let n = if self.stalled { 0 } else { n.min(self.in_flight.len()) };
        self.inbox.extend(self.in_flight.drain(..n));
        n
    }

    /// Whether the receiver has to be told now that no more will come.
    pub fn is_at_end(&self) -> bool {
        self.finished && !self.end_told && !self.stalled && self.in_flight.is_empty()
    }
}

/// One TCP connection.
pub struct Pipe {
    /// What the client calls it, for ever; `None` for a stranger's.
    pub name: Option<ConnectionId>,
    /// What it is to the client.
    pub client: Role,
    /// What it is to the server.
    pub server: Role,
    /// From the client to the server.
    pub up: Flow,
    /// From the server to the client.
    pub down: Flow,
}

impl Pipe {
    pub fn new(client: Role, server: Role) -> Self {
        let name = if let Role::Tcp(tcp) = client { Some(tcp) } else { None };
        Self { name, client, server, up: Flow::default(), down: Flow::default() }
    }

    pub fn role(&self, side: Side) -> Role {
        match side {
            Side::Client => self.client,
            Side::Server => self.server,
        }
    }

    pub fn set_role(&mut self, side: Side, role: Role) {
        match side {
            Side::Client => self.client = role,
            Side::Server => self.server = role,
        }
    }

    /// The direction that ends at `side`.
    pub fn towards(&mut self, side: Side) -> &mut Flow {
        match side {
            Side::Client => &mut self.down,
            Side::Server => &mut self.up,
        }
    }

    /// `side` closes its socket: what it sent still arrives, what is under way to it is not read.
    pub fn close(&mut self, side: Side) {
        self.set_role(side, Role::Closed);
        self.towards(side.peer()).finished = true;
        let incoming = self.towards(side);
        incoming.in_flight.clear();
        incoming.inbox.clear();
        incoming.end_told = true;
    }

    /// The TCP connection breaks: bytes in flight vanish.
    pub fn cut(&mut self) {
        for flow in [&mut self.up, &mut self.down] {
            flow.in_flight.clear();
            flow.inbox.clear();
            (flow.finished, flow.end_told) = (true, true);
        }
        (self.client, self.server) = (Role::Closed, Role::Closed);
    }
}
