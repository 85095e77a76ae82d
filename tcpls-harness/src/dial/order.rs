//! The options of the dialer, what it needs to know about a session, and the actions that it requests.

use std::time::Duration;

use tcpls_core::connection::{Connection, JoinOptions, State, TcpEnd};
use tcpls_core::time::Time;
use tcpls_core::wire::ids::ConnectionId;

#[cfg(doc)]
use super::Dialer;
use super::Path;

/// Which TCP connections a client opens by itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Keep {
    /// None after the start: the application opens them.
    Nothing,
    /// One TCP connection: after its loss, another is joined on the pair that connects first.
    Session,
    /// A TCP connection on each pair of addresses; lost and stalled ones are replaced. Without an open stream one that
    /// answers is enough: other lost ones are replaced once there is a stream.
    #[default]
    Paths,
}

/// Options of the dialer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct DialOptions {
    /// Which TCP connections are opened automatically.
    pub keep: Keep,
    /// [`Keep::Paths`]: TCP connections to keep, at most; pairs beyond that number are alternatives.
    pub wanted: usize,
    /// The delay before the next pair is dialed while the pairs before have not answered (RFC 8305, 5: 250 ms). With 0
    /// all are dialed at once, which costs nothing if all are used anyway.
    pub stagger: Duration,
    /// Time limit for TCP to connect.
    pub connect_timeout: Duration,
    /// The time, beyond two round trips, after which another attempt starts next to a TLS handshake or a join without
    /// an answer.
    pub patience: Duration,
    /// Whether joins carry 0-RTT data; pairs where that fails are tried without it.
    pub zero_rtt: bool,
}

impl DialOptions {
    /// Returns these options with a change: `DialOptions::default().with(|dial| dial.keep = Keep::Session)`.
    #[must_use]
    pub fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }
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

/// Identifies an attempt to open a TCP connection, until it joins a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AttemptId(pub u64);

/// What the driver of a [`Dialer`] is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Open a TCP connection, and report the result: [`Dialer::handle_connected`], [`Dialer::handle_refused`] or
    /// [`Dialer::handle_failed`].
    Connect {
        /// Its name.
        attempt: AttemptId,
        /// Between which addresses.
        path: Path,
    },
    /// Close its socket in any state, and report nothing more about it.
    Abandon {
        /// Which.
        attempt: AttemptId,
        /// Whether it took too long to connect.
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
    /// Reset this TCP connection, and report that to the session, which reinjects its data.
    Reset {
        /// Which.
        tcp: ConnectionId,
        /// Why, for `Connection::handle_tcp_end`: its join got no answer, or its path is down.
        why: TcpEnd,
    },
    /// Retire this stalled TCP connection (`Connection::retire_tcp`): another has replaced it.
    Retire {
        /// Which.
        tcp: ConnectionId,
    },
    /// Mark this TCP connection as a backup, or as available (`Connection::set_backup`): see [`Group`](super::Group).
    SetBackup {
        /// Which.
        tcp: ConnectionId,
        /// Whether it is a backup from now on.
        backup: bool,
    },
    /// There will be no session: every pair has failed.
    GiveUp,
}

/// What the dialer needs to know about a session.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct SessionView {
    /// Whether TCP connections can join it.
    pub open: bool,
    /// Unused tokens.
    pub tokens: usize,
    /// Its TCP connections, including joining ones.
    pub tcp_connections: usize,
    /// How many it may have.
    pub limit: usize,
    /// When it ends, if it has no TCP connection.
    pub until: Option<Time>,
    /// The time that a join takes in addition to round trips, on slow paths.
    pub join_time: Duration,
    /// Streams that are open.
    pub streams: usize,
    /// Whether data waits to be acknowledged.
    pub has_data: bool,
    /// Bytes delivered so far, in either direction.
    pub delivered: u64,
    /// The TCP connection whose path needs a lane (`Connection::wants_lane`).
    pub wants_lane: Option<ConnectionId>,
    /// Until when lanes are needed (`Connection::lanes_until`).
    pub lanes_until: Option<Time>,
    /// Whether the server accepts joins only at addresses that it advertises (`Connection::joins_at_advertised_only`):
    /// other pairs than those of [`Dialer::offer`] are not dialed.
    pub advertised_only: bool,
    /// Whether the answer to a join can show that the server has lost the session (`Connection::learns_of_loss`): if all
    /// addresses of a server with `advertised_only` refuse TCP connections, the client may join where the session began.
    pub can_ask: bool,
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
            wants_lane: conn.wants_lane(),
            lanes_until: conn.lanes_until(),
            advertised_only: conn.joins_at_advertised_only(),
            can_ask: conn.learns_of_loss(),
            until: if let State::Stranded { until } = conn.state() { Some(until) } else { None },
            join_time: conn.expected_join_time(),
        }
    }
}
