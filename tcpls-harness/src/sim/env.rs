//! What the hosts of a run share: the time, the network, the applications and the trace.

use super::account::{SocketOwner, SocketOwners};
use super::network::{Network, SocketId};
use super::trace::{Note, Trace};
use super::transfers::Transfers;
use tcpls_core::{Side, Time};

/// See the module's description.
pub(crate) struct Env {
    pub(crate) now: Time,
    pub(crate) net: Box<dyn Network>,
    /// The applications of each client's session.
    pub(crate) transfers: Vec<Transfers>,
    pub(crate) trace: Trace,
    /// Bytes that arrived on each path since they were last counted.
    pub(crate) carried: Vec<u64>,
    pub(crate) owners: SocketOwners,
}

impl Env {
    /// A client or an attacker opens a TCP connection.
    pub(crate) fn connect(&mut self, path: usize, owner: SocketOwner) -> SocketId {
        let socket = self.net.connect(self.now, path);
        self.owners.insert(socket, owner);
        self.trace.note(self.now, Some(Side::Client), &Note::Connect { socket: socket.0, path });
        socket
    }

    /// Bytes that applications have read, in all sessions.
    pub(crate) fn delivered(&self) -> u64 {
        self.transfers.iter().map(|transfers| transfers.delivered).sum()
    }
}
