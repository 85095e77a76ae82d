//! What a record carries, by reference: its acknowledgment or loss finds the state that it is about. No other file of
//! `connection` is needed here.

use crate::stream::{Chunk, ControlKey};
use crate::wire::ids::{AddressId, ConnectionId, OptionRequestId};

/// A pending frame. The order of the variants is the order of sending: parameters come first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Due {
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
pub(super) enum Carried {
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

/// One Connection Status: the TCP connection that it is about, and its number among those.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct StatusId {
    pub(super) about: ConnectionId,
    pub(super) number: u32,
}

/// The control part of a record under construction.
#[derive(Default)]
pub(super) struct Outgoing {
    pub(super) control: Vec<u8>,
    pub(super) carried: Vec<Carried>,
    pub(super) ack_eliciting: bool,
}

impl Outgoing {
    pub(super) fn clear(&mut self) {
        self.control.clear();
        self.carried.clear();
        self.ack_eliciting = false;
    }
}
