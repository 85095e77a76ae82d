//! Sockets that the session has let go of: their last words are written, then they are closed such that the peer can read
//! them.
//!
//! A socket that is closed with unread bytes in its receive buffer sends a reset, and that may destroy what was sent just
//! before. So it is read, for a while, until the peer has closed its side.

use std::task::{Context, Poll};
use std::time::Duration;

use tcpls_core::time::Time;
use tcpls_core::wire::ids::ConnectionId;

use super::reading::MAX_READ;
use super::shared::Shared;
use super::socket::Socket;

/// How long a socket may take to get rid of its last words.
const LINGER: Duration = Duration::from_secs(1);
/// How much is read and dropped meanwhile.
const MAX_DRAINED: usize = 16 * MAX_READ;

/// A socket on its way out.
pub(crate) struct Leaving {
    /// `None`: it never was part of the session.
    tcp: Option<ConnectionId>,
    socket: Socket,
    deadline: Time,
    drained: usize,
    shut_down: bool,
}

impl Leaving {
    pub(crate) fn new(now: Time, tcp: Option<ConnectionId>, socket: Socket) -> Self {
        Self { tcp, socket, deadline: now + LINGER, drained: 0, shut_down: false }
    }

    pub(crate) fn deadline(&self) -> Time {
        self.deadline
    }

    /// `tcp` names another TCP connection from now on.
    pub(crate) fn forget(&mut self, tcp: ConnectionId) {
        self.tcp = self.tcp.filter(|left| *left != tcp);
    }

    /// Goes on with leaving, with what `shared` has still to say there; true once the socket may be closed.
    pub(crate) fn poll(&mut self, shared: &Shared, now: Time, cx: &mut Context<'_>) -> bool {
        if let (Some(tcp), true) = (self.tcp, self.socket.is_flushed()) {
            let batch = self.socket.batch();
            shared.drive(|state| state.conn.poll_transmit(now, tcp, batch, self.socket.out()));
        }
        if self.deadline <= now || self.drained > MAX_DRAINED {
            return true;
        }
        match self.socket.poll_flush(now, cx) {
            Poll::Ready(Ok(_)) if !self.shut_down => {
                self.socket.shut_down(cx);
                self.shut_down = true;
            }
            Poll::Ready(Err(_)) => return true,
            _ => {}
        }
        while !self.socket.has_ended() && self.drained <= MAX_DRAINED {
            match self.socket.poll_read(cx) {
                Poll::Ready(Ok(len)) => self.drained += len,
                Poll::Ready(Err(_)) => {}
                Poll::Pending => return false,
            }
            self.socket.input().clear();
        }
        self.drained > MAX_DRAINED || self.socket.is_flushed()
    }
}
