//! The start of a client: executes the dialer's actions until there is a session. Each TCP connection with a TLS
//! handshake gets a session of its own; the first to complete stays, the others are dropped.

use std::collections::BTreeMap;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use tcpls_core::connection::Connection;
use tcpls_core::error::{CloseReason, TcpFault};
use tcpls_core::event::{Event, TcpEvent};
use tcpls_core::wire::ids::ConnectionId;
use tokio::task::JoinSet;

use super::error::ConnectError;
use super::options::ClientOptions;
use crate::dial::{Action, AttemptId, DialOptions, DialPolicy, Dialer, Path, SessionView};
use crate::net::os::{instant, now, seed};
use crate::net::record::Record;
use crate::net::session::{Advice, Connected, Handle, PathFailure, PathFault, Session, Shared};
use crate::net::sinks;
use crate::net::socket::Socket;
use crate::net::task::{Delivery, Dials, Driver, Mailbox};

/// The state of a start.
pub(crate) struct Start {
    options: ClientOptions,
    /// There is one path.
    is_alone: bool,
    dialer: Box<dyn DialPolicy>,
    dials: Dials,
    /// The paths of what is connected or being connected.
    paths: BTreeMap<AttemptId, Path>,
    /// Sessions whose handshakes are under way.
    candidates: BTreeMap<AttemptId, Candidate>,
    handshakes: JoinSet<(AttemptId, Result<(), CloseReason>)>,
    /// The faults of the paths that failed.
    failures: Vec<PathFailure>,
}

/// A session whose handshake is under way.
struct Candidate {
    session: Session,
    mailbox: Arc<Mailbox>,
    path: Path,
}

/// What a start waits for.
enum News {
    /// A socket was connected, or could not be.
    Dialed(AttemptId, Path, io::Result<Connected>),
    /// A handshake is complete.
    Handshake(AttemptId, Result<(), CloseReason>),
    /// The dialer has something to decide.
    Deadline,
}

impl Start {
    pub(crate) fn new(paths: &[Path], options: ClientOptions) -> Self {
        let dial = DialOptions { zero_rtt: options.dial.zero_rtt && options.config.zero_rtt_join, ..options.dial };
        let mut dialer = Dialer::new(now(), paths, dial, &seed());
        dialer.set_backups(options.backups.clone());
        dialer.set_locals(&options.locals);
        let dialer = match &options.dial_policy {
            Some(policy) => policy.make(dialer),
            None => Box::new(dialer),
        };
        Self {
            dialer,
            is_alone: paths.len() == 1,
            paths: BTreeMap::new(),
            dials: Dials::new(options.socket, options.dial.connect_timeout),
            candidates: BTreeMap::new(),
            handshakes: JoinSet::new(),
            failures: Vec::new(),
            options,
        }
    }

    /// Until there is a session, or no path is left.
    pub(crate) async fn run(mut self) -> Result<Session, ConnectError> {
        loop {
            self.note_progress();
            self.dialer.advance(now(), SessionView::default());
            let mut early = None;
            while let Some(action) = self.dialer.poll_action() {
                if action == Action::GiveUp {
                    let order: Vec<Path> = self.dialer.paths().iter().map(|status| status.path).collect();
                    self.failures.sort_by_key(|failure| order.iter().position(|path| *path == failure.path));
                    return Err(ConnectError::Paths(self.failures));
                }
                self.carry_out(action)?;
                if let Action::Handshake { attempt } = action
                    && self.has_early_data(attempt)
                {
                    early.get_or_insert(attempt);
                }
            }
            // Only now: the dialer counts on all of its actions.
            if let Some(attempt) = early {
                return Ok(self.finish_later(attempt));
            }
            match self.next_news().await {
                News::Dialed(attempt, path, outcome) => self.note_dialed(attempt, path, outcome),
                News::Handshake(attempt, Ok(())) if self.candidates.contains_key(&attempt) => {
                    return Ok(self.finish(attempt));
                }
                News::Handshake(_, Ok(())) | News::Deadline => {}
                News::Handshake(attempt, Err(reason)) => self.note_handshake_failed(attempt, reason),
            }
        }
    }

    /// Waits for the next dial or handshake that is over, or the dialer's deadline.
    async fn next_news(&mut self) -> News {
        let deadline = self.dialer.poll_timeout().map(|at| tokio::time::sleep_until(instant(at).into()));
        let mut deadline = pin!(deadline);
        poll_fn(|cx| {
            if let Poll::Ready((attempt, path, outcome)) = self.dials.poll(cx) {
                return Poll::Ready(News::Dialed(attempt, path, outcome));
            }
            while let Poll::Ready(Some(ended)) = self.handshakes.poll_join_next(cx) {
                if let Ok((attempt, outcome)) = ended {
                    return Poll::Ready(News::Handshake(attempt, outcome));
                }
            }
            deadline.as_mut().as_pin_mut().map_or(Poll::Pending, |sleep| sleep.poll(cx).map(|()| News::Deadline))
        })
        .await
    }

    fn carry_out(&mut self, action: Action) -> Result<(), ConnectError> {
        match action {
            Action::Connect { attempt, path } => {
                self.paths.insert(attempt, path);
                // What connects only when it is written to proves nothing, and another path would be none the wiser.
                let in_syn = self.options.early_data && self.is_alone;
                self.dials.connect(attempt, path, in_syn);
            }
            Action::Abandon { attempt, timed_out } => {
                let path = self.dials.abandon(attempt);
                self.paths.remove(&attempt);
                self.candidates.remove(&attempt);
                if let (Some(path), true) = (path, timed_out) {
                    self.fail(path, PathFault::Tcp(Arc::new(io::ErrorKind::TimedOut.into())));
                }
            }
            Action::Handshake { attempt } => self.shake_hands(attempt)?,
            // These concern a session that is there.
            Action::Join { .. }
            | Action::Reset { .. }
            | Action::Retire { .. }
            | Action::SetBackup { .. }
            | Action::GiveUp => {}
        }
        Ok(())
    }

