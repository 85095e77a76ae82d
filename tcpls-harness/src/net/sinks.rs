//! Where the events of a session over sockets go: to the log, and to a qlog file.

use std::net::SocketAddr;

use tcpls_core::Connection;
use tcpls_core::Time;
use tcpls_core::trace::{Event, Sink};

use crate::net::log;
#[cfg(feature = "json")]
use crate::net::os::now;
#[cfg(feature = "json")]
use crate::trace::qlog::Qlog;

/// Gives a session that has just begun with `peer` the sinks that are wanted.
pub(super) fn attached(
    mut conn: Connection,
    peer: SocketAddr,
    #[cfg(feature = "json")] qlog: Option<&Qlog>,
) -> Connection {
    let log = log::sink(&conn, peer);
    #[cfg(feature = "json")]
    let qlog = qlog.map(|qlog| qlog.session(conn.side(), now()));
    #[cfg(not(feature = "json"))]
    let qlog = None;
    conn.set_trace(match (log, qlog) {
        (Some(log), Some(qlog)) => Some(Box::new(Both(log, qlog))),
        (log, qlog) => log.or(qlog),
    });
    conn
}

/// Two sinks for the same events.
struct Both(Box<dyn Sink>, Box<dyn Sink>);

impl Sink for Both {
    fn event(&mut self, now: Time, event: &Event<'_>) {
        self.0.event(now, event);
        self.1.event(now, event);
    }
}
