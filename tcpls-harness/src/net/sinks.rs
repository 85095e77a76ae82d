//! Where the events of a session over sockets go: to the log, to a qlog file, and to a trace ring.

use std::net::SocketAddr;

use tcpls_core::Connection;

use crate::net::log;
#[cfg(feature = "json")]
use crate::net::os::now;
#[cfg(feature = "json")]
use crate::trace::{Both, qlog::Qlog, ring::Ring};

/// Gives a session that has just begun with `peer` the sinks that are wanted.
pub(super) fn attached(
    mut conn: Connection,
    peer: SocketAddr,
    #[cfg(feature = "json")] qlog: Option<&Qlog>,
    #[cfg(feature = "json")] ring: Option<&Ring>,
) -> Connection {
    let sink = log::sink(&conn, peer);
    #[cfg(feature = "json")]
    let sink = Both::of(sink, qlog.map(|qlog| qlog.session(conn.side(), now())));
    #[cfg(feature = "json")]
    let sink = Both::of(sink, ring.map(|ring| ring.sink(&conn)));
    conn.set_trace(sink);
    conn
}
