//! The sessions of this process, for those who ask.

use std::process;
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::{Instant, SystemTime};

use super::report::{Session, Status, VERSION};
use crate::cli::validity::timestamp;
use crate::links::Host;
use crate::net::interfaces::interfaces;
use crate::net::{self, Monitor};

/// Sessions that are listed.
const MAX_SESSIONS: usize = 256;
/// Streams that are listed for each session, and in all.
const MAX_STREAMS: usize = 64;
const MAX_ALL_STREAMS: usize = 1024;
/// Sessions that are asked before other tasks get their turn.
const AT_ONCE: usize = 32;
/// Ended sessions are forgotten when there are more than this, and then at each doubling.
const FEW_SESSIONS: usize = 32;

static SESSIONS: Mutex<Registry> = Mutex::new(Registry { next: 0, open: Vec::new(), kept: 0, no_session: None });
static BEGIN: LazyLock<Instant> = LazyLock::new(Instant::now);

struct Registry {
    next: u64,
    open: Vec<(u64, Monitor)>,
    kept: usize,
    /// Why a client has no session, or no new one.
    no_session: Option<String>,
}

fn registry() -> MutexGuard<'static, Registry> {
    SESSIONS.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Registry {
    fn push(&mut self, number: u64, session: &net::Session) {
        if self.open.len() >= FEW_SESSIONS.max(2 * self.kept) {
            self.open.retain(|(_, monitor)| !monitor.has_ended());
            self.kept = self.open.len();
        }
        self.next = self.next.max(number + 1);
        self.open.push((number, session.monitor()));
    }
}

/// A session began; returns its number.
pub(crate) fn add(session: &net::Session) -> u64 {
    let mut registry = registry();
    let number = registry.next;
    registry.push(number, session);
    number
}

/// A session began which the log of a server calls by this number.
pub(crate) fn add_numbered(number: u64, session: &net::Session) {
    registry().push(number, session);
}

/// Says why a client has no session, or no new one; `None` once it has.
pub(crate) fn set_no_session(reason: Option<String>) {
    registry().no_session = reason;
}

/// The number of a session.
pub(crate) fn number_of(session: &Monitor) -> Option<u64> {
    registry().open.iter().find(|(_, monitor)| monitor == session).map(|(number, _)| *number)
}

/// The time of the process begins.
pub(super) fn begin() {
    LazyLock::force(&BEGIN);
}

/// What the command does now. Other tasks get their turns meanwhile.
pub(super) async fn status(command: &str) -> Status {
    let (mut open, no_session) = {
        let registry = registry();
        (registry.open.clone(), registry.no_session.clone())
    };
    open.retain(|(_, monitor)| !monitor.has_ended());
    let sessions_open = open.len();
    if sessions_open > MAX_SESSIONS {
        open.sort_by_cached_key(|(_, monitor)| std::cmp::Reverse(monitor.delivered()));
        open.truncate(MAX_SESSIONS);
        open.sort_by_key(|(number, _)| *number);
    }
    // Without them, paths have no names of interfaces.
    let host = Host::new(interfaces().unwrap_or_default(), Vec::new());
    let mut sessions = Vec::with_capacity(open.len());
    let mut streams = MAX_ALL_STREAMS;
    for (index, (number, monitor)) in open.iter().enumerate() {
        if index % AT_ONCE == AT_ONCE - 1 {
            tokio::task::yield_now().await;
        }
        if let Some(status) = monitor.status(streams.min(MAX_STREAMS)) {
            streams -= status.streams.len();
            sessions.push(Session::new(*number, status, &host));
        }
    }
    Status {
        version: VERSION,
        time: timestamp(SystemTime::now()),
        pid: process::id(),
        command: command.to_owned(),
        uptime_seconds: BEGIN.elapsed().as_secs_f64(),
        sessions_open,
        no_session,
        sessions,
    }
}
