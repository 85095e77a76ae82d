//! Keeps a client's paths in use: one whose TCP connection was lost, or has fallen silent, is tried again with new TCP
//! connections until one joins. New ones, because TCP itself waits longer and longer before it tries a dark path again.

use std::sync::{Arc, Weak};
use std::time::Duration;

use tcpls_core::connection::State;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::os::now;
use super::paths::{Joining, Redial};
use super::shared::Shared;
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
        if !shared.with(|state| state.paths.wants(&state.conn, &redial, joining.keep)) {
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
        shared.with(|state| state.paths.dialed(redial.path));
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
        let stranded = matches!(state.conn.state(), State::Stranded { .. });
        if !state.paths.wants(&state.conn, redial, joining.keep) || (state.conn.tokens() < 2 && !stranded) {
            return None;
        }
        state.open_tcp(stream, redial.path).ok()
    });
    let Some((_, joined)) = opened else { return false };
    if !matches!(joined.await, Ok(Ok(()))) {
        return false;
    }
    shared.with(|state| {
        if let Some(silent) = redial.silent {
            state.paths.replaced(silent);
            _ = state.conn.retire_tcp(now(), silent);
        }
    });
    true
}
