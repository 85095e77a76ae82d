//! [`DialPolicy`]: the interface between a driver and a dial policy. [`Dialer`] is the default.

use std::fmt::{self, Debug};
use std::sync::Arc;

use tcpls_core::connection::JoinOptions;
use tcpls_core::event::Event;
use tcpls_core::time::Time;
use tcpls_core::wire::ids::ConnectionId;

use super::{Action, AttemptId, Dialer, NetworkChange, Path, PathStatus, SessionView};

/// Decides which pair of addresses a client dials, and when: a state machine without sockets and clock.
///
/// The driver reports events with `handle_*`, calls [`advance`](DialPolicy::advance), executes the actions from
/// [`poll_action`](DialPolicy::poll_action), and calls again at [`poll_timeout`](DialPolicy::poll_timeout) at the
/// latest. [`Dialer`] is the policy of this crate. A policy of your own may wrap it and change some of its actions. It
/// must answer an action that it drops in place of the driver: a `Connect` with `handle_failed`.
///
/// Over sockets, all calls are made with the session locked: a policy that calls the session blocks forever, and one that
/// takes long delays the application. A panic in the session's task ends the session; the policy is then dropped without
/// further calls.
pub trait DialPolicy: Debug + Send {
    /// TCP is connected. Returns false if it is no longer needed: the driver closes the socket.
    fn handle_connected(&mut self, now: Time, attempt: AttemptId) -> bool;
    /// A socket is ready whose TCP connection begins only with what is written first (TCP Fast Open): neither the path nor its
    /// round-trip time is known. By default the same as [`DialPolicy::handle_connected`].
    fn handle_deferred(&mut self, now: Time, attempt: AttemptId) -> bool {
        self.handle_connected(now, attempt)
    }
    /// TCP did not connect, the handshake failed, or the join could not begin.
    fn handle_failed(&mut self, now: Time, attempt: AttemptId);
    /// The remote address has refused the TCP connection. By default the same as [`DialPolicy::handle_failed`].
    fn handle_refused(&mut self, now: Time, attempt: AttemptId) {
        self.handle_failed(now, attempt);
    }
    /// Reports the bytes received on a TCP connection during its handshake.
    fn handle_progress(&mut self, now: Time, attempt: AttemptId, bytes: u64);
    /// This handshake is the first to complete, and its session is used; `tcpls` is false if it is plain TLS.
    fn handle_established(&mut self, now: Time, attempt: AttemptId, tcpls: bool);
    /// The join has begun under this ID.
    fn handle_joining(&mut self, attempt: AttemptId, tcp: ConnectionId);
    /// Reports an event of the session.
    fn handle_event(&mut self, now: Time, event: &Event);
    /// Reports a change of this host's network, and which TCP connections of the session it concerns: see
    /// [`report_change`](super::report_change). By default it has no effect.
    fn handle_network(&mut self, _now: Time, _change: NetworkChange, _concerned: &[ConnectionId]) {}
    /// Decides what is due now. `session` is the default before there is one.
    fn advance(&mut self, now: Time, session: SessionView);
    /// Returns the next action.
    fn poll_action(&mut self) -> Option<Action>;
    /// Returns when to call [`advance`](DialPolicy::advance) without an event before; a future time after each call to
    /// it.
    fn poll_timeout(&self) -> Option<Time>;
    /// Returns the options for a join of the application.
    fn join_options(&self, path: Path) -> JoinOptions;
    /// The application joins a TCP connection itself.
    fn adopt(&mut self, now: Time, path: Path, tcp: ConnectionId);
    /// The server advertises the remote address of this pair, and the client may connect to it. The driver reports it if
    /// the server accepts joins only at such addresses ([`SessionView::advertised_only`]). By default it has no effect.
    fn offer(&mut self, _now: Time, _path: Path) {}
    /// The application wants one more TCP connection, on this pair.
    fn add(&mut self, now: Time, path: Path);
    /// The TCP connections that follow `tcp` on its pair are backups, too, or no more.
    fn set_backup(&mut self, tcp: ConnectionId, backup: bool);
    /// Returns the known pairs, and their TCP connections.
    fn paths(&self) -> Vec<PathStatus>;
}

/// Makes a [`DialPolicy`] for each session, from the [`Dialer`] that would decide otherwise.
#[derive(Clone)]
pub struct MakeDialPolicy(Arc<dyn Fn(Dialer) -> Box<dyn DialPolicy> + Send + Sync>);

impl MakeDialPolicy {
    /// `make` may wrap the dialer or drop it. It knows the paths and the options.
    pub fn new(make: impl Fn(Dialer) -> Box<dyn DialPolicy> + Send + Sync + 'static) -> Self {
        Self(Arc::new(make))
    }

    /// The policy for a session.
    pub fn make(&self, dialer: Dialer) -> Box<dyn DialPolicy> {
        self.0(dialer)
    }
}

impl Debug for MakeDialPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MakeDialPolicy")
    }
}

impl DialPolicy for Dialer {
    fn handle_connected(&mut self, now: Time, attempt: AttemptId) -> bool {
        Self::handle_connected(self, now, attempt)
    }

    fn handle_deferred(&mut self, now: Time, attempt: AttemptId) -> bool {
        Self::handle_deferred(self, now, attempt)
    }

    fn handle_failed(&mut self, now: Time, attempt: AttemptId) {
        Self::handle_failed(self, now, attempt);
    }

    fn handle_refused(&mut self, now: Time, attempt: AttemptId) {
        Self::handle_refused(self, now, attempt);
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

    fn handle_network(&mut self, now: Time, change: NetworkChange, concerned: &[ConnectionId]) {
        Self::handle_network(self, now, change, concerned);
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

    fn offer(&mut self, now: Time, path: Path) {
        Self::offer(self, now, path);
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
