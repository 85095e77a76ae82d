//! What the hosts of a run share: the time, the network, the applications and the trace.

use super::account::{SocketOwner, SocketOwners};
use crate::dial::Path;
use crate::net::runtime::Runtime;
use crate::sim::applications::handles::Handles;
use crate::sim::network::{Network, SocketId, addresses};
use crate::sim::trace::{Host, Note, Trace};
use crate::sim::traffic::transfers::Transfers;
use bytes::BytesMut;
use std::collections::VecDeque;
use tcpls_core::event::Event;
use tcpls_core::{Side, Time};

/// The most that is copied of a client: its ClientHello and its early data.
const MAX_COPY: usize = 16 << 10;

/// See the module's description.
pub(crate) struct Env {
    pub(crate) now: Time,
    pub(crate) net: Box<dyn Network>,
    /// The applications of each client's session.
    pub(crate) transfers: Vec<Transfers>,
    /// Bytes that applications have read, in all sessions.
    pub(crate) delivered: u64,
    /// Of all ends of sessions, for what they write: each of its own would be most of the memory of a large run.
    pub(crate) buffer: Vec<u8>,
    /// How often an end of a session had its turn.
    pub(crate) turns: u64,
    pub(crate) trace: Trace,
    /// Bytes that arrived on each path since they were last counted.
    pub(crate) carried: Vec<u64>,
    pub(crate) owners: SocketOwners,
    /// What the client whose handshake began last has sent before it had an answer, if attackers copy that.
    pub(crate) copy: Option<(Option<SocketId>, Vec<u8>)>,
    /// What applications see as their runtime, if there are any.
    pub(crate) runtime: Option<Runtime>,
    /// The events of sessions, if a user wants to see them.
    pub(crate) log: Option<VecDeque<SessionEvent>>,
}

/// An event of a session in a simulation.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct SessionEvent {
    /// When it occurred.
    pub at: Time,
    /// At which end.
    pub side: Side,
    /// The client whose session it is, counted from 0; `None` while the client has not chosen it.
    pub client: Option<usize>,
    /// What occurred.
    pub event: Event,
}

impl Env {
    /// A client or an attacker opens a TCP connection.
    pub(crate) fn connect(&mut self, path: usize, owner: SocketOwner) -> SocketId {
        let socket = self.net.connect(self.now, path);
        self.owners.insert(socket, owner);
        self.trace.set_place(Host::from(owner).place());
        self.trace.note(self.now, &Note::Connect { socket: socket.0, path });
        socket
    }

    /// Moves what has arrived behind what is in `into`; how many bytes that were.
    pub(crate) fn read(&mut self, side: Side, socket: SocketId, into: &mut BytesMut) -> usize {
        let len = self.net.read(self.now, side, socket, into);
        if len > 0 {
            self.trace.read(self.now, side, socket, &into[into.len() - len..]);
            // What the client sends from now on answers the server, and is no part of its first flight.
            if let Some((copied, _)) = &mut self.copy
                && side == Side::Client
            {
                copied.take_if(|copied| *copied == socket);
            }
        }
        len
    }

    /// Writes all of `bytes`.
    pub(crate) fn write(&mut self, side: Side, socket: SocketId, bytes: &[u8]) {
        if !bytes.is_empty() {
            self.trace.wrote(self.now, side, socket, bytes);
        }
        if let Some((Some(copied), copy)) = &mut self.copy
            && (side, socket) == (Side::Client, *copied)
            && copy.len() < MAX_COPY
        {
            copy.extend_from_slice(bytes);
        }
        self.net.write(self.now, side, socket, bytes);
    }

    /// The empty buffer, to be put back.
    pub(crate) fn take_buffer(&mut self) -> Vec<u8> {
        let mut buffer = std::mem::take(&mut self.buffer);
        buffer.clear();
        buffer
    }

    /// A client begins a handshake on this socket.
    pub(crate) fn begin_copy(&mut self, socket: SocketId) {
        self.copy.iter_mut().for_each(|copy| *copy = (Some(socket), Vec::new()));
    }

    /// Whether there is anything to copy.
    pub(crate) fn has_copy(&self) -> bool {
        self.copy.as_ref().is_some_and(|(_, copy)| !copy.is_empty())
    }

    /// An attacker sends the copy.
    pub(crate) fn write_copy(&mut self, side: Side, socket: SocketId) {
        let copy = self.copy.as_ref().map(|(_, copy)| copy.clone()).unwrap_or_default();
        self.write(side, socket, &copy);
    }

    /// The number of the path between these addresses, or to the remote one if the local one is open.
    pub(crate) fn known_path(&self, path: &Path) -> Option<usize> {
        (0..self.carried.len()).find(|number| {
            let Path { remote, local, .. } = addresses(*number);
            remote == path.remote && (path.local.is_none() || path.local == local)
        })
    }

    /// An application's handles of a session that begins.
    pub(crate) fn handles(&self) -> Option<Handles> {
        self.runtime.clone().map(Handles::new)
    }
}
