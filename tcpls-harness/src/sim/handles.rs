//! The application's handles of a simulated session, and the loan of its state machine to them.
//!
//! Applications hold the sessions and streams of [`crate::net`], unchanged. While the simulator acts, a session's state
//! machine belongs to its driver, without a lock; while applications have their turns, it belongs to their handles. A
//! placeholder is where it is not.

use std::io::ErrorKind;
use std::mem::{swap, take};
use std::net::SocketAddr;
use std::sync::Arc;

use tcpls_core::event::Event;
use tcpls_core::testing::NullHandshake;
use tcpls_core::{Config, Connection, ConnectionId, Seed, Side, Time};

use crate::dial::{DialOptions, DialPolicy, Dialer, Path};
use crate::net::runtime::Runtime;
use crate::net::session::{Handle, Input, Joined, Session, Shared};
use crate::net::{PathFailure, PathFault};

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
        let conn = Connection::client(
            Time::ZERO,
            Arc::new(Config::default()),
            Box::new(NullHandshake::new(Side::Client, [0; 32])),
            Seed([0; 32]),
        );
        let shared = Shared::simulated(conn, runtime);
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
        self.shared.access(|state| {
            swap(&mut state.conn, conn);
            take(&mut self.unreported).into_iter().for_each(|event| state.report(event));
            if state.is_closed() && !state.has_task_ended() {
                state.end_task();
            }
        });
        self.has_to_end = false;
    }

    /// Hands over what decides about dialling, or takes it back; with [`Handles::lend`] and [`Handles::take_back`].
    pub(crate) fn swap_dialer(&mut self, dialer: &mut Box<dyn DialPolicy>) {
        let placeholder = || Box::new(Dialer::new(Time::ZERO, &[], DialOptions::default(), &Seed([0; 32])));
        self.shared.access(|state| swap(state.dialer.get_or_insert_with(|| placeholder()), dialer));
    }

    /// A TCP connection runs between these addresses.
    pub(crate) fn set_addresses(&mut self, tcp: ConnectionId, local: Option<SocketAddr>, remote: Option<SocketAddr>) {
        self.shared.access(|state| {
            state.remotes.set(tcp, remote);
            if tcp == ConnectionId::FIRST {
                state.local = local;
            }
        });
    }

    /// A path could not be dialled.
    pub(crate) fn note_failure(&mut self, path: Path, error: ErrorKind) {
        let fault = PathFault::Tcp(Arc::new(error.into()));
        self.shared.access(|state| state.failures.tell(PathFailure { path, fault }));
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
        self.shared.access(|state| {
            if !state.has_task_ended() {
                state.end_task();
            }
        });
        self.take_back(conn);
    }
}
