//! TCP connections that a client opens and joins: those that its application wants, and those of its dialer.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::Arc;

use tcpls_core::connection::JoinOptions;
use tcpls_core::error::OpenTcpError;
use tcpls_core::stats::{TcpPhase, TcpStats};
use tcpls_core::wire::ids::{ConnectionId, Side};
use tokio::sync::oneshot;

use super::{Answer, Input, Joined, Opened, State};
use crate::dial::{Action, AttemptId, Path, SessionView};
use crate::net::session::error::{AddTcpError, PathFailure, PathFault};

/// What it means that a socket is connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Connected {
    /// The peer's TCP has answered.
    Now,
    /// It is asked only when something is written (TCP Fast Open).
    Deferred,
}

impl State {
    /// Whether a TCP connection makes progress: then one that fails costs no more than a token, which is replaced.
    pub(crate) fn has_answering_tcp(&self) -> bool {
        let answers = |stats: TcpStats| !stats.stalled && stats.phase != TcpPhase::Opening;
        self.conn.tcp_connections().filter_map(|tcp| self.conn.tcp_stats(tcp)).any(answers)
    }

    pub(crate) fn note_timed_out(&mut self, path: Path) {
        self.note_failure(path, ErrorKind::TimedOut.into());
    }

    /// Reports a path that could not be dialed.
    pub(crate) fn note_failure(&mut self, path: Path, error: std::io::Error) {
        let failure = PathFailure { path, fault: PathFault::Tcp(Arc::new(error)) };
        self.failures.tell(failure, |waker| self.waiters.wake(Some(waker)));
    }

    /// Waits for what becomes of a join that has begun.
    pub(crate) fn expect_join(&mut self, tcp: ConnectionId) -> Joined {
        let (sender, receiver) = oneshot::channel();
        self.joins.insert(tcp, sender);
        receiver
    }

    /// Has the session's task, or a simulator, connect and join a TCP connection, if the session may have one more.
    pub(crate) fn order_tcp(&mut self, path: Path) -> Result<oneshot::Receiver<Opened>, AddTcpError> {
        // The dialer is gone with the task.
        if self.is_closed() {
            return Err(AddTcpError::Session(OpenTcpError::Closed));
        }
        if self.dialer.is_none() {
            let is_client = self.conn.side() == Side::Client; // one that waits for its handshake
            return Err(AddTcpError::Session(if is_client { OpenTcpError::TooEarly } else { OpenTcpError::Server }));
        }
        if !self.conn.may_join_at(path.remote) {
            return Err(AddTcpError::NoJoins(path.remote));
        }
        let limit = self.conn.max_tcp_connections();
        if self.conn.tcp_connections().count() >= limit {
            return Err(AddTcpError::Limit(limit));
        }
        let (opened, receiver) = oneshot::channel();
        self.inbox.push(Input::Connect(path, opened));
        self.wake_task();
        Ok(receiver)
    }

    /// Spends a token on a TCP connection that the application wanted and that is established now.
    pub(crate) fn open_tcp(&mut self, path: Path, opened: oneshot::Sender<Opened>) -> Option<ConnectionId> {
        let now = self.now();
        let Some(dialer) = &mut self.dialer else {
            self.answers.push(Answer::Opened(opened, Err(AddTcpError::Closed)));
            return None;
        };
        match self.conn.open_tcp_with(now, dialer.join_options(path)) {
            Ok(tcp) => {
                dialer.adopt(now, path, tcp);
                let joined = self.expect_join(tcp);
                self.answers.push(Answer::Opened(opened, Ok((tcp, joined))));
                Some(tcp)
            }
            Err(error) => {
                self.answers.push(Answer::Opened(opened, Err(AddTcpError::Session(error))));
                None
            }
        }
    }

    /// Client: if the server accepts joins only at addresses that it advertises, returns those that were not returned
    /// before, each with whether the application has named it.
    pub(crate) fn undecided(&mut self) -> Vec<(SocketAddr, bool)> {
        let Some(dialer) = self.dialer.as_ref().filter(|_| self.conn.joins_at_advertised_only()) else {
            return Vec::new();
        };
        let advertised = self.conn.peer_addresses().map(|(_, address)| address);
        let new: Vec<SocketAddr> = advertised.filter(|address| !self.decided.contains(address)).collect();
        if new.is_empty() {
            return Vec::new();
        }
        self.decided.extend(&new);
        let named: Vec<SocketAddr> = dialer.paths().iter().map(|status| status.path.remote).collect();
        new.into_iter().map(|address| (address, named.contains(&address))).collect()
    }

    /// Client: joins may go over these paths, unless the server has withdrawn their address meanwhile.
    pub(crate) fn offer(&mut self, paths: &[Path]) {
        let now = self.now();
        let paths = paths.iter().filter(|path| self.conn.may_join_at(path.remote));
        self.dialer.iter_mut().for_each(|dialer| paths.clone().for_each(|path| dialer.offer(now, *path)));
    }

    /// Returns the dialer's actions.
    pub(crate) fn dial(&mut self) -> Vec<Action> {
        let now = self.now();
        let Some(dialer) = &mut self.dialer else { return Vec::new() };
        dialer.advance(now, SessionView::of(&self.conn));
        std::iter::from_fn(|| dialer.poll_action()).collect()
    }

    /// Reports the result of connecting; returns whether the socket is needed.
    pub(crate) fn note_dialed(&mut self, attempt: AttemptId, path: Path, outcome: std::io::Result<Connected>) -> bool {
        let now = self.now();
        let Some(dialer) = &mut self.dialer else { return false };
        match outcome {
            Ok(Connected::Now) => dialer.handle_connected(now, attempt),
            Ok(Connected::Deferred) => dialer.handle_deferred(now, attempt),
            Err(error) => {
                match error.kind() {
                    ErrorKind::ConnectionRefused => dialer.handle_refused(now, attempt),
                    _ => dialer.handle_failed(now, attempt),
                }
                self.note_failure(path, error);
                false
            }
        }
    }

    /// Spends a token on what the dialer has connected.
    pub(crate) fn join(&mut self, attempt: AttemptId, options: JoinOptions) -> Option<ConnectionId> {
        let now = self.now();
        let opened = self.conn.open_tcp_with(now, options);
        let dialer = self.dialer.as_mut()?;
        match opened {
            Ok(tcp) => dialer.handle_joining(attempt, tcp),
            Err(_) => dialer.handle_failed(now, attempt),
        }
        opened.ok()
    }
}
