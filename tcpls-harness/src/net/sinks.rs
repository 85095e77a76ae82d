//! Where the events of a session over sockets go: to the log, to a qlog file, and to a trace ring.

use std::net::SocketAddr;

use tcpls_core::Connection;

use crate::net::log;
#[cfg(feature = "json")]
use crate::net::os::now;
#[cfg(feature = "json")]
use crate::trace::{qlog::Qlog, ring::Ring};

/// Gives a session that has just begun with `peer` the sinks that are wanted.
pub(super) fn attached(
    mut conn: Connection,
    peer: SocketAddr,
    #[cfg(feature = "json")] qlog: Option<&Qlog>,
    #[cfg(feature = "json")] ring: Option<&Ring>,
) -> Connection {
    conn.set_trace(log::sink(&conn, peer));
    #[cfg(feature = "json")]
    if let Some(qlog) = qlog {
        conn.add_trace(qlog.session(conn.side(), now()));
    }
    #[cfg(feature = "json")]
    if let Some(ring) = ring {
        conn.add_trace(ring.sink(&conn));
    }
    conn
}
