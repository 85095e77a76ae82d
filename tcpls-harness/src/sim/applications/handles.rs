//! The application's handles of a simulated session, and the loan of its state machine to them.
//!
//! Applications hold the sessions and streams of [`crate::net`], unchanged. While the simulator acts, a session's state
//! machine belongs to its driver, without a lock; while applications have their turns, it belongs to their handles. A
//! placeholder is where it is not: a session that is closed.

use std::io::ErrorKind;
use std::mem::{swap, take};
use std::net::SocketAddr;
use std::sync::Arc;

use tcpls_core::event::Event;
use tcpls_core::testing::NullHandshake;
use tcpls_core::{Config, Connection, ConnectionId, ErrorCode, Seed, Side, Time};

use crate::dial::{DialOptions, DialPolicy, Dialer, Path};
use crate::net::runtime::Runtime;
use crate::net::session::{Handle, Input, Joined, Session, Shared};

/// See the module's description.
pub(crate) struct Handles {
    shared: Arc<Shared>,
    /// What an application gets when it starts. Until then the session has a handle, so that it is not closed.
    session: Option<Session>,
    /// The session's events that have not been reported to the application.
    unreported: Vec<Event>,
    /// The session is over, and the application does not know yet that its sockets are closed.
    has_to_end: bool,
}

impl Handles {
    pub(crate) fn new(runtime: Runtime) -> Self {
        let shared = Shared::simulated(placeholder(), runtime);
        let session = Some(Session::new(Handle::new(shared.clone())));
        Self { shared, session, unreported: Vec::new(), has_to_end: false }
    }

    /// The session, for the application that starts with it; once.
    pub(crate) fn take_session(&mut self) -> Option<Session> {
        self.session.take()
    }

    /// The driver took this event from the session.
    pub(crate) fn note(&mut self, event: &Event) {
        self.unreported.push(event.clone());
    }

    /// Whether there is something to report to the application.
    pub(crate) fn has_news(&self) -> bool {
        self.has_to_end || !self.unreported.is_empty()
    }

    /// Hands the session to its handles, and reports to the tasks that wait.
    pub(crate) fn lend(&mut self, conn: &mut Connection) {
        let dialer = self.shared.access(|state| {
            swap(&mut state.conn, conn);
            if state.handles == 0 && self.session.is_none() {
                // The last may have been dropped outside of any task, when the placeholder was here.
                state.conn.close(state.now(), ErrorCode(0), b"");
            }
            take(&mut self.unreported).into_iter().for_each(|event| state.report(event));
            if state.is_closed() && !state.has_task_ended() { state.end_task() } else { None }
        });
        drop(dialer); // without the lock
        self.has_to_end = false;
    }

    /// Hands over what decides about dialing, or takes it back; with [`Handles::lend`] and [`Handles::take_back`].
    pub(crate) fn swap_dialer(&mut self, dialer: &mut Box<dyn DialPolicy>) {
        let placeholder = || Box::new(Dialer::new(Time::ZERO, &[], DialOptions::default(), &Seed([0; 32])));
        self.shared.access(|state| swap(state.dialer.get_or_insert_with(|| placeholder()), dialer));
    }

    /// A TCP connection runs between these addresses.
    pub(crate) fn set_addresses(&mut self, tcp: ConnectionId, local: Option<SocketAddr>, remote: Option<SocketAddr>) {
        self.shared.access(|state| {
            state.remotes.set(tcp, local, remote);
            if tcp == ConnectionId::FIRST {
                state.local = local;
            }
        });
    }

    /// A path could not be dialed.
    pub(crate) fn note_failure(&mut self, path: Path, error: ErrorKind) {
        self.shared.access(|state| state.note_failure(path, error.into()));
    }

    /// The application waits for what becomes of this join.
    pub(crate) fn expect_join(&mut self, tcp: ConnectionId) -> Joined {
        self.shared.access(|state| state.expect_join(tcp))
    }

    /// Takes the session back; what happened to it meanwhile, and what the application wants besides.
    pub(crate) fn take_back(&mut self, conn: &mut Connection) -> (Vec<Event>, Vec<Input>) {
        self.shared.access(|state| {
            swap(&mut state.conn, conn);
            self.has_to_end = state.is_closed() && !state.has_task_ended();
            (state.observed.as_mut().map(take).unwrap_or_default(), take(&mut state.inbox))
        })
    }

    /// The process that has the session ends: its handles find it lost.
    pub(crate) fn end(&mut self, conn: &mut Connection) {
        self.lend(conn);
        let dialer = self.shared.access(|state| if state.has_task_ended() { None } else { state.end_task() });
        drop(dialer); // without the lock
        self.take_back(conn);
    }
}

/// A session that is closed.
fn placeholder() -> Connection {
    let tls = Box::new(NullHandshake::new(Side::Client, [0; 32]));
    let mut conn = Connection::client(Time::ZERO, Arc::new(Config::default()), tls, Seed([0; 32]));
    conn.close(Time::ZERO, ErrorCode(0), b"");
    while conn.poll_event().is_some() {}
    conn
}

#[cfg(test)]
mod tests {
    use super::super::executor::Executor;
    use super::*;
    use crate::sim::rng::{Purpose, SimRng};

    #[test]
    fn handles_find_the_session_while_it_is_lent_and_a_closed_one_otherwise() {
        let executor = Executor::new(SimRng::new(1, Purpose::Applications));
        let mut handles = Handles::new(executor.runtime());
        let session = handles.take_session().unwrap();
        let tls = Box::new(NullHandshake::new(Side::Client, [0; 32]));
        let mut conn = Connection::client(Time::ZERO, Arc::new(Config::default()), tls, Seed([0; 32]));
        assert!(session.tcp_connections().is_empty());
        handles.lend(&mut conn);
        assert_eq!(session.tcp_connections(), [ConnectionId::FIRST]);
        handles.take_back(&mut conn);
        assert!(session.tcp_connections().is_empty());
        drop(session);
        assert_eq!(conn.close_reason(), None);
        handles.lend(&mut conn);
        handles.take_back(&mut conn);
        assert!(conn.close_reason().is_some(), "no handle is left");
    }
}
