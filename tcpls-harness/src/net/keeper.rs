//! Keeps a client's paths in use: one whose TCP connection was lost, or has fallen silent, is tried again with new TCP
//! connections until one joins. New ones, because TCP itself waits longer and longer before it tries a dark path again.

use std::net::SocketAddr;
use std::sync::{Arc, Weak};
use std::time::Duration;

use tcpls_core::connection::State as SessionState;
use tcpls_core::error::TcpFault;
use tcpls_core::event::TcpEvent;
use tcpls_core::wire::ids::ConnectionId;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::client::{Joining, open};
use super::os::now;
use super::shared::{Shared, State};
use super::socket::connect;

/// How long a silent TCP connection may take to answer before another is tried on its path: most do, they were only slow.
const GRACE: Duration = Duration::from_millis(200);
/// The pause between the first attempts on a path. An attempt that is under way is not given up for the next.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// Attempts are made at [`FIRST_PAUSE`] for this often; then the pause grows by a quarter with each.
const EAGER_ATTEMPTS: u32 = 50;
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// How long an attempt may take: a SYN that was lost is sent again by TCP after a second only.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(1);
/// Attempts under way on one path.
const MAX_ATTEMPTS: usize = 12;

/// What a client does by itself when TCP connections are lost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Keep {
    /// Nothing: the application does.
    Nothing,
    /// It joins a TCP connection when the last was lost, on whichever path can be connected to first.
    Session,
    /// It joins another TCP connection on each path whose own was lost or has fallen silent.
    #[default]
    Paths,
}

/// From where to where a TCP connection of the client's runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Path {
    pub(crate) remote: SocketAddr,
    /// Without a port; `None` leaves it to the routes.
    pub(crate) local: Option<SocketAddr>,
}

/// A path to be tried again.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Redial {
    path: Path,
    /// The TCP connection on it that is silent; `None` if it was lost.
    silent: Option<ConnectionId>,
}

impl State {
    /// Which path a TCP connection of this client's runs on.
    pub(crate) fn set_path(&mut self, tcp: ConnectionId, path: Path) {
        self.paths.insert(tcp, path);
    }

    /// What an event about a TCP connection means for its path.
    pub(super) fn mind_path(&mut self, event: TcpEvent) {
        match event {
            // Does the peer hear nothing on it, or just not want it? Its answer, or silence, will tell.
            TcpEvent::Status { tcp, backup: true } => _ = self.conn.ping(tcp),
            TcpEvent::Stalled { tcp } => {
                if let Some(path) = self.paths.get(&tcp).copied() {
                    self.redial(Redial { path, silent: Some(tcp) });
                }
            }
            TcpEvent::Lost { tcp, fault } => {
                if let Some(path) = self.paths.remove(&tcp).filter(|_| !was_meant(fault)) {
                    self.redial(Redial { path, silent: None });
                }
            }
            _ => {}
        }
    }

    /// One task tries a path at a time.
    fn redial(&mut self, redial: Redial) {
        if self.dialing.insert(redial.path) {
            self.redials.push(redial);
            self.wake_task();
        }
    }

    /// Whether a new TCP connection is still wanted there, on a client that keeps `keep`.
    fn wants(&self, redial: &Redial, keep: Keep) -> bool {
        let stranded = matches!(self.conn.state(), SessionState::Stranded { .. });
        let taken = self.paths.iter().any(|(tcp, path)| *path == redial.path && Some(*tcp) != redial.silent);
        let silent = redial.silent.is_none_or(|tcp| self.conn.is_stalled(tcp));
        let open = stranded || self.conn.state() == SessionState::Established;
        open && !taken
            && !self.gone.contains(&redial.path.remote)
            && match keep {
                Keep::Nothing => false,
                Keep::Session => stranded,
                Keep::Paths => silent,
            }
    }
}

/// This side or the peer left it on purpose.
fn was_meant(fault: TcpFault) -> bool {
    matches!(fault, TcpFault::Retired | TcpFault::PeerReset(5) | TcpFault::SessionClosed)
}

/// Tries one path until a TCP connection has joined on it, or none is wanted there any more.
pub(crate) async fn keep(session: Weak<Shared>, redial: Redial) {
    if redial.silent.is_some() {
        tokio::time::sleep(GRACE).await;
    }
    let mut attempts = JoinSet::new();
    let mut pause = FIRST_PAUSE;
    for count in 0_u32.. {
        let Some(shared) = session.upgrade() else { return };
        let Some(joining) = shared.joining.as_ref() else { return };
        if !shared.with(|state| state.wants(&redial, joining.keep)) {
            break;
        }
        if attempts.len() < MAX_ATTEMPTS {
            let (path, options) = (redial.path, joining.socket);
            attempts.spawn(async move { connect(path.remote, path.local, ATTEMPT_TIMEOUT, &options).await });
        }
        if count > EAGER_ATTEMPTS {
            pause = (pause * 5 / 4).min(LONGEST_PAUSE);
        }
        if let Some(stream) = first_within(&mut attempts, pause).await {
            if join(&shared, joining, &redial, stream).await {
                break;
            }
            pause = (pause * 2).min(LONGEST_PAUSE); // TCP gets through and TCPLS does not: each attempt costs a token
        }
    }
    if let Some(shared) = session.upgrade() {
        shared.with(|state| state.dialing.remove(&redial.path));
    }
}

/// The first attempt that succeeds within `pause`; those that fail are no reason to hurry.
async fn first_within(attempts: &mut JoinSet<std::io::Result<TcpStream>>, pause: Duration) -> Option<TcpStream> {
    let end = tokio::time::Instant::now() + pause;
    loop {
        match tokio::time::timeout_at(end, attempts.join_next()).await {
            Ok(Some(Ok(Ok(stream)))) => return Some(stream),
            Ok(Some(_)) => {}
            Ok(None) => {
                tokio::time::sleep_until(end).await;
                return None;
            }
            Err(_) => return None,
        }
    }
}

/// Joins `stream` to the session in place of what was on the path. The last token is kept for when nothing else lives.
async fn join(shared: &Arc<Shared>, joining: &Joining, redial: &Redial, stream: TcpStream) -> bool {
    let opened = shared.with(|state| {
        let stranded = matches!(state.conn.state(), SessionState::Stranded { .. });
        if !state.wants(redial, joining.keep) || (state.conn.tokens() < 2 && !stranded) {
            return None;
        }
        open(state, stream, redial.path).ok()
    });
    let Some((_, joined)) = opened else { return false };
    if !matches!(joined.await, Ok(Ok(()))) {
        return false;
    }
    shared.with(|state| {
        if let Some(silent) = redial.silent {
            state.paths.remove(&silent);
            _ = state.conn.retire_tcp(now(), silent);
        }
    });
    true
}
