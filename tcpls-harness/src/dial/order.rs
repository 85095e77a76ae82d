//! What the dialer is asked to do, what it has to know of a session, and what it asks its owner to do.

use std::time::Duration;

use tcpls_core::connection::{Connection, JoinOptions, State};
use tcpls_core::time::Time;
use tcpls_core::wire::ids::ConnectionId;

#[cfg(doc)]
use super::Dialer;
use super::Path;

/// What a client does by itself to have TCP connections.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Keep {
    /// Nothing after the start: the application does.
    Nothing,
    /// One TCP connection is enough: another is joined when the last was lost, on whichever pair can be connected to first.
    Session,
    /// A TCP connection on each pair of addresses; one that was lost or has fallen silent is replaced. While no stream is open,
    /// one that answers is enough: others that were lost are replaced once there is a stream.
    #[default]
    Paths,
}

/// How eagerly to dial.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DialOptions {
    /// What is done by itself.
    pub keep: Keep,
    /// [`Keep::Paths`]: TCP connections to keep, at most; pairs beyond that number are alternatives.
    pub wanted: usize,
    /// The pause before the next pair is dialled as long as nothing is known of those before (RFC 8305, 5: 250 ms). 0 dials
    /// all at once: nothing is lost by that if all are wanted anyway.
    pub stagger: Duration,
    /// How long TCP may take to connect.
    pub connect_timeout: Duration,
    /// What is added to two round trips before a TLS handshake or a join without an answer is no longer relied upon.
    pub patience: Duration,
    /// Joins carry data ahead of the server's answer; pairs where that fails are tried without.
    pub zero_rtt: bool,
}

impl Default for DialOptions {
    fn default() -> Self {
        Self {
            keep: Keep::default(),
            wanted: usize::MAX,
            stagger: Duration::from_millis(250),
            connect_timeout: Duration::from_secs(5),
            patience: Duration::from_millis(400),
            zero_rtt: true,
        }
    }
}

/// Names one TCP connection that is being made, until it is part of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AttemptId(pub u64);

/// What the owner of a [`Dialer`] is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Open a TCP connection, and say what came of it: [`Dialer::handle_connected`] or [`Dialer::handle_failed`].
    Connect {
        /// Its name.
        attempt: AttemptId,
        /// Between which addresses.
        path: Path,
    },
    /// Close its socket, whatever it is doing; nothing is to be said about it any more.
    Abandon {
        /// Which.
        attempt: AttemptId,
        /// It took too long to connect.
        timed_out: bool,
    },
    /// Begin a session of its own on it: [`Dialer::handle_established`] or [`Dialer::handle_failed`].
    Handshake {
        /// Which.
        attempt: AttemptId,
    },
    /// Join it to the session (`Connection::open_tcp_with`): [`Dialer::handle_joining`] or [`Dialer::handle_failed`].
    Join {
        /// Which.
        attempt: AttemptId,
        /// How: see `JoinOptions`.
        options: JoinOptions,
    },
    /// Reset this TCP connection, whose join was not answered: what it carries is to go elsewhere.
    Reset {
        /// Which.
        tcp: ConnectionId,
    },
    /// Leave this silent TCP connection (`Connection::retire_tcp`): another has taken its place.
    Retire {
        /// Which.
        tcp: ConnectionId,
    },
    /// There will be no session: every pair was tried.
    GiveUp,
}

/// What the dialer has to know of a session.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SessionView {
    /// Whether TCP connections can join it.
    pub open: bool,
    /// Tokens in hand.
    pub tokens: usize,
    /// TCP connections that it has, joining ones too.
    pub tcp_connections: usize,
    /// How many it may have.
    pub limit: usize,
    /// When it gives up, if it has none.
    pub until: Option<Time>,
    /// What a join takes besides round trips, because the paths are slow.
    pub join_time: Duration,
    /// Streams that are open.
    pub streams: usize,
    /// Whether data waits to be acknowledged.
    pub has_data: bool,
    /// Bytes delivered so far, in either direction.
    pub delivered: u64,
}

impl SessionView {
    /// As `conn` is now.
    pub fn of(conn: &Connection) -> Self {
        Self {
            open: matches!(conn.state(), State::Established | State::Stranded { .. }),
            tokens: conn.tokens(),
            tcp_connections: conn.tcp_connections().count(),
            limit: conn.max_tcp_connections(),
            streams: conn.streams_open(),
            has_data: conn.bytes_to_send() > 0,
            delivered: conn.delivered(),
            until: if let State::Stranded { until } = conn.state() { Some(until) } else { None },
            join_time: conn.expected_join_time(),
        }
    }
}
