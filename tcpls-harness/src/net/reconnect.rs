//! The way back of a client whose last TCP connection was lost: it tries the addresses that worked, again and again, for as
//! long as the session waits.

use std::sync::{Arc, Weak};
use std::time::Duration;

use tcpls_core::connection::State;

use super::client::{Joining, open};
use super::shared::Shared;
use super::socket::connect;

/// The pause after the first round that failed; it doubles with every further one.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Joins one TCP connection, unless the session has got one otherwise or is over.
pub(crate) async fn reconnect(session: Weak<Shared>) {
    let mut pause = FIRST_PAUSE;
    while let Some(shared) = session.upgrade() {
        let Some(joining) = shared.joining.as_ref().filter(|joining| joining.reconnect) else { return };
        if try_all(&shared, joining).await || !is_stranded(&shared) {
            return;
        }
        drop(shared);
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

fn is_stranded(shared: &Shared) -> bool {
    shared.with(|state| matches!(state.conn.state(), State::Stranded { .. }))
}

/// The latest address that worked is tried first.
async fn try_all(shared: &Arc<Shared>, joining: &Joining) -> bool {
    let known = shared.with(|state| state.known.clone());
    for remote in known.into_iter().rev() {
        if !is_stranded(shared) {
            return true;
        }
        let Ok(stream) = connect(remote, None, joining.connect_timeout, &joining.socket).await else { continue };
        let Ok((_, joined)) = shared.with(|state| open(state, stream)) else { continue };
        if let Ok(Ok(())) = joined.await {
            return true;
        }
    }
    false
}
