//! [`DialPolicy`]: what a driver asks of whatever decides what to dial. [`Dialer`] is ours.

use std::fmt::Debug;

use tcpls_core::connection::JoinOptions;
use tcpls_core::event::Event;
use tcpls_core::time::Time;
use tcpls_core::wire::ids::ConnectionId;

use super::{Action, AttemptId, Dialer, Path, PathStatus, SessionView};

/// Decides which pair of addresses a client dials when, and what for: a state machine without sockets and clock.
///
/// Its owner calls `handle_*` for what happened, then [`advance`](DialPolicy::advance), then does what
/// [`poll_action`](DialPolicy::poll_action) returns, and comes again at [`poll_timeout`](DialPolicy::poll_timeout) at the
/// latest. [`Dialer`] is this crate's policy. A policy of your own may wrap it and change some of its actions; an action that
/// it swallows must be answered in the owner's place: a `Connect` by `handle_failed`.
pub trait DialPolicy: Debug + Send {
    /// TCP is connected. False if that is not wanted any more: the owner closes the socket.
    fn handle_connected(&mut self, now: Time, attempt: AttemptId) -> bool;
    /// TCP did not connect, the handshake failed, or the join could not even begin.
    fn handle_failed(&mut self, now: Time, attempt: AttemptId);
    /// How many bytes have come on a TCP connection whose handshake is under way.
    fn handle_progress(&mut self, now: Time, attempt: AttemptId, bytes: u64);
    /// This handshake is over first, and its session is the one; the server speaks `tcpls`, or plain TLS only.
    fn handle_established(&mut self, now: Time, attempt: AttemptId, tcpls: bool);
    /// The join has begun under this ID.
    fn handle_joining(&mut self, attempt: AttemptId, tcp: ConnectionId);
    /// Something happened to the session.
    fn handle_event(&mut self, now: Time, event: &Event);
    /// Decides what is due now. `session` is the default as long as there is none.
    fn advance(&mut self, now: Time, session: SessionView);
    /// The next thing to do.
    fn poll_action(&mut self) -> Option<Action>;
    /// When [`advance`](DialPolicy::advance) is to be called, if nothing happens before; after a call to that, a time in the
    /// future.
    fn poll_timeout(&self) -> Option<Time>;
    /// How to join a TCP connection that the application has made.
    fn join_options(&self, path: Path) -> JoinOptions;
    /// The application joins a TCP connection by itself.
    fn adopt(&mut self, now: Time, path: Path, tcp: ConnectionId);
    /// The application wants one more TCP connection to be kept, on this pair.
    fn add(&mut self, now: Time, path: Path);
    /// The TCP connections that follow `tcp` on its pair are backups, too, or no more.
    fn set_backup(&mut self, tcp: ConnectionId, backup: bool);
    /// The pairs that are known, and what is in use on them.
    fn paths(&self) -> Vec<PathStatus>;
}

impl DialPolicy for Dialer {
    fn handle_connected(&mut self, now: Time, attempt: AttemptId) -> bool {
        Self::handle_connected(self, now, attempt)
    }

    fn handle_failed(&mut self, now: Time, attempt: AttemptId) {
        Self::handle_failed(self, now, attempt);
    }

    fn handle_progress(&mut self, now: Time, attempt: AttemptId, bytes: u64) {
        Self::handle_progress(self, now, attempt, bytes);
    }

    fn handle_established(&mut self, now: Time, attempt: AttemptId, tcpls: bool) {
        Self::handle_established(self, now, attempt, tcpls);
    }

    fn handle_joining(&mut self, attempt: AttemptId, tcp: ConnectionId) {
        Self::handle_joining(self, attempt, tcp);
    }

    fn handle_event(&mut self, now: Time, event: &Event) {
        Self::handle_event(self, now, event);
    }

    fn advance(&mut self, now: Time, session: SessionView) {
        Self::advance(self, now, session);
    }

    fn poll_action(&mut self) -> Option<Action> {
        Self::poll_action(self)
    }

    fn poll_timeout(&self) -> Option<Time> {
        Self::poll_timeout(self)
    }

    fn join_options(&self, path: Path) -> JoinOptions {
        Self::join_options(self, path)
    }

    fn adopt(&mut self, now: Time, path: Path, tcp: ConnectionId) {
        Self::adopt(self, now, path, tcp);
    }

    fn add(&mut self, now: Time, path: Path) {
        Self::add(self, now, path);
    }

    fn set_backup(&mut self, tcp: ConnectionId, backup: bool) {
        Self::set_backup(self, tcp, backup);
    }

    fn paths(&self) -> Vec<PathStatus> {
        Self::paths(self).collect()
    }
}
