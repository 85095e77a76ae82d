//! A simulated TCP connection: two byte pipes that deliver when the pair asks them to.

use std::collections::VecDeque;

use bytes::BytesMut;

use crate::connection::ClaimId;
use crate::endpoint::IncomingId;
use crate::wire::ids::{ConnectionId, Side};

/// The state of a simulated socket at one end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Server: the endpoint has not recognized it yet.
    Incoming(IncomingId),
    /// Server: a join that is not authenticated yet.
    Claim(ClaimId),
    /// A TCP connection of the session.
    Tcp(ConnectionId),
    /// Client: a socket that the test reads and writes itself.
    Stranger,
    /// The end has closed it.
    Closed,
}

/// One direction of a simulated TCP connection.
#[derive(Debug, Default)]
pub struct Flow {
    /// The bytes that were sent and have not arrived. A test may change or drop them.
    pub in_flight: VecDeque<u8>,
    /// Whether the path holds back all bytes for now.
    pub stalled: bool,
    /// The bytes that have arrived and that the receiver has not taken.
    pub(super) inbox: BytesMut,
    /// The sender has closed its socket: the end follows the bytes.
    pub(super) finished: bool,
    /// The network has reset it: nothing more arrives, and the receiver sees a reset.
    pub(super) reset: bool,
    /// The receiver knows that no more will come.
    pub(super) end_reported: bool,
    /// All bytes that were ever sent.
    pub log: Vec<u8>,
}

impl Flow {
    /// Puts bytes on the wire as if the sender had written them.
    pub fn send(&mut self, bytes: &[u8]) {
        self.log.extend_from_slice(bytes);
        if !self.reset {
            self.in_flight.extend(bytes);
        }
    }

    /// Closes the sender's socket: the receiver sees the end behind the bytes that are under way.
    pub fn finish(&mut self) {
        self.finished = true;
    }

    /// Moves at most `n` bytes to the receiver's socket and returns their number.
    pub(super) fn arrive(&mut self, n: usize) -> usize {
        let n = if self.stalled { 0 } else { n.min(self.in_flight.len()) };
        self.inbox.extend(self.in_flight.drain(..n));
        n
    }

    /// Whether the receiver has to learn now that no more will come.
    pub(super) fn is_at_end(&self) -> bool {
        self.finished && !self.end_reported && !self.stalled && self.in_flight.is_empty()
    }
}

/// One TCP connection.
pub(super) struct Pipe {
    /// The client's name for it, also after its end; `None` for a stranger's.
    pub(super) name: Option<ConnectionId>,
    client: Role,
    server: Role,
    /// From the client to the server.
    pub(super) up: Flow,
    /// From the server to the client.
    pub(super) down: Flow,
}

impl Pipe {
    pub(super) fn new(client: Role, server: Role) -> Self {
        let name = if let Role::Tcp(tcp) = client { Some(tcp) } else { None };
        Self { name, client, server, up: Flow::default(), down: Flow::default() }
    }

    pub(super) fn role(&self, side: Side) -> Role {
        match side {
            Side::Client => self.client,
            Side::Server => self.server,
        }
    }

    pub(super) fn set_role(&mut self, side: Side, role: Role) {
        match side {
            Side::Client => self.client = role,
            Side::Server => self.server = role,
        }
    }

    /// The direction that ends at `side`.
    pub(super) fn towards(&mut self, side: Side) -> &mut Flow {
        match side {
            Side::Client => &mut self.down,
            Side::Server => &mut self.up,
        }
    }

    /// `side` closes its socket: what it sent still arrives, what is under way to it is not read.
    pub(super) fn close(&mut self, side: Side) {
        self.set_role(side, Role::Closed);
        self.towards(side.peer()).finished = true;
        let incoming = self.towards(side);
        incoming.in_flight.clear();
        incoming.inbox.clear();
        incoming.end_reported = true;
    }

    /// The network resets the TCP connection: bytes in flight vanish, and neither end knows it yet.
    pub(super) fn sever(&mut self) {
        for flow in [&mut self.up, &mut self.down] {
            flow.in_flight.clear();
            (flow.finished, flow.reset) = (true, true);
        }
    }

    /// The TCP connection breaks: bytes in flight vanish.
    pub(super) fn cut(&mut self) {
        for flow in [&mut self.up, &mut self.down] {
            flow.in_flight.clear();
            flow.inbox.clear();
            (flow.finished, flow.end_reported) = (true, true);
        }
        (self.client, self.server) = (Role::Closed, Role::Closed);
    }
}
