//! Where the server finds what a socket belongs to, a session, and those whose turn it is, without asking all.

use std::collections::{BTreeMap, BTreeSet};

use tcpls_core::wire::ids::SessionId;

use crate::sim::network::SocketId;

/// What a TCP connection is for the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum At {
    Unidentified(u64),
    Claim(u64),
    /// It belongs to this session, or did.
    Session(usize),
}

/// See the module's description.
#[derive(Debug, Default)]
pub(super) struct Index {
    pub(super) sockets: BTreeMap<SocketId, At>,
    pub(super) ids: BTreeMap<SessionId, usize>,
    /// The session that has a client's applications, by client.
    pub(super) serving: BTreeMap<usize, usize>,
    /// The claims of each session that has any.
    claims: BTreeMap<usize, BTreeSet<u64>>,
}

impl Index {
    /// A claim of `session` is presented.
    pub(super) fn add_claim(&mut self, socket: SocketId, claim: u64, session: usize) {
        self.sockets.insert(socket, At::Claim(claim));
        self.claims.entry(session).or_default().insert(claim);
    }

    /// It is decided.
    pub(super) fn remove_claim(&mut self, socket: SocketId, claim: u64, session: usize) {
        self.sockets.remove(&socket);
        if let Some(claims) = self.claims.get_mut(&session) {
            claims.remove(&claim);
            if claims.is_empty() {
                self.claims.remove(&session);
            }
        }
    }

    /// The claims of a session, in the order in which they were presented.
    pub(super) fn claims_of(&self, session: usize) -> impl Iterator<Item = u64> {
        self.claims.get(&session).into_iter().flatten().copied()
    }
}

/// Those whose turn it is. Each set is in the order of admission.
#[derive(Debug, Default)]
pub(super) struct Turn {
    pub(super) sessions: BTreeSet<usize>,
    pub(super) claims: BTreeSet<u64>,
    pub(super) unidentified: BTreeSet<u64>,
    /// Servers of the farm whose endpoints have changed.
    pub(super) servers: BTreeSet<usize>,
}

impl Turn {
    /// Something changed for a socket.
    pub(super) fn add(&mut self, at: At) {
        match at {
            At::Unidentified(number) => self.unidentified.insert(number),
            At::Claim(number) => self.claims.insert(number),
            At::Session(number) => self.sessions.insert(number),
        };
    }
}
