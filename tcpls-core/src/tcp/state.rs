//! How far a TCP connection is, with what exists only while it is.

use super::life::Grace;
use crate::time::Time;

/// How far a TCP connection is. What is lost is not in the table of live ones any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TcpState {
    /// It carries the TLS handshake.
    Handshaking,
    /// Client: the join's hello is out, nothing authentic has come back.
    Opening(Opening),
    /// A record of the peer's opened on it.
    Active,
    /// To be left: nothing new is put on it, what it has is waited for.
    Retiring(Leave),
}

/// A join of this side's on which no record of the server has decrypted yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Opening {
    /// When it counts as failed.
    deadline: Grace,
    /// The session ID that the ServerHello must echo.
    session_id: [u8; 32],
    /// Bytes of the apparent handshake seen so far, which are bounded.
    bytes: usize,
    /// The ServerHello came.
    is_answered: bool,
}

impl Opening {
    pub(crate) fn new(deadline: Grace, session_id: [u8; 32]) -> Self {
        Self { deadline, session_id, bytes: 0, is_answered: false }
    }

    /// When it counts as failed, if bytes moved last at `moved`.
    pub(crate) fn deadline(&self, moved: Time) -> Time {
        self.deadline.end(moved)
    }

    /// One more record of the apparent handshake came: how many bytes that makes.
    pub(crate) fn count(&mut self, bytes: usize) -> usize {
        self.bytes += bytes;
        self.bytes
    }

    pub(crate) fn session_id(&self) -> &[u8; 32] {
        &self.session_id
    }

    pub(crate) fn is_answered(&self) -> bool {
        self.is_answered
    }

    pub(super) fn answered(&mut self) {
        self.is_answered = true;
    }
}

/// Leaving a TCP connection on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Leave {
    /// When it began.
    pub(crate) since: Time,
    /// When the peer acknowledged that it begins.
    pub(crate) peer_knows: Option<Time>,
}

/// Which close_notify passed on a TCP connection: behind it nothing follows in that direction.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct CloseNotify {
    pub(super) sent: bool,
    pub(super) received: bool,
}

/// Whether a TCP connection is to be used only when no other lives, as each side wants it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Backup {
    pub(super) own: bool,
    pub(super) peer: bool,
    /// A Connection Status about it is under way: the next waits until it has arrived, or it could be overtaken.
    pub(super) status_in_flight: bool,
}
