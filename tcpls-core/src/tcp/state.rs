//! The states of a TCP connection, each with the data that exists only in that state.

use super::Tcp;
use super::life::Grace;
use crate::time::Time;

/// The state of a TCP connection. Lost ones are not in the table of live TCP connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TcpState {
    /// It carries the TLS handshake.
    Handshaking,
    /// Client: the hello of the join is sent, and no authentic record has arrived.
    Opening(Opening),
    /// A record of the peer has decrypted on it.
    Active,
    /// Retiring: no new data is sent on it, and its data in flight is waited for.
    Retiring(Leave),
}

/// A join of this endpoint, on which no record of the server has decrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Opening {
    /// When it counts as failed.
    deadline: Grace,
    /// The session ID that the ServerHello must echo.
    session_id: [u8; 32],
    /// Bytes of the apparent handshake seen so far, which are bounded.
    bytes: usize,
    /// Whether the ServerHello has arrived.
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

    /// Counts a record of the apparent handshake; returns the bytes so far.
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

/// The progress of retiring a TCP connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Leave {
    /// When it began.
    pub(crate) since: Time,
    /// When the peer acknowledged that it begins.
    pub(crate) peer_knows: Option<Time>,
}

/// Which close_notify passed on a TCP connection: no record follows it in that direction.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct CloseNotify {
    pub(super) sent: bool,
    pub(super) received: bool,
}

/// Whether each endpoint wants a TCP connection as a backup.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Backup {
    pub(super) own: bool,
    pub(super) peer: bool,
}

impl<C> Tcp<C> {
    /// The peer has authenticated itself on it: the session can use it. The duration of the join gives a first estimate
    /// of the path.
    pub(crate) fn activate(&mut self, now: Time) {
        let took = now - self.since;
        match self.state {
            TcpState::Handshaking => {
                self.rtt.expect(took);
                self.commit.expect_from_handshake(self.counters.bytes_sent, took, self.liveness.kernel_min_rtt());
            }
            TcpState::Opening(_) => self.rtt.expect(took),
            TcpState::Active | TcpState::Retiring(_) => {}
        }
        self.state = TcpState::Active;
        self.may_seal = true;
        self.since = now;
    }

    /// Returns its state.
    pub(crate) fn state(&self) -> &TcpState {
        &self.state
    }

    /// Client: whether its join has not been authenticated.
    pub(crate) fn is_opening(&self) -> bool {
        matches!(self.state, TcpState::Opening(_))
    }

    /// The join, as long as it has not been authenticated.
    pub(crate) fn opening(&mut self) -> Option<&mut Opening> {
        match &mut self.state {
            TcpState::Opening(opening) => Some(opening),
            _ => None,
        }
    }

    /// When a join counts as failed.
    pub(crate) fn join_deadline(&self) -> Option<Time> {
        match &self.state {
            TcpState::Opening(opening) => Some(opening.deadline(self.liveness.moved())),
            _ => None,
        }
    }

    /// The ServerHello of a join came: records may follow, after `first` if they did not already.
    pub(crate) fn hello_answered(&mut self, first: &[u8]) {
        self.opening().into_iter().for_each(Opening::answered);
        if !self.may_seal {
            self.raw.extend_from_slice(first);
            self.may_seal = true;
        }
    }

    /// It is left from now on.
    pub(crate) fn retire(&mut self, now: Time) {
        self.state = TcpState::Retiring(Leave { since: now, peer_knows: None });
    }

    /// Returns the progress of its retirement.
    pub(crate) fn leave(&self) -> Option<&Leave> {
        match &self.state {
            TcpState::Retiring(leave) => Some(leave),
            _ => None,
        }
    }

    /// Returns whether the peer has authenticated itself on it.
    pub(crate) fn is_up(&self) -> bool {
        matches!(self.state, TcpState::Active | TcpState::Retiring(_))
    }

    /// Returns whether new stream data may be sent on it while others are live.
    pub(crate) fn is_active(&self) -> bool {
        self.state == TcpState::Active && !self.close_notify.sent
    }

    /// This endpoint sent close_notify on it: no record follows.
    pub(crate) fn close_notify_sealed(&mut self) {
        self.close_notify.sent = true;
    }

    /// The peer's close_notify arrived on it: no record follows.
    pub(crate) fn handle_close_notify(&mut self) {
        self.close_notify.received = true;
    }

    pub(crate) fn close_notify_sent(&self) -> bool {
        self.close_notify.sent
    }

    pub(crate) fn close_notify_received(&self) -> bool {
        self.close_notify.received
    }

    /// Sets whether this endpoint wants it as a backup.
    pub(crate) fn request_backup(&mut self, backup: bool) {
        self.backup.own = backup;
    }

    /// Handles the peer's Connection Status about it; returns whether it changes anything.
    pub(crate) fn handle_status(&mut self, now: Time, backup: bool) -> bool {
        let is_new = core::mem::replace(&mut self.backup.peer, backup) != backup;
        if is_new {
            self.liveness.handle_status(now, backup);
        }
        is_new
    }

    /// The value of a Connection Status about it: backup or not.
    pub(crate) fn status(&self) -> bool {
        self.backup.own || self.liveness.is_stalled() || self.leave().is_some()
    }

    /// The peer has its current status, which reports a retirement.
    pub(crate) fn status_acked(&mut self, now: Time) {
        if let TcpState::Retiring(leave) = &mut self.state {
            leave.peer_knows = Some(now);
        }
    }

    /// Returns whether it is a backup.
    pub(crate) fn is_backup(&self) -> bool {
        self.backup.own || self.backup.peer
    }
}
