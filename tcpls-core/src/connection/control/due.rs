//! The pending control frames of a session: a set of references, each made into a frame only when a record is built,
//! from the state at that time.
//!
//! Because it is a set, loss recovery is one operation: what a lost TCP connection carried is merged into it.

use std::collections::BTreeSet;

use super::statuses::StatusId;
use crate::stream::{Chunk, ControlKey};
use crate::wire::ids::{AddressId, ConnectionId, OptionRequestId};

/// A pending frame. The order of the variants is the order of sending: parameters come first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::connection) enum Due {
    /// Session Parameters.
    Parameters,
    /// Connection Reset, with or without reason, and the final ACK.
    Reset(ConnectionId),
    /// Drain.
    Drain,
    /// New Token, of this sequence number.
    Token(u32),
    /// New Address.
    Address(AddressId),
    /// Remove Address.
    RemoveAddress(AddressId),
    /// Connection Status.
    Status(ConnectionId),
    /// TCP Option, by its place in the list of those to send.
    Option(u32),
    /// TCP Option Answer, to this request of the peer's.
    OptionAnswer(OptionRequestId),
    /// TCP Option Request.
    OptionRequest(OptionRequestId),
}

/// What an unacknowledged record carried, by reference.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::connection) enum Carried {
    /// Stream data.
    Chunk(Chunk),
    /// A stream's or the streams' control frame.
    Stream(ControlKey),
    /// A frame of the session, except those below.
    Session(Due),
    /// Connection Status.
    Status(StatusId),
}

// One for each record in flight.
const _: () = assert!(size_of::<Carried>() <= 16);

/// The set of pending frames.
#[derive(Debug, Default)]
pub(super) struct Pending(BTreeSet<Due>);

impl Pending {
    pub(super) fn insert(&mut self, due: Due) {
        self.0.insert(due);
    }

    pub(super) fn contains(&self, due: Due) -> bool {
        self.0.contains(&due)
    }

    pub(super) fn remove(&mut self, due: Due) {
        self.0.remove(&due);
    }

    pub(super) fn retain(&mut self, keep: impl FnMut(&Due) -> bool) {
        self.0.retain(keep);
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn shrink_to_fit(&mut self) {
        if self.0.is_empty() {
            self.0 = BTreeSet::new();
        }
    }

    /// Returns the first one that `allowed` accepts.
    pub(super) fn first(&self, mut allowed: impl FnMut(&Due) -> bool) -> Option<Due> {
        if self.0.is_empty() {
            return None; // as nearly always
        }
        self.0.iter().find(|due| allowed(due)).copied()
    }
}
