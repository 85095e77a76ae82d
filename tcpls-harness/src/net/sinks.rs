//! Where the events of a session over sockets go: to the log, and to a qlog file.

use std::net::SocketAddr;

use tcpls_core::Connection;

use crate::net::log;
#[cfg(feature = "json")]
use crate::net::os::now;
#[cfg(feature = "json")]
use crate::trace::{Both, qlog::Qlog};

/// Gives a session that has just begun with `peer` the sinks that are wanted.
pub(super) fn attached(
    mut conn: Connection,
    peer: SocketAddr,
    #[cfg(feature = "json")] qlog: Option<&Qlog>,
) -> Connection {
    let log = log::sink(&conn, peer);
    #[cfg(feature = "json")]
    let log = Both::of(log, qlog.map(|qlog| qlog.session(conn.side(), now())));
    conn.set_trace(log);
    conn
}
