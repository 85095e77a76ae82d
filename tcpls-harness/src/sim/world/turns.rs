//! Whose turn it is, and what became of whom: kept for each client and changed when it acts, so that a step takes no longer with
//! many clients than with few.

use std::collections::BTreeSet;

use tcpls_core::{Side, State, Time};

use super::{Who, World};
use crate::sim::deadlines::Deadlines;
use crate::sim::hosts::account::SocketOwner;
use crate::sim::hosts::driver::Driver;
use crate::sim::network::Ready;

/// See the module's description.
#[derive(Debug)]
pub(super) struct Turns {
    deadlines: Deadlines,
    /// Clients that have acted since the server did.
    have_run: BTreeSet<usize>,
    /// Clients whose sessions are not over.
    open: BTreeSet<usize>,
    /// An end of a session has violated what must hold.
    has_error: bool,
}

impl Turns {
    pub(super) fn new(clients: usize) -> Self {
        let open = (0..clients).collect();
        Self { deadlines: Deadlines::default(), have_run: BTreeSet::new(), open, has_error: false }
    }

    /// When the first client has something to do.
    pub(super) fn next(&self) -> Option<Time> {
        self.deadlines.next()
    }

    /// A client has acted.
    pub(super) fn has_run(&mut self, client: usize) {
        self.have_run.insert(client);
    }

    /// The clients that have acted since this was asked last.
    pub(super) fn take_run(&mut self) -> BTreeSet<usize> {
        std::mem::take(&mut self.have_run)
    }
}

impl World {
    pub(super) fn clients_to_run(&self, who: &Who<'_>, ready: &Ready) -> BTreeSet<usize> {
        let (Who::Ready(also), Ready::Sockets(sockets)) = (who, ready) else {
            return (0..self.clients.len()).collect();
        };
        let owner = |socket| match self.env.owners.get(socket) {
            Some(SocketOwner::Client(number)) => Some(*number),
            _ => None,
        };
        let owners = sockets.iter().filter_map(owner);
        owners.chain(self.turns.deadlines.due(self.env.now)).chain(also.iter().copied()).collect()
    }

    /// Notes what became of a client's session, and when the client acts next.
    pub(super) fn note(&mut self, number: usize) {
        let (client, transfers) = (&self.clients[number], &self.env.transfers[number]);
        self.turns.deadlines.set(number, client.next(transfers.next(Side::Client)));
        let closed = |driver: &Driver| driver.conn.state() == State::Closed;
        let is_over = client.driver.as_ref().map_or(client.failed, closed)
            && self.server.driver(number).is_none_or(closed)
            && !self.has_rest(number);
        let has_error = !transfers.wrong.is_empty()
            || self.ends(number).into_iter().flatten().any(|end| !end.oracle.complaints().is_empty());
        self.turns.has_error |= has_error;
        if is_over {
            self.turns.open.remove(&number);
        } else {
            self.turns.open.insert(number);
        }
    }

    /// The same for all, and the server: applications of users have had their sessions.
    pub(super) fn note_all(&mut self) {
        (0..self.clients.len()).for_each(|number| self.note(number));
        self.server.note_deadlines(&self.env);
    }

    /// Whether slow readers have not read all that arrived before their session, which was drained, closed.
    fn has_rest(&self, client: usize) -> bool {
        let transfers = &self.env.transfers[client];
        transfers.is_drained()
            && self.ends(client).into_iter().flatten().any(|end| transfers.next(end.side()).is_some())
    }

    /// Whether there is nothing left to see: both ends of each session are closed, or never came to be.
    pub(super) fn is_over(&self) -> bool {
        let are_over = self.applications.as_ref().is_none_or(|applications| applications.are_over());
        are_over && self.turns.open.is_empty()
    }

    pub(super) fn is_right(&self) -> bool {
        self.complaints.is_empty() && self.server.complaints.is_empty() && !self.turns.has_error
    }
}