    fn note_dialed(&mut self, attempt: AttemptId, path: Path, outcome: io::Result<Connected>) {
        let is_needed = match outcome {
            Ok(Connected::Now) => Ok(self.dialer.handle_connected(now(), attempt)),
            Ok(Connected::Deferred) => Ok(self.dialer.handle_deferred(now(), attempt)),
            Err(error) => Err(error),
        };
        match is_needed {
            Ok(true) => {}
            Ok(false) => _ = self.dials.take(attempt),
            Err(error) => {
                self.paths.remove(&attempt);
                self.dialer.handle_failed(now(), attempt);
                self.fail(path, PathFault::Tcp(Arc::new(error)));
            }
        }
    }

    fn shake_hands(&mut self, attempt: AttemptId) -> Result<(), ConnectError> {
        let (Some(dialed), Some(path)) = (self.dials.take(attempt), self.paths.remove(&attempt)) else {
            self.dialer.handle_failed(now(), attempt);
            return Ok(());
        };
        let tls = self.options.tls.handshake(&self.options.server_name.to_str()).map_err(ConnectError::Tls)?;
        let recorder = self.options.record.as_ref().and_then(Record::recorder);
        let conn = Connection::client_with(now(), self.options.config.clone(), tls, seed(), recorder);
        let conn = sinks::attached(
            conn,
            path.remote,
            #[cfg(feature = "json")]
            self.options.qlog.as_ref(),
            #[cfg(feature = "json")]
            self.options.trace_ring.as_ref(),
        );
        let advice = Advice::new(self.options.addresses.clone(), path.remote).from(self.options.locals.clone());
        let shared = Shared::new(conn, Some(advice));
        shared.access(|state| state.options.allow(&self.options.peer_options));
        let session = Session::new(Handle::new(shared.clone()));
        let driver = Driver::new(shared, ConnectionId::FIRST, Socket::dialed(dialed));
        let mailbox = driver.mailbox().clone();
        tokio::spawn(driver.run());
        self.candidates.insert(attempt, Candidate { session: session.clone(), mailbox, path });
        self.handshakes.spawn(async move { (attempt, session.wait_established().await) });
        Ok(())
    }

    /// Whether the application wants this session before its handshake is complete, and can send early data.
    fn has_early_data(&self, attempt: AttemptId) -> bool {
        let candidate = self.candidates.get(&attempt).filter(|_| self.options.early_data);
        candidate.is_some_and(|candidate| candidate.session.early_data() > 0)
    }

    /// The application gets the session now: there is no other any more, in which early data would be sent again. The
    /// session takes over the dialer when its handshake is complete.
    fn finish_later(mut self, attempt: AttemptId) -> Session {
        self.candidates.retain(|candidate, _| *candidate == attempt);
        self.handshakes.abort_all();
        let session = self.candidates[&attempt].session.clone();
        let waiting = session.clone();
        tokio::spawn(async move {
            if waiting.wait_established().await.is_ok() {
                self.finish(attempt);
            }
        });
        session
    }

    fn note_progress(&mut self) {
        for (attempt, candidate) in &self.candidates {
            let first = candidate.session.handle().with(|state| state.conn.tcp_stats(ConnectionId::FIRST));
            let bytes = first.map_or(0, |stats| stats.counters.bytes_received);
            self.dialer.handle_progress(now(), *attempt, bytes);
        }
    }

    fn note_handshake_failed(&mut self, attempt: AttemptId, reason: CloseReason) {
        if let Some(Candidate { path, .. }) = self.candidates.remove(&attempt) {
            self.dialer.handle_failed(now(), attempt);
            self.fail(path, PathFault::Handshake(reason));
        }
    }

    fn fail(&mut self, path: Path, fault: PathFault) {
        self.failures.retain(|failure| failure.path != path);
        self.failures.push(PathFailure { path, fault });
    }

    /// The session takes over the dialer, and what is connected.
    fn finish(mut self, attempt: AttemptId) -> Session {
        let Candidate { session, mailbox, .. } = self.candidates.remove(&attempt).expect("asked before");
        self.dialer.handle_established(now(), attempt, session.is_tcpls());
        while let Some(action) = self.dialer.poll_action() {
            // Failures of other paths do not matter any more.
            if let Action::Abandon { attempt, .. } = action {
                self.dials.abandon(attempt);
            }
        }
        let (mut dialer, dials) = (self.dialer, self.dials);
        session.handle().with(|state| {
            if !state.conn.tcp_connections().any(|tcp| tcp == ConnectionId::FIRST) {
                let lost = TcpEvent::Lost { tcp: ConnectionId::FIRST, fault: TcpFault::Reset };
                dialer.handle_event(now(), &Event::Tcp(lost));
            }
            if dialer.paths().iter().any(|status| status.tcp == Some(ConnectionId::FIRST) && status.backup) {
                _ = state.conn.set_backup(ConnectionId::FIRST, true); // fails where it is the only one there can be
            }
            state.dialer = Some(dialer);
        });
        _ = mailbox.deliver(Delivery::Dials(dials)); // a session that is over dials no more
        session
    }
}
